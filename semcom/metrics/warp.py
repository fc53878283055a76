"""Temporal consistency of clips: what is left when frames are warped along the original's optical flow."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from semcom.metrics.clip import frame_pair
from semcom.metrics.packages import require_package
from semcom.modalities.video import Clip, ClipShape
from semcom.surroundings import library_defaults

FLOW_SIDE = 16  # pixels; in smaller frames OpenCV's DIS reads out of bounds
TRUST, SLACK = 0.01, 0.5  # Sundaram et al. 2010, eq. (5); the slack is in squared pixels


@library_defaults()
@torch.no_grad()
def warp_errors(x_hat: Clip, x: Clip, name: str = "warp_error") -> tuple[float, float]:
    """Warp errors of a received clip and of its original, both with the optical flow of the original.

    The equation is that of `WarpError`. One call serves both metrics.

    Args:
        x_hat: Received clip of two frames at least, sides of at least 16 pixels.
        x: Original with the same number and size of frames.
        name: First word of error messages.

    Returns:
        Error of the received clip and of the original, in levels of 255.

    Raises:
        InvalidSource: An argument is not a clip, the clips differ in number or size of frames, or they are
            too small or too short.
        MissingPackage: OpenCV is not installed.

    Reference:
        Lai, Huang, Wang, Shechtman, Yumer and Yang, Learning blind video temporal consistency, ECCV 2018,
        section 4.2.
    """
    received, originals = frame_pair(x_hat, x, name, FLOW_SIDE, min_frames=2)
    _require(name)
    errors: list[tuple[float, float]] = []
    pairs = zip(pairwise(_pictures(received)), pairwise(_pictures(originals)), strict=True)
    for (y_before, y), (x_before, x_now) in pairs:
        where, followed = _followed(x_before, x_now)
        if followed.any():
            errors.append((_rms(y_before, y, where, followed), _rms(x_before, x_now, where, followed)))
    if not errors:
        return 0.0, 0.0
    received_error, original_error = (math.fsum(each) / len(errors) for each in zip(*errors, strict=True))
    return received_error, original_error


@dataclass(frozen=True)
class WarpError:
    """Warp error of a received clip: RMS change of its pixels along the motion of the original.

    e = mean over t of sqrt(mean over p of (y_t(p) - y_(t-1)(p + w_t(p)))^2), levels of 255

    where y is the received clip, p runs over the pixels that can be followed and the three colours, and w_t
    is the optical flow from frame t of the original to the one before, by OpenCV's DIS (preset medium) on
    grey levels; samples between pixels are interpolated linearly. A pixel can be followed if flow and
    backward flow b cancel, |w + b|^2 < 0.01 (|w|^2 + |b|^2) + 0.5, and if it stays in the frame. Pairs of
    frames without such a pixel, such as cuts, are left out; if none is left, the error is 0.

    A lower value is not a better one: blur wins that race. Noise and grain of the original, light and
    imperfect flow give the original itself an error above 0; compare with it, as `WarpErrorGap` does.

    Raises:
        MissingPackage: At the first call: OpenCV is not installed.

    Reference:
        Lai, Huang, Wang, Shechtman, Yumer and Yang, Learning blind video temporal consistency, ECCV 2018,
        section 4.2. Kroeger, Timofte, Dai and Van Gool, Fast optical flow using dense inverse search, ECCV
        2016. Sundaram, Brox and Keutzer, Dense point trajectories by GPU-accelerated large displacement
        optical flow, ECCV 2010, eq. (5).
    """

    @property
    def name(self) -> str:
        """Name of the column in the records."""
        return "warp_error"

    @property
    def unit(self) -> str:
        """Unit of the values: levels of 255."""
        return "levels"

    @property
    def higher_is_better(self) -> bool:
        """False, since flicker raises the error; yet blur lowers it, so that it ranks nothing by itself."""
        return False

    def require(self) -> None:
        """Check that OpenCV is installed.

        Raises:
            MissingPackage: It is not.
        """
        _require(self.name)

    def fits(self, shape: object) -> bool:
        """Whether the shape is that of a clip of two frames at least, with sides of at least 16 pixels.

        Args:
            shape: Shape of an item of any modality.

        Returns:
            False for smaller and shorter clips and for other modalities.
        """
        return _fits(shape)

    def __call__(self, x_hat: Clip, x: Clip) -> float:
        """Compute the warp error of a received clip, with the flow of its original.

        Args:
            x_hat: Received clip of two frames at least, sides of at least 16 pixels.
            x: Original with the same number and size of frames.

        Returns:
            Error in levels of 255, at least 0.

        Raises:
            InvalidSource: An argument is not a clip, the clips differ in number or size of frames, or they
                are too small or too short.
            MissingPackage: OpenCV is not installed.
        """
        return warp_errors(x_hat, x, self.name)[0]


@dataclass(frozen=True)
class WarpErrorGap:
    """Distance of the received clip's warp error from that of the original itself, in levels of 255.

    gap = |e(received) - e(original)|, both with the optical flow of the original; see `WarpError`.

    It is 0 for a clip that changes along the motion by as much as the original does: above lies flicker,
    and blur below costs as much.

    Raises:
        MissingPackage: At the first call: OpenCV is not installed.

    Reference:
        Lai, Huang, Wang, Shechtman, Yumer and Yang, Learning blind video temporal consistency, ECCV 2018,
        section 4.2, for the warp error.
    """

    @property
    def name(self) -> str:
        """Name of the column in the records."""
        return "warp_error_gap"

    @property
    def unit(self) -> str:
        """Unit of the values: levels of 255."""
        return "levels"

    @property
    def higher_is_better(self) -> bool:
        """False: the gap is 0 for a clip as consistent as its original."""
        return False

    def require(self) -> None:
        """Check that OpenCV is installed.

        Raises:
            MissingPackage: It is not.
        """
        _require(self.name)

    def fits(self, shape: object) -> bool:
        """Whether the shape is that of a clip of two frames at least, with sides of at least 16 pixels.

        Args:
            shape: Shape of an item of any modality.

        Returns:
            False for smaller and shorter clips and for other modalities.
        """
        return _fits(shape)

    def __call__(self, x_hat: Clip, x: Clip) -> float:
        """Compute the gap between the warp errors of a received clip and of its original.

        Args:
            x_hat: Received clip of two frames at least, sides of at least 16 pixels.
            x: Original with the same number and size of frames.

        Returns:
            Gap in levels of 255, at least 0.

        Raises:
            InvalidSource: An argument is not a clip, the clips differ in number or size of frames, or they
                are too small or too short.
            MissingPackage: OpenCV is not installed.
        """
        received, original = warp_errors(x_hat, x, self.name)
        return abs(received - original)


def _require(name: str) -> None:
    require_package("cv2", "opencv-python-headless", name)


def _fits(shape: object) -> bool:
    if not isinstance(shape, ClipShape):
        return False
    return shape.frames > 1 and min(shape.height, shape.width) >= FLOW_SIDE


def _pictures(frames: Tensor) -> Iterator[np.ndarray]:
    """Frames [height, width, 3], one after the other."""
    return (frame.detach().cpu().permute(1, 2, 0).contiguous().numpy() for frame in frames)


def _followed(before: np.ndarray, now: np.ndarray) -> tuple[Tensor, Tensor]:
    """Where each pixel of a frame was in the frame before, [height, width, 2], and whether that is sure."""
    import cv2  # pyright: ignore[reportMissingImports]

    grey, grey_before = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (now, before))
    dis: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    back, forth = (
        torch.from_numpy(dis.calc(*pair, None)) for pair in ((grey, grey_before), (grey_before, grey))
    )
    height, width = grey.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    where = back + torch.stack((columns, rows), dim=2)
    returned = _sampled(forth, where)
    apart = (back + returned).square().sum(dim=2)
    moved = (back.square() + returned.square()).sum(dim=2)
    inside = ((where >= 0) & (where <= torch.tensor([width - 1, height - 1]))).all(dim=2)
    return where, inside & (apart < TRUST * moved + SLACK)


def _sampled(image: Tensor, where: Tensor) -> Tensor:
    """Linear interpolation of an image [height, width, channels] at places (column, row)."""
    height, width = image.shape[:2]
    grid = 2 * where / torch.tensor([width - 1.0, height - 1.0]) - 1
    sampled = functional.grid_sample(
        image.movedim(2, 0)[None].float(), grid[None], padding_mode="border", align_corners=True
    )
    return sampled[0].movedim(0, 2)


def _rms(before: np.ndarray, now: np.ndarray, where: Tensor, followed: Tensor) -> float:
    residual = torch.from_numpy(now) - _sampled(torch.from_numpy(before), where)
    return math.sqrt(residual[followed].double().square().mean().item())
