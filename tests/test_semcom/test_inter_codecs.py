"""H.264, H.265, AV1 and VP9: what is sent, foreign decoders, damage, and clips in packets."""

import os
import random
import struct
import sys
import time
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from semcom.codecs import INTER_CODECS, InterCodec, Quality, fit
from semcom.codecs import av as inter
from semcom.codecs.annexb import byte_stream, nal_units
from semcom.codecs.chroma import in_420, to_rgb, to_yuv
from semcom.codecs.elementary import LengthSyntax, NalSyntax, ObuSyntax
from semcom.codecs.groups import GroupPackets
from semcom.codecs.obu import DELIMITER, FRAME, SEQUENCE_HEADER, Obu, leb128, obus, temporal_units
from semcom.errors import BudgetTooSmall, CorruptPayload, InvalidOption
from semcom.modalities import VIDEO, Clip

RATE = Fraction(25)
LIMIT_S = 2.0  # for one decoding of a small clip, on a loaded machine; the worst of 12,000 was 0.01 s
LIBRARIES = tuple(InterCodec(library) for library in ("x264", "x265", "av1", "vp9"))

every = pytest.mark.parametrize("codec", INTER_CODECS, ids=lambda codec: codec.name)
every_library = pytest.mark.parametrize("codec", LIBRARIES, ids=lambda codec: codec.name)


def moving(count: int, height: int = 64, width: int = 96) -> Clip:
    """A window that moves over a photograph."""
    from skimage import data

    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1)
    frames = [photo[:, 60 + i : 60 + i + height, 180 + 2 * i : 180 + 2 * i + width] for i in range(count)]
    return Clip(torch.stack(frames), RATE)


CLIP = moving(12)
SHAPE = VIDEO.shape(CLIP)


def middling(codec: InterCodec, share: float = 0.5, scale: int = 1) -> Quality:
    return Quality(scale, round(share * (codec.settings - 1)))


def psnr_db(x_hat: Clip, x: Clip) -> float:
    return float(10 * torch.log10(255**2 / (x_hat.frames.double() - x.frames.double()).square().mean()))


# Syntax, by the standards


def test_numbers_of_variable_length() -> None:
    """Powers of 128 begin a new byte (AV1 specification, 4.10.5)."""
    for number, data in ((0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (16384, "808001")):
        assert leb128(bytes.fromhex(data), 0) == (number, len(data) // 2)
    assert leb128(bytes.fromhex("ff8000"), 0) == (127, 3)  # more bytes than needed are allowed
    assert leb128(bytes.fromhex("fffffffff0"[:8] + "0f"), 0) == (2**32 - 1, 5)
    for bad in ("", "80", "8080808080808080", "808080801000", "ffffffff1f"):
        with pytest.raises(ValueError, match="an OBU"):
            leb128(bytes.fromhex(bad), 0)


def test_obus_are_split() -> None:
    """obu_forbidden_bit, obu_type in 4 bits, extension, has_size, reserved (AV1 specification, 5.3.2)."""
    assert bytes.fromhex("1200") == DELIMITER
    header, extended, frame = (
        bytes.fromhex("0a02abcd"),
        bytes.fromhex("3680 01".replace(" ", "")) + b"\x10",
        b"2\x01\x10",
    )
    assert [(unit.kind, unit.data) for unit in obus(header + extended + frame)] == [
        (SEQUENCE_HEADER, header),
        (FRAME, extended),
        (FRAME, frame),
    ]
    for bad in (header[:-1], b"\x08\x00", b"\x92\x00", b"\x0a"):
        with pytest.raises(ValueError, match="an OBU"):
            obus(frame + bad)
    assert [unit.data for unit in obus(frame + header[:-1], whole=False)] == [frame]


def test_a_temporal_unit_ends_with_the_frame_it_shows() -> None:
    """show_existing_frame is the first bit of a frame header, show_frame the fourth (5.9.2)."""
    sequence, shown, hidden, again = b"\x0a\x00", b"\x32\x01\x10", b"\x32\x01\x20", b"\x1a\x01\x80"
    head, tiles = b"\x1a\x01\x10", b"\x22\x01\x00"
    units = obus(sequence + shown + hidden + hidden + shown + again + head + tiles + tiles + again)
    groups = [b"".join(unit.data for unit in group) for group in temporal_units(units)]
    assert groups == [sequence + shown, hidden + hidden + shown, again, head + tiles + tiles, again]
    assert not Obu(FRAME, b"\x32\x00", 2).shows


def test_nal_units_are_grouped_by_first_slices() -> None:
    """Types of table 7-1 of H.264; a slice whose first_mb_in_slice is 0 begins with bit 1."""
    syntax = NalSyntax(frozenset({1, 5}), frozenset({7, 8}), 1)
    sps, pps, idr, first, second = b"\x67\x64", b"\x68\xee", b"\x65\x88", b"\x41\x9a", b"\x41\x40"
    sei, delimiter = b"\x06\x05\x01", b"\x09\x10"
    packets = [byte_stream((delimiter, sps, pps, sei, idr)), byte_stream((sps, pps, first, second))]
    stream = syntax.stream(packets)
    assert nal_units(stream) == (sps, pps, idr, first, second)
    assert syntax.access_units(stream) == [byte_stream((sps, pps, idr)), byte_stream((first, second))]
    assert syntax.access_units(stream[:-1], whole=False) == [byte_stream((sps, pps, idr))]
    for bad in ((idr, sps), (sei, idr), (sps, pps), ()):
        with pytest.raises(ValueError, match="slices"):
            syntax.access_units(byte_stream(bad))


def test_vp9_frames_follow_their_lengths() -> None:
    syntax = LengthSyntax()
    frames = [b"a", b"b" * 200, b"c" * 3]
    stream = syntax.stream(frames)
    assert len(stream) == 1 + 1 + 2 + 200 + 1 + 3
    assert syntax.access_units(stream) == frames
    assert syntax.access_units(stream[:-1], whole=False) == frames[:2]
    for bad in (stream[:-1], stream + b"\0", stream + b"\x80"):
        with pytest.raises(ValueError, match="empty or cut off"):
            syntax.access_units(bad)


@every
def test_parameter_sets_are_sent_once_and_nothing_else_is(codec: InterCodec) -> None:
    payload = codec.encode(moving(6), middling(codec, 0.4, 2))
    assert payload[0] == 2
    units = codec.syntax.access_units(payload[1:])
    assert len(units) == 6
    if isinstance(codec.syntax, NalSyntax):
        kinds = [codec.syntax.kind(unit) for unit in nal_units(payload[1:])]
        sets = [7, 8] if codec.library == "x264" else [32, 33, 34]
        assert kinds[: len(sets)] == sets
        assert len(kinds) == len(sets) + 6  # one slice a frame
        assert byte_stream(nal_units(payload[1:])) == payload[1:]
    elif isinstance(codec.syntax, ObuSyntax):
        kinds = [unit.kind for unit in obus(payload[1:])]
        assert kinds[0] == SEQUENCE_HEADER
        assert set(kinds[1:]) <= {3, 6}  # frame headers and frames
    for bad in (Quality(8, 0), Quality(1, codec.settings), Quality(1, -1)):
        with pytest.raises(InvalidOption, match=f"{codec.name}: scale must be one of"):
            codec.encode(CLIP, bad)


@every_library
def test_the_receiver_has_no_encoder(codec: InterCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver with another build of the encoder, or none, decodes all the same."""
    payload = codec.encode(CLIP, middling(codec))
    expected = codec.decode(payload, SHAPE)
    monkeypatch.setattr(inter, "_encoder", None)
    assert torch.equal(codec.decode(payload, SHAPE).frames, expected.frames)


def ivf(fourcc: bytes, size: tuple[int, int], units: list[bytes]) -> bytes:
    """An IVF file: header of 32 bytes, then every frame after its size and time stamp."""
    header = struct.pack("<4sHH4sHHIIII", b"DKIF", 0, 32, fourcc, *size, 25, 1, len(units), 0)
    return header + b"".join(struct.pack("<IQ", len(unit), i) + unit for i, unit in enumerate(units))


@every
def test_foreign_paths_show_the_same_frames(codec: InterCodec, tmp_path: Path) -> None:
    """The stream as a file, demuxed by libavformat, decoded by default and by libvpx."""
    import av
    from av.codec.context import CodecContext

    payload = codec.encode(CLIP, middling(codec))
    mine = codec.decode(payload, SHAPE).frames
    size = (96, 72 if codec.library == "x265" else 64)
    stream = payload[1:]
    suffix = {"x264": ".h264", "x265": ".h265", "av1": ".ivf", "vp9": ".ivf"}[codec.library]
    if suffix == ".ivf":
        stream = ivf({"av1": b"AV01", "vp9": b"VP90"}[codec.library], size, codec.syntax.access_units(stream))
    path = tmp_path / f"clip{suffix}"
    path.write_bytes(stream)
    second = {"vp9": "libvpx-vp9"}.get(codec.library)  # the usual one is of libavcodec itself
    for decoder in (None, second):
        if decoder is None or decoder in av.codecs_available:
            with av.open(str(path)) as container:
                found: list[np.ndarray] = []
                context: Any = CodecContext.create(decoder, "r") if decoder else None
                for packet in container.demux(video=0):
                    if context is None:
                        found += [to_rgb(frame) for frame in packet.decode()]
                    elif packet.size:
                        found += [to_rgb(frame) for frame in context.decode(packet)]
                if context is not None:
                    found += [to_rgb(frame) for frame in context.decode(None)]
            theirs = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)[..., :64, :]
            assert torch.equal(theirs, mine)


@pytest.mark.parametrize("codec", [c for c in INTER_CODECS if c.speed == "live"], ids=lambda c: c.name)
def test_live_encoders_do_not_look_ahead(codec: InterCodec) -> None:
    """The access units of the first frames do not depend on later frames."""
    quality = middling(codec)
    whole = codec.packets(CLIP, quality)
    assert [number for number, _ in whole] == list(range(12))
    for count in (1, 5):
        assert codec.packets(Clip(CLIP.frames[:count], RATE), quality) == whole[:count]


def test_qualities_are_rate_factors() -> None:
    assert InterCodec("av1").quality(60.5, 2) == Quality(2, 19)
    assert InterCodec("x265").quality(51) == Quality(1, 0)
    for codec in LIBRARIES:
        assert [codec.rate_factor(q) for q in codec.qualities[:2]] == [
            codec.rate_factor(codec.qualities[0]),
            codec.rate_factor(codec.qualities[0]) - (0.5 if codec.library == "av1" else 1),
        ]
        assert codec.quality(codec.rate_factor(codec.qualities[9]), 4) == codec.qualities[9]
        with pytest.raises(InvalidOption, match="setting in 0"):
            codec.quality(71)
    strange = InterCodec("x265")
    object.__setattr__(strange, "library", "x266")  # past the checks of types during tests
    with pytest.raises(InvalidOption, match="'x266' at speed 'medium'; there are x264, x265, av1, vp9"):
        strange.__post_init__()


@every_library
def test_the_floor_is_named(codec: InterCodec) -> None:
    """The smallest payload is that of the coarsest setting of some scale, and a byte less is refused."""
    x = moving(3)
    floor = min(len(codec.encode(x, Quality(scale, 0))) for scale in (4, 2, 1))
    assert len(fit(codec, x, 8 * floor).payload) == floor
    with pytest.raises(
        BudgetTooSmall, match=f"^{codec.name} needs at least {8 * floor} bits for a clip of 3"
    ):
        fit(codec, x, 8 * floor - 1)


@every
def test_encoders_are_silent(codec: InterCodec, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is written to the streams of the process, and its environment is as before."""
    before = dict(os.environ)
    codec.decode(codec.encode(moving(2), middling(codec)), VIDEO.shape(moving(2)))
    assert capfd.readouterr() == ("", "")
    assert dict(os.environ) == before


# Colours


def test_colours_follow_bt_709() -> None:
    """Y, Cb and Cr of flat colours by the formula, rounded to the nearest level."""
    rng = np.random.default_rng(0)
    for red, green, blue in [
        *rng.integers(0, 256, (60, 3)).tolist(),
        (255, 0, 0),
        (255, 255, 255),
        (0, 0, 255),
    ]:
        pixels = np.full((16, 16, 3), (red, green, blue), np.uint8)
        planes = to_yuv(pixels).to_ndarray()
        e = (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255
        y, cb, cr = 16 + 219 * e, 128 + 224 * (blue / 255 - e) / 1.8556, 128 + 224 * (red / 255 - e) / 1.5748
        for plane, exact in ((planes[:16], y), (planes[16:20], cb), (planes[20:24], cr)):
            assert np.abs(plane.astype(float) - exact).max() <= 0.51  # coefficients of 15 bits


def test_colour_samples_lie_in_the_centre_of_four_pixels() -> None:
    """Mirrored pixels have mirrored colour differences, which samples above a pixel would not."""
    pixels = moving(1).frames[0].permute(1, 2, 0).contiguous().numpy()
    planes = [plane.reshape(32, 48) for plane in np.split(to_yuv(pixels).to_ndarray()[64:], 2)]
    for axis in (0, 1):
        turned = to_yuv(np.ascontiguousarray(np.flip(pixels, axis))).to_ndarray()[64:]
        for plane, other in zip(planes, np.split(turned, 2), strict=True):
            assert np.abs(np.flip(plane, axis).astype(int) - other.reshape(32, 48).astype(int)).max() <= 1


def test_what_420_can_carry() -> None:
    grey = Clip(CLIP.frames[:, :1].expand(-1, 3, -1, -1).contiguous(), RATE)
    assert (in_420(grey).frames.int() - grey.frames.int()).abs().max() <= 1  # 220 levels for 256
    odd = Clip(CLIP.frames[:2, :, :33, :71].contiguous(), RATE)
    assert in_420(odd).frames.shape == odd.frames.shape
    ceiling = in_420(CLIP)
    assert 33 < psnr_db(ceiling, CLIP) < 60
    for codec in LIBRARIES:
        finest = codec.decode(codec.encode(CLIP, codec.qualities[-1]), SHAPE)
        assert psnr_db(finest, ceiling) > psnr_db(finest, CLIP) + 3
        assert psnr_db(finest, CLIP) < psnr_db(ceiling, CLIP) + 0.1


# Damage


def outcome(codec: InterCodec, data: bytes, shape: Any = SHAPE) -> str:
    """Message of the error of a payload; empty for one that decodes."""
    start = time.process_time()
    try:
        assert VIDEO.shape(VIDEO.check(codec.decode(data, shape))) == shape
        return ""
    except CorruptPayload as error:
        return str(error)
    finally:
        assert time.process_time() - start < LIMIT_S


def damaged(rng: random.Random, payloads: list[bytes], trial: int) -> bytes:
    """Flipped bits, a truncated payload, two places swapped, or the beginning of one and another's end."""
    data = bytearray(rng.choice(payloads))
    if trial % 4 == 0:
        for _ in range(rng.choice((1, 1, 3, 10))):
            data[rng.randrange(len(data) if rng.random() < 0.6 else 60)] ^= 1 << rng.randrange(8)
    elif trial % 4 == 1:
        del data[rng.randrange(len(data)) :]
    elif trial % 4 == 2:
        length = rng.randrange(1, 200)
        one, two = rng.randrange(len(data)), rng.randrange(len(data))
        data[one : one + length], data[two : two + length] = (
            data[two : two + length],
            data[one : one + length],
        )
    else:
        other = rng.choice(payloads)
        data[rng.randrange(len(data)) :] = other[rng.randrange(len(other)) :]
    return bytes(data)


def check_damage(codec: InterCodec, trials: int) -> None:
    rng = random.Random(1)
    payloads = [codec.encode(CLIP, middling(codec, share)) for share in (0.1, 0.4, 0.7)]
    payloads.append(codec.encode(CLIP, middling(codec, 0.5, 2)))
    messages = [outcome(codec, damaged(rng, payloads, trial)) for trial in range(trials)]
    assert not any("\n" in message for message in messages)
    verdicts = Counter((trial % 4, bool(message)) for trial, message in enumerate(messages))
    assert verdicts[1, True] >= 0.9 * trials / 4  # truncated
    assert verdicts[0, True] > 0
    assert outcome(codec, b"")
    assert outcome(codec, bytes([1]))


@every_library
def test_damage_is_reported_or_decoded(codec: InterCodec) -> None:
    check_damage(codec, 100)


@pytest.mark.slow
@every
def test_much_damage_is_reported_or_decoded(codec: InterCodec) -> None:
    check_damage(codec, 1000)


@every_library
def test_parameter_sets_of_another_size_are_refused_before_a_frame_is_decoded(codec: InterCodec) -> None:
    """A frame of another size is reported; a huge one is refused by the decoder before it asks for memory."""
    near = codec.encode(moving(2, 80, 112), middling(codec))
    assert outcome(codec, near, replace(SHAPE, frames=2))
    flat = torch.full((1, 3, 1, 1), 90, dtype=torch.uint8).expand(1, 3, 2048, 4096).contiguous()
    huge = codec.encode(Clip(flat, RATE), codec.qualities[-30])
    message = outcome(codec, huge, replace(SHAPE, frames=1))
    assert message
    assert "another size" not in message  # which would say that it was decoded


@every_library
def test_units_from_outside_are_refused(codec: InterCodec) -> None:
    """Parameter sets behind the first frame, messages and foreign units."""
    payload = codec.encode(CLIP, middling(codec))
    if isinstance(codec.syntax, NalSyntax):
        sps = nal_units(payload[1:])[1 if codec.library == "x265" else 0]
        message = b"\x06\x01\x01" if codec.library == "x264" else b"\x4e\x01\x01\x01"
        for bad in (payload + byte_stream((sps,)), payload[:1] + byte_stream((message,)) + payload[1:]):
            assert "other units than parameter sets and slices" in outcome(codec, bad)
    elif isinstance(codec.syntax, ObuSyntax):
        header = obus(payload[1:])[0].data
        assert "not one sequence header" in outcome(codec, payload + header)
        assert "other units" in outcome(codec, payload + bytes.fromhex("2a020100"))
    else:
        assert "cut off" in outcome(codec, payload + b"\x05abc")
    for scale in (0, 3, 8, 255):
        assert f"downscaling by {scale}" in outcome(codec, bytes([scale]) + payload[1:])


@every_library
@pytest.mark.parametrize(("height", "width", "count"), [(8, 8, 2), (1, 4096, 1), (2, 4096, 2), (9, 7, 3)])
def test_extreme_sizes(codec: InterCodec, height: int, width: int, count: int) -> None:
    across = torch.linspace(60, 120, height)[:, None] + torch.linspace(0, 60, width)
    frames = torch.stack([across, across + 20, across + 40]).round().byte()
    x = Clip(frames.expand(count, 3, height, width).contiguous(), RATE)
    for scale in (4, 1):
        decoded = codec.decode(codec.encode(x, middling(codec, 0.8, scale)), VIDEO.shape(x))
        assert psnr_db(decoded, x) > (25 if scale == 1 else 15)


# Packets


@every_library
@pytest.mark.parametrize("count", [1, 2, 9])
def test_groups_are_decoded_up_to_the_lost_packet(codec: InterCodec, count: int) -> None:
    packets = GroupPackets(codec, least=6)
    room = [6000 // count] * count
    coded = packets.encode(CLIP, room)
    assert all(len(packet) <= most for packet, most in zip(coded, room, strict=True))
    whole = packets.decode(coded, SHAPE)
    assert whole is not None
    assert not any(whole.missing)
    halves = min(count, 2)
    first_of_second = -(-count // halves) if halves == 2 else count
    for lost in range(count):
        arrived = [None if i == lost else packet for i, packet in enumerate(coded)]
        part = packets.decode(arrived, SHAPE)
        if count == 1:
            assert part is None
            continue
        assert part is not None
        mine = range(6) if lost < first_of_second else range(6, 12)
        assert any(part.missing[t] for t in mine)
        assert not any(missing for t, missing in enumerate(part.missing) if t not in mine)
        for t, missing in enumerate(part.missing):
            if not missing:  # what is not missing is exact, and the rest is held
                assert torch.equal(part.x.frames[t], whole.x.frames[t])
            elif t and not all(part.missing[:t]):
                assert torch.equal(part.x.frames[t], part.x.frames[t - 1])
    assert packets.decode([None] * count, SHAPE) is None


@every_library
def test_later_packets_matter_less(codec: InterCodec) -> None:
    """All before the lost packet is shown, so that fewer frames are missing the later it comes."""
    packets = GroupPackets(codec, least=12)
    coded = packets.encode(CLIP, [400] * 16)
    lost = [packets.decode([*coded[:i], None, *coded[i + 1 :]], SHAPE) for i in range(16)]
    missing = [12 if gaps is None else sum(gaps.missing) for gaps in lost]
    assert missing == sorted(missing, reverse=True)
    assert missing[0] == 12
    assert 1 <= missing[-1] <= 6


def test_one_packet_a_group_holds_the_payload_of_the_codec() -> None:
    codec = InterCodec("av1")
    coded = GroupPackets(codec, least=4).encode(CLIP, [700, 0, 900])
    assert coded[1] == b""
    for packet, frames in ((coded[0], CLIP.frames[:4]), (coded[2], CLIP.frames[8:])):
        x = Clip(frames, RATE)
        assert packet == fit(codec, x, 8 * (700 if packet is coded[0] else 900)).payload
    gaps = GroupPackets(codec, least=4).decode(coded, SHAPE)
    assert gaps is not None
    assert gaps.missing == (False,) * 4 + (True,) * 4 + (False,) * 4
    with pytest.raises(BudgetTooSmall, match="av1 needs at least"):
        GroupPackets(codec).encode(CLIP, [3, 3])


@every_library
def test_packets_of_any_bytes_never_fail(codec: InterCodec) -> None:
    rng = random.Random(2)
    packets = GroupPackets(codec, least=4)
    coded = packets.encode(CLIP, [500] * 7)
    for trial in range(60):
        arrived: list[bytes | None] = list(coded)
        for _ in range(1 + trial % 3):
            place = rng.randrange(7)
            choice = rng.choice(
                (None, b"", rng.randbytes(90), coded[rng.randrange(7)], damaged(rng, [coded[0]], trial))
            )
            arrived[place] = choice
        gaps = packets.decode(arrived, SHAPE)
        assert gaps is None or VIDEO.shape(gaps.x) == SHAPE
        assert gaps is None or len(gaps.missing) == 12


@pytest.mark.skipif(sys.platform != "linux", reason="scheduling policies of Linux")
@pytest.mark.parametrize("library", inter.LIBRARIES)
def test_encoders_do_not_take_real_time_priority(library: str) -> None:
    """SVT-AV1 does so as root: the process would starve all others."""
    codec = InterCodec(library)
    codec.encode(Clip(torch.zeros(3, 3, 72, 72, dtype=torch.uint8), Fraction(25)), codec.qualities[-1])
    tasks = [int(task) for task in os.listdir("/proc/self/task")]
    assert {os.sched_getscheduler(task) for task in tasks} == {os.sched_getscheduler(0)} == {os.SCHED_OTHER}
