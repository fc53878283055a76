"""A small language model of random weights with a tokenizer of its own."""

from functools import cache
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from semcom.surroundings import library_defaults
from semcom.text.lm import LanguageModel

WORDS = "The quick brown fox jumps over the lazy dog, and the dog sleeps on; nobody minds. " * 3


@cache
def a_tokenizer() -> Any:
    """Byte-level pairs; the bytes of control characters are not in its vocabulary, as in SmolLM2's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    letters = sorted(
        set("".join(pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(WORDS)[0][0]))
    )
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=[c for c in pre_tokenizers.ByteLevel.alphabet() if c not in "ĄĆ"] + letters,
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


@library_defaults()
def a_language_model(dtype: torch.dtype = torch.float64, seed: int = 0, **changes: Any) -> LanguageModel:
    """Two layers of random weights, context of 256 tokens."""
    torch.manual_seed(seed)
    tokenizer = a_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        **changes,
    )
    model = LlamaForCausalLM(config).to(dtype).eval().requires_grad_(False)
    return LanguageModel("random", model, tokenizer, f"random {seed}")
