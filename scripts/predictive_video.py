"""Key frames and prediction in the paper's setting: crops of 128x128, 30 frames, payloads of single encodes.

Run:     TORCH_HOME=../shared/torch-home python scripts/predictive_video.py
Cost:    about 20 s per crop, predictor and quality on one core for the networks, 2 s for the others
Expect:  see the table that it writes

Every row is one encode, from which all its figures are: key frames, bits per pixel, PSNR, LPIPS. "genie" is
told the motion of the originals for nothing, which bounds what a predictor of motion can reach. The payload
of x265 (no container, no SEI) at the same bits stands beside it.
"""

import argparse
import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semcom import names
from semcom.codecs import fit
from semcom.errors import BudgetTooSmall
from semcom.experiment import run_script, write
from semcom.files import replacing
from semcom.metrics.catalogue import metric_named
from semcom.metrics.clip import PerFrame
from semcom.modalities.video import VIDEO, Clip
from semcom.names.predictive import predictor_named
from semcom.statistics import bootstrap_mean
from semcom.surroundings import library_defaults
from semcom.video.gate import LpipsGate
from semcom.video.motion import block_motion, compensated
from semcom.video.predictive import PredictiveCodec
from semcom.video.predictors import Frames, Past, Predictor

SIDE, FRAMES = 128, 30
PLACES = ((0.5, 0.5), (0.2, 0.2), (0.8, 0.8), (0.2, 0.8))
"""Places of the crops, as shares of what is left and above."""
PREDICTORS = ("hold", "linear", "block", "mean", "diffusion", "genie")
RHOS = (0.05, 0.1, 0.15, 0.2, 0.3, math.inf)
METRICS = ("psnr_db", "lpips_squeeze")


@dataclass(frozen=True, eq=False)
class GenieMotion:
    """Predictor that warps the last frame by the motion between the originals, which no receiver knows.

    Args:
        originals: Frames of the clip, uint8 [frames, 3, height, width].
    """

    originals: Tensor

    @property
    def name(self) -> str:
        """Name of the predictor: "genie"."""
        return "genie"

    @property
    def frames_needed(self) -> int:
        """One past frame."""
        return 1

    @property
    def is_random(self) -> bool:
        """False."""
        return False

    @property
    def digest(self) -> bytes:
        """Empty: there is no network."""
        return b""

    def predict(self, past: Past, count: int, seed: Sequence[int]) -> Frames:
        """Warp frame after frame; the second number of the seed is the index of the first one."""
        shown = [past[-1]]
        for place in range(seed[1], seed[1] + count):
            shown.append(warped(shown[-1], self.originals[place - 1], self.originals[place]))
        return torch.stack(shown[1:])


def warped(frame: Tensor, earlier: Tensor, later: Tensor) -> Tensor:
    """Warp a frame by the motion between two others: DIS flow where OpenCV is, else blocks of 8x8."""
    try:
        import cv2  # pyright: ignore[reportMissingImports]
    except ImportError:
        return compensated(frame[None], block_motion(earlier[None], later[None]))[0]
    grey = [cv2.cvtColor(x.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY) for x in (later, earlier)]
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*grey, None)
    height, width = frame.shape[1:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([columns, rows], -1).float().numpy() + flow
    found = cv2.remap(
        frame.permute(1, 2, 0).numpy(), places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return torch.from_numpy(found).permute(2, 0, 1).contiguous()


def crops(folder: Path, most: int) -> Iterator[tuple[str, Clip]]:
    """Crops of all clips, one place after the other, so that few of them are of many clips."""
    files = sorted(path for path in folder.iterdir() if path.suffix in VIDEO.suffixes)
    jobs = [(path, place) for place in range(len(PLACES)) for path in files][:most]
    for path, place in jobs:
        clip = VIDEO.read(path).x
        down, right = PLACES[place]
        top, left = round(down * (clip.frames.shape[2] - SIDE)), round(right * (clip.frames.shape[3] - SIDE))
        piece = clip.frames[:FRAMES, :, top : top + SIDE, left : left + SIDE].contiguous()
        yield f"{path.stem}-{place}", Clip(piece, clip.frame_rate)


def rows_of(name: str, clip: Clip, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row per encode of one crop."""
    still = names.codec(options.still)
    ladder = [quality for quality in still.qualities if quality.scale == 1]
    metrics = [PerFrame(metric_named(metric)) for metric in METRICS]
    values = clip.frames[:, 0].numel()
    seen: set[int] = set()
    for shown_as in options.predictors:
        predictor: Predictor = GenieMotion(clip.frames) if shown_as == "genie" else predictor_named(shown_as)
        samples = options.samples if predictor.is_random else 1
        for share in options.qualities:
            quality = ladder[round(share * (len(ladder) - 1))]
            for rho in options.rhos:
                codec = PredictiveCodec(still, predictor, LpipsGate(), rho, samples)
                made = codec.encoding(clip, quality)
                found = [metric(Clip(made.frames, clip.frame_rate), clip) for metric in metrics]
                seen.add(8 * len(made.payload))
                row = {"item": name, "codec": shown_as, "still": still.name, "setting": quality.setting}
                row |= {"rho": rho, "key_frames": made.key_frames, "bpp": 8 * len(made.payload) / values}
                yield row | dict(zip(METRICS, found, strict=True))
    if options.reference:
        reference = names.codec(options.reference, "video")
        for bits in sorted(seen)[:: max(1, len(seen) // 6)]:
            try:
                fitted = fit(reference, clip, bits)
            except BudgetTooSmall:
                continue
            found = [metric(fitted.decoded, clip) for metric in metrics]
            row = {"item": name, "codec": reference.name, "still": "", "setting": fitted.quality.setting}
            row |= {"rho": math.nan, "key_frames": 1, "bpp": 8 * len(fitted.payload) / values}
            yield row | dict(zip(METRICS, found, strict=True))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: means over the crops, with 95 % bootstrap intervals of the number of key frames."""
    lines = [
        "| predictor | setting | rho | key frames | 95 % | bpp | PSNR in dB | LPIPS | crops |",
        "| --- " * 9 + "|",
    ]
    for key in dict.fromkeys((row["codec"], row["setting"], row["rho"]) for row in rows if row["still"]):
        own = [row for row in rows if (row["codec"], row["setting"], row["rho"]) == key]
        keys = bootstrap_mean([float(row["key_frames"]) for row in own], [row["item"] for row in own])
        bpp, psnr_db, distance = (
            math.fsum(row[column] for row in own) / len(own) for column in ("bpp", *METRICS)
        )
        lines.append(
            f"| {key[0]} | {key[1]} | {key[2]:g} | {keys.mean:.2f} | {keys.low:.2f} to {keys.high:.2f} "
            f"| {bpp:.4f} | {psnr_db:.2f} | {distance:.4f} | {len(own)} |"
        )
    lines += ["", "| codec | crop | bpp | PSNR in dB | LPIPS |", "| --- " * 5 + "|"]
    lines += [
        f"| {row['codec']} | {row['item']} | {row['bpp']:.4f} | {row['psnr_db']:.2f} "
        f"| {row['lpips_squeeze']:.4f} |"
        for row in rows
        if not row["still"]
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse, encode, write a row per encode and the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, default=Path("../shared/data/video/eval"))
    add("--out", type=Path, default=Path("results/predictive_video"))
    add("--crops", type=int, default=24)
    add("--still", default="hevc-intra", help="codec of the key frames")
    add("--predictors", nargs="+", default=PREDICTORS)
    add("--qualities", nargs="+", type=float, default=[0.1, 0.25], help="shares of the ladder of settings")
    add("--rhos", nargs="+", type=float, default=RHOS)
    add("--samples", type=int, default=1)
    add("--reference", default="x265", help="codec at the same bits; empty for none")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with library_defaults():
        for name, clip in crops(options.data, options.crops):
            rows += rows_of(name, clip, options)
            print(f"{name}: {len(rows)} rows", flush=True)
            options.out.mkdir(parents=True, exist_ok=True)
            with replacing(options.out / "rows.csv") as part, part.open("w", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
    write(options.out / "table.md", table(rows))
    print((options.out / "table.md").read_text())


if __name__ == "__main__":
    run_script(main)
