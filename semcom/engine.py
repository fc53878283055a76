"""Engines: jobs are worked on here or in other processes, and their results come back one by one."""

import os
import pickle
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from semcom.errors import InvalidOption, SweepError

MAX_WORKERS = 1024  # more than any machine this runs on; a typing error ends here


R = TypeVar("R")


@runtime_checkable
class Job(Protocol):
    """A small piece of work with several results, that names the larger things it needs.

    A job travels to its worker by pickle. What it needs (schemes with their networks, the item that is sent)
    lies in a mapping that the engine is given, and travels to a worker once.
    """

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of everything that the work looks up."""
        ...

    @property
    def passing(self) -> tuple[str, ...]:
        """Those of `needs` that a worker forgets as soon as a job comes that does not need them."""
        ...

    def label(self, results: int) -> str:
        """Name for messages.

        Args:
            results: How many results of this job have come.

        Returns:
            What is being worked on, on one line.
        """
        ...


Things = Mapping[str, Any]
"""What jobs need, by key."""

Work = Callable[[Any, Things], Iterator[R]]
"""From a job and the things that it needs to its results, one by one."""


@runtime_checkable
class Engine(Protocol):
    """Where the jobs of a sweep are worked on: in this process, in several, on other machines."""

    def map(self, jobs: Sequence[Job], work: Work[R], things: Things) -> Iterator[R]:
        """Work on all jobs.

        Args:
            jobs: What to do.
            work: How; a function of a module, or a partial one, since it may travel by pickle.
            things: What the jobs need.

        Returns:
            All results, as they come, in any order. Closing the iterator ends the work.

        Raises:
            SweepError: A worker died; the message names what it was working on.
            Exception: What `work` raised.
        """
        ...

    @property
    def workers(self) -> int:
        """How many jobs are worked on at once."""
        ...


@dataclass(frozen=True)
class InProcess:
    """Works on one job after the other in this process, in order."""

    @property
    def workers(self) -> int:
        """One job at a time."""
        return 1

    def map(self, jobs: Sequence[Job], work: Work[R], things: Things) -> Iterator[R]:
        """All results in the order of the jobs."""
        for job in jobs:
            yield from work(job, things)


@dataclass(frozen=True)
class LocalProcesses:
    """Works on several jobs at once, each in a process of its own with one torch thread.

    Workers are new interpreters (spawn) that end with this process, however it ends.

    Args:
        workers: Number of processes, 1..1024.

    Raises:
        InvalidOption: Fewer than one worker, or far too many.
    """

    workers: int

    def __post_init__(self) -> None:
        check_workers(self.workers)

    def map(self, jobs: Sequence[Job], work: Work[R], things: Things) -> Iterator[R]:
        """All results as they come; an error of `work` has the worker's traceback as a note."""
        team = _Team(things)
        try:
            team.start(min(self.workers, len(jobs)), work)
            yield from team.process(jobs)
        finally:
            team.stop()


def local_engine(workers: int) -> Engine:
    """The engine for so many processes on this machine.

    Args:
        workers: 1 works in this process.

    Returns:
        An engine.

    Raises:
        InvalidOption: Fewer than one worker, or far too many.
    """
    check_workers(workers)
    return InProcess() if workers == 1 else LocalProcesses(workers)


def check_workers(workers: int) -> None:
    """Raise unless so many processes can be asked for.

    Args:
        workers: Number of processes.

    Raises:
        InvalidOption: Fewer than one, or far too many.
    """
    if not 1 <= workers <= MAX_WORKERS:
        raise InvalidOption(f"{workers} workers: choose 1..{MAX_WORKERS}")


class _Team:
    """The processes of one call, by the pipe that leads to them, and the keys of what each of them has."""

    def __init__(self, things: Things) -> None:
        self.things = things
        self.members: dict[Connection, BaseProcess] = {}
        self.having: dict[Connection, set[str]] = {}

    def start(self, size: int, work: Callable[..., Any]) -> None:
        context = get_context("spawn")
        for _ in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            with _interrupts_blocked():
                process.start()
            theirs.close()  # now the pipe ends with the worker
            self.members[ours], self.having[ours] = process, set()
        for pipe in self.members:
            self._send(pipe, work, "before the first batch")

    def process(self, jobs: Sequence[Any]) -> Iterator[Any]:
        todo = deque(jobs)
        doing: dict[Any, tuple[Any, int]] = {}  # per pipe its job, and the results that have come

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
                else:
                    assign(pipe)

    def _send(self, pipe: Connection, content: object, label: str) -> None:
        try:
            # plain pickle: tensors travel as bytes, not through the small shared memory of containers
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
            process.join()

    def _obituary(self, pipe: Connection, label: str) -> str:
        process = self.members[pipe]
        process.join(timeout=5)
        code = process.exitcode
        how = (
            f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with code {code}"
        )
        cure = "fewer workers need less memory" if code == -signal.SIGKILL else "what it wrote is above"
        return f"{label}: the worker {how} ({cure}); the records so far are safe, run the same command again"


def _serve(pipe: Connection) -> None:
    """Body of a worker: jobs in, results out, until the pipe is closed."""
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()
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
                    pipe.send_bytes(pickle.dumps(("result", result)))
            except Exception as error:
                error.add_note(traceback.format_exc())
                pipe.send_bytes(pickle.dumps(("error", error)))
            else:
                pipe.send_bytes(pickle.dumps(("done", None)))
    except (EOFError, ConnectionError):
        return


def _end_with_parent() -> None:
    """A parent that is killed closes no pipe that a busy worker looks at."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Children inherit the mask: Ctrl-C is for the parent, which stops them."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
