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
    Impaired,
    NamedStreams,
    NoCSI,
    Numerology,
    PhaseNoise,
    PilotAided,
    RayleighBlockFading,
    transmit,
)

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


def test_rotation_is_known_to_a_perfect_receiver_only():
    channel = Impaired(AWGN(), (PhaseNoise(20_000.0),))
    x = torch.ones(20, 500, dtype=torch.complex64)
    known = transmit(channel, x, 40.0, streams(20))
    unknown = transmit(NoCSI(channel), x, 40.0, streams(20))
    assert (known.y - known.h * x).abs().square().mean() < 2e-4
    assert (unknown.y - unknown.h * x).abs().square().mean() > 0.5
    tracked = transmit(PilotAided(channel, 3), x, 40.0, streams(20))
    error = (tracked.y - tracked.h * x).abs().square().mean(1)
    assert abs(error.mean() - tracked.noise_var.mean()) < 5 * error.std() / math.sqrt(20)
    assert error.mean() < 0.2


def test_the_noise_of_a_good_channel_is_not_lost_beside_the_power_of_the_signal():
    """N0 = 1e-9 at 90 dB, although 1 + 1e-9 is 1 in float32."""
    channel = Impaired(AWGN(), (PhaseNoise(100.0),))
    received = transmit(channel, torch.ones(1, 4, dtype=torch.complex64), 90.0, streams(1))
    assert torch.allclose(received.noise_var, torch.tensor(1e-9), rtol=1e-5, atol=0)


def test_a_flat_line_of_sight_turns_beside_its_scattered_part():
    """TDL-D within one sample: E h(t+s) h(t)* = (1 - P) J0(2 pi f s) + P exp(2 pi j 0.7 f s)."""
    items, doppler, lag = 1000, 0.05, 5
    line = TDL("D", 10.0, doppler * 1e6)
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
    impaired = transmit(Impaired(RayleighBlockFading(10), (PhaseNoise(0.0),)), x, 10.0, rng)
    assert torch.allclose(plain.y, impaired.y, atol=1e-6)
