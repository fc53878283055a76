"""Decode picture files to 8-bit RGB: sample depth, transparency, colour profile and orientation.

One rule holds for every format: samples v of 0..V, black to white, become floor(255 v / V + 1/2). It is
applied once, to the samples as they are stored, after transparency is composed on white.
"""

import io
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from semcom.errors import InvalidSource
from semcom.process_memory import require_memory

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageFile import ImageFile

MAX_SIDE = 16384  # pixels; a limit of memory, not of JPEG or AVIF

READING_BYTES = 40  # per pixel: Pillow's 4, levels, and float32 twice, as long as they are scaled

_BITS_PER_SAMPLE, _PHOTOMETRIC, _PLANES = 258, 262, 284  # TIFF 6.0
ORIENTATION = 0x0112  # tag of EXIF
_SHORT_SAMPLES = {"L;2": 85, "L;4": 17}  # PNG: stored sample to 8 bits
# ISO/IEC 23008-12 brands of pictures coded in HEVC: single ones, collections, sequences
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of a picture as they are stored.

    Args:
        values: Integers or floating-point numbers [height, width, bands]; of 2 or 4 bands, the last is alpha.
        white: Value that stands for white, and for an opaque pixel.
        premultiplied: Whether colours are multiplied by alpha.
        clear: Colour [bands] that is declared transparent; None if there is none.
    """

    values: np.ndarray
    white: float
    premultiplied: bool = False
    clear: tuple[int, ...] | None = None


def read_rgb(path: Path) -> np.ndarray:
    """Read the first, or primary, picture of a file as 8-bit RGB, as it is meant to be seen.

    Samples of more than 8 bits are rounded half up after transparency is composed on white. Colours are
    converted to sRGB by the embedded ICC profile, if there is one that says otherwise; PNG's gAMA and cHRM
    are not applied. Orientation is applied once. If the file holds further pictures, a warning is logged.

    Args:
        path: A file that Pillow or libheif reads. Colours of more than 8 bits in JPEG 2000 are cut by the
            decoder.

    Returns:
        Levels, uint8 [height, width, 3].

    Raises:
        InvalidSource: The picture is too large, or its values are out of range.
        Exception: Whatever the foreign decoder raises for a damaged file.
    """
    from PIL import Image as PillowImage

    if is_heif(path):
        return _read_heif(path)
    with PillowImage.open(path) as picture:
        check_size(picture.size)
        pages = count_of_pictures(picture)
        if pages > 1 and picture.format != "MPO":  # whose first picture stands for all, CIPA DC-007
            warn_of_further_pictures(path, pages)
        prepare(picture)
        samples = deep_samples(picture, path)
        if samples is None:
            picture.load()
        pixels = picture if samples is None else eight_bits(samples, picture.mode)
        if "transparency" in picture.info and samples is not None:
            pixels.info.pop("transparency", None)
        rgb = in_srgb(pixels, picture.info.get("icc_profile"), path)
        return np.asarray(upright(rgb, picture.getexif().get(ORIENTATION)))


def check_size(size: tuple[int, int]) -> None:
    """Check the declared size of a picture, and the memory that it needs, before it is decoded.

    Args:
        size: Width and height in pixels.

    Raises:
        InvalidSource: A side is 0 or longer than 16384 pixels.
        InsufficientMemory: To read it needs more memory than there is.
    """
    width, height = size
    if not 1 <= min(size) <= max(size) <= MAX_SIDE:
        raise InvalidSource(f"image of {width}x{height}: sides must lie in 1..{MAX_SIDE}; crop or scale it")
    require_memory(
        READING_BYTES * width * height, f"reading an image of {width}x{height}", "crop or scale it"
    )


def count_of_pictures(picture: "Picture") -> int:
    """Number of pictures in an open file.

    Args:
        picture: Picture opened by Pillow.

    Returns:
        Number of frames or pages; 1 if those behind the first are damaged.
    """
    try:
        return getattr(picture, "n_frames", 1)
    except Exception:  # a foreign decoder may raise any exception
        return 1


def warn_of_further_pictures(path: Path, count: int) -> None:
    """Log that only the first of several pictures in a file is read.

    Args:
        path: The file.
        count: Number of pictures in it.
    """
    _log.warning("%s: %d pictures in this file; the first is read, the others are left out", path, count)


def prepare(picture: "Picture") -> None:
    """Bring the transparent colour of a PNG of 2 or 4 bits to the 8 bits to which Pillow scales its samples.

    Args:
        picture: Picture opened by Pillow and not loaded yet; its `info` is changed.
    """
    clear = picture.info.get("transparency")
    if picture.format == "PNG" and picture.mode == "L" and isinstance(clear, int):
        scale = _SHORT_SAMPLES.get(raw_mode(picture), 1)
        picture.info["transparency"] = clear % (255 // scale + 1) * scale


def raw_mode(picture: "Picture") -> str:
    """Pillow's name of the stored samples of a picture that is not loaded yet.

    Args:
        picture: Picture opened by Pillow.

    Returns:
        For instance "RGB;16B"; empty if the format has no such name.
    """
    for tile in getattr(picture, "tile", ()):
        args = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if args and isinstance(args[0], str):
            return args[0]
    return ""


def netpbm_white(picture: "ImageFile") -> int | None:
    """Largest value of the samples of a PGM or PPM file, which stands for white.

    Args:
        picture: Picture opened by Pillow and not loaded yet.

    Returns:
        1 to 65535; None for other formats, PBM and PFM included.
    """
    if picture.format != "PPM" or picture.mode not in ("L", "I", "RGB"):
        return None
    args = picture.tile[0].args
    if isinstance(args, tuple) and len(args) == 2:
        return args[1]
    return 65535 if raw_mode(picture) == "I;16B" else 255


def deep_samples(picture: "ImageFile", path: Path) -> Samples | None:
    """Load a picture whose samples are not 8-bit integers; Pillow cuts or scales many of them.

    Args:
        picture: Picture opened by Pillow; it is loaded if there are such samples.
        path: File of the picture.

    Returns:
        All bits of all samples; None for pictures of up to 8 bits.

    Raises:
        InvalidSource: Values are out of range, or the layout is not supported.
    """
    clear = picture.info.get("transparency")
    raw = raw_mode(picture)
    tags = getattr(picture, "tag_v2", {})
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    if netpbm_white(picture) is not None:
        return _netpbm(picture, path)
    colours = picture.mode in ("RGB", "RGBA", "CMYK")
    if colours and bits == 16 and tags.get(_PLANES, 1) == 2:
        raise InvalidSource("colours of 16 bits in separate planes; save it with interleaved colours")
    if colours and picture.format in ("PNG", "TIFF") and ";16" in raw:
        return Samples(_sixteen_bits(picture, path), 65535.0, raw.startswith("RGBa"), clear)
    if not (picture.mode.startswith("I;16") or picture.mode in ("I", "F")):
        return None
    picture.load()
    values = np.asarray(picture)
    white = 1.0 if picture.mode == "F" else 2.0 ** min(bits, 16) - 1
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= white):  # NaN compares as false
        raise InvalidSource(f"values from {low:g} to {high:g}, expected 0 to {white:g}; rescale it")
    values = values[..., None]
    return Samples(
        white - values if tags.get(_PHOTOMETRIC) == 0 else values,
        white,
        clear=None if clear is None else (clear,),
    )


def eight_bits(samples: Samples, mode: str = "RGB") -> "Picture":
    """Compose samples on white and round them to 8 bits, floor(255 v / V + 1/2).

    Args:
        samples: Samples of 1 to 4 bands.
        mode: "CMYK" if the 4 bands are inks, and not colours and alpha.

    Returns:
        Image in mode "L", "RGB" or "CMYK".
    """
    from PIL import Image as PillowImage

    values, white = samples.values, samples.white
    exact = np.int64 if np.issubdtype(values.dtype, np.integer) else np.float64
    unit = exact(white)
    height, width, bands = values.shape
    opacity = None
    if bands in (2, 4) and mode != "CMYK":
        values, opacity = values[..., :-1], values[..., -1].astype(exact)
    elif samples.clear is not None:
        opacity = np.where((values == np.array(samples.clear)).all(-1), exact(0), unit)
    levels = np.empty((height, width, values.shape[2]), np.uint8)
    for band in range(values.shape[2]):
        value, full = values[..., band].astype(exact), unit
        if opacity is not None:
            value = value * (unit if samples.premultiplied else opacity) + unit * (unit - opacity)
            full = unit * unit
        level = (510 * value + full) // (2 * full)
        levels[..., band] = level.clip(0, 255)
    if levels.shape[2] == 1:
        return PillowImage.fromarray(levels[..., 0])
    return PillowImage.fromarray(levels, "CMYK" if mode == "CMYK" else "RGB")


def on_white(picture: "Picture") -> "Picture":
    """Convert an 8-bit Pillow image to RGB, with transparency composed on white.

    Args:
        picture: Image in any 8-bit mode.

    Returns:
        Image in mode "RGB".
    """
    from PIL import Image as PillowImage

    if picture.mode in ("La", "RGBa"):
        picture = picture.convert({"La": "LA", "RGBa": "RGBA"}[picture.mode])
    if "A" in picture.mode.replace("LAB", "") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        picture = PillowImage.alpha_composite(PillowImage.new("RGBA", rgba.size, "white"), rgba)
    return picture.convert("RGB")


def in_srgb(picture: "Picture", profile: bytes | None, path: Path) -> "Picture":
    """Convert an 8-bit picture to sRGB, on white, by an ICC profile.

    The intent is relative colorimetric with black point compensation. A profile that moves no colour by more
    than one level is taken for sRGB itself, and one that is damaged or of another number of colours is left
    out with a warning in the log.

    Args:
        picture: Image in any 8-bit mode.
        profile: The embedded profile; None or empty if there is none.
        path: File of the picture, for the message.

    Returns:
        Image in mode "RGB".
    """
    from PIL import Image as PillowImage
    from PIL import ImageCms

    rgb = on_white(picture)
    if not profile:
        return rgb
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = embedded.profile.xcolor_space.strip()  # pyright: ignore[reportAttributeAccessIssue]
        if (space, picture.mode) in (("CMYK", "CMYK"), ("Lab", "LAB")):
            source = picture
        elif space == "GRAY" and picture.mode in ("1", "L", "LA", "La"):
            source = rgb.getchannel(0)
        elif space == "RGB" and picture.mode not in ("CMYK", "LAB", "1", "L", "LA", "La"):
            source = rgb
        else:
            raise ValueError(f"{space} for pixels of {picture.mode}")
        transform = ImageCms.buildTransform(
            embedded,
            ImageCms.createProfile("sRGB"),
            source.mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if source.mode in ("L", "RGB"):
            steps = np.arange(0, 256, 17, dtype=np.uint8)
            cube = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 16, 3)
            colours = PillowImage.fromarray(cube)
            if source.mode == "L":
                colours = PillowImage.fromarray(np.arange(256, dtype=np.uint8)[None])
            before = np.asarray(colours.convert("RGB"), dtype=int)
            after = np.asarray(ImageCms.applyTransform(colours, transform), dtype=int)
            if abs(after - before).max() <= 1:
                return rgb
        converted = ImageCms.applyTransform(source, transform)
        assert converted is not None  # None is for transforms in place
        return converted
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        _log.warning("%s: its colour profile is left out, colours are taken as sRGB (%s)", path, error)
        return rgb


def upright(picture: "Picture", orientation: int | None) -> "Picture":
    """Turn and mirror a picture by the orientation tag of EXIF.

    Args:
        picture: The picture as stored.
        orientation: Value 1..8 of the tag; any other is taken as 1.

    Returns:
        The picture as it is meant to be seen.
    """
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return picture.transpose(turns[orientation]) if orientation in turns else picture


def is_heif(path: Path) -> bool:
    """Whether a file is a picture in the HEIF container coded in HEVC, by its first bytes.

    Args:
        path: An existing file.

    Returns:
        False for AVIF, whose container is the same, and for all other files.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(64)
    except OSError:
        return False
    brands = [head[place : place + 4] for place in (8, *range(16, min(len(head), 64) - 3, 4))]
    return head[4:8] == b"ftyp" and brands[0] in _HEIF_BRANDS and b"avif" not in brands


def _read_heif(path: Path) -> np.ndarray:
    import pillow_heif

    heif = pillow_heif.open_heif(path, convert_hdr_to_8bit=False, hdr_to_16bit=False)
    if len(heif) > 1:
        warn_of_further_pictures(path, len(heif))
    picture = heif[heif.primary_index]
    check_size(picture.size)
    values = np.asarray(picture)  # turned and mirrored by libheif; the tag of EXIF does not count
    values = values[..., None] if values.ndim == 2 else values
    bits = picture.info.get("bit_depth", 8)
    samples = Samples(values, 2.0**bits - 1, picture.premultiplied_alpha)
    return np.asarray(in_srgb(eight_bits(samples), picture.info.get("icc_profile"), path))


def _sixteen_bits(picture: "ImageFile", path: Path) -> np.ndarray:
    """Samples of 16 bits, which Pillow reads as 8: high and low bytes in two passes over the file.

    Pillow's unpackers take the high bytes of the byte order that they are told, so that the opposite order
    gives the low bytes.
    """
    from PIL import Image as PillowImage

    raw = raw_mode(picture)
    if raw == "LA;16B":  # 4 bytes a pixel, which are copied as they are
        picture.tile = [tile._replace(args="RGBA") for tile in picture.tile]
        picture.load()
        grey_high, grey_low, alpha_high, alpha_low = np.moveaxis(np.asarray(picture, np.uint16), 2, 0)
        return np.stack((grey_high << 8 | grey_low, alpha_high << 8 | alpha_low), -1)
    layout, _, order = raw.replace("RGBa", "RGBA").partition(";16")
    native, other = ("L", "B") if np.little_endian else ("B", "L")
    opposite = {"B": "L", "L": "B", "N": other}[order]
    order = native if order == "N" else order
    with PillowImage.open(path) as again:
        low = _unpacked(again, f"{layout};16{opposite}").astype(np.uint16)
    return _unpacked(picture, f"{layout};16{order}").astype(np.uint16) << 8 | low


def _unpacked(picture: "ImageFile", raw: str) -> np.ndarray:
    picture.tile = [
        tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw)
        for tile in picture.tile
    ]
    picture.load()
    return np.asarray(picture)


def _netpbm(picture: "ImageFile", path: Path) -> Samples | None:
    """Samples of PGM and PPM with a largest value other than 255; Pillow rounds them, and some twice."""
    white = netpbm_white(picture)
    if white is None or white == 255:
        return None
    tile = picture.tile[0]
    width, height = picture.size
    bands = 3 if picture.mode == "RGB" else 1
    data = path.read_bytes()[tile.offset :]
    count = width * height * bands
    if tile.codec_name == "ppm_plain":
        words = b"\n".join(line.partition(b"#")[0] for line in data.splitlines()).split()[:count]
        values = np.array([int(word) for word in words], dtype=np.int64)
    else:
        values = np.frombuffer(
            data, ">u2" if white > 255 else "u1", min(count, len(data) // (1 + (white > 255)))
        )
    if values.size < count:
        raise InvalidSource(f"truncated: {values.size} of {count} samples")
    if values.max() > white or values.min() < 0:
        raise InvalidSource(f"values up to {values.max()}, expected 0 to {white}; rescale it")
    return Samples(values.reshape(height, width, bands), float(white))
