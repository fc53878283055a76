"""Feed-forward input of the circuit: absolute responses of filters that were learned by sparse coding."""

from functools import cache
from importlib.resources import files
from io import BytesIO

import numpy as np
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view

from semcom.errors import InvalidSource

SIZE = 9
"""Side of the filters in pixels."""

CHANNELS = 64
"""Number of filters."""

STRIDE = 3
"""Distance between positions of the grid in pixels: pictures of 32x32 give a grid of 8x8."""


@cache
def filters() -> Float[np.ndarray, "64 9 9"]:
    """Filters of this package: a dictionary of 64 atoms for sparse codes of whitened photograph patches.

    They were learned with scikit-learn by `scripts/make_circuit_filters.py`.

    Returns:
        Filters of unit norm and mean 0, float64, read-only.
    """
    table = (files("semcom") / "tables" / "circuit_filters.npy").read_bytes()
    found = np.load(BytesIO(table), allow_pickle=False).astype(np.float64)
    found -= found.mean(axis=(1, 2), keepdims=True)
    found /= np.linalg.norm(found, axis=(1, 2), keepdims=True)
    found.flags.writeable = False
    return found


def grid(height: int, width: int, stride: int = STRIDE) -> tuple[int, int]:
    """Positions at which filters lie wholly inside a picture.

    Args:
        height: Height in pixels, at least 9.
        width: Width in pixels, at least 9.
        stride: Distance between positions in pixels, at least 1.

    Returns:
        Rows and columns.

    Raises:
        InvalidSource: The picture is smaller than a filter.

    Example:
        >>> grid(32, 32), grid(25, 25, 4)
        ((8, 8), (5, 5))
    """
    if min(height, width) < SIZE:
        raise InvalidSource(f"picture of {width}x{height}: filters need at least {SIZE}x{SIZE}; scale it up")
    return (height - SIZE) // stride + 1, (width - SIZE) // stride + 1


def sparse_code(
    pictures: Float[np.ndarray, "*batch height width"],
    stride: int = STRIDE,
    bank: Float[np.ndarray, "channels 9 9"] | None = None,
) -> Float[np.ndarray, "*batch cells"]:
    """Absolute responses of the filters at every position of the grid, alpha = |filter * picture|.

    Args:
        pictures: Grey pictures, finite, usually in [0, 1]; sides of at least 9 pixels.
        stride: Distance between positions in pixels, at least 1.
        bank: Filters; None takes those of this package.

    Returns:
        Non-negative code, one number per position and channel, channels fastest.

    Raises:
        InvalidSource: A picture is smaller than a filter, or has values that are not finite.
    """
    bank = filters() if bank is None else bank
    if pictures.ndim < 2:
        raise InvalidSource(f"picture of shape {pictures.shape}: expected [height, width]")
    height, width = pictures.shape[-2:]
    grid(height, width, stride)
    if not np.isfinite(pictures).all():
        raise InvalidSource("picture has values that are not finite (NaN or infinity); clean it first")
    level = pictures[..., :1, :1]  # filters have mean 0; so a blank picture has a code of exactly 0
    rows = sliding_window_view(pictures - level, SIZE, axis=-2)
    patches = sliding_window_view(rows, SIZE, axis=-2)[..., ::stride, ::stride, :, :]
    flat = patches.reshape(*patches.shape[:-2], SIZE * SIZE)
    code = np.abs(flat @ bank.reshape(len(bank), -1).T)
    return code.reshape(*pictures.shape[:-2], -1)
