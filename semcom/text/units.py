"""Units of a text that are kept or dropped whole: words with the blanks before them, single ideographs."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from semcom.text.tasks import Span

LONGEST = 48  # characters of a word that is one unit; longer ones, such as lines without blanks, are split
_UNIT = re.compile(
    r"\s*[\u0e00-\u0eff\u2e80-\u303f\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]"
    r"|\s*[^\s\u0e00-\u0eff\u2e80-\u303f\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]+"
    r"|\s+$"
)


@dataclass(frozen=True)
class Unit:
    """A part of a text that is kept or dropped as a whole.

    Args:
        first: First token of the unit.
        last: The token after its last one.
        text: Characters of the unit, with the white space before it.
    """

    first: int
    last: int
    text: str


def words(text: str, places: Sequence[Span]) -> list[Unit]:
    """Split a text into words with the white space before each; ideographs and Thai letters are units alone.

    A word of more than 48 characters is split where a token begins with a character.

    Args:
        text: The text.
        places: Place of each token: first character, and the one after its last.

    Returns:
        Units in their order; together they are the text, and each token is in one of them.
    """
    starts = [first for first, _ in places]
    ends: list[int] = []  # ends of units in characters
    for match in _UNIT.finditer(text):
        if match.end() - match.start() > LONGEST:
            ends += (at for at in starts if match.start() < at < match.end())
        ends.append(match.end())
    return _grouped(text, places, ends)


def pieces(text: str, places: Sequence[Span]) -> list[Unit]:
    """Split a text into tokens; those that share a character, or are of one word with a digit, stay together.

    Args:
        text: The text.
        places: Place of each token: first character, and the one after its last.

    Returns:
        Units in their order; together they are the text, and each token is in one of them.
    """
    ends, known = [last for _, last in places], words(text, places)
    whole = set()
    for unit in known:
        if any(letter.isdigit() for letter in unit.text):
            whole |= set(ends[unit.first : unit.last - 1]) - {ends[unit.last - 1]}
    return _grouped(text, places, [end for end in ends if end not in whole])


def _grouped(text: str, places: Sequence[Span], ends: Sequence[int]) -> list[Unit]:
    """Units that end at the first end of a token at or after each wanted end, where no token is cut."""
    found: list[Unit] = []
    wanted = sorted({end for end in ends if 0 < end <= len(text)})
    start, first, number, reached = 0, 0, 0, False
    for token, (_, last) in enumerate(places):
        following = places[token + 1][0] if token + 1 < len(places) else len(text)
        while number < len(wanted) and wanted[number] <= last:
            number += 1
            reached = True
        if token + 1 == len(places):
            found.append(Unit(first, token + 1, text[start:]))
        elif reached and following >= last:  # the next token begins another character
            found.append(Unit(first, token + 1, text[start:last]))
            start, first, reached = last, token + 1, False
    return found


def fitted(
    units: Sequence[Unit],
    scores: Sequence[float],
    forced: Sequence[int],
    target: int,
    measure: Callable[[Sequence[int]], int],
) -> list[int]:
    """Units that are kept, so that the joined text has a number of tokens, or as few less as possible.

    Units are taken by score while they fit. Where kept units meet, the tokenizer may split the joined text
    otherwise than the units alone; the choice is then repeated with a corrected number of tokens.

    Args:
        units: Units of a text.
        scores: Score of each; larger means more useful. Of equal ones the earlier is taken.
        forced: Numbers of units that are kept in any case.
        target: Tokens of the joined text.
        measure: Number of tokens of the text of some units.

    Returns:
        Rising numbers of units; more than the target only if the forced ones alone are.
    """
    order = sorted(range(len(units)), key=lambda i: (-scores[i], i))
    best: tuple[int, list[int]] | None = None
    room, tried = target, set()
    while room not in tried and len(tried) < 12:
        tried.add(room)
        chosen = _greedy(units, order, forced, room)
        size = measure(chosen)
        if size <= target and (best is None or size > best[0]):
            best = (size, chosen)
        if size == target:
            break
        room += target - size
    if best is None:  # the joints always add tokens: fewer units, until it fits
        chosen = _greedy(units, order, forced, target)
        droppable = [i for i in reversed(order) if i in set(chosen) - set(forced)]
        for i in droppable:
            if measure(chosen) <= target:
                break
            chosen = [j for j in chosen if j != i]
        return chosen
    return best[1]


def _greedy(units: Sequence[Unit], order: Sequence[int], forced: Sequence[int], room: int) -> list[int]:
    kept = set(forced)
    room -= sum(units[i].last - units[i].first for i in kept)
    for i in order:
        size = units[i].last - units[i].first
        if i not in kept and size <= room:
            kept.add(i)
            room -= size
        if room <= 0:
            break
    for _ in range(8 if room else 0):
        swap = _swap(units, order, kept, set(forced), room)
        if swap is None:
            break
        gain, out, into = swap
        kept = kept - {out} | {into}
        room -= gain
    return sorted(kept)


def _swap(
    units: Sequence[Unit], order: Sequence[int], kept: set[int], forced: set[int], room: int
) -> tuple[int, int, int] | None:
    """Tokens gained by the best exchange of a bad unit for a longer one that still fits, and the two."""
    worst: dict[int, int] = {}
    best: dict[int, int] = {}
    for i in order:
        size = units[i].last - units[i].first
        if i not in kept:
            best.setdefault(size, i)
        elif i not in forced:
            worst[size] = i
    found = [(new - old, worst[old], best[new]) for old in worst for new in best if 0 < new - old <= room]
    return max(found, default=None)


def joined(units: Sequence[Unit], chosen: Sequence[int]) -> str:
    """Text of some units; white space at its beginning is that of the first unit of all.

    Args:
        units: Units of a text.
        chosen: Rising numbers of the units that are kept.

    Returns:
        The text.
    """
    text = "".join(units[i].text for i in chosen)
    return text if not chosen or chosen[0] == 0 else text.lstrip()
