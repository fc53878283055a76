"""Is the loss of a language model bounded below by 1 nat? And what do networks store of their training data?

Run:     python scripts/loss_plateau.py
         --parts plateau,capacity,radius,neighbours,figures chooses parts; each writes a table of its own
Needs:   for `radius` any text (--text), for `neighbours` ../shared/data/photos/train and val
Cost:    22 minutes of --seconds, 3 of the capacity, 8 of the rest, of a third of a core; more is better
Expect:  the tables of results/loss_plateau/README.md

plateau: three regular grammars of 68 words with entropy rates of exactly 0.4, 1.0 and 1.6 nats per word.
capacity: bits that small transformers store of uniformly random sequences, against their number of weights.
radius: distances of last-layer vectors of the shipped language model, beside Gaussian vectors.
neighbours: distances of pictures by a generative receiver to the training set of its prior.
"""

import argparse
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from channels import AWGN, NamedStreams, transmit
from semcom import names
from semcom.data import load_image, picture_files
from semcom.errors import InvalidSource
from semcom.experiment import at_least, chosen_of, read_rows, run_script, write, write_figure, write_rows
from semcom.memory.memorisation import (
    Grammar,
    gaussian_like,
    nearest_distances,
    neighbour_ratios,
    unit_volume_radius,
)
from semcom.modalities import TEXT
from semcom.training.grammars import capacity, plateau
from semcom.transmission import Transmission

PARTS = ("plateau", "capacity", "radius", "neighbours", "figures")
ENTROPIES = (0.4, 1.0, 1.6)
WIDTHS = (8, 16, 32)
LOADS = (1.5, 3.0, 6.0)
"""Bits offered per weight."""
SHARES = (0.25, 0.5, 0.75, 1.0)
SIDE, COARSE, STEP = 64, 16, 32
"""Side of the windows in pixels, side after averaging, and distance of the windows in pixels."""
RECEIVERS = ("posterior:4", "diffpir:8")

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", type=chosen_of(PARTS), default=PARTS)
    parser.add_argument(
        "--seconds", type=durations, default=(360.0, 600.0, 360.0), help="of training, by grammar"
    )
    parser.add_argument("--capacity-seconds", type=float, default=20.0, help="of training, per point")
    parser.add_argument("--batch", type=at_least(1), default=16)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--text", type=Path, default=None, help="a text; by default one of the package")
    parser.add_argument("--vectors", type=at_least(2), default=20_000)
    parser.add_argument("--train", type=Path, default=Path("../shared/data/photos/train"))
    parser.add_argument("--val", type=Path, default=Path("../shared/data/photos/val"))
    parser.add_argument("--pictures", type=at_least(1), default=24)
    parser.add_argument("--work", type=Path, default=None, help="folder of checkpoints")
    parser.add_argument("--out", type=Path, default=Path("results/loss_plateau"))
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    parts = chosen.parts
    with tempfile.TemporaryDirectory() as temporary:
        work = chosen.work or Path(temporary)
        if "plateau" in parts:
            plateaus(chosen, work)
        if "capacity" in parts:
            capacities(chosen, work)
    if "radius" in parts:
        radius(chosen)
    if "neighbours" in parts:
        neighbours(chosen)
    if "figures" in parts:
        figures(chosen.out)


def durations(text: str) -> tuple[float, ...]:
    """Seconds of training of each grammar, with commas between them."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: give numbers with commas between them") from None
    if len(found) != len(ENTROPIES) or not all(0 < seconds < math.inf for seconds in found):
        raise argparse.ArgumentTypeError(f"{text!r}: give {len(ENTROPIES)} finite numbers above 0")
    return found


def plateaus(chosen: argparse.Namespace, work: Path) -> None:
    """Train on the three grammars."""
    rows, curves = [], []
    for entropy, seconds in zip(ENTROPIES, chosen.seconds, strict=True):
        folder = work / f"grammar-{entropy:g}"
        found = plateau(Grammar(entropy), seconds, folder, chosen.tokens, batch=chosen.batch)
        rows.append(asdict(found))
        print(found, flush=True)
        curves += [{"entropy": entropy, **row} for row in read_rows(folder / "curve.csv")]
    write_rows(chosen.out / "plateau.csv", rows)
    write_rows(chosen.out / "curves.csv", curves)
    lines = [
        "| entropy rate | loss on training set | loss on new sequences | above the entropy rate "
        "| true probabilities on the same sequences | steps |",
        "| --- " * 6 + "|",
        *(
            f"| {r['entropy']:g} nats | {r['training_nats']:.4f} | {r['held_out_nats']:.4f} "
            f"| {r['held_out_nats'] / r['entropy'] - 1:+.1%} | {r['ideal_nats']:.4f} | {r['steps']} |"
            for r in rows
        ),
    ]
    write(chosen.out / "plateau.md", "\n".join(lines) + "\n")


def capacities(chosen: argparse.Namespace, work: Path) -> None:
    """Bits stored by transformers of several widths at several loads."""
    rows = []
    for width in WIDTHS:
        weights = capacity(width, 2, 0.01, work / f"size-{width}").parameters
        for load in LOADS:
            sequences = round(load * weights / (15 * math.log2(68)))
            found = capacity(width, sequences, chosen.capacity_seconds, work / f"capacity-{width}-{load:g}")
            rows.append({"width": width, "load": load, **asdict(found)})
            print(rows[-1], flush=True)
    write_rows(chosen.out / "capacity.csv", rows)
    lines = [
        "| width | weights N | sequences d | bits offered per weight | bits stored per weight | share stored "
        "| gap to new sequences | steps |",
        "| --- " * 8 + "|",
        *(
            f"| {r['width']} | {r['parameters']} | {r['sequences']} "
            f"| {r['offered_bits'] / r['parameters']:.2f} | {r['bits'] / r['parameters']:.2f} "
            f"| {r['bits'] / r['offered_bits']:.2f} | {r['gap_nats']:.2f} nats | {r['steps']} |"
            for r in rows
        ),
        "",
        fit_line(rows),
    ]
    write(chosen.out / "capacity.md", "\n".join(lines) + "\n")


def fit_line(rows: Sequence[Row]) -> str:
    """Exponent of the capacity in N, capacity being the most that a size stored."""
    best: dict[int, float] = {}
    for row in rows:
        weights = int(row["parameters"])
        best[weights] = max(best.get(weights, -math.inf), float(row["bits"]))
    x, y = np.log(list(best)), np.log(list(best.values()))
    slope, offset = np.polyfit(x, y, 1)
    residual = y - slope * x - offset
    error = math.sqrt(float(residual @ residual) / max(len(x) - 2, 1) / float(((x - x.mean()) ** 2).sum()))
    per_weight = ", ".join(f"{bits / n:.2f}" for n, bits in best.items())
    return (
        f"Capacity = most bits stored by a size. Fit over {len(best)} sizes: bits ~ N^{slope:.2f}, "
        f"standard error {error:.2f}; bits per weight {per_weight}."
    )


@torch.no_grad()
def last_layer_vectors(text: str, count: int) -> Tensor:
    """Vectors of the last layer of the shipped language model, one per token of a text."""
    from semcom.text.lm import load

    lm = load("tiny")
    tokens = lm.encode(text)[:count]
    length = lm.window
    rows = [tokens[i : i + length] for i in range(0, len(tokens) - length + 1, length)]
    found = [
        lm.model(input_ids=torch.tensor([row]), output_hidden_states=True).hidden_states[-1][0].float()
        for row in rows
    ]
    if not found:
        raise InvalidSource(f"{len(tokens)} tokens: give a text, and --vectors, of at least {length}")
    return torch.cat(found)


def radius(chosen: argparse.Namespace) -> None:
    """Distances to the nearest neighbour against the share of the vectors, beside the Gaussian control."""
    if chosen.text is None:
        text = "\n".join(path.read_text() for path in sorted(Path(__file__).parents[1].rglob("*.md")))
    else:
        text = TEXT.read(chosen.text).x
    vectors = last_layer_vectors(text, chosen.vectors)
    control = gaussian_like(vectors)
    dims = vectors.shape[1]
    order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0))
    rows = []
    for share in SHARES:
        part = order[: round(share * len(vectors))]
        for name, kind in (("language model", vectors), ("Gaussian", control)):
            chosen_part = kind[part]
            far = nearest_distances(chosen_part, chosen_part, 1)[:, 0]
            spread = (chosen_part - chosen_part.mean(0)).square().sum(1).mean().sqrt()
            rows.append(
                {
                    "vectors": name,
                    "share": share,
                    "count": len(part),
                    "dims": dims,
                    "mean": float(far.mean()),
                    "median": float(far.median()),
                    "tenth": float(far.quantile(0.1)),
                    "distance_from_mean": float(spread),
                    "predicted": 2 * unit_volume_radius(dims),
                    "predicted_stirling": 2 * math.sqrt(dims / (2 * math.pi * math.e)),
                }
            )
    write_rows(chosen.out / "radius.csv", rows)
    lines = [
        "| share of vectors | vectors | nearest neighbour: mean | median | predicted 2 r "
        "| distance from the mean |",
        "| --- " * 6 + "|",
        *(
            f"| {r['share']:.0%} ({r['count']}) | {r['vectors']} | {r['mean']:.3f} | {r['median']:.3f} "
            f"| {r['predicted']:.3f} | {r['distance_from_mean']:.3f} |"
            for r in rows
        ),
    ]
    write(chosen.out / "radius.md", "\n".join(lines) + "\n")


def windows(folder: Path, count: int | None) -> Tensor:
    """Windows of the pictures of a folder: all, averaged to 16 x 16, or one of 64 x 64 of `count` of them."""
    found = []
    files = picture_files(folder)
    for file in files if count is None else files[:: max(1, len(files) // count)][:count]:
        x = load_image(file).x
        if count is not None:
            top, left = ((extent - SIDE) // 2 // STEP * STEP for extent in x.shape[2:])
            found.append(x[:, :, top : top + SIDE, left : left + SIDE])
            continue
        step = STEP * COARSE // SIDE
        tiles = avg_pool2d(x, SIDE // COARSE).unfold(2, COARSE, step).unfold(3, COARSE, step)
        found.append(tiles.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, COARSE, COARSE))
    return torch.cat(found)


def described(x: Tensor) -> Tensor:
    """Coarse windows as vectors without their mean, of unit length."""
    small = avg_pool2d(x, x.shape[3] // COARSE).flatten(1)
    small = small - small.mean(1, keepdim=True)
    return small / small.norm(dim=1, keepdim=True).clamp_min(1e-6)


def neighbours(chosen: argparse.Namespace) -> None:
    """Ratios of first and second neighbours in the training set, of originals and of what receivers show."""
    known = described(windows(chosen.train, None))
    print(len(known), "windows of the training set", flush=True)
    sets = {
        "training pictures": windows(chosen.train, chosen.pictures),
        "held-out pictures": windows(chosen.val, chosen.pictures),
    }
    rows = []
    transmission = names.scheme("deepjscc").transmission
    assert isinstance(transmission, Transmission)
    receivers = {name: names.receiver(name) for name in RECEIVERS}
    for about, pictures in sets.items():
        for rho, snr_db in ((192, 0.0), (48, 0.0)):
            shown: dict[str, list[Tensor]] = {"originals": [], "deepjscc": [], **{r: [] for r in RECEIVERS}}
            for number, x in enumerate(pictures.split(1)):
                sent = transmission.send(x.clone(), x.numel() // rho, None)
                received = transmit(
                    AWGN(), sent.symbols, torch.tensor([snr_db]), NamedStreams(number, ("noise",))
                )
                (observed,) = transmission.receive(received, tuple(x.shape), sent.symbols.shape[1])
                assert observed.shown is not None
                shown["originals"].append(x)
                shown["deepjscc"].append(observed.shown)
                for name, receiver in receivers.items():
                    rng = NamedStreams(number, ("receiver",))
                    refined = receiver(observed, tuple(x.shape), rng)
                    assert refined is not None
                    shown[name].append(refined)
            for name, kind in shown.items():
                x_hat = torch.cat(kind)
                queries = described(x_hat)
                far = nearest_distances(queries, known)
                ratios = neighbour_ratios(queries, known)
                error = (x_hat - pictures).square().flatten(1).mean(1)
                for i in range(len(pictures)):
                    rows.append(
                        {
                            "pictures": about,
                            "rho": f"1/{rho}",
                            "snr_db": snr_db,
                            "shown": name,
                            "picture": i,
                            "nearest": float(far[i, 0]),
                            "ratio": float(ratios[i]),
                            "psnr_db": -10 * math.log10(max(float(error[i]), 1e-10)),
                        }
                    )
            print(about, rho, flush=True)
    write_rows(chosen.out / "neighbours.csv", rows)
    write(chosen.out / "neighbours.md", neighbours_table(rows))


def neighbours_table(rows: Sequence[Row]) -> str:
    """Means with standard errors."""
    lines = [
        "| shown | rho | nearest: training, held out | ratio: training, held out "
        "| PSNR: training, held out |",
        "| --- " * 5 + "|",
    ]
    for name in dict.fromkeys(r["shown"] for r in rows):
        for rho in dict.fromkeys(r["rho"] for r in rows):
            cells = []
            for column, unit in (("nearest", ""), ("ratio", ""), ("psnr_db", " dB")):
                parts = []
                for about in ("training pictures", "held-out pictures"):
                    values = np.array(
                        [
                            float(r[column])
                            for r in rows
                            if (r["shown"], r["rho"], r["pictures"]) == (name, rho, about)
                        ]
                    )
                    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
                    parts.append(f"{values.mean():.3f} +- {error:.3f}{unit}")
                cells.append(", ".join(parts))
            lines.append(f"| {name} | {rho} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def figures(out: Path) -> None:
    """Curves of the tables in a folder."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    curves = read_rows(out / "curves.csv")
    for number, entropy in enumerate(ENTROPIES):
        rows = [r for r in curves if float(r["entropy"]) == entropy]
        left.plot(
            [float(r["step"]) for r in rows],
            [-float(r["score"]) for r in rows],
            color=f"C{number}",
            marker="o",
            ms=3,
            label=f"source of {entropy:g} nats",
        )
        left.axhline(entropy, color=f"C{number}", lw=0.8, ls="--")
    left.axhline(1.0, color="k", lw=1.2, ls=":", label="claimed floor of 1")
    left.set_ylim(0, 2.6)
    left.set_xlabel("training step")
    left.set_ylabel("loss on new sequences, nats per word")
    left.legend(fontsize=7)
    left.grid(alpha=0.3)
    rows = read_rows(out / "capacity.csv")
    for number, width in enumerate(dict.fromkeys(r["width"] for r in rows)):
        part = [r for r in rows if r["width"] == width]
        weights = float(part[0]["parameters"])
        right.plot(
            [float(r["offered_bits"]) / weights for r in part],
            [float(r["bits"]) / weights for r in part],
            color=f"C{number}",
            marker="o",
            ms=3,
            label=f"N = {weights:.0f}",
        )
    right.plot([0, 8], [0, 8], "k:", lw=1, label="all of it")
    right.set_ylim(-0.2, 5)
    right.set_xlabel("bits offered per weight")
    right.set_ylabel("bits stored per weight")
    right.legend(fontsize=7)
    right.grid(alpha=0.3)
    write_figure(out / "plateau.svg", figure)


if __name__ == "__main__":
    run_script(main)
