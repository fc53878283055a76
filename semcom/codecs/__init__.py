"""Source codecs: image to counted bytes and back."""

from semcom.codecs.codec import Fitted, Memo, Quality, SourceCodec, fit
from semcom.codecs.hevc import HevcIntra
from semcom.codecs.pillow import Avif, Jpeg, Jpeg2000, WebP
from semcom.codecs.still import FileCodec, StillFormat, StreamCodec

FORMATS: tuple[StillFormat, ...] = (Jpeg(), Jpeg2000(), WebP(), Avif(), HevcIntra())
"""Every still-image format at its default."""

CODECS: tuple[SourceCodec, ...] = (*map(StreamCodec, FORMATS), *map(FileCodec, FORMATS))
"""Every format as elementary stream ("avif") and as whole file ("avif-file")."""

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
