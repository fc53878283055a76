"""Quantised DCT coefficients of a baseline JPEG file, read without decoding to pixels."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from semcom.codecs.still import Size
from semcom.errors import CorruptPayload

SIDE = 8  # of a block
LARGEST = 2047  # magnitude of a quantised coefficient of 8-bit pictures, T.81, F.1.2
DC_SIZES, AC_SIZES = 11, 10  # bits of a difference and of a coefficient at most, T.81, tables F.1 and F.2
_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_SOF0, _DHT, _SOS, _DQT = 0xC0, 0xC4, 0xDA, 0xDB
_HARMLESS = {*range(0xE0, 0xF0), 0xFE}  # application data and comments
_REACH = 32  # bits in the window that starts at each byte


def _zigzag() -> np.ndarray:
    """Row-by-row position of the k-th coefficient of a scan: T.81, figure A.6."""
    places = [(row, column) for row in range(SIDE) for column in range(SIDE)]
    places.sort(key=lambda p: (sum(p), p[0] if sum(p) % 2 else p[1]))
    return np.array([SIDE * row + column for row, column in places])


ZIGZAG = _zigzag()


@dataclass(frozen=True, eq=False, slots=True)
class JpegComponent:
    """One component of a JPEG picture as it was coded.

    Args:
        quantised: Integers q of every block, frequencies by row and column, [rows, columns, 8, 8].
        steps: Quantiser step Delta of every frequency, [8, 8]; a coefficient is q Delta.
        across: Horizontal sampling factor.
        down: Vertical sampling factor.
    """

    quantised: Int[np.ndarray, "rows columns 8 8"]
    steps: Int[np.ndarray, "8 8"]
    across: int
    down: int


@dataclass(frozen=True, eq=False, slots=True)
class JpegPicture:
    """Quantised coefficients of all components of a baseline JPEG file.

    Args:
        size: Width and height in pixels.
        components: Luminance and the two colour differences, or luminance alone.
    """

    size: Size
    components: tuple[JpegComponent, ...]


def read_jpeg(file: bytes, size: Size) -> JpegPicture:
    """Entropy-decode a baseline sequential JPEG file of one scan, 8 bits, Huffman coded.

    Blocks that only complete the last unit of an interleaved scan (T.81, A.2.4) are left out.

    Args:
        file: The file from SOI to EOI.
        size: Width and height that it must declare; checked before memory is allocated.

    Returns:
        Quantised coefficients.

    Raises:
        CorruptPayload: The file is not of this kind or size, is damaged, or does not match its number of
            blocks.

    Reference:
        ITU-T T.81 (1992), annexes A.2 (order of blocks), B.2 (segments), C (Huffman tables), F.2 (decoding).
    """
    try:
        return _read(file, size)
    except KeyError as error:
        raise CorruptPayload(f"JPEG file whose table {error} is missing") from None
    except (IndexError, struct.error):
        raise CorruptPayload(f"JPEG file of {len(file)} bytes: a segment or the scan is cut short") from None


@dataclass(frozen=True, slots=True)
class _Declared:
    """A component in the frame header."""

    across: int
    down: int
    table: int


def _read(file: bytes, size: Size) -> JpegPicture:
    steps: dict[int, np.ndarray] = {}
    codes: dict[int, list[int]] = {}
    declared: dict[int, _Declared] = {}
    at = 2
    if file[:2] != _SOI or file[-2:] != _EOI:
        raise CorruptPayload("JPEG file without its first or last marker")
    for marker, body, following in _segments(file):
        at = following
        if marker == _DQT:
            steps |= _quantisation_tables(body)
        elif marker == _DHT:
            codes |= _huffman_tables(body)
        elif marker == _SOF0:
            declared = _frame(body, size)
        elif marker == _SOS:
            break
        elif marker not in _HARMLESS:  # another process, restart intervals, a second picture
            raise CorruptPayload(f"JPEG segment 0xff{marker:02x}, which a baseline file of one scan has not")
    else:
        raise CorruptPayload("JPEG file without a scan")
    selected = _scan(body, declared)
    return _coefficients(_unstuffed(file[at:-2]), size, declared, selected, codes, steps)


def _segments(file: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Marker, content and end of each segment, up to the last marker of the file."""
    at = 2
    while at < len(file) - 2:
        start, marker, length = struct.unpack(">BBH", file[at : at + 4])
        body, at = file[at + 4 : at + 2 + length], at + 2 + length
        if start != 0xFF or length < 2 or len(body) != length - 2:
            raise CorruptPayload("JPEG segment that is cut short, or bytes where a marker should be")
        yield marker, body, at


def _quantisation_tables(body: bytes) -> dict[int, np.ndarray]:
    """T.81, B.2.4.1, in 8 bits."""
    tables = {}
    for start in range(0, len(body), 65):
        values = np.frombuffer(body[start + 1 : start + 65], dtype=np.uint8).astype(np.int64)
        if body[start] > 3 or len(values) != 64 or not values.all():
            raise CorruptPayload("JPEG quantisation table that is not 64 steps of 8 bits above 0")
        table = np.empty(64, dtype=np.int64)
        table[ZIGZAG] = values
        tables[body[start]] = table.reshape(SIDE, SIDE)
    return tables


def _huffman_tables(body: bytes) -> dict[int, list[int]]:
    """Huffman decoding tables by class and number: 256 length + symbol per 16-bit prefix, or 0.

    T.81, B.2.4.2; 0 marks a prefix without a code.
    """
    tables = {}
    while body:
        name, counts = body[0], body[1:17]
        symbols = body[17 : 17 + sum(counts)]
        body = body[17 + sum(counts) :]
        if name & 0xEE or len(counts) != 16 or len(symbols) != sum(counts):
            raise CorruptPayload("JPEG Huffman table that is cut short or has no such number")
        lengths = np.repeat(np.arange(1, 17), list(counts))
        values = np.frombuffer(symbols, dtype=np.uint8).astype(np.int64)
        sizes = values if name < 0x10 else values & 15
        if (sizes > (DC_SIZES if name < 0x10 else AC_SIZES)).any():
            raise CorruptPayload("JPEG Huffman table with a symbol that 8-bit pictures do not have")
        begun = 1 << (16 - lengths)  # so many of the 16-bit strings begin with a code of this length
        if begun.sum() > 1 << 16:
            raise CorruptPayload("JPEG Huffman table with more codes than there are")
        table = np.repeat(256 * lengths + values, begun)  # codes in order, figure C.2
        tables[name] = np.pad(table, (0, (1 << 16) - len(table))).tolist()
    return tables


def _frame(body: bytes, size: Size) -> dict[int, _Declared]:
    """Components in their order, T.81, B.2.2."""
    precision, height, width, count = struct.unpack(">BHHB", body[:6])
    if (width, height) != size:
        raise CorruptPayload(f"JPEG of {width}x{height} instead of {size[0]}x{size[1]}")
    if precision != 8 or count not in (1, 3) or len(body) != 6 + 3 * count:
        raise CorruptPayload("JPEG frame that is not 8 bits of brightness, or of brightness and two colours")
    triples = [body[6 + 3 * i : 9 + 3 * i] for i in range(count)]
    declared = {name: _Declared(factors >> 4, factors & 15, table) for name, factors, table in triples}
    sampled = all(1 <= c.across <= 4 and 1 <= c.down <= 4 for c in declared.values())
    if len(declared) != count or not sampled:
        raise CorruptPayload("JPEG components of one name, or with sampling factors beyond 1..4")
    if count == 1:  # a scan of one component goes block by block whatever its factors, A.2.3
        return {name: _Declared(1, 1, c.table) for name, c in declared.items()}
    return declared


def _scan(body: bytes, declared: Mapping[int, _Declared]) -> list[tuple[int, int]]:
    """Numbers of the DC and AC tables per component, T.81, B.2.3."""
    pairs = [(body[1 + 2 * i], body[2 + 2 * i]) for i in range(body[0])]
    whole_spectrum = body[1 + 2 * len(pairs) :] == bytes((0, 63, 0))
    if not declared or [name for name, _ in pairs] != list(declared) or not whole_spectrum:
        raise CorruptPayload("JPEG scan that does not hold all components of a baseline frame")
    return [(tables >> 4, 0x10 | tables & 15) for _, tables in pairs]


def _unstuffed(scan: bytes) -> bytes:
    """Scan without the 0 after every 0xff (T.81, B.1.1.5); any other byte there would be a marker."""
    first, *rest = scan.split(b"\xff")
    if any(part[:1] != b"\0" for part in rest):
        raise CorruptPayload("JPEG scan with a marker in it")
    return b"\xff".join((first, *(part[1:] for part in rest)))


def _coefficients(
    data: bytes,
    size: Size,
    declared: Mapping[int, _Declared],
    selected: list[tuple[int, int]],
    codes: Mapping[int, list[int]],
    steps: Mapping[int, np.ndarray],
) -> JpegPicture:
    """Blocks of every component, rearranged from the order of the scan to rows and columns."""
    parts = list(declared.values())
    most_across, most_down = max(c.across for c in parts), max(c.down for c in parts)
    columns, rows = _up(size[0], SIDE * most_across), _up(size[1], SIDE * most_down)
    tables = [(codes[dc], codes[ac]) for dc, ac in selected]
    blocks = _blocks(data, rows * columns, tables, [c.across * c.down for c in parts])
    components = []
    for c, (places, values) in zip(parts, blocks, strict=True):
        flat = np.zeros(rows * columns * c.across * c.down * 64, dtype=np.int64)
        flat[places] = values
        in_order = flat.reshape(-1, 64)
        in_order[:, 0] = in_order[:, 0].cumsum()  # differences to the block before, F.2.1.3.1
        if np.abs(in_order).max() > LARGEST:
            raise CorruptPayload("JPEG coefficient beyond 8-bit pictures")
        block = np.empty_like(in_order)
        block[:, ZIGZAG] = in_order
        units = block.reshape(rows, columns, c.down, c.across, SIDE, SIDE).transpose(0, 2, 1, 3, 4, 5)
        raster = units.reshape(rows * c.down, columns * c.across, SIDE, SIDE)
        wide = _up(_up(size[0] * c.across, most_across), SIDE)  # sides of the component in blocks, A.1.1
        high = _up(_up(size[1] * c.down, most_down), SIDE)
        components.append(JpegComponent(raster[:high, :wide].copy(), steps[c.table], c.across, c.down))
    return JpegPicture(size, tuple(components))


def _up(dividend: int, divisor: int) -> int:
    """Quotient, rounded up."""
    return -(-dividend // divisor)


def _blocks(
    data: bytes, units: int, tables: list[tuple[list[int], list[int]]], blocks_per_unit: list[int]
) -> list[tuple[list[int], list[int]]]:
    """Positions and values of the coefficients of each component, 64 per block in the order of the scan.

    T.81, F.2.2: a code, then as many bits as it announces. The first value of a block is a difference.
    """
    padded = np.frombuffer(data + bytes(_REACH // 8), dtype=np.uint8)
    octets = np.lib.stride_tricks.sliding_window_view(padded, _REACH // 8).astype(np.int64)
    windows = (octets @ (1 << np.arange(_REACH - 8, -1, -8))).tolist()
    found: list[tuple[list[int], list[int]]] = [([], []) for _ in tables]
    places = [part[0].append for part in found]
    values = [part[1].append for part in found]
    order = [i for i, count in enumerate(blocks_per_unit) for _ in range(count)]
    starts = [0] * len(tables)
    bit = 0
    for _ in range(units):
        for i in order:
            dc, ac = tables[i]
            place, value, start = places[i], values[i], starts[i]
            starts[i] = start + 64
            entry = dc[windows[bit >> 3] >> (16 - (bit & 7)) & 0xFFFF]
            k = 0
            while True:
                if not entry:
                    raise CorruptPayload("JPEG scan with bits that are no code")
                bit += entry >> 8
                size = entry & 15
                if size:
                    bits = windows[bit >> 3] >> (_REACH - size - (bit & 7)) & ((1 << size) - 1)
                    bit += size
                    place(start + k)
                    value(bits if bits >> (size - 1) else bits + 1 - (1 << size))
                if k == 63:
                    break
                entry = ac[windows[bit >> 3] >> (16 - (bit & 7)) & 0xFFFF]
                run = entry >> 4 & 15
                if entry and not entry & 15 and run != 15:
                    if run:
                        raise CorruptPayload("JPEG scan with a symbol that baseline has not")
                    bit += entry >> 8  # the rest of the block is 0
                    break
                k += run + 1
                if k > 63:
                    raise CorruptPayload("JPEG block of more than 64 coefficients")
    if not 0 <= 8 * len(data) - bit < 8:
        raise CorruptPayload(f"JPEG scan of {len(data)} bytes, of which its blocks take {bit} bits")
    return found
