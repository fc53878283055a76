"""Cyclic redundancy checks of 5G NR (TS 38.212, 5.1)."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from channels.errors import ChannelError

Words = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class CRC:
    """A cyclic redundancy check with zero initial state, most significant bit first.

    parity(D) = bits(D) D^L mod g(D): an all-zero word has all-zero parity, so an erased word passes.

    Args:
        length: L, number of parity bits.
        polynomial: g(D) without its leading term D^L, as a binary number.

    Reference:
        TS 38.212, 5.1.

    Example:
        >>> bits = torch.zeros(1, 8, dtype=torch.uint8)
        >>> bool(CRC24A.check(CRC24A.attach(bits)))
        True
    """

    length: int
    polynomial: int

    def parity(self, bits: UInt8[Tensor, "blocks k"]) -> UInt8[Tensor, "blocks l"]:
        """Parity bits of each block.

        Args:
            bits: Message bits, uint8 [blocks, k].

        Returns:
            Parity bits, uint8 [blocks, L], the coefficient of D^(L-1) first.
        """
        remainder = self._remainder(bits.cpu().numpy())
        shifts = np.arange(self.length - 1, -1, -1, dtype=np.uint32)
        parity = ((remainder[:, None] >> shifts) & np.uint32(1)).astype(np.uint8)
        return torch.from_numpy(parity).to(bits.device)

    def attach(self, bits: UInt8[Tensor, "blocks k"]) -> UInt8[Tensor, "blocks b"]:
        """Append the parity bits to each block.

        Args:
            bits: Message bits, uint8 [blocks, k].

        Returns:
            Message bits followed by parity bits, uint8 [blocks, k + L].
        """
        return torch.cat((bits, self.parity(bits)), dim=1)

    def check(self, bits: UInt8[Tensor, "blocks b"]) -> Bool[Tensor, " blocks"]:
        """Check whether the last L bits of each block are the parity of the bits before.

        Args:
            bits: Message and parity bits, uint8 [blocks, k + L].

        Returns:
            Verdicts, bool [blocks].

        Raises:
            ChannelError: A block has fewer than L bits.
        """
        if bits.shape[1] < self.length:
            raise ChannelError(f"{bits.shape[1]} bits cannot hold a CRC of {self.length}; give more")
        # A word times D^L is divisible by g(D) exactly if the word is.
        return torch.from_numpy(self._remainder(bits.cpu().numpy()) == 0).to(bits.device)

    def _remainder(self, bits: npt.NDArray[np.uint8]) -> Words:
        """bits(D) D^L mod g(D) as integers [blocks]: the sum of the remainders of the ones in the word."""
        powers = _powers(self.length, self.polynomial, bits.shape[1])
        return np.bitwise_xor.reduce(bits * powers, axis=1, dtype=np.uint32)


@lru_cache(maxsize=64)
def _powers(length: int, polynomial: int, bits: int) -> Words:
    """D^(L+k-1-i) mod g(D) for bit i of k."""
    powers = np.array([polynomial], dtype=np.uint32)  # D^L, D^(L+1), ...
    step = np.array([2], dtype=np.uint32)  # D^n, n of them known
    while powers.size < bits:
        powers = np.concatenate((powers, _times(powers, step, length, polynomial)))
        step = _times(step, step, length, polynomial)
    powers = np.ascontiguousarray(powers[:bits][::-1])
    powers.setflags(write=False)
    return powers


def _times(a: Words, b: Words, length: int, polynomial: int) -> Words:
    """a(D) b(D) mod g(D), by shift and add."""
    mask, zero, one = np.uint32((1 << length) - 1), np.uint32(0), np.uint32(1)
    product = np.zeros_like(a)
    for i in range(length):
        product ^= np.where(b >> np.uint32(i) & one, a, zero)
        carry = a >> np.uint32(length - 1) & one
        a = ((a << one) & mask) ^ np.where(carry, np.uint32(polynomial), zero)
    return product


CRC24A = CRC(24, 0x864CFB)
CRC24B = CRC(24, 0x800063)
CRC24C = CRC(24, 0xB2B117)
CRC16 = CRC(16, 0x1021)
CRC11 = CRC(11, 0x621)
CRC6 = CRC(6, 0x21)
