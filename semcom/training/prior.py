"""Training recipe of the diffusion prior: denoising at all noise levels with equal weight."""

import math
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from channels.streams import NamedStreams, SharedStreams
from semcom import zoo
from semcom.prior import DATA_STD, NaturalImagePrior
from semcom.surroundings import library_defaults, own_random_numbers
from semcom.training.common import (
    PHOTOS,
    VALIDATION,
    train_and_save,
    training_crops,
    validation_pictures,
)
from semcom.training.loop import Settings
from semcom.training.processes import own_device

LOG_SIGMA = (-1.2, 1.4)
"""Mean and standard deviation of ln sigma; Karras et al. 2022 have -1.2 and 1.2."""
SCORED = (0.1, 0.2, 0.4, 0.8)
"""Noise levels sigma of the validation score: 13, 26, 51 and 102 of 255."""


@library_defaults()
@own_random_numbers()
def train(
    seconds: float,
    out: Path,
    photos: Path = PHOTOS,
    validation: Path = VALIDATION,
    batch: int = 16,
    crop: int = 64,
    learning_rate: float = 1e-3,
    device: str = "cpu",
    start: Path | None = None,
) -> float:
    """Train the diffusion prior, or continue training, and write `weights.safetensors` into `out`.

    Args:
        seconds: Duration in wall-clock seconds.
        out: Folder of `checkpoint.pt`, `curve.csv` and the weights.
        photos: Folder of training pictures, or a shard made by `crops.pack`.
        validation: Folder of validation pictures, or a shard.
        batch: Crops per step.
        crop: Side of the crops in pixels, a multiple of 16.
        learning_rate: Peak learning rate of Adam.
        device: Device of the training.
        start: Weights to start from.

    Returns:
        Validation score: PSNR of denoising in dB, mean over `SCORED` and one 256x256 crop of 24 pictures.
    """
    device = own_device(device)
    crops = training_crops(photos, crop, device)
    pictures = validation_pictures(validation, device)
    torch.manual_seed(0)
    network = NaturalImagePrior() if start is None else zoo.read_as(start, NaturalImagePrior)
    settings = Settings(seconds, batch, learning_rate, validate_seconds=min(300.0, seconds / 4))
    its_score = partial(score, pictures=pictures)
    return train_and_save(network, loss, crops.sample, its_score, settings, out, device)


def loss(network: NaturalImagePrior, x: Float[Tensor, "batch 3 height width"], rng: SharedStreams) -> Tensor:
    """Training loss: squared error of D over c_out^2, that is of F against its target; ln sigma is normal.

    Args:
        network: The prior.
        x: Images in [0, 1], [batch, 3, height, width].
        rng: Random streams.

    Returns:
        Scalar loss.
    """
    mean, std = LOG_SIGMA
    sigma = (mean + std * rng.normal("levels", (1,))[:, 0]).exp()
    clean = 2 * x - 1
    with torch.autocast(x.device.type, torch.bfloat16):
        denoised = network(
            clean + sigma[:, None, None, None] * rng.normal("noise", tuple(x.shape[1:])), sigma
        )
    weight = (sigma**2 + DATA_STD**2) / (sigma * DATA_STD) ** 2
    return (weight * (denoised.float() - clean).square().mean((1, 2, 3))).mean()


def score(network: NaturalImagePrior, pictures: Float[Tensor, "count 3 side side"]) -> float:
    """Validation score: mean PSNR of denoising in dB over levels and pictures.

    Args:
        network: The prior.
        pictures: Images in [0, 1], [count, 3, side, side].

    Returns:
        PSNR in dB.
    """
    return sum(psnr_db(network, pictures, sigma) for sigma in SCORED) / len(SCORED)


def psnr_db(network: NaturalImagePrior, pictures: Float[Tensor, "count 3 side side"], sigma: float) -> float:
    """Mean PSNR of denoising in dB at one noise level; the output is clipped.

    Args:
        network: The prior.
        pictures: Images in [0, 1], [count, 3, side, side].
        sigma: Noise level in units of [-1, 1].

    Returns:
        PSNR in dB.
    """
    values = []
    with torch.no_grad():
        for i, picture in enumerate(pictures.split(1)):
            clean = 2 * picture - 1
            noise = NamedStreams(0, (f"validation-{i}",)).normal("noise", tuple(picture.shape[1:]))
            noisy = clean + sigma * noise.to(picture.device)
            denoised = network(noisy, torch.full((1,), sigma, device=picture.device)).clamp(-1, 1)
            values.append(-10 * math.log10(float((denoised - clean).square().mean()) / 4))
    return sum(values) / len(values)
