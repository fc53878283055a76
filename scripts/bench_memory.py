"""Seconds of the exact memory, beside PyTorch's attention and faiss's flat index on the same sizes.

Run:     python scripts/bench_memory.py
         python scripts/bench_memory.py --device cuda --dtype float32
Needs:   nothing else; with the package faiss-cpu installed, its flat index too
Cost:    about two minutes of one core
Expect:  results/associative_memory/bench.jsonl; a ratio to attention of 0.5 to 1.5

One JSON row per size and program. `memory` is `Memory.recall`: posterior mean, evidence, most probable
pattern. It is compared with `torch.nn.functional.scaled_dot_product_attention` (the mean alone, of patterns
of equal norm; `masked` with the biases of unequal norms as a mask), and with the nearest pattern by
`faiss.IndexFlatL2`. `ratio` is the time of the memory over that of the program; `gap` the largest difference
of the means, or the share of other nearest patterns. Times are the least of several runs.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from semcom.experiment import run_script, write
from semcom.memory import Memory

SIZES = ((100_000, 256, 64), (100_000, 256, 1), (10_000, 256, 256), (4_096, 128, 1024))
"""Patterns, dimensions, queries."""
NOISE_STD = 0.25
RUNS = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, time, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scale", type=int, default=1, help="divide the numbers of patterns")
    parser.add_argument("--out", type=Path, default=Path("results/associative_memory/bench.jsonl"))
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    rows = []
    for patterns, dims, queries in SIZES:
        rows += timed(patterns // chosen.scale, dims, queries, chosen)
        print(*(json.dumps(row) for row in rows[-4:]), sep="\n", flush=True)
    write(chosen.out, "".join(json.dumps(row) + "\n" for row in rows))


def timed(patterns: int, dims: int, queries: int, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of one size."""
    generator = torch.Generator().manual_seed(0)
    dtype = getattr(torch, chosen.dtype)
    stored = torch.randn(patterns, dims, generator=generator, dtype=torch.float64)
    stored = (stored / stored.norm(dim=1, keepdim=True)).to(chosen.device, dtype)
    index = torch.randint(patterns, (queries,), generator=generator)
    noise = torch.randn(queries, dims, generator=generator, dtype=torch.float64)
    y = (stored[index].double().cpu() + NOISE_STD * noise).to(chosen.device, dtype)
    memory, precision = Memory(stored), NOISE_STD**-2
    recalled = memory.recall(y, NOISE_STD)
    about = {
        "patterns": patterns,
        "dims": dims,
        "queries": queries,
        "dtype": chosen.dtype,
        "device": chosen.device,
        "threads": chosen.threads,
    }
    ours = least(lambda: memory.recall(y, NOISE_STD), chosen.device)
    rows = [{**about, "program": "memory", "seconds": ours}]

    def attention(mask: torch.Tensor | None = None) -> torch.Tensor:
        q, k = y[None, None], stored[None, None]
        return scaled_dot_product_attention(q, k, k, mask, scale=precision)[0, 0]

    biases = (-stored.square().sum(1) * precision / 2)[None, None, None].expand(1, 1, queries, -1)
    for name, mask in (("attention", None), ("attention, masked", biases)):
        seconds = least(lambda mask=mask: attention(mask), chosen.device)
        gap = float((attention(mask) - recalled.mean).abs().max())
        rows.append({**about, "program": name, "seconds": seconds, "ratio": ours / seconds, "gap": gap})
    if find_spec("faiss") and chosen.device == "cpu" and chosen.dtype == "float32":
        import faiss  # pyright: ignore[reportMissingImports]

        faiss.omp_set_num_threads(chosen.threads)
        flat = faiss.IndexFlatL2(dims)
        flat.add(stored.numpy())
        seconds = least(lambda: flat.search(y.numpy(), 1), chosen.device)
        other = flat.search(y.numpy(), 1)[1][:, 0] != recalled.index.numpy()
        rows.append(
            {
                **about,
                "program": "faiss flat index",
                "seconds": seconds,
                "ratio": ours / seconds,
                "gap": float(other.mean()),
            }
        )
    return rows


def least(call: Callable[[], object], device: str) -> float:
    """Least time of a call in seconds, after one run that is not counted."""
    times = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        call()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return round(min(times[1:]), 6)


if __name__ == "__main__":
    run_script(main)
