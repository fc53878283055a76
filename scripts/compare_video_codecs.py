"""Rate and quality of video codecs on a folder of clips at equal payload, without any channel.

Run:     TORCH_HOME=../shared/torch-home python scripts/compare_video_codecs.py
Cost:    about 90 minutes of one core for seven clips of 48 frames; killed, the same command goes on
Expect:  results/video/table.md and its curves; with witnesses among the metrics, witnesses.md

Every codec is fitted to the same numbers of bits per pixel; each operating point is one encode, and all
metrics are of it. Ratios are geometric means over clips and rates, with 95 % bootstrap intervals over clips.
Metrics that are named later are added to the operating points of before, by encoding them again.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from semcom import names
from semcom.data import load_folder
from semcom.experiment import write, write_figure
from semcom.modalities.modality import Item
from semcom.modalities.video import VIDEO, Clip
from semcom.records import Records
from semcom.terminal import progress_bar
from semcom.training.recipes import run_script
from semcom.video.comparison import (
    DIGITS,
    POINT,
    Row,
    compared,
    findings,
    page,
    points_table,
    rate_curves,
    side_by_side,
    whole_frames,
    witness_table,
)

DATA = Path("../shared/data/video/eval")
BPP = (0.01, 0.02, 0.04, 0.06)
CODECS = ("x264-slow", "x265-slow", "av1-slow", "x264-live", "x265-live", "av1-live", "layered")
METRICS = ("psnr_db", "ms_ssim", "lpips_squeeze", "swd")
LABELS = {"psnr_db": "PSNR (dB)", "lpips_squeeze": "LPIPS (SqueezeNet)", "swd": "sliced Wasserstein distance"}
WITNESSES = {"vmaf_neg": 1, "cvvdp": 2, "warp_error_gap": 2, "clip_feature_distance": 1, "grid": 2}
"""Metrics by which nothing was trained or chosen, and their digits after the decimal point."""
OURS = "layered"
MOST_BPP = 0.062  # of the findings


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data/video/eval"), help="folder of clips"
    )
    parser.add_argument("--out", type=Path, default=Path("results/video"))
    parser.add_argument("--frames", type=int, default=48, help="first frames of every clip")
    parser.add_argument("--clips", type=int, default=None, help="number of clips; all by default")
    parser.add_argument("--bpp", type=float, nargs="+", default=BPP)
    parser.add_argument("--codecs", nargs="+", default=CODECS)
    parser.add_argument("--metrics", nargs="+", default=METRICS)
    parser.add_argument("--loops", type=float, default=None, help="write loops side by side at this rate")
    options = parser.parse_args()
    items = list(whole_frames(load_folder(options.data, (VIDEO,))[: options.clips], options.frames))
    codecs = {name: names.codec(name, "video") for name in options.codecs}
    metrics = [names.metric(name, "video") for name in options.metrics]
    options.out.mkdir(parents=True, exist_ok=True)
    shown: dict[str, dict[str, Clip]] = {}

    def keep(item: Item[Clip], name: str, bpp: float, decoded: Clip) -> None:
        if bpp == options.loops:
            shown.setdefault(item.id, {"original": item.x})[name] = decoded

    with progress_bar("operating points") as told:
        records = Records(options.out / "records.jsonl", POINT)
        rows = compared(items, codecs, options.bpp, metrics, records, told, keep)
    rows.sort(key=lambda row: float(row["bpp_allowed"]))
    loops = [options.out / f"{item}.webp" for item in shown]
    for path, clips in zip(loops, shown.values(), strict=True):
        side_by_side(clips, path)
    for metric, label in LABELS.items():
        if any(metric in row for row in rows):
            write_figure(options.out / f"{metric}.svg", rate_curves(rows, metric, label))
    write(options.out / "table.md", table(rows))
    if any(metric in row for row in rows for metric in WITNESSES):
        write(options.out / "witnesses.md", witnesses(rows))
    write(options.out / "report.html", page(rows, OURS, LABELS, loops))


def table(rows: Sequence[Row]) -> str:
    """Findings, and all operating points."""
    measured = {name: digits for name, digits in DIGITS.items() if any(name in row for row in rows)}
    said = findings(rows, OURS, "lpips_squeeze", "LPIPS", MOST_BPP)
    heading, *lines = points_table(rows, measured)
    text = [f"# At most {MOST_BPP:g} bits per pixel", "", *(f"- {sentence}" for sentence in said), ""]
    text += [f"# {' / '.join(LABELS[name] for name in measured)}", "", *markdown(heading, lines)]
    return "\n".join(text) + "\n"


def witnesses(rows: Sequence[Row]) -> str:
    """Independent metrics: means over clips, and differences at equal payload."""
    measured = [row for row in rows if any(metric in row for metric in WITNESSES)]
    said = findings(rows, OURS, "clip_feature_distance", "Clip-feature distance", MOST_BPP)
    text = ["# Means over clips, and differences at equal payload", ""]
    heading, *lines = witness_table(measured, OURS, WITNESSES)
    text += [*markdown(heading, lines), "", *(f"- {sentence}" for sentence in said), ""]
    heading, *lines = points_table(measured, WITNESSES)
    return "\n".join([*text, f"# {' / '.join(WITNESSES)}", "", *markdown(heading, lines)]) + "\n"


def markdown(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [
        f"| {' | '.join(heading)} |",
        "| --- " * len(heading) + "|",
        *(f"| {' | '.join(line)} |" for line in lines),
    ]


if __name__ == "__main__":
    run_script(main)
