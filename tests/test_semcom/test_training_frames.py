"""Training sequences of video, and pairs of frames and decoded frames."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from semcom.errors import InvalidSource
from semcom.modalities.video import VIDEO, Clip
from semcom.training import frames
from semcom.training.crops import Crops
from semcom.training.pairs import Pairs
from semcom.training.refiner import mixed
from semcom.training.sequences import FRAMES, SIDE, moving, piece_of_clip, sequences


def photograph(seed: int, height: int = 200, width: int = 240) -> torch.Tensor:
    """Smooth noise in [0, 1], [1, 3, height, width]."""
    noise = torch.rand(1, 3, height // 16, width // 16, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Four photographs, and two clips of which the second is left for validation."""
    photos, clips = tmp_path / "photos", tmp_path / "clips"
    photos.mkdir()
    clips.mkdir()
    for seed in range(4):
        pixels = (photograph(seed)[0].permute(1, 2, 0) * 255).round().to(torch.uint8)
        Image.fromarray(pixels.numpy()).save(photos / f"{seed}.png")
    for seed in range(2):
        still = (photograph(seed, 160, 176) * 255).round().to(torch.uint8).expand(FRAMES + 2, -1, -1, -1)
        VIDEO.write(Clip(still.contiguous(), Fraction(25)), clips / f"{seed}.mkv")
    return photos, clips


def test_sequences_are_of_clips_and_of_photographs(folders: tuple[Path, Path]) -> None:
    photos, clips = (sorted(folder.iterdir()) for folder in folders)
    found = list(sequences(photos, clips, 10))
    assert len(found) == 10
    assert all(one.shape == (FRAMES, 3, SIDE, SIDE) and one.dtype == torch.uint8 for one in found)
    moved = [float((one[-1].float() - one[0].float()).abs().mean()) for one in found]
    assert moved[:4] == [0, 0, 0, 0]  # round(0.45 * 10) of clips that stand still
    assert max(moved[4:]) > 5
    again = list(sequences(photos, clips, 10))
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    assert len(list(sequences(photos, [], 3))) == 3


def test_a_piece_of_a_clip_is_cut_out_of_it() -> None:
    """A clip as large as a piece is taken as it is."""
    whole = torch.arange(FRAMES + 4, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, SIDE, SIDE)
    piece = piece_of_clip(whole, np.random.default_rng(0))
    first = int(piece[0, 0, 0, 0])
    assert torch.equal(piece, whole[first : first + FRAMES])


def test_a_camera_over_one_colour_sees_it() -> None:
    colour = torch.full((1, 3, 200, 200), 100 / 255)
    assert moving(colour, colour, np.random.default_rng(0)).unique().tolist() == [100]


def test_what_moves_before_a_photograph_is_an_ellipse() -> None:
    """White before black: a region without holes in rows, whose centre moves by a constant velocity."""
    black, white = torch.zeros(1, 3, 200, 200), torch.ones(1, 3, 200, 200)
    seen = moving(black, white, np.random.default_rng(1))[:, 0] > 127
    assert bool(seen.any())
    for row in seen[FRAMES // 2]:
        places = row.nonzero().flatten()
        assert len(places) == 0 or len(places) == int(places[-1] - places[0]) + 1


def test_pairs_of_frames_tell_the_error_of_the_sequence(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "COUNT", 4)
    monkeypatch.setattr(frames, "KEPT", FRAMES)
    pairs = frames.frame_pairs(*folders, tmp_path / "cache", 64, "cpu")
    assert pairs.crops.pixels.shape == (4 * FRAMES, SIDE, SIDE, 6)
    assert set(pairs.scale.tolist()) <= {1.0, 2.0}
    whole = pairs.crops.pixels.float().reshape(4, FRAMES, SIDE, SIDE, 6)
    error = (whole[..., 3:] - whole[..., :3]).square().mean((1, 2, 3, 4)).sqrt() * 2 / 255
    told = pairs.spread.reshape(4, FRAMES)
    assert torch.equal(told, told[:, :1].expand(-1, FRAMES))
    assert told[:, 0].tolist() == pytest.approx(error.clamp_min(0.004).tolist(), rel=1e-4)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    again = frames.frame_pairs(*folders, tmp_path / "cache", 64, "cpu")
    assert torch.equal(again.crops.pixels, pairs.crops.pixels)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == written
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidSource, match="no clips in this folder"):
        frames.frame_pairs(folders[0], tmp_path / "empty", tmp_path / "cache", 64, "cpu")


def test_held_out_sequences_are_coded_at_fixed_qualities(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "HELD_OUT_COUNT", 2)
    found = frames.held_out_frames(*folders, "cpu")
    assert [float(pairs.scale[0]) for pairs in found] == [scale for _, scale, _ in frames.HELD_OUT]
    assert all(len(pairs.crops.pixels) == 2 for pairs in found)


@pytest.mark.parametrize(("batch", "shares"), [(4, (2, 2)), (5, (3, 2)), (1, (1, 0))])
def test_a_batch_is_shared_among_the_sets(batch: int, shares: tuple[int, int]) -> None:
    sets = [
        Pairs(
            Crops(torch.full((2, 16, 16, 6), level, dtype=torch.uint8), 16),
            torch.full((2,), 0.1),
            torch.ones(2),
        )
        for level in (0, 255)
    ]
    drawn = mixed(batch, torch.Generator().manual_seed(0), sets)
    assert drawn.shape == (batch, 8, 16, 16)
    assert drawn[:, 0, 0, 0].tolist() == [0.0] * shares[0] + [1.0] * shares[1]
