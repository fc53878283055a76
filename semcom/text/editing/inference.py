"""Answers from long texts: iterative reading, knowledge-constrained decoding, and baselines."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from semcom.errors import MalformedPlan
from semcom.text.blocks import Size, sentence_spans, word_count
from semcom.text.editing.plans import Plan, Planner, Rules, Step
from semcom.text.editing.readers import Reader, Reading
from semcom.text.editing.retrieval import Bm25, Index, Retriever, chunks_of, words_of

Extract = Callable[[Sequence[str], str], list[str]]
"""Function of passages and a question that gives the sentences which may answer it."""


@dataclass(frozen=True)
class Fact:
    """A sub-question with what was found for it.

    Args:
        question: Sub-question with earlier answers filled in.
        facts: Sentences that were read.
        answer: Answer; empty if it stayed unresolved.
        chunks: Numbers of the chunks that were retrieved.
        tentative: Answer before the facts were seen, where there was one.
        edited: Whether the facts replaced it.
    """

    question: str
    facts: tuple[str, ...]
    answer: str
    chunks: tuple[int, ...]
    tentative: str = ""
    edited: bool = False


@dataclass(frozen=True)
class Answered:
    """Answer to a question about a long text.

    Args:
        answer: The answer; empty if a step stayed unresolved.
        memory: Sub-questions and facts in the order in which they were found.
        tokens_read: Size of all prompts together.
        fallback: Why the plan was given up and the question asked at once; empty if it was not.
    """

    answer: str
    memory: tuple[Fact, ...]
    tokens_read: int
    fallback: str = ""


@dataclass(frozen=True)
class TopSentences:
    """Fact extraction by a retriever over the sentences of the passages.

    Args:
        index: Maker of the retriever.
        count: Largest number of sentences kept.
    """

    index: Index = Bm25.of
    count: int = 3

    def __call__(self, passages: Sequence[str], question: str) -> list[str]:
        """Keep the best sentences, in the order of the passages.

        Args:
            passages: Chunks that were retrieved.
            question: The question.

        Returns:
            Sentences.
        """
        sentences = [text[a:b] for text in passages for a, b in sentence_spans(text)]
        if len(sentences) <= self.count:
            return sentences
        return [sentences[i] for i in sorted(self.index(sentences)(question, self.count))]


@dataclass(frozen=True)
class Iterative:
    """Iterative question answering with fact extraction.

    Each sub-question, with earlier answers filled in, retrieves chunks, of which the sentences that matter
    are read alone. An answer that is empty or not in these sentences counts as not found: the number of
    chunks is doubled up to `most_chunks`, then the step stays unresolved. A malformed plan falls back to
    single-shot retrieval with the whole question. A plan that is a chain (variable tracking) reads only
    sentences that name the answer before; one that was read by itself and gave an answer is not read again.

    Args:
        read: Reader.
        plan: Planner.
        index: Maker of retrievers.
        extract: Fact extraction.
        chunks: Number of chunks per sub-question at first.
        most_chunks: Largest number of chunks per sub-question.
        chunk_tokens: Largest size of a chunk.
        size: Number of tokens of a text.
    """

    read: Reader
    plan: Planner = field(default_factory=Rules)
    index: Index = Bm25.of
    extract: Extract = field(default_factory=TopSentences)
    chunks: int = 3
    most_chunks: int = 6
    chunk_tokens: int = 128
    size: Size = word_count

    def __call__(self, context: str | Sequence[str], question: str, cue: str = "") -> Answered:
        """Answer a question about a text.

        Args:
            context: Text, or its chunks.
            question: The question.
            cue: Beginning of the answer, for the fallback; empty for none.

        Returns:
            Answer, facts and tokens read.

        Raises:
            InvalidSource: The text is empty or all white space.
        """
        chunks = _chunks(context, self.size, self.chunk_tokens)
        try:
            plan = self.plan(question)
        except MalformedPlan as error:
            found = single_shot(self.read, self.index, chunks, question, cue, self.most_chunks)
            return replace(found, fallback=str(error))
        retrieve = self.index(chunks)

        def resolved(step: Step, memory: Sequence[Fact]) -> tuple[Fact, int]:
            return self._resolved(step, chunks, retrieve, memory if plan.chain else ())

        return _followed(plan, resolved)

    def _resolved(
        self, step: Step, chunks: Sequence[str], retrieve: Retriever, links: Sequence[Fact]
    ) -> tuple[Fact, int]:
        count, spent = min(self.chunks, len(chunks)), 0
        while True:
            found = retrieve(step.question, count)
            passages = [chunks[i] for i in found]
            facts = self.extract(_continuing(passages, links) if links else passages, step.question)
            reading = self.read(facts, step.question, step.cue) if facts else Reading("", 0)
            spent += reading.tokens
            if _grounded(reading.answer, facts):
                return Fact(step.question, tuple(facts), reading.answer, tuple(found)), spent
            if count >= min(self.most_chunks, len(chunks)):
                return Fact(step.question, tuple(facts), "", tuple(found)), spent
            count = min(2 * count, self.most_chunks, len(chunks))


@dataclass(frozen=True)
class Constrained:
    """Knowledge-constrained decoding: a tentative answer, a fact, and an edit where they contradict.

    For each sub-question the model first answers from the transcript alone. Facts are retrieved; if the
    tentative answer is in none of them, they contradict it, and the answer read from the facts takes its
    place in the transcript, on which everything after is conditioned.

    Args:
        recall: Reader of the transcript, which answers from memory.
        read: Reader of facts.
        plan: Planner.
        index: Maker of retrievers.
        extract: Fact extraction; the best sentence alone unless told otherwise.
        chunks: Number of chunks per sub-question.
        chunk_tokens: Largest size of a chunk.
        size: Number of tokens of a text.
    """

    recall: Reader
    read: Reader
    plan: Planner = field(default_factory=Rules)
    index: Index = Bm25.of
    extract: Extract = field(default_factory=lambda: TopSentences(count=1))
    chunks: int = 3
    chunk_tokens: int = 128
    size: Size = word_count

    def __call__(self, context: str | Sequence[str], question: str, cue: str = "") -> Answered:
        """Answer a question about a text, which wins over what the model remembers.

        Args:
            context: Text, or its chunks.
            question: The question.
            cue: Beginning of the answer, for the fallback; empty for none.

        Returns:
            Answer, facts with tentative answers, and tokens read.

        Raises:
            InvalidSource: The text is empty or all white space.
        """
        chunks = _chunks(context, self.size, self.chunk_tokens)
        try:
            plan = self.plan(question)
        except MalformedPlan as error:
            found = single_shot(self.read, self.index, chunks, question, cue, self.chunks)
            return replace(found, fallback=str(error))
        retrieve = self.index(chunks)

        def resolved(step: Step, memory: Sequence[Fact]) -> tuple[Fact, int]:
            transcript = [f"Question: {fact.question}\nAnswer: {fact.answer}" for fact in memory]
            tentative = self.recall(transcript, step.question, step.cue)
            found = retrieve(step.question, self.chunks)
            facts = self.extract([chunks[i] for i in found], step.question)
            if _grounded(tentative.answer, facts):
                fact = Fact(step.question, tuple(facts), tentative.answer, tuple(found), tentative.answer)
                return fact, tentative.tokens
            edit = self.read(facts, step.question, step.cue)
            kept = edit.answer if _grounded(edit.answer, facts) else tentative.answer
            done = Fact(
                step.question, tuple(facts), kept, tuple(found), tentative.answer, kept != tentative.answer
            )
            return done, tentative.tokens + edit.tokens

        return _followed(plan, resolved)


def single_shot(
    read: Reader, index: Index, context: Sequence[str], question: str, cue: str = "", chunks: int = 6
) -> Answered:
    """Retrieval once with the whole question, the usual retrieval-augmented answer.

    Args:
        read: Reader.
        index: Maker of the retriever.
        context: Chunks of the text.
        question: The question.
        cue: Beginning of the answer; empty for none.
        chunks: Number of chunks.

    Returns:
        The answer; chunks are read in the order of the text.
    """
    found = sorted(index(context)(question, chunks))
    facts = tuple(context[i] for i in found)
    reading = read(facts, question, cue)
    return Answered(reading.answer, (Fact(question, facts, reading.answer, tuple(found)),), reading.tokens)


def direct(read: Reader, context: str, question: str, cue: str = "") -> Answered:
    """Answer from the whole text at once.

    Args:
        read: Reader.
        context: The text.
        question: The question.
        cue: Beginning of the answer; empty for none.

    Returns:
        The answer.
    """
    reading: Reading = read([context], question, cue)
    return Answered(reading.answer, (Fact(question, (), reading.answer, ()),), reading.tokens)


def f1_score(answer: str, golds: Sequence[str]) -> float:
    """Token F1 of an answer, the best over accepted ones, as HotpotQA and LongBench count it.

    Lower case, without punctuation and the articles a, an, the; 2 P R / (P + R) of the words in common.

    Args:
        answer: The answer.
        golds: Accepted answers, at least one.

    Returns:
        F1 in [0, 1].
    """

    def words(text: str) -> list[str]:
        plain = re.sub(r"[^\w\s]", "", text.lower())
        return [word for word in plain.split() if word not in {"a", "an", "the"}]

    found = words(answer)
    best = 0.0
    for gold in map(words, golds):
        common = sum(min(found.count(word), gold.count(word)) for word in set(found))
        if common:
            best = max(best, 2 * common / (len(found) + len(gold)))
    return best


def _chunks(context: str | Sequence[str], size: Size, most_tokens: int) -> list[str]:
    return chunks_of(context, size, most_tokens) if isinstance(context, str) else list(context)


def _continuing(passages: Sequence[str], links: Sequence[Fact]) -> list[str]:
    """Sentences that name the last answer of a chain, without those that alone gave an answer before."""
    used = {link.facts for link in links}
    sentences = (text[a:b] for text in passages for a, b in sentence_spans(text))
    return [s for s in sentences if (s,) not in used and _grounded(links[-1].answer, [s])]


def _grounded(answer: str, facts: Sequence[str]) -> bool:
    """Whether the words of an answer stand in a fact, one after the other."""
    wanted = words_of(answer)
    if not wanted:
        return False
    for fact in facts:
        have = words_of(fact)
        if any(have[i : i + len(wanted)] == wanted for i in range(len(have) - len(wanted) + 1)):
            return True
    return False


def _followed(plan: Plan, resolve: Callable[[Step, Sequence[Fact]], tuple[Fact, int]]) -> Answered:
    """Resolve the steps in an order that respects their parents; stop where one stays unresolved."""
    answers: dict[int, str] = {}
    memory: list[Fact] = []
    spent = 0
    for number in (number for level in plan.levels for number in level):
        step = plan.steps[number - 1].filled(answers)
        fact, tokens = _compared(step, answers, plan.steps[number - 1]) or resolve(step, memory)
        spent += tokens
        seen = {kept.answer for kept in memory}
        if not fact.answer or (plan.chain and fact.answer in seen):
            ended = ", ".join(kept.answer for kept in memory) if plan.chain else ""
            return Answered(ended, tuple(memory) if plan.chain else (*memory, fact), spent)
        memory.append(fact)
        answers[number] = fact.answer
    last = ", ".join(fact.answer for fact in memory) if plan.chain else answers[len(plan.steps)]
    return Answered(last, tuple(memory), spent)


def _compared(step: Step, answers: Mapping[int, str], template: Step) -> tuple[Fact, int] | None:
    """Answer of "Are #1 and #2 the same?", which needs no text."""
    found = re.fullmatch(r"Are #(\d+) and #(\d+) the same\?", template.question)
    if found is None:
        return None
    one, two = (words_of(answers[int(number)]) for number in found.groups())
    return Fact(step.question, (), "yes" if one == two else "no", ()), 0
