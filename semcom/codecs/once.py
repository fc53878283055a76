"""Wrappers of codecs of clips that fit a clip to a number of bits once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from semcom.codecs.codec import Fitted, HasScale, Quality, SourceCodec, fit
from semcom.errors import BudgetTooSmall
from semcom.modalities.video import VIDEO, Clip, ClipShape
from semcom.observation import Gaps
from semcom.packetised import PacketCodec

Key = tuple[str, tuple[int, ...]]


@dataclass(frozen=True)
class FittedOnce:
    """Codec of clips that remembers what it fitted.

    A clip that is sent over several channels, or by schemes that differ in the receiver alone, often has the
    same number of bits. Refusals are remembered too. Nothing is ever forgotten: one clip in few numbers of
    bits is what this is for.

    Args:
        codec: The codec, which alone defines the result.
    """

    codec: SourceCodec[Clip]
    known: dict[Key, Fitted[Clip] | BudgetTooSmall] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        """Canonical name of the wrapped codec."""
        return self.codec.name

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """Operating points of the wrapped codec."""
        return self.codec.qualities

    def encode(self, x: Clip, quality: Quality) -> bytes:
        """Encode a clip by the wrapped codec, not remembered."""
        return self.codec.encode(x, quality)

    def decode(self, payload: bytes, shape: ClipShape) -> Clip:
        """Decode a payload by the wrapped codec, not remembered."""
        return self.codec.decode(payload, shape)

    def scale(self, payload: bytes, shape: tuple[int, ...]) -> int:
        """Downscaling factor of a payload of the wrapped codec; 1 if that codec does not tell it."""
        return self.codec.scale(payload, shape) if isinstance(self.codec, HasScale) else 1

    def fit(self, x: Clip, max_bits: int) -> Fitted[Clip]:
        """Fit a clip by the wrapped codec, or remember what came of it before.

        Args:
            x: The clip.
            max_bits: Largest length of the payload in bits.

        Returns:
            The payload, its quality and the clip that it decodes to.

        Raises:
            BudgetTooSmall: The wrapped codec refuses, or refused, the number of bits.
        """
        key = VIDEO.digest(x), (max_bits,)
        if key not in self.known:
            try:
                self.known[key] = fit(self.codec, x, max_bits)
            except BudgetTooSmall as error:
                self.known[key] = error
        found = self.known[key]
        if isinstance(found, BudgetTooSmall):
            raise BudgetTooSmall(str(found), found.needed_bits)
        return found


@dataclass(frozen=True)
class PackedOnce:
    """Packet codec of clips that remembers its packets, as `FittedOnce` remembers payloads.

    Args:
        codec: The packet codec, which alone defines the result.
    """

    codec: PacketCodec[Clip]
    known: dict[Key, tuple[bytes, ...] | BudgetTooSmall] = field(
        default_factory=dict, compare=False, repr=False
    )

    @property
    def name(self) -> str:
        """Canonical name of the wrapped codec."""
        return self.codec.name

    def encode(self, x: Clip, room: Sequence[int]) -> tuple[bytes, ...]:
        """Encode a clip by the wrapped codec, or remember what came of it before.

        Args:
            x: The clip.
            room: Largest size in bytes of every packet.

        Returns:
            One packet per entry of `room`.

        Raises:
            BudgetTooSmall: The wrapped codec refuses, or refused, the room.
        """
        key = VIDEO.digest(x), tuple(room)
        if key not in self.known:
            try:
                self.known[key] = self.codec.encode(x, room)
            except BudgetTooSmall as error:
                self.known[key] = error
        found = self.known[key]
        if isinstance(found, BudgetTooSmall):
            raise BudgetTooSmall(str(found), found.needed_bits)
        return found

    def decode(self, packets: Sequence[bytes | None], shape: Any) -> Gaps[Clip] | None:
        """Decode packets by the wrapped codec, not remembered."""
        return self.codec.decode(packets, shape)
