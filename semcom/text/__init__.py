"""Texts by pretrained language models: prompt compression, semantic compression, editing, entropy coding."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semcom.text.compression import PromptCompressor

__all__ = ["PromptCompressor"]


def __getattr__(name: str) -> Any:
    if name != "PromptCompressor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from semcom.text.compression import PromptCompressor

    return PromptCompressor
