"""Refiner: a network that turns a decoded picture into one that looks like a photograph, in one call."""

import math
from collections.abc import Sequence
from itertools import pairwise, product

import torch
from jaxtyping import Float
from torch import Tensor, nn

from semcom.layers import Stage, condition_network, padded_to_multiples, zeroed
from semcom.prior import DATA_STD, NaturalImagePrior
from semcom.surroundings import library_defaults

SMOOTH = (1.0, 2.0, 1.0)
"""Taps of the low-pass filter between the grids of features."""
FLAT = (-1.0, 4.0, 10.0, 4.0, -1.0)
"""Taps of the low-pass filter between pixels and patches, which is flatter in the pass band."""
SURE = tuple(math.exp(-((tap / 6) ** 2) / 2) for tap in range(-18, 19))
"""Taps of the low-pass filter of what is kept of the decoded picture: a Gaussian of 6 pixels."""


class LowPass(nn.Module):
    """Fixed separable low-pass filter of unit gain at frequency 0; the edge is repeated outside the picture.

    Args:
        channels: Number of channels, each filtered alone.
        taps: Filter of odd length, in both directions; it is divided by its sum.
    """

    kernel: Tensor

    def __init__(self, channels: int, taps: Sequence[float]) -> None:
        super().__init__()
        self.channels = channels
        self.margin = len(taps) // 2
        row = torch.tensor(taps) / sum(taps)
        self.register_buffer("kernel", row.expand(channels, 1, 1, -1).clone(), persistent=False)

    def forward(self, x: Float[Tensor, "batch channels rows columns"]) -> Tensor:
        """Filter features [batch, channels, rows, columns]; the shape stays."""
        padded = nn.functional.pad(x, 4 * (self.margin,), mode="replicate")
        rows = nn.functional.conv2d(padded, self.kernel, groups=self.channels)
        return nn.functional.conv2d(rows, self.kernel.transpose(2, 3), groups=self.channels)


class PictureRefiner(nn.Module):
    """One-step refiner of decoded pictures y in [-1, 1], with seeded noise as raw material for texture.

        r = (y / s^2) / P + F([y / sqrt(s^2 + 1/4), z], log(s) / 4, log2(scale) / 4) / sqrt(P),
        P = 1 / s^2 + 4,  x_hat = r - G(r - y)

    with s the root mean square error of y and z three planes of white noise of variance 1. F is a U-Net of
    the shape of `NaturalImagePrior`, from whose weights its training starts. A U-Net that is fed with a
    smooth picture has only its own sampling grid to make texture of, and paints a pattern of the grid's
    period. Fixed low-pass filters before every halving and after every doubling of the resolution suppress
    that pattern, as in signal processing: `FLAT` between pixels and patches, `SMOOTH` between the grids.
    The low-pass filter G (`SURE`) keeps the colours of the decoded picture over all that is wider than some
    30 pixels, where a decoder is nearly right. The network is fully convolutional; a picture of any size is
    padded to multiples of the coarsest patch.

    Args:
        widths: Features on every grid, the finest first; each grid has half the sides of the one before.
        blocks: Residual blocks on every grid, on the way down and again on the way up, and on the coarsest.
        patch: Side in pixels of a patch, which is one position of the finest grid.

    Reference:
        Zhang, Making convolutional networks shift-invariant again, ICML 2019 (low-pass filters);
        Blau and Michaeli, The perception-distortion tradeoff, CVPR 2018.

    Example:
        >>> import torch
        >>> network = PictureRefiner((8, 16, 24), (1, 1, 1))
        >>> y, z = torch.randn(2, 1, 3, 40, 70)
        >>> network(y, torch.tensor([0.1]), torch.tensor([2.0]), z).shape
        torch.Size([1, 3, 40, 70])
    """

    @library_defaults()  # weights in single precision, whatever the caller's default
    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128, 192),
        blocks: Sequence[int] = (1, 1, 1, 2),
        patch: int = 2,
    ) -> None:
        super().__init__()
        self.config = {"widths": list(widths), "blocks": list(blocks), "patch": patch}
        self.patch = patch
        self.coarsest_patch = patch * 2 ** (len(widths) - 1)
        condition = 128
        finer = list(zip(widths[:-1], blocks[:-1], strict=True))
        steps = list(pairwise(widths))
        self.condition = condition_network(2, condition)
        self.before_patches = LowPass(6, FLAT)
        self.into = nn.Conv2d(6 * patch**2, widths[0], 3, padding=1)
        self.fall = nn.ModuleList(Stage(f, n, condition) for f, n in finer)
        self.down = nn.ModuleList(
            nn.Sequential(LowPass(fine, SMOOTH), nn.Conv2d(fine, coarse, 2, 2)) for fine, coarse in steps
        )
        self.coarsest = Stage(widths[-1], blocks[-1], condition)
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(coarse, 4 * fine, 1), nn.PixelShuffle(2), LowPass(fine, SMOOTH))
            for fine, coarse in reversed(steps)
        )
        self.rise = nn.ModuleList(Stage(f, n, condition) for f, n in reversed(finer))
        self.out = zeroed(nn.Conv2d(widths[0], 3 * patch**2, 3, padding=1))
        self.after_patches = LowPass(3, FLAT)
        self.sure = LowPass(3, SURE)

    def forward(
        self,
        y: Float[Tensor, "batch 3 height width"],
        spread: Float[Tensor, " batch"],
        scale: Float[Tensor, " batch"],
        noise: Float[Tensor, "batch 3 height width"],
    ) -> Float[Tensor, "batch 3 height width"]:
        """Turn decoded pictures into pictures that look like photographs.

        Args:
            y: Decoded pictures in [-1, 1], [batch, 3, height, width].
            spread: Root mean square error s of each picture in units of y, above 0, [batch].
            scale: Factor by which the codec reduced each picture, from 1 to 8, [batch].
            noise: White noise z of variance 1, of the shape of y; 0 gives a picture with less texture.

        Returns:
            Pictures in [-1, 1] up to overshoots, of the shape of y.
        """
        height, width = y.shape[2:]
        variance = spread[:, None, None, None].square()
        precision = 1 / variance + 1 / DATA_STD**2
        inputs = torch.cat([y / (variance + DATA_STD**2).sqrt(), noise], 1)
        inputs = padded_to_multiples(inputs, self.coarsest_patch)
        numbers = torch.stack([spread.log() / 4, scale.log2() / 4], 1)
        residual = self.residual(inputs, numbers)[:, :, :height, :width]
        change = y / variance / precision + residual / precision.sqrt() - y
        return y + change - self.sure(change)

    def residual(
        self, inputs: Float[Tensor, "batch 6 height width"], numbers: Float[Tensor, "batch 2"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Network output F for pictures whose sides are multiples of the coarsest patch.

        Args:
            inputs: Normalised pictures and noise, [batch, 6, height, width].
            numbers: Spread and scale as features, [batch, 2].

        Returns:
            F, [batch, 3, height, width].
        """
        condition = self.condition(numbers)
        features = self.into(nn.functional.pixel_unshuffle(self.before_patches(inputs), self.patch))
        passed = []
        for stage, down in zip(self.fall, self.down, strict=True):
            features = stage(features, condition)
            passed.append(features)
            features = down(features)
        features = self.coarsest(features, condition)
        for up, stage in zip(self.up, self.rise, strict=True):
            features = stage(up(features) + passed.pop(), condition)
        return self.after_patches(nn.functional.pixel_shuffle(self.out(features), self.patch).float())

    @classmethod
    def from_prior(cls, prior: NaturalImagePrior) -> "PictureRefiner":
        """Make a network to be trained from the weights of a prior.

        Of its inputs, the scale starts with weights of 0, and the noise with weights of `NOISE_STD`.

        Args:
            prior: Unconditional network.

        Returns:
            A network that differs from the prior by its low-pass filters and by its two inputs more.
        """
        network = cls(*(prior.config[key] for key in ("widths", "blocks", "patch")))
        own, weights = network.state_dict(), dict(prior.state_dict())
        for key in list(weights):
            for part, place in (("down", 1), ("up", 0)):
                if key.startswith(f"{part}."):
                    _, number, kind = key.split(".")
                    weights[f"{part}.{number}.{place}.{kind}"] = weights.pop(key)
        known = weights["into.weight"].shape[1]
        into = torch.randn(own["into.weight"].shape, generator=torch.Generator().manual_seed(0)) * NOISE_STD
        into[:, :known] = weights["into.weight"]
        numbers = torch.zeros_like(own["condition.0.weight"])
        numbers[:, :1] = weights["condition.0.weight"]
        network.load_state_dict({**weights, "into.weight": into, "condition.0.weight": numbers})
        return network


TILE = 768
"""Largest side in pixels of the tiles in which pictures are refined, a multiple of the coarsest patch.

A tile and its margin need 0.6 GB of memory; tiles of 1024 need 0.9 GB, and 16 % less time.
"""
MARGIN = 192
"""Pixels around a tile that the network sees as well; its output depends on no pixel further away."""


def in_tiles(
    network: PictureRefiner,
    y: Float[Tensor, "1 3 height width"],
    spread: float,
    scale: int,
    noise: Float[Tensor, "1 3 height width"],
    tile: int = TILE,
) -> Float[Tensor, "1 3 height width"]:
    """Refine a picture of any size, a large one in tiles, which bounds the memory.

    Tiles have no seams: the network sees `MARGIN` pixels around every tile, and its output depends on no
    pixel further away, so that the result is that of the whole picture up to rounding.

    Args:
        network: The network.
        y: Decoded picture in [-1, 1], [1, 3, height, width].
        spread: Root mean square error of y, above 0.
        scale: Factor by which the codec reduced the picture, 1, 2, 4 or 8.
        noise: White noise of variance 1, of the shape of y.
        tile: Largest side of the tiles in pixels, a multiple of the network's coarsest patch.

    Returns:
        The refined picture, [1, 3, height, width].
    """
    device = next(network.parameters()).device
    told = torch.tensor([spread], device=device), torch.tensor([float(scale)], device=device)
    across, along = (pieces(side, tile, network.coarsest_patch) for side in y.shape[2:])
    refined = torch.empty_like(y)
    for (rows, seen_rows), (columns, seen_columns) in product(across, along):
        piece, texture = (part[:, :, seen_rows, seen_columns].to(device) for part in (y, noise))
        shown = network(piece, told[0], told[1], texture).to(y)
        shown = shown[:, :, rows.start - seen_rows.start :, columns.start - seen_columns.start :]
        refined[:, :, rows, columns] = shown[:, :, : rows.stop - rows.start, : columns.stop - columns.start]
    return refined


def pieces(side: int, tile: int, patch: int) -> list[tuple[slice, slice]]:
    """Divide one side of a picture into equal tiles, with the pixels that the network sees for each tile.

    What is seen begins at multiples of the coarsest patch and, padded to such multiples, has the same length
    for all tiles: the memory that one tile gave back then fits the next one.

    Args:
        side: Length in pixels.
        tile: Largest length of a tile, a multiple of the coarsest patch.
        patch: Side of the coarsest patch.

    Returns:
        For each tile the pixels that it holds, and the pixels that the network sees.
    """
    count = math.ceil(side / tile)
    length = math.ceil(side / count / patch) * patch
    seen = length + min(count - 1, 2) * MARGIN
    last = math.ceil(side / patch) * patch - seen
    found: list[tuple[slice, slice]] = []
    for start in range(0, side, length):
        first = max(0, min(start - MARGIN, last))
        found.append((slice(start, min(start + length, side)), slice(first, min(first + seen, side))))
    return found


NOISE_STD = 0.03
"""Standard deviation of the weights with which the training starts to look at the noise."""
