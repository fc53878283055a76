"""DDNM: what was observed is kept, a diffusion prior fills the null space of the observation."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from channels import Streams
from semcom.denoisers import Denoiser
from semcom.errors import InvalidOption, UnsuitableEvidence
from semcom.operators import Diagonal, diagonal_form
from semcom.receivers.evidence import Noise, PriorEvidence
from semcom.samplers import FromNoise, Schedule, start


@dataclass(frozen=True, eq=False)
class DDNM:
    """Denoising diffusion null-space model in its DDIM form; with noise, DDNM+.

    With x = x0 + sigma n and x0 = D(x, sigma), at every step from sigma to sigma':

        x0_hat = x0 - lambda A+ (A x0 - y)
        x' = x0_hat + sigma' (eta z + sqrt(1 - eta^2) eps),  eps = (x - x0) / sigma

    Without noise lambda = 1. With noise, in a direction of singular value s and with q = noise_std / s, it is
    lambda = 1 and sqrt(sigma'^2 - q^2) z in place of the noise above where sigma' > q, otherwise
    lambda = sigma' sqrt(1 - eta^2) / q and sigma' eta z: the variance about x0 is sigma'^2 in each case. A
    lost item is a sample of the prior.

    It is no posterior sampler. Of x0 ~ N(0, [[1, .8], [.8, 1]]) whose first value was observed as 1 without
    noise, the second has mean 0.80 and variance 0.36; with eta = 0.85 it gets 0.736 and 0.282 in 100 steps,
    0.788 and 0.277 in 1000. With noise_std 0.3 (true: means .917 and .734, variances .083 and .413) it gets
    .913 and .653, .027 and .318 in 100 steps. eta = 1 forgets noisy data.

    Args:
        denoiser: The prior.
        schedule: Of noise levels, each a network call.
        eta: Part of the noise that is drawn anew, from 0 to below 1.

    Raises:
        InvalidOption: eta out of range.
        UnsuitableEvidence: Noise with an operator whose singular vectors are not at hand.

    Reference:
        Wang, Yu and Zhang, Zero-shot image restoration using denoising diffusion null-space model, ICLR 2023;
        the gains in DDIM form as in Kawar, Elad, Ermon and Song, DDRM, NeurIPS 2022.
    """

    denoiser: Denoiser
    schedule: Schedule = FromNoise(100)
    eta: float = 0.85

    def __post_init__(self) -> None:
        if not 0 <= self.eta < 1:
            raise InvalidOption(f"eta of {self.eta}: from 0 to below 1, for 1 forgets noisy data")

    @property
    def name(self) -> str:
        """Of the paper."""
        return "ddnm"

    @property
    def nfe(self) -> int:
        """One call per level."""
        return self.schedule.steps

    @property
    def noise(self) -> Noise:
        """White."""
        return "white"

    @torch.no_grad()
    def estimates(self, evidence: PriorEvidence, shape: tuple[int, ...], rng: Streams) -> Iterator[Tensor]:
        """x0_hat at every level, not clipped, so that A x = y where there is no noise."""
        operator = evidence.operator
        diagonal = diagonal_form(operator)
        noisy = evidence.noise_std > 0
        if noisy and diagonal is None:
            raise UnsuitableEvidence(
                f"{self.name} with noise needs the singular vectors of {type(operator).__name__}, which are "
                "not at hand; choose posterior or diffpir"
            )
        fresh = (1 - self.eta**2) ** 0.5
        x, sigmas = start(self.schedule, evidence.guess, evidence.spread, evidence.y, shape, rng)
        for i, (sigma, following) in enumerate(pairwise(sigmas)):
            x0 = self.denoiser(x, sigma.expand(len(x)))
            z = rng.normal(f"ddnm {i}/{self.schedule.steps}", shape[1:])
            noise = following * (self.eta * z + fresh * (x - x0) / sigma)
            if noisy and diagonal is not None:
                corrected, noise = self._with_noise(x0, z, noise, following, evidence, diagonal)
            else:
                corrected = x0 - operator.pinv(operator.A(x0) - evidence.y)
            yield corrected
            x = corrected + noise

    def _with_noise(
        self,
        x0: Tensor,
        z: Tensor,
        noise: Tensor,
        following: Tensor,
        evidence: PriorEvidence,
        operator: Diagonal,
    ) -> tuple[Tensor, Tensor]:
        """x0_hat, and the noise to add, by the rules for singular directions."""
        gains = torch.as_tensor(operator.gains).to(evidence.y)
        q = torch.where(gains > 0, evidence.noise_std / gains, torch.inf)
        gain, spread = rules(q, following, self.eta)
        missing = torch.where(gains > 0, evidence.y / gains, 0.0) - operator.coordinates(x0)
        corrected = x0 + operator.from_coordinates(torch.where(q.isinf(), 0.0, gain * missing))
        instead = spread * operator.coordinates(z) - operator.coordinates(noise)
        return corrected, noise + operator.from_coordinates(torch.where(q.isinf() | (q == 0), 0.0, instead))


def rules(q: Tensor, following: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """lambda, and the deviation of the noise drawn anew, for a direction of noise q = noise_std / s.

    Both noises together, lambda q of the observation and the new one, have the variance sigma'^2.

    Args:
        q: From 0 to infinity, that of what was not observed.
        following: sigma'.
        eta: As in `DDNM`.
    """
    above = (following > q) | (q == 0)
    kept = following * (1 - eta**2) ** 0.5
    gain = torch.where(above, 1.0, kept / q.clamp_min(torch.finfo(q.dtype).tiny))
    return gain, torch.where(above, (following**2 - q**2).clamp_min(0).sqrt(), following * eta)
