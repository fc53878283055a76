"""Comparison of video codecs: records, ratios, findings, page."""

import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from PIL import Image

from semcom import names
from semcom.cli import main
from semcom.errors import StoreError
from semcom.modalities.modality import Item
from semcom.modalities.video import VIDEO, Clip
from semcom.records import Records
from semcom.video.comparison import (
    POINT,
    compared,
    differences,
    findings,
    page,
    points_table,
    ratios,
    side_by_side,
    whole_frames,
    witness_table,
)

ROWS = [
    {
        "item": item,
        "codec": codec,
        "bpp_allowed": bpp,
        "bpp": bpp,
        "floor": 0,
        "lpips_squeeze": d,
        "psnr_db": p,
    }
    for item, codec, bpp, d, p in [
        ("a-1", "x265", 0.02, 0.4, 25.0),
        ("a-1", "layered", 0.02, 0.2, 26.0),
        ("b-2", "x265", 0.02, 0.1, 30.0),
        ("b-2", "layered", 0.02, 0.2, 29.5),
        ("a-1", "layered", 0.04, 0.1, 28.0),
    ]
]
FLOOR = {"item": "a-1", "codec": "x265", "bpp_allowed": 0.04, "floor": 1}


def clip(frames: int = 3) -> Item[Clip]:
    x = torch.randint(0, 255, (frames, 3, 72, 72), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return Item("toy-00000000", Clip(x, Fraction(25)), VIDEO)


def test_ratios_and_differences_are_of_common_points() -> None:
    rows = [*ROWS, FLOOR]
    found = ratios(rows, "lpips_squeeze", "layered", "x265")
    assert found == pytest.approx({("a-1", 0.02): 0.5, ("b-2", 0.02): 2.0})
    assert differences(rows, "psnr_db", "layered", "x265") == {("a-1", 0.02): 1.0, ("b-2", 0.02): -0.5}
    assert ratios(rows, "lpips_squeeze", "layered", "x265", 0.01) == {}


def test_points_without_any_distance_have_no_ratio() -> None:
    """A codec that shows the original has a distance of 0, to which there is no ratio."""
    rows = [*ROWS, {**ROWS[0], "item": "c-3", "lpips_squeeze": 0.0}, {**ROWS[1], "item": "c-3"}]
    rows += [{**ROWS[0], "item": "d-4"}, {**ROWS[1], "item": "d-4", "lpips_squeeze": 0.0}]
    assert ratios(rows, "lpips_squeeze", "layered", "x265") == ratios(
        ROWS, "lpips_squeeze", "layered", "x265"
    )


def test_ratios_are_at_equal_payload() -> None:
    """LPIPS of d = 0.01 / bpp at the payload of the other codec; nothing far beyond the curve."""
    ours = [
        {"item": "a", "codec": "ours", "bpp_allowed": bpp, "bpp": bpp, "lpips_squeeze": 0.01 / bpp}
        for bpp in (0.02, 0.04)
    ]
    for spent, ratio in ((0.03, 0.01 / 0.03 / 0.5), (0.018, 0.01 / 0.018 / 0.5), (0.06, None)):
        other = {"item": "a", "codec": "x", "bpp_allowed": 0.05, "bpp": spent, "lpips_squeeze": 0.5}
        found = ratios([*ours, other], "lpips_squeeze", "ours", "x")
        assert found == ({} if ratio is None else pytest.approx({("a", 0.05): ratio}))


def test_differences_are_at_equal_payload() -> None:
    """PSNR of 30 + 6 log2(bpp / 0.02) dB, at the payload of the other codec."""
    ours = [
        {"item": "a", "codec": "ours", "bpp_allowed": bpp, "bpp": bpp, "psnr_db": psnr_db}
        for bpp, psnr_db in ((0.02, 30.0), (0.04, 36.0))
    ]
    for spent in (0.018, 0.03, 0.045):
        other = {"item": "a", "codec": "x", "bpp_allowed": 0.05, "bpp": spent, "psnr_db": 29.0}
        found = differences([*ours, other], "psnr_db", "ours", "x")
        assert found == pytest.approx({("a", 0.05): 1 + 6 * math.log2(spent / 0.02)})


def test_witnesses_are_paired() -> None:
    heading, *lines = witness_table([*ROWS, FLOOR], "layered", {"psnr_db": 1, "swd": 0})
    assert heading == ["metric", "bpp", "x265", "layered", "layered - x265"]
    (line,) = lines  # at 0.04 one codec needs more bits
    assert line[:4] == ["psnr_db", "0.02", "27.5", "27.8"]
    assert line[4].startswith("+0.2 (-")
    assert line[4].endswith("; b -0.5 to a +1.0")


def test_findings_have_the_geometric_mean() -> None:
    (said,) = findings([*ROWS, FLOOR], "layered", "lpips_squeeze", "LPIPS", math.inf)
    assert said.startswith("LPIPS of layered is 1.000 times that of x265 (")
    assert said.endswith("at 2 operating points (worst 2.00), with +0.25 dB of PSNR (-0.50 to +1.00).")


def test_the_table_tells_floors() -> None:
    heading, *lines = points_table([*ROWS, FLOOR], {"psnr_db": 1, "lpips_squeeze": 2})
    assert heading == ["clip", "bpp", "x265", "layered"]
    assert lines[0] == ["a", "0.02", "25.0 / 0.40", "26.0 / 0.20"]
    assert lines[2] == ["a", "0.04", "floor", "28.0 / 0.10"]


def test_every_point_is_measured_once(tmp_path: Path) -> None:
    records = Records(tmp_path / "records.jsonl", POINT)
    codecs = {name: names.codec(name, "video") for name in ("x265-live", "jpeg")}
    metrics = [names.metric("psnr_db", "video")]
    kept: list[str] = []
    told: list[tuple[int, int]] = []

    def run() -> list[dict[str, str | float]]:
        return compared(
            [clip()],
            codecs,
            (0.001, 2.0),
            metrics,
            records,
            lambda done, total: told.append((done, total)),
            lambda item, name, bpp, shown: kept.append(f"{name} {bpp:g}"),
        )

    rows = run()
    assert [row["floor"] for row in rows] == [1, 0, 1, 0]
    assert kept == ["x265-live 2", "jpeg 2"]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for row in rows:
        if not row["floor"]:
            assert row["bpp"] == 8 * float(row["bytes"]) / (3 * 72 * 72) <= 2
    assert run() == rows
    assert len(kept) == 2


def test_metrics_are_added_to_known_points(tmp_path: Path) -> None:
    """Further metrics of the same encodes; what was measured stays, and another encode is refused."""
    records = Records(tmp_path / "records.jsonl", POINT)
    codecs = {"x265-live": names.codec("x265-live", "video")}
    psnr, swd = (names.metric(name, "video") for name in ("psnr_db", "swd"))
    budgets = (0.001, 2.0)
    floor, known = compared([clip()], codecs, budgets, [psnr], records, lambda done, total: None)
    rows = compared([clip()], codecs, budgets, [psnr, swd], records, lambda done, total: None)
    both = compared(
        [clip()],
        codecs,
        budgets,
        [psnr, swd],
        Records(tmp_path / "other.jsonl", POINT),
        lambda done, total: None,
    )
    assert rows == [floor, known | {"swd": both[1]["swd"]}]
    assert rows == records.rows()
    records.add(known | {"bytes": 1})
    assert records.rows() == [floor, known | {"bytes": 1}]
    with pytest.raises(StoreError, match="x265-live at 2 bits per pixel now codes toy-00000000 otherwise"):
        compared([clip()], codecs, budgets, [psnr, swd], records, lambda done, total: None)


def test_loops_hold_all_clips(tmp_path: Path) -> None:
    x = clip().x
    side_by_side({"original": x, "other": x}, tmp_path / "loop.webp", 14)
    with Image.open(tmp_path / "loop.webp") as loop:
        assert loop.size == (144, 86)
        assert loop.n_frames == 3  # pyright: ignore[reportAttributeAccessIssue]


def test_the_page_stands_alone(tmp_path: Path) -> None:
    x = clip().x
    side_by_side({"original": x}, tmp_path / "toy-1.webp")
    labels = {"psnr_db": "PSNR dB", "lpips_squeeze": "LPIPS"}
    content = page([*ROWS, FLOOR], "layered", labels, [tmp_path / "toy-1.webp"])
    assert "1.000 times that of x265" in content
    assert content.count("<svg") == 2
    assert "data:image/webp;base64," in content
    assert 'src="http' not in content
    assert "url(http" not in content
    assert "Nothing to compare" in page([FLOOR], "layered", labels, [])


def test_clips_are_cut(tmp_path: Path) -> None:
    (cut,) = whole_frames([clip(3)], 2)
    assert (cut.id, len(cut.x.frames)) == ("toy-00000000", 2)


def test_the_command_writes_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    VIDEO.write(clip().x, tmp_path / "clip.mkv")
    out = tmp_path / "out"
    arguments = ["video", "compare", str(tmp_path / "clip.mkv"), "--out", str(out), "--bpp", "2"]
    arguments += ["--codecs", "x265-live,x264-live", "--metrics", "psnr_db,swd"]
    assert main(arguments) == 0
    assert "SWD of x264-live is" in (out / "report.html").read_text()
    assert "2 operating points ->" in capsys.readouterr().err
    assert main(arguments) == 0  # nothing is left to do, and the loops are those of before
    assert "data:image/webp" in (out / "report.html").read_text()


def test_a_run_that_goes_on_shows_all_codecs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Loops after a run with one codec, one with two, and one whose loop is lost; two clips of 72 pixels."""
    VIDEO.write(clip().x, tmp_path / "clip.mkv")
    out = tmp_path / "out"
    for codecs, pictures in (("x264-live", 2), ("x264-live,x265-live", 3), ("x264-live,x265-live", 3)):
        arguments = ["video", "compare", str(tmp_path / "clip.mkv"), "--out", str(out), "--bpp", "2,2"]
        assert main([*arguments, "--codecs", codecs, "--metrics", "psnr_db"]) == 0
        (loop,) = out.glob("*.webp")
        with Image.open(loop) as opened:
            assert opened.size[0] == 72 * pictures
        if pictures == 3:
            loop.unlink()
    capsys.readouterr()
    assert main([*arguments, "--codecs", "x264-live", "--metrics", "psnr_db", "--frames", "2"]) == 2
    assert "was measured with 3 frames, not 2" in capsys.readouterr().err


@pytest.mark.parametrize("bpp", ["x", "0", "-1", "nan", "100"])
def test_a_rate_out_of_range_is_one_line(
    bpp: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["video", "compare", str(tmp_path), "--out", str(tmp_path / "o"), f"--bpp={bpp}"]) == 2
    assert f"--bpp {bpp}: choose numbers above 0, up to 24" in capsys.readouterr().err
