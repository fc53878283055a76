"""The one-step refiner behind the digital link on whole pictures of Kodak, beside all that it competes with.

Run:     TORCH_HOME=../shared/torch-home python scripts/sweep_refiner.py --workers 2
Cost:    `python scripts/sweep_refiner.py --photos 1`, then `--estimate`; killed, the same command resumes
Expect:  table.md: means, counts by picture, and channel uses at equal LPIPS

AWGN and block fading at four SNRs and five bandwidth ratios (`--rho` takes others, such as 1/768), OFDM and
packet loss at two points each. `avif+ldpc:mcs8+refine` is a fixed rate without channel knowledge, with the
cliff of its link. Lost pictures are counted everywhere.
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from semcom import names
from semcom.budget import parse_rho, shown_rho
from semcom.data import load_folder
from semcom.experiment import (
    GridOptions,
    conduct,
    hours_left,
    item_means,
    markdown_tables,
    parse_grid,
    run_script,
    write,
)
from semcom.statistics import Share, share_at_equal_loss
from semcom.sweep import Sweep

if TYPE_CHECKING:
    import pandas as pd

REFINED = "envelope:csit-average+refine"
REFERENCES = ("envelope:csit-average", "deepjscc-perceptual")
RIVAL = "deepjscc-perceptual"
SCHEMES = (
    "envelope:csit-average",
    "envelope:csit-average+refine:0.5",
    REFINED,
    "envelope:csit-average+refine:1",
    "envelope:csit-average+diffpir:8",
    "deepjscc",
    RIVAL,
    "deepjscc+diffpir:8",
    "hybrid:avif:csit-average:softcast-residual+refine",
    "avif+ldpc:mcs8+refine",
)
CHANNELS = ("awgn", "rayleigh:64")
SNR_DB = (0.0, 5.0, 10.0, 20.0)
RHO = ("1/12", "1/24", "1/48", "1/96", "1/192")
OTHER_CHANNELS = ("ofdm:tdl-c", "lossy:256:0.1/awgn")
OTHER_POINTS = (("1/12", 5.0), ("1/48", 10.0))
METRICS = ("psnr_db", "ms_ssim", "lpips_squeeze", "swd", "grid")
DISTORTION, PERCEPTION = "psnr_db", "lpips_squeeze"


def sweeps(chosen: GridOptions) -> tuple[Sweep, ...]:
    """The grid of operating points, and the two points of the other channels."""
    schemes, metrics = tuple(map(names.scheme, chosen.schemes)), tuple(map(names.metric, METRICS))
    items = load_folder(chosen.data)[: chosen.photos]
    grids = [(CHANNELS, SNR_DB, chosen.rho)]
    grids += [(OTHER_CHANNELS, (snr_db,), (rho,)) for rho, snr_db in OTHER_POINTS]
    return tuple(
        Sweep(schemes, tuple(map(names.channel, channels)), items, snr_db, rho, metrics)
        for channels, snr_db, rho in grids
    )


def counts(records: "pd.DataFrame", rival: str) -> str:
    """Markdown: number of pictures of which a scheme has more PSNR and less LPIPS than a rival."""
    means = item_means(records)
    parts: list[str] = []
    for (channel, rho), here in means.groupby(["channel", "rho"]):  # pyright: ignore[reportGeneralTypeIssues]
        snrs = sorted(here["snr_db"].unique())
        heads = ["scheme", *(f"{snr:g} dB" for snr in snrs)]
        lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
        ours = here.set_index(["scheme", "snr_db", "item"]).sort_index()
        for scheme in sorted(set(here["scheme"]) - {rival}):
            cells = [_count(ours, scheme, rival, snr) for snr in snrs]
            lines.append(f"| {scheme} | {' | '.join(cells)} |")
        parts.append(f"## {channel}, rho = {shown_rho(float(rho))}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _count(means: "pd.DataFrame", scheme: str, rival: str, snr_db: float) -> str:
    if not {(scheme, snr_db), (rival, snr_db)} <= set(means.index.droplevel("item")):
        return "-"
    psnr, lpips = (
        (means[metric].loc[scheme, snr_db] - means[metric].loc[rival, snr_db]).dropna()
        for metric in (DISTORTION, PERCEPTION)
    )
    return f"{int(((psnr > 0) & (lpips < 0)).sum())} of {len(psnr)}"


def shares(records: "pd.DataFrame", scheme: str, reference: str) -> dict[tuple[str, float, float], Share]:
    """Channel uses of a scheme at the LPIPS of a reference, as a share of the reference's.

    Keys are channel, rho of the reference, and SNR in dB. LPIPS of the scheme is interpolated linearly over
    the logarithm of its rho, picture by picture.
    """
    means = item_means(records).set_index(["scheme", "channel", "snr_db", "rho", "item"])[PERCEPTION]
    ours, theirs = (means.loc[name].unstack("rho") for name in (scheme, reference))
    found: dict[tuple[str, float, float], Share] = {}
    for channel, snr_db in sorted(set(ours.index.droplevel("item")) & set(theirs.index.droplevel("item"))):
        curve = ours.loc[channel, snr_db].dropna(axis=1)
        if curve.shape[1] < 2:
            continue
        for rho, wanted in theirs.loc[channel, snr_db].dropna(axis=1).items():
            both = curve.index.intersection(wanted.index)
            found[channel, rho, snr_db] = share_at_equal_loss(
                list(curve.columns), curve.loc[both].to_numpy(), wanted.loc[both].to_numpy(), rho
            )
    return found


def shares_table(records: "pd.DataFrame", scheme: str, reference: str, inverted: bool = False) -> str:
    """Markdown of `shares`, or of their inverses, by channel."""
    found = shares(records, scheme, reference)
    parts: list[str] = []
    for channel in sorted({channel for channel, _, _ in found}):
        rhos = sorted({rho for there, rho, _ in found if there == channel}, reverse=True)
        snrs = sorted({snr for there, _, snr in found if there == channel})
        lines = [f"| {channel} | {' | '.join(f'{snr:g} dB' for snr in snrs)} |"]
        lines.append("| --- " * (len(snrs) + 1) + "|")
        for rho in rhos:
            cells = [_share(found.get((channel, rho, snr)), inverted) for snr in snrs]
            lines.append(f"| {shown_rho(rho)} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _share(share: Share | None, inverted: bool) -> str:
    """Geometric mean, interval, and the pictures that are not in it."""
    if share is None:
        return "-"
    interval, total = share.interval, share.interval.items + share.cheaper + share.never
    below, above = (share.never, share.cheaper) if inverted else (share.cheaper, share.never)
    beyond = [f"{below} below"] * bool(below) + [f"{above} above"] * bool(above)
    aside = f"{interval.items} of {total}" + "".join(f", {text}" for text in beyond)
    if interval.items == 0:
        return f"not interpolated ({aside})"
    mean, low, high = interval.mean, interval.low, interval.high
    if inverted:
        mean, low, high = 1 / mean, 1 / high, 1 / low
    limits = f" ({low:.2f} to {high:.2f})" if interval.items > 1 else ""
    return f"{mean:.2f}{limits}, {aside}"


def tables(records: "pd.DataFrame", rho: Sequence[str] = RHO) -> str:
    """All tables."""
    ratios = [float(parse_rho(ratio)) for ratio in (*rho, *(ratio for ratio, _ in OTHER_POINTS))]
    records = records.loc[records["rho"].isin(ratios)]
    text = f"# Means\n\n{markdown_tables(records, METRICS, 'snr_db')}\n"
    present = set(records["scheme"])
    if RIVAL in present:
        text += f"# Pictures with more PSNR and less LPIPS than {RIVAL}\n\n{counts(records, RIVAL)}\n"
    schemes = [name for name in SCHEMES if name.endswith("+refine") and name in present]
    for scheme, reference in product(schemes, [name for name in REFERENCES if name in present]):
        text += (
            f"# Channel uses of {scheme} at the LPIPS of {reference}, as a share of the latter's\n\n"
            "Geometric mean over pictures with its interval; pictures whose LPIPS lies outside of what was "
            "measured are not in it: their share is below or above what can be told.\n\n"
            f"At the rho of {reference}:\n\n{shares_table(records, scheme, reference)}\n"
            f"At the rho of {scheme}:\n\n{shares_table(records, reference, scheme, inverted=True)}\n"
        )
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, tabulate."""
    chosen = parse_grid(__doc__, arguments, out=Path("results/sweep_refiner"), schemes=SCHEMES, rho=RHO)
    grid, *others = sweeps(chosen)
    if chosen.estimate:
        print(hours_left([grid, *others], chosen.out))
        return
    records = conduct(grid, chosen.out, chosen.workers)
    for other in others:
        records = conduct(other, chosen.out, chosen.workers)
    write(chosen.out / "table.md", tables(records, chosen.rho))
    print(f"{len(records)} records and tables in {chosen.out}")


if __name__ == "__main__":
    run_script(main)
