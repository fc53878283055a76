"""Topics of a text: a graph of similar blocks, cut by spectral clustering."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from semcom.errors import InvalidOption, MissingPackage


@runtime_checkable
class Embedding(Protocol):
    """Embed texts as vectors of unit length."""

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "texts features"]:
        """Embed texts; inner products are cosines.

        Args:
            texts: Texts, all of one document.

        Returns:
            Vectors of unit length, or zero.
        """
        ...


@dataclass(frozen=True)
class TfidfSvd:
    """Latent semantic analysis: TF-IDF of the words, reduced by a truncated SVD; fitted on the texts given.

    Words in more than half of the texts are left out if there are ten texts or more.

    Args:
        dims: Largest number of dimensions, at least 2.

    Reference:
        Deerwester et al., "Indexing by latent semantic analysis", JASIS 41(6), 1990.
    """

    dims: int = 256

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "texts features"]:
        """Embed texts by the words they share.

        Args:
            texts: Texts, all of one document.

        Returns:
            Vectors of unit length; zero for a text without any word that counts.

        Raises:
            MissingPackage: scikit-learn is not installed.
        """
        _require_sklearn()
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        common = 0.5 if len(texts) >= 10 else 1.0
        reader = TfidfVectorizer(sublinear_tf=True, max_df=common, token_pattern=r"\w+")
        try:
            counts: Any = reader.fit_transform(texts)
        except ValueError:  # no word at all, or all words are common
            return torch.ones(len(texts), 1)
        dims = min(self.dims, *(side - 1 for side in counts.shape))
        found = TruncatedSVD(dims, random_state=0).fit_transform(counts) if dims >= 2 else counts.toarray()
        vectors = torch.from_numpy(np.ascontiguousarray(found)).float()
        return torch.nn.functional.normalize(vectors, dim=1)


def topic_graph(
    vectors: Float[Tensor, "blocks features"], neighbours: int = 0, locality: float = 0.0
) -> Float[ndarray, "blocks blocks"]:
    """Weighted graph of blocks: W_ij = max(0, e_i . e_j) exp(-|i - j| / locality), W_ii = 0.

    Args:
        vectors: Embeddings e of unit length.
        neighbours: With k > 0, an edge stays only where one block is among the k most similar of the other.
        locality: Distance in blocks after which weights fall by 1/e; 0 leaves the distance out.

    Returns:
        Symmetric weights, float64.
    """
    e = vectors.double().numpy()
    weights = np.maximum(e @ e.T, 0.0)
    np.fill_diagonal(weights, 0.0)
    if locality > 0:
        place = np.arange(len(e))
        weights *= np.exp(-np.abs(place[:, None] - place[None, :]) / locality)
    if 0 < neighbours < len(e) - 1:
        edge = np.partition(weights, -neighbours, axis=1)[:, [-neighbours]]
        near = weights >= edge
        weights = np.where(near | near.T, weights, 0.0)
    return (weights + weights.T) / 2


def laplacian_basis(
    weights: Float[ndarray, "blocks blocks"], count: int
) -> tuple[Float[ndarray, " vectors"], Float[ndarray, "blocks vectors"]]:
    """Smallest eigenvalues of L = I - D^-1/2 W D^-1/2, and their eigenvectors.

    Args:
        weights: Symmetric weights W, not negative.
        count: Number of eigenvalues, at most the number of blocks.

    Returns:
        Eigenvalues in ascending order, in [0, 2], and eigenvectors as columns.

    Reference:
        von Luxburg, "A tutorial on spectral clustering", Statistics and Computing 17(4), 2007.
    """
    from scipy.linalg import eigh

    root = 1 / np.sqrt(np.maximum(weights.sum(1), 1e-12))
    laplacian = np.eye(len(weights)) - root[:, None] * weights * root[None, :]
    return eigh(laplacian, subset_by_index=(0, min(count, len(weights)) - 1))


def eigengap(values: Float[ndarray, " vectors"], least: int, most: int) -> int:
    """Number of clusters K, by the largest gap between eigenvalues K and K + 1 of the Laplacian.

    Args:
        values: Smallest eigenvalues in ascending order.
        least: Smallest number of clusters, at least 1.
        most: Largest number of clusters.

    Returns:
        Number of clusters in [least, most], within what the eigenvalues can tell.
    """
    most = min(most, len(values) - 1)
    if most <= least:
        return max(1, min(least, len(values)))
    return least + int(np.argmax(values[least : most + 1] - values[least - 1 : most]))


def spectral_labels(
    weights: Float[ndarray, "blocks blocks"], clusters: int, seed: int = 0
) -> Int[ndarray, " blocks"]:
    """Cluster a graph: k-means on rows of the first eigenvectors of the Laplacian, scaled to unit length.

    Args:
        weights: Symmetric weights, not negative.
        clusters: Number of clusters, 1 to the number of blocks.
        seed: Seed of k-means, which starts ten times.

    Returns:
        Labels 0..clusters - 1, in the order of their first block.

    Raises:
        MissingPackage: scikit-learn is not installed.
        InvalidOption: The number of clusters is out of range.

    Reference:
        Ng, Jordan and Weiss, "On spectral clustering", NIPS 2001.
    """
    if not 1 <= clusters <= len(weights):
        raise InvalidOption(f"{clusters} clusters of {len(weights)} blocks: choose 1..{len(weights)}")
    if clusters in (1, len(weights)):
        return np.arange(len(weights)) if clusters > 1 else np.zeros(len(weights), dtype=int)
    _require_sklearn()
    from sklearn.cluster import KMeans

    _, basis = laplacian_basis(weights, clusters)
    rows = basis / np.maximum(np.linalg.norm(basis, axis=1, keepdims=True), 1e-12)
    found = KMeans(clusters, n_init=10, random_state=seed)  # pyright: ignore[reportArgumentType]
    return _renumbered(found.fit_predict(rows))


@runtime_checkable
class Grouping(Protocol):
    """Put blocks of a text into groups, each of which is summarised on its own."""

    def __call__(
        self, vectors: Float[Tensor, "blocks features"], tokens: Sequence[int]
    ) -> Int[ndarray, " blocks"]:
        """Give each block the label of its group.

        Args:
            vectors: Embeddings of the blocks, of unit length.
            tokens: Sizes of the blocks.

        Returns:
            Label of each block, 0 to the number of groups - 1.
        """
        ...


@dataclass(frozen=True)
class Whole:
    """One group of all blocks."""

    def __call__(
        self, vectors: Float[Tensor, "blocks features"], tokens: Sequence[int]
    ) -> Int[ndarray, " blocks"]:
        """Put all blocks into one group.

        Args:
            vectors: Embeddings of the blocks; not looked at.
            tokens: Sizes of the blocks.

        Returns:
            Zeros.
        """
        return np.zeros(len(tokens), dtype=int)


@dataclass(frozen=True)
class Consecutive:
    """Groups of consecutive blocks of a fixed size.

    Args:
        tokens: Largest size of a group.
    """

    tokens: int = 1024

    def __call__(
        self, vectors: Float[Tensor, "blocks features"], tokens: Sequence[int]
    ) -> Int[ndarray, " blocks"]:
        """Put consecutive blocks into groups of about equal size.

        Args:
            vectors: Embeddings of the blocks; not looked at.
            tokens: Sizes of the blocks.

        Returns:
            Labels in ascending order.
        """
        before = np.concatenate([[0], np.cumsum(tokens)[:-1]])
        return _renumbered(before * -(-sum(tokens) // self.tokens) // max(1, sum(tokens)))


@dataclass(frozen=True)
class Spectral:
    """Topics: spectral clusters of the graph of similar blocks, each small enough for a summariser.

    The number of clusters is where the Laplacian's eigenvalues leave the largest gap. A cluster above
    `window` tokens is cut in two by the sign of its own second eigenvector, again and again; one below
    `least_tokens` joins the cluster most similar to it that has room.

    Args:
        window: Largest size of a cluster in tokens.
        least_tokens: Smallest size of a cluster in tokens.
        clusters: Number of clusters before these corrections; 0 lets the eigengap choose.
        most_clusters: Largest number that the eigengap may choose, if `window` does not ask for more.
        neighbours: Edges kept per block, see `topic_graph`; 0 keeps all.
        locality: Distance in blocks after which weights fall by 1/e; 0 leaves the distance out.
        seed: Seed of k-means.
    """

    window: int = 1024
    least_tokens: int = 256
    clusters: int = 0
    most_clusters: int = 12
    neighbours: int = 10
    locality: float = 0.0
    seed: int = 0

    def __call__(
        self, vectors: Float[Tensor, "blocks features"], tokens: Sequence[int]
    ) -> Int[ndarray, " blocks"]:
        """Put blocks of one topic into one group.

        Args:
            vectors: Embeddings of the blocks, of unit length.
            tokens: Sizes of the blocks.

        Returns:
            Label of each block, in the order of the first blocks.

        Raises:
            MissingPackage: scikit-learn is not installed.
        """
        weights = topic_graph(vectors, self.neighbours, self.locality)
        sizes = np.asarray(tokens)
        least = min(max(1, -(-int(sizes.sum()) // self.window)), len(sizes))
        most = min(max(self.most_clusters, 2 * least), len(sizes))
        wanted = min(self.clusters, len(sizes))
        if not wanted:
            values, _ = laplacian_basis(weights, most + 1)
            wanted = eigengap(values, least, most)
        labels = spectral_labels(weights, wanted, self.seed)
        groups = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
        parts = [part for group in groups for part in self._split(group, weights, sizes)]
        return self._merged(parts, weights, sizes)

    def _split(self, group: ndarray, weights: ndarray, sizes: ndarray) -> list[ndarray]:
        if sizes[group].sum() <= self.window or len(group) == 1:
            return [group]
        _, basis = laplacian_basis(weights[np.ix_(group, group)], 2)
        left = basis[:, 1] < 0
        if not 0.1 < np.average(left, weights=sizes[group]) < 0.9:  # a few blocks cut off: halve by rank
            left = np.argsort(np.argsort(basis[:, 1], kind="stable")) < len(group) // 2
        parts = (group[left], group[~left])
        return [piece for part in parts for piece in self._split(part, weights, sizes)]

    def _merged(self, parts: list[ndarray], weights: ndarray, sizes: ndarray) -> ndarray:
        parts, whole = sorted(parts, key=lambda part: sizes[part].sum()), []
        while parts:
            small, total = parts[0], sizes[parts[0]].sum()
            others = [*parts[1:], *whole]
            room = [part for part in others if sizes[part].sum() + total <= self.window]
            if total >= self.least_tokens or not room:
                whole.append(parts.pop(0))
                continue
            best = max(room, key=lambda part: weights[np.ix_(small, part)].mean())
            both = [np.sort(np.concatenate([small, best]))]
            parts = [part for part in parts[1:] if part is not best] + both
            parts.sort(key=lambda part: sizes[part].sum())
            whole = [part for part in whole if part is not best]
        labels = np.empty(len(sizes), dtype=int)
        for label, part in enumerate(whole):
            labels[part] = label
        return _renumbered(labels)


def _renumbered(labels: ndarray) -> ndarray:
    """Numbers 0, 1, ... in the order of first appearance."""
    seen: dict[int, int] = {}
    return np.array([seen.setdefault(int(label), len(seen)) for label in labels])


def _require_sklearn() -> None:
    if importlib.util.find_spec("sklearn") is None:
        raise MissingPackage('topics of texts need the package scikit-learn; pip install "semcom[text]"')
