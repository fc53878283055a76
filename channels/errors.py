"""The one error of this package that a user can cause."""


class ChannelError(ValueError):
    """A value outside what a channel, code or link can do; the message names value, limit and cure."""
