"""What the refiner does to skies, walls, grass and hair: crops of Kodak at three times their size.

Run:     TORCH_HOME=../shared/torch-home python scripts/crops_refiner.py
Cost:    about a minute of one core
Expect:  see results/sweep_refiner/README.md, which says what is wrong with them

One picture per operating point (AWGN): a row per crop of 128x128 pixels, flat areas first; a column each for
the original, the digital envelope, the same refined, and DeepJSCC with its decoder tuned to LPIPS.
"""

import argparse
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from torch import Tensor

from semcom import names
from semcom.budget import Budget
from semcom.data import Item, load_folder
from semcom.experiment import run_script, write
from semcom.modalities.image import to_pixels
from semcom.sweep import noise_streams

SCHEMES = ("envelope:csit-average", "envelope:csit-average+refine", "deepjscc-perceptual")
POINTS = (("1/48", 0.0), ("1/192", 5.0))
CROPS = (
    ("kodim21", 40, 300, "sky"),
    ("kodim01", 180, 330, "wall"),
    ("kodim19", 600, 60, "grass"),
    ("kodim04", 300, 120, "face and hair"),
    ("kodim13", 330, 300, "water and stones"),
    ("kodim23", 150, 230, "feathers"),
)
"""Picture, top, left, and what there is to see."""
SIDE, ZOOM, HEAD = 128, 3, 24


def drawn(items: dict[str, Item[Any]], rho: str, snr_db: float) -> Image.Image:
    """All crops at one operating point."""
    schemes = [names.scheme(name) for name in SCHEMES]
    tile = SIDE * ZOOM
    sheet = Image.new("RGB", ((len(schemes) + 1) * tile, len(CROPS) * (tile + HEAD)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (name, top, left, what) in enumerate(CROPS):
        item = items[name]
        budget = Budget.from_rho(rho, item.x.numel())
        rng = noise_streams(item.id, 0)
        shown: dict[str, Tensor] = {f"{name}: {what}": item.x}
        for scheme in schemes:
            (outcome,) = scheme.transmit(item.x, budget, names.channel("awgn"), snr_db, rng)
            shown[scheme.name] = outcome.x_hat
        for column, (title, x) in enumerate(shown.items()):
            pixels = to_pixels(x[..., top : top + SIDE, left : left + SIDE])
            at = column * tile, row * (tile + HEAD) + HEAD
            sheet.paste(Image.fromarray(pixels).resize((tile, tile), Image.Resampling.NEAREST), at)
            pen.text((at[0] + 4, at[1] - HEAD + 6), title, fill="black")
    return sheet


def main() -> None:
    """Parse, send, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/kodak"))
    parser.add_argument("--out", type=Path, default=Path("results/sweep_refiner"))
    arguments = parser.parse_args()
    items = {item.id.rpartition("-")[0]: item for item in load_folder(arguments.data)}
    for rho, snr_db in POINTS:
        encoded = BytesIO()
        drawn(items, rho, snr_db).save(encoded, "JPEG", quality=88)
        place = arguments.out / f"crops_rho-{rho.replace('/', '-')}_{snr_db:g}dB.jpg"
        write(place, encoded.getvalue())
        print(place)


if __name__ == "__main__":
    run_script(main)
