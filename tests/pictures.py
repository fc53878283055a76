"""Picture files written byte by byte from their specifications, as truth that no library has touched."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np

BANDS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of the colour types of PNG

_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _packed(samples: np.ndarray, depth: int) -> bytes:
    """Scan lines with filter type 0."""
    if 0 in samples.shape:
        return b""
    lines = samples.reshape(samples.shape[0], -1)
    if depth == 16:
        rows = [line.astype(">u2").tobytes() for line in lines]
    else:
        bits = (lines[..., None] >> np.arange(depth - 1, -1, -1)) & 1
        rows = [np.packbits(line.astype(np.uint8).ravel()).tobytes() for line in bits]
    return b"".join(b"\0" + row for row in rows)


def png(
    samples: np.ndarray,
    depth: int,
    colour: int,
    *extra: tuple[bytes, bytes],
    interlaced: bool = False,
) -> bytes:
    """A PNG of samples [height, width, bands]; `extra` are chunks before IDAT, kind and data."""
    height, width, bands = samples.shape
    assert bands == BANDS[colour]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    passes = [samples[y::dy, x::dx] for y, x, dy, dx in _ADAM7] if interlaced else [samples]
    data = zlib.compress(b"".join(_packed(part, depth) for part in passes))
    chunks = [(b"IHDR", header), *extra, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*pair) for pair in chunks)


def shorts(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


def tiff(planes: np.ndarray, order: str, photometric: int, extra: Sequence[tuple[int, int]] = ()) -> bytes:
    """An uncompressed TIFF of samples [height, width, bands] in one strip; `extra` are tags of one short."""
    height, width, bands = planes.shape
    kind, bits = planes.dtype.kind, 8 * planes.dtype.itemsize
    data = planes.astype(planes.dtype.newbyteorder(order)).tobytes()
    tags = {256: width, 257: height, 259: 1, 262: photometric, 277: bands, 278: height, 284: 1, **dict(extra)}
    entries = {tag: struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items()}
    count = len(entries) + 4
    arrays = 8 + 2 + 12 * count + 4
    for tag, value in ((258, bits), (339, {"u": 1, "i": 2, "f": 3}[kind])):
        if bands > 2:
            entries[tag] = struct.pack(
                f"{order}HHII", tag, 3, bands, arrays + (0 if tag == 258 else 2 * bands)
            )
        else:
            values = [value] * bands + [0] * (2 - bands)
            entries[tag] = struct.pack(f"{order}HHIHH", tag, 3, bands, *values)
    kinds = {"u": 1, "i": 2, "f": 3}[kind]
    tail = struct.pack(f"{order}{2 * bands}H", *[bits] * bands, *[kinds] * bands)
    entries[273] = struct.pack(f"{order}HHII", 273, 4, 1, arrays + len(tail))
    entries[279] = struct.pack(f"{order}HHII", 279, 4, 1, len(data))
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(f"{order}IH", 8, count)
    return head + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4) + tail + data
