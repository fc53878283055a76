"""Byte stream format of H.264 and H.265: NAL units separated by start codes."""

START_CODE = b"\0\0\1"


def nal_units(stream: bytes) -> tuple[bytes, ...]:
    r"""Split a byte stream into NAL units.

    Emulation prevention ensures that no unit contains a start code or ends in a zero byte.

    Args:
        stream: NAL units, each after a start code of 3 or 4 bytes.

    Returns:
        The units without start codes; bytes before the first start code are dropped.

    Reference:
        ITU-T H.264 and ITU-T H.265, annex B.

    Example:
        >>> nal_units(bytes.fromhex("00000001 6742 000001 68ce"))
        (b'gB', b'h\xce')
    """
    units = stream.split(START_CODE)[1:]
    return tuple(unit.rstrip(b"\0") for unit in units)  # trailing zeros belong to the next start code


def byte_stream(units: tuple[bytes, ...]) -> bytes:
    """Join NAL units to a byte stream, the inverse of `nal_units`.

    Args:
        units: NAL units without start codes.

    Returns:
        The units, each after a start code of 3 bytes.

    Reference:
        ITU-T H.264 and ITU-T H.265, annex B.
    """
    return b"".join(START_CODE + unit for unit in units)
