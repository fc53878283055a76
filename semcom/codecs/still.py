"""Two codecs from every still-image format: the whole file, and its elementary stream."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image as PillowImage
from torch import Tensor

from semcom.cells import Cells
from semcom.codecs.codec import Quality
from semcom.errors import CorruptPayload, InvalidOption, InvalidSource, reason_of
from semcom.modalities.image import check_image, from_pixels, to_pixels
from semcom.surroundings import ignored_warnings

SCALES = (8, 4, 2, 1)

Pixels = UInt8[np.ndarray, "height width 3"]
Resized = UInt8[np.ndarray, "new_height new_width 3"]
Size = tuple[int, int]
"""Width and height in pixels."""


@runtime_checkable
class StillFormat(Protocol):
    """A still-image format and its library: 8-bit pictures to bytes and back.

    A setting is an index in `range(settings)`; larger is finer. The elementary stream is the file without
    everything that follows from the size of the picture. Decoding functions may raise any exception on
    damaged bytes; the codecs turn it into `CorruptPayload`.
    """

    @property
    def name(self) -> str:
        """Canonical name of the format, for instance "jpeg"."""
        ...

    @property
    def settings(self) -> int:
        """Number of settings, from coarse to fine."""
        ...

    def file(self, pixels: Pixels, setting: int) -> bytes:
        """Encode a picture as a file that any program opens.

        Args:
            pixels: Picture, uint8 [height, width, 3].
            setting: Index of the setting, 0 to `settings` - 1.

        Returns:
            The file.
        """
        ...

    def stream(self, pixels: Pixels, setting: int) -> bytes:
        """Encode a picture as an elementary stream, which decodes to the same pixels as the file.

        Args:
            pixels: Picture, uint8 [height, width, 3].
            setting: Index of the setting, 0 to `settings` - 1.

        Returns:
            The elementary stream.
        """
        ...

    def file_size(self, file: bytes) -> Size:
        """Size that a file declares, read before anything is decoded.

        Args:
            file: The file.

        Returns:
            Width and height in pixels.

        Raises:
            Exception: Any exception on damaged bytes.
        """
        ...

    def file_pixels(self, file: bytes, size: Size) -> Pixels:
        """Decode a file that has declared a size.

        Args:
            file: The file.
            size: Width and height in pixels, from `file_size`.

        Returns:
            Picture, uint8 [height, width, 3].

        Raises:
            Exception: Any exception on damaged bytes.
        """
        ...

    def stream_pixels(self, stream: bytes, size: Size) -> Pixels:
        """Decode an elementary stream, given the size of the picture.

        Args:
            stream: The elementary stream.
            size: Width and height in pixels.

        Returns:
            Picture, uint8 [height, width, 3].

        Raises:
            Exception: Any exception on damaged bytes.
        """
        ...


@runtime_checkable
class QuantisedFormat(Protocol):
    """A still-image format that can tell which pictures are consistent with its bytes."""

    def file_cells(self, file: bytes, size: Size, whole: Size) -> Cells:
        """Intervals of linear functions of a picture in [0, 1] that a file pins down.

        Args:
            file: A file that has declared `size`.
            size: Width and height of the coded picture in pixels.
            whole: Width and height of the picture before it was reduced.

        Returns:
            The intervals.

        Raises:
            Exception: Any exception on damaged bytes.
        """
        ...

    def stream_cells(self, stream: bytes, size: Size, whole: Size) -> Cells:
        """Intervals of linear functions of a picture in [0, 1] that an elementary stream pins down.

        Args:
            stream: Elementary stream of a picture of this size.
            size: Width and height of the coded picture in pixels.
            whole: Width and height of the picture before it was reduced.

        Returns:
            The intervals.

        Raises:
            Exception: Any exception on damaged bytes.
        """
        ...


@dataclass(frozen=True)
class FileCodec:
    """Source codec whose payload is a whole image file, container included.

    The receiver derives from the declared size by which scale the image was reduced.

    Args:
        format: Image format.

    Example:
        >>> import torch
        >>> from semcom.codecs import Jpeg
        >>> codec = FileCodec(Jpeg())
        >>> codec.encode(torch.zeros(1, 3, 16, 16), codec.qualities[0])[:2].hex()
        'ffd8'
    """

    format: StillFormat

    @property
    def name(self) -> str:
        """Canonical name of the codec, for instance "jpeg-file"."""
        return f"{self.format.name}-file"

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """All qualities, coarse to fine: scale 1/8 first, settings in rising order within a scale."""
        return _qualities(self.format.settings)

    def encode(self, x: Float[Tensor, "1 3 height width"], quality: Quality) -> bytes:
        """Reduce the image by the quality's scale and encode it as a file."""
        pixels = shrink(pixels_of(x), quality.scale)
        with _encoding(self.format, pixels, quality):
            return self.format.file(pixels, quality.setting)

    def decode(self, payload: bytes, shape: tuple[int, ...]) -> Float[Tensor, "1 3 height width"]:
        """Decode and enlarge a file; raises `CorruptPayload` unless it has a reduced size of the shape."""
        size = (shape[-1], shape[-2])
        with _decoding(self.name, payload):
            return from_pixels(
                enlarge(self.format.file_pixels(payload, self._coded_size(payload, size)), size)
            )

    def cells(self, payload: bytes, shape: tuple[int, ...]) -> Cells | None:
        """Intervals that the file pins down, or None if the format cannot tell."""
        if not isinstance(self.format, QuantisedFormat):
            return None
        size = (shape[-1], shape[-2])
        with _decoding(self.name, payload):
            return self.format.file_cells(payload, self._coded_size(payload, size), size)

    def scale(self, payload: bytes, shape: tuple[int, ...]) -> int:
        """Factor between the size of the item and the size that the file declares."""
        size = (shape[-1], shape[-2])
        with _decoding(self.name, payload):
            coded = self._coded_size(payload, size)
        return next(scale for scale in sorted(SCALES) if reduced_size(size, scale) == coded)

    def _coded_size(self, payload: bytes, size: Size) -> Size:
        declared = self.format.file_size(payload)
        if declared not in {reduced_size(size, scale) for scale in SCALES}:
            raise CorruptPayload(f"picture of {declared[0]}x{declared[1]} for an item of {size[0]}x{size[1]}")
        return declared


@dataclass(frozen=True)
class StreamCodec:
    """Source codec whose payload is an elementary stream, after one byte that holds the scale.

    Containers, and headers that follow from the shape of the item, are rebuilt by the receiver; joint
    source-channel coding also gets the shape for free.

    Args:
        format: Image format.

    Example:
        >>> import torch
        >>> from semcom.codecs import Jpeg
        >>> codec, x = StreamCodec(Jpeg()), torch.zeros(1, 3, 16, 16)
        >>> payload = codec.encode(x, codec.qualities[0])
        >>> len(payload), codec.decode(payload, x.shape).shape
        (7, torch.Size([1, 3, 16, 16]))
    """

    format: StillFormat

    @property
    def name(self) -> str:
        """Canonical name of the codec, for instance "jpeg"."""
        return self.format.name

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """All qualities, coarse to fine: scale 1/8 first, settings in rising order within a scale."""
        return _qualities(self.format.settings)

    def encode(self, x: Float[Tensor, "1 3 height width"], quality: Quality) -> bytes:
        """Reduce the image by the quality's scale and encode it as scale byte and elementary stream."""
        pixels = shrink(pixels_of(x), quality.scale)
        with _encoding(self.format, pixels, quality):
            return bytes([quality.scale]) + self.format.stream(pixels, quality.setting)

    def decode(self, payload: bytes, shape: tuple[int, ...]) -> Float[Tensor, "1 3 height width"]:
        """Decode and enlarge a stream; raises `CorruptPayload` unless it fits the shape."""
        size = (shape[-1], shape[-2])
        with _decoding(self.name, payload):
            pixels = self.format.stream_pixels(payload[1:], _coded_size(payload, size))
            return from_pixels(enlarge(pixels, size))

    def cells(self, payload: bytes, shape: tuple[int, ...]) -> Cells | None:
        """Intervals that the stream pins down, or None if the format cannot tell."""
        if not isinstance(self.format, QuantisedFormat):
            return None
        size = (shape[-1], shape[-2])
        with _decoding(self.name, payload):
            return self.format.stream_cells(payload[1:], _coded_size(payload, size), size)

    def scale(self, payload: bytes, shape: tuple[int, ...]) -> int:
        """Factor in the first byte of the payload."""
        with _decoding(self.name, payload):
            _coded_size(payload, (shape[-1], shape[-2]))
        return payload[0]


def _coded_size(payload: bytes, size: Size) -> Size:
    """Size of the coded picture in a stream, from the scale byte before it."""
    scale = payload[0]
    if scale not in SCALES:
        raise CorruptPayload(f"scale of {scale}, expected one of {SCALES}")
    return reduced_size(size, scale)


def pixels_of(x: Float[Tensor, "1 3 height width"]) -> Pixels:
    """Round the one image of a batch to 8 bits.

    Args:
        x: Image in [0, 1], [1, 3, height, width].

    Returns:
        Picture, uint8 [height, width, 3].

    Raises:
        InvalidSource: The batch has more than one image.
    """
    if check_image(x).shape[0] != 1:
        raise InvalidSource(f"batch of {x.shape[0]} images: a codec takes one at a time")
    return to_pixels(x)


def reduced_size(size: Size, scale: int) -> Size:
    """Size of a picture after reduction by a scale, each side rounded up.

    Args:
        size: Width and height in pixels.
        scale: Factor by which each side is divided, at least 1.

    Returns:
        Reduced width and height, at least 1.
    """
    return math.ceil(size[0] / scale), math.ceil(size[1] / scale)


def shrink(pixels: Pixels, scale: int) -> Resized:
    """Reduce a picture by Lanczos filtering; 0.1 to 0.2 dB better than box and bicubic on photographs.

    Args:
        pixels: Picture, uint8 [height, width, 3].
        scale: Factor by which each side is divided, at least 1.

    Returns:
        The reduced picture.
    """
    height, width, _ = pixels.shape
    return _resize(pixels, reduced_size((width, height), scale))


def enlarge(pixels: Pixels, size: Size) -> Resized:
    """Enlarge a picture by Lanczos interpolation, rounded to 8 bits.

    Args:
        pixels: Picture, uint8 [height, width, 3].
        size: Width and height of the result in pixels.

    Returns:
        The enlarged picture.
    """
    return _resize(pixels, size)


def _resize(pixels: Pixels, size: Size) -> Resized:
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    return np.asarray(PillowImage.fromarray(pixels).resize(size, PillowImage.Resampling.LANCZOS))


@lru_cache(maxsize=64)
def _qualities(settings: int) -> tuple[Quality, ...]:
    return tuple(Quality(scale, setting) for scale in SCALES for setting in range(settings))


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
        with ignored_warnings():  # decoders warn of the damage that is reported below
            yield
    except Exception as error:  # whatever a foreign decoder throws at damaged bytes
        raise CorruptPayload(
            f"{name} payload of {len(payload)} bytes cannot be decoded: {reason_of(error)}"
        ) from None
