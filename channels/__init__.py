"""Bits and symbols over noisy channels: media, constellations, codes, links and their theory.

The names below are loaded when they are first used: training on a bare machine needs AWGN, but neither SciPy
nor Numba.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from channels.awgn import AWGN
    from channels.channel import Channel, Received, SnrDb, transmit
    from channels.constellation import Constellation
    from channels.csi import GenieCSI, NoCSI, PilotAided
    from channels.equalize import mmse, zero_forcing
    from channels.errors import ChannelError
    from channels.fading import FlatChannel, JakesFading, RayleighBlockFading, RicianBlockFading
    from channels.impairments import CarrierOffset, ClippedAmplifier, Impaired, PhaseNoise
    from channels.interleave import Interleaved
    from channels.link import DigitalLink, IdealLink
    from channels.lossy import GilbertElliott, IndependentLoss, Lossy
    from channels.mcs import MCS_TABLE, Mcs, choose_mcs, mcs_by_preference, predicted_failure
    from channels.ofdm import OFDM, Pilots
    from channels.packets import PacketLink
    from channels.streams import NamedStreams, SharedStreams, Streams
    from channels.tdl import TDL
    from channels.waveform import Numerology, Stage

_HOMES = {
    "AWGN": "channels.awgn",
    "MCS_TABLE": "channels.mcs",
    "OFDM": "channels.ofdm",
    "TDL": "channels.tdl",
    "CarrierOffset": "channels.impairments",
    "Channel": "channels.channel",
    "ChannelError": "channels.errors",
    "ClippedAmplifier": "channels.impairments",
    "Constellation": "channels.constellation",
    "DigitalLink": "channels.link",
    "FlatChannel": "channels.fading",
    "GenieCSI": "channels.csi",
    "GilbertElliott": "channels.lossy",
    "IdealLink": "channels.link",
    "Impaired": "channels.impairments",
    "IndependentLoss": "channels.lossy",
    "Interleaved": "channels.interleave",
    "JakesFading": "channels.fading",
    "Lossy": "channels.lossy",
    "Mcs": "channels.mcs",
    "NamedStreams": "channels.streams",
    "NoCSI": "channels.csi",
    "Numerology": "channels.waveform",
    "PacketLink": "channels.packets",
    "PhaseNoise": "channels.impairments",
    "PilotAided": "channels.csi",
    "Pilots": "channels.ofdm",
    "RayleighBlockFading": "channels.fading",
    "Received": "channels.channel",
    "RicianBlockFading": "channels.fading",
    "SharedStreams": "channels.streams",
    "SnrDb": "channels.channel",
    "Stage": "channels.waveform",
    "Streams": "channels.streams",
    "choose_mcs": "channels.mcs",
    "mcs_by_preference": "channels.mcs",
    "mmse": "channels.equalize",
    "predicted_failure": "channels.mcs",
    "transmit": "channels.channel",
    "zero_forcing": "channels.equalize",
}

__all__ = [
    "AWGN",
    "MCS_TABLE",
    "OFDM",
    "TDL",
    "CarrierOffset",
    "Channel",
    "ChannelError",
    "ClippedAmplifier",
    "Constellation",
    "DigitalLink",
    "FlatChannel",
    "GenieCSI",
    "GilbertElliott",
    "IdealLink",
    "Impaired",
    "IndependentLoss",
    "Interleaved",
    "JakesFading",
    "Lossy",
    "Mcs",
    "NamedStreams",
    "NoCSI",
    "Numerology",
    "PacketLink",
    "PhaseNoise",
    "PilotAided",
    "Pilots",
    "RayleighBlockFading",
    "Received",
    "RicianBlockFading",
    "SharedStreams",
    "SnrDb",
    "Stage",
    "Streams",
    "choose_mcs",
    "mcs_by_preference",
    "mmse",
    "predicted_failure",
    "transmit",
    "zero_forcing",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
