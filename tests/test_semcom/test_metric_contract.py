"""Every metric of every modality: identity is best, damage is worse, an item has one float, else an error."""

import math
import subprocess
import sys
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from guests.metric import ROUGHNESS
from instances import METRICS
from torch import Tensor

from semcom.errors import (
    FaultyMetric,
    InvalidOption,
    InvalidSource,
    MissingPackage,
    MissingWeights,
    UnknownName,
)
from semcom.metrics import (
    LPIPS,
    PSNR,
    SSIM,
    BatchMetric,
    CharacterErrorRate,
    Metric,
    PerFrame,
    SlicedWasserstein,
    available_metrics,
    column_of,
    default_metrics,
    grid_periodicity,
    lpips,
    measure,
    metric_named,
    metrics_of,
    ms_ssim,
    on_device,
    psnr_db,
    sliced_wasserstein,
    ssim,
)
from semcom.metrics.metric import check_one, check_pair
from semcom.modalities.text import TextShape
from semcom.modalities.video import Clip, ClipShape
from semcom.provenance import canonical, fingerprint
from semcom.results import COLUMN_NAME

SIZES = [(96, 64), (45, 77)]
RATE = Fraction(25)
WORKING = {name: available_metrics(name).metrics for name in ("image", "video", "text")}
WORKING["waveform"] = (ROUGHNESS,)
LARGEST = {
    "image": (1, 3, 512, 768),
    "video": ClipShape(9, 512, 768, RATE),
    "text": TextShape(),
    "waveform": ("samples", 8000),
}
UNITS = {  # '' for all others
    **{"psnr_db": "dB", "roughness": "levels", "cvvdp": "JOD"},
    **{"warp_error": "levels", "warp_error_gap": "levels"},
}
BEST = {
    "psnr_db": 100.0,
    "ssim": 1.0,
    "ms_ssim": 1.0,
    "bleu": 100.0,
    "cvvdp": 10.0,
    "chrf": 100.0,
    "minilm_cosine": 1.0,
}  # 0 for distances
OWN = ("vmaf", "vmaf_neg", "warp_error")  # an original against itself has a value of its own
OPTIONAL = ("vmaf", "vmaf_neg", "cvvdp", "warp_error", "warp_error_gap")  # where packages are installed
LEAST = {"swd": 7, "vmaf": 17, "vmaf_neg": 17, "lpips_squeeze": 32, "grid": 32}  # side in pixels, or 1
WORDS = [f"word{number}" for number in range(14)]


@pytest.fixture(
    params=[pair for pair in METRICS if pair[1] in WORKING[pair[0]]],
    ids=lambda pair: f"{pair[0]}-{pair[1].name}",
)
def case(request):
    return request.param


@pytest.fixture(params=WORKING["image"], ids=lambda metric: metric.name)
def picture_metric(request):
    return request.param


@pytest.mark.parametrize(("modality", "metric"), METRICS, ids=lambda part: getattr(part, "name", part))
def test_every_metric_works_here(modality, metric):
    """One skipped line per backbone that is not in the torch cache, and per package that is not installed."""
    if modality == "waveform":
        return  # a guest is given as an object, not by name
    try:
        assert metric_named(metric.name, modality) == metric
    except (MissingWeights, MissingPackage) as error:
        pytest.skip(str(error))


def images(batch, height, width, seed=0):
    """Smooth colours with texture, well inside [0, 1]."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 4, 4, generator=g)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return 0.2 + 0.5 * smooth + 0.1 * torch.rand(batch, 3, height, width, generator=g)


def noisy(x, std, seed=1):
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    return (x + std * noise).clamp(0, 1)


def hatched(x, amplitude):
    """With stripes of 16 pixels."""
    stripes = (torch.arange(x.shape[3]) % 16 < 8).to(x) - 0.5
    return (x + amplitude * stripes).clamp(0, 1)


def clip(x):
    return Clip((x * 255).round().byte(), RATE)


def pair(modality, damage, height=64, width=48, damaged=noisy):
    """A damaged item and its original; damage from 0 to 1."""
    if modality == "waveform":
        x = np.random.default_rng(0).integers(-9000, 9000, height * width, dtype=np.int16)
        return (x * (1 - damage)).astype(np.int16), x
    x = images(1 if modality == "image" else 3, height, width)
    x_hat = damaged(x, 0.3 * damage)
    if modality == "image":
        return x_hat, x
    if modality == "video":
        return clip(x_hat), clip(x)
    wrong = round(damage * 8)
    return " ".join(["xyzzy"] * wrong + WORDS[wrong:]), " ".join(WORDS)


def test_it_is_a_metric(case):
    metric = case[1]
    assert isinstance(metric, Metric)
    assert COLUMN_NAME.fullmatch(metric.name)
    assert column_of(metric).unit == UNITS.get(metric.name, "")
    assert type(metric.higher_is_better) is bool
    assert canonical(metric).startswith("guests." if case[0] == "waveform" else "semcom.metrics.")


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_identity_is_best_and_damage_is_worse(case, height, width):
    """The grid's damage is a pattern; noise, which is not, leaves its value at 0 within 4 standard errors."""
    modality, metric = case
    damaged, error = (
        (hatched, 4 / (height - 16) ** 0.5 / (width - 16) ** 0.5) if metric.name == "grid" else (noisy, 1e-6)
    )
    values = [metric(*pair(modality, damage, height, width, damaged)) for damage in (0, 0.25, 0.5, 1)]
    steps = np.diff(values)
    assert (steps < 0).all() if metric.higher_is_better else (steps > 0).all()
    if metric.name not in OWN:
        assert values[0] == pytest.approx(BEST.get(metric.name, 0.0), abs=error)


def test_one_float_and_always_the_same(case):
    modality, metric = case
    x_hat, x = pair(modality, 0.5)
    value = metric(x_hat, x)
    assert type(value) is float
    assert metric(x_hat, x) == value == measure(metric, x_hat, x)


def test_only_items_of_its_modality_fit(case):
    modality, metric = case
    assert {name: metric.fits(shape) for name, shape in LARGEST.items()} == {
        name: name == modality for name in LARGEST
    }
    assert not metric.fits((2, 3, 512, 768))
    assert not metric.fits((512, 768))
    assert not metric.fits(ClipShape(0, 512, 768, RATE))


def test_a_metric_prints_nothing_and_warns_of_nothing(case, capfd, recwarn):
    modality, metric = case
    metric(*pair(modality, 0.5))
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


# Pictures


def test_batches_give_what_single_pictures_give(picture_metric):
    x = images(3, 64, 48)
    x_hat = noisy(x, 0.05)
    assert isinstance(picture_metric, BatchMetric)
    together = picture_metric.batch(x_hat, x)
    alone = [picture_metric(x_hat[i : i + 1], x[i : i + 1]) for i in range(3)]
    assert together.shape == (3,)
    assert together.tolist() == pytest.approx(alone, rel=1e-5, abs=1e-6)
    assert torch.equal(picture_metric.batch(x_hat, x), together)


def test_one_original_for_the_whole_batch(picture_metric):
    x = images(1, 64, 48)
    x_hat = torch.cat([noisy(x, std) for std in (0.01, 0.05, 0.1)])
    several = picture_metric.batch(x_hat, x.repeat(3, 1, 1, 1))
    assert torch.allclose(picture_metric.batch(x_hat, x), several, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [-0.01, 1.01, float("nan"), float("inf")])
@pytest.mark.parametrize("side", ["received", "original"])
def test_values_outside_the_range_are_refused(picture_metric, bad, side):
    x, broken = images(1, 64, 64), images(1, 64, 64)
    broken[0, 1, 5, 7] = bad
    with pytest.raises(InvalidSource):
        picture_metric(*((broken, x) if side == "received" else (x, broken)))


def test_smallest_picture(picture_metric):
    """What fits is measured, what does not is refused, frames as pictures."""
    least = next(side for side in range(1, 65) if picture_metric.fits((1, 3, side, 64)))
    assert least == LEAST.get(picture_metric.name, 1)
    per_frame = PerFrame(picture_metric)
    assert per_frame.fits(ClipShape(2, 64, least, RATE))
    x = images(1, least, least + 3)
    assert math.isfinite(picture_metric(noisy(x, 0.1), x))
    if least > 1:
        assert not per_frame.fits(ClipShape(2, 64, least - 1, RATE))
        x = images(1, least - 1, 64)
        with pytest.raises(InvalidSource, match=f"at least {least}"):
            picture_metric(x, x)
        with pytest.raises(InvalidSource, match=f"at least {least}"):
            per_frame(clip(x), clip(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_equal_pictures_of_16_bits_reach_the_cap(dtype):
    x = images(1, 8, 8).to(dtype)
    assert PSNR()(x, x) == 100.0
    assert SSIM()(x, x) == pytest.approx(1.0, abs=1e-6)
    assert psnr_db(x, x).dtype == torch.float32


def test_squared_error_of_16_bits_does_not_underflow():
    """One level of 255 in half precision: PSNR of 20 log10(255) up to the rounding of the pixel values."""
    x = torch.full((1, 3, 8, 8), 0.25, dtype=torch.float16)
    x_hat = x + 1 / 256
    assert PSNR()(x_hat, x) == pytest.approx(20 * math.log10(256), abs=1e-3)


@pytest.mark.parametrize("shape", [(1, 3, 8, 9), (1, 1, 8, 8), (3, 3, 8, 8), (3, 8, 8)])
def test_shapes_must_agree(shape):
    with pytest.raises(InvalidSource):
        check_pair(torch.rand(2, 3, 8, 8), torch.rand(shape))


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (np.zeros((1, 3, 8, 8)), "psnr_db of ndarray: expected a torch tensor"),
        ("text", "psnr_db of str: expected a torch tensor"),
        (torch.zeros(0, 3, 8, 8), "psnr_db of a batch of 0 pictures"),
    ],
)
@pytest.mark.parametrize("side", ["received", "original"])
def test_what_is_no_picture_is_named(thing, message, side):
    x = torch.zeros(1, 3, 8, 8)
    with pytest.raises(InvalidSource, match=message):
        check_pair(*((thing, x) if side == "received" else (x, thing)), name="psnr_db")


def test_several_pictures_at_once_are_refused():
    x = torch.rand(2, 3, 8, 8)
    with pytest.raises(InvalidSource, match=r"psnr_db of 2 pictures at once"):
        check_one(x, x, "psnr_db")


WRONG = """
import numpy as np, torch
from fractions import Fraction
from semcom.errors import InvalidSource
from semcom.metrics import available_metrics
from semcom.modalities.video import Clip

things = [np.zeros((1, 3, 64, 64)), torch.zeros(0, 3, 64, 64), torch.zeros(2, 3, 64, 64)]
things += [torch.zeros(3, 64, 64), b"bytes", None, 0.5]
things += [Clip(torch.zeros(0, 3, 64, 64, dtype=torch.uint8), Fraction(25))]
things += [torch.zeros(1, 3, 64, 64, dtype=torch.uint8), Clip(torch.zeros(2, 3, 64, 64), Fraction(25))]
for modality in ("image", "video", "text"):
    for metric in available_metrics(modality).metrics:
        for thing in things:
            try:
                metric(thing, thing)
            except InvalidSource as error:
                assert str(error).startswith(metric.name) or "image of" in str(error), error
            else:
                print(modality, metric.name, type(thing).__name__)
"""


def test_what_is_no_item_is_refused_without_a_type_checker_too():
    """In another interpreter: here beartype refuses before the metrics do."""
    done = subprocess.run([sys.executable, "-c", WRONG], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_functions_have_gradients():
    x = images(1, 64, 64)
    measures = [psnr_db, ssim, ms_ssim, sliced_wasserstein, grid_periodicity]
    if LPIPS("squeeze") in WORKING["image"]:
        measures.append(lambda a, b: lpips(a, b, "squeeze"))
    for function in measures:
        x_hat = noisy(x, 0.1).requires_grad_()
        function(x_hat, x).sum().backward()
        assert torch.isfinite(x_hat.grad).all()
        assert x_hat.grad.abs().max() > 0


# Clips


@dataclass(frozen=True)
class Brightness:
    """Mean absolute difference of mean levels; knows nothing of batches."""

    name: str = "brightness"
    unit: str = "%"
    higher_is_better: bool = False

    def fits(self, shape: object) -> bool:
        return True

    def __call__(self, x_hat: Tensor, x: Tensor) -> float:
        assert len(x) == 1
        return 100 * abs(x_hat.mean() - x.mean()).item()


@pytest.mark.parametrize("metric", [*WORKING["image"], Brightness()], ids=lambda metric: metric.name)
@pytest.mark.parametrize("pixels_at_once", [1, 2 * 64 * 48, 10**9])
def test_clip_has_the_mean_of_its_frames(metric, pixels_at_once, monkeypatch):
    monkeypatch.setattr("semcom.metrics.clip.PIXELS_AT_ONCE", pixels_at_once)
    x = clip(images(5, 64, 48))
    x_hat = clip(torch.cat([noisy(images(5, 64, 48)[i : i + 1], 0.04 * i) for i in range(5)]))
    frames = [
        metric(a[None].float() / 255, b[None].float() / 255)
        for a, b in zip(x_hat.frames, x.frames, strict=True)
    ]
    per_frame = PerFrame(metric)
    assert per_frame(x_hat, x) == pytest.approx(np.mean(frames), rel=1e-5)
    assert column_of(per_frame) == column_of(metric)


def test_psnr_of_a_clip_is_no_psnr_of_the_mean_error():
    """Errors of 51 and 0 levels: 20 log10(5) and the cap of 100 dB."""
    x = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    x_hat = torch.stack((x[0] + 51, x[1]))
    assert PerFrame(PSNR())(Clip(x_hat, RATE), Clip(x, RATE)) == pytest.approx(50 + 10 * math.log10(5))


def test_clips_that_do_not_agree_are_refused():
    x = clip(images(3, 64, 48))
    metric = PerFrame(PSNR())
    with pytest.raises(
        InvalidSource, match=r"psnr_db of 2 frames of 48x64 and 3 of 48x64: numbers and sizes"
    ):
        metric(Clip(x.frames[:2], RATE), x)
    with pytest.raises(InvalidSource, match=r"3 frames of 48x63 and 3 of 48x64"):
        metric(Clip(x.frames[:, :, :63], RATE), x)
    with pytest.raises(InvalidSource, match="one frame at least"):
        metric(Clip(x.frames[:0], RATE), Clip(x.frames[:0], RATE))


# Texts


@pytest.mark.parametrize(
    ("received", "original", "wer", "cer", "bleu"),
    [
        ("", "", 0, 0, 100),
        (" \n\t", "", 0, 0, 100),
        ("", " \n", 0, 0, 100),
        ("", "two words", 1, 1, 0),
        ("   ", "two words", 1, 1, 0),
        ("two words", "", 2, 9, 0),
        ("two words", " \n ", 2, 9, 0),
        (" two  words\n", "two words", 0, 1 / 9, 100),
        ("hello", "hello", 0, 0, 100),
        ("!", "!", 0, 0, 100),
        ("a b c d e f", "a", 5, 10, None),
        ("Größe 写", "Größe 写", 0, 0, 100),
        ("Grösse", "Größe", 1, 2 / 5, 0),
    ],
)
def test_edge_cases_of_texts(received, original, wer, cer, bleu):
    found = [measure(metric, received, original) for metric in WORKING["text"]]
    assert found[:2] == pytest.approx([wer, cer])
    if bleu is not None:
        assert found[2] == pytest.approx(bleu)


def test_a_word_of_20_000_characters():
    """Every tenth character is another one: 2 000 substitutions, of one word."""
    rng = np.random.default_rng(0)
    original = rng.integers(ord("a"), ord("z") + 1, 20_000)
    received = original.copy()
    received[::10] = ord("#")
    x_hat, x = ("".join(map(chr, codes)) for codes in (received, original))
    assert [metric(x_hat, x) for metric in WORKING["text"][:2]] == [1.0, pytest.approx(0.1)]
    assert 0 <= WORKING["text"][2](x_hat, x) <= 100


def test_what_is_no_text_is_refused():
    from semcom.metrics.text import text_of

    with pytest.raises(InvalidSource, match="wer of bytes: expected a text; decode bytes first"):
        text_of(b"bytes", "wer")


# Values


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "metric brightness is nan; give it a finite value"),
        (math.inf, "metric brightness is inf; give it a finite value"),
        (torch.zeros(2), "metric brightness returned Tensor, not one number"),
        (None, "metric brightness returned NoneType, not one number"),
    ],
)
def test_values_that_are_no_finite_number_are_refused(value, message):
    class Faulty(Brightness):
        def __call__(self, x_hat, x):
            return value

    with pytest.raises(FaultyMetric, match=message):
        measure(Faulty(), None, None)


@pytest.mark.parametrize("value", [np.float32(0.5), torch.tensor([0.5]), np.array(0.5)])
def test_numbers_of_other_libraries_become_floats(value):
    class Foreign(Brightness):
        def __call__(self, x_hat, x):
            return value

    found = measure(Foreign(), None, None)
    assert (type(found), found) == (float, 0.5)


def test_unit_and_direction_must_be_what_they_are():
    with pytest.raises(InvalidOption, match="higher_is_better is 'yes'; make it True"):
        column_of(replace(Brightness(), higher_is_better="yes"))
    with pytest.raises(InvalidOption, match="its unit is None"):
        column_of(replace(Brightness(), unit=None))


# Names


@pytest.mark.parametrize("modality", ["image", "video", "text"])
def test_names_are_unique_and_found(modality):
    names = [metric.name for metric in metrics_of(modality)]
    assert len(set(names)) == len(names)
    for metric in WORKING[modality]:
        assert metric_named(metric.name, modality) == metric


def test_unknown_names_come_with_those_that_fit():
    with pytest.raises(
        UnknownName, match=r"no metric called 'psnr'; did you mean psnr_db\?; for image there"
    ):
        metric_named("psnr")
    with pytest.raises(
        UnknownName, match="metric 'wer' is for text, not for video; for video there are psnr_db"
    ):
        metric_named("wer", "video")
    with pytest.raises(
        UnknownName, match=r"metric 'ssim' is for image and video, not for text; .* wer, cer, bleu"
    ):
        metric_named("ssim", "text")
    with pytest.raises(UnknownName, match=r"no modality called 'audio'.*; there are image, video, text"):
        metric_named("wer", "audio")


def test_one_name_may_stand_for_pictures_and_clips():
    assert metric_named("psnr_db") == PSNR()
    assert metric_named("psnr_db", "video") == PerFrame(PSNR())


def test_missing_backbones_are_one_line_each_and_have_no_metric(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for modality in ("image", "video"):
        found = available_metrics(modality)
        names = [m.name for m in found.metrics if m.name not in OPTIONAL]
        assert names == ["psnr_db", "ssim", "ms_ssim", "swd", "grid"]
        lines = [line for line in found.left_out if line.split(":")[0] not in OPTIONAL]
        lacking = ["lpips_squeeze", "lpips_alex", "lpips_vgg"]
        lacking += ["clip_feature_distance"] if modality == "video" else []
        assert [line.split(":")[0] for line in lines] == lacking
        assert all("\n" not in line and ".pth" in line for line in lines)
        with pytest.raises(MissingWeights, match="alexnet"):
            metric_named("lpips_alex", modality)
    usual = {name: default_metrics(name) for name in ("image", "video", "text")}
    assert {name: [m.name for m in found.metrics] for name, found in usual.items()} == {
        "image": ["psnr_db", "ms_ssim", "swd"],
        "video": ["psnr_db", "ssim", "swd"],
        "text": ["wer", "cer", "bleu"],
    }
    assert [len(found.left_out) for found in usual.values()] == [1, 1, 0]


@pytest.mark.parametrize(
    ("module", "package", "names"),
    [
        ("vmaf_torch", "vmaf-torch", ("vmaf", "vmaf_neg")),
        ("pycvvdp", "cvvdp", ("cvvdp",)),
        ("cv2", "opencv-python-headless", ("warp_error", "warp_error_gap")),
    ],
)
def test_missing_packages_are_one_line_each_with_the_command(module, package, names, monkeypatch):
    monkeypatch.setattr(
        "semcom.metrics.packages.find_spec", lambda name: None if name == module else find_spec(name)
    )
    line = f"the package {package} is not installed; pip install 'semcom[video]'"
    found = available_metrics("video")
    assert not {metric.name for metric in found.metrics} & set(names)
    for name in names:
        assert f"{name}: {line}" in found.left_out
        with pytest.raises(MissingPackage, match=package) as caught:
            metric_named(name, "video")
        assert str(caught.value) == f"{name}: {line}"
        (metric,) = [metric for metric in metrics_of("video") if metric.name == name]
        x = clip(images(2, 64, 48))
        if name.startswith("warp"):  # models that were loaded before stay
            with pytest.raises(MissingPackage):
                metric(x, x)


def test_metrics_that_a_tiny_item_has_no_room_for_are_left_out():
    for modality, shape in (("image", (1, 3, 5, 64)), ("video", ClipShape(9, 64, 5, RATE))):
        found = available_metrics(modality, shape)
        names = [m.name for m in found.metrics if m.name not in OPTIONAL]
        assert names == ["psnr_db", "ssim", "ms_ssim"]
        assert any(line.startswith("swd: ") for line in found.left_out)


def test_a_damaged_backbone_is_a_typed_error(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "squeezenet1_1-b8a52dc0.pth").write_bytes(b"not weights")
    x = images(1, 64, 64)
    with pytest.raises(MissingWeights, match="damaged"):
        LPIPS("squeeze")(x, x)


def test_options_are_checked():
    with pytest.raises(InvalidOption):
        SlicedWasserstein(patches=0)
    with pytest.raises(InvalidOption, match="lpips_alex on device 'gpu'"):
        LPIPS("alex", "gpu")
    if not torch.cuda.is_available():
        with pytest.raises(InvalidOption, match="there is no GPU here; choose cpu"):
            LPIPS("alex", "cuda")


def test_the_device_is_no_part_of_the_definition():
    """So records of two machines go into one store."""
    here, there = LPIPS("alex"), LPIPS("alex", "meta")
    assert here == there
    assert fingerprint(here) == fingerprint(there)
    assert canonical(here) == "semcom.metrics.perceptual.LPIPS(backbone='alex',)"
    moved = on_device(PerFrame(here), "meta")
    assert isinstance(moved, PerFrame)
    assert moved.metric.device == "meta"
    movable = ("vmaf", "vmaf_neg", "cvvdp", "clip_feature_distance")
    for metric in (metric for metric in metrics_of("video") if metric.name in movable):
        other = on_device(metric, "meta")
        assert (other, other.device) == (metric, "meta")
        assert fingerprint(other) == fingerprint(metric)
    assert on_device(CharacterErrorRate(), "meta") == CharacterErrorRate()


@pytest.mark.gpu
def test_lpips_on_a_gpu_equals_that_of_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    if LPIPS("squeeze") not in WORKING["image"]:
        pytest.skip("no SqueezeNet in the torch cache")
    x = images(1, 64, 64)
    x_hat = noisy(x, 0.1)
    value = LPIPS("squeeze", "cuda")(x_hat, x)
    assert type(value) is float
    assert value == pytest.approx(LPIPS("squeeze")(x_hat, x), rel=1e-3)
