"""Files of video clips, read and written frame by frame: PyAV (libav) for streams, Pillow for animations."""

import logging
import statistics
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from semcom.errors import InsufficientMemory, InvalidSource, reason_of
from semcom.files import replacing
from semcom.modalities.decoding import MAX_SIDE, ORIENTATION, in_srgb, on_white, prepare, upright

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream
    from PIL.Image import Image as Picture

MAX_VALUES = 1 << 32  # 4 GiB of pixels: 9 minutes of 416x240 at 25 frames a second, 27 s of 1920x1080
MAX_RATE = 1000  # frames per second; Matroska stores time in milliseconds
USUAL_RATE = Fraction(25)  # assumed if a file states neither rate nor time stamps
BROWSERS_DELAY = Fraction(1, 10)  # seconds; browsers' delay for a GIF that states 0

_ANIMATIONS = ("GIF", "PNG", "WEBP", "AVIF")
CONTAINERS = {
    ".mkv": ("matroska", "ffv1", "bgr0"),
    ".avi": ("avi", "ffv1", "bgr0"),
    ".png": ("apng", "apng", "rgb24"),
}
_RATE_TAG = "frame_rate"
# ITU-T H.273, MatrixCoefficients, by the numbers that libswscale has for them; 2 is "unspecified": BT.601
_MATRICES = {0: 5, 1: 1, 2: 5, 3: 5, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_LIMITED, _FULL = 1, 2
# bicubic, full chroma interpolation, exact rounding: within half a level of the formula
_EXACTLY = 4 | 0x2000 | 0x4000 | 0x40000 | 0x80000

_log = logging.getLogger(__name__)


class FrameSource(Protocol):
    """An open clip whose frames are read one after the other."""

    def frames(self) -> Iterator[UInt8[Tensor, "3 height width"]]:
        """Read the frames in the order of display, once.

        Yields:
            8-bit RGB frames, all of one size.

        Raises:
            InvalidSource: The clip does not decode, or its frames have several sizes.
        """
        ...

    def stated_frames(self) -> int | None:
        """Number of frames that the file states, which may be wrong.

        Returns:
            The number; None if nothing is stated.
        """
        ...

    def frame_rate(self) -> Fraction:
        """Frames per second, known after the last frame.

        Returns:
            The stated rate if the time stamps agree with it, else the mean rate.
        """
        ...


@contextmanager
def opened(path: Path) -> Iterator[FrameSource]:
    """Open a clip to read its frames one after the other.

    Args:
        path: A video file in any format that libav reads, or a GIF, PNG, WebP or AVIF file.

    Yields:
        The source of its frames.

    Raises:
        InvalidSource: The file has no video stream, is truncated, does not decode, or has frames of several
            sizes.
    """
    if _is_animation(path):
        yield _Animation(path)
        return
    missing = _missing_bytes(path)
    if missing:
        raise InvalidSource(f"incomplete clip, its last {missing} bytes are missing; fetch or repair it")
    with _opened(path) as container:
        stream = _Stream(path, container, _shown_stream(container))
        yield stream
    stream.warn()


@contextmanager
def writing(
    path: Path, size: tuple[int, int], rate: Fraction
) -> Iterator[Callable[[UInt8[Tensor, "3 height width"]], None]]:
    """Write a clip without loss, frame by frame; the file appears when all are written, or not at all.

    Args:
        path: The file, with an extension in `CONTAINERS`.
        size: Width and height in pixels.
        rate: Frames per second.

    Yields:
        Function that writes the next frame.

    Raises:
        OSError: The folder is missing or not writable, or the disk is full.
    """
    import av

    format, codec, pixel_format = CONTAINERS[path.suffix.lower()]
    count = 0
    with replacing(path) as part:
        part.touch()  # raises Python's own OSError if the file cannot be written
        with av.open(f"file:{part}", "w", format=format, options={"fflags": "+bitexact"}) as container:
            container.metadata[_RATE_TAG] = str(rate)
            stream = cast("VideoStream", container.add_stream(codec, rate=rate))
            stream.width, stream.height = size
            stream.pix_fmt = pixel_format
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"level": "3", "slicecrc": "1"} if codec == "ffv1" else {}

            def add(frame: Tensor) -> None:
                nonlocal count
                pixels = frame.detach().cpu().permute(1, 2, 0).contiguous().numpy()
                picture = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format=pixel_format)
                picture.pts, picture.time_base = count, 1 / rate
                container.mux(stream.encode(picture))
                count += 1

            yield add
            container.mux(stream.encode(None))


def check_size(count: int, size: tuple[int, int]) -> None:
    """Refuse clips that are too large.

    Args:
        count: Number of frames.
        size: Width and height in pixels.

    Raises:
        InvalidSource: A side is not in 1..16384, or there are more than 2^32 values.
    """
    width, height = size
    if not 1 <= min(size) <= max(size) <= MAX_SIDE:
        raise InvalidSource(f"clip of {width}x{height}: sides must lie in 1..{MAX_SIDE}; crop or scale it")
    if 3 * count * width * height > MAX_VALUES:
        raise InvalidSource(
            f"clip of {count} or more frames of {width}x{height}: at most {MAX_VALUES} values are taken; "
            "cut or scale it"
        )


def check_rate(rate: Fraction) -> None:
    """Refuse frame rates that files cannot keep.

    Args:
        rate: Frames per second.

    Raises:
        InvalidSource: The rate is not above 0 and at most 1000, or a number of the fraction exceeds 31 bits.
    """
    if not (0 < rate <= MAX_RATE and max(rate.as_integer_ratio()) < 2**31):
        raise InvalidSource(
            f"clip with {rate} frames a second: expected a fraction above 0, up to {MAX_RATE}, "
            "of numbers below 2^31"
        )


def _of_one_size(frames: Iterator[np.ndarray]) -> Iterator[Tensor]:
    """Frames [height, width, 3] as tensors [3, height, width], all of one size, at least one."""
    size = None
    for frame in frames:
        height, width, _ = frame.shape
        if size not in (None, (width, height)):
            raise InvalidSource(
                f"frames of {size[0]}x{size[1]} and {width}x{height}: a clip has one size; cut or scale it"
            )
        size = (width, height)
        check_size(1, size)
        yield torch.from_numpy(np.array(frame.transpose(2, 0, 1), order="C"))
    if size is None:
        raise InvalidSource("no frame of it decodes: not a readable clip, or an incomplete one")


# Animations


def _is_animation(path: Path) -> bool:
    """Whether Pillow opens a file as one of the formats of animated images, with any number of frames."""
    from PIL import Image as PillowImage

    try:
        with PillowImage.open(path, formats=_ANIMATIONS):
            return True
    except Exception:  # a foreign decoder may raise any exception
        return False


@dataclass
class _Animation:
    """Frames of an animation, and the delays that follow them."""

    path: Path
    delays: list[Fraction] = field(default_factory=list)
    still: bool = True

    def frames(self) -> Iterator[Tensor]:
        from PIL import Image as PillowImage

        try:
            with PillowImage.open(self.path, formats=_ANIMATIONS) as picture:
                self.still = getattr(picture, "n_frames", 1) == 1
                yield from _of_one_size(self._decode(picture))
        except (InvalidSource, InsufficientMemory):
            raise
        except PillowImage.DecompressionBombError:
            raise InvalidSource("more pixels than Pillow's safety limit; scale it down") from None
        except Exception as error:  # a foreign decoder may raise any exception
            raise InvalidSource(f"not a readable animation ({reason_of(error)})") from None

    def stated_frames(self) -> int | None:
        return None

    def frame_rate(self) -> Fraction:
        if self.still:
            return 1 / self.delays[0] if self.delays[0] else USUAL_RATE
        delays = [delay or BROWSERS_DELAY for delay in self.delays]
        if len(set(delays)) > 1:
            _warn_of_variable_rate(self.path, delays)
        return _rounded(len(delays) / sum(delays, Fraction(0)))

    def _decode(self, picture: "Picture") -> Iterator[np.ndarray]:
        # animated PNG whose first image is only for programs without animation
        apart = bool(picture.info.get("default_image"))
        prepare(picture)
        turned = picture.getexif().get(ORIENTATION)
        for number in range(int(apart), getattr(picture, "n_frames", 1)):
            picture.seek(number)
            picture.load()
            self.delays.append(Fraction(picture.info.get("duration") or 0).limit_denominator(1000) / 1000)
            yield np.asarray(upright(in_srgb(picture, picture.info.get("icc_profile"), self.path), turned))


# Video streams


@contextmanager
def _opened(path: Path) -> "Iterator[InputContainer]":
    import av

    try:  # "file:" and the white list: a name is never an address, and no play list reaches another place
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except Exception as error:  # libav's own errors, and any other that damaged bytes cause
        raise InvalidSource(
            f"not a readable clip ({_said(error)}); it is incomplete, damaged or of another format"
        ) from None
    with closing(container):
        yield container


def _said(error: Exception) -> str:
    """Message of a libav error, without numbers and file names."""
    return getattr(error, "strerror", None) or reason_of(error)


def _shown_stream(container: "InputContainer") -> "VideoStream":
    from av.stream import Disposition

    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not streams:
        kinds = ", ".join(sorted({str(stream.type) for stream in container.streams})) or "nothing"
        raise InvalidSource(f"no video stream in it, only {kinds}; name a clip")
    shown = next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])
    if shown.codec_context is None:
        raise InvalidSource("no decoder for its video stream, or a damaged header; convert it to H.264")
    return shown


def _transparent(path: Path, stream: "VideoStream") -> "VideoCodecContext | None":
    """Decoder for VP8 or VP9 with an alpha plane, which libav's own decoders skip; None for other streams."""
    from av.codec.codec import UnknownCodecError
    from av.codec.context import CodecContext

    name = _WITH_ALPHA.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return None
    try:
        decoder = cast("VideoCodecContext", CodecContext.create(name, "r"))
    except UnknownCodecError:
        _log.warning("%s: its transparency is left out, since PyAV was built without %s", path, name)
        return None
    decoder.thread_count = 1
    return decoder


_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders of libvpx by the name of libav's own; a stream with alpha has the tag alpha_mode (Matroska)."""


class _Stream:
    """Frames of a stream in display order, with the time stamps, damage and errors found while decoding."""

    def __init__(self, path: Path, container: "InputContainer", stream: "VideoStream") -> None:
        self.path, self.container, self.stream = path, container, stream
        self.stamps: list[Fraction | None] = []
        self.last_duration: Fraction | None = None
        self.damaged: list[int] = []
        self.errors: list[str] = []

    def frames(self) -> Iterator[Tensor]:
        return _of_one_size(self._shown())

    def stated_frames(self) -> int | None:
        if self.stream.frames:
            return self.stream.frames
        rate, duration = self.stream.guessed_rate, self.container.duration  # in microseconds
        return round(duration * rate / 1_000_000) if rate and duration else None

    def frame_rate(self) -> Fraction:
        return _frame_rate(self.path, self, self.container, self.stream)

    def _shown(self) -> Iterator[np.ndarray]:
        """Decode all frames [height, width, 3], including those that the decoder delays to the end."""
        decoder = self.stream.codec_context
        decoder.thread_count = 1
        if decoder.width and decoder.height:
            check_size(1, (decoder.width, decoder.height))
        aspect = self.stream.sample_aspect_ratio or Fraction(1)
        if aspect != 1:
            _log.warning("%s: pixels with an aspect of %s are resampled to square ones", self.path, aspect)
        for frame in self._decode(_transparent(self.path, self.stream) or decoder):
            if frame.is_corrupt:
                self.damaged.append(len(self.stamps))
            tick = frame.time_base
            self.stamps.append(None if frame.pts is None or tick is None else frame.pts * tick)
            self.last_duration = frame.duration * tick if tick is not None and frame.duration else None
            yield _shown(frame, aspect)

    def _decode(self, decoder: "VideoCodecContext") -> "Iterator[VideoFrame]":
        from av.error import FFmpegError

        packets = self.container.demux(self.stream)
        packet = None
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                yield from decoder.decode(packet)
            except FFmpegError as error:
                self.errors.append(_said(error))
                if packet is None or packet.size == 0:  # reading failed, or the flush at the end
                    return

    def warn(self) -> None:
        """Say what is damaged, in one line."""
        if not (self.damaged or self.errors):
            return
        first = f", the first is number {self.damaged[0] + 1}" if self.damaged else ""
        lost = f"; {len(self.errors)} packets are lost ({self.errors[0]})" if self.errors else ""
        _log.warning(
            "%s: damaged: %d of %d frames are marked corrupt%s%s; "
            "frames that are predicted from damaged ones are wrong, too",
            *(self.path, len(self.damaged), len(self.stamps), first, lost),
        )


def _shown(frame: "VideoFrame", aspect: Fraction) -> np.ndarray:
    """RGB frame [height, width, 3], converted by the stated matrix, range, pixel aspect and rotation."""
    if int(frame.colorspace) not in _MATRICES and not frame.format.is_rgb:
        raise InvalidSource(
            f"colour matrix {int(frame.colorspace)} of ITU-T H.273 is not known; convert it to BT.709"
        )
    name = frame.format.name
    full = name.startswith(("yuvj", "gray")) or frame.format.is_rgb or int(frame.color_range) == _FULL
    transparent = name == "pal8" or any(component.is_alpha for component in frame.format.components)
    pixels = frame.reformat(
        width=max(1, round(frame.width * aspect)),
        format="rgba" if transparent else "rgb24",
        src_colorspace=None if frame.format.is_rgb else _MATRICES[int(frame.colorspace)],
        src_color_range=_FULL if full else _LIMITED,
        dst_color_range=_FULL,
        interpolation=_EXACTLY,
        threads=1,
    ).to_ndarray()
    if transparent:
        from PIL import Image as PillowImage

        pixels = np.asarray(on_white(PillowImage.fromarray(pixels)))
    return _turned(pixels, frame)


def _turned(pixels: np.ndarray, frame: "VideoFrame") -> np.ndarray:
    """Apply the display matrix, x' = a x + c y, y' = b x + d y: rotation by quarter turns, and mirroring."""
    from av.sidedata.sidedata import SideData, Type

    parts = cast("Iterator[SideData]", frame.side_data)
    matrices = [bytes(data) for data in parts if data.type == Type.DISPLAYMATRIX]
    if not matrices:
        return pixels
    a, b, _, c, d = struct.unpack("=5i", matrices[0][:20])
    if abs(a) + abs(d) < abs(b) + abs(c):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _frame_rate(path: Path, decoded: _Stream, container: "InputContainer", stream: "VideoStream") -> Fraction:
    """The stated rate if the time stamps agree with it, else number of frames over duration."""
    tags = {key.lower(): value for key, value in container.metadata.items()}
    rates = [stream.guessed_rate, stream.base_rate, stream.average_rate]  # the base rate can be of fields
    stated = [*_fractions(tags.get(_RATE_TAG)), *(rate for rate in rates if rate)]
    stamps = [stamp for stamp in decoded.stamps if stamp is not None]
    rising = len(stamps) == len(decoded.stamps) and all(a < b for a, b in pairwise(stamps))
    if not rising or len(stamps) == 1 or decoded.errors:
        usual = 1 / decoded.last_duration if decoded.last_duration else USUAL_RATE
        return stated[0] if stated else usual
    tick = stream.time_base or Fraction(1, 1000)
    for rate in stated:  # time stamps are rounded to ticks
        if all(abs(stamp - stamps[0] - number / rate) <= tick for number, stamp in enumerate(stamps)):
            return rate
    delays = [b - a for a, b in pairwise(stamps)]
    last = decoded.last_duration or statistics.median_low(delays)
    if max(delays) - min(delays) > 2 * tick:
        _warn_of_variable_rate(path, [*delays, last])
    return _rounded(len(stamps) / (stamps[-1] - stamps[0] + last))


def _fractions(text: str | None) -> Iterator[Fraction]:
    try:
        rate = Fraction(text or "")
    except (ValueError, ZeroDivisionError):
        return
    if rate > 0:
        yield rate


def _rounded(rate: Fraction) -> Fraction:
    return rate.limit_denominator(1 << 20)


def _warn_of_variable_rate(path: Path, delays: Sequence[Fraction]) -> None:
    mean = sum(delays, Fraction(0)) / len(delays)
    _log.warning(
        "%s: variable frame rate, %d frames of %.4g to %.4g s: "
        "all are kept, and each is shown for the mean, %.4g s",
        *(path, len(delays), float(min(delays)), float(max(delays)), float(mean)),
    )


def _missing_bytes(path: Path) -> int:
    """Number of bytes by which a file is truncated, according to its outermost boxes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"\x1a\x45\xdf\xa3":
            end = _end_of_matroska(file)
        elif head[:4] == b"RIFF":
            end = _end_of_chunks(file, size, "<", 4, frozenset({b"RIFF"}))
        elif head[4:8] in _BOXES:
            end = _end_of_chunks(file, size, ">", 0, _BOXES)
        else:
            return 0
    return max(0, end - size)


_BOXES = frozenset(b"ftyp moov mdat moof free skip wide uuid sidx mfra styp meta pnot udta emsg prft".split())
"""Outermost boxes of ISO/IEC 14496-12 and QuickTime files."""


def _end_of_chunks(file: BinaryIO, size: int, order: str, at: int, kinds: frozenset[bytes]) -> int:
    """End of a file's last chunk, which starts with name and length (RIFF) or length and name (ISO)."""
    place = 0
    while place + 8 <= size:
        file.seek(place)
        head = file.read(16)
        (length,) = struct.unpack(f"{order}I", head[at : at + 4])
        if at:
            name, length = head[:4], length + 8 if length else 0
        else:
            name = head[4:8]
            if length == 1 and len(head) == 16:
                (length,) = struct.unpack(">Q", head[8:])
        if name not in kinds or length < 8:  # 0: to the end, whatever it is
            break
        place += length + (length % 2 if at else 0)
    return place


def _end_of_matroska(file: BinaryIO) -> int:
    """End of the Matroska segment, or 0 if its length is unknown (RFC 8794, sections 4 and 6)."""

    def number(keep_marker: bool) -> tuple[int, bool]:
        first = file.read(1)[0]
        length = 9 - first.bit_length()
        value = int.from_bytes(bytes([first]) + file.read(length - 1))
        mask = (1 << 7 * length) - 1
        return (value if keep_marker else value & mask), value & mask == mask

    try:
        file.seek(4)
        header, _ = number(False)
        file.seek(header, 1)
        identifier, _ = number(True)
        length, unknown = number(False)
        return 0 if unknown or identifier != 0x18538067 else file.tell() + length
    except IndexError:  # truncated inside an element
        return 0
