"""Open bitstream units (OBUs) of AV1, the counterpart of the NAL units of H.264 and H.265."""

from dataclasses import dataclass

SEQUENCE_HEADER, TEMPORAL_DELIMITER, FRAME_HEADER, TILE_GROUP = 1, 2, 3, 4
METADATA, FRAME, REDUNDANT_FRAME_HEADER, TILE_LIST, PADDING = 5, 6, 7, 8, 15

DELIMITER = bytes([TEMPORAL_DELIMITER << 3 | 2, 0])
"""Temporal delimiter: an OBU of type 2 with a size field of 0."""


@dataclass(frozen=True, slots=True)
class Obu:
    """One open bitstream unit.

    Args:
        kind: Type of the unit, 0..15.
        data: All bytes of the unit: header, size field and payload.
        start: Index of the first byte of the payload in `data`.
    """

    kind: int
    data: bytes
    start: int

    @property
    def shows(self) -> bool:
        """Whether the unit is the header of a frame that is shown, or that shows an earlier frame again."""
        if self.kind not in (FRAME_HEADER, FRAME) or self.start == len(self.data):
            return False
        first = self.data[self.start]
        return bool(first & 0x80 or first & 0x10)  # show_existing_frame; frame_type of 2 bits; show_frame


def leb128(data: bytes, place: int) -> tuple[int, int]:
    """Read an unsigned integer of variable length: 7 bits a byte, low bits first.

    Args:
        data: Bytes that contain the number.
        place: Index of its first byte.

    Returns:
        The number, and the index of the first byte after it.

    Raises:
        ValueError: The number is cut off, or longer than 8 bytes, or at least 2^32.

    Reference:
        AV1 Bitstream & Decoding Process Specification, 4.10.5.

    Example:
        >>> leb128(bytes([0xE5, 0x8E, 0x26]), 0)
        (624485, 3)
    """
    number = 0
    for i in range(8):
        if place + i >= len(data):
            raise ValueError("an OBU is cut off in its size")
        byte = data[place + i]
        number |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            if number >= 1 << 32:
                break
            return number, place + i + 1
    raise ValueError("an OBU announces more than 2^32 bytes")


def obus(stream: bytes, whole: bool = True) -> list[Obu]:
    """Split a stream in the low-overhead format into OBUs.

    Args:
        stream: OBUs, each with a size field.
        whole: Whether a stream that ends inside of an OBU is an error; else its last bytes are dropped.

    Returns:
        The units.

    Raises:
        ValueError: A unit has no size field or a forbidden bit, or `whole` and the last one is cut off.

    Reference:
        AV1 Bitstream & Decoding Process Specification, 5.3.
    """
    units, place = [], 0
    while place < len(stream):
        header = stream[place]
        if header & 0x80 or not header & 2:
            raise ValueError("an OBU without a size field, or with a forbidden bit")
        try:
            size, start = leb128(stream, place + 1 + (header >> 2 & 1))
            if start + size > len(stream):
                raise ValueError("an OBU is cut off")
        except ValueError:
            if whole:
                raise
            break
        units.append(Obu(header >> 3 & 15, stream[place : start + size], start - place))
        place = start + size
    return units


def temporal_units(units: list[Obu]) -> list[list[Obu]]:
    """Divide OBUs into temporal units, each of which shows exactly one frame.

    Temporal delimiters are not needed, since a unit ends with the data of the frame that it shows. That holds
    for streams of one layer.

    Args:
        units: OBUs in the order of the stream, without temporal delimiters.

    Returns:
        The OBUs of every temporal unit. What follows the last shown frame forms one more unit.

    Reference:
        AV1 Bitstream & Decoding Process Specification, 7.5.
    """
    groups: list[list[Obu]] = []
    ended = True
    for unit in units:
        if ended and unit.kind != TILE_GROUP:  # tile groups belong to the header before them
            groups.append([])
            ended = False
        if not groups:
            groups.append([])
        groups[-1].append(unit)
        ended = ended or unit.shows
    return groups
