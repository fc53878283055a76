"""Impairments of a radio that act on the waveform: clipping, phase noise, carrier frequency offset."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Complex, Float, Int
from scipy.special import lambertw  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
from torch import Tensor

from channels.channel import Received, SnrDb, check_state, spell
from channels.equalize import SMALLEST_GAIN_POWER
from channels.errors import ChannelError
from channels.estimation import PilotLayout, insert_pilots, interpolate_gains
from channels.fading import FlatChannel
from channels.streams import Streams
from channels.waveform import Numerology, Paths, Stage, apply_stages, compose, draw_stages

# One symbol is one sample, a million of them in a second.
SINGLE_CARRIER = Numerology(1, 1, 0, 1e6)

# Data symbols between two tracking pilots: 6 % of the channel uses.
TRACKING_SPACING = 15

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

    def gains(self, state: None, samples: int) -> Iterator[tuple[float, Complex[Tensor, "1 1"]]]:
        """Constant gain of a clipped Gaussian waveform at delay 0, without the distortion (Bussgang)."""
        yield 0.0, torch.full((1, 1), self._useful() ** 0.5, dtype=torch.complex64)

    def paths(self, numerology: Numerology) -> tuple[Paths, ...]:
        """One path with the undistorted share of the power of a clipped Gaussian waveform."""
        return (Paths((0.0,), (self._useful(),), torch.ones_like),)

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
        """Draw the phase of every sample in radians, a random walk from 0 by N(0, 2 pi linewidth T) steps."""
        variance = 2 * math.pi * self.linewidth_hz / numerology.sample_rate_hz
        steps = rng.normal("phase noise", (samples,)).double() * math.sqrt(variance)
        return steps.cumsum(1) - steps[:, :1]

    def apply(
        self, x: Complex[Tensor, "batch samples"], state: Float[Tensor, "_ _"]
    ) -> Complex[Tensor, "batch samples"]:
        """Rotate every sample by its phase."""
        check_state(x, state)
        return x * torch.polar(torch.ones_like(state), state).to(x)

    def gains(
        self, state: Float[Tensor, "batch samples"], samples: int
    ) -> Iterator[tuple[float, Complex[Tensor, "batch samples"]]]:
        """Rotation e^(j phi(t)) of every sample, as a gain at delay 0."""
        yield 0.0, torch.polar(torch.ones_like(state), state)

    def paths(self, numerology: Numerology) -> tuple[Paths, ...]:
        """One path of power 1 whose autocorrelation decays as e^(-pi linewidth T |s|)."""
        decay = math.pi * self.linewidth_hz / numerology.sample_rate_hz
        return (Paths((0.0,), (1.0,), lambda lags: torch.exp(-decay * lags.abs().double())),)


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
        time = torch.arange(samples, device=offset.device, dtype=torch.float32) / numerology.fft_size
        return 2 * math.pi * offset * time

    def apply(
        self, x: Complex[Tensor, "batch samples"], state: Float[Tensor, "_ _"]
    ) -> Complex[Tensor, "batch samples"]:
        """Rotate every sample by its phase."""
        check_state(x, state)
        return x * torch.polar(torch.ones_like(state), state).to(x)

    def gains(
        self, state: Float[Tensor, "batch samples"], samples: int
    ) -> Iterator[tuple[float, Complex[Tensor, "batch samples"]]]:
        """Rotation e^(2 pi j e t / N) of every sample, as a gain at delay 0."""
        yield 0.0, torch.polar(torch.ones_like(state), state)

    def paths(self, numerology: Numerology) -> tuple[Paths, ...]:
        """One path of power 1 with a sinc autocorrelation, the mean of e^(2 pi j e s / N) over e."""
        rate = 2 * self.subcarrier_fraction / numerology.fft_size
        return (Paths((0.0,), (1.0,), lambda lags: torch.sinc(rate * lags.double())),)


def rotates(stages: Sequence[Stage]) -> bool:
    """Whether a stage turns the phase, which a receiver has to track.

    Args:
        stages: Stages of a waveform.

    Returns:
        Whether `PhaseNoise` or `CarrierOffset` is among them.
    """
    return any(isinstance(stage, PhaseNoise | CarrierOffset) for stage in stages)


def check_tracking(tracking: int | None) -> None:
    """Check the distance of tracking pilots.

    Args:
        tracking: Distance in symbols or subcarriers, 0 for no pilots, or None.

    Raises:
        ChannelError: The distance is negative.
    """
    if tracking is not None and tracking < 0:
        raise ChannelError(f"tracking pilots at every {tracking}th place: give at least 1, or 0 for none")


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

    The receiver is told h, as by the flat channel alone, and c, but not g. It tracks the phase by pilots: one
    of power 1 precedes every `tracking` data symbols, one follows the last. The rotation seen at a pilot is
    g + noise of variance N0 / |h c_p|^2, where c_p is the gain of the pilots; between pilots it is
    interpolated by the Wiener filter over the 8 nearest, which knows the autocorrelation of g. `noise_var` is
    N0 + |h|^2 E|d|^2 plus |h c|^2 times the mean square error of that estimate, in closed form. `GenieCSI`
    tells the receiver g, `PilotAided` estimates h g as a whole from its own pilots, `NoCSI` takes it for 1.

    What clipping does depends on the symbols: QPSK passes unchanged, Gaussian symbols do not. c and E|d|^2
    are therefore measured on the symbols of the item, like an error vector magnitude. A receiver knows these
    two numbers from the amplifier and the constellation; they are part of the gain and the noise variance
    that every receiver knows for free.

    Args:
        channel: The flat channel behind the stages.
        stages: `ClippedAmplifier`, `PhaseNoise` or `CarrierOffset`, in the order in which they act.
            Frequencies in Hz refer to 10^6 symbols per second.
        tracking: Data symbols between two tracking pilots, at least 1; 0 for no pilots, where the receiver
            knows the phase of the first symbol alone; None for 15 if a stage turns the phase, else 0.

    Raises:
        ChannelError: A stage spreads the symbols in time, there is no stage, or `tracking` is negative.

    Reference:
        3GPP TS 38.211, 6.4.1.2, for phase-tracking reference signals.
    """

    channel: FlatChannel
    stages: tuple[Stage, ...]
    tracking: int | None = None

    def __post_init__(self) -> None:
        if not self.stages:
            raise ChannelError(
                f"no stages before {self.channel.name}; give at least one, or the channel alone"
            )
        if any(max(paths.delays) > 0 for paths in compose(self.stages, SINGLE_CARRIER)):
            raise ChannelError(
                "multipath needs an equaliser; put TDL into an OFDM waveform instead, or give it a delay "
                "spread of 0 for flat fading"
            )
        check_tracking(self.tracking)

    @property
    def name(self) -> str:
        """Canonical name, for instance "impaired:clip:3+phase-noise:100/awgn"."""
        parts = [stage.name for stage in self.stages]
        if self.tracking is not None:
            parts.append(f"tracking:{self.tracking}")
        return f"impaired:{'+'.join(parts)}/{self.channel.name}"

    def draw(self, uses: int, snr_db: SnrDb, rng: Streams) -> ImpairedState:
        """Draw the states of all stages, and of the flat channel, for data symbols and pilots together."""
        total = uses + self._pilots(uses)
        return ImpairedState(
            draw_stages(self.stages, total, SINGLE_CARRIER, rng), self.channel.draw(total, snr_db, rng)
        )

    def apply(self, x: Complex[Tensor, "batch uses"], state: ImpairedState) -> Received:
        """Apply stages and flat channel; the receiver is told gain and noise, and tracks the rotation."""
        data, pilot = self._places(x)
        received, told = self._cross(insert_pilots(x, data, len(pilot)), state, data, rotated=False)
        heard = _with_distortion(received, told, data)
        if not rotates(self.stages):
            return heard
        power = torch.view_as_real(received.h.resolve_conj()).square().sum(-1)
        if len(pilot):
            seen_power = power[:, pilot].clamp_min(SMALLEST_GAIN_POWER)
            seen = received.y[:, pilot] * received.h[:, pilot].conj() / seen_power / told.pilot_gain
            noise = received.noise_var.expand_as(power)[:, pilot] / seen_power / told.pilot_gain.square()
            rotation, error = interpolate_gains(seen, noise, data, pilot, self._coherence)
        else:
            expected = self._coherence(data, torch.zeros_like(data))
            rotation, error = expected.to(x), 1 - expected.abs().square()
        missed = told.gain.square() * power[:, data] * error.to(power)
        return Received(heard.y, heard.h * rotation, heard.noise_var + missed)

    def apply_genie(self, x: Complex[Tensor, "batch uses"], state: ImpairedState) -> Received:
        """Send data and pilots as `apply` does, but report the true gain h g c, rotation included."""
        data, pilot = self._places(x)
        received, told = self._cross(insert_pilots(x, data, len(pilot)), state, data, rotated=True)
        return _with_distortion(received, told, data)

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
        return self._cross(x, state, data, rotated=True)

    def correlation(
        self, first: Int[Tensor, "..."], second: Int[Tensor, "..."]
    ) -> Float[Tensor, "..."] | Complex[Tensor, "..."]:
        """Autocorrelation of the gain h g without amplifiers: that of the flat channel times the stages'."""
        lag = (first - second).double()
        linear = [stage for stage in self.stages if not isinstance(stage, ClippedAmplifier)]
        parts = (p.correlation(lag) * sum(p.powers) for p in compose(linear, SINGLE_CARRIER))
        return self.channel.correlation(first, second) * sum(parts, torch.zeros_like(lag))

    @property
    def _clips(self) -> bool:
        return any(isinstance(stage, ClippedAmplifier) for stage in self.stages)

    def overhead(self, uses: int) -> int:
        """Channel uses added to `uses` data symbols: tracking pilots, and overhead of the flat channel."""
        pilots = self._pilots(uses)
        return pilots + self.channel.overhead(uses + pilots)

    def data_uses(self, total: int) -> int:
        """Data symbols that fit `total` channel uses beside pilots and the flat channel's overhead."""
        total = self.channel.data_uses(total)
        return PilotLayout(self._spacing).data_uses(total) if self._spacing else total

    @property
    def _spacing(self) -> int:
        """Data symbols between two tracking pilots, 0 without pilots."""
        if self.tracking is None:
            return TRACKING_SPACING if rotates(self.stages) else 0
        return self.tracking

    def _pilots(self, uses: int) -> int:
        return PilotLayout(self._spacing).pilots(uses) if self._spacing else 0

    def _places(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Places of data and tracking pilots in what is sent."""
        if self._spacing:
            return PilotLayout(self._spacing).places(x.shape[1], x.device)
        data = torch.arange(x.shape[1], device=x.device)
        return data, data[:0]

    def _cross(
        self, symbols: Tensor, state: ImpairedState, data: Tensor, rotated: bool
    ) -> tuple[Received, Distortion]:
        """What arrives, with the gain of linear stages and flat channel, and the amplifier's effect."""
        sent = apply_stages(self.stages, symbols, state.stages)
        received = self.channel.apply(sent, state.medium)
        linear = [
            (stage, part)
            for stage, part in zip(self.stages, state.stages, strict=True)
            if not isinstance(stage, ClippedAmplifier)
        ]
        gain = _gain(linear, symbols)
        told = undistorted(received.noise_var)
        if self._clips:
            told = _distortion(symbols.detach(), gain.to(torch.complex128), sent.detach(), data)
        if not rotated:
            gain = _gain([(stage, part) for stage, part in linear if not rotates((stage,))], symbols)
        return Received(received.y, received.h * gain, received.noise_var), told

    def _coherence(self, first: Tensor, second: Tensor) -> Tensor:
        """Autocorrelation of the rotation alone."""
        lag = (first - second).double()
        turned = [stage for stage in self.stages if rotates((stage,))]
        parts = (p.correlation(lag) for p in compose(turned, SINGLE_CARRIER))
        return sum(parts, torch.zeros_like(lag))


def _gain(linear: list[tuple[Stage, Any]], like: Tensor) -> Tensor:
    """Product of the gains of stages, [1 or batch, 1 or uses]."""
    gain = torch.ones(1, 1, dtype=like.dtype, device=like.device)
    for stage, part in linear:
        gain = gain * sum(g.to(like) for _, g in stage.gains(part, like.shape[1]))
    return gain


def _with_distortion(received: Received, told: Distortion, data: Tensor) -> Received:
    """Reception of the data, of gain h c and noise N0 + |h|^2 E|d|^2."""
    noise_var = received.noise_var if received.noise_var.shape[1] == 1 else received.noise_var[:, data]
    h = received.h[:, data]
    if bool((told.power > 0).any()):
        noise_var = noise_var + told.power * torch.view_as_real(h.resolve_conj()).square().sum(-1)
    return Received(received.y[:, data], told.gain * h, noise_var)


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
