"""What 8-bit messages cost at a low code rate: exact boxplus in floating point beside narrower ranges.

Run:     python scripts/ldpc_precision.py
Cost:    4 minutes of one core
Expect:  at k = 600, rate 0.2: as many blocks lost as Sionna, the very same, in floating point; more with the
         range of 8-bit messages (results/ldpc/README.md)

A layered decoder in double precision, 20 iterations and one attempt, on the words and the noise of Sionna's
recorded run (tests/golden/ldpc_bler_layered.json). Its checks are taken in the order of the base graph, as
Sionna's, or in the order of our decoder; its messages and posteriors are limited to a range of LLRs, and what
the channel says is rounded to steps, or not.
"""

import argparse
import json
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from compare_ldpc_sionna import GOLDEN, ITERATIONS, golden_script
from numba import njit

from channels.fec import NRLDPC
from channels.fec.ldpc import lifted_edges
from semcom.experiment import run_script

K, N, PARITY_ROWS = 600, 3000, 42


@dataclass(frozen=True, slots=True)
class Variant:
    """Order of the checks, limits of messages and posteriors in LLR, steps per LLR of the channel."""

    name: str
    ours: bool
    message: float = math.inf
    posterior: float = 1e3
    steps: float | None = None


VARIANTS = (
    Variant("floating point, order of the base graph", ours=False),
    Variant("floating point, our order", ours=True),
    Variant("messages to 8, posteriors to 21", ours=True, message=8.0, posterior=21.0),
    Variant("the same, channel in steps of 1/6", ours=True, message=8.0, posterior=21.0, steps=6.0),
)


@njit(cache=False)
def boxplus(a: float, b: float) -> float:
    """Exact combination of two LLRs in a check."""
    least = min(abs(a), abs(b)) + np.log1p(np.exp(-abs(a) - abs(b))) - np.log1p(np.exp(-abs(abs(a) - abs(b))))
    return least if a * b >= 0 else -least


@njit(cache=False)
def decode(posterior, start, column, shift, iterations, message_limit, limit):
    """Posteriors [columns, z] after layered iterations, in place."""
    z = posterior.shape[1]
    message = np.zeros((len(column), z))
    incoming, forward = np.empty(32), np.empty(32)
    for _ in range(iterations):
        for row in range(len(start) - 1):
            begin, degree = start[row], start[row + 1] - start[row]
            for i in range(z):
                for j in range(degree):
                    x = posterior[column[begin + j], (i + shift[begin + j]) % z] - message[begin + j, i]
                    incoming[j] = min(max(x, -limit), limit)
                    forward[j] = incoming[j] if j == 0 else boxplus(forward[j - 1], incoming[j])
                backward = 0.0
                for j in range(degree - 1, -1, -1):
                    if j == degree - 1:
                        y = forward[j - 1]
                    elif j == 0:
                        y = backward
                    else:
                        y = boxplus(forward[j - 1], backward)
                    backward = incoming[j] if j == degree - 1 else boxplus(backward, incoming[j])
                    y = min(max(y, -message_limit), message_limit)
                    message[begin + j, i] = y
                    x = min(max(incoming[j] + y, -limit), limit)
                    posterior[column[begin + j], (i + shift[begin + j]) % z] = x


def lost(variant: Variant, snr_db: float, blocks: int) -> set[int]:
    """Numbers of the blocks whose bits are wrong."""
    golden, code = golden_script(), NRLDPC()
    block = code.block(K, N)
    z, (first, last) = block.lifting_size, block.filler
    row, column, shift = lifted_edges(block.base_graph, z)
    members = [np.flatnonzero(row == r) for r in range(PARITY_ROWS)]
    if variant.ours:
        members.sort(key=lambda edges: np.count_nonzero(column[edges] < 2))
    start, edges = np.cumsum([0, *map(len, members)]), np.concatenate(members)
    wrong: set[int] = set()
    for chunk in range(-(-blocks // golden.CHUNK)):
        bits, noise = golden.received(K, N, chunk)
        llrs = golden.llr(code.encode(torch.from_numpy(bits), N).numpy(), noise, snr_db)
        for number, (word, llr) in enumerate(zip(bits, llrs, strict=True)):
            soft: npt.NDArray[np.float64] = np.zeros((column.max() + 1) * z)
            at = 0
            for begin, end in block.pieces(0):
                run = min(end - begin, N - at)
                soft[begin : begin + run] += llr[at : at + run]
                at += run
            if variant.steps is not None:
                soft = np.round(soft * variant.steps) / variant.steps
            soft[first:last] = variant.posterior
            posterior = soft.reshape(-1, z)
            decode(
                posterior,
                start,
                column[edges],
                shift[edges] % z,
                ITERATIONS,
                variant.message,
                variant.posterior,
            )
            if ((posterior.ravel()[:K] < 0) != word).any():
                wrong.add(chunk * golden.CHUNK + number)
    return wrong


def main() -> None:
    """Decode and print."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    points = json.loads((GOLDEN / "ldpc_bler_layered.json").read_text())
    point = next(point for point in points if (point["k"], point["n"]) == (K, N))
    sionna = set(point["failed"])
    print(f"k = {K}, n = {N}, {point['snr_db']} dB, {point['blocks']} blocks: Sionna loses {len(sionna)}\n")
    print("| decoder | blocks lost | only this one | only Sionna |\n| --- | --- | --- | --- |")
    for variant in VARIANTS:
        wrong = lost(variant, point["snr_db"], point["blocks"])
        print(
            f"| {variant.name} | {len(wrong)} | {len(wrong - sionna)} | {len(sionna - wrong)} |", flush=True
        )


if __name__ == "__main__":
    run_script(main)
