"""Jobs over local processes: results come back one by one, and a death is told by the job's name."""

import os
import pickle
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from semcom.errors import InvalidOption, SweepError

MAX_WORKERS = 1024  # more than any machine this runs on; a typing error ends here


@runtime_checkable
class Job(Protocol):
    """A piece of work with several results. It travels to its worker by pickle."""

    def label(self, results: int) -> str:
        """What is being worked on when so many results have come."""
        ...


R = TypeVar("R")


def process(jobs: Sequence[Job], work: Callable[[Any], Iterator[R]], workers: int = 1) -> Iterator[R]:
    """Yield the results of all jobs as they come: in order with one worker, else in any order.

    Workers are new interpreters (spawn), with one torch thread each; they end with this process, however it
    ends. The generator ends them when it is closed.

    Args:
        jobs: What to do.
        work: How; sent to every worker once.
        workers: Processes; with 1, everything happens in this one.

    Raises:
        SweepError: A worker died; the message names what it was working on.
        InvalidOption: Fewer than one worker, or far too many.
        Exception: What `work` raised, with the worker's traceback as a note.
    """
    check_workers(workers)
    if workers == 1:
        for job in jobs:
            yield from work(job)
        return
    team = _Team()
    try:
        team.start(min(workers, len(jobs)), work)
        yield from team.process(jobs)
    finally:
        team.stop()


def check_workers(workers: int) -> None:
    """Raise unless so many processes can be asked for.

    Raises:
        InvalidOption: Fewer than one, or far too many.
    """
    if not 1 <= workers <= MAX_WORKERS:
        raise InvalidOption(f"{workers} workers: choose 1..{MAX_WORKERS}")


class _Team:
    """The processes of one call of `process`, by the pipe that leads to them."""

    def __init__(self) -> None:
        self.members: dict[Connection, BaseProcess] = {}

    def start(self, size: int, work: Callable[..., Any]) -> None:
        context = get_context("spawn")
        for _ in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            with _interrupts_blocked():
                process.start()
            theirs.close()  # now the pipe ends with the worker
            self.members[ours] = process
        for pipe in self.members:
            self._send(pipe, work, "before the first batch")

    def process(self, jobs: Sequence[Any]) -> Iterator[Any]:
        todo = deque(jobs)
        doing: dict[Any, tuple[Any, int]] = {}  # per pipe its job, and the results that have come

        def assign(pipe: Connection) -> None:
            doing.pop(pipe, None)
            if todo:
                job = todo.popleft()
                doing[pipe] = (job, 0)
                self._send(pipe, job, job.label(0))

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
            pipe.send_bytes(pickle.dumps(content))
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
        while True:
            job = pickle.loads(pipe.recv_bytes())
            try:
                for result in work(job):
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
