"""OFDM: symbols on subcarriers, cyclic prefix, pilots, and a waveform that passes the medium in time."""

import bisect
import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from channels.channel import Received, SnrDb, check_state, noise_var_column
from channels.errors import ChannelError
from channels.estimation import Comb, Taps, linear_gains, wiener_gains
from channels.impairments import TINY_POWER, check_tracking, rotates
from channels.streams import NamedStreams, Streams
from channels.waveform import Numerology, Stage, compose, draw_stages, gains_of_stages

# Distance in subcarriers of the tracking pilots where a stage turns the phase: 4 of 64 subcarriers.
TRACKING_SUBCARRIERS = 16


@dataclass(frozen=True)
class Pilots:
    """Positions of pilots in the slots of an OFDM grid, and the interpolation of the gain between them.

    In the pilot symbols of a slot, every `every_subcarriers`-th subcarrier is a pilot of power 1. Block type:
    `Pilots(7, (0,), 1)`; comb type: `Pilots(1, (0,), 4)`. The gain is estimated slot by slot: least squares
    at the pilots, then linear interpolation in time and frequency ("linear"), or the Wiener filter of the
    known second-order statistics ("wiener", linear minimum mean square error).

    Args:
        slot_symbols: OFDM symbols per slot, at least 1.
        symbols: OFDM symbols with pilots within a slot, ascending; the first is 0.
        every_subcarriers: Distance of the pilots in subcarriers, at least 1.
        interpolation: "linear" or "wiener".

    Raises:
        ChannelError: The slot does not start with pilots, consists of pilots only, or the interpolation is
            unknown.

    Reference:
        Hoeher, Kaiser and Robertson, Two-Dimensional Pilot-Symbol-Aided Channel Estimation by Wiener
        Filtering, 1997.
    """

    slot_symbols: int = 14
    symbols: tuple[int, ...] = (0, 7)
    every_subcarriers: int = 2
    interpolation: str = "wiener"

    def __post_init__(self) -> None:
        ascending = all(a < b for a, b in itertools.pairwise(self.symbols))
        if not self.symbols or self.symbols[0] != 0 or not ascending or self.symbols[-1] >= self.slot_symbols:
            raise ChannelError(
                f"pilot symbols {self.symbols} must ascend from 0 within the {self.slot_symbols} of a slot"
            )
        if self.every_subcarriers < 1:
            raise ChannelError(f"pilots on every {self.every_subcarriers}th subcarrier: give at least 1")
        if self.every_subcarriers == 1 and len(self.symbols) == self.slot_symbols:
            raise ChannelError("a slot that is all pilots carries no data; leave some symbols or subcarriers")
        if self.interpolation not in ("linear", "wiener"):
            raise ChannelError(f"interpolation {self.interpolation!r} is unknown; choose linear or wiener")

    @property
    def name(self) -> str:
        """Canonical name, for instance "pilots:14:0-7:2:wiener"."""
        symbols = "-".join(map(str, self.symbols))
        return f"pilots:{self.slot_symbols}:{symbols}:{self.every_subcarriers}:{self.interpolation}"


@dataclass(frozen=True, eq=False, slots=True)
class OFDMState:
    """States of the waveform stages and noise, for one OFDM transmission.

    Args:
        stages: One state per stage, in the order in which the samples pass them.
        noise: Noise of every sample, complex [batch, samples], of variance N0.
        noise_var: N0 per sample, [batch, 1].
    """

    stages: tuple[Any, ...]
    noise: Complex[Tensor, "batch samples"]
    noise_var: Float[Tensor, "batch 1"]


@dataclass(frozen=True)
class OFDM:
    """Orthogonal frequency-division multiplexing over a waveform channel, with pilots and channel estimation.

    s = IDFT(X) sqrt(N/U), with a copy of its end in front;  r = medium(s) + n,  n ~ CN(0, N0);
    Y = DFT(r) sqrt(U/N) = H X + noise,  both transforms unitary, U of N subcarriers in use.

    A channel use is one sample in time: prefix, guards and pilots are counted. The waveform has average power
    1 and `snr_db` is the SNR of its samples; since guards carry no power, a used subcarrier has N/U times
    that SNR. The receiver is synchronised, drops the prefix, and estimates the gain of each data symbol from
    pilots (wrap the channel in `GenieCSI` to give it the true gain). Its `noise_var` is N0 U/N, plus the
    power of interference on the used subcarriers that follows from the second-order statistics of the stages
    (Doppler, phase noise, offset, echoes longer than the prefix), plus the distortion of an amplifier, plus
    the error of the estimate. It knows N0 and these statistics. The gain of an amplifier for data and for
    pilots and the power of its distortion are measured on the item, as an error vector magnitude is; a
    receiver knows these numbers from amplifier and constellation. Interference and distortion are taken as
    white over the used subcarriers; what falls on guards is not counted.

    The phase common to all subcarriers of an OFDM symbol is part of the gain. Where a stage turns it
    (`PhaseNoise`, `CarrierOffset`), symbols without pilots carry tracking pilots, and the Wiener filter
    estimates the gain of every symbol from all pilots of its slot, given the autocorrelation of the rotation.

    This is not a bit-exact 5G numerology: slots, pilots and prefix are those given here. If the data end
    within the last OFDM symbol, it is filled with zeros, which count.

    Args:
        waveform: Stages in the order in which the samples pass them, for instance `(ClippedAmplifier(6.0),
            TDL("A", 100.0, 10.0), PhaseNoise(100.0))`.
        numerology: FFT size, used subcarriers, prefix and subcarrier spacing.
        pilots: Pilot positions and interpolation.
        tracking: Distance in subcarriers of the tracking pilots in symbols that carry no other pilots, at
            least 1; 0 for none; None for 16 if a stage turns the phase and interpolation is by the Wiener
            filter, else 0.

    Raises:
        ChannelError: An echo is longer than a whole OFDM symbol, the pilots leave no room for data, tracking
            pilots are asked of linear interpolation, or a stage in front of multipath changes with time.

    Reference:
        Goldsmith, Wireless Communications, 12.4; Edfors et al., OFDM Channel Estimation by Singular Value
        Decomposition, 1998; 3GPP TS 38.211, 7.4.1.2, for phase-tracking reference signals.
    """

    waveform: tuple[Stage, ...] = ()
    numerology: Numerology = field(default_factory=Numerology)
    pilots: Pilots = field(default_factory=Pilots)
    tracking: int | None = None

    def __post_init__(self) -> None:
        grid = self.numerology
        check_tracking(self.tracking)
        if self.tracking and self.pilots.interpolation != "wiener":
            raise ChannelError(
                f"tracking pilots (tracking:{self.tracking}) need the Wiener filter; "
                "choose its interpolation, or tracking:0"
            )
        self._check_order()
        longest = max(max(paths.delays) for paths in compose(self.waveform, grid))
        if longest > grid.symbol_samples:
            raise ChannelError(
                f"an echo of {longest:.4g} samples is longer than an OFDM symbol of {grid.symbol_samples}; "
                "take a longer symbol or a smaller delay spread"
            )
        if not self._filled()[-1]:
            raise ChannelError(
                f"pilots on every {self.pilots.every_subcarriers}th of {grid.subcarriers} subcarriers "
                "in all symbols of a slot leave none for data; give more subcarriers or fewer pilots"
            )

    @property
    def name(self) -> str:
        """Canonical name, for instance "ofdm:tdl-a:100:10"; default numerology and pilots are left out."""
        parts = [stage.name for stage in self.waveform]
        if self.numerology != Numerology():
            parts.append(self.numerology.name)
        if self.pilots != Pilots():
            parts.append(self.pilots.name)
        if self.tracking is not None:
            parts.append(f"tracking:{self.tracking}")
        return "ofdm:" + "+".join(parts) if parts else "ofdm"

    def overhead(self, uses: int) -> int:
        """Channel uses added to `uses` data symbols: prefixes, guards, pilots, and padding at the end."""
        return self._symbols(uses) * self.numerology.symbol_samples - uses

    def data_uses(self, total: int) -> int:
        """Data symbols in as many whole OFDM symbols as fit `total` channel uses."""
        slots, symbols = divmod(max(total, 0) // self.numerology.symbol_samples, self.pilots.slot_symbols)
        filled = self._filled()
        return slots * filled[-1] + filled[symbols]

    def draw(self, uses: int, snr_db: SnrDb, rng: Streams) -> OFDMState:
        """Draw the states of all stages and the noise of every sample."""
        samples = uses + self.overhead(uses)
        noise = rng.complex_normal("noise", (samples,))
        noise_var = noise_var_column(snr_db, rng.batch).to(noise.device)
        stages = draw_stages(self.waveform, samples, self.numerology, rng)
        return OFDMState(stages, noise * noise_var.sqrt(), noise_var)

    def apply(self, x: Complex[Tensor, "batch uses"], state: OFDMState) -> Received:
        """Send data and pilots as one waveform, and estimate the gains of the data from the pilots."""
        y, data, (clipped, pilots) = self._send(x, state)
        noise_var = self._noise_var(state.noise_var).to(y.real)
        if not x.shape[1]:
            return Received(y.flatten(1), y.flatten(1), noise_var)
        seen = y / pilots.gain[..., None]
        noise = noise_var / pilots.gain.square()
        places = self._pilot_mask(y.shape[1], y.device).flatten()
        # distortion fades as the pilots do: by the power with which they arrive in this item
        heard = torch.view_as_real(seen.flatten(1)[:, places]).square().sum(-1).mean(1, keepdim=True)
        fade = (heard - noise).clamp_min(0) / (1 + pilots.power)
        distortion = self._behind_fading(pilots.power / pilots.gain.square(), fade)
        gains, error = self._estimate(seen, noise + distortion)
        h, error = clipped.gain * gains[:, data], error[:, data]
        distortion = self._behind_fading(clipped.power, torch.view_as_real(h).square().sum(-1) + error)
        return Received(y.flatten(1)[:, data], h, noise_var + error + distortion)

    def apply_genie(self, x: Complex[Tensor, "batch uses"], state: OFDMState) -> Received:
        """Send data and pilots as `apply` does, but report true gains, averaged over each FFT window."""
        y, data, (clipped, _) = self._send(x, state)
        n, symbols = self.numerology, y.shape[1]
        k = torch.arange(n.subcarriers, device=x.device) - n.subcarriers // 2
        gains = torch.zeros_like(y)
        samples = symbols * n.symbol_samples
        for delay, gain in gains_of_stages(self.waveform, state.stages, samples, x.device):
            time = gain.to(x).expand(-1, samples).reshape(len(gain), symbols, n.symbol_samples)
            window = time[..., max(n.prefix, math.ceil(delay)) :]
            turns = -2 * math.pi * delay / n.fft_size * k.double()
            steering = torch.polar(torch.ones_like(turns), turns).to(x)
            gains = gains + window.sum(-1, keepdim=True) / n.fft_size * steering
        h = clipped.gain * gains.flatten(1)[:, data]
        distortion = self._behind_fading(clipped.power, torch.view_as_real(h).square().sum(-1))
        return Received(y.flatten(1)[:, data], h, self._noise_var(state.noise_var).to(y.real) + distortion)

    def _send(
        self, x: Tensor, state: OFDMState
    ) -> tuple[Tensor, Int[Tensor, " uses"], tuple["_Distortion", "_Distortion"]]:
        """Received grid [batch, symbols, subcarriers], data in the flattened grid, effect of amplifiers.

        The effect is measured on the data of the item, and on its pilots.
        """
        symbols = self._symbols(x.shape[1])
        pilot = self._pilot_mask(symbols, x.device)
        grid = torch.where(pilot, self._pilot_values(symbols, x), 0.0).expand(x.shape[0], -1, -1)
        data = (~pilot).flatten().nonzero().flatten()[: x.shape[1]]
        grid = grid.flatten(1).index_copy(1, data, x).reshape(x.shape[0], *pilot.shape)
        samples = self._modulate(grid)
        check_state(samples, state.noise)
        places = (data, pilot.flatten().nonzero().flatten())
        one = torch.ones_like(state.noise_var).to(samples.real)
        told = (_Distortion(one, 0 * one), _Distortion(one, 0 * one))
        for stage, own in zip(self.waveform, state.stages, strict=True):
            before, samples = samples, stage.apply(samples, own)
            if self._distorts(stage) and x.shape[1]:
                ((_, gain),) = stage.gains(own, samples.shape[1])
                sent, passed = (self._demodulate(part.detach()).flatten(1) for part in (before, samples))
                found = (_distortion(sent[:, part], passed[:, part], float(gain.real)) for part in places)
                told = (told[0].then(next(found)), told[1].then(next(found)))
        return self._demodulate(samples + state.noise.to(samples)), data, told

    def _distorts(self, stage: Stage) -> bool:
        return sum(sum(paths.powers) for paths in stage.paths(self.numerology)) < 1 - 1e-12

    def _behind_fading(self, distortion: Tensor, power: Tensor) -> Tensor:
        """Distortion as it arrives: of an amplifier at the transmitter, it fades as the data do.

        Args:
            distortion: Variance on a subcarrier behind the amplifier, [batch, 1].
            power: E|h|^2 of every data symbol as the receiver knows it, [batch, uses].

        Returns:
            Variance, [batch, 1] if it is the same everywhere, or [batch, uses].
        """
        if not self.waveform or not self._distorts(self.waveform[0]):
            return distortion
        if self.pilots.interpolation == "linear":
            return distortion  # on average over fading: a straight line tells |h|^2 with a bias
        useful = sum(sum(paths.powers) for paths in compose(self.waveform, self.numerology))
        return distortion * power / useful

    def _modulate(self, grid: Tensor) -> Tensor:
        """[batch, symbols, subcarriers] to [batch, samples] of average power 1."""
        n = self.numerology
        bins = torch.zeros(*grid.shape[:2], n.fft_size, dtype=grid.dtype, device=grid.device)
        bins = bins.index_copy(2, self._bins(grid.device), grid)
        scale = math.sqrt(n.fft_size / n.subcarriers)
        time: Tensor = scale * torch.fft.ifft(bins, norm="ortho")  # pyright: ignore
        return torch.cat((time[..., n.fft_size - n.prefix :], time), -1).flatten(1)  # pyright: ignore

    def _demodulate(self, samples: Tensor) -> Tensor:
        """[batch, samples] to [batch, symbols, subcarriers]; a unit gain stays one."""
        n, (batch, total) = self.numerology, samples.shape
        time = samples.reshape(batch, total // n.symbol_samples, n.symbol_samples)[..., n.prefix :]
        bins: Tensor = torch.fft.fft(time, norm="ortho")  # pyright: ignore
        return bins[..., self._bins(samples.device)] * math.sqrt(n.subcarriers / n.fft_size)  # pyright: ignore

    def _bins(self, device: torch.device) -> Tensor:
        """DFT bins of the subcarriers in use, from the lowest frequency to the highest."""
        n = self.numerology
        return (torch.arange(n.subcarriers, device=device) - n.subcarriers // 2) % n.fft_size

    def _pilot_values(self, symbols: int, like: Tensor) -> Tensor:
        """QPSK pilots [symbols, subcarriers], equal in every slot and known to both ends."""
        shape = (self.pilots.slot_symbols, self.numerology.subcarriers, 2)
        signs = 2.0 * NamedStreams(0, ("pilots",)).bits("signs", shape)[0] - 1.0
        values = torch.view_as_complex(signs * 0.5**0.5)
        return values[torch.arange(symbols) % self.pilots.slot_symbols].to(like)

    def _pilot_mask(self, symbols: int, device: torch.device) -> Tensor:
        """Which grid positions are pilots, bool [symbols, subcarriers]."""
        slot = torch.zeros(self.pilots.slot_symbols, self.numerology.subcarriers, dtype=torch.bool)
        for comb in self._combs(self.pilots.slot_symbols):
            slot[list(comb.rows), :: comb.every] = True
        return slot[torch.arange(symbols) % self.pilots.slot_symbols].to(device)

    def _combs(self, symbols: int) -> tuple[Comb, ...]:
        """Pilots in the first OFDM symbols of a slot: of `Pilots`, and tracking pilots in the others."""
        rows = tuple(row for row in self.pilots.symbols if row < symbols)
        others = tuple(row for row in range(symbols) if row not in rows)
        tracking = self.tracking
        if tracking is None:
            tracks = rotates(self.waveform) and self.pilots.interpolation == "wiener"
            tracking = TRACKING_SUBCARRIERS if tracks else 0
        combs = [Comb(rows, self.pilots.every_subcarriers)]
        return (*combs, Comb(others, tracking)) if tracking and others else tuple(combs)

    def _filled(self) -> tuple[int, ...]:
        """Cumulative numbers of data symbols in the first 0, 1, 2, ... OFDM symbols of a slot."""
        left = [self.numerology.subcarriers] * self.pilots.slot_symbols
        for comb in self._combs(self.pilots.slot_symbols):
            for row in comb.rows:
                left[row] -= math.ceil(self.numerology.subcarriers / comb.every)
        return tuple(itertools.accumulate(left, initial=0))

    def _check_order(self) -> None:
        """Multipath takes OFDM symbols for periodic: what stands in front of it must not change in time."""
        symbol = torch.tensor([1.0, self.numerology.symbol_samples], dtype=torch.float64)
        for stage, behind in itertools.combinations(self.waveform, 2):
            moves = any(bool((p.correlation(symbol) != 1).any()) for p in stage.paths(self.numerology))
            if moves and any(max(paths.delays) > 0 for paths in behind.paths(self.numerology)):
                raise ChannelError(
                    f"{stage.name} changes with time in front of the multipath {behind.name}; put it behind, "
                    "where it has the same effect for delays far shorter than its changes"
                )

    def _symbols(self, uses: int) -> int:
        """Smallest number of OFDM symbols that hold `uses` data symbols."""
        if uses == 0:
            return 0
        filled = self._filled()
        slots = (uses - 1) // filled[-1]
        return slots * self.pilots.slot_symbols + bisect.bisect_left(filled, uses - slots * filled[-1])

    def _noise_var(self, noise_var: Tensor) -> Tensor:
        """Variance of noise and interference, averaged over the used subcarriers, without distortion."""
        n = self.numerology
        useful = float(self._taps(1).power[0])
        return noise_var * n.subcarriers / n.fft_size + max(0.0, self._received_power() - useful)

    def _received_power(self) -> float:
        """Average power of a used subcarrier without noise and distortion.

        The samples of an OFDM symbol have the autocorrelation r(s), the mean of e^(2 pi j k s / N) over the
        used subcarriers k. A path with the autocorrelation R(s) brings U/N times the sum over s of
        w(s) R(s) |r(s)|^2, where N w(s) counts the pairs of samples of an FFT window at the lag s that belong
        to one OFDM symbol.
        """
        n = self.numerology
        lags = torch.arange(1 - n.fft_size, n.fft_size, dtype=torch.float64)
        k = torch.arange(n.subcarriers, dtype=torch.float64) - n.subcarriers // 2
        turns = 2 * math.pi * lags[:, None] * k / n.fft_size
        sent = torch.polar(torch.ones_like(turns), turns).mean(1).abs().square()
        power = 0.0
        for paths in compose(self.waveform, n):
            own = n.fft_size * self._kept(torch.tensor(paths.delays, dtype=torch.float64))[:, None]
            pairs = (own - lags.abs()).clamp_min(0) + (n.fft_size - own - lags.abs()).clamp_min(0)
            shared = torch.tensor(paths.powers, dtype=torch.float64) @ pairs / n.fft_size
            power += float((shared * sent * paths.correlation(lags)).sum().real)
        return power * n.subcarriers / n.fft_size

    def _kept(self, delays: Tensor) -> Tensor:
        """Share of the FFT window in which an echo belongs to the symbol itself, not to the one before."""
        n = self.numerology
        return 1 - (delays.ceil() - n.prefix).clamp(0, n.fft_size) / n.fft_size

    def _taps(self, symbols: int) -> Taps:
        """Second-order statistics of the medium over a number of OFDM symbols, as the receiver knows them.

        The gain of a subcarrier is averaged over the FFT window: at a distance of d symbols its correlation
        is 1/N^2 sum_ij R(d (N + prefix) + i - j). An echo longer than the prefix contributes only in the part
        of the window in which it belongs to the same OFDM symbol. Paths that move alike are replaced by their
        principal components, few where their delays are nearer than a sample.
        """
        n = self.numerology
        inner = torch.arange(1 - n.fft_size, n.fft_size, dtype=torch.float64)
        share = (n.fft_size - inner.abs()) / n.fft_size**2
        lags = (n.symbol_samples * torch.arange(symbols)[:, None] + inner).flatten()
        distance = torch.arange(symbols)[:, None] - torch.arange(symbols)
        k = torch.arange(n.subcarriers, dtype=torch.float64)[:, None] - n.subcarriers // 2
        steering: list[Tensor] = []
        in_time: list[Tensor] = []
        for paths in compose(self.waveform, n):
            lagged = (paths.correlation(lags).reshape(symbols, -1) * share).sum(-1).to(torch.complex128)
            between = torch.where(distance >= 0, lagged[distance.abs()], lagged[distance.abs()].conj())
            delays = torch.tensor(paths.delays, dtype=torch.float64)
            amplitude = self._kept(delays) * torch.tensor(paths.powers, dtype=torch.float64).sqrt()
            turns = -2 * math.pi * k * delays / n.fft_size
            part = _principal(torch.polar(amplitude.expand_as(turns), turns))
            steering.append(part)
            in_time.append(between.expand(part.shape[1], symbols, symbols))
        return Taps(torch.cat(steering, 1), torch.cat(in_time))

    def _estimate(self, y: Tensor, noisy: Tensor) -> tuple[Tensor, Tensor]:
        """Gain and error of every grid position, flattened, given the noise of each item, [batch, 1]."""
        whole, rest = divmod(y.shape[1], self.pilots.slot_symbols)
        gains: list[Tensor] = []
        errors: list[Tensor] = []
        for slots, length in ((whole, self.pilots.slot_symbols), (1, rest)):
            if slots * length:
                start = sum(part.shape[1] for part in gains)
                part = y[:, start : start + slots * length].reshape(y.shape[0], slots, length, y.shape[2])
                gain, error = self._estimate_slots(part, noisy[:, 0])
                gains.append(gain.flatten(1, 2))
                errors.append(error[:, None].expand(-1, slots, -1, -1).flatten(1, 2))
        return torch.cat(gains, 1).to(y).flatten(1), torch.cat(errors, 1).to(y.real).flatten(1)

    def _estimate_slots(self, y: Tensor, noisy: Tensor) -> tuple[Tensor, Tensor]:
        """Gains of y [batch, slots, symbols, subcarriers], and their errors in any slot."""
        symbols = y.shape[2]
        combs = self._combs(symbols)
        rotated = y / self._pilot_values(symbols, y)
        seen = [rotated[:, :, list(comb.rows), :: comb.every] for comb in combs]
        taps = self._taps(symbols).to(y.device)
        if self.pilots.interpolation == "wiener":
            return wiener_gains(seen, taps, combs, noisy)
        return linear_gains(seen[0], taps, combs[0], noisy)


@dataclass(frozen=True, eq=False, slots=True)
class _Distortion:
    """Gain of an amplifier relative to that of a clipped Gaussian waveform, and power of its distortion."""

    gain: Float[Tensor, "batch 1"]
    power: Float[Tensor, "batch 1"]

    def then(self, other: "_Distortion") -> "_Distortion":
        return _Distortion(self.gain * other.gain, self.power + other.power)


def _distortion(sent: Tensor, passed: Tensor, usual: float) -> _Distortion:
    """Regression of what passes an amplifier on what was sent, over the subcarriers [batch, some]."""
    energy = torch.view_as_real(sent).square().sum((1, 2))[:, None]
    slope = (sent.conj() * passed).real.sum(1, keepdim=True) / energy.clamp_min(TINY_POWER)
    slope = torch.where(energy > 0, slope, usual)
    left = torch.view_as_real(passed - slope * sent).square().sum(-1).mean(1, keepdim=True)
    return _Distortion(slope / usual, left)


def _principal(columns: Tensor) -> Tensor:
    """Orthogonal columns A of the same A A^H; those below -160 dB of the strongest are left out."""
    directions, values, _ = torch.linalg.svd(columns, full_matrices=False)  # pyright: ignore
    kept = values >= 1e-8 * values[:1]  # pyright: ignore
    return (directions * values)[:, kept]  # pyright: ignore
