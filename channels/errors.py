"""The exception of this package for values that a user can correct."""


class ChannelError(ValueError):
    """A value that a channel, code or link does not support; the message names limit and cure."""
