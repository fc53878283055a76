"""Train the refiner: the prior for natural images that also sees what a decoder made of the picture.

Run:     python scripts/train/refiner.py --seconds 7200 --out .cache/refiner
         on a GPU: --seconds 540 --device cuda --batch 256 --crop 96 --codes deepjscc; without the
         photographs, --photos SHARD (pack_shard.py);
         killed, the same command goes on from its last checkpoint
Cost:    some 15 minutes to decode the pictures once, then 200 crops of 64x64 a second on one CPU core
Expect:  no better than DiffPIR with the prior after an hour of one core; no weights are shipped
"""

import argparse
from pathlib import Path

from semcom.training import refiner
from semcom.training.recipes import run_script


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=7200.0, help="wall-clock length")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint, curve and weights")
    parser.add_argument("--photos", type=Path, default=refiner.PHOTOS, help="folder or shard")
    parser.add_argument("--validation", type=Path, default=refiner.VALIDATION, help="folder or shard")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--start", type=Path, help="weights to start from")
    parser.add_argument(
        "--codes", default=refiner.CODES, help="deepjscc and codecs whose pictures are refined"
    )
    print(f"validation PSNR {refiner.train(**vars(parser.parse_args())):.2f} dB")


if __name__ == "__main__":
    run_script(main)
