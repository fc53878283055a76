"""Sets of kept pictures are compared with all their originals, crop by crop."""

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from toys import picture

from semcom import names
from semcom.cli import main
from semcom.data import load_image
from semcom.errors import InvalidOption, InvalidSource, MissingWeights, StoreError
from semcom.metrics import FID, FVD, KID, PSNR, PerFrame, SetSlicedWasserstein
from semcom.modalities import VIDEO, Clip
from semcom.modalities.image import to_uint8
from semcom.modalities.modality import Item
from semcom.realism import crops_of, realism, set_metrics_of
from semcom.results import ResultStore
from semcom.summary import ORIGINALS, PICTURES, RECORDS, keep_originals
from semcom.sweep import Sweep, run

SIDE = 32
SNR_DB = (-20.0, 5.0, 25.0)  # the first loses the metadata of softcast


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures by one scheme at three SNRs."""
    folder = tmp_path_factory.mktemp("kept")
    items = (picture("natural", 96, 128), picture("natural", 64, 80))
    design = Sweep((names.scheme("softcast"),), (names.channel("awgn"),), items, SNR_DB, ("1/2",), (PSNR(),))
    with ResultStore(folder / RECORDS) as store:
        keep_originals(items, folder)
        assert len(list(run(design, store, keep=folder / PICTURES))) == 6
    return folder


class Means(nn.Module):
    """Means of colours and of quarters in place of Inception."""

    num_features = 12

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(x.double(), 2).flatten(1) / 255


def test_crops_are_a_grid_and_the_same_shifted() -> None:
    x = torch.rand(1, 3, 70, 100)
    crops = crops_of(x, 32)
    corners = [(i, j) for i in (0, 32) for j in (0, 32, 64)] + [(16, j) for j in (16, 48)]
    assert torch.equal(crops, torch.cat([x[:, :, i : i + 32, j : j + 32] for i, j in corners]))
    assert torch.equal(crops_of(x[:, :, :32, :32], 32), x[:, :, :32, :32])


def test_distances_are_those_of_the_sets(kept: Path) -> None:
    frame = realism(kept, {"swd_set": SetSlicedWasserstein}, SIDE)
    assert frame["snr_db"].tolist() == list(SNR_DB)
    assert frame["lost"].tolist() == [2, 0, 0]
    assert frame["crops"].tolist() == [12 + 6 + 4 + 2] * 3
    worst, middle, best = frame["swd_set"]
    assert min(worst, middle) > best > 0
    metric = SetSlicedWasserstein()
    for path in sorted((kept / PICTURES).glob("softcast*/*snr=5dB*.png")):
        original = kept / PICTURES / ORIGINALS / f"{path.name.split('_awgn')[0]}.png"
        metric.update(*(crops_of(load_image(file).x, SIDE) for file in (path, original)))
    assert middle == pytest.approx(metric.compute(), rel=1e-5)


def test_a_set_too_small_for_a_metric_has_no_number(kept: Path) -> None:
    metrics = {"kid": lambda: KID(20, Means()), "fid": lambda: FID(25, Means())}
    told: list[tuple[int, int]] = []
    frame = realism(kept, metrics, SIDE, lambda done, total: told.append((done, total)))
    assert frame["kid"].notna().all()
    assert frame["kid"][0] > frame["kid"][2]
    assert frame["fid"].map(math.isnan).all()
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_pictures_of_long_names_are_compared(tmp_path: Path) -> None:
    item = replace(picture("natural", 64, 80), id="long" * 64)
    design = Sweep(
        (names.scheme("softcast"),), (names.channel("awgn"),), (item,), (25.0,), ("1/2",), (PSNR(),)
    )
    with ResultStore(tmp_path / RECORDS) as store:
        keep_originals((item,), tmp_path)
        assert len(list(run(design, store, keep=tmp_path / PICTURES))) == 1
    assert realism(tmp_path, {"swd_set": SetSlicedWasserstein}, SIDE)["swd_set"].notna().all()


def test_what_cannot_be_compared_is_one_clear_line(kept: Path, tmp_path: Path) -> None:
    metrics = {"swd_set": SetSlicedWasserstein}
    with pytest.raises(InvalidOption, match="80x64; choose smaller"):
        realism(kept, metrics, 65)
    with pytest.raises(InvalidOption, match="16 or more"):
        realism(kept, metrics, 8)
    with pytest.raises(StoreError, match="run a sweep first"):
        realism(tmp_path, metrics)
    with ResultStore(tmp_path / RECORDS):
        pass
    with pytest.raises(StoreError, match="no records yet"):
        realism(tmp_path, metrics)
    (tmp_path / RECORDS).write_bytes((kept / RECORDS).read_bytes())
    with pytest.raises(InvalidSource, match="sweep again with --keep"):
        realism(tmp_path, metrics)


def test_command_writes_a_table(kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "realism.csv"
    assert main(["realism", str(kept), "--metrics", "swd_set", "--crop", "32", "--out", str(path)]) == 0
    assert "swd_set" in capsys.readouterr().out
    assert path.read_text().splitlines()[0] == "scheme,channel,rho,snr_db,crops,lost,swd_set"
    for arguments, words in (
        (["--metrics", "psnr_db"], "no set metric called 'psnr_db'"),
        (["--out", str(tmp_path / "a.txt")], "a .csv file"),
        (["--out", str(tmp_path / "no" / "a.csv")], "its folder is not there"),
    ):
        assert main(["realism", str(kept), *arguments]) == 2
        assert words in capsys.readouterr().err


FRAMES = 40  # two pieces of 16 frames, and eight that are left over


@pytest.fixture(scope="module")
def kept_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips by one scheme at two SNRs."""
    folder = tmp_path_factory.mktemp("clips")
    noise = torch.Generator().manual_seed(1)
    items = tuple(
        Item(f"clip-{i}", Clip(torch.randint(256, size, generator=noise).byte(), Fraction(25)), VIDEO)
        for i, size in enumerate(((FRAMES, 3, 48, 64), (16, 3, 32, 32)))
    )
    scheme = names.scheme("jpeg+ldpc:mcs4", VIDEO)
    design = Sweep((scheme,), (names.channel("awgn"),), items, (-20.0, 20.0), ("2",), (PerFrame(PSNR()),))
    with ResultStore(folder / RECORDS) as store:
        keep_originals(items, folder)
        assert len(list(run(design, store, keep=folder / PICTURES))) == 4
    return folder


def motion(clips: Tensor) -> Tensor:
    """Means of colours and mean changes in place of I3D."""
    assert clips.shape[1:3] == (3, 16)
    assert clips.max() > 1
    return torch.cat([clips.mean((2, 3, 4)), clips.diff(dim=2).abs().mean((2, 3, 4))], 1)


def test_frechet_video_distance_is_that_of_torchmetrics_and_of_gaussians() -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    generator = torch.Generator().manual_seed(2)
    originals, received = torch.rand(2, 20, 32, 3, 8, 8, generator=generator)
    received = received * torch.linspace(0.5, 1, 20)[:, None, None, None, None]
    metric, identical = FVD(40, motion), FVD(40, motion)
    other = FrechetInceptionDistance(Features(), normalize=False)
    for x_hat, x in zip(received, originals, strict=True):
        metric.update(x_hat, x)
        identical.update(x, x)
        for frames, real in ((x_hat, False), (x, True)):
            pieces = to_uint8(frames).unflatten(0, (2, 16))
            other.update(pieces.flatten(1, 2).flatten(2), real=real)
    assert metric.compute() == pytest.approx(other.compute().item(), rel=1e-6)
    assert identical.compute() == pytest.approx(0, abs=1e-6)


class Features(nn.Module):
    """`motion` for torchmetrics, whose images here are clips."""

    num_features = 6

    def forward(self, x: Tensor) -> Tensor:
        return motion(x.unflatten(1, (16, 3)).unflatten(3, (8, 8)).transpose(1, 2).double())


def test_clips_are_compared_piece_by_piece_and_frame_by_frame(kept_clips: Path) -> None:
    def distance() -> FVD:
        return FVD(17, motion)

    metrics = {"swd_set": SetSlicedWasserstein, "fvd_i3d": distance}
    frame = realism(kept_clips, metrics, 16)
    assert frame["crops"].tolist() == [12 + 6 + 4 + 1] * 2
    assert frame["lost"].tolist() == [2, 0]
    assert frame["fvd_i3d"][0] > frame["fvd_i3d"][1] > 0
    assert frame["swd_set"][0] > frame["swd_set"][1] > 0
    few = realism(kept_clips, {"fvd_i3d": lambda: FVD(42, motion)}, 16)
    assert few["fvd_i3d"].map(math.isnan).all()  # 2 * 18 + 5 pieces


def test_clip_metrics_are_not_for_pictures_and_weights_are_asked_for(
    kept: Path, kept_clips: Path, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InvalidOption, match="compares clips"):
        realism(kept, {"fvd_i3d": lambda: FVD(2, motion)}, SIDE)
    assert "fvd_i3d" in set_metrics_of(kept_clips)
    assert "fvd_i3d" not in set_metrics_of(kept)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingWeights, match="put it there"):
        FVD()
    assert main(["realism", str(kept_clips), "--crop", "32"]) == 0
    told = capsys.readouterr()
    assert "swd_set" in told.out
    assert "fvd_i3d: i3d_torchscript.pt is not in" in told.err
    cached = tmp_path / "hub" / "checkpoints" / "i3d_torchscript.pt"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"not a network")
    with pytest.raises(MissingWeights, match="damaged"):
        FVD()
    torch.jit.script(Network()).save(str(cached))
    metric = FVD(2)
    frames = torch.rand(32, 3, 8, 8)
    metric.update(frames, frames)
    assert metric.compute() == pytest.approx(0, abs=1e-6)


class Network(nn.Module):
    """With the arguments of the published file."""

    def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        assert rescale
        assert resize
        assert return_features
        return x.mean((2, 3, 4))
