"""Train the perceptual decoder of the adaptive DeepJSCC: the encoder stays, LPIPS joins the squared error.

Run:     python scripts/train/deepjscc_perceptual.py --seconds 1800 --out .cache/deepjscc-perceptual
         on a GPU: --seconds 540 --device cuda --batch 64 --crop 192; LPIPS needs the file of SqueezeNet in
         $TORCH_HOME/hub/checkpoints; killed, the same command goes on from its last checkpoint
Cost:    some 25 crops of 128x128 a second on one CPU core
Expect:  the validation score of semcom/weights/deepjscc-perceptual.md, within 0.3 dB
"""

import argparse
from pathlib import Path

from semcom.training import deepjscc, perceptual
from semcom.training.recipes import run_script


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1800.0, help="wall-clock length")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint, curve and weights")
    parser.add_argument("--photos", type=Path, default=deepjscc.PHOTOS, help="folder or shard")
    parser.add_argument("--validation", type=Path, default=deepjscc.VALIDATION, help="folder or shard")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--start", type=Path, help="weights of deepjscc to start from instead of the package's"
    )
    print(f"validation score {perceptual.train(**vars(parser.parse_args())):.2f} dB")


if __name__ == "__main__":
    run_script(main)
