"""Read items of any modality from files and folders."""

import logging
from collections import Counter
from collections.abc import Collection, Sequence
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
    "left_out",
    "load",
    "load_folder",
    "load_image",
    "picture_files",
    "sample_photos",
    "to_picture",
]

SUFFIXES = IMAGE.suffixes
"""File extensions of images."""

MAX_ENDINGS = 6  # of files that are left out, in a message


def load(path: Path | str, modalities: Sequence[Modality[Any]] = MODALITIES) -> Item[Any]:
    """Read one file of any modality.

    Args:
        path: An image, clip or text. Its extension decides the modality, or its content where several
            modalities share the extension (an animated GIF is a clip).
        modalities: Candidates.

    Returns:
        The item; `item.modality` is the modality of its content.

    Raises:
        InvalidSource: The file is missing, damaged or too large, or no candidate can read it.
    """
    path = Path(path)
    return modality_of(path, modalities).read(path)


def load_image(path: Path | str) -> Item[Tensor]:
    """Read one image as 8-bit RGB: upright, on white, in sRGB.

    Samples v of 0..V become floor(255 v / V + 1/2), after transparency is composed on white; V is 65535 for
    integers of 16 and 32 bits, 1 for floating-point values. Grey is repeated in all colours. An embedded
    colour profile and the orientation are applied. Of several frames or pages the first is read.

    Args:
        path: An image in any format that Pillow reads, or HEIC.

    Returns:
        The item; its values are multiples of 1/255.

    Raises:
        InvalidSource: The file is missing, not an image, damaged or too large, or its values are out of
            range.
    """
    return IMAGE.read(path)


def load_folder(path: Path | str, modalities: Sequence[Modality[Any]] = MODALITIES) -> tuple[Item[Any], ...]:
    """Read all files of a folder, which must be of one modality.

    Texts beside images or clips are taken as notes and left out. A warning in the log counts all that is left
    out, with reasons.

    Args:
        path: The folder, or a single file.
        modalities: Candidates; files with other extensions are left out.

    Returns:
        The items, sorted by file name.

    Raises:
        InvalidSource: The folder does not exist, holds no readable file or files of several modalities, or a
            file cannot be read.
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
    notes = counts.pop(TEXT.name) if len(counts) > 1 and TEXT.name in counts else 0
    omitted = left_out(path, endings, notes)
    if omitted:
        logging.getLogger(__name__).warning(omitted)
    if len(counts) > 1:
        found = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
        raise InvalidSource(f"{path}: files of several modalities ({found}); use a folder for each")
    return tuple(kind.read(file) for file, kind in kinds.items() if kind.name in counts)


def left_out(path: Path, endings: Collection[str] = SUFFIXES, notes: int = 0) -> str:
    """Say what in a folder is not read, and why.

    Args:
        path: The folder.
        endings: File extensions that are read, in lower case.
        notes: Number of texts that are taken for notes beside images or clips.

    Returns:
        One line with counts and reasons; empty if all is read.
    """
    other: Counter[str] = Counter()
    folders = 0
    for entry in path.iterdir():
        if entry.is_dir():
            folders += 1
        elif entry.suffix.lower() not in endings or not entry.is_file():
            other[repr(entry.suffix.lower())[1:-1] or "none"] += 1
    usual = other.most_common(MAX_ENDINGS)
    shown = [f"{ending} {number}" for ending, number in usual] + ["..."] * (len(other) > len(usual))
    parts = (
        f"{notes} taken for notes (texts beside other files)" if notes else "",
        f"{other.total()} with other endings ({', '.join(shown)})" if other else "",
        f"{folders} as folders of their own" if folders else "",
    )
    told = "; ".join(filter(None, parts))
    return f"{path}: left out: {told}" if told else ""


def picture_files(path: Path | str) -> tuple[Path, ...]:
    """Find the images in a folder by their extensions.

    Args:
        path: The folder.

    Returns:
        Paths, sorted by name.

    Raises:
        InvalidSource: The folder does not exist, or holds no image.
    """
    path = Path(path)
    if path.is_file():
        raise InvalidSource(f"{path}: a file; name the folder of pictures")
    if not path.is_dir():
        raise InvalidSource(f"{path}: no such file or folder")
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in SUFFIXES and f.is_file())
    if not files:
        raise InvalidSource(f"{path}: no pictures ({', '.join(sorted(SUFFIXES))}) in this folder")
    return tuple(files)


def centre(item: Item, side: int) -> Item:
    """Crop the central square of an image item.

    Args:
        item: An image.
        side: Side of the square in pixels; a smaller extent is kept as a whole.

    Returns:
        A new image item; "-centre" and the side are appended to the id.
    """
    top, left = (max((extent - side) // 2, 0) for extent in item.x.shape[2:])
    return Item(
        f"{item.id}-centre{side}", item.x[:, :, top : top + side, left : left + side].contiguous(), IMAGE
    )


def centres(folder: Path | str, count: int, side: int) -> tuple[Item, ...]:
    """Crop the central squares of images that are spread evenly over a folder.

    About 2 `count` images, spread evenly over the sorted folder, are read in order until `count` of them have
    both sides of at least `side` pixels. If all are large enough, the images come from the first half of the
    folder.

    Args:
        folder: Folder of images.
        count: Largest number of images to return, at least 1.
        side: Side of the squares in pixels.

    Returns:
        At most `count` image items.

    Raises:
        InvalidSource: The folder does not exist, holds no image, or an image cannot be read.
    """
    files = picture_files(folder)
    items = map(load_image, files[:: max(1, len(files) // (2 * count))])
    large = (item for item in items if min(item.x.shape[2:]) >= side)
    return tuple(centre(item, side) for item in islice(large, count))


def to_picture(x: Tensor) -> PillowImage.Image:
    """Convert an image tensor to a Pillow image, rounding to 8 bits.

    Args:
        x: Image [1, 3, height, width] in [0, 1].

    Returns:
        Pillow image in mode "RGB".
    """
    return PillowImage.fromarray(to_pixels(x))


def sample_photos(size: tuple[int, int] | None = None) -> tuple[Item, ...]:
    """Colour photographs that are installed with scikit-image; no network access is needed.

    Args:
        size: Width and height in pixels to which the photographs are cropped about their centre and reduced;
            None keeps them as they are.

    Returns:
        Image items.
    """
    from skimage import data

    photos = {name: getattr(data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}
    if size is not None:
        fit = {name: ImageOps.fit(PillowImage.fromarray(photo), size) for name, photo in photos.items()}
        photos = {name: np.asarray(photo) for name, photo in fit.items()}
    return tuple(picture_item(name, photo) for name, photo in photos.items())
