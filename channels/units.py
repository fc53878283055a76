"""Conversions between decibels, Es/N0, Eb/N0 and noise variance."""

import math

import torch
from torch import Tensor


def db_to_linear(x_db: float | Tensor) -> float | Tensor:
    """Power ratio of a value in decibels, 10^(x_db / 10).

    Args:
        x_db: Power ratio in dB, a number or a tensor of any shape.

    Returns:
        Linear power ratio of the same type and shape.
    """
    return 10.0 ** (x_db / 10.0)


def linear_to_db(x: float | Tensor) -> float | Tensor:
    """Value in decibels of a power ratio, 10 log10(x).

    Args:
        x: Linear power ratio > 0, a number or a tensor of any shape.

    Returns:
        Power ratio in dB of the same type and shape.
    """
    return 10.0 * torch.log10(x) if isinstance(x, Tensor) else 10.0 * math.log10(x)


def noise_var_from_snr_db(snr_db: float | Tensor) -> float | Tensor:
    """Noise variance of a complex symbol, N0 = 10^(-snr_db / 10), for transmit power 1 and E|h|^2 = 1.

    Args:
        snr_db: Average received Es/N0 in dB, a number or a tensor of any shape.

    Returns:
        N0 of the same type and shape.
    """
    return 10.0 ** (-snr_db / 10.0)


def snr_db_from_ebn0_db(ebn0_db: float, code_rate: float, bits_per_symbol: int) -> float:
    """Convert Eb/N0 to Es/N0 = Eb/N0 + 10 log10(code_rate * bits_per_symbol).

    Pilots and prefixes are not counted.

    Args:
        ebn0_db: Energy per information bit over N0 in dB.
        code_rate: Information bits per coded bit, in (0, 1].
        bits_per_symbol: Coded bits per symbol, log2 M.

    Returns:
        Es/N0 in dB.
    """
    return ebn0_db + 10.0 * math.log10(code_rate * bits_per_symbol)


def ebn0_db_from_snr_db(snr_db: float, code_rate: float, bits_per_symbol: int) -> float:
    """Convert Es/N0 to Eb/N0 = Es/N0 - 10 log10(code_rate * bits_per_symbol).

    Pilots and prefixes are not counted.

    Args:
        snr_db: Energy per symbol over N0 in dB.
        code_rate: Information bits per coded bit, in (0, 1].
        bits_per_symbol: Coded bits per symbol, log2 M.

    Returns:
        Eb/N0 in dB.
    """
    return snr_db - 10.0 * math.log10(code_rate * bits_per_symbol)
