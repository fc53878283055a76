"""Formulas against tabulated values, simpler formulas and direct integration."""

import math

import numpy as np
import pytest
from scipy import integrate, optimize, special, stats
from scipy.integrate import trapezoid

from channels import theory
from channels.constellation import Constellation
from channels.errors import ChannelError

SIZES = (2, 4, 16, 64, 256)


def test_q_function_and_its_inverse() -> None:
    assert float(theory.q_function(1.6448536269514722)) == pytest.approx(0.05, rel=1e-12)
    assert float(theory.inverse_q_function(1e-3)) == pytest.approx(3.090232306167813, rel=1e-12)


def test_bpsk_and_qpsk_at_the_textbook_points() -> None:
    # BER 1e-5 of BPSK needs Eb/N0 = 9.588 dB
    assert float(theory.ber(2, 9.588)) == pytest.approx(1e-5, rel=2e-3)
    # QPSK has the BER of BPSK at equal Eb/N0
    assert float(theory.ber(4, 7.0 + 10 * math.log10(2))) == pytest.approx(
        float(theory.ber(2, 7.0)), rel=1e-12
    )
    # Rayleigh, BPSK, 10 dB: (1 - sqrt(10/11)) / 2
    assert float(theory.ber_rayleigh(2, 10.0)) == pytest.approx(0.023268705, rel=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_rayleigh_error_rates_are_averages_over_awgn(size: int) -> None:
    log_gain = np.linspace(-30.0, 4.5, 4001)
    density = np.exp(log_gain - np.exp(log_gain))  # of log |h|^2
    snr_db = 12.0 + 10 * log_gain / math.log(10)
    for over_awgn, over_rayleigh in ((theory.ber, theory.ber_rayleigh), (theory.ser, theory.ser_rayleigh)):
        average = trapezoid(np.asarray(over_awgn(size, snr_db)) * density, log_gain)
        assert float(over_rayleigh(size, 12.0)) == pytest.approx(average, rel=1e-6)


@pytest.mark.parametrize("size", SIZES[1:])
def test_symbol_errors_over_rayleigh_fall_with_snr_for_ever(size: int) -> None:
    """SER snr tends to a constant, which differences of numbers near 1 lose above 150 dB."""
    constant = float(theory.ser_rayleigh(size, 100.0)) * 1e10
    for snr_db in (150.0, 200.0):
        assert float(theory.ser_rayleigh(size, snr_db)) * 10 ** (snr_db / 10) == pytest.approx(
            constant, rel=1e-6
        )


@pytest.mark.parametrize("size", SIZES)
def test_error_rates_fall_from_one_half(size: int) -> None:
    snr_db = np.linspace(-60.0, 40.0, 101)
    rates = np.asarray(theory.ber(size, snr_db))
    assert np.all(np.diff(rates) <= 0)
    assert rates[0] == pytest.approx(0.5, abs=2e-3)
    # at high SNR one symbol error is one bit error
    high = 10 * math.log10(size) + 8
    ratio = float(theory.ser(size, high)) / float(theory.ber(size, high))
    assert ratio == pytest.approx(math.log2(size), rel=1e-2)


def test_capacities() -> None:
    assert float(theory.capacity(0.0)) == 1.0
    # Lee 1990: e^0.1 E1(0.1) / ln 2 at 10 dB
    assert float(theory.ergodic_capacity_rayleigh(10.0)) == pytest.approx(
        math.exp(0.1) * special.exp1(0.1) / math.log(2), rel=1e-10
    )
    assert float(theory.ergodic_capacity_rayleigh(-40.0)) == pytest.approx(1e-4 / math.log(2), rel=1e-3)


def test_constellation_capacity_at_known_points() -> None:
    # BPSK reaches rate 1/2 at Eb/N0 = 0.187 dB; here Es/N0 = Eb/N0 + 10 log10(1/2)
    half = optimize.brentq(lambda s: float(theory.constellation_capacity(2, s)) - 0.5, -10.0, 5.0)
    assert half + 10 * math.log10(2) == pytest.approx(0.187, abs=1e-3)
    # Ungerboeck 1982, fig. 2: 16-QAM carries 3 bits at 9.3 dB (fig. reading)
    three = optimize.brentq(lambda s: float(theory.constellation_capacity(16, s)) - 3.0, 0.0, 20.0)
    assert three == pytest.approx(9.3, abs=0.1)


@pytest.mark.parametrize("size", SIZES)
def test_constellation_capacity_is_bounded(size: int) -> None:
    snr_db = np.linspace(-30.0, 50.0, 81)
    coded = np.asarray(theory.constellation_capacity(size, snr_db))
    bitwise = np.asarray(theory.bicm_capacity(size, snr_db))
    assert np.all(coded <= np.minimum(theory.capacity(snr_db), math.log2(size)) + 1e-9)
    assert np.all(bitwise <= coded + 1e-9)
    assert np.all(np.diff(coded) >= -1e-9)
    if size == 2:  # one real dimension, at half the noise
        assert coded[0] == pytest.approx(1e-3 / math.log(2), rel=1e-2)
    if size <= 4:
        np.testing.assert_allclose(bitwise, coded, atol=1e-9)


@pytest.mark.parametrize("size", [4, 16, 64])
def test_capacities_against_direct_integration(size: int) -> None:
    snr = 10**0.8
    levels = Constellation(size).levels.double().numpy()
    std = math.sqrt(0.5 / snr)

    def density(y: float, of: np.ndarray) -> float:
        return float(stats.norm.pdf(y, of, std).mean())

    def entropy(of: np.ndarray) -> float:
        return integrate.quad(
            lambda y: -special.xlogy(density(y, of), density(y, of)), -4, 4, limit=400, epsabs=1e-10
        )[0] / math.log(2)

    noise = 0.5 * math.log2(2 * math.pi * math.e * std**2)
    assert float(theory.constellation_capacity(size, 8.0)) == pytest.approx(
        2 * (entropy(levels) - noise), abs=1e-6
    )
    bits = levels.size.bit_length() - 1
    label = np.arange(levels.size)
    bitwise = sum(
        entropy(levels) - (entropy(levels[label >> j & 1 == 0]) + entropy(levels[label >> j & 1 == 1])) / 2
        for j in range(bits)
    )
    assert float(theory.bicm_capacity(size, 8.0)) == pytest.approx(2 * bitwise, abs=1e-6)


def test_outage_of_one_block_is_exact() -> None:
    assert float(theory.outage_rayleigh(1.0, 10.0)) == pytest.approx(1 - math.exp(-0.1), rel=1e-12)
    assert float(theory.outage_rayleigh(2.0, 60.0)) == pytest.approx(3e-6, rel=1e-5)


def test_outage_of_very_low_and_very_high_rates() -> None:
    assert float(theory.outage_rayleigh(1e-12, -50.0)) == pytest.approx(1e-7 * math.log(2), rel=1e-6)
    assert float(theory.outage_rayleigh(1e-17, 0.0)) == pytest.approx(1e-17 * math.log(2), rel=1e-12)
    for fading_blocks in (1, 2):
        assert float(theory.outage_rayleigh(1100.0, 10.0, fading_blocks)) == pytest.approx(1.0, rel=1e-12)
        for rate in (math.nan, math.inf):
            with pytest.raises(ChannelError, match="finite rate"):
                theory.outage_rayleigh(rate, 10.0, fading_blocks)


def test_outage_of_two_blocks_against_integration() -> None:
    rate, snr = 1.5, 10.0

    def second_fails(g: float) -> float:
        left = 2 ** (2 * rate) / (1 + snr * g)
        return -math.expm1(-(left - 1) / snr) * math.exp(-g)

    exact = integrate.quad(second_fails, 0, (2 ** (2 * rate) - 1) / snr)[0]
    assert float(theory.outage_rayleigh(rate, 10.0, 2)) == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("fading_blocks", [3, 16])
def test_outage_of_many_blocks_against_simulation(fading_blocks: int) -> None:
    count = 400_000
    gains = np.random.default_rng(1).exponential(size=(count, fading_blocks))
    measured = (np.log2(1 + 10**0.6 * gains).mean(1) < 1.4).mean()
    expected = float(theory.outage_rayleigh(1.4, 6.0, fading_blocks))
    assert abs(measured - expected) < 5 * math.sqrt(expected * (1 - expected) / count)


@pytest.mark.parametrize(
    ("rate", "snr_db", "fading_blocks", "exact"),
    # by the same convolution on 2^20 steps, whose error is a 4096th of that on 2^14
    [
        (
            2.7,
            10.0,
            500,
            2.314859e-4,
        ),  # warnings are errors: none of an overflow where blocks * R is above 1024
        (2.75, 10.0, 1000, 8.667710e-5),
        (0.13, -10.0, 1000, 0.2954164),
        (5.5, 20.0, 300, 6.867975e-5),
    ],
)
def test_outage_of_very_many_blocks(rate: float, snr_db: float, fading_blocks: int, exact: float) -> None:
    assert float(theory.outage_rayleigh(rate, snr_db, fading_blocks)) == pytest.approx(exact, rel=1e-3)


def meta_converse_bits(channel_uses: int, snr: float, error: float) -> float:
    """Upper bound on the bits of any code with equal-power words: Polyanskiy et al. 2010, theorem 41.

    -log2 beta, with both information densities expressed by noncentral chi-square variables (Erseghe 2016).
    """
    n = 2 * channel_uses  # real uses, of SNR `snr` each
    # The statistic |y - a x|^2 has noncentrality n / snr under the code's law; under the output law it is
    # (1 + snr) times one with noncentrality n (1 + snr) / snr. The test rejects when it is large.
    threshold = stats.ncx2.isf(error, n, n / snr)
    return -stats.ncx2.logcdf(threshold / (1 + snr), n, n * (1 + snr) / snr) / math.log(2)


@pytest.mark.parametrize("snr_db", [0.0, 5.0])
def test_normal_approximation_keeps_a_constant_distance_from_the_converse(snr_db: float) -> None:
    gaps = [
        meta_converse_bits(k, 10 ** (snr_db / 10), 1e-3)
        - float(theory.normal_approximation_bits(float(k), snr_db, 1e-3))
        for k in (60, 120, 240)
    ]
    # A wrong capacity, dispersion or logarithm would let the distance grow with k, sqrt(k) or log(k).
    assert 0 < min(gaps) < max(gaps) < 6  # bits
    assert max(gaps) - min(gaps) < 0.2


def test_dispersion_and_the_inverse_of_the_approximation() -> None:
    # Real channel at 0 dB: V = 3/8 log2(e)^2 (Polyanskiy et al. 2010, eq. (293)); complex: twice that.
    assert float(theory.dispersion(0.0)) == pytest.approx(0.75 / math.log(2) ** 2, rel=1e-12)
    bits = float(theory.normal_approximation_bits(300.0, 4.0, 1e-4))
    assert float(theory.normal_approximation_error(bits, 300.0, 4.0)) == pytest.approx(1e-4, rel=1e-9)
    assert float(theory.normal_approximation_bits(10.0, -20.0, 1e-6)) == 0.0


def test_the_normal_approximation_stays_below_capacity() -> None:
    """The logarithm alone would carry 5.5 bits through 1000 uses at -40 dB, which have a capacity of 0.14."""
    snr_db = np.linspace(-60.0, 20.0, 81)
    for uses in (1.0, 100.0, 1000.0):
        bits = np.asarray(theory.normal_approximation_bits(uses, snr_db, 1e-3))
        assert np.all(bits <= uses * np.asarray(theory.capacity(snr_db)))


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ChannelError, match="at least one block"):
        theory.outage_rayleigh(1.0, 10.0, 0)
    with pytest.raises(ChannelError, match="no constellation of 32"):
        theory.ber(32, 10.0)
