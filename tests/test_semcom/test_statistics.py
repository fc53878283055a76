"""Intervals cover what they promise; Bjontegaard deltas equal published and exact values."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from semcom.errors import InvalidOption, UnknownName
from semcom.statistics import (
    bd_quality,
    bd_rate,
    bjontegaard_quality,
    bjontegaard_rate,
    bootstrap_mean,
    compare,
    paired_difference,
    rate_needed,
    share_at_equal_loss,
    summarise,
    wilson_interval,
)


@pytest.mark.parametrize("n", [4, 24])
def test_bootstrap_covers_the_mean(n):
    trials, rng = 800, np.random.default_rng(0)
    hits = 0
    for _ in range(trials):
        interval = bootstrap_mean(rng.normal(5, 2, n), np.arange(n), resamples=800)
        hits += interval.low <= 5 <= interval.high
    # Four values: the widest interval resampling can give is (smallest, largest), which covers with 7/8.
    expected = 1 - 2 * 0.5**4 if n == 4 else 0.95
    assert hits / trials == pytest.approx(expected, abs=5 * math.sqrt(expected * (1 - expected) / trials))


def test_bootstrap_width_is_that_of_the_t_interval():
    x = np.random.default_rng(1).normal(0, 1, 200)
    interval = bootstrap_mean(x, np.arange(200), resamples=20_000)
    half = 1.972 * x.std(ddof=1) / math.sqrt(200)  # t quantile of 199 degrees of freedom
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.05)


def test_rows_of_one_item_are_one_unit():
    """Repeating every row tells nothing new."""
    x, items = np.arange(10.0), np.arange(10)
    once, often = bootstrap_mean(x, items), bootstrap_mean(np.repeat(x, 50), np.repeat(items, 50))
    assert once == often
    assert often.items == 10


def test_bootstrap_is_reproducible_and_order_free():
    rng = np.random.default_rng(2)
    x, items = rng.normal(size=30), np.repeat([f"item{i}" for i in range(10)], 3)
    order = rng.permutation(30)
    a, b = bootstrap_mean(x, items), bootstrap_mean(x[order], items[order])
    assert (a.low, a.high) == pytest.approx((b.low, b.high))
    assert bootstrap_mean(x, items, seed=1) != a


def test_one_item_has_no_interval():
    interval = bootstrap_mean([1.0, 2.0], ["a", "a"])
    assert interval.mean == 1.5
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_pairing_removes_what_items_share():
    rng = np.random.default_rng(3)
    shared = rng.normal(0, 10, 20)
    a, b = shared + 1 + rng.normal(0, 0.1, 20), shared
    interval = paired_difference(a, b, np.arange(20))
    assert 0 < interval.low < 1 < interval.high < 1.2


@pytest.mark.parametrize(
    ("values", "items"), [([], []), ([1.0], ["a", "b"]), ([math.nan], ["a"]), ([math.inf], ["a"])]
)
def test_unusable_values_are_typed_errors(values, items):
    with pytest.raises(InvalidOption):
        bootstrap_mean(values, items)


@pytest.mark.parametrize(("failures", "trials"), [(0, 10), (3, 17), (17, 17), (1, 1), (500, 2000)])
def test_wilson_equals_scipy(failures, trials):
    expected = binomtest(failures, trials).proportion_ci(method="wilson")
    assert wilson_interval(failures, trials) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("failures", "trials"), [(0, 0), (-1, 3), (4, 3)])
def test_impossible_counts_are_typed_errors(failures, trials):
    with pytest.raises(InvalidOption):
        wilson_interval(failures, trials)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, math.nan])
def test_impossible_levels_are_typed_errors(level):
    with pytest.raises(InvalidOption, match="level"):
        wilson_interval(1, 3, level=level)


# Two published curves each; expected values by the package `bjontegaard` 1.3, method "pchip".
BD_CASES = [
    (
        [9487.76, 4593.60, 2486.44, 1358.24],
        [40.037, 38.615, 36.845, 34.851],
        [9787.80, 4469.00, 2451.52, 1356.24],
        [40.121, 38.651, 36.970, 34.987],
        -4.417485350589045,
        0.11969278542479489,
    ),
    (
        [686.76, 309.58, 157.11, 85.95],
        [40.28, 37.18, 34.24, 31.42],
        [893.34, 407.8, 204.93, 112.75],
        [40.39, 37.21, 34.17, 31.24],
        31.379878202397627,
        -1.1834724046224592,
    ),
]


@pytest.mark.parametrize("case", BD_CASES)
def test_bjontegaard_equals_the_reference_package(case):
    *curves, rate, quality = case
    assert bd_rate(*curves) == pytest.approx(rate, abs=1e-6)
    assert bd_quality(*curves) == pytest.approx(quality, abs=1e-6)


def test_bjontegaard_of_a_scaled_curve_is_the_scale():
    rate, quality = np.array([1 / 192, 1 / 48, 1 / 12]), np.array([22.0, 25.0, 29.0])
    assert bd_rate(rate, quality, 0.8 * rate, quality) == pytest.approx(-20)
    assert bd_quality(rate, quality, rate, quality + 1.5) == pytest.approx(1.5)
    assert bd_rate(rate, quality, rate[::-1], quality[::-1]) == pytest.approx(0)


def test_the_range_of_a_delta_is_what_both_curves_cover():
    """Quality of 10 log10(rate), shifted by 3 dB: the rate falls by 10^-0.3 wherever the curves overlap."""
    rate, other = np.array([1.0, 2.0, 5.0, 10.0]), np.array([0.5, 3.0, 6.0])
    curves = (rate, 10 * np.log10(rate), other, 10 * np.log10(other) + 3)
    found = bjontegaard_rate(*curves)
    assert found.value == pytest.approx(100 * (10**-0.3 - 1))
    # from the baseline's lowest quality, above the candidate's, to the baseline's highest, below it
    assert (found.low, found.high) == pytest.approx((0, 10))
    gain = bjontegaard_quality(*curves)
    assert (gain.value, gain.low, gain.high) == pytest.approx((3, 1, 6))
    with pytest.raises(InvalidOption, match="share no range of quality"):
        bjontegaard_rate(rate, 10 * np.log10(rate), rate, 10 * np.log10(rate) + 10)
    with pytest.raises(InvalidOption, match="share no range of rate"):
        bjontegaard_quality(rate, rate, 100 * rate, rate)


def test_the_interpolation_is_that_of_fritsch_and_butland():
    """Slopes are weighted harmonic means of the slopes at both sides, one-sided three-point ones at the ends.

    Hermite cubics are integrated in closed form: h (y0 + y1) / 2 + h^2 (d0 - d1) / 12.
    """
    quality, logs = np.array([30.0, 31.0, 33.5, 36.0]), np.array([-1.3, -1.1, -0.8, -0.2])
    h, slope = np.diff(quality), np.diff(logs) / np.diff(quality)
    inner = [
        (3 * (h[k - 1] + h[k])) / ((2 * h[k] + h[k - 1]) / slope[k - 1] + (h[k] + 2 * h[k - 1]) / slope[k])
        for k in (1, 2)
    ]
    first = ((2 * h[0] + h[1]) * slope[0] - h[0] * slope[1]) / (h[0] + h[1])
    last = ((2 * h[2] + h[1]) * slope[2] - h[2] * slope[1]) / (h[2] + h[1])
    d = np.array([first, *inner, last])
    area = (h * (logs[:-1] + logs[1:]) / 2 + h**2 * (d[:-1] - d[1:]) / 12).sum()
    # against a straight line through two points, whose integral is that of a trapezium
    expected = 100 * (10 ** (area / 6 - (-1.0)) - 1)
    assert bd_rate([0.05, 0.2], [30, 36], 10**logs, quality) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("rate", "quality"),
    [
        ([1, 2], [50, 60]),
        ([1], [30]),
        ([1, 2, 3], [30, 29, 31]),
        ([0, 1], [30, 31]),
        ([1, 2], [30, math.nan]),
    ],
)
def test_curves_without_a_delta_are_typed_errors(rate, quality):
    with pytest.raises(InvalidOption):
        bd_rate([1, 2, 3], [30, 31, 32], rate, quality)


def frame():
    import pandas as pd

    rng = np.random.default_rng(0)
    rows = [
        {
            "scheme": scheme,
            "channel": "awgn",
            "item": f"item{i}",
            "seed": seed,
            "snr_db": snr,
            "rho": 1 / 48,
            "rho_used": 1 / 50,
            "outage": int(scheme == "digital" and snr == 0 and i < 3),
            "psnr_db": 25 + i + snr + (scheme == "analog"),
        }
        for scheme in ("digital", "analog")
        for i in range(6)
        for seed in range(2)
        for snr in (0.0, 10.0)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=rng.integers(100))


def test_summary_has_one_row_per_point():
    summary = summarise(frame(), "psnr_db").set_index(["scheme", "snr_db"])
    assert len(summary) == 4
    point = summary.loc[("digital", 0.0)]
    assert point["mean"] == pytest.approx(27.5)
    assert (point["items"], point["rows"], point["outage"]) == (6, 12, 0.5)
    assert point["outage_low"] < 0.5 < point["outage_high"]
    assert point["rho_used"] == pytest.approx(0.02)
    assert summary.loc[("analog", 10.0), "low"] < 38.5 < summary.loc[("analog", 10.0), "high"]


def test_comparison_pairs_rows():
    difference = compare(frame(), "psnr_db", "analog", "digital")
    assert list(difference["snr_db"]) == [0.0, 10.0]
    assert difference["difference"].tolist() == pytest.approx([1, 1])
    assert (difference["high"] - difference["low"]).max() < 1e-9


def test_the_share_of_a_rate_at_equal_loss_in_closed_form() -> None:
    """Losses -log2(g_i rate) are those of a code that needs a share of 1 / g_i of the rate of -log2(rate)."""
    rates, reference = 2.0 ** np.arange(-8, 1), 2.0**-4.5
    gains = np.array([2.0, 4.0, 8.0, 3.0])
    losses = -np.log2(gains[:, None] * rates)
    wanted = np.full(4, -math.log2(reference))
    found = share_at_equal_loss(rates, losses, wanted, reference)
    logs = bootstrap_mean(-np.log(gains), range(4))
    expected = [math.exp(value) for value in (logs.mean, logs.low, logs.high)]
    assert [found.interval.mean, found.interval.low, found.interval.high] == pytest.approx(expected)
    assert found.interval.mean == pytest.approx(float(np.prod(gains) ** -0.25))
    assert (found.interval.items, found.cheaper, found.never) == (4, 0, 0)
    beyond = np.array([[9.0, 8, 7, 6, 5, 4, 3, 2, 1], [0.5, *[0.4] * 8], [9.0] * 9])
    found = share_at_equal_loss(rates, beyond, [7.0, 0.6, 8.0], 2.0**-4)
    assert (found.interval.mean, found.interval.items) == (pytest.approx(0.25), 1)
    assert (found.cheaper, found.never) == (1, 1)
    none = share_at_equal_loss(rates, beyond[1:], [0.6, 8.0], 2.0**-4)
    assert math.isnan(none.interval.mean)
    assert (none.interval.items, none.cheaper, none.never) == (0, 1, 1)
    for rows, targets, rate in (
        ([1.0, 2.0], [1.0], 1.0),
        ([[1.0] * 9], [1.0, 2.0], 1.0),
        ([[1.0] * 9], [1.0], 0.0),
    ):
        with pytest.raises(InvalidOption, match="one row per item, and a rate above 0"):
            share_at_equal_loss(rates, rows, targets, rate)


def test_missing_columns_and_schemes_are_typed_errors():
    with pytest.raises(UnknownName, match="lpips_vgg"):
        summarise(frame(), "lpips_vgg")
    with pytest.raises(InvalidOption, match="in common"):
        compare(frame(), "psnr_db", "analog", "nobody")


def test_the_rate_that_reaches_a_loss() -> None:
    """Loss 1 / sqrt(rate) has its target t at 1 / t^2: exactly at points, between them to the chord."""
    rates = 2.0 ** np.arange(-8, 1)
    losses = rates**-0.5
    for rate, loss in zip(rates, losses, strict=True):
        assert rate_needed(rates, losses, float(loss)) == pytest.approx(rate)
    between = rate_needed(rates, losses, 3.0)
    assert 1 / 16 < between < 1 / 8
    assert between == pytest.approx(2 ** -(3 + (3 - 8**0.5) / (4 - 8**0.5)))
    assert rate_needed(rates, losses, 99.0) == rates[0]
    assert math.isnan(rate_needed(rates, losses, 0.5))
    worse_in_between = [4.0, 5.0, 2.0]
    assert rate_needed([1, 2, 4], worse_in_between, 3.0) == pytest.approx(2 * 2**0.5)
    for rate in ([1, 1], [0, 1], [math.nan, 1]):
        with pytest.raises(InvalidOption, match="rates rising"):
            rate_needed(rate, [2, 1], 1.0)
    for loss, target in (
        ([math.nan, 1], 1.0),
        ([2, math.nan], 1.0),
        ([math.inf, 1], 1.5),
        ([2, 1], math.nan),
    ):
        with pytest.raises(InvalidOption, match="must be finite"):
            rate_needed([1, 2], loss, target)
