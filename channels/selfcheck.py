"""Self-check of the simulator: channels, constellations and codes measured against theory."""

# torch's and numpy's stubs leave types open
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from channels import theory
from channels.awgn import AWGN
from channels.channel import Channel, Received, transmit
from channels.constellation import Constellation
from channels.csi import GenieCSI, PilotAided
from channels.fading import JakesFading, RayleighBlockFading, RicianBlockFading, clarke_correlation
from channels.fec.ldpc import NRLDPC, lifted_edges
from channels.fec.transport import TransportBlock
from channels.impairments import CarrierOffset, ClippedAmplifier, Impaired, PhaseNoise
from channels.link import IdealLink
from channels.lossy import GilbertElliott, IndependentLoss, Lossy
from channels.mcs import MCS_TABLE, shipped_bler_counts
from channels.ofdm import OFDM, Pilots
from channels.streams import NamedStreams
from channels.symbols import normalize_power
from channels.tdl import PROFILES, TDL, TDLState
from channels.units import linear_to_db
from channels.waveform import Numerology

LARGEST_Z = 4.0
"""Largest deviation that passes, in standard errors; correct code exceeds it in one run of 200."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the self-check.

    Args:
        name: Quantity measured.
        measured: Value measured in this run.
        expected: Closed form, or tabulated value of the standard.
        standard_error: Standard error of the measurement; 0 where it has to be exact.
    """

    name: str
    measured: float
    expected: float
    standard_error: float

    @property
    def z(self) -> float:
        """Deviation from the expected value in standard errors; infinite if an exact quantity deviates."""
        deviation = self.measured - self.expected
        if self.standard_error == 0:
            return 0.0 if deviation == 0 else math.copysign(math.inf, deviation)
        return deviation / self.standard_error

    @property
    def ok(self) -> bool:
        """Whether the deviation is at most `LARGEST_Z` standard errors."""
        return abs(self.z) <= LARGEST_Z


def selfcheck(seed: int = 0) -> Iterator[Check]:
    """Measure every channel, constellation and code; takes some 10 s on one core.

    Equal seeds give equal numbers. Standard errors are computed over independent samples: symbols on AWGN,
    items under fading.

    Args:
        seed: Seed of all random numbers.

    Yields:
        Checks, each as soon as it is measured.
    """
    rng = NamedStreams(seed, ("selfcheck",))
    yield from _noise_and_power(rng)
    yield from _error_rates(rng)
    yield from _information(rng)
    yield from _flat_fading(seed)
    yield from _doppler(seed)
    yield from _delay_profiles(seed)
    yield from _ofdm(seed)
    yield from _phase_tracking(seed)
    yield from _clipped_ofdm(seed)
    yield from _clipping(seed)
    yield from _packet_loss(rng)
    yield from _codes(seed)


def _row(name: str, samples: Tensor, expected: float) -> Check:
    """Check on the mean of independent samples."""
    samples = samples.double().flatten()
    return Check(name, float(samples.mean()), expected, float(samples.std()) / math.sqrt(samples.numel()))


def _items(seed: int, count: int, name: str) -> NamedStreams:
    return NamedStreams(seed, tuple(f"item={i}" for i in range(count))).fork(name)


def _power(x: Tensor) -> Tensor:
    return torch.view_as_real(x).square().sum(-1)


def _noise_and_power(rng: NamedStreams) -> Iterator[Check]:
    x = torch.zeros(1, 1_000_000, dtype=torch.complex64)
    for snr_db in (0.0, 20.0):
        name = f"AWGN at {snr_db:g} dB: noise power"
        yield _row(name, _power(transmit(AWGN(), x, snr_db, rng.fork(name)).y), 10 ** (-snr_db / 10))
    for size in (2, 4, 16, 64, 256):
        constellation = Constellation(size)
        bits = rng.bits(constellation.name, (100_000 * constellation.bits_per_symbol,))
        power = _power(constellation.modulate(bits))
        if size <= 4:
            deviation = float((power - 1).abs().max())
            yield Check(f"{constellation.name}: power of a symbol", 1.0 + round(deviation, 6), 1.0, 0.0)
        else:
            yield _row(f"{constellation.name}: average power", power, 1.0)


def _error_rates(rng: NamedStreams) -> Iterator[Check]:
    symbols = 400_000
    cases = ((2, 4.0), (4, 7.0), (16, 12.0), (64, 18.0), (256, 24.0))
    media: tuple[Channel, ...] = (AWGN(), RayleighBlockFading(1))
    for (size, snr_db), channel in itertools.product(cases, media):
        constellation = Constellation(size)
        name = f"{constellation.name} on {channel.name} at {snr_db:g} dB"
        bits = rng.bits(name, (symbols * constellation.bits_per_symbol,))
        received = transmit(channel, constellation.modulate(bits), snr_db, rng.fork(name))
        wrong = (constellation.hard_decision(received) != bits).reshape(symbols, -1)
        awgn = isinstance(channel, AWGN)
        ber = (theory.ber if awgn else theory.ber_rayleigh)(size, snr_db)
        ser = (theory.ser if awgn else theory.ser_rayleigh)(size, snr_db)
        yield _row(f"{name}: bit error rate", wrong.double().mean(1), float(ber))
        if size > 4:
            yield _row(f"{name}: symbol error rate", wrong.any(1), float(ser))


def _information(rng: NamedStreams) -> Iterator[Check]:
    symbols = 100_000
    for size, snr_db in ((4, 1.0), (16, 7.0), (64, 12.0), (256, 18.0)):
        constellation = Constellation(size)
        name = f"{constellation.name} at {snr_db:g} dB: information by bits"
        bits = rng.bits(name, (symbols * constellation.bits_per_symbol,))
        received = transmit(AWGN(), constellation.modulate(bits), snr_db, rng.fork(name))
        llr = constellation.exact_llr(received).double() * (1 - 2 * bits.double())
        loss = torch.nn.functional.softplus(-llr) / math.log(2)
        carried = constellation.bits_per_symbol - loss.reshape(symbols, -1).sum(1)
        yield _row(name, carried, float(theory.bicm_capacity(size, snr_db)))
        points = constellation.points
        metric = -_power(received.y[0, :20_000, None] - points) / received.noise_var[0]
        own = -_power(received.y[0] - constellation.modulate(bits)[0])[:20_000] / received.noise_var[0]
        carried = constellation.bits_per_symbol - (metric.logsumexp(1) - own) / math.log(2)
        name = f"{constellation.name} at {snr_db:g} dB: information by symbols"
        yield _row(name, carried, float(theory.constellation_capacity(size, snr_db)))
    received = transmit(
        RayleighBlockFading(1), torch.ones(1, 200_000, dtype=torch.complex64), 10.0, rng.fork("ergodic")
    )
    carried = torch.log2(1 + _power(received.h) / received.noise_var)
    yield _row("rayleigh at 10 dB: ergodic capacity", carried, float(theory.ergodic_capacity_rayleigh(10.0)))


def _flat_fading(seed: int) -> Iterator[Check]:
    items, uses = 20_000, 8
    x = torch.ones(items, uses, dtype=torch.complex64)
    channel = RayleighBlockFading(4)
    received = transmit(channel, x, 10.0, _items(seed, items, "rayleigh"))
    gain = _power(received.h[:, ::4])
    yield _row(f"{channel.name}: E|h|^2", gain, 1.0)
    yield _row(f"{channel.name}: E|h|^4", gain.square(), 2.0)
    inside = (received.h[:, 0] == received.h[:, 3]).double().mean()
    yield Check(f"{channel.name}: blocks with one gain", float(inside), 1.0, 0.0)
    correlation = (received.h[:, 0] * received.h[:, 4].conj()).real
    yield _row(f"{channel.name}: correlation of neighbouring blocks", correlation, 0.0)
    yield _row(f"{channel.name}: noise power", _power(received.y - received.h * x), 0.1)
    lost = 1 - IdealLink().succeeds(received, 2 * uses).double()
    outage = float(theory.outage_rayleigh(2.0, 10.0, 2))
    yield _row("rayleigh, 2 fading blocks at 10 dB: outage at 2 bits per use", lost, outage)
    for k_factor_db in (0.0, 10.0):
        k = 10 ** (k_factor_db / 10)
        rician = RicianBlockFading(4, k_factor_db)
        received = transmit(rician, x, 10.0, _items(seed, items, rician.name))
        gain = _power(received.h[:, ::4])
        yield _row(f"{rician.name}: E|h|^2", gain, 1.0)
        spread = (1 + 2 * k) / (1 + k) ** 2  # variance of |h|^2
        yield _row(f"{rician.name}: E|h|^4, which shows K", gain.square(), 1 + spread)


def _doppler(seed: int) -> Iterator[Check]:
    items, uses, doppler = 200, 2048, 0.02
    channel = JakesFading(doppler)
    x = torch.ones(items, uses, dtype=torch.complex64)
    h = transmit(channel, x, 10.0, _items(seed, items, "jakes")).h.to(torch.complex128)
    yield _row(f"{channel.name}: E|h|^2", _power(h).mean(1), 1.0)
    for lag in (5, 12, 19, 40):
        measured = (h[:, lag:] * h[:, :-lag].conj()).real.mean(1)
        expected = float(clarke_correlation(torch.tensor(doppler * lag, dtype=torch.float64)))
        name = f"{channel.name}: autocorrelation at {lag} uses, J0({2 * doppler * lag:.1f} pi)"
        yield _row(name, measured, expected)
    # The expected periodogram, leakage included, is the transform of (1 - |s|/T) J0(2 pi f_D s).
    lags = torch.arange(uses, dtype=torch.float64)
    taper = (1 - lags / uses) * clarke_correlation(doppler * lags)
    periodogram = 2 * np.fft.fft(np.asarray(taper)).real - 1
    inner = np.abs(np.fft.fftfreq(uses)) < doppler / 2
    share = float(periodogram[inner].sum() / uses)
    spectrum = np.abs(np.fft.fft(np.asarray(h), axis=1)[:, inner]) ** 2
    measured = torch.as_tensor(spectrum.sum(1) / uses**2)
    yield _row(f"{channel.name}: Doppler spectrum, power below f_D/2 (Clarke: 1/3)", measured, share)


def _delay_profiles(seed: int) -> Iterator[Check]:
    """Frequency responses of tapped delay lines over 64 subcarriers, against the tables of TR 38.901."""
    items, reference, subcarriers, lag, snr = 3000, 15_000, 64, 32, 10.0
    grid = Numerology(subcarriers, subcarriers, subcarriers, 60e3)
    fine = Numerology(16, 16, 4, 1e3)  # neighbours so near that differences are derivatives
    for profile, rows in PROFILES.items():
        drawn = TDL(profile, 0.0).draw(1, grid, _items(seed, items, f"TDL-{profile}"))
        power = np.array([10 ** (power_db / 10) for _, power_db in rows])
        power = torch.from_numpy(power / power.sum())
        # Gaussian taps drawn apart: one of their links in a hundred carries less than the 1 % rate
        rng = np.random.default_rng(seed)
        parts = rng.normal(size=(2, reference, len(rows))) * np.sqrt(power.numpy() / 2)
        gains = torch.complex(*torch.from_numpy(parts.astype(np.float32)))
        if profile in "DE":
            phase = torch.from_numpy(rng.uniform(0, 2 * math.pi, reference))
            gains[:, 0] = torch.polar(power[0].sqrt().expand(reference), phase)
        for spread_ns in (30.0, 100.0, 300.0):
            name, line = f"TDL-{profile}, {spread_ns:g} ns", TDL(profile, spread_ns)
            delay = torch.tensor([delay for delay, _ in rows], dtype=torch.float64) * spread_ns * 1e-9
            h = _frequency_response(line, drawn, grid)
            yield _row(f"{name}: power", _power(h).mean(1), 1.0)
            turns = -2 * math.pi * lag * delay * grid.spacing_hz
            exact = (power * torch.polar(torch.ones_like(turns), turns)).sum()
            product = (h[:, lag:] * h[:, :-lag].conj()).mean(1) * (exact.conj() / exact.abs())
            yield _row(f"{name}: correlation at {lag} subcarriers", product.real, float(exact.abs()))
            near = _frequency_response(line, drawn, fine)[:, 7:10]
            slope = (near[:, 2] - near[:, 0]) / (4 * math.pi * fine.spacing_hz)
            mean = (slope.conj() * near[:, 1]).imag
            # the square less the square of the mean, whose deviation is linear in that of the mean
            square = _power(slope) - 2 * mean.mean() * mean + mean.mean() ** 2
            expected = float((power * delay.square()).sum() - (power * delay).sum() ** 2)
            yield _row(f"{name}: (delay spread / {spread_ns:g} ns)^2", square / expected, 1.0)
            turns = -2 * math.pi * delay[:, None] * grid.spacing_hz * torch.arange(subcarriers)
            exact_h = gains @ torch.polar(torch.ones_like(turns), turns).to(gains)
            rates = [torch.log2(1 + snr * _power(h)).mean(1) for h in (exact_h, h)]
            p = 0.01
            lost = float((rates[1] < rates[0].quantile(p)).double().mean())
            error = math.sqrt(p * (1 - p) * (1 / items + 1 / reference))
            yield Check(f"{name}: outage at the 1 % rate of the profile, 10 dB", lost, p, error)


def _frequency_response(line: TDL, drawn: TDLState, grid: Numerology) -> Tensor:
    """What a unit sample becomes on every subcarrier, from the lowest up, [items, subcarriers]."""
    impulse = torch.zeros(len(drawn.angle), grid.symbol_samples, dtype=torch.complex128)
    impulse[:, grid.prefix % grid.symbol_samples] = 1
    heard = line.apply(impulse, replace(drawn, numerology=grid))[:, grid.prefix :]
    return torch.fft.fftshift(torch.fft.fft(heard), 1)


def _phase_tracking(seed: int) -> Iterator[Check]:
    """Rotation estimated from pilots, against the error of the Wiener filter in closed form."""
    items, spacing = 300, 15
    for linewidth_hz, snr_db in ((2000.0, 20.0), (20_000.0, 30.0)):
        channel = Impaired(AWGN(), (PhaseNoise(linewidth_hz),), spacing)
        rng = _items(seed, items, channel.name)
        x = torch.ones(items, 20 * spacing, dtype=torch.complex64)
        told, known = transmit(channel, x, snr_db, rng), transmit(GenieCSI(channel), x, snr_db, rng)
        inner = slice(8 * spacing, 12 * spacing)
        error = float(theory.phase_tracking_error(linewidth_hz * 1e-6, spacing, snr_db).mean())
        name = f"{channel.name} at {snr_db:g} dB"
        yield _row(f"{name}: error of the tracked phase", _power(told.h - known.h)[:, inner].mean(1), error)
        believed = _power(told.y - told.h * x) / told.noise_var
        yield _row(f"{name}: noise over what the receiver believes", believed.mean(1), 1.0)
    media = (
        OFDM((PhaseNoise(300.0), CarrierOffset(0.02))),
        OFDM((TDL("A", 100.0, 10.0), PhaseNoise(300.0)), Numerology(64, 48, 16)),
    )
    for channel in media:
        rng = _items(seed, items, channel.name)
        x = Constellation(4).modulate(rng.bits("bits", (2 * channel.data_uses(1120),)))
        received = transmit(channel, x, 20.0, rng)
        believed = _power(received.y - received.h * x) / received.noise_var
        yield _row(f"{channel.name} at 20 dB: noise over what the receiver believes", believed.mean(1), 1.0)


def _clipped_ofdm(seed: int) -> Iterator[Check]:
    """Distortion of an amplifier on the used subcarriers, and the noise that the receiver believes."""
    items = 100
    for numerology in (Numerology(64, 64, 16), Numerology(64, 48, 16), Numerology(128, 72, 9, 15e3)):
        channel = OFDM((ClippedAmplifier(4.0),), numerology)
        uses = channel.data_uses(28 * numerology.symbol_samples)
        for size in (4, 256):
            constellation = Constellation(size)
            rng = _items(seed, items, f"{channel.name} {size}")
            x = constellation.modulate(rng.bits("bits", (constellation.bits_per_symbol * uses,)))
            received = transmit(channel, x, 30.0, rng)
            believed = _power(received.y - received.h * x) / received.noise_var
            name = f"{channel.name}, {constellation.name} at 30 dB"
            yield _row(f"{name}: noise over what the receiver believes", believed.mean(1), 1.0)
        sparse = GenieCSI(OFDM(channel.waveform, numerology, Pilots(50, (0,), numerology.subcarriers // 2)))
        rng = _items(seed, items, f"{channel.name} Gaussian")
        x = rng.complex_normal("x", (sparse.data_uses(50 * numerology.symbol_samples),))
        stated = transmit(sparse, x, 100.0, rng).noise_var.mean(1)
        lag, k = np.arange(numerology.fft_size)[:, None], np.arange(numerology.subcarriers)
        middle = (numerology.subcarriers - 1) / 2
        before = np.cos(2 * math.pi * lag * (k - middle) / numerology.fft_size).mean(1)
        expected = float(theory.clipping_distortion(4.0, before) @ before)
        expected *= numerology.subcarriers / numerology.fft_size
        name = f"{channel.name}, Gaussian symbols: distortion of a used subcarrier"
        yield _row(name, stated / expected, 1.0)


def _ofdm(seed: int) -> Iterator[Check]:
    numerology = Numerology(128, 72, 9, 15e3)
    snr_db, items = 4.0, 20
    used = numerology.subcarriers / numerology.fft_size
    subcarrier_db = snr_db - float(linear_to_db(used))
    channel = GenieCSI(OFDM((), numerology))
    rng = _items(seed, items, "ofdm")
    uses = channel.data_uses(30_000)
    qpsk = Constellation(4)
    bits = rng.bits("bits", (2 * uses,))
    received = transmit(channel, qpsk.modulate(bits), snr_db, rng)
    residual = _power(received.y - received.h * qpsk.modulate(bits))
    yield _row("OFDM, 72 of 128 subcarriers: subcarrier noise", residual, 10 ** (-subcarrier_db / 10))
    deviation = float((received.h - 1).abs().max())
    yield Check("OFDM: gain of a subcarrier without a medium", 1.0 + round(deviation, 5), 1.0, 0.0)
    wrong = (qpsk.hard_decision(received) != bits).double()
    ber = float(theory.ber(4, subcarrier_db))
    yield _row(f"OFDM at {snr_db:g} dB: QPSK bit error rate", wrong, ber)
    # A flat fade leaves the subcarriers their unit average gain: what the waveform sends has power 1.
    medium = GenieCSI(OFDM((TDL("A", 100.0),), numerology))
    rng = _items(seed, 1500, "ofdm fading")
    x = qpsk.modulate(rng.bits("bits", (2 * 200,)))
    faded = transmit(medium, x, 100.0, rng)
    yield _row(f"{medium.name}: received power of a subcarrier", _power(faded.y).mean(1), 1.0)


def _clipping(seed: int) -> Iterator[Check]:
    """Noise and distortion over what the receiver is told of them, for symbols of several laws."""
    items, uses, snr_db = 60, 4000, 30.0
    media: tuple[Channel, ...] = (
        Impaired(AWGN(), (ClippedAmplifier(2.0),)),
        PilotAided(Impaired(RayleighBlockFading(64), (ClippedAmplifier(2.0),)), 15),
    )
    for channel in media:
        rng = _items(seed, items, channel.name)
        for constellation in (None, Constellation(4), Constellation(16), Constellation(256)):
            if constellation is None:
                x, law = normalize_power(rng.complex_normal("analog", (uses,))), "Gaussian symbols"
            else:
                bits = rng.bits(constellation.name, (uses * constellation.bits_per_symbol,))
                x, law = constellation.modulate(bits), constellation.name
            yield belief(f"{law} on {channel.name} at {snr_db:g} dB", x, transmit(channel, x, snr_db, rng))


def belief(name: str, x: Tensor, received: Received) -> Check:
    """Check on E|y - h x|^2 / N0, which is 1 if the receiver is told the right gain and noise variance.

    Args:
        name: Symbols, channel and SNR.
        x: Symbols sent, [1 or batch, uses].
        received: Receptions with independent noise, [batch, uses].

    Returns:
        The mean over the receptions, with its standard error.
    """
    ratio = _power(received.y - received.h * x) / received.noise_var
    return _row(f"{name}: noise over noise as told", ratio.mean(1), 1.0)


def _packet_loss(rng: NamedStreams) -> Iterator[Check]:
    packets, packet_uses = 40_000, 4
    x = torch.ones(1, packets * packet_uses, dtype=torch.complex64)
    independent = Lossy(AWGN(), packet_uses, IndependentLoss(0.1))
    received = transmit(independent, x, 10.0, rng.fork("packet loss"))
    lost = received.h[0, ::packet_uses] == 0
    yield _row(f"{independent.name}: packets lost", lost, 0.1)
    noise = received.y[received.h == 0]
    yield _row(f"{independent.name}: power heard in lost packets", _power(noise), 0.1)
    correlation = (
        noise * (transmit(AWGN(), x, 10.0, rng.fork("packet loss")).y)[received.h == 0].conj()
    ).real
    yield _row(f"{independent.name}: correlation with what was lost", correlation, 0.0)
    law = GilbertElliott(0.05, 0.4)
    bursts = Lossy(AWGN(), packet_uses, law)
    arrived = (transmit(bursts, x, 10.0, rng.fork("bursts")).h[0, ::packet_uses] != 0).tolist()
    # Neighbours are correlated by 1 - p - q: the mean varies by (2 - p - q) / (p + q) times more.
    p_sum = law.p_good_to_bad + law.p_bad_to_good
    error = math.sqrt(law.bad_share * (1 - law.bad_share) * (2 - p_sum) / p_sum / packets)
    yield Check(f"{bursts.name}: packets lost", 1 - sum(arrived) / packets, law.bad_share, error)
    for state, mean in ((False, 1 / law.p_bad_to_good), (True, 1 / law.p_good_to_bad)):
        runs = [len(list(run)) for value, run in itertools.groupby(arrived) if value is state][1:-1]
        name = f"{bursts.name}: mean run of {'arrivals' if state else 'losses'}"
        yield _row(name, torch.tensor(runs), mean)


def _codes(seed: int) -> Iterator[Check]:
    rng = _items(seed, 10, "ldpc")
    for base_graph, z in ((1, 96), (2, 192)):
        columns, all_columns = (22, 68) if base_graph == 1 else (10, 52)
        message = rng.bits(f"message {base_graph}", (columns * z,))
        coded = NRLDPC(base_graph=base_graph).encode(message, (all_columns - 2) * z)
        word = torch.cat((message[:, : 2 * z], coded), 1).reshape(10, all_columns, z)
        syndrome = torch.zeros(10, all_columns - columns, z, dtype=torch.uint8)
        for row, column, shift in zip(*lifted_edges(base_graph, z), strict=True):
            syndrome[:, row] ^= word[:, column].roll(-int(shift), dims=1)
        failed = float(syndrome.sum())
        yield Check(f"LDPC base graph {base_graph}, Z = {z}: parity checks that fail", failed, 0.0, 0.0)
    for index, block_bits in ((6, 2048), (17, 2048)):
        yield _block_error_rate(index, block_bits, seed)


def _block_error_rate(index: int, block_bits: int, seed: int) -> Check:
    """Check on the block error rate, at the point of the shipped curve that is nearest to BLER 1/5."""
    mcs, counts = MCS_TABLE[index], shipped_bler_counts()
    curve = counts[(counts[:, 0] == index) & (counts[:, 1] == block_bits)]
    _, _, snr_db, blocks, errors = min(curve, key=lambda row: abs(row[4] / row[3] - 0.2))
    uses = math.ceil(block_bits / mcs.bits_per_use)
    plan = TransportBlock(block_bits - 16, uses * mcs.bits_per_symbol, mcs.bits_per_symbol)
    rng = _items(seed, 500, f"bler {index}")
    bits = rng.bits("bits", (plan.info_bits,))
    received: Received = transmit(AWGN(), mcs.constellation.modulate(plan.encode(bits)), float(snr_db), rng)
    decoded = plan.decode(mcs.constellation.exact_llr(received))
    measured = 1 - float(decoded.ok.double().mean())
    expected = float(errors / blocks)
    error = math.sqrt(expected * (1 - expected) * (1 / rng.batch + 1 / blocks))
    name = f"LDPC, {mcs.name}, K' = {block_bits} at {snr_db:g} dB: BLER, against the shipped curve"
    return Check(name, measured, expected, error)
