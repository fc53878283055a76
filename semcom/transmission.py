"""From a source image to what the receiver knows: transmissions, and the carriers between their steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from channels import Channel, SnrDb, Streams
from semcom.budget import Budget
from semcom.codecs.codec import SourceCodec
from semcom.operators import Identity, Operator

Csit = Literal["none", "average"]
"""What the transmitter knows of the channel: nothing, or its average SNR."""

Concealment = Literal["grey", "mean-color"]
"""What is shown for an item that was lost."""

MEAN_COLOR = (0.4813, 0.4574, 0.4078)
"""Mean RGB of ImageNet photographs, a constant of the training set; never measured on the item."""


@dataclass(frozen=True, eq=False, slots=True)
class Origin:
    """Whose decoder made a picture, and where it was at work; by this its error is looked up.

    Args:
        code: Name in the tables of `semcom.calibration`.
        point: Coordinates there: channel uses per value in log2 and effective SNR in dB of joint coding, bits
            per value in log2 of a codec.
    """

    code: str
    point: Float[Tensor, "batch axes"]


@dataclass(frozen=True, eq=False, slots=True)
class Payload:
    """The bytes behind a decoded picture.

    Args:
        codec: Whose.
        data: As they arrived.
    """

    codec: SourceCodec
    data: bytes


@dataclass(frozen=True, eq=False, slots=True)
class Nonlinear:
    """Evidence y = M(x) + noise of one item, white with variance 1.

    Args:
        y: Real.
        measurement: M, of a picture [1, 3, height, width] in [0, 1]; differentiable.
    """

    y: Tensor
    measurement: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False, slots=True)
class Linear:
    """Evidence y = A x + noise.

    Args:
        y: What was received, in image units.
        operator: A.
        noise_std: Standard deviation per real value of y, one per item: infinite where the item was lost,
            NaN where only the origin tells it, or nobody.
        origin: Of a decoded picture.
        symbols: Where the picture is an estimate from symbols of known noise, those, one item each; a
            receiver with a prior takes them in place of the picture. None for a lost item.
        payloads: Where a codec decoded the picture, its bytes, one item each; None for a lost item.
        encoded: Where a network decoded the picture, the symbols it decoded, one item each.
    """

    y: Tensor
    operator: Operator
    noise_std: Float[Tensor, " batch"]
    origin: Origin | None = None
    symbols: tuple["Linear | None", ...] = ()
    payloads: tuple[Payload | None, ...] = ()
    encoded: tuple[Nonlinear, ...] = ()

    def item(self, index: int) -> "Linear":
        """One batch element, as a batch of one."""
        part = slice(index, index + 1)
        origin = None if self.origin is None else Origin(self.origin.code, self.origin.point[part])
        noise_std, symbols, payloads = self.noise_std[part], self.symbols[part], self.payloads[part]
        return Linear(self.y[part], self.operator, noise_std, origin, symbols, payloads, self.encoded[part])


@dataclass(frozen=True, eq=False, slots=True)
class Observation:
    """All that a generative receiver knows.

    Args:
        evidence: One or more pieces of evidence.
        shape: Shape [batch, 3, height, width] of the source.
        channel_uses: Complex channel uses spent per item: data, pilots, headers, CRC.
        energy: Sum of |x|^2 spent per item; over the constellation's average for QAM.
        info: Numbers per item for the records: bits, outage, ...
    """

    evidence: tuple[Linear, ...]
    shape: tuple[int, ...]
    channel_uses: Int[Tensor, " batch"]
    energy: Float[Tensor, " batch"]
    info: Mapping[str, Float[Tensor, " batch"]]

    def item(self, index: int) -> "Observation":
        """One batch element, as a batch of one."""
        part = slice(index, index + 1)
        return Observation(
            tuple(evidence.item(index) for evidence in self.evidence),
            (1, *self.shape[1:]),
            self.channel_uses[part],
            self.energy[part],
            {name: values[part] for name, values in self.info.items()},
        )


@dataclass(frozen=True, eq=False, slots=True)
class Sent:
    """What one item becomes at the transmitter, before the channel.

    Args:
        symbols: Data symbols, [1, 0] if nothing fits.
        channel_uses: Spent, the channel's overhead included.
        shape: Shape [1, 3, height, width] of the source.
        content: Whatever the transmission needs to deliver; nobody else looks at it.
        info: Numbers for the records.
        cause: Why nothing was sent; empty if something was.
    """

    symbols: Complex[Tensor, "1 uses"]
    channel_uses: int
    shape: tuple[int, ...]
    content: Any = None
    info: Mapping[str, float] = field(default_factory=dict)
    cause: str = ""


@runtime_checkable
class Transmission(Protocol):
    """Source item to observation, in two steps, so that one preparation serves all SNRs and seeds."""

    @property
    def name(self) -> str:
        """Canonical spelling, the transmitter's channel knowledge included."""
        ...

    @property
    def csit(self) -> Csit:
        """With "none", `prepare` is called once and without SNR."""
        ...

    def prepare(
        self,
        x: Float[Tensor, "1 3 height width"],
        budget: Budget,
        channel: Channel,
        csit_snr_db: float | None,
    ) -> Sent:
        """Encode. If nothing fits the budget the result has no symbols and a cause; that is an outage."""
        ...

    def deliver(self, sent: Sent, channel: Channel, snr_db: SnrDb, rng: Streams) -> Observation:
        """Send to every element of `rng`: one item over SNRs and seeds."""
        ...


def nothing_sent(shape: tuple[int, ...], cause: str) -> Sent:
    """The preparation of an item that the budget has no room for."""
    return Sent(torch.zeros(1, 0, dtype=torch.complex64), 0, shape, cause=cause)


def observe_images(
    sent: Sent,
    images: Sequence[Tensor | None],
    energy: Float[Tensor, " batch"],
    concealment: Concealment,
    info: Mapping[str, Tensor] | None = None,
    origin: Origin | None = None,
    payloads: tuple[Payload | None, ...] = (),
) -> Observation:
    """Evidence x + noise from decoded images [1, 3, height, width]; None is a lost item and is concealed.

    Args:
        sent: What was sent to all of them.
        images: One per batch element.
        energy: Spent per item.
        concealment: What is shown for a lost item.
        info: Numbers per item beside those of `sent`.
        origin: Of the images.
        payloads: Behind the images.
    """
    batch = len(images)
    shape = (batch, *sent.shape[1:])
    cover = concealed(concealment, (1, *sent.shape[1:]))
    y = torch.cat([cover if image is None else image for image in images])
    outage = torch.tensor([float(image is None) for image in images])
    columns = {key: torch.full((batch,), float(value)) for key, value in sent.info.items()}
    columns |= {**(info or {}), "outage": outage}
    noise_std = torch.where(outage > 0, torch.inf, torch.nan)
    uses = torch.full((batch,), sent.channel_uses)
    evidence = Linear(y, Identity(), noise_std, origin, payloads=payloads)
    return Observation((evidence,), shape, uses, energy, columns)


def lost(sent: Sent, concealment: Concealment, batch: int) -> Observation:
    """The observation of an item of which nothing was sent."""
    return observe_images(sent, [None] * batch, torch.zeros(batch), concealment)


def concealed(concealment: Concealment, shape: tuple[int, ...]) -> Tensor:
    """The picture shown in place of a lost one: 50 % grey, or the training set's mean colour."""
    color = (0.5, 0.5, 0.5) if concealment == "grey" else MEAN_COLOR
    return torch.tensor(color)[None, :, None, None].expand(shape).clone()
