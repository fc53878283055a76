"""Elementary streams of H.264, H.265, AV1 and VP9: what is sent, and how it is divided into access units.

An access unit is what a decoder needs, with the units before it, to show one more frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from semcom.codecs import obu
from semcom.codecs.annexb import byte_stream, nal_units
from semcom.codecs.varint import read_varint, varint
from semcom.errors import CorruptPayload


@runtime_checkable
class Syntax(Protocol):
    """Syntax of the elementary streams of one standard."""

    def stream(self, packets: Sequence[bytes]) -> bytes:
        """Remove what a decoder does not need: messages, delimiters, repeated parameter sets.

        Args:
            packets: Access units as the encoder emits them, in decoding order.

        Returns:
            The elementary stream. Parameter sets stand in it once.
        """
        ...

    def access_units(self, stream: bytes, whole: bool = True) -> list[bytes]:
        """Divide an elementary stream into access units.

        Args:
            stream: Any bytes.
            whole: Whether the stream is complete. Else it may end anywhere, and what may be the beginning of
                a longer access unit is dropped.

        Returns:
            Access units in decoding order; parameter sets are part of the first.

        Raises:
            ValueError: The bytes are no such stream, or contain units that `stream` does not write.
        """
        ...


@dataclass(frozen=True)
class NalSyntax:
    """Elementary streams of H.264 and H.265: NAL units after start codes of 3 bytes.

    Args:
        slices: NAL unit types of slices.
        parameter_sets: NAL unit types of parameter sets.
        header: Length of the header of a NAL unit in bytes, 1 (H.264) or 2 (H.265).

    Reference:
        ITU-T H.264, table 7-1 and annex B; ITU-T H.265, table 7-1 and annex B.
    """

    slices: frozenset[int]
    parameter_sets: frozenset[int]
    header: int

    def kind(self, unit: bytes) -> int:
        """Type of a NAL unit, from its header; -1 for a unit without one."""
        if len(unit) < self.header:
            return -1
        return unit[0] & 0x1F if self.header == 1 else unit[0] >> 1 & 0x3F

    def stream(self, packets: Sequence[bytes]) -> bytes:
        """Keep slices and the first of equal parameter sets; SEI messages and delimiters are left out."""
        units = nal_units(b"".join(packets))
        sets = dict.fromkeys(unit for unit in units if self.kind(unit) in self.parameter_sets)
        return byte_stream((*sets, *(unit for unit in units if self.kind(unit) in self.slices)))

    def access_units(self, stream: bytes, whole: bool = True) -> list[bytes]:
        """Divide a stream before every first slice of a picture; parameter sets must come first."""
        groups: list[list[bytes]] = [[]]
        begun = False
        for unit in nal_units(stream):
            kind = self.kind(unit)
            if kind in self.slices:
                # first_mb_in_slice = 0 in one bit (H.264), first_slice_segment_in_pic_flag (H.265)
                if begun and unit[self.header : self.header + 1] >= b"\x80":
                    groups.append([])
                begun = True
            elif begun or kind not in self.parameter_sets:
                raise ValueError("other units than parameter sets and slices")
            groups[-1].append(unit)
        if not begun:
            raise ValueError("no slices")
        return [byte_stream(tuple(group)) for group in groups[: len(groups) if whole else -1]]


@dataclass(frozen=True)
class ObuSyntax:
    """Elementary streams of AV1: OBUs in the low-overhead format, without temporal delimiters.

    Reference:
        AV1 Bitstream & Decoding Process Specification, 5.3 and 7.5.
    """

    def stream(self, packets: Sequence[bytes]) -> bytes:
        """Keep frames and the first of equal sequence headers; delimiters and metadata are left out."""
        kept: dict[bytes, None] = {}
        data: list[bytes] = []
        for unit in obu.obus(b"".join(packets)):
            repeated = unit.kind == obu.SEQUENCE_HEADER and unit.data in kept
            if unit.kind in _AV1_KINDS and not repeated:
                data.append(unit.data)
            if unit.kind == obu.SEQUENCE_HEADER:
                kept[unit.data] = None
        return b"".join(data)

    def access_units(self, stream: bytes, whole: bool = True) -> list[bytes]:
        """Divide a stream behind every shown frame, and put a temporal delimiter before each unit."""
        units = obu.obus(stream, whole)
        if not all(unit.kind in _AV1_KINDS for unit in units):
            raise ValueError("other units than a sequence header and frames")
        if sum(unit.kind == obu.SEQUENCE_HEADER for unit in units) != 1:
            raise ValueError("not one sequence header")
        groups = obu.temporal_units(units)
        if not whole and not any(unit.shows for unit in groups[-1]):
            groups.pop()
        return [obu.DELIMITER + b"".join(unit.data for unit in group) for group in groups]


@dataclass(frozen=True)
class LengthSyntax:
    """Elementary streams of VP9, which has no start codes: every frame or superframe after its length.

    Lengths are variable-length integers, 7 bits per byte, low bits first. A superframe holds frames that are
    not shown and one that is. VP9 has no parameter sets.

    Reference:
        VP9 Bitstream & Decoding Process Specification, annex B.
    """

    def stream(self, packets: Sequence[bytes]) -> bytes:
        """Join all frames, each after its length."""
        return b"".join(varint(len(packet)) + packet for packet in packets)

    def access_units(self, stream: bytes, whole: bool = True) -> list[bytes]:
        """Divide a stream by the lengths in it."""
        units, place = [], 0
        while place < len(stream):
            try:
                length, start = read_varint(stream, place)
            except CorruptPayload:
                length, start = len(stream), place
            if not length or start + length > len(stream):
                if whole or not length:
                    raise ValueError("a frame is empty or cut off")
                break
            units.append(stream[start : start + length])
            place = start + length
        return units


_AV1_KINDS = frozenset({obu.SEQUENCE_HEADER, obu.FRAME_HEADER, obu.TILE_GROUP, obu.FRAME})
