"""Memorisation: sources of known entropy, capacity in bits, distances to neighbours, volumes of balls."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from semcom.errors import InvalidOption, InvalidSource

VOCABULARY = 68
"""Number of words of the grammars, that of Question-Formation in arXiv 2405.08707."""
BLOCK = 2048
STEEPEST, LEAST_ENTROPY = 60.0, 1e-20
"""Steepest fall of the probabilities of a grammar, and an entropy in nats that it suffices for."""


@dataclass(frozen=True, eq=False)
class Grammar:
    """Regular grammar whose entropy rate is known exactly.

        P(next word | past) = P(next word | state),  state = (last word, class of the word before)

    In every state the grammar allows `choices` different words, drawn at random once, with probabilities
    proportional to exp(-t k), k = 0..choices - 1. t is such that their entropy is `entropy` in every state.
    The state follows from the last two words, so that the entropy rate is `entropy` exactly, whatever the
    distribution of states.

    Args:
        entropy: Entropy rate in nats per word, from 1e-20 to below log(choices).
        words: Size of the vocabulary, at least `choices`.
        choices: Words that are allowed in a state, at least 2.
        classes: Number of classes of the word before, at least 1; 1 makes a Markov chain of words.
        seed: Seed of the rules.

    Raises:
        InvalidOption: A number is out of range.
    """

    entropy: float
    words: int = VOCABULARY
    choices: int = 8
    classes: int = 4
    seed: int = 0
    probabilities: Float[Tensor, " choices"] = field(init=False, compare=False)
    successors: Int[Tensor, "classes words choices"] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if not (2 <= self.choices <= self.words and self.classes >= 1):
            raise InvalidOption(
                f"grammar of {self.words} words, {self.choices} choices, {self.classes} classes: from 2 "
                "choices, at most as many as words; from 1 class"
            )
        if not LEAST_ENTROPY <= self.entropy < math.log(self.choices) * (1 - 1e-6):
            raise InvalidOption(
                f"entropy of {self.entropy:g} nats: at least {LEAST_ENTROPY:g} and below "
                f"log {self.choices} = {math.log(self.choices):.3f} of {self.choices} choices"
            )

        from scipy.optimize import brentq  # recipes run without SciPy

        def excess(slope: float) -> float:
            return entropy_of(_falling(slope, self.choices)) - self.entropy

        slope = brentq(excess, 1e-6, STEEPEST, xtol=1e-14)
        assert isinstance(slope, float)
        rng = np.random.default_rng(self.seed)
        rules = [
            [rng.permutation(self.words)[: self.choices] for _ in range(self.words)]
            for _ in range(self.classes)
        ]
        object.__setattr__(self, "probabilities", torch.from_numpy(_falling(slope, self.choices)))
        object.__setattr__(self, "successors", torch.from_numpy(np.array(rules)))

    def sample(self, sequences: int, length: int, seed: int = 0) -> Int[Tensor, "sequences length"]:
        """Draw sequences of words; the first two words of each are drawn evenly.

        Args:
            sequences: Number of sequences, at least 1.
            length: Words of a sequence, at least 2.
            seed: Seed of the draws.

        Returns:
            Words, 0 to `words` - 1, int64, [sequences, length].

        Raises:
            InvalidOption: There are no sequences, or they have fewer than 2 words.
        """
        if sequences < 1 or length < 2:
            raise InvalidOption(f"{sequences} sequences of {length} words: draw at least 1, of at least 2")
        rng = np.random.default_rng((seed, 1))
        found = np.empty((sequences, length), dtype=np.int64)
        found[:, :2] = rng.integers(self.words, size=(sequences, 2))
        chosen = rng.choice(self.choices, size=(sequences, length), p=self.probabilities.numpy())
        rules = self.successors.numpy()
        for i in range(2, length):
            found[:, i] = rules[found[:, i - 2] % self.classes, found[:, i - 1], chosen[:, i]]
        return torch.from_numpy(found)

    def log_probabilities(self, words: Int[Tensor, "sequences length"]) -> Float[Tensor, "sequences rest"]:
        """Logarithms of the true probabilities of all words from the third on.

        Args:
            words: Sequences of words, [sequences, length].

        Returns:
            log P(word | past), minus infinity for a word that the grammar forbids, [sequences, length - 2].
        """
        allowed = self.successors[words[:, :-2] % self.classes, words[:, 1:-1]]
        found = allowed == words[:, 2:, None]
        return torch.where(found, self.probabilities, 0.0).sum(2).log()


def entropy_of(probabilities: Float[np.ndarray, " choices"]) -> float:
    """Entropy of a distribution, -sum p log p.

    Args:
        probabilities: Probabilities with sum 1; 0 counts as 0.

    Returns:
        Nats.
    """
    positive = probabilities[probabilities > 0]
    return -math.fsum(positive * np.log(positive))


def _falling(slope: float, choices: int) -> Float[np.ndarray, " choices"]:
    """Probabilities proportional to exp(-slope k), k = 0..choices - 1."""
    weights = np.exp(-slope * np.arange(choices))
    return weights / weights.sum()


def memorised_bits(nats: Float[Tensor, "sequences length"], words: int) -> float:
    """Bits of random sequences that a model knows: sum over all words of (log words - loss) / log 2.

    Of uniformly random sequences nothing can be predicted; what a model saves on them was stored in its
    weights.

    Args:
        nats: Loss of every word in nats, [sequences, length].
        words: Size of the vocabulary from which the words were drawn evenly.

    Returns:
        Bits, negative for a model worse than guessing.

    Reference:
        Morris et al., How much do language models memorize?, arXiv 2505.24832.
    """
    return float((math.log(words) - nats.double()).sum()) / math.log(2)


def nearest_distances(
    queries: Float[Tensor, "queries dims"], stored: Float[Tensor, "stored dims"], neighbours: int = 2
) -> Float[Tensor, "queries {neighbours}"]:
    """Distances of queries to their nearest stored vectors, in blocks.

    Args:
        queries: Vectors, [queries, dims].
        stored: Vectors, [stored, dims]; pass the same tensor as `queries` to leave each vector itself out.
        neighbours: Number of neighbours, at least 1.

    Returns:
        Euclidean distances, rising, [queries, neighbours].

    Raises:
        InvalidSource: There are fewer stored vectors than neighbours asked for, or none.
    """
    itself = queries is stored
    if not len(queries) or len(stored) < neighbours + itself:
        raise InvalidSource(
            f"{len(queries)} queries, {neighbours} neighbours among {len(stored)} vectors; give more vectors"
        )
    found = []
    for start in range(0, len(queries), BLOCK):
        part = queries[start : start + BLOCK]
        far = torch.cdist(part, stored, compute_mode="donot_use_mm_for_euclid_dist")
        if itself:
            rows = torch.arange(len(part), device=far.device)
            far[rows, rows + start] = math.inf
        found.append(far.topk(neighbours, dim=1, largest=False).values)
    return torch.cat(found)


def neighbour_ratios(
    queries: Float[Tensor, "queries dims"], stored: Float[Tensor, "stored dims"]
) -> Float[Tensor, " queries"]:
    """Ratios of the distances to the first and second nearest stored vector.

    A query that is a copy of one stored vector has a ratio near 0; one that is like none has a ratio near 1.

    Args:
        queries: Vectors, [queries, dims].
        stored: Vectors, [stored, dims], at least two.

    Returns:
        Ratios from 0 to 1, [queries]; 1 where both distances are 0.

    Raises:
        InvalidSource: There are fewer than two stored vectors, or no queries.

    Reference:
        Yoon et al., Diffusion probabilistic models generalize when they fail to memorize, 2023.
    """
    first, second = nearest_distances(queries, stored).unbind(1)
    return torch.where(second > 0, first / second.clamp_min(torch.finfo(first.dtype).tiny), 1.0)


def gaussian_like(vectors: Float[Tensor, "count dims"], seed: int = 0) -> Float[Tensor, "count dims"]:
    """Gaussian vectors with the mean and covariance of others: the control of a test of distances.

    Args:
        vectors: Vectors, [count, dims], at least two.
        seed: Seed of the draws.

    Returns:
        As many vectors x = mean + (V - mean)^T z / sqrt(count - 1), z standard normal; [count, dims].

    Raises:
        InvalidSource: There are fewer than two vectors.
    """
    count, dims = vectors.shape
    if count < 2:
        raise InvalidSource(f"{count} vectors have no covariance; give at least 2")
    mean = vectors.double().mean(0)
    centred = vectors.double() - mean
    values, directions = torch.linalg.eigh(centred.T @ centred / (count - 1))
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(count, dims, generator=generator, dtype=torch.float64).to(values.device)
    return (mean + (normal * values.clamp_min(0).sqrt()) @ directions.T).to(vectors)


def unit_volume_radius(dims: int) -> float:
    """Radius of the ball of volume 1, (Gamma(n/2 + 1))^(1/n) / sqrt(pi); about sqrt(n / (2 pi e)).

    Args:
        dims: Dimension n, at least 1.

    Returns:
        Radius.

    Example:
        >>> round(unit_volume_radius(1024), 3)
        7.774
    """
    return math.exp(math.lgamma(dims / 2 + 1) / dims) / math.sqrt(math.pi)


def log_ball_integral(dims: int, radius: float) -> float:
    """Logarithm of the integral of exp(-|x|^2) over a ball, pi^(n/2) P(n/2, r^2).

    P is the regularised lower incomplete gamma function. Below its mean, where it may underflow, the series
    x^a exp(-x) / Gamma(a + 1) * sum over k of x^k / ((a + 1) ... (a + k)) is summed, with a = n/2, x = r^2.

    Args:
        dims: Dimension n, at least 1.
        radius: Radius r, above 0 and finite.

    Returns:
        Natural logarithm; between -r^2 + log V_n(r) and log V_n(r).

    Raises:
        InvalidOption: Dimension or radius is out of range.

    Example:
        >>> round(log_ball_integral(1024, 7.7427), 1)
        -63.9
    """
    if dims < 1 or not 0 < radius < math.inf:
        raise InvalidOption(f"ball of radius {radius:g} in {dims} dimensions: above 0, finite; at least 1")
    a, x = dims / 2, radius * radius
    if x > a + 1:
        from scipy.special import gammainc  # recipes run without SciPy

        return a * math.log(math.pi) + math.log(float(gammainc(a, x)))
    terms, term, k = [1.0], 1.0, 1
    while term > 1e-17 * sum(terms[-3:]) and k < 100_000:
        term *= x / (a + k)
        terms.append(term)
        k += 1
    log_p = a * math.log(x) - x - math.lgamma(a + 1) + math.log(math.fsum(terms))
    return a * math.log(math.pi) + log_p
