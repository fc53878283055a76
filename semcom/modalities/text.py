"""Texts."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TextShape:
    """Shape of a text, which is empty: how long a text is, is information that its transmission sends."""
