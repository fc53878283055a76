"""Cosine transforms of whole pictures in three colour planes, divided into bands of frequencies."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from semcom.colors import MEAN_COLOR
from semcom.cosines import cosine_matrix

BANDS = 16
"""Frequency bands in each direction; a map is one band of one colour plane, at 1/16 of the picture's size."""

PLANES = (
    (3**-0.5, 3**-0.5, 3**-0.5),
    (2**-0.5, 0.0, -(2**-0.5)),
    (6**-0.5, -2 * 6**-0.5, 6**-0.5),
)
"""Orthonormal transform of RGB to brightness and two colour differences."""


def cosine_transform(
    x: Float[Tensor, "batch planes height width"],
) -> Float[Tensor, "batch planes height width"]:
    """Orthonormal two-dimensional type-II cosine transform of every plane.

    Args:
        x: Planes, [batch, planes, height, width].

    Returns:
        Coefficients of the same shape.
    """
    down, across = (cosine_matrix(n, _exact(x), x.device) for n in x.shape[2:])
    with exact_products(x):
        return down @ x @ across.T


def inverse_cosine_transform(
    coefficients: Float[Tensor, "batch planes height width"],
) -> Float[Tensor, "batch planes height width"]:
    """Inverse of the orthonormal two-dimensional type-II cosine transform of every plane.

    Args:
        coefficients: Coefficients, [batch, planes, height, width].

    Returns:
        Planes of the same shape.
    """
    dtype, device = _exact(coefficients), coefficients.device
    down, across = (cosine_matrix(n, dtype, device) for n in coefficients.shape[2:])
    with exact_products(coefficients):
        return down.T @ coefficients @ across


def split_bands(
    coefficients: Float[Tensor, "batch planes height width"],
) -> Float[Tensor, "batch maps rows columns"]:
    """Split cosine coefficients into 16 x 16 frequency bands per plane, odd bands in reverse order.

    A band of a cosine transform, transformed back by itself, is the picture through a band-pass filter,
    sampled at 1/16; sampling mirrors the frequencies of odd bands, hence the reversal.

    Args:
        coefficients: Coefficients, [batch, planes, height, width], sides multiples of 16.

    Returns:
        Bands, [batch, 256 planes, height / 16, width / 16].
    """
    batch, planes, height, width = coefficients.shape
    bands = coefficients.reshape(batch, planes, BANDS, height // BANDS, BANDS, width // BANDS)
    return _unfold(bands).permute(0, 1, 2, 4, 3, 5).flatten(1, 3)


def join_bands(
    bands: Shaped[Tensor, "batch maps rows columns"],
) -> Shaped[Tensor, "batch planes height width"]:
    """Join frequency bands to cosine coefficients, the inverse of `split_bands`.

    Args:
        bands: Bands, [batch, 256 planes, rows, columns].

    Returns:
        Coefficients, [batch, planes, 16 rows, 16 columns].
    """
    batch, maps, rows, columns = bands.shape
    folded = bands.reshape(batch, maps // BANDS**2, BANDS, BANDS, rows, columns).permute(0, 1, 2, 4, 3, 5)
    return _unfold(folded).reshape(batch, maps // BANDS**2, BANDS * rows, BANDS * columns)


def _unfold(bands: Shaped[Tensor, "batch planes down rows across columns"]) -> Tensor:
    """Reverse the odd bands; its own inverse."""
    odd = torch.arange(BANDS, device=bands.device) % 2 == 1
    bands = torch.where(odd[:, None, None, None], bands.flip(3), bands)
    return torch.where(odd[:, None], bands.flip(5), bands)


def coefficients_of(x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
    """Linear encoding of pictures: cosine transform of the colour planes, mean colour subtracted.

    Args:
        x: Pictures in [0, 1], [batch, 3, height, width].

    Returns:
        Coefficients of brightness and two colour differences, same shape.
    """
    return coefficients_of_centred(x - mean_color(x))


def coefficients_of_centred(
    centred: Float[Tensor, "batch 3 height width"],
) -> Float[Tensor, "batch 3 height width"]:
    """Linear encoding of pictures whose mean colour has been subtracted.

    Args:
        centred: Pictures less the mean colour, [batch, 3, height, width].

    Returns:
        Coefficients of brightness and two colour differences, same shape.
    """
    with exact_products(centred):
        return cosine_transform(torch.einsum("pc,bchw->bphw", _planes(centred), centred))


def centred_picture(
    coefficients: Float[Tensor, "batch 3 height width"],
) -> Float[Tensor, "batch 3 height width"]:
    """Linear decoding of coefficients to pictures, before the mean colour is added.

    Args:
        coefficients: Coefficients, [batch, 3, height, width].

    Returns:
        Pictures less the mean colour, same shape.
    """
    planes = inverse_cosine_transform(coefficients)
    with exact_products(planes):
        return torch.einsum("pc,bphw->bchw", _planes(planes), planes)


def exact_products(x: Tensor) -> torch.autocast:
    """Context that computes products in float32 even under bfloat16 autocast, as linear coding reaches 40 dB.

    Args:
        x: Tensor whose device the context is for.

    Returns:
        A context manager.
    """
    return torch.autocast(x.device.type, enabled=False)


def mean_color(x: Tensor) -> Float[Tensor, "3 1 1"]:
    """Mean colour of the training set, on the device of x.

    Args:
        x: Any tensor.

    Returns:
        Mean RGB, [3, 1, 1].
    """
    return torch.tensor(MEAN_COLOR, dtype=torch.float32, device=x.device)[:, None, None]


def _planes(x: Tensor) -> Float[Tensor, "planes colors"]:
    return torch.tensor(PLANES, dtype=_exact(x), device=x.device)


def _exact(like: Tensor) -> torch.dtype:
    """Working precision: float64 for float64 input, else float32."""
    return torch.float64 if like.dtype == torch.float64 else torch.float32
