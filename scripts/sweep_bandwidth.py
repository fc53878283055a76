"""Kodak, distortion and perception against bandwidth at 0, 5, 10 and 20 dB, on AWGN and Rayleigh fading.

Run:     python scripts/sweep_bandwidth.py --workers 2
Cost:    see results/README.md; killed or interrupted, the same command resumes
Expect:  see results/README.md

The schemes are those of sweep_snr.py. Every point lies at the rho that was used, which may be less than
allowed. Below some rho no codec fits at low SNR: these are outages, shown by the mean colour, and they stay
in the mean.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from semcom import presets
from semcom.data import Item, load_folder
from semcom.errors import SemcomError
from semcom.experiment import conduct, markdown_tables, write, write_figure
from semcom.plots import metric_vs_rho
from semcom.sweep import Sweep

SCHEMES = (
    "envelope:csit-average",
    "genie-envelope",
    "hevc-intra+ideal:csit-average",
    "hevc-intra+ldpc:mcs8",
    "hevc-intra+ldpc:mcs17",
    "softcast",
    "deepjscc-2019",
)
RHO = ("1/6", "1/12", "1/24", "1/48", "1/96", "1/192")
CHANNELS = ("awgn", "rayleigh:64")
SNR_DB = (0.0, 5.0, 10.0, 20.0)
METRICS = ("psnr_db", "ms_ssim", "swd")


def sweeps(
    items: tuple[Item, ...],
    schemes: Sequence[str] = SCHEMES,
    seeds: int = 1,
    metrics: Sequence[str] = METRICS,
) -> tuple[Sweep, ...]:
    """Both channels in one sweep, so that an image is encoded once for both."""
    chosen = tuple(map(presets.scheme, schemes))
    measured = tuple(map(presets.metric, metrics))
    media = tuple(map(presets.channel, CHANNELS))
    return (Sweep(chosen, media, items, SNR_DB, RHO, measured, tuple(range(seeds))),)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/kodak"))
    parser.add_argument("--out", type=Path, default=Path("results/sweep_bandwidth"))
    parser.add_argument("--schemes", default=",".join(SCHEMES))
    parser.add_argument("--items", type=int, default=None, help="only the first so many")
    parser.add_argument("--seeds", type=int, default=1, help="noise realisations per image")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--metrics", default=",".join(METRICS), help="lpips_squeeze costs as much as all else"
    )
    a = parser.parse_args(arguments)

    plan = sweeps(load_folder(a.data)[: a.items], a.schemes.split(","), a.seeds, a.metrics.split(","))
    records = conduct(plan, a.out, a.workers)
    metrics = [metric.name for metric in plan[0].metrics if metric.name in records]
    write(a.out / "table.md", "# Kodak against bandwidth\n\n" + markdown_tables(records, metrics, "rho"))
    for channel in CHANNELS:
        for snr_db in SNR_DB:
            stem = f"{channel}_{snr_db:g}dB".replace(":", "-")
            for metric in metrics:
                write_figure(a.out / f"{metric}_{stem}.svg", metric_vs_rho(records, metric, snr_db, channel))
    print(f"{len(records)} records, tables and figures in {a.out}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes")
    except SemcomError as error:
        sys.exit(f"error: {error}")
