"""Measure the errors of decoded clips, from which the receiver of `+refine` tells the error of each clip.

Run:     python scripts/measure_clip_errors.py
         python scripts/measure_clip_errors.py --codecs x265 --out more.json
Cost:    some 6 minutes of one core for 42 clips and all codecs
Expect:  residuals of ln s of 0.15 to 0.25 on the clips held out; errors that fall with the bits

The first frames of every clip are coded at four rate factors at full size, and at two of them at half size;
the law of `semcom.video.errors` is fitted to all clips but the last tenth by name, which tell its residual.
Clips of the evaluation are never looked at.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from math import log2
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from semcom.codecs.av import InterCodec
from semcom.codecs.clip import shape_of, squared_error
from semcom.errors import SemcomError
from semcom.experiment import run_script
from semcom.modalities.clip_files import opened
from semcom.modalities.video import VIDEO, Clip
from semcom.video.errors import TABLE, ErrorLaw, features_of, write_laws

RATE_FACTORS = {"x264": (23, 30, 37, 44), "x265": (23, 30, 37, 44), "av1": (30, 42, 54, 66)}
REDUCED = 2  # the last rate factors but one and two are measured at half size as well
LEAST_ERROR = 1e-4


def main() -> None:
    """Parse, measure, fit, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/video/train"))
    parser.add_argument("--out", type=Path, default=TABLE)
    parser.add_argument("--codecs", default=",".join(RATE_FACTORS))
    parser.add_argument("--frames", type=int, default=16, help="of every clip, from its first")
    parser.add_argument("--size", default="320x192", help="of the centre crops at most, in pixels")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    files = sorted(path for path in arguments.data.iterdir() if path.suffix.lower() in VIDEO.suffixes)
    width, height = map(int, arguments.size.split("x"))
    clips = list(cropped(files, arguments.frames, width, height))
    fitted = len(clips) - max(1, len(clips) // 10)
    laws: dict[str, ErrorLaw] = {}
    with Progress(console=Console(stderr=True)) as bar:
        for name in arguments.codecs.split(","):
            rows = [measured(name, clip) for clip in bar.track(clips, description=name)]
            law = ErrorLaw.fit(*joined(rows[:fitted]))
            features, errors = joined(rows[fitted:])
            residual = np.log(errors) - features @ np.array(law.weights)
            laws[name] = replace(law, residual_std=float(np.sqrt(np.mean(residual**2))))
            print(f"{name}: residual of ln s {law.residual_std:.3f} where fitted, ", end="")
            print(f"{laws[name].residual_std:.3f} on {len(clips) - fitted} clips held out")
    about = (
        f"scripts/measure_clip_errors.py on {fitted} clips, residuals on {len(clips) - fitted} others: ",
        f"{arguments.frames} frames of at most {arguments.size}",
    )
    write_laws(arguments.out, laws, about)


def cropped(files: list[Path], frames: int, width: int, height: int) -> Iterator[Clip]:
    """The first frames of every clip, cut to the middle; files that cannot be read are left out."""
    for path in files:
        try:
            with opened(path) as source:
                whole = torch.stack(list(islice(source.frames(), frames)))
                rate = source.frame_rate()
        except SemcomError as error:
            print(f"left out: {error}")
            continue
        top, left = max(0, whole.shape[2] - height) // 2, max(0, whole.shape[3] - width) // 2
        yield Clip(whole[:, :, top : top + height, left : left + width].contiguous(), rate)


def measured(name: str, clip: Clip) -> list[tuple[np.ndarray, float]]:
    """Features and error of the clip at every operating point."""
    codec = InterCodec(name)  # pyright: ignore[reportArgumentType]
    factors = RATE_FACTORS[name]
    points = [*((factor, 1) for factor in factors), *((factor, 2) for factor in factors[1 : 1 + REDUCED])]
    found: list[tuple[np.ndarray, float]] = []
    for factor, scale in points:
        payload = codec.encode(clip, codec.quality(factor, scale))
        decoded = codec.decode(payload, shape_of(clip))
        error = squared_error(decoded, clip) ** 0.5 * 2 / 255
        bits = log2(8 * len(payload) / clip.frames.numel())
        found.append((features_of(decoded, bits, scale), max(error, LEAST_ERROR)))
    return found


def joined(rows: list[list[tuple[np.ndarray, float]]]) -> tuple[np.ndarray, np.ndarray]:
    """Features [points, features] and errors [points] of several clips."""
    flat = [point for row in rows for point in row]
    return np.stack([features for features, _ in flat]), np.array([error for _, error in flat])


if __name__ == "__main__":
    run_script(main)
