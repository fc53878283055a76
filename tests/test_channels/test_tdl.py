"""Tapped delay lines against TR 38.901 as Sionna has it, and against their closed forms."""

import functools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import special

from channels import TDL, NamedStreams, Numerology
from channels.fading import sum_of_sinusoids
from channels.tdl import PROFILES as TABLE

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "sionna_channels.npz")
PROFILES = "ABCDE"
SPREADS_NS = (30, 100, 300)
GRID = Numerology(64, 64, 32, float(GOLDEN["spacing_hz"]))
LINKS = 4000

every_line = pytest.mark.parametrize(("profile", "spread_ns"), [(p, s) for p in PROFILES for s in SPREADS_NS])


def drawn(line, numerology, items, samples=1):
    """Gain of every tap, in the order of the table."""
    rng = NamedStreams(5, tuple(map(str, range(items)))).fork("tdl")
    state = line.draw(samples, numerology, rng)
    return [gain.expand(items, samples).numpy() for _, gain in line.gains(state, samples)]


@functools.cache
def links(profile):
    rng = NamedStreams(5, tuple(map(str, range(LINKS)))).fork("links")
    return TDL(profile, 0.0).draw(1, GRID, rng)


def frequency_response(profile, spread_ns, numerology=GRID):
    """What a unit sample becomes, on every subcarrier from the lowest up, [links, subcarriers]."""
    state = links(profile)
    state = type(state)(state.angle, state.phase, state.line_of_sight_phase, numerology)
    impulse = torch.zeros(LINKS, numerology.symbol_samples, dtype=torch.complex128)
    impulse[:, numerology.prefix] = 1
    heard = TDL(profile, float(spread_ns)).apply(impulse, state)[:, numerology.prefix :]
    return np.fft.fftshift(np.fft.fft(heard.numpy()), 1)


def profile_of(profile, spread_ns):
    """Delays in s, and powers, with the line of sight."""
    delay, power_db = np.array(TABLE[profile]).T
    power = 10 ** (power_db / 10)
    return delay * spread_ns * 1e-9, power / power.sum()


@pytest.mark.parametrize("profile", PROFILES)
def test_delays_and_powers_are_those_of_sionna(profile):
    line = TDL(profile, 100.0)
    delays, powers = map(np.array, line.taps(1.0))
    powers[0] += line.line_of_sight_power
    ours, theirs = np.argsort(delays, kind="stable"), np.argsort(GOLDEN[f"{profile}_delays"], kind="stable")
    assert np.allclose(delays[ours], GOLDEN[f"{profile}_delays"][theirs], rtol=1e-6, atol=0)
    assert np.allclose(powers[ours], GOLDEN[f"{profile}_powers"][theirs], rtol=1e-9)
    assert math.isclose(powers.sum(), 1.0, rel_tol=1e-12)


@pytest.mark.parametrize("profile", "DE")
def test_k_factor_is_that_of_sionna(profile):
    line = TDL(profile, 100.0)
    k_factor = line.line_of_sight_power / line.taps(1.0)[1][0]
    assert math.isclose(k_factor, GOLDEN[f"{profile}_k_factor"], rel_tol=1e-9)
    assert math.isclose(10 * math.log10(k_factor), {"D": 13.3, "E": 22.0}[profile], abs_tol=1e-9)


@pytest.mark.parametrize("profile", PROFILES)
def test_rms_delay_spread_is_what_was_asked_for(profile):
    """The tables are rounded to 0.1 dB, or 0.01 dB: one per cent."""
    delays, powers = map(np.array, TDL(profile, 250.0).taps(1.0))
    mean = (delays * powers).sum()
    spread = math.sqrt((delays**2 * powers).sum() - mean**2)
    assert math.isclose(spread, 250e-9, rel_tol=0.01)


@every_line
def test_frequency_correlation_is_that_of_the_profile_and_of_sionna(profile, spread_ns):
    """R(d) = sum_l p_l exp(-2 pi j d tau_l spacing), whatever part of a sample the delays are."""
    h = frequency_response(profile, spread_ns)
    delay, power = profile_of(profile, spread_ns)
    golden = f"{profile}_{spread_ns}ns_frequency_correlation"
    for lag, seen, error in zip(GOLDEN["lags"], GOLDEN[golden], GOLDEN[f"{golden}_error"], strict=True):
        product = (h[:, lag:] * h[:, :-lag].conj()).mean(1)
        own = product.std() / math.sqrt(LINKS)
        exact = (power * np.exp(-2j * math.pi * lag * delay * GRID.spacing_hz)).sum()
        assert abs(product.mean() - exact) < 5 * own
        assert abs(product.mean() - seen) < 5 * math.hypot(own, error)


@every_line
def test_rms_delay_spread_of_what_is_heard(profile, spread_ns):
    """E|dH/df|^2 / 4 pi^2 is the mean square delay, E Im(conj(dH/df) H) / 2 pi the mean delay."""
    spacing_hz = 1e3  # within it, the longest echo turns by 2 degrees
    h = frequency_response(profile, spread_ns, Numerology(16, 16, 4, spacing_hz))[:, 7:10]
    slope = (h[:, 2] - h[:, 0]) / (4 * math.pi * spacing_hz)
    mean = (slope.conj() * h[:, 1]).imag
    square = np.abs(slope) ** 2 - 2 * mean.mean() * mean
    measured, error = square.mean() + mean.mean() ** 2, square.std() / math.sqrt(LINKS)
    delay, power = profile_of(profile, spread_ns)
    expected = (power * delay**2).sum() - (power * delay).sum() ** 2
    assert math.isclose(expected, (spread_ns * 1e-9) ** 2, rel_tol=0.02)
    assert abs(measured - expected) < 5 * error + 1e-3 * expected


@every_line
def test_outage_rate_is_that_of_sionna(profile, spread_ns):
    """One link in a hundred carries less than the rate that one in a hundred of Sionna's does not."""
    h = frequency_response(profile, spread_ns)
    rates = np.log2(1 + 10 ** (GOLDEN["snr_db"] / 10) * np.abs(h) ** 2).mean(1)
    p = float(GOLDEN["outage"])
    lost = (rates < GOLDEN[f"{profile}_{spread_ns}ns_outage_rate"]).mean()
    assert abs(lost - p) < 5 * math.sqrt(p * (1 - p) * (1 / LINKS + 1 / float(GOLDEN["links"])))


@pytest.mark.parametrize("profile", PROFILES)
def test_measured_power_delay_profile(profile):
    items = 1500
    line = TDL(profile, 100.0)
    total = np.zeros(items)
    for tap, (gain, power) in enumerate(zip(drawn(line, GRID, items), line.taps(1.0)[1], strict=True)):
        measured = np.abs(gain[:, 0]) ** 2
        expected = power + (line.line_of_sight_power if tap == 0 else 0.0)
        assert abs(measured.mean() - expected) < 5 * measured.std() / math.sqrt(items)
        total += measured
    assert abs(total.mean() - 1) < 5 * total.std() / math.sqrt(items)


@pytest.mark.parametrize("profile", PROFILES)
def test_first_tap_autocorrelation_is_that_of_sionna(profile):
    """Both are averages over independent links; in D and E the line of sight turns at 0.7 f_D."""
    expected = GOLDEN[f"{profile}_first_tap_autocorrelation"]
    items, samples, numerology = 1500, expected.size, GRID
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
    measured = np.sum([gain[:, lag] * gain[:, 0].conj() for gain in taps], axis=0)
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


@pytest.mark.parametrize("doppler_hz", [0.0, 30.0, 3000.0, 300e3])
def test_gains_between_the_knots_are_sums_of_sinusoids(doppler_hz):
    """At 300 kHz, five turns within an OFDM symbol."""
    line, samples = TDL("C", 100.0, doppler_hz), 3 * GRID.symbol_samples
    state = line.draw(samples, GRID, NamedStreams(5, ("a", "b")))
    doppler = doppler_hz / GRID.sample_rate_hz
    for tap, (_, gain) in enumerate(line.gains(state, samples)):
        exact = sum_of_sinusoids(state.angle[:, tap], state.phase[:, tap], doppler, samples)
        exact = exact * line.taps(1.0)[1][tap] ** 0.5
        assert torch.allclose(gain.expand_as(exact), exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "line", [TDL("B", 300.0, 3000.0), TDL("E", 150.0, 500.0), TDL("C", 300.0)], ids=lambda line: line.name
)
def test_what_is_heard_is_the_sum_of_delayed_waveforms(line):
    """y(t) = sum_l g_l(t) s(t - tau_l), s the complex exponentials of one OFDM symbol after the other."""
    n, symbols = Numerology(16, 12, 6, 240e3), 4
    rng = np.random.default_rng(0)
    k = np.arange(n.subcarriers) - n.subcarriers // 2
    sent = rng.normal(size=(symbols, n.subcarriers)) + 1j * rng.normal(size=(symbols, n.subcarriers))

    def waveform(time):
        symbol = np.floor(time / n.symbol_samples).astype(int)
        within = time - symbol * n.symbol_samples - n.prefix
        values = (sent[symbol] * np.exp(2j * math.pi * within[:, None] * k / n.fft_size)).sum(1)
        return np.where(symbol >= 0, values, 0.0)

    time = np.arange(symbols * n.symbol_samples)
    state = line.draw(len(time), n, NamedStreams(5, ("a",)))
    delays = [delay for delay, _ in line.gains(state, 1)]
    assert any(abs(delay - round(delay)) > 0.2 for delay in delays)
    expected = np.zeros(len(time), dtype=complex)
    for delay, gain in line.gains(state, len(time)):
        expected += gain.expand(1, len(time))[0].numpy() * waveform(time - delay)
    heard = line.apply(torch.from_numpy(waveform(time.astype(float)))[None], state)[0].numpy()
    window = time % n.symbol_samples >= n.prefix
    assert np.allclose(heard[window], expected[window], rtol=0, atol=1e-5)
