"""Receivers: reconstruction of an item from an observation."""

from semcom.receivers.direct import Direct

__all__ = ["Direct"]
