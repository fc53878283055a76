"""Queries and keys of chosen layers of a language model, read by hooks, without running what comes after."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from semcom.errors import InvalidOption, SemcomError
from semcom.text.lm import LanguageModel

Pair = tuple[Tensor, Tensor]


class UnknownArchitecture(SemcomError):
    """A language model whose layers this package cannot read."""


@dataclass(frozen=True)
class Family:
    """A family of architectures: where its attention is, and how that computes queries and keys.

    Args:
        attentions: Function from a causal language model of `transformers` to the self-attention modules of
            its layers, first layer first.
        project: Function from such a module, its input [batch, length, width], cosines and sines of the
            rotary embedding ([batch, length, rotated] each; None without) and a number of last positions to
            the queries of these positions [batch, heads, window, head width] and the keys of all positions
            [batch, key heads, length, head width], rotated where the family rotates.
    """

    attentions: Callable[[Any], list[nn.Module]]
    project: Callable[[Any, Tensor, Pair | None, int], Pair]


def _decoder_layers(model: Any) -> list[nn.Module]:
    return [layer.self_attn for layer in model.base_model.layers]


def _separate(attention: Any, hidden: Tensor, positions: Pair | None, window: int) -> Pair:
    """Linear maps of their own for queries and keys."""
    q = _by_heads(attention.q_proj(hidden[:, -window:]), attention.head_dim)
    k = _by_heads(attention.k_proj(hidden), attention.head_dim)
    return _rotated(q, k, positions, window)


def _normalised(attention: Any, hidden: Tensor, positions: Pair | None, window: int) -> Pair:
    """Linear maps of their own, and normalisation per head before the rotation."""
    q = attention.q_norm(_by_heads(attention.q_proj(hidden[:, -window:]), attention.head_dim))
    k = attention.k_norm(_by_heads(attention.k_proj(hidden), attention.head_dim))
    return _rotated(q, k, positions, window)


def _fused(attention: Any, hidden: Tensor, positions: Pair | None, window: int) -> Pair:
    """One linear map for queries, keys and values, of which only the needed rows are computed."""
    width = attention.head_dim
    first = attention.config.num_attention_heads * width
    last = first + attention.config.num_key_value_heads * width
    weight = attention.qkv_proj.weight
    q = _by_heads(nn.functional.linear(hidden[:, -window:], weight[:first]), width)
    k = _by_heads(nn.functional.linear(hidden, weight[first:last]), width)
    return _rotated(q, k, positions, window)


def _unrotated(attention: Any, hidden: Tensor, positions: Pair | None, window: int) -> Pair:
    """One affine map for queries, keys and values; positions were added to the embeddings."""
    width = attention.embed_dim
    weight, bias = attention.c_attn.weight, attention.c_attn.bias  # [in, out], unlike linear maps
    q = hidden[:, -window:] @ weight[:, :width] + bias[:width]
    k = hidden @ weight[:, width : 2 * width] + bias[width : 2 * width]
    return _by_heads(q, attention.head_dim), _by_heads(k, attention.head_dim)


FAMILIES = {
    "llama": Family(_decoder_layers, _separate),  # SmolLM2 too
    "mistral": Family(_decoder_layers, _separate),
    "qwen2": Family(_decoder_layers, _separate),
    "qwen3": Family(_decoder_layers, _normalised),
    "phi3": Family(_decoder_layers, _fused),
    "gpt2": Family(lambda model: [layer.attn for layer in model.base_model.h], _unrotated),
}
"""Families by the `model_type` of the model's configuration."""


@dataclass(frozen=True, eq=False)
class QueriesKeys:
    """Queries of the last positions and keys of all positions at one layer.

    Args:
        q: Queries, [batch, heads, window, head width].
        k: Keys, [batch, key heads, length, head width]; head h reads key head h // (heads / key heads).
        scaling: Factor of the products before the softmax.
        allowed: Whether a query may look at a key, [batch or 1, 1, window, length].
    """

    q: Tensor
    k: Tensor
    scaling: float
    allowed: Tensor

    @property
    def window(self) -> int:
        """Number of positions whose queries are there."""
        return self.q.shape[2]

    def last(self, window: int) -> "QueriesKeys":
        """Queries of fewer last positions.

        Args:
            window: Number of last positions, at most as many as there are.

        Returns:
            Queries of the last ones, and the same keys.

        Raises:
            InvalidOption: There are fewer queries.
        """
        if not 1 <= window <= self.window:
            raise InvalidOption(f"a window of {window} tokens: choose 1..{self.window}")
        return QueriesKeys(self.q[:, :, -window:], self.k, self.scaling, self.allowed[:, :, -window:])

    def products(self, heads: Sequence[int] | None = None) -> Float[Tensor, "batch heads window length"]:
        """Products of queries and keys, neither scaled nor masked, in float32 or better.

        Args:
            heads: Numbers of the heads; None for all.

        Returns:
            One row per head and query.
        """
        shared = self.q.shape[1] // self.k.shape[1]
        chosen = list(range(self.q.shape[1])) if heads is None else list(heads)
        wide = torch.promote_types(self.q.dtype, torch.float32)
        q, k = self.q[:, chosen].to(wide), self.k[:, [head // shared for head in chosen]].to(wide)
        return q @ k.transpose(2, 3)

    def probabilities(self, heads: Sequence[int] | None = None) -> Float[Tensor, "batch heads window length"]:
        """Attention of each query: softmax over the keys that it may look at.

        Args:
            heads: Numbers of the heads; None for all.

        Returns:
            One row per head and query; each sums to 1.
        """
        return (self.products(heads) * self.scaling).masked_fill(~self.allowed, -torch.inf).softmax(-1)


class _Enough(Exception):
    """Raised by the hook of the last layer that is needed, and caught by the function that set it."""


def family_of(lm: LanguageModel) -> Family:
    """Family of a language model.

    Args:
        lm: The model.

    Returns:
        Its family.

    Raises:
        UnknownArchitecture: Its architecture is not among `FAMILIES`.
    """
    kind = str(lm.model.config.model_type)
    if kind not in FAMILIES:
        raise UnknownArchitecture(
            f"{lm.name}: attention of the architecture {kind!r} cannot be read; choose a model of "
            f"{', '.join(FAMILIES)}"
        )
    return FAMILIES[kind]


def depth(lm: LanguageModel) -> int:
    """Number of layers of a language model.

    Args:
        lm: The model.

    Returns:
        The number.

    Raises:
        UnknownArchitecture: Its architecture is not among `FAMILIES`.
    """
    return len(family_of(lm).attentions(lm.model))


@torch.no_grad()
def skim(
    lm: LanguageModel,
    tokens: Int[Tensor, "batch length"],
    layer: int,
    window: int,
    mask: Int[Tensor, "batch length"] | None = None,
) -> QueriesKeys:
    """Queries and keys at one layer: runs the layers before it, and stops there.

    Args:
        lm: The model.
        tokens: Identifiers.
        layer: Number of the layer, from 0; the layers before it are run in full.
        window: Number of last positions whose queries are wanted.
        mask: 1 where a token counts, 0 where it fills up a shorter sequence on the left; None if all count.

    Returns:
        Queries of the window, and keys of all positions.

    Raises:
        InvalidOption: There is no such layer, or the window is longer than the sequence.
        UnknownArchitecture: The architecture of the model is unknown.
    """
    found: list[QueriesKeys] = []

    def keep(number: int, read: QueriesKeys) -> None:
        found.append(read)
        raise _Enough

    _check(lm, tokens, window)
    if not 0 <= layer < depth(lm):
        raise InvalidOption(f"layer {layer}: {lm.name} has the layers 0..{depth(lm) - 1}")
    with _hooked(lm, [layer], window, 0, keep), suppress(_Enough):
        _run(lm.model.base_model, tokens.to(lm.device), mask)
    return found[0]


@torch.no_grad()
def read_all(
    lm: LanguageModel,
    tokens: Int[Tensor, "batch length"],
    window: int,
    told: Callable[[int, QueriesKeys], None],
    beyond: int = 0,
    layers: Sequence[int] | None = None,
) -> Float[Tensor, "batch length width"]:
    """Run all layers of a model once, and pass queries and keys of each layer to a function.

    Args:
        lm: The model.
        tokens: Identifiers.
        window: Number of positions whose queries are wanted.
        told: Called with the number of a layer and its queries and keys.
        beyond: Number of last tokens that are neither queries nor keys, such as the answer to a prompt.
        layers: Numbers of the layers; None for all.

    Returns:
        Last hidden state at each position, of which the output layer makes logits.

    Raises:
        InvalidOption: The window is longer than the sequence.
        UnknownArchitecture: The architecture of the model is unknown.
    """
    _check(lm, tokens, window + beyond)
    with _hooked(lm, range(depth(lm)) if layers is None else layers, window, beyond, told):
        return _run(lm.model.base_model, tokens.to(lm.device), None).last_hidden_state


def check_window(window: int, length: int) -> None:
    """Check that as many last tokens of a prompt can be asked for.

    Args:
        window: Number of last tokens whose attention counts.
        length: Number of tokens of the prompt.

    Raises:
        InvalidOption: The window is not positive, or longer than the prompt.
    """
    if not 1 <= window <= length:
        raise InvalidOption(f"a window of {window} tokens: choose 1..{length}, the length of the prompt")


def allowed_keys(
    mask: Tensor | None, length: int, window: int, device: torch.device
) -> Bool[Tensor, "rows 1 window length"]:
    """Which key each query of the last positions may look at.

    Args:
        mask: Mask that `transformers` gives to the attention of a layer: None where the causal one is enough;
            of keys alone, [batch, length]; or [batch, heads or 1, queries, keys], true, or 0, where a query
            may look.
        length: Number of tokens.
        window: Number of last positions whose queries are wanted.
        device: Device of the result.

    Returns:
        True where a query may look; one row for all prompts if there is no mask.
    """
    place = torch.arange(length, device=device)
    causal = (place[None, :] <= place[length - window :, None])[None, None]
    if mask is None:
        return causal
    if mask.ndim == 2:  # of keys alone, as flash attention takes it
        return causal & mask[:, None, None, :length].bool()
    rows = mask[:, :1, length - window : length, :length]
    return rows if rows.dtype == torch.bool else rows >= 0


def _check(lm: LanguageModel, tokens: Tensor, window: int) -> None:
    lm.check_length(tokens.shape[1])
    check_window(window, tokens.shape[1])


def _run(module: Any, tokens: Tensor, mask: Tensor | None) -> Any:
    if mask is None:
        return module(input_ids=tokens, use_cache=False)
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    return module(input_ids=tokens, attention_mask=mask, position_ids=positions, use_cache=False)


@contextmanager
def _hooked(
    lm: LanguageModel,
    layers: Sequence[int],
    window: int,
    beyond: int,
    told: Callable[[int, QueriesKeys], None],
) -> Iterator[None]:
    """With hooks before the attention of some layers, which are taken away at the end."""
    family = family_of(lm)
    attentions = family.attentions(lm.model)

    def hook(number: int) -> Callable[..., None]:
        def read(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            length = hidden.shape[1] - beyond
            positions = kwargs.get("position_embeddings")
            if positions is not None:
                positions = (positions[0][:, :length], positions[1][:, :length])
            q, k = family.project(module, hidden[:, :length], positions, window)
            allowed = allowed_keys(kwargs.get("attention_mask"), length, window, hidden.device)
            told(number, QueriesKeys(q, k, _scaling(module), allowed))

        return read

    handles = [attentions[i].register_forward_pre_hook(hook(i), with_kwargs=True) for i in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _scaling(attention: Any) -> float:
    return float(attention.scaling)


def _by_heads(x: Tensor, width: int) -> Tensor:
    """[batch, length, heads x width] as [batch, heads, length, width]."""
    return x.unflatten(2, (-1, width)).transpose(1, 2)


def _rotated(q: Tensor, k: Tensor, positions: Pair | None, window: int) -> Pair:
    """Queries and keys after rotary position embedding of their first components, halves paired."""
    if positions is None:
        return q, k
    cos, sin = (part[:, None] for part in positions)
    return _turned(q, cos[:, :, -window:], sin[:, :, -window:]), _turned(k, cos, sin)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    width = cos.shape[-1]
    part, rest = x[..., :width], x[..., width:]
    first, second = part.chunk(2, -1)
    return torch.cat([part * cos + torch.cat([-second, first], -1) * sin, rest], -1)
