"""Digital transmission in packets: a lost packet loses one part of the item, and the rest is shown."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from channels import Received
from channels.mcs import MCS_TABLE, BlerTable, Mcs, mcs_by_preference, shipped_bler_table
from channels.packets import PacketLink
from semcom.codecs.codec import HasForms, mean_form
from semcom.errors import BudgetTooSmall, InvalidOption
from semcom.observation import Gaps, Observation
from semcom.transmission import ChannelKnowledge, Csit, Modulated, Sent, nothing_sent

X = TypeVar("X")


@runtime_checkable
class PacketCodec(Protocol[X]):
    """A source codec that codes an item into packets, each decodable without the others."""

    @property
    def name(self) -> str:
        """Canonical name of the codec, for instance "zlib"."""
        ...

    def encode(self, x: X, room: Sequence[int]) -> tuple[bytes, ...]:
        """Encode an item into packets.

        Args:
            x: The item: a clip or a text.
            room: Largest size in bytes of every packet, each at least 0.

        Returns:
            One packet per entry of `room`, of at most that many bytes; empty packets where no data is left.

        Raises:
            BudgetTooSmall: The item does not fit into the packets.
        """
        ...

    def decode(self, packets: Sequence[bytes | None], shape: Any) -> Gaps[X] | None:
        """Decode the packets that arrived.

        Args:
            packets: Packets in the order of `encode`; None for every packet that was lost or is damaged.
            shape: Shape of the item, as its modality makes it known to every receiver.

        Returns:
            The item with concealed gaps, and which of its parts are missing; None if all of it is missing.
        """
        ...


@dataclass(frozen=True)
class Packetised(Generic[X]):
    """Source codec in packets, each of them a transport block with its own CRC.

    For unequal error protection the MCS depends on the packet's place: packet i is sent at `rows[i]`, all
    packets beyond the end of `rows` at the last one. If `rows` is empty, the transmitter chooses one MCS for
    all packets by the average SNR, and the packet headers announce it: the highest rate whose predicted
    packet loss is at most 1 %, or at most 1 % above that of the most reliable rate. If the item does not fit
    at this rate, the next higher ones are tried (`channels.mcs.mcs_by_preference`): in packets of few fades,
    such as 128 symbols on rayleigh:64, the reliable rates may have room for less than a lossless codec
    needs, and an item that arrives with gaps is better than none. Only whole packets are sent, so that up to
    `packet_uses` - 1 data symbols remain unused.

    Args:
        codec: Packet codec, item to packets.
        packet_uses: Data symbols per packet, at least 1.
        rows: Rows of `channels.mcs.MCS_TABLE` by place; empty to choose by the average SNR.
        table: Block error rates on AWGN, from which packet losses are predicted.

    Raises:
        InvalidOption: The table has no such row, or `packet_uses` is smaller than 1.
    """

    codec: PacketCodec[X]
    packet_uses: int
    rows: tuple[int, ...] = ()
    table: BlerTable = field(default_factory=shipped_bler_table, repr=False)

    def __post_init__(self) -> None:
        for row in self.rows:
            if not 0 <= row < len(MCS_TABLE):
                raise InvalidOption(f"MCS {row} is not in the table; choose 0..{len(MCS_TABLE) - 1}")
        if self.packet_uses < 1:
            raise InvalidOption(f"packets of {self.packet_uses} data symbols: give at least 1")

    @property
    def name(self) -> str:
        """Canonical name, for instance "zlib+packets:512:csit-average" or "avif+packets:2048:mcs4-mcs9"."""
        rows = "-".join(f"mcs{row}" for row in self.rows)
        return f"{self.codec.name}+packets:{self.packet_uses}:{rows or 'csit-average'}"

    @property
    def csit(self) -> Csit:
        """Channel knowledge at the transmitter: "none" if all MCSs are fixed, otherwise "average"."""
        return "none" if self.rows else "average"

    def send(self, x: X, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Choose the MCS, encode the item into as many packets as fit, and map them to symbols."""
        uses = self._whole(uses)
        refusal = "no room for a payload; raise rho"
        # where no packet is whole, link adaptation to enormous packets would take minutes, in vain
        for mcs in self._choices(known) if uses else ():
            link = self._link(mcs)
            room = link.room(uses)
            if not any(room):
                continue
            try:
                packets = self.codec.encode(x, room)
                break
            except BudgetTooSmall as error:
                refusal = str(error)
        else:
            return nothing_sent(f"{uses} data symbols in packets of {self.packet_uses}: {refusal}")
        modulated = tuple(
            Modulated(part.mcs.constellation, count - part.header(count).uses)
            for part, count in link.places(uses)
            if part.payload_bits(count)
        )
        info = {
            "payload_bits": 8.0 * sum(map(len, packets)),
            "packets": float(len(packets)),
            "mcs": float(mcs[-1].index),
        }
        if isinstance(self.codec, HasForms):
            info |= mean_form([self.codec.form(packet) for packet in packets if packet])
        return Sent(link.send(packets, uses), modulated, info)

    def receive(self, received: Received, shape: Any, uses: int) -> list[Observation[X]]:
        """Decode all packets that arrived; the item is lost if there are none."""
        link = self._link(tuple(MCS_TABLE[row] for row in self.rows) or (MCS_TABLE[0],))
        return [self._observed(packets, shape) for packets in link.receive(received)]

    def _observed(self, packets: Sequence[bytes | None], shape: Any) -> Observation[X]:
        info = {"packet_loss": sum(packet is None for packet in packets) / max(len(packets), 1)}
        gaps = self.codec.decode(packets, shape) if any(packet is not None for packet in packets) else None
        refused = sum(map(bool, packets)) if gaps is None else gaps.refused
        if refused:
            info["corrupt_packets"] = float(refused)
        return Observation(None, info=info) if gaps is None else Observation(gaps.x, (gaps,), info)

    def _whole(self, uses: int) -> int:
        """Number of data symbols of all whole packets."""
        return uses // self.packet_uses * self.packet_uses

    def _choices(self, known: ChannelKnowledge | None) -> Sequence[tuple[Mcs, ...]]:
        """MCSs by place, in the order in which they are tried."""
        if self.rows:
            return (tuple(MCS_TABLE[row] for row in self.rows),)
        if known is None:
            raise InvalidOption("link adaptation needs the average SNR at the transmitter")
        seen = mcs_by_preference(known.law, known.snr_db, self.packet_uses, table=self.table)
        return [(mcs,) for mcs in seen]

    def _link(self, mcs: tuple[Mcs, ...]) -> PacketLink:
        return PacketLink(self.packet_uses, mcs, adapted=not self.rows)
