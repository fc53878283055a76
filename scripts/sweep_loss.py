"""Kodak under packet loss at rho = 1/24 and 10 dB: digital with adapted rate, SoftCast, DeepJSCC.

Run:     python scripts/sweep_loss.py
Cost:    see results/sweep_loss/README.md; killed or interrupted, the same command resumes
Expect:  see results/sweep_loss/README.md

A packet holds 256 channel uses. A lost one is a fade: the receiver gets noise, and knows it. Losses are
independent, or come in bursts of five packets on average (Gilbert-Elliott). The digital transmitter knows the
law of the channel, losses included, and takes the fastest modulation and code rate that is predicted to
arrive; the code word is spread over all packets. Means are over realisations first, intervals over images.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from semcom.experiment import conduct, item_means, parse_options, run_script, write
from semcom.statistics import bootstrap_mean

if TYPE_CHECKING:
    import pandas as pd

SCHEMES = ("avif+ldpc:csit-average", "avif+ldpc:mcs8", "softcast", "deepjscc")
RHO = "1/24"
SNR_DB = 10.0
LOSSES = {  # channel by what is lost
    "no loss": "awgn",
    "10 %": "lossy:256:0.1/awgn",
    "30 %": "lossy:256:0.3/awgn",
    "10 % in bursts": "lossy:256:0.0222222:0.2/awgn",
    "30 % in bursts": "lossy:256:0.0857143:0.2/awgn",
}
METRICS = ("psnr_db", "lpips_squeeze")
SEEDS = 4


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, tabulate."""
    out = Path("results/sweep_loss")
    options = parse_options(__doc__, arguments, out=out, schemes=SCHEMES, metrics=METRICS, seeds=SEEDS)
    sweep = options.sweep(tuple(LOSSES.values()), (SNR_DB,), (RHO,))
    records = conduct(sweep, options.out, options.workers)
    metrics = [metric.name for metric in sweep.metrics if metric.name in records]
    heading = f"# Packet loss, rho = {RHO}, {SNR_DB:g} dB, {options.seeds} realisations per image\n\n"
    write(options.out / "table.md", heading + "\n".join(loss_table(records, metric) for metric in metrics))
    print(f"{len(records)} records, table in {options.out}")


def loss_table(records: "pd.DataFrame", metric: str) -> str:
    """Means with 95 % bootstrap intervals over images, and shares of lost images: a column per loss."""
    means = item_means(records)
    channels = {about: channel for about, channel in LOSSES.items() if channel in set(means["channel"])}
    lines = [f"## {metric}", "", f"| scheme | {' | '.join(channels)} |", "| --- " * (len(channels) + 1) + "|"]
    for scheme, rows in means.groupby("scheme"):
        cells: list[str] = []
        for channel in channels.values():
            here = rows[rows["channel"] == channel]
            found = bootstrap_mean(here[metric], here["item"])
            outage = float(here["outage"].mean())
            lost = f", {outage:.0%} lost" if outage else ""
            limits = f"{found.low:.4g} to {found.high:.4g}{lost}" if found.items > 1 else lost.strip(", ")
            cells.append(f"{found.mean:.4g} ({limits})" if limits else f"{found.mean:.4g}")
        lines.append(f"| {scheme} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_script(main)
