"""Sources of moving frames, against their own geometry."""

import pytest
import torch

from semcom.errors import InvalidOption
from semcom.representation.sequences import (
    SIDE,
    Mixed,
    MovingGlyphs,
    MovingShapes,
    MovingWindows,
    SequenceSource,
)


def photos() -> torch.Tensor:
    return (torch.rand(3, 80, 80, 3, generator=torch.Generator().manual_seed(0)) * 255).byte()


SOURCES: tuple[SequenceSource, ...] = (
    MovingShapes(1),
    MovingShapes(3),
    MovingGlyphs(1),
    MovingGlyphs(3),
    MovingWindows(photos()),
    Mixed((MovingShapes(3), MovingWindows(photos())), (0.5, 0.5)),
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
@pytest.mark.parametrize("length", [1, 2, 7, 20])
def test_frames_are_pictures_and_follow_from_the_seed(source: SequenceSource, length: int) -> None:
    drawn, again, other = (source.draw(4, length, seeded(seed)) for seed in (0, 0, 1))
    assert drawn.frames.shape[:2] == (4, length)
    assert drawn.frames.shape[3:] == (SIDE, SIDE)
    assert drawn.frames.min() >= 0
    assert drawn.frames.max() <= 1
    assert torch.equal(drawn.frames, again.frames)
    assert not torch.equal(drawn.frames, other.frames)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_attributes_are_linear_in_time(source: SequenceSource) -> None:
    """No reflections: second differences vanish up to rounding of numbers up to pi in float32."""
    drawn = source.draw(64, 9, seeded())
    second = drawn.attributes[:, 2:] - 2 * drawn.attributes[:, 1:-1] + drawn.attributes[:, :-2]
    assert second.abs().max() < 4 * 4 * torch.finfo(torch.float32).eps
    assert (drawn.attributes[:, 1:] - drawn.attributes[:, :-1]).abs().amax((1, 2)).min() > 0


def test_shapes_are_where_they_are_said_to_be() -> None:
    """The centre of mass is the place: nothing is cut off; antialiasing moves it by less than 1/10 pixel."""
    drawn = MovingShapes().draw(64, 6, seeded())
    mask = drawn.frames[:, :, 0]
    grid = torch.arange(SIDE) - (SIDE - 1) / 2
    mass = mask.sum((2, 3))
    x, y = (mask.sum(2) * grid).sum(2) / mass, (mask.sum(3) * grid).sum(2) / mass
    assert (torch.stack([x, y], 2) - drawn.attributes[..., :2] * SIDE / 2).abs().max() < 0.1
    assert mask[:, :, [0, -1]].max() == 0
    assert mask[..., [0, -1]].max() == 0


def test_shapes_have_their_areas() -> None:
    drawn = MovingShapes().draw(64, 2, seeded())
    radius = drawn.attributes[:, 0, 2] * SIDE
    factor = torch.tensor([torch.pi, (2 * 0.85) ** 2, 2.0])[drawn.kind]
    area = drawn.frames[:, 0, 0].sum((1, 2))
    assert ((area / (factor * radius**2)) - 1).abs().max() < 0.02  # edges, 1 pixel wide, of radii from 6 on


def test_one_motion_per_glyph() -> None:
    drawn = MovingGlyphs().draw(60, 5, seeded())
    change = (drawn.attributes[:, -1] - drawn.attributes[:, 0]).abs() > 0
    for motion, columns in enumerate(((0, 1), (2,), (3,))):
        others = [column for column in range(4) if column not in columns]
        assert not change[drawn.motion == motion][:, others].any()


@pytest.mark.parametrize(("count", "length"), [(0, 6), (-1, 6), (3, 0), (3, 65)])
def test_odd_numbers_are_refused(count: int, length: int) -> None:
    with pytest.raises(InvalidOption, match="sequences"):
        MovingShapes().draw(count, length, seeded())


def test_shares_add_up() -> None:
    with pytest.raises(InvalidOption, match="of sum 1"):
        Mixed((MovingShapes(),), (0.5,))
    with pytest.raises(InvalidOption, match="2 colours"):
        MovingShapes(2).draw(1, 1, seeded())
