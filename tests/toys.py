"""A scheme that anyone can check by hand, and items to send: importable by worker processes."""

import math
import os
import signal
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from channels import Channel, Received, Streams
from channels.symbols import pack, unpack
from semcom.data import Item
from semcom.errors import StoreError
from semcom.metrics.metric import fits_picture
from semcom.modalities.image import picture_item
from semcom.observation import Observation
from semcom.receivers import Direct
from semcom.results import ResultStore
from semcom.scheme import Scheme
from semcom.sweep import Sweep, run
from semcom.transmission import ChannelKnowledge, Csit, Sent, nothing_sent


@dataclass(frozen=True)
class Uncoded:
    """Two pixel values per channel use, x -> (2x - 1)/sqrt(2): at most unit energy, and no side information.

    Args:
        csit: With "average" it encodes anew for every SNR, to the same symbols.
        seconds: Spent in every receiver, so that there is time to kill it.
    """

    csit: Csit = "none"
    seconds: float = 0.0
    name: str = "uncoded"

    def send(self, x: Tensor, uses: int, known: ChannelKnowledge | None) -> Sent:
        symbols = pack((2 * x.flatten(1) - 1) / 2**0.5)
        if symbols.shape[1] > uses:
            return nothing_sent(f"{symbols.shape[1]} uses needed, {uses} allowed")
        return Sent(symbols, info={"values": float(x.numel())})

    def receive(self, received: Received, shape: tuple[int, ...], uses: int) -> list[Observation[Tensor]]:
        time.sleep(self.seconds)
        values = (unpack(received.y / received.h)[:, : math.prod(shape)] * 2**0.5 + 1) / 2
        return [Observation(image.reshape(shape).clamp(0, 1)) for image in values]


@dataclass(frozen=True)
class Counting:
    """A channel that counts the symbols of every batch of two that crosses it.

    Informed transmitters imagine realisations of the channel in batches of other sizes.
    """

    inner: Channel
    crossings: list[int] = field(default_factory=list, compare=False)

    @property
    def name(self) -> str:
        return self.inner.name

    def draw(self, uses: int, snr_db: Any, rng: Streams) -> Any:
        return self.inner.draw(uses, snr_db, rng)

    def apply(self, x: Tensor, state: Any) -> Received:
        if x.shape[0] == 2:
            self.crossings.append(x.shape[1])
        return self.inner.apply(x, state)

    def overhead(self, uses: int) -> int:
        return self.inner.overhead(uses)

    def data_uses(self, total: int) -> int:
        return self.inner.data_uses(total)


@dataclass(frozen=True, eq=False)
class Deadly:
    """Kills its process when it meets this image."""

    victim: Tensor
    csit: Csit = "none"
    name: str = "deadly"

    def send(self, x: Tensor, uses: int, known: ChannelKnowledge | None) -> Sent:
        if torch.equal(x, self.victim):
            os.kill(os.getpid(), signal.SIGKILL)
        return Uncoded().send(x, uses, known)

    def receive(self, received: Received, shape: tuple[int, ...], uses: int) -> list[Observation[Tensor]]:
        return Uncoded().receive(received, shape, uses)


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
    return picture_item(stem, np.clip(ramp + noise + 10 * rng.normal(size=3), 20, 235).round())


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
