"""Clips over noisy and lossy channels: crops, shared encodes, lost frames, tables and figures."""

from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest
import script_modules
import torch

from semcom import names
from semcom.data import Item
from semcom.metrics.clip import PerFrame
from semcom.metrics.distortion import PSNR
from semcom.modalities.video import VIDEO, Clip
from semcom.video.interpolation import flow_is_there

needs_flow = pytest.mark.skipif(not flow_is_there(), reason="OpenCV is not installed")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return script_modules.script("video_over_noise")


def sliding(frames: int, height: int, width: int, speed: int = 2) -> Clip:
    """A smooth texture that moves to the left."""
    noise = torch.rand(1, 3, height // 8, width // 8 + 8, generator=torch.Generator().manual_seed(0))
    whole = torch.nn.functional.interpolate(noise, scale_factor=8, mode="bicubic")[0].clamp(0, 1)
    views = [whole[:, :, speed * t : speed * t + width] for t in range(frames)]
    return Clip((255 * torch.stack(views)).round().to(torch.uint8), Fraction(25))


def test_the_middle_is_cut_out_and_small_clips_are_left_out(script: ModuleType) -> None:
    x = sliding(5, 64, 96)
    items = [Item("large", x, VIDEO), Item("low", Clip(x.frames[:, :, :40], x.frame_rate), VIDEO)]
    (found,) = script.cropped(items, 3, 80, 48)
    assert found.id == "large"
    assert torch.equal(found.x.frames, x.frames[:3, :, 8:56, 8:88])


@needs_flow
def test_schemes_that_differ_in_the_receiver_share_their_encodes(script: ModuleType) -> None:
    named = ["x265+ldpc:csit-average", "av1+ldpc:csit-average", "x265+packets:512"]
    one, other, packets, same = script.schemes([*named, "x265+packets:512+interpolate"])
    assert packets.transmission.codec is same.transmission.codec
    assert one.transmission.codec is not other.transmission.codec
    assert [one.name, other.name] == named[:2]
    assert same.name == names.scheme("x265+packets:512+interpolate", VIDEO).name


@needs_flow
def test_lost_frames_of_a_moving_texture_gain_by_interpolation(script: ModuleType) -> None:
    """Of 12 frames in as many packets some are lost: held they are off by the motion, interpolated hardly."""
    item = Item("sliding", sliding(12, 64, 64), VIDEO)
    losses, metrics = {"none": "awgn", "30 %": "lossy:512:0.3/awgn"}, (PerFrame(PSNR()),)
    rows = list(script.concealed(["jpeg+packets:512"], losses, [item], "1/24", metrics, 3))
    assert {row.loss for row in rows} == {"30 %"}  # without losses there are no lost frames to speak of
    assert all(0 < row.lost < 12 for row in rows)
    assert sum(row.interpolated - row.held for row in rows) / len(rows) > 1


@pytest.mark.slow
@needs_flow
def test_the_experiment_on_toys(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for number in (1, 2):
        VIDEO.write(sliding(8, 64, 64, number), data / f"clip{number}.mkv")
    monkeypatch.setattr(script, "METRICS", ("psnr_db",))
    monkeypatch.setattr(script, "SNR_DB", (10.0,))
    monkeypatch.setattr(script, "CHANNELS", ("awgn",))
    monkeypatch.setattr(script, "CONCEALED", ("jpeg+packets:{uses}",))
    arguments = ["--data", str(data), "--out", str(out), "--size", "64x64", "--rho", "1/24"]
    arguments += ["--frames", "8", "--schemes", "softcast", "--packets", "jpeg+packets:{uses}"]
    script.main([*arguments, "--lost", "2"])
    script.main(arguments)
    records = pd.read_parquet(out / "records.parquet")
    assert len(records) == 2 * 2 * 5  # clips, schemes, losses, of which the first is none
    table = (out / "table.md").read_text()
    assert "| loss 30 % in bursts |" in table
    assert (out / "psnr_db_loss.svg").stat().st_size > 1000
    assert (out / "psnr_db_awgn.svg").stat().st_size > 1000
    rows = pd.read_csv(out / "concealment.csv")
    assert (rows["lost"] > 0).all()
    before = (out / "concealment.md").read_text()
    assert "| jpeg+packets:512:csit-average | 30 % | psnr_db | 2 |" in before
    script.main([*arguments, "--clips", "1"])  # nothing is measured again
    assert len(pd.read_parquet(out / "records.parquet")) == len(records)
    assert (out / "concealment.md").read_text() == before
