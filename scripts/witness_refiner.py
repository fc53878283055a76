"""An independent witness of the one-step refiner: VMAF-NEG and VMAF of Kodak's pictures, refined and not.

Run:     python scripts/witness_refiner.py --workers 2
Needs:   the package vmaf-torch; pip install 'semcom[video]'
Cost:    about 5 minutes of one core; killed, the same command resumes
Expect:  results/sweep_refiner/vmaf_neg.md: means and paired differences, refined - envelope

The refiner was trained on LPIPS; VMAF-NEG, which gives nothing for enhanced contrast, is no relative of it.
Each picture is measured as a clip of one frame. Five operating points on AWGN.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from semcom.budget import shown_rho
from semcom.experiment import conduct, parse_options, run_script, write
from semcom.statistics import compare, summarise

if TYPE_CHECKING:
    import pandas as pd

ENVELOPE, REFINED = "envelope:csit-average", "envelope:csit-average+refine"
CHANNEL = "awgn"
GRIDS = ((("1/12", "1/48", "1/192"), (5.0,)), (("1/48",), (0.0, 10.0)))
"""Bandwidth ratios, and SNRs in dB at which they are measured."""
METRICS = ("vmaf_neg", "vmaf")


def table(records: "pd.DataFrame", metrics: Sequence[str] = METRICS) -> str:
    """Markdown: per operating point the mean of each metric, and refined - envelope with its interval."""
    heads = ["rho, SNR"]
    rows: dict[tuple[float, float], list[str]] = {}
    for metric in metrics:
        heads += [f"{metric}: envelope", "refined", "refined - envelope, 95 %"]
        means = summarise(records, metric).set_index(["scheme", "rho", "snr_db"])["mean"]
        for point in compare(records, metric, REFINED, ENVELOPE).itertuples():
            rho, snr_db = float(point.rho), float(point.snr_db)  # pyright: ignore[reportArgumentType]
            rows.setdefault((rho, snr_db), []).extend(
                [
                    f"{means[ENVELOPE, rho, snr_db]:.1f}",
                    f"{means[REFINED, rho, snr_db]:.1f}",
                    f"{point.difference:+.2f} ({point.low:+.2f} to {point.high:+.2f})",
                ]
            )
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for (rho, snr_db), cells in sorted(rows.items(), key=lambda row: (-row[0][0], row[0][1])):
        lines.append(f"| {shown_rho(rho)}, {snr_db:g} dB | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, tabulate."""
    out = Path("results/sweep_refiner/vmaf_neg")
    chosen = parse_options(__doc__, arguments, out=out, schemes=(ENVELOPE, REFINED), metrics=METRICS)
    for rho, snr_db in GRIDS:
        records = conduct(chosen.sweep((CHANNEL,), snr_db, rho), chosen.out, chosen.workers)
    shown = table(records, chosen.metrics)
    write(chosen.out.with_suffix(".md"), shown)
    print(shown, end="")


if __name__ == "__main__":
    run_script(main)
