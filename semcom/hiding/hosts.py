"""Read host and stego pictures without any conversion of their samples, and write them without loss."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from semcom.errors import InsufficientMemory, InvalidSource, reason_of
from semcom.files import write_whole
from semcom.modalities.decoding import (
    ORIENTATION,
    check_size,
    count_of_pictures,
    netpbm_white,
    raw_mode,
    upright,
)
from semcom.modalities.modality import existing_file

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_PROFILED = ("PNG", "TIFF")  # formats that keep a colour profile, of those that are written
_BITS_PER_SAMPLE = 258  # TIFF 6.0


@dataclass(frozen=True, eq=False)
class Host:
    """A picture for data hiding.

    Args:
        pixels: Samples as stored, upright, uint8 [height, width] or [height, width, 3].
        profile: Colour profile (ICC) of the file; empty if it has none.
    """

    pixels: UInt8[np.ndarray, "..."]
    profile: bytes = b""


def read_host(path: Path) -> Host:
    """Read a picture of 8-bit grey or RGB samples, turned by its orientation, and else as it is stored.

    Args:
        path: The file.

    Returns:
        The picture.

    Raises:
        InvalidSource: The file is missing or damaged, or would lose something: samples of another depth,
            transparency, or further pictures.
    """
    from PIL import Image as PillowImage

    path = existing_file(path, "picture")
    try:
        with PillowImage.open(path) as picture:
            check_size(picture.size)
            pictures, depth = count_of_pictures(picture), _depth(picture)
            picture.load()
            shown = upright(picture, picture.getexif().get(ORIENTATION))
    except (InvalidSource, InsufficientMemory) as error:
        raise type(error)(f"{path}: {error}") from None
    except Exception as error:  # whatever a foreign decoder throws at damaged bytes
        raise InvalidSource(f"{path}: not a readable picture ({reason_of(error)})") from None
    if pictures > 1:
        raise InvalidSource(
            f"{path}: {pictures} pictures in this file; bits are hidden in one, save it alone"
        )
    kind = depth or ("" if picture.mode in ("L", "RGB") else f"type {picture.mode}")
    if kind or "transparency" in picture.info:
        raise InvalidSource(
            f"{path}: pixels of {kind or 'a transparent colour'}; bits are hidden in 8-bit grey or RGB "
            "without transparency, convert it first"
        )
    return Host(np.asarray(shown), picture.info.get("icc_profile") or b"")


def write_host(path: Path, host: Host, format: str) -> bool:
    """Write a picture without loss, completely or not at all.

    Args:
        path: The file.
        host: The picture.
        format: Lossless format by Pillow's name, such as "PNG".

    Returns:
        Whether the colour profile, if there is one, is in the file; BMP and PPM hold none.

    Raises:
        OSError: The folder is missing or not writable, or the disk is full.
    """
    from PIL import Image as PillowImage

    kept = format in _PROFILED
    options = {"icc_profile": host.profile} if kept and host.profile else {}
    buffer = BytesIO()
    PillowImage.fromarray(host.pixels).save(buffer, format, **options)
    write_whole(path, buffer.getvalue())
    return kept or not host.profile


def _depth(picture: "ImageFile") -> str:
    """Depth of the stored samples in words if it is more than 8 bits, or other than Pillow's."""
    bits = max(getattr(picture, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,)))
    if bits > 8:
        return f"{bits} bits"
    if "16" in raw_mode(picture) or picture.mode.startswith("I"):
        return "16 bits"
    white = netpbm_white(picture)
    return "" if white in (None, 255) else f"values up to {white}"
