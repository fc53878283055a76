"""Denoisers D(x, sigma) = E[x0 | x0 + sigma n = x], what priors are to a sampler; exact ones for tests."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""Of x [batch, ...] and sigma [batch] in the units of x, which are those of data in [-1, 1]."""


@dataclass(frozen=True, eq=False)
class GaussianDenoiser:
    """Of x0 ~ N(mean, covariance): D(x, sigma) = mean + C (C + sigma^2)^-1 (x - mean).

    Args:
        mean: Of the flattened item.
        covariance: Symmetric, not negative.
    """

    mean: Float[Tensor, " values"]
    covariance: Float[Tensor, "values values"]

    def __call__(self, x: Tensor, sigma: Float[Tensor, " batch"]) -> Tensor:
        """Posterior mean, in the shape of x."""
        spread, axes = torch.linalg.eigh(self.covariance)
        spread = spread.clamp_min(0)
        along = (x.flatten(1) - self.mean) @ axes
        shrunk = along * spread / (spread + sigma[:, None] ** 2)
        return (self.mean + shrunk @ axes.T).reshape(x.shape)


@dataclass(frozen=True, eq=False)
class GaussianMixtureDenoiser:
    """Of a mixture of round Gaussians: the answer of each component by its probability given x.

    Args:
        weights: Sum 1.
        means: Of the flattened items.
        std: Of each component.
    """

    weights: Float[Tensor, " components"]
    means: Float[Tensor, "components values"]
    std: Float[Tensor, " components"]

    def __call__(self, x: Tensor, sigma: Float[Tensor, " batch"]) -> Tensor:
        """Posterior mean, in the shape of x."""
        flat = x.flatten(1)[:, None]  # [batch, 1, values]
        variance = self.std**2 + sigma[:, None] ** 2  # [batch, components]
        distance = (flat - self.means).square().sum(2)
        log_weight = self.weights.log() - distance / (2 * variance) - flat.shape[2] / 2 * variance.log()
        answers = self.means + (self.std**2 / variance)[:, :, None] * (flat - self.means)
        return (log_weight.softmax(1)[:, :, None] * answers).sum(1).reshape(x.shape)
