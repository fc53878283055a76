"""Modulation and coding schemes of 5G NR, in one ordered table."""

# torch's and numpy's stubs leave types open
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from channels.channel import Channel
from channels.constellation import Constellation
from channels.errors import ChannelError
from channels.fec.transport import TransportBlock
from channels.header import QPSK, ControlHeader, uses_for_budget, uses_for_snr
from channels.realisations import depends_on_symbols, realisations
from channels.theory import bicm_capacity, inverse_q_function, q_function


@dataclass(frozen=True, slots=True)
class Mcs:
    """Modulation and coding scheme: a constellation and its code rate.

    Args:
        index: Position in `MCS_TABLE`; not an index of the standard.
        bits_per_symbol: log2 M of the constellation: 2, 4, 6 or 8.
        code_rate: Information bits (CRCs included) per coded bit, in (0, 1).

    Example:
        >>> MCS_TABLE[3]
        Mcs(index=3, bits_per_symbol=2, code_rate=0.1171875)
    """

    index: int
    bits_per_symbol: int
    code_rate: float

    @property
    def name(self) -> str:
        """Constellation and code rate in 1024ths, as the standard writes it, for instance "16-qam-378"."""
        return f"{self.constellation.name}-{self.code_rate * 1024:g}"

    @property
    def constellation(self) -> Constellation:
        """Constellation with 2^bits_per_symbol points."""
        return Constellation(2**self.bits_per_symbol)

    @property
    def bits_per_use(self) -> float:
        """Spectral efficiency R log2 M in bits per channel use, CRCs included."""
        return self.code_rate * self.bits_per_symbol


# by bits per symbol: 1024 times the code rate
_LOW_RATES = {2: (30.0, 50.0, 78.0)}  # rows 0, 2 and 4 of TS 38.214, Table 5.1.3.1-3
_RATES = {  # TS 38.214, Table 5.1.3.1-2
    2: (120.0, 193.0, 308.0, 449.0, 602.0),
    4: (378.0, 434.0, 490.0, 553.0, 616.0, 658.0),
    6: (466.0, 517.0, 567.0, 616.0, 666.0, 719.0, 772.0, 822.0, 873.0),
    8: (682.5, 711.0, 754.0, 797.0, 841.0, 885.0, 916.5, 948.0),
}
_ROWS = [(m, r / 1024) for table in (_LOW_RATES, _RATES) for m, rates in table.items() for r in rates]

MCS_TABLE: tuple[Mcs, ...] = tuple(Mcs(i, m, r) for i, (m, r) in enumerate(_ROWS))
"""31 schemes in rising order of bits per use, from 0.06 to 7.41.

Rows 3 to 30 are rows 0 to 27 of TS 38.214, Table 5.1.3.1-2, which reaches 256-QAM. Rows 0 to 2 are from
Table 5.1.3.1-3, in steps of about 2 dB; the index fits five bits. On AWGN the longest message of row 0 is
lost once in 100 at -11.4 dB in 4096 channel uses and at -12.1 dB in 24 576. A link that adapts is limited
by its header: to -7.4 dB in 4096 channel uses and -11.2 dB in 24 576.
"""

SIZES = 64
"""Number of message lengths that a header can announce, 64ths of the longest message."""


def header_of(mcs: Mcs, adapted: bool, data_uses: int) -> ControlHeader:
    """Control header of a digital link.

    With a fixed MCS, the header announces the message size in 6 bits, coded for the lowest SNR at which the
    MCS is useful. With an adapted MCS, it announces MCS and size in 11 bits, and its length must not depend
    on the MCS.

    Args:
        mcs: Constellation and code rate.
        adapted: Whether the header announces the MCS.
        data_uses: Channel uses of header and payload together.

    Returns:
        The header, of at most `data_uses` channel uses.
    """
    if adapted:
        return ControlHeader(11, min(uses_for_budget(data_uses), data_uses), data_uses)
    return ControlHeader(6, min(uses_for_snr(2**mcs.bits_per_use - 1), data_uses), data_uses)


@functools.lru_cache(maxsize=4096)
def largest_message(mcs: Mcs, header: ControlHeader, data_uses: int) -> int:
    """The longest message whose code blocks, with their CRCs, do not exceed the code rate.

    Args:
        mcs: Constellation and highest code rate.
        header: Control header of the link.
        data_uses: Channel uses of header and payload together.

    Returns:
        Information bits, a multiple of 8; 0 if nothing fits.
    """
    coded_bits = (data_uses - header.uses) * mcs.bits_per_symbol
    room = math.floor(mcs.code_rate * coded_bits)
    bits = (room - 16) // 8 * 8  # 16 bits: the shortest CRC of a message
    while bits > 0:
        plan = TransportBlock(bits, coded_bits, mcs.bits_per_symbol)
        excess = plan.blocks * plan.block.info_bits - room
        if excess <= 0:
            return bits
        # One bit less may save two CRCs, and the padding that makes code blocks equal.
        sure = (excess - plan.blocks - 64) * 99 // 100
        bits -= max(8, sure // 8 * 8)
    return 0


def announced_sizes(longest: int) -> tuple[int, ...]:
    """Message lengths that a header can announce: 64ths of the longest, in whole bytes.

    Args:
        longest: The longest message in bits, a multiple of 8.

    Returns:
        Lengths in bits, longest first; empty if `longest` is 0.
    """
    return tuple(max(8, longest * (SIZES - q) // SIZES // 8 * 8) for q in range(SIZES)) if longest else ()


@dataclass(frozen=True, eq=False, slots=True)
class BlerTable:
    """Block error rates on AWGN, fitted to counts of blocks sent and lost with this package's decoder.

    Each curve is fitted with BLER = Q((snr_db - center_db) / width_db) by maximum likelihood, which
    extrapolates below the lowest measured rate; center and width are interpolated over the logarithm of the
    block length. Block lengths between the two longest measured ones use the largest lifting size, whose
    filler bits cost up to 0.1 dB. An error floor is not modelled.

    Args:
        log2_bits: Per MCS, log2 of the measured block lengths K', CRC included, ascending.
        center_db: Per MCS and length, SNR in dB at BLER 1/2.
        width_db: Per MCS and length, width of the waterfall in dB.
    """

    log2_bits: tuple[NDArray[np.float64], ...]
    center_db: tuple[NDArray[np.float64], ...]
    width_db: tuple[NDArray[np.float64], ...]

    @classmethod
    def fit(cls, counts: NDArray[np.float64]) -> "BlerTable":
        """Fit the table to measured counts.

        Args:
            counts: Rows of MCS index, block length in bits, SNR in dB, blocks sent, blocks lost, [rows, 5].

        Returns:
            The fitted table.
        """
        curves: list[list[NDArray[np.float64]]] = [[], [], []]
        for mcs in MCS_TABLE:
            rows = counts[counts[:, 0] == mcs.index]
            lengths = np.unique(rows[:, 1])
            fits = np.array([_fit_waterfall(*rows[rows[:, 1] == length, 2:].T) for length in lengths])
            for column, values in zip(curves, (np.log2(lengths), *fits.T), strict=True):
                column.append(values)
        return cls(*(tuple(column) for column in curves))

    def bler(self, mcs: Mcs, block_bits: int, snr_db: NDArray[np.float64]) -> NDArray[np.float64]:
        """Block error rate on AWGN at given SNRs.

        Args:
            mcs: Constellation and code rate.
            block_bits: Block length K' in bits, CRC included; longer blocks than measured count as the
                longest.
            snr_db: Es/N0 in dB, any shape.

        Returns:
            Block error rates in 0..1, same shape.
        """
        x, i = math.log2(block_bits), mcs.index
        center = _interpolate(x, self.log2_bits[i], self.center_db[i])
        width = max(_interpolate(x, self.log2_bits[i], self.width_db[i]), 0.05)
        return np.asarray(q_function((snr_db - center) / width))

    def efficiency(self, bits_per_symbol: int, block_bits: int, code_rate: float) -> float:
        """Code rate over the mutual information per coded bit at which half of the blocks are lost.

        Interpolated linearly in the logarithm of the code rate between the rows of a constellation. Below its
        lowest rate, the value is scaled by the ratio that the next smaller constellation has between the two
        rates.

        Args:
            bits_per_symbol: log2 M of the constellation: 2, 4, 6 or 8.
            block_bits: Block length K' in bits, CRC included.
            code_rate: Information bits per coded bit, in (0, 1).

        Returns:
            Ratio of code rate and mutual information; 1 would be an ideal code.
        """
        rows = [mcs for mcs in MCS_TABLE if mcs.bits_per_symbol == bits_per_symbol]
        lowest = rows[0].code_rate
        if code_rate < lowest and bits_per_symbol > 2:
            smaller = [self.efficiency(bits_per_symbol - 2, block_bits, rate) for rate in (code_rate, lowest)]
            return self.efficiency(bits_per_symbol, block_bits, lowest) * smaller[0] / smaller[1]
        x = math.log2(block_bits)
        center_db = [_interpolate(x, self.log2_bits[mcs.index], self.center_db[mcs.index]) for mcs in rows]
        rates = np.array([mcs.code_rate for mcs in rows])
        at_rows = rates / np.interp(center_db, *_information_curve(bits_per_symbol))
        return float(np.interp(math.log(code_rate), np.log(rates), at_rows))


@functools.cache
def shipped_bler_counts() -> NDArray[np.float64]:
    """Counts from which the shipped table is fitted, made by `scripts/make_bler_curves.py`.

    Returns:
        Rows of MCS index, block length in bits, SNR in dB, blocks sent, blocks lost, [rows, 5].
    """
    text = (files("channels") / "tables" / "bler_awgn.csv").read_text()
    return np.array([[float(x) for x in row.split(",")] for row in text.splitlines()[1:]])


@functools.cache
def shipped_bler_table() -> BlerTable:
    """Block error rate table that ships with the package.

    Returns:
        The table fitted to `shipped_bler_counts`.
    """
    return BlerTable.fit(shipped_bler_counts())


@functools.lru_cache(maxsize=2**16)
def predicted_failure(
    mcs: Mcs, channel: Channel, snr_db: float, info_bits: int, data_uses: int, adapted: bool = False
) -> float:
    """Predict the probability that a message of a `DigitalLink` is lost, header and all code blocks included.

    E[1 - (1 - P_header(h)) prod over code blocks of (1 - BLER(effective SNR of the block))]

    The mean is over 200 fixed realisations of the channel. The effective SNR is the one at which AWGN carries
    the mutual information per bit that the channel uses of the block carry on average (MIESM). The message is
    padded to the next size that the header can announce, as `DigitalLink.send` does. A message shorter than
    the longest has a lower code rate; the mutual information it needs is interpolated between the measured
    rows. Errors that `h` and `noise_var` do not show are not included.

    Packets that `Lossy` loses enter as gains of 0. A whole packet missing from a code block costs more than
    its mutual information, so the prediction may be too optimistic under packet loss. With 10 % of packets of
    64 uses lost, 64-QAM at rate 0.75 over 4096 uses without noise fails in 0.22 of the transmissions
    (predicted: 0.13); with 20 % lost, 16-QAM at rate 0.6 fails in 0.078 (predicted: 0.029). Behind
    `Interleaved`, prediction and measurement agree within their errors. 200 realisations resolve no loss
    rarer than about 1 %.

    Args:
        mcs: Constellation and code rate.
        channel: Any channel; immutable, because results are cached.
        snr_db: Average received Es/N0 in dB.
        info_bits: Message length in bits, as given to `DigitalLink.send`.
        data_uses: Channel uses of header and payload together.
        adapted: Whether the header announces the MCS.

    Returns:
        Probability in 0..1; 1 if the message does not fit.

    Raises:
        ChannelError: The receiver's channel knowledge is wrong, for instance behind `NoCSI` over fading.

    Reference:
        Brueninghaus et al., "Link performance models for system level simulations of broadband radio access
        systems", PIMRC 2005.
    """
    header = header_of(mcs, adapted, data_uses)
    longest = largest_message(mcs, header, data_uses)
    if not 0 < info_bits <= longest:
        return 1.0
    size = min(size for size in announced_sizes(longest) if size >= info_bits)
    coded_bits = (data_uses - header.uses) * mcs.bits_per_symbol
    plan = TransportBlock(size, coded_bits, mcs.bits_per_symbol)
    sent = mcs.bits_per_symbol if _depends_on_symbols(channel, snr_db) else QPSK.bits_per_symbol
    seen = _realisations(channel, snr_db, data_uses, sent)
    pieces = seen.snr.shape[1]
    # Mean information per bit of every code block; the header's uses count as if they were spread evenly.
    edges = np.cumsum([0, *plan.block_coded_bits]) / coded_bits * pieces
    carried = seen.information[mcs.bits_per_symbol]
    at_edges = np.stack([np.interp(edges, np.arange(pieces + 1), row) for row in carried])
    information = np.diff(at_edges, axis=1) / np.diff(edges)  # [realisations, blocks]
    table, block_bits = shipped_bler_table(), plan.block.info_bits
    row, own = (
        rate / table.efficiency(mcs.bits_per_symbol, block_bits, rate)
        for rate in (mcs.code_rate, plan.blocks * block_bits / coded_bits)
    )
    snr_grid_db, information_grid = _information_curve(mcs.bits_per_symbol)
    effective_db = np.interp(information * row / own, information_grid, snr_grid_db)
    bler = table.bler(mcs, block_bits, effective_db)
    header_pieces = np.arange(header.uses) * data_uses // header.uses * pieces // data_uses
    header_lost = header.error_bound(seen.snr[:, header_pieces].sum(1))
    return float(1 - ((1 - header_lost) * np.prod(1 - bler, axis=1)).mean())


def choose_mcs(channel: Channel, snr_db: float, data_uses: int, target_failure: float = 0.01) -> Mcs | None:
    """Choose the MCS with the most bits per channel use whose longest message meets a loss target.

    The choice is for a link with `adapted=True`.

    Args:
        channel: Any channel; immutable, because results are cached.
        snr_db: Average received Es/N0 in dB.
        data_uses: Channel uses of header and payload together.
        target_failure: Largest predicted probability of loss, in (0, 1).

    Returns:
        The MCS, or None if no MCS meets the target.

    Raises:
        ChannelError: The target is outside (0, 1), or the receiver's channel knowledge is wrong.
    """
    if not 0 < target_failure < 1:
        raise ChannelError(f"target failure of {target_failure:g} is outside (0, 1)")
    for mcs in sorted(MCS_TABLE, key=lambda mcs: -mcs.bits_per_use):
        bits = largest_message(mcs, header_of(mcs, True, data_uses), data_uses)
        if bits and predicted_failure(mcs, channel, snr_db, bits, data_uses, True) <= target_failure:
            return mcs
    return None


@dataclass(frozen=True, eq=False, slots=True)
class _Realisations:
    """Realisations of a channel as the receiver sees them, in equal pieces of the channel uses.

    Args:
        snr: Mean |h|^2 / N0 of each piece, [realisations, pieces].
        information: Per bits per symbol, cumulative mean mutual information per bit over the pieces, starting
            at 0, [realisations, pieces + 1].
    """

    snr: NDArray[np.float64]
    information: Mapping[int, NDArray[np.float64]]


_PIECES = 2048  # largest number of pieces per realisation


@functools.lru_cache(maxsize=8)
def _depends_on_symbols(channel: Channel, snr_db: float) -> bool:
    return depends_on_symbols(channel, snr_db)


@functools.lru_cache(maxsize=8)
def _realisations(channel: Channel, snr_db: float, data_uses: int, bits_per_symbol: int) -> _Realisations:
    edges = np.unique(np.arange(_PIECES) * data_uses // _PIECES)
    length = np.diff(np.append(edges, data_uses))
    sizes = sorted({mcs.bits_per_symbol for mcs in MCS_TABLE})
    snr: list[NDArray[np.float64]] = []
    information: dict[int, list[NDArray[np.float64]]] = {m: [] for m in sizes}
    for received in realisations(channel, snr_db, data_uses, Constellation(2**bits_per_symbol)):
        per_use = (received.h.abs().square() / received.noise_var).double().numpy()
        snr.append(np.add.reduceat(per_use, edges, axis=1) / length)
        with np.errstate(divide="ignore"):
            index = np.rint((10 * np.log10(per_use) - _GRID_DB[0]) / _GRID_STEP_DB)
        index = np.clip(index, 0, len(_GRID_DB) - 1).astype(np.intp)
        for m in sizes:
            information[m].append(np.add.reduceat(_information_curve(m)[1][index], edges, axis=1) / length)
    return _Realisations(np.concatenate(snr), {m: _sums(np.concatenate(information[m])) for m in sizes})


def _sums(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([np.zeros((len(rows), 1)), np.cumsum(rows, axis=1)], axis=1)


_GRID_STEP_DB = 0.02
_GRID_DB = np.arange(-40.0, 50.0, _GRID_STEP_DB)


@functools.cache
def _information_curve(bits_per_symbol: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """SNR in dB, and mutual information per bit on AWGN with bitwise decoding, strictly rising."""
    coarse = np.arange(-40.0, 50.1, 0.25)
    values = np.asarray(bicm_capacity(2**bits_per_symbol, coarse)) / bits_per_symbol
    # 1 - I falls over many decades: interpolated in its logarithm; the tilt keeps its end from being flat.
    loss = np.exp(np.interp(_GRID_DB, coarse, np.log(np.maximum(1 - values, 1e-12))))
    return _GRID_DB, 1 - loss + 1e-9 * np.arange(len(_GRID_DB))


def _fit_waterfall(
    snr_db: NDArray[np.float64], blocks: NDArray[np.float64], errors: NDArray[np.float64]
) -> tuple[float, float]:
    """Center and width of Q((snr_db - center) / width): probit regression by iterated least squares."""
    share = np.clip((errors + 0.5) / (blocks + 1), 1e-6, 1 - 1e-6)
    design = np.stack([np.ones_like(snr_db), snr_db], axis=1)
    score = inverse_q_function(share)
    weight = blocks * np.exp(-np.square(score)) / (share * (1 - share))
    coefficients = np.zeros(2)
    for _ in range(20):
        root = np.sqrt(weight)
        coefficients = np.linalg.lstsq(design * root[:, None], score * root, rcond=None)[0]
        linear = np.clip(design @ coefficients, -6, 6)
        expected = np.clip(np.asarray(q_function(linear)), 1e-9, 1 - 1e-9)
        density = np.exp(-np.square(linear) / 2) / math.sqrt(2 * math.pi)
        score = linear - (errors / blocks - expected) / density
        weight = blocks * np.square(density) / (expected * (1 - expected))
    return float(-coefficients[0] / coefficients[1]), float(1 / coefficients[1])


def _interpolate(x: float, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> float:
    """Linear interpolation, extrapolated with the first slope below and constant above."""
    x = min(x, float(xs[-1]))
    i = int(np.clip(np.searchsorted(xs, x), 1, len(xs) - 1))
    return float(ys[i - 1] + (x - xs[i - 1]) * (ys[i] - ys[i - 1]) / (xs[i] - xs[i - 1]))
