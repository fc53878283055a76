"""Source codecs: images, clips and texts to counted bytes and back.

The names below are loaded when they are first used, so that the network of the learned codec needs no
picture library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semcom.codecs.av import InterCodec
    from semcom.codecs.clip import FrameByFrame
    from semcom.codecs.codec import FitsItself, Fitted, Memo, Quality, SourceCodec, fit
    from semcom.codecs.hevc import HevcIntra
    from semcom.codecs.listed import CLIP_CODECS, CODECS, FORMATS, INTER_CODECS, TEXT_CODECS
    from semcom.codecs.pillow import Avif, Jpeg, Jpeg2000, WebP
    from semcom.codecs.still import FileCodec, StillFormat, StreamCodec
    from semcom.codecs.text import Utf8, Zlib

_HOMES = {
    "CLIP_CODECS": "semcom.codecs.listed",
    "CODECS": "semcom.codecs.listed",
    "FORMATS": "semcom.codecs.listed",
    "TEXT_CODECS": "semcom.codecs.listed",
    "Avif": "semcom.codecs.pillow",
    "FileCodec": "semcom.codecs.still",
    "FitsItself": "semcom.codecs.codec",
    "Fitted": "semcom.codecs.codec",
    "FrameByFrame": "semcom.codecs.clip",
    "HevcIntra": "semcom.codecs.hevc",
    "INTER_CODECS": "semcom.codecs.listed",
    "InterCodec": "semcom.codecs.av",
    "Jpeg": "semcom.codecs.pillow",
    "Jpeg2000": "semcom.codecs.pillow",
    "Memo": "semcom.codecs.codec",
    "Quality": "semcom.codecs.codec",
    "SourceCodec": "semcom.codecs.codec",
    "StillFormat": "semcom.codecs.still",
    "StreamCodec": "semcom.codecs.still",
    "Utf8": "semcom.codecs.text",
    "WebP": "semcom.codecs.pillow",
    "Zlib": "semcom.codecs.text",
    "fit": "semcom.codecs.codec",
}

__all__ = [
    "CLIP_CODECS",
    "CODECS",
    "FORMATS",
    "INTER_CODECS",
    "TEXT_CODECS",
    "Avif",
    "FileCodec",
    "FitsItself",
    "Fitted",
    "FrameByFrame",
    "HevcIntra",
    "InterCodec",
    "Jpeg",
    "Jpeg2000",
    "Memo",
    "Quality",
    "SourceCodec",
    "StillFormat",
    "StreamCodec",
    "Utf8",
    "WebP",
    "Zlib",
    "fit",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
