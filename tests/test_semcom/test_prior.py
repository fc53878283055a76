"""The prior: its preconditioning, any size of picture, and that a few steps of its recipe denoise."""

import itertools
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from precision import rounding
from torch import nn

from semcom import names, zoo
from semcom.denoisers import OnDevice
from semcom.errors import InvalidOption, UnknownName
from semcom.prior import NaturalImagePrior
from semcom.provenance import fingerprint
from semcom.receivers.diffpir import DiffPIR
from semcom.training import common, prior, refiner
from semcom.training.loop import Training


@pytest.fixture(scope="module")
def network() -> NaturalImagePrior:
    torch.manual_seed(0)
    small = NaturalImagePrior((8, 16, 24), (1, 1, 1), 4).requires_grad_(False)
    nn.init.normal_(small.out.weight, std=0.05)
    return small


def test_before_training_it_is_the_linear_answer() -> None:
    """To data of variance s^2 = 1/4 and mean 0: s^2 / (s^2 + sigma^2) x."""
    x = torch.randn(2, 3, 32, 48)
    sigma = torch.tensor([0.1, 2.0])
    expected = (0.25 / (0.25 + sigma**2))[:, None, None, None] * x
    torch.testing.assert_close(NaturalImagePrior((8, 16, 24), (1, 1, 1), 4)(x, sigma), expected)


def test_finer_patches_and_more_grids() -> None:
    torch.manual_seed(0)
    fine = NaturalImagePrior((4, 8, 12, 16), (1, 2, 1, 1), 2).requires_grad_(False)
    assert fine.coarsest_patch == 16
    nn.init.normal_(fine.out.weight, std=0.05)
    x = torch.randn(1, 3, 30, 50)
    assert fine(x, torch.tensor([0.5])).shape == x.shape
    assert NaturalImagePrior(**fine.config)(x, torch.tensor([0.5])).shape == x.shape


@pytest.mark.parametrize("size", [(16, 16), (17, 33), (1, 5), (64, 40)])
def test_any_size(network: NaturalImagePrior, size: tuple[int, int]) -> None:
    x = torch.randn(1, 3, *size)
    assert network(x, torch.tensor([0.5])).shape == x.shape


def test_shifted_by_whole_places_it_answers_the_same(network: NaturalImagePrior) -> None:
    x = torch.randn(1, 3, 192, 192)
    place = network.coarsest_patch
    shifted = x.roll((place, 2 * place), (2, 3))
    sigma = torch.tensor([0.5])
    moved = network(x, sigma).roll((place, 2 * place), (2, 3))
    inner = slice(88, 112)  # farther from the borders and the seam than its field of view
    terms = sum(weight[0].numel() for weight in network.parameters())
    tolerance = rounding(torch.float32, terms, float(moved.abs().max()))  # of sums one after the other
    torch.testing.assert_close(
        network(shifted, sigma)[:, :, inner, inner], moved[:, :, inner, inner], rtol=0, atol=tolerance
    )


def test_it_is_no_larger_than_a_cpu_bears() -> None:
    full = NaturalImagePrior()
    assert 2e6 < sum(p.numel() for p in full.parameters()) < 5.5e6
    products = [0]

    def count(layer: nn.Conv2d, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        products[0] += layer.weight.numel() * output.shape[2] * output.shape[3]

    for layer in full.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    full(torch.zeros(1, 3, 64, 64), torch.ones(1))
    assert products[0] / 64**2 < 38_000  # per pixel


def test_its_recipe_learns_to_denoise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ramps of random slopes, which a mean over the neighbourhood serves; a clock of steps, not of time."""
    ticks = itertools.count(0.0)
    monkeypatch.setattr(common, "Training", partial(Training, clock=lambda: next(ticks)))
    rng = np.random.default_rng(0)
    along = np.linspace(0, 255, 64)
    for name, count, side in (("train", 20, 64), ("val", 2, 256)):
        along = np.linspace(0, 1, side)
        slopes = rng.uniform(-1, 1, (count, 2, 3))
        ramps = (
            slopes[:, 0, None, None] * along[:, None, None] + slopes[:, 1, None, None] * along[None, :, None]
        )
        pixels = (127 * (1 + ramps / 2)).astype(np.uint8)
        np.save(tmp_path / f"{name}.npy", pixels)
    shards = {"photos": tmp_path / "train.npy", "validation": tmp_path / "val.npy"}
    small = NaturalImagePrior((8, 16, 24), (1, 1, 1), 4)
    zoo.save(small, tmp_path / "start.safetensors")
    shards["start"] = tmp_path / "start.safetensors"
    score_db = prior.train(150.0, tmp_path / "out", batch=4, crop=32, **shards)
    trained = zoo.read(tmp_path / "out/weights.safetensors")
    assert isinstance(trained, NaturalImagePrior)
    pictures = torch.from_numpy(np.load(tmp_path / "val.npy")).permute(0, 3, 1, 2).float() / 255
    untrained_db = prior.score(small.requires_grad_(False), pictures)
    assert score_db > untrained_db + 0.1


def test_a_conditional_network_starts_as_the_prior_it_comes_from(network: NaturalImagePrior) -> None:
    conditional = NaturalImagePrior.conditional_from(network)
    x, sigma = torch.randn(2, 3, 30, 50), torch.tensor([0.2, 1.0])
    expected = network(x, sigma)
    torch.testing.assert_close(conditional(x, sigma), expected)
    nothing = torch.full((2,), torch.inf)
    torch.testing.assert_close(conditional(x, sigma, torch.zeros_like(x), nothing), expected)


def test_before_training_a_guess_is_weighed_by_its_error() -> None:
    """Of data of variance 1/4: (x / sigma^2 + guess / r^2) / (1 / sigma^2 + 1 / r^2 + 4)."""
    untrained = NaturalImagePrior((8, 16, 24), (1, 1, 1), 4, conditional=True).requires_grad_(False)
    x, guess = torch.randn(2, 2, 3, 16, 16).unbind()
    sigma, spread = torch.tensor([0.5, 1.0]), torch.tensor([0.1, 0.2])
    s, r = sigma[:, None, None, None], spread[:, None, None, None]
    expected = (x / s**2 + guess / r**2) / (1 / s**2 + 1 / r**2 + 4)
    torch.testing.assert_close(untrained(x, sigma, guess, spread), expected)


def test_a_prior_takes_no_guess(network: NaturalImagePrior) -> None:
    x = torch.randn(1, 3, 16, 16)
    with pytest.raises(InvalidOption, match="takes no guess"):
        network(x, torch.ones(1), x, torch.ones(1))


def test_the_recipe_of_the_refiner_ends_in_a_conditional_network(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    for name in ("train", "val"):
        times = 1 if name == "train" else 3
        np.save(tmp_path / f"{name}.npy", np.tile(pixels, (1, times, times, 1)))
    start = NaturalImagePrior((8, 8, 8, 8), (1, 1, 1, 1))
    zoo.save(start, tmp_path / "prior.safetensors")
    shards = {"photos": tmp_path / "train.npy", "validation": tmp_path / "val.npy"}
    score_db = refiner.train(
        1.0,
        tmp_path / "out",
        batch=2,
        crop=32,
        start=tmp_path / "prior.safetensors",
        codes="deepjscc,jpeg",
        **shards,
    )
    trained = zoo.read(tmp_path / "out/weights.safetensors")
    assert isinstance(trained, NaturalImagePrior)
    assert trained.conditional
    assert 5 < score_db < 60
    assert len(list(tmp_path.glob("*-decoded-*.npy"))) == 2


def test_other_pieces_and_other_weights_are_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []

    def halved(pieces: torch.Tensor, codes: list[str]) -> np.ndarray:
        runs.append(len(runs))
        return np.concatenate((pieces.numpy(), pieces.numpy() // 2), 3)

    monkeypatch.setattr(refiner, "decoded", halved)
    shard = tmp_path / "shard.npy"

    def decoded(level: int) -> int:
        np.save(shard, np.full((2, 16, 16, 3), level, np.uint8))
        return int(refiner.Pairs.load(shard, ["deepjscc", "jpeg"], 16, "cpu").crops.pixels[0, 0, 0, 5])

    assert [decoded(level) for level in (100, 100, 200)] == [50, 50, 100]
    assert len(runs) == 2
    monkeypatch.setattr(zoo, "sha256", lambda name: "retrained")
    assert decoded(200) == 100
    assert len(runs) == 3


def test_pictures_of_deepjscc_and_of_codecs_are_refined() -> None:
    for code in ("deepjscc", "jpeg"):
        assert refiner.Sender(code)(torch.rand(1, 3, 16, 16), np.full(2, 0.5), 0).shape == (1, 3, 16, 16)
    with pytest.raises(UnknownName, match="no codec called 'softcast'"):
        refiner.Sender("softcast")


def test_a_refiner_needs_a_network_that_takes_guesses(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="takes no guess; train a refiner"):
        names.receiver("refiner")
    zoo.save(NaturalImagePrior((8, 8), (1, 1), conditional=True), tmp_path / "refiner.safetensors")
    named = names.receiver("refiner:4:0.5", names.prior(str(tmp_path / "refiner.safetensors")))
    assert re.fullmatch("refiner:4:0.5@#[0-9a-f]{8}", named.name)
    assert named.nfe == 4


def test_a_prior_on_a_device_is_the_same_prior() -> None:
    """It denoises alike, and schemes with it keep their fingerprints."""
    shipped = names.prior("prior")
    placed = OnDevice(shipped, "cpu")
    x, sigma = torch.rand(1, 3, 16, 16), torch.tensor([0.3])
    assert torch.equal(placed(x, sigma), shipped(x, sigma))
    assert fingerprint(DiffPIR(placed)) == fingerprint(DiffPIR(shipped))
