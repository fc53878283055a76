"""Figures made from records. Functions return figures; they save nothing and change no global state."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from semcom.budget import parse_rho, shown_rho
from semcom.columns import Column, Columns
from semcom.errors import InvalidOption
from semcom.kinds import Family, kinds_of
from semcom.metrics.catalogue import SHIPPED_COLUMNS, column_named
from semcom.statistics import require_columns, summarise
from semcom.theory.perception_distortion import interpolated_frontier

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {  # axis labels of known columns; other columns are labelled by their name
    "psnr_db": "PSNR",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "swd": "Sliced Wasserstein (×1000)",
    "lpips_squeeze": "LPIPS (SqueezeNet)",
    "lpips_alex": "LPIPS (AlexNet)",
    "lpips_vgg": "LPIPS (VGG-16)",
    "grid": "Autocorrelation at 16 pixels",
    "vmaf": "VMAF",
    "vmaf_neg": "VMAF-NEG",
    "cvvdp": "ColorVideoVDP",
    "warp_error": "Warp error",
    "warp_error_gap": "Gap of the warp error to the original's",
    "clip_feature_distance": "Distance of clip features (×1000)",
    "mse": "Squared error per value",
    "w2": "Wasserstein distance W2, root per value",
    "wer": "Word error rate",
    "cer": "Character error rate",
    "bleu": "BLEU",
    "chrf": "chrF",
    "minilm_cosine": "Cosine of MiniLM embeddings",
}
ARROWS = {True: " ↑", False: " ↓", None: ""}
DIRECTIONS = {True: ", higher is better", False: ", lower is better", None: ""}

# Palette of Okabe and Ito, safe for colour-blind readers, then three more colours; markers differ, too.
COLORS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
    *("#7A4FBF", "#8C564B", "#7F7F7F"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
DASHES: dict[Family, tuple[float, ...]] = {
    "digital": (),
    "analog": (6.0, 2.0),
    "hybrid": (6.0, 2.0, 1.5, 2.0),
    "generative receiver": (1.5, 1.5),
    "bound": (12.0, 3.0),
    "other": (4.0, 1.5, 1.0, 1.5, 1.0, 1.5),
}
GRID, INK = "#D9DDE3", "#22262B"
FIGURE_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": "#8A9099",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "legend.frameon": False,
    "figure.dpi": 120,
}
WIDTH, HEIGHT = 8.2, 5.0  # inches


def column_label(column: Column) -> str:
    """Axis label of a metric: its name and unit.

    Args:
        column: Column of the metric.

    Returns:
        Label such as "PSNR (dB)"; the column name for metrics that this package does not know.

    Example:
        >>> column_label(Column("psnr_db", "dB", True)), column_label(Column("sharpness", "lines/mm"))
        ('PSNR (dB)', 'sharpness (lines/mm)')
    """
    name = LABELS.get(column.name, column.name)
    return f"{name} ({column.unit})" if column.unit else name


@dataclass(frozen=True, slots=True)
class ReferenceLine:
    """A computed reference curve, such as the performance of the same codec over an ideal code at capacity.

    Args:
        label: Text in the legend.
        x: SNR in dB, or bandwidth ratio rho, depending on the figure.
        y: Values of the metric, in its unit.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, slots=True)
class KnobCurve:
    """One receiver at several settings of its distortion-realism knob, connected by a line in one style.

    Args:
        label: Text in the legend.
        schemes: Names of schemes in the records, in the order of the settings.
        settings: Texts beside the points, one per scheme.
    """

    label: str
    schemes: tuple[str, ...]
    settings: tuple[str, ...]


RECEIVER = re.compile(r"(?P<base>.+)\+(?P<method>[a-z]+:\d+)(:(?P<knob>[\d.]+)(:(?P<samples>\d+))?)?")


def knob_curves(schemes: Iterable[str]) -> list[KnobCurve]:
    """Group schemes that differ only in the knob or the number of samples of their receiver.

    Args:
        schemes: Names of schemes; those such as "deepjscc+ddrm:8:0.5" (method, steps, knob, samples) are
            grouped.

    Returns:
        One curve per receiver, from the item without receiver over the posterior mean to a posterior sample.
    """
    there = sorted(set(schemes))
    families: dict[str, list[tuple[float, str, str]]] = {}
    for name in there:
        spelled = RECEIVER.fullmatch(name)
        if spelled is None:
            continue
        knob, samples = float(spelled["knob"] or 1), int(spelled["samples"] or 1)
        start, receiver = spelled["base"], f"{spelled['base']}+{spelled['method']}"
        of_knob = f"{receiver}, {samples} samples, knob" if samples > 1 else f"{receiver}, knob"
        decoded = [(0.0, start, "")] if start in there else []
        families.setdefault(of_knob, decoded).append((knob, name, f"{knob:g}"))
        if knob == 1:
            of_samples = families.setdefault(f"{receiver}, samples averaged", [])
            of_samples.append((float(samples), name, str(samples)))
    curves = []
    for label, family in families.items():
        values, names, settings = zip(*sorted(family), strict=True)
        if len(names) > 1:
            curves.append(KnobCurve(f"{label} {values[0]:g} to {values[-1]:g}", names, settings))
    return curves


@dataclass(frozen=True, slots=True)
class SchemeStyle:
    """Colour, marker and dashes of a scheme, equal in all figures of one set of records.

    Args:
        color: Colour in a notation of matplotlib.
        marker: Marker of matplotlib.
        dashes: Lengths of dashes and gaps in points; empty for a solid line.
    """

    color: str
    marker: str
    dashes: tuple[float, ...]


def scheme_styles(records: "pd.DataFrame") -> dict[str, SchemeStyle]:
    """Assign a style to each scheme, from all names in the records, so that figures of subsets agree.

    Colour and marker go by scheme, dashes by family: digital schemes have solid lines.

    Args:
        records: Records, one per row.

    Returns:
        Styles by name of the scheme.
    """
    return {
        name: SchemeStyle(COLORS[i % 10], MARKERS[(i + i // 10) % 10], DASHES[kind.family])
        for i, (name, kind) in enumerate(kinds_of(records).items())
    }


def metric_vs_snr(
    records: "pd.DataFrame",
    metric: str,
    rho: float | str | Fraction,
    channel: str,
    references: Sequence[ReferenceLine] = (),
    columns: Columns = SHIPPED_COLUMNS,
) -> "Figure":
    """Draw a metric against SNR at one bandwidth ratio: means over items with 95 % bootstrap bands.

    Open markers mean that items were lost; a second panel then shows the outage rate with its Wilson
    interval. Where most items were lost and the mean is far from all others, the axis leaves it out, and a
    triangle at its edge stands for it. If a scheme spends less than 99 % of the allowed channel uses, the
    legend says so. A scheme without the metric is left out.

    Args:
        records: Records, one per row; see `semcom.results.Record`.
        metric: Column of the metric.
        rho: Allowed bandwidth ratio in channel uses per source dimension.
        channel: Canonical name of the channel.
        references: Computed curves to add.
        columns: Unit and direction of metrics, such as `ResultStore.columns()`.

    Returns:
        The figure.

    Raises:
        UnknownName: There is no such column.
        InvalidOption: There are no records at that rho and channel, or none with the metric.
    """
    ratio = parse_rho(rho)
    chosen = _with_metrics(_select(records, metric, channel=channel, rho=float(ratio)), metric)
    with _style():
        figure, axes, lower = _panels(chosen)
        drawn: list[tuple[pd.DataFrame, str, SchemeStyle]] = []
        for name, style in _present(records, chosen):
            curve = summarise(chosen.loc[chosen["scheme"] == name], metric).sort_values("snr_db")
            drawn.append((curve, "snr_db", style))
            share = float(np.mean(curve["rho_used"])) / float(ratio) if "rho_used" in curve else 1.0
            label = (
                name if share > 0.99 else f"{name}  ({share:.0%} of k)"
            )  # rounding down to whole symbols is not worth mentioning
            _draw_curve(axes, lower, curve, "snr_db", label, style, _alpha(chosen))
        _draw_references(axes, references)
        cut = _keep_in_view(axes, drawn)
        bottom = lower or axes
        measured = sorted(set(chosen["snr_db"]))
        if len(measured) <= 15:
            bottom.set_xticks(measured, [f"{snr:g}" for snr in measured])
        bottom.set_xlabel("SNR, average received Es/N0 (dB)")
        where = f"{channel}, ρ = {shown_rho(ratio)}"
        _finish(figure, axes, chosen, column_named(metric, columns), where, cut=cut)
        return figure


def metric_vs_rho(
    records: "pd.DataFrame",
    metric: str,
    snr_db: float,
    channel: str,
    references: Sequence[ReferenceLine] = (),
    columns: Columns = SHIPPED_COLUMNS,
) -> "Figure":
    """Draw a metric against the bandwidth ratio at one SNR; each point lies at the rho that was spent.

    The abscissa of a point is the mean over items that were sent, or the allowed rho if none was sent. Ticks
    of the logarithmic axis are the allowed ratios. Bands, markers and outage panel are as in `metric_vs_snr`.

    Args:
        records: Records, one per row; see `semcom.results.Record`.
        metric: Column of the metric.
        snr_db: Average received Es/N0 in dB.
        channel: Canonical name of the channel.
        references: Computed curves to add.
        columns: Unit and direction of metrics, such as `ResultStore.columns()`.

    Returns:
        The figure.

    Raises:
        UnknownName: There is no such column.
        InvalidOption: There are no records at that SNR and channel, or none with the metric.
    """
    chosen = _with_metrics(_select(records, metric, channel=channel, snr_db=snr_db), metric)
    with _style():
        figure, axes, lower = _panels(chosen)
        drawn: list[tuple[pd.DataFrame, str, SchemeStyle]] = []
        for name, style in _present(records, chosen):
            rows = chosen.loc[chosen["scheme"] == name]
            curve = summarise(rows, metric).sort_values("rho")
            drawn.append((curve.assign(x=_rho_sent(rows, metric, curve)), "x", style))
            _draw_curve(axes, lower, drawn[-1][0], "x", name, style, _alpha(chosen))
        _draw_references(axes, references)
        cut = _keep_in_view(axes, drawn)
        bottom = lower or axes
        bottom.set_xscale("log")
        allowed = sorted(set(chosen["rho"]))
        bottom.set_xticks(allowed, [shown_rho(r) for r in allowed])
        bottom.set_xticks([], minor=True)
        bottom.set_xlabel("ρ used, complex channel uses per source value; ticks: allowed")
        where = f"{channel}, SNR {snr_db:g} dB"
        _finish(figure, axes, chosen, column_named(metric, columns), where, cut=cut)
        return figure


def metric_of_schemes(
    records: "pd.DataFrame",
    metric: str,
    rho: float | str | Fraction,
    snr_db: float,
    channel: str,
    columns: Columns = SHIPPED_COLUMNS,
) -> "Figure":
    """Draw a metric at a single operating point: one row per scheme, best first, with 95 % intervals.

    Rows of schemes that lost items are open and say how many. Where most items were lost and the mean is far
    from all others, the axis leaves it out, and a triangle at its edge stands for it. A scheme without the
    metric is left out.

    Args:
        records: Records, one per row; see `semcom.results.Record`.
        metric: Column of the metric.
        rho: Allowed bandwidth ratio in channel uses per source dimension.
        snr_db: Average received Es/N0 in dB.
        channel: Canonical name of the channel.
        columns: Unit and direction of metrics, such as `ResultStore.columns()`.

    Returns:
        The figure.

    Raises:
        UnknownName: There is no such column.
        InvalidOption: There are no records at that point, or none with the metric.
    """
    from matplotlib.figure import Figure

    ratio, column = parse_rho(rho), column_named(metric, columns)
    chosen = _select(records, metric, channel=channel, rho=float(ratio), snr_db=snr_db)
    chosen = _with_metrics(chosen, metric)
    means = summarise(chosen, metric).sort_values("mean", ascending=column.higher_is_better is False)
    styles = scheme_styles(records)
    with _style():
        figure = Figure(figsize=(WIDTH, 1.7 + 0.42 * len(means)), layout="constrained")
        axes = figure.subplots()
        for height, row in enumerate(means.to_dict("records")):
            style, lost = styles[row["scheme"]], float(row.get("outage", 0.0))
            axes.errorbar(
                row["mean"],
                height,
                xerr=_arms(row),
                color=style.color,
                marker=style.marker,
                markerfacecolor="white" if lost else style.color,
                markersize=8,
                markeredgewidth=1.6,
                elinewidth=2,
            )
        names = [
            f"{row['scheme']}{_lost_of(float(row.get('outage', 0.0)))}" for row in means.to_dict("records")
        ]
        drawn = [
            (means.iloc[[height]].assign(x=height), "x", styles[name])
            for height, name in enumerate(means["scheme"])
        ]
        cut = _keep_in_view(axes, drawn, upright=False)
        axes.set_yticks(range(len(means)), names)
        axes.set_ylim(len(means) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        _finish(
            figure, axes, chosen, column, f"{channel}, ρ = {shown_rho(ratio)}, SNR {snr_db:g} dB", cut=cut
        )
        axes.set_xlabel(axes.get_ylabel())
        axes.set_ylabel("")
        return figure


def _lost_of(outage: float) -> str:
    return f"  ({outage:.0%} lost)" if outage else ""


def perception_distortion(
    records: "pd.DataFrame",
    rho: float | str | Fraction,
    snr_db: float,
    channel: str,
    distortion: str = "psnr_db",
    perception: str = "swd",
    *,
    curves: Sequence[KnobCurve] = (),
    references: Sequence[ReferenceLine] = (),
    frontier: bool = False,
    columns: Columns = SHIPPED_COLUMNS,
) -> "Figure":
    """Draw the perception-distortion plane at one operating point, with 95 % intervals of both means.

    Open markers mean outages, whose rate is written beside the name. An arrow points to the better corner. A
    scheme that lacks one of the two metrics is left out.

    Args:
        records: Records, one per row; see `semcom.results.Record`.
        rho: Allowed bandwidth ratio in channel uses per source dimension.
        snr_db: Average received Es/N0 in dB.
        channel: Canonical name of the channel.
        distortion: Column of the horizontal axis.
        perception: Column of the vertical axis.
        curves: Schemes to connect by lines; schemes that are not in the records are skipped.
        references: Computed curves to add.
        frontier: Whether to draw a line through the schemes of `frontier_schemes`.
        columns: Unit and direction of metrics, such as `ResultStore.columns()`.

    Returns:
        The figure.

    Raises:
        UnknownName: There is no such column.
        InvalidOption: There are no records at that point, no scheme has both metrics, or a frontier is asked
            for and the direction of a metric is unknown.

    Reference:
        Blau and Michaeli, The perception-distortion tradeoff, CVPR 2018.
    """
    ratio = parse_rho(rho)
    chosen = _select(records, distortion, channel=channel, rho=float(ratio), snr_db=snr_db)
    chosen = _with_metrics(chosen, distortion, perception)
    across, up = column_named(distortion, columns), column_named(perception, columns)
    with _style():
        figure, axes = _figure()
        points: dict[str, tuple[float, float]] = {}
        styles = dict(_present(records, chosen))
        on_curve: dict[str, tuple[SchemeStyle, str]] = {}
        for curve in curves:
            members = dict(zip(curve.schemes, curve.settings, strict=True))
            there = [name for name in members if name in styles]
            on_curve |= {name: (styles[there[-1]], members[name]) for name in there if members[name]}
        for name, own in styles.items():
            rows = chosen.loc[chosen["scheme"] == name]
            x, y = summarise(rows, distortion).iloc[0], summarise(rows, perception).iloc[0]
            points[name] = float(x["mean"]), float(y["mean"])
            style, setting = on_curve.get(name, (own, ""))
            lost = float(x.get("outage", 0.0))
            label = name if lost == 0 else f"{name}  (outage {lost:.0%})"
            axes.errorbar(
                x["mean"],
                y["mean"],
                xerr=_arms(x),
                yerr=_arms(y),
                color=style.color,
                marker=style.marker,
                markerfacecolor="white" if lost > 0 else style.color,
                markersize=8,
                markeredgewidth=1.6,
                linewidth=0,
                elinewidth=1.2,
                label=None if setting else label,
            )
            if setting:
                axes.annotate(
                    setting,
                    points[name],
                    (7, 6),
                    textcoords="offset points",
                    fontsize=8.5,
                    color=style.color,
                )
        for curve in curves:
            there = [name for name in curve.schemes if name in points]
            if there:
                style = styles[there[-1]]
                line = np.array([points[name] for name in there])
                axes.plot(*line.T, color=style.color, marker=style.marker, linewidth=1.2, label=curve.label)
        _draw_references(axes, references)
        if frontier:
            best = np.array([points[name] for name in _on_frontier(points, across, up)])
            axes.plot(*best.T, color=INK, linewidth=5, alpha=0.15, zorder=1, label="interpolated frontier")
        axes.margins(0.12)
        axes.set_xlabel(column_label(across) + DIRECTIONS[across.higher_is_better])
        _point_to_better(axes, across.higher_is_better, up.higher_is_better)
        title = f"Perception and distortion: {channel}, ρ = {shown_rho(ratio)}, SNR {snr_db:g} dB"
        _finish(figure, axes, chosen, up, title, whole_title=True)
        return figure


@dataclass(frozen=True, slots=True)
class ComputedCurve:
    """A theoretical curve at discrete points, such as the function R(D, P) at one perception P.

    Args:
        label: Text in the legend.
        x: Abscissae.
        y: Ordinates.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]


def computed_curves(
    title: str,
    labels: tuple[str, str],
    curves: Sequence[ComputedCurve],
    references: Sequence[ReferenceLine] = (),
) -> "Figure":
    """Draw numerical results as points over curves of closed forms.

    Args:
        title: Text above the figure.
        labels: Labels of the horizontal and the vertical axis.
        curves: Numerical results; their points are connected.
        references: Closed forms.

    Returns:
        The figure.
    """
    with _style():
        figure, axes = _figure()
        for i, curve in enumerate(curves):
            style = {"color": COLORS[i % len(COLORS)], "marker": MARKERS[i % len(MARKERS)]}
            axes.plot(curve.x, curve.y, label=curve.label, markersize=4, linewidth=1.2, **style)
        _draw_references(axes, references)
        axes.set_title(title)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.legend(fontsize=9)
        return figure


def region_map(
    title: str,
    distortion: Sequence[float],
    perception: Sequence[float],
    regions: np.ndarray,
    borders: Sequence[ReferenceLine] = (),
) -> "Figure":
    """Draw the (D, P) plane with regions of active constraints, and closed forms of their borders.

    Args:
        title: Text above the figure.
        distortion: Distortion D of each column, increasing.
        perception: Perception P of each row, increasing.
        regions: Region of each cell, [perceptions, distortions], as from `semcom.theory.rdp.regions`.
        borders: Closed forms of P against D.

    Returns:
        The figure.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    names = ("R(D, P) = R(D)", "both constraints bind", "rate 0")
    shades = ("#CFE3F3", "#F6D9C4", "#E4E7EB")
    with _style():
        figure, axes = _figure()
        axes.pcolormesh(
            distortion,
            perception,
            regions,
            cmap=ListedColormap(shades),
            vmin=-0.5,
            vmax=2.5,
            shading="nearest",
            rasterized=True,  # one vector path per cell would make files of megabytes
        )
        _draw_references(axes, borders)
        axes.set_xlim(min(distortion), max(distortion))
        axes.set_ylim(min(perception), max(perception))
        axes.set_title(title)
        axes.set_xlabel("Distortion D")
        axes.set_ylabel("Perception P")
        patches = [Patch(color=shade, label=name) for shade, name in zip(shades, names, strict=True)]
        lines = axes.get_legend_handles_labels()[0]
        figure.legend(handles=[*patches, *lines], loc="outside lower left", ncols=3, fontsize=9)
        return figure


def frontier_schemes(
    records: "pd.DataFrame",
    rho: float | str | Fraction,
    snr_db: float,
    channel: str,
    distortion: str = "psnr_db",
    perception: str = "swd",
    columns: Columns = SHIPPED_COLUMNS,
) -> list[str]:
    """Find the schemes on the perception-distortion frontier, which no mixture of others beats in both means.

    A mixture shows the reconstruction of one scheme for a share of the items and that of another scheme for
    the rest. Its means lie on the straight line between the two schemes.

    Args:
        records: Records, one per row.
        rho: Allowed bandwidth ratio in channel uses per source dimension.
        snr_db: Average received Es/N0 in dB.
        channel: Canonical name of the channel.
        distortion: Column of the distortion metric.
        perception: Column of the perception metric.
        columns: Unit and direction of metrics, such as `ResultStore.columns()`.

    Returns:
        Names of schemes, from the best distortion to the best perception.

    Raises:
        UnknownName: There is no such column.
        InvalidOption: There are no records at that point, no scheme has both metrics, or the direction of a
            metric is unknown.
    """
    chosen = _select(records, distortion, channel=channel, rho=float(parse_rho(rho)), snr_db=snr_db)
    chosen = _with_metrics(chosen, distortion, perception)
    across, up = (
        summarise(chosen, metric).set_index("scheme")["mean"].to_dict() for metric in (distortion, perception)
    )
    points = {str(name): (float(across[name]), float(up[name])) for name in across}
    return _on_frontier(points, column_named(distortion, columns), column_named(perception, columns))


def _on_frontier(points: dict[str, tuple[float, float]], distortion: Column, perception: Column) -> list[str]:
    signs = []
    for column in (distortion, perception):
        if column.higher_is_better is None:
            raise InvalidOption(f"a frontier of {column.name}: neither more nor less of it is better")
        signs.append(-1.0 if column.higher_is_better else 1.0)
    names = list(points)
    costs = np.array([points[name] for name in names]) * signs
    return [names[i] for i in interpolated_frontier(costs[:, 0], costs[:, 1])]


def figure_bytes(figure: "Figure", kind: Literal["svg", "png", "pdf"]) -> bytes:
    """Render a figure; equal records give equal bytes, and SVG has no background.

    Args:
        figure: The figure.
        kind: File format: "svg", "png" or "pdf".

    Returns:
        Content of the file.
    """
    import matplotlib

    buffer = BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "semcom"}):
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[kind]
        figure.savefig(buffer, format=kind, dpi=160, transparent=kind == "svg", metadata=metadata)
    return buffer.getvalue()


def _select(records: "pd.DataFrame", metric: str, **point: float | str) -> "pd.DataFrame":
    """Rows of records at one operating point."""
    require_columns(records, (metric, "scheme", "item", *point))
    chosen = records
    for column, value in point.items():
        values = chosen[column].to_numpy()
        hits = values == value if isinstance(value, str) else np.isclose(values, value, rtol=1e-4, atol=1e-9)
        if not hits.any():
            there = sorted(set(values))
            shown = ", ".join(shown_rho(v) if column == "rho" else str(v) for v in there[:12])
            wanted = shown_rho(value) if column == "rho" else value
            raise InvalidOption(f"no records with {column} = {wanted}; there are {shown or 'none at all'}")
        chosen = chosen.loc[hits]
    return chosen


def _rho_sent(rows: "pd.DataFrame", metric: str, curve: "pd.DataFrame") -> list[float]:
    """Mean rho of what was sent at each point of a curve, or the allowed rho where nothing was sent."""
    allowed = [float(rho) for rho in curve["rho"]]
    if "rho_used" not in rows:
        return allowed
    sent = rows.loc[rows[metric].notna() & (rows["rho_used"] > 0)]
    used = sent.groupby("rho")["rho_used"].mean().to_dict()
    return [float(used.get(rho, rho)) for rho in allowed]


def _with_metrics(chosen: "pd.DataFrame", *metrics: str) -> "pd.DataFrame":
    """Rows of schemes that have all of the metrics, at least for some items."""
    require_columns(chosen, metrics)
    there = set.intersection(*(set(chosen.loc[chosen[name].notna(), "scheme"]) for name in metrics))
    if not there:
        raise InvalidOption(
            f"no scheme has {' and '.join(metrics)} there; measure it, or draw another metric"
        )
    return chosen.loc[chosen["scheme"].isin(list(there))]


def _present(records: "pd.DataFrame", chosen: "pd.DataFrame") -> list[tuple[str, SchemeStyle]]:
    there = set(chosen["scheme"])
    return [(name, style) for name, style in scheme_styles(records).items() if name in there]


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(FIGURE_STYLE):
        yield


def _figure(rows: int = 1) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT + (0.9 if rows == 2 else 0)), layout="constrained")
    if rows == 1:
        return figure, figure.subplots()
    return figure, figure.subplots(2, 1, sharex=True, height_ratios=(4.2, 1))


def _panels(chosen: "pd.DataFrame") -> "tuple[Figure, Axes, Axes | None]":
    """One panel, and one for the outage rate if there were outages."""
    if not _had_outages(chosen):
        figure, axes = _figure()
        return figure, axes, None
    figure, (axes, lower) = _figure(rows=2)
    lower.set_ylabel("Outage")
    lower.set_ylim(-0.06, 1.06)
    lower.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    return figure, axes, lower


def _alpha(chosen: "pd.DataFrame") -> float:
    """Opacity of bands: many of them would hide the lines."""
    return 0.14 if chosen["scheme"].nunique() <= 4 else 0.07


def _had_outages(chosen: "pd.DataFrame") -> bool:
    return "outage" in chosen and bool(np.any(chosen["outage"].to_numpy()))


def _draw_curve(
    axes: "Axes",
    lower: "Axes | None",
    curve: "pd.DataFrame",
    x: str,
    label: str,
    style: SchemeStyle,
    alpha: float,
) -> None:
    line: dict[str, Any] = (
        {"color": style.color, "dashes": style.dashes} if style.dashes else {"color": style.color}
    )
    axes.plot(curve[x], curve["mean"], label=label, marker=style.marker, **line)
    axes.fill_between(curve[x], curve["low"], curve["high"], color=style.color, alpha=alpha, linewidth=0)
    if "outage" not in curve:
        return
    lost = curve.loc[curve["outage"] > 0]
    axes.plot(
        lost[x],
        lost["mean"],
        linewidth=0,
        marker=style.marker,
        color=style.color,
        markerfacecolor="white",
        markeredgewidth=1.6,
    )
    if lower is not None and len(lost):
        arms = [
            np.clip(curve["outage"] - curve["outage_low"], 0, None),
            np.clip(curve["outage_high"] - curve["outage"], 0, None),
        ]
        lower.errorbar(
            curve[x], curve["outage"], yerr=arms, marker=style.marker, markersize=4, elinewidth=1, **line
        )


MOSTLY_LOST = 0.5
FAR = 0.1
"""Share of the axis beyond which the mean of a point that lost most of its items is not drawn to scale."""


def _keep_in_view(
    axes: "Axes", drawn: "Sequence[tuple[pd.DataFrame, str, SchemeStyle]]", *, upright: bool = True
) -> str:
    """Limit the axis of the metric to points that arrived; those far outside become triangles at its edge.

    Returns a remark for readers, empty if all points are inside.
    """
    from matplotlib.transforms import offset_copy

    seen = [
        (float(row[x]), row, float(row.get("outage", 0.0)) > MOSTLY_LOST, style)
        for curve, x, style in drawn
        for row in curve.to_dict("records")
    ]
    ends = ("mean", "low", "high")
    arrived = [
        row[name]
        for _, row, lost, _ in seen
        for name in (ends if row.get("outage", 0.0) == 0 else ends[:1])
        if not lost and math.isfinite(row[name])
    ]
    if not arrived or min(arrived) == max(arrived):  # no scale of which a point could be far outside
        return ""
    low, high = min(arrived), max(arrived)
    span = high - low
    near, far = [low, high], []
    for place, row, lost, style in seen:
        outside = lost and not low - FAR * span <= row["mean"] <= high + FAR * span
        far += [(place, row["mean"], style)] if outside else []
        near += [] if outside else [row["mean"]]
    if not far:
        return ""
    low, high = min(near) - 0.05 * span, max(near) + 0.05 * span
    (axes.set_ylim if upright else axes.set_xlim)(low, high)
    ranks: dict[float, int] = {}
    for place, mean, style in far:
        rank = ranks[place] = ranks.get(place, -1) + 1  # side by side, not on top of each other
        aside = offset_copy(axes.transData, axes.get_figure(root=True), x=8 * rank * upright, units="points")
        edge, marker = (low, "v" if upright else "<") if mean < low else (high, "^" if upright else ">")
        point = (place, edge) if upright else (edge, place)
        axes.plot(
            *([value] for value in point),
            marker=marker,
            color=style.color,
            markerfacecolor="white",
            markeredgewidth=1.6,
            markersize=9,
            linewidth=0,
            clip_on=False,
            zorder=5,
            transform=aside,
        )
    values = sorted({f"{mean:.3g}" for _, mean, _ in far}, key=float)
    shown = values[0] if len(values) == 1 else f"{values[0]} to {values[-1]}"
    return f"triangles at the edge: mostly lost, mean off the axis ({shown})"


def _draw_references(axes: "Axes", references: Sequence[ReferenceLine]) -> None:
    for i, reference in enumerate(references):
        dashes = ((4, 3), (1.5, 2), (7, 2, 1.5, 2))[i % 3]
        axes.plot(
            reference.x, reference.y, color="#5B626B", linewidth=1.4, dashes=dashes, label=reference.label
        )


def _finish(
    figure: "Figure",
    axes: "Axes",
    chosen: "pd.DataFrame",
    column: Column,
    title: str,
    *,
    whole_title: bool = False,
    cut: str = "",
) -> None:
    axes.set_ylabel(column_label(column) + DIRECTIONS[column.higher_is_better])
    name = LABELS.get(column.name, column.name).split(" (")[0]
    axes.set_title(title if whole_title else f"{name}: {title}", pad=22)
    items = chosen["item"].nunique()
    seeds = chosen["seed"].nunique() if "seed" in chosen else 1
    text = f"mean over {items} item{'s' * (items > 1)}"
    text += f" × {seeds} noise seeds" if seeds > 1 else ""
    text += ", 95 % bootstrap interval over items" if items > 1 else ""
    if _had_outages(chosen):
        text += "; open markers: outages"
    text += f"\n{cut}" if cut else ""
    if cut:
        axes.set_title(axes.get_title(loc="left"), pad=40)
    axes.annotate(
        text,
        (0, 1),
        (0, 12 if cut else 6),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=8.5,
        color="#5B626B",
    )
    handles, labels = axes.get_legend_handles_labels()
    if not labels:
        return
    letters = max(map(len, labels)) + 9  # width of one column with its line; about 110 letters fit
    columns = max(1, min(4, len(labels), 110 // letters))
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, handlelength=2.4, fontsize=9)


def _point_to_better(axes: "Axes", x_up: bool | None, y_up: bool | None) -> None:
    if x_up is None or y_up is None:
        return
    arrow = {(True, True): "↗", (True, False): "↘", (False, True): "↖", (False, False): "↙"}[x_up, y_up]
    axes.annotate(
        f"better {arrow}",
        (1, 1),
        (0, 22),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        color="#5B626B",
    )


def _arms(point: Any) -> list[list[float]] | None:
    if math.isnan(point["low"]):
        return None
    return [[max(0.0, point["mean"] - point["low"])], [max(0.0, point["high"] - point["mean"])]]
