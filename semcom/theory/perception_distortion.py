"""Distortion-perception trade-off: closed forms for Gaussians, and the frontier of measured points.

Perception is the Wasserstein distance W2 between the distribution of reconstructions and that of pictures,
over
all observations together. Squared errors and squared distances are sums over values; per value, divide both
by
the number of values, and W2 by its square root.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from semcom.errors import InvalidOption

SINGULAR = 1e-9  # share of the largest eigenvalue below which a covariance counts as singular
ROUNDING = 1e-6  # share of the largest eigenvalue by which a covariance may be negative or asymmetric

Covariance = Float[np.ndarray, "values values"]


def gaussian_w2(
    mean: ArrayLike, covariance: ArrayLike, other_mean: ArrayLike, other_covariance: ArrayLike
) -> float:
    """Wasserstein-2 distance of two Gaussians, not squared.

    W2^2 = |m - m'|^2 + tr(C + C' - 2 (C^1/2 C' C^1/2)^1/2)

    Args:
        mean: m, [n].
        covariance: C, [n, n], symmetric and positive semidefinite.
        other_mean: m', [n].
        other_covariance: C', [n, n], symmetric and positive semidefinite.

    Returns:
        W2 >= 0.

    Raises:
        InvalidOption: Shapes differ, or a matrix is not a covariance.

    Reference:
        Dowson and Landau, The Frechet distance between multivariate normal distributions, J. Multivariate
        Analysis 12(3), 1982.

    Example:
        >>> gaussian_w2([0.0], [[4.0]], [0.0], [[1.0]])
        1.0
    """
    c, d = _covariance(covariance), _covariance(other_covariance)
    m, n = np.asarray(mean, dtype=float), np.asarray(other_mean, dtype=float)
    if not m.shape == n.shape == c.shape[:1] == d.shape[:1]:
        raise InvalidOption(
            f"means of {list(m.shape)} and {list(n.shape)} values, covariances of {len(c)} and {len(d)}: "
            "all must have as many"
        )
    root = _root(c)
    shared = np.sqrt(np.linalg.eigvalsh(root @ d @ root).clip(0)).sum()
    return float(np.sqrt(max(((m - n) ** 2).sum() + np.trace(c) + np.trace(d) - 2 * shared, 0.0)))


def frontier_mse(w2: ArrayLike, least_mse: float, largest_w2: float) -> Float[np.ndarray, "..."]:
    """Least squared error of all reconstructions whose distribution is within W2 distance P of the data's.

    D(P) = D* + max(W2* - P, 0)^2, for data of any distribution.

    Args:
        w2: P, not squared, not negative, any shape.
        least_mse: D*, squared error of the posterior mean, not negative.
        largest_w2: W2*, W2 distance of the posterior mean's distribution to the data's, not negative.

    Returns:
        D(P), same shape as `w2`.

    Raises:
        InvalidOption: An argument is negative.

    Reference:
        Freirich, Michaeli and Meir, A theory of the distortion-perception tradeoff in Wasserstein space,
        NeurIPS 2021, theorem 1.
    """
    distance = np.asarray(w2, dtype=float)
    if least_mse < 0 or largest_w2 < 0 or (distance < 0).any():
        raise InvalidOption(
            f"D* {least_mse:g}, W2* {largest_w2:g}, W2 from {distance.min():g}: none may be negative"
        )
    return np.asarray(least_mse + np.maximum(largest_w2 - distance, 0) ** 2)


@dataclass(frozen=True, eq=False)
class GaussianTradeoff:
    """Distortion-perception trade-off of x ~ N(0, C) given an observation with posterior mean x* ~ N(0, C*).

    Three families lead from x* (knob 0) to reconstructions distributed as x (knob 1):

    - optimal transport, x* + knob (T x* - x*) with T = C*^-1/2 (C*^1/2 C C*^1/2)^1/2 C*^-1/2: the whole
      frontier, with D* + W2*^2 at its end;
    - a posterior sample s, x* + knob (s - x*): squared error D* (1 + knob^2), 2 D* at its end;
    - the mean of n posterior samples, which for Gaussians equals knob 1 / sqrt(n).

    Args:
        covariance: C, [n, n].
        estimate_covariance: C*, [n, n], between 0 and C.

    Raises:
        InvalidOption: A matrix is not a covariance, or C* exceeds C.

    Reference:
        Freirich, Michaeli and Meir, NeurIPS 2021, section 3 and theorem 4 (Gaussians).
    """

    covariance: Covariance
    estimate_covariance: Covariance

    def __post_init__(self) -> None:
        c, estimate = _covariance(self.covariance), _covariance(self.estimate_covariance)
        if c.shape != estimate.shape or np.linalg.eigvalsh(c - estimate)[0] < -ROUNDING * np.trace(c):
            raise InvalidOption(
                f"covariances of x ({len(c)} values) and of its posterior mean ({len(estimate)} values): "
                "the second must be of the same size and nowhere above the first"
            )

    @classmethod
    def observed(cls, covariance: Covariance, matrix: np.ndarray, noise_std: float) -> "GaussianTradeoff":
        """Trade-off for a linear observation y = A x + noise: C* = C A' (A C A' + noise_std^2)^-1 A C.

        Args:
            covariance: C, [n, n].
            matrix: A, one row per observed value, [m, n].
            noise_std: Standard deviation of the noise per value of y, above 0.

        Returns:
            The trade-off.

        Raises:
            InvalidOption: A matrix is not a covariance, there is no noise, or A has another width.
        """
        c, a = _covariance(covariance), np.asarray(matrix, dtype=float)
        if not noise_std > 0 or a.ndim != 2 or a.shape[1] != len(c):
            raise InvalidOption(
                f"noise_std {noise_std:g}, matrix of {list(a.shape)} for {len(c)} values: above 0, "
                "and as many columns as values"
            )
        through = a @ c
        of_y = through @ a.T + noise_std**2 * np.eye(len(a))
        estimate = through.T @ np.linalg.solve(of_y, through)
        return cls(c, (estimate + estimate.T) / 2)

    @property
    def least_mse(self) -> float:
        """Squared error of the posterior mean, D* = tr(C - C*)."""
        return float(np.trace(self.covariance) - np.trace(self.estimate_covariance))

    @property
    def largest_w2(self) -> float:
        """W2 distance of the posterior mean's distribution to that of x, W2*."""
        return self._w2(self.estimate_covariance)

    @property
    def transport(self) -> Covariance:
        """Optimal transport map T from the distribution of the posterior mean to that of x, [n, n].

        Raises:
            InvalidOption: C* is singular, so that no linear map exists.
        """
        spread, axes = np.linalg.eigh(self.estimate_covariance)
        if spread[0] <= SINGULAR * spread[-1]:
            raise InvalidOption(
                f"the posterior mean has eigenvalues from {spread[0]:.3g} to {spread[-1]:.3g}: no linear map "
                "of it is distributed as x; observe every value"
            )
        root, inverse = (axes * spread**power @ axes.T for power in (0.5, -0.5))
        return inverse @ _root(root @ self.covariance @ root) @ inverse

    def frontier_mse(self, w2: ArrayLike) -> Float[np.ndarray, "..."]:
        """Least squared error D(P) at a W2 distance P of this Gaussian pair.

        Args:
            w2: P, not squared, not negative, any shape.

        Returns:
            D(P), same shape.
        """
        return frontier_mse(w2, self.least_mse, self.largest_w2)

    def sample_mse(self, knob: float) -> float:
        """Squared error D* (1 + knob^2) of x* + knob (s - x*), s a posterior sample.

        Args:
            knob: 0 for the posterior mean, 1 for a sample.

        Returns:
            Expected squared error.
        """
        return self.least_mse * (1 + knob**2)

    def sample_w2(self, knob: float) -> float:
        """W2 distance of x* + knob (s - x*) to x, s a posterior sample.

        The reconstruction is distributed as N(0, C* + knob^2 (C - C*)).

        Args:
            knob: 0 for the posterior mean, 1 for a sample.

        Returns:
            W2, not squared.
        """
        return self._w2(self.estimate_covariance + knob**2 * (self.covariance - self.estimate_covariance))

    def _w2(self, covariance: Covariance) -> float:
        zero = np.zeros(len(covariance))
        return gaussian_w2(zero, covariance, zero, self.covariance)


def interpolated_frontier(distortion: ArrayLike, perception: ArrayLike) -> list[int]:
    """Points on the lower left convex hull, which no mixture of other points improves on.

    Showing one reconstruction for a share of the pictures and another for the rest moves the means along the
    straight line between two points. The frontier runs from the least distortion to the best perception.

    Args:
        distortion: Distortion of each point, smaller is better.
        perception: Perception measure of each point, smaller is better.

    Returns:
        Indices of the frontier's points in order of rising distortion.

    Raises:
        InvalidOption: There are no points, the numbers of values differ, or a value is not finite.

    Example:
        >>> interpolated_frontier([1.0, 2.0, 3.0, 1.5], [3.0, 2.6, 1.0, 2.0])
        [0, 3, 2]
    """
    x, y = np.asarray(distortion, dtype=float), np.asarray(perception, dtype=float)
    if x.shape != y.shape or x.ndim != 1 or not len(x) or not np.isfinite([x, y]).all():
        raise InvalidOption(
            f"points of {list(x.shape)} distortions and {list(y.shape)} perceptions: at least one, finite"
        )
    chain: list[int] = []
    for i in map(int, np.lexsort((y, x))):
        if chain and y[i] >= y[chain[-1]]:
            continue  # no better in either
        while len(chain) > 1 and _turns_right(x, y, chain[-2], chain[-1], i):
            chain.pop()
        chain.append(i)
    return chain


def _turns_right(x: np.ndarray, y: np.ndarray, a: int, b: int, c: int) -> bool:
    """Whether b lies on the line from a to c, or above it."""
    return bool((y[b] - y[a]) * (x[c] - x[a]) >= (y[c] - y[a]) * (x[b] - x[a]))


def _covariance(values: ArrayLike) -> Covariance:
    c = np.asarray(values, dtype=float)
    if c.ndim != 2 or c.shape[0] != c.shape[1] or not np.isfinite(c).all():
        raise InvalidOption(f"covariance of shape {list(c.shape)}: square and finite")
    least, scale = float(np.linalg.eigvalsh(c)[0]), float(np.abs(c).max())
    if np.abs(c - c.T).max() > ROUNDING * scale or least < -ROUNDING * scale * len(c):
        raise InvalidOption(f"covariance with least eigenvalue {least:.3g}: symmetric and not negative")
    return c


def _root(covariance: Covariance) -> Covariance:
    spread, axes = np.linalg.eigh(covariance)
    return axes * np.sqrt(spread.clip(0)) @ axes.T
