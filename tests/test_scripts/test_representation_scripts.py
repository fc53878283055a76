"""The scripts of straightened representations run on toys, go on where they were stopped, and write pages."""

import json
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from script_modules import script
from toys import pictures

from semcom.data import to_picture
from semcom.modalities.video import VIDEO, Clip
from semcom.representation.sequences import MovingShapes

pytestmark = pytest.mark.slow


def test_objectives_are_compared_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = script("straightening")
    arguments = ["straightening", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    arguments += ["--steps", "3", "--seeds", "0", "--objectives", "cosine"]
    monkeypatch.setattr(sys, "argv", arguments)
    module.main()
    monkeypatch.setattr(sys, "argv", [*arguments, "invariance"])
    module.main()
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    assert [row["objective"] for row in rows] == ["cosine", "invariance"]
    assert all(-1 <= row["straightness"] <= 1 and row["r2"] <= 1 for row in rows)
    assert "| S of pixels <= 0.2 |" in (tmp_path / "out" / "table.md").read_text()
    assert (tmp_path / "out" / "straightening.svg").is_file()


def test_the_link_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = script("predictive_link")
    photos, clips, out = (tmp_path / name for name in ("photos", "clips", "out"))
    photos.mkdir()
    clips.mkdir()
    for item in pictures(2, side=80):
        to_picture(item.x).save(photos / f"{item.id}.png")
    frames = MovingShapes(3).draw(1, 20, torch.Generator().manual_seed(0)).frames[0]
    VIDEO.write(Clip((frames * 255).round().byte(), Fraction(20)), clips / "toy.mkv")
    for name, value in (
        ("LAW_COUNT", 2),
        ("RHOS", ("1/384", "1/192", "1/96")),
        ("CODECS", ("latent:intra", "latent:kalman", "x265-live")),
        ("ANALOG", ("latent:kalman",)),
        ("KINDS", ("shapes", "glyphs", "windows", "clips")),
    ):
        monkeypatch.setattr(module, name, value)
    arguments = ["predictive_link", "--photos", photos, "--clips", clips, "--out", out, "--items", 1]
    monkeypatch.setattr(sys, "argv", [str(argument) for argument in (*arguments, "--seeds", 1)])
    module.main()
    laws = json.loads((out / "laws.json").read_text())
    assert [law["kind"] for law in laws] == list(module.KINDS)
    assert len((out / "rates.jsonl").read_text().splitlines()) == 4 * (8 + 8 + 39)
    assert "| latent:kalman |" in (out / "rates.md").read_text()
    assert "uses / intra" in (out / "uses.md").read_text()
