"""What figures, tables and exports say of the column of a metric: its unit, and which way is better."""

from collections.abc import Mapping
from dataclasses import dataclass

from semcom.errors import InvalidOption


@dataclass(frozen=True, slots=True)
class Column:
    """The column that a metric fills in the records.

    Args:
        name: Name of the column, such as "psnr_db".
        unit: Unit of its values, such as "dB"; empty for a number without one.
        higher_is_better: True for similarities, False for distances, None where the direction is unknown.

    Raises:
        InvalidOption: A name or unit that is no text, or a direction that is neither True, False nor None.

    Example:
        >>> Column("psnr_db", "dB", True)
        Column(name='psnr_db', unit='dB', higher_is_better=True)
    """

    name: str
    unit: str = ""
    higher_is_better: bool | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and isinstance(self.unit, str)):
            raise InvalidOption(
                f"metric {self.name!r} of unit {self.unit!r}: both are texts, such as 'psnr_db' and 'dB'"
            )
        if self.higher_is_better not in (True, False, None):
            raise InvalidOption(
                f"metric {self.name}: higher_is_better is {self.higher_is_better!r}; make it True or False"
            )


Columns = Mapping[str, Column]
"""Columns of metrics by name."""
