"""Reading tasks: places of evidence, disjoint keys, sentences, and readers of records and books."""

import json
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from semcom.errors import InvalidOption, InvalidSource
from semcom.text.heads import Probe
from semcom.text.prose import STORY
from semcom.text.tasks import (
    PROBE_KEYS,
    TEST_KEYS,
    Haystack,
    multihop,
    needle,
    read_book,
    sentences_of,
    variables,
)

HAY = Haystack.of(STORY)


def test_keys_of_probe_and_test_are_disjoint() -> None:
    assert not set(PROBE_KEYS) & set(TEST_KEYS)
    assert len(set(TEST_KEYS)) == len(TEST_KEYS)
    assert len(Probe().depths) == 9


@pytest.mark.parametrize("distractors", [0, 4])
def test_needle(distractors: int) -> None:
    for seed in range(20):
        task = needle(HAY, np.random.default_rng(seed), 3000, distractors=distractors)
        (place,), (sentence,) = task.evidence, task.sentences
        value = task.context[slice(*place)]
        key = task.question.removeprefix("what is the special magic number for ").rstrip("?")
        assert task.context[slice(*sentence)] == f"The special magic number for {key} is {value}."
        assert task.answer == f" {value}"
        assert task.context.count("The special magic number for ") == distractors + 1
        assert task.context.count(value) == 1
        assert len(task.context) <= 3000 + distractors + 1
        assert task.prompt.endswith(f"The special magic number for {key} is")
        (first, last), *_ = task.shifted(task.evidence)
        assert task.prompt[first:last] == value


def test_needle_depth() -> None:
    early = needle(HAY, np.random.default_rng(0), 3000, depth=0.0)
    late = needle(HAY, np.random.default_rng(0), 3000, depth=1.0)
    assert early.sentences[0][0] == 0
    assert late.sentences[0][1] == len(late.context)
    with pytest.raises(InvalidOption, match="distractors"):
        needle(HAY, np.random.default_rng(0), 3000, distractors=len(TEST_KEYS))


@pytest.mark.parametrize("hops", [0, 1, 3])
def test_variables_keep_the_order_of_a_chain(hops: int) -> None:
    for seed in range(10):
        task = variables(HAY, np.random.default_rng(seed), 3000, hops=hops, chains=3)
        names = [task.context[slice(*place)] for place in task.evidence[:-1]]
        value = task.context[slice(*task.evidence[-1])]
        told = [task.context[slice(*place)] for place in task.sentences]
        assert told[0] == f"VAR {names[0]} = {value}."
        assert told[1:] == [f"VAR {b} = VAR {a}." for a, b in pairwise(names)]
        assert list(task.sentences) == sorted(task.sentences)
        assert task.answer == " " + " and VAR ".join(names)
        assert task.context.count("VAR ") == 3 * (2 * hops + 1)


def test_sentences() -> None:
    assert sentences_of("Mr. Hill met Dr. Low. They sat.") == ["Mr. Hill met Dr. Low.", "They sat."]
    assert sentences_of('"Stop!" She ran.') == ['"Stop!"', "She ran."]
    assert sentences_of("") == []
    assert " ".join(sentences_of(" ".join(STORY.split()))) == " ".join(STORY.split())


def test_passages_wrap_around_and_fit() -> None:
    for seed in range(20):
        parts = HAY.passage(np.random.default_rng(seed), 9000)
        assert sum(map(len, parts)) + len(parts) <= 9000
    with pytest.raises(InvalidOption, match="at least 1"):
        HAY.passage(np.random.default_rng(0), 0)
    with pytest.raises(InvalidSource, match="at least 10"):
        Haystack.of("One sentence of some length is here.")


def test_records(tmp_path: Path) -> None:
    titled = {
        "_id": "a",
        "question": "Who is it?",
        "answer": "Ann",
        "type": "bridge",
        "context": [["B", ["Bob is old.", "He sings."]], ["A", ["Ann is young.", " She sails."]]],
        "supporting_facts": [["A", 1], ["B", 0]],
    }
    steps = [{"question": "#1 >> mother", "answer": "Ann", "paragraph_support_idx": 1}]
    listed = {
        "id": "b",
        "question": "Whose?",
        "answer": "Ann's",
        "answer_aliases": ["hers"],
        "paragraphs": [
            {"title": "B", "paragraph_text": "Bob is old. He sings.", "is_supporting": False},
            {"title": "A", "paragraph_text": "Ann sails.", "is_supporting": True},
        ],
        "question_decomposition": steps,
    }
    path = tmp_path / "records.jsonl"
    path.write_text("\n".join(map(json.dumps, (titled, listed))))
    first, second = multihop(path)
    assert first.supporting == (0, 1)
    assert first.passages[0].text == "Bob is old. He sings."
    task = first.task()
    assert [task.context[slice(*place)] for place in task.evidence] == ["Bob is old.", " She sails."]
    assert task.answer == " Ann"
    assert second.supporting == (1,)
    assert second.answers == ("Ann's", "hers")
    assert second.hops[0].passage == 1
    path.write_text('{"question": 1}')
    with pytest.raises(InvalidSource, match="line 1"):
        multihop(path)
    with pytest.raises(InvalidSource, match="nowhere"):
        multihop(tmp_path / "nowhere.jsonl")


def test_books(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("licence\n*** START OF THIS BOOK ***\nprose\n*** END OF THIS BOOK ***\nmore")
    assert read_book(path).strip() == "prose"
    with zipfile.ZipFile(tmp_path / "books.zip", "w") as whole:
        whole.writestr("b.txt", "two")
        whole.writestr("a.txt", "one")
    assert read_book(tmp_path / "books.zip") == "one\n\ntwo"
    (tmp_path / "bad.zip").write_text("no archive")
    with pytest.raises(InvalidSource, match=r"bad\.zip"):
        read_book(tmp_path / "bad.zip")
