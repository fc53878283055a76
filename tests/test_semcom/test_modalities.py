"""Every modality keeps its contract, and clips and texts are read as they are to be shown."""

import json
import logging
import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from guests.modality import WAVEFORM
from PIL import Image as PillowImage

from semcom.data import load, load_folder
from semcom.errors import InvalidOption, InvalidSource
from semcom.modalities import (
    IMAGE,
    MODALITIES,
    TEXT,
    VIDEO,
    Clip,
    ClipShape,
    Item,
    Modality,
    TextShape,
    modality_of,
    named,
)

RATE = Fraction(24000, 1001)
RED, GREEN, BLUE = (190, 50, 60), (60, 170, 70), (50, 70, 190)


def a_clip(frames: int = 5, height: int = 7, width: int = 9, rate: Fraction = RATE) -> Clip:
    return Clip(torch.randint(0, 256, (frames, 3, height, width), dtype=torch.uint8), rate)


def an_image() -> torch.Tensor:
    return torch.randint(0, 256, (1, 3, 7, 9)).float() / 255


CASES: tuple[tuple[Modality[Any], Any, int], ...] = (
    (IMAGE, an_image(), 3 * 7 * 9),
    (VIDEO, a_clip(), 5 * 3 * 7 * 9),
    (TEXT, "\ufeffIn  two\r\nlines\rof e\u0301 and \u00e9,\0 \U0001f469\u200d\U0001f680 \n", 8),
    (WAVEFORM, np.arange(-4, 7, dtype=np.int16), 11),  # somebody else's
)
every = pytest.mark.parametrize(("modality", "x", "dims"), CASES, ids=lambda case: getattr(case, "name", ""))


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Clip):
        return a.frame_rate == b.frame_rate and torch.equal(a.frames, b.frames)
    return bool(np.array_equal(a, b))


# The contract


@every
def test_contract(modality: Modality[Any], x: Any, dims: int) -> None:
    assert isinstance(modality, Modality)
    assert same(modality.check(x), x)
    assert modality.dims(x) == dims
    shape = modality.shape(x)
    assert hash(shape) == hash(modality.shape(modality.cover(shape)))
    assert shape == modality.shape(modality.cover(shape))
    assert modality.check(modality.cover(shape)) is not None
    assert modality.saved_suffix in modality.writable
    assert modality.writable <= modality.suffixes
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in modality.suffixes)
    assert named("stem", x, modality).id == f"stem-{modality.digest(x)}"
    assert len(modality.digest(x)) == 8


@every
def test_what_is_written_is_read_again(modality: Modality[Any], x: Any, dims: int, tmp_path: Path) -> None:
    for suffix in modality.writable:
        path = tmp_path / f"name{suffix.upper()}"
        modality.write(x, path)
        item = modality.read(path)
        assert same(item.x, x)
        assert item.id == f"name-{modality.digest(x)}"
        assert item.modality is modality
        assert modality_of(path, (modality,)) is modality
        assert modality not in MODALITIES or modality_of(path) is modality
        once = path.read_bytes()
        modality.write(x, path)
        assert path.read_bytes() == once
    assert len(list(tmp_path.iterdir())) == len(modality.writable)  # and nothing beside them


@every
def test_an_ending_that_is_not_written(modality: Modality[Any], x: Any, dims: int, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=rf"name.xyz: {modality.name} files are written as \."):
        modality.write(x, tmp_path / "name.xyz")
    with pytest.raises(FileNotFoundError):
        modality.write(x, tmp_path / "absent" / f"name{modality.saved_suffix}")
    assert not list(tmp_path.iterdir())


@every
def test_a_failed_write_leaves_what_was_there(
    modality: Modality[Any], x: Any, dims: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"name{modality.saved_suffix}"
    path.write_bytes(b"before")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("semcom.files.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        modality.write(x, path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"before"]


@every
def test_what_is_no_file(modality: Modality[Any], x: Any, dims: int, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name in ("absent", "empty", "."):
        with pytest.raises(InvalidSource) as caught:
            modality.read(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name.strip(".") in str(caught.value)


def test_digests_depend_on_everything() -> None:
    clip = a_clip()
    others = [
        Clip(clip.frames ^ 1, RATE),
        Clip(clip.frames, Fraction(24)),
        Clip(clip.frames.reshape(5, 3, 9, 7), RATE),
    ]
    assert len({VIDEO.digest(x) for x in (clip, *others)}) == 4
    assert VIDEO.digest(Clip(clip.frames.clone(), RATE)) == VIDEO.digest(clip)
    assert TEXT.digest("é") != TEXT.digest("e\u0301")
    # as in stores that were written before there were modalities: BLAKE2b of "(1, 2, 3)" and the bytes 0..5
    assert IMAGE.digest(torch.arange(6.0).reshape(1, 1, 2, 3).permute(0, 3, 1, 2) / 255) == "2de7361c"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": torch.zeros(1, 3, 2, 2)}, "float32"),
        ({"frames": torch.zeros(1, 1, 2, 2, dtype=torch.uint8)}, "expected 8-bit RGB"),
        ({"frames": torch.zeros(0, 3, 2, 2, dtype=torch.uint8)}, "without a frame"),
        ({"frames": torch.zeros(1, 3, 0, 2, dtype=torch.uint8)}, "2x0: sides must lie in 1..16384"),
        ({"frames": torch.zeros(1, 3, 1, 16385, dtype=torch.uint8)}, "16385x1: sides must lie in 1..16384"),
        (
            {"frames": torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(99, 3, 9000, 9000)},
            "at most 4294967296 values",
        ),
        ({"frame_rate": Fraction(0)}, "with 0 frames a second"),
        ({"frame_rate": Fraction(1001)}, "with 1001 frames a second"),
        ({"frame_rate": 25.0}, "with 25.0 frames a second"),
    ],
)
def test_clips_out_of_range(change: dict[str, Any], message: str) -> None:
    clip = a_clip()
    for name, value in change.items():
        object.__setattr__(clip, name, value)  # past the check of types that only tests have
    with pytest.raises(InvalidSource, match=message):
        VIDEO.check(clip)


def test_covers() -> None:
    assert TEXT.cover(TextShape()) == ""
    mean = (0.4813, 0.4574, 0.4078)
    assert IMAGE.cover((1, 3, 2, 5)).mean((0, 2, 3)).tolist() == pytest.approx(mean)
    frames = VIDEO.cover(ClipShape(2, 3, 5, RATE)).frames.double().mean((0, 2, 3)) / 255
    assert frames.tolist() == pytest.approx(mean, abs=0.5 / 255)


# Which modality


@dataclass(frozen=True)
class Numbers:
    """A modality of somebody else: a tuple of integers."""

    name: str = "numbers"
    suffixes: frozenset[str] = frozenset({".num"})
    saved_suffix: str = ".num"
    writable: frozenset[str] = frozenset({".num"})

    def read(self, path: Path) -> Item[tuple[int, ...]]:
        return named(path.stem, tuple(path.read_bytes()), self)

    def write(self, x: tuple[int, ...], path: Path) -> None:
        path.write_bytes(bytes(x))

    def check(self, x: tuple[int, ...]) -> tuple[int, ...]:
        return x

    def dims(self, x: tuple[int, ...]) -> int:
        return len(x)

    def shape(self, x: tuple[int, ...]) -> int:
        return len(x)

    def cover(self, shape: int) -> tuple[int, ...]:
        return (0,) * shape

    def digest(self, x: tuple[int, ...]) -> str:
        return f"{hash(x) % 2**32:08x}"


def test_a_modality_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "x.num").write_bytes(b"\1\2")
    with pytest.raises(InvalidSource, match=r"x\.num: neither its ending nor its content is known"):
        load(tmp_path / "x.num")
    numbers = Numbers()
    assert isinstance(numbers, Modality)
    assert load(tmp_path / "x.num", (*MODALITIES, numbers)).x == (1, 2)
    assert load_folder(tmp_path, (numbers,))[0].modality is numbers


def save_animation(path: Path, count: int, duration: Any = 40) -> None:
    pictures = [PillowImage.new("RGB", (8, 6), (40 * i, 0, 0)) for i in range(count)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=duration, lossless=True)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_an_animation_is_a_clip_and_a_picture_is_none(suffix: str, tmp_path: Path) -> None:
    save_animation(tmp_path / f"still{suffix}", 1)
    save_animation(tmp_path / f"moving{suffix}", 4)
    assert load(tmp_path / f"still{suffix}").modality is IMAGE
    item = load(tmp_path / f"moving{suffix}")
    assert item.modality is VIDEO
    assert item.x.frame_rate == 25
    assert item.x.frames.shape == (4, 3, 6, 8)
    reds = item.x.frames[:, 0].double().mean((1, 2))
    assert reds.tolist() == pytest.approx([0, 40, 80, 120], abs=1)


def test_content_decides_where_the_ending_says_nothing(tmp_path: Path) -> None:
    save_animation(tmp_path / "moving.gif", 3)
    PillowImage.new("RGB", (8, 6)).save(tmp_path / "still.png")
    for name, modality in (("moving.gif", VIDEO), ("still.png", IMAGE)):
        (tmp_path / "unknown").write_bytes((tmp_path / name).read_bytes())
        assert modality_of(tmp_path / "unknown") is modality
    with pytest.raises(InvalidSource, match="no such file"):
        modality_of(tmp_path / "absent")
    assert modality_of("absent.mp4") is VIDEO


def test_delays_of_animations(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_animation(tmp_path / "zero.gif", 3, 0)
    assert load(tmp_path / "zero.gif").x.frame_rate == 10  # as browsers have it
    save_animation(tmp_path / "uneven.gif", 3, [100, 400, 100])
    assert load(tmp_path / "uneven.gif").x.frame_rate == 5
    assert "uneven.gif: variable frame rate" in caplog.text


def test_a_folder_holds_one_modality(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    PillowImage.new("RGB", (8, 6)).save(tmp_path / "b.png")
    PillowImage.new("RGB", (8, 6)).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("hello")
    assert [item.id[0] for item in load_folder(tmp_path)] == ["a", "b"]
    assert "left out: 1 taken for notes" in caplog.text
    VIDEO.write(a_clip(), tmp_path / "c.mkv")
    with pytest.raises(
        InvalidSource, match=r"several modalities \(2 image, 1 video\); use a folder for each"
    ):
        load_folder(tmp_path)
    for name in ("a.png", "b.png", "c.mkv"):
        (tmp_path / name).unlink()
    assert load_folder(tmp_path)[0].x == "hello"


# Texts


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("words".encode("utf-16"), r"UTF-16 \(little-endian\); save it as UTF-8"),
        (b"\xfe\xff" + "words".encode("utf-16-be"), r"UTF-16 \(big-endian\)"),
        ("words".encode("utf-32"), r"UTF-32 \(little-endian\)"),
        ("words".encode("utf-16-le"), "5 of 10 bytes are zero: UTF-16 without mark"),
        (b"gr\xfcn", "byte 0xfc at 2 is not UTF-8"),
        (b" \n\t ", "text without a word"),
        (b"", "text without a word"),
    ],
)
def test_texts_that_are_refused(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(data)
    with pytest.raises(InvalidSource, match=rf"x\.txt: .*{message}"):
        TEXT.read(tmp_path / "x.txt")


def test_a_lone_surrogate_is_no_text() -> None:
    with pytest.raises(InvalidSource, match=r"U\+D800 at 2"):
        TEXT.check("ab\ud800")


# Clips, made by formula


def luma_and_colour(rgb: tuple[int, ...], kr: float, kb: float) -> tuple[float, float, float]:
    """Y in [0, 1], Cb and Cr in [-1/2, 1/2] (ITU-R BT.601, BT.709, BT.2020)."""
    red, green, blue = (value / 255 for value in rgb)
    y = kr * red + (1 - kr - kb) * green + kb * blue
    return y, (blue - y) / (2 * (1 - kb)), (red - y) / (2 * (1 - kr))


def yuv_frame(
    size: tuple[int, int],
    left: tuple[int, ...],
    right: tuple[int, ...],
    pixel_format: str = "yuv420p",
    matrix: tuple[float, float] = (0.299, 0.114),
    full: bool = False,
) -> Any:
    """A frame of two halves, computed without libswscale."""
    import av

    bits = 10 if "10" in pixel_format else 8
    frame = av.VideoFrame(*size, pixel_format)
    kind = np.dtype("<u2" if bits > 8 else "u1")
    halves = [luma_and_colour(rgb, *matrix) for rgb in (left, right)]
    for index, plane in enumerate(frame.planes):
        values = []
        for half in halves:
            if full:
                values.append((2**bits - 1) * half[index] + (2 ** (bits - 1) if index else 0))
            else:
                values.append(
                    2 ** (bits - 8) * ((128 + 224 * half[index]) if index else (16 + 219 * half[0]))
                )
        rows = np.zeros((plane.height, plane.line_size // kind.itemsize), kind)
        rows[:, : plane.width // 2], rows[:, plane.width // 2 : plane.width] = np.rint(values)
        plane.update(rows.tobytes()[: plane.buffer_size])
    return frame


def write_clip(
    path: Path,
    frames: list[Any],
    codec: str = "ffv1",
    stamps: list[int] | None = None,
    tags: Any = None,
    **set_: Any,
) -> None:
    """Frames at 25 a second, or at stamps in milliseconds."""
    import av

    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=25, options={"x264-params": "threads=1:bframes=2"})
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, frames[0].format.name
        stream.codec_context.thread_count = 1
        if stamps:
            stream.codec_context.time_base = Fraction(1, 1000)
        for name, value in set_.items():
            setattr(stream.codec_context, name, value)
        for number, frame in enumerate(frames):
            frame.pts = stamps[number] if stamps else number
            frame.time_base = Fraction(1, 1000) if stamps else Fraction(1, 25)
            for name, value in set_.items():
                setattr(frame, name, value) if name.startswith("color") else None
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def halves(clip: Clip, frame: int = 0) -> tuple[list[float], list[float]]:
    """Mean colours of the left and the right half, the middle left out."""
    width = clip.frames.shape[3]
    left, right = clip.frames[frame][..., : width // 3], clip.frames[frame][..., -(width // 3) :]
    return left.double().mean((1, 2)).tolist(), right.double().mean((1, 2)).tolist()


MATRICES = {"bt601": (5, (0.299, 0.114)), "bt709": (1, (0.2126, 0.0722)), "bt2020": (9, (0.2627, 0.0593))}


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_colours_follow_matrix_and_range(matrix: str, full: bool, pixel_format: str, tmp_path: Path) -> None:
    number, weights = MATRICES[matrix]
    frame = yuv_frame((32, 16), RED, GREEN, pixel_format, weights, full)
    write_clip(tmp_path / "x.mkv", [frame], colorspace=number, color_range=2 if full else 1)
    for got, wanted in zip(halves(VIDEO.read(tmp_path / "x.mkv").x), (RED, GREEN), strict=True):
        # half a level of Y, Cb and Cr each, times at most 255/219 and 2 (1 - kr) 255/224, and rounding
        assert np.abs(np.subtract(got, wanted)).max() < 2.5


def test_a_stream_that_states_no_matrix_is_bt601(tmp_path: Path) -> None:
    write_clip(tmp_path / "x.mkv", [yuv_frame((32, 16), RED, GREEN)])
    assert np.abs(np.subtract(halves(VIDEO.read(tmp_path / "x.mkv").x), (RED, GREEN))).max() < 2.5


def test_grey_of_one_channel(tmp_path: Path) -> None:
    import av

    write_clip(tmp_path / "x.mkv", [av.VideoFrame.from_ndarray(np.full((16, 16), 40, np.uint8), "gray")])
    assert set(VIDEO.read(tmp_path / "x.mkv").x.frames.unique().tolist()) == {40}


def test_odd_sizes_keep_their_last_pixels(tmp_path: Path) -> None:
    write_clip(tmp_path / "x.mkv", [yuv_frame((63, 47), RED, BLUE)])
    clip = VIDEO.read(tmp_path / "x.mkv").x
    assert clip.frames.shape == (1, 3, 47, 63)
    assert np.abs(np.subtract(clip.frames[0, :, -1, -1].tolist(), BLUE)).max() < 2.5


def with_matrix(file: bytes, *numbers: int) -> bytes:
    """An MP4 file with another display matrix in its track header (ISO/IEC 14496-12, 8.3.2)."""
    place = file.index(b"tkhd") + 4 + 40
    a, b, c, d = (number << 16 for number in numbers)
    return file[:place] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + file[place + 36 :]


@pytest.mark.parametrize(
    ("numbers", "turn"),
    [
        ((1, 0, 0, 1), lambda x: x),
        ((0, 1, -1, 0), lambda x: x.rot90(-1, (2, 3))),  # clockwise
        ((-1, 0, 0, -1), lambda x: x.rot90(2, (2, 3))),
        ((0, -1, 1, 0), lambda x: x.rot90(1, (2, 3))),
        ((-1, 0, 0, 1), lambda x: x.flip(3)),
        ((1, 0, 0, -1), lambda x: x.flip(2)),
        ((0, 1, 1, 0), lambda x: x.transpose(2, 3)),
    ],
)
def test_display_matrix(numbers: tuple[int, ...], turn: Any, tmp_path: Path) -> None:
    import av

    ramp = (np.arange(48)[:, None, None] * 2 + np.arange(64)[None, :, None] + np.array([0, 30, 60])).astype(
        np.uint8
    )
    frame = av.VideoFrame.from_ndarray(ramp, "rgb24").reformat(format="yuv444p")
    write_clip(tmp_path / "x.mp4", [frame] * 3, "libx264")
    plain = VIDEO.read(tmp_path / "x.mp4").x.frames
    (tmp_path / "turned.mp4").write_bytes(with_matrix((tmp_path / "x.mp4").read_bytes(), *numbers))
    assert torch.equal(VIDEO.read(tmp_path / "turned.mp4").x.frames, turn(plain))


def greys(count: int) -> list[Any]:
    return [yuv_frame((64, 48), (20 * i,) * 3, (20 * i,) * 3) for i in range(count)]


def levels(clip: Clip) -> list[float]:
    return clip.frames.double().mean((1, 2, 3)).tolist()


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.avi"])
def test_the_last_frames_are_fetched_from_the_decoder_in_order(name: str, tmp_path: Path) -> None:
    write_clip(tmp_path / name, greys(11), "libx264")
    clip = VIDEO.read(tmp_path / name).x
    assert levels(clip) == pytest.approx([20 * i for i in range(11)], abs=3)
    assert clip.frame_rate == 25


def test_a_variable_rate_keeps_all_frames_and_the_duration(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_clip(tmp_path / "x.mkv", greys(5), stamps=[0, 40, 80, 480, 520])
    clip = VIDEO.read(tmp_path / "x.mkv").x
    assert levels(clip) == pytest.approx([0, 20, 40, 60, 80], abs=2)
    assert len(clip.frames) / clip.frame_rate == pytest.approx(0.56, abs=0.001)
    assert [record.message.count("variable frame rate") for record in caplog.records] == [1]


def test_rounded_stamps_are_no_variable_rate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for rate in (RATE, Fraction(30), Fraction(60000, 1001), Fraction(100, 13)):
        VIDEO.write(a_clip(30, 6, 8, rate), tmp_path / "x.mkv")
        assert VIDEO.read(tmp_path / "x.mkv").x.frame_rate == rate
    assert not caplog.records


def test_pixels_that_are_not_square(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = [yuv_frame((64, 48), RED, BLUE)] * 2
    write_clip(tmp_path / "x.mkv", frames, "libx264", sample_aspect_ratio=Fraction(2))
    clip = VIDEO.read(tmp_path / "x.mkv").x
    assert clip.frames.shape == (2, 3, 48, 128)
    assert np.abs(np.subtract(halves(clip), (RED, BLUE))).max() < 8
    assert "aspect of 2" in caplog.text


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.avi"])
def test_a_clip_that_is_cut_off(name: str, tmp_path: Path) -> None:
    write_clip(tmp_path / name, greys(11), "libx264")
    whole = (tmp_path / name).read_bytes()
    for share in (0.02, 0.5, 0.95):
        (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InvalidSource, match=rf"{name}: .*incomplete"):
            VIDEO.read(tmp_path / name)


def test_damaged_frames_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_clip(tmp_path / "x.mkv", greys(11), "libx264")
    whole = (tmp_path / "x.mkv").read_bytes()
    told = 0
    for place in range(len(whole) // 2, len(whole) - 40, 7):
        (tmp_path / "x.mkv").write_bytes(whole[:place] + bytes(16) + whole[place + 16 :])
        caplog.clear()
        try:
            VIDEO.read(tmp_path / "x.mkv")
        except InvalidSource:
            continue
        told += "x.mkv: damaged" in caplog.text
        assert len(caplog.records) <= 2
    assert told > 5


def test_what_is_no_clip(tmp_path: Path) -> None:
    (tmp_path / "x.mkv").write_text("words, and no clip " * 100)
    with pytest.raises(InvalidSource, match=r"x\.mkv: not a readable clip"):
        VIDEO.read(tmp_path / "x.mkv")
    (tmp_path / "list.mkv").write_text(
        "#EXTM3U\n#EXTINF:1,\nhttp://192.0.2.1/x.ts\n"
    )  # reaches no other place
    with pytest.raises(InvalidSource, match=r"list\.mkv"):
        VIDEO.read(tmp_path / "list.mkv")
    IMAGE.write(an_image(), tmp_path / "still.png")
    (tmp_path / "still.mkv").write_bytes((tmp_path / "still.png").read_bytes())
    assert VIDEO.read(tmp_path / "still.mkv").x.frames.shape == (1, 3, 7, 9)


def test_all_colours_are_written_without_loss(tmp_path: Path) -> None:
    values = torch.arange(256, dtype=torch.uint8)
    rows, columns = values[:, None].expand(256, 256), values[None].expand(256, 256)
    clip = Clip(torch.stack([rows, columns, rows ^ columns])[None].contiguous(), Fraction(25))
    for suffix in VIDEO.writable:
        VIDEO.write(clip, tmp_path / f"x{suffix}")
        assert torch.equal(VIDEO.read(tmp_path / f"x{suffix}").x.frames, clip.frames)


# Hard files


def fault_of(clip: Clip, wanted: dict[str, Any], said: str) -> str:
    """What keeps a clip from an outcome of the table of hard files; empty if nothing does."""
    count, _, height, width = clip.frames.shape
    counts = wanted.get("frames", count)
    if count not in (counts if isinstance(counts, list) else [counts]):
        return f"{count} frames"
    if "size" in wanted and [width, height] != wanted["size"]:
        return f"{width}x{height}"
    if "aspect" in wanted:
        return "square pixels"
    if "seconds" in wanted and abs(count / clip.frame_rate - wanted["seconds"]) > wanted.get(
        "seconds_tol", 0.05
    ):
        return f"{float(count / clip.frame_rate)} s"
    if "rate" in wanted and abs(clip.frame_rate - wanted["rate"]) > wanted["rate_tol"]:
        return f"{clip.frame_rate} frames a second"
    if "note" in wanted and not any(word in said for word in wanted["note"].split("|")):
        return "nothing said"
    for spot in wanted.get("colours", ()):
        left, top, right, bottom = spot["box"]
        rows = slice(round(top * height), round(bottom * height))
        columns = slice(round(left * width), round(right * width))
        mean = clip.frames[spot["frame"]][:, rows, columns].double().mean((1, 2))
        if np.abs(np.subtract(mean.tolist(), spot["rgb"])).max() > spot["tol"]:
            return f"frame {spot['frame']} is {mean.tolist()}"
    return ""


@pytest.mark.shared
def test_hard_files(shared_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = shared_data / "hard"
    if not folder.is_dir():
        pytest.skip("no hard files")
    caplog.set_level(logging.WARNING)
    wrong = {}
    for case in json.loads((folder / "cases.json").read_text(encoding="utf-8"))["cases"]:
        path = folder / case["file"]
        refusals = [wanted for wanted in case["accept"] if wanted["outcome"] == "error"]
        caplog.clear()
        try:
            x = load(path).x
        except InvalidSource as error:
            if not refusals or str(path) not in str(error) or "\n" in str(error):
                wrong[path.name] = f"refused: {error}"
            continue
        if isinstance(x, str):
            if x.encode() != path.read_bytes():
                wrong[path.name] = "other bytes"
            continue
        results = [wanted for wanted in case["accept"] if wanted["outcome"] == "result"]
        faults = [fault_of(x, wanted, caplog.text) for wanted in results]
        if all(faults):
            wrong[path.name] = faults or "accepted"
    assert not wrong
