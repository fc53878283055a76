"""Refiner: a network trained to see the decoded picture draws the original, without any operator."""

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
"""E[x0 | x, guess] of x, sigma, the guess and its error's standard deviation; without a guess a prior."""


@dataclass(frozen=True, eq=False)
class Refiner:
    """Conditional diffusion: DDIM with D(x, sigma, guess, spread) = E[x0 | x0 + sigma n = x, guess].

        x' = D + sqrt(sigma'^2 - s^2) (x - D) / sigma + s z,  s = eta sigma' sqrt(1 - sigma'^2 / sigma^2)

    The guess is the decoded picture, spread its expected error. A sample of p(x0 | guess) as the network has
    learned it: the only error is the network's and that of few steps. It starts from guess + sigma n at
    `margin` times the spread (see `Matched`), where D hardly looks at x. On Gaussian data with the exact D it
    has the true mean and variance as steps and margin grow. A lost item is a sample without a guess.

    Args:
        denoiser: D.
        schedule: Of noise levels, each a network call.
        eta: Part of the noise that is drawn anew, 0 to 1.

    Raises:
        InvalidOption: eta out of range.
        UnsuitableEvidence: What arrived is no picture.

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
        """What it does."""
        return "refiner"

    @property
    def nfe(self) -> int:
        """One call per level."""
        return self.schedule.steps

    @property
    def noise(self) -> Noise:
        """One number."""
        return "white"

    @torch.no_grad()
    def estimates(self, evidence: PriorEvidence, shape: tuple[int, ...], rng: Streams) -> Iterator[Tensor]:
        """D at every level."""
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
