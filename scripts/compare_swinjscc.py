"""Kodak at the operating points at which SwinJSCC has been run by others, its figures beside ours.

Run:     python scripts/compare_swinjscc.py --workers 2
Cost:    see results/swinjscc/README.md; killed or interrupted, the same command resumes
Expect:  see results/swinjscc/README.md

The published figures are those of a user's run of the authors' weights (SwinJSCC w/ SA&RA, base model: Swin
transformers, trained on DIV2K for days of GPU time), as in issue 14 of github.com/semcomm/SwinJSCC: PSNR of
Kodak over AWGN, mean over pictures.
"""

from collections.abc import Sequence
from pathlib import Path

from semcom.experiment import conduct, parse_options, run_script, write
from semcom.statistics import summarise

SCHEMES = ("softcast", "deepjscc", "deepjscc:csit-average")
CHANNEL = "awgn"
RHO = ("1/48", "1/24", "1/16", "1/12", "1/8")
PUBLISHED_DB = {1.0: (26.4, 28.3, 29.5, 30.3, 31.4), 13.0: (29.4, 32.1, 33.8, 35.2, 37.0)}
"""SNR in dB to PSNR in dB at those rho."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, tabulate."""
    out = Path("results/swinjscc")
    options = parse_options(__doc__, arguments, out=out, schemes=SCHEMES, metrics=["psnr_db"])
    sweep = options.sweep([CHANNEL], tuple(PUBLISHED_DB), RHO)
    points = summarise(conduct(sweep, options.out, options.workers), "psnr_db")
    lines = [f"| SNR | scheme | {' | '.join(RHO)} |", "| --- " * (2 + len(RHO)) + "|"]
    for snr_db, published_db in PUBLISHED_DB.items():
        lines.append(f"| {snr_db:g} dB | SwinJSCC, published | {' | '.join(map(str, published_db))} |")
        for scheme, rows in points[points.snr_db == snr_db].groupby("scheme"):
            means = rows.sort_values("rho")["mean"]
            lines.append(f"| | {scheme} | {' | '.join(f'{mean:.1f}' for mean in means)} |")
    write(options.out / "table.md", "# Kodak, AWGN, PSNR in dB\n\n" + "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    run_script(main)
