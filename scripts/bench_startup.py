"""CPU time of commands that do little, against that of `import torch` in the same run.

Run:     python scripts/bench_startup.py
Cost:    about a minute of one core
Expect:  `--version` and errors below 0.3 s, `send --scheme deepjscc` of 192x128 pixels below 2 times
         `import torch`
"""

import argparse
import os
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from semcom.data import sample_photos
from semcom.modalities import IMAGE

ROOT = Path(__file__).parents[1]
COMMANDS = (
    ("-c", "import torch"),
    ("-m", "semcom", "--version"),
    ("-m", "semcom", "--help"),
    ("-m", "semcom", "send", "nowhere.png", "--snr", "5"),
    ("-m", "semcom", "schemes"),
    ("-m", "semcom", "send", "photo.png", "--snr", "5", "--scheme", "softcast"),
    ("-m", "semcom", "send", "photo.png", "--snr", "5", "--scheme", "deepjscc"),
    ("-m", "semcom", "send", "photo.png", "--snr", "5", "--scheme", "jpeg+ldpc"),
    ("-m", "semcom", "send", "photo.png", "--snr", "5", "--scheme", "learned+ldpc"),
)


def cpu_seconds(command: tuple[str, ...], folder: Path) -> float:
    """CPU time of one run of the interpreter, which other load on the machine does not change much."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs per command; the median is shown")
    repeats = parser.parse_args().repeats
    with TemporaryDirectory() as folder:
        place = Path(folder)
        IMAGE.write(sample_photos((192, 128))[0].x, place / "photo.png")
        for command in COMMANDS:  # compiles what is cached
            cpu_seconds(command, place)
        seconds = [median(cpu_seconds(command, place) for _ in range(repeats)) for command in COMMANDS]
    for command, spent in zip(COMMANDS, seconds, strict=True):
        print(f"{spent:6.2f} s  {spent / seconds[0]:5.2f}  {' '.join(command[1:])}")


if __name__ == "__main__":
    main()
