"""Tools for memorisation: entropy rates, capacity, neighbours, volumes."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import gammainc, gammaln

from semcom.errors import InvalidOption, InvalidSource
from semcom.memory.memorisation import (
    Grammar,
    entropy_of,
    gaussian_like,
    log_ball_integral,
    memorised_bits,
    nearest_distances,
    neighbour_ratios,
    unit_volume_radius,
)
from semcom.training.grammars import TinyTransformer, capacity, nats_per_word, plateau


@pytest.mark.parametrize("entropy", [0.4, 1.0, 1.6])
def test_the_entropy_rate_is_exact(entropy: float) -> None:
    """By the stationary law of all states, solved as linear equations, independently of the construction."""
    grammar = Grammar(entropy, words=12, choices=6, classes=2, seed=3)
    assert entropy_of(grammar.probabilities.numpy()) == pytest.approx(entropy, abs=1e-12)
    states = [(before, last) for before in range(12) for last in range(12)]
    place = {state: i for i, state in enumerate(states)}
    moves = np.zeros((len(states), len(states)))
    for (before, last), i in place.items():
        allowed = grammar.successors[before % 2, last].tolist()
        assert len(set(allowed)) == 6
        for word, p in zip(allowed, grammar.probabilities.tolist(), strict=True):
            moves[i, place[last, word]] += p
    assert np.allclose(moves.sum(1), 1, atol=1e-12)
    values, vectors = np.linalg.eig(moves.T)
    stationary = np.real(vectors[:, np.argmin(abs(values - 1))])
    stationary /= stationary.sum()
    positive = np.where(moves > 0, moves, 1)
    rate = -float(stationary @ (moves * np.log(positive)).sum(1))
    assert rate == pytest.approx(entropy, abs=1e-9)


def test_samples_follow_the_rules() -> None:
    grammar = Grammar(1.0, words=10, choices=4, classes=3)
    words = grammar.sample(400, 50, seed=5)
    assert torch.equal(words, grammar.sample(400, 50, seed=5))
    assert not torch.equal(words, grammar.sample(400, 50, seed=6))
    logs = grammar.log_probabilities(words)
    assert logs.isfinite().all()
    count = logs.numel()
    # each term has mean -entropy; its variance is that of log p under p
    p = grammar.probabilities.numpy()
    deviation = math.sqrt(float(p @ (np.log(p) + 1.0) ** 2) / count)
    assert float(logs.mean()) == pytest.approx(-1.0, abs=5 * deviation)
    shares = Counter(logs.exp().flatten().numpy().round(9).tolist())
    for probability in grammar.probabilities.tolist():
        expected = probability * count
        assert shares[round(probability, 9)] == pytest.approx(expected, abs=5 * math.sqrt(expected))
    broken = words.clone()
    broken[0, 10] = next(
        w for w in range(10) if w not in grammar.successors[words[0, 8] % 3, words[0, 9]].tolist()
    )
    assert grammar.log_probabilities(broken)[0, 8] == -math.inf


def test_bits_of_a_model_that_knows_everything_or_nothing() -> None:
    nothing = torch.full((5, 7), math.log(68))
    assert memorised_bits(nothing, 68) == pytest.approx(0, abs=1e-4)
    assert memorised_bits(torch.zeros(5, 7), 68) == pytest.approx(35 * math.log2(68))
    assert memorised_bits(2 * nothing, 68) < 0


def test_neighbours_are_those_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    queries, stored = (torch.from_numpy(rng.normal(size=(count, 5))) for count in (30, 40))
    far = ((queries[:, None] - stored) ** 2).sum(2).sqrt().sort(dim=1).values
    assert torch.allclose(nearest_distances(queries, stored, 3), far[:, :3], atol=1e-12)
    alone = ((stored[:, None] - stored) ** 2).sum(2).sqrt().sort(dim=1).values
    assert torch.allclose(nearest_distances(stored, stored, 2), alone[:, 1:3], atol=1e-12)
    ratios = neighbour_ratios(queries, stored)
    assert torch.allclose(ratios, far[:, 0] / far[:, 1])
    copies = neighbour_ratios(stored[:4] + 1e-9, stored)
    assert (copies < 1e-6).all()
    assert neighbour_ratios(stored[:1], stored[[0, 0]]).tolist() == [1.0]


def test_the_control_has_mean_and_covariance() -> None:
    """Entries of a sample covariance of N vectors deviate by about sqrt(2 / N) of their size."""
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(4, 4))
    skewed = torch.from_numpy(rng.exponential(size=(20_000, 4)) @ mixing + 3)
    control = gaussian_like(skewed)
    scale = skewed.std(0)
    assert ((control.mean(0) - skewed.mean(0)).abs() < 5 * scale / math.sqrt(20_000)).all()
    gap = (torch.cov(control.T) - torch.cov(skewed.T)).abs()
    assert (gap < 5 * math.sqrt(2 / 20_000) * scale * scale[:, None]).all()
    third = ((control - control.mean(0)) / control.std(0)).pow(3).mean(0)
    assert (third.abs() < 5 * math.sqrt(15 / 20_000)).all()  # it is Gaussian, the original is not
    assert (((skewed - skewed.mean(0)) / scale).pow(3).mean(0).abs() > 0.3).any()


@pytest.mark.parametrize("dims", [1, 2, 3, 64, 1024])
def test_the_ball_of_volume_one(dims: int) -> None:
    log_volume = dims / 2 * math.log(math.pi) - float(gammaln(dims / 2 + 1))
    assert log_volume + dims * math.log(unit_volume_radius(dims)) == pytest.approx(0, abs=1e-9 * dims)


@pytest.mark.parametrize("dims", [1, 2, 3, 10])
@pytest.mark.parametrize("radius", [0.3, 1.0, 3.0])
def test_the_integral_over_a_ball_is_that_of_its_shells(dims: int, radius: float) -> None:
    surface = 2 * math.pi ** (dims / 2) / math.gamma(dims / 2)
    exact, _ = quad(lambda r: surface * r ** (dims - 1) * math.exp(-r * r), 0, radius, epsabs=0, epsrel=1e-12)
    assert math.exp(log_ball_integral(dims, radius)) == pytest.approx(exact, rel=1e-9)
    incomplete = dims / 2 * math.log(math.pi) + math.log(gammainc(dims / 2, radius**2))
    assert log_ball_integral(dims, radius) == pytest.approx(incomplete, rel=1e-9)


def test_the_bound_of_the_paper_fails_in_1024_dimensions() -> None:
    """Volume times exp(-r) instead of exp(-r^2) is no lower bound of the integral; the latter is."""
    radius = math.sqrt(1024 / (2 * math.pi * math.e))
    log_volume = 512 * math.log(math.pi) - float(gammaln(513)) + 1024 * math.log(radius)
    exact = log_ball_integral(1024, radius)
    assert log_volume - radius**2 <= exact <= log_volume
    assert log_volume - radius > exact + 50


def test_bad_input_is_refused_in_one_line() -> None:
    points = torch.zeros(1, 3)
    cases = [
        (InvalidOption, "at least 1e-20", lambda: Grammar(0.0)),
        (InvalidOption, "below log", lambda: Grammar(3.0)),
        (InvalidOption, "choices", lambda: Grammar(0.4, words=4)),
        (InvalidOption, "classes", lambda: Grammar(0.4, classes=0)),
        (InvalidSource, "more vectors", lambda: nearest_distances(points, points, 1)),
        (InvalidSource, "more vectors", lambda: neighbour_ratios(points, torch.zeros(1, 3))),
        (InvalidSource, "at least 2", lambda: gaussian_like(points)),
    ]
    for kind, words, call in cases:
        with pytest.raises(kind, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_transformer_sees_only_the_past() -> None:
    torch.manual_seed(0)
    network = TinyTransformer(9, 16, 2).eval()
    words = torch.randint(9, (2, 12))
    other = words.clone()
    other[:, 7] = (other[:, 7] + 1) % 9
    one, two = network(words), network(other)
    assert torch.allclose(one[:, :7], two[:, :7], atol=1e-6)
    assert not torch.allclose(one[:, 7:], two[:, 7:], atol=1e-3)


def test_an_untrained_transformer_guesses() -> None:
    torch.manual_seed(0)
    words = Grammar(0.4).sample(20, 64)
    assert nats_per_word(TinyTransformer(68), words) == pytest.approx(math.log(68), abs=0.3)


@pytest.mark.slow
def test_the_loss_goes_below_one_nat(tmp_path: Path) -> None:
    """A source of few words, learned in seconds: the plateau is the entropy rate, not 1."""
    found = plateau(Grammar(0.4, words=12, classes=1), 15.0, tmp_path, tokens=100_000, width=32, layers=1)
    assert found.ideal_nats - 0.02 < found.held_out_nats < 0.5


@pytest.mark.slow
def test_a_transformer_stores_few_sequences_whole(tmp_path: Path) -> None:
    found = capacity(16, 40, 12.0, tmp_path)
    assert found.bits > 0.8 * found.offered_bits
    assert found.gap_nats > 2


@pytest.mark.parametrize(("dims", "radius"), [(2, 30.0), (1, 5.0), (10, 26.0), (1024, 60.0), (1024, 22.0)])
def test_large_balls_hold_the_whole_integral_and_no_more(dims: int, radius: float) -> None:
    whole = dims / 2 * math.log(math.pi)
    assert log_ball_integral(dims, radius) == pytest.approx(
        whole + math.log(gammainc(dims / 2, radius**2)), abs=1e-9
    )


def test_balls_grammars_and_draws_out_of_range_are_refused_in_one_line() -> None:
    for call in (
        lambda: log_ball_integral(2, 0.0),
        lambda: log_ball_integral(2, math.inf),
        lambda: log_ball_integral(0, 1.0),
        lambda: Grammar(1e-30),
        lambda: Grammar(math.nan),
        lambda: Grammar(0.4).sample(3, 1),
        lambda: Grammar(0.4).sample(0, 8),
    ):
        with pytest.raises(InvalidOption) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert entropy_of(Grammar(1e-20).probabilities.numpy()) == pytest.approx(1e-20, rel=1e-9)
