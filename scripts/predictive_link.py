"""Predictive latent link: what prediction saves, over three channels, and the laws of extrapolation measured.

Run:     python scripts/predictive_link.py
         killed, the same command goes on after the last whole item
Cost:    see results/predictive_link/README.md
Expect:  see results/predictive_link/README.md

Items are clips of 20 frames of 64x64: generated shapes, glyphs and windows over photographs, of seeds and
photographs that no training has seen, and real clips, cropped and reduced. "laws" measures prediction from
noisy latents, "rates" payload bits at equal quality, "uses" quality against channel uses.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from channels import NamedStreams
from semcom import names
from semcom.budget import Budget
from semcom.data import load_folder
from semcom.experiment import at_least, run_script, write, write_figure
from semcom.modalities.video import VIDEO, Clip
from semcom.names.latent import latent_codec
from semcom.representation.kalman import (
    Motion,
    crossover_noise_var,
    kalman,
    measured_motion,
    saved_bits,
)
from semcom.representation.link import PREDICTORS, STEPS, UNIT, LatentCodec
from semcom.representation.sequences import SIDE, MovingGlyphs, MovingShapes, MovingWindows, SequenceSource
from semcom.representation.straightness import StepStatistics
from semcom.statistics import bootstrap_mean, rate_needed
from semcom.surroundings import library_defaults, one_thread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LENGTH, RATE = 20, Fraction(20)
SEED = 20_001
KINDS = ("shapes", "glyphs", "windows", "clips")
SNR_DB = tuple(range(-10, 41, 2))
FINE = 26
"""Setting of the quantiser step at which coding gains are measured: 1/23 of a latent's unit."""
LAW_COUNT = 16
CODECS = (*(f"latent:{predictor}" for predictor in PREDICTORS), "latent:kalman:auto", "x265-live")
CHANNELS = {"awgn": "+ldpc", "rayleigh:64": "+ldpc", "lossy:160:0.1/awgn": "+packets:160"}
ANALOG = ("latent:intra", "latent:kalman")
PARTS = ("laws", "rates", "uses")
RHOS = ("1/384", "1/192", "1/96")
AT_DB = 10.0
BELOW_DB = 1.0
"""Quality at which bits are compared: this far below what the finest latents show."""


def sources(photos: Path) -> dict[str, SequenceSource]:
    """Generated sequences by kind, the windows over photographs of a folder."""
    pictures = [item.x for item in load_folder(photos)]
    squares = torch.stack([squared(picture, 160) for picture in pictures])
    return {"shapes": MovingShapes(3), "glyphs": MovingGlyphs(3), "windows": MovingWindows(squares)}


def squared(picture: Tensor, side: int) -> Tensor:
    """Square in the middle of a picture [1, 3, height, width], uint8 [side, side, 3]."""
    height, width = picture.shape[2:]
    least = min(height, width)
    top, left = (height - least) // 2, (width - least) // 2
    middle = picture[:, :, top : top + least, left : left + least]
    small = torch.nn.functional.interpolate(middle, (side, side), mode="bilinear", antialias=True)
    return (small[0].permute(1, 2, 0) * 255).round().clamp(0, 255).byte()


def items(count: int, photos: Path, clips: Path) -> Iterator[tuple[str, str, Clip]]:
    """Name, kind and clip of every item, at most `LAW_COUNT` generated ones of each kind."""
    for kind, source in sources(photos).items():
        drawn = source.draw(LAW_COUNT, LENGTH, torch.Generator().manual_seed(SEED)).frames
        for number, frames in enumerate(drawn[:count]):
            yield f"{kind}-{number}", kind, Clip((frames * 255).round().byte(), RATE)
    for path in sorted(path for path in clips.iterdir() if path.suffix in VIDEO.suffixes):
        frames = VIDEO.read(path).x.frames[:LENGTH]
        small = torch.stack([squared(frame[None].float() / 255, SIDE).permute(2, 0, 1) for frame in frames])
        yield path.stem, "clips", Clip(small.contiguous(), RATE)


def psnr_db(shown: Clip, x: Clip) -> float:
    """Mean over the frames of the PSNR of each."""
    errors = (shown.frames.double() - x.frames.double()).square().mean((1, 2, 3)).clamp_min(1e-3)
    return float((10 * torch.log10(255**2 / errors)).mean())


# Laws


def laws(codec: LatentCodec, photos: Path, clips: Path, count: int) -> list[dict[str, Any]]:
    """Per kind: step statistics, crossover of repetition and extrapolation, coding gain."""
    found: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
    for _, kind, clip in items(count, photos, clips):
        found[kind].append(codec.latents(clip))
    return [law(kind, np.stack(latents), codec) for kind, latents in found.items()]


def law(kind: str, latents: np.ndarray, codec: LatentCodec) -> dict[str, Any]:
    """Laws of one kind, from latents in units, [clips, frames, 1, dims]."""
    z = latents[:, :, 0] / UNIT
    dims = z.shape[2]
    statistics = StepStatistics.of(torch.from_numpy(z))
    v = np.diff(z[:, LENGTH // 2 - 2 :], axis=1)  # the steps of the frames that `predicted_errors` predicts
    power_of_step = float(np.square(v[:, 1:]).sum(2).mean())
    speed = math.sqrt(power_of_step)
    # for steps of equal mean square: what the law calls c
    cosine = 1 - float(np.square(np.diff(v, axis=1)).sum(2).mean()) / (2 * power_of_step)
    expected = crossover_noise_var(speed, cosine, dims)
    motions = [measured_motion(clip) for clip in z]  # of each clip, as its receiver is told
    power = float(np.square(z).mean())
    curves: dict[str, list[float]] = {name: [] for name in ("repeat", "linear", "kalman")}
    rng = np.random.default_rng(SEED)
    noise = rng.standard_normal(z.shape)
    for snr_db in SNR_DB:
        errors = predicted_errors(z, noise, power * 10 ** (-snr_db / 10), motions)
        for name, error in errors.items():
            curves[name].append(error)
    bits = {predictor: fine_bits(latents, codec, predictor) for predictor in PREDICTORS}
    return {
        "kind": kind,
        "clips": len(z),
        "cosine": statistics.cosine,
        "speed_spread": statistics.ratio_spread,
        "gain_db": 10 * math.log10(statistics.gain),
        "law_gain_db": 10 * math.log10(statistics.law_gain),
        "crossover_law_db": 10 * math.log10(power / expected) if expected else math.inf,
        "crossover_measured_db": crossing(curves["repeat"], curves["linear"]),
        "kalman_worst_db": max(
            10 * math.log10(k / min(a, b))
            for k, a, b in zip(curves["kalman"], curves["repeat"], curves["linear"], strict=True)
        ),
        "bits_per_value": bits,
        "saved_law": saved_bits(statistics.gain),
        "saved_explained": explained_bits(z, (STEPS[FINE] / UNIT) ** 2 / 12),
        "saved_measured": bits["repeat"] - bits["linear"],
        "curves": curves,
    }


def explained_bits(z: np.ndarray, noise_var: float) -> float:
    """Bits saved by extrapolation clip by clip, from quantised latents, whose errors it counts 5 times."""
    v = np.diff(z, axis=1)
    moved = np.square(v[:, 1:]).mean((1, 2)) + noise_var
    curved = np.square(np.diff(v, axis=1)).mean((1, 2)) + 5 * noise_var
    return float(np.mean([saved_bits(gain) for gain in moved / curved]))


def predicted_errors(
    z: np.ndarray, noise: np.ndarray, noise_var: float, motions: Sequence[Motion]
) -> dict[str, float]:
    """Mean squared errors of predictions of the last half of the frames from noisy latents."""
    y = z + math.sqrt(noise_var) * noise
    late = slice(z.shape[1] // 2, None)
    variances = np.full(z.shape[1:], noise_var)
    predicted = np.stack(
        [kalman(clip, variances, motion).predicted for clip, motion in zip(y, motions, strict=True)]
    )

    def error(prediction: np.ndarray) -> float:
        return float(np.square(prediction - z)[:, late].mean())

    repeat, linear = np.zeros_like(z), np.zeros_like(z)
    repeat[:, 1:] = y[:, :-1]
    linear[:, 2:] = 2 * y[:, 1:-1] - y[:, :-2]
    return {"repeat": error(repeat), "linear": error(linear), "kalman": error(predicted)}


def crossing(repeat: Sequence[float], linear: Sequence[float]) -> float:
    """SNR in dB at which the errors of repetition and extrapolation are equal; infinite if they never are."""
    ratio = np.log(np.array(repeat) / np.array(linear))
    for place in range(len(ratio) - 1):
        if ratio[place] < 0 <= ratio[place + 1]:
            share = -ratio[place] / (ratio[place + 1] - ratio[place])
            return SNR_DB[place] + float(share) * (SNR_DB[place + 1] - SNR_DB[place])
    return math.inf


def fine_bits(latents: np.ndarray, codec: LatentCodec, predictor: str) -> float:
    """Bits per latent value of the closed loop at a fine step, without the first two frames."""
    coder = LatentCodec(codec.network, predictor)
    whole = sum(8 * len(coder.coded(z, FINE, 0.0).payload) for z in latents)
    start = sum(8 * len(coder.coded(z[:2], FINE, 0.0).payload) for z in latents)
    return (whole - start) / latents[:, 2:].size


# Bits at equal quality


def rate_rows(name: str, kind: str, clip: Clip) -> Iterator[dict[str, Any]]:
    """One row per codec and setting: payload bits and quality."""
    for codec_name in CODECS:
        codec = names.codec(codec_name, "video")
        if isinstance(codec, LatentCodec):
            z = codec.latents(clip)
            for setting in range(2, 24, 3):
                share = 0.75 if codec.gate is None else 0.0
                coded = codec.coded(z, setting, share * 2.0 ** (2 - setting / 4))
                shown = codec.shown(coded.latents, VIDEO.shape(clip))
                yield row(name, kind, codec_name, 8 * len(coded.payload), psnr_db(shown, clip)) | {
                    "sent_share": float(coded.fired.mean())
                }
        else:
            for quality in codec.qualities[::4]:  # reduced by 4, by 2, and whole
                payload = codec.encode(clip, quality)
                shown = codec.decode(payload, VIDEO.shape(clip))
                yield row(name, kind, codec_name, 8 * len(payload), psnr_db(shown, clip))


def row(name: str, kind: str, codec: str, bits: int, psnr: float) -> dict[str, Any]:
    """One encode."""
    return {"item": name, "kind": kind, "codec": codec, "bits": bits, "psnr_db": psnr}


def bits_at(points: Sequence[tuple[float, float]], target_db: float) -> float:
    """Bits at a quality, log-linear between encodes; NaN out of reach."""
    best = {bits: quality for bits, quality in sorted(points)}
    return rate_needed(list(best), [-quality for quality in best.values()], -target_db) if best else math.nan


def ratios(rows: Sequence[dict[str, Any]], kind: str, codec: str, against: str) -> list[float]:
    """Natural logarithms of bits of a codec over those of another at equal quality, item by item."""
    own = [row for row in rows if kind in (row["kind"], "all")]
    found: list[float] = []
    for item in sorted({row["item"] for row in own}):
        points = {
            name: [
                (row["bits"], row["psnr_db"]) for row in own if (row["item"], row["codec"]) == (item, name)
            ]
            for name in (codec, against, "latent:intra")
        }
        target = max(quality for _, quality in points["latent:intra"]) - BELOW_DB
        log = math.log(bits_at(points[codec], target) / bits_at(points[against], target))
        if not math.isnan(log):
            found.append(log)
    return found


# Quality over channels


def use_rows(name: str, kind: str, clip: Clip, seeds: int) -> Iterator[dict[str, Any]]:
    """One row per scheme, channel, rho and seed."""
    for channel, link in CHANNELS.items():
        for scheme_name in (*(f"{codec}{link}" for codec in CODECS), *ANALOG):
            scheme = names.scheme(scheme_name, VIDEO)
            for rho in RHOS:
                budget = Budget.from_rho(rho, clip.frames.numel())
                rng = NamedStreams(SEED, tuple(f"{name} {seed}" for seed in range(seeds)))
                outcomes = scheme.transmit(clip, budget, names.channel(channel), AT_DB, rng)
                yield {
                    "item": name,
                    "kind": kind,
                    "channel": channel,
                    "scheme": scheme_name.split("+")[0] + ("" if "+" in scheme_name else " analog"),
                    "rho": rho,
                    "psnr_db": float(np.mean([psnr_db(outcome.x_hat, clip) for outcome in outcomes])),
                    "outage": float(np.mean([outcome.outage for outcome in outcomes])),
                }


def uses_needed(rows: Sequence[dict[str, Any]], scheme: str, target_db: float) -> float:
    """Channel uses per source value for a mean quality; infinite if no rho reaches it."""
    points: list[tuple[float, float]] = []
    for rho in RHOS:
        values = [row["psnr_db"] for row in rows if (row["scheme"], row["rho"]) == (scheme, rho)]
        if values:
            points.append((float(Fraction(rho)), float(np.mean(values))))
    found = bits_at(points, target_db)
    return math.inf if math.isnan(found) else found


# Tables and figures


def law_table(found: Sequence[dict[str, Any]]) -> str:
    """Markdown: one line per kind."""
    head = (
        "kind",
        "c",
        "speed spread",
        "gain in dB",
        "1/(2(1-S)) in dB",
        "crossover law in dB",
        "measured",
        "Kalman at worst in dB",
        "bits saved, law of all clips",
        "by clip and quantiser",
        "measured",
        *(f"bits, {predictor}" for predictor in PREDICTORS),
    )
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for x in found:
        cells = (
            x["kind"],
            *(f"{x[key]:.3f}" for key in ("cosine", "speed_spread")),
            *(
                f"{x[key]:.2f}"
                for key in (
                    *("gain_db", "law_gain_db", "crossover_law_db", "crossover_measured_db"),
                    *("kalman_worst_db", "saved_law", "saved_explained", "saved_measured"),
                )
            ),
            *(f"{x['bits_per_value'][predictor]:.2f}" for predictor in PREDICTORS),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def rate_table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: bits at equal quality against all-intra and x265-live, geometric means with intervals."""
    head = (
        "codec",
        *(f"{kind} / {against}" for kind in (*KINDS, "all") for against in ("intra", "x265-live")),
    )
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for codec in CODECS:
        cells: list[str] = []
        for kind in (*KINDS, "all"):
            for against in ("latent:intra", "x265-live"):
                logs = ratios(rows, kind, codec, against)
                if codec == against or not logs:
                    cells.append("")
                    continue
                mean = bootstrap_mean(logs, range(len(logs)))
                cells.append(
                    f"{math.exp(mean.mean):.2f} ({math.exp(mean.low):.2f} to {math.exp(mean.high):.2f})"
                )
        lines.append(f"| {codec} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def use_table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown per channel: mean quality by rho, and uses against all-intra at its quality at 1/192."""
    lines: list[str] = []
    for channel in CHANNELS:
        own = [row for row in rows if row["channel"] == channel]
        lines += [f"**{channel}, {AT_DB:g} dB**", ""]
        lines += [
            f"| scheme | {' | '.join(f'PSNR at {rho}' for rho in RHOS)} | lost at {RHOS[0]} | uses / intra |",
            "| --- " * (len(RHOS) + 3) + "|",
        ]
        items_of = sorted({row["item"] for row in own})
        for scheme in dict.fromkeys(row["scheme"] for row in own):
            cells: list[str] = []
            for rho in RHOS:
                at = [row for row in own if (row["scheme"], row["rho"]) == (scheme, rho)]
                cells.append(f"{np.mean([row['psnr_db'] for row in at]):.2f}")
            lost = [row["outage"] for row in own if (row["scheme"], row["rho"]) == (scheme, RHOS[0])]
            cells.append(f"{np.mean(lost):.2f}")
            cells.append(uses_ratio(own, scheme, items_of))
            lines.append(f"| {scheme} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def uses_ratio(rows: Sequence[dict[str, Any]], scheme: str, names_of: Sequence[str]) -> str:
    """Uses for the quality that all-intra has at 1/192, as a share of its own, with an interval."""
    rng = np.random.default_rng(0)
    by_item: dict[str, list[dict[str, Any]]] = {name: [] for name in names_of}
    for x in rows:
        if x["scheme"] in (scheme, "latent:intra"):
            by_item[x["item"]].append(x)

    def ratio(chosen: Sequence[str]) -> float:
        some = [x for name in chosen for x in by_item[name]]
        at = [x["psnr_db"] for x in some if (x["scheme"], x["rho"]) == ("latent:intra", RHOS[1])]
        return uses_needed(some, scheme, float(np.mean(at))) / float(Fraction(RHOS[1]))

    drawn = [ratio(rng.choice(names_of, len(names_of)).tolist()) for _ in range(200)]
    low, high = np.quantile(drawn, (0.025, 0.975), method="nearest")
    return f"{ratio(names_of):.2f} ({low:.2f} to {high:.2f})"


def law_figure(found: Sequence[dict[str, Any]]) -> "Figure":
    """Errors of the predictors against the SNR of the latents, with the crossover of the law."""
    from matplotlib.figure import Figure

    from semcom.plots import COLORS

    drawn = Figure(figsize=(12, 3.4), layout="constrained")
    panels = drawn.subplots(1, len(found))
    for panel, x in zip(panels, found, strict=True):
        for (name, curve), color in zip(x["curves"].items(), COLORS, strict=False):
            panel.plot(SNR_DB, 10 * np.log10(curve), color=color, label=name)
        if math.isfinite(x["crossover_law_db"]):
            panel.axvline(x["crossover_law_db"], color="grey", linestyle=":", label="crossover, law")
        panel.set_title(x["kind"], fontsize=9)
        panel.set_xlabel("SNR of latents (dB)")
    panels[0].set_ylabel("error of the next latent (dB)")
    panels[0].legend(fontsize=7)
    return drawn


def use_figure(rows: Sequence[dict[str, Any]]) -> "Figure":
    """Quality against channel uses per source value, one panel per channel."""
    from matplotlib.figure import Figure

    from semcom.plots import COLORS, MARKERS

    drawn = Figure(figsize=(12, 4), layout="constrained")
    shown = ("latent:intra", "latent:linear", "latent:kalman:auto", "x265-live", "latent:kalman analog")
    for panel, channel in zip(drawn.subplots(1, len(CHANNELS)), CHANNELS, strict=True):
        for scheme, color, marker in zip(shown, COLORS, MARKERS, strict=False):
            own = [row for row in rows if (row["channel"], row["scheme"]) == (channel, scheme)]
            means = [np.mean([row["psnr_db"] for row in own if row["rho"] == rho]) for rho in RHOS]
            panel.plot(
                [float(Fraction(rho)) for rho in RHOS], means, color=color, marker=marker, label=scheme
            )
        panel.set_xscale("log")
        panel.set_xlabel("channel uses per source value")
        panel.set_ylabel("PSNR (dB)")
        panel.set_title(f"{channel}, {AT_DB:g} dB", fontsize=9)
    drawn.axes[0].legend(fontsize=7)
    return drawn


def gathered(
    path: Path, jobs: Sequence[tuple[str, str, Clip]], rows_of: Callable[[str, str, Clip], Iterator[Any]]
) -> list[dict[str, Any]]:
    """Rows of all items, of which those in the file are not made again."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    done = {row["item"] for row in rows}
    for name, kind, clip in jobs:
        if name not in done:
            rows += list(rows_of(name, kind, clip))
            write(path, "".join(json.dumps(row) + "\n" for row in rows))
            print(f"{path.name}: {name}", flush=True)
    return rows


def main() -> None:
    """Parse, measure, tabulate, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--photos", type=Path, default=Path("../shared/data/photos/val"))
    add("--clips", type=Path, default=Path("../shared/data/video/eval"))
    add("--out", type=Path, default=Path("results/predictive_link"))
    add("--items", type=at_least(1), default=8, help="generated clips of each kind")
    add("--seeds", type=at_least(1), default=2, help="channel realisations per item")
    add("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    codec = latent_codec("latent:kalman")
    with library_defaults(), one_thread():
        if "laws" in options.parts:
            found = laws(codec, options.photos, options.clips, LAW_COUNT)
            write(options.out / "laws.json", json.dumps(found, indent=1) + "\n")
            write_figure(options.out / "laws.svg", law_figure(found))
            write(options.out / "laws.md", law_table(found))
            print(law_table(found), flush=True)
        jobs = list(items(options.items, options.photos, options.clips))
        if "rates" in options.parts:
            rates = gathered(options.out / "rates.jsonl", jobs, rate_rows)
            write(options.out / "rates.md", rate_table(rates))
            print(rate_table(rates), flush=True)
        if "uses" in options.parts:
            uses = gathered(options.out / "uses.jsonl", jobs, partial(use_rows, seeds=options.seeds))
            write(options.out / "uses.md", use_table(uses))
            write_figure(options.out / "uses.svg", use_figure(uses))
            print(use_table(uses))


if __name__ == "__main__":
    run_script(main)
