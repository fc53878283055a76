"""Search how a hybrid shares bandwidth and power between its parts, on validation photographs.

Run:     python scripts/search_hybrid.py --codecs avif --links csit-average --analogs softcast-residual
         python scripts/search_hybrid.py --links mcs6 --analogs deepjscc --noises 0,0.1 --rho 1/48
Cost:    about 1 second per point, photograph and hybrid; killed, the same command resumes
Expect:  see results/search_hybrid/README.md

Every combination of codec, link, analog part, share, power and transmit noise that is named becomes a scheme;
all are swept over AWGN, and the table has the best of each (rho, SNR) by mean PSNR, outages included, beside
its parts alone with all channel uses. Test images are never looked at.
"""

import argparse
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from semcom import names
from semcom.data import centres
from semcom.experiment import conduct, item_means, run_script, write
from semcom.sweep import Sweep

if TYPE_CHECKING:
    import pandas as pd

CHANNEL = "awgn"


def main() -> None:
    """Parse, sweep, tabulate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/photos/val"))
    parser.add_argument("--photos", type=int, default=12, help="evenly spread over the folder")
    parser.add_argument("--side", type=int, default=256, help="of the centre crops, in pixels")
    parser.add_argument("--out", type=Path, default=Path("results/search_hybrid"))
    parser.add_argument("--codecs", default="avif")
    parser.add_argument("--links", default="csit-average")
    parser.add_argument("--analogs", default="softcast,softcast-residual,deepjscc")
    parser.add_argument("--shares", default="0.25,0.5,0.75")
    parser.add_argument("--powers", default="0", help="of a digital symbol over an analog one, dB")
    parser.add_argument("--noises", default="0", help="of the transmitter, for pictures in [0, 1]")
    parser.add_argument("--rho", default="1/12,1/48")
    parser.add_argument("--snr", default="0,5,10,20", help="dB")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    parts = [
        getattr(arguments, name).split(",")
        for name in ("codecs", "links", "analogs", "shares", "powers", "noises")
    ]
    hybrids = [names.scheme(":".join(("hybrid", *combination))) for combination in product(*parts)]
    alone = dict.fromkeys(
        [f"{codec}+ldpc:{link}" for codec, link in product(*parts[:2])]
        + [analog.removesuffix("-residual") for analog in parts[2]]
    )
    sweep = Sweep(
        (*map(names.scheme, alone), *hybrids),
        (names.channel(CHANNEL),),
        centres(arguments.data, arguments.photos, arguments.side),
        tuple(map(float, arguments.snr.split(","))),
        tuple(arguments.rho.split(",")),
        (names.metric("psnr_db"),),
    )
    records = conduct(sweep, arguments.out, arguments.workers)
    table = best(records)
    write(arguments.out / "table.md", table)
    print(table)


def best(records: "pd.DataFrame") -> str:
    """Per operating point the hybrid of highest mean PSNR, and every scheme that is none."""
    means = item_means(records).groupby(["rho", "snr_db", "scheme"])[["psnr_db", "outage"]].mean()
    alone = sorted({name for name in records["scheme"] if not name.startswith("hybrid")})
    lines = [
        f"| rho | SNR dB | best hybrid | its PSNR dB | its outages | {' | '.join(alone)} |",
        "| --- " * (5 + len(alone)) + "|",
    ]
    for rho, snr_db in means.index.droplevel("scheme").unique():
        point = means.loc[rho, snr_db]
        hybrids = point[point.index.str.startswith("hybrid")]
        name = str(hybrids["psnr_db"].idxmax())
        cells = [f"1/{1 / rho:g}", f"{snr_db:g}", name, f"{point.loc[name, 'psnr_db']:.2f}"]
        cells += [f"{point.loc[name, 'outage']:.3f}"]
        cells += [f"{point.loc[other, 'psnr_db']:.2f}" for other in alone]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_script(main)
