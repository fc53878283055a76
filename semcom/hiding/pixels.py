"""Checkerboard layers of a picture: each pixel is predicted by its four neighbours in the other layer.

Changing a layer pixel by pixel does not change what predicts it, so that the extractor sees the same
predictions and complexities as the embedder.
"""

import typing
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

from channels.compiled import compiled

Planes = UInt8[np.ndarray, "colors height width"]
Integers = Int[np.ndarray, " sites"]


@dataclass(frozen=True, eq=False)
class Layer:
    """Pixels of one checkerboard colour in one plane, in raster order.

    Args:
        index: Positions in the flattened planes.
        value: Pixel values, 0..255.
        prediction: Mean of the four neighbours, rounded half up.
        complexity: 4 V plus the V of the four diagonal neighbours, V being 16 times the variance of a pixel's
            four neighbours; 0..2080800.
        low, high: Whether all four neighbours are 0, or 255.
    """

    index: Integers
    value: Integers
    prediction: Integers
    complexity: Integers
    low: np.ndarray
    high: np.ndarray

    @property
    def error(self) -> Integers:
        """Prediction error of each pixel: value less prediction."""
        return self.value - self.prediction


def layer(planes: Planes, color: int, parity: int, reserved: int = 0) -> Layer:
    """Extract one checkerboard layer of one plane.

    Args:
        planes: All planes, uint8 [colors, height, width].
        color: Index of the plane.
        parity: 0 or 1, of row + column.
        reserved: Pixels at the beginning of the first plane to leave out.

    Returns:
        The layer.
    """
    plane = planes[color]
    size = (plane.size + 1) // 2
    index = np.empty(size, np.int64)
    value, total, complexity = (np.empty(size, np.int32) for _ in range(3))
    count = _survey(plane, parity, reserved - color * plane.size, index, value, total, complexity)
    total = total[:count]
    return Layer(
        index=index[:count] + color * plane.size,
        value=value[:count],
        prediction=(total + 2) >> 2,
        complexity=complexity[:count],
        low=total == 0,
        high=total == 4 * 255,
    )


def layer_numbers(planes: Planes) -> Iterator[tuple[int, int]]:
    """Plane and parity of all layers, in the order of embedding.

    Args:
        planes: All planes, uint8 [colors, height, width].

    Yields:
        Index of the plane and parity.
    """
    return ((color, parity) for color in range(len(planes)) for parity in (0, 1))


def to_planes(pixels: UInt8[np.ndarray, "..."]) -> Planes:
    """Copy a picture to planes.

    Args:
        pixels: uint8 [height, width] or [height, width, colors].

    Returns:
        Planes, uint8 [colors, height, width].
    """
    return np.array(pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0), order="C")


def from_planes(planes: Planes, ndim: int) -> UInt8[np.ndarray, "..."]:
    """Convert planes to a picture, the inverse of `to_planes`.

    Args:
        planes: Planes, uint8 [colors, height, width].
        ndim: 2 for [height, width], 3 for [height, width, colors].

    Returns:
        The picture, uint8.
    """
    return planes[0].copy() if ndim == 2 else np.ascontiguousarray(np.moveaxis(planes, 0, 2))


@compiled()
@typing.no_type_check
def _survey(plane, parity, begin, index, value, total, complexity):
    """Write positions from `begin` on, values, sums of four neighbours and complexities; return their number.

    Beyond the border, the picture is mirrored about it, which adds pixels of the other checkerboard colour,
    as inside; a picture of a single row or column has zeros beside it.
    """
    height, width = plane.shape
    sums = np.empty((height + 2, width + 2), np.int32)
    variances = np.empty((height + 2, width + 2), np.int32)
    wide = np.zeros((height + 2, width + 2), np.int32)
    wide[1:-1, 1:-1] = plane
    _mirror(wide)
    for y in range(1, height + 1):
        for x in range(1 + (y + 1 + parity) % 2, width + 1, 2):
            a, b, c, d = wide[y - 1, x], wide[y + 1, x], wide[y, x - 1], wide[y, x + 1]
            sums[y, x] = a + b + c + d
            variances[y, x] = 4 * (a * a + b * b + c * c + d * d) - sums[y, x] ** 2
    _mirror(variances)
    count = 0
    for y in range(1, height + 1):
        for x in range(1 + (y + 1 + parity) % 2, width + 1, 2):
            place = (y - 1) * width + x - 1
            if place >= begin:
                index[count] = place
                value[count] = plane[y - 1, x - 1]
                total[count] = sums[y, x]
                near = variances[y - 1, x - 1] + variances[y - 1, x + 1]
                near += variances[y + 1, x - 1] + variances[y + 1, x + 1]
                complexity[count] = 4 * variances[y, x] + near
                count += 1
    return count


@compiled()
@typing.no_type_check
def _mirror(wide):
    """Fill a margin of one pixel by mirroring the picture."""
    height, width = wide.shape
    if height > 3:
        wide[0], wide[-1] = wide[2], wide[-3]
    else:
        wide[0], wide[-1] = 0, 0
    if width > 3:
        wide[:, 0], wide[:, -1] = wide[:, 2], wide[:, -3]
    else:
        wide[:, 0], wide[:, -1] = 0, 0
