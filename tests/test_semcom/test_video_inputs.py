"""Odd and broken clips at the commands for video: a result, or one line; and files whole or not at all."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from semcom.cli import main
from semcom.errors import BudgetTooSmall, InvalidSource
from semcom.modalities.video import VIDEO, Clip
from semcom.video import container
from semcom.video.container import decode_file, encode_file


def pictures(count: int, width: int, height: int) -> list[np.ndarray]:
    """Smooth moving waves, [height, width, 3]."""
    rows, columns = np.mgrid[:height, :width]
    waves = [128 + 60 * np.sin((columns + 2 * t) / 9) + 40 * np.cos(rows / 7) for t in range(count)]
    return [np.stack([wave, wave[::-1], 255 - wave], -1).clip(0, 255).astype(np.uint8) for wave in waves]


def film(
    path: Path,
    count: int = 6,
    size: tuple[int, int] = (64, 48),
    codec: str = "ffv1",
    pixels: str = "yuv420p",
    stamps: Callable[[int], int] = lambda t: 40 * t,
    format: str | None = None,
    sound: bool = False,
) -> None:
    """Write a clip; stamps in milliseconds."""
    import av

    with av.open(str(path), "w", format=format) as out:
        stream: Any = out.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        stream.codec_context.time_base = Fraction(1, 1000)
        audio: Any = out.add_stream("pcm_s16le", rate=8000, layout="mono") if sound else None
        for t, picture in enumerate(pictures(count, *size)):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = stamps(t), Fraction(1, 1000)
            out.mux(stream.encode(frame))
            if audio is not None:
                tone = av.AudioFrame.from_ndarray(np.zeros((1, 320), np.int16), "s16", "mono")
                tone.sample_rate, tone.pts = 8000, 320 * t
                out.mux(audio.encode(tone))
        out.mux(stream.encode(None))


def turned(path: Path) -> None:
    """A display matrix of a quarter turn in the track header (ISO/IEC 14496-12, 8.3.2)."""
    film(path, codec="libx264")
    data = path.read_bytes()
    place = data.index(b"tkhd") + 4 + 40
    matrix = struct.pack(">9i", *(int(v * 65536) for v in (0, 1, 0, -1, 0, 0, 48, 0)), 1 << 30)
    path.write_bytes(data[:place] + matrix + data[place + 36 :])


def cut(path: Path) -> None:
    film(path, codec="libx264")
    path.write_bytes(path.read_bytes()[:-300])


def sound_alone(path: Path) -> None:
    import av

    with av.open(str(path), "w") as out:
        audio: Any = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.int16), "s16", "mono")
        tone.sample_rate, tone.pts = 8000, 0
        out.mux(audio.encode(tone))
        out.mux(audio.encode(None))


def picture(path: Path) -> None:
    Image.fromarray(pictures(1, 64, 48)[0]).save(path, "png")


def photograph(path: Path) -> None:
    Image.fromarray(pictures(1, 64, 48)[0]).save(path, "jpeg")


def rapid(path: Path) -> None:
    """YUV4MPEG2 of two grey frames with 100 000 frames a second, as its header says."""
    frame = b"FRAME\n" + bytes([128]) * (64 * 48 * 3 // 2)
    path.write_bytes(b"YUV4MPEG2 W64 H48 F100000:1 Ip A1:1 C420jpeg\n" + 2 * frame)


def glazed(path: Path) -> None:
    """VP9 with an alpha plane: red that covers half of what is behind it."""
    import av

    with av.open(str(path), "w", format="matroska") as out:
        stream: Any = out.add_stream("libvpx-vp9", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuva420p"
        stream.codec_context.options = {"crf": "4", "b": "0", "auto-alt-ref": "0"}
        for t in range(6):
            pixels = np.full((48, 64, 4), (200, 40, 90, 128), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, "rgba").reformat(format="yuva420p")
            frame.pts, frame.time_base = t, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


Shape = tuple[int, int, int]
CLIPS: dict[str, tuple[Callable[[Path], Any], Shape | None]] = {
    "none.mkv": (lambda path: film(path, 0), None),
    "one.mkv": (lambda path: film(path, 1), (1, 64, 48)),
    "two.mkv": (lambda path: film(path, 2), (2, 64, 48)),
    "odd.mkv": (lambda path: film(path, size=(63, 47), pixels="yuv444p"), (6, 63, 47)),
    "tiny.mkv": (lambda path: film(path, size=(8, 8)), (6, 8, 8)),
    "pixel.mkv": (lambda path: film(path, size=(1, 1), pixels="yuv444p"), (6, 1, 1)),
    "wide.mkv": (lambda path: film(path, 3, (4096, 16)), (3, 4096, 16)),
    "tall.mkv": (lambda path: film(path, 3, (16, 4096)), (3, 16, 4096)),
    "uneven.mkv": (lambda path: film(path, stamps=lambda t: 40 * t + 300 * (t > 2)), (6, 64, 48)),
    "deep.mkv": (lambda path: film(path, pixels="yuv420p10le"), (6, 64, 48)),
    "turned.mp4": (turned, (6, 48, 64)),
    "sound.mkv": (lambda path: film(path, sound=True), (6, 64, 48)),
    "bare.h264": (lambda path: film(path, codec="libx264", format="h264"), (6, 64, 48)),
    "glazed.mkv": (glazed, (6, 64, 48)),
    "rapid.y4m": (rapid, None),
    "cut.mp4": (cut, None),
    "deaf.mkv": (sound_alone, None),
    "picture.mkv": (picture, (1, 64, 48)),
    "photograph.mkv": (photograph, (1, 64, 48)),
    "text.mkv": (lambda path: path.write_text("not a clip at all\n" * 50), None),
    "empty.mkv": (lambda path: path.write_bytes(b""), None),
    "zeros.mkv": (lambda path: path.write_bytes(bytes(5000)), None),
}
AT_ONCE = ("none.mkv", "one.mkv", "tiny.mkv", "turned.mp4", "cut.mp4", "text.mkv")
every_clip = pytest.mark.parametrize("name", CLIPS)
clips_by_and_by = pytest.mark.parametrize(
    "name", [name if name in AT_ONCE else pytest.param(name, marks=pytest.mark.slow) for name in CLIPS]
)


def only_line(error: str, name: str) -> None:
    """A refusal is one line that names the file; a progress bar may stand before it."""
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if line.startswith("semcom: error:")]
    assert len(lines) == 1
    assert name in lines[0]


def ran(arguments: list[str], name: str, shape: Shape | None, capsys: pytest.CaptureFixture[str]) -> bool:
    """Whether the command gave a result; it has to refuse exactly what has no shape."""
    status = main(arguments)
    error = capsys.readouterr().err
    assert status in (0, 2)
    assert (status == 0) == (shape is not None), error
    if status:
        only_line(error, name)
    return status == 0


def test_transparency_of_vp9_is_composed_on_white(tmp_path: Path) -> None:
    """v a + 255 (1 - a) with a = 128 / 255; coding and 4:2:0 take up to 4 levels."""
    glazed(tmp_path / "glazed.mkv")
    shown = VIDEO.read(tmp_path / "glazed.mkv").x.frames.float().mean((0, 2, 3))
    white = 255 * (1 - 128 / 255)
    expected = torch.tensor([200.0, 40.0, 90.0]) * 128 / 255 + white
    assert torch.allclose(shown, expected, atol=4)


@pytest.mark.parametrize("default", [0, 1])
def test_the_default_of_several_streams_is_shown(default: int, tmp_path: Path) -> None:
    """Grey of 50 and of 200 levels; Matroska's FlagDefault tells which of them a player shows."""
    import av
    from av.stream import Disposition

    with av.open(str(tmp_path / "two.mkv"), "w") as out:
        streams: list[Any] = [out.add_stream("ffv1", rate=25) for _ in range(2)]
        for number, stream in enumerate(streams):
            stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
            stream.disposition = Disposition.default if number == default else Disposition(0)
        for stream, grey in zip(streams, (50, 200), strict=True):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), grey, np.uint8), "rgb24")
            out.mux(stream.encode(frame.reformat(format="bgr0")))
            out.mux(stream.encode(None))
    frames = VIDEO.read(tmp_path / "two.mkv").x.frames
    assert frames.unique().tolist() == [(50, 200)[default]]


@every_clip
def test_odd_clips_are_encoded_or_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make, shape = CLIPS[name]
    make(Path(name))
    if name == "pixel.mkv":  # any codec needs more than the 24 bits a pixel that the command allows
        name_in_error, shape = "x264-live needs at least", None
    else:
        name_in_error = name
    encode = ["video", "encode", name, "--bpp", "24", "--codec", "x264-live", "--out", "out.scv"]
    if ran(encode, name_in_error, shape, capsys):
        assert main(["video", "decode", "out.scv", "--out", "shown.mkv"]) == 0
        frames = VIDEO.read("shown.mkv").x.frames
        assert (len(frames), frames.shape[3], frames.shape[2]) == shape
        original = VIDEO.read(name).x.frames
        assert (frames.float() - original.float()).square().mean() < 400  # 22 dB
    assert {path.name for path in tmp_path.iterdir()} <= {name, "out.scv", "shown.mkv"}


@clips_by_and_by
def test_odd_clips_are_sent_or_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make, shape = CLIPS[name]
    make(Path(name))
    rho = {"pixel.mkv": "300", "wide.mkv": "1", "tall.mkv": "1"}.get(name, "8")
    link = ["--scheme", "x264-live+ldpc:mcs9", "--channel", "awgn", "--snr", "20", "--rho", rho]
    if ran(["send", name, *link, "--out", "out.mkv", "--modality", "video"], name, shape, capsys):
        frames = VIDEO.read("out.mkv").x.frames
        assert (len(frames), frames.shape[3], frames.shape[2]) == shape
    assert {path.name for path in tmp_path.iterdir()} <= {name, "out.mkv"}


@clips_by_and_by
def test_odd_clips_are_compared_or_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make, shape = CLIPS[name]
    make(Path(name))
    arguments = ["video", "compare", name, "--bpp", "20", "--codecs", "x264-live,x265-live", "--out", "out"]
    if ran(arguments, name, shape, capsys):
        page = (tmp_path / "out" / "report.html").read_text()
        assert ("data:image/webp" in page) == (name != "pixel.mkv")
        rows = [json.loads(line) for line in (tmp_path / "out" / "records.jsonl").read_text().splitlines()]
        assert [row["codec"] for row in rows] == ["x264-live", "x265-live"]
        assert all(row["floor"] == (name == "pixel.mkv") for row in rows)
        assert all("psnr_db" in row for row in rows if not row["floor"])
    else:
        assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["layered", "predictive"])
@pytest.mark.parametrize("name", [name for name in CLIPS if CLIPS[name][1] and name != "pixel.mkv"])
def test_odd_clips_by_the_low_rate_codecs(
    name: str,
    codec: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    make, shape = CLIPS[name]
    make(Path(name))
    bpp = "24" if min(CLIPS[name][1] or (0,)) < 10 else "2"
    if name == "pixel.mkv":  # a header takes more than 24 bits a pixel
        return
    assert ran(
        ["video", "encode", name, "--bpp", bpp, "--codec", codec, "--out", "o.scv"], name, shape, capsys
    )
    assert main(["video", "decode", "o.scv", "--out", "shown.mkv"]) == 0
    frames = VIDEO.read("shown.mkv").x.frames
    assert (len(frames), frames.shape[3], frames.shape[2]) == shape


# Segments


def clip_of(frames: int, path: Path, side: int = 16) -> Clip:
    """Frames of different grey."""
    grey = torch.arange(frames, dtype=torch.uint8)[:, None, None, None] * 5
    clip = Clip(grey.expand(-1, 3, side, side).contiguous(), Fraction(25))
    VIDEO.write(clip, path)
    return clip


class Raw:
    """Codec without compression, which needs at least 20 bytes, as a key frame does."""

    name = "raw"
    qualities = ()

    def encode(self, x: Clip, quality: object = None) -> bytes:
        return bytes(x.frames[:, 0, 0, 0].tolist()) + bytes(20)

    def decode(self, payload: bytes, shape: Any) -> Clip:
        grey = torch.tensor(list(payload[:-20]), dtype=torch.uint8)[:, None, None, None]
        return Clip(grey.expand(-1, 3, shape.height, shape.width).contiguous(), shape.frame_rate)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 6, 7, 8, 9, 13])
def test_the_last_two_segments_share_the_rest(
    frames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No segment is shorter than half of the others, since each starts with a key frame."""
    monkeypatch.setattr(container, "SEGMENT", 4)
    clip = clip_of(frames, tmp_path / "clip.mkv")
    seen: list[int] = []

    def encode(x: Clip, bits: int) -> bytes:
        del bits
        seen.append(len(x.frames))
        return Raw().encode(x)

    encode_file(tmp_path / "clip.mkv", tmp_path / "clip.scv", "x264", encode, 24.0, lambda n, m: None)
    assert sum(seen) == frames
    assert seen == list(container._lengths(frames, 16, 16))
    assert max(seen) <= 4
    assert frames < 4 or min(seen) >= 2
    decode_file(tmp_path / "clip.scv", tmp_path / "out.mkv", lambda _: Raw(), lambda n, m: None)
    assert torch.equal(VIDEO.read(tmp_path / "out.mkv").x.frames, clip.frames)


def test_a_budget_that_a_later_segment_misses_names_its_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "SEGMENT", 4)
    clip_of(8, tmp_path / "clip.mkv")

    def encode(x: Clip, bits: int) -> bytes:
        if x.frames[0, 0, 0, 0] > 0:
            raise BudgetTooSmall("needs 9 bits")
        return b"x"

    with pytest.raises(BudgetTooSmall, match="frames 5 to 8: needs 9 bits"):
        encode_file(tmp_path / "clip.mkv", tmp_path / "clip.scv", "x264", encode, 1.0, lambda n, m: None)
    assert not list(tmp_path.glob("*.scv*"))


# Ctrl-C


@pytest.mark.parametrize("when", [0, 1, 2])
def test_an_interruption_leaves_no_file(when: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "SEGMENT", 4)
    source, coded, shown = (tmp_path / name for name in ("clip.mkv", "clip.scv", "out.mkv"))
    clip_of(12, source)
    calls: list[int] = []

    def told(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) > when:
            raise KeyboardInterrupt

    def encode(x: Clip, bits: int) -> bytes:
        return Raw().encode(x)

    with pytest.raises(KeyboardInterrupt):
        encode_file(source, coded, "x264", encode, 24.0, told)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mkv"]
    encode_file(source, coded, "x264", encode, 24.0, lambda n, m: None)
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        decode_file(coded, shown, lambda _: Raw(), told)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mkv", "clip.scv"]


def interrupted(arguments: list[str], folder: Path, delay_s: float) -> subprocess.CompletedProcess[str]:
    """Press Ctrl-C some time after the command has begun to write."""
    with subprocess.Popen(
        [sys.executable, "-m", "semcom", "video", *arguments],
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        end = time.monotonic() + 60
        while process.poll() is None and not list(folder.glob("*.part")) and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(delay_s)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=120)
    return subprocess.CompletedProcess(arguments, process.returncode, "", error)


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("command", ["encode", "decode"])
def test_ctrl_c_leaves_a_valid_file_or_none(command: str, delay_s: float, tmp_path: Path) -> None:
    film(tmp_path / "clip.mkv", 400, (320, 240))
    codec = ["--codec", "x264-live", "--bpp", "0.2"]
    if command == "decode":
        assert main(["video", "encode", f"{tmp_path}/clip.mkv", *codec, "--out", f"{tmp_path}/clip.scv"]) == 0
        run = interrupted(["decode", "clip.scv", "--out", "out.mkv"], tmp_path, delay_s)
        out = tmp_path / "out.mkv"
    else:
        run = interrupted(["encode", "clip.mkv", *codec, "--out", "clip.scv"], tmp_path, delay_s)
        out = tmp_path / "clip.scv"
    # CPython ends by the signal itself, 130 to a shell, if Ctrl-C met the making of a class while it imported
    assert run.returncode in (0, 130, -signal.SIGINT)
    assert "Traceback" not in run.stderr
    assert not list(tmp_path.glob("*.part"))
    assert out.exists() == (run.returncode == 0)
    if run.returncode:
        assert run.stderr.strip().endswith("interrupted")


def test_a_file_that_is_no_clip_is_named(tmp_path: Path) -> None:
    (tmp_path / "note.mkv").write_text("a text")
    with pytest.raises(InvalidSource, match=r"note\.mkv: not a readable clip"):
        encode_file(
            *(tmp_path / "note.mkv", tmp_path / "clip.scv", "x264"),
            lambda x, bits: b"",
            *(1.0, lambda n, m: None),
        )
    with pytest.raises(InvalidSource, match=r"note\.mkv: not a file of coded video"):
        decode_file(tmp_path / "note.mkv", tmp_path / "out.mkv", lambda _: Raw(), lambda n, m: None)


PEAK = """
import sys
from pathlib import Path
from semcom.codecs import InterCodec
from semcom.video import container
container.SEGMENT = 50
codec = InterCodec("x264", "live")
quality = codec.qualities[len(codec.qualities) * 3 // 4]
container.encode_file(
    Path(sys.argv[1]), Path(sys.argv[2]), "x264-live", lambda x, bits: codec.encode(x, quality), 24.0,
    lambda n, m: None,
)
container.decode_file(Path(sys.argv[2]), Path(sys.argv[3]), lambda name: codec, lambda n, m: None)
# of this process alone: ru_maxrss counts what the process was that started it
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_clip(tmp_path: Path) -> None:
    """200 frames more of 640x360 would be 132 MiB; both clips have several whole segments."""
    peaks: list[float] = []
    for frames in (200, 400):
        source = tmp_path / f"{frames}.mkv"
        film(source, frames, (640, 360), "libx264")
        run = subprocess.run(
            [sys.executable, "-c", PEAK, source, tmp_path / "clip.scv", tmp_path / "out.mkv"],
            check=True,
            capture_output=True,
            text=True,
        )
        peaks.append(int(run.stdout) / 1024)
    assert peaks[1] - peaks[0] < 40, peaks
