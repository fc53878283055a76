"""The prior: its preconditioning, any size of picture, and that a few steps of its recipe denoise."""

import itertools
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from precision import rounding
from torch import nn

from semcom import names, zoo
from semcom.denoisers import OnDevice
from semcom.prior import NaturalImagePrior
from semcom.provenance import fingerprint
from semcom.receivers.diffpir import DiffPIR
from semcom.training import common, prior
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


def test_a_prior_on_a_device_is_the_same_prior() -> None:
    """It denoises alike, and schemes with it keep their fingerprints."""
    shipped = names.prior("prior")
    placed = OnDevice(shipped, "cpu")
    x, sigma = torch.rand(1, 3, 16, 16), torch.tensor([0.3])
    assert torch.equal(placed(x, sigma), shipped(x, sigma))
    assert fingerprint(DiffPIR(placed)) == fingerprint(DiffPIR(shipped))
