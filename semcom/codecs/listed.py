"""All source codecs at their defaults."""

from semcom.codecs.codec import SourceCodec
from semcom.codecs.hevc import HevcIntra
from semcom.codecs.pillow import Avif, Jpeg, Jpeg2000, WebP
from semcom.codecs.still import FileCodec, StillFormat, StreamCodec

FORMATS: tuple[StillFormat, ...] = (Jpeg(), Jpeg2000(), WebP(), Avif(), HevcIntra())
"""Every still-image format at its default."""

CODECS: tuple[SourceCodec, ...] = (*map(StreamCodec, FORMATS), *map(FileCodec, FORMATS))
"""Every format as elementary stream ("avif") and as whole file ("avif-file")."""
