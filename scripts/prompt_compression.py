"""Prompt compression by evaluator heads beside other methods, on a real language model.

Run:     python scripts/prompt_compression.py
Cost:    about 90 minutes of one core for 100 prompts per cell; killed, the same command goes on
Expect:  results/prompt_compression/table.md and its rows

Heads are found in a story of this package, or in `--prose`; methods are measured on other books. Cells take
turns, so that whatever the time, all have prompts. `--number` is the number of prompts per cell, `--model`
any other model.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semcom.experiment import write
from semcom.files import write_whole
from semcom.records import Records, same_settings
from semcom.statistics import Interval
from semcom.text.cost import Cost, counted, cpu_seconds
from semcom.text.ehpc import EHPC, Scorer, kept
from semcom.text.heads import RULES, HeadMasses, Probe, measured_masses, token_places
from semcom.text.lm import LanguageModel, load
from semcom.text.measurement import WHOLE, Plan, Row, difference_of, mean_of, measured
from semcom.text.reading import Reading
from semcom.text.scorers import (
    H2O,
    GemFilter,
    LLMLingua,
    LongLLMLingua,
    RandomTokens,
    SelfInformation,
    SnapKV,
    Truncation,
)
from semcom.text.tasks import Haystack, ReadingTask, multihop, needle, read_book, variables
from semcom.training.recipes import run_script

DATA = Path("../shared/data/text")
TEST_BOOKS = ("bronte.txt", "darwin.txt", "dubois.txt")
OUT = Path("results/prompt_compression")
KEY = ("cell", "item")
TURNS = (
    *("needle", "hotpot", "distractors", "needle", "variables", "hotpot", "needle"),
    *("distractors", "needle", "hotpot", "needle", "variables", "hotpot", "needle", "peers"),
)
"""Order in which cells get their next prompt."""
SIZES = {"needle": 1925, "distractors": 950, "variables": 950, "peers": 950}
"""Tokens of the text of a cell's prompts; the whole prompt has some 50 more."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--prose", type=Path, default=None, help="text that hides the needles of the probe")
    parser.add_argument("--number", type=int, default=100)
    parser.add_argument("--peers", type=int, default=20, help="prompts of the cell of slow methods")
    parser.add_argument("--table", action="store_true", help="make the table of what is there")
    parser.add_argument("--cost", action="store_true", help="measure the table of costs instead")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    lm = load(options.model)
    books = {name: Haystack.of(read_book(DATA / "books" / name)) for name in TEST_BOOKS}
    prose = None if options.prose is None else Haystack.of(read_book(options.prose))
    masses = measured_masses(lm, prose, Probe())
    heads = {rule: masses.heads(rule) for rule in RULES}
    print(heads, flush=True)
    settings = {"model": lm.name, "digest": lm.digest}
    settings |= {rule: f"layer {found.layer}, heads {found.heads}" for rule, found in heads.items()}
    same_settings(options.out / "settings.json", settings)
    if options.cost:
        write_whole(options.out / "cost.json", json.dumps(costs(lm, masses, books["bronte.txt"]), indent=1))
        return
    if options.table:
        write(options.out / "table.md", table(Records(options.out / "records.jsonl", KEY).rows()))
        return
    plans = planned(masses)
    records = Records(options.out / "records.jsonl", KEY)
    done = {(row["cell"], row["item"]) for row in records.rows()}
    for cell, number in turns(options.number, options.peers):
        if (cell, number) in done:
            continue
        task = task_of(lm, cell, number, books)
        if task is None:
            continue
        plan = plans[cell]
        if cell == "hotpot":  # the window is the question
            tail = len(lm.encode(task.tail))
            plan = hotpot_plan(masses, tail)
        row = measured(lm, task, plan)
        records.add({"cell": cell, "item": number, **row})
        print(cell, number, row["tokens"], row[WHOLE], flush=True)
    write(options.out / "table.md", table(records.rows()))


def turns(number: int, peers: int) -> list[tuple[str, int]]:
    """Cells and numbers of prompts in the order in which they are measured."""
    found: list[tuple[str, int]] = []
    most = {cell: peers if cell == "peers" else number for cell in TURNS}
    while any(most.values()):
        for cell in TURNS:
            if most[cell]:
                most[cell] -= 1
                found.append((cell, (peers if cell == "peers" else number) - most[cell] - 1))
    return found


def task_of(lm: LanguageModel, cell: str, number: int, books: dict[str, Haystack]) -> ReadingTask | None:
    """Prompt of a cell; None if the record is not used (answers yes and no)."""
    if cell == "hotpot":
        records = multihop(DATA / "multihop" / "hotpot.jsonl")
        if number >= len(records) or records[number].answers[0].lower() in ("yes", "no"):
            return None
        return records[number].task()

    def tokens(text: str) -> int:
        return len(lm.encode(" " + text))

    rng = np.random.default_rng([19, ("needle", "distractors", "variables", "peers").index(cell), number])
    book = books[TEST_BOOKS[number % len(TEST_BOOKS)]]
    if cell == "variables":
        return variables(book, rng, SIZES[cell], tokens)
    return needle(book, rng, SIZES[cell], tokens, distractors=4 if cell == "distractors" else 0)


def planned(masses: HeadMasses) -> dict[str, Plan]:
    """Methods of each cell."""
    first, best = masses.heads("earliest"), masses.heads("best-head")
    if best.layer == first.layer:  # the other rule is shown at the next layer, where pilots found it
        best = best_of_layer(masses, following(masses, first.layer))
    order = np.argsort(masses.mass[first.layer], kind="stable")
    weak = tuple(int(head) for head in order[: len(first.heads)])
    every = tuple(range(masses.mass.shape[1]))
    own = (
        EHPC(first.layer, first.heads),
        EHPC(best.layer, best.heads, name="ehpc-next"),
        EHPC(best.layer, best.heads[:2], name="ehpc-next-2"),
        EHPC(first.layer, weak, name="weak-heads"),
        EHPC(first.layer, every, name="all-heads"),
    )
    others = (
        GemFilter(first.layer),
        SnapKV(),
        SelfInformation(),
        SelfInformation(kernel=32, name="nll-pooled"),
        RandomTokens(),
        RandomTokens(run=32, name="random-runs"),
        Truncation(),
    )
    sweeps: list[Scorer] = [EHPC(first.layer, first.heads, kernel=r, name=f"r{r}") for r in (1, 4, 8, 16)]
    sweeps += [EHPC(first.layer, first.heads, window=w, name=f"window{w}") for w in (1, 4, 32)]
    sweeps += [EHPC(first.layer, first.heads, exclude_sink=True, name="no-sink")]
    for layer in range(masses.mass.shape[0]):
        sweeps.append(EHPC(layer, best_of_layer(masses, layer).heads, name=f"layer{layer}"))
    answering = frozenset(
        {("ehpc", 4), ("ehpc", 8), ("ehpc", 16), ("ehpc-next", 8), ("random-runs", 8)} | {("ehpc-next-2", 8)}
    )
    small = frozenset({("ehpc", 8), ("random-runs", 8)})
    return {
        "needle": Plan((*own, *others, *sweeps), answering=answering),
        "distractors": Plan((*own, *others), answering=answering),
        "variables": Plan((*own, *others), answering=small),
        "hotpot": hotpot_plan(masses, 32),
        "peers": Plan((own[0], LLMLingua(), LongLLMLingua(), H2O()), ratios=(8,)),
    }


def following(masses: HeadMasses, layer: int) -> int:
    """Layer after another one, or the one before the last."""
    return layer + 1 if layer + 1 < len(masses.mass) else layer - 1


def hotpot_plan(masses: HeadMasses, window: int) -> Plan:
    """Methods of the questions over several passages: the question is protected, and is the window."""
    first = masses.heads("earliest")
    after = best_of_layer(masses, following(masses, first.layer))
    scorers = (
        EHPC(first.layer, first.heads, window),
        EHPC(after.layer, after.heads, window, name="ehpc-next"),
        RandomTokens(run=32, forced=window, name="random-runs"),
        Truncation(forced=window),
    )
    answering = frozenset((scorer.name, 4) for scorer in scorers)
    return Plan(scorers, ratios=(4, 8), answering=answering, window=window, protect=True)


def best_of_layer(masses: HeadMasses, layer: int) -> EHPC:
    """A quarter of a layer's heads, those of the largest mass."""
    number = -(-masses.mass.shape[1] // 4)
    order = np.argsort(-masses.mass[layer], kind="stable")[:number]
    return EHPC(layer, tuple(int(head) for head in order))


def costs(lm: LanguageModel, masses: HeadMasses, book: Haystack) -> list[dict[str, Any]]:
    """CPU time and operations of a skim and of the compressed prompt, over those of the whole prompt."""
    found = masses.heads("earliest")
    scorer = EHPC.of(found)
    model, as_counted = Cost.of(lm), Cost.of(lm, causal=False)
    rows = []
    for size in (1000, 2000, 4000, 8000):
        task = needle(book, np.random.default_rng(size), size - 60, lambda text: len(lm.encode(" " + text)))
        ids, _ = token_places(lm, task.prompt)

        def prefill(tokens: list[int]) -> None:
            with torch.no_grad():
                lm.model(input_ids=torch.tensor([tokens]), use_cache=True, logits_to_keep=1)

        full_s = min(cpu_seconds(lambda ids=ids: prefill(ids)) for _ in range(2))
        whole_flops = counted(lambda ids=ids: prefill(ids)) if size <= 2000 else None
        for ratio in (4, 8, 16):
            budget = len(ids) // ratio
            chosen: list[list[int]] = []
            skim_s = cpu_seconds(
                lambda ids=ids, b=budget, c=chosen: c.append(kept(Reading(lm, ids), scorer, b))
            )
            short = [ids[i] for i in chosen[0]]
            read_s = min(cpu_seconds(lambda short=short: prefill(short)) for _ in range(2))
            row = {
                "tokens": len(ids),
                "ratio": ratio,
                "layer": found.layer,
                "full_cpu_s": round(full_s, 3),
                "skim_cpu_s": round(skim_s, 3),
                "compressed_cpu_s": round(read_s, 3),
                "time_over_full": round((skim_s + read_s) / full_s, 3),
                "flops_over_full": round(
                    model.compressed(len(ids), budget, found.layer, 16) / model.full(len(ids)), 3
                ),
            }
            if whole_flops is not None:
                flops = counted(lambda ids=ids, b=budget: kept(Reading(lm, ids), scorer, b))
                flops += counted(lambda short=short: prefill(short))
                expected = as_counted.compressed(len(ids), budget, found.layer, 16)
                row |= {
                    "counted_over_full": round(flops / whole_flops, 3),
                    "counted_over_model": round(flops / expected, 4),
                }
            print(row, flush=True)
            rows.append(row)
    return rows


def shown(interval: Interval | None, digits: int = 2) -> str:
    """Mean with its interval."""
    if interval is None:
        return "-"
    return f"{interval.mean:.{digits}f} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def table(rows: list[Row]) -> str:
    """All cells as Markdown, with 95 % bootstrap intervals."""
    lines: list[str] = []
    for cell in ("needle", "distractors", "variables", "hotpot", "peers"):
        own = [row for row in rows if row["cell"] == cell]
        if not own:
            continue
        ratios = sorted(
            {int(key[:-1]) for v in own[0].values() if isinstance(v, dict) for key in v if key[-1:] == "x"}
        )
        tokens = np.mean([row["tokens"] for row in own])
        lines += [f"## {cell}: {len(own)} prompts of {tokens:.0f} tokens on average", ""]
        full = mean_of(own, WHOLE, 1, "em"), mean_of(own, WHOLE, 1, "bits")
        lines += [f"Whole prompt: exact {shown(full[0])}, {shown(full[1])} bits per answer token.", ""]
        lines += ["| method | " + " | ".join(f"recall {r}x | exact {r}x | bits {r}x" for r in ratios) + " |"]
        lines += ["| --- |" + " --- |" * (3 * len(ratios))]
        for method in (key for key, value in own[0].items() if isinstance(value, dict) and key != WHOLE):
            cells = [shown(mean_of(own, method, r, m)) for r in ratios for m in ("recall", "em", "bits")]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        lines += ["", "Paired differences:", ""]
        for other in ("weak-heads", "random-runs", "truncation", "nll", "nll-pooled", "gemfilter", "snapkv"):
            if other in own[0]:
                gaps = [shown(difference_of(own, ("ehpc", r), (other, r), "recall")) for r in ratios]
                lines.append(
                    f"- recall of ehpc minus {other}: "
                    + ", ".join(f"{gap} at {r}x" for gap, r in zip(gaps, ratios, strict=True))
                )
        for ratio in ratios:
            for method in ("ehpc", "ehpc-next", "ehpc-next-2", "random-runs", "truncation"):
                for measure in ("em", "bits"):
                    gap = difference_of(own, (method, ratio), (WHOLE, 1), measure)
                    if gap is not None:
                        lines.append(f"- {measure} of {method} at {ratio}x minus whole prompt: {shown(gap)}")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(main)
