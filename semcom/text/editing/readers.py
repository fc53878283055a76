"""Readers: a language model that answers one question from a few passages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from semcom.text.blocks import sentence_spans
from semcom.text.lm import LanguageModel

BOOK = (
    "This is a very short story book: <book>\n{text}\n</book>\n"
    "Based on the content of the book, {question}\n{cue}"
)
"""Prompt that makes a small model answer from the text and not from memory."""
STATED = "{text}\n\nQuestion: {question}\nAnswer: According to the text, {cue}"
"""Prompt that names the text as the source of the answer."""
MEMORY = "{text}\nQuestion: {question}\nAnswer: {cue}"
"""Prompt of plain decoding: the text, the question, the beginning of an answer."""


@dataclass(frozen=True)
class Reading:
    """Answer of a reader.

    Args:
        answer: The answer; empty if there is none.
        tokens: Size of the prompt in tokens.
    """

    answer: str
    tokens: int


@runtime_checkable
class Reader(Protocol):
    """Answer questions from passages."""

    def __call__(self, passages: Sequence[str], question: str, cue: str) -> Reading:
        """Answer one question from what may be read.

        Args:
            passages: What may be read; none asks for what the model knows by itself.
            question: The question.
            cue: Beginning of the answer; empty for none.

        Returns:
            The answer and the size of the prompt.
        """
        ...


def prompt(passages: Sequence[str], question: str, cue: str, form: str = BOOK) -> str:
    """Prompt that ends where the answer begins.

    Args:
        passages: What may be read.
        question: The question.
        cue: Beginning of the answer; empty for none.
        form: Form with the places text, question and cue.

    Returns:
        The prompt, without white space at its end.
    """
    return form.format(text="\n".join(passages), question=question, cue=cue or "Answer:").strip()


@dataclass(frozen=True, eq=False)
class Greedy:
    """Greedy decoding up to the end of the line, or of the first sentence.

    Args:
        lm: Language model.
        form: Form of the prompt.
        most_tokens: Largest number of new tokens.
    """

    lm: LanguageModel
    form: str = BOOK
    most_tokens: int = 16

    def __call__(self, passages: Sequence[str], question: str, cue: str) -> Reading:
        """Answer one question by greedy decoding.

        Args:
            passages: What may be read.
            question: The question.
            cue: Beginning of the answer; empty for none.

        Returns:
            The answer and the size of the prompt.
        """
        asked = prompt(passages, question, cue, self.form)
        line = continued(self.lm, asked, self.most_tokens).split("\n")[0]
        first, last = next(iter(sentence_spans(line)), (0, 0))
        found = line[first:last].split("; ")[0]
        return Reading(found.strip(" \"'.,;"), len(self.lm.encode(asked)) + 1)


@dataclass(frozen=True, eq=False)
class Recogniser:
    """Greedy decoding of answers that are known beforehand, by one pass over prompt and answer.

    Greedy decoding gives an answer if and only if each of its tokens has the largest logit in its place.
    Where it would give anything else, the answer here is empty, so that a chain of questions ends there:
    accuracies are those of `Greedy`, except that a wrong step never leads to the right end by luck.

    Args:
        lm: Language model.
        expected: Right answer of each question; another question has no answer.
        form: Form of the prompt.
    """

    lm: LanguageModel
    expected: Mapping[str, str]
    form: str = BOOK

    def __call__(self, passages: Sequence[str], question: str, cue: str) -> Reading:
        """Say whether greedy decoding would give the right answer.

        Args:
            passages: What may be read.
            question: The question.
            cue: Beginning of the answer; empty for none.

        Returns:
            The right answer, or an empty one; and the size of the prompt.
        """
        asked = prompt(passages, question, cue, self.form)
        answer = self.expected.get(question, "")
        right = bool(answer) and teacher_forced(self.lm, asked, f" {answer}")[0]
        return Reading(answer if right else "", len(self.lm.encode(asked)) + 1)


@torch.no_grad()
def teacher_forced(lm: LanguageModel, asked: str, answer: str) -> tuple[bool, float]:
    """Whether greedy decoding continues a prompt by an answer, and the code length of the answer.

    Args:
        lm: Language model.
        asked: Prompt.
        answer: Continuation, with the blank before it.

    Returns:
        Whether each token of the answer has the largest logit, and -log2 p(answer | prompt) in bits.

    Raises:
        InvalidOption: Prompt and answer together are longer than the model's window.
    """
    first, last = lm.encode(asked), lm.encode(answer)
    lm.check_length(len(first) + len(last))
    ids = torch.tensor([[lm.start, *first, *last]], device=lm.device)
    logits = lm.model(input_ids=ids[:, :-1], use_cache=False, logits_to_keep=len(last)).logits[0].float()
    aims = ids[0, -len(last) :]
    bits = -logits.double().log_softmax(-1).gather(1, aims[:, None]).sum() / torch.log(torch.tensor(2.0))
    return bool((logits.argmax(-1) == aims).all()), float(bits)


@torch.no_grad()
def continued(lm: LanguageModel, asked: str, most_tokens: int, stop: str = "\n") -> str:
    """Continue a prompt by greedy decoding.

    Args:
        lm: Language model.
        asked: Prompt.
        most_tokens: Largest number of new tokens.
        stop: Text at which decoding ends.

    Returns:
        The continuation, without the stop.

    Raises:
        InvalidOption: Prompt and continuation together are longer than the model's window.
    """
    ends = {lm.tokenizer.eos_token_id, lm.start}
    ids = torch.tensor([[lm.start, *lm.encode(asked)]], device=lm.device)
    lm.check_length(ids.shape[1] + most_tokens - 1)
    found: list[int] = []
    past = None
    for _ in range(most_tokens):
        logits, past = lm.step(ids, past, keep=1)
        token = int(logits[0, -1].argmax())
        if token in ends:
            break
        found.append(token)
        text = lm.decode(found)
        if stop in text.lstrip("\n"):
            return text.lstrip("\n").split(stop)[0]
        ids = torch.tensor([[token]], device=lm.device)
    return lm.decode(found)
