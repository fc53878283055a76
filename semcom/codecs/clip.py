"""Clips by still-image codecs, and what all codecs of clips share."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from semcom.codecs.codec import Fitted, Quality, SourceCodec, fit_ladders
from semcom.errors import CorruptPayload, FaultyCodec
from semcom.modalities.video import Clip, ClipShape


@dataclass(frozen=True)
class FrameByFrame:
    """Every frame a still image; one quality for all of them.

    The payload is, frame by frame, the length of the frame's payload in bytes (7 bits a byte, low ones first,
    the eighth says that more follow) and the payload itself.

    Args:
        codec: Of still images.

    Example:
        >>> from fractions import Fraction
        >>> from semcom.codecs import Jpeg, StreamCodec
        >>> codec = FrameByFrame(StreamCodec(Jpeg()))
        >>> clip = Clip(torch.zeros(3, 3, 16, 16, dtype=torch.uint8), Fraction(25))
        >>> len(codec.encode(clip, codec.qualities[0]))
        24
    """

    codec: SourceCodec[Tensor]

    @property
    def name(self) -> str:
        """Canonical spelling of the codec of stills ("jpeg")."""
        return self.codec.name

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """Those of the codec of stills."""
        return self.codec.qualities

    def encode(self, x: Clip, quality: Quality) -> bytes:
        """All frames at one quality; see `SourceCodec.encode`."""
        payloads = (self.codec.encode(to_image(frame), quality) for frame in x.frames)
        return b"".join(_varint(len(payload)) + payload for payload in payloads)

    def decode(self, payload: bytes, shape: ClipShape) -> Clip:
        """The clip of a payload.

        Args:
            payload: Any bytes.
            shape: Of the clip.

        Returns:
            A clip of that shape.

        Raises:
            CorruptPayload: A frame does not decode, or their lengths do not fill the payload.
        """
        size = (1, 3, shape.height, shape.width)
        frames, place = [], 0
        for _ in range(shape.frames):
            length, place = _read_varint(payload, place)
            if place + length > len(payload):
                raise CorruptPayload(
                    f"{self.name} payload of {len(payload)} bytes ends in frame {len(frames) + 1} of "
                    f"{shape.frames}"
                )
            frames.append(from_image(self.codec.decode(payload[place : place + length], size)))
            place += length
        if place < len(payload):
            raise CorruptPayload(
                f"{self.name} payload of {len(payload)} bytes goes on behind its {shape.frames} frames"
            )
        return Clip(torch.stack(frames), shape.frame_rate)

    def fit(self, x: Clip, max_bits: int) -> Fitted[Clip]:
        """The quality of least mean squared error within a budget, over all scales; see `FitsItself.fit`."""
        return fit_clip(self, x, max_bits)


def to_image(frame: UInt8[Tensor, "3 height width"]) -> Float[Tensor, "1 3 height width"]:
    """A frame of 8 bits as an image in [0, 1]."""
    return frame[None].float() / 255


def from_image(image: Float[Tensor, "1 3 height width"]) -> UInt8[Tensor, "3 height width"]:
    """An image in [0, 1] as a frame, rounded to 8 bits."""
    return (image[0] * 255).round().clamp(0, 255).byte()


def shape_of(x: Clip) -> ClipShape:
    """What the receiver of a clip is told for free."""
    count, _, height, width = x.frames.shape
    return ClipShape(count, height, width, x.frame_rate)


def fit_clip(codec: SourceCodec[Clip], x: Clip, max_bits: int) -> Fitted[Clip]:
    """Search the settings of a codec of clips for the least mean squared error within a budget.

    Args:
        codec: Whose scales and settings are searched by `fit_ladders`.
        x: The clip.
        max_bits: Limit on the length of the payload in bits.

    Returns:
        The payload, its quality and what it decodes to.

    Raises:
        BudgetTooSmall: The smallest payload of the codec is larger.
        FaultyCodec: What the codec decodes its own bytes to has another shape.
    """
    shape = shape_of(x)

    def decode(payload: bytes) -> Clip:
        decoded = codec.decode(payload, shape)
        if shape_of(decoded) != shape:
            raise FaultyCodec(f"codec {codec.name} decodes {shape} to {shape_of(decoded)}; mend the codec")
        return decoded

    about = f"a clip of {shape.frames} frames of {shape.width}x{shape.height}"
    return fit_ladders(codec, x, max_bits, about, decode, lambda decoded: squared_error(decoded, x))


def squared_error(x_hat: Clip, x: Clip) -> float:
    """Mean squared error of two clips of one shape, in levels of 0..255."""
    pairs = zip(
        x_hat.frames, x.frames, strict=True
    )  # frame by frame: a clip of floats is four times as large
    total = sum(int((a.int() - b.int()).square().sum(dtype=torch.int64)) for a, b in pairs)
    return total / x.frames.numel()


def _varint(number: int) -> bytes:
    """7 bits a byte, low ones first; the eighth bit says that more follow."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    """The number at a place, and the place behind it."""
    number = 0
    for shift in range(0, 35, 7):
        if place >= len(data):
            break
        byte = data[place]
        number, place = number | (byte & 0x7F) << shift, place + 1
        if byte < 0x80:
            return number, place
    raise CorruptPayload(f"payload of {len(data)} bytes: no length at byte {place}")
