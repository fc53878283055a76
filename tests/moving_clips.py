"""Toys for tests of predicted and interpolated clips: a tiny network and a smooth picture."""

import torch
from torch import Tensor

from semcom.video.network import FramePredictor


def network(seed: int = 0) -> FramePredictor:
    """Tiny network with random weights in all layers."""
    torch.manual_seed(seed)
    made = FramePredictor((8, 12, 16))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made.eval().requires_grad_(False)


def textured(height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth random picture, uint8 [3, height, width]."""
    generator = torch.Generator().manual_seed(seed)
    grey, color = (torch.rand(1, n, height // 4 + 2, width // 4 + 2, generator=generator) for n in (1, 3))
    coarse = 0.9 * grey + 0.1 * color  # still codecs coarsen colours
    fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
    return (fine[0].clamp(0, 1) * 255).byte()
