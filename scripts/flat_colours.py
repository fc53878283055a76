"""Do flat colours drift? Largest change of a flat area's mean by a receiver, beyond the error of the decoder.

Run:     python scripts/flat_colours.py
Cost:    about 5 seconds of one core per picture and operating point
Expect:  a table of levels of 8 bits, the largest over flat areas, colours and pictures

Flat areas are windows of 64x64 pixels in which no 8x8 block of the original deviates by more than 3 of 255
levels. The drift is how much further the shown area's mean colour is from the original's than the decoded
area's is; lost pictures are left out.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from semcom import names
from semcom.budget import Budget
from semcom.data import load_folder
from semcom.experiment import run_script, write
from semcom.metrics import colour_drift
from semcom.sweep import noise_streams

SCHEMES = ("envelope:csit-average+refine", "envelope:csit-average+refine:1")
CHANNEL = "awgn"
SNR_DB = (0.0, 10.0)
RHO = ("1/12", "1/48", "1/192")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, send, tabulate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/kodak"))
    parser.add_argument("--out", type=Path, default=Path("results/sweep_refiner/flat_colours.md"))
    parser.add_argument("--photos", type=int, default=None, help="only the first so many")
    parser.add_argument("--schemes", default=",".join(SCHEMES), help="schemes with a receiver")
    parser.add_argument("--rho", default=",".join(RHO))
    parser.add_argument("--snr", default=",".join(f"{snr_db:g}" for snr_db in SNR_DB), help="dB")
    chosen = parser.parse_args(arguments)
    schemes = [names.scheme(name) for name in chosen.schemes.split(",")]
    channel, items = names.channel(CHANNEL), load_folder(chosen.data)[: chosen.photos]
    heads = ["rho", "SNR", *(scheme.name for scheme in schemes), "pictures with flat areas"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for rho in chosen.rho.split(","):
        for snr_db in map(float, chosen.snr.split(",")):
            drifts: dict[str, dict[str, float]] = {scheme.name: {} for scheme in schemes}
            for item in items:
                budget, rng = Budget.from_rho(rho, item.x.numel()), noise_streams(item.id, 0)
                for scheme in schemes:
                    (decoded,), (shown,) = (
                        each.transmit(item.x, budget, channel, snr_db, rng)
                        for each in (names.plain(scheme), scheme)
                    )
                    drift = float(colour_drift(shown.x_hat, decoded.x_hat, item.x))
                    if not (decoded.outage or math.isnan(drift)):
                        drifts[scheme.name][item.id] = drift
            cells = [_worst(drifts[scheme.name]) for scheme in schemes]
            count = max(map(len, drifts.values()))
            lines.append(f"| {rho} | {snr_db:g} dB | {' | '.join(cells)} | {count} of {len(items)} |")
            print(lines[-1], flush=True)
    write(chosen.out, "\n".join(lines) + "\n")


def _worst(drifts: dict[str, float]) -> str:
    """Largest drift and its picture."""
    if not drifts:
        return "-"
    worst = max(drifts, key=lambda name: drifts[name])
    return f"{drifts[worst]:.2f} ({worst.rpartition('-')[0] or worst})"


if __name__ == "__main__":
    run_script(main)
