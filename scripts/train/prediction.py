"""Train the frame predictor: the mean of the next frame, then a diffusion model of what the mean misses.

Run:     python scripts/train/prediction.py --seconds 1980 --out .cache/prediction
         on a GPU: --seconds 540 --device cuda --batch 64 --crop 128; killed, the same command goes on
         from its last checkpoint
Cost:    some 3 minutes to make the sequences once, then 8 steps of 16 sequences a second on one CPU core
Expect:  the scores of semcom/weights/predictor.md, within 0.3 dB
"""

from pathlib import Path

from semcom.training import prediction
from semcom.training.recipes import recipe_parser, run_script


def main() -> None:
    parser = recipe_parser(__doc__, prediction.train, seconds=1980.0)
    parser.add_argument("--mean-share", type=float, default=0.45, help="share of the time for the mean")
    parser.add_argument("--clips", type=Path, default=prediction.CLIPS, help="folder of training clips")
    print(f"validation score {prediction.train(**vars(parser.parse_args())):.2f} dB")


if __name__ == "__main__":
    run_script(main)
