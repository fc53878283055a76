"""Search what DeepJSCC should carry and what a prior should fill in: the size of blocks, per operating point.

Run:     TORCH_HOME=../shared/torch-home python scripts/search_range.py
         TORCH_HOME=../shared/torch-home python scripts/search_range.py --receiver ddnm:100 --rho 1/768
Cost:    about 2 seconds per point, photograph and size; killed, the same command resumes
Expect:  see results/search_range/README.md

All channel uses carry the means of blocks of s x s pixels, s = 1 being the picture itself; the receiver draws
the rest. For centre crops of validation photographs, AWGN, the table has the mean PSNR and LPIPS of every s,
and the s of least LPIPS among those that lose no more PSNR to the best than is allowed. Test images are never
looked at.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from semcom import names
from semcom.data import centres
from semcom.experiment import conduct, item_means, run_script, write
from semcom.sweep import Sweep

if TYPE_CHECKING:
    import pandas as pd

SOURCES = {1: "deepjscc", 2: "deepjscc-range", 4: "deepjscc-range4"}
CHANNEL = "awgn"
ALLOWED_DB = 0.5


def main() -> None:
    """Parse, sweep, tabulate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/photos/val"))
    parser.add_argument("--photos", type=int, default=8, help="evenly spread over the folder")
    parser.add_argument("--side", type=int, default=256, help="of the centre crops, in pixels")
    parser.add_argument("--out", type=Path, default=Path("results/search_range"))
    parser.add_argument("--receiver", default="diffpir:8")
    parser.add_argument("--rho", default="1/48,1/192,1/768")
    parser.add_argument("--snr", default="-5,0,5,10", help="dB")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    schemes = {size: names.scheme(f"{source}+{arguments.receiver}") for size, source in SOURCES.items()}
    sweep = Sweep(
        tuple(schemes.values()),
        (names.channel(CHANNEL),),
        centres(arguments.data, arguments.photos, arguments.side),
        tuple(map(float, arguments.snr.split(","))),
        tuple(arguments.rho.split(",")),
        (names.metric("psnr_db"), names.metric("lpips_squeeze")),
    )
    records = conduct(sweep, arguments.out, arguments.workers)
    table = chosen(records, {scheme.name: size for size, scheme in schemes.items()})
    write(arguments.out / "table.md", table)
    print(table)


def chosen(records: "pd.DataFrame", sizes: dict[str, int]) -> str:
    """Per operating point PSNR and LPIPS of every size, and which is best."""
    columns = ["psnr_db", "lpips_squeeze"]
    means = item_means(records).groupby(["rho", "snr_db", "scheme"])[columns].mean()
    heads = [f"s = {size}: PSNR / LPIPS" for size in sizes.values()]
    lines = [f"| rho | SNR dB | {' | '.join(heads)} | best s |", "| --- " * (3 + len(sizes)) + "|"]
    for rho, snr_db in means.index.droplevel("scheme").unique():
        point = means.loc[rho, snr_db]
        allowed = point[point["psnr_db"] >= point["psnr_db"].max() - ALLOWED_DB]
        best = sizes[str(allowed["lpips_squeeze"].idxmin())]
        cells = [
            f"{point.loc[name, 'psnr_db']:.2f} / {point.loc[name, 'lpips_squeeze']:.3f}" for name in sizes
        ]
        lines.append(f"| 1/{1 / rho:g} | {snr_db:g} | {' | '.join(cells)} | {best} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_script(main)
