"""What imperfect radios do to a waveform: clipping, phase noise, carrier offset."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Complex, Float, Int
from scipy.special import lambertw  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
from torch import Tensor

from channels.channel import Received, SnrDb, check_state, spell
from channels.errors import ChannelError
from channels.fading import FlatChannel
from channels.streams import Streams
from channels.waveform import Numerology, Paths, Stage, apply_stages, compose, draw_stages, gains_of_stages

# One symbol is one sample, a million of them in a second.
SINGLE_CARRIER = Numerology(1, 1, 0, 1e6)

# Keeps quotients of powers finite, and their gradients, where nothing is sent.
TINY_POWER = 1e-30


@dataclass(frozen=True)
class ClippedAmplifier:
    """An amplifier that limits the envelope and keeps the average power: a stage of a waveform.

    y = c x min(1, A / |x|),  max |y|^2 / mean |y|^2 = papr_db,  mean |y|^2 = mean |x|^2.

    Peaks are those of the samples, not of the continuous signal between them. A waveform whose peaks are
    lower already passes unchanged. A and c are those of the whole item, not of its beginning.

    Args:
        papr_db: Largest peak-to-average power ratio after clipping, above 0 dB and at most 100.

    Raises:
        ChannelError: `papr_db` outside its range.

    Reference:
        Ochiai and Imai, Performance Analysis of Deliberately Clipped OFDM Signals, 2002.
    """

    papr_db: float

    def __post_init__(self) -> None:
        if not 0 < self.papr_db <= 100:
            raise ChannelError(
                f"peak-to-average ratio of {self.papr_db:g} dB is outside (0, 100]; give more than 0 dB"
            )

    @property
    def name(self) -> str:
        """Canonical spelling: "clip:6"."""
        return f"clip:{spell(self.papr_db)}"

    def draw(self, samples: int, numerology: Numerology, rng: Streams) -> None:
        """Nothing is random."""

    def apply(self, x: Complex[Tensor, "batch samples"], state: None) -> Complex[Tensor, "batch samples"]:
        """Clip and scale back to the power of the input."""
        if not x.shape[1]:
            return x
        power = torch.view_as_real(x.resolve_conj()).square().sum(-1)
        limit = self._limit(power.detach()).clamp_min(TINY_POWER)
        clipped = x * torch.where(power > limit, (limit / power.clamp_min(TINY_POWER)).sqrt(), 1.0)
        left = torch.minimum(power, limit).mean(1, keepdim=True)
        return clipped * ((power.mean(1, keepdim=True) + TINY_POWER) / (left + TINY_POWER)).sqrt()

    def gains(self, state: None, samples: int) -> Iterator[tuple[int, Complex[Tensor, "1 1"]]]:
        """The constant gain of a clipped Gaussian waveform."""
        yield 0, torch.full((1, 1), self._useful() ** 0.5, dtype=torch.complex64)

    def paths(self, numerology: Numerology) -> tuple[Paths, ...]:
        """The part in proportion to the input."""
        return (Paths((0,), (self._useful(),), torch.ones_like),)

    def _useful(self) -> float:
        """Share of the power of a clipped Gaussian waveform that is in proportion to the input (Bussgang)."""
        ratio = max(10 ** (self.papr_db / 10), 1 + 1e-7)  # nearer to 1 rounding passes the end of Lambert's W
        limit = float((ratio + lambertw(-ratio * math.exp(-ratio))).real)  # A^2 = ratio (1 - exp(-A^2))
        scale = 1 - math.exp(-limit) + 0.5 * math.sqrt(math.pi * limit) * math.erfc(math.sqrt(limit))
        return scale**2 / (1 - math.exp(-limit))

    def _limit(self, power: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch 1"]:
        """A^2 = papr mean(min(|x|^2, A^2)), by bisection."""
        ratio = 10 ** (self.papr_db / 10)
        low, high = torch.zeros_like(power[:, :1]), power.amax(1, keepdim=True)
        for _ in range(40):  # the interval ends below the resolution of float32
            middle = (low + high) / 2
            too_low = middle < ratio * torch.minimum(power, middle).mean(1, keepdim=True)
            low, high = torch.where(too_low, middle, low), torch.where(too_low, high, middle)
        return high


@dataclass(frozen=True)
class PhaseNoise:
    """Wiener phase noise of a free-running oscillator: a stage of a waveform.

    y(t) = x(t) e^(j phi(t)),  phi(t) - phi(t-1) ~ N(0, 2 pi linewidth T),  E[e^(j(phi(t+s) - phi(t)))] =
    e^(-pi linewidth T |s|).

    Args:
        linewidth_hz: Two-sided 3 dB width of the oscillator's line, at least 0.

    Raises:
        ChannelError: `linewidth_hz` is negative or not finite.

    Reference:
        Pollet, Van Bladel and Moeneclaey, BER Sensitivity of OFDM Systems to Carrier Frequency Offset and
        Wiener Phase Noise, 1995.
    """

    linewidth_hz: float

    def __post_init__(self) -> None:
        if not 0 <= self.linewidth_hz < math.inf:
            raise ChannelError(f"linewidth of {self.linewidth_hz:g} Hz must be finite and at least 0")

    @property
    def name(self) -> str:
        """Canonical spelling: "phase-noise:100", the linewidth in Hz."""
        return f"phase-noise:{spell(self.linewidth_hz)}"

    def draw(self, samples: int, numerology: Numerology, rng: Streams) -> Float[Tensor, "batch samples"]:
        """The phase in radian."""
        variance = 2 * math.pi * self.linewidth_hz / numerology.sample_rate_hz
        return (rng.normal("phase noise", (samples,)).double() * math.sqrt(variance)).cumsum(1)

    def apply(
        self, x: Complex[Tensor, "batch samples"], state: Float[Tensor, "_ _"]
    ) -> Complex[Tensor, "batch samples"]:
        """Rotate."""
        check_state(x, state)
        return x * torch.polar(torch.ones_like(state), state).to(x)

    def gains(
        self, state: Float[Tensor, "batch samples"], samples: int
    ) -> Iterator[tuple[int, Complex[Tensor, "batch samples"]]]:
        """The rotation."""
        yield 0, torch.polar(torch.ones_like(state), state)

    def paths(self, numerology: Numerology) -> tuple[Paths, ...]:
        """One path that loses its phase exponentially."""
        decay = math.pi * self.linewidth_hz / numerology.sample_rate_hz
        return (Paths((0,), (1.0,), lambda lags: torch.exp(-decay * lags.abs().double())),)


@dataclass(frozen=True)
class CarrierOffset:
    """Carrier frequency offset that synchronisation left over: a stage of a waveform.

    y(t) = x(t) e^(2 pi j e t / N),  e uniform on -subcarrier_fraction..subcarrier_fraction, per item.

    The receiver knows the bound, not the offset. On a single carrier N is 1: the offset is a fraction of the
    symbol rate.

    Args:
        subcarrier_fraction: Largest offset over the subcarrier spacing, 0..0.5.

    Raises:
        ChannelError: `subcarrier_fraction` outside 0..0.5, where the nearest subcarrier is another one.

    Reference:
        Moose, A Technique for Orthogonal Frequency Division Multiplexing Frequency Offset Correction, 1994.
    """

    subcarrier_fraction: float

    def __post_init__(self) -> None:
        if not 0 <= self.subcarrier_fraction <= 0.5:
            raise ChannelError(
                f"carrier offset of {self.subcarrier_fraction:g} subcarriers is outside 0..0.5; "
                "what synchronisation leaves over is less than half a subcarrier"
            )

    @property
    def name(self) -> str:
        """Canonical spelling: "offset:0.02"."""
        return f"offset:{spell(self.subcarrier_fraction)}"

    def draw(self, samples: int, numerology: Numerology, rng: Streams) -> Float[Tensor, "batch samples"]:
        """The phase in radian."""
        offset = self.subcarrier_fraction * (2 * rng.uniform("carrier offset", (1,)).double() - 1)
        time = torch.arange(samples, device=offset.device) / numerology.fft_size
        return 2 * math.pi * offset * time

    def apply(
        self, x: Complex[Tensor, "batch samples"], state: Float[Tensor, "_ _"]
    ) -> Complex[Tensor, "batch samples"]:
        """Rotate."""
        check_state(x, state)
        return x * torch.polar(torch.ones_like(state), state).to(x)

    def gains(
        self, state: Float[Tensor, "batch samples"], samples: int
    ) -> Iterator[tuple[int, Complex[Tensor, "batch samples"]]]:
        """The rotation."""
        yield 0, torch.polar(torch.ones_like(state), state)

    def paths(self, numerology: Numerology) -> tuple[Paths, ...]:
        """The mean of e^(2 pi j e s / N) over the offsets."""
        rate = 2 * self.subcarrier_fraction / numerology.fft_size
        return (Paths((0,), (1.0,), lambda lags: torch.sinc(rate * lags.double())),)


@dataclass(frozen=True, eq=False, slots=True)
class ImpairedState:
    """States of the stages and of the medium."""

    stages: tuple[Any, ...]
    medium: Any


@dataclass(frozen=True)
class Impaired:
    """A single carrier from an imperfect transmitter: the stages act on the symbols, then the channel.

    y = h g c x + distortion + n;  g the rotation, and c the gain of clipped Gaussian symbols.

    As on other flat channels, the receiver is given the true gain h g c, so that rotations cost nothing; wrap
    in `PilotAided` or `NoCSI` to take it away. Clipping is described by what it does to Gaussian
    symbols, its distortion by the average over fading.

    Args:
        channel: The medium behind the stages, flat.
        stages: `ClippedAmplifier`, `PhaseNoise` or `CarrierOffset`, in the order in which they act; there are
            10^6 symbols per second, to which frequencies in Hz refer.

    Raises:
        ChannelError: A stage spreads the symbols in time, or there is none.
    """

    channel: FlatChannel
    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        if not self.stages:
            raise ChannelError(
                f"no stages before {self.channel.name}; give at least one, or the channel alone"
            )
        if any(max(paths.delays) > 0 for paths in compose(self.stages, SINGLE_CARRIER)):
            raise ChannelError("multipath needs an equaliser; put TDL into an OFDM waveform instead")

    @property
    def name(self) -> str:
        """Canonical spelling: "impaired:clip:3+phase-noise:100/awgn"."""
        return f"impaired:{'+'.join(stage.name for stage in self.stages)}/{self.channel.name}"

    def draw(self, uses: int, snr_db: SnrDb, rng: Streams) -> ImpairedState:
        """Each stage from streams of its own; the medium draws what it draws without them."""
        return ImpairedState(
            draw_stages(self.stages, uses, SINGLE_CARRIER, rng), self.channel.draw(uses, snr_db, rng)
        )

    def apply(self, x: Complex[Tensor, "batch uses"], state: ImpairedState) -> Received:
        """Stages, then the medium."""
        received = self.channel.apply(apply_stages(self.stages, x, state.stages), state.medium)
        ((_, gain),) = gains_of_stages(self.stages, state.stages, x.shape[1], x.device)
        useful = sum(sum(paths.powers) for paths in compose(self.stages, SINGLE_CARRIER))
        distortion = max(0.0, 1.0 - useful)
        return Received(received.y, received.h * gain.to(x), received.noise_var + distortion)

    def correlation(
        self, first: Int[Tensor, "..."], second: Int[Tensor, "..."]
    ) -> Float[Tensor, "..."] | Complex[Tensor, "..."]:
        """That of the medium times those of the stages."""
        lag = (first - second).double()
        parts = (p.correlation(lag) * sum(p.powers) for p in compose(self.stages, SINGLE_CARRIER))
        return self.channel.correlation(first, second) * sum(parts, torch.zeros_like(lag))

    def overhead(self, uses: int) -> int:
        """That of the medium."""
        return self.channel.overhead(uses)

    def data_uses(self, total: int) -> int:
        """That of the medium."""
        return self.channel.data_uses(total)
