"""Memory: what is available, what is needed, and refusals in one line before work starts."""

import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from channels import NamedStreams
from semcom import names, process_memory
from semcom.budget import Budget
from semcom.data import load_image
from semcom.errors import InsufficientMemory
from semcom.metrics import LPIPS, PSNR
from semcom.metrics.metric import measure
from semcom.process_memory import GIB, available_bytes, is_out_of_memory, require_memory, sending_bytes


def in_groups(folder: Path, groups: dict[str, dict[str, str]]) -> None:
    for group, files in groups.items():
        (folder / group).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / group / name).write_text(text)


def test_the_least_of_all_limits_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees of both versions of control groups; a limit of an outer group holds for the inner ones."""
    monkeypatch.setattr(process_memory, "_CGROUPS", tmp_path)
    lines = {
        "/proc/meminfo": ["MemTotal: 9000000 kB", "MemAvailable: 8000000 kB"],
        "/proc/self/statm": ["10 5"],
    }
    real = process_memory._lines

    def told(path: Path) -> list[str]:
        return lines.get(str(path), []) if str(path).startswith("/proc") else real(path)

    monkeypatch.setattr(process_memory, "_lines", told)
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    assert soft == resource.RLIM_INFINITY
    assert available_bytes() == 8000000 * 1024
    lines["/proc/self/cgroup"] = ["0::/outer/inner"]
    in_groups(
        tmp_path,
        {
            "outer": {
                "memory.max": "1000\n",
                "memory.current": "700\n",
                "memory.stat": "inactive_file 100\n",
            },
            "outer/inner": {"memory.max": "max\n", "memory.current": "600\n"},
        },
    )
    assert available_bytes() == 1000 - 700 + 100
    lines["/proc/self/cgroup"] = ["4:memory:/job", "3:cpu:/", "0::/outer/inner"]
    one = {
        "memory.limit_in_bytes": "500",
        "memory.usage_in_bytes": "450",
        "memory.stat": "total_inactive_file 7",
    }
    in_groups(tmp_path / "memory", {"job": one})
    assert available_bytes() == 57
    lines.clear()
    monkeypatch.setattr(process_memory, "_CGROUPS", tmp_path / "none")
    assert available_bytes() is None


def test_a_limit_of_the_process_counts() -> None:
    code = "from semcom.process_memory import available_bytes; print(available_bytes())"
    limit = 3 * GIB
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert 0 < int(done.stdout) < limit


def test_what_fits_is_let_through_and_what_does_not_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_memory, "available_bytes", lambda: 2 * GIB)
    require_memory(2 * GIB, "this", "take less")
    with pytest.raises(InsufficientMemory) as caught:
        require_memory(3 * GIB, "this", "take less")
    assert str(caught.value) == "this needs about 3.0 GiB of memory, 2.0 GiB are available; take less"
    monkeypatch.setattr(process_memory, "available_bytes", lambda: None)
    require_memory(1e18, "this", "take less")


def test_estimates_grow_with_all_that_is_held() -> None:
    small = sending_bytes((None,), "image", 1000, 100, 1)
    assert small == 90 * 1000 + 100 * 100
    assert sending_bytes((None, LPIPS("squeeze")), "image", 1000, 100, 1) == 270 * 1000 + 100 * 100
    assert sending_bytes((None,), "image", 1000, 100, 5) == small + 4 * (12 * 1000 + 100 * 100)
    assert sending_bytes((None,), "text", 1000, 100, 5) == 5 * 100 * 100
    assert sending_bytes((None,), "a modality of others", 10**12, 0, 1) == 0


def test_every_entry_refuses_before_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture whose reading takes 30 MB, sending 75 MB, LPIPS 260 MB: ever less is available."""
    Image.new("RGB", (1000, 750)).save(tmp_path / "x.png")
    monkeypatch.setattr(process_memory, "ASKED", 0)
    left = [10**6]
    monkeypatch.setattr(process_memory, "available_bytes", lambda: left[0])
    with pytest.raises(
        InsufficientMemory, match=r"x.png: reading an image of 1000x750 needs .*; crop or scale it$"
    ):
        load_image(tmp_path / "x.png")
    left[0] = 50 * 10**6
    x = load_image(tmp_path / "x.png").x
    scheme, budget = names.scheme("softcast"), Budget.from_rho("1/12", x.numel())
    send = (budget, names.channel("awgn"), 10.0, NamedStreams(0, ("x",)))
    with pytest.raises(
        InsufficientMemory, match=r"softcast: an item of 2,250,000 values in 187,500 channel uses, 1"
    ):
        scheme.transmit(x, *send)
    with pytest.raises(
        InsufficientMemory, match=r"psnr_db of 2,250,000 values needs .*, or leave psnr_db out$"
    ):
        measure(PSNR(), x, x)
    left[0] = 250 * 10**6
    assert measure(PSNR(), x, x) == 100
    with pytest.raises(InsufficientMemory, match="lpips_squeeze of 2,250,000 values"):
        measure(LPIPS("squeeze"), x, x)
    assert len(scheme.transmit(x, *send)) == 1


@pytest.mark.parametrize("spacing", [99_999_999, 2**40])
def test_a_pilot_spacing_beyond_the_symbols_takes_no_memory(spacing: int) -> None:
    """Two pilots at both ends, whatever the spacing: no more than those of a spacing of all symbols."""
    x = torch.exp(1j * torch.arange(300.0))[None]
    received = []
    for name in (f"pilots:{spacing}/rayleigh:64", "pilots:300/rayleigh:64"):
        channel = names.channel(name)
        assert channel.overhead(300) == 2
        received.append(channel.apply(x, channel.draw(300, 10.0, NamedStreams(0, ("x",)))))
    for field in ("y", "h", "noise_var"):
        assert torch.equal(getattr(received[0], field), getattr(received[1], field))


def test_refused_memory_is_known_by_its_errors() -> None:
    with pytest.raises(MemoryError) as numpy_error:
        np.empty(2**60, np.uint8)
    with pytest.raises(RuntimeError, match="memory") as torch_error:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(numpy_error.value)
    assert is_out_of_memory(torch_error.value)
    assert not is_out_of_memory(RuntimeError("shape"))


LIMITED = """
import resource, sys
from pathlib import Path
from semcom.cli import main
limit = int(sys.argv[1]) << 20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
def test_the_command_under_a_limit_ends_in_one_line(tmp_path: Path) -> None:
    Image.new("RGB", (13000, 13000), "teal").save(tmp_path / "huge.png", compress_level=1)
    Image.new("RGB", (6000, 5000), "teal").save(tmp_path / "large.png", compress_level=1)
    for name, words in {"huge.png": "reading an image", "large.png": "softcast: an item"}.items():
        send = ["send", str(tmp_path / name), "--scheme", "softcast", "--snr", "10", "--metrics", "psnr_db"]
        done = subprocess.run(
            [sys.executable, "-c", LIMITED, "7000", *send],
            capture_output=True,
            text=True,
            timeout=300,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 2
        assert words in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr


def test_peak_of_a_process_is_its_own() -> None:
    """A process of a few MB, started by one of 600 MB."""
    told = "from semcom.process_memory import peak_bytes; print(peak_bytes())"
    large = (
        f"import subprocess, sys; held = b'1' * (600 << 20); subprocess.run([sys.executable, '-c', {told!r}])"
    )
    done = subprocess.run([sys.executable, "-c", large], capture_output=True, text=True, check=True)
    assert 1 << 20 < int(done.stdout) < 400 << 20


PEAK = """
import sys
from pathlib import Path
import torch
from channels import NamedStreams
from semcom import names
from semcom.budget import Budget
from semcom.process_memory import sending_bytes

def peak():  # of this process alone; ru_maxrss knows that of its parent too
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

scheme, channel = names.scheme(sys.argv[1]), names.channel("rayleigh:64")
def sent(side):
    x = torch.rand(1, 3, side // 16, side // 16, generator=torch.Generator().manual_seed(0))
    x = torch.nn.functional.interpolate(x, (side, side), mode="bilinear").contiguous()
    budget = Budget.from_rho(sys.argv[2], x.numel())
    before = peak()
    scheme.transmit(x, budget, channel, 10.0, NamedStreams(0, ("x",)))
    users = (scheme.transmission, scheme.receiver)
    return (peak() - before) / sending_bytes(users, "image", x.numel(), budget.channel_uses, 1)

sent(64)
print(sent(1024))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "rho"),
    [("softcast", "1/48"), ("softcast", "1"), ("deepjscc", "1/12"), ("jpeg+ldpc:mcs9", "1/4")],
)
def test_estimates_are_within_a_factor_of_two(scheme: str, rho: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PEAK, scheme, rho],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert 0.5 < float(done.stdout) < 2


FREED = """
from semcom.process_memory import give_back

def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) // 1024

blocks = [bytes(4000) for _ in range(40_000)]  # small enough for the heap, which shrinks at its end alone
before, last = resident(), blocks[-1]
del blocks
freed = resident()
give_back()
print(before, freed, resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators keep other pieces")
def test_freed_memory_is_given_back() -> None:
    """Blocks under one that is in use stay with the process until they are given back."""
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    before, freed, after = map(int, done.stdout.split())
    assert before - freed < 80  # MiB, of 160
    assert before - after > 140
