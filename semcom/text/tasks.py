"""Questions about long texts with known evidence: needles in prose, variable tracking, multi-hop records."""

import json
import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from semcom.errors import InvalidOption, InvalidSource

HEAD = "This is a very long story book: <book>\n"
"""First words of a prompt, before the text that is read."""
BETWEEN = "\n</book>\nBased on the content of the book, "
"""Words of a prompt between the text and the question."""
PROBE_KEYS = (
    *("Lisbon", "Oslo", "Cairo", "Lima", "Delhi", "Quito", "Athens", "Dublin", "Havana", "Boston"),
    *("Denver", "Geneva", "Zurich", "Naples", "Munich", "Bergen", "Krakow", "Tunis", "Manila", "Jakarta"),
)
"""Keys of needles by which heads are found; none of them is in `TEST_KEYS`."""
TEST_KEYS = (
    *("Paris", "Rome", "Berlin", "Madrid", "Vienna", "Prague", "Warsaw", "London", "Tokyo"),
    *(
        "Sydney",
        "Toronto",
        "Chicago",
        "Seattle",
        "Dallas",
        "Miami",
        "Houston",
        "Phoenix",
        "Austin",
        "Detroit",
    ),
    *("Moscow", "Kiev", "Sofia", "Belgrade", "Istanbul", "Baghdad", "Tehran", "Bombay", "Hamburg", "Cologne"),
    *(
        "Milan",
        "Turin",
        "Venice",
        "Florence",
        "Lyon",
        "Marseille",
        "Bristol",
        "Glasgow",
        "Oxford",
        "Cambridge",
    ),
)
"""Keys of needles by which methods are measured."""
_SENTENCE = re.compile(
    r"(?<!\bMr\.)(?<!\bMrs\.)(?<!\bMs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\b[A-Z]\.)"
    r"(?<=[.!?])[\"')\]\u201d\u2019]*\s+(?=[\"'(\[\u201c\u2018]*[A-Z])"
)
Span = tuple[int, int]


@dataclass(frozen=True)
class ReadingTask:
    """A question about a text, with the places in the text where its answer stands.

    Args:
        id: Name of the task, unique in a set.
        context: Text that is read, and that may be compressed.
        question: Question with its instruction, ending in a question mark.
        cue: Beginning of the answer, which a language model continues.
        answer: Right continuation of the prompt, with the blank before it.
        evidence: Places of the answer in `context`: first character, and the one after the last.
        sentences: Places of the sentences that hold the evidence.
        head: Words of the prompt before the text.
        between: Words of the prompt between the text and the question.
    """

    id: str
    context: str
    question: str
    cue: str
    answer: str
    evidence: tuple[Span, ...] = ()
    sentences: tuple[Span, ...] = ()
    head: str = HEAD
    between: str = BETWEEN

    @property
    def tail(self) -> str:
        """Words of the prompt after the text: question and cue."""
        return f"{self.between}{self.question}\n{self.cue}"

    @property
    def prompt(self) -> str:
        """Whole prompt; `answer` is its continuation."""
        return self.head + self.context + self.tail

    def shifted(self, spans: Iterable[Span]) -> list[Span]:
        """Places in the context as places in the prompt.

        Args:
            spans: Places in `context`.

        Returns:
            Places in `prompt`.
        """
        return [(first + len(self.head), last + len(self.head)) for first, last in spans]


@dataclass(frozen=True)
class Haystack:
    """Running prose as a list of sentences, from which passages are drawn.

    Args:
        sentences: Sentences in their order, without white space at their ends.
    """

    sentences: tuple[str, ...]

    @staticmethod
    def of(*texts: str) -> "Haystack":
        """Split texts into sentences.

        Args:
            *texts: Texts with line breaks and chapter headings.

        Returns:
            Sentences of 20 to 400 characters, in their order.

        Raises:
            InvalidSource: There are fewer than ten.
        """
        found = [part for text in texts for part in sentences_of(" ".join(text.split()))]
        kept = tuple(part for part in found if 20 <= len(part) <= 400)
        if len(kept) < 10:
            raise InvalidSource(f"{len(kept)} sentences of prose: at least 10 are needed; give a longer text")
        return Haystack(kept)

    def passage(
        self, rng: np.random.Generator, size: int, measure: Callable[[str], int] = len
    ) -> tuple[str, ...]:
        """Draw consecutive sentences from a random place on, around the end if necessary.

        Args:
            rng: Random numbers.
            size: Largest sum of the sizes of the sentences.
            measure: Size of a sentence: its characters, or its tokens.

        Returns:
            As many sentences as fit, at least one.

        Raises:
            InvalidOption: The size is not positive.
        """
        if size < 1:
            raise InvalidOption(f"a passage of size {size}: at least 1")
        start, total, found = int(rng.integers(len(self.sentences))), 0, []
        while True:
            sentence = self.sentences[(start + len(found)) % len(self.sentences)]
            total += measure(sentence) + 1
            if found and total > size:
                return tuple(found)
            found.append(sentence)


def sentences_of(text: str) -> list[str]:
    """Split a text into sentences: after . ! ? and a blank, before a capital letter.

    Args:
        text: Any text.

    Returns:
        Sentences without white space at their ends; none of them is empty.

    Example:
        >>> sentences_of("It rained. Was it cold? (No.) At 3.5 degrees it is not.")
        ['It rained.', 'Was it cold?', '(No.)', 'At 3.5 degrees it is not.']
    """
    places = [0, *(match.end() for match in _SENTENCE.finditer(text)), len(text)]
    parts = (text[first:last].strip() for first, last in pairwise(places))
    return [part for part in parts if part]


def stated(key: str, value: str) -> str:
    """Sentence that states a number, the needle of all tasks.

    Args:
        key: What the number is for.
        value: The number.

    Returns:
        The sentence.

    Example:
        >>> stated("Oslo", "48213")
        'The special magic number for Oslo is 48213.'
    """
    return f"The special magic number for {key} is {value}."


def assigned(names: Sequence[str], value: str) -> list[str]:
    """Statements of a chain of variables: the first has the value, each further one that of the one before.

    Args:
        names: Names of the variables, at least one.
        value: The value.

    Returns:
        One statement per name.

    Example:
        >>> assigned(["ABCDE", "FGHIJ"], "12345")
        ['VAR ABCDE = 12345.', 'VAR FGHIJ = VAR ABCDE.']
    """
    return [f"VAR {names[0]} = {value}.", *(f"VAR {own} = VAR {other}." for other, own in pairwise(names))]


def needle(
    haystack: Haystack,
    rng: np.random.Generator,
    size: int,
    measure: Callable[[str], int] = len,
    *,
    distractors: int = 0,
    keys: Sequence[str] = TEST_KEYS,
    depth: float | None = None,
    name: str = "needle",
) -> ReadingTask:
    """Needle in prose: "The special magic number for Paris is 48213.", and a question for that number.

    Args:
        haystack: Prose.
        rng: Random numbers.
        size: Size of the prose and all needles together; a blank beside each needle comes on top.
        measure: Size of a sentence: its characters, or its tokens.
        distractors: Number of further needles with other keys and values.
        keys: Keys to choose from.
        depth: Place of the needle in [0, 1]; None draws one of 0.05, 0.15, ..., 0.95.
        name: Name of the task.

    Returns:
        The task.

    Raises:
        InvalidOption: There are not enough keys, or the size does not hold the needles.
    """
    if not 0 <= distractors < len(keys):
        raise InvalidOption(f"{distractors} distractors: choose 0..{len(keys) - 1}")
    chosen = [str(key) for key in rng.choice(list(keys), distractors + 1, replace=False)]
    values = [str(value) for value in rng.choice(np.arange(10_000, 100_000), distractors + 1, replace=False)]
    told = [stated(key, value) for key, value in zip(chosen, values, strict=True)]
    prose = haystack.passage(rng, size - sum(map(measure, told)), measure)
    at = (rng.integers(10) + 0.5) / 10 if depth is None else depth
    places = [round(at * len(prose)), *(int(rng.integers(len(prose) + 1)) for _ in chosen[1:])]
    text, spans = _planted(prose, told, places)
    start, end = spans[0]
    return ReadingTask(
        name,
        text,
        f"what is the special magic number for {chosen[0]}?",
        f"The special magic number for {chosen[0]} is",
        f" {values[0]}",
        ((end - 1 - len(values[0]), end - 1),),
        ((start, end),),
    )


def variables(
    haystack: Haystack,
    rng: np.random.Generator,
    size: int,
    measure: Callable[[str], int] = len,
    *,
    hops: int = 1,
    chains: int = 2,
    name: str = "variables",
) -> ReadingTask:
    """Variable tracking: VAR A = 12345, VAR B = VAR A; which variables have the value 12345?

    The statements of a chain keep their order and stand at random places of the prose.

    Args:
        haystack: Prose.
        rng: Random numbers.
        size: Size of the prose and all statements together; a blank beside each statement comes on top.
        measure: Size of a sentence: its characters, or its tokens.
        hops: Assignments after the first one of a chain.
        chains: Chains of other values; the question is for the first.
        name: Name of the task.

    Returns:
        The task; evidence is the names in their statements, and the value in the first.

    Raises:
        InvalidOption: There are no chains, or the size does not hold the statements.

    Reference:
        Hsieh et al., "RULER: What's the Real Context Size of Your Long-Context Language Models?", 2024.
    """
    if hops < 0 or chains < 1:
        raise InvalidOption(f"{chains} chains of {hops} hops: at least one chain of none")
    letters = list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    values = [str(value) for value in rng.choice(np.arange(10_000, 100_000), chains, replace=False)]
    names = [["".join(rng.choice(letters, 5)) for _ in range(hops + 1)] for _ in values]
    told = [line for chain, value in zip(names, values, strict=True) for line in assigned(chain, value)]
    prose = haystack.passage(rng, size - sum(map(measure, told)), measure)
    places: list[int] = []
    for _ in values:
        places += sorted(int(place) for place in rng.integers(len(prose) + 1, size=hops + 1))
    text, spans = _planted(prose, told, places)
    own = spans[: hops + 1]
    evidence = [(start + 4, start + 9) for start, _ in own]
    evidence.append((own[0][1] - 1 - len(values[0]), own[0][1] - 1))
    return ReadingTask(
        name,
        text,
        f"which variables have been assigned the value {values[0]}?",
        f"The variables with the value {values[0]} are VAR",
        f" {' and VAR '.join(names[0])}",
        tuple(evidence),
        tuple(own),
    )


def _planted(prose: Sequence[str], told: Sequence[str], places: Sequence[int]) -> tuple[str, list[Span]]:
    """Prose with sentences put before those of given numbers, and where these are."""
    order = sorted(range(len(told)), key=lambda i: (places[i], i))
    parts: list[str] = []
    number: dict[int, int] = {}
    for place in range(len(prose) + 1):
        for i in order:
            if places[i] == place:
                number[i] = len(parts)
                parts.append(told[i])
        parts += prose[place : place + 1]
    starts = [0, *accumulate(len(part) + 1 for part in parts)]
    spans = [(starts[number[i]], starts[number[i]] + len(told[i])) for i in range(len(told))]
    return " ".join(parts), spans


@dataclass(frozen=True)
class Passage:
    """A titled passage of a record.

    Args:
        title: Title of the article.
        sentences: Sentences of the article, with the white space between them.
        supporting: Numbers of the sentences that support the answer; all if only the passage is known.
    """

    title: str
    sentences: tuple[str, ...]
    supporting: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """Text of the passage, all sentences joined."""
        return "".join(self.sentences)


@dataclass(frozen=True)
class Hop:
    """A sub-question of a multi-hop question with its answer.

    Args:
        question: Sub-question; "#1" stands for the answer of the first one.
        answer: Answer to the sub-question.
        passage: Number of the passage that supports it.
    """

    question: str
    answer: str
    passage: int


@dataclass(frozen=True)
class MultihopRecord:
    """A question over several passages.

    Args:
        id: Name of the record.
        question: The question.
        answers: Accepted answers, the main one first.
        passages: Passages in their order.
        kind: Kind of the question as the set names it, such as "bridge".
        hops: Decomposition into sub-questions; empty if the set has none.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    passages: tuple[Passage, ...]
    kind: str = ""
    hops: tuple[Hop, ...] = ()

    @property
    def supporting(self) -> tuple[int, ...]:
        """Numbers of the passages that support the answer."""
        return tuple(i for i, passage in enumerate(self.passages) if passage.supporting)

    def task(self) -> ReadingTask:
        """Prompt with all passages; evidence is the supporting sentences.

        Returns:
            The task.
        """
        text, spans = "", []
        for passage in self.passages:
            text += f"{passage.title}: " if not text else f"\n\n{passage.title}: "
            for number, sentence in enumerate(passage.sentences):
                if number in passage.supporting:
                    spans.append((len(text), len(text) + len(sentence)))
                text += sentence
        known = tuple(spans)
        answer = f" {self.answers[0]}"
        return ReadingTask(
            self.id, text, self.question, "Answer:", answer, known, known, "", "\n\nQuestion: "
        )


def multihop(path: Path | str) -> list[MultihopRecord]:
    """Read records of HotpotQA, 2WikiMultihopQA or MuSiQue.

    Args:
        path: JSON lines in the form of one of these sets.

    Returns:
        The records.

    Raises:
        InvalidSource: The file is missing, or a line is in none of the three forms.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSource(f"{path}: cannot be read as JSON lines ({error})") from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            found.append(_paragraphs(row) if "paragraphs" in row else _titled(row))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise InvalidSource(
                f"{path}: line {number} is no record of HotpotQA, 2WikiMultihopQA or MuSiQue ({error!r})"
            ) from None
    return found


def _titled(row: dict) -> MultihopRecord:
    """Record of HotpotQA or 2WikiMultihopQA."""
    facts = {(title, int(number)) for title, number in row["supporting_facts"]}
    passages = []
    for title, sentences in row["context"]:
        spaced = [s if i == 0 or s.startswith(" ") else f" {s}" for i, s in enumerate(sentences)]
        known = tuple(i for i in range(len(spaced)) if (title, i) in facts)
        passages.append(Passage(title, tuple(spaced), known))
    kind = str(row.get("type", ""))
    return MultihopRecord(str(row["_id"]), row["question"], (row["answer"],), tuple(passages), kind)


def _paragraphs(row: dict) -> MultihopRecord:
    """Record of MuSiQue."""
    passages = []
    for part in row["paragraphs"]:
        sentences = sentences_of(part.get("paragraph_text") or part["text"])
        spaced = tuple(s if i == 0 else f" {s}" for i, s in enumerate(sentences))
        passages.append(
            Passage(part["title"], spaced, tuple(range(len(spaced))) if part["is_supporting"] else ())
        )
    hops = tuple(
        Hop(step["question"], step["answer"], int(step["paragraph_support_idx"]))
        for step in row["question_decomposition"]
    )
    answers = (row["answer"], *row.get("answer_aliases", ()))
    return MultihopRecord(str(row["id"]), row["question"], answers, tuple(passages), "", hops)


def read_book(path: Path | str) -> str:
    """Read a book: a text file, or all text files of a ZIP archive, without the frame of Project Gutenberg.

    Args:
        path: A .txt or .zip file.

    Returns:
        The text.

    Raises:
        InvalidSource: The file is missing, or unreadable.
    """
    path = Path(path)
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as whole:
                names = sorted(name for name in whole.namelist() if name.endswith(".txt"))
                text = "\n\n".join(whole.read(name).decode("utf-8", "replace") for name in names)
        else:
            text = path.read_text(encoding="utf-8", errors="replace")
    except (OSError, zipfile.BadZipFile) as error:
        raise InvalidSource(f"{path}: cannot be read as a book ({error})") from None
    inner = re.search(r"\*\*\* ?START OF.*?\*\*\*(.*)\*\*\* ?END OF", text, re.DOTALL)
    return inner.group(1) if inner else text
