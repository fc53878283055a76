"""An experiment: its command line, and its folder of records, of what they rest on, and of tables of them."""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from semcom import names
from semcom.budget import parse_rho
from semcom.columns import Columns
from semcom.data import Item, load_folder
from semcom.engine import local_engine
from semcom.errors import SemcomError, StoreError
from semcom.files import write_whole
from semcom.metrics.catalogue import SHIPPED_COLUMNS, column_named
from semcom.plots import figure_bytes
from semcom.results import ResultStore
from semcom.statistics import bootstrap_mean, summarise
from semcom.sweep import Sweep, run
from semcom.terminal import progress_bar

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Axis = Literal["snr_db", "rho"]


@dataclass(frozen=True, eq=False, slots=True)
class Options:
    """What the command line of an experiment says; names are those of `semcom.names`.

    Args:
        items: To send.
        out: Folder of results.
        schemes: Names.
        metrics: Names.
        seeds: Noise realisations per item.
        workers: Local processes.
    """

    items: tuple[Item, ...]
    out: Path
    schemes: tuple[str, ...]
    metrics: tuple[str, ...]
    seeds: int
    workers: int

    def sweep(self, channels: Sequence[str], snr_db: Sequence[float], rho: Sequence[str]) -> Sweep:
        """Over these points; all channels in one sweep, so that an image is encoded once for all.

        Raises:
            SemcomError: A name that is unknown, or what `Sweep` refuses.
        """
        return Sweep(
            tuple(map(names.scheme, self.schemes)),
            tuple(map(names.channel, channels)),
            self.items,
            tuple(snr_db),
            tuple(rho),
            tuple(map(names.metric, self.metrics)),
            tuple(range(self.seeds)),
        )


def parse_options(
    about: str | None,
    arguments: Sequence[str] | None,
    *,
    out: Path,
    schemes: Sequence[str],
    metrics: Sequence[str],
    seeds: int = 1,
) -> Options:
    """Read the command line, which may narrow what the experiment compares.

    Args:
        about: Docstring of the script, shown by `--help`.
        arguments: Of the command line; None takes those of this process.
        out: Default folder of results.
        schemes: Default names.
        metrics: Default names.
        seeds: Default number of noise realisations per image.

    Raises:
        SemcomError: No pictures in the folder.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/kodak"))
    parser.add_argument("--out", type=Path, default=out)
    parser.add_argument("--schemes", default=",".join(schemes))
    parser.add_argument("--items", type=int, default=None, help="only the first so many")
    parser.add_argument("--seeds", type=int, default=seeds, help="noise realisations per image")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--metrics", default=",".join(metrics))
    a = parser.parse_args(arguments)
    items = load_folder(a.data)[: a.items]
    return Options(items, a.out, tuple(a.schemes.split(",")), tuple(a.metrics.split(",")), a.seeds, a.workers)


def run_script(main: Callable[[], None]) -> None:
    """Call it, and end with one line instead of a traceback where a user or the machine is at fault."""
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes")
    except SemcomError as error:
        sys.exit(f"error: {error}")


def conduct(sweep: Sweep, out: Path, workers: int = 1) -> "pd.DataFrame":
    """Run or resume a sweep, and write down everything but figures.

    In the folder: `records.sqlite` (the store), `records.parquet` (the same for readers), `items.csv` (means
    over seeds, per item) and `run.json` (commands, commits, versions, device, definitions of schemes).

    Args:
        sweep: What to do.
        out: Made if it is not there.
        workers: Local processes.

    Returns:
        All valid records.

    Raises:
        SemcomError: As `run` and `ResultStore`.
    """
    with ResultStore(out / "records.sqlite") as store:
        with progress_bar() as progress:
            for _ in run(sweep, store, local_engine(workers), progress):
                pass
        store.export(out / "records.parquet")
        about = {"runs": store.runs(), "schemes": store.schemes()}
        write(out / "run.json", json.dumps(about, indent=1) + "\n")
        frame = store.frame()
    write(out / "items.csv", item_means(frame).to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    return frame


def item_means(frame: "pd.DataFrame") -> "pd.DataFrame":
    """One row per scheme, channel, rho, SNR and item: the mean over seeds of everything that varies."""
    import pandas as pd

    keys = ["scheme", "channel", "rho", "snr_db", "item"]
    varying = [name for name in frame.columns if name not in (*keys, "fingerprint", "seed", "cause")]
    return pd.DataFrame(frame.groupby(keys, as_index=False)[varying].mean())


def difference_table(
    frame: "pd.DataFrame", reference: str, metrics: Sequence[str], columns: Columns = SHIPPED_COLUMNS
) -> str:
    """Per scheme the mean difference to a reference, over operating points, with intervals over items.

    One item has no interval. Metrics in dB differ in dB, all others in percent of the reference's mean at the
    point.

    Args:
        frame: Records.
        reference: Name of a scheme.
        metrics: Columns.
        columns: Unit of metrics, as from `ResultStore.columns`; by default those of this package.
    """
    means = item_means(frame).set_index(["scheme", "channel", "item", "rho", "snr_db"])
    base = means.loc[reference]
    lines = [f"| scheme | {' | '.join(metrics)} |", "| --- " * (len(metrics) + 1) + "|"]
    for scheme in means.index.unique("scheme").drop(reference):
        own = means.loc[scheme]
        cells: list[str] = []
        for metric in metrics:
            change, unit = own[metric] - base[metric], "dB"
            if column_named(metric, columns).unit != "dB":
                mean = base[metric].groupby(["channel", "rho", "snr_db"]).transform("mean")
                change, unit = 100 * change / mean, "%"
            change = change.dropna()
            found = bootstrap_mean(change, change.index.get_level_values("item"))
            limits = f" ({found.low:+.2f} to {found.high:+.2f})" if found.items > 1 else ""
            cells.append(f"{found.mean:+.2f} {unit}{limits}")
        lines.append(f"| {scheme} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def markdown_tables(frame: "pd.DataFrame", metrics: Sequence[str], across: Axis) -> str:
    """Means with 95 % bootstrap intervals over items: one table per metric and per point that is held fixed.

    Args:
        frame: Records.
        metrics: Columns to tabulate.
        across: What the columns of the tables are; the other is held fixed.
    """
    fixed: Axis = "rho" if across == "snr_db" else "snr_db"
    parts: list[str] = []
    for channel, of_channel in frame.groupby("channel"):
        for value, of_point in of_channel.groupby(fixed):
            for metric in metrics:
                heading = f"## {metric}, {channel}, {_head(fixed, float(value))}"  # pyright: ignore
                parts.append(f"{heading}\n\n{_table(of_point, metric, across)}")
    return "\n\n".join(parts) + "\n"


def write_figure(path: Path, figure: "Figure") -> None:
    """As SVG or PNG by the ending of the name; all of it or nothing."""
    write(path, figure_bytes(figure, "png" if path.suffix == ".png" else "svg"))


def write(path: Path, content: str | bytes) -> None:
    """All of it or nothing.

    Raises:
        StoreError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}); free space or name another"
        ) from None


def _table(frame: "pd.DataFrame", metric: str, across: Axis) -> str:
    points = summarise(frame, metric)
    values = sorted(points[across].unique(), reverse=across == "rho")
    heads = ["scheme", *(_head(across, value) for value in values)]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for scheme, rows in points.groupby("scheme"):
        cells = rows.set_index(across)
        lines.append(f"| {scheme} | " + " | ".join(_cell(cells, value) for value in values) + " |")
    return "\n".join(lines)


def _head(axis: Axis, value: float) -> str:
    return f"{value:g} dB" if axis == "snr_db" else f"rho = {parse_rho(value)}"


def _cell(points: "pd.DataFrame", value: float) -> str:
    """Mean, its interval if there are several items, and the share of lost ones where there are any."""
    if value not in points.index:
        return "-"
    mean, low, high, outage = (float(points.at[value, name]) for name in ("mean", "low", "high", "outage"))
    interval = [] if math.isnan(low) else [f"{low:.4g} to {high:.4g}"]
    lost = [f"{outage:.0%} lost"] if outage else []
    aside = ", ".join(interval + lost)
    return f"{mean:.4g} ({aside})" if aside else f"{mean:.4g}"
