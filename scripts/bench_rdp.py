"""Time of rate-distortion-perception functions beside alternating scalings of the literature, one thread.

Run:     python scripts/bench_rdp.py               (1 to 4 minutes; --quick without 512 and 1024 letters)
Expect:  results/rdp/bench.json; speedup above 10, 25 to 80 on a Zen 5 core

Both solve a Gaussian on 96 points of [-4.5, 4.5] with squared error and squared W2 distance in the same
process, one after the other, from r = p, until the sum of all violations of their KKT conditions is below
1e-8. The reference is the published iteration in vectorised numpy, through eps = .3, .1, .03, .01, .003,
.001, as it must: from a cold start at .001 it ends in a wrong corner. The scalings are left with the error
of eps, ours has none. Cost against the number of letters is of one point, and of twelve at once.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from semcom.experiment import run_script, write
from semcom.provenance import environment
from semcom.theory.alternating_sinkhorn import ANNEALED, alternating_sinkhorn
from semcom.theory.rdp import Transport, rate_distortion_perception
from semcom.theory.rdp_closed_forms import GaussianGrid, gaussian_rate

POINTS = ((0.5, 0.05), (1.2, 0.1))  # D, P
LETTERS, REACH, TOLERANCE = 96, 4.5, 1e-8
SIZES = (16, 32, 64, 96, 128, 256, 512, 1024)
QUICK, TINY = 256, 16


def solve(grid: GaussianGrid, points: Sequence[tuple[float, float]]):
    """R(D, P) at all points in one batch."""
    d, p = torch.tensor(points, dtype=torch.float64).T
    measure = Transport(grid.squared)
    return rate_distortion_perception(
        grid.law, grid.squared, d, p, measure, tolerance=TOLERANCE, start=grid.law
    )


def timed(call: Callable) -> tuple[object, float]:
    """What it returns, and wall-clock seconds."""
    start = time.perf_counter()
    answer = call()
    return answer, time.perf_counter() - start


def compare(letters: int, epsilons: Sequence[float]) -> list[dict]:
    """Both methods at each point."""
    grid = GaussianGrid.of(letters, REACH)
    solve(grid, POINTS[:1])  # first calls are slow
    rows = []
    for d, p in POINTS:
        ours, ours_s = timed(lambda point=(d, p): solve(grid, [point]))
        theirs, theirs_s = timed(
            lambda point=(d, p): alternating_sinkhorn(
                grid.law, grid.squared, grid.squared, *point, epsilons, tolerance=TOLERANCE
            )
        )
        closed = gaussian_rate(grid.variance, d, p)
        row = {"distortion": d, "perception": p, "closed_form_nats": closed}
        row |= {"ours_s": ours_s, "ours_iterations": int(ours.iterations), "ours_nats": float(ours.rate_nats)}
        row |= {"ours_residual": float(ours.kkt_residual), "scalings_s": theirs_s}
        row |= {"scalings_iterations": theirs.iterations, "scalings_nats": theirs.rate_nats}
        row |= {"scalings_residual": theirs.kkt_residual, "speedup": theirs_s / ours_s}
        rows.append(row)
        print(f"D {d:g}, P {p:g}: {ours_s:.3f} s and {theirs_s:.1f} s, {row['speedup']:.0f} times faster")
    return rows


def sizes(letters: Sequence[int]) -> list[dict]:
    """One point at each number of letters, and twelve at once up to 128."""
    rows = []
    for n in letters:
        grid = GaussianGrid.of(n, REACH)
        found, seconds = timed(lambda grid=grid: solve(grid, POINTS[:1]))
        row = {"letters": n, "seconds": seconds, "iterations": int(found.iterations)}
        row |= {"residual": float(found.kkt_residual), "rate_nats": float(found.rate_nats)}
        if n <= 128:
            batch = [(d, p) for d in (0.2, 0.5, 0.8, 1.2) for p in (0.01, 0.05, 0.1)]
            row["seconds_per_point_of_12"] = timed(lambda grid=grid, batch=batch: solve(grid, batch))[1] / 12
        rows.append(row)
        print(f"{n:5d} letters: {seconds:.3f} s, {row['iterations']} iterations")
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("results/rdp"))
    parser.add_argument("--quick", action="store_true", help=f"no more than {QUICK} letters")
    parser.add_argument("--tiny", action="store_true", help=f"{TINY} letters, eps = {ANNEALED[1]:g}")
    a = parser.parse_args(arguments)
    torch.set_num_threads(1)
    largest = TINY if a.tiny else QUICK if a.quick else max(SIZES)
    letters = min(LETTERS, largest)
    compared = compare(letters, ANNEALED[:2] if a.tiny else ANNEALED)
    by_size = sizes([n for n in SIZES if n <= largest])
    speedup = min(row["speedup"] for row in compared)
    figures = {"speedup": speedup, "compared": compared, "sizes": by_size, "environment": environment()}
    write(a.out / "bench.json", json.dumps(figures, indent=1) + "\n")
    lines = [
        "# Time beside alternating scalings\n",
        f"{letters} letters, KKT residual below {TOLERANCE:g}, one thread.\n",
    ]
    lines += ["| D | P | closed form | ours, nats | s | steps | scalings, nats | s | iterations | speedup |"]
    lines += ["| --- " * 10 + "|"]
    for row in compared:
        cells = (f"{row['distortion']:g}", f"{row['perception']:g}", f"{row['closed_form_nats']:.6f}")
        cells += (f"{row['ours_nats']:.6f}", f"{row['ours_s']:.3f}", f"{row['ours_iterations']}")
        cells += (f"{row['scalings_nats']:.6f}", f"{row['scalings_s']:.1f}", f"{row['scalings_iterations']}")
        lines.append(f"| {' | '.join(cells)} | {row['speedup']:.0f} |")
    lines += ["\n| letters | s | steps | s per point, 12 at once |", "| --- " * 4 + "|"]
    for row in by_size:
        together = f"{row['seconds_per_point_of_12']:.3f}" if "seconds_per_point_of_12" in row else "-"
        lines.append(f"| {row['letters']} | {row['seconds']:.3f} | {row['iterations']} | {together} |")
    write(a.out / "bench.md", "\n".join(lines) + "\n")
    print(json.dumps({"speedup": round(speedup, 1)}))


if __name__ == "__main__":
    run_script(main)
