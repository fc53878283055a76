"""The LDPC code of 5G NR: base graphs, lifting, filler bits, rate matching, layered decoding (TS 38.212)."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from channels.errors import ChannelError
from channels.fec.code import Decoded

Ints = npt.NDArray[np.int64]

# Table 5.3.2-1, by set index
LIFTING_SIZES = (
    (2, 4, 8, 16, 32, 64, 128, 256),
    (3, 6, 12, 24, 48, 96, 192, 384),
    (5, 10, 20, 40, 80, 160, 320),
    (7, 14, 28, 56, 112, 224),
    (9, 18, 36, 72, 144, 288),
    (11, 22, 44, 88, 176, 352),
    (13, 26, 52, 104, 208),
    (15, 30, 60, 120, 240),
)
MAX_BLOCK_BITS = {1: 8448, 2: 3840}  # K_cb, 5.2.2
MAX_ITERATIONS = 100  # twice as many change a block error rate by less than a tenth
MAX_CODE_RATE = 0.95  # above it a receiver may skip decoding, TS 38.214, 5.1.3
_INFO_COLUMNS = {1: 22, 2: 10}
_COLUMNS = {1: 68, 2: 52}
_RV_START = {1: (0, 17, 33, 56), 2: (0, 13, 25, 43)}  # Table 5.4.2.1-2, in Z bits
# Lowest code rate; steps per unit of LLR; knee of the boxplus correction, about 4 c(0) = 4 log 2 steps less
# the rounding, and one less where many checks meet; largest channel value; largest message, chosen so that
# the checks of a bit can overrule the channel, and a single contradicting check does not flip a saturated
# posterior (127). Chosen by block error rate over code rates 1/5 to 0.92 and blocks of 600 to 8448 bits.
_QUANTISERS = (
    (0.33, (np.float32(5), 12, np.float32(44), 50)),
    (0.00, (np.float32(5), 11, np.float32(44), 50)),
)
# Failed blocks are decoded once more at half the resolution. Even far above the threshold, about one block in
# a thousand reaches a state in which the saturated posteriors of high-degree columns flip one by one.
_SECOND_QUANTISER = (np.float32(2.5), 6, np.float32(36), 40)
_TABLE = Path(__file__).parents[1] / "tables" / "ldpc_base_graphs.csv"


def select_base_graph(info_bits: int, code_rate: float) -> int:
    """Select the LDPC base graph of a message (TS 38.212, 7.2.2).

    Args:
        info_bits: Message length in bits, without CRC.
        code_rate: Information bits per coded bit, in (0, 1).

    Returns:
        1 or 2.
    """
    small = info_bits <= 292 or (info_bits <= 3824 and code_rate <= 0.67) or code_rate <= 0.25
    return 2 if small else 1


def select_lifting_size(block_bits: int, base_graph: int) -> int:
    """Select the lifting size, the smallest Z for which K_b Z holds the block (TS 38.212, 5.2.2).

    Args:
        block_bits: K', bits of the block, CRC included; at most 8448 (base graph 1) or 3840 (base graph 2).
        base_graph: 1 or 2.

    Returns:
        Lifting size Z.
    """
    if base_graph == 1:
        columns = 22
    else:
        columns = 10 if block_bits > 640 else 9 if block_bits > 560 else 8 if block_bits > 192 else 6
    return min(z for sizes in LIFTING_SIZES for z in sizes if columns * z >= block_bits)


@dataclass(frozen=True)
class LDPCBlock:
    """LDPC code of one code block: a lifted base graph with filler bits and circular buffer.

    The code word has `columns * lifting_size` bits: information, filler zeros, parity. Its first two columns
    are never sent; the rest is the circular buffer.

    Args:
        info_bits: K', bits of the block, its CRC included.
        base_graph: 1 or 2.
        lifting_size: Z, one of the sizes of the standard.

    Reference:
        TS 38.212, 5.3.2 and 5.4.2.
    """

    info_bits: int
    base_graph: int
    lifting_size: int

    @classmethod
    def select(cls, info_bits: int, base_graph: int) -> "LDPCBlock":
        """Create the code of a block with the lifting size that the standard prescribes.

        Args:
            info_bits: K', bits of the block, its CRC included.
            base_graph: 1 or 2.

        Returns:
            The code.
        """
        return cls(info_bits, base_graph, select_lifting_size(info_bits, base_graph))

    @property
    def info_columns(self) -> int:
        """Number of base graph columns for information and filler bits: 22 or 10."""
        return _INFO_COLUMNS[self.base_graph]

    @property
    def filler(self) -> tuple[int, int]:
        """Position of the first filler bit in the code word, and of the bit after the last."""
        return self.info_bits, self.info_columns * self.lifting_size

    def missing_equations(self, coded_bits: int) -> int:
        """Number of message bits that a receiver of the first coded bits has to guess, even without noise.

        The bits that are not sent are unknowns of the parity checks over GF(2); as many stay open as the rank
        falls short of their number. That happens because the first 2 Z information bits are never sent, and
        only to messages of up to 24 bits above a code rate of 0.9; longer ones are not examined.

        Args:
            coded_bits: Coded bits of redundancy version 0.

        Returns:
            Bits to guess; 0 if the coded bits determine the message.

        Reference:
            TS 38.212, 5.4.2.1, whose circular buffer leaves out the first 2 Z bits.
        """
        return _unresolved(self, coded_bits) if self.info_bits <= 24 else 0

    def pieces(self, rv: int) -> Ints:
        """Ranges of the code word in the order in which the circular buffer is read, filler bits left out.

        Args:
            rv: Redundancy version, 0 to 3, which sets the starting position.

        Returns:
            Begin and end of each range, int64 [pieces, 2].

        Raises:
            ChannelError: The redundancy version does not exist.
        """
        if rv not in (0, 1, 2, 3):
            raise ChannelError(f"redundancy version {rv}: there are 0..3")
        z = self.lifting_size
        first, last = 2 * z, _COLUMNS[self.base_graph] * z
        start = first + _RV_START[self.base_graph][rv] * z
        low, high = (max(bit, first) for bit in self.filler)
        cuts = [(first, low), (high, last)]
        ahead = [(max(a, start), b) for a, b in cuts]
        behind = [(a, min(b, start)) for a, b in cuts]
        return np.array([(a, b) for a, b in ahead + behind if a < b], dtype=np.int64)

    def encode(
        self, bits: UInt8[Tensor, "blocks k"], bounds: Ints, bits_per_symbol: int, rv: int = 0
    ) -> UInt8[Tensor, " total"]:
        """Encode blocks and return their coded bits one after another.

        Args:
            bits: Information bits, uint8 [blocks, K'].
            bounds: Start of each block in the result, and the end; int64 [blocks + 1].
            bits_per_symbol: Rows of the bit interleaver.
            rv: Redundancy version, 0 to 3.

        Returns:
            Coded bits, uint8 [bounds[-1]].

        Raises:
            ChannelError: The redundancy version does not exist.
        """
        from channels.fec import kernels  # Numba is slow to import

        row, column, shift = lifted_edges(self.base_graph, self.lifting_size)
        row_start = np.searchsorted(row, np.arange(row[-1] + 2))
        turns = shift[(row < 4) & (column == self.info_columns)]
        turn = next(int(s) for s in turns if (turns == s).sum() % 2 == 1)
        coded = np.empty(bounds[-1], dtype=np.uint8)
        kernels.encode(
            np.ascontiguousarray(bits.cpu().numpy()),
            (row_start, column, shift),
            turn,
            self.lifting_size,
            self.info_columns,
            self.pieces(rv),
            bits_per_symbol,
            bounds,
            coded,
        )
        return torch.from_numpy(coded).to(bits.device)

    def decode(
        self,
        llr: Float[Tensor, " total"],
        bounds: Ints,
        bits_per_symbol: int,
        max_iterations: int,
        early_stop: bool,
        rv: int = 0,
    ) -> Decoded:
        """Decode blocks whose log-likelihood ratios are given one after another.

        Args:
            llr: log P(b=0)/P(b=1) of each coded bit, [total].
            bounds: Start of each block in `llr`, and the end; int64 [blocks + 1].
            bits_per_symbol: Rows of the bit interleaver.
            max_iterations: Iteration limit, at least 1; a second attempt at failed blocks has the same limit.
            early_stop: Whether to stop as soon as all checks hold; without it, there is no second attempt.
            rv: Redundancy version with which the blocks were encoded, 0 to 3.

        Returns:
            Information bits [blocks, K'] with verdicts and iterations.

        Raises:
            ChannelError: An LLR is NaN, or the redundancy version does not exist.
        """
        pieces = self.pieces(rv)
        coded_bits = int(np.diff(bounds).max(initial=0))
        rows = self._rows_with_known_parity(pieces, coded_bits)
        quantiser = next(q for rate, q in _QUANTISERS if self.info_bits >= rate * coded_bits)
        values = np.ascontiguousarray(llr.detach().to("cpu", torch.float32).numpy())
        arguments = (pieces, bits_per_symbol, rows, max_iterations, early_stop)
        bits, ok, iterations = self._decode(values, bounds, quantiser, *arguments)
        again = np.flatnonzero(~ok)
        if early_stop and len(again):
            parts = [values[bounds[i] : bounds[i + 1]] for i in again]
            their_bounds = np.cumsum([0, *map(len, parts)])
            second = self._decode(np.concatenate(parts), their_bounds, _SECOND_QUANTISER, *arguments)
            mended = again[second[1]]
            bits[mended], ok[mended] = second[0][second[1]], True
            iterations[again] += second[2]
        device = llr.device
        return Decoded(
            torch.from_numpy(bits).to(device),
            torch.from_numpy(ok).to(device),
            torch.from_numpy(iterations).to(device),
        )

    def _decode(
        self,
        llr: npt.NDArray[np.float32],
        bounds: Ints,
        quantiser: tuple[np.float32, int, np.float32, int],
        pieces: Ints,
        bits_per_symbol: int,
        rows: tuple[int, ...],
        max_iterations: int,
        early_stop: bool,
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_], Ints]:
        """Bits, verdicts and iterations of all blocks, decoded at one quantiser resolution."""
        from channels.fec import kernels  # Numba is slow to import

        z, blocks = self.lifting_size, len(bounds) - 1
        bits = np.empty((blocks, self.info_bits), dtype=np.uint8)
        ok, iterations = np.empty(blocks, dtype=np.bool_), np.empty(blocks, dtype=np.int64)
        valid = kernels.decode(
            llr,
            bounds,
            pieces,
            bits_per_symbol,
            _decoder_graph(self.base_graph, z, rows),
            z,
            self.filler,
            quantiser,
            max(1, min(blocks, _frames(z))),
            max_iterations,
            early_stop,
            bits,
            ok,
            iterations,
        )
        if not valid:
            raise ChannelError("an LLR is NaN, or two of one bit are opposite infinities; check the demapper")
        return bits, ok, iterations

    def _rows_with_known_parity(self, pieces: Ints, coded_bits: int) -> tuple[int, ...]:
        """Core rows, and extension rows whose own parity column was sent at least in part.

        A row whose parity bits are unknown carries no information about the other bits.
        """
        z, sent, left = self.lifting_size, set[int](), coded_bits
        for a, b in pieces.tolist():
            b = min(b, a + left)
            left -= b - a
            sent.update(range(a // z, -(-b // z)))
        rows = _COLUMNS[self.base_graph] - self.info_columns
        return tuple(r for r in range(rows) if r < 4 or self.info_columns + r in sent)


@dataclass(frozen=True)
class NRLDPC:
    """The LDPC code of 5G NR for single code blocks, without CRC.

    Base graph and lifting size follow from the number of information bits and the code rate. Rates below
    those of the mother code (1/3 and 1/5) repeat bits, as the circular buffer does. Longer messages need
    `TransportBlock`.

    Args:
        bits_per_symbol: Rows of the bit interleaver; coded_bits must be a multiple of it.
        max_iterations: Limit of the decoder, at least 1.
        early_stop: Whether the decoder stops when all parity checks hold.
        base_graph: 1 or 2 instead of the standard's choice.

    Raises:
        ChannelError: A field outside its range.

    Reference:
        TS 38.212, 5.3.2 and 5.4.2.

    Example:
        >>> code = NRLDPC()
        >>> bits = torch.zeros(2, 100, dtype=torch.uint8)
        >>> code.encode(bits, 250).shape
        torch.Size([2, 250])
    """

    bits_per_symbol: int = 1
    max_iterations: int = MAX_ITERATIONS
    early_stop: bool = True
    base_graph: int | None = None

    def __post_init__(self) -> None:
        if self.bits_per_symbol < 1 or self.max_iterations < 1:
            raise ChannelError(
                f"{self.bits_per_symbol} bits per symbol, {self.max_iterations} iterations: both must be >= 1"
            )
        if self.base_graph not in (None, 1, 2):
            raise ChannelError(f"base graph {self.base_graph}: there are 1 and 2")

    @property
    def name(self) -> str:
        """Canonical name of the code: "nr-ldpc"."""
        return "nr-ldpc"

    def block(self, info_bits: int, coded_bits: int) -> LDPCBlock:
        """Lifted LDPC code for given lengths.

        Args:
            info_bits: Information bits per block, 12 to 8448 (base graph 1) or 3840 (base graph 2).
            coded_bits: Coded bits per block, a multiple of `bits_per_symbol`.

        Returns:
            The code.

        Raises:
            ChannelError: No NR code has these lengths.
        """
        if coded_bits < 1 or info_bits / coded_bits > MAX_CODE_RATE:
            raise ChannelError(
                f"{info_bits} information bits in {coded_bits} coded bits: code rate must not exceed "
                f"{MAX_CODE_RATE}; send more coded bits"
            )
        if coded_bits % self.bits_per_symbol:
            raise ChannelError(
                f"{coded_bits} coded bits do not fill symbols of {self.bits_per_symbol} bits; give a multiple"
            )
        base_graph = self.base_graph or select_base_graph(info_bits, info_bits / coded_bits)
        if self.base_graph is None and info_bits > MAX_BLOCK_BITS[2]:
            base_graph = 1  # a block that is not segmented only fits here
        if not 12 <= info_bits <= MAX_BLOCK_BITS[base_graph]:
            raise ChannelError(
                f"{info_bits} information bits: one code block of base graph {base_graph} holds "
                f"12..{MAX_BLOCK_BITS[base_graph]}; use TransportBlock for more"
            )
        block = LDPCBlock.select(info_bits, base_graph)
        if missing := block.missing_equations(coded_bits):
            raise ChannelError(
                f"{info_bits} information bits in {coded_bits} coded bits: {missing} of them would have to "
                f"be guessed, since the first {2 * block.lifting_size} are never sent; send more coded bits"
            )
        return block

    def encode(self, bits: UInt8[Tensor, "blocks k"], coded_bits: int) -> UInt8[Tensor, "blocks e"]:
        """Encode and rate-match blocks of information bits.

        Args:
            bits: Information bits, uint8 [blocks, k].
            coded_bits: Coded bits per block, e, a multiple of `bits_per_symbol`.

        Returns:
            Coded bits, uint8 [blocks, e].

        Raises:
            ChannelError: No NR code has these lengths.
        """
        block, blocks = self.block(bits.shape[1], coded_bits), bits.shape[0]
        bounds = np.arange(blocks + 1) * coded_bits
        return block.encode(bits, bounds, self.bits_per_symbol).view(blocks, coded_bits)

    def decode(self, llr: Float[Tensor, "blocks e"], info_bits: int) -> Decoded:
        """Decode blocks by layered belief propagation; `ok` says that all parity checks hold.

        Args:
            llr: log P(b=0)/P(b=1) of each coded bit, [blocks, e].
            info_bits: Information bits per block, k.

        Returns:
            Most likely information bits with verdicts and iterations.

        Raises:
            ChannelError: No NR code has these lengths, or an LLR is NaN.
        """
        block = self.block(info_bits, llr.shape[1])
        bounds = np.arange(llr.shape[0] + 1) * llr.shape[1]
        return block.decode(llr.flatten(), bounds, self.bits_per_symbol, self.max_iterations, self.early_stop)


@lru_cache(maxsize=256)
def _unresolved(block: LDPCBlock, coded_bits: int) -> int:
    """Unknowns less rank of the parity checks, by elimination over GF(2) on rows held as integers."""
    z, columns = block.lifting_size, _COLUMNS[block.base_graph]
    buffer = np.concatenate([np.arange(a, b) for a, b in block.pieces(0)])
    unknown = np.ones(columns * z, dtype=np.bool_)
    unknown[buffer[:coded_bits]] = False
    unknown[slice(*block.filler)] = False
    checks: dict[tuple[int, int], int] = {}
    for r, c, shift in zip(*(part.tolist() for part in lifted_edges(block.base_graph, z)), strict=True):
        for i in range(z):
            bit = c * z + (i + shift) % z
            checks[r, i] = checks.get((r, i), 0) ^ (int(unknown[bit]) << bit)
    pivots: dict[int, int] = {}
    for check in checks.values():
        while check and check.bit_length() in pivots:
            check ^= pivots[check.bit_length()]
        if check:
            pivots[check.bit_length()] = check
    return int(unknown.sum()) - len(pivots)


@lru_cache(maxsize=1)
def _edges() -> Ints:
    """All edges of both base graphs: base graph, row, column, eight shifts."""
    return np.loadtxt(_TABLE, delimiter=",", skiprows=1, dtype=np.int64)


@lru_cache(maxsize=64)
def lifted_edges(base_graph: int, lifting_size: int) -> tuple[Ints, Ints, Ints]:
    """Edges of a lifted base graph, sorted by rows: bit (i + shift) mod Z of the column enters check i.

    Args:
        base_graph: 1 or 2.
        lifting_size: Z.

    Returns:
        Row, column and cyclic shift of each edge, int64 [edges] each.

    Raises:
        ChannelError: The standard has no such lifting size.
    """
    sets = [i for i, sizes in enumerate(LIFTING_SIZES) if lifting_size in sizes]
    if not sets:
        raise ChannelError(f"lifting size {lifting_size} is not in TS 38.212, Table 5.3.2-1")
    edges = _edges()[_edges()[:, 0] == base_graph]
    edges = edges[np.lexsort((edges[:, 2], edges[:, 1]))]
    return edges[:, 1].copy(), edges[:, 2].copy(), edges[:, 3 + sets[0]] % lifting_size


def _frames(z: int) -> int:
    """Code blocks decoded side by side: the fewest that leave at most a fifth of each vector idle."""
    return next(f for f in range(1, 65) if z * f / (-(-z * f // 128) * 128) >= 0.8)


@lru_cache(maxsize=64)
def _decoder_graph(base_graph: int, z: int, rows: tuple[int, ...]) -> tuple[Ints, ...]:
    """row_start, column, turn, check_turn, rotation: see `kernels.decode`.

    Checks of two columns that are never sent learn nothing until others have told them about one: they come
    last in an iteration.
    """
    row, column, shift = lifted_edges(base_graph, z)
    members = {r: np.flatnonzero(row == r) for r in rows}
    layers = sorted(rows, key=lambda r: np.count_nonzero(column[members[r]] < 2))
    row_start = np.cumsum([0, *(len(members[r]) for r in layers)])
    edges = np.concatenate([members[r] for r in layers])
    column, shift = column[edges], shift[edges]
    rotation = np.zeros(column.max() + 1, dtype=np.int64)
    rotation[column] = shift  # the last edge of a column wins
    order, turn = rotation.copy(), np.empty_like(shift)
    for edge, (c, s) in enumerate(zip(column, shift, strict=True)):
        turn[edge] = (s - order[c]) % z
        order[c] = s
    check_turn = (shift - rotation[column]) % z
    return row_start, column, turn, check_turn, rotation
