"""Names to objects: the only place where a string becomes a channel, codec, scheme, receiver or metric.

Each module holds one grammar. Wherever a name is expected, `package.module:NAME` imports a ready object.
"""

from semcom.names.channels import channel, channels
from semcom.names.codecs import codec
from semcom.names.metrics import default_metrics, metric
from semcom.names.parser import Listed
from semcom.names.receivers import prior, receiver, with_receiver
from semcom.names.schemes import DEFAULT_SCHEMES, plain, refined, scheme, schemes, with_codec

__all__ = [
    "DEFAULT_SCHEMES",
    "Listed",
    "channel",
    "channels",
    "codec",
    "default_metrics",
    "metric",
    "plain",
    "prior",
    "receiver",
    "refined",
    "scheme",
    "schemes",
    "with_codec",
    "with_receiver",
]
