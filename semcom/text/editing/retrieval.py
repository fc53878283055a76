"""Retrievers: the chunks of a text that a question is about, by words or by meaning."""

import importlib.util
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from semcom.errors import MissingPackage
from semcom.text.blocks import Size, joined, packed, sentences_of, word_count
from semcom.text.topics import Embedding


@runtime_checkable
class Retriever(Protocol):
    """Rank the chunks of one text by a question."""

    def __call__(self, query: str, count: int) -> list[int]:
        """Find the best chunks.

        Args:
            query: Question.
            count: Number of chunks wanted.

        Returns:
            Numbers of the best chunks, best first; all of them if there are fewer.
        """
        ...


Index = Callable[[Sequence[str]], Retriever]
"""Maker of a retriever for given chunks: `Bm25.of`, or `DenseIndex(embedding)`."""


def chunks_of(text: str, size: Size = word_count, most_tokens: int = 128) -> list[str]:
    """Cut a text into chunks of whole sentences.

    Args:
        text: Any text with a visible character.
        size: Number of tokens of a text.
        most_tokens: Largest size of a chunk, at least 8; 8 to 20 make nearly every sentence a chunk.

    Returns:
        Chunks in their order.

    Raises:
        InvalidSource: The text is empty or all white space.
        InvalidOption: The largest size is below 8.
    """
    sentences = sentences_of(text, size, most_tokens)
    return [joined(sentences[block.start : block.stop]) for block in packed(sentences, most_tokens)]


def words_of(text: str) -> list[str]:
    """Words of a text in lower case, as BM25 compares them.

    Args:
        text: Any text.

    Returns:
        Runs of letters and digits.
    """
    return re.findall(r"\w+", text.lower())


@dataclass(frozen=True, eq=False)
class Bm25:
    """Okapi BM25: words in common, weighted by how rare they are.

    Args:
        index: The index of the package rank-bm25; None if no chunk has a word.
        chunks: Number of chunks.

    Reference:
        Robertson and Zaragoza, "The probabilistic relevance framework: BM25 and beyond", 2009.
    """

    index: Any
    chunks: int

    @staticmethod
    def of(chunks: Sequence[str]) -> "Bm25":
        """Count the words of all chunks.

        Args:
            chunks: Chunks of a text, at least one.

        Returns:
            The retriever.

        Raises:
            MissingPackage: rank-bm25 is not installed.
        """
        if importlib.util.find_spec("rank_bm25") is None:
            raise MissingPackage('retrieval by words needs the package rank-bm25; pip install "semcom[text]"')
        from rank_bm25 import BM25Okapi

        words = [words_of(chunk) for chunk in chunks]
        return Bm25(BM25Okapi(words) if any(words) else None, len(chunks))

    def __call__(self, query: str, count: int) -> list[int]:
        """Find the chunks that share the rarest words with a question.

        Args:
            query: Question.
            count: Number of chunks wanted.

        Returns:
            Numbers of the best chunks, best first; of equal ones the earlier first.
        """
        if self.index is None:
            return list(range(min(count, self.chunks)))
        scores = self.index.get_scores(words_of(query))
        return np.argsort(-scores, kind="stable")[:count].tolist()


@dataclass(frozen=True, eq=False)
class Dense:
    """Cosine of sentence embeddings.

    Args:
        vectors: Embeddings of the chunks.
        embed: The embedding.
    """

    vectors: Float[Tensor, "chunks features"]
    embed: Embedding

    def __call__(self, query: str, count: int) -> list[int]:
        """Find the chunks nearest in meaning to a question.

        Args:
            query: Question.
            count: Number of chunks wanted.

        Returns:
            Numbers of the best chunks, best first.
        """
        scores = self.vectors @ self.embed([query])[0]
        return torch.argsort(-scores, stable=True)[:count].tolist()


@dataclass(frozen=True)
class DenseIndex:
    """Maker of retrievers by embedding.

    Args:
        embed: An embedding whose vectors do not depend on the other texts, such as MiniLM.
    """

    embed: Embedding

    def __call__(self, chunks: Sequence[str]) -> Dense:
        """Embed chunks.

        Args:
            chunks: Chunks of a text, at least one.

        Returns:
            The retriever.
        """
        return Dense(self.embed(chunks), self.embed)
