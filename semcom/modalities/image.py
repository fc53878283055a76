"""Images: RGB tensors [1, 3, height, width] in [0, 1]."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image as PillowImage
from PIL import ImageOps
from torch import Tensor

from semcom.errors import InvalidSource, reason_of
from semcom.files import replacing
from semcom.modalities.modality import Item, check_writable, existing_file, named

Image: TypeAlias = Float[Tensor, "batch 3 height width"]
"""RGB in [0, 1]."""

ImageShape: TypeAlias = tuple[int, int, int, int]
"""(1, 3, height, width)."""

MAX_SIDE = 16384  # JPEG and AVIF go on, memory does not

MEAN_COLOR = (0.4813, 0.4574, 0.4078)
"""Mean RGB of ImageNet photographs in [0, 1], a constant of the training set; never measured on an item."""

_FORMATS = {
    ".png": "PNG",
    ".bmp": "BMP",
    ".ppm": "PPM",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}


def check_image(x: Tensor) -> Tensor:
    """Accept a batch of RGB images in [0, 1].

    Args:
        x: [batch, 3, height, width], floating point, sides in 1..16384.

    Returns:
        x itself.

    Raises:
        InvalidSource: Wrong rank, colours, size or type, values not finite or out of range.
    """
    if not isinstance(x, Tensor):
        raise InvalidSource(f"image of type {type(x).__name__}: expected a tensor [batch, 3, height, width]")
    if x.ndim != 4 or x.shape[1] != 3:
        raise InvalidSource(f"image of shape {list(x.shape)}: expected [batch, 3, height, width]")
    if min(x.shape) < 1 or max(x.shape[2:]) > MAX_SIDE:
        raise InvalidSource(
            f"image of {x.shape[3]}x{x.shape[2]}: sides must lie in 1..{MAX_SIDE}; crop or scale it"
        )
    if not x.is_floating_point():
        raise InvalidSource(f"image of type {x.dtype}: expected floating point in [0, 1]; divide by 255")
    if not bool(torch.isfinite(x).all()):
        raise InvalidSource("image has values that are not finite (NaN or infinity); clean it before sending")
    low, high = x.min().item(), x.max().item()
    if low < 0 or high > 1:
        raise InvalidSource(f"image has values in {low!r}..{high!r}: expected [0, 1]; scale or clip it")
    return x


def from_pixels(pixels: np.ndarray) -> Tensor:
    """8-bit RGB [height, width, 3] to an image [1, 3, height, width] in [0, 1]."""
    pixels = np.array(pixels, dtype=np.uint8, order="C")
    return (torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255).contiguous()


def to_pixels(x: Tensor) -> np.ndarray:
    """An image [1, 3, height, width] in [0, 1], rounded to 8-bit RGB [height, width, 3]."""
    return to_uint8(x[0].detach().cpu().float()).permute(1, 2, 0).contiguous().numpy()


def to_uint8(x: Tensor) -> Tensor:
    """Round values in [0, 1] to 8 bits.

    Args:
        x: Values of any shape; those outside of [0, 1] are clipped.

    Returns:
        round(255 x) as uint8, same shape.
    """
    return (x * 255).round().clamp(0, 255).byte()


@dataclass(frozen=True)
class ImageModality:
    """Still pictures as RGB tensors [1, 3, height, width] in [0, 1].

    n of rho = k / n is 3 * height * width. Every receiver is told the shape (1, 3, height, width).
    """

    @property
    def name(self) -> str:
        """Canonical spelling."""
        return "image"

    @property
    def suffixes(self) -> frozenset[str]:
        """Endings of still pictures; of GIF, PNG, WebP and AVIF the file itself says whether it is one."""
        return frozenset(
            {".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".ppm", ".jp2", ".gif"}
        )

    @property
    def saved_suffix(self) -> str:
        """PNG, without loss for multiples of 1/255."""
        return ".png"

    @property
    def writable(self) -> frozenset[str]:
        """Formats without loss."""
        return frozenset(_FORMATS)

    def recognises(self, path: Path) -> bool:
        """True if Pillow opens the file and finds one picture in it."""
        return animated(path) is False

    def read(self, path: Path | str) -> Item[Tensor]:
        """Read one picture as 8-bit RGB; grey is repeated, transparency laid on white, EXIF rotation applied.

        Values of 32 bits are in 0..65535, floating-point ones in [0, 1]. Of several frames the first is read.

        Args:
            path: A picture of any format that Pillow reads.

        Returns:
            The item; its values are multiples of 1/255.

        Raises:
            InvalidSource: The file is missing, not a picture, damaged, or too large, or has other values.
        """
        path = existing_file(path, "picture")
        try:
            with PillowImage.open(path) as picture:
                picture.load()
                rgb = _to_rgb(ImageOps.exif_transpose(picture))
        except PillowImage.DecompressionBombError:
            raise InvalidSource(f"{path}: more pixels than Pillow's safety limit; scale it down") from None
        except Exception as error:  # whatever a foreign decoder throws at damaged bytes
            raise InvalidSource(f"{path}: not a readable picture ({reason_of(error)})") from None
        try:
            return named(path.stem, from_pixels(np.asarray(rgb)), self)
        except InvalidSource as error:
            raise InvalidSource(f"{path}: {error}") from None

    def write(self, x: Tensor, path: Path) -> None:
        """Write a picture, rounded to 8 bits.

        Args:
            x: [1, 3, height, width] in [0, 1].
            path: The file, with an ending in `writable`.

        Raises:
            InvalidOption: The ending is not in `writable`.
            OSError: The folder is missing or not writable, or the disk is full.
        """
        check_writable(path, self)
        picture = PillowImage.fromarray(to_pixels(self.check(x)))
        with replacing(path) as part:
            picture.save(part, _FORMATS[path.suffix.lower()])

    def check(self, x: Tensor) -> Tensor:
        """Accept one RGB image in [0, 1].

        Args:
            x: [1, 3, height, width], floating point, sides in 1..16384.

        Returns:
            x in single precision and without its gradient: the form in which it is sent.

        Raises:
            InvalidSource: Wrong rank, colours, number, size or type, values not finite or out of range.
        """
        if check_image(x).shape[0] != 1:
            raise InvalidSource(f"batch of {x.shape[0]} images: a scheme sends one at a time")
        return x.detach().float()

    def dims(self, x: Tensor) -> int:
        """Number of values, n = 3 * height * width, of x [1, 3, height, width]."""
        return x.numel()

    def shape(self, x: Tensor) -> ImageShape:
        """(1, 3, height, width) of x."""
        batch, colours, height, width = x.shape
        return batch, colours, height, width

    def cover(self, shape: tuple[int, ...]) -> Tensor:
        """The mean colour of photographs, `MEAN_COLOR`, everywhere, for a shape (1, 3, height, width)."""
        return torch.tensor(MEAN_COLOR)[None, :, None, None].expand(shape).clone()

    def digest(self, x: Tensor) -> str:
        """8 hexadecimal digits of the pixels [height, width, 3] of x [1, 3, height, width], in 8 bits."""
        pixels = to_pixels(x)
        return hashlib.blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=4).hexdigest()


IMAGE = ImageModality()


def picture_item(stem: str, pixels: np.ndarray) -> Item[Tensor]:
    """Make an item of the pixels of a picture.

    Args:
        stem: First part of the id.
        pixels: 8-bit RGB [height, width, 3].

    Returns:
        The item of the image pixels / 255.

    Raises:
        InvalidSource: A side is 0 or too long.
    """
    return named(stem, from_pixels(pixels), IMAGE)


"""Still pictures."""


def animated(path: Path) -> bool | None:
    """Whether a file that Pillow opens is an animation.

    Pages of a TIFF are no animation: the first page is the picture.

    Args:
        path: Of the file.

    Returns:
        True for several frames, False for one, None if it is no picture.
    """
    try:
        with PillowImage.open(path) as picture:
            return picture.format in ("GIF", "PNG", "WEBP", "AVIF") and getattr(picture, "n_frames", 1) > 1
    except Exception:  # whatever a foreign decoder throws at what is no picture
        return None


def _to_rgb(picture: PillowImage.Image) -> PillowImage.Image:
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        values = np.asarray(picture, dtype=np.float64)
        peak = 65535.0 if picture.mode != "F" else 1.0
        low, high = values.min(), values.max()
        if not (low >= 0 and high <= peak):  # NaN compares as false
            raise ValueError(f"values from {low:g} to {high:g}, expected 0 to {peak:g}; rescale it")
        values[values == picture.info.get("transparency")] = peak  # of greys one can be transparent
        picture = PillowImage.fromarray((values / peak * 255 + 0.5).astype(np.uint8))
    return on_white(picture)


def on_white(picture: PillowImage.Image) -> PillowImage.Image:
    """A picture of 8 bits as RGB, with its transparency laid on white."""
    if "A" in picture.mode or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        picture = PillowImage.alpha_composite(PillowImage.new("RGBA", rgba.size, "white"), rgba)
    return picture.convert("RGB")
