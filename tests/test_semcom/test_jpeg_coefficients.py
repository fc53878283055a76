"""Coefficients read from JPEG bytes, held to what libjpeg-turbo makes of the same bytes."""

import io
import random
import struct
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from scipy.fft import idctn

from semcom.cells import Cells
from semcom.codecs import FileCodec, Jpeg, Memo, Quality, SourceCodec, StreamCodec, WebP
from semcom.codecs.codec import HasCells
from semcom.codecs.jpeg_coefficients import ZIGZAG, JpegComponent, read_jpeg
from semcom.errors import CorruptPayload

SIZES = ((64, 48), (1, 1), (8, 8), (16, 16), (17, 33), (50, 3), (37, 19))  # width, height
SETTINGS = (0, 30, 55, 95)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A picture [512, 512, 3]."""
    from skimage import data

    return np.ascontiguousarray(data.astronaut())


def crop(photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.ascontiguousarray(photo[90 : 90 + size[1], 190 : 190 + size[0]])


def plane(component: JpegComponent) -> np.ndarray:
    """Samples by a transform in floating point."""
    blocks = idctn(component.quantised * component.steps, axes=(2, 3), norm="ortho") + 128
    rows, columns = blocks.shape[:2]
    return blocks.transpose(0, 2, 1, 3).reshape(8 * rows, 8 * columns).clip(0, 255)


def drafted(file: bytes, mode: str, size: tuple[int, int]) -> np.ndarray:
    """What libjpeg-turbo decodes, before it is turned into RGB."""
    with PillowImage.open(io.BytesIO(file)) as picture:
        picture.draft(mode, size)
        assert picture.mode == mode
        return np.asarray(picture).astype(float)


def assert_same_samples(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Rounding, and the integer transform's own errors.

    Columns are left in units of 1 / (4 sqrt(8)): half of that in each of eight values whose weights sum to
    sqrt(8) at most is 1/8; constants of 13 places, in which half a unit is 2^-14, make less than 2^11 2^-14.
    """
    error = ours[: theirs.shape[0], : theirs.shape[1]] - theirs
    assert np.abs(error).max() <= 0.5 + 1 / 8 + 1 / 8


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_samples_are_libjpegs(subsampling: str, size: tuple[int, int], photo: np.ndarray) -> None:
    format, pixels = Jpeg(subsampling), crop(photo, size)  # pyright: ignore
    half = (size[0] // 2, size[1] // 2)
    for setting in SETTINGS:
        file = format.file(pixels, setting)
        components = read_jpeg(file, size).components
        assert_same_samples(plane(components[0]), drafted(file, "L", size))
        if subsampling == "4:4:4":
            colors = drafted(file, "YCbCr", size)
        elif min(half) >= 8:  # decoded at half the size, colour needs no interpolation
            colors = drafted(file, "YCbCr", half)
            assert colors.shape[:2] == (-(-size[1] // 2), -(-size[0] // 2))
        else:
            continue
        for i in (1, 2):
            assert_same_samples(plane(components[i]), colors[..., i])


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_other_encoders_files_are_read(subsampling: int, photo: np.ndarray) -> None:
    """4:4:4, 4:2:2 and 4:2:0 with standard tables and quality numbers; grey."""
    size = (70, 45)
    color = PillowImage.fromarray(crop(photo, size))
    for picture in (color, color.convert("L")):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=60, subsampling=subsampling)
        read = read_jpeg(buffer.getvalue(), size)
        assert len(read.components) == len(picture.getbands())
        assert_same_samples(plane(read.components[0]), drafted(buffer.getvalue(), "L", size))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_stream_and_file_have_the_same_coefficients(size: tuple[int, int], photo: np.ndarray) -> None:
    format, pixels = Jpeg(), crop(photo, size)
    for setting in SETTINGS:  # coarse streams have the tables of annex K, fine ones their own
        rebuilt = format.stream_file(format.stream(pixels, setting), size)
        for ours, theirs in zip(
            read_jpeg(rebuilt, size).components,
            read_jpeg(format.file(pixels, setting), size).components,
            strict=True,
        ):
            assert np.array_equal(ours.quantised, theirs.quantised)
            assert np.array_equal(ours.steps, theirs.steps)


def test_grey_blocks_are_their_level() -> None:
    """8 (level - 128) / Delta, rounded half away from 0, in every block; nothing else."""
    for setting in (0, 40, 70, 95):
        for level in (0, 1, 100, 127, 128, 129, 254, 255):
            file = Jpeg().file(np.full((20, 40, 3), level, np.uint8), setting)
            luma, *colors = read_jpeg(file, (40, 20)).components
            exact = 8 * (level - 128) / luma.steps[0, 0]
            expected = np.zeros((3, 5, 8, 8), int)
            expected[:, :, 0, 0] = np.sign(exact) * np.floor(abs(exact) + 0.5)
            assert np.array_equal(luma.quantised, expected)
            assert all(not color.quantised.any() and color.quantised.shape[:2] == (2, 3) for color in colors)


def test_zigzag_is_that_of_the_standard() -> None:
    """T.81, figure A.6: the order number of each place, first two rows and the last."""
    order = np.empty(64, int)
    order[ZIGZAG] = np.arange(64)
    assert order[:8].tolist() == [0, 1, 5, 6, 14, 15, 27, 28]
    assert order[8:16].tolist() == [2, 4, 7, 13, 16, 26, 29, 42]
    assert order[56:].tolist() == [35, 36, 48, 49, 57, 58, 62, 63]


CODECS = (StreamCodec(Jpeg()), Memo(FileCodec(Jpeg("4:4:4"))))


def cells_in_time(codec: SourceCodec, payload: bytes, shape: tuple[int, ...]) -> Cells | None:
    """Cells, or None for a payload that is reported as corrupt."""
    assert isinstance(codec, HasCells)
    start = time.process_time()
    try:
        cells = codec.cells(payload, shape)
    except CorruptPayload:
        return None
    finally:
        assert time.process_time() - start < 2.0  # the median is 10 ms
    assert cells is not None
    assert cells.low.shape == cells.high.shape == cells.operator.A(torch.zeros(shape)).shape
    assert bool((cells.low < cells.high).all())
    return cells


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_damage_is_reported_or_read(codec: SourceCodec, photo: np.ndarray) -> None:
    x = torch.from_numpy(crop(photo, (45, 38))).permute(2, 0, 1)[None].float() / 255
    shape = tuple(x.shape)
    rng = random.Random(0)
    for quality in (Quality(1, 30), Quality(2, 90)):
        payload = codec.encode(x, quality)
        assert cells_in_time(codec, payload, shape) is not None
        for length in {*range(0, len(payload), 23), 1, 2, len(payload) - 1}:
            assert cells_in_time(codec, payload[:length], shape) is None
        for tail in (b"\0", b"\xff\xd9", b"\xff\xd0" + payload[-40:]):
            assert cells_in_time(codec, payload + tail, shape) is None
        verdicts: Counter[bool] = Counter()
        for trial in range(200):
            damaged = bytearray(payload)
            for _ in range(1 + trial % 4):  # half of the flips in the headers
                place = rng.randrange(len(damaged) if trial % 2 else min(50, len(damaged)))
                damaged[place] ^= 1 << rng.randrange(8)
            verdicts[cells_in_time(codec, bytes(damaged), shape) is None] += 1
        assert verdicts[True] > 0
    for length in (0, 1, 2, 10, 100, 1000):
        for _ in range(5):
            cells_in_time(codec, rng.randbytes(length), shape)


def test_what_is_not_baseline_is_refused(photo: np.ndarray) -> None:
    size = (45, 38)
    picture = PillowImage.fromarray(crop(photo, size))

    def saved(**options: bool | int) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", **options)
        return buffer.getvalue()

    plain = saved(quality=50)
    read_jpeg(plain, size)
    frame, scan = plain.index(b"\xff\xc0"), plain.index(b"\xff\xda")
    table, codes = plain.index(b"\xff\xdb"), plain.index(b"\xff\xc4")

    def changed(at: int, *values: int) -> bytes:
        return plain[:at] + bytes(values) + plain[at + len(values) :]

    for damaged, reason in (
        (saved(progressive=True), "0xffc2"),
        (saved(restart_marker_blocks=2), "0xffdd"),
        (changed(frame + 4, 12), "8 bits"),
        (changed(frame + 5, *struct.pack(">HH", 65500, 65500)), "65500x65500 instead of 45x38"),
        (changed(frame + 11, 0x52), "sampling factors"),
        (changed(scan + 5, 9), "all components"),
        (changed(scan + 6, 0x33), "table 3 is missing"),
        (changed(table + 5, 0), "above 0"),
        (changed(codes + 4, 0x22), "no such number"),
        (changed(codes + 5, 255), "cut short"),
        (changed(codes + 5, 3, 0, 0), "more codes than there are"),
        (changed(codes + 21, 200), "8-bit pictures"),
        (plain[:scan] + b"\xff\xd9", "without a scan"),
        (plain[: scan + 20], "last marker"),
    ):
        with pytest.raises(CorruptPayload, match=reason):
            read_jpeg(damaged, size)


def test_a_table_of_too_many_codes_takes_no_memory(photo: np.ndarray) -> None:
    plain = Jpeg().file(crop(photo, (16, 16)), 50)
    symbols = bytes(16 * 255)
    table = b"\xff\xc4" + struct.pack(">HB", 19 + len(symbols), 0) + bytes([255] * 16) + symbols
    tracemalloc.start()
    try:
        with pytest.raises(CorruptPayload, match="more codes than there are"):
            read_jpeg(plain[:2] + table + plain[2:], (16, 16))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_formats_without_cells_say_so(photo: np.ndarray) -> None:
    x = torch.from_numpy(crop(photo, (16, 16))).permute(2, 0, 1)[None].float() / 255
    for codec in (StreamCodec(WebP()), FileCodec(WebP()), Memo(StreamCodec(WebP()))):
        assert codec.cells(codec.encode(x, codec.qualities[-1]), tuple(x.shape)) is None


def test_reading_is_quick(photo: np.ndarray) -> None:
    file = Jpeg().file(photo, 60)  # 2 bits per pixel
    start = time.process_time()
    read_jpeg(file, (512, 512))
    assert time.process_time() - start < 1.0  # about 0.1 s


@pytest.mark.shared
def test_photographs_are_libjpegs(shared_data: Path) -> None:
    for path in sorted((shared_data / "kodak").glob("*.png"))[:3]:
        with PillowImage.open(path) as picture:
            pixels, size = np.asarray(picture.convert("RGB")), picture.size
        for setting in (20, 47):
            file = Jpeg().file(pixels, setting)
            assert_same_samples(plane(read_jpeg(file, size).components[0]), drafted(file, "L", size))
