"""One-tap equalisers."""

import math

import pytest
import torch

from channels import (
    Constellation,
    NamedStreams,
    RayleighBlockFading,
    Received,
    mmse,
    transmit,
    zero_forcing,
)


def received(uses=4000):
    rng = NamedStreams(2, ("a", "b"))
    x = rng.complex_normal("x", (uses,))
    return x, transmit(RayleighBlockFading(1), x, 5.0, rng)


def test_zero_forcing_leaves_the_stated_noise():
    x, r = received()
    estimate, noise_var = zero_forcing(r)
    assert torch.allclose(estimate, r.y / r.h, rtol=1e-4, atol=1e-4)
    whitened = ((estimate - x).abs().square() / noise_var).flatten()
    assert abs(whitened.mean() - 1) < 5 / math.sqrt(len(whitened))


def test_mmse_error_is_as_stated_and_least():
    x, r = received()
    estimate, error_var = mmse(r)
    error = (estimate - x).abs().square()
    ratio = (error / error_var).flatten()
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / math.sqrt(len(ratio))
    for scale in (0.9, 1.1):  # any other gain is worse
        assert (scale * estimate - x).abs().square().mean() > error.mean()


@pytest.mark.parametrize("equalizer", [zero_forcing, mmse])
def test_no_gain_is_no_trouble(equalizer):
    y = torch.ones(1, 3, dtype=torch.complex64, requires_grad=True)
    h = torch.tensor([[0.0, 1e-25, 1.0]], dtype=torch.complex64)
    for noise_var in (0.0, 1e-12, 1.0, 1e10):
        estimate, variance = equalizer(Received(y, h, torch.full((1, 1), noise_var)))
        assert bool(torch.isfinite(torch.view_as_real(estimate)).all())
        assert bool(torch.isfinite(variance).all())
        assert estimate[0, 0] == 0
        (gradient,) = torch.autograd.grad(estimate.abs().square().sum(), y)
        assert bool(torch.isfinite(torch.view_as_real(gradient)).all())


def test_zero_forcing_says_when_it_knows_nothing():
    r = Received(torch.ones(1, 1) + 0j, torch.zeros(1, 1) + 0j, torch.ones(1, 1))
    assert float(zero_forcing(r)[1]) > 1e15
    assert float(mmse(r)[1]) == 1.0  # the prior variance of a symbol


def test_conjugated_gains_are_gains():
    _, seen = received(10)
    mirrored = Received(seen.y.conj(), seen.h.conj(), seen.noise_var)
    for equalise in (zero_forcing, mmse):
        estimate, error = equalise(seen)
        again, same = equalise(mirrored)
        assert torch.allclose(again, estimate.conj())
        assert torch.equal(same, error)
    qpsk = Constellation(4)
    assert torch.allclose(qpsk.exact_llr(mirrored)[:, ::2], qpsk.exact_llr(seen)[:, ::2], rtol=1e-4)


def test_one_item_is_found_from_either_end():
    _, seen = received(10)
    assert torch.equal(seen.item(-1).y, seen.y[1:])
    assert torch.equal(seen.item(-2).h, seen.h[:1])
    assert seen.item(1).noise_var.shape == (1, 1)
    for index in (2, -3):
        with pytest.raises(IndexError):
            seen.item(index)
