"""Memory of stored patterns as a receiver: exact posterior mean and evidence, in blocks of any size."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semcom.errors import InvalidOption
from semcom.memory.energies import check_patterns, check_queries, squared_distances

BLOCK = 2048
"""Patterns per block; larger blocks were no faster on a CPU."""


@dataclass(frozen=True, eq=False, slots=True)
class Recall:
    """Answer of a memory to noisy queries.

    Args:
        mean: Posterior mean of the stored pattern, [queries, dims].
        log_evidence: log p(y), in nats, [queries].
        index: Most probable pattern, [queries].
        weight: Posterior probability of that pattern, from 1/d to 1, [queries].
    """

    mean: Float[Tensor, "queries dims"]
    log_evidence: Float[Tensor, " queries"]
    index: Int[Tensor, " queries"]
    weight: Float[Tensor, " queries"]

    def energy(self, noise_std: float) -> Float[Tensor, " queries"]:
        """Energy of the queries in units of the noise variance, -2 log p(y) - dims log(2 pi s^2).

        It is |y - rho|^2 / s^2 - 2 log pi of the only pattern, and of several patterns their soft minimum.
        With y = rho + noise it exceeds -2 log pi by a chi-squared variable of mean dims, at most.

        Args:
            noise_std: s, as given to `Memory.recall`.

        Returns:
            Energy, at least 0, [queries].
        """
        dims = self.mean.shape[1]
        return -2 * self.log_evidence - dims * math.log(2 * math.pi * noise_std**2)


@dataclass(frozen=True, eq=False)
class Memory:
    """Patterns that both ends know, with prior probabilities.

        y = x + n,  x = rho_i with probability pi_i,  n ~ N(0, s^2 I)
        E[x | y] = M softmax(M^T y / s^2 - |rho|^2 / (2 s^2) + log pi)

    The Hopfield update with beta = 1 / s^2 is this posterior mean for patterns of equal norm and probability.
    Patterns of norm 0 are patterns like others; of duplicates, probabilities add up.

    Args:
        patterns: rho_1..rho_d, the columns of M, as rows [d, dims].
        priors: pi, above 0; normalised to sum 1; None for equal probabilities.
        block: Patterns that are compared at once, at least 1. Results are those of the whole up to rounding.

    Raises:
        InvalidSource: There is no pattern, or a value is not finite.
        InvalidOption: Priors are not one positive finite number per pattern, or the block is below 1.
    """

    patterns: Float[Tensor, "patterns dims"]
    priors: Float[Tensor, " _"] | None = None
    block: int = BLOCK
    _log_priors: Float[Tensor, " patterns"] = field(init=False, repr=False, compare=False)
    _half_norms: Float[Tensor, " patterns"] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_patterns(self.patterns)
        count = len(self.patterns)
        if self.block < 1:
            raise InvalidOption(f"blocks of {self.block} patterns: choose at least 1")
        priors = self.patterns.new_ones(count) if self.priors is None else self.priors.to(self.patterns)
        if priors.shape != (count,) or not (priors > 0).all() or not priors.isfinite().all():
            raise InvalidOption(
                f"priors of shape {list(priors.shape)} for {count} patterns: one positive finite number each"
            )
        object.__setattr__(self, "_log_priors", (priors / priors.sum()).log())
        object.__setattr__(self, "_half_norms", torch.linalg.vector_norm(self.patterns, dim=1).square() / 2)

    @property
    def count(self) -> int:
        """Number of patterns d."""
        return len(self.patterns)

    def log_posterior(
        self, y: Float[Tensor, "queries _"], noise_std: float
    ) -> Float[Tensor, "queries patterns"]:
        """Logarithms of the posterior probabilities of all patterns.

        Args:
            y: Noisy queries, [queries, dims].
            noise_std: s, standard deviation of the noise per dimension, at least 0; 0 shares the probability
                among the nearest patterns in proportion to their priors, infinity returns the priors.

        Returns:
            log of the probabilities, at most 0, [queries, patterns]. Deviations whose squares leave the range
            of the data type count as 0 or as infinite: in single precision, for squared norms up to 1, those
            below 1.5e-19 and above 4.6e18.

        Raises:
            InvalidSource: Queries have another number of dimensions, or a value is not finite.
            InvalidOption: The deviation is negative or NaN.
        """
        check_queries(y, self.patterns)
        _check_noise(noise_std)
        low, high = self._noise_range(y)
        if noise_std > high:
            return self._log_priors.expand(len(y), -1)
        if noise_std < low:
            distance = squared_distances(y, self.patterns)
            nearest = distance == distance.amin(1, keepdim=True)
            return torch.where(nearest, self._log_priors, -math.inf).log_softmax(1)
        return self._scores(y, noise_std, slice(None)).log_softmax(1)

    def recall(self, y: Float[Tensor, "queries _"], noise_std: float) -> Recall:
        """Posterior mean, evidence and most probable pattern, one block of patterns at a time.

        Args:
            y: Noisy queries, [queries, dims], on the device of the patterns.
            noise_std: s, standard deviation of the noise per dimension, above 0 and finite; in single
                precision, for squared norms up to 1, from 1.5e-19 to 4.6e18.

        Returns:
            The answer.

        Raises:
            InvalidSource: Queries have another number of dimensions, or a value is not finite.
            InvalidOption: The deviation is out of range or NaN: evidence has no density at 0 and infinity.
        """
        check_queries(y, self.patterns)
        _check_noise(noise_std)
        low, high = self._noise_range(y)
        if not low <= noise_std <= high:
            raise InvalidOption(
                f"recall in noise of deviation {noise_std:g}: choose from {low:.0e} to {high:.0e}; "
                "log_posterior has limits"
            )
        best = y.new_full((len(y),), -math.inf)
        index = torch.zeros(len(y), dtype=torch.int64, device=y.device)
        total, mean = torch.zeros_like(best), torch.zeros_like(y)
        for start in range(0, self.count, self.block):
            part = slice(start, start + self.block)
            scores = self._scores(y, noise_std, part)
            most, where = scores.max(1)
            highest = torch.maximum(best, most)
            fading = (best - highest).exp()  # 0 at the first block
            weights = (scores - highest[:, None]).exp_()
            total = fading * total + weights.sum(1)
            mean = fading[:, None] * mean + weights @ self.patterns[part]
            index = torch.where(most > best, where + start, index)
            best = highest
        dims = y.shape[1]
        constant = y.square().sum(1) / (2 * noise_std**2) + dims / 2 * math.log(2 * math.pi * noise_std**2)
        return Recall(mean / total[:, None], best + total.log() - constant, index, 1 / total)

    def _noise_range(self, y: Tensor) -> tuple[float, float]:
        """Least and largest deviation in which all scores of some queries are finite numbers."""
        limits = torch.finfo(self.patterns.dtype)
        largest = max(float(y.square().sum(1).amax()) if len(y) else 0.0, 2 * float(self._half_norms.amax()))
        return math.sqrt(8 * max(largest, 1.0) / limits.max), math.sqrt(limits.max) / 4

    def _scores(self, y: Tensor, noise_std: float, part: slice) -> Tensor:
        """M^T y / s^2 - |rho|^2 / (2 s^2) + log pi of a block of patterns, [queries, block]."""
        precision = noise_std**-2
        biases = self._log_priors[part] - precision * self._half_norms[part]
        return torch.addmm(biases, y, self.patterns[part].T, alpha=precision)


def _check_noise(noise_std: float) -> None:
    if not noise_std >= 0:
        raise InvalidOption(f"noise of standard deviation {noise_std:g}: at least 0")
