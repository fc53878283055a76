"""Interleaving: neighbouring symbols meet different fades."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Complex, Int
from torch import Tensor

from channels.channel import Channel, Received, SnrDb
from channels.streams import Streams


@dataclass(frozen=True)
class Interleaved:
    """A channel behind a fixed permutation of all data symbols, which both ends know.

    y_i = h_p(i) x_i + n_p(i),  p a permutation that depends on the number of symbols only.

    Neighbours in the data are strangers in time, so that a code word or an image sees all fades of the item.
    Gains and noise are still common between bandwidth ratios by their place in time; but symbol i of a longer
    transmission is sent at another time, so its noise is not that of symbol i of a shorter one. The delay is
    the whole item.

    Args:
        channel: The channel behind it.
    """

    channel: Channel

    @property
    def name(self) -> str:
        """Canonical spelling: "interleaved/rayleigh:64"."""
        return f"interleaved/{self.channel.name}"

    def draw(self, uses: int, snr_db: SnrDb, rng: Streams) -> Any:
        """What the channel draws."""
        return self.channel.draw(uses, snr_db, rng)

    def apply(self, x: Complex[Tensor, "batch uses"], state: Any) -> Received:
        """Permute, send, put back in order."""
        place = permutation(x.shape[1]).to(x.device)
        received = self.channel.apply(x[:, place.argsort()], state)
        noise_var = received.noise_var if received.noise_var.shape[1] == 1 else received.noise_var[:, place]
        return Received(received.y[:, place], received.h[:, place], noise_var)

    def overhead(self, uses: int) -> int:
        """That of the channel."""
        return self.channel.overhead(uses)

    def data_uses(self, total: int) -> int:
        """That of the channel."""
        return self.channel.data_uses(total)


def permutation(uses: int) -> Int[Tensor, " uses"]:
    """Place in time of each data symbol: random, and the same for ever."""
    key = int.from_bytes(hashlib.blake2b(b"interleaver", digest_size=16).digest(), "little")
    order = np.random.Generator(np.random.Philox(key=key)).permutation(uses)
    return torch.from_numpy(order)  # pyright: ignore
