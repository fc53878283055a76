"""Pixels sorted into classes by their surroundings, and counts of their prediction errors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from semcom.hiding.laws import REACHES
from semcom.hiding.pixels import Layer

LOW, HIGH = 22, 23  # the classes of pixels whose neighbours are all 0, or all 255; others are 0..21
CLASSES = 24
ERRORS = 511  # -255..255
NO_ERROR = 255  # its place
MARGINS = np.searchsorted(REACHES, np.minimum(np.arange(256), np.arange(256)[::-1]), side="right")

Counts = Int[np.ndarray, " symbols"]
PerClass = Int[np.ndarray, " classes"]
PerSite = Int[np.ndarray, " sites"]


def classes(of: Layer) -> PerSite:
    """Class of each pixel: bit length of its complexity, or `LOW` or `HIGH` for saturated neighbours.

    Args:
        of: Layer of pixels.

    Returns:
        Class 0..23 of each pixel, [sites].
    """
    lengths = np.frexp(of.complexity.astype(np.float64))[1]
    return np.where(of.low, LOW, np.where(of.high, HIGH, lengths)).astype(np.int32)


def placed(of: Layer, reach: PerSite | int) -> tuple[PerSite, PerSite]:
    """Mapping between pixel values and symbols: value = zero + sign * symbol.

    Symbols 0..2T stand for the prediction errors that `errors_of` lists for the pixel's class.

    Args:
        of: Layer of pixels.
        reach: Largest error T, per pixel or common to all.

    Returns:
        Value of symbol 0 and sign (1 or -1) of each pixel, [sites] each.
    """
    zero = np.where(of.low, 0, np.where(of.high, 255, of.prediction - reach))
    return zero, np.where(of.high, -1, 1)


def inside(of: Layer, reach: PerSite | int) -> Bool[np.ndarray, " sites"]:
    """Pixels for which every symbol is a value of 0..255.

    Args:
        of: Layer of pixels.
        reach: Largest error T, per pixel or common to all.

    Returns:
        Mask, bool [sites].
    """
    return of.low | of.high | ((of.prediction >= reach) & (of.prediction <= 255 - reach))


def errors_of(number: int, reach: int) -> Counts:
    """Prediction errors that are the symbols 0..2T of a class: -T..T, or 0..2T or 0..-2T if saturated.

    Args:
        number: Class, 0..23.
        reach: Largest error T.

    Returns:
        Errors, [2 T + 1].
    """
    if number in (LOW, HIGH):
        return np.arange(2 * reach + 1) * (1 if number == LOW else -1)
    return np.arange(-reach, reach + 1)


@dataclass(frozen=True, eq=False)
class Census:
    """Counts of prediction errors by class and by distance of the prediction from 0 and 255.

    Args:
        table: Counts [classes, margins, errors]: margins is the number of `REACHES` for which all symbols
            stay in 0..255; errors is prediction error + 255.
    """

    table: Int[np.ndarray, "classes margins errors"]

    def symbols(self, number: int, reach: int) -> Counts:
        """Counts of symbols 0..2T of one class, over pixels for which all symbols are possible.

        Args:
            number: Class, 0..23.
            reach: Largest error T.

        Returns:
            Counts, [2 T + 1].
        """
        margins = self.table[number, REACHES.index(reach) + 1 :]
        return margins.sum(0)[NO_ERROR + errors_of(number, reach)]

    @property
    def errors(self) -> Counts:
        """Counts of prediction errors -255..255 over all pixels."""
        return self.table.sum((0, 1))

    def halfway(self, other: "Census") -> "Census":
        """Mean of these counts and the counts of another census.

        Args:
            other: Census to average with.

        Returns:
            Census of the means.
        """
        return Census((self.table + other.table) // 2)


def census(layers: Sequence[Layer]) -> Census:
    """Count the prediction errors of all pixels of some layers.

    Args:
        layers: The layers.

    Returns:
        Counts by class and margin.
    """
    shape = (CLASSES, len(REACHES) + 1, ERRORS)
    counts = np.zeros(shape, dtype=np.int64).reshape(-1)
    for of in layers:
        margin = np.where(of.low | of.high, len(REACHES), MARGINS[of.prediction])
        place = (classes(of) * shape[1] + margin) * ERRORS + of.error + NO_ERROR
        counts += np.bincount(place, minlength=len(counts))
    return Census(counts.reshape(shape))
