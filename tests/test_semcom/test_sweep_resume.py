"""Killed at any moment, resumed with the same call: nothing lost, nothing twice, nothing different."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from toys import UNCODED, MeanSquaredError, Uncoded, pictures, resume

from channels import AWGN
from semcom.results import TIMING, ResultStore
from semcom.sweep import Sweep

TESTS = Path(__file__).parents[1]
KILLS = 20

SWEEP = Sweep(
    schemes=(
        replace(UNCODED, transmission=Uncoded(seconds=0.002)),
        replace(UNCODED, name="adaptive", transmission=Uncoded("average")),
    ),
    channels=(AWGN(),),
    items=pictures(6),
    snr_db=(0.0, 5.0, 10.0),
    rho=("1/2", "1/3", 0.7),
    metrics=(MeanSquaredError(),),
    seeds=tuple(range(8)),
)
ROWS = 2 * 6 * 3 * 3 * 8

Start = Callable[[Path], tuple[BaseProcess, Connection]]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Begin the sweep in a new process, forked from a server that has imported everything already."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["toys"])
    monkeypatch.setenv("PYTHONPATH", f"{TESTS}{os.pathsep}{TESTS.parent}")  # the server has no other path
    processes: list[BaseProcess] = []

    def begin(path: Path) -> tuple[BaseProcess, Connection]:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=resume, args=(SWEEP, path, theirs))
        process.start()
        theirs.close()
        processes.append(process)
        return process, ours

    yield begin
    for process in processes:
        process.kill()
        process.join()


def frame(path: Path):
    with ResultStore(path, read_only=True) as store:
        return store.frame().drop(columns=list(TIMING))


@pytest.mark.slow
def test_killed_at_20_moments_equals_uninterrupted(tmp_path: Path, start: Start) -> None:
    import pandas as pd

    path, moments, rows = tmp_path / "killed.sqlite", random.Random(2), [0]
    for kill in range(KILLS):
        process, told = start(path)
        if kill % 4:  # every fourth is killed while it opens the store and plans
            assert told.recv() == "running"
        time.sleep(moments.uniform(0, 0.06))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "the sweep was over before its last kill"
        with ResultStore(path) as store:
            rows.append(len(store))
    assert rows == sorted(rows), "rows were lost"
    assert len(set(rows)) > KILLS / 2, "the sweeps that were killed did nothing"
    assert 0 < rows[-1] < ROWS
    for name in (path, tmp_path / "whole.sqlite"):
        told = start(name)[1]
        assert [told.recv(), told.recv()] == ["running", "finished"]
    assert len(frame(path)) == ROWS
    pd.testing.assert_frame_equal(frame(path), frame(tmp_path / "whole.sqlite"), rtol=0, atol=1e-5)


def test_two_processes_on_one_store(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "shared.sqlite"
    told = [start(path)[1] for _ in range(2)]
    words = [[pipe.recv()] for pipe in told]
    for said, pipe in zip(words, told, strict=True):
        if said == ["running"]:
            said.append(pipe.recv())
    refusal = f"{path} is in use by another run; wait until it ends, or name another store"
    assert sorted(words) == sorted([["running", "finished"], [refusal]])
    assert len(frame(path)) == ROWS
