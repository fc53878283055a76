"""Rate and quality of video codecs at equal payload: one encode per operating point, all metrics of it."""

import base64
import html
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from semcom.codecs.av import InterCodec
from semcom.codecs.codec import Fitted, SourceCodec, fit
from semcom.errors import BudgetTooSmall, StoreError
from semcom.files import write_whole
from semcom.metrics.metric import Metric
from semcom.modalities.modality import Item
from semcom.modalities.video import VIDEO, Clip
from semcom.records import Records
from semcom.statistics import bootstrap_mean
from semcom.video.search import BaseLayer, finest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, str | float]
DIGITS = {"psnr_db": 2, "lpips_squeeze": 3, "swd": 0}
"""Digits after the decimal point, by metric."""


POINT = ("item", "codec", "bpp_allowed")
"""Columns that identify an operating point of a clip."""
SAME = ("floor", "bytes", "scale", "setting")
"""Columns by which an encode is known again."""


def compared(
    items: Sequence[Item[Clip]],
    codecs: Mapping[str, SourceCodec[Clip]],
    bpp: Sequence[float],
    metrics: Sequence[Metric[Clip]],
    records: Records,
    told: Callable[[int, int], None],
    keep: Callable[[Item[Clip], str, float, Clip], None] = lambda item, name, bpp, shown: None,
) -> list[dict[str, str | float]]:
    """Encode every clip by every codec at every rate, once, and measure what is decoded.

    Codecs with motion compensation are fitted at full size by their rate factor; the others choose for
    themselves. A rate below the floor of a codec gives a row with `floor` = 1 and no metrics. What is in the
    records already is not measured again: a row that lacks some of the metrics gets them from the same
    encode, made anew, which must have the length and the setting of the first.

    Args:
        items: The clips.
        codecs: Codecs by name.
        bpp: Largest numbers of bits per pixel.
        metrics: Metrics of clips.
        records: Where the rows are kept.
        told: Called with the number of operating points done, and of all.
        keep: Called with every decoded clip.

    Returns:
        All rows: item, codec, bpp_allowed, frames, bytes, bpp, setting, scale, encode_s, decode_s, and one
        column per metric that is defined for the clip.

    Raises:
        StoreError: Metrics are to be added to a row of another encode, such as that of another version, or
            a clip was measured before with another number of frames.
    """
    known = {records.key_of(row): row for row in records.rows()}
    total, done = len(items) * len(codecs) * len(bpp), 0
    for item in items:
        for name, codec in codecs.items():
            layer = BaseLayer(codec, item.x, 1) if isinstance(codec, InterCodec) else None
            for allowed in bpp:
                row = known.get((item.id, name, allowed), {})
                if row.get("frames", len(item.x.frames)) != len(item.x.frames):
                    raise StoreError(
                        f"{records.path}: {item.id} was measured with {row['frames']} frames, not "
                        f"{len(item.x.frames)}; measure into another folder"
                    )
                fitting = (metric for metric in metrics if metric.fits(VIDEO.shape(item.x)))
                lacking = [metric for metric in fitting if metric.name not in row]
                if not row or (lacking and not row["floor"]):
                    added = _row(item, name, codec, layer, allowed, lacking, keep)
                    if row and any(row[column] != added.get(column) for column in SAME):
                        raise StoreError(
                            f"{records.path}: {name} at {allowed:g} bits per pixel now codes {item.id} "
                            f"otherwise; measure into another folder"
                        )
                    records.add({**added, **row})
                done += 1
                told(done, total)
    return records.rows()


def _row(
    item: Item[Clip],
    name: str,
    codec: SourceCodec[Clip],
    layer: BaseLayer | None,
    allowed: float,
    metrics: Sequence[Metric[Clip]],
    keep: Callable[[Item[Clip], str, float, Clip], None],
) -> Row:
    row: dict[str, str | float] = {"item": item.id, "codec": name, "bpp_allowed": allowed}
    row |= {"frames": len(item.x.frames)}
    pixels = item.x.frames.numel() // 3
    start = time.process_time()
    try:
        fitted = _fitted(codec, layer, item.x, int(allowed * pixels))
    except BudgetTooSmall:
        return row | {"floor": 1}
    searched = time.process_time() - start
    start = time.process_time()
    shown = codec.decode(fitted.payload, VIDEO.shape(item.x))
    row |= {
        "floor": 0,
        "bytes": len(fitted.payload),
        "bpp": 8 * len(fitted.payload) / pixels,
        "scale": fitted.quality.scale,
        "setting": fitted.quality.setting,
        "encode_s": round(searched, 2),
        "decode_s": round(time.process_time() - start, 2),
    }
    keep(item, name, allowed, shown)
    return row | {metric.name: round(metric(shown, item.x), 5) for metric in metrics}


def _fitted(codec: SourceCodec[Clip], layer: BaseLayer | None, x: Clip, bits: int) -> Fitted[Clip]:
    if layer is None:
        return fit(codec, x, bits)
    index = finest(layer.size, layer.settings, bits // 8, layer.settings // 3)
    if index < 0:
        raise BudgetTooSmall(f"{codec.name} needs {layer.size(0)} bytes")
    return Fitted(layer.payload(index), layer.quality(index), x)


def decoded_at(x: Clip, codec: SourceCodec[Clip], bpp: float) -> Clip | None:
    """Decode a clip at an operating point once more, without any measurement.

    Args:
        x: The clip.
        codec: A codec.
        bpp: Largest number of bits per pixel.

    Returns:
        The decoded clip; None if the codec needs more bits.
    """
    layer = BaseLayer(codec, x, 1) if isinstance(codec, InterCodec) else None
    try:
        payload = _fitted(codec, layer, x, int(bpp * (x.frames.numel() // 3))).payload
    except BudgetTooSmall:
        return None
    return codec.decode(payload, VIDEO.shape(x))


def ratios(
    rows: Iterable[Row], metric: str, codec: str, other: str, most_bpp: float = math.inf
) -> dict[tuple[str, float], float]:
    """Ratio of a metric between two codecs at equal payload, at the operating points of the other codec.

    Payloads come in steps, so that two codecs never spend the same. The metric of `codec` is therefore
    interpolated in log(metric) over log(bits per pixel) between its operating points at the payload of
    `other`; beyond its points, within a factor of 1.25, the slope of the nearest two continues.

    Args:
        rows: Rows of `compared`.
        metric: Column of a metric that is at least 0; operating points where it is 0 are left out.
        codec: Name of the codec of the numerator.
        other: Name of the codec of the denominator.
        most_bpp: Largest number of bits per pixel allowed that is looked at.

    Returns:
        Ratios by item and number of bits per pixel allowed; points that `codec` does not reach are left out.
    """
    positive = (row for row in rows if float(row.get(metric, 0)) > 0)
    gaps = _gaps(positive, metric, codec, other, most_bpp, math.log)
    return {point: math.exp(gap) for point, gap in gaps.items()}


def differences(
    rows: Iterable[Row], metric: str, codec: str, other: str, most_bpp: float = math.inf
) -> dict[tuple[str, float], float]:
    """Difference of a metric between two codecs at equal payload, at the operating points of the other codec.

    The metric of `codec` is interpolated linearly over log(bits per pixel), as in `ratios`.

    Args:
        rows: Rows of `compared`.
        metric: Column of the metric.
        codec: Name of one codec.
        other: Name of the codec whose values are subtracted.
        most_bpp: Largest number of bits per pixel allowed that is looked at.

    Returns:
        Differences by item and number of bits per pixel allowed; points that `codec` does not reach are left
        out.
    """
    return _gaps(rows, metric, codec, other, most_bpp, lambda value: value)


def _gaps(
    rows: Iterable[Row],
    metric: str,
    codec: str,
    other: str,
    most_bpp: float,
    scale: Callable[[float], float],
) -> dict[tuple[str, float], float]:
    """Difference of a function of a metric, by item and number of bits per pixel allowed."""
    found: dict[tuple[str, float], float] = {}
    values = {point: (bpp, scale(value)) for point, (bpp, value) in _values(rows, metric).items()}
    for (name, item, allowed), (bpp, value) in values.items():
        ours = sorted(point for key, point in values.items() if key[:2] == (codec, item))
        if name != other or allowed > most_bpp or not ours:
            continue
        at = _at_payload(ours, bpp)
        if at is not None:
            found[item, allowed] = at - value
    return found


BEYOND = 1.25
"""Factor in bits per pixel by which a curve is continued beyond its points."""


def _at_payload(points: Sequence[tuple[float, float]], bpp: float) -> float | None:
    """Value at a number of bits per pixel, linear in its logarithm between ascending points (bpp, value)."""
    if not points[0][0] / BEYOND <= bpp <= points[-1][0] * BEYOND:
        return None
    if len(points) == 1:
        return points[0][1]
    place = next((i for i in range(1, len(points)) if points[i][0] >= bpp), len(points) - 1)
    (x0, y0), (x1, y1) = points[place - 1 : place + 1]
    return y0 + (y1 - y0) * math.log(bpp / x0) / math.log(x1 / x0) if x1 > x0 else y1


def rate_curves(rows: Sequence[Row], metric: str, label: str) -> "Figure":
    """Draw a metric against the number of bits per pixel, one panel per clip.

    Args:
        rows: Rows of `compared`.
        metric: Column of the metric.
        label: Label of the vertical axis.

    Returns:
        The figure.
    """
    import matplotlib
    from matplotlib.figure import Figure

    from semcom.plots import COLORS, FIGURE_STYLE, MARKERS

    items = list(dict.fromkeys(str(row["item"]) for row in rows))
    codecs = list(dict.fromkeys(str(row["codec"]) for row in rows))
    columns = min(3, len(items))
    lines = math.ceil(len(items) / columns)
    with matplotlib.rc_context(FIGURE_STYLE):
        figure = Figure(figsize=(3.6 * columns, 2.9 * lines), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False).flatten()
        for panel, item in zip(panels, items, strict=False):
            for number, codec in enumerate(codecs):
                points = sorted(
                    (float(row["bpp"]), float(row[metric]))
                    for row in rows
                    if row["item"] == item and row["codec"] == codec and metric in row
                )
                if points:
                    color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
                    panel.plot(
                        *zip(*points, strict=True), label=codec, markersize=4, color=color, marker=marker
                    )
            panel.set_title(item.rsplit("-", 1)[0], fontsize=9)
            panel.set_xlabel("bits per pixel")
            panel.set_ylabel(label)
        for panel in panels[len(items) :]:
            panel.set_axis_off()
        panels[0].legend(fontsize=7)
    return figure


def findings(rows: Sequence[Row], ours: str, metric: str, label: str, most_bpp: float) -> list[str]:
    """Sentences on how one codec compares with the others at equal payload.

    Args:
        rows: Rows of `compared`.
        ours: Name of the codec.
        metric: Column of a metric that is at least 0, of which lower values are better.
        label: Name of the metric in a sentence.
        most_bpp: Largest number of bits per pixel that is looked at.

    Returns:
        One sentence per other codec: geometric mean of the ratio, with its 95 % bootstrap interval over
        clips, and the mean difference in PSNR.
    """
    said: list[str] = []
    for other in dict.fromkeys(str(row["codec"]) for row in rows):
        found = ratios(rows, metric, ours, other, most_bpp)
        if other == ours or not found:
            continue
        interval = bootstrap_mean([math.log(ratio) for ratio in found.values()], [item for item, _ in found])
        mean, low, high = (math.exp(value) for value in (interval.mean, interval.low, interval.high))
        limits = f" ({low:.3f} to {high:.3f})" if interval.items > 1 else ""
        gains = differences(rows, "psnr_db", ours, other, most_bpp).values()
        worth = f", with {sum(gains) / len(gains):+.2f} dB of PSNR ({min(gains):+.2f} to {max(gains):+.2f})"
        said.append(
            f"{label} of {ours} is {mean:.3f} times that of {other}{limits} at {len(found)} operating points "
            f"(worst {max(found.values()):.2f}){worth if gains else ''}."
        )
    return said


def _values(rows: Iterable[Row], metric: str) -> dict[tuple[str, str, float], tuple[float, float]]:
    """Bits per pixel spent and value of a metric, by codec, item and number of bits per pixel allowed."""
    return {
        (str(row["codec"]), str(row["item"]), float(row["bpp_allowed"])): (
            float(row["bpp"]),
            float(row[metric]),
        )
        for row in rows
        if metric in row
    }


def witness_table(rows: Sequence[Row], ours: str, metrics: Mapping[str, int]) -> list[list[str]]:
    """Cells of a table of means over clips, and of the differences of one codec at equal payload.

    Args:
        rows: Rows of `compared`.
        ours: Name of the codec of which the differences are told.
        metrics: Digits after the decimal point by column of a metric.

    Returns:
        The heading and the lines. A line holds the mean of every codec over the clips at which all codecs
        were measured, and for every other codec the mean of ours - other with its 95 % bootstrap interval
        over clips, and the clip at which it is lowest and highest.
    """
    measured = [row for row in rows if any(metric in row for metric in metrics)]
    codecs = list(dict.fromkeys(str(row["codec"]) for row in measured))
    others = [codec for codec in codecs if codec != ours]
    lines = [["metric", "bpp", *codecs, *(f"{ours} - {other}" for other in others)]]
    for metric, digits in metrics.items():
        values = _values(measured, metric)
        for bpp in dict.fromkeys(allowed for _, _, allowed in values):
            items = [
                item
                for item in dict.fromkeys(item for _, item, _ in values)
                if all((codec, item, bpp) in values for codec in codecs)
            ]
            if not items:
                continue
            means = [
                math.fsum(values[codec, item, bpp][1] for item in items) / len(items) for codec in codecs
            ]
            cells = [f"{mean:.{digits}f}" for mean in means]
            for other in others:
                gaps = differences(measured, metric, ours, other)
                cells.append(
                    _spread({item: gaps[item, bpp] for item in items if (item, bpp) in gaps}, digits)
                )
            lines.append([metric, f"{bpp:g}", *cells])
    return lines


def _spread(values: Mapping[str, float], digits: int) -> str:
    """Mean, its interval over items, and the items of the extremes."""
    if not values:
        return "-"
    interval = bootstrap_mean(list(values.values()), list(values))
    said = f"{interval.mean:+.{digits}f}"
    if interval.items == 1:
        return said
    lowest, highest = (
        f"{end(values, key=values.__getitem__).rsplit('-', 1)[0]} {end(values.values()):+.{digits}f}"
        for end in (min, max)
    )
    return f"{said} ({interval.low:+.{digits}f} to {interval.high:+.{digits}f}); {lowest} to {highest}"


def points_table(rows: Sequence[Row], metrics: Mapping[str, int]) -> list[list[str]]:
    """Cells of a table of all operating points, one line per clip and rate, one column per codec.

    Args:
        rows: Rows of `compared`.
        metrics: Digits after the decimal point by column of a metric.

    Returns:
        The heading and the lines; "floor" where a codec needs more bits, "-" where nothing was measured.
    """
    codecs = list(dict.fromkeys(str(row["codec"]) for row in rows))
    by_key = {(row["item"], row["bpp_allowed"], row["codec"]): row for row in rows}
    lines = [["clip", "bpp", *codecs]]
    for item, bpp in dict.fromkeys((str(row["item"]), float(row["bpp_allowed"])) for row in rows):
        cells = [_cell(by_key.get((item, bpp, codec), {}), metrics) for codec in codecs]
        lines.append([item.rsplit("-", 1)[0], f"{bpp:g}", *cells])
    return lines


def _cell(row: Row, metrics: Mapping[str, int]) -> str:
    if not row:
        return "-"
    if row["floor"]:
        return "floor"
    return " / ".join(f"{float(row[name]):.{digits}f}" for name, digits in metrics.items() if name in row)


LEAST_WIDTH = 200
"""Pixels of each clip of a loop on a narrow screen, which scrolls sideways."""


def page(rows: Sequence[Row], ours: str, labels: Mapping[str, str], loops: Sequence[Path]) -> str:
    """A page of one file with findings, curves, loops side by side and all operating points.

    Args:
        rows: Rows of `compared`.
        ours: Name of the codec that the findings are about.
        labels: Labels of the metrics that are drawn, by column.
        loops: Animations made by `side_by_side`.

    Returns:
        HTML.
    """
    from semcom.plots import figure_bytes
    from semcom.report import whole_page

    told = [metric for metric in ("lpips_squeeze", "swd") if metric in labels]
    said = findings(rows, ours, told[0], labels[told[0]], math.inf) if told else []
    body = ['<div class="card"><h2>Findings</h2><ul>']
    body += [f"<li>{html.escape(sentence)}</li>" for sentence in said or ["Nothing to compare."]]
    body += ["</ul></div>"]
    least = LEAST_WIDTH * (1 + len({row["codec"] for row in rows}))
    for path in loops:
        data = base64.b64encode(path.read_bytes()).decode()
        name = html.escape(path.stem.rsplit("-", 1)[0])
        body.append(f'<div class="card"><h2>{name}: clips side by side</h2><div style="overflow-x:auto">')
        body.append(f'<img alt="{name}, side by side" style="width:100%;min-width:{least}px" ')
        body.append(f'src="data:image/webp;base64,{data}"></div></div>')
    for metric, label in labels.items():
        if any(metric in row for row in rows):
            figure = figure_bytes(rate_curves(rows, metric, label), "svg").decode()
            body.append(f'<div class="card"><h2>{html.escape(label)}</h2>')
            body.append(f"{figure[figure.index('<svg') :]}</div>")
    heading, *lines = points_table(rows, {name: DIGITS.get(name, 3) for name in labels})
    body.append(f'<div class="card"><h2>Operating points: {html.escape(" / ".join(labels.values()))}</h2>')
    body.append('<div style="overflow-x:auto"><table><tr>')
    body += [f"<th>{html.escape(cell)}</th>" for cell in heading]
    body += [f"</tr><tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in line)}" for line in lines]
    body.append("</tr></table></div></div>")
    return whole_page("Video codecs at equal payload", "".join(body))


def side_by_side(shown: Mapping[str, Clip], path: Path, label_height: int = 20) -> None:
    """Write several clips beside each other, with their names, as an animated WebP that browsers loop.

    Args:
        shown: Clips of one shape by name.
        path: File, .webp.
        label_height: Height of the names in pixels.

    Raises:
        OSError: The file cannot be written.
    """
    from io import BytesIO

    from PIL import Image, ImageDraw, ImageFont

    clips = list(shown.values())
    font = ImageFont.load_default(size=0.75 * label_height)
    width = clips[0].frames.shape[3]
    pictures = []
    for frames in zip(*(clip.frames for clip in clips), strict=True):
        whole = torch.cat(frames, 2)
        picture = Image.new("RGB", (whole.shape[2], whole.shape[1] + label_height), "white")
        picture.paste(Image.fromarray(whole.permute(1, 2, 0).numpy()), (0, label_height))
        draw = ImageDraw.Draw(picture)
        for number, name in enumerate(shown):
            draw.text((number * width + 3, 1), name, fill="black", font=font)
        pictures.append(picture)
    buffer = BytesIO()
    delay = round(1000 / float(clips[0].frame_rate))
    pictures[0].save(
        buffer, "WEBP", save_all=True, append_images=pictures[1:], duration=delay, loop=0, quality=85
    )
    write_whole(path, buffer.getvalue())


def whole_frames(items: Sequence[Item[Clip]], most: int) -> Iterator[Item[Clip]]:
    """Clips cut to their first frames.

    Args:
        items: The clips.
        most: Largest number of frames.

    Yields:
        The clips, with the ids of the whole ones.
    """
    for item in items:
        yield Item(item.id, Clip(item.x.frames[:most], item.x.frame_rate), item.modality)
