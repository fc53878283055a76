"""Means with confidence intervals, outage rates, paired comparisons and Bjontegaard deltas, from records."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.interpolate import PchipInterpolator

from semcom.errors import InvalidOption

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("scheme", "channel", "rho", "snr_db")
"""Columns of a record that identify one point of a curve."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over items with its confidence limits, which are NaN for a single item.

    Args:
        mean: Mean over items of the mean of each item's records.
        low: Lower confidence limit.
        high: Upper confidence limit.
        items: Number of items, the independent units.
    """

    mean: float
    low: float
    high: float
    items: int


def bootstrap_mean(
    values: ArrayLike, items: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Mean over items with its bootstrap confidence interval; whole items are resampled.

    Rows of one item (other seeds and fades) are averaged first, since they share the item and are therefore
    not independent. Items are then drawn with replacement. The percentiles are widened to Phi(+-sqrt(n / (n -
    1)) t_(n-1)); otherwise the interval would be too narrow for few items.

    Args:
        values: One number per row, [rows].
        items: Item of each row, [rows].
        level: Coverage, in (0, 1).
        resamples: Number of bootstrap samples, at least 1.
        seed: Seed of the bootstrap; equal seeds and items give equal draws, which pairs the intervals of
            schemes.

    Returns:
        Mean and interval.

    Raises:
        InvalidOption: There are no rows, lengths differ, a value is not finite, or the level is outside (0,
            1).

    Reference:
        Hesterberg, What teachers should know about the bootstrap, The American Statistician 69(4), 2015, 5.3.

    Example:
        >>> interval = bootstrap_mean([30.0, 32.0, 27.0, 29.0], ["a", "a", "b", "b"])
        >>> interval.mean, interval.items
        (29.5, 2)
    """
    means = _item_means(values, items)
    _check_level(level)
    n = len(means)
    if n == 1:
        return Interval(float(means[0]), math.nan, math.nan, 1)
    draws = np.random.default_rng(seed).integers(0, n, (resamples, n))
    quantile = stats.t.ppf((1 - level) / 2, n - 1) * math.sqrt(n / (n - 1))
    tail = stats.norm.cdf(quantile)
    low, high = np.quantile(means[draws].mean(axis=1), [tail, 1 - tail])
    return Interval(float(means.mean()), float(low), float(high), n)


def paired_difference(
    values: ArrayLike,
    baseline: ArrayLike,
    items: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean of values - baseline, row by row, with its bootstrap confidence interval over items.

    The interval is far narrower than the difference of two separate intervals, because both share item and
    noise.

    Args:
        values: One number per row, [rows].
        baseline: Number to compare with, [rows].
        items: Item of each row, [rows].
        level: Coverage, in (0, 1).
        resamples: Number of bootstrap samples, at least 1.
        seed: Seed of the bootstrap.

    Returns:
        Mean difference and interval.

    Raises:
        InvalidOption: There are no rows, lengths differ, a value is not finite, or the level is outside (0,
            1).
    """
    difference = np.asarray(values, dtype=float) - np.asarray(baseline, dtype=float)
    return bootstrap_mean(difference, items, level=level, resamples=resamples, seed=seed)


def wilson_interval(failures: int, trials: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a rate; its width is never 0, for instance (0, 0.28) for 0 failures of 10.

    Args:
        failures: Number of failures, 0 to `trials`.
        trials: Number of independent trials, at least 1.
        level: Coverage, in (0, 1).

    Returns:
        Lower and upper limit, in 0..1.

    Raises:
        InvalidOption: The counts are not 0 <= failures <= trials with at least one trial, or the level is
            outside (0, 1).

    Reference:
        Wilson, Probable inference, J. American Statistical Association 22, 1927.
    """
    if trials < 1 or not 0 <= failures <= trials:
        raise InvalidOption(
            f"{failures} failures in {trials} trials: expected 0 <= failures <= trials, trials >= 1"
        )
    _check_level(level)
    z = float(stats.norm.ppf((1 + level) / 2))
    rate = failures / trials
    center = (rate + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    return max(0.0, center - half), min(1.0, center + half)


@dataclass(frozen=True, slots=True)
class Bjontegaard:
    """A Bjontegaard delta with the range over which it is a mean.

    Args:
        value: Change of rate in percent, or change of quality in its unit.
        low: Lower end of the common range: quality for a change of rate, rate for a change of quality.
        high: Upper end of the common range.
    """

    value: float
    low: float
    high: float


def bjontegaard_rate(
    baseline_rate: ArrayLike, baseline_quality: ArrayLike, rate: ArrayLike, quality: ArrayLike
) -> Bjontegaard:
    """Bjontegaard delta rate, and the range of quality over which it is a mean.

    100 (10^d - 1), where d is the mean over the common quality range of log10 rate - log10 baseline rate,
    both interpolated by monotone cubics (PCHIP). Nothing is extrapolated: the range goes from the larger of
    the two lowest qualities to the smaller of the two highest. Distances, such as LPIPS, are given with the
    sign reversed.

    Args:
        baseline_rate: Rates of the baseline, above 0, [points].
        baseline_quality: Quality of the baseline at these rates, [points].
        rate: Rates of the candidate, above 0, [points].
        quality: Quality of the candidate at these rates, [points].

    Returns:
        Change of rate in percent, negative is better, and the range of quality.

    Raises:
        InvalidOption: There are fewer than two points, rates are not positive, quality does not increase
            strictly with rate, or there is no common range.

    Reference:
        Bjontegaard, ITU-T VCEG-M33, 2001; piecewise cubics as in VCEG-AI11, 2008.

    Example:
        >>> found = bjontegaard_rate([1.0, 2.0, 4.0], [30.0, 32.0, 34.0], [1.0, 2.0, 4.0], [32.0, 34.0, 36.0])
        >>> round(found.value, 9), found.low, found.high
        (-50.0, 32.0, 34.0)
    """
    curve, other = _log_rate(baseline_quality, baseline_rate), _log_rate(quality, rate)
    gap, low, high = _mean_gap(curve, other, "quality")
    return Bjontegaard(100 * (10**gap - 1), low, high)


def bjontegaard_quality(
    baseline_rate: ArrayLike, baseline_quality: ArrayLike, rate: ArrayLike, quality: ArrayLike
) -> Bjontegaard:
    """Bjontegaard delta quality ("BD-PSNR"), and the range of rate over which it is a mean.

    Mean of quality - baseline quality over the common range of log10 rate, both interpolated by monotone
    cubics (PCHIP). Nothing is extrapolated.

    Args:
        baseline_rate: Rates of the baseline, above 0, [points].
        baseline_quality: Quality of the baseline at these rates, [points].
        rate: Rates of the candidate, above 0, [points].
        quality: Quality of the candidate at these rates, [points].

    Returns:
        Mean change of quality in its unit, positive is better, and the range of rate.

    Raises:
        InvalidOption: There are fewer than two points, rates are not positive, quality does not increase
            strictly with rate, or there is no common range.

    Reference:
        Bjontegaard, ITU-T VCEG-M33, 2001; piecewise cubics as in VCEG-AI11, 2008.
    """
    curve, other = _log_rate(baseline_quality, baseline_rate), _log_rate(quality, rate)
    gap, low, high = _mean_gap((curve[1], curve[0]), (other[1], other[0]), "rate")
    return Bjontegaard(gap, 10**low, 10**high)


def bd_rate(
    baseline_rate: ArrayLike, baseline_quality: ArrayLike, rate: ArrayLike, quality: ArrayLike
) -> float:
    """Bjontegaard delta rate: average change of rate at equal quality in percent; negative is better.

    100 (10^d - 1), where d is the mean over the common quality range of log10 rate - log10 baseline rate,
    both interpolated by monotone cubics. Any positive rate is allowed, such as bits or the bandwidth ratio
    rho.

    Args:
        baseline_rate: Rates of the baseline, above 0, [points].
        baseline_quality: Quality of the baseline at these rates, [points].
        rate: Rates of the candidate, above 0, [points].
        quality: Quality of the candidate at these rates, [points].

    Returns:
        Change of rate in percent.

    Raises:
        InvalidOption: There are fewer than two points, rates are not positive, quality does not increase
            strictly with rate, or there is no common range.

    Reference:
        Bjontegaard, ITU-T VCEG-M33, 2001; piecewise cubics as in VCEG-AI11, 2008.
    """
    return bjontegaard_rate(baseline_rate, baseline_quality, rate, quality).value


def bd_quality(
    baseline_rate: ArrayLike, baseline_quality: ArrayLike, rate: ArrayLike, quality: ArrayLike
) -> float:
    """Bjontegaard delta quality ("BD-PSNR"): mean change of quality at equal rate, in the unit of quality.

    Mean of quality - baseline quality over the common range of log10 rate, both interpolated by monotone
    cubics.

    Args:
        baseline_rate: Rates of the baseline, above 0, [points].
        baseline_quality: Quality of the baseline at these rates, [points].
        rate: Rates of the candidate, above 0, [points].
        quality: Quality of the candidate at these rates, [points].

    Returns:
        Mean change of quality; positive is better.

    Raises:
        InvalidOption: There are fewer than two points, rates are not positive, quality does not increase
            strictly with rate, or there is no common range.

    Reference:
        Bjontegaard, ITU-T VCEG-M33, 2001; piecewise cubics as in VCEG-AI11, 2008.
    """
    return bjontegaard_quality(baseline_rate, baseline_quality, rate, quality).value


def rate_needed(rate: ArrayLike, loss: ArrayLike, target: float) -> float:
    """Smallest rate (bits, or bandwidth ratio rho) at which a loss is at most the target.

    The loss is interpolated linearly over the logarithm of the rate. No point counts as worse than one of
    lower rate, since a scheme may leave rate unused.

    Args:
        rate: Rates, above 0, increasing, [points].
        loss: Loss at each rate, smaller is better, [points].
        target: Largest loss allowed.

    Returns:
        The rate; NaN if the target is not reached, the smallest rate if it is always reached.

    Raises:
        InvalidOption: There are no points, rates are not positive or do not increase, or a value is not
            finite.
    """
    rates, losses = np.asarray(rate, dtype=float), np.asarray(loss, dtype=float)
    alike = rates.ndim == 1 and rates.shape == losses.shape and len(rates) > 0
    if not (alike and rates[0] > 0 and (np.diff(rates) > 0).all()):
        raise InvalidOption(f"{rates.size} rates and {losses.size} losses: one loss per rate, rates rising")
    if not (np.isfinite([rates, losses]).all() and math.isfinite(target)):
        raise InvalidOption(f"the rate for a loss of {target:g}: it, all rates and all losses must be finite")
    falling = np.minimum.accumulate(losses)
    if falling[-1] > target:
        return math.nan
    after = int(np.argmax(falling <= target))
    if after == 0:
        return float(rates[0])
    part = (falling[after - 1] - target) / (falling[after - 1] - falling[after])
    return float(rates[after - 1] * (rates[after] / rates[after - 1]) ** part)


@dataclass(frozen=True, slots=True)
class Share:
    """Rate that is needed for an equal loss, as a share of another rate, over items.

    Args:
        interval: Geometric mean of the shares with its confidence limits, and number of items in it; NaN if
            there is none.
        cheaper: Items left out since the least rate measured has less loss than is wanted.
        never: Items left out since no rate measured has as little loss.
    """

    interval: Interval
    cheaper: int
    never: int


def share_at_equal_loss(
    rate: ArrayLike, losses: ArrayLike, wanted: ArrayLike, reference_rate: float, *, level: float = 0.95
) -> Share:
    """Rate at which items reach the loss that they have elsewhere, as a share of the rate spent there.

    The geometric mean over items i of needed_i / reference_rate, where needed_i is the rate of `rate_needed`
    for the loss wanted_i. Items whose wanted loss lies outside of what was measured are left out and counted.

    Args:
        rate: Rates, above 0, increasing, [points].
        losses: Loss of each item at each rate, smaller is better, [items, points].
        wanted: Loss of each item in the reference, [items].
        reference_rate: Rate of the reference, above 0.
        level: Coverage of the interval, in (0, 1).

    Returns:
        The share, below 1 if less rate is needed than the reference spends.

    Raises:
        InvalidOption: Numbers of items or rates differ, rates are not positive or do not increase, or a value
            is not finite.

    Example:
        >>> share = share_at_equal_loss([1.0, 2.0, 4.0], [[3.0, 2.0, 1.0], [2.5, 1.5, 0.5]], [2.0, 1.5], 4.0)
        >>> share.interval.mean, share.cheaper, share.never
        (0.5, 0, 0)
    """
    table, targets = np.asarray(losses, dtype=float), np.asarray(wanted, dtype=float)
    if table.ndim != 2 or targets.shape != table.shape[:1] or not reference_rate > 0:
        raise InvalidOption(
            f"losses of shape {table.shape} for {targets.size} items, reference rate {reference_rate:g}: "
            "one row per item, and a rate above 0"
        )
    pairs = list(zip(table, targets, strict=True))
    needed = np.array([rate_needed(rate, row, target) for row, target in pairs])
    cheaper = np.array([row[0] < target for row, target in pairs], dtype=bool)
    never = np.isnan(needed)
    counted = ~cheaper & ~never
    if not counted.any():
        return Share(Interval(math.nan, math.nan, math.nan, 0), int(cheaper.sum()), int(never.sum()))
    logs = bootstrap_mean(np.log(needed[counted] / reference_rate), np.arange(counted.sum()), level=level)
    mean, low, high = (math.exp(value) for value in (logs.mean, logs.low, logs.high))
    return Share(Interval(mean, low, high, logs.items), int(cheaper.sum()), int(never.sum()))


def summarise(
    records: "pd.DataFrame", metric: str, by: Sequence[str] = KEYS, *, level: float = 0.95
) -> "pd.DataFrame":
    """Summarise records, one row per point of a curve: mean, interval, number of items, outage rate.

    Columns: mean, low, high, items, rows, outage, outage_low, outage_high, rho_used. Lost items are part of
    the mean; items too small for the metric are not. `outage` is the share of lost rows, with its Wilson
    interval; `rho_used` is the mean bandwidth ratio spent.

    Args:
        records: Records, one per row.
        metric: Column to average.
        by: Columns that identify a point.
        level: Coverage of all intervals, in (0, 1).

    Returns:
        One row per point.

    Raises:
        UnknownName: There is no such column.
        InvalidOption: A scheme has the metric for only some rows of an item.
    """
    import pandas as pd

    require_columns(records, (*by, metric, "item"))
    records = _measured(records, metric)
    rows: list[dict[str, Any]] = []
    for key, group in records.groupby(list(by), sort=True, dropna=False, observed=True):
        interval = bootstrap_mean(group[metric], group["item"], level=level)
        row = dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True))
        row |= {"mean": interval.mean, "low": interval.low, "high": interval.high, "items": interval.items}
        row |= {"rows": len(group)}
        if "outage" in group:
            failures = int(np.sum(group["outage"].to_numpy()))
            low, high = wilson_interval(failures, len(group), level=level)
            row |= {"outage": failures / len(group), "outage_low": low, "outage_high": high}
        if "rho_used" in group:
            row |= {"rho_used": float(np.mean(group["rho_used"].to_numpy()))}
        rows.append(row)
    return pd.DataFrame(rows)


def compare(
    records: "pd.DataFrame", metric: str, scheme: str, baseline: str, *, level: float = 0.95
) -> "pd.DataFrame":
    """Paired difference of two schemes at every point they have in common: difference, low, high, items.

    Args:
        records: Records, one per row.
        metric: Column to compare.
        scheme: Name of the scheme.
        baseline: Name of the scheme to compare with.
        level: Coverage of the intervals, in (0, 1).

    Returns:
        One row per point.

    Raises:
        UnknownName: There is no such column.
        InvalidOption: The two schemes have no record in common.
    """
    import pandas as pd

    point = [key for key in KEYS if key != "scheme"]
    pairs = [*point, "item", "seed"]
    require_columns(records, ("scheme", *pairs, metric))
    ours, theirs = (records.loc[records["scheme"] == name, [*pairs, metric]] for name in (scheme, baseline))
    joined = ours.merge(theirs, on=pairs, suffixes=("", "_baseline"), validate="one_to_one")
    if joined.empty:
        raise InvalidOption(
            f"{scheme} and {baseline} have no record in common; run them on the same items and SNRs"
        )
    rows = []
    for key, group in joined.groupby(point, sort=True):
        interval = paired_difference(group[metric], group[f"{metric}_baseline"], group["item"], level=level)
        row = dict(zip(point, key, strict=True))
        rows.append(
            row
            | {
                "difference": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "items": interval.items,
            }
        )
    return pd.DataFrame(rows)


def best_points(
    points: "pd.DataFrame", higher_is_better: bool | None, by: Sequence[str] = ("channel", "rho", "snr_db")
) -> "pd.Series":
    """Find the schemes with the best mean at every point at which several schemes are compared.

    Args:
        points: Result of `summarise`, one row per scheme and point.
        higher_is_better: Direction of the metric; None if unknown.
        by: Columns that identify a point.

    Returns:
        One boolean per row: True for the best means of a point, ties included. False if the direction is
        unknown, and where all schemes of a point have the same mean, for instance when all lost every item.
    """
    import pandas as pd

    if higher_is_better is None:
        return pd.Series(False, index=points.index)
    groups = points.groupby(list(by))["mean"]
    best = groups.transform("max" if higher_is_better else "min")
    differ = groups.transform("nunique").to_numpy() > 1
    return (points["mean"] == best) & differ


def require_columns(records: "pd.DataFrame", names: Sequence[str]) -> None:
    """Check that records have the named columns.

    Args:
        records: One row per delivered item.
        names: Columns needed.

    Raises:
        UnknownName: A column is missing.
    """
    from semcom.errors import UnknownName

    for name in names:
        if name not in records.columns:
            raise UnknownName(f"the records have no column {name!r}; they have {', '.join(records.columns)}")


def _measured(records: "pd.DataFrame", metric: str) -> "pd.DataFrame":
    """Rows that have the metric; a scheme must have it for all rows of an item or for none."""
    present = np.asarray(records[metric].notna())
    if present.all():
        return records
    rows = list(zip(records["scheme"], records["item"], strict=True))
    partial = {row for row, has in zip(rows, present, strict=True) if has}.intersection(
        row for row, has in zip(rows, present, strict=True) if not has
    )
    if partial or not present.any():
        lacking = " of ".join(min(partial)[::-1]) if partial else "all records"
        raise InvalidOption(
            f"{metric} is missing in rows of {lacking}; measure it everywhere, or leave it out"
        )
    return records.loc[present]


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise InvalidOption(f"confidence level of {level} is outside (0, 1); 0.95 is usual")


def _item_means(values: ArrayLike, items: ArrayLike) -> np.ndarray:
    numbers = np.asarray(values, dtype=float)
    _, index = np.unique(np.asarray(items), return_inverse=True)
    if numbers.ndim != 1 or len(numbers) != len(index) or len(numbers) == 0:
        raise InvalidOption(
            f"values of shape {numbers.shape} for {len(index)} items: one number per row, one row at least"
        )
    if not np.isfinite(numbers).all():
        raise InvalidOption(
            f"{int((~np.isfinite(numbers)).sum())} of {len(numbers)} values are empty or not finite"
        )
    return np.bincount(index, numbers) / np.bincount(index)


def _log_rate(quality: ArrayLike, rate: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    q, r = np.asarray(quality, dtype=float), np.asarray(rate, dtype=float)
    if q.ndim != 1 or q.shape != r.shape or len(q) < 2:
        raise InvalidOption(
            f"curve of {q.size} qualities and {r.size} rates: needs two points at least, one rate each"
        )
    if not (np.isfinite(q).all() and np.isfinite(r).all() and (r > 0).all()):
        raise InvalidOption("a Bjontegaard delta needs finite qualities and positive rates")
    order = np.argsort(r)
    q, r = q[order], r[order]
    if (np.diff(r) <= 0).any() or (np.diff(q) <= 0).any():
        raise InvalidOption(
            "a Bjontegaard delta needs quality that strictly increases with rate; drop the other points"
        )
    return q, np.log10(r)


def _mean_gap(
    baseline: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], axis: str
) -> tuple[float, float, float]:
    """Mean of other - baseline over their common range, and its ends."""
    low, high = max(baseline[0][0], other[0][0]), min(baseline[0][-1], other[0][-1])
    if low >= high:
        raise InvalidOption(f"the two curves share no range of {axis}, so there is no Bjontegaard delta")
    areas = [float(PchipInterpolator(x, y).integrate(low, high)) for x, y in (baseline, other)]
    return (areas[1] - areas[0]) / (high - low), float(low), float(high)
