"""Clips: RGB frames of 8 bits and their rate."""

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from semcom.errors import InvalidSource
from semcom.modalities.image import MAX_SIDE, MEAN_COLOR, animated
from semcom.modalities.modality import Item

MAX_VALUES = 1 << 32  # 4 GiB of pixels: 11 minutes of 416x240 at 25 frames a second, 23 s of 1920x1080
MAX_RATE = 1000  # frames a second: Matroska counts time in milliseconds


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
    """Clips as frames of 8-bit RGB. n of rho = k / n is 3 * frames * height * width."""

    @property
    def name(self) -> str:
        """Canonical spelling."""
        return "video"

    @property
    def suffixes(self) -> frozenset[str]:
        """Endings of clips and of animated pictures."""
        return frozenset({".mp4", ".mkv", ".gif", ".png"})

    @property
    def saved_suffix(self) -> str:
        """Matroska with FFV1, without loss."""
        return ".mkv"

    @property
    def writable(self) -> frozenset[str]:
        """Containers of FFV1."""
        return frozenset({".mkv"})

    def recognises(self, path: Path) -> bool:
        """True if the file is an animated picture."""
        return animated(path) is True

    def read(self, path: Path | str) -> Item[Clip]:
        """Not there yet."""
        raise NotImplementedError

    def write(self, x: Clip, path: Path) -> None:
        """Not there yet."""
        raise NotImplementedError

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
        if frames.shape[0] < 1:
            raise InvalidSource("clip without a frame: at least one is needed")
        height, width = frames.shape[2:]
        if not 1 <= min(height, width) <= max(height, width) <= MAX_SIDE:
            raise InvalidSource(
                f"clip of {width}x{height}: sides must lie in 1..{MAX_SIDE}; crop or scale it"
            )
        if frames.numel() > MAX_VALUES:
            raise InvalidSource(
                f"clip of {frames.numel()} values: at most {MAX_VALUES} are sent; cut or scale it"
            )
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
        colour = (torch.tensor(MEAN_COLOR) * 255).round().byte()
        frames = colour[None, :, None, None].expand(shape.frames, 3, shape.height, shape.width)
        return Clip(frames.clone(), shape.frame_rate)

    def digest(self, x: Clip) -> str:
        """8 hexadecimal digits of the frames and their rate."""
        frames = x.frames.detach().cpu().contiguous()
        about = f"{tuple(frames.shape)} {x.frame_rate}".encode()
        return hashlib.blake2b(about + frames.numpy().tobytes(), digest_size=4).hexdigest()


VIDEO = VideoModality()
"""Clips of 8-bit RGB."""
