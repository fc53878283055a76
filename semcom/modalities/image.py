"""Image modality: RGB tensors [1, 3, height, width] in [0, 1]."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from semcom.colors import MEAN_COLOR
from semcom.errors import InsufficientMemory, InvalidSource, reason_of
from semcom.files import replacing
from semcom.modalities.decoding import MAX_SIDE, is_heif, read_rgb
from semcom.modalities.modality import Item, check_writable, existing_file, named

Image: TypeAlias = Float[Tensor, "batch 3 height width"]
"""Batch of RGB images [batch, 3, height, width] in [0, 1]."""

ImageShape: TypeAlias = tuple[int, int, int, int]
"""Shape (1, 3, height, width) of an image."""

_FORMATS = {
    ".png": "PNG",
    ".bmp": "BMP",
    ".ppm": "PPM",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}


def check_image(x: Tensor) -> Tensor:
    """Check that a tensor is a batch of RGB images in [0, 1].

    Args:
        x: Images [batch, 3, height, width], floating point, sides from 1 to 16384 pixels.

    Returns:
        x unchanged.

    Raises:
        InvalidSource: Rank, number of colours, size or type are wrong, or values are not finite or not in [0,
            1].
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
        cure = "take its real part" if x.is_complex() else "divide by 255"
        raise InvalidSource(f"image of type {x.dtype}: expected floating point in [0, 1]; {cure}")
    if not bool(torch.isfinite(x).all()):
        raise InvalidSource("image has values that are not finite (NaN or infinity); clean it before sending")
    low, high = x.min().item(), x.max().item()
    if low < 0 or high > 1:
        raise InvalidSource(f"image has values in {low!r}..{high!r}: expected [0, 1]; scale or clip it")
    return x


def from_pixels(pixels: np.ndarray) -> Tensor:
    """Convert 8-bit RGB pixels to an image in [0, 1].

    Args:
        pixels: Levels 0..255, [height, width, 3].

    Returns:
        Image, float32 [1, 3, height, width].
    """
    pixels = np.array(pixels, dtype=np.uint8, order="C")
    return (torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255).contiguous()


def to_pixels(x: Tensor) -> np.ndarray:
    """Convert an image in [0, 1] to 8-bit RGB pixels, rounding to the nearest level.

    Args:
        x: Image [1, 3, height, width] in [0, 1].

    Returns:
        Levels, uint8 [height, width, 3].
    """
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
    """Still images as RGB tensors [1, 3, height, width] in [0, 1].

    Source dimensions of the bandwidth ratio rho = k / n are n = 3 height width. Every receiver knows the
    shape (1, 3, height, width).
    """

    @property
    def name(self) -> str:
        """Canonical name of the modality: "image"."""
        return "image"

    @property
    def suffixes(self) -> frozenset[str]:
        """Extensions of still images; GIF, PNG, WebP and AVIF files may also hold clips."""
        files = ".png .jpg .jpeg .jfif .webp .avif .heic .heif .gif .bmp .tif .tiff .ppm .pgm .pnm .jp2"
        return frozenset(files.split())

    @property
    def saved_suffix(self) -> str:
        """Extension of kept results: ".png", lossless for multiples of 1/255."""
        return ".png"

    @property
    def writable(self) -> frozenset[str]:
        """Extensions of the lossless image formats."""
        return frozenset(_FORMATS)

    def recognises(self, path: Path) -> bool:
        """Whether a file holds a single image that Pillow opens.

        Args:
            path: An existing file with any extension.

        Returns:
            False for animations and for files that are not images.
        """
        return animated(path) is False

    def read(self, path: Path | str) -> Item[Tensor]:
        """Read one image as 8-bit RGB, upright, on white, in sRGB.

        - Samples v of 0..V become floor(255 v / V + 1/2). V is 65535 for integers of 16 and 32 bits, 1 for
          floating-point values, and what the file says for other depths.
        - Transparency is composed on white, at the depth of the file. Orientation is applied once.
        - Colours are converted to sRGB by an embedded ICC profile.
        - Of several frames or pages the first is read (of HEIC the primary picture), and a warning is logged.

        Args:
            path: An image in any format that Pillow reads, or HEIC.

        Returns:
            The item; its values are multiples of 1/255.

        Raises:
            InvalidSource: The file is missing, not an image, damaged or too large, or its values are out of
                range.
            InsufficientMemory: Its pixels need more memory than there is.
        """
        from PIL import Image as PillowImage

        path = existing_file(path, "picture")
        try:
            pixels = read_rgb(path)
        except (InvalidSource, InsufficientMemory) as error:
            raise type(error)(f"{path}: {error}") from None
        except PillowImage.DecompressionBombError:
            raise InvalidSource(f"{path}: more pixels than Pillow's safety limit; scale it down") from None
        except Exception as error:  # a foreign decoder may raise any exception
            raise InvalidSource(f"{path}: not a readable picture ({reason_of(error)})") from None
        return named(path.stem, from_pixels(pixels), self)

    def write(self, x: Tensor, path: Path) -> None:
        """Write an image without loss, after rounding to 8 bits.

        Args:
            x: Image [1, 3, height, width] in [0, 1].
            path: The file, with an extension in `writable`.

        Raises:
            InvalidOption: The extension is not in `writable`.
            OSError: The folder is missing or not writable, or the disk is full.
        """
        from PIL import Image as PillowImage

        check_writable(path, self)
        picture = PillowImage.fromarray(to_pixels(self.check(x)))
        with replacing(path) as part:
            picture.save(part, _FORMATS[path.suffix.lower()])

    def check(self, x: Tensor) -> Tensor:
        """Check that a tensor is one RGB image in [0, 1].

        Args:
            x: Image [1, 3, height, width], floating point, sides from 1 to 16384 pixels.

        Returns:
            x as float32 and detached from its gradient: the form in which it is sent.

        Raises:
            InvalidSource: Rank, number of colours or images, size or type are wrong, or values are not finite
                or not in [0, 1].
        """
        if check_image(x).shape[0] != 1:
            raise InvalidSource(f"batch of {x.shape[0]} images: a scheme sends one at a time")
        return x.detach().float()

    def dims(self, x: Tensor) -> int:
        """Source dimensions n = 3 height width of an image.

        Args:
            x: Image [1, 3, height, width].

        Returns:
            Number of values.
        """
        return x.numel()

    def shape(self, x: Tensor) -> ImageShape:
        """Shape of an image, which every receiver knows.

        Args:
            x: Image [1, 3, height, width].

        Returns:
            (1, 3, height, width).
        """
        batch, colours, height, width = x.shape
        return batch, colours, height, width

    def cover(self, shape: tuple[int, ...]) -> Tensor:
        """Image shown in an outage: the mean colour of photographs, `MEAN_COLOR`, in every pixel.

        Args:
            shape: (1, 3, height, width).

        Returns:
            Image [1, 3, height, width].
        """
        return torch.tensor(MEAN_COLOR, dtype=torch.float32)[None, :, None, None].expand(shape).clone()

    def digest(self, x: Tensor) -> str:
        """Digest of an image, computed from its 8-bit pixels.

        Args:
            x: Image [1, 3, height, width] in [0, 1].

        Returns:
            8 hexadecimal digits.
        """
        pixels = to_pixels(x)
        return hashlib.blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=4).hexdigest()


IMAGE = ImageModality()
"""The image modality."""


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


def animated(path: Path) -> bool | None:
    """Whether an image file is an animation.

    A TIFF of several pages is not an animation; its first page is the image.

    Args:
        path: The file.

    Returns:
        True for several frames, False for one, None if Pillow cannot open the file as an image.
    """
    from PIL import Image as PillowImage

    if is_heif(path):
        return False
    try:
        with PillowImage.open(path) as picture:
            return picture.format in ("GIF", "PNG", "WEBP", "AVIF") and getattr(picture, "n_frames", 1) > 1
    except Exception:  # a foreign decoder may raise any exception
        return None
