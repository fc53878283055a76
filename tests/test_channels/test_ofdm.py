"""OFDM: calibration, counting, and estimation against closed forms."""

import math
from dataclasses import dataclass, field

import pytest
import torch
from precision import rounding
from scipy import special

from channels import (
    OFDM,
    TDL,
    CarrierOffset,
    ClippedAmplifier,
    Constellation,
    GenieCSI,
    NamedStreams,
    Numerology,
    PhaseNoise,
    Pilots,
    transmit,
    zero_forcing,
)
from channels.theory import clipping_distortion
from channels.waveform import Paths

GUARDED = Numerology(64, 48, 16, 60e3)


@dataclass(frozen=True, eq=False)
class Probe:
    """A stage that looks at the samples and lets them pass."""

    seen: list = field(default_factory=list)
    name: str = "probe"

    def draw(self, samples, numerology, rng):
        return None

    def apply(self, x, state):
        self.seen.append(x)
        return x

    def gains(self, state, samples):
        yield 0.0, torch.ones(1, 1, dtype=torch.complex64)

    def paths(self, numerology):
        return (Paths((0.0,), (1.0,), torch.ones_like),)


def streams(items):
    return NamedStreams(3, tuple(map(str, range(items))))


def qpsk(items, uses):
    bits = streams(items).fork("data").bits("bits", (uses, 2))
    return torch.view_as_complex((2.0 * bits - 1) * 0.5**0.5), bits


def bit_error_rate(channel, snr_db, items=40, total=20_160):
    uses = channel.data_uses(total)
    x, bits = qpsk(items, uses)
    estimate, _ = zero_forcing(transmit(channel, x, snr_db, streams(items)))
    errors = (torch.view_as_real(estimate) > 0) != bits.bool()
    return errors.float().mean().item(), errors.numel()


@pytest.mark.parametrize("snr_db", [0.0, 4.0, 7.0])
def test_flat_ofdm_has_the_error_rate_of_qpsk(snr_db):
    """Q(sqrt(Es/N0)): an unnormalised transform would be 10 log10(64) = 18 dB away."""
    measured, bits = bit_error_rate(GenieCSI(OFDM()), snr_db)
    theory = 0.5 * special.erfc(math.sqrt(10 ** (snr_db / 10) / 2))
    assert abs(measured - theory) < 5 * math.sqrt(theory * (1 - theory) / bits)


def test_guards_concentrate_the_power():
    """Es/N0 on a subcarrier in use is N/U times that of the samples."""
    measured, bits = bit_error_rate(GenieCSI(OFDM((), GUARDED)), 4.0)
    theory = 0.5 * special.erfc(math.sqrt(10**0.4 * 64 / 48 / 2))
    assert abs(measured - theory) < 5 * math.sqrt(theory * (1 - theory) / bits)


@pytest.mark.parametrize("profile", ["A", "C"])
def test_rayleigh_subcarriers_have_the_error_rate_of_rayleigh(profile):
    """(1 - sqrt(g / (1 + g))) / 2 with g half of Es/N0; there is one independent fade per item."""
    items, snr_db = 1500, 8.0
    channel = GenieCSI(OFDM((TDL(profile, 300.0),), pilots=Pilots(1, (0,), 4)))
    x, bits = qpsk(items, 48)
    estimate, _ = zero_forcing(transmit(channel, x, snr_db, streams(items)))
    rate = ((torch.view_as_real(estimate) > 0) != bits.bool()).float().mean((1, 2))
    g = 10 ** (snr_db / 10) / 2
    theory = (1 - math.sqrt(g / (1 + g))) / 2
    assert abs(rate.mean() - theory) < 5 * rate.std() / math.sqrt(items)


@pytest.mark.parametrize("numerology", [Numerology(), GUARDED, Numerology(128, 72, 9, 15e3)])
def test_samples_have_power_one_guards_and_pilots_included(numerology):
    items, probe = 100, Probe()
    channel = OFDM((probe,), numerology)
    uses = channel.data_uses(14 * 10 * numerology.symbol_samples)
    x, _ = qpsk(items, uses)
    transmit(channel, x, 10.0, streams(items))
    samples = probe.seen[0]
    assert samples.shape == (items, uses + channel.overhead(uses))
    energy = samples.abs().square().mean(1)
    assert abs(energy.mean() - 1) < 5 * energy.std() / math.sqrt(items)
    without_prefix = samples.reshape(items, -1, numerology.symbol_samples)[..., numerology.prefix :]
    assert torch.allclose(without_prefix.abs().square().mean((1, 2)), torch.ones(items), atol=1e-5)


def test_prefix_repeats_the_end_of_each_symbol():
    probe = Probe()
    channel = OFDM((probe,))
    x, _ = qpsk(1, channel.data_uses(800))
    transmit(channel, x, 10.0, streams(1))
    symbols = probe.seen[0].reshape(-1, 80)
    assert torch.equal(symbols[:, :16], symbols[:, -16:])


@pytest.mark.parametrize("profile", "ABCDE")
def test_one_tap_equaliser_is_exact_when_echoes_fit_the_prefix(profile):
    """Static multipath, no noise to speak of: y = h x on every subcarrier, E at 80 ns reaching 1.7 us."""
    channel = GenieCSI(OFDM((TDL(profile, 80.0),), Numerology(64, 52, 16, 60e3)))
    x, _ = qpsk(4, channel.data_uses(1600))
    received = transmit(channel, x, 120.0, streams(4))
    noise = 10 * 10**-6.0  # standard deviations at 120 dB
    transforms = rounding(torch.float32, 2 * 64, float(received.y.abs().max()))  # sums of 64 and back
    assert torch.allclose(received.y, received.h * x, rtol=0, atol=noise + transforms)
    assert received.h.abs().std() > 0.01  # it is not flat


def test_echoes_longer_than_the_prefix_interfere_as_computed():
    items = 400
    channel = GenieCSI(OFDM((TDL("C", 1000.0),), Numerology(64, 64, 4, 60e3)))
    x, _ = qpsk(items, channel.data_uses(68 * 15))
    received = transmit(channel, x, 80.0, streams(items))
    wrong = (received.y - received.h * x).abs().square().mean(1)
    stated = received.noise_var.mean().item()
    assert stated > 0.01
    assert abs(wrong.mean() - stated) < 5 * wrong.std() / math.sqrt(items)


def useful_share(correlation, size=64):
    """1/N^2 sum_ij R(i - j): power of the mean over the FFT window."""
    return sum((size - abs(m)) * correlation(m) for m in range(1 - size, size)) / size**2


@pytest.mark.parametrize(
    ("stage", "correlation"),
    [
        (TDL("A", 100.0, 3000.0), lambda m: special.j0(2 * math.pi * 3000 * m / 3.84e6)),
        (PhaseNoise(2000.0), lambda m: math.exp(-math.pi * 2000 * abs(m) / 3.84e6)),
    ],
)
def test_interference_between_subcarriers(stage, correlation):
    stated = transmit(GenieCSI(OFDM((stage,))), qpsk(1, 64)[0], 80.0, streams(1)).noise_var.mean().item()
    assert math.isclose(stated, 1 - useful_share(correlation), rel_tol=1e-3)


def test_interference_of_a_carrier_offset():
    """1 - mean of (sin(pi e) / (N sin(pi e / N)))^2 over e uniform on -0.2..0.2."""
    e = torch.linspace(-0.2, 0.2, 20_001, dtype=torch.float64)[:-1] + 1e-5
    kernel = (torch.sin(math.pi * e) / (64 * torch.sin(math.pi * e / 64))).square()
    channel = GenieCSI(OFDM((CarrierOffset(0.2),)))
    stated = transmit(channel, qpsk(1, 64)[0], 80.0, streams(1)).noise_var.mean().item()
    assert math.isclose(stated, 1 - kernel.mean().item(), rel_tol=1e-3)


GRIDS = (Numerology(), GUARDED, Numerology(128, 72, 9, 15e3))


@pytest.mark.parametrize("numerology", GRIDS, ids=lambda n: n.name)
@pytest.mark.parametrize("papr_db", [2.0, 6.0])
def test_distortion_that_falls_on_guards_is_not_counted(numerology, papr_db):
    """Of Gaussian symbols, against the spectrum of a clipped Gaussian waveform at the used subcarriers.

    Pilots, of one amplitude and the same in every slot, are few enough not to matter.
    """
    items, pilots = 100, Pilots(50, (0,), numerology.subcarriers // 2)
    channel = GenieCSI(OFDM((ClippedAmplifier(papr_db),), numerology, pilots))
    uses = channel.data_uses(50 * numerology.symbol_samples)
    x = streams(items).fork("data").complex_normal("x", (uses,))
    stated = transmit(channel, x, 80.0, streams(items)).noise_var.mean(1).double()
    k, lag = torch.arange(numerology.subcarriers), torch.arange(numerology.fft_size, dtype=torch.float64)
    middle = (numerology.subcarriers - 1) / 2
    before = torch.cos(2 * math.pi * lag[:, None] * (k - middle) / numerology.fft_size).mean(1)
    after = clipping_distortion(papr_db, before.numpy())
    theory = float(after @ before.numpy()) * numerology.subcarriers / numerology.fft_size + 1e-8
    # clipping depends on the whole item, with an error of 1 in some thousand samples
    assert abs(stated.mean() - theory) < 5 * stated.std() / math.sqrt(items) + 1e-3 * theory
    everything = 1 - ClippedAmplifier(papr_db).paths(numerology)[0].powers[0]
    if numerology.subcarriers < numerology.fft_size:
        assert theory < 0.8 * everything


@pytest.mark.parametrize("numerology", GRIDS, ids=lambda n: n.name)
@pytest.mark.parametrize("medium", [(), (TDL("A", 100.0, 30.0),)], ids=["flat", "tdl-a"])
@pytest.mark.parametrize("symbols", ["qpsk", "256-qam", "gaussian"])
def test_noise_under_clipping_is_what_the_receiver_believes(numerology, medium, symbols):
    items = 60
    channel = OFDM((ClippedAmplifier(4.0), *medium), numerology)
    uses = channel.data_uses(28 * numerology.symbol_samples)
    if symbols == "gaussian":
        x = streams(items).fork("data").complex_normal("x", (uses,))
    else:
        constellation = Constellation(4 if symbols == "qpsk" else 256)
        x = constellation.modulate(
            streams(items).fork("data").bits("bits", (uses * constellation.bits_per_symbol,))
        )
    # the distortion of pilots counts as white, which it is not quite: the estimate is up to 2 % better
    for receiver, bias in ((channel, 0.02), (GenieCSI(channel), 1e-3)):
        received = transmit(receiver, x, 30.0, streams(items))
        share = ((received.y - received.h * x).abs().square() / received.noise_var).mean(1)
        assert abs(share.mean() - 1) < 5 * share.std() / math.sqrt(items) + bias


@pytest.mark.parametrize("stage", [PhaseNoise(3000.0), TDL("A", 50.0, 6000.0), CarrierOffset(0.2)], ids=str)
def test_interference_that_falls_on_guards_is_not_counted(stage):
    """From subcarrier j to k: 1/N^2 sum_ab R(a - b) e^(2 pi j (j - k)(a - b) / N), over used j and k."""
    n = Numerology(64, 12, 16, 60e3)
    time = torch.arange(n.fft_size, dtype=torch.float64)
    lag = time[:, None] - time
    (paths,) = stage.paths(n)
    moved = paths.correlation(lag.flatten()).reshape(lag.shape)
    used = torch.arange(n.subcarriers, dtype=torch.float64)
    apart = (used[:, None] - used)[:, :, None, None]
    spill = (moved * torch.cos(2 * math.pi * apart * lag / n.fft_size)).mean((2, 3))
    expected = float((spill.sum() - spill.diagonal().sum()) / n.subcarriers)
    stated = transmit(GenieCSI(OFDM((stage,), n)), qpsk(1, 6)[0], 150.0, streams(1)).noise_var.mean().item()
    assert math.isclose(stated, expected, rel_tol=1e-5)
    everything = 1 - spill.diagonal().mean()
    assert stated < 0.95 * everything


def test_tracking_pilots_are_counted():
    """12 of 14 symbols carry 4 tracking pilots among 64 subcarriers where a stage turns the phase."""
    assert OFDM((PhaseNoise(100.0),)).data_uses(14 * 80) == 14 * 64 - 2 * 32 - 12 * 4
    assert OFDM((CarrierOffset(0.01),), tracking=8).data_uses(14 * 80) == 14 * 64 - 2 * 32 - 12 * 8
    assert OFDM((PhaseNoise(100.0),), tracking=0).data_uses(14 * 80) == 14 * 64 - 2 * 32
    assert OFDM((TDL("A", 100.0, 10.0),)).data_uses(14 * 80) == 14 * 64 - 2 * 32
    straight = Pilots(interpolation="linear")
    assert OFDM((PhaseNoise(100.0),), pilots=straight).data_uses(14 * 80) == 14 * 64 - 2 * 32


@pytest.mark.parametrize("tracking", [0, 16, 4])
def test_common_phase_error_is_tracked_as_in_theory(tracking):
    """Without multipath all subcarriers of a symbol share one rotation: one observation of noise N/pilots."""
    items, snr_db, linewidth = 300, 15.0, 300.0
    channel = OFDM((PhaseNoise(linewidth),), tracking=tracking)
    x, _ = qpsk(items, channel.data_uses(14 * 80))
    told, known = (transmit(c, x, snr_db, streams(items)) for c in (channel, GenieCSI(channel)))
    inner = torch.arange(64, dtype=torch.float64)
    lag = 80.0 * (torch.arange(14)[:, None] - torch.arange(14))
    apart = lag[:, :, None, None] + inner[:, None] - inner
    covariance = torch.exp(-math.pi * linewidth / 3.84e6 * apart.abs()).mean((2, 3))
    noise = 10 ** (-snr_db / 10) + 1 - covariance[0, 0]
    pilots = torch.tensor([32.0 if s in (0, 7) else (64 / tracking if tracking else 0.0) for s in range(14)])
    rows = pilots > 0
    among = covariance[rows][:, rows] + torch.diag(noise / pilots[rows])
    left = covariance - covariance[:, rows] @ torch.linalg.solve(among, covariance[rows])
    theory = (left.diagonal() * (64 - pilots)).sum() / (64 - pilots).sum()
    missed = (told.h - known.h).abs().square().mean(1)
    assert abs(missed.mean() - theory) < 5 * missed.std() / math.sqrt(items)
    stated = (told.noise_var - known.noise_var).mean().item()
    assert math.isclose(stated, theory, rel_tol=1e-4)


def test_channel_uses_are_samples():
    """A slot of 14 symbols of 80 samples holds 14 * 64 subcarriers, 2 * 32 of them pilots."""
    channel = OFDM()
    assert channel.data_uses(14 * 80) == 14 * 64 - 2 * 32
    assert channel.overhead(832) == 14 * 80 - 832
    assert channel.data_uses(79) == 0
    assert channel.overhead(1) == 79
    assert OFDM((), Numerology(64, 48, 16), Pilots(7, (0,), 1)).data_uses(7 * 80) == 6 * 48


@pytest.mark.parametrize("interpolation", ["linear", "wiener"])
def test_flat_gain_is_estimated_as_in_theory(interpolation):
    """Block pilots on a constant gain of 1. Wiener: N0 / (64 + N0), all pilots being one gain seen 64 times;
    straight lines keep the error of the one pilot on the same subcarrier, N0."""
    items, n0 = 200, 0.1
    channel = OFDM((), Numerology(), Pilots(4, (0,), 1, interpolation))
    x, _ = qpsk(items, channel.data_uses(320))
    received = transmit(channel, x, 10.0, streams(items))
    theory = n0 / (64 + n0) if interpolation == "wiener" else n0
    assert torch.allclose(received.noise_var, torch.tensor(n0 + theory), rtol=1e-4)
    error = (received.h - 1).abs().square().mean(1)
    assert abs(error.mean() - theory) < 5 * error.std() / math.sqrt(items)


@pytest.mark.parametrize("snr_db", [20.0, 60.0, 80.0, 100.0])
@pytest.mark.parametrize("waveform", [(), (TDL("A", 100.0),)], ids=["flat", "tdl-a"])
def test_a_static_gain_is_estimated_as_stated_at_any_snr(waveform, snr_db):
    """Two pilot symbols that see one gain: a filter that cancels their difference loses it to rounding."""
    items = 60
    x, _ = qpsk(items, 832)
    x = x.to(torch.complex128)
    received = transmit(OFDM(waveform), x, snr_db, streams(items))
    known = transmit(GenieCSI(OFDM(waveform)), x, snr_db, streams(items))
    error = (received.h - known.h).abs().square().mean(1)
    stated = (received.noise_var - known.noise_var).mean()
    assert abs(error.mean() - stated) < 5 * error.std() / math.sqrt(items)


@pytest.mark.parametrize("waveform", [(), (TDL("B", 200.0, 400.0),), (TDL("D", 200.0, 2000.0),)])
def test_wiener_is_never_worse_than_straight_lines(waveform):
    x, _ = qpsk(1, 832)
    error = {
        kind: transmit(OFDM(waveform, pilots=Pilots(interpolation=kind)), x, 5.0, streams(1)).noise_var
        for kind in ("linear", "wiener")
    }
    assert bool((error["wiener"] <= error["linear"] + 1e-6).all())


def test_estimates_approach_the_genie_at_high_snr():
    waveform = (TDL("A", 200.0, 5.0),)
    x, _ = qpsk(4, 1664)
    estimated = transmit(OFDM(waveform), x, 60.0, streams(4))
    known = transmit(GenieCSI(OFDM(waveform)), x, 60.0, streams(4))
    assert torch.equal(estimated.y, known.y)
    assert (estimated.h - known.h).abs().square().mean() < 2e-5


def test_stages_do_not_change_each_others_draws():
    """Multipath added to phase noise leaves the phase noise: schemes are compared on paired fades."""
    x, _ = qpsk(2, 832)
    plain = transmit(GenieCSI(OFDM((PhaseNoise(300.0),))), x, 60.0, streams(2))
    more = transmit(GenieCSI(OFDM((TDL("A", 0.0), PhaseNoise(300.0)))), x, 60.0, streams(2))
    flat = transmit(GenieCSI(OFDM((TDL("A", 0.0),))), x, 60.0, streams(2))
    assert torch.allclose(more.h, plain.h * flat.h, atol=1e-4)


def test_a_clipped_transmission_keeps_power_and_peaks():
    probe = Probe()
    channel = OFDM((ClippedAmplifier(5.0), probe))
    x, _ = qpsk(5, channel.data_uses(11_200))
    transmit(channel, x, 10.0, streams(5))
    power = probe.seen[0].abs().square()
    assert torch.allclose(10 * torch.log10(power.amax(1) / power.mean(1)), torch.tensor(5.0), atol=1e-3)
    unclipped = Probe()
    transmit(OFDM((unclipped,)), x, 10.0, streams(5))
    assert torch.allclose(power.mean(1), unclipped.seen[0].abs().square().mean(1), rtol=1e-5)
