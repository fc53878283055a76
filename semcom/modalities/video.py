"""Video modality: 8-bit RGB frames and a frame rate. PyAV (libav) reads video files, Pillow animations."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from semcom.colors import MEAN_COLOR
from semcom.errors import InsufficientMemory, InvalidSource
from semcom.modalities.clip_files import CONTAINERS, check_rate, check_size, opened, writing
from semcom.modalities.image import animated, to_uint8
from semcom.modalities.modality import Item, check_writable, existing_file, named
from semcom.process_memory import require_memory

FRAMES_TOLD = 64  # frames between two looks at the memory that is left


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
        return frozenset(CONTAINERS)

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

        - Of the video streams that are no cover pictures, the first that the file marks as default is read,
          or else the first; frames that an edit list removes are left out.
        - Rotation is applied. Pixels that are not square are resampled to square ones in the horizontal
          direction.
        - Colours are converted by the matrix and range of the stream; without them BT.601 in limited range is
          assumed, and grey streams are taken as full range, as FFmpeg writes them. More than 8 bits are
          rounded to 8; high dynamic range is not tone-mapped.
        - Of animations, colour profile and orientation are applied as to pictures; 16 bits are cut to 8.
        - Sound, subtitles and further video streams are left out.
        - Transparency is composed on white, that of VP8 and VP9 too. Interlaced frames are kept woven.
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
            with opened(path) as source:
                frames = _gathered(source.frames())
                clip = Clip(frames, source.frame_rate())
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
        check_writable(path, self)
        clip = self.check(x)
        _, _, height, width = clip.frames.shape
        with writing(path, (width, height), clip.frame_rate) as add:
            for frame in clip.frames:
                add(frame)

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
        check_size(count, (width, height))
        if not isinstance(rate, Fraction):
            raise InvalidSource(f"clip with {rate} frames a second: expected a fraction")
        check_rate(rate)
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


def _gathered(frames: Iterable[Tensor]) -> Tensor:
    """Stack frames to one tensor [frames, 3, height, width]; stop if they are too many."""
    kept: list[Tensor] = []
    for frame in frames:
        _, height, width = frame.shape
        check_size(len(kept) + 1, (width, height))
        if len(kept) % FRAMES_TOLD == FRAMES_TOLD - 1:  # the frames are held twice when they are stacked
            require_memory(
                3.0 * (len(kept) + 2 * FRAMES_TOLD) * width * height,
                f"clip of more than {len(kept)} frames of {width}x{height}",
                "cut or scale it",
            )
        kept.append(frame)
    return torch.stack(kept)
