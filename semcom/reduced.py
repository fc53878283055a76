"""Transmission of a smaller picture in place of the whole one: its range space, to be refined by a prior."""

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
    """Sends the means of blocks of pixels, with all channel uses of the whole picture.

    What arrives is evidence y = A x + noise with A the block mean: `direct` repeats the means, receivers with
    a prior fill in the rest.

    Args:
        transmission: Of the smaller picture.
        size: Side of the blocks in pixels, at least 2.

    Raises:
        InvalidOption: A smaller size.

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
        """Canonical spelling: "deepjscc-range" for 2x2 pixels, "deepjscc-range4" for 4x4."""
        code, colon, csit = self.transmission.name.partition(":")
        return f"{code}-range{'' if self.size == 2 else self.size}{colon}{csit}"

    @property
    def csit(self) -> Csit:
        """Channel knowledge that the transmission of the smaller picture is given."""
        return self.transmission.csit

    def send(self, x: Image, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Reduce the picture, then encode it."""
        return self.transmission.send(self._operator(tuple(x.shape)).A(x), uses, known)

    def receive(self, received: Received, shape: tuple[int, ...], uses: int) -> list[Observation[Image]]:
        """Decode the smaller picture; it is shown with every mean repeated over its block."""
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
        """Evidence of the smaller picture as evidence of the whole one."""
        if isinstance(evidence, Symbols):
            return Linear(evidence.estimate, operator, evidence.error_std)
        if not (isinstance(evidence, Decoded) and isinstance(evidence.operator, Identity)):
            raise UnsuitableEvidence(f"{self.name}: the smaller picture is to arrive as a picture")
        origin = evidence.origin  # errors are measured apart: smaller pictures hold more detail per pixel
        return Decoded(
            evidence.y,
            operator,
            None if origin is None else Origin(f"{origin.code}/{self.size}", origin.point),
        )


@dataclass(frozen=True)
class ReducedAtLowRate:
    """Means of blocks where channel uses are few, the whole picture elsewhere: a size per operating point.

    The size follows from rho, which the receiver knows, and costs nothing. With a prior at the receiver and
    `deepjscc`, 4x4 was found to have less LPIPS at about the PSNR of the whole picture at rho = 1/768, and to
    cost PSNR from 1/192 on, on validation photographs (`scripts/search_range.py`).

    Args:
        transmission: Of the picture or the smaller picture.
        size: Side of the blocks in pixels, at least 2.
        below: rho up to which they are sent.

    Raises:
        InvalidOption: A smaller size.
    """

    transmission: Transmission[Image]
    size: int = 4
    below: float = 1 / 384

    def __post_init__(self) -> None:
        Reduced(self.transmission, self.size)

    @property
    def name(self) -> str:
        """Canonical spelling: "deepjscc-range-by-rho"."""
        code, colon, csit = self.transmission.name.partition(":")
        return f"{code}-range-by-rho{colon}{csit}"

    @property
    def csit(self) -> Csit:
        """Channel knowledge that the transmission of the picture is given."""
        return self.transmission.csit

    def send(self, x: Image, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Encode the smaller or the whole picture."""
        return self._at(uses, tuple(x.shape)).send(x, uses, known)

    def receive(self, received: Received, shape: tuple[int, ...], uses: int) -> Sequence[Observation[Image]]:
        """Decode the smaller or the whole picture."""
        return self._at(uses, shape).receive(received, shape, uses)

    def _at(self, uses: int, shape: tuple[int, ...]) -> Transmission[Image]:
        few = uses <= self.below * math.prod(shape)
        return Reduced(self.transmission, self.size) if few else self.transmission
