"""Protocol of a modality (image, video, text), and items of a modality."""

import unicodedata
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

from semcom.errors import InvalidOption, InvalidSource

X = TypeVar("X")
Shape: TypeAlias = Hashable
"""Shape of an item, which every receiver knows without transmission; its type depends on the modality."""


@runtime_checkable
class Modality(Protocol[X]):
    """Everything the simulator needs to know about one type of content X, such as images or clips.

    Only a modality looks inside the content; schemes, engines and stores pass it on. A modality of your own
    is an object that is passed as an argument and needs no registration.
    """

    @property
    def name(self) -> str:
        """Canonical name, such as "image"; every record contains it.

        Returns:
            A name that no other modality has.
        """
        ...

    @property
    def suffixes(self) -> frozenset[str]:
        """File extensions that `read` understands.

        Returns:
            Extensions in lower case with the dot, such as ".png".
        """
        ...

    @property
    def saved_suffix(self) -> str:
        """Extension of the lossless format in which received items are kept.

        Returns:
            One of `writable`.
        """
        ...

    @property
    def writable(self) -> frozenset[str]:
        """File extensions that `write` understands.

        Returns:
            Extensions in lower case with the dot, such as ".png".
        """
        ...

    def read(self, path: Path) -> "Item[X]":
        """Read an item from a file.

        Args:
            path: The file, with any extension; its content decides the format.

        Returns:
            The item, with an id made of the file's stem and the digest of its content.

        Raises:
            InvalidSource: The file is missing, damaged, too large or of another type; one line that names it.
        """
        ...

    def write(self, x: X, path: Path) -> None:
        """Write a content to a file, completely or not at all; an existing file is replaced.

        Args:
            x: Content that passes `check`.
            path: The file, with an extension in `writable`.

        Raises:
            InvalidOption: The extension is not in `writable`.
            OSError: The folder is missing or not writable, or the disk is full.
        """
        ...

    def check(self, x: X) -> X:
        """Check that an object is a valid content of this modality.

        Args:
            x: Any object.

        Returns:
            x in the form in which it is sent, such as float32 for images.

        Raises:
            InvalidSource: x is not a content of this modality, out of range, or too large.
        """
        ...

    def dims(self, x: X) -> int:
        """Source dimensions n of the bandwidth ratio rho = k / n.

        Args:
            x: Content that passes `check`.

        Returns:
            n, at least 1: real values of an image or clip, words of a text.

        Raises:
            InvalidSource: x has no source dimension, such as a text without words.
        """
        ...

    def shape(self, x: X) -> Shape:
        """Shape of a content, which every receiver knows without transmission.

        Args:
            x: Content that passes `check`.

        Returns:
            A hashable value, equal for contents of equal shape.
        """
        ...

    def cover(self, shape: Any) -> X:
        """Content that is shown in an outage; it depends on the shape alone.

        Args:
            shape: Shape as returned by `shape`.

        Returns:
            A content of that shape, such as an image of the mean colour.
        """
        ...

    def digest(self, x: X) -> str:
        """Digest of a content, for the id of an item.

        Args:
            x: Content that passes `check`.

        Returns:
            8 hexadecimal digits; equal contents have equal digests on every machine.
        """
        ...


@runtime_checkable
class Recognises(Protocol):
    """A modality that recognises its own files by content, because other modalities read the same extensions.

    For instance, a GIF file with one frame is an image, and one with several frames is a clip.
    """

    def recognises(self, path: Path) -> bool:
        """Inspect the content of a file.

        Args:
            path: An existing file with any extension.

        Returns:
            True if the file holds a content of this modality; False for any other file, damaged ones
            included.
        """
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Item(Generic[X]):
    """One content to be sent, with its id and modality.

    Args:
        id: File stem, a hyphen, and 8 hexadecimal digits of the content's digest.
        x: The content; for an image RGB [1, 3, height, width] in [0, 1].
        modality: Modality of x.
    """

    id: str
    x: X
    modality: Modality[X]


def named(stem: str, x: X, modality: Modality[X]) -> Item[X]:
    """Check a content and give it the id "stem-digest".

    Args:
        stem: First part of the id.
        x: The content.
        modality: Modality of x.

    Returns:
        The item.

    Raises:
        InvalidSource: x does not pass `modality.check`.
    """
    x = modality.check(x)
    return Item(f"{stem}-{modality.digest(x)}", x, modality)


def possible_path(path: Path | str) -> Path:
    """Check that the system can look for a path, whether or not something is there.

    Args:
        path: The path.

    Returns:
        The path.

    Raises:
        InvalidSource: The path is longer than the system allows, as a text in place of its path may be.
    """
    path = Path(path)
    try:
        path.exists()
    except OSError as error:
        raise InvalidSource(f"{str(path)[:40]!a}...: no path ({error.strerror}); name a file") from None
    return path


def existing_file(path: Path | str, content: str) -> Path:
    """Check that a path is a file whose name a result store can hold.

    Args:
        path: The path.
        content: Expected type of content for the message, such as "picture".

    Returns:
        The path.

    Raises:
        InvalidSource: The path is a folder, too long, or does not exist, or its name is not valid UTF-8 or
            holds a control character, such as a new line.
    """
    path = possible_path(path)
    if path.is_dir():
        raise InvalidSource(f"{path}: a folder; name a {content} in it")
    if not path.is_file():
        raise InvalidSource(f"{path}: no such file")
    if any("\ud800" <= letter <= "\udfff" for letter in path.name):
        raise InvalidSource(f"{str(path)!a}: a name that is not UTF-8; rename it")
    if any(unicodedata.category(letter) == "Cc" for letter in path.name):  # ids are shown in lines and tables
        raise InvalidSource(f"{str(path)!a}: a name with a control character; rename it")
    return path


def check_writable(path: Path, modality: Modality[Any]) -> None:
    """Check that a modality writes files with the extension of a path.

    Args:
        path: File to be written.
        modality: Modality of its content.

    Raises:
        InvalidOption: The extension is not in `modality.writable`.
    """
    if path.suffix.lower() not in modality.writable:
        endings = ", ".join(sorted(modality.writable))
        raise InvalidOption(f"{path}: {modality.name} files are written as {endings}; name it so")
