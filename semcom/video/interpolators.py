"""Interpolators of the frames between two decoded frames; all compute exactly, on any machine."""

import math
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor

from semcom.video.motion import block_motion, compensated
from semcom.video.network import FramePredictor
from semcom.video.predictors import DIGEST_BYTES, Frames, concealed

Frame = UInt8[Tensor, "3 height width"]
"""Frame of 8 bits."""

WINDOW = 3
"""Side of the square of blocks over which differences are summed."""
PENALTY = 3.0
"""Cost of a pixel of path from one frame to the other, per pixel of the window, in levels of R + G + B."""


@runtime_checkable
class Interpolator(Protocol):
    """An interpolator of frames between two known ones, which transmitter and receiver both run.

    All that goes in and comes out has 8 bits, and equal arguments give equal frames on every machine and with
    any number of threads: the transmitter judges the frames that the receiver will show.
    """

    @property
    def name(self) -> str:
        """Canonical name of the interpolator, for instance "fade"."""
        ...

    @property
    def digest(self) -> bytes:
        """First 4 bytes of the digest of its network's parameters; empty without a network."""
        ...

    def between(self, before: Frame, after: Frame, count: int) -> Frames:
        """Interpolate frames at equal distances in time.

        Args:
            before: Decoded frame before the first one, uint8 [3, height, width].
            after: Decoded frame after the last one, of the same size.
            count: Number of frames between the two, at least 1.

        Returns:
            The frames, uint8 [count, 3, height, width].
        """
        ...


@dataclass(frozen=True)
class Fade:
    """Interpolator that fades from one frame to the other.

        x(k) = ((n - k) before + k after) / n,    n = count + 1

    Levels are rounded to the nearest, halves up.
    """

    @property
    def name(self) -> str:
        """Name of the interpolator: "fade"."""
        return "fade"

    @property
    def digest(self) -> bytes:
        """Empty: there is no network."""
        return b""

    def between(self, before: Frame, after: Frame, count: int) -> Frames:
        """Fade from the frame before to the frame after."""
        return torch.stack([_mixed(before, after, k, count + 1) for k in range(1, count + 1)])


@dataclass(frozen=True)
class SymmetricBlockMotion:
    """Interpolator that moves blocks of 8x8 pixels along straight lines from one frame to the other.

    For the frame k of n = count + 1, the vector v of a block, in whole pixels from -7 to 7 per g frames,
    minimises the sum of

        |before(p - (k / g) v) - after(p + ((n - k) / g) v)|,    g = gcd(k, n)

    over the pixels p of the block and its neighbours, plus a penalty on the path from frame to frame, which
    keeps blocks in place unless motion explains much more. The frame is the mean of both, weighted as in
    `Fade`. Nothing about motion is sent; outside of the frames their edge is repeated.
    """

    @property
    def name(self) -> str:
        """Name of the interpolator: "block"."""
        return "block"

    @property
    def digest(self) -> bytes:
        """Empty: there is no network."""
        return b""

    def between(self, before: Frame, after: Frame, count: int) -> Frames:
        """Move the blocks of both frames to every time between them, and mix them."""
        first, last, n = before[None], after[None], count + 1
        found: list[Tensor] = []
        for k in range(1, n):
            unit = math.gcd(k, n)
            back, on = -k // unit, (n - k) // unit
            vectors = block_motion(first, last, (back, on), window=WINDOW, penalty=PENALTY * (on - back))
            start, end = compensated(first, vectors, back), compensated(last, vectors, on)
            found.append(_mixed(start[0], end[0], k, n))
        return torch.stack(found)


@dataclass(frozen=True)
class MeanBetween:
    """Interpolator by the mean of a trained network, from both ends inwards, each frame rounded to 8 bits.

    Args:
        network: Trained network, for instance `zoo.load("predictor")`.
    """

    network: FramePredictor
    _digest: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_digest", self.network.digest()[:DIGEST_BYTES])

    @property
    def name(self) -> str:
        """Name of the interpolator: "mean"."""
        return "mean"

    @property
    def digest(self) -> bytes:
        """First 4 bytes of the digest of the parameters."""
        return self._digest

    def between(self, before: Frame, after: Frame, count: int) -> Frames:
        """Fill the gap by `semcom.video.predictors.concealed`."""
        return torch.stack(concealed(self.network, [before, *[None] * count, after])[1:-1])


def _mixed(before: Tensor, after: Tensor, k: int, n: int) -> Tensor:
    """Weighted mean ((n - k) before + k after) / n in integers, rounded to the nearest, halves up."""
    total = (n - k) * before.int() + k * after.int()
    return ((2 * total + n) // (2 * n)).byte()
