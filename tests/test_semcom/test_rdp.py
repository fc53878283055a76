"""R(D, P) and D(R, P) beside closed forms, entropic transport by POT, and the answers of a conic solver."""

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import ot
import pytest
import torch
from rdp_sources import random_source
from scipy.special import xlogy

from semcom.errors import Infeasible, InvalidOption, NotConverged, SemcomError
from semcom.theory.alternating_sinkhorn import alternating_sinkhorn
from semcom.theory.rdp import (
    Divergence,
    Perception,
    RDPSolution,
    TotalVariation,
    Transport,
    critical_perception,
    distortion_rate_perception,
    rate_distortion_perception,
    regions,
    zero_rate_distortion,
)
from semcom.theory.rdp_closed_forms import (
    binary_critical_perception,
    binary_rate,
    binary_zero_rate_distortion,
    gaussian_critical_perception,
    gaussian_distortion,
    gaussian_rate,
    gaussian_zero_rate_distortion,
)
from semcom.theory.transport import least_transport, monge, monotone_transport

GOLDEN = Path(__file__).parents[1] / "golden" / "rdp.json"
HAMMING = 1 - torch.eye(2, dtype=torch.float64)
DISTORTIONS = (0.01, 0.03, 0.06, 0.1, 0.15)


def of(values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def gaussian(points: int, reach: float) -> tuple[torch.Tensor, torch.Tensor, float]:
    """A grid of N(0, 1), squared differences on it, and its own variance."""
    x = torch.linspace(-reach, reach, points, dtype=torch.float64)
    p = torch.exp(-(x**2) / 2)
    p = p / p.sum()
    return p, (x[:, None] - x) ** 2, float(p @ x**2)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_binary_with_total_variation(p: float) -> None:
    d, q = torch.meshgrid(of(DISTORTIONS), of((0.0, 0.02, 0.05, 0.5)), indexing="ij")
    found = rate_distortion_perception([1 - p, p], HAMMING, d, q, TotalVariation())
    expected = [[binary_rate(p, float(a), float(b)) for b in q[0]] for a in d[:, 0]]
    torch.testing.assert_close(found.rate_nats, of(expected), atol=1e-7, rtol=0)
    torch.testing.assert_close(found.rate_bits * math.log(2), found.rate_nats)


@pytest.mark.slow
@pytest.mark.parametrize(("p", "perception"), [(0.1, 0.02), (0.1, 0.05), (0.3, 0.05)])
def test_alternating_scalings_at_a_small_eps(p: float, perception: float) -> None:
    """C1: the regularised iteration is within 5e-5 of the closed form."""
    h = HAMMING.numpy()
    for d in (0.06, 0.1):
        found = alternating_sinkhorn(np.array([1 - p, p]), h, h, d, perception, (0.3, 0.1, 0.03, 0.01))
        assert found.rate_nats == pytest.approx(binary_rate(p, d, perception), abs=5e-5)
        assert found.kkt_residual < 1e-8


def test_alternating_scalings_refuse_what_is_not_above_zero() -> None:
    with pytest.raises(InvalidOption, match="above 0"):
        alternating_sinkhorn(np.array([1.0, 0.0]), HAMMING.numpy(), HAMMING.numpy(), 0.1, 0.1)
    with pytest.raises(NotConverged, match="KKT residual"):
        alternating_sinkhorn(
            np.array([0.9, 0.1]), HAMMING.numpy(), HAMMING.numpy(), 0.06, 0.02, (0.01,), max_iterations=3
        )


@pytest.mark.slow
@pytest.mark.parametrize(("points", "within"), [(96, 1e-3), (128, 1e-4)])
def test_gaussian_with_w2(points: int, within: float) -> None:
    """C2: the whole table at the variance of the grid, less what the grid adds to transport.

    To move mass by less than a step h, some of it moves by a whole one: h^2 / 12 more than on the line.
    """
    p, squared, variance = gaussian(points, 4.5)
    added = float(squared[0, 1]) / 12
    d, q = of([[0.1], [0.2], [0.5], [0.8], [1.2], [1.5]]), of([0.0, 0.01, 0.05, 0.1, 0.3])
    expected = of([[gaussian_rate(variance, float(a), float(b)) for b in q] for a in d[:, 0]])
    found = rate_distortion_perception(p, squared, d, q + added * (q > 0), Transport(squared))
    assert (found.rate_nats - expected).abs().max() < within
    assert found.kkt_residual.max() < 1e-8
    assert (found.bound <= found.rate_nats + 1e-8).all()


@pytest.mark.parametrize(
    ("p", "d", "perception", "reproduction_first", "source_first"),
    [(0.1, 0.06, 0.005, 0.10945, 0.11032), (0.3, 0.1, 0.002, 0.28773, 0.28777)],
)
def test_binary_with_divergences(
    p: float, d: float, perception: float, reproduction_first: float, source_first: float
) -> None:
    """C3, beside a search over the channels of a binary source."""
    for measure, searched in (
        (Divergence("reproduction"), reproduction_first),
        (Divergence("source"), source_first),
    ):
        found = rate_distortion_perception([1 - p, p], HAMMING, d, perception, measure)
        assert float(found.rate_nats) == pytest.approx(searched, abs=5e-5)
        assert float(found.perception) == pytest.approx(perception, abs=1e-7)
        assert bool(found.perception_active)


def some_measures(n: int, rng: np.random.Generator) -> list[Perception]:
    return [Transport(rng.random((n, n))), TotalVariation(), Divergence("source"), Divergence("reproduction")]


@pytest.mark.parametrize("which", range(4))
def test_distortion_and_rate_are_inverse(which: int) -> None:
    rng = np.random.default_rng(which)
    p, d = rng.dirichlet(np.ones(6)), rng.random((6, 6))
    np.fill_diagonal(d, 0)
    measure = some_measures(6, rng)[which]
    floor = float((p[:, None] * np.asarray(measure.cost)).min(1).sum()) if which == 0 else 0.0
    top = zero_rate_distortion(p, d, [floor + 0.02, floor + 0.1], measure)
    bound = top * torch.tensor([[0.4], [0.6], [0.8]])
    perceptions = [floor + 0.02, floor + 0.1]
    forth = rate_distortion_perception(p, d, bound, perceptions, measure)
    back = distortion_rate_perception(p, d, forth.rate_nats, perceptions, measure)
    assert (back.distortion - bound).abs().max() < 1e-6
    torch.testing.assert_close(back.distortion_multiplier, forth.distortion_multiplier, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(back.perception_multiplier, forth.perception_multiplier, rtol=1e-2, atol=1e-3)


MEASURES = (TotalVariation(), Divergence("source"), Divergence("reproduction"), Transport(HAMMING))


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: type(measure).__name__)
def test_a_rate_above_what_the_least_distortion_needs(measure: Perception) -> None:
    """Then R does not bind, whatever P."""
    p = of([0.9, 0.1])
    entropy = -float(p @ p.log())
    perception = of([0.0, 0.05, math.inf])
    found = distortion_rate_perception(
        p, HAMMING, of([0.3, 0.33, 5.0, math.inf])[:, None], perception, measure
    )
    assert found.rate_active.tolist() == [[True] * 3] + [[False] * 3] * 3
    assert found.distortion[1:].abs().max() == 0
    assert found.rate_nats[1:].flatten().tolist() == pytest.approx([entropy] * 9)
    assert found.distortion_multiplier[1:].isinf().all()
    assert found.perception_multiplier[1:].abs().max() == 0
    assert (found.distortion - found.bound).abs().max() < 1e-7


def test_a_rate_above_the_logarithm_of_the_letters_of_a_gaussian() -> None:
    p, squared, _ = gaussian(48, 4.5)
    for measure in (Transport(squared), TotalVariation(), Divergence("source"), Divergence("reproduction")):
        found = distortion_rate_perception(p, squared, [0.5, 10.0], of([0.0, 0.05, 1e12])[:, None], measure)
        assert found.rate_active.tolist() == [[True, False]] * 3
        assert found.distortion[:, 1].abs().max() == 0
        assert (found.rate_nats <= of([0.5, math.log(48)]) + 1e-8).all()


@pytest.mark.slow
def test_perception_that_binds_at_the_least_distortion() -> None:
    """Both letters are nearest to the first of two: to show the second costs a tenth."""
    p, d = of([0.5, 0.5]), of([[0.0, 1.0], [0.0, 0.1]])
    for measure in (TotalVariation(), Transport(HAMMING)):
        found = distortion_rate_perception(p, d, 2.0, [0.0, 0.2, 0.5, math.inf], measure)
        assert found.distortion.tolist() == pytest.approx([0.05, 0.03, 0.0, 0.0], abs=1e-8)
        assert found.perception.tolist() == pytest.approx([0.0, 0.2, 0.5, 0.5], abs=1e-7)
        assert not found.rate_active.any()
        assert (found.rate_nats <= math.log(2) + 1e-12).all()
    for measure in (Divergence("source"), Divergence("reproduction")):
        found = distortion_rate_perception(p, d, 2.0, 0.0, measure)
        assert float(found.distortion) == pytest.approx(0.05, abs=1e-8)
        assert not found.rate_active


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_distortions_of_random_sources_at_any_rate(seed: int) -> None:
    p, d, measure, floor = random_source(seed, 16)
    most = min(-float(p @ p.log()), math.log(d.shape[1]))
    rate = most * of([0.05, 0.3, 0.6, 0.9, 1.05, 4.0])
    perception = floor + of([0.0, 0.05, math.inf])
    found = distortion_rate_perception(p, d, rate[:, None], perception, measure)
    assert found.kkt_residual.max() < 1e-8
    assert (found.rate_nats <= rate[:, None] + 1e-7).all()
    assert (found.distortion - found.bound).abs().max() < 1e-7
    assert (found.distortion.diff(dim=0) < 1e-7).all()
    assert (found.distortion.diff(dim=1) < 1e-7).all()
    assert not found.rate_active[-1].any()


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_bound_of_any_size_that_does_not_bind(seed: int) -> None:
    p, d, measure, _ = random_source(seed, 16)
    bound = float((p @ d).min()) * of([0.2, 0.9, 1.2])[:, None]
    high = of([2.0, 5.0, 20.0, 1e3, 1e12, math.inf])
    for kind in {measure, TotalVariation(), Divergence("source"), Divergence("reproduction")}:
        found = rate_distortion_perception(p, d, bound, high * 10 if kind is measure else high, kind)
        alone = found.rate_nats[:, -1:]
        assert (found.rate_nats >= alone - 1e-7).all()
        assert (found.rate_nats[:, 3:] - alone).abs().max() < 1e-8
        assert not found.perception_active[:, 3:].any()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 13))
def test_a_distortion_of_any_size_needs_no_rate(seed: int) -> None:
    p, d, measure, least = random_source(seed, 8)
    distortion = of([1.0, 2.0, 1e6, math.inf])[:, None] * d.max()
    perception = least + of([0.0, 1e-6, 0.01, 0.1, 1.0])
    found = rate_distortion_perception(p, d, distortion, perception, measure)
    independent = p[:, None] * found.reproduction[..., None, :]
    torch.testing.assert_close(found.coupling, independent, atol=1e-4, rtol=0)
    assert found.rate_nats.max() < 1e-8
    assert (found.perception <= perception + 1e-8).all()
    assert not found.distortion_active.any()


def test_a_letter_that_only_perception_wants() -> None:
    """R(D) is attained without the letter in the middle, so KL(p || r) of that is infinite."""
    p, d = of([0.3, 0.2, 0.5]), of([[0.0, 9.0, 1.0], [1.0, 9.0, 1.0], [1.0, 9.0, 0.0]])
    found = rate_distortion_perception(
        p, d, 0.4, [1.0, 3.0, 10.0, 30.0, 1e3, 1e12, math.inf], Divergence("source")
    )
    assert (found.rate_nats.diff() < 1e-8).all()
    assert found.perception_active.tolist()[0]
    assert not found.perception_active[3:].any()
    assert found.kkt_residual.max() < 1e-8


def test_distortion_of_a_gaussian_at_a_rate() -> None:
    p, squared, variance = gaussian(96, 4.5)
    rate, perception = of([[0.1], [0.5]]), of([0.0, 0.05, math.inf])
    added = float(squared[0, 1]) / 12
    found = distortion_rate_perception(
        p, squared, rate, perception + added * (perception > 0), Transport(squared)
    )
    expected = [[gaussian_distortion(variance, float(r), float(q)) for q in perception] for r in rate[:, 0]]
    assert (found.distortion - of(expected)).abs().max() < 1e-3


def test_perfect_perception_is_entropic_transport() -> None:
    """C4: P = 0 is the coupling that Sinkhorn's algorithm finds at temperature 1 / lambda."""
    rng = np.random.default_rng(0)
    p, d = rng.dirichlet(np.ones(8)), rng.random((8, 8))
    np.fill_diagonal(d, 0)
    for measure in (TotalVariation(), Divergence("source"), Divergence("reproduction"), Transport(d)):
        found = rate_distortion_perception(p, d, 0.2, 0.0, measure)
        plan = ot.sinkhorn(p, p, d, 1 / float(found.distortion_multiplier), stopThr=1e-13, numItermax=100_000)
        information = float((plan * np.log(plan / np.outer(p, p))).sum())
        assert float(found.rate_nats) == pytest.approx(information, abs=1e-6)
        assert float(found.distortion) == pytest.approx(float((plan * d).sum()), abs=1e-6)
        assert found.perception_multiplier.isinf().all()


def test_without_perception_it_is_blahut_and_arimotos() -> None:
    rng = np.random.default_rng(1)
    p, d = rng.dirichlet(np.ones(7)), rng.random((7, 5))
    found = rate_distortion_perception(p, d, float(p @ d.min(1)) * 0.6 + float((p @ d).min()) * 0.4)
    slope, r = float(found.distortion_multiplier), np.full(5, 0.2)
    for _ in range(20_000):
        w = r * np.exp(-slope * d)
        r = p @ (w / w.sum(1, keepdims=True))
    w = r * np.exp(-slope * d)
    w /= w.sum(1, keepdims=True)
    assert float(found.distortion) == pytest.approx(float((p[:, None] * w * d).sum()), abs=1e-6)
    assert float(found.rate_nats) == pytest.approx(
        float((p[:, None] * xlogy(w, w / np.maximum(p @ w, 1e-300))).sum()), abs=1e-6
    )


def test_critical_transitions_of_a_binary_source() -> None:
    """C5, from the law without the constraint, and from where the multipliers come to 0."""
    p, d = 0.1, 0.06
    critical = binary_critical_perception(p, d)
    assert float(critical_perception([1 - p, p], HAMMING, d, TotalVariation())) == pytest.approx(critical)
    slight = critical_perception([1 - p, p], HAMMING, d, TotalVariation(), least_multiplier=1e-3)
    assert critical - 1e-3 < float(slight) < critical
    at = rate_distortion_perception(
        [1 - p, p], HAMMING, d, [critical - 1e-3, critical + 1e-3], TotalVariation()
    )
    assert at.perception_active.tolist() == [True, False]
    perception = torch.tensor([0.0, 0.02, 0.05, 0.2])
    zero = zero_rate_distortion([1 - p, p], HAMMING, perception, TotalVariation())
    expected = [binary_zero_rate_distortion(p, float(q)) for q in perception]
    torch.testing.assert_close(zero, of(expected), atol=1e-6, rtol=0)
    around = rate_distortion_perception(
        [1 - p, p], HAMMING, zero[1] + torch.tensor([-1e-3, 1e-3]), 0.02, TotalVariation()
    )
    assert around.distortion_active.tolist() == [True, False]
    assert regions(around).tolist() == [1, 2]


def test_critical_transitions_of_a_gaussian() -> None:
    """C5, with h^2 / 12 of the grid taken into account: in transport, and in the error of a still picture."""
    p, squared, variance = gaussian(128, 4.5)
    added = float(squared[0, 1]) / 12
    d = of([0.5, 0.8])
    critical = of([gaussian_critical_perception(variance, float(x)) for x in d]) + added
    around = critical + of([[-1e-3], [1e-3]])
    gamma = rate_distortion_perception(p, squared, d, around, Transport(squared)).perception_multiplier
    assert (gamma > 7e-4).tolist() == [[True] * 2, [False] * 2]
    perception = of([0.0, 0.01, 0.05, 0.1, 0.3])
    zero = zero_rate_distortion(p, squared, perception + added * (perception > 0), Transport(squared))
    expected = [gaussian_zero_rate_distortion(variance, float(q)) for q in perception]
    assert (zero - of(expected)).abs().max() < 1e-3


def check_random_source(seed: int, at_most: int = 64) -> None:
    """Optimal by its own certificates, monotone and convex in D and in P, and R(D, P) >= R(D)."""
    p, d, measure, floor = random_source(seed, at_most)
    least, free = float(p @ d.amin(1)), float((p @ d).min())
    reference = rate_distortion_perception(p, d, (least + free) / 2, math.inf, measure)
    reach = min(float(reference.perception) - floor, 1.0)
    perception = floor + reach * torch.tensor([0.0, 0.1, 0.4, 0.9, 1.1], dtype=torch.float64)
    top = zero_rate_distortion(p, d, perception[0], measure)
    bottom = least
    if seed % 6 == 0:  # at the least perception every letter moves to its nearest: that law costs distortion
        cost = torch.as_tensor(measure.cost)
        nearest = torch.zeros_like(cost).scatter(1, cost.argmin(1, keepdim=True), p[:, None]).sum(0)
        bottom = float(least_transport(p, nearest, d))
    bound = bottom + (top - bottom) * torch.tensor([0.1, 0.4, 0.7, 0.9, 1.05], dtype=torch.float64)
    found = rate_distortion_perception(p, d, bound[:, None], perception, measure)
    rate = found.rate_nats
    assert found.kkt_residual.max() < 1e-8
    assert (rate - found.bound).abs().max() < 1e-7
    assert ((found.perception - perception) < 1e-7).all()
    assert ((found.distortion - bound[:, None]) < 1e-7).all()
    assert (rate.diff(dim=0) < 1e-7).all()
    assert (rate.diff(dim=1) < 1e-7).all()
    over_d = rate.diff(dim=0) / bound.diff()[:, None]
    over_p = rate.diff(dim=1) / perception.diff()
    assert (over_d.diff(dim=0) > -1e-5).all()
    assert (over_p.diff(dim=1) > -1e-4).all()
    alone = rate_distortion_perception(p, d, bound, math.inf, measure).rate_nats
    assert (rate >= alone[:, None] - 1e-7).all()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(24))
def test_random_sources(seed: int) -> None:
    check_random_source(seed, at_most=32)


@pytest.mark.slow
def test_two_hundred_random_sources() -> None:
    for seed in range(200):
        check_random_source(seed)


@pytest.mark.parametrize("case", json.loads(GOLDEN.read_text())["cases"], ids=lambda case: str(case["seed"]))
def test_a_conic_solver_agrees(case: dict) -> None:
    """Clarabel's answers by exponential cones, to 1e-5; made by tests/golden/make_rdp.py."""
    p, d, measure, _ = random_source(case["seed"], case["at_most"])
    found = rate_distortion_perception(p, d, case["distortion"], case["perception"], measure)
    assert float(found.rate_nats) == pytest.approx(case["rate_nats"], abs=1e-5)


def test_costs_of_transport() -> None:
    rng = np.random.default_rng(0)
    for seed in range(5):
        p, r = rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(9))
        x, y = np.sort(rng.random(6)), np.sort(rng.random(9))
        ordered, any_cost = (x[:, None] - y) ** 2, rng.random((6, 9))
        of = [torch.from_numpy(values) for values in (p, r, ordered, any_cost)]
        assert monge(of[2])
        assert not monge(of[3]), seed
        assert float(monotone_transport(of[0], of[1][None], of[2])) == pytest.approx(ot.emd2(p, r, ordered))
        for cost, array in zip(of[2:], (ordered, any_cost), strict=True):
            assert float(least_transport(of[0], of[1], cost)) == pytest.approx(ot.emd2(p, r, array))


def test_where_the_solver_begins_makes_no_difference() -> None:
    p, d = [0.6, 0.3, 0.1], 1 - torch.eye(3)
    cold, warm = (
        rate_distortion_perception(p, d, 0.2, [0.05, math.inf], TotalVariation(), start=start)
        for start in (None, [0.7, 0.2, 0.1])
    )
    torch.testing.assert_close(cold.rate_nats, warm.rate_nats, atol=1e-7, rtol=0)
    for wrong in ([0.5, 0.5], [1.0, 0.0, 0.0]):
        with pytest.raises(InvalidOption, match="3 probabilities above 0"):
            rate_distortion_perception(p, d, 0.2, 0.05, TotalVariation(), start=wrong)


def test_letters_that_never_come() -> None:
    p, d = [0.5, 0.5, 0.0], torch.tensor([[0.0, 1.0, 0.4], [1.0, 0.0, 0.4], [1.0, 1.0, 0.0]])
    found = rate_distortion_perception(p, d, 0.3, [0.0, 0.1, math.inf], TotalVariation())
    assert found.coupling[:, 2].abs().max() == 0
    assert (found.rate_nats.diff() < 1e-7).all()
    two = rate_distortion_perception(p[:2], d[:2, :2], 0.3, 0.0, TotalVariation())
    torch.testing.assert_close(found.rate_nats[0], two.rate_nats, atol=1e-7, rtol=0)
    with pytest.raises(InvalidOption, match="leave it out"):
        rate_distortion_perception(p, d, 0.3, 0.1, Divergence("source"))


def test_no_distortion_at_all_takes_the_entropy() -> None:
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    for measure in (TotalVariation(), Divergence("source"), Divergence("reproduction")):
        found = rate_distortion_perception(p, 1 - torch.eye(3), 0.0, [0.0, 0.1], measure)
        assert found.rate_nats.tolist() == pytest.approx([-float((p * p.log()).sum())] * 2, abs=1e-6)


def test_batches_are_shaped_as_given_and_independent_of_each_other() -> None:
    p, d = [0.6, 0.3, 0.1], 1 - torch.eye(3)
    all_points = rate_distortion_perception(
        p, d, [[0.05], [0.1], [0.3]], [0.0, 0.02, math.inf], TotalVariation()
    )
    assert all_points.coupling.shape == (3, 3, 3, 3)
    for i, j in itertools.product(range(3), range(3)):
        one = rate_distortion_perception(
            p, d, [0.05, 0.1, 0.3][i], [0.0, 0.02, math.inf][j], TotalVariation()
        )
        assert one.rate_nats.shape == ()
        torch.testing.assert_close(one.rate_nats, all_points.rate_nats[i, j], atol=1e-8, rtol=0)


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (InvalidOption, "sums to 1", ([0.5, 0.6], HAMMING, 0.1)),
        (InvalidOption, "sums to 1", ([1.5, -0.5], HAMMING, 0.1)),
        (InvalidOption, "not finite", ([0.5, math.nan], HAMMING, 0.1)),
        (InvalidOption, "not finite", ([0.5, 0.5], HAMMING / torch.tensor([0.0, 1.0]), 0.1)),
        (InvalidOption, "not finite", ([0.5, 0.5], HAMMING, 0.1, 0.1, Transport(HAMMING * math.inf))),
        (InvalidOption, "one row per letter", ([0.2, 0.3, 0.5], HAMMING, 0.1)),
        (InvalidOption, "must be alike", ([0.5, 0.5], HAMMING, 0.1, 0.1, Transport(torch.ones(2, 3)))),
        (InvalidOption, "one alphabet", ([0.5, 0.5], torch.ones(2, 3), 0.1, 0.1, TotalVariation())),
        (InvalidOption, "one alphabet", ([0.5, 0.5], torch.ones(2, 3), 0.1, 0.1, Divergence("source"))),
        (InvalidOption, "not a number", ([0.5, 0.5], HAMMING, math.nan)),
        (InvalidOption, "without a measure", ([0.5, 0.5], HAMMING, 0.1, 0.1)),
        (Infeasible, "distortion -0.1 is below", ([0.5, 0.5], HAMMING, -0.1)),
        (Infeasible, "distortion 0.1 is below", ([0.5, 0.5], HAMMING + 0.2, 0.1)),
        (Infeasible, "perception -0.1 is below", ([0.5, 0.5], HAMMING, 0.1, -0.1, TotalVariation())),
        (Infeasible, "perception 0.1 is below", ([0.5, 0.5], HAMMING, 0.1, 0.1, Transport(HAMMING + 0.2))),
        (Infeasible, "at that perception", ([0.5, 0.5], HAMMING, 0.1, 0.1, Transport([[0, 1], [0, 1]]))),
    ],
)
def test_what_cannot_be_is_one_line(error: type[SemcomError], match: str, arguments: tuple) -> None:
    with pytest.raises(error, match=match) as caught:
        rate_distortion_perception(*arguments)
    assert "\n" not in str(caught.value)


def test_other_errors_are_typed() -> None:
    with pytest.raises(Infeasible, match="zero_rate_distortion"):
        distortion_rate_perception([0.5, 0.5], HAMMING, 0.0)
    with pytest.raises(NotConverged, match="residual"):
        rate_distortion_perception([0.9, 0.1], HAMMING, 0.05, 0.02, TotalVariation(), max_iterations=2)


def test_points_that_did_not_converge_are_named_and_the_others_kept() -> None:
    bounds, perception, measure = of([0.06, 0.02]), of([[1e-4], [math.inf]]), Divergence("source")
    whole = rate_distortion_perception([0.9, 0.1], HAMMING, bounds, perception, measure)
    enough = int(whole.iterations[1].max())
    assert enough < int(whole.iterations[0].min())
    with pytest.raises(NotConverged, match=r"at points \(0, 0\), \(0, 1\) of shape \[2, 2\]") as caught:
        rate_distortion_perception([0.9, 0.1], HAMMING, bounds, perception, measure, max_iterations=enough)
    kept = caught.value.solution
    assert isinstance(kept, RDPSolution)
    assert ((kept.kkt_residual <= 1e-8) == torch.tensor([[False] * 2, [True] * 2])).all()
    torch.testing.assert_close(kept.rate_nats[1], whole.rate_nats[1])
