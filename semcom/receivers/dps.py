"""DPS: ancestral sampling that is pulled down the gradient of the data's misfit."""

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
    """Diffusion posterior sampling: a step of DDPM, then -strength times the gradient of |y - A D(x, sigma)|.

    In the variance-preserving x_t of the paper, x_t-1 <- x_t-1 - strength grad_{x_t} |y - A x0(x_t)|; in
    x = x_t / sqrt(abar_t) the gradient is over sqrt(abar_t abar_t-1). Each step costs a network call and a
    vector-Jacobian product. It takes no account of the noise. A lost item is a sample of the prior. With few
    steps it diverges.

    It is no posterior sampler. Of x0 ~ N(0, [[1, .8], [.8, 1]]) whose first value was observed as 1 without
    noise (true: means 1 and .8, variances 0 and .36) it gets 1.004 and .968, .319 and .299 in 1000 steps;
    1.000 and .968, .030 and .295 with strength 0.3.

    Args:
        denoiser: The prior.
        schedule: Of noise levels, each a network call and a vector-Jacobian product.
        strength: Above 0; the paper has 0.3 to 1 for 256x256 pictures.

    Raises:
        InvalidOption: A parameter out of range.

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
        """Of the paper."""
        return "dps"

    @property
    def nfe(self) -> int:
        """A call and a product per level."""
        return 2 * self.schedule.steps

    @property
    def noise(self) -> Noise:
        """Of any color: the misfit is weighed by it."""
        return "colored"

    def estimates(self, evidence: PriorEvidence, shape: tuple[int, ...], rng: Streams) -> Iterator[Tensor]:
        """D at every level, then the sample, not clipped."""
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
