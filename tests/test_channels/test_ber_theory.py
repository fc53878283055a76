"""Measured error rates against closed forms, within five standard errors."""

import math

import pytest
import torch

from channels import theory
from channels.channel import Received
from channels.constellation import Constellation

SYMBOLS = 400_000


def measured_error_rates(size: int, snr_db: float, rayleigh: bool) -> tuple[float, float]:
    constellation = Constellation(size)
    generator = torch.Generator().manual_seed(size)
    shape = (1, SYMBOLS * constellation.bits_per_symbol)
    bits = torch.randint(0, 2, shape, generator=generator, dtype=torch.uint8)
    x = constellation.modulate(bits)
    h = torch.ones_like(x)
    if rayleigh:
        h = torch.randn(x.shape, generator=generator, dtype=torch.complex64)
    noise_var = torch.full((1, 1), 10 ** (-snr_db / 10))
    n = torch.randn(x.shape, generator=generator, dtype=torch.complex64)
    decided = constellation.hard_decision(Received(h * x + n * noise_var.sqrt(), h, noise_var))
    wrong = (decided != bits).reshape(SYMBOLS, -1)
    return wrong.float().mean().item(), wrong.any(1).float().mean().item()


@pytest.mark.parametrize("rayleigh", [False, True])
@pytest.mark.parametrize(
    ("size", "snr_db"), [(2, 4.0), (4, 0.0), (4, 7.0), (16, 10.0), (64, 16.0), (256, 22.0)]
)
def test_error_rates(size: int, snr_db: float, rayleigh: bool) -> None:
    ber, ser = measured_error_rates(size, snr_db, rayleigh)
    expected_ber = float((theory.ber_rayleigh if rayleigh else theory.ber)(size, snr_db))
    expected_ser = float((theory.ser_rayleigh if rayleigh else theory.ser)(size, snr_db))
    assert abs(ser - expected_ser) < 5 * math.sqrt(expected_ser * (1 - expected_ser) / SYMBOLS)
    # Bits of one symbol fall together: the symbols are what is independent.
    assert abs(ber - expected_ber) < 5 * math.sqrt(expected_ber * (1 - expected_ber) / SYMBOLS)
