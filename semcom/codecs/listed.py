"""List of all source codecs with default parameters."""

from semcom.codecs.codec import SourceCodec
from semcom.codecs.hevc import HevcIntra
from semcom.codecs.pillow import Avif, Jpeg, Jpeg2000, WebP
from semcom.codecs.still import FileCodec, StillFormat, StreamCodec

FORMATS: tuple[StillFormat, ...] = (Jpeg(), Jpeg2000(), WebP(), Avif(), HevcIntra())
"""All still-image formats with default parameters."""

CODECS: tuple[SourceCodec, ...] = (*map(StreamCodec, FORMATS), *map(FileCodec, FORMATS))
"""All formats, as elementary stream ("avif") and as whole file ("avif-file")."""
