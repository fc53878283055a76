"""Fading against its closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats

from channels import JakesFading, NamedStreams, RayleighBlockFading, RicianBlockFading


def gains(channel, items, uses, path="gains"):
    rng = NamedStreams(11, tuple(map(str, range(items)))).fork(path)
    return channel.draw(uses, 10.0, rng).h.numpy()


def within(samples, expected, errors=5.0):
    """The mean of independent samples is as expected, to five standard errors."""
    return abs(samples.mean() - expected) < errors * samples.std() / math.sqrt(len(samples))


def test_rayleigh_power_is_exponential_and_its_phase_uniform():
    h = gains(RayleighBlockFading(1), 4, 5000).ravel()
    assert stats.kstest(np.abs(h) ** 2, "expon").pvalue > 1e-4
    assert stats.kstest(np.angle(h) / (2 * np.pi) + 0.5, "uniform").pvalue > 1e-4


def test_rayleigh_gain_is_circular():
    """A magnitude without phase has E h = sqrt(pi)/2 and E h^2 = 1."""
    h = gains(RayleighBlockFading(1), 4, 5000).ravel()
    for statistic in (h.real, h.imag, (h**2).real, (h**2).imag):
        assert within(statistic, 0.0)


@pytest.mark.parametrize("channel", [RayleighBlockFading(10), RicianBlockFading(10, 3.0)])
def test_gain_is_constant_in_a_block_and_new_in_the_next(channel):
    h = gains(channel, 2000, 25)
    blocks = np.split(h, [10, 20], axis=1)  # the last block is cut short
    assert [block.shape[1] for block in blocks] == [10, 10, 5]
    assert all((block == block[:, :1]).all() for block in blocks)
    product = blocks[0][:, 0] * blocks[1][:, 0].conj()
    assert within(product.real, 0.0)
    assert within(product.imag, 0.0)


def test_a_block_without_end_is_one_gain():
    """And takes no more memory than the uses in it."""
    for channel in (RayleighBlockFading(10**15), RicianBlockFading(10**15, 3.0)):
        h = gains(channel, 2, 25)
        assert (h == h[:, :1]).all()


def test_every_item_fades_on_its_own():
    h = gains(RayleighBlockFading(100), 4000, 1)[:, 0]
    assert within((h[:-1] * h[1:].conj()).real, 0.0)


@pytest.mark.parametrize("k_factor_db", [-10.0, 0.0, 6.0, 20.0])
def test_rician_power_is_one_and_its_fourth_moment_shows_k(k_factor_db):
    """E|h|^2 = 1 and E|h|^4 = (K^2 + 4K + 2) / (K + 1)^2."""
    h = gains(RicianBlockFading(1, k_factor_db), 4, 10_000).ravel()
    k = 10 ** (k_factor_db / 10)
    assert within(np.abs(h) ** 2, 1.0)
    assert within(np.abs(h) ** 4, (k * k + 4 * k + 2) / (k + 1) ** 2)


def test_rician_magnitude_follows_its_distribution():
    k = 10**0.6
    h = gains(RicianBlockFading(1, 6.0), 4, 5000).ravel()
    rice = stats.rice(math.sqrt(2 * k), scale=math.sqrt(1 / (2 * (k + 1))))
    assert stats.kstest(np.abs(h), rice.cdf).pvalue > 1e-4


def test_stated_correlation_of_jakes_is_exact():
    """The mean of exp(2 pi j f s cos(a)) over 1000 equal angles is J0 but for terms beyond J_1000."""
    lag, turns = torch.arange(2000), 0.02 * np.arange(2000)
    angle = 2 * math.pi * np.arange(1000) / 1000
    expected = np.cos(2 * math.pi * turns[:, None] * np.cos(angle)).mean(1)
    stated = JakesFading(0.02).correlation(lag, torch.tensor(0)).numpy()
    assert np.abs(stated - expected).max() < 1e-12


@pytest.mark.parametrize("doppler", [0.003, 0.05, 0.31])
def test_jakes_autocorrelation_is_j0(doppler):
    """Between the first use and each other one, over independent items: exact at every lag."""
    h = gains(JakesFading(doppler), 1000, 200)
    for lag in (0, 1, 2, 5, 17, 64, 65, 199):
        product = h[:, lag] * h[:, 0].conj()
        assert within(product.real, special.j0(2 * math.pi * doppler * lag))
        assert lag == 0 or within(product.imag, 0.0)


def test_jakes_is_stationary():
    h = gains(JakesFading(0.01), 1000, 300)
    for start in (0, 100, 250):
        assert within(np.abs(h[:, start]) ** 2, 1.0)
        assert within((h[:, start + 40] * h[:, start].conj()).real, special.j0(2 * math.pi * 0.4))


def test_jakes_is_nearly_gaussian():
    """E|h|^4 = 2 - 1/256, and the power is exponential as far as 4000 samples can tell."""
    h = gains(JakesFading(0.02), 4000, 1)[:, 0]
    assert within(np.abs(h) ** 4, 2 - 1 / 256)
    assert stats.kstest(np.abs(h) ** 2, "expon").pvalue > 1e-4


def test_doppler_spectrum_is_that_of_clarke():
    """Power below a frequency f is (2/pi) arcsin(f / f_D), and nothing is above f_D."""
    doppler, uses = 0.1, 2048
    h = gains(JakesFading(doppler), 300, uses)
    spectrum = np.abs(np.fft.fft(h * np.hanning(uses), axis=1)) ** 2
    frequency = np.abs(np.fft.fftfreq(uses))
    for share in (0.25, 0.5, 0.8):
        below = spectrum[:, frequency < share * doppler].sum(1) / spectrum.sum(1).mean()
        assert within(below, 2 / math.pi * math.asin(share))
    assert spectrum[:, frequency > 1.05 * doppler].sum() < 1e-5 * spectrum.sum()


@pytest.mark.parametrize(
    "channel", [RayleighBlockFading(8), RicianBlockFading(8, 4.0), JakesFading(0.03)], ids=lambda c: c.name
)
def test_stated_correlation_is_measured(channel):
    h = gains(channel, 1500, 24)
    for a, b in ((0, 0), (0, 7), (0, 8), (5, 19)):
        stated = channel.correlation(torch.tensor([a]), torch.tensor([b])).item()
        assert within((h[:, a] * h[:, b].conj()).real, stated)


def test_jakes_without_motion_does_not_change():
    h = gains(JakesFading(0.0), 3, 500)
    assert np.allclose(h, h[:, :1], atol=1e-6)


def test_families_share_their_fades():
    """Rayleigh and Rician draw the same scattered part: they are compared on paired fades."""
    rayleigh, rician = gains(RayleighBlockFading(1), 1, 2000)[0], gains(RicianBlockFading(1, 0.0), 1, 2000)[0]
    assert abs(np.vdot(rayleigh, rician)) / 2000 > 0.6  # sqrt(1/2) but for the line of sight


def test_gains_do_not_depend_on_how_many_are_drawn():
    for channel in (RayleighBlockFading(7), RicianBlockFading(7, 3.0), JakesFading(0.2)):
        few, many = gains(channel, 2, 50), gains(channel, 2, 1000)
        assert np.allclose(few, many[:, :50], atol=1e-6)


def test_blocks_longer_than_any_memory_are_one_gain():
    state = RayleighBlockFading(10**23).draw(5, 10.0, NamedStreams(0, ("a",)))
    assert state.h.shape == (1, 5)
    assert (state.h == state.h[0, 0]).all()
