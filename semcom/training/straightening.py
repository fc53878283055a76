"""Training recipe of straightened representations: frames in motion, encoder and decoder, one objective.

Two uses. `train` makes an encoder and decoder for the predictive latent link: the objective, and the squared
error of pictures that are decoded from noisy latents. `compare` trains an encoder alone on moving shapes for
a number of steps, to compare objectives at equal effort.
"""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from channels.streams import SharedStreams
from semcom import zoo
from semcom.errors import InvalidOption
from semcom.representation.sequences import (
    SIDE,
    Mixed,
    MovingGlyphs,
    MovingShapes,
    MovingWindows,
    SequenceSource,
)
from semcom.representation.straightening import OBJECTIVES, StraightAutoencoder, encoded
from semcom.surroundings import library_defaults, own_random_numbers
from semcom.training.common import PHOTOS, VALIDATION, train_and_save, training_shard, validation_shard
from semcom.training.crops import Crops
from semcom.training.loop import Settings, Training
from semcom.training.processes import own_device

DRAWN, LENGTH = 16, 6
"""Frames of a sequence, and how many of them in a row are trained on: clips of a second move slowly."""
STARTED_FROM = 1500
"""Frames whose principal components training starts from."""

SHARES = (0.4, 0.25, 0.35)
"""Shares of shapes, glyphs and windows over photographs."""
NOISE = 0.3
"""Largest standard deviation of the noise before the decoder, as a share of that of the latents."""
PICTURE_WEIGHT = 200.0
"""Weight of the squared error of decoded pictures in [0, 1]."""
HELD_OUT = 48
COMPARED_WIDTHS = (8, 16, 32, 64)
COMPARED_BATCH = 16


@library_defaults()
@own_random_numbers()
def train(
    seconds: float,
    out: Path,
    photos: Path = PHOTOS,
    validation: Path = VALIDATION,
    batch: int = 16,
    crop: int = SIDE,
    learning_rate: float = 3e-3,
    device: str = "cpu",
    start: Path | None = None,
    objective: str = "second-difference",
) -> float:
    """Train encoder and decoder, or continue training, and write `weights.safetensors` into `out`.

    Args:
        seconds: Duration in wall-clock seconds.
        out: Folder of the weights, of checkpoint and curve.
        photos: Folder of training pictures, or a shard made by `crops.pack`.
        validation: Folder of validation pictures, or a shard.
        batch: Sequences per step.
        crop: Side of the frames in pixels: 64.
        learning_rate: Peak learning rate of Adam.
        device: Device of the training.
        start: Weights of a network to start from.
        objective: Name of an objective, one of `OBJECTIVES`.

    Returns:
        Validation score in dB, see `score`.

    Raises:
        InvalidOption: There is no such objective, the frames have another side, or `start` holds another
            network.
        InvalidSource: No picture can be read.
        MissingWeights: `start` cannot be read.
    """
    if crop != SIDE:
        raise InvalidOption(f"frames of {crop}x{crop} pixels: the network codes {SIDE}x{SIDE} only")
    if objective not in OBJECTIVES:
        raise InvalidOption(f"objective {objective!r}: choose one of {', '.join(OBJECTIVES)}")
    device = own_device(device)
    sources = [
        mixed(Crops.load(shard, SIDE).pixels)
        for shard in (training_shard(photos), validation_shard(validation))
    ]
    held_out = sources[1].draw(HELD_OUT, DRAWN, torch.Generator().manual_seed(0)).frames.to(device)
    torch.manual_seed(0)
    if start is None:
        network = StraightAutoencoder()
        first = sources[0].draw(STARTED_FROM, 1, torch.Generator().manual_seed(1)).frames
        network.start_from(first.flatten(0, 1))
    else:
        network = zoo.read_as(start, StraightAutoencoder)
    settings = Settings(seconds, batch, learning_rate, 0.02, ema_steps=300, validate_seconds=60.0)
    return train_and_save(
        network,
        partial(loss, objective=objective),
        partial(sample, source=sources[0]),
        partial(score, held_out=held_out),
        settings,
        Path(out),
        device,
    )


def mixed(photos: Tensor) -> Mixed:
    """Source of the training sequences: coloured shapes and glyphs, and windows over photographs.

    Args:
        photos: Squares of photographs, uint8 [photos, side, side, 3].

    Returns:
        The source.
    """
    return Mixed((MovingShapes(3), MovingGlyphs(3), MovingWindows(photos)), SHARES)


def sample(
    batch: int, generator: torch.Generator, source: SequenceSource, drawn: int = DRAWN
) -> Float[Tensor, "batch length colors side side"]:
    """Draw a batch of sequences.

    Args:
        batch: Number of sequences.
        generator: Source of randomness.
        source: Source of the sequences.
        drawn: Number of frames of each, of which `LENGTH` in a row are kept.

    Returns:
        Frames in [0, 1], on the device of the generator.
    """
    seed = int(torch.randint(2**31 - 1, (), generator=generator, device=generator.device))
    frames = source.draw(batch, drawn, torch.Generator().manual_seed(seed)).frames
    first = seed % (drawn - LENGTH + 1)
    frames = frames[:, first : first + LENGTH]
    return frames.to(generator.device)


def loss(
    network: StraightAutoencoder,
    frames: Float[Tensor, "batch length colors side side"],
    rng: SharedStreams,
    objective: str,
) -> Tensor:
    """Objective of the latents, and squared error of the pictures decoded from them with noise.

    The mean of the latents follows along in `network.center`.

    Args:
        network: The network.
        frames: Frames in [0, 1].
        rng: Random numbers of the noise.
        objective: Name of the objective.

    Returns:
        Scalar.
    """
    z = encoded(network, frames).float()
    with torch.no_grad():
        network.center.lerp_(z.mean((0, 1)) + network.center, 0.01)
    share = NOISE * rng.uniform("share", (1,)).square()[:, :, None]
    noise = share * z.std() * rng.normal("noise", tuple(z.shape[1:]))
    shown = network.decode((z + noise).flatten(0, 1))
    error = (shown - frames.flatten(0, 1)).square().mean()
    return OBJECTIVES[objective].loss(z) + PICTURE_WEIGHT * error


@torch.no_grad()
def score(network: StraightAutoencoder, held_out: Float[Tensor, "batch length colors side side"]) -> float:
    """Validation score in dB: PSNR of pictures, plus half of the gain of extrapolation over repetition.

    Args:
        network: The network.
        held_out: Held-out sequences.

    Returns:
        Score in dB.
    """
    z = encoded(network, held_out)
    shown = network.decode(z.flatten(0, 1)).clamp(0, 1)
    errors = (shown - held_out.flatten(0, 1)).square().mean((1, 2, 3)).clamp_min(1e-6)
    v = z[:, 1:] - z[:, :-1]
    curved = (v[:, 1:] - v[:, :-1]).square().sum() / v[:, 1:].square().sum()
    return float(-10 * errors.log10().mean() - 5 * curved.log10())


@dataclass
class _Counted:
    """Batches of moving shapes, and a clock that ticks once per batch: training takes steps, not seconds."""

    drawn: int = 0

    def sample(self, batch: int, generator: torch.Generator) -> Tensor:
        self.drawn += 1
        return sample(batch, generator, MovingShapes(), LENGTH)

    def now(self) -> float:
        return float(self.drawn)


@library_defaults()
@own_random_numbers()
def compare(objective: str, seed: int, steps: int, out: Path) -> StraightAutoencoder:
    """Train an encoder of grey moving shapes for a number of steps, equal on every machine up to rounding.

    Args:
        objective: Name of an objective.
        seed: Seed of weights and sequences.
        steps: Number of steps of 16 sequences of 6 frames, at least 2.
        out: Folder of checkpoint and curve; a stopped run goes on from there.

    Returns:
        The network; its decoder is not trained.

    Raises:
        InvalidOption: There is no such objective, or too few steps.
    """
    if objective not in OBJECTIVES:
        raise InvalidOption(f"objective {objective!r}: choose one of {', '.join(OBJECTIVES)}")
    if steps < 2:
        raise InvalidOption(f"{steps} steps: train at least 2")
    torch.manual_seed(seed)
    network = StraightAutoencoder(1, 64, COMPARED_WIDTHS, (4, 4, 4, 4), linear=False)
    network.decoder.requires_grad_(False)
    counted = _Counted()
    wanted = OBJECTIVES[objective]

    def objective_loss(network: StraightAutoencoder, frames: Tensor, rng: SharedStreams) -> Tensor:
        return wanted.loss(encoded(network, frames))

    settings = Settings(
        float(steps),
        COMPARED_BATCH,
        2e-3,
        ema_steps=20,
        validate_seconds=math.inf,
        seed=seed,
        report_seconds=math.inf,
    )
    training = Training(
        network, objective_loss, counted.sample, lambda network: 0.0, settings, Path(out), counted.now
    )
    trained = training.run()
    assert isinstance(trained, StraightAutoencoder)
    return trained
