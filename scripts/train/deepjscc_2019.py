"""Train the reference DeepJSCC (Bourtsoulatze et al. 2019) for one bandwidth ratio on AWGN at one SNR.

Run:     python scripts/train/deepjscc_2019.py --rho 1/12 --seconds 2700 --out .cache/deepjscc-2019-12
         for 1/48 and 1/192 add --start WEIGHTS of the rho before and --learning-rate 1e-3;
         on a GPU add --device cuda --batch 32; without the photographs, --photos SHARD (pack_shard.py)
Cost:    some 20 steps a second on one CPU core; the card of each network states its steps and seconds
Expect:  the validation PSNR of semcom/weights/deepjscc-2019-<n>.md, within 0.2 dB
"""

import argparse
from pathlib import Path

from semcom.training import deepjscc2019
from semcom.training.recipes import run_script


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rho", choices=tuple(deepjscc2019.NETWORKS), default="1/12")
    parser.add_argument("--seconds", type=float, default=2700.0, help="wall-clock length")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint, curve and weights")
    parser.add_argument("--photos", type=Path, default=deepjscc2019.PHOTOS, help="folder or shard")
    parser.add_argument("--validation", type=Path, default=deepjscc2019.VALIDATION, help="folder or shard")
    parser.add_argument("--snr-db", type=float, default=deepjscc2019.TRAINED_SNR_DB)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--crop", type=int, default=192)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--start", type=Path, help="weights of another rho to start from")
    print(f"validation PSNR {deepjscc2019.train(**vars(parser.parse_args())):.2f} dB")


if __name__ == "__main__":
    run_script(main)
