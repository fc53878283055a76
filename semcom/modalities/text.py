"""Text modality: Python strings that reproduce the UTF-8 bytes of a file exactly."""

import codecs
import hashlib
from dataclasses import dataclass
from pathlib import Path

from semcom.errors import InvalidSource
from semcom.files import write_whole
from semcom.modalities.modality import Item, check_writable, existing_file, named

MAX_BYTES = 1 << 26  # about 10 million words

_FOREIGN_MARKS = (  # UTF-32 first, since its little-endian mark begins with the mark of UTF-16
    (codecs.BOM_UTF32_LE, "UTF-32 (little-endian)"),
    (codecs.BOM_UTF32_BE, "UTF-32 (big-endian)"),
    (codecs.BOM_UTF16_LE, "UTF-16 (little-endian)"),
    (codecs.BOM_UTF16_BE, "UTF-16 (big-endian)"),
)


@dataclass(frozen=True)
class TextShape:
    """Empty shape of a text: the receiver knows nothing in advance, and the length must be transmitted."""


@dataclass(frozen=True)
class TextModality:
    """Texts as Python strings.

    The bytes of a file are reproduced exactly: line endings are not translated, a byte order mark stays as
    U+FEFF, and composed and decomposed letters remain distinct. Source dimensions n of the bandwidth ratio
    rho = k / n are the number of words, separated by white space. In an outage the empty text is shown.
    """

    @property
    def name(self) -> str:
        """Canonical name of the modality: "text"."""
        return "text"

    @property
    def suffixes(self) -> frozenset[str]:
        """File extensions of plain text."""
        return frozenset({".txt", ".text", ".md"})

    @property
    def saved_suffix(self) -> str:
        """Extension of kept results: plain text in UTF-8."""
        return ".txt"

    @property
    def writable(self) -> frozenset[str]:
        """File extensions of plain text."""
        return self.suffixes

    def read(self, path: Path | str) -> Item[str]:
        """Read a UTF-8 text.

        Args:
            path: The file, at most 64 MiB.

        Returns:
            The item; encoding its text in UTF-8 gives the bytes of the file.

        Raises:
            InvalidSource: The file is missing, too large, in another encoding, or contains no word.
        """
        path = existing_file(path, "text")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InvalidSource(f"{path}: {size} bytes, at most {MAX_BYTES} are read; split it")
        data = path.read_bytes()
        for mark, encoding in _FOREIGN_MARKS:
            if data.startswith(mark):
                raise InvalidSource(f"{path}: text in {encoding}; save it as UTF-8")
        if data.count(0) * 4 > len(data):  # ASCII text in UTF-16 is valid UTF-8 with every second byte zero
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
        """Write a text as UTF-8, without any translation.

        Args:
            x: The text.
            path: The file, with an extension in `writable`.

        Raises:
            InvalidOption: The extension is not in `writable`.
            OSError: The folder is missing or not writable, or the disk is full.
        """
        check_writable(path, self)
        write_whole(path, self.check(x))

    def check(self, x: str) -> str:
        """Check that an object is a string that UTF-8 can encode.

        Args:
            x: Text of at most 64 MiB in UTF-8; it may be empty.

        Returns:
            x unchanged.

        Raises:
            InvalidSource: x is not a string, contains a lone surrogate, or is too long.
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
        """Source dimensions of a text: the number of its words, separated by white space.

        Args:
            x: The text.

        Returns:
            n of rho = k / n, at least 1.

        Raises:
            InvalidSource: The text contains no word, so a bandwidth ratio would allow no channel use.
        """
        words = len(x.split())
        if not words:
            raise InvalidSource("text without a word: channel uses are counted per word; send at least one")
        return words

    def shape(self, x: str) -> TextShape:
        """Shape of a text, which is empty and equal for all texts.

        Args:
            x: The text.

        Returns:
            The empty shape.
        """
        return TextShape()

    def cover(self, shape: TextShape) -> str:
        """Text shown in an outage: the empty string.

        Args:
            shape: The empty shape.

        Returns:
            "".
        """
        return ""

    def digest(self, x: str) -> str:
        """Digest of a text, computed from its UTF-8 bytes.

        Args:
            x: The text.

        Returns:
            8 hexadecimal digits.
        """
        return hashlib.blake2b(x.encode("utf-8"), digest_size=4).hexdigest()


TEXT = TextModality()
"""The text modality."""
