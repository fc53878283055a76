"""Layers of a checkerboard: each pixel is predicted by its four neighbours, all of the other layer.

A layer may be changed pixel by pixel without changing what predicts it, so that the extractor sees the same
predictions and complexities as the embedder.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

Planes = UInt8[np.ndarray, "colors height width"]
Integers = Int[np.ndarray, " sites"]


@dataclass(frozen=True, eq=False)
class Layer:
    """The pixels of one colour of the checkerboard in one plane, in raster order.

    Args:
        index: Places in the flattened planes.
        value: Of the pixels, 0..255.
        prediction: Mean of the four neighbours, rounded half up.
        complexity: 4 V + the V of the four diagonal neighbours, V = 16 times the variance of the four
            neighbours of a pixel; 0..2080800.
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
        """Value less prediction."""
        return self.value - self.prediction


def layer(planes: Planes, color: int, parity: int, reserved: int = 0) -> Layer:
    """One layer of one plane.

    Args:
        planes: All.
        color: Which plane.
        parity: 0 or 1, of row + column.
        reserved: So many pixels at the beginning of the first plane are left out.
    """
    plane = planes[color].astype(np.int32)
    height, width = plane.shape
    around = _padded(plane)
    four = np.stack([around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]])
    total = four.sum(0, dtype=np.int32)
    variance = 4 * (four**2).sum(0, dtype=np.int32) - total**2
    near = _padded(variance)
    complexity = 4 * variance + near[:-2, :-2] + near[:-2, 2:] + near[2:, :-2] + near[2:, 2:]
    rows, columns = np.indices((height, width), dtype=np.int32)
    place = rows.astype(np.int64) * width + columns + color * height * width
    mine = ((rows + columns) % 2 == parity) & (place >= reserved)
    return Layer(
        index=place[mine],
        value=plane[mine],
        prediction=(total[mine] + 2) >> 2,
        complexity=complexity[mine],
        low=total[mine] == 0,
        high=total[mine] == 4 * 255,
    )


def layer_numbers(planes: Planes) -> Iterator[tuple[int, int]]:
    """Plane and parity of all layers, in the order of embedding."""
    return ((color, parity) for color in range(len(planes)) for parity in (0, 1))


def to_planes(pixels: UInt8[np.ndarray, "..."]) -> Planes:
    """From [height, width] or [height, width, colors]; a copy."""
    return np.array(pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0), order="C")


def from_planes(planes: Planes, ndim: int) -> UInt8[np.ndarray, "..."]:
    """The opposite."""
    return planes[0].copy() if ndim == 2 else np.ascontiguousarray(np.moveaxis(planes, 0, 2))


def _padded(plane: np.ndarray) -> np.ndarray:
    """By one pixel, mirrored about the border: what is added is of the board's other colour, as inside."""
    for axis in (0, 1):
        margin = [(0, 0), (0, 0)]
        margin[axis] = (1, 1)
        plane = np.pad(plane, margin, mode="reflect" if plane.shape[axis] > 1 else "constant")
    return plane
