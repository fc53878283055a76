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
