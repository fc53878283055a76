"""Picture files of every depth and kind, against closed forms on files written byte by byte."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from semcom.data import load_image
from semcom.errors import InvalidSource
from semcom.modalities import IMAGE, VIDEO, modality_of
from tests.pictures import BANDS, chunk, png, shorts, tiff

SHAPE = (5, 7)


def seen(path: Path) -> np.ndarray:
    """Levels [height, width, 3] as an item has them."""
    return (load_image(path).x[0] * 255).round().permute(1, 2, 0).byte().numpy()


def written(tmp_path: Path, name: str, file: bytes) -> Path:
    (tmp_path / name).write_bytes(file)
    return tmp_path / name


def drawn(bands: int, top: int, seed: int = 0) -> np.ndarray:
    """Samples [height, width, bands] of 0..top, both among them."""
    samples = np.random.default_rng(seed).integers(0, top + 1, (*SHAPE, bands))
    samples[0, 0], samples[0, 1] = 0, top
    return samples


def rounded(samples: np.ndarray, top: int, opacity: np.ndarray | None = None) -> np.ndarray:
    """floor(255 v / V + 1/2) of samples on white, in whole numbers; RGB."""
    samples, full = samples.astype(object), top
    if opacity is not None:
        samples = samples * opacity.astype(object) + top * (top - opacity.astype(object))
        full = top * top
    levels = ((510 * samples + full) // (2 * full)).astype(np.uint8)
    return np.repeat(levels, 3 // levels.shape[2], axis=2)


PNG_KINDS = [(depth, 0) for depth in (1, 2, 4, 8, 16)] + [(d, c) for d in (8, 16) for c in (2, 4, 6)]


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("depth", "colour"), PNG_KINDS)
def test_png_of_every_depth(depth: int, colour: int, interlaced: bool, tmp_path: Path) -> None:
    top = 2**depth - 1
    samples = drawn(BANDS[colour], top)
    alpha = colour in (4, 6)
    shown = rounded(samples[..., :-1], top, samples[..., -1:]) if alpha else rounded(samples, top)
    error = seen(
        written(tmp_path, "x.png", png(samples, depth, colour, interlaced=interlaced))
    ) - shown.astype(int)
    # Pillow composes 8-bit colours on white in fixed-point numbers
    assert abs(error).max() <= int(alpha and depth == 8)


@pytest.mark.parametrize(("depth", "colour"), [(d, c) for d, c in PNG_KINDS if c in (0, 2)])
def test_png_with_a_transparent_colour(depth: int, colour: int, tmp_path: Path) -> None:
    top = 2**depth - 1
    samples = drawn(BANDS[colour], top)
    clear = samples[2, 3]
    samples[1, 1] = clear
    samples[1, 2] = np.bitwise_xor(
        clear, [1, *[0] * (BANDS[colour] - 1)]
    )  # a neighbour in the last bit stays
    opacity = np.where((samples == clear).all(-1, keepdims=True), 0, top)
    assert 2 <= (opacity == 0).sum() < opacity.size
    high_bits = 0 if depth == 16 else 1 << depth  # "only the low-order bits are used"
    file = png(samples, depth, colour, (b"tRNS", shorts(*(int(v) | high_bits for v in clear))))
    assert (seen(written(tmp_path, "x.png", file)) == rounded(samples, top, opacity)).all()


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_png_with_a_transparent_palette(depth: int, tmp_path: Path) -> None:
    palette = np.random.default_rng(1).integers(0, 256, (2**depth, 3))
    alphas = np.array([128, 0, 255, 7][: 2**depth])  # the others are opaque
    samples = drawn(1, 2**depth - 1)
    extra = (b"PLTE", palette.astype(np.uint8).tobytes()), (b"tRNS", alphas.astype(np.uint8).tobytes())
    opacity = np.concatenate((alphas, np.full(2**depth, 255)))[samples[..., 0]][..., None]
    error = seen(written(tmp_path, "x.png", png(samples, depth, 3, *extra))) - rounded(
        palette[samples[..., 0]], 255, opacity
    ).astype(int)
    assert abs(error).max() <= 1


def test_sixteen_bits_are_rounded_alike_in_every_format(tmp_path: Path) -> None:
    """0x14FF is 20.93 of 255: 21, not 20."""
    grey = np.full((*SHAPE, 1), 0x14FF)
    colours = np.repeat(grey, 3, 2)
    head = f"{SHAPE[1]} {SHAPE[0]}\n65535\n".encode()
    files = {
        "grey.png": png(grey, 16, 0),
        "colours.png": png(colours, 16, 2),
        "grey.pgm": b"P5 " + head + grey.astype(">u2").tobytes(),
        "colours.ppm": b"P6 " + head + colours.astype(">u2").tobytes(),
        "plain.pgm": b"P2 " + head + b"# a remark\n" + b" ".join(b"%d" % v for v in grey.ravel()),
        "plain.ppm": b"P3 " + head + b" ".join(b"%d" % v for v in colours.ravel()),
        "grey.tif": tiff(grey.astype(np.uint16), "<", 1),
        "colours.tif": tiff(colours.astype(np.uint16), ">", 2),
        "float.tif": tiff((grey / 65535).astype(np.float32), "<", 1),
    }
    for name, file in files.items():
        assert (seen(written(tmp_path, name, file)) == 21).all(), name


@pytest.mark.parametrize("top", [1, 7, 100, 255, 256, 510, 1023, 4095, 65535])
@pytest.mark.parametrize("bands", [1, 3])
def test_netpbm_of_every_largest_value(top: int, bands: int, tmp_path: Path) -> None:
    samples = drawn(bands, top)
    head = f"P{5 if bands == 1 else 6}\n# made by hand\n{SHAPE[1]} {SHAPE[0]}\n{top}\n".encode()
    data = samples.astype(">u2" if top > 255 else np.uint8).tobytes()
    shown = rounded(samples, top)
    assert (seen(written(tmp_path, "x.pnm", head + data)) == shown).all()
    plain = head.replace(b"P5", b"P2").replace(b"P6", b"P3") + b"\n".join(b"%d" % v for v in samples.ravel())
    assert (seen(written(tmp_path, "x.pnm", plain)) == shown).all()
    for cut in (head + data[:-1], plain[: -len(str(samples[-1, -1, -1])) - 1]):
        with pytest.raises(InvalidSource, match=r"x\.pnm"):
            load_image(written(tmp_path, "x.pnm", cut))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("photometric", "bands", "extra"), [(1, 1, None), (2, 3, None), (2, 4, 0), (2, 4, 1), (2, 4, 2)]
)
def test_tiff_of_sixteen_bits(
    photometric: int, bands: int, extra: int | None, order: str, tmp_path: Path
) -> None:
    """ExtraSamples 0 says nothing, 1 is alpha that colours are multiplied by, 2 is alpha on its own."""
    samples = drawn(bands, 65535)
    if extra == 1:
        samples[..., :3] = samples[..., :3] * samples[..., 3:] // 65535
    file = tiff(samples.astype(np.uint16), order, photometric, () if extra is None else ((338, extra),))
    colours, opacity = samples[..., : min(bands, 3)], samples[..., 3:] if bands == 4 else None
    if extra == 1:
        assert opacity is not None
        shown = rounded(colours + 65535 - opacity, 65535)
    else:
        shown = rounded(colours, 65535, opacity if extra == 2 else None)
    assert (seen(written(tmp_path, "x.tif", file)) == shown).all()


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_compressed_tiff_of_sixteen_bits(bands: int, tiled: bool, tmp_path: Path) -> None:
    """Written by tifffile, compressed and with a predictor, in strips or tiles."""
    samples = drawn(bands, 65535)
    tifffile.imwrite(
        tmp_path / "x.tif",
        samples.astype(np.uint16).squeeze(),
        photometric="minisblack" if bands == 1 else "rgb",
        compression="zlib",
        tile=(16, 16) if tiled else None,
        extrasamples=("unassalpha",) if bands == 4 else None,
    )
    shown = rounded(samples[..., :3], 65535, samples[..., 3:] if bands == 4 else None)
    assert (seen(tmp_path / "x.tif") == shown).all()


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_planes_apart_of_sixteen_bits_are_refused(compression: str | None, tmp_path: Path) -> None:
    planes = np.moveaxis(drawn(3, 65535), 2, 0).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "x.tif", planes, photometric="rgb", planarconfig="separate", compression=compression
    )
    with pytest.raises(InvalidSource, match=r"x.tif: colours of 16 bits in separate planes; save it with"):
        load_image(tmp_path / "x.tif")


def test_tiff_where_zero_is_white(tmp_path: Path) -> None:
    for top, kind in ((255, np.uint8), (65535, np.uint16), (1, np.float32)):
        samples = drawn(1, 255) / 255 if top == 1 else drawn(1, top)
        shown = (
            rounded((255 - np.rint(samples * 255)).astype(int), 255)
            if top == 1
            else rounded(top - samples, top)
        )
        assert (seen(written(tmp_path, "x.tif", tiff(samples.astype(kind), "<", 0))) == shown).all(), kind


def test_float_tiff_is_rounded_half_up(tmp_path: Path) -> None:
    values = np.array([0, 0.5 / 255, 0.49 / 255, 1.5 / 255, 0.5, 1])
    levels = np.floor(255 * values.astype(np.float32).astype(float) + 0.5)
    file = tiff(values.astype(np.float32)[None, :, None], "<", 1)
    assert seen(written(tmp_path, "x.tif", file))[0, :, 0].tolist() == levels.tolist()
    for value in (-0.1, 1.1, np.nan):
        file = tiff(np.full((2, 2, 1), value, np.float32), "<", 1)
        with pytest.raises(InvalidSource, match=r"x.tif: values from .*, expected 0 to 1; rescale it$"):
            load_image(written(tmp_path, "x.tif", file))


@pytest.mark.parametrize("extra", [1, 2])
@pytest.mark.parametrize(("photometric", "bands"), [(1, 2), (2, 4)])
def test_tiff_with_alpha_of_eight_bits(photometric: int, bands: int, extra: int, tmp_path: Path) -> None:
    samples = drawn(bands, 255)
    colours, opacity = samples[..., :-1], samples[..., -1:]
    if extra == 1:
        colours[:] = colours * opacity // 255
    file = tiff(samples.astype(np.uint8), "<", photometric, ((338, extra),))
    shown = rounded(colours + 255 - opacity, 255) if extra == 1 else rounded(colours, 255, opacity)
    # Pillow divides by alpha in 8 bits, and multiplies again
    assert abs(seen(written(tmp_path, "x.tif", file)) - shown.astype(int)).max() <= 1


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """EXIF 2.32, tag 274: where row 0 and column 0 of the stored picture are."""
    return {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(pixels, 1),
    }[orientation]


def exif(orientation: int) -> bytes:
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(orientation: int, tmp_path: Path) -> None:
    colours = np.kron(drawn(3, 255), np.ones((8, 8, 1), int))  # of blocks, for formats with loss
    shown = turned(colours, orientation)
    deep = colours * 257
    files = {
        "x.png": png(colours, 8, 2, (b"eXIf", exif(orientation))),
        "deep.png": png(deep, 16, 2, (b"eXIf", exif(orientation))),
        "x.tif": tiff(colours.astype(np.uint8), "<", 2, ((274, orientation),)),
        "deep.tif": tiff(deep.astype(np.uint16), "<", 2, ((274, orientation),)),
    }
    for name, file in files.items():
        assert np.array_equal(seen(written(tmp_path, name, file)), shown), name
    picture = Image.fromarray(colours.astype(np.uint8))
    for name, options in {
        "x.webp": {"lossless": True},
        "x.jpg": {"quality": 100, "subsampling": 0},
        "x.avif": {"quality": 100, "subsampling": "4:4:4"},
    }.items():
        picture.save(tmp_path / name, exif=b"Exif\0\0" + exif(orientation), **options)
        error = abs(seen(tmp_path / name) - shown.astype(float))
        assert error.mean() < 3, name  # another orientation is off by some 80


def save_heif(path: Path, pixels: np.ndarray, mode: str, **info: Any) -> None:
    import pillow_heif

    heif = pillow_heif.from_bytes(mode, pixels.shape[1::-1], pixels.tobytes())
    heif.info.update(info)
    heif.save(path, quality=-1, chroma=444, matrix_coefficients=0)


def test_heif(tmp_path: Path) -> None:
    """Lossless, so that all bits are known."""
    colours = np.kron(drawn(3, 255), np.ones((16, 16, 1), int)).astype(np.uint8)
    save_heif(tmp_path / "x.heic", colours, "RGB")
    assert (seen(tmp_path / "x.heic") == colours).all()
    (tmp_path / "unnamed").write_bytes((tmp_path / "x.heic").read_bytes())
    for name in ("x.heic", "X.HEIF", "unnamed"):
        assert modality_of(tmp_path / "unnamed" if name == "unnamed" else name) == IMAGE
    opacity = np.kron(drawn(1, 255, 3), np.ones((16, 16, 1), int)).astype(np.uint8)
    save_heif(tmp_path / "a.heif", np.concatenate((colours, opacity), 2), "RGBA")
    assert abs(seen(tmp_path / "a.heif") - rounded(colours, 255, opacity).astype(int)).max() <= 1
    (tmp_path / "cut.heic").write_bytes((tmp_path / "x.heic").read_bytes()[:-300])
    with pytest.raises(InvalidSource, match=r"cut\.heic: not a readable picture"):
        load_image(tmp_path / "cut.heic")


def test_heif_of_ten_bits(tmp_path: Path) -> None:
    import pillow_heif

    samples = np.kron(drawn(3, 1023), np.ones((16, 16, 1), int))
    heif = pillow_heif.from_bytes("RGB;16", samples.shape[1::-1], (samples << 6).astype("<u2").tobytes())
    heif.save(tmp_path / "x.heic", quality=-1, chroma=444, matrix_coefficients=0)
    stored = pillow_heif.open_heif(tmp_path / "x.heic", convert_hdr_to_8bit=False, hdr_to_16bit=False)
    assert stored.info["bit_depth"] == 10
    assert abs(seen(tmp_path / "x.heic") - rounded(samples, 1023).astype(int)).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heif_is_turned_once(orientation: int, tmp_path: Path) -> None:
    """The container turns; the tag of EXIF says the same again and does not count."""
    import pillow_heif

    colours = np.kron(drawn(3, 255), np.ones((16, 16, 1), int)).astype(np.uint8)
    picture = Image.fromarray(colours)
    heif = pillow_heif.from_pillow(picture)
    heif.save(tmp_path / "x.heic", exif=exif(orientation), quality=-1, chroma=444, matrix_coefficients=0)
    assert np.array_equal(seen(tmp_path / "x.heic"), turned(colours, orientation))


def test_several_pictures_in_a_file_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import pillow_heif

    pages = [Image.new("RGB", (64, 48), color) for color in ("red", "lime", "blue")]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    heif = pillow_heif.from_pillow(pages[0])
    for page in pages[1:]:
        heif.add_from_pillow(page)
    heif.save(tmp_path / "x.heic", quality=-1, chroma=444, matrix_coefficients=0)
    for name in ("x.tif", "x.heic"):
        caplog.clear()
        assert (seen(tmp_path / name) == [255, 0, 0]).all()
        (line,) = caplog.messages
        assert line.endswith(f"{name}: 3 pictures in this file; the first is read, the others are left out")
    pages[0].save(tmp_path / "one.tif")
    caplog.clear()
    load_image(tmp_path / "one.tif")
    assert not caplog.messages


def profile(gamma: float = 2.2, primaries: str = "P3") -> bytes:
    """A profile of ICC.1:2010: three primaries and one power law."""
    xy = {
        "P3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
        "sRGB": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    }[primaries]
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in xy]).T
    columns = columns * np.linalg.solve(columns, white)
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d50 = np.array([0.9642, 1.0, 0.8249])
    adapt = np.linalg.inv(bradford) @ np.diag(bradford @ d50 / (bradford @ white)) @ bradford
    columns = adapt @ columns

    def xyz(value: Any) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in value))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = b"made"
    description = b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + bytes(1 + 4 + 4 + 2 + 1 + 67)
    tags = {b"desc": description, b"wtpt": xyz(d50), b"cprt": b"text\0\0\0\0none\0"}
    tags |= {name: xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns.T, strict=True)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    place, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += name + struct.pack(">II", place + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", place + len(body), bytes(4), 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H4s", 2020, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    head += struct.pack(">3i", *(round(v * 65536) for v in d50))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def srgb_of(colours: np.ndarray, gamma: float) -> np.ndarray:
    """IEC 61966-2-1 levels of levels with P3 primaries and a power law, both with the white of D65."""
    from skimage import color

    linear = (colours / 255.0) ** gamma
    to_xyz = np.array(
        [[0.4865709, 0.2656677, 0.1982173], [0.2289746, 0.6917385, 0.0792869], [0, 0.0451134, 1.0439444]]
    )
    return np.clip(color.xyz2rgb(linear @ to_xyz.T), 0, 1) * 255


def test_colour_profiles(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Against the matrices of Display P3, computed by scikit-image."""
    colours = np.kron(drawn(3, 255, 2), np.ones((16, 16, 1), int)).astype(np.uint8)
    shown = srgb_of(colours, 2.2)
    assert abs(shown - colours).max() > 30  # so that leaving the profile out is seen
    picture = Image.fromarray(colours)
    picture.save(tmp_path / "x.png", icc_profile=profile())
    picture.save(tmp_path / "x.tif", icc_profile=profile())
    picture.save(tmp_path / "x.webp", icc_profile=profile(), lossless=True)
    deep = (b"iCCP", b"p\0\0" + zlib.compress(profile()))
    (tmp_path / "deep.png").write_bytes(png(colours.astype(int) * 257, 16, 2, deep))
    save_heif(tmp_path / "x.heic", colours, "RGB", icc_profile=profile(), icc_profile_type="prof")
    for name in ("x.png", "x.tif", "x.webp", "deep.png", "x.heic"):
        # levels where the curve is steep: lcms computes in 16 bits
        assert abs(seen(tmp_path / name) - shown).max() < 2, name
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, other in {"same.png": srgb, "damaged.png": profile()[:200]}.items():
        picture.save(tmp_path / name, icc_profile=other)
        assert (seen(tmp_path / name) == colours).all(), name
    (line,) = caplog.messages
    assert "damaged.png: its colour profile is left out" in line


def test_lab_tiff(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """CIE L*a*b* relative to D50: XYZ of sRGB, adapted from D65 by Bradford's matrix; CIE 15:2004, 8.2.1."""
    from skimage import color

    colours = np.kron(drawn(3, 200), np.ones((8, 8, 1), int)) + 30
    adapt = np.array([[1.0478, 0.0229, -0.0501], [0.0295, 0.9905, -0.0171], [-0.0092, 0.0150, 0.7521]])
    relative = color.rgb2xyz(colours / 255.0) @ adapt.T / np.array([0.9642, 1.0, 0.8249])
    f = np.where(relative > (6 / 29) ** 3, np.cbrt(relative), relative * 841 / 108 + 4 / 29)
    lab = np.stack((116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])), -1)
    stored = (lab * [2.55, 1, 1] + [0, 128, 128]).round().astype(np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    bands = [Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(stored, 2, 0)]
    Image.merge("LAB", bands).save(tmp_path / "x.tif", icc_profile=profile)
    error = abs(seen(tmp_path / "x.tif") - colours.astype(float))
    assert error.mean() < 1.5  # a* and b* are stored in whole units
    assert error.max() < 20  # half of which are many levels of a dark blue
    assert not caplog.messages


def test_animations_are_turned_and_in_srgb(tmp_path: Path) -> None:
    colours = [np.kron(drawn(3, 255, seed), np.ones((16, 16, 1), int)).astype(np.uint8) for seed in (1, 2)]
    frames = [Image.fromarray(frame) for frame in colours]
    options = {"lossless": True, "exif": b"Exif\0\0" + exif(6), "icc_profile": profile(), "save_all": True}
    frames[0].save(tmp_path / "x.webp", append_images=frames[1:], **options)
    clip = VIDEO.read(tmp_path / "x.webp").x
    for frame, stored in zip(clip.frames, colours, strict=True):
        assert abs(frame.permute(1, 2, 0).numpy() - turned(srgb_of(stored, 2.2), 6)).max() < 2


def test_jpeg_of_four_inks(tmp_path: Path) -> None:
    """Adobe's marker says that inks are stored as 255 - v; RGB = (255 - C)(255 - K) / 255."""
    inks = np.kron(drawn(4, 255), np.ones((16, 16, 1), int)).astype(np.uint8)
    Image.fromarray(inks, "CMYK").save(tmp_path / "x.jpg", quality=100)
    assert b"Adobe" in (tmp_path / "x.jpg").read_bytes()
    shown = (255.0 - inks[..., :3]) * (255.0 - inks[..., 3:]) / 255
    assert abs(seen(tmp_path / "x.jpg") - shown).max() < 6


@pytest.mark.parametrize("depth", [2, 4, 8])
def test_animated_png_with_a_transparent_grey(depth: int, tmp_path: Path) -> None:
    top = 2**depth - 1
    frames = [drawn(1, top, seed) for seed in (1, 2)]
    head = struct.pack(">IIBBBBB", SHAPE[1], SHAPE[0], depth, 0, 0, 0, 0)
    control = [struct.pack(">IIIIIHHBB", n, SHAPE[1], SHAPE[0], 0, 0, 1, 10, 1, 0) for n in (0, 1)]
    data = [png(frame, depth, 0).split(b"IDAT")[1] for frame in frames]
    data = [part[: part.index(b"IEND") - 8] for part in data]
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"acTL", struct.pack(">II", 2, 0))
    file += chunk(b"tRNS", shorts(1)) + chunk(b"fcTL", control[0]) + chunk(b"IDAT", data[0])
    file += chunk(b"fcTL", control[1]) + chunk(b"fdAT", struct.pack(">I", 2) + data[1]) + chunk(b"IEND", b"")
    path = written(tmp_path, "x.png", file)
    assert modality_of(path) == VIDEO
    clip = VIDEO.read(path).x
    for frame, read in zip(frames, clip.frames, strict=True):
        opacity = np.where(frame == 1, 0, top)
        assert (read.permute(1, 2, 0).numpy() == rounded(frame, top, opacity)).all()


def test_gif_of_a_part_of_its_canvas(tmp_path: Path) -> None:
    """What no frame covers is transparent, white: GIF89a, a first image of 2x1 at (3, 2)."""
    head = b"GIF89a" + struct.pack("<HHBBB", 7, 5, 0x80, 0, 0) + bytes([10, 20, 30, 200, 100, 50])
    image = b"!\xf9\x04\x01\0\0\0\0" + b"," + struct.pack("<HHHHB", 3, 2, 2, 1, 0)
    # LZW with codes of 3 bits: clear 4, 1, 1, end 5
    file = head + image + b"\x02\x02" + bytes([0b01_001_100, 0b1010]) + b"\0;"
    shown = np.full((5, 7, 3), 255)
    shown[2, 3:5] = 200, 100, 50
    assert (seen(written(tmp_path, "x.gif", file)) == shown).all()


def test_size_is_checked_before_decoding(tmp_path: Path) -> None:
    """A header of some bytes may declare any size."""
    head = struct.pack(">IIBBBBB", 16385, 5000, 8, 2, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(InvalidSource, match=r"x\.png: image of 16385x5000: sides must lie in 1..16384; crop"):
        load_image(written(tmp_path, "x.png", file))
    head = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(InvalidSource, match="safety limit"):
        load_image(written(tmp_path, "x.png", file))


def test_names_with_control_characters_are_refused_in_one_line(tmp_path: Path) -> None:
    path = written(tmp_path, "a\nb.png", png(drawn(1, 255), 8, 0))
    with pytest.raises(InvalidSource, match="control character") as caught:
        load_image(path)
    assert "\n" not in str(caught.value)
