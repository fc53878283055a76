"""Tables of the refiner's sweep on records in closed form, and the sweep itself on toys."""

import math
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from toys import pictures

from semcom.data import to_picture
from semcom.statistics import bootstrap_mean

if TYPE_CHECKING:
    import pandas as pd

SCRIPTS = Path(__file__).parents[2] / "scripts"
RATES = (1 / 12, 1 / 24, 1 / 48, 1 / 96, 1 / 192)
ENVELOPE, REFINED, PERCEPTUAL = "envelope:csit-average", "envelope:csit-average+refine", "deepjscc-perceptual"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    return import_module("sweep_refiner")


def records(gains: tuple[float, ...]) -> "pd.DataFrame":
    """LPIPS of -0.1 log2(g rho): equal to the envelope's, which has g = 1, at 1 / g of the channel uses."""
    import pandas as pd

    rows = [
        {"scheme": scheme, "channel": "awgn", "rho": rho, "snr_db": 5.0, "item": f"item{i}", "seed": 0}
        | {"outage": 0, "lpips_squeeze": -0.1 * math.log2(gain * rho), "psnr_db": psnr_db + i}
        for i, own in enumerate(gains)
        for scheme, gain, psnr_db in ((ENVELOPE, 1, 30), (REFINED, own, 29.5), (PERCEPTUAL, 3, 30.2))
        for rho in RATES
    ]
    return pd.DataFrame(rows)


def test_shares_are_those_of_curves_that_are_shifted(module) -> None:
    """At 1/12 the envelope's LPIPS takes 1 / g of its uses; at 1/192 fewer than were measured."""
    gains = (2.0, 4.0, 8.0)
    found = module.shares(records(gains), REFINED, ENVELOPE)
    assert sorted(rho for _, rho, _ in found) == pytest.approx(sorted(RATES))
    best = found["awgn", 1 / 12, 5.0]
    assert best.interval.mean == pytest.approx(0.25)
    logs = bootstrap_mean([-math.log(gain) for gain in gains], range(3))
    assert (best.interval.low, best.interval.high) == pytest.approx((math.exp(logs.low), math.exp(logs.high)))
    least = found["awgn", 1 / 192, 5.0]
    assert (least.interval.items, least.cheaper, least.never) == (0, 3, 0)
    table = module.shares_table(records(gains), REFINED, ENVELOPE)
    assert f"| 1/12 | 0.25 ({math.exp(logs.low):.2f} to {math.exp(logs.high):.2f}), 3 of 3 |" in table
    assert "| 1/192 | not interpolated (0 of 3, 3 below) |" in table
    inverse = module.shares_table(records(gains), ENVELOPE, REFINED, inverted=True)
    assert f"| 1/192 | 0.25 ({math.exp(logs.low):.2f} to {math.exp(logs.high):.2f}), 3 of 3 |" in inverse
    assert "| 1/12 | not interpolated (0 of 3, 3 below) |" in inverse


def test_pictures_that_are_better_in_both_are_counted(module) -> None:
    """LPIPS is lower for g > 3; PSNR is 0.7 dB lower than the rival's, then 0.5 dB higher."""
    frame = records((2.0, 4.0, 8.0))
    assert f"| {REFINED} | 0 of 3 |" in module.counts(frame, PERCEPTUAL)
    frame.loc[frame["scheme"] == PERCEPTUAL, "psnr_db"] -= 1.2
    table = module.counts(frame, PERCEPTUAL)
    assert f"| {REFINED} | 2 of 3 |" in table
    assert f"| {ENVELOPE} | 0 of 3 |" in table
    assert table.count("## awgn, rho = ") == len(RATES)


@pytest.mark.slow
def test_the_sweep_writes_all_its_tables_and_says_what_is_left(
    module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "SNR_DB", (0.0, 10.0))
    monkeypatch.setattr(module, "PERCEPTION", "grid")
    monkeypatch.setattr(module, "METRICS", ("psnr_db", "grid"))
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for item in pictures(3, side=96):
        to_picture(item.x).save(data / f"{item.id}.png")
    common = ["--data", str(data), "--out", str(out), "--rho", "1/6,1/12"]
    common += ["--schemes", f"{ENVELOPE},{REFINED},{PERCEPTUAL}"]
    module.main([*common, "--photos", "2"])
    # schemes, items, and channels with SNR and rho: the grid, and one point of two others at a time
    assert f"{3 * 2 * (2 * 2 * 2 + 2 * 2)} records" in capsys.readouterr().out
    table = (out / "table.md").read_text()
    for heading in ("# Means", f"# Pictures with more PSNR and less LPIPS than {PERCEPTUAL}"):
        assert heading in table
    for reference in (ENVELOPE, PERCEPTUAL):
        assert f"# Channel uses of {REFINED} at the LPIPS of {reference}, as a share of" in table
    assert "lossy:256:0.1/awgn, rho = 1/12" in table
    module.main([*common, "--estimate"])
    said = capsys.readouterr().out
    assert f"{REFINED}: 12 records of" in said  # of the third picture
    assert "together:" in said


@pytest.mark.slow
def test_flat_colours_name_the_worst_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only one of two pictures has flat areas; a knob of 0 shows what was decoded and drifts by nothing."""
    import torch

    monkeypatch.syspath_prepend(SCRIPTS)
    script = import_module("flat_colours")
    (tmp_path / "data").mkdir()
    to_picture(torch.full((1, 3, 64, 96), 0.4)).save(tmp_path / "data/plain.png")
    to_picture(pictures(1, side=64)[0].x).save(tmp_path / "data/toy.png")
    paths = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "drift.md")]
    common = [*paths, "--rho", "1/4", "--snr", "10"]
    script.main([*common, "--schemes", "avif+ldpc:mcs4+refine:0,avif+ldpc:mcs4+refine:1.5"])
    table = (tmp_path / "drift.md").read_text()
    assert "| 1/4 | 10 dB | 0.00 (plain) | " in table
    assert table.endswith(" (plain) | 1 of 2 |\n")
    assert capsys.readouterr().out.rstrip() in table


def test_the_witness_is_paired_by_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gains of 1, 2 and 3 over scores that differ by far more from picture to picture."""
    import pandas as pd

    monkeypatch.syspath_prepend(SCRIPTS)
    script = import_module("witness_refiner")
    gains = [1.0, 2.0, 3.0]
    rows = [
        {"scheme": scheme, "channel": "awgn", "rho": rho, "snr_db": 5.0, "item": f"item{i}", "seed": 0}
        | {"outage": 0, "vmaf_neg": 30 + 20 * i + own}
        for i, gain in enumerate(gains)
        for scheme, own in ((ENVELOPE, 0.0), (REFINED, gain))
        for rho in (1 / 192, 1 / 12)
    ]
    found = bootstrap_mean(gains, range(3))
    lines = script.table(pd.DataFrame(rows), ("vmaf_neg",)).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| 1/12, 5 dB", "| 1/192, 5 dB"]
    assert lines[2].endswith(f"| 50.0 | 52.0 | +2.00 ({found.low:+.2f} to {found.high:+.2f}) |")
