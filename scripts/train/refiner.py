"""Train the refiner: the network that makes a decoded picture look like a photograph, in one call.

Run:     TORCH_HOME=../shared/torch-home python scripts/train/refiner.py --seconds 5400 --out .cache/refiner
         on a GPU: --seconds 540 --device cuda --batch 64 --crop 192; without the photographs, --photos SHARD
         (pack_shard.py); for frames of video too, --clips ../shared/data/video/train; killed, the same
         command goes on from its last checkpoint
Cost:    some 10 minutes to code the pictures once, then 10 crops of 128x128 a second on one CPU core
Expect:  the validation score of semcom/weights/refiner.md, within 0.2 dB
"""

from pathlib import Path

from semcom.training import refiner
from semcom.training.recipes import recipe_parser, run_script


def main() -> None:
    parser = recipe_parser(__doc__, refiner.train, seconds=5400.0)
    parser.add_argument(
        "--clips", type=Path, help="folder of clips: half of the batch are then decoded frames"
    )
    print(f"validation score {refiner.train(**vars(parser.parse_args())):.2f} dB")


if __name__ == "__main__":
    run_script(main)
