"""Kodak on Rayleigh fading at rho = 1/48 with 20 noise and fading realisations per image.

Run:     python scripts/sweep_fading.py
Cost:    see results/sweep_fading/README.md; killed or interrupted, the same command resumes
Expect:  see results/sweep_fading/README.md

Fading is constant over 64 channel uses and known to the receiver: 384 fades per image and realisation. Means
are over realisations first, and intervals over images, which are the independent units; the interval of an
outage rate takes every realisation of an image for independent.
"""

from collections.abc import Sequence
from pathlib import Path

from semcom.experiment import (
    conduct,
    markdown_tables,
    parse_options,
    run_script,
    write,
    write_figure,
)
from semcom.plots import metric_vs_snr

SCHEMES = ("envelope:csit-average", "hevc-intra+ldpc:mcs8", "softcast", "deepjscc-2019")
RHO = "1/48"
CHANNEL = "rayleigh:64"
SNR_DB = (0.0, 10.0, 20.0)
METRICS = ("psnr_db",)
SEEDS = 20


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, draw."""
    out = Path("results/sweep_fading")
    options = parse_options(__doc__, arguments, out=out, schemes=SCHEMES, metrics=METRICS, seeds=SEEDS)
    sweep = options.sweep((CHANNEL,), SNR_DB, (RHO,))
    records = conduct(sweep, options.out, options.workers)
    metrics = [metric.name for metric in sweep.metrics if metric.name in records]
    heading = f"# Kodak on {CHANNEL}, {options.seeds} realisations per image\n\n"
    write(options.out / "table.md", heading + markdown_tables(records, metrics, "snr_db"))
    for metric in metrics:
        write_figure(
            options.out / f"{metric}_{CHANNEL}.svg".replace(":", "-"),
            metric_vs_snr(records, metric, RHO, CHANNEL),
        )
    print(f"{len(records)} records, table and figure in {options.out}")


if __name__ == "__main__":
    run_script(main)
