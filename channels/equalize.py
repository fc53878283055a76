"""One-tap equalisers: from what was received to what was sent."""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from channels.channel import Received

# Gains of power below -200 dB count as -200 dB, which keeps quotients finite in float32.
SMALLEST_GAIN_POWER = 1e-20


def zero_forcing(
    received: Received,
) -> tuple[Complex[Tensor, "batch uses"], Float[Tensor, "batch uses"]]:
    """Zero-forcing equaliser: unbiased estimates x + noise, and the variance of their noise.

    x_hat = y / h,  variance = N0 / |h|^2.

    Suited to demapping: log-likelihood ratios computed from it are exact. Where h = 0, x_hat is 0 and the
    variance is very large but finite.

    Args:
        received: Received symbols [batch, uses] with gain and noise variance.

    Returns:
        Estimated symbols, complex [batch, uses], and noise variance, real [batch, uses].

    Reference:
        Proakis and Salehi, Digital Communications, 5th ed., 9.4.
    """
    power = _power(received.h).clamp_min(SMALLEST_GAIN_POWER)
    return received.y * received.h.conj() / power, received.noise_var / power


def mmse(received: Received) -> tuple[Complex[Tensor, "batch uses"], Float[Tensor, "batch uses"]]:
    """Linear minimum-mean-square-error equaliser for E|x|^2 = 1, and its error.

    x_hat = conj(h) y / (|h|^2 + N0),  E|x_hat - x|^2 = N0 / (|h|^2 + N0).

    Suited to analog symbols. The estimate is biased towards 0, and 0 where h = 0; do not demap it as if it
    were x plus noise.

    Args:
        received: Received symbols [batch, uses] with gain and noise variance.

    Returns:
        Estimated symbols, complex [batch, uses], and mean square error in 0..1, real [batch, uses].

    Reference:
        Proakis and Salehi, Digital Communications, 5th ed., 9.4.
    """
    total = _power(received.h) + received.noise_var
    total = total.clamp_min(SMALLEST_GAIN_POWER)
    return received.y * received.h.conj() / total, received.noise_var / total


def _power(h: Complex[Tensor, "batch uses"]) -> Float[Tensor, "batch uses"]:
    return torch.view_as_real(h.resolve_conj()).square().sum(-1)
