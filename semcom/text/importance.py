"""Importance of the parts of a text, by rules or by a question: what a transmitter protects best."""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from semcom.errors import InvalidOption, UnknownName
from semcom.modalities.text import TEXT

if TYPE_CHECKING:
    from semcom.text.heads import EvaluatorHeads
    from semcom.text.lm import LanguageModel

MOST_CHARACTERS = 160
"""Longest unit; longer sentences are divided at blanks."""
NUMBER_WEIGHT = 4.0
"""Weight of a word with a digit, in units of a word that occurs in one of the units only."""

_SENTENCE = re.compile("[.!?…]+[\"')\\]\u201d\u2019]*\\s+|\\n\\s*")


@runtime_checkable
class Importance(Protocol):
    """A rule that weighs the units of a text, known to the transmitter alone."""

    @property
    def name(self) -> str:
        """Canonical name, part of the names of schemes."""
        ...

    def __call__(self, text: str, units: Sequence[range]) -> Sequence[float]:
        """Weigh the units of a text.

        Args:
            text: The text.
            units: Places of the characters of each unit; together they are the text.

        Returns:
            One weight per unit, finite and at least 0; only their ratios matter.
        """
        ...


@dataclass(frozen=True)
class Equal:
    """Importance that weighs every character of a text alike."""

    @property
    def name(self) -> str:
        """Canonical name, always "equal"."""
        return "equal"

    def __call__(self, text: str, units: Sequence[range]) -> list[float]:
        """Number of characters of each unit; see `Importance`."""
        return [float(len(unit)) for unit in units]


@dataclass(frozen=True)
class Digits:
    """Units by the number of their words that hold a digit; all others weigh little."""

    @property
    def name(self) -> str:
        """Canonical name, always "digits"."""
        return "digits"

    def __call__(self, text: str, units: Sequence[range]) -> list[float]:
        """Number of words with a digit, and 0.01 per word; see `Importance`."""
        words = [text[unit.start : unit.stop].split() for unit in units]
        return [sum(any(map(str.isdigit, word)) + 0.01 for word in own) for own in words]


@dataclass(frozen=True)
class Rules:
    """Sum over the words of a unit: rare words count most, numbers more, words in every unit nothing.

        w = sum over words of log(units / units with the word), and 4 times the largest such term per number

    It is the inverse document frequency with units as documents, plus a bonus for numbers, since these cannot
    be guessed.

    Reference:
        Spärck Jones, "A statistical interpretation of term specificity", 1972.
    """

    @property
    def name(self) -> str:
        """Canonical name, always "rules"."""
        return "rules"

    def __call__(self, text: str, units: Sequence[range]) -> list[float]:
        """Weigh the units; see `Importance`."""
        words = [re.findall(r"\w+", text[unit.start : unit.stop].lower()) for unit in units]
        spread = Counter(word for own in words for word in set(own))
        most = math.log(len(units) + 1)

        def weight(word: str) -> float:
            rare = math.log((len(units) + 1) / spread[word])
            return rare + NUMBER_WEIGHT * most * any(map(str.isdigit, word))

        return [sum(map(weight, own)) for own in words]


@dataclass(frozen=True)
class Scored:
    """Importance by a function of your own, for instance attention of a language model to a question.

    Args:
        name: Canonical name.
        score: Function of a text, one number per character, at least 0; the weight of a unit is their sum.

    Example:
        >>> vowels = Scored("vowels", lambda text: [float(c in "aeiou") for c in text])
        >>> vowels("no, aioli", [range(0, 4), range(4, 9)])
        [1.0, 4.0]
    """

    name: str
    score: Callable[[str], Sequence[float]] = field()

    def __call__(self, text: str, units: Sequence[range]) -> list[float]:
        """Sum of the scores of the characters of each unit; see `Importance`."""
        scores = self.score(text)
        if len(scores) != len(text):
            raise InvalidOption(
                f"importance {self.name}: {len(scores)} scores for {len(text)} characters; give one for each"
            )
        return [math.fsum(scores[unit.start : unit.stop]) for unit in units]


@dataclass(frozen=True)
class Asked:
    """Importance by evaluator heads: attention from the receiver's question back to each unit.

        w = sum_{j in unit} sum_{h in heads} mean_{i in question} A_h(i, j)

    where A_h(i, j) is the attention of head h from token i back to token j.

    The transmitter reads text and question with a language model up to the layer of its evaluator heads (see
    `semcom.text.heads`); it knows what the receiver will ask, but no answer. Attention is summed over a unit,
    not pooled over neighbouring tokens as in the selection of single tokens. The attention to the first
    token, the usual attention sink, is set to 0.

    Args:
        question: What the receiver will ask of the text.
        model: Name of the language model, see `semcom.text.lm.load`.
        weights: Digest of its weights, part of the definition.
        device: Device of the model.

    Raises:
        InvalidOption: The question is empty.
        InvalidSource: The question has a lone surrogate.

    Reference:
        Fei et al., "Efficient Prompt Compression with Evaluator Heads for Long-Context Transformer
        Inference", arXiv 2501.12959, equation 1.
    """

    question: str
    model: str = "smollm2"
    weights: str = ""
    device: str = field(default="cpu", compare=False)

    def __post_init__(self) -> None:
        if not TEXT.check(self.question).strip():
            raise InvalidOption("importance ehpc: an empty question; spell it ehpc:QUESTION")

    @property
    def name(self) -> str:
        """Canonical name, "ehpc:" and the question."""
        return f"{ASKED}:{self.question}"

    def __call__(self, text: str, units: Sequence[range]) -> list[float]:
        """Sum of the attention to the characters of each unit; see `Importance`.

        Raises:
            NoEvaluatorHeads: The model has no evaluator heads.
            InvalidOption: The text is longer than the model reads.
        """
        scores = _attention(self, text)
        return [math.fsum(scores[unit.start : unit.stop]) for unit in units]


@lru_cache(maxsize=256)  # several SNRs and lengths of units ask for the same
def _attention(asked: Asked, text: str) -> tuple[float, ...]:
    """Attention of the question to each character of a text; a token's is shared by its characters."""
    from semcom.text.ehpc import EHPC
    from semcom.text.heads import token_places
    from semcom.text.reading import Reading
    from semcom.text.tasks import BETWEEN, HEAD

    lm, heads = _model(asked.model, asked.device)
    tail = f"{BETWEEN}{asked.question}\n"
    ids, places = token_places(lm, HEAD + text + tail)
    if len(ids) > lm.window:
        raise InvalidOption(
            f"importance ehpc: text and question have {len(ids)} tokens, {asked.model} reads at most "
            f"{lm.window}; send a shorter text"
        )
    window = sum(last > len(HEAD) + len(text) for _, last in places)
    method = EHPC(heads.layer, heads.heads, window, kernel=1, exclude_sink=True)
    found = [0.0] * len(text)
    for score, (first, last) in zip(method(Reading(lm, ids), len(ids)).tolist(), places, strict=True):
        first, last = max(first - len(HEAD), 0), min(last - len(HEAD), len(text))
        for i in range(first, last):
            found[i] += score / (last - first)
    return tuple(found)


@lru_cache(maxsize=1)
def _model(name: str, device: str) -> "tuple[LanguageModel, EvaluatorHeads]":
    from semcom.text.heads import measured_masses
    from semcom.text.lm import load

    lm = load(name, device)
    return lm, measured_masses(lm).heads()


RULES: tuple[Importance, ...] = (Rules(), Digits(), Equal())
"""Rules by which importance is judged without a model."""
ASKED = "ehpc"
"""Name of the importance by a question."""


def importance_named(name: str) -> Importance:
    """Look up a rule of importance by name.

    Args:
        name: "rules", "digits", "equal", or "ehpc:" and the receiver's question.

    Returns:
        The rule.

    Raises:
        UnknownName: There is no such rule.
        InvalidOption: The question is empty.
        InvalidSource: The question has a lone surrogate.
        MissingWeights: The language model that reads the question is not installed.
    """
    if name.split(":")[0] == ASKED:
        from semcom.text.coding import weights_digest

        asked = Asked(name.partition(":")[2])  # the question is checked before the weights are looked for
        return replace(asked, weights=weights_digest(asked.model))
    found = {rule.name: rule for rule in RULES}
    if name not in found:
        raise UnknownName(
            f"no importance called {name!r}; there are {', '.join(found)}, {ASKED}:QUESTION, and "
            "package.module:NAME"
        )
    return found[name]


def sentences(text: str, most: int = MOST_CHARACTERS) -> list[range]:
    """Divide a text into sentences with the blanks behind them, long ones at blanks.

    Args:
        text: The text.
        most: Largest number of characters of a unit, at least 1.

    Returns:
        Places of the characters of each unit; together they are the text.

    Example:
        >>> text = "First. Second one!  Third"
        >>> [text[unit.start : unit.stop] for unit in sentences(text)]
        ['First. ', 'Second one!  ', 'Third']
    """
    ends = [match.end() for match in _SENTENCE.finditer(text)]
    found: list[range] = []
    start = 0
    for end in (*ends, len(text)):
        while end - start > most:
            cut = text.rfind(" ", start + most // 2, start + most) + 1 or start + most
            found.append(range(start, cut))
            start = cut
        if end > start:
            found.append(range(start, end))
        start = end
    return found
