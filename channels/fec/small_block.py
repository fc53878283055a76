"""Small-block code of 5G NR for 3 to 11 bits, used for control headers (TS 38.212, 5.3.3.3)."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from channels.errors import ChannelError
from channels.fec.code import Decoded

# Table 5.3.3.3-1: row i holds M_(i,0) .. M_(i,10)
_BASIS = [
    "11000000001",
    "11100000011",
    "10010010111",
    "10110000101",
    "11110001001",
    "11001011101",
    "10101010111",
    "10011001101",
    "11011001011",
    "10111010011",
    "10100111011",
    "11100110101",
    "10010101111",
    "11010101011",
    "10001101001",
    "11001111011",
    "11101110010",
    "10011100100",
    "11011111000",
    "10000110000",
    "10100010001",
    "11010000011",
    "10001001101",
    "11101000111",
    "11111011110",
    "11000111001",
    "10110100110",
    "11110101110",
    "10101110100",
    "10111111100",
    "11111111111",
    "10000000000",
]


@dataclass(frozen=True)
class SmallBlock:
    """The (32, K) block code of 5G NR for K = 3..11 bits, with maximum-likelihood decoding.

    d_i = sum_k c_k M_(i,k) mod 2, i = 0..31;  e_j = d_(j mod 32).

    The code word is repeated or cut to the number of coded bits. The decoder compares all 2^K words.

    Reference:
        TS 38.212, 5.3.3.3 and 5.4.3.

    Example:
        >>> code = SmallBlock()
        >>> bits = torch.tensor([[1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 1]], dtype=torch.uint8)
        >>> llr = 1.0 - 2.0 * code.encode(bits, 64)
        >>> bool((code.decode(llr, 11).bits == bits).all())
        True
    """

    @property
    def name(self) -> str:
        """Canonical name of the code: "nr-small-block"."""
        return "nr-small-block"

    def encode(self, bits: UInt8[Tensor, "blocks k"], coded_bits: int) -> UInt8[Tensor, "blocks e"]:
        """Encode blocks of 3 to 11 bits, repeating or cutting the 32-bit code word.

        Args:
            bits: Information bits, uint8 [blocks, k], k = 3..11.
            coded_bits: Coded bits per block, e, at least k; 17 for k = 11, at most 5 more than k for others.

        Returns:
            Coded bits, uint8 [blocks, e].

        Raises:
            ChannelError: A length is outside its range.
        """
        _check(bits.shape[1], coded_bits)
        basis = _basis(bits.shape[1]).to(bits.device)
        words = (bits.float() @ basis).remainder(2).to(torch.uint8)  # at most 11 ones: float32 is exact
        return words[:, torch.arange(coded_bits, device=bits.device) % 32]

    def decode(self, llr: Float[Tensor, "blocks e"], info_bits: int) -> Decoded:
        """Maximum-likelihood decoding; `ok` says that no other word is equally likely.

        Args:
            llr: log P(b=0)/P(b=1) of every coded bit, [blocks, e].
            info_bits: Information bits per block, k = 3..11.

        Returns:
            Most likely bits [blocks, k] with verdicts.

        Raises:
            ChannelError: A length is outside its range, or an LLR is NaN.
        """
        _check(info_bits, llr.shape[1])
        if bool(torch.isnan(llr).any()):
            raise ChannelError("an LLR is NaN; the demapper met a value that is not finite")
        llr = llr.double().clamp(-1e6, 1e6)
        folded = llr.new_zeros((llr.shape[0], 32))
        folded.index_add_(1, torch.arange(llr.shape[1], device=llr.device) % 32, llr)
        messages, signs = _words(info_bits)
        scores = folded @ signs.to(llr.device).T
        best = scores.max(dim=1)
        return Decoded(
            messages.to(llr.device)[best.indices],
            (scores == best.values[:, None]).sum(1) == 1,
            torch.ones(llr.shape[0], dtype=torch.int64, device=llr.device),
        )


def _check(info_bits: int, coded_bits: int) -> None:
    if not 3 <= info_bits <= 11:
        raise ChannelError(
            f"{info_bits} information bits: the small-block code takes 3..11; use NRLDPC for more"
        )
    if coded_bits < _shortest(info_bits):
        raise ChannelError(
            f"{coded_bits} coded bits cannot hold {info_bits} information bits; "
            f"send at least {_shortest(info_bits)}"
        )


@lru_cache(maxsize=9)
def _shortest(info_bits: int) -> int:
    """Fewest coded bits that tell all words apart: as many rows of M as its rank over GF(2) needs."""
    pivots: dict[int, int] = {}
    for count, row in enumerate(_BASIS, 1):
        value = int(row[:info_bits], 2)
        while value and value.bit_length() in pivots:
            value ^= pivots[value.bit_length()]
        if value:
            pivots[value.bit_length()] = value
        if len(pivots) == info_bits:
            return count
    return len(_BASIS)


@lru_cache(maxsize=9)
def _basis(info_bits: int) -> Tensor:
    """M transposed: [k, 32]."""
    return torch.tensor(
        [[float(row[k]) for row in _BASIS] for k in range(info_bits)], dtype=torch.float32, device="cpu"
    )


@lru_cache(maxsize=9)
def _words(info_bits: int) -> tuple[Tensor, Tensor]:
    """All messages uint8 [2^k, k], and their words as +1 for 0 and -1 for 1 [2^k, 32]."""
    messages = torch.arange(2**info_bits, device="cpu")[:, None] >> torch.arange(info_bits, device="cpu") & 1
    words = (messages.float() @ _basis(info_bits)).remainder(2)
    return messages.to(torch.uint8), 1.0 - 2.0 * words.double()
