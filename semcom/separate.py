"""Separate source and channel coding: source codec, LDPC code, QAM, and fixed or adapted code rate."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from channels import Constellation, NamedStreams, Received
from channels.fec.ldpc import MAX_ITERATIONS
from channels.link import FRAME_BITS, DigitalLink, IdealLink, frame
from channels.mcs import MCS_TABLE, BlerTable, Mcs, mcs_by_preference, shipped_bler_table
from semcom.codecs.codec import Fitted, HasForms, SourceCodec, fit
from semcom.errors import BudgetTooSmall, CorruptPayload, InvalidOption
from semcom.observation import Decoded, Observation, Payload
from semcom.transmission import ChannelKnowledge, Csit, Modulated, Sent, Whispered, nothing_sent

X = TypeVar("X")

PLACEHOLDERS = ("placeholders",)  # name of the stream


@runtime_checkable
class LinkPolicy(Protocol):
    """Rule by which a digital transmitter chooses the modulation and coding scheme (MCS)."""

    @property
    def name(self) -> str:
        """Name of the policy as part of scheme names ("mcs12", "csit-average")."""
        ...

    @property
    def csit(self) -> Csit:
        """Channel knowledge that `choices` needs: "none" or "average"."""
        ...

    def choices(self, known: ChannelKnowledge | None, uses: int) -> Sequence[Mcs]:
        """Choose modulation and coding schemes for one transmission, in the order in which they are tried.

        The transmitter takes the first one that has room for the smallest payload of the item.

        Args:
            known: The channel's law and average SNR; None if `csit` is "none".
            uses: Number of data symbols of the transmission, control header included.

        Returns:
            Rows of `channels.mcs.MCS_TABLE`; none if no row has a chance on this channel.

        Raises:
            InvalidOption: `known` is None, but `csit` is "average".
        """
        ...


@dataclass(frozen=True)
class FixedMcs:
    """Link policy with one fixed modulation and code rate; no channel knowledge at the transmitter.

    Below the SNR at which the code fails, quality drops to nothing at once (cliff effect).

    Args:
        index: Row of `channels.mcs.MCS_TABLE`.

    Raises:
        InvalidOption: The table has no such row.
    """

    index: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < len(MCS_TABLE):
            raise InvalidOption(f"MCS {self.index} is not in the table; choose 0..{len(MCS_TABLE) - 1}")

    @property
    def name(self) -> str:
        """Name of the policy as part of scheme names, for instance "mcs12"."""
        return f"mcs{self.index}"

    @property
    def csit(self) -> Csit:
        """Always "none": a fixed MCS needs no channel knowledge at the transmitter."""
        return "none"

    def choices(self, known: ChannelKnowledge | None, uses: int) -> Sequence[Mcs]:
        """Return the fixed row of the MCS table alone, whatever the channel."""
        return (MCS_TABLE[self.index],)


@dataclass(frozen=True)
class Adapted:
    """Link adaptation by average SNR: the highest rate whose predicted payload failure is at most a target.

    The prediction combines block error rates of the LDPC code, measured on AWGN, with the fading statistics
    of the channel. Where no rate meets the target, as in slow fading or under losses of whole packets, the
    highest rate within the target of the most reliable one is used: a payload that may be lost is better than
    none. Higher rates are tried if the item does not fit (`channels.mcs.mcs_by_preference`).

    Args:
        target_failure: Largest predicted probability that a payload is lost, between 0 and 1; where no rate
            is that reliable, the largest excess over the most reliable one.
        table: Block error rates on AWGN, from which failures are predicted.
    """

    target_failure: float = 0.01
    table: BlerTable = field(default_factory=shipped_bler_table, repr=False)

    @property
    def name(self) -> str:
        """Name of the policy as part of scheme names: "csit-average"."""
        return "csit-average"

    @property
    def csit(self) -> Csit:
        """Always "average": adaptation needs the channel's law and its average SNR."""
        return "average"

    def choices(self, known: ChannelKnowledge | None, uses: int) -> Sequence[Mcs]:
        """Return the MCSs that have a chance, the preferred one first; none if all are hopeless.

        Raises:
            InvalidOption: `known` is None.
        """
        if known is None:
            raise InvalidOption("link adaptation needs the average SNR at the transmitter")
        return mcs_by_preference(known.law, known.snr_db, uses, self.target_failure, self.table)


@dataclass(frozen=True)
class Separate(Generic[X]):
    """Separate source and channel coding: a source codec over an LDPC-coded QAM link.

    The payload of least distortion that fits the transport block is sent. An item is lost if its block fails
    the CRC or its payload cannot be decoded.

    Args:
        codec: Source codec, item to bytes.
        policy: Link policy that chooses modulation and code rate.
        max_iterations: Largest number of iterations of the LDPC decoder, at least 1.
    """

    codec: SourceCodec
    policy: LinkPolicy
    max_iterations: int = MAX_ITERATIONS

    @property
    def name(self) -> str:
        """Canonical name, for instance "avif+ldpc:csit-average"."""
        return f"{self.codec.name}+ldpc:{self.policy.name}"

    @property
    def csit(self) -> Csit:
        """Channel knowledge that the link policy needs."""
        return self.policy.csit

    def send(self, x: X, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Choose the MCS, fit the source codec to its payload length, encode, and map the bits to symbols."""
        return self.encode(x, uses, known).sent

    def encode(self, x: X, uses: int, known: ChannelKnowledge | None) -> "Coded[X]":
        """Encode one item as `send` does, and return the payload along with the symbols.

        Args:
            x: The item.
            uses: Number of data symbols allowed, at least 0.
            known: The channel's law and average SNR; None if `csit` is "none".

        Returns:
            The symbols and the payload that they carry.
        """
        refused: list[Coded[X]] = []
        for link in map(self._link, self.policy.choices(known, uses)):
            if refused and message_bits(link, uses) - FRAME_BITS < refused[-1].needed_bits:
                continue
            coded = send_coded(self.codec, link, x, uses)
            if coded.fitted is not None:
                return coded
            refused.append(coded)
        snr = "" if known is None else f" at {known.snr_db:g} dB"
        nothing = nothing_sent(f"every modulation and code rate would be lost{snr}; raise the SNR")
        return refused[0] if refused else Coded(nothing, None)

    def receive(self, received: Received, shape: Any, uses: int) -> list[Observation[X]]:
        """Demap and decode every reception, check its CRC, and decode the payload; what fails is lost."""
        if self.csit == "none":
            (mcs,) = self.policy.choices(None, uses)
        else:
            mcs = MCS_TABLE[0]  # not used: the header announces the MCS
        return receive_coded((self.codec,), self._link(mcs), received, shape)

    def _link(self, mcs: Mcs) -> DigitalLink:
        return DigitalLink(mcs, self.max_iterations, adapted=self.csit != "none")


@dataclass(frozen=True, eq=False, slots=True)
class Coded(Generic[X]):
    """A digital transmission with the payload that it carries, as known to the transmitter.

    Args:
        sent: Channel symbols.
        fitted: Payload, and the item that it decodes to; None if nothing was sent.
        needed_bits: Length of the smallest payload in bits if it did not fit; 0 if it is not known.
    """

    sent: Sent
    fitted: Fitted | None
    needed_bits: int = 0


def send_coded(
    codec: SourceCodec, link: DigitalLink, x: X, uses: int, size: int = 0, tag: int = 0
) -> Coded[X]:
    """Encode an item at the least distortion that fits a link, and map it to symbols.

    Args:
        codec: Source codec.
        link: Digital link, bytes to symbols.
        x: The item.
        uses: Number of data symbols, all of which are used.
        size: Index into `link.sizes(uses)`, the message lengths from longest to shortest: the payload fits
            the message of this length. A shorter message has a lower code rate.
        tag: Number in the last byte of the frame (see `channels.link.frame`).

    Returns:
        The symbols and the payload that they carry; no symbols and a cause if even the smallest payload does
        not fit.
    """
    try:
        fitted = fit(codec, x, message_bits(link, uses, size) - FRAME_BITS)
    except BudgetTooSmall as error:
        refusal = nothing_sent(f"{error} ({uses} channel uses of {link.mcs.name})")
        return Coded(refusal, None, error.needed_bits)
    info = {
        "payload_bits": 8.0 * len(fitted.payload),
        "mcs": float(link.mcs.index),
        "scale": float(fitted.quality.scale),
        "setting": float(fitted.quality.setting),
        **(codec.form(fitted.payload) if isinstance(codec, HasForms) else {}),
    }
    symbols = link.send(frame(fitted.payload, tag), uses)
    modulated = Modulated(link.mcs.constellation, uses - link.header(uses).uses)
    return Coded(Sent(symbols, (modulated,), info), fitted)


def message_bits(link: DigitalLink, uses: int, size: int = 0) -> int:
    """Length in bits of one of the messages that a link can announce.

    Args:
        link: The link.
        uses: Number of data symbols, at least 0.
        size: Index into `link.sizes(uses)`; 0 is the longest message.

    Returns:
        Length in bits; 0 if the symbols have no room for any message.
    """
    sizes = link.sizes(uses)
    return sizes[size] if sizes else 0


def receive_coded(
    codecs: Sequence[SourceCodec], link: DigitalLink, received: Received, shape: Any
) -> list[Observation]:
    """Decode receptions of symbols made by `send_coded`.

    Args:
        codecs: Source codecs; the tag of the frame is the index of the one to use.
        link: Digital link as the receiver is configured.
        received: Batch of receptions, y [batch, uses].
        shape: Shape of the item, as its modality makes it known to every receiver.

    Returns:
        One observation per reception, with the block error rate of the link as "bler" in `info`. The item is
        lost where the frame or the payload could not be decoded.
    """
    delivery = link.receive(received)
    return [
        _observed(codecs, found, shape, bler)
        for found, bler in zip(delivery.frames(), delivery.bler.tolist(), strict=True)
    ]


def _observed(
    codecs: Sequence[SourceCodec], found: tuple[bytes, int] | None, shape: Any, bler: float
) -> Observation:
    info = {"bler": bler}
    if found is None or found[1] >= len(codecs):
        return Observation(None, info=info)
    payload, codec = found[0], codecs[found[1]]
    try:
        decoded = codec.decode(payload, shape)
    except CorruptPayload:  # bits are right, but not what this codec makes: another model, other arithmetic
        return Observation(None, info={**info, "corrupt_payload": 1.0})
    return Observation(decoded, (Decoded(decoded, payload=Payload(codec, payload, codec.name)),), info)


@dataclass(frozen=True)
class GenieSeparate(Generic[X]):
    """Source codec over an error-free link at channel capacity, an upper bound for every channel code.

    The transmitter knows the average SNR and the fading law, and sends as many bits as 99 % of channel
    realisations can carry, judged by those that it draws in advance (`IdealLink.payload_bits`). The payload
    arrives if the actual realisation can carry it:

        sum over uses of log2(1 + |h|^2 / N0) >= number of payload bits

    The genie hands the payload to the receiver directly. The symbols that cross the channel are placeholders:
    pseudorandom QPSK symbols in place of a code word.

    Args:
        codec: Source codec, item to bytes.
        link: Error-free link up to capacity.
    """

    codec: SourceCodec
    link: IdealLink

    @property
    def name(self) -> str:
        """Canonical name, for instance "avif+ideal:csit-average"."""
        return f"{self.codec.name}+ideal:csit-average"

    @property
    def csit(self) -> Csit:
        """Always "average": the payload length follows from the channel's law and its average SNR."""
        return "average"

    def send_all(self, x: X, uses: int, known: ChannelKnowledge | None) -> tuple[Whispered, ...]:
        """Fit the source codec to the outage capacity of the link, and send placeholder symbols."""
        if known is None:
            raise InvalidOption("the ideal link needs the average SNR at the transmitter")
        try:
            fitted = fit(self.codec, x, self.link.payload_bits(known.law, known.snr_db, uses))
        except BudgetTooSmall as error:
            return (Whispered(nothing_sent(f"{error} ({uses} channel uses at capacity)"), None),)
        info = {
            "payload_bits": 8.0 * len(fitted.payload),
            "scale": float(fitted.quality.scale),
            **(self.codec.form(fitted.payload) if isinstance(self.codec, HasForms) else {}),
        }
        symbols = Constellation(4).modulate(NamedStreams(0, PLACEHOLDERS).bits("bits", (2 * uses,)))
        return (Whispered(Sent(symbols, info=info), fitted),)

    def receive_knowing(
        self, whispered: Sequence[Whispered], received: Sequence[Received], shape: Any, uses: int
    ) -> list[Observation[X]]:
        """Return the decoded payload for receptions whose capacity sufficed; all others are lost."""
        (only,), (receptions,) = whispered, received
        fitted: Fitted = only.told
        arrived = self.link.succeeds(receptions, 8 * len(fitted.payload)).tolist()
        evidence = Decoded(fitted.decoded, payload=Payload(self.codec, fitted.payload, self.codec.name))
        return [Observation(fitted.decoded, (evidence,)) if ok else Observation(None) for ok in arrived]
