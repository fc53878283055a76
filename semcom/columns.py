"""Unit and direction of metric columns, as used by figures, tables and exports."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """Column of a metric in the records.

    Args:
        name: Column name, such as "psnr_db".
        unit: Unit of the values, such as "dB"; empty if dimensionless.
        higher_is_better: True for similarities, False for distances, None if unknown.

    Example:
        >>> Column("psnr_db", "dB", True)
        Column(name='psnr_db', unit='dB', higher_is_better=True)
    """

    name: str
    unit: str = ""
    higher_is_better: bool | None = None


DECISIONS: Mapping[str, str] = {
    "retrieved": "recalled",
    "generated": "not in memory",
    "retransmit": "undecided",
    "index_sent": "index alone",
    "innovation_sent": "innovation",
    "familiar": "cache hits",
    "false_hit": "false hits",
}
"""Headings of columns of a record that hold a decision of transmitter or receiver, by column name: 1 or
0, or the share of the frames of a clip or of the sentences of a text."""

Columns = Mapping[str, Column]
"""Columns of metrics, by column name."""
