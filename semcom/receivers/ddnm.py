"""DDNM: what was observed is kept, a diffusion prior fills the null space of the observation."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from channels import Streams
from semcom.denoisers import Denoiser
from semcom.errors import InvalidOption, UnsuitableEvidence
from semcom.operators import Tight
from semcom.receivers.evidence import PriorEvidence, in_prior_units, per_item, to_picture
from semcom.samplers import ddpm_sigmas
from semcom.transmission import Observation


@dataclass(frozen=True, eq=False)
class DDNM:
    """Denoising diffusion null-space model in its DDIM form; with noise, DDNM+.

    With x = x0 + sigma n and x0 = D(x, sigma), at every step from sigma to sigma':

        x0_hat = x0 - lambda A+ (A x0 - y)
        x' = x0_hat + sigma' (eta z + sqrt(1 - eta^2) eps),  eps = (x - x0) / sigma

    Without noise lambda = 1. Noise takes an A whose singular values are all s. In the range of A, with
    q = noise_std / s, there is then lambda = 1 and sqrt(sigma'^2 - q^2) z in place of the noise above where
    sigma' > q, otherwise lambda = sigma' sqrt(1 - eta^2) / q and sigma' eta z: the variance about x0 is
    sigma'^2 in each case. A lost item, of infinite noise, is a sample of the prior.

    It is no posterior sampler. Of x0 ~ N(0, [[1, .8], [.8, 1]]) whose first value was observed as 1 without
    noise, the second has mean 0.80 and variance 0.36; with eta = 0.85 it gets 0.736 and 0.282 in 100 steps,
    0.788 and 0.277 in 1000. With noise_std 0.3 (true: means .917 and .734, variances .083 and .413) it gets
    .913 and .653, .027 and .318 in 100 steps. eta = 1 forgets noisy data.

    Args:
        denoiser: The prior.
        steps: Of the schedule of DDPM, each a network call.
        eta: Part of the noise that is drawn anew, from 0 to below 1.

    Raises:
        InvalidOption: eta out of range, or not 1 to 1000 steps.
        UnsuitableEvidence: More than one piece of evidence, noise that nobody has measured, or noise with an
            operator that is not tight.

    Reference:
        Wang, Yu and Zhang, Zero-shot image restoration using denoising diffusion null-space model, ICLR 2023;
        the gains in DDIM form as in Kawar, Elad, Ermon and Song, DDRM, NeurIPS 2022.
    """

    denoiser: Denoiser
    steps: int = 100
    eta: float = 0.85

    def __post_init__(self) -> None:
        if not 0 <= self.eta < 1:
            raise InvalidOption(f"eta of {self.eta}: from 0 to below 1, for 1 forgets noisy data")
        ddpm_sigmas(self.steps)

    @property
    def name(self) -> str:
        """Canonical spelling."""
        return "ddnm"

    def __call__(self, observation: Observation, rng: Streams) -> Float[Tensor, "batch 3 height width"]:
        """Image in [0, 1]."""
        evidence = in_prior_units(observation, self.name)
        with torch.no_grad():
            return to_picture(self.sample(evidence, observation.shape, rng))

    def sample(self, evidence: PriorEvidence, shape: tuple[int, ...], rng: Streams) -> Tensor:
        """In [-1, 1] up to errors, not clipped, so that A x = y where there is no noise."""
        operator = evidence.operator
        q = evidence.noise_std
        if bool((q > 0).any()):
            if not isinstance(operator, Tight):
                raise UnsuitableEvidence(
                    f"{self.name} with noise needs singular values that are all equal, which "
                    f"{type(operator).__name__} does not have; choose another receiver"
                )
            q = q / operator.gain
        fresh = (1 - self.eta**2) ** 0.5
        lost, noiseless = q.isinf(), q == 0
        sigmas = ddpm_sigmas(self.steps).to(evidence.y)
        x = sigmas[0] * rng.normal("start", shape[1:])
        for i, (sigma, following) in enumerate(pairwise(sigmas)):
            x0 = self.denoiser(x, sigma.expand(len(x)))
            z = rng.normal(f"ddnm {i}/{self.steps}", shape[1:])
            gain = torch.where(noiseless | (following > q), 1.0, following * fresh / q)
            corrected = x0 - per_item(gain, x) * operator.pinv(operator.A(x0) - evidence.y)
            noise = following * (self.eta * z + fresh * (x - x0) / sigma)
            if not bool((noiseless | lost).all()):
                spread = torch.where(
                    following > q, (following**2 - q**2).clamp_min(0).sqrt(), following * self.eta
                )
                observed = per_item(spread, x) * z - noise
                observed = torch.where(per_item(noiseless | lost, x), 0.0, observed)
                noise = noise + operator.pinv(operator.A(observed))
            x = corrected + noise
        return x
