"""Deterministic, offline, single-minded tests."""

import os
import socket
import sys
from pathlib import Path

import pytest
import torch

collect_ignore_glob = ["golden/*"]  # programs for environments with Sionna or deepinv
ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
sys.path.insert(0, str(ROOT / "tests"))  # for `import instances`

os.environ.setdefault("TORCH_HOME", str(SHARED / "torch-home"))
torch.set_num_threads(int(os.environ.get("SEMCOM_TEST_THREADS", "1")))
torch.set_default_dtype(getattr(torch, os.environ.get("SEMCOM_TEST_DTYPE", "float32")))  # a caller's choice


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: object) -> None:
        if self.family == socket.AF_UNIX:  # other processes of this machine
            return connect(self, address)  # pyright: ignore
        raise RuntimeError(f"a test tried to reach {address}: the default run is offline")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def shared_data() -> Path:
    """The folder with Kodak and the other shared sets; the test is skipped where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("no shared data beside the repository")
    return SHARED / "data"
