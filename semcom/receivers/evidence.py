"""Conversion of an observation to linear evidence in the units of a prior."""

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
"""Squared error of an interpolation of block means, relative to log2(s) d^2 of `enlarged`.

On validation photographs the ratio was 0.52, 0.90, 1.10, 1.61 and 2.15 for s = 2, 3, 4, 8 and 16; its
logarithm had a standard deviation of 0.3 to 0.6 over pictures.
"""

Noise = Literal["white", "colored", "cells", "symbols"]
"""Noise model of a method with a prior, which determines the form of its evidence.

"white": a decoded picture with white noise of one standard deviation. "colored": one noise variance per
frequency. "cells": as "colored", with the quantisation cells of the payload. "symbols": as "white", with the
channel symbols that were decoded to the picture.
"""


@dataclass(frozen=True, eq=False, slots=True)
class PriorEvidence:
    """Linear evidence y = A x + noise of one item, for a prior of x in [-1, 1].

    Args:
        y: Observed values, [rows, ...]; one row per sample to draw, usually 1.
        operator: Linear operator A.
        noise_std: Standard deviation of the noise per real value of y, finite and at least 0.
        observed: False for a lost item, whose operator A is 0.
        guess: Estimate of x from the evidence without the prior, of the shape of x; None if there is none.
        spread: Standard deviation of the guess's error per value, in units of x; for an interpolated guess
            that of the frequency where it is largest. None without a guess.
        cells: Quantisation cells that contain x; None if unknown.
        symbols: Channel symbols that a network decoded to the guess, as a function of x; None if unknown.
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
    """Evidence of a lost item, for which a receiver samples from the prior.

    Args:
        shape: Shape of x, (rows, 3, height, width).

    Returns:
        Evidence y = 0 with the operator A = 0 and `observed=False`.
    """
    return PriorEvidence(torch.zeros(shape), Mask(torch.zeros(shape[2:], dtype=torch.bool)), observed=False)


def in_prior_units(
    observation: Observation,
    shape: tuple[int, ...],
    receiver: str,
    noise: Noise,
    tables: Mapping[str, ErrorTable],
) -> PriorEvidence:
    """Convert the evidence of a picture in [0, 1] to linear evidence of x in [-1, 1].

        y' = 2 y - A 1,  noise_std' = 2 noise_std

    Several pieces of evidence are fused first. A decoded picture gets the measured error of its decoder.
    Analog symbols are used as a linear observation or, for white noise, as the estimate made from them. The
    guess is the decoded picture, moved into its quantisation cells if the receiver uses them; for block means
    it is their interpolation.

    Args:
        observation: Observation of the picture.
        shape: Shape of the picture, (1, 3, height, width).
        receiver: Name of the receiver, for error messages.
        noise: Noise model that the receiver uses.
        tables: Measured error tables of decoders, by name.

    Returns:
        The evidence; for a lost item that of `nothing_observed`.

    Raises:
        UnsuitableEvidence: The scheme provides no evidence, the error of the decoder has not been measured,
            the pieces cannot be fused, the evidence has gaps, or its shape does not match operator and
            picture.
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
    """Evidence from analog symbols: the linear observation, or for white noise the estimate."""
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
    """Evidence from a decoded picture with its measured error, white or per frequency."""
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
    """Convert a function of the picture in [0, 1] to a function of x in [-1, 1]."""
    return Nonlinear(symbols.y, lambda x: symbols.measurement((x + 1) / 2))


def _cells(evidence: Decoded[Tensor], shape: tuple[int, ...]) -> Cells | None:
    """Quantisation cells of x in [-1, 1] from the payload of a decoded picture.

    If the payload deviates from the standard, but was decoded nevertheless, the cells are unbounded.
    """
    payload = evidence.payload
    if payload is None or not isinstance(payload.codec, HasCells):
        return None
    try:
        cells = payload.codec.cells(payload.data, shape)
    except CorruptPayload:
        return Cells(Identity(), *torch.tensor([-torch.inf, torch.inf], dtype=torch.float32))
    return None if cells is None else in_units(cells, shape, 0.5, 0.5)


def enlarged(y: Tensor, operator: BlockMean, noise_std: float) -> tuple[Tensor, float]:
    """Interpolate block means bicubically, keeping the means exact, and estimate the error.

        spread^2 = max(DETAIL log2(s) d^2 (s^2 - 1) / (2 ln s), s^2 noise_std^2)

    d^2 is the energy of the finest octave of the means. Pictures have about equal energy in every octave, so
    that DETAIL log2(s) d^2 estimates the squared error per value without noise. Its spectral density falls
    with the square of the frequency and is largest at the lowest frequency that block means lose, where it is
    (s^2 - 1) / (2 ln s) times its mean. The noise of the means is that of singular vectors of gain 1 / s. The
    spread is the larger one of the two, because a sampler that starts from the guess has to hide both under
    its noise.

    Args:
        y: Block means of x, [1, 3, rows, columns].
        operator: Block mean with the side s and the size of the picture.
        noise_std: Standard deviation of the noise of the means, at least 0.

    Returns:
        The interpolated picture, [1, 3, height, width], and the spread in units of x.
    """
    cubic = functional.interpolate(y, scale_factor=operator.size, mode="bicubic")
    cubic = cubic[:, :, : operator.height, : operator.width]
    guess = cubic + operator.pinv(y - operator.A(cubic))
    pairs = BlockMean(2, *y.shape[2:])
    finest = float((y - pairs.pinv(pairs.A(y))).square().mean())
    largest = DETAIL * finest * (operator.size**2 - 1) / math.log(4)  # log2(s) / (2 ln s) = 1 / ln 4
    return guess, max(largest**0.5, operator.size * noise_std)


def to_picture(x: Tensor) -> Tensor:
    """Convert x in [-1, 1] to a picture in [0, 1], clipped.

    Args:
        x: Any tensor in the units of the prior.

    Returns:
        (x + 1) / 2 clipped to [0, 1], of the shape of x.
    """
    return ((x + 1) / 2).clamp(0, 1)
