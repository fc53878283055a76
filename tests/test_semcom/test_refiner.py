"""The one-step refiner: its network, its receiver, its recipe."""

import math
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from instances import CODECS, JPEG
from PIL import Image as PillowImage
from scipy.ndimage import gaussian_filter
from toys import picture

from channels import AWGN, NamedStreams
from semcom import names, zoo
from semcom.budget import Budget
from semcom.codecs.codec import HasScale
from semcom.data import load_image
from semcom.errors import CorruptPayload, InvalidOption, MissingWeights, UnsuitableEvidence
from semcom.jscc.softcast import SoftCast
from semcom.modalities.image import to_pixels
from semcom.names.codecs import _shipped
from semcom.observation import Decoded, Linear, Observation, Payload, Symbols
from semcom.operators import Identity
from semcom.prior import NaturalImagePrior
from semcom.receivers.refiner import LEAST_SPREAD, Refiner
from semcom.refiner import FLAT, MARGIN, SMOOTH, SURE, LowPass, PictureRefiner, in_tiles, pieces
from semcom.scheme import Scheme
from semcom.separate import FixedMcs, Separate
from semcom.sweep import noise_streams
from semcom.training import pairs, refiner


@pytest.fixture(scope="module")
def prior() -> NaturalImagePrior:
    network = zoo.load("prior")
    assert isinstance(network, NaturalImagePrior)
    return network


@pytest.fixture(scope="module")
def network(prior: NaturalImagePrior) -> PictureRefiner:
    return PictureRefiner.from_prior(prior).eval().requires_grad_(False)


@pytest.mark.parametrize("taps", [SMOOTH, FLAT, SURE], ids=["smooth", "flat", "sure"])
def test_low_pass_filters_have_their_frequency_response(taps: tuple[float, ...]) -> None:
    """A cosine comes out with the gain sum of h_k cos(omega k) of the taps; a constant and Nyquist too."""
    length, half = 48, len(taps) // 2
    place = torch.arange(length, dtype=torch.float32)
    for turns in (0, 3, 8, 24):
        omega = 2 * math.pi * turns / length
        gain = sum(h * math.cos(omega * (k - half)) for k, h in enumerate(taps)) / sum(taps)
        x = (omega * place).cos().expand(1, 2, length, length)
        inner = (slice(None), slice(None), slice(half, -half), slice(half, -half))
        torch.testing.assert_close(LowPass(2, taps)(x)[inner], gain * x[inner], atol=1e-5, rtol=0)


def smoothed(x: torch.Tensor) -> torch.Tensor:
    """G of SciPy: a Gaussian of 6 pixels, cut off at 3 standard deviations, the edge repeated."""
    filtered = gaussian_filter(x.numpy(), sigma=6, mode="nearest", truncate=3, axes=(2, 3))
    return torch.from_numpy(filtered)


def test_without_a_trained_output_it_is_the_gaussian_estimate() -> None:
    """r = (y / s^2) / (1 / s^2 + 4) of data of variance 1/4, less G(r - y); F starts as 0."""
    y, z = torch.randn(2, 2, 3, 33, 50)
    untrained = PictureRefiner((8, 16, 24), (1, 1, 1))
    spread = torch.tensor([0.1, 0.5])
    estimate = y / (1 + 4 * spread[:, None, None, None] ** 2)
    expected = estimate - smoothed(estimate - y)
    torch.testing.assert_close(untrained(y, spread, torch.ones(2), z), expected, atol=1e-5, rtol=1e-5)


def test_the_prior_s_weights_are_where_they_were(prior: NaturalImagePrior, network: PictureRefiner) -> None:
    """With filters of one tap and without noise, the refiner that comes from a prior has r of the prior."""
    twin = PictureRefiner.from_prior(prior).requires_grad_(False)
    for module in twin.modules():
        if isinstance(module, LowPass) and module is not twin.sure:
            module.margin, module.kernel = 0, torch.ones(module.channels, 1, 1, 1)
    y, sigma = 0.5 * torch.randn(2, 3, 40, 56), torch.tensor([0.1, 0.4])
    estimate = prior(y, sigma)
    expected = estimate - smoothed(estimate - y)
    torch.testing.assert_close(
        twin(y, sigma, torch.ones(2), torch.zeros_like(y)), expected, atol=2e-5, rtol=1e-4
    )


def random_network(bias: float = 1.0, std: float = 0.05) -> PictureRefiner:
    """A small network whose output layer is random, with a bias that changes colours."""
    network = PictureRefiner((8, 16, 24), (1, 1, 1)).requires_grad_(False)
    g = torch.Generator().manual_seed(0)
    network.out.weight.copy_(std * torch.randn(network.out.weight.shape, generator=g))
    network.out.bias.fill_(bias)
    return network


def test_a_change_of_colour_alone_is_undone() -> None:
    """For F constant and y constant r - y is constant, G leaves it as it is, and x_hat = y."""
    y = torch.tensor([0.5, -0.2, 0.9])[None, :, None, None].expand(1, 3, 90, 70)
    changed = random_network(std=0.0)
    told = torch.tensor([0.3]), torch.ones(1), torch.randn(1, 3, 90, 70)
    torch.testing.assert_close(changed(y, *told), y, atol=1e-5, rtol=0)
    changed.sure.kernel = torch.zeros_like(changed.sure.kernel)
    precision = 1 / 0.3**2 + 4
    expected = y / 0.3**2 / precision + 1 / math.sqrt(precision)  # so the test can fail
    torch.testing.assert_close(changed(y, *told), expected, atol=1e-5, rtol=0)


def test_low_frequencies_are_those_of_the_decoded_picture_whatever_the_weights() -> None:
    """Smoothed by a Gaussian H of 24 pixels, x_hat - y = (1 - G) (r - y) is at most the sum of the absolute
    taps of H (1 - G) times the largest abs(r - y). With a = 24^2 + 6^2 over 24^2, that sum is for Gaussians
    2 (exp(-b / a) - exp(-b)), b = a log(a) / (a - 1), where the densities of H and H G are equal.
    """
    tau, side = 24, 256
    impulse = np.zeros((side - 1, side - 1))
    impulse[side // 2 - 1, side // 2 - 1] = 1
    wide = partial(gaussian_filter, sigma=tau, mode="constant", truncate=3)
    taps = wide(impulse - gaussian_filter(impulse, sigma=6, mode="constant", truncate=3))
    gain = np.abs(taps).sum()
    a = 1 + (6 / tau) ** 2
    b = a * math.log(a) / (a - 1)
    assert gain == pytest.approx(2 * (math.exp(-b / a) - math.exp(-b)), rel=0.03)  # 0.045, cut off at 3
    network, g = random_network(), torch.Generator().manual_seed(1)
    y, z = (torch.randn(1, 3, side, side, generator=g) for _ in range(2))
    told = torch.tensor([0.3]), torch.ones(1), z
    change = network(y, *told) - y
    network.sure.kernel = torch.zeros_like(network.sure.kernel)
    wanted = network(y, *told) - y  # r - y
    inner = slice(3 * tau + 18, -3 * tau - 18)  # seen by no filter beyond the edge
    kept, without = (wide(each[0, 0].double().numpy())[inner, inner] for each in (change, wanted))
    assert np.abs(kept).max() <= gain * float(wanted.abs().max())
    assert np.abs(without).min() > 3 * np.abs(kept).max()  # r itself has other colours


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (17, 16), (50, 33)], ids=str)
def test_any_size(network: PictureRefiner, size: tuple[int, int]) -> None:
    y = torch.rand(1, 3, *size)
    shown = in_tiles(network, y, 0.1, 1, torch.randn_like(y))
    assert shown.shape == y.shape
    assert bool(shown.isfinite().all())


def test_tiles_have_no_seams(network: PictureRefiner) -> None:
    """Up to rounding, with tiles that are far smaller than what the network sees around them."""
    for size in ((450, 80), (80, 450)):
        y, z = torch.randn(2, 1, 3, *size)
        whole = network(y, torch.tensor([0.2]), torch.tensor([2.0]), z)
        torch.testing.assert_close(in_tiles(network, y, 0.2, 2, z, 64), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("side", [1, 15, 64, 65, 449, 450, 1000, 4000])
@pytest.mark.parametrize("tile", [64, 768])
def test_tiles_cover_a_side_and_see_the_margin(side: int, tile: int) -> None:
    found, padded = pieces(side, tile, 16), -(-side // 16) * 16
    assert [place for held, _ in found for place in range(side)[held]] == list(range(side))
    for held, seen in found:
        assert held.stop - held.start <= tile
        assert seen.start % 16 == 0
        assert seen.start <= max(0, held.start - MARGIN)
        assert seen.stop >= min(side, held.stop + MARGIN)
    assert len({(padded if seen.stop == side else seen.stop) - seen.start for _, seen in found}) == 1


def test_scales_are_read_from_the_payload() -> None:
    x = picture("toy", 40, 72).x
    for codec in CODECS:
        assert isinstance(codec, HasScale)
        for scale in (1, 2, 4, 8):
            quality = next(quality for quality in codec.qualities if quality.scale == scale)
            assert codec.scale(codec.encode(x, quality), tuple(x.shape)) == scale
        with pytest.raises(CorruptPayload):
            codec.scale(b"", tuple(x.shape))


def shown(network: PictureRefiner, knob: float, snr_db: float = 20.0, seed: int = 0) -> torch.Tensor:
    scheme = Scheme("toy", Separate(JPEG, FixedMcs(9)), Refiner(network, knob))
    item = picture("toy", 48, 64)
    rng = noise_streams(item.id, seed)
    (outcome,) = scheme.transmit(item.x, Budget(6000, item.x.numel()), AWGN(), snr_db, rng)
    assert outcome.info["nfe"] == 1
    return outcome.x_hat


def test_the_knob_goes_from_the_decoded_picture_to_more_texture(network: PictureRefiner) -> None:
    decoded, half, full = (shown(network, knob) for knob in (0.0, 0.5, 1.0))
    separate = Scheme("plain", Separate(JPEG, FixedMcs(9)), Refiner(network, 0.0))
    assert separate.name == "plain"
    inside = (full > 0) & (full < 1) & (half > 0) & (half < 1)
    torch.testing.assert_close(half[inside], (decoded[inside] + full[inside]) / 2, atol=1e-5, rtol=0)
    with pytest.raises(InvalidOption, match=r"knob 1\.6 of refine: from 0 \(as decoded\) to 1\.5"):
        Refiner(network, 1.6)


def test_what_was_lost_stays_lost_and_what_nobody_decoded_is_refused(network: PictureRefiner) -> None:
    receiver, rng = Refiner(network), NamedStreams(0, ("receiver",))
    assert receiver(Observation(None), (1, 3, 8, 8), rng) is None
    with pytest.raises(UnsuitableEvidence, match="refine needs evidence"):
        receiver(Observation(torch.rand(1, 3, 8, 8)), (1, 3, 8, 8), rng)


def test_analog_evidence_is_refined_too(network: PictureRefiner) -> None:
    scheme = Scheme("analog", SoftCast(), Refiner(network))
    item = picture("toy", 32, 32)
    rng = noise_streams(item.id, 0)
    (outcome,) = scheme.transmit(item.x, Budget(600, item.x.numel()), AWGN(), 10.0, rng)
    assert outcome.x_hat.shape == item.x.shape


PICTURES = {  # mode, width and height
    "grey": ("L", 40, 30),
    "transparent": ("RGBA", 40, 30),
    "grey and transparent": ("LA", 40, 30),
    "one pixel": ("RGB", 1, 1),
    "narrow": ("RGB", 3, 5000),
    "wide": ("RGB", 5000, 3),
}


@pytest.mark.parametrize(("mode", "width", "height"), PICTURES.values(), ids=list(PICTURES))
def test_every_picture_is_refined(mode: str, width: int, height: int, tmp_path: Path) -> None:
    """From a file through coding, channel and network, with the largest knob."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
    PillowImage.fromarray(pixels.squeeze(2) if len(mode) == 1 else pixels).save(tmp_path / "x.png")
    item = load_image(tmp_path / "x.png")
    scheme = Scheme("toy", Separate(JPEG, FixedMcs(9)), Refiner(random_network(), 1.5))
    budget = Budget(max(1000, 2 * item.x.numel()), item.x.numel())
    (outcome,) = scheme.transmit(item.x, budget, AWGN(), 20.0, noise_streams(item.id, 0))
    assert not outcome.outage
    assert outcome.x_hat.shape == item.x.shape == (1, 3, height, width)
    assert 0 <= float(outcome.x_hat.min()) <= float(outcome.x_hat.max()) <= 1


def with_error(y: torch.Tensor, error_std: float) -> Observation[torch.Tensor]:
    return Observation(y, (Symbols(y, error_std, Linear(y, Identity(), error_std)),))


def test_a_picture_without_error_is_refined_as_one_with_the_least(network: PictureRefiner) -> None:
    """An s of 0 would divide by 0; the least s is half a level of 8 bits in units of [-1, 1]."""
    y, receiver = torch.rand(1, 3, 40, 30), Refiner(network)
    results = [
        receiver(with_error(y, error_std), tuple(y.shape), NamedStreams(0, ("receiver",)))
        for error_std in (0.0, LEAST_SPREAD / 2, 0.1)
    ]
    none, least, large = (result for result in results if result is not None)
    assert bool(none.isfinite().all())
    assert torch.equal(none, least)
    assert not torch.equal(none, large)


def test_two_threads_show_what_one_shows(network: PictureRefiner) -> None:
    """Within one level of 8 bits."""
    y, threads, shown = torch.rand(1, 3, 130, 170), torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            rng = NamedStreams(0, ("receiver",))
            x_hat = Refiner(network)(with_error(y, 0.05), tuple(y.shape), rng)
            assert x_hat is not None
            shown.append(to_pixels(x_hat).astype(int))
    finally:
        torch.set_num_threads(threads)
    assert np.abs(shown[0] - shown[1]).max() <= 1


def test_weights_that_are_missing_damaged_or_of_another_network_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    zoo.ship(zoo.find("prior"), "refiner", tmp_path)
    monkeypatch.setattr(zoo, "load", partial(zoo.load, folder=tmp_path))

    def refused(why: str) -> None:
        with pytest.raises(MissingWeights, match=why) as caught:
            names.receiver("refine:0.5")
        assert "\n" not in str(caught.value)

    refused("refiner are those of a NaturalImagePrior, not of a PictureRefiner: .* reinstall")
    (tmp_path / "refiner.safetensors").write_bytes(b"damaged")
    refused("the file is damaged or another one; reinstall the package")
    (tmp_path / "refiner.safetensors").unlink()
    refused("is missing; reinstall the package")
    (tmp_path / "manifest.json").unlink()
    refused("missing or damaged; reinstall the package")


@pytest.mark.parametrize("name", ["deepjscc", "deepjscc-perceptual", "deepjscc-2019", "learned+ldpc"])
def test_no_network_of_another_kind_is_taken_for_one_of_the_package(
    name: str, prior: NaturalImagePrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    _shipped.cache_clear()  # codecs are kept
    monkeypatch.setattr(zoo, "load", lambda name, device="cpu": prior)
    with pytest.raises(MissingWeights, match="those of a NaturalImagePrior, not of a"):
        names.scheme(name)


def test_the_training_starts_from_a_refiner_or_a_prior(network: PictureRefiner, tmp_path: Path) -> None:
    zoo.save(network, tmp_path / "mine.safetensors")
    assert refiner.started(tmp_path / "mine.safetensors").config == network.config
    assert refiner.started(zoo.find("prior")).config == network.config
    with pytest.raises(InvalidOption, match="holds a DecoderRefinement; start from a PictureRefiner or a"):
        refiner.started(zoo.find("deepjscc-perceptual"))


LARGE = """
from pathlib import Path
import torch
from channels import NamedStreams
from semcom import names
from semcom.observation import Decoded, Observation, Origin

torch.set_num_threads(1)
y = torch.rand(1, 3, 3000, 4000)
evidence = Decoded(y, origin=Origin("hevc-intra", (-3.0,)))
shown = names.receiver("refine")(Observation(y, (evidence,)), tuple(y.shape), NamedStreams(0, ("receiver",)))
assert shown.shape == y.shape and bool(shown.isfinite().all())
lines = Path("/proc/self/status").read_text().splitlines()  # ru_maxrss knows the parent's peak too
print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024)
"""


@pytest.mark.slow
def test_a_picture_of_12_million_pixels_needs_less_than_2_gb() -> None:
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2e9


@pytest.mark.slow
def test_the_recipe_improves_its_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ramps with noise, coded coarsely; the score after some steps is above that before them."""
    rng = np.random.default_rng(0)
    for name, count, side in (("train", 8, 96), ("val", 4, 256)):
        ramps = rng.uniform(0, 1, (count, 1, 1, 3)) + np.linspace(0, 1, side)[None, :, None, None]
        pixels = 100 * ramps + rng.normal(0, 8, (count, side, side, 3))
        np.save(tmp_path / f"{name}.npy", pixels.clip(0, 255).astype(np.uint8))
    monkeypatch.setattr(refiner, "COUNT", 16)
    monkeypatch.setattr(pairs, "CODECS", {"jpeg": 0.7, "webp": 0.3})
    monkeypatch.setattr(pairs, "HELD_OUT", (("jpeg", 1, 0.2),))
    small = NaturalImagePrior((8, 16, 24), (1, 1, 1))
    zoo.save(small, tmp_path / "start.safetensors")
    score_db = refiner.train(
        30.0,
        tmp_path / "out",
        tmp_path / "train.npy",
        tmp_path / "val.npy",
        batch=2,
        crop=64,
        start=tmp_path / "start.safetensors",
    )
    trained = zoo.read(tmp_path / "out/weights.safetensors")
    assert isinstance(trained, PictureRefiner)
    curve = (tmp_path / "out/stage1/curve.csv").read_text()
    assert len(curve.splitlines()) >= 2
    assert math.isfinite(score_db)
    assert len(list(tmp_path.glob("*-coded-*.npy"))) == 2


def test_behind_jpeg_every_coefficient_keeps_its_received_value(network: PictureRefiner) -> None:
    """The refined picture lies in the cells of the payload; without `cells` it does not."""
    item = picture("toy", 48, 64)
    shape = tuple(item.x.shape)
    data = JPEG.encode(item.x, [quality for quality in JPEG.qualities if quality.scale == 1][-8])
    y = JPEG.decode(data, shape)
    found = Observation(y, (Decoded(y, payload=Payload(JPEG, data, JPEG.name)),))
    cells = JPEG.cells(data, shape)
    assert cells is not None
    rng = NamedStreams(0, (item.id,))
    kept, free = (Refiner(network, 1.0, cells)(found, shape, rng) for cells in (True, False))
    assert kept is not None
    assert free is not None
    assert float(cells.misfit(kept.double()).max()) < 1e-5 < float(cells.misfit(free.double()).max())
    assert float((kept - free).abs().max()) > 1e-3


def test_codecs_without_cells_are_told(network: PictureRefiner) -> None:
    webp = next(codec for codec in CODECS if codec.name == "webp")
    item = picture("toy", 48, 64)
    shape = tuple(item.x.shape)
    data = webp.encode(item.x, webp.qualities[-1])
    found = Observation(item.x, (Decoded(item.x, payload=Payload(webp, data, "webp")),))
    with pytest.raises(UnsuitableEvidence, match=r"refine:0\.85:cells needs quantised coefficients, which"):
        Refiner(network, cells=True)(found, shape, NamedStreams(0, (item.id,)))
