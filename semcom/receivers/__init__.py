"""Receivers: from an observation to an image."""

from semcom.receivers.direct import Direct

__all__ = ["Direct"]
