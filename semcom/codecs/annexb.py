"""Byte streams of H.264 and H.265: NAL units between start codes."""

START_CODE = b"\0\0\1"


def nal_units(stream: bytes) -> tuple[bytes, ...]:
    r"""Split a byte stream.

    Emulation prevention keeps the start code out of the units, and a unit never ends in a zero.

    Args:
        stream: NAL units, each behind a start code of 3 or 4 bytes.

    Returns:
        The units without start codes; what stands before the first start code is dropped.

    Reference:
        ITU-T H.264 and ITU-T H.265, annex B.

    Example:
        >>> nal_units(bytes.fromhex("00000001 6742 000001 68ce"))
        (b'gB', b'h\xce')
    """
    units = stream.split(START_CODE)[1:]
    return tuple(unit.rstrip(b"\0") for unit in units)  # a fourth zero belongs to the next start code


def byte_stream(units: tuple[bytes, ...]) -> bytes:
    """Join NAL units, each behind a start code of 3 bytes."""
    return b"".join(START_CODE + unit for unit in units)
