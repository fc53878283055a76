"""Denoisers D(x, sigma) = E[x0 | x0 + sigma n = x], the form in which samplers use a prior."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""Function D(x, sigma) of x [batch, ...] and noise level sigma [batch], in units of data in [-1, 1]."""


@dataclass(frozen=True, eq=False)
class OnDevice:
    """Wrapper that runs a denoiser on another device; inputs and outputs stay on their own.

    Args:
        denoiser: D(x, sigma), all of whose tensors are on the device.
        device: Name of the device ("cuda").
    """

    denoiser: Denoiser
    device: str = field(compare=False)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Call the denoiser on its device.

        Args:
            x: x0 + sigma n, [batch, ...].
            sigma: Noise level, [batch].

        Returns:
            Denoised tensor, in the shape and on the device of x.
        """
        return self.denoiser(x.to(self.device), sigma.to(self.device)).to(x.device)


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
        """Posterior mean of x0 given its noisy version.

        Args:
            x: x0 + sigma n, [batch, ...].
            sigma: Noise level, at least 0, [batch].

        Returns:
            D(x, sigma), in the shape of x.
        """
        spread, axes = torch.linalg.eigh(self.covariance)
        spread = spread.clamp_min(0)
        along = (x.flatten(1) - self.mean) @ axes
        shrunk = along * spread / (spread + sigma[:, None] ** 2)
        return (self.mean + shrunk @ axes.T).reshape(x.shape)


@dataclass(frozen=True, eq=False)
class GaussianMixtureDenoiser:
    """Exact denoiser of a mixture of isotropic Gaussians.

    D is the mean of the posterior means of the components, weighted by their posterior probabilities given x.

    Args:
        weights: Probabilities of the components, [components], sum 1.
        means: Means of the flattened items, [components, values].
        std: Standard deviation of each component, at least 0, [components].
    """

    weights: Float[Tensor, " components"]
    means: Float[Tensor, "components values"]
    std: Float[Tensor, " components"]

    def __call__(self, x: Tensor, sigma: Float[Tensor, " batch"]) -> Tensor:
        """Posterior mean of x0 given its noisy version.

        Args:
            x: x0 + sigma n, [batch, ...].
            sigma: Noise level, at least 0, [batch].

        Returns:
            D(x, sigma), in the shape of x.
        """
        flat = x.flatten(1)[:, None]  # [batch, 1, values]
        variance = self.std**2 + sigma[:, None] ** 2  # [batch, components]
        distance = (flat - self.means).square().sum(2)
        log_weight = self.weights.log() - distance / (2 * variance) - flat.shape[2] / 2 * variance.log()
        answers = self.means + (self.std**2 / variance)[:, :, None] * (flat - self.means)
        return (log_weight.softmax(1)[:, :, None] * answers).sum(1).reshape(x.shape)
