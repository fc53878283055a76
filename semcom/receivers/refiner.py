"""Refiner: a diffusion network conditioned on the decoded picture, which needs no operator."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from channels import Streams
from semcom.errors import InvalidOption, UnsuitableEvidence
from semcom.operators import Identity
from semcom.receivers.evidence import Noise, PriorEvidence
from semcom.samplers import Matched, Schedule, ddim_step, start

ConditionalDenoiser = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor]
"""E[x0 | x, guess] as a function of x, sigma, guess and spread (the standard deviation of its error).

Shapes: x and guess [batch, ...], sigma and spread [batch]. If guess and spread are None, it is an
unconditional denoiser.
"""


@dataclass(frozen=True, eq=False)
class Refiner:
    """Conditional diffusion: DDIM with D(x, sigma, guess, spread) = E[x0 | x0 + sigma n = x, guess].

        x' = D + sqrt(sigma'^2 - s^2) (x - D) / sigma + s z,  s = eta sigma' sqrt(1 - sigma'^2 / sigma^2)

    The guess is the decoded picture, and spread the expected standard deviation of its error. The result is a
    sample of p(x0 | guess) as learned by the network; the only errors are those of the network and of the
    finite number of steps. Sampling starts from guess + sigma n at sigma = `margin` times the spread (see
    `Matched`), where D depends little on x. For Gaussian data and the exact D, mean and variance converge to
    those of the posterior as steps and margin grow. For a lost item it samples without a guess.

    Args:
        denoiser: Conditional denoiser D.
        schedule: Noise levels, one network call each.
        eta: Stochasticity of DDIM: 0 is deterministic, 1 is ancestral sampling.

    Raises:
        InvalidOption: `eta` is outside of 0 to 1.
        UnsuitableEvidence: The evidence is not a decoded picture; raised by `estimates`.

    Reference:
        Saharia, Ho, Chan, Salimans, Fleet and Norouzi, Image super-resolution via iterative refinement, IEEE
        Trans. PAMI 45(4), 2023 (conditioning by a picture); Song, Meng and Ermon, DDIM, ICLR 2021.
    """

    denoiser: ConditionalDenoiser
    schedule: Schedule = Matched(8, margin=3.0)
    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise InvalidOption(f"eta {self.eta}: from 0 to 1")

    @property
    def name(self) -> str:
        """Name of the method, always "refiner"."""
        return "refiner"

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
        """Yield the conditional mean D at every level; the last one is the sample.

        Raises:
            UnsuitableEvidence: The evidence is not a decoded picture with an error of known size.
        """
        picture = isinstance(evidence.operator, Identity)
        if evidence.observed and (not picture or evidence.guess is None or evidence.spread is None):
            raise UnsuitableEvidence(
                f"{self.name} takes pictures, not what arrives through {type(evidence.operator).__name__}; "
                "choose ddnm, ddrm or posterior"
            )
        guess = evidence.guess
        spread = None if evidence.spread is None else evidence.y.new_tensor([evidence.spread])
        x, sigmas = start(self.schedule, evidence.guess, evidence.spread, evidence.y, shape, rng)
        for i, (sigma, following) in enumerate(pairwise(sigmas)):
            x0 = self.denoiser(x, sigma.expand(len(x)), guess, spread)
            yield x0
            drawn = self.eta > 0
            noise = rng.normal(f"refiner {i}/{self.schedule.steps}", shape[1:]) if drawn else None
            x = ddim_step(x, x0, sigma, following, self.eta, noise)
