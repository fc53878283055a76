"""Rate and distortion of the learned codec beside JPEG, WebP, AVIF and HEVC intra, at full resolution.

Run:     python scripts/learned_codec_rd.py
Cost:    15 minutes of one core for 24 pictures; a codec whose records are there is not measured again
Expect:  see results/learned_codec/table.md

Every codec codes every picture at a ladder of its settings. A point of a curve is the mean over the pictures
of bits per pixel and of PSNR at one setting; Bjontegaard rates are taken between 0.1 and 1 bit per pixel.
Bits are those of the elementary stream without container; "file" is what the whole files take.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from semcom.codecs import FORMATS, FileCodec, Quality, SourceCodec
from semcom.data import Item, load_folder
from semcom.errors import SemcomError
from semcom.experiment import write, write_figure
from semcom.names.codecs import STILL
from semcom.plots import COLORS, FIGURE_STYLE, HEIGHT, MARKERS, WIDTH
from semcom.provenance import codec_versions
from semcom.statistics import bd_rate

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LADDERS = {  # 0.05 to 1.5 bits per pixel on photographs, about
    "jpeg": range(3, 91, 4),
    "webp": range(0, 96, 6),
    "avif": range(4, 46, 3),
    "hevc-intra": range(6, 70, 4),
    "learned": range(0, 45, 4),
}
LOW_BPP, HIGH_BPP = 0.1, 1.0


def measure(codec: SourceCodec, item: Item, settings: Sequence[int]) -> Iterator[dict[str, object]]:
    """One row per setting."""
    files = {format.name: FileCodec(format) for format in FORMATS}
    shape = tuple(item.x.shape)
    pixels = shape[2] * shape[3]
    for setting in settings:
        quality = Quality(1, setting)
        start = time.process_time()
        payload = codec.encode(item.x, quality)
        encoded = time.process_time()
        x_hat = codec.decode(payload, shape)
        decoded = time.process_time()
        file = files[codec.name].encode(item.x, quality) if codec.name in files else payload
        yield {
            "codec": codec.name,
            "item": item.id,
            "setting": setting,
            "bpp": 8 * len(payload) / pixels,
            "bpp_file": 8 * len(file) / pixels,
            "psnr_db": float(-10 * torch.log10((x_hat - item.x).double().square().mean())),
            "encode_ms": 1e3 * (encoded - start),
            "decode_ms": 1e3 * (decoded - encoded),
        }


def curve(records: "pd.DataFrame", codec: str, rate: str) -> "pd.DataFrame":
    """Means over the pictures per setting, between the two rates and one point beyond either."""
    rows = records[records["codec"] == codec]
    means = rows.groupby("setting")[[rate, "psnr_db"]].mean().sort_values(rate)
    below, above = (means[rate] < LOW_BPP).sum(), (means[rate] <= HIGH_BPP).sum()
    return means.iloc[max(below - 1, 0) : above + 1]


def rate_against(records: "pd.DataFrame", codec: str, anchor: str, rate: str) -> float:
    """Bjontegaard rate in percent over the qualities that the anchor has between the two rates."""
    import numpy as np
    from scipy.interpolate import PchipInterpolator

    base, tested = (curve(records, name, rate) for name in (anchor, codec))
    quality_at = PchipInterpolator(np.log(base[rate]), base["psnr_db"])
    bpp = np.geomspace(max(LOW_BPP, base[rate].min()), min(HIGH_BPP, base[rate].max()), 12)
    return bd_rate(bpp, quality_at(np.log(bpp)), tested[rate], tested["psnr_db"])


def table(records: "pd.DataFrame") -> str:
    """PSNR at some rates, Bjontegaard rates and times."""
    import numpy as np

    rates = (0.1, 0.2, 0.4, 0.7, 1.0)
    codecs = list(records["codec"].unique())
    anchors = [name for name in codecs if name != "learned"]
    lines = [
        f"# {records['item'].nunique()} pictures, PSNR in dB at bits per pixel, elementary streams",
        "",
        f"| codec | {' | '.join(f'{rate:g} bpp' for rate in rates)} | encode | decode |",
        "| --- " * (len(rates) + 3) + "|",
    ]
    for name in codecs:
        points, rows = curve(records, name, "bpp"), records[records["codec"] == name]
        at = np.interp(np.log(rates), np.log(points["bpp"]), points["psnr_db"], np.nan, np.nan)
        cells = ["-" if np.isnan(value) else f"{value:.2f}" for value in at]
        times = [f"{rows[column].median():.0f} ms" for column in ("encode_ms", "decode_ms")]
        lines.append(f"| {name} | {' | '.join([*cells, *times])} |")
    lines += [
        "",
        f"Bjontegaard rate of `learned`, {LOW_BPP:g} to {HIGH_BPP:g} bpp of the anchor; negative saves:",
        "",
        "| anchor | stream against stream | stream against file |",
        "| --- | --- | --- |",
    ]
    for anchor in anchors:
        rates_percent = [rate_against(records, "learned", anchor, rate) for rate in ("bpp", "bpp_file")]
        lines.append(f"| {anchor} | {' | '.join(f'{rate:+.1f} %' for rate in rates_percent)} |")
    versions = ", ".join(f"{name} {version}" for name, version in codec_versions().items())
    notes = f"Times: median processor time of one picture. The learned codec has no container. {versions}."
    return "\n".join([*lines, "", notes, ""])


def draw(records: "pd.DataFrame") -> "Figure":
    """Mean PSNR against mean bits per pixel."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(FIGURE_STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        for i, name in enumerate(records["codec"].unique()):
            points = curve(records, name, "bpp")
            axes.plot(points["bpp"], points["psnr_db"], color=COLORS[i], marker=MARKERS[i], label=name)
        axes.set_xlabel("bits per pixel, elementary stream")
        axes.set_ylabel("PSNR (dB)")
        axes.set_title(f"Mean of {records['item'].nunique()} pictures at full resolution")
        axes.legend()
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, measure what is missing, draw."""
    import pandas as pd

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/kodak"))
    parser.add_argument("--out", type=Path, default=Path("results/learned_codec"))
    parser.add_argument("--items", type=int, default=None, help="only the first so many")
    parser.add_argument("--codecs", default=",".join(LADDERS), help="names, in the order of the table")
    a = parser.parse_args(arguments)

    torch.set_num_threads(1)
    names, frames = a.codecs.split(","), []
    for name in names:
        path = a.out / f"{name}.csv"
        if not path.is_file():
            codec = STILL[name]()
            items = load_folder(a.data)[: a.items]
            rows = [row for item in items for row in measure(codec, item, LADDERS[name])]
            write(path, pd.DataFrame(rows).to_csv(index=False, float_format="%.5g", lineterminator="\n"))
            print(path, file=sys.stderr)
        frames.append(pd.read_csv(path))
    records = pd.concat(frames)
    if "learned" in names:
        write(a.out / "table.md", table(records))
        write_figure(a.out / "rate_distortion.svg", draw(records))
        print((a.out / "table.md").read_text())


if __name__ == "__main__":
    try:
        main()
    except SemcomError as error:
        sys.exit(f"error: {error}")
