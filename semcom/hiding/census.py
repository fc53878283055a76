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
    """Bit length of the complexity, or `LOW`, `HIGH`."""
    lengths = np.frexp(of.complexity.astype(np.float64))[1]
    return np.where(of.low, LOW, np.where(of.high, HIGH, lengths)).astype(np.int32)


def placed(of: Layer, reach: PerSite | int) -> tuple[PerSite, PerSite]:
    """The values that are symbol 0, and the signs: value = zero + sign * symbol.

    Symbols 0..2T are the `errors_of` the pixel's class.
    """
    zero = np.where(of.low, 0, np.where(of.high, 255, of.prediction - reach))
    return zero, np.where(of.high, -1, 1)


def inside(of: Layer, reach: PerSite | int) -> Bool[np.ndarray, " sites"]:
    """Pixels whose every symbol is a value of 0..255."""
    return of.low | of.high | ((of.prediction >= reach) & (of.prediction <= 255 - reach))


def errors_of(number: int, reach: int) -> Counts:
    """The prediction errors of a class that are symbols 0..2T: -T..T, or 0..2T and 0..-2T if saturated."""
    if number in (LOW, HIGH):
        return np.arange(2 * reach + 1) * (1 if number == LOW else -1)
    return np.arange(-reach, reach + 1)


@dataclass(frozen=True, eq=False)
class Census:
    """Counts of prediction errors.

    Args:
        table: Per class, number of `REACHES` that leave no symbol outside 0..255, and error + 255.
    """

    table: Int[np.ndarray, "classes margins errors"]

    def symbols(self, number: int, reach: int) -> Counts:
        """Of one class, symbols 0..2T of pixels that can take all of them."""
        margins = self.table[number, REACHES.index(reach) + 1 :]
        return margins.sum(0)[NO_ERROR + errors_of(number, reach)]

    @property
    def errors(self) -> Counts:
        """-255..255, of all pixels."""
        return self.table.sum((0, 1))

    def halfway(self, other: "Census") -> "Census":
        """Means of the counts."""
        return Census((self.table + other.table) // 2)


def census(layers: Sequence[Layer]) -> Census:
    """Of all pixels of the layers."""
    shape = (CLASSES, len(REACHES) + 1, ERRORS)
    counts = np.zeros(shape, dtype=np.int64).reshape(-1)
    for of in layers:
        margin = np.where(of.low | of.high, len(REACHES), MARGINS[of.prediction])
        place = (classes(of) * shape[1] + margin) * ERRORS + of.error + NO_ERROR
        counts += np.bincount(place, minlength=len(counts))
    return Census(counts.reshape(shape))
