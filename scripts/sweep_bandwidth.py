"""Kodak, distortion and perception against bandwidth at 0, 5, 10 and 20 dB on AWGN.

Run:     python scripts/sweep_bandwidth.py --workers 2
Cost:    see results/sweep_bandwidth/README.md; killed or interrupted, the same command resumes
Expect:  see results/sweep_bandwidth/README.md

The schemes are those of sweep_snr.py but the genie. Every point lies at the rho that was used, which may be
less than allowed. Below some rho no codec fits at low SNR: these are outages, shown by the mean colour, and
they stay in the mean.
"""

from collections.abc import Sequence
from pathlib import Path

from semcom.experiment import (
    Options,
    conduct,
    markdown_tables,
    parse_options,
    run_script,
    write,
    write_figure,
)
from semcom.plots import metric_vs_rho

SCHEMES = (
    "envelope:csit-average",
    "hevc-intra+ideal:csit-average",
    "hevc-intra+ldpc:mcs8",
    "hevc-intra+ldpc:mcs17",
    "softcast",
    "deepjscc",
    "deepjscc-2019",
)
RHO = ("1/6", "1/12", "1/24", "1/48", "1/96", "1/192")
CHANNELS = ("awgn",)
SNR_DB = (0.0, 5.0, 10.0, 20.0)
METRICS = ("psnr_db", "ms_ssim", "swd")


def experiment(options: Options) -> None:
    """Run and draw."""
    sweep = options.sweep(CHANNELS, SNR_DB, RHO)
    records = conduct(sweep, options.out, options.workers)
    metrics = [metric.name for metric in sweep.metrics if metric.name in records]
    write(
        options.out / "table.md", "# Kodak against bandwidth\n\n" + markdown_tables(records, metrics, "rho")
    )
    for channel in CHANNELS:
        for snr_db in SNR_DB:
            stem = f"{channel}_{snr_db:g}dB".replace(":", "-")
            for metric in metrics:
                write_figure(
                    options.out / f"{metric}_{stem}.svg", metric_vs_rho(records, metric, snr_db, channel)
                )
    print(f"{len(records)} records, tables and figures in {options.out}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, draw."""
    out = Path("results/sweep_bandwidth")
    experiment(parse_options(__doc__, arguments, out=out, schemes=SCHEMES, metrics=METRICS))


if __name__ == "__main__":
    run_script(main)
