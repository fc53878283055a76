"""The trade-off of Gaussians beside scipy and an optimiser; the frontier of points by its definition."""

import numpy as np
import pytest
import torch
from precision import rounding
from scipy.linalg import sqrtm
from scipy.optimize import linprog, minimize

from semcom.errors import InvalidOption
from semcom.theory.perception_distortion import (
    GaussianTradeoff,
    frontier_mse,
    gaussian_w2,
    interpolated_frontier,
)


def random_covariance(seed: int, values: int = 4) -> np.ndarray:
    root = np.random.default_rng(seed).standard_normal((values, values + 1))
    return root @ root.T / values


OBSERVED = np.random.default_rng(7).standard_normal((4, 4))
TOY = GaussianTradeoff.observed(random_covariance(0), OBSERVED, 0.7)


@pytest.mark.parametrize("seed", range(3))
def test_w2_is_that_of_scipys_roots(seed: int) -> None:
    c, d = random_covariance(seed), random_covariance(seed + 10)
    m, n = np.random.default_rng(seed).standard_normal((2, 4))
    root = sqrtm(c)
    squared = ((m - n) ** 2).sum() + np.trace(c + d - 2 * np.real(sqrtm(root @ d @ root)))
    assert gaussian_w2(m, c, n, d) == pytest.approx(np.sqrt(squared), rel=1e-9)
    assert gaussian_w2(n, d, m, c) == pytest.approx(np.sqrt(squared), rel=1e-9)
    # What rounding leaves of the difference of traces, of products and roots of 4x4, shows under a root
    error = rounding(torch.float64, 4**3, 2 * np.trace(c)) ** 0.5
    assert gaussian_w2(m, c, m, c) == pytest.approx(0, abs=error)


def test_w2_of_matrices_that_commute_is_that_of_deviations() -> None:
    assert gaussian_w2([0, 0], np.diag([9.0, 0.0]), [0, 1], np.diag([4.0, 1.0])) == pytest.approx(3**0.5)


def test_the_posterior_mean_is_the_end_of_the_frontier() -> None:
    """One value: C* = C^2 / (C + N), D* = C N / (C + N), W2* = sqrt(C) - sqrt(C*)."""
    one = GaussianTradeoff.observed(np.array([[2.0]]), np.eye(1), 0.5)
    assert one.least_mse == pytest.approx(2 * 0.25 / 2.25)
    assert one.largest_w2 == pytest.approx(2**0.5 - 2 / 2.25**0.5)
    assert one.sample_w2(0.0) == pytest.approx(one.largest_w2)
    assert one.sample_w2(1.0) == pytest.approx(0, abs=1e-7)
    assert one.frontier_mse(one.largest_w2) == pytest.approx(one.least_mse)
    assert frontier_mse([0.0, 1.0, 3.0], 0.5, 2.0) == pytest.approx([4.5, 1.5, 0.5])


@pytest.mark.parametrize("weight", [0.2, 1.0, 5.0])
def test_no_linear_reconstruction_is_beyond_the_frontier(weight: float) -> None:
    """Least D + weight W2^2 of all M y + S z; on the frontier it is D* + W2*^2 weight / (1 + weight)."""
    prior, observed, noise_var = random_covariance(0, 2), OBSERVED[:2, :2], 0.5
    toy = GaussianTradeoff.observed(prior, observed, noise_var**0.5)
    of_y = observed @ prior @ observed.T + noise_var * np.eye(2)

    def cost(parameters: np.ndarray) -> float:
        m, s = parameters.reshape(2, 2, 2)
        own = m @ of_y @ m.T + s @ s.T
        mse = np.trace(prior + own - 2 * m @ observed @ prior)
        return float(mse + weight * gaussian_w2([0, 0], own, [0, 0], prior) ** 2)

    rng = np.random.default_rng(0)
    found = min(minimize(cost, rng.standard_normal(8), options={"gtol": 1e-8}).fun for _ in range(5))
    assert found == pytest.approx(toy.least_mse + toy.largest_w2**2 * weight / (1 + weight), abs=1e-6)


@pytest.mark.parametrize("knob", [0.0, 0.3, 1.0])
def test_interpolation_with_the_transport_reaches_the_frontier(knob: float) -> None:
    """By second moments of (x, x*): E[x x*'] = C*."""
    c, estimate = TOY.covariance, TOY.estimate_covariance
    through = np.eye(4) + knob * (TOY.transport - np.eye(4))
    own = through @ estimate @ through.T
    mse = np.trace(c + own - 2 * through @ estimate)
    w2 = gaussian_w2(np.zeros(4), own, np.zeros(4), c)
    assert w2 == pytest.approx((1 - knob) * TOY.largest_w2, abs=1e-6)
    assert mse == pytest.approx(float(TOY.frontier_mse(w2)), rel=1e-6)


@pytest.mark.parametrize("knob", [0.0, 0.5, 1.0])
def test_samples_and_their_averages_by_drawing(knob: float) -> None:
    rng = np.random.default_rng(0)
    count, c = 200_000, TOY.covariance
    x = rng.multivariate_normal(np.zeros(4), c, count)
    y = x @ OBSERVED.T + 0.7 * rng.standard_normal((count, 4))
    gain = c @ OBSERVED.T @ np.linalg.inv(OBSERVED @ c @ OBSERVED.T + 0.49 * np.eye(4))
    mean = y @ gain.T
    sample = mean + rng.multivariate_normal(np.zeros(4), c - TOY.estimate_covariance, count)
    shown = mean + knob * (sample - mean)
    assert ((shown - x) ** 2).sum(1).mean() == pytest.approx(TOY.sample_mse(knob), rel=0.01)
    measured = gaussian_w2(np.zeros(4), np.cov(shown.T), np.zeros(4), c)
    assert measured == pytest.approx(TOY.sample_w2(knob), abs=0.01)
    assert TOY.sample_mse(knob) >= TOY.frontier_mse(TOY.sample_w2(knob)) - 1e-9


def test_frontier_is_what_no_mixture_beats() -> None:
    """A vertex is strictly best for some trade-off; every other point is matched in both by a mixture."""
    points = np.random.default_rng(0).random((30, 2))
    found = interpolated_frontier(*points.T)
    assert list(points[found, 0]) == sorted(points[found, 0])
    for i in range(len(points)):
        others = np.delete(points, i, axis=0)
        mixture = linprog(
            np.zeros(len(others)),
            A_ub=others.T,
            b_ub=points[i],
            A_eq=np.ones((1, len(others))),
            b_eq=[1.0],
        )
        assert (i in found) == (not mixture.success)


def test_frontier_of_few_points() -> None:
    assert interpolated_frontier([1.0], [2.0]) == [0]
    assert interpolated_frontier([1.0, 1.0], [2.0, 1.0]) == [1]
    assert interpolated_frontier([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == [0, 2]  # the middle adds nothing
    assert interpolated_frontier([1.0, 2.0], [1.0, 2.0]) == [0]


def test_what_is_no_covariance_is_one_line() -> None:
    with pytest.raises(InvalidOption, match="not negative"):
        gaussian_w2([0, 0], np.diag([1.0, -1.0]), [0, 0], np.eye(2))
    with pytest.raises(InvalidOption, match="as many"):
        gaussian_w2([0], np.eye(2), [0, 0], np.eye(2))
    with pytest.raises(InvalidOption, match="nowhere above"):
        GaussianTradeoff(np.eye(2), 2 * np.eye(2))
    with pytest.raises(InvalidOption, match="observe every value"):
        _ = GaussianTradeoff.observed(np.eye(2), np.array([[1.0, 0.0]]), 0.1).transport
    with pytest.raises(InvalidOption, match="above 0"):
        GaussianTradeoff.observed(np.eye(2), np.eye(2), 0.0)
    with pytest.raises(InvalidOption, match="negative"):
        frontier_mse(-1.0, 0.5, 2.0)
    with pytest.raises(InvalidOption, match="finite"):
        interpolated_frontier([1.0, np.nan], [1.0, 1.0])
