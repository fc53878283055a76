"""Clips by key frames and prediction: the receiver shows what the transmitter judged, or says where not."""

import json
import math
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from semcom import names, zoo
from semcom.codecs import HevcIntra, Jpeg, StreamCodec, fit
from semcom.errors import BudgetTooSmall, CorruptPayload, InvalidOption, SemcomError, UnknownName
from semcom.modalities.video import VIDEO, Clip
from semcom.video.gate import FeatureGate, Gate, LpipsGate
from semcom.video.motion import block_motion
from semcom.video.network import (
    FramePredictor,
    difference,
    known_slots,
    moved,
    nearest,
    noise_of,
    predict_frame,
    schedule,
)
from semcom.video.predictive import RHOS, PredictiveCodec, Step, _schedule, _schedule_number
from semcom.video.predictors import (
    BlockMotion,
    Diffusion,
    HoldLast,
    Linear,
    MeanNetwork,
    Predictor,
    concealed,
)
from tests.moving_clips import network, textured

RATE = Fraction(25)
JPEG = StreamCodec(Jpeg())
FINE = JPEG.qualities[-1]


def panning(frames: int, size: int = 32, step: int = 1) -> Clip:
    """A picture that moves to the left by a whole number of pixels per frame."""
    whole = textured(size, size + step * frames)
    return Clip(torch.stack([whole[:, :, step * t : step * t + size] for t in range(frames)]), RATE)


class PixelGate:
    """Mean absolute difference over 255: a distance with a closed form."""

    name = "mae"

    def distances(self, x_hat: Tensor, x: Tensor) -> list[float]:
        return ((x_hat.int() - x.int()).abs().double().mean((1, 2, 3)) / 255).tolist()


PREDICTORS: tuple[Predictor, ...] = (
    HoldLast(),
    Linear(),
    BlockMotion(),
    MeanNetwork(network()),
    Diffusion(network(), 2),
)
every_predictor = pytest.mark.parametrize("predictor", PREDICTORS, ids=lambda p: p.name)


# Predictors


@every_predictor
@pytest.mark.parametrize("count", [1, 3])
def test_predictors_keep_their_contract(predictor: Predictor, count: int) -> None:
    assert isinstance(predictor, Predictor)
    past = panning(predictor.frames_needed, 24).frames
    for k in range(1, predictor.frames_needed + 1):
        frames = predictor.predict(past[-k:], count, (0, 5, 0))
        assert frames.shape == (count, 3, 24, 24)
        assert frames.dtype == torch.uint8
        assert torch.equal(frames, predictor.predict(past[-k:], count, (0, 5, 0)))
    other = predictor.predict(past, count, (0, 5, 1))
    assert torch.equal(frames, other) != predictor.is_random
    assert len(predictor.digest) in (0, 4)


def test_a_straight_line_of_levels_is_continued() -> None:
    past = torch.tensor([10, 14], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 8, 8)
    assert Linear().predict(past, 3, ())[:, 0, 0, 0].tolist() == [18, 22, 26]
    assert Linear().predict(past.flip(0), 4, ())[:, 0, 0, 0].tolist() == [6, 2, 0, 0]


@pytest.mark.parametrize("motion", [(0, 0), (2, -3), (-7, 7), (0, 5)])
def test_block_motion_finds_a_translation(motion: tuple[int, int]) -> None:
    whole = textured(96, 96)
    first, second, third = (
        whole[:, 24 - k * motion[0] :, 24 - k * motion[1] :][:, :48, :48] for k in range(3)
    )
    inner = block_motion(first[None], second[None])[0, :, 1:-1, 1:-1]
    assert (inner == torch.tensor(motion)[:, None, None]).all()
    shown = BlockMotion().predict(torch.stack([first, second]), 1, ())[0]
    assert torch.equal(shown[:, 16:-16, 16:-16], third[:, 16:-16, 16:-16])


def test_an_untrained_network_holds_and_its_residual_has_the_stated_scale() -> None:
    plain = FramePredictor((8, 12, 16))  # last layers are zero
    past = panning(2, 40).frames
    still = past[-1:].expand(2, -1, -1, -1)
    assert torch.equal(MeanNetwork(plain).predict(still, 2, ()), still)
    exact = plain.in_fixed_point()
    frames = torch.zeros(1, 12, 64, 64, dtype=torch.float64)
    known, none = torch.ones(1, 4, 64, 64, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    # of one step from t = 1: alpha = 0, so that R = -v = 0; of two, R = alpha state at t = 1/2, 1/2 of noise
    noise = noise_of((1,), (1, 3, 64, 64))
    assert float(exact.draw(frames, known, none, noise, 1).abs().max()) == 0
    drawn = exact.draw(frames, known, none, noise, 2)
    expected = float(exact.scale[0]) * 0.5 * noise  # equal frames: no difference
    assert (drawn - expected).abs().max() < 4 * 2**-12


def test_the_schedule_keeps_the_variance() -> None:
    alpha, sigma = schedule(torch.linspace(0, 1, 11, dtype=torch.float64))
    assert ((alpha**2 + sigma**2) - 1).abs().max() <= 2 * 2**-12
    assert (float(alpha[0]), float(sigma[0]), float(alpha[-1]), float(sigma[-1])) == (1, 0, 0, 1)


def test_what_is_nearest() -> None:
    frames = torch.tensor([1.0, 2.0, 4.0, 8.0]).repeat_interleave(3)[None, :, None, None]
    for known, expected in (
        ((1, 1, 1, 1), 3.0),
        ((1, 1, 0, 0), 2.0),
        ((1, 0, 0, 1), 4.5),
        ((1, 0, 0, 0), 1.0),
        ((0, 0, 1, 0), 4.0),
        ((0, 0, 0, 0), 0.0),
    ):
        planes = known_slots(torch.tensor([known]).bool(), (1, 1))
        assert float(nearest(frames * planes.repeat_interleave(3, 1), planes)[0, 0]) == expected


@pytest.mark.parametrize("motion", [(0, 0), (2, -3), (-5, 4)])
@pytest.mark.parametrize("known", [(1, 1, 0, 0), (0, 1, 1, 0), (0, 0, 1, 1), (1, 1, 1, 1)])
def test_blocks_move_to_the_time_of_the_missing_frame(
    motion: tuple[int, int], known: tuple[int, ...]
) -> None:
    whole = textured(112, 112)
    views = [whole[:, 32 - k * motion[0] :, 32 - k * motion[1] :][:, :48, :48] for k in (-2, -1, 0, 1, 2)]
    truth = views.pop(2).double() / 127.5 - 1
    planes = known_slots(torch.tensor([known]).bool(), (48, 48)).double()
    frames = (torch.cat(views).double() / 127.5 - 1)[None] * planes.repeat_interleave(3, 1)
    error = (moved(frames, planes)[0] - truth)[:, 16:-16, 16:-16].abs().max()
    assert error < 2**-11  # the grid of what is exact
    if motion != (0, 0):
        assert (nearest(frames, planes)[0] - truth)[:, 16:-16, 16:-16].abs().max() > 0.1


def test_with_one_frame_nothing_moves() -> None:
    planes = known_slots(torch.tensor([[False, True, False, False]]), (16, 16)).double()
    frames = torch.randn(1, 12, 16, 16, dtype=torch.float64) * planes.repeat_interleave(3, 1)
    assert torch.equal(moved(frames, planes), nearest(frames, planes))


def test_noise_is_normal_smooth_and_named() -> None:
    noise = noise_of((3, 4), (3, 256, 256))
    assert torch.equal(noise, noise_of((3, 4), (3, 256, 256)))
    assert not torch.equal(noise, noise_of((3, 5), (3, 256, 256)))
    # correlation of binomial smoothing at a distance of k pixels: comb(16, 8 + k) / comb(16, 8)
    law = [math.comb(16, 8 + k) / math.comb(16, 8) for k in range(9)]
    independent = noise.numel() / (1 + 2 * sum(r * r for r in law[1:])) ** 2
    for k in (0, 1, 3, 8):
        for axis in (1, 2):
            assert abs(float((noise * noise.roll(k, axis)).mean()) - law[k]) < 5 * math.sqrt(2 / independent)
    assert abs(float(noise.mean())) < 5 * (1 + 2 * sum(law[1:])) / math.sqrt(noise.numel())


def test_the_difference_is_that_of_the_nearest_known_frames() -> None:
    levels = (
        torch.tensor([0.0, 0.25, 0.75, 0.25]).repeat_interleave(3)[None, :, None, None].expand(1, 12, 12, 12)
    )
    for known, expected in (
        ((1, 1, 1, 1), 0.25),
        ((0, 1, 1, 0), 0.5),
        ((0, 0, 1, 1), 0.5),
        ((1, 0, 0, 1), 0.1),
        ((0, 1, 0, 0), 0.1),
    ):
        planes = known_slots(torch.tensor([known]).bool(), (12, 12))
        found = difference(levels * planes.repeat_interleave(3, 1), planes)
        assert (found - expected).abs().max() < 1e-6


def test_gaps_are_filled_from_both_sides() -> None:
    clip = Clip(torch.stack([textured(24, 24)] * 4 + [textured(24, 24, 1)] * 3), RATE)
    frames: list[Tensor | None] = list(clip.frames)
    for t in (0, 3, 4):
        frames[t] = None
    shown = concealed(FramePredictor((8, 12, 16)), frames)
    assert len(shown) == 7
    kept = [1, 2, 5, 6]
    assert all(torch.equal(shown[t], clip.frames[t]) for t in kept)
    assert torch.equal(shown[0], clip.frames[1])  # the untrained network holds what is nearest
    assert torch.equal(shown[3], clip.frames[2]) or torch.equal(shown[4], clip.frames[5])
    with pytest.raises(InvalidOption, match="all 2 frames are lost"):
        concealed(network(), [None, None])


def test_networks_are_exact() -> None:
    """All values lie on the grid of 2^-12, so that sums are exact in any order; float32 agrees nearly."""
    plain = network()
    exact = plain.in_fixed_point()
    frames, known = torch.rand(1, 12, 32, 48) * 2 - 1, torch.ones(1, 4, 32, 48)
    found = exact.mean(
        (frames.double() * 4096).round() / 4096, known.double(), torch.zeros(1, dtype=torch.float64)
    )
    assert torch.equal((found * 4096).round(), found * 4096)
    assert (found - plain.mean(frames, known, torch.zeros(1))).abs().max() < 0.02


# Gate


@pytest.mark.parametrize("side", [8, 20, 64])
def test_the_substitute_gate_is_a_distance(side: int) -> None:
    gate = FeatureGate()
    assert isinstance(gate, Gate)
    assert "lpips" not in gate.name
    x = torch.stack([textured(side, side, seed) for seed in range(2)])
    near, far = (x.int() + 8).clamp(0, 255).byte(), x.flip(0)
    assert max(gate.distances(x, x)) == 0
    for a, b in zip(gate.distances(near, x), gate.distances(far, x), strict=True):
        assert 0 < a < b


@pytest.mark.shared
def test_the_lpips_gate_is_the_metric() -> None:
    from semcom.metrics.perceptual import LPIPS

    x = torch.stack([textured(40, 40, seed) for seed in range(2)])
    found = LpipsGate().distances(x, x.flip(0))
    expected = [LPIPS("squeeze")(a[None] / 255, b[None] / 255) for a, b in zip(x, x.flip(0), strict=True)]
    assert found == pytest.approx(expected, rel=1e-5)


# Codec


@every_predictor
@pytest.mark.parametrize("frames", [1, 2, 3, 9])
def test_the_receiver_shows_what_the_transmitter_judged(predictor: Predictor, frames: int) -> None:
    samples = 2 if predictor.is_random else 1
    codec = PredictiveCodec(JPEG, predictor, PixelGate(), 0.1, samples, block=3)
    clip = panning(frames, 24)
    made = codec.encoding(clip, FINE)
    found = codec.examine(made.payload, VIDEO.shape(clip))
    assert torch.equal(found.clip.frames, made.frames)
    assert not any(found.damaged)
    assert not found.notes
    assert torch.equal(codec.decode(made.payload, VIDEO.shape(clip)).frames, made.frames)
    assert codec.encode(clip, FINE) == made.payload


@every_predictor
def test_no_accepted_frame_is_further_than_the_threshold(predictor: Predictor) -> None:
    clip = panning(12, 24, 2)
    for rho in (0.02, 0.05, 0.1):
        made = PredictiveCodec(JPEG, predictor, PixelGate(), rho).encoding(clip, FINE)
        measured = PixelGate().distances(made.frames, clip.frames)
        for step in made.steps:
            for t in range(step.first, step.first + step.count):
                assert step.is_key or measured[t] <= rho
        assert made.distances == pytest.approx(measured)


def test_the_longest_run_from_the_start_is_accepted() -> None:
    """Strict prefix: frames 2 and 3 equal the last key frame, 4 does not, 5 and 6 do again."""
    still, other = textured(16, 16, 0), textured(16, 16, 1)
    clip = Clip(torch.stack([still] * 4 + [other] + [still] * 2), RATE)
    made = PredictiveCodec(JPEG, HoldLast(), PixelGate(), 0.05).encoding(clip, FINE)
    assert made.steps == (Step(0, 2, None), Step(2, 2, 0), Step(4, 2, None), Step(6, 1, 0))


@every_predictor
def test_extreme_thresholds(predictor: Predictor) -> None:
    clip = panning(13, 16, 3)
    for rho, keys in ((math.inf, 2), (0.0, 13)):
        assert PredictiveCodec(JPEG, predictor, PixelGate(), rho).encoding(clip, FINE).key_frames == keys


def test_a_larger_threshold_needs_no_more_key_frames_on_most_clips() -> None:
    kept = []
    for step in range(1, 4):
        for size in (16, 24, 32):
            clip = panning(14, size, step)
            counts = [
                PredictiveCodec(JPEG, Linear(), PixelGate(), rho).encoding(clip, FINE).key_frames
                for rho in (0.0, 0.03, 0.06, 0.1, 0.2, math.inf)
            ]
            kept.append(counts == sorted(counts, reverse=True))
    assert sum(kept) >= 0.9 * len(kept) - 1e-9


def test_a_predictor_that_knows_the_motion_needs_fewer_key_frames() -> None:
    clip = panning(12, 48, 3)
    held, moved = (
        PredictiveCodec(JPEG, predictor, PixelGate(), 0.06).encoding(clip, FINE)
        for predictor in (HoldLast(), BlockMotion())
    )
    assert moved.key_frames < held.key_frames


def test_more_samples_never_shorten_the_first_block() -> None:
    clip = panning(7, 24)
    first = [
        PredictiveCodec(JPEG, PREDICTORS[-1], PixelGate(), 0.09, samples).encoding(clip, FINE).steps[1]
        for samples in (1, 2, 8)
    ]
    counts = [0 if step.is_key else step.count for step in first]
    assert counts == sorted(counts)


def test_drift_is_bounded_by_the_gate() -> None:
    clip = panning(20, 24, 1)
    free = PredictiveCodec(JPEG, HoldLast(), PixelGate(), math.inf).encoding(clip, FINE)
    gated = PredictiveCodec(JPEG, HoldLast(), PixelGate(), 0.05).encoding(clip, FINE)
    assert max(gated.distances) <= 0.05
    assert free.distances[2] < free.distances[19]
    assert free.distances[19] > 0.05


def test_key_frames_come_at_least_every_interval() -> None:
    clip = Clip(textured(16, 16)[None].expand(20, -1, -1, -1), RATE)
    made = PredictiveCodec(JPEG, HoldLast(), PixelGate(), math.inf, interval=7).encoding(clip, FINE)
    runs, run = [], 0
    for step in made.steps:
        run = 0 if step.is_key else run + step.count
        runs.append(run)
    assert max(runs) == 7
    assert made.key_frames == 6


def test_everything_is_counted() -> None:
    """Key frames with CRC and length, header of 12 + 2 bytes, a check per block, the schedule, its CRC."""
    clip = panning(22, 16)
    made = PredictiveCodec(JPEG, HoldLast(), PixelGate(), math.inf).encoding(clip, FINE)
    keys = [len(JPEG.encode(frame[None] / 255, FINE)) for frame in clip.frames[:2]]
    schedule_bytes = math.ceil(4 * math.log2(6) / 8)
    lengths = sum(1 if key < 128 else 2 for key in keys)
    assert len(made.payload) == 14 + 1 + schedule_bytes + lengths + 4 * 2 + 2 + sum(key + 2 for key in keys)


@pytest.mark.parametrize("samples", [1, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_schedules_come_back(samples: int, count: int) -> None:
    rng = np.random.default_rng(count + samples)
    for _ in range(20):
        steps, place = [Step(0, min(2, count), None)], min(2, count)
        while place < count:
            accepted = int(rng.integers(0, min(5, count - place) + 1))
            sample = int(rng.integers(samples)) if accepted else None
            steps.append(Step(place, accepted or min(2, count - place), sample))
            place += steps[-1].count
        number = _schedule_number(steps, count, 5, samples)
        assert tuple(_schedule(number, count, 5, samples)) == tuple(steps)


def test_the_threshold_adapts_to_the_key_frames() -> None:
    clip = panning(3, 32)
    rhos = [
        PredictiveCodec(JPEG, HoldLast(), PixelGate()).encoding(clip, quality).rho
        for quality in (JPEG.qualities[-1], next(q for q in JPEG.qualities if q.scale == 1))
    ]
    assert rhos[0] < rhos[1]
    assert set(rhos) <= set(RHOS)


# Damage


def damaged_codec() -> tuple[PredictiveCodec, Clip, bytes]:
    codec = PredictiveCodec(JPEG, Linear(), PixelGate(), 0.06)
    clip = panning(16, 24, 3)
    payload = codec.encode(clip, FINE)
    assert sum(step.is_key for step in codec.encoding(clip, FINE).steps) >= 2
    return codec, clip, payload


def test_random_damage_is_named_and_never_crashes() -> None:
    codec, clip, payload = damaged_codec()
    shape = VIDEO.shape(clip)
    right = codec.decode(payload, shape).frames
    rng = np.random.default_rng(0)
    refused = shown = 0
    for trial in range(120):
        bad = bytearray(payload)
        kind = trial % 3
        place = int(rng.integers(len(payload)))
        if kind == 0:
            bad[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del bad[place:]
        else:
            other = int(rng.integers(len(payload)))
            bad[place], bad[other] = bad[other], bad[place]
        if bytes(bad) == payload:
            continue
        with pytest.raises(CorruptPayload):
            codec.decode(bytes(bad), shape)
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
    assert shown > 40


@pytest.mark.parametrize("payload", [b"", b"\0", bytes(40), b"\xff" * 200])
def test_foreign_bytes_are_refused(payload: bytes) -> None:
    codec, clip, _ = damaged_codec()
    with pytest.raises(CorruptPayload):
        codec.examine(payload, VIDEO.shape(clip))


def test_all_is_right_again_from_the_next_key_frames() -> None:
    codec, clip, payload = damaged_codec()
    made = codec.encoding(clip, FINE)
    second = [step for step in made.steps if step.is_key][1].first
    key = JPEG.encode(clip.frames[0][None] / 255, FINE)
    bad = bytearray(payload)
    bad[payload.index(key) + 50] ^= 1
    found = codec.examine(bytes(bad), VIDEO.shape(clip))
    assert found.damaged[0]
    assert not any(found.damaged[second:])
    assert torch.equal(found.clip.frames[second:], made.frames[second:])
    assert "key frame 0 is damaged" in found.notes


def test_another_network_is_said_and_frames_are_held() -> None:
    ours, theirs = (
        PredictiveCodec(JPEG, Diffusion(network(seed), 2), PixelGate(), math.inf) for seed in range(2)
    )
    clip = panning(6, 24)
    payload = theirs.encode(clip, FINE)
    found = ours.examine(payload, VIDEO.shape(clip))
    assert found.damaged == (False, False, True, True, True, True)
    assert torch.equal(found.clip.frames[5], found.clip.frames[1])
    assert len(found.notes) == 1
    assert "made with network" in found.notes[0]
    with pytest.raises(CorruptPayload, match="made with network"):
        ours.decode(payload, VIDEO.shape(clip))


def test_another_decoder_of_key_frames_is_told_by_the_checks() -> None:
    class Shifted:
        """The same still codec, one level brighter: a decoder of another version."""

        name, qualities = JPEG.name, JPEG.qualities

        def encode(self, x: Tensor, quality: object) -> bytes:
            raise AssertionError

        def decode(self, payload: bytes, shape: tuple[int, ...]) -> Tensor:
            return (JPEG.decode(payload, shape) + 1 / 255).clamp(0, 1)

    clip = panning(6, 24)
    payload = PredictiveCodec(JPEG, Linear(), PixelGate(), math.inf).encode(clip, FINE)
    found = PredictiveCodec(Shifted(), Linear(), PixelGate(), math.inf).examine(payload, VIDEO.shape(clip))
    assert found.damaged[2:] == (True,) * 4
    assert found.notes == ("block 1, frames 2 to 5, is not the transmitter's",)


# Budget, names, other processes


def test_fit_keeps_to_the_budget_and_uses_it() -> None:
    codec = PredictiveCodec(JPEG, Linear(), PixelGate())
    clip = panning(8, 32, 2)
    errors = []
    for bits in (4000, 8000, 24000):
        fitted = fit(codec, clip, bits)
        assert 8 * len(fitted.payload) <= bits
        assert torch.equal(codec.decode(fitted.payload, VIDEO.shape(clip)).frames, fitted.decoded.frames)
        errors.append(math.fsum(PixelGate().distances(fitted.decoded.frames, clip.frames)))
    assert errors == sorted(errors, reverse=True)
    with pytest.raises(BudgetTooSmall, match="needs at least"):
        fit(codec, clip, 200)


@pytest.mark.parametrize(
    "options",
    [
        {"rho": 0.055},
        {"rho": math.nan},
        {"samples": 3, "predictor": PREDICTORS[-1]},
        {"samples": 2},
        {"block": 16},
        {"interval": 0},
        {"seed": -1},
    ],
)
def test_options_out_of_range(options: dict[str, object]) -> None:
    with pytest.raises(InvalidOption):
        PredictiveCodec(**{"codec": JPEG, "predictor": HoldLast(), "gate": PixelGate(), **options})


def test_names_come_back() -> None:
    for name in (
        "predictive:jpeg:hold:auto",
        "predictive:hevc-intra:block:0.2",
        "predictive:learned:linear:inf",
    ):
        codec = names.codec(name, "video")
        assert codec.name == name
        scheme = names.scheme(f"{name}+ldpc:csit-average", VIDEO)
        assert scheme.name == f"{name}+ldpc:csit-average"
    assert names.codec("predictive:jpeg:hold", "video").name == "predictive:jpeg:hold:auto"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("predictive:tiff:hold", UnknownName),
        ("predictive:jpeg:hodl", UnknownName),
        ("predictive:jpeg:mean=gone.safetensors", UnknownName),
        ("predictive:jpeg:diffusion-0", InvalidOption),
        ("predictive:jpeg:hold:much", InvalidOption),
        ("predictive:jpeg:hold:0.2:2", InvalidOption),
        ("predictive:jpeg:hold:0.2:1:1", InvalidOption),
        ("predictive::hold", InvalidOption),
        ("predictive:jpeg:mean=prior", InvalidOption),
    ],
)
def test_names_that_are_none(name: str, error: type[SemcomError]) -> None:
    with pytest.raises(error) as caught:
        names.codec(name, "video")
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    zoo.save(network(), path)
    clip = panning(4, 24)
    for predictor in ("mean", "diffusion-2"):
        codec = names.codec(f"predictive:jpeg:{predictor}={path}:inf", "video")
        payload = codec.encode(clip, FINE)
        again = names.codec(f"predictive:jpeg:{predictor}={path}:inf", "video")
        assert torch.equal(
            again.decode(payload, VIDEO.shape(clip)).frames, codec.decode(payload, VIDEO.shape(clip)).frames
        )


DECODE = """
import json, sys, torch, zlib
from fractions import Fraction
from semcom import names
from semcom.modalities.video import ClipShape
torch.set_num_threads(int(sys.argv[3]))
codec = names.codec(sys.argv[1], "video")
shape = ClipShape(*json.loads(sys.argv[4]), Fraction(25))
found = codec.examine(open(sys.argv[2], "rb").read(), shape)
print(json.dumps([zlib.crc32(found.clip.frames.numpy().tobytes()), found.notes]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("still", ["hevc-intra", "learned"])
def test_another_process_with_other_threads_shows_the_same_frames(
    threads: int, still: str, tmp_path: Path
) -> None:
    import zlib

    weights = tmp_path / "own.safetensors"
    zoo.save(network(), weights)
    name = f"predictive:{still}:diffusion-2={weights}:inf"
    codec = names.codec(name, "video")
    clip = panning(9, 72)
    payload = codec.encode(clip, codec.qualities[-20])
    (tmp_path / "payload").write_bytes(payload)
    shown = codec.decode(payload, VIDEO.shape(clip)).frames
    out = subprocess.run(
        [sys.executable, "-c", DECODE, name, str(tmp_path / "payload"), str(threads), "[9, 72, 72]"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(out.stdout) == [zlib.crc32(shown.numpy().tobytes()), []]


def test_frames_of_any_size_are_predicted() -> None:
    exact = network().in_fixed_point()
    for height, width in ((1, 1), (3, 50), (17, 16)):
        frame = textured(height, width)
        noise = noise_of((0,), (3, height, width))
        for drawn in (None, noise):
            assert predict_frame(exact, [None, frame, None, None], drawn, 1).shape == (3, height, width)


def test_key_frames_by_other_still_codecs() -> None:
    clip = panning(5, 32)
    codec = PredictiveCodec(StreamCodec(HevcIntra()), HoldLast(), PixelGate(), 0.1)
    quality = codec.qualities[-30]
    made = codec.encoding(clip, quality)
    assert torch.equal(codec.decode(made.payload, VIDEO.shape(clip)).frames, made.frames)
