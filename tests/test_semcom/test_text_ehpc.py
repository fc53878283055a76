"""Pooling, selection, evaluator heads of planted attention, scores of all methods, and cost."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from semcom.errors import InvalidOption
from semcom.text import heads as probing
from semcom.text.attention import QueriesKeys
from semcom.text.cost import Cost, counted
from semcom.text.ehpc import EHPC, Scorer, kept, pooled, pooled_window, selected
from semcom.text.heads import HeadMasses, NoEvaluatorHeads, Probe, measured_masses, token_places, tokens_in
from semcom.text.lm import LanguageModel
from semcom.text.reading import Reading, answered
from semcom.text.scorers import (
    H2O,
    GemFilter,
    LLMLingua,
    LongLLMLingua,
    RandomTokens,
    SelfInformation,
    SnapKV,
    Truncation,
)
from semcom.text.tasks import Haystack, needle
from tests.tiny_models import byte_model, random_model, tokens

SCORERS: list[Scorer] = [
    EHPC(2, (1, 4), window=8, kernel=5),
    EHPC(2, (0,), window=8, kernel=4, exclude_sink=True, name="ehpc-no-sink"),
    RandomTokens(forced=8),
    RandomTokens(run=16, forced=8, name="random-runs"),
    Truncation(forced=8),
    SelfInformation(forced=8),
    SelfInformation(kernel=8, forced=8, name="nll-pooled"),
    GemFilter(2),
    SnapKV(window=8),
    H2O(forced=8),
    LLMLingua(segment=20, forced=8),
    LongLLMLingua(segment=20, extra=10, forced=8),
]


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 7, 32, 50])
def test_pooling_is_the_mean_inside_of_a_cropped_window(kernel: int) -> None:
    scores = torch.rand(41, generator=torch.Generator().manual_seed(kernel), dtype=torch.float64)
    first = [j - kernel // 2 for j in range(41)]
    expected = [float(np.mean(scores[max(f, 0) : max(f + kernel, 0)].numpy())) for f in first]
    found = pooled(scores, kernel)
    assert found.shape == scores.shape  # an even kernel gives no value more
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("kernel", [2, 5, 8])
def test_pooling_equals_that_of_torch_away_from_the_ends(kernel: int) -> None:
    scores = torch.rand(40, generator=torch.Generator().manual_seed(1))
    foreign = torch.nn.functional.avg_pool1d(scores[None], kernel, 1, kernel // 2)[0]
    assert len(foreign) == 40 + (kernel % 2 == 0)
    torch.testing.assert_close(pooled(scores, kernel)[kernel:-kernel], foreign[:40][kernel:-kernel])


def test_pool_then_sum_equals_sum_then_pool() -> None:
    rows = torch.rand(3, 4, 30, generator=torch.Generator().manual_seed(1))
    own = pooled_window(rows, 8)
    apart = sum(pooled(head.mean(0)[:26], 8) for head in rows)
    torch.testing.assert_close(own[:26], apart)
    assert not own[26:].any()


def test_the_sink_may_be_left_out() -> None:
    rows = torch.zeros(1, 2, 20)
    rows[:, :, 0] = 1
    assert pooled_window(rows, 4)[0] > 0
    assert not pooled_window(rows, 4, exclude_sink=True).any()


def test_selection_is_rising_exact_and_deterministic() -> None:
    scores = torch.rand(100, generator=torch.Generator().manual_seed(2)).mul(10).round()  # many ties
    forced = range(90, 100)
    for budget in (10, 11, 50, 99):
        places = selected(scores, budget, forced)
        assert len(places) == budget
        assert places == sorted(set(places))
        assert set(forced) <= set(places)
        best = sorted(range(90), key=lambda i: (-float(scores[i]), i))[: budget - 10]
        assert places == sorted({*best, *forced})
    assert selected(scores, 100, forced) == list(range(100)) == selected(scores, 1000)
    with pytest.raises(InvalidOption, match="10 are always kept"):
        selected(scores, 9, forced)
    with pytest.raises(InvalidOption, match="at least 1"):
        selected(scores, 0)


def planted(
    lm: Any, ids: Tensor, window: int, told: Any, beyond: int = 0, layers: Any = None, *, strong: Any
) -> None:
    """Stands for `read_all`: heads in `strong` look at the words of the needle alone, others at random."""
    text = bytes(int(i) for i in ids[0]).decode("latin-1")
    first = text.index("The special magic")
    on = torch.zeros(1, 1, ids.shape[1], 4)
    on[:, :, first : text.index(".", first) + 1, 0] = 1
    generator = torch.Generator().manual_seed(0)
    allowed = torch.ones(1, 1, window, ids.shape[1], dtype=torch.bool)
    for layer in range(5):
        q = torch.rand(1, 6, window, 4, generator=generator)
        for where, gain in strong.items():
            if where[0] == layer:
                q[0, where[1], :, 0] = gain
        told(layer, QueriesKeys(q, on.expand(1, 2, -1, -1), 1.0, allowed))


class Letters:
    """Tokenizer whose tokens are the letters of Latin-1."""

    is_fast = True

    def __call__(self, text: str, **options: Any) -> dict[str, Any]:
        places = [(i, i + 1) for i in range(len(text))]
        return {"input_ids": list(text.encode("latin-1")), "offset_mapping": places}


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LanguageModel:
    monkeypatch.setenv("SEMCOM_CACHE", str(tmp_path))
    monkeypatch.setattr(probing, "depth", lambda lm: 5)
    model = SimpleNamespace(dtype=torch.float32, config=SimpleNamespace(max_position_embeddings=4096))
    return LanguageModel("letters", model, Letters(), "2" * 64)


def probed(letters: LanguageModel, monkeypatch: pytest.MonkeyPatch, strong: Any, seed: int = 0) -> HeadMasses:
    monkeypatch.setattr(probing, "read_all", partial(planted, strong=strong))
    return measured_masses(letters, None, Probe(size=1500, seed=seed))


def test_planted_heads_are_found(letters: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    strong = {(1, 3): 7.0, (3, 5): 9.0, (3, 0): 8.0, (4, 2): 7.5}
    found = probed(letters, monkeypatch, strong)
    assert found.mass.shape == (5, 6)
    assert set(map(tuple, np.argwhere(found.mass > 10 * found.uniform).tolist())) == set(strong)
    assert found.heads("sum").layer == 3
    assert found.heads("sum").heads == (5, 0)  # a quarter of six heads, rounded up
    assert found.heads("best-head").layer == 3
    assert found.heads("sum", 2).coverage > 0.9


def test_the_probe_is_kept_per_model(
    letters: LanguageModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = probed(letters, monkeypatch, {(2, 1): 9.0})
    again = probed(letters, monkeypatch, {(4, 4): 9.0})  # not run
    assert np.array_equal(first.mass, again.mass)
    other = probed(replace(letters, digest="3" * 64), monkeypatch, {(4, 4): 9.0})
    assert other.heads("best-head").layer == 4
    for path in (tmp_path / "heads").iterdir():
        path.write_text("{")  # damaged: measured again
    assert probed(letters, monkeypatch, {(3, 3): 9.0}).heads("best-head").layer == 3


def test_a_model_without_evaluator_heads_says_so(
    letters: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = probed(letters, monkeypatch, {}, seed=9)
    with pytest.raises(NoEvaluatorHeads, match="uniform share"):
        found.heads()


def test_layer_rules() -> None:
    mass = np.full((4, 8), 0.01)
    mass[1, :5] = 0.1  # sum .53: 60 % of the largest is .51
    mass[2, 3] = 0.5  # sum .57
    mass[3] = 0.107  # sum .856 is the largest
    found = HeadMasses(mass, 0.01)
    assert [found.heads(rule).layer for rule in ("earliest", "best-head", "sum")] == [1, 2, 3]
    assert len(found.heads().heads) == 2
    assert found.heads("best-head").gain == pytest.approx(50)
    with pytest.raises(InvalidOption, match="earliest, best-head, sum"):
        found.heads("first")
    with pytest.raises(InvalidOption, match=r"1\.\.8"):
        found.heads("sum", 9)


def test_grouped_heads_read_their_own_keys() -> None:
    generator = torch.Generator().manual_seed(4)
    q, k = torch.randn(1, 6, 3, 8, generator=generator), torch.randn(1, 2, 9, 8, generator=generator)
    allowed = torch.ones(1, 1, 3, 9, dtype=torch.bool)
    read = QueriesKeys(q, k, 0.5, allowed)
    torch.testing.assert_close(read.products(), q @ k.repeat_interleave(3, 1).transpose(2, 3))
    torch.testing.assert_close(read.products([5, 2]), read.products()[:, [5, 2]])


transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("scorer", SCORERS, ids=lambda scorer: scorer.name)
def test_contract_of_scorers(scorer: Scorer) -> None:
    lm = random_model("llama")
    ids = tokens(1, 90)[0].tolist()
    reading = Reading(lm, ids, range(6, 80))
    scores = scorer(reading, 30)
    assert scores.shape == (90,)
    assert scores.device.type == "cpu"
    assert bool(torch.isfinite(scores).all())
    torch.testing.assert_close(scorer(Reading(lm, ids, range(6, 80)), 30), scores)  # again, from nothing
    for budget in (20, 45, 89):
        places = kept(reading, scorer, budget)
        assert len(places) == budget
        assert places == sorted(set(places))
        assert set(range(90 - scorer.forced, 90)) <= set(places)
    assert kept(reading, scorer, 90) == list(range(90)) == kept(reading, scorer, 200)
    protected = kept(reading, scorer, 40, protect=True)
    assert set(protected) >= {*range(6), *range(80, 90)}
    assert len(protected) == 40
    with pytest.raises(InvalidOption, match="always kept"):
        kept(reading, scorer, 10, protect=True)
    assert isinstance(scorer, Scorer)


def test_scores_of_the_shared_pass_equal_those_of_a_skim() -> None:
    lm = random_model("llama")
    ids = tokens(1, 60)[0].tolist()
    shared = Reading(lm, ids)
    shared.whole(12, [5, 6, 7])
    for scorer in (EHPC(2, (1, 4), 8, 5), GemFilter(1), SnapKV(10), SelfInformation()):
        torch.testing.assert_close(scorer(shared, 9), scorer(Reading(lm, ids), 9))
    bits, exact = shared.answer([5, 6, 7])
    others, other = answered(lm, ids, [5, 6, 7])
    torch.testing.assert_close(bits, others)
    assert exact == other
    logits = lm.model(input_ids=torch.tensor([[*ids, 5, 6, 7]])).logits[0, 59:62].double()
    expected = -logits.log_softmax(1)[torch.arange(3), [5, 6, 7]] / np.log(2)
    torch.testing.assert_close(bits, expected, atol=1e-4, rtol=1e-5)
    greedy = [int(logits[0].argmax())]
    assert answered(lm, ids, greedy)[1]
    assert not answered(lm, ids, [(greedy[0] + 1) % 97])[1]


def test_evaluator_scores_are_rows_of_eager_attention() -> None:
    ids = tokens(1, 50)
    eager = random_model("llama", "eager").model(input_ids=ids, output_attentions=True).attentions[2]
    expected = eager[0, [1, 4], -8:].mean(1).sum(0)[:42]
    found = EHPC(2, (1, 4), 8, 1)(Reading(random_model("llama"), ids[0].tolist()), 20)
    torch.testing.assert_close(found[:42], expected, atol=1e-5, rtol=0)


def test_received_attention_sums_all_rows() -> None:
    ids = tokens(1, 50)
    eager = random_model("llama", "eager").model(input_ids=ids, output_attentions=True).attentions
    expected = sum(rows[0].sum((0, 1)) for rows in eager)
    torch.testing.assert_close(
        H2O()(Reading(random_model("llama"), ids[0].tolist()), 20), expected, atol=1e-4, rtol=1e-5
    )


def test_a_document_that_foretells_the_question_is_kept_first() -> None:
    class Knows:
        """Stands for `answered`: the question is expected after the third document alone."""

        def __call__(self, lm: Any, ids: list[int], wanted: list[int]) -> tuple[Tensor, bool]:
            known = 77 in ids
            return torch.full((len(wanted),), 1.0 if known else 5.0).double(), False

    from semcom.text import scorers

    lm, ids = random_model("llama"), [1] * 40 + [77] * 20 + [2] * 20 + [9] * 10
    before = scorers.answered
    scorers.answered = Knows()
    try:
        places = kept(Reading(lm, ids, range(80)), LongLLMLingua(20, 0, forced=4), 30)
    finally:
        scorers.answered = before
    assert places == [*range(40, 60), *range(80, 90)]


def test_kept_documents_share_their_budget_by_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of four documents are kept; their shares are 0.6 + 0.2, 0.6 and 0.6 - 0.2 of their tokens."""
    from semcom.text import scorers

    def known(lm: Any, ids: list[int], wanted: list[int]) -> tuple[Tensor, bool]:
        if len(wanted) == 10:  # the question, after the documents 50, 51, 52 and 53 in turn
            return torch.full((10,), float(max(ids))).double(), False
        return torch.linspace(0, 1, len(wanted)).double() * (1 if max(ids) < 9 else -1), False

    monkeypatch.setattr(scorers, "answered", known)
    ids = [document for document in (51, 53, 50, 52) for _ in range(50)] + [9] * 10
    scorer = LongLLMLingua(50, 40, shift=0.2, forced=10)
    places = kept(Reading(random_model("llama"), ids, range(200)), scorer, 90 + 10)
    shares = {ids[i]: 0 for i in range(200)}
    for place in places[:-10]:
        shares[ids[place]] += 1
    assert [round(shares[document] / 50, 1) for document in (50, 51, 52, 53)] == [0.8, 0.6, 0.4, 0.0]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2"])
def test_operations_are_those_that_torch_counts(kind: str) -> None:
    lm = random_model(kind)
    ids = tokens(1, 200)
    cost = Cost.of(lm, causal=False)
    with torch.no_grad():
        full = counted(lambda: lm.model(input_ids=ids, use_cache=False, logits_to_keep=1))
    assert full == pytest.approx(cost.full(200), rel=0.01)
    scorer = EHPC(2, tuple(range(6)), 8, 5)
    skim = counted(lambda: scorer(Reading(lm, ids[0].tolist()), 50))
    assert skim == pytest.approx(cost.skim(200, 2, 8), rel=0.01)


def test_cost_of_the_papers_model() -> None:
    llama = Cost(32, 4096, 1024, 14336, 128256)
    ratio = llama.compressed(10_000, 2_000, 13, 16) / llama.full(10_000)
    assert ratio == pytest.approx(0.581, abs=0.002)
    long = llama.compressed(131_072, 2_048, 13, 16) / llama.full(131_072)
    assert long == pytest.approx(0.411, abs=0.002)
    share = llama.skim(10_000, 13, 16) / llama.compressed(10_000, 2_000, 13, 16)
    assert share == pytest.approx(0.70, abs=0.01)
    with pytest.raises(InvalidOption, match="at most all"):
        llama.compressed(10, 11, 1, 1)


def test_places_of_tokens() -> None:
    lm = byte_model()
    ids, places = token_places(lm, "aé b")
    assert len(ids) == 5
    assert places[1] == places[2] == (1, 2)  # two bytes of one letter
    assert tokens_in(places, [(1, 2)]) == [1, 2]


def test_evidence_of_a_needle_is_its_value() -> None:
    lm = byte_model()
    hay = Haystack(tuple(f"Sentence number {'abcdefghij'[i]} of a long book." for i in range(10)))
    task = needle(hay, np.random.default_rng(1), 600)
    ids, places = token_places(lm, task.prompt)
    found = tokens_in(places, task.shifted(task.evidence))
    assert lm.decode([ids[i] for i in found]) == task.answer.strip()
