"""Kodak, distortion and perception against SNR at rho = 1/12, 1/48 and 1/192, on AWGN and Rayleigh fading.

Run:     python scripts/sweep_snr.py --workers 2
Cost:    see results/sweep_snr/README.md; killed or interrupted, the same command resumes
Expect:  see results/sweep_snr/README.md

Digital: the envelope frozen on other photographs, two fixed MCS with their cliffs, and two bounds (a genie
that chooses per image after the fact; HEVC intra over an error-free link at capacity). Joint: SoftCast, our
DeepJSCC and the reference DeepJSCC. Fading is constant over 64 channel uses and known to the receiver; one
seed is 96 to 1536 independent fades per image.
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
from semcom.plots import metric_vs_snr, perception_distortion

SCHEMES = (
    "envelope:csit-average",
    "genie-envelope",
    "hevc-intra+ideal:csit-average",
    "hevc-intra+ldpc:mcs8",
    "hevc-intra+ldpc:mcs17",
    "softcast",
    "deepjscc",
    "deepjscc-2019",
)
RHO = ("1/12", "1/48", "1/192")
CHANNELS = ("awgn", "rayleigh:64")
SNR_DB = (0.0, 2.0, 5.0, 10.0, 15.0, 20.0)
METRICS = ("psnr_db", "ms_ssim", "swd")


def experiment(options: Options) -> None:
    """Run and draw."""
    sweep = options.sweep(CHANNELS, SNR_DB, RHO)
    records = conduct(sweep, options.out, options.workers)
    metrics = [metric.name for metric in sweep.metrics if metric.name in records]
    write(options.out / "table.md", "# Kodak against SNR\n\n" + markdown_tables(records, metrics, "snr_db"))
    for channel in CHANNELS:
        for rho in RHO:
            stem = f"{channel}_rho-{rho}".replace("/", "-").replace(":", "-")
            for metric in metrics:
                figure = metric_vs_snr(records, metric, rho, channel)
                write_figure(options.out / f"{metric}_{stem}.svg", figure)
            if "swd" in metrics:
                figure = perception_distortion(records, rho, 10.0, channel)
                write_figure(options.out / f"plane_{stem}_10dB.svg", figure)
    print(f"{len(records)} records, tables and figures in {options.out}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, draw."""
    out = Path("results/sweep_snr")
    experiment(parse_options(__doc__, arguments, out=out, schemes=SCHEMES, metrics=METRICS))


if __name__ == "__main__":
    run_script(main)
