"""The mean of a Gaussian given a linear observation, by conjugate gradients."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from semcom.receivers.evidence import PriorEvidence, per_item

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


def _energy(values: Tensor) -> Float[Tensor, " batch"]:
    return values.square().flatten(1).sum(1)
