"""Impairments of a radio that act on the waveform: clipping, phase noise, carrier frequency offset."""

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
    """Waveform stage: an amplifier that clips the envelope and restores the average power.

    y = c x min(1, A / |x|),  max |y|^2 / mean |y|^2 = papr_db,  mean |y|^2 = mean |x|^2.

    Peaks are those of the samples, not of the continuous signal between them. A waveform whose peaks are
    already lower passes unchanged. A and c are computed from the whole item.

    Args:
        papr_db: Peak-to-average power ratio after clipping in dB, above 0 and at most 100.

    Raises:
        ChannelError: `papr_db` is outside its range.

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
        """Canonical name, for instance "clip:6" for a peak-to-average power ratio of 6 dB."""
        return f"clip:{spell(self.papr_db)}"

    def draw(self, samples: int, numerology: Numerology, rng: Streams) -> None:
        """Return no state, because clipping is deterministic."""

    def apply(self, x: Complex[Tensor, "batch samples"], state: None) -> Complex[Tensor, "batch samples"]:
        """Clip the envelope and scale each item back to its average power before clipping."""
        if not x.shape[1]:
            return x
        power = torch.view_as_real(x.resolve_conj()).square().sum(-1)
        limit = self._limit(power.detach()).clamp_min(TINY_POWER)
        clipped = x * torch.where(power > limit, (limit / power.clamp_min(TINY_POWER)).sqrt(), 1.0)
        left = torch.minimum(power, limit).mean(1, keepdim=True)
        return clipped * ((power.mean(1, keepdim=True) + TINY_POWER) / (left + TINY_POWER)).sqrt()

    def gains(self, state: None, samples: int) -> Iterator[tuple[int, Complex[Tensor, "1 1"]]]:
        """Constant gain of a clipped Gaussian waveform at delay 0, without the distortion (Bussgang)."""
        yield 0, torch.full((1, 1), self._useful() ** 0.5, dtype=torch.complex64)

    def paths(self, numerology: Numerology) -> tuple[Paths, ...]:
        """One path with the undistorted share of the power of a clipped Gaussian waveform."""
        return (Paths((0,), (self._useful(),), torch.ones_like),)

    def _useful(self) -> float:
        """Share of the power of a clipped Gaussian waveform that is proportional to the input (Bussgang)."""
        ratio = max(10 ** (self.papr_db / 10), 1 + 1e-7)  # nearer to 1 rounding passes the end of Lambert's W
        limit = float((ratio + lambertw(-ratio * math.exp(-ratio))).real)  # A^2 = ratio (1 - exp(-A^2))
        scale = 1 - math.exp(-limit) + 0.5 * math.sqrt(math.pi * limit) * math.erfc(math.sqrt(limit))
        return scale**2 / (1 - math.exp(-limit))

    def _limit(self, power: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch 1"]:
        """Squared clipping amplitude A^2 = papr mean(min(|x|^2, A^2)), by bisection."""
        ratio = 10 ** (self.papr_db / 10)
        low, high = torch.zeros_like(power[:, :1]), power.amax(1, keepdim=True)
        for _ in range(40):  # the interval ends below the resolution of float32
            middle = (low + high) / 2
            too_low = middle < ratio * torch.minimum(power, middle).mean(1, keepdim=True)
            low, high = torch.where(too_low, middle, low), torch.where(too_low, high, middle)
        return high


@dataclass(frozen=True)
class PhaseNoise:
    """Waveform stage: Wiener phase noise of a free-running oscillator.

    y(t) = x(t) e^(j phi(t)),  phi(t) - phi(t-1) ~ N(0, 2 pi linewidth T),
    E[e^(j(phi(t+s) - phi(t)))] = e^(-pi linewidth T |s|).

    Args:
        linewidth_hz: Two-sided 3 dB linewidth of the oscillator in Hz, at least 0.

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
        """Canonical name, for instance "phase-noise:100" for a linewidth of 100 Hz."""
        return f"phase-noise:{spell(self.linewidth_hz)}"

    def draw(self, samples: int, numerology: Numerology, rng: Streams) -> Float[Tensor, "batch samples"]:
        """Draw the phase of every sample in radians, a random walk with N(0, 2 pi linewidth T) steps."""
        variance = 2 * math.pi * self.linewidth_hz / numerology.sample_rate_hz
        return (rng.normal("phase noise", (samples,)).double() * math.sqrt(variance)).cumsum(1)

    def apply(
        self, x: Complex[Tensor, "batch samples"], state: Float[Tensor, "_ _"]
    ) -> Complex[Tensor, "batch samples"]:
        """Rotate every sample by its phase."""
        check_state(x, state)
        return x * torch.polar(torch.ones_like(state), state).to(x)

    def gains(
        self, state: Float[Tensor, "batch samples"], samples: int
    ) -> Iterator[tuple[int, Complex[Tensor, "batch samples"]]]:
        """Rotation e^(j phi(t)) of every sample, as a gain at delay 0."""
        yield 0, torch.polar(torch.ones_like(state), state)

    def paths(self, numerology: Numerology) -> tuple[Paths, ...]:
        """One path of power 1 whose autocorrelation decays as e^(-pi linewidth T |s|)."""
        decay = math.pi * self.linewidth_hz / numerology.sample_rate_hz
        return (Paths((0,), (1.0,), lambda lags: torch.exp(-decay * lags.abs().double())),)


@dataclass(frozen=True)
class CarrierOffset:
    """Waveform stage: residual carrier frequency offset after synchronisation.

    y(t) = x(t) e^(2 pi j e t / N),  e uniform on -subcarrier_fraction..subcarrier_fraction, per item.

    The receiver knows the bound, not the offset. For a single carrier N is 1, and the offset is a fraction of
    the symbol rate.

    Args:
        subcarrier_fraction: Largest offset as a fraction of the subcarrier spacing, 0 to 0.5.

    Raises:
        ChannelError: `subcarrier_fraction` is outside 0..0.5, beyond which another subcarrier is nearer.

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
        """Canonical name, for instance "offset:0.02" for at most 0.02 subcarrier spacings."""
        return f"offset:{spell(self.subcarrier_fraction)}"

    def draw(self, samples: int, numerology: Numerology, rng: Streams) -> Float[Tensor, "batch samples"]:
        """Draw one frequency offset per item and return the phase of every sample in radians."""
        offset = self.subcarrier_fraction * (2 * rng.uniform("carrier offset", (1,)).double() - 1)
        time = torch.arange(samples, device=offset.device) / numerology.fft_size
        return 2 * math.pi * offset * time

    def apply(
        self, x: Complex[Tensor, "batch samples"], state: Float[Tensor, "_ _"]
    ) -> Complex[Tensor, "batch samples"]:
        """Rotate every sample by its phase."""
        check_state(x, state)
        return x * torch.polar(torch.ones_like(state), state).to(x)

    def gains(
        self, state: Float[Tensor, "batch samples"], samples: int
    ) -> Iterator[tuple[int, Complex[Tensor, "batch samples"]]]:
        """Rotation e^(2 pi j e t / N) of every sample, as a gain at delay 0."""
        yield 0, torch.polar(torch.ones_like(state), state)

    def paths(self, numerology: Numerology) -> tuple[Paths, ...]:
        """One path of power 1 with a sinc autocorrelation, the mean of e^(2 pi j e s / N) over e."""
        rate = 2 * self.subcarrier_fraction / numerology.fft_size
        return (Paths((0,), (1.0,), lambda lags: torch.sinc(rate * lags.double())),)


@dataclass(frozen=True, eq=False, slots=True)
class ImpairedState:
    """States of the stages and of the channel behind them, for one transmission.

    Args:
        stages: One state per stage, in the order in which they act.
        medium: State of the flat channel.
    """

    stages: tuple[Any, ...]
    medium: Any


@dataclass(frozen=True, eq=False, slots=True)
class Distortion:
    """Gain and distortion of an amplifier for the symbols of every item, by linear regression (Bussgang).

        data      gain x + d,  d uncorrelated with x,  E|d|^2 = power
        pilots    pilot_gain p: they have one amplitude, and are therefore scaled only

    Args:
        gain: Gain of the data, real [batch, 1].
        power: Variance of the distortion of the data, [batch, 1].
        pilot_gain: Gain of the pilots, real [batch, 1]; 1 without pilots.
    """

    gain: Float[Tensor, "batch 1"]
    power: Float[Tensor, "batch 1"]
    pilot_gain: Float[Tensor, "batch 1"]


@dataclass(frozen=True)
class Impaired:
    """A single carrier with impairments: the stages act on the symbols, then the flat channel does.

    y = h g (c x + d) + n;  g the rotation, c the gain of the amplifier, d its distortion.

    The receiver is given the true gain h g c and N0 + |h g|^2 E|d|^2, so that rotations cost nothing; wrap
    the channel in `PilotAided` or `NoCSI` to change that. What clipping does depends on the symbols: QPSK
    passes unchanged, Gaussian symbols do not. c and E|d|^2 are therefore measured on the symbols of the item,
    like an error vector magnitude. A receiver knows these two numbers from the amplifier and the
    constellation; they are part of the gain and the noise variance that every receiver knows for free.

    Args:
        channel: The flat channel behind the stages.
        stages: `ClippedAmplifier`, `PhaseNoise` or `CarrierOffset`, in the order in which they act.
            Frequencies in Hz refer to 10^6 symbols per second.

    Raises:
        ChannelError: A stage spreads the symbols in time, or there is no stage.
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
        """Canonical name, for instance "impaired:clip:3+phase-noise:100/awgn"."""
        return f"impaired:{'+'.join(stage.name for stage in self.stages)}/{self.channel.name}"

    def draw(self, uses: int, snr_db: SnrDb, rng: Streams) -> ImpairedState:
        """Draw the states of all stages, and what the flat channel draws without stages."""
        return ImpairedState(
            draw_stages(self.stages, uses, SINGLE_CARRIER, rng), self.channel.draw(uses, snr_db, rng)
        )

    def apply(self, x: Complex[Tensor, "batch uses"], state: ImpairedState) -> Received:
        """Apply stages and flat channel; the receiver is told the true gain, and N0 plus distortion."""
        received, told = self.apply_distorting(x, state, torch.arange(x.shape[1], device=x.device))
        if not self._clips:
            return received
        fade = torch.view_as_real(received.h).square().sum(-1)
        return Received(received.y, told.gain * received.h, received.noise_var + told.power * fade)

    def apply_distorting(
        self, x: Complex[Tensor, "batch uses"], state: ImpairedState, data: Int[Tensor, " data"]
    ) -> tuple[Received, Distortion]:
        """Apply stages and flat channel, and keep the amplifier apart from the other gains.

        Args:
            x: Data symbols and pilots, complex [batch, uses].
            state: State from `draw` for as many items and uses.
            data: Positions of the data symbols; all others are pilots of one amplitude.

        Returns:
            The received symbols, with the gain h g of everything but the amplifiers and the N0 of the flat
            channel, and the effect of the amplifiers on data and pilots.
        """
        sent = apply_stages(self.stages, x, state.stages)
        received = self.channel.apply(sent, state.medium)
        linear = [
            (stage, own) for stage, own in zip(self.stages, state.stages, strict=True) if not _clips(stage)
        ]
        ((_, gain),) = gains_of_stages(
            [stage for stage, _ in linear], [own for _, own in linear], x.shape[1], x.device
        )
        told = (
            _distortion(x.detach(), gain.to(torch.complex128), sent.detach(), data)
            if self._clips
            else undistorted(received.noise_var)
        )
        return Received(received.y, received.h * gain.to(x), received.noise_var), told

    def correlation(
        self, first: Int[Tensor, "..."], second: Int[Tensor, "..."]
    ) -> Float[Tensor, "..."] | Complex[Tensor, "..."]:
        """Autocorrelation of the gain h g without amplifiers: that of the flat channel times the stages'."""
        lag = (first - second).double()
        linear = [stage for stage in self.stages if not _clips(stage)]
        parts = (p.correlation(lag) * sum(p.powers) for p in compose(linear, SINGLE_CARRIER))
        return self.channel.correlation(first, second) * sum(parts, torch.zeros_like(lag))

    @property
    def _clips(self) -> bool:
        return any(_clips(stage) for stage in self.stages)

    def overhead(self, uses: int) -> int:
        """Channel uses added to `uses` data symbols by the flat channel; stages add none."""
        return self.channel.overhead(uses)

    def data_uses(self, total: int) -> int:
        """Data symbols that fit `total` channel uses of the flat channel; stages cost none."""
        return self.channel.data_uses(total)


def _clips(stage: Stage) -> bool:
    return isinstance(stage, ClippedAmplifier)


def undistorted(like: Float[Tensor, "batch _"]) -> Distortion:
    """Effect of a linear amplifier: gain 1, no distortion.

    Args:
        like: Any real tensor [batch, ...] of the device and precision wanted.

    Returns:
        Gains 1 and power 0, [batch, 1].
    """
    one = torch.ones_like(like[:, :1])
    return Distortion(one, 0 * one, one)


def _distortion(x: Tensor, turn: Tensor, sent: Tensor, data: Tensor) -> Distortion:
    """Regression of what is sent on the symbols x, which everything but the amplifiers turns."""
    turn = turn.expand(x.shape)
    x = turn * x
    pilots = torch.ones(x.shape[1], dtype=torch.bool, device=x.device).index_fill(0, data, False)
    gain, pilot_gain = (_slope(x[:, part], sent[:, part]) for part in (data, pilots))
    left, turned = (
        torch.view_as_real(part).square().sum((1, 2))[:, None]
        for part in (sent[:, data] - gain * x[:, data], turn[:, data])
    )
    power = left / turned.clamp_min(TINY_POWER)
    return Distortion(*(part.float() for part in (gain, power, pilot_gain)))


def _slope(x: Tensor, y: Tensor) -> Tensor:
    """Real factor a of least |y - a x|^2 for every item, [batch, 1]; 1 where x is 0 or empty."""
    energy = torch.view_as_real(x).square().sum((1, 2))[:, None]
    common = (x.conj() * y).real.sum(1, keepdim=True)
    return torch.where(energy > 0, common / energy.clamp_min(TINY_POWER), 1.0)
