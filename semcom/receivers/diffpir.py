"""DiffPIR: plug-and-play restoration, a proximal step of the data between denoising and noising."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from channels import Streams
from semcom.denoisers import Denoiser
from semcom.errors import InvalidOption
from semcom.receivers.conditioning import conditioned
from semcom.receivers.evidence import PriorEvidence, in_prior_units, to_picture
from semcom.samplers import ddpm_sigmas
from semcom.transmission import Observation


@dataclass(frozen=True, eq=False)
class DiffPIR:
    """At every level the proximal point of the data, as if x0 had covariance sigma^2 / lambda.

        x0_hat = argmin |y - A x0|^2 / noise_std^2 + (lambda / sigma^2) |x0 - D(x, sigma)|^2
        x' = x0_hat + sigma' (sqrt(1 - zeta) (x - x0_hat) / sigma + sqrt(zeta) z)

    It is no posterior sampler. Of x0 ~ N(0, [[1, .8], [.8, 1]]) whose first value was observed as 1 with
    noise_std 0.3 (true: means .917 and .734, variances .083 and .413) it gets .907 and .540, .064 and .470 in
    100 steps, .911 and .677, .073 and .405 in 1000: what was observed reaches the rest by denoising alone.

    Args:
        denoiser: The prior.
        steps: Of the schedule of DDPM, each a network call.
        strength: lambda, above 0: trust in the prior.
        zeta: Part of the noise's power that is drawn anew, 0 to 1.
        solver_steps: Of conjugate gradients; they cost no network call.

    Raises:
        InvalidOption: A parameter out of range.
        UnsuitableEvidence: More than one piece of evidence, or noise that nobody has measured.

    Reference:
        Zhu, Zhang, Liang, Cao, Wen, Timofte and Van Gool, Denoising diffusion models for plug-and-play image
        restoration, CVPR workshops 2023, algorithm 1.
    """

    denoiser: Denoiser
    steps: int = 100
    strength: float = 1.0
    zeta: float = 0.3
    solver_steps: int = 10

    def __post_init__(self) -> None:
        if not (self.strength > 0 and 0 <= self.zeta <= 1 and self.solver_steps >= 1):
            raise InvalidOption(
                f"strength {self.strength}, zeta {self.zeta}, {self.solver_steps} solver steps: "
                "above 0, 0 to 1, at least 1"
            )
        ddpm_sigmas(self.steps)

    @property
    def name(self) -> str:
        """Canonical spelling."""
        return "diffpir"

    def __call__(self, observation: Observation, rng: Streams) -> Float[Tensor, "batch 3 height width"]:
        """Image in [0, 1]."""
        evidence = in_prior_units(observation, self.name)
        with torch.no_grad():
            return to_picture(self.sample(evidence, observation.shape, rng))

    def sample(self, evidence: PriorEvidence, shape: tuple[int, ...], rng: Streams) -> Tensor:
        """In [-1, 1] up to errors, not clipped."""
        sigmas = ddpm_sigmas(self.steps).to(evidence.y)
        x = sigmas[0] * rng.normal("start", shape[1:])
        for i, (sigma, following) in enumerate(pairwise(sigmas)):
            variance = sigma**2 / self.strength
            x0 = self.denoiser(x, sigma.expand(len(x)))
            x0 = conditioned(x0, lambda v, scale=variance: scale * v, evidence, self.solver_steps)
            kept = (1 - self.zeta) ** 0.5 * (x - x0) / sigma
            x = x0 + following * (kept + self.zeta**0.5 * rng.normal(f"diffpir {i}/{self.steps}", shape[1:]))
        return x
