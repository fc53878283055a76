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
    """R(D, P) and what attains it. P = inf is Blahut and Arimoto's R(D), P = 0 entropic optimal transport.

    Args:
        source: p; letters of probability 0 are allowed, but not by KL(p || r).
        distortion_matrix: d, [source letters, reproduction letters], finite.
        distortion: D, at least 0 where d is; broadcast with P.
        perception: P, in units of the measure, at least 0.
        measure: delta; None where all P are inf.
        tolerance: Of the KKT residual.
        max_iterations: Newton steps.
        start: Law of the reproduction to begin at, uniform (p for divergences) if none is given.

    Raises:
        InvalidOption: No law, matrices that do not fit or are not finite, a bound that is NaN.
        Infeasible: A bound below the least value possible, or below that at the other bound.
        NotConverged: The residual stayed above the tolerance at points that the message names; `solution` of
            the error holds what was found at all points.

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
    """D(R, P) and what attains it: the least distortion at a mutual information of at most R.

    Rates above what the least distortion at P needs are not active: `rate_active` of the solution is false.
    Where a divergence above 0 binds there too, rounding leaves a residual of 1e-6: that is NotConverged.

    Args:
        source: As for `rate_distortion_perception`.
        distortion_matrix: The same.
        rate_nats: R, above 0, inf allowed; `zero_rate_distortion` is for 0. Broadcast with P.
        perception: P.
        measure: delta.
        tolerance: Of the KKT residual.
        max_iterations: Newton steps.

    Raises:
        InvalidOption: As there.
        Infeasible: A rate that is not above 0, or P below the least value possible.
        NotConverged: As there.
    """
    problem = Problem.of(source, distortion_matrix, measure)
    r, p = _points(rate_nats, perception, problem)
    if not bool((r > 0).all()):
        raise Infeasible(f"rate of {float(r.min()):g} nats: above 0, or call zero_rate_distortion")
    return problem.solve(r, p, "distortion", tolerance, max_iterations)


def zero_rate_distortion(
    source: Values, distortion_matrix: Values, perception: Values, measure: Perception | None = None
) -> Float[Tensor, "*points"]:
    """D_0(P) = min over r of sum_ij p_i r_j d_ij subject to delta(p, r) <= P: from here on, R(D, P) = 0.

    Raises:
        InvalidOption: As `rate_distortion_perception`.
        Infeasible: P below the least value possible.
        NotConverged: As there.
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
    """P_c(D), from which on R(D, P) = R(D): delta(p, r) of the law r that attains R(D).

    A continuous source on a grid is another matter: there R(D) is attained by a law on few letters, far from
    the continuous one but worth next to nothing. P_c is then where gamma falls to a small value.

    Args:
        source: As for `rate_distortion_perception`.
        distortion_matrix: The same.
        distortion: D.
        measure: delta.
        least_multiplier: A gamma, in nats per unit of perception, that counts as 0.

    Raises:
        InvalidOption: As `rate_distortion_perception`.
        Infeasible: As there.
        NotConverged: As there.
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
    """0 where perception does not bind, 1 where both do, 2 where the rate is 0.

    Args:
        solution: Of R(D, P).
        least_multiplier: As for `critical_perception`; of the distortion in nats per unit too.
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
