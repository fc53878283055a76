"""Bits per character of codecs of texts, and tokens per second of the language model: JSON rows.

Run:     python scripts/bench_text.py --texts 100 --seen ../shared/data/text/multihop/hotpot.jsonl --decode 8
         --out results/text_rate; --models smollm2 tiny names the language models; without --seen, new text
Cost:    20 minutes of one core for 100 texts; decoding 5 to 8 tokens per CPU second (--decode)
Expect:  the table of results/text_rate/README.md, rates within 0.02

"New" text is prose of this project (README, CONTRIBUTING and docstrings), which is in no training set. "Seen"
text is from Wikipedia (contexts of multi-hop questions), which language models were trained on: it flatters
them.
"""

import argparse
import ast
import json
import re
import sys
import time
from pathlib import Path

from semcom import names
from semcom.codecs.codec import Quality
from semcom.files import write_whole
from semcom.modalities import TextShape
from semcom.text.coding import LanguageModelCodec
from semcom.text.exact import exact

ROOT = Path(__file__).parents[1]
LENGTHS = (200, 500, 1000)
CLASSICAL = ("utf8", "huffman", "zlib", "zstd", "brotli")


def plain(text: str) -> str:
    """Prose without marks of Markdown, in one line."""
    text = re.sub(r"```.*?```|^\|.*$|^#.*$|!?\[([^\]]*)\]\([^)]*\)", r"\1", text, flags=re.S | re.M)
    return " ".join(re.sub(r"[`*>]", "", text).split())


def new_prose() -> str:
    """Prose of this project: pages, and docstrings of modules and classes."""
    parts = [plain((ROOT / page).read_text()) for page in ("README.md", "CONTRIBUTING.md")]
    for path in sorted((ROOT / "semcom").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and (told := ast.get_docstring(node)):
                parts.append(plain(told.split("\n\nArgs:")[0].split("\n\nExample")[0]))
    return " ".join(part for part in parts if part)


def seen_prose(path: Path) -> str:
    """Contexts of multi-hop questions, from Wikipedia."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return " ".join("".join(sentences).strip() for r in records for _, sentences in r["context"])


def passages(text: str, length: int, count: int) -> list[str]:
    """Passages of a text at equal distances that begin at a word, the same beginnings for every length."""
    last = len(text) - max(LENGTHS) - 50
    starts = (text.index(" ", i * last // count) + 1 for i in range(count))
    return [text[start : start + length] for start in starts]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=100, help="passages per length")
    parser.add_argument("--seen", type=Path, help="hotpot.jsonl, for text that models were trained on")
    parser.add_argument("--models", nargs="*", default=["smollm2", "tiny"], help="language models")
    parser.add_argument("--decode", type=int, default=0, help="texts per language model that are decoded too")
    parser.add_argument("--out", type=Path, help="folder for rows.json; without it, rows go to stdout alone")
    given = parser.parse_args()
    sources = {"new": new_prose()} | ({"seen": seen_prose(given.seen)} if given.seen else {})
    rows: list[dict[str, object]] = []
    for name in (*CLASSICAL, *given.models):
        codec = names.codecs.codec(name if name in (*CLASSICAL, "smollm2", "tiny") else f"lm:{name}", "text")
        codec.encode("What is loaded at the first use is not timed.", Quality(1, 0))
        for source, text in sources.items():
            for length in LENGTHS:
                row: dict[str, object] = {"codec": codec.name, "source": source, "characters": length}
                some = passages(text, length, given.texts)
                begun = time.process_time()
                payloads = [codec.encode(x, Quality(1, 0)) for x in some]
                seconds = time.process_time() - begun
                each = [8 * len(p) / len(x) for p, x in zip(payloads, some, strict=True)]
                row |= {"texts": len(some), "bits_per_character": round(sum(each) / len(each), 3)}
                row["each"] = [round(value, 3) for value in each]
                if isinstance(codec, LanguageModelCodec):
                    model = exact(codec.model)
                    tokens = sum(len(model.split(x)) for x in some)
                    row |= {"tokens": tokens, "encode_tokens_per_cpu_second": round(tokens / seconds, 1)}
                    if source == "new" and length == LENGTHS[0] and given.decode:
                        chosen = payloads[: given.decode]
                        begun = time.process_time()
                        right = codec.decode_all(chosen) == some[: given.decode]
                        seconds = time.process_time() - begun
                        count = sum(len(model.split(x)) for x in some[: given.decode])
                        row |= {
                            "decoded": len(chosen),
                            "round_trip": right,
                            "decode_tokens_per_cpu_second": round(count / seconds, 1),
                        }
                elif length == LENGTHS[0]:
                    assert codec.decode(payloads[0], TextShape()) == some[0]
                rows.append(row)
                print(json.dumps({k: v for k, v in row.items() if k != "each"}), flush=True)
                if given.out:
                    given.out.mkdir(parents=True, exist_ok=True)
                    about = {"command": " ".join(sys.argv), "rows": rows}
                    write_whole(given.out / "rows.json", json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
