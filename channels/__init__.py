"""Bits and symbols over noisy channels: media, constellations, codes, links and their theory."""

from channels.awgn import AWGN
from channels.channel import Channel, Received, SnrDb, transmit
from channels.constellation import Constellation
from channels.csi import GenieCSI, NoCSI, PilotAided
from channels.equalize import mmse, zero_forcing
from channels.erasure import GilbertElliott, IndependentErasure, PacketChannel
from channels.errors import ChannelError
from channels.fading import FlatChannel, JakesFading, RayleighBlockFading, RicianBlockFading
from channels.impairments import CarrierOffset, ClippedAmplifier, Impaired, PhaseNoise
from channels.interleave import Interleaved
from channels.link import DigitalLink, IdealLink
from channels.mcs import MCS_TABLE, Mcs, choose_mcs, predicted_failure
from channels.ofdm import OFDM, Pilots
from channels.streams import NamedStreams, SharedStreams, Streams
from channels.tdl import TDL
from channels.waveform import Numerology, Stage

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
    "IndependentErasure",
    "Interleaved",
    "JakesFading",
    "Mcs",
    "NamedStreams",
    "NoCSI",
    "Numerology",
    "PacketChannel",
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
    "mmse",
    "predicted_failure",
    "transmit",
    "zero_forcing",
]
