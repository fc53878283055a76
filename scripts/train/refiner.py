"""Train the refiner: the prior for natural images that also sees what a decoder made of the picture.

Run:     python scripts/train/refiner.py --seconds 7200 --out .cache/refiner
         on a GPU: --seconds 540 --device cuda --batch 256 --crop 96 --codes deepjscc; without the
         photographs, --photos SHARD (pack_shard.py);
         killed, the same command goes on from its last checkpoint
Cost:    some 15 minutes to decode the pictures once, then 200 crops of 64x64 a second on one CPU core
Expect:  no better than DiffPIR with the prior after an hour of one core; no weights are shipped
"""

from semcom.training import refiner
from semcom.training.recipes import recipe_parser, run_script


def main() -> None:
    parser = recipe_parser(__doc__, refiner.train, seconds=7200.0)
    parser.add_argument(
        "--codes", default=refiner.CODES, help="deepjscc and codecs whose pictures are refined"
    )
    print(f"validation PSNR {refiner.train(**vars(parser.parse_args())):.2f} dB")


if __name__ == "__main__":
    run_script(main)
