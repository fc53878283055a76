"""Clips over noisy and lossy channels at equal measured channel uses: digital, layered, analog.

Run:     TORCH_HOME=../shared/torch-home python scripts/video_over_noise.py --workers 2
Cost:    see results/video_over_noise/README.md; killed or interrupted, the same command resumes
Expect:  see results/video_over_noise/README.md

Quality against SNR on AWGN, block fading and OFDM, and against loss at one SNR: packets of 512 channel uses,
lost independently or in bursts of five. Schemes that are told the average SNR adapt their rate; in packets, a
lost one costs the frames that depend on it, which are held or interpolated.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from semcom import names
from semcom.data import load_folder
from semcom.experiment import conduct, item_means, run_script, write, write_figure
from semcom.modalities.video import VIDEO
from semcom.plots import metric_vs_snr
from semcom.statistics import bootstrap_mean
from semcom.sweep import Sweep
from semcom.video.comparison import whole_frames

if TYPE_CHECKING:
    import pandas as pd

SCHEMES = (
    *("x265+ldpc:csit-average", "av1+ldpc:csit-average", "layered+ldpc:csit-average"),
    *("x265+packets:512", "x265+packets:512+interpolate"),
    *("deepjscc", "softcast"),
)
CHANNELS = ("awgn", "rayleigh:64", "ofdm:tdl-c:100:0")
SNR_DB = (0.0, 5.0, 10.0, 20.0)
RHO = "1/96"
LOSS_SNR_DB = 10.0
LOSSES = {  # channel by what is lost
    "5 %": "lossy:512:0.05/awgn",
    "10 %": "lossy:512:0.1/awgn",
    "30 %": "lossy:512:0.3/awgn",
    "30 % in bursts": "lossy:512:0.0857143:0.2/awgn",
}
METRICS = ("psnr_db", "lpips_squeeze")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, tabulate, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, default=Path("../shared/data/video/eval"), help="folder of clips")
    add("--out", type=Path, default=Path("results/video_over_noise"))
    add("--clips", type=int, default=None, help="only the first so many")
    add("--frames", type=int, default=16, help="first frames of every clip")
    add("--schemes", default=",".join(SCHEMES))
    add("--rho", default=RHO, help="channel uses per pixel value")
    add("--workers", type=int, default=1)
    chosen = parser.parse_args(arguments)
    items = tuple(whole_frames(load_folder(chosen.data, (VIDEO,))[: chosen.clips], chosen.frames))
    schemes = tuple(names.scheme(name, VIDEO) for name in chosen.schemes.split(","))
    metrics = tuple(names.metric(name, "video") for name in METRICS)

    def sweep(channels: Sequence[str], snr_db: tuple[float, ...]) -> Sweep:
        return Sweep(schemes, tuple(map(names.channel, channels)), items, snr_db, (chosen.rho,), metrics)

    conduct(sweep(CHANNELS, SNR_DB), chosen.out, chosen.workers)
    records = conduct(sweep(tuple(LOSSES.values()), (LOSS_SNR_DB,)), chosen.out, chosen.workers)
    text = [f"# {len(items)} clips, {chosen.frames} frames, rho = {chosen.rho}", ""]
    points = {f"{channel}, {snr_db:g} dB": (channel, snr_db) for channel in CHANNELS for snr_db in SNR_DB}
    points |= {f"loss {about}": (channel, LOSS_SNR_DB) for about, channel in LOSSES.items()}
    for metric in METRICS:
        text += table(records, metric, points)
    write(chosen.out / "table.md", "\n".join(text) + "\n")
    for channel in CHANNELS:
        figure = metric_vs_snr(records, "psnr_db", chosen.rho, channel)
        write_figure(chosen.out / f"psnr_db_{channel.split(':')[0]}.svg", figure)
    print(f"{len(records)} records, table in {chosen.out}")


def rows_at(means: "pd.DataFrame", channel: str, snr_db: float, scheme: str) -> "pd.DataFrame":
    """Rows of one operating point."""
    chosen = (means["channel"] == channel) & (means["snr_db"] == snr_db) & (means["scheme"] == scheme)
    return means.loc[chosen]


def table(records: "pd.DataFrame", metric: str, points: dict[str, tuple[str, float]]) -> list[str]:
    """Lines of a table of means with 95 % bootstrap intervals over clips: a line per operating point."""
    means = item_means(records)
    schemes = list(dict.fromkeys(records["scheme"]))
    lines = [f"## {metric}", "", f"| channel | {' | '.join(schemes)} |", "| --- " * (len(schemes) + 1) + "|"]
    for about, (channel, snr_db) in points.items():
        cells: list[str] = []
        for scheme in schemes:
            here = rows_at(means, channel=channel, snr_db=snr_db, scheme=scheme)
            if here.empty:
                cells.append("-")
                continue
            found = bootstrap_mean(here[metric], here["item"])
            outage = sum(here["outage"].tolist()) / len(here)
            lost = f", {outage:.0%} lost" if outage else ""
            limits = f" ({found.low:.3g} to {found.high:.3g}{lost})" if found.items > 1 else lost
            cells.append(f"{found.mean:.3g}{limits}")
        lines.append(f"| {about} | {' | '.join(cells)} |")
    return [*lines, ""]


if __name__ == "__main__":
    run_script(main)
