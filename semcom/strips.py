"""Strips of pictures: what was sent, what each scheme shows of it, and where they differ."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from semcom.errors import InvalidOption, InvalidSource
from semcom.modalities import IMAGE, Item
from semcom.modalities.image import check_image, from_pixels, to_pixels
from semcom.plots import INK

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

MARGIN, GAP, LINE = 12, 8, 20  # pixels


def write_strip(path: Path, item: Item[Any], reconstructions: Mapping[str, Any]) -> None:
    """Write a picture and what was received of it side by side, without loss, as `image_strip` draws them.

    Args:
        path: File with the ending of a lossless format of pictures, such as .png.
        item: What was sent, a picture.
        reconstructions: Name of a scheme to what it shows.

    Raises:
        InvalidOption: An item of another modality, or a file of another format.
        InvalidSource: A reconstruction of another shape.
        OSError: The file cannot be written.
    """
    if item.modality.name != IMAGE.name:
        raise InvalidOption(f"{path}: strips show pictures, and {item.id} is a {item.modality.name}")
    IMAGE.write(from_pixels(np.asarray(image_strip(item.x, reconstructions))), path)


def image_strip(
    original: Tensor,
    reconstructions: Mapping[str, Tensor],
    captions: Mapping[str, str] | None = None,
    *,
    gain: float = 4.0,
    tile: int = 320,
) -> "Picture":
    """Original and received pictures side by side, with a magnified detail and the error of each.

    Rows: the pictures; the window richest in detail, twice enlarged, where the picture is larger
    than its column; the absolute error, mean over colours, times `gain` (black 0, yellow 1/gain and more).

    Args:
        original: One picture, [1, 3, height, width] in [0, 1].
        reconstructions: Name to a picture of the same shape, drawn in this order.
        captions: Name to a line below the name, for instance its PSNR; "original" may have one too.
        gain: Amplification of the error, above 0.
        tile: Width of a column in pixels, at least 64.

    Returns:
        A PIL image, RGB.

    Raises:
        InvalidSource: Pictures of other shapes, or not in [0, 1].
        InvalidOption: A gain or tile out of range.
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
    return _lay_out(columns, list(pictures), captions or {}, gain, tile)


def _lay_out(
    columns: "list[list[Picture]]", names: list[str], captions: Mapping[str, str], gain: float, tile: int
) -> "Picture":
    from PIL import Image as PillowImage
    from PIL import ImageDraw

    header = LINE * (2 if captions else 1) + GAP
    rows = [
        max((c[r].height for c in columns if r < len(c)), default=0) for r in range(max(map(len, columns)))
    ]
    rows[-1] = max(rows[-1], 2 * LINE)  # the legend of the error stands there
    sheet_size = (
        2 * MARGIN + len(columns) * (tile + GAP) - GAP,
        2 * MARGIN + header + sum(rows) + GAP * (len(rows) - 1),
    )
    sheet = PillowImage.new("RGB", sheet_size, "white")
    draw = ImageDraw.Draw(sheet)
    for i, (column, name) in enumerate(zip(columns, names, strict=True)):
        left, top = MARGIN + i * (tile + GAP), MARGIN
        draw.text((left, top), _shorten(draw, name, _font(14, bold=True), tile), INK, _font(14, bold=True))
        caption = _shorten(draw, captions.get(name, ""), _font(13), tile)
        draw.text((left, top + LINE), caption, "#5B626B", _font(13))
        top += header
        for picture, row in zip(column, rows, strict=False):
            sheet.paste(picture, (left, top))
            top += row + GAP
        if name == "original" and len(rows) > len(column):
            text = f"|error| × {gain:g}, mean over colours\nblack: 0    yellow: {1 / gain:.3g} or more"
            draw.text((left, top), text, "#5B626B", _font(13), spacing=6)
    return sheet


def _detail_window(original: Tensor, side: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of the window with the largest mean gradient, out of 17x17."""
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
    """A white line between black ones, visible on everything."""
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
    """DejaVu Sans, which matplotlib brings along: Pillow's own font lacks Greek."""
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
