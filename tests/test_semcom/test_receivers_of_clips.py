"""The refiner on clips, what it is told of their errors, and lost frames that are interpolated."""

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from instances import CLIP_REFINER
from torch import Tensor

from channels import NamedStreams
from semcom import names
from semcom.codecs import Jpeg, StreamCodec
from semcom.codecs.av import InterCodec
from semcom.codecs.clip import FrameByFrame, shape_of, squared_error
from semcom.codecs.groups import GroupPackets
from semcom.errors import CorruptPayload, InvalidOption, UnknownName, UnsuitableEvidence
from semcom.modalities import VIDEO, Clip
from semcom.observation import Decoded, Gaps, Observation, Origin, Payload
from semcom.receivers.clips import ClipRefiner, Interpolation, inner_gaps, origin_of
from semcom.video.errors import ErrorLaw, expected_error, features_of, read_laws, shipped_laws, write_laws
from semcom.video.refinement import FrameRefiner

RNG = NamedStreams(0, ("receiver",))


@pytest.fixture(scope="module")
def clip() -> Clip:
    """A window that moves over a photograph, 8 frames of 128x96."""
    from skimage import data

    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1)
    windows = [photo[:, 40 + t : 136 + t, 160 + 2 * t : 288 + 2 * t] for t in range(8)]
    return Clip(torch.stack(windows), Fraction(25))


def observed(codec: Any, x: Clip, quality: Any) -> Observation[Clip]:
    payload = codec.encode(x, quality)
    decoded = codec.decode(payload, shape_of(x))
    return Observation(decoded, (Decoded(decoded, payload=Payload(codec, payload, codec.name)),))


# What the receiver knows of the error


@pytest.mark.parametrize("name", ["x264", "x265", "av1"])
@pytest.mark.parametrize(("rate_factor", "scale"), [(30.0, 1), (44.0, 1), (34.0, 2)])
def test_the_error_is_told_within_what_was_measured(
    clip: Clip, name: Any, rate_factor: float, scale: int
) -> None:
    codec = InterCodec(name)
    seen = observed(codec, clip, codec.quality(rate_factor, scale))
    origin = origin_of(seen)
    assert origin is not None
    assert origin.code == name
    assert origin.point[1] == math.log2(scale)
    assert seen.shown is not None
    told = expected_error(seen.shown, origin, shipped_laws())
    true = squared_error(seen.shown, clip) ** 0.5 * 2 / 255
    # four standard deviations of ln s: a test of units and of the table, a factor of 2.2
    assert abs(math.log(told / true)) < 4 * 0.2
    assert shipped_laws()[name].residual_std < 0.25


def test_a_law_is_found_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = np.array([-7.0, -0.5, 0.25, 0.75, 0.125])
    features = np.column_stack((np.ones(200), rng.standard_normal((200, 4))))
    exact = ErrorLaw.fit(features, np.exp(features @ weights))
    np.testing.assert_allclose(exact.weights, weights, atol=1e-12)
    assert exact.residual_std < 1e-12
    noisy = ErrorLaw.fit(features, np.exp(features @ weights + 0.2 * rng.standard_normal(200)))
    assert noisy.residual_std == pytest.approx(0.2, abs=4 * 0.2 / math.sqrt(2 * 200) + 0.005)
    path = tmp_path / "laws.json"
    write_laws(path, {"x265": exact}, ("a law",))
    assert read_laws(path)["x265"].weights == pytest.approx(exact.weights, rel=1e-3)
    path.write_text("{}")
    with pytest.raises(InvalidOption, match="not a file of errors of clips"):
        read_laws(path)
    with pytest.raises(InvalidOption, match=r"measure_clip_errors\.py"):
        read_laws(tmp_path / "none.json")


def test_features_are_what_they_say() -> None:
    """A ramp of 2 levels per column that becomes brighter by 5 levels per frame."""
    ramp = (2 * torch.arange(20, dtype=torch.uint8)).expand(3, 8, 20)
    x = Clip(torch.stack([ramp + 5 * t for t in range(3)]), Fraction(25))
    expected = [1.0, -3.5, 1.0, math.log(1.0 + 0.1), math.log(5.0 + 0.1)]
    np.testing.assert_allclose(features_of(x, -3.5, 2), expected, rtol=1e-6)
    alone = features_of(Clip(x.frames[:1, :, :1, :1], Fraction(25)), -3.5, 1)
    np.testing.assert_allclose(alone[3:], math.log(0.1))


def test_speeds_share_the_table_of_their_codec(clip: Clip) -> None:
    laws = shipped_laws()
    told = [expected_error(clip, Origin(f"x265{speed}", (-5.0, 0.0)), laws) for speed in ("", "-slow")]
    assert told[0] == told[1]
    with pytest.raises(UnsuitableEvidence, match=r"nobody has measured the errors of clips by vp9; .*x265"):
        expected_error(clip, Origin("vp9", (-5.0, 0.0)), laws)


def test_a_payload_tells_its_scale() -> None:
    codec = InterCodec("x264")
    assert [codec.scale(bytes([scale, 9]), (1, 3, 8, 8)) for scale in (1, 2, 4)] == [1, 2, 4]
    for payload in (b"", b"\0x", b"\3x"):
        with pytest.raises(CorruptPayload, match="no scale"):
            codec.scale(payload, (1, 3, 8, 8))


@pytest.mark.parametrize("lost", [(), (1,), (3,)])
def test_packets_tell_codec_rate_and_scale_of_what_arrived(clip: Clip, lost: tuple[int, ...]) -> None:
    codec = GroupPackets(InterCodec("x264"), 4)
    packets: list[bytes | None] = list(codec.encode(clip, [900] * 4))
    for place in lost:
        packets[place] = None
    gaps = codec.decode(packets, shape_of(clip))
    assert gaps is not None
    assert gaps.origin is not None
    arrived = 8 - sum(gaps.missing)
    groups = [
        packets[:2] if not all(gaps.missing[:4]) else (),
        packets[2:] if not all(gaps.missing[4:]) else (),
    ]
    whole = sum(len(packet or b"") for group in groups for packet in group)
    assert arrived >= 4
    assert gaps.origin.code == "x264"
    assert gaps.origin.point[0] == pytest.approx(math.log2(8 * whole / (arrived * clip.frames[0].numel())))
    assert gaps.origin.point[1] in (0.0, 1.0, 2.0)


# The refiner


def test_the_network_is_told_error_and_scale(clip: Clip) -> None:
    told: list[Any] = []

    class Negative(FrameRefiner):
        def __call__(self, frames: Any, spread: float, scale: int, strength: float) -> Iterator[Tensor]:
            told.append((spread, scale, strength))
            return (255 - frame for frame in frames)

    codec = InterCodec("x264")
    seen = observed(codec, clip, codec.quality(36.0, 2))
    shown = ClipRefiner(Negative(CLIP_REFINER.refiner.network, b"toys"), 0.5)(seen, shape_of(clip), RNG)
    origin = origin_of(seen)
    assert shown is not None
    assert seen.shown is not None
    assert origin is not None
    assert torch.equal(shown.frames, 255 - seen.shown.frames)
    assert told == [(expected_error(seen.shown, origin, shipped_laws()), 2, 0.5)]


def test_a_knob_at_zero_shows_what_arrived(clip: Clip) -> None:
    codec = InterCodec("x264")
    seen = observed(codec, clip, codec.quality(36.0))
    still = ClipRefiner(CLIP_REFINER.refiner, 0.0)(seen, shape_of(clip), RNG)
    moved = CLIP_REFINER(seen, shape_of(clip), RNG)
    assert still is not None
    assert moved is not None
    assert seen.shown is not None
    assert torch.equal(still.frames, seen.shown.frames)
    assert not torch.equal(moved.frames, seen.shown.frames)


def test_clips_of_unknown_error_are_refused(clip: Clip) -> None:
    jpeg = FrameByFrame(StreamCodec(Jpeg()))
    with pytest.raises(UnsuitableEvidence, match="nobody has measured the errors of clips by jpeg"):
        CLIP_REFINER(observed(jpeg, clip, jpeg.qualities[9]), shape_of(clip), RNG)
    with pytest.raises(UnsuitableEvidence, match="hands over none"):
        CLIP_REFINER(Observation(clip, (Decoded(clip),)), shape_of(clip), RNG)
    with pytest.raises(InvalidOption, match=r"knob 1\.6 of refine"):
        ClipRefiner(CLIP_REFINER.refiner, 1.6)


# Lost frames


def test_gaps_between_frames_are_interpolated(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    def blended(first: Tensor, last: Tensor, count: int) -> list[Tensor]:
        weights = [step / (count + 1) for step in range(1, count + 1)]
        return [((1 - w) * first + w * last).round().to(torch.uint8) for w in weights]

    monkeypatch.setattr("semcom.receivers.clips.between", blended)
    missing = (True, False, True, True, False, False, True, True)
    held = clip.frames[[1, 1, 1, 1, 4, 5, 5, 5]]
    seen = Observation(Clip(held, clip.frame_rate), (Gaps(Clip(held, clip.frame_rate), missing),))
    shown = Interpolation()(seen, shape_of(clip), RNG)
    assert shown is not None
    assert list(inner_gaps(missing)) == [range(2, 4)]
    for t in (0, 1, 4, 5, 6, 7):
        assert torch.equal(shown.frames[t], held[t])
    assert torch.equal(shown.frames[2:4], torch.stack(blended(clip.frames[1], clip.frames[4], 2)))
    assert torch.equal(held[2], clip.frames[1])  # the observation stays


def test_lost_frames_of_a_moving_picture_come_nearer_to_the_truth(clip: Clip) -> None:
    pytest.importorskip("cv2")
    missing = (False, True, True, False, False, True, False, False)
    held = clip.frames[[0, 0, 0, 3, 4, 4, 6, 7]]
    seen = Observation(Clip(held, clip.frame_rate), (Gaps(Clip(held, clip.frame_rate), missing),))
    shown = Interpolation()(seen, shape_of(clip), RNG)
    assert shown is not None
    assert squared_error(shown, clip) < 0.5 * squared_error(Clip(held, clip.frame_rate), clip)


# Names


def test_names_make_receivers_of_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semcom.names.receivers.flow_is_there", lambda: True)
    refined = names.scheme("x265+ldpc+refine:0.5", VIDEO)
    assert refined.name == "x265+ldpc:csit-average+refine:0.5"
    assert isinstance(refined.receiver, ClipRefiner)
    assert refined.receiver.knob == 0.5
    assert names.scheme("av1-slow+ldpc+refine", VIDEO).name == "av1-slow+ldpc:csit-average+refine"
    filled = names.scheme("x265+packets:512+interpolate", VIDEO)
    assert filled.name == "x265+packets:512:csit-average+interpolate"
    assert filled.receiver == Interpolation()
    assert names.with_receiver("x265+packets:512", "interpolate") == "x265+packets:512+interpolate"


@pytest.mark.parametrize(
    ("name", "modality", "error", "reason"),
    [
        ("x265+ldpc+refine:1:cells", "video", InvalidOption, r"for clips it is spelled refine\[:knob\]"),
        ("x265+ldpc+refine:2", "video", InvalidOption, "knob 2 of refine"),
        ("x265+ldpc+ddrm:8", "video", InvalidOption, "refines image items only; clips take refine"),
        ("x265+ldpc+interpolate:2", "video", InvalidOption, "takes no parameters"),
        ("x265+packets:512+interpolate@prior", "video", UnknownName, "interpolate"),
        ("avif+ldpc+interpolate", "image", InvalidOption, "lost frames of clips"),
        (
            "zlib+ldpc+refine",
            "text",
            InvalidOption,
            "refines image items only; texts take restore",
        ),
        ("deepsc", "image", UnknownName, "sends text items, not image; for those there is for instance avif"),
        ("lm-prior:smollm2", "video", UnknownName, "sends text items, not video"),
        ("softcast-2d", "image", UnknownName, "sends video items, not image"),
        ("latent:kalman", "image", UnknownName, "sends video items, not image"),
        ("latent:kalman", "text", UnknownName, "sends video items, not text"),
        ("envelope", "video", UnknownName, "sends image items, not video; for those there are softcast"),
    ],
)
def test_names_that_do_not_fit_are_refused(
    name: str, modality: str, error: type[Exception], reason: str
) -> None:
    from semcom.modalities import IMAGE, TEXT

    of = {"image": IMAGE, "video": VIDEO, "text": TEXT}[modality]
    with pytest.raises(error, match=reason):
        names.scheme(name, of)


def test_without_opencv_the_name_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semcom.names.receivers.flow_is_there", lambda: False)
    with pytest.raises(InvalidOption, match="needs OpenCV"):
        names.scheme("x265+packets:512+interpolate", VIDEO)
    with pytest.raises(InvalidOption, match="takes no options"):
        names.with_receiver("x265+packets:512", "interpolate", knob=0.5)
