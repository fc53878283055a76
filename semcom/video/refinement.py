"""The one-step refiner on the frames of a clip."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from channels.streams import NamedStreams
from semcom import zoo
from semcom.modalities.image import to_uint8
from semcom.refiner import PictureRefiner, in_tiles
from semcom.surroundings import library_defaults

NETWORK = "frame-refiner"
"""Name of the network of this package."""
SPREAD_STEPS = 24  # per factor of 2
LEAST_SPREAD = 2.0**-8  # of [-1, 1]: half a level of 8 bits


@dataclass(frozen=True, eq=False)
class FrameRefiner:
    """A refiner of decoded frames, and the number by which bitstreams name it.

        x_hat = y + strength (R(y, s, scale, z) - y)

    with R a `semcom.refiner.PictureRefiner`, y the decoded frame in [-1, 1], s the root mean square error of
    the decoded clip, scale the factor by which it was reduced before coding, and z white noise. All frames
    get the same noise, since noise of their own would make smooth areas flicker.

    Args:
        network: The network.
        digest: First 4 bytes of the SHA-256 of its weights.
    """

    network: PictureRefiner
    digest: bytes

    @classmethod
    def shipped(cls, device: str = "cpu") -> "FrameRefiner":
        """Load the refiner of this package.

        Args:
            device: PyTorch device of the network.

        Returns:
            The refiner.

        Raises:
            MissingWeights: The weights are absent or damaged.
        """
        return cls(zoo.load_as(NETWORK, PictureRefiner, device), bytes.fromhex(zoo.sha256(NETWORK))[:4])

    @library_defaults()
    @torch.no_grad()
    def __call__(
        self, frames: Iterable[UInt8[Tensor, "3 height width"]], spread: float, scale: int, strength: float
    ) -> Iterator[UInt8[Tensor, "3 height width"]]:
        """Refine frames one after the other.

        Args:
            frames: Decoded frames, all of one size.
            spread: Root mean square error s of the clip, in units of [-1, 1], above 0.
            scale: Factor by which the clip was reduced before coding, 1, 2 or 4.
            strength: From 0, the decoded frame, to about 1.5.

        Yields:
            The refined frames.
        """
        noise = None
        for frame in frames:
            y = frame[None].float() * (2 / 255) - 1
            if noise is None:
                noise = NamedStreams(0, ("frames",)).normal("texture", tuple(y.shape[1:]))
            refined = in_tiles(self.network, y, spread, scale, noise)
            yield to_uint8(((y + strength * (refined - y) + 1) / 2)[0])


def spread_code(spread: float) -> int:
    """Code a root mean square error in one byte: its logarithm in steps of 1/24 of an octave.

    Args:
        spread: Error in units of [-1, 1], at least 0.

    Returns:
        A number from 0 to 255.
    """
    return min(255, max(0, round(SPREAD_STEPS * math.log2(max(spread, LEAST_SPREAD) / LEAST_SPREAD))))


def spread_of(code: int) -> float:
    """Root mean square error that a byte stands for, the inverse of `spread_code`.

    Args:
        code: A number from 0 to 255.

    Returns:
        Error in units of [-1, 1], from 2^-8.
    """
    return LEAST_SPREAD * 2 ** (code / SPREAD_STEPS)
