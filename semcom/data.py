"""Items from files and folders, of any modality."""

import logging
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps
from torch import Tensor

from semcom.errors import InvalidSource
from semcom.modalities import IMAGE, MODALITIES, TEXT, Item, Modality, modality_of
from semcom.modalities.image import picture_item, to_pixels

__all__ = [
    "SUFFIXES",
    "Item",
    "centre",
    "centres",
    "load",
    "load_folder",
    "load_image",
    "picture_files",
    "sample_photos",
    "to_picture",
]

SUFFIXES = IMAGE.suffixes
"""File endings of pictures."""


def load(path: Path | str, modalities: Sequence[Modality[Any]] = MODALITIES) -> Item[Any]:
    """Read one file of any modality.

    Args:
        path: A picture, a clip or a text; its ending says which, and the content where an ending leaves it
            open (an animated GIF is a clip).
        modalities: Those to choose from.

    Returns:
        The item; `item.modality` says what its content is.

    Raises:
        InvalidSource: The file is missing, damaged, too large or of no modality.
    """
    path = Path(path)
    return modality_of(path, modalities).read(path)


def load_image(path: Path | str) -> Item[Tensor]:
    """Read one picture as 8-bit RGB; grey is repeated, transparency laid on white, EXIF rotation applied.

    Values of 32 bits are in 0..65535, floating-point ones in [0, 1]. Of several frames the first is read.

    Args:
        path: A picture of any format that Pillow reads.

    Returns:
        The item; its values are multiples of 1/255.

    Raises:
        InvalidSource: The file is missing, not a picture, damaged, or too large, or has other values.
    """
    return IMAGE.read(path)


def load_folder(path: Path | str, modalities: Sequence[Modality[Any]] = MODALITIES) -> tuple[Item[Any], ...]:
    """Read all files of a folder that are of one modality.

    Texts beside pictures or clips are notes on them, and are left out.

    Args:
        path: The folder; a single file is a folder of one.
        modalities: Those to choose from; files of other endings are left out.

    Returns:
        The items, sorted by file name.

    Raises:
        InvalidSource: No such folder, nothing to read in it, files of two modalities, or an unreadable file.
    """
    path = Path(path)
    if path.is_file():
        return (load(path, modalities),)
    if not path.is_dir():
        raise InvalidSource(f"{path}: no such file or folder")
    endings = frozenset().union(*(modality.suffixes for modality in modalities))
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in endings and f.is_file())
    if not files:
        known = ", ".join(sorted(endings))
        raise InvalidSource(f"{path}: no pictures, clips or texts ({known}) in this folder")
    kinds = {file: modality_of(file, modalities) for file in files}
    counts = Counter(kind.name for kind in kinds.values())
    if len(counts) > 1 and TEXT.name in counts:
        logging.getLogger(__name__).warning(
            "%s: texts beside other files (%d) are taken for notes and left out", path, counts.pop(TEXT.name)
        )
    if len(counts) > 1:
        found = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
        raise InvalidSource(f"{path}: files of several modalities ({found}); use a folder for each")
    return tuple(kind.read(file) for file, kind in kinds.items() if kind.name in counts)


def picture_files(path: Path | str) -> tuple[Path, ...]:
    """Find the pictures of a folder by their endings.

    Args:
        path: The folder.

    Returns:
        Their paths, sorted by name.

    Raises:
        InvalidSource: No such folder, or no picture in it.
    """
    path = Path(path)
    if path.is_file():
        raise InvalidSource(f"{path}: a file; name the folder of pictures")
    if not path.is_dir():
        raise InvalidSource(f"{path}: no such file or folder")
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in SUFFIXES)
    if not files:
        raise InvalidSource(f"{path}: no pictures ({', '.join(sorted(SUFFIXES))}) in this folder")
    return tuple(files)


def centre(item: Item, side: int) -> Item:
    """Its centre of side x side pixels; all of it where it is smaller."""
    top, left = (max((extent - side) // 2, 0) for extent in item.x.shape[2:])
    return Item(
        f"{item.id}-centre{side}", item.x[:, :, top : top + side, left : left + side].contiguous(), IMAGE
    )


def centres(folder: Path | str, count: int, side: int) -> tuple[Item, ...]:
    """Centres of the first `count` pictures that are large enough, of 2 `count` evenly over the folder.

    Fewer if so many are not large enough; where all are, they are from the first half of the folder.

    Raises:
        InvalidSource: No such folder, or no picture in it.
    """
    files = picture_files(folder)
    items = map(load_image, files[:: max(1, len(files) // (2 * count))])
    large = (item for item in items if min(item.x.shape[2:]) >= side)
    return tuple(centre(item, side) for item in islice(large, count))


def to_picture(x: Tensor) -> PillowImage.Image:
    """An image [1, 3, height, width] in [0, 1] as a Pillow picture, rounded to 8 bits."""
    return PillowImage.fromarray(to_pixels(x))


def sample_photos(size: tuple[int, int] | None = None) -> tuple[Item, ...]:
    """Colour photographs that are installed with scikit-image; no network needed.

    Args:
        size: Width and height to cut and reduce them to, about the centre; None leaves them as they are.
    """
    from skimage import data

    photos = {name: getattr(data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}
    if size is not None:
        fit = {name: ImageOps.fit(PillowImage.fromarray(photo), size) for name, photo in photos.items()}
        photos = {name: np.asarray(photo) for name, photo in fit.items()}
    return tuple(picture_item(name, photo) for name, photo in photos.items())
