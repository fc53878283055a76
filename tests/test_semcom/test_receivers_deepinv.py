"""Receivers beside those of deepinv, on the same denoisers and observations.

`golden/make_deepinv_receivers.py` says what was compared. Along the same noise, samples must be the same
picture, in double precision. From other noise, means and variances of all values must agree within sampling
error: no one of them off by more than chance allows for all of them together, and the mean of squared
deviations 1.
"""

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from precision import rounding
from scipy import stats
from torch import Tensor

from channels.streams import SharedStreams
from semcom.denoisers import Denoiser, GaussianDenoiser, GaussianMixtureDenoiser
from semcom.operators import BlockMean, Mask, Operator
from semcom.receivers.ddrm import DDRM
from semcom.receivers.diffpir import DiffPIR
from semcom.receivers.dps import DPS
from semcom.receivers.evidence import PriorEvidence
from semcom.receivers.generative import Method

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "deepinv_receivers.npz"))
SHAPE = (3, 8, 8)
COUNT = 1000
OPERATORS: dict[str, Operator] = {
    "mask": Mask(torch.from_numpy(GOLDEN["kept"])),
    "blocks": BlockMean(2, 8, 8),
}
METHODS = ("ddrm", "diffpir", "dps")
CASES = [(operator, method) for operator in OPERATORS for method in METHODS]
FALSE_ALARMS = 1e-3  # of all cases and values together, were deviations normal
COMPARISONS = len(CASES) * 2 * int(np.prod(SHAPE))
LARGEST = float(stats.norm.isf(FALSE_ALARMS / 2 / COMPARISONS))  # 4.98 standard errors


@dataclass(frozen=True)
class Levels:
    """Those of deepinv."""

    sigmas: Tensor

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    def begin(self, guess: Tensor | None, spread: float | None) -> tuple[Tensor | None, Tensor]:
        return None, self.sigmas


@dataclass(frozen=True)
class Replay(SharedStreams):
    """Given numbers, one row per draw."""

    rows: list[Tensor] = field(default_factory=list)

    def normal(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        return self.rows.pop(0)


@dataclass(frozen=True, eq=False)
class Remembering:
    """A denoiser that keeps what it was last asked."""

    denoiser: Denoiser
    asked: deque[Tensor] = field(default_factory=lambda: deque(maxlen=1))

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.asked.append(x)
        return self.denoiser(x, sigma)


def prior(name: str, dtype: torch.dtype) -> Denoiser:
    if name == "mixture":
        weights, means, std = (
            torch.from_numpy(GOLDEN[key]).to(dtype) for key in ("weights", "two_means", "component_std")
        )
        return GaussianMixtureDenoiser(weights, means, std)
    return GaussianDenoiser(torch.from_numpy(GOLDEN["mean"]).to(dtype), covariance().to(dtype))


def covariance() -> Tensor:
    std, along, across_colors = torch.from_numpy(GOLDEN["gaussian"])
    steps = torch.arange(8)
    line = along ** (steps[:, None] - steps).abs()
    colors = across_colors.repeat(3, 3).fill_diagonal_(1.0)
    return std**2 * torch.kron(colors, torch.kron(line, line))


def configured(name: str, denoiser: Denoiser) -> Method:
    """With the parameters of the golden file, in our units."""
    sigmas = torch.from_numpy(GOLDEN[f"{name}_levels"])
    if name == "ddrm":
        return DDRM(denoiser, Levels(sigmas), *map(float, GOLDEN["eta"]))
    if name == "dps":
        return DPS(denoiser, Levels(sigmas), float(GOLDEN["strength"]))
    weight, zeta = map(float, GOLDEN["lambda_zeta"])
    return DiffPIR(denoiser, Levels(torch.cat((sigmas, sigmas.new_zeros(1)))), weight / 2, zeta)


def samples(
    operator: str, method: str, prior_name: str, rng: SharedStreams, dtype: torch.dtype = torch.float32
) -> Tensor:
    denoiser = Remembering(prior(prior_name, dtype))
    y = torch.from_numpy(GOLDEN[f"{operator}_y"]).to(dtype)
    evidence = PriorEvidence(
        y.expand(rng.batch, *y.shape),
        OPERATORS[operator],
        torch.full((rng.batch,), float(GOLDEN["noise_std"]), dtype=dtype),
    )
    estimates = configured(method, denoiser).estimates(evidence, (rng.batch, *SHAPE), rng)
    (sample,) = deque(estimates, maxlen=1)
    return denoiser.asked[0] if method == "diffpir" else sample  # deepinv ends with x at the last level


@pytest.mark.parametrize("prior_name", ["gaussian", "mixture"])
@pytest.mark.parametrize(("operator", "method"), CASES)
def test_the_same_noise_leads_to_the_same_picture(operator: str, method: str, prior_name: str) -> None:
    expected = torch.from_numpy(GOLDEN[f"{operator}_{method}_{prior_name}_path"])
    draws = len(GOLDEN["dps_levels"]), *expected.shape
    noise = np.random.default_rng(int(GOLDEN["noise_seed"])).standard_normal(draws)
    rng = Replay(torch.Generator(), len(expected), [*torch.from_numpy(noise)])
    found = samples(operator, method, prior_name, rng, torch.float64)
    # Every level multiplies by two matrices of 192x192, and the worst of the priors has this covariance
    operations = len(GOLDEN[f"{method}_levels"]) * 2 * int(np.prod(SHAPE))
    condition = float(torch.linalg.cond(covariance()))
    tolerance = rounding(torch.float64, operations, condition)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("operator", "method"), CASES)
def test_moments_agree_within_sampling_error(operator: str, method: str) -> None:
    theirs_count = int(GOLDEN["count"])
    theirs_mean, theirs_variance = (
        torch.from_numpy(GOLDEN[f"{operator}_{method}_{moment}"]).double() for moment in ("mean", "variance")
    )
    if method == "ddrm":
        theirs_variance = 2 * theirs_variance  # its noise is divided by sqrt(2), and the sampler is linear
    drawn = samples(operator, method, "gaussian", SharedStreams.seeded(0, COUNT)).flatten(1).double()
    mean, variance = drawn.mean(0), drawn.var(0)
    ours, theirs = variance / COUNT, theirs_variance / theirs_count
    if method == "ddrm":
        theirs = theirs / 2
    of_mean = (mean - theirs_mean) / (ours + theirs).sqrt()
    relative = 2 / (COUNT - 1) + 2 / (theirs_count - 1)  # variance of log variance, of normal samples
    of_variance = (variance / theirs_variance).log() / relative**0.5
    correlation = torch.corrcoef(drawn.T)
    for deviation, together in ((of_mean, correlation), (of_variance, correlation**2)):
        assert float(deviation.abs().max()) < LARGEST
        # The mean of squares of correlated normal deviations has variance 2 mean(correlation^2)
        error = (2 * float(together.square().mean())) ** 0.5
        assert abs(float(deviation.square().mean()) - 1) < 5 * error
