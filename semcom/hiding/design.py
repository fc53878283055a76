"""Design of the stego laws: least squared error for a number of hidden bits, and the alphabets."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from semcom.hiding.ans import PRECISION
from semcom.hiding.census import CLASSES, NO_ERROR, Census, Counts, errors_of
from semcom.hiding.laws import (
    REACH_BITS,
    REACHES,
    Bounds,
    ClassLaws,
    Levels,
    cumulative,
    packed_bits,
    quantised,
    transition,
)
from semcom.theory.data_hiding import HistogramPrice, stego_laws

FEWEST = 50  # least number of symbols of a class that is used
ITERATIONS, COARSE_ITERATIONS = 100, 40
FIRST_SHARE = 0.95  # share of a class within its alphabet, before alphabets are chosen
MOST_WEIGHT = 10_000.0  # of an entropy, squared error per nat
FIRST_WEIGHT, FIRST_FACTOR = 0.5, 4.0
EXCESS = 1.002  # ratio of designed and wanted bits at which a search ends
SECANTS = 6

Reaches = Mapping[int, int]  # T by class
Law = Float[np.ndarray, " symbols"]


@dataclass(frozen=True, eq=False)
class Histogram:
    """Target for the prediction-error histogram of the finished picture, and what is known of it.

    Args:
        weight: gamma, price of KL(stego || host) in squared levels per nat.
        host: Counts of the errors -255..255 of the host.
        finished: Counts of the errors -255..255 of a finished picture.
        stego: Counts of the symbols that its embedding produced, as the embedder met them.
    """

    weight: float
    host: Counts
    finished: Counts
    stego: Census


@dataclass(frozen=True, eq=False)
class Design:
    """Stego laws, with the bits they hide and the cost they cause.

    Args:
        laws: Laws of the classes in use.
        bits: Hidden bits, less the bits of the tables.
        cost: Squared error plus the price of the histogram, summed over all pixels.
        weight: mu, price of a hidden nat in squared error.
    """

    laws: tuple[ClassLaws, ...]
    bits: float
    cost: float
    weight: float


@dataclass(frozen=True, eq=False)
class _Host:
    """One class as it is, with its law as it will be sent."""

    number: int
    reach: int
    counts: Counts
    levels: Levels
    bounds: Bounds

    @property
    def law(self) -> Law:
        """Of symbols."""
        return np.diff(self.bounds) / (1 << PRECISION)

    @property
    def errors(self) -> Counts:
        """That are its symbols."""
        return errors_of(self.number, self.reach)


@dataclass(frozen=True, eq=False)
class _Offer:
    """Laws of a class, and what they are worth: bits net of tables, and cost."""

    laws: ClassLaws
    bits: float
    cost: float

    def worth(self, weight: float) -> float:
        """What is left out here must be hidden elsewhere, at `weight` per nat."""
        return self.bits if math.isinf(weight) else weight * math.log(2) * self.bits - self.cost


def squared_distance(symbols: int) -> Float[np.ndarray, "symbols symbols"]:
    """Squared distances (i - j)^2 between symbols.

    Args:
        symbols: Number of symbols.

    Returns:
        Matrix [symbols, symbols].
    """
    places = np.arange(symbols, dtype=float)
    return (places[:, None] - places) ** 2


def design(
    census: Census, reaches: Reaches, wanted_bits: float, histogram: Histogram | None, weight: float | None
) -> Design:
    """Laws that hide a number of bits at the least squared error: all classes pay the same price per bit.

    Args:
        census: Counts of the pixels to be changed.
        reaches: Largest error T by class.
        wanted_bits: Bits to hide; inf for as many as there is room for. If there is less room, the design
            with the most room is returned.
        histogram: Target histogram, weighed against the squared error; None for squared error alone.
        weight: Initial mu, from a similar design.

    Returns:
        The design.
    """
    hosts = _hosts(census, reaches)
    price = None if histogram is None else _price(hosts, histogram)

    def at(mu: float) -> Design:
        return _chosen(_offers(hosts, mu, ITERATIONS, price), mu)

    return _least(at, wanted_bits, weight)


def reaches_for(census: Census, wanted_bits: float) -> tuple[dict[int, int], float]:
    """Best alphabet of every class at the price of a bit, and that price.

    Args:
        census: Counts of the pixels to be changed.
        wanted_bits: Bits to hide.

    Returns:
        Largest error T by class, and the price mu.
    """
    first = {k: _first_reach(census, k) for k in range(CLASSES)}
    weight = _price_of_bits(census, first, wanted_bits, None)
    second = _best_reaches(census, weight, REACHES[-1])
    weight = _price_of_bits(census, second, wanted_bits, weight)
    return _best_reaches(census, weight, REACHES[-1]), weight


def widest_reaches(census: Census, most: int) -> dict[int, int]:
    """Alphabet of every class, with T at most `most`, that holds the most bits with uniform laws.

    Args:
        census: Counts of the pixels to be changed.
        most: Largest T allowed.

    Returns:
        Largest error T by class.
    """
    return _best_reaches(census, math.inf, most)


def _price_of_bits(census: Census, reaches: Reaches, wanted_bits: float, near: float | None) -> float:
    hosts = _hosts(census, reaches)

    def at(mu: float) -> Design:
        return _chosen(_offers(hosts, mu, COARSE_ITERATIONS), mu)

    return _least(at, wanted_bits, near).weight


def _best_reaches(census: Census, weight: float, most: int) -> dict[int, int]:
    best: dict[int, tuple[float, int]] = {}
    populated = [k for k in range(CLASSES) if census.table[k].sum() >= FEWEST]
    for reach in (t for t in REACHES if t <= most):
        hosts = _hosts(census, dict.fromkeys(populated, reach))
        for offer in _offers(hosts, weight, COARSE_ITERATIONS):
            found = offer.worth(weight), reach
            number = offer.laws.number
            best[number] = max(best.get(number, found), found)
    return {k: reach for k, (_, reach) in best.items()}


def _first_reach(census: Census, number: int) -> int:
    counts = census.table[number].sum(0)
    within = (counts[NO_ERROR + errors_of(number, reach)].sum() for reach in REACHES)
    shares = (inside >= FIRST_SHARE * counts.sum() for inside in within)
    return next((reach for reach, enough in zip(REACHES, shares, strict=True) if enough), REACHES[-1])


def _hosts(census: Census, reaches: Reaches) -> list[_Host]:
    hosts: list[_Host] = []
    for number, reach in sorted(reaches.items()):
        counts = census.symbols(number, reach)
        if counts.sum() >= FEWEST:
            levels = quantised((counts + 0.1) / (counts + 0.1).sum(), float(counts.sum()))
            hosts.append(_Host(number, reach, counts, levels, cumulative(levels)))
    return hosts


def _span(hosts: Sequence[_Host]) -> int:
    """Largest prediction error that is a symbol of any class."""
    return max(int(np.abs(host.errors).max()) for host in hosts)


def _price(hosts: Sequence[_Host], histogram: Histogram) -> HistogramPrice | None:
    """Price of the joint histogram; values that no class changes stay as in the finished picture."""
    if not hosts:
        return None
    rest = histogram.finished.astype(float)
    for host in hosts:
        rest[NO_ERROR + host.errors] -= histogram.stego.symbols(host.number, host.reach)
    span = _span(hosts)
    near = slice(NO_ERROR - span, NO_ERROR + span + 1)
    return HistogramPrice(
        weight=histogram.weight,
        occurrences=np.array([float(host.counts.sum()) for host in hosts]),
        rest=rest[near].clip(0) + 0.5,
        target=histogram.host[near] + 0.5,
    )


def _offers(
    hosts: Sequence[_Host], weight: float, iterations: int, price: HistogramPrice | None = None
) -> list[_Offer]:
    """One per class."""
    if not hosts:
        return []
    if math.isinf(weight):
        sizes = [len(host.counts) for host in hosts]
        return [_offer(h, np.full(n, 1 / n), 1.0, np.zeros(n)) for h, n in zip(hosts, sizes, strict=True)]
    span = _span(hosts)
    laws = np.zeros((len(hosts), 2 * span + 1))
    for row, host in enumerate(hosts):
        laws[row, span + host.errors] = host.law
    harm = np.array([_harm(host, weight) for host in hosts])
    costs = harm[:, None, None] * squared_distance(2 * span + 1)
    found, dear = stego_laws(laws, costs, weight, price, iterations=iterations)
    return [
        _offer(host, found[row, span + host.errors], harm[row], dear[span + host.errors])
        for row, host in enumerate(hosts)
    ]


def _harm(host: _Host, weight: float) -> float:
    """Total cost of a squared error in units of its own cost, effects on the second layer included.

    Changes of variance D in the first layer add D / 4 to the variance s of prediction errors in the second.
    Their entropy rises by about D / 8 s, and the lost room must be hidden elsewhere, at mu per nat. Half of
    the pixels are in the first layer, and its laws are those of the second: 1 + mu / 16 (s + 1/12), 1/12
    being the variance of rounding.
    """
    return 1 + weight / 16 / (float(host.law @ host.errors**2) + 1 / 12)


def _offer(host: _Host, law: Law, harm: float, dear: Law) -> _Offer:
    """A squared error costs `harm`, a symbol `dear`.

    Tables are bits to hide, and they displace as many, half of which differ by one level.
    """
    levels = quantised(law, float(host.counts.sum()))
    bounds = cumulative(levels)
    moves = transition(host.bounds, bounds)
    shown = host.counts @ moves
    bits = host.counts @ np.log2(host.law) - shown @ np.log2(np.diff(bounds) / (1 << PRECISION))
    tables = REACH_BITS + packed_bits(host.levels) + packed_bits(levels)
    moved = float(host.counts @ (moves * squared_distance(len(law))).sum(1))
    cost = harm * moved + tables / 2 + float((shown - host.counts) @ dear)
    return _Offer(ClassLaws(host.number, host.reach, host.levels, levels), float(bits) - tables, cost)


def _chosen(offers: Sequence[_Offer], weight: float) -> Design:
    good = [offer for offer in offers if offer.worth(weight) > 0]
    return Design(
        tuple(offer.laws for offer in good),
        math.fsum(offer.bits for offer in good),
        math.fsum(offer.cost for offer in good),
        weight,
    )


def _least(at: Callable[[float], Design], wanted_bits: float, start: float | None) -> Design:
    """Approximately the least mu at which there are enough bits: bracketing, then secants in log mu."""
    if math.isinf(wanted_bits):
        return at(math.inf)
    step = math.log(FIRST_FACTOR if start is None else FIRST_FACTOR ** (1 / 8))
    first = at(FIRST_WEIGHT if start is None else min(start, MOST_WEIGHT))
    low, high = (None, first) if first.bits >= wanted_bits else (first, None)
    while low is None or high is None:
        if low is None and high is not None:
            found = at(high.weight * math.exp(-step))
        elif low is not None and low.weight < MOST_WEIGHT:
            found = at(min(low.weight * math.exp(step), MOST_WEIGHT))
        else:
            return at(math.inf)
        low, high = (low, found) if found.bits >= wanted_bits else (found, high)
        step *= 1.5
    for _ in range(SECANTS):
        if high.bits <= wanted_bits * EXCESS:
            break
        part = (wanted_bits * (1 + EXCESS) / 2 - low.bits) / (high.bits - low.bits)
        part = min(max(part, 0.1), 0.9)
        found = at(low.weight ** (1 - part) * high.weight**part)
        low, high = (low, found) if found.bits >= wanted_bits else (found, high)
    return high
