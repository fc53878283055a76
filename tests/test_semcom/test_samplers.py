"""Denoisers against their closed forms; samplers against the exact flow of a Gaussian, and their order."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from channels import NamedStreams
from channels.streams import SharedStreams
from semcom.denoisers import GaussianDenoiser, GaussianMixtureDenoiser
from semcom.errors import InvalidOption
from semcom.samplers import FromNoise, ddpm_sigmas, karras_sigmas, sample_ddim, sample_dpm_solver, sample_heun

COVARIANCE = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)


def test_the_gaussian_answer_is_the_conditional_mean() -> None:
    mean = torch.tensor([0.5, -1.0], dtype=torch.float64)
    x = torch.tensor([[1.0, 2.0], [0.0, -3.0]], dtype=torch.float64)
    sigma = torch.tensor([0.3, 5.0], dtype=torch.float64)
    found = GaussianDenoiser(mean, COVARIANCE)(x, sigma)
    for i in range(2):
        noisy = COVARIANCE + sigma[i] ** 2 * torch.eye(2, dtype=torch.float64)
        expected = mean + COVARIANCE @ torch.linalg.solve(noisy, x[i] - mean)
        torch.testing.assert_close(found[i], expected)


def test_the_mixture_answer_is_the_mean_of_the_posterior() -> None:
    """By Bayes' rule on a fine grid of x0."""
    weights, means, std = [0.3, 0.7], [-1.0, 0.8], [0.2, 0.5]
    denoiser = GaussianMixtureDenoiser(
        torch.tensor(weights, dtype=torch.float64),
        torch.tensor(means, dtype=torch.float64)[:, None],
        torch.tensor(std, dtype=torch.float64),
    )
    x0 = np.linspace(-5, 5, 20001)
    prior = sum(
        w / s * np.exp(-((x0 - m) ** 2) / (2 * s**2)) for w, m, s in zip(weights, means, std, strict=True)
    )
    for x, sigma in ((0.1, 0.3), (-0.6, 1.0), (3.0, 0.5)):
        posterior = prior * np.exp(-((x - x0) ** 2) / (2 * sigma**2))
        expected = (posterior * x0).sum() / posterior.sum()
        found = denoiser(torch.tensor([[x]], dtype=torch.float64), torch.tensor([sigma], dtype=torch.float64))
        assert float(found) == pytest.approx(expected, abs=1e-6)


def test_levels_are_those_of_ddpm() -> None:
    """abar of Ho et al.: the product of 1 - beta over the linear schedule of 1000 steps."""
    sigmas = ddpm_sigmas(1000)
    beta = np.linspace(1e-4, 0.02, 1000)
    abar = np.cumprod(1 - beta)
    expected = np.sqrt((1 - abar[::-1]) / abar[::-1])
    np.testing.assert_allclose(sigmas[:-1].numpy(), expected, rtol=1e-5)
    assert float(sigmas[-1]) == 0
    assert torch.equal(ddpm_sigmas(10)[-2:], sigmas[-2:])  # every hundredth step, the first one included
    with pytest.raises(InvalidOption, match="1001 steps"):
        ddpm_sigmas(1001)


def test_a_start_from_noise_hides_the_data() -> None:
    """Data of 1 in noise of 60 has an SNR of -35 dB."""
    for steps in (10, 11, 100, 1000):
        guess, sigmas = FromNoise(steps).begin(None, None)
        assert guess is None
        assert len(sigmas) == steps + 1
        assert float(sigmas[0]) > 60
    for steps in (0, 1, 9, 1001):
        with pytest.raises(InvalidOption, match=rf"^{steps} steps from noise: choose 10\.\.1000"):
            FromNoise(steps)


def test_karras_levels() -> None:
    sigmas = karras_sigmas(18)
    assert float(sigmas[0]) == pytest.approx(80.0, rel=1e-5)
    assert float(sigmas[-2]) == pytest.approx(0.002, rel=1e-4)
    steps = sigmas[:-1].double() ** (1 / 7)
    torch.testing.assert_close(steps.diff(), steps.diff()[:1].expand(17), rtol=1e-3, atol=1e-5)
    assert karras_sigmas(1).tolist() == [pytest.approx(80.0), 0.0]
    with pytest.raises(InvalidOption, match="falling"):
        karras_sigmas(5, 0.1, 1.0)


Sampler = Callable[[GaussianDenoiser, Tensor, Tensor], Tensor]


def ddim(denoiser: GaussianDenoiser, x: Tensor, sigmas: Tensor) -> Tensor:
    return sample_ddim(denoiser, x, sigmas, 0.0, NamedStreams(0, ("a",)))


@pytest.mark.parametrize(
    ("sampler", "order"), [(ddim, 1), (sample_heun, 2), (sample_dpm_solver, 2)], ids=["ddim", "heun", "dpm"]
)
def test_the_error_falls_with_the_order_of_the_method(sampler: Sampler, order: int) -> None:
    """The flow of N(0, s^2) from sigma a to b multiplies x by sqrt((s^2 + b^2) / (s^2 + a^2))."""
    s, start, end = 0.7, 10.0, 0.01
    denoiser = GaussianDenoiser(torch.zeros(1).double(), torch.tensor([[s**2]]).double())
    exact = math.sqrt((s**2 + end**2) / (s**2 + start**2))
    errors = []
    for steps in (40, 80, 160):
        sigmas = karras_sigmas(steps, start, end)[:-1].double()
        found = float(sampler(denoiser, torch.ones(1, 1).double(), sigmas))
        errors.append(abs(found - exact))
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert slopes[-1] == pytest.approx(order, abs=0.25)


def test_equal_levels_change_nothing() -> None:
    """Those of `karras_sigmas` from a level to itself."""
    denoiser, x = GaussianDenoiser(torch.zeros(1), torch.ones(1, 1)), torch.ones(1, 1)
    for steps in (2, 4):
        sigmas = karras_sigmas(steps, 0.5, 0.5)
        torch.testing.assert_close(sample_dpm_solver(denoiser, x, sigmas), denoiser(x, sigmas[:1]))
    more = torch.tensor([0.5, 0.5, 0.1])
    torch.testing.assert_close(sample_dpm_solver(denoiser, x, more), sample_dpm_solver(denoiser, x, more[1:]))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_samples_have_the_prior_s_mean_and_covariance(eta: float) -> None:
    count = 20_000
    mean = torch.tensor([0.5, -1.0])
    denoiser = GaussianDenoiser(mean, COVARIANCE.float())
    rng = SharedStreams(torch.Generator().manual_seed(0), count)
    sigmas = ddpm_sigmas(200)
    samples = sample_ddim(denoiser, sigmas[0] * rng.normal("start", (2,)), sigmas, eta, rng)
    error = 5 / math.sqrt(count)  # five standard errors
    assert float((samples.mean(0) - mean).abs().max()) < error + 0.01
    # 200 steps: first-order methods are a few per cent too narrow
    assert float((samples.T.cov() - COVARIANCE.float()).abs().max()) < math.sqrt(2) * error + 0.03


def test_a_network_call_per_step() -> None:
    calls = []

    def counted(x: Tensor, sigma: Tensor) -> Tensor:
        calls.append(float(sigma[0]))
        return torch.zeros_like(x)

    sigmas = karras_sigmas(8)
    for sampler, expected in ((sample_dpm_solver, 8), (sample_heun, 15), (ddim, 8)):
        calls.clear()
        sampler(counted, torch.ones(1, 2), sigmas)  # pyright: ignore[reportArgumentType]
        assert len(calls) == expected
