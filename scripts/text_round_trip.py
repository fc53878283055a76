"""Round trip of texts: the parallel encoder, and the step-by-step decoder with other kernels and threads.

Run:     python scripts/text_round_trip.py --model smollm2 --texts 200 --long 100000
Cost:    a CPU second for 25 tokens and setting: hours with SmolLM2, two minutes with --model tiny
Expect:  every text back in every setting, and the table of results/text_rate/README.md

Texts are encoded once, by one pass of the model per packet, and decoded step by step in batches by other
processes: with the vector instructions of the processor, with AVX2 alone, with none, and with two threads.
They hold words, letters of many scripts, control characters and pictures; the first ones are empty, one
character, and letters that no tokenizer has.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from bench_text import new_prose

from semcom.errors import CorruptPayload
from semcom.files import write_whole
from semcom.text.coding import language_model_codec
from semcom.training.recipes import run_script

SETTINGS: Mapping[str, Mapping[str, str]] = {
    "as it is, 1 thread": {},
    "AVX2, 1 thread": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "no vector instructions, 1 thread": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
    "as it is, 2 threads": {"OMP_NUM_THREADS": "2"},
}
"""Environment variables of each decoder."""
FIRST = (
    "",
    "a",
    " ",
    "\n",
    "🦊👩‍👩‍👧 é é ß 写 \u202e \ufeff",
    "\x00\x01\x04\x06\x13\x7f",
    "𐍈 \U000e0041 \U0010ffff",
)
ALPHABETS = ("abcdefgh ,.", "äöüßéñ ", "写真音楽", "\x00\x04\x06\t\r\n", "🦊👩‍👧🏽", "0123456789")


def texts_of(count: int, long: int) -> list[str]:
    """Short texts of many kinds, and one of so many characters of this project's prose."""
    prose = new_prose()
    words = prose.split()
    found = list(FIRST)
    for seed in range(len(FIRST), count):
        rng = random.Random(seed)
        lengths = [rng.randint(1, 8) for _ in range(rng.randint(0, 3))]
        runs = ["".join(rng.choices(rng.choice(ALPHABETS), k=length)) for length in lengths]
        start = rng.randrange(len(words) - 20)
        found.append(" ".join((*runs, *words[start : start + rng.randint(1, 12)])))
    whole = (prose * (long // len(prose) + 1))[:long]
    return [*found[:count], *([whole] if long else [])]


def decoded(model: str, folder: Path) -> dict[str, float | int]:
    """Decode what another process has encoded, and compare."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    texts = json.loads((folder / "texts.json").read_text())
    payloads = [bytes.fromhex(payload) for payload in json.loads((folder / "payloads.json").read_text())]
    begun = time.process_time()
    found = language_model_codec(model).decode_all(payloads)
    return {
        "texts": len(texts),
        "right": sum(a == b for a, b in zip(found, texts, strict=True)),
        "refused": sum(isinstance(text, CorruptPayload) for text in found),
        "cpu_seconds": round(time.process_time() - begun, 1),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--long", type=int, default=100_000, help="characters of the last text; 0 for none")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--out", type=Path, help="JSON file, to which the rows are added")
    parser.add_argument("--decode", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.decode:
        print(json.dumps(decoded(given.model, given.decode)))
        return
    torch.set_num_threads(1)
    texts = texts_of(given.texts, given.long)
    codec = language_model_codec(given.model)
    payloads = [codec.encode(text) for text in texts]
    rows = json.loads(given.out.read_text()) if given.out and given.out.is_file() else []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "texts.json").write_text(json.dumps(texts))
        (folder / "payloads.json").write_text(json.dumps([payload.hex() for payload in payloads]))
        for setting in given.settings:
            environment = {**os.environ, "OMP_NUM_THREADS": "1", **SETTINGS[setting]}
            command = [sys.executable, __file__, "--model", given.model, "--decode", str(folder)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            row = {"model": given.model, "decoder": setting, **json.loads(done.stdout.splitlines()[-1])}
            row |= {"characters": sum(map(len, texts)), "bytes": sum(map(len, payloads))}
            rows.append(row)
            print(json.dumps(row), flush=True)
            if given.out:
                write_whole(given.out, json.dumps(rows, indent=1) + "\n")
    wrong = sum(row["right"] < row["texts"] for row in rows)
    sys.exit(f"{wrong} settings with texts that did not come back" if wrong else 0)


if __name__ == "__main__":
    run_script(main)
