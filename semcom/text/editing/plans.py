"""Plans: a question as a graph of sub-questions, and planners that make one."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Protocol, runtime_checkable

from semcom.errors import MalformedPlan

MOST_STEPS = 8
"""Largest number of sub-questions of a plan."""
_PLACE = re.compile(r"#(\d+)")


@dataclass(frozen=True)
class Step:
    """A sub-question, with places for answers of others.

    Args:
        question: The question; "#1" stands for the answer of the first step, and so on.
        cue: Beginning of a sentence that the answer completes, with the same placeholders; empty for none.
    """

    question: str
    cue: str = ""

    @property
    def parents(self) -> frozenset[int]:
        """Numbers, from 1, of the steps whose answers this one needs."""
        return frozenset(int(number) for number in _PLACE.findall(f"{self.question} {self.cue}"))

    def filled(self, answers: Mapping[int, str]) -> "Step":
        """Put answers in the place of their numbers.

        Args:
            answers: Answers of earlier steps by number, from 1.

        Returns:
            The step without placeholders.
        """
        question, cue = (
            _PLACE.sub(lambda found: answers[int(found[1])], text) for text in (self.question, self.cue)
        )
        return Step(question, cue)


@dataclass(frozen=True)
class Plan:
    """Sub-questions that form a directed graph without cycles; the last one's answer is the answer.

    Args:
        steps: Sub-questions.
        chain: Whether each step continues the one before until nothing is found, and all answers together
            are the answer: variable tracking.

    Raises:
        MalformedPlan: There are no steps or too many, an empty question, a number of no step, or a cycle.
    """

    steps: tuple[Step, ...]
    chain: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.steps) <= MOST_STEPS:
            raise MalformedPlan(f"a plan of {len(self.steps)} steps: 1 to {MOST_STEPS} are possible")
        for number, step in enumerate(self.steps, 1):
            if not step.question.strip():
                raise MalformedPlan(f"step {number} of the plan is empty: each step is a question")
            for parent in step.parents:
                if not 1 <= parent <= len(self.steps):
                    raise MalformedPlan(
                        f"step {number} asks for the answer #{parent} of a plan of {len(self.steps)} steps"
                    )
        try:
            tuple(self._sorter().static_order())
        except CycleError as error:
            ring = " -> ".join(f"#{number}" for number in error.args[1])
            raise MalformedPlan(f"the steps of the plan wait for each other: {ring}; order them") from None

    @staticmethod
    def of(*steps: str | tuple[str, str]) -> "Plan":
        """Make a plan from questions, or from pairs of question and cue.

        Args:
            *steps: Sub-questions in the order of their numbers.

        Returns:
            The plan.

        Raises:
            MalformedPlan: The steps do not form a plan.
        """
        return Plan(tuple(Step(step) if isinstance(step, str) else Step(*step) for step in steps))

    @property
    def levels(self) -> list[list[int]]:
        """Numbers of the steps, from 1, in groups that depend on earlier groups alone."""
        sorter, found = self._sorter(), []
        sorter.prepare()
        while sorter.is_active():
            ready = sorted(sorter.get_ready())
            found.append(ready)
            sorter.done(*ready)
        return found

    def _sorter(self) -> TopologicalSorter:
        return TopologicalSorter({number: step.parents for number, step in enumerate(self.steps, 1)})


@runtime_checkable
class Planner(Protocol):
    """Turn a question into a plan."""

    def __call__(self, question: str) -> Plan:
        """Plan the sub-questions of a question.

        Args:
            question: The question.

        Returns:
            The plan.

        Raises:
            MalformedPlan: There is no plan for this question.
        """
        ...


@dataclass(frozen=True)
class Oracle:
    """Plans that are known beforehand, for the measurement of all that comes after planning.

    Args:
        plans: Plan of each question.
    """

    plans: Mapping[str, Plan]

    def __call__(self, question: str) -> Plan:
        """Look up the plan.

        Args:
            question: The question.

        Returns:
            Its plan.

        Raises:
            MalformedPlan: The question is unknown.
        """
        if question not in self.plans:
            raise MalformedPlan(f"no plan is known for {question[:60]!r}")
        return self.plans[question]


@dataclass(frozen=True)
class Rules:
    """Plans by the form of the question, without any model.

    Forms: "Who is the A of the B of X?" (any depth, also "What is X's B's A?"), "Do X and Y have the same A?"
    ("Is the A of X the A of Y?"), and "Which variables have the value 12345?".
    """

    def __call__(self, question: str) -> Plan:
        """Plan a question of a known form.

        Args:
            question: The question.

        Returns:
            The plan.

        Raises:
            MalformedPlan: The question has none of the forms.

        Example:
            >>> [step.question for step in Rules()("Who is the teacher of the doctor of Alder?").steps]
            ['Who is the doctor of Alder?', 'Who is the teacher of #1?']
        """
        text = " ".join(question.split())
        if found := re.fullmatch(r"[Ww]hich variables .*value (?:of )?(\w+)\??", text):
            return variable_plan(found[1])
        if found := re.fullmatch(r"(?:Do|Does) (.+?) and (.+?) have the same (.+?)\?", text):
            (one, two), noun = found.groups()[:2], found[3]
            return Plan.of(
                (f"What is the {noun} of {one}?", f"The {noun} of {one} is"),
                (f"What is the {noun} of {two}?", f"The {noun} of {two} is"),
                ("Are #1 and #2 the same?", ""),
            )
        if found := re.fullmatch(r"(Who|What|Which) (is|was) (?:the )?(.+?)\?", text):
            word, verb, rest = found.groups()
            nouns = re.split(r" of (?:the )?", rest)
            if len(nouns) == 1 and "'s " in rest:
                nouns = re.split(r"(?:'s) ", rest)[::-1]
            if len(nouns) >= 2:
                return chain_plan(nouns[-1], nouns[-2::-1], word, verb)
        raise MalformedPlan(f"no rule for {question[:60]!r}; give a plan, or plan by a language model")


def chain_plan(
    start: str, relations: list[str] | tuple[str, ...], word: str = "Who", verb: str = "is"
) -> Plan:
    """Plan of a chain of relations, from a known name on.

    Args:
        start: Name that the question begins with.
        relations: Relations in the order in which they are followed.
        word: Question word.
        verb: Verb.

    Returns:
        One step per relation.

    Raises:
        MalformedPlan: There are no relations or too many.
    """
    known, steps = start, []
    for number, relation in enumerate(relations, 1):
        steps.append((f"{word} {verb} the {relation} of {known}?", f"The {relation} of {known} {verb}"))
        known = f"#{number}"
    return Plan.of(*steps)


def variable_plan(value: str, steps: int = MOST_STEPS) -> Plan:
    """Plan of variable tracking: who has the value, who has been given that variable, and so on.

    Args:
        value: Value that is looked for.
        steps: Largest number of names.

    Returns:
        A chain that ends where nothing is found.

    Raises:
        MalformedPlan: The number of steps is out of range.
    """
    wanted = [value, *(f"VAR #{number}" for number in range(1, steps))]
    return Plan(
        tuple(Step(f"Which variable is assigned {one}?", f"{one} is assigned to VAR") for one in wanted),
        chain=True,
    )


FEW_SHOT = """Split each question into numbered sub-questions. "#1" stands for the answer of sub-question 1.

Question: Who is the mother of the director of Vertigo?
1. Who is the director of Vertigo?
2. Who is the mother of #1?

Question: Which town is older, Avignon or Bruges?
1. When was Avignon founded?
2. When was Bruges founded?
3. Which is earlier, #1 or #2?

Question: In which country is the university where the author of Solaris studied?
1. Who is the author of Solaris?
2. At which university did #1 study?
3. In which country is #2?

Question: {question}
1."""
"""Prompt of `ModelPlanner`: a chain, a comparison of two branches, and a longer chain."""


@dataclass(frozen=True)
class ModelPlanner:
    """Plans written by a language model after worked examples.

    Args:
        write: Function of a prompt and a largest number of new tokens that gives the continuation.
        most_tokens: Largest number of new tokens.
    """

    write: Callable[[str, int], str]
    most_tokens: int = 128

    def __call__(self, question: str) -> Plan:
        """Let the model write a plan, and check it.

        Args:
            question: The question.

        Returns:
            The plan.

        Raises:
            MalformedPlan: What the model wrote is no plan.
        """
        return parsed("1." + self.write(FEW_SHOT.format(question=question), self.most_tokens))


def parsed(text: str) -> Plan:
    """Read a plan from numbered lines, up to the first blank line after them.

    Args:
        text: Lines "1. Who is ...?", "2. ... #1 ...?".

    Returns:
        The plan.

    Raises:
        MalformedPlan: There are no numbered lines, numbers do not count up from 1, or it is no plan.
    """
    block = text.strip().split("\n\n")[0]
    lines = [found for line in block.splitlines() if (found := re.match(r"\s*(\d+)[.)]\s*(.*)", line))]
    numbers = [int(found[1]) for found in lines]
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        raise MalformedPlan(f"lines numbered {numbers or 'not at all'}: a plan counts 1, 2, 3, ...")
    return Plan.of(*(found[2].strip() for found in lines))
