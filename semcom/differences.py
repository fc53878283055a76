"""Differences of texts, word by word, as a part of a page."""

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby

from semcom.codecs.packets import GAP

SHOWN = 1500  # characters of a text
BEFORE = 300  # of these, in front of the first difference
ABRIDGED = 240  # characters of one missing passage
COMPARED = 2000  # words: time goes with the square

LEGEND = (
    '<p class="legend"><del>Struck out</del>: words of the original that are missing. '
    "<ins>Underlined</ins>: words that were not in it. "
    f'<span class="gap">{GAP}</span>: a lost packet.</p>'
)


def text_difference(
    original: str, shown: Mapping[str, str], captions: Mapping[str, str] | None = None
) -> str:
    """A text as it was sent, and as schemes show it with marks at the words that differ.

    Words are what white space separates, and the marks of lost packets. Of long texts about 1500 characters
    around the first difference are shown, and a line says so; of an original to which nothing is compared
    the first 300. Missing words are struck out, inserted ones
    underlined, so that colours are not needed; the style is that of `semcom.report`.

    Args:
        original: What was sent.
        shown: Name to a text, in this order.
        captions: Name to words beside the name, for instance its word error rate; "original" may have some
            too.

    Returns:
        HTML, all names, captions and texts escaped: a legend if there are marks, a card for the original and
        one for each text shown.
    """
    captions = captions or {}
    sent = _Words.of(original)
    starts: list[int] = []
    cards: list[str] = []
    for name, text in shown.items():
        received = _Words.of(text)
        start = sent.before(_common(sent.words, received.words))
        if text.strip() and sent.words != received.words:
            starts.append(len(sent.text(0, start)))
        cards.append(_card(name, captions.get(name, ""), _received(sent, received, start)))
    start = min(starts, default=0)
    excerpt = original[start : start + (SHOWN if starts else BEFORE)]
    body = _body(html.escape(excerpt), start, excerpt, original)
    first = _card("original", captions.get("original", ""), body)
    return f'{LEGEND if starts else ""}<div class="texts">{first}{"".join(cards)}</div>'


@dataclass(frozen=True, slots=True)
class _Words:
    """Words and marks of lost packets, each with the white space behind it; the first word is empty."""

    words: tuple[str, ...]
    spaces: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> "_Words":
        parts = re.findall(rf"(^|{GAP}|[^\s{GAP}]+)(\s*)", text)
        return cls(tuple(word for word, _ in parts), tuple(space for _, space in parts))

    def text(self, start: int, end: int | None = None) -> str:
        pairs = zip(self.words[start:end], self.spaces[start:end], strict=True)
        return "".join(word + space for word, space in pairs)

    def before(self, place: int) -> int:
        """First word of an excerpt that is to show the word at a place."""
        start, room = place, BEFORE
        while start > 0:
            room -= len(self.words[start - 1]) + len(self.spaces[start - 1])
            if room < 0:
                break
            start -= 1
        return start


def _common(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """How many first words agree."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (word, other) in pairs if word != other), min(len(a), len(b)))


def _received(sent: _Words, received: _Words, start: int) -> str:
    text = received.text(0)
    if not text.strip():
        return _note("Nothing is shown: the text received is empty.")
    if sent.words == received.words:
        same = sent.spaces == received.spaces
        return _note(
            "Received without a difference." if same else "All words are those sent; white space differs."
        )
    marked: list[tuple[str, str]] = []
    room = SHOWN
    for mark, piece in _pieces(sent, received, start):
        marked.append((mark, piece[:room]))
        room -= 0 if mark == "del" else len(piece)
        if room <= 0:
            break
    excerpt = "".join(piece for mark, piece in marked if mark != "del")
    passages = (
        _marked(mark, "".join(piece for _, piece in group))
        for mark, group in groupby(marked, lambda pair: pair[0])
    )
    return _body("".join(passages), len(received.text(0, start)), excerpt, text)


def _pieces(sent: _Words, received: _Words, start: int) -> Iterator[tuple[str, str]]:
    """Words in order with their marks: "del", "ins", "gap", or none where both texts agree."""
    a, b = sent.words[start : start + COMPARED], received.words[start : start + COMPARED]
    steps = SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
    if max(len(sent.words), len(received.words)) > start + COMPARED and len(steps) > 2:
        steps = steps[:-1]  # the end of what is compared is no end of the texts
    for tag, i, i_end, j, j_end in steps:
        if tag in ("delete", "replace"):
            yield "del", sent.text(start + i, start + i_end)
        for k in range(start + j, start + j_end):
            mark = "" if tag == "equal" else "gap" if received.words[k] == GAP else "ins"
            yield mark, received.text(k, k + 1)


def _marked(mark: str, passage: str) -> str:
    escaped = html.escape(passage)
    if mark == "gap":
        return f'<span class="gap">{escaped.rstrip()}</span>{escaped[len(escaped.rstrip()) :]}'
    if mark == "del" and len(passage) > ABRIDGED:
        return f'<del>{html.escape(passage[:ABRIDGED])}</del> <span class="more">[and more]</span> '
    return f"<{mark}>{escaped}</{mark}>" if mark else escaped


def _body(marked: str, start: int, excerpt: str, text: str) -> str:
    """An excerpt, below a line that says which part of the text it is."""
    cut = ""
    if len(excerpt) < len(text):
        cut = _note(f"Characters {start + 1:,} to {start + len(excerpt):,} of {len(text):,}.")
    return f'{cut}<div class="words" dir="auto">{marked}</div>'


def _note(sentence: str) -> str:
    return f'<p class="note">{html.escape(sentence)}</p>'


def _card(name: str, caption: str, body: str) -> str:
    beside = f" <small>{html.escape(caption)}</small>" if caption else ""
    return f'<article class="text"><h4>{html.escape(name)}{beside}</h4>{body}</article>'
