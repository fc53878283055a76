"""The channel-code protocol."""

from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True, eq=False, slots=True)
class Decoded:
    """What a decoder says of each block.

    Args:
        bits: Most likely information bits.
        ok: The word satisfies every check the code itself has; no CRC is meant.
        iterations: Iterations spent, 1 for codes without any.
    """

    bits: UInt8[Tensor, "blocks k"]
    ok: Bool[Tensor, " blocks"]
    iterations: Int[Tensor, " blocks"]


class ChannelCode(Protocol):
    """A binary code that is rate-matched to the number of coded bits it is given; many blocks at once.

    LLRs are log P(b=0)/P(b=1): positive means 0.
    """

    @property
    def name(self) -> str:
        """Canonical spelling ("nr-ldpc")."""
        ...

    def encode(
        self, bits: UInt8[Tensor, "blocks k"], coded_bits: int, rv: int = 0
    ) -> UInt8[Tensor, "blocks e"]:
        """`coded_bits` bits per block, of redundancy version `rv`.

        Raises:
            ChannelError: The code does not reach these lengths.
        """
        ...

    def decode(self, llr: Float[Tensor, "blocks e"], info_bits: int, rv: int = 0) -> Decoded:
        """The inverse of `encode`.

        Raises:
            ChannelError: The code does not reach these lengths, or an LLR is NaN.
        """
        ...
