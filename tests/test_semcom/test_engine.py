"""Engines: the same results wherever jobs are worked on; things travel once; what goes wrong is one line."""

import os
import pickle
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from jobs import Sum, Travelling, added, dying, failing, holding, warning
from toys import UNCODED, MeanSquaredError, pictures

from channels import AWGN
from semcom import names
from semcom.engine import Engine, InProcess, Job, LocalProcesses, Things, Work, local_engine
from semcom.errors import InvalidOption, SweepError
from semcom.metrics import PSNR
from semcom.results import TIMING, Record, ResultStore
from semcom.sweep import Sweep, run
from semcom.terminal import quiet_libraries


@dataclass(frozen=True)
class Threads:
    """An engine of the user's: jobs in threads, whose results come when their job is done."""

    workers: int = 2

    def map(self, jobs: Sequence[Job], work: Work[Any], things: Things) -> Iterator[Any]:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(self.workers) as pool:
            for results in pool.map(lambda job: list(work(job, things)), jobs):
                yield from results


ROOT = Path(__file__).parents[2]


ENGINES = {"one": InProcess(), "two": LocalProcesses(2), "threads": Threads()}


def things_of(log: Path, jobs: Sequence[Sum]) -> dict[str, Travelling]:
    keys = dict.fromkeys(key for job in jobs for key in job.needs)
    return {key: Travelling(10**i, log) for i, key in enumerate(keys)}


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_every_result_comes_once_whatever_the_engine(engine: Engine, tmp_path: Path) -> None:
    assert isinstance(engine, Engine)
    jobs = [Sum(i) for i in range(10)]
    things = things_of(tmp_path / "log", jobs)
    results = list(engine.map(jobs, added, things))
    assert sorted(results) == [(i, part, 1 + 10 ** (1 + i // 4)) for i in range(10) for part in range(3)]
    for number in range(10):
        assert [part for i, part, _ in results if i == number] == [0, 1, 2], "results of a job are in order"
    assert list(engine.map([], added, things)) == []


def test_a_thing_travels_to_a_worker_once(tmp_path: Path) -> None:
    jobs = [Sum(i) for i in range(12)]
    things = things_of(tmp_path / "log", jobs)
    assert len(list(LocalProcesses(2).map(jobs, added, things))) == 36
    packed = [int(line) for line in (tmp_path / "log").read_text().split()]
    assert packed.count(1) == 2, "what all jobs need: once to each of two workers"
    assert all(1 <= packed.count(10**i) <= 2 for i in (1, 2, 3))
    alone = things_of(tmp_path / "alone", jobs)
    assert len(list(LocalProcesses(1).map(jobs, added, alone))) == 36
    assert sorted((tmp_path / "alone").read_text().split()) == ["1", "10", "100", "1000"]


def test_a_worker_forgets_what_passes_and_keeps_the_rest(tmp_path: Path) -> None:
    jobs = [Sum(i) for i in range(12)]
    results = list(LocalProcesses(1).map(jobs, holding, things_of(tmp_path / "log", jobs)))
    assert len({process for process, _ in results} | {os.getpid()}) == 2
    assert [held for _, held in results] == [("common", f"own {i // 4}") for i in range(12)]


def test_jobs_come_back_to_what_was_forgotten(tmp_path: Path) -> None:
    jobs = [Sum(0), Sum(4), Sum(0)]
    results = list(LocalProcesses(1).map(jobs, added, things_of(tmp_path / "log", jobs)))
    assert [total for _, _, total in results] == [11] * 3 + [101] * 3 + [11] * 3


def test_death_of_a_worker_is_told_by_what_it_worked_on(tmp_path: Path) -> None:
    jobs = [Sum(i) for i in range(4)]
    message = (
        r"^sum 2, part 1: the worker was killed by SIGKILL \(fewer workers .*; the records so far are safe"
    )
    with pytest.raises(SweepError, match=message):
        list(LocalProcesses(2).map(jobs, partial(dying, victim=2), things_of(tmp_path / "log", jobs)))


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_what_work_raises_comes_out_as_it_is(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption) as error:
        list(engine.map([Sum(5)], failing, things_of(tmp_path / "log", [Sum(5)])))
    assert str(error.value) == "number 5 is not welcome"


def test_warnings_of_workers_are_as_quiet_as_those_of_the_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each once, as the filters of this process have it; none becomes an error, as none of `run` here."""
    jobs = [Sum(number) for number in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "number 1")
        with quiet_libraries():
            assert len(list(LocalProcesses(2).map(jobs, warning, things_of(tmp_path / "log", jobs)))) == 9
    assert sorted(capfd.readouterr().err.splitlines()) == [
        "semcom: DeprecationWarning: number 0",
        "semcom: DeprecationWarning: number 2",
        "semcom: UserWarning: mind this",
    ]


def test_what_cannot_be_pickled_is_one_line_and_stays_here(tmp_path: Path) -> None:
    things = {**things_of(tmp_path / "log", [Sum(0)]), "common": lambda: 0}
    cure = "cannot be handed to another process .*; make it importable, or take 1 worker$"
    with pytest.raises(SweepError, match=f"^sum 0, part 0: {cure}") as error:
        list(LocalProcesses(2).map([Sum(0)], added, things))
    assert "\n" not in str(error.value)
    with pytest.raises(SweepError, match=f"^before the first batch: {cure}"):
        list(LocalProcesses(2).map([Sum(0)], lambda job, things: iter(()), things))
    assert [held for _, held in InProcess().map([Sum(0)], holding, things)] == [("common", "own 0")]


@pytest.mark.parametrize("workers", [0, -1, 10**6])
def test_number_of_workers_is_checked(workers: int) -> None:
    for make in (local_engine, LocalProcesses):
        with pytest.raises(InvalidOption, match=r"workers: choose 1\.\.1024"):
            make(workers)


def test_local_engine_of_one_worker_is_this_process() -> None:
    assert local_engine(1) == InProcess()
    assert local_engine(3) == LocalProcesses(3)
    assert [engine.workers for engine in (InProcess(), LocalProcesses(3))] == [1, 3]


# Sweeps


def records(sweep: Sweep, path: Path, engine: Engine) -> list[Record]:
    with ResultStore(path) as store:
        for _ in run(sweep, store, engine):
            pass
        return [replace(record, **dict.fromkeys(TIMING, 0.0)) for record in store.records()]


def test_a_sweep_is_the_same_on_every_engine(tmp_path: Path) -> None:
    schemes = (UNCODED, names.scheme("softcast"), names.scheme("jpeg+ldpc:mcs3"))
    channels = (AWGN(), names.channel("rayleigh:64"))
    sweep = Sweep(
        schemes, channels, pictures(3, side=32), (5.0, 15.0), ("1/2",), (MeanSquaredError(),), (0, 1)
    )
    one, *others = [records(sweep, tmp_path / f"{name}.sqlite", engine) for name, engine in ENGINES.items()]
    assert len(one) == 3 * 2 * 3 * 2 * 2
    assert all(other == one for other in others)


def test_records_do_not_depend_on_workers_or_threads(tmp_path: Path) -> None:
    """Bit for bit: sums by two threads differ from those by one in the last digits."""
    schemes = tuple(map(names.scheme, ("deepjscc", "deepjscc+ddrm:2", "softcast", "jpeg+ldpc")))
    metrics = tuple(map(names.metric, ("psnr_db", "ms_ssim", "swd")))
    sweep = Sweep(schemes, (names.channel("rayleigh:64"),), pictures(2, side=128), (5.0,), ("1/12",), metrics)
    found: list[list[Record]] = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(records(sweep, tmp_path / f"{threads}.sqlite", InProcess()))
            assert torch.get_num_threads() == threads, "the caller's number is left alone"
    finally:
        torch.set_num_threads(before)
    found.append(records(sweep, tmp_path / "workers.sqlite", LocalProcesses(2)))
    one, two, workers = ([comparable(record) for record in each] for each in found)
    assert one == two == workers
    assert len(one) == 4 * 2


def comparable(record: Record) -> Record:
    """Without what tells of the process, not of the item."""
    return replace(record, numbers={k: v for k, v in record.numbers.items() if k != "peak_memory_mb"})


# Ctrl-C, and scripts


def script(text: str, folder: Path) -> list[str]:
    path = folder / "script.py"
    path.write_text(text)
    return [sys.executable, str(path)]


ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}


def test_all_workers_leave_ctrl_c_to_their_parent(tmp_path: Path) -> None:
    """From their start on, in a process that has not started others before."""
    text = """
from pathlib import Path
from jobs import Sum, Travelling, deaf
from semcom.engine import LocalProcesses
if __name__ == "__main__":
    things = {key: 0 for key in ("common", "own 0")}
    print(list(LocalProcesses(2).map([Sum(0), Sum(1)], deaf, things)))
"""
    run = subprocess.run(script(text, tmp_path), env=ENVIRONMENT, capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("[True, True]\n", "")


RUN = """
from semcom import ResultStore, Sweep, names, run, sample_photos
from semcom.engine import LocalProcesses
def work():
    scheme, channel, metric = names.scheme("softcast"), names.channel("awgn"), names.metric("psnr_db")
    sweep = Sweep((scheme,), (channel,), sample_photos((32, 32)), (5.0,), ("1/4",), (metric,))
    with ResultStore("records.sqlite") as store:
        print(sum(1 for _ in run(sweep, store, LocalProcesses(2))), "records")
"""


@pytest.mark.parametrize("main", ["work()", "import logging\nlog = logging.getLogger(__name__)\nwork()"])
def test_a_script_without_a_guard_is_told_so(main: str, tmp_path: Path) -> None:
    command = script(RUN + main, tmp_path)
    run = subprocess.run(command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.count("Traceback") == 1, "that of the script itself"
    last = run.stderr.splitlines()[-1]
    assert last.startswith("semcom.errors.SweepError: ")
    assert 'put what the script does under `if __name__ == "__main__":`, or take 1 worker' in last


def test_a_guard_in_vain_is_told_too(tmp_path: Path) -> None:
    """A worker that gets as far as to start workers of its own ends without a word."""
    text = """
from jobs import Sum, holding
from semcom.engine import LocalProcesses
if __name__ == "other":
    pass
print(list(LocalProcesses(2).map([Sum(0), Sum(1)], holding, {"common": 0, "own 0": 0})))
"""
    run = subprocess.run(script(text, tmp_path), env=ENVIRONMENT, capture_output=True, text=True)
    assert run.stderr.count("Traceback") == 1
    assert "every worker runs the whole script again, which starts workers; put what" in run.stderr


@pytest.mark.slow
def test_a_script_with_a_guard_runs(tmp_path: Path) -> None:
    command = script(RUN + 'if __name__ == "__main__":\n    work()', tmp_path)
    run = subprocess.run(command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.split()[1] == "records"


@pytest.mark.slow
def test_ctrl_c_ends_a_sweep_by_two_workers_in_one_line(tmp_path: Path) -> None:
    """Whenever it comes; the records so far are kept."""
    command = [
        sys.executable,
        "-m",
        "semcom",
        "sweep",
        "--schemes",
        "softcast,jpeg+ldpc:mcs3",
        "--out",
        "out",
    ]
    command += ["--snr", "0:20:1", "--seeds", "40", "--workers", "2", "--metrics", "psnr_db"]
    kept = 0
    for seconds in (6.0, 9.0, 14.0, 22.0):
        process = subprocess.Popen(
            command, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(seconds)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes
        _, told = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in told
        assert told.rstrip().endswith("semcom: error: interrupted")
        if (tmp_path / "out" / "records.sqlite").is_file():
            with ResultStore(tmp_path / "out" / "records.sqlite", read_only=True) as store:
                assert len(store) >= kept
                kept = len(store)
    assert kept > 0


@dataclass(frozen=True)
class Weighed:
    """Packs all jobs as they would travel, without what they need, and works on none."""

    bytes_of_jobs: list[int]
    workers: int = 2

    def map(self, jobs: Sequence[Any], work: Work[Any], things: Things) -> Iterator[Any]:
        self.bytes_of_jobs.extend(len(pickle.dumps(job)) // len(job.batches) for job in jobs)
        return iter(())


def test_a_batch_travels_without_networks_and_pictures(tmp_path: Path) -> None:
    """The things are megabytes; what is sent per batch is less than 100 kB."""
    schemes = tuple(map(names.scheme, ("avif+ldpc", "softcast", "deepjscc", "deepjscc+ddrm:8")))
    items = pictures(2, side=256)
    sweep = Sweep(schemes, (AWGN(),), items, (0.0, 10.0), ("1/12", "1/48"), (PSNR(),), (0, 1))
    assert len(pickle.dumps(schemes[-1])) > 1_000_000
    weighed = Weighed([])
    with ResultStore(tmp_path / "records.sqlite") as store:
        assert list(run(sweep, store, weighed)) == []
    assert len(weighed.bytes_of_jobs) == 2 * 4
    assert max(weighed.bytes_of_jobs) < 100_000


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_sweep_on_a_gpu_gives_the_records_of_the_cpu(tmp_path: Path) -> None:
    found: dict[str, list[Record]] = {}
    for device in ("cpu", "cuda"):
        schemes = tuple(names.scheme(name, device=device) for name in ("deepjscc", "deepjscc+diffpir:4"))
        sweep = Sweep(schemes, (AWGN(),), pictures(2, side=64), (0.0, 10.0), ("1/12",), (PSNR(),))
        found[device] = records(sweep, tmp_path / f"{device}.sqlite", InProcess())
    assert len(found["cpu"]) == len(found["cuda"]) == 2 * 2 * 2
    for a, b in zip(found["cpu"], found["cuda"], strict=True):
        assert (a.scheme, a.item, a.snr_db, a.channel_uses) == (b.scheme, b.item, b.snr_db, b.channel_uses)
        assert b.numbers["psnr_db"] == pytest.approx(a.numbers["psnr_db"], abs=0.01)
