"""Where does semantic communication win? Kodak over SNR and rho: the best scheme of each cell, and its lead.

Run:     TORCH_HOME=../shared/torch-home python scripts/winners.py --workers 2
Cost:    `python scripts/winners.py --photos 1`, then `--estimate`; killed, the same command resumes
Expect:  see results/winners/README.md

Two channels, five SNRs, five bandwidth ratios, three metrics. Schemes whose transmitter is not told the SNR
are compared with each other, those that are told it with each other; every family has a scheme in both. There
are two fixed rates, not one for every SNR: a choice of the best of many in every cell would know the SNR.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from semcom import names
from semcom.budget import shown_rho
from semcom.columns import Column
from semcom.data import load_folder
from semcom.experiment import conduct, run_script, write, write_figure
from semcom.kinds import KNOWLEDGE, kinds_of
from semcom.metrics.catalogue import column_named
from semcom.metrics.metric import measure
from semcom.results import ResultStore
from semcom.summary import RECORDS, winner_maps
from semcom.sweep import Sweep
from semcom.winners import Standing, facets, standings

if TYPE_CHECKING:
    import pandas as pd

SCHEMES = (
    *("jpeg+ldpc:mcs4", "avif+ldpc:mcs6", "softcast", "deepjscc", "deepjscc-perceptual"),
    *("avif+ldpc:mcs6+refine", "hybrid:avif:mcs6:softcast-residual"),
    *("envelope:csit-average", "avif+ldpc:csit-average", "softcast:csit-average", "deepjscc:csit-average"),
    *("envelope:csit-average+refine", "hybrid:avif:csit-average:softcast-residual"),
)
CHANNELS = ("awgn", "rayleigh:64")
SNR_DB = (0.0, 5.0, 10.0, 15.0, 20.0)
RHO = ("1/12", "1/24", "1/48", "1/96", "1/192")
METRICS = ("psnr_db", "lpips_squeeze", "swd")


@dataclass(frozen=True, slots=True)
class Options:
    """Command line of this script."""

    data: Path
    out: Path
    photos: int | None
    schemes: tuple[str, ...]
    rho: tuple[str, ...]
    workers: int
    estimate: bool


def options(arguments: Sequence[str] | None) -> Options:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/kodak"))
    parser.add_argument("--out", type=Path, default=Path("results/winners"))
    parser.add_argument("--photos", type=int, default=None, help="only the first so many")
    parser.add_argument("--schemes", default=",".join(SCHEMES))
    parser.add_argument("--rho", default=",".join(RHO))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--estimate", action="store_true", help="hours left, from the records so far; no run")
    a = parser.parse_args(arguments)
    schemes, rho = tuple(a.schemes.split(",")), tuple(a.rho.split(","))
    return Options(a.data, a.out, a.photos, schemes, rho, a.workers, a.estimate)


def estimate(sweep: Sweep, out: Path) -> str:
    """Lines with the hours left of each scheme, from the times in the records so far.

    Those are wall times: on a machine that was busy then, all hours are too many.
    """
    with ResultStore(out / RECORDS, read_only=True) as store:
        records = store.frame()
    item = sweep.items[0]
    for metric in sweep.metrics:
        measure(metric, item.x, item.x)  # loads networks
    start = time.process_time()
    for metric in sweep.metrics:
        measure(metric, item.x, item.x)
    measuring = time.process_time() - start
    of_each = len(sweep.channels) * len(sweep.items) * len(sweep.snr_db) * len(sweep.rho)
    lines, total = [f"metrics: {measuring:.2f} s per record"], 0.0
    for scheme in sweep.schemes:
        rows = records.loc[records["scheme"] == scheme.name]
        left = max(0, of_each - len(rows))
        if rows.empty:
            lines.append(f"{scheme.name}: {left} records left, not timed yet")
            continue
        seconds = float((rows["seconds_prepare"] + rows["seconds_deliver"]).mean()) + measuring
        total += left * seconds
        lines.append(f"{scheme.name}: {left} records of {seconds:.2f} s left, {left * seconds / 3600:.2f} h")
    return "\n".join([*lines, f"together: {total / 3600:.1f} hours of one core"])


def tables(records: "pd.DataFrame", metrics: Sequence[str]) -> str:
    """Markdown: the best scheme of each cell, and its lead over another family with its interval."""
    parts: list[str] = []
    kinds = kinds_of(records)
    for channel in sorted(set(records["channel"])):
        here = records.loc[records["channel"] == channel]
        for csit in facets(here, kinds):
            for metric in metrics:
                column = column_named(metric)
                found = standings(here, column, csit, kinds)
                head = f"## {metric}, {channel}, {KNOWLEDGE[csit]}"
                parts.append(f"{head}\n\n{_table(found, column)}")
    return "\n\n".join(parts) + "\n"


def _table(found: Sequence[Standing], column: Column) -> str:
    cells = {(standing.rho, standing.snr_db): standing for standing in found}
    rhos, snrs = sorted({rho for rho, _ in cells}, reverse=True), sorted({snr for _, snr in cells})
    lines = [f"| rho | {' | '.join(f'{snr:g} dB' for snr in snrs)} |", "| --- " * (len(snrs) + 1) + "|"]
    for rho in rhos:
        row = [_cell(cells.get((rho, snr)), column) for snr in snrs]
        lines.append(f"| {shown_rho(rho)} | {' | '.join(row)} |")
    return "\n".join(lines)


def _cell(standing: Standing | None, column: Column) -> str:
    if standing is None:
        return "-"
    if standing.all_lost:
        return "all lost"
    best = f"{' = '.join(standing.best)} {standing.mean:.4g}"
    if standing.rival is None:
        return best
    digits = 2 if column.unit == "dB" else 4
    interval = standing.rival.interval
    ends = f"{interval.low:+.{digits}f} to {interval.high:+.{digits}f}"
    return f"{best}, {interval.mean:+.{digits}f} ({ends}) on {standing.rival.over}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, draw."""
    chosen = options(arguments)
    sweep = Sweep(
        tuple(map(names.scheme, chosen.schemes)),
        tuple(map(names.channel, CHANNELS)),
        load_folder(chosen.data)[: chosen.photos],
        SNR_DB,
        chosen.rho,
        tuple(map(names.metric, METRICS)),
    )
    if chosen.estimate:
        print(estimate(sweep, chosen.out))
        return
    records = conduct(sweep, chosen.out, chosen.workers)
    write(chosen.out / "table.md", tables(records, METRICS))
    for name, figure in winner_maps(records, METRICS).items():
        write_figure(chosen.out / f"{name}.svg", figure)
    print(f"{len(records)} records, tables and maps in {chosen.out}")


if __name__ == "__main__":
    run_script(main)
