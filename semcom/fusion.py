"""Fusion of several pieces of evidence of one picture, coefficient by coefficient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from semcom.calibration import BANDS, CosineGain, ErrorTable, bands_of, error_model
from semcom.errors import UnsuitableEvidence
from semcom.jscc.cosine import centred_picture, mean_color
from semcom.observation import Decoded, Evidence, Gaps, Linear, Symbols
from semcom.operators import Identity

LEAST_HEARD = 1e-3  # sum of the weights below which a coefficient counts as unobserved


@dataclass(frozen=True, eq=False, slots=True)
class Heard:
    """One piece of evidence in the cosine transform domain, w = g T x + n with white noise n of variance 1.

    Args:
        coefficients: w, computed from x minus the mean colour.
        gains: g, at least 0; 0 where a coefficient was not observed.
        variance: Prior variance V of the coefficients T x according to this piece of evidence.
    """

    coefficients: Float[Tensor, "1 3 height width"]
    gains: Float[Tensor, "1 3 height width"]
    variance: Float[Tensor, "1 3 height width"]


def fused(evidence: Sequence[Evidence], tables: Mapping[str, ErrorTable]) -> Symbols:
    """Fuse several pieces of evidence of one picture into one.

    The noises of different pieces are assumed to be independent of each other and of the picture. For every
    coefficient c with prior variance V,

        g^2 = sum of g_i^2,  w = (sum of g_i w_i) / g,  Var n = 1
        c_hat = V g w / (1 + V g^2),

    where c_hat is the linear minimum mean square error estimate. V is the mean of the variances V_i of the
    pieces, weighted by V_i g_i^2 / (1 + V_i g_i^2).

    Args:
        evidence: Two or more pieces, each a decoded picture or a weighted cosine transform of the picture.
        tables: Measured error tables of decoders, by name.

    Returns:
        The estimated picture with its expected error, and w and g as a linear observation.

    Raises:
        UnsuitableEvidence: The error of a decoder has not been measured, or a piece is neither a picture nor
            its cosine transform.
    """
    pieces = [_heard(part, tables) for part in evidence]
    gains, coefficients = merged([(piece.gains, piece.coefficients) for piece in pieces])
    operator = CosineGain(gains)
    color = mean_color(coefficients).expand_as(coefficients)
    variance = _agreed([(piece.variance, piece.gains) for piece in pieces])
    left = variance / (1 + variance * gains**2)
    picture = centred_picture(left * gains * coefficients) + color
    linear = Linear(coefficients + operator.A(color), operator)
    return Symbols(picture, float(left.mean().sqrt()), linear)


def merged(
    pieces: Sequence[tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]],
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Merge observations w_i = g_i c + n_i of equal noise variance into one sufficient statistic.

        g^2 = sum of g_i^2,  w = (sum of g_i w_i) / g

    Args:
        pieces: Gains g_i and values w_i of every observation, all of the same shape.

    Returns:
        Merged gains g and values w, of the same shape.
    """
    gains = sum((g.square() for g, _ in pieces), torch.zeros((), dtype=torch.float32)).sqrt()
    weighed = sum((g * w for g, w in pieces), torch.zeros((), dtype=torch.float32))
    return gains, torch.where(gains > 0, weighed / gains.clamp_min(1e-20), 0.0)


def _agreed(
    pieces: Sequence[tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]],
) -> Float[Tensor, "*shape"]:
    """Mean of the variances V_i, weighted by what is observed; the largest V_i where nothing is."""
    heard = [variance * gains**2 / (1 + variance * gains**2) for variance, gains in pieces]
    total = sum(heard, torch.zeros((), dtype=torch.float32))
    weighed = sum(
        (h * variance for h, (variance, _) in zip(heard, pieces, strict=True)),
        torch.zeros((), dtype=torch.float32),
    )
    largest = torch.stack([variance for variance, _ in pieces]).amax(0)
    return torch.where(total > LEAST_HEARD, weighed / total.clamp_min(LEAST_HEARD), largest)


def _variance_of_symbols(
    coefficients: Float[Tensor, "1 3 height width"], gains: Float[Tensor, "1 3 height width"]
) -> Float[Tensor, "1 3 height width"]:
    """Estimate V from w = g c + n with Var n = 1: sum of (w^2 - 1) / sum of g^2 per plane and band."""
    bands = bands_of(coefficients).flatten()
    excess, power = (
        part.new_zeros(part.shape[1], BANDS).index_add_(1, bands, part[0].flatten(1))
        for part in ((coefficients.square() - 1) * (gains > 0), gains.square())
    )
    variance = (excess / power.clamp_min(1e-20)).clamp_min(0)
    return variance[:, bands].reshape(coefficients.shape)


def _heard(evidence: Evidence, tables: Mapping[str, ErrorTable]) -> Heard:
    """Convert a piece of evidence to the cosine transform domain."""
    variance = None
    if isinstance(evidence, Decoded):
        if not isinstance(evidence.operator, Identity):
            raise UnsuitableEvidence(
                f"a decoded picture through {type(evidence.operator).__name__} cannot be fused; "
                "it must be the picture itself"
            )
        linear, variance = error_model(evidence, tables).evidence(evidence.y)
    elif isinstance(evidence, Gaps):
        raise UnsuitableEvidence("an item with gaps cannot be fused; it must be a picture or symbols of one")
    else:
        linear = evidence.linear if isinstance(evidence, Symbols) else evidence
    operator, noise_std = linear.operator, linear.noise_std
    if not isinstance(operator, CosineGain):
        raise UnsuitableEvidence(
            f"evidence through {type(operator).__name__} cannot be fused; "
            "it must be a picture or its cosine transform"
        )
    gains = operator.gains.expand_as(linear.y) / noise_std
    color = mean_color(linear.y).expand_as(linear.y)
    coefficients = (linear.y - operator.A(color)) / noise_std
    if variance is None:
        variance = _variance_of_symbols(coefficients, gains)
    return Heard(coefficients, gains, variance)
