"""Closed forms of R(D, P) in nats: binary source with total variation, Gaussian with W2 or KL divergence.

References:
    Blau and Michaeli, Rethinking lossy compression: the rate-distortion-perception tradeoff, ICML 2019.
    Zhang, Qian, Chen and Khisti, Universal rate-distortion-perception representations for lossy compression,
    NeurIPS 2021.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import entr, lambertw

from semcom.errors import InvalidOption

ROUNDING = 1e-15  # distance to -1 / e below which Lambert's function fails in floating point


@dataclass(frozen=True, eq=False)
class GaussianGrid:
    """Standard Gaussian on equidistant letters, to compare solvers for discrete sources with closed forms.

    Args:
        law: Probabilities, [letters].
        squared: Squared distances (x_i - x_j)^2, [letters, letters].
        variance: Variance of the discrete law, for which the closed forms are to be evaluated.
        excess_w2_squared: h^2 / 12 with h the distance of neighbours, approximately what the grid adds to the
            squared W2.
    """

    law: Float[np.ndarray, " letters"]
    squared: Float[np.ndarray, "letters letters"]
    variance: float
    excess_w2_squared: float

    @classmethod
    def of(cls, letters: int, reach: float = 4.5) -> "GaussianGrid":
        """Create a grid from -reach to reach.

        Args:
            letters: Number of letters, at least 2.
            reach: Largest letter, above 0.

        Returns:
            The grid.

        Raises:
            InvalidOption: There are fewer than 2 letters, or `reach` is not above 0.
        """
        if letters < 2 or not reach > 0:
            raise InvalidOption(f"{letters} letters to +-{reach:g}: at least 2, and above 0")
        x = np.linspace(-reach, reach, letters)
        law = np.exp(-(x**2) / 2)
        law /= law.sum()
        return cls(law, (x[:, None] - x) ** 2, float(law @ x**2), float(x[1] - x[0]) ** 2 / 12)


def binary_rate(one: float, distortion: float, perception: float = math.inf) -> float:
    """R(D, P) of a binary source with Hamming distortion and total variation, in nats.

    With q = 1 - p, D1 = P / (1 - 2 (p - P)), D2 = 2 p q - (q - p) P, and for P < p:

    - D < D1: H(p) - H(D);
    - D1 <= D < D2: 2 H(p) + H(p - P) - H3((D - P) / 2, p) - H3((D + P) / 2, q), where H3(a, b) is the entropy
      of masses a, b and 1 - a - b;
    - D >= D2: 0.

    Args:
        one: p, probability of the rarer letter, in (0, 1/2].
        distortion: D, at least 0.
        perception: P, at least 0; inf gives R(D).

    Returns:
        Rate >= 0 in nats.

    Raises:
        InvalidOption: An argument is out of range.

    Example:
        >>> round(binary_rate(0.1, 0.06, 0.05), 6)
        0.09875
    """
    _require(0 < one <= 0.5, f"probability {one:g}: in (0, 1/2]")
    _require_bounds(distortion, perception)
    p, q = one, 1 - one
    if distortion >= binary_zero_rate_distortion(p, perception):
        return 0.0
    if perception >= p or distortion * (1 - 2 * (p - perception)) < perception:
        return _entropy(p) - _entropy(distortion)
    low, high = (distortion - perception) / 2, (distortion + perception) / 2
    return 2 * _entropy(p) + _entropy(p - perception) - _entropy3(low, p) - _entropy3(high, q)


def binary_critical_perception(one: float, distortion: float) -> float:
    """Critical perception of a binary source, P_c(D) = D (1 - 2 p) / (1 - 2 D), above which P does not bind.

    Args:
        one: p, probability of the rarer letter, in (0, 1/2].
        distortion: D, at least 0.

    Returns:
        P_c in units of total variation.
    """
    _require(0 < one <= 0.5, f"probability {one:g}: in (0, 1/2]")
    _require(0 <= distortion < one, f"distortion {distortion:g}: from 0 to below {one:g}")
    return distortion * (1 - 2 * one) / (1 - 2 * distortion)


def binary_zero_rate_distortion(one: float, perception: float) -> float:
    """Least distortion of a binary source at rate 0: 2 p q - (q - p) P up to P = p, and p above.

    Args:
        one: p, probability of the rarer letter, in (0, 1/2].
        perception: P, at least 0.

    Returns:
        D_0(P).
    """
    return 2 * one * (1 - one) - (1 - 2 * one) * min(perception, one)


def gaussian_rate(variance: float, distortion: float, perception: float = math.inf) -> float:
    """R(D, P) of a Gaussian with squared error and squared W2 distance, in nats.

    With standard deviations s and u = s - sqrt(P) of source and reproduction, where sqrt(P) is below s -
    sqrt(abs(s^2 - D)): R = 1/2 log(s^2 u^2 / (s^2 u^2 - ((s^2 + u^2 - D) / 2)^2)), and 0 from D = s^2 + u^2
    on. Elsewhere max(1/2 log(s^2 / D), 0).

    Args:
        variance: s^2, above 0.
        distortion: D, above 0.
        perception: P, squared distance, at least 0; inf gives R(D).

    Returns:
        Rate >= 0 in nats.

    Raises:
        InvalidOption: An argument is out of range.

    Example:
        >>> round(gaussian_rate(1.0, 0.5, 0.05), 6)
        0.350975
    """
    _require(variance > 0 and distortion > 0, f"variance {variance:g}, distortion {distortion:g}: above 0")
    _require_bounds(distortion, perception)
    s = math.sqrt(variance)
    if perception < gaussian_critical_perception(variance, distortion):
        return _gaussian_rate(s, s - math.sqrt(perception), distortion)
    return 0.5 * math.log(variance / distortion) if distortion < variance else 0.0


def gaussian_distortion(variance: float, rate_nats: float, perception: float = math.inf) -> float:
    """D(R, P) of a Gaussian with squared error and squared W2 distance.

    s^2 + u^2 - 2 s u sqrt(1 - e^(-2R)) with u = s - sqrt(P), or s^2 e^(-2R) where P does not bind.

    Args:
        variance: s^2, above 0.
        rate_nats: R in nats, at least 0.
        perception: P, squared distance, at least 0; inf gives D(R).

    Returns:
        Least squared error.

    Raises:
        InvalidOption: An argument is out of range.
    """
    _require(variance > 0, f"variance {variance:g}: above 0")
    _require_bounds(rate_nats, perception)
    s, correlation = math.sqrt(variance), math.sqrt(-math.expm1(-2 * rate_nats))
    u = max(s - math.sqrt(perception), s * correlation)  # the second is the deviation of the posterior mean
    return variance + u * u - 2 * s * u * correlation


def gaussian_critical_perception(variance: float, distortion: float) -> float:
    """Critical perception of a Gaussian, P_c(D) = (s - sqrt(abs(s^2 - D)))^2, above which R(D, P) is R(D).

    For D above s^2 it is the value above which R(D, P) = 0; from D = 2 s^2 on it is 0, since the rate is 0 at
    any P.

    Args:
        variance: s^2, above 0.
        distortion: D, above 0.

    Returns:
        P_c, a squared W2 distance.
    """
    return max(math.sqrt(variance) - math.sqrt(abs(variance - distortion)), 0.0) ** 2


def gaussian_zero_rate_distortion(variance: float, perception: float) -> float:
    """Least distortion of a Gaussian at rate 0: s^2 + (s - sqrt(P))^2 up to P = s^2, and s^2 above.

    Args:
        variance: s^2, above 0.
        perception: P, squared W2 distance, at least 0.

    Returns:
        D_0(P).
    """
    return variance + max(math.sqrt(variance) - math.sqrt(perception), 0.0) ** 2


def gaussian_divergence_rate(variance: float, distortion: float, perception: float) -> float:
    """R(D, P) of a Gaussian with squared error and KL(reproduction || source), both Gaussian, in nats.

    The formula of `gaussian_rate` with u the larger of two values: the least deviation that P allows, which
    is the smaller root of (u^2 / s^2 - 1 - log(u^2 / s^2)) / 2 = P, and sqrt(max(s^2 - D, 0)).

    Args:
        variance: s^2, above 0.
        distortion: D, above 0.
        perception: P in nats, at least 0.

    Returns:
        Rate >= 0 in nats.

    Raises:
        InvalidOption: An argument is out of range.
    """
    _require(variance > 0 and distortion > 0, f"variance {variance:g}, distortion {distortion:g}: above 0")
    _require_bounds(distortion, perception)
    s = math.sqrt(variance)
    ratio = 1.0  # u^2 / s^2
    if perception > ROUNDING:
        ratio = -float(np.real(lambertw(-math.exp(-1 - 2 * perception))))
    u = max(s * math.sqrt(ratio), math.sqrt(max(variance - distortion, 0.0)))
    return _gaussian_rate(s, u, distortion)


def gaussian_distortion_with_common_randomness(
    variance: float, rate_bits: float, common_bits: float = math.inf
) -> float:
    """D(R, P = 0) of a Gaussian if both sides share `common_bits` of randomness per value.

    D = 2 s^2 (1 - sqrt((1 - 2^(-2R)) (1 - 2^(-2 (R + Rc))))). Rc = inf is the information function D(R, 0).

    Args:
        variance: s^2, above 0.
        rate_bits: R in bits per value, at least 0.
        common_bits: Rc in bits per value, at least 0.

    Returns:
        Least squared error at perfect realism.

    Raises:
        InvalidOption: An argument is out of range.

    Reference:
        Saldi, Linder and Yuksel, Output constrained lossy source coding with limited common randomness, IEEE
        Trans. Inf. Theory 61(9), 2015.
    """
    _require(variance > 0, f"variance {variance:g}: above 0")
    _require_bounds(rate_bits, common_bits)
    alone, together = 1 - 4**-rate_bits, 1 - 4 ** -(rate_bits + common_bits)
    return 2 * variance * (1 - math.sqrt(alone * together))


def _gaussian_rate(s: float, u: float, distortion: float) -> float:
    """Rate at given standard deviations of source and reproduction; 0 where no correlation is needed."""
    covariance = (s * s + u * u - distortion) / 2
    if covariance <= 0:
        return 0.0
    return -0.5 * math.log1p(-((covariance / (s * u)) ** 2))


def _entropy(mass: float) -> float:
    return float(entr(mass) + entr(1 - mass))


def _entropy3(a: float, b: float) -> float:
    return float(entr(a) + entr(b) + entr(max(1 - a - b, 0.0)))  # rounding may leave less than nothing


def _require_bounds(first: float, perception: float) -> None:
    _require(first >= 0 and perception >= 0, f"bounds {first:g} and {perception:g}: none may be negative")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise InvalidOption(message)
