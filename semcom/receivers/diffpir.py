"""DiffPIR: plug-and-play restoration that alternates denoising, a proximal step of the data, and noising."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from channels import Streams
from semcom.denoisers import Denoiser
from semcom.errors import InvalidOption
from semcom.receivers.conditioning import conditioned_white
from semcom.receivers.evidence import Noise, PriorEvidence
from semcom.samplers import FromNoise, Schedule, start


@dataclass(frozen=True, eq=False)
class DiffPIR:
    """Plug-and-play diffusion with a proximal step of the data at every noise level.

        x0_hat = argmin |y - A x0|^2 / noise_std^2 + (lambda / sigma^2) |x0 - D(x, sigma)|^2
        x' = x0_hat + sigma' (sqrt(1 - zeta) (x - x0_hat) / sigma + sqrt(zeta) z),  z ~ N(0, I)

    The proximal step is the mean of x0 given y if x0 ~ N(D, sigma^2 / lambda I).

    It is not a posterior sampler. Example: x0 ~ N(0, [[1, .8], [.8, 1]]) whose first value is observed as 1
    with noise_std 0.3. The posterior has means .917 and .734, variances .083 and .413; the samples have .907
    and .540, .064 and .470 in 100 steps, .911 and .677, .073 and .405 in 1000 steps. The observation reaches
    values that were not observed by denoising alone. Without fresh noise (zeta = 0) it hardly reaches them
    (mean .331 instead of .734), but few steps then suffice for pictures. For a lost item it samples from the
    prior.

    Args:
        denoiser: Denoiser of the prior.
        schedule: Noise levels, one network call each.
        strength: lambda, weight of the prior, above 0.
        zeta: Fraction of the noise power that is redrawn in every step, 0 to 1.

    Raises:
        InvalidOption: A parameter is out of range.

    Reference:
        Zhu, Zhang, Liang, Cao, Wen, Timofte and Van Gool, Denoising diffusion models for plug-and-play image
        restoration, CVPR workshops 2023, algorithm 1.
    """

    denoiser: Denoiser
    schedule: Schedule = FromNoise(100)
    strength: float = 1.0
    zeta: float = 0.3

    def __post_init__(self) -> None:
        if not (self.strength > 0 and 0 <= self.zeta <= 1):
            raise InvalidOption(f"strength {self.strength}, zeta {self.zeta}: above 0, and 0 to 1")

    @property
    def name(self) -> str:
        """Name of the method, always "diffpir"."""
        return "diffpir"

    @property
    def nfe(self) -> int:
        """Network calls per sample, one per noise level."""
        return self.schedule.steps

    @property
    def noise(self) -> Noise:
        """Noise model that the method uses: "colored"."""
        return "colored"

    @torch.no_grad()
    def estimates(self, evidence: PriorEvidence, shape: tuple[int, ...], rng: Streams) -> Iterator[Tensor]:
        """Yield x0_hat, the proximal point of the data, at every level, not clipped."""
        x, sigmas = start(self.schedule, evidence.guess, evidence.spread, evidence.y, shape, rng)
        for i, (sigma, following) in enumerate(pairwise(sigmas)):
            x0 = self.denoiser(x, sigma.expand(len(x)))
            x0 = conditioned_white(x0, sigma**2 / self.strength, evidence)
            yield x0
            kept = (1 - self.zeta) ** 0.5 * (x - x0) / sigma
            z = rng.normal(f"diffpir {i}/{self.schedule.steps}", shape[1:])
            x = x0 + following * (kept + self.zeta**0.5 * z)
