"""Transmission of a reduced picture, the means of blocks of pixels; a prior may restore the rest."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from channels import Received
from semcom.errors import InvalidOption, UnsuitableEvidence
from semcom.modalities.image import Image
from semcom.observation import Decoded, Evidence, Linear, Observation, Origin, Symbols
from semcom.operators import BlockMean, Identity
from semcom.transmission import ChannelKnowledge, Csit, Sent, Transmission


@dataclass(frozen=True)
class Reduced:
    """Transmission of the means of blocks of pixels, with all channel uses of the whole picture.

    The receiver gets evidence y = A x + noise, with A the block mean. Receiver `direct` repeats every mean
    over its block; receivers with a prior restore the detail.

    Args:
        transmission: Transmission of the reduced picture.
        size: Side s of the blocks in pixels, at least 2.

    Raises:
        InvalidOption: `size` is smaller than 2.

    Reference:
        Yilmaz et al., High perceptual quality wireless image delivery with denoising diffusion models,
        INFOCOM workshops 2024.
    """

    transmission: Transmission[Image]
    size: int = 2

    def __post_init__(self) -> None:
        if self.size < 2:
            raise InvalidOption(f"blocks of {self.size}x{self.size} pixels: at least 2x2")

    @property
    def name(self) -> str:
        """Canonical name: "deepjscc-range" for blocks of 2x2 pixels, "deepjscc-range4" for 4x4."""
        code, colon, csit = self.transmission.name.partition(":")
        return f"{code}-range{'' if self.size == 2 else self.size}{colon}{csit}"

    @property
    def csit(self) -> Csit:
        """Channel knowledge that the transmission of the reduced picture needs."""
        return self.transmission.csit

    def send(self, x: Image, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Compute the block means of the picture and encode them as a smaller picture."""
        return self.transmission.send(self._operator(tuple(x.shape)).A(x), uses, known)

    def receive(self, received: Received, shape: tuple[int, ...], uses: int) -> list[Observation[Image]]:
        """Decode the reduced picture; the picture shown repeats every mean over its block."""
        operator = self._operator(shape)
        small = (*shape[:2], *(-(-side // self.size) for side in shape[2:]))
        seen = self.transmission.receive(received, small, uses)
        return [self._observed(observation, operator) for observation in seen]

    def _operator(self, shape: tuple[int, ...]) -> BlockMean:
        return BlockMean(self.size, *shape[2:])

    def _observed(self, small: Observation[Image], operator: BlockMean) -> Observation[Image]:
        if small.shown is None:
            return Observation(None, info=small.info)
        evidence = tuple(self._of_whole(part, operator) for part in small.evidence)
        return Observation(operator.pinv(small.shown).clamp(0, 1), evidence, small.info)

    def _of_whole(self, evidence: Evidence, operator: BlockMean) -> Evidence:
        """Turn evidence of the reduced picture into evidence of the whole one."""
        if isinstance(evidence, Symbols):
            return Linear(evidence.estimate, operator, evidence.error_std)
        if not (isinstance(evidence, Decoded) and isinstance(evidence.operator, Identity)):
            raise UnsuitableEvidence(f"{self.name}: the smaller picture is to arrive as a picture")
        origin = evidence.origin  # a table of its own: reduced pictures have more detail per pixel
        return Decoded(
            evidence.y,
            operator,
            None if origin is None else Origin(f"{origin.code}/{self.size}", origin.point),
        )


@dataclass(frozen=True)
class ReducedAtLowRate:
    """Transmission of block means at low bandwidth ratios rho, and of the whole picture at higher ones.

    The choice depends on rho alone, which the receiver knows, so that no side information is needed. With
    `deepjscc`, a prior at the receiver, and blocks of 4x4, validation photographs had a lower LPIPS at about
    equal PSNR at rho = 1/768; from rho = 1/192 on, block means cost PSNR (`scripts/search_range.py`).

    Args:
        transmission: Transmission of the whole or the reduced picture.
        size: Side of the blocks in pixels, at least 2.
        below: Largest rho at which block means are sent.

    Raises:
        InvalidOption: `size` is smaller than 2.
    """

    transmission: Transmission[Image]
    size: int = 4
    below: float = 1 / 384

    def __post_init__(self) -> None:
        Reduced(self.transmission, self.size)

    @property
    def name(self) -> str:
        """Canonical name, for instance "deepjscc-range-by-rho"."""
        code, colon, csit = self.transmission.name.partition(":")
        return f"{code}-range-by-rho{colon}{csit}"

    @property
    def csit(self) -> Csit:
        """Channel knowledge that the transmission of the picture needs."""
        return self.transmission.csit

    def send(self, x: Image, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Encode the block means or the whole picture, depending on the channel uses per source value."""
        return self._at(uses, tuple(x.shape)).send(x, uses, known)

    def receive(self, received: Received, shape: tuple[int, ...], uses: int) -> Sequence[Observation[Image]]:
        """Decode the block means or the whole picture, depending on the channel uses per source value."""
        return self._at(uses, shape).receive(received, shape, uses)

    def _at(self, uses: int, shape: tuple[int, ...]) -> Transmission[Image]:
        few = uses <= self.below * math.prod(shape)
        return Reduced(self.transmission, self.size) if few else self.transmission
