"""What a folder of results shows: its table, figures and exhibits, the same for every command."""

import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from semcom.budget import shown_rho
from semcom.columns import DECISIONS, Column, Columns
from semcom.errors import InvalidOption, InvalidSource, StoreError, UnknownName
from semcom.exhibits import Exhibit, Fold, Loop, Page, Strip, across_snr, exhibits_of
from semcom.findings import findings
from semcom.kinds import KNOWLEDGE, kinds_of
from semcom.maps import winner_map
from semcom.metrics.catalogue import DEFAULTS, SHIPPED_COLUMNS, column_named
from semcom.modalities import MODALITIES, Item, Modality
from semcom.plots import (
    ARROWS,
    ReferenceLine,
    column_label,
    metric_of_schemes,
    metric_vs_rho,
    metric_vs_snr,
    perception_distortion,
    scheme_styles,
)
from semcom.report import Entry, write_report
from semcom.results import ResultStore
from semcom.statistics import best_points, paired_difference, summarise
from semcom.sweep import file_name, kept_path
from semcom.theory.source_limit import GaussianModel, mean_psnr_db
from semcom.winners import comparable
from semcom.wording import MINUS, decimals, noun
from semcom.wording import brief as brief_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

RECORDS = "records.sqlite"
PICTURES = "pictures"
ORIGINALS = "originals"
PERCEPTION = ("swd", "lpips_squeeze", "lpips_alex", "lpips_vgg")
MATRICES = 4
"""Groups of channel and rho of which a report shows an item at every SNR."""
SNRS = 6
"""SNRs at which an item is shown; more are left out evenly."""
POINT = ("channel", "rho", "snr_db")
"""Columns of a record that identify an operating point."""
FIGURES = 40
"""Figures in a report; `semcom plot` draws them all."""


def measured(
    records: "pd.DataFrame", names: Sequence[str] = (), columns: Columns = SHIPPED_COLUMNS
) -> tuple[str, ...]:
    """Names of the metrics in the records, or a selection of columns.

    Args:
        records: Records, one per row, from `ResultStore.frame`.
        names: Columns of numbers; empty for all metrics.
        columns: All metrics, such as `ResultStore.columns()`; by default those of this package.

    Returns:
        Names, in the order of `names` or of `columns`.

    Raises:
        UnknownName: The records have no such column of numbers.
        StoreError: There are no records.
    """
    if records.empty:
        raise StoreError("no records yet; run the sweep again, it goes on where it was stopped")
    numbers = records.select_dtypes("number").columns
    for name in names:
        if name not in numbers:
            raise UnknownName(
                f"the records have no column {name!r} of numbers; they have {', '.join(numbers)}"
            )
    return tuple(names) or tuple(name for name in columns if name in numbers)


@dataclass(frozen=True, slots=True)
class Gap:
    """A metric that a scheme has for some but not all records of an item on a channel.

    Means over incomplete records would not be comparable, so tables and figures omit the metric there.

    Args:
        metric: Column of the metric.
        scheme: Name of the scheme.
        channel: Canonical name of the channel.
    """

    metric: str
    scheme: str
    channel: str

    @property
    def sentence(self) -> str:
        """Explanation for readers: what is omitted, why, and how to complete it."""
        return (
            f"{self.metric} of {self.scheme} on {self.channel} was measured for a part of the records and is "
            "left out; run the sweep again with it"
        )


def gaps(records: "pd.DataFrame", names: Sequence[str] = (), columns: Columns = SHIPPED_COLUMNS) -> list[Gap]:
    """Find metrics that were measured for only some records of an item.

    Args:
        records: Records, one per row, from `ResultStore.frame`.
        names: Columns of metrics; empty for all.
        columns: All metrics, such as `ResultStore.columns()`; by default those of this package.

    Returns:
        One entry per metric, scheme and channel.

    Raises:
        UnknownName: The records have no such column of numbers.
        StoreError: There are no records.
    """
    found: list[Gap] = []
    for name in measured(records, names, columns):
        rows = list(zip(records["scheme"], records["channel"], records["item"], strict=True))
        present = list(zip(rows, records[name].notna(), strict=True))
        partial = {row for row, has in present if has} & {row for row, has in present if not has}
        found += [Gap(name, scheme, channel) for scheme, channel in sorted({row[:2] for row in partial})]
    return found


def table(
    records: "pd.DataFrame",
    names: Sequence[str] = (),
    brief: bool = False,
    columns: Columns = SHIPPED_COLUMNS,
) -> "pd.DataFrame":
    """Table of mean metrics, channel uses spent and outage rate: one row per channel, rho, SNR and scheme.

    Decisions (`semcom.columns.DECISIONS`) follow as shares of the records that hold one.

    Args:
        records: Records, one per row, from `ResultStore.frame`.
        names: Columns of metrics; empty for all.
        brief: Whether to omit the 95 % bootstrap intervals over items (which a single item never has) and to
            use short headings without arrows for the direction.
        columns: Unit and direction of all metrics, such as `ResultStore.columns()`; by default those of this
            package.

    Returns:
        Formatted strings; empty where a scheme lacks a metric.

    Raises:
        UnknownName: The records have no such column of numbers.
        StoreError: There are no records.
    """
    return _tabulated(records, names, brief, columns, paired=False)[0]


def _tabulated(
    records: "pd.DataFrame", names: Sequence[str], brief: bool, columns: Columns, *, paired: bool
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """The table, and a frame of the same shape that is True at the best mean of every metric at a point.

    With `paired`, intervals stand on a second line, differences from the best on a third, where intervals
    overlap, and means over fewer items than others of the point say so. The best is that of the rows that
    schemes of the point share, see `semcom.winners.comparable`; without `paired` none is sought.
    """
    import pandas as pd

    point = [*POINT, "scheme"]
    there = measured(records, names, columns)
    records = _without(records, gaps(records, names, columns))
    cells: dict[str, dict[object, tuple[str, bool]]] = {}
    for name in there:
        if _points(records, name):
            column = column_named(name, columns)
            heading = brief_name(column) if brief else column_label(column) + ARROWS[column.higher_is_better]
            cells[heading] = _cells(records, column, point, not brief, paired)
    decisions = [
        name for name in DECISIONS if name in records and bool(records[name].notna().to_numpy().any())
    ]
    rows: list[dict[str, str]] = []
    best: list[dict[str, bool]] = []
    key: Any
    for key, group in records.groupby(point, sort=True):
        channel, rho, snr_db, scheme = key
        row = {"channel": channel, "rho": shown_rho(rho), "SNR dB": f"{snr_db:g}", "scheme": scheme}
        found = {heading: column.get(key, ("", False)) for heading, column in cells.items()}
        row |= {heading: text for heading, (text, _) in found.items()}
        spent, share = f"{group['channel_uses'].mean():.0f}", f" ({group['rho_used'].mean() / rho:.0%})"
        row |= {"uses" if brief else "channel uses": spent if brief else spent + share}
        row |= {"outage": _rate(float(np.mean(group["outage"].to_numpy())))}
        row |= {DECISIONS[name]: _share(group[name].to_numpy()) for name in decisions}
        rows.append(row)
        best.append({heading: found[heading][1] if heading in found else False for heading in row})
    return pd.DataFrame(rows), pd.DataFrame(best)


def figures(
    records: "pd.DataFrame",
    names: Sequence[str] = (),
    snr_db: Sequence[float] = (),
    models: Sequence[GaussianModel] = (),
    columns: Columns = SHIPPED_COLUMNS,
) -> "dict[str, Figure]":
    """Draw every figure for which the records suffice.

    The figures are metrics against SNR (for several SNRs), metrics against rho (for several rho), metrics of
    all schemes (for a point that no such curve has), and the perception-distortion plane. Each shows the
    schemes that have its metrics. `gaps` are logged.

    Args:
        records: Records, one per row, from `ResultStore.frame`.
        names: Columns of metrics; empty for all.
        snr_db: SNRs in dB for figures at one SNR; empty for the middle one.
        models: Gaussian models of the images, whose distortion limits are drawn for PSNR on AWGN.
        columns: Unit and direction of all metrics, such as `ResultStore.columns()`; by default those of this
            package.

    Returns:
        Figures by file name.

    Raises:
        UnknownName: The records have no such column of numbers.
        StoreError: There are no records.
        InvalidOption: No record has one of the SNRs.
    """
    return {name: draw() for name, draw in _drawings(records, names, snr_db, models, columns).items()}


def _drawings(
    records: "pd.DataFrame",
    names: Sequence[str],
    snr_db: Sequence[float],
    models: Sequence[GaussianModel],
    columns: Columns,
) -> "dict[str, Callable[[], Figure]]":
    """Functions that draw the figures, by file name."""
    metrics, left_out = measured(records, names, columns), gaps(records, names, columns)
    for gap in left_out:
        logger.warning(gap.sentence)
    records = _without(records, left_out)
    for snr in snr_db:
        if not _chosen(records["snr_db"], (snr,)):
            there = ", ".join(f"{value:g}" for value in sorted(set(records["snr_db"])))
            raise InvalidOption(f"no records with snr_db = {snr:g}; there are {there}")
    drawn: dict[str, Callable[[], Figure]] = {}
    for channel in sorted(set(records["channel"])):
        here = records.loc[records["channel"] == channel]
        for metric in metrics:
            for rho, snrs in reversed(_grouped(_points(here, metric)).items()):
                if len(snrs) > 1:
                    name = _file_name(metric, channel, shown_rho(rho))
                    limits = _limits(models, metric, channel, rho, snrs)
                    drawn[name] = partial(metric_vs_snr, records, metric, rho, channel, limits, columns)
        for metric in metrics:
            ratios = _grouped((snr, rho) for rho, snr in _points(here, metric))
            for snr in _chosen([snr for snr in ratios if len(ratios[snr]) > 1], snr_db):
                name = _file_name(metric, "vs-rho", channel, f"{snr:g}dB")
                drawn[name] = partial(metric_vs_rho, records, metric, snr, channel, columns=columns)
        for metric in metrics:
            points = _points(here, metric)
            ratios, snrs = _grouped(points), _grouped((snr, rho) for rho, snr in points)
            for rho, snr in sorted(points):
                if len(ratios[rho]) == 1 and len(snrs[snr]) == 1:
                    name = _file_name(metric, channel, shown_rho(rho), f"{snr:g}dB")
                    drawn[name] = partial(metric_of_schemes, records, metric, rho, snr, channel, columns)
        for metric in PERCEPTION:
            both = _points(here, "psnr_db", metric) if {"psnr_db", metric} <= set(metrics) else set()
            chosen = [(rho, snr) for rho, snrs in _grouped(both).items() for snr in _chosen(snrs, snr_db)]
            for rho, snr in chosen:
                name = _file_name("psnr_db", metric, channel, shown_rho(rho), f"{snr:g}dB")
                lines = _upright(_limits(models, "psnr_db", channel, rho, (snr,)), np.asarray(here[metric]))
                drawn[name] = partial(
                    perception_distortion,
                    *(records, rho, snr, channel),
                    perception=metric,
                    references=lines,
                    columns=columns,
                )
    return drawn


def winner_maps(
    records: "pd.DataFrame", names: Sequence[str] = (), columns: Columns = SHIPPED_COLUMNS
) -> "dict[str, Figure]":
    """Draw maps of winners over SNR and rho, one per channel and metric with a known direction.

    Args:
        records: Records, one per row, from `ResultStore.frame`.
        names: Columns of metrics; empty for all.
        columns: Unit and direction of all metrics, such as `ResultStore.columns()`; by default those of this
            package.

    Returns:
        Figures by file name.

    Raises:
        UnknownName: The records have no such column of numbers.
        StoreError: There are no records.
        InvalidOption: No metric has a known direction.
    """
    metrics = [
        name
        for name in measured(records, names, columns)
        if column_named(name, columns).higher_is_better is not None
    ]
    if not metrics:
        raise InvalidOption(
            "a map of winners needs a metric whose better direction is known; measure one, such as psnr_db"
        )
    records = _without(records, gaps(records, metrics, columns))
    return {
        _file_name("winners", metric, channel): winner_map(records, metric, channel, columns)
        for channel in sorted(set(records["channel"]))
        for metric in metrics
        if _points(records.loc[records["channel"] == channel], metric)
    }


def _points(records: "pd.DataFrame", *metrics: str) -> set[tuple[float, float]]:
    """Pairs of rho and SNR at which some record has all of the metrics."""
    rows = records.dropna(subset=list(metrics))
    return set(zip(rows["rho"], rows["snr_db"], strict=True))


def _grouped(pairs: Iterable[tuple[float, float]]) -> dict[float, list[float]]:
    """Second numbers by first number, sorted."""
    grouped: dict[float, list[float]] = {}
    for first, second in sorted(pairs):
        grouped.setdefault(first, []).append(second)
    return grouped


def _chosen(there: Iterable[float], wanted: Sequence[float]) -> list[float]:
    """Wanted SNRs that occur in the records, or the middle one if none is wanted."""
    snrs = sorted(set(there))
    if not wanted:
        return snrs[len(snrs) // 2 :][:1]
    return [snr for snr in snrs if np.isclose(snr, wanted, rtol=1e-4, atol=1e-9).any()]


def _without(records: "pd.DataFrame", left_out: Sequence[Gap]) -> "pd.DataFrame":
    """Records with NaN where a metric is incomplete."""
    records = records.copy()
    for gap in left_out:
        rows = (records["scheme"] == gap.scheme) & (records["channel"] == gap.channel)
        records.loc[rows, gap.metric] = math.nan
    return records


def _limits(
    models: Sequence[GaussianModel], metric: str, channel: str, rho: float, snr_db: Sequence[float]
) -> list[ReferenceLine]:
    """Limits of PSNR against SNR, without a perception constraint and with perfect realism."""
    if not models or metric != "psnr_db" or channel != "awgn":
        return []
    ends = (("limit of a Gaussian model, not of images", 0.0), ("that model, perfect realism", math.inf))
    return [
        ReferenceLine(label, snr_db, [mean_psnr_db(models, snr, rho, nu) for snr in snr_db])
        for label, nu in ends
    ]


def _upright(limits: Sequence[ReferenceLine], heights: np.ndarray) -> list[ReferenceLine]:
    """Turn horizontal reference lines into vertical ones, for a plane whose abscissa is PSNR."""
    span = [float(np.nanmin(heights)), float(np.nanmax(heights))]
    return [ReferenceLine(line.label, [line.y[0]] * 2, span) for line in limits]


def keep_originals(items: Sequence[Item[Any]], folder: Path) -> None:
    """Write the original items to a folder of results, for comparison with the received ones.

    Args:
        items: Items that are sent.
        folder: Folder of the results.

    Raises:
        OSError: The folder cannot be written to.
    """
    (folder / PICTURES / ORIGINALS).mkdir(parents=True, exist_ok=True)
    for item in items:
        item.modality.write(item.x, original_path(folder, item.id, item.modality.saved_suffix))


def original_path(folder: Path, item: str, suffix: str = ".png") -> Path:
    """Path at which `keep_originals` writes an item.

    Args:
        folder: Folder of the results.
        item: Id of the item.
        suffix: Extension of kept files, `Modality.saved_suffix`.

    Returns:
        The path.
    """
    return folder / PICTURES / ORIGINALS / file_name(item, suffix)


def exhibits(
    records: "pd.DataFrame", folder: Path, at_most: int = 6, columns: Columns = SHIPPED_COLUMNS
) -> dict[str, tuple[Exhibit, ...]]:
    """Draw what was received beside what was sent, as far as it was kept: one item at every SNR.

    There is one entry per channel and rho, of another item each: pictures and clips at all SNRs in one strip,
    then for each SNR what `exhibits_of` draws, folded. Where there is one SNR, that alone is shown.

    Args:
        records: Valid records, from `ResultStore.frame`.
        folder: Folder of the results.
        at_most: Number of points of channel, rho and SNR of which details are shown; points are left out
            evenly.
        columns: Unit and direction of all metrics, from `ResultStore.columns`; by default those of this
            package.

    Returns:
        Caption, with the point and the item, to the exhibits. Points of which nothing was kept are left out,
        and so are modalities that are not of this package; of files that cannot be read the log tells.
    """
    known = {modality.name: modality for modality in MODALITIES}
    there = {
        (name, item)
        for name, item in set(zip(records["modality"], records["item"], strict=True))
        if name in known and original_path(folder, item, known[name].saved_suffix).is_file()
    }
    groups: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for row in records.to_dict("records"):
        if (row["modality"], row["item"]) in there:
            groups.setdefault((row["channel"], row["rho"]), []).append(row)
    chosen = _evenly(sorted(groups, key=lambda group: (group[0], -group[1])), min(MATRICES, at_most))
    colors = {name: style.color for name, style in scheme_styles(records).items()}
    drawn: dict[str, tuple[Exhibit, ...]] = {}
    for i, (channel, rho) in enumerate(chosen):
        rows, where = groups[channel, rho], f"{channel}, ρ = {shown_rho(rho)}"
        item, rows = _rows_of_one_item(rows, i)
        snrs = _evenly(sorted({row["snr_db"] for row in rows}), SNRS)
        found = {
            snr: _received_rows([row for row in rows if row["snr_db"] == snr], folder, known, columns)
            for snr in snrs
        }
        found = {snr: received for snr, received in found.items() if received is not None}
        share = max(1, at_most // len(chosen))
        details = {
            snr: tuple(
                exhibits_of(
                    received.original,
                    received.shown,
                    received.captions,
                    f"{where}, SNR {snr:g} dB: {item}",
                    colors,
                )
            )
            for snr, received in found.items()
            if snr in _evenly(list(found), share)
        }
        details = {snr: shown for snr, shown in details.items() if shown}
        if len(found) == 1:
            drawn |= {f"{where}, SNR {snr:g} dB: {item}": shown for snr, shown in details.items()}
        elif details:
            drawn[f"{where}: {item}"] = _at_every_snr(found, details, f"{where}: {item}", colors)
    return drawn


def _evenly(values: "list[Any]", at_most: int) -> "list[Any]":
    """At most so many of the values, the first and (if there are two) the last among them."""
    if len(values) <= at_most:
        return values
    if at_most == 1:
        return values[len(values) // 2 :][:1]
    return [values[round(i * (len(values) - 1) / (at_most - 1))] for i in range(at_most)]


def _rows_of_one_item(rows: list[dict[str, Any]], number: int) -> tuple[str, list[dict[str, Any]]]:
    """One of the items that were sent at the most SNRs, and its rows."""
    snrs: dict[str, set[float]] = {}
    for row in rows:
        snrs.setdefault(row["item"], set()).add(row["snr_db"])
    most = max(map(len, snrs.values()))
    items = sorted(item for item, there in snrs.items() if len(there) == most)
    item = items[number % len(items)]
    return item, [row for row in rows if row["item"] == item]


@dataclass(frozen=True, eq=False, slots=True)
class _ReceivedRows:
    """What was received of one item at one point, with captions, by scheme."""

    original: Item[Any]
    shown: dict[str, Any]
    captions: dict[str, str]


def _at_every_snr(
    found: Mapping[float, _ReceivedRows],
    details: "Mapping[float, tuple[Strip | Loop | Page, ...]]",
    heading: str,
    colors: Mapping[str, str],
) -> tuple[Exhibit, ...]:
    original = next(iter(found.values())).original
    names = sorted({name for received in found.values() for name in received.shown})
    shown = {
        name: {snr: received.shown[name] for snr, received in found.items() if name in received.shown}
        for name in names
    }
    captions = {
        name: {snr: received.captions[name] for snr, received in found.items() if name in received.shown}
        for name in names
    }
    strip = across_snr(original, shown, captions, heading, colors)
    arrived = (snr for snr in details if set(found[snr].captions.values()) - {"lost"})
    first = next(arrived, next(iter(details)))
    about = "At {:g} dB" if strip is None else "At {:g} dB, in detail"
    folds = tuple(
        Fold(about.format(snr), exhibits, opened=strip is None and snr == first)
        for snr, exhibits in details.items()
    )
    return folds if strip is None else (strip, *folds)


def _received_rows(
    rows: Sequence[Mapping[str, Any]],
    folder: Path,
    known: Mapping[str, Modality[Any]],
    columns: Columns,
) -> _ReceivedRows | None:
    """What was kept of records of one item at one point, of each scheme the first seed."""
    modality = known[rows[0]["modality"]]
    original: Item[Any] | None = None
    shown: dict[str, Any] = {}
    captions: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: (row["scheme"], row["seed"])):
        key = tuple(row[name] for name in ("fingerprint", "channel", "item", "budget_uses", "snr_db", "seed"))
        path = kept_path(folder / PICTURES, row["scheme"], key, modality.saved_suffix)
        if row["scheme"] in shown or not path.is_file():
            continue
        try:
            if original is None:
                x = modality.read(original_path(folder, row["item"], modality.saved_suffix)).x
                original = Item(row["item"], x, modality)
            shown[row["scheme"]] = _received(path, modality, original)
        except InvalidSource as error:
            logger.warning("not shown: %s", error)
            continue
        captions[row["scheme"]] = caption_of(row, columns)
    return None if original is None or not shown else _ReceivedRows(original, shown, captions)


def _received(path: Path, modality: Modality[Any], original: Item[Any]) -> Any:
    """Content of a kept file."""
    if path.stat().st_size == 0:  # a lost text, which `read` refuses since it is nothing to send
        return modality.cover(modality.shape(original.x))
    return modality.read(path).x


def caption_of(row: Mapping[str, Any], columns: Columns = SHIPPED_COLUMNS) -> str:
    """Say in two words how good what is shown of a record is: "31.2 dB", "WER 0.125", "lost".

    Args:
        row: Columns of a record by name, from `Record.row` or `ResultStore.frame`.
        columns: Unit and direction of all metrics, from `ResultStore.columns`; by default those of this
            package.

    Returns:
        The first metric that the record has, those that are usual for its modality before others; nothing if
        it has none.
    """
    if row["outage"]:
        return "lost"
    names = dict.fromkeys((*DEFAULTS.get(row["modality"], ()), *columns))
    found = next((name for name in names if name in row and not math.isnan(row[name])), None)
    if found is None:
        return ""
    column, value = column_named(found, columns), row[found]
    if column.unit == "dB":
        return f"{value:.1f} dB" if found == "psnr_db" else f"{found} {value:.1f} dB"
    return f"{brief_name(column)} {value:.{decimals(column, abs(value))}f}"


def report(folder: Path, path: Path, title: str, summary: str = "", notes: Sequence[str] = ()) -> Path:
    """Write the report of a folder of results.

    It opens with findings in sentences and a line about each scheme; then come maps of winners, curves, what
    was received, the table, notes, and what its runs ran on.

    Args:
        folder: Folder of the results.
        path: The HTML file.
        title: Heading.
        summary: A sentence or two below the heading.
        notes: What a reader should know about the experiment.

    Returns:
        The path.

    Raises:
        StoreError: There are no records in the folder.
        OSError: The report cannot be written.
    """
    from semcom.names.descriptions import described

    with ResultStore(folder / RECORDS, read_only=True) as store:
        records, runs, columns = store.frame(), store.runs(), store.columns()
    path.parent.mkdir(parents=True, exist_ok=True)  # fail now, not after minutes of drawing
    metrics, left_out = measured(records, columns=columns), gaps(records, columns=columns)
    complete = _without(records, left_out)
    styles = scheme_styles(records)
    key = [
        Entry(
            name, styles[name].color, styles[name].dashes, described(name), kind.family, KNOWLEDGE[kind.csit]
        )
        for name, kind in kinds_of(records).items()
    ]
    caption, means, best = _report_table(records, columns)
    maps = _report_maps(complete, metrics, columns)
    curves = _drawings(records, (), (), (), columns)
    more = list(curves)[FIGURES:]
    curtailed = [f"{len(more)} more figures: semcom plot {folder.name}"] if more else []
    return write_report(
        path,
        title,
        tables={caption: means},
        figures={name: draw() for name, draw in curves.items() if name not in more},
        exhibits=exhibits(records, folder, columns=columns),
        notes=[
            *notes,
            *_reading(records, bool(maps)),
            *curtailed,
            *(gap.sentence for gap in left_out),
            *dict.fromkeys(map(_provenance, runs)),
        ],
        summary=summary or _scope(records),
        best={caption: best},
        findings=findings(complete, metrics, columns),
        key=key,
        maps=maps,
    )


def _scope(records: "pd.DataFrame") -> str:
    """What was measured, in a sentence."""
    modalities = sorted(set(records["modality"]))
    counts = {
        noun(modalities[0] if len(modalities) == 1 else ""): records["item"].nunique(),
        "scheme": records["scheme"].nunique(),
        "channel": records["channel"].nunique(),
        "SNR": records["snr_db"].nunique(),
        "bandwidth ratio": records["rho"].nunique(),
        "noise seed": records["seed"].nunique(),
    }
    parts = [f"{n} {what}{'s' * (n != 1)}" for what, n in counts.items() if n > 1 or what in ("scheme",)]
    return (
        f"Measured: {', '.join(parts)}. At one operating point all schemes may spend the same number of "
        "channel uses, headers and side information counted."
    )


def _reading(records: "pd.DataFrame", maps: bool) -> list[str]:
    """How to read the page."""
    notes = [
        "Means are over items and seeds, lost items included. Intervals are 95 % bootstrap intervals over "
        "items; differences are paired, on the same items and noise. Intervals are not corrected for having "
        "picked the best of many.",
    ]
    if maps:
        notes.append(
            "Maps: among schemes that know the same of the channel, at each cell the best one. A scheme of "
            "fixed rate that is best in one cell is not that of the next: who combines several of them "
            "chooses the rate with a knowledge that none of them has."
        )
    return notes


def _report_maps(records: "pd.DataFrame", metrics: Sequence[str], columns: Columns) -> "dict[str, Figure]":
    """Maps of winners, if the records cover a plane and there are families to compare."""
    families = {kind.family for kind in kinds_of(records).values()} - {"bound"}
    known = [name for name in metrics if column_named(name, columns).higher_is_better is not None]
    plane = records["snr_db"].nunique() > 1 and records["rho"].nunique() > 1
    return winner_maps(records, known, columns) if plane and known and len(families) > 1 else {}


def _report_table(records: "pd.DataFrame", columns: Columns) -> "tuple[str, pd.DataFrame, pd.DataFrame]":
    """Caption, the table with schemes first and without columns that are equal in all rows, and its best."""
    means, best = _tabulated(records, (), False, columns, paired=True)
    point = ["channel", "rho", "SNR dB"]
    same = [name for name in point if means[name].nunique() == 1]
    order = ["scheme", *(name for name in point if name not in same)]
    order += [name for name in means.columns if name not in (*order, *same)]
    values = {name: means[name].iloc[0] for name in same}
    fixed = ", ".join(value if name == "channel" else f"{name} = {value}" for name, value in values.items())
    caption = (
        f"{f'All rows: {fixed}. ' if fixed else ''}Means over items and seeds, lost ones included; "
        "95 % bootstrap intervals; bold: best of a point, on the items that the schemes compared there "
        "share; where intervals overlap with its own: Δ paired difference from it, ≈ if not significant."
    )
    return caption, means.reindex(columns=order), best.reindex(columns=order)


def _cells(
    records: "pd.DataFrame", column: Column, point: Sequence[str], intervals: bool, paired: bool
) -> dict[object, tuple[str, bool]]:
    """Mean as text, and whether it is the best one, by point and scheme."""
    rows = records.dropna(subset=[column.name])
    points = summarise(rows, column.name, by=point)
    digits = decimals(column, float(points["mean"].abs().to_numpy().max()))
    best, differences = _ranked(rows, column, point, digits) if paired else (set[object](), {})
    there = rows.groupby(list(POINT))["item"].nunique()
    cells: dict[object, tuple[str, bool]] = {}
    for row in points.to_dict("records"):
        key, of = tuple(row[name] for name in point), there.loc[tuple(row[name] for name in POINT)]
        mean, low, high = (f"{row[name]:.{digits}f}" for name in ("mean", "low", "high"))
        lines = [f"[{low}, {high}]"] if intervals and row["items"] > 1 else []
        lines += [differences[key]] if key in differences else []
        lines += [f"({row['items']} of {of} items)"] if paired and row["items"] < of else []
        cells[key] = ("\n" if paired else " ").join([mean, *lines]), key in best
    return cells


def _ranked(
    rows: "pd.DataFrame", column: Column, point: Sequence[str], digits: int
) -> tuple[set[object], dict[object, str]]:
    """The best of every point, and paired differences from it, on the rows that schemes of a point share."""
    import pandas as pd

    shared = pd.concat([comparable(group) for _, group in rows.groupby(list(POINT))])
    points = summarise(shared, column.name, by=point)
    winners = points.loc[best_points(points, column.higher_is_better)]
    best = set(winners[list(point)].itertuples(index=False, name=None))
    return best, _differences(shared, points, column, digits)


def _differences(
    rows: "pd.DataFrame", points: "pd.DataFrame", column: Column, digits: int
) -> dict[object, str]:
    """Paired differences from the best scheme of a point, of schemes whose intervals overlap with its own."""
    found: dict[object, str] = {}
    if column.higher_is_better is None:
        return found
    values = rows.groupby([*POINT, "scheme", "item", "seed"])[column.name].mean()
    for key, group in points.groupby(list(POINT)):
        ordered = group.sort_values("mean", ascending=not column.higher_is_better).to_dict("records")
        best, others = ordered[0], ordered[1:]
        for row in others:
            if not (row["low"] <= best["high"] and best["low"] <= row["high"]):  # false for one item
                continue
            pair = (values.loc[(*key, name)] for name in (row["scheme"], best["scheme"]))  # pyright: ignore
            ours, theirs = (series.rename("value") for series in pair)
            joined = ours.to_frame().join(theirs, how="inner", rsuffix="_best").reset_index()
            if joined["item"].nunique() < 2:
                continue
            gap = paired_difference(joined["value"], joined["value_best"], joined["item"])
            if gap.low == gap.high == 0:  # equal in every item, for instance all lost
                continue
            mean, low, high = (f"{v:+.{digits}f}".replace("-", MINUS) for v in (gap.mean, gap.low, gap.high))
            zero = gap.low <= 0 <= gap.high
            mark = "≈" if zero else "Δ"
            found[(*key, row["scheme"])] = f"{mark} {mean} [{low}, {high}]"  # pyright: ignore
    return found


def _share(values: np.ndarray) -> str:
    """Share of records with a decision, of those that have one; empty if none has."""
    there = values[~np.isnan(values)]
    return _rate(float(there.mean())) if len(there) else ""


def _rate(rate: float) -> str:
    """A rate in percent, in which a rare loss is not rounded to none and a rare success not to none."""
    return f"{rate:.0%}" if rate in (0, 1) or 0.01 <= rate <= 0.99 else f"{100 * rate:.2f}%"


def _provenance(run: dict[str, str]) -> str:
    shown = ("command", "commit", "python", "device", "torch", "pillow avif")
    return "Run: " + ", ".join(f"{name} {run[name]}" for name in shown if run.get(name))


def _file_name(*parts: str) -> str:
    return re.sub(r"[^\w.-]+", "_", "-".join(parts))
