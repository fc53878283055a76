"""Integers of variable length, 7 bits per byte (LEB128), as all payloads write them."""

from semcom.errors import CorruptPayload


def varint(number: int) -> bytes:
    """Write an integer of variable length: 7 bits per byte, low bits first; highest bit: more bytes follow.

    Args:
        number: The integer, at least 0.

    Returns:
        One byte for numbers up to 127, two up to 16383, and so on.
    """
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def read_varint(data: bytes, place: int) -> tuple[int, int]:
    """Read an integer of variable length, the inverse of `varint`.

    Args:
        data: Bytes that contain the integer.
        place: Index of its first byte.

    Returns:
        The integer, and the index of the first byte after it.

    Raises:
        CorruptPayload: The integer is cut off, or longer than 5 bytes.
    """
    number = 0
    for shift in range(0, 35, 7):
        if place >= len(data):
            break
        byte = data[place]
        number, place = number | (byte & 0x7F) << shift, place + 1
        if byte < 0x80:
            return number, place
    raise CorruptPayload(f"payload of {len(data)} bytes: no length at byte {place}")
