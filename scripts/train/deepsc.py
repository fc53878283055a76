"""Train joint source-channel coding of texts (in the manner of DeepSC) on books.

Run:     python scripts/train/deepsc.py --books ../shared/data/text/books --seconds 900 --out .cache/deepsc
Cost:    some 2,000 tokens a second on one CPU core
Expect:  the validation score of semcom/weights/deepsc.md, within 1 point
"""

import argparse
from pathlib import Path

from semcom.training import deepsc
from semcom.training.recipes import run_script


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--books", type=Path, required=True, help="folder of the books")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint, curve and weights")
    parser.add_argument("--seconds", type=float, default=900.0, help="wall-clock length")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--device", default="cpu")
    print(f"token error rate {-deepsc.train(**vars(parser.parse_args())):.2f} %")


if __name__ == "__main__":
    run_script(main)
