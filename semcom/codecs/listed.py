"""List of all source codecs with default parameters."""

from torch import Tensor

from semcom.codecs.av import LIBRARIES, SPEEDS, InterCodec
from semcom.codecs.clip import FrameByFrame
from semcom.codecs.codec import SourceCodec
from semcom.codecs.hevc import HevcIntra
from semcom.codecs.pillow import Avif, Jpeg, Jpeg2000, WebP
from semcom.codecs.still import FileCodec, StillFormat, StreamCodec
from semcom.codecs.text import Huffman, Utf8, Zlib
from semcom.modalities.video import Clip

FORMATS: tuple[StillFormat, ...] = (Jpeg(), Jpeg2000(), WebP(), Avif(), HevcIntra())
"""All still-image formats with default parameters."""

CODECS: tuple[SourceCodec[Tensor], ...] = (*map(StreamCodec, FORMATS), *map(FileCodec, FORMATS))
"""Codecs of images: every format as elementary stream ("avif") and as whole file ("avif-file")."""

INTER_CODECS: tuple[InterCodec, ...] = tuple(
    InterCodec(library, speed) for library in LIBRARIES for speed in SPEEDS
)
"""Codecs of clips with motion compensation: every encoder at every speed ("x265", "av1-slow")."""

CLIP_CODECS: tuple[SourceCodec[Clip], ...] = (
    *INTER_CODECS,
    *(FrameByFrame(StreamCodec(format)) for format in FORMATS),
)
"""Codecs of clips: with motion compensation ("x265"), and frame by frame ("avif")."""

TEXT_CODECS: tuple[SourceCodec[str], ...] = (Zlib(), Utf8(), Huffman())
"""Codecs of texts that need no further package, without loss."""
