"""From the gain seen at pilots to the gain in between: linear interpolation and Wiener filters."""

from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor

Interpolation = Literal["linear", "wiener"]

# Below -120 dB the covariance of pilots is singular in double precision.
SMALLEST_NOISE_VAR = 1e-12


def linear_weights(
    at: Float[Tensor, "*n data"], knots: Float[Tensor, "*n pilots"]
) -> Float[Tensor, "*n data pilots"]:
    """Weights of straight lines between neighbouring knots (ascending), constant outside of them."""
    right = torch.searchsorted(knots.contiguous(), at.contiguous()).clamp(max=knots.shape[-1] - 1)
    left = (right - 1).clamp(min=0)
    begin, end = knots.gather(-1, left), knots.gather(-1, right)
    share = ((at - begin) / (end - begin).clamp_min(1e-9)).clamp(0.0, 1.0)[..., None]
    eye = torch.eye(knots.shape[-1], dtype=at.dtype, device=at.device)
    return (1 - share) * eye[left] + share * eye[right]


def wiener_weights(
    cross: Float[Tensor, "*n data pilots"] | Complex[Tensor, "*n data pilots"],
    covariance: Float[Tensor, "*n pilots pilots"] | Complex[Tensor, "*n pilots pilots"],
    noise_var: float,
) -> Float[Tensor, "*n data pilots"] | Complex[Tensor, "*n data pilots"]:
    """Weights of least mean square error, W = C_dp (C_pp + N0 I)^-1.

    Args:
        cross: C_dp = E[h_d conj(h_p)] between data and pilots.
        covariance: C_pp between pilots.
        noise_var: N0 of the gain seen at a pilot.

    Reference:
        Kay, Fundamentals of Statistical Signal Processing: Estimation Theory, 12.5.
    """
    eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    noisy = covariance + max(noise_var, SMALLEST_NOISE_VAR) * eye
    return torch.linalg.solve(noisy, cross.mH).mH  # pyright: ignore


def estimation_error(
    weights: Float[Tensor, "*n data pilots"] | Complex[Tensor, "*n data pilots"],
    cross: Float[Tensor, "*n data pilots"] | Complex[Tensor, "*n data pilots"],
    covariance: Float[Tensor, "*n pilots pilots"] | Complex[Tensor, "*n pilots pilots"],
    noise_var: float,
    power: float,
) -> Float[Tensor, "*n data"]:
    """Mean square error of any linear estimate, E|h|^2 - 2 Re(w c^H) + w (C_pp + N0 I) w^H, per data symbol.

    Args:
        weights: w, from the gains seen at pilots to the gain of a data symbol.
        cross: c = E[h_d conj(h_p)].
        covariance: C_pp.
        noise_var: N0 of the gain seen at a pilot.
        power: E|h|^2 of a data symbol.
    """
    joint = (weights * cross.conj()).sum(-1).real
    spread = ((weights @ covariance) * weights.conj()).sum(-1).real
    return (power - 2 * joint + spread + noise_var * weights.abs().square().sum(-1)).clamp_min(0.0)
