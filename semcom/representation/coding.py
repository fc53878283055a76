"""Entropy coding of quantised innovations: a scale per frame and tile, then integers by its table.

Tables are those of the learned codec (`semcom.codecs.learned`): logistic distributions on a grid of scales.
The scale is sent, as the change from the last one of the same tile; flags take one bit.
"""

import zlib
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int

from semcom.codecs.hyperprior import LEVELS_PER_OCTAVE, LOG2_SCALE_MIN, RATE_WEIGHT
from semcom.codecs.learned import PRECISION, range_coder, reaches, tables_up_to
from semcom.errors import CorruptPayload

LOG2_SCALES = tuple(-3 + 0.5 * number for number in range(20))
"""Log2 of the scales of the innovations in quantiser steps."""
TABLES = tuple(round((log2 - LOG2_SCALE_MIN) * LEVELS_PER_OCTAVE) for log2 in LOG2_SCALES)
MOST_CHANGE = 7
"""Largest change of the index of the scale from one frame to the next."""
CHANGE_TABLE = round((-1 - LOG2_SCALE_MIN) * LEVELS_PER_OCTAVE)  # scale 1/2: 1.1 bits for no change

Integers = Int[np.ndarray, "..."]


@cache
def _tables() -> tuple[list[list[int]], list[int], list[int]]:
    """Tables of the learned codec, and behind them one of a fair bit."""
    tables, sizes, offsets = tables_up_to(TABLES[-1])
    flag = [0, (1 << PRECISION) // 2, (1 << PRECISION) - 1, 1 << PRECISION]
    return [*tables, flag], [*sizes, len(flag)], [*offsets, 0]


@cache
def _lengths() -> Float[np.ndarray, "scales magnitudes"]:
    """Code lengths in bits of 0, 1, 2, ... by scale; infinite beyond the reach of its table."""
    tables, _, offsets = _tables()
    most = max(-offsets[table] for table in TABLES)
    found = np.full((len(TABLES), most + 1), np.inf)
    for number, table in enumerate(TABLES):
        masses = np.diff(tables[table])[-offsets[table] : -1]
        found[number, : len(masses)] = PRECISION - np.log2(masses)
    return found


def best_scale(integers: Int[np.ndarray, " values"], last: int) -> int:
    """Scale whose table codes integers in the fewest bits, among those that a change may reach.

    Args:
        integers: Innovations in steps.
        last: Index of the last scale of this tile.

    Returns:
        Index into `LOG2_SCALES`; the largest one in reach if no table holds the integers.
    """
    low, high = max(last - MOST_CHANGE, 0), min(last + MOST_CHANGE, len(TABLES) - 1)
    lengths = _lengths()
    magnitudes = np.minimum(np.abs(integers), lengths.shape[1] - 1)
    totals = lengths[low : high + 1][:, magnitudes].sum(1)
    return low + int(totals.argmin()) if np.isfinite(totals.min()) else high


def chosen_integers(values: Float[np.ndarray, " values"], scale: int) -> Int[np.ndarray, " values"]:
    """Choose integers by rate and distortion among the nearest, the next towards 0, and 0.

    The choice minimises (value - integer)^2 + `RATE_WEIGHT` times the bits of the table of the scale.

    Args:
        values: Innovations in steps.
        scale: Index into `LOG2_SCALES`.

    Returns:
        Integers within reach of the table.
    """
    magnitudes, lengths = np.abs(values), _lengths()[scale]
    nearest = np.minimum(np.rint(magnitudes), scale_reach(scale)).astype(np.int64)
    candidates = np.stack([nearest, np.maximum(nearest - 1, 0), np.zeros_like(nearest)])
    costs = (magnitudes - candidates) ** 2 + RATE_WEIGHT * lengths[candidates]
    best = np.take_along_axis(candidates, costs.argmin(0)[None], 0)[0]
    return np.where(values < 0, -best, best)


def scale_reach(scale: int) -> int:
    """Largest magnitude of an integer that the table of a scale holds.

    Args:
        scale: Index into `LOG2_SCALES`.

    Returns:
        Largest magnitude.
    """
    return reaches()[TABLES[scale]]


class Encoder:
    """Entropy encoder of flags, scales and integers.

    Symbols are collected, and coded at the end, since rANS encodes the last symbol first.
    """

    def __init__(self) -> None:
        self._symbols: list[Integers] = []
        self._tables: list[Integers] = []

    def flags(self, flags: Bool[np.ndarray, " tiles"]) -> None:
        """Code one bit per flag."""
        self._put(flags.astype(np.int32), np.full(len(flags), len(_tables()[0]) - 1, np.int32))

    def scales(self, changes: Int[np.ndarray, " tiles"]) -> None:
        """Code changes of indices of scales, of at most `MOST_CHANGE`."""
        self._put(changes.astype(np.int32), np.full(len(changes), CHANGE_TABLE, np.int32))

    def integers(self, integers: Int[np.ndarray, "tiles values"], scales: Int[np.ndarray, " tiles"]) -> None:
        """Code the innovations of tiles by the tables of their scales."""
        tables = np.asarray(TABLES, np.int32)[scales]
        self._put(integers.astype(np.int32).ravel(), tables.repeat(integers.shape[1]))

    def _put(self, symbols: Integers, tables: Integers) -> None:
        self._symbols.append(symbols)
        self._tables.append(tables)

    def checksum(self, start: bytes) -> int:
        """Checksum of 16 bits over a beginning and everything coded."""
        return _checksum(start, self._symbols)

    def stream(self) -> bytes:
        """Stream of the range coder."""
        symbols, tables = np.concatenate(self._symbols), np.concatenate(self._tables)
        return range_coder().RansEncoder().encode_with_indexes(symbols.tolist(), tables.tolist(), *_tables())


class Decoder:
    """Entropy decoder of flags, scales and integers, in the order in which they were coded.

    The stream is continued with zeros, since the range coder does not check its end: it reads two words of 4
    bytes at the start and at most one per symbol.

    Args:
        stream: Any bytes.
        most_symbols: Largest number of symbols that will be asked for.
    """

    def __init__(self, stream: bytes, most_symbols: int) -> None:
        self._coder = range_coder().RansDecoder()
        self._coder.set_stream(stream + bytes(4 * most_symbols + 16))
        self._symbols: list[Integers] = []

    def flags(self, count: int) -> Bool[np.ndarray, " tiles"]:
        """Decode flags, of one bit each."""
        return self._get(np.full(count, len(_tables()[0]) - 1, np.int32)) == 1

    def scales(self, last: Int[np.ndarray, " tiles"]) -> Int[np.ndarray, " tiles"]:
        """Decode indices of scales from those before; raises CorruptPayload if one is out of range."""
        found = last + self._get(np.full(len(last), CHANGE_TABLE, np.int32))
        if len(found) and not (found.min() >= 0 and found.max() < len(TABLES)):
            raise CorruptPayload("the scale of an innovation is out of range: the payload is damaged")
        return found

    def integers(self, scales: Int[np.ndarray, " tiles"], values: int) -> Int[np.ndarray, "tiles values"]:
        """Decode the innovations of tiles by the tables of their scales."""
        tables = np.asarray(TABLES, np.int32)[scales].repeat(values)
        return self._get(tables).reshape(len(scales), values)

    def checksum(self, start: bytes) -> int:
        """Checksum of 16 bits over a beginning and everything decoded."""
        return _checksum(start, self._symbols)

    def _get(self, tables: Integers) -> Integers:
        found = np.array(self._coder.decode_stream(tables.tolist(), *_tables()), np.int64)
        self._symbols.append(found)
        return found


def _checksum(start: bytes, symbols: list[Integers]) -> int:
    flat = np.concatenate([part.ravel() for part in symbols]) if symbols else np.zeros(0)
    return zlib.crc32(flat.astype("<i4").tobytes(), zlib.crc32(start)) & 0xFFFF
