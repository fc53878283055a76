"""Lossless source codecs of texts."""

import zlib
from dataclasses import dataclass

from semcom.codecs.codec import Fitted, Quality, SourceCodec, too_small
from semcom.errors import CorruptPayload, InvalidOption
from semcom.modalities.text import MAX_BYTES, TextShape

_ONLY = Quality(1, 0)
_STORED = b"\x06"  # no raw DEFLATE stream starts so: block type 3 is reserved (RFC 1951, 3.2.3)


@dataclass(frozen=True)
class Utf8:
    r"""UTF-8 encoding of a text, 8 bits per letter of English.

    Example:
        >>> Utf8().encode("naïve", Utf8().qualities[0])
        b'na\xc3\xafve'
    """

    @property
    def name(self) -> str:
        """Canonical name, always "utf8"."""
        return "utf8"

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """The only operating point, which is lossless."""
        return (_ONLY,)

    def encode(self, x: str, quality: Quality) -> bytes:
        """Encode a text as its UTF-8 bytes."""
        _check(self, quality)
        return x.encode("utf-8")

    def decode(self, payload: bytes, shape: TextShape) -> str:
        """Decode UTF-8 bytes to a text.

        Args:
            payload: Any bytes.
            shape: Shape of a text, which is empty.

        Returns:
            The text.

        Raises:
            CorruptPayload: The bytes are not UTF-8.
        """
        return _text(self, payload)

    def fit(self, x: str, max_bits: int) -> Fitted[str]:
        """Return the payload of a text if it is within the number of bits, else raise `BudgetTooSmall`."""
        return _fit(self, x, max_bits)


@dataclass(frozen=True)
class Zlib:
    """Raw DEFLATE (RFC 1951) of the UTF-8 bytes at level 9, about 3 to 5 bits per letter of English.

    Header and checksum of the zlib format are left out, since the link has its own checksum. A text that
    DEFLATE makes longer is sent uncompressed after one marker byte.

    Example:
        >>> codec = Zlib()
        >>> len(codec.encode("again and again and again", codec.qualities[0])) < 20
        True
    """

    @property
    def name(self) -> str:
        """Canonical name, always "zlib"."""
        return "zlib"

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """The only operating point, which is lossless."""
        return (_ONLY,)

    def encode(self, x: str, quality: Quality) -> bytes:
        """Compress the UTF-8 bytes of a text, or send them uncompressed if that is shorter."""
        _check(self, quality)
        data = x.encode("utf-8")
        deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
        return min(deflate.compress(data) + deflate.flush(), _STORED + data, key=len)

    def decode(self, payload: bytes, shape: TextShape) -> str:
        """Decode a payload to a text.

        Args:
            payload: Any bytes.
            shape: Shape of a text, which is empty.

        Returns:
            The text.

        Raises:
            CorruptPayload: The bytes are not DEFLATE or UTF-8, are truncated, have data after the end, or
                expand to more than 64 MiB.
        """
        if payload.startswith(_STORED):
            return _text(self, payload[1:])
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            data = inflate.decompress(payload, MAX_BYTES)
        except zlib.error as error:
            raise CorruptPayload(f"zlib payload of {len(payload)} bytes is no DEFLATE ({error})") from None
        if not inflate.eof or inflate.unused_data:
            fault = "goes on behind its end" if inflate.eof else "is cut off, or a text of more than 64 MiB"
            raise CorruptPayload(f"zlib payload of {len(payload)} bytes {fault}")
        return _text(self, data)

    def fit(self, x: str, max_bits: int) -> Fitted[str]:
        """Return the payload of a text if it is within the number of bits, else raise `BudgetTooSmall`."""
        return _fit(self, x, max_bits)


def _check(codec: SourceCodec[str], quality: Quality) -> None:
    if quality != _ONLY:
        raise InvalidOption(f"{quality} of {codec.name}: its only quality is {_ONLY}")


def _text(codec: SourceCodec[str], data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorruptPayload(
            f"{codec.name} payload is not UTF-8 at byte {error.start} of {len(data)} ({error.reason})"
        ) from None


def _fit(codec: SourceCodec[str], x: str, max_bits: int) -> Fitted[str]:
    payload = codec.encode(x, _ONLY)
    if 8 * len(payload) > max_bits:
        raise too_small(codec.name, 8 * len(payload), f"a text of {len(x.split())} words", max_bits)
    return Fitted(payload, _ONLY, codec.decode(payload, TextShape()))
