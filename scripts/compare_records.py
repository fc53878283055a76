"""What a change of the program changes: the same records measured before and after it.

Run:     python scripts/compare_records.py results/sweep_snr/items.csv NEW/items.csv
Cost:    a second
Expect:  a table with one row per scheme, channel and metric; see "Figures that moved" in results/README.md

Both files are items.csv of an experiment, or records.parquet. Rows are paired by scheme, channel, item, SNR
and rho, and averaged over seeds; rows that only one file has are left out, and counted. Intervals are 95 %
bootstrap intervals of the mean difference over items.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from semcom.errors import InvalidSource
from semcom.experiment import run_script
from semcom.statistics import bootstrap_mean

if TYPE_CHECKING:
    import pandas as pd

KEYS = ["scheme", "channel", "rho", "snr_db", "item"]
METRICS = ("psnr_db", "ms_ssim", "lpips_squeeze", "swd", "outage")


def means(path: Path) -> "pd.DataFrame":
    """Rows by key, averaged over seeds; rho is rounded as in items.csv."""
    import pandas as pd

    if not path.is_file():
        raise InvalidSource(f"{path}: no such file; name items.csv or records.parquet of an experiment")
    rows = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    rows["rho"] = rows["rho"].map(lambda rho: float(f"{rho:.6g}"))
    return rows.pivot_table([metric for metric in METRICS if metric in rows], KEYS)


def compared(before: "pd.DataFrame", after: "pd.DataFrame") -> str:
    """Markdown table of the mean before and after of every scheme, channel and metric."""
    both = before.join(after, how="inner", lsuffix="_before", rsuffix="_after")
    lines = [
        f"{len(both)} rows are in both files, {len(before) - len(both)} only before, "
        f"{len(after) - len(both)} only after.",
        "",
        "| scheme | channel | rows | metric | before | after | difference (95 %) | largest |",
        "| --- " * 8 + "|",
    ]
    for group, rows in both.groupby(level=["scheme", "channel"]):
        assert isinstance(group, tuple)
        for metric in METRICS:
            names = [f"{metric}_before", f"{metric}_after"]
            if not set(names) <= set(rows):
                continue
            pairs = rows[names].dropna()
            if pairs.empty:
                continue
            first, second = pairs.to_numpy().T
            gap = second - first
            interval = bootstrap_mean(gap, pairs.index.get_level_values("item"))
            lines.append(
                f"| {' | '.join(map(str, group))} | {len(pairs)} | {metric} | {first.mean():.4g} "
                f"| {second.mean():.4g} | {interval.mean:+.4f} ({interval.low:+.4f} to {interval.high:+.4f}) "
                f"| {gap[np.abs(gap).argmax()]:+.4f} |"
            )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, pair, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, help="items.csv or records.parquet")
    parser.add_argument("after", type=Path, help="items.csv or records.parquet")
    chosen = parser.parse_args(arguments)
    print(compared(means(chosen.before), means(chosen.after)))


if __name__ == "__main__":
    run_script(main)
