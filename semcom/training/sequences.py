"""Short training sequences: pieces of clips, and photographs under a moving camera with a moving object."""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional

FRAMES = 16
"""Frames of a sequence."""
SIDE = 144
"""Side of the squares of a sequence in pixels, the height of the smallest clips."""
RATE = Fraction(25)
"""Frames per second of a sequence."""
SHARE_OF_CLIPS = 0.45
"""Share of the sequences that are pieces of clips; the others are photographs in motion."""
SPEED = 3.0
"""Largest speed of camera and object in pixels per frame, in either direction."""


def sequences(
    photos: Sequence[Path], clips: Sequence[Path], count: int, seed: int = 0
) -> Iterator[UInt8[Tensor, "frames 3 side side"]]:
    """Make training sequences of `FRAMES` frames of `SIDE` x `SIDE` pixels.

    Clips take turns, each is read once; clips with fewer frames, or a smaller side, are left out. Of the
    photographs every sequence shows two, one behind the other.

    Args:
        photos: Files of photographs.
        clips: Files of clips.
        count: Number of sequences.
        seed: Seed of all choices.

    Yields:
        8-bit RGB, [FRAMES, 3, SIDE, SIDE].

    Raises:
        InvalidSource: A file cannot be read.
    """
    from semcom.data import load_image
    from semcom.modalities.video import VIDEO

    rng = np.random.default_rng(seed)
    of_clips = round(SHARE_OF_CLIPS * count) if clips else 0
    for number, path in enumerate(clips):
        frames = VIDEO.read(path).x.frames
        if len(frames) >= FRAMES and min(frames.shape[2:]) >= SIDE:
            for _ in range(number, of_clips, len(clips)):
                yield piece_of_clip(frames, rng)
    for number in range(count - of_clips):
        behind, front = (
            load_image(photos[(place * len(photos) // 2 + number) % len(photos)]).x for place in (0, 1)
        )
        yield moving(behind, front, rng)


def piece_of_clip(
    frames: UInt8[Tensor, "all 3 height width"], rng: np.random.Generator
) -> UInt8[Tensor, "frames 3 side side"]:
    """Cut a random piece out of a clip; large clips are reduced by a random factor before, up to 3.

    Args:
        frames: 8-bit RGB, at least `FRAMES` frames whose sides are at least `SIDE`.
        rng: Source of randomness.

    Returns:
        The piece, [FRAMES, 3, SIDE, SIDE].
    """
    factor = math.exp(rng.uniform(0, math.log(min(3.0, min(frames.shape[2:]) / SIDE))))
    first = int(rng.integers(len(frames) - FRAMES + 1))
    window = int(SIDE * factor)
    top, left = (int(rng.integers(extent - window + 1)) for extent in frames.shape[2:])
    piece = frames[first : first + FRAMES, :, top : top + window, left : left + window]
    return piece.clone() if window == SIDE else _resized(piece.float(), SIDE)


def moving(behind: Tensor, front: Tensor, rng: np.random.Generator) -> UInt8[Tensor, "frames 3 side side"]:
    """Let a camera pan, zoom and turn over a photograph, and an elliptic piece of another one move before it.

    Velocities are constant. Both photographs are shown at 0.5 to 1 of their size, mirrored at their edges.

    Args:
        behind: Photograph in [0, 1], [1, 3, height, width].
        front: Photograph in [0, 1] of any size.
        rng: Source of randomness.

    Returns:
        The sequence, 8-bit RGB, [FRAMES, 3, SIDE, SIDE].
    """
    base, thing = (_path_over(picture, rng) for picture in (behind, front))
    start, velocity = rng.uniform(-0.6, 0.6, 2), rng.uniform(-SPEED, SPEED, 2) * 2 / SIDE
    radius = rng.uniform(0.15, 0.5, 2)
    time = torch.arange(FRAMES)[:, None, None] - FRAMES / 2
    line = (torch.arange(SIDE) + 0.5) * 2 / SIDE - 1
    down, across = (
        (axis - start[k] - velocity[k] * time) / radius[k] for k, axis in enumerate((line[:, None], line))
    )
    edge = SIDE / 2 * float(radius.min()) / 1.5  # soft over some 1.5 pixels
    mask = ((1 - (down.square() + across.square()).sqrt()) * edge).clamp(0, 1)[:, None]
    return _rounded(base + mask * (thing - base))


def _path_over(picture: Tensor, rng: np.random.Generator) -> Tensor:
    """What a camera sees that pans, zooms and turns over a photograph, [FRAMES, 3, SIDE, SIDE]."""
    reduced = max(rng.uniform(0.5, 1.0), SIDE / min(picture.shape[2:]))
    size = [max(SIDE, round(extent * reduced)) for extent in picture.shape[2:]]
    photo = functional.interpolate(picture, size, mode="bicubic", antialias=True)
    still = rng.random() < 0.2  # a camera on a tripod
    pan = rng.uniform(-SPEED, SPEED, 2) * (not still)  # pixels per frame
    turn, zoom = rng.uniform(-0.01, 0.01, 2) * (not still)  # radians and logarithm per frame
    time = torch.arange(FRAMES, dtype=torch.float32) - FRAMES / 2
    angle, scale = turn * time, torch.exp(zoom * time)
    place = torch.tensor(rng.uniform(-0.5, 0.5, 2), dtype=torch.float32)
    # affine map from the frame to the photograph, both in [-1, 1]
    ratio = torch.tensor([SIDE / size[1], SIDE / size[0]])
    centre = place * (1 - ratio) + time[:, None] * torch.tensor(pan, dtype=torch.float32) * ratio * 2 / SIDE
    theta = torch.zeros(FRAMES, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = scale * angle.cos() * ratio[0], -scale * angle.sin() * ratio[0]
    theta[:, 1, 0], theta[:, 1, 1] = scale * angle.sin() * ratio[1], scale * angle.cos() * ratio[1]
    theta[:, :, 2] = centre
    grid = functional.affine_grid(theta, [FRAMES, 3, SIDE, SIDE], align_corners=False)
    return functional.grid_sample(
        photo.expand(FRAMES, -1, -1, -1), grid, "bicubic", "reflection", align_corners=False
    )


def _resized(frames: Tensor, side: int) -> Tensor:
    return _rounded(functional.interpolate(frames, (side, side), mode="bicubic", antialias=True) / 255)


def _rounded(frames: Tensor) -> Tensor:
    return (frames * 255).round().clamp(0, 255).to(torch.uint8)
