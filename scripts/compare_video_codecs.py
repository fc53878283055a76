"""Rate and quality of video codecs on a folder of clips at equal payload, without any channel.

Run:     TORCH_HOME=../shared/torch-home python scripts/compare_video_codecs.py
Cost:    about 90 minutes of one core for seven clips of 48 frames; killed, the same command goes on
Expect:  results/video/table.md and its curves

Every codec is fitted to the same numbers of bits per pixel; each operating point is one encode, and all
metrics are of it. Ratios are geometric means over clips and rates, with 95 % bootstrap intervals over clips.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from semcom import names
from semcom.data import load_folder
from semcom.experiment import write, write_figure
from semcom.modalities.modality import Item
from semcom.modalities.video import VIDEO, Clip
from semcom.statistics import bootstrap_mean
from semcom.terminal import progress_bar
from semcom.training.recipes import run_script
from semcom.video.comparison import Records, Row, compared, rate_curves, ratios, side_by_side, whole_frames

DATA = Path("../shared/data/video/eval")
BPP = (0.01, 0.02, 0.04, 0.06)
CODECS = ("x264-slow", "x265-slow", "av1-slow", "x265-live", "av1-live", "layered")
METRICS = ("psnr_db", "ms_ssim", "lpips_squeeze", "swd")
LABELS = {"psnr_db": "PSNR (dB)", "lpips_squeeze": "LPIPS (SqueezeNet)", "swd": "sliced Wasserstein distance"}
OURS = "layered"


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
    loops: dict[str, dict[str, Clip]] = {}

    def keep(item: Item[Clip], name: str, bpp: float, shown: Clip) -> None:
        if bpp == options.loops:
            loops.setdefault(item.id, {"original": item.x})[name] = shown

    with progress_bar("operating points") as told:
        records = Records(options.out / "records.jsonl")
        rows = compared(items, codecs, options.bpp, metrics, records, told, keep)
    write(options.out / "table.md", table(rows))
    for metric in ("lpips_squeeze", "psnr_db", "swd"):
        if any(metric in row for row in rows):
            write_figure(options.out / f"{metric}.svg", rate_curves(rows, metric, LABELS[metric]))
    for item, shown in loops.items():
        side_by_side(shown, options.out / f"{item}.webp")


def table(rows: Sequence[Row]) -> str:
    """All operating points, and ratios of our scheme to the others."""
    metrics = [name for name in LABELS if any(name in row for row in rows)]
    codecs = list(dict.fromkeys(str(row["codec"]) for row in rows))
    lines = ["# Geometric mean ratio of LPIPS, layered to others, up to 0.062 bpp", ""]
    lines += [
        "| to | ratio | 95 % interval over clips | points | worst | PSNR difference in dB |",
        "| --- " * 6 + "|",
    ]
    for other in codecs:
        found = ratios(rows, "lpips_squeeze", OURS, other, 0.062)
        if other == OURS or not found:
            continue
        interval = bootstrap_mean([math.log(r) for r in found.values()], [item for item, _ in found])
        mean, low, high = (math.exp(value) for value in (interval.mean, interval.low, interval.high))
        gains = _differences(rows, "psnr_db", other)
        lines.append(
            f"| {other} | {mean:.3f} | {low:.3f} to {high:.3f} | {len(found)} | {max(found.values()):.2f} "
            f"| {sum(gains) / len(gains):+.2f} ({min(gains):+.2f} to {max(gains):+.2f}) |"
        )
    lines += ["", f"# Operating points: {' / '.join(LABELS[name] for name in metrics)}", ""]
    points = list(dict.fromkeys((str(row["item"]), float(row["bpp_allowed"])) for row in rows))
    lines += [f"| clip | bpp | {' | '.join(codecs)} |", "| --- " * (len(codecs) + 2) + "|"]
    by_key = {(row["item"], row["bpp_allowed"], row["codec"]): row for row in rows}
    for item, bpp in points:
        cells = [_cell(by_key.get((item, bpp, codec), {}), metrics) for codec in codecs]
        lines.append(f"| {item.rsplit('-', 1)[0]} | {bpp:g} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _differences(rows: Sequence[Row], metric: str, other: str) -> list[float]:
    values = {(r["codec"], r["item"], r["bpp_allowed"]): float(r[metric]) for r in rows if metric in r}
    return [
        value - values[other, item, bpp]
        for (codec, item, bpp), value in values.items()
        if codec == OURS and (other, item, bpp) in values
    ]


def _cell(row: Row, metrics: Sequence[str]) -> str:
    if not row:
        return "-"
    if row["floor"]:
        return "floor"
    digits = {"psnr_db": 2, "lpips_squeeze": 3, "swd": 0}
    return " / ".join(f"{float(row[name]):.{digits[name]}f}" for name in metrics if name in row)


if __name__ == "__main__":
    run_script(main)
