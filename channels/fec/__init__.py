"""Channel codes of 5G NR (TS 38.212)."""

from channels.fec.code import ChannelCode, Decoded
from channels.fec.ldpc import NRLDPC
from channels.fec.small_block import SmallBlock
from channels.fec.transport import DecodedTransportBlock, TransportBlock

__all__ = ["NRLDPC", "ChannelCode", "Decoded", "DecodedTransportBlock", "SmallBlock", "TransportBlock"]
