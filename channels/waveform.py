"""Waveforms as samples in time: the grid they are sent on, and what a stage of the medium does to them."""

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
    """How OFDM symbols sit in time and frequency.

    Args:
        fft_size: Samples of an OFDM symbol without its prefix.
        subcarriers: Those that carry symbols, around the carrier; the rest are guards.
        prefix: Samples of the cyclic prefix, 0..fft_size.
        spacing_hz: Distance of the subcarriers; the sample rate is `fft_size` times it.

    Raises:
        ChannelError: A count or frequency outside its range.
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
        """Canonical spelling: "grid:64:64:16:60000"."""
        return f"grid:{self.fft_size}:{self.subcarriers}:{self.prefix}:{spell(self.spacing_hz)}"

    @property
    def sample_rate_hz(self) -> float:
        """Samples per second, which are channel uses per second."""
        return self.fft_size * self.spacing_hz

    @property
    def symbol_samples(self) -> int:
        """Samples of an OFDM symbol with its prefix."""
        return self.fft_size + self.prefix


@dataclass(frozen=True, eq=False, slots=True)
class Paths:
    """Ways through the medium that fade alike in time and independently of each other.

    Args:
        delays: In samples.
        powers: Average power of each.
        correlation: E[g(t+s) conj(g(t))] / power at a lag of s samples.
    """

    delays: tuple[int, ...]
    powers: tuple[float, ...]
    correlation: Callable[[Float[Tensor, " lags"]], Float[Tensor, " lags"] | Complex[Tensor, " lags"]]


@runtime_checkable
class Stage(Protocol):
    """Something that happens to the samples of a waveform; average power 1 in, average power 1 out."""

    @property
    def name(self) -> str:
        """Canonical spelling ("tdl-a:100:10")."""
        ...

    def draw(self, samples: int, numerology: Numerology, rng: Streams) -> Any:
        """What is random about it, for so many samples of each item."""
        ...

    def apply(self, x: Complex[Tensor, "batch samples"], state: Any) -> Complex[Tensor, "batch samples"]:
        """The samples after it; differentiable in x."""
        ...

    def gains(self, state: Any, samples: int) -> Iterator[tuple[int, Complex[Tensor, "#batch #samples"]]]:
        """The truth, as delays and gains over time: y(t) = sum g_d(t) x(t - d), plus distortion."""
        ...

    def paths(self, numerology: Numerology) -> tuple[Paths, ...]:
        """Second moments, known to the receiver; power missing from them is self-interference."""
        ...


def draw_stages(
    stages: Sequence[Stage], samples: int, numerology: Numerology, rng: Streams
) -> tuple[Any, ...]:
    """States of the stages; adding one of another kind, or changing its numbers, leaves the others' draws."""
    states: list[Any] = []
    for index, stage in enumerate(stages):
        earlier = sum(type(other) is type(stage) for other in stages[:index])
        states.append(stage.draw(samples, numerology, rng.fork(f"{type(stage).__name__} {earlier}")))
    return tuple(states)


def apply_stages(
    stages: Sequence[Stage], x: Complex[Tensor, "batch samples"], states: Sequence[Any]
) -> Complex[Tensor, "batch samples"]:
    """One after the other."""
    for stage, state in zip(stages, states, strict=True):
        x = stage.apply(x, state)
    return x


def gains_of_stages(
    stages: Sequence[Stage], states: Sequence[Any], samples: int, device: torch.device
) -> Iterator[tuple[int, Complex[Tensor, "#batch #samples"]]]:
    """Delay and gain over time of every way through all stages: later gains times earlier ones, delayed."""
    if not stages:
        yield 0, torch.ones(1, 1, dtype=torch.complex64, device=device)
        return
    for before, early in gains_of_stages(stages[:-1], states[:-1], samples, device):
        for delay, gain in stages[-1].gains(states[-1], samples):
            yield before + delay, gain.to(device) * delayed(early, delay)


def delayed(x: Complex[Tensor, "batch samples"], delay: int) -> Complex[Tensor, "batch samples"]:
    """x(t - delay), with 0 before the beginning; a single column stands for a constant and stays."""
    if delay == 0 or x.shape[1] == 1:
        return x
    return torch.nn.functional.pad(x, (delay, 0))[:, : x.shape[1]]


def compose(stages: Sequence[Stage], numerology: Numerology) -> tuple[Paths, ...]:
    """Paths through all stages in a row: delays add, powers and correlations multiply."""
    routes = itertools.product(*(stage.paths(numerology) for stage in stages))
    return tuple(_chain(route) for route in routes)


def _chain(route: tuple[Paths, ...]) -> Paths:
    delays, powers = [0], [1.0]
    for paths in route:
        delays = [a + b for a in delays for b in paths.delays]
        powers = [a * b for a in powers for b in paths.powers]

    def correlation(lags: Tensor) -> Tensor:
        product = torch.ones_like(lags)
        for paths in route:
            product = product * paths.correlation(lags)
        return product

    return Paths(tuple(delays), tuple(powers), correlation)
