"""Network that predicts a frame from frames around it: a mean, and a diffusion model of what the mean misses.

    x = mu(c) + s(c) R,    c = (two frames before, two frames after, which of them are known)
    mu(c) = g moved(c) + (1 - g) nearest(c) + correction(c)

mu is deterministic: a mixture of what is known nearest in time and of the same moved on by the motion of
blocks between known frames, with weights g, and a correction by a network. R is drawn by a diffusion model
given c and mu, with the cosine schedule and prediction of v = alpha eps - sigma R. The map s = s0 + s1 d is
the usual size of what mu misses where neighbouring frames differ by d; s0 and s1 are fitted to training
sequences, so that R is of the size of 1 everywhere. The noise eps has variance 1 and is smooth over some
three pixels, as errors of prediction are.

The receiver predicts from its own predictions, and so does the transmitter: one level of difference would
grow from frame to frame. On inputs in float64 all layers therefore compute exactly, on the fixed-point grids
of `semcom.codecs.hyperprior`, whatever the order of sums: the frames are equal on any machine and with any
number of threads. In float32, for training, nothing is rounded.

Reference:
    Li, Liu, Niu, Bai, Deng and Gunduz, "Extreme video compression with pre-trained diffusion models",
    arXiv 2402.08934. Voleti, Jolicoeur-Martineau and Pal, "MCVD", NeurIPS 2022 (masked conditions).
    Salimans and Ho, "Progressive distillation for fast sampling of diffusion models", ICLR 2022 (v).
"""

import hashlib
import math
from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from semcom.codecs.hyperprior import WEIGHT_LIMIT, Conv, exact, fixed_point, leaky
from semcom.layers import padded_to_multiples
from semcom.surroundings import library_defaults
from semcom.video.motion import block_motion, compensated

BEFORE, AFTER = 2, 2
"""Number of frames before and after the predicted one that the network sees."""
SLOTS = BEFORE + AFTER
COLORS = 3
CONDITION = 96
"""Features of the condition of the residual blocks."""
BLOCK_SIDE, WINDOW = 4, 3
"""Side of the blocks whose motion is looked for, in pixels, and of the square of blocks that are compared."""
AROUND = 9
"""Side in pixels of the square over which differences of frames are averaged."""
UNKNOWN_DIFFERENCE = 0.1
SMOOTHED_STD = math.comb(16, 8)
"""Factor by which `smoothed` changes the standard deviation: the sum of comb(8, k)^2, a root per axis."""
RESIDUAL_LIMIT = 8.0
"""Largest magnitude of a sample of R, which has a standard deviation of 1."""


class Dense(nn.Linear):
    """Linear layer that is exact in float64."""

    def forward(self, input: Tensor) -> Tensor:
        """Map [batch, inputs] to [batch, outputs]."""
        if input.dtype != torch.float64:
            return super().forward(input)
        weight, bias = (fixed_point(p, WEIGHT_LIMIT) for p in (self.weight, self.bias))
        return exact(F.linear(input, weight, bias))


class Block(nn.Module):
    """Residual block x + conv(leaky((1 + a) conv(x) + b)), where a and b depend on a condition."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first = Conv(features, features, 3)
        self.second = Conv(features, features, 3)
        self.modulation = Dense(CONDITION, 2 * features)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        with torch.no_grad():
            self.second.weight.mul_(0.2)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Apply the block to features [batch, features, rows, columns] given a condition [batch, numbers]."""
        a, b = self.modulation(condition)[:, :, None, None].chunk(2, 1)
        return exact(x + self.second(leaky(exact(self.first(x) * (1 + a) + b))))


class UNet(nn.Module):
    """U-Net on patches, with one residual block per level on each way, and two on the coarsest level.

    Args:
        inputs: Channels of patches that go in.
        outputs: Channels of patches that come out.
        numbers: Numbers that the condition is made of.
        widths: Features on every grid, the finest first.
    """

    def __init__(self, inputs: int, outputs: int, numbers: int, widths: Sequence[int]) -> None:
        super().__init__()
        steps = list(pairwise(widths))
        self.embed = Dense(numbers, CONDITION)
        self.mix = Dense(CONDITION, CONDITION)
        self.into = Conv(inputs, widths[0], 3)
        self.fall = nn.ModuleList(Block(width) for width in widths[:-1])
        self.down = nn.ModuleList(Conv(4 * fine, coarse, 1) for fine, coarse in steps)
        self.coarsest = nn.ModuleList(Block(widths[-1]) for _ in range(2))
        self.up = nn.ModuleList(Conv(coarse, 4 * fine, 1) for fine, coarse in reversed(steps))
        self.rise = nn.ModuleList(Block(width) for width in reversed(widths[:-1]))
        self.out = Conv(widths[0], outputs, 3, zero=True)

    def forward(self, patches: Tensor, numbers: Tensor) -> Tensor:
        """Map patches [batch, inputs, rows, columns] to [batch, outputs, rows, columns].

        Args:
            patches: Patches; rows and columns are multiples of the coarsest level's.
            numbers: Numbers of the condition, [batch, numbers].

        Returns:
            Patches of the same rows and columns.
        """
        condition = leaky(self.mix(leaky(self.embed(numbers))))
        features = self.into(patches)
        passed: list[Tensor] = []
        for block, down in zip(self.fall, self.down, strict=True):
            features = block(features, condition)
            passed.append(features)
            features = down(F.pixel_unshuffle(features, 2))
        for block in self.coarsest:
            features = block(features, condition)
        for up, block in zip(self.up, self.rise, strict=True):
            features = exact(F.pixel_shuffle(up(features), 2) + passed.pop())
            features = block(features, condition)
        return self.out(features)


class FramePredictor(nn.Module):
    """Predictor of a frame in [-1, 1] from frames around it, of which any may be missing.

    Both networks are fully convolutional U-Nets on patches; frames of any size are padded to multiples of the
    coarsest patch.

    Args:
        widths: Features on every grid, the finest first; each grid has half the sides of the one before.
        patch: Side in pixels of a patch, which is one position of the finest grid.

    Example:
        >>> import torch
        >>> network = FramePredictor((8, 12, 16))
        >>> frames, known = torch.randn(1, 12, 40, 70), torch.ones(1, 4, 40, 70)
        >>> network.mean(frames, known, torch.zeros(1)).shape
        torch.Size([1, 3, 40, 70])
    """

    scale: Tensor

    @library_defaults()  # weights in single precision, whatever the caller's default
    def __init__(self, widths: Sequence[int] = (40, 80, 128), patch: int = 4) -> None:
        super().__init__()
        self.config = {"widths": list(widths), "patch": patch}
        self.patch = patch
        self.coarsest_patch = patch * 2 ** (len(widths) - 1)
        pixels = COLORS * patch**2
        self.mean_network = UNet(SLOTS * (pixels + 1) + pixels, pixels + patch**2, 1, widths)
        self.residual_network = UNet(SLOTS * (pixels + 1) + 2 * pixels + 1, pixels, 5, widths)
        self.register_buffer("scale", torch.tensor([0.02, 1.0]))

    @property
    def name(self) -> str:
        """Name of the weights file of this network, always "predictor"."""
        return "predictor"

    def digest(self) -> bytes:
        """SHA-256 of the parameters as they are stored, in fp16, in the order of their names."""
        found = hashlib.sha256()
        for key, value in sorted(self.state_dict().items()):
            found.update(key.encode() + value.detach().cpu().half().contiguous().numpy().tobytes())
        return found.digest()

    def in_fixed_point(self) -> "FramePredictor":
        """Copy in float64 with the parameters as stored, on their grid, whose results are exact."""
        copy = deepcopy(self)
        with torch.no_grad():
            for parameter in copy.parameters():
                parameter.data = fixed_point(parameter.data.half().float(), WEIGHT_LIMIT)
            copy.scale = fixed_point(copy.scale.half().float())
        return copy

    def mean(
        self,
        frames: Float[Tensor, "batch 12 height width"],
        known: Float[Tensor, "batch 4 height width"],
        noise_std: Float[Tensor, " batch"],
    ) -> Float[Tensor, "batch 3 height width"]:
        """Predict the mean mu(c) of a frame from the frames around it, without any noise.

        Args:
            frames: Frames at times -2, -1, +1, +2 from the predicted one, in [-1, 1]; 0 where missing.
            known: 1 where a frame is known, 0 where it is missing, in the same order.
            noise_std: Standard deviation of white noise in the frames, as far as it is known, from 0 to 0.3.

        Returns:
            The mean, in [-1, 1] up to overshoots.
        """
        height, width = frames.shape[2:]
        near, ahead = nearest(frames, known), moved(frames, known)
        extra = F.pixel_unshuffle(padded_to_multiples(ahead, self.coarsest_patch), self.patch)
        out = self.mean_network(torch.cat([self._patches(frames, known), extra], 1), noise_std[:, None])
        out = F.pixel_shuffle(out, self.patch)[:, :, :height, :width]
        share = (out[:, COLORS:] + 0.5).clamp(0, 1)
        return exact(near + exact(share * (ahead - near)) + out[:, :COLORS])

    def velocity(
        self,
        noisy: Float[Tensor, "batch 3 height width"],
        time: Float[Tensor, " batch"],
        frames: Float[Tensor, "batch 12 height width"],
        known: Float[Tensor, "batch 4 height width"],
        noise_std: Float[Tensor, " batch"],
        mean: Float[Tensor, "batch 3 height width"],
    ) -> Float[Tensor, "batch 3 height width"]:
        """Estimate v = alpha eps - sigma R of a residual R from its noisy version alpha R + sigma eps.

        Args:
            noisy: alpha R + sigma eps.
            time: Time t of the schedule in [0, 1], see `schedule`.
            frames: Frames around the predicted one, see `mean`.
            known: Which of them are known.
            noise_std: Standard deviation of the noise in the frames.
            mean: Output of `mean`.

        Returns:
            Estimate of v.
        """
        height, width = frames.shape[2:]
        extra = padded_to_multiples(torch.cat([mean, noisy], 1), self.coarsest_patch)
        size = padded_to_multiples(difference(frames, known), self.coarsest_patch)
        planes = F.pixel_unshuffle(extra, self.patch), exact(F.avg_pool2d(size, self.patch))
        patches = torch.cat([self._patches(frames, known), *planes], 1)
        alpha, sigma = schedule(time)
        numbers = torch.stack([time, alpha, sigma, (alpha - sigma).square(), noise_std], 1)
        v = self.residual_network(patches, exact(numbers))
        return F.pixel_shuffle(v, self.patch)[:, :, :height, :width]

    def draw(
        self,
        frames: Float[Tensor, "batch 12 height width"],
        known: Float[Tensor, "batch 4 height width"],
        noise_std: Float[Tensor, " batch"],
        noise: Float[Tensor, "batch 3 height width"],
        steps: int,
    ) -> Float[Tensor, "batch 3 height width"]:
        """Draw mu + s R, R by deterministic diffusion (DDIM, eta = 0) from given noise.

        Args:
            frames: Frames around the predicted one, see `mean`.
            known: Which of them are known.
            noise_std: Standard deviation of the noise in the frames.
            noise: Noise of variance 1, see `noise_of`.
            steps: Calls of the network, at least 1.

        Returns:
            A sample in [-1, 1] up to overshoots.
        """
        mean = self.mean(frames, known, noise_std)
        state = exact(noise)
        times = [torch.full_like(noise_std, 1 - step / steps) for step in range(steps + 1)]
        residual = torch.zeros_like(mean)
        for time, later in pairwise(times):
            alpha, sigma = (value[:, None, None, None] for value in schedule(time))
            v = self.velocity(state, time, frames, known, noise_std, mean)
            residual = exact(alpha * state - sigma * v).clamp(-RESIDUAL_LIMIT, RESIDUAL_LIMIT)
            alpha_later, sigma_later = (value[:, None, None, None] for value in schedule(later))
            state = exact(alpha_later * residual + sigma_later * exact(sigma * state + alpha * v))
        return exact(mean + self.spread(frames, known) * residual)

    def spread(
        self,
        frames: Float[Tensor, "batch 12 height width"],
        known: Float[Tensor, "batch 4 height width"],
    ) -> Float[Tensor, "batch 1 height width"]:
        """Usual size s(c) = s0 + s1 d of what the mean misses, in [-1, 1], for every pixel.

        Args:
            frames: Frames around the predicted one, see `mean`.
            known: Which of them are known.

        Returns:
            The map, above 0; d is that of `difference`.
        """
        offset, slope = self.scale.to(frames)
        return exact(offset + slope * difference(frames, known))

    def _patches(self, frames: Tensor, known: Tensor) -> Tensor:
        frames, known = (padded_to_multiples(x, self.coarsest_patch) for x in (frames, known))
        return torch.cat([F.pixel_unshuffle(frames, self.patch), F.avg_pool2d(known, self.patch)], 1)


def schedule(time: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine schedule: alpha = cos(pi t / 2), sigma = sin(pi t / 2); rounded to the grid in float64.

    Args:
        time: Time t from 0 (no noise) to 1 (noise alone).

    Returns:
        alpha and sigma, of the shape of t.

    Reference:
        Nichol and Dhariwal, "Improved denoising diffusion probabilistic models", ICML 2021, without offset.
    """
    angle = time * (math.pi / 2)
    return exact(angle.cos()), exact(angle.sin())


def nearest(
    frames: Float[Tensor, "batch 12 height width"], known: Float[Tensor, "batch 4 height width"]
) -> Float[Tensor, "batch 3 height width"]:
    """What is known nearest in time: a frame, the mean of one before and one after, or 0, mid-grey.

    Args:
        frames: Frames at times -2, -1, +1, +2, 0 where missing.
        known: 1 where a frame is known, in the same order.

    Returns:
        A frame.
    """
    far_before, before, after, far_after = frames.chunk(SLOTS, 1)
    m = known.chunk(SLOTS, 1)
    near, far = m[1] + m[2], m[0] + m[3]
    nearer = exact((before * m[1] + after * m[2]) / near.clamp_min(1))
    further = exact((far_before * m[0] + far_after * m[3]) / far.clamp_min(1))
    return torch.where(near > 0, nearer, further)


def moved(
    frames: Float[Tensor, "batch 12 height width"], known: Float[Tensor, "batch 4 height width"]
) -> Float[Tensor, "batch 3 height width"]:
    """What is known nearest in time, moved on by the motion of blocks of 4x4 pixels between two known frames.

    With the frames before and after, blocks move along straight lines between them; with two frames on one
    side alone, they continue the motion between these two. With fewer frames the result is `nearest`.

    Args:
        frames: Frames at times -2, -1, +1, +2 in [-1, 1], 0 where missing.
        known: 1 where a frame is known, in the same order; a frame is known as a whole or not at all.

    Returns:
        A frame.
    """
    flags = known[:, :, 0, 0] > 0
    there = flags.unbind(1)
    between = there[1] & there[2]
    onward, backward = there[0] & there[1] & ~there[2], there[2] & there[3] & ~there[1]
    shown = nearest(frames, known)
    levels = ((frames.detach() + 1) * 127.5).round().clamp(0, 255).float()
    for chosen, (a, b), times in (
        (between, (1, 2), (-1, 1)),
        (onward, (0, 1), (-2, -1)),
        (backward, (3, 2), (2, 1)),
    ):
        if not chosen.any():
            continue
        first, second = ((frames[chosen, 3 * slot : 3 * slot + 3]) for slot in (a, b))
        one, other = (levels[chosen, 3 * slot : 3 * slot + 3] for slot in (a, b))
        vectors = block_motion(one, other, times, BLOCK_SIDE, WINDOW)
        found = compensated(second, vectors, times[1], BLOCK_SIDE)
        if times == (-1, 1):
            found = exact((compensated(first, vectors, -1, BLOCK_SIDE) + found) / 2)
        shown = shown.index_copy(0, chosen.nonzero()[:, 0], found.to(shown))
    return shown


def difference(
    frames: Float[Tensor, "batch 12 height width"], known: Float[Tensor, "batch 4 height width"]
) -> Float[Tensor, "batch 1 height width"]:
    """Mean absolute difference of the two known frames nearest in time, around every pixel.

    The mean is over the colours and 9x9 pixels. The pair of frames is (-2, -1) if both are known, else
    (-1, +1), else (+1, +2). Where no such pair is known, the difference is taken to be 0.1.

    Args:
        frames: Frames at times -2, -1, +1, +2 in [-1, 1], 0 where missing.
        known: 1 where a frame is known, in the same order; a frame is known as a whole or not at all.

    Returns:
        The difference, from 0 to 2.
    """
    x, m = frames.chunk(SLOTS, 1), known.chunk(SLOTS, 1)
    found = torch.full_like(m[0], UNKNOWN_DIFFERENCE)
    for a, b in ((2, 3), (1, 2), (0, 1)):
        apart = exact((x[a] - x[b]).abs().mean(1, keepdim=True))
        around = exact(F.avg_pool2d(apart, AROUND, 1, AROUND // 2, count_include_pad=False))
        found = torch.where((m[a] > 0) & (m[b] > 0), around, found)
    return found


def predict_frame(
    network: FramePredictor,
    around: Sequence[UInt8[Tensor, "3 height width"] | None],
    noise: Float[Tensor, "3 height width"] | None = None,
    steps: int = 4,
) -> UInt8[Tensor, "3 height width"]:
    """Predict one frame of 8 bits, exactly, from the frames around it that there are.

    Args:
        network: A network in fixed point (`FramePredictor.in_fixed_point`).
        around: Frames at times -2, -1, +1, +2 from the predicted one; None for a missing one. One at least.
        noise: Noise to draw a sample with, see `noise_of`; None for the mean.
        steps: Calls of the network per sample.

    Returns:
        The frame.
    """
    like = next(frame for frame in around if frame is not None)
    blank = torch.zeros_like(like, dtype=torch.float64)
    known = torch.stack([torch.full(like.shape[1:], float(f is not None)) for f in around])[None].double()
    frames = torch.cat([blank if f is None else exact(f.double() / 127.5 - 1) for f in around])[None]
    none = torch.zeros(1, dtype=torch.float64)
    with torch.no_grad():
        if noise is None:
            shown = network.mean(frames, known, none)
        else:
            shown = network.draw(frames, known, none, noise[None].double(), steps)
    return ((shown[0] + 1) * 127.5).round().clamp(0, 255).byte()


def noise_of(seed: Sequence[int], shape: tuple[int, ...]) -> Float[Tensor, "... height width"]:
    """Draw smooth noise of variance 1 that is equal on every machine: sums of integers, without any rounding.

    A number of white noise is the sum of the 8 bytes of a word of the Philox generator, less its mean: a
    normal distribution up to 4.9 standard deviations. It is smoothed by `smoothed`.

    Args:
        seed: Integers from 0 to 2^32 - 1 that name the draw.
        shape: Shape of the draw, the last two numbers of which are height and width.

    Returns:
        Noise, float64.

    Reference:
        Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    words = np.random.Philox(np.random.SeedSequence(list(seed))).random_raw(math.prod(shape))
    parts = np.asarray(words, dtype="<u8").view(np.uint8).reshape(-1, 8)
    total = torch.from_numpy(parts.sum(1, dtype=np.int64) - 4 * 255).reshape(shape)
    return smoothed(total).double() / (SMOOTHED_STD * math.sqrt(8 * (256**2 - 1) / 12))


def smoothed(white: Shaped[Tensor, "... height width"]) -> Shaped[Tensor, "... height width"]:
    """Smooth noise by the binomial coefficients of order 8 along both axes, periodically.

    The standard deviation grows by the factor `SMOOTHED_STD`, for any height and width of at least 9. The
    coefficients are those of a normal distribution whose standard deviation is 1.4 pixels.

    Args:
        white: White noise, floating or whole numbers up to 2^45, for which the sums are exact.

    Returns:
        Smooth noise of the same shape and type.
    """
    for axis in (-2, -1):
        for _ in range(8):
            white = white + white.roll(1, axis)
    return white


def known_slots(
    known: Bool[Tensor, "batch 4"], size: tuple[int, int]
) -> Float[Tensor, "batch 4 height width"]:
    """Planes of 0 and 1 from one flag per frame.

    Args:
        known: Whether each frame is known, [batch, 4].
        size: Height and width of the planes.

    Returns:
        Planes, [batch, 4, height, width].
    """
    return cast(Tensor, known.float())[:, :, None, None].expand(-1, -1, *size)
