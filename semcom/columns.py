"""What figures, tables and exports say of the column of a metric: its unit, and which way is better."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """The column that a metric fills in the records.

    Args:
        name: Name of the column, such as "psnr_db".
        unit: Unit of its values, such as "dB"; empty for a number without one.
        higher_is_better: True for similarities, False for distances, None where the direction is unknown.

    Example:
        >>> Column("psnr_db", "dB", True)
        Column(name='psnr_db', unit='dB', higher_is_better=True)
    """

    name: str
    unit: str = ""
    higher_is_better: bool | None = None


Columns = Mapping[str, Column]
"""Columns of metrics by name."""
