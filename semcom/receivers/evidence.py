"""What receivers with a prior make of an observation first: evidence in the units of the prior."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from semcom.calibration import ErrorTable, error_model
from semcom.cells import Cells, in_units
from semcom.codecs.codec import HasCells
from semcom.errors import CorruptPayload, UnsuitableEvidence
from semcom.fusion import fused
from semcom.operators import BlockMean, Identity, Operator
from semcom.transmission import Linear, Observation

DETAIL = 0.55
"""On photos/val the ratio was 0.52, 0.90, 1.10, 1.61 and 2.15 for s = 2, 3, 4, 8 and 16, with a deviation of
the logarithm from 0.3 to 0.6 over pictures."""

Noise = Literal["white", "colored", "cells", "symbols"]
"""What a method uses of a decoded picture's error: one number, one per frequency, or that and its cells; or
the symbols that it was decoded from."""


@dataclass(frozen=True, eq=False, slots=True)
class PriorEvidence:
    """y = A x + noise for x in [-1, 1].

    Args:
        y: In these units.
        operator: A.
        noise_std: Per real value of y and item; infinite where the item was lost.
        guess: Of x, from the evidence alone; None if there is no good one.
        spread: Standard deviation of its error per value, of an interpolation where it is largest over
            frequencies; None if nobody knows.
        cells: What the bytes that arrived say for certain, of x in these units; None if they say nothing.
        symbols: M(x) + noise of variance 1, that from which y was decoded, of an item that was encoded by a
            network.
        measurement: M.
    """

    y: Tensor
    operator: Operator
    noise_std: Float[Tensor, " batch"]
    guess: Tensor | None = None
    spread: float | None = None
    cells: Cells | None = None
    symbols: Tensor | None = None
    measurement: Callable[[Tensor], Tensor] | None = None


def in_prior_units(
    observation: Observation, receiver: str, noise: Noise, tables: Mapping[str, ErrorTable]
) -> PriorEvidence:
    """The evidence, fused to one piece, from pictures in [0, 1] to x in [-1, 1]: 2 y - A 1, twice the noise.

    A decoded picture of unknown noise gets that of its origin, and symbols of known noise stand in for the
    picture that was made of them, both for batches of one. A lost item is evidence of infinite noise. With
    cells, the guess is the decoded picture moved into them; of block means it is their interpolation.

    Args:
        observation: What arrived.
        receiver: For the message.
        noise: What it can use.
        tables: Errors of decoded pictures.

    Raises:
        UnsuitableEvidence: Noise that nobody has measured, pieces that cannot be fused, or an operator that
            makes something of another shape.
    """
    several = len(observation.evidence) > 1
    evidence = fused(observation, tables) if several else observation.evidence[0]
    guess = spread = None
    cells = _cells(evidence, observation.shape) if noise == "cells" else None
    encoded = evidence.encoded[0] if evidence.encoded and noise == "symbols" else None
    symbols = evidence.symbols[0] if evidence.symbols else None
    if symbols is not None:
        guess, spread = 2 * evidence.y - 1, 2 * float(evidence.noise_std)
        evidence = evidence if noise in ("white", "symbols") else symbols  # they have no cells
    if bool(evidence.noise_std.isnan().any()):
        if evidence.origin is None:
            raise UnsuitableEvidence(
                f"{receiver} needs the noise of the evidence, which nobody has measured here; "
                "choose a scheme of one codec, like avif+ldpc"
            )
        model = error_model(evidence.origin.code, evidence.origin.point[0].tolist(), tables)
        error_std = model.error_std(evidence.y)
        whole = isinstance(evidence.operator, Identity)
        if whole:
            guess, spread = 2 * evidence.y - 1, 2 * error_std
        evidence = (
            model.evidence(evidence.y)[0]
            if whole and noise in ("colored", "cells")
            else Linear(evidence.y, evidence.operator, torch.tensor([error_std]))
        )
    ones = torch.ones(observation.shape, dtype=evidence.y.dtype, device=evidence.y.device)
    level = evidence.operator.A(ones)
    if level.shape != evidence.y.shape:
        raise UnsuitableEvidence(
            f"evidence of shape {list(evidence.y.shape)}, but {type(evidence.operator).__name__} makes "
            f"{list(level.shape)} of a picture: an operator is the same for all items of a batch"
        )
    y = 2 * evidence.y - level
    if cells is not None and guess is not None:
        guess = cells.settled(guess, -1.0, 1.0).to(guess)
    if (
        guess is None
        and isinstance(evidence.operator, BlockMean)
        and bool(evidence.noise_std.isfinite().all())
    ):
        guess, spread = enlarged(y, evidence.operator, 2 * float(evidence.noise_std.max()))
    prior_evidence = PriorEvidence(y, evidence.operator, 2 * evidence.noise_std, guess, spread, cells)
    if encoded is None:
        return prior_evidence
    measurement = encoded.measurement
    return replace(prior_evidence, symbols=encoded.y, measurement=lambda x: measurement((x + 1) / 2))


def _cells(evidence: Linear, shape: tuple[int, ...]) -> Cells | None:
    """Of x in [-1, 1], by the bytes behind a batch of one.

    Bytes that a decoder forgives but that are not as the standard says bound nothing.
    """
    payload = evidence.payloads[0] if evidence.payloads else None
    if payload is None or not isinstance(payload.codec, HasCells):
        return None
    try:
        cells = payload.codec.cells(payload.data, shape)
    except CorruptPayload:
        return Cells(Identity(), torch.tensor(-torch.inf), torch.tensor(torch.inf))
    return None if cells is None else in_units(cells, shape, 0.5, 0.5)


def enlarged(y: Tensor, operator: BlockMean, noise_std: float) -> tuple[Tensor, float]:
    """The cubic interpolation of block means that has them, and how far off it is where it is furthest off.

        spread^2 = max(DETAIL log2(s) d^2 (s^2 - 1) / (2 ln s), s^2 noise_std^2)

    d^2 is the energy of the finest octave of the means. Pictures have about as much in every octave, so
    that DETAIL log2(s) d^2 is the squared error per value without noise, and a density that falls with the
    square of the frequency: at its largest, where the blocks end, it is (s^2 - 1) / (2 ln s) times its mean.
    The noise of the means is that of singular vectors of gain 1 / s. That is what a start has to hide.

    Args:
        y: Means.
        operator: s and the size of the picture.
        noise_std: Of the means.
    """
    cubic = functional.interpolate(y, scale_factor=operator.size, mode="bicubic")
    cubic = cubic[:, :, : operator.height, : operator.width]
    guess = cubic + operator.pinv(y - operator.A(cubic))
    pairs = BlockMean(2, *y.shape[2:])
    finest = float((y - pairs.pinv(pairs.A(y))).square().mean())
    largest = DETAIL * finest * (operator.size**2 - 1) / math.log(4)  # log2(s) / (2 ln s) = 1 / ln 4
    return guess, max(largest**0.5, operator.size * noise_std)


def to_picture(x: Tensor) -> Tensor:
    """From [-1, 1] to [0, 1], clipped."""
    return ((x + 1) / 2).clamp(0, 1)


def per_item(values: Shaped[Tensor, " batch"], like: Tensor) -> Tensor:
    """[batch, 1, 1, ...] beside a tensor of items."""
    return values.reshape(-1, *[1] * (like.dim() - 1))
