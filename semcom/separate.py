"""Separate source and channel coding: codec, LDPC, QAM, and who chooses the modulation and code rate."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from channels import Channel, Constellation, NamedStreams, SnrDb, Streams, transmit
from channels.link import FRAME_BITS, DigitalLink, IdealLink, frame
from channels.mcs import MCS_TABLE, Mcs, choose_mcs
from semcom.budget import Budget
from semcom.codecs.codec import Fitted, SourceCodec, fit
from semcom.errors import BudgetTooSmall, CorruptPayload, InvalidOption
from semcom.transmission import (
    Concealment,
    Csit,
    Observation,
    Origin,
    Payload,
    Sent,
    lost,
    nothing_sent,
    observe_images,
)

PLACEHOLDERS = ("placeholders",)  # name of the stream


@runtime_checkable
class LinkPolicy(Protocol):
    """Which modulation and code rate a digital transmitter uses."""

    @property
    def name(self) -> str:
        """How schemes spell it: "mcs12", "adapted"."""
        ...

    @property
    def csit(self) -> Csit:
        """What the choice depends on."""
        ...

    def choose(self, channel: Channel, csit_snr_db: float | None, budget: Budget) -> Mcs | None:
        """The modulation and coding scheme, None if none is good enough."""
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
        """Canonical spelling."""
        return f"mcs{self.index}"

    @property
    def csit(self) -> Csit:
        """None."""
        return "none"

    def choose(self, channel: Channel, csit_snr_db: float | None, budget: Budget) -> Mcs | None:
        """Always the same row."""
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
        """Canonical spelling."""
        return "csit-average"

    @property
    def csit(self) -> Csit:
        """The average SNR."""
        return "average"

    def choose(self, channel: Channel, csit_snr_db: float | None, budget: Budget) -> Mcs | None:
        """Look the rows up at this SNR."""
        if csit_snr_db is None:
            raise InvalidOption("link adaptation needs the average SNR at the transmitter")
        return choose_mcs(channel, csit_snr_db, channel.data_uses(budget.channel_uses), self.target_failure)


@dataclass(frozen=True)
class Separate:
    """Source codec and channel code, each doing its own work.

    The finest quality that fits the transport block is sent. A block that fails its CRC, or bytes that do
    not decode, are an outage, shown by the stated concealment.

    Args:
        codec: Image to bytes.
        policy: Chooses modulation and code rate.
        concealment: What is shown for a lost item.
        max_iterations: Of the LDPC decoder.
    """

    codec: SourceCodec
    policy: LinkPolicy
    concealment: Concealment = "mean-color"
    max_iterations: int = 20

    @property
    def name(self) -> str:
        """Canonical spelling."""
        return f"{self.codec.name}+ldpc:{self.policy.name}"

    @property
    def csit(self) -> Csit:
        """That of the policy."""
        return self.policy.csit

    def prepare(
        self,
        x: Float[Tensor, "1 3 height width"],
        budget: Budget,
        channel: Channel,
        csit_snr_db: float | None,
    ) -> Sent:
        """Choose, fit, frame, encode, map."""
        shape = tuple(x.shape)
        mcs = self.policy.choose(channel, csit_snr_db, budget)
        if mcs is None:
            return nothing_sent(
                shape, f"no modulation and code rate is safe at {csit_snr_db:g} dB; raise the SNR"
            )
        link = DigitalLink(mcs, self.max_iterations, adapted=self.csit != "none")
        return send_coded(self.codec, link, x, budget, channel)

    def deliver(self, sent: Sent, channel: Channel, snr_db: SnrDb, rng: Streams) -> Observation:
        """Channel, demapping, decoding, CRC; then the image decoder, or the concealment."""
        return receive_coded(sent, channel, snr_db, rng, self.concealment)


@dataclass(frozen=True, eq=False, slots=True)
class Coded:
    """How an image was coded; what `receive_coded` needs."""

    codec: SourceCodec
    link: DigitalLink
    fitted: Fitted


def send_coded(
    codec: SourceCodec,
    link: DigitalLink,
    x: Float[Tensor, "1 3 height width"],
    budget: Budget,
    channel: Channel,
    size: int = 0,
) -> Sent:
    """The finest quality that fits the link, as symbols; nothing if even the coarsest does not fit.

    Args:
        codec: Image to bytes.
        link: Bits to symbols.
        x: The image.
        budget: Channel uses allowed.
        channel: The medium.
        size: Which of the message sizes of the link is filled at most; a shorter one has a lower code rate.
    """
    shape = tuple(x.shape)
    uses = channel.data_uses(budget.channel_uses)
    try:
        fitted = fit(codec, x, message_bits(link, uses, size) - FRAME_BITS)
    except BudgetTooSmall as error:
        return nothing_sent(shape, f"{error} ({uses} channel uses of {link.mcs.name})")
    info = {
        "payload_bits": 8.0 * len(fitted.payload),
        "mcs": float(link.mcs.index),
        "scale": float(fitted.quality.scale),
        "setting": float(fitted.quality.setting),
    }
    symbols = link.send(frame(fitted.payload), uses)
    return Sent(symbols, uses + channel.overhead(uses), shape, Coded(codec, link, fitted), info)


def decoded_by_transmitter(sent: Sent) -> Float[Tensor, "1 3 height width"]:
    """The picture that the bits of `send_coded` decode to, which the transmitter knows too."""
    coded: Coded = sent.content
    return coded.fitted.decoded


def message_bits(link: DigitalLink, uses: int, size: int) -> int:
    """Length of the message of this size; 0 if the link has no room for any."""
    sizes = link.sizes(uses)
    return sizes[size] if sizes else 0


def receive_coded(
    sent: Sent, channel: Channel, snr_db: SnrDb, rng: Streams, concealment: Concealment
) -> Observation:
    """Deliver what `send_coded` made; what does not arrive or does not decode is an outage."""
    if sent.cause:
        return lost(sent, concealment, rng.batch)
    coded: Coded = sent.content
    received = transmit(channel, sent.symbols.expand(rng.batch, -1), snr_db, rng.fork("channel"))
    delivery = coded.link.receive(received)
    arrived = delivery.payloads()
    images = [_decode(payload, coded, sent.shape) for payload in arrived]
    payloads = tuple(
        None if data is None or image is None else Payload(coded.codec, data)
        for data, image in zip(arrived, images, strict=True)
    )
    energy = torch.full((rng.batch,), float(sent.channel_uses))  # QAM: average over the constellation
    origin = origin_of(coded.codec, coded.fitted, sent.shape, rng.batch)
    return observe_images(sent, images, energy, concealment, {"bler": delivery.bler}, origin, payloads)


def origin_of(codec: SourceCodec, fitted: Fitted, shape: tuple[int, ...], batch: int) -> Origin:
    """That of pictures of a codec: bits per value in log2."""
    per_value = math.log2(max(8 * len(fitted.payload), 1) / math.prod(shape))
    return Origin(codec.name, torch.full((batch, 1), per_value))


def _decode(payload: bytes | None, coded: Coded, shape: tuple[int, ...]) -> Tensor | None:
    if payload is None:
        return None
    if payload == coded.fitted.payload:  # decoding is a function of the bytes; this one is done already
        return coded.fitted.decoded
    try:
        return coded.codec.decode(payload, shape)
    except CorruptPayload:
        return None


@dataclass(frozen=True)
class IdealSeparate:
    """Source codec over an error-free link at channel capacity: what no real code can beat.

    The transmitter knows the average SNR and the law of the fading, and sends what all but 1 % of channel
    realisations carry; the payload arrives if the one that happened does,
    sum over uses of log2(1 + |h|^2 / N0) >= bits.

    Args:
        codec: Image to bytes.
        link: Error-free up to capacity.
        concealment: What is shown for a lost item.
    """

    codec: SourceCodec
    link: IdealLink
    concealment: Concealment = "mean-color"

    @property
    def name(self) -> str:
        """Canonical spelling."""
        return f"{self.codec.name}+ideal:csit-average"

    @property
    def csit(self) -> Csit:
        """The average SNR."""
        return "average"

    def prepare(
        self,
        x: Float[Tensor, "1 3 height width"],
        budget: Budget,
        channel: Channel,
        csit_snr_db: float | None,
    ) -> Sent:
        """Fit to the capacity; the symbols are placeholders, QPSK as white as a code word would be."""
        if csit_snr_db is None:
            raise InvalidOption("the ideal link needs the average SNR at the transmitter")
        shape = tuple(x.shape)
        uses = channel.data_uses(budget.channel_uses)
        try:
            fitted = fit(self.codec, x, self.link.payload_bits(channel, csit_snr_db, uses))
        except BudgetTooSmall as error:
            return nothing_sent(shape, f"{error} ({uses} channel uses at capacity)")
        info = {"payload_bits": 8.0 * len(fitted.payload), "scale": float(fitted.quality.scale)}
        symbols = Constellation(4).modulate(NamedStreams(0, PLACEHOLDERS).bits("bits", (2 * uses,)))
        return Sent(symbols, uses + channel.overhead(uses), shape, fitted, info)

    def deliver(self, sent: Sent, channel: Channel, snr_db: SnrDb, rng: Streams) -> Observation:
        """Look at the fading only."""
        if sent.cause:
            return lost(sent, self.concealment, rng.batch)
        fitted: Fitted = sent.content
        received = transmit(channel, sent.symbols.expand(rng.batch, -1), snr_db, rng.fork("channel"))
        arrived = self.link.succeeds(received, 8 * len(fitted.payload))
        images = [fitted.decoded if ok else None for ok in arrived.tolist()]
        payloads = tuple(Payload(self.codec, fitted.payload) if ok else None for ok in arrived.tolist())
        energy = torch.full((rng.batch,), float(sent.channel_uses))
        origin = origin_of(self.codec, fitted, sent.shape, rng.batch)
        return observe_images(sent, images, energy, self.concealment, origin=origin, payloads=payloads)
