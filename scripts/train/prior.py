"""Train the prior for natural images: a denoiser for all noise levels.

Run:     python scripts/train/prior.py --seconds 7200 --out .cache/prior
         on a GPU: --seconds 540 --device cuda --batch 256 --crop 96; without the photographs, --photos SHARD
         (pack_shard.py); killed, the same command goes on from its last checkpoint
Cost:    some 200 crops of 64x64 a second on one CPU core
Expect:  the validation PSNR of semcom/weights/prior.md, within 0.2 dB
"""

from semcom.training import prior
from semcom.training.recipes import recipe_parser, run_script


def main() -> None:
    parser = recipe_parser(__doc__, prior.train, seconds=7200.0)
    print(f"validation PSNR {prior.train(**vars(parser.parse_args())):.2f} dB")


if __name__ == "__main__":
    run_script(main)
