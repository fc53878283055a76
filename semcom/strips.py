"""Strips of pictures and clips: what was sent, what each scheme shows of it, and where pictures differ."""

import math
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from torch import Tensor

from semcom.errors import InvalidOption, InvalidSource
from semcom.files import replacing
from semcom.modalities import Clip, Item
from semcom.modalities.image import check_image, to_pixels
from semcom.options import LOSSLESS
from semcom.plots import INK

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

X = TypeVar("X")

MARGIN, GAP, LINE = 12, 8, 20  # pixels
SOFT = "#5B626B"
ACROSS = 4  # tiles of a frame of a loop
PAGES = (".html", ".htm")


def write_strip(
    path: Path,
    item: Item[X],
    shown: Mapping[str, X],
    captions: Mapping[str, str] | None = None,
    heading: str = "",
) -> None:
    """Write what was sent beside what is shown of it: pictures and clips as a picture, texts as a page.

    The file holds the first of `semcom.exhibits.exhibits_of`, whole or not at all.

    Args:
        path: The file; of pictures and clips with the ending of a lossless format of pictures, such as .png,
            of texts .html.
        item: What was sent.
        shown: Name of a scheme to what it shows.
        captions: Name to a line that stands beside it, for instance its PSNR; "original" may have one too.
        heading: Line above everything, for instance the operating point; empty for none.

    Raises:
        InvalidOption: Another ending, or a modality that nothing is drawn of.
        InvalidSource: Something shown is of another shape than the item.
        OSError: The file cannot be written.
    """
    from semcom.exhibits import Page, Strip, exhibits_of  # which draw with what follows here
    from semcom.report import whole_page

    exhibit = next(exhibits_of(item, shown, captions, heading), None)
    suffix = path.suffix.lower()
    match exhibit:
        case Page() if suffix in PAGES:
            data = whole_page(heading or item.id, exhibit.html).encode()
        case Page():
            raise InvalidOption(f"{path}: differences of texts are shown as a page; name it .html")
        case Strip() if suffix in LOSSLESS:
            encoded = BytesIO()
            exhibit.picture.save(encoded, LOSSLESS[suffix])
            data = encoded.getvalue()
        case Strip():
            raise InvalidOption(f"{path}: strips are written without loss; name it {' or '.join(LOSSLESS)}")
        case _:
            raise InvalidOption(f"{path}: nothing is drawn of a {item.modality.name}; leave the strip out")
    with replacing(path) as part:
        part.write_bytes(data)


def image_strip(
    original: Tensor,
    reconstructions: Mapping[str, Tensor],
    captions: Mapping[str, str] | None = None,
    *,
    gain: float = 4.0,
    tile: int = 320,
    heading: str = "",
    colors: Mapping[str, str] | None = None,
) -> "Picture":
    """Draw original and received images side by side, each with a magnified detail and its error.

    The rows are: the images; the most detailed window, magnified twice, if the image is larger than its
    column; and the absolute error, averaged over colours and multiplied by `gain` (black: 0, yellow: 1 / gain
    or more).

    Args:
        original: Image [1, 3, height, width] in [0, 1].
        reconstructions: Received images of the same shape by name, drawn in this order.
        captions: Text below a name, such as the PSNR; the key "original" is also allowed.
        gain: Amplification of the error, above 0.
        tile: Width of a column in pixels, at least 64.
        heading: Line above everything, for instance the operating point; empty for none.
        colors: Name to the colour of a square before it, in a notation of Pillow; names without have none.

    Returns:
        RGB Pillow image.

    Raises:
        InvalidSource: An image has another shape, or is not in [0, 1].
        InvalidOption: `gain` or `tile` is out of range.
    """
    from PIL import Image as PillowImage

    if not (0 < gain < math.inf and tile >= 64):
        raise InvalidOption(
            f"strip with gain {gain} and columns of {tile} pixels: gain above 0, columns of 64 or more"
        )
    pictures = {"original": original, **reconstructions}
    for name, x in pictures.items():
        check_image(x)
        if x.shape != original.shape or x.shape[0] != 1:
            raise InvalidSource(
                f"{name} has shape {list(x.shape)}: a strip takes one picture, all of shape [1, 3, h, w]"
            )
    height, width = original.shape[2:]
    scale = min(tile / width, 1.4 * tile / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    window = _detail_window(original, tile // 2) if scale < 1 else None

    columns: list[list[PillowImage.Image]] = []
    for name, x in pictures.items():
        column = [_resize(_to_picture(x), size)]
        if window is not None:
            top, left, h, w = window
            crop = _to_picture(x[:, :, top : top + h, left : left + w])
            column.append(crop.resize((2 * w, 2 * h), PillowImage.Resampling.NEAREST))
            if name == "original":
                _frame(column[0], *(round(scale * side) for side in window))
        if name != "original":
            column.append(_resize(_error_picture(x, original, gain), size))
        columns.append(column)
    sheet = _lay_out(columns, list(pictures), captions or {}, gain, tile, colors or {})
    return _headed(sheet, heading)


def clip_strip(
    original: Clip,
    shown: Mapping[str, Clip],
    captions: Mapping[str, str] | None = None,
    *,
    columns: int = 5,
    tile: int = 200,
    heading: str = "",
    colors: Mapping[str, str] | None = None,
) -> "Picture":
    """Frames of a clip as it was sent and as schemes show it, evenly spread in time.

    A row is one clip, below its name and caption; a column is one time, from the first frame to the last.

    Args:
        original: What was sent.
        shown: Name to a clip of as many frames of the same size, drawn in this order.
        captions: Name to words beside the name, for instance its PSNR; "original" may have some too.
        columns: Frames of each clip, at least 1; shorter clips are shown whole.
        tile: Width of a column in pixels, at least 64.
        heading: Line above everything, for instance the operating point; empty for none.
        colors: Name to the colour of a square before it, in a notation of Pillow; names without have none.

    Returns:
        A PIL image, RGB.

    Raises:
        InvalidSource: Clips of other shapes.
        InvalidOption: Columns or tile out of range.
    """
    from PIL import Image as PillowImage
    from PIL import ImageDraw

    if columns < 1 or tile < 64:
        raise InvalidOption(f"strip of {columns} columns of {tile} pixels: 1 or more columns of 64 or more")
    clips = _alike(original, shown)
    times = np.unique(np.linspace(0, len(original.frames) - 1, columns).round().astype(int)).tolist()
    size = _tile_size(original, tile)
    width = 2 * MARGIN + len(times) * (tile + GAP) - GAP
    height = 2 * MARGIN + LINE + len(clips) * (LINE + size[1] + GAP) - GAP
    sheet = PillowImage.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    lefts = [MARGIN + i * (tile + GAP) for i in range(len(times))]
    for left, t in zip(lefts, times, strict=True):
        seconds = f"frame {t + 1}, {float(t / original.frame_rate):.2f} s"
        draw.text((left, MARGIN), _shorten(draw, seconds, _font(13), tile), SOFT, _font(13))
    top = MARGIN + LINE
    for name, clip in clips.items():
        start = _label(draw, (MARGIN, top), name, width - 2 * MARGIN, (colors or {}).get(name))
        if captions and captions.get(name):
            left = start + LINE
            caption = _shorten(draw, captions[name], _font(13), width - MARGIN - left)
            draw.text((left, top + 1), caption, SOFT, _font(13))
        top += LINE
        for left, t in zip(lefts, times, strict=True):
            sheet.paste(_resize(frame_picture(clip, t), size), (left, top))
        top += size[1] + GAP
    return _headed(sheet, heading)


def snr_strip(
    original: "Picture",
    shown: "Mapping[str, Mapping[float, Picture]]",
    captions: Mapping[str, Mapping[float, str]] | None = None,
    *,
    tile: int = 200,
    heading: str = "",
    colors: Mapping[str, str] | None = None,
) -> "Picture":
    """Draw one picture as it was sent, and as each scheme shows it at every SNR.

    A row is one scheme, below its name; a column is one SNR, with captions below the pictures.

    Args:
        original: What was sent.
        shown: Name of a scheme to what it shows, by SNR in dB; rows in this order.
        captions: Name to a line below each picture, by SNR in dB, such as the PSNR.
        tile: Width of a column in pixels, at least 64.
        heading: Line above everything, for instance the operating point; empty for none.
        colors: Name to the colour of a square before it, in a notation of Pillow; names without have none.

    Returns:
        RGB Pillow image.

    Raises:
        InvalidOption: `tile` is out of range, or nothing is shown.
    """
    from PIL import Image as PillowImage
    from PIL import ImageDraw

    snrs = sorted({snr for row in shown.values() for snr in row})
    if tile < 64 or not snrs:
        raise InvalidOption(f"strip of {len(snrs)} SNRs in columns of {tile} pixels: 1 or more, 64 or more")
    scale = min(tile / original.width, 1.4 * tile / original.height)
    size = (max(1, round(original.width * scale)), max(1, round(original.height * scale)))
    below = LINE if captions else 0
    width = 2 * MARGIN + len(snrs) * (tile + GAP) - GAP
    row_height = LINE + size[1] + below + GAP
    height = 2 * MARGIN + LINE + size[1] + GAP + LINE + len(shown) * row_height
    sheet = PillowImage.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    _label(draw, (MARGIN, MARGIN), "original", width - 2 * MARGIN, None)
    sheet.paste(_resize(original, size), (MARGIN, MARGIN + LINE))
    top = MARGIN + LINE + size[1] + GAP
    lefts = {snr: MARGIN + i * (tile + GAP) for i, snr in enumerate(snrs)}
    for snr, left in lefts.items():
        draw.text((left, top), f"{snr:g} dB", INK, _font(15, bold=True))
    top += LINE
    for name, row in shown.items():
        _label(draw, (MARGIN, top), name, width - 2 * MARGIN, (colors or {}).get(name))
        for snr, picture in row.items():
            sheet.paste(_resize(picture, size), (lefts[snr], top + LINE))
            caption = (captions or {}).get(name, {}).get(snr, "")
            draw.text(
                (lefts[snr], top + LINE + size[1]), _shorten(draw, caption, _font(13), tile), SOFT, _font(13)
            )
        top += row_height
    return _headed(sheet, heading)


def frame_picture(clip: Clip, number: int) -> "Picture":
    """One frame of a clip as a Pillow image.

    Args:
        clip: The clip.
        number: Number of the frame, from 0.

    Returns:
        RGB Pillow image.
    """
    from PIL import Image as PillowImage

    return PillowImage.fromarray(clip.frames[number].detach().cpu().permute(1, 2, 0).contiguous().numpy())


def clip_frames(
    original: Clip,
    shown: Mapping[str, Clip],
    captions: Mapping[str, str] | None = None,
    *,
    tile: int = 320,
    at_most: int = 48,
    colors: Mapping[str, str] | None = None,
) -> "list[Picture]":
    """A clip as it was sent and as schemes show it, side by side, frame by frame.

    Args:
        original: What was sent.
        shown: Name to a clip of as many frames of the same size, in this order; four stand in a row.
        captions: Name to a line below the name, for instance its PSNR; "original" may have one too.
        tile: Width of each in pixels, at least 64.
        at_most: Frames, from the first.
        colors: Name to the colour of a square before it, in a notation of Pillow; names without have none.

    Returns:
        PIL images of one size, RGB.

    Raises:
        InvalidSource: Clips of other shapes.
        InvalidOption: A tile or number of frames out of range.
    """
    from PIL import Image as PillowImage
    from PIL import ImageDraw

    if at_most < 1 or tile < 64:
        raise InvalidOption(f"{at_most} frames of tiles of {tile} pixels: 1 or more, tiles of 64 or more")
    clips = _alike(original, shown)
    size = _tile_size(original, tile)
    header = LINE * (2 if captions else 1)
    across, down = min(len(clips), ACROSS), math.ceil(len(clips) / ACROSS)
    sheet = PillowImage.new(
        "RGB", (across * (tile + GAP) + GAP, down * (header + size[1] + GAP) + GAP), "white"
    )
    draw = ImageDraw.Draw(sheet)
    places: list[tuple[int, int]] = []
    for i, name in enumerate(clips):
        left, top = GAP + i % ACROSS * (tile + GAP), GAP + i // ACROSS * (header + size[1] + GAP)
        _label(draw, (left, top), name, tile, (colors or {}).get(name))
        caption = _shorten(draw, (captions or {}).get(name, ""), _font(13), tile)
        draw.text((left, top + LINE), caption, SOFT, _font(13))
        places.append((left, top + header))
    drawn: list[PillowImage.Image] = []
    for t in range(min(at_most, len(original.frames))):
        frame = sheet.copy()
        for clip, place in zip(clips.values(), places, strict=True):
            frame.paste(_resize(frame_picture(clip, t), size), place)
        drawn.append(frame)
    return drawn


def _alike(original: Clip, shown: Mapping[str, Clip]) -> dict[str, Clip]:
    clips = {"original": original, **shown}
    for name, clip in clips.items():
        if clip.frames.shape != original.frames.shape:
            raise InvalidSource(
                f"{name} has frames of shape {list(clip.frames.shape)}, the original of "
                f"{list(original.frames.shape)}: clips side by side have one shape"
            )
    return clips


def _tile_size(clip: Clip, tile: int) -> tuple[int, int]:
    height, width = clip.frames.shape[2:]
    scale = min(tile / width, 1.4 * tile / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _lay_out(
    columns: "list[list[Picture]]",
    names: list[str],
    captions: Mapping[str, str],
    gain: float,
    tile: int,
    colors: Mapping[str, str],
) -> "Picture":
    from PIL import Image as PillowImage
    from PIL import ImageDraw

    header = LINE * (2 if captions else 1) + GAP
    rows = [
        max((c[r].height for c in columns if r < len(c)), default=0) for r in range(max(map(len, columns)))
    ]
    rows[-1] = max(rows[-1], 2 * LINE)  # room for the legend of the error
    sheet_size = (
        2 * MARGIN + len(columns) * (tile + GAP) - GAP,
        2 * MARGIN + header + sum(rows) + GAP * (len(rows) - 1),
    )
    sheet = PillowImage.new("RGB", sheet_size, "white")
    draw = ImageDraw.Draw(sheet)
    for i, (column, name) in enumerate(zip(columns, names, strict=True)):
        left, top = MARGIN + i * (tile + GAP), MARGIN
        _label(draw, (left, top), name, tile, colors.get(name))
        caption = _shorten(draw, captions.get(name, ""), _font(13), tile)
        draw.text((left, top + LINE), caption, SOFT, _font(13))
        top += header
        for picture, row in zip(column, rows, strict=False):
            sheet.paste(picture, (left, top))
            top += row + GAP
        if name == "original" and len(rows) > len(column):
            text = f"|error| × {gain:g}, mean over colours\nblack: 0    yellow: {1 / gain:.3g} or more"
            draw.text((left, top), text, SOFT, _font(13), spacing=6)
    return sheet


def _label(draw: Any, place: tuple[int, int], name: str, width: int, color: str | None) -> int:
    """Draw a name, after a square of its colour if it has one; returns where it ends."""
    left, top = place
    if color is not None:
        draw.rectangle((left, top + 3, left + 11, top + 14), fill=color)
        left, width = left + 17, width - 17
    label = _shorten(draw, name, _font(14, bold=True), width)
    draw.text((left, top), label, INK, _font(14, bold=True))
    return left + math.ceil(draw.textlength(label, _font(14, bold=True)))


def _headed(sheet: "Picture", heading: str) -> "Picture":
    """The sheet below a line of text, or as it is."""
    from PIL import Image as PillowImage
    from PIL import ImageDraw

    if not heading:
        return sheet
    whole = PillowImage.new("RGB", (sheet.width, sheet.height + LINE + GAP), "white")
    whole.paste(sheet, (0, LINE + GAP))
    draw = ImageDraw.Draw(whole)
    draw.text((MARGIN, MARGIN), _shorten(draw, heading, _font(14), sheet.width - 2 * MARGIN), SOFT, _font(14))
    return whole


def _detail_window(original: Tensor, side: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of the window with the largest mean gradient among 17x17 positions."""
    height, width = original.shape[2:]
    h, w = min(side * 3 // 4, height), min(side, width)
    grey = np.asarray(original[0].mean(dim=0).detach().cpu(), dtype=float)
    energy = np.zeros_like(grey)
    energy[:-1] += np.abs(np.diff(grey, axis=0))
    energy[:, :-1] += np.abs(np.diff(grey, axis=1))
    total = np.pad(energy, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    tops, lefts = (np.unique(np.linspace(0, n - m, 17).astype(int)) for n, m in ((height, h), (width, w)))
    t, s = tops[:, None], lefts[None, :]
    sums = total[t + h, s + w] - total[t, s + w] - total[t + h, s] + total[t, s]
    row, column = np.unravel_index(sums.argmax(), sums.shape)
    return int(tops[row]), int(lefts[column]), h, w


def _frame(picture: "Picture", top: int, left: int, height: int, width: int) -> None:
    """Draw a white line between black ones, visible on every background."""
    from PIL import ImageDraw

    draw = ImageDraw.Draw(picture)
    for inset, color in enumerate(("black", "white", "black")):
        if min(height, width) > 2 * inset:
            box = (left + inset, top + inset, left + width - 1 - inset, top + height - 1 - inset)
            draw.rectangle(box, outline=color)


def _to_picture(x: Tensor) -> "Picture":
    from PIL import Image as PillowImage

    return PillowImage.fromarray(to_pixels(x))


def _error_picture(x_hat: Tensor, x: Tensor, gain: float) -> "Picture":
    import matplotlib
    from PIL import Image as PillowImage

    error = (x_hat - x).abs().mean(dim=1)[0].detach().cpu().float().numpy()
    colors = matplotlib.colormaps["inferno"](np.clip(gain * error, 0, 1))[..., :3]
    return PillowImage.fromarray((colors * 255).round().astype(np.uint8))


def _resize(picture: "Picture", size: tuple[int, int]) -> "Picture":
    from PIL import Image as PillowImage

    enlarged = size[0] >= picture.width
    return picture.resize(
        size, PillowImage.Resampling.NEAREST if enlarged else PillowImage.Resampling.LANCZOS
    )


def _font(size: int, *, bold: bool = False) -> Any:
    """DejaVu Sans from matplotlib, because Pillow's default font lacks Greek letters."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/{name}", size)


def _shorten(draw: Any, text: str, font: Any, width: int) -> str:
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(text + "…", font) > width:
        text = text[:-1]
    return text + "…"
