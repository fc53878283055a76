"""Jobs for engines that anyone can check by hand: importable by worker processes."""

import os
import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semcom.engine import Things
from semcom.errors import InvalidOption


@dataclass(frozen=True)
class Sum:
    """Adds what it needs, and says in which process."""

    number: int
    common: str = "common"
    count: int = 3

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.common, *self.passing)

    @property
    def passing(self) -> tuple[str, ...]:
        return (f"own {self.number // 4}",)

    def label(self, results: int) -> str:
        return f"sum {self.number}, part {results}"


@dataclass(frozen=True)
class Travelling:
    """A number that leaves a line in a file whenever it is packed."""

    value: int
    log: Path

    def __reduce__(self) -> tuple[Any, ...]:
        with self.log.open("a") as file:
            file.write(f"{self.value}\n")
        return Travelling, (self.value, self.log)


def added(job: Sum, things: Things) -> Iterator[tuple[int, int, int]]:
    for part in range(job.count):
        yield job.number, part, sum(things[key].value for key in job.needs)


def holding(job: Sum, things: Things) -> Iterator[tuple[int, tuple[str, ...]]]:
    yield os.getpid(), tuple(sorted(things))


def deaf(job: Sum, things: Things) -> Iterator[bool]:
    """Whether Ctrl-C is blocked from the start of this process on, and ignored later."""
    blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield blocked and signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def dying(job: Sum, things: Things, victim: int) -> Iterator[int]:
    yield job.number
    if job.number == victim:
        os.kill(os.getpid(), signal.SIGKILL)
    yield job.number


def failing(job: Sum, things: Things) -> Iterator[int]:
    yield 1
    raise InvalidOption(f"number {job.number} is not welcome")


class Odd(UserWarning):
    """A warning that only this module knows."""


def warning(job: Sum, things: Things) -> Iterator[int]:
    """Warns of the same at every part, and of its number."""
    for part in range(job.count):
        warnings.warn("mind this", Odd, stacklevel=1)
        warnings.warn_explicit("chatter", FutureWarning, warnings.__file__, 1)
        yield part
    warnings.warn(f"number {job.number}", DeprecationWarning, stacklevel=1)
