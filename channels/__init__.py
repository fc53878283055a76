"""Bits and symbols over noisy channels: media, constellations, codes, links and their theory."""

from channels.awgn import AWGN
from channels.channel import Channel, Received, SnrDb, transmit
from channels.fading import JakesFading, RayleighBlockFading, RicianBlockFading
from channels.streams import NamedStreams, SharedStreams, Streams

__all__ = [
    "AWGN",
    "Channel",
    "JakesFading",
    "NamedStreams",
    "RayleighBlockFading",
    "Received",
    "RicianBlockFading",
    "SharedStreams",
    "SnrDb",
    "Streams",
    "transmit",
]
