"""The LDPC code of 5G NR: base graphs, lifting, filler bits, rate matching, layered decoding (TS 38.212)."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from channels.errors import ChannelError
from channels.fec.code import Decoded

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
MAX_CODE_RATE = 0.95  # above it a receiver may skip decoding, TS 38.214, 5.1.3
CERTAIN_LLR = 1e4  # of a known zero, and the limit of all others
_INFO_COLUMNS = {1: 22, 2: 10}
_COLUMNS = {1: 68, 2: 52}
_RV_START = {1: (0, 17, 33, 56), 2: (0, 13, 25, 43)}  # Table 5.4.2.1-2, in Z bits
_TABLE = Path(__file__).parents[1] / "tables" / "ldpc_base_graphs.csv"


def select_base_graph(info_bits: int, code_rate: float) -> int:
    """Base graph 1 or 2 (TS 38.212, 7.2.2)."""
    small = info_bits <= 292 or (info_bits <= 3824 and code_rate <= 0.67) or code_rate <= 0.25
    return 2 if small else 1


def select_lifting_size(block_bits: int, base_graph: int) -> int:
    """The smallest Z for which K_b Z holds the block (TS 38.212, 5.2.2)."""
    if base_graph == 1:
        columns = 22
    else:
        columns = 10 if block_bits > 640 else 9 if block_bits > 560 else 8 if block_bits > 192 else 6
    return min(z for sizes in LIFTING_SIZES for z in sizes if columns * z >= block_bits)


@dataclass(frozen=True)
class LDPCBlock:
    """One code block of `info_bits` bits, in one lifted base graph, before rate matching.

    The codeword has `columns * lifting_size` bits: information, filler zeros, parity. Its first two columns
    are never sent; the rest is the circular buffer.

    Args:
        info_bits: K', bits of the block, its CRC included.
        base_graph: 1 or 2.
        lifting_size: Z.

    Reference:
        TS 38.212, 5.3.2 and 5.4.2.
    """

    info_bits: int
    base_graph: int
    lifting_size: int

    @classmethod
    def select(cls, info_bits: int, base_graph: int) -> "LDPCBlock":
        """With the lifting size of the standard."""
        return cls(info_bits, base_graph, select_lifting_size(info_bits, base_graph))

    @property
    def buffer_bits(self) -> int:
        """N, the length of the circular buffer."""
        return (_COLUMNS[self.base_graph] - 2) * self.lifting_size

    @property
    def filler(self) -> tuple[int, int]:
        """First filler bit, and the bit after the last, within the codeword."""
        return self.info_bits, _INFO_COLUMNS[self.base_graph] * self.lifting_size

    @cached_property
    def _sendable(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The two stretches of the codeword that are not skipped."""
        low, high = self.filler
        z = self.lifting_size
        return (2 * z, max(low, 2 * z)), (max(high, 2 * z), self.buffer_bits + 2 * z)

    def stretches(self, coded_bits: int, rv: int) -> list[tuple[int, int]]:
        """Where in the codeword the sent bits come from, as (begin, end), in order of sending (5.4.2.1)."""
        z = self.lifting_size
        start = 2 * z + _RV_START[self.base_graph][rv] * z
        pieces = [(max(a, start), b) for a, b in self._sendable if b > start] + [
            (a, min(b, start)) for a, b in self._sendable if a < start
        ]
        pieces = [(a, b) for a, b in pieces if b > a]
        chosen: list[tuple[int, int]] = []
        left, i = coded_bits, 0
        while left:
            a, b = pieces[i % len(pieces)]
            chosen.append((a, min(b, a + left)))
            left -= chosen[-1][1] - a
            i += 1
        return chosen

    def encode(self, bits: UInt8[Tensor, "blocks k"]) -> UInt8[Tensor, "blocks n"]:
        """The whole codeword, punctured columns and filler included."""
        from channels.fec import kernels  # Numba is slow to import

        z, info_columns = self.lifting_size, _INFO_COLUMNS[self.base_graph]
        codeword = np.zeros((bits.shape[0], _COLUMNS[self.base_graph] * z), dtype=np.uint8)
        codeword[:, : self.info_bits] = bits.cpu().numpy()
        # The four core rows together hold the first parity column once, turned by `turn`; the rest follow.
        row_start, column, shift, turn = _encoder_graph(self.base_graph, z)
        core = int(row_start[4])
        first = codeword[:, info_columns * z : (info_columns + 1) * z]
        known = column[:core] < info_columns
        kernels.encode(
            codeword,
            np.array([0, known.sum()]),
            column[:core][known],
            shift[:core][known],
            np.array([info_columns]),
            z,
        )
        first[:] = np.roll(first, turn, axis=1)
        rows = len(row_start) - 1
        unknown = info_columns + np.arange(rows)
        unknown[:4] = (info_columns + 1, info_columns + 2, info_columns + 3, -1)
        kernels.encode(codeword, row_start, column, shift, unknown, z)
        return torch.from_numpy(codeword).to(bits.device)

    def match(
        self, codeword: UInt8[Tensor, "blocks n"], coded_bits: int, rv: int, bits_per_symbol: int
    ) -> UInt8[Tensor, "blocks e"]:
        """Select from the circular buffer, and interleave (5.4.2)."""
        sent = torch.cat([codeword[:, a:b] for a, b in self.stretches(coded_bits, rv)], dim=1)
        return sent.unflatten(1, (bits_per_symbol, -1)).transpose(1, 2).flatten(1)

    def recover(
        self, llr: Float[Tensor, "blocks e"], rv: int, bits_per_symbol: int
    ) -> Float[Tensor, "blocks n"]:
        """The inverse of `match`: LLRs of one bit are added, bits not sent get 0."""
        coded_bits = llr.shape[1]
        llr = llr.unflatten(1, (-1, bits_per_symbol)).transpose(1, 2).flatten(1)
        buffer = llr.new_zeros((llr.shape[0], self.buffer_bits + 2 * self.lifting_size))
        done = 0
        for a, b in self.stretches(coded_bits, rv):
            buffer[:, a:b] += llr[:, done : done + b - a]
            done += b - a
        return buffer

    def decode(
        self,
        buffer: Float[Tensor, "blocks n"],
        sent: tuple[tuple[int, int], ...],
        max_iterations: int,
        early_stop: bool,
    ) -> Decoded:
        """Layered offset min-sum on the rows whose parity was sent at all.

        Args:
            buffer: Channel LLRs from `recover`.
            sent: The stretches that hold something.
            max_iterations: Limit, at least 1.
            early_stop: Stop as soon as all checks hold.
        """
        from channels.fec import kernels  # Numba is slow to import

        z, info_columns = self.lifting_size, _INFO_COLUMNS[self.base_graph]
        graph = _decoder_graph(self.base_graph, z, _active_rows(self.base_graph, z, sent))
        llr = buffer.to("cpu", torch.float32).numpy()
        if np.isnan(llr.sum()):
            raise ChannelError("an LLR is NaN; the demapper met a value that is not finite")
        llr[:, self.filler[0] : self.filler[1]] = CERTAIN_LLR
        blocks = llr.shape[0]
        bits = np.empty((blocks, info_columns * z), dtype=np.uint8)
        ok, iterations = np.empty(blocks, dtype=np.bool_), np.empty(blocks, dtype=np.int64)
        frames = max(1, min(blocks, 256 // z))
        kernels.decode(
            llr, graph, z, frames, np.float32(4), 2, max_iterations, early_stop, bits, ok, iterations
        )
        device = buffer.device
        return Decoded(
            torch.from_numpy(bits[:, : self.info_bits]).to(device),
            torch.from_numpy(ok).to(device),
            torch.from_numpy(iterations).to(device),
        )


@dataclass(frozen=True)
class NRLDPC:
    """The LDPC code of 5G NR for single code blocks, without CRC.

    Base graph and lifting size follow from the number of information bits and the code rate. Rates below those of the mother code
    (1/3 and 1/5) repeat bits, as the circular buffer does. Longer messages need `TransportBlock`.

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
    max_iterations: int = 20
    early_stop: bool = True
    base_graph: int | None = None

    def __post_init__(self) -> None:
        if self.bits_per_symbol < 1 or self.max_iterations < 1:
            raise ChannelError(
                f"{self.bits_per_symbol} bits per symbol, {self.max_iterations} iterations: both must be at least 1"
            )
        if self.base_graph not in (None, 1, 2):
            raise ChannelError(f"base graph {self.base_graph}: there are 1 and 2")

    @property
    def name(self) -> str:
        """Canonical spelling."""
        return "nr-ldpc"

    def block(self, info_bits: int, coded_bits: int) -> LDPCBlock:
        """The lifted code for these lengths.

        Raises:
            ChannelError: No NR code has these lengths.
        """
        if coded_bits < 1 or info_bits / coded_bits > MAX_CODE_RATE:
            raise ChannelError(
                f"{info_bits} information bits in {coded_bits} coded bits: code rate must not exceed {MAX_CODE_RATE}; "
                "send more coded bits"
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
        return LDPCBlock.select(info_bits, base_graph)

    def encode(
        self, bits: UInt8[Tensor, "blocks k"], coded_bits: int, rv: int = 0
    ) -> UInt8[Tensor, "blocks e"]:
        """`coded_bits` bits per block, of redundancy version `rv` in 0..3.

        Raises:
            ChannelError: No NR code has these lengths.
        """
        check_rv(rv)
        block = self.block(bits.shape[1], coded_bits)
        return block.match(block.encode(bits), coded_bits, rv, self.bits_per_symbol)

    def decode(self, llr: Float[Tensor, "blocks e"], info_bits: int, rv: int = 0) -> Decoded:
        """`ok` says that all parity checks hold.

        Raises:
            ChannelError: No NR code has these lengths, or an LLR is NaN.
        """
        check_rv(rv)
        block = self.block(info_bits, llr.shape[1])
        buffer = block.recover(llr.clamp(-CERTAIN_LLR, CERTAIN_LLR), rv, self.bits_per_symbol)
        sent = tuple(block.stretches(llr.shape[1], rv))
        return block.decode(buffer, sent, self.max_iterations, self.early_stop)


def check_rv(rv: int) -> None:
    """Raise ChannelError unless there is such a redundancy version."""
    if rv not in (0, 1, 2, 3):
        raise ChannelError(f"redundancy version {rv}: there are 0..3")


@lru_cache(maxsize=1)
def _edges() -> np.ndarray:
    """All edges of both base graphs: base graph, row, column, eight shifts."""
    return np.loadtxt(_TABLE, delimiter=",", skiprows=1, dtype=np.int64)


@lru_cache(maxsize=64)
def lifted_edges(base_graph: int, lifting_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and cyclic shift of each edge, by rows: bit (i + shift) mod Z of the column enters check i.

    Raises:
        ChannelError: The standard has no such lifting size.
    """
    sets = [i for i, sizes in enumerate(LIFTING_SIZES) if lifting_size in sizes]
    if not sets:
        raise ChannelError(f"lifting size {lifting_size} is not in TS 38.212, Table 5.3.2-1")
    edges = _edges()[_edges()[:, 0] == base_graph]
    edges = edges[np.lexsort((edges[:, 2], edges[:, 1]))]
    return edges[:, 1].copy(), edges[:, 2].copy(), edges[:, 3 + sets[0]] % lifting_size


@lru_cache(maxsize=64)
def _encoder_graph(base_graph: int, z: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """row_start, column, shift; and the shift of the first parity column in the sum of the core rows."""
    row, column, shift = lifted_edges(base_graph, z)
    turns = shift[(row < 4) & (column == _INFO_COLUMNS[base_graph])]
    turn = next(int(s) for s in turns if (turns == s).sum() % 2 == 1)
    row_start = np.searchsorted(row, np.arange(row[-1] + 2))
    return row_start, column, shift, turn


def _active_rows(base_graph: int, z: int, sent: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """Core rows, and extension rows whose own parity column was sent in part at least.

    A row whose parity bits are unknown says nothing about the others.
    """
    columns = {c for a, b in sent for c in range(a // z, -(-b // z))}
    info_columns = _INFO_COLUMNS[base_graph]
    rows = _COLUMNS[base_graph] - info_columns
    return tuple(r for r in range(rows) if r < 4 or info_columns + r in columns)


@lru_cache(maxsize=64)
def _decoder_graph(base_graph: int, z: int, rows: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """row_start, column, turn, check_turn, rotation: see `kernels.decode`."""
    row, column, shift = lifted_edges(base_graph, z)
    keep = np.isin(row, rows)
    row, column, shift = row[keep], column[keep], shift[keep]
    row_start = np.searchsorted(row, np.array([*rows, rows[-1] + 1]))
    rotation = np.zeros(_COLUMNS[base_graph], dtype=np.int64)
    rotation[column] = shift  # the last edge of a column wins
    order, turn = rotation.copy(), np.empty_like(shift)
    for edge, (c, s) in enumerate(zip(column, shift, strict=True)):
        turn[edge] = (s - order[c]) % z
        order[c] = s
    check_turn = (shift - rotation[column]) % z
    return row_start, column, turn, check_turn, rotation
