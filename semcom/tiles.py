"""Tiled application of denoisers to large pictures, for networks of fixed size or large memory needs."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from semcom.denoisers import Denoiser
from semcom.errors import InvalidOption


@dataclass(frozen=True, eq=False)
class Tiled:
    """A denoiser applied to overlapping tiles, blended with weights that fall linearly over the overlap.

    Args:
        denoiser: Denoiser for tiles of `size` x `size`; smaller pictures pass through it whole.
        size: Side of the tiles in pixels.
        overlap: Overlap of neighbouring tiles in pixels, at least 0 and below half the size.

    Raises:
        InvalidOption: An argument is out of range.
    """

    denoiser: Denoiser
    size: int = 1024
    overlap: int = 64

    def __post_init__(self) -> None:
        if not (self.size >= 1 and 0 <= self.overlap < self.size / 2):
            raise InvalidOption(
                f"tiles of {self.size} with overlap {self.overlap}: the overlap from 0 to below half the size"
            )

    def __call__(
        self,
        x: Float[Tensor, "batch 3 height width"],
        sigma: Float[Tensor, " batch"],
    ) -> Float[Tensor, "batch 3 height width"]:
        """Denoise pictures [batch, 3, height, width] at noise levels [batch]."""
        if max(x.shape[2:]) <= self.size:
            return self.denoiser(x, sigma)
        tops, lefts = (self._starts(side) for side in x.shape[2:])
        total = torch.zeros_like(x)
        weights = x.new_zeros(x.shape[2:])
        for top in tops:
            for left in lefts:
                part = x[:, :, top : top + self.size, left : left + self.size]
                ramps = (self._ramp(length, x) for length in part.shape[2:])
                down, across = ramps
                weight = down[:, None] * across
                place = (slice(top, top + part.shape[2]), slice(left, left + part.shape[3]))
                total[:, :, *place] += weight * self.denoiser(part, sigma)
                weights[place] += weight
        return total / weights

    def _starts(self, side: int) -> list[int]:
        """First pixel of each tile, the last tile flush with the edge."""
        step = self.size - self.overlap
        return [*range(0, max(side - self.size, 0), step), max(side - self.size, 0)]

    def _ramp(self, length: int, like: Tensor) -> Float[Tensor, " length"]:
        """Blending weights that rise over the overlap at the start and fall over it at the end."""
        place = torch.arange(length, dtype=like.dtype, device=like.device) + 1
        return torch.minimum(place, length + 1 - place).clamp_max(self.overlap + 1)
