"""Matrix of the orthonormal discrete cosine transform."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def cosine_matrix(
    size: int, dtype: torch.dtype = torch.float64, device: torch.device | None = None
) -> Float[Tensor, "size size"]:
    """Orthonormal type-II discrete cosine transform of `size` samples, one frequency per row.

    C[f, t] = sqrt(2 / size) cos(pi f (t + 1/2) / size), divided by sqrt(2) for f = 0; its transpose is its
    inverse. It is computed in double precision. For 8 samples it is the transform of T.81, A.3.3.

    Args:
        size: Number of samples, at least 1.
        dtype: Floating-point type of the matrix.
        device: Device of the matrix; the CPU unless stated.

    Returns:
        The matrix, [size, size].
    """
    frequency = torch.arange(size, device=device, dtype=torch.float64)[:, None]
    place = torch.arange(size, device=device, dtype=torch.float64) + 0.5
    matrix = torch.cos(math.pi / size * frequency * place) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix.to(dtype)
