"""Rate-distortion-perception functions of discrete sources, R(D, P) and D(R, P), to the accuracy of the machine.

R(D, P) = min I(X; Y)  subject to  E d(X, Y) <= D  and  delta(p, r) <= P,  r the law of Y.

delta is a transport cost (a Wasserstein distance to its power, or total variation) or a divergence of
Kullback and Leibler. The problem is convex. Its dual has few variables: potentials a of the source letters,
multipliers lambda and gamma of both constraints, and a price G of each reproduction letter,

    maximise  <p, a> + <p, F> - lambda D - gamma P
    subject to  h_j = log sum_i p_i exp(a_i - lambda d_ij) <= G_j      with multiplier r_j
                F_i + G_j <= gamma c_ij                                with multiplier Pi_ij, the perception plan,

and the best channel is w_ij = r_j exp(a_i - lambda d_ij - h_j): Blahut and Arimoto's form with G_j added to
lambda d_ij. At P = inf, G = 0 and this is the classical dual of R(D); at P = 0, r = p and it is entropic
optimal transport. A divergence puts its conjugate in the place of the second line. D(R, P) is the same with
the rate bounded and the distortion minimised.

The alternating iteration of the literature (`semcom.theory.alternating_sinkhorn`) regularises the plan by
eps times its entropy and needs about 1 / eps iterations. Here Newton's method follows the central path of the
problem without that entropy: some 20 iterations, and a duality gap that bounds the error of the rate.

Reference:
    Blau and Michaeli, Rethinking lossy compression: the rate-distortion-perception tradeoff, ICML 2019.
    Csiszar, On an extremum problem of information theory, Studia Sci. Math. Hungar. 9, 1974 (dual of R(D)).
    Mehrotra, On the implementation of a primal-dual interior point method, SIAM J. Optim. 2(4), 1992.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from semcom.errors import Infeasible, InvalidOption, NotConverged

MASS_TOLERANCE = 1e-9  # of the sum of a probability law
AT_FLOOR = 1e-12  # of the mean cost: a perception bound so near its least value is taken for it
INACTIVE = 1e-6  # of the scaled multiplier: below it a constraint does not bind
ENTRIES_AT_ONCE = 2**22  # points times letters squared: larger batches are split, to save memory
TO_BOUNDARY = 0.995  # share of the way to the nearest bound that a step may go


@dataclass(frozen=True, eq=False)
class Transport:
    """Least mean cost of moving the law of the source to that of the reproduction.

    delta(p, r) = min <Pi, c> over plans Pi with marginals p and r. With c = abs(x - y)^2 it is W2^2.

    Args:
        cost: c, [source letters, reproduction letters], finite.
    """

    cost: ArrayLike | Tensor


@dataclass(frozen=True)
class TotalVariation:
    """Half the sum of abs(p - r); both alphabets are one."""


@dataclass(frozen=True)
class Divergence:
    """Kullback-Leibler divergence in nats; both alphabets are one.

    Args:
        of: "source" for KL(p || r), "reproduction" for KL(r || p).
    """

    of: Literal["source", "reproduction"]


Perception = Transport | TotalVariation | Divergence


@dataclass(frozen=True, eq=False)
class RDPSolution:
    """Optimal couplings at a batch of points, with what proves that they are optimal.

    Args:
        coupling: Joint law of source and reproduction; its row sums are p.
        reproduction: r, column sums of the coupling.
        rate_nats: Mutual information of the coupling.
        rate_lower_bound_nats: Of R(D, P) by weak duality; for D(R, P), the rate bound that was asked for.
        distortion: E d of the coupling.
        perception: delta(p, r), not regularised; nan where no perception was named.
        distortion_multiplier: lambda = -dR/dD, nats per unit of distortion; 0 where the rate is 0.
        perception_multiplier: gamma = -dR/dP, nats per unit; 0 where it does not bind, inf at its least value.
        distortion_active: Whether lambda is above 0: otherwise an independent reproduction does.
        perception_active: Whether gamma is above 0.
        kkt_residual: Sum of all violations of the optimality conditions, complementarity included.
        iterations: Newton steps.
    """

    coupling: Float[Tensor, "*points source reproduction"]
    reproduction: Float[Tensor, "*points reproduction"]
    rate_nats: Float[Tensor, "*points"]
    rate_lower_bound_nats: Float[Tensor, "*points"]
    distortion: Float[Tensor, "*points"]
    perception: Float[Tensor, "*points"]
    distortion_multiplier: Float[Tensor, "*points"]
    perception_multiplier: Float[Tensor, "*points"]
    distortion_active: Bool[Tensor, "*points"]
    perception_active: Bool[Tensor, "*points"]
    kkt_residual: Float[Tensor, "*points"]
    iterations: Int[Tensor, "*points"]

    @property
    def rate_bits(self) -> Float[Tensor, "*points"]:
        """Mutual information in bits."""
        return self.rate_nats / math.log(2)


def rate(
    source: ArrayLike | Tensor,
    distortion_matrix: ArrayLike | Tensor,
    distortion: ArrayLike | Tensor,
    perception: ArrayLike | Tensor = math.inf,
    measure: Perception | None = None,
    *,
    tolerance: float = 1e-9,
    max_iterations: int = 200,
) -> RDPSolution:
    """R(D, P) at a batch of points.

    P = inf gives the function of Blahut and Arimoto, P = 0 entropic optimal transport of p to itself.

    Args:
        source: p, at least one letter; letters of probability 0 are allowed.
        distortion_matrix: d, [source letters, reproduction letters], finite.
        distortion: D; broadcast with P.
        perception: P, in the units of the measure.
        measure: delta; may be None where all P are inf.
        tolerance: Of the KKT residual, in nats where it is a rate.
        max_iterations: Newton steps.

    Raises:
        InvalidOption: What is no law, matrices that do not fit or are not finite, or a NaN.
        Infeasible: D or P below the least possible, or both together.
        NotConverged: The residual stayed above the tolerance.

    Example:
        >>> hamming = [[0.0, 1.0], [1.0, 0.0]]
        >>> found = rate([0.9, 0.1], hamming, 0.06, [0.05, math.inf], TotalVariation())
        >>> [round(nats, 6) for nats in found.rate_nats.tolist()]
        [0.09875, 0.098115]
    """
    return _solve_batch(
        source, distortion_matrix, distortion, perception, measure, "rate", tolerance, max_iterations
    )


def distortion(
    source: ArrayLike | Tensor,
    distortion_matrix: ArrayLike | Tensor,
    rate_nats: ArrayLike | Tensor,
    perception: ArrayLike | Tensor = math.inf,
    measure: Perception | None = None,
    *,
    tolerance: float = 1e-9,
    max_iterations: int = 200,
) -> RDPSolution:
    """D(R, P) at a batch of points: the least distortion at a mutual information of at most R.

    Args:
        source: As for `rate`.
        distortion_matrix: As for `rate`.
        rate_nats: R, above 0 (`zero_rate_distortion` is for R = 0); broadcast with P.
        perception: As for `rate`.
        measure: As for `rate`.
        tolerance: Of the KKT residual, in units of the mean distortion.
        max_iterations: Newton steps.

    Raises:
        InvalidOption: As `rate`.
        Infeasible: R not above 0, or P below the least possible.
        NotConverged: As `rate`.
    """
    return _solve_batch(
        source, distortion_matrix, rate_nats, perception, measure, "distortion", tolerance, max_iterations
    )
