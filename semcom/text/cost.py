"""Cost of prompt compression: a model of floating-point operations, their count by torch, and CPU time."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

from semcom.errors import InvalidOption
from semcom.text.lm import LanguageModel


@dataclass(frozen=True)
class Cost:
    """Floating-point operations of a decoder with grouped keys; a multiplication and an addition are two.

    Args:
        layers: L, number of layers.
        width: d, width of the hidden states.
        key_width: d_kv, width of all keys of a position.
        inner: d_ff, width inside of the feed-forward part.
        vocabulary: V, number of symbols.
        gated: Whether the feed-forward part has a gate, and so three matrices and not two.
        causal: Whether products with masked keys are left out; torch counts them.
    """

    layers: int
    width: int
    key_width: int
    inner: int
    vocabulary: int
    gated: bool = True
    causal: bool = True

    @staticmethod
    def of(lm: LanguageModel, causal: bool = True) -> "Cost":
        """Cost of a language model.

        Args:
            lm: The model.
            causal: Whether products with masked keys are left out.

        Returns:
            Its cost.
        """
        c = lm.model.config
        if c.model_type == "gpt2":
            inner = c.n_inner or 4 * c.hidden_size
            return Cost(c.num_hidden_layers, c.hidden_size, c.hidden_size, inner, c.vocab_size, False, causal)
        head = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
        keys = c.num_key_value_heads * head
        return Cost(c.num_hidden_layers, c.hidden_size, keys, c.intermediate_size, c.vocab_size, True, causal)

    def layer(self, n: int) -> int:
        """Operations of one layer: 4 N d^2 + 4 N d d_kv + 2 N^2 d + 6 N d d_ff.

        Args:
            n: N, number of tokens.

        Returns:
            Operations; 4 N^2 d if masked products count, and 4 N d d_ff without a gate.
        """
        d = self.width
        attention = (2 if self.causal else 4) * n * n * d
        return n * d * (4 * d + 4 * self.key_width + (6 if self.gated else 4) * self.inner) + attention

    def full(self, n: int) -> int:
        """Operations of a whole prompt: L layers, and the logits of the last position.

        Args:
            n: Number of tokens.

        Returns:
            Operations.
        """
        return self.layers * self.layer(n) + 2 * self.width * self.vocabulary

    def skim(self, n: int, layer: int, window: int) -> int:
        """Operations of a skim: the layers before one, and there keys, queries of the window, and products.

        Args:
            n: Number of tokens.
            layer: Number of the layer, from 0.
            window: Number of last tokens.

        Returns:
            Operations.
        """
        d = self.width
        return layer * self.layer(n) + 2 * n * d * self.key_width + 2 * window * d * d + 2 * window * n * d

    def compressed(self, n: int, kept: int, layer: int, window: int) -> int:
        """Operations of a skim, and of reading the kept tokens again.

        Args:
            n: Number of tokens.
            kept: Number of kept tokens.
            layer: Number of the layer of the skim.
            window: Number of last tokens.

        Returns:
            Operations.

        Raises:
            InvalidOption: More tokens are kept than there are.
        """
        if kept > n:
            raise InvalidOption(f"{kept} kept tokens of {n}: at most all")
        return self.skim(n, layer, window) + self.full(kept)


def counted(work: Callable[[], Any]) -> int:
    """Floating-point operations of some work as torch counts them: matrix products and attention.

    Args:
        work: Function without arguments.

    Returns:
        Operations; of attention also those with masked keys.
    """
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def cpu_seconds(work: Callable[[], Any]) -> float:
    """CPU time of some work, which other processes change less than the time on a clock.

    Args:
        work: Function without arguments.

    Returns:
        Seconds of all threads of this process.
    """
    start = time.process_time()
    work()
    return time.process_time() - start
