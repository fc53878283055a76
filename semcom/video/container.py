"""Files of coded video (.scv): a header of 19 bytes, and segments that are decoded one after the other."""

import binascii
import logging
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from semcom.codecs.clip import varint
from semcom.codecs.codec import SourceCodec
from semcom.errors import CorruptPayload, InvalidOption, InvalidSource
from semcom.files import replacing
from semcom.modalities.clip_files import opened, writing
from semcom.modalities.video import VIDEO, Clip, ClipShape

MAGIC = b"SCV\x01"
CODECS = (
    *("layered", "predictive", "x264-slow", "x265-slow", "av1-slow", "vp9-slow"),
    *("x264", "x265", "av1", "vp9", "x264-live", "x265-live", "av1-live", "vp9-live"),
    "two-sided",
)
"""Codecs by their number in the header."""
SEGMENT = 250
"""Most frames of a segment, which starts with a key frame."""
SEGMENT_VALUES = 1 << 27
"""Most values of a segment, which bounds the memory: 194 frames of 640x360, 21 of 1920x1080."""
_FIELDS = struct.Struct(">4sBHHIHH")
_MOST = 0xFFFF  # of width, height, and of both numbers of the frame rate
_log = logging.getLogger(__name__)

Told = Callable[[int, int], None]
"""Progress: frames done, and frames of the whole clip."""
Encode = Callable[[Clip, int], bytes]
"""Payload of a clip within a number of bits; raises BudgetTooSmall."""


@dataclass(frozen=True, slots=True)
class Header:
    """Header of a file of coded video.

    In order: magic and version (4 bytes), codec (1), width (2), height (2), number of frames (4), numerator
    and denominator of the frame rate (2 each), CRC-16 of all of them (2).

    Args:
        codec: Name of the codec, one of `CODECS`.
        shape: Number of frames, height, width and frame rate.
    """

    codec: str
    shape: ClipShape

    def to_bytes(self) -> bytes:
        """Write the header of a file of coded video.

        Returns:
            `HEADER` bytes.

        Raises:
            InvalidOption: The codec has no number.
        """
        if self.codec not in CODECS:
            raise InvalidOption(f"no file of codec {self.codec}; there are {', '.join(CODECS)}")
        rate = self.shape.frame_rate
        fields = _FIELDS.pack(
            MAGIC,
            CODECS.index(self.codec),
            *(self.shape.width, self.shape.height, self.shape.frames),
            *(rate.numerator, rate.denominator),
        )
        return fields + binascii.crc_hqx(fields, 0xFFFF).to_bytes(2, "big")

    @classmethod
    def from_bytes(cls, data: bytes) -> "Header":
        """Read the header of a file of coded video.

        Args:
            data: The first `HEADER` bytes of a file.

        Returns:
            The header.

        Raises:
            InvalidSource: It is damaged, or of another kind of file.
        """
        if data[:4] != MAGIC:
            raise InvalidSource("not a file of coded video (.scv)")
        fields, crc = data[: _FIELDS.size], data[_FIELDS.size :]
        if len(data) < HEADER or binascii.crc_hqx(fields, 0xFFFF).to_bytes(2, "big") != crc:
            raise InvalidSource("the header is damaged")
        _, codec, width, height, frames, numerator, denominator = _FIELDS.unpack(fields)
        if codec >= len(CODECS) or not (width and height and frames and numerator and denominator):
            raise InvalidSource("the header is of another version")
        return cls(CODECS[codec], ClipShape(frames, height, width, Fraction(numerator, denominator)))


HEADER = _FIELDS.size + 2
"""Bytes of the header."""


@dataclass(frozen=True, slots=True)
class Written:
    """A clip that was encoded to a file, or decoded from it.

    Args:
        shape: Number of frames, height, width and frame rate.
        size: Bytes of the coded file, all of them.
        damaged: Ranges of frames that could not be decoded, in order.
    """

    shape: ClipShape
    size: int
    damaged: tuple[range, ...] = ()

    @property
    def bpp(self) -> float:
        """Bits per pixel: bits of the coded file over frames, height and width."""
        return 8 * self.size / (self.shape.frames * self.shape.height * self.shape.width)


def encode_file(source: Path, out: Path, codec: str, encode: Encode, bpp: float, told: Told) -> Written:
    """Encode a clip to a file, segment by segment, within a number of bits per pixel.

    Bits that a segment leaves over are given to the next one. The file appears when all is encoded, or not
    at all.

    Args:
        source: File of the clip.
        out: File to write.
        codec: Name of the codec, one of `CODECS`.
        encode: Payload of a segment within a number of bits.
        bpp: Largest number of bits per pixel, over the whole file.
        told: Called with the number of frames encoded so far, and the one that the file states.

    Returns:
        Shape of the clip and size of the file.

    Raises:
        InvalidSource: The clip cannot be read, or a side exceeds 65535 pixels.
        BudgetTooSmall: The codec has no payload of so few bits.
        OSError: The file cannot be written.
    """
    done, spent = 0, HEADER
    size = (0, 0)
    with replacing(out) as part, part.open("wb") as file:
        file.write(bytes(HEADER))
        with opened(source) as clip:
            for frames in _segments(clip.frames()):
                count, _, height, width = frames.shape
                size = (width, height)
                done += count
                room = int(bpp * done * height * width) // 8 - spent - 5  # at most 5 bytes tell the length
                payload = encode(Clip(frames, Fraction(25)), max(room, 0) * 8)
                spent += file.write(varint(len(payload)) + payload)
                told(done, max(done, clip.stated_frames() or 0))
            rate = _rate(clip.frame_rate())
        shape = ClipShape(done, size[1], size[0], rate)
        file.seek(0)
        file.write(Header(codec, shape).to_bytes())
    return Written(shape, spent)


def decode_file(source: Path, out: Path, find: Callable[[str], SourceCodec[Clip]], told: Told) -> Written:
    """Decode a file of coded video to a clip without further loss, segment by segment.

    The frames of a damaged segment repeat the last frame before it, and are reported.

    Args:
        source: File made by `encode_file`.
        out: File to write, with an extension that `VIDEO` writes.
        find: Codec by name.
        told: Called with the number of frames decoded so far, and that of the whole clip.

    Returns:
        Shape of the clip, size of the coded file, and what of it was damaged.

    Raises:
        InvalidSource: The file is of another kind, or its header is damaged.
        CorruptPayload: No segment could be decoded.
        OSError: A file cannot be read or written.
    """
    with source.open("rb") as file:
        header = Header.from_bytes(file.read(HEADER))
        shape = header.shape
        codec = find(header.codec)
        held = VIDEO.cover(ClipShape(1, shape.height, shape.width, shape.frame_rate)).frames[0]
        damaged: list[range] = []
        with writing(out, (shape.width, shape.height), shape.frame_rate) as add:
            done, most = 0, frames_per_segment(shape.width, shape.height)
            while done < shape.frames:
                part = ClipShape(min(most, shape.frames - done), shape.height, shape.width, shape.frame_rate)
                try:
                    frames = codec.decode(_payload(file), part).frames
                except CorruptPayload as error:
                    _log.warning(f"{source}: frames {done + 1} to {done + part.frames} are damaged: {error}")
                    damaged.append(range(done, done + part.frames))
                    frames = held.expand(part.frames, -1, -1, -1)
                for frame in frames:
                    add(frame)
                held, done = frames[-1], done + part.frames
                told(done, shape.frames)
            if sum(map(len, damaged)) == shape.frames:
                raise CorruptPayload(f"{source}: no segment of it can be decoded")
    return Written(shape, source.stat().st_size, tuple(damaged))


def frames_per_segment(width: int, height: int) -> int:
    """Number of frames of all segments but the last one.

    Args:
        width: Width in pixels.
        height: Height in pixels.

    Returns:
        From 1 to `SEGMENT`.
    """
    return max(1, min(SEGMENT, SEGMENT_VALUES // (3 * width * height)))


def _segments(frames: Iterator[Tensor]) -> Iterator[Tensor]:
    """Frames in groups, each [frames, 3, height, width]."""
    for first in frames:
        _, height, width = first.shape
        if max(height, width) > _MOST:
            raise InvalidSource(f"clip of {width}x{height}: sides up to {_MOST} can be coded; scale it")
        more = islice(frames, frames_per_segment(width, height) - 1)
        yield torch.stack(list(chain((first,), more)))


def _rate(rate: Fraction) -> Fraction:
    """The nearest frame rate whose two numbers take 16 bits each."""
    most = _MOST if rate <= 1 else int(_MOST / rate)
    return max(rate.limit_denominator(most), Fraction(1, _MOST))


def _payload(file: BinaryIO) -> bytes:
    """The next segment; raises CorruptPayload at a damaged length or at the end."""
    length = 0
    for shift in range(0, 35, 7):
        byte = file.read(1)
        if not byte:
            raise CorruptPayload("the file is truncated")
        length |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            break
    payload = file.read(min(length, 1 << 31))
    if len(payload) < length:
        raise CorruptPayload("the file is truncated")
    return payload
