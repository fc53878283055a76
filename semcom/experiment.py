"""Scripts of experiments: command line, run of a sweep, and result files with tables."""

import argparse
import csv
import io
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from semcom import names
from semcom.budget import parse_rho
from semcom.columns import Columns
from semcom.data import Item, load_folder
from semcom.engine import local_engine
from semcom.errors import InvalidSource, SemcomError, StoreError
from semcom.files import write_whole
from semcom.metrics.catalogue import SHIPPED_COLUMNS, column_named
from semcom.metrics.metric import measure
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
    """Command-line options of an experiment; names follow the grammar of `semcom.names`.

    Args:
        items: Items to send.
        out: Folder of the results.
        schemes: Names of schemes.
        metrics: Names of metrics.
        seeds: Noise realisations per item, at least 1.
        workers: Number of local processes, 1..1024.
        device: Where networks run, "cpu" or "cuda".
    """

    items: tuple[Item, ...]
    out: Path
    schemes: tuple[str, ...]
    metrics: tuple[str, ...]
    seeds: int
    workers: int
    device: str = "cpu"

    def sweep(self, channels: Sequence[str], snr_db: Sequence[float], rho: Sequence[str]) -> Sweep:
        """Make a sweep of these options over channels, SNRs and bandwidth ratios.

        One sweep over all channels encodes each item only once.

        Args:
            channels: Names of channels.
            snr_db: Average received Es/N0 in dB.
            rho: Bandwidth ratios, such as "1/12".

        Returns:
            The sweep.

        Raises:
            SemcomError: A name is unknown, or `Sweep` refuses the combination.
        """
        return Sweep(
            tuple(names.scheme(name, device=self.device) for name in self.schemes),
            tuple(map(names.channel, channels)),
            self.items,
            tuple(snr_db),
            tuple(rho),
            tuple(names.metric(name, device=self.device) for name in self.metrics),
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
    """Parse the command line of an experiment, which may restrict schemes, items and metrics.

    Args:
        about: Docstring of the script, shown by `--help`.
        arguments: Command-line arguments; None takes those of this process.
        out: Default folder of results.
        schemes: Default names of schemes.
        metrics: Default names of metrics.
        seeds: Default number of noise realisations per item.

    Returns:
        The options.

    Raises:
        SemcomError: The data folder cannot be read.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/kodak"))
    parser.add_argument("--out", type=Path, default=out)
    parser.add_argument("--schemes", default=",".join(schemes))
    parser.add_argument("--items", type=int, default=None, help="only the first so many")
    parser.add_argument("--seeds", type=int, default=seeds, help="noise realisations per image")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="where networks run: cpu or cuda")
    parser.add_argument("--metrics", default=",".join(metrics))
    a = parser.parse_args(arguments)
    items = load_folder(a.data)[: a.items]
    names_of_schemes, names_of_metrics = (tuple(text.split(",")) for text in (a.schemes, a.metrics))
    return Options(items, a.out, names_of_schemes, names_of_metrics, a.seeds, a.workers, a.device)


@dataclass(frozen=True, slots=True)
class GridOptions:
    """Command-line options of an experiment over a grid of operating points that runs for hours.

    Args:
        data: Folder of the items.
        out: Folder of the results.
        photos: Number of items, the first ones; None for all.
        schemes: Names of schemes.
        rho: Bandwidth ratios, such as "1/12".
        workers: Number of local processes, 1..1024.
        estimate: Whether to say how many hours are left, instead of running.
    """

    data: Path
    out: Path
    photos: int | None
    schemes: tuple[str, ...]
    rho: tuple[str, ...]
    workers: int
    estimate: bool


def parse_grid(
    about: str | None,
    arguments: Sequence[str] | None,
    *,
    out: Path,
    schemes: Sequence[str],
    rho: Sequence[str],
) -> GridOptions:
    """Parse the command line of an experiment over a grid of operating points.

    Args:
        about: Docstring of the script, shown by `--help`.
        arguments: Command-line arguments; None takes those of this process.
        out: Default folder of results.
        schemes: Default names of schemes.
        rho: Default bandwidth ratios.

    Returns:
        The options.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/kodak"))
    parser.add_argument("--out", type=Path, default=out)
    parser.add_argument("--photos", type=int, default=None, help="only the first so many")
    parser.add_argument("--schemes", default=",".join(schemes))
    parser.add_argument("--rho", default=",".join(rho))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--estimate", action="store_true", help="hours left, from the records so far; no run")
    a = parser.parse_args(arguments)
    named, ratios = tuple(a.schemes.split(",")), tuple(a.rho.split(","))
    return GridOptions(a.data, a.out, a.photos, named, ratios, a.workers, a.estimate)


def hours_left(sweeps: Sequence[Sweep], out: Path) -> str:
    """Hours that each scheme still needs, from the times in the records so far.

    Those are wall times: on a machine that was busy then, all hours are too many.

    Args:
        sweeps: One or more sweeps of the same schemes and metrics into one folder.
        out: Folder of the results.

    Returns:
        One line for the metrics, one per scheme, and one for all.

    Raises:
        StoreError: The folder has no records.
    """
    with ResultStore(out / "records.sqlite", read_only=True) as store:
        records = store.frame()
    first = sweeps[0]
    item = first.items[0]
    for metric in first.metrics:
        measure(metric, item.x, item.x)  # loads networks
    start = time.process_time()
    for metric in first.metrics:
        measure(metric, item.x, item.x)
    measuring = time.process_time() - start
    of_each = sum(len(s.channels) * len(s.items) * len(s.snr_db) * len(s.rho) * len(s.seeds) for s in sweeps)
    lines, total = [f"metrics: {measuring:.2f} s per record"], 0.0
    for scheme in first.schemes:
        rows = records.loc[records["scheme"] == scheme.name]
        left = max(0, of_each - len(rows))
        if rows.empty:
            lines.append(f"{scheme.name}: {left} records left, not timed yet")
            continue
        seconds = float((rows["seconds_prepare"] + rows["seconds_deliver"]).mean()) + measuring
        total += left * seconds
        lines.append(f"{scheme.name}: {left} records of {seconds:.2f} s left, {left * seconds / 3600:.2f} h")
    return "\n".join([*lines, f"together: {total / 3600:.1f} hours of one core"])


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, with six digits of every float.

    Args:
        path: File; its folder is made.
        rows: Rows; the columns are those of all rows, and what a row lacks is left empty.
    """
    text = io.StringIO()
    writer = csv.DictWriter(
        text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n"
    )
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    write(path, text.getvalue())


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read rows of a CSV file.

    Args:
        path: File of `write_rows`.

    Returns:
        Rows, all values as text.

    Raises:
        InvalidSource: There is no such file.
    """
    if not path.is_file():
        raise InvalidSource(f"{path}: no such table; run the part of the script that measures it first")
    return list(csv.DictReader(io.StringIO(path.read_text())))


def at_least(least: int) -> Callable[[str], int]:
    """Type of an option of `argparse`: whole numbers from a least one.

    Args:
        least: The least number.

    Returns:
        Function from the text of the option to the number, for `add_argument(type=...)`.
    """

    def number(text: str) -> int:
        try:
            found = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if found < least:
            raise argparse.ArgumentTypeError(f"{found}: choose at least {least}")
        return found

    return number


def chosen_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Type of an option of `argparse`: some of several names, with commas between them.

    Args:
        known: The names.

    Returns:
        Function from the text of the option to the names, for `add_argument(type=...)`.
    """

    def names_in(text: str) -> tuple[str, ...]:
        found = tuple(text.split(","))
        if wrong := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(f"{wrong[0]!r} is none of {', '.join(known)}")
        return found

    return names_in


def run_script(main: Callable[[], None]) -> None:
    """Call the main function of a script; typed errors and Ctrl-C exit with one line, not a traceback.

    Args:
        main: Main function.

    Raises:
        SystemExit: The function raised `SemcomError` or was interrupted.
    """
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes")
    except SemcomError as error:
        sys.exit(f"error: {error}")


def conduct(sweep: Sweep, out: Path, workers: int = 1) -> "pd.DataFrame":
    """Run or resume a sweep, and write all result files except figures.

    Files in the folder: `records.sqlite` (the store), `records.parquet` (the records for other programs),
    `items.csv` (means over seeds, per item) and `run.json` (commands, commits, versions, device, and
    definitions of the schemes).

    Args:
        sweep: The sweep.
        out: Folder of the results, created if necessary.
        workers: Number of local processes, 1..1024.

    Returns:
        All valid records, one per row.

    Raises:
        SemcomError: Any error of `run` or `ResultStore`.
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
    """Average records over seeds.

    Args:
        frame: Records, one per row.

    Returns:
        One row per scheme, channel, rho, SNR and item, with the means of all numeric columns.
    """
    import pandas as pd

    keys = ["scheme", "channel", "rho", "snr_db", "item"]
    numbers = frame.select_dtypes("number").columns
    varying = [name for name in numbers if name not in (*keys, "seed")]
    return pd.DataFrame(frame.groupby(keys, as_index=False)[varying].mean())


def difference_table(
    frame: "pd.DataFrame", reference: str, metrics: Sequence[str], columns: Columns = SHIPPED_COLUMNS
) -> str:
    """Markdown table of mean differences between each scheme and a reference, with 95 % bootstrap intervals.

    Differences are averaged over operating points; intervals are over items, and omitted for a single item.
    Differences of metrics in dB are in dB, all others in percent of the reference's mean at the same
    operating point.

    Args:
        frame: Records, one per row.
        reference: Name of the reference scheme.
        metrics: Columns of metrics.
        columns: Units of metrics, such as `ResultStore.columns()`; by default the metrics of this package.

    Returns:
        Markdown, one row per scheme and one column per metric.
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
    """Markdown tables of means with 95 % bootstrap intervals over items.

    Args:
        frame: Records, one per row.
        metrics: Columns of metrics, one table each.
        across: Quantity that varies over the columns of a table, "snr_db" or "rho"; the other is fixed.

    Returns:
        Markdown, one table per channel, value of the fixed quantity, and metric.
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
    """Write a figure as SVG or PNG, completely or not at all.

    Args:
        path: File; with the extension .png the format is PNG, else SVG.
        figure: The figure.

    Raises:
        StoreError: The file cannot be written.
    """
    write(path, figure_bytes(figure, "png" if path.suffix == ".png" else "svg"))


def write(path: Path, content: str | bytes) -> None:
    """Write a file completely or not at all; its folder is created if necessary.

    Args:
        path: The file.
        content: Text (written as UTF-8) or bytes.

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
    """Mean, its interval if there are several items, and the outage rate if it is not 0."""
    if value not in points.index:
        return "-"
    mean, low, high, outage = (float(points.at[value, name]) for name in ("mean", "low", "high", "outage"))
    interval = [] if math.isnan(low) else [f"{low:.4g} to {high:.4g}"]
    lost = [f"{outage:.0%} lost"] if outage else []
    aside = ", ".join(interval + lost)
    return f"{mean:.4g} ({aside})" if aside else f"{mean:.4g}"
