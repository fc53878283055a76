"""DDRM: diffusion restoration in the singular directions of the operator, each with its own noise."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from channels import Streams
from semcom.denoisers import Denoiser
from semcom.errors import InvalidOption, UnsuitableEvidence
from semcom.operators import diagonal_form
from semcom.receivers.evidence import Noise, PriorEvidence
from semcom.samplers import FromNoise, Schedule, start


@dataclass(frozen=True, eq=False)
class DDRM:
    """Denoising diffusion restoration model: DDIM with one rule per singular direction of A = U g V*.

    With c = V* x, c0 = V* D(x, sigma), y' = U* y / g and q = noise_std / g, every step from sigma to sigma'
    is

        null space            c' = c0 + sigma' (sqrt(1 - eta^2) (c - c0) / sigma + eta z)
        sigma' < q            c' = c0 + sigma' (sqrt(1 - eta^2) (y' - c0) / q + eta z)
        sigma' >= q           c' = (1 - eta_b) c0 + eta_b y' + sqrt(sigma'^2 - eta_b^2 q^2) z

    It is not a posterior sampler: below q, the residual of the data is used as if it were noise. Example:
    x0 ~ N(0, [[1, .8], [.8, 1]]) whose first value is observed as 1 with noise_std 0.3. The posterior has
    means .917 and .734, variances .083 and .413; the samples have .913 and .655, .027 and .318 in 100 steps,
    .968 and .726, .009 and .307 in 1000 steps. Without noise the second value has mean .80 and variance .36;
    the samples have .671 and .305, then .772 and .281. For a lost item it samples from the prior.

    Args:
        denoiser: Denoiser of the prior.
        schedule: Noise levels, one network call each.
        eta: Fraction of the noise's standard deviation that is redrawn in every step, 0 to 1.
        eta_b: Weight of observations whose noise is below the noise level, 0 to 1.

    Raises:
        InvalidOption: A parameter is out of range.
        UnsuitableEvidence: The singular vectors of the operator are not available; raised by `estimates`.

    Reference:
        Kawar, Elad, Ermon and Song, Denoising diffusion restoration models, NeurIPS 2022, eq. 7 and 8.
    """

    denoiser: Denoiser
    schedule: Schedule = FromNoise(100)
    eta: float = 0.85
    eta_b: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.eta <= 1 and 0 <= self.eta_b <= 1):
            raise InvalidOption(f"eta {self.eta}, eta_b {self.eta_b}: both from 0 to 1")

    @property
    def name(self) -> str:
        """Name of the method, always "ddrm"."""
        return "ddrm"

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
        """Yield D(x, sigma) at every level but the last, then the sample, not clipped.

        Raises:
            UnsuitableEvidence: The singular vectors of the operator are not available.
        """
        operator = diagonal_form(evidence.operator)
        if operator is None:
            raise UnsuitableEvidence(
                f"{self.name} needs the singular vectors of {type(evidence.operator).__name__}, which are "
                "not at hand; choose posterior or diffpir"
            )
        gains = torch.as_tensor(operator.gains).to(evidence.y).expand_as(evidence.y)
        q = torch.where(gains > 0, evidence.noise_std / gains, torch.inf)
        observed = torch.where(gains > 0, evidence.y / gains, 0.0)
        fresh = (1 - self.eta**2) ** 0.5
        x, sigmas = start(self.schedule, evidence.guess, evidence.spread, evidence.y, shape, rng)
        for i, (sigma, following) in enumerate(pairwise(sigmas)):
            x0 = self.denoiser(x, sigma.expand(len(x)))
            z = rng.normal(f"ddrm {i}/{self.schedule.steps}", shape[1:])
            c, c0, cz = (operator.coordinates(part) for part in (x, x0, z))
            pull = torch.where(q.isinf(), (c - c0) / sigma, (observed - c0) / q.clamp_min(1e-12))
            noisy = c0 + following * (fresh * pull + self.eta * cz)
            spread = (following**2 - (self.eta_b * q) ** 2).clamp_min(0).sqrt()
            clear = (1 - self.eta_b) * c0 + self.eta_b * observed + torch.nan_to_num(spread) * cz
            x = x0 + following * (fresh * (x - x0) / sigma + self.eta * z)
            c = torch.where(following >= q, clear, noisy)
            x = x + operator.from_coordinates(c - operator.coordinates(x))
            yield x0 if following > 0 else x
