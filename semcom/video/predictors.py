"""Predictors of the next frames of a clip from decoded ones: held, extrapolated, moved, or by a network."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from semcom.errors import InvalidOption
from semcom.video.network import AFTER, BEFORE, FramePredictor, noise_of, predict_frame

Frames = UInt8[Tensor, "count 3 height width"]
"""Frames of 8 bits, uint8 [count, 3, height, width]."""

Past = UInt8[Tensor, "known 3 height width"]
"""Past frames of 8 bits, the latest last, uint8 [known, 3, height, width]."""

BLOCK_SIDE = 8
REACH = 7
"""Largest motion in pixels per frame, in both directions, that block motion looks for."""
PENALTY = 24  # per pixel of motion, in sums of absolute differences over 192 values
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
        vectors = block_motion(past[-2], past[-1])
        return torch.stack([compensated(past[-1], vectors * ahead) for ahead in range(1, count + 1)])


def block_motion(
    earlier: UInt8[Tensor, "3 height width"], later: UInt8[Tensor, "3 height width"]
) -> Int[Tensor, "2 rows columns"]:
    """Motion of every block of 8x8 pixels between two frames, in whole pixels, found by full search.

    Args:
        earlier: Frame of 8 bits.
        later: Next frame, of the same size; its blocks are looked for in the earlier one.

    Returns:
        Downward and rightward motion in pixels per block, int64 [2, rows, columns], from -7 to 7.
    """
    height, width = later.shape[1:]
    rows, columns = -(-height // BLOCK_SIDE), -(-width // BLOCK_SIDE)
    padding = (REACH, REACH + columns * BLOCK_SIDE - width, REACH, REACH + rows * BLOCK_SIDE - height)
    # integers, so that sums are exact in any order
    reference = F.pad(earlier[None].float(), padding, mode="replicate")[0].to(torch.int16)
    target = F.pad(later[None].float(), (0, padding[1] - REACH, 0, padding[3] - REACH), mode="replicate")
    target = target[0].to(torch.int16)
    best = torch.full((rows, columns), 2**30, dtype=torch.int32)
    found = torch.zeros(2, rows, columns, dtype=torch.int64)
    reaches = range(-REACH, REACH + 1)
    for down, right in sorted(
        ((y, x) for y in reaches for x in reaches), key=lambda v: abs(v[0]) + abs(v[1])
    ):
        moved = reference[:, REACH - down :, REACH - right :][:, : target.shape[1], : target.shape[2]]
        blocks = (target - moved).abs().sum(0, dtype=torch.int32)
        cost = blocks.reshape(rows, BLOCK_SIDE, columns, BLOCK_SIDE).sum((1, 3), dtype=torch.int32)
        cost = cost + PENALTY * (abs(down) + abs(right))
        better = cost < best
        best = torch.where(better, cost, best)
        found[0] = torch.where(better, down, found[0])
        found[1] = torch.where(better, right, found[1])
    return found


def compensated(
    frame: UInt8[Tensor, "3 height width"], vectors: Int[Tensor, "2 rows columns"]
) -> UInt8[Tensor, "3 height width"]:
    """Frame in which every block shows what lies one vector back in a given frame.

    Args:
        frame: Frame of 8 bits.
        vectors: Downward and rightward motion in pixels of each block of 8x8, [2, rows, columns].

    Returns:
        A frame of the same size.
    """
    height, width = frame.shape[1:]
    down, right = vectors.repeat_interleave(BLOCK_SIDE, 1).repeat_interleave(BLOCK_SIDE, 2)[
        :, :height, :width
    ]
    rows = (torch.arange(height)[:, None] - down).clamp(0, height - 1)
    columns = (torch.arange(width) - right).clamp(0, width - 1)
    return frame[:, rows, columns]


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
