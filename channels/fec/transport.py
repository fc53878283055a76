"""Transport blocks of 5G NR: CRC, segmentation, LDPC and rate matching per code block (TS 38.212, 7.2)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from channels.errors import ChannelError
from channels.fec.code import Decoded
from channels.fec.crc import CRC, CRC16, CRC24A, CRC24B
from channels.fec.ldpc import (
    MAX_BLOCK_BITS,
    MAX_CODE_RATE,
    MAX_ITERATIONS,
    LDPCBlock,
    select_base_graph,
)


@dataclass(frozen=True, eq=False, slots=True)
class DecodedTransportBlock:
    """Decoder output for each transport block of a batch.

    Args:
        bits: Information bits, right or wrong, uint8 [batch, a].
        block_ok: Whether CRC and parity checks of each code block hold, bool [batch, blocks].
        ok: Whether all code blocks and the CRC of the transport block hold, bool [batch].
        iterations: Decoder iterations of each code block, [batch, blocks].
    """

    bits: UInt8[Tensor, "batch a"]
    block_ok: Bool[Tensor, "batch blocks"]
    ok: Bool[Tensor, " batch"]
    iterations: Int[Tensor, "batch blocks"]


@dataclass(frozen=True)
class TransportBlock:
    """Plan for sending messages of a fixed length in exactly `coded_bits` coded bits.

    A plan can be used for many batches. The message gets a CRC (24A, or 16 up to 3824 bits) and is cut into
    equal code blocks, with a CRC 24B each if there is more than one. Every block is LDPC-coded, rate-matched
    and bit-interleaved to its share of the coded bits. The standard only allows message lengths that cut
    evenly; others are padded with fewer zeros than there are blocks. One slot, one layer, no limited buffer.

    Args:
        info_bits: A, message length in bits, at least 1.
        coded_bits: G, coded bits, a multiple of `bits_per_symbol`.
        bits_per_symbol: Q_m, bits per constellation symbol, at least 1.
        max_iterations: Iteration limit of the LDPC decoder, at least 1.

    Raises:
        ChannelError: A length is outside its range, the code rate exceeds 0.95, CRCs included, or the coded
            bits do not determine the message.

    Reference:
        TS 38.212, 7.2.1 to 7.2.5, with 5.1, 5.2.2, 5.4.2, 5.5.

    Example:
        >>> block = TransportBlock(info_bits=1000, coded_bits=2000, bits_per_symbol=2)
        >>> block.encode(torch.zeros(3, 1000, dtype=torch.uint8)).shape
        torch.Size([3, 2000])
    """

    info_bits: int
    coded_bits: int
    bits_per_symbol: int
    max_iterations: int = MAX_ITERATIONS

    def __post_init__(self) -> None:
        if self.info_bits < 1 or self.bits_per_symbol < 1 or self.max_iterations < 1:
            raise ChannelError(
                f"{self.info_bits} information bits, {self.bits_per_symbol} bits per symbol, "
                f"{self.max_iterations} iterations: all must be at least 1"
            )
        if self.coded_bits < 1 or self.coded_bits % self.bits_per_symbol:
            raise ChannelError(
                f"{self.coded_bits} coded bits do not fill symbols of {self.bits_per_symbol}; give a multiple"
            )
        needed = self.blocks * self.block.info_bits
        if any(self.block.info_bits > MAX_CODE_RATE * e for e in self.block_coded_bits):
            raise ChannelError(
                f"{self.info_bits} information bits ({needed} with CRCs) in {self.coded_bits} coded bits: "
                f"code rate must not exceed {MAX_CODE_RATE}; send fewer information bits"
            )
        if missing := max(self.block.missing_equations(e) for e in set(self.block_coded_bits)):
            raise ChannelError(
                f"{self.info_bits} information bits ({needed} with CRCs) in {self.coded_bits} coded bits: "
                f"{missing} of them would have to be guessed, since the first {2 * self.block.lifting_size} "
                "are never sent; send more coded bits"
            )

    @property
    def crc(self) -> CRC:
        """CRC of the message: 24A above 3824 bits, else 16 (TS 38.212, 7.2.1)."""
        return CRC24A if self.info_bits > 3824 else CRC16

    @cached_property
    def base_graph(self) -> int:
        """LDPC base graph of the message, 1 or 2 (TS 38.212, 7.2.2)."""
        return select_base_graph(self.info_bits, self.info_bits / self.coded_bits)

    @cached_property
    def blocks(self) -> int:
        """C, number of code blocks (TS 38.212, 5.2.2)."""
        with_crc, largest = self.info_bits + self.crc.length, MAX_BLOCK_BITS[self.base_graph]
        return 1 if with_crc <= largest else -(-with_crc // (largest - CRC24B.length))

    @cached_property
    def block(self) -> LDPCBlock:
        """LDPC code shared by all code blocks; its K' includes CRCs and padding."""
        payload = self.info_bits + self.crc.length + (self.blocks * CRC24B.length if self.blocks > 1 else 0)
        return LDPCBlock.select(-(-payload // self.blocks), self.base_graph)

    @cached_property
    def block_coded_bits(self) -> tuple[int, ...]:
        """E_r, coded bits of each code block (TS 38.212, 5.4.2.1)."""
        symbols = self.coded_bits // self.bits_per_symbol
        short = self.blocks - symbols % self.blocks
        return tuple(
            self.bits_per_symbol * (symbols // self.blocks + (0 if r < short else 1))
            for r in range(self.blocks)
        )

    def encode(self, bits: UInt8[Tensor, "batch a"]) -> UInt8[Tensor, "batch g"]:
        """Encode a batch of messages.

        Args:
            bits: Information bits, uint8 [batch, info_bits].

        Returns:
            Coded bits, uint8 [batch, coded_bits].

        Raises:
            ChannelError: The message has another length.
        """
        if bits.shape[1] != self.info_bits:
            raise ChannelError(
                f"message of {bits.shape[1]} bits, planned for {self.info_bits}; make another plan"
            )
        batch = bits.shape[0]
        message = self.crc.attach(torch.nn.functional.pad(bits, (0, self._padding)))
        segments = message.view(batch * self.blocks, message.shape[1] // self.blocks)
        if self.blocks > 1:
            segments = CRC24B.attach(segments)
        coded = self.block.encode(segments, self._bounds(batch), self.bits_per_symbol)
        return coded.view(batch, self.coded_bits)

    def decode(self, llr: Float[Tensor, "batch g"]) -> DecodedTransportBlock:
        """Decode a batch of messages, all code blocks at once.

        Args:
            llr: log P(b=0)/P(b=1) of every coded bit, [batch, coded_bits].

        Returns:
            Information bits with verdicts per message and per code block.

        Raises:
            ChannelError: The number of LLRs differs from the plan, or an LLR is NaN.
        """
        if llr.shape[1] != self.coded_bits:
            raise ChannelError(
                f"{llr.shape[1]} LLRs, planned for {self.coded_bits} coded bits; make another plan"
            )
        batch = llr.shape[0]
        decoded = self.block.decode(
            llr.flatten(), self._bounds(batch), self.bits_per_symbol, self.max_iterations, early_stop=True
        )
        return self._assemble(decoded, batch)

    def _assemble(self, decoded: Decoded, batch: int) -> DecodedTransportBlock:
        segments = decoded.bits
        # The parity checks guard against erased words: all-zero bits have a right CRC.
        block_ok = decoded.ok
        if self.blocks > 1:
            block_ok = block_ok & CRC24B.check(segments)
            segments = segments[:, : -CRC24B.length]
        message = segments.reshape(batch, self.blocks * segments.shape[1])
        message_ok = self.crc.check(message)
        block_ok = block_ok.view(batch, self.blocks)
        if self.blocks == 1:
            block_ok = block_ok & message_ok[:, None]
        return DecodedTransportBlock(
            message[:, : self.info_bits],
            block_ok,
            block_ok.all(1) & message_ok,
            decoded.iterations.view(batch, self.blocks),
        )

    @property
    def _padding(self) -> int:
        crc = self.crc.length + (self.blocks * CRC24B.length if self.blocks > 1 else 0)
        return self.blocks * self.block.info_bits - self.info_bits - crc

    def _bounds(self, batch: int) -> npt.NDArray[np.int64]:
        """Start of each code block among the coded bits of a whole batch, and the end."""
        return np.cumsum((0, *self.block_coded_bits * batch))
