"""Conditional mean of a Gaussian given a linear observation, in closed form or by conjugate gradients."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from semcom.operators import diagonal_form
from semcom.receivers.evidence import PriorEvidence

SOLVER_STEPS = 10  # conjugate gradient steps of `conditioned_white`, which call no network
NEGLIGIBLE = 1e-12  # relative energy of the residual at which the solver stops


def conditioned(
    x0: Tensor, covariance: Callable[[Tensor], Tensor], evidence: PriorEvidence, solver_steps: int
) -> Tensor:
    """Mean of x ~ N(x0, C) given y = A x + n, n ~ N(0, noise_std^2 I), by conjugate gradients.

        E[x | y] = x0 + C A* (A C A* + noise_std^2)^-1 (y - A x0)

    Args:
        x0: Mean before the observation, [batch, ...].
        covariance: Function v -> C v on tensors of the shape of x0; C is symmetric and positive semidefinite.
        evidence: Observation y, operator A and noise_std.
        solver_steps: Number of conjugate gradient steps, at least 1, each with one product by C. As many
            steps as A C A* has distinct eigenvalues give the exact result.

    Returns:
        Mean after the observation, [batch, ...].
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
    """Mean of x ~ N(x0, v I) given y = A x + n, n ~ N(0, noise_std^2 I).

    The result is in closed form if the singular vectors of A are available, otherwise by `conditioned`.

    Args:
        x0: Mean before the observation, [batch, ...].
        variance: v, variance of every value of x, above 0, a scalar.
        evidence: Observation y, operator A and noise_std.

    Returns:
        Mean after the observation, [batch, ...].
    """
    operator = diagonal_form(evidence.operator)
    if operator is None:
        return conditioned(x0, lambda v: variance * v, evidence, SOLVER_STEPS)
    gains = torch.as_tensor(operator.gains).to(evidence.y)
    gain = variance * gains / (gains**2 * variance + evidence.noise_std**2)
    gain = torch.where(gains > 0, gain, 0.0)
    return x0 + operator.from_coordinates(gain * (evidence.y - gains * operator.coordinates(x0)))


def _per_row(values: Float[Tensor, " batch"], like: Tensor) -> Tensor:
    """Append dimensions of size 1 to [batch], to broadcast with a tensor [batch, ...]."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


def _energy(values: Tensor) -> Float[Tensor, " batch"]:
    return values.square().flatten(1).sum(1)
