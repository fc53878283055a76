"""Embed a payload in a picture and extract it; header and checksum are inside the picture, and counted.

The least significant bits of the first pixels hold a header; their former values are hidden together with the
payload. While a method works, these bits are 0.

    message = least significant bits of the header's pixels, payload   (made random by a fixed stream)
    header  = mark, method, bytes of header and payload, CRC-32 of host and payload, the method's own
"""

import hashlib
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from semcom.errors import CorruptStego, InvalidSource, PayloadTooLarge
from semcom.hiding.method import Method
from semcom.hiding.pixels import Planes, from_planes, to_planes
from semcom.hiding.recursive import Recursive
from semcom.modalities.image import MAX_SIDE

Pixels = UInt8[np.ndarray, "..."]

HEADER = struct.Struct(">BBHII")
MARK = 0xD7
FIRST_GUESS = 96  # bytes of a header
PIXELS_PER_BYTE = 16  # of the header of a small picture, half of which are left for the message
LARGE_HEADER = 704  # bytes; more than the tables ever took, and than the most rounds of shifting, 685
LARGEST_HEADER = 65535  # that its own field of two bytes can tell
SPARE = 8
# Bytes beyond those needed at the last trial: tables change a little with the bits that they displace, and
# with every round of shifting that hides them a header grows by 7.
GROWTHS = (4, 4, 4, 4, 4, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, eq=False)
class Embedding:
    """A stego picture with measurements of its embedding.

    Args:
        stego: Stego picture, of the host's shape.
        payload_bits: Bits of the payload.
        embedded_bits: Bits hidden in all: the payload and the bits displaced by the header.
        symbols: Number of pixels that took part.
        theory_bits: n (H(r) - H(p)) over those pixels; 0 if the method has no such law.
    """

    stego: Pixels
    payload_bits: int
    embedded_bits: int
    symbols: int
    theory_bits: float

    @property
    def bpp(self) -> float:
        """Payload in bits per pixel, all colours of a pixel together."""
        return self.payload_bits / (self.stego.shape[0] * self.stego.shape[1])


def embed(host: Pixels, payload: bytes, method: Method | None = None) -> Pixels:
    """Hide bytes in a picture, such that picture and bytes are both recovered bit for bit.

    Args:
        host: Picture of 8 bits, uint8 [height, width] or [height, width, colors].
        payload: Bytes of any length that fits, empty allowed.
        method: Hiding method; `Recursive()` by default.

    Returns:
        The stego picture, of the host's shape.

    Raises:
        InvalidSource: The host is not such a picture.
        PayloadTooLarge: The payload does not fit.

    Example:
        >>> host = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
        >>> payload, again = extract(embed(host, b"a message"))
        >>> payload, bool((again == host).all())
        (b'a message', True)
    """
    return embedding(host, payload, method).stego


def embedding(host: Pixels, payload: bytes, method: Method | None = None) -> Embedding:
    """Hide bytes in a picture and return the stego picture with measurements.

    Args:
        host: Picture of 8 bits, uint8 [height, width] or [height, width, colors].
        payload: Bytes of any length that fits, empty allowed.
        method: Hiding method; `Recursive()` by default.

    Returns:
        Stego picture and measurements.

    Raises:
        InvalidSource: The host is not such a picture.
        PayloadTooLarge: The payload does not fit.
    """
    chosen: Method = Recursive() if method is None else method
    planes = _checked(host)
    crc = _checksum(planes, payload)
    size, best, before = min(FIRST_GUESS, planes[0].size // PIXELS_PER_BYTE), None, b""
    for growth in GROWTHS:
        if 8 * size > planes[0].size or size > LARGEST_HEADER:
            break
        cleared, displaced = _cleared(planes, 8 * size)
        message = _whitened(displaced + payload)
        try:
            hidden = chosen.hide(cleared, 8 * size, message, before)
        except PayloadTooLarge:
            if best is not None:
                return best
            room = chosen.capacity_bytes(cleared, 8 * size) - size
            raise _too_large(planes, payload, max(room, 0)) from None
        needed, before = HEADER.size + len(hidden.header), hidden.header
        if needed <= size:
            head = HEADER.pack(MARK, chosen.number, size, len(payload), crc) + hidden.header
            stego = from_planes(_headed(hidden.planes, head.ljust(size, b"\0")), host.ndim)
            best = Embedding(stego, 8 * len(payload), 8 * len(message), hidden.symbols, hidden.theory_bits)
            if size - needed <= max(SPARE, growth):
                break
        elif best is not None:
            break
        size = needed + growth
    if best is None:
        raise _too_large(planes, payload, 0)
    return best


def extract(stego: Pixels) -> tuple[bytes, Pixels]:
    """Recover payload and host from a stego picture.

    Args:
        stego: Stego picture, uint8, as returned by `embed`.

    Returns:
        The payload, and the host picture.

    Raises:
        InvalidSource: The array is not a picture of 8 bits.
        CorruptStego: The picture hides nothing, or it was changed.
    """
    from semcom.hiding.expansion import ErrorExpansion
    from semcom.hiding.shifting import HistogramShifting

    planes = _checked(stego)
    bits = planes.reshape(-1)[: 8 * HEADER.size] & 1
    if bits.size < 8 * HEADER.size:
        raise CorruptStego(f"a picture of {planes[0].size} pixels hides nothing: too small for a header")
    mark, number, size, length, crc = HEADER.unpack(np.packbits(bits).tobytes())
    methods: dict[int, Method] = {m.number: m for m in (Recursive(), ErrorExpansion(), HistogramShifting())}
    if mark != MARK or number not in methods or not HEADER.size <= size <= planes[0].size // 8:
        raise CorruptStego("the picture has no header: nothing is hidden in it, or it was changed since")
    if length > planes.size:
        raise CorruptStego(f"the header tells of {length} bytes in {planes.size} values: it is damaged")
    cleared, head = _cleared(planes, 8 * size)
    message, before = methods[number].reveal(cleared, 8 * size, head[HEADER.size :], size + length)
    message = _whitened(message)
    host = _headed(before, message[:size])
    payload = message[size:]
    if _checksum(host, payload) != crc:
        raise CorruptStego(
            "host and payload fail their checksum: the picture was changed since; get it again, unchanged"
        )
    return payload, from_planes(host, stego.ndim)


def capacity_bytes(host: Pixels, method: Method | None = None) -> int:
    """Length of a payload that fits, except with a probability of 1 in a billion.

    Args:
        host: Picture of 8 bits, uint8 [height, width] or [height, width, colors].
        method: Hiding method; `Recursive()` by default.

    Returns:
        Length in bytes, at least 0.

    Raises:
        InvalidSource: The host is not such a picture.
    """
    chosen: Method = Recursive() if method is None else method
    planes = _checked(host)
    size = min(LARGE_HEADER, planes[0].size // PIXELS_PER_BYTE)
    cleared, _ = _cleared(planes, 8 * size)
    room = max(chosen.capacity_bytes(cleared, 8 * size) - size, 0)
    if size < LARGE_HEADER and room > 0:  # of a small picture the header may take more
        try:
            embed(host, bytes(room), chosen)
        except PayloadTooLarge:
            return 0
    return room


def _checked(pixels: Pixels) -> Planes:
    shape = pixels.shape
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.size == 0:
        raise InvalidSource(
            f"picture of shape {list(shape)}, {pixels.dtype}: expected 8 bits, [height, width] or "
            "[height, width, colors]"
        )
    if max(shape[:2]) > MAX_SIDE or (pixels.ndim == 3 and shape[2] > 4):
        raise InvalidSource(f"picture of shape {list(shape)}: at most {MAX_SIDE} pixels a side, 4 colours")
    return to_planes(pixels)


def _cleared(planes: Planes, reserved: int) -> tuple[Planes, bytes]:
    """Planes with the least significant bits of the first pixels set to 0, and the former bits."""
    cleared = planes.copy()
    head = cleared.reshape(-1)[:reserved]
    displaced = np.packbits(head & 1).tobytes()
    head &= 254
    return cleared, displaced


def _headed(planes: Planes, head: bytes) -> Planes:
    """Planes with a header written into the least significant bits of the first pixels."""
    planes = planes.copy()
    planes.reshape(-1)[: 8 * len(head)] |= np.unpackbits(np.frombuffer(head, dtype=np.uint8))
    return planes


def _whitened(message: bytes) -> bytes:
    """XOR with a fixed pseudorandom stream, its own inverse; stego laws assume messages that look random."""
    stream = hashlib.shake_128(b"semcom").digest(len(message))
    return (np.frombuffer(message, np.uint8) ^ np.frombuffer(stream, np.uint8)).tobytes()


def _checksum(planes: Planes, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(planes.tobytes()))


def _too_large(planes: Planes, payload: bytes, room: int) -> PayloadTooLarge:
    colors, height, width = planes.shape
    return PayloadTooLarge(
        f"payload of {len(payload)} bytes: this picture of {width}x{height} pixels, {colors} colours, has "
        f"room for about {room}; hide less, or take a larger or smoother picture"
    )
