"""Differences of texts, word by word, as a part of a page."""

import html
import re
from collections import deque
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from itertools import groupby, islice, zip_longest

from semcom.codecs.packets import GAP
from semcom.text.restoration import CLOSING, OPENING

SHOWN = 1500  # characters of a text
BEFORE = 300  # of these, in front of the first difference
ABRIDGED = 240  # characters of one missing passage
COMPARED = 2000  # words: time goes with the square

_GUESS = f"{OPENING}[^{OPENING}{CLOSING}]*{CLOSING}"
_WORD = re.compile(rf"(^|{GAP}|[^\s{GAP}]+)(\s*)")  # with the white space behind; an empty one in front
_WORD_OR_GUESS = re.compile(rf"(^|{_GUESS}|{GAP}|(?:(?!{_GUESS})[^\s{GAP}])+)(\s*)")
LEGEND = (
    '<p class="legend"><del>Struck out</del>: words of the original that are missing. '
    "<ins>Underlined</ins>: words that were not in it. "
    f'<span class="gap">{GAP}</span>: a lost packet.</p>'
)

GUESSES = (
    f'<p class="legend"><span class="guess">{OPENING}In brackets{CLOSING}</span>: guesses of the receiver '
    "for what was lost. They were not received.</p>"
)


def text_difference(
    original: str,
    shown: Mapping[str, str],
    captions: Mapping[str, str] | None = None,
    colors: Mapping[str, str] | None = None,
) -> str:
    """A text as it was sent, and as schemes show it with marks at the words that differ.

    Words are what white space separates, and the marks of lost packets. Of long texts about 1500 characters
    around the first difference are shown, and a line says so; of an original to which nothing is compared
    the first 300. Missing words are struck out, inserted ones underlined, so that colours are not needed.
    Guesses of `semcom.text.restoration` are marked as such, and never taken for words of the original; an
    original with such brackets of its own has none. The style is that of `semcom.report`.

    Args:
        original: What was sent.
        shown: Name to a text, in this order.
        captions: Name to words beside the name, for instance its word error rate; "original" may have some
            too.
        colors: Name to the colour of its mark, "#rrggbb"; names without have none.

    Returns:
        HTML, all names, captions and texts escaped: legends of the marks that there are, a card for the
        original and one for each text shown.
    """
    captions = captions or {}
    starts: list[int] = []
    cards: list[str] = []
    for name, text in shown.items():
        body, start = _received(original, text)
        starts += [] if start is None else [start]
        cards.append(_card(name, captions.get(name, ""), body, (colors or {}).get(name, "")))
    start = min(starts, default=0)
    excerpt = original[start : start + (SHOWN if starts else BEFORE)]
    body = _body(html.escape(excerpt), start, excerpt, original)
    first = _card("original", captions.get("original", ""), body)
    legends = (LEGEND if starts else "") + (GUESSES if any('"guess"' in card for card in cards) else "")
    return f'{legends}<div class="texts">{first}{"".join(cards)}</div>'


def _received(original: str, text: str) -> tuple[str, int | None]:
    """What a card says of a text, and the character of the original at which its excerpt begins, if any."""
    if text == original:
        return _note("Received without a difference."), None
    if not text.strip():
        return _note("Nothing is shown: the text received is empty."), None
    starts = _starts(original, text)
    if starts is None:
        return _note("All words are those sent; white space differs."), None
    marked: list[tuple[str, str]] = []
    room = SHOWN
    for mark, piece in _pieces(original, text, *starts):
        marked.append((mark, piece[:room]))
        room -= 0 if mark == "del" else len(piece)
        if room <= 0:
            break
    excerpt = "".join(piece for mark, piece in marked if mark != "del")
    passages = (
        _marked(mark, "".join(piece for _, piece in group))
        for mark, group in groupby(marked, lambda pair: pair[0])
    )
    return _body("".join(passages), starts[1], excerpt, text), starts[0]


def _starts(original: str, text: str) -> tuple[int, int] | None:
    """Characters of both at which excerpts begin that show the first difference; None if all words agree."""
    starts = deque([(0, 0)])
    for sent, received in zip_longest(_WORD.finditer(original), _words_of(original).finditer(text)):
        if sent is None or received is None or sent[1] != received[1]:
            return starts[0]
        starts.append((sent.end(), received.end()))
        while sent.end() - starts[0][0] > BEFORE:
            starts.popleft()
    return None


def _pieces(original: str, text: str, sent_from: int, received_from: int) -> Iterator[tuple[str, str]]:
    """Words in order with their marks: "del", "ins", "gap", "guess", or none where both texts agree."""
    read = _words_of(original)
    sent, received = (
        list(islice(pattern.finditer(whole, start), COMPARED))
        for pattern, whole, start in ((_WORD, original, sent_from), (read, text, received_from))
    )
    words = ([match[1] for match in matches] for matches in (sent, received))
    steps = SequenceMatcher(None, *words, autojunk=False).get_opcodes()
    if len(steps) > 2 and max(len(sent), len(received)) == COMPARED:
        steps = steps[:-1]  # the end of what is compared is no end of the texts
    for tag, i, i_end, j, j_end in steps:
        if tag in ("delete", "replace"):
            yield "del", "".join(match[0] for match in sent[i:i_end])
        for match in received[j:j_end]:
            guess = read is _WORD_OR_GUESS and match[1].startswith(OPENING) and match[1].endswith(CLOSING)
            other = "gap" if match[1] == GAP else "guess" if guess else "ins"
            yield "" if tag == "equal" else other, match[0]


def _words_of(original: str) -> re.Pattern[str]:
    """Words of what is shown, guesses as one word each; receivers guess nothing in texts with brackets."""
    return _WORD if OPENING in original or CLOSING in original else _WORD_OR_GUESS


def _marked(mark: str, passage: str) -> str:
    escaped = html.escape(passage)
    if mark in ("gap", "guess"):
        return f'<span class="{mark}">{escaped.rstrip()}</span>{escaped[len(escaped.rstrip()) :]}'
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


def _card(name: str, caption: str, body: str, color: str = "") -> str:
    beside = f" <small>{html.escape(caption)}</small>" if caption else ""
    style = f' style="border-color: {html.escape(color)}"' if color else ""
    return f'<article class="text"{style}><h4>{html.escape(name)}{beside}</h4>{body}</article>'
