"""Prediction-error expansion: small errors of the smoothest pixels double and carry a bit, others shift."""

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from semcom.errors import CorruptStego, PayloadTooLarge
from semcom.hiding.method import Hidden
from semcom.hiding.pixels import Planes, layer, layer_numbers

WIDEST = 24  # thresholds tried: (low, high) = (0, 0), (-1, 0), (-1, 1), ...
PART = struct.Struct(">bBIIH")  # low, high, pixels, bits, bytes of the location map
LONGEST_MAP = 65535  # bytes; a layer whose map is longer carries nothing


@dataclass(frozen=True)
class ErrorExpansion:
    """Prediction-error expansion: errors e in low..high become 2 e + bit, errors outside are shifted.

    Errors above `high` move up by high + 1, errors below `low` move down by -low. Predictor and order (by
    complexity) are those of `Recursive`; every layer carries an equal part of the bits in its smoothest
    pixels, with the thresholds of least squared error, location map included. Pixels that could leave 0..255
    are excluded; the location map, which distinguishes them from changed pixels, is compressed into the
    header.

    Reference:
        Thodi and Rodriguez, IEEE Trans. Image Processing 16(3), 2007; Sachnev, Kim, Nam, Suresh and Shi,
        Reversible watermarking algorithm using sorting and prediction, IEEE Trans. Circuits and Systems for
        Video Technology 19(7), 2009.
    """

    @property
    def name(self) -> str:
        """Name of the method in tables: "error-expansion"."""
        return "error-expansion"

    @property
    def number(self) -> int:
        """Number of the method in the header of a stego picture."""
        return 1

    def hide(self, planes: Planes, reserved: int, message: bytes, before: bytes = b"") -> Hidden:
        """Hide a message layer by layer; where equal parts do not fit, each layer takes what it holds."""
        bits = np.unpackbits(np.frombuffer(message, dtype=np.uint8))
        for equal in (True, False):
            work, header, symbols, done = planes.copy(), b"", 0, 0
            numbers = list(layer_numbers(planes))
            for i, (color, parity) in enumerate(numbers):
                left = len(bits) - done
                share = -(-left // (len(numbers) - i)) if equal else left
                written = _hide(work, color, parity, reserved, bits[done : done + share])
                header += written[0]
                symbols += written[1]
                done += written[2]
            if done == len(bits):
                return Hidden(work, header, symbols)
        raise PayloadTooLarge(f"{len(message)} bytes")

    def reveal(self, planes: Planes, reserved: int, header: bytes, length: int) -> tuple[bytes, Planes]:
        """Recover message and host planes, undoing the layers in reverse order."""
        planes = planes.copy()
        parts: list[tuple[tuple[int, int], tuple[int, ...], bytes]] = []
        at = 0
        for number in layer_numbers(planes):
            if at + PART.size > len(header):
                raise CorruptStego("the picture's header is cut off; get it again, without any change to it")
            fields = PART.unpack_from(header, at)
            at += PART.size
            parts.append((number, fields, header[at : at + fields[-1]]))
            at += fields[-1]
        found = [_reveal(planes, *number, reserved, fields, flags) for number, fields, flags in parts[::-1]]
        bits = np.concatenate(found[::-1])
        if len(bits) != 8 * length:
            raise CorruptStego("the picture was changed since it was made; get it again, without any change")
        return np.packbits(bits).tobytes(), planes

    def capacity_bytes(self, planes: Planes, reserved: int) -> int:
        """Capacity in bytes over all layers at the thresholds that hold the most, less location maps."""
        planes = planes.copy()
        bits = np.random.default_rng(0).integers(0, 2, planes.size, dtype=np.uint8)
        parts = [_hide(planes, color, parity, reserved, bits) for color, parity in layer_numbers(planes)]
        return sum(done for _, _, done in parts) // 8 - sum(len(header) - PART.size for header, _, _ in parts)


def _hide(planes: Planes, color: int, parity: int, reserved: int, bits: np.ndarray) -> tuple[bytes, int, int]:
    """Header, pixels and bits of one layer, which is changed in place."""
    of = layer(planes, color, parity, reserved)
    order = np.argsort(of.complexity, kind="stable")
    value, error = of.value[order], of.error[order]
    best: tuple[float, int, int, int, int] | None = None
    for width in range(WIDEST):
        low, high = -((width + 1) // 2), width // 2
        free = _free(value, low, high)
        carries = free & (error >= low) & (error <= high)
        carried = np.cumsum(carries)
        taken = min(len(bits), int(carried[-1]) if len(carried) else 0)
        used = int(np.searchsorted(carried, taken)) + 1 if taken else 0
        moved = np.where(carries, error**2 + error + 0.5, np.where(error > high, (high + 1.0) ** 2, low**2))
        cost = float(moved[:used][free[:used]].sum())
        if taken:
            cost *= 1 + _map_bits(value[:used], error[:used], free[:used], low, high) / taken
        if best is None or (-taken, cost) < (-best[1], best[0]):
            best = cost, taken, used, low, high
    if best is None:
        return PART.pack(0, 0, 0, 0, 0), 0, 0
    _, taken, used, low, high = best
    value, error, place = value[:used], error[:used], of.index[order][:used]
    free = _free(value, low, high)
    carries = free & (error >= low) & (error <= high)
    change = np.where(error > high, high + 1, np.where(error < low, low, error))
    change[carries] += bits[:taken]
    after = np.where(free, value + change, value)
    flags = zlib.compress(np.packbits(~free[~_free(after, low, high)]).tobytes(), 9)
    if len(flags) > LONGEST_MAP:
        return PART.pack(0, 0, 0, 0, 0), 0, 0
    planes.reshape(-1)[place] = after.astype(np.uint8)
    return PART.pack(low, high, used, taken, len(flags)) + flags, used, taken


def _reveal(
    planes: Planes, color: int, parity: int, reserved: int, fields: tuple[int, ...], flags: bytes
) -> np.ndarray:
    """Bits of one layer, which is restored in place."""
    low, high, used, taken, _ = fields
    of = layer(planes, color, parity, reserved)
    order = np.argsort(of.complexity, kind="stable")[:used]
    after, error = of.value[order], of.error[order]
    try:
        known = np.unpackbits(np.frombuffer(zlib.decompress(flags), dtype=np.uint8))
    except zlib.error:
        known = np.zeros(0, np.uint8)
    free = _free(after, low, high)
    doubtful = np.flatnonzero(~free)
    if used > len(of.index) or len(known) < len(doubtful) or not -WIDEST <= low <= 0 <= high <= WIDEST:
        raise CorruptStego("the picture's header is damaged; get it again, without any change to it")
    free[doubtful] = known[: len(doubtful)] == 0
    carries = free & (error >= 2 * low) & (error <= 2 * high + 1)
    bits = (error[carries] & 1).astype(np.uint8)
    change = np.where(error > 2 * high + 1, high + 1, np.where(error < 2 * low, low, 0))
    change[carries] = (error[carries] + 1) >> 1
    before = np.where(free, after - change, after)
    planes.reshape(-1)[of.index[order]] = (before & 255).astype(np.uint8)
    return bits[:taken] if len(bits) >= taken else bits


def _map_bits(value: np.ndarray, error: np.ndarray, free: np.ndarray, low: int, high: int) -> float:
    """Of a location map, about: n H(k / n) for k pixels kept out of n that are doubtful."""
    shift = np.where(error > high, high + 1, np.where(error < low, low, error))
    doubtful = ~_free(np.where(free, value + shift, value), low, high)
    n, k = int(doubtful.sum()), int((~free).sum())
    return float(sum(x * np.log2(n / x) for x in (k, n - k) if x > 0))


def _free(value: np.ndarray, low: int, high: int) -> np.ndarray:
    """Pixels that stay in 0..255 whatever is done to them."""
    margin = max(high + 1, -low)
    return (value >= margin) & (value <= 255 - margin)
