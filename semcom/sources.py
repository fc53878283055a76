"""What can be sent, and in which range."""

import torch
from jaxtyping import Float
from torch import Tensor

from semcom.errors import InvalidSource

Image = Float[Tensor, "batch 3 height width"]
"""RGB in [0, 1]."""

MAX_SIDE = 16384  # JPEG and AVIF go on, memory does not


def check_image(x: Tensor) -> Tensor:
    """Return x if it is a batch of RGB images in [0, 1], else say what is wrong.

    Raises:
        InvalidSource: Wrong rank, colours, size or type, values not finite or out of range.
    """
    if x.ndim != 4 or x.shape[1] != 3:
        raise InvalidSource(f"image of shape {list(x.shape)}: expected [batch, 3, height, width]")
    if min(x.shape) < 1 or max(x.shape[2:]) > MAX_SIDE:
        raise InvalidSource(
            f"image of {x.shape[3]}x{x.shape[2]}: sides must lie in 1..{MAX_SIDE}; crop or scale it"
        )
    if not x.is_floating_point():
        raise InvalidSource(f"image of type {x.dtype}: expected floating point in [0, 1]; divide by 255")
    if not bool(torch.isfinite(x).all()):
        raise InvalidSource("image has values that are not finite (NaN or infinity); clean it before sending")
    low, high = x.min().item(), x.max().item()
    if low < 0 or high > 1:
        raise InvalidSource(f"image has values in {low!r}..{high!r}: expected [0, 1]; scale or clip it")
    return x
