"""Transmitter and receiver of one transmission: item to channel symbols, received symbols to observations."""

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
"""Channel knowledge at the transmitter: "none", or "average" for the channel's law and its average SNR."""


@dataclass(frozen=True, slots=True)
class ChannelKnowledge:
    """Statistical channel knowledge of a transmitter (CSIT "average"): no fading realisation and no noise.

    Args:
        law: The channel as a random process; the transmitter may draw its own independent realisations from
            it.
        snr_db: Average received Es/N0 in dB for symbols of power 1.
    """

    law: Channel
    snr_db: float

    def at_power(self, power_db: float) -> "ChannelKnowledge":
        """Channel knowledge for symbols that are sent with a power other than 1.

        Args:
            power_db: Power of these symbols in dB relative to power 1.

        Returns:
            The same law at an average SNR of `snr_db + power_db` dB.
        """
        return replace(self, snr_db=self.snr_db + power_db)


@dataclass(frozen=True, slots=True)
class Modulated:
    """Declaration that some of the symbols sent are constellation points selected by coded bits.

    The mean energy of a finite number of QAM symbols is random and equals 1 only in expectation. The energy
    limit therefore allows five standard errors of that mean for the declared symbols; all other symbols must
    keep to the limit exactly.

    Args:
        constellation: Constellation of average power 1.
        symbols: Number of symbols that are points of it, at least 0.
        power: Linear power to which these symbols are scaled, above 0.
    """

    constellation: Constellation
    symbols: int
    power: float = 1.0


@dataclass(frozen=True, eq=False, slots=True)
class Sent:
    """Output of a transmitter for one item. Only `symbols` reaches the receiver.

    Args:
        symbols: Complex data symbols, [1, uses]. Their number is 0 (nothing is sent), or else follows from
            the item's shape and the channel uses allowed, so that the receiver knows it; or it is announced
            by the first of them, of which there is a number that the receiver knows.
        modulated: Declarations of the QAM symbols among them; none for analog symbols.
        info: Finite numbers for the record, by column name; the receiver does not see them.
        cause: Why nothing was sent, in one line; empty if symbols were sent.
    """

    symbols: Complex[Tensor, "1 uses"]
    modulated: tuple[Modulated, ...] = ()
    info: Mapping[str, float] = field(default_factory=dict)
    cause: str = ""


def nothing_sent(cause: str) -> Sent:
    """Transmission of 0 symbols for an item that does not fit the channel uses allowed: an outage.

    Args:
        cause: One line for the record that names the value, the limit and the cure.

    Returns:
        A transmission of 0 symbols with this cause.
    """
    return Sent(torch.zeros(1, 0, dtype=torch.complex64), cause=cause)


@runtime_checkable
class Transmission(Protocol[X]):
    """A way to send items over a channel: a transmitter (`send`) and a receiver (`receive`).

    The two methods share no state: `receive` sees the received symbols, the item's shape and the number of
    data symbols allowed, and nothing that `send` has seen or computed. Neither method has access to the
    channel. `semcom.scheme.Scheme` calls `send`, passes the symbols through the channel once, measures their
    number and energy, and calls `receive`.

    Items are pictures [1, 3, height, width] in [0, 1], clips (`semcom.modalities.video.Clip`) or texts (str).
    """

    @property
    def name(self) -> str:
        """Canonical name with the transmitter's channel knowledge, for instance "avif+ldpc:csit-average"."""
        ...

    @property
    def csit(self) -> Csit:
        """Channel knowledge that `send` needs; with "none", one call of `send` serves all SNRs."""
        ...

    def send(self, x: X, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Encode one item into channel symbols.

        Args:
            x: The item. It is a copy, so that it may be changed.
            uses: Number of complex data symbols allowed, at least 0. Pilots and cyclic prefixes of the
                channel are not included.
            known: The channel's law and average SNR; None if `csit` is "none".

        Returns:
            At most `uses` complex symbols, [1, n], of mean energy at most 1 per symbol. If the item does not
            fit, 0 symbols and a cause (see `nothing_sent`), which is recorded as an outage.

        Raises:
            InvalidOption: `known` is None, but `csit` is "average".
        """
        ...

    def receive(self, received: Received, shape: Any, uses: int) -> Sequence[Observation[X]]:
        """Estimate the item from every reception of its symbols.

        Args:
            received: Batch of receptions of the same symbols: y [batch, n], and h and N0 as the receiver
                estimates them.
            shape: Shape of the item, which its modality makes known to every receiver: (1, 3, height, width)
                of a picture, `ClipShape` of a clip, the empty `TextShape` of a text.
            uses: Number of data symbols that `send` was allowed.

        Returns:
            One observation per reception, in order; each depends on its own reception only. A lost item has
            `shown=None` and no evidence.
        """
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Whispered:
    """Symbols sent by a genie, and side information that its receiver gets without using the channel.

    Args:
        sent: Symbols that cross the channel; their number and energy are measured.
        told: Side information of any type, for instance the item itself.
    """

    sent: Sent
    told: Any


@runtime_checkable
class Genie(Protocol[X]):
    """Genie-aided transmission: an upper bound that no real system reaches.

    Its receiver gets side information about what was sent, free of charge, and may choose the best of several
    alternative transmissions afterwards. The symbols of every alternative cross the channel, and their number
    and energy are measured as for any other transmission. Classes of this kind have Genie in their names.
    """

    @property
    def name(self) -> str:
        """Canonical name, for instance "genie-envelope"."""
        ...

    @property
    def csit(self) -> Csit:
        """Channel knowledge that `send_all` needs: "none" or "average"."""
        ...

    def send_all(self, x: X, uses: int, known: ChannelKnowledge | None) -> Sequence[Whispered]:
        """Encode one item in one or more alternative ways; all of them cross the same channel realisation.

        Args:
            x: The item. It is a copy, so that it may be changed.
            uses: Number of complex data symbols allowed for each alternative, at least 0.
            known: The channel's law and average SNR; None if `csit` is "none".

        Returns:
            At least one alternative, each of at most `uses` symbols [1, n] with side information for the
            receiver. If nothing fits, a single one of 0 symbols and a cause.

        Raises:
            InvalidOption: `known` is None, but `csit` is "average".
        """
        ...

    def receive_knowing(
        self, whispered: Sequence[Whispered], received: Sequence[Received], shape: Any, uses: int
    ) -> Sequence[Observation[X]]:
        """Estimate the item from the receptions of all alternatives and the side information.

        Args:
            whispered: The alternatives that `send_all` returned.
            received: One batch of receptions per alternative, in the same order: y [batch, n], h and N0. Row
                i of every batch has the same channel realisation.
            shape: Shape of the item, as its modality makes it known to every receiver.
            uses: Number of data symbols that each alternative was allowed.

        Returns:
            One observation per row of the batches, [batch], each depending on its own row only.
        """
        ...
