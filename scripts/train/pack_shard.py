"""Pack crops of photographs into one file, so that a machine without the photographs can train.

Run:     python scripts/train/pack_shard.py --photos ../shared/data/photos/train --out .cache/shard.npy
Cost:    10 seconds on one CPU core
Expect:  165 crops of 224x224 in 24.8 MB; more than 25 MB is refused unless --max-mb says otherwise
"""

import argparse
from pathlib import Path

from semcom.training.crops import pack


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, default=Path("../shared/data/photos/train"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=165)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--max-mb", type=float, default=25.0)
    args = parser.parse_args()
    size_mb = args.count * 3 * args.side**2 / 1e6
    if size_mb > args.max_mb:
        parser.error(f"shard of {size_mb:.1f} MB, limit is {args.max_mb:g} MB; lower --count or --side")
    pack(args.photos, args.out, args.count, args.side)
    print(f"{args.out}: {args.count} crops of {args.side}x{args.side}, {size_mb:.1f} MB")


if __name__ == "__main__":
    main()
