"""Hybrids beside their parts, on centre crops of Kodak over AWGN: cliff and grace, gain, bandwidth saved.

Run:     TORCH_HOME=../shared/torch-home python scripts/sweep_hybrid.py --workers 2
Cost:    see results/sweep_hybrid/README.md; killed or interrupted, the same command resumes
Expect:  see results/sweep_hybrid/README.md

All hybrids have one modulation and code rate (QPSK, 0.44, lost below about 0 dB) and half of the channel uses
for bits. Three tables: quality over SNR at equal channel uses; each hybrid less the better of its parts, both
with the uses they have in it; and the channel uses that each needs for the LPIPS that DeepJSCC alone has at
1/48, with and without noise at the transmitter, lost pictures counted.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from semcom.budget import parse_rho
from semcom.data import centre
from semcom.experiment import (
    conduct,
    item_means,
    markdown_tables,
    parse_options,
    run_script,
    write,
    write_figure,
)
from semcom.plots import metric_vs_snr
from semcom.statistics import paired_difference, rate_needed

if TYPE_CHECKING:
    import pandas as pd

DIGITAL = "avif+ldpc:mcs6"
ANALOG = {"softcast": "softcast", "softcast-residual": "softcast", "deepjscc": "deepjscc"}
NOISES = (0.0, 0.05, 0.1)  # standard deviation, pictures in [0, 1]
HYBRIDS = tuple(
    f"hybrid:avif:mcs6:{analog}" + (f":0.5:0:{noise:g}" if noise else "")
    for analog in ANALOG
    for noise in NOISES
)
CHANNEL = "awgn"
SNR_DB = (-5.0, 0.0, 5.0, 10.0, 20.0)
RHO = ("1/96", "1/48", "1/24")
WHOLE, HALF = "1/48", "1/96"
REFERENCE = "deepjscc"
SAVED_AT_DB = (5.0, 10.0)
METRICS = ("psnr_db", "lpips_squeeze", "swd")
SIDE = 256
RESAMPLES = 1000


def parts_of(hybrid: str) -> tuple[str, str]:
    """Names of the schemes that are its parts."""
    return DIGITAL, ANALOG[hybrid.split(":")[3].split("+")[0]]


def gains(records: "pd.DataFrame") -> str:
    """PSNR of each hybrid at `WHOLE` less that of the better part at `HALF`, by SNR, with intervals."""
    means = item_means(records).set_index(["scheme", "rho", "snr_db", "item"])["psnr_db"]
    whole, half = (measured(rho, records) for rho in (WHOLE, HALF))
    hybrids = [name for name in means.index.unique("scheme") if name.startswith("hybrid")]
    snrs = sorted(means.index.unique("snr_db"))
    lines = [f"| hybrid | {' | '.join(f'{snr:g} dB' for snr in snrs)} |", "| --- " * (len(snrs) + 1) + "|"]
    for name in hybrids:
        cells: list[str] = []
        for snr in snrs:
            ours = means[name, whole, snr]
            parts = [means[part, half, snr] for part in parts_of(name) if (part, half, snr) in means.index]
            better = max(parts, key=lambda part: part.mean())
            gain = paired_difference(ours, better, ours.index)
            cells.append(f"{gain.mean:+.2f} ({gain.low:+.2f} to {gain.high:+.2f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def savings(records: "pd.DataFrame", reference: str, metric: str) -> str:
    """Channel uses for the reference's mean metric at `WHOLE`, over its own, with intervals over pictures."""
    means = item_means(records).set_index(["scheme", "snr_db", "rho", "item"])[metric].sort_index()
    rhos, whole = sorted(records["rho"].unique()), measured(WHOLE, records)
    snrs = [snr for snr in SAVED_AT_DB if snr in means.index.unique("snr_db")]
    lines = [f"| scheme | {' | '.join(f'{snr:g} dB' for snr in snrs)} |", "| --- " * (len(snrs) + 1) + "|"]
    for name in means.index.unique("scheme"):
        cells: list[str] = []
        for snr in snrs:
            losses = np.stack([means[name, snr, rho].to_numpy() for rho in rhos])
            wanted = means[reference, snr, whole].to_numpy()
            draws = np.random.default_rng(0).integers(0, len(wanted), (RESAMPLES, len(wanted)))
            shares = [rate_needed(rhos, losses[:, d].mean(1), wanted[d].mean()) / whole for d in draws]
            share = rate_needed(rhos, losses.mean(1), wanted.mean()) / whole
            ordered = np.sort(np.nan_to_num(shares, nan=np.inf))
            ends = ordered[round(0.025 * (RESAMPLES - 1))], ordered[round(0.975 * (RESAMPLES - 1))]
            most = rhos[-1] / whole
            cell, low, high = (f"{v:.2f}" if np.isfinite(v) else f"above {most:.2f}" for v in (share, *ends))
            cells.append(f"{cell} ({low} to {high})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def measured(rho: str, records: "pd.DataFrame") -> float:
    """The ratio as the records have it."""
    return float(min(records["rho"].unique(), key=lambda known: abs(known - float(parse_rho(rho)))))


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, tabulate."""
    out = Path("results/sweep_hybrid")
    schemes = (DIGITAL, *dict.fromkeys(ANALOG.values()), *HYBRIDS)
    options = parse_options(__doc__, arguments, out=out, schemes=schemes, metrics=METRICS)
    options = replace(options, items=tuple(centre(item, SIDE) for item in options.items))
    records = conduct(options.sweep([CHANNEL], SNR_DB, RHO), options.out, options.workers)
    records = records[records["rho"].isin(map(float, map(parse_rho, RHO))) & records["snr_db"].isin(SNR_DB)]
    metrics = [metric for metric in options.metrics if metric in records]
    whole = records[records["rho"] == measured(WHOLE, records)]
    text = f"# Equal channel uses, rho {WHOLE}\n\n{markdown_tables(whole, [*metrics, 'outage'], 'snr_db')}"
    text += f"\n# PSNR less that of the better part with its own half, rho {WHOLE}\n\n{gains(records)}"
    if "lpips_squeeze" in metrics and REFERENCE in set(records["scheme"]):
        text += f"\n# Channel uses for the LPIPS of {REFERENCE} at {WHOLE}, as part of its own\n\n"
        text += savings(records, REFERENCE, "lpips_squeeze")
    write(options.out / "table.md", text)
    for metric in metrics:
        write_figure(options.out / f"{metric}.svg", metric_vs_snr(records, metric, WHOLE, CHANNEL))
    print(f"{len(records)} records, tables in {options.out}")


if __name__ == "__main__":
    run_script(main)
