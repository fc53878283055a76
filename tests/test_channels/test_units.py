"""Decibels and noise variances, and packing of symbols."""

import math

import pytest
import torch

from channels.channel import noise_var_column
from channels.errors import ChannelError
from channels.symbols import average_power, normalize_power, pack, unpack
from channels.units import (
    db_to_linear,
    ebn0_db_from_snr_db,
    linear_to_db,
    noise_var_from_snr_db,
    snr_db_from_ebn0_db,
)


def test_decibels() -> None:
    assert db_to_linear(30.0) == pytest.approx(1000)
    assert linear_to_db(0.5) == pytest.approx(-3.0102999566)
    assert torch.allclose(linear_to_db(torch.tensor([1.0, 100.0])), torch.tensor([0.0, 20.0]))
    assert noise_var_from_snr_db(10.0) == pytest.approx(0.1)


@pytest.mark.parametrize(("code_rate", "bits_per_symbol"), [(1.0, 1), (0.5, 2), (0.9, 8)])
def test_ebn0_and_back(code_rate: float, bits_per_symbol: int) -> None:
    snr_db = snr_db_from_ebn0_db(3.0, code_rate, bits_per_symbol)
    # energy per symbol is energy per bit times information bits per symbol
    assert 10 ** (snr_db / 10) == pytest.approx(10**0.3 * code_rate * bits_per_symbol)
    assert ebn0_db_from_snr_db(snr_db, code_rate, bits_per_symbol) == pytest.approx(3.0)


def test_noise_var_is_per_item() -> None:
    column = noise_var_column(torch.tensor([0.0, 10.0, -10.0]), 3)
    assert column.shape == (3, 1)
    assert torch.allclose(column.flatten(), torch.tensor([1.0, 0.1, 10.0]))


@pytest.mark.parametrize("snr_db", [math.nan, math.inf, 1000.0, -1000.0])
def test_impossible_snr(snr_db: float) -> None:
    with pytest.raises(ChannelError, match=r"outside -100\.\.200 dB"):
        noise_var_column(snr_db, 2)


def test_of_several_snrs_the_impossible_one_is_named() -> None:
    with pytest.raises(ChannelError, match=r"^SNR of -120 dB is outside"):
        noise_var_column(torch.tensor([0.0, -120.0, 150.0]), 3)


def test_pack_keeps_neighbours_together() -> None:
    values = torch.arange(6.0)[None]
    x = pack(values)
    assert x.tolist() == [[0 + 1j, 2 + 3j, 4 + 5j]]
    assert torch.equal(unpack(x), values)
    assert pack(torch.ones(1, 3)).tolist() == [[1 + 1j, 1 + 0j]]
    for values in (torch.zeros(0, 6), torch.zeros(2, 0)):
        assert unpack(pack(values)).shape == values.shape


def test_power_is_normalised_per_item() -> None:
    # a peer normalises over the batch: one loud item then silences its neighbours
    x = torch.tensor([100 + 0j, 0.01j, 0])[:, None].expand(3, 50)
    assert torch.allclose(average_power(normalize_power(x)), torch.tensor([1.0, 1.0, 0.0]))


@pytest.mark.parametrize("amplitude", [1e-44, 1e-38, 1e-16, 1e20, 3e37])
def test_power_of_faint_and_loud_items_is_normalised(amplitude: float) -> None:
    """Their squares are outside the range of float32."""
    x = torch.randn(2, 50, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    whole = normalize_power(amplitude * x)
    # subnormal numbers are rounded: 1e-44 is seven times the smallest
    assert torch.allclose(average_power(whole), torch.ones(2), rtol=1e-5)
    if amplitude > 1e-37:
        assert torch.allclose(whole, normalize_power(x), rtol=1e-5)
    assert normalize_power(x[:, :0]).shape == (2, 0)


def test_conjugated_symbols_are_symbols() -> None:
    """conj() is a view that torch resolves when it must."""
    x = torch.tensor([[1 + 2j, 3 - 4j]])
    assert torch.equal(unpack(x.conj()), torch.tensor([[1.0, -2.0, 3.0, 4.0]]))
    assert average_power(x.conj()).item() == 15
    assert torch.equal(normalize_power(x.conj()), normalize_power(x).conj())
