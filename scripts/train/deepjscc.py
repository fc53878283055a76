"""Train the adaptive DeepJSCC: one network for all SNRs, bandwidth ratios and image sizes.

Run:     python scripts/train/deepjscc.py --seconds 10800 --out .cache/deepjscc
         on a GPU: --seconds 540 --device cuda --batch 64 --crop 192; without the photographs, --photos SHARD
         (pack_shard.py); killed, the same command goes on from its last checkpoint
Cost:    15 to 40 crops of 128x128 a second on one CPU core
Expect:  the validation PSNR of semcom/weights/deepjscc.md, within 0.2 dB
"""

import argparse
from pathlib import Path

from semcom.training import deepjscc
from semcom.training.recipes import run_script


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10800.0, help="wall-clock length")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint, curve and weights")
    parser.add_argument("--photos", type=Path, default=deepjscc.PHOTOS, help="folder or .npy shard")
    parser.add_argument("--validation", type=Path, default=deepjscc.VALIDATION, help="folder or shard")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--start", type=Path, help="weights to start from")
    print(f"validation PSNR {deepjscc.train(**vars(parser.parse_args())):.2f} dB")


if __name__ == "__main__":
    run_script(main)
