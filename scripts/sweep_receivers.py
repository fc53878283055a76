"""What a prior adds to what arrived, on centre crops of Kodak: perception against distortion, AWGN.

Run:     TORCH_HOME=../shared/torch-home python scripts/sweep_receivers.py --workers 2
Cost:    see results/sweep_receivers/README.md; killed or interrupted, the same command resumes
Expect:  see results/sweep_receivers/README.md

The twelve points of low rate: DeepJSCC received by its own decoder, by the one tuned to LPIPS, and refined by
DiffPIR with the natural-image prior, the knob between mean and sample at several settings; the same receiver
behind a digital link; and the system of Yilmaz et al. 2024, block means by DeepJSCC and 100 steps of DDNM.
The last table has differences to plain DeepJSCC at equal channel uses, over all points, with intervals over
pictures.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from semcom.data import centre
from semcom.experiment import (
    conduct,
    difference_table,
    markdown_tables,
    parse_options,
    run_script,
    write,
    write_figure,
)
from semcom.plots import perception_distortion

SCHEMES = (
    "deepjscc",
    "deepjscc-perceptual",
    "deepjscc+diffpir:8:0.25",
    "deepjscc+diffpir:8:0.5",
    "deepjscc+diffpir:8",
    "deepjscc-range-by-rho+diffpir:8:0.5",
    "deepjscc-range-by-rho+diffpir:8",
    "deepjscc+ddrm:8",
    "deepjscc-perceptual+diffpir:8:0.5",
    "learned+ldpc:csit-average",
    "learned+ldpc:csit-average+diffpir:8:0.5",
    "deepjscc-range+ddnm:100",
)
CHANNEL = "awgn"
SNR_DB = (-5.0, 0.0, 5.0, 10.0)
RHO = ("1/48", "1/192", "1/768")
METRICS = ("psnr_db", "swd", "lpips_squeeze")
SIDE = 256


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, draw."""
    out = Path("results/sweep_receivers")
    options = parse_options(__doc__, arguments, out=out, schemes=SCHEMES, metrics=METRICS)
    options = replace(options, items=tuple(centre(item, SIDE) for item in options.items))
    records = conduct(options.sweep([CHANNEL], SNR_DB, RHO), options.out, options.workers)
    metrics = [metric for metric in options.metrics if metric in records]
    reference = options.sweep([CHANNEL], SNR_DB, RHO).schemes[0].name
    text = f"# Differences to {reference}, mean over {len(SNR_DB) * len(RHO)} points\n\n"
    text += difference_table(records, reference, metrics) + "\n# Kodak, centre crops of 256x256\n\n"
    write(options.out / "table.md", text + markdown_tables(records, metrics, "snr_db"))
    for rho in RHO:
        stem = f"rho-{rho}".replace("/", "-")
        for perception in metrics[1:]:
            for snr_db in SNR_DB:
                figure = perception_distortion(records, rho, snr_db, CHANNEL, perception=perception)
                write_figure(options.out / f"plane_{perception}_{stem}_{snr_db:g}dB.svg", figure)
    print(f"{len(records)} records, tables and figures in {options.out}")


if __name__ == "__main__":
    run_script(main)
