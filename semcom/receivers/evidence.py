"""What receivers with a prior make of an observation first: linear evidence in the units of the prior."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from semcom.calibration import ErrorTable, error_model
from semcom.cells import Cells, in_units
from semcom.codecs.codec import HasCells
from semcom.errors import CorruptPayload, UnsuitableEvidence
from semcom.fusion import fused
from semcom.observation import Decoded, Linear, Nonlinear, Observation, Symbols
from semcom.operators import BlockMean, Identity, Mask, Operator

DETAIL = 0.55
"""On photos/val the ratio was 0.52, 0.90, 1.10, 1.61 and 2.15 for s = 2, 3, 4, 8 and 16, with a deviation of
the logarithm from 0.3 to 0.6 over pictures."""

Noise = Literal["white", "colored", "cells", "symbols"]
"""What a method uses of a decoded picture's error: one number, one per frequency, or that and its cells; or
the symbols that it was decoded from."""


@dataclass(frozen=True, eq=False, slots=True)
class PriorEvidence:
    """Linear evidence y = A x + noise of one item for a prior of x in [-1, 1].

    Args:
        y: Observed values, with as many rows as samples are drawn.
        operator: A.
        noise_std: Standard deviation of the noise per real value of y, finite and at least 0.
        observed: False for an item of which nothing arrived: A lets nothing through.
        guess: Estimate of x from the evidence alone; None if there is no good one.
        spread: Standard deviation of the guess's error per value, of an interpolation where it is largest
            over frequencies; None without a guess.
        cells: What the bytes that arrived say of x for certain; None if they say nothing.
        symbols: The symbols from which a network decoded the guess, as a function of x.
    """

    y: Tensor
    operator: Operator
    noise_std: float = 0.0
    observed: bool = True
    guess: Tensor | None = None
    spread: float | None = None
    cells: Cells | None = None
    symbols: Nonlinear | None = None


def nothing_observed(shape: tuple[int, ...]) -> PriorEvidence:
    """Evidence that says nothing of x, of a lost item: samples are samples of the prior.

    Args:
        shape: Shape of x.

    Returns:
        y = 0 through an operator that lets nothing through.
    """
    return PriorEvidence(torch.zeros(shape), Mask(torch.zeros(shape[2:], dtype=torch.bool)), observed=False)


def in_prior_units(
    observation: Observation,
    shape: tuple[int, ...],
    receiver: str,
    noise: Noise,
    tables: Mapping[str, ErrorTable],
) -> PriorEvidence:
    """Turn the evidence of a picture in [0, 1] into linear evidence of x in [-1, 1].

    2 y - A 1 with twice the noise. Several pieces are fused to one. A decoded picture gets the error that was
    measured for its code, and symbols of known noise stand in for the picture that was made of them. With
    cells, the guess is the decoded picture moved into them; of block means it is their interpolation.

    Args:
        observation: What arrived.
        shape: Shape [1, 3, height, width] of the picture.
        receiver: Name for messages.
        noise: What the receiver can use.
        tables: Measured errors of decoded pictures by code.

    Returns:
        The evidence; that of `nothing_observed` for a lost item.

    Raises:
        UnsuitableEvidence: Noise that nobody has measured, pieces that cannot be fused, or an operator that
            makes something of another shape.
    """
    if not observation.evidence:
        if observation.shown is None:
            return nothing_observed(shape)
        raise UnsuitableEvidence(
            f"{receiver} needs evidence, and this scheme hands over none; show what arrived as it is"
        )
    evidence, *others = observation.evidence
    if others:
        evidence = fused(observation.evidence, tables)
    if isinstance(evidence, Decoded):
        found = _of_decoded(evidence, shape, receiver, noise, tables)
    elif isinstance(evidence, Symbols):
        found = _of_symbols(evidence, shape, noise)
    elif isinstance(evidence, Linear):
        found = _scaled(evidence, shape)
    else:
        raise UnsuitableEvidence(f"{receiver} takes pictures, not an item with gaps; show it as it is")
    if found.guess is None and isinstance(found.operator, BlockMean):
        guess, spread = enlarged(found.y, found.operator, found.noise_std)
        found = replace(found, guess=guess, spread=spread)
    return found


def _scaled(linear: Linear, shape: tuple[int, ...]) -> PriorEvidence:
    """Linear evidence of a picture in [0, 1] as evidence of x in [-1, 1]."""
    operator, y = linear.operator, linear.y
    level = operator.A(torch.ones(shape, dtype=y.dtype, device=y.device))
    if level.shape != y.shape or len(y) != shape[0]:
        raise UnsuitableEvidence(
            f"evidence of shape {list(y.shape)}, but {type(operator).__name__} makes {list(level.shape)} of "
            f"a picture of shape {list(shape)}; an observation is of one picture"
        )
    return PriorEvidence(2 * y - level, operator, 2 * linear.noise_std)


def _of_symbols(evidence: Symbols, shape: tuple[int, ...], noise: Noise) -> PriorEvidence:
    """Analog symbols: what they say of the picture, or where white noise is asked for, the estimate."""
    whole = noise in ("white", "symbols")
    linear = Linear(evidence.estimate, Identity(), evidence.error_std) if whole else evidence.linear
    return replace(_scaled(linear, shape), guess=2 * evidence.estimate - 1, spread=2 * evidence.error_std)


def _of_decoded(
    evidence: Decoded[Tensor],
    shape: tuple[int, ...],
    receiver: str,
    noise: Noise,
    tables: Mapping[str, ErrorTable],
) -> PriorEvidence:
    """A decoded picture with its measured error, of one level or of one per frequency."""
    if evidence.origin is None and evidence.payload is None:
        raise UnsuitableEvidence(
            f"{receiver} needs the noise of the evidence, which nobody has measured here; "
            "choose a scheme of one codec, like avif+ldpc"
        )
    model = error_model(evidence, tables)
    error_std = model.error_std(evidence.y)
    if not isinstance(evidence.operator, Identity):
        return _scaled(Linear(evidence.y, evidence.operator, error_std), shape)
    colored = noise in ("colored", "cells")
    linear = model.evidence(evidence.y)[0] if colored else Linear(evidence.y, Identity(), error_std)
    guess, cells = 2 * evidence.y - 1, _cells(evidence, shape) if noise == "cells" else None
    if cells is not None:
        guess = cells.settled(guess, -1.0, 1.0).to(guess)
    symbols = _in_units(evidence.symbols) if evidence.symbols and noise == "symbols" else None
    return replace(_scaled(linear, shape), guess=guess, spread=2 * error_std, cells=cells, symbols=symbols)


def _in_units(symbols: Nonlinear) -> Nonlinear:
    """A function of the picture in [0, 1] as one of x in [-1, 1]."""
    return Nonlinear(symbols.y, lambda x: symbols.measurement((x + 1) / 2))


def _cells(evidence: Decoded[Tensor], shape: tuple[int, ...]) -> Cells | None:
    """Cells of x in [-1, 1], from the bytes behind a decoded picture.

    Bytes that a decoder forgives but that are not as the standard says bound nothing.
    """
    payload = evidence.payload
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
    """From [-1, 1] to pictures in [0, 1], clipped."""
    return ((x + 1) / 2).clamp(0, 1)
