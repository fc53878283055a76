"""The protocol of a modality (image, video, text), and items of one."""

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

from semcom.errors import InvalidOption, InvalidSource

X = TypeVar("X")
Shape: TypeAlias = Hashable
"""What every receiver is told about an item for free: defined by the modality."""


@runtime_checkable
class Modality(Protocol[X]):
    """What the rest of the program has to know about one kind of content, of Python type X.

    Only a modality looks inside a content: schemes, engines and stores hand it on. One of your own is an
    object that is passed by argument; nothing has to be registered.
    """

    @property
    def name(self) -> str:
        """Canonical spelling ("image"); a column of every record."""
        ...

    @property
    def suffixes(self) -> frozenset[str]:
        """File endings that `read` understands, in lower case and with the dot (".png")."""
        ...

    @property
    def saved_suffix(self) -> str:
        """The lossless file ending of results that are kept; it is one of `writable`."""
        ...

    @property
    def writable(self) -> frozenset[str]:
        """File endings that `write` understands, in lower case and with the dot."""
        ...

    def read(self, path: Path) -> "Item[X]":
        """Read one file.

        Args:
            path: The file; its ending may be any, the content decides.

        Returns:
            The item, named by file stem and digest.

        Raises:
            InvalidSource: The file is missing, damaged, too large or of another kind; one line that names it.
        """
        ...

    def write(self, x: X, path: Path) -> None:
        """Write a whole file or nothing; an existing one is replaced.

        Args:
            x: Content that passes `check`.
            path: The file, with an ending in `writable`.

        Raises:
            InvalidOption: The ending is not in `writable`.
            OSError: The folder is missing or not writable, or the disk is full.
        """
        ...

    def check(self, x: X) -> X:
        """Accept or refuse a content.

        Args:
            x: Anything.

        Returns:
            x in the form in which it is sent.

        Raises:
            InvalidSource: x is no content of this modality, or one out of range or too large.
        """
        ...

    def dims(self, x: X) -> int:
        """Source dimensions n of the bandwidth ratio rho = k / n.

        Args:
            x: Content that passes `check`.

        Returns:
            n, at least 1.

        Raises:
            InvalidSource: x has no dimension, as a text without a word.
        """
        ...

    def shape(self, x: X) -> Shape:
        """What every receiver is told about x for free.

        Args:
            x: Content that passes `check`.

        Returns:
            A hashable value, equal for contents of one shape.
        """
        ...

    def cover(self, shape: Any) -> X:
        """What is shown in an outage, made from the shape alone.

        Args:
            shape: As `shape` returns it.

        Returns:
            A content of that shape.
        """
        ...

    def digest(self, x: X) -> str:
        """Name a content by its value.

        Args:
            x: Content that passes `check`.

        Returns:
            8 hexadecimal digits; equal contents have equal digests on every machine.
        """
        ...


@runtime_checkable
class Recognises(Protocol):
    """A modality that tells by content whether a file is its own, where several read one ending.

    A GIF with one frame is an image, one with several frames a clip.
    """

    def recognises(self, path: Path) -> bool:
        """Look into a file.

        Args:
            path: An existing file of any ending.

        Returns:
            True if its content is of this modality.
        """
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Item(Generic[X]):
    """One content and its name.

    Args:
        id: File stem, a hyphen, and 8 hexadecimal digits of the content.
        x: The content, as `modality` defines it; an image is RGB [1, 3, height, width] in [0, 1].
        modality: What x is.
    """

    id: str
    x: X
    modality: Modality[X]


def named(stem: str, x: X, modality: Modality[X]) -> Item[X]:
    """Check a content and name it.

    Args:
        stem: First part of the id.
        x: The content.
        modality: What x is.

    Returns:
        The item with id "stem-digest".

    Raises:
        InvalidSource: x does not pass `modality.check`.
    """
    x = modality.check(x)
    return Item(f"{stem}-{modality.digest(x)}", x, modality)


def existing_file(path: Path | str, content: str) -> Path:
    """Refuse a path that is no file, or whose name no result store could hold.

    Args:
        path: Of the file.
        content: What is to be in it, for the message ("picture").

    Returns:
        The path.

    Raises:
        InvalidSource: A folder, nothing at all, or a name that is not UTF-8.
    """
    path = Path(path)
    if path.is_dir():
        raise InvalidSource(f"{path}: a folder; name a {content} in it")
    if not path.is_file():
        raise InvalidSource(f"{path}: no such file")
    if any("\ud800" <= letter <= "\udfff" for letter in path.name):
        raise InvalidSource(f"{str(path)!a}: a name that is not UTF-8; rename it")
    return path


def check_writable(path: Path, modality: Modality[Any]) -> None:
    """Refuse a file ending that a modality does not write.

    Args:
        path: Of the file to be written.
        modality: Which is to write it.

    Raises:
        InvalidOption: Its ending is not in `modality.writable`.
    """
    if path.suffix.lower() not in modality.writable:
        endings = ", ".join(sorted(modality.writable))
        raise InvalidOption(f"{path}: {modality.name} files are written as {endings}; name it so")
