"""Clips."""

from dataclasses import dataclass
from fractions import Fraction

from jaxtyping import UInt8
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames of one size, shown one after the other.

    Args:
        frames: RGB levels, uint8 of shape [frames, 3, height, width].
        frame_rate: Frames per second, above 0.
    """

    frames: UInt8[Tensor, "frames 3 height width"]
    frame_rate: Fraction


@dataclass(frozen=True)
class ClipShape:
    """Shape of a clip.

    Args:
        frames: Number of frames.
        height: Of a frame, in pixels.
        width: Of a frame, in pixels.
        frame_rate: Frames per second.
    """

    frames: int
    height: int
    width: int
    frame_rate: Fraction
