"""Interleaving of symbols, so that neighbouring symbols see different fades."""

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
    """A channel behind a fixed permutation of all data symbols, known to both ends.

    y_i = h_p(i) x_i + n_p(i),  p a permutation that depends on the number of symbols only.

    Neighbouring data symbols are sent far apart in time, so that a code word or an image sees all fades of
    the item. The delay is that of the whole item. Transmissions of different length share gains and noise at
    equal times, but symbol i of a longer transmission is sent at another time than symbol i of a shorter one.

    Args:
        channel: The channel behind the permutation.
    """

    channel: Channel

    @property
    def name(self) -> str:
        """Canonical name, for instance "interleaved/rayleigh:64"."""
        return f"interleaved/{self.channel.name}"

    def draw(self, uses: int, snr_db: SnrDb, rng: Streams) -> Any:
        """Draw the fades and noise of the wrapped channel."""
        return self.channel.draw(uses, snr_db, rng)

    def apply(self, x: Complex[Tensor, "batch uses"], state: Any) -> Received:
        """Permute the symbols, send them through the wrapped channel, and restore their order."""
        place = permutation(x.shape[1]).to(x.device)
        received = self.channel.apply(x[:, place.argsort()], state)
        noise_var = received.noise_var if received.noise_var.shape[1] == 1 else received.noise_var[:, place]
        return Received(received.y[:, place], received.h[:, place], noise_var)

    def overhead(self, uses: int) -> int:
        """Channel uses added to `uses` data symbols by the wrapped channel; interleaving adds none."""
        return self.channel.overhead(uses)

    def data_uses(self, total: int) -> int:
        """Data symbols that fit `total` channel uses of the wrapped channel; interleaving costs none."""
        return self.channel.data_uses(total)


def permutation(uses: int) -> Int[Tensor, " uses"]:
    """Fixed pseudorandom permutation of the data symbols.

    Args:
        uses: Number of symbols, at least 0.

    Returns:
        Place in time of each data symbol, int64 [uses]; equal in all runs.
    """
    key = int.from_bytes(hashlib.blake2b(b"interleaver", digest_size=16).digest(), "little")
    order = np.random.Generator(np.random.Philox(key=key)).permutation(uses)
    return torch.from_numpy(order)  # pyright: ignore
