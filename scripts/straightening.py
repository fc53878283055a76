"""Objectives of straightening compared: six objectives, several seeds, unseen moving shapes.

Run:     python scripts/straightening.py
         killed, the same command goes on after the last whole training, one per objective and seed
Cost:    see results/straightening/README.md
Expect:  see results/straightening/README.md
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from semcom.errors import InvalidOption
from semcom.experiment import at_least, run_script, write, write_figure
from semcom.representation.sequences import MovingShapes
from semcom.representation.straightening import OBJECTIVES, StraightAutoencoder, encoded
from semcom.representation.straightness import (
    RidgeDecoder,
    attacked,
    difference_geometry,
    effective_dimension,
    extrapolated,
    extrapolation_ratios,
    straightness,
    straightness_by_layer,
)
from semcom.surroundings import library_defaults
from semcom.training.straightening import compare

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LENGTH, FITTED, TESTED, ATTACKED = 6, 512, 256, 64
NOISES = (0.1, 0.2, 0.4)
RADII = (0.005, 0.02)
FIT_SEED, TEST_SEED, NOISE_SEED = 10_001, 10_002, 10_003  # trainings draw from seeds of their own streams
BINS = 40
PAIRS = {"parallel": "one direction, one shape", "orthogonal": "right angles"}


def measured(network: StraightAutoencoder) -> dict[str, Any]:
    """All measures of an encoder of grey frames, on sequences of seeds that no training has seen."""
    source = MovingShapes()
    fitted = source.draw(FITTED, LENGTH, torch.Generator().manual_seed(FIT_SEED))
    tested = source.draw(TESTED, LENGTH, torch.Generator().manual_seed(TEST_SEED))
    with torch.no_grad():
        z_fit, z = encoded(network, fitted.frames), encoded(network, tested.frames)
    places = tested.attributes[..., :2]
    decoder = RidgeDecoder.fit(z_fit, fitted.attributes[..., :2])
    sizes = RidgeDecoder.fit(z_fit, fitted.attributes[..., 2:3])
    kinds = RidgeDecoder.fit(z_fit, _one_hot(fitted.kind, LENGTH))
    right = kinds(z).argmax(-1) == tested.kind[:, None]
    linear, copied = extrapolation_ratios(z)
    found: dict[str, Any] = {
        "straightness_layers": straightness_by_layer(network.encoder, tested.frames),
        "straightness": straightness(z),
        "extrapolation_error": linear,
        "copy_error": copied,
        "r2": decoder.r2(z, places),
        "r2_next_linear": decoder.r2(extrapolated(z), places[:, 2:]),
        "r2_next_true": decoder.r2(z[:, 2:], places[:, 2:]),
        "r2_size": sizes.r2(z, tested.attributes[..., 2:3]),
        "kind_accuracy": float(right.float().mean()),
        "effective_dimension": effective_dimension(z),
    }
    generator = torch.Generator().manual_seed(NOISE_SEED)
    noise = torch.randn(tested.frames.shape, generator=generator)
    with torch.no_grad():
        for std in NOISES:
            found[f"r2_noise_{std}"] = decoder.r2(encoded(network, tested.frames + std * noise), places)
    few, few_places = tested.frames[:ATTACKED].flatten(0, 1), places[:ATTACKED].flatten(0, 1)
    with torch.no_grad():
        found["r2_attacked_0"] = decoder.r2(network.encode(few), few_places)
    for radius in RADII:
        moved = attacked(network.encode, decoder, few, few_places, radius)
        with torch.no_grad():
            found[f"r2_attacked_{radius}"] = decoder.r2(network.encode(moved), few_places)
    geometry = difference_geometry(z, places, tested.kind)
    for name in PAIRS:
        cosines: Tensor = getattr(geometry, name)
        found[f"cosine_{name}"] = float(cosines.mean())
        counts = np.histogram(cosines.numpy(), BINS, (-1, 1))[0]
        found[f"histogram_{name}"] = (counts / counts.sum()).round(5).tolist()
    found["cosine_to_classes"] = float(geometry.to_classes.mean())
    return found


def _one_hot(kind: Tensor, length: int) -> Tensor:
    return torch.nn.functional.one_hot(kind, 3).float()[:, None].expand(-1, length, -1)


COLUMNS = {
    "S pixels": lambda row: row["straightness_layers"][0],
    "S latent": lambda row: row["straightness"],
    "extrapolation error": lambda row: row["extrapolation_error"],
    "copy error": lambda row: row["copy_error"],
    "R2": lambda row: row["r2"],
    "R2, noise 0.2": lambda row: row["r2_noise_0.2"],
    "R2, attack 0.005": lambda row: row["r2_attacked_0.005"],
    "R2 next": lambda row: row["r2_next_linear"],
    "R2 next, true latent": lambda row: row["r2_next_true"],
    "shape right": lambda row: row["kind_accuracy"],
    "dimension": lambda row: row["effective_dimension"],
    "cosine parallel": lambda row: row["cosine_parallel"],
    "cosine right angles": lambda row: row["cosine_orthogonal"],
    "to class vectors": lambda row: row["cosine_to_classes"],
}


def spread(values: Sequence[float]) -> str:
    """Mean and the range over the seeds."""
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: mean and range over the seeds, and the criteria of reproduction."""
    lines = [f"| objective | {' | '.join(COLUMNS)} | seeds |", "| --- " * (len(COLUMNS) + 2) + "|"]
    for name in OBJECTIVES:
        own = [row for row in rows if row["objective"] == name]
        if own:
            cells = [spread([of(row) for row in own]) for of in COLUMNS.values()]
            lines.append(f"| {name} | {' | '.join(cells)} | {len(own)} |")
    return "\n".join([*lines, "", *criteria(rows)]) + "\n"


def criteria(rows: Sequence[dict[str, Any]]) -> list[str]:
    """One line per criterion: what was asked for, and the values of all seeds."""

    def values(objective: str, column: str) -> dict[int, float]:
        return {row["seed"]: COLUMNS[column](row) for row in rows if row["objective"] == objective}

    def line(asked: str, found: Sequence[float], met: bool) -> str:
        listed = ", ".join(f"{value:.3f}" for value in found)
        return f"| {asked} | {listed} | {('yes' if met else 'no') if found else 'not trained'} |"

    lines = ["| criterion | seeds | met |", "| --- | --- | --- |"]
    pixels = list(values("cosine", "S pixels").values())
    lines.append(line("S of pixels <= 0.2", pixels, max(pixels, default=1) <= 0.2))
    plain = list(values("regularisers", "S latent").values())
    lines.append(line("S, regularisers alone <= 0.5", plain, max(plain, default=1) <= 0.5))
    for name in ("cosine", "cosine-speed", "second-difference"):
        straight = list(values(name, "S latent").values())
        lines.append(line(f"S, {name} >= 0.7", straight, min(straight, default=0) >= 0.7))
        true, linear = values(name, "R2 next, true latent"), values(name, "R2 next")
        gaps = [true[seed] - linear[seed] for seed in true]
        lines.append(line(f"R2 of the next place, {name}: loss <= 0.03", gaps, max(gaps, default=1) <= 0.03))
        drop = _drops(rows, name)
        lines.append(
            line(f"loss of R2 at noise 0.2, invariance less {name} >= 0.1", drop, min(drop, default=0) >= 0.1)
        )
    bare = list(values("cosine-unregularised", "dimension").values())
    lines.append(line("dimension without regularisers <= 3", bare, max(bare, default=9) <= 3))
    return lines


def _drops(rows: Sequence[dict[str, Any]], name: str) -> list[float]:
    """Loss of R2 by noise with invariance, less that with another objective, seed by seed."""
    losses = {
        (row["objective"], row["seed"]): row["r2"] - row["r2_noise_0.2"]
        for row in rows
        if row["objective"] in (name, "invariance")
    }
    seeds = sorted({seed for objective, seed in losses if objective == name})
    return [
        losses["invariance", seed] - losses[name, seed] for seed in seeds if ("invariance", seed) in losses
    ]


def figure(rows: Sequence[dict[str, Any]]) -> "Figure":
    """Straightness by layer, loss of decoding by noise, and cosines of difference vectors."""
    from matplotlib.figure import Figure

    from semcom.plots import COLORS

    drawn = Figure(figsize=(12, 3.6), layout="constrained")
    by_layer, by_noise, by_pair = drawn.subplots(1, 3)
    layers = ("pixels", "conv 1", "conv 2", "conv 3", "conv 4", "latent")
    for name, color in zip(OBJECTIVES, COLORS, strict=False):
        own = [row for row in rows if row["objective"] == name]
        if not own:
            continue
        by_layer.plot(
            layers, np.mean([row["straightness_layers"] for row in own], 0), "o-", color=color, label=name
        )
        noisy = [[row["r2"], *(row[f"r2_noise_{std}"] for std in NOISES)] for row in own]
        by_noise.plot((0, *NOISES), np.mean(noisy, 0), "o-", color=color, label=name)
    by_layer.set_ylabel("straightness S")
    by_layer.legend(fontsize=7)
    by_noise.set_xlabel("standard deviation of pixel noise")
    by_noise.set_ylabel("R² of place")
    by_noise.set_ylim(0, 1.02)
    edges = np.linspace(-1, 1, BINS + 1)
    for objective, style in (("second-difference", "-"), ("invariance", ":")):
        for (pair, about), color in zip(PAIRS.items(), COLORS, strict=False):
            own = [row[f"histogram_{pair}"] for row in rows if row["objective"] == objective]
            if own:
                by_pair.stairs(
                    np.mean(own, 0), edges, color=color, linestyle=style, label=f"{about}, {objective}"
                )
    by_pair.set_xlabel("cosine of two difference vectors")
    by_pair.set_ylabel("share of pairs")
    by_pair.set_ylim(0, 1.3 * by_pair.get_ylim()[1])
    by_pair.legend(fontsize=7)
    return drawn


def main() -> None:
    """Parse, train and measure what is missing, write rows, table and figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("results/straightening"))
    add("--work", type=Path, default=Path(".cache/straightening"), help="folder of checkpoints")
    add("--seeds", nargs="+", type=at_least(0), default=[0, 1, 2])
    add("--objectives", nargs="+", choices=list(OBJECTIVES), default=list(OBJECTIVES))
    add("--steps", type=at_least(1), default=500)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "rows.jsonl"
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    if others := {row["steps"] for row in rows} - {options.steps}:
        was = f"{kept} has trainings of {others.pop()} steps, not {options.steps}"
        raise InvalidOption(f"{was}: name another --out")
    done = {(row["objective"], row["seed"]) for row in rows}
    for seed in options.seeds:
        for objective in options.objectives:
            if (objective, seed) in done:
                continue
            network = compare(objective, seed, options.steps, options.work / f"{objective}-{seed}")
            with library_defaults():
                row = {"objective": objective, "seed": seed, "steps": options.steps, **measured(network)}
            rows.append(row)
            write(kept, "".join(json.dumps(row) + "\n" for row in rows))
            print(f"{objective}, seed {seed}: S {row['straightness']:.3f}, R2 {row['r2']:.3f}", flush=True)
    write(options.out / "table.md", table(rows))
    write_figure(options.out / "straightening.svg", figure(rows))
    print((options.out / "table.md").read_text())


if __name__ == "__main__":
    run_script(main)
