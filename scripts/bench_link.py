"""Speed of the digital receiver: information bits per second of process CPU time, one thread.

Run:     python scripts/bench_link.py
         python scripts/bench_link.py --against FOLDER     (another checkout beside it, taking turns)
Cost:    15 s per checkout
Expect:  10 to 20 Mbit per CPU second for 16-QAM on a Zen 5 core, most of it spent in the LDPC decoder

`DigitalLink.receive` over AWGN: header, demapper, LDPC decoder, CRC. Messages of k bits in as few channel
uses as the MCS allows, at the SNR where about one block in a hundred is lost. The median of several rounds
counts; with another checkout, each round measures both, one after the other, so that both meet the same load.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from bench_ldpc import in_checkout

from channels import AWGN, NamedStreams, Received, transmit
from channels.link import DigitalLink
from channels.mcs import MCS_TABLE

HERE = Path(__file__).resolve()
# information bits, MCS, SNR in dB where about one block in a hundred is lost, receptions per call
CASES = (
    *((200, 6, 1.1, 1000), (200, 10, 6.9, 1000), (200, 25, 21.2, 1000)),
    *((1024, 6, 0.4, 300), (1024, 10, 6.0, 300), (1024, 25, 20.3, 300)),
    *((8448, 6, 0.15, 50), (8448, 10, 5.9, 50), (8448, 25, 19.95, 50), (8448, 10, 5.9, 1)),
)
ROUNDS = 5


def receptions(k: int, index: int, snr_db: float, batch: int) -> tuple[DigitalLink, torch.Tensor, Received]:
    """A link, a message of k bits, and what arrives of it in as few channel uses as possible."""
    link = DigitalLink(MCS_TABLE[index])
    uses = next(u for u in range(k // 8, 40 * k) if link.payload_bits(u) >= k)
    bits = torch.randint(0, 2, (k,), generator=torch.Generator().manual_seed(k), dtype=torch.uint8)
    x = link.send(bits, uses)
    streams = NamedStreams(1, tuple(map(str, range(batch))))
    return link, bits, transmit(AWGN(), x.expand(batch, -1), snr_db, streams)


def measure() -> list[dict[str, float]]:
    """Information bits per CPU second, in millions, and share of messages lost, of every case."""
    torch.set_num_threads(1)
    results: list[dict[str, float]] = []
    for k, index, snr_db, batch in CASES:
        link, bits, received = receptions(k, index, snr_db, batch)
        delivery = link.receive(received)  # compiles
        start, calls = time.process_time(), 0
        while (spent := time.process_time() - start) < 0.2:
            link.receive(received)
            calls += 1
        lost = 1 - float(delivery.ok.double().mean())
        results.append({"mbit_per_cpu_s": calls * batch * bits.numel() / spent / 1e6, "lost": lost})
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--against", type=Path, help="folder of another checkout, measured in turns")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--once", action="store_true", help="one round as JSON")
    args = parser.parse_args(arguments)
    if args.once:
        print(json.dumps(measure()))
        return
    folders = [HERE.parents[1]] if args.against is None else [args.against.resolve(), HERE.parents[1]]
    rounds = [[in_checkout(folder, HERE) for folder in folders] for _ in range(args.rounds)]
    print("Mbit per CPU second" + ("" if args.against is None else f": {args.against} and here"))
    table: list[dict[str, object]] = []
    for i, (k, index, snr_db, batch) in enumerate(CASES):
        speeds = [statistics.median(r[j][i]["mbit_per_cpu_s"] for r in rounds) for j in range(len(folders))]
        lost = [rounds[0][j][i]["lost"] for j in range(len(folders))]
        table.append(
            {
                **{"k": k, "mcs": MCS_TABLE[index].name, "receptions": batch, "snr_db": snr_db},
                "mbit_per_cpu_s": [round(speed, 3) for speed in speeds],
                "lost": [round(x, 4) for x in lost],
            }
        )
        print(
            f"{k:5d} bits {MCS_TABLE[index].name:>14s} {batch:5d} receptions {snr_db:5.1f} dB  "
            + "  ".join(f"{speed:7.2f} (lost {x:.1e})" for speed, x in zip(speeds, lost, strict=True))
        )
    print(json.dumps(table))


if __name__ == "__main__":
    main()
