"""Files that are written as a whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

_KEPT = 50  # letters of the name that a part keeps: with 4 bytes each, it still fits into the 255 of a name


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file as a whole or not at all.

    Every call has a part of its own, so that several processes may write one file: the last one stays.

    Args:
        path: File to write; its folder exists.

    Yields:
        A path beside it to be written; it becomes `path` at the end, and is removed after an error.

    Raises:
        OSError: The file cannot be written; the error names `path`.
    """
    part = path.with_name(f"{path.name[:_KEPT]}.{token_hex(4)}.part")
    try:
        yield part
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and str(error.filename) == str(part):
            error.filename = str(path)
        raise


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a content to a file as a whole or not at all.

    Args:
        path: File to write; its folder exists.
        content: Bytes, or a text that is written in UTF-8.

    Raises:
        OSError: The file cannot be written; the error names `path`.
    """
    with replacing(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
