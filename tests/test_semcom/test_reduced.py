"""The range space of a picture by joint coding: what is spent, and that it is what it says."""

import math

import pytest
import torch
from torch import Tensor
from toys import picture

from channels import AWGN, Received, transmit
from semcom import names
from semcom.budget import Budget
from semcom.meter import metered
from semcom.observation import Decoded
from semcom.operators import BlockMean
from semcom.receivers.evidence import enlarged
from semcom.sweep import noise_streams
from semcom.transmission import Sent, Transmission


def named(name: str) -> Transmission:
    transmission = names.scheme(name).transmission
    assert isinstance(transmission, Transmission)
    return transmission


def received(sent: Sent, snr_db: float) -> Received:
    return transmit(AWGN(), sent.symbols, snr_db, noise_streams("natural", 0).fork("channel"))


def decoded(transmission: Transmission, received: Received, x: Tensor, uses: int) -> Decoded[Tensor]:
    """The only piece of evidence."""
    (observation,) = transmission.receive(received, tuple(x.shape), uses)
    (evidence,) = observation.evidence
    assert isinstance(evidence, Decoded)
    return evidence


@pytest.mark.parametrize(("rho", "uses"), [("1/192", 4096), ("1/768", 1024)])
def test_channel_uses_power_and_noise_at_the_two_points_of_the_paper(rho: str, uses: int) -> None:
    """K = 4096 and 1024 at 512x512; power 1 per symbol; noise of variance N0 = 10^(-SNR/10)."""
    x = picture("natural", 512, 512).x
    transmission, budget = named("deepjscc-range"), Budget.from_rho(rho, x.numel())
    sent = transmission.send(x, budget.channel_uses, None)
    assert budget.channel_uses == uses == sent.symbols.shape[1]
    assert float(sent.symbols.abs().square().mean()) == pytest.approx(1, abs=1e-5)
    spent = metered(sent, budget, AWGN(), transmission.name)
    assert spent.channel_uses == uses
    assert spent.energy == pytest.approx(uses, rel=1e-5)
    for snr_db in (-5.0, 5.0):
        arrived = received(sent, snr_db)
        noise_var = 10 ** (-snr_db / 10)
        error = 5 * noise_var / math.sqrt(uses)  # the mean of |n|^2, which has the variance N0^2
        measured = float((arrived.y - sent.symbols).abs().square().mean())
        assert measured == pytest.approx(noise_var, abs=error)
        evidence = decoded(transmission, arrived, x, uses)
        assert evidence.y.shape == (1, 3, 256, 256)
        assert isinstance(evidence.operator, BlockMean)
        assert evidence.operator == BlockMean(2, 512, 512)


def test_what_arrives_without_noise_is_near_the_means_of_blocks() -> None:
    """The means are evidence, and shown is each of them repeated over its block."""
    x = picture("natural", 64, 96).x
    transmission = named("deepjscc-range")
    sent = transmission.send(x, 3000, None)
    evidence = decoded(transmission, received(sent, 40.0), x, 3000)
    means = torch.nn.functional.avg_pool2d(x, 2)
    mse = float((evidence.y - means).square().mean())
    assert -10 * math.log10(mse) > 25
    (observation,) = transmission.receive(received(sent, 40.0), tuple(x.shape), 3000)
    assert observation.shown is not None
    repeated = evidence.y.clamp(0, 1).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(observation.shown, repeated, rtol=0, atol=1e-6)


def test_the_size_of_blocks_follows_from_rho() -> None:
    x = picture("natural", 256, 256).x
    by_rho, whole, small = map(named, ("deepjscc-range-by-rho", "deepjscc", "deepjscc-range4"))
    for rho, chosen in (("1/192", whole), ("1/383", whole), ("1/385", small), ("1/768", small)):
        uses = Budget.from_rho(rho, x.numel()).channel_uses
        sent, expected = (transmission.send(x, uses, None) for transmission in (by_rho, chosen))
        assert torch.equal(sent.symbols, expected.symbols)
        arrived = received(sent, 5.0)
        found, evidence = (decoded(transmission, arrived, x, uses) for transmission in (by_rho, chosen))
        assert torch.equal(found.y, evidence.y)
        assert type(found.operator) is type(evidence.operator)
        assert found.origin == evidence.origin


@pytest.mark.parametrize("size", [2, 4, 8])
def test_the_spread_of_enlarged_means_is_that_of_their_error_where_it_is_largest(size: int) -> None:
    """Of pictures with as much energy in every octave, within a factor of 1.4; and that of noise."""
    side = 256
    rng = torch.Generator().manual_seed(0)
    frequency = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.fftfreq(side))
    spectrum = torch.fft.fft2(torch.randn(1, 3, side, side, generator=rng)) / frequency.clamp_min(1 / side)
    x = torch.fft.ifft2(spectrum).real
    operator = BlockMean(size, side, side)
    y = operator.A(x)
    guess, spread = enlarged(y, operator, 0.0)
    torch.testing.assert_close(operator.A(guess), y, rtol=0, atol=1e-4)
    density = torch.fft.fft2(guess - x).abs().square().mean((0, 1)) / side**2
    ring = (frequency >= 0.5 / size) & (frequency < 0.65 / size)
    assert 1 / 1.4 < spread / float(density[ring].mean().sqrt()) < 1.4
    assert enlarged(y, operator, 10 * spread)[1] == pytest.approx(10 * size * spread)


def test_means_of_one_block_have_an_interpolation() -> None:
    guess, spread = enlarged(torch.full((1, 3, 1, 1), 0.3), BlockMean(8, 5, 8), 0.1)
    assert torch.allclose(guess, torch.tensor(0.3))
    assert spread == pytest.approx(0.8)
