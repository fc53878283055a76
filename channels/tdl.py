"""Tapped delay lines of 3GPP TR 38.901, multipath with Doppler."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from channels.channel import spell
from channels.errors import ChannelError
from channels.fading import clarke_correlation, sum_of_sinusoids
from channels.streams import Streams
from channels.waveform import Numerology, Paths

# E|g|^4 of a tap is 2 - 1/64; the gain of a subcarrier, a sum over taps, is nearer to Gaussian.
TAP_SINUSOIDS = 64

# The line of sight has its Doppler shift at 0.7 times the largest (38.901, 7.7.2).
LINE_OF_SIGHT_SHIFT = 0.7

# Normalised delay, and power in dB, of each tap: 38.901, tables 7.7.2-1 to 7.7.2-5. In D and E, the first row
# is the line of sight and the second the Rayleigh part of the first tap.
PROFILES: dict[str, tuple[tuple[float, float], ...]] = {
    "A": (
        (0.0000, -13.4), (0.3819, 0.0), (0.4025, -2.2), (0.5868, -4.0), (0.4610, -6.0), (0.5375, -8.2),
        (0.6708, -9.9), (0.5750, -10.5), (0.7618, -7.5), (1.5375, -15.9), (1.8978, -6.6), (2.2242, -16.7),
        (2.1718, -12.4), (2.4942, -15.2), (2.5119, -10.8), (3.0582, -11.3), (4.0810, -12.7), (4.4579, -16.2),
        (4.5695, -18.3), (4.7966, -18.9), (5.0066, -16.6), (5.3043, -19.9), (9.6586, -29.7),
    ),
    "B": (
        (0.0000, 0.0), (0.1072, -2.2), (0.2155, -4.0), (0.2095, -3.2), (0.2870, -9.8), (0.2986, -1.2),
        (0.3752, -3.4), (0.5055, -5.2), (0.3681, -7.6), (0.3697, -3.0), (0.5700, -8.9), (0.5283, -9.0),
        (1.1021, -4.8), (1.2756, -5.7), (1.5474, -7.5), (1.7842, -1.9), (2.0169, -7.6), (2.8294, -12.2),
        (3.0219, -9.8), (3.6187, -11.4), (4.1067, -14.9), (4.2790, -9.2), (4.7834, -11.3),
    ),
    "C": (
        (0.0000, -4.4), (0.2099, -1.2), (0.2219, -3.5), (0.2329, -5.2), (0.2176, -2.5), (0.6366, 0.0),
        (0.6448, -2.2), (0.6560, -3.9), (0.6584, -7.4), (0.7935, -7.1), (0.8213, -10.7), (0.9336, -11.1),
        (1.2285, -5.1), (1.3083, -6.8), (2.1704, -8.7), (2.7105, -13.2), (4.2589, -13.9), (4.6003, -13.9),
        (5.4902, -15.8), (5.6077, -17.1), (6.3065, -16.0), (6.6374, -15.7), (7.0427, -21.6), (8.6523, -22.8),
    ),
    "D": (
        (0.0000, -0.2), (0.0000, -13.5), (0.0350, -18.8), (0.6120, -21.0), (1.3630, -22.8), (1.4050, -17.9),
        (1.8040, -20.1), (2.5960, -21.9), (1.7750, -22.9), (4.0420, -27.8), (7.9370, -23.6), (9.4240, -24.8),
        (9.7080, -30.0), (12.5250, -27.7),
    ),
    "E": (
        (0.0000, -0.03), (0.0000, -22.03), (0.5133, -15.8), (0.5440, -18.1), (0.5630, -19.8), (0.5440, -22.9),
        (0.7112, -22.4), (1.9092, -18.6), (1.9293, -20.8), (1.9589, -22.6), (2.6426, -22.3), (3.7136, -25.6),
        (5.4524, -20.2), (12.0034, -29.8), (20.6519, -29.2),
    ),
}  # fmt: skip


@dataclass(frozen=True, eq=False, slots=True)
class TDLState:
    """Random quantities of one tapped delay line per item.

    Args:
        angle: Positions of the arrivals within their sectors, uniform on [0, 1), [batch, taps, sinusoids].
        phase: Phases of the sinusoids in cycles, [batch, taps, sinusoids].
        line_of_sight_phase: Phase of the line of sight in cycles, [batch, 1].
        delays: Delay of each tap in samples.
        powers: Average power of each Rayleigh tap.
        doppler: Maximum Doppler shift in cycles per sample.
    """

    angle: Float[Tensor, "batch taps sinusoids"]
    phase: Float[Tensor, "batch taps sinusoids"]
    line_of_sight_phase: Float[Tensor, "batch 1"]
    delays: tuple[int, ...]
    powers: tuple[float, ...]
    doppler: float


@dataclass(frozen=True)
class TDL:
    """Waveform stage: multipath fading of a tapped delay line.

    y(t) = sum_l g_l(t) x(t - d_l),  sum_l E|g_l|^2 = 1.

    Taps fade independently, each Rayleigh with the autocorrelation J0(2 pi f_D s). The first tap of profiles
    D and E is Rician: its line of sight is shifted by 0.7 f_D and has a random phase. Delays are rounded to
    the nearest sample, and taps with equal rounded delay are merged by adding their powers: where the sample
    period exceeds the delay spread, the line is nearly flat. Gains are sums of 64 sinusoids per tap, as in
    `JakesFading`.

    Args:
        profile: "A" to "E"; D and E have a line of sight, with K = 13.3 dB and 22 dB in the first tap.
        delay_spread_ns: RMS delay spread in ns that scales the tabulated delays, at least 0; 10 is very
            short, 100 nominal, 1000 very long (table 7.7.3-1).
        doppler_hz: f_D, maximum Doppler shift in Hz, at least 0.

    Raises:
        ChannelError: The profile does not exist, or a number is outside its range.

    Reference:
        3GPP TR 38.901, 7.7.2 and 7.7.3.
    """

    profile: str
    delay_spread_ns: float
    doppler_hz: float = 0.0

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ChannelError(f"TDL profile {self.profile!r} is not in TR 38.901; choose A, B, C, D or E")
        if not 0 <= self.delay_spread_ns < math.inf:
            raise ChannelError(f"delay spread of {self.delay_spread_ns:g} ns must be finite and at least 0")
        if not 0 <= self.doppler_hz < math.inf:
            raise ChannelError(f"Doppler shift of {self.doppler_hz:g} Hz must be finite and at least 0")

    @property
    def name(self) -> str:
        """Canonical name, for instance "tdl-a:100:10": profile, delay spread in ns, Doppler shift in Hz."""
        return f"tdl-{self.profile.lower()}:{spell(self.delay_spread_ns)}:{spell(self.doppler_hz)}"

    @property
    def line_of_sight_power(self) -> float:
        """Share of the total power in the line of sight, 0..1; 0 for profiles A to C."""
        return self._powers()[0] if self._has_line_of_sight else 0.0

    def taps(self, sample_rate_hz: float) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Rayleigh taps of the delay line at a given sample rate.

        Args:
            sample_rate_hz: Samples per second.

        Returns:
            Delays in samples, ascending, and average powers; with the line of sight the powers add up to 1.
        """
        first = 1 if self._has_line_of_sight else 0
        merged: dict[int, float] = {}
        for (delay, _), power in list(zip(PROFILES[self.profile], self._powers(), strict=True))[first:]:
            samples = round(delay * self.delay_spread_ns * 1e-9 * sample_rate_hz)
            merged[samples] = merged.get(samples, 0.0) + power
        return tuple(sorted(merged)), tuple(merged[delay] for delay in sorted(merged))

    def draw(self, samples: int, numerology: Numerology, rng: Streams) -> TDLState:
        """Draw angles and phases of all taps; they do not depend on the number of samples."""
        delays, powers = self.taps(numerology.sample_rate_hz)
        shape = (len(delays), TAP_SINUSOIDS)
        return TDLState(
            rng.uniform("angle", shape),
            rng.uniform("phase", shape),
            rng.uniform("line of sight", (1,)),
            delays,
            powers,
            self.doppler_hz / numerology.sample_rate_hz,
        )

    def apply(self, x: Complex[Tensor, "batch samples"], state: TDLState) -> Complex[Tensor, "batch samples"]:
        """Convolve with the time-varying taps; before the first sample nothing was sent."""
        y = torch.zeros_like(x)
        for delay, gain in self.gains(state, x.shape[1]):
            y = y + gain.to(x) * torch.nn.functional.pad(x, (delay, 0))[:, : x.shape[1]]
        return y

    def gains(self, state: TDLState, samples: int) -> Iterator[tuple[int, Complex[Tensor, "batch #samples"]]]:
        """Delay of each tap in samples and its gain over time, a single column if nothing moves."""
        changing = samples if state.doppler else 1
        for tap, delay in enumerate(state.delays):
            h = sum_of_sinusoids(state.angle[:, tap], state.phase[:, tap], state.doppler, changing)
            h = h * state.powers[tap] ** 0.5
            if delay == 0 and self._has_line_of_sight:
                time = torch.arange(changing, device=h.device, dtype=torch.float64)
                turns = LINE_OF_SIGHT_SHIFT * state.doppler * time + state.line_of_sight_phase
                line_of_sight = torch.polar(torch.ones_like(turns), 2 * math.pi * turns).to(h)
                h = h + self.line_of_sight_power**0.5 * line_of_sight
            yield delay, h

    def paths(self, numerology: Numerology) -> tuple[Paths, ...]:
        """Second moments of the medium: the Rayleigh taps and, for profiles D and E, the line of sight."""
        doppler = self.doppler_hz / numerology.sample_rate_hz
        rayleigh = Paths(
            *self.taps(numerology.sample_rate_hz), lambda lags: clarke_correlation(doppler * lags)
        )
        if not self._has_line_of_sight:
            return (rayleigh,)

        def shift(lags: Tensor) -> Tensor:
            turns = 2 * math.pi * LINE_OF_SIGHT_SHIFT * doppler * lags.double()
            return torch.polar(torch.ones_like(turns), turns)

        return rayleigh, Paths((0,), (self.line_of_sight_power,), shift)

    @property
    def _has_line_of_sight(self) -> bool:
        return self.profile in ("D", "E")

    def _powers(self) -> tuple[float, ...]:
        linear = [10 ** (power_db / 10) for _, power_db in PROFILES[self.profile]]
        return tuple(power / sum(linear) for power in linear)
