"""Should the refiner be told the error of the decoded picture, or derive it? LPIPS and PSNR of both.

Run:     TORCH_HOME=../shared/torch-home python scripts/refiner_side_information.py
Cost:    about 4 minutes of one core
Expect:  see results/sweep_refiner/README.md

Validation photographs, coded by HEVC intra at four qualities, without a channel. "sent" is the root mean
square error in one byte (48 steps per factor of e), "derived" is what the receiver looks up in the measured
error tables by the length of the payload and the decoded picture.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from channels import NamedStreams
from semcom import names, zoo
from semcom.calibration import shipped_tables
from semcom.data import Item, load_folder
from semcom.experiment import run_script, write
from semcom.metrics.catalogue import metric_named
from semcom.observation import Decoded, Observation, Payload
from semcom.receivers.evidence import in_prior_units, to_picture
from semcom.receivers.refiner import KNOB, LEAST_SPREAD
from semcom.refiner import PictureRefiner, in_tiles
from semcom.statistics import bootstrap_mean
from semcom.surroundings import library_defaults

QUALITIES = ((1, 0.45), (1, 0.2), (2, 0.25), (4, 0.3))
"""Scale of the codec, and share of its ladder of settings."""
STEPS = 48


def main() -> None:
    """Parse, decode, refine, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/photos/val"))
    parser.add_argument("--out", type=Path, default=Path("results/sweep_refiner/side_information.md"))
    parser.add_argument("--photos", type=int, default=12)
    arguments = parser.parse_args()
    with library_defaults():
        write(arguments.out, table(load_folder(arguments.data)[: arguments.photos]))
    print(arguments.out.read_text())


def table(items: Sequence[Item[Any]]) -> str:
    """Markdown table of the comparison, a row per quality."""
    network = zoo.load_as("refiner", PictureRefiner)
    codec = names.codec("hevc-intra")
    metrics = [metric_named(name) for name in ("psnr_db", "lpips_squeeze")]
    lines = [
        "| scale, bits per pixel | derived over true RMS error | PSNR in dB: sent | derived | LPIPS: sent "
        "| derived | derived - sent, 95 % |",
        "| --- " * 7 + "|",
    ]
    for scale, share in QUALITIES:
        ladder = [quality for quality in codec.qualities if quality.scale == scale]
        rows: list[list[float]] = []
        for item in items:
            shape = tuple(item.x.shape)
            data = codec.encode(item.x, ladder[round(share * (len(ladder) - 1))])
            y = codec.decode(data, shape)
            evidence = Decoded(y, payload=Payload(codec, data, codec.name))
            given = in_prior_units(Observation(y, (evidence,)), shape, "refine", "white", shipped_tables())
            assert given.guess is not None
            assert given.spread is not None
            true = 2 * float((y - item.x).square().mean().sqrt())
            sent = math.exp(round(STEPS * math.log(max(true, LEAST_SPREAD))) / STEPS)
            noise = NamedStreams(0, (item.id,)).normal("texture", shape[1:])
            row = [8 * len(data) / (shape[2] * shape[3]), given.spread / true]
            shown: list[Tensor] = []
            for spread in (sent, max(given.spread, LEAST_SPREAD)):
                with torch.no_grad():
                    refined = in_tiles(network, given.guess, spread, scale, noise)
                shown.append(to_picture(given.guess + KNOB * (refined - given.guess)))
            rows.append(row + [metric(x, item.x) for metric in metrics for x in shown])
        mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        gap = bootstrap_mean([row[5] - row[4] for row in rows], [item.id for item in items])
        lines.append(
            f"| {scale}, {mean[0]:.3f} | {mean[1]:.2f} | {mean[2]:.2f} | {mean[3]:.2f} | {mean[4]:.4f} "
            f"| {mean[5]:.4f} | {gap.low:+.4f} to {gap.high:+.4f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_script(main)
