"""Diffusion prior for natural images: a small convolutional denoiser for all noise levels and sizes."""

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from semcom.layers import Stage, condition_network, padded_to_multiples, zeroed
from semcom.surroundings import library_defaults

DATA_STD = 0.5  # of pixels in [-1, 1]


class NaturalImagePrior(nn.Module):
    """Denoiser D(x, sigma) = E[x0 | x0 + sigma n = x] of photographs in [-1, 1]: a U-Net on small patches.

        D = (x / sigma^2) / P + F / sqrt(P),  P = 1 / sigma^2 + 1 / s^2

    with s = 0.5: the posterior mean for white Gaussian pictures, plus the output of a network F in units of
    its error, so that F has a target of variance 1 at every level. The network is fully convolutional: a
    picture of any size is padded to multiples of the coarsest patch, by reflection or, where too small,
    repetition.

    Args:
        widths: Features on every grid, the finest first; each grid has half the sides of the one before.
        blocks: Residual blocks on every grid, on the way down and again on the way up, and on the coarsest.
        patch: Side in pixels of a patch, which is one position of the finest grid.

    Reference:
        Karras, Aittala, Aila and Laine, Elucidating the design space of diffusion-based generative models,
        NeurIPS 2022, section 5 (preconditioning).

    Example:
        >>> import torch
        >>> NaturalImagePrior((8, 16, 24), (1, 1, 1))(torch.randn(1, 3, 40, 70), torch.tensor([0.5])).shape
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
        self.condition = condition_network(1, condition)
        self.into = nn.Conv2d(3 * patch**2, widths[0], 3, padding=1)
        finer = list(zip(widths[:-1], blocks[:-1], strict=True))
        steps = list(pairwise(widths))
        self.fall = nn.ModuleList(Stage(f, n, condition) for f, n in finer)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, 2) for fine, coarse in steps)
        self.coarsest = Stage(widths[-1], blocks[-1], condition)
        self.up = nn.ModuleList(nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in reversed(steps))
        self.rise = nn.ModuleList(Stage(f, n, condition) for f, n in reversed(finer))
        self.out = zeroed(nn.Conv2d(widths[0], 3 * patch**2, 3, padding=1))

    @property
    def name(self) -> str:
        """Name of the weights file of this network, always "prior"."""
        return "prior"

    def forward(
        self, x: Float[Tensor, "batch 3 height width"], sigma: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Posterior mean of x0, in [-1, 1] up to errors.

        Args:
            x: Noisy pictures x0 + sigma n, [batch, 3, height, width].
            sigma: Noise level of each item, above 0, [batch].

        Returns:
            Denoised pictures, [batch, 3, height, width].
        """
        height, width = x.shape[2:]
        level = sigma[:, None, None, None]
        precision = 1 / level**2 + 1 / DATA_STD**2
        inputs = x / (level**2 + DATA_STD**2).sqrt()
        padded = padded_to_multiples(inputs, self.coarsest_patch)
        residual = self.residual(padded, (sigma.log() / 4)[:, None])[:, :, :height, :width]
        return x / level**2 / precision + residual / precision.sqrt()

    def residual(
        self, inputs: Float[Tensor, "batch 3 height width"], numbers: Float[Tensor, "batch 1"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Network output F for pictures whose sides are multiples of the coarsest patch.

        Args:
            inputs: Normalised pictures, [batch, 3, height, width].
            numbers: Noise level as a feature, [batch, 1].

        Returns:
            F, [batch, 3, height, width].
        """
        condition = self.condition(numbers)
        features = self.into(nn.functional.pixel_unshuffle(inputs, self.patch))
        passed = []
        for stage, down in zip(self.fall, self.down, strict=True):
            features = stage(features, condition)
            passed.append(features)
            features = down(features)
        features = self.coarsest(features, condition)
        for up, stage in zip(self.up, self.rise, strict=True):
            features = nn.functional.pixel_shuffle(up(features), 2) + passed.pop()
            features = stage(features, condition)
        return nn.functional.pixel_shuffle(self.out(features), self.patch).float()
