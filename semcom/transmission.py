"""The two halves of a transmission: items to channel symbols, and received symbols to observations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Complex
from torch import Tensor

from channels import Channel, Constellation, Received
from semcom.observation import Observation

X = TypeVar("X")

Csit = Literal["none", "average"]
"""Channel knowledge at the transmitter: nothing, or the law of the channel with its average SNR."""


@dataclass(frozen=True, slots=True)
class ChannelKnowledge:
    """Statistical channel knowledge of a transmitter (CSIT "average"): no realisation, no noise.

    Args:
        law: The channel as a random process; the transmitter may draw realisations of its own from it.
        snr_db: Average received Es/N0 in dB, per use of power 1.
    """

    law: Channel
    snr_db: float

    def at_power(self, power_db: float) -> "ChannelKnowledge":
        """Knowledge of a channel whose symbols are sent with another power.

        Args:
            power_db: Power of the symbols in dB over that of the others.

        Returns:
            The same law at an average SNR higher by `power_db`.
        """
        return replace(self, snr_db=self.snr_db + power_db)


@dataclass(frozen=True, slots=True)
class Modulated:
    """Which symbols are points of a constellation chosen by coded bits: their energy is random.

    A finite number of QAM symbols has a mean energy of 1 only on average, so that the limit on energy allows
    for five standard errors of it. Everything else keeps to the limit exactly.

    Args:
        constellation: The constellation, of average power 1.
        symbols: How many symbols are points of it.
        power: Power that they were scaled to.
    """

    constellation: Constellation
    symbols: int
    power: float = 1.0


@dataclass(frozen=True, eq=False, slots=True)
class Sent:
    """What one item becomes at the transmitter. Only `symbols` reaches the receiver.

    Args:
        symbols: Data symbols; their number depends on the item's shape and the channel uses allowed alone,
            unless there are none.
        modulated: The QAM symbols among them.
        info: Finite numbers for the record, by column name; the receiver does not see them.
        cause: Why nothing was sent; empty if something was.
    """

    symbols: Complex[Tensor, "1 uses"]
    modulated: tuple[Modulated, ...] = ()
    info: Mapping[str, float] = field(default_factory=dict)
    cause: str = ""


def nothing_sent(cause: str) -> Sent:
    """The transmission of an item that the channel uses have no room for: an outage.

    Args:
        cause: One line that names the value, the limit and the cure, for the record.

    Returns:
        No symbols, and the cause.
    """
    return Sent(torch.zeros(1, 0, dtype=torch.complex64), cause=cause)


@runtime_checkable
class Transmission(Protocol[X]):
    """Transmitter and receiver side of a way to send an item, up to what the receiver knows of it.

    The two methods never meet: `receive` gets the received symbols and what every receiver knows for free,
    and nothing that `send` has seen or made. Neither holds the channel; `semcom.scheme.Scheme` crosses it
    between the two calls, once, and measures what crosses.
    """

    @property
    def name(self) -> str:
        """Canonical spelling, channel knowledge at the transmitter included ("avif+ldpc:csit-average")."""
        ...

    @property
    def csit(self) -> Csit:
        """Channel knowledge that `send` is given; with "none" one call serves all SNRs."""
        ...

    def send(self, x: X, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Encode one item into channel symbols.

        Args:
            x: The item, a copy of the transmitter's own.
            uses: Data symbols allowed, at least 0; pilots and prefixes of the channel come on top.
            known: What the transmitter knows of the channel; None with `csit` "none".

        Returns:
            At most `uses` symbols of mean energy at most 1. If nothing fits, no symbols and a cause: the item
            is recorded as an outage.
        """
        ...

    def receive(self, received: Received, shape: Any, uses: int) -> Sequence[Observation[X]]:
        """Make of every reception what can be known of the item.

        Args:
            received: A batch of receptions of the same symbols: y, and h and N0 as the receiver believes.
            shape: Shape of the item, as its modality tells every receiver for free.
            uses: Data symbols that were allowed.

        Returns:
            One observation per reception, in order. They must not depend on each other.
        """
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Whispered:
    """Symbols of a genie, and what it tells its other half behind the channel's back.

    Args:
        sent: What crosses the channel, as of any other transmission.
        told: Anything.
    """

    sent: Sent
    told: Any


@runtime_checkable
class Genie(Protocol[X]):
    """A bound that no system reaches: its receiver side knows what was sent, or tries several transmissions.

    Everything that a genie sends crosses the channel and is measured like any other transmission; only the
    comparison afterwards is unreal. Classes of this kind have Genie in their names.
    """

    @property
    def name(self) -> str:
        """Canonical spelling ("genie-envelope")."""
        ...

    @property
    def csit(self) -> Csit:
        """Channel knowledge that `send_all` is given."""
        ...

    def send_all(self, x: X, uses: int, known: ChannelKnowledge | None) -> Sequence[Whispered]:
        """Encode one item in several ways, each of which crosses the same realisation of the channel.

        Args:
            x: The item, a copy of the transmitter's own.
            uses: Data symbols allowed to each.
            known: What the transmitter knows of the channel; None with `csit` "none".

        Returns:
            One or more transmissions; one with a cause and no symbols if nothing fits.
        """
        ...

    def receive_knowing(
        self, whispered: Sequence[Whispered], received: Sequence[Received], shape: Any, uses: int
    ) -> Sequence[Observation[X]]:
        """Make the best of all receptions, knowing what was sent.

        Args:
            whispered: What `send_all` returned.
            received: For each of them the batch of receptions.
            shape: Shape of the item.
            uses: Data symbols that were allowed.

        Returns:
            One observation per element of the batch.
        """
        ...
