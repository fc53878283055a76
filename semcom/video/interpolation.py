"""Frames between two decoded frames, by optical flow from one to the other and back."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional

from semcom.metrics.packages import require_package
from semcom.surroundings import library_defaults

LEAST_SIDE = 16  # pixels; the flow's pyramid needs more than one patch of 8x8


@library_defaults()
def between(
    first: UInt8[Tensor, "3 height width"], last: UInt8[Tensor, "3 height width"], count: int
) -> list[UInt8[Tensor, "3 height width"]]:
    """Interpolate frames at equal distances in time between two frames, with constant velocities.

        F_t0 = -(1 - t) t F_01 + t^2 F_10,  F_t1 = (1 - t)^2 F_01 - t (1 - t) F_10
        x_t = (w_0 x_0(p + F_t0) + w_1 x_1(p + F_t1)) / (w_0 + w_1)

    with F_01 and F_10 the flows from the first to the last frame and back, and p the pixel. The weights are
    w_0 = (1 - t) c_0 and w_1 = t c_1, where c falls with the distance between a vector and the one that leads
    back: what is seen in one frame only is taken from there. Both flows come from decoded frames, so that
    nothing is sent for them. Frames with a side below 16 pixels are blended without motion.

    Args:
        first: Frame at t = 0.
        last: Frame at t = 1, of the same size.
        count: Number of frames between them.

    Returns:
        Frames at t = 1 / (count + 1), ..., count / (count + 1).

    Raises:
        MissingPackage: OpenCV is not installed.

    Reference:
        Kroeger et al., Fast optical flow using dense inverse search, ECCV 2016 (the flow);
        Jiang et al., Super SloMo, CVPR 2018 (flows at t, here without a network).
    """
    images = torch.stack((first, last)).float()
    if min(first.shape[1:]) < LEAST_SIDE:
        flows = torch.zeros(2, 2, *first.shape[1:])
    else:
        grey = [_grey(frame) for frame in (first, last)]
        dis = _dis()
        flows = torch.stack([_flow(dis, grey[0], grey[1]), _flow(dis, grey[1], grey[0])])
    certain = torch.stack([_consistency(flows[0], flows[1]), _consistency(flows[1], flows[0])])
    found: list[Tensor] = []
    for step in range(1, count + 1):
        t = step / (count + 1)
        to_first = -(1 - t) * t * flows[0] + t**2 * flows[1]
        to_last = (1 - t) ** 2 * flows[0] - t * (1 - t) * flows[1]
        both = _warped(torch.cat((images, certain), 1), torch.stack((to_first, to_last)))
        weight = both[:, 3:] * torch.tensor([1 - t, t])[:, None, None, None]
        shown = (both[:, :3] * weight).sum(0) / weight.sum(0)
        found.append(shown.round().clamp(0, 255).to(torch.uint8))
    return found


def flow_is_there() -> bool:
    """Whether OpenCV, which computes the optical flow, is installed.

    Returns:
        True if frames can be interpolated.
    """
    return find_spec("cv2") is not None


def _dis() -> Any:
    require_package("cv2", "opencv-python-headless", "interpolated frames")
    import cv2  # pyright: ignore[reportMissingImports]

    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)


def _grey(frame: Tensor) -> np.ndarray:
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    return (frame.float() * luma).sum(0).round().to(torch.uint8).numpy()


def _flow(dis: Any, start: np.ndarray, end: np.ndarray) -> Tensor:
    """Flow in pixels, [2, height, width]: horizontal, vertical."""
    return torch.from_numpy(dis.calc(start, end, None)).permute(2, 0, 1).contiguous()


def _consistency(forward: Tensor, backward: Tensor) -> Tensor:
    """Certainty c of every vector, [1, height, width]: 1 / (1 + |distance to the way back|^2), from 0.001."""
    back = _warped(backward[None], forward[None])[0]
    return (1 / (1 + (forward + back).square().sum(0, keepdim=True))).clamp_min(0.001)


def _warped(images: Tensor, flows: Tensor) -> Tensor:
    """Images at positions p + flow, bilinear, edges repeated; [batch, channels, height, width]."""
    height, width = images.shape[2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x = (2 * (columns + flows[:, 0]) + 1) / width - 1
    y = (2 * (rows + flows[:, 1]) + 1) / height - 1
    grid = torch.stack((x, y), -1)
    return functional.grid_sample(images, grid, "bilinear", "border", align_corners=False)
