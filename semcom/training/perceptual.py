"""Training recipe of the perceptual decoder of the adaptive DeepJSCC: squared error plus LPIPS."""

import math
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from channels.streams import SharedStreams
from semcom import zoo
from semcom.jscc.adaptive import AdaptiveDeepJSCC
from semcom.jscc.refinement import DecoderRefinement
from semcom.metrics.perceptual import lpips_network
from semcom.surroundings import library_defaults, own_random_numbers
from semcom.training.common import (
    PHOTOS,
    VALIDATION,
    train_and_save,
    training_crops,
    validation_pictures,
)
from semcom.training.deepjscc import SCORED, Point, shown_at
from semcom.training.loop import Settings
from semcom.training.processes import own_device

LPIPS_WEIGHT = 3.0
"""Weight of LPIPS against the logarithm of the squared error: 0.1 of LPIPS is worth 1.3 dB."""


@library_defaults()
@own_random_numbers()
def train(
    seconds: float,
    out: Path,
    photos: Path = PHOTOS,
    validation: Path = VALIDATION,
    batch: int = 8,
    crop: int = 128,
    learning_rate: float = 5e-4,
    device: str = "cpu",
    start: Path | None = None,
) -> float:
    """Train the perceptual decoder, or continue training, and write its weights alone into `out`.

    The encoder stays that of `deepjscc`, so that one transmission serves both decoders.

    Args:
        seconds: Duration in wall-clock seconds.
        out: Folder of `checkpoint.pt`, `curve.csv` and `weights.safetensors`.
        photos: Folder of training pictures, or a shard made by `crops.pack`.
        validation: Folder of validation pictures, or a shard.
        batch: Crops per step.
        crop: Side of the crops in pixels, a multiple of 16.
        learning_rate: Peak learning rate of Adam.
        device: Device of the training.
        start: Weights of `deepjscc` to start from instead of the shipped ones.

    Returns:
        Validation score in dB: PSNR less 13 dB times LPIPS, mean over `SCORED` and one crop each of 12
            pictures.

    Raises:
        MissingWeights: The SqueezeNet weights of LPIPS are not available.
    """
    device = own_device(device)
    lpips = lpips_network("squeeze", torch.device(device))
    crops = training_crops(photos, crop, device)
    pictures = validation_pictures(validation, device, side=320)[::2]
    torch.manual_seed(0)
    network = zoo.read_as(start or zoo.find("deepjscc"), AdaptiveDeepJSCC)
    tune_decoder(network)
    settings = Settings(seconds, batch, learning_rate, validate_seconds=min(300.0, seconds / 4))
    its_loss, its_score = partial(loss, lpips=lpips), partial(score, pictures=pictures, lpips=lpips)
    return train_and_save(
        network, its_loss, crops.sample, its_score, settings, out, device, lambda trained: trained.decoder
    )


def tune_decoder(network: AdaptiveDeepJSCC) -> None:
    """Freeze all of a DeepJSCC except its decoder network, and set the decoder's aim to perception.

    Args:
        network: Network, changed in place.
    """
    network.requires_grad_(False)
    weights = network.decoder.state_dict()
    network.decoder = DecoderRefinement(**{**network.decoder.config, "aim": "perceptual"})
    network.decoder.load_state_dict(weights)


def loss(
    network: AdaptiveDeepJSCC,
    x: Float[Tensor, "batch 3 height width"],
    rng: SharedStreams,
    lpips: nn.Module,
) -> Tensor:
    """Training loss: logarithm of the relative squared error plus 3 LPIPS, at random operating points.

    Args:
        network: The DeepJSCC.
        x: Images in [0, 1], [batch, 3, height, width].
        rng: Random streams.
        lpips: LPIPS metric for images in [-1, 1].

    Returns:
        Scalar loss.
    """
    with torch.autocast(x.device.type, torch.bfloat16):
        point = Point.random(x, rng)
        with torch.no_grad():
            received = point.send(network, x, rng)
        shown = network.reconstruct(received, tuple(x.shape))
        distance = lpips(2 * shown.clamp(0, 1) - 1, 2 * x - 1).float().mean()
        return point.log_error(network, shown, x) + LPIPS_WEIGHT * distance


def score(network: AdaptiveDeepJSCC, pictures: Float[Tensor, "count 3 side side"], lpips: nn.Module) -> float:
    """Validation score in dB: PSNR less 13 dB times LPIPS, over AWGN.

    Args:
        network: The DeepJSCC.
        pictures: Images in [0, 1], [count, 3, side, side].
        lpips: LPIPS metric for images in [-1, 1].

    Returns:
        Score in dB, larger is better.
    """
    values = []
    for snr_db, inverse_rho in SCORED:
        shown = shown_at(network, pictures, snr_db, inverse_rho)
        for picture, image in zip(pictures.split(1), shown, strict=True):
            with torch.no_grad():
                distance = float(lpips(2 * image - 1, 2 * picture - 1))
            log_error = math.log(float((image - picture).square().mean()))
            values.append(-10 / math.log(10) * (log_error + LPIPS_WEIGHT * distance))
    return sum(values) / len(values)
