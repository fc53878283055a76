"""Energies of associative memories, and the two retrieval updates that descend on them.

Patterns rho_1..rho_d are the rows of a matrix [patterns, dims], queries x the rows of [queries, dims]. The
inverse temperature beta may be 0 or infinite: every function states the limit that it returns there.

Reference:
    Ramsauer et al., Hopfield networks is all you need, ICLR 2021. Niu et al., Beyond scaling laws:
    understanding transformer performance with associative memory, arXiv 2405.08707.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from semcom.errors import InvalidOption, InvalidSource

Form = Literal["dot", "distance"]
"""Similarity in a retrieval update: inner products (modern Hopfield network), or minus squared distances."""


def log_mean_exp(beta: float, y: Float[Tensor, "*rows patterns"]) -> Float[Tensor, "*rows"]:
    """Soft maximum, normalised by the number of values: log(mean of exp(beta y)) / beta over the last axis.

    Args:
        beta: Inverse temperature, at least 0; 0 gives the mean, infinity the maximum.
        y: Values, [..., patterns].

    Returns:
        Between the mean and the maximum of the values, [...].

    Raises:
        InvalidOption: beta is negative or NaN.
        InvalidSource: There are no values.
    """
    _check_beta(beta)
    if not y.shape[-1]:
        raise InvalidSource("an empty memory: a soft maximum over 0 patterns; store at least one")
    if beta == 0:
        return y.mean(-1)
    most = y.amax(-1, keepdim=True)
    if math.isinf(beta):
        return most.squeeze(-1)
    below = beta * (y - most)
    # log1p of the mean of expm1 keeps all digits for small beta; near -1 it would lose those of log d
    less = torch.expm1(below).mean(-1)
    apart = torch.logsumexp(below, -1) - math.log(y.shape[-1])
    return most.squeeze(-1) + torch.where(less > -0.5, torch.log1p(less.clamp_min(-0.5)), apart) / beta


def log_sum_exp(beta: float, y: Float[Tensor, "*rows patterns"]) -> Float[Tensor, "*rows"]:
    """Soft maximum LSE(beta, y) = log(sum of exp(beta y)) / beta over the last axis.

    Args:
        beta: Inverse temperature, at least 0; 0 gives infinity (of one value that value), infinity the
            maximum.
        y: Values, [..., patterns].

    Returns:
        At least the maximum of the values, [...].

    Raises:
        InvalidOption: beta is negative or NaN.
        InvalidSource: There are no values.
    """
    return log_mean_exp(beta, y) + _log_count(beta, y.shape[-1])


def squared_distances(
    x: Float[Tensor, "queries _"], patterns: Float[Tensor, "patterns dims"]
) -> Float[Tensor, "queries patterns"]:
    """Squared Euclidean distances of queries to patterns, as sums of squared differences.

    Products of matrices would be faster, but lose digits where query and pattern are close.

    Args:
        x: Queries, [queries, dims].
        patterns: Patterns, [patterns, dims].

    Returns:
        |x - rho|^2, [queries, patterns].

    Raises:
        InvalidSource: There are no patterns, dimensions differ, or values are not finite.
    """
    check_patterns(patterns)
    check_queries(x, patterns)
    return torch.cdist(x[None], patterns[None], compute_mode="donot_use_mm_for_euclid_dist")[0].square()


def nearest_squared_distance(
    x: Float[Tensor, "queries _"], patterns: Float[Tensor, "patterns dims"]
) -> Float[Tensor, " queries"]:
    """Squared distance to the nearest pattern, g(x) = min over i of |x - rho_i|^2.

    Args:
        x: Queries, [queries, dims].
        patterns: Patterns, [patterns, dims].

    Returns:
        g, at least 0, [queries].

    Raises:
        InvalidSource: There are no patterns, dimensions differ, or values are not finite.
    """
    return squared_distances(x, patterns).amin(1)


def layer_energy(
    x: Float[Tensor, "queries _"], patterns: Float[Tensor, "patterns dims"], beta: float = 1.0
) -> Float[Tensor, " queries"]:
    """Layer energy E_beta(x) = -log(sum over i of exp(-beta |x - rho_i|^2)) / beta.

    At beta = 1 it lies between g(x) - log d and g(x), with g the squared distance to the nearest of d
    patterns.

    Args:
        x: Queries, [queries, dims].
        patterns: Patterns, [patterns, dims].
        beta: Inverse temperature of squared distances, at least 0; 0 gives minus infinity (with one pattern
            its squared distance), infinity gives g(x).

    Returns:
        Energy, [queries].

    Raises:
        InvalidOption: beta is negative or NaN.
        InvalidSource: There are no patterns, dimensions differ, or values are not finite.
    """
    return -log_sum_exp(beta, -squared_distances(x, patterns))


def mchn_energy(
    x: Float[Tensor, "queries _"], patterns: Float[Tensor, "patterns dims"], beta: float
) -> Float[Tensor, " queries"]:
    """Energy of the modern continuous Hopfield network.

        E(x) = -LSE(beta, M^T x) + |x|^2 / 2 + log(d) / beta + max over i of |rho_i|^2 / 2

    Args:
        x: Queries, [queries, dims].
        patterns: d patterns, the columns of M, as rows [d, dims].
        beta: Inverse temperature of inner products, at least 0; 0 takes the mean of M^T x, infinity its
            maximum.

    Returns:
        Energy, at least 0, [queries].

    Raises:
        InvalidOption: beta is negative or NaN.
        InvalidSource: There are no patterns, dimensions differ, or values are not finite.
    """
    check_patterns(patterns)
    check_queries(x, patterns)
    longest = patterns.square().sum(1).amax()
    return -log_mean_exp(beta, x @ patterns.T) + (x.square().sum(1) + longest) / 2


def weights(
    x: Float[Tensor, "queries _"],
    patterns: Float[Tensor, "patterns dims"],
    beta: float,
    form: Form = "distance",
) -> Float[Tensor, "queries patterns"]:
    """Softmax weights of the patterns in a retrieval update.

        "dot": softmax(beta M^T x)      "distance": softmax(-beta |x - rho_i|^2)

    Among patterns of equal norm the forms agree if the beta of "dot" is twice that of "distance".

    Args:
        x: Queries, [queries, dims].
        patterns: Patterns, [patterns, dims].
        beta: Inverse temperature, at least 0; 0 gives equal weights, infinity shares the weight among the
            most similar patterns.
        form: Similarity.

    Returns:
        Weights, at least 0, with sum 1 over the patterns; [queries, patterns].

    Raises:
        InvalidOption: beta is negative or NaN.
        InvalidSource: There are no patterns, dimensions differ, or values are not finite.
    """
    _check_beta(beta)
    if form == "dot":
        check_patterns(patterns)
        check_queries(x, patterns)
        alike = x @ patterns.T
    else:
        alike = -squared_distances(x, patterns)
    above = alike - alike.amax(1, keepdim=True)
    if math.isinf(beta):
        best = (above == 0).to(x.dtype)
        return best / best.sum(1, keepdim=True)
    return torch.softmax(beta * above, 1)


def retrieve(
    x: Float[Tensor, "queries _"],
    patterns: Float[Tensor, "patterns dims"],
    beta: float,
    form: Form = "distance",
    steps: int = 1,
) -> Float[Tensor, "queries dims"]:
    """Retrieval update x <- M softmax(...), one or several times.

    One step in the form "distance" with beta = 1 / (2 s^2) is the posterior mean of an equiprobable pattern
    in white noise of variance s^2 per dimension; it never raises `layer_energy` at the same beta.

    Args:
        x: Queries, [queries, dims].
        patterns: Patterns, [patterns, dims].
        beta: Inverse temperature, at least 0; 0 gives the mean of all patterns, infinity the most similar
            one.
        form: Similarity: "dot" for the modern Hopfield network, "distance" for squared distances.
        steps: Number of updates, at least 1.

    Returns:
        Retrieved points, convex combinations of patterns, [queries, dims].

    Raises:
        InvalidOption: beta is negative or NaN, or there are no steps.
        InvalidSource: There are no patterns, dimensions differ, or values are not finite.
    """
    if steps < 1:
        raise InvalidOption(f"{steps} steps of retrieval: choose at least 1")
    for _ in range(steps):
        x = weights(x, patterns, beta, form) @ patterns
    return x


def check_patterns(patterns: Tensor) -> None:
    """Refuse what cannot be a memory.

    Args:
        patterns: Patterns, [patterns, dims].

    Raises:
        InvalidSource: There is no pattern or no dimension, or a value is not finite.
    """
    if patterns.dim() != 2 or 0 in patterns.shape:
        raise InvalidSource(
            f"an empty memory: patterns of shape {list(patterns.shape)}; give at least one, [patterns, dims]"
        )
    if not patterns.isfinite().all():
        raise InvalidSource("a pattern with a value that is not finite; leave it out of the memory")


def check_queries(x: Tensor, patterns: Tensor) -> None:
    """Refuse queries that cannot be compared with the patterns.

    Args:
        x: Queries, [queries, dims].
        patterns: Patterns, [patterns, dims].

    Raises:
        InvalidSource: Queries have another number of dimensions than patterns, or a value is not finite.
    """
    if x.dim() != 2 or x.shape[1] != patterns.shape[1]:
        raise InvalidSource(
            f"a query of shape {list(x.shape)}, but the patterns have {patterns.shape[1]} dimensions; "
            "give [queries, dims] of the same dimension"
        )
    if not x.isfinite().all():
        raise InvalidSource("a query with a value that is not finite; leave it out")


def _log_count(beta: float, count: int) -> float:
    """log(count) / beta, with 0 for one pattern whatever beta is."""
    if count == 1:
        return 0.0
    return math.inf if beta == 0 else math.log(count) / beta


def _check_beta(beta: float) -> None:
    if not beta >= 0:
        raise InvalidOption(f"beta = {beta:g}: an inverse temperature is at least 0, up to inf")
