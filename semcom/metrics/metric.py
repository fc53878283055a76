"""Protocols of metrics: one number per item (`Metric`), or one number per set of items (`SetMetric`)."""

import math
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from semcom.columns import Column
from semcom.errors import FaultyMetric, InvalidOption, InvalidSource, reason_of
from semcom.modalities.image import Image, check_image
from semcom.process_memory import bytes_per_value, require_memory
from semcom.surroundings import library_defaults

Reference = Float[Tensor, "#batch 3 height width"]
"""Original images [batch, 3, height, width], or one original [1, 3, height, width] for the whole batch."""

Picture = Float[Tensor, "1 3 height width"]
"""One RGB image [1, 3, height, width] in [0, 1]."""

X = TypeVar("X")
X_contra = TypeVar("X_contra", contravariant=True)


@runtime_checkable
class Metric(Protocol[X_contra]):
    """A full-reference metric: one number for a received item (image, clip or text) and its original.

    `X_contra` is the type of the items: a tensor [1, 3, height, width] in [0, 1], a
    `semcom.modalities.video.Clip`, or a string.
    """

    @property
    def name(self) -> str:
        """Name of the metric's column in the records; unit and network are part of it ("psnr_db").

        Returns:
            Lower-case letters, digits and underscores, starting with a letter.
        """
        ...

    @property
    def unit(self) -> str:
        """Unit of the values, for axes and tables.

        Returns:
            For instance "dB"; an empty string for a dimensionless metric.
        """
        ...

    @property
    def higher_is_better(self) -> bool:
        """Direction of the metric: whether higher values are better.

        Returns:
            True for similarities, False for distances.
        """
        ...

    def fits(self, shape: object) -> bool:
        """Whether the metric can measure items of a shape.

        Args:
            shape: (1, 3, height, width) for an image, `semcom.modalities.video.ClipShape` for a clip,
                `semcom.modalities.text.TextShape` for a text.

        Returns:
            False for items of another modality, and for items that are too small.
        """
        ...

    def __call__(self, x_hat: X_contra, x: X_contra) -> float:
        """Compare one received item with its original.

        Args:
            x_hat: Received item.
            x: Original item of the same shape.

        Returns:
            A finite number.

        Raises:
            InvalidSource: An argument is not an item of the metric's modality, the shapes differ, or the
                metric cannot measure this shape.
        """
        ...


@runtime_checkable
class BatchMetric(Protocol):
    """An image metric that measures many images at once."""

    def batch(self, x_hat: Image, x: Image) -> Float[Tensor, " batch"]:
        """Compare each received image with its original.

        Args:
            x_hat: Received images [batch, 3, height, width] in [0, 1].
            x: Originals of the same shape.

        Returns:
            One value per image [batch], equal up to rounding to a call with that image alone.

        Raises:
            InvalidSource: An argument is not a batch of images in [0, 1], the shapes differ, or the images
                are too small.
        """
        ...


@runtime_checkable
class SetMetric(Protocol):
    """A metric of a set of images or clips that is not an average over them, such as FID or FVD."""

    @property
    def name(self) -> str:
        """Name of the metric; the feature network is part of it ("fid_inception").

        Returns:
            Lower-case letters, digits and underscores, starting with a letter.
        """
        ...

    @property
    def higher_is_better(self) -> bool:
        """Direction of the metric: whether higher values are better.

        Returns:
            True for similarities, False for distances.
        """
        ...

    def update(self, x_hat: Image, x: Image) -> None:
        """Add received images to one set, and their originals to the other.

        Args:
            x_hat: Received images [batch, 3, height, width] in [0, 1]; for a metric of clips the frames of
                one clip in their order.
            x: Originals of the same shape.

        Raises:
            InvalidSource: An argument is not a batch of images in [0, 1], or the shapes differ.
        """
        ...

    def compute(self) -> float:
        """Distance between the sets of received and original images.

        Returns:
            A finite number.

        Raises:
            InvalidOption: The sets are too small for a meaningful value.
        """
        ...


def column_of(metric: Metric[X]) -> Column:
    """Name, unit and direction of a metric, as they are kept in result stores, figures and tables.

    Args:
        metric: Any metric.

    Returns:
        The metric's column.

    Raises:
        InvalidOption: The unit is not a string, or the direction is neither True nor False.
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


@library_defaults()
def measure(metric: Metric[X], x_hat: X, x: X) -> float:
    """Evaluate a metric and check that its value is one finite number.

    Args:
        metric: Any metric, including metrics of other packages.
        x_hat: Received item.
        x: Original item.

    Returns:
        The value as a Python float, whatever numeric type the metric returned.

    Raises:
        FaultyMetric: The metric returned NaN, infinity, or something other than one number.
        InsufficientMemory: The images need more memory than there is.
        InvalidSource: The metric cannot compare these items.
    """
    if isinstance(x, Tensor):
        require_memory(
            bytes_per_value(metric, "image") * x.numel(),
            f"{metric.name} of {x.numel():,} values",
            f"crop or scale the picture, or leave {metric.name} out",
        )
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


def check_device(device: str, name: str) -> None:
    """Check that the device of a metric exists on this machine.

    Args:
        device: PyTorch device, such as "cpu" or "cuda".
        name: Name of the metric, for the message.

    Raises:
        InvalidOption: There is no such kind of device, or no GPU here.
    """
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise InvalidOption(f"{name} on device {device!r}: {reason_of(error)}") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise InvalidOption(f"{name} on device {device}: there is no GPU here; choose cpu")


def fits_picture(shape: object, min_side: int = 1) -> bool:
    """Whether a shape is that of an image, (1, 3, height, width), with sides of at least `min_side` pixels.

    Args:
        shape: Shape of an item of any modality.
        min_side: Smallest side in pixels.

    Returns:
        False for smaller images, and for shapes of clips and texts.

    Example:
        >>> fits_picture((1, 3, 8, 64), min_side=7), fits_picture((1, 3, 6, 64), min_side=7)
        (True, False)
    """
    if not isinstance(shape, tuple) or len(shape) != 4 or tuple(shape[:2]) != (1, 3):
        return False
    return min(shape[2:]) >= min_side


def check_one(x_hat: object, x: object, name: str) -> None:
    """Reject a batch of several images; type and range are checked by `check_pair`.

    Args:
        x_hat: Received image.
        x: Original image.
        name: Name of the metric, for the message.

    Raises:
        InvalidSource: An argument is a batch of several images.
    """
    for tensor in (x_hat, x):
        if isinstance(tensor, Tensor) and tensor.ndim == 4 and tensor.shape[0] > 1:
            raise InvalidSource(
                f"{name} of {tensor.shape[0]} pictures at once: a metric compares one picture, of shape "
                "[1, 3, height, width]; call its batched function"
            )


def check_pair(x_hat: object, x: object, min_side: int = 1, name: str = "metric") -> tuple[Tensor, Tensor]:
    """Check that received and original images are batches in [0, 1] of one shape.

    Args:
        x_hat: Received images [batch, 3, height, width].
        x: Originals [batch, 3, height, width], or one original [1, 3, height, width] for the whole batch.
        min_side: Smallest side in pixels.
        name: Name of the metric, for messages.

    Returns:
        Received images and originals in a common floating-point type of at least 32 bits, since 16 bits
        cannot represent small squared errors.

    Raises:
        InvalidSource: An argument is not a tensor of images in [0, 1], a batch is empty, the shapes differ,
            or a side is below `min_side`.
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
