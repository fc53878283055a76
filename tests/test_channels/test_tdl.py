"""Tapped delay lines against TR 38.901 as Sionna has it, and against their closed forms."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import special

from channels import TDL, NamedStreams, Numerology

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "sionna_channels.npz")
PROFILES = "ABCDE"


def fine(delay_spread_ns):
    """A sample period 4000 times shorter than the delay spread: no two taps are rounded together."""
    return Numerology(1, 1, 0, 4e12 / delay_spread_ns)


def drawn(line, numerology, items, samples=1):
    rng = NamedStreams(5, tuple(map(str, range(items)))).fork("tdl")
    state = line.draw(samples, numerology, rng)
    return {delay: gain.expand(items, samples).numpy() for delay, gain in line.gains(state, samples)}


@pytest.mark.parametrize("profile", PROFILES)
def test_delays_and_powers_are_those_of_sionna(profile):
    line = TDL(profile, 100.0)
    rate = fine(100.0).sample_rate_hz
    expected = {}
    for delay, power in zip(GOLDEN[f"{profile}_delays"], GOLDEN[f"{profile}_powers"], strict=True):
        expected[round(delay * rate)] = expected.get(round(delay * rate), 0.0) + power
    delays, powers = line.taps(rate)
    powers = np.array(powers)
    powers[0] += line.line_of_sight_power
    assert list(delays) == sorted(expected)
    assert np.allclose(powers, [expected[delay] for delay in delays], rtol=1e-9)
    assert math.isclose(powers.sum(), 1.0, rel_tol=1e-12)


@pytest.mark.parametrize("profile", "DE")
def test_k_factor_is_that_of_sionna(profile):
    line = TDL(profile, 100.0)
    k_factor = line.line_of_sight_power / line.taps(fine(100.0).sample_rate_hz)[1][0]
    assert math.isclose(k_factor, GOLDEN[f"{profile}_k_factor"], rel_tol=1e-9)
    assert math.isclose(10 * math.log10(k_factor), {"D": 13.3, "E": 22.0}[profile], abs_tol=1e-9)


@pytest.mark.parametrize("profile", PROFILES)
def test_rms_delay_spread_is_what_was_asked_for(profile):
    """The tables are rounded to 0.1 dB, or 0.01 dB: one per cent."""
    line = TDL(profile, 250.0)
    rate = fine(250.0).sample_rate_hz
    delays, powers = map(np.array, line.taps(rate))
    mean = (delays * powers).sum()
    spread = math.sqrt((delays**2 * powers).sum() - mean**2) / rate
    assert math.isclose(spread, 250e-9, rel_tol=0.01)


@pytest.mark.parametrize("profile", PROFILES)
def test_measured_power_delay_profile(profile):
    items = 1500
    line, numerology = TDL(profile, 100.0), fine(100.0)
    delays, powers = line.taps(numerology.sample_rate_hz)
    taps = drawn(line, numerology, items)
    total = np.zeros(items)
    for delay, power in zip(delays, powers, strict=True):
        measured = np.abs(taps[delay][:, 0]) ** 2
        expected = power + (line.line_of_sight_power if delay == 0 else 0.0)
        assert abs(measured.mean() - expected) < 5 * measured.std() / math.sqrt(items)
        total += measured
    assert abs(total.mean() - 1) < 5 * total.std() / math.sqrt(items)


@pytest.mark.parametrize("profile", PROFILES)
def test_first_tap_autocorrelation_is_that_of_sionna(profile):
    """Both are averages over independent links; in D and E the line of sight turns at 0.7 f_D."""
    expected = GOLDEN[f"{profile}_first_tap_autocorrelation"]
    items, samples, numerology = 1500, expected.size, fine(100.0)
    doppler = float(GOLDEN["doppler_hz"] / GOLDEN["sample_rate_hz"])  # in cycles per sample
    line = TDL(profile, 100.0, doppler * numerology.sample_rate_hz)
    state = line.draw(samples, numerology, NamedStreams(5, tuple(map(str, range(items)))))
    delay, tap = next(line.gains(state, samples))
    assert delay == 0
    product = (tap * tap[:, :1].conj()).numpy()
    share = product.std(0) * math.sqrt(1 / items + 1 / float(GOLDEN["links"]))
    assert (np.abs(product.mean(0) - expected) < 5 * share + 1e-6).all()


@pytest.mark.parametrize("profile", "AD")
def test_autocorrelation_known_to_the_receiver_is_that_of_the_taps(profile):
    line, numerology = TDL(profile, 100.0, 20e3), Numerology(64, 64, 16, 60e3)
    taps = drawn(line, numerology, 1000, 61)
    lag = 60
    measured = np.sum([gain[:, lag] * gain[:, 0].conj() for gain in taps.values()], axis=0)
    stated = sum(
        sum(paths.powers) * paths.correlation(torch.tensor([float(lag)])).item()
        for paths in line.paths(numerology)
    )
    assert abs(measured.mean() - stated) < 5 * measured.std() / math.sqrt(len(measured))
    rayleigh = 1 - line.line_of_sight_power
    turns = 20e3 * lag / numerology.sample_rate_hz
    closed = rayleigh * special.j0(2 * math.pi * turns)
    closed += line.line_of_sight_power * np.exp(2j * math.pi * 0.7 * turns)
    assert abs(stated - closed) < 1e-6


def test_a_coarse_grid_makes_the_line_flat():
    delays, powers = TDL("A", 30.0).taps(1e6)
    assert delays == (0,)
    assert math.isclose(powers[0], 1.0)


def test_impulse_response_is_the_taps():
    """A unit sample in, the taps out, each at its delay."""
    numerology = Numerology(64, 64, 16, 60e3)
    line = TDL("B", 300.0, 500.0)
    rng = NamedStreams(5, ("a", "b"))
    state = line.draw(40, numerology, rng)
    x = torch.zeros(2, 40, dtype=torch.complex64)
    x[:, 3] = 1.0
    y = line.apply(x, state)
    expected = torch.zeros_like(y)
    for delay, gain in line.gains(state, 40):
        expected[:, 3 + delay] += gain[:, 3 + delay]
    assert torch.allclose(y, expected, atol=1e-6)
    assert int((y[0].abs() > 0).sum()) == len(state.delays)
