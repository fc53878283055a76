"""Rate and distortion of all source codecs on a folder of pictures, without any channel.

Run:     python scripts/compare_codecs.py --data ../shared/data/kodak --out results/codecs
Cost:    12 minutes of one core
Expect:  results/codecs/table.md, which is not kept in the repository

Every codec is fitted to the same numbers of bits per pixel, as in a transmission: the best PSNR over scale
and setting that fits. Bits are those of the elementary stream; the table says what the whole file costs more.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from semcom.codecs import FORMATS, FileCodec, Memo, StillFormat, StreamCodec, fit
from semcom.data import Item, load_folder
from semcom.errors import BudgetTooSmall, SemcomError
from semcom.experiment import write, write_figure
from semcom.plots import COLORS, FIGURE_STYLE, HEIGHT, MARKERS, WIDTH
from semcom.provenance import codec_versions
from semcom.statistics import bd_rate

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

BPP = (0.01, 0.03, 0.1, 0.3, 1.0, 2.0)


def measure(format: StillFormat, item: Item, bpp: Sequence[float]) -> Iterator[dict[str, object]]:
    """One row per number of bits per pixel that the codec can reach."""
    stream, file = StreamCodec(format), FileCodec(format)
    memo, shape = Memo(stream), tuple(item.x.shape)
    pixels = shape[2] * shape[3]
    for allowed in bpp:
        try:
            fitted = fit(memo, item.x, int(allowed * pixels))
        except BudgetTooSmall:
            continue
        start = time.process_time()
        stream.encode(item.x, fitted.quality)
        encoded = time.process_time()
        stream.decode(fitted.payload, shape)
        decoded = time.process_time()
        whole = file.encode(item.x, fitted.quality)
        yield {
            "codec": format.name,
            "item": item.id,
            "bpp_allowed": allowed,
            "bpp": 8 * len(fitted.payload) / pixels,
            "psnr_db": float(-10 * torch.log10((fitted.decoded - item.x).double().square().mean())),
            "scale": fitted.quality.scale,
            "setting": fitted.quality.setting,
            "container_bytes": len(whole) - len(fitted.payload),
            "encode_ms": 1e3 * (encoded - start),
            "decode_ms": 1e3 * (decoded - encoded),
        }


def table(records: "pd.DataFrame") -> str:
    """Mean PSNR of each codec at each rate, Bjontegaard rates, and cost."""
    reached = records.pivot_table(index="codec", columns="bpp_allowed", values="psnr_db", sort=False)
    items = records["item"].nunique()
    counts = records.pivot_table(index="codec", columns="bpp_allowed", values="item", aggfunc="count")
    reached = reached.where(counts.loc[reached.index] == items)  # no mean over the easy pictures only
    columns = [f"{bpp:g} bpp" for bpp in reached.columns]
    lines = [
        f"# {items} pictures, mean PSNR in dB of the best payload that fits",
        "",
        f"| codec | {' | '.join(columns)} | rate against JPEG | filled | container | encode | decode |",
        "| --- " * (len(columns) + 6) + "|",
    ]
    for codec, psnr_db in reached.iterrows():
        rows = records[records["codec"] == codec]
        cells = ["-" if value != value else f"{value:.2f}" for value in psnr_db]
        filled = (rows["bpp"] / rows["bpp_allowed"]).mean()
        full = rows[rows["scale"] == 1]
        cells += [
            f"{rate_against_jpeg(records, str(codec)):+.0f} %",
            f"{filled:.1%}",
            f"{rows['container_bytes'].median():.0f} B",
            f"{full['encode_ms'].median():.0f} ms",
            f"{full['decode_ms'].median():.0f} ms",
        ]
        lines.append(f"| {codec} | {' | '.join(cells)} |")
    versions = ", ".join(f"{name} {version}" for name, version in codec_versions().items())
    notes = (
        "Rate against JPEG: Bjontegaard delta of the mean curves, negative saves. Filled: share of the "
        "allowed bits that is used. Container: what the whole file costs more. Times: median processor time "
        f"of one encoding or decoding at full resolution. {versions}."
    )
    return "\n".join([*lines, "", notes, ""])


def rate_against_jpeg(records: "pd.DataFrame", codec: str) -> float:
    """Percent, over the range of PSNR that both reach."""
    curves = records.groupby(["codec", "bpp_allowed"])[["bpp", "psnr_db"]].mean()
    anchor, tested = curves.loc["jpeg"], curves.loc[codec]
    return bd_rate(anchor["bpp"], anchor["psnr_db"], tested["bpp"], tested["psnr_db"])


def draw(records: "pd.DataFrame") -> "Figure":
    """Mean PSNR against mean bits per pixel."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(FIGURE_STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        for i, codec in enumerate(records["codec"].unique()):
            rows = records[records["codec"] == codec]
            curve = rows.groupby("bpp_allowed")[["bpp", "psnr_db"]].mean()
            axes.plot(curve["bpp"], curve["psnr_db"], color=COLORS[i], marker=MARKERS[i], label=codec)
        axes.set_xscale("log")
        axes.set_xlabel("bits per pixel, elementary stream")
        axes.set_ylabel("PSNR (dB)")
        axes.set_title(f"Best of four resolutions, mean of {records['item'].nunique()} pictures")
        axes.legend()
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, measure, draw."""
    import pandas as pd

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/kodak"))
    parser.add_argument("--out", type=Path, default=Path("results/codecs"))
    parser.add_argument("--items", type=int, default=None, help="only the first so many")
    parser.add_argument("--bpp", default=",".join(map(str, BPP)), help="bits per pixel that are allowed")
    a = parser.parse_args(arguments)

    torch.set_num_threads(1)
    bpp = [float(text) for text in a.bpp.split(",")]
    rows: list[dict[str, object]] = []
    for item in load_folder(a.data)[: a.items]:
        for format in FORMATS:
            rows += measure(format, item, bpp)
        print(item.id, file=sys.stderr)
    records = pd.DataFrame(rows)
    write(a.out / "records.csv", records.to_csv(index=False, float_format="%.5g", lineterminator="\n"))
    write(a.out / "table.md", table(records))
    write_figure(a.out / "rate_distortion.png", draw(records))
    print((a.out / "table.md").read_text())


if __name__ == "__main__":
    try:
        main()
    except SemcomError as error:
        sys.exit(f"error: {error}")
