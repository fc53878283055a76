"""Modalities (image, video, text): what an item is, how it is read and written, and its source dimensions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semcom.errors import InvalidSource
from semcom.modalities.image import IMAGE, ImageModality
from semcom.modalities.modality import Item, Modality, Recognises, Shape, named, possible_path
from semcom.modalities.text import TEXT, TextModality, TextShape
from semcom.modalities.video import VIDEO, Clip, ClipShape, VideoModality

__all__ = [
    "IMAGE",
    "MODALITIES",
    "TEXT",
    "VIDEO",
    "Clip",
    "ClipShape",
    "ImageModality",
    "Item",
    "Modality",
    "Recognises",
    "Shape",
    "TextModality",
    "TextShape",
    "VideoModality",
    "modality_of",
    "named",
]

MODALITIES: tuple[Modality[Any], ...] = (IMAGE, VIDEO, TEXT)
"""All modalities of this package. Functions that choose a modality accept others as an argument."""


def modality_of(path: Path | str, modalities: Sequence[Modality[Any]] = MODALITIES) -> Modality[Any]:
    """Find the modality of a file by its extension, or by its content if several modalities read it.

    Args:
        path: The file; it need not exist if only one modality reads its extension.
        modalities: Candidates; of several that fit, the first is chosen.

    Returns:
        The modality whose `read` reads the file.

    Raises:
        InvalidSource: No candidate reads this extension, and none recognises the content.
    """
    path = possible_path(path)
    claims = [modality for modality in modalities if path.suffix.lower() in modality.suffixes]
    if len(claims) == 1:
        return claims[0]
    for modality in claims or modalities:
        if isinstance(modality, Recognises) and path.is_file() and modality.recognises(path):
            return modality
    if claims:
        return claims[0]
    if not path.exists():
        raise InvalidSource(f"{path}: no such file")
    if path.is_dir():
        raise InvalidSource(f"{path}: a folder; name a file in it")
    readable = "; ".join(f"{m.name}: {' '.join(sorted(m.suffixes))}" for m in modalities)
    raise InvalidSource(f"{path}: neither its ending nor its content is known ({readable}); convert it")
