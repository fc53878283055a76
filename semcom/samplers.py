"""From noise to data with a denoiser: samplers as plain functions of x = x0 + sigma n, sigma falling to 0.

The x_t of variance-preserving diffusion is sqrt(abar_t) x, and sigma = sqrt((1 - abar_t) / abar_t).
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from channels import Streams
from semcom.denoisers import Denoiser
from semcom.errors import InvalidOption

TRAINING_STEPS = 1000  # Ho et al. 2020, section 4
BETA = (1e-4, 0.02)  # ibid.
LEAST_STEPS = 10  # from sigma 60; with fewer the first of the evenly spread levels leaves data in the noise
LARGEST_SIGMA = 80.0  # Karras et al. 2022, table 1: data in [-1, 1] is lost in it
MAX_STEPS = 10_000  # more is a typing error


def ddpm_sigmas(steps: int) -> Float[Tensor, " levels"]:
    """Noise levels of every (1000 / steps)-th step of the linear schedule of DDPM, falling, 0 last.

    Raises:
        InvalidOption: Not 1 to 1000 steps.

    Reference:
        Ho, Jain and Abbeel, Denoising diffusion probabilistic models, NeurIPS 2020, section 4.
    """
    if not 1 <= steps <= TRAINING_STEPS:
        raise InvalidOption(f"{steps} steps of a schedule with 1 to {TRAINING_STEPS}")
    kept_power = (1 - torch.linspace(*BETA, TRAINING_STEPS, dtype=torch.float64)).cumprod(0)
    index = (torch.arange(steps) * TRAINING_STEPS) // steps
    abar = kept_power[index].flip(0)
    return torch.cat((((1 - abar) / abar).sqrt(), torch.zeros(1, dtype=torch.float64))).float()


def karras_sigmas(
    steps: int, largest: float = 80.0, smallest: float = 0.002, power: float = 7.0
) -> Float[Tensor, " levels"]:
    """Noise levels even in sigma^(1/power), falling, 0 last.

    Raises:
        InvalidOption: No steps, or levels that do not fall.

    Reference:
        Karras, Aittala, Aila and Laine, Elucidating the design space of diffusion-based generative models,
        NeurIPS 2022, eq. 5.
    """
    if steps < 1 or not 0 < smallest <= largest:
        raise InvalidOption(f"{steps} steps from sigma {largest} to {smallest}: at least 1, falling, above 0")
    ramp = torch.linspace(0, 1, steps) if steps > 1 else torch.zeros(1)
    ends = largest ** (1 / power), smallest ** (1 / power)
    return torch.cat(((ends[0] + ramp * (ends[1] - ends[0])) ** power, torch.zeros(1)))


@runtime_checkable
class Schedule(Protocol):
    """The noise levels at which a receiver calls its network."""

    @property
    def steps(self) -> int:
        """Network calls of one sample, if each level takes one."""
        ...

    def begin(self, guess: Tensor | None, spread: float | None) -> tuple[Tensor | None, Tensor]:
        """What the noise of the first level is added to (None is 0), and all levels, falling, 0 last.

        Args:
            guess: Of the data, made from the observation alone.
            spread: Standard deviation of its error per value; None if nobody knows.
        """
        ...


@dataclass(frozen=True, slots=True)
class FromNoise:
    """The schedule of DDPM, from noise in which no data is left.

    Args:
        steps: 10 to 1000.

    Raises:
        InvalidOption: Another number of steps.
    """

    steps: int = 100

    def __post_init__(self) -> None:
        if not LEAST_STEPS <= self.steps <= TRAINING_STEPS:
            raise InvalidOption(
                f"{self.steps} steps from noise: choose {LEAST_STEPS}..{TRAINING_STEPS}, or a receiver that "
                "starts from what arrived, like diffpir"
            )

    def begin(self, guess: Tensor | None, spread: float | None) -> tuple[Tensor | None, Tensor]:
        """No guess is needed."""
        return None, ddpm_sigmas(self.steps)


@dataclass(frozen=True, slots=True)
class Matched:
    """A start at the level that the observation deserves: guess + sigma n with sigma = margin x spread.

    At that level the noise hides the error of the guess, so that little is lost by not coming from above, and
    4 to 10 levels reach 0. Levels are those of `karras_sigmas`. Without a guess of known error it starts at
    sigma 80.

    Args:
        steps: 1 to 10 000.
        margin: Above 0.
        smallest: Last level above 0, of data in [-1, 1].
        power: Of the levels; small ones crowd the end less.

    Raises:
        InvalidOption: Out of range.
    """

    steps: int = 8
    margin: float = 1.0
    smallest: float = 0.02
    power: float = 3.0

    def __post_init__(self) -> None:
        if self.steps > MAX_STEPS:
            raise InvalidOption(f"{self.steps} steps: choose 1..{MAX_STEPS}")
        if not (self.steps >= 1 and self.margin > 0 and 0 < self.smallest < LARGEST_SIGMA and self.power > 0):
            raise InvalidOption(
                f"{self.steps} steps, margin {self.margin}, smallest level {self.smallest}, "
                f"power {self.power}: at least 1, and above 0"
            )

    def begin(self, guess: Tensor | None, spread: float | None) -> tuple[Tensor | None, Tensor]:
        """The guess, and levels from the spread down."""
        if guess is None or spread is None or not math.isfinite(spread):
            return None, karras_sigmas(self.steps, LARGEST_SIGMA, self.smallest, self.power)
        largest = min(max(self.margin * spread, self.smallest), LARGEST_SIGMA)
        return guess, karras_sigmas(self.steps, largest, self.smallest, self.power)


def ddim_step(
    x: Tensor, x0: Tensor, sigma: Tensor, following: Tensor, eta: float, noise: Tensor | None
) -> Tensor:
    """One step: x' = x0 + sqrt(sigma'^2 - s^2) eps + s z, where eps = (x - x0) / sigma.

    s = eta sigma' sqrt(1 - sigma'^2 / sigma^2): eta = 0 draws no noise anew, eta = 1 as much as DDPM.

    Args:
        x: At level sigma.
        x0: Estimate of the data.
        sigma: Level now, above 0.
        following: Level afterwards, sigma'.
        eta: 0 to 1.
        noise: z; None with eta = 0.

    Reference:
        Song, Meng and Ermon, Denoising diffusion implicit models, ICLR 2021, eq. 12 and 16.
    """
    eps = (x - x0) / sigma
    if noise is None:
        return x0 + following * eps
    drawn = eta * following * (1 - (following / sigma) ** 2).sqrt()
    return x0 + (following**2 - drawn**2).sqrt() * eps + drawn * noise


def sample_ddim(
    denoiser: Denoiser, x: Tensor, sigmas: Float[Tensor, " levels"], eta: float, rng: Streams
) -> Tensor:
    """DDIM from x at level sigmas[0] down to sigmas[-1].

    Args:
        denoiser: D(x, sigma).
        x: Start.
        sigmas: Falling.
        eta: As in `ddim_step`: 0 is DDIM, 1 DDPM.
        rng: Of that noise.
    """
    for i, (sigma, following) in enumerate(pairwise(sigmas)):
        x0 = denoiser(x, sigma.expand(len(x)))
        noise = rng.normal(f"ddim {i}/{len(sigmas)}", tuple(x.shape[1:])) if eta > 0 else None
        x = ddim_step(x, x0, sigma, following, eta, noise)
    return x


def sample_heun(denoiser: Denoiser, x: Tensor, sigmas: Float[Tensor, " levels"]) -> Tensor:
    """Heun's second-order steps of the probability-flow ODE dx/dsigma = (x - D(x, sigma)) / sigma.

    Two network calls per step, one in the last, where sigma ends at 0.

    Reference:
        Karras, Aittala, Aila and Laine, NeurIPS 2022, algorithm 1.
    """
    for sigma, following in pairwise(sigmas):
        slope = (x - denoiser(x, sigma.expand(len(x)))) / sigma
        euler = x + (following - sigma) * slope
        if following > 0:
            second = (euler - denoiser(euler, following.expand(len(x)))) / following
            euler = x + (following - sigma) * (slope + second) / 2
        x = euler
    return x


def sample_dpm_solver(denoiser: Denoiser, x: Tensor, sigmas: Float[Tensor, " levels"]) -> Tensor:
    """DPM-Solver++(2M): second order from the estimate of the step before, one network call per step.

    Reference:
        Lu, Zhou, Bao, Chen, Li and Zhu, DPM-Solver++, 2022, algorithm 2, in sigma = exp(-lambda).
    """
    before: Tensor | None = None
    step_before = torch.tensor(0.0)
    for sigma, following in pairwise(sigmas):
        x0 = denoiser(x, sigma.expand(len(x)))
        if following == 0:
            return x0
        step = (sigma / following).log()
        data = x0
        if before is not None and step_before > 0:  # of two equal levels nothing is learnt
            data = x0 + step / (2 * step_before) * (x0 - before)
        x = following / sigma * x - torch.expm1(-step) * data
        before, step_before = x0, step
    return x
