"""Map of winners: over SNR and rho, which scheme is best, and by how much over the best of another family."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from semcom.budget import shown_rho
from semcom.columns import Column, Columns
from semcom.errors import InvalidOption
from semcom.kinds import KNOWLEDGE, Family, kinds_of
from semcom.metrics.catalogue import SHIPPED_COLUMNS, column_named
from semcom.plots import FIGURE_STYLE, INK, LABELS, SchemeStyle, scheme_styles
from semcom.winners import Standing, facets, standings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL = (1.12, 0.62)  # inches
WIDEST = 11.0  # inches; cells of larger grids are narrower, and say less
SHORT = {"generative receiver": "generative", "other": "other family"}
MISSING, LOST = "#FFFFFF", "#C9CED6"
HATCH = "////"


def winner_map(
    records: "pd.DataFrame",
    metric: str,
    channel: str,
    columns: Columns = SHIPPED_COLUMNS,
) -> "Figure":
    """Draw which scheme is best at each SNR and rho, on one channel and in one metric.

    A cell has the colour of the best scheme, its family, and its lead over the best scheme of another family,
    in the unit of the metric and positive. Cells are hatched where the paired 95 % interval of the lead over
    items holds zero, and for a single item. Schemes whose transmitters know different things of the channel
    have panels of their own. Bounds take no part. Cells that were not measured are crossed out.

    Args:
        records: Records, one per row; see `semcom.results.Record`.
        metric: Column of the metric.
        channel: Canonical name of the channel.
        columns: Unit and direction of metrics, such as `ResultStore.columns()`.

    Returns:
        The figure.

    Raises:
        UnknownName: There is no such column.
        InvalidOption: There are no records of that channel, none with the metric, or the direction of the
            metric is unknown.
    """
    import matplotlib
    from matplotlib.figure import Figure

    column = column_named(metric, columns)
    if column.higher_is_better is None:
        raise InvalidOption(f"a map of winners in {metric}: neither more nor less of it is better")
    kinds, styles = kinds_of(records), scheme_styles(records)
    here = records.loc[records["channel"] == channel]
    panels = {csit: standings(here, column, csit, kinds) for csit in facets(here, kinds)}
    panels = {csit: found for csit, found in panels.items() if found}
    if not panels:
        raise InvalidOption(f"no scheme has {metric} on {channel}; measure it, or draw another metric")
    snrs, rhos = sorted(set(here["snr_db"])), sorted(set(here["rho"]), reverse=True)
    width = min(CELL[0], (WIDEST / len(panels) - 1) / len(snrs))
    with matplotlib.rc_context({**FIGURE_STYLE, "axes.grid": False, "hatch.linewidth": 0.8}):
        size = (max(6.4, len(panels) * (width * len(snrs) + 1)), 2.5 + CELL[1] * len(rhos))
        figure = Figure(figsize=size, layout="constrained")
        row: Any = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (csit, found) in zip(row, panels.items(), strict=True):
            _draw_panel(
                axes, found, snrs, rhos, column, styles, {n: k.family for n, k in kinds.items()}, width
            )
            said = KNOWLEDGE[csit][0].upper() + KNOWLEDGE[csit][1:]
            alone = all(standing.rival is None for standing in found)
            said += ": one family only, no lead" if alone else ""
            axes.set_title(said, fontsize=10, fontweight="normal")
        row[0].set_ylabel("ρ, channel uses per source value")
        name = LABELS.get(metric, metric).split(" (")[0]
        figure.suptitle(_title(name, channel), x=0.01, ha="left", fontsize=11.5, fontweight="bold")
        _legend(figure, panels.values(), styles, column)
        return figure


def _title(metric: str, channel: str) -> str:
    return f"Who wins in {metric} on {channel}"


def _draw_panel(
    axes: "Axes",
    found: Sequence[Standing],
    snrs: Sequence[float],
    rhos: Sequence[float],
    column: Column,
    styles: dict[str, SchemeStyle],
    families: dict[str, Family],
    width: float,
) -> None:
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    cells = {(standing.rho, standing.snr_db): standing for standing in found}
    digits = _decimals(found, column)
    for y, rho in enumerate(rhos):
        for x, snr in enumerate(snrs):
            standing = cells.get((rho, snr))
            words, color, hatch = _cell(standing, column, styles, families, digits)
            shade = color if standing is None or standing.all_lost else to_rgba(color, 0.55)
            box = Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=shade, edgecolor="white", linewidth=2)
            axes.add_patch(box)
            if hatch:
                lines = Rectangle(
                    (x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=0, hatch=hatch
                )
                lines.set_alpha(0.45)
                axes.add_patch(lines)
            if standing is None:
                axes.plot([x - 0.3, x + 0.3], [y - 0.3, y + 0.3], color=LOST, linewidth=1)
                axes.plot([x - 0.3, x + 0.3], [y + 0.3, y - 0.3], color=LOST, linewidth=1)
            text = words if width >= 0.8 else words.rpartition("\n")[2]
            back = {"facecolor": "white", "alpha": 0.72, "linewidth": 0, "pad": 1.5}
            size = 8.5 if width >= 0.8 else max(5.0, 8.5 * width / 0.62)
            if text and width >= 0.3:
                axes.text(x, y, text, ha="center", va="center", fontsize=size, color=INK, bbox=back)
    axes.set_xlim(-0.5, len(snrs) - 0.5)
    axes.set_ylim(len(rhos) - 0.5, -0.5)
    axes.set_xticks(range(len(snrs)), [f"{snr:g}" for snr in snrs])
    axes.set_yticks(range(len(rhos)), [shown_rho(rho) for rho in rhos])
    axes.tick_params(length=0)
    axes.set_xlabel("SNR, average received Es/N0 (dB)")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _cell(
    standing: Standing | None,
    column: Column,
    styles: dict[str, SchemeStyle],
    families: dict[str, Family],
    digits: int,
) -> tuple[str, str, str]:
    """Words, colour and hatch of a cell."""
    if standing is None:
        return "", MISSING, ""
    if standing.all_lost:
        return "all lost", LOST, ""
    color = styles[standing.best[0]].color
    family: str = families[standing.best[0]]
    family = SHORT.get(family, family)
    if standing.rival is None:
        return family, color, ""
    across = {families[name] for name in standing.best}
    if len(across) > 1:
        return "a tie", color, HATCH
    lead = standing.rival.interval.mean
    return f"{family}\n+{lead:.{digits}f}", color, "" if standing.rival.significant else HATCH


def _decimals(found: Sequence[Standing], column: Column) -> int:
    """Decimals at which the largest lead has two digits at least, and dB have one."""
    leads = [standing.rival.interval.mean for standing in found if standing.rival is not None]
    largest = max((abs(lead) for lead in leads if math.isfinite(lead)), default=0.0)
    if column.unit == "dB" or largest == 0:
        return 1
    return max(0, 1 - math.floor(math.log10(largest)))


def _legend(figure: "Figure", panels: Any, styles: dict[str, SchemeStyle], column: Column) -> None:
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Patch

    found = [standing for panel in panels for standing in panel]
    best = sorted({standing.best[0] for standing in found if not standing.all_lost})
    unit = f" in {column.unit}" if column.unit else ""
    handles = [Patch(facecolor=to_rgba(styles[name].color, 0.55), label=name) for name in best]
    hatched = Patch(facecolor="white", edgecolor=INK, hatch=HATCH, linewidth=0, label="not significant")
    hatched.set_alpha(0.6)
    if any(standing.rival is not None and not standing.rival.significant for standing in found):
        handles.append(hatched)
    longest = max(map(len, best), default=10)
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=max(1, min(4, int(figure.get_size_inches()[0] * 12) // (longest + 6))),
        fontsize=9,
        title=f"+: lead over the best scheme of another family{unit}, on the same items",
        title_fontsize=9,
        alignment="left",
    )
