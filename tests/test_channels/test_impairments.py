"""Stages of a waveform against their closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy import special

from channels import (
    AWGN,
    TDL,
    CarrierOffset,
    ClippedAmplifier,
    Constellation,
    GenieCSI,
    Impaired,
    NamedStreams,
    NoCSI,
    Numerology,
    PhaseNoise,
    PilotAided,
    RayleighBlockFading,
    transmit,
)
from channels.theory import clipping_distortion, phase_tracking_error

GRID = Numerology(64, 64, 16, 60e3)


def streams(items):
    return NamedStreams(9, tuple(map(str, range(items))))


def gaussian(items, samples):
    return streams(items).complex_normal("x", (samples,))


@pytest.mark.parametrize("papr_db", [1.0, 3.0, 6.0])
def test_clipping_a_gaussian_waveform_is_bussgang(papr_db):
    """y = a x + d, d uncorrelated with x: a^2 is the share that the receiver is told of."""
    items, stage = 50, ClippedAmplifier(papr_db)
    x = gaussian(items, 4000)
    y = stage.apply(x, None)
    share = (x.conj() * y).mean(1).real / x.abs().square().mean(1)
    (paths,) = stage.paths(GRID)
    assert abs(share.mean() - math.sqrt(paths.powers[0])) < 5 * share.std() / math.sqrt(items) + 1e-4
    assert torch.allclose(y.abs().square().mean(1), x.abs().square().mean(1), rtol=1e-5)


@pytest.mark.parametrize("papr_db", [1e-12, 3e-8, 1e-4])
def test_what_is_clipped_to_its_phase_keeps_pi_over_4(papr_db):
    (paths,) = ClippedAmplifier(papr_db).paths(GRID)
    assert paths.powers[0] == pytest.approx(math.pi / 4, rel=1e-4)


def symbols_of(law, items, uses):
    if law == "gaussian":
        return gaussian(items, uses)
    constellation = Constellation(int(law))
    return constellation.modulate(streams(items).bits("bits", (uses * constellation.bits_per_symbol,)))


def of_16_qam(papr):
    """A^2 = papr E min(|x|^2, A^2) for powers 1/5, 1 and 9/5 of probability 1/4, 1/2 and 1/4."""
    limit = papr * 0.55 / (1 - papr / 4)
    assert 1 < limit < 1.8
    scale = (0.55 + limit / 4) ** -0.5
    gain = scale * (0.55 + 0.25 * math.sqrt(1.8 * limit))
    return gain, 1 - gain**2


@pytest.mark.parametrize("papr_db", [2.0, 2.4, 6.0])
@pytest.mark.parametrize("law", ["gaussian", "4", "16"])
def test_the_receiver_is_told_gain_and_distortion_of_the_symbols_sent(law, papr_db):
    """Closed forms: Bussgang for Gaussian symbols, three levels of 16-QAM, and none for QPSK."""
    items, uses, n0 = 100, 4000, 1e-3
    x = symbols_of(law, items, uses)
    amplifier = ClippedAmplifier(papr_db)
    received = transmit(Impaired(AWGN(), (amplifier,)), x, 30.0, streams(items))
    if law == "gaussian":
        gain = math.sqrt(amplifier.paths(GRID)[0].powers[0])
        told = gain, 1 - gain**2
    else:
        told = (1.0, 0.0) if law == "4" or papr_db > 2.6 else of_16_qam(10 ** (papr_db / 10))
    power = x.abs().square().mean(1)
    for measured, expected in zip(
        (received.h[:, 0].real, (received.noise_var[:, 0] - n0) / power), told, strict=True
    ):
        # A law of finite peaks: the bias of what is measured on one item is of the order of 1 / uses.
        error = 4 * float(measured.std()) / math.sqrt(items) + 2 * expected / uses + 1e-6
        assert abs(float(measured.mean()) - expected) < error
    assert_believed(received, x)


def assert_believed(received, x):
    """E|y - h x|^2 / N0 = 1 within four standard errors."""
    ratio = ((received.y - received.h * x).abs().square() / received.noise_var).mean(1)
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / math.sqrt(len(ratio))


@pytest.mark.parametrize("interpolation", ["wiener", "linear"])
@pytest.mark.parametrize("law", ["gaussian", "4", "16", "256"])
@pytest.mark.parametrize("snr_db", [10.0, 30.0])
@pytest.mark.parametrize("medium", [AWGN(), RayleighBlockFading(16)], ids=lambda channel: channel.name)
def test_estimates_behind_a_clipping_amplifier_are_believed_as_they_are(medium, snr_db, law, interpolation):
    items = 80
    x = symbols_of(law, items, 960)
    channel = PilotAided(Impaired(medium, (ClippedAmplifier(2.0),)), 15, interpolation)
    assert_believed(transmit(channel, x, snr_db, streams(items)), x)


@pytest.mark.parametrize("papr_db", [0.5, 2.0])
def test_pilots_are_clipped_by_an_amplifier_that_clips_them(papr_db):
    """Symbols that are silent but for one in ten: A < 1, so that pilots of amplitude 1 lose power as well."""
    x = torch.zeros(20, 500, dtype=torch.complex64)
    x[:, ::10] = 10**0.5
    channel = PilotAided(Impaired(AWGN(), (ClippedAmplifier(papr_db),)), 1)
    received = transmit(channel, x, 60.0, streams(20))
    loud = received.y[:, ::10] / x[:, ::10]
    assert torch.allclose(received.h, loud.mean().expand_as(received.h), atol=1e-2)


def test_distortion_fades_with_the_signal():
    items = 200
    x = gaussian(items, 256)
    channel = Impaired(RayleighBlockFading(256), (ClippedAmplifier(1.0),))
    received = transmit(channel, x, 40.0, streams(items))
    weak = received.h[:, 0].abs() < 0.5
    error = (received.y - received.h * x).abs().square() / received.noise_var
    for part in (error[weak], error[~weak]):
        mean = part.mean(1)
        assert abs(mean.mean() - 1) < 4 * mean.std() / math.sqrt(len(mean))


def test_low_peaks_pass_unchanged():
    x = torch.polar(torch.ones(2, 100), torch.rand(2, 100))
    assert torch.equal(ClippedAmplifier(0.5).apply(x, None), x)


def test_clipping_is_per_item():
    """A loud neighbour in the batch does not change an item."""
    x = gaussian(2, 500)
    loud = torch.stack((x[0], 10 * x[1]))
    assert torch.allclose(ClippedAmplifier(3.0).apply(loud, None)[0], ClippedAmplifier(3.0).apply(x, None)[0])


def test_silence_stays_silent():
    x = torch.zeros(1, 10, dtype=torch.complex64, requires_grad=True)
    y = ClippedAmplifier(3.0).apply(x, None)
    y.abs().sum().backward()
    assert bool((y == 0).all())
    assert x.grad is not None
    assert bool(torch.isfinite(torch.view_as_real(x.grad)).all())


def test_phase_noise_is_a_wiener_process():
    """Var(phi(t+s) - phi(t)) = 2 pi linewidth T s, and the line it makes."""
    items, stage = 2000, PhaseNoise(5000.0)
    phase = stage.draw(300, GRID, streams(items))
    step = 2 * math.pi * 5000 / GRID.sample_rate_hz
    for begin, lag in ((0, 1), (0, 299), (100, 50)):
        moved = (phase[:, begin + lag] - phase[:, begin]).square()
        assert abs(moved.mean() - step * lag) < 5 * moved.std() / math.sqrt(items)
    (paths,) = stage.paths(GRID)
    turned = torch.cos(phase[:, 200] - phase[:, 0])
    stated = float(paths.correlation(torch.tensor([200.0])))
    assert abs(turned.mean() - stated) < 5 * turned.std() / math.sqrt(items)


def test_carrier_offset_is_a_constant_frequency_within_its_bound():
    phase = CarrierOffset(0.1).draw(200, GRID, streams(500))
    turns = (phase[:, 1:] - phase[:, :-1]) * 64 / (2 * math.pi)
    assert torch.allclose(turns, turns[:, :1].expand_as(turns), atol=1e-9)
    offsets = turns[:, 0]
    assert float(offsets.abs().max()) <= 0.1
    assert abs(offsets.square().mean() - 0.01 / 3) < 5 * offsets.square().std() / math.sqrt(500)


def test_rotation_is_known_to_a_genie_only():
    """The default receiver tracks the phase by pilots that it pays for."""
    channel = Impaired(AWGN(), (PhaseNoise(20_000.0),), tracking=3)
    x = torch.ones(20, 500, dtype=torch.complex64)
    known = transmit(GenieCSI(channel), x, 40.0, streams(20))
    unknown = transmit(NoCSI(channel), x, 40.0, streams(20))
    assert (known.y - known.h * x).abs().square().mean() < 2e-4
    assert (unknown.y - unknown.h * x).abs().square().mean() > 0.5
    assert GenieCSI(channel).name.startswith("genie/impaired:")
    for tracked in (channel, PilotAided(channel, 3)):
        received = transmit(tracked, x, 40.0, streams(20))
        error = (received.y - received.h * x).abs().square().mean(1)
        assert abs(error.mean() - received.noise_var.mean()) < 5 * error.std() / math.sqrt(20)
        assert 0.01 < error.mean() < 0.2
        assert tracked.overhead(500) == 168


@pytest.mark.parametrize("stage", [PhaseNoise(100.0), CarrierOffset(0.001)], ids=lambda stage: stage.name)
@pytest.mark.parametrize("medium", [AWGN(), RayleighBlockFading(24)], ids=lambda medium: medium.name)
def test_no_receiver_is_told_the_rotation_for_nothing(stage, medium):
    """Whatever is not a genie differs from the true gain, and says by how much."""
    x = torch.ones(100, 300, dtype=torch.complex64)
    for tracking in (None, 0, 7):
        channel = Impaired(medium, (stage,), tracking)
        told = transmit(channel, x, 20.0, streams(100))
        known = transmit(GenieCSI(channel), x, 20.0, streams(100))
        assert torch.equal(told.y, known.y)
        missed = (told.h - known.h).abs().square().mean(1)
        stated = (told.noise_var - known.noise_var).mean(1)
        assert missed.mean() > 1e-4
        assert abs((missed - stated).mean()) < 5 * (missed - stated).std() / math.sqrt(100)


@pytest.mark.parametrize(("linewidth_hz", "snr_db"), [(2000.0, 20.0), (5000.0, 10.0), (20_000.0, 30.0)])
def test_tracking_error_of_phase_noise_is_that_of_the_wiener_filter(linewidth_hz, snr_db):
    items, spacing = 300, 15
    channel = Impaired(AWGN(), (PhaseNoise(linewidth_hz),))
    x = torch.ones(items, 20 * spacing, dtype=torch.complex64)
    told, known = (transmit(c, x, snr_db, streams(items)) for c in (channel, GenieCSI(channel)))
    missed = (told.h - known.h).abs().square()[:, 8 * spacing : 12 * spacing]  # far from both ends
    theory = phase_tracking_error(linewidth_hz * 1e-6, spacing, snr_db).mean()
    noise, changed = 10 ** (-snr_db / 10), 1 - math.exp(-2 * math.pi * linewidth_hz * 1e-6 * (spacing + 1))
    # 4 pilots on each side are used; what those beyond would add is forgotten by N0 / (changed + N0) for each
    forgotten = (noise / (changed + noise)) ** 6
    assert abs(missed.mean() - theory) < 5 * missed.mean(1).std() / math.sqrt(items) + forgotten * theory
    stated = (told.noise_var - known.noise_var)[:, 8 * spacing : 12 * spacing].mean()
    assert abs(stated / theory - 1) < 1e-3 + forgotten


@pytest.mark.parametrize("linewidth", [1e-5, 2e-3, 0.05])
def test_the_closed_form_of_the_wiener_filter_is_that_of_many_pilots(linewidth):
    """1 - r (R + N0)^-1 r^T over 200 pilots."""
    spacing, n0 = 6, 0.05
    pilots = 7.0 * np.arange(200)
    among = np.exp(-math.pi * linewidth * np.abs(pilots[:, None] - pilots)) + n0 * np.eye(200)
    data = pilots[99] + np.arange(1, 7)
    cross = np.exp(-math.pi * linewidth * np.abs(data[:, None] - pilots))
    exact = 1 - (cross * np.linalg.solve(among, cross.T).T).sum(1)
    stated = phase_tracking_error(linewidth, spacing, -10 * math.log10(n0))
    assert np.allclose(stated, exact, rtol=1e-6)


def test_a_phase_that_is_not_tracked_is_forgotten():
    """E e^(j phi(t)) = e^(-pi linewidth T t) is all that is known of it."""
    channel = Impaired(AWGN(), (PhaseNoise(1000.0),), tracking=0)
    assert channel.overhead(400) == 0
    received = transmit(channel, torch.ones(1, 400, dtype=torch.complex64), 20.0, streams(1))
    coherence = torch.exp(-math.pi * 1e-3 * torch.arange(400.0))
    assert torch.allclose(received.h.real, coherence[None], rtol=1e-5)
    assert torch.allclose(received.noise_var, 0.01 + 1 - coherence[None] ** 2, rtol=1e-4, atol=1e-6)


def test_clipping_alone_sends_no_pilots():
    assert Impaired(AWGN(), (ClippedAmplifier(3.0),)).overhead(400) == 0
    assert Impaired(AWGN(), (ClippedAmplifier(3.0), CarrierOffset(0.01))).overhead(400) == 28


@pytest.mark.parametrize("papr_db", [0.5, 3.0, 6.0])
@pytest.mark.parametrize("r", [0.4, 0.8, 0.97])
def test_distortion_has_the_autocorrelation_of_theory(papr_db, r):
    items, stage = 200, ClippedAmplifier(papr_db)
    x = gaussian(items, 20_000)
    near = r * x + math.sqrt(1 - r * r) * streams(items).complex_normal("near", (20_000,))
    (paths,) = stage.paths(GRID)
    d, e = (stage.apply(part, None) - math.sqrt(paths.powers[0]) * part for part in (x, near))
    product = (d * e.conj()).mean(1).real.double()
    stated = clipping_distortion(papr_db, np.array([r]))[0]
    # A and c are those of the item: errors of 1/20000 relative to the power of x
    assert abs(product.mean() - stated) < 5 * product.std() / math.sqrt(items) + 1e-6
    assert math.isclose(clipping_distortion(papr_db, np.ones(1))[0], 1 - paths.powers[0], rel_tol=1e-9)


def test_the_noise_of_a_good_channel_is_not_lost_beside_the_power_of_the_signal():
    """N0 = 1e-9 at 90 dB, although 1 + 1e-9 is 1 in float32."""
    channel = GenieCSI(Impaired(AWGN(), (PhaseNoise(100.0),)))
    received = transmit(channel, torch.ones(1, 4, dtype=torch.complex64), 90.0, streams(1))
    assert torch.allclose(received.noise_var, torch.tensor(1e-9), rtol=1e-5, atol=0)


def test_a_flat_line_of_sight_turns_beside_its_scattered_part():
    """TDL-D without delays: E h(t+s) h(t)* = (1 - P) J0(2 pi f s) + P exp(2 pi j 0.7 f s)."""
    items, doppler, lag = 1000, 0.05, 5
    line = TDL("D", 0.0, doppler * 1e6)
    channel = Impaired(AWGN(), (line,))
    h = transmit(channel, torch.ones(items, lag + 1, dtype=torch.complex64), 10.0, streams(items)).h
    product = (h[:, lag] * h[:, 0].conj()).to(torch.complex128)
    power, turns = line.line_of_sight_power, doppler * lag
    expected = (1 - power) * special.j0(2 * math.pi * turns) + power * np.exp(1.4j * math.pi * turns)
    assert abs(product.mean().item() - expected) < 5 * float(product.std()) / math.sqrt(items)
    stated = channel.correlation(torch.tensor(lag), torch.tensor(0)).item()
    assert abs(stated - expected) < 1e-12


def test_the_medium_behind_a_stage_fades_as_without_it():
    rng, x = streams(2), torch.ones(2, 100, dtype=torch.complex64)
    plain = transmit(RayleighBlockFading(10), x, 10.0, rng)
    impaired = transmit(Impaired(RayleighBlockFading(10), (PhaseNoise(0.0),), 0), x, 10.0, rng)
    assert torch.allclose(plain.y, impaired.y, atol=1e-6)
