"""Video metrics: the mean of an image metric over the frames of a clip."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from semcom.errors import InvalidSource
from semcom.metrics.metric import BatchMetric, Metric
from semcom.modalities.video import Clip, ClipShape
from semcom.surroundings import library_defaults

# pixels per batch of frames: LPIPS of 64x64 gets eight times as fast, of large frames not faster
PIXELS_AT_ONCE = 2**17


@dataclass(frozen=True)
class PerFrame:
    """Mean of an image metric over the frames of a clip; name, unit and direction stay the same.

    Frames are compared pairwise, as images in [0, 1] (8-bit levels divided by 255). The PSNR of a clip is
    therefore the mean of the PSNRs of its frames, not the PSNR of the mean squared error over the clip.
    Temporal consistency is not measured. Frames are measured in batches if the metric has `batch`, else
    one by one.

    Args:
        metric: A metric of images.

    Example:
        >>> from fractions import Fraction
        >>> from semcom.metrics import PSNR
        >>> black, grey = torch.zeros(2, 3, 8, 8).byte(), torch.full((2, 3, 8, 8), 51).byte()
        >>> round(PerFrame(PSNR())(Clip(grey, Fraction(25)), Clip(black, Fraction(25))), 2)
        13.98
    """

    metric: Metric[Tensor]

    @property
    def name(self) -> str:
        """Name of the column in the records, identical to that of the image metric."""
        return self.metric.name

    @property
    def unit(self) -> str:
        """Unit of the image metric, such as "dB"; empty for a dimensionless metric."""
        return self.metric.unit

    @property
    def higher_is_better(self) -> bool:
        """True if higher values of the image metric are better."""
        return self.metric.higher_is_better

    def fits(self, shape: object) -> bool:
        """Whether the shape is that of a clip whose frames the image metric can measure.

        Args:
            shape: Shape of an item of any modality.

        Returns:
            False for images, texts, and frames that are too small.
        """
        if not isinstance(shape, ClipShape):
            return False
        return shape.frames > 0 and self.metric.fits((1, 3, shape.height, shape.width))

    @library_defaults()
    def __call__(self, x_hat: Clip, x: Clip) -> float:
        """Compare a received clip with its original, frame by frame.

        Args:
            x_hat: Received clip.
            x: Original with the same number and size of frames.

        Returns:
            Mean of the image metric over the pairs of frames.

        Raises:
            InvalidSource: An argument is not a clip or has no frames, the clips differ in number or size of
                frames, or the frames are too small.
        """
        received, originals = frame_pair(x_hat, x, self.name)
        values = [
            value
            for a, b in zip(frame_batches(received), frame_batches(originals), strict=True)
            for value in self._values(a, b)
        ]
        return math.fsum(values) / len(values)

    def _values(self, x_hat: Tensor, x: Tensor) -> list[float]:
        if isinstance(self.metric, BatchMetric):
            return self.metric.batch(x_hat, x).tolist()
        return [float(self.metric(a, b)) for a, b in zip(x_hat.split(1), x.split(1), strict=True)]


def frame_pair(
    x_hat: object, x: object, name: str, min_side: int = 1, min_frames: int = 1
) -> tuple[Tensor, Tensor]:
    """Frames of a received clip and of its original, checked to be of equal number and size.

    Args:
        x_hat: Received clip.
        x: Original clip.
        name: Name of the metric, for messages.
        min_side: Smallest side of a frame in pixels.
        min_frames: Smallest number of frames.

    Returns:
        Both clips' frames, uint8 [frames, 3, height, width].

    Raises:
        InvalidSource: An argument is not a clip or has no frames, the clips differ in number or size of
            frames, or they are too small or too few.
    """
    received, originals = _frames(x_hat, name), _frames(x, name)
    if received.shape != originals.shape:
        raise InvalidSource(
            f"{name} of {len(received)} frames of {_size(received)} and {len(originals)} of "
            f"{_size(originals)}: numbers and sizes must agree; cut or repeat frames"
        )
    if min(originals.shape[2:]) < min_side:
        raise InvalidSource(
            f"{name} of frames of {_size(originals)}: needs sides of at least {min_side}; leave {name} out"
        )
    if len(originals) < min_frames:
        raise InvalidSource(
            f"{name} of a clip of {len(originals)} frames: needs at least {min_frames}; leave {name} out"
        )
    return received, originals


def _frames(clip: object, name: str) -> Tensor:
    if not isinstance(clip, Clip):
        raise InvalidSource(
            f"{name} of {type(clip).__name__}: expected a clip; for pictures use the metric of pictures"
        )
    frames = clip.frames
    if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[1] != 3 or len(frames) == 0:
        raise InvalidSource(
            f"{name} of frames of shape {list(frames.shape)}, {frames.dtype}: expected uint8 "
            "[frames, 3, height, width], one frame at least"
        )
    return frames


def frame_batches(frames: Tensor) -> Iterator[Tensor]:
    """Frames as images in [0, 1], in batches of at most 131 072 pixels, one frame at least.

    Args:
        frames: Frames of a clip, uint8 [frames, 3, height, width].

    Returns:
        Batches [batch, 3, height, width], in the order of the frames.
    """
    at_once = max(1, PIXELS_AT_ONCE // (frames.shape[2] * frames.shape[3]))
    return (batch.float() / 255 for batch in frames.split(at_once))


def _size(frames: Tensor) -> str:
    return f"{frames.shape[3]}x{frames.shape[2]}"
