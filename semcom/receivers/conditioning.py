"""The mean of a Gaussian given a linear observation, by conjugate gradients."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from semcom.operators import diagonal_form
from semcom.receivers.evidence import PriorEvidence, per_item

SOLVER_STEPS = 10  # of conjugate gradients where no network is called
NEGLIGIBLE = 1e-12  # energy of a residual, relative, at which nothing is left to do


def conditioned(
    x0: Tensor, covariance: Callable[[Tensor], Tensor], evidence: PriorEvidence, solver_steps: int
) -> Tensor:
    """x0 + C A* (A C A* + noise_std^2)^-1 (y - A x0).

    Args:
        x0: Mean before the observation.
        covariance: v to C v.
        evidence: y, A and noise; infinite noise leaves x0 as it is.
        solver_steps: Of conjugate gradients, each a product with C: as many as A C A* has distinct
            eigenvalues are enough.
    """
    operator = evidence.operator
    heard = evidence.noise_std.isfinite()
    noise_var = per_item(torch.where(heard, evidence.noise_std, 0.0) ** 2, evidence.y)
    residual = operator.A(operator.pinv(evidence.y - operator.A(x0)))  # what no x explains is not asked for
    residual = torch.where(per_item(heard, residual), residual, 0.0)
    u = torch.zeros_like(residual)
    direction, energy = residual, _energy(residual)
    enough = NEGLIGIBLE * energy
    for _ in range(solver_steps):
        through = operator.A(covariance(operator.adjoint(direction))) + noise_var * direction
        curvature = (direction * through).flatten(1).sum(1)
        going = (energy > enough) & (curvature > 0)
        step = per_item(torch.where(going, energy / curvature.where(going, 1.0), 0.0), u)
        u = u + step * direction
        residual = residual - step * through
        following = _energy(residual)
        ratio = per_item(torch.where(going, following / energy.where(going, 1.0), 0.0), u)
        direction, energy = residual + ratio * direction, following
    return x0 + covariance(operator.adjoint(u))


def conditioned_white(x0: Tensor, variance: Tensor, evidence: PriorEvidence) -> Tensor:
    """The same with C = variance, without a loop where the singular vectors of A are at hand."""
    operator = diagonal_form(evidence.operator)
    if operator is None:
        return conditioned(x0, lambda v: variance * v, evidence, SOLVER_STEPS)
    gains = torch.as_tensor(operator.gains).to(evidence.y)
    noise_var = per_item(evidence.noise_std**2, evidence.y)
    gain = variance * gains / (gains**2 * variance + noise_var)  # 0 for infinite noise
    gain = torch.where(gains > 0, gain, 0.0)
    return x0 + operator.from_coordinates(gain * (evidence.y - gains * operator.coordinates(x0)))


def _energy(values: Tensor) -> Float[Tensor, " batch"]:
    return values.square().flatten(1).sum(1)
