"""Protocol of channel codes."""

from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True, eq=False, slots=True)
class Decoded:
    """Decoder output for each block.

    Args:
        bits: Most likely information bits, uint8 [blocks, k].
        ok: Whether the word satisfies all checks of the code itself, CRCs excluded, bool [blocks].
        iterations: Iterations spent, [blocks]; 1 for codes without iterations.
    """

    bits: UInt8[Tensor, "blocks k"]
    ok: Bool[Tensor, " blocks"]
    iterations: Int[Tensor, " blocks"]


class ChannelCode(Protocol):
    """A binary code, rate-matched to a given number of coded bits, applied to many blocks at once.

    LLRs are log P(b=0)/P(b=1): positive means 0.
    """

    @property
    def name(self) -> str:
        """Canonical name, for instance "nr-ldpc"."""
        ...

    def encode(self, bits: UInt8[Tensor, "blocks k"], coded_bits: int) -> UInt8[Tensor, "blocks e"]:
        """Encode blocks of information bits.

        Args:
            bits: Information bits 0 or 1, uint8 [blocks, k].
            coded_bits: Coded bits per block, e, at least 1.

        Returns:
            Coded bits, uint8 [blocks, e].

        Raises:
            ChannelError: The code does not support these lengths.
        """
        ...

    def decode(self, llr: Float[Tensor, "blocks e"], info_bits: int) -> Decoded:
        """Decode blocks from log-likelihood ratios.

        Args:
            llr: log P(b=0)/P(b=1) of every coded bit, [blocks, e].
            info_bits: Information bits per block, k.

        Returns:
            Most likely information bits, with a verdict and the number of iterations per block.

        Raises:
            ChannelError: The code does not support these lengths, or an LLR is NaN.
        """
        ...
