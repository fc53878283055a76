"""What a JPEG file pins down of the picture that was coded: an interval for every coefficient."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from semcom.cells import Cells
from semcom.codecs.jpeg_coefficients import SIDE, JpegPicture
from semcom.codecs.still import Size
from semcom.errors import InvalidOption, InvalidSource

LANCZOS_LOBES = 3
LEVELS = 255  # of 8 bits
SHIFT = 128  # of samples before the transform, T.81, A.3.1
# JFIF 1.02, "conversion to and from RGB": BT.601, full range
COLORS = (
    (0.299, 0.587, 0.114),
    (-0.299 / 1.772, -0.587 / 1.772, 0.5),
    (0.5, -0.587 / 1.402, -0.114 / 1.402),
)
MATRICES_HELD = 32


@dataclass(frozen=True, slots=True)
class Plane:
    """How a component is sampled.

    Args:
        across: Pixels of the coded picture whose mean is a sample, horizontally.
        down: The same vertically.
    """

    across: int = 1
    down: int = 1


@dataclass(frozen=True)
class JpegCoefficients:
    """The DCT coefficients that JPEG quantises, of pictures in [0, 1], in units of q Delta / 255.

    One component after the other,

        A x = K_down (w . x) K_across^T

    with w the component's row of the matrix to Y, Cb, Cr. The matrix K of an axis reduces the picture by
    Lanczos, takes means where colour is sampled coarser, fills up to whole blocks and transforms blocks of 8.
    libjpeg fills up by the last column of pixels before it takes means, by the last row of means after.

    `pinv` weighs pictures by their Y, Cb and Cr, not by R, G and B: of all x with A x nearest to y the one
    whose components are shortest. It is a right inverse of A wherever all sides are whole units (16 pixels
    for 4:2:0), reduced or not.

    Matrices are dense, so that time goes with the third power of the side: A and pinv take 0.04 s for
    768x512, 0.7 s for 2000x1300.

    Args:
        size: Of the picture, in pixels.
        reduced: Its size when it was coded.
        planes: Of each component.

    Raises:
        InvalidOption: Neither 1 nor 3 components, or a reduced size above the size.

    Reference:
        ITU-T T.81 (1992), A.2.4, A.3.3; JFIF 1.02.
    """

    size: Size
    reduced: Size
    planes: tuple[Plane, ...]

    def __post_init__(self) -> None:
        if len(self.planes) not in (1, 3):
            raise InvalidOption(f"{len(self.planes)} components; JPEG pictures have 1 or 3")
        if not all(1 <= small <= large for small, large in zip(self.reduced, self.size, strict=True)):
            raise InvalidOption(f"reduced from {self.size} to {self.reduced}: neither side may grow")

    def A(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch coefficients"]:  # noqa: N802
        """Coefficients, row by row of each component's plane of blocks."""
        if (x.shape[3], x.shape[2]) != self.size:
            raise InvalidSource(f"picture of {x.shape[3]}x{x.shape[2]} for an operator of {self.size}")
        parts = torch.einsum("kc,bchw->kbhw", self._colors(x), x)
        pairs = zip(parts, self.planes, strict=True)
        return torch.cat([self._apply(part, plane, False).flatten(1) for part, plane in pairs], 1)

    def adjoint(self, y: Float[Tensor, "batch coefficients"]) -> Float[Tensor, "batch 3 height width"]:
        """Each matrix transposed."""
        planes = zip(self.split(y), self.planes, strict=True)
        parts = torch.stack([self._apply(part, plane, True) for part, plane in planes])
        return torch.einsum("kc,kbhw->bchw", self._colors(y), parts)

    def pinv(self, y: Float[Tensor, "batch coefficients"]) -> Float[Tensor, "batch 3 height width"]:
        """Pseudo-inverse of each component, then colours."""
        parts = []
        for part, plane in zip(self.split(y), self.planes, strict=True):
            down, across = (axis.inverse.to(part) for axis in self._axes(plane))
            parts.append(down @ part @ across.T)
        return torch.einsum("ck,kbhw->bchw", torch.linalg.pinv(self._colors(y)), torch.stack(parts))

    def split(self, y: Float[Tensor, "batch coefficients"]) -> list[Float[Tensor, "batch rows columns"]]:
        """The coefficients of each component, where they lie in its plane of blocks."""
        shapes = [tuple(len(axis.matrix) for axis in self._axes(plane)) for plane in self.planes]
        parts = y.split([math.prod(shape) for shape in shapes], 1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]

    def _apply(self, part: Tensor, plane: Plane, transposed: bool) -> Tensor:
        down, across = (axis.matrix.to(part) for axis in self._axes(plane))
        return down.T @ part @ across if transposed else down @ part @ across.T

    def _axes(self, plane: Plane) -> "tuple[_Axis, _Axis]":
        """Down and across."""
        down = _axis(self.size[1], self.reduced[1], plane.down, True)
        return down, _axis(self.size[0], self.reduced[0], plane.across, False)

    def _colors(self, like: Tensor) -> Tensor:
        return torch.tensor(COLORS[: len(self.planes)], dtype=like.dtype, device=like.device)


@dataclass(frozen=True, eq=False, slots=True)
class _Axis:
    """K of one axis, and its pseudo-inverse."""

    matrix: Float[Tensor, "coefficients side"]
    inverse: Float[Tensor, "side coefficients"]


@lru_cache(maxsize=MATRICES_HELD)
def _axis(side: int, reduced: int, step: int, means_first: bool) -> _Axis:
    """Reduce, take means of `step` samples, fill up to whole blocks, transform.

    Args:
        side: Of the picture.
        reduced: Of the coded picture.
        step: Samples in a mean.
        means_first: Whether whole blocks are filled up after the means have been taken.
    """
    samples = -(-reduced // step)
    blocks = -(-samples // SIDE)
    taken = step * (samples if means_first else SIDE * blocks)
    repeated = lanczos_matrix(side, reduced)[torch.arange(taken).clamp_max(reduced - 1)]
    means = repeated.unflatten(0, (-1, step)).mean(1)
    means = means[torch.arange(SIDE * blocks).clamp_max(len(means) - 1)]
    gram = means @ means.T
    apart = torch.equal(gram, gram.diag().diag())  # no pixel is in two means: whole blocks, nothing reduced
    inverse = means.T / gram.diag() if apart else torch.linalg.pinv(means)
    transform = torch.block_diag(*[cosine_matrix()] * blocks)
    return _Axis(transform @ means, inverse @ transform.T)


def cosine_matrix() -> Float[Tensor, "8 8"]:
    """The orthonormal DCT-II of T.81, A.3.3, a frequency per row, in double precision."""
    places = torch.arange(SIDE, dtype=torch.float64)
    rows = torch.cos((2 * places + 1) * places[:, None] * math.pi / (2 * SIDE)) * math.sqrt(2 / SIDE)
    rows[0] /= math.sqrt(2)
    return rows


def lanczos_matrix(side: int, reduced: int) -> Float[Tensor, "reduced side"]:
    """Weights of Pillow's Lanczos reduction of one axis, in double precision; 1 where nothing is reduced.

    sinc(t) sinc(t / 3), |t| < 3, at t = (pixel - centre) / factor with centre = (sample + 1/2) factor - 1/2,
    over the pixels that there are, with sum 1. Pillow rounds the weights to 22 binary places and each axis's
    result to 8 bits, and clips it.

    Args:
        side: Pixels.
        reduced: Samples, at most as many.
    """
    if side == reduced:
        return torch.eye(side, dtype=torch.float64)
    factor = side / reduced
    centres = (torch.arange(reduced, dtype=torch.float64)[:, None] + 0.5) * factor
    pixels = torch.arange(side, dtype=torch.float64)
    reach = LANCZOS_LOBES * factor
    first, last = (centres - reach + 0.5).floor().clamp_min(0), (centres + reach + 0.5).floor()
    t = (pixels + 0.5 - centres) / factor
    weights = torch.where(
        (t >= -LANCZOS_LOBES) & (t < LANCZOS_LOBES), t.sinc() * (t / LANCZOS_LOBES).sinc(), 0.0
    )
    weights = torch.where((pixels >= first) & (pixels < last), weights, 0.0)
    return weights / weights.sum(1, keepdim=True)


def jpeg_cells(picture: JpegPicture, size: Size) -> Cells:
    """Every picture of this size in [0, 1] that codes to these coefficients, up to the encoder's rounding.

        (q - 1/2) Delta / 255 <= A x - 128 / 255 A 1 <= (q + 1/2) Delta / 255

    with 128 for brightness alone: T.81, A.3.1 and A.3.4.

    Args:
        picture: What was read.
        size: Of the picture before it was reduced.

    Raises:
        InvalidOption: Components that are sampled in no whole ratio.
    """
    across, down = max(c.across for c in picture.components), max(c.down for c in picture.components)
    if any(across % c.across or down % c.down for c in picture.components):
        raise InvalidOption("JPEG colour sampled in no whole ratio; choose 4:4:4, 4:2:2 or 4:2:0")
    planes = tuple(Plane(across // c.across, down // c.down) for c in picture.components)
    centres, halves = [], []
    for i, component in enumerate(picture.components):
        centre = component.quantised * component.steps
        if i == 0:
            centre[:, :, 0, 0] += SIDE * SHIFT
        centres.append(_in_plane(centre))
        halves.append(_in_plane(np.broadcast_to(component.steps / 2, centre.shape)))
    centre, half = torch.cat(centres)[None] / LEVELS, torch.cat(halves)[None] / LEVELS
    return Cells(JpegCoefficients(size, picture.size, planes), centre - half, centre + half)


def _in_plane(blocks: Shaped[np.ndarray, "rows columns 8 8"]) -> Float[Tensor, " coefficients"]:
    """Row by row of the plane, not of the blocks."""
    return torch.from_numpy(blocks.transpose(0, 2, 1, 3).reshape(-1).astype(np.float64))
