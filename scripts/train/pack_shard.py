"""Pack crops of photographs into one file, so that a machine without the photographs can train.

A .npz shard holds more than seven times the crops of a .npy shard of that size, which keeps the pixels as
they are: luma and halved chroma, transform of 8x8 pixels, one quantiser step, LZMA. Torch and numpy read it.

Run:     python scripts/train/pack_shard.py --photos ../shared/data/photos/train --out .cache/train.npz
Cost:    1 minute on one CPU core
Expect:  1250 crops of 224x224 in 24.8 MB; more than 25 MB is refused unless --max-mb says otherwise
"""

import argparse
from pathlib import Path

from semcom.training.crops import SHARDS, pack
from semcom.training.recipes import run_script


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, default=Path("../shared/data/photos/train"))
    parser.add_argument("--out", type=Path, required=True, help=f"file, one of {', '.join(SHARDS)}")
    parser.add_argument("--count", type=int, default=1250)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0, help="of the choice of crops")
    parser.add_argument("--max-mb", type=float, default=25.0)
    args = parser.parse_args()
    if args.out.suffix not in SHARDS:
        parser.error(f"{args.out}: a shard ends in {' or '.join(SHARDS)}")
    pack(args.photos, args.out, args.count, args.side, args.seed)
    size_mb = args.out.stat().st_size / 1e6
    if size_mb > args.max_mb:
        args.out.unlink()
        parser.error(f"shard of {size_mb:.1f} MB, limit is {args.max_mb:g} MB; lower --count or --side")
    print(f"{args.out}: {args.count} crops of {args.side}x{args.side}, {size_mb:.1f} MB")


if __name__ == "__main__":
    run_script(main)
