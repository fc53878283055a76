"""Several pieces of evidence of one picture made into one, coefficient by coefficient."""

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

LEAST_HEARD = 1e-3  # of a coefficient, all pieces together, for its variance to be known


@dataclass(frozen=True, eq=False, slots=True)
class Heard:
    """One piece of evidence as coefficients, w = g T x + n with white n of variance 1.

    Args:
        coefficients: w, the mean colour taken out.
        gains: g, 0 for what was not heard.
        variance: V of T x as this piece has it.
    """

    coefficients: Float[Tensor, "1 3 height width"]
    gains: Float[Tensor, "1 3 height width"]
    variance: Float[Tensor, "1 3 height width"]


def fused(evidence: Sequence[Evidence], tables: Mapping[str, ErrorTable]) -> Symbols:
    """Fuse pieces of evidence of one picture into one.

    Noises of different pieces are taken to be independent of each other and of the picture, so that

        g^2 = sum of g_i^2,  w = sum of g_i w_i / g,  Var n = 1
        c_hat = V g w / (1 + V g^2)

    and c_hat is the linear estimate of least squared error. V, the variance of a coefficient, is what the
    pieces say of it, weighed by the part V_i g_i^2 / (1 + V_i g_i^2) of it that each has heard.

    Args:
        evidence: Two or more pieces, each a picture or a weighed cosine transform of it.
        tables: Measured errors of decoded pictures by code.

    Returns:
        The picture of c_hat with its expected error, and w and g as a linear observation.

    Raises:
        UnsuitableEvidence: A piece whose noise nobody has measured, or which is no picture or cosine
            transform.
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
    """Merge observations w_i = g_i c + n_i of equal noise variance into one that says all they do.

    g^2 = sum of g_i^2,  w = sum of g_i w_i / g.

    Args:
        pieces: Gains g_i and values w_i of each.

    Returns:
        g and w.
    """
    gains = sum((g.square() for g, _ in pieces), torch.zeros(())).sqrt()
    weighed = sum((g * w for g, w in pieces), torch.zeros(()))
    return gains, torch.where(gains > 0, weighed / gains.clamp_min(1e-20), 0.0)


def _agreed(
    pieces: Sequence[tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]],
) -> Float[Tensor, "*shape"]:
    """V of variances V_i and gains g_i; the largest where nobody has heard anything."""
    heard = [variance * gains**2 / (1 + variance * gains**2) for variance, gains in pieces]
    total = sum(heard, torch.zeros(()))
    weighed = sum((h * variance for h, (variance, _) in zip(heard, pieces, strict=True)), torch.zeros(()))
    largest = torch.stack([variance for variance, _ in pieces]).amax(0)
    return torch.where(total > LEAST_HEARD, weighed / total.clamp_min(LEAST_HEARD), largest)


def _variance_of_symbols(
    coefficients: Float[Tensor, "1 3 height width"], gains: Float[Tensor, "1 3 height width"]
) -> Float[Tensor, "1 3 height width"]:
    """V from w = g c + n with Var n = 1: sum of (w^2 - 1) / sum of g^2 over a plane and band."""
    bands = bands_of(coefficients).flatten()
    excess, power = (
        part.new_zeros(part.shape[1], BANDS).index_add_(1, bands, part[0].flatten(1))
        for part in ((coefficients.square() - 1) * (gains > 0), gains.square())
    )
    variance = (excess / power.clamp_min(1e-20)).clamp_min(0)
    return variance[:, bands].reshape(coefficients.shape)


def _heard(evidence: Evidence, tables: Mapping[str, ErrorTable]) -> Heard:
    """A piece as coefficients."""
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
