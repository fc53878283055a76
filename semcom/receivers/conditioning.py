"""The mean of a Gaussian given a linear observation, by conjugate gradients."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from semcom.operators import diagonal_form
from semcom.receivers.evidence import PriorEvidence

SOLVER_STEPS = 10  # of conjugate gradients where no network is called
NEGLIGIBLE = 1e-12  # energy of a residual, relative, at which nothing is left to do


def conditioned(
    x0: Tensor, covariance: Callable[[Tensor], Tensor], evidence: PriorEvidence, solver_steps: int
) -> Tensor:
    """The mean of a Gaussian given linear evidence: x0 + C A* (A C A* + noise_std^2)^-1 (y - A x0).

    Args:
        x0: Mean before the observation.
        covariance: v to C v.
        evidence: y, A and noise.
        solver_steps: Of conjugate gradients, each a product with C: as many as A C A* has distinct
            eigenvalues are enough.

    Returns:
        The mean afterwards, of the shape of x0.
    """
    operator, noise_var = evidence.operator, evidence.noise_std**2
    residual = operator.A(operator.pinv(evidence.y - operator.A(x0)))  # projected onto the range of A
    u = torch.zeros_like(residual)
    direction, energy = residual, _energy(residual)
    enough = NEGLIGIBLE * energy
    for _ in range(solver_steps):
        through = operator.A(covariance(operator.adjoint(direction))) + noise_var * direction
        curvature = (direction * through).flatten(1).sum(1)
        going = (energy > enough) & (curvature > 0)
        step = _per_row(torch.where(going, energy / curvature.where(going, 1.0), 0.0), u)
        u = u + step * direction
        residual = residual - step * through
        following = _energy(residual)
        ratio = _per_row(torch.where(going, following / energy.where(going, 1.0), 0.0), u)
        direction, energy = residual + ratio * direction, following
    return x0 + covariance(operator.adjoint(u))


def conditioned_white(x0: Tensor, variance: Tensor, evidence: PriorEvidence) -> Tensor:
    """The mean of a Gaussian of covariance C = variance I given linear evidence.

    Without a loop where the singular vectors of A are at hand, else as `conditioned`.

    Args:
        x0: Mean before the observation.
        variance: Of every value of x0.
        evidence: y, A and noise.

    Returns:
        The mean afterwards, of the shape of x0.
    """
    operator = diagonal_form(evidence.operator)
    if operator is None:
        return conditioned(x0, lambda v: variance * v, evidence, SOLVER_STEPS)
    gains = torch.as_tensor(operator.gains).to(evidence.y)
    gain = variance * gains / (gains**2 * variance + evidence.noise_std**2)
    gain = torch.where(gains > 0, gain, 0.0)
    return x0 + operator.from_coordinates(gain * (evidence.y - gains * operator.coordinates(x0)))


def _per_row(values: Float[Tensor, " batch"], like: Tensor) -> Tensor:
    """[batch, 1, 1, ...] beside a tensor of rows."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


def _energy(values: Tensor) -> Float[Tensor, " batch"]:
    return values.square().flatten(1).sum(1)
