"""How well the prior denoises Kodak, beside published denoisers; and what it draws unconditionally.

Run:     python scripts/denoise_kodak.py
Cost:    about a minute of one core
Expect:  see results/prior/README.md

White Gaussian noise on all three colours, one realisation per picture. The prior serves all levels with one
network of some 37 kMAC per pixel; FFDNet takes about 6 times and CDnCNN-B 18 times as much.
"""

import argparse
import json
import math
from pathlib import Path

import torch
from torch.nn import functional

from channels import NamedStreams
from semcom import names
from semcom.data import load_folder, to_picture
from semcom.denoisers import Denoiser
from semcom.experiment import run_script, write
from semcom.samplers import karras_sigmas, sample_ddim

LEVELS = (15.0, 25.0, 35.0, 50.0, 75.0)  # of 255
HALF_SIZE_LEVELS = (13.0, 26.0, 51.0, 102.0)
# Not yet checked against the paper.
PUBLISHED = {  # Kodak24, PSNR in dB: Zhang, Zuo and Zhang, FFDNet, IEEE Trans. Image Process. 2018
    "CBM3D": (34.28, 31.68, 29.90, 28.46, 26.82),
    "CDnCNN-B": (34.48, 32.03, 30.46, 28.85, 25.04),
    "FFDNet": (34.63, 32.13, 30.57, 28.98, 27.27),
}
SAMPLE_STEPS = 100


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/kodak"))
    parser.add_argument("--out", type=Path, default=Path("results/prior"))
    parser.add_argument("--prior", default="prior", help="weights file, in place of the shipped network")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    prior = names.prior(arguments.prior)
    items = load_folder(arguments.data)
    whole = {level: 0.0 for level in LEVELS}
    half = {level: 0.0 for level in HALF_SIZE_LEVELS}
    for item in items:
        for levels, x in ((whole, item.x), (half, functional.avg_pool2d(item.x, 2))):
            for level in levels:
                levels[level] += denoised_psnr_db(prior, x, level, item.id) / len(items)
    lines = [
        f"| sigma of 255 | {' | '.join(f'{level:g}' for level in LEVELS)} |",
        "| --- " * (len(LEVELS) + 1) + "|",
        f"| ours, one network for all | {' | '.join(f'{v:.2f}' for v in whole.values())} |",
        *(f"| {name} | {' | '.join(map(str, values))} |" for name, values in PUBLISHED.items()),
    ]
    numbers = {"whole": whole, "half_size": half, "published": PUBLISHED, "pictures": len(items)}
    write(arguments.out / "denoising.json", json.dumps(numbers, indent=1) + "\n")
    write(arguments.out / "denoising.md", "\n".join(lines) + "\n")
    print("\n".join(lines))
    print("half size", {level: round(v, 2) for level, v in half.items()})
    sheet(prior).save(arguments.out / "samples.png")


@torch.no_grad()
def denoised_psnr_db(prior: Denoiser, x: torch.Tensor, level: float, name: str) -> float:
    """Of one picture; clipped."""
    sigma = 2 * level / 255
    noise = NamedStreams(0, (name,)).normal(f"noise {level}", tuple(x.shape[1:]))
    shown = prior(2 * x - 1 + sigma * noise, torch.tensor([sigma])).clamp(-1, 1)
    return -10 * math.log10(float((shown - (2 * x - 1)).square().mean()) / 4)


@torch.no_grad()
def sheet(prior: Denoiser, rows: int = 2, columns: int = 4, side: int = 128):
    """Unconditional samples side by side."""
    rng = NamedStreams(0, tuple(f"sample-{i}" for i in range(rows * columns)))
    sigmas = karras_sigmas(SAMPLE_STEPS)
    x = sample_ddim(prior, sigmas[0] * rng.normal("start", (3, side, side)), sigmas, 1.0, rng)
    grid = x.reshape(rows, columns, 3, side, side).permute(2, 0, 3, 1, 4).reshape(1, 3, rows * side, -1)
    return to_picture(((grid + 1) / 2).clamp(0, 1))


if __name__ == "__main__":
    run_script(main)
