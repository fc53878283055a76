"""One training by two processes through accelerate, against one process with the whole batch."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from channels import SharedStreams
from semcom.errors import InvalidOption
from semcom.training.loop import Settings, Training
from semcom.training.processes import Processes, own_device

ROOT = Path(__file__).parents[2]
STOP = 25  # steps until a signal, of 50 or so


class Ticks:
    """A clock of one second a reading; other processes than the main one have a faster one, to no effect."""

    def __init__(self, rank: int) -> None:
        self.now, self.rate = 0.0, 1.0 + rank

    def __call__(self) -> float:
        self.now += self.rate
        return self.now


def train(folder: Path, stop: int = 0) -> dict[str, Any]:
    """The share of this process in a run over a fixed sequence of data, and what came of it."""
    rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    data = torch.randn(256, 5, generator=torch.Generator().manual_seed(3))
    drawn: list[float] = []

    def sample(batch: int, generator: torch.Generator) -> Tensor:
        drawn.append(float(torch.rand((), generator=generator)))
        rows = torch.arange(batch * count) + training.step * batch * count
        return data[rows[rank::count] % len(data)]

    def loss(network: nn.Sequential, x: Tensor, rng: SharedStreams | None) -> Tensor:
        if rng is not None and training.step == stop > 0 and rank == count - 1:
            os.kill(os.getpid(), signal.SIGTERM)  # one process alone is told to stop
        prediction = network[2](network[1](network[0](x)))  # as recipes do, not by the network's forward
        return (prediction - x[:, :1] * x[:, 1:2]).square().mean()

    def score(network: nn.Sequential) -> float:
        return -float(loss(network, data, None)) if rank == 0 else math.nan

    torch.manual_seed(rank)  # the main process's initial weights count
    network = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 1))
    settings = Settings(60.0, 8, 1e-2, validate_seconds=10.0)
    training = Training(network, loss, sample, score, settings, folder, Ticks(rank))
    try:
        training.run()
    except KeyboardInterrupt:
        assert stop
    return {
        "step": training.step,
        "weights": [p.tolist() for p in training.network.parameters()],
        "average": [p.tolist() for p in training.average.parameters()],
        "curve": [[point.seconds, point.loss, point.score] for point in training.curve],
        "drawn": drawn,
    }


def as_one_of_two(folder: Path) -> None:
    """What each of the two processes does: a run, and one that is stopped and resumed."""
    torch.set_num_threads(1)
    runs = {
        "whole": train(folder / "whole"),
        "stopped": train(folder / "parts", STOP),
        "resumed": train(folder / "parts"),
    }
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(runs))
    torch.distributed.barrier()  # neither leaves while the other still reads


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes ended with, started as torchrun and `accelerate launch --multi_gpu` do."""
    pytest.importorskip("accelerate", reason="accelerate is not installed (extra: cluster)")
    folder = tmp_path_factory.mktemp("pair")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    launch = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            env={**os.environ, **here, **launch, "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    try:
        for process in started:
            _, errors = process.communicate(timeout=240)
            assert process.returncode == 0, errors
    finally:
        for process in started:
            process.kill()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in "01"]


def test_two_processes_equal_one_with_the_whole_batch(pair: list[dict[str, Any]], tmp_path: Path) -> None:
    alone = train(tmp_path)
    main, other = (process["whole"] for process in pair)
    assert main["step"] == other["step"] == alone["step"] > 40
    assert main["weights"] == other["weights"]
    assert main["curve"] == other["curve"]
    assert main["drawn"] != other["drawn"]  # each process has randomness of its own
    assert len(main["curve"]) == len(alone["curve"]) > 4
    for name in ("curve", "weights", "average"):
        for a, b in zip(main[name], alone[name], strict=True):
            torch.testing.assert_close(torch.tensor(a), torch.tensor(b), rtol=1e-5, atol=1e-5)


def test_two_processes_stop_together_and_resume_where_they_were(pair: list[dict[str, Any]]) -> None:
    for process in pair:
        whole, stopped, resumed = (process[run] for run in ("whole", "stopped", "resumed"))
        assert stopped["step"] == STOP + 1
        assert stopped["drawn"] + resumed["drawn"] == whole["drawn"]
        for name in ("step", "weights", "average", "curve"):
            assert resumed[name] == whole[name]


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    class Three:
        num_processes = 3

    with pytest.raises(InvalidOption, match="batch of 16 over 3 processes"):
        Processes(torch.device("cpu"), Three()).share(16)
    assert Processes(torch.device("cpu"), Three()).share(15) == 5


def test_each_process_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_device("cuda") == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert own_device("cuda") == "cuda:2"
    assert own_device("cuda:0") == "cuda:0"
    assert own_device("cpu") == "cpu"


def test_several_processes_without_accelerate_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(InvalidOption, match="needs accelerate"):
        Processes.launched(torch.device("cpu"))


if __name__ == "__main__":
    as_one_of_two(Path(sys.argv[1]))
