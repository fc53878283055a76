"""The channel protocol, and what the modem receives."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Complex, Float, Shaped
from torch import Tensor

from channels.errors import ChannelError
from channels.streams import Streams
from channels.symbols import as_symbols

SnrDb = float | Float[Tensor, " batch"]


@dataclass(frozen=True, eq=False, slots=True)
class Received:
    """What the modem knows of one transmission: y = h x + n, n ~ CN(0, noise_var).

    Args:
        y: Received symbols, complex [batch, uses].
        h: Gain of each channel use as the receiver believes it, complex [batch, uses]; 1 on AWGN.
        noise_var: N0 > 0 per complex channel use as the receiver believes it, estimation error included, real
            [batch, uses], or [batch, 1] if it is equal for all uses.
    """

    y: Complex[Tensor, "batch uses"]
    h: Complex[Tensor, "batch uses"]
    noise_var: Float[Tensor, "batch #uses"]

    def __getitem__(self, uses: slice) -> "Received":
        """Select a range of channel uses.

        Args:
            uses: Slice of channel uses.

        Returns:
            The received symbols, gains and noise variances of those uses.
        """
        noise_var = self.noise_var if self.noise_var.shape[1] == 1 else self.noise_var[:, uses]
        return Received(self.y[:, uses], self.h[:, uses], noise_var)

    def item(self, index: int) -> "Received":
        """Select one batch element and keep the batch axis.

        Args:
            index: Batch element; negative indices count from the end.

        Returns:
            A reception with a batch of one.
        """
        return Received(self.y[index][None], self.h[index][None], self.noise_var[index][None])


@runtime_checkable
class Channel(Protocol):
    """A medium for complex symbols of average power 1 per item, used at a given average received SNR.

        y = h x + n,  E|x|^2 = 1,  E|h|^2 = 1,  n ~ CN(0, N0),  N0 = 10^(-snr_db/10)

    `draw` makes the randomness of a transmission and `apply` uses it, so that fades and noise can be
    inspected, stored or shared between schemes. The state passed between the two belongs to the channel: its
    type differs from channel to channel, and callers do not read it.
    """

    @property
    def name(self) -> str:
        """Canonical name, as accepted on the command line, for instance "rayleigh:64"."""
        ...

    def draw(self, uses: int, snr_db: SnrDb, rng: Streams) -> Any:
        """Draw fades and noise for one transmission of each item.

        Args:
            uses: Data symbols per item, at least 0; overhead such as pilots is drawn in addition.
            snr_db: Average received Es/N0 in dB, -100 to 200; one number, or a tensor [batch].
            rng: Random streams, one per item of the batch.

        Returns:
            State for `apply`, valid for `uses` data symbols of `rng.batch` items.

        Raises:
            ChannelError: An SNR is not finite or outside its range, or there is neither one SNR nor one per
                item.
        """
        ...

    def apply(self, x: Complex[Tensor, "batch uses"], state: Any) -> Received:
        """Send data symbols through the channel; differentiable in x.

        Args:
            x: Data symbols, complex [batch, uses], average power 1 per item.
            state: State from `draw` for as many items and data symbols.

        Returns:
            Received data symbols [batch, uses] with the gain and noise variance that the receiver believes;
            pilots and other overhead are removed.

        Raises:
            ChannelError: The state was drawn for another number of items or uses.
        """
        ...

    def overhead(self, uses: int) -> int:
        """Channel uses added to a number of data symbols: pilots, prefixes and guards.

        Args:
            uses: Data symbols, at least 0.

        Returns:
            Additional channel uses, at least 0; `uses + overhead(uses)` are sent in all.
        """
        ...

    def data_uses(self, total: int) -> int:
        """The largest number of data symbols that fits a budget of channel uses, overhead included.

        Args:
            total: Channel uses available.

        Returns:
            The largest u with u + overhead(u) <= total; 0 if nothing fits.
        """
        ...


def transmit(channel: Channel, x: Complex[Tensor, "batch uses"], snr_db: SnrDb, rng: Streams) -> Received:
    """Draw the randomness of a transmission and send symbols through the channel.

    Args:
        channel: The channel.
        x: Data symbols, complex [batch, uses], average power 1 per item; half precision becomes complex64.
        snr_db: Average received Es/N0 in dB, -100 to 200; one number, or a tensor [batch].
        rng: Random streams, one per item.

    Returns:
        Received data symbols with the gain and noise variance that the receiver believes.

    Raises:
        ChannelError: x is not a batch of complex symbols, x and `rng` have different numbers of items, or an
            SNR is invalid.
    """
    x = as_symbols(x)
    if x.shape[0] != rng.batch:
        raise ChannelError(
            f"{x.shape[0]} items of symbols, but streams of {rng.batch}; name each, for noise of its own"
        )
    return channel.apply(x, channel.draw(x.shape[1], snr_db, rng))


def noise_var_column(snr_db: SnrDb, batch: int) -> Float[Tensor, "batch 1"]:
    """Noise variance N0 = 10^(-snr_db/10) as a column, for signal power 1.

    Args:
        snr_db: Average received Es/N0 in dB, -100 to 200; one number, or a tensor [batch].
        batch: Number of items.

    Returns:
        N0 per complex symbol, float32 [batch, 1].

    Raises:
        ChannelError: An SNR is not finite or outside -100..200 dB, where float32 arithmetic ends; or there is
            neither one SNR nor one per item.
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
    """Check that symbols have the size for which the state of a channel was drawn.

    Args:
        x: Symbols, complex [batch, uses].
        noise: Noise of the state, [batch, uses].

    Raises:
        ChannelError: The numbers of items or uses differ.
    """
    if x.shape != noise.shape:
        raise ChannelError(
            f"symbols of {x.shape[0]} items, {x.shape[1]} uses on a state drawn for {noise.shape[0]} items, "
            f"{noise.shape[1]} uses; draw one of that size"
        )


def spell(value: float) -> str:
    """Write a number as the shortest text that reads back as the same number, for canonical names.

    Args:
        value: Any finite number.

    Returns:
        Text without a plus sign, because "+" joins the names of stages: 6.0 becomes "6", and 1e6 stays "1e6".
    """
    text = f"{value:g}"
    # names of stages are joined by "+"
    return (text if float(text) == value else repr(value)).replace("e+0", "e").replace("e+", "e")
