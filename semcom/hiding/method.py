"""What a method of reversible hiding is to the container: bytes in, planes and a header out, and back."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from semcom.hiding.pixels import Planes


@dataclass(frozen=True, eq=False)
class Hidden:
    """A message in planes.

    Args:
        planes: Changed.
        header: What the method needs to get the message and the planes back.
        symbols: Pixels that took part.
        theory_bits: n (H(r) - H(p)) of the host symbols met and the stego law, over all classes; 0 where the
            method has no such law.
    """

    planes: Planes
    header: bytes
    symbols: int
    theory_bits: float = 0.0


@runtime_checkable
class Method(Protocol):
    """Hides messages of random bits in the planes of a picture, but for the first so many pixels."""

    @property
    def name(self) -> str:
        """Of tables."""
        ...

    @property
    def number(self) -> int:
        """In the header of the picture, one per class of methods."""
        ...

    def hide(self, planes: Planes, reserved: int, message: bytes, before: bytes = b"") -> Hidden:
        """Raise `PayloadTooLarge` where the message does not fit.

        `before` is the header of the same message with another number of reserved pixels, to begin with.
        """
        ...

    def reveal(self, planes: Planes, reserved: int, header: bytes, length: int) -> tuple[bytes, Planes]:
        """Message of so many bytes, and the planes before; raise `CorruptStego` where that cannot be."""
        ...

    def capacity_bytes(self, planes: Planes, reserved: int) -> int:
        """Of a message that fits."""
        ...
