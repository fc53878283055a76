"""Laws as integers: how host and stego laws are written into a picture, and which ones are chosen.

A law is sent as levels q_j, frequencies being 2^(-q_j / 8) of the greatest; the tables of the coder follow
from them in integer arithmetic.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from semcom.errors import CorruptStego
from semcom.hiding.ans import PRECISION
from semcom.theory.data_hiding import stego_laws

LEVELS_PER_OCTAVE = 8
MOST_LEVEL = PRECISION * LEVELS_PER_OCTAVE - 1
RICE_BITS = 2
ITERATIONS = 100
WEIGHTS = (0.02, 300.0)  # of an entropy, squared error per nat
FEWEST = 50  # symbols of a class that is used
# 2^(-i / 8), i = 0..7, of 2^24
POWERS = (16777216, 15384775, 14107901, 12937002, 11863283, 10878679, 9975792, 9147842)
LEVEL = np.arange(MOST_LEVEL + 1)
APART = np.abs(np.arange(-MOST_LEVEL, MOST_LEVEL + 1))

Levels = Int[np.ndarray, " symbols"]
Bounds = Int[np.ndarray, " bounds"]
Tables = Int[np.ndarray, "laws bounds"]


def frequencies(levels: Levels) -> Levels:
    """Of sum 2^16, none below 1, in integer arithmetic."""
    weights = [POWERS[int(q) % LEVELS_PER_OCTAVE] >> (int(q) // LEVELS_PER_OCTAVE) for q in levels]
    total = sum(weights)
    free = (1 << PRECISION) - len(weights)
    counts = [1 + weight * free // total for weight in weights]
    counts[counts.index(max(counts))] += (1 << PRECISION) - sum(counts)
    return np.array(counts, dtype=np.int64)


def cumulative(levels: Levels) -> Bounds:
    """Frequencies added up, from 0 to 2^16."""
    return np.concatenate([[0], np.cumsum(frequencies(levels))])


def quantised(law: Float[np.ndarray, " symbols"], occurrences: float) -> Levels:
    """Levels near a law, as short as pays.

    Sent as s_j = s 2^(-q_j / 8), s the greatest p_j, a law costs n (s_j - p_j log s_j) / ln 2 bits per
    symbol j beyond what cannot be helped, and a level that is d from the guess of `packed` about |d| bits.

    Args:
        law: p.
        occurrences: n, symbols of this law.
    """
    levels = np.zeros(len(law), dtype=np.int64)
    shares = law.max() * 2.0 ** (-LEVEL / LEVELS_PER_OCTAVE)
    cost = occurrences * (shares / np.log(2) + law[:, None] * LEVEL / LEVELS_PER_OCTAVE)
    for place, guess in _walk(levels):
        levels[place] = (cost[place] + APART[MOST_LEVEL - guess : 2 * MOST_LEVEL + 1 - guess]).argmin()
    return levels


def packed(levels: Levels) -> str:
    """Bits: Rice codes of differences, outwards from straight lines, and of one side from the other."""
    folded = _folded(levels)
    best = min(range(1 << RICE_BITS), key=lambda k: _length(folded, k))
    return f"{best:0{RICE_BITS}b}" + "".join(_rice(value, best) for value in folded)


def packed_bits(levels: Levels) -> int:
    """Length of `packed`."""
    folded = _folded(levels)
    return RICE_BITS + min(_length(folded, k) for k in range(1 << RICE_BITS))


def unpacked(bits: "Bits", symbols: int) -> Levels:
    """The opposite of `packed`.

    Raises:
        CorruptStego: No levels, or the end of the bits.
    """
    k = bits.number(RICE_BITS)
    levels = np.zeros(symbols, dtype=np.int64)
    for place, guess in _walk(levels):
        folded = bits.rice(k)
        levels[place] = guess + (folded // 2 if folded % 2 == 0 else -(folded + 1) // 2)
        if not 0 <= levels[place] <= MOST_LEVEL:
            raise CorruptStego("the picture's tables are damaged; get it again, without any change to it")
    return levels


class Bits:
    """Reads bits from the front.

    Args:
        data: Bytes, the first bit of each being the most significant.
    """

    def __init__(self, data: bytes) -> None:
        self._bits = "".join(f"{byte:08b}" for byte in data)
        self._at = 0

    def number(self, bits: int) -> int:
        """Of so many bits.

        Raises:
            CorruptStego: There are fewer.
        """
        taken = self._bits[self._at : self._at + bits]
        if len(taken) < bits:
            raise CorruptStego("the picture's header ends too early; get it again, without any change to it")
        self._at += bits
        return int(taken or "0", 2)

    def rice(self, k: int) -> int:
        """A Rice code of parameter k."""
        quotient = 0
        while self.number(1):
            quotient += 1
        return (quotient << k) | self.number(k)


def to_bytes(bits: str) -> bytes:
    """Zeros appended."""
    bits += "0" * (-len(bits) % 8)
    return int("1" + bits, 2).to_bytes(len(bits) // 8 + 1, "big")[1:]


@dataclass(frozen=True, eq=False)
class Laws:
    """The laws of the classes in use; symbols are prediction errors -reach..reach.

    Args:
        reach: T.
        classes: Numbers of the classes, rising.
        host: Levels of p per class, over 2 T + 1 symbols.
        stego: Levels of r.
    """

    reach: int
    classes: tuple[int, ...]
    host: tuple[Levels, ...]
    stego: tuple[Levels, ...]

    def tables(self) -> tuple[Tables, Tables]:
        """Cumulative frequencies of p and of r, a row per class in use."""
        width = 2 * self.reach + 2
        p, r = (
            np.array([cumulative(levels) for levels in side], dtype=np.int64).reshape(-1, width)
            for side in (self.host, self.stego)
        )
        return p, r

    def bits(self, all_classes: int) -> str:
        """As they are sent: reach in 6 bits, a flag per class, tables."""
        flags = "".join("1" if k in self.classes else "0" for k in range(all_classes))
        tables = (packed(levels) for pair in zip(self.host, self.stego, strict=True) for levels in pair)
        return f"{self.reach:06b}{flags}{''.join(tables)}"

    @classmethod
    def read(cls, bits: Bits, all_classes: int) -> "Laws":
        """The opposite.

        Raises:
            CorruptStego: Bits that are no laws.
        """
        reach = bits.number(6)
        classes = tuple(k for k in range(all_classes) if bits.number(1))
        levels = [unpacked(bits, 2 * reach + 1) for _ in range(2 * len(classes))]
        return cls(reach, classes, tuple(levels[::2]), tuple(levels[1::2]))


def coupling(p: Bounds, r: Bounds) -> Float[np.ndarray, "symbols symbols"]:
    """Share of the slots that lie in the intervals of x in p and of y in r: the monotone coupling.

    Args:
        p: Cumulative frequencies.
        r: The same.
    """
    inside = np.minimum(p[1:, None], r[1:]) - np.maximum(p[:-1, None], r[:-1])
    return inside.clip(0) / (1 << PRECISION)


def squared_distance(symbols: int) -> Float[np.ndarray, "symbols symbols"]:
    """(i - j)^2."""
    places = np.arange(symbols, dtype=float)
    return (places[:, None] - places) ** 2


def transition(p: Bounds, r: Bounds) -> Float[np.ndarray, "symbols symbols"]:
    """w(y|x) of the monotone coupling, from cumulative frequencies."""
    return coupling(p, r) * (1 << PRECISION) / np.diff(p)[:, None]


@dataclass(frozen=True, eq=False)
class Design:
    """Laws and what they promise.

    Args:
        laws: Theirs.
        bits: Hidden, less what the tables take.
        cost: Squared error + gamma KL(r || p), added up over all pixels.
    """

    laws: Laws
    bits: float
    cost: float


def design(
    counts: Int[np.ndarray, "classes symbols"], wanted_bits: float, kl_weight: float, bisections: int = 16
) -> Design:
    """The laws that hide so many bits for the least squared error: all classes pay the same for a bit.

    Args:
        counts: Of the prediction errors -T..T in every class.
        wanted_bits: Infinite for as many as there is room for.
        kl_weight: gamma, of KL(r || p), in squared levels per nat; not negative.
        bisections: Of mu.
    """
    reach = counts.shape[1] // 2
    numbers = np.flatnonzero(counts.sum(1) >= FEWEST)
    if not len(numbers):
        return Design(Laws(reach, (), (), ()), 0.0, 0.0)
    counts = counts[numbers]
    hosts = [quantised((row + 0.1) / (row + 0.1).sum(), float(row.sum())) for row in counts]
    p_bounds = np.array([cumulative(levels) for levels in hosts])
    p = np.diff(p_bounds) / (1 << PRECISION)
    host_prices = [packed_bits(levels) for levels in hosts]
    cost = squared_distance(counts.shape[1])
    host_bits = -(counts * np.log2(p)).sum(1)

    def at(weight: float) -> Design:
        if np.isinf(weight):
            r = np.full(p.shape, 1 / p.shape[1])
        else:
            r = stego_laws(p, cost, weight, kl_weight, iterations=ITERATIONS)
        chosen: list[int] = []
        stego: list[Levels] = []
        bits = error = 0.0
        for k, law in enumerate(r):
            levels = quantised(law, float(counts[k].sum()))
            bounds = cumulative(levels)
            w = transition(p_bounds[k], bounds)
            shown = counts[k] @ w
            gain = -(shown * np.log2(np.diff(bounds) / (1 << PRECISION))).sum() - host_bits[k]
            moved = float((counts[k] @ (w * cost)).sum())
            if kl_weight:
                q = np.diff(bounds) / (1 << PRECISION)
                moved += kl_weight * float(counts[k].sum() * (q * np.log(q / p[k])).sum())
            price = host_prices[k] + packed_bits(levels)
            # What is left out here must be hidden elsewhere, at `weight` per nat; a bit sent costs 1/2.
            worth = np.inf if np.isinf(weight) else weight * np.log(2)
            if gain > price and (np.isinf(worth) or worth * (gain - price) > moved + price / 2):
                chosen.append(k)
                stego.append(levels)
                bits += gain - price
                error += moved + price / 2
        laws = Laws(
            reach, tuple(int(numbers[k]) for k in chosen), tuple(hosts[k] for k in chosen), tuple(stego)
        )
        return Design(laws, bits, error)

    if np.isinf(wanted_bits):
        return at(np.inf)
    low, high = np.log(WEIGHTS)
    best = at(float(np.exp(high)))
    if best.bits < wanted_bits:
        return at(np.inf)
    for _ in range(bisections):
        middle = (low + high) / 2
        found = at(float(np.exp(middle)))
        if found.bits >= wanted_bits:
            best, high = found, middle
        else:
            low = middle
    return best


def _walk(levels: Levels) -> Iterator[tuple[int, int]]:
    """Places from the middle to the right, then to the left, and guesses from the places before."""
    middle = len(levels) // 2
    for i in range(middle + 1):
        far, near = (int(levels[max(middle + i - back, middle)]) for back in (2, 1))
        guess = 2 * near - far if i > 1 else near if i else 0
        yield middle + i, min(max(guess, 0), MOST_LEVEL)
    for i in range(1, middle + 1):
        lean = int(levels[middle - i + 1]) - int(levels[middle + i - 1])
        yield middle - i, min(max(int(levels[middle + i]) + lean, 0), MOST_LEVEL)


def _folded(levels: Levels) -> list[int]:
    """Differences from the guesses, as numbers that are not negative."""
    differences = (int(levels[place]) - guess for place, guess in _walk(levels))
    return [2 * d if d >= 0 else -2 * d - 1 for d in differences]


def _length(folded: list[int], k: int) -> int:
    return sum(value >> k for value in folded) + (1 + k) * len(folded)


def _rice(value: int, k: int) -> str:
    low = f"{value & ((1 << k) - 1):0{k}b}" if k else ""
    return "1" * (value >> k) + "0" + low
