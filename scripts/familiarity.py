"""The familiarity circuit on photographs: noise association, front ends, and the familiarity cache.

Run:     python scripts/familiarity.py
Cost:    see results/familiarity/README.md; killed or interrupted, the same command goes on after the last
         whole set
Expect:  see results/familiarity/README.md

Each set has five familiar and five novel crops of 32x32 of photographs that no other set uses. A circuit of
64 channels learns the familiar ones with noise (155 trials, 5 epochs); all is measured before and after.
"""

import argparse
import itertools
import json
import time
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image as PillowImage

from channels import NamedStreams, transmit
from semcom import names, zoo
from semcom.circuit.cache import FamiliarityCache
from semcom.circuit.circuit import Circuit, respond, untrained
from semcom.circuit.familiarity import JUDGES, judge_of, thumbnail
from semcom.circuit.filters import sparse_code
from semcom.circuit.front_end import NoisyCode, Wiener, code_symbols, recall, received_code, settled
from semcom.circuit.measures import (
    equilibrium,
    geometry,
    late_to_peak,
    noise_to_spread,
    principal,
    rank_changes,
    slow_modes,
    sparseness,
)
from semcom.circuit.protocol import CONTRAST, EPOCHS, LEVELS, associate, noisy_versions
from semcom.data import centre, load_image, picture_files
from semcom.errors import NotConverged
from semcom.experiment import at_least, run_script, write, write_figure
from semcom.memory.codebooks import PictureMemory
from semcom.modalities import IMAGE
from semcom.provenance import environment
from semcom.receivers import Direct
from semcom.representation.sequences import MovingGlyphs, MovingShapes, MovingWindows
from semcom.representation.straightening import StraightAutoencoder
from semcom.representation.straightness import novelty
from semcom.scheme import Scheme
from semcom.sending import send
from semcom.statistics import bootstrap_mean
from semcom.surroundings import library_defaults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, FAMILIAR = 32, 5
CODE_SNR_DB = {"awgn": (-5.0, 0.0, 10.0), "lossy:64:0.3/awgn": (10.0,)}
RECEPTIONS = 4
TESTED = 5
"""Noise patterns per level of which responses are measured; the circuit is trained on all ten."""
STORED = 1156
"""Patterns whose numbers are as many as the weights of the circuit, 64^2 x 34^2 = 4096 x 1156."""
RANK = 128
ALBUMS = (5, 24)
NOVEL = 48
QUERY_SNR_DB = (np.inf, 10.0, 0.0)
CROSSING_SNR_DB = (5.0,)
CROSSED = 10
RHO = "1/12"
STREAMS, STREAM, SHOWN = 16, 12, 4
"""Streams of frames per source, frames of each, and how many of them are known to the nearest code."""
MODES = (1, 10, 50, 200)

PUBLISHED = {  # read off the plots of the authors' notebooks, +-0.02
    "distance": {
        "input": (0.27, 0.57, 0.76),
        "untrained": (0.14, 0.39, 0.615),
        "trained": (0.14, 0.365, 0.58),
    },
    "alignment": {
        "input": (0.91, 0.63, 0.37),
        "untrained": (0.98, 0.875, 0.655),
        "trained": (0.98, 0.89, 0.705),
    },
    "late_to_peak": {"untrained": 0.45, "trained": 0.34},
}


def crops(folder: Path, count: int, seed: int) -> np.ndarray:
    """Grey crops of 32x32 of photographs reduced by 4, one of each, with enough contrast."""
    rng, found = np.random.default_rng(seed), []
    files = picture_files(folder)
    for place in rng.permutation(len(files)):
        grey = np.asarray(PillowImage.open(files[place]).convert("L").reduce(4), dtype=float) / 255
        for _ in range(10):
            top, left = (int(rng.integers(max(side - SIDE, 0) + 1)) for side in grey.shape)
            crop = grey[top : top + SIDE, left : left + SIDE]
            if crop.shape == (SIDE, SIDE) and crop.std() > CONTRAST:
                found.append(crop)
                break
        if len(found) == count:
            break
    return np.array(found)


def many_codes(folder: Path, count: int) -> np.ndarray:
    """Codes of crops of training photographs of any contrast, at random places."""
    rng, found, files = np.random.default_rng(1), [], picture_files(folder)
    while len(found) < count:
        grey = np.asarray(
            PillowImage.open(files[len(found) % len(files)]).convert("L").reduce(4), dtype=float
        )
        if min(grey.shape) >= SIDE:
            top, left = (int(rng.integers(side - SIDE + 1)) for side in grey.shape)
            found.append(grey[top : top + SIDE, left : left + SIDE] / 255)
        else:
            files = tuple(f for f in files if f != files[len(found) % len(files)])
    return sparse_code(np.array(found))


def all_responses(circuit: Circuit, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Traces of the clean pictures, and late rates [pictures, levels, patterns, cells]; clean ones once."""
    clean = respond(circuit, codes[:, 0, 0])
    noisy = respond(circuit, codes[:, 1:].reshape(-1, codes.shape[-1])).rates
    noisy = noisy.reshape(len(codes), len(LEVELS) - 1, TESTED, -1)
    first = np.broadcast_to(clean.rates[:, None, None], (len(codes), 1, TESTED, codes.shape[-1]))
    return clean.trace, np.concatenate([first, noisy], axis=1)


def projected(states: Sequence[np.ndarray]) -> list[np.ndarray]:
    """States of several epochs on common principal axes, averaged over patterns."""
    cells = states[0].shape[-1]
    axes, _ = principal(np.concatenate([s.reshape(-1, cells) for s in states]))
    return [s.mean(axis=2) @ axes for s in states]


def identified(states: np.ndarray) -> list[float]:
    """Share of noisy states that are nearest to the clean state of their own picture, by level."""
    clean = states[:, 0, 0]
    apart = np.linalg.norm(states[:, 1:, :, None] - clean, axis=-1)
    own = apart.argmin(axis=-1) == np.arange(len(states))[:, None, None]
    return own.mean(axis=(0, 2)).tolist()


def shape_of(states: np.ndarray) -> dict[str, list[float]]:
    found = geometry(states)
    return {
        "distance": found.distance.mean(axis=0).tolist(),
        "alignment": found.alignment.mean(axis=0).tolist(),
    }


def explained(states: np.ndarray) -> float:
    return float(principal(states.reshape(-1, states.shape[-1]), 50)[1].sum())


def linear_modes(circuit: Circuit, codes: np.ndarray, states: np.ndarray) -> list[list[list[float]]]:
    """Noise over spread on slow modes at the equilibrium of each picture: [pictures, levels, modes]."""
    found = []
    for own, code in enumerate(codes[:, 0, 0]):
        try:
            at = equilibrium(circuit, code)
        except NotConverged:
            continue
        ratio = noise_to_spread(slow_modes(circuit, at), states.mean(axis=2), LEVELS, own)
        found.append([[float(row[min(m, ratio.shape[1]) - 1]) for m in MODES] for row in ratio])
    return found


def front_ends(
    circuits: dict[str, Circuit], groups: dict[str, np.ndarray], others: np.ndarray, wiener: Wiener, seed: int
):
    """Relative distance and identification of received codes, by channel, SNR, group and receiver."""
    rms = float(np.sqrt((others**2).mean()))
    scaled = {g: c * rms / np.sqrt((c**2).mean(axis=1, keepdims=True)) for g, c in groups.items()}
    stored = scaled["familiar"]
    usual = others * rms / np.sqrt((others**2).mean(axis=1, keepdims=True))
    receivers = {
        "raw": lambda code: code.y,
        "Wiener": wiener,
        "untrained circuit": lambda code: settled(code, circuits["untrained"]),
        "trained circuit": lambda code: settled(code, circuits["trained"]),
        "Hopfield, 5 codes": lambda code: recall(code, stored),
        "Hopfield, equal memory": lambda code: recall(code, np.concatenate([stored, usual])[:STORED]),
    }
    rows = []
    for group, codes in scaled.items():
        quiet = together([through("awgn", 100.0, code, rms, group, seed, 1) for code in codes])
        clean = {name: receiver(quiet) for name, receiver in receivers.items()}
        for channel, snr_db in ((c, snr) for c, snrs in CODE_SNR_DB.items() for snr in snrs):
            noisy = together(
                [
                    through(channel, snr_db, code, rms, f"{group}-{i}", seed, RECEPTIONS)
                    for i, code in enumerate(codes)
                ]
            )
            for name, receiver in receivers.items():
                states = receiver(noisy).reshape(len(codes), RECEPTIONS, -1)
                apart = np.linalg.norm(states[:, :, None] - clean[name], axis=-1)
                own = np.eye(len(codes), dtype=bool)[:, None, :]
                within = (apart * own).sum(axis=2).mean()
                between = (apart * ~own).sum(axis=2).mean() / (len(codes) - 1)
                right = (apart.argmin(axis=2) == np.arange(len(codes))[:, None]).mean()
                point = {"group": group, "channel": channel, "snr_db": snr_db, "receiver": name}
                distance = float(within / between) if between > 0 else None
                rows.append({**point, "distance": distance, "identified": float(right)})
    return rows


def together(codes: Sequence[NoisyCode]) -> NoisyCode:
    return NoisyCode(
        *(np.concatenate([getattr(code, part) for code in codes]) for part in ("y", "noise_var"))
    )


@cache
def known(folder: Path) -> tuple[np.ndarray, Wiener]:
    """Codes of training photographs, and the linear estimate of codes of the usual power."""
    others = many_codes(folder, STORED)
    usual = others * np.sqrt((others**2).mean()) / np.sqrt((others**2).mean(axis=1, keepdims=True))
    return others, Wiener.fitted(usual, RANK)


def through(channel: str, snr_db: float, code: np.ndarray, rms: float, item: str, seed: int, receptions: int):
    """A code after the channel, some times."""
    symbols = code_symbols(code).expand(receptions, -1)
    rng = NamedStreams(seed, tuple(f"{item}-{k}" for k in range(receptions)))
    return received_code(
        transmit(names.channel(channel), symbols, torch.full((receptions,), snr_db), rng), rms
    )


def measured(pictures: np.ndarray, others: np.ndarray, wiener: Wiener, seed: int) -> dict[str, Any]:
    """Everything of one set."""
    start = time.process_time()
    codes = sparse_code(noisy_versions(pictures, seed=seed))
    groups = {"familiar": codes[:FAMILIAR], "novel": codes[FAMILIAR:]}
    novice = untrained(8, 8)
    before = time.process_time()
    epochs = associate(novice, groups["familiar"], EPOCHS, seed=seed)
    epoch_seconds = (time.process_time() - before) / EPOCHS
    trained = epochs[-1].circuit
    moved = [
        float(np.linalg.norm(b.circuit.weights - a.circuit.weights) / np.linalg.norm(a.circuit.weights))
        for a, b in itertools.pairwise(epochs)
    ]
    by_epoch = {
        g: [float(late_to_peak(respond(e.circuit, c[:, 0, 0]).trace.mean(axis=0))) for e in epochs]
        for g, c in groups.items()
    }
    result: dict[str, Any] = {
        "epoch_seconds": epoch_seconds,
        "weights_moved": moved,
        "late_to_peak_by_epoch": by_epoch,
    }
    for group, every in groups.items():
        of_group = np.ascontiguousarray(every[:, :, :TESTED])
        traces, states = zip(*(all_responses(c, of_group) for c in (novice, trained)), strict=True)
        (on_input,) = projected([of_group])
        two = projected(states)
        clean = [s[:, 0, 0] for s in states]
        alive = (clean[0] > 0).any(axis=0) & (clean[1] > 0).any(axis=0)
        sparse = [sparseness(c) for c in clean]
        ranks = rank_changes(*clean)
        row = {
            "input": shape_of(on_input), "untrained": shape_of(two[0]), "trained": shape_of(two[1]),
            "explained": [explained(s) for s in (of_group, *states)],
            "identified": [identified(s) for s in (of_group, *states)],
            "late_to_peak": [float(late_to_peak(t.mean(axis=0))) for t in traces],
            "late_to_peak_each": [late_to_peak(t).tolist() for t in traces],
            "peak": [float(t.mean(axis=0).max()) for t in traces],
            "sparseness": [float(np.nanmean(s)) for s in sparse],
            "sparseness_change": float((sparse[1] - sparse[0])[alive].mean()),
            "ranks": [float(ranks[:10].mean()), float(ranks[20:200].mean())],
            "psth": [(t.mean(axis=0) / t.mean(axis=0).max()).round(4).tolist() for t in traces],
            "modes": [linear_modes(c, of_group, s) for c, s in zip((novice, trained), states, strict=True)]
            if group == "familiar"
            else [],
        }  # fmt: skip
        result[group] = row
    circuits = {"untrained": novice, "trained": trained}
    clean_codes = {g: c[:, 0, 0] for g, c in groups.items()}
    result["front_ends"] = front_ends(circuits, clean_codes, others, wiener, seed)
    result["seconds"] = time.process_time() - start
    return result


def split(scores: np.ndarray, album: int) -> dict[str, list[float]]:
    return {"familiar": scores[:album].tolist(), "novel": scores[album:].tolist()}


def roc(folder: Path, album: int) -> dict[str, Any]:
    """Scores of familiar and novel photographs by both judges, for queries in noise."""
    start = time.process_time()
    files = np.random.default_rng(0).permutation(np.array([str(f) for f in picture_files(folder)]))
    small = [thumbnail(load_image(f).x) for f in files[: album + NOVEL]]
    thumbnails = np.array([s for s in small if s is not None])
    known = thumbnails[:album]
    rows = []
    for snr_db in QUERY_SNR_DB:
        noise = np.random.default_rng(7).normal(size=thumbnails.shape) * 0.25 * 10 ** (-snr_db / 20)
        noisy = thumbnails + noise
        noisy = noisy - noisy.mean(axis=(1, 2), keepdims=True)
        queries = noisy * 0.25 / noisy.std(axis=(1, 2), keepdims=True)
        for name in JUDGES:
            judge = judge_of(name, known)
            scores, index = judge.scores(queries)
            told = {
                "judge": name,
                "snr_db": None if np.isinf(snr_db) else snr_db,
                "threshold": judge.threshold,
            }
            right = float((index[:album] == np.arange(album)).mean())
            rows.append({**told, **split(scores, album), "right": right})
        trained = judge_of("circuit", known).trained
        plain = late_to_peak(respond(trained, sparse_code(queries)).trace)
        rows.append({"judge": "late/peak alone", "snr_db": told["snr_db"], **split(plain, album)})
    return {"album": album, "rows": rows, "seconds": time.process_time() - start}


def stream(scenes: Sequence[np.ndarray], cut: int) -> np.ndarray:
    """Frames of one scene up to the cut, then those of another, [length, 3, 64, 64]."""
    return np.concatenate([scenes[0][:cut], scenes[1][cut:]])


def novelty_scores(folder: Path) -> dict[str, Any]:
    """Scores of frames at a change of scene and before it, by cosines, steps and nearest codes."""
    start = time.process_time()
    network = zoo.load_as("straight", StraightAutoencoder)
    files = list(picture_files(folder))[:: len(list(picture_files(folder))) // 20]
    squares = [centre(load_image(file), 128).x[0] for file in files]
    photos = (255 * torch.stack(squares)).round().byte().permute(0, 2, 3, 1).contiguous()
    rows = []
    for source in (MovingShapes(3), MovingGlyphs(3), MovingWindows(photos)):
        drawn = source.draw(2 * STREAMS, STREAM, torch.Generator().manual_seed(11)).frames.numpy()
        cuts = np.random.default_rng(11).integers(SHOWN + 2, STREAM, size=STREAMS)
        for number, cut in enumerate(cuts.tolist()):
            frames = stream(drawn[2 * number : 2 * number + 2], cut)
            x = torch.from_numpy(frames)
            with torch.no_grad():
                z = network.encode(x)[None]
            judged = list(range(SHOWN, cut + 1))
            signals = {"cosine of latent steps": novelty(z)[0, judged].tolist()}
            for name, values in (("step of latents", z[0]), ("step of pixels", x.flatten(1))):
                signals[name] = (values[1:] - values[:-1]).norm(dim=1)[[t - 1 for t in judged]].tolist()
            small = [thumbnail(frame[None]) for frame in x]
            if any(each is None for each in small):
                continue  # hardly any contrast: codes cannot tell
            known, asked = np.array(small[:SHOWN]), np.array([small[t] for t in judged])
            signals["nearest code"] = judge_of("nearest", known).scores(asked)[0].tolist()
            for name, scores in signals.items():
                rows.append({"source": source.name, "stream": number, "signal": name, "scores": scores})
    return {"rows": rows, "seconds": time.process_time() - start}


def novelty_table(found: dict[str, Any]) -> str:
    """Areas under the curves, and cuts found at 5 % of false alarms."""
    rows = []
    for source in dict.fromkeys(r["source"] for r in found["rows"]):
        for signal in dict.fromkeys(r["signal"] for r in found["rows"]):
            own = [r["scores"] for r in found["rows"] if (r["source"], r["signal"]) == (source, signal)]
            cuts, others = [s[-1] for s in own], [value for s in own for value in s[:-1]]
            hits = np.mean(np.array(cuts) > np.quantile(others, 0.95))
            areas = [area(s[:-1], s[-1:]) for s in own]
            told = f"{area(others, cuts):.3f}", f"{hits:.2f}", interval(areas)
            rows.append((source, signal, f"{len(cuts)}, {len(others)}", *told))
    heads = ("frames", "signal", "cuts, other frames", "area under ROC", "cuts found at 5 % false alarms")
    return "\n## Changes of scene\n\n" + markdown((*heads, "area within a stream"), rows)


def crossing(folder: Path) -> dict[str, Any]:
    """The cache and its codec alone, end to end: half of the photographs are in the album."""
    start = time.process_time()
    wide = [item for f in picture_files(folder) if (item := load_image(f)).x.shape[3] > item.x.shape[2]]
    chosen = np.random.default_rng(1).permutation(len(wide))[: 2 * CROSSED]
    items = [wide[i] for i in chosen]
    album = PictureMemory(tuple(item.x for item in items[:CROSSED]), "val")
    plain = names.scheme("avif+ldpc")
    caches = [FamiliarityCache(plain.transmission, album, judge) for judge in JUDGES]
    schemes = [plain, *(Scheme(cache.name, cache, Direct(), IMAGE) for cache in caches)]
    rows = []
    for snr_db in CROSSING_SNR_DB:
        for place, item in enumerate(items):
            for scheme in schemes:
                sent = send(item, scheme, "awgn", snr_db, RHO, metrics=("psnr_db",))
                point = {
                    "scheme": scheme.name,
                    "snr_db": snr_db,
                    "item": item.id,
                    "in_album": place < CROSSED,
                }
                got = sent.outcome
                told = {c: got.info.get(c, 0.0) for c in ("payload_bits", "familiar", "false_hit")}
                cost = {"uses": got.channel_uses, "outage": got.outage, "psnr_db": sent.metrics["psnr_db"]}
                rows.append({**point, **cost, **told})
    return {"rows": rows, "seconds": time.process_time() - start}


def interval(values: Iterable[float]) -> str:
    """Mean over sets with its interval."""
    every = list(values)
    found = bootstrap_mean(every, list(range(len(every))))
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def markdown(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)]) + "\n"


Sets = list[dict[str, Any]]
GROUPS = ("familiar", "novel")
STATES = ("input", "untrained", "trained")
NOISE = tuple(f"{level:.0%}".replace("%", " %") for level in LEVELS[1:])


def geometry_table(sets: Sets, measure: str) -> str:
    """Distance or alignment of all states, beside what was published."""
    rows = []
    for group in GROUPS:
        for state in STATES:
            cells = [interval(s[group][state][measure][i] for s in sets) for i in range(len(NOISE))]
            told = ", ".join(map(str, PUBLISHED[measure][state])) if group == "familiar" else "-"
            rows.append((group, state, *cells, told))
    return markdown(("pictures", "state", *NOISE, "published"), rows)


def change_table(sets: Sets) -> str:
    """Changes of relative distance by the untrained circuit and by training."""

    def distance(one: dict[str, Any], group: str, state: str) -> np.ndarray:
        return np.array(one[group][state]["distance"])

    rows, learned = [], {}
    for group in GROUPS:
        recurrent = [distance(s, group, "untrained") / distance(s, group, "input") - 1 for s in sets]
        learned[group] = [distance(s, group, "trained") - distance(s, group, "untrained") for s in sets]
        rows.append(
            (group, "untrained / input - 1", *(interval(column) for column in zip(*recurrent, strict=True)))
        )
        rows.append((group, "trained - untrained", *(interval(c) for c in zip(*learned[group], strict=True))))
    gap = [one - two for one, two in zip(*learned.values(), strict=True)]
    rows.append(
        ("familiar - novel", "trained - untrained", *(interval(column) for column in zip(*gap, strict=True)))
    )
    return markdown(("pictures", "change", *NOISE), rows)


def suppression_table(sets: Sets) -> str:
    """Late over peak, sparseness and rates by rank, before and after training."""
    rows = []
    for group in GROUPS:
        own = [s[group] for s in sets]
        rows.append(
            (
                group,
                *(interval(o["late_to_peak"][i] for o in own) for i in range(2)),
                interval(o["late_to_peak"][1] / o["late_to_peak"][0] - 1 for o in own),
                interval(o["peak"][1] / o["peak"][0] - 1 for o in own),
                *(interval(o["sparseness"][i] for o in own) for i in range(2)),
                interval(o["sparseness_change"] for o in own),
                *(interval(o["ranks"][i] for o in own) for i in range(2)),
            )
        )
    late = ("late/peak untrained", "trained", "relative change", "relative change of the peak")
    sparse = ("sparseness untrained", "trained", "change of cells that fire in both")
    return markdown(("pictures", *late, *sparse, "rates of ranks 1-10", "rates of ranks 21-200"), rows)


def variance_table(sets: Sets) -> str:
    """Variance in 50 principal components, and identification by the nearest clean state."""
    rows = []
    for group in GROUPS:
        for i, state in enumerate(STATES):
            shares = [interval(s[group]["identified"][i][level] for s in sets) for level in range(len(NOISE))]
            rows.append((group, state, interval(s[group]["explained"][i] for s in sets), *shares))
    return markdown(("pictures", "state", "variance", *NOISE), rows)


def modes_table(sets: Sets) -> str:
    """Displacement of familiar pictures by noise over spread, on the slowest modes."""
    rows = []
    for i, state in enumerate(STATES[1:]):
        found = [np.mean(s["familiar"]["modes"][i], axis=0) for s in sets if s["familiar"]["modes"][i]]
        for level, noise in enumerate(NOISE):
            cells = [interval(f[level][m] for f in found) for m in range(len(MODES))]
            rows.append((state, noise, *cells))
    return markdown(("state", "noise", *(f"{m} modes" for m in MODES)), rows)


def geometry_tables(sets: Sets) -> str:
    """All tables of the circuit itself."""
    modes = "Displacement by 10 % of noise over spread between pictures, on the slowest modes"
    return "\n".join(
        (
            f"# The familiarity circuit, {len(sets)} sets of photographs\n\nIntervals: 95 % over sets.\n",
            "## Relative distance\n\n" + geometry_table(sets, "distance"),
            "## Alignment\n\n" + geometry_table(sets, "alignment"),
            "## Changes of relative distance\n\n" + change_table(sets),
            "## Suppression and sparseness\n\n" + suppression_table(sets),
            "## Variance in 50 components, and pictures identified\n\n" + variance_table(sets),
            f"## {modes}\n\n" + modes_table(sets),
        )
    )


def front_end_table(sets: Sets) -> str:
    points = list(dict.fromkeys((r["channel"], r["snr_db"]) for r in sets[0]["front_ends"]))
    receivers = list(dict.fromkeys(r["receiver"] for r in sets[0]["front_ends"]))
    parts = ["\n## Front ends: relative distance, and share of pictures identified\n\n"]
    rows = []
    for channel, snr_db in points:
        for group in ("familiar", "novel"):
            cells = []
            for receiver in receivers:
                found = [front_end(s, channel, snr_db, group, receiver) for s in sets]
                distances = [f["distance"] for f in found if f["distance"] is not None]
                share = np.mean([f["identified"] for f in found])
                cells.append(f"{np.mean(distances):.3f}, {share:.2f}" if distances else f"-, {share:.2f}")
            rows.append((channel, f"{snr_db:g}", group, *cells))
    return parts[0] + markdown(("channel", "SNR in dB", "group", *receivers), rows)


def front_end(one: dict[str, Any], channel: str, snr_db: float, group: str, receiver: str) -> dict[str, Any]:
    (row,) = [
        r for r in one["front_ends"]
        if (r["channel"], r["snr_db"], r["group"], r["receiver"]) == (channel, snr_db, group, receiver)
    ]  # fmt: skip
    return row


def area(familiar: Sequence[float], novel: Sequence[float]) -> float:
    """Probability that a familiar picture scores below a novel one."""
    one, two = np.array(familiar)[:, None], np.array(novel)
    return float((one < two).mean() + 0.5 * (one == two).mean())


def roc_table(rocs: Sets) -> str:
    """Areas under the curves, hits at 5 % of false hits, and at the thresholds of the judges."""
    rows = []
    for found in rocs:
        for r in found["rows"]:
            familiar, novel = np.array(r["familiar"]), np.array(r["novel"])
            hits = f"{(familiar <= np.quantile(novel, 0.05)).mean():.2f}"
            limit = r.get("threshold", np.nan)
            own = (
                f"{(familiar < limit).mean():.2f}, {(novel < limit).mean():.2f}" if "threshold" in r else "-"
            )
            right = f"{r['right']:.2f}" if "right" in r else "-"
            noise = "none" if r["snr_db"] is None else f"{r['snr_db']:g} dB"
            areas = f"{area(r['familiar'], r['novel']):.3f}"
            rows.append((found["album"], noise, r["judge"], areas, hits, own, right))
    heads = ("album", "noise of queries", "judge", "area under ROC", "hits at 5 % false hits")
    told = markdown((*heads, "hits, false hits at its threshold", "right picture"), rows)
    return "\n## Familiarity of photographs\n\n" + told


def crossing_table(found: dict[str, Any]) -> str:
    """Cost and errors of the caches and of the codec alone."""
    rows = []
    schemes = dict.fromkeys(r["scheme"] for r in found["rows"])
    for snr_db, scheme, inside in itertools.product(CROSSING_SNR_DB, schemes, (True, False)):
        point = (scheme, snr_db, inside)
        own = [r for r in found["rows"] if (r["scheme"], r["snr_db"], r["in_album"]) == point]
        means = {c: np.mean([r[c] for r in own]) for c in ("uses", "payload_bits", "psnr_db")}
        sums = {c: int(sum(r.get(c, 0) for r in own)) for c in ("familiar", "false_hit", "outage")}
        rows.append(
            (
                *(f"{snr_db:g}", scheme, "in the album" if inside else "new"),
                *(
                    f"{means['uses']:.0f}",
                    f"{means['payload_bits']:.0f}",
                    f"{sums['familiar']} of {len(own)}",
                ),
                *(sums["false_hit"], sums["outage"], f"{means['psnr_db']:.2f}"),
            )
        )
    heads = ("SNR in dB", "scheme", "pictures", "channel uses", "payload bits", "index sent", "false hits")
    return f"\n## Over the link, AWGN, rho {RHO}\n\n" + markdown((*heads, "lost", "PSNR in dB"), rows)


def geometry_figure(sets: Sets) -> "Figure":
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 4))
    colours = {"input": "C7", "untrained": "C0", "trained": "C3"}
    for axis, group in zip(axes, ("familiar", "novel"), strict=False):
        for stage, colour in colours.items():
            values = np.array([s[group][stage]["distance"] for s in sets])
            axis.plot([10, 30, 50], values.mean(axis=0), color=colour, marker="o", label=stage)
            axis.plot([10, 30, 50], values.T, color=colour, alpha=0.25, linewidth=0.7)
            if group == "familiar":
                axis.plot(
                    [10, 30, 50],
                    PUBLISHED["distance"][stage],
                    color=colour,
                    ls=":",
                    marker="x",
                    label=f"{stage}, published",
                )
        axis.set(
            title=f"{group} pictures",
            xlabel="replaced pixels in %",
            ylabel="relative distance",
            ylim=(0, 0.9),
        )
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    for group, style in (("familiar", "-"), ("novel", "--")):
        for i, colour in enumerate(("C0", "C3")):
            trace = np.mean([s[group]["psth"][i] for s in sets], axis=0)
            axes[2].plot(trace, color=colour, ls=style, label=f"{group}, {('untrained', 'trained')[i]}")
    axes[2].set(title="population rate", xlabel="time in ms", ylabel="mean rate / its peak", ylim=(0, 1.05))
    axes[2].grid(alpha=0.3)
    axes[2].legend(fontsize=8)
    figure.tight_layout()
    return figure


def front_end_figure(sets: Sets) -> "Figure":
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True)
    receivers = list(dict.fromkeys(r["receiver"] for r in sets[0]["front_ends"]))
    for axis, group in zip(axes, ("familiar", "novel"), strict=True):
        for receiver in receivers:
            snrs = CODE_SNR_DB["awgn"]
            found = [[front_end(s, "awgn", snr, group, receiver)["distance"] for s in sets] for snr in snrs]
            means = [np.mean([v for v in values if v is not None]) for values in found]
            axis.plot(snrs, means, marker="o", label=receiver)
        axis.set(title=f"{group} pictures", xlabel="SNR in dB", ylabel="relative distance")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    return figure


def roc_figure(rocs: list[dict[str, Any]]) -> "Figure":
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(rocs), figsize=(5 * len(rocs), 4.4), squeeze=False)
    colours = {"circuit": "C3", "nearest": "C2", "late/peak alone": "C7"}
    for axis, found in zip(axes[0], rocs, strict=True):
        for r in found["rows"]:
            familiar, novel = np.sort(r["familiar"]), np.array(r["novel"])
            limits = np.sort(np.concatenate([familiar, novel]))
            hits = [(familiar <= limit).mean() for limit in limits]
            false = [(novel <= limit).mean() for limit in limits]
            style = {None: "-", 10.0: "--", 0.0: ":"}[r["snr_db"]]
            noise = "no noise" if r["snr_db"] is None else f"{r['snr_db']:g} dB"
            axis.step(
                [0, *false],
                [0, *hits],
                where="post",
                color=colours[r["judge"]],
                ls=style,
                label=f"{r['judge']}, {noise}",
            )
        axis.set(
            title=f"album of {found['album']} photographs",
            xlabel="false hits",
            ylabel="hits",
            xlim=(-0.02, 1.02),
            ylim=(-0.02, 1.02),
        )
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    return figure


@library_defaults()
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--photos", type=Path, default=Path("../shared/data/photos"), help="with train/ and val/"
    )
    parser.add_argument("--out", type=Path, default=Path("results/familiarity"))
    parser.add_argument("--sets", type=at_least(1), default=5)
    a = parser.parse_args(arguments)
    stages: dict[str, Any] = {}
    pictures = crops(a.photos / "val", 2 * FAMILIAR * a.sets, seed=0)

    def stage(name: str, make) -> None:
        path = a.out / "records" / f"{name}.json"
        if not path.exists():
            write(path, json.dumps(make()) + "\n")
        stages[name] = json.loads(path.read_text())

    for album in ALBUMS:
        stage(f"roc-{album}", lambda album=album: roc(a.photos / "val", album))
    stage("crossing", lambda: crossing(a.photos / "val"))
    stage("novelty", lambda: novelty_scores(a.photos / "val"))
    for number in range(a.sets):
        own = pictures[2 * FAMILIAR * number : 2 * FAMILIAR * (number + 1)]
        stage(
            f"set-{number}", lambda own=own, number=number: measured(own, *known(a.photos / "train"), number)
        )
    sets = [stages[f"set-{number}"] for number in range(a.sets)]
    rocs = [stages[f"roc-{album}"] for album in ALBUMS]
    parts = (
        geometry_tables(sets),
        front_end_table(sets),
        roc_table(rocs),
        crossing_table(stages["crossing"]),
        novelty_table(stages["novelty"]),
    )
    write(a.out / "table.md", "".join(parts))
    write_figure(a.out / "geometry.svg", geometry_figure(sets))
    write_figure(a.out / "front_ends.svg", front_end_figure(sets))
    write_figure(a.out / "roc.svg", roc_figure(rocs))
    write(a.out / "run.json", json.dumps(environment(), indent=1) + "\n")


if __name__ == "__main__":
    run_script(main)
