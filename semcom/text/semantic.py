"""Semantic compression: a long text cut into topics, each summarised on its own, in the order of the text.

The structure is that of Fei et al., "Extending Context Window of Large Language Models via Semantic
Compression", Findings of ACL 2024: topics by a graph of sentence embeddings and clustering, independent
compression 6 to 8 times, assembly in the original order. Equations and constants are reconstructed from its
abstract. Summaries here are extractive unless a pretrained summariser is given.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from semcom.errors import InvalidOption
from semcom.text.blocks import Sentence, Size, packed, sentences_of, word_count
from semcom.text.summarisers import Outliers, Piece, Summariser, Topic
from semcom.text.topics import Embedding, Grouping, Spectral, Whole

ROUNDS = 6
"""How often topics are asked again with the tokens that whole sentences left unspent."""


@dataclass(frozen=True)
class Compressed:
    """A compressed text with the pieces that it consists of.

    Args:
        text: What is left.
        pieces: Parts of it in order.
        source_tokens: Size of the text before.
        tokens: Size of the text after.
        blocks: First and last character, exclusive, of each block of the text before.
        topics: Topic of each block; sections of the text share none.
    """

    text: str
    pieces: tuple[Piece, ...]
    source_tokens: int
    tokens: int
    blocks: tuple[tuple[int, int], ...]
    topics: tuple[int, ...]

    @property
    def ratio(self) -> float:
        """How many times shorter the text has become."""
        return self.source_tokens / self.tokens


@dataclass(frozen=True)
class SemanticCompressor:
    """Compress texts by topics: sentences, blocks, embeddings, topics, summaries, assembly.

    A text is worked on in sections of at most `section_tokens`, so that time grows linearly with its length.

    Args:
        embed: Embedding of sentences; a block's is the mean over its sentences, weighted by their sizes.
        summarise: Summariser of one topic.
        grouping: How blocks become topics.
        size: Number of tokens of a text.
        block_tokens: Largest size of a block, at least 8; longer sentences are cut.
        section_tokens: Largest size of a section.
        unit: What is summarised at once: a whole "topic", or each "run" of its consecutive blocks, which
            keeps rewritten summaries of interleaved topics in order.
        workers: Threads that summarise; the result does not depend on it.
    """

    embed: Embedding
    summarise: Summariser = field(default_factory=Outliers)
    grouping: Grouping = field(default_factory=Spectral)
    size: Size = word_count
    block_tokens: int = 96
    section_tokens: int = 16384
    unit: Literal["topic", "run"] = "topic"
    workers: int = 1

    def __call__(
        self, text: str, ratio: float = 7.0, *, target_tokens: int | None = None, question: str = ""
    ) -> Compressed:
        """Compress a text.

        Args:
            text: Any text with a visible character.
            ratio: How many times shorter, above 1; usual is 6 to 8.
            target_tokens: Largest size of the result instead of a ratio; a text that is not larger comes back
                as it is.
            question: Question that will be asked, if it is known: an extension, as the paper compresses
                without it.

        Returns:
            The compressed text with its topics.

        Raises:
            InvalidSource: The text is empty or all white space.
            InvalidOption: The ratio or target is out of range, or no sentence fits.
            MissingPackage: scikit-learn is not installed.
        """
        if not 1 < ratio < float("inf"):
            raise InvalidOption(f"a ratio of {ratio:g}: choose above 1, usually 6 to 8")
        if target_tokens is not None and target_tokens < 1:
            raise InvalidOption(f"a target of {target_tokens} tokens: choose at least 1")
        sentences = sentences_of(text, self.size, self.block_tokens)
        total = sum(part.tokens for part in sentences)
        target = round(total / ratio) if target_tokens is None else target_tokens
        blocks = packed(sentences, self.block_tokens)
        spans = tuple((sentences[block[0]].start, sentences[block[-1]].end) for block in blocks)
        if target >= total:
            whole = Piece(0, text)
            return Compressed(text, (whole,), total, self.size(text), spans, (0,) * len(blocks))
        plain = [" ".join(part.text.split()) for part in sentences]
        vectors = self.embed([*plain, question] if question else plain)
        asked = vectors[-1] if question else None
        labels = self._labels(blocks, sentences, vectors)
        units = [[i for b in unit for i in blocks[b]] for unit in self._units(labels)]
        sizes = [sum(sentences[i].tokens for i in unit) for unit in units]

        def work(numbers: list[int], budget: int) -> list[Piece]:
            topic = Topic([sentences[i] for i in numbers], vectors[numbers], self.size, asked)
            return self.summarise(topic, budget)

        budgets, sentence = _shares(sizes, target), total / len(sentences)
        with ThreadPoolExecutor(max(1, self.workers)) as pool:
            each = pool.map if self.workers > 1 else map
            parts = list(each(work, units, budgets))
            used = [sum(self.size(piece.text) for piece in part) for part in parts]
            for _ in range(ROUNDS):  # what whole sentences left unspent goes to where most was left
                left = target - sum(used)
                if left <= 0 or not all(piece.verbatim for part in parts for piece in part):
                    break
                count = max(1, min(int(left / (1.5 * sentence)), len(units)))
                chosen = np.argsort(np.subtract(used, budgets), kind="stable")[:count].tolist()
                more = [used[i] + left // count for i in chosen]
                again = each(work, [units[i] for i in chosen], more)
                for i, part in zip(chosen, again, strict=True):
                    size = sum(self.size(piece.text) for piece in part)
                    if size > used[i]:
                        parts[i], used[i] = part, size
                    budgets[i] = used[i]
        pieces = tuple(sorted((piece for part in parts for piece in part), key=lambda piece: piece.at))
        if not pieces and len(units) > 1:  # topics too small for any sentence: choose among all
            whole = replace(self, grouping=Whole(), section_tokens=total)
            return whole(text, ratio, target_tokens=target_tokens, question=question)
        if not pieces:
            raise InvalidOption(
                f"{target} tokens for a text of {total}: no sentence fits; the shortest has "
                f"{min(part.tokens for part in sentences)}"
            )
        short = "".join(piece.text for piece in pieces).strip()
        return Compressed(short, pieces, total, self.size(short), spans, tuple(labels.tolist()))

    def _labels(self, blocks: Sequence[range], sentences: Sequence[Sentence], vectors: Tensor) -> np.ndarray:
        """Topic of each block, numbered section by section."""
        labels, first = np.zeros(len(blocks), dtype=int), 0
        tokens = [sum(sentences[i].tokens for i in block) for block in blocks]
        for section in _sections(tokens, self.section_tokens):
            means = _block_vectors([blocks[i] for i in section], sentences, vectors)
            found = self.grouping(means, [tokens[i] for i in section])
            labels[section.start : section.stop] = first + found
            first += int(found.max()) + 1
        return labels

    def _units(self, labels: np.ndarray) -> list[list[int]]:
        """Numbers of the blocks that are summarised at once."""
        if self.unit == "topic":
            return [np.flatnonzero(labels == label).tolist() for label in range(labels.max() + 1)]
        starts = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
        return [list(range(a, b)) for a, b in pairwise(starts)]


def _sections(tokens: Sequence[int], most: int) -> list[range]:
    """Consecutive blocks in sections of about equal size, none much larger than `most`."""
    count = -(-sum(tokens) // most)
    before = np.concatenate([[0], np.cumsum(tokens)[:-1]])
    labels = before * count // sum(tokens)
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(tokens)]
    return [range(a, b) for a, b in pairwise(edges)]


def _block_vectors(blocks: Sequence[range], sentences: Sequence[Sentence], vectors: Tensor) -> Tensor:
    means = torch.stack(
        [
            torch.tensor([float(sentences[i].tokens) for i in block]) @ vectors[block.start : block.stop]
            for block in blocks
        ]
    )
    return torch.nn.functional.normalize(means, dim=1)


def _shares(sizes: Sequence[int], target: int) -> list[int]:
    """Shares of a target in proportion to sizes, whole numbers with the target as their sum."""
    exact = np.asarray(sizes) * target / sum(sizes)
    shares = np.floor(exact).astype(int)
    largest = np.argsort(shares - exact, kind="stable")[: target - int(shares.sum())]
    shares[largest] += 1
    return shares.tolist()
