"""Texts: Python strings that stand for the UTF-8 bytes of a file, exactly."""

import codecs
import hashlib
from dataclasses import dataclass
from pathlib import Path

from semcom.errors import InvalidSource
from semcom.files import write_whole
from semcom.modalities.modality import Item, check_writable, existing_file, named

MAX_BYTES = 1 << 26  # some 10 million words, more than any language model is asked to send

_FOREIGN_MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "UTF-32 (little-endian)"),
    (codecs.BOM_UTF32_BE, "UTF-32 (big-endian)"),
    (codecs.BOM_UTF16_LE, "UTF-16 (little-endian)"),
    (codecs.BOM_UTF16_BE, "UTF-16 (big-endian)"),
)


@dataclass(frozen=True)
class TextShape:
    """What every receiver is told about a text: nothing. How long it is, is information, and is sent."""


@dataclass(frozen=True)
class TextModality:
    """Texts as strings.

    The bytes of a file come back exactly: line ends are not translated, a byte order mark stays as U+FEFF,
    composed and decomposed letters stay as they are. n of rho = k / n is the number of words, as white space
    separates them. An outage shows the empty text.
    """

    @property
    def name(self) -> str:
        """Canonical spelling."""
        return "text"

    @property
    def suffixes(self) -> frozenset[str]:
        """Endings of plain text."""
        return frozenset({".txt", ".text", ".md"})

    @property
    def saved_suffix(self) -> str:
        """Plain text in UTF-8."""
        return ".txt"

    @property
    def writable(self) -> frozenset[str]:
        """Endings of plain text."""
        return self.suffixes

    def read(self, path: Path | str) -> Item[str]:
        """Read a text in UTF-8.

        Args:
            path: The file, at most 64 MiB.

        Returns:
            The item; encoding its text in UTF-8 gives the bytes of the file.

        Raises:
            InvalidSource: The file is missing, too large, in another encoding, or has no word in it.
        """
        path = existing_file(path, "text")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InvalidSource(f"{path}: {size} bytes, at most {MAX_BYTES} are read; split it")
        data = path.read_bytes()
        for mark, encoding in _FOREIGN_MARKS:
            if data.startswith(mark):
                raise InvalidSource(f"{path}: text in {encoding}; save it as UTF-8")
        if data.count(0) * 4 > len(data):  # ASCII in UTF-16 is valid UTF-8, every second byte a zero
            raise InvalidSource(
                f"{path}: {data.count(0)} of {len(data)} bytes are zero: UTF-16 without mark, or no text; "
                "save it as UTF-8"
            )
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidSource(
                f"{path}: byte {data[error.start]:#04x} at {error.start} is not UTF-8 text ({error.reason}); "
                "save it as UTF-8"
            ) from None
        try:
            self.dims(text)
            return named(path.stem, text, self)
        except InvalidSource as error:
            raise InvalidSource(f"{path}: {error}") from None

    def write(self, x: str, path: Path) -> None:
        """Write the UTF-8 bytes of a text and nothing else.

        Args:
            x: The text.
            path: The file, with an ending in `writable`.

        Raises:
            InvalidOption: The ending is not in `writable`.
            OSError: The folder is missing or not writable, or the disk is full.
        """
        check_writable(path, self)
        write_whole(path, self.check(x))

    def check(self, x: str) -> str:
        """Accept a string that UTF-8 can encode.

        Args:
            x: A text of at most 64 MiB in UTF-8; it may be empty.

        Returns:
            x itself.

        Raises:
            InvalidSource: Not a string, a lone surrogate in it, or too long.
        """
        if not isinstance(x, str):
            raise InvalidSource(f"text of type {type(x).__name__}: expected a string; decode it")
        try:
            size = len(x.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise InvalidSource(
                f"text with a lone surrogate, U+{ord(x[error.start]):04X} at {error.start}; remove it"
            ) from None
        if size > MAX_BYTES:
            raise InvalidSource(f"text of {size} bytes: at most {MAX_BYTES} are sent; split it")
        return x

    def dims(self, x: str) -> int:
        """Number of words of a text, which white space separates.

        Args:
            x: The text.

        Returns:
            n of rho = k / n, at least 1.

        Raises:
            InvalidSource: No word: no number of channel uses could follow from rho.
        """
        words = len(x.split())
        if not words:
            raise InvalidSource("text without a word: channel uses are counted per word; send at least one")
        return words

    def shape(self, x: str) -> TextShape:
        """The empty shape, of every text."""
        return TextShape()

    def cover(self, shape: TextShape) -> str:
        """The empty text."""
        return ""

    def digest(self, x: str) -> str:
        """8 hexadecimal digits of the UTF-8 bytes of a text."""
        return hashlib.blake2b(x.encode("utf-8"), digest_size=4).hexdigest()


TEXT = TextModality()
"""Texts in UTF-8."""
