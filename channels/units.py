"""Decibels, Es/N0, Eb/N0 and noise variance: pure functions."""

import math

import torch
from torch import Tensor


def db_to_linear(x_db: float | Tensor) -> float | Tensor:
    """10^(x_db / 10), a power ratio."""
    return 10.0 ** (x_db / 10.0)


def linear_to_db(x: float | Tensor) -> float | Tensor:
    """10 log10(x) of a power ratio x > 0."""
    return 10.0 * torch.log10(x) if isinstance(x, Tensor) else 10.0 * math.log10(x)


def noise_var_from_snr_db(snr_db: float | Tensor) -> float | Tensor:
    """N0 = 10^(-snr_db / 10) per complex symbol, for transmit power 1 and E|h|^2 = 1."""
    return 10.0 ** (-snr_db / 10.0)


def snr_db_from_ebn0_db(ebn0_db: float, code_rate: float, bits_per_symbol: int) -> float:
    """Es/N0 = Eb/N0 + 10 log10(code_rate * bits_per_symbol); pilots and prefixes are not in it."""
    return ebn0_db + 10.0 * math.log10(code_rate * bits_per_symbol)


def ebn0_db_from_snr_db(snr_db: float, code_rate: float, bits_per_symbol: int) -> float:
    """Eb/N0 = Es/N0 - 10 log10(code_rate * bits_per_symbol)."""
    return snr_db - 10.0 * math.log10(code_rate * bits_per_symbol)
