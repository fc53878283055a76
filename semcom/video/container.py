"""Files of coded video (.scv): a header of 19 bytes, and segments that are decoded one after the other.

A segment is the length of its payload (a variable-length integer), a CRC-32 (4 bytes) and the payload. The
CRC starts from the number of the segment, so that segments that changed places are found, too.
"""

import binascii
import logging
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

import torch
from torch import Tensor

from semcom.codecs.codec import SourceCodec
from semcom.codecs.varint import varint
from semcom.errors import BudgetTooSmall, CorruptPayload, InvalidOption, InvalidSource
from semcom.files import replacing
from semcom.modalities.clip_files import check_rate, check_size, opened, writing
from semcom.modalities.video import VIDEO, Clip, ClipShape
from semcom.process_memory import give_back
from semcom.video.predictive import Decoding

MAGIC = b"SCV"
VERSION = 2
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
_CRC_BYTES = 4
_OVERHEAD = 5 + _CRC_BYTES  # of a segment; at most 5 bytes tell the length
_log = logging.getLogger(__name__)

Told = Callable[[int, int], None]
"""Progress: frames done, and frames of the whole clip."""
Encode = Callable[[Clip, int], bytes]
"""Payload of a clip within a number of bits; raises BudgetTooSmall."""


@runtime_checkable
class Examines(Protocol):
    """A codec of clips that can tell which frames of a payload are damaged, and what else is amiss."""

    def examine(self, payload: bytes, shape: ClipShape) -> Decoding:
        """Decode what can be decoded, conceal the rest, and say which frames are damaged.

        Args:
            payload: Any bytes.
            shape: Number of frames, height, width and frame rate of the clip.

        Returns:
            Clip of this shape, flags of damaged frames, and one line per thing that is amiss.

        Raises:
            CorruptPayload: Nothing can be decoded.
        """
        ...


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
            MAGIC + bytes([VERSION]),
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
            InvalidSource: It is damaged, of another kind of file, or a side exceeds 16384 pixels.
        """
        if len(data) < 4 or data[:3] != MAGIC:
            raise InvalidSource("not a file of coded video (.scv)")
        if data[3] != VERSION:
            raise InvalidSource(f"coded video (.scv) of version {data[3]}; this program reads {VERSION}")
        fields, crc = data[: _FIELDS.size], data[_FIELDS.size :]
        if len(data) < HEADER or binascii.crc_hqx(fields, 0xFFFF).to_bytes(2, "big") != crc:
            raise InvalidSource("the header is damaged")
        _, codec, width, height, frames, numerator, denominator = _FIELDS.unpack(fields)
        if codec >= len(CODECS) or not (width and height and frames and numerator and denominator):
            raise InvalidSource(f"the header has codec {codec} or a size of 0, which nothing here writes")
        check_size(1, (width, height))
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
        InvalidSource: The clip cannot be read, or its frame rate exceeds 1000 frames per second.
        BudgetTooSmall: The codec has no payload of so few bits for one of the segments.
        OSError: The file cannot be written.
    """
    done, spent = 0, HEADER
    size = (0, 0)
    with replacing(out) as part, part.open("wb") as file:
        file.write(bytes(HEADER))
        try:
            with opened(source) as clip:
                stated = clip.stated_frames() or 0
                told(0, max(stated, 1))
                for number, frames in enumerate(_segments(clip.frames())):
                    count, _, height, width = frames.shape
                    size = (width, height)
                    room = int(bpp * (done + count) * height * width) // 8 - spent - _OVERHEAD
                    try:
                        payload = encode(Clip(frames, Fraction(25)), max(room, 0) * 8)
                    except BudgetTooSmall as error:
                        where = f"frames {done + 1} to {done + count}: " if done else ""
                        raise BudgetTooSmall(f"{where}{error}") from None
                    done += count
                    spent += file.write(varint(len(payload)) + _crc(payload, number) + payload)
                    told(done, max(done, stated))
                    give_back()
                rate = clip.frame_rate()
                check_rate(rate)
        except InvalidSource as error:
            raise InvalidSource(f"{source}: {error}") from None
        shape = ClipShape(done, size[1], size[0], _rate(rate))
        file.seek(0)
        file.write(Header(codec, shape).to_bytes())
    return Written(shape, spent)


def decode_file(source: Path, out: Path, find: Callable[[str], SourceCodec[Clip]], told: Told) -> Written:
    """Decode a file of coded video to a clip without further loss, segment by segment.

    Damaged frames are reported. A codec that `Examines` its payloads conceals them, and shows those frames of
    a damaged segment that its own checks find right; with other codecs, or if nothing of a segment can be
    decoded, all frames of the segment repeat the last frame before it.

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
        try:
            header = Header.from_bytes(file.read(HEADER))
        except InvalidSource as error:
            raise InvalidSource(f"{source}: {error}") from None
        shape = header.shape
        codec = find(header.codec)
        held = VIDEO.cover(replace(shape, frames=1)).frames[0]
        wrong: list[range] = []
        with writing(out, (shape.width, shape.height), shape.frame_rate) as add:
            done = 0
            said: set[str] = set()
            for number, count in enumerate(_lengths(shape.frames, shape.width, shape.height)):
                stored = _stored(file)
                shown = _shown(codec, stored, number, replace(shape, frames=count), held)
                wrong += [range(done + part.start, done + part.stop) for part in shown.wrong]
                done += count
                if stored is None and sum(map(len, wrong)) == done:  # nothing is there, nor will be
                    break
                if shown.reason and shown.reason not in said:
                    said.add(shown.reason)
                    _log.warning(f"{source}: frames {done - count + 1} to {done}: {shown.reason}")
                for frame in shown.frames:
                    add(frame)
                held = shown.frames[-1].clone()
                told(done, shape.frames)
                give_back()
            if sum(map(len, wrong)) == done:
                raise CorruptPayload(f"{source}: no segment of it can be decoded")
        over = os.fstat(file.fileno()).st_size - file.tell()
        if over and not wrong:
            _log.warning(f"{source}: {over} bytes follow the last segment, and are not read")
    return Written(shape, source.stat().st_size, tuple(_joined(wrong)))


def frames_per_segment(width: int, height: int) -> int:
    """Number of frames of all segments but the last one.

    Args:
        width: Width in pixels.
        height: Height in pixels.

    Returns:
        From 1 to `SEGMENT`.
    """
    return max(1, min(SEGMENT, SEGMENT_VALUES // (3 * width * height)))


def _lengths(frames: int, width: int, height: int) -> Iterator[int]:
    """Number of frames of each segment; the last two share what is left, for a short one costs much."""
    most = frames_per_segment(width, height)
    while frames >= 2 * most or frames == most:
        yield most
        frames -= most
    if frames > most:
        yield frames - frames // 2
        frames //= 2
    if frames:
        yield frames


def _segments(frames: Iterator[Tensor]) -> Iterator[Tensor]:
    """Frames in groups of `_lengths`, each [frames, 3, height, width]."""
    before: list[Tensor] = []
    most = 0
    for first in frames:
        most = frames_per_segment(first.shape[2], first.shape[1])
        group = [first, *islice(frames, most - 1)]
        if before and len(group) == most:
            yield _taken(before, most)
        before += group
    if len(before) > most:
        yield _taken(before, len(before) - len(before) // 2)
    if before:
        yield _taken(before, len(before))


def _taken(frames: list[Tensor], count: int) -> Tensor:
    """Take the first frames of a list out of it."""
    group = torch.stack(frames[:count])
    del frames[:count]
    return group


def _rate(rate: Fraction) -> Fraction:
    """The nearest frame rate whose two numbers take 16 bits each; it is at most `MAX_RATE`."""
    most = _MOST if rate <= 1 else int(_MOST / rate)
    return max(rate.limit_denominator(most), Fraction(1, _MOST))


def _crc(payload: bytes, number: int) -> bytes:
    return zlib.crc32(payload, number).to_bytes(_CRC_BYTES, "big")


def _stored(file: BinaryIO) -> tuple[bytes, bytes] | None:
    """CRC and payload of the next segment; None if the file ends before its end."""
    length = 0
    for shift in range(0, 35, 7):
        byte = file.read(1)
        if not byte:
            return None
        length |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            break
    if file.tell() + _CRC_BYTES + length > os.fstat(file.fileno()).st_size:  # before memory is reserved
        file.seek(0, os.SEEK_END)
        return None
    return file.read(_CRC_BYTES), file.read(length)


@dataclass(frozen=True, eq=False, slots=True)
class _Shown:
    """Frames of a segment, ranges of wrong ones, and what is amiss; empty if nothing is."""

    frames: Tensor
    wrong: Sequence[range] = ()
    reason: str = ""


def _shown(
    codec: SourceCodec[Clip], stored: tuple[bytes, bytes] | None, number: int, shape: ClipShape, held: Tensor
) -> _Shown:
    """What is shown of a segment: its frames, those that are right, or the frame before them."""
    reason = "the file is truncated"
    if stored is not None:
        crc, payload = stored
        intact = crc == _crc(payload, number)
        reason = "its checksum is another"
        try:
            if isinstance(codec, Examines):
                found = codec.examine(payload, shape)
                wrong = [range(place, place + 1) for place, flag in enumerate(found.damaged) if flag]
                if intact or wrong:  # else it is a whole segment in another one's place
                    return _Shown(found.clip.frames, _joined(wrong), "; ".join(found.notes[:1]))
            elif intact:
                return _Shown(codec.decode(payload, shape).frames)
        except CorruptPayload as error:
            reason = str(error)
    return _Shown(held.expand(shape.frames, -1, -1, -1), (range(shape.frames),), reason)


def _joined(ranges: Sequence[range]) -> list[range]:
    """Ascending ranges; neighbours become one."""
    found: list[range] = []
    for part in ranges:
        if found and found[-1].stop == part.start:
            part = range(found.pop().start, part.stop)
        found.append(part)
    return found
