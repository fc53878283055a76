"""What every learned joint source-channel code has to do, trained or not."""

import pytest
import torch
from instances import NETWORKS

from channels import AWGN, NamedStreams, Received, SharedStreams, transmit
from channels.symbols import average_power
from semcom.errors import BudgetTooSmall
from semcom.jscc.bourtsoulatze2019 import Bourtsoulatze2019

SIZES = ((32, 48), (33, 47), (8, 8), (5, 3), (1, 1), (2, 100))

each_network = pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)


def noiseless(x: torch.Tensor) -> Received:
    return Received(x, torch.ones_like(x), torch.full((x.shape[0], 1), 1e-12, dtype=torch.float32))


@each_network
@pytest.mark.parametrize("size", SIZES)
def test_symbols_keep_to_budget_and_power(network, size: tuple[int, int]) -> None:
    x = torch.rand(3, 3, *size, dtype=torch.float32)
    least = network.least_uses(tuple(x.shape))
    for allowed in (least, least + 1, least + 7, 3 * x[0].numel()):
        symbols = network.encode(x, allowed, None)
        assert 1 <= symbols.shape[1] <= allowed
        torch.testing.assert_close(
            average_power(symbols), torch.ones(3, dtype=torch.float32), rtol=1e-5, atol=0
        )


@each_network
@pytest.mark.parametrize("size", SIZES)
def test_the_image_comes_back_in_its_shape_and_range(network, size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size, dtype=torch.float32)
    for allowed in (network.least_uses(tuple(x.shape)), 3 * x[0].numel()):
        with torch.no_grad():
            symbols = network.encode(x, allowed, None)
            received = transmit(AWGN(), symbols, 10.0, NamedStreams(0, ("a", "b")))
            x_hat = network.decode(received, tuple(x.shape))
        assert x_hat.shape == x.shape
        assert float(x_hat.min()) >= 0
        assert float(x_hat.max()) <= 1


@each_network
def test_too_small_a_budget_is_refused(network) -> None:
    x = torch.rand(1, 3, 64, 64, dtype=torch.float32)
    with pytest.raises(BudgetTooSmall, match=f"needs {network.least_uses(tuple(x.shape))} channel uses"):
        network.encode(x, network.least_uses(tuple(x.shape)) - 1, None)


@each_network
def test_an_item_does_not_depend_on_its_batch(network) -> None:
    x = torch.rand(4, 3, 32, 40, dtype=torch.float32)
    x[1:] *= 0.1  # power normalised over the batch would show
    symbols = network.encode(x, 2000, None)
    torch.testing.assert_close(network.encode(x[:1], 2000, None), symbols[:1], rtol=1e-5, atol=1e-5)
    x_hat = network.decode(noiseless(symbols), tuple(x.shape))
    alone = network.decode(noiseless(symbols[:1]), (1, *x.shape[1:]))
    torch.testing.assert_close(alone, x_hat[:1], rtol=1e-5, atol=1e-5)


@each_network
def test_the_phase_and_gain_of_the_channel_are_undone(network) -> None:
    x = torch.rand(1, 3, 32, 40, dtype=torch.float32)
    symbols = network.encode(x, 2000, None)
    h = torch.polar(
        0.5 + torch.rand(symbols.shape, dtype=torch.float32),
        6.28 * torch.rand(symbols.shape, dtype=torch.float32),
    )
    faded = Received(h * symbols, h, torch.full((1, 1), 1e-12, dtype=torch.float32))
    expected = network.decode(noiseless(symbols), tuple(x.shape))
    torch.testing.assert_close(network.decode(faded, tuple(x.shape)), expected, rtol=1e-4, atol=1e-5)


@each_network
def test_the_gradient_reaches_every_pixel_through_the_channel(network) -> None:
    x = torch.rand(2, 3, 16, 24, requires_grad=True, dtype=torch.float32)
    symbols = network.encode(x, 2000, None)
    received = transmit(AWGN(), symbols, 10.0, SharedStreams.seeded(0, 2))
    network.decode(received, tuple(x.shape)).square().sum().backward()
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())
    assert float((x.grad != 0).float().mean()) > 0.99


@each_network
def test_mixed_precision_keeps_symbols_and_image_in_float32(network) -> None:
    x = torch.rand(2, 3, 32, 40, dtype=torch.float32)
    with torch.no_grad():
        exact = network.encode(x, 2000, None)
        x_hat = network.decode(noiseless(exact), tuple(x.shape))
        with torch.autocast("cpu", torch.bfloat16):
            symbols = network.encode(x, 2000, None)
            rough = network.decode(noiseless(symbols), tuple(x.shape))
    assert (symbols.dtype, rough.dtype) == (torch.complex64, torch.float32)
    torch.testing.assert_close(average_power(symbols), torch.ones(2, dtype=torch.float32), rtol=1e-5, atol=0)
    assert 0 < float((symbols - exact).abs().max()) < 0.1  # bfloat16 was used, and is 2^-8 of the values
    assert float((rough - x_hat).abs().max()) < 0.1


@pytest.mark.parametrize("features", [2, 8])
@pytest.mark.parametrize("strides", [(2, 2, 1, 1, 1), (2, 2, 2, 1, 1)])
def test_rho_of_the_reference_is_as_the_paper_counts_it(features: int, strides: tuple[int, ...]) -> None:
    network = Bourtsoulatze2019(features, strides, (4, 4, 4, 4))
    x = torch.rand(1, 3, 64, 32, dtype=torch.float32)
    s = 4 if strides[2] == 1 else 8
    assert network.encode(x, 10**6, None).shape[1] == features // 2 * (64 // s) * (32 // s)


def test_only_symbols_of_the_padded_border_are_left_out() -> None:
    network = Bourtsoulatze2019(4, widths=(4, 4, 4, 4))
    x = torch.rand(
        1, 3, 12, 82, dtype=torch.float32
    )  # 3 rows and 21 columns of symbols, the last column half outside
    assert network.least_uses(tuple(x.shape)) == 2 * 3 * 20
    with torch.no_grad():
        full, short = network.encode(x, 126, None), network.encode(x, 120, None)
        whole = network.decode(noiseless(full), tuple(x.shape))
        cut = network.decode(noiseless(full[:, :120]), tuple(x.shape))
    # Cutting changes the common factor of the symbols and nothing else.
    factor = (full[0, 0] / short[0, 0]).real
    torch.testing.assert_close(full[:, :120], factor * short)
    # The decoder reaches 8 symbols to either side: three layers of +-2 and two upsampling ones.
    assert torch.equal(whole[..., : 4 * 12], cut[..., : 4 * 12])
    assert not torch.equal(whole[..., 80:], cut[..., 80:])


@pytest.mark.parametrize(("height", "width", "blocks"), [(3, 40, 10), (3, 42, 10), (41, 2, 10), (3, 3, 1)])
def test_a_side_shorter_than_the_stride_is_one_block(height: int, width: int, blocks: int) -> None:
    """Else a strip would be sent in one symbol."""
    network = Bourtsoulatze2019(4, widths=(4, 4, 4, 4))
    x = torch.rand(1, 3, height, width, dtype=torch.float32)
    assert network.least_uses(tuple(x.shape)) == 2 * blocks
    symbols = network.encode(x, 2 * blocks, None)
    assert symbols.shape[1] == 2 * blocks
    assert network.decode(noiseless(symbols), tuple(x.shape)).shape == x.shape
    with pytest.raises(BudgetTooSmall, match=f"needs {2 * blocks} channel uses"):
        network.encode(x, 2 * blocks - 1, None)


def test_a_bank_uses_its_largest_network_that_fits() -> None:
    bank = next(network for network in NETWORKS if network.name == "bank")
    large, small = bank.networks
    x = torch.rand(1, 3, 32, 32, dtype=torch.float32)
    assert torch.equal(bank.encode(x, 256, None), large.encode(x, 256, None))
    assert torch.equal(bank.encode(x, 255, None), small.encode(x, 255, None))
    symbols = bank.encode(x, 255, None)
    expected = small.decode(noiseless(symbols), tuple(x.shape))
    assert torch.equal(bank.decode(noiseless(symbols), tuple(x.shape)), expected)
