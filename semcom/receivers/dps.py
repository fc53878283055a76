"""DPS: ancestral sampling guided by the gradient of the data's residual."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from channels import Streams
from semcom.denoisers import Denoiser
from semcom.errors import InvalidOption
from semcom.receivers.evidence import Noise, PriorEvidence
from semcom.samplers import FromNoise, Schedule, ddim_step, start


@dataclass(frozen=True, eq=False)
class DPS:
    """Diffusion posterior sampling: DDPM steps, each followed by a descent step on |y - A D(x, sigma)|.

    The update of the paper, x_t-1 <- x_t-1 - strength grad_{x_t} |y - A x0(x_t)| in variance-preserving x_t,
    becomes here, with x = x_t / sqrt(abar_t), a step of strength / sqrt(abar_t abar_t-1) times the gradient
    over x. Every level costs a network call and a vector-Jacobian product. The noise of the observation is
    not taken into account. With few steps the iteration diverges. For a lost item it samples from the prior.

    It is not a posterior sampler. Example: x0 ~ N(0, [[1, .8], [.8, 1]]) whose first value is observed as 1
    without noise. The posterior has means 1 and .8, variances 0 and .36; the samples have 1.004 and .968,
    .319 and .299 in 1000 steps, and 1.000 and .968, .030 and .295 with strength 0.3.

    Args:
        denoiser: Denoiser of the prior, differentiable.
        schedule: Noise levels, one network call and one vector-Jacobian product each.
        strength: Step size, above 0; the paper uses 0.3 to 1 for 256x256 pictures.

    Raises:
        InvalidOption: `strength` is out of range.

    Reference:
        Chung, Kim, McCann, Klasky and Ye, Diffusion posterior sampling for general noisy inverse problems,
        ICLR 2023, algorithm 1 and section D.1.
    """

    denoiser: Denoiser
    schedule: Schedule = FromNoise(1000)
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not self.strength > 0:
            raise InvalidOption(f"strength {self.strength}: above 0")

    @property
    def name(self) -> str:
        """Name of the method, always "dps"."""
        return "dps"

    @property
    def nfe(self) -> int:
        """Network calls per sample: one call and one vector-Jacobian product per noise level."""
        return 2 * self.schedule.steps

    @property
    def noise(self) -> Noise:
        """Noise model that the method uses: "colored", which weights the residual."""
        return "colored"

    def estimates(self, evidence: PriorEvidence, shape: tuple[int, ...], rng: Streams) -> Iterator[Tensor]:
        """Yield D(x, sigma) at every level but the last, then the sample, not clipped."""
        x, sigmas = start(self.schedule, evidence.guess, evidence.spread, evidence.y, shape, rng)
        for i, (sigma, following) in enumerate(pairwise(sigmas)):
            with torch.enable_grad():
                x = x.detach().requires_grad_(True)
                x0 = self.denoiser(x, sigma.expand(len(x)))
                misfit = (evidence.y - evidence.operator.A(x0)).square().flatten(1).sum(1)
                distance = misfit.clamp_min(1e-24).sqrt().sum()
                (gradient,) = torch.autograd.grad(distance, x)
            scale = self.strength * ((1 + sigma**2) * (1 + following**2)).sqrt()
            noise = rng.normal(f"dps {i}/{self.schedule.steps}", shape[1:])
            x = ddim_step(x.detach(), x0.detach(), sigma, following, 1.0, noise)
            x = x - scale * gradient
            yield x0.detach() if following > 0 else x
