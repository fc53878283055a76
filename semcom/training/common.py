"""Steps that all training recipes share: finding and cutting photographs, training a network, saving it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from semcom import zoo
from semcom.training.crops import Crops, shard_of
from semcom.training.loop import Loss, Sampler, Scorer, Settings, Training

PHOTOS = Path("../shared/data/photos/train")
"""Folder of training pictures, where a recipe is given no other."""
VALIDATION = Path("../shared/data/photos/val")
"""Folder of validation pictures, where a recipe is given no other."""
CACHE = Path(".cache/crops")


def training_shard(photos: Path) -> Path:
    """Find the shard of training pictures, or make it: 2000 squares of 224x224.

    Args:
        photos: Folder of training pictures, or a shard, which is taken as it is.

    Returns:
        Path of the shard.
    """
    return shard_of(photos, CACHE, count=2000, side=224)


def validation_shard(validation: Path, side: int = 256) -> Path:
    """Find the shard of validation pictures, or make it: 24 squares.

    Args:
        validation: Folder of validation pictures, or a shard, which is taken as it is.
        side: Side of the squares in pixels.

    Returns:
        Path of the shard.
    """
    return shard_of(validation, CACHE, count=24, side=side)


def training_crops(photos: Path, size: int, device: str) -> Crops:
    """Load the training pictures.

    Args:
        photos: Folder of training pictures, or a shard.
        size: Side of the windows in pixels.
        device: Device of the pixels.

    Returns:
        The crops.
    """
    return Crops.load(training_shard(photos), size, device)


def validation_pictures(
    validation: Path, device: str, side: int = 256
) -> Float[Tensor, "count colors side side"]:
    """Load the validation pictures.

    Args:
        validation: Folder of validation pictures, or a shard.
        device: Device of the pictures.
        side: Side of the pictures in pixels, where they are cut from a folder.

    Returns:
        Images in [0, 1], [count, 3, side, side].
    """
    return Crops.load(validation_shard(validation, side), side, device).whole()


def train_and_save(
    network: nn.Module,
    loss: Loss,
    sample: Sampler,
    score: Scorer,
    settings: Settings,
    out: Path,
    device: str,
    part: Callable[[Any], nn.Module] = lambda network: network,
) -> float:
    """Train a network, or continue training, and write `weights.safetensors` into a folder.

    Args:
        network: Network to train; it is moved to the device.
        loss: Loss of the network on a batch.
        sample: Draws a batch, for instance `Crops.sample`.
        score: Validation score, larger is better.
        settings: Duration, batch size and optimiser.
        out: Folder of `checkpoint.pt`, `curve.csv` and the weights.
        device: Device of the training.
        part: Part of the trained network that is written; all of it unless stated.

    Returns:
        Validation score of the weights written.

    Raises:
        TrainingDiverged: The training diverged, or the weights do not fit into fp16.
    """
    network = network.to(device).to(memory_format=torch.channels_last).train()
    training = Training(network, loss, sample, score, settings, out)
    zoo.save(part(training.run()), out / "weights.safetensors")
    return training.result.score
