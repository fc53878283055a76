"""Video modality: 8-bit RGB frames and a frame rate. PyAV (libav) reads video files, Pillow animations."""

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
from torch import Tensor

from semcom.colors import MEAN_COLOR
from semcom.errors import InsufficientMemory, InvalidSource, reason_of
from semcom.files import replacing
from semcom.memory import require_memory
from semcom.modalities.decoding import MAX_SIDE, ORIENTATION, in_srgb, on_white, prepare, upright
from semcom.modalities.image import animated, to_uint8
from semcom.modalities.modality import Item, check_writable, existing_file, named

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream
    from PIL.Image import Image as Picture

MAX_VALUES = 1 << 32  # 4 GiB of pixels: 9 minutes of 416x240 at 25 frames a second, 27 s of 1920x1080
MAX_RATE = 1000  # frames per second; Matroska stores time in milliseconds
USUAL_RATE = Fraction(25)  # assumed if a file states neither rate nor time stamps
BROWSERS_DELAY = Fraction(1, 10)  # seconds; browsers' delay for a GIF that states 0

FRAMES_TOLD = 64  # frames between two looks at the memory that is left

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
# bicubic, full chroma interpolation, exact rounding: within half a level of the formula
_EXACTLY = 4 | 0x2000 | 0x4000 | 0x40000 | 0x80000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class Clip:
    """A video clip: frames of one size at a constant frame rate.

    Args:
        frames: 8-bit RGB, uint8 [frames, 3, height, width].
        frame_rate: Frames per second as an exact fraction, such as 24000/1001.
    """

    frames: UInt8[Tensor, "frames 3 height width"]
    frame_rate: Fraction


@dataclass(frozen=True, slots=True)
class ClipShape:
    """Shape of a clip, which every receiver knows without transmission.

    Args:
        frames: Number of frames.
        height: Height in pixels.
        width: Width in pixels.
        frame_rate: Frames per second.
    """

    frames: int
    height: int
    width: int
    frame_rate: Fraction


@dataclass(frozen=True)
class VideoModality:
    """Video clips as 8-bit RGB frames.

    Source dimensions of the bandwidth ratio rho = k / n are n = 3 frames height width. Every receiver knows
    number, size and rate of the frames.
    """

    @property
    def name(self) -> str:
        """Canonical name of the modality: "video"."""
        return "video"

    @property
    def suffixes(self) -> frozenset[str]:
        """File extensions of video, and of image formats that may be animated."""
        files = ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .m2ts .mts .ogv .flv .wmv .3gp .y4m .ivf"
        streams = ".h264 .264 .h265 .265 .hevc"
        return frozenset((*files.split(), *streams.split(), ".gif", ".png", ".apng", ".webp", ".avif"))

    @property
    def saved_suffix(self) -> str:
        """Extension of kept results: ".mkv", Matroska with lossless FFV1 in RGB."""
        return ".mkv"

    @property
    def writable(self) -> frozenset[str]:
        """Extensions of lossless formats: FFV1 in RGB (.mkv, .avi), animated PNG (.png)."""
        return frozenset(_CONTAINERS)

    def recognises(self, path: Path) -> bool:
        """Whether a file is an animation with several frames that Pillow opens.

        Args:
            path: An existing file with any extension.

        Returns:
            False for single images and for files that Pillow cannot open.
        """
        return animated(path) is True

    def read(self, path: Path | str) -> Item[Clip]:
        """Read all frames of a clip as a player would show them.

        - The first video stream that is not a cover picture is read; frames that an edit list removes are
          left out.
        - Rotation is applied. Pixels that are not square are resampled to square ones in the horizontal
          direction.
        - Colours are converted by the matrix and range of the stream; without them BT.601 in limited range is
          assumed. More than 8 bits are rounded to 8; high dynamic range is not tone-mapped.
        - Of animations, colour profile and orientation are applied as to pictures; 16 bits are cut to 8.
        - Sound, subtitles and further video streams are left out.
        - Transparency is composed on white. Interlaced frames are kept woven.
        - With a variable frame rate all frames are kept at the mean rate, and a warning is logged.
        - If a part is damaged, the frames that decode are kept, and a warning is logged.

        Args:
            path: A video file in any format that libav reads, or a GIF, PNG, WebP or AVIF file with one or
                more frames.

        Returns:
            The item.

        Raises:
            InvalidSource: The file is missing, has no video stream, is truncated, does not decode, is too
                large, or has frames of several sizes; one line that names it.
            InsufficientMemory: The frames need more memory than there is.
        """
        path = existing_file(path, "clip")
        try:
            clip = _read_animation(path) if _is_animation(path) else _read_stream(path)
            return named(path.stem, clip, self)
        except (InvalidSource, InsufficientMemory) as error:
            raise type(error)(f"{path}: {error}") from None

    def write(self, x: Clip, path: Path) -> None:
        """Write a clip without loss.

        Args:
            x: The clip. Formats .mkv and .avi keep the frame rate exactly; .png does so for several frames if
                numerator and denominator of the rate are below 2^16.
            path: The file, with an extension in `writable`.

        Raises:
            InvalidOption: The extension is not in `writable`.
            OSError: The folder is missing or not writable, or the disk is full.
        """
        import av

        check_writable(path, self)
        format, codec, pixel_format = _CONTAINERS[path.suffix.lower()]
        clip = self.check(x)
        with replacing(path) as part:
            part.touch()  # raises Python's own OSError if the file cannot be written
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
        """Check that an object is a valid clip.

        Args:
            x: At least one frame, sides from 1 to 16384 pixels, at most 2^32 values, a frame rate above 0 and
                up to 1000 frames per second.

        Returns:
            x unchanged.

        Raises:
            InvalidSource: x is not a clip, its frames have another type or shape, it is too large, or its
                rate is out of range.
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
        """Source dimensions n = 3 frames height width of a clip.

        Args:
            x: The clip.

        Returns:
            Number of values.
        """
        return x.frames.numel()

    def shape(self, x: Clip) -> ClipShape:
        """Shape of a clip, which every receiver knows: number, size and rate of the frames.

        Args:
            x: The clip.

        Returns:
            The shape.
        """
        count, _, height, width = x.frames.shape
        return ClipShape(count, height, width, x.frame_rate)

    def cover(self, shape: ClipShape) -> Clip:
        """Clip shown in an outage: the mean colour of photographs, `MEAN_COLOR` in 8 bits, in every frame.

        Args:
            shape: Shape of the lost clip.

        Returns:
            A clip of that shape.
        """
        colour = to_uint8(torch.tensor(MEAN_COLOR, dtype=torch.float32))
        frames = colour[None, :, None, None].expand(shape.frames, 3, shape.height, shape.width)
        return Clip(frames.clone(), shape.frame_rate)

    def digest(self, x: Clip) -> str:
        """Digest of a clip, computed from its frames and frame rate.

        Args:
            x: The clip.

        Returns:
            8 hexadecimal digits.
        """
        frames = x.frames.detach().cpu().contiguous()
        digest = hashlib.blake2b(f"{tuple(frames.shape)} {x.frame_rate}".encode(), digest_size=4)
        digest.update(frames.numpy().data)
        return digest.hexdigest()


VIDEO = VideoModality()
"""The video modality."""


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
    """Stack frames [height, width, 3] to one tensor [frames, 3, height, width]; stop if they are too many."""
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
        if len(kept) % FRAMES_TOLD == FRAMES_TOLD - 1:  # the frames are held twice when they are stacked
            require_memory(
                3.0 * (len(kept) + 2 * FRAMES_TOLD) * width * height,
                f"clip of more than {len(kept)} frames of {width}x{height}",
                "cut or scale it",
            )
        kept.append(torch.from_numpy(np.array(frame.transpose(2, 0, 1), order="C")))
    if not kept:
        raise InvalidSource("no frame of it decodes: not a readable clip, or an incomplete one")
    return torch.stack(kept)


# Animations


def _is_animation(path: Path) -> bool:
    """Whether Pillow opens a file as one of the formats of animated images, with any number of frames."""
    from PIL import Image as PillowImage

    try:
        with PillowImage.open(path, formats=_ANIMATIONS):
            return True
    except Exception:  # a foreign decoder may raise any exception
        return False


def _read_animation(path: Path) -> Clip:
    from PIL import Image as PillowImage

    delays: list[Fraction] = []

    def frames(picture: "Picture") -> Iterator[np.ndarray]:
        # animated PNG whose first image is only for programs without animation
        apart = bool(picture.info.get("default_image"))
        prepare(picture)
        turned = picture.getexif().get(ORIENTATION)
        for number in range(int(apart), getattr(picture, "n_frames", 1)):
            picture.seek(number)
            picture.load()
            delays.append(Fraction(picture.info.get("duration") or 0).limit_denominator(1000) / 1000)
            yield np.asarray(upright(in_srgb(picture, picture.info.get("icc_profile"), path), turned))

    try:
        with PillowImage.open(path, formats=_ANIMATIONS) as picture:
            still = getattr(picture, "n_frames", 1) == 1
            gathered = _gathered(frames(picture))
    except (InvalidSource, InsufficientMemory):
        raise
    except PillowImage.DecompressionBombError:
        raise InvalidSource("more pixels than Pillow's safety limit; scale it down") from None
    except Exception as error:  # a foreign decoder may raise any exception
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
    if streams[0].codec_context is None:
        raise InvalidSource("no decoder for its video stream, or a damaged header; convert it to H.264")
    return streams[0]


class _Decoded:
    """Frames of a stream in display order, with the time stamps, damage and errors found while decoding."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stamps: list[Fraction | None] = []
        self.last_duration: Fraction | None = None
        self.damaged: list[int] = []
        self.errors: list[str] = []

    def frames(self, container: "InputContainer", stream: "VideoStream") -> Iterator[np.ndarray]:
        """Decode all frames [height, width, 3], including those that the decoder delays to the end."""
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
