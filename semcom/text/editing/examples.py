"""Questions with known plans: chains of relations, false facts, variables, multi-hop records."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semcom.errors import InvalidOption
from semcom.text.blocks import Size, word_count
from semcom.text.editing.plans import Plan, chain_plan, variable_plan
from semcom.text.tasks import MultihopRecord, assigned, multihop

NAMES = (
    *("Alder", "Basil", "Cedar", "Daisy", "Ember", "Flint", "Garnet", "Hazel", "Iris", "Jasper", "Kestrel"),
    *("Linden", "Maple", "Nova", "Olive", "Pearl", "Quartz", "Raven", "Sage", "Topaz", "Violet", "Willow"),
    *(
        "Amber",
        "Birch",
        "Clover",
        "Dove",
        "Falcon",
        "Ginger",
        "Heron",
        "Ivory",
        "Juniper",
        "Laurel",
        "Myrtle",
    ),
    *("Oak", "Poppy", "Robin", "Silver", "Thorn", "Velvet", "Wren"),
)
"""Names of single words, none of which says anything about who teaches or heals whom."""
RELATIONS = (
    "teacher",
    "doctor",
    "captain",
    "neighbor",
    "partner",
    "lawyer",
    "tailor",
    "cook",
    "guard",
    "rival",
)
"""Relations between names."""
CAPITALS = {
    **{"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Germany": "Berlin", "Japan": "Tokyo"},
    **{"Russia": "Moscow", "England": "London", "Egypt": "Cairo", "Greece": "Athens", "Austria": "Vienna"},
    **{"Ireland": "Dublin", "Portugal": "Lisbon", "Norway": "Oslo", "Cuba": "Havana", "Poland": "Warsaw"},
    **{"Peru": "Lima", "Hungary": "Budapest", "Iran": "Tehran", "Iraq": "Baghdad", "China": "Beijing"},
    **{"Sweden": "Stockholm", "Belgium": "Brussels", "Denmark": "Copenhagen", "Finland": "Helsinki"},
    **{"Kenya": "Nairobi", "Canada": "Ottawa", "Chile": "Santiago", "Thailand": "Bangkok"},
    **{"Afghanistan": "Kabul", "Syria": "Damascus"},
}
"""Capitals that small language models know."""


@dataclass(frozen=True)
class Example:
    """A question about a text of many chunks, with its plan and the right answer of each step.

    Args:
        id: Name, unique in a set.
        chunks: The text, one sentence or passage each.
        question: The question.
        cue: Beginning of the answer.
        answers: Accepted answers, the main one first.
        plan: Plan of the question.
        golds: Right answer of each step.
        supports: Number of the chunk that each step needs.
        memory: Answer that a model gives from memory, if it differs.
    """

    id: str
    chunks: tuple[str, ...]
    question: str
    cue: str
    answers: tuple[str, ...]
    plan: Plan
    golds: tuple[str, ...]
    supports: tuple[int, ...]
    memory: str = ""

    @property
    def context(self) -> str:
        """All chunks joined to one text."""
        return " ".join(self.chunks)

    @property
    def expected(self) -> dict[str, str]:
        """Right answer of each sub-question with right answers filled in, and of the question itself."""
        known = dict(enumerate(self.golds, 1))
        steps = {
            step.filled(known).question: gold for step, gold in zip(self.plan.steps, self.golds, strict=False)
        }
        return steps | {self.question: self.answers[0]}


def chain(
    prose: Sequence[str],
    rng: np.random.Generator,
    tokens: int,
    size: Size = word_count,
    *,
    hops: int = 3,
    distractors: int = 6,
    name: str = "chain",
) -> Example:
    """Chain of relations in prose: "The teacher of Alder is Basil.", asked over several hops.

    Each relation of the chain is stated of other names as well, so that the relation alone finds nothing.

    Args:
        prose: Sentences in which the facts are hidden; a run of them is taken from a random place.
        rng: Random numbers.
        tokens: Size of the text.
        size: Number of tokens of a text.
        hops: Length of the chain, 1 to 6.
        distractors: Number of other facts.
        name: Name of the example.

    Returns:
        The example; its chunks are sentences.

    Raises:
        InvalidOption: There are too many hops or facts for the names, or the facts do not fit.
    """
    if not (1 <= hops <= 6 and 0 <= distractors <= 12):
        raise InvalidOption(f"{hops} hops and {distractors} other facts: choose 1..6 and 0..12")
    names = [str(word) for word in rng.permutation(NAMES)]
    relations = [str(word) for word in rng.permutation(RELATIONS)[:hops]]
    told = [f"The {relation} of {names[i]} is {names[i + 1]}." for i, relation in enumerate(relations)]
    free = names[hops + 1 :]
    told += [f"The {relations[i % hops]} of {free[2 * i]} is {free[2 * i + 1]}." for i in range(distractors)]
    chunks, places = _hidden(prose, told, rng, tokens, size)
    inner = " of the ".join(reversed(relations))
    return Example(
        name,
        chunks,
        f"Who is the {inner} of {names[0]}?",
        f"The {inner} of {names[0]} is",
        (names[hops],),
        chain_plan(names[0], relations),
        tuple(names[1 : hops + 1]),
        places[:hops],
    )


def counterfactuals(each: int = 4, seed: int = 0) -> list[Example]:
    """False capitals: "The capital of France is Oslo.", among other such facts, against a model's memory.

    Args:
        each: Number of false capitals per country, 1 to 12.
        seed: Seed of the choice.

    Returns:
        `each` examples per country of `CAPITALS`.

    Raises:
        InvalidOption: The number is out of range.
    """
    if not 1 <= each <= 12:
        raise InvalidOption(f"{each} false capitals per country: choose 1..12")
    rng, found = np.random.default_rng(seed), []
    for land, capital in CAPITALS.items():
        others = [other for other in CAPITALS if other != land]
        wrong = rng.permutation([CAPITALS[other] for other in others])[:each]
        for number, city in enumerate(map(str, wrong)):
            rest = [other for other in rng.permutation(others) if CAPITALS[str(other)] != city][:6]
            cities = rng.permutation([CAPITALS[str(other)] for other in rest])
            told = [f"The capital of {land} is {city}."]
            told += [f"The capital of {other} is {place}." for other, place in zip(rest, cities, strict=True)]
            order = rng.permutation(len(told))
            found.append(
                Example(
                    f"{land}-{number}",
                    tuple(told[i] for i in order),
                    f"What is the capital of {land}?",
                    f"The capital of {land} is",
                    (city,),
                    chain_plan(land, ["capital"], "What"),
                    (city,),
                    (int(np.flatnonzero(order == 0)[0]),),
                    capital,
                )
            )
    return found


def tracking(
    prose: Sequence[str],
    rng: np.random.Generator,
    tokens: int,
    size: Size = word_count,
    *,
    hops: int = 3,
    chains: int = 2,
    name: str = "variables",
) -> Example:
    """Variable tracking: VAR ABCDE = 12345, VAR FGHIJ = VAR ABCDE, ...; which variables have the value?

    Args:
        prose: Sentences in which the statements are hidden.
        rng: Random numbers.
        tokens: Size of the text.
        size: Number of tokens of a text.
        hops: Assignments after the first one of a chain, 0 to 6.
        chains: Chains with other values; the question is about the first.
        name: Name of the example.

    Returns:
        The example; its answers are all names, joined by commas.

    Raises:
        InvalidOption: The numbers are out of range, or the statements do not fit.

    Reference:
        Hsieh et al., "RULER: What's the real context size of your long-context language models?", 2024.
    """
    if not (0 <= hops <= 6 and 1 <= chains <= 6):
        raise InvalidOption(f"{chains} chains of {hops} hops: choose 1..6 and 0..6")
    letters = list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    told, names, value = [], [], ""
    for number in range(chains):
        own = ["".join(rng.choice(letters, 5)) for _ in range(hops + 1)]
        start = str(rng.integers(10_000, 100_000))
        told += assigned(own, start)
        if not number:
            names, value = own, start
    chunks, places = _hidden(prose, told, rng, tokens, size, groups=hops + 1)
    return Example(
        name,
        chunks,
        f"Which variables have the value {value}?",
        f"The variables with the value {value} are",
        (", ".join(names),),
        variable_plan(value),
        tuple(names),
        places[: hops + 1],
    )


def read_multihop(path: Path | str) -> list[Example]:
    """Read records of HotpotQA, 2WikiMultihopQA or MuSiQue, which alone has plans of several steps.

    Args:
        path: JSON lines in the form of one of these sets.

    Returns:
        Examples; their chunks are whole passages, and `supports` the passages that the answer needs.

    Raises:
        InvalidSource: The file is missing, or a line is in none of these forms.
    """
    return [_example(record) for record in multihop(path)]


def _example(record: MultihopRecord) -> Example:
    chunks = tuple(f"{passage.title}: {passage.text.strip()}" for passage in record.passages)
    question = " ".join(record.question.split())
    if record.hops:
        plan = Plan.of(*(_worded(hop.question) for hop in record.hops))
        golds, supports = zip(*((hop.answer, hop.passage) for hop in record.hops), strict=True)
    else:
        plan = Plan.of(question.replace("#", "No. "))  # "a #1 hit" refers to no step
        golds, supports = record.answers[:1], record.supporting
    return Example(record.id, chunks, question, "Answer:", record.answers, plan, golds, supports)


def _worded(question: str) -> tuple[str, str]:
    """Sub-question of MuSiQue in words: "Vertigo >> director" asks for a relation."""
    if " >> " in question:
        thing, relation = question.split(" >> ", 1)
        return f"What is the {relation} of {thing}?", f"The {relation} of {thing} is"
    return question, "Answer:"


def _hidden(
    prose: Sequence[str],
    told: Sequence[str],
    rng: np.random.Generator,
    tokens: int,
    size: Size,
    groups: int = 1,
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Sentences at random places of a run of prose; within each group of so many the order stays."""
    room = tokens - sum(size(f" {sentence}") for sentence in told)
    if room < 0:
        raise InvalidOption(f"a text of {tokens} tokens: the facts alone need {tokens - room}")
    start, taken = int(rng.integers(len(prose))), []
    while len(taken) < len(prose):
        sentence = prose[(start + len(taken)) % len(prose)]
        room -= size(f" {sentence}")
        if room < 0:
            break
        taken.append(sentence)
    keys: list[float] = []
    for first in range(0, len(told), groups):
        places = rng.uniform(0, len(taken) + 1, size=min(groups, len(told) - first))
        keys += sorted(places.tolist())
    order = sorted([(key, sentence) for key, sentence in zip(keys, range(len(told)), strict=True)])
    chunks: list[str] = []
    found = [0] * len(told)
    for key, number in order:
        chunks += taken[len(chunks) - sum(k < key for k, _ in order) : int(key)]
        found[number] = len(chunks)
        chunks.append(told[number])
    chunks += taken[len(chunks) - len(told) :]
    return tuple(chunks), tuple(found)
