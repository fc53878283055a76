"""Two observations of one picture made into one: coefficients weighed by how well each was heard."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from semcom.calibration import BANDS, CosineGain, ErrorTable, bands_of, error_model
from semcom.errors import UnsuitableEvidence
from semcom.jscc.cosine import centred_picture, mean_color
from semcom.operators import Identity
from semcom.transmission import Linear, Observation

LEAST_HEARD = 1e-3  # of a coefficient, all pieces together, for its variance to be known


@dataclass(frozen=True, eq=False, slots=True)
class Heard:
    """One piece of evidence as coefficients, w = g T x + n with white n of variance 1.

    Args:
        coefficients: w, the mean colour taken out.
        gains: g, 0 for what was not heard.
        variance: V of T x as this piece has it.
        picture: What the piece shows by itself.
        error_std: Expected error of that picture, per value.
    """

    coefficients: Float[Tensor, "1 3 height width"]
    gains: Float[Tensor, "1 3 height width"]
    variance: Float[Tensor, "1 3 height width"]
    picture: Float[Tensor, "1 3 height width"]
    error_std: float


def fused(observation: Observation, tables: Mapping[str, ErrorTable]) -> Linear:
    """All pieces of an observation of one item, as one.

    Noises of different pieces are taken to be independent of each other and of the picture, so that

        g^2 = sum of g_i^2,  w = sum of g_i w_i / g,  Var n = 1
        c_hat = V g w / (1 + V g^2)

    and c_hat is the linear estimate of least squared error. V, the variance of a coefficient, is what the
    pieces say of it, weighed by the part V_i g_i^2 / (1 + V_i g_i^2) of it that each has heard. A piece that
    was lost says nothing; if one is left it is shown as it is, if none, the concealment of the first.

    Returns:
        The picture of c_hat with its expected error, and w and g as its symbols.

    Raises:
        UnsuitableEvidence: A piece whose noise nobody has measured, or which is no picture or cosine
            transform.
    """
    pieces = [h for h in (_heard(evidence, tables) for evidence in observation.evidence) if h is not None]
    if not pieces:
        return Linear(observation.evidence[0].y, Identity(), torch.tensor([torch.inf]))
    gains, coefficients = merged([(piece.gains, piece.coefficients) for piece in pieces])
    operator = CosineGain(gains)
    color = mean_color(coefficients).expand(observation.shape)
    symbols = Linear(coefficients + operator.A(color), operator, torch.ones(1))
    if len(pieces) == 1:
        picture, error_std = pieces[0].picture, pieces[0].error_std
    else:
        variance = _agreed([(piece.variance, piece.gains) for piece in pieces])
        left = variance / (1 + variance * gains**2)
        picture = centred_picture(left * gains * coefficients) + color
        error_std = float(left.mean().sqrt())
    return Linear(picture, Identity(), torch.tensor([error_std]), symbols=(symbols,))


def merged(
    pieces: Sequence[tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]],
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """From gains g_i and values w_i = g_i c + n_i of equal noise g and w = g c + n, which say all they do."""
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


def _heard(evidence: Linear, tables: Mapping[str, ErrorTable]) -> Heard | None:
    """A piece as coefficients; None if it was lost."""
    if bool(evidence.noise_std.isinf().any()):
        return None
    exact = evidence.symbols[0] if evidence.symbols else None
    error_std, variance = float(evidence.noise_std), None
    if exact is None:
        if evidence.origin is None:
            raise UnsuitableEvidence("a piece of evidence whose noise nobody has measured cannot be fused")
        model = error_model(evidence.origin.code, evidence.origin.point[0].tolist(), tables)
        exact, variance = model.evidence(evidence.y)
        error_std = model.error_std(evidence.y)
    if not isinstance(exact.operator, CosineGain):
        raise UnsuitableEvidence(
            f"evidence through {type(exact.operator).__name__} cannot be fused; "
            "it must be a picture or its cosine transform"
        )
    gains = exact.operator.gains.expand_as(exact.y) / exact.noise_std
    color = mean_color(exact.y).expand_as(evidence.y)
    coefficients = (exact.y - exact.operator.A(color)) / exact.noise_std
    if variance is None:
        variance = _variance_of_symbols(coefficients, gains)
    return Heard(coefficients, gains, variance, evidence.y, error_std)
