"""Train the learned codec: one mean-scale hyperprior for all rates, on top of a block transform.

Run:     python scripts/train/learned_codec.py --seconds 4500 --out .cache/learned-codec
         on a GPU: --device cuda --batch 16 --crop 192 --seconds 540
         without the photographs: --photos SHARD --validation SHARD (pack_shard.py)
Cost:    some 5 steps a second on one CPU core
Expect:  the validation score of semcom/weights/learned.md, within 0.2 dB
"""

from semcom.training import learned_codec
from semcom.training.recipes import recipe_parser, run_script


def main() -> None:
    parser = recipe_parser(__doc__, learned_codec.train, seconds=4500.0)
    parser.add_argument("--hard", action="store_true", help="train the decoder's side alone, on integers")
    print(f"validation score {learned_codec.train(**vars(parser.parse_args())):.3f} dB")


if __name__ == "__main__":
    run_script(main)
