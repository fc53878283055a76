"""Clips by key frames and interpolation: what is shown is what was judged, or the damage is named."""

import math
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from semcom import names, zoo
from semcom.codecs import Jpeg, StreamCodec, fit
from semcom.codecs.codec import Quality
from semcom.errors import (
    BudgetTooSmall,
    CorruptPayload,
    InvalidOption,
    MissingWeights,
    SemcomError,
    UnknownName,
)
from semcom.modalities.video import VIDEO, Clip
from semcom.video.container import decode_file, encode_file
from semcom.video.interpolators import Fade, Interpolator, MeanBetween, SymmetricBlockMotion
from semcom.video.key_frames import Step
from semcom.video.two_sided import TwoSidedCodec
from tests.moving_clips import network, textured

RATE = Fraction(25)
JPEG = StreamCodec(Jpeg())
FINE = JPEG.qualities[-1]


def panning(frames: int, size: int = 24, step: int = 1) -> Clip:
    """A picture that moves to the left by a whole number of pixels per frame."""
    whole = textured(size, size + step * frames)
    return Clip(torch.stack([whole[:, :, step * t : step * t + size] for t in range(frames)]), RATE)


def still(frames: int, size: int = 16) -> Clip:
    """A picture that does not move."""
    return Clip(textured(size, size)[None].repeat(frames, 1, 1, 1), RATE)


class PixelGate:
    """Mean absolute difference over 255: a distance with a closed form."""

    name = "mae"

    def distances(self, x_hat: Tensor, x: Tensor) -> list[float]:
        return ((x_hat.int() - x.int()).abs().double().mean((1, 2, 3)) / 255).tolist()


INTERPOLATORS: tuple[Interpolator, ...] = (Fade(), SymmetricBlockMotion(), MeanBetween(network()))
every_interpolator = pytest.mark.parametrize("interpolator", INTERPOLATORS, ids=lambda i: i.name)


def fading(rho: float | None = math.inf, gap: int | None = 8) -> TwoSidedCodec:
    return TwoSidedCodec(JPEG, Fade(), PixelGate(), rho, gap)


# Interpolators


@every_interpolator
@pytest.mark.parametrize("count", [1, 3])
def test_interpolators_keep_their_contract(interpolator: Interpolator, count: int) -> None:
    assert isinstance(interpolator, Interpolator)
    before, after = panning(2).frames
    frames = interpolator.between(before, after, count)
    assert frames.shape == (count, 3, 24, 24)
    assert frames.dtype == torch.uint8
    assert torch.equal(frames, interpolator.between(before, after, count))
    assert len(interpolator.digest) in (0, 4)


@pytest.mark.parametrize(
    ("before", "after", "count", "expected"),
    [
        (0, 80, 7, [10, 20, 30, 40, 50, 60, 70]),
        (255, 0, 4, [204, 153, 102, 51]),
        (0, 1, 1, [1]),  # 1/2
        (0, 1, 2, [0, 1]),  # 1/3, 2/3
        (1, 0, 3, [1, 1, 0]),  # 3/4, 1/2, 1/4
        (255, 255, 2, [255, 255]),
    ],
)
def test_a_fade_is_the_weighted_mean(before: int, after: int, count: int, expected: list[int]) -> None:
    first, last = (torch.full((3, 5, 7), level, dtype=torch.uint8) for level in (before, after))
    frames = Fade().between(first, last, count)
    assert frames[:, 0, 0, 0].tolist() == expected
    assert (frames == frames[:, :1, :1, :1]).all()


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("motion", [(0, 0), (1, 1), (-2, 0)])
def test_a_translation_is_interpolated_exactly_by_blocks(motion: tuple[int, int], count: int) -> None:
    whole, n = textured(160, 160), count + 1
    views = [
        whole[:, 40 - k * motion[0] :, 40 - k * motion[1] :][:, :72, :72].contiguous() for k in range(n + 1)
    ]
    frames = SymmetricBlockMotion().between(views[0], views[-1], count)
    inner = slice(24, -24)  # blocks there, and their neighbours, have been in the frame all the time
    assert torch.equal(frames[:, :, inner, inner], torch.stack(views[1:-1])[:, :, inner, inner])
    if motion != (0, 0):
        apart = Fade().between(views[0], views[-1], count).int() - torch.stack(views[1:-1]).int()
        assert apart[:, :, inner, inner].abs().max() > 10


@every_interpolator
@pytest.mark.parametrize("size", [(1, 1), (3, 50), (17, 16)])
def test_frames_of_any_size_are_interpolated(interpolator: Interpolator, size: tuple[int, int]) -> None:
    assert interpolator.between(textured(*size), textured(*size, 1), 2).shape == (2, 3, *size)


def test_motion_differs_from_a_fade_and_the_network_from_both() -> None:
    before, after = panning(5, 48, 2).frames[[0, 4]]
    shown = [interpolator.between(before, after, 3) for interpolator in INTERPOLATORS]
    assert not torch.equal(shown[0], shown[1])
    assert not torch.equal(shown[2], shown[0])
    assert not torch.equal(shown[2], shown[1])


# Codec


@every_interpolator
@pytest.mark.parametrize("frames", [1, 2, 3, 12])
def test_the_receiver_shows_what_the_transmitter_judged(interpolator: Interpolator, frames: int) -> None:
    codec = TwoSidedCodec(JPEG, interpolator, PixelGate(), 0.08, 4)
    clip = panning(frames)
    made = codec.encoding(clip, FINE)
    found = codec.examine(made.payload, VIDEO.shape(clip))
    assert torch.equal(found.clip.frames, made.frames)
    assert not any(found.damaged)
    assert not found.notes
    assert torch.equal(codec.decode(made.payload, VIDEO.shape(clip)).frames, made.frames)
    assert codec.encode(clip, FINE) == made.payload
    assert made.distances == pytest.approx(PixelGate().distances(made.frames, clip.frames))
    assert [t for step in made.steps for t in range(step.first, step.first + step.count)] == [*range(frames)]


@every_interpolator
def test_no_interpolated_frame_is_further_than_the_threshold(interpolator: Interpolator) -> None:
    clip = panning(11, 24, 2)
    counts = []
    for rho in (0.03, 0.06, 0.12):
        made = TwoSidedCodec(JPEG, interpolator, PixelGate(), rho).encoding(clip, FINE)
        measured = PixelGate().distances(made.frames, clip.frames)
        counts.append(made.key_frames)
        for step in made.steps:
            assert step.is_key or max(measured[step.first : step.first + step.count]) <= rho
    assert 3 <= counts[2] <= counts[1] <= counts[0]
    assert interpolator.name == "mean" or counts[2] < counts[0]  # random weights predict nothing


@pytest.mark.parametrize("count", [1, 2, 3, 8, 9, 10, 17, 25])
@pytest.mark.parametrize("gap", [1, 3, 8, 64])
def test_without_a_threshold_key_frames_are_at_equal_distances(count: int, gap: int) -> None:
    clip = panning(count, 16)
    made = fading(math.inf, gap).encoding(clip, JPEG.qualities[0])
    assert made.key_frames == math.ceil((count - 1) / gap) + 1
    places = [step.first for step in made.steps if step.is_key]
    assert places == sorted({*range(0, count, gap), count - 1})


@pytest.mark.parametrize("count", [1, 2, 3, 9, 12])
def test_with_threshold_0_all_frames_are_key_frames(count: int) -> None:
    clip = still(count)
    made = fading(0.0).encoding(clip, FINE)
    assert made.key_frames == count
    assert torch.equal(fading(0.0).decode(made.payload, VIDEO.shape(clip)).frames, made.frames)


def test_a_larger_threshold_never_needs_more_key_frames() -> None:
    """Accepted gaps stay accepted: all frames are judged as they would be under the smaller threshold."""
    for step in (1, 3):
        clip = panning(14, 24, step)
        places = [
            {s.first for s in fading(rho).encoding(clip, FINE).steps if s.is_key}
            for rho in (0.0, 0.03, 0.06, 0.1, 0.15, math.inf)
        ]
        assert all(fewer <= more for more, fewer in pairwise(places))
        assert len(places[0]) == 14
        assert len(places[-1]) == 3
        assert any(3 < len(some) < 14 for some in places)


def test_a_gap_is_halved_where_the_picture_changes() -> None:
    """A cut between frames 5 and 6: 0..8 -> 4..8 -> 4..6 are halved, all others are still."""
    first, second = textured(16, 16, 0), textured(16, 16, 1)
    clip = Clip(torch.stack([first] * 6 + [second] * 11), RATE)
    made = fading(0.05).encoding(clip, FINE)
    keys = [step.first for step in made.steps if step.is_key]
    assert keys == [0, 4, 5, 6, 8, 16]
    assert made.steps[1] == Step(1, 3, 0)
    assert made.steps[-2] == Step(9, 7, 0)


def test_blocks_need_fewer_key_frames_where_they_know_the_motion() -> None:
    clip = panning(17, 64, 2)
    faded, moved = (
        TwoSidedCodec(JPEG, interpolator, PixelGate(), 0.08, 8).encoding(clip, FINE)
        for interpolator in (Fade(), SymmetricBlockMotion())
    )
    assert moved.key_frames < faded.key_frames


def test_the_threshold_adapts_to_the_key_frames() -> None:
    clip = panning(3, 32)
    coarse = next(quality for quality in JPEG.qualities if quality.scale == 1)
    rhos = []
    for quality in (FINE, coarse):
        made = fading(None).encoding(clip, quality)
        rhos.append(made.rho)
        wanted = 1.2 * (made.distances[0] + made.distances[2]) / 2  # frames 0 and 2 are the key frames
        assert max(wanted, 0.01) <= made.rho < max(wanted, 0.01) + 0.01
    assert rhos[0] < rhos[1]


@pytest.mark.parametrize(("rho", "count"), [(math.inf, 9), (math.inf, 22), (0.0, 9)])
def test_everything_is_counted(rho: float, count: int) -> None:
    """Header of 7 + 2 bytes, a bit per gap and half, lengths, a check per gap, their CRC, keys with CRC."""
    clip = still(count)
    made = fading(rho).encoding(clip, FINE)
    key = len(JPEG.encode(clip.frames[:1] / 255, FINE))
    assert key >= 128  # two bytes tell its length
    gaps = math.ceil((count - 1) / 8) if rho else 0
    flags = gaps or 7 * ((count - 1) // 8)  # a gap of 7 frames is halved 7 times
    assert len(made.payload) == 9 + math.ceil(flags / 8) + 2 * gaps + 2 + made.key_frames * (key + 4)


def test_a_network_is_named_in_4_bytes() -> None:
    clip = still(9)
    plain, named = (
        TwoSidedCodec(JPEG, interpolator, PixelGate(), math.inf).encode(clip, FINE)
        for interpolator in INTERPOLATORS[1:]
    )
    assert len(named) == len(plain) + 4


# Damage


def damaged_codec() -> tuple[TwoSidedCodec, Clip, bytes]:
    codec = fading(0.08, 4)
    clip = panning(11, 16, 2)
    made = codec.encoding(clip, FINE)
    assert 4 < made.key_frames < 11
    return codec, clip, made.payload


def test_random_damage_is_named_and_never_crashes() -> None:
    codec, clip, payload = damaged_codec()
    shape = VIDEO.shape(clip)
    right = codec.decode(payload, shape).frames
    rng = np.random.default_rng(0)
    refused = shown = 0
    for trial in range(200):
        bad = bytearray(payload)
        place, other = (int(n) for n in rng.integers(len(payload), size=2))
        if trial % 4 == 0:
            bad[place] ^= 1 << int(rng.integers(8))
        elif trial % 4 == 1:
            del bad[place:]
        elif trial % 4 == 2:
            bad[place], bad[other] = bad[other], bad[place]
        else:
            bad[min(place, other) : max(place, other)] = rng.bytes(int(rng.integers(40)))
        if bytes(bad) == payload:
            continue
        if trial < 40:
            with pytest.raises(CorruptPayload) as caught:
                codec.decode(bytes(bad), shape)
            assert "\n" not in str(caught.value)
        try:
            found = codec.examine(bytes(bad), shape)
        except CorruptPayload:
            refused += 1
            continue
        shown += 1
        assert found.notes
        assert found.clip.frames.shape == clip.frames.shape
        for t, flag in enumerate(found.damaged):
            assert flag or torch.equal(found.clip.frames[t], right[t])
    assert refused > 0
    assert shown > 80


@pytest.mark.parametrize("payload", [b"", b"\0", bytes(40), b"\xff" * 200])
def test_foreign_bytes_are_refused(payload: bytes) -> None:
    codec, clip, _ = damaged_codec()
    with pytest.raises(CorruptPayload):
        codec.examine(payload, VIDEO.shape(clip))


@pytest.mark.parametrize("lost", [0, 8, 16])
def test_a_lost_key_frame_is_interpolated_between_its_neighbours(lost: int) -> None:
    codec, clip = fading(), panning(17)
    made = codec.encoding(clip, FINE)
    bad = bytearray(made.payload)
    key = JPEG.encode(clip.frames[lost][None] / 255, FINE)
    bad[made.payload.index(key) + 50] ^= 1
    found = codec.examine(bytes(bad), VIDEO.shape(clip))
    frames = made.frames
    if lost == 8:
        assert torch.equal(found.clip.frames[1:16], Fade().between(frames[0], frames[16], 15))
    else:
        outer = slice(0, 8) if lost == 0 else slice(9, 17)
        assert (found.clip.frames[outer] == frames[8]).all()
        inner = slice(8, 17) if lost == 0 else slice(0, 9)
        assert torch.equal(found.clip.frames[inner], frames[inner])
    near = range(lost - 7, lost + 8)
    assert found.damaged == tuple(t in near for t in range(17))
    assert f"key frame {lost} is damaged" in found.notes
    with pytest.raises(CorruptPayload, match="gap of frames 1 to 7" if lost == 8 else "damaged|gap"):
        codec.decode(bytes(bad), VIDEO.shape(clip))


def test_without_any_key_frame_the_cover_is_shown() -> None:
    codec, clip = fading(), panning(9)
    payload = codec.encode(clip, FINE)
    keys = sum(len(JPEG.encode(frame[None] / 255, FINE)) + 2 for frame in clip.frames[[0, 8]])
    found = codec.examine(payload[:-keys], VIDEO.shape(clip))
    assert all(found.damaged)
    assert torch.equal(found.clip.frames, VIDEO.cover(VIDEO.shape(clip)).frames)


def test_key_frames_that_changed_places_are_damaged() -> None:
    by_size: dict[int, list[Tensor]] = {}
    for picture in (textured(16, 16, seed) for seed in range(200)):
        by_size.setdefault(len(JPEG.encode(picture[None] / 255, FINE)), []).append(picture)
    size, pictures = max(by_size.items(), key=lambda item: len(item[1]))
    clip = Clip(torch.stack(pictures[:2]), RATE)
    payload = fading().encode(clip, FINE)
    size += 2
    head, one, other = payload[: -2 * size], payload[-2 * size : -size], payload[-size:]
    found = fading().examine(head + other + one, VIDEO.shape(clip))
    assert found.damaged == (True, True)


def test_many_lost_key_frames_are_faded_over() -> None:
    """Motion is not looked for over more than 64 frames, over which the search would not end."""

    class Guarded:
        name, digest = "guarded", b""

        def between(self, before: Tensor, after: Tensor, count: int) -> Tensor:
            assert count < 64
            return Fade().between(before, after, count)

    codec = TwoSidedCodec(JPEG, Guarded(), PixelGate(), math.inf, 64)
    clip = still(129, 16)
    made = codec.encoding(clip, FINE)
    bad = bytearray(made.payload)
    size = len(JPEG.encode(clip.frames[:1] / 255, FINE)) + 2
    bad[-2 * size + 50] ^= 1
    found = codec.examine(bytes(bad), VIDEO.shape(clip))
    assert found.damaged == tuple(t == 64 for t in range(129))  # the others do not move: checks are right
    assert torch.equal(found.clip.frames, made.frames)


def test_another_network_is_said_and_frames_are_faded() -> None:
    ours, theirs = (
        TwoSidedCodec(JPEG, MeanBetween(network(seed)), PixelGate(), math.inf) for seed in range(2)
    )
    clip = panning(5)
    payload = theirs.encode(clip, FINE)
    found = ours.examine(payload, VIDEO.shape(clip))
    assert found.damaged == (False, True, True, True, False)
    shown = found.clip.frames
    assert torch.equal(shown[1:4], Fade().between(shown[0], shown[4], 3))
    assert len(found.notes) == 1
    with pytest.raises(CorruptPayload, match="made with network"):
        ours.decode(payload, VIDEO.shape(clip))


def test_payloads_of_other_codecs_are_refused() -> None:
    clip = panning(9)
    payload = fading().encode(clip, FINE)
    others = (
        TwoSidedCodec(JPEG, SymmetricBlockMotion(), PixelGate(), math.inf),
        names.codec("two-sided:webp:fade:inf:8", "video"),
        names.codec("predictive:jpeg:hold:inf", "video"),
    )
    for other in others:
        with pytest.raises(CorruptPayload, match="no valid header"):
            other.decode(payload, VIDEO.shape(clip))
    with pytest.raises(CorruptPayload, match="is of 9 frames, expected 10"):
        fading().decode(payload, VIDEO.shape(panning(10)))


def test_another_decoder_of_key_frames_is_told_by_the_checks() -> None:
    class Shifted:
        """The same still codec, one level brighter: a decoder of another version."""

        name, qualities = JPEG.name, JPEG.qualities

        def encode(self, x: Tensor, quality: Quality) -> bytes:
            raise AssertionError

        def decode(self, payload: bytes, shape: tuple[int, ...]) -> Tensor:
            return (JPEG.decode(payload, shape) + 1 / 255).clamp(0, 1)

    clip = panning(6)
    found = TwoSidedCodec(Shifted(), Fade(), PixelGate(), math.inf).examine(
        fading().encode(clip, FINE), VIDEO.shape(clip)
    )
    assert found.damaged == (False, True, True, True, True, False)
    assert found.notes == ("gap of frames 1 to 4 is not the transmitter's",)


# Budget, names, files


@pytest.mark.parametrize(("rho", "gap"), [(None, None), (0.08, None), (math.inf, 4)])
def test_fit_keeps_to_the_budget_and_uses_it(rho: float | None, gap: int | None) -> None:
    codec = fading(rho, gap)
    clip = panning(8, 32, 2)
    errors = []
    for bits in (4000, 9000, 24000):
        fitted = fit(codec, clip, bits)
        assert 8 * len(fitted.payload) <= bits
        assert torch.equal(codec.decode(fitted.payload, VIDEO.shape(clip)).frames, fitted.decoded.frames)
        errors.append(math.fsum(PixelGate().distances(fitted.decoded.frames, clip.frames)))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > errors[-1]
    with pytest.raises(BudgetTooSmall, match="needs at least"):
        fit(codec, clip, 200)


def test_fit_chooses_the_gap_by_the_clip() -> None:
    """A still picture is best sent twice; one that jumps, at many bits, frame by frame."""
    calm, wild = still(9), Clip(torch.stack([textured(16, 16, seed) for seed in range(9)]), RATE)
    bits = 9 * 8 * len(JPEG.encode(wild.frames[:1] / 255, JPEG.qualities[-40]))
    gaps = [fit(fading(None, None), clip, bits).payload[3] for clip in (calm, wild)]
    assert gaps[0] > gaps[1]


def test_a_clip_of_one_frame_is_fitted() -> None:
    clip = panning(1)
    assert 8 * len(fit(fading(None, None), clip, 6000).payload) <= 6000


@pytest.mark.parametrize(
    "options", [{"rho": 0.055}, {"rho": -0.1}, {"rho": math.nan}, {"gap": 0}, {"gap": -1}, {"gap": 65}]
)
def test_options_out_of_range(options: dict[str, object]) -> None:
    with pytest.raises(InvalidOption):
        TwoSidedCodec(**{"codec": JPEG, "interpolator": Fade(), "gate": PixelGate(), **options})


def test_qualities_that_are_none() -> None:
    with pytest.raises(InvalidOption, match="not one of the qualities of jpeg"):
        fading().encode(panning(2), Quality(3, 3))


def test_names_come_back() -> None:
    for name in (
        "two-sided:jpeg:fade:auto",
        "two-sided:hevc-intra:block:0.2:4",
        "two-sided:learned:block:inf:64",
    ):
        assert names.codec(name, "video").name == name
        scheme = names.scheme(f"{name}+ldpc:csit-average", VIDEO)
        assert scheme.name == f"{name}+ldpc:csit-average"
    assert names.codec("two-sided", "video").name == "two-sided:learned:block:auto"
    assert names.codec("two-sided:jpeg:fade:inf:auto", "video").name == "two-sided:jpeg:fade:inf"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("two-sided:tiff:fade", UnknownName),
        ("two-sided:jpeg:hold", UnknownName),
        ("two-sided:jpeg:mean=gone.safetensors", UnknownName),
        ("two-sided:jpeg:mean=prior", InvalidOption),
        ("two-sided:jpeg:fade:much", InvalidOption),
        ("two-sided:jpeg:fade:0.2:many", InvalidOption),
        ("two-sided:jpeg:fade:0.2:0", InvalidOption),
        ("two-sided:jpeg:fade:0.2:8:1", InvalidOption),
        ("two-sided::fade", InvalidOption),
    ],
)
def test_names_that_are_none(name: str, error: type[SemcomError]) -> None:
    with pytest.raises(error) as caught:
        names.codec(name, "video")
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    zoo.save(network(), path)
    clip = panning(5)
    name = f"two-sided:jpeg:mean={path}:inf"
    payload = names.codec(name, "video").encode(clip, FINE)
    expected = TwoSidedCodec(JPEG, MeanBetween(network()), PixelGate(), math.inf).encoding(clip, FINE)
    assert payload == expected.payload
    shown = names.codec(name, "video").decode(payload, VIDEO.shape(clip))
    assert torch.equal(shown.frames, expected.frames)


def test_the_network_of_the_package_is_asked_for() -> None:
    if "predictor" in zoo.names():
        assert names.codec("two-sided:jpeg:mean", "video").name == "two-sided:jpeg:mean:auto"
    else:
        with pytest.raises(MissingWeights, match="semcom train prediction"):
            names.codec("two-sided:jpeg:mean", "video")


def test_files_of_coded_video(tmp_path: Path) -> None:
    clip, codec = panning(12, 32, 2), fading(None, None)
    source, coded, decoded = (tmp_path / name for name in ("clip.mkv", "clip.scv", "shown.mkv"))
    VIDEO.write(clip, source)

    def encode(x: Clip, bits: int) -> bytes:
        return fit(codec, x, bits).payload

    written = encode_file(source, coded, "two-sided", encode, 4.0, lambda done, whole: None)
    assert written.size == coded.stat().st_size
    assert written.bpp <= 4.0
    read = decode_file(coded, decoded, lambda name: codec, lambda done, whole: None)
    assert not read.damaged
    shown = VIDEO.read(decoded).x.frames
    assert shown.shape == clip.frames.shape
    assert math.fsum(PixelGate().distances(shown, clip.frames)) < 12 * 0.1
