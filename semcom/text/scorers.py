"""Token scores of the baselines: random, truncation, code length, attention without evaluator heads."""

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from semcom.text.ehpc import pooled
from semcom.text.reading import Reading, answered, received_attention


@dataclass(frozen=True)
class RandomTokens:
    """Random tokens, or random runs of tokens.

    Args:
        run: Tokens per run.
        seed: Seed of the choice.
        forced: Number of last tokens that are always kept.
        name: Name of the method.
    """

    run: int = 1
    seed: int = 0
    forced: int = 16
    name: str = "random"

    def __call__(self, reading: Reading, budget: int) -> Float[Tensor, " length"]:
        """Score the tokens of a prompt by one random number per run.

        Args:
            reading: The prompt.
            budget: Number of tokens that will be kept; not used.

        Returns:
            Scores in [0, 1).
        """
        rng = np.random.default_rng([self.seed, len(reading), *reading.ids[:64]])
        runs = rng.random(-(-len(reading) // self.run))
        return torch.from_numpy(np.repeat(runs, self.run)[: len(reading)])


@dataclass(frozen=True)
class Truncation:
    """Truncation in the middle: first and last tokens are kept.

    Args:
        forced: Number of last tokens that are always kept.
        name: Name of the method.

    Reference:
        Bai et al., "LongBench", 2023, cuts prompts that are too long in this way.
    """

    forced: int = 16
    name: str = "truncation"

    def __call__(self, reading: Reading, budget: int) -> Float[Tensor, " length"]:
        """Score the tokens of a prompt by their distance from the nearer end, negative.

        Args:
            reading: The prompt.
            budget: Number of tokens that will be kept; not used.

        Returns:
            Scores.
        """
        place = torch.arange(len(reading))
        return -torch.minimum(place, len(reading) - 1 - place).double()


@dataclass(frozen=True)
class SelfInformation:
    """Code length of each token, -log2 p(token | those before), as Selective-Context ranks by.

    Selective-Context scores every sentence on its own; here a token is conditioned on all before it.

    Args:
        kernel: Length of an average pooling.
        forced: Number of last tokens that are always kept.
        name: Name of the method.

    Reference:
        Li et al., "Compressing Context to Enhance Inference Efficiency of Large Language Models", EMNLP 2023.
    """

    kernel: int = 1
    forced: int = 16
    name: str = "nll"

    def __call__(self, reading: Reading, budget: int) -> Float[Tensor, " length"]:
        """Score the tokens of a prompt; runs the whole model.

        Args:
            reading: The prompt.
            budget: Number of tokens that will be kept; not used.

        Returns:
            Bits, pooled.
        """
        return pooled(reading.nll_bits(), self.kernel)


@dataclass(frozen=True)
class GemFilter:
    """Products of the last query with all keys of one layer, summed over heads, without scaling and softmax.

    Args:
        layer: Number of the layer, from 0.
        kernel: Length of the average pooling.
        forced: Number of last tokens that are always kept; the method forces none.
        name: Name of the method.

    Reference:
        Shi et al., "Discovering the Gems in Early Layers", arXiv 2409.17422.
    """

    layer: int
    kernel: int = 5
    forced: int = 0
    name: str = "gemfilter"

    def __call__(self, reading: Reading, budget: int) -> Float[Tensor, " length"]:
        """Score the tokens of a prompt; runs the layers before `layer` alone.

        Args:
            reading: The prompt.
            budget: Number of tokens that will be kept; not used.

        Returns:
            Scores.
        """
        products = reading.queries_keys(self.layer, 1).products()
        return pooled(products[0, :, 0].sum(0).cpu(), self.kernel)


@dataclass(frozen=True)
class SnapKV:
    """Attention of the last queries, summed over all heads of all layers; SnapKV keeps entries per head.

    Args:
        window: Number of last tokens whose attention counts; they are always kept.
        kernel: Length of the average pooling.
        name: Name of the method.

    Reference:
        Li et al., "SnapKV: LLM Knows What You are Looking for Before Generation", arXiv 2404.14469.
    """

    window: int = 32
    kernel: int = 5
    name: str = "snapkv"

    @property
    def forced(self) -> int:
        """Number of last tokens that are always kept: the window."""
        return self.window

    def __call__(self, reading: Reading, budget: int) -> Float[Tensor, " length"]:
        """Score the tokens of a prompt; runs the whole model.

        Args:
            reading: The prompt.
            budget: Number of tokens that will be kept; not used.

        Returns:
            Scores.

        Raises:
            InvalidOption: The window is longer than the prompt.
        """
        layers = reading.all_layers(self.window)
        total = sum((read.probabilities()[0].sum((0, 1)).cpu() for read in layers), torch.zeros(()))
        return pooled(total, self.kernel)


@dataclass(frozen=True)
class H2O:
    """Attention that a token receives from all later ones, summed over all heads of all layers.

    H2O keeps heavy hitters per head, and as many most recent tokens; of these, `forced` are kept here.

    Args:
        forced: Number of last tokens that are always kept.
        name: Name of the method.

    Reference:
        Zhang et al., "H2O: Heavy-Hitter Oracle", NeurIPS 2023.
    """

    forced: int = 16
    name: str = "h2o"

    def __call__(self, reading: Reading, budget: int) -> Float[Tensor, " length"]:
        """Score the tokens of a prompt; runs the whole model with all rows of its attention.

        Args:
            reading: The prompt.
            budget: Number of tokens that will be kept; not used.

        Returns:
            Scores.
        """
        return received_attention(reading.lm, reading.tokens).cpu()


@dataclass(frozen=True)
class LLMLingua:
    """Code length in the running compressed context: segments are compressed one after the other.

    Every segment keeps the same share of its tokens, those of the largest code length given what is kept of
    the segments before.

    Args:
        segment: Tokens per segment.
        forced: Number of last tokens that are always kept.
        name: Name of the method.

    Reference:
        Jiang et al., "LLMLingua", EMNLP 2023.
    """

    segment: int = 200
    forced: int = 16
    name: str = "llmlingua"

    def __call__(self, reading: Reading, budget: int) -> Float[Tensor, " length"]:
        """Rank each token by code length among the tokens of its segment; 1 for the largest.

        Args:
            reading: The prompt.
            budget: Number of tokens that will be kept; a share of them is the context of later segments.

        Returns:
            Ranks in a segment, in (0, 1].
        """
        share = budget / len(reading)
        kept: list[int] = []
        scores = torch.zeros(len(reading))
        for first in range(0, len(reading), self.segment):
            part = reading.ids[first : first + self.segment]
            bits, _ = answered(reading.lm, [reading.lm.start, *kept], part)
            scores[first : first + len(part)] = _ranks(bits)
            chosen = torch.argsort(bits, descending=True, stable=True)[: max(1, round(share * len(part)))]
            kept += [part[i] for i in sorted(chosen.tolist())]
        return scores


@dataclass(frozen=True)
class LongLLMLingua:
    """Documents ranked by the code length of the question given them, tokens by contrastive code length.

    Documents are segments of the context. Those after which the question has the smallest mean code length
    are kept, up to the budget and `extra` tokens. A token of a kept document scores its code length without
    the question minus its code length after the question; documents of better rank keep a larger share of
    their tokens. All tokens outside of the context are kept.

    Args:
        segment: Tokens per document.
        extra: Tokens above the budget that documents may have.
        shift: Half of the difference between the kept shares of the best and the worst document.
        forced: Number of last tokens that are always kept.
        name: Name of the method.

    Reference:
        Jiang et al., "LongLLMLingua", ACL 2024.
    """

    segment: int = 200
    extra: int = 100
    shift: float = 0.3
    forced: int = 16
    name: str = "longllmlingua"

    def __call__(self, reading: Reading, budget: int) -> Float[Tensor, " length"]:
        """Score the tokens of a prompt: kept documents above -shift, others at most -1, the question 2.

        Args:
            reading: The prompt; its last tokens after the context are the question.
            budget: Number of tokens that will be kept.

        Returns:
            Scores.
        """
        lm, context = reading.lm, reading.context
        question = reading.ids[context.stop :] or reading.ids[-self.forced :]
        parts = [
            range(first, min(first + self.segment, context.stop))
            for first in range(context.start, context.stop, self.segment)
        ]
        ids = [[reading.ids[i] for i in part] for part in parts]
        surprise = [float(answered(lm, [lm.start, *part], question)[0].mean()) for part in ids]
        order = sorted(range(len(parts)), key=lambda i: surprise[i])
        room = budget - (len(reading) - len(context)) + self.extra
        ends = [0, *accumulate(len(parts[number]) for number in order)]
        kept = sum(rank == 0 or end < room for rank, end in enumerate(ends[:-1]))
        scores = torch.full((len(reading),), 2.0)
        for rank, number in enumerate(order):
            part = list(parts[number])
            if rank < kept:
                alone, _ = answered(lm, [lm.start], ids[number])
                asked, _ = answered(lm, [lm.start, *question], ids[number])
                lift = self.shift * (1 - 2 * rank / (kept - 1)) if kept > 1 else 0.0
                scores[part] = _ranks(alone - asked) + lift
            else:
                scores[part] = -1 - rank / len(order)
        return scores


def _ranks(values: Tensor) -> Tensor:
    """Ranks in (0, 1]: 1 for the largest; of equal values the earlier one has the higher rank."""
    order = torch.argsort(values, descending=True, stable=True)
    found = torch.empty(len(values))
    found[order] = 1 - torch.arange(len(values)) / len(values)
    return found
