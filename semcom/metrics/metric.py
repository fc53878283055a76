"""What a figure of merit is: one number per item, or one number per set of items."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from semcom.errors import InvalidSource
from semcom.sources import Image, check_image

Reference = Float[Tensor, "#batch 3 height width"]
"""The originals, or one original that the whole batch is compared with."""


@runtime_checkable
class Metric(Protocol):
    """One number per item, which depends on nothing else in the batch."""

    @property
    def name(self) -> str:
        """Name of its column in the records; the unit or the network is part of it ("psnr_db")."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """True for similarities, False for distances."""
        ...

    @property
    def needs(self) -> str:
        """What it needs beside the installation, on one line; empty if nothing."""
        ...

    @property
    def min_side(self) -> int:
        """Smallest image side it is defined for, in pixels."""
        ...

    def __call__(self, x_hat: Image, x: Reference) -> Float[Tensor, " batch"]:
        """Compare received images with their originals, both in [0, 1].

        Raises:
            InvalidSource: Not images in [0, 1], not of one shape, or smaller than `min_side`.
        """
        ...


@runtime_checkable
class SetMetric(Protocol):
    """One number per set of items, because it is not an average over them."""

    @property
    def name(self) -> str:
        """Name of its column; the network is part of it ("fid_inception")."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """True for similarities, False for distances."""
        ...

    @property
    def needs(self) -> str:
        """What it needs beside the installation, on one line; empty if nothing."""
        ...

    def update(self, x_hat: Image, x: Image) -> None:
        """Add received images and their originals to the two sets."""
        ...

    def compute(self) -> float:
        """The distance of the two sets.

        Raises:
            InvalidOption: The set is too small for the number to mean anything.
        """
        ...


def check_pair(x_hat: Tensor, x: Tensor, min_side: int = 1, name: str = "metric") -> None:
    """Raise unless both are images in [0, 1] of one shape; x may be a batch of one.

    Raises:
        InvalidSource: Anything else, or a side below `min_side`.
    """
    check_image(x_hat)
    check_image(x)
    if x.shape[1:] != x_hat.shape[1:] or x.shape[0] not in (1, x_hat.shape[0]):
        raise InvalidSource(f"{name} of shapes {list(x_hat.shape)} and {list(x.shape)}: sizes must agree")
    if min(x.shape[2:]) < min_side:
        raise InvalidSource(
            f"image of {x.shape[3]}x{x.shape[2]}: {name} needs sides of at least {min_side}; leave {name} out"
        )
