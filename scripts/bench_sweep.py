"""Speed of a sweep, and how much of it is our own bookkeeping.

Run:     python scripts/bench_sweep.py
Cost:    about a minute on one core
Expect:  overhead_share below 0.05

The photographs of scikit-image by a digital and an analog scheme over two channels. Bookkeeping is all wall
time outside transmitters, receivers and metrics: planning, fingerprints, noise names, the channel, checks,
records, the store. The last line is JSON: images delivered per second, and the share of bookkeeping.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from channels import Received, Streams
from semcom import names
from semcom.data import Item, sample_photos
from semcom.errors import InvalidOption
from semcom.metrics import Metric
from semcom.observation import Observation
from semcom.results import ResultStore
from semcom.scheme import Receiver, Scheme
from semcom.sweep import Sweep, run
from semcom.transmission import ChannelKnowledge, Csit, Genie, Sent, Transmission

RHO = ("1/12", "1/48")
SNR_DB = (0.0, 5.0, 10.0, 15.0, 20.0)


@dataclass(eq=False)
class Clock:
    """Adds up the time spent in what is not bookkeeping."""

    seconds: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of this block."""
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start


CLOCK = Clock()


@dataclass(frozen=True)
class TimedTransmission:
    """A transmission on the clock."""

    inner: Transmission

    @property
    def name(self) -> str:
        """That of the transmission inside."""
        return self.inner.name

    @property
    def csit(self) -> Csit:
        """That of the transmission inside."""
        return self.inner.csit

    def send(self, x: Tensor, uses: int, known: ChannelKnowledge | None) -> Sent:
        """On the clock."""
        with CLOCK.running():
            return self.inner.send(x, uses, known)

    def receive(self, received: Received, shape: tuple[int, ...], uses: int) -> Sequence[Observation[Tensor]]:
        """On the clock."""
        with CLOCK.running():
            return self.inner.receive(received, shape, uses)


@dataclass(frozen=True)
class TimedReceiver:
    """A receiver on the clock."""

    inner: Receiver

    @property
    def name(self) -> str:
        """That of the receiver inside."""
        return self.inner.name

    def __call__(
        self, observation: Observation[Tensor], shape: tuple[int, ...], rng: Streams
    ) -> Tensor | None:
        """On the clock."""
        with CLOCK.running():
            return self.inner(observation, shape, rng)


@dataclass(frozen=True)
class TimedMetric:
    """A metric on the clock."""

    inner: Metric[Tensor]

    @property
    def name(self) -> str:
        """That of the metric inside."""
        return self.inner.name

    @property
    def unit(self) -> str:
        """That of the metric inside."""
        return self.inner.unit

    @property
    def higher_is_better(self) -> bool:
        """That of the metric inside."""
        return self.inner.higher_is_better

    def fits(self, shape: object) -> bool:
        """As the metric inside."""
        return self.inner.fits(shape)

    def __call__(self, x_hat: Tensor, x: Tensor) -> float:
        """On the clock."""
        with CLOCK.running():
            return self.inner(x_hat, x)


def timed(scheme: Scheme) -> Scheme:
    """The same scheme on the clock."""
    if isinstance(scheme.transmission, Genie):
        raise InvalidOption(f"{scheme.name}: a bound, not a system; leave it out")
    return replace(
        scheme, transmission=TimedTransmission(scheme.transmission), receiver=TimedReceiver(scheme.receiver)
    )


def sweep(
    schemes: Sequence[str], photos: int | None = None, side: int | None = None, device: str = "cpu"
) -> Sweep:
    """What is measured."""
    items = tuple(
        Item(item.id, item.x[:, :, :side, :side], item.modality) for item in sample_photos()[:photos]
    )
    return Sweep(
        tuple(timed(names.scheme(name, device=device)) for name in schemes),
        (names.channel("awgn"), names.channel("rayleigh:64")),
        items,
        SNR_DB,
        RHO,
        tuple(TimedMetric(metric) for metric in names.default_metrics(device=device).metrics),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--schemes", default="avif+ldpc:csit-average,softcast")
    parser.add_argument("--photos", type=int, default=None, help="only the first so many")
    parser.add_argument("--side", type=int, default=None, help="crop them to so many pixels")
    parser.add_argument("--device", default="cpu", help="where networks run: cpu or cuda")
    a = parser.parse_args(arguments)
    torch.set_num_threads(1)
    design = sweep(a.schemes.split(","), a.photos, a.side, a.device)
    with TemporaryDirectory() as folder, ResultStore(Path(folder) / "records.sqlite") as store:
        start = time.perf_counter()
        images = sum(1 for _ in run(design, store))
        seconds = time.perf_counter() - start
    print(f"{images} images in {seconds:.1f} s, of which {seconds - CLOCK.seconds:.2f} s bookkeeping")
    print(json.dumps({"images_per_s": images / seconds, "overhead_share": 1 - CLOCK.seconds / seconds}))


if __name__ == "__main__":
    main()
