"""What a report shows of an item: strips, loops and pages; the only place that tells modalities apart."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from torch import Tensor

from semcom.differences import text_difference
from semcom.modalities import IMAGE, TEXT, VIDEO, Clip, Item
from semcom.modalities.image import to_pixels
from semcom.strips import clip_frames, clip_strip, frame_picture, image_strip, snr_strip

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

X = TypeVar("X")

PAGE_WIDTH = 1120  # pixels: a wider strip is reduced by the report, and its words with it
MAX_LOOP_BYTES = 1 << 20
LOOPS = ((320, 75), (320, 50), (240, 40), (160, 40))  # tile in pixels and quality, tried until one fits
SHORTEST_MS = 11  # browsers show a frame of 10 ms or less for 100 ms
LONGEST_MS = (1 << 24) - 1  # WebP keeps 24 bits


@dataclass(frozen=True, eq=False, slots=True)
class Strip:
    """A picture in which everything stands side by side.

    Args:
        picture: A PIL image, RGB.
    """

    picture: "Picture"


@dataclass(frozen=True, eq=False, slots=True)
class Loop:
    """An animation without end, reduced and compressed with loss.

    Args:
        webp: Animated WebP.
        width: In pixels.
        height: In pixels.
        frames: How many.
        note: What it leaves out of the clips, in a sentence.
    """

    webp: bytes
    width: int
    height: int
    frames: int
    note: str


@dataclass(frozen=True, eq=False, slots=True)
class Page:
    """A part of a page, for the style of `semcom.report`.

    Args:
        html: Elements that are closed, without script and without anything loaded from elsewhere.
    """

    html: str


@dataclass(frozen=True, eq=False, slots=True)
class Fold:
    """Exhibits behind a line that a reader opens.

    Args:
        line: What is behind it.
        exhibits: What is behind it.
        opened: Whether it is open at first.
    """

    line: str
    exhibits: "tuple[Strip | Loop | Page, ...]"
    opened: bool = False


Exhibit: TypeAlias = Strip | Loop | Page | Fold


def exhibits_of(
    item: Item[X],
    shown: Mapping[str, X],
    captions: Mapping[str, str] | None = None,
    heading: str = "",
    colors: Mapping[str, str] | None = None,
) -> Iterator[Strip | Loop | Page]:
    """Draw what was sent beside what schemes show of it.

    A picture is a strip. A clip is a strip of frames, and a loop if it has several. A text is a page of
    differences.

    Args:
        item: What was sent.
        shown: Name of a scheme to what it shows, of the shape of the item, in this order.
        captions: Name to a line that stands beside it, for instance its PSNR; "original" may have one too.
        heading: Line above pictures and clips, for instance the operating point; empty for none.
        colors: Name to the colour of its mark, "#rrggbb"; names without have none.

    Yields:
        The exhibits, each drawn when it is asked for, and the first complete without the others. There are
        none of a modality that is not of this package.

    Raises:
        InvalidSource: Something shown is of another shape than the item.
    """
    drawing = _DRAWINGS.get(item.modality.name)
    if drawing is not None:
        yield from drawing(item.x, shown, captions or {}, heading, colors or {})


def across_snr(
    item: Item[X],
    shown: Mapping[str, Mapping[float, X]],
    captions: Mapping[str, Mapping[float, str]] | None = None,
    heading: str = "",
    colors: Mapping[str, str] | None = None,
) -> Strip | None:
    """Draw one item as each scheme shows it at every SNR: pictures, and the middle frames of clips.

    Args:
        item: What was sent.
        shown: Name of a scheme to what it shows, by SNR in dB.
        captions: Name to a line below it, by SNR in dB.
        heading: Line above everything; empty for none.
        colors: Name to the colour of its mark, "#rrggbb"; names without have none.

    Returns:
        The strip; None of texts and of modalities that are not of this package, and if nothing is shown.

    Raises:
        InvalidSource: Something shown is of another shape than the item.
    """
    picture = _STILLS.get(item.modality.name)
    rows = {name: row for name, row in shown.items() if row}
    if picture is None or not rows:
        return None
    drawn = {name: {snr: picture(x) for snr, x in row.items()} for name, row in rows.items()}
    columns = len({snr for row in rows.values() for snr in row})
    tile = min(max(PAGE_WIDTH // columns, 160), 240)
    return Strip(snr_strip(picture(item.x), drawn, captions, tile=tile, heading=heading, colors=colors))


def _of_image(
    original: Tensor,
    shown: Mapping[str, Tensor],
    captions: Mapping[str, str],
    heading: str,
    colors: Mapping[str, str],
) -> Iterator[Strip | Loop | Page]:
    tile = min(max(PAGE_WIDTH // (1 + len(shown)), 256), 320)
    yield Strip(image_strip(original, shown, captions, tile=tile, heading=heading, colors=colors))


def _of_clip(
    original: Clip,
    shown: Mapping[str, Clip],
    captions: Mapping[str, str],
    heading: str,
    colors: Mapping[str, str],
) -> Iterator[Strip | Loop | Page]:
    yield Strip(clip_strip(original, shown, captions, heading=heading, colors=colors))
    if len(original.frames) > 1:
        yield _loop(original, shown, captions, colors)


def _of_text(
    original: str,
    shown: Mapping[str, str],
    captions: Mapping[str, str],
    heading: str,
    colors: Mapping[str, str],
) -> Iterator[Strip | Loop | Page]:
    yield Page(text_difference(original, shown, captions, colors))


_DRAWINGS: Mapping[str, Callable[..., Iterator[Strip | Loop | Page]]] = MappingProxyType(
    {IMAGE.name: _of_image, VIDEO.name: _of_clip, TEXT.name: _of_text}
)


def _still_of_image(x: Tensor) -> "Picture":
    from PIL import Image as PillowImage

    return PillowImage.fromarray(to_pixels(x))


def _still_of_clip(x: Clip) -> "Picture":
    return frame_picture(x, len(x.frames) // 2)


_STILLS: Mapping[str, Callable[[Any], "Picture"]] = MappingProxyType(
    {IMAGE.name: _still_of_image, VIDEO.name: _still_of_clip}
)


def _loop(
    original: Clip, shown: Mapping[str, Clip], captions: Mapping[str, str], colors: Mapping[str, str]
) -> Loop:
    """The largest of `LOOPS` that is small enough, or the smallest."""
    loop = None
    for tile, quality in LOOPS:
        frames = clip_frames(original, shown, captions, tile=tile, colors=colors)
        webp = _animated(frames, original.frame_rate, quality)
        cut = f"Frames 1 to {len(frames)} of {len(original.frames)}"
        note = f"{cut}, each clip {tile} pixels wide, compressed with loss"
        loop = Loop(webp, *frames[0].size, len(frames), note)
        if len(webp) <= MAX_LOOP_BYTES:
            break
    assert loop is not None
    return loop


def _animated(frames: "list[Picture]", frame_rate: Fraction, quality: int) -> bytes:
    """Animated WebP of the frames; each begins at the millisecond that is nearest to its time."""
    ends = [round(1000 * number / frame_rate) for number in range(len(frames) + 1)]
    durations = [min(max(end - start, SHORTEST_MS), LONGEST_MS) for start, end in pairwise(ends)]
    encoded = BytesIO()
    frames[0].save(
        encoded,
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=durations,
        loop=0,
        quality=quality,
        method=2,  # twice as fast as the best one, a twentieth larger
    )
    return encoded.getvalue()
