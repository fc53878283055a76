"""Estimates of the gain against closed forms; the genie and the ignorant."""

import math

import pytest
import torch
from scipy import special

from channels import (
    AWGN,
    GenieCSI,
    Interleaved,
    JakesFading,
    NamedStreams,
    NoCSI,
    PilotAided,
    RayleighBlockFading,
    transmit,
)
from channels.interleave import permutation

ITEMS, N0 = 400, 0.1


def streams(items=ITEMS):
    return NamedStreams(13, tuple(map(str, range(items))))


def estimation_errors(channel, uses):
    """Squared error of the estimate per item and use, against the genie's gain."""
    x = torch.ones(ITEMS, uses, dtype=torch.complex64)
    estimated = transmit(channel, x, 10.0, streams())
    known = transmit(GenieCSI(channel), x, 10.0, streams())
    assert torch.equal(estimated.y, known.y)
    return (estimated.h - known.h).abs().square(), estimated.noise_var[0] - N0


def assert_mean(samples, expected):
    assert abs(samples.mean() - expected) < 5 * samples.std() / math.sqrt(len(samples))


def test_constant_gain_is_averaged_over_eight_pilots():
    """N0 / (8 + N0)."""
    error, stated = estimation_errors(PilotAided(AWGN(), 5), 100)
    theory = N0 / (8 + N0)
    assert torch.allclose(stated, torch.tensor(theory), rtol=1e-3)
    assert_mean(error.mean(1), theory)


def test_one_pilot_in_each_fading_block():
    """N0 / (1 + N0): pilots of other blocks tell nothing."""
    error, stated = estimation_errors(PilotAided(RayleighBlockFading(10), 9), 90)
    theory = N0 / (1 + N0)
    assert torch.allclose(stated, torch.tensor(theory), rtol=1e-3)
    assert_mean(error.mean(1), theory)


def test_straight_line_between_two_pilots_of_jakes():
    """Half way at a distance d: 3/2 + J0(2d)/2 - 2 J0(d) + N0/2, where d stands for 2 pi f_D T d."""
    channel = PilotAided(JakesFading(0.05), 3, "linear")
    error, stated = estimation_errors(channel, 60)
    a = 2 * math.pi * 0.05 * 2
    theory = 1.5 + special.j0(2 * a) / 2 - 2 * special.j0(a) + N0 / 2
    middle = slice(1, None, 3)  # pilot, x, x, x, pilot
    assert torch.allclose(stated[middle], torch.tensor(theory, dtype=torch.float32), rtol=1e-3)
    assert_mean(error[:, middle].mean(1), theory)


def test_wiener_filter_of_two_pilots():
    """1 - r^T (R + N0)^-1 r for the only data symbol between two pilots of Jakes fading."""
    channel = PilotAided(JakesFading(0.1), 1)
    error, stated = estimation_errors(channel, 1)
    r, far = special.j0(2 * math.pi * 0.1), special.j0(4 * math.pi * 0.1)
    theory = 1 - 2 * r * r / (1 + N0 + far)
    assert math.isclose(float(stated[0]), theory, rel_tol=1e-3)
    assert_mean(error[:, 0], theory)


@pytest.mark.parametrize("channel", [JakesFading(0.02), RayleighBlockFading(10)], ids=lambda c: c.name)
def test_wiener_is_never_worse_than_straight_lines(channel):
    x = torch.ones(1, 97, dtype=torch.complex64)
    wiener = transmit(PilotAided(channel, 4), x, 10.0, streams(1)).noise_var
    linear = transmit(PilotAided(channel, 4, "linear"), x, 10.0, streams(1)).noise_var
    assert bool((wiener <= linear + 1e-6).all())


def test_error_at_80_db_is_as_stated():
    """The filter cancels neighbouring pilots to 1e-8: statistics of less than double precision would show."""
    x = torch.ones(ITEMS, 135, dtype=torch.complex64)
    received = transmit(PilotAided(JakesFading(0.01), 5), x, 80.0, streams())
    error = (received.y - received.h * x).abs().square().mean(1)
    assert_mean(error, received.noise_var.mean())


def test_pilots_are_counted():
    channel = PilotAided(AWGN(), 9)
    assert channel.overhead(90) == 11
    assert channel.overhead(91) == 12
    assert channel.overhead(1) == 2
    assert channel.data_uses(101) == 90
    assert PilotAided(channel.channel, 1).overhead(50) == 51


def test_pilots_alone_say_nothing_of_fast_fading():
    """h = 0 and all power in the noise: E|h|^2 + N0."""
    received = transmit(PilotAided(RayleighBlockFading(1), 3), torch.ones(1, 9) + 0j, 10.0, streams(1))
    assert torch.allclose(received.h.abs(), torch.zeros(1, 9), atol=1e-6)
    assert torch.allclose(received.noise_var, torch.tensor(1 + N0), rtol=1e-5)


def test_genie_reports_what_the_channel_did():
    x = torch.ones(3, 40, dtype=torch.complex64)
    received = transmit(GenieCSI(PilotAided(RayleighBlockFading(8), 7)), x, 100.0, streams(3))
    assert torch.allclose(received.y, received.h, atol=10 * 1e-10**0.5)  # ten standard deviations at 100 dB
    assert torch.allclose(received.noise_var, torch.tensor(1e-10), atol=0)


def test_no_csi_believes_in_a_unit_gain():
    x = torch.ones(3, 40, dtype=torch.complex64)
    true = transmit(RayleighBlockFading(8), x, 10.0, streams(3))
    blind = transmit(NoCSI(RayleighBlockFading(8)), x, 10.0, streams(3))
    assert torch.equal(blind.y, true.y)
    assert torch.equal(blind.h, torch.ones_like(blind.h))
    assert torch.allclose(blind.noise_var, torch.full((3, 1), N0))
    assert true.y.imag.abs().max() > 0.1  # the phase is there, though nobody knows it


def test_interleaving_puts_everything_back():
    x = torch.view_as_complex(torch.randn(2, 333, 2))
    received = transmit(Interleaved(RayleighBlockFading(20)), x, 100.0, streams(2))
    assert torch.allclose(received.y, received.h * x, atol=1e-3)
    assert sorted(permutation(333).tolist()) == list(range(333))


def test_interleaving_breaks_fades_apart():
    """Neighbours share a block of 20 of 2000 uses with probability 1/100, not 19/20."""
    h = transmit(Interleaved(RayleighBlockFading(20)), torch.ones(1, 2000) + 0j, 10.0, streams(1)).h[0]
    same = (h[1:] == h[:-1]).float().mean()
    p = 19 / 1999
    assert abs(same - p) < 5 * math.sqrt(p * (1 - p) / 1999)


def test_interleaving_keeps_fades_and_noise_by_their_place_in_time():
    x = torch.zeros(1, 500, dtype=torch.complex64)
    plain = transmit(RayleighBlockFading(20), x, 10.0, streams(1))
    mixed = transmit(Interleaved(RayleighBlockFading(20)), x, 10.0, streams(1))
    assert torch.equal(mixed.y, plain.y[:, permutation(500)])
    assert torch.equal(mixed.h, plain.h[:, permutation(500)])


def test_interleaved_estimates_stay_with_their_symbols():
    channel = PilotAided(JakesFading(0.02), 5)
    x = torch.ones(1, 100, dtype=torch.complex64)
    plain, mixed = (transmit(c, x, 10.0, streams(1)) for c in (channel, Interleaved(channel)))
    assert torch.equal(mixed.noise_var, plain.noise_var[:, permutation(100)])
