"""R(D, P) of binary and Gaussian sources beside closed forms, regions of the (D, P) plane, limits of links.

Run:     python scripts/rdp_curves.py
         python scripts/rdp_curves.py --data ../shared/data/kodak   (limits of a model of those too)
Cost:    half a minute of one core
Expect:  results/rdp/table.md: binary within 1e-8 of the closed forms; the Gaussian, where the cost that the
         grid adds to transport, h^2 / 12, is allowed for, within 1e-3 on 96 points and 1e-4 on 128

The limit of a link is that of a Gaussian model of pictures, not of pictures: a code that knows more of
them does better.
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from semcom.data import load_folder
from semcom.experiment import run_script, write, write_figure
from semcom.plots import ComputedCurve, ReferenceLine, computed_curves, region_map
from semcom.provenance import environment
from semcom.theory.rdp import (
    Divergence,
    RDPSolution,
    TotalVariation,
    Transport,
    rate_distortion_perception,
    regions,
    zero_rate_distortion,
)
from semcom.theory.rdp_closed_forms import (
    GaussianGrid,
    binary_critical_perception,
    binary_rate,
    binary_zero_rate_distortion,
    gaussian_critical_perception,
    gaussian_divergence_rate,
    gaussian_rate,
    gaussian_zero_rate_distortion,
)
from semcom.theory.source_limit import CLASSES, fit, limit

LETTERS, COARSE, REACH = 128, 96, 4.5
HAMMING = 1 - torch.eye(2, dtype=torch.float64)
BINARY_D, BINARY_P = (0.01, 0.03, 0.06, 0.1, 0.15), (0.0, 0.02, 0.05)
GAUSSIAN_D, GAUSSIAN_P = (0.1, 0.2, 0.5, 0.8, 1.2, 1.5), (0.0, 0.01, 0.05, 0.1, 0.3)
SHOWN_P = (0.0, 0.02, 0.1, math.inf)
MAP_POINTS = 40
SLIGHT = 1e-3  # gamma, in nats per unit, that counts as 0 on a grid of a continuous source
LINK_RHO, LINK_SNR_DB = (1 / 12, 1 / 48, 1 / 192), tuple(float(x) for x in range(-5, 26, 5))


def values(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def table(
    title: str,
    distortions: Sequence[float],
    perceptions: Sequence[float],
    rows: np.ndarray,
    closed: np.ndarray,
) -> str:
    """Markdown: nats, and how far from the closed form."""
    heads = ["P", *(f"D = {d:g}" for d in distortions), "furthest off"]
    lines = [f"## {title}\n", f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for p, row, off in zip(perceptions, rows, np.abs(rows - closed).max(1), strict=True):
        lines.append(f"| {p:g} | " + " | ".join(f"{rate:.6f}" for rate in row) + f" | {off:.1e} |")
    return "\n".join(lines) + "\n"


def closed_form(form: Callable[[float, float], float], d: Sequence[float], p: Sequence[float]) -> np.ndarray:
    return np.array([[form(a, b) for a in d] for b in p])


def tables(out: dict) -> str:
    """All closed forms beside the solver; worst deviations and residuals into `out`."""
    parts, off, residuals = [], {}, []

    def add(
        name: str, title: str, d: Sequence[float], p: Sequence[float], found: RDPSolution, closed: np.ndarray
    ):
        rows = found.rate_nats.numpy()
        off[name] = float(np.abs(rows - closed).max())
        residuals.append(float(found.kkt_residual.max()))
        parts.append(table(title, d, p, rows, closed))

    for one in (0.1, 0.3, 0.5):
        source, bounds = values(1 - one, one), (values(*BINARY_D), values(*BINARY_P)[:, None])
        found = rate_distortion_perception(source, HAMMING, *bounds, TotalVariation())
        closed = closed_form(lambda d, p, q=one: binary_rate(q, d, p), BINARY_D, BINARY_P)
        add(f"binary {one:g}", f"Binary, p = {one:g}, total variation", BINARY_D, BINARY_P, found, closed)
    for letters in sorted({COARSE, LETTERS}):
        grid = GaussianGrid.of(letters, REACH)
        law, squared, variance, added = grid.law, grid.squared, grid.variance, grid.excess_w2_squared
        measure = Transport(squared)
        d, p = values(*GAUSSIAN_D), values(*GAUSSIAN_P)[:, None]
        closed = closed_form(lambda d, p, v=variance: gaussian_rate(v, d, p), GAUSSIAN_D, GAUSSIAN_P)
        heading = f"Gaussian, W2^2, {letters} points on +-{REACH:g}, against the variance of the grid"
        found = rate_distortion_perception(law, squared, d, p, measure)
        add(f"gaussian {letters}", heading, GAUSSIAN_D, GAUSSIAN_P, found, closed)
        allowed = p + added * (p > 0)
        found = rate_distortion_perception(law, squared, d, allowed, measure)
        name = f"gaussian {letters}, P + h^2/12"
        add(name, f"{heading}, P + h^2/12", GAUSSIAN_D, GAUSSIAN_P, found, closed)
    small = (0.0, 0.005, 0.02)
    found = rate_distortion_perception(
        law, squared, values(*GAUSSIAN_D), values(*small)[:, None], Divergence("reproduction")
    )
    closed = closed_form(lambda d, p: gaussian_divergence_rate(variance, d, p), GAUSSIAN_D, small)
    title = "Gaussian, KL(r || p); the form holds for Gaussian reproductions, so is an upper bound"
    add("gaussian divergence", title, GAUSSIAN_D, small, found, closed)
    zero = zero_rate_distortion(law, squared, allowed[:, 0], measure).numpy()
    closed = np.array([gaussian_zero_rate_distortion(variance, p) for p in GAUSSIAN_P])
    off["gaussian zero rate"] = float(np.abs(zero - closed).max())
    out |= {"furthest_off_nats": off, "largest_kkt_residual": max(residuals)}
    return "\n".join(["# Solver beside closed forms, nats\n", *parts])


def curves(out: Path) -> None:
    """R over D at some P."""
    d = np.linspace(0.004, 0.19, 32)
    found = rate_distortion_perception(
        values(0.9, 0.1), HAMMING, values(*d), values(*SHOWN_P)[:, None], TotalVariation()
    )
    drawn = [
        ComputedCurve(f"P = {p:g}", d.tolist(), row)
        for p, row in zip(SHOWN_P, found.rate_bits.tolist(), strict=True)
    ]
    exact = [[binary_rate(0.1, x, p) / math.log(2) for x in d.tolist()] for p in SHOWN_P]
    lines = [ReferenceLine("closed form" if i == 0 else "_", d.tolist(), row) for i, row in enumerate(exact)]
    axes = ("Distortion D (Hamming)", "Rate (bits)")
    write_figure(
        out / "binary.svg", computed_curves("Binary source, p = 0.1, total variation", axes, drawn, lines)
    )

    grid = GaussianGrid.of(LETTERS, REACH)
    law, squared, variance, added = grid.law, grid.squared, grid.variance, grid.excess_w2_squared
    d = np.linspace(0.1, 1.9, 25)
    allowed = values(*(p + added * (p > 0) for p in SHOWN_P))
    found = rate_distortion_perception(law, squared, values(*d), allowed[:, None], Transport(squared))
    drawn = [
        ComputedCurve(f"P = {p:g}", d.tolist(), row)
        for p, row in zip(SHOWN_P, found.rate_bits.tolist(), strict=True)
    ]
    exact = [[gaussian_rate(variance, x, p) / math.log(2) for x in d.tolist()] for p in SHOWN_P]
    lines = [ReferenceLine("closed form" if i == 0 else "_", d.tolist(), row) for i, row in enumerate(exact)]
    axes = ("Distortion D (squared error)", "Rate (bits)")
    write_figure(out / "gaussian.svg", computed_curves("Gaussian source, squared W2", axes, drawn, lines))


def maps(out: Path) -> dict:
    """Regions by the multipliers, beside closed forms of their borders; the share told wrong."""
    wrong = {}
    one = 0.1
    d, p = np.linspace(0.002, 0.2, MAP_POINTS), np.linspace(0.001, 0.12, MAP_POINTS)
    found = rate_distortion_perception(
        values(1 - one, one), HAMMING, values(*d), values(*p)[:, None], TotalVariation()
    )
    seen = regions(found).numpy()
    below = d[d < one].tolist()
    borders = [
        ReferenceLine("P_c(D)", below, [binary_critical_perception(one, x) for x in below]),
        ReferenceLine("D_0(P)", [binary_zero_rate_distortion(one, y) for y in p.tolist()], p.tolist()),
    ]
    expected = [
        [
            2
            if x >= binary_zero_rate_distortion(one, y)
            else int(x >= one or y < binary_critical_perception(one, x))
            for x in d.tolist()
        ]
        for y in p.tolist()
    ]
    wrong["binary"] = float((seen != np.array(expected)).mean())
    write_figure(
        out / "regions_binary.svg",
        region_map("Binary source, p = 0.1, total variation", d.tolist(), p.tolist(), seen, borders),
    )

    grid = GaussianGrid.of(LETTERS // 2, REACH)  # the map is coarser than the grid's errors
    law, squared, variance, added = grid.law, grid.squared, grid.variance, grid.excess_w2_squared
    d, p = np.linspace(0.05, 2.1, MAP_POINTS), np.linspace(0.005, 1.1, MAP_POINTS)
    found = rate_distortion_perception(
        law, squared, values(*d), values(*(p + added))[:, None], Transport(squared)
    )
    seen = regions(found, SLIGHT).numpy()
    below = d[d < variance].tolist()
    borders = [
        ReferenceLine("P_c(D)", below, [gaussian_critical_perception(variance, x) for x in below]),
        ReferenceLine("D_0(P)", [gaussian_zero_rate_distortion(variance, y) for y in p.tolist()], p.tolist()),
    ]
    expected = [
        [
            2
            if x >= gaussian_zero_rate_distortion(variance, y)
            else int(y < gaussian_critical_perception(variance, x))
            for x in d.tolist()
        ]
        for y in p.tolist()
    ]
    wrong["gaussian"] = float((seen != np.array(expected)).mean())
    write_figure(
        out / "regions_gaussian.svg",
        region_map("Gaussian source, squared W2", d.tolist(), p.tolist(), seen, borders),
    )
    return wrong


def links(data: Path, out: Path) -> dict:
    """PSNR at capacity of AWGN, a model per picture, mean over pictures, with and without realism."""
    models = [fit([item.x[0].permute(1, 2, 0).numpy()], CLASSES) for item in load_folder(data)]
    drawn, figures = [], []
    for rho in LINK_RHO:
        ends = np.array(
            [[limit(m, snr, rho, (0.0, math.inf)).psnr_db for m in models] for snr in LINK_SNR_DB]
        )
        means = ends.mean(1)
        for name, psnr in zip(("least squared error", "perfect realism"), means.T.tolist(), strict=True):
            drawn.append(ComputedCurve(f"rho = 1/{1 / rho:.0f}, {name}", LINK_SNR_DB, psnr))
            figures.append({"rho": f"1/{1 / rho:.0f}", "end": name, "snr_db": LINK_SNR_DB, "psnr_db": psnr})
    axes = ("SNR, Es/N0 (dB)", "PSNR (dB), mean over pictures")
    title = "Limit of that Gaussian model, not of images"
    write_figure(out / "link_limit.svg", computed_curves(title, axes, drawn))
    return {"pictures": len(models), "classes": CLASSES, "curves": figures}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, compute, draw and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("results/rdp"))
    parser.add_argument("--data", type=Path, default=None, help="pictures of which to fit a model")
    a = parser.parse_args(arguments)
    torch.set_num_threads(1)
    figures: dict = {"environment": environment()}
    write(a.out / "table.md", tables(figures))
    curves(a.out)
    figures["share_of_map_told_wrong"] = maps(a.out)
    if a.data is not None:
        figures["link_limit"] = links(a.data, a.out)
    write(a.out / "table.json", json.dumps(figures, indent=1) + "\n")
    print(
        json.dumps(
            {name: value for name, value in figures.items() if name.startswith(("fur", "lar", "share"))}
        )
    )


if __name__ == "__main__":
    run_script(main)
