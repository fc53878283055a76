"""Evaluator-head prompt compression: attention of few heads of one layer, pooled, and a top-k choice."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from semcom.errors import InvalidOption
from semcom.text.heads import EvaluatorHeads
from semcom.text.reading import Reading

WINDOW = 16
KERNEL = 32


@runtime_checkable
class Scorer(Protocol):
    """A score of how useful each token of a prompt is."""

    @property
    def name(self) -> str:
        """Name of the method."""
        ...

    @property
    def forced(self) -> int:
        """Number of last tokens of a prompt that the method always keeps."""
        ...

    def __call__(self, reading: Reading, budget: int) -> Float[Tensor, " length"]:
        """Score the tokens of a prompt.

        Args:
            reading: The prompt.
            budget: Number of tokens that will be kept, for methods that need to know it.

        Returns:
            Finite scores on the CPU; larger means more useful.

        Raises:
            InvalidOption: The prompt is too short for the method.
        """
        ...


@dataclass(frozen=True)
class EHPC:
    """Evaluator-head prompt compression: s = pool_r(mean over N_o queries of the attention of some heads).

    Args:
        layer: Number of the layer, from 0; the layers before it are run in full.
        heads: Numbers of its evaluator heads.
        window: N_o, number of last tokens whose attention counts; they are always kept.
        kernel: r, length of the average pooling.
        exclude_sink: Whether the first token, the usual attention sink, scores 0. The paper keeps its score.
        name: Name of the method.

    Reference:
        Fei et al., "Efficient Prompt Compression with Evaluator Heads for Long-Context Transformer
        Inference", arXiv 2501.12959, equation 1.
    """

    layer: int
    heads: tuple[int, ...]
    window: int = WINDOW
    kernel: int = KERNEL
    exclude_sink: bool = False
    name: str = "ehpc"

    @staticmethod
    def of(found: EvaluatorHeads, window: int = WINDOW, kernel: int = KERNEL) -> "EHPC":
        """Scorer with the heads that a probe found.

        Args:
            found: Layer and heads.
            window: Number of last tokens whose attention counts.
            kernel: Length of the average pooling.

        Returns:
            The scorer.
        """
        return EHPC(found.layer, found.heads, window, kernel)

    @property
    def forced(self) -> int:
        """Number of last tokens that are always kept: the window."""
        return self.window

    def __call__(self, reading: Reading, budget: int) -> Float[Tensor, " length"]:
        """Score the tokens of a prompt; runs the layers before `layer` alone.

        Args:
            reading: The prompt.
            budget: Number of tokens that will be kept; not used.

        Returns:
            Scores; those of the window are 0.

        Raises:
            InvalidOption: The window is longer than the prompt.
        """
        rows = reading.queries_keys(self.layer, self.window).probabilities(self.heads)[0]
        return pooled_window(rows, self.kernel, self.exclude_sink)


def pooled_window(
    rows: Float[Tensor, "heads window length"], kernel: int, exclude_sink: bool = False
) -> Float[Tensor, " length"]:
    """Mean over the queries of a window, sum over heads, average pooling before the window, and 0 in it.

    Args:
        rows: Attention of the last tokens of a prompt.
        kernel: Length of the pooling.
        exclude_sink: Whether the first token scores 0 before the pooling.

    Returns:
        Scores, float32 on the CPU.
    """
    before = rows.mean(1).sum(0).float().cpu()[: rows.shape[2] - rows.shape[1]]
    if exclude_sink:
        before[:1] = 0
    return torch.nn.functional.pad(pooled(before, kernel), (0, rows.shape[1]))


def pooled(scores: Float[Tensor, " length"], kernel: int) -> Float[Tensor, " length"]:
    """Average pooling with stride 1: value j is the mean over j - r // 2, ..., j - r // 2 + r - 1 inside.

    With an even r, `avg_pool1d` with padding r / 2 gives one value too many, and counts zeros at the ends;
    this function does neither.

    Args:
        scores: Any scores.
        kernel: r, at least 1.

    Returns:
        As many values.

    Raises:
        InvalidOption: The kernel is not positive.

    Example:
        >>> pooled(torch.tensor([4.0, 0.0, 0.0, 0.0, 8.0]), 2)
        tensor([4., 2., 0., 0., 4.])
    """
    if kernel < 1:
        raise InvalidOption(f"a pooling over {kernel} tokens: at least 1")
    if not len(scores) or kernel == 1:
        return scores
    total = torch.nn.functional.pad(scores.double().cumsum(0), (1, 0))
    first = torch.arange(len(scores)) - kernel // 2
    first, last = first.clamp(min=0), (first + kernel).clamp(max=len(scores))
    return ((total[last] - total[first]) / (last - first)).to(scores.dtype)


def selected(scores: Float[Tensor, " length"], budget: int, forced: Sequence[int] = ()) -> list[int]:
    """Positions of the best tokens in their order; of equal scores the earlier one.

    Args:
        scores: Score of each token.
        budget: Number of tokens that are kept, the forced ones included.
        forced: Positions that are kept in any case.

    Returns:
        Rising positions, `budget` of them, or all if there are no more.

    Raises:
        InvalidOption: The budget is not positive, or smaller than the number of forced tokens.

    Example:
        >>> selected(torch.tensor([0.1, 0.5, 0.5, 0.2, 0.0]), 3, [4])
        [1, 2, 4]
    """
    if budget < 1:
        raise InvalidOption(f"a target of {budget} tokens: at least 1")
    if len(scores) <= budget:
        return list(range(len(scores)))
    kept = set(forced)
    if len(kept) > budget:
        raise InvalidOption(f"a target of {budget} tokens: {len(kept)} are always kept; raise it")
    order = torch.argsort(scores, descending=True, stable=True).tolist()
    free = (place for place in order if place not in kept)
    return sorted(kept | {next(free) for _ in range(budget - len(kept))})


def kept(reading: Reading, scorer: Scorer, budget: int, protect: bool = False) -> list[int]:
    """Positions of a prompt's tokens that a method keeps; a prompt within the budget is kept whole.

    Args:
        reading: The prompt.
        scorer: The method.
        budget: Number of tokens that are kept, those outside of the context included.
        protect: Whether all tokens outside of `reading.context` are kept; in the paper the window alone is.

    Returns:
        Rising positions.

    Raises:
        InvalidOption: The budget is too small for what is always kept, or the prompt for the method.
    """
    if len(reading) <= budget:
        return list(range(len(reading)))
    forced = set(range(len(reading) - min(scorer.forced, len(reading)), len(reading)))
    if protect:
        forced |= set(range(len(reading))) - set(reading.context)
    if budget < max(1, len(forced)):
        selected(torch.zeros(len(reading)), budget, sorted(forced))  # raises before anything is computed
    return selected(scorer(reading, budget), budget, sorted(forced))
