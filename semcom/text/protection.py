"""Unequal error protection of texts: important sentences in packets at lower code rates."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import combinations, pairwise, product
from typing import Any, Protocol, runtime_checkable

from channels import Received
from channels.link import FRAME_BITS
from channels.mcs import (
    MCS_TABLE,
    BlerTable,
    Mcs,
    header_of,
    largest_message,
    predicted_failure,
    shipped_bler_table,
)
from channels.packets import PacketLink
from semcom.codecs.codec import SourceCodec
from semcom.codecs.packets import GAP
from semcom.codecs.varint import read_varint, varint
from semcom.errors import CorruptPayload, InvalidOption
from semcom.modalities.text import TextShape
from semcom.observation import Gaps, Observation
from semcom.text.importance import Importance, sentences
from semcom.transmission import ChannelKnowledge, Csit, Modulated, Sent, nothing_sent

RATES = 6
"""Most modulation and coding schemes that the search tries for each class."""
RELIABLE = 1e-3
"""Predicted packet loss below which no lower code rate is tried."""
CUTS = 8
"""Most places at which the sorted units may be divided into classes."""
LENGTHS = (160, 80, 40, 20)
"""Longest units in characters that are tried: shorter ones fit into smaller packets, but cost more."""
GROWTHS = (1.0, 1.15, 1.35, 1.6, 2.0, 2.6, 3.5, 5.0, 7.0, 10.0)
"""Factors by which estimated sizes are enlarged until all units fit; texts that repeat themselves, which are
short as a whole but not in pieces, need the large ones."""
MOST_UNITS = 4096
"""Most units of a text."""


@runtime_checkable
class DecodesSeveral(Protocol):
    """A codec that decodes several payloads at once faster than one by one."""

    def decode_all(self, payloads: Sequence[bytes]) -> list[Any]:
        """Decode several payloads of this codec at once.

        Args:
            payloads: Any bytes each.

        Returns:
            One item, or one `CorruptPayload`, per payload.
        """
        ...


@dataclass(frozen=True)
class Unequal:
    """Texts in packets whose code rate depends on the importance of the sentences that they carry.

    The sentences of a text are sorted by importance per character and divided into classes; each class gets a
    modulation and code rate, or is left out. The search over divisions and rates maximises

        sum over classes of w_g (1 - P_g)   subject to   sum over classes of packets_g <= packets in all

    with the share w_g of the importance and the predicted packet loss P_g at the rate of the class. Every
    packet holds numbers and lengths of its sentences, so that each is shown at its place, and `GAP` in place
    of each one that is missing; packets are decoded independently. All of that, and the headers that announce
    the rate of every packet, is sent and counted.

    Args:
        codec: Lossless codec of texts.
        packet_uses: Data symbols per packet, at least 1.
        importance: Rule that weighs sentences; with one class it does not matter.
        classes: Number of classes, 1 to 4; with 1 all packets have the same code rate (equal protection).
        table: Block error rates on AWGN, from which packet losses are predicted.

    Raises:
        InvalidOption: `packet_uses` or `classes` is out of range.

    Reference:
        Masnick and Wolf, "On linear unequal error protection codes", IEEE Trans. Inf. Theory 13(4), 1967.
    """

    codec: SourceCodec[str]
    packet_uses: int
    importance: Importance
    classes: int = 3
    table: BlerTable = field(default_factory=shipped_bler_table, repr=False)

    def __post_init__(self) -> None:
        if self.packet_uses < 1:
            raise InvalidOption(f"packets of {self.packet_uses} data symbols: give at least 1")
        if not 1 <= self.classes <= 4:
            raise InvalidOption(f"{self.classes} classes of importance: give 1 to 4")

    @property
    def name(self) -> str:
        """Canonical name, for instance "smollm2+uep:256:rules"; "equal" for one class."""
        rule = "equal" if self.classes == 1 else self.importance.name
        return f"{self.codec.name}+uep:{self.packet_uses}:{rule}"

    @property
    def csit(self) -> Csit:
        """Always "average": the rates follow from the channel's law and its average SNR."""
        return "average"

    def send(self, x: str, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Divide a text into classes, choose their rates, and send the packets."""
        if known is None:
            raise InvalidOption("unequal error protection needs the average SNR at the transmitter")
        uses = uses // self.packet_uses * self.packet_uses
        count = uses // self.packet_uses
        rates = self._rates(known)
        if not count or not rates:
            return nothing_sent(
                f"{uses} data symbols in packets of {self.packet_uses} have no room for a payload; raise rho"
            )
        if not x:
            return nothing_sent("a text of 0 characters: nothing to send in packets; send at least one")
        if (fewest := len(sentences(x, max(LENGTHS)))) > MOST_UNITS:
            return nothing_sent(f"a text of {fewest} sentences: at most {MOST_UNITS}; split it")
        plans = [self._planned(x, sentences(x, most), count, rates) for most in LENGTHS]
        value, plan = max(plans, key=lambda found: found[0])
        if value < 0:
            return nothing_sent(
                f"{self.name}: {count} packets have no room for a text of {len(x)} characters; raise rho or "
                "the SNR"
            )
        packets = [packet for _, group in plan for packet in group]
        mcs = [rate.mcs for rate, group in plan for _ in group]
        packets += [b""] * (count - len(packets))
        mcs += [mcs[-1]] * (count - len(mcs))
        link = PacketLink(self.packet_uses, tuple(mcs), adapted=True)
        modulated = tuple(
            Modulated(part.mcs.constellation, some - part.header(some).uses)
            for part, some in link.places(uses)
        )
        info = {
            "payload_bits": 8.0 * sum(map(len, packets)),
            "packets": float(count),
            "classes": float(len(plan)),
            "mcs": float(mcs[0].index),
        }
        return Sent(link.send(packets, uses), modulated, info)

    def receive(self, received: Received, shape: TextShape, uses: int) -> list[Observation[str]]:
        """Decode all packets that arrived, and show their sentences at their places."""
        link = PacketLink(self.packet_uses, (MCS_TABLE[0],), adapted=True)
        return [self._observed(packets) for packets in link.receive(received)]

    def _observed(self, packets: Sequence[bytes | None]) -> Observation[str]:
        lost = sum(packet is None for packet in packets)
        info = {"packet_loss": lost / max(len(packets), 1)}
        filled = [packet for packet in packets if packet]
        heads = [head for packet in filled if (head := _read(packet)) is not None]
        texts = self._decoded([head.payload for head in heads])
        found: dict[int, str] = {}
        total = 0
        corrupt = len(filled) - len(heads)
        for head, text in zip(heads, texts, strict=True):
            if isinstance(text, str) and head.fits(text):
                total = max(total, head.total)
                found |= zip(head.numbers, head.cut(text), strict=True)
            else:
                corrupt += 1
        if corrupt:
            info["corrupt_packets"] = float(corrupt)
        if not found:
            return Observation(None, info=info)
        runs = [(found.get(i, GAP + " "), i not in found) for i in range(total)]
        x = "".join(run for run, _ in runs)
        missing = tuple(gone for run, gone in runs for _ in run)
        return Observation(x, (Gaps(x, missing),), info)

    def _decoded(self, payloads: list[bytes]) -> list[str | CorruptPayload]:
        if isinstance(self.codec, DecodesSeveral):
            return self.codec.decode_all(payloads)
        found: list[str | CorruptPayload] = []
        for payload in payloads:
            try:
                found.append(self.codec.decode(payload, TextShape()))
            except CorruptPayload as error:
                found.append(error)
        return found

    def _rates(self, known: ChannelKnowledge) -> "list[Rate]":
        """Rates worth trying, from the most to the least reliable."""
        found: list[Rate] = []
        for mcs in sorted(MCS_TABLE, key=lambda mcs: mcs.bits_per_use):
            bits = largest_message(mcs, header_of(mcs, True, self.packet_uses), self.packet_uses)
            room = (bits - FRAME_BITS) // 8
            if room > 0:
                loss = predicted_failure(
                    mcs, known.law, known.snr_db, bits, self.packet_uses, True, self.table
                )
                found.append(Rate(mcs, room, loss))
        least = min((rate.loss for rate in found), default=1.0)
        safe = [rate for rate in found if rate.loss <= max(RELIABLE, 1.02 * least)]
        riskier = [rate for rate in found if safe and rate.room > safe[-1].room and rate.loss < 0.95]
        useful = [*safe[-1:], *riskier] if least < 1 else []
        step = (len(useful) - 1) / (RATES - 1)
        return useful if len(useful) <= RATES else [useful[round(i * step)] for i in range(RATES)]

    def _planned(
        self, x: str, units: Sequence[range], count: int, rates: "Sequence[Rate]"
    ) -> "tuple[float, list[tuple[Rate, list[bytes]]]]":
        """Expected importance, rates and packets of the classes sent; estimates grow until all fit."""
        if len(units) > MOST_UNITS:
            return -1.0, []
        weights = [float(weight) for weight in self.importance(x, units)]
        if len(weights) != len(units) or not all(0 <= weight < math.inf for weight in weights):
            raise InvalidOption(
                f"importance {self.importance.name}: give one weight of at least 0 for every sentence"
            )
        total = math.fsum(weights) or 1.0
        order = sorted(range(len(units)), key=lambda i: (-weights[i] / len(units[i]), i))
        whole = len(_encoded(self.codec, x))
        half = len(x) // 2
        again = (
            len(_encoded(self.codec, x[:half])) + len(_encoded(self.codec, x[half:])) - whole
        )  # per packet
        for growth in GROWTHS:
            sizes = [growth * whole * len(unit) / len(x) + 2 for unit in units]
            rooms = [replace(rate, room=rate.room - again - 3) for rate in rates]
            plan = self._best(order, weights, sizes, count, [rate for rate in rooms if rate.room > 0])
            if not plan:
                break  # nor would longer ones fit
            packed = [
                (rate, own, self._packed(x, units, sorted(own), rate.room + again + 3)) for rate, own in plan
            ]
            sent = [(rate, packets) for rate, _, packets in packed if packets]
            if sent and len(sent) == len(packed) and sum(len(packets) for _, packets in sent) <= count:
                kept = math.fsum((1 - rate.loss) * weights[i] / total for rate, own, _ in packed for i in own)
                return kept, sent
        return -1.0, []

    def _best(
        self, order: list[int], weights: list[float], sizes: list[float], count: int, rates: "Sequence[Rate]"
    ) -> "list[tuple[Rate, list[int]]]":
        """Division into classes and rates of the largest expected importance; ties go to fewer packets."""
        total = math.fsum(weights) or 1.0
        best: tuple[float, int] | None = None
        chosen: list[tuple[Rate, list[int]]] = []
        left_out = Rate(MCS_TABLE[-1], 0, 1.0)
        for division in _divisions(len(order), self.classes):
            parts = [order[a:b] for a, b in division]
            shares = [math.fsum(weights[i] for i in part) / total for part in parts]
            bytes_ = [math.fsum(sizes[i] for i in part) for part in parts]
            options = (*rates, left_out) if self.classes > 1 else rates
            for choice in product(options, repeat=len(parts)):
                if any(a.room > b.room > 0 or (not a.room and b.room) for a, b in pairwise(choice)):
                    continue  # a more important class never gets the higher rate
                needed = sum(
                    math.ceil(size / rate.room)
                    for size, rate in zip(bytes_, choice, strict=True)
                    if rate.room
                )
                if not 0 < needed <= count:
                    continue
                value = math.fsum(s * (1 - rate.loss) for s, rate in zip(shares, choice, strict=True))
                if best is None or (value, -needed) > best:
                    best = value, -needed
                    chosen = [(rate, part) for rate, part in zip(choice, parts, strict=True) if rate.room]
        return chosen

    def _packed(self, x: str, units: Sequence[range], own: Sequence[int], room: int) -> list[bytes] | None:
        """Pack sentences in order, as many into each packet as fit; None if one alone does not fit."""
        packets: list[bytes] = []
        place = 0
        while place < len(own):
            low, high, best = 0, len(own) - place + 1, b""
            while high - low > 1:  # `low` sentences fit, `high` do not
                middle = (low + high) // 2
                packet = self._packet(x, units, own[place : place + middle])
                low, high, best = (middle, high, packet) if len(packet) <= room else (low, middle, best)
            if not low:
                return None
            packets.append(best)
            place += low
        return packets

    def _packet(self, x: str, units: Sequence[range], own: Sequence[int]) -> bytes:
        steps = [own[0], *(b - a - 1 for a, b in pairwise(own))]
        lengths = [len(units[i]) for i in own[:-1]]
        head = b"".join(map(varint, (len(units), len(own), *steps, *lengths)))
        return head + _encoded(self.codec, "".join(x[units[i].start : units[i].stop] for i in own))


@dataclass(frozen=True)
class Rate:
    """A modulation and coding scheme for packets of one length.

    Args:
        mcs: Constellation and code rate.
        room: Bytes of a packet.
        loss: Predicted probability that a packet is lost.
    """

    mcs: Mcs
    room: int
    loss: float


@dataclass(frozen=True)
class _Head:
    """What a packet says of its sentences."""

    total: int
    numbers: tuple[int, ...]
    lengths: tuple[int, ...]
    payload: bytes

    def fits(self, text: str) -> bool:
        """Whether the text of the packet is long enough for all sentences, of which none is empty."""
        return sum(self.lengths) < len(text)

    def cut(self, text: str) -> Iterator[str]:
        """The sentences of the text of the packet."""
        for length in self.lengths:
            yield text[:length]
            text = text[length:]
        yield text


def _read(packet: bytes) -> _Head | None:
    """Head and payload of a packet; None if it is damaged."""
    place, values = 0, []

    def number() -> int | None:
        nonlocal place
        try:
            value, place = read_varint(packet, place)
        except CorruptPayload:
            return None
        return value

    total, count = number(), number()
    if total is None or count is None or not 0 < count <= total <= MOST_UNITS:
        return None
    for _ in range(2 * count - 1):
        value = number()
        if value is None:
            return None
        values.append(value)
    numbers = [values[0]]
    for step in values[1:count]:
        numbers.append(numbers[-1] + step + 1)
    if numbers[-1] >= total:
        return None
    return _Head(total, tuple(numbers), tuple(values[count:]), packet[place:])


def _divisions(count: int, classes: int) -> Iterator[list[tuple[int, int]]]:
    """Ways to cut a sorted list into at most so many runs, at places spread evenly."""
    places = sorted({round((i + 1) * count / (CUTS + 1)) for i in range(CUTS)} - {0, count})
    for cuts in range(classes):
        for chosen in combinations(places, cuts):
            edges = (0, *chosen, count)
            yield list(pairwise(edges))


@lru_cache(maxsize=4096)
def _encoded(codec: SourceCodec[str], text: str) -> bytes:
    """Payload of a text; several SNRs ask for the same."""
    return codec.encode(text, codec.qualities[-1])
