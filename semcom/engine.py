"""Engines run the jobs of a sweep, in this process or in others, and yield results as they are finished."""

import ast
import os
import pickle
import signal
import sys
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import current_process, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from semcom.errors import InvalidOption, SweepError
from semcom.surroundings import library_defaults

MAX_WORKERS = 1024  # more than any machine has cores; catches typing errors
WORKER = "semcom worker"
NO_GUARD = 87  # exit code of a worker whose script would start workers in turn
PATIENCE = 5.0  # seconds until a worker that does not end when it is asked to is killed
GUARD = 'put what the script does under `if __name__ == "__main__":`, or take 1 worker'


R = TypeVar("R")


@runtime_checkable
class Job(Protocol):
    """A picklable unit of work with several results, which refers to large objects by key.

    The engine gets the large objects (schemes with their networks, the item to be sent) in a mapping, and
    sends each of them to a worker process only once.
    """

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of all objects that the job looks up.

        Returns:
            Keys of the mapping given to `Engine.map`.
        """
        ...

    @property
    def passing(self) -> tuple[str, ...]:
        """Keys of objects that a worker discards when its next job does not need them, such as the item.

        Returns:
            A subset of `needs`.
        """
        ...

    def label(self, results: int) -> str:
        """Describe the work in progress, for error messages.

        Args:
            results: Number of results that this job has already yielded.

        Returns:
            One line.
        """
        ...


Things = Mapping[str, Any]
"""Objects that jobs need, by key."""

Work = Callable[[Any, Things], Iterator[R]]
"""Function that works on a job: from the job and the objects it needs to an iterator of results."""


@runtime_checkable
class Engine(Protocol):
    """Runs the jobs of a sweep: in this process, in several processes, or on other machines."""

    def map(self, jobs: Sequence[Job], work: Work[R], things: Things) -> Iterator[R]:
        """Run all jobs and yield their results.

        Args:
            jobs: The jobs.
            work: Function that works on one job. It may be pickled, so it must be a module-level function, or
                a `functools.partial` of one.
            things: Objects that the jobs need, by key.

        Returns:
            Iterator over the results of all jobs, as they are finished, in any order. Closing it stops the
            work.

        Raises:
            SweepError: A worker process died; the message names the job in progress.
            Exception: Any exception raised by `work`.
        """
        ...

    @property
    def workers(self) -> int:
        """Number of jobs that run at the same time.

        Returns:
            At least 1.
        """
        ...


@dataclass(frozen=True)
class InProcess:
    """Engine that runs one job after the other in this process, in the given order."""

    @property
    def workers(self) -> int:
        """Number of jobs that run at the same time: 1."""
        return 1

    def map(self, jobs: Sequence[Job], work: Work[R], things: Things) -> Iterator[R]:
        """Run all jobs one after the other, in order.

        Args:
            jobs: The jobs.
            work: Function that works on one job.
            things: Objects that the jobs need, by key.

        Returns:
            Iterator over the results, in the order of the jobs.

        Raises:
            Exception: Any exception raised by `work`.
        """
        for job in jobs:
            yield from work(job, things)


@dataclass(frozen=True)
class LocalProcesses:
    """Engine that runs jobs in parallel processes on this machine, with one torch thread each.

    Worker processes are started by "spawn" and end with this process, even if it is killed. They import the
    script that is running, which must therefore do its work under `if __name__ == "__main__":`. Ctrl-C is
    left to this process, which ends them. Warnings of a worker are issued in this process, whose filters
    decide about them; each is issued once for all workers.

    Args:
        workers: Number of processes, 1..1024.

    Raises:
        InvalidOption: The number of workers is outside 1..1024.
    """

    workers: int

    def __post_init__(self) -> None:
        check_workers(self.workers)

    def map(self, jobs: Sequence[Job], work: Work[R], things: Things) -> Iterator[R]:
        """Run all jobs in parallel processes.

        Args:
            jobs: The jobs.
            work: Function that works on one job; it is pickled.
            things: Objects that the jobs need, by key; they are pickled.

        Returns:
            Iterator over the results as they are finished, in any order. Closing it ends all workers.

        Raises:
            SweepError: A worker died, a job, `work` or an object cannot be pickled, or the script that is
                running has no `if __name__ == "__main__":`.
            Exception: Any exception raised by `work`, with the traceback of the worker as a note.
        """
        team = _Team(things)
        try:
            team.start(min(self.workers, len(jobs)), work)
            yield from team.process(jobs)
        finally:
            team.stop()


def local_engine(workers: int) -> Engine:
    """Choose an engine for a number of parallel processes on this machine.

    Args:
        workers: Number of processes, 1..1024; with 1, jobs run in this process.

    Returns:
        The engine.

    Raises:
        InvalidOption: The number of workers is outside 1..1024.
    """
    check_workers(workers)
    return InProcess() if workers == 1 else LocalProcesses(workers)


def check_workers(workers: int) -> None:
    """Check a number of worker processes.

    Args:
        workers: Number of processes.

    Raises:
        InvalidOption: The number is outside 1..1024.
    """
    if not 1 <= workers <= MAX_WORKERS:
        raise InvalidOption(f"{workers} workers: choose 1..{MAX_WORKERS}")


class _Team:
    """The worker processes of one call, each with the pipe to it and the keys of the objects it holds."""

    def __init__(self, things: Things) -> None:
        self.things = things
        self.members: dict[Connection, BaseProcess] = {}
        self.having: dict[Connection, set[str]] = {}
        self.warned: set[Any] = set()  # warnings that have been issued here

    def start(self, size: int, work: Callable[..., Any]) -> None:
        context = get_context("spawn")
        _check_guard(size)
        resource_tracker.ensure_running()  # its start, else part of the first worker's, unblocks Ctrl-C
        for _ in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), name=WORKER, daemon=True)
            try:
                with _interrupts_blocked():
                    process.start()
                    self.members[ours], self.having[ours] = process, set()  # so that `stop` ends it
            except RuntimeError:  # a script without a guard has been imported up to here
                if current_process().name == WORKER:
                    os._exit(NO_GUARD)
                raise
            theirs.close()  # so that the pipe closes when the worker ends
        for pipe in self.members:
            self._send(pipe, work, "before the first batch")

    def process(self, jobs: Sequence[Any]) -> Iterator[Any]:
        todo = deque(jobs)
        doing: dict[Any, tuple[Any, int]] = {}  # by pipe: the job, and the number of its results so far

        def assign(pipe: Connection) -> None:
            before = doing.pop(pipe, None)
            if todo:
                job = todo.popleft()
                doing[pipe] = (job, 0)
                forget = set(before[0].passing) - set(job.needs) if before else set()
                new = {key: self.things[key] for key in job.needs if key not in self.having[pipe] - forget}
                self.having[pipe] = (self.having[pipe] - forget) | set(new)
                self._send(pipe, (job, new, tuple(forget)), job.label(0))

        for pipe in self.members:
            assign(pipe)
        while doing:
            ready: list[Any] = wait(list(doing))
            for pipe in ready:
                job, results = doing[pipe]
                kind, content = self._receive(pipe, job.label(results))
                if kind == "result":
                    doing[pipe] = (job, results + 1)
                    yield content
                elif kind == "error":
                    raise content
                elif kind == "warning":
                    if content not in self.warned:
                        self.warned.add(content)
                        with library_defaults():  # as in this process: a warning is no error
                            warnings.warn_explicit(*content)
                else:
                    assign(pipe)

    def _send(self, pipe: Connection, content: object, label: str) -> None:
        try:
            # plain pickle sends tensors as bytes; shared memory, torch's way, is small in containers
            parcel = pickle.dumps(content)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise SweepError(
                f"{label}: cannot be handed to another process ({error}); make it importable, "
                "or take 1 worker"
            ) from None
        try:
            pipe.send_bytes(parcel)
        except ConnectionError:
            raise SweepError(self._obituary(pipe, label)) from None

    def _receive(self, pipe: Connection, label: str) -> tuple[str, Any]:
        try:
            return pickle.loads(pipe.recv_bytes())
        except (EOFError, ConnectionError):
            raise SweepError(self._obituary(pipe, label)) from None

    def stop(self) -> None:
        for pipe, process in self.members.items():
            pipe.close()
            process.terminate()
        for process in self.members.values():
            process.join(PATIENCE)
            process.kill()
            process.join()

    def _obituary(self, pipe: Connection, label: str) -> str:
        process = self.members[pipe]
        process.join(timeout=5)
        code = process.exitcode
        how = (
            f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with code {code}"
        )
        if code == NO_GUARD:
            return f"every worker runs the whole script again, which starts workers; {GUARD}"
        cure = "fewer workers need less memory" if code == -signal.SIGKILL else "what it wrote is above"
        return f"{label}: the worker {how} ({cure}); the records so far are safe, run the same command again"


def _serve(pipe: Connection) -> None:
    """Body of a worker process: receive jobs and send results until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # after Ctrl-C this process is ended by its parent
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()
    send = _sender(pipe)
    warnings.simplefilter("default")
    warnings.showwarning = lambda message, category, filename, lineno, *_: send(
        "warning", (str(message), _builtin(category), filename, lineno)
    )
    try:
        work = pickle.loads(pipe.recv_bytes())
        things: dict[str, Any] = {}
        while True:
            job, new, forget = pickle.loads(pipe.recv_bytes())
            for key in forget:
                del things[key]
            things |= new
            try:
                for result in work(job, things):
                    send("result", result)
            except Exception as error:
                error.add_note(traceback.format_exc())
                send("error", error)
            else:
                send("done", None)
    except (EOFError, ConnectionError):
        return


def _sender(pipe: Connection) -> Callable[[str, object], None]:
    """Function that sends what is of some kind, from any thread."""
    lock = Lock()

    def send(kind: str, content: object) -> None:
        parcel = pickle.dumps((kind, content))
        with lock:
            pipe.send_bytes(parcel)

    return send


def _builtin(category: type[Warning]) -> type[Warning]:
    """The built-in kind of a warning, since other processes may not know its class."""
    return next(kind for kind in category.__mro__ if kind.__module__ == "builtins")


def _check_guard(workers: int) -> None:
    """Refuse a script that the workers would run as a whole: one that never compares `__name__`."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    if not workers or parent_process() is not None or path is None or not path.endswith(".py"):
        return
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    compared = (part for node in ast.walk(tree) if isinstance(node, ast.Compare) for part in ast.walk(node))
    guards = ("__name__", "parent_process", "current_process")
    if not any(isinstance(part, ast.Name | ast.Attribute) and _last(part) in guards for part in compared):
        raise SweepError(f"{path}: every worker imports this script, and would run it as a whole; {GUARD}")


def _last(node: ast.Name | ast.Attribute) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr


def _end_with_parent() -> None:
    """End this worker when its parent dies, since a busy worker would not notice a closed pipe."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Start children with Ctrl-C blocked (they inherit the signal mask), since the parent stops them."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
