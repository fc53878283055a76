"""Flat fading: Rayleigh and Rician block fading, and Rayleigh fading with a Doppler spectrum."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from channels.channel import Channel, Received, SnrDb, check_state, noise_var_column, spell
from channels.errors import ChannelError
from channels.streams import Streams

# E|h|^4 of the sum is 2 - 1/256: the probability of a deep fade is 0.2 % below that of a Gaussian gain.
JAKES_SINUSOIDS = 256


@runtime_checkable
class FlatChannel(Channel, Protocol):
    """A channel whose gain is one complex number per channel use, with known autocorrelation."""

    def correlation(
        self, first: Int[Tensor, "..."], second: Int[Tensor, "..."]
    ) -> Float[Tensor, "..."] | Complex[Tensor, "..."]:
        """Autocorrelation of the gain between channel uses, E[h(first) conj(h(second))].

        Args:
            first: Indices of channel uses, integers >= 0, any shape.
            second: Indices of channel uses, of a shape that broadcasts with `first`.

        Returns:
            Autocorrelation, float64 or complex128, of the broadcast shape; 1 where both indices are equal.
        """
        ...


@runtime_checkable
class BlockFading(Channel, Protocol):
    """A flat channel of independent gains, each constant over a block and known to the receiver.

    N0 follows from the average SNR, so that what such a channel carries follows from its gains alone.
    """

    @property
    def block_length(self) -> int:
        """Coherence length in channel uses, at least 1."""
        ...

    def gains(self, blocks: int, rng: Streams) -> Complex[Tensor, "batch blocks"]:
        """Draw the gains of one transmission of each item, as `draw` does.

        Args:
            blocks: Number of fading blocks, at least 0.
            rng: Random streams, one per item of the batch.

        Returns:
            Independent gains, complex64 [batch, blocks], E|h|^2 = 1.
        """
        ...


@dataclass(frozen=True, eq=False, slots=True)
class FlatFadingState:
    """Gains and noise of one transmission over flat fading.

    Args:
        h: Gain of each channel use, complex [batch, uses].
        noise: Noise samples, complex [batch, uses], of variance N0.
        noise_var: N0 per complex channel use, [batch, 1].
    """

    h: Complex[Tensor, "batch uses"]
    noise: Complex[Tensor, "batch uses"]
    noise_var: Float[Tensor, "batch 1"]


@dataclass(frozen=True)
class RayleighBlockFading:
    """Flat Rayleigh fading, constant over blocks of channel uses, with additive white Gaussian noise.

    y = h x + n,  h ~ CN(0, 1) per block,  n ~ CN(0, N0),  N0 = 10^(-snr_db/10).

    `snr_db` is the average over fading; the SNR within a block is |h|^2 times as large. The receiver is given
    the true h (wrap the channel in `PilotAided` or `NoCSI` to change that). The last block may be cut short.
    Blocks fade independently; `block_length=1` is fast fading.

    Args:
        block_length: Coherence length in channel uses, at least 1.

    Raises:
        ChannelError: `block_length` is smaller than 1.

    Reference:
        Tse and Viswanath, Fundamentals of Wireless Communication, 2.4.2 and 5.4.
    """

    block_length: int

    def __post_init__(self) -> None:
        _check_block_length(self.block_length)

    @property
    def name(self) -> str:
        """Canonical name, for instance "rayleigh:64" for blocks of 64 channel uses."""
        return f"rayleigh:{self.block_length}"

    def draw(self, uses: int, snr_db: SnrDb, rng: Streams) -> FlatFadingState:
        """Draw one gain h ~ CN(0, 1) per block, and the noise of every channel use."""
        gains = self.gains(math.ceil(uses / self.block_length), rng)
        return _state(_per_use(gains, self.block_length, uses), snr_db, rng)

    def gains(self, blocks: int, rng: Streams) -> Complex[Tensor, "batch blocks"]:
        """Draw one gain h ~ CN(0, 1) per block."""
        return rng.complex_normal("gain", (blocks,))

    def apply(self, x: Complex[Tensor, "batch uses"], state: FlatFadingState) -> Received:
        """Multiply by the gain and add the noise; the receiver is told the true gain and N0."""
        return _apply(x, state)

    def correlation(self, first: Int[Tensor, "..."], second: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Autocorrelation of the gain: 1 within a block, 0 between blocks."""
        return _same_block(first, second, self.block_length)

    def overhead(self, uses: int) -> int:
        """Channel uses added to `uses` data symbols: 0, since this channel has no pilots."""
        return 0

    def data_uses(self, total: int) -> int:
        """Data symbols that fit `total` channel uses: all `total`, since this channel has no pilots."""
        return total


@dataclass(frozen=True)
class RicianBlockFading:
    """Flat Rician fading, constant over blocks of channel uses, with additive white Gaussian noise.

    y = h x + n,  h = sqrt(K/(K+1)) e^(j theta) + sqrt(1/(K+1)) g,  g ~ CN(0, 1),  theta uniform, per block.

    E|h|^2 = 1 for every K, so `snr_db` is the average received Es/N0. The phase of the line of sight is
    random in each block, so the mean of h is 0: without channel knowledge, coherent detection is impossible.
    The receiver is given the true h.

    Args:
        block_length: Coherence length in channel uses, at least 1.
        k_factor_db: Power ratio of line of sight and scattered part in dB, -100 to 100.

    Raises:
        ChannelError: `block_length` is smaller than 1, or `k_factor_db` is outside its range.

    Reference:
        Tse and Viswanath, Fundamentals of Wireless Communication, 2.4.2, eq. (2.55).
    """

    block_length: int
    k_factor_db: float

    def __post_init__(self) -> None:
        _check_block_length(self.block_length)
        if not -100 <= self.k_factor_db <= 100:
            raise ChannelError(
                f"K factor of {self.k_factor_db:g} dB is outside -100..100 dB; "
                "use AWGN or RayleighBlockFading for the limits"
            )

    @property
    def name(self) -> str:
        """Canonical name, for instance "rician:64:6" for blocks of 64 channel uses and K = 6 dB."""
        return f"rician:{self.block_length}:{spell(self.k_factor_db)}"

    def draw(self, uses: int, snr_db: SnrDb, rng: Streams) -> FlatFadingState:
        """Draw line of sight and scattered part of one gain per block, and the noise of every channel use."""
        gains = self.gains(math.ceil(uses / self.block_length), rng)
        return _state(_per_use(gains, self.block_length, uses), snr_db, rng)

    def gains(self, blocks: int, rng: Streams) -> Complex[Tensor, "batch blocks"]:
        """Draw line of sight and scattered part of one gain per block."""
        k_factor = 10.0 ** (self.k_factor_db / 10.0)
        phase = 2 * math.pi * rng.uniform("line of sight", (blocks,))
        line_of_sight = torch.polar(torch.ones_like(phase), phase) * math.sqrt(k_factor / (k_factor + 1))
        scattered = rng.complex_normal("gain", (blocks,)) * math.sqrt(1 / (k_factor + 1))
        return line_of_sight + scattered

    def apply(self, x: Complex[Tensor, "batch uses"], state: FlatFadingState) -> Received:
        """Multiply by the gain and add the noise; the receiver is told the true gain and N0."""
        return _apply(x, state)

    def correlation(self, first: Int[Tensor, "..."], second: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Autocorrelation of the gain: 1 within a block, 0 between blocks, whose phases are independent."""
        return _same_block(first, second, self.block_length)

    def overhead(self, uses: int) -> int:
        """Channel uses added to `uses` data symbols: 0, since this channel has no pilots."""
        return 0

    def data_uses(self, total: int) -> int:
        """Data symbols that fit `total` channel uses: all `total`, since this channel has no pilots."""
        return total


@dataclass(frozen=True)
class JakesFading:
    """Flat Rayleigh fading with the Doppler spectrum of isotropic scattering, and white Gaussian noise.

    y_t = h_t x_t + n_t,  E|h_t|^2 = 1,  E[h_(t+s) conj(h_t)] = J0(2 pi f_D T s).

    The gain is a sum of 256 sinusoids of random phase, whose angles of arrival are drawn one from each of 256
    equal sectors of the circle. Power and autocorrelation of the ensemble are exact at every lag, and the
    first gains do not depend on how many are drawn. Known limits: E|h|^4 is 2 - 1/256 instead of 2; the
    spectrum of a single item consists of lines, which shows in transmissions longer than about 256 / f_D T
    channel uses.

    Args:
        normalized_doppler: f_D T, maximum Doppler shift times the duration of a channel use, 0 to 0.5; at 0
            the gain is constant over the item. One coherence time is about 0.4 / f_D T channel uses.

    Raises:
        ChannelError: `normalized_doppler` is outside 0..0.5, where the fading would alias.

    Reference:
        Clarke, A Statistical Theory of Mobile-Radio Reception, 1968; Xiao, Zheng and Beaulieu, Novel
        Sum-of-Sinusoids Simulation Models for Rayleigh and Rician Fading Channels, 2006.
    """

    normalized_doppler: float

    def __post_init__(self) -> None:
        if not 0 <= self.normalized_doppler <= 0.5:
            raise ChannelError(
                f"normalised Doppler of {self.normalized_doppler:g} is outside 0..0.5 cycles per use; "
                "use rayleigh:1 for gains that change in every use"
            )

    @property
    def name(self) -> str:
        """Canonical name, for instance "jakes:0.01" for f_D T = 0.01."""
        return f"jakes:{spell(self.normalized_doppler)}"

    def draw(self, uses: int, snr_db: SnrDb, rng: Streams) -> FlatFadingState:
        """Draw the sinusoids whose sum is the gain, and the noise of every channel use."""
        angle = rng.uniform("angle", (JAKES_SINUSOIDS,))
        phase = rng.uniform("phase", (JAKES_SINUSOIDS,))
        return _state(sum_of_sinusoids(angle, phase, self.normalized_doppler, uses), snr_db, rng)

    def apply(self, x: Complex[Tensor, "batch uses"], state: FlatFadingState) -> Received:
        """Multiply by the gain and add the noise; the receiver is told the true gain and N0."""
        return _apply(x, state)

    def correlation(self, first: Int[Tensor, "..."], second: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Autocorrelation of the gain: J0(2 pi f_D T s) at a lag of s channel uses."""
        return clarke_correlation(self.normalized_doppler * (first - second).double())

    def overhead(self, uses: int) -> int:
        """Channel uses added to `uses` data symbols: 0, since this channel has no pilots."""
        return 0

    def data_uses(self, total: int) -> int:
        """Data symbols that fit `total` channel uses: all `total`, since this channel has no pilots."""
        return total


def sum_of_sinusoids(
    angle: Float[Tensor, "*batch sinusoids"],
    phase: Float[Tensor, "*batch sinusoids"],
    doppler: float,
    samples: int,
    start: float = 0.0,
) -> Complex[Tensor, "*batch samples"]:
    """Rayleigh gains h_t = M^(-1/2) sum_m exp(2 pi j (f t cos(alpha_m) + phase_m)), t = start, start + 1, ...

    Args:
        angle: Position of each arrival within its sector, uniform on [0, 1), [*batch, M]: alpha_m = 2 pi (m +
            angle_m) / M.
        phase: Phases in cycles, uniform on [0, 1), [*batch, M].
        doppler: f, maximum Doppler shift in cycles per sample, 0 to 0.5.
        samples: Number of gains.
        start: Time of the first gain in samples.

    Returns:
        Gains, complex64 [*batch, samples], with E|h|^2 = 1.
    """
    count = angle.shape[-1]
    if doppler == 0:
        still = _cycles(phase.double()).sum(-1, keepdim=True) * count**-0.5
        return still.to(torch.complex64).expand(*phase.shape[:-1], samples)
    alpha = 2 * math.pi * (torch.arange(count, device=angle.device) + angle.double()) / count
    frequency = doppler * alpha.cos()
    phase = phase + frequency * start
    # exp(f (a + b)) = exp(f a) exp(f b) turns the sum into one matrix product, with few exponentials
    stride = max(1, min(64, samples))
    fine = torch.arange(stride, device=angle.device)
    coarse = stride * torch.arange(math.ceil(samples / stride), device=angle.device)
    left = _cycles(coarse[:, None] * frequency[..., None, :] + phase[..., None, :])
    right = _cycles(frequency[..., :, None] * fine)
    h = (left @ right).flatten(-2)[..., :samples]
    return (h * count**-0.5).to(torch.complex64)


def clarke_correlation(turns: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Autocorrelation of Rayleigh fading under isotropic scattering, J0(2 pi f t).

    Args:
        turns: f t, Doppler shift times lag in cycles, any shape.

    Returns:
        Autocorrelation in -0.41..1, float64, same shape.

    Reference:
        Clarke, A Statistical Theory of Mobile-Radio Reception, 1968.
    """
    from scipy.special import j0  # pyright: ignore  # networks are trained where there is no SciPy

    # torch.special.bessel_j0 is off by up to 4e-7 where its argument is 5 to 10, in double precision too
    return torch.as_tensor(j0(2 * math.pi * np.asarray(turns.double().cpu())), device=turns.device)


def _cycles(turns: Tensor) -> Tensor:
    turns = 2 * math.pi * turns
    return torch.complex(turns.cos(), turns.sin())


def _check_block_length(block_length: int) -> None:
    if block_length < 1:
        raise ChannelError(f"block length of {block_length} channel uses is too short; give at least 1")


def _per_use(gains: Tensor, block_length: int, uses: int) -> Tensor:
    place = torch.arange(uses, device=gains.device) // min(block_length, max(uses, 1))
    return gains[:, place]


def _same_block(first: Tensor, second: Tensor, block_length: int) -> Tensor:
    return (first // block_length == second // block_length).double()


def _state(h: Tensor, snr_db: SnrDb, rng: Streams) -> FlatFadingState:
    noise = rng.complex_normal("noise", (h.shape[1],))
    noise_var = noise_var_column(snr_db, rng.batch).to(noise.device)
    return FlatFadingState(h, noise * noise_var.sqrt(), noise_var)


def _apply(x: Tensor, state: FlatFadingState) -> Received:
    check_state(x, state.noise)
    h = state.h.to(x)
    return Received(h * x + state.noise.to(x), h, state.noise_var.to(x.device))
