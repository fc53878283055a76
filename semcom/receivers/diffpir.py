"""DiffPIR: plug-and-play restoration, a proximal step of the data between denoising and noising."""

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
    """At every level the proximal point of the data, as if x0 had covariance sigma^2 / lambda.

        x0_hat = argmin |y - A x0|^2 / noise_std^2 + (lambda / sigma^2) |x0 - D(x, sigma)|^2
        x' = x0_hat + sigma' (sqrt(1 - zeta) (x - x0_hat) / sigma + sqrt(zeta) z)

    It is no posterior sampler. Of x0 ~ N(0, [[1, .8], [.8, 1]]) whose first value was observed as 1 with
    noise_std 0.3 (true: means .917 and .734, variances .083 and .413) it gets .907 and .540, .064 and .470 in
    100 steps, .911 and .677, .073 and .405 in 1000: what was observed reaches the rest by denoising alone;
    hardly (.331 in place of .734) without fresh noise, zeta = 0, with which few steps serve pictures well.

    Args:
        denoiser: The prior.
        schedule: Of noise levels, each a network call.
        strength: lambda, above 0: trust in the prior.
        zeta: Part of the noise's power that is drawn anew, 0 to 1.

    Raises:
        InvalidOption: A parameter out of range.

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
        """Of the paper."""
        return "diffpir"

    @property
    def nfe(self) -> int:
        """One call per level."""
        return self.schedule.steps

    @property
    def noise(self) -> Noise:
        """Of any color."""
        return "colored"

    @torch.no_grad()
    def estimates(self, evidence: PriorEvidence, shape: tuple[int, ...], rng: Streams) -> Iterator[Tensor]:
        """x0_hat at every level, not clipped."""
        x, sigmas = start(self.schedule, evidence.guess, evidence.spread, evidence.y, shape, rng)
        for i, (sigma, following) in enumerate(pairwise(sigmas)):
            x0 = self.denoiser(x, sigma.expand(len(x)))
            x0 = conditioned_white(x0, sigma**2 / self.strength, evidence)
            yield x0
            kept = (1 - self.zeta) ** 0.5 * (x - x0) / sigma
            z = rng.normal(f"diffpir {i}/{self.schedule.steps}", shape[1:])
            x = x0 + following * (kept + self.zeta**0.5 * z)
