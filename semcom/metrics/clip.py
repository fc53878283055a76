"""Metrics of clips: the mean over frames of a metric of pictures."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from semcom.errors import InvalidSource
from semcom.metrics.metric import BatchMetric, Metric
from semcom.modalities.video import Clip, ClipShape

PIXELS_AT_ONCE = 2**17  # of several frames; LPIPS of 64x64 gains eightfold, larger frames nothing


@dataclass(frozen=True)
class PerFrame:
    """Mean over the frames of a clip of a metric of pictures; name, unit and direction are that metric's.

    Frames are compared in pairs, as pictures in [0, 1] (levels divided by 255). The PSNR of a clip is
    therefore the mean of its frames' PSNRs, not the PSNR of the clip's mean squared error. Motion is not
    looked at. Frames go in batches through a metric that has `batch`, and one by one through any other.

    Args:
        metric: A metric of pictures.

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
        """Name of the column in the records, the same as for pictures."""
        return self.metric.name

    @property
    def unit(self) -> str:
        """Unit of the values."""
        return self.metric.unit

    @property
    def higher_is_better(self) -> bool:
        """Which way is better, as for pictures."""
        return self.metric.higher_is_better

    def fits(self, shape: object) -> bool:
        """Whether a shape is that of a clip whose frames the metric of pictures can measure."""
        if not isinstance(shape, ClipShape):
            return False
        return shape.frames > 0 and self.metric.fits((1, 3, shape.height, shape.width))

    def __call__(self, x_hat: Clip, x: Clip) -> float:
        """Mean over frames.

        Args:
            x_hat: Received clip.
            x: Original of as many frames of the same size.

        Returns:
            The mean of the metric over pairs of frames.

        Raises:
            InvalidSource: Something that is no clip, an empty clip, different numbers or sizes of frames, or
                frames that are too small.
        """
        received, originals = (_frames(each, self.name) for each in (x_hat, x))
        if received.shape != originals.shape:
            raise InvalidSource(
                f"{self.name} of {len(received)} frames of {_size(received)} and {len(originals)} of "
                f"{_size(originals)}: numbers and sizes must agree; cut or repeat frames"
            )
        values = [
            value
            for a, b in zip(_batches(received), _batches(originals), strict=True)
            for value in self._values(a, b)
        ]
        return math.fsum(values) / len(values)

    def _values(self, x_hat: Tensor, x: Tensor) -> list[float]:
        if isinstance(self.metric, BatchMetric):
            return self.metric.batch(x_hat, x).tolist()
        return [float(self.metric(a, b)) for a, b in zip(x_hat.split(1), x.split(1), strict=True)]


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


def _batches(frames: Tensor) -> Iterator[Tensor]:
    """As pictures in [0, 1], as many at once as fit."""
    at_once = max(1, PIXELS_AT_ONCE // (frames.shape[2] * frames.shape[3]))
    return (batch.float() / 255 for batch in frames.split(at_once))


def _size(frames: Tensor) -> str:
    return f"{frames.shape[3]}x{frames.shape[2]}"
