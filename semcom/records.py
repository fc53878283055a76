"""Rows of a measurement in a file of JSON lines, to which they are added one by one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semcom.errors import StoreError
from semcom.files import write_whole


@dataclass(frozen=True, eq=False)
class Records:
    """Rows of a measurement, kept in a file with one line of JSON each, so that a killed one goes on.

    Args:
        path: The file; it need not exist.
        key: Columns that identify a row; of two rows with equal ones the later replaces the earlier.
    """

    path: Path
    key: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """Read all rows; a last line that was cut off by a kill is left out.

        Returns:
            The rows in the order in which they were added.

        Raises:
            StoreError: Another line is damaged.
        """
        if not self.path.is_file():
            return []
        lines = self.path.read_text().splitlines()
        found = []
        for number, line in enumerate(lines):
            try:
                found.append(json.loads(line))
            except ValueError:
                if number < len(lines) - 1:
                    raise StoreError(f"{self.path}: line {number + 1} is damaged; remove it") from None
        return found

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row, or replace that of the same key; the file is written whole or not at all.

        Args:
            row: Names, numbers and lists of numbers by column, those of `key` among them.

        Raises:
            KeyError: A column of `key` is missing.
        """
        rows = {self.key_of(known): known for known in self.rows()} | {self.key_of(row): dict(row)}
        write_whole(self.path, "".join(f"{json.dumps(r)}\n" for r in rows.values()))

    def key_of(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """Values of the columns that identify a row.

        Args:
            row: The row.

        Returns:
            One value per column of `key`.
        """
        return tuple(row[column] for column in self.key)


def same_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Keep the settings of a measurement beside its rows, so that no row is measured with other ones.

    Args:
        path: JSON file with the settings; it is written if it does not exist.
        settings: Settings of this run by name: texts, numbers and truth values.

    Raises:
        StoreError: The file has other settings, or is damaged.
    """
    if not path.is_file():
        write_whole(path, json.dumps(dict(settings), indent=2) + "\n")
        return
    try:
        known = dict(json.loads(path.read_text()))
    except ValueError:
        raise StoreError(f"{path}: damaged; remove it to go on with the rows beside it") from None
    for name in sorted(known.keys() | settings.keys()):
        if known.get(name) != settings.get(name):
            raise StoreError(
                f"{path.parent}: measured with {name} = {known.get(name)!r}, now {settings.get(name)!r}; "
                "choose another folder with --out"
            )
