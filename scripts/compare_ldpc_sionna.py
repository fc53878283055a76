"""Block error rates of our LDPC decoder and of Sionna's, on the same words and the same noise.

Run:     python scripts/compare_ldpc_sionna.py --out results/ldpc/layered.json
         python scripts/compare_ldpc_sionna.py --recorded tests/golden/ldpc_bler.json   (flooding schedule)
Cost:    a minute on one core; Sionna's side is recorded (tests/golden/make_sionna_ldpc.py)
Expect:  at 20 layered iterations each, ours needs at most 0.03 dB more than Sionna's boxplus

QPSK over AWGN. Ours is given as many iterations as Sionna, 20, and one attempt at each block; its check node
is an approximation in 8 bits. The gap is the further SNR at which it loses as many blocks, interpolated
between steps of 0.03 dB; its standard error is that of the pairs (McNemar), the root of the number of blocks
that only one of the two decoded, over the slope. The last column is what the decoder as shipped loses, with
its own limit and second attempts.
"""

import argparse
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from channels.fec import NRLDPC

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
ITERATIONS = 20
STEP_DB = 0.03
STEPS = range(-3, 4)


def golden_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_sionna_ldpc", GOLDEN / "make_sionna_ldpc.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def failed_blocks(k: int, n: int, snrs_db: Sequence[float], blocks: int) -> list[tuple[set[int], set[int]]]:
    """For every SNR, the blocks that ours loses in 20 iterations of one attempt, and as it is shipped."""
    golden, limited, shipped = golden_script(), NRLDPC(max_iterations=ITERATIONS), NRLDPC()
    failed = [(set[int](), set[int]()) for _ in snrs_db]
    for chunk in range(-(-blocks // golden.CHUNK)):
        bits, noise = golden.received(k, n, chunk)
        codewords = limited.encode(torch.from_numpy(bits), n).numpy()
        for snr_db, sets in zip(snrs_db, failed, strict=True):
            llr = torch.from_numpy(golden.llr(codewords, noise, snr_db))
            for code, found in zip((limited, shipped), sets, strict=True):
                decoded = code.decode(llr, k)
                wrong = (decoded.bits.numpy() != bits).any(1)
                if code is limited:
                    wrong |= decoded.iterations.numpy() > ITERATIONS  # decoded in the second attempt
                found |= {chunk * golden.CHUNK + int(i) for i in np.flatnonzero(wrong)}
    return failed


def compared(point: dict[str, object]) -> dict[str, object]:
    """Counts, gap in dB and its standard error at one recorded point."""
    k, n, snr_db, blocks = (point[name] for name in ("k", "n", "snr_db", "blocks"))
    assert isinstance(k, int)
    assert isinstance(n, int)
    assert isinstance(snr_db, float)
    assert isinstance(blocks, int)
    assert isinstance(point["failed"], list)
    sionna = set[int](point["failed"])
    offsets_db = np.array([STEP_DB * step for step in STEPS])
    curve = failed_blocks(k, n, [snr_db + float(offset) for offset in offsets_db], blocks)
    lost = np.array([len(limited) for limited, _ in curve], dtype=float)
    here, shipped = curve[STEPS.index(0)]
    one_sided = len(here ^ sionna)
    slope = (lost[0] - lost[-1]) / (offsets_db[-1] - offsets_db[0])  # blocks per dB
    gap_db = float(np.interp(-len(sionna), -np.maximum.accumulate(lost[::-1])[::-1], offsets_db))
    return {
        **{"k": k, "n": n, "snr_db": snr_db, "blocks": blocks, "sionna": len(sionna), "ours": len(here)},
        **{"only_sionna_right": len(here - sionna), "only_ours_right": len(sionna - here)},
        **{"gap_db": round(gap_db, 4), "standard_error_db": round(one_sided**0.5 / slope, 4)},
        "as_shipped": len(shipped),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    recorded = GOLDEN / "ldpc_bler_layered.json"
    parser.add_argument("--recorded", type=Path, default=recorded, help="what Sionna lost")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print("|    k |     n |  rate | SNR/dB | blocks | Sionna | ours | gap/dB | as shipped |")
    print("| ---- | ----- | ----- | ------ | ------ | ------ | ---- | ------ | ---------- |")
    rows: list[dict[str, object]] = []
    for point in json.loads(args.recorded.read_text()):
        row = compared(point)
        rows.append(row)
        print(
            f"| {row['k']:4d} | {row['n']:5d} | {point['k'] / point['n']:5.2f} | {row['snr_db']:6.2f} "
            f"| {row['blocks']:6d} | {row['sionna']:6d} | {row['ours']:4d} "
            f"| {row['gap_db']:+.3f} ± {row['standard_error_db']:.3f} | {row['as_shipped']:10d} |",
            flush=True,
        )
    if args.out:
        args.out.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
