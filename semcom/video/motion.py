"""Motion of blocks between two frames, found by full search in integers, hence equal on every machine."""

import torch
from jaxtyping import Int, Real, Shaped
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

REACH = 7
"""Largest motion in pixels per frame, in both directions, that the search looks for."""
PENALTY = 0.375
"""Cost of a pixel of motion per pixel of the window, in sums of absolute differences of R + G + B."""


def block_motion(
    first: Real[Tensor, "batch 3 height width"],
    second: Real[Tensor, "batch 3 height width"],
    times: tuple[int, int] = (-1, 0),
    side: int = 8,
    window: int = 1,
    penalty: float = PENALTY,
) -> Int[Tensor, "batch 2 rows columns"]:
    """Motion of every block of a frame, found between two known frames.

    The vector v of a block minimises

        sum |first(p + t1 v) - second(p + t2 v)| + penalty (|v_1| + |v_2|)

    over the pixels p of the block, and of its neighbours if the window is larger. The times are relative to
    the frame that the blocks are of. The penalty keeps flat blocks in place.

    Args:
        first: Frames with whole values in 0..255, at time t1, [batch, 3, height, width].
        second: Frames of the same size, at time t2.
        times: t1 and t2 in frames; (-1, 0) is the motion of the second frame's own blocks from the first.
        side: Side of a block in pixels.
        window: Side of the square of blocks over which differences are summed; odd.
        penalty: Cost of a pixel of motion per frame, per pixel of the window, in levels of R + G + B.

    Returns:
        Downward and rightward motion per block in whole pixels per frame, int64, from -7 to 7.
    """
    height, width = first.shape[2:]
    rows, columns = -(-height // side), -(-width // side)
    reach = REACH * max(map(abs, times))
    margin = (reach, reach + columns * side - width, reach, reach + rows * side - height)
    # sums of whole numbers below 2^24 are exact in float32, in any order
    one, other = (F.pad(x.float().sum(1, keepdim=True), margin, mode="replicate") for x in (first, second))

    def at(frame: Tensor, time: int, down: int, right: int) -> Tensor:
        top, left = reach + time * down, reach + time * right
        return frame[:, :, top : top + rows * side, left : left + columns * side]

    cost_of_motion = penalty * (side * window) ** 2
    best = torch.full((len(first), rows, columns), torch.inf, device=first.device)
    found = torch.zeros(len(first), 2, rows, columns, dtype=torch.int64, device=first.device)
    reaches = range(-REACH, REACH + 1)
    for down, right in sorted(
        ((y, x) for y in reaches for x in reaches), key=lambda v: abs(v[0]) + abs(v[1])
    ):
        apart = (at(one, times[0], down, right) - at(other, times[1], down, right)).abs()
        cost = F.avg_pool2d(apart, side, divisor_override=1)
        if window > 1:
            cost = F.avg_pool2d(cost, window, 1, window // 2, divisor_override=1)
        cost = cost[:, 0] + cost_of_motion * (abs(down) + abs(right))
        better = cost < best
        best = torch.where(better, cost, best)
        vector = torch.tensor([down, right], device=first.device)[:, None, None]
        found = torch.where(better[:, None], vector, found)
    return found


def compensated(
    frames: Shaped[Tensor, "batch channels height width"],
    vectors: Int[Tensor, "batch 2 rows columns"],
    time: int = -1,
    side: int = 8,
) -> Shaped[Tensor, "batch channels height width"]:
    """Frames whose every block shows what lies `time` vectors away in given frames.

    Args:
        frames: Frames of any type; outside of them their edge is repeated.
        vectors: Downward and rightward motion of each block in pixels per frame.
        time: Factor of the vectors: -1 for what was there one frame before.
        side: Side of a block in pixels.

    Returns:
        Frames of the same size and type.
    """
    batch, _, height, width = frames.shape
    moved = time * vectors.repeat_interleave(side, 2).repeat_interleave(side, 3)[:, :, :height, :width]
    rows = (torch.arange(height, device=frames.device)[:, None] + moved[:, 0]).clamp(0, height - 1)
    columns = (torch.arange(width, device=frames.device) + moved[:, 1]).clamp(0, width - 1)
    items = torch.arange(batch, device=frames.device)[:, None, None]
    return frames.permute(0, 2, 3, 1)[items, rows, columns].permute(0, 3, 1, 2)
