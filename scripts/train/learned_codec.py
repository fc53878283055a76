"""Train the learned codec: one mean-scale hyperprior for all rates, on top of a block transform.

Run:     python scripts/train/learned_codec.py --seconds 4500 --out .cache/learned-codec
         on a GPU: --device cuda --batch 16 --crop 192 --seconds 540
         without the photographs: --photos SHARD --validation SHARD (pack_shard.py)
Cost:    some 5 steps a second on one CPU core
Expect:  the validation score of semcom/weights/learned.md, within 0.2 dB
"""

import argparse
from pathlib import Path

from semcom.training import learned_codec
from semcom.training.recipes import run_script


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=4500.0, help="wall-clock length")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint, curve and weights")
    parser.add_argument("--photos", type=Path, default=learned_codec.PHOTOS, help="folder or .npy shard")
    parser.add_argument("--validation", type=Path, default=learned_codec.VALIDATION, help="folder or shard")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--crop", type=int, default=128, help="side in pixels, a multiple of 16")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--hard", action="store_true", help="train the decoder's side alone, on integers")
    parser.add_argument("--start", type=Path, help="weights to start from")
    print(f"validation score {learned_codec.train(**vars(parser.parse_args())):.3f} dB")


if __name__ == "__main__":
    run_script(main)
