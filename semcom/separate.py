"""Separate source and channel coding: codec, LDPC, QAM, and who chooses the modulation and code rate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from channels import Constellation, NamedStreams, Received
from channels.link import FRAME_BITS, DigitalLink, IdealLink, frame
from channels.mcs import MCS_TABLE, Mcs, choose_mcs
from semcom.codecs.codec import Fitted, SourceCodec, fit
from semcom.errors import BudgetTooSmall, CorruptPayload, InvalidOption
from semcom.observation import Decoded, Observation, Payload
from semcom.transmission import ChannelKnowledge, Csit, Modulated, Sent, Whispered, nothing_sent

X = TypeVar("X")

PLACEHOLDERS = ("placeholders",)  # name of the stream


@runtime_checkable
class LinkPolicy(Protocol):
    """Which modulation and code rate a digital transmitter uses."""

    @property
    def name(self) -> str:
        """Spelling in names of schemes ("mcs12", "csit-average")."""
        ...

    @property
    def csit(self) -> Csit:
        """Channel knowledge that the choice depends on."""
        ...

    def choose(self, known: ChannelKnowledge | None, uses: int) -> Mcs | None:
        """Choose the modulation and coding scheme of one transmission.

        Args:
            known: What the transmitter knows of the channel; None with `csit` "none".
            uses: Data symbols of the transmission.

        Returns:
            A row of `channels.mcs.MCS_TABLE`; None if none is good enough.
        """
        ...


@dataclass(frozen=True)
class FixedMcs:
    """One modulation and code rate whatever the channel: no knowledge at the transmitter, and a cliff.

    Args:
        index: Row of `channels.mcs.MCS_TABLE`.

    Raises:
        InvalidOption: No such row.
    """

    index: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < len(MCS_TABLE):
            raise InvalidOption(f"MCS {self.index} is not in the table; choose 0..{len(MCS_TABLE) - 1}")

    @property
    def name(self) -> str:
        """Spelling in names of schemes: "mcs12"."""
        return f"mcs{self.index}"

    @property
    def csit(self) -> Csit:
        """No channel knowledge at the transmitter."""
        return "none"

    def choose(self, known: ChannelKnowledge | None, uses: int) -> Mcs | None:
        """The one row of this policy, whatever the channel."""
        return MCS_TABLE[self.index]


@dataclass(frozen=True)
class Adapted:
    """Link adaptation: the fastest row whose predicted payload failure is at most the target.

    The prediction rests on block error rates of the code measured on AWGN, and on the fading statistics of
    the channel; the transmitter knows the average SNR.

    Args:
        target_failure: Largest predicted probability that a payload is lost.
    """

    target_failure: float = 0.01

    @property
    def name(self) -> str:
        """Spelling in names of schemes: "csit-average"."""
        return "csit-average"

    @property
    def csit(self) -> Csit:
        """The law of the channel and its average SNR."""
        return "average"

    def choose(self, known: ChannelKnowledge | None, uses: int) -> Mcs | None:
        """The fastest row that is predicted to be safe; None if none is.

        Raises:
            InvalidOption: Nothing is known of the channel.
        """
        if known is None:
            raise InvalidOption("link adaptation needs the average SNR at the transmitter")
        return choose_mcs(known.law, known.snr_db, uses, self.target_failure)


@dataclass(frozen=True)
class Separate(Generic[X]):
    """Source codec and channel code, each doing its own work.

    The finest quality that fits the transport block is sent. A block that fails its CRC, or bytes that do
    not decode, are an outage.

    Args:
        codec: Item to bytes.
        policy: Chooses modulation and code rate.
        max_iterations: Of the LDPC decoder.
    """

    codec: SourceCodec
    policy: LinkPolicy
    max_iterations: int = 20

    @property
    def name(self) -> str:
        """Canonical spelling: "avif+ldpc:csit-average"."""
        return f"{self.codec.name}+ldpc:{self.policy.name}"

    @property
    def csit(self) -> Csit:
        """Channel knowledge of the link policy."""
        return self.policy.csit

    def send(self, x: X, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Choose modulation and code rate, fit the codec to them, encode, map to symbols."""
        return self.encode(x, uses, known).sent

    def encode(self, x: X, uses: int, known: ChannelKnowledge | None) -> "Coded[X]":
        """As `send`, and what the transmitter knows of the result.

        Args:
            x: One item.
            uses: Data symbols allowed.
            known: What the transmitter knows of the channel.

        Returns:
            The symbols with the payload that they carry, None if nothing fits.
        """
        mcs = self.policy.choose(known, uses)
        if mcs is None:
            snr = "" if known is None else f" at {known.snr_db:g} dB"
            return Coded(nothing_sent(f"no modulation and code rate is safe{snr}; raise the SNR"), None)
        return send_coded(self.codec, self._link(mcs), x, uses)

    def receive(self, received: Received, shape: Any, uses: int) -> list[Observation[X]]:
        """Demap, decode, check the CRC, decode the payload; what fails is lost."""
        mcs = self.policy.choose(None, uses) if self.csit == "none" else None
        link = self._link(mcs or MCS_TABLE[0])  # one that adapts reads its MCS from the header
        return receive_coded((self.codec,), link, received, shape)

    def _link(self, mcs: Mcs) -> DigitalLink:
        return DigitalLink(mcs, self.max_iterations, adapted=self.csit != "none")


@dataclass(frozen=True, eq=False, slots=True)
class Coded(Generic[X]):
    """A digital transmission as its transmitter knows it.

    Args:
        sent: Symbols.
        fitted: Payload and what it decodes to; None if nothing was sent.
    """

    sent: Sent
    fitted: Fitted | None


def send_coded(
    codec: SourceCodec, link: DigitalLink, x: X, uses: int, size: int = 0, tag: int = 0
) -> Coded[X]:
    """The finest quality that fits the link, as symbols; nothing if even the coarsest does not fit.

    Args:
        codec: Item to bytes.
        link: Bits to symbols.
        x: The item.
        uses: Data symbols, all of which are used.
        size: Which of the message sizes of the link is filled at most; a shorter one has a lower code rate.
        tag: Number in the byte that ends the frame, see `channels.link.frame`.

    Returns:
        The symbols and what they carry.
    """
    try:
        fitted = fit(codec, x, message_bits(link, uses, size) - FRAME_BITS)
    except BudgetTooSmall as error:
        return Coded(nothing_sent(f"{error} ({uses} channel uses of {link.mcs.name})"), None)
    info = {
        "payload_bits": 8.0 * len(fitted.payload),
        "mcs": float(link.mcs.index),
        "scale": float(fitted.quality.scale),
        "setting": float(fitted.quality.setting),
    }
    symbols = link.send(frame(fitted.payload, tag), uses)
    modulated = Modulated(link.mcs.constellation, uses - link.header(uses).uses)
    return Coded(Sent(symbols, (modulated,), info), fitted)


def message_bits(link: DigitalLink, uses: int, size: int) -> int:
    """Bits of the message of one of the sizes that a link can announce; 0 if it has no room for any.

    Args:
        link: The link.
        uses: Its data symbols.
        size: 0 is the longest.
    """
    sizes = link.sizes(uses)
    return sizes[size] if sizes else 0


def receive_coded(
    codecs: Sequence[SourceCodec], link: DigitalLink, received: Received, shape: Any
) -> list[Observation]:
    """Decode receptions of what `send_coded` made; what does not arrive or does not decode is lost.

    Args:
        codecs: Those that the tag of the frame chooses among.
        link: The receiver's configuration.
        received: A batch of receptions.
        shape: Shape of the item.

    Returns:
        One observation per reception, with the block error rate "bler".
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
    except CorruptPayload:
        return Observation(None, info=info)
    return Observation(decoded, (Decoded(decoded, payload=Payload(codec, payload, codec.name)),), info)


@dataclass(frozen=True)
class GenieSeparate(Generic[X]):
    """Source codec over an error-free link at channel capacity: what no real code can beat.

    The transmitter knows the average SNR and the law of the fading, and sends what all but 1 % of channel
    realisations carry; the payload arrives if the one that happened does,

        sum over uses of log2(1 + |h|^2 / N0) >= bits.

    A genie hands the payload over; the symbols that cross the channel are placeholders, QPSK as white as a
    code word would be.

    Args:
        codec: Item to bytes.
        link: Error-free up to capacity.
    """

    codec: SourceCodec
    link: IdealLink

    @property
    def name(self) -> str:
        """Canonical spelling: "avif+ideal:csit-average"."""
        return f"{self.codec.name}+ideal:csit-average"

    @property
    def csit(self) -> Csit:
        """The law of the channel and its average SNR."""
        return "average"

    def send_all(self, x: X, uses: int, known: ChannelKnowledge | None) -> tuple[Whispered, ...]:
        """Fit the codec to the outage capacity of the link."""
        if known is None:
            raise InvalidOption("the ideal link needs the average SNR at the transmitter")
        try:
            fitted = fit(self.codec, x, self.link.payload_bits(known.law, known.snr_db, uses))
        except BudgetTooSmall as error:
            return (Whispered(nothing_sent(f"{error} ({uses} channel uses at capacity)"), None),)
        info = {"payload_bits": 8.0 * len(fitted.payload), "scale": float(fitted.quality.scale)}
        symbols = Constellation(4).modulate(NamedStreams(0, PLACEHOLDERS).bits("bits", (2 * uses,)))
        return (Whispered(Sent(symbols, info=info), fitted),)

    def receive_knowing(
        self, whispered: Sequence[Whispered], received: Sequence[Received], shape: Any, uses: int
    ) -> list[Observation[X]]:
        """The payload where the gains carried it, whatever was received."""
        (only,), (receptions,) = whispered, received
        fitted: Fitted = only.told
        arrived = self.link.succeeds(receptions, 8 * len(fitted.payload)).tolist()
        evidence = Decoded(fitted.decoded, payload=Payload(self.codec, fitted.payload, self.codec.name))
        return [Observation(fitted.decoded, (evidence,)) if ok else Observation(None) for ok in arrived]
