"""Train the perceptual decoder of the adaptive DeepJSCC: the encoder stays, LPIPS joins the squared error.

Run:     python scripts/train/deepjscc_perceptual.py --seconds 1800 --out .cache/deepjscc-perceptual
         on a GPU: --seconds 540 --device cuda --batch 64 --crop 192; LPIPS needs the file of SqueezeNet in
         $TORCH_HOME/hub/checkpoints; killed, the same command goes on from its last checkpoint
Cost:    some 25 crops of 128x128 a second on one CPU core
Expect:  the validation score of semcom/weights/deepjscc-perceptual.md, within 0.3 dB
"""

from semcom.training import perceptual
from semcom.training.recipes import recipe_parser, run_script


def main() -> None:
    parser = recipe_parser(__doc__, perceptual.train, seconds=1800.0)
    print(f"validation score {perceptual.train(**vars(parser.parse_args())):.2f} dB")


if __name__ == "__main__":
    run_script(main)
