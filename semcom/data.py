"""Items and folders of items."""

import hashlib
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PillowImage
from PIL import ImageOps
from torch import Tensor

from semcom.errors import InvalidSource, reason_of
from semcom.sources import check_image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".ppm", ".jp2"})


@dataclass(frozen=True, eq=False, slots=True)
class Item:
    """One image and its name.

    Args:
        id: File stem and 8 hex digits of the decoded pixels.
        x: RGB [1, 3, height, width] in [0, 1], multiples of 1/255.
    """

    id: str
    x: Tensor

    @classmethod
    def of(cls, stem: str, pixels: np.ndarray) -> "Item":
        """From 8-bit RGB [height, width, 3]."""
        pixels = np.array(pixels, dtype=np.uint8, order="C")
        digest = hashlib.blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=4).hexdigest()
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        return cls(f"{stem}-{digest}", check_image(x.contiguous()))


def load_image(path: Path | str) -> Item:
    """Read one picture as 8-bit RGB; grey is repeated, transparency laid on white, EXIF rotation applied.

    Values of 32 bits are in 0..65535, floating-point ones in [0, 1]. Of several frames the first is read.

    Raises:
        InvalidSource: The file is missing, not a picture, damaged, or too large, or has other values.
    """
    path = Path(path)
    if path.is_dir():
        raise InvalidSource(f"{path}: a folder; name a picture in it")
    if not path.is_file():
        raise InvalidSource(f"{path}: no such file")
    if any("\ud800" <= letter <= "\udfff" for letter in path.name):  # no store takes it
        raise InvalidSource(f"{str(path)!a}: a name that is not UTF-8; rename it")
    try:
        with PillowImage.open(path) as picture:
            picture.load()
            rgb = _to_rgb(ImageOps.exif_transpose(picture))
    except PillowImage.DecompressionBombError:
        raise InvalidSource(f"{path}: more pixels than Pillow's safety limit; scale it down") from None
    except Exception as error:  # whatever a foreign decoder throws at damaged bytes
        raise InvalidSource(f"{path}: not a readable picture ({reason_of(error)})") from None
    try:
        return Item.of(path.stem, np.asarray(rgb))
    except InvalidSource as error:
        raise InvalidSource(f"{path}: {error}") from None


def load_folder(path: Path | str) -> tuple[Item, ...]:
    """All pictures of a folder, sorted by name; a single file is a folder of one.

    Raises:
        InvalidSource: No such folder, or no picture in it.
    """
    path = Path(path)
    return (load_image(path),) if path.is_file() else tuple(map(load_image, picture_files(path)))


def picture_files(path: Path | str) -> tuple[Path, ...]:
    """The pictures of a folder by their names, sorted.

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
    return Item(f"{item.id}-centre{side}", item.x[:, :, top : top + side, left : left + side].contiguous())


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
    """An image [1, 3, height, width] in [0, 1], rounded to 8 bits."""
    return PillowImage.fromarray((x[0].detach().cpu() * 255).round().byte().permute(1, 2, 0).numpy())


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
    return tuple(Item.of(name, photo) for name, photo in photos.items())


def _to_rgb(picture: PillowImage.Image) -> PillowImage.Image:
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        values = np.asarray(picture, dtype=np.float64)
        peak = 65535.0 if picture.mode != "F" else 1.0
        low, high = values.min(), values.max()
        if not (low >= 0 and high <= peak):  # NaN compares as false
            raise ValueError(f"values from {low:g} to {high:g}, expected 0 to {peak:g}; rescale it")
        values[values == picture.info.get("transparency")] = peak  # of greys one can be transparent
        picture = PillowImage.fromarray((values / peak * 255 + 0.5).astype(np.uint8))
    if "A" in picture.mode or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        picture = PillowImage.alpha_composite(PillowImage.new("RGBA", rgba.size, "white"), rgba)
    return picture.convert("RGB")
