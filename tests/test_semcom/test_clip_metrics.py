"""Metrics of whole clips in closed form: warp error, clip features, VMAF and ColorVideoVDP."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from semcom.errors import InvalidSource, MissingWeights
from semcom.metrics import (
    VMAF,
    ClipFeatureDistance,
    ClipVMAF,
    ColorVideoVDP,
    WarpError,
    WarpErrorGap,
    vmaf,
    warp_errors,
)
from semcom.metrics.perceptual import lpips_network
from semcom.modalities.video import Clip, ClipShape

RATE = Fraction(25)
HEIGHT, WIDTH = 96, 128


def clip(frames: np.ndarray) -> Clip:
    """Frames [frames, height, width, 3] in levels, rounded."""
    levels = torch.from_numpy(np.round(frames).clip(0, 255).astype(np.uint8))
    return Clip(levels.movedim(3, 1).contiguous(), RATE)


def texture(std: float = 40.0) -> np.ndarray:
    """Grain of about 5 pixels around a level of 128, larger than a frame; clipped at 40 and 215."""
    field = gaussian_filter(np.random.default_rng(0).normal(0, 1, (160, 224, 3)), (2, 2, 0))
    return (128 + std * field / field.std()).clip(40, 215)


def moving(step: tuple[int, int], frames: int = 5) -> np.ndarray:
    """A window that moves over the texture by whole pixels."""
    down, right = step
    return np.stack([texture()[16 + down * t :, 16 + right * t :][:HEIGHT, :WIDTH] for t in range(frames)])


# Warp error


@pytest.fixture
def opencv():
    return pytest.importorskip("cv2", reason="opencv-python-headless is not installed")


def test_a_still_clip_has_no_warp_error(opencv) -> None:
    """Up to the rounding of sampling places: 1e-5 pixels, at slopes of tens of levels per pixel."""
    x = clip(moving((0, 0)))
    assert warp_errors(x, x) == pytest.approx((0, 0), abs=1e-3)


@pytest.mark.parametrize("step", [(0, 2), (1, -3), (-2, 0)])
def test_motion_is_followed(opencv, step) -> None:
    """Without warping the residual is that of two nearly independent places of the texture."""
    frames = moving(step)
    unwarped = math.sqrt(np.mean((frames[1:] - frames[:-1]) ** 2))
    x = clip(frames)
    error = WarpError()(x, x)
    assert unwarped > 20
    assert error < unwarped / 20


@pytest.mark.parametrize("sigma", [3.0, 8.0])
@pytest.mark.parametrize("step", [(0, 0), (1, -3)])
def test_independent_noise_has_its_deviation_times_root_two(opencv, sigma, step) -> None:
    """Motion by whole pixels; rounding to levels adds a variance of 1/12 to each frame.

    Of n values in 4 pairs the relative standard error of a deviation is 1 / sqrt(2 n), twice that as
    neighbouring pairs share a frame. Where flow is off by 0.1 pixel, interpolation takes up to a tenth of the
    variance of one of two frames from the noise, and adds the residual of the texture.
    """
    frames = moving(step)
    noisy = frames + np.random.default_rng(1).normal(0, sigma, frames.shape)
    x = clip(frames)
    received, original = warp_errors(clip(noisy), x)
    expected = math.sqrt(2 * (sigma**2 + 1 / 12))
    exact = 5 * 2 / math.sqrt(2 * 4 * 3 * HEIGHT * WIDTH * 0.8)
    slack = 0 if step == (0, 0) else 0.05
    # the still original is rounded, too, but alike in all frames
    assert received == pytest.approx(expected, rel=exact + slack + (original / expected) ** 2)
    assert WarpErrorGap()(clip(noisy), x) == pytest.approx(received - original)
    assert WarpErrorGap()(x, x) == 0


def test_blur_lowers_the_warp_error_and_widens_the_gap(opencv) -> None:
    """The reason for the gap: an original with grain, and a smooth clip without."""
    still = moving((0, 0))
    grainy = clip(still + np.random.default_rng(2).normal(0, 6, still.shape))
    smooth = clip(np.stack([gaussian_filter(frame, (2, 2, 0)) for frame in still]))
    assert WarpError()(smooth, grainy) < 0.5 * WarpError()(grainy, grainy)
    assert WarpErrorGap()(grainy, grainy) == 0
    assert WarpErrorGap()(smooth, grainy) == pytest.approx(
        WarpError()(grainy, grainy) - WarpError()(smooth, grainy)
    )


def test_flicker_of_the_whole_frame_is_its_step(opencv) -> None:
    """The received clip is lighter by 12 levels in every second frame; the flow is that of the original."""
    frames = moving((0, 0))
    frames_hat = frames.copy()
    frames_hat[1::2] += 12
    assert WarpError()(clip(frames_hat), clip(frames)) == pytest.approx(12, abs=1e-3)


def test_what_cannot_be_followed_is_left_out(opencv) -> None:
    """A cut between two plain frames and a texture of another kind leaves the other pairs."""
    one, two = moving((0, 0), 3), 255 - moving((0, 0), 3)[:, ::-1, ::-1]
    x = clip(np.concatenate([one, two]))
    whole = WarpError()(x, x)
    unwarped = math.sqrt(np.mean((one[0] - two[0]) ** 2))
    assert whole < unwarped / 4  # one pair of five, of which hardly a pixel is followed


def test_clips_of_one_frame_and_small_ones_have_no_warp_error(opencv) -> None:
    x = clip(moving((0, 0), 1))
    assert not WarpError().fits(ClipShape(1, HEIGHT, WIDTH, RATE))
    assert not WarpErrorGap().fits(ClipShape(2, 15, WIDTH, RATE))
    assert WarpErrorGap().fits(ClipShape(2, 16, 16, RATE))
    with pytest.raises(InvalidSource, match="warp_error of a clip of 1 frames: needs at least 2"):
        WarpError()(x, x)
    small = Clip(torch.zeros(2, 3, 15, 40, dtype=torch.uint8), RATE)
    with pytest.raises(InvalidSource, match="frames of 40x15: needs sides of at least 16"):
        WarpErrorGap()(small, small)
    for height, width in ((16, 16), (16, 300), (300, 17), (33, 35)):
        noise = torch.randint(
            0, 256, (2, 3, height, width), generator=torch.Generator().manual_seed(0)
        ).byte()
        assert math.isfinite(WarpError()(Clip(noise, RATE), Clip(noise, RATE)))


# Features of clips


@pytest.fixture
def features() -> ClipFeatureDistance:
    metric = ClipFeatureDistance()
    try:
        metric.require()
    except MissingWeights as error:
        pytest.skip(str(error))
    return metric


def test_clip_features_are_the_stated_statistics(features) -> None:
    """Written out with NumPy over all features of all frames at once."""
    x = clip(moving((1, 2), 4))
    x_hat = clip(moving((0, 0), 4) + np.random.default_rng(0).normal(0, 10, (4, HEIGHT, WIDTH, 3)))
    network = lpips_network("squeeze", torch.device("cpu"))

    def vectors(c: Clip) -> list[np.ndarray]:
        found = []
        for f in network.units(c.frames.float() / 255 * 2 - 1):
            f = f.double().numpy()
            per_frame = f.mean((2, 3)), f.std((2, 3))
            changes = [3 * np.abs(np.diff(each, axis=0)).mean(0) for each in per_frame]
            found.append(np.concatenate([f.mean((0, 2, 3)), f.std((0, 2, 3)), *changes]))
        return found

    gaps = [((a - b) ** 2).sum() for a, b in zip(vectors(x_hat), vectors(x), strict=True)]
    assert len(gaps) == 7
    assert features(x_hat, x) == pytest.approx(1000 * np.mean(gaps), rel=1e-3)


def test_clip_features_see_change_and_not_the_direction_of_time(features) -> None:
    """Backwards all statistics are the same; in another order those of change are larger."""
    frames = moving((2, 4), 6)
    x = clip(frames)
    assert features(clip(frames[::-1]), x) == pytest.approx(0, abs=1e-6)
    assert features(clip(frames[[0, 5, 1, 4, 2, 3]]), x) > 1e-3
    assert features(clip(frames[[0] * 6]), x) > 1e-3
    alone = clip(frames[:1])
    assert features(alone, alone) == 0


# VMAF


@pytest.fixture
def vmaf_torch():
    return pytest.importorskip("vmaf_torch", reason="vmaf-torch is not installed")


def test_luma_is_that_of_the_codecs() -> None:
    """Colour bars in 8 bits, limited range: ITU-R BT.709-6, computed with integers."""
    bars = [
        (255, 255, 255),
        (255, 255, 0),
        (0, 255, 255),
        (0, 255, 0),
        (255, 0, 255),
        (255, 0, 0),
        (0, 0, 255),
    ]
    x = torch.tensor(bars).float().T.reshape(1, 3, 1, 7) / 255
    exact = [Fraction(16) + 219 * Fraction(2126 * r + 7152 * g + 722 * b, 255 * 10_000) for r, g, b in bars]
    assert vmaf.luma(x).flatten().tolist() == [math.floor(value + Fraction(1, 2)) for value in exact]


def test_luma_is_that_of_libswscale() -> None:
    av = pytest.importorskip("av")
    levels = torch.randint(0, 256, (48, 64, 3), generator=torch.Generator().manual_seed(0)).byte()
    frame = av.VideoFrame.from_ndarray(levels.numpy(), format="rgb24")
    exactly = 4 | 0x2000 | 0x4000 | 0x40000 | 0x80000
    options = {"src_color_range": 2, "dst_color_range": 1, "dst_colorspace": 1, "interpolation": exactly}
    theirs = torch.from_numpy(frame.reformat(format="yuv444p", **options).to_ndarray()[0].copy())
    ours = vmaf.luma(levels.movedim(2, 0)[None].float() / 255)[0, 0]
    assert (ours - theirs).abs().max() <= 1  # one on each side of half a level
    assert (ours == theirs).float().mean() > 0.95


def test_a_picture_is_a_clip_of_one_frame(vmaf_torch) -> None:
    frames = moving((1, 2), 1)
    x, x_hat = clip(frames), clip(frames + np.random.default_rng(0).normal(0, 12, frames.shape))
    for neg in (False, True):
        alone = VMAF(neg)(x_hat.frames.float() / 255, x.frames.float() / 255)
        assert ClipVMAF(neg)(x_hat, x) == pytest.approx(alone, abs=1e-4)


def test_equal_still_frames_have_the_value_of_the_model(vmaf_torch) -> None:
    """The support vector regression at ADM 1, motion 0, VIF 1: 97.428 in libvmaf's reports, too."""
    x = clip(moving((0, 0), 3))
    for neg in (False, True):
        assert ClipVMAF(neg).per_frame(x, x) == pytest.approx([97.428] * 3, abs=2e-3)


def test_long_clips_are_measured_in_parts_with_the_same_result(vmaf_torch, monkeypatch) -> None:
    """And both as vmaf-torch measures all frames at once."""
    frames = moving((1, 2), 7)
    x, x_hat = clip(frames), clip(frames + np.random.default_rng(0).normal(0, 12, frames.shape))
    for neg in (False, True):
        model = vmaf_torch.VMAF(NEG=neg, clip_score=True)
        theirs = model(*(vmaf.luma(c.frames.float() / 255) for c in (x, x_hat))).flatten().tolist()
        for at_once in (1, 2, 3, 100):
            monkeypatch.setattr(vmaf, "PIXELS_AT_ONCE", at_once * HEIGHT * WIDTH)
            assert ClipVMAF(neg).per_frame(x_hat, x) == pytest.approx(theirs, abs=1e-3)


def test_enhancement_gains_nothing_in_vmaf_neg(vmaf_torch) -> None:
    """Contrast of 1.2: VMAF rises from 97.4, the value of the original itself, to its cap of 100."""
    frames = 128 + 0.3 * (moving((0, 0), 2) - 128)
    x, x_hat = clip(frames), clip(128 + 1.2 * (frames - 128))
    gain = [ClipVMAF(neg)(x_hat, x) - ClipVMAF(neg)(x, x) for neg in (False, True)]
    assert gain[0] > 2
    assert gain[1] < -2


# ColorVideoVDP


def test_flicker_costs_more_than_a_lasting_change() -> None:
    """Twelve levels lighter all the time, or in every second frame and darker in the others."""
    pytest.importorskip("pycvvdp", reason="cvvdp is not installed")
    frames = moving((0, 0), 8)
    x = clip(frames)
    signs = np.array([1, -1] * 4)[:, None, None, None]
    lasting, flicker = (ColorVideoVDP()(clip(frames + 12 * sign), x) for sign in (np.abs(signs), signs))
    assert ColorVideoVDP()(x, x) == 10
    assert 10 > lasting > flicker + 1
