"""Training recipe of the learned codec: estimated rate plus squared error, at a random setting per crop."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from channels.streams import SharedStreams
from semcom import zoo
from semcom.codecs.hyperprior import BLOCK, LOG2_STEPS, SETTINGS, MeanScaleHyperprior
from semcom.errors import InvalidOption
from semcom.surroundings import library_defaults, own_random_numbers
from semcom.training.common import (
    PHOTOS,
    VALIDATION,
    train_and_save,
    training_crops,
    validation_pictures,
)
from semcom.training.crops import Crops
from semcom.training.loop import Settings
from semcom.training.processes import own_device

VALIDATED = (8, 18, 28, 38)  # 0.1 to 1 bit per pixel, about
LAMBDA = 0.13  # squared error per bit, in squared steps: what uniform quantisers with entropy coding trade
COARSEST, FINEST = 0.33, 4.4  # cost of the first and the last setting, about


def cost(squared_error: Tensor, bpp: Tensor, setting: Tensor) -> Tensor:
    """Rate-distortion cost: bits per pixel plus squared error of a pixel's three colours over lambda.

    Args:
        squared_error: Mean squared error, [batch].
        bpp: Bits per pixel, [batch].
        setting: Setting of each item, which fixes lambda, [batch].

    Returns:
        Cost, [batch].
    """
    table = torch.tensor([LAMBDA * 4**log2_step for log2_step in LOG2_STEPS]).to(squared_error)
    return bpp + 3 * squared_error / table[setting]


def weight(setting: Tensor) -> Tensor:
    """Weight of a setting in the loss, the inverse of its usual cost, so that no setting dominates.

    Args:
        setting: Settings, [batch].

    Returns:
        Weights, [batch].
    """
    return 1 / (COARSEST * (FINEST / COARSEST) ** (setting / (SETTINGS - 1)))


@library_defaults()
@own_random_numbers()
def train(
    seconds: float,
    out: Path,
    photos: Path = PHOTOS,
    validation: Path = VALIDATION,
    batch: int = 12,
    crop: int = 128,
    learning_rate: float = 1e-3,
    device: str = "cpu",
    start: Path | None = None,
    hard: bool = False,
    patience: int | None = None,
) -> float:
    """Train the learned codec, or continue training, and write `weights.safetensors` into `out`.

    Args:
        seconds: Duration in wall-clock seconds.
        out: Folder of `checkpoint.pt`, `curve.csv` and the weights.
        photos: Folder of training pictures, or a shard made by `crops.pack`.
        validation: Folder of validation pictures, or a shard.
        batch: Crops per step.
        crop: Side of the crops in pixels, a multiple of 16.
        learning_rate: Peak learning rate.
        device: Device of the training; bfloat16 is used on a CPU as well.
        start: Weights to start from instead of the statistics of the crops.
        hard: Train only the decoder's side, on the integers that would be sent. Otherwise rounding is
            replaced by noise, with which the encoder can be trained as well.
        patience: Validations without a better score after which to stop; see `Settings`.

    Reference:
        Guo et al., "Soft then hard: rethinking the quantization in neural image compression", ICML 2021.

    Returns:
        Validation score in dB: -10 log10 of the cost, mean over four settings.

    Raises:
        InvalidOption: The crop's side is not a multiple of the codec's block size.
    """
    if crop % BLOCK:
        raise InvalidOption(
            f"crops of {crop}x{crop}, but the codec has blocks of {BLOCK}x{BLOCK}; take a multiple of {BLOCK}"
        )
    device = own_device(device)
    crops = training_crops(photos, crop, device)
    pictures = validation_pictures(validation, device)

    def loss(network: MeanScaleHyperprior, x: Tensor, rng: SharedStreams) -> Tensor:
        setting = (rng.uniform("setting", (1,))[:, 0] ** 1.25 * SETTINGS).long().clamp(max=SETTINGS - 1)
        with torch.autocast(x.device.type, torch.bfloat16):
            x_hat, bpp = network(x, setting, None if hard else rng.uniform)
        squared_error = (x_hat.float() - x).square().mean((1, 2, 3))
        return (cost(squared_error, bpp, setting) * weight(setting)).mean()

    torch.manual_seed(0)
    if start is None:
        network = MeanScaleHyperprior()
        network.start_from(Crops(crops.pixels[:1000], crop).whole().cpu())
    else:
        network = zoo.read_as(start, MeanScaleHyperprior)
    if hard:
        for part in (network.analysis, network.gain_down, network.hyper_analysis):
            part.requires_grad_(False)
    settings = Settings(
        seconds, batch, learning_rate, validate_seconds=240.0, patience=patience, optimizer="muon"
    )
    its_score = partial(score_db, pictures=pictures)
    return train_and_save(network, loss, crops.sample, its_score, settings, out, device)


def score_db(network: MeanScaleHyperprior, pictures: Tensor) -> float:
    """Validation score in dB: -10 log10 of the mean cost of pictures, mean over the validated settings.

    Args:
        network: The network.
        pictures: Images in [0, 1], [count, 3, side, side].

    Returns:
        Score in dB, larger is better.
    """
    scores = []
    for number in VALIDATED:
        setting = torch.full((len(pictures),), number, device=pictures.device)
        squared_error, bpp = evaluate(network, pictures, setting)
        scores.append(-10 * torch.log10(cost(squared_error, bpp, setting).mean()))
    return float(torch.stack(scores).mean())


@torch.no_grad()
def evaluate(network: MeanScaleHyperprior, pictures: Tensor, setting: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared error after clipping, and estimated bits per pixel, of each picture.

    Args:
        network: The network.
        pictures: Images in [0, 1], [count, 3, side, side].
        setting: Setting of each picture, [count].

    Returns:
        Squared error and bits per pixel, [count] each.
    """
    pairs = zip(pictures.split(4), setting.split(4), strict=True)
    results = [(*network(x, number), x) for x, number in pairs]
    squared_error = [(x_hat.clamp(0, 1) - x).square().mean((1, 2, 3)) for x_hat, _, x in results]
    return torch.cat(squared_error), torch.cat([bpp for _, bpp, _ in results])
