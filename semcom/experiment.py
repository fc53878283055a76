"""A folder of results: the records of an experiment, what they rest on, and tables of them."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from semcom.budget import parse_rho
from semcom.errors import StoreError
from semcom.plots import figure_bytes
from semcom.results import ResultStore
from semcom.statistics import summarise
from semcom.sweep import Sweep, progress_bar, run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Axis = Literal["snr_db", "rho"]


def conduct(sweeps: Sequence[Sweep], out: Path, workers: int = 1) -> "pd.DataFrame":
    """Run or resume sweeps that share one store, and write down everything but figures.

    In the folder: `records.sqlite` (the store), `records.parquet` (the same for readers), `items.csv` (means
    over seeds, per item) and `run.json` (commands, commits, versions, device, definitions of schemes).

    Args:
        sweeps: Several where channels need different numbers of seeds.
        out: Made if it is not there.
        workers: Local processes.

    Returns:
        All valid records.

    Raises:
        SemcomError: As `run` and `ResultStore`.
    """
    with ResultStore(out / "records.sqlite") as store:
        for number, sweep in enumerate(sweeps, 1):
            with progress_bar(f"sweep {number} of {len(sweeps)}") as progress:
                for _ in run(sweep, store, workers, progress):
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
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(part, path)
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
    """Mean, interval, and the share of lost items where there are any."""
    if value not in points.index:
        return "-"
    mean, low, high, outage = (float(points.at[value, name]) for name in ("mean", "low", "high", "outage"))
    lost = f", {outage:.0%} lost" if outage else ""
    return f"{mean:.4g} ({low:.4g} to {high:.4g}{lost})"
