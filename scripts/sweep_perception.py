"""Kodak, perception against distortion on AWGN: the DeepJSCC with either decoder, SoftCast, digital envelope.

Run:     TORCH_HOME=../shared/torch-home python scripts/sweep_perception.py --workers 2
Cost:    see results/sweep_perception/README.md; killed or interrupted, the same command resumes
Expect:  see results/sweep_perception/README.md

With LPIPS, which needs SqueezeNet in the torch cache. Beside curves and planes, one picture as it arrives at
several SNRs.
"""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import torch

from semcom.budget import Budget
from semcom.data import Item
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
from semcom.strips import image_strip
from semcom.sweep import noise_streams

SCHEMES = ("envelope:csit-average", "softcast", "deepjscc", "deepjscc-perceptual")
CHANNEL = "awgn"
SNR_DB = (0.0, 5.0, 10.0, 20.0)
RHO = ("1/12", "1/48", "1/192")
METRICS = ("psnr_db", "ms_ssim", "swd", "lpips_squeeze")
PERCEPTION = ("swd", "lpips_squeeze")
PLANES_SNR_DB = (0.0, 10.0)
SHOWN, SHOWN_RHO = "kodim21", "1/48"


def draw_strips(options: Options, item: Item) -> None:
    """One picture at every SNR, all schemes beside each other, with the first and the last metric."""
    sweep = replace(options, items=(item,)).sweep([CHANNEL], SNR_DB, [SHOWN_RHO])
    captioned = sweep.metrics[:: max(1, len(sweep.metrics) - 1)]
    budget = Budget.from_rho(SHOWN_RHO, item.x.numel())
    rng = noise_streams(item.id, 0, len(SNR_DB))
    received = {
        scheme.name: scheme.transmit(item.x, budget, sweep.channels[0], torch.tensor(SNR_DB), rng)
        for scheme in sweep.schemes
    }
    for i, snr_db in enumerate(SNR_DB):
        pictures = {name: outcomes[i].x_hat for name, outcomes in received.items()}
        captions = {
            name: ", ".join(f"{metric.name} {metric(x_hat, item.x):.3g}" for metric in captioned)
            for name, x_hat in pictures.items()
        }
        encoded = BytesIO()
        image_strip(item.x, pictures, captions).save(encoded, "JPEG", quality=92)
        write(options.out / f"strip_{snr_db:g}dB.jpg", encoded.getvalue())


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, draw."""
    out = Path("results/sweep_perception")
    options = parse_options(__doc__, arguments, out=out, schemes=SCHEMES, metrics=METRICS)
    sweep = options.sweep([CHANNEL], SNR_DB, RHO)
    records = conduct(sweep, options.out, options.workers)
    metrics = [metric.name for metric in sweep.metrics if metric.name in records]
    heading = "# Kodak, perception against distortion\n\n"
    write(options.out / "table.md", heading + markdown_tables(records, metrics, "snr_db"))
    for rho in RHO:
        stem = f"rho-{rho}".replace("/", "-")
        for metric in metrics:
            write_figure(options.out / f"{metric}_{stem}.svg", metric_vs_snr(records, metric, rho, CHANNEL))
        for perception in set(PERCEPTION).intersection(metrics):
            for snr_db in sorted(set(PLANES_SNR_DB).intersection(SNR_DB)):
                figure = perception_distortion(records, rho, snr_db, CHANNEL, perception=perception)
                write_figure(options.out / f"plane_{perception}_{stem}_{snr_db:g}dB.svg", figure)
    named = [item for item in options.items if item.id.startswith(SHOWN)]
    draw_strips(options, (named or options.items)[0])
    print(f"{len(records)} records, tables, figures and strips in {options.out}")


if __name__ == "__main__":
    run_script(main)
