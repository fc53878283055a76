"""Clips: RGB frames of 8 bits and their rate. Files are read by libav through PyAV, animations by Pillow."""

import hashlib
import logging
import statistics
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image as PillowImage
from torch import Tensor

from semcom.errors import InvalidSource, reason_of
from semcom.files import replacing
from semcom.modalities.image import MAX_SIDE, MEAN_COLOR, animated, on_white, to_uint8
from semcom.modalities.modality import Item, check_writable, existing_file, named

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

MAX_VALUES = 1 << 32  # 4 GiB of pixels: 9 minutes of 416x240 at 25 frames a second, 27 s of 1920x1080
MAX_RATE = 1000  # frames a second: Matroska counts time in milliseconds
USUAL_RATE = Fraction(25)  # of a file that tells neither rate nor stamps
BROWSERS_DELAY = Fraction(1, 10)  # of a GIF that states a delay of 0

_ANIMATIONS = ("GIF", "PNG", "WEBP", "AVIF")
_CONTAINERS = {
    ".mkv": ("matroska", "ffv1", "bgr0"),
    ".avi": ("avi", "ffv1", "bgr0"),
    ".png": ("apng", "apng", "rgb24"),
}
_RATE_TAG = "frame_rate"
# ITU-T H.273, MatrixCoefficients, by the numbers that libswscale has for them; 2 is "unspecified": BT.601
_MATRICES = {0: 5, 1: 1, 2: 5, 3: 5, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_LIMITED, _FULL = 1, 2
# bicubic, full interpolation of colour differences, exact rounding: within half a level of the formula
_EXACTLY = 4 | 0x2000 | 0x4000 | 0x40000 | 0x80000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class Clip:
    """Frames of one size, each shown for the same time.

    Args:
        frames: RGB of 8 bits.
        frame_rate: Frames a second, exact (24000/1001).
    """

    frames: UInt8[Tensor, "frames 3 height width"]
    frame_rate: Fraction


@dataclass(frozen=True, slots=True)
class ClipShape:
    """What every receiver is told about a clip for free.

    Args:
        frames: How many.
        height: In pixels.
        width: In pixels.
        frame_rate: Frames a second.
    """

    frames: int
    height: int
    width: int
    frame_rate: Fraction


@dataclass(frozen=True)
class VideoModality:
    """Clips as frames of 8-bit RGB.

    n of rho = k / n is 3 * frames * height * width. Every receiver is told number, size and rate of the
    frames.
    """

    @property
    def name(self) -> str:
        """Canonical spelling."""
        return "video"

    @property
    def suffixes(self) -> frozenset[str]:
        """Endings of clips, and of pictures that may be animated."""
        files = ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .m2ts .mts .ogv .flv .wmv .3gp .y4m .ivf"
        streams = ".h264 .264 .h265 .265 .hevc"
        return frozenset((*files.split(), *streams.split(), ".gif", ".png", ".apng", ".webp", ".avif"))

    @property
    def saved_suffix(self) -> str:
        """Matroska with FFV1 in RGB, without loss."""
        return ".mkv"

    @property
    def writable(self) -> frozenset[str]:
        """Formats without loss: FFV1 in RGB (.mkv, .avi), animated PNG (.png)."""
        return frozenset(_CONTAINERS)

    def recognises(self, path: Path) -> bool:
        """True if Pillow opens the file and finds several frames in it."""
        return animated(path) is True

    def read(self, path: Path | str) -> Item[Clip]:
        """Read all frames of a clip as they are to be shown.

        - The first video stream that is no cover picture; frames that an edit list cuts off are left out.
        - Rotation is applied; pixels that are not square are resampled to square ones in the width.
        - Colours follow the matrix and range of the stream, BT.601 in limited range where it states none;
          10 bits and more are rounded to 8; brightness of more than 8 bits' range (HDR) is not mapped.
        - Transparency is laid on white. Interlaced frames are taken as they are, both fields woven.
        - Of a variable frame rate every frame is kept, and shown for the mean time; a warning is logged.
        - Where a part is damaged the frames that decode are kept, and a warning is logged.

        Args:
            path: A video file of any format that libav reads, or a GIF, PNG, WebP or AVIF of one or more
                frames.

        Returns:
            The item.

        Raises:
            InvalidSource: The file is missing, has no video stream, is cut off, does not decode, is too
                large, or has frames of several sizes; one line that names it.
        """
        path = existing_file(path, "clip")
        try:
            clip = _read_animation(path) if _is_animation(path) else _read_stream(path)
            return named(path.stem, clip, self)
        except InvalidSource as error:
            raise InvalidSource(f"{path}: {error}") from None

    def write(self, x: Clip, path: Path) -> None:
        """Write a clip without loss.

        Args:
            x: Frames and rate. The rate is kept exactly by .mkv and .avi, and by .png if there are several
                frames, and numerator and denominator of the rate are below 2^16.
            path: The file, with an ending in `writable`.

        Raises:
            InvalidOption: The ending is not in `writable`.
            OSError: The folder is missing or not writable, or the disk is full.
        """
        import av

        check_writable(path, self)
        format, codec, pixel_format = _CONTAINERS[path.suffix.lower()]
        clip = self.check(x)
        with replacing(path) as part:
            part.touch()  # says in Python's words what hinders it
            with av.open(f"file:{part}", "w", format=format, options={"fflags": "+bitexact"}) as container:
                container.metadata[_RATE_TAG] = str(clip.frame_rate)
                stream = cast("VideoStream", container.add_stream(codec, rate=clip.frame_rate))
                _, _, stream.height, stream.width = clip.frames.shape
                stream.pix_fmt = pixel_format
                stream.codec_context.thread_count = 1
                stream.codec_context.options = {"level": "3", "slicecrc": "1"} if codec == "ffv1" else {}
                for number, frame in enumerate(clip.frames):
                    picture = av.VideoFrame.from_ndarray(_interleaved(frame), "rgb24").reformat(
                        format=pixel_format
                    )
                    picture.pts, picture.time_base = number, 1 / clip.frame_rate
                    container.mux(stream.encode(picture))
                container.mux(stream.encode(None))

    def check(self, x: Clip) -> Clip:
        """Accept a clip.

        Args:
            x: At least one frame, sides in 1..16384, at most 2^32 values, a rate above 0 and up to 1000.

        Returns:
            x itself.

        Raises:
            InvalidSource: Not a clip, of another type or shape, too large, or of a rate out of range.
        """
        if not isinstance(x, Clip):
            raise InvalidSource(f"clip of type {type(x).__name__}: expected a Clip of frames and frame_rate")
        frames, rate = x.frames, x.frame_rate
        if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[1] != 3:
            raise InvalidSource(
                f"clip of {frames.dtype} {list(frames.shape)}: expected 8-bit RGB [frames, 3, height, width]"
            )
        count, _, height, width = frames.shape
        if count < 1:
            raise InvalidSource("clip without a frame: at least one is needed")
        _check_size(count, (width, height))
        if not (isinstance(rate, Fraction) and 0 < rate <= MAX_RATE and max(rate.as_integer_ratio()) < 2**31):
            raise InvalidSource(
                f"clip with {rate} frames a second: expected a fraction above 0, up to {MAX_RATE}, "
                "of numbers below 2^31"
            )
        return x

    def dims(self, x: Clip) -> int:
        """Number of values, n = 3 * frames * height * width."""
        return x.frames.numel()

    def shape(self, x: Clip) -> ClipShape:
        """Number and size of the frames, and their rate."""
        count, _, height, width = x.frames.shape
        return ClipShape(count, height, width, x.frame_rate)

    def cover(self, shape: ClipShape) -> Clip:
        """The mean colour of photographs, `MEAN_COLOR` in 8 bits, in every frame."""
        colour = to_uint8(torch.tensor(MEAN_COLOR))
        frames = colour[None, :, None, None].expand(shape.frames, 3, shape.height, shape.width)
        return Clip(frames.clone(), shape.frame_rate)

    def digest(self, x: Clip) -> str:
        """8 hexadecimal digits of the frames and their rate."""
        frames = x.frames.detach().cpu().contiguous()
        digest = hashlib.blake2b(f"{tuple(frames.shape)} {x.frame_rate}".encode(), digest_size=4)
        digest.update(frames.numpy().data)
        return digest.hexdigest()


VIDEO = VideoModality()
"""Clips of 8-bit RGB."""


def _interleaved(frame: Tensor) -> np.ndarray:
    """[3, height, width] to [height, width, 3]."""
    return frame.detach().cpu().permute(1, 2, 0).contiguous().numpy()


def _check_size(count: int, size: tuple[int, int]) -> None:
    width, height = size
    if not 1 <= min(size) <= max(size) <= MAX_SIDE:
        raise InvalidSource(f"clip of {width}x{height}: sides must lie in 1..{MAX_SIDE}; crop or scale it")
    if 3 * count * width * height > MAX_VALUES:
        raise InvalidSource(
            f"clip of {count} or more frames of {width}x{height}: at most {MAX_VALUES} values are taken; "
            "cut or scale it"
        )


def _gathered(frames: Iterable[np.ndarray]) -> Tensor:
    """Frames [height, width, 3] as one tensor [frames, 3, height, width]; stopped where they are too many."""
    kept: list[Tensor] = []
    size = None
    for frame in frames:
        height, width, _ = frame.shape
        if size not in (None, (width, height)):
            raise InvalidSource(
                f"frames of {size[0]}x{size[1]} and {width}x{height}: a clip has one size; cut or scale it"
            )
        size = (width, height)
        _check_size(len(kept) + 1, size)
        kept.append(torch.from_numpy(np.array(frame.transpose(2, 0, 1), order="C")))
    if not kept:
        raise InvalidSource("no frame of it decodes: not a readable clip, or an incomplete one")
    return torch.stack(kept)


# Animations


def _is_animation(path: Path) -> bool:
    """Whether Pillow reads a file: one of the formats of animated pictures, with any number of frames."""
    try:
        with PillowImage.open(path, formats=_ANIMATIONS):
            return True
    except Exception:  # whatever a foreign decoder throws at what is no picture
        return False


def _read_animation(path: Path) -> Clip:
    delays: list[Fraction] = []

    def frames(picture: PillowImage.Image) -> Iterator[np.ndarray]:
        apart = bool(picture.info.get("default_image"))  # a PNG for programs that know no animation
        for number in range(int(apart), getattr(picture, "n_frames", 1)):
            picture.seek(number)
            picture.load()
            delays.append(Fraction(picture.info.get("duration") or 0).limit_denominator(1000) / 1000)
            yield np.asarray(on_white(picture))

    try:
        with PillowImage.open(path, formats=_ANIMATIONS) as picture:
            still = getattr(picture, "n_frames", 1) == 1
            gathered = _gathered(frames(picture))
    except InvalidSource:
        raise
    except PillowImage.DecompressionBombError:
        raise InvalidSource("more pixels than Pillow's safety limit; scale it down") from None
    except Exception as error:  # whatever a foreign decoder throws at damaged bytes
        raise InvalidSource(f"not a readable animation ({reason_of(error)})") from None
    if still:
        return Clip(gathered, 1 / delays[0] if delays[0] else USUAL_RATE)
    delays = [delay or BROWSERS_DELAY for delay in delays]
    if len(set(delays)) > 1:
        _warn_of_variable_rate(path, delays)
    return Clip(gathered, _rounded(len(delays) / sum(delays, Fraction(0))))


# Video streams


def _read_stream(path: Path) -> Clip:
    missing = _missing_bytes(path)
    if missing:
        raise InvalidSource(f"incomplete clip, its last {missing} bytes are missing; fetch or repair it")
    with _opened(path) as container:
        stream = _shown_stream(container)
        decoded = _Decoded(path)
        frames = _gathered(decoded.frames(container, stream))
        rate = _frame_rate(path, decoded, container, stream)
    decoded.warn()
    return Clip(frames, rate)


@contextmanager
def _opened(path: Path) -> "Iterator[InputContainer]":
    import av

    try:  # "file:" and the white list: a name is never an address, and no play list reaches another place
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except Exception as error:  # libav's own, and whatever else damaged bytes cause
        raise InvalidSource(
            f"not a readable clip ({_said(error)}); it is incomplete, damaged or of another format"
        ) from None
    with closing(container):
        yield container


def _said(error: Exception) -> str:
    """What an error of libav says, without numbers and file names."""
    return getattr(error, "strerror", None) or reason_of(error)


def _shown_stream(container: "InputContainer") -> "VideoStream":
    from av.stream import Disposition

    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not streams:
        kinds = ", ".join(sorted({str(stream.type) for stream in container.streams})) or "nothing"
        raise InvalidSource(f"no video stream in it, only {kinds}; name a clip")
    if streams[0].codec_context is None:
        raise InvalidSource("no decoder for its video stream, or a damaged header; convert it to H.264")
    return streams[0]


class _Decoded:
    """The frames of a stream in the order they are shown, and what is known of each afterwards."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stamps: list[Fraction | None] = []
        self.last_duration: Fraction | None = None
        self.damaged: list[int] = []
        self.errors: list[str] = []

    def frames(self, container: "InputContainer", stream: "VideoStream") -> Iterator[np.ndarray]:
        """All frames, [height, width, 3], those that the decoder holds back to the end included."""
        decoder = stream.codec_context
        decoder.thread_count = 1
        if decoder.width and decoder.height:
            _check_size(1, (decoder.width, decoder.height))
        aspect = stream.sample_aspect_ratio or Fraction(1)
        if aspect != 1:
            _log.warning("%s: pixels with an aspect of %s are resampled to square ones", self.path, aspect)
        for frame in self._decode(container, stream):
            if frame.is_corrupt:
                self.damaged.append(len(self.stamps))
            tick = frame.time_base
            self.stamps.append(None if frame.pts is None or tick is None else frame.pts * tick)
            self.last_duration = frame.duration * tick if tick is not None and frame.duration else None
            yield _shown(frame, aspect)

    def _decode(self, container: "InputContainer", stream: "VideoStream") -> "Iterator[VideoFrame]":
        from av.error import FFmpegError

        packets = container.demux(stream)
        packet = None
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                yield from packet.decode()
            except FFmpegError as error:
                self.errors.append(_said(error))
                if packet is None or packet.size == 0:  # the reading itself, or the flushing at the end
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
    """RGB [height, width, 3] by the matrix, range, shape of pixels and rotation that are stated."""
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
        pixels = np.asarray(on_white(PillowImage.fromarray(pixels)))
    return _turned(pixels, frame)


def _turned(pixels: np.ndarray, frame: "VideoFrame") -> np.ndarray:
    """Apply the display matrix, x' = a x + c y, y' = b x + d y: rotation by quarter turns, and mirroring."""
    from av.sidedata.sidedata import SideData, Type

    parts = cast("Iterable[SideData]", frame.side_data)
    matrices = [bytes(data) for data in parts if data.type == Type.DISPLAYMATRIX]
    if not matrices:
        return pixels
    a, b, _, c, d = struct.unpack("=5i", matrices[0][:20])
    if abs(a) + abs(d) < abs(b) + abs(c):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _frame_rate(
    path: Path, decoded: _Decoded, container: "InputContainer", stream: "VideoStream"
) -> Fraction:
    """The rate that is stated if the stamps agree with it, else the one that keeps number and duration."""
    tags = {key.lower(): value for key, value in container.metadata.items()}
    rates = [stream.guessed_rate, stream.base_rate, stream.average_rate]  # the base rate can be of fields
    stated = [*_fractions(tags.get(_RATE_TAG)), *(rate for rate in rates if rate)]
    stamps = [stamp for stamp in decoded.stamps if stamp is not None]
    rising = len(stamps) == len(decoded.stamps) and all(a < b for a, b in pairwise(stamps))
    if not rising or len(stamps) == 1 or decoded.errors:
        usual = 1 / decoded.last_duration if decoded.last_duration else USUAL_RATE
        return stated[0] if stated else usual
    tick = stream.time_base or Fraction(1, 1000)
    for rate in stated:  # stamps are rounded to ticks
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
    """How many bytes the outermost boxes of a file announce beyond its end: it was cut off by so many."""
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
    """Where the last of a file's chunks ends, which are a name and a length (RIFF) or the reverse (boxes)."""
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
    """Where the segment ends, or 0 if it does not say (RFC 8794, 4 and 6: numbers of variable size)."""

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
    except IndexError:  # cut off within
        return 0
