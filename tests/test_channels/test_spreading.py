"""Spread symbols and what `despread` makes of their receptions."""

import math

import pytest
import torch

from channels import (
    AWGN,
    Channel,
    IndependentLoss,
    Interleaved,
    Lossy,
    NamedStreams,
    PilotAided,
    RayleighBlockFading,
    Received,
    RicianBlockFading,
    transmit,
)
from channels.spreading import despread, spread
from channels.symbols import average_power, normalize_power

ITEMS, USES = 40, 2048

FADING: tuple[Channel, ...] = (
    RayleighBlockFading(16),
    RayleighBlockFading(300),
    RicianBlockFading(64, 6.0),
    Lossy(AWGN(), 64, IndependentLoss(0.2)),
    Interleaved(RayleighBlockFading(64)),
)


def streams(items: int = ITEMS) -> NamedStreams:
    return NamedStreams(11, tuple(map(str, range(items))))


def falling(items: int = ITEMS, uses: int = USES) -> torch.Tensor:
    """Gaussian symbols whose powers fall as 1 / (i + 3), strong ones first."""
    power = 1 / torch.arange(3.0, uses + 3)
    return streams(items).complex_normal("x", (uses,)) * (power / power.mean()).sqrt()


@pytest.mark.parametrize("uses", [0, 1, 2, 7, 1000, 1009])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_the_transform_is_unitary_and_inverted(uses: int, dtype: torch.dtype) -> None:
    x = streams(3).complex_normal("x", (uses,)).to(dtype)
    sent = spread(x)
    assert sent.shape == x.shape
    assert sent.dtype == dtype
    assert torch.allclose(sent.abs().square().sum(1), x.abs().square().sum(1), rtol=1e-5)
    gain = torch.polar(torch.tensor(0.5), torch.tensor(2.0)).to(dtype)
    received = Received(gain * sent, gain.expand(3, uses), torch.full((3, 1), 0.01, dtype=x.real.dtype))
    back = despread(received)
    assert torch.allclose(back.y, 0.5 * x, atol=1e-5)
    assert torch.allclose(back.h, torch.full_like(back.h, 0.5), atol=1e-5)
    assert torch.allclose(back.noise_var, received.noise_var)
    assert (back.y.dtype, back.h.dtype, back.noise_var.dtype) == (dtype, dtype, x.real.dtype)


def test_one_strong_symbol_is_sent_at_the_average_power() -> None:
    x = torch.zeros(1, 500, dtype=torch.complex64)
    x[0, 7] = 500**0.5
    assert torch.allclose(spread(x).abs(), torch.ones(1, 500), atol=1e-5)


def test_peaks_are_those_of_gaussian_symbols() -> None:
    """P(max |u|^2 > ln k + t) < e^-t for k Gaussian symbols of power 1; here e^-t = 1e-3 / ITEMS."""
    x = normalize_power(falling())
    assert float(x.abs().square().amax(1).mean()) > 100
    assert float(spread(x).abs().square().max()) < math.log(USES) + math.log(1e3 * ITEMS)


def test_gradients_pass() -> None:
    x = streams(2).complex_normal("x", (60,)).requires_grad_()
    spread(x).abs().pow(4).sum().backward()
    assert x.grad is not None
    assert bool((x.grad.abs() > 0).all())


def test_an_item_does_not_depend_on_its_batch() -> None:
    received = transmit(RayleighBlockFading(16), spread(falling(3)), 10.0, streams(3))
    together, alone = despread(received), despread(received.item(1))
    assert torch.equal(together.y[1], alone.y[0])
    assert torch.equal(together.h[1], alone.h[0])


@pytest.mark.parametrize("snr_db", [0.0, 15.0, 40.0])
@pytest.mark.parametrize("channel", FADING, ids=lambda channel: channel.name)
def test_the_equivalent_channel_has_white_noise_of_the_stated_variance(channel, snr_db: float) -> None:
    """E|y - g x|^2 = N0 of all symbols and of the strongest, within 4 standard errors + 1.5 %."""
    x = falling()
    heard = despread(transmit(channel, spread(x), snr_db, streams()))
    assert bool((heard.h == heard.h[:, :1]).all())
    assert bool((heard.h.real > 0).all())
    error = (heard.y - heard.h * x).abs().square() / heard.noise_var
    for part in (error, error[:, :40]):
        mean = part.mean(1)
        assert abs(mean.mean() - 1) < 4 * mean.std() / math.sqrt(ITEMS) + 0.015


@pytest.mark.parametrize("snr_db", [5.0, 25.0])
@pytest.mark.parametrize("channel", FADING, ids=lambda channel: channel.name)
def test_the_estimate_is_that_of_least_squared_error(channel, snr_db: float) -> None:
    """Trace of (P^-1 + U^H diag(|h|^2 / N0) U)^-1, the error of an estimator that knows all powers."""
    uses, items = 240, 20
    power = 1 / torch.arange(3.0, uses + 3).double()
    power = power / power.mean()
    x = falling(items, uses)
    received = transmit(channel, spread(x), snr_db, streams(items))
    heard = despread(received)
    snr = (heard.h.abs().square() / heard.noise_var).double() * power
    estimate = snr / (1 + snr) * heard.y / heard.h
    squared = (estimate - x).abs().square().sum(1).double()
    columns = spread(torch.eye(uses, dtype=torch.complex128))  # row i: U e_i
    weight = (received.h.abs().square() / received.noise_var).double()
    expected = torch.stack(
        [
            torch.linalg.inv(torch.diag(1 / power) + columns.conj() @ torch.diag(w + 0j) @ columns.T)
            .diagonal()
            .real.sum()
            for w in weight
        ]
    )
    excess = squared - expected
    assert abs(excess.mean()) < 4 * excess.std() / math.sqrt(items) + 0.03 * expected.mean()


def test_strong_symbols_gain_by_being_spread() -> None:
    """The mean squared error of an item under fading is below that of symbols that are sent as they are."""
    items, uses = 300, 512
    x, power = falling(items, uses), 1 / torch.arange(3.0, uses + 3)
    power = power / power.mean()
    plain = transmit(RayleighBlockFading(64), x, 10.0, streams(items))
    heard = despread(transmit(RayleighBlockFading(64), spread(x), 10.0, streams(items)))
    errors = []
    for received in (plain, heard):
        snr = received.h.abs().square() / received.noise_var * power
        errors.append((snr / (1 + snr) * received.y / received.h - x).abs().square().mean(1))
    gain = errors[0] - errors[1]
    assert gain.mean() > 4 * gain.std() / math.sqrt(items)


def test_nothing_received_tells_nothing() -> None:
    x = falling(2, 100)
    received = transmit(AWGN(), spread(x), 10.0, streams(2))
    lost = Received(received.y, torch.zeros_like(received.h), received.noise_var)
    heard = despread(lost)
    assert not bool(heard.h.any())
    assert not bool(heard.y.any())


@pytest.mark.parametrize("kept", [1, 10, 99])
def test_almost_nothing_received_stays_finite(kept: int) -> None:
    received = transmit(AWGN(), spread(falling(1, 100)), 60.0, streams(1))
    h = received.h.clone()
    h[:, kept:] = 0
    heard = despread(Received(received.y, h, received.noise_var))
    assert bool(torch.isfinite(torch.view_as_real(heard.y)).all())
    assert 0 < float(heard.h[0, 0].real) <= 1


def test_silence_stays_silent() -> None:
    x = torch.zeros(1, 200, dtype=torch.complex64)
    heard = despread(transmit(RayleighBlockFading(8), spread(x), 20.0, streams(1)))
    assert bool(torch.isfinite(torch.view_as_real(heard.y)).all())


def test_pilots_and_estimates_come_through() -> None:
    x = falling()
    channel = PilotAided(RayleighBlockFading(32), 7)
    heard = despread(transmit(channel, spread(x), 15.0, streams()))
    error = ((heard.y - heard.h * x).abs().square() / heard.noise_var).mean(1)
    assert abs(error.mean() - 1) < 4 * error.std() / math.sqrt(ITEMS) + 0.015
    assert torch.allclose(average_power(spread(x)), average_power(x), rtol=1e-5)
