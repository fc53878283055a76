"""Rate-distortion-perception functions R(D, P) and D(R, P) of discrete sources, without regularisation.

R(D, P) = min I(X; Y)  subject to  E d(X, Y) <= D  and  delta(p, r) <= P,  r the law of Y.

delta is a transport cost (a Wasserstein distance to its power), total variation or a Kullback-Leibler
divergence. The problem is convex, and its dual has few variables: potentials a of the source letters,
multipliers lambda and gamma of both constraints, and a price G of each reproduction letter,

    maximise  <p, a> + <p, F> - lambda D - gamma P
    subject to  h_j = log sum_i p_i exp(a_i - lambda d_ij) <= G_j      [multiplier r_j]
                F_i + G_j <= gamma c_ij                                [multiplier Pi_ij, a plan],

and the best channel is w_ij = r_j exp(a_i - lambda d_ij - h_j): Blahut and Arimoto's form with G_j added to
lambda d_ij. At P = inf, G = 0 and this is the classical dual of R(D); at P = 0, r = p and it is entropic
optimal transport. A divergence puts its conjugate in the place of the second line. D(R, P) bounds the rate
and minimises the distortion.

The alternating iteration of the literature (`semcom.theory.alternating_sinkhorn`) adds eps times the
negative entropy of the plan, and needs about 1 / eps iterations. Here Newton's method follows the central
path of the problem itself (`semcom.theory.interior_point`): some 20 iterations, and a feasible point of the
dual that bounds the error of the rate.

References:
    Blau and Michaeli, Rethinking lossy compression: the rate-distortion-perception tradeoff, ICML 2019.
    Csiszar, On an extremum problem of information theory, Studia Sci. Math. Hungar. 9, 1974 (dual of R(D)).
    Mehrotra, On the implementation of a primal-dual interior point method, SIAM J. Optim. 2(4), 1992.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semcom.errors import Infeasible, InvalidOption
from semcom.theory.rdp_problem import (
    NEAR,
    Divergence,
    Perception,
    Problem,
    RDPSolution,
    TotalVariation,
    Transport,
    Values,
)

__all__ = [
    "Divergence",
    "Perception",
    "RDPSolution",
    "TotalVariation",
    "Transport",
    "critical_perception",
    "distortion_rate_perception",
    "rate_distortion_perception",
    "regions",
    "zero_rate_distortion",
]

BISECTIONS = 16


def rate_distortion_perception(
    source: Values,
    distortion_matrix: Values,
    distortion: Values,
    perception: Values = math.inf,
    measure: Perception | None = None,
    *,
    tolerance: float = 1e-8,
    max_iterations: int = 200,
    start: Values | None = None,
) -> RDPSolution:
    """Rate-distortion-perception function R(D, P) and the coupling that attains it.

    P = inf gives Blahut and Arimoto's R(D), P = 0 entropic optimal transport.

    Args:
        source: Law p of the source letters; probabilities of 0 are allowed, except with KL(p || r).
        distortion_matrix: Distortion d, [source letters, reproduction letters], finite.
        distortion: Bound D on the expected distortion; broadcasts with P.
        perception: Bound P in units of the measure, at least 0; broadcasts with D.
        measure: Perception measure delta; None if all P are inf.
        tolerance: Bound on the KKT residual.
        max_iterations: Newton steps per point.
        start: Initial law of the reproduction; uniform (p for divergences) if not given.

    Returns:
        Optimal couplings and multipliers at all points.

    Raises:
        InvalidOption: The source is not a law, matrices do not fit or are not finite, or a bound is NaN.
        Infeasible: A bound is below the least possible value, given the other bound.
        NotConverged: The residual stayed above the tolerance at the points named in the message; `solution`
            of the error holds the result at all points.

    Example:
        >>> hamming = [[0.0, 1.0], [1.0, 0.0]]
        >>> found = rate_distortion_perception([0.9, 0.1], hamming, 0.06, [0.05, math.inf], TotalVariation())
        >>> [round(nats, 6) for nats in found.rate_nats.tolist()]
        [0.09875, 0.098115]
    """
    problem = Problem.of(source, distortion_matrix, measure)
    d, p = _points(distortion, perception, problem)
    least = float(problem.least_distortion)
    if bool((d < least - NEAR * problem.distortion_scale).any()):
        raise Infeasible(
            f"distortion {float(d.min()):g} is below the least possible, {least:.6g}; allow at least that"
        )
    target = ((d - least) / problem.distortion_scale).clamp(min=NEAR, max=2 * float(problem.excess.max()) + 1)
    return problem.solve(target, p, "rate", tolerance, max_iterations, _start(start, problem))


def distortion_rate_perception(
    source: Values,
    distortion_matrix: Values,
    rate_nats: Values,
    perception: Values = math.inf,
    measure: Perception | None = None,
    *,
    tolerance: float = 1e-8,
    max_iterations: int = 200,
) -> RDPSolution:
    """Distortion-rate-perception function D(R, P): least distortion at a mutual information of at most R.

    Rates above what the least distortion at P needs are not active: `rate_active` of the solution is false.
    If a divergence bound above 0 binds there as well, rounding leaves a residual of 1e-6, and NotConverged is
    raised.

    Args:
        source: Law p of the source letters; probabilities of 0 are allowed, except with KL(p || r).
        distortion_matrix: Distortion d, [source letters, reproduction letters], finite.
        rate_nats: Bound R in nats, above 0, inf allowed; use `zero_rate_distortion` for 0. Broadcasts with P.
        perception: Bound P in units of the measure, at least 0.
        measure: Perception measure delta; None if all P are inf.
        tolerance: Bound on the KKT residual.
        max_iterations: Newton steps per point.

    Returns:
        Optimal couplings and multipliers at all points.

    Raises:
        InvalidOption: The source is not a law, matrices do not fit or are not finite, or a bound is NaN.
        Infeasible: A rate is not above 0, or P is below the least possible value.
        NotConverged: The residual stayed above the tolerance; `solution` of the error holds the result.
    """
    problem = Problem.of(source, distortion_matrix, measure)
    r, p = _points(rate_nats, perception, problem)
    if not bool((r > 0).all()):
        raise Infeasible(f"rate of {float(r.min()):g} nats: above 0, or call zero_rate_distortion")
    return problem.solve(r, p, "distortion", tolerance, max_iterations)


def zero_rate_distortion(
    source: Values, distortion_matrix: Values, perception: Values, measure: Perception | None = None
) -> Float[Tensor, "*points"]:
    """Least distortion at rate 0, D_0(P) = min over r of sum_ij p_i r_j d_ij subject to delta(p, r) <= P.

    For D >= D_0(P), R(D, P) = 0.

    Args:
        source: Law p of the source letters.
        distortion_matrix: Distortion d, [source letters, reproduction letters], finite.
        perception: Bound P in units of the measure, at least 0.
        measure: Perception measure delta; None if all P are inf.

    Returns:
        D_0(P), of the shape of `perception`.

    Raises:
        InvalidOption: The source is not a law, or matrices do not fit or are not finite.
        Infeasible: P is below the least possible value.
        NotConverged: The residual stayed above the tolerance.
    """
    problem = Problem.of(source, distortion_matrix, measure)
    anything, p = _points(1.0, perception, problem)
    return problem.without_information().solve(anything, p, "distortion").bound


def critical_perception(
    source: Values,
    distortion_matrix: Values,
    distortion: Values,
    measure: Perception,
    least_multiplier: float = 0.0,
) -> Float[Tensor, "*points"]:
    """Critical perception P_c(D), above which R(D, P) = R(D): delta(p, r) of the law r that attains R(D).

    A continuous source on a grid is an exception: there, R(D) is attained by a law on few letters that is far
    from the continuous one but gains next to nothing. P_c is then where gamma falls to a small value.

    Args:
        source: Law p of the source letters.
        distortion_matrix: Distortion d, [source letters, reproduction letters], finite.
        distortion: Bound D on the expected distortion.
        measure: Perception measure delta.
        least_multiplier: Value of gamma, in nats per unit of perception, that counts as 0.

    Returns:
        P_c(D), of the shape of `distortion`.

    Raises:
        InvalidOption: The source is not a law, or matrices do not fit or are not finite.
        Infeasible: D is below the least possible value.
        NotConverged: The residual stayed above the tolerance.
    """
    found = rate_distortion_perception(source, distortion_matrix, distortion, math.inf, measure)
    high = found.perception
    if least_multiplier <= 0:
        return high
    low = torch.full_like(high, Problem.of(source, distortion_matrix, measure).least_cost)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        at = rate_distortion_perception(source, distortion_matrix, distortion, middle, measure)
        binds = at.perception_multiplier > least_multiplier
        low, high = torch.where(binds, middle, low), torch.where(binds, high, middle)
    return high


def regions(solution: RDPSolution, least_multiplier: float = 0.0) -> Int[Tensor, "*points"]:
    """Region of each point (D, P): which constraints bind.

    Args:
        solution: Solution of R(D, P).
        least_multiplier: Multipliers up to this value, in nats per unit of perception or distortion, count as
            0.

    Returns:
        0 where perception does not bind, 1 where both bind, 2 where the rate is 0, [*points].
    """
    binds = solution.perception_active & (solution.perception_multiplier > least_multiplier)
    informs = solution.distortion_active & (solution.distortion_multiplier > least_multiplier)
    return torch.where(informs, binds.long(), 2)


def _points(bound: Values, perception: Values, problem: Problem) -> tuple[Tensor, Tensor]:
    given = {"dtype": torch.float64, "device": problem.law.device}
    first, second = torch.broadcast_tensors(
        torch.as_tensor(bound, **given), torch.as_tensor(perception, **given)
    )
    if bool((first.isnan() | second.isnan()).any()):
        raise InvalidOption("a bound that is not a number: it is a number or inf")
    if problem.measure is None and not bool(second.isinf().all()):
        raise InvalidOption(f"perception {float(second.min()):g} without a measure of it: name one")
    return first, second


def _start(law: Values | None, problem: Problem) -> Tensor | None:
    if law is None:
        return None
    start = torch.as_tensor(law, dtype=torch.float64, device=problem.law.device)
    letters = problem.distortion.shape[1]
    if start.shape != (letters,) or not bool((start > 0).all()):
        raise InvalidOption(f"start of shape {list(start.shape)}: {letters} probabilities above 0")
    return start / start.sum()
