"""DDNM: keeps the observed components and fills the null space of the operator by a diffusion prior."""

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
    """Denoising diffusion null-space model in its DDIM form; for noisy observations DDNM+.

    With x = x0 + sigma n and x0 = D(x, sigma), every step from sigma to sigma' is

        x0_hat = x0 - lambda A+ (A x0 - y)
        x' = x0_hat + sigma' (eta z + sqrt(1 - eta^2) eps),  eps = (x - x0) / sigma

    For a noiseless observation lambda = 1. With noise, a direction of singular value s has q = noise_std / s.
    If sigma' > q, lambda = 1 and the noise is sqrt(sigma'^2 - q^2) z; otherwise lambda = sigma' sqrt(1 -
    eta^2) / q and the noise is sigma' eta z. In both cases the variance about x0 is sigma'^2. For a lost item
    it samples from the prior.

    It is not a posterior sampler. Example: x0 ~ N(0, [[1, .8], [.8, 1]]) whose first value is observed as 1.
    Without noise the second value has mean 0.80 and variance 0.36; the samples (eta = 0.85) have 0.736 and
    0.282 in 100 steps, 0.788 and 0.277 in 1000 steps. With noise_std 0.3 the posterior has means .917 and
    .734, variances .083 and .413; the samples have .913 and .653, .027 and .318 in 100 steps. With eta = 1
    noisy data would be ignored.

    Args:
        denoiser: Denoiser of the prior.
        schedule: Noise levels, one network call each.
        eta: Fraction of the noise's standard deviation that is redrawn in every step, from 0 to below 1.

    Raises:
        InvalidOption: `eta` is out of range.
        UnsuitableEvidence: The observation is noisy, and the singular vectors of its operator are not
            available; raised by `estimates`.

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
        """Name of the method, always "ddnm"."""
        return "ddnm"

    @property
    def nfe(self) -> int:
        """Network calls per sample, one per noise level."""
        return self.schedule.steps

    @property
    def noise(self) -> Noise:
        """Noise model that the method uses: "white"."""
        return "white"

    @torch.no_grad()
    def estimates(self, evidence: PriorEvidence, shape: tuple[int, ...], rng: Streams) -> Iterator[Tensor]:
        """Yield x0_hat at every level, not clipped, so that A x0_hat = y for noiseless evidence.

        Raises:
            UnsuitableEvidence: The evidence is noisy, and the singular vectors of its operator are not
                available.
        """
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
        """x0_hat and the noise of the next step for noisy evidence, per singular direction."""
        gains = torch.as_tensor(operator.gains).to(evidence.y)
        q = torch.where(gains > 0, evidence.noise_std / gains, torch.inf)
        gain, spread = rules(q, following, self.eta)
        missing = torch.where(gains > 0, evidence.y / gains, 0.0) - operator.coordinates(x0)
        corrected = x0 + operator.from_coordinates(torch.where(q.isinf(), 0.0, gain * missing))
        instead = spread * operator.coordinates(z) - operator.coordinates(noise)
        return corrected, noise + operator.from_coordinates(torch.where(q.isinf() | (q == 0), 0.0, instead))


def rules(q: Tensor, following: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """Gain and standard deviation of the fresh noise in DDNM+, for directions of noise q = noise_std / s.

    The fresh noise and the part lambda q of the observation's noise are chosen for a total variance of
    sigma'^2.

    Args:
        q: Noise of the observation in units of x, at least 0; infinite for directions that were not observed.
        following: Next noise level sigma', at least 0, a scalar.
        eta: Fraction of the noise's standard deviation that is redrawn, from 0 to below 1.

    Returns:
        Gain lambda and standard deviation of the fresh noise, each of the shape of q.
    """
    above = (following > q) | (q == 0)
    kept = following * (1 - eta**2) ** 0.5
    gain = torch.where(above, 1.0, kept / q.clamp_min(torch.finfo(q.dtype).tiny))
    return gain, torch.where(above, (following**2 - q**2).clamp_min(0).sqrt(), following * eta)
