"""Constellations of 5G NR: bits to symbols, and symbols to log-likelihood ratios."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, UInt8
from torch import Tensor

from channels.channel import Received
from channels.errors import ChannelError
from channels.symbols import widen

Combine = Callable[[Tensor, Tensor], Tensor]
_USES_AT_ONCE = 2**13  # keeps the metrics of a demapper in cache


@dataclass(frozen=True)
class Constellation:
    """BPSK, QPSK, 16-QAM, 64-QAM or 256-QAM with Gray labels and average power 1.

    The even bits of a label choose the real part, the odd bits the imaginary part, each from one
    Gray-labelled PAM; BPSK lies on the diagonal. Every demapper uses this: with u = conj(h) y / N0 and
    v = |h|^2 / N0,

        -|y - h x|^2 / N0 = (2 Re(u) a - v a^2) + (2 Im(u) b - v b^2) + const,   x = a + jb,

    so that 256-QAM weighs 2 x 16 levels and not 256 points, and nothing divides by h.

    Args:
        size: Number of points M: 2, 4, 16, 64 or 256.

    Raises:
        ChannelError: There is no constellation of this size.

    Reference:
        3GPP TS 38.211, 5.1.

    Example:
        >>> Constellation(4).modulate(torch.tensor([[0, 0, 1, 0]], dtype=torch.uint8))
        tensor([[ 0.7071+0.7071j, -0.7071+0.7071j]])
    """

    size: int

    def __post_init__(self) -> None:
        if self.size not in (2, 4, 16, 64, 256):
            raise ChannelError(f"no constellation of {self.size} points; take 2, 4, 16, 64 or 256")

    @property
    def name(self) -> str:
        """Usual name of the constellation: "bpsk", "qpsk", "16-qam", "64-qam" or "256-qam"."""
        return {2: "bpsk", 4: "qpsk"}.get(self.size, f"{self.size}-qam")

    @property
    def bits_per_symbol(self) -> int:
        """Number of bits per symbol, log2 M: 1, 2, 4, 6 or 8."""
        return self.size.bit_length() - 1

    @property
    def levels(self) -> Float[Tensor, " levels"]:
        """Amplitudes of one real dimension, indexed by the label whose first bit is the most significant.

        They are float32, whatever the default type of torch is.
        """
        dimensions = 1 if self.size == 2 else 2
        bits = self.bits_per_symbol // dimensions
        label = torch.arange(2**bits, device="cpu")
        sign = [1 - 2 * (label >> (bits - 1 - j) & 1) for j in range(bits)]
        level = sign[-1]
        for j in range(bits - 2, -1, -1):
            level = sign[j] * (2 ** (bits - 1 - j) - level)  # 38.211, 5.1.4 to 5.1.6
        level = level.float()
        return level / math.sqrt(dimensions * level.square().mean())

    @property
    def points(self) -> Complex[Tensor, " size"]:
        """All M symbols, complex [M], indexed by the label whose first bit is the most significant."""
        shifts = torch.arange(self.bits_per_symbol - 1, -1, -1, device="cpu")
        labels = torch.arange(self.size, device="cpu")[:, None] >> shifts & 1
        return self.modulate(labels.to(torch.uint8).reshape(1, -1))[0]

    def modulate(self, bits: UInt8[Tensor, "batch bits"]) -> Complex[Tensor, "batch uses"]:
        """Map each group of log2 M neighbouring bits to one symbol of average power 1.

        Args:
            bits: Bits 0 or 1, uint8 [batch, uses * log2 M].

        Returns:
            Symbols, complex64 [batch, uses].

        Raises:
            ChannelError: The number of bits is not a multiple of log2 M.
        """
        if bits.shape[1] % self.bits_per_symbol:
            raise ChannelError(
                f"{bits.shape[1]} bits do not fill {self.name} symbols; "
                f"give a multiple of {self.bits_per_symbol}"
            )
        levels = self.levels.to(bits.device)
        if self.size == 2:
            part = levels[bits.long()]
            return torch.complex(part, part) * 0.5**0.5
        per_dimension = self.bits_per_symbol // 2
        grouped = bits.reshape(bits.shape[0], bits.shape[1] // self.bits_per_symbol, per_dimension, 2)
        label = grouped[:, :, 0].long()  # [batch, uses, 2]
        for j in range(1, per_dimension):
            label = label * 2 + grouped[:, :, j]
        return torch.view_as_complex(levels[label])

    def exact_llr(self, received: Received) -> Float[Tensor, "batch bits"]:
        """Log-likelihood ratios of all bits, for equally likely symbols.

        LLR = log P(b=0 | y) / P(b=1 | y); positive means 0.

        Args:
            received: Received symbols [batch, uses] with gain and noise variance.

        Returns:
            LLRs, [batch, uses * log2 M], in the order of the bits given to `modulate`; in double precision if
            an input is, else in single precision.
        """
        return self._llr(received, _log_add)

    def max_log_llr(self, received: Received) -> Float[Tensor, "batch bits"]:
        """Max-log approximation of the log-likelihood ratios of all bits.

        LLR = max over points with b=0 of -|y - h x|^2 / N0, less the maximum over points with b=1; positive
        means 0.

        Args:
            received: Received symbols [batch, uses] with gain and noise variance.

        Returns:
            LLRs, [batch, uses * log2 M], in the order of the bits given to `modulate`; in double precision if
            an input is, else in single precision.
        """
        return self._llr(received, torch.maximum)

    def hard_decision(self, received: Received) -> UInt8[Tensor, "batch bits"]:
        """Bits of the nearest constellation point of each received symbol.

        Args:
            received: Received symbols [batch, uses] with gain and noise variance.

        Returns:
            Bits, uint8 [batch, uses * log2 M].
        """
        return (self.max_log_llr(received) < 0).to(torch.uint8)

    def _llr(self, received: Received, combine: Combine) -> Float[Tensor, "batch bits"]:
        batch, uses = received.y.shape
        precision = widen(received.noise_var).reciprocal()
        y, h = (
            torch.view_as_real(widen(part).resolve_conj()).unbind(-1) for part in (received.y, received.h)
        )
        # Real arithmetic: complex products round differently at the end of a row.
        real = (h[0] * y[0] + h[1] * y[1]) * precision
        imaginary = (h[0] * y[1] - h[1] * y[0]) * precision
        if self.size == 2:  # only the direction of (1 + j) / sqrt(2) carries the bit
            return 4.0 * self.levels[0] * 0.5**0.5 * (real + imaginary)
        projected = torch.stack((real, imaginary), dim=-1)  # [batch, uses, 2]
        if self.size == 4:  # two levels a and -a: both sums have one term
            return 4.0 * self.levels[0] * projected.flatten(1)
        gain = (h[0] * h[0] + h[1] * h[1]) * precision
        bits = self.bits_per_symbol // 2
        projected, gain = projected.reshape(-1, 2), gain.reshape(-1, 1)  # the uses of the batch in one row
        llr = torch.empty(batch * uses, bits, 2, dtype=projected.dtype, device=projected.device)
        levels = self.levels.to(projected.device)[:, None, None]
        for start in range(0, batch * uses, _USES_AT_ONCE):
            part = slice(start, start + _USES_AT_ONCE)
            metric = 2.0 * levels * projected[part] - levels.square() * gain[part]  # [levels, uses, 2]
            of_bits = _marginals(metric.view(*(2,) * bits, *metric.shape[1:]), bits, combine)
            for bit, of_bit in enumerate(of_bits):
                llr[part, bit] = of_bit[0] - of_bit[1]
        return llr.view(batch, uses * self.bits_per_symbol)


def _log_add(a: Tensor, b: Tensor) -> Tensor:
    """log(e^a + e^b); without log1p, which is six times slower and gains nothing beside |a| of order 1.

    The clamp changes nothing, since 1 + e^-80 = 1 in double precision, but exponentials that underflow cost
    twenty times as much as others.
    """
    return torch.maximum(a, b) + torch.log(1.0 + torch.exp(-(a - b).abs().clamp_max(80.0)))


def _marginals(metric: Tensor, bits: int, combine: Combine) -> list[Tensor]:
    """Combine out all but one of the first `bits` axes, for each of them; halves share the work."""
    if bits == 1:
        return [metric]
    half = bits // 2
    front = back = metric
    for _ in range(bits - half):
        front = combine(front.select(half, 0), front.select(half, 1))
    for _ in range(half):
        back = combine(back[0], back[1])
    return _marginals(front, half, combine) + _marginals(back, bits - half, combine)
