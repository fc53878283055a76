"""Make ldpc.npz and ldpc_bler*.json: what Sionna's 5G LDPC code answers, for tests that do not need Sionna.

Run:     python tests/golden/make_sionna_ldpc.py vectors      (an environment with sionna-no-rt >= 2.2)
         python tests/golden/make_sionna_ldpc.py bler --k 4224 --n 8448 --snr-db 1.0 1.1 --blocks 10000
         python tests/golden/make_sionna_ldpc.py layered
Cost:    vectors one minute; bler about 0.06 Mbit/s on one core; layered half an hour
Expect:  tests/golden/ldpc.npz below 300 kB; one entry per SNR in tests/golden/ldpc_bler.json; one entry per
         length and code rate in tests/golden/ldpc_bler_layered.json

Block error rates are paired: `received` makes message and noise of block i from numpy alone, the same for
every SNR, so that another decoder can be given the very same words.

Sionna knows no repetition. Where a word is longer than the mother code, its decoder is given the sum of the
log-likelihood ratios of each bit that was sent twice, which is all that repetition means.
"""

import argparse
import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
CHUNK = 100  # blocks drawn from one generator
# k, n, Es/N0 in dB, blocks of the layered runs: code rates 0.92, 0.5, 0.2. Where a third of the blocks is
# lost the error rate is steepest, and few of them tell hundredths of a dB.
LAYERED = (
    *((600, 652, 7.4, 4000), (3000, 3261, 6.75, 300), (8448, 9183, 6.65, 200)),
    *((600, 1200, 1.0, 500), (3000, 6000, 0.8, 200), (8448, 16896, 0.75, 100)),
    *((600, 3000, -3.95, 400), (3000, 15000, -4.2, 100), (8448, 42240, -3.82, 100)),
)

# (k, n, bits per symbol, base graph or 0 for the standard's choice)
VECTORS = (
    *((12, 60, 1, 0), (20, 25, 1, 0), (40, 100, 2, 0), (100, 480, 4, 0), (192, 300, 6, 0), (193, 960, 2, 0)),
    *((292, 584, 8, 0), (293, 400, 1, 0), (560, 1120, 4, 0), (561, 1500, 2, 0), (640, 1000, 1, 0)),
    *((641, 3204, 6, 0), (1024, 2048, 2, 0), (2000, 2400, 6, 0), (3824, 5760, 1, 0), (3840, 11520, 1, 1)),
    *((4224, 8448, 2, 0), (5000, 5400, 8, 0), (8448, 9000, 6, 0), (8448, 25344, 2, 0), (44, 100, 1, 1)),
    *((300, 800, 1, 1), (1000, 1200, 2, 2)),
)


def received(k: int, n: int, chunk: int) -> tuple[np.ndarray, np.ndarray]:
    """Messages uint8 [100, k] and unit-variance noise float32 [100, n] of one hundred blocks."""
    rng = np.random.Generator(np.random.Philox(key=[k * 2**32 + n, chunk]))
    return rng.integers(0, 2, (CHUNK, k), dtype=np.uint8), rng.standard_normal((CHUNK, n), dtype=np.float32)


def llr(codewords: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """log P(0)/P(1) of QPSK over AWGN at Es/N0: y = (1 - 2 c) + sqrt(N0) n per bit, llr = 2 y / N0."""
    noise_var = 10 ** (-snr_db / 10)
    return ((1 - 2.0 * codewords + noise_var**0.5 * noise) * (2 / noise_var)).astype(np.float32)


def vectors() -> None:
    import torch
    from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder

    rng = np.random.default_rng(38212)
    arrays: dict[str, np.ndarray] = {}
    for k, n, bits_per_symbol, base_graph in VECTORS:
        interleaved = None if bits_per_symbol == 1 else bits_per_symbol
        graph = f"bg{base_graph}" if base_graph else None
        encoder = LDPC5GEncoder(k, n, num_bits_per_symbol=interleaved, bg=graph)
        bits = rng.integers(0, 2, (2, k), dtype=np.uint8)
        coded = encoder(torch.tensor(bits, dtype=torch.float32), rv=[0, 1, 2, 3]).numpy().astype(np.uint8)
        # Strong enough for both decoders, weak enough that many bits arrive wrong; integers keep it small.
        noise_var = 10 ** (-(10 * np.log10(k / n * 2) + 4) / 10)
        sent = 1 - 2.0 * coded[:, 0]
        noisy = (sent + noise_var**0.5 * rng.standard_normal(sent.shape)) * 2 / noise_var
        noisy = np.clip(np.rint(4 * noisy), -127, 127).astype(np.int8)
        decoder = LDPC5GDecoder(encoder, cn_update="boxplus", num_iter=20)
        decoded = decoder(torch.tensor(-noisy / 4.0, dtype=torch.float32)).numpy().astype(np.uint8)
        name = f"{k}-{n}-{bits_per_symbol}-{base_graph}"
        arrays[f"{name}/bits"] = np.packbits(bits, axis=-1)
        arrays[f"{name}/coded"] = np.packbits(coded, axis=-1)
        if n < 3000:
            arrays[f"{name}/llr_times_4"] = noisy
            arrays[f"{name}/decoded"] = np.packbits(decoded, axis=-1)
        print(f"{name}: lifting size {encoder.z}, {int((decoded != bits).sum())} bit errors left", flush=True)
    np.savez_compressed(HERE / "ldpc.npz", **arrays)
    print(f"ldpc.npz: {(HERE / 'ldpc.npz').stat().st_size} bytes")


def bler(
    k: int, n: int, snrs_db: list[float], blocks: int, iterations: int, schedule: str, path: Path
) -> None:
    import torch
    from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder

    torch.set_num_threads(1)
    mother = min(n, 3 * k) if k > 3840 else n  # Sionna has no repetition
    encoder = LDPC5GEncoder(k, mother)
    decoder = LDPC5GDecoder(encoder, cn_update="boxplus", num_iter=iterations, cn_schedule=schedule)
    failed: dict[float, list[int]] = {snr_db: [] for snr_db in snrs_db}
    for chunk in range(blocks // CHUNK):
        bits, noise = received(k, n, chunk)
        codewords = encoder(torch.tensor(bits, dtype=torch.float32)).numpy()
        codewords = codewords[:, np.arange(n) % mother]
        for snr_db in snrs_db:
            seen = llr(codewords, noise, snr_db)
            seen = sum(np.pad(part, ((0, 0), (0, mother - part.shape[1]))) for part in _turns(seen, mother))
            decoded = decoder(-torch.tensor(seen)).numpy()
            wrong = np.flatnonzero((decoded != bits).any(1))
            failed[snr_db] += [chunk * CHUNK + int(i) for i in wrong]
        print(chunk, {snr_db: len(f) for snr_db, f in failed.items()}, flush=True)
    points = json.loads(path.read_text()) if path.exists() else []
    points = [p for p in points if not (p["k"] == k and p["n"] == n and p["snr_db"] in failed)]
    for snr_db, indices in failed.items():
        points.append(
            {"k": k, "n": n, "snr_db": snr_db, "blocks": blocks // CHUNK * CHUNK, "failed": indices}
        )
    points.sort(key=lambda p: (p["k"], p["n"], p["snr_db"]))
    path.write_text("[\n" + ",\n".join(json.dumps(p) for p in points) + "\n]\n")


def _turns(seen: np.ndarray, mother: int) -> list[np.ndarray]:
    """The turns round the circular buffer, the last one perhaps incomplete."""
    return [seen[:, start : start + mother] for start in range(0, seen.shape[1], mother)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("vectors", "bler", "layered"))
    parser.add_argument("--k", type=int, default=4224)
    parser.add_argument("--n", type=int, default=8448)
    parser.add_argument("--snr-db", type=float, nargs="+", default=[1.2])
    parser.add_argument("--blocks", type=int, default=10000)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--schedule", choices=("flooding", "layered"), default="flooding")
    parser.add_argument("--out", type=Path, default=HERE / "ldpc_bler.json")
    args = parser.parse_args()
    if args.what == "vectors":
        vectors()
    elif args.what == "layered":
        for k, n, snr_db, blocks in LAYERED:
            path = HERE / "ldpc_bler_layered.json"
            if path.exists() and any((p["k"], p["n"]) == (k, n) for p in json.loads(path.read_text())):
                continue  # an interrupted run goes on where it stopped
            bler(k, n, [snr_db], blocks, args.iterations, "layered", path)
    else:
        bler(args.k, args.n, args.snr_db, args.blocks, args.iterations, args.schedule, args.out)


if __name__ == "__main__":
    main()
