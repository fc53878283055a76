"""Denoisers D(x, sigma) = E[x0 | x0 + sigma n = x], the samplers' view of a prior; exact ones for tests."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""Function D(x, sigma) of x [batch, ...] and sigma [batch], in units of data in [-1, 1]."""


@dataclass(frozen=True, eq=False)
class OnDevice:
    """A denoiser that runs on another device; what goes in and comes out stays where it is.

    Args:
        denoiser: D(x, sigma), or a conditional one, whose tensors are all on the device.
        device: Name of the device ("cuda").
    """

    denoiser: Callable[..., Tensor]
    device: str = field(compare=False)

    def __call__(self, *tensors: Tensor | None) -> Tensor:
        """Denoised tensor, on the device of the first argument.

        Args:
            tensors: Arguments of the denoiser: x, sigma, and for conditional ones a guess and its spread.

        Returns:
            D, in the shape of x.
        """
        moved = [None if tensor is None else tensor.to(self.device) for tensor in tensors]
        first = tensors[0]
        assert first is not None
        return self.denoiser(*moved).to(first.device)


@dataclass(frozen=True, eq=False)
class GaussianDenoiser:
    """Exact denoiser of x0 ~ N(mean, C): D(x, sigma) = mean + C (C + sigma^2)^-1 (x - mean).

    Args:
        mean: Mean of the flattened item, [values].
        covariance: C, symmetric and positive semidefinite, [values, values].
    """

    mean: Float[Tensor, " values"]
    covariance: Float[Tensor, "values values"]

    def __call__(self, x: Tensor, sigma: Float[Tensor, " batch"]) -> Tensor:
        """Posterior mean of x0 given x [batch, ...] at noise level sigma [batch], in the shape of x."""
        spread, axes = torch.linalg.eigh(self.covariance)
        spread = spread.clamp_min(0)
        along = (x.flatten(1) - self.mean) @ axes
        shrunk = along * spread / (spread + sigma[:, None] ** 2)
        return (self.mean + shrunk @ axes.T).reshape(x.shape)


@dataclass(frozen=True, eq=False)
class GaussianMixtureDenoiser:
    """Exact denoiser of a mixture of isotropic Gaussians.

    The posterior mean of each component, weighted by the component's probability given x.

    Args:
        weights: Probabilities of the components, [components], sum 1.
        means: Means of the flattened items, [components, values].
        std: Standard deviation of each component, [components].
    """

    weights: Float[Tensor, " components"]
    means: Float[Tensor, "components values"]
    std: Float[Tensor, " components"]

    def __call__(self, x: Tensor, sigma: Float[Tensor, " batch"]) -> Tensor:
        """Posterior mean of x0 given x [batch, ...] at noise level sigma [batch], in the shape of x."""
        flat = x.flatten(1)[:, None]  # [batch, 1, values]
        variance = self.std**2 + sigma[:, None] ** 2  # [batch, components]
        distance = (flat - self.means).square().sum(2)
        log_weight = self.weights.log() - distance / (2 * variance) - flat.shape[2] / 2 * variance.log()
        answers = self.means + (self.std**2 / variance)[:, :, None] * (flat - self.means)
        return (log_weight.softmax(1)[:, :, None] * answers).sum(1).reshape(x.shape)
