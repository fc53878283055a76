"""Sources of short sequences in constant motion: shapes, glyphs, and windows that move over photographs.

All parameters of a motion are linear in time, so that any curvature of the sequence is one of its
representation. Nothing leaves the picture, is reflected or occluded, since those are genuine corners.

Reference:
    Niu, Savin and Simoncelli, "Learning predictable and robust neural representations by straightening image
    sequences", NeurIPS 2024, arXiv 2411.01777; sizes, speeds and lengths are our own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from semcom.errors import InvalidOption

SIDE = 64
"""Height and width of all frames in pixels."""
LENGTHS = (1, 64)
"""Smallest and largest number of frames of a sequence."""
SHAPES = ("disc", "square", "diamond")
MOTIONS = ("translation", "rescaling", "rotation")
"""Motions of a glyph, one per sequence."""
GLYPHS = "0123456789"
FONT = "DejaVuSans.ttf"
"""Font of the glyphs, which comes with Matplotlib."""
GLYPH_SIDE = 96
SPEEDS = (0.5, 6.0)  # pixels per frame
RADII = (6.0, 12.0)  # pixels


@dataclass(frozen=True, eq=False, slots=True)
class Sequences:
    """Sequences of frames, and what changes in them.

    Args:
        frames: Frames in [0, 1], [count, length, colors, 64, 64].
        attributes: Horizontal and vertical place in [-1, 1], size as a share of the side, angle in radians;
            [count, length, 4].
        kind: Index of shape, glyph or photograph of each sequence, [count].
        motion: Index of the kind of motion of each sequence, [count].
    """

    frames: Float[Tensor, "count length colors side side"]
    attributes: Float[Tensor, "count length 4"]
    kind: Int[Tensor, " count"]
    motion: Int[Tensor, " count"]


@runtime_checkable
class SequenceSource(Protocol):
    """A source of sequences of frames of 64x64 pixels."""

    @property
    def name(self) -> str:
        """Name of the source, for instance "shapes"."""
        ...

    def draw(self, count: int, length: int, generator: torch.Generator) -> Sequences:
        """Draw sequences of moving frames.

        Args:
            count: Number of sequences, at least 1.
            length: Number of frames of each, 1 to 64.
            generator: Source of randomness, on the CPU.

        Returns:
            The sequences.

        Raises:
            InvalidOption: Count or length is out of range.
        """
        ...


@dataclass(frozen=True)
class MovingShapes:
    """One disc, square or diamond per sequence that moves on a straight line at constant speed.

    Args:
        colors: 1 for white on black, 3 for random colours of shape and ground.
    """

    colors: int = 1

    @property
    def name(self) -> str:
        """Name of the source: "shapes"."""
        return "shapes"

    def draw(self, count: int, length: int, generator: torch.Generator) -> Sequences:
        """Draw start and end inside the picture, at 0.5 to 6 pixels per frame."""
        check(count, length)
        kind = torch.randint(len(SHAPES), (count,), generator=generator)
        radius = _uniform((count,), RADII, generator)
        room = SIDE / 2 - 1 - radius[:, None]
        start = room * _uniform((count, 2), (-1, 1), generator)
        angle = _uniform((count,), (0, 2 * math.pi), generator)
        heading = torch.stack([angle.cos(), angle.sin()], 1)
        heading = torch.where(start.sign() * heading > 0, -heading, heading)  # towards the middle
        steps = max(length - 1, 1)
        longest = ((room + start.abs()) / heading.abs().clamp_min(1e-6)).amin(1) / steps
        fastest = longest.clamp(max=SPEEDS[1])
        slowest = fastest.clamp(max=SPEEDS[0])
        speed = slowest + (fastest - slowest) * torch.rand(count, generator=generator, dtype=torch.float32)
        velocity = speed[:, None] * heading
        places = start[:, None] + velocity[:, None] * torch.arange(length, dtype=torch.float32)[:, None]
        masks = _shapes(kind, radius, places)
        frames = _painted(masks, self.colors, generator)
        size = (radius / SIDE)[:, None, None].expand(count, length, 1)
        attributes = torch.cat([places / (SIDE / 2), size, torch.zeros_like(size)], 2)
        return Sequences(frames, attributes, kind, torch.zeros_like(kind))


@dataclass(frozen=True)
class MovingGlyphs:
    """One digit per sequence, which is moved, rescaled or turned, one of the three, evenly in time.

    Args:
        colors: 1 for white on black, 3 for random colours of digit and ground.
    """

    colors: int = 1

    @property
    def name(self) -> str:
        """Name of the source: "glyphs"."""
        return "glyphs"

    def draw(self, count: int, length: int, generator: torch.Generator) -> Sequences:
        """Draw digit, motion, first and last state; what does not change is equal in all frames."""
        check(count, length)
        kind = torch.randint(len(GLYPHS), (count,), generator=generator)
        motion = torch.randint(len(MOTIONS), (count,), generator=generator)
        moves, grows, turns = (motion == index for index in range(3))
        ends = torch.empty(2, count, 4, dtype=torch.float32)
        size = _uniform((2, count), (0.4, 0.9), generator)
        ends[:, :, 2] = torch.where(grows, size, size[:1].clamp(max=0.7))
        room = (0.9 - ends[:, :, 2].amax(0)).clamp_min(0)[None, :, None]
        place = room * _uniform((2, count, 2), (-1, 1), generator)
        ends[:, :, :2] = torch.where(moves[:, None], place, place[:1])
        angle = _uniform((2, count), (-1, 1), generator)
        ends[:, :, 3] = torch.where(turns, angle, 0.3 * angle[:1])
        state = _between(ends, length)
        masks = _warped(_glyphs()[kind], state)
        return Sequences(_painted(masks[:, :, 0], self.colors, generator), state, kind, motion)


@dataclass(frozen=True, eq=False)
class MovingWindows:
    """A window that moves and zooms over a photograph while the colours shift, all evenly in time.

    Args:
        photos: Square photographs, uint8 [photos, side, side, 3], sides of at least 64.
        greyed: Share of the sequences that lose their colour by the end.
    """

    photos: UInt8[Tensor, "photos side side 3"]
    greyed: float = 0.2

    @property
    def name(self) -> str:
        """Name of the source: "windows"."""
        return "windows"

    def draw(self, count: int, length: int, generator: torch.Generator) -> Sequences:
        """Draw photograph, first and last place and size of the window, first and last gain of colours."""
        check(count, length)
        kind = torch.randint(len(self.photos), (count,), generator=generator)
        pieces = self.photos[kind].permute(0, 3, 1, 2).float() / 255
        pieces = F.interpolate(
            pieces, size=(2 * SIDE, 2 * SIDE), mode="bilinear", antialias=True, align_corners=False
        )
        size = _uniform((1, count), (0.45, 0.75), generator)
        ends = torch.empty(2, count, 4, dtype=torch.float32)
        ends[:, :, 2] = (size + _uniform((2, count), (-0.1, 0.1), generator)).clamp(max=0.75)
        room = (1 - ends[:, :, 2].amax(0))[None, :, None]
        start = room * _uniform((1, count, 2), (-1, 1), generator)
        far = 0.03 * (length - 1) * _uniform((2, count, 2), (-0.5, 0.5), generator)
        ends[:, :, :2] = (start + far).clamp(-room, room)
        ends[:, :, 3] = 0
        state = _between(ends, length)
        scale, place = state[..., 2], state[..., :2]
        theta = torch.zeros(count, length, 2, 3, dtype=torch.float32)
        theta[..., 0, 0] = theta[..., 1, 1] = scale
        theta[..., 2] = place
        frames = _sampled(pieces, theta)
        tint = _between(_uniform((2, count, 3), (0.8, 1.2), generator), length)[..., None, None]
        grey = frames.mean(2, keepdim=True)
        loses = (torch.rand(count, generator=generator, dtype=torch.float32) < self.greyed).float()
        kept = 1 - loses[:, None] * torch.linspace(0, 1, length, dtype=torch.float32)
        frames = grey + kept[:, :, None, None, None] * (frames - grey)
        return Sequences((frames * tint).clamp(0, 1), state, kind, torch.zeros_like(kind))


@dataclass(frozen=True, eq=False)
class Mixed:
    """Several sources, each of which gives a fixed share of the sequences.

    Args:
        sources: The sources, of equal colours.
        shares: Share of each, above 0, of sum 1.

    Raises:
        InvalidOption: The shares are not as many as the sources, or do not add up to 1.
    """

    sources: tuple[SequenceSource, ...]
    shares: tuple[float, ...]
    name: str = field(default="mixed")

    def __post_init__(self) -> None:
        if len(self.sources) != len(self.shares) or abs(sum(self.shares) - 1) > 1e-9:
            raise InvalidOption(
                f"shares {self.shares} of {len(self.sources)} sources: give one each, of sum 1"
            )

    def draw(self, count: int, length: int, generator: torch.Generator) -> Sequences:
        """Draw from every source, in their order."""
        check(count, length)
        ends = [round(count * float(end)) for end in np.cumsum((0, *self.shares))]
        parts = [
            source.draw(b - a, length, generator)
            for source, a, b in zip(self.sources, ends, ends[1:], strict=False)
            if b > a
        ]
        return Sequences(
            torch.cat([part.frames for part in parts]),
            torch.cat([part.attributes for part in parts]),
            torch.cat([part.kind for part in parts]),
            torch.cat([part.motion for part in parts]),
        )


def check(count: int, length: int) -> None:
    """Check number and length of sequences.

    Args:
        count: Number of sequences.
        length: Number of frames of each.

    Raises:
        InvalidOption: Count is below 1, or length is not 1 to 64.
    """
    if count < 1:
        raise InvalidOption(f"{count} sequences: draw at least 1")
    if not LENGTHS[0] <= length <= LENGTHS[1]:
        raise InvalidOption(f"sequences of {length} frames: choose {LENGTHS[0]} to {LENGTHS[1]}")


def _uniform(
    size: Sequence[int], ends: tuple[float | int, float | int], generator: torch.Generator
) -> Tensor:
    drawn = torch.rand(tuple(size), generator=generator, dtype=torch.float32)
    return ends[0] + (ends[1] - ends[0]) * drawn


def _between(ends: Float[Tensor, "2 count numbers"], length: int) -> Float[Tensor, "count length numbers"]:
    """States evenly between a first and a last one."""
    share = (
        torch.linspace(0, 1, length, dtype=torch.float32)[None, :, None]
        if length > 1
        else torch.zeros(1, 1, 1, dtype=torch.float32)
    )
    return ends[0][:, None] * (1 - share) + ends[1][:, None] * share


def _shapes(
    kind: Int[Tensor, " count"], radius: Float[Tensor, " count"], places: Float[Tensor, "count length 2"]
) -> Float[Tensor, "count length side side"]:
    """Coverage of every pixel by a shape, from the distance to its edge."""
    grid = torch.arange(SIDE, dtype=torch.float32) - (SIDE - 1) / 2
    x = (grid - places[..., 0, None])[..., None, :]
    y = (grid - places[..., 1, None])[..., :, None]
    r = radius[:, None, None, None]
    disc = (x.square() + y.square()).sqrt() - r
    square = torch.maximum(x.abs(), y.abs()) - 0.85 * r
    diamond = (x.abs() + y.abs() - r) / math.sqrt(2)
    which = kind[:, None, None, None]
    distance = torch.where(which == 0, disc, torch.where(which == 1, square, diamond))
    return (0.5 - distance).clamp(0, 1)


def _painted(
    masks: Float[Tensor, "count length side side"], colors: int, generator: torch.Generator
) -> Float[Tensor, "count length colors side side"]:
    """White on black, or one random colour on another one that differs by a quarter of the range at least."""
    if colors == 1:
        return masks[:, :, None]
    if colors != 3:
        raise InvalidOption(f"{colors} colours: choose 1 or 3")
    count = len(masks)
    ground = torch.rand(count, 3, generator=generator, dtype=torch.float32)
    apart = _uniform((count, 3), (0.25, 0.75), generator)
    thing = (ground + apart).remainder(1.0)
    grey = (torch.rand(count, 1, generator=generator, dtype=torch.float32) < 0.3).expand(count, 3)
    ground, thing = (torch.where(grey, x[:, :1].expand(count, 3), x) for x in (ground, thing))
    masks, ground, thing = masks[:, :, None], ground[:, None, :, None, None], thing[:, None, :, None, None]
    return ground + masks * (thing - ground)


@cache
def _glyphs() -> Float[Tensor, "glyphs 1 side side"]:
    """Digits, in the middle of a square, 0.7 of its side high."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / FONT), GLYPH_SIDE - 8)
    drawn: list[Tensor] = []
    for glyph in GLYPHS:
        picture = Image.new("L", (GLYPH_SIDE, GLYPH_SIDE))
        ImageDraw.Draw(picture).text((GLYPH_SIDE / 2, GLYPH_SIDE / 2), glyph, 255, font, anchor="mm")
        drawn.append(torch.from_numpy(np.asarray(picture, np.float32) / 255)[None])
    return torch.stack(drawn)


def _warped(
    pictures: Float[Tensor, "count 1 side side"], state: Float[Tensor, "count length 4"]
) -> Float[Tensor, "count length 1 height width"]:
    """Pictures at a place, in a size and at an angle, one frame per state; black around them."""
    x, y, size, angle = state.unbind(-1)
    c, s = angle.cos() / size, angle.sin() / size
    theta = torch.stack(
        [
            torch.stack([c, s, -(c * x + s * y)], -1),
            torch.stack([-s, c, s * x - c * y], -1),
        ],
        -2,
    )
    return _sampled(pictures, theta)


def _sampled(
    pictures: Float[Tensor, "count colors side side"], theta: Float[Tensor, "count length 2 3"]
) -> Float[Tensor, "count length colors height width"]:
    """Pictures under affine maps, bilinear, black outside."""
    count, length = theta.shape[:2]
    colors = pictures.shape[1]
    grid = F.affine_grid(theta.flatten(0, 1), [count * length, colors, SIDE, SIDE], align_corners=False)
    many = pictures[:, None].expand(-1, length, -1, -1, -1).flatten(0, 1)
    return F.grid_sample(many, grid, "bilinear", "zeros", align_corners=False).unflatten(0, (count, length))
