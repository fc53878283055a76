"""Posterior sampling whose gain knows the covariance of the prior, read off the denoiser's derivative."""

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
from semcom.samplers import ddim_step, ddpm_sigmas
from semcom.transmission import Observation


@dataclass(frozen=True, eq=False)
class Posterior:
    """Covariance-aware guidance: at each level the Gaussian posterior of x0, then an ordinary DDIM step.

        C = sigma^2 dD(x, sigma)/dx,  the covariance of x0 given x (Tweedie, second order)
        x0_hat = D + C A* (A C A* + noise_std^2)^-1 (y - A D)
        x' = x0_hat + sigma' (x - x0_hat) / sigma

    The inverse is by conjugate gradients, each step of which costs a vector-Jacobian product; the Jacobian is
    taken to be symmetric, as that of an exact denoiser is. Any linear operator serves. A lost item, of
    infinite noise, is a sample of the prior.

    Exact for Gaussian data as the steps grow: of x0 ~ N(0, [[1, .8], [.8, 1]]) whose first value was observed
    as 1 with noise_std 0.3 (true: means .917 and .734, variances .083 and .413) it gets .917 and .733, .081
    and .407 in 1000 steps, .915 and .728, .076 and .395 in 100.

    Args:
        denoiser: The prior.
        steps: Of the schedule of DDPM, each a network call.
        solver_steps: Of conjugate gradients, each a vector-Jacobian product.

    Raises:
        InvalidOption: Fewer than 1 solver step, or not 1 to 1000 steps.
        UnsuitableEvidence: More than one piece of evidence, or noise that nobody has measured.

    Reference:
        Boys, Girolami, Pidstrigach, Reich, Mosca and Akyildiz, Tweedie moment projected diffusions for
        inverse problems, TMLR 2024; Rozet, Andry, Lanusse and Louppe, Learning diffusion priors from
        observations by expectation maximization, NeurIPS 2024 (conjugate gradients).
    """

    denoiser: Denoiser
    steps: int = 100
    solver_steps: int = 3

    def __post_init__(self) -> None:
        if self.solver_steps < 1:
            raise InvalidOption(f"{self.solver_steps} solver steps: at least 1")
        ddpm_sigmas(self.steps)

    @property
    def name(self) -> str:
        """Canonical spelling."""
        return "posterior"

    def __call__(self, observation: Observation, rng: Streams) -> Float[Tensor, "batch 3 height width"]:
        """Image in [0, 1]."""
        evidence = in_prior_units(observation, self.name)
        return to_picture(self.sample(evidence, observation.shape, rng))

    def sample(self, evidence: PriorEvidence, shape: tuple[int, ...], rng: Streams) -> Tensor:
        """In [-1, 1] up to errors, not clipped."""
        sigmas = ddpm_sigmas(self.steps).to(evidence.y)
        x = sigmas[0] * rng.normal("start", shape[1:])
        for sigma, following in pairwise(sigmas):
            x = ddim_step(x, self._estimate(x, sigma, evidence), sigma, following, 0.0, None)
        return x

    def _estimate(self, x: Tensor, sigma: Tensor, evidence: PriorEvidence) -> Tensor:
        """x0_hat."""
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            x0 = self.denoiser(x, sigma.expand(len(x)))

        def covariance(v: Tensor) -> Tensor:
            return sigma**2 * torch.autograd.grad(x0, x, v, retain_graph=True)[0]

        return conditioned(x0.detach(), covariance, evidence, self.solver_steps)
