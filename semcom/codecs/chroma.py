"""Conversion of 8-bit RGB to 4:2:0 and back, stated once for all codecs of clips.

Luma and colour differences follow ITU-R BT.709 in limited range: with R, G, B in 0..255 and
E = (0.2126 R + 0.7152 G + 0.0722 B) / 255,

    Y  = 16 + 219 E,   Cb = 128 + 224 (B / 255 - E) / 1.8556,   Cr = 128 + 224 (R / 255 - E) / 1.5748,

each rounded to 8 bits. Cb and Cr have half the width and half the height; their samples lie in the centre of
2x2 pixels. They are reduced and enlarged by a bicubic filter (libswscale, exact rounding, one thread).
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from semcom.codecs.still import Pixels, Resized, Size
from semcom.modalities.video import Clip

if TYPE_CHECKING:
    from av import VideoFrame

_BT709, _LIMITED, _FULL = 1, 1, 2
# bicubic, full interpolation of colour differences, exact rounding: within half a level of the formula
_EXACTLY = 4 | 0x2000 | 0x4000 | 0x40000 | 0x80000


def to_yuv(pixels: Pixels | Resized) -> "VideoFrame":
    """Convert RGB pixels to a frame in 4:2:0.

    Args:
        pixels: RGB in 0..255, uint8 [height, width, 3]; both sides even.

    Returns:
        Frame of pixel format yuv420p: BT.709, limited range, 8 bits.
    """
    import av

    return av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(
        format="yuv420p",
        dst_colorspace=_BT709,
        src_color_range=_FULL,
        dst_color_range=_LIMITED,
        interpolation=_EXACTLY,
        threads=1,
    )


def to_rgb(frame: "VideoFrame") -> Pixels:
    """Convert a frame in 4:2:0 to RGB pixels, whatever matrix and range the frame itself states.

    Args:
        frame: Frame of pixel format yuv420p: BT.709, limited range, 8 bits.

    Returns:
        RGB in 0..255, uint8 [height, width, 3].
    """
    return frame.reformat(
        format="rgb24",
        src_colorspace=_BT709,
        src_color_range=_LIMITED,
        dst_color_range=_FULL,
        interpolation=_EXACTLY,
        threads=1,
    ).to_ndarray()


def in_420(x: Clip) -> Clip:
    """Reduce a clip to what 4:2:0 in 8 bits can carry, without any coding.

    Codecs in 4:2:0 are limited to this clip: compared with it, a codec of rate infinity has no error. The
    PSNR of `in_420(x)` and x is the ceiling of all codecs in 4:2:0 for x.

    Args:
        x: The clip. Odd sides are padded by repetition of the last pixels, and cut again.

    Returns:
        A clip of the same shape.
    """
    _, _, height, width = x.frames.shape
    size = (width + width % 2, height + height % 2)
    frames = [to_rgb(to_yuv(padded(interleaved(frame), size)))[:height, :width] for frame in x.frames]
    return Clip(torch.stack([planar(frame) for frame in frames]), x.frame_rate)


def padded(pixels: Pixels | Resized, size: Size) -> Resized:
    """Pad pixels on the right and at the bottom by repetition of the last ones.

    Args:
        pixels: Array [height, width, 3].
        size: Width and height after padding, at least those of `pixels`.

    Returns:
        Array [size[1], size[0], 3].
    """
    height, width, _ = pixels.shape
    return np.pad(pixels, ((0, size[1] - height), (0, size[0] - width), (0, 0)), mode="edge")


def interleaved(frame: Tensor) -> Pixels:
    """Convert a frame from planes of colours to interleaved colours.

    Args:
        frame: Frame of 8 bits, uint8 [3, height, width].

    Returns:
        Contiguous array, uint8 [height, width, 3].
    """
    return frame.detach().cpu().permute(1, 2, 0).contiguous().numpy()


def planar(pixels: Pixels) -> Tensor:
    """Convert a frame from interleaved colours to planes of colours, the inverse of `interleaved`.

    Args:
        pixels: Array, uint8 [height, width, 3].

    Returns:
        Contiguous tensor, uint8 [3, height, width].
    """
    return torch.from_numpy(np.array(pixels.transpose(2, 0, 1), order="C"))
