"""Train the small language model that ships with the package: 0.3 million parameters on books and needles.

Run:     python scripts/train/language_model.py --books ../shared/data/text/books --seconds 600
         --out .cache/tiny; then the same with --ship to copy it into semcom/weights/tiny
Cost:    some 8,000 tokens a second on one CPU core
Expect:  the bits per character of semcom/weights/tiny.md, within 0.05
"""

import argparse
from pathlib import Path

from semcom.text.lm import TINY
from semcom.training import language_model
from semcom.training.recipes import run_script


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--books", type=Path, required=True, help="folder of the books")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint, curve and model")
    parser.add_argument("--seconds", type=float, default=600.0, help="wall-clock length")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ship", action="store_true", help="copy the model into the package afterwards")
    given = vars(parser.parse_args())
    ship = given.pop("ship")
    print(f"{-language_model.train(**given):.3f} bits per character of a book held out")
    if ship:
        language_model.ship(given["out"] / "model", TINY)


if __name__ == "__main__":
    run_script(main)
