"""Histogram shifting: values between a histogram peak and an empty value shift to make room."""

import struct
from dataclasses import dataclass

import numpy as np

from semcom.errors import CorruptStego, PayloadTooLarge
from semcom.hiding.method import Hidden
from semcom.hiding.pixels import Planes

MOST_ROUNDS = 96
ROUND = struct.Struct(">BBBI")
LEAST_HEIGHT = 16 * ROUND.size + 1  # bits a round must hide at least: twice its own bits in the header


@dataclass(frozen=True)
class HistogramShifting:
    """Histogram shifting: pixels at the peak a of a plane's histogram carry one bit each, as a or a +- 1.

    Values between a and an empty value b move by one towards b. Rounds continue, always in the plane with the
    highest peak, until all bits are hidden. Only empty values serve as b, so that no positions need to be
    stored.

    Reference:
        Ni, Shi, Ansari and Su, Reversible data hiding, IEEE Trans. Circuits and Systems for Video Technology
        16(3), 2006.
    """

    @property
    def name(self) -> str:
        """Name of the method in tables: "histogram-shifting"."""
        return "histogram-shifting"

    @property
    def number(self) -> int:
        """Number of the method in the header of a stego picture."""
        return 2

    def hide(self, planes: Planes, reserved: int, message: bytes, before: bytes = b"") -> Hidden:
        """Hide a message, one round per histogram peak."""
        bits = np.unpackbits(np.frombuffer(message, dtype=np.uint8))
        planes, rounds, left = _rounds(planes, reserved, bits)
        if left:
            raise PayloadTooLarge(f"{len(message)} bytes")
        return Hidden(planes, bytes([len(rounds)]) + b"".join(ROUND.pack(*r) for r in rounds), len(bits))

    def reveal(self, planes: Planes, reserved: int, header: bytes, length: int) -> tuple[bytes, Planes]:
        """Recover message and host planes, undoing the rounds in reverse order."""
        count = header[0] if header else 0
        if not header or count > MOST_ROUNDS or len(header) < 1 + count * ROUND.size:
            raise CorruptStego("the picture's header is damaged; get it again, without any change to it")
        work = planes.astype(np.int16)
        found: list[np.ndarray] = []
        for i in reversed(range(count)):
            color, peak, empty, carried = ROUND.unpack_from(header, 1 + i * ROUND.size)
            if color >= len(planes) or peak == empty:
                raise CorruptStego("the picture's header is damaged; get it again, without any change to it")
            values = _values(work, color, reserved)
            step = 1 if empty > peak else -1
            at = (values == peak) | (values == peak + step)
            found.append((values[at] == peak + step)[:carried].astype(np.uint8))
            moved = (values - peak) * step
            between = (moved > 0) & (moved <= (empty - peak) * step)
            values[between] -= step
        bits = np.concatenate([np.zeros(0, np.uint8), *reversed(found)])
        if len(bits) != 8 * length:
            raise CorruptStego("the picture was changed since it was made; get it again, without any change")
        return np.packbits(bits).tobytes(), _bytes(work)

    def capacity_bytes(self, planes: Planes, reserved: int) -> int:
        """Capacity in bytes, over as many rounds as are possible."""
        bits = np.random.default_rng(0).integers(0, 2, planes.size, dtype=np.uint8)
        _, rounds, left = _rounds(planes, reserved, bits)
        return (len(bits) - left) // 8 - len(rounds) * ROUND.size


def _rounds(planes: Planes, reserved: int, bits: np.ndarray) -> tuple[Planes, list[tuple[int, ...]], int]:
    """Planes, (plane, peak, empty value, bits) of all rounds, and the bits that are left."""
    work = planes.astype(np.int16)
    rounds: list[tuple[int, ...]] = []
    done = 0
    while done < len(bits) and len(rounds) < MOST_ROUNDS:
        pairs = [_pair(_values(work, color, reserved)) for color in range(len(work))]
        color = max(range(len(work)), key=lambda c: pairs[c][0])
        height, peak, empty = pairs[color]
        if height < LEAST_HEIGHT:
            break
        values = _values(work, color, reserved)
        step = 1 if empty > peak else -1
        moved = (values - peak) * step
        at = np.flatnonzero(moved == 0)
        carried = min(len(at), len(bits) - done)
        values[(moved > 0) & (moved < (empty - peak) * step)] += step
        values[at[:carried]] += step * bits[done : done + carried].astype(np.int16)
        rounds.append((color, peak, empty, carried))
        done += carried
    return _bytes(work), rounds, len(bits) - done


def _values(work: np.ndarray, color: int, reserved: int) -> np.ndarray:
    """Of one plane, but for the reserved pixels; a view."""
    return work[color].reshape(-1)[reserved if color == 0 else 0 :]


def _pair(values: np.ndarray) -> tuple[int, int, int]:
    """Height and place of the peak, and the empty value nearest to it; a height of 0 if there is none."""
    histogram = np.bincount(values.clip(0, 255), minlength=256)
    peak = int(histogram.argmax())
    free = np.flatnonzero(histogram == 0)
    if not len(free):
        return 0, peak, peak
    return int(histogram[peak]), peak, int(free[np.abs(free - peak).argmin()])


def _bytes(work: np.ndarray) -> Planes:
    return (work & 255).astype(np.uint8)
