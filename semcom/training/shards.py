"""Compact storage of many small photographs in one file that torch and numpy alone can read.

A photograph is stored as JPEG stores it: luminance and subsampled chrominance (ITU-R BT.601, full range),
discrete
cosine transform of 8x8 pixels, coefficients in multiples of a step. One step serves all frequencies, which is
best
for the mean squared error, and LZMA replaces Huffman codes.
"""

import lzma
from lzma import LZMAError
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor
from torch.nn import functional

from semcom.cosines import cosine_matrix
from semcom.errors import InvalidOption, InvalidSource

STEP = 6.0  # of 255; 41 dB on the training photographs
BLOCK = 8
LEAST_STEP = 1 / 16  # of 255: differences of means go to +-2040, of which 16 bits hold 65535 levels
# The values are small and few strings of them repeat: what matters is the literal coder, which sees 4 bits of
# the value before; a deeper search for repetitions takes five times as long and gains nothing.
LZMA = [
    {
        "id": lzma.FILTER_LZMA2,
        **{"lc": 4, "lp": 0, "pb": 0},
        **{"mode": lzma.MODE_NORMAL, "mf": lzma.MF_HC4, "nice_len": 16, "depth": 1},
    }
]
UNREADABLE = (OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError, LZMAError, BadZipFile)
RGB_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def write(pixels: UInt8[np.ndarray, "count side side 3"], shard: Path, step: float = STEP) -> None:
    """Write square photographs to a file.

    Args:
        pixels: 8-bit RGB, uint8 [count, side, side, 3], the side a multiple of 16.
        shard: File to write.
        step: Quantiser step in units of 1/255.

    Raises:
        InvalidSource: The side is not a multiple of 16.
        InvalidOption: The step is below 1/16, for which 16 bits may not hold all levels.
    """
    side = pixels.shape[1]
    if side % (2 * BLOCK):
        raise InvalidSource(f"squares of {side}x{side}: the side must be a multiple of {2 * BLOCK}")
    if not step >= LEAST_STEP:
        raise InvalidOption(f"quantiser step {step:g} of 255: choose at least {LEAST_STEP:g}")
    luma, chroma = [], []
    for part in torch.from_numpy(pixels).split(64):
        ycc = ((part.float() - 128) @ torch.tensor(RGB_TO_YCC).T).permute(0, 3, 1, 2)
        luma.append(_levels(ycc[:, :1], step))
        chroma.append(_levels(functional.avg_pool2d(ycc[:, 1:], 2), step))
    levels = torch.cat([torch.cat(part).flatten() for part in (luma, chroma)]).numpy()
    folded = np.where(levels < 0, -2 * levels - 1, 2 * levels)  # 0, -1, 1, -2, ... become 0, 1, 2, 3, ...
    small = np.minimum(folded, 255).astype(np.uint8)
    coded = lzma.compress(small.tobytes(), lzma.FORMAT_RAW, filters=LZMA)
    with shard.open("wb") as file:
        np.savez(
            file,
            shape=np.array(pixels.shape[:2]),
            step=np.array(step),
            coded=np.frombuffer(coded, np.uint8),
            large=folded[small == 255].astype(np.uint16),
        )


def read(shard: Path) -> UInt8[Tensor, "count side side 3"]:
    """Read the photographs of a file that `write` made; takes some 10 ms for each of 224x224.

    Args:
        shard: The file.

    Returns:
        Photographs, uint8 [count, side, side, 3].

    Raises:
        InvalidSource: The file does not exist, or it is damaged.
    """
    try:
        with np.load(shard, allow_pickle=False) as file:
            count, side = map(int, file["shape"])
            step, coded, large = float(file["step"]), file["coded"], file["large"]
        small = np.frombuffer(lzma.decompress(coded.tobytes(), lzma.FORMAT_RAW, filters=LZMA), np.uint8)
        folded = small.astype(np.int32)
        folded[small == 255] = large
        levels = torch.from_numpy((folded >> 1) ^ -(folded & 1))
        luma, chroma = levels.split([count * side**2, count * side**2 // 2])
        luma, chroma = luma.view(count, 1, -1), chroma.view(count, 2, -1)
    except UNREADABLE as error:
        raise InvalidSource(f"{shard} is not a readable shard ({type(error).__name__})") from None
    pixels = torch.empty(count, side, side, 3, dtype=torch.uint8)
    for part, y, c in zip(pixels.split(64), luma.split(64), chroma.split(64), strict=True):
        halves = _planes(c, side // 2, step)
        doubled = functional.interpolate(halves, scale_factor=2, mode="bilinear")
        ycc = torch.cat([_planes(y, side, step), doubled], 1)
        rgb = ycc.permute(0, 2, 3, 1) @ torch.linalg.inv(torch.tensor(RGB_TO_YCC)).T + 128
        part.copy_(rgb.round().clamp(0, 255))
    return pixels


def _zigzag() -> list[int]:
    """Frequencies of a block in the order of their sum."""
    return sorted(range(BLOCK**2), key=lambda k: (k // BLOCK + k % BLOCK, k))


def _levels(planes: Float[Tensor, "count colors side side"], step: float) -> Tensor:
    """Quantised transform by frequencies, [count, colors, 64, blocks], means as differences."""
    count, colors, side, _ = planes.shape
    blocks = planes.view(count, colors, side // BLOCK, BLOCK, side // BLOCK, BLOCK).transpose(3, 4)
    cosines = cosine_matrix(BLOCK, torch.float32)
    levels = (cosines @ blocks @ cosines.T / step).round().int()
    levels = levels.flatten(2, 3).flatten(3).transpose(2, 3)[:, :, _zigzag()]  # [count, colors, 64, blocks]
    levels[:, :, 0, 1:] -= levels[:, :, 0, :-1].clone()
    return levels


def _planes(levels: Integer[Tensor, "count colors values"], side: int, step: float) -> Tensor:
    """Planes [count, colors, side, side] of quantised transforms, the inverse of `_levels`."""
    count, colors, _ = levels.shape
    grid = side // BLOCK
    levels = levels.view(count, colors, BLOCK**2, grid**2).clone()
    levels[:, :, 0] = levels[:, :, 0].cumsum(-1)
    order = torch.tensor(_zigzag()).argsort()
    coefficients = levels[:, :, order].transpose(2, 3).float() * step
    cosines = cosine_matrix(BLOCK, torch.float32)
    blocks = cosines.T @ coefficients.reshape(count, colors, grid, grid, BLOCK, BLOCK) @ cosines
    return blocks.transpose(3, 4).reshape(count, colors, side, side)
