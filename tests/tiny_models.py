"""Tiny language models of all families with random weights, far from uniform attention."""

from typing import Any

import torch
from torch import Tensor

from semcom.text.lm import LanguageModel

SHARED = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", SHARED),
    "smollm2": ("LlamaForCausalLM", SHARED | {"num_attention_heads": 3, "num_key_value_heads": 1}),
    "mistral": ("MistralForCausalLM", SHARED | {"sliding_window": 16}),
    "qwen2": ("Qwen2ForCausalLM", SHARED),
    "qwen2-by-layer": (
        "Qwen2ForCausalLM",
        SHARED | {"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 2},
    ),
    "qwen3": ("Qwen3ForCausalLM", SHARED | {"head_dim": 16}),
    "phi3": ("Phi3ForCausalLM", SHARED | {"partial_rotary_factor": 0.5, "sliding_window": None}),
    "gpt2": (
        "GPT2LMHeadModel",
        {"vocab_size": 97, "n_embd": 48, "n_layer": 4, "n_head": 6, "n_positions": 256},
    ),
    "gpt2-by-layer": (
        "GPT2LMHeadModel",
        {"vocab_size": 97, "n_embd": 48, "n_layer": 4, "n_head": 6, "scale_attn_by_inverse_layer_idx": True},
    ),
}


class Unwritten:
    """Tokenizer of models that read no text: it knows the end of a text alone."""

    bos_token_id = None
    eos_token_id = 0
    is_fast = False

    def get_vocab(self) -> dict[str, int]:
        """The end of a text."""
        return {"<|endoftext|>": 0}


def random_model(kind: str, attention: str = "sdpa") -> LanguageModel:
    import transformers

    name, options = KINDS[kind]
    torch.manual_seed(3)
    architecture = getattr(transformers, name)
    model = architecture(architecture.config_class(**options, attn_implementation=attention)).eval()
    for parameter in model.parameters():  # larger than the usual start, so that attention is far from uniform
        parameter.data.mul_(4 if parameter.ndim > 1 else 1).add_(0.05 * torch.randn_like(parameter))
    return LanguageModel(kind, model.requires_grad_(False), Unwritten(), "0" * 64)


def tokens(batch: int, length: int) -> Tensor:
    return torch.randint(1, 97, (batch, length), generator=torch.Generator().manual_seed(1))


def byte_tokenizer() -> Any:
    """Tokenizer of transformers with one token per byte, and <|endoftext|> as number 256."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(letters, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|endoftext|>"])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|endoftext|>")


def byte_model(window: int = 4096) -> LanguageModel:
    """Tiny Llama with random weights that reads bytes."""
    import transformers

    torch.manual_seed(5)
    config = transformers.LlamaConfig(
        **SHARED | {"vocab_size": 257, "max_position_embeddings": window, "pad_token_id": 256}
    )
    model = transformers.LlamaForCausalLM(config).eval().requires_grad_(False)
    return LanguageModel("bytes", model, byte_tokenizer(), "1" * 64)
