"""What a folder of results shows: its table, figures and exhibits, the same for every command."""

import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from semcom.budget import shown_rho
from semcom.columns import Column, Columns
from semcom.errors import InvalidOption, InvalidSource, StoreError, UnknownName
from semcom.exhibits import Exhibit, exhibits_of
from semcom.metrics.catalogue import DEFAULTS, SHIPPED_COLUMNS, column_named
from semcom.modalities import MODALITIES, Item, Modality
from semcom.plots import (
    ARROWS,
    ReferenceLine,
    column_label,
    metric_vs_rho,
    metric_vs_snr,
    perception_distortion,
)
from semcom.report import write_report
from semcom.results import ResultStore
from semcom.statistics import best_points, summarise
from semcom.sweep import file_name, kept_path
from semcom.theory.source_limit import GaussianModel, mean_psnr_db

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

RECORDS = "records.sqlite"
PICTURES = "pictures"
ORIGINALS = "originals"
PERCEPTION = ("swd", "lpips_squeeze", "lpips_alex", "lpips_vgg")
DIGITS = {"psnr_db": 2, "swd": 1, "bleu": 1}
BRIEF = {
    **{"psnr_db": "PSNR dB", "ssim": "SSIM", "ms_ssim": "MS-SSIM", "swd": "SWD", "lpips_squeeze": "LPIPS"},
    **{"wer": "WER", "cer": "CER", "bleu": "BLEU"},
}


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
    return _tabulated(records, names, brief, columns)[0]


def _tabulated(
    records: "pd.DataFrame", names: Sequence[str], brief: bool, columns: Columns
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """The table, and a frame of the same shape that is True at the best mean of every metric at a point."""
    import pandas as pd

    point = ["channel", "rho", "snr_db", "scheme"]
    there = measured(records, names, columns)
    records = _without(records, gaps(records, names, columns))
    cells: dict[str, dict[object, tuple[str, bool]]] = {}
    for name in there:
        if _points(records, name):
            column = column_named(name, columns)
            heading = _brief(column) if brief else column_label(column) + ARROWS[column.higher_is_better]
            cells[heading] = _cells(records, column, point, not brief)
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
        row |= {"outage": f"{group['outage'].mean():.0%}"}
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

    The figures are metrics against SNR (for several SNRs), metrics against rho (for several rho), and the
    perception-distortion plane. Each shows the schemes that have its metrics. `gaps` are logged.

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
    metrics, left_out = measured(records, names, columns), gaps(records, names, columns)
    for gap in left_out:
        logger.warning(gap.sentence)
    records = _without(records, left_out)
    for snr in snr_db:
        if not _chosen(records["snr_db"], (snr,)):
            there = ", ".join(f"{value:g}" for value in sorted(set(records["snr_db"])))
            raise InvalidOption(f"no records with snr_db = {snr:g}; there are {there}")
    drawn: dict[str, Figure] = {}
    for channel in sorted(set(records["channel"])):
        here = records.loc[records["channel"] == channel]
        for metric in metrics:
            for rho, snrs in _grouped(_points(here, metric)).items():
                if len(snrs) > 1:
                    name = _file_name(metric, channel, shown_rho(rho))
                    limits = _limits(models, metric, channel, rho, snrs)
                    drawn[name] = metric_vs_snr(records, metric, rho, channel, limits, columns)
        for metric in metrics:
            ratios = _grouped((snr, rho) for rho, snr in _points(here, metric))
            for snr in _chosen([snr for snr in ratios if len(ratios[snr]) > 1], snr_db):
                name = _file_name(metric, "vs-rho", channel, f"{snr:g}dB")
                drawn[name] = metric_vs_rho(records, metric, snr, channel, columns=columns)
        for metric in PERCEPTION:
            both = _points(here, "psnr_db", metric) if {"psnr_db", metric} <= set(metrics) else set()
            chosen = [(rho, snr) for rho, snrs in _grouped(both).items() for snr in _chosen(snrs, snr_db)]
            for rho, snr in chosen:
                name = _file_name("psnr_db", metric, channel, shown_rho(rho), f"{snr:g}dB")
                lines = _upright(_limits(models, "psnr_db", channel, rho, (snr,)), np.asarray(here[metric]))
                drawn[name] = perception_distortion(
                    records, rho, snr, channel, perception=metric, references=lines, columns=columns
                )
    return drawn


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
    records: "pd.DataFrame", folder: Path, at_most: int = 12, columns: Columns = SHIPPED_COLUMNS
) -> dict[str, tuple[Exhibit, ...]]:
    """Draw what was received beside what was sent, as far as it was kept; another item at each point.

    Args:
        records: Valid records, from `ResultStore.frame`.
        folder: Folder of the results.
        at_most: Number of points of channel, rho and SNR; points are left out evenly.
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
    points: dict[tuple[str, float, float], list[dict[str, Any]]] = {}
    for row in records.to_dict("records"):
        if (row["modality"], row["item"]) in there:
            points.setdefault((row["channel"], row["rho"], row["snr_db"]), []).append(row)
    chosen = sorted(points)
    chosen = [chosen[i * len(chosen) // at_most] for i in range(at_most)] if len(chosen) > at_most else chosen
    drawn: dict[str, tuple[Exhibit, ...]] = {}
    for i, point in enumerate(chosen):
        items = sorted({row["item"] for row in points[point]})
        rows = [row for row in points[point] if row["item"] == items[i % len(items)]]
        found = _exhibits_of_rows(rows, folder, known[rows[0]["modality"]], columns)
        if found:
            channel, rho, snr_db = point
            where = f"{channel}, ρ = {shown_rho(rho)}, SNR {snr_db:g} dB"
            drawn[f"{where}: {rows[0]['item']}"] = found
    return drawn


def _exhibits_of_rows(
    rows: Iterable[Mapping[str, Any]], folder: Path, modality: Modality[Any], columns: Columns
) -> tuple[Exhibit, ...]:
    """Records of one item at one point, of each scheme the first seed."""
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
    return () if original is None else tuple(exhibits_of(original, shown, captions))


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
    return f"{_brief(column)} {value:.{_digits(column, abs(value))}f}"


def report(folder: Path, path: Path, title: str, summary: str = "", notes: Sequence[str] = ()) -> Path:
    """Write the report of a folder of results: table, exhibits, figures, notes, and what its runs ran on.

    Raises:
        StoreError: There are no records in the folder.
        OSError: The report cannot be written.
    """
    with ResultStore(folder / RECORDS, read_only=True) as store:
        records, runs, columns = store.frame(), store.runs(), store.columns()
    path.parent.mkdir(parents=True, exist_ok=True)  # fail now, not after minutes of drawing
    means, best = _tabulated(records, (), False, columns)
    caption = (
        "Means over items and seeds, lost ones included; 95 % bootstrap intervals; bold: best of a point"
    )
    lacking = (gap.sentence for gap in gaps(records, columns=columns))
    return write_report(
        path,
        title,
        tables={caption: means},
        figures=figures(records, columns=columns),
        exhibits=exhibits(records, folder, columns=columns),
        notes=[*notes, *lacking, *dict.fromkeys(map(_provenance, runs))],
        summary=summary,
        best={caption: best},
    )


def _cells(
    records: "pd.DataFrame", column: Column, point: Sequence[str], intervals: bool
) -> dict[object, tuple[str, bool]]:
    """Mean as text, and whether it is the best one, by point and scheme."""
    points = summarise(records.dropna(subset=[column.name]), column.name, by=point)
    digits = _digits(column, float(points["mean"].abs().to_numpy().max()))
    cells: dict[object, tuple[str, bool]] = {}
    best = best_points(points, column.higher_is_better)
    for row, is_best in zip(points.to_dict("records"), best, strict=True):
        mean, low, high = (f"{row[name]:.{digits}f}" for name in ("mean", "low", "high"))
        shown = intervals and row["items"] > 1
        text = f"{mean} [{low}, {high}]" if shown else mean
        cells[tuple(row[name] for name in point)] = text, bool(is_best)
    return cells


def _digits(column: Column, largest: float) -> int:
    """Number of decimals: the metric's usual one, else four significant digits for the largest mean."""
    if column.name in DIGITS:
        return DIGITS[column.name]
    if column.name in SHIPPED_COLUMNS or largest == 0:
        return 3
    return max(0, 3 - math.floor(math.log10(largest)))


def _brief(column: Column) -> str:
    return BRIEF.get(column.name, f"{column.name} {column.unit}".strip())


def _provenance(run: dict[str, str]) -> str:
    shown = ("command", "commit", "python", "device", "torch", "pillow avif")
    return "Run: " + ", ".join(f"{name} {run[name]}" for name in shown if run.get(name))


def _file_name(*parts: str) -> str:
    return re.sub(r"[^\w.-]+", "_", "-".join(parts))
