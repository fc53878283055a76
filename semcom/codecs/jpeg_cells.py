"""Which pictures code to a given JPEG file: an interval for every DCT coefficient."""

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
from semcom.cosines import cosine_matrix
from semcom.errors import InvalidOption, InvalidSource
from semcom.surroundings import library_defaults, one_thread

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
    """Sampling of a JPEG component.

    Args:
        across: Pixels of the coded picture that are averaged into a sample, horizontally.
        down: Pixels of the coded picture that are averaged into a sample, vertically.
    """

    across: int = 1
    down: int = 1


@dataclass(frozen=True)
class JpegCoefficients:
    """Linear operator from pictures in [0, 1] to the DCT coefficients that JPEG quantises.

    Coefficients are in units of q Delta / 255. One component after the other,

        A x = K_down (w . x) K_across^T

    with w the component's row of the matrix to Y, Cb, Cr. The matrix K of an axis reduces the picture by
    Lanczos filtering, averages where colour is subsampled, extends to whole blocks and transforms blocks of
    8. libjpeg extends by the last column of pixels before it averages, by the last row of averages after.

    `pinv` measures pictures by their Y, Cb and Cr, not by R, G and B: of all x with A x nearest to y, it
    returns the one whose components have the least norm. It is a right inverse of A wherever all sides are
    whole units (16 pixels for 4:2:0), reduced or not.

    Matrices are dense, so that time grows with the third power of the side: A and pinv take 0.04 s for
    768x512, 0.7 s for 2000x1300.

    Args:
        size: Width and height of the picture in pixels.
        reduced: Width and height of the coded picture in pixels.
        planes: Sampling of each component, 1 or 3.

    Raises:
        InvalidOption: There are neither 1 nor 3 components, or the reduced size exceeds the size.

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
        """Coefficients of a picture, row by row of each component's plane of blocks.

        Args:
            x: Pictures in [0, 1], [batch, 3, height, width].

        Returns:
            Coefficients, [batch, coefficients].

        Raises:
            InvalidSource: The picture has another size.
        """
        if (x.shape[3], x.shape[2]) != self.size:
            raise InvalidSource(f"picture of {x.shape[3]}x{x.shape[2]} for an operator of {self.size}")
        parts = torch.einsum("kc,bchw->kbhw", self._colors(x), x)
        pairs = zip(parts, self.planes, strict=True)
        return torch.cat([self._apply(part, plane, False).flatten(1) for part, plane in pairs], 1)

    def adjoint(self, y: Float[Tensor, "batch coefficients"]) -> Float[Tensor, "batch 3 height width"]:
        """Adjoint of the operator.

        Args:
            y: Coefficients, [batch, coefficients].

        Returns:
            A^T y, [batch, 3, height, width].
        """
        planes = zip(self.split(y), self.planes, strict=True)
        parts = torch.stack([self._apply(part, plane, True) for part, plane in planes])
        return torch.einsum("kc,kbhw->bchw", self._colors(y), parts)

    def pinv(self, y: Float[Tensor, "batch coefficients"]) -> Float[Tensor, "batch 3 height width"]:
        """Pseudo-inverse of each component, followed by the colour transform.

        Args:
            y: Coefficients, [batch, coefficients].

        Returns:
            Pictures, [batch, 3, height, width].
        """
        parts = []
        for part, plane in zip(self.split(y), self.planes, strict=True):
            down, across = (axis.inverse.to(part) for axis in self._axes(plane))
            parts.append(down @ part @ across.T)
        return torch.einsum("ck,kbhw->bchw", torch.linalg.pinv(self._colors(y)), torch.stack(parts))

    def split(self, y: Float[Tensor, "batch coefficients"]) -> list[Float[Tensor, "batch rows columns"]]:
        """Coefficients of each component, arranged as in its plane of blocks.

        Args:
            y: Coefficients, [batch, coefficients].

        Returns:
            One tensor [batch, rows, columns] per component.
        """
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
    """Matrix K of one axis, and its pseudo-inverse."""

    matrix: Float[Tensor, "coefficients side"]
    inverse: Float[Tensor, "side coefficients"]


@lru_cache(maxsize=MATRICES_HELD)
@library_defaults()  # whoever calls first makes the matrix for all
@one_thread()
def _axis(side: int, reduced: int, step: int, means_first: bool) -> _Axis:
    """Matrix of one axis: reduce, average `step` samples, extend to whole blocks, transform.

    Args:
        side: Side of the picture in pixels.
        reduced: Side of the coded picture in pixels.
        step: Samples per average.
        means_first: Whether the extension to whole blocks happens after averaging.

    Returns:
        The matrix and its pseudo-inverse.
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
    transform = torch.block_diag(*[cosine_matrix(SIDE)] * blocks)
    return _Axis(transform @ means, inverse @ transform.T)


def lanczos_matrix(side: int, reduced: int) -> Float[Tensor, "reduced side"]:
    """Weights of Pillow's Lanczos reduction along one axis; the identity where nothing is reduced.

    sinc(t) sinc(t / 3), |t| < 3, at t = (pixel - centre) / factor with centre = (sample + 1/2) factor - 1/2,
    over the existing pixels, normalised to sum 1. Pillow rounds the weights to 22 binary places and each
    axis's result to 8 bits, and clips it.

    Args:
        side: Number of pixels.
        reduced: Number of samples, at most `side`.

    Returns:
        Weights, float64 [reduced, side].
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
    """Set of all pictures in [0, 1] that code to given coefficients, up to the encoder's rounding.

        (q - 1/2) Delta / 255 <= A x - 128 / 255 A 1 <= (q + 1/2) Delta / 255

    with 128 for luminance only: T.81, A.3.1 and A.3.4.

    Args:
        picture: Quantised coefficients read from a file.
        size: Width and height of the picture before it was reduced, in pixels.

    Returns:
        The intervals.

    Raises:
        InvalidOption: Components are sampled in a ratio that is not whole.
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
    """Coefficients in row order of the plane instead of the blocks."""
    return torch.from_numpy(blocks.transpose(0, 2, 1, 3).reshape(-1).astype(np.float64))
