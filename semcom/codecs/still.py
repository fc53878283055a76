"""Two codecs from every still-image format: the whole file, and the elementary stream in it."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image as PillowImage
from torch import Tensor

from semcom.cells import Cells
from semcom.codecs.codec import Quality
from semcom.errors import CorruptPayload, InvalidOption, InvalidSource, reason_of
from semcom.sources import check_image

SCALES = (8, 4, 2, 1)

Pixels = UInt8[np.ndarray, "height width 3"]
Resized = UInt8[np.ndarray, "new_height new_width 3"]
Size = tuple[int, int]
"""Width and height in pixels."""


@runtime_checkable
class StillFormat(Protocol):
    """8-bit pictures to bytes and back: what an image format and its library do.

    A setting is an index in `range(settings)`, larger is finer. The elementary stream is what is left of the
    file when everything is dropped that follows from the size of the picture. All decoding functions may
    raise anything on damaged bytes; the codecs below turn that into `CorruptPayload`.
    """

    @property
    def name(self) -> str:
        """Canonical spelling ("jpeg")."""
        ...

    @property
    def settings(self) -> int:
        """How many settings there are."""
        ...

    def file(self, pixels: Pixels, setting: int) -> bytes:
        """The picture as a file that any program opens."""
        ...

    def stream(self, pixels: Pixels, setting: int) -> bytes:
        """The picture as an elementary stream, which decodes to the same pixels as the file."""
        ...

    def file_size(self, file: bytes) -> Size:
        """The size that the file declares, read before anything is decoded."""
        ...

    def file_pixels(self, file: bytes, size: Size) -> Pixels:
        """The pixels of a file that has declared this size."""
        ...

    def stream_pixels(self, stream: bytes, size: Size) -> Pixels:
        """The pixels of a stream, given their size."""
        ...


@runtime_checkable
class QuantisedFormat(Protocol):
    """A format that can say what its bytes pin down. Both functions may raise anything on damaged bytes."""

    def file_cells(self, file: bytes, size: Size, whole: Size) -> Cells:
        """Intervals of a picture in [0, 1].

        Args:
            file: Which has declared `size`.
            size: Of the coded picture.
            whole: Of the picture that was reduced to it.
        """
        ...

    def stream_cells(self, stream: bytes, size: Size, whole: Size) -> Cells:
        """The same of a stream."""
        ...


@dataclass(frozen=True)
class FileCodec:
    """A whole image file is the payload, container included; nothing else is sent.

    The receiver sees from the declared size by which scale the image was reduced.

    Args:
        format: Image format.

    Example:
        >>> from semcom.codecs import Jpeg
        >>> codec = FileCodec(Jpeg())
        >>> codec.encode(torch.zeros(1, 3, 16, 16), codec.qualities[0])[:2].hex()
        'ffd8'
    """

    format: StillFormat

    @property
    def name(self) -> str:
        """Canonical spelling ("jpeg-file")."""
        return f"{self.format.name}-file"

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """Scale 1/8 first, coarse to fine within a scale."""
        return _qualities(self.format)

    def encode(self, x: Float[Tensor, "1 3 height width"], quality: Quality) -> bytes:
        """The file, byte for byte."""
        pixels = shrink(to_pixels(x), quality.scale)
        with _encoding(self.format, pixels, quality):
            return self.format.file(pixels, quality.setting)

    def decode(self, payload: bytes, shape: tuple[int, ...]) -> Float[Tensor, "1 3 height width"]:
        """Raise `CorruptPayload` unless the bytes are a file of one of the reduced sizes of this shape."""
        size = (shape[-1], shape[-2])
        with _decoding(self.name, payload):
            return to_tensor(enlarge(self.format.file_pixels(payload, self._coded_size(payload, size)), size))

    def cells(self, payload: bytes, shape: tuple[int, ...]) -> Cells | None:
        """What the file says for certain; None if the format does not."""
        if not isinstance(self.format, QuantisedFormat):
            return None
        size = (shape[-1], shape[-2])
        with _decoding(self.name, payload):
            return self.format.file_cells(payload, self._coded_size(payload, size), size)

    def _coded_size(self, payload: bytes, size: Size) -> Size:
        declared = self.format.file_size(payload)
        if declared not in {reduced_size(size, scale) for scale in SCALES}:
            raise CorruptPayload(f"picture of {declared[0]}x{declared[1]} for an item of {size[0]}x{size[1]}")
        return declared


@dataclass(frozen=True)
class StreamCodec:
    """The elementary stream is the payload, after one byte that holds the scale.

    Containers, and headers that follow from the shape of the item, are rebuilt by the receiver: an image that
    is sent by joint source-channel coding gets its shape free too.

    Args:
        format: Image format.

    Example:
        >>> from semcom.codecs import Jpeg
        >>> codec, x = StreamCodec(Jpeg()), torch.zeros(1, 3, 16, 16)
        >>> payload = codec.encode(x, codec.qualities[0])
        >>> len(payload), codec.decode(payload, x.shape).shape
        (7, torch.Size([1, 3, 16, 16]))
    """

    format: StillFormat

    @property
    def name(self) -> str:
        """Canonical spelling ("jpeg")."""
        return self.format.name

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """Scale 1/8 first, coarse to fine within a scale."""
        return _qualities(self.format)

    def encode(self, x: Float[Tensor, "1 3 height width"], quality: Quality) -> bytes:
        """The scale, and the stream."""
        pixels = shrink(to_pixels(x), quality.scale)
        with _encoding(self.format, pixels, quality):
            return bytes([quality.scale]) + self.format.stream(pixels, quality.setting)

    def decode(self, payload: bytes, shape: tuple[int, ...]) -> Float[Tensor, "1 3 height width"]:
        """Raise `CorruptPayload` unless the bytes are a stream for this shape."""
        size = (shape[-1], shape[-2])
        with _decoding(self.name, payload):
            pixels = self.format.stream_pixels(payload[1:], _coded_size(payload, size))
            return to_tensor(enlarge(pixels, size))

    def cells(self, payload: bytes, shape: tuple[int, ...]) -> Cells | None:
        """What the stream says for certain; None if the format does not."""
        if not isinstance(self.format, QuantisedFormat):
            return None
        size = (shape[-1], shape[-2])
        with _decoding(self.name, payload):
            return self.format.stream_cells(payload[1:], _coded_size(payload, size), size)


def _coded_size(payload: bytes, size: Size) -> Size:
    """Of the picture in a stream, by the scale before it."""
    scale = payload[0]
    if scale not in SCALES:
        raise CorruptPayload(f"scale of {scale}, expected one of {SCALES}")
    return reduced_size(size, scale)


def to_pixels(x: Float[Tensor, "1 3 height width"]) -> Pixels:
    """Round [0, 1] to 8 bits."""
    if check_image(x).shape[0] != 1:
        raise InvalidSource(f"batch of {x.shape[0]} images: a codec takes one at a time")
    return np.ascontiguousarray((x[0] * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def to_tensor(pixels: Pixels) -> Float[Tensor, "1 3 height width"]:
    """8 bits to [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].float() / 255


def reduced_size(size: Size, scale: int) -> Size:
    """Each side divided and rounded up, so that none becomes 0."""
    return math.ceil(size[0] / scale), math.ceil(size[1] / scale)


def shrink(pixels: Pixels, scale: int) -> Resized:
    """Lanczos, the kernel widened by the scale: 0.1 to 0.2 dB above box and bicubic on photographs."""
    height, width, _ = pixels.shape
    return _resize(pixels, reduced_size((width, height), scale))


def enlarge(pixels: Pixels, size: Size) -> Resized:
    """Lanczos interpolation, rounded to 8 bits."""
    return _resize(pixels, size)


def _resize(pixels: Pixels, size: Size) -> Resized:
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    return np.asarray(PillowImage.fromarray(pixels).resize(size, PillowImage.Resampling.LANCZOS))


def _qualities(format: StillFormat) -> tuple[Quality, ...]:
    return tuple(Quality(scale, setting) for scale in SCALES for setting in range(format.settings))


@contextmanager
def _encoding(format: StillFormat, pixels: Pixels, quality: Quality) -> Iterator[None]:
    if quality.scale not in SCALES or not 0 <= quality.setting < format.settings:
        raise InvalidOption(
            f"{quality} of {format.name}: scale must be one of {SCALES}, setting in 0..{format.settings - 1}"
        )
    try:
        yield
    except (OSError, ValueError) as error:
        height, width, _ = pixels.shape
        raise InvalidSource(
            f"{format.name} cannot hold {width}x{height} pixels ({reason_of(error)}); crop or scale it"
        ) from None


@contextmanager
def _decoding(name: str, payload: bytes) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # decoders warn of the damage that is reported below
            yield
    except Exception as error:  # whatever a foreign decoder throws at damaged bytes
        raise CorruptPayload(
            f"{name} payload of {len(payload)} bytes cannot be decoded: {reason_of(error)}"
        ) from None
