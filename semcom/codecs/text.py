"""Lossless source codecs of texts."""

import heapq
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.util import find_spec
from typing import Any

from semcom.codecs.codec import Fitted, Quality, SourceCodec, too_small
from semcom.errors import CorruptPayload, InvalidOption, MissingPackage
from semcom.modalities.text import MAX_BYTES, TEXT, TextShape

TABLES = resources.files("semcom") / "tables"
COUNTS = "english_bytes.json"
"""Counts of bytes in English prose in the public domain, made by scripts/make_text_tables.py."""
DICTIONARY = "english.zdict"
"""Zstandard dictionary of English prose in the public domain, made by scripts/make_text_tables.py."""

_ONLY = Quality(1, 0)
_END = 256  # symbol of Huffman behind the last byte
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
        _check(self, x, quality)
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
        _check(self, x, quality)
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


@dataclass(frozen=True)
class Brotli:
    """Brotli (RFC 7932) of the UTF-8 bytes at quality 11, with its built-in dictionary of common words.

    Raises:
        MissingPackage: The package brotli is not installed.
    """

    def __post_init__(self) -> None:
        _require("brotli", "brotli")

    @property
    def name(self) -> str:
        """Canonical name, always "brotli"."""
        return "brotli"

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """The only operating point, which is lossless."""
        return (_ONLY,)

    def encode(self, x: str, quality: Quality) -> bytes:
        """Compress the UTF-8 bytes of a text."""
        import brotli

        _check(self, x, quality)
        return brotli.compress(x.encode("utf-8"), mode=brotli.MODE_TEXT, quality=11)

    def decode(self, payload: bytes, shape: TextShape) -> str:
        """Decode a payload to a text.

        Args:
            payload: Any bytes.
            shape: Shape of a text, which is empty.

        Returns:
            The text.

        Raises:
            CorruptPayload: The bytes are not Brotli or UTF-8, are truncated, have data after the end, or
                expand to more than 64 MiB.
        """
        import brotli

        decoder = brotli.Decompressor()
        try:
            data = decoder.process(payload, output_buffer_limit=MAX_BYTES)
        except brotli.error as error:
            raise CorruptPayload(f"brotli payload of {len(payload)} bytes: {error}") from None
        if not decoder.is_finished():
            raise CorruptPayload(
                f"brotli payload of {len(payload)} bytes is cut off, or a text of more than 64 MiB"
            )
        return _text(self, data)

    def fit(self, x: str, max_bits: int) -> Fitted[str]:
        """Return the payload of a text if it is within the number of bits, else raise `BudgetTooSmall`."""
        return _fit(self, x, max_bits)


@dataclass(frozen=True)
class Zstd:
    """Zstandard (RFC 8878) of the UTF-8 bytes at level 19, with a dictionary of English prose.

    Transmitter and receiver know the dictionary of 110 kB, which was trained on books in the public domain.
    Magic number, content size and checksum are left out, since the link has its own checksum.

    Raises:
        MissingPackage: The package zstandard is not installed.
    """

    def __post_init__(self) -> None:
        _require("zstandard", "zstandard")

    @property
    def name(self) -> str:
        """Canonical name, always "zstd"."""
        return "zstd"

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """The only operating point, which is lossless."""
        return (_ONLY,)

    def encode(self, x: str, quality: Quality) -> bytes:
        """Compress the UTF-8 bytes of a text."""
        import zstandard

        _check(self, x, quality)
        encoder = zstandard.ZstdCompressor(dict_data=_dictionary(), compression_params=_zstd_parameters())
        return encoder.compress(x.encode("utf-8"))

    def decode(self, payload: bytes, shape: TextShape) -> str:
        """Decode a payload to a text.

        Args:
            payload: Any bytes.
            shape: Shape of a text, which is empty.

        Returns:
            The text.

        Raises:
            CorruptPayload: The bytes are not Zstandard or UTF-8, are truncated, have data after the end, or
                expand to more than 64 MiB.
        """
        import zstandard

        decoder = zstandard.ZstdDecompressor(
            dict_data=_dictionary(), format=zstandard.FORMAT_ZSTD1_MAGICLESS, max_window_size=1 << 27
        ).decompressobj()
        try:
            data = decoder.decompress(payload)
        except zstandard.ZstdError as error:
            raise CorruptPayload(f"zstd payload of {len(payload)} bytes: {error}") from None
        if not decoder.eof or decoder.unused_data or len(data) > MAX_BYTES:
            raise CorruptPayload(
                f"zstd payload of {len(payload)} bytes is cut off, goes on behind its end, or is a text of "
                "more than 64 MiB"
            )
        return _text(self, data)

    def fit(self, x: str, max_bits: int) -> Fitted[str]:
        """Return the payload of a text if it is within the number of bits, else raise `BudgetTooSmall`."""
        return _fit(self, x, max_bits)


@dataclass(frozen=True)
class Huffman:
    """Huffman code of single bytes with a fixed table of English prose, about 4.5 bits per letter.

    The table is known to both sides. Every byte has a code word; one more marks the end of the text.

    Reference:
        Huffman, "A method for the construction of minimum-redundancy codes", Proc. IRE 1952.

    Example:
        >>> codec = Huffman()
        >>> len(codec.encode("the end of the road", codec.qualities[0]))
        11
    """

    @property
    def name(self) -> str:
        """Canonical name, always "huffman"."""
        return "huffman"

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """The only operating point, which is lossless."""
        return (_ONLY,)

    def encode(self, x: str, quality: Quality) -> bytes:
        """Encode the UTF-8 bytes of a text one by one, zeros behind the end mark."""
        _check(self, x, quality)
        words = _code_words()
        bits = "".join(words[symbol] for symbol in (*x.encode("utf-8"), _END))
        size = -(-len(bits) // 8)
        return int(bits.ljust(8 * size, "0"), 2).to_bytes(size, "big")

    def decode(self, payload: bytes, shape: TextShape) -> str:
        """Decode a payload to a text.

        Args:
            payload: Any bytes.
            shape: Shape of a text, which is empty.

        Returns:
            The text.

        Raises:
            CorruptPayload: The end mark is missing or followed by more than zeros, or the text is not UTF-8.
        """
        symbols = _symbols_by_word()
        found, word = bytearray(), ""
        bits = "".join(f"{byte:08b}" for byte in payload)
        for place, bit in enumerate(bits):
            word += bit
            symbol = symbols.get(word)
            if symbol == _END:
                if len(bits) - place > 8 or "1" in bits[place + 1 :]:
                    raise CorruptPayload(f"huffman payload of {len(payload)} bytes goes on behind its end")
                return _text(self, bytes(found))
            if symbol is not None:
                found.append(symbol)
                word = ""
        raise CorruptPayload(f"huffman payload of {len(payload)} bytes has no end mark")

    def fit(self, x: str, max_bits: int) -> Fitted[str]:
        """Return the payload of a text if it is within the number of bits, else raise `BudgetTooSmall`."""
        return _fit(self, x, max_bits)


def code_lengths(counts: Sequence[int]) -> tuple[int, ...]:
    """Lengths of the code words of a Huffman code.

    Args:
        counts: How often each symbol occurs, at least 1 each; at least two symbols.

    Returns:
        Length in bits of each code word; the mean length is within 1 bit of the entropy.

    Example:
        >>> code_lengths([5, 1, 1, 2])
        (1, 3, 3, 2)
    """
    heap: list[tuple[int, tuple[int, ...]]] = [(count, (symbol,)) for symbol, count in enumerate(counts)]
    heapq.heapify(heap)
    lengths = [0] * len(counts)
    while len(heap) > 1:
        (first, some), (second, others) = heapq.heappop(heap), heapq.heappop(heap)
        for symbol in (*some, *others):
            lengths[symbol] += 1
        heapq.heappush(heap, (first + second, (*some, *others)))
    return tuple(lengths)


@cache
def _code_words() -> tuple[str, ...]:
    """Canonical code words of 256 bytes and the end mark, as strings of bits."""
    lengths = code_lengths(json.loads((TABLES / COUNTS).read_text())["counts"])
    words, code, last = [""] * len(lengths), 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths)):
        code <<= length - last
        words[symbol], code, last = f"{code:0{length}b}", code + 1, length
    return tuple(words)


@cache
def _symbols_by_word() -> dict[str, int]:
    return {word: symbol for symbol, word in enumerate(_code_words())}


@cache
def _dictionary() -> Any:
    import zstandard

    found = zstandard.ZstdCompressionDict((TABLES / DICTIONARY).read_bytes())
    found.precompute_compress(compression_params=_zstd_parameters())  # else again for every text: 8 ms
    return found


@cache
def _zstd_parameters() -> Any:
    import zstandard

    return zstandard.ZstdCompressionParameters.from_level(
        19,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=False,
        write_checksum=False,
        write_dict_id=False,
    )


def _require(module: str, package: str) -> None:
    if find_spec(module) is None:
        raise MissingPackage(f"{package}: the package is not installed; pip install 'semcom[text]'")


def _check(codec: SourceCodec[str], x: str, quality: Quality) -> None:
    TEXT.check(x)
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
