"""Who is best at an operating point, and by how much over the best of another family, on paired items."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from semcom.columns import Column
from semcom.kinds import Kind, kinds_of
from semcom.statistics import Interval, bootstrap_mean, paired_difference, require_columns

if TYPE_CHECKING:
    import pandas as pd

ROUNDING = 1e-9
"""Means that differ relatively by less than this are equal."""


@dataclass(frozen=True, slots=True)
class Lead:
    """Lead of the best scheme over another one, positive whatever the direction of the metric.

    Args:
        over: Name of the other scheme.
        mean: Mean of the other scheme in the metric.
        interval: Paired difference in the unit of the metric, with its 95 % interval over items.
    """

    over: str
    mean: float
    interval: Interval

    @property
    def significant(self) -> bool:
        """Whether the interval does not hold zero; a single item has no interval."""
        return self.interval.low > 0


@dataclass(frozen=True, slots=True)
class Standing:
    """Comparison of all schemes at one operating point in one metric.

    Schemes are compared on rows of the same items and seeds; a scheme that lacks some of them is left out.
    Bounds take no part.

    Args:
        channel: Canonical name of the channel.
        rho: Allowed bandwidth ratio in channel uses per source dimension.
        snr_db: Average received Es/N0 in dB.
        metric: Column of the metric.
        best: Schemes of the best mean, several if their means are equal; by name.
        mean: Mean of the metric of the best.
        items: Number of items that all were compared on.
        schemes: Number of schemes that were compared.
        rival: Lead over the best scheme of another family; None if all are of one family.
        second: Lead over the best other scheme of any family; None if there is no other.
        all_lost: Whether every scheme lost every item, so that nothing is compared but placeholders.
    """

    channel: str
    rho: float
    snr_db: float
    metric: str
    best: tuple[str, ...]
    mean: float
    items: int
    schemes: int
    rival: Lead | None
    second: Lead | None
    all_lost: bool


def standings(
    records: "pd.DataFrame", column: Column, csit: str | None = None, kinds: Mapping[str, Kind] | None = None
) -> list[Standing]:
    """Compare schemes at every operating point in one metric.

    Args:
        records: Records, one per row.
        column: The metric, with its direction.
        csit: Only schemes whose transmitter knows this ("none", "average", or "" for unknown); None for all.
        kinds: Kinds of the schemes; by default those that the records tell.

    Returns:
        One entry per channel, rho and SNR at which some scheme has finite values of the metric, sorted; empty
        if the direction of the metric is unknown.

    Raises:
        UnknownName: There is no such column.
    """
    require_columns(records, ("scheme", "channel", "rho", "snr_db", "item", column.name))
    if column.higher_is_better is None:
        return []
    kinds = kinds_of(records) if kinds is None else kinds
    ranked = [name for name, kind in kinds.items() if kind.family != "bound" and csit in (None, kind.csit)]
    rows = records.loc[records["scheme"].isin(ranked) & np.isfinite(records[column.name])]
    if "seed" not in rows:
        rows = rows.assign(seed=0)
    found: list[Standing] = []
    for point, group in rows.groupby(["channel", "rho", "snr_db"], sort=True):
        found.append(_standing(point, group, column, kinds))  # pyright: ignore[reportArgumentType]
    return found


def facets(records: "pd.DataFrame", kinds: Mapping[str, Kind] | None = None) -> list[str]:
    """Kinds of transmitter knowledge in the records, each of which has a map of its own.

    Args:
        records: Records, one per row.
        kinds: Kinds of the schemes; by default those that the records tell.

    Returns:
        "none", "average" and "" (unknown), as far as a scheme that can win has them, in this order.
    """
    kinds = kinds_of(records) if kinds is None else kinds
    there = {kind.csit for kind in kinds.values() if kind.family != "bound"}
    return [csit for csit in ("none", "average", "") if csit in there]


def _standing(
    point: tuple[str, float, float], rows: "pd.DataFrame", column: Column, kinds: Mapping[str, Kind]
) -> Standing:
    rows = comparable(rows)
    names = sorted(set(rows["scheme"]))
    table = rows.pivot_table(index=["item", "seed"], columns="scheme", values=column.name)
    items = table.index.get_level_values("item").to_numpy()
    sign = 1.0 if column.higher_is_better else -1.0
    values = {name: np.asarray(table[name], dtype=float) for name in names}
    means = {name: bootstrap_mean(values[name], items, resamples=1).mean for name in names}
    order = sorted(names, key=lambda name: (-sign * means[name], name))
    top = means[order[0]]
    best = [name for name in order if math.isclose(means[name], top, rel_tol=ROUNDING, abs_tol=1e-12)]

    def lead(others: Sequence[str]) -> Lead | None:
        if not others:
            return None
        ours, theirs = (sign * values[name] for name in (best[0], others[0]))
        return Lead(others[0], means[others[0]], paired_difference(ours, theirs, items))

    families = {name: kinds[name].family for name in names}
    rivals = [name for name in order if families[name] != families[best[0]]]
    lost = "outage" in rows and bool((rows["outage"] > 0).all())
    return Standing(
        *(str(point[0]), float(point[1]), float(point[2]), column.name),
        *(tuple(sorted(best)), top, len(set(items)), len(names)),
        lead(rivals),
        lead(order[1:]),
        lost,
    )


def comparable(rows: "pd.DataFrame") -> "pd.DataFrame":
    """Rows of one operating point on which schemes are compared: the same items and seeds of each scheme.

    A scheme that lacks items which most others have is left out, lest it leave few items to compare: of all
    choices of schemes and of rows that they share, this is the one with the largest number of rows.

    Args:
        rows: Records of one operating point, one per row, with the columns scheme, item and seed.

    Returns:
        Some of the rows, in the same order.
    """
    pairs = list(zip(rows["item"], rows["seed"], strict=True))
    have: dict[str, set[tuple[str, int]]] = {}
    for name, pair in zip(rows["scheme"], pairs, strict=True):
        have.setdefault(str(name), set()).add(pair)
    choices = [*have.values(), set.intersection(*have.values())]
    groups = [[name for name, there in have.items() if wanted <= there] for wanted in choices]
    sizes = [(len(g) * len(wanted), len(g)) for g, wanted in zip(groups, choices, strict=True)]
    chosen = max(range(len(groups)), key=sizes.__getitem__)
    names, wanted = set(groups[chosen]), choices[chosen]
    kept = [name in names and pair in wanted for name, pair in zip(rows["scheme"], pairs, strict=True)]
    return rows.loc[kept]
