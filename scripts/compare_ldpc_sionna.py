"""Block error rates of our LDPC decoder and of Sionna's, on the same words and the same noise.

Run:     python scripts/compare_ldpc_sionna.py
Cost:    one minute on one core; Sionna's side is recorded in tests/golden/ldpc_bler.json
Expect:  BLER 1e-2 at 1.32 dB (k = 1024) and 1.00 dB (k = 4224); Sionna needs 0.26 dB more

Both decode rate 1/2 over AWGN with QPSK in at most 20 iterations. Ours is layered, so that an iteration
brings more; its check node is an approximation in 8 bits. The last column tests the pairs (McNemar): the
difference between blocks that only one of the two decoded, in standard errors.
"""

import argparse
import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from channels.fec import NRLDPC

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
TARGET = 1e-2


def golden_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_sionna_ldpc", GOLDEN / "make_sionna_ldpc.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def failed_blocks(k: int, n: int, snr_db: float, blocks: int) -> set[int]:
    """Indices of the blocks that our decoder gets wrong."""
    golden, code, failed = golden_script(), NRLDPC(), set[int]()
    for chunk in range(-(-blocks // golden.CHUNK)):
        bits, noise = golden.received(k, n, chunk)
        codewords = code.encode(torch.from_numpy(bits), n).numpy()
        decoded = code.decode(torch.from_numpy(golden.llr(codewords, noise, snr_db)), k)
        wrong = np.flatnonzero((decoded.bits.numpy() != bits).any(1))
        failed |= {chunk * golden.CHUNK + int(i) for i in wrong}
    return {i for i in failed if i < blocks}


def crossing_db(curve: dict[float, float]) -> float:
    """SNR at which log BLER, a straight line through the two points nearest to the target, reaches it."""
    points = [(db, math.log(bler / TARGET)) for db, bler in curve.items() if bler > 0]
    (a_db, a), (b_db, b) = sorted(points, key=lambda point: abs(point[1]))[:2]
    return a_db + (b_db - a_db) * a / (a - b)


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--blocks", type=int, default=4000, help="blocks per point of our own curve")
    parser.add_argument("--recorded", type=Path, default=GOLDEN / "ldpc_bler.json", help="what Sionna lost")
    args = parser.parse_args()
    torch.set_num_threads(1)
    recorded = json.loads(args.recorded.read_text())
    print("    k     n  SNR/dB  blocks    Sionna      ours  only Sionna right  only ours right       z")
    gaps: dict[str, float] = {}
    for k, n in sorted({(p["k"], p["n"]) for p in recorded}):
        theirs: dict[float, float] = {}
        for p in (p for p in recorded if (p["k"], p["n"]) == (k, n)):
            snr_db, blocks, sionna = p["snr_db"], p["blocks"], set(p["failed"])
            ours = failed_blocks(k, n, snr_db, blocks)
            theirs[snr_db] = len(sionna) / blocks
            only_sionna, only_ours = len(ours - sionna), len(sionna - ours)
            z = (only_sionna - only_ours) / max(only_sionna + only_ours, 1) ** 0.5
            print(
                f"{k:5d} {n:5d} {snr_db:7.2f} {blocks:7d} {theirs[snr_db]:9.2e} {len(ours) / blocks:9.2e}"
                f" {only_sionna:18d} {only_ours:16d} {z:7.1f}"
            )
        sionna_db = crossing_db(theirs)
        grid = [sionna_db - 0.3 + 0.05 * i for i in range(9)]
        ours_db = crossing_db({db: len(failed_blocks(k, n, db, args.blocks)) / args.blocks for db in grid})
        gaps[f"{k}"] = ours_db - sionna_db
        print(f"{k:5d} {n:5d} BLER {TARGET:g} at {sionna_db:.3f} dB (Sionna), {ours_db:.3f} dB (ours)")
    print(json.dumps({f"gap_db_k{k}": round(gap, 3) for k, gap in gaps.items()}))


if __name__ == "__main__":
    main()
