"""Packet link: several short messages in one transmission, each received or lost on its own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, UInt8
from torch import Tensor

from channels.channel import Received
from channels.errors import ChannelError
from channels.fec.ldpc import MAX_ITERATIONS
from channels.link import FRAME_BITS, DigitalLink, frame, unframe
from channels.mcs import Mcs
from channels.symbols import widen


@dataclass(frozen=True)
class PacketLink:
    """Packets of bytes with unequal error protection, each a `DigitalLink` message with its own MCS and CRC.

    The data symbols are cut into consecutive packets of `packet_uses` channel uses; the last may be shorter.
    With the same packet length, a `Lossy` channel loses whole packets. Every packet has its own control
    header (counted in channel uses), code and CRC, so the receiver knows which packets are correct.

    Packet i is sent at `mcs[i]`, and all packets beyond the end of `mcs` at its last entry. The receiver
    knows this configuration and the number of channel uses, so a fixed MCS needs no signalling. With
    `adapted` the header of every packet announces its MCS (11 bits instead of 6) and the receiver ignores
    `mcs`: the transmitter may choose it per transmission.

    Bits are scrambled differently in every packet. Otherwise equal contents, such as empty packets, would
    repeat the same symbols, and the average power would deviate from 1.

    If the last packet is too short even for an empty message, its room is 0 bytes, nothing is sent in it, and
    it is always reported as lost.

    Args:
        packet_uses: Channel uses per packet, header included, at least 1.
        mcs: Constellation and highest code rate per packet; the last entry also holds for all later packets.
        adapted: Whether headers announce the MCS.
        max_iterations: Iteration limit of the LDPC decoder, at least 1.

    Raises:
        ChannelError: `packet_uses` or `max_iterations` is smaller than 1, or `mcs` is empty.

    Example:
        >>> from channels.mcs import MCS_TABLE
        >>> link = PacketLink(100, (MCS_TABLE[6], MCS_TABLE[12]))
        >>> link.room(250)
        (4, 22, 7)
        >>> x = link.send((b"head", b"body", b""), 250)
        >>> link.receive(Received(x, torch.ones_like(x), torch.full((1, 1), 0.01)))
        ((b'head', b'body', b''),)
    """

    packet_uses: int
    mcs: tuple[Mcs, ...]
    adapted: bool = False
    max_iterations: int = MAX_ITERATIONS

    def __post_init__(self) -> None:
        if self.packet_uses < 1:
            raise ChannelError(f"packets of {self.packet_uses} channel uses are too short; give at least 1")
        if not self.mcs:
            raise ChannelError("no MCS for the packets; give at least one, which then holds for all")
        for mcs in self.mcs:
            self._link(mcs)  # raises if max_iterations is out of range

    @property
    def name(self) -> str:
        """Canonical name, such as "packets:256:mcs3-mcs9" or "packets:256:adapted-mcs3-mcs9"."""
        rows = "-".join(f"mcs{mcs.index}" for mcs in self.mcs)
        return f"packets:{self.packet_uses}:{'adapted-' if self.adapted else ''}{rows}"

    def packets(self, data_uses: int) -> int:
        """Number of packets in a transmission, including a shorter last one.

        Args:
            data_uses: Channel uses of all packets together, at least 0.

        Returns:
            ceil(data_uses / packet_uses).
        """
        return math.ceil(data_uses / self.packet_uses)

    def room(self, data_uses: int) -> tuple[int, ...]:
        """Largest payload of each packet, after control header, CRC and end mark.

        Args:
            data_uses: Channel uses of all packets together, at least 0.

        Returns:
            Bytes per packet; 0 if only an empty message fits, or none at all.
        """
        return tuple(
            max(link.payload_bits(uses) - FRAME_BITS, 0) // 8 for link, uses in self.places(data_uses)
        )

    def send(self, packets: Sequence[bytes], data_uses: int) -> Complex[Tensor, "1 uses"]:
        """Encode and modulate all packets of one transmission, each with an average power of 1.

        Args:
            packets: Payload of each packet, at most `room(data_uses)` bytes; b"" for an empty packet.
            data_uses: Channel uses of all packets together.

        Returns:
            Symbols, complex64 [1, data_uses].

        Raises:
            ChannelError: The number of payloads differs from the number of packets, a payload is too long, or
                no packet is large enough for an empty message.
        """
        places, room = self.places(data_uses), self.room(data_uses)
        if len(packets) != len(places):
            raise ChannelError(
                f"{len(packets)} packets for {len(places)} places in {data_uses} channel uses; give one for "
                'each, b"" where there is nothing to say'
            )
        x = torch.zeros(1, data_uses, dtype=torch.complex64, device="cpu")
        if not any(link.payload_bits(uses) for link, uses in places):
            raise ChannelError(
                f"{data_uses} channel uses in packets of {self.packet_uses} have no room for a header and an "
                "empty packet; raise rho, the packet uses or the MCS"
            )
        for i, ((link, uses), packet) in enumerate(zip(places, packets, strict=True)):
            if len(packet) > room[i]:
                raise ChannelError(
                    f"packet {i} is of {len(packet)} bytes, but {uses} channel uses of {link.mcs.name} "
                    f"hold {room[i]}; shorten it, or raise the packet uses or the MCS"
                )
            if link.payload_bits(uses):
                start = i * self.packet_uses
                bits = frame(packet)
                size = min(size for size in link.sizes(uses) if size >= bits.numel())
                padded = torch.nn.functional.pad(bits, (0, size - bits.numel()))
                x[:, start : start + uses] = link.send(padded ^ _whitening(i, size), uses)
        return x

    def receive(self, received: Received) -> tuple[tuple[bytes | None, ...], ...]:
        """Decode all packets of a batch of receptions.

        Args:
            received: Receptions of `send`, [batch, data_uses].

        Returns:
            Payloads of each reception in order, None for each packet that is lost.
        """
        batch, data_uses = received.y.shape
        alike: dict[tuple[DigitalLink, int], list[int]] = {}
        for i, (link, uses) in enumerate(self.places(data_uses)):
            listening = self._link(self.mcs[0]) if self.adapted else link  # its MCS is ignored on reception
            if listening.header(uses).uses < uses:
                alike.setdefault((listening, uses), []).append(i)
        arrived: list[list[bytes | None]] = [[None] * self.packets(data_uses) for _ in range(batch)]
        for (link, uses), places in alike.items():
            delivery = link.receive(self._cut(received, places, uses))
            for row, bits in enumerate(delivery.bits):
                item, i = row // len(places), places[row % len(places)]
                found = unframe(bits ^ _whitening(i, bits.numel())) if delivery.ok[row] else None
                arrived[item][i] = None if found is None else found[0]
        return tuple(map(tuple, arrived))

    def _link(self, mcs: Mcs) -> DigitalLink:
        return DigitalLink(mcs, self.max_iterations, self.adapted)

    def places(self, data_uses: int) -> list[tuple[DigitalLink, int]]:
        """Digital link and number of channel uses of each packet.

        Args:
            data_uses: Channel uses of all packets together, at least 0.

        Returns:
            One pair per packet, in order.
        """
        return [
            (
                self._link(self.mcs[min(i, len(self.mcs) - 1)]),
                min(self.packet_uses, data_uses - i * self.packet_uses),
            )
            for i in range(self.packets(data_uses))
        ]

    def _cut(self, received: Received, places: list[int], uses: int) -> Received:
        """The packets at these places as receptions of their own, [batch * places, uses]."""
        batch, first = received.y.shape[0], torch.tensor(places, device=received.y.device) * self.packet_uses
        columns = (first[:, None] + torch.arange(uses, device=received.y.device)).flatten()
        noise_var = received.noise_var.expand(batch, received.y.shape[1])
        y, h, noise_var = (
            part[:, columns].reshape(batch * len(places), uses)
            for part in (widen(received.y), widen(received.h), noise_var)
        )
        return Received(y, h, noise_var)


def _whitening(place: int, bits: int) -> UInt8[Tensor, " n"]:
    """A fixed pseudorandom word for the packet at this place."""
    generator = torch.Generator("cpu").manual_seed(place)
    return torch.randint(0, 2, (bits,), generator=generator, dtype=torch.uint8, device="cpu")
