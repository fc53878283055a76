"""A receiver's knowledge of one item after the channel: an observation, and the kinds of evidence in it."""

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
    """Decoder and operating point that produced a picture: the key of its measured error statistics.

    Args:
        code: Name of an error table (see `semcom.calibration`).
        point: Coordinates in that table. For a joint source-channel code: log2 of channel uses per source
            value, and effective SNR in dB. For a source codec: log2 of bits per source value, and for a video
            codec the log2 of the factor by which the clip was reduced.
    """

    code: str
    point: tuple[float, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Payload:
    """Bytes that arrived without errors, and the source codec that decodes them.

    Args:
        codec: Source codec that encoded the bytes.
        data: Received bytes.
        code: Canonical name of the codec.
    """

    codec: SourceCodec
    data: bytes
    code: str


@dataclass(frozen=True, eq=False, slots=True)
class Nonlinear:
    """Nonlinear evidence y = M(x) + n with white real Gaussian noise n of variance 1 per value.

    Args:
        y: Observed real values.
        measurement: M, a differentiable function of a picture [1, 3, height, width] in [0, 1], with values of
            the shape of y.
    """

    y: Tensor
    measurement: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False, slots=True)
class Linear:
    """Linear evidence y = A x + n with white real noise n of known standard deviation.

    Args:
        y: Observed real values, of the shape of A x for a picture x [1, 3, height, width] in [0, 1].
        operator: Linear operator A.
        noise_std: Standard deviation of every value of n in units of y, finite and at least 0.

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
    """Evidence from analog symbols in known noise: a linear observation and the estimate made from it.

    Both describe the same received symbols, so that a receiver uses one of them: receivers with a prior use
    the linear observation, all others the estimate.

    Args:
        estimate: Linear minimum mean square error estimate of the picture, [1, 3, height, width] in [0, 1].
        error_std: Root of the expected squared error of the estimate per value, at least 0.
        linear: The received symbols as a linear observation of the picture.
    """

    estimate: Tensor
    error_std: float
    linear: Linear


@dataclass(frozen=True, eq=False, slots=True)
class Decoded(Generic[X]):
    """Evidence y = A x + error from a decoder; the statistics of the error are looked up in measured tables.

    Args:
        y: Output of the decoder: an item, or A x with an error for a picture x.
        operator: Linear operator A; the identity unless a reduced picture was sent.
        origin: Key of the measured error statistics; None if it follows from the payload, or if the error of
            this decoder has not been measured.
        payload: Bytes that a source codec decoded to y; None for other decoders.
        symbols: Channel symbols that a joint source-channel decoder decoded to y, as a function of the
            picture; None for other decoders.
    """

    y: X
    operator: Operator = field(default_factory=Identity)
    origin: Origin | None = None
    payload: Payload | None = None
    symbols: Nonlinear | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Gaps(Generic[X]):
    """Evidence of an item sent in packets, some of which were lost: each part is right or missing.

    Args:
        x: The item, with a concealment in place of every missing part.
        missing: Whether each part is missing, in order: one entry per frame of a clip, or per character of
            the text x.
        origin: Video codec and operating point of the frames that arrived; None for other items.
        refused: Number of packets that arrived undamaged, but that the codec of texts cannot decode.
    """

    x: X
    missing: tuple[bool, ...]
    origin: Origin | None = None
    refused: int = 0


Evidence = Decoded | Symbols | Linear | Gaps
"""One piece of evidence. The errors of several pieces in one observation are independent."""


@dataclass(frozen=True, eq=False, slots=True)
class Observation(Generic[X]):
    """All that a receiver knows of one item after the channel.

    Args:
        shown: The item as the transmission decoded it; None if the item was lost.
        evidence: Pieces of evidence with independent errors; empty if the item was lost.
        info: Finite numbers for the record, by column name.
    """

    shown: X | None
    evidence: tuple[Evidence, ...] = ()
    info: Mapping[str, float] = field(default_factory=dict)
