"""What a prior adds on whole pictures: four of Kodak at two operating points, validation photographs at one.

Run:     TORCH_HOME=../shared/torch-home python scripts/sweep_whole.py
Cost:    about 25 minutes of one core; killed, the same command resumes
Expect:  see results/sweep_whole/README.md

As scripts/sweep_receivers.py, but not on centre crops. The photographs of photos/val are those on which
errors of decoders were measured and knobs chosen: their figures show that the crops of Kodak are no luck,
they are no test.
"""

import argparse
from pathlib import Path

from semcom import names
from semcom.budget import parse_rho
from semcom.data import load_folder
from semcom.experiment import conduct, difference_table, markdown_tables, run_script, write
from semcom.sweep import Sweep

SCHEMES = (
    "deepjscc",
    "deepjscc-perceptual",
    "deepjscc+diffpir:8:0.5",
    "deepjscc+diffpir:8",
    "learned+ldpc:csit-average",
    "learned+ldpc:csit-average+diffpir:8:0.5",
)
CHANNEL = "awgn"
KODAK = ("kodim04", "kodim08", "kodim15", "kodim21")
KODAK_POINTS = (("1/192", 5.0), ("1/48", 0.0))
PHOTOS_POINTS = (("1/192", 5.0),)
METRICS = ("psnr_db", "swd", "lpips_squeeze")


def main() -> None:
    """Parse, sweep, tabulate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kodak", type=Path, default=Path("../shared/data/kodak"))
    parser.add_argument("--photos", type=Path, default=Path("../shared/data/photos/val"))
    parser.add_argument("--count", type=int, default=None, help="of the photographs; all if left out")
    parser.add_argument("--out", type=Path, default=Path("results/sweep_whole"))
    parser.add_argument("--schemes", default=",".join(SCHEMES), help="the first is the reference")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    four = tuple(item for item in load_folder(arguments.kodak) if item.id.startswith(KODAK))
    text = ""
    for name, items, points in (
        ("kodak", four, KODAK_POINTS),
        ("photos", load_folder(arguments.photos)[: arguments.count], PHOTOS_POINTS),
    ):
        for rho, snr_db in points:
            sweep = Sweep(
                tuple(map(names.scheme, arguments.schemes.split(","))),
                (names.channel(CHANNEL),),
                items,
                (snr_db,),
                (rho,),
                tuple(map(names.metric, METRICS)),
            )
            records = conduct(sweep, arguments.out / name, arguments.workers)
            here = records[(records["rho"] == float(parse_rho(rho))) & (records["snr_db"] == snr_db)]
            text += f"# {name}, {len(items)} whole pictures, rho = {rho}, {snr_db:g} dB\n\n"
            text += difference_table(here, sweep.schemes[0].name, METRICS) + "\n"
            text += markdown_tables(here, METRICS, "rho") + "\n"
    write(arguments.out / "table.md", text)
    print(text)


if __name__ == "__main__":
    run_script(main)
