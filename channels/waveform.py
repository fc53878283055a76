"""Waveforms as samples in time: their OFDM grid, and the stages of the medium that act on them."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from channels.channel import spell
from channels.errors import ChannelError
from channels.streams import Streams


@dataclass(frozen=True)
class Numerology:
    """Layout of OFDM symbols in time and frequency.

    Args:
        fft_size: Samples of an OFDM symbol without prefix, at least 1.
        subcarriers: Used subcarriers around the carrier, 1 to `fft_size`; the others are guards.
        prefix: Samples of the cyclic prefix, 0 to `fft_size`.
        spacing_hz: Subcarrier spacing in Hz, above 0; the sample rate is `fft_size` times it.

    Raises:
        ChannelError: A count or a frequency is outside its range.
    """

    fft_size: int = 64
    subcarriers: int = 64
    prefix: int = 16
    spacing_hz: float = 60e3

    def __post_init__(self) -> None:
        if not 1 <= self.subcarriers <= self.fft_size:
            raise ChannelError(
                f"{self.subcarriers} subcarriers do not fit an FFT of {self.fft_size}; give 1 to that"
            )
        if not 0 <= self.prefix <= self.fft_size:
            raise ChannelError(
                f"prefix of {self.prefix} samples is outside 0..{self.fft_size}, the length of the symbol"
            )
        if not 0 < self.spacing_hz < math.inf:
            raise ChannelError(f"subcarrier spacing of {self.spacing_hz:g} Hz must be positive and finite")

    @property
    def name(self) -> str:
        """Canonical name, for instance "grid:64:64:16:60000"."""
        return f"grid:{self.fft_size}:{self.subcarriers}:{self.prefix}:{spell(self.spacing_hz)}"

    @property
    def sample_rate_hz(self) -> float:
        """Sample rate in Hz, equal to channel uses per second."""
        return self.fft_size * self.spacing_hz

    @property
    def symbol_samples(self) -> int:
        """Samples of an OFDM symbol, prefix included."""
        return self.fft_size + self.prefix


@dataclass(frozen=True, eq=False, slots=True)
class Paths:
    """Propagation paths with a common autocorrelation in time, fading independently of each other.

    Args:
        delays: Delay of each path in samples, at least 0, in general not a whole number.
        powers: Average power of each path.
        correlation: Normalised autocorrelation E[g(t+s) conj(g(t))] / power as a function of the lag s in
            samples, [lags] to [lags].
    """

    delays: tuple[float, ...]
    powers: tuple[float, ...]
    correlation: Callable[[Float[Tensor, " lags"]], Float[Tensor, " lags"] | Complex[Tensor, " lags"]]


@runtime_checkable
class Stage(Protocol):
    """One stage between transmitter and receiver of a waveform, such as an amplifier or multipath.

    The average power is 1 in front of the stage and behind it. Between samples, an OFDM symbol is the sum of
    its complex exponentials, periodic over the cyclic prefix; delays of a fraction of a sample refer to that.
    """

    @property
    def name(self) -> str:
        """Canonical name, for instance "tdl-a:100:10"."""
        ...

    def draw(self, samples: int, numerology: Numerology, rng: Streams) -> Any:
        """Draw the randomness of the stage for one waveform of each item.

        Args:
            samples: Samples of the waveform, at least 0.
            numerology: Sample rate and FFT size to which times and frequencies refer.
            rng: Random streams, one per item.

        Returns:
            State for `apply` and `gains`.
        """
        ...

    def apply(self, x: Complex[Tensor, "batch samples"], state: Any) -> Complex[Tensor, "batch samples"]:
        """Pass samples through the stage; differentiable in x.

        Args:
            x: Samples, complex [batch, samples], average power 1 per item.
            state: State from `draw` for as many items and samples.

        Returns:
            Samples behind the stage, complex [batch, samples].

        Raises:
            ChannelError: The state was drawn for another number of items or samples.
        """
        ...

    def gains(self, state: Any, samples: int) -> Iterator[tuple[float, Complex[Tensor, "#batch #samples"]]]:
        """True impulse response of the stage over time: y(t) = sum_d g_d(t) x(t - d), plus distortion.

        Args:
            state: State from `draw`.
            samples: Number of samples for which gains are wanted.

        Returns:
            Pairs of a delay in samples and its gain g_d, complex [batch or 1, samples]; a single column if it
            is constant.
        """
        ...

    def paths(self, numerology: Numerology) -> tuple[Paths, ...]:
        """Second moments of the stage, as the receiver knows them.

        Args:
            numerology: Sample rate and FFT size to which times and frequencies refer.

        Returns:
            Groups of paths; if their powers add up to less than 1, the rest is distortion.
        """
        ...


def draw_stages(
    stages: Sequence[Stage], samples: int, numerology: Numerology, rng: Streams
) -> tuple[Any, ...]:
    """Draw the states of all stages, each from random streams of its own.

    Adding a stage of another kind, or changing the parameters of one, leaves the draws of the others
    unchanged.

    Args:
        stages: Stages in the order in which the samples pass them.
        samples: Samples of the waveform.
        numerology: Sample rate and FFT size.
        rng: Random streams, one per item.

    Returns:
        One state per stage.
    """
    states: list[Any] = []
    for index, stage in enumerate(stages):
        earlier = sum(type(other) is type(stage) for other in stages[:index])
        states.append(stage.draw(samples, numerology, rng.fork(f"{type(stage).__name__} {earlier}")))
    return tuple(states)


def apply_stages(
    stages: Sequence[Stage], x: Complex[Tensor, "batch samples"], states: Sequence[Any]
) -> Complex[Tensor, "batch samples"]:
    """Pass samples through all stages in order.

    Args:
        stages: Stages in the order in which the samples pass them.
        x: Samples, complex [batch, samples].
        states: One state per stage, from `draw_stages`.

    Returns:
        Samples behind the last stage, complex [batch, samples].
    """
    for stage, state in zip(stages, states, strict=True):
        x = stage.apply(x, state)
    return x


def gains_of_stages(
    stages: Sequence[Stage], states: Sequence[Any], samples: int, device: torch.device
) -> Iterator[tuple[float, Complex[Tensor, "#batch #samples"]]]:
    """True impulse response of several stages in a row, by multiplying gains and adding delays.

    Gains of stages in front of multipath are taken to be constant, as `OFDM` demands.

    Args:
        stages: Stages in the order in which the samples pass them.
        states: One state per stage, from `draw_stages`.
        samples: Number of samples for which gains are wanted.
        device: Device of the result.

    Yields:
        A delay in samples and its gain, complex [batch or 1, samples or 1], for every combination of paths.
    """
    if not stages:
        yield 0.0, torch.ones(1, 1, dtype=torch.complex64, device=device)
        return
    for before, early in gains_of_stages(stages[:-1], states[:-1], samples, device):
        for delay, gain in stages[-1].gains(states[-1], samples):
            yield before + delay, gain.to(device) * early


def compose(stages: Sequence[Stage], numerology: Numerology) -> tuple[Paths, ...]:
    """Second moments of several stages in a row: delays add, powers and autocorrelations multiply.

    Args:
        stages: Stages in the order in which the samples pass them.
        numerology: Sample rate and FFT size.

    Returns:
        Paths for every combination of the stages' path groups.
    """
    routes = itertools.product(*(stage.paths(numerology) for stage in stages))
    return tuple(_chain(route) for route in routes)


def _chain(route: tuple[Paths, ...]) -> Paths:
    delays, powers = [0.0], [1.0]
    for paths in route:
        delays = [a + b for a in delays for b in paths.delays]
        powers = [a * b for a in powers for b in paths.powers]

    def correlation(lags: Tensor) -> Tensor:
        product = torch.ones_like(lags)
        for paths in route:
            product = product * paths.correlation(lags)
        return product

    return Paths(tuple(delays), tuple(powers), correlation)
