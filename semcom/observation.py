"""What a receiver knows of one item after the channel: an observation, and the kinds of evidence in it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from torch import Tensor

from semcom.codecs.codec import SourceCodec
from semcom.errors import InvalidOption
from semcom.operators import Identity, Operator

X = TypeVar("X")


@dataclass(frozen=True, slots=True)
class Origin:
    """Which decoder made a picture, and at which operating point: the key of its measured error.

    Args:
        code: Name of the table in `semcom.calibration`.
        point: Coordinates in that table: for a joint code log2 of channel uses per source value and the
            effective SNR in dB, for a source codec log2 of bits per source value.
    """

    code: str
    point: tuple[float, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Payload:
    """The bytes that a source codec decoded.

    Args:
        codec: The source codec.
        data: The bytes as they arrived.
        code: Name of the codec.
    """

    codec: SourceCodec
    data: bytes
    code: str


@dataclass(frozen=True, eq=False, slots=True)
class Nonlinear:
    """Evidence y = M(x) + n with white real noise n of variance 1.

    Args:
        y: Observed real values.
        measurement: M, differentiable, of a picture [1, 3, height, width] in [0, 1].
    """

    y: Tensor
    measurement: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False, slots=True)
class Linear:
    """Evidence y = A x + n with white real noise n of known standard deviation.

    Args:
        y: Observed real values, in the units of pictures in [0, 1].
        operator: A.
        noise_std: Standard deviation of every value of n, finite and at least 0.

    Raises:
        InvalidOption: `noise_std` is negative or not finite.
    """

    y: Tensor
    operator: Operator
    noise_std: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.noise_std < math.inf:
            raise InvalidOption(
                f"noise of standard deviation {self.noise_std}: linear evidence has a finite one, at least 0"
            )


@dataclass(frozen=True, eq=False, slots=True)
class Symbols:
    """Evidence from analog symbols of known noise: a linear observation, and the estimate made of it.

    Receivers with a prior take the linear observation, all others the estimate; the two are one piece of
    evidence, not two.

    Args:
        estimate: Picture of least expected squared error, [1, 3, height, width] in [0, 1].
        error_std: Root of the expected squared error of the estimate, per value.
        linear: What the symbols say of the picture.
    """

    estimate: Tensor
    error_std: float
    linear: Linear


@dataclass(frozen=True, eq=False, slots=True)
class Decoded(Generic[X]):
    """Evidence A x + error that a decoder made, whose error is looked up in measured tables.

    Args:
        y: The decoder's output: the item itself, or for a picture A x.
        operator: A; the identity unless a reduced picture was sent.
        origin: Where the statistics of the error are to be found; None if nobody has measured them.
        payload: The decoded bytes, if a source codec decoded them.
        symbols: The channel symbols that a joint decoder decoded, as a function of the picture.
    """

    y: X
    operator: Operator = field(default_factory=Identity)
    origin: Origin | None = None
    payload: Payload | None = None
    symbols: Nonlinear | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Gaps(Generic[X]):
    """Evidence of an item that came in packets, some of which were lost: its parts are right or missing.

    Args:
        x: The item, with something plausible in place of what is missing.
        missing: For every part of the item, in order, whether it is missing: frames of a clip, characters of
            the text x.
    """

    x: X
    missing: tuple[bool, ...]


Evidence = Decoded | Symbols | Linear | Gaps
"""One piece of evidence. Several pieces of one observation have independent errors."""


@dataclass(frozen=True, eq=False, slots=True)
class Observation(Generic[X]):
    """All that a receiver knows of one item.

    Args:
        shown: The item as the transmission shows it by itself; None if it was lost.
        evidence: Pieces of evidence with independent errors; none if the item was lost.
        info: Finite numbers for the record, by column name.
    """

    shown: X | None
    evidence: tuple[Evidence, ...] = ()
    info: Mapping[str, float] = field(default_factory=dict)
