"""Train the reference DeepJSCC (Bourtsoulatze et al. 2019) for one bandwidth ratio on AWGN at one SNR.

Run:     python scripts/train/deepjscc_2019.py --rho 1/12 --seconds 2700 --out .cache/deepjscc-2019-12
         for 1/48 and 1/192 add --start WEIGHTS of the rho before and --learning-rate 1e-3;
         on a GPU add --device cuda --batch 32; without the photographs, --photos SHARD (pack_shard.py)
Cost:    some 20 steps a second on one CPU core; the card of each network states its steps and seconds
Expect:  the validation PSNR of semcom/weights/deepjscc-2019-<n>.md, within 0.2 dB
"""

from semcom.training import deepjscc2019
from semcom.training.recipes import recipe_parser, run_script


def main() -> None:
    parser = recipe_parser(__doc__, deepjscc2019.train, seconds=2700.0)
    parser.add_argument("--rho", choices=tuple(deepjscc2019.NETWORKS), default="1/12")
    parser.add_argument("--snr-db", type=float, default=deepjscc2019.TRAINED_SNR_DB)
    print(f"validation PSNR {deepjscc2019.train(**vars(parser.parse_args())):.2f} dB")


if __name__ == "__main__":
    run_script(main)
