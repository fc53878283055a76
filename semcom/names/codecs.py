"""Grammar of source codecs: elementary streams ("avif", "x265-slow", "zlib"), whole files ("avif-file")."""

import re
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

from semcom import zoo
from semcom.codecs import CODECS, Memo, SourceCodec
from semcom.codecs.clip import FrameByFrame
from semcom.codecs.hyperprior import MeanScaleHyperprior
from semcom.codecs.learned import LearnedCodec
from semcom.codecs.listed import CLIP_CODECS, TEXT_CODECS
from semcom.codecs.text import Brotli, Zstd
from semcom.errors import InvalidOption, UnknownName, closest
from semcom.memory.codebooks import clips_of, pictures_of
from semcom.memory.codec import MemoryCodec
from semcom.memory.sentences import EMBEDDINGS, SentenceCodec, texts_of
from semcom.names.latent import latent_codec
from semcom.names.parser import IMPORTED, imported
from semcom.names.predictive import KEYED
from semcom.names.receivers import MEMORY, memory_named
from semcom.representation.link import HEAD as LATENT
from semcom.text.coding import SHORT, language_model_codec

MEMBERS = ("name", "encode", "decode")
MODEL = "lm:"
"""Beginning of the name of a codec of texts by a language model: "lm:" and its name, folder or GGUF file."""

STILL: dict[str, Callable[[], SourceCodec[Any]]] = {
    **{codec.name: lambda codec=codec: codec for codec in CODECS},
    "learned": lambda: LearnedCodec(zoo.load_as("learned", MeanScaleHyperprior)),
}
"""Image codecs by name."""


def _layered() -> SourceCodec[Any]:
    from semcom.video.layered import LayeredCodec
    from semcom.video.refinement import FrameRefiner
    from semcom.video.search import perceptual

    return LayeredCodec(FrameRefiner.shipped(), perceptual)


BY_MODALITY: dict[str, dict[str, Callable[[], SourceCodec[Any]]]] = {
    "image": STILL,
    "video": {
        **{codec.name: lambda codec=codec: codec for codec in CLIP_CODECS},
        "layered": _layered,
        **{name: lambda make=make: FrameByFrame(make()) for name, make in STILL.items()},
        **{head: lambda head=head, make=make: make(head, codec) for head, make in KEYED.items()},
        LATENT: lambda: latent_codec(LATENT),
    },
    "text": {
        **{codec.name: lambda codec=codec: codec for codec in TEXT_CODECS},
        "brotli": Brotli,
        "zstd": Zstd,
        **{name: lambda name=name: language_model_codec(name) for name in SHORT},
    },
}
"""Codecs by modality and name; for video, image codecs encode a clip frame by frame."""


def codec(name: str, modality: str = "image", device: str = "cpu") -> SourceCodec[Any]:
    """Make a codec from its name, such as "avif" (elementary stream) or "avif-file" (whole file).

    Image codecs are wrapped in a `Memo` that all schemes of this process share, so that every image is
    encoded only once. Imported codecs are looked up anew at every call, for the case that their module was
    reloaded.

    Args:
        name: Name, or `package.module:NAME`; key frames with prediction or interpolation are spelled by
            `semcom.names.predictive`, latents by `semcom.names.latent`, language models of texts
            as "lm:NAME", a memory at both ends as "memory:avif@FOLDER" for pictures and clips, and as
            "memory:zlib[:<tolerance>[:minilm]]@FOLDER" for texts.
        modality: Modality of the items: "image", "video", "text", or the name of your own modality.
        device: PyTorch device of the networks of latents and of language models; all other codecs compute on
            the CPU.

    Returns:
        The codec.

    Raises:
        UnknownName: The modality has no such codec.
        InvalidOption: The imported object is not a codec.
        MissingWeights: The network of the learned codec is absent or damaged.
    """
    head, colon, rest = name.partition(":")
    if modality == "video" and colon and head in KEYED:
        return KEYED[head](name, codec)
    if head == MEMORY and "@" in name and modality in BY_MODALITY:
        return _with_memory(name, modality, device)
    if modality == "video" and head == LATENT:
        return latent_codec(name, device)
    if modality == "text" and (name in SHORT or name.startswith(MODEL)):
        return language_model_codec(rest or name, device)
    if IMPORTED.fullmatch(name):
        found: SourceCodec[Any] = imported(name, "codec", MEMBERS)
        try:
            return _shared(found) if modality == "image" else found
        except TypeError:  # not hashable
            return Memo(found)
    return _shipped(name, modality)


def _with_memory(name: str, modality: str, device: str) -> SourceCodec[Any]:
    """A codec with a folder at both ends: pictures, key frames of clips, or sentences of texts."""
    inner, _, folder = name.removeprefix(f"{MEMORY}:").partition("@")
    if modality == "image":
        return MemoryCodec(codec(inner), memory_named(folder, pictures_of))
    if modality == "video":
        return FrameByFrame(MemoryCodec(codec(inner), memory_named(folder, clips_of)))
    found = re.fullmatch(
        rf"(.+?)(?::([-+]?[\d.]+(?:e[-+]?\d+)?|nan|inf))?(?::({'|'.join(EMBEDDINGS)}))?", inner
    )
    try:
        source, tolerance, named = found.groups() if found else ("", None, None)
        number = float(tolerance or 0)
    except ValueError:
        raise InvalidOption(f"codec {name!r}: {tolerance} is no number") from None
    embedding = EMBEDDINGS[EMBEDDINGS.index(named) if named else 0]
    memory = memory_named(folder, texts_of)
    return SentenceCodec(codec(source, modality, device), memory, number, embedding)


@cache
def _shipped(name: str, modality: str) -> SourceCodec[Any]:
    known = BY_MODALITY.get(modality, {})
    if name not in known:
        others = [other for other, codecs in BY_MODALITY.items() if name in codecs]
        why = f"; it codes {' and '.join(others)}" if others else closest(name, known)
        there = ", ".join(known) or "only imported ones, package.module:NAME"
        raise UnknownName(f"no codec called {name!r} for {modality}{why}; there are {there}")
    return Memo(known[name]()) if modality == "image" else known[name]()


@lru_cache(maxsize=64)
def _shared(codec: SourceCodec[Any]) -> Memo[Any]:
    return Memo(codec)
