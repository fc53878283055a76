"""Integer representation of laws: how host and stego laws are written into a picture.

A law is sent as levels q_j; its frequencies are 2^(-q_j / 8) times the largest. The tables of the coder
follow
from the levels in integer arithmetic.
"""

import typing
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from channels.compiled import compiled
from semcom.errors import CorruptStego
from semcom.hiding.ans import PRECISION

LEVELS_PER_OCTAVE = 8
MOST_LEVEL = PRECISION * LEVELS_PER_OCTAVE - 1
RICE_BITS = 2
# 2^(-i / 8), i = 0..7, of 2^24
POWERS = np.array((16777216, 15384775, 14107901, 12937002, 11863283, 10878679, 9975792, 9147842))
REACHES = (1, 2, 3, 5, 8, 12, 18, 27, 40, 60)  # T, of laws over -T..T
REACH_BITS = 4

Levels = Int[np.ndarray, " symbols"]
Bounds = Int[np.ndarray, " bounds"]
Tables = Int[np.ndarray, "laws bounds"]


def frequencies(levels: Levels) -> Levels:
    """Integer frequencies of a law, of sum 2^16 and at least 1 each.

    Args:
        levels: Levels q_j, [symbols].

    Returns:
        Frequencies, [symbols].
    """
    weights = POWERS[levels % LEVELS_PER_OCTAVE] >> (levels // LEVELS_PER_OCTAVE)
    free = (1 << PRECISION) - len(weights)
    counts = 1 + weights * free // weights.sum()
    counts[counts.argmax()] += (1 << PRECISION) - counts.sum()
    return counts


def cumulative(levels: Levels) -> Bounds:
    """Cumulative frequencies of a law, from 0 to 2^16.

    Args:
        levels: Levels q_j, [symbols].

    Returns:
        Cumulative frequencies, [symbols + 1].
    """
    return np.concatenate([[0], np.cumsum(frequencies(levels))])


def quantised(law: Float[np.ndarray, " symbols"], occurrences: float) -> Levels:
    """Quantise a law to levels with a short description, where the shorter description pays.

    Sent as s_j = s 2^(-q_j / 8), s the largest p_j, a law costs n (s_j - p_j log s_j) / ln 2 bits per symbol
    j in excess of its entropy, and a level that differs by d from the prediction of `packed` costs about |d|
    bits.

    Args:
        law: p, [symbols].
        occurrences: n, number of symbols that follow this law.

    Returns:
        Levels, [symbols].
    """
    return _quantised(law, occurrences)


@compiled()
@typing.no_type_check
def _quantised(law, occurrences):
    levels = np.zeros(len(law), np.int64)
    greatest = law.max()
    for step in range(len(law)):
        guess, place = _guess(levels, step), _place(len(law), step)
        least = np.inf
        for level in range(MOST_LEVEL + 1):
            share = greatest * 2.0 ** (-level / LEVELS_PER_OCTAVE)
            cost = occurrences * (share / np.log(2) + law[place] * level / LEVELS_PER_OCTAVE)
            cost += abs(level - guess)
            if cost < least:
                least = cost
                levels[place] = level
    return levels


def packed(levels: Levels) -> str:
    """Code levels as bits: Rice codes of differences from linear extrapolation, outwards from the middle.

    Args:
        levels: Levels q_j, [symbols].

    Returns:
        Bits as a string of "0" and "1".
    """
    folded = _folded(levels)
    best = int(np.argmin(_lengths(folded)))
    return f"{best:0{RICE_BITS}b}" + "".join(_rice(int(value), best) for value in folded)


def packed_bits(levels: Levels) -> int:
    """Length in bits of the code that `packed` returns.

    Args:
        levels: Levels q_j, [symbols].

    Returns:
        Number of bits.
    """
    return RICE_BITS + int(min(_lengths(_folded(levels))))


def unpacked(bits: "Bits", symbols: int) -> Levels:
    """Decode levels, the inverse of `packed`.

    Args:
        bits: Reader of the bits.
        symbols: Number of levels.

    Returns:
        Levels, [symbols].

    Raises:
        CorruptStego: The bits are not valid levels, or they end too early.
    """
    k = bits.number(RICE_BITS)
    levels = np.zeros(symbols, dtype=np.int64)
    for step in range(symbols):
        place, guess = _place(symbols, step), _guess(levels, step)
        folded = bits.rice(k)
        levels[place] = guess + (folded // 2 if folded % 2 == 0 else -(folded + 1) // 2)
        if not 0 <= levels[place] <= MOST_LEVEL:
            raise CorruptStego("the picture's tables are damaged; get it again, without any change to it")
    return levels


class Bits:
    """Reader of bits from the front of a byte string.

    Args:
        data: Bytes; the first bit of each is the most significant.
    """

    def __init__(self, data: bytes) -> None:
        self._bits = "".join(f"{byte:08b}" for byte in data)
        self._at = 0

    def number(self, bits: int) -> int:
        """Read an unsigned integer.

        Args:
            bits: Size of the integer in bits.

        Returns:
            The integer.

        Raises:
            CorruptStego: Fewer bits are left.
        """
        taken = self._bits[self._at : self._at + bits]
        if len(taken) < bits:
            raise CorruptStego("the picture's header ends too early; get it again, without any change to it")
        self._at += bits
        return int(taken or "0", 2)

    def rice(self, k: int) -> int:
        """Read a Rice code.

        Args:
            k: Parameter of the code: the number of low bits sent verbatim.

        Returns:
            The integer, at least 0.

        Raises:
            CorruptStego: The bits end too early.
        """
        quotient = 0
        while self.number(1):
            quotient += 1
        return (quotient << k) | self.number(k)


def to_bytes(bits: str) -> bytes:
    """Convert a string of bits to bytes, with zeros appended.

    Args:
        bits: String of "0" and "1".

    Returns:
        The bytes.
    """
    bits += "0" * (-len(bits) % 8)
    return int("1" + bits, 2).to_bytes(len(bits) // 8 + 1, "big")[1:]


@dataclass(frozen=True, eq=False)
class ClassLaws:
    """Host and stego law of one class; symbols are prediction errors -T..T.

    Args:
        number: Number of the class.
        reach: T, one of `REACHES`.
        host: Levels of p, [2 T + 1].
        stego: Levels of r, [2 T + 1].
    """

    number: int
    reach: int
    host: Levels
    stego: Levels


def tables(laws: Sequence[ClassLaws]) -> tuple[Tables, Tables]:
    """Tables of cumulative frequencies for the coder, one row per class; shorter laws are padded.

    Args:
        laws: Laws of the classes in use.

    Returns:
        Tables of p and of r, int64 [classes, symbols + 1].
    """
    width = 2 * max((of.reach for of in laws), default=0) + 2
    p, r = np.full((2, len(laws), width), 1 << PRECISION, dtype=np.int64)
    for row, of in enumerate(laws):
        p[row, : 2 * of.reach + 2] = cumulative(of.host)
        r[row, : 2 * of.reach + 2] = cumulative(of.stego)
    return p, r


def written(laws: Sequence[ClassLaws], all_classes: int) -> str:
    """Code the laws of all classes as bits: a flag per class, then T, p and r of each class in use.

    Args:
        laws: Laws of the classes in use.
        all_classes: Number of classes, used or not.

    Returns:
        Bits as a string of "0" and "1".
    """
    numbers = {of.number for of in laws}
    flags = "".join("1" if k in numbers else "0" for k in range(all_classes))
    bodies = (
        f"{REACHES.index(of.reach):0{REACH_BITS}b}{packed(of.host)}{packed(of.stego)}"
        for of in sorted(laws, key=lambda of: of.number)
    )
    return flags + "".join(bodies)


def read_laws(bits: Bits, all_classes: int) -> tuple[ClassLaws, ...]:
    """Decode the laws of all classes, the inverse of `written`.

    Args:
        bits: Reader of the bits.
        all_classes: Number of classes, used or not.

    Returns:
        Laws of the classes in use.

    Raises:
        CorruptStego: The bits do not describe laws.
    """
    numbers = [k for k in range(all_classes) if bits.number(1)]
    found: list[ClassLaws] = []
    for number in numbers:
        index = bits.number(REACH_BITS)
        if index >= len(REACHES):
            raise CorruptStego("the picture's tables are damaged; get it again, without any change to it")
        symbols = 2 * REACHES[index] + 1
        host = unpacked(bits, symbols)
        found.append(ClassLaws(number, REACHES[index], host, unpacked(bits, symbols)))
    return tuple(found)


def coupling(p: Bounds, r: Bounds) -> Float[np.ndarray, "symbols symbols"]:
    """Monotone coupling of two laws: share of the slots in the intervals of x in p and of y in r.

    Args:
        p: Cumulative frequencies of the host law, [symbols + 1].
        r: Cumulative frequencies of the stego law, [symbols + 1].

    Returns:
        Joint law, [symbols, symbols].
    """
    inside = np.minimum(p[1:, None], r[1:]) - np.maximum(p[:-1, None], r[:-1])
    return inside.clip(0) / (1 << PRECISION)


def transition(p: Bounds, r: Bounds) -> Float[np.ndarray, "symbols symbols"]:
    """Transition probabilities w(y|x) of the monotone coupling; rows of frequency 0 are 0.

    Args:
        p: Cumulative frequencies of the host law, [symbols + 1].
        r: Cumulative frequencies of the stego law, [symbols + 1].

    Returns:
        Matrix [symbols, symbols].
    """
    return coupling(p, r) * (1 << PRECISION) / np.maximum(np.diff(p), 1)[:, None]


@compiled()
@typing.no_type_check
def _place(symbols, step):
    """Order in which levels are coded: from the middle to the right, then to the left."""
    middle = symbols // 2
    return middle + step if step <= middle else 2 * middle - step


@compiled()
@typing.no_type_check
def _guess(levels, step):
    """Linear extrapolation of each level from those coded before; the left side reuses the right's slope."""
    middle = len(levels) // 2
    if step == 0:
        return 0
    if step <= middle:
        near = levels[middle + step - 1]
        guess = 2 * near - levels[middle + step - 2] if step > 1 else near
    else:
        i = step - middle
        guess = levels[middle + i] + levels[middle - i + 1] - levels[middle + i - 1]
    return min(max(guess, 0), MOST_LEVEL)


@compiled()
@typing.no_type_check
def _folded(levels):
    """Differences from the extrapolation, mapped to non-negative integers."""
    folded = np.zeros(len(levels), np.int64)
    for step in range(len(levels)):
        d = levels[_place(len(levels), step)] - _guess(levels, step)
        folded[step] = 2 * d if d >= 0 else -2 * d - 1
    return folded


@compiled()
@typing.no_type_check
def _lengths(folded):
    """Total code length in bits for each Rice parameter."""
    lengths = np.zeros(1 << RICE_BITS, np.int64)
    for k in range(len(lengths)):
        lengths[k] = (folded >> k).sum() + (1 + k) * len(folded)
    return lengths


def _rice(value: int, k: int) -> str:
    low = f"{value & ((1 << k) - 1):0{k}b}" if k else ""
    return "1" * (value >> k) + "0" + low
