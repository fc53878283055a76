"""The two kinds of figures of merit: one number per item, or one number per set of items."""

import math
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from semcom.columns import Column
from semcom.errors import FaultyMetric, InvalidOption, InvalidSource
from semcom.modalities.image import Image, check_image

Reference = Float[Tensor, "#batch 3 height width"]
"""The originals, or one original that the whole batch is compared with."""

Picture = Float[Tensor, "1 3 height width"]
"""One RGB picture in [0, 1]."""

X = TypeVar("X")
X_contra = TypeVar("X_contra", contravariant=True)


@runtime_checkable
class Metric(Protocol[X_contra]):
    """One number per item: a picture, a clip or a text.

    `X_contra` is the type of the items: a tensor [1, 3, height, width] in [0, 1], a
    `semcom.modalities.video.Clip`, or a string.
    """

    @property
    def name(self) -> str:
        """Name of the metric's column in the records; a unit or network is part of it ("psnr_db").

        Returns:
            Small letters, digits and underscores, a letter first.
        """
        ...

    @property
    def unit(self) -> str:
        """Unit of the values, for axes and tables.

        Returns:
            Such as "dB"; empty for a number without unit.
        """
        ...

    @property
    def higher_is_better(self) -> bool:
        """Which way is better.

        Returns:
            True for similarities, False for distances.
        """
        ...

    def fits(self, shape: object) -> bool:
        """Whether an item of this shape can be measured.

        Args:
            shape: A picture's (1, 3, height, width), a `semcom.modalities.video.ClipShape` or a
                `semcom.modalities.text.TextShape`.

        Returns:
            False for items of another modality, and for items that are too small.
        """
        ...

    def __call__(self, x_hat: X_contra, x: X_contra) -> float:
        """Compare one received item with its original.

        Args:
            x_hat: What was received.
            x: What was sent.

        Returns:
            A finite number.

        Raises:
            InvalidSource: Something that is no such item, two items of different shapes, or a shape that does
                not fit.
        """
        ...


@runtime_checkable
class BatchMetric(Protocol):
    """A metric of pictures that measures many of them at once."""

    def batch(self, x_hat: Image, x: Image) -> Float[Tensor, " batch"]:
        """Compare pictures with their originals, each pair by itself.

        Args:
            x_hat: Received pictures [batch, 3, height, width] in [0, 1].
            x: Their originals, of the same shape.

        Returns:
            One value per picture, as a call with that picture alone gives it up to rounding.

        Raises:
            InvalidSource: Not pictures in [0, 1], not of one shape, or too small.
        """
        ...


@runtime_checkable
class SetMetric(Protocol):
    """One number per set of pictures, because it is not an average over them."""

    @property
    def name(self) -> str:
        """Name of the metric's column; the network is part of it ("fid_inception")."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """True for similarities, False for distances."""
        ...

    def update(self, x_hat: Image, x: Image) -> None:
        """Add received pictures and their originals to the two sets.

        Args:
            x_hat: Received pictures [batch, 3, height, width] in [0, 1].
            x: Their originals, of the same shape.

        Raises:
            InvalidSource: Not pictures in [0, 1], or not of one shape.
        """
        ...

    def compute(self) -> float:
        """The distance between the two sets.

        Returns:
            A finite number.

        Raises:
            InvalidOption: The set is too small for the number to mean anything.
        """
        ...


def column_of(metric: Metric[X]) -> Column:
    """Name, unit and direction of a metric's column.

    Args:
        metric: Any metric.

    Returns:
        What stores, figures and tables keep of it.

    Raises:
        InvalidOption: Its unit is no text, or its direction neither True nor False.
    """
    unit: object = metric.unit
    higher: object = metric.higher_is_better
    if not isinstance(unit, str):
        raise InvalidOption(f"metric {metric.name}: its unit is {unit!r}; make it a text, such as 'dB' or ''")
    if not isinstance(higher, bool):
        raise InvalidOption(
            f"metric {metric.name}: higher_is_better is {higher!r}; make it True for similarities, else False"
        )
    return Column(metric.name, unit, higher)


def measure(metric: Metric[X], x_hat: X, x: X) -> float:
    """Value of a metric, checked to be one finite number.

    Args:
        metric: Any metric, one of another package included.
        x_hat: What was received.
        x: What was sent.

    Returns:
        The value as a float of Python, whatever type of number the metric returned.

    Raises:
        FaultyMetric: The metric returned NaN, infinity, or something that is not one number.
        InvalidSource: The metric cannot compare these items.
    """
    found = metric(x_hat, x)
    try:
        value = float(found)
    except (TypeError, ValueError, RuntimeError):
        raise FaultyMetric(
            f"metric {metric.name} returned {type(found).__name__}, not one number; "
            "make it return a float, or leave it out"
        ) from None
    if not math.isfinite(value):
        raise FaultyMetric(
            f"metric {metric.name} is {value}; give it a finite value there, such as a cap, or leave it out"
        )
    return value


def fits_picture(shape: object, min_side: int = 1) -> bool:
    """Whether a shape is (1, 3, height, width) with sides of at least `min_side` pixels.

    Args:
        shape: Shape of an item of any modality.
        min_side: Smallest side in pixels.

    Returns:
        False for shapes of clips and texts.

    Example:
        >>> fits_picture((1, 3, 8, 64), min_side=7), fits_picture((1, 3, 6, 64), min_side=7)
        (True, False)
    """
    if not isinstance(shape, tuple) or len(shape) != 4 or tuple(shape[:2]) != (1, 3):
        return False
    return min(shape[2:]) >= min_side


def check_one(x_hat: object, x: object, name: str) -> None:
    """Raise unless both are batches of one picture, for what is not checked later on.

    Args:
        x_hat: Received picture.
        x: Original.
        name: Name of the metric, for the message.

    Raises:
        InvalidSource: A batch of several pictures.
    """
    for tensor in (x_hat, x):
        if isinstance(tensor, Tensor) and tensor.ndim == 4 and tensor.shape[0] > 1:
            raise InvalidSource(
                f"{name} of {tensor.shape[0]} pictures at once: a metric compares one picture, of shape "
                "[1, 3, height, width]; call its batched function"
            )


def check_pair(x_hat: object, x: object, min_side: int = 1, name: str = "metric") -> tuple[Tensor, Tensor]:
    """Check that both are batches of pictures in [0, 1] of one shape; x may be a batch of one.

    Args:
        x_hat: Received pictures [batch, 3, height, width].
        x: Originals [batch, 3, height, width] or [1, 3, height, width].
        min_side: Smallest side in pixels.
        name: Name of the metric, for messages.

    Returns:
        Both in one floating-point type of 32 bits at least: 16 bits cannot hold small squared errors.

    Raises:
        InvalidSource: Anything but tensors of pictures, a batch of none, or a side below `min_side`.
    """
    pair = [_pictures(each, name) for each in (x_hat, x)]
    a, b = pair
    if b.shape[1:] != a.shape[1:] or b.shape[0] not in (1, a.shape[0]):
        raise InvalidSource(f"{name} of shapes {list(a.shape)} and {list(b.shape)}: sizes must agree")
    if min(b.shape[2:]) < min_side:
        raise InvalidSource(
            f"image of {b.shape[3]}x{b.shape[2]}: {name} needs sides of at least {min_side}; leave {name} out"
        )
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    return a.to(dtype), b.to(dtype)


def _pictures(x: object, name: str) -> Tensor:
    if not isinstance(x, Tensor):
        raise InvalidSource(
            f"{name} of {type(x).__name__}: expected a torch tensor [batch, 3, height, width] in [0, 1]; "
            "convert it, for instance by torch.from_numpy"
        )
    if x.ndim == 4 and x.shape[0] == 0:
        raise InvalidSource(f"{name} of a batch of 0 pictures: give at least one")
    return check_image(x)
