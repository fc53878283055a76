"""Cosine transforms of whole pictures in three colour planes, divided into bands of frequencies."""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from semcom.modalities.image import MEAN_COLOR

BANDS = 16
"""Of frequency in each direction; a map is one band of one colour plane, at 1/16 of the picture's size."""

PLANES = (
    (3**-0.5, 3**-0.5, 3**-0.5),
    (2**-0.5, 0.0, -(2**-0.5)),
    (6**-0.5, -2 * 6**-0.5, 6**-0.5),
)
"""Orthonormal: brightness and two colour differences."""


def cosine_transform(
    x: Float[Tensor, "batch planes height width"],
) -> Float[Tensor, "batch planes height width"]:
    """Orthonormal type-II cosine transform of every plane."""
    down, across = (_cosines(n, x) for n in x.shape[2:])
    with exact_products(x):
        return down @ x @ across.T


def inverse_cosine_transform(
    coefficients: Float[Tensor, "batch planes height width"],
) -> Float[Tensor, "batch planes height width"]:
    """Inverse of `cosine_transform`."""
    down, across = (_cosines(n, coefficients) for n in coefficients.shape[2:])
    with exact_products(coefficients):
        return down.T @ coefficients @ across


def split_bands(
    coefficients: Float[Tensor, "batch planes height width"],
) -> Float[Tensor, "batch maps rows columns"]:
    """Coefficients of every band of frequencies, 16 x 16 of them per plane, odd bands in reverse.

    A band of a cosine transform, transformed back by itself, is the picture through a band-pass filter,
    sampled at 1/16; sampling folds odd bands, hence the reversal.
    """
    batch, planes, height, width = coefficients.shape
    bands = coefficients.reshape(batch, planes, BANDS, height // BANDS, BANDS, width // BANDS)
    return _unfold(bands).permute(0, 1, 2, 4, 3, 5).flatten(1, 3)


def join_bands(
    bands: Shaped[Tensor, "batch maps rows columns"],
) -> Shaped[Tensor, "batch planes height width"]:
    """Inverse of `split_bands`."""
    batch, maps, rows, columns = bands.shape
    folded = bands.reshape(batch, maps // BANDS**2, BANDS, BANDS, rows, columns).permute(0, 1, 2, 4, 3, 5)
    return _unfold(folded).reshape(batch, maps // BANDS**2, BANDS * rows, BANDS * columns)


def _unfold(bands: Shaped[Tensor, "batch planes down rows across columns"]) -> Tensor:
    """Odd bands reversed; its own inverse."""
    odd = torch.arange(BANDS, device=bands.device) % 2 == 1
    bands = torch.where(odd[:, None, None, None], bands.flip(3), bands)
    return torch.where(odd[:, None], bands.flip(5), bands)


def coefficients_of(x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
    """Linear encoding: cosine transform of the colour planes, mean colour subtracted."""
    return coefficients_of_centred(x - mean_color(x))


def coefficients_of_centred(
    centred: Float[Tensor, "batch 3 height width"],
) -> Float[Tensor, "batch 3 height width"]:
    """Of a picture whose mean colour has been subtracted."""
    with exact_products(centred):
        return cosine_transform(torch.einsum("pc,bchw->bphw", _planes(centred), centred))


def centred_picture(
    coefficients: Float[Tensor, "batch 3 height width"],
) -> Float[Tensor, "batch 3 height width"]:
    """Linear decoding, mean colour not yet added."""
    planes = inverse_cosine_transform(coefficients)
    with exact_products(planes):
        return torch.einsum("pc,bphw->bchw", _planes(planes), planes)


def exact_products(x: Tensor) -> torch.autocast:
    """Products in float32 also where networks run in bfloat16: linear coding has 40 dB to keep."""
    return torch.autocast(x.device.type, enabled=False)


def mean_color(x: Tensor) -> Float[Tensor, "3 1 1"]:
    """The training set's, on the device of x."""
    return torch.tensor(MEAN_COLOR, device=x.device)[:, None, None]


def _planes(x: Tensor) -> Float[Tensor, "planes colors"]:
    return torch.tensor(PLANES, dtype=_exact(x), device=x.device)


def _cosines(size: int, like: Tensor) -> Float[Tensor, "size size"]:
    frequency = torch.arange(size, device=like.device, dtype=torch.float64)[:, None]
    place = torch.arange(size, device=like.device, dtype=torch.float64) + 0.5
    matrix = torch.cos(math.pi / size * frequency * place) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix.to(_exact(like))


def _exact(like: Tensor) -> torch.dtype:
    """Double for double, else float32."""
    return torch.float64 if like.dtype == torch.float64 else torch.float32
