"""Parametric power spectrum of a picture in some hundred bits, the side information of analog coding."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from semcom.errors import CorruptPayload

Table = tuple[int, ...]
"""Frequency table of the values 0 .. len - 1, each at least 1."""

Symbol = tuple[int, Table]
"""A value, and the frequency table with which it is coded."""

HAT = 32  # interpolation weights are integers that sum to this
LARGEST_NODE = 15  # times HAT^2 leaves room in int16 for the usual spectrum
INT16 = 2**15 - 1
CELLS_PER_OCTAVE = 4  # of the histogram that the model is fitted to
LEAST_EXCESS = -10.0  # log2; lower node values would cost more bits than they save power
NO_COUNT = 1e-3  # stands for an empty cell

# log2 variance = OFFSET - SLOPE * log2(spatial frequency) per plane: least squares over photos/train.
OFFSET = (-8.0, -16.2, -16.8)
SLOPE = (2.4, 3.05, 2.75)


@runtime_checkable
class Described(Protocol):
    """Variances of the cosine coefficients of an item, as described in few bits."""

    @property
    def level(self) -> int:
        """Level of detail of the description.

        Returns:
            Index into `LEVELS`.
        """
        ...

    def largest(self, count: int) -> Int[np.ndarray, " count"]:
        """Flat indices of the coefficients of largest variance, in falling order.

        Args:
            count: Number of coefficients.

        Returns:
            Indices, [count].
        """
        ...

    def variances(self, index: Int[np.ndarray, " some"]) -> Float[np.ndarray, " some"]:
        """Variances of the coefficients at given flat indices.

        Args:
            index: Flat indices, [some].

        Returns:
            Variances, [some].
        """
        ...

    def total(self) -> float:
        """Sum of the variances of all coefficients.

        Returns:
            The sum.
        """
        ...

    def symbols(self) -> list[Symbol]:
        """Description as values for `pack`, with their frequency tables.

        Returns:
            The symbols, in the order in which they are sent.
        """
        ...


@runtime_checkable
class Model(Protocol):
    """Rule by which the variances of all coefficients of an item of known shape are described in few bits."""

    @property
    def spectra(self) -> int:
        """Number of plane spectra in a description, at least 1."""
        ...

    @property
    def values(self) -> int:
        """Number of coefficients of the item."""
        ...

    def least_bits(self, level: int) -> int:
        """Length of the shortest description at a level.

        Args:
            level: Index into `LEVELS`.

        Returns:
            Bits.
        """
        ...

    def fits(self, coefficients: np.ndarray) -> Callable[[int], Described]:
        """Prepare the description of coefficients at any level.

        Args:
            coefficients: Cosine coefficients of the item.

        Returns:
            Function from a level to the description at it.
        """
        ...

    def read(self, message: "Unpacker", level: int) -> Described:
        """Read a description, the inverse of `Described.symbols`.

        Args:
            message: Decoder of the values.
            level: Index into `LEVELS`.

        Returns:
            The description.

        Raises:
            CorruptPayload: A value is out of range.
        """
        ...


@dataclass(frozen=True, slots=True)
class Level:
    """Resolution at which a spectrum is described.

    Args:
        octaves: Distance of the nodes in octaves, for brightness and for the two colour planes.
        step: Quantiser step of the node values, in log2 of variance.
    """

    octaves: tuple[float, float, float]
    step: float


LEVELS = (
    Level((1.0, 1.5, 1.5), 1.5),  # some 450 bits for a photograph
    Level((1.5, 3.0, 3.0), 1.5),  # 210
    Level((2.0, 4.5, 4.5), 1.5),  # 140
    Level((3.0, 9.0, 9.0), 1.5),  # 85
    Level((4.5, 9.0, 9.0), 1.5),  # 70
    Level((4.5, 9.0, 9.0), 3.0),  # 55
    Level((9.0, 99.0, 99.0), 2.0),  # 30
    Level((99.0, 99.0, 99.0), 2.0),  # 20: one node per plane, its energy
)
"""Resolutions at which a spectrum can be described, from fine to coarse."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Variances of the cosine coefficients of three planes, smooth in logarithmic frequency.

    log2 variance[u, v] = usual[u, v] + step * sum over nodes of hat(log2(1 + u)) hat(log2(1 + v)) node

    `usual` is the spectrum of the average photograph, a power of spatial frequency. The constant coefficient
    [0, 0] of each plane has a value of its own, since flat pictures have nothing else. Everything is rounded
    to integers before it is compared, so that transmitter and receiver agree on which coefficients are
    largest.

    Args:
        shape: Height and width of the planes.
        level: Index into `LEVELS`.
        nodes: Node values, small integers, one array [rows, columns] per plane.
        constants: log2 variance of the constant coefficient above the usual, in steps, one per plane.
    """

    shape: tuple[int, int]
    level: int
    nodes: tuple[Int[np.ndarray, "_ _"], ...]
    constants: tuple[int, ...]

    @classmethod
    def fit(cls, histograms: Sequence["Histogram"], level: int) -> "Spectrum":
        """Fit a spectrum to histograms by maximum likelihood, and round it.

        Args:
            histograms: One histogram per plane.
            level: Index into `LEVELS`.

        Returns:
            The rounded spectrum.
        """
        shape = histograms[0].shape
        nodes, constants = [], []
        for plane, histogram in enumerate(histograms):
            usual = _usual(shape, plane)
            exact = histogram.most_likely(*_grid(shape, LEVELS[level].octaves[plane]), usual)
            nodes.append(_rounded(exact, level))
            excess = max(math.log2(max(histogram.constant, 1e-30)) - usual[0, 0], LEAST_EXCESS)
            constants.append(int(_rounded(np.array([excess]), level)[0]))
        return cls(shape, level, tuple(nodes), tuple(constants))

    @classmethod
    def least_bits(cls, shape: tuple[int, int], level: int) -> int:
        """Shortest description length, that of a spectrum which equals its prediction everywhere.

        Args:
            shape: Height and width of the planes.
            level: Index into `LEVELS`.

        Returns:
            Bits.
        """
        nodes = sum(math.prod(_grid(shape, octaves)) for octaves in LEVELS[level].octaves)
        return math.floor((3 + nodes) * math.log2(sum(NODE_TABLE) / max(NODE_TABLE)))

    def largest(self, count: int) -> Int[np.ndarray, " count"]:
        """Flat indices of the coefficients of largest variance, in falling order; ties in raster order.

        Args:
            count: Number of coefficients.

        Returns:
            Indices, [count].
        """
        return np.argsort(-self._logarithms, kind="stable")[:count]

    def variances(self, index: Int[np.ndarray, " some"]) -> Float[np.ndarray, " some"]:
        """Variances of the coefficients at given flat indices.

        Args:
            index: Flat indices, [some].

        Returns:
            Variances, [some].
        """
        return np.exp2(self._logarithms[index] / self._units)

    def total(self) -> float:
        """Sum of the variances of all coefficients."""
        return float(np.exp2(self._logarithms / self._units).sum())

    @property
    def _units(self) -> float:
        """Units of the integer representation per octave of variance."""
        return HAT**2 / LEVELS[self.level].step

    @cached_property
    def _logarithms(self) -> Int[np.ndarray, " values"]:
        planes = []
        for nodes in self.nodes:
            down, across = (_hats(n, m) for n, m in zip(self.shape, nodes.shape, strict=True))
            excess = down.astype(float) @ nodes @ across.T  # integers: exact
            excess[0, 0] = self.constants[len(planes)] * HAT**2
            planes.append(excess + np.rint(_usual(self.shape, len(planes)) * self._units))
        return np.stack(planes).clip(-INT16, INT16).astype(np.int16).reshape(-1)

    def symbols(self) -> list[Symbol]:
        """Values for `pack`: prediction residuals of the nodes, with their frequency tables."""
        out = [(constant + NODE_RANGE, NODE_TABLE) for constant in self.constants]
        for nodes in self.nodes:
            for i, j in np.ndindex(*nodes.shape):
                out.append((int(nodes[i, j]) - _prediction(nodes, i, j) + NODE_RANGE, NODE_TABLE))
        return out

    @classmethod
    def read(cls, message: "Unpacker", shape: tuple[int, int], level: int) -> "Spectrum":
        """Read a spectrum, the inverse of `symbols`.

        Args:
            message: Decoder of the values.
            shape: Height and width of the planes.
            level: Index into `LEVELS`.

        Returns:
            The spectrum.

        Raises:
            CorruptPayload: A node is out of range.
        """
        constants = tuple(message.take(NODE_TABLE) - NODE_RANGE for _ in range(3))
        planes = []
        for octaves in LEVELS[level].octaves:
            nodes = np.zeros(_grid(shape, octaves), np.int64)
            for i, j in np.ndindex(*nodes.shape):
                nodes[i, j] = _prediction(nodes, i, j) + message.take(NODE_TABLE) - NODE_RANGE
            planes.append(nodes)
        if max(np.abs(nodes).max() for nodes in (*planes, np.array(constants))) > LARGEST_NODE:
            raise CorruptPayload("the description of a spectrum is out of range")
        return cls(shape, level, tuple(planes), constants)


@dataclass(frozen=True, slots=True)
class PictureModel:
    """Description of the coefficients of a picture, [3, height, width], by a `Spectrum`.

    Args:
        shape: Height and width of the picture.
    """

    shape: tuple[int, int]

    @property
    def spectra(self) -> int:
        """Number of spectra, always 1."""
        return 1

    @property
    def values(self) -> int:
        """Number of coefficients, 3 height width."""
        return 3 * math.prod(self.shape)

    def least_bits(self, level: int) -> int:
        """Length in bits of the shortest description at a level."""
        return Spectrum.least_bits(self.shape, level)

    def fits(self, coefficients: Float[np.ndarray, "3 height width"]) -> Callable[[int], Spectrum]:
        """Prepare the description of coefficients at any level."""
        histograms = tuple(Histogram.of(plane) for plane in coefficients)
        return lambda level: Spectrum.fit(histograms, level)

    def read(self, message: "Unpacker", level: int) -> Spectrum:
        """Read a spectrum; raises CorruptPayload if a node is out of range."""
        return Spectrum.read(message, self.shape, level)


@dataclass(frozen=True, eq=False, slots=True)
class Histogram:
    """Energy of one plane's coefficients in cells of logarithmic frequency.

    Args:
        shape: Height and width of the plane.
        starts: First index of each cell, per axis.
        counts: Number of coefficients per cell, zero frequency excluded, [rows, columns].
        means: Mean energy per cell, [rows, columns].
        constant: Energy at zero frequency.
    """

    shape: tuple[int, int]
    starts: tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " columns"]]
    counts: Float[np.ndarray, "rows columns"]
    means: Float[np.ndarray, "rows columns"]
    constant: float

    @classmethod
    def of(cls, coefficients: Float[np.ndarray, "height width"]) -> "Histogram":
        """Histogram of coefficients in cells of a quarter octave.

        Args:
            coefficients: Cosine coefficients of one plane, [height, width].

        Returns:
            The histogram.
        """
        height, width = coefficients.shape
        rows, columns = _cells(height), _cells(width)
        energies = np.square(coefficients, dtype=float)
        constant = float(energies[0, 0])
        energies[0, 0] = 0
        counts = np.outer(np.diff(rows, append=height), np.diff(columns, append=width)).astype(float)
        counts[0, 0] = NO_COUNT
        return cls(
            (height, width), (rows, columns), counts, _sum_cells(energies, rows, columns) / counts, constant
        )

    def most_likely(
        self, rows: int, columns: int, usual: Float[np.ndarray, "height width"]
    ) -> Float[np.ndarray, "{rows} {columns}"]:
        """Maximum-likelihood node values, in log2 of variance above the usual, for Gaussian coefficients.

        Newton's method. After power allocation, distortion is proportional to the root of the variance, so
        the likelihood of a coefficient is weighted by it.

        Args:
            rows: Number of nodes along vertical frequency.
            columns: Number of nodes along horizontal frequency.
            usual: log2 variance of the average photograph, [height, width].

        Returns:
            Node values, [rows, columns].
        """
        down, across = (
            np.add.reduceat(_hats(length, nodes) / HAT, starts, 0) / np.diff(starts, append=length)[:, None]
            for length, nodes, starts in zip(self.shape, (rows, columns), self.starts, strict=True)
        )
        basis = np.einsum("ai,bj->abij", down, across).reshape(self.counts.size, -1)
        sizes = np.outer(*(np.diff(s, append=n) for s, n in zip(self.starts, self.shape, strict=True)))
        usual = np.log(2) * (_sum_cells(usual, *self.starts) / sizes).reshape(-1)
        counts = self.counts.reshape(-1)
        means = np.maximum(self.means.reshape(-1), np.exp(usual) * 2**LEAST_EXCESS)
        ridge = 1e-7 * np.eye(basis.shape[1])
        weight = np.sqrt(counts) / np.sqrt(counts).sum()
        nodes = np.linalg.solve(
            (basis.T * weight) @ basis + ridge, (basis.T * weight) @ (np.log(means) - usual)
        )
        for _ in range(10):
            variance = np.exp(usual + basis @ nodes)
            weight = counts * np.sqrt(np.minimum(variance, 10 * means))
            weight /= weight.sum()
            ratio = np.minimum(means / variance, 5)
            curvature = (basis.T * (weight * np.maximum(ratio, 0.5))) @ basis + ridge
            step = np.linalg.solve(curvature, basis.T @ (weight * (ratio - 1)))
            nodes += np.clip(step, -1, 1)
        return nodes.reshape(rows, columns) / np.log(2)


def fits(symbols: Sequence[Symbol], bits: int) -> bool:
    """Whether `pack` can code the values: their information is at most the given number of bits.

    Args:
        symbols: Values with their frequency tables.
        bits: Size of the message.

    Returns:
        True if they fit.
    """
    total = math.prod(sum(table) for _, table in symbols)
    return total <= math.prod(table[value] for value, table in symbols) << bits


def pack(symbols: Sequence[Symbol], bits: int) -> int:
    """Entropy-code values with their frequency tables into a number of a given size, if they fit.

    Arithmetic coding without rounding: the values stand for an interval of [0, 1) as wide as their
    probability, and the number is the first multiple of 2^-bits in it.

    Args:
        symbols: Values with their frequency tables.
        bits: Size of the number.

    Returns:
        Number in 0 .. 2^bits - 1.

    Example:
        >>> message = Unpacker(pack([(2, (1, 1, 6)), (0, (9, 1))], 8), 8)
        >>> message.take((1, 1, 6)), message.take((9, 1))
        (2, 0)
    """
    low, width, total = 0, 1, 1
    for value, table in symbols:
        low = low * sum(table) + width * sum(table[:value])
        width *= table[value]
        total *= sum(table)
    return -(-(low << bits) // total)


class Unpacker:
    """Decoder of the values that `pack` has coded.

    Args:
        number: The number.
        bits: Size of the number in bits.
    """

    def __init__(self, number: int, bits: int) -> None:
        self.place, self.width = number, 1 << bits

    def take(self, table: Table) -> int:
        """Decode the next value.

        Args:
            table: Frequency table with which the value was coded.

        Returns:
            The value.
        """
        self.place *= sum(table)
        value = 0
        while self.place >= table[value] * self.width:
            self.place -= table[value] * self.width
            value += 1
        self.width *= table[value]
        return value


def _two_sided(largest: int, numerator: int, denominator: int) -> Table:
    """Geometric frequencies of -largest .. largest, falling by a constant ratio from 0 outwards."""
    half = [max(1, (numerator**i << 16) // denominator**i) for i in range(largest + 1)]
    return tuple(half[:0:-1] + half)


NODE_RANGE = 2 * LARGEST_NODE  # |value| + |prediction|, which is at most 0.9 of the largest
NODE_TABLE = _two_sided(NODE_RANGE, 9, 20)  # mean size 0.75, as measured on photos/train


def _grid(shape: tuple[int, int], octaves: float) -> tuple[int, int]:
    """Numbers of nodes whose distance in log2(1 + index) is about `octaves`; at least one per axis."""
    rows, columns = (round(float(np.log2(length)) / octaves) + 1 for length in shape)
    return rows, columns


@lru_cache(maxsize=64)
def _hats(length: int, nodes: int) -> Int[np.ndarray, "{length} {nodes}"]:
    place = np.log2(1.0 + np.arange(length)) * ((nodes - 1) / max(np.log2(length), 1.0))
    left = np.minimum(place.astype(np.int64), max(nodes - 2, 0))
    right = np.rint((place - left) * HAT).astype(np.int64)
    hats = np.zeros((length, nodes), np.int64)
    hats[np.arange(length), left] = HAT - right
    if nodes > 1:
        hats[np.arange(length), left + 1] = right
    return hats


def _rounded(exact: Float[np.ndarray, "*_"], level: int) -> Int[np.ndarray, "*_"]:
    steps = np.rint(exact / LEVELS[level].step)
    return np.clip(steps, -LARGEST_NODE, LARGEST_NODE).astype(np.int64)


def _usual(shape: tuple[int, int], plane: int) -> Float[np.ndarray, "height width"]:
    """log2 variance of the coefficients of the average photograph."""
    down, across = ((np.arange(length) + 0.5) / length for length in shape)
    return OFFSET[plane] - SLOPE[plane] / 2 * np.log2(down[:, None] ** 2 + across**2)


def _sum_cells(values: Float[np.ndarray, "height width"], rows, columns) -> Float[np.ndarray, "_ _"]:
    return np.add.reduceat(np.add.reduceat(values, rows, 0), columns, 1)


def _prediction(excess: Int[np.ndarray, "_ _"], i: int, j: int) -> int:
    above = int(excess[i - 1, j]) if i else 0
    before = int(excess[i, j - 1]) if j else 0
    return (29 * (above + before) + 32) // 64  # 0.45 of each: least squares over photos/train


def _cells(length: int) -> Int[np.ndarray, " cells"]:
    octave = np.floor(np.log2(1.0 + np.arange(length)) * CELLS_PER_OCTAVE)
    return np.unique(octave, return_index=True)[1]
