"""Damaged files and payloads of coded video: an error, or a clip whose damaged frames are named."""

import logging
import math
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from semcom.codecs import InterCodec, Jpeg, SourceCodec, StreamCodec
from semcom.codecs.clip import shape_of
from semcom.codecs.codec import Quality
from semcom.codecs.varint import varint
from semcom.errors import CorruptPayload, InvalidSource, SemcomError
from semcom.modalities.video import VIDEO, Clip, ClipShape
from semcom.refiner import PictureRefiner
from semcom.video.container import HEADER, Header, decode_file, encode_file
from semcom.video.layered import Coded, LayeredCodec
from semcom.video.predictive import PredictiveCodec
from semcom.video.predictors import BlockMotion
from semcom.video.refinement import FrameRefiner

SIDE, FRAMES, PART = 72, 8, 3
MOST_SECONDS = 20.0  # of one decoding, which takes 0.1 s
NAMES = ("layered", "predictive", "x264", "x265", "av1", "vp9")
every_codec = pytest.mark.parametrize("name", NAMES)


def moving(frames: int = FRAMES, side: int = SIDE) -> Clip:
    """Waves that move to the left by 2 pixels a frame."""
    rows, columns = np.mgrid[:side, : side + 2 * frames]
    waves = [np.sin(rows / a) + np.cos(columns / b) for a, b in ((5, 7), (9, 4), (6, 11))]
    whole = torch.from_numpy(np.stack([128 + 50 * wave for wave in waves]).round().astype(np.uint8))
    return Clip(torch.stack([whole[:, :, 2 * t : 2 * t + side] for t in range(frames)]), Fraction(25))


class PixelGate:
    """Mean absolute difference over 255."""

    name = "mae"

    def distances(self, x_hat: Tensor, x: Tensor) -> list[float]:
        return ((x_hat.int() - x.int()).abs().double().mean((1, 2, 3)) / 255).tolist()


class SameLength:
    """Still codec that tells the mean level in one byte."""

    name = "level"
    qualities = (Quality(1, 0),)

    def encode(self, x: Tensor, quality: Quality) -> bytes:
        return bytes([round(255 * float(x[..., :1].mean()))])

    def decode(self, payload: bytes, shape: tuple[int, ...]) -> Tensor:
        if len(payload) != 1:
            raise CorruptPayload("not one byte")
        return torch.full(shape, payload[0] / 255)


def first_choice(codec: LayeredCodec, x: Clip, max_bits: int) -> Coded:
    del max_bits
    return codec.coded(x, 0, 1, codec.qualities[len(codec.qualities) // 2])


def made(name: str) -> SourceCodec[Clip]:
    """Codec by name, with a small network."""
    if name == "layered":
        torch.manual_seed(0)
        network = PictureRefiner((8, 16), (1, 1)).eval().requires_grad_(False)
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        return LayeredCodec(FrameRefiner(network, b"\1\2\3\4"), first_choice)
    if name == "predictive":
        return PredictiveCodec(StreamCodec(Jpeg()), BlockMotion(), PixelGate(), 0.02, block=2)
    return next(InterCodec(library) for library in ("x264", "x265", "av1", "vp9") if library == name)


def payload_of(codec: SourceCodec[Clip], x: Clip) -> bytes:
    if isinstance(codec, LayeredCodec):
        return codec.fit(x, 10**9).payload
    return codec.encode(x, codec.qualities[len(codec.qualities) * 5 // 6])


def damages(data: bytes, seed: int) -> Iterator[bytes]:
    """Endless copies of some bytes with flipped bits, cut, with ranges swapped or repeated, and empty."""
    rng = np.random.default_rng(seed)
    yield b""
    while True:
        kind = int(rng.integers(4))
        a, b, c, d = sorted(int(place) for place in rng.integers(len(data) + 1, size=4))
        if kind == 0:
            bad = bytearray(data)
            for bit in rng.integers(8 * len(data), size=int(rng.integers(1, 9))):
                bad[bit // 8] ^= 1 << bit % 8
            found = bytes(bad)
        elif kind == 1:
            found = data[:a]
        elif kind == 2:
            found = data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]
        else:
            found = data[:b] + data[a:b] + data[b:]
        if found != data:
            yield found


@dataclass
class Coding:
    """A clip in a file of several segments, its right frames, and a way to decode other bytes."""

    folder: Path
    codec: SourceCodec[Clip]
    data: bytes
    right: Tensor

    def decoded(self, data: bytes) -> tuple[Tensor, set[int]] | None:
        """Frames, and numbers of those that are said to be damaged; None after an error."""
        source, out = self.folder / "bad.scv", self.folder / "bad.mkv"
        source.write_bytes(data)
        out.unlink(missing_ok=True)
        start = time.monotonic()
        try:
            done = decode_file(source, out, lambda _: self.codec, lambda n, m: None)
        except SemcomError:
            assert not out.exists()
            assert not list(self.folder.glob("*.part"))
            return None
        assert time.monotonic() - start < MOST_SECONDS
        return VIDEO.read(out).x.frames, {number for part in done.damaged for number in part}

    def check(self, data: bytes) -> bool:
        """Whether a file is refused; else frames that are not named have to be right."""
        found = self.decoded(data)
        if found is None:
            return True
        frames, damaged = found
        assert frames.shape == self.right.shape
        for number in set(range(len(frames))) - damaged:
            assert torch.equal(frames[number], self.right[number]), f"frame {number} is wrong and not named"
        return False


Make = Callable[[str], Coding]


@pytest.fixture
def coding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setattr("semcom.video.container.SEGMENT", PART)

    def make(name: str) -> Coding:
        codec = made(name)
        VIDEO.write(moving(), tmp_path / "clip.mkv")
        coded = tmp_path / "clip.scv"
        done = encode_file(
            *(tmp_path / "clip.mkv", coded, name),
            lambda x, _: payload_of(codec, x),
            *(24.0, lambda n, m: None),
        )
        assert done.size == coded.stat().st_size
        decode_file(coded, tmp_path / "right.mkv", lambda _: codec, lambda n, m: None)
        return Coding(tmp_path, codec, coded.read_bytes(), VIDEO.read(tmp_path / "right.mkv").x.frames)

    return make


def check_files(coding: Coding, cases: int, seed: int) -> None:
    refused = 0
    for _, bad in zip(range(cases), damages(coding.data, seed), strict=False):
        refused += coding.check(bad)
    assert 0 < refused < cases  # the empty file is refused; damage to one segment leaves the others


@every_codec
def test_a_damaged_file_is_refused_or_says_which_frames(coding: Make, name: str) -> None:
    check_files(coding(name), 16, 0)


@pytest.mark.slow
@every_codec
def test_a_thousand_damaged_files(coding: Make, name: str) -> None:
    check_files(coding(name), 1000 // len(NAMES) + 1, 1)


def check_payloads(name: str, cases: int, seed: int) -> None:
    codec, x = made(name), moving(5)
    payload, shape = payload_of(codec, x), shape_of(x)
    right = codec.decode(payload, shape).frames
    refused = 0
    for _, bad in zip(range(cases), damages(payload, seed), strict=False):
        start = time.monotonic()
        try:
            assert torch.equal(codec.decode(bad, shape).frames, right)
        except CorruptPayload:
            refused += 1
        assert time.monotonic() - start < MOST_SECONDS
    assert refused > 0.9 * cases


own_check = pytest.mark.parametrize("name", ["layered", "predictive"])


@own_check
def test_a_damaged_payload_is_refused_or_right(name: str) -> None:
    check_payloads(name, 40, 2)


@pytest.mark.slow
@own_check
def test_a_thousand_damaged_payloads(name: str) -> None:
    check_payloads(name, 1000, 3)


@pytest.mark.parametrize("place", range(HEADER + 1))
def test_a_file_that_is_cut_in_its_header_is_refused(coding: Make, place: int) -> None:
    assert coding("x264").check(Header("x264", ClipShape(8, 72, 72, Fraction(25))).to_bytes()[:place])


def segments(data: bytes) -> list[bytes]:
    """Segments of a file with their lengths, by the format."""
    found, place = [], HEADER
    while place < len(data):
        length, end = 0, place
        while True:
            length |= (data[end] & 0x7F) << 7 * (end - place)
            end += 1
            if data[end - 1] < 0x80:
                break
        found.append(data[place : end + 4 + length])  # 4 bytes of CRC
        place = end + 4 + length
    return found


@every_codec
def test_segments_that_changed_places_are_named(coding: Make, name: str) -> None:
    """The first two segments have equal numbers of frames, so that each decodes in place of the other."""
    file = coding(name)
    first, second, *rest = segments(file.data)
    file.check(file.data[:HEADER] + second + first + b"".join(rest))


def test_key_frames_that_changed_places_are_named() -> None:
    """Two key frames of one length, each with its CRC, in each other's place."""
    codec = PredictiveCodec(SameLength(), BlockMotion(), PixelGate(), 0.0)
    x = moving(4)
    payload = codec.encode(x, codec.qualities[0])
    length = 1 + 2  # of a key frame and its CRC
    a, b = payload[-2 * length : -length], payload[-length:]
    found = codec.examine(payload[: -2 * length] + b + a, shape_of(x))
    assert found.damaged == (False, False, True, True)
    assert "key frame 2 is damaged" in found.notes


def test_a_damaged_length_reserves_no_memory(tmp_path: Path) -> None:
    """A length of 2 GiB in a file of 30 bytes."""
    header = Header("x264", ClipShape(8, SIDE, SIDE, Fraction(25))).to_bytes()
    (tmp_path / "bad.scv").write_bytes(header + varint(1 << 31) + bytes(20))
    codec = made("x264")
    tracemalloc.start()
    try:
        with pytest.raises(CorruptPayload):
            decode_file(tmp_path / "bad.scv", tmp_path / "bad.mkv", lambda _: codec, lambda n, m: None)
        assert tracemalloc.get_traced_memory()[1] < 1 << 26
    finally:
        tracemalloc.stop()


def test_a_header_without_segments_is_refused_at_once(tmp_path: Path) -> None:
    """Four billion frames are announced, and none is there."""
    shape = ClipShape(2**32 - 1, 16, 16, Fraction(25))
    (tmp_path / "bad.scv").write_bytes(Header("x264", shape).to_bytes())
    start = time.monotonic()
    told: list[int] = []
    with pytest.raises(CorruptPayload, match="no segment of it can be decoded"):
        decode_file(
            *(tmp_path / "bad.scv", tmp_path / "bad.mkv"),
            *(lambda _: made("x264"), lambda n, m: told.append(n)),
        )
    assert time.monotonic() - start < MOST_SECONDS
    assert len(told) < 100


def test_a_header_of_enormous_frames_is_refused(tmp_path: Path) -> None:
    """65535x65535 pixels would be 13 GB a frame."""
    shape = ClipShape(3, 65535, 65535, Fraction(25))
    (tmp_path / "bad.scv").write_bytes(Header("x264", shape).to_bytes() + b"\1x")
    with pytest.raises(SemcomError, match="65535x65535"):
        decode_file(tmp_path / "bad.scv", tmp_path / "bad.mkv", lambda _: made("x264"), lambda n, m: None)


def test_infinite_thresholds_are_damaged_alike() -> None:
    """Blocks of 5 predicted frames, none coded."""
    codec = PredictiveCodec(StreamCodec(Jpeg()), BlockMotion(), PixelGate(), math.inf)
    x = moving(7)
    payload, shape = codec.encode(x, codec.qualities[20]), shape_of(x)
    right = codec.decode(payload, shape).frames
    for _, bad in zip(range(40), damages(payload, 4), strict=False):
        try:
            found = codec.examine(bad, shape)
        except CorruptPayload:
            continue
        for number, damaged in enumerate(found.damaged):
            assert damaged or torch.equal(found.clip.frames[number], right[number])


def test_an_unknown_network_is_told_in_one_line(coding: Make, caplog: pytest.LogCaptureFixture) -> None:
    """The base layer of three segments is shown."""
    file = coding("layered")
    assert isinstance(file.codec, LayeredCodec)
    file.codec = LayeredCodec(None, first_choice)
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        found = file.decoded(file.data)
    assert found is not None
    frames, damaged = found
    assert not damaged
    assert (frames.float() - moving().frames.float()).square().mean() < 100
    assert not torch.equal(frames, file.right)
    lines = [record.getMessage() for record in caplog.records if "network 01020304" in record.getMessage()]
    assert len(lines) == 1


@pytest.mark.parametrize("version", [1, 3])
def test_another_version_is_named(version: int, tmp_path: Path) -> None:
    """The fourth byte of a file is its version, 2."""
    file = tmp_path / "clip.scv"
    file.write_bytes(b"SCV" + bytes([version]) + bytes(40))
    with pytest.raises(InvalidSource, match=rf"of version {version}; this program reads 2"):
        decode_file(file, tmp_path / "out.mkv", lambda _: made("x264"), lambda n, m: None)


def test_bytes_after_the_last_segment_are_told(coding: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A file to which ten bytes were added: its frames are right, and one line says so."""
    coded = coding("x264")
    found = coded.decoded(coded.data + bytes(10))
    assert found is not None
    assert torch.equal(found[0], coded.right)
    assert not found[1]
    (line,) = (record.message for record in caplog.records)
    assert line.endswith("bad.scv: 10 bytes follow the last segment, and are not read")
