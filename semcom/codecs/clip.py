"""Codec of clips made of a codec of pictures, and functions shared by all codecs of clips."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from semcom.codecs.codec import Fitted, HasForms, Quality, SourceCodec, fit_ladders, mean_form
from semcom.codecs.varint import read_varint, varint
from semcom.errors import CorruptPayload, FaultyCodec
from semcom.modalities.image import to_uint8
from semcom.modalities.video import Clip, ClipShape


@dataclass(frozen=True)
class FrameByFrame:
    """Codec of clips that codes every frame as a still picture, all frames at one quality.

    The payload is a sequence of frames: the length of the frame's payload in bytes as a variable-length
    integer (7 bits per byte, low bits first; the highest bit is set if more bytes follow), and the payload
    itself.

    Args:
        codec: Source codec of pictures.

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
        """Canonical name of the codec of pictures, for instance "jpeg"."""
        return self.codec.name

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """Operating points of the codec of pictures."""
        return self.codec.qualities

    def encode(self, x: Clip, quality: Quality) -> bytes:
        """Encode all frames at one quality, each as a still picture."""
        payloads = (self.codec.encode(to_image(frame), quality) for frame in x.frames)
        return b"".join(varint(len(payload)) + payload for payload in payloads)

    def decode(self, payload: bytes, shape: ClipShape) -> Clip:
        """Decode a payload to a clip.

        Args:
            payload: Any bytes.
            shape: Number of frames, height, width and frame rate of the clip.

        Returns:
            A clip of this shape.

        Raises:
            CorruptPayload: A frame cannot be decoded, or the frames' lengths do not add up to that of the
                payload.
        """
        size = (1, 3, shape.height, shape.width)
        frames, place = [], 0
        for _ in range(shape.frames):
            length, place = read_varint(payload, place)
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
        """Find the scale and setting of least mean squared error within a number of bits."""
        return fit_clip(self, x, max_bits)

    def form(self, payload: bytes) -> dict[str, float]:
        """Forms of the frames of a payload for the record, means over the frames.

        Args:
            payload: Payload of this codec.

        Returns:
            Shares by column name; none if payloads of the codec of pictures have one form only.

        Raises:
            CorruptPayload: The payload does not consist of frames.
        """
        if not isinstance(self.codec, HasForms):
            return {}
        forms, place = [], 0
        while place < len(payload):
            length, place = read_varint(payload, place)
            forms.append(self.codec.form(payload[place : place + length]))
            place += length
        return mean_form(forms)


def to_image(frame: UInt8[Tensor, "3 height width"]) -> Float[Tensor, "1 3 height width"]:
    """Convert a frame of 8 bits to a picture in [0, 1].

    Args:
        frame: Frame of 8 bits, [3, height, width].

    Returns:
        The picture, [1, 3, height, width].
    """
    return frame[None].float() / 255


def from_image(image: Float[Tensor, "1 3 height width"]) -> UInt8[Tensor, "3 height width"]:
    """Convert a picture in [0, 1] to a frame, rounded to 8 bits.

    Args:
        image: The picture, [1, 3, height, width]; values outside of [0, 1] are clipped.

    Returns:
        Frame of 8 bits, [3, height, width].
    """
    return to_uint8(image[0])


def joined(frames: Iterable[UInt8[Tensor, "3 height width"]], shape: ClipShape) -> Clip:
    """Join frames to a clip while they are made, so that each is held once.

    Args:
        frames: Frames of 8 bits, one after the other.
        shape: Number of frames, height, width and frame rate of the clip.

    Returns:
        The clip.

    Raises:
        ValueError: There are more or fewer frames, or a frame has another size.
    """
    whole = torch.empty(shape.frames, 3, shape.height, shape.width, dtype=torch.uint8)
    count = 0
    for frame in frames:
        if count == shape.frames or frame.shape != whole.shape[1:]:
            raise ValueError(f"more than {shape.frames} frames, or one of another size")
        whole[count] = frame
        count += 1
    if count != shape.frames:
        raise ValueError(f"{count} of {shape.frames} frames")
    return Clip(whole, shape.frame_rate)


def shape_of(x: Clip) -> ClipShape:
    """Shape of a clip, which every receiver knows.

    Args:
        x: The clip.

    Returns:
        Number of frames, height, width and frame rate.
    """
    count, _, height, width = x.frames.shape
    return ClipShape(count, height, width, x.frame_rate)


def fit_clip(codec: SourceCodec[Clip], x: Clip, max_bits: int) -> Fitted[Clip]:
    """Find the quality of least mean squared error of a codec of clips within a number of bits.

    Args:
        codec: Source codec of clips, whose scales and settings are searched by `fit_ladders`.
        x: The clip.
        max_bits: Largest length of the payload in bits.

    Returns:
        The payload, its quality and the clip that it decodes to.

    Raises:
        BudgetTooSmall: The smallest payload of the codec exceeds `max_bits`.
        FaultyCodec: The codec decodes its own payload to a clip of another shape.
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
    """Mean squared error between two clips of one shape.

    Args:
        x_hat: Clip with levels in 0..255.
        x: Clip of the same shape.

    Returns:
        Mean over frames, colours and pixels, in squared levels.
    """
    pairs = zip(x_hat.frames, x.frames, strict=True)  # frame by frame, to save memory
    total = sum(int((a.int() - b.int()).square().sum(dtype=torch.int64)) for a, b in pairs)
    return total / x.frames.numel()
