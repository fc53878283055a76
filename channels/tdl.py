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

# Largest error of a gain interpolated within an OFDM symbol: -160 dB.
SMALLEST_DEVIATION = 1e-8

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
        numerology: Layout of the samples.
    """

    angle: Float[Tensor, "batch taps sinusoids"]
    phase: Float[Tensor, "batch taps sinusoids"]
    line_of_sight_phase: Float[Tensor, "batch 1"]
    numerology: Numerology


@dataclass(frozen=True)
class TDL:
    """Waveform stage: multipath fading of a tapped delay line.

    y(t) = sum_l g_l(t) x(t - tau_l),  H(t, f) = sum_l g_l(t) e^(-2 pi j f tau_l),  sum_l E|g_l|^2 = 1.

    Taps fade independently, each Rayleigh with the autocorrelation J0(2 pi f_D s). The first tap of profiles
    D and E is Rician: its line of sight is shifted by 0.7 f_D and has a random phase. Gains are sums of 64
    sinusoids per tap, as in `JakesFading`.

    Delays are exact and in general not whole numbers of samples: x(t - tau) is the sum of the complex
    exponentials of an OFDM symbol, each turned by its own phase -2 pi f tau. An echo longer than the prefix
    brings the end of the symbol before. Samples of the prefix, which the receiver drops, repeat the end of
    the symbol. H(t, f) is computed at a few instants of each OFDM symbol and interpolated between them by a
    polynomial, to within 1e-8.

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

    def taps(self, sample_rate_hz: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Rayleigh taps of the delay line at a given sample rate.

        Args:
            sample_rate_hz: Samples per second.

        Returns:
            Delays in samples, in the order of the table, and average powers; with the line of sight the
            powers add up to 1.
        """
        first = 1 if self._has_line_of_sight else 0
        scale = self.delay_spread_ns * 1e-9 * sample_rate_hz
        delays = tuple(delay * scale for delay, _ in PROFILES[self.profile][first:])
        return delays, self._powers()[first:]

    def draw(self, samples: int, numerology: Numerology, rng: Streams) -> TDLState:
        """Draw angles and phases of all taps; they do not depend on the number of samples."""
        shape = (len(self.taps(1.0)[0]), TAP_SINUSOIDS)
        return TDLState(
            rng.uniform("angle", shape),
            rng.uniform("phase", shape),
            rng.uniform("line of sight", (1,)),
            numerology,
        )

    def apply(self, x: Complex[Tensor, "batch samples"], state: TDLState) -> Complex[Tensor, "batch samples"]:
        """Filter each OFDM symbol by the time-varying response; before the first one nothing was sent."""
        n = state.numerology
        symbols = x.shape[1] // n.symbol_samples
        blocks = x.reshape(x.shape[0], symbols, n.symbol_samples)
        sent = _transform(blocks[..., n.prefix :])
        delays, _ = self.taps(n.sample_rate_hz)
        bins = torch.arange(n.fft_size, device=x.device, dtype=torch.float64)
        bins = torch.where(bins < n.fft_size / 2, bins, bins - n.fft_size)
        turns = -2 * math.pi / n.fft_size * torch.tensor(delays, device=x.device)[:, None].double() * bins
        steering = torch.polar(torch.ones_like(turns), turns).to(x)  # [taps, bins]
        knots, basis = self._interpolation(n)
        basis, gains = basis.to(x), self._gains(state, symbols, knots).to(x)
        y = torch.zeros_like(blocks)
        for knot in range(len(knots)):
            response = gains[..., knot].movedim(1, 2) @ steering  # [batch, symbols or 1, bins]
            period = _inverse_transform(sent * response)
            y = y + basis[knot] * torch.cat((period[..., n.fft_size - n.prefix :], period), -1)
        for tap, late in enumerate([math.ceil(delay) for delay in delays]):
            if late > n.prefix:  # the first samples of the window belong to the symbol before
                echo = _inverse_transform(sent * steering[tap])
                time = torch.arange(late, device=x.device)
                before = torch.nn.functional.pad(echo, (0, 0, 1, 0))[:, :-1, time % n.fft_size]
                own = echo[..., (time - n.prefix) % n.fft_size]
                turned: Tensor = (gains[:, tap] @ basis[:, :late]) * (before - own)
                y = y + torch.nn.functional.pad(turned, (0, n.symbol_samples - late))
        return y.flatten(1)

    def gains(
        self, state: TDLState, samples: int
    ) -> Iterator[tuple[float, Complex[Tensor, "batch #samples"]]]:
        """Delay of each tap in samples and its gain over time, a single column if nothing moves."""
        n = state.numerology
        delays, _ = self.taps(n.sample_rate_hz)
        knots, basis = self._interpolation(n)
        gains = self._gains(state, math.ceil(samples / n.symbol_samples), knots)
        basis = basis.to(gains)
        for tap, delay in enumerate(delays):
            yield (
                delay,
                (gains[:, tap] @ basis).flatten(1)[:, :samples] if self.doppler_hz else gains[:, tap, 0],
            )

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

        return rayleigh, Paths((0.0,), (self.line_of_sight_power,), shift)

    def _gains(
        self, state: TDLState, symbols: int, knots: Tensor
    ) -> Complex[Tensor, "batch taps symbols knots"]:
        """Gain of each tap at instants of each OFDM symbol; of the first symbol alone if nothing moves."""
        n = state.numerology
        symbols = symbols if self.doppler_hz else 1
        doppler = self.doppler_hz / n.sample_rate_hz * n.symbol_samples  # cycles per OFDM symbol
        parts: list[Tensor] = []
        for start in (float(knot) / n.symbol_samples for knot in knots):
            h = sum_of_sinusoids(state.angle, state.phase, doppler, symbols, start)
            h = h * torch.tensor(self.taps(1.0)[1], device=h.device)[:, None].sqrt()
            if self._has_line_of_sight:
                time = start + torch.arange(symbols, device=h.device, dtype=torch.float64)
                turns = LINE_OF_SIGHT_SHIFT * doppler * time + state.line_of_sight_phase
                line_of_sight = torch.polar(torch.ones_like(turns), 2 * math.pi * turns).to(h)
                h = torch.cat(
                    (h[:, :1] + self.line_of_sight_power**0.5 * line_of_sight[:, None], h[:, 1:]), 1
                )
            parts.append(h)
        return torch.stack(parts, -1)

    def _interpolation(self, n: Numerology) -> tuple[Float[Tensor, " knots"], Float[Tensor, "knots samples"]]:
        """Instants of an OFDM symbol in samples, and the polynomials that interpolate between them.

        Between Q Chebyshev knots, e^(j a u) on -1..1 is interpolated with an error of at most
        2 (a/2)^Q / Q!.
        """
        half = (n.symbol_samples - 1) / 2
        turns = 2 * math.pi * self.doppler_hz / n.sample_rate_hz * half
        count, error = 1, turns
        while error > SMALLEST_DEVIATION and count < n.symbol_samples:
            count += 1
            error *= turns / 2 / count
        time = torch.arange(n.symbol_samples, dtype=torch.float64)
        if count == n.symbol_samples:
            return time, torch.eye(count, dtype=torch.float64)
        knots = half * (1 - torch.cos(math.pi * (torch.arange(count, dtype=torch.float64) + 0.5) / count))
        others = ~torch.eye(count, dtype=torch.bool)
        apart = torch.where(others, knots[:, None] - knots, 1.0)
        factors = torch.where(others[:, :, None], (time - knots[:, None]) / apart[:, :, None], 1.0)
        return knots, factors.prod(1)

    @property
    def _has_line_of_sight(self) -> bool:
        return self.profile in ("D", "E")

    def _powers(self) -> tuple[float, ...]:
        linear = [10 ** (power_db / 10) for _, power_db in PROFILES[self.profile]]
        return tuple(power / sum(linear) for power in linear)


def _transform(x: Tensor) -> Tensor:
    return torch.fft.fft(x)  # pyright: ignore


def _inverse_transform(x: Tensor) -> Tensor:
    return torch.fft.ifft(x)  # pyright: ignore
