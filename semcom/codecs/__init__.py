"""Source codecs: image to counted bytes and back.

The names below are loaded when they are first used, so that the network of the learned codec needs no
picture library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semcom.codecs.codec import Fitted, Memo, Quality, SourceCodec, fit
    from semcom.codecs.hevc import HevcIntra
    from semcom.codecs.listed import CODECS, FORMATS
    from semcom.codecs.pillow import Avif, Jpeg, Jpeg2000, WebP
    from semcom.codecs.still import FileCodec, StillFormat, StreamCodec

_HOMES = {
    "CODECS": "semcom.codecs.listed",
    "FORMATS": "semcom.codecs.listed",
    "Avif": "semcom.codecs.pillow",
    "FileCodec": "semcom.codecs.still",
    "Fitted": "semcom.codecs.codec",
    "HevcIntra": "semcom.codecs.hevc",
    "Jpeg": "semcom.codecs.pillow",
    "Jpeg2000": "semcom.codecs.pillow",
    "Memo": "semcom.codecs.codec",
    "Quality": "semcom.codecs.codec",
    "SourceCodec": "semcom.codecs.codec",
    "StillFormat": "semcom.codecs.still",
    "StreamCodec": "semcom.codecs.still",
    "WebP": "semcom.codecs.pillow",
    "fit": "semcom.codecs.codec",
}

__all__ = [
    "CODECS",
    "FORMATS",
    "Avif",
    "FileCodec",
    "Fitted",
    "HevcIntra",
    "Jpeg",
    "Jpeg2000",
    "Memo",
    "Quality",
    "SourceCodec",
    "StillFormat",
    "StreamCodec",
    "WebP",
    "fit",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
