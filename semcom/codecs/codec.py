"""The codec protocol, and fitting a codec to a number of bits."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True, order=True)
class Quality:
    """One operating point of a codec: the image is reduced by `scale` in each direction, then coded.

    Args:
        scale: 1, 2, 4 or 8.
        setting: The codec's own number, larger is finer.
    """

    scale: int
    setting: int


@runtime_checkable
class SourceCodec(Protocol):
    """Image to bytes and back; every header that the decoder needs is inside the bytes.

    The decoder is given the shape of the item for free, as every scheme is.
    """

    @property
    def name(self) -> str:
        """Canonical spelling ("avif")."""
        ...

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """All operating points, by scale (8, 4, 2, 1), and coarse to fine within one scale."""
        ...

    def encode(self, x: Float[Tensor, "1 3 height width"], quality: Quality) -> bytes:
        """Deterministic: equal images give equal bytes."""
        ...

    def decode(self, payload: bytes, shape: tuple[int, ...]) -> Float[Tensor, "1 3 height width"]:
        """Raise `CorruptPayload` on bytes that are not an image of this shape."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Fitted:
    """The best payload that fits, what it decodes to, and at what quality."""

    payload: bytes
    quality: Quality
    decoded: Float[Tensor, "1 3 height width"]
