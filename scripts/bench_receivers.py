"""Network calls, seconds and quality of every receiver on one picture of 512x512, one core.

Run:     TORCH_HOME=../shared/torch-home python scripts/bench_receivers.py
         python scripts/bench_receivers.py --image photo.jpg --schemes deepjscc+ddrm:8,deepjscc+ddrm:100
Cost:    about 10 minutes of one core
Expect:  see results/bench_receivers/README.md; calls times the time of one call, whatever the receiver

One JSON row per scheme: `receiver`, `calls` of the network (vector-Jacobian products count), `seconds` from
what arrived to the picture, `lpips_squeeze`, `psnr_db`, and `peak_memory_mb` of a process of its own. Among
them a run of 100 steps of the paper's system (deepjscc-range+ddnm, Yilmaz et al.) with the same network.
Without LPIPS weights that column is null.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from channels import Streams, transmit
from semcom import names
from semcom.budget import Budget
from semcom.data import Item, load_image, sample_photos
from semcom.engine import LocalProcesses, Things
from semcom.errors import InvalidOption, MissingWeights
from semcom.experiment import run_script, write
from semcom.observation import Observation
from semcom.scheme import CallsNetwork, Scheme
from semcom.sweep import noise_streams, peak_memory_mb
from semcom.transmission import ChannelKnowledge, Genie

SCHEMES = (
    "deepjscc",
    "deepjscc-perceptual",
    "deepjscc-range+ddnm:100",
    "deepjscc-range+diffpir:8",
    "deepjscc+ddnm:100",
    "deepjscc+ddrm:8",
    "deepjscc+diffpir:4",
    "deepjscc+diffpir:8",
    "deepjscc+diffpir:100",
    "deepjscc+posterior:4",
    "deepjscc+loop:4",
    "deepjscc+dps:50",
    "envelope:csit-average+refine",
)
CHANNEL = "awgn"


@dataclass(frozen=True)
class Run:
    """A scheme to be timed in a process of its own."""

    scheme: str
    item: Item
    rho: str
    snr_db: float
    device: str = "cpu"

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing that several runs share."""
        return ()

    @property
    def passing(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def label(self, results: int) -> str:
        """For messages."""
        return self.scheme


def timed(run: Run, things: Things) -> Iterator[dict[str, object]]:
    """One row; the network is loaded and warm before the clock runs."""
    scheme, shape = names.scheme(run.scheme, device=run.device), tuple(run.item.x.shape)
    rng = noise_streams(run.item.id, 0)
    observation = observed(scheme, run, rng.fork("channel"))
    torch.nn.functional.conv2d(torch.zeros(1, 8, 64, 64), torch.zeros(8, 8, 3, 3))  # first use takes longer
    start = time.perf_counter()
    x_hat = scheme.receiver(observation, shape, rng.fork("receiver"))
    seconds = time.perf_counter() - start
    x_hat = scheme.modality.cover(shape) if x_hat is None else x_hat
    try:
        lpips = names.metric("lpips_squeeze", device=run.device)(x_hat, run.item.x)
    except MissingWeights:
        lpips = None
    yield {
        "receiver": scheme.name,
        "calls": scheme.receiver.nfe if isinstance(scheme.receiver, CallsNetwork) else 0,
        "seconds": round(seconds, 3),
        "lpips_squeeze": None if lpips is None else round(lpips, 4),
        "psnr_db": round(names.metric("psnr_db")(x_hat, run.item.x), 3),
        "peak_memory_mb": round(peak_memory_mb()),
    }


def observed(scheme: Scheme, run: Run, rng: Streams) -> Observation:
    """What the receiver knows of the picture."""
    transmission, channel = scheme.transmission, names.channel(CHANNEL)
    if isinstance(transmission, Genie):
        raise InvalidOption(f"{scheme.name}: a bound, not a system; leave it out")
    uses = channel.data_uses(Budget.from_rho(run.rho, run.item.x.numel()).channel_uses)
    known = ChannelKnowledge(channel, run.snr_db) if transmission.csit == "average" else None
    sent = transmission.send(run.item.x, uses, known)
    if sent.cause:
        return Observation(None)
    received = transmit(channel, sent.symbols, run.snr_db, rng)
    (observation,) = transmission.receive(received, tuple(run.item.x.shape), uses)
    return observation


def main() -> None:
    """Parse, run one by one, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", type=Path, help="default: the astronaut of scikit-image, 512x512")
    parser.add_argument("--out", type=Path, default=Path("results/bench_receivers"))
    parser.add_argument("--schemes", default=",".join(SCHEMES))
    parser.add_argument("--rho", default="1/192")
    parser.add_argument("--snr", type=float, default=5.0, help="dB")
    parser.add_argument("--device", default="cpu", help="where networks run: cpu or cuda")
    arguments = parser.parse_args()
    item = sample_photos()[0] if arguments.image is None else load_image(arguments.image)
    rows: list[dict[str, object]] = []
    for name in arguments.schemes.split(","):
        run = Run(name, item, arguments.rho, arguments.snr, arguments.device)
        rows += LocalProcesses(1).map([run], timed, {})
        print(json.dumps(rows[-1]), flush=True)
    write(arguments.out / "rows.json", json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    run_script(main)
