"""Perception against distortion at fixed channel, rho and SNR: knobs as curves, frontiers, a toy with theory.

Run:     python scripts/plot_perception_distortion.py            (from records of a sweep; seconds)
         python scripts/plot_perception_distortion.py --toy      (about 4 minutes of one core)
Expect:  see results/perception_distortion/README.md; --toy: within 3.5 standard errors of theory, except
         DDRM, which does not sample the posterior

From records: PSNR against LPIPS and the sliced Wasserstein distance for all schemes, at every point of the
sweep; the settings of one receiver's knob are connected, and so are the schemes that no mixture of others
matches.

The toy is a Gaussian picture over AWGN, whose trade-off is known (Freirich, Michaeli and Meir 2021): at W2
distance P from the distribution of pictures, no reconstruction has less squared error than
D(P) = D* + max(W2* - P, 0)^2. What reaches it lies between the posterior mean x* and the optimal transport
of x* to the distribution of pictures, a linear map of x* that draws nothing. Our knob lies between x* and a
sample of the posterior: D* (1 + knob^2), which ends at 2 D*, above D* + W2*^2. The mean of n samples is that
of knob 1 / sqrt(n).
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from channels import NamedStreams
from semcom.budget import parse_rho
from semcom.columns import Column
from semcom.denoisers import GaussianDenoiser
from semcom.errors import StoreError
from semcom.experiment import run_script, write, write_figure
from semcom.observation import Linear, Observation
from semcom.operators import Identity
from semcom.plots import KnobCurve, ReferenceLine, frontier_schemes, knob_curves, perception_distortion
from semcom.provenance import environment
from semcom.receivers.ddrm import DDRM
from semcom.receivers.generative import Generative
from semcom.receivers.posterior import Posterior
from semcom.samplers import FromNoise, Matched
from semcom.statistics import summarise
from semcom.theory.perception_distortion import GaussianTradeoff, gaussian_w2

if TYPE_CHECKING:
    import pandas as pd

PERCEPTION = ("lpips_squeeze", "swd")

# The toy: blocks of 2x2 pixels are independent, the 12 values of one have variance 1 in units of STD.
PICTURES, SIDE = 16, 64
STD = 0.1  # of pictures in [0, 1] around 0.5: 5 deviations to either limit
ALONG, ACROSS_COLORS = 0.8, 0.6  # correlation of neighbours, of colours
SNR_DB = 0.0  # two values per symbol, uncoded: noise of the same variance
LEVELS, SOLVER_STEPS = 1000, 6  # as many as the covariance has eigenvalues
KNOBS = (0.0, 0.25, 0.5, 1.0)
DDRM_SAMPLES, DDRM_LEVELS = (1, 2, 4, 8), 100


@dataclass(frozen=True, eq=False)
class BlockDenoiser:
    """Exact for independent blocks of 2x2 pixels."""

    block: GaussianDenoiser

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Posterior mean."""
        folded = pixel_unshuffle(x, 2)
        rows = folded.movedim(1, 3)
        answers = self.block(rows.reshape(-1, 12), sigma.repeat_interleave(rows[0, ..., 0].numel()))
        return pixel_shuffle(answers.reshape(rows.shape).movedim(3, 1), 2)


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the blocks of some pictures, in units of STD; moments follow."""

    count: float
    squared_error: float
    shown: np.ndarray
    shown_products: np.ndarray
    true: np.ndarray
    true_products: np.ndarray

    @classmethod
    def of(cls, shown: Tensor, true: Tensor) -> "Sums":
        """Of one picture."""
        r, x = in_blocks(shown), in_blocks(true)
        return cls(len(r), ((r - x) ** 2).sum(), r.sum(0), r.T @ r, x.sum(0), x.T @ x)

    def plus(self, other: "Sums", sign: float = 1.0) -> "Sums":
        """Of both."""
        return Sums(*(a + sign * b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def mse(self) -> float:
        """Per value."""
        return self.squared_error / self.count / len(self.shown)

    def squared_w2(self) -> float:
        """Per value, of Gaussians with these moments."""
        means = self.shown / self.count, self.true / self.count
        products = self.shown_products / self.count, self.true_products / self.count
        own, other = (p - np.outer(m, m) for p, m in zip(products, means, strict=True))
        return gaussian_w2(means[0], own, means[1], other) ** 2 / len(self.shown)

    def w2(self) -> float:
        """Its root."""
        return self.squared_w2() ** 0.5


def in_blocks(x: Tensor) -> np.ndarray:
    """One row per block of 2x2 pixels, centred, in units of STD."""
    rows = pixel_unshuffle(x.double(), 2).movedim(1, 3).reshape(-1, 12)
    return ((rows - 0.5) / STD).numpy()


def from_blocks(rows: np.ndarray, side: int) -> Tensor:
    """The opposite."""
    half = side // 2
    folded = torch.from_numpy(rows * STD + 0.5).float().reshape(-1, half, half, 12)
    return pixel_shuffle(folded.movedim(3, 1), 2)


def pseudo_values(pictures: Sequence[Sums], measure: Callable[[Sums], float]) -> np.ndarray:
    """Of the jackknife over pictures: their mean is the measure with less bias, their spread its error."""
    total = pictures[0]
    for picture in pictures[1:]:
        total = total.plus(picture)
    n = len(pictures)
    return np.array([n * measure(total) - (n - 1) * measure(total.plus(one, -1.0)) for one in pictures])


def toy_covariance() -> np.ndarray:
    """Of the 12 values of a block, each of variance 1."""
    line = np.array([[1.0, ALONG], [ALONG, 1.0]])
    colors = np.full((3, 3), ACROSS_COLORS) + (1 - ACROSS_COLORS) * np.eye(3)
    return np.kron(colors, np.kron(line, line))


def toy(out: Path) -> None:
    """Receivers with the exact denoiser beside theory: a figure, a table and, per picture, toy.csv."""
    import pandas as pd

    covariance = toy_covariance()
    noise_std = 10 ** (-SNR_DB / 20)
    theory = GaussianTradeoff.observed(covariance, np.eye(12), noise_std)
    items = tuple(f"toy{i:02d}" for i in range(PICTURES))
    rng = NamedStreams(0, items)
    white = in_blocks(0.5 + STD * rng.normal("picture", (3, SIDE, SIDE)))
    x = from_blocks(white @ np.linalg.cholesky(covariance).T, SIDE)
    y = x + noise_std * STD * rng.normal("channel", (3, SIDE, SIDE))
    evidence = [Linear(y[i : i + 1], Identity(), noise_std * STD) for i in range(PICTURES)]

    prior = GaussianDenoiser(torch.zeros(12), torch.from_numpy((2 * STD) ** 2 * covariance).float())
    denoiser = BlockDenoiser(prior)
    posterior = partial(
        Generative,
        Posterior(denoiser, Matched(LEVELS, smallest=0.002, power=7.0), SOLVER_STEPS),
        tables={},
    )
    ddrm = partial(Generative, DDRM(denoiser, FromNoise(DDRM_LEVELS)), tables={})
    shown: dict[str, tuple[Tensor, float, float]] = {}  # picture, and expected error and distance

    def show(receiver: Generative, knob: float) -> str:
        name = f"toy+{receiver.name}"
        pictures = [
            receiver(Observation(linear.y, (linear,)), tuple(linear.y.shape), rng.select([i]))
            for i, linear in enumerate(evidence)
        ]
        shown[name] = torch.cat(pictures), theory.sample_mse(knob), theory.sample_w2(knob)
        return name

    of_knob = tuple(show(posterior(knob), knob) for knob in KNOBS)
    show(posterior(samples=4), 0.5)
    of_samples = tuple(show(ddrm(samples=n), n**-0.5) for n in DDRM_SAMPLES)
    mean = in_blocks(shown[of_knob[0]][0])
    of_transport = []
    for knob in KNOBS[1:]:
        w2 = (1 - knob) * theory.largest_w2
        moved = mean + knob * (mean @ theory.transport - mean)
        of_transport.append(f"optimal transport, knob {knob:g}")
        shown[of_transport[-1]] = from_blocks(moved, SIDE), float(theory.frontier_mse(w2)), w2

    rows, records = [], []
    for name, (picture, expected_mse, expected_w2) in shown.items():
        sums = [Sums.of(picture[i : i + 1], x[i : i + 1]) for i in range(PICTURES)]
        mse, w2, squared = (pseudo_values(sums, f) for f in (Sums.mse, Sums.w2, Sums.squared_w2))
        cells = [name, *compared(mse, expected_mse / 12), *compared(squared, expected_w2**2 / 12)]
        rows.append(f"| {' | '.join(cells)} |")
        point = {"scheme": name, "channel": "awgn", "rho": 0.5, "snr_db": SNR_DB, "outage": 0}
        records += [
            point | {"item": item, "mse": a, "w2": b, "w2_squared": c}
            for item, a, b, c in zip(items, mse, w2, squared, strict=True)
        ]
    frame = pd.DataFrame(records)
    write(out / "toy.csv", frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    write(out / "toy.md", toy_table(theory, rows))
    write(out / "toy.json", json.dumps(environment(), indent=1) + "\n")
    write_figure(out / "toy.svg", toy_figure(frame, theory, of_knob, of_transport, of_samples))
    print(f"{len(shown)} reconstructions of {PICTURES} pictures in {out}/toy.*")


def compared(values: np.ndarray, expected: float) -> list[str]:
    """Mean, expected, and the deviation in standard errors."""
    error = values.std(ddof=1) / len(values) ** 0.5
    deviation = values.mean() - expected
    return [f"{values.mean():.4f}", f"{expected:.4f}", f"{deviation:+.4f} ± {error:.4f}"]


def toy_table(theory: GaussianTradeoff, rows: Sequence[str]) -> str:
    """Markdown."""
    least, largest = theory.least_mse / 12, theory.largest_w2**2 / 12
    columns = ("reconstruction", "MSE", "theory", "deviation ± s.e.", "W2²", "theory", "deviation ± s.e.")
    return (
        f"# A Gaussian picture over AWGN at {SNR_DB:g} dB\n\n"
        "Per value, in units of the variance of the picture; jackknife over pictures. Posterior mean: "
        f"D* = {least:.4f}, W2*² = {largest:.4f}.\nPerfect realism costs D* + W2*² = {least + largest:.4f} "
        f"by optimal transport of the posterior mean, 2 D* = {2 * least:.4f} by a sample of the posterior.\n"
        "Theory is that of exact samples, which DDRM does not draw; n samples averaged are knob 1/√n.\n\n"
        f"| {' | '.join(columns)} |\n{'| --- ' * len(columns)}|\n" + "\n".join(rows) + "\n"
    )


def toy_figure(
    frame: "pd.DataFrame",
    theory: GaussianTradeoff,
    of_knob: Sequence[str],
    of_transport: Sequence[str],
    of_samples: Sequence[str],
):
    """The plane, with both curves of theory."""
    root = 12**0.5
    w2 = np.linspace(0, theory.largest_w2, 50).tolist()
    knobs = np.linspace(0, 1, 50).tolist()
    best = [float(theory.frontier_mse(p)) / 12 for p in w2]
    sample = [theory.sample_mse(knob) / 12 for knob in knobs]
    references = (
        ReferenceLine("theory: frontier, D* + (W2* - W2)²", best, [p / root for p in w2]),
        ReferenceLine(
            "theory: sample, D* (1 + knob²)", sample, [theory.sample_w2(knob) / root for knob in knobs]
        ),
    )
    settings = tuple(f"{knob:g}" for knob in KNOBS)
    averaged = tuple(map(str, DDRM_SAMPLES))
    curves = (
        KnobCurve("posterior, knob", tuple(of_knob), settings),
        KnobCurve("optimal transport of the mean, knob", (of_knob[0], *of_transport), ("", *settings[1:])),
        KnobCurve("DDRM, samples averaged", tuple(of_samples), averaged),
    )
    return perception_distortion(
        frame,
        "1/2",
        SNR_DB,
        "awgn",
        "mse",
        "w2",
        curves=curves,
        references=references,
        columns={name: Column(name, higher_is_better=False) for name in ("mse", "w2")},
    )


def planes(records: "pd.DataFrame", out: Path) -> None:
    """A plane per point and measure of perception that the records have, and a table of frontiers."""
    curves = knob_curves(records["scheme"].unique())
    measures = [name for name in PERCEPTION if name in records]
    parts = ["# Schemes that no mixture of others matches in both means, from the best PSNR on\n"]
    for perception in measures:
        heads = ("channel", "rho", "SNR", "frontier")
        parts.append(
            f"\n## PSNR in dB and {perception}\n\n| {' | '.join(heads)} |\n{'| --- ' * len(heads)}|\n"
        )
        points = records[["channel", "rho", "snr_db"]].drop_duplicates()
        for channel, rho, snr_db in sorted(points.itertuples(index=False, name=None)):
            ratio = parse_rho(rho)
            figure = perception_distortion(
                records, ratio, snr_db, channel, perception=perception, curves=curves, frontier=True
            )
            stem = f"plane_{perception}_{channel}_rho-{ratio}_{snr_db:g}dB"
            write_figure(out / f"{stem.replace('/', '-').replace(':', '-')}.svg", figure)
            best = frontier_schemes(records, ratio, snr_db, channel, perception=perception)
            here = records.query("channel == @channel and rho == @rho and snr_db == @snr_db")
            psnr, other = (
                summarise(here, name).set_index("scheme")["mean"] for name in ("psnr_db", perception)
            )
            cells = (f"{name} ({psnr[name]:.2f}, {other[name]:.3g})" for name in best)
            parts.append(f"| {channel} | {ratio} | {snr_db:g} dB | {', '.join(cells)} |\n")
    write(out / "table.md", "".join(parts))
    write(out / "run.json", json.dumps(environment(), indent=1) + "\n")
    print(f"{len(points) * len(measures)} planes and a table in {out}")


def load(folder: Path) -> "pd.DataFrame":
    """Records of a sweep, or their means over seeds where only those are kept.

    Raises:
        StoreError: Neither is there.
    """
    import pandas as pd

    if (folder / "records.parquet").is_file():
        return pd.read_parquet(folder / "records.parquet")
    if (folder / "items.csv").is_file():
        return pd.read_csv(folder / "items.csv")
    raise StoreError(f"{folder}: neither records.parquet nor items.csv; run a sweep into it first")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, then draw one of the two."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=Path, default=Path("results/sweep_receivers"), help="of a sweep")
    parser.add_argument("--out", type=Path, default=Path("results/perception_distortion"))
    parser.add_argument("--toy", action="store_true", help="theory and receivers on a Gaussian picture")
    a = parser.parse_args(arguments)
    if a.toy:
        toy(a.out)
    else:
        planes(load(a.records), a.out)


if __name__ == "__main__":
    run_script(main)
