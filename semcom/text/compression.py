"""Compress prompts in the call shape of LLMLingua: `PromptCompressor("smollm2").compress_prompt(...)`."""

import math
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch

from semcom.errors import InvalidOption, InvalidSource
from semcom.modalities.text import TEXT
from semcom.surroundings import library_defaults
from semcom.text.attention import check_window
from semcom.text.cost import Cost
from semcom.text.ehpc import EHPC, KERNEL, Scorer, selected
from semcom.text.heads import EvaluatorHeads, check_rule, measured_masses, token_places
from semcom.text.lm import LanguageModel, load
from semcom.text.reading import Reading
from semcom.text.units import Unit, fitted, joined, pieces, words

CHUNK = 2048  # tokens of a context that are scored together, with instruction and question around them
MOST_CHARACTERS = 1 << 20
GENERIC = "\n\nIn short, the most important facts of this text are"
"""Question by which a context is scored if there is none."""
SNAPS = ("word", "token")
BUDGETS = ("context", "prompt")


@dataclass(frozen=True)
class Options:
    """How a prompt is compressed.

    Args:
        window: Number of last tokens whose attention counts; None for the question, at least 16.
        kernel: Length of the average pooling.
        snap: "word" keeps whole words, "token" single tokens, but numbers whole.
        budget: What the target counts: the tokens of the "context", or of the whole "prompt".
        protect_question: Whether question and instruction are kept whole.
        keep_digits: Whether every word with a digit is kept.
        force: Texts whose words are kept wherever they stand.
    """

    window: int | None = None
    kernel: int = KERNEL
    snap: str = "word"
    budget: str = "context"
    protect_question: bool = True
    keep_digits: bool = False
    force: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.snap not in SNAPS:
            raise InvalidOption(f"snap {self.snap!r}: choose {', '.join(SNAPS)}")
        if self.budget not in BUDGETS:
            raise InvalidOption(f"budget {self.budget!r}: choose {', '.join(BUDGETS)}")
        if self.window is not None and self.window < 1:
            raise InvalidOption(f"a window of {self.window} tokens: at least 1")


class PromptCompressor:
    """Compress prompts by the evaluator heads of a language model.

    Constructor and `compress_prompt` take the arguments of LLMLingua's class of this name, so that a script
    changes one import. What tunes LLMLingua's own algorithm is accepted and has no effect.

    Args:
        model_name: "smollm2", a folder, a GGUF file, or a name of the Hugging Face hub.
        device_map: Device of the weights: "cpu", "cuda" or "cuda:N".
        model_config: Accepted for LLMLingua's sake; without effect.
        open_api_config: Accepted for LLMLingua's sake; without effect.
        use_llmlingua2: Accepted for LLMLingua's sake; without effect.
        llmlingua2_config: Accepted for LLMLingua's sake; without effect.
        dtype: "float32" or "bfloat16".
        rule: How the layer is chosen: "earliest", "best-head" or "sum".
        heads: Layer and heads; None finds them by a probe, once per model.
        told: Called with steps done and steps in all, of the probe and of long contexts.

    Raises:
        MissingPackage: `transformers` is not installed.
        MissingWeights: The model is not installed, damaged, or has another architecture.
        NoEvaluatorHeads: No head of the model looks back at what is asked for.
    """

    @library_defaults()
    def __init__(
        self,
        model_name: str = "smollm2",
        device_map: str = "cpu",
        model_config: dict[str, Any] | None = None,
        open_api_config: dict[str, Any] | None = None,
        use_llmlingua2: bool = False,
        llmlingua2_config: dict[str, Any] | None = None,
        *,
        dtype: str = "float32",
        rule: str = "earliest",
        heads: EvaluatorHeads | None = None,
        told: Callable[[int, int], None] | None = None,
    ) -> None:
        check_rule(rule)
        self.lm = load(model_name, device_map, dtype)
        self.heads = heads or measured_masses(self.lm, told=told).heads(rule)
        self.told = told

    @staticmethod
    def around(lm: LanguageModel, heads: EvaluatorHeads) -> "PromptCompressor":
        """Compressor of a model that is loaded already.

        Args:
            lm: The model.
            heads: Layer and heads.

        Returns:
            The compressor.
        """
        made = PromptCompressor.__new__(PromptCompressor)
        made.lm, made.heads, made.told = lm, heads, None
        return made

    @library_defaults()
    def compress_prompt(
        self,
        context: str | Sequence[str],
        instruction: str = "",
        question: str = "",
        rate: float | int = 0.5,
        target_token: float | int = -1,
        iterative_size: int = 200,
        force_context_ids: Sequence[int] | None = None,
        force_context_number: int | None = None,
        use_sentence_level_filter: bool = False,
        use_context_level_filter: bool = True,
        use_token_level_filter: bool = True,
        keep_split: bool = False,
        keep_first_sentence: int = 0,
        keep_last_sentence: int = 0,
        keep_sentence_number: int = 0,
        high_priority_bonus: int = 100,
        context_budget: str = "+100",
        token_budget_ratio: float | int = 1.4,
        condition_in_question: str = "none",
        reorder_context: str = "original",
        dynamic_context_compression_ratio: float | int = 0.0,
        condition_compare: bool = False,
        add_instruction: bool = False,
        rank_method: str = "llmlingua",
        concate_question: bool = True,
        context_segs: Sequence[str] | None = None,
        context_segs_rate: Sequence[float] | None = None,
        context_segs_compress: Sequence[bool] | None = None,
        target_context: int = -1,
        context_level_rate: float | int = 1.0,
        context_level_target_token: int = -1,
        return_word_label: bool = False,
        word_sep: str = "\t\t|\t\t",
        label_sep: str = " ",
        token_to_word: str = "mean",
        force_tokens: Sequence[str] = (),
        force_reserve_digit: bool = False,
        drop_consecutive: bool = False,
        chunk_end_tokens: Sequence[str] = (".", "\n"),
        strict_preserve_uncompressed: bool = True,
        *,
        protect_question: bool = True,
        budget: str = "context",
        snap: str = "word",
        window: int | None = None,
        kernel: int = KERNEL,
        scorer: Scorer | None = None,
    ) -> dict[str, Any]:
        """Compress a prompt to a share or a number of its tokens; what is kept stays in its order.

        The target is met exactly where words allow it, and never exceeded. With budget="context" it counts
        the tokens of the compressed contexts, as LLMLingua's `target_token` and LLMLingua-2's `rate` do; with
        budget="prompt" those of instruction and question too, as LLMLingua's `rate` and EHPC do. A prompt
        within the target is returned as it is.

        Args:
            context: Text, or several texts.
            instruction: Text before the contexts.
            question: Text after them, by which they are scored.
            rate: Share of the tokens that is kept, in (0, 1].
            target_token: Number of tokens that are kept, at least 1; -1 for `rate`.
            iterative_size: Without effect, as all further arguments of LLMLingua up to `rank_method`.
            force_context_ids: Without effect.
            force_context_number: Without effect.
            use_sentence_level_filter: Without effect.
            use_context_level_filter: Without effect.
            use_token_level_filter: Without effect.
            keep_split: Without effect.
            keep_first_sentence: Without effect.
            keep_last_sentence: Without effect.
            keep_sentence_number: Without effect.
            high_priority_bonus: Without effect.
            context_budget: Without effect.
            token_budget_ratio: Without effect.
            condition_in_question: Without effect.
            reorder_context: Without effect; contexts keep their order.
            dynamic_context_compression_ratio: Without effect.
            condition_compare: Without effect.
            add_instruction: Without effect.
            rank_method: Without effect.
            concate_question: Whether the compressed prompt ends with the question.
            context_segs: Refused: give the parts as contexts.
            context_segs_rate: Without effect.
            context_segs_compress: Without effect.
            target_context: Without effect; all contexts are kept.
            context_level_rate: Without effect.
            context_level_target_token: Without effect.
            return_word_label: Refused: see `kept_indices`.
            word_sep: Without effect.
            label_sep: Without effect.
            token_to_word: Without effect.
            force_tokens: Texts whose words are kept wherever they stand.
            force_reserve_digit: Whether every word with a digit is kept.
            drop_consecutive: Without effect.
            chunk_end_tokens: Without effect.
            strict_preserve_uncompressed: Without effect.
            protect_question: Whether question and instruction are kept whole.
            budget: "context" or "prompt".
            snap: "word" keeps whole words, "token" single tokens.
            window: Number of last tokens whose attention counts; None for the question, at least 16.
            kernel: Length of the average pooling.
            scorer: Another method; None for the evaluator heads. `flops` counts one skim up to their layer
                in either case.

        Returns:
            LLMLingua's keys `compressed_prompt` (parts joined by an empty line), `compressed_prompt_list`,
            `origin_tokens`, `compressed_tokens`, `ratio` ("5.1x"), `rate` ("19.6%"), `saving`; and
            `kept_indices` (of the context's tokens), `token_scores`, `layer`, `heads`, `seconds`, `flops`.

        Raises:
            InvalidOption: Rate, target or an option is out of range, or smaller than what must be kept.
            InvalidSource: There is no context, it is too long, or a text has a lone surrogate.
        """
        options = Options(
            window, kernel, snap, budget, protect_question, force_reserve_digit, tuple(force_tokens)
        )
        if return_word_label:
            raise InvalidOption("return_word_label: not offered; `kept_indices` tells what was kept")
        if context_segs is not None:
            raise InvalidOption("context_segs: not offered; give the parts as a list of contexts")
        contexts = [context] if isinstance(context, str) else list(context)
        start = time.perf_counter()
        found = self._compressed(contexts, instruction, question, rate, target_token, options, scorer)
        parts = [instruction, *found.texts, question if concate_question else ""]
        text = "\n\n".join(part for part in parts if part)
        before = self.size(instruction) + self.size(question) + found.tokens
        after = self.size(instruction) + self.size(question) * concate_question + found.kept
        return {
            "compressed_prompt": text,
            "compressed_prompt_list": found.texts,
            "origin_tokens": before,
            "compressed_tokens": after,
            "ratio": f"{before / max(1, after):.1f}x",
            "rate": f"{100 * after / max(1, before):.1f}%",
            "saving": "",
            "context_tokens": found.kept,
            "kept_indices": found.indices,
            "token_scores": found.scores,
            "layer": self.heads.layer,
            "heads": list(self.heads.heads),
            "seconds": round(time.perf_counter() - start, 3),
            "flops": found.flops,
        }

    def size(self, text: str) -> int:
        """Number of tokens of a text.

        Args:
            text: Any text.

        Returns:
            The number, without special tokens.
        """
        return len(self.lm.encode(text)) if text else 0

    def _compressed(
        self,
        contexts: list[str],
        instruction: str,
        question: str,
        rate: float | int,
        target_token: float | int,
        options: Options,
        scorer: Scorer | None,
    ) -> "_Found":
        check_contexts(contexts)
        for part in (instruction, question):
            TEXT.check(part)
        read = [token_places(self.lm, part) for part in contexts]
        total = sum(len(ids) for ids, _ in read)
        around = self.size(instruction) + self.size(question)
        target = _target(rate, target_token, total, around, options)
        head = self.lm.encode(f"{instruction}\n\n") if instruction else [self.lm.start]
        tail = self.lm.encode(f"\n\n{question}" if question else GENERIC)
        chunk = min(CHUNK, self.lm.window - len(head) - len(tail))
        length = len(head) + min(max(chunk, 0), total) + len(tail)
        if options.window is not None:
            check_window(options.window, length)
        if total <= target:
            kept = list(range(total))
            return _Found(list(contexts), total, total, kept, [], 0.0)
        if chunk < 1:
            raise InvalidOption(
                f"instruction and question of {len(head) + len(tail)} tokens: {self.lm.name} reads "
                f"{self.lm.window}; shorten them"
            )
        window = min(max(16, len(tail)), length) if options.window is None else options.window
        method = scorer or EHPC(self.heads.layer, self.heads.heads, window, options.kernel)
        ids = [token for tokens, _ in read for token in tokens]
        scores, flops = self._scores(ids, head, tail, chunk, window, method)
        units, owners = self._units(contexts, read, options)
        means = [float(scores[unit.first : unit.last].mean()) for unit in units]
        forced = _forced(contexts, units, owners, options)
        least = sum(units[i].last - units[i].first for i in forced)
        if least > target:
            raise InvalidOption(
                f"a target of {target} tokens: words with digits and forced words alone have {least}; "
                "raise it"
            )

        def texts_of(chosen: Sequence[int]) -> list[str]:
            found = []
            for number in range(len(contexts)):
                own = [i for i in range(len(units)) if owners[i] == number]
                place = {i: j for j, i in enumerate(own)}
                found.append(joined([units[i] for i in own], [place[i] for i in chosen if i in place]))
            return found

        chosen = fitted(units, means, forced, target, lambda chosen: sum(map(self.size, texts_of(chosen))))
        texts = texts_of(chosen)
        if (least := sum(map(self.size, texts))) > target:  # joints of forced words may add a token
            raise InvalidOption(f"a target of {target} tokens: forced words alone have {least}; raise it")
        indices = [i for number in chosen for i in range(units[number].first, units[number].last)]
        if not "".join(texts).strip():
            raise InvalidOption(f"a target of {target} tokens: no word is as short; raise it, or snap tokens")
        kept = sum(map(self.size, texts))
        return _Found(texts, total, kept, indices, [round(float(s), 8) for s in scores], flops)

    def _units(
        self,
        contexts: Sequence[str],
        read: Sequence[tuple[list[int], list[tuple[int, int]]]],
        options: Options,
    ) -> tuple[list[Unit], list[int]]:
        split = words if options.snap == "word" else pieces
        units, owners, before = [], [], 0
        for number, (text, (ids, places)) in enumerate(zip(contexts, read, strict=True)):
            for unit in split(text, places):
                units.append(Unit(unit.first + before, unit.last + before, unit.text))
                owners.append(number)
            before += len(ids)
        return units, owners

    def _scores(
        self, ids: list[int], head: list[int], tail: list[int], chunk: int, window: int, method: Scorer
    ) -> tuple[torch.Tensor, float]:
        """Scores of the context's tokens, chunk by chunk, and operations of the skims."""
        lm = self.lm
        count = -(-len(ids) // chunk)
        size = -(-len(ids) // count)  # chunks of equal length, so that none is short
        parts, flops = [], 0.0
        for first in range(0, len(ids), size):
            part = ids[first : first + size]
            reading = Reading(lm, [*head, *part, *tail], range(len(head), len(head) + len(part)))
            forced = min(method.forced, len(reading))
            scores = method(reading, max(forced, len(reading) // 4))
            parts.append(self._inside(reading, scores, method))
            flops += Cost.of(lm).skim(len(reading), self.heads.layer, window)
            if self.told is not None:
                self.told(first // size + 1, count)
        return torch.cat(parts), flops

    @staticmethod
    def _inside(reading: Reading, scores: torch.Tensor, method: Scorer) -> torch.Tensor:
        """Scores of the context; its tokens inside of the window, which have none, get the largest."""
        found = scores.double().clone()
        if method.forced > len(reading) - reading.context.stop:
            found[len(reading) - method.forced :] = found.max()
        return found[reading.context.start : reading.context.stop]


@dataclass(frozen=True)
class _Found:
    """Compressed contexts, their tokens before and after, kept tokens, scores and operations."""

    texts: list[str]
    tokens: int
    kept: int
    indices: list[int]
    scores: list[float]
    flops: float


def _target(rate: float | int, target_token: float | int, total: int, around: int, options: Options) -> int:
    """Tokens of all contexts that are kept, of `total`, beside `around` of instruction and question."""
    if target_token != -1:
        if not 1 <= target_token < math.inf or target_token != int(target_token):
            raise InvalidOption(f"a target of {target_token:g} tokens: choose a whole number from 1 on")
        target = int(target_token)
    elif not 0 < rate <= 1:
        raise InvalidOption(f"a rate of {rate:g}: choose a share of the tokens above 0, up to 1")
    else:
        target = max(1, round(rate * (total + (around if options.budget == "prompt" else 0))))
    if options.budget == "context":
        return target
    if not options.protect_question:
        raise InvalidOption(
            'budget "prompt" without protect_question: in a text the question stays; use '
            "semcom.text.ehpc.kept for tokens"
        )
    if target <= around:
        raise InvalidOption(
            f"a target of {target} tokens: instruction and question alone have {around}; raise it"
        )
    return target - around


def _forced(
    contexts: Sequence[str], units: Sequence[Unit], owners: Sequence[int], options: Options
) -> list[int]:
    """Units that are always kept: those with a digit if asked for, and those that a forced text touches."""
    found = {i for i, unit in enumerate(units) if options.keep_digits and any(map(str.isdigit, unit.text))}
    for number, text in enumerate(contexts):
        own = [i for i in range(len(units)) if owners[i] == number]
        ends = list(accumulate(len(units[i].text) for i in own))
        for part in filter(None, options.force):
            for match in re.finditer(re.escape(part), text):
                first, last = bisect_right(ends, match.start()), bisect_right(ends, match.end() - 1)
                found |= set(own[first : last + 1])
    return sorted(found)


def check_contexts(contexts: Sequence[str]) -> None:
    """Check, before a model is loaded, that there is something to compress, and not too much.

    Args:
        contexts: The texts.

    Raises:
        InvalidSource: No text has a word, one has a lone surrogate, or together they have more than a million
            characters.
    """
    size = sum(map(len, contexts))
    if size > MOST_CHARACTERS:
        raise InvalidSource(
            f"a text of {size} characters: at most {MOST_CHARACTERS} are compressed; split it"
        )
    if not any([bool(TEXT.check(part).strip()) for part in contexts]):  # every one is checked
        raise InvalidSource("a text without a word: there is nothing to compress; give another")


def compressed_ids(
    lm: LanguageModel, heads: EvaluatorHeads, ids: Sequence[int], target: int, window: int = 16
) -> list[int]:
    """Compress a prompt for the model itself: the kept tokens, read again as a prompt of their own.

    Args:
        lm: The model.
        heads: Layer and heads.
        ids: Tokens of the prompt, question last.
        target: Number of tokens that are kept, the window included.
        window: Number of last tokens whose attention counts; they are always kept.

    Returns:
        Tokens, `target` of them or all if there are no more.

    Raises:
        InvalidOption: The target is smaller than the window.
    """
    if len(ids) <= target:
        return list(ids)
    forced = range(len(ids) - window, len(ids))
    if target < window:
        selected(torch.zeros(len(ids)), target, forced)  # raises before anything is computed
    scores = EHPC.of(heads, window)(Reading(lm, ids), target)
    return [ids[i] for i in selected(scores, target, forced)]
