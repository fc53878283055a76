"""Layered video: header, base layer, interpolation, refiner, search, and files of coded video."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from semcom.cli import main
from semcom.codecs.clip import squared_error
from semcom.codecs.codec import Quality
from semcom.errors import BudgetTooSmall, CorruptPayload, InvalidOption, InvalidSource
from semcom.metrics.clip import PerFrame
from semcom.metrics.perceptual import SlicedWasserstein
from semcom.modalities.video import VIDEO, Clip, ClipShape
from semcom.refiner import PictureRefiner
from semcom.video import search
from semcom.video.container import HEADER, Header, decode_file, encode_file, frames_per_segment
from semcom.video.interpolation import between, flow_is_there
from semcom.video.layered import (
    BASES,
    HEAD,
    NO_NETWORK,
    Coded,
    Head,
    LayeredCodec,
    coded_frames,
    interpolated,
    payload_within,
)
from semcom.video.refinement import FrameRefiner, spread_code, spread_of
from semcom.video.search import finest, perceptual

SIDE, FRAMES = 72, 6
needs_flow = pytest.mark.skipif(not flow_is_there(), reason="OpenCV is not installed")


def texture(height: int, width: int) -> np.ndarray:
    """Smooth waves in three colours, [height, width, 3] in 0..255."""
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / a) + np.cos(columns / b) for a, b in ((5, 7), (9, 4), (6, 11))]
    return np.stack([128 + 50 * wave for wave in waves], -1).round().astype(np.uint8)


def sliding(frames: int = FRAMES, speed: int = 2, side: int = SIDE) -> Clip:
    """A texture that moves to the left by `speed` pixels a frame."""
    whole = torch.from_numpy(texture(side, side + speed * frames)).permute(2, 0, 1)
    views = [whole[:, :, speed * t : speed * t + side] for t in range(frames)]
    return Clip(torch.stack(views), Fraction(25))


@pytest.fixture(scope="module")
def refiner() -> FrameRefiner:
    """A network that changes what it sees."""
    torch.manual_seed(0)
    network = PictureRefiner((8, 16), (1, 1))
    torch.nn.init.normal_(network.out.weight, std=0.5)
    return FrameRefiner(network.eval().requires_grad_(False), b"\x01\x02\x03\x04")


@pytest.fixture(scope="module")
def codec(refiner: FrameRefiner) -> LayeredCodec:
    return LayeredCodec(refiner, perceptual)


def coarse(base: int = 0, scale: int = 1) -> Quality:
    return Quality(scale, BASES[base].settings // 3)


@pytest.mark.parametrize("base", range(len(BASES)))
@pytest.mark.parametrize("scale", [1, 2])
def test_the_base_layer_is_that_of_the_codec(codec: LayeredCodec, base: int, scale: int) -> None:
    x = sliding()
    coded = codec.coded(x, base, 1, coarse(base, scale))
    plain = codec.with_strength(coded, 0.0)
    payload = BASES[base].encode(x, coarse(base, scale))
    assert plain.payload[HEAD:] == payload
    assert len(plain.payload) == HEAD + len(payload)
    shown = codec.decode(plain.payload, VIDEO.shape(x))
    assert torch.equal(shown.frames, BASES[base].decode(payload, VIDEO.shape(x)).frames)


def test_what_is_decoded_is_what_the_encoder_refined(codec: LayeredCodec) -> None:
    x = sliding()
    coded = codec.coded(x, 0, 1, coarse())
    shown = codec.decode(coded.payload, VIDEO.shape(x))
    assert torch.equal(shown.frames, torch.stack(list(codec.refined(coded, coded.shown.frames))))
    assert not torch.equal(shown.frames, coded.shown.frames)


def test_strength_moves_frames_along_a_line(codec: LayeredCodec) -> None:
    """x_hat - y is proportional to the strength, up to rounding to 8 bits."""
    x = sliding()
    coded = codec.coded(x, 0, 1, coarse())
    y = coded.shown.frames.float()
    half, whole = (
        torch.stack(list(codec.refined(codec.with_strength(coded, strength), coded.shown.frames))).float() - y
        for strength in (0.5, 1.0)
    )
    inside = (y + whole > 0) & (y + whole < 255)
    assert (2 * half - whole)[inside].abs().max() <= 1.5


def test_all_frames_get_the_same_noise(codec: LayeredCodec) -> None:
    """A clip that stands still is shown standing still."""
    still = replace(sliding(), frames=sliding().frames[:1].expand(3, -1, -1, -1))
    coded = codec.coded(still, 0, 1, coarse())
    same = coded.shown.frames[:1].expand(3, -1, -1, -1)
    shown = list(codec.refined(coded, same))
    assert torch.equal(shown[0], shown[1])
    assert torch.equal(shown[0], shown[2])


def test_the_told_error_is_that_of_the_layer(codec: LayeredCodec) -> None:
    x = sliding()
    coded = codec.coded(x, 0, 1, coarse())
    error = (coded.shown.frames.double() - x.frames.double()).square().mean().sqrt() * 2 / 255
    assert spread_of(coded.head.spread) == pytest.approx(float(error), rel=2 ** (0.5 / 24) - 1 + 1e-6)


@pytest.mark.parametrize("code", [0, 1, 24, 255])
def test_the_code_of_the_error_is_inverted(code: int) -> None:
    assert spread_code(spread_of(code)) == code
    assert spread_of(code) == pytest.approx(2 ** (code / 24 - 8))


def test_an_unknown_network_shows_the_base_layer_and_says_so(
    codec: LayeredCodec, caplog: pytest.LogCaptureFixture
) -> None:
    x = sliding()
    coded = codec.coded(x, 0, 1, coarse())
    for other in (
        LayeredCodec(None, perceptual),
        LayeredCodec(replace(codec.refiner, digest=b"none"), perceptual),
    ):
        caplog.clear()
        assert torch.equal(other.decode(coded.payload, VIDEO.shape(x)).frames, coded.shown.frames)
        assert "01020304, which is not here: the base layer is shown" in caplog.text


def test_the_header_is_read_as_it_was_written() -> None:
    head = Head(1, 4, 77, 200, b"abcd", b"efgh")
    assert Head.from_bytes(head.to_bytes() + b"x") == head
    assert len(head.to_bytes()) == HEAD


def test_a_damaged_payload_is_an_error_or_a_clip(codec: LayeredCodec) -> None:
    x = sliding()
    payload = codec.coded(x, 0, 1, coarse()).payload
    shape = VIDEO.shape(x)
    right = codec.decode(payload, shape).frames
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(60):
        damaged = bytearray(payload)
        if trial % 3 == 0:
            damaged = damaged[: int(rng.integers(len(payload)))]
        else:
            damaged[int(rng.integers(len(payload)))] ^= 1 << int(rng.integers(8))
        try:
            shown = codec.decode(bytes(damaged), shape).frames
        except CorruptPayload:
            refused += 1
        else:  # a bit that no decoder looks at
            assert torch.equal(shown, right)
    assert refused > 50


def test_every_bit_of_the_header_counts(codec: LayeredCodec) -> None:
    x = sliding()
    payload = codec.coded(x, 0, 1, coarse()).payload
    for bit in range(8 * HEAD):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptPayload):
            codec.decode(bytes(damaged), VIDEO.shape(x))


@pytest.mark.parametrize(("frames", "step"), [(1, 4), (2, 4), (5, 4), (6, 4), (7, 2), (48, 1)])
def test_first_and_last_frame_are_coded(frames: int, step: int) -> None:
    kept = coded_frames(frames, step)
    assert kept[0] == 0
    assert kept[-1] == frames - 1
    assert all(0 < b - a <= step for a, b in pairwise(kept))


@needs_flow
def test_a_moving_texture_is_interpolated() -> None:
    """What moves by constant speed is found to within a few levels; a blend of both frames is far from it."""
    noise = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    whole = (255 * torch.nn.functional.interpolate(noise, (128, 192), mode="bicubic")[0]).clamp(0, 255)
    x = [whole[:, :, 2 * t : 2 * t + 128].round().to(torch.uint8) for t in range(5)]
    found = between(x[0], x[4], 3)
    inner = (slice(None), slice(16, -16), slice(16, -16))
    blend = (x[0].float() + x[4].float()) / 2
    error = [(f[inner].float() - x[t + 1][inner].float()).abs().mean() for t, f in enumerate(found)]
    assert max(error) < 3
    assert max(error) < (blend[inner] - x[2][inner].float()).abs().mean() / 4


@needs_flow
def test_equal_frames_have_themselves_between_them() -> None:
    frame = sliding().frames[0]
    for found in between(frame, frame, 2):
        assert (found.int() - frame.int()).abs().max() <= 1


def test_small_frames_are_blended() -> None:
    first, last = torch.zeros(3, 8, 8, dtype=torch.uint8), torch.full((3, 8, 8), 100, dtype=torch.uint8)
    assert [int(frame[0, 0, 0]) for frame in between(first, last, 3)] == [25, 50, 75]


def test_coded_frames_stay_as_they_are() -> None:
    x = sliding().frames
    kept = coded_frames(FRAMES, 1)
    assert torch.equal(torch.stack(list(interpolated(x, kept))), x)


@needs_flow
def test_every_second_frame_is_decoded_alone(codec: LayeredCodec) -> None:
    x = sliding()
    coded = codec.coded(x, 0, 2, coarse())
    shown = codec.decode(coded.payload, VIDEO.shape(x)).frames
    assert torch.equal(shown, torch.stack(list(codec.refined(coded, coded.shown.frames))))


@pytest.mark.parametrize("start", [0, 3, 50, 99])
@pytest.mark.parametrize("most", [-1, 0, 1, 50, 9800, 9801, 10**6])
def test_the_finest_setting_is_found_from_any_start(start: int, most: int) -> None:
    looked: list[int] = []

    def size(setting: int) -> int:
        looked.append(setting)
        return setting**2

    expected = max((setting for setting in range(100) if setting**2 <= most), default=-1)
    assert finest(size, 100, most, start) == expected
    assert all(0 <= setting < 100 for setting in looked)


@pytest.mark.parametrize("octaves", [8.0, 11.0, 14.0])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_few_settings_are_looked_at(octaves: float, share: float) -> None:
    """Of sizes that grow about exponentially, no more are looked at than bisection of all of them needs."""
    looked: list[int] = []

    def size(setting: int) -> int:
        looked.append(setting)
        bend = 1 + 0.1 * math.sin(setting / 9)
        return round(1000 * 2 ** (octaves * bend * setting / 141))

    most = size(round(share * 141))
    expected = max(setting for setting in range(141) if size(setting) <= most)
    looked.clear()
    assert finest(size, 141, most, 42) == expected
    assert len(looked) <= 7


def test_the_search_finds_what_a_search_of_everything_finds(
    codec: LayeredCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All candidates at all strengths, each shown to the measure as the receiver would show it."""
    x = sliding()
    bits = 8 * len(codec.encode(x, Quality(1, 30)))
    measure = PerFrame(SlicedWasserstein())
    monkeypatch.setattr(search, "_measure", lambda x: SlicedWasserstein())
    judged: list[tuple[float, Coded]] = []
    bound = math.inf
    for candidate in search.fitting(codec, x, bits):
        before = squared_error(candidate.shown, x)
        if (candidate.head.base, candidate.head.step, candidate.quality.scale) == (0, 1, 1):
            bound = before * 10 ** (search.MOST_LOSS_DB / 10)
        changed = torch.stack(
            list(codec.refined(codec.with_strength(candidate, 1.0), candidate.shown.frames))
        )
        for strength in search.STRENGTHS:
            frames = candidate.shown.frames + strength * (changed.float() - candidate.shown.frames)
            shown = Clip(frames.round().clamp(0, 255).to(torch.uint8), x.frame_rate)
            if squared_error(shown, x) <= bound:
                judged.append((measure(shown, x), codec.with_strength(candidate, strength)))
    assert len(judged) > len(search.CANDIDATES) / 2
    found = perceptual(codec, x, bits)
    assert found.payload == min(judged, key=lambda pair: pair[0])[1].payload


@needs_flow
def test_candidates_far_below_the_bound_are_not_refined(
    codec: LayeredCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither are those with still fewer or smaller frames tried."""
    tried: list[tuple[int, int]] = []
    coded = LayeredCodec.coded

    def counted(
        self: LayeredCodec, x: Clip, base: int, step: int, quality: Quality, layer: bytes | None = None
    ) -> Coded:
        tried.append((step, quality.scale))
        made = coded(self, x, base, step, quality, layer)
        if step == 2:  # as if it had been interpolated badly
            made = replace(made, shown=Clip(255 - made.shown.frames, x.frame_rate))
        return made

    monkeypatch.setattr(LayeredCodec, "coded", counted)
    monkeypatch.setattr(search, "CANDIDATES", ((0, 1, 1), (0, 2, 1), (0, 4, 1), (0, 2, 2)))
    monkeypatch.setattr(search, "COARSE", -1.0)
    x = sliding()
    bits = 8 * len(codec.encode(x, Quality(1, 30)))
    tried.clear()
    assert perceptual(codec, x, bits).head.step == 1
    assert tried == [(1, 1), (2, 1)]


def test_the_search_keeps_to_the_budget(codec: LayeredCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "CANDIDATES", ((0, 1, 1), (1, 1, 1)))
    x = sliding()
    bits = 8 * len(codec.encode(x, Quality(1, 30)))
    fitted = codec.fit(x, bits)
    assert 8 * len(fitted.payload) <= bits
    assert torch.equal(codec.decode(fitted.payload, VIDEO.shape(x)).frames, fitted.decoded.frames)
    with pytest.raises(BudgetTooSmall, match="bits for a clip of 6 frames of 72x72"):
        codec.fit(x, 100)


def test_a_payload_is_found_without_showing_the_clip(
    codec: LayeredCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = sliding()
    coded = codec.coded(x, 0, 1, coarse())

    def seen(*arguments: object) -> None:
        raise AssertionError("frames were refined")

    monkeypatch.setattr(FrameRefiner, "__call__", seen)
    blind = LayeredCodec(codec.refiner, lambda codec, x, bits: coded)
    assert payload_within(blind, x, 10**6) == coded.payload
    with pytest.raises(AssertionError, match="frames were refined"):
        blind.fit(x, 10**6)
    assert payload_within(BASES[1], x, 10**5) == BASES[1].fit(x, 10**5).payload


def test_the_search_loses_at_most_the_allowed_psnr(
    codec: LayeredCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that adds noise is not used."""
    monkeypatch.setattr(search, "CANDIDATES", ((0, 1, 1),))
    x = sliding()
    coded = perceptual(codec, x, 8 * len(codec.encode(x, Quality(1, 40))))
    assert coded.head.network == NO_NETWORK


def test_choices_out_of_range_are_one_line(codec: LayeredCodec) -> None:
    x = sliding()
    with pytest.raises(InvalidOption, match="base layer 2, step 1: choose"):
        codec.coded(x, 2, 1, coarse())
    with pytest.raises(InvalidOption, match="step 3"):
        codec.coded(x, 0, 3, coarse())
    with pytest.raises(InvalidOption, match="strength 4"):
        codec.with_strength(codec.coded(x, 0, 1, coarse()), 4.0)


# Files


def plain(x: Clip, bits: int) -> bytes:
    return BASES[1].fit(x, bits).payload


def test_a_file_holds_the_clip(tmp_path: Path) -> None:
    x = sliding(9)
    VIDEO.write(replace(x, frame_rate=Fraction(30000, 1001)), tmp_path / "clip.mkv")
    told: list[int] = []
    done = encode_file(
        tmp_path / "clip.mkv", tmp_path / "clip.scv", "x265-slow", plain, 1.0, lambda n, _: told.append(n)
    )
    size = (tmp_path / "clip.scv").stat().st_size
    assert done.size == size
    assert done.bpp == 8 * size / (9 * SIDE**2) <= 1.0
    assert told == [0, 9]
    back = decode_file(tmp_path / "clip.scv", tmp_path / "out.mkv", lambda name: BASES[1], lambda n, m: None)
    assert back.damaged == ()
    shown = VIDEO.read(tmp_path / "out.mkv").x
    assert shown.frame_rate == Fraction(30000, 1001)
    assert (shown.frames.float() - x.frames.float()).square().mean() < 60


def segmented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of three segments."""
    monkeypatch.setattr("semcom.video.container.SEGMENT", 3)
    VIDEO.write(sliding(8), tmp_path / "clip.mkv")
    coded = tmp_path / "clip.scv"
    encode_file(tmp_path / "clip.mkv", coded, "x265-slow", plain, 1.0, lambda n, _: None)
    return coded


def test_a_damaged_segment_repeats_the_frame_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coded = segmented(tmp_path, monkeypatch)
    data = bytearray(coded.read_bytes())
    clean = decode_file(coded, tmp_path / "clean.mkv", lambda name: BASES[1], lambda n, m: None)
    assert clean.damaged == ()
    first = HEADER + 1 + data[HEADER]  # the length of the first segment takes one byte, or two
    if data[HEADER] > 127:
        first = HEADER + 2 + (data[HEADER] & 127 | data[HEADER + 1] << 7)
    data[first + 8 : first + 40] = bytes(32)
    (tmp_path / "bad.scv").write_bytes(data)
    done = decode_file(tmp_path / "bad.scv", tmp_path / "bad.mkv", lambda name: BASES[1], lambda n, m: None)
    assert done.damaged == (range(3, 6),)
    right, wrong = (VIDEO.read(tmp_path / name).x.frames for name in ("clean.mkv", "bad.mkv"))
    assert torch.equal(wrong[:3], right[:3])
    assert torch.equal(wrong[3:6], right[2:3].expand(3, -1, -1, -1))
    assert torch.equal(wrong[6:], right[6:])


@pytest.mark.parametrize("end", [HEADER, HEADER + 1, -1])
def test_a_truncated_file_names_the_damaged_frames(
    end: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coded = segmented(tmp_path, monkeypatch)
    (tmp_path / "cut.scv").write_bytes(coded.read_bytes()[:end])
    arguments = tmp_path / "cut.scv", tmp_path / "cut.mkv", lambda name: BASES[1], lambda n, m: None
    if end == -1:
        assert decode_file(*arguments).damaged == (range(6, 8),)
    else:
        with pytest.raises(CorruptPayload, match="no segment of it can be decoded"):
            decode_file(*arguments)
        assert not (tmp_path / "cut.mkv").exists()


def test_a_damaged_header_is_one_line(tmp_path: Path) -> None:
    right = Header("x265", ClipShape(7, 10, 20, Fraction(25))).to_bytes()
    assert Header.from_bytes(right).shape == ClipShape(7, 10, 20, Fraction(25))
    for bit in range(8 * HEADER):
        damaged = bytearray(right)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InvalidSource):
            Header.from_bytes(bytes(damaged))
    for short in (b"", right[:-1], b"SCV"):
        with pytest.raises(InvalidSource):
            Header.from_bytes(short)


def test_segments_bound_the_memory() -> None:
    assert frames_per_segment(416, 240) == 250
    assert frames_per_segment(640, 360) == 194
    assert frames_per_segment(16384, 16384) == 1


def command(*arguments: str | Path) -> int:
    return main(["video", *map(str, arguments)])


def test_the_commands_encode_and_decode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    VIDEO.write(sliding(4), tmp_path / "clip.mkv")
    source, coded, out = (tmp_path / name for name in ("clip.mkv", "clip.scv", "out.mkv"))
    assert command("encode", source, "--bpp", 0.6, "--codec", "x265-live", "--out", coded, "--json") == 0
    row = json.loads(capsys.readouterr().out)
    assert row["bytes"] == coded.stat().st_size
    assert row["bpp"] <= 0.6
    assert command("decode", coded, "--out", out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 4


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["encode", "no.mkv", "--bpp", "1", "--out", "o.scv"], "no.mkv: no such file"),
        (["encode", "clip.mkv", "--bpp", "0", "--out", "o.scv"], "--bpp 0: choose a number above 0"),
        (["encode", "clip.mkv", "--bpp", "nan", "--out", "o.scv"], "--bpp nan: choose"),
        (["encode", "clip.mkv", "--bpp", "1", "--out", "o.mkv"], "ends in .scv"),
        (
            ["encode", "clip.mkv", "--bpp", "1", "--codec", "vvc", "--out", "o.scv"],
            "--codec vvc: choose one of",
        ),
        (["encode", "clip.mkv", "--bpp", "1e-6", "--codec", "x265", "--out", "o.scv"], "x265 needs at least"),
        (["encode", "note.mkv", "--bpp", "1", "--out", "o.scv"], "not a readable clip"),
        (["decode", "clip.mkv", "--out", "o.mkv"], "not a file of coded video"),
        (["decode", "empty.scv", "--out", "o.mkv"], "not a file of coded video"),
        (["decode", "empty.scv", "--out", "o.mp4"], "o.mp4"),
        (["decode", ".", "--out", "o.mkv"], "a folder"),
    ],
)
def test_silly_arguments_are_one_line(
    arguments: list[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    VIDEO.write(sliding(2), Path("clip.mkv"))
    Path("note.mkv").write_text("a text")
    Path("empty.scv").write_bytes(b"")
    assert command(*arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert line in error
    assert not list(tmp_path.glob("o.*"))


DECODE = """
import sys
from pathlib import Path
import torch
from semcom import names
from semcom.video.container import decode_file
torch.set_num_threads(int(sys.argv[3]))
decode_file(Path(sys.argv[1]), Path(sys.argv[2]), lambda name: names.codec(name, "video"), lambda n, m: None)
"""


@pytest.mark.slow
def test_another_process_with_other_threads_shows_the_same(tmp_path: Path) -> None:
    """The base layer is equal, the refined frames are within one level."""
    VIDEO.write(sliding(5, side=96), tmp_path / "clip.mkv")
    assert command("encode", tmp_path / "clip.mkv", "--bpp", 0.3, "--out", tmp_path / "clip.scv") == 0
    shown = []
    for threads in ("1", "2"):
        out = tmp_path / f"{threads}.mkv"
        subprocess.run(
            [sys.executable, "-c", DECODE, tmp_path / "clip.scv", out, threads],
            check=True,
            env=os.environ | {"ATEN_CPU_CAPABILITY": "default" if threads == "2" else "avx2"},
        )
        shown.append(VIDEO.read(out).x.frames.int())
    assert (shown[0] - shown[1]).abs().max() <= 1
