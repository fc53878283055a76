"""Training recipe of the refiner: decoded pictures and frames of all codecs, absolute error plus LPIPS."""

import logging
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from channels.streams import NamedStreams, SharedStreams
from semcom import zoo
from semcom.errors import InvalidOption
from semcom.metrics.perceptual import lpips_network
from semcom.prior import NaturalImagePrior
from semcom.refiner import PictureRefiner
from semcom.surroundings import library_defaults, own_random_numbers
from semcom.training.common import (
    CACHE,
    PHOTOS,
    VALIDATION,
    train_and_save,
    training_shard,
    validation_shard,
)
from semcom.training.crops import Crops
from semcom.training.frames import frame_pairs, held_out_frames
from semcom.training.loop import Settings
from semcom.training.pairs import COUNT, Pairs, held_out_pairs
from semcom.training.processes import own_device

STAGES = ((0.25, 2.0), (0.75, 4.0))
"""Share of the duration and weight of LPIPS of each stage of the training."""
LPIPS_DB = 13.0  # that an LPIPS of 1 is worth in the validation score
logger = logging.getLogger(__name__)


@library_defaults()
@own_random_numbers()
def train(
    seconds: float,
    out: Path,
    photos: Path = PHOTOS,
    validation: Path = VALIDATION,
    batch: int = 4,
    crop: int = 128,
    learning_rate: float = 4e-4,
    device: str = "cpu",
    start: Path | None = None,
    clips: Path | None = None,
) -> float:
    """Train the refiner, or continue training, and write `weights.safetensors` into `out`.

    Args:
        seconds: Duration in wall-clock seconds, without the coding of the pairs.
        out: Folder of `weights.safetensors`, and of a folder for each stage with its checkpoint and curve.
        photos: Folder of training pictures, or a shard made by `crops.pack`.
        validation: Folder of validation pictures, or a shard.
        batch: Crops per step.
        crop: Side of the crops in pixels, a multiple of 16.
        learning_rate: Peak learning rate of Adam in the first stage; half of it in the others.
        device: Device of the training.
        start: Weights of a refiner or a prior to start from, instead of the shipped prior.
        clips: Folder of clips. Half of every batch are then decoded frames of these clips, and of photographs
            in motion, for which `photos` and `validation` must be folders.

    Returns:
        Validation score in dB: PSNR less 13 dB times LPIPS, mean over all held-out codecs and qualities of 12
        pictures, and of frames of 12 sequences.

    Raises:
        MissingWeights: The SqueezeNet weights of LPIPS are not available, or `start` cannot be read.
        InvalidOption: `start` holds another network.
    """
    device = own_device(device)
    lpips = lpips_network("squeeze", torch.device(device))
    pairs = Pairs.load(training_shard(photos), COUNT, crop, device)
    held_out = held_out_pairs(Crops.load(validation_shard(validation), 256).pixels[::2], device)
    sample = pairs.sample
    if clips is not None:
        sample = partial(mixed, parts=(pairs, frame_pairs(photos, clips, CACHE, crop, device)))
        held_out += held_out_frames(validation, clips, device)
    its_score = partial(score, pairs=held_out, lpips=lpips)
    value = math.nan
    for number, (share, weight) in enumerate(STAGES):
        torch.manual_seed(0)
        network = started(start or zoo.find("prior"))
        network.requires_grad_(True)
        peak = learning_rate / (1 if number == 0 else 2)
        settings = Settings(share * seconds, batch, peak, ema_steps=200, validate_seconds=300.0)
        its_loss = partial(loss, lpips=lpips, weight=weight)
        folder = Path(out) / f"stage{number + 1}"
        value = train_and_save(network, its_loss, sample, its_score, settings, folder, device)
        start = folder / "weights.safetensors"
    zoo.save(zoo.read(start or zoo.find("prior")), Path(out) / "weights.safetensors")
    return value


def mixed(
    batch: int, generator: torch.Generator, parts: Sequence[Pairs]
) -> Float[Tensor, "batch 8 size size"]:
    """Draw a batch in equal shares from several sets of pairs.

    Args:
        batch: Number of windows.
        generator: Source of randomness.
        parts: Sets of pairs; the first ones give one window more if the batch is no multiple of their number.

    Returns:
        [batch, 8, size, size], as `Pairs.sample` draws them.
    """
    shares = [len(range(number, batch, len(parts))) for number in range(len(parts))]
    drawn = [part.sample(share, generator) for part, share in zip(parts, shares, strict=True) if share]
    return torch.cat(drawn)


def started(weights: Path) -> PictureRefiner:
    """Network with which a stage of the training starts.

    Args:
        weights: Weights of a refiner or a prior.

    Returns:
        The refiner, or one that is made from the prior.

    Raises:
        MissingWeights: The file cannot be read.
        InvalidOption: The file holds another network.
    """
    network = zoo.read(weights)
    if isinstance(network, NaturalImagePrior):
        return PictureRefiner.from_prior(network)
    if not isinstance(network, PictureRefiner):
        raise InvalidOption(
            f"{weights} holds a {type(network).__name__}; start from a PictureRefiner or a NaturalImagePrior"
        )
    return network


def loss(
    network: PictureRefiner,
    batch: Float[Tensor, "batch 8 size size"],
    rng: SharedStreams,
    lpips: nn.Module,
    weight: float,
) -> Tensor:
    """Training loss: mean absolute error plus `weight` times LPIPS.

    LPIPS sees both pictures mirrored, transposed and resized by a common random factor, so that the network
    cannot paint patterns that only the sampling grid of LPIPS does not see.

    Args:
        network: The refiner.
        batch: Picture, decoded picture, spread and scale, [batch, 8, size, size].
        rng: Random streams.
        lpips: LPIPS metric for images in [-1, 1].
        weight: Weight of LPIPS.

    Returns:
        Scalar loss.
    """
    clean, y = 2 * batch[:, :3] - 1, 2 * batch[:, 3:6] - 1
    spread, scale = batch[:, 6, 0, 0], batch[:, 7, 0, 0]
    noise = rng.normal("noise", tuple(clean.shape[1:]))
    with torch.autocast(clean.device.type, torch.bfloat16, enabled=clean.is_cuda):
        refined = network(y, spread, scale, noise)
        size, flip, transpose = rng.uniform("view", (3,))[0].tolist()
        both = torch.cat([refined, clean])
        both = both.flip(2) if flip < 0.5 else both
        both = both.transpose(2, 3) if transpose < 0.5 else both
        factor = 0.7 * (1.5 / 0.7) ** size
        both = nn.functional.interpolate(
            both, scale_factor=factor, mode="bicubic", antialias=True, align_corners=False
        )
        distance = lpips(*both.chunk(2)).float().mean()
    return (refined.float() - clean).abs().mean() + weight * distance


def score(network: PictureRefiner, pairs: Sequence[Pairs], lpips: nn.Module) -> float:
    """Validation score in dB: PSNR less 13 dB times LPIPS.

    Args:
        network: The refiner.
        pairs: Validation pictures with decoded pictures at several qualities.
        lpips: LPIPS metric for images in [-1, 1].

    Returns:
        Score in dB, larger is better.
    """
    total, count = 0.0, 0
    for held in pairs:
        values: list[tuple[float, float]] = []
        for i, piece in enumerate(held.crops.whole().split(1)):
            clean, y = 2 * piece[:, :3] - 1, 2 * piece[:, 3:] - 1
            noise = NamedStreams(0, (f"validation-{i}",)).normal("noise", tuple(y.shape[1:])).to(y)
            with torch.no_grad():
                shown = network(y, held.spread[i : i + 1], held.scale[i : i + 1], noise).clamp(-1, 1)
                distance = float(lpips(shown, clean))
            values.append((-10 * math.log10(float((shown - clean).square().mean()) / 4), distance))
        psnr_db, distance = (sum(column) / len(values) for column in zip(*values, strict=True))
        spread = float(held.spread.mean())
        logger.info(
            f"scale {float(held.scale[0]):g}, error {spread:.3f}: {psnr_db:.2f} dB, LPIPS {distance:.4f}"
        )
        total, count = total + psnr_db - LPIPS_DB * distance, count + 1
    return total / count
