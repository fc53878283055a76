"""What the `semcom` command shows: tables and listings on stdout; progress, notes and errors on stderr."""

import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from semcom.names import Listed
    from semcom.scheme import Scheme
    from semcom.sweep import Progress, Sweep


@contextmanager
def receiver_progress(schemes: "tuple[Scheme, ...]") -> "Iterator[tuple[Scheme, ...]]":
    """The schemes, their receivers with a prior telling every network call on stderr."""
    from rich.console import Console
    from rich.text import Text

    from semcom.receivers.generative import Generative

    if not any(isinstance(scheme.receiver, Generative) for scheme in schemes):
        yield schemes
        return
    with Console(stderr=True).status("sending") as status:

        def told(scheme: "Scheme") -> "Scheme":
            if not isinstance(scheme.receiver, Generative):
                return scheme
            name = scheme.name

            def progress(done: int, planned: int) -> None:
                status.update(Text(f"{name}: network call {done} of {planned}"))

            return replace(scheme, receiver=replace(scheme.receiver, progress=progress))

        yield tuple(map(told, schemes))


@contextmanager
def progress_bar(label: str = "sweep") -> "Iterator[Progress]":
    """A bar on standard error with the time left, as the `progress` of `run`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def training_progress() -> Iterator[None]:
    """The log of the training loop on stderr: a line per point of the curve, below them one that changes."""
    import logging

    from rich.console import Console
    from rich.text import Text

    from semcom.training.processes import is_main

    console = Console(stderr=True, markup=False, emoji=False)
    logger = logging.getLogger("semcom.training")

    class Shown(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.INFO:
                console.print(record.getMessage(), highlight=False)
            else:
                status.update(Text(record.getMessage()))

    if not is_main():
        yield
        return
    handler, level = Shown(), logger.level
    with console.status("preparing") as status:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG if console.is_terminal else logging.INFO)
        try:
            yield
        except KeyboardInterrupt:
            note("stopped after a checkpoint; the same command goes on")
            raise
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)


def print_plan(design: "Sweep", path: Path, keep: Path | None) -> None:
    """What a sweep would do, and how much of it is done already."""
    from semcom.results import ResultStore
    from semcom.sweep import plan

    grid = (design.schemes, design.channels, design.items, design.snr_db, design.rho, design.seeds)
    records = todo = math.prod(map(len, grid))
    if path.is_file():
        with ResultStore(path, read_only=True) as store:
            todo = sum(len(batch.snr_db) for batch in plan(design, store, keep))
    _print_pairs(
        {
            "schemes": "\n".join(scheme.name for scheme in design.schemes),
            "channels": "\n".join(channel.name for channel in design.channels),
            f"{design.items[0].modality.name} items": str(len(design.items)),
            "SNR in dB": ", ".join(f"{snr_db:g}" for snr_db in design.snr_db),
            "rho": ", ".join(map(str, design.rho)),
            "seeds": str(len(design.seeds)),
            "metrics": ", ".join(metric.name for metric in design.metrics),
            "records": f"{records}, of which {todo} are to do",
            "store": str(path),
        }
    )


def print_row(row: "Mapping[str, str | int | float]") -> None:
    """One record, a line per column."""
    shown = {name: f"{v:.6g}" if isinstance(v, float) else str(v) for name, v in row.items()}
    _print_pairs({name: text for name, text in shown.items() if text})


def print_summary(frame: "pd.DataFrame", what: str = "means") -> None:
    """A table per channel and rho, of a width for terminals."""
    from rich import box
    from rich.table import Table

    rows = [{str(head): str(cell) for head, cell in row.items()} for row in frame.to_dict("records")]
    for (channel, rho), group in groupby(rows, lambda row: (row["channel"], row["rho"])):
        shown = Table(title=f"{channel}, rho = {rho}: {what}", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for head in frame.columns[2:]:
            if head == "scheme":
                shown.add_column(head, overflow="fold")  # a long name is broken, a number never
            else:
                shown.add_column(head, no_wrap=True, justify="right")
        for _, same_snr in groupby(group, lambda row: row["SNR dB"]):
            for i, row in enumerate(same_snr):
                _, _, snr_db, *others = row.values()
                shown.add_row("" if i else snr_db, *others)
        _console().print(shown)


def _print_pairs(pairs: Mapping[str, str]) -> None:
    """Names and what they stand for; what is too long is broken, and all there."""
    from rich.table import Table

    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for pair in pairs.items():
        table.add_row(*pair)
    _console().print(table)


def _console() -> "Console":
    """Of stdout, where names stand as they are: [bold] is no markup, and :100: no emoji."""
    from rich.console import Console

    return Console(markup=False, emoji=False)


def shown_sets(frame: "pd.DataFrame") -> "pd.DataFrame":
    """The frame of `realism` as `print_summary` takes it."""
    from semcom.budget import shown_rho

    shown = frame[["channel"]].assign(rho=frame["rho"].map(shown_rho))
    shown = shown.assign(**{"SNR dB": frame["snr_db"].map("{:g}".format), "scheme": frame["scheme"]})
    rest = frame.drop(columns=["channel", "rho", "snr_db", "scheme"])
    return shown.join(rest.map("{:.4g}".format))


def print_listing(lines: "Iterable[Listed]") -> None:
    """Names in one column, for grep."""
    lines = tuple(lines)
    width = max(len(line.name) for line in lines)
    for line in lines:
        print(f"{line.name:<{width}}  {line.about}")


def finite(row: "Mapping[str, str | int | float]") -> dict[str, str | int | float | None]:
    """JSON has no infinity."""
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}


def note(text: str) -> None:
    """One line that is no error."""
    print(f"semcom: {text}", file=sys.stderr)


def silence_stdout() -> None:
    """What could not be written stays in the buffer; the interpreter would try again when it exits."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(message: str, code: int = 2) -> int:
    """One line, and the exit code."""
    print(f"semcom: error: {' '.join(message.split())}", file=sys.stderr)
    return code
