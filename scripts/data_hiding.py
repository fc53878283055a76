"""Reversible data hiding in Kodak, grey and colour: ours at the limit, error expansion, histogram shifting.

Run:     python scripts/data_hiding.py
Cost:    about 20 minutes of one core; killed or interrupted, the same command resumes
Expect:  see results/data_hiding/README.md

Every method hides the same random bytes; everything that the extractor needs is inside the picture, and the
rate is what is left for the payload. Host and payload are extracted again, and compared. A payload that a
method has no room for is a record without figures. "recursive, KL" pays 10 squared levels per nat and error
for KL(R || P), R and P being the histograms of all prediction errors of stego picture and host.

`of_theory` is all that was hidden, with the bits that the header displaced, over n (H(r) - H(p)), added up
over classes, p and r being the laws of the host and stego symbols as they were counted.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PillowImage

from semcom.data import picture_files
from semcom.errors import PayloadTooLarge, StoreError
from semcom.experiment import run_script, write, write_figure
from semcom.hiding.expansion import ErrorExpansion
from semcom.hiding.measure import histogram_distances
from semcom.hiding.method import Method
from semcom.hiding.picture import embedding, extract
from semcom.hiding.recursive import Recursive
from semcom.hiding.shifting import HistogramShifting
from semcom.metrics.distortion import PSNR, SSIM
from semcom.modalities.image import from_pixels
from semcom.provenance import environment
from semcom.statistics import bootstrap_mean
from semcom.terminal import progress_bar

BPP = (0.05, 0.1, 0.2, 0.5)
KL_WEIGHT = 10.0  # squared levels per nat
MODES = {"grey": "L", "colour": "RGB"}
COLUMNS = ("psnr_db", "ssim", "error_kl", "error_w1", "pixel_kl", "pixel_w1", "header_bytes", "of_theory")


def methods() -> dict[str, Method]:
    """Those compared, by their names in tables."""
    return {
        "recursive": Recursive(),
        "recursive, KL": Recursive(KL_WEIGHT),
        "error expansion": ErrorExpansion(),
        "histogram shifting": HistogramShifting(),
    }


def measured(host: np.ndarray, bpp: float, method: Method) -> dict[str, float | int | bool]:
    """One record's figures; none where the payload does not fit."""
    pixels = host.shape[0] * host.shape[1]
    payload = np.random.default_rng(0).bytes(round(pixels * bpp / 8))
    try:
        done = embedding(host, payload, method)
    except PayloadTooLarge:
        return {"fits": False}
    found, again = extract(done.stego)
    x, x_hat = (from_pixels(p.reshape(*host.shape[:2], -1)).expand(-1, 3, -1, -1) for p in (host, done.stego))
    return {
        "fits": True,
        "bit_exact": found == payload and bool((again == host).all()),
        "net_bpp": done.bpp,
        "psnr_db": PSNR()(x_hat, x),
        "ssim": SSIM()(x_hat, x),
        **histogram_distances(host, done.stego),
        "header_bytes": (done.embedded_bits - done.payload_bits) // 8,
        "symbols": done.symbols,
        "of_theory": done.embedded_bits / done.theory_bits if done.theory_bits else float("nan"),
    }


def table(frame) -> str:
    """Markdown: means over the pictures that a method has room in, per mode and rate."""
    heads = ("method", "fits", "bit exact", *COLUMNS)
    parts = ["# Reversible data hiding, means over pictures\n"]
    for (mode, bpp), rows in frame.groupby(["mode", "bpp"], sort=False):
        parts.append(
            f"\n## {mode}, {bpp:g} bit per pixel\n\n| {' | '.join(heads)} |\n{'| --- ' * len(heads)}|\n"
        )
        for name, of_method in rows.groupby("method", sort=False):
            fitting = of_method[of_method["fits"]]
            cells = [str(name), f"{len(fitting)} of {len(of_method)}"]
            if len(fitting):
                cells.append(f"{int(fitting['bit_exact'].sum())}")
                cells += [f"{fitting[c].mean():.4g}" if fitting[c].notna().any() else "-" for c in COLUMNS]
            parts.append(f"| {' | '.join(cells)} |\n")
    return "".join(parts)


def comparison(frame) -> str:
    """Markdown: ours beside the others, picture by picture, and the weight on histograms beside none."""
    heads = (
        *("pictures", "bit per pixel", "dB over error expansion", "least", "dB over histogram shifting"),
        *("rate over theory", "dB paid for the histogram", "error_kl over that without", "lower in"),
    )
    lines = [f"\n## Ours beside the others\n\n| {' | '.join(heads)} |\n{'| --- ' * len(heads)}|\n"]
    fitting = frame[frame["fits"]]
    for (mode, bpp), rows in fitting.groupby(["mode", "bpp"], sort=False):
        psnr_db, error_kl = (
            rows.pivot_table(index="item", columns="method", values=c).reindex(columns=list(methods()))
            for c in ("psnr_db", "error_kl")
        )
        ours = psnr_db["recursive"]
        over, over_shifting = (ours - psnr_db[n] for n in ("error expansion", "histogram shifting"))
        parts = error_kl["recursive, KL"] / error_kl["recursive"]
        least = f"{over.min():.2f} ({over.idxmin()})" if over.notna().any() else "-"
        cells = (
            *(mode, f"{bpp:g}", _interval(over), least),
            *(_interval(over_shifting), f"{rows['of_theory'].min():.4f} to {rows['of_theory'].max():.4f}"),
            _interval(ours - psnr_db["recursive, KL"]),
            *(f"{parts.mean():.2f}", f"{int((parts < 1).sum())} of {len(parts)}"),
        )
        lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)


def _interval(values) -> str:
    """Mean, 95 % interval over pictures, and of how many."""
    known = values.dropna()
    if not len(known):
        return "-"
    found = bootstrap_mean(known.to_numpy(), known.index.to_numpy())
    lost = "" if len(known) == len(values) else f" ({len(known)} pictures)"
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]{lost}"


def figure(frame):
    """PSNR and divergence of prediction errors over the rate, where all methods but shifting have room."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(9, 6.5), layout="constrained")
    modes = list(dict.fromkeys(frame["mode"]))
    for axes, mode in zip(drawing.subplots(len(modes), 2, squeeze=False), modes, strict=True):
        of_mode = frame[(frame["mode"] == mode) & (frame["method"] != "histogram shifting")]
        common = of_mode.groupby(["item", "bpp"])["fits"].transform("all")
        for name, rows in of_mode.groupby("method", sort=False):
            means = rows[common[rows.index]].groupby("bpp")[["psnr_db", "error_kl"]].mean()
            axes[0].plot(means.index, means["psnr_db"], "o-", label=name)
            axes[1].semilogy(means.index, means["error_kl"], "o-", label=name)
        for axis, label in zip(axes, ("PSNR in dB", "KL of prediction errors, nats"), strict=True):
            axis.set(xlabel="bit per pixel", ylabel=label, title=mode)
            axis.grid(alpha=0.3)
        axes[0].legend()
    return drawing


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, measure what is missing, tabulate."""
    import pandas as pd

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/kodak"))
    parser.add_argument("--out", type=Path, default=Path("results/data_hiding"))
    parser.add_argument("--items", type=int, default=None, help="only the first so many")
    parser.add_argument("--modes", default=",".join(MODES), help="of grey, colour")
    a = parser.parse_args(arguments)
    torch.set_num_threads(1)
    store = a.out / "records.csv"
    records = pd.read_csv(store).to_dict("records") if store.is_file() else []
    known = {(r["item"], r["mode"], r["bpp"], r["method"]) for r in records}
    files = picture_files(a.data)[: a.items]
    points = [(f, mode, bpp) for mode in a.modes.split(",") for bpp in BPP for f in files]
    with progress_bar("data_hiding") as progress:
        for i, (file, mode, bpp) in enumerate(points):
            missing = {n: m for n, m in methods().items() if (file.stem, mode, bpp, n) not in known}
            if missing:
                host = np.asarray(PillowImage.open(file).convert(MODES[mode]))
                for name, method in missing.items():
                    row = {"item": file.stem, "mode": mode, "bpp": bpp, "method": name}
                    records.append(row | measured(host, bpp, method))
                write(
                    store, pd.DataFrame(records).to_csv(index=False, float_format="%.6g", lineterminator="\n")
                )
            progress(i + 1, len(points))
    frame = pd.DataFrame(records)
    wrong = frame[frame["fits"] & (frame["bit_exact"].astype(str) != "True")]
    if len(wrong):
        raise StoreError(f"{len(wrong)} records are not bit exact, the first of {wrong['item'].iloc[0]}")
    write(a.out / "table.md", table(frame) + comparison(frame))
    write(a.out / "run.json", json.dumps(environment(), indent=1) + "\n")
    write_figure(a.out / "data_hiding.svg", figure(frame))
    print(f"{len(frame)} records, a table and a figure in {a.out}")


if __name__ == "__main__":
    run_script(main)
