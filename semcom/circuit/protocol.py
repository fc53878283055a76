"""Stimuli and training protocols of the familiarity circuit: association of noisy with clean pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from semcom.circuit.circuit import (
    PUBLISHED,
    RESPONSE_MS,
    Circuit,
    Plasticity,
    initial_thresholds,
    train_epoch,
)
from semcom.errors import InvalidOption, InvalidSource

LEVELS = (0.0, 0.1, 0.3, 0.5)
"""Shares of pixels that noise replaces."""

PATTERNS = 10
"""Noise patterns per level."""

EPOCHS = 5
"""Epochs of training."""

CONTRAST = 0.2
"""Standard deviation of pixels that a stimulus must exceed, for pixels in [0, 1]."""

FAMILIARITY = Plasticity(gain=25.0)
"""Learning rule of the familiarity experiment."""


@dataclass(frozen=True, eq=False, slots=True)
class Trained:
    """A circuit with its thresholds, after some epochs.

    Args:
        circuit: The circuit.
        thresholds: BCM thresholds, [cells].
    """

    circuit: Circuit
    thresholds: Float[np.ndarray, " cells"]


def noisy_versions(
    pictures: Float[np.ndarray, "pictures height width"],
    levels: Sequence[float] = LEVELS,
    patterns: int = PATTERNS,
    seed: int = 0,
) -> Float[np.ndarray, "pictures levels patterns height width"]:
    """Replace a share of the pixels by numbers from U[0, 1]: the same pixels and numbers in all pictures.

    Args:
        pictures: Grey pictures in [0, 1].
        levels: Shares of pixels to replace, 0..1.
        patterns: Noise patterns per level, at least 1.
        seed: Seed of the noise.

    Returns:
        Noisy pictures.

    Raises:
        InvalidOption: A level is outside 0..1, or there are no levels or patterns.
        InvalidSource: The pictures are not finite, or there is none.

    Example:
        >>> noisy_versions(np.zeros((1, 8, 8)), (0.0, 0.25), 1).astype(bool).sum(axis=(3, 4)).tolist()
        [[[0], [16]]]
    """
    if patterns < 1 or not levels or not all(0 <= level <= 1 for level in levels):
        raise InvalidOption(
            f"noise levels {tuple(levels)} x {patterns} patterns: levels lie in 0..1, patterns >= 1"
        )
    if pictures.ndim != 3 or not len(pictures):
        raise InvalidSource(
            f"pictures of shape {pictures.shape}: expected [pictures, height, width], at least one"
        )
    if not np.isfinite(pictures).all():
        raise InvalidSource("picture has values that are not finite (NaN or infinity); clean it first")
    rng = np.random.default_rng([seed, 1])
    count, pixels = len(pictures), pictures[0].size
    found = np.empty((count, len(levels), patterns, pixels))
    for i, level in enumerate(levels):
        for j in range(patterns):
            replaced, values = rng.permutation(pixels) < round(level * pixels), rng.random(pixels)
            found[:, i, j] = np.where(replaced, values, pictures.reshape(count, pixels))
    return found.reshape(count, len(levels), patterns, *pictures.shape[1:])


def association_trials(
    codes: Float[np.ndarray, "pictures levels patterns cells"], seed: int
) -> Float[np.ndarray, "trials frames cells"]:
    """Trials of one epoch: a noisy picture, then the clean one of the same picture.

    The first trial of each picture is clean and clean. All noisy versions follow in random order, whichever
    picture they are of.

    Args:
        codes: Feed-forward input of `noisy_versions`; the first level is the clean one.
        seed: Seed of the order, usually the number of the epoch.

    Returns:
        Two frames for each trial; (1 + (levels - 1) patterns) trials per picture.
    """
    clean = codes[:, 0, 0]
    first = np.stack([clean, clean], axis=1)
    noisy = codes[:, 1:]
    after = np.broadcast_to(clean[:, None, None], noisy.shape)
    pairs = np.stack([noisy, after], axis=3).reshape(-1, 2, codes.shape[-1])
    return np.concatenate([first, pairs[np.random.default_rng([seed, 2]).permutation(len(pairs))]])


def associate(
    circuit: Circuit,
    codes: Float[np.ndarray, "pictures levels patterns cells"],
    epochs: int = EPOCHS,
    *,
    frame_ms: int = RESPONSE_MS,
    rule: Plasticity = PUBLISHED,
    seed: int = 0,
) -> list[Trained]:
    """Train a circuit to associate noisy pictures with clean ones.

    Args:
        circuit: The untrained circuit.
        codes: Feed-forward input of `noisy_versions`; the first level is the clean one.
        epochs: Number of epochs, at least 0.
        frame_ms: Duration of each frame in ms, at least 1.
        rule: Learning rule.
        seed: Seed of the order of trials.

    Returns:
        The circuit before training and after every epoch.

    Raises:
        InvalidSource: The codes do not suit the circuit.
        InvalidOption: No cell responds to any picture.
    """
    thresholds = initial_thresholds(circuit, codes.reshape(-1, codes.shape[-1]), steps=frame_ms)
    found = [Trained(circuit, thresholds)]
    for epoch in range(epochs):
        trials = association_trials(codes, seed * epochs + epoch)
        found.append(Trained(*train_epoch(*_parts(found[-1]), trials, frame_ms=frame_ms, rule=rule)))
    return found


def familiarise(
    circuit: Circuit,
    codes: Float[np.ndarray, "pictures cells"],
    epochs: int = EPOCHS,
    *,
    frame_ms: int = RESPONSE_MS,
    rule: Plasticity = FAMILIARITY,
    seed: int = 0,
) -> list[Trained]:
    """Show clean pictures to a learning circuit again and again, each from rest, in random order.

    Args:
        circuit: The untrained circuit.
        codes: Feed-forward input of each picture.
        epochs: Number of epochs, at least 0.
        frame_ms: Duration of each picture in ms, at least 1.
        rule: Learning rule.
        seed: Seed of the order.

    Returns:
        The circuit before training and after every epoch.

    Raises:
        InvalidSource: The codes do not suit the circuit.
        InvalidOption: No cell responds to any picture.
    """
    found = [Trained(circuit, initial_thresholds(circuit, codes, steps=frame_ms))]
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch, 3]).permutation(len(codes))
        found.append(
            Trained(*train_epoch(*_parts(found[-1]), codes[order][:, None], frame_ms=frame_ms, rule=rule))
        )
    return found


def _parts(trained: Trained) -> tuple[Circuit, np.ndarray]:
    return trained.circuit, trained.thresholds
