"""Where does semantic communication win? Kodak over SNR and rho: the best scheme of each cell, and its lead.

Run:     TORCH_HOME=../shared/torch-home python scripts/winners.py --workers 2
Cost:    `python scripts/winners.py --photos 1`, then `--estimate`; killed, the same command resumes
Expect:  see results/winners/README.md

Two channels, five SNRs, five bandwidth ratios, three metrics. Schemes whose transmitter is not told the SNR
are compared with each other, those that are told it with each other; every family has a scheme in both. There
are two fixed rates, not one for every SNR: a choice of the best of many in every cell would know the SNR.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from semcom import names
from semcom.budget import shown_rho
from semcom.columns import Column
from semcom.data import load_folder
from semcom.experiment import conduct, hours_left, parse_grid, run_script, write, write_figure
from semcom.kinds import KNOWLEDGE, kinds_of
from semcom.metrics.catalogue import column_named
from semcom.summary import winner_maps
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
    chosen = parse_grid(__doc__, arguments, out=Path("results/winners"), schemes=SCHEMES, rho=RHO)
    sweep = Sweep(
        tuple(map(names.scheme, chosen.schemes)),
        tuple(map(names.channel, CHANNELS)),
        load_folder(chosen.data)[: chosen.photos],
        SNR_DB,
        chosen.rho,
        tuple(map(names.metric, METRICS)),
    )
    if chosen.estimate:
        print(hours_left([sweep], chosen.out))
        return
    records = conduct(sweep, chosen.out, chosen.workers)
    write(chosen.out / "table.md", tables(records, METRICS))
    for name, figure in winner_maps(records, METRICS).items():
        write_figure(chosen.out / f"{name}.svg", figure)
    print(f"{len(records)} records, tables and maps in {chosen.out}")


if __name__ == "__main__":
    run_script(main)
