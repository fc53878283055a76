"""The least distortion of reversible hiding beside closed forms, and what bounds on perception cost."""

import numpy as np
import pytest
from scipy.optimize import brentq

from semcom.errors import Infeasible, InvalidOption
from semcom.theory.data_hiding import (
    Divergence,
    HistogramPrice,
    Transport,
    entropy_nats,
    least_perception,
    optimal_channel,
    stego_laws,
    transport_cost,
)

BINARY, HAMMING = np.array([0.9, 0.1]), 1 - np.eye(2)


def geometric(reach: int) -> tuple[np.ndarray, np.ndarray]:
    """0.6^|k| on -reach..reach, and squared errors."""
    k = np.arange(-reach, reach + 1)
    p = 0.6 ** np.abs(k)
    return p / p.sum(), (k[:, None] - k) ** 2.0


@pytest.mark.parametrize(("rate", "expected"), [(0.05, 0.02413), (0.1, 0.05137), (0.2, 0.11856)])
def test_binary_host_is_its_closed_form(rate: float, expected: float) -> None:
    """D = TV = h^-1(h(p) + L) - p."""
    inverse = brentq(lambda q: entropy_nats([q, 1 - q]) - entropy_nats(BINARY) - rate, 0.1, 0.5, xtol=1e-12)
    found = optimal_channel(BINARY, HAMMING, rate, Transport.total_variation(2), 1.0)
    assert found.distortion == pytest.approx(inverse - 0.1, abs=1e-5)
    assert found.distortion == pytest.approx(expected, abs=1e-5)
    assert found.perception == pytest.approx(found.distortion, abs=1e-5)
    assert found.rate_nats == pytest.approx(rate, abs=1e-5)
    assert found.coupling.sum(1) == pytest.approx(BINARY)
    assert BINARY @ found.forward == pytest.approx(found.stego)
    assert found.stego @ found.backward == pytest.approx(BINARY)


@pytest.mark.parametrize(
    ("rate", "expected"), [(0.05, 0.1013), (0.1, 0.2096), (0.1755, 0.389), (0.2, 0.4522), (0.4, 1.750)]
)
def test_geometric_host_by_iterations(rate: float, expected: float) -> None:
    """Figures of another solver, which smooths: ours may lie below them, by 0.3 % at most, not above."""
    p, d = geometric(8)

    def law(log_mu: float) -> np.ndarray:
        return stego_laws(p[None], d, np.exp(log_mu), smoothing=0.025, iterations=1500)[0][0]

    log_mu = brentq(lambda x: entropy_nats(law(x)) - entropy_nats(p) - rate, -2, 4, xtol=1e-5)
    assert transport_cost(p, law(log_mu), d) == pytest.approx(expected, rel=4e-3)


def test_linear_program_and_iterations_agree() -> None:
    p, d = geometric(4)
    found = optimal_channel(p, d, 0.1)
    weights = np.geomspace(1.5, 4, 40)
    laws = [stego_laws(p[None], d, w, smoothing=0.03, iterations=1000)[0][0] for w in weights]
    rates = np.array([entropy_nats(r) - entropy_nats(p) for r in laws])
    costs = np.array([transport_cost(p, r, d) for r in laws])
    assert (np.diff(rates) > 0).all()
    assert found.distortion == pytest.approx(np.interp(0.1, rates, costs), rel=3e-3)
    assert found.distortion < np.interp(0.1, rates, costs) + 1e-5


@pytest.mark.parametrize("perception", [Transport.total_variation(9), Divergence()])
def test_a_bound_on_perception_costs_distortion(perception: Transport | Divergence) -> None:
    p = np.array([0.3, 0.05, 0.2, 0.05, 0.1, 0.1, 0.1, 0.05, 0.05])
    d = geometric(4)[1]
    least = least_perception(p, 0.15, perception)
    free = optimal_channel(p, d, 0.15)
    there = perception(p, free.stego)
    middle = optimal_channel(p, d, 0.15, perception, (least + there) / 2)
    assert least < middle.perception < there
    assert middle.perception <= (least + there) / 2 + 2e-6
    assert middle.rate_nats == pytest.approx(0.15, abs=1e-5)
    assert middle.distortion > free.distortion
    with pytest.raises(Infeasible, match="the least is"):
        optimal_channel(p, d, 0.15, perception, 0.98 * least)


def test_a_price_on_the_histogram_of_two_laws_keeps_it() -> None:
    """What one law takes from a value the other gives back, and every law is worth its price alone."""
    k = np.arange(-6, 7)
    hosts = np.stack([a ** np.abs(k) / (a ** np.abs(k)).sum() for a in (0.3, 0.8)])
    d, n, mu = (k[:, None] - k) ** 2.0, np.array([3000.0, 5000.0]), 1.0
    rest = np.full(13, 10.0)
    target = n @ hosts + rest

    def divergence(weight: float) -> float:
        r, prices = stego_laws(hosts, d, mu, HistogramPrice(weight, n, rest, target), iterations=400)
        shown = n @ r + rest
        assert prices == pytest.approx(weight * np.log(shown / target), abs=3e-4 * weight)
        assert (np.array([entropy_nats(row) for row in r]) > [entropy_nats(p) for p in hosts])[0]
        return float((shown * np.log(shown / target)).sum())

    found = [divergence(weight) for weight in (0.0, 1.0, 10.0, 1000.0)]
    assert np.diff(found).max() < 0
    assert found[-1] < 1e-3 * found[0]
    free = stego_laws(hosts, d, mu, iterations=400)[0]
    assert stego_laws(hosts, d, mu, HistogramPrice(0.0, n, rest, target), iterations=400)[0] == pytest.approx(
        free
    )


def test_laws_and_rates_at_the_ends_of_what_there_is() -> None:
    for n in range(2, 20):  # for some of them the entropy of the uniform law is rounded to above log n
        uniform = np.full(n, 1 / n)
        channel = optimal_channel(uniform, 1 - np.eye(n), 0.0, Transport.total_variation(n), 0.0)
        assert channel.distortion == pytest.approx(0, abs=1e-9)
    for seed in range(30):
        p = np.random.default_rng(seed).dirichlet(np.ones(5))
        for rate in (0.0, 1e-17, 1e-16, 1e-15):
            assert 0 <= least_perception(p, rate, Divergence()) < 1e-12
        everything = np.log(5) - entropy_nats(p)
        for share in (1 - 1e-12, 1.0):
            channel = optimal_channel(p, 1 - np.eye(5), share * everything)
            assert channel.rate_nats == pytest.approx(everything, abs=2e-6)
            assert channel.stego == pytest.approx(np.full(5, 0.2), abs=2e-3)
        with pytest.raises(Infeasible):
            optimal_channel(p, 1 - np.eye(5), everything + 1e-9)


def test_refusals() -> None:
    with pytest.raises(Infeasible, match=r"takes 0\.3681"):
        optimal_channel(BINARY, HAMMING, 0.4)
    with pytest.raises(InvalidOption, match="sum 1"):
        optimal_channel([0.5, 0.6], HAMMING, 0.1)
    with pytest.raises(InvalidOption, match="diagonal"):
        optimal_channel(BINARY, np.ones((2, 2)), 0.1)
    with pytest.raises(InvalidOption, match="never negative"):
        optimal_channel(BINARY, HAMMING, -0.1)
    with pytest.raises(InvalidOption, match=r"at most 0\.01, but of no kind"):
        optimal_channel(BINARY, HAMMING, 0.1, most_perception=0.01)
