"""Running text for training: books in the public domain as paragraphs, and their tokens."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from semcom.errors import InvalidSource, MissingPackage

TRAINING = ("bronte.txt", "darwin.txt", "dubois.txt")
"""Books to train on."""
HELD_OUT = ("pride_and_prejudice.txt",)
"""Book to validate on."""


def prose(path: Path) -> str:
    """Text of a book without what Project Gutenberg puts around it; lines are joined to paragraphs.

    Args:
        path: File in UTF-8.

    Returns:
        Paragraphs with an empty line between them.

    Raises:
        InvalidSource: The file is missing or not UTF-8.
    """
    try:
        text = path.read_text("utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSource(
            f"{path}: no book in UTF-8 ({error}); name the folder with {TRAINING[0]}"
        ) from None
    start, end = text.find("*** START OF"), text.find("*** END OF")
    if start >= 0:
        text = text[text.index("\n", start) : end if end > 0 else None]
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n") if part.strip())


def byte_pairs(texts: Iterable[str], size: int) -> Any:
    """Train a byte-level tokenizer without normalisation, in which digits are tokens of their own.

    Args:
        texts: Texts to learn pairs from.
        size: Number of tokens, at least 257.

    Returns:
        A `transformers` tokenizer; token 0 is the end of a text.

    Raises:
        MissingPackage: `transformers` is not installed.
    """
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
        from transformers import PreTrainedTokenizerFast
    except ImportError:
        raise MissingPackage('tokenizers: the package is not installed; pip install "semcom[text]"') from None
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", clean_up_tokenization_spaces=False
    )


def tokens_of(tokenizer: Any, text: str) -> Int[Tensor, " tokens"]:
    """Tokens of a text, paragraph by paragraph.

    Args:
        tokenizer: A `transformers` tokenizer.
        text: Paragraphs with an empty line between them.

    Returns:
        Identifiers in the shortest integer type that holds them all.
    """
    found = tokenizer([part + "\n\n" for part in text.split("\n\n")], add_special_tokens=False)["input_ids"]
    return torch.tensor([token for part in found for token in part], dtype=torch.int32)
