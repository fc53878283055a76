"""Spreading of analog symbols over the whole transmission by a unitary transform, and its inverse."""

# torch's stubs leave types open
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from channels.channel import Received
from channels.streams import NamedStreams

GROUPS_PER_OCTAVE = 4  # of the index of a symbol; the symbols of a group are taken to have one power
ITERATIONS = 50  # largest number; fading and losses of 10 % take 3 to 10
CONVERGED = 1e-5  # relative change of the precision
LEAST_NOISE_VAR = 1e-12
LEAST_POWER = 1e-9  # of a symbol, relative to the average


def spread(x: Complex[Tensor, "batch uses"]) -> Complex[Tensor, "batch uses"]:
    """Spread symbols over the whole transmission: random signs, discrete Fourier transform, interleaver.

        u = U x,  U = P F D

    D is a diagonal of pseudorandom signs, F the unitary Fourier transform over all symbols, P a pseudorandom
    permutation. All three follow from the number of symbols, so that both ends know them. U is unitary: the
    power stays the same. Every symbol sent is a sum of all symbols and therefore nearly Gaussian, with a
    peak-to-average power ratio of about ln(uses), some 10 dB, whatever the powers of the symbols.
    Differentiable in x.

    Args:
        x: Symbols, complex [batch, uses].

    Returns:
        Spread symbols of the same shape and precision.

    Reference:
        Jakubczak and Katabi, A cross-layer design for scalable mobile video, MobiCom 2011, 4.3, which spreads
        by a Hadamard transform over packets.
    """
    if not x.shape[1]:
        return x
    return _Transform.of(x).forward(x.to(torch.complex128)).to(x.dtype)


def despread(received: Received) -> Received:
    """Invert `spread`: the reception of the symbols themselves over an equivalent channel without fading.

        y = h U x + n   becomes   y' = g x + n',  n' of variance N0', equal for all symbols

    If |h|^2 / N0 is constant, y' = U^H conj(h) y / |h|, g = |h| and N0' = N0 exactly. Otherwise y' follows
    from the linear minimum mean square error estimate of x, found by vector approximate message passing: two
    estimators, one that knows gain and noise of every spread symbol and one that knows the power of every
    symbol, take turns, and each treats what the other says as symbols in white noise. y' / g is the estimate
    without its bias towards 0, whose noise is white in the limit of many symbols. The powers are estimated as
    well, as averages over groups of neighbouring symbols, a quarter of an octave of the index each, since
    encoders send strong symbols first.

    Args:
        received: Receptions of spread symbols, y [batch, uses], with h and N0.

    Returns:
        Equivalent receptions of the symbols: y' [batch, uses], g [batch, uses], at least 0 and constant over
        an item, and N0' [batch, 1], the mean of N0. g is 0 if nothing was received.

    Reference:
        Rangan, Schniter and Fletcher, Vector Approximate Message Passing, IEEE Trans. Inf. Theory 65(10),
        2019.
    """
    if not received.y.shape[1] or not len(received.y):
        return received
    transform = _Transform.of(received.y)
    noise_var = received.noise_var.double().clamp_min(LEAST_NOISE_VAR).expand(received.y.shape)
    precision = torch.view_as_real(received.h.to(torch.complex128)).square().sum(-1) / noise_var
    matched = received.h.conj().to(torch.complex128) * received.y / noise_var
    found = [transform.estimate(m[None], p[None]) for m, p in zip(matched, precision, strict=True)]
    level = noise_var.mean(1, keepdim=True)
    gain = torch.stack([precision for _, precision in found])[:, None].mul(level).sqrt()
    y = torch.cat([x for x, _ in found]) * gain
    h = gain.expand(received.y.shape).to(received.h.dtype)
    return Received(y.to(received.y.dtype), h, level.to(received.noise_var.dtype))


class _Transform:
    """U for a number of symbols, in double precision."""

    def __init__(self, signs: Float[Tensor, " uses"], place: Int[Tensor, " uses"]) -> None:
        self.signs, self.place, self.back = signs, place, place.argsort()
        uses = len(signs)
        octaves = torch.arange(1, uses + 1, device=signs.device, dtype=torch.float64).log2()
        _, self.group = (GROUPS_PER_OCTAVE * octaves).floor().unique(return_inverse=True)
        self.size = torch.bincount(self.group).double()

    @classmethod
    def of(cls, x: Tensor) -> "_Transform":
        rng, shape = NamedStreams(0, ("spreading",)), (x.shape[1],)
        signs = 1.0 - 2.0 * rng.bits("signs", shape)[0].double()
        # Not the permutation of `Interleaved`, which would undo it.
        return cls(signs.to(x.device), rng.uniform("places", shape)[0].argsort(stable=True).to(x.device))

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft(x * self.signs, norm="ortho")[:, self.place]

    def backward(self, u: Tensor) -> Tensor:
        return torch.fft.ifft(u[:, self.back], norm="ortho") * self.signs

    def estimate(
        self, matched: Complex[Tensor, "1 uses"], precision: Float[Tensor, "1 uses"]
    ) -> tuple[Complex[Tensor, "1 uses"], Float[Tensor, ""]]:
        """Symbols in white noise, and the precision of this noise, from conj(h) y / N0 and |h|^2 / N0."""
        largest = precision.max()
        if largest == 0:
            return torch.zeros_like(matched), largest
        if precision.min() > largest * (1 - 1e-6):  # equal up to rounding
            return self.backward(matched) / precision.mean(), precision.mean()
        # |conj(h) y|^2 = |h|^4 |u|^2 + |h|^2 N0 on average
        power = (torch.view_as_real(matched).square().sum() - precision.sum()) / precision.square().sum()
        power = power.clamp_min(LEAST_POWER)
        least = LEAST_POWER * power
        sent, certain = torch.zeros_like(matched), 1 / power  # of the spread symbols, before y is looked at
        x, heard = sent, torch.zeros_like(power)
        for _ in range(ITERATIONS):
            estimate = (certain * sent + matched) / (certain + precision)
            total = 1 / (1 / (certain + precision)).mean()
            before, heard = heard, total - certain
            x = self.backward((total * estimate - certain * sent) / heard)
            if (heard - before).abs() <= CONVERGED * heard:
                break
            variance = (self._powers(x) - 1 / heard).clamp_min(least)[self.group]
            shrunk = variance * heard / (1 + variance * heard)
            total = heard / shrunk.mean()
            certain = torch.maximum(total - heard, least * heard)
            sent = self.forward((total * shrunk * x - heard * x) / certain)
        return x, heard

    def _powers(self, x: Tensor) -> Float[Tensor, " groups"]:
        """Average of |x|^2 over every group."""
        energy = torch.view_as_real(x[0]).square().sum(-1)
        return torch.zeros_like(self.size).index_add(0, self.group, energy) / self.size
