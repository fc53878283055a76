"""Guesses of a language model for lost parts of texts, always marked as such."""

import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from channels import Streams
from semcom.errors import InvalidOption
from semcom.modalities.text import TextShape
from semcom.observation import Gaps, Observation
from semcom.text.lm import LanguageModel, load

OPENING, CLOSING = "⟦", "⟧"
"""Brackets around every guess."""
WORDS = 8
"""Most words of a guess."""
LEFT, RIGHT = 200, 24  # tokens of context in front of a gap, and behind it
CANDIDATES = 4

_GUESS = re.compile(f"{OPENING}[^{OPENING}{CLOSING}]*{CLOSING}")


@dataclass(frozen=True)
class Restoration:
    """Receiver of texts in packets that adds guesses of a language model behind the marks of lost parts.

    For each gap the most probable first words are continued greedily, and the continuation under which the
    text behind the gap is most probable is shown in brackets, "…⟦a guess⟧"; none is shown if the text goes on
    better without any. What was received stays as it is, and `as_received` takes the guesses away again: a
    guess is never presented as something that arrived. In records, metrics measure what was received;
    `as_restored` gives the text with guesses in place of gaps, to be scored apart. Texts that contain such
    brackets themselves are left as they are.

    Args:
        model: Name of the language model, see `semcom.text.lm.load`.
        words: Most words of a guess, at least 1.
        device: Device of the model.

    Raises:
        InvalidOption: `words` is smaller than 1.
    """

    model: str = "smollm2"
    words: int = WORDS
    device: str = field(default="cpu", compare=False)

    def __post_init__(self) -> None:
        if self.words < 1:
            raise InvalidOption(f"guesses of {self.words} words: give at least 1")

    @property
    def name(self) -> str:
        """Canonical name: "restore", or "restore:MODEL" with another model than SmolLM2."""
        return "restore" if self.model == "smollm2" else f"restore:{self.model}"

    @property
    def guess_marks(self) -> tuple[str, str]:
        """Brackets around every guess."""
        return (OPENING, CLOSING)

    def __call__(self, observation: Observation[str], shape: TextShape, rng: Streams) -> str | None:
        """Add guesses for the gaps of an observation.

        Args:
            observation: Observation of the text.
            shape: Shape of a text, which is empty.
            rng: Random numbers of the receiver, which are not used.

        Returns:
            The text with guesses in brackets; as it is if nothing is missing; None for a lost one.

        Raises:
            MissingWeights: The language model is absent or damaged.
        """
        text = observation.shown
        if text is None or OPENING in text or CLOSING in text:
            return text
        for evidence in observation.evidence:
            if isinstance(evidence, Gaps):
                return self._restored(evidence)
        return text

    def _restored(self, gaps: Gaps[str]) -> str:
        runs = list(_runs(gaps))
        received = [("" if missing else run) for run, missing in runs]
        shown: list[str] = []
        for i, (run, missing) in enumerate(runs):
            shown.append(run)
            if missing:
                guess = guessed(
                    _loaded(self.model, self.device), "".join(received[:i]), "".join(received[i:]), self.words
                )
                if guess:
                    mark = run.rstrip()
                    shown[-1] = f"{mark}{OPENING}{guess}{CLOSING}{run[len(mark) :]}"
        return "".join(shown)


def as_received(text: str) -> str:
    """A restored text without guesses.

    Args:
        text: Text shown by `Restoration`.

    Returns:
        What was received, with the marks of lost parts.

    Example:
        >>> as_received("The number is …⟦one of the⟧ known.")
        'The number is … known.'
    """
    return _GUESS.sub("", text)


def as_restored(text: str, mark: str = "…") -> str:
    """A restored text with guesses in place of marks, to be scored apart from what was received.

    Args:
        text: Text shown by `Restoration`, of an original that has no such mark of its own, which would be
            taken for one of a lost part if a guess follows it.
        mark: Mark of a lost part.

    Returns:
        The text with each marked guess in place of mark and brackets.

    Example:
        >>> as_restored("The number is …⟦one of the⟧ known.")
        'The number is one of the known.'
    """
    return re.sub(f"(?:{re.escape(mark)} *)+{OPENING}([^{OPENING}{CLOSING}]*){CLOSING}", r"\1", text)


def guesses(text: str) -> list[str]:
    """The guesses in a restored text.

    Args:
        text: Text shown by `Restoration`.

    Returns:
        Each guess, without brackets.
    """
    return [found.group()[1:-1] for found in _GUESS.finditer(text)]


@torch.no_grad()
def guessed(lm: LanguageModel, before: str, behind: str, words: int) -> str:
    """Guess of a lost part between two parts of a text.

    Args:
        lm: Language model.
        before: Text in front of the gap.
        behind: Text behind it.
        words: Most words of the guess.

    Returns:
        The guess; empty if the text behind the gap is no less probable without one.
    """
    left = [lm.start, *lm.encode(before.rstrip())[-min(LEFT, lm.window // 2) :]]
    right = lm.encode((" " + behind.lstrip())[: 6 * RIGHT])[:RIGHT] if behind.strip() else []
    first, cache = lm.step(torch.tensor([left]))
    limit = min(3 * words, lm.window - len(left) - len(right) - 1)
    options = _continued(lm, cache, first[0, -1].topk(CANDIDATES).indices.tolist(), limit, words)
    texts = [_cleaned(lm.decode(option), words) for option in options]
    candidates = ["", *dict.fromkeys(text for text in texts if text)]
    if not right:
        return candidates[min(1, len(candidates) - 1)]
    scores = [
        _bits(lm, cache, first[:, -1:], lm.encode(" " + text if text else ""), right) for text in candidates
    ]
    return candidates[min(range(len(candidates)), key=lambda i: scores[i])]


def _continued(
    lm: LanguageModel, cache: Any, firsts: Sequence[int], limit: int, words: int
) -> list[list[int]]:
    """Greedy continuations of a text from several first tokens, all in one batch, each up to its end."""
    rows = deepcopy(cache)
    rows.batch_repeat_interleave(len(firsts))
    options = [[first] for first in firsts]
    growing = set(range(len(firsts)))
    last = list(firsts)
    while growing := {
        i for i in growing if len(options[i]) < limit and len(lm.decode(options[i]).split()) <= words
    }:
        logits, rows = lm.step(torch.tensor([[token] for token in last]), rows)
        last = logits[:, -1].argmax(1).tolist()
        for i in tuple(growing):
            options[i].append(last[i])
            if re.search(r"[.!?\n]$", lm.decode(options[i])):
                growing.remove(i)
    return options


def _cleaned(text: str, words: int) -> str:
    """First line of a guess without brackets, at most so many words."""
    lines = text.strip().splitlines()
    found = " ".join(lines[0].split()[:words]) if lines else ""
    return re.sub(r"<\|[a-z_]+\|>|[⟦⟧]", "", found).strip()


def _bits(lm: LanguageModel, cache: Any, first: Tensor, guess: Sequence[int], right: Sequence[int]) -> float:
    """Code length of the text behind a gap, the larger the worse."""
    tokens = [*guess, *right]
    later = lm.step(torch.tensor([tokens[:-1]]), deepcopy(cache))[0] if len(tokens) > 1 else first[:, :0]
    log_p = torch.cat((first, later), 1)[0, len(guess) :].double().log_softmax(-1)
    return -float(log_p.gather(1, torch.tensor(right, device=log_p.device)[:, None]).sum())


def _runs(gaps: Gaps[str]) -> Iterator[tuple[str, bool]]:
    """Runs of characters that arrived or are missing; adjacent marks of lost parts are one run."""
    start = 0
    for i in range(1, len(gaps.x) + 1):
        if i == len(gaps.x) or gaps.missing[i] != gaps.missing[start]:
            yield gaps.x[start:i], gaps.missing[start]
            start = i


@lru_cache(maxsize=1)
def _loaded(model: str, device: str) -> LanguageModel:
    return load(model, device)
