"""Terminal output of the `semcom` command: results on stdout; progress, notes and errors on stderr."""

import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from threading import current_thread, main_thread
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from semcom.modalities import Item
    from semcom.names import Listed
    from semcom.scheme import Outcome, Scheme
    from semcom.sweep import Progress, Sweep


MIN_WIDTH = 60  # characters; tables of numbers need as many


@contextmanager
def readable_width() -> Iterator[None]:
    """Context manager that widens terminals of no or too little width, to which nothing could be printed.

    The environment variable COLUMNS is restored afterwards.

    Yields:
        None.
    """
    told = os.environ.get("COLUMNS")
    width = shutil.get_terminal_size().columns  # what COLUMNS says if it is a number above 0
    if told in (None, str(width)) and width >= MIN_WIDTH:
        yield
        return
    os.environ["COLUMNS"] = str(max(width, MIN_WIDTH))
    try:
        yield
    finally:
        if told is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = told


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Context manager that hides warnings of installed packages, and shows others as one line on stderr.

    Warnings that point at this package, or at a user's own module, are shown. Nothing is hidden if the user
    has asked for warnings by -W or PYTHONWARNINGS. The filters of warnings stay as they are.

    Yields:
        None.
    """
    import sysconfig
    import warnings

    foreign = tuple(sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib"))
    own = tuple(f"{Path(__file__).parents[1] / package}{os.sep}" for package in ("semcom", "channels"))

    def show(
        message: Warning | str, category: type[Warning], filename: str, *where: object, **more: object
    ) -> None:
        if filename.startswith(own) or not filename.startswith((*foreign, "<")):
            note(f"{category.__name__}: {' '.join(str(message).split())}")

    if sys.warnoptions:
        yield
        return
    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextmanager
def sending_progress(schemes: "tuple[Scheme, ...]") -> "Iterator[tuple[Scheme, ...]]":
    """Context manager that shows on stderr, if it is a terminal, how far the sending of an item has got.

    Generative receivers tell how many of their network calls are done; for all else the time is shown.

    Args:
        schemes: Schemes, with or without a generative receiver.

    Yields:
        Schemes with the same names, whose receivers report their progress.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from semcom.receivers.generative import Generative

    console = Console(stderr=True)
    if not console.is_terminal:
        yield schemes
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("sending", total=None)

        def told(scheme: "Scheme") -> "Scheme":
            if not isinstance(scheme.receiver, Generative):
                return scheme
            name = scheme.name

            def progress(done: int, planned: int) -> None:
                text = f"{name}: network call {done} of {planned}"
                bar.update(task, description=text, completed=done, total=planned, refresh=True)

            return replace(scheme, receiver=replace(scheme.receiver, progress=progress))

        yield tuple(map(told, schemes))


@dataclass
class Interruption:
    """Handler of Ctrl-C that raises KeyboardInterrupt, and remembers it.

    An exception that is raised while a library is imported, or inside of a callback, may be swallowed there;
    `progress_bar` raises it again.

    Args:
        heard: Whether Ctrl-C was pressed.
    """

    heard: bool = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal.

        Args:
            number: Number of the signal.
            frame: Stack frame that was interrupted.

        Raises:
            KeyboardInterrupt: Always.
        """
        self.heard = True
        raise KeyboardInterrupt


@contextmanager
def remembered_interruptions() -> Iterator[None]:
    """Context manager that handles Ctrl-C by `Interruption`, where Python's own handler is in place.

    Yields:
        None.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed, also if a library made another exception of it, as compiled
            code of torch does.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or current_thread() is not main_thread():
        yield
        return
    handler = Interruption()
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    except Exception:
        if handler.heard:
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def progress_bar(label: str = "sweep") -> "Iterator[Progress]":
    """Context manager that shows a progress bar with the remaining time on stderr.

    Args:
        label: Text before the bar.

    Yields:
        Callback for the `progress` argument of `semcom.sweep.run`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Task, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Left(TimeRemainingColumn):
        """Time to the end that the callback told, counted down; by the mean speed if it told none."""

        def render(self, task: Task) -> Text:
            end = task.fields.get("end")
            if end is None or task.finished:
                return super().render(task)
            minutes, seconds = divmod(max(round(end - time.monotonic()), 0), 60)
            hours, minutes = divmod(minutes, 60)
            return Text(f"{hours}:{minutes:02}:{seconds:02}", style="progress.remaining")

    def update(done: int, total: int, seconds_left: float | None = None) -> None:
        handler = signal.getsignal(signal.SIGINT)
        if isinstance(handler, Interruption) and handler.heard:
            raise KeyboardInterrupt
        end = None if seconds_left is None else time.monotonic() + seconds_left
        bar.update(task, completed=done, total=total, end=end)

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Left())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None)
        yield update


@contextmanager
def training_progress() -> Iterator[None]:
    """Context manager that shows the log of a training run on stderr.

    Points of the learning curve are printed as lines; the state between them is a line that changes. In the
    secondary processes of a distributed run, nothing is shown.

    Yields:
        None.
    """
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


def shown_instead(scheme: "Scheme", item: "Item", outcome: "Outcome") -> str:
    """Describe what is shown in place of a lost item.

    Args:
        scheme: Scheme that sent the item.
        item: The item that was lost.
        outcome: Result of sending it.

    Returns:
        A noun phrase.
    """
    from semcom.provenance import canonical
    from semcom.receivers.generative import Generative

    receiver, modality = scheme.receiver, item.modality
    if canonical(outcome.x_hat) == canonical(modality.cover(modality.shape(item.x))):
        return "the cover of lost items"
    if isinstance(receiver, Generative):
        prior = f"the prior {receiver.prior}" if receiver.prior else "the prior"
        drawn = receiver.knob == 1 and receiver.samples == 1
        return f"a sample of {prior}" if drawn else f"what {prior} expects, knob {receiver.knob:g}"
    return f"what the receiver {receiver.name} makes of it"


def print_plan(design: "Sweep", path: Path, keep: Path | None) -> None:
    """Print the design of a sweep, and how many of its records remain to be simulated.

    Args:
        design: The sweep.
        path: File of the result store; it need not exist.
        keep: Folder for received items, or None.
    """
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
    """Print one record, with one line per column; empty values are left out.

    Args:
        row: Values by column name.
    """
    shown = {name: f"{v:.6g}" if isinstance(v, float) else str(v) for name, v in row.items()}
    _print_pairs({name: text for name, text in shown.items() if text})


def print_summary(frame: "pd.DataFrame", what: str = "means") -> None:
    """Print a table for each channel and rho, sized for terminals.

    Args:
        frame: Table with the columns channel, rho, "SNR dB" and scheme first, sorted by channel and rho.
        what: Description of the values for the titles.
    """
    from rich import box
    from rich.table import Table

    rows = [{str(head): str(cell) for head, cell in row.items()} for row in frame.to_dict("records")]
    for (channel, rho), group in groupby(rows, lambda row: (row["channel"], row["rho"])):
        shown = Table(title=f"{channel}, rho = {rho}: {what}", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for head in frame.columns[2:]:
            if head == "scheme":
                shown.add_column(head, overflow="fold")  # long names are wrapped, numbers never
            else:
                shown.add_column(head, no_wrap=True, justify="right")
        for _, same_snr in groupby(group, lambda row: row["SNR dB"]):
            for i, row in enumerate(same_snr):
                _, _, snr_db, *others = row.values()
                shown.add_row("" if i else snr_db, *others)
        _console().print(shown)


def _print_pairs(pairs: Mapping[str, str]) -> None:
    """Print names and values in two columns; long values are wrapped, never truncated."""
    from rich.table import Table

    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for pair in pairs.items():
        table.add_row(*pair)
    _console().print(table)


def _console() -> "Console":
    """Console for stdout that prints names literally: "[bold]" is no markup, and ":100:" no emoji."""
    from rich.console import Console

    return Console(markup=False, emoji=False)


def shown_sets(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Convert the result of `semcom.realism.realism` to the format of `print_summary`.

    Args:
        frame: One row per scheme and operating point, with metrics of sets.

    Returns:
        Formatted strings.
    """
    from semcom.budget import shown_rho

    shown = frame[["channel"]].assign(rho=frame["rho"].map(shown_rho))
    shown = shown.assign(**{"SNR dB": frame["snr_db"].map("{:g}".format), "scheme": frame["scheme"]})
    rest = frame.drop(columns=["channel", "rho", "snr_db", "scheme"])
    return shown.join(rest.map("{:.4g}".format))


def print_listing(lines: "Iterable[Listed]") -> None:
    """Print names and descriptions in two columns, suited for grep.

    Args:
        lines: Names and descriptions, at least one.
    """
    lines = tuple(lines)
    width = max(len(line.name) for line in lines)
    for line in lines:
        print(f"{line.name:<{width}}  {line.about}")


def finite(row: "Mapping[str, str | int | float]") -> dict[str, str | int | float | None]:
    """Replace numbers that are not finite by None, since JSON cannot represent them.

    Args:
        row: Values by column name.

    Returns:
        A copy of the row.
    """
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}


def note(text: str) -> None:
    """Print a remark that is not an error on stderr.

    Args:
        text: One line.
    """
    print(f"semcom: {text}", file=sys.stderr)


def silence_stdout() -> None:
    """Discard output that could not be written, so that the interpreter does not try again when it exits."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(message: str, code: int = 2) -> int:
    """Print an error message as one line on stderr.

    Args:
        message: Text of the error.
        code: Exit code of the command.

    Returns:
        The exit code.
    """
    print(f"semcom: error: {' '.join(message.split())}", file=sys.stderr)
    return code
