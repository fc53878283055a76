"""Block error rates of every MCS on AWGN, for link adaptation: the table that ships with `channels`.

Run:     python scripts/make_bler_curves.py --out channels/tables/bler_awgn.csv
Cost:    about 15 minutes of one core; an interrupted run goes on where it stopped
Expect:  BLER 1e-2 of 16-qam-490 at 2048 bits at 5.8 dB, of qpsk-602 at 8448 bits at 1.9 dB

One code block of K' bits (CRC included) per trial, the decoder as shipped, exact LLRs. SNRs are 0.1 dB apart
(0.25 dB up to 2048 bits, 0.5 dB up to 512), from the last with BLER above 0.9 to the first below 1e-4, or to
the first with at most one block lost among those that `--coded-bits` hold. With 2e7, as for the shipped
table, five lost blocks are counted down to 7e-5 at 32 bits, 2e-4 at 128, 6e-4 at 512, 5e-3 at 2048 and 1e-2
at 8448 (medians over the MCS); cost and blocks grow in proportion. The longest block is that of the base
graph which the standard chooses for the code rate, the next has most filler bits: one bit more than the
lifting size below the largest holds.

Each SNR draws its messages once and meets them with new noise again and again: noise is what loses blocks,
and encoding costs as much as decoding.
"""

import argparse
import csv
import math
from pathlib import Path

import numpy as np
import torch

from channels import theory
from channels.channel import Received
from channels.fec.transport import TransportBlock
from channels.mcs import MCS_TABLE, Mcs

BLOCK_BITS = (32, 128, 512, 2048, 7745, 8448)
IN_BASE_GRAPH_2 = {8448: 3840, 7745: 3521}
MAX_ERRORS = 100
MAX_BLOCKS = 200_000  # per SNR, if `--coded-bits` hold as many
LOWEST = 1e-4
COLUMNS = ("mcs", "block_bits", "snr_db", "blocks", "errors")


def plan_of(mcs: Mcs, block_bits: int) -> TransportBlock:
    """One code block of that length at the rate of the MCS, or the longest that is not cut."""
    uses = math.ceil(block_bits / mcs.bits_per_use)
    info_bits = block_bits - (24 if block_bits > 3840 else 16)
    plan = TransportBlock(info_bits, uses * mcs.bits_per_symbol, mcs.bits_per_symbol)
    return plan if plan.blocks == 1 else plan_of(mcs, IN_BASE_GRAPH_2[block_bits])


def step_db(plan: TransportBlock) -> float:
    """Step of the SNR in dB, finer for long blocks, whose waterfalls are steep."""
    length = plan.block.info_bits
    return 0.1 if length > 2048 else 0.25 if length > 512 else 0.5


def measure(mcs: Mcs, plan: TransportBlock, snr_db: float, coded_bits: float) -> tuple[int, int]:
    """Blocks sent and lost, until enough are lost or the limit is reached."""
    seed = np.random.SeedSequence((mcs.index, plan.info_bits, round(100 * snr_db) + 10000))
    generator = torch.Generator().manual_seed(int(seed.generate_state(1)[0]))
    most = min(MAX_BLOCKS, max(200, round(coded_bits / plan.coded_bits)))
    at_once = max(10, min(most, 4000, round(2e5 / plan.coded_bits)))
    noise_var = torch.tensor([[10 ** (-snr_db / 10)]])
    bits = torch.randint(0, 2, (at_once, plan.info_bits), generator=generator, dtype=torch.uint8)
    x = mcs.constellation.modulate(plan.encode(bits))
    h, noise_vars = torch.ones_like(x), noise_var.expand(at_once, 1)
    blocks = errors = 0
    while blocks < most and errors < MAX_ERRORS:
        y = torch.randn(x.shape, generator=generator, dtype=x.dtype).mul_(noise_var.sqrt()).add_(x)
        decoded = plan.decode(mcs.constellation.exact_llr(Received(y, h, noise_vars)))
        errors += int((~decoded.ok | (decoded.bits != bits).any(1)).sum())
        blocks += at_once
    return blocks, errors


def curve(mcs: Mcs, plan: TransportBlock, coded_bits: float) -> list[tuple[float, int, int]]:
    """(snr_db, blocks, errors) over the waterfall."""
    step = step_db(plan)
    grid = np.arange(-20.0, 40.0, step).round(2)
    limit = grid[np.searchsorted(theory.bicm_capacity(2**mcs.bits_per_symbol, grid), mcs.bits_per_use)]
    points: dict[float, tuple[int, int]] = {}
    snr_db = round(float(limit) + 0.75, 2)
    while True:  # up, until hardly any block is lost
        points[snr_db] = measure(mcs, plan, snr_db, coded_bits)
        blocks, errors = points[snr_db]
        if errors <= max(1, LOWEST * blocks):
            break
        snr_db = round(snr_db + step, 2)
    snr_db = min(points)
    while points[snr_db][1] <= 0.9 * points[snr_db][0]:
        snr_db = round(snr_db - step, 2)
        points[snr_db] = measure(mcs, plan, snr_db, coded_bits)
    return [(snr_db, *points[snr_db]) for snr_db in sorted(points)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV file, appended to")
    parser.add_argument("--coded-bits", type=float, default=2e7, help="most coded bits sent per SNR")
    args = parser.parse_args()
    path: Path = args.out
    torch.set_num_threads(1)
    done = set()
    if path.exists():
        with path.open() as file:
            done = {(int(row["mcs"]), int(row["block_bits"])) for row in csv.DictReader(file)}
    else:
        path.write_text(",".join(COLUMNS) + "\n")
    for block_bits in BLOCK_BITS:
        for mcs in MCS_TABLE:
            plan = plan_of(mcs, block_bits)
            length = plan.block.info_bits
            if (mcs.index, length) in done:
                continue
            rows = [(mcs.index, length, *point) for point in curve(mcs, plan, args.coded_bits)]
            with path.open("a") as file:
                csv.writer(file, lineterminator="\n").writerows(rows)
            print(mcs.name, length, [f"{snr}: {e}/{n}" for _, _, snr, n, e in rows], flush=True)


if __name__ == "__main__":
    main()
