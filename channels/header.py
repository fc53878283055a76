"""Control header of a digital link: a few bits that tell the receiver how to decode the payload."""

# torch's and numpy's stubs leave types open
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Int
from numpy.typing import NDArray
from torch import Tensor

from channels.channel import Received
from channels.constellation import Constellation
from channels.fec.small_block import SmallBlock
from channels.theory import q_function

QPSK = Constellation(4)


@dataclass(frozen=True)
class ControlHeader:
    """Control header: a number of 3 to 11 bits in the (32, K) code, sent as QPSK and repeated.

    The header occupies the channel uses floor(i data_uses / uses), i = 0, 1, ..., so that it sees as many
    fading blocks as the payload does.

    Args:
        bits: K, size of the number in bits, 3 to 11.
        uses: Channel uses of the header; at least 16 to send the whole code word once.
        data_uses: Channel uses of header and payload together.

    Reference:
        TS 38.212, 5.3.3.3 for the code; placement and repetition are our own.
    """

    bits: int
    uses: int
    data_uses: int

    def positions(self) -> Int[Tensor, " uses"]:
        """Channel uses of the header in ascending order, int64 [uses]."""
        return torch.arange(self.uses, device="cpu") * self.data_uses // self.uses

    def payload_positions(self) -> Int[Tensor, " payload_uses"]:
        """Channel uses of the payload, all but the header's, ascending, int64 [data_uses - uses]."""
        free = torch.ones(self.data_uses, dtype=torch.bool, device="cpu")
        free[self.positions()] = False
        return free.nonzero()[:, 0]

    def encode(self, value: int) -> Complex[Tensor, "1 uses"]:
        """Encode a number as QPSK symbols.

        Args:
            value: Number in 0 .. 2^bits - 1.

        Returns:
            Symbols, complex64 [1, uses].
        """
        digits = [[value >> j & 1 for j in range(self.bits - 1, -1, -1)]]
        word = torch.tensor(digits, dtype=torch.uint8, device="cpu")
        return QPSK.modulate(SmallBlock().encode(word, 2 * self.uses))

    def decode(self, received: Received) -> Int[Tensor, " batch"]:
        """Maximum-likelihood decision on the number.

        Args:
            received: The header's channel uses alone, [batch, uses].

        Returns:
            Decoded numbers in 0 .. 2^bits - 1, int64 [batch].
        """
        decoded = SmallBlock().decode(QPSK.exact_llr(received), self.bits)
        weights = 2 ** torch.arange(self.bits - 1, -1, -1, device=decoded.bits.device)
        return (decoded.bits * weights).sum(1)

    def error_bound(self, energy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Tangential bound on the probability that the number is decoded wrongly.

        E[min(1, sum over nonzero words of Q((r - z) sqrt(w / (32 - w))))],  z ~ N(0, 1),  r^2 = 2 energy

        w is the Hamming weight of a word and z the noise along the transmitted one, as if all 32 bits got
        equal energy. On AWGN the errors measured are 0.7 to 0.9 times as many; over a few fading blocks,
        which the bits share unequally, 0.75 to 1.1 times. The union bound would be 2 to 4 times too large.

        Args:
            energy: Sum of |h|^2 / N0 over the header's channel uses, any shape.

        Returns:
            Upper bound on the error probability in 0..1, same shape.

        Reference:
            Berlekamp, The technology of error-correcting codes, Proc. IEEE 68(5), 1980.
        """
        log_energy, log_bound = _bound_curve(self.bits)
        seen = np.log(np.maximum(energy, 1e-9))
        return np.asarray(np.exp(np.interp(seen, log_energy, log_bound)))


def uses_for_snr(snr: float) -> int:
    """Header length for 6 bits at a given SNR: the union bound on the error is then below 1e-4 on AWGN.

    Args:
        snr: Linear Es/N0 > 0.

    Returns:
        Channel uses, at least 16.
    """
    return max(16, math.ceil(24 / snr))


def uses_for_budget(data_uses: int) -> int:
    """Header length when the SNR is unknown: 2 sqrt(data_uses), 0.6 % of 100 000 uses and 6 % of 1000 uses.

    A number of 11 bits is decoded wrongly once in 100 where uses * snr = 22: at -7.6 dB in 4096 uses, at
    -11.5 dB in 24 576.

    Args:
        data_uses: Channel uses of header and payload together.

    Returns:
        Channel uses of the header, at least 16.
    """
    return max(16, 2 * math.isqrt(data_uses))


@functools.cache
def _bound_curve(bits: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logarithms of energies from e^-2 to e^8, and of the tangential bound there."""
    log_energy = np.arange(-2.0, 8.0, 0.02)
    root = np.sqrt(2 * np.exp(log_energy))[:, None]
    z = np.linspace(-8, 8, 401)
    density = np.exp(-np.square(z) / 2) / np.sum(np.exp(-np.square(z) / 2))
    errors = np.zeros((len(root), len(z)))
    for weight, count in _weights(bits):
        reach = np.sqrt(weight / (32 - weight)) if weight < 32 else 1e9
        errors += count * np.asarray(q_function((root - z) * reach))
    return log_energy, np.log(np.maximum(np.minimum(errors, 1) @ density, 1e-300))


@functools.cache
def _weights(bits: int) -> tuple[tuple[int, int], ...]:
    """Hamming weights of the nonzero code words, each with the number of words that have it."""
    numbers, shifts = torch.arange(1, 2**bits, device="cpu"), torch.arange(bits, device="cpu")
    messages = (numbers[:, None] >> shifts & 1).to(torch.uint8)
    weights = SmallBlock().encode(messages, 32).sum(1, dtype=torch.int64)
    return tuple((w, count) for w, count in enumerate(torch.bincount(weights).tolist()) if count)
