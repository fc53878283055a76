"""Long documents for measurements: prose of several sources, interleaved, or with a needle in it."""

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from semcom.errors import InvalidOption, InvalidSource
from semcom.text.blocks import Sentence, Size, packed, sentences_of, word_count
from semcom.text.tasks import PROBE_KEYS, stated

BOOKS = {
    **{"bronte": 200_000, "darwin": 300_000, "dubois": 400_000, "pride_and_prejudice": 100_000},
    **{"tinyshakespeare": 300_000, "state_union": 400_000, "inaugural": 100_000, "genesis": 20_000},
}
"""Sources of public-domain prose, and the character from which a part of each is taken."""
KEYS = PROBE_KEYS[:11]
"""Names that needles are about."""


@dataclass(frozen=True)
class Document:
    """A document with what is known of it.

    Args:
        text: The document.
        sources: Source of each span of the document: first character, one past the last, name.
        needle: Sentence hidden in it; empty if there is none.
        value: The number that the needle states.
        question: Question for that number.
        cue: Beginning of the answer.
    """

    text: str
    sources: tuple[tuple[int, int, str], ...] = ()
    needle: str = ""
    value: str = ""
    question: str = ""
    cue: str = ""


def read_books(
    folder: Path | str, size: Size = word_count, tokens: int = 10_000
) -> dict[str, tuple[Sentence, ...]]:
    """Read a part of each source of `BOOKS` as sentences, with white space collapsed.

    Args:
        folder: Folder with one text or ZIP file per source.
        size: Number of tokens of a text.
        tokens: Size of each part.

    Returns:
        Sentences by source.

    Raises:
        InvalidSource: A file is missing or cannot be read.
    """
    found = {}
    for name, start in BOOKS.items():
        plain, archive = Path(folder) / f"{name}.txt", Path(folder) / f"{name}.zip"
        try:
            text = _unpacked(archive) if archive.exists() else plain.read_text(encoding="utf-8")
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise InvalidSource(f"{plain}: cannot be read ({type(error).__name__})") from None
        part = " ".join(text[start : start + 8 * tokens].split())
        sentences = sentences_of(part, size, 96)[1:-1]
        totals = accumulate(sentence.tokens for sentence in sentences)
        found[name] = tuple(s for s, total in zip(sentences, totals, strict=True) if total <= tokens)
    return found


def with_needle(
    sentences: Sequence[Sentence], rng: np.random.Generator, tokens: int, key: str | None = None
) -> Document:
    """Hide one sentence in prose: "The special magic number for Oslo is 48213.", to be asked for.

    Args:
        sentences: Prose, of which a run from a random place is taken, around its end if necessary.
        rng: Random numbers.
        tokens: Size of the prose, at most that of all sentences.
        key: Name that the number is for; None draws one of `KEYS`.

    Returns:
        The document.

    Raises:
        InvalidOption: There is not so much prose.
    """
    whole = sum(sentence.tokens for sentence in sentences)
    if not 0 < tokens <= whole:
        raise InvalidOption(f"a document of {tokens} tokens from prose of {whole}: choose 1..{whole}")
    start, parts, total = int(rng.integers(len(sentences))), [], 0
    for number in range(len(sentences)):
        sentence = sentences[(start + number) % len(sentences)]
        total += sentence.tokens
        if total > tokens and parts:
            break
        parts.append(sentence.text)
    name, value = key or str(rng.choice(KEYS)), str(rng.integers(10_000, 100_000))
    needle = stated(name, value)
    parts.insert(int(rng.integers(len(parts) + 1)), needle)
    return Document(
        " ".join(parts),
        needle=needle,
        value=value,
        question=f"what is the special magic number for {name}?",
        cue=f"The special magic number for {name} is",
    )


def interleaved(
    books: Mapping[str, Sequence[Sentence]], rng: np.random.Generator, sources: int, blocks: int = 16
) -> Document:
    """Parts of several sources in turn, each part two to four blocks of at most 96 tokens.

    Args:
        books: Sentences by source.
        rng: Random numbers.
        sources: Number of sources, at most all.
        blocks: Blocks of each source.

    Returns:
        The document with the source of each block.

    Raises:
        InvalidOption: There are not so many sources, or not so many blocks.
    """
    if not 1 <= sources <= len(books):
        raise InvalidOption(f"{sources} sources of {len(books)}: choose 1..{len(books)}")
    chosen = [str(name) for name in rng.choice(list(books), sources, replace=False)]
    left: dict[str, list[str]] = {}
    for name in chosen:
        runs = packed(books[name], 96)
        if len(runs) < blocks:
            raise InvalidOption(f"{blocks} blocks of {name}: it has {len(runs)}")
        first = int(rng.integers(len(runs) - blocks + 1))
        left[name] = [" ".join(books[name][i].text for i in run) for run in runs[first : first + blocks]]
    text, spans = "", []
    while left:
        name = str(rng.choice(list(left)))
        for _ in range(int(rng.integers(2, 5))):
            if left[name]:
                text += "\n\n" if text else ""
                spans.append((len(text), len(text) + len(left[name][0]), name))
                text += left[name].pop(0)
        if not left[name]:
            del left[name]
    return Document(text, tuple(spans))


def block_sources(document: Document, blocks: Sequence[tuple[int, int]]) -> list[str]:
    """Source of each block of a document: the one that most of its characters come from.

    Args:
        document: An interleaved document.
        blocks: First character, and one past the last, of each block.

    Returns:
        Names.
    """
    found = []
    for start, end in blocks:
        shares: dict[str, int] = {}
        for first, last, name in document.sources:
            shares[name] = shares.get(name, 0) + max(0, min(end, last) - max(start, first))
        found.append(max(shares, key=lambda name: shares[name]))
    return found


def _unpacked(archive: Path) -> str:
    """English texts of a ZIP file, one after the other."""
    with zipfile.ZipFile(archive) as file:
        names = sorted(name for name in file.namelist() if name.endswith(".txt"))
        english = [name for name in names if not re.search(r"genesis/(?!english-kjv)", name)]
        return " ".join(file.read(name).decode("latin-1") for name in english)
