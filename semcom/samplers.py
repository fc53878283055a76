"""Diffusion samplers as plain functions of a denoiser: from x = x0 + sigma n, sigma falling to 0.

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
LEAST_STEPS = 10  # with fewer, the first of the evenly spread levels is too low to hide the data
LARGEST_SIGMA = 80.0  # Karras et al. 2022, table 1: hides data in [-1, 1] completely
MAX_STEPS = 10_000  # larger numbers are taken for typing errors


def ddpm_sigmas(steps: int) -> Float[Tensor, " levels"]:
    """Noise levels at every (1000 / steps)-th step of DDPM's linear schedule.

    Args:
        steps: Number of levels above 0, 1 to 1000.

    Returns:
        Levels sigma, falling, 0 last, [steps + 1].

    Raises:
        InvalidOption: `steps` is outside 1..1000.

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
    """Noise levels evenly spaced in sigma^(1/power).

    Args:
        steps: Number of levels above 0, at least 1.
        largest: First level, in units of data in [-1, 1].
        smallest: Last level above 0.
        power: Exponent of the spacing; small values put fewer levels near the end.

    Returns:
        Levels sigma, falling, 0 last, [steps + 1].

    Raises:
        InvalidOption: There are no steps, or the levels do not fall.

    Reference:
        Karras, Aittala, Aila and Laine, Elucidating the design space of diffusion-based generative models,
        NeurIPS 2022, eq. 5.
    """
    if steps < 1 or not 0 < smallest <= largest:
        raise InvalidOption(f"{steps} steps from sigma {largest} to {smallest}: at least 1, falling, above 0")
    ramp = (
        torch.linspace(0, 1, steps, dtype=torch.float32) if steps > 1 else torch.zeros(1, dtype=torch.float32)
    )
    ends = largest ** (1 / power), smallest ** (1 / power)
    return torch.cat(((ends[0] + ramp * (ends[1] - ends[0])) ** power, ramp.new_zeros(1)))


@runtime_checkable
class Schedule(Protocol):
    """Noise levels at which a receiver calls its network, and the start of sampling."""

    @property
    def steps(self) -> int:
        """Number of levels above 0, equal to the network calls of a sample at one call per level."""
        ...

    def begin(self, guess: Tensor | None, spread: float | None) -> tuple[Tensor | None, Tensor]:
        """Start of sampling for a given guess.

        Args:
            guess: Estimate of the data made from the observation alone, or None.
            spread: Standard deviation of the guess's error per value, in units of data in [-1, 1]; None if
                unknown.

        Returns:
            The tensor to which noise of the first level is added (None stands for 0), and all levels,
            falling, 0 last.
        """
        ...


@dataclass(frozen=True, slots=True)
class FromNoise:
    """DDPM's schedule, starting from pure noise.

    Args:
        steps: Number of levels above 0, 10 to 1000.

    Raises:
        InvalidOption: `steps` is outside 10..1000.
    """

    steps: int = 100

    def __post_init__(self) -> None:
        if not LEAST_STEPS <= self.steps <= TRAINING_STEPS:
            raise InvalidOption(
                f"{self.steps} steps from noise: choose {LEAST_STEPS}..{TRAINING_STEPS}, or a receiver that "
                "starts from what arrived, like diffpir"
            )

    def begin(self, guess: Tensor | None, spread: float | None) -> tuple[Tensor | None, Tensor]:
        """Start from pure noise and return DDPM's levels; the guess is not used."""
        return None, ddpm_sigmas(self.steps)


@dataclass(frozen=True, slots=True)
class Matched:
    """Schedule that starts at the noise level of the observation, sigma = margin x spread.

    Sampling starts from guess + sigma n. At that level the noise hides the error of the guess, so that little
    is lost by not starting from a higher level, and 4 to 10 levels reach 0. Levels are those of
    `karras_sigmas`. Without a guess of known error, it starts at sigma 80.

    Args:
        steps: Number of levels above 0, 1 to 10 000.
        margin: Ratio of the first level and the spread, above 0.
        smallest: Last level above 0, in units of data in [-1, 1].
        power: Exponent of the spacing; small values put fewer levels near the end.

    Raises:
        InvalidOption: An argument is out of range.
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
        """Start from the guess, with levels from margin x spread down to 0."""
        if guess is None or spread is None or not math.isfinite(spread):
            return None, karras_sigmas(self.steps, LARGEST_SIGMA, self.smallest, self.power)
        largest = min(max(self.margin * spread, self.smallest), LARGEST_SIGMA)
        return guess, karras_sigmas(self.steps, largest, self.smallest, self.power)


def start(
    schedule: Schedule,
    guess: Tensor | None,
    spread: float | None,
    like: Tensor,
    shape: tuple[int, ...],
    rng: Streams,
) -> tuple[Tensor, Float[Tensor, " levels"]]:
    """First point and noise levels of a sampler: x = guess + sigma_0 n with n ~ N(0, I).

    Args:
        schedule: Noise levels, which may begin at the guess.
        guess: Estimate of the data, of shape `shape`; None if there is no good one.
        spread: Standard deviation of the guess's error per value; None if it is unknown.
        like: Tensor of the type and device that x is to have.
        shape: Shape of the data, with as many rows as samples are drawn.
        rng: Random numbers, one stream per row.

    Returns:
        x at the first level, and all levels, falling, 0 last.
    """
    begun, sigmas = schedule.begin(guess, spread)
    noise = rng.normal("start", shape[1:])
    sigmas = sigmas.to(like)
    return (sigmas[0] * noise if begun is None else begun + sigmas[0] * noise), sigmas


def ddim_step(
    x: Tensor, x0: Tensor, sigma: Tensor, following: Tensor, eta: float, noise: Tensor | None
) -> Tensor:
    """One DDIM step: x' = x0 + sqrt(sigma'^2 - s^2) eps + s z, where eps = (x - x0) / sigma.

    s = eta sigma' sqrt(1 - sigma'^2 / sigma^2): eta = 0 adds no new noise, eta = 1 as much as DDPM.

    Args:
        x: Sample at level sigma, [batch, ...].
        x0: Estimate of the data, same shape.
        sigma: Present level, above 0.
        following: Next level sigma', 0 to `sigma`.
        eta: Share of new noise, 0 to 1.
        noise: z ~ N(0, 1), same shape; None with eta = 0.

    Returns:
        Sample at level sigma', same shape.

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
    """Sample by DDIM from level sigmas[0] down to sigmas[-1].

    Args:
        denoiser: D(x, sigma).
        x: Sample at level sigmas[0], [batch, ...].
        sigmas: Levels, falling.
        eta: Share of new noise in each step: 0 is DDIM, 1 DDPM.
        rng: Random streams of the new noise.

    Returns:
        Sample at level sigmas[-1], same shape.

    Reference:
        Song, Meng and Ermon, Denoising diffusion implicit models, ICLR 2021.
    """
    for i, (sigma, following) in enumerate(pairwise(sigmas)):
        x0 = denoiser(x, sigma.expand(len(x)))
        noise = rng.normal(f"ddim {i}/{len(sigmas)}", tuple(x.shape[1:])) if eta > 0 else None
        x = ddim_step(x, x0, sigma, following, eta, noise)
    return x


def sample_heun(denoiser: Denoiser, x: Tensor, sigmas: Float[Tensor, " levels"]) -> Tensor:
    """Sample by Heun's second-order method on the probability-flow ODE dx/dsigma = (x - D(x, sigma)) / sigma.

    Two network calls per step, one in the last step if sigma ends at 0.

    Args:
        denoiser: D(x, sigma).
        x: Sample at level sigmas[0], [batch, ...].
        sigmas: Levels, falling.

    Returns:
        Sample at level sigmas[-1], same shape.

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
    """Sample by DPM-Solver++(2M): second order from the previous estimate, one network call per step.

    Args:
        denoiser: D(x, sigma).
        x: Sample at level sigmas[0], [batch, ...].
        sigmas: Levels, falling.

    Returns:
        Sample at level sigmas[-1], same shape.

    Reference:
        Lu, Zhou, Bao, Chen, Li and Zhu, DPM-Solver++, 2022, algorithm 2, in sigma = exp(-lambda).
    """
    before: Tensor | None = None
    step_before = torch.tensor(0.0, dtype=torch.float32)
    for sigma, following in pairwise(sigmas):
        x0 = denoiser(x, sigma.expand(len(x)))
        if following == 0:
            return x0
        step = (sigma / following).log()
        data = x0
        if before is not None and step_before > 0:  # two equal levels give no derivative
            data = x0 + step / (2 * step_before) * (x0 - before)
        x = following / sigma * x - torch.expm1(-step) * data
        before, step_before = x0, step
    return x
