"""Sentences and blocks: a text cut where it may be cut, with sizes in tokens."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from semcom.errors import InvalidOption, InvalidSource
from semcom.modalities.text import TEXT

Size = Callable[[str], int]
"""Number of tokens of a text, such as `word_count` or the length of a tokenizer's answer."""

_WORD = re.compile(r"\w+|[^\w\s]")
_OPENING = r"\"'\u201c\u2018\u00ab(\[_"
_CLOSING = r"\"'\u201d\u2019\u00bb)\]"
_BREAK = re.compile(  # a full stop, closing marks and white space before a capital or digit; or a blank line
    rf"(?<=[.!?\u2026])[{_CLOSING}]*(\s+)(?=[{_OPENING}]*[^\W_a-z])"
    r"|[\u3002\uff01\uff1f][\u201d\u2019\u300d\u300f\uff09]*(\s*)(?=\S)|(\n\s*\n)"
)
_ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Prof|Rev|Messrs|vs|No|Fig)|\b[A-Z])\.$")


@dataclass(frozen=True)
class Sentence:
    """A sentence, or a piece of one that is too long, at its place in a text.

    Args:
        text: Characters from `start` to `end`, as they are.
        lead: What stands before it when sentences are joined: a blank, a blank line, or nothing.
        start: First character.
        end: One past the last character.
        tokens: Size of lead and text.
    """

    text: str
    lead: str
    start: int
    end: int
    tokens: int


def word_count(text: str) -> int:
    """Count words and punctuation marks, a stand-in for the tokens of a language model.

    Args:
        text: Any text.

    Returns:
        Number of runs of letters and digits, plus the number of other visible characters.

    Example:
        >>> word_count("It rained, all day.")
        6
    """
    return sum(1 for _ in _WORD.finditer(text))


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Find sentences: they end at . ! ? before a capital letter, at CJK full stops, and at blank lines.

    Initials and common English abbreviations end none.

    Args:
        text: Any text.

    Returns:
        First character of each sentence, and one past its last; white space between them is in none.

    Example:
        >>> text = "Mr. Bell left. Did it rain? No."
        >>> [text[a:b] for a, b in sentence_spans(text)]
        ['Mr. Bell left.', 'Did it rain?', 'No.']
    """
    cuts = [0]
    for found in _BREAK.finditer(text):
        group = next(i for i in (1, 2, 3) if found.group(i) is not None)
        before = text[max(0, found.start(group) - 12) : found.start(group)]
        if group == 1 and "\n\n" not in found.group(1) and _ABBREVIATION.search(before):
            continue
        cuts.append(found.end(group))
    spans = []
    for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True):
        part = text[start:end]
        if part.strip():
            first = start + len(part) - len(part.lstrip())
            spans.append((first, first + len(part.strip())))
    return spans


def sentences_of(text: str, size: Size = word_count, most_tokens: int = 96) -> list[Sentence]:
    """Cut a text into sentences; one of more than `most_tokens` is cut between words, or else within one.

    Args:
        text: Any text with a visible character.
        size: Number of tokens of a text.
        most_tokens: Largest size of a piece, at least 8.

    Returns:
        Sentences in their order; joined with their leads they are the text with its white space collapsed
        between sentences.

    Raises:
        InvalidSource: The text is empty or all white space, or has a lone surrogate.
        InvalidOption: The largest size is below 8.
    """
    if most_tokens < 8:
        raise InvalidOption(f"sentences of at most {most_tokens} tokens: choose at least 8")
    if not TEXT.check(text).strip():
        raise InvalidSource("a text without any visible character: there is nothing to compress")
    found: list[Sentence] = []
    last = 0
    for start, end in sentence_spans(text):
        gap = text[last:start]
        lead = "" if not found else "\n\n" if gap.count("\n") > 1 else " "
        if found and not gap:  # CJK sentences follow each other without a blank
            lead = ""
        for first, after in _pieces(text, start, end, size, most_tokens):
            if first > start:
                lead = " " if text[first - 1].isspace() else ""
            part = text[first:after]
            found.append(Sentence(part, lead, first, after, size(lead + part)))
        last = end
    return found


def packed(sentences: Sequence[Sentence], most_tokens: int) -> list[range]:
    """Pack consecutive sentences into blocks.

    Args:
        sentences: Sentences in their order.
        most_tokens: Largest size of a block; a sentence that is larger is a block of its own.

    Returns:
        Numbers of the sentences of each block.
    """
    blocks, first, total = [], 0, 0
    for number, sentence in enumerate(sentences):
        if number > first and total + sentence.tokens > most_tokens:
            blocks.append(range(first, number))
            first, total = number, 0
        total += sentence.tokens
    if first < len(sentences):
        blocks.append(range(first, len(sentences)))
    return blocks


def joined(sentences: Sequence[Sentence]) -> str:
    """Join sentences by their leads.

    Args:
        sentences: Sentences, all or some of a text.

    Returns:
        The text, without white space at its beginning.
    """
    return "".join(part.lead + part.text for part in sentences).lstrip()


def shortened(text: str, most_tokens: int, size: Size = word_count) -> str:
    """Cut the end off a text so that it fits, at a blank if there is one.

    Args:
        text: Any text.
        most_tokens: Largest size.
        size: Number of tokens of a text.

    Returns:
        The longest beginning found that fits, by bisection.
    """
    if size(text) <= most_tokens:
        return text
    fits, over = 0, len(text)
    while over - fits > 1:
        middle = (fits + over) // 2
        if size(text[:middle]) <= most_tokens:
            fits = middle
        else:
            over = middle
    head = text[:fits]
    whole = text[fits].isspace() or head[-1:].isspace() or len(head.split()) < 2
    return head.rstrip() if whole else head.rsplit(None, 1)[0]


def _pieces(text: str, start: int, end: int, size: Size, most: int) -> Iterator[tuple[int, int]]:
    """Halve a sentence until each piece fits; at the blank nearest to the middle, if one is near."""
    if end - start < 2 or size(text[start:end]) <= most:
        yield start, end
        return
    middle, reach = (start + end) // 2, (end - start) // 4
    right = next((i for i in range(middle, middle + reach) if text[i].isspace()), None)
    left = next((i for i in range(middle, middle - reach, -1) if text[i].isspace()), None)
    near = [i for i in (left, right) if i is not None]
    cut = min(near, key=lambda i: abs(i - middle)) if near else middle
    yield from _pieces(text, start, cut, size, most)
    yield from _pieces(text, cut + (1 if near else 0), end, size, most)
