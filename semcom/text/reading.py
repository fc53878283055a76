"""What a language model computes on one prompt, attention and code lengths; each is computed once."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from semcom.errors import InvalidOption
from semcom.text.attention import QueriesKeys, depth, read_all, skim
from semcom.text.lm import LanguageModel

ROWS = 256  # positions whose logits, or whose attention to all others, are in memory at a time


class Reading:
    """A prompt as tokens, and what a language model computes on it, kept for all scores that need it.

    Args:
        lm: The model.
        ids: Tokens of the whole prompt.
        context: Positions of the tokens that are to be compressed; None for all.

    Raises:
        InvalidOption: There is no token, or the context is not inside the prompt.
    """

    def __init__(self, lm: LanguageModel, ids: Sequence[int], context: range | None = None) -> None:
        self.lm = lm
        self.ids = list(ids)
        self.context = range(len(self.ids)) if context is None else context
        if not self.ids:
            raise InvalidOption("a prompt without a token; give a longer one")
        if self.context.start < 0 or self.context.stop > len(self.ids) or self.context.step != 1:
            raise InvalidOption(f"a context of the tokens {self.context}: choose some of 0..{len(self.ids)}")
        self._read: dict[int, QueriesKeys] = {}
        self._nll: Tensor | None = None
        self._hidden: Tensor | None = None
        self._answer: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tokens(self) -> Tensor:
        """Tokens of the prompt, [1, length]."""
        return torch.tensor([self.ids], device=self.lm.device)

    def queries_keys(self, layer: int, window: int) -> QueriesKeys:
        """Queries of the last tokens and keys of all tokens at one layer; runs no later layer.

        Args:
            layer: Number of the layer, from 0.
            window: Number of last tokens.

        Returns:
            Queries and keys.

        Raises:
            InvalidOption: There is no such layer, or the window is longer than the prompt.
        """
        if layer not in self._read or self._read[layer].window < window:
            self._read[layer] = skim(self.lm, self.tokens, layer, window)
        return self._read[layer].last(window)

    def all_layers(self, window: int) -> list[QueriesKeys]:
        """Queries of the last tokens and keys of all tokens at every layer.

        Args:
            window: Number of last tokens.

        Returns:
            One per layer.

        Raises:
            InvalidOption: The window is longer than the prompt.
        """
        wanted = range(depth(self.lm))
        if any(layer not in self._read or self._read[layer].window < window for layer in wanted):
            self.whole(window)
        return [self._read[layer].last(window) for layer in wanted]

    def whole(self, window: int, answer: Sequence[int] = ()) -> None:
        """Run the whole model once, and keep all that scores may ask for.

        Args:
            window: Number of last tokens of the prompt whose queries are kept, at every layer.
            answer: Tokens after the prompt whose code lengths will be asked for.

        Raises:
            InvalidOption: The window is longer than the prompt.
        """
        ids = torch.tensor([[*self.ids, *answer]], device=self.lm.device)
        self._hidden = read_all(self.lm, ids, window, self._read.__setitem__, beyond=len(answer))
        self._answer = tuple(answer)

    def nll_bits(self) -> Float[Tensor, " length"]:
        """Code length of each token given those before it, in bits.

        Returns:
            Bits, float64; of the first token log2 of the size of the vocabulary.
        """
        if self._nll is None:
            if self._hidden is None:
                self.whole(1)
            assert self._hidden is not None
            bits, _ = code_lengths(self.lm, self.tokens, self._hidden[:, : len(self)])
            unknown = torch.tensor([math.log2(self.lm.vocabulary)], dtype=torch.float64)
            self._nll = torch.cat([unknown, bits])
        return self._nll

    def answer(self, tokens: Sequence[int]) -> tuple[Float[Tensor, " tokens"], bool]:
        """Code lengths of an answer after the prompt, and whether greedy decoding would give it.

        Args:
            tokens: Tokens of the answer.

        Returns:
            Bits of each token, float64, and whether each is the most probable one after those before it.
        """
        if self._hidden is None or self._answer != tuple(tokens):
            return answered(self.lm, self.ids, tokens)
        ids = torch.tensor([[self.ids[-1], *tokens]], device=self.lm.device)
        bits, best = code_lengths(self.lm, ids, self._hidden[:, len(self) - 1 :])
        return bits, bool(best.all())


@torch.no_grad()
def answered(
    lm: LanguageModel, ids: Sequence[int], answer: Sequence[int]
) -> tuple[Float[Tensor, " tokens"], bool]:
    """Code lengths of an answer after a prompt, and whether greedy decoding would give it.

    Args:
        lm: The model.
        ids: Tokens of the prompt, at least one.
        answer: Tokens of the answer.

    Returns:
        Bits of each token, float64, and whether each is the most probable one after those before it.

    Raises:
        InvalidOption: Prompt and answer together are longer than the model's window.
    """
    lm.check_length(len(ids) + len(answer))
    whole = torch.tensor([[*ids, *answer]], device=lm.device)
    hidden = lm.model.base_model(input_ids=whole, use_cache=False).last_hidden_state
    first = len(ids) - 1
    bits, best = code_lengths(lm, whole[:, first:], hidden[:, first:])
    return bits, bool(best.all())


@torch.no_grad()
def code_lengths(lm: LanguageModel, ids: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Code length of each token but the first, from hidden states, some hundred positions at a time.

    Args:
        lm: The model.
        ids: Tokens, [1, length].
        hidden: Last hidden states, [1, length, width].

    Returns:
        Bits [length - 1], float64, and whether the token is the most probable one [length - 1].
    """
    head = lm.model.get_output_embeddings()
    bits, best = [], []
    for first in range(0, ids.shape[1] - 1, ROWS):
        last = min(first + ROWS, ids.shape[1] - 1)
        logits = head(hidden[0, first:last]).float()
        wanted = ids[0, first + 1 : last + 1, None]
        value = logits.gather(1, wanted)[:, 0]
        bits.append(((logits.logsumexp(1) - value) / math.log(2)).double().cpu())
        best.append((logits.argmax(1) == wanted[:, 0]).cpu())
    empty = torch.empty(0, dtype=torch.float64)
    return torch.cat([empty, *bits]), torch.cat([empty.bool(), *best])


@torch.no_grad()
def received_attention(lm: LanguageModel, tokens: Tensor) -> Float[Tensor, " length"]:
    """Attention that each token receives from all later ones, summed over queries, heads and layers.

    Args:
        lm: The model.
        tokens: Identifiers, [1, length].

    Returns:
        Sums, float32.
    """
    total = torch.zeros(tokens.shape[1], device=lm.device)

    def add(_: int, read: QueriesKeys) -> None:
        for first in range(0, read.window, ROWS):
            part = slice(first, first + ROWS)
            rows = QueriesKeys(read.q[:, :, part], read.k, read.scaling, read.allowed[:, :, part])
            total.add_(rows.probabilities()[0].sum((0, 1)))

    read_all(lm, tokens, tokens.shape[1], add)
    return total
