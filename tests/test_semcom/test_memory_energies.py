"""Energies and retrieval of associative memories: bounds, monotone steps, limits, typed errors."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from semcom.errors import InvalidOption, InvalidSource
from semcom.memory.energies import (
    Form,
    layer_energy,
    log_mean_exp,
    log_sum_exp,
    mchn_energy,
    nearest_squared_distance,
    retrieve,
    weights,
)
from semcom.memory.layers import Layers, coarse_to_fine, global_energy, within

POINTS = 2000
SIZES = [(n, d) for n in (2, 16, 64) for d in (5, 50, 500)]
ROUNDING = 1e-9  # of sums of 64 squares in double precision, far below every gap asked for


def drawn(dims: int, patterns: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Patterns of unequal norms; queries near and far from them."""
    rng = np.random.default_rng((seed, dims, patterns))
    stored = rng.normal(size=(patterns, dims)) * rng.uniform(0.1, 2, (patterns, 1))
    centre = stored[rng.integers(patterns, size=POINTS)] * rng.uniform(0, 1.5, (POINTS, 1))
    queries = centre + rng.normal(size=(POINTS, dims)) * rng.uniform(0, 2, (POINTS, 1))
    return torch.from_numpy(queries), torch.from_numpy(stored)


@pytest.mark.parametrize(("dims", "count"), SIZES)
def test_the_layer_energy_is_a_soft_minimum_of_squared_distances(dims: int, count: int) -> None:
    """P1 of arXiv 2405.08707: g - log d <= E <= g."""
    x, stored = drawn(dims, count)
    g, energy = nearest_squared_distance(x, stored), layer_energy(x, stored)
    scale = ROUNDING * (1 + g)
    assert (energy <= g + scale).all()
    assert (energy >= g - math.log(count) - scale).all()
    assert (energy < g - 1e-3).any()


@pytest.mark.parametrize(("dims", "count"), SIZES)
def test_the_two_energies_differ_by_the_spread_of_the_norms(dims: int, count: int) -> None:
    """P2: |E - (2 E_MCHN at beta 2 - log d)| <= max |rho|^2 - min |rho|^2; and P3, the sum of P1 and P2."""
    x, stored = drawn(dims, count)
    norms = stored.square().sum(1)
    spread = float(norms.max() - norms.min())
    hopfield = 2 * mchn_energy(x, stored, 2.0) - math.log(count)
    gap = (layer_energy(x, stored) - hopfield).abs()
    scale = ROUNDING * (1 + hopfield.abs())
    assert (gap <= spread + scale).all()
    assert float(gap.max()) > 0.5 * spread  # the bound is nearly met, so that a smaller one would fail
    g = nearest_squared_distance(x, stored)
    assert (hopfield - g <= spread + scale).all()
    assert (g - hopfield <= spread + math.log(count) + scale).all()


@pytest.mark.parametrize("beta", [0.05, 0.5, 5.0, math.inf])
@pytest.mark.parametrize(("dims", "count"), SIZES)
def test_a_step_never_raises_the_energy(dims: int, count: int, beta: float) -> None:
    x, stored = drawn(dims, count)
    for _ in range(4):
        moved = retrieve(x, stored, beta)
        before, after = layer_energy(x, stored, beta), layer_energy(moved, stored, beta)
        assert (after <= before + ROUNDING * (1 + before.abs())).all()
        x = moved


def test_energies_are_those_of_the_definitions() -> None:
    """Computed number by number."""
    x, stored = drawn(3, 7)
    x = x[:20]
    for beta in (0.3, 1.0, 4.0):
        for query, one, two in zip(
            x.tolist(), layer_energy(x, stored, beta), mchn_energy(x, stored, beta), strict=True
        ):
            far = [sum((a - b) ** 2 for a, b in zip(query, rho, strict=True)) for rho in stored.tolist()]
            expected = -math.log(math.fsum(math.exp(-beta * d) for d in far)) / beta
            assert float(one) == pytest.approx(expected, abs=1e-10)
            dots = [sum(a * b for a, b in zip(query, rho, strict=True)) for rho in stored.tolist()]
            lse = math.log(math.fsum(math.exp(beta * d) for d in dots)) / beta
            longest = max(sum(b * b for b in rho) for rho in stored.tolist())
            half = (sum(a * a for a in query) + longest) / 2
            assert float(two) == pytest.approx(half - lse + math.log(7) / beta, abs=1e-10)
            assert float(two) >= -1e-12


def test_the_maximum_is_subtracted() -> None:
    """Far queries and large beta neither overflow nor vanish, in single precision too."""
    stored = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float32)
    x = torch.tensor([[1e6, 0.0]], dtype=torch.float32)
    assert float(layer_energy(x, stored, 100.0)) == pytest.approx((1e6 - 1) ** 2, rel=1e-6)
    assert mchn_energy(x, stored, 100.0).isfinite().all()
    assert retrieve(x, stored, 1e4).tolist() == [[1.0, 0.0]]
    assert retrieve(x, stored, 1e4, "dot").tolist() == [[1.0, 0.0]]


def test_limits_of_beta() -> None:
    y = torch.tensor([[1.0, 2.0, 6.0]], dtype=torch.float64)
    assert log_mean_exp(0.0, y).tolist() == [3.0]
    assert log_mean_exp(math.inf, y).tolist() == [6.0]
    assert log_sum_exp(math.inf, y).tolist() == [6.0]
    assert log_sum_exp(0.0, y).tolist() == [math.inf]
    assert log_sum_exp(0.0, y[:, :1]).tolist() == [1.0]
    for beta in (1e-9, 1e9):  # the limits are limits
        near = 0.0 if beta < 1 else math.inf
        assert float(log_mean_exp(beta, y)) == pytest.approx(float(log_mean_exp(near, y)), abs=1e-6)
    x, stored = drawn(4, 9)
    assert (layer_energy(x, stored, 0.0) == -math.inf).all()
    assert torch.equal(layer_energy(x, stored, math.inf), nearest_squared_distance(x, stored))
    assert torch.allclose(retrieve(x, stored, 0.0), stored.mean(0).expand(POINTS, -1))
    nearest = ((x[:, None] - stored) ** 2).sum(2).argmin(1)
    assert torch.equal(retrieve(x, stored, math.inf), stored[nearest])
    assert torch.equal(retrieve(x, stored, math.inf, "dot"), stored[(x @ stored.T).argmax(1)])


def test_among_patterns_of_equal_norm_the_forms_agree() -> None:
    x, stored = drawn(8, 30)
    stored = stored / stored.norm(dim=1, keepdim=True)
    for beta in (0.2, 3.0):
        one, two = retrieve(x, stored, beta), retrieve(x, stored, 2 * beta, "dot")
        assert torch.allclose(one, two, atol=1e-11, rtol=0)


@pytest.mark.parametrize("form", ["dot", "distance"])
@pytest.mark.parametrize("beta", [0.0, 0.7, math.inf])
def test_one_pattern_duplicates_and_norm_zero(form: Form, beta: float) -> None:
    x, stored = drawn(5, 3)
    one = stored[:1]
    assert torch.allclose(retrieve(x, one, beta, form), one.expand(POINTS, -1))
    assert torch.allclose(layer_energy(x, one, beta), nearest_squared_distance(x, one))
    twice = stored[[0, 0, 1]]
    shares = weights(x, twice, beta, form)
    assert torch.allclose(shares[:, 0], shares[:, 1])
    assert torch.allclose(shares.sum(1), torch.ones(POINTS, dtype=torch.float64))
    with_zero = torch.cat((torch.zeros_like(one), one))
    assert retrieve(x, with_zero, beta, form).isfinite().all()


def test_bad_input_is_refused_in_one_line() -> None:
    x, stored = drawn(5, 3)
    none = stored[:0]
    cases = [
        (InvalidSource, "empty memory", lambda: layer_energy(x, none)),
        (InvalidSource, "empty memory", lambda: mchn_energy(x, none, 1.0)),
        (InvalidSource, "empty memory", lambda: log_mean_exp(1.0, x[:, :0])),
        (InvalidSource, "5 dimensions", lambda: layer_energy(x[:, :4], stored)),
        (InvalidSource, "5 dimensions", lambda: retrieve(x[:, :4], stored, 1.0, "dot")),
        (InvalidSource, "not finite", lambda: layer_energy(x * math.nan, stored)),
        (InvalidSource, "not finite", lambda: layer_energy(x, stored * math.nan)),
        (InvalidOption, "at least 0", lambda: layer_energy(x, stored, -1.0)),
        (InvalidOption, "at least 0", lambda: retrieve(x, stored, math.nan)),
        (InvalidOption, "at least 1", lambda: retrieve(x, stored, 1.0, steps=0)),
        (InvalidOption, "one radius", lambda: Layers((stored,), radii=(1.0, 2.0))),
        (InvalidOption, "one radius", lambda: Layers(())),
        (InvalidOption, "from 0", lambda: Layers((stored,), radii=(-1.0,))),
        (InvalidSource, "empty memory", lambda: Layers((none,))),
        (InvalidOption, "rising", lambda: coarse_to_fine(stored, (2, 1))),
        (InvalidOption, "rising", lambda: coarse_to_fine(stored, (4,))),
    ]
    for kind, words, call in cases:
        with pytest.raises(kind, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_layers_go_downhill_within_their_trust_regions() -> None:
    x, stored = drawn(16, 60)
    books = coarse_to_fine(stored, (4, 16))
    radii = (0.5, 2.0, math.inf)
    progress = Layers(books, 1.5, radii)(x)
    scale = ROUNDING * (1 + progress.before.abs())
    assert (progress.after <= progress.before + scale).all()
    assert (progress.after < progress.before - 1e-3).any(1).all()  # every layer moves some query
    moved = (progress.points[1:] - progress.points[:-1]).square().sum(2)
    for layer, radius in enumerate(radii):
        assert (moved[layer] <= radius * (1 + 1e-12)).all()
    assert torch.equal(progress.points[0], x)


def test_a_trust_region_step_is_the_constrained_minimum_of_its_bound() -> None:
    """Of sum w_i |x - rho_i|^2 = |x - m|^2 + const over a ball: no point in the ball is lower."""
    centre, m = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])
    reached = within(m, centre, 4.0)
    assert torch.allclose(reached, torch.tensor([[1.2, 1.6]]))
    angle = torch.linspace(0, 2 * math.pi, 1000)
    rim = 2 * torch.stack((angle.cos(), angle.sin()), 1)
    assert float((reached - m).norm()) <= float((rim - m).norm(dim=1).min()) + 1e-6
    assert torch.equal(within(m, centre, math.inf), m)
    assert torch.equal(within(m, centre, 0.0), centre)
    assert torch.equal(within(m, m, 0.0), m)


def test_the_energy_of_all_layers_is_below_the_least_one() -> None:
    x, stored = drawn(16, 60)
    layers = Layers(tuple(stored.split(20)))
    energies = layers.energies(x)
    together = global_energy(energies)
    least = energies.amin(0)
    assert (together >= least - math.log(3) - ROUNDING * (1 + least)).all()
    assert (together <= least + ROUNDING * (1 + least)).all()
    assert (together < least).any()
    # of a partition at beta = 1 it is the energy of all patterns
    assert torch.allclose(together, layer_energy(x, stored), atol=1e-9)
    assert torch.equal(global_energy(energies[:1]), energies[0])


@pytest.mark.parametrize("count", [10**4, 10**6])
def test_a_near_pattern_among_many_far_ones_keeps_its_energy_in_single_precision(count: int) -> None:
    """All others are 100 away or more, and add exp(-10^4): the energy is the squared distance, P1 tight."""
    stored = 100 * torch.arange(count, dtype=torch.float32)[:, None]
    energy = layer_energy(torch.tensor([[500.5]]), stored)
    assert float(energy) == pytest.approx(0.25, abs=4 * torch.finfo(torch.float32).eps * math.log(count))


def test_a_soft_maximum_of_more_values_than_single_precision_counts() -> None:
    """Above 2^24 values the mean of all but one of weight 0 rounds to nothing."""
    values = torch.full((2**24 + 2,), -1e4)
    values[3] = 0.0
    assert float(log_sum_exp(1.0, values)) == pytest.approx(0.0, abs=1e-5)
