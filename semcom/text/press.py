"""Evaluator heads as a press of key-value caches, in the shape of kvpress: `with press(model): ...`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from semcom.errors import InvalidOption
from semcom.text.attention import FAMILIES, QueriesKeys, UnknownArchitecture, allowed_keys
from semcom.text.ehpc import KERNEL, WINDOW, pooled_window, selected
from semcom.text.heads import EvaluatorHeads


@dataclass
class EvaluatorPress:
    """Drop entries of the key-value cache after prefill by the attention of evaluator heads.

    A variant: evaluator-head compression reads the kept tokens again with new positions, whereas a press
    keeps entries that were computed in the whole prompt, with their positions. All layers and heads keep the
    same tokens. Tokens that follow must be given their positions after the whole prompt (`position_ids`).
    A layer of sliding-window attention whose cache holds only the last tokens of the prompt is left as it is.

    Args:
        compression_ratio: Share of the entries that is dropped, in [0, 1).
        layer: Number of the layer of the heads, from 0.
        heads: Numbers of the heads.
        window_size: Number of last tokens whose attention counts; they are always kept.
        kernel_size: Length of the average pooling.
    """

    compression_ratio: float = 0.0
    layer: int = 0
    heads: tuple[int, ...] = (0,)
    window_size: int = WINDOW
    kernel_size: int = KERNEL

    def __post_init__(self) -> None:
        if not 0 <= self.compression_ratio < 1:
            raise InvalidOption(f"a compression ratio of {self.compression_ratio:g}: choose one in [0, 1)")

    @staticmethod
    def of(found: EvaluatorHeads, compression_ratio: float) -> "EvaluatorPress":
        """Press with the heads that a probe found.

        Args:
            found: Layer and heads.
            compression_ratio: Share of the entries that is dropped.

        Returns:
            The press.
        """
        return EvaluatorPress(compression_ratio, found.layer, found.heads)

    def score(
        self,
        module: nn.Module,
        hidden_states: Tensor,
        keys: Tensor,
        values: Tensor,
        attentions: Tensor | None,
        kwargs: dict[str, Any],
    ) -> Tensor:
        """Score the entries of the cache from the input of the self-attention of `layer`.

        Args:
            module: Self-attention module of the layer.
            hidden_states: Input of that module, [1, length, width].
            keys: Keys of the layer, [1, key heads, length, head width].
            values: Values of the layer; not used.
            attentions: Attention of the layer; not used.
            kwargs: Arguments of the module: `position_embeddings` where it rotates, and `attention_mask`.

        Returns:
            Scores, [1, key heads, length]; equal for all heads.

        Raises:
            InvalidOption: The window is longer than the prompt, or there are several prompts.
        """
        batch, length = hidden_states.shape[:2]
        if batch != 1:
            raise InvalidOption(f"a press of {batch} prompts at once: give one at a time")
        if not 1 <= self.window_size <= length:
            raise InvalidOption(f"a window of {self.window_size} tokens: choose 1..{length}")
        read = self._read(module, hidden_states, kwargs)
        rows = read.probabilities(self.heads)[0]
        scores = pooled_window(rows, self.kernel_size)
        scores[-self.window_size :] = scores.max() + 1
        return scores.to(hidden_states.device).expand(1, keys.shape[1], -1)

    def _read(self, module: Any, hidden: Tensor, kwargs: dict[str, Any]) -> QueriesKeys:
        kind = str(module.config.model_type)
        if kind not in FAMILIES:
            raise UnknownArchitecture(f"a press of the architecture {kind!r}: choose {', '.join(FAMILIES)}")
        q, k = FAMILIES[kind].project(module, hidden, kwargs.get("position_embeddings"), self.window_size)
        mask, length = kwargs.get("attention_mask"), hidden.shape[1]
        allowed = allowed_keys(mask, length, self.window_size, hidden.device)
        return QueriesKeys(q, k, float(module.scaling), allowed)

    @contextmanager
    def __call__(self, model: Any) -> Iterator[None]:
        """Press the cache of every prefill inside of the block.

        Args:
            model: A causal language model of `transformers`.

        Yields:
            None.

        Raises:
            UnknownArchitecture: The architecture of the model is unknown.
            InvalidOption: The model has no such layer, or the cache of no layer holds the whole prompt.
        """
        kind = str(model.config.model_type)
        if kind not in FAMILIES:
            raise UnknownArchitecture(f"a press of the architecture {kind!r}: choose {', '.join(FAMILIES)}")
        attentions = FAMILIES[kind].attentions(model)
        if not 0 <= self.layer < len(attentions):
            raise InvalidOption(f"layer {self.layer}: the model has the layers 0..{len(attentions) - 1}")
        pending: list[Tensor] = []

        @torch.no_grad()
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            cache = _cache(kwargs)
            hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            if cache is None or cache.get_seq_length(self.layer) or hidden.shape[1] == 1:
                return  # no prefill
            blank = hidden.new_empty(1, 1, 0, 0)
            pending.append(self.score(module, hidden, blank, blank, None, kwargs)[0, 0])

        def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            if not pending:
                return
            scores = pending.pop().cpu()
            number = max(self.window_size, round(len(scores) * (1 - self.compression_ratio)))
            _press(_cache(kwargs, out), len(scores), torch.tensor(selected(scores, number)))

        handles = [
            attentions[self.layer].register_forward_pre_hook(before, with_kwargs=True),
            model.base_model.register_forward_hook(after, with_kwargs=True),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _press(cache: Any, length: int, kept: Tensor) -> None:
    """Keep some entries in every layer of a cache that holds the whole prompt."""
    whole = [layer for layer in cache.layers if layer.keys.shape[2] == length]
    if not whole:
        raise InvalidOption(
            f"a press of {length} tokens: every layer keeps the last {cache.layers[0].keys.shape[2]} alone "
            "(sliding-window attention); give a shorter prompt"
        )
    for layer in whole:
        place = kept.to(layer.keys.device)
        layer.keys, layer.values = layer.keys[:, :, place], layer.values[:, :, place]
        if layer.is_sliding:  # such a layer counts its entries itself
            layer.cumulative_length = len(kept)


def _cache(kwargs: dict[str, Any], out: Any = None) -> Any:
    """Cache among the arguments of a module, by its name in older and newer `transformers`, or its output."""
    for name in ("cache", "past_key_values"):
        if kwargs.get(name) is not None:
            return kwargs[name]
        found = getattr(out, name, None)
        if found is not None:
            return found
    return None
