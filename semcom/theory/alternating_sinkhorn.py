"""R(D, P) by alternating scalings of two couplings, with an entropic regularisation of the perception plan.

min sum_ij p_i w_ij log(w_ij / r_j) + eps sum_ij Pi_ij log Pi_ij  subject to  sum_j w_ij = 1, p w = r,
<p w, d> <= D, and Pi a plan from p to r of cost <Pi, c> <= P.

w_ij = phi_i exp(-lambda d_ij) psi_j r_j and Pi_ij = exp(f_i + g_j - gamma c_ij / eps): the scalings are
updated in turn; lambda, gamma and r are roots of one equation each. As eps goes to 0, the rate falls to R(D,
P)
and the number of iterations grows as 1 / eps. `semcom.theory.rdp` solves the problem without eps; this module
is its reference.

References:
    Chen, Niu, Ye, Wu, Bai, Chen and Lin, Computation of rate-distortion-perception functions with Wasserstein
    barycenter, ISIT 2023.
    Chen, Niu, Ye, Wu and Bai, Computation and critical transitions of rate-distortion-perception functions
    with Wasserstein barycenter, arXiv 2404.04681, 2024.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp, xlogy

from semcom.errors import InvalidOption, NotConverged

# Annealed from 0.3, because a start at 0.001 ends in a wrong solution of rate 0.
ANNEALED = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
FLOOR = 1e-200
LARGEST = 600.0  # largest exponent; beyond it, a cost exceeds any bound
ROOT_STEPS = 100
ROOT_TOLERANCE = 1e-13


@dataclass(frozen=True, eq=False)
class ScaledSolution:
    """Solution of the regularised R(D, P) problem at the last eps.

    Args:
        rate_nats: Mutual information of the normalised coupling in nats, without the regularisation.
        distortion: Expected distortion E d.
        transport_cost: <Pi, c>, an upper bound of the perception.
        reproduction: Law r of the reproduction, [n].
        kkt_residual: Sum of the violations of the optimality conditions of the regularised problem.
        iterations: Iterations over all eps.
    """

    rate_nats: float
    distortion: float
    transport_cost: float
    reproduction: Float[np.ndarray, " n"]
    kkt_residual: float
    iterations: int


def alternating_sinkhorn(
    source: Float[np.ndarray, " n"],
    distortion_matrix: Float[np.ndarray, "n n"],
    cost: Float[np.ndarray, "n n"],
    distortion: float,
    perception: float,
    epsilons: Sequence[float] = ANNEALED,
    *,
    tolerance: float = 1e-8,
    max_iterations: int = 100_000,
) -> ScaledSolution:
    """Solve R(D, P) with entropic regularisation, eps falling, starting at r = p.

    Args:
        source: Law p of the source, all above 0, [n].
        distortion_matrix: Distortion d, [n, n].
        cost: Transport cost c, [n, n].
        distortion: Bound D on the expected distortion.
        perception: Bound P on the transport cost, above 0.
        epsilons: Regularisation strengths, falling, above 0; each starts from the solution of the one before.
        tolerance: Bound on the KKT residual at each eps.
        max_iterations: Iteration limit at each eps.

    Returns:
        The solution at the last eps.

    Raises:
        InvalidOption: A probability, P or an eps is not above 0.
        NotConverged: The residual stayed above the tolerance.
    """
    p, d, c = source, distortion_matrix, cost
    if not (perception > 0 and min(epsilons) > 0 and (p > 0).all()):
        raise InvalidOption(
            f"probabilities from {p.min():g}, P {perception:g}, eps from {min(epsilons):g}: all above 0"
        )
    log_p, r = np.log(p), p.copy()
    phi, f, g = np.ones_like(p), np.log(p), np.log(p)
    slope, price, done, residual = 1.0, 1.0, 0, np.inf
    before = epsilons[0]
    for eps in epsilons:
        f, g = f * before / eps, g * before / eps
        before = eps
        for _ in range(max_iterations):
            done += 1
            kernel = np.exp(-slope * d)
            psi = 1 / (kernel.T @ (phi * p))
            phi = 1 / (kernel @ (psi * r))

            weight = p[:, None] * phi[:, None] * psi * r
            slope = _root(lambda x, w=weight: _moments(w * np.exp(-x * d), d), distortion, slope)

            g = np.log(np.maximum(r, FLOOR)) - logsumexp(f[:, None] - price * c / eps, axis=0)
            f = log_p - logsumexp(g - price * c / eps, axis=1)
            free = f[:, None] + g
            price = _root(
                lambda x, h=free, e=eps: _moments(np.exp(np.minimum(h - x * c / e, LARGEST)), c, e),
                perception,
                price,
            )

            joint = weight * np.exp(-slope * d)
            mass = np.maximum(joint.sum(0), FLOOR)
            level = -np.log(psi) - eps * g  # beta_j + tau_j, but for a constant
            plan = np.exp(free - price * c / eps)
            residual = (
                np.abs(mass - r).sum()
                + np.abs(joint.sum(1) - p).sum()
                + np.abs(plan.sum(1) - p).sum()
                + np.abs(plan.sum(0) - r).sum()
                + abs(slope * ((joint * d).sum() - distortion))
                + abs(price * ((plan * c).sum() - perception))
            )
            r = _law(mass, level)
            if residual < tolerance:
                break
        else:
            raise NotConverged(
                f"KKT residual {residual:.2g} after {max_iterations} iterations at eps {eps:g}, tolerance "
                f"{tolerance:g}; allow more or a larger eps"
            )
    coupling = joint * (p / joint.sum(1))[:, None]
    shown = coupling.sum(0)
    return ScaledSolution(
        rate_nats=float((xlogy(coupling, coupling) - xlogy(coupling, p[:, None] * shown)).sum()),
        distortion=float((coupling * d).sum()),
        transport_cost=float((plan * c).sum()),
        reproduction=shown,
        kkt_residual=float(residual),
        iterations=done,
    )


def _moments(weight: np.ndarray, cost: np.ndarray, scale: float = 1.0) -> tuple[float, float]:
    """Sum of the cost under the weight, and its derivative with respect to the multiplier in the weight."""
    weighted = weight * cost
    return float(weighted.sum()), -float((weighted * cost).sum()) / scale


def _root(moment: Callable[[float], tuple[float, float]], bound: float, start: float) -> float:
    """Multiplier >= 0 at which a decreasing moment meets its bound, by Newton's method within a bracket."""
    if moment(0.0)[0] <= bound:
        return 0.0
    low, high, x = 0.0, np.inf, max(start, 1e-3)
    for _ in range(ROOT_STEPS):
        value, derivative = moment(x)
        if value > bound:
            low = x
        else:
            high = x
        if abs(value - bound) <= ROOT_TOLERANCE * bound:
            break
        step = x - (value - bound) / derivative if derivative < 0 else np.inf
        inside = low < step < high
        x = step if inside and np.isfinite(step) else (low + high) / 2 if np.isfinite(high) else 2 * x
    return x


def _law(mass: np.ndarray, level: np.ndarray) -> np.ndarray:
    """r_j = S_j / (eta - level_j) with eta such that r sums to 1."""
    low, high = float((level + mass).max()), float(level.max() + mass.sum())
    eta = high
    for _ in range(ROOT_STEPS):
        share = mass / (eta - level)
        excess = share.sum() - 1
        if excess > 0:
            low = eta
        else:
            high = eta
        if abs(excess) < ROOT_TOLERANCE or high - low <= ROOT_TOLERANCE * abs(high):
            break
        step = eta + excess / (share / (eta - level)).sum()
        eta = step if low < step < high else (low + high) / 2
    return np.maximum(mass / (eta - level), FLOOR)
