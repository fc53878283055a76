"""Train the adaptive DeepJSCC: one network for all SNRs, bandwidth ratios and image sizes.

Run:     python scripts/train/deepjscc.py --seconds 10800 --out .cache/deepjscc
         on a GPU: --seconds 540 --device cuda --batch 64 --crop 192; without the photographs, --photos SHARD
         (pack_shard.py); killed, the same command goes on from its last checkpoint
Cost:    15 to 40 crops of 128x128 a second on one CPU core
Expect:  the validation PSNR of semcom/weights/deepjscc.md, within 0.2 dB
"""

from semcom.training import deepjscc
from semcom.training.recipes import recipe_parser, run_script


def main() -> None:
    parser = recipe_parser(__doc__, deepjscc.train, seconds=10800.0)
    print(f"validation PSNR {deepjscc.train(**vars(parser.parse_args())):.2f} dB")


if __name__ == "__main__":
    run_script(main)
