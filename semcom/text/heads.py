"""Evaluator heads: attention heads that look back at what a question asks for, found by a needle in prose."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from semcom.errors import InvalidOption, SemcomError
from semcom.files import write_whole
from semcom.text.attention import QueriesKeys, depth, read_all
from semcom.text.lm import LanguageModel, cache
from semcom.text.prose import STORY
from semcom.text.tasks import PROBE_KEYS, Haystack, Span, needle

RULES = ("earliest", "best-head", "sum")
"""Rules that choose the layer; the paper's is "sum"."""
ENOUGH = 0.6  # of the largest layer sum, for the rule "earliest"
LEAST_GAIN = 5.0  # times the uniform share: below, no head is called an evaluator head
AROUND = 120  # tokens of a probe that are left for its question
DEPTHS = tuple(round(0.1 * i, 1) for i in range(1, 10))
_FORMAT = 1  # raised when the probe changes


class NoEvaluatorHeads(SemcomError):
    """A language model none of whose heads looks back at the needle."""


@dataclass(frozen=True)
class Probe:
    """Needles at nine depths of prose, whose keys no measurement uses.

    Args:
        size: Tokens of prose and needle.
        window: Number of last tokens whose attention counts.
        depths: Places of the needle in [0, 1].
        seed: Seed of passages, keys and values.
    """

    size: int = 1000
    window: int = 16
    depths: tuple[float, ...] = DEPTHS
    seed: int = 0


@dataclass(frozen=True, eq=False)
class HeadMasses:
    """Attention of each head to the needle, averaged over a probe.

    Args:
        mass: Share of the attention of the window that falls on the needle, [layers, heads].
        uniform: Share of the needle in the prompt, averaged over the probe: the mass of uniform attention.
    """

    mass: Float[np.ndarray, "layers heads"]
    uniform: float

    def heads(self, rule: str = "earliest", count: int | None = None) -> "EvaluatorHeads":
        """Evaluator heads: a layer by a rule, and its heads of the largest mass.

        "earliest" takes the first layer whose sum over heads is at least 60 % of the largest sum, "best-head"
        the layer of the best single head, and "sum" the layer of the largest sum, as the paper does.

        Args:
            rule: One of `RULES`.
            count: Number of heads; None for a quarter of them, rounded up. The paper takes 8 of 32.

        Returns:
            Layer and heads, best head first.

        Raises:
            InvalidOption: There is no such rule, or not as many heads.
            NoEvaluatorHeads: The best head has less than 5 times the uniform share.
        """
        check_rule(rule)
        layers, heads = self.mass.shape
        number = -(-heads // 4) if count is None else count
        if not 1 <= number <= heads:
            raise InvalidOption(f"{number} heads: a layer has 1..{heads}")
        gain = float(self.mass.max() / self.uniform)
        if gain < LEAST_GAIN:
            raise NoEvaluatorHeads(
                f"this model has no evaluator heads: its best head gives the needle {gain:.2g} times the "
                f"uniform share, {LEAST_GAIN:g} are needed; choose another model or another method"
            )
        sums = self.mass.sum(1)
        layer = {
            "earliest": int(np.argmax(sums >= ENOUGH * sums.max())),
            "best-head": int(self.mass.max(1).argmax()),
            "sum": int(sums.argmax()),
        }[rule]
        order = np.argsort(-self.mass[layer], kind="stable")[:number]
        coverage = float(self.mass[layer, order].sum() / sums[layer])
        gain = float(self.mass[layer, order[0]] / self.uniform)
        return EvaluatorHeads(layer, tuple(int(head) for head in order), coverage, gain, layers)


@dataclass(frozen=True)
class EvaluatorHeads:
    """Layer and heads by whose attention prompts are compressed.

    Args:
        layer: Number of the layer, from 0.
        heads: Numbers of its heads, best first.
        coverage: Share of the layer's attention to the needle that these heads have.
        gain: Mass of the best of them over the uniform share.
        layers: Number of layers of the model.
    """

    layer: int
    heads: tuple[int, ...]
    coverage: float
    gain: float
    layers: int


def check_rule(rule: str) -> None:
    """Check, before a model is loaded and probed, that there is a rule.

    Args:
        rule: Name of the rule.

    Raises:
        InvalidOption: It is not one of `RULES`.
    """
    if rule not in RULES:
        raise InvalidOption(f"rule {rule!r}: choose {', '.join(RULES)}")


def probe_of(lm: LanguageModel, size: int | None = None, seed: int = 0) -> Probe:
    """Probe that a model can read.

    Args:
        lm: The model.
        size: Tokens of prose and needle; None for 1,000, or as many as the model reads.
        seed: Seed of passages, keys and values.

    Returns:
        The probe.

    Raises:
        InvalidOption: The model does not read as many tokens.
    """
    most = lm.window - AROUND
    if size is not None and size > most:
        raise InvalidOption(
            f"a probe of {size} tokens: {lm.name} reads {lm.window}, {AROUND} of them for the question; "
            f"choose at most {most}"
        )
    return Probe(size=min(1000, most) if size is None else size, seed=seed)


def token_places(lm: LanguageModel, text: str) -> tuple[list[int], list[Span]]:
    """Split a text into tokens, with the place of each in the text.

    Args:
        lm: The model.
        text: Any text.

    Returns:
        Identifiers, and for each its first character and the one after its last.

    Raises:
        InvalidOption: The tokenizer does not know the places of its tokens.
    """
    if not lm.tokenizer.is_fast:
        raise InvalidOption(f"{lm.name}: its tokenizer does not tell where tokens are; choose a fast one")
    read = lm.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return list(read["input_ids"]), [(int(first), int(last)) for first, last in read["offset_mapping"]]


def tokens_in(places: Sequence[Span], spans: Sequence[Span]) -> list[int]:
    """Numbers of the tokens that share a character with one of some places of a text.

    Args:
        places: Place of each token.
        spans: Places of interest.

    Returns:
        Rising numbers.

    Example:
        >>> tokens_in([(0, 3), (3, 5), (5, 9)], [(4, 6)])
        [1, 2]
    """
    return [
        i
        for i, (first, last) in enumerate(places)
        if any(first < end and last > start for start, end in spans)
    ]


def measured_masses(
    lm: LanguageModel,
    haystack: Haystack | None = None,
    probe: Probe | None = None,
    told: Callable[[int, int], None] | None = None,
) -> HeadMasses:
    """Measure how much each head of a model attends to needles; kept in the user's cache.

    Args:
        lm: The model.
        haystack: Prose; None for a story of this package.
        probe: Size, depths and seed; None for 1,000 tokens, or what the model can read.
        told: Called with the number of prompts done, and of all.

    Returns:
        Masses, averaged over the depths.

    Raises:
        UnknownArchitecture: The architecture of the model is unknown.
        InvalidOption: The probe is longer than the model reads.
    """
    chosen = probe or probe_of(lm)
    prose = haystack or Haystack.of(STORY)
    depth(lm)
    about = json.dumps([_FORMAT, asdict(chosen), prose.sentences, str(lm.model.dtype)])
    mark = hashlib.sha256((lm.digest + about).encode()).hexdigest()
    path = cache() / "heads" / f"{mark[:24]}.json"
    found = _kept(path)
    if found is None:
        found = _measured(lm, prose, chosen, told)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps({"mass": found.mass.tolist(), "uniform": found.uniform}))
    return found


def _kept(path: Path) -> HeadMasses | None:
    try:
        row = json.loads(path.read_text())
        return HeadMasses(np.asarray(row["mass"], dtype=float), float(row["uniform"]))
    except (OSError, ValueError, KeyError, TypeError):  # absent, or damaged: measured again
        return None


def _measured(
    lm: LanguageModel, prose: Haystack, probe: Probe, told: Callable[[int, int], None] | None
) -> HeadMasses:
    total, uniform = 0.0, 0.0
    for number, place in enumerate(probe.depths):
        rng = np.random.default_rng([probe.seed, number])
        task = needle(prose, rng, probe.size, lambda text: len(lm.encode(text)), keys=PROBE_KEYS, depth=place)
        ids, places = token_places(lm, task.prompt)
        wanted = tokens_in(places, task.shifted(task.sentences))
        total = total + needle_masses(lm, ids, wanted, probe.window) / len(probe.depths)
        uniform += len(wanted) / len(ids) / len(probe.depths)
        if told is not None:
            told(number + 1, len(probe.depths))
    return HeadMasses(np.asarray(total), uniform)


def needle_masses(
    lm: LanguageModel, ids: Sequence[int], wanted: Sequence[int], window: int
) -> Float[np.ndarray, "layers heads"]:
    """Attention of each head to some tokens of a prompt, averaged over the queries of the window.

    Args:
        lm: The model.
        ids: Tokens of the prompt.
        wanted: Numbers of the tokens that are attended to.
        window: Number of last tokens whose attention counts.

    Returns:
        Sums over the wanted tokens.

    Raises:
        InvalidOption: The window is longer than the prompt.
    """
    found: list[torch.Tensor] = []

    def add(_: int, read: QueriesKeys) -> None:
        found.append(read.probabilities()[0][:, :, list(wanted)].sum(2).mean(1).float().cpu())

    read_all(lm, torch.tensor([list(ids)]), window, add)
    return torch.stack(found).double().numpy()
