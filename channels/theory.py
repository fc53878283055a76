"""Closed forms against which links are measured: error rates, capacities, outage, finite block length.

SNR is average received Es/N0 in dB (transmit power 1, E|h|^2 = 1), a number or an array.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

from channels.constellation import Constellation
from channels.errors import ChannelError

Values = float | NDArray[np.floating[Any]]


def q_function(x: Values) -> Values:
    """Gaussian tail probability, Q(x) = P(N(0, 1) > x).

    Args:
        x: Real argument, a number or an array.

    Returns:
        Probability in 0..1, same shape.
    """
    return special.ndtr(-np.asarray(x))


def inverse_q_function(p: Values) -> Values:
    """Inverse of the Gaussian tail probability: the x with Q(x) = p.

    Args:
        p: Probability in (0, 1), a number or an array.

    Returns:
        Real x, same shape.
    """
    return -special.ndtri(np.asarray(p))


def ber(constellation_size: int, snr_db: Values) -> Values:
    """Bit error rate of BPSK, QPSK or square QAM on AWGN, Gray labels, nearest-point decisions; exact.

    Args:
        constellation_size: M: 2, 4, 16, 64 or 256.
        snr_db: Es/N0 in dB, a number or an array.

    Returns:
        Bit error rate in 0..1/2, same shape as `snr_db`.

    Raises:
        ChannelError: There is no constellation of this size.

    Reference:
        Cho and Yoon, IEEE Trans. Commun. 50(7), 2002, eq. (14) and (16).

    Example:
        >>> round(float(ber(2, 9.6)), 6)  # the textbook's 1e-5
        1e-05
    """
    snr = _linear(snr_db)

    def on_awgn(a: float) -> Values:
        return q_function(a * np.sqrt(snr))

    return _sum_q_terms(constellation_size, on_awgn)


def ber_rayleigh(constellation_size: int, snr_db: Values) -> Values:
    """Bit error rate of BPSK, QPSK or square QAM over Rayleigh fading known at the receiver; exact.

    The bit error rate on AWGN, averaged over |h|^2 ~ Exp(1):
    E Q(a |h| sqrt(snr)) = (1 - sqrt(s / (1 + s))) / 2,  s = a^2 snr / 2.

    Args:
        constellation_size: M: 2, 4, 16, 64 or 256.
        snr_db: Average received Es/N0 in dB, a number or an array.

    Returns:
        Bit error rate in 0..1/2, same shape as `snr_db`.

    Raises:
        ChannelError: There is no constellation of this size.

    Reference:
        Proakis and Salehi, Digital Communications, 5th ed., eq. (13.3-7).
    """
    snr = _linear(snr_db)

    def averaged(a: float) -> Values:
        s = a * a * snr / 2
        # (1 - sqrt(s / (1 + s))) / 2 without cancellation at high SNR
        return 0.5 / (1 + s) / (1 + np.sqrt(s / (1 + s)))

    return _sum_q_terms(constellation_size, averaged)


def ser(constellation_size: int, snr_db: Values) -> Values:
    """Symbol error rate of BPSK, QPSK or square QAM on AWGN, nearest-point decisions; exact.

    1 - (1 - p)^2 with p = 2 (1 - 1/sqrt(M)) Q(sqrt(3 snr / (M - 1))).

    Args:
        constellation_size: M: 2, 4, 16, 64 or 256.
        snr_db: Es/N0 in dB, a number or an array.

    Returns:
        Symbol error rate in 0..1, same shape as `snr_db`.

    Raises:
        ChannelError: There is no constellation of this size.

    Reference:
        Proakis and Salehi, Digital Communications, 5th ed., 4.3-3.
    """
    snr = _linear(snr_db)
    _check_size(constellation_size)
    if constellation_size == 2:
        return q_function(np.sqrt(2 * snr))
    p = 2 * (1 - constellation_size**-0.5) * q_function(np.sqrt(3 * snr / (constellation_size - 1)))
    return p * (2 - p)


def ser_rayleigh(constellation_size: int, snr_db: Values) -> Values:
    """Symbol error rate of BPSK, QPSK or square QAM over Rayleigh fading known at the receiver; exact.

    Args:
        constellation_size: M: 2, 4, 16, 64 or 256.
        snr_db: Average received Es/N0 in dB, a number or an array.

    Returns:
        Symbol error rate in 0..1, same shape as `snr_db`.

    Raises:
        ChannelError: There is no constellation of this size.

    Reference:
        Simon and Alouini, Digital Communication over Fading Channels, 2nd ed., eq. (8.106).
    """
    snr = _linear(snr_db)
    _check_size(constellation_size)
    if constellation_size == 2:
        return ber_rayleigh(2, snr_db)
    share = 1 - constellation_size**-0.5
    s = 1.5 * snr / (constellation_size - 1)
    root = np.sqrt(s / (1 + s))
    left = 1 / (1 + s) / (1 + root)  # 1 - root without cancellation at high SNR
    # 2 share (1 - root) - share^2 (1 - root (4 / pi) arctan(1 / root)), arctan as its distance from pi / 4
    return share * (2 - share) * left + share**2 * root * (4 / np.pi) * np.arctan(left / (1 + root))


def capacity(snr_db: Values) -> Values:
    """Shannon capacity of complex AWGN, log2(1 + snr) bits per channel use.

    Args:
        snr_db: Es/N0 in dB, a number or an array.

    Returns:
        Bits per channel use, same shape.
    """
    return np.log2(1 + _linear(snr_db))


def ergodic_capacity_rayleigh(snr_db: Values) -> Values:
    """Ergodic capacity of Rayleigh fading known at the receiver only, in bits per channel use.

    E log2(1 + |h|^2 snr) = e^(1/snr) E1(1/snr) / ln 2,  |h|^2 ~ Exp(1).

    Args:
        snr_db: Average received Es/N0 in dB, a number or an array.

    Returns:
        Bits per channel use, same shape.

    Reference:
        Lee, IEEE Trans. Veh. Technol. 39(3), 1990, eq. (5).
    """
    return special.hyperu(1, 1, 1 / _linear(snr_db)) / math.log(2)  # U(1, 1, z) = e^z E1(z)


def constellation_capacity(constellation_size: int, snr_db: Values) -> Values:
    """Mutual information of equally likely points on AWGN, in bits per channel use ("CM capacity").

    log2 M - E log2 sum_x' exp((|n|^2 - |x - x' + n|^2) / N0), per real dimension by Gauss-Hermite quadrature.

    Args:
        constellation_size: M: 2, 4, 16, 64 or 256.
        snr_db: Es/N0 in dB, a number or an array.

    Returns:
        Bits per channel use in 0..log2 M, same shape as `snr_db`.

    Raises:
        ChannelError: There is no constellation of this size.

    Reference:
        Ungerboeck, IEEE Trans. Inf. Theory 28(1), 1982, eq. (5).
    """
    levels, dimensions = _levels(constellation_size)
    metric = _metrics(levels, levels, snr_db)
    own = np.diagonal(metric, axis1=-3, axis2=-1)  # [..., nodes, levels]
    total = _log_sum_exp(metric)  # [..., levels, nodes]
    loss = (total - np.moveaxis(own, -1, -2)) / math.log(2)
    return dimensions * (math.log2(len(levels)) - (loss.mean(-2) * _hermite()[1]).sum(-1))


def bicm_capacity(constellation_size: int, snr_db: Values) -> Values:
    """Mutual information of bitwise decoding (BICM) on AWGN, sum over the bits of I(bit; y), per channel use.

    sum_j 1 - E log2(1 + exp(-(1 - 2 b_j) LLR_j)), Gray labels, per real dimension by Gauss-Hermite
    quadrature.

    Args:
        constellation_size: M: 2, 4, 16, 64 or 256.
        snr_db: Es/N0 in dB, a number or an array.

    Returns:
        Bits per channel use in 0..log2 M, same shape as `snr_db`.

    Raises:
        ChannelError: There is no constellation of this size.

    Reference:
        Caire, Taricco and Biglieri, IEEE Trans. Inf. Theory 44(3), 1998, eq. (15).
    """
    levels, dimensions = _levels(constellation_size)
    sent = np.flatnonzero(levels > 0)  # Gray labels are symmetric, and so is the noise
    metric = _metrics(levels[sent], levels, snr_db)
    label = np.arange(len(levels))[:, None] >> np.arange(len(levels).bit_length() - 1) & 1  # [levels, bits]
    # One exponential for all bits; the bound of 1e-300 is reached by noise of weight 0 only.
    likelihood = np.exp(metric - metric.max(-1, keepdims=True))
    zero, one = (np.log(np.maximum(likelihood @ which, 1e-300)) for which in (1.0 - label, 1.0 * label))
    wrong = np.where(label[sent][:, None], zero - one, one - zero)  # [..., levels, nodes, bits]
    loss = np.logaddexp(0, wrong) / math.log(2)
    return dimensions * (1 - (loss.mean(-3) * _hermite()[1][:, None]).sum(-2)).sum(-1)


def outage_rayleigh(bits_per_use: float, snr_db: Values, fading_blocks: int = 1) -> Values:
    """Outage probability of block Rayleigh fading at a given rate.

    P(mean over the fading blocks of log2(1 + |h|^2 snr) < bits_per_use),  |h|^2 ~ Exp(1) per block.

    One block: 1 - exp(-(2^R - 1) / snr), exact. More blocks: the distribution of one term on a grid of 2^14
    steps (finer for more than 64 blocks) is convolved; the relative error is below 0.1 % for results above
    1e-9, up to 4096 blocks.

    Args:
        bits_per_use: Rate R in bits per channel use, finite and above 0.
        snr_db: Average received Es/N0 in dB, a number or an array.
        fading_blocks: Number of independent fading blocks, at least 1.

    Returns:
        Probability in 0..1, same shape as `snr_db`.

    Raises:
        ChannelError: There is no fading block, or the rate is not finite and positive.

    Reference:
        Ozarow, Shamai and Wyner, IEEE Trans. Veh. Technol. 43(2), 1994.
    """
    if fading_blocks < 1 or not 0 < bits_per_use < math.inf:
        raise ChannelError(
            f"outage of {bits_per_use:g} bits per use over {fading_blocks} fading blocks: "
            "give at least one block and a finite rate above 0"
        )
    snr = np.asarray(_linear(snr_db))
    if fading_blocks == 1:
        return -np.expm1(-_least(bits_per_use) / snr)
    each = [_outage_of_blocks(bits_per_use, float(s), fading_blocks) for s in snr.reshape(-1)]
    return np.asarray(each).reshape(snr.shape)[()]


def dispersion(snr_db: Values) -> Values:
    """Channel dispersion of complex AWGN, V = snr (snr + 2) / (snr + 1)^2 log2(e)^2, in bits^2 per use.

    Args:
        snr_db: Es/N0 in dB, a number or an array.

    Returns:
        Dispersion V, same shape.

    Reference:
        Polyanskiy, Poor and Verdu, IEEE Trans. Inf. Theory 56(5), 2010.
    """
    snr = _linear(snr_db)
    return snr * (snr + 2) / (snr + 1) ** 2 / math.log(2) ** 2


def normal_approximation_bits(channel_uses: Values, snr_db: Values, error: Values) -> Values:
    """Bits that the best code of finite length carries on AWGN at a given block error rate.

    k C - sqrt(k V) Qinv(error) + log2(2k) / 2, for 2k real dimensions. The approximation is good from about
    100 channel uses; the result is limited to 0..k C, because at very low SNR the logarithm dominates.

    Args:
        channel_uses: k, complex channel uses.
        snr_db: Es/N0 in dB.
        error: Block error rate in (0, 1).

    Returns:
        Information bits, of the broadcast shape of the arguments.

    Reference:
        Polyanskiy, Poor and Verdu, IEEE Trans. Inf. Theory 56(5), 2010, eq. (291) to (296).
    """
    k = np.asarray(channel_uses)
    backoff = np.sqrt(k * dispersion(snr_db)) * inverse_q_function(error)
    return np.maximum(k * capacity(snr_db) - np.maximum(backoff - np.log2(2 * k) / 2, 0.0), 0.0)


def normal_approximation_error(bits: Values, channel_uses: Values, snr_db: Values) -> Values:
    """Lowest block error rate of a code of finite length, the inverse of `normal_approximation_bits`.

    Q((k C + log2(2k) / 2 - bits) / sqrt(k V)). Invalid where `normal_approximation_bits` is limited: above k
    C bits, and where sqrt(k V) is not above log2(2k) / 2 (in 1000 channel uses below some -20 dB), where it
    is far too low.

    Args:
        bits: Information bits.
        channel_uses: k, complex channel uses.
        snr_db: Es/N0 in dB.

    Returns:
        Block error rate in 0..1, of the broadcast shape of the arguments.

    Reference:
        Polyanskiy, Poor and Verdu, IEEE Trans. Inf. Theory 56(5), 2010.
    """
    k = np.asarray(channel_uses)
    margin = k * capacity(snr_db) + np.log2(2 * k) / 2 - bits
    return q_function(margin / np.sqrt(k * dispersion(snr_db)))


def phase_tracking_error(linewidth: float, spacing: int, snr_db: float) -> NDArray[np.float64]:
    """Error of the rotation of Wiener phase noise, estimated from pilots by the Wiener filter on AWGN.

    e^(j phi) has the autocorrelation e^(-pi linewidth s) of a Markov process. From the pilots on one side,
    its error is M at the nearest, 1 - e^(-2 pi linewidth d) (1 - M) at a distance of d; both sides join by
    1/V = 1/V_left + 1/V_right - 1. M = P N0 / (P + N0) with P = 1 - a^2 + a^2 M, a = e^(-pi linewidth D).

    Args:
        linewidth: Two-sided 3 dB linewidth times the duration of a symbol, above 0.
        spacing: Data symbols between two pilots, D - 1, at least 1.
        snr_db: Es/N0 in dB.

    Returns:
        E|estimate - e^(j phi)|^2 of each data symbol between two pilots of many, [spacing].

    Reference:
        Kay, Fundamentals of Statistical Signal Processing: Estimation Theory, chapters 12 and 13.
    """
    noise, decay = 10 ** (-snr_db / 10), 2 * math.pi * linewidth
    changed = -math.expm1(-decay * (spacing + 1))
    half = changed * (1 - noise) / 2
    prior = half + math.sqrt(half * half + changed * noise)
    filtered = prior * noise / (prior + noise)
    ahead = np.arange(1, spacing + 1)
    left, right = (1 - np.exp(-decay * d) * (1 - filtered) for d in (ahead, spacing + 1 - ahead))
    return 1 / (1 / left + 1 / right - 1)


def clipping_distortion(papr_db: float, correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Autocorrelation of what clipping adds to a Gaussian waveform of power 1.

    c min(1, A / abs(x)) x is expanded in the complex Hermite polynomials x L_n^1(abs(x)^2); with the power
    b_n in the n-th, the distortion has the autocorrelation sum_(n>0) b_n r^(2n+1), and r = 1 gives its power.
    b_n (n+1) / c^2 is the square of (A / 2n) times the integral of sqrt(u) e^(-u) L_(n-1)^2(u) from A^2 on.
    Terms beyond the 31st are taken to have the shape of the 32nd.

    Args:
        papr_db: Peak-to-average power ratio after clipping in dB, above 0.
        correlation: r, autocorrelation of the waveform before clipping, real, -1 to 1, any shape.

    Returns:
        Autocorrelation of the distortion, same shape.

    Reference:
        Ochiai and Imai, Performance Analysis of Deliberately Clipped OFDM Signals, 2002.
    """
    ratio = max(10 ** (papr_db / 10), 1 + 1e-7)  # nearer to 1 rounding passes the end of Lambert's W
    inner = special.lambertw(-ratio * math.exp(-ratio))  # pyright: ignore
    limit = float((ratio + inner).real)  # A^2 = ratio (1 - exp(-A^2))
    left = -math.expm1(-limit)
    gain = left + 0.5 * math.sqrt(math.pi * limit) * math.erfc(math.sqrt(limit))
    node, weight = _legendre(200)
    low, high = min(math.sqrt(limit), 13.0), 13.0  # e^(-13^2) is nothing
    w = low + (high - low) * (node + 1) / 2
    weight = weight * (high - low) * w * w * np.exp(-w * w)  # u = w^2
    total, rest = np.zeros_like(correlation), 1 - gain**2 / left
    for n in range(1, 32):
        inner = float(weight @ special.eval_genlaguerre(n - 1, 2, w * w))
        share = limit / (4 * n * n * (n + 1)) * inner**2 / left
        total, rest = total + share * correlation ** (2 * n + 1), rest - share
    return total + rest * correlation**65


def _log_sum_exp(metric: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.logaddexp.reduce(metric, axis=-1)


def _linear(snr_db: Values) -> Values:
    return 10.0 ** (np.asarray(snr_db) / 10.0)


def _check_size(constellation_size: int) -> None:
    Constellation(constellation_size)


def _sum_q_terms(size: int, q_of: Callable[[float], Values]) -> Values:
    """Mean over the bits of sum_i w_i q_of(a_i), where q_of(a) stands for Q(a sqrt(snr))."""
    _check_size(size)
    if size == 2:
        return q_of(math.sqrt(2))
    side = math.isqrt(size)
    bits = side.bit_length() - 1
    step = math.sqrt(3 / (size - 1))  # half the distance of neighbours, in noise standard deviations at snr 1
    total: Values = 0.0
    for k in range(1, bits + 1):
        for i in range(side - side // 2**k):
            flips = i * 2 ** (k - 1) // side
            weight = (-1) ** flips * (2 ** (k - 1) - math.floor(i * 2 ** (k - 1) / side + 0.5))
            total = total + 2 * weight * q_of((2 * i + 1) * step)  # erfc(z) = 2 Q(sqrt(2) z)
    return total / side / bits


@functools.cache
def _hermite() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes and weights for E f(n), n ~ N(0, 1)."""
    rule: Any = special.roots_hermitenorm(128)  # pyright: ignore
    weights = rule[1] / math.sqrt(2 * math.pi)
    kept = weights > 1e-20  # a third of the nodes weigh less
    return rule[0][kept], weights[kept]


def _levels(size: int) -> tuple[NDArray[np.float64], int]:
    """Levels of one real dimension by label, and the number of dimensions."""
    levels: NDArray[np.float64] = Constellation(size).levels.double().numpy()  # pyright: ignore
    return levels, 1 if size == 2 else 2


def _metrics(sent: NDArray[np.float64], levels: NDArray[np.float64], snr_db: Values) -> NDArray[np.float64]:
    """-|y - a'|^2 / N0 in one real dimension: [..., sent level, noise node, level a']."""
    snr = np.asarray(_linear(snr_db))[..., None, None, None]
    noise = _hermite()[0][:, None] / np.sqrt(2 * snr)
    y = sent[:, None, None] + noise
    return -((y - levels) ** 2) * snr


def _legendre(count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes on -1..1 and weights of Gauss-Legendre quadrature."""
    return np.polynomial.legendre.leggauss(count)  # pyright: ignore


def _outage_of_blocks(bits_per_use: float, snr: float, blocks: int) -> float:
    # The squared error of rounding to a cell, (blocks R / steps)^2 / 12, is that of each term.
    steps = 2**14 << math.ceil(math.log2(min(max(blocks / 64, 1), 64)))
    limit = blocks * bits_per_use
    edges = np.linspace(0, limit, steps + 1)
    total = _sum_law(-np.diff(np.exp(-_least(edges) / snr)), blocks)  # of the mass between neighbouring edges
    # Each term sits at the centre of its cell: the sum of b terms in cell i is (i + b/2) steps, spread
    # symmetrically, so the sum below the limit is interpolated in the cumulative mass.
    cumulative = np.concatenate([[0.0], np.cumsum(np.maximum(total, 0.0))])
    return min(float(np.interp(steps - (blocks - 1) / 2, np.arange(steps + 1), cumulative)), 1.0)


def _least(bits: Values) -> Values:
    """Smallest |h|^2 snr that carries a number of bits, 2^bits - 1; finite for large arguments."""
    return np.expm1(np.minimum(np.asarray(bits) * math.log(2), 700.0))


def _sum_law(one: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Distribution of the sum of `count` independent terms distributed on 0, 1, ..., truncated."""
    size = one.size
    power, total = one, np.ones(1)
    while count:
        spectrum = np.fft.rfft(power, 2 * size)
        if count & 1:
            total = np.fft.irfft(np.fft.rfft(total, 2 * size) * spectrum, 2 * size)[:size]
        power = np.fft.irfft(spectrum**2, 2 * size)[:size]
        count >>= 1
    return total
