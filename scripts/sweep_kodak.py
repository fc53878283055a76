"""Both Kodak experiments, sweep_snr.py and sweep_bandwidth.py, in one pass: each image is encoded once.

Run:     python scripts/sweep_kodak.py
Cost:    see results/sweep_snr/README.md; killed or interrupted, the same command resumes
Expect:  the records that the two scripts make by themselves

What costs most is fitting codecs to many numbers of bits. Here the images take turns: the points of one
experiment, then those that the other has beside them, while the codecs remember the image. Points that both
have are copied. Then the two scripts draw.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, product, zip_longest
from pathlib import Path

import sweep_bandwidth
import sweep_snr

from semcom.budget import parse_rho
from semcom.experiment import parse_options, run_script
from semcom.results import Record, ResultStore
from semcom.sweep import run


def items_done(records: Iterator[Record]) -> Iterator[str]:
    """Ids of the items, each when its last record is there."""
    for item, group in groupby(records, lambda record: record.item):
        for _ in group:
            pass
        yield item


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run both, draw both."""
    by_snr, by_rho = (
        parse_options(__doc__, arguments, out=Path("results"), schemes=of.SCHEMES, metrics=of.METRICS)
        for of in (sweep_snr, sweep_bandwidth)
    )
    by_snr = replace(by_snr, out=by_snr.out / "sweep_snr")
    by_rho = replace(by_rho, out=by_rho.out / "sweep_bandwidth")
    common = [rho for rho in sweep_bandwidth.RHO if rho in sweep_snr.RHO]
    others = [rho for rho in sweep_bandwidth.RHO if rho not in common]
    sweeps = (
        by_snr.sweep(sweep_snr.CHANNELS, sweep_snr.SNR_DB, sweep_snr.RHO),
        by_rho.sweep(sweep_bandwidth.CHANNELS, sweep_bandwidth.SNR_DB, others),
    )
    stores = [ResultStore(one.out / "records.sqlite") for one in (by_snr, by_rho)]
    runs = [items_done(run(sweep, store)) for sweep, store in zip(sweeps, stores, strict=True)]
    for done in zip_longest(*runs):
        print(*done, flush=True)
    points = set(
        product(
            stores[1].schemes(),
            sweep_bandwidth.CHANNELS,
            [float(parse_rho(rho)) for rho in common],
            sweep_bandwidth.SNR_DB,
        )
    )
    stores[1].write([r for r in stores[0].records() if (r.scheme, r.channel, r.rho, r.snr_db) in points])
    for store in stores:
        store.close()
    sweep_snr.experiment(by_snr)
    sweep_bandwidth.experiment(by_rho)


if __name__ == "__main__":
    run_script(main)
