"""Predictors of the next frames of a clip from decoded ones: held, extrapolated, moved, or by a network."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor

from semcom.errors import InvalidOption
from semcom.video.motion import block_motion, compensated
from semcom.video.network import AFTER, BEFORE, FramePredictor, noise_of, predict_frame

Frames = UInt8[Tensor, "count 3 height width"]
"""Frames of 8 bits, uint8 [count, 3, height, width]."""

Past = UInt8[Tensor, "known 3 height width"]
"""Past frames of 8 bits, the latest last, uint8 [known, 3, height, width]."""

STEPS = 4
"""Calls of the diffusion network per frame."""
DIGEST_BYTES = 4


@runtime_checkable
class Predictor(Protocol):
    """A predictor of the frames that follow, which transmitter and receiver both run.

    All that goes in and comes out has 8 bits, and equal arguments give equal frames on every machine and with
    any number of threads, since predictions are made from predictions.
    """

    @property
    def name(self) -> str:
        """Canonical name of the predictor, for instance "hold"."""
        ...

    @property
    def frames_needed(self) -> int:
        """Number of past frames that it looks at, 1 or 2; it also works with fewer, but at least 1."""
        ...

    @property
    def is_random(self) -> bool:
        """Whether other seeds give other frames."""
        ...

    @property
    def digest(self) -> bytes:
        """First 4 bytes of the digest of its network's parameters; empty without a network."""
        ...

    def predict(self, past: Past, count: int, seed: Sequence[int]) -> Frames:
        """Predict the frames that follow.

        Args:
            past: Decoded frames, the latest last, uint8 [k, 3, height, width], k from 1 to `frames_needed`.
            count: Number of frames to predict, at least 1.
            seed: Integers from 0 to 2^32 - 1 that name the random numbers: seed of the clip, index of the
                first predicted frame in the clip, number of the sample.

        Returns:
            The frames, uint8 [count, 3, height, width].
        """
        ...


@dataclass(frozen=True)
class HoldLast:
    """Predictor that repeats the last frame."""

    @property
    def name(self) -> str:
        """Name of the predictor: "hold"."""
        return "hold"

    @property
    def frames_needed(self) -> int:
        """The number of past frames that it looks at: one."""
        return 1

    @property
    def is_random(self) -> bool:
        """False: every seed gives the same frames."""
        return False

    @property
    def digest(self) -> bytes:
        """Empty: there is no network."""
        return b""

    def predict(self, past: Past, count: int, seed: Sequence[int]) -> Frames:
        """Repeat the last of the past frames `count` times; the seed is not used."""
        return past[-1:].expand(count, -1, -1, -1).clone()


@dataclass(frozen=True)
class Linear:
    """Predictor that continues every pixel along a straight line: x(t+1) = 2 x(t) - x(t-1), cut to 0..255."""

    @property
    def name(self) -> str:
        """Name of the predictor: "linear"."""
        return "linear"

    @property
    def frames_needed(self) -> int:
        """Two past frames; from a single one it is held."""
        return 2

    @property
    def is_random(self) -> bool:
        """False: every seed gives the same frames."""
        return False

    @property
    def digest(self) -> bytes:
        """Empty: there is no network."""
        return b""

    def predict(self, past: Past, count: int, seed: Sequence[int]) -> Frames:
        """Continue the two last frames pixel by pixel; the seed is not used."""
        last = past[-1].int()
        step = last - past[max(0, len(past) - 2)].int()
        ahead = torch.arange(1, count + 1, dtype=torch.int32)[:, None, None, None]
        return (last + ahead * step).clamp(0, 255).byte()


@dataclass(frozen=True)
class BlockMotion:
    """Predictor that moves every block of 8x8 pixels on as it moved between the last two decoded frames.

    A vector minimises the sum of absolute differences over the block plus a penalty that keeps flat blocks in
    place. Nothing about motion is sent. The frame k steps ahead is read from the last one k vectors back;
    outside the frame its edge is repeated.
    """

    @property
    def name(self) -> str:
        """Name of the predictor: "block"."""
        return "block"

    @property
    def frames_needed(self) -> int:
        """Two past frames; from a single one it is held."""
        return 2

    @property
    def is_random(self) -> bool:
        """False: every seed gives the same frames."""
        return False

    @property
    def digest(self) -> bytes:
        """Empty: there is no network."""
        return b""

    def predict(self, past: Past, count: int, seed: Sequence[int]) -> Frames:
        """Move the blocks of the last frame on; the seed is not used."""
        if len(past) < 2:
            return HoldLast().predict(past, count, seed)
        vectors = block_motion(past[-2:-1], past[-1:])
        return torch.cat([compensated(past[-1:], vectors, -ahead) for ahead in range(1, count + 1)])


@dataclass(frozen=True)
class MeanNetwork:
    """Predictor by the mean of a trained network, one frame after the other, each rounded to 8 bits.

    Args:
        network: Trained network, for instance `zoo.load("predictor")`.
    """

    network: FramePredictor
    _exact: FramePredictor = field(init=False, repr=False, compare=False)
    _digest: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_exact", self.network.in_fixed_point())
        object.__setattr__(self, "_digest", self.network.digest()[:DIGEST_BYTES])

    @property
    def name(self) -> str:
        """Name of the predictor: "mean"."""
        return "mean"

    @property
    def frames_needed(self) -> int:
        """Two past frames; a missing one is masked."""
        return BEFORE

    @property
    def is_random(self) -> bool:
        """False: every seed gives the same frames."""
        return False

    @property
    def digest(self) -> bytes:
        """First 4 bytes of the digest of the parameters."""
        return self._digest

    def predict(self, past: Past, count: int, seed: Sequence[int]) -> Frames:
        """Predict frame after frame from the last two; the seed is not used."""
        shown = list(past)
        for _ in range(count):
            shown.append(predict_frame(self._exact, _around(shown)))
        return torch.stack(shown[len(past) :])


@dataclass(frozen=True)
class Diffusion:
    """Predictor by the mean of a trained network plus a sample of what the mean misses.

    Args:
        network: Trained network, for instance `zoo.load("predictor")`.
        steps: Calls of the diffusion network per frame, 1 to 100.

    Raises:
        InvalidOption: The number of steps is out of range.
    """

    network: FramePredictor
    steps: int = STEPS
    _exact: FramePredictor = field(init=False, repr=False, compare=False)
    _digest: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 100:
            raise InvalidOption(f"diffusion with {self.steps} steps: choose 1 to 100")
        object.__setattr__(self, "_exact", self.network.in_fixed_point())
        object.__setattr__(self, "_digest", self.network.digest()[:DIGEST_BYTES])

    @property
    def name(self) -> str:
        """Name of the predictor: "diffusion", or "diffusion-10" with another number of steps than 4."""
        return "diffusion" if self.steps == STEPS else f"diffusion-{self.steps}"

    @property
    def frames_needed(self) -> int:
        """Two past frames; a missing one is masked."""
        return BEFORE

    @property
    def is_random(self) -> bool:
        """True: each seed gives another sample."""
        return True

    @property
    def digest(self) -> bytes:
        """First 4 bytes of the digest of the parameters."""
        return self._digest

    def predict(self, past: Past, count: int, seed: Sequence[int]) -> Frames:
        """Draw frame after frame from the last two, with noise that the seed names."""
        shown = list(past)
        for number in range(count):
            noise = noise_of((*seed, number), tuple(past.shape[1:]))
            shown.append(predict_frame(self._exact, _around(shown), noise, self.steps))
        return torch.stack(shown[len(past) :])


def _around(shown: list[Tensor]) -> list[Tensor | None]:
    """The frames that the network looks at: the last two, or None for one that is missing; none after."""
    missing: list[Tensor | None] = [None] * max(0, BEFORE - len(shown))
    after: list[Tensor | None] = [None] * AFTER
    return missing + shown[-BEFORE:] + after


def concealed(network: FramePredictor, frames: Sequence[Tensor | None]) -> list[Tensor]:
    """Fill the gaps of a clip by the mean of a network, from any frames that survived on either side.

    A gap is filled from its ends inwards, at each step the frame with the most neighbours; what has been
    filled is a neighbour of the next.

    Args:
        network: Trained network.
        frames: Frames of 8 bits, [3, height, width] each; None for a lost one. At least one is there.

    Returns:
        All frames.

    Raises:
        InvalidOption: All frames are lost.
    """
    if all(frame is None for frame in frames):
        raise InvalidOption(f"all {len(frames)} frames are lost; at least one is needed to fill gaps from")
    exact = network.in_fixed_point()
    shown = list(frames)

    def neighbours(t: int) -> list[Tensor | None]:
        places = [t + offset for offset in (*range(-BEFORE, 0), *range(1, AFTER + 1))]
        return [shown[place] if 0 <= place < len(shown) else None for place in places]

    def weight(t: int) -> tuple[int, int]:
        known = [n is not None for n in neighbours(t)]
        return sum(known[BEFORE - 1 : BEFORE + 1]), sum(known)

    while any(frame is None for frame in shown):
        gaps = [t for t, frame in enumerate(shown) if frame is None]
        t = max(gaps, key=weight)
        shown[t] = predict_frame(exact, neighbours(t))
    return [frame for frame in shown if frame is not None]
