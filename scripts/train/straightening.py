"""Train encoder and decoder of the predictive latent link on frames in motion.

Run:     python scripts/train/straightening.py --seconds 1500 --out .cache/straight
         killed, the same command goes on from its last checkpoint
Cost:    the seconds asked for, on one CPU core
Expect:  the scores of semcom/weights/straight.md, within 0.5 dB
"""

from semcom.representation.straightening import OBJECTIVES
from semcom.training import straightening
from semcom.training.recipes import recipe_parser, run_script


def main() -> None:
    """Parse, train, print the score."""
    parser = recipe_parser(__doc__, straightening.train, seconds=1500.0)
    parser.add_argument("--objective", choices=list(OBJECTIVES), default="second-difference")
    print(f"validation score {straightening.train(**vars(parser.parse_args())):.2f} dB")


if __name__ == "__main__":
    run_script(main)
