"""In-context editing: plans, retrievers, readers, both ways of inference, and malformed plans."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from semcom.errors import InvalidOption, InvalidSource, MalformedPlan
from semcom.text.editing import readers
from semcom.text.editing.examples import chain, counterfactuals, read_multihop, tracking
from semcom.text.editing.inference import (
    Constrained,
    Iterative,
    TopSentences,
    direct,
    f1_score,
    single_shot,
)
from semcom.text.editing.plans import ModelPlanner, Oracle, Plan, Rules, Step, chain_plan, parsed
from semcom.text.editing.readers import STATED, Greedy, Reading, Recogniser, continued, teacher_forced
from semcom.text.editing.retrieval import Bm25, DenseIndex, Retriever, chunks_of, words_of
from semcom.text.lm import LanguageModel

PROSE = [f"On day {number} the weather in the valley was as calm as before." for number in range(60)]


@dataclass(frozen=True)
class Overlap:
    """A retriever by the number of words in common, without any package."""

    chunks: Sequence[str]

    def __call__(self, query: str, count: int) -> list[int]:
        asked = set(words_of(query)) - {"who", "what", "which", "is", "the", "of", "a"}
        scores = [-len(asked & set(words_of(chunk))) for chunk in self.chunks]
        return sorted(range(len(scores)), key=lambda i: scores[i])[:count]


@dataclass(frozen=True)
class Copying:
    """A reader that completes its cue from the passages, and else says what it remembers."""

    memory: dict[str, str] = field(default_factory=dict)

    def __call__(self, passages: Sequence[str], question: str, cue: str) -> Reading:
        size = sum(len(words_of(passage)) for passage in passages) + len(words_of(question))
        for passage in passages:
            if cue and cue in passage:
                return Reading(passage.split(cue, 1)[1].strip().split(".")[0], size)
            if cue.endswith("is assigned to VAR") and "=" in passage:
                name, value = passage.rstrip(".").split(" = ")
                if value == cue.removesuffix(" is assigned to VAR"):
                    return Reading(name.removeprefix("VAR "), size)
        return Reading(self.memory.get(question, ""), size)


def iterative(**fields) -> Iterative:
    return Iterative(**{"read": Copying(), "index": Overlap, "extract": TopSentences(Overlap)} | fields)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "0 steps"),
        (["What?"] * 9, "9 steps"),
        (["Who is #2?", "Who is #1?"], "wait for each other"),
        (["Who is #1?"], "wait for each other"),
        (["Who is A?", "Who is #3?"], "#3 of a plan of 2"),
        (["Who is A?", "Who is #0?"], "#0 of a plan of 2"),
        (["Who is A?", "  "], "step 2 of the plan is empty"),
    ],
)
def test_malformed_plans_are_typed_errors(steps: list[str], message: str) -> None:
    with pytest.raises(MalformedPlan, match=message):
        Plan.of(*steps)


def test_levels_of_a_graph_with_two_branches() -> None:
    plan = Plan.of("Compare #2 and #3", "Of A?", "Of #4?", "Of B?")
    assert plan.levels == [[2, 4], [3], [1]]
    assert plan.steps[2].filled({4: "X"}) == Step("Of X?")


@pytest.mark.parametrize(
    ("question", "steps"),
    [
        ("Who is the cook of Ann?", ["Who is the cook of Ann?"]),
        (
            "Who is the cook of the rival of the guard of Ann?",
            ["Who is the guard of Ann?", "Who is the rival of #1?", "Who is the cook of #2?"],
        ),
        ("What is Ann's guard's name?", ["What is the guard of Ann?", "What is the name of #1?"]),
        (
            "Do Ann and Bob have the same rival?",
            ["What is the rival of Ann?", "What is the rival of Bob?", "Are #1 and #2 the same?"],
        ),
    ],
)
def test_rules_plan_questions_of_their_forms(question: str, steps: list[str]) -> None:
    assert [step.question for step in Rules()(question).steps] == steps


def test_rules_refuse_other_questions() -> None:
    with pytest.raises(MalformedPlan, match="no rule"):
        Rules()("Why did the chicken cross the road?")
    with pytest.raises(MalformedPlan, match="no plan is known"):
        Oracle({})("Why?")


def test_plans_of_a_language_model_are_read_and_checked() -> None:
    """A scripted model: its continuation of the worked examples becomes a plan, or a typed error."""
    asked = []

    def write(prompt: str, tokens: int) -> str:
        asked.append(prompt)
        return " Who is the guard of Ann?\n2. Who is the rival of #1?\n\nQuestion: Another?\n1. No"

    plan = ModelPlanner(write)("Who is the rival of the guard of Ann?")
    assert [step.question for step in plan.steps] == ["Who is the guard of Ann?", "Who is the rival of #1?"]
    assert asked[0].endswith("Question: Who is the rival of the guard of Ann?\n1.")
    for text in ("", "no numbers", "1. A?\n3. B?", "1. A?\n2. Who is #5?"):
        with pytest.raises(MalformedPlan):
            parsed(text)


def test_chunks_hold_whole_sentences() -> None:
    text = " ".join(PROSE)
    chunks = chunks_of(text, most_tokens=40)
    assert " ".join(chunks) == text
    assert all(chunk.endswith(".") for chunk in chunks)


def test_bm25_by_the_closed_form_and_its_order() -> None:
    """Scores of three chunks of equal length: idf ln((N - n + 1/2) / (n + 1/2)), tf 1, k1 = 1.5, b = 0.75."""
    pytest.importorskip("rank_bm25")
    chunks = ["alpha beta", "gamma delta", "gamma beta", "epsilon zeta", "eta theta"]
    retrieve = Bm25.of(chunks)
    assert isinstance(retrieve, Retriever)
    scores = retrieve.index.get_scores(["alpha"])
    assert scores[0] == pytest.approx(np.log(4.5 / 1.5))  # tf (k1 + 1) / (tf + k1) = 1
    assert retrieve("Alpha, beta?", 2) == [0, 2]
    assert retrieve("nothing known", 3) == [0, 1, 2]
    assert Bm25.of(["?", "!"])("any", 5) == [0, 1]


def test_dense_retrieval_finds_the_nearest() -> None:
    def embed(texts: Sequence[str]) -> torch.Tensor:
        found = torch.tensor([[float(text.count(letter)) for letter in "abc"] for text in texts])
        return torch.nn.functional.normalize(found, dim=1)

    assert DenseIndex(embed)(["aaa", "bbb", "aab"])("ba", 2) == [2, 0]


@pytest.mark.parametrize("hops", [1, 3, 6])
def test_chains_are_followed_by_iteration_and_not_at_once(hops: int) -> None:
    for item in range(10):
        example = chain(PROSE, np.random.default_rng(item), 500, hops=hops)
        done = iterative(chunks=2)(example.chunks, example.question, example.cue)
        assert done.answer == example.answers[0]
        assert [fact.answer for fact in done.memory] == list(example.golds)
        assert all(s in fact.chunks for s, fact in zip(example.supports, done.memory, strict=True))
        at_once = single_shot(Copying(), Overlap, example.chunks, example.question, example.cue, 2 * hops)
        assert bool(at_once.answer) == (hops == 1)
        assert bool(direct(Copying(), example.context, example.question, example.cue).answer) == (hops == 1)


def test_tokens_read_do_not_grow_with_the_text() -> None:
    spent = []
    for tokens in (200, 400, 800):
        example = chain(PROSE, np.random.default_rng(0), tokens, hops=3)
        spent.append(iterative(chunks=1, most_chunks=1)(example.chunks, example.question).tokens_read)
    assert spent[0] == spent[1] == spent[2]


def test_two_branches_are_compared() -> None:
    chunks = ["The rival of Ann is Eve.", "The rival of Bob is Eve.", "The rival of Cid is Dan."]
    assert iterative()(chunks, "Do Ann and Bob have the same rival?").answer == "yes"
    assert iterative()(chunks, "Do Ann and Cid have the same rival?").answer == "no"


def test_variables_are_tracked_to_the_end_of_their_chain() -> None:
    for item in range(10):
        example = tracking(PROSE, np.random.default_rng(item), 400, hops=4)
        done = iterative(chunks=2)(example.chunks, example.question)
        assert done.answer == example.answers[0]
        assert len(done.memory) == 5


def test_a_chain_reads_only_what_continues_it() -> None:
    """For a reader that takes the first variable it sees: neither what gave an answer nor other chains."""

    def first(passages: Sequence[str], question: str, cue: str) -> Reading:
        found = [passage.removeprefix("VAR ").split(" = ")[0] for passage in passages if "=" in passage]
        return Reading(found[0] if found else "", len(passages))

    chunks = ["VAR Q = 99999.", "VAR A = 12345.", "VAR B = VAR A.", "VAR R = VAR Q.", "VAR C = VAR B."]
    done = iterative(read=first, extract=TopSentences(Overlap, 1), chunks=2, most_chunks=5)(
        chunks, "Which variables have the value 12345?"
    )
    assert done.answer == "A, B, C"
    assert [fact.facts for fact in done.memory] == [(chunks[1],), (chunks[2],), (chunks[4],)]


def test_circular_assignments_end() -> None:
    done = iterative()(
        ["VAR A = 12345.", "VAR B = VAR A.", "VAR A = VAR B."], "Which variables have the value 12345?"
    )
    assert done.answer == "A, B"


def test_nothing_found_widens_once_and_then_stays_unresolved() -> None:
    counts = []

    def index(chunks: Sequence[str]) -> Retriever:
        def retrieve(query: str, count: int) -> list[int]:
            counts.append(count)
            return list(range(count))

        return retrieve

    late = [*PROSE[:3], "The cook of Ann is Eve.", *PROSE[3:10]]
    read = iterative(index=index, extract=lambda passages, question: list(passages), chunks=2, most_chunks=4)
    assert read(late, "Who is the cook of Ann?").answer == "Eve"
    assert counts == [2, 4]
    counts.clear()
    done = read(PROSE[:10], "Who is the cook of the rival of Ann?")
    assert done.answer == ""
    assert [fact.answer for fact in done.memory] == [""]
    assert counts == [2, 4]


def test_an_answer_that_stands_in_no_fact_is_not_believed() -> None:
    made_up = Copying({"Who is the cook of Ann?": "Zoe"})
    assert iterative(read=made_up)(PROSE[:5], "Who is the cook of Ann?").answer == ""


def test_malformed_plans_fall_back_to_single_shot_and_say_why() -> None:
    def broken(question: str) -> Plan:
        return Plan.of("Who is #1?")

    chunks = [*PROSE[:5], "The cook of Ann is Eve."]
    for method in (
        iterative(plan=broken),
        Constrained(Copying(), Copying(), broken, Overlap, TopSentences(Overlap)),
    ):
        done = method(chunks, "Who is the cook of Ann?", "The cook of Ann is")
        assert done.answer == "Eve"
        assert "wait for each other" in done.fallback


def test_edits_replace_what_is_remembered_and_nothing_else() -> None:
    """The text wins over memory; memory that the text confirms, or is silent about, stays."""
    example = counterfactuals(1)[0]
    memory = Copying({example.question: example.memory})
    method = Constrained(memory, Copying(), index=Overlap, extract=TopSentences(Overlap))
    done = method(example.chunks, example.question)
    assert (done.answer, done.memory[0].tentative) == (example.answers[0], example.memory)
    assert done.memory[0].edited
    told = [f"The capital of France is {example.memory}.", *PROSE[:3]]
    done = method(told, example.question)
    assert (done.answer, done.memory[0].edited) == (example.memory, False)
    done = method(PROSE[:3], example.question)
    assert (done.answer, done.memory[0].edited) == (example.memory, False)


def test_later_steps_are_conditioned_on_the_edit() -> None:
    seen = []

    def recall(passages: Sequence[str], question: str, cue: str) -> Reading:
        seen.append((list(passages), question))
        return Reading({"What is the capital of France?": "Paris"}.get(question, "Seine"), 1)

    chunks = ["The capital of France is Oslo.", "The river of Oslo is Akerselva."]
    plan = Oracle({"Q?": chain_plan("France", ["capital", "river"], "What")})
    done = Constrained(recall, Copying(), plan, Overlap, TopSentences(Overlap))(chunks, "Q?")
    assert done.answer == "Akerselva"
    assert seen[1] == (
        ["Question: What is the capital of France?\nAnswer: Oslo"],
        "What is the river of Oslo?",
    )


def test_examples_state_their_answers() -> None:
    for item in range(20):
        example = chain(PROSE, np.random.default_rng(item), 300, hops=3)
        known = dict(enumerate(example.golds, 1))
        told = [
            f"{step.filled(known).cue} {gold}."
            for step, gold in zip(example.plan.steps, example.golds, strict=True)
        ]
        assert [example.chunks[place] for place in example.supports] == told
        assert Rules()(example.question) == example.plan
        assert example.expected[example.question] == example.answers[0]
        variables = tracking(PROSE, np.random.default_rng(item), 300, hops=3)
        assert list(variables.supports) == sorted(variables.supports)
        assert all(g in variables.chunks[s] for g, s in zip(variables.golds, variables.supports, strict=True))
    edits = counterfactuals(4)
    assert len(edits) == 120
    assert all(
        e.answers[0] != e.memory and f"{e.cue} {e.answers[0]}." == e.chunks[e.supports[0]] for e in edits
    )
    assert not any(e.memory in e.context for e in edits)
    with pytest.raises(InvalidOption, match="7 hops"):
        chain(PROSE, np.random.default_rng(0), 300, hops=7)
    with pytest.raises(InvalidOption, match="the facts alone need"):
        chain(PROSE, np.random.default_rng(0), 10)


def test_records_of_all_three_forms_are_read(tmp_path: Path) -> None:
    musique = {
        **{"id": "a", "question": "Q?", "answer": "Y", "answer_aliases": ["Why"]},
        "paragraphs": [
            {"title": "T", "paragraph_text": "X here.", "is_supporting": True},
            {"title": "U", "paragraph_text": "Y there.", "is_supporting": True},
        ],
        "question_decomposition": [
            {"question": "Van Hook >> county", "answer": "X", "paragraph_support_idx": 0},
            {"question": "What is the capital of #1?", "answer": "Y", "paragraph_support_idx": 1},
        ],
    }
    hotpot = {
        **{"_id": "b", "question": "Which #1 hit is it?", "answer": "Z"},
        **{"context": [["T", ["One.", " Two."]], ["U", ["Z."]]], "supporting_facts": [["U", 0]]},
    }
    path = tmp_path / "records.jsonl"
    path.write_text(f"{json.dumps(musique)}\n{json.dumps(hotpot)}\n")
    one, two = read_multihop(path)
    assert one.plan == Plan.of(
        ("What is the county of Van Hook?", "The county of Van Hook is"),
        ("What is the capital of #1?", "Answer:"),
    )
    assert (one.answers, one.golds, one.supports) == (("Y", "Why"), ("X", "Y"), (0, 1))
    assert (two.question, two.chunks, two.supports) == (
        "Which #1 hit is it?",
        ("T: One. Two.", "U: Z."),
        (1,),
    )
    path.write_text("\n{}")
    with pytest.raises(InvalidSource, match="line 2 is no record"):
        read_multihop(path)
    glued = {**hotpot, "context": [["T", ["He was born in 1932.", "He died."]], ["U", ["Z."]]]}
    path.write_text(json.dumps(glued))
    assert read_multihop(path)[0].chunks == ("T: He was born in 1932. He died.", "U: Z.")
    with pytest.raises(InvalidSource, match="cannot be read as JSON lines"):
        read_multihop(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("answer", "golds", "score"),
    [
        ("The Rush.", ["rush"], 1.0),
        ("Rush band", ["Rush"], 2 / 3),
        ("no", ["yes", "No!"], 1.0),
        ("", ["a"], 0.0),
        ("b b", ["b"], 2 / 3),
    ],
)
def test_f1_by_hand(answer: str, golds: list[str], score: float) -> None:
    assert f1_score(answer, golds) == pytest.approx(score)


class Letters:
    """Tokenizer of single characters."""

    eos_token_id = 0
    bos_token_id = 0

    def get_vocab(self) -> dict[str, int]:
        return {"<|endoftext|>": 0}

    def __call__(self, text: str, add_special_tokens: bool, verbose: bool) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}

    def decode(self, tokens: list[int], clean_up_tokenization_spaces: bool) -> str:
        return "".join(map(chr, tokens))


class Scripted:
    """A model whose next letter depends on the last two alone: "is" leads to " Eve.", with known odds."""

    device = torch.device("cpu")
    config = SimpleNamespace(vocab_size=128, max_position_embeddings=4096)

    def __call__(self, *arguments, **named):
        return self.forward(*arguments, **named)

    def forward(self, input_ids, use_cache=False, cache="", logits_to_keep=0) -> SimpleNamespace:
        text = (cache or "") + "".join(map(chr, input_ids[0].tolist()))
        logits = torch.zeros(1, len(text), 128)
        after = {"s": " ", " ": "E", "E": "v", "v": "e", "e": "."}
        for place, letter in enumerate(text):
            logits[0, place, ord(after.get(letter, "\n"))] = 5.0
        return SimpleNamespace(logits=logits[:, -logits_to_keep or None :], cache=text)


def test_recognition_is_greedy_decoding() -> None:
    """One pass over prompt and answer says what decoding gives, and its code length by the closed form."""
    lm = LanguageModel("scripted", Scripted(), Letters(), "0" * 64)
    assert continued(lm, "The cook of Ann is", 20) == " Eve."
    greedy = Greedy(lm)(["The cook of Ann is Eve."], "Who is the cook of Ann?", "The cook of Ann is")
    assert greedy.answer == "Eve"
    for answer, right in (("Eve", True), ("Eva", False)):
        read = Recogniser(lm, {"Who is the cook of Ann?": answer})
        found = read([], "Who is the cook of Ann?", "The cook of Ann is")
        assert found.answer == (answer if right else "")
    assert Recogniser(lm, {})([], "Who?", "is").answer == ""
    exact, bits = teacher_forced(lm, "is", " Eve")
    assert exact
    assert bits == pytest.approx(-4 * np.log2(np.exp(5) / (np.exp(5) + 127)), rel=1e-6)


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        (" 3.5 million people. It grew", "3.5 million people"),
        (" J. R. R. Tolkien. He wrote", "J. R. R. Tolkien"),
        (" St. Louis, Missouri.\nIt is", "St. Louis, Missouri"),
        (" Eve; she is a cook.", "Eve"),
        ("", ""),
    ],
)
def test_answers_end_with_a_sentence_and_not_within_a_number_or_a_name(
    monkeypatch: pytest.MonkeyPatch, written: str, answer: str
) -> None:
    monkeypatch.setattr(readers, "continued", lambda lm, asked, most_tokens: written)
    lm = LanguageModel("scripted", Scripted(), Letters(), "0" * 64)
    assert Greedy(lm)(["It has 3.5 million people."], "How many?", "It has").answer == answer


@pytest.mark.lm
def test_smollm2_reads_a_stated_fact() -> None:
    """The installed model answers from three short sentences, as its own greedy decoding does."""
    from semcom.text.lm import load

    lm = load("smollm2")
    facts = ["The rival of Hazel is Flint.", "The cook of Maple is Robin.", "The weather was calm."]
    question, cue = "Who is the cook of Maple?", "The cook of Maple is"
    assert Recogniser(lm, {question: "Robin"}, STATED)(facts, question, cue).answer == "Robin"
    assert Greedy(lm, STATED, 6)(facts, question, cue).answer == "Robin"


@pytest.mark.shared
def test_shared_records_have_plans_and_supports(shared_data: Path) -> None:
    """All records are read; BM25 finds more of the supporting passages than chance."""
    pytest.importorskip("rank_bm25")
    for name in ("hotpot", "musique", "wikihop"):
        examples = read_multihop(shared_data / "text" / "multihop" / f"{name}.jsonl")
        assert len(examples) == 100
        recall, chance = [], []
        for example in examples:
            found = set(Bm25.of(example.chunks)(example.question, 4))
            recall.append(len(found & set(example.supports)) / len(set(example.supports)))
            chance.append(4 / len(example.chunks))
        assert np.mean(recall) > np.mean(chance) + 0.2
