"""Modulation and coding schemes of 5G NR, in one ordered table."""

# torch's and numpy's stubs leave types open
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from channels.channel import Channel
from channels.constellation import Constellation
from channels.errors import ChannelError
from channels.fec.transport import TransportBlock
from channels.header import QPSK, ControlHeader, uses_for_budget, uses_for_snr
from channels.realisations import check_hashable, depends_on_symbols, snr_profiles
from channels.theory import bicm_capacity

HOPELESS = 0.95
"""Predicted probability of loss from which on an MCS is not worth a try."""


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
lost once in 100 at -11.6 dB in 4096 channel uses and at -12.3 dB in 24 576. A link that adapts is limited
by its header: to -7.5 dB in 4096 channel uses and -11.4 dB in 24 576.
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
        try:
            plan = TransportBlock(bits, coded_bits, mcs.bits_per_symbol)
        except ChannelError:  # a few very short messages, which the coded bits do not determine
            bits -= 8
            continue
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


@dataclass(frozen=True, eq=False)
class BlerTable:
    """Block error rates on AWGN, fitted to counts of blocks sent and lost with this package's decoder.

    Each curve, logit(BLER) over the SNR in dB, is a smoothing spline of largest penalised likelihood: the
    binomial log-likelihood of the counts less a penalty on third differences. It follows a waterfall as well
    as the flatter tail below it. Beyond the SNR at which the last ten errors begin, the curve does not fall
    faster than its tangent there, so BLER falls at most exponentially in the SNR in dB; an error floor that
    no count shows is not modelled.

    Between block lengths, the SNR at each BLER is interpolated over the logarithm of the length. Lengths
    between the two longest measured ones use the largest lifting size, whose filler bits cost up to 0.1 dB.

    Args:
        counts: Rows of MCS index, block length K' in bits (CRC included), SNR in dB, blocks sent, blocks
            lost, [rows, 5]; at least two lengths per MCS, and four SNRs per length.
    """

    counts: NDArray[np.float64]

    def __eq__(self, other: object) -> bool:
        """Whether the other is a table of the same counts."""
        return self is other or (isinstance(other, BlerTable) and np.array_equal(self.counts, other.counts))

    def __hash__(self) -> int:
        """Hash of the counts."""
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        return hash(self.counts.tobytes())

    @functools.cached_property
    def _curves(self) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]:
        """Per MCS: log2 of the lengths, and the SNR in dB at each of `_LEVELS`, [lengths, levels]."""
        curves: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
        for mcs in MCS_TABLE:
            rows = self.counts[self.counts[:, 0] == mcs.index]
            lengths = np.unique(rows[:, 1])
            at_levels = [_fit_curve(*rows[rows[:, 1] == length, 2:].T) for length in lengths]
            curves.append((np.log2(lengths), np.array(at_levels)))
        return tuple(curves)

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
        logit = np.interp(snr_db, self._snr_db(mcs, block_bits), _LEVELS)
        return np.asarray(1 / (1 + np.exp(-logit)))

    def snr_db(self, mcs: Mcs, block_bits: int, bler: float) -> float:
        """SNR on AWGN at which a block error rate is reached.

        Args:
            mcs: Constellation and code rate.
            block_bits: Block length K' in bits, CRC included.
            bler: Block error rate in (0, 1).

        Returns:
            Es/N0 in dB.
        """
        level = math.log(bler / (1 - bler))
        return float(np.interp(-level, -_LEVELS, self._snr_db(mcs, block_bits)))

    def _snr_db(self, mcs: Mcs, block_bits: int) -> NDArray[np.float64]:
        """SNR in dB at each of `_LEVELS`; below the shortest length the slope over the length goes on."""
        log2_bits, at_levels = self._curves[mcs.index]
        x = min(math.log2(block_bits), float(log2_bits[-1]))
        i = int(np.clip(np.searchsorted(log2_bits, x), 1, len(log2_bits) - 1))
        share = (x - log2_bits[i - 1]) / (log2_bits[i] - log2_bits[i - 1])
        between = at_levels[i - 1] + share * (at_levels[i] - at_levels[i - 1])
        return np.maximum.accumulate(between) + _TILT

    def bler_at(
        self,
        bits_per_symbol: int,
        block_bits: int,
        code_rate: float,
        information: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Block error rate at any code rate, where channel uses carry a given mutual information.

        Args:
            bits_per_symbol: log2 M of the constellation: 2, 4, 6 or 8.
            block_bits: Block length K' in bits, CRC included.
            code_rate: Information bits per coded bit, in (0, 1).
            information: Mean mutual information per coded bit in 0..1, any shape.

        Returns:
            Block error rates in 0..1, same shape.
        """
        needed = code_rate / self._efficiency(bits_per_symbol, block_bits, code_rate)
        logit = np.interp(information, np.maximum.accumulate(needed) + _TILT / 1e3, _LEVELS)
        return np.asarray(1 / (1 + np.exp(-logit)))

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
        at_levels = self._efficiency(bits_per_symbol, block_bits, code_rate)
        return float(at_levels[np.argmin(np.abs(_LEVELS))])

    def _efficiency(self, bits_per_symbol: int, block_bits: int, code_rate: float) -> NDArray[np.float64]:
        """Code rate over mutual information per bit, at block error rates of logits `_LEVELS`, [levels]."""
        rows = [mcs for mcs in MCS_TABLE if mcs.bits_per_symbol == bits_per_symbol]
        lowest = rows[0].code_rate
        if code_rate < lowest and bits_per_symbol > 2:
            here, there = (self._efficiency(bits_per_symbol - 2, block_bits, r) for r in (code_rate, lowest))
            return self._efficiency(bits_per_symbol, block_bits, lowest) * here / there
        rates = np.array([mcs.code_rate for mcs in rows])
        i = int(np.clip(np.searchsorted(rates, code_rate), 1, len(rates) - 1))
        share = np.clip(math.log(code_rate / rates[i - 1]) / math.log(rates[i] / rates[i - 1]), 0, 1)
        below, above = (
            row.code_rate / np.interp(self._snr_db(row, block_bits), *_information_curve(bits_per_symbol))
            for row in rows[i - 1 : i + 1]
        )
        return below + share * (above - below)


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
        The table of `shipped_bler_counts`.
    """
    return BlerTable(shipped_bler_counts())


def predicted_failure(
    mcs: Mcs,
    channel: Channel,
    snr_db: float,
    info_bits: int,
    data_uses: int,
    adapted: bool = False,
    table: BlerTable | None = None,
) -> float:
    """Predict the probability that a message of a `DigitalLink` is lost, header and all code blocks included.

    E[1 - (1 - P_header(h)) prod over code blocks of (1 - BLER(effective SNR of the block))]

    The mean is over fixed realisations of the channel: as many as `channels.realisations.count` tells, 200 to
    8192, so that a probability p has a standard error of at most sqrt(p (1 - p) / count). The effective SNR
    is the one at which AWGN carries the mutual information per bit that the channel uses of the block carry
    on average (MIESM), less up to 2 % where they carry different amounts. The message is padded to the next
    size that the header can announce, as `DigitalLink.send` does. A message shorter than the longest has a
    lower code rate; the mutual information it needs for each error rate is interpolated between the rows.
    Errors that `h` and `noise_var` do not show are not included.

    Packets that `Lossy` loses enter as gains of 0. A whole packet missing from a code block costs more than
    its mutual information, so the prediction may be too optimistic under packet loss. With 10 % of packets of
    64 uses lost, 64-QAM at rate 0.75 over 4096 uses without noise fails in 0.22 of the transmissions
    (predicted: 0.13); with 20 % lost, 16-QAM at rate 0.6 fails in 0.078 (predicted: 0.029). Behind
    `Interleaved`, prediction and measurement agree within their errors.

    Args:
        mcs: Constellation and code rate.
        channel: Any channel; immutable and hashable, because results are cached.
        snr_db: Average received Es/N0 in dB.
        info_bits: Message length in bits, as given to `DigitalLink.send`.
        data_uses: Channel uses of header and payload together.
        adapted: Whether the header announces the MCS.
        table: Block error rates on AWGN; None takes `shipped_bler_table`.

    Returns:
        Probability in 0..1; 1 if the message does not fit.

    Raises:
        ChannelError: The receiver's channel knowledge is wrong, for instance behind `NoCSI` over fading; or
            the channel is not hashable.

    Reference:
        Brueninghaus et al., "Link performance models for system level simulations of broadband radio access
        systems", PIMRC 2005.
    """
    check_hashable(channel)
    table = shipped_bler_table() if table is None else table
    return _predicted_failure(mcs, channel, float(snr_db), info_bits, data_uses, adapted, table)


@functools.lru_cache(maxsize=2**16)
def _predicted_failure(
    mcs: Mcs,
    channel: Channel,
    snr_db: float,
    info_bits: int,
    data_uses: int,
    adapted: bool,
    table: BlerTable,
) -> float:
    header = header_of(mcs, adapted, data_uses)
    longest = largest_message(mcs, header, data_uses)
    if not 0 < info_bits <= longest:
        return 1.0
    size = min(size for size in announced_sizes(longest) if size >= info_bits)
    coded_bits = (data_uses - header.uses) * mcs.bits_per_symbol
    plan = TransportBlock(size, coded_bits, mcs.bits_per_symbol)
    sent = mcs.bits_per_symbol if _depends_on_symbols(channel, snr_db) else QPSK.bits_per_symbol
    seen = _realisations(channel, snr_db, data_uses, sent)
    # Mean information per bit of every code block; the header's uses count as if they were spread evenly.
    edges = np.cumsum([0, *plan.block_coded_bits]) / coded_bits * data_uses
    information, spread = seen.carried(mcs.bits_per_symbol, edges)
    block_bits = plan.block.info_bits
    code_rate = plan.blocks * block_bits / coded_bits
    useful = information / np.exp(_SPREAD_COST * spread)
    bler = table.bler_at(mcs.bits_per_symbol, block_bits, code_rate, useful)
    return float(1 - ((1 - seen.header_lost(header)) * np.prod(1 - bler, axis=1)).mean())


def choose_mcs(
    channel: Channel,
    snr_db: float,
    data_uses: int,
    target_failure: float = 0.01,
    table: BlerTable | None = None,
) -> Mcs | None:
    """Choose the MCS with the most bits per channel use whose longest message meets a loss target.

    The choice is for a link with `adapted=True`.

    Args:
        channel: Any channel; immutable and hashable, because results are cached.
        snr_db: Average received Es/N0 in dB.
        data_uses: Channel uses of header and payload together.
        target_failure: Largest predicted probability of loss, in (0, 1).
        table: Block error rates on AWGN; None takes `shipped_bler_table`.

    Returns:
        The MCS, or None if no MCS meets the target.

    Raises:
        ChannelError: The target is outside (0, 1), the receiver's channel knowledge is wrong, or the channel
            is not hashable.
    """
    for mcs, failure in _by_falling_rate(channel, snr_db, data_uses, target_failure, table):
        if failure <= target_failure:
            return mcs
    return None


def mcs_by_preference(
    channel: Channel,
    snr_db: float,
    data_uses: int,
    target_failure: float = 0.01,
    table: BlerTable | None = None,
) -> tuple[Mcs, ...]:
    """List the MCSs that are worth a try, in the order in which a transmitter should try them.

    The first is the MCS with the most bits per channel use whose longest message is predicted to be lost with
    a probability of at most `target_failure`. If no MCS meets the target, as in slow fading or under losses
    of whole packets, it is the one with the most bits whose failure is at most `target_failure` above that of
    the most reliable MCS. All MCSs with more bits follow, from slow to fast, for items whose smallest payload
    does not fit. An MCS with a predicted failure of `HOPELESS` or more is not listed.

    Args:
        channel: Any channel; immutable and hashable, because results are cached.
        snr_db: Average received Es/N0 in dB.
        data_uses: Channel uses of header and payload together.
        target_failure: Largest predicted probability of loss, in (0, 1).
        table: Block error rates on AWGN; None takes `shipped_bler_table`.

    Returns:
        MCSs for a link with `adapted=True`; none if all are hopeless.

    Raises:
        ChannelError: The target is outside (0, 1), the receiver's channel knowledge is wrong, or the channel
            is not hashable.
    """
    tried: list[tuple[Mcs, float]] = []  # from fast to slow
    for mcs, failure in _by_falling_rate(channel, snr_db, data_uses, target_failure, table):
        tried.append((mcs, failure))
        if failure <= target_failure:
            break
    least = min(failure for _, failure in tried)
    accepted = target_failure if least <= target_failure else least + target_failure
    first = next(i for i, (_, failure) in enumerate(tried) if failure <= accepted)
    return tuple(mcs for mcs, failure in tried[first::-1] if failure < HOPELESS)


def _by_falling_rate(
    channel: Channel, snr_db: float, data_uses: int, target_failure: float, table: BlerTable | None
) -> Iterator[tuple[Mcs, float]]:
    """All MCSs from many to few bits per use, with the predicted loss of their longest messages."""
    if not 0 < target_failure < 1:
        raise ChannelError(f"target failure of {target_failure:g} is outside (0, 1)")
    for mcs in sorted(MCS_TABLE, key=lambda mcs: -mcs.bits_per_use):
        bits = largest_message(mcs, header_of(mcs, True, data_uses), data_uses)
        yield mcs, predicted_failure(mcs, channel, snr_db, bits, data_uses, True, table) if bits else 1.0


@dataclass(frozen=True, eq=False, slots=True)
class _Realisations:
    """Realisations of a channel as the receiver sees them, in pieces of the channel uses.

    Args:
        edges: Channel uses at which the pieces begin, and the number of all uses, [pieces + 1].
        snr: Mean |h|^2 / N0 of each piece, [realisations, pieces].
        information: Per bits per symbol, mutual information per bit summed over the uses before each edge,
            [realisations, pieces + 1].
        squares: The same sums of its squares.
        heard: Number of uses before each edge that carry anything, [realisations, pieces + 1].
    """

    edges: NDArray[np.float64]
    snr: NDArray[np.float32]
    information: Mapping[int, NDArray[np.float32]]
    squares: Mapping[int, NDArray[np.float32]]
    heard: NDArray[np.float32]

    def carried(
        self, bits_per_symbol: int, start: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Information per bit between channel uses `start`, ascending [spans + 1].

        Returns:
            Its mean, and its variance over the mean among uses that carry anything, [realisations, spans].
        """
        i = np.clip(np.searchsorted(self.edges, start, "right") - 1, 0, len(self.edges) - 2)
        share = (start - self.edges[i]) / (self.edges[i + 1] - self.edges[i])
        whole, square, heard = (
            np.maximum(np.diff(sums[:, i] * (1 - share) + sums[:, i + 1] * share, axis=1), 1e-9)
            for sums in (self.information[bits_per_symbol], self.squares[bits_per_symbol], self.heard)
        )
        return whole / np.diff(start), np.maximum(square / whole - whole / heard, 0)

    def header_lost(self, header: ControlHeader) -> NDArray[np.float64]:
        """Probability that the header is decoded wrongly, [realisations]."""
        positions = np.arange(header.uses) * header.data_uses // header.uses
        piece = np.searchsorted(self.edges, positions, "right") - 1
        return header.error_bound(self.snr[:, piece].sum(1, dtype=np.float64))


_SPREAD_COST = 0.12
"""Share of information that a code block needs more, per variance over mean of the information per bit.

Uses of lost packets do not count: they are like punctured bits.
Measured for QPSK to 256-QAM at rates 0.3 to 0.8 over 5 and 20 Rayleigh blocks, with 20 iterations as with 60:
0.5 to 2 %, or 0.1 dB, in which this fits to 0.05 dB.
"""

_PIECES = 2048  # largest number of pieces per realisation


@functools.lru_cache(maxsize=8)
def _depends_on_symbols(channel: Channel, snr_db: float) -> bool:
    return depends_on_symbols(channel, snr_db)


@functools.lru_cache(maxsize=2)  # of up to 150 MB each
def _realisations(channel: Channel, snr_db: float, data_uses: int, bits_per_symbol: int) -> _Realisations:
    sizes = sorted({mcs.bits_per_symbol for mcs in MCS_TABLE})
    snr: list[NDArray[np.float32]] = []
    heard: list[NDArray[np.float32]] = []
    information: dict[int, list[NDArray[np.float32]]] = {m: [] for m in sizes}
    squares: dict[int, list[NDArray[np.float32]]] = {m: [] for m in sizes}
    edges = np.zeros(0)
    for profile in snr_profiles(channel, snr_db, data_uses, Constellation(2**bits_per_symbol)):
        blocks = len(profile.uses)
        first = np.unique(np.arange(_PIECES) * blocks // _PIECES)  # block at which each piece begins
        edges = np.concatenate([[0.0], np.cumsum(np.add.reduceat(profile.uses, first))])
        energy = _sums(profile.snr, profile.uses, first)
        snr.append((np.diff(energy, axis=1) / np.diff(edges)).astype(np.float32))
        heard.append(_sums(profile.snr > 0, profile.uses, first).astype(np.float32))
        with np.errstate(divide="ignore"):
            index = np.rint((10 * np.log10(profile.snr) - _GRID_DB[0]) / _GRID_STEP_DB)
        index = np.clip(index, 0, len(_GRID_DB) - 1).astype(np.intp)
        for m in sizes:
            carried = _information_curve(m)[1][index]
            information[m].append(_sums(carried, profile.uses, first).astype(np.float32))
            squares[m].append(_sums(np.square(carried), profile.uses, first).astype(np.float32))
    information_sums, square_sums = (
        {m: np.concatenate(parts) for m, parts in sums.items()} for sums in (information, squares)
    )
    return _Realisations(edges, np.concatenate(snr), information_sums, square_sums, np.concatenate(heard))


def _sums(values: NDArray[Any], uses: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum of values [realisations, blocks] over the uses before each piece, [realisations, pieces + 1]."""
    pieces = np.add.reduceat(values * uses, first, axis=1)
    return np.concatenate([np.zeros((len(pieces), 1)), np.cumsum(pieces, axis=1)], axis=1)


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


_LEVELS = np.arange(9.0, -40.0, -0.125)  # logit of BLER 0.9999 down to 4e-18
_TILT = 1e-9 * np.arange(len(_LEVELS))  # keeps levels of equal SNR apart
_SMOOTHNESS = 30.0  # of the spline; every point stays within 3 standard errors, and tails follow their counts
_TRUSTED = 10  # errors beyond an SNR up to which the slope of a curve counts as measured


def _fit_curve(
    snr_db: NDArray[np.float64], blocks: NDArray[np.float64], errors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """SNR in dB at each of `_LEVELS`: penalised likelihood by Newton steps on a grid of half the SNR step."""
    step = float(np.median(np.diff(snr_db)))
    knots = np.arange(snr_db[0], snr_db[-1] + step / 4, step / 2)
    place = (snr_db - snr_db[0]) / (step / 2)
    near = np.minimum(place.astype(int), len(knots) - 2)
    seen = np.zeros((len(snr_db), len(knots)))
    seen[np.arange(len(snr_db)), near] = 1 - (place - near)
    seen[np.arange(len(snr_db)), near + 1] = place - near
    third = 8 * np.diff(np.eye(len(knots)), 3, axis=0)  # per cube of the SNR step
    penalty = _SMOOTHNESS / 2 * third.T @ third
    share = (errors + 0.5) / (blocks + 1)
    logit = np.interp(knots, snr_db, np.log(share / (1 - share)))
    for _ in range(100):
        expected = 1 / (1 + np.exp(-seen @ logit))
        weight = blocks * expected * (1 - expected)
        gradient = seen.T @ (errors - blocks * expected) - penalty @ logit
        curvature = (seen.T * weight) @ seen + penalty + 1e-9 * np.eye(len(knots))
        change = np.clip(np.linalg.solve(curvature, gradient), -1, 1)
        logit = logit + change
        if np.abs(change).max() < 1e-6:
            break
    logit = np.minimum.accumulate(logit)
    # Beyond the grid the first and the last slope go on, beyond the last errors that of their beginning.
    wide = np.concatenate([snr_db[:1] - 100, knots, snr_db[-1:] + 100])
    slope = np.minimum(np.diff(logit) / (step / 2), -1e-3)
    tail = np.concatenate([logit[:1] - 100 * slope[0], logit, logit[-1:] + 100 * slope[-1]])
    left = np.cumsum(errors[::-1])[::-1]  # errors at this SNR and above
    trusted = snr_db[max(int(np.sum(left >= _TRUSTED)) - 1, 0)]
    i = int(np.clip(np.searchsorted(knots, trusted), 1, len(slope) - 1))
    tangent = logit[i] + (wide - knots[i]) * max(slope[i - 1], slope[i])
    bounded = np.where(wide > knots[i], np.maximum(tail, tangent), tail)
    fine = np.sort(np.concatenate([wide, np.arange(snr_db[0] - 5, snr_db[-1] + 15, step / 8)]))
    return np.interp(-_LEVELS, -np.interp(fine, wide, bounded), fine)
