"""Protocol of reversible data hiding methods: bytes into planes and a header, and back."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from semcom.hiding.pixels import Planes


@dataclass(frozen=True, eq=False)
class Hidden:
    """Result of hiding a message in the planes of a picture.

    Args:
        planes: Changed planes, uint8 [colors, height, width].
        header: Bytes that the method needs to recover message and planes.
        symbols: Number of pixels that took part.
        theory_bits: n (H(r) - H(p)) of the host symbols met and the stego law, over all classes; 0 if the
            method has no such law.
    """

    planes: Planes
    header: bytes
    symbols: int
    theory_bits: float = 0.0


@runtime_checkable
class Method(Protocol):
    """A reversible hiding method for messages of random bits that leaves the first pixels unchanged."""

    @property
    def name(self) -> str:
        """Name of the method in tables."""
        ...

    @property
    def number(self) -> int:
        """Number of the method in the header of a stego picture, unique among methods."""
        ...

    def hide(self, planes: Planes, reserved: int, message: bytes, before: bytes = b"") -> Hidden:
        """Hide a message in the planes of a picture.

        Args:
            planes: Host planes, uint8 [colors, height, width]; not changed.
            reserved: Pixels at the beginning of the first plane that must stay unchanged.
            message: Bytes that look random.
            before: Header returned for this message with another number of reserved pixels, as a starting
                point.

        Returns:
            Changed planes and header.

        Raises:
            PayloadTooLarge: The message does not fit.
        """
        ...

    def reveal(self, planes: Planes, reserved: int, header: bytes, length: int) -> tuple[bytes, Planes]:
        """Recover message and host planes.

        Args:
            planes: Stego planes, uint8 [colors, height, width].
            reserved: Pixels at the beginning of the first plane that the method did not change.
            header: Header that `hide` returned.
            length: Length of the message in bytes.

        Returns:
            The message, and the host planes.

        Raises:
            CorruptStego: The planes or the header were changed.
        """
        ...

    def capacity_bytes(self, planes: Planes, reserved: int) -> int:
        """Length of a message that fits.

        Args:
            planes: Host planes, uint8 [colors, height, width].
            reserved: Pixels at the beginning of the first plane that must stay unchanged.

        Returns:
            Length in bytes, at least 0.
        """
        ...
