"""A scheme that anyone can check by hand, and items to send: importable by worker processes."""

import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from channels import Channel, SnrDb, Streams, transmit
from channels.symbols import average_power, pack, unpack
from semcom.budget import Budget
from semcom.data import Item
from semcom.errors import StoreError
from semcom.metrics.metric import fits_picture
from semcom.receivers import Direct
from semcom.results import ResultStore
from semcom.scheme import Scheme
from semcom.sweep import Sweep, run
from semcom.transmission import Csit, Observation, Sent, lost, nothing_sent, observe_images


@dataclass(frozen=True)
class Uncoded:
    """Two pixel values per channel use, x -> (2x - 1)/sqrt(2): at most unit energy, and no side information.

    Received: x + n/sqrt(2) per value with n of variance N0/2, so the mean squared error is N0/4 before
    clipping.
    """

    csit: Csit = "none"
    seconds: float = 0.0  # slept in every delivery

    @property
    def name(self) -> str:
        return "uncoded"

    def prepare(self, x: Tensor, budget: Budget, channel: Channel, csit_snr_db: float | None) -> Sent:
        symbols = pack((2 * x.flatten(1) - 1) / 2**0.5)
        uses = symbols.shape[1] + channel.overhead(symbols.shape[1])
        if uses > budget.channel_uses:
            return nothing_sent(tuple(x.shape), f"{uses} uses needed, {budget.channel_uses} allowed")
        return Sent(symbols, uses, tuple(x.shape), info={"values": float(x.numel())})

    def deliver(self, sent: Sent, channel: Channel, snr_db: SnrDb, rng: Streams) -> Observation:
        time.sleep(self.seconds)
        if sent.cause:
            return lost(sent, "grey", rng.batch)
        received = transmit(channel, sent.symbols.expand(rng.batch, -1), snr_db, rng.fork("channel"))
        dims = sent.shape[1] * sent.shape[2] * sent.shape[3]
        values = (unpack(received.y / received.h)[:, :dims] * 2**0.5 + 1) / 2
        images: list[Tensor | None] = [image.reshape(sent.shape) for image in values]
        uses = sent.symbols.shape[1]
        energy = average_power(sent.symbols) * uses + channel.overhead(uses)
        return observe_images(sent, images, energy.expand(rng.batch), "grey")


@dataclass(frozen=True, eq=False)
class Deadly:
    """Kills its process when it meets this image."""

    victim: Tensor
    csit: Csit = "none"
    name: str = "deadly"

    def prepare(self, x: Tensor, budget: Budget, channel: Channel, csit_snr_db: float | None) -> Sent:
        if torch.equal(x, self.victim):
            os.kill(os.getpid(), signal.SIGKILL)
        return Uncoded().prepare(x, budget, channel, csit_snr_db)

    def deliver(self, sent: Sent, channel: Channel, snr_db: SnrDb, rng: Streams) -> Observation:
        return Uncoded().deliver(sent, channel, snr_db, rng)


@dataclass(frozen=True)
class MeanSquaredError:
    """mean (x_hat - x)^2."""

    name: str = "mse"
    unit: str = ""
    higher_is_better: bool = False
    min_side: int = 1

    def fits(self, shape: object) -> bool:
        return fits_picture(shape, self.min_side)

    def __call__(self, x_hat: Tensor, x: Tensor) -> float:
        return (x_hat - x).square().mean().item()


UNCODED = Scheme("uncoded", Uncoded(), Direct())


def picture(stem: str, height: int = 8, width: int = 8, seed: int = 0) -> Item:
    """A colour gradient with a little texture, away from black and white: little noise is never clipped."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(40, 200, height)[:, None, None] + np.linspace(-20, 20, width)[None, :, None]
    noise = rng.normal(0, 10, (height, width, 3))
    return Item.of(stem, np.clip(ramp + noise + 10 * rng.normal(size=3), 20, 235).round())


def pictures(count: int, side: int = 8) -> tuple[Item, ...]:
    """Different ones."""
    return tuple(picture(f"toy{i:02d}", side, side, seed=i) for i in range(count))


def resume(sweep: Sweep, path: Path, teller: Connection) -> None:
    """Body of a process: run a sweep, telling when the first record is stored, or why none can be."""
    try:
        with ResultStore(path) as store:
            for count, _ in enumerate(run(sweep, store)):
                if count == 0:
                    teller.send("running")
            teller.send("finished")
    except StoreError as error:
        teller.send(str(error))
