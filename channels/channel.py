"""The channel protocol, and what the modem receives."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Complex, Float, Shaped
from torch import Tensor

from channels.errors import ChannelError
from channels.streams import Streams

SnrDb = float | Float[Tensor, " batch"]


@dataclass(frozen=True, eq=False, slots=True)
class Received:
    """All the modem knows of one transmission: y = h x + n, n ~ CN(0, noise_var).

    Args:
        y: Received symbols.
        h: Effective gain per use that the receiver believes in; ones on AWGN.
        noise_var: N0 per use as the receiver believes, estimation error included; a single column if it is
            the same for all uses.
    """

    y: Complex[Tensor, "batch uses"]
    h: Complex[Tensor, "batch uses"]
    noise_var: Float[Tensor, "batch #uses"]

    def __getitem__(self, uses: slice) -> "Received":
        """The part of the transmission that lies in these channel uses."""
        noise_var = self.noise_var if self.noise_var.shape[1] == 1 else self.noise_var[:, uses]
        return Received(self.y[:, uses], self.h[:, uses], noise_var)

    def item(self, index: int) -> "Received":
        """One batch element, as a batch of one; negative indices count from the end."""
        return Received(self.y[index][None], self.h[index][None], self.noise_var[index][None])


@runtime_checkable
class Channel(Protocol):
    """A medium for complex symbols of average power 1 per item; average received SNR is an argument.

    `draw` and `apply` are apart so that fades and noise can be looked at, kept or shared. The state is
    whatever the channel needs; nobody else looks into it.
    """

    @property
    def name(self) -> str:
        """Canonical spelling, as accepted on the command line ("rayleigh:64")."""
        ...

    def draw(self, uses: int, snr_db: SnrDb, rng: Streams) -> Any:
        """Fades and noise for `uses` data symbols of each item of `rng`."""
        ...

    def apply(self, x: Complex[Tensor, "batch uses"], state: Any) -> Received:
        """Send x; differentiable in x."""
        ...

    def overhead(self, uses: int) -> int:
        """Pilots, prefixes and guards, in channel uses, added to so many data symbols."""
        ...

    def data_uses(self, total: int) -> int:
        """The most data symbols that fit into `total` channel uses, overhead included."""
        ...


def transmit(channel: Channel, x: Complex[Tensor, "batch uses"], snr_db: SnrDb, rng: Streams) -> Received:
    """Draw and apply at once.

    Raises:
        ChannelError: Items in x and in `rng` are not as many, or SNRs neither one nor as many.
    """
    if x.shape[0] != rng.batch:
        raise ChannelError(
            f"{x.shape[0]} items of symbols, but streams of {rng.batch}; name each, for noise of its own"
        )
    return channel.apply(x, channel.draw(x.shape[1], snr_db, rng))


def noise_var_column(snr_db: SnrDb, batch: int) -> Float[Tensor, "batch 1"]:
    """N0 = 10^(-snr_db/10) as a column [batch, 1].

    Raises:
        ChannelError: The SNR is not finite, or outside -100..200 dB, where float32 arithmetic ends; or there
            are several, but not one for each item.
    """
    column_db = torch.as_tensor(snr_db, dtype=torch.float32).reshape(-1, 1)
    outside = column_db[~((column_db >= -100) & (column_db <= 200))]  # NaN included
    if outside.numel():
        raise ChannelError(
            f"SNR of {outside[0].item():g} dB is outside -100..200 dB; give a finite SNR in that range"
        )
    if len(column_db) not in (1, batch):
        raise ChannelError(f"{len(column_db)} SNRs for {batch} items: give one, or one for each")
    return (10.0 ** (-column_db / 10.0)).expand(batch, 1)


def check_state(x: Complex[Tensor, "_ _"], noise: Shaped[Tensor, "_ _"]) -> None:
    """Refuse symbols that the state of a channel was not drawn for.

    Raises:
        ChannelError: Noise of another number of items or uses.
    """
    if x.shape != noise.shape:
        raise ChannelError(
            f"symbols of {x.shape[0]} items, {x.shape[1]} uses on a state drawn for {noise.shape[0]} items, "
            f"{noise.shape[1]} uses; draw one of that size"
        )


def spell(value: float) -> str:
    """Shortest text that reads back as this number, for canonical names: 6.0 is "6", and 1e6 has no plus."""
    text = f"{value:g}"
    # names of stages are joined by "+"
    return (text if float(text) == value else repr(value)).replace("e+0", "e").replace("e+", "e")
