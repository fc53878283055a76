"""Scripts of semantic compression and in-context editing, with a scripted model."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import script_modules
import torch

from semcom.text.blocks import Sentence, sentences_of
from semcom.text.lm import LanguageModel

pytestmark = pytest.mark.slow
SCRIPTS = Path(__file__).parents[2] / "scripts"
WORDS = ("river", "stone", "garden", "winter", "letter", "window", "morning", "silver", "music", "forest")


def script(name: str) -> ModuleType:
    module = script_modules.script(name)
    assert all(word in (module.__doc__ or "") for word in ("Run: ", "Cost: ", "Expect: ", f"{name}.py"))
    return module


def books(*_, **__) -> dict[str, tuple[Sentence, ...]]:
    """Eight sources, each with words of its own."""
    found = {}
    for source in range(8):
        rng = np.random.default_rng(source)
        lines = (" ".join(f"{word}{source}" for word in rng.choice(WORDS, 9)) for _ in range(260))
        found[str(source)] = tuple(sentences_of(" ".join(f"The {line}." for line in lines)))
    return found


class Counting:
    """Embedding of unit length by the letters and digits of a text."""

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        found = torch.tensor([[text.count(c) + 0.01 for c in "0123456789aeiou"] for text in texts])
        return torch.nn.functional.normalize(found, dim=1)


class Words:
    """Tokenizer of words, which learns them as they come."""

    eos_token_id = bos_token_id = 0

    def __init__(self) -> None:
        self.known: dict[str, int] = {"": 0}

    def get_vocab(self) -> dict[str, int]:
        return {}

    def __call__(self, text: str, add_special_tokens: bool, verbose: bool) -> dict[str, list[int]]:
        words = text.replace("\n", " ").replace(".", " .").split()
        return {"input_ids": [self.known.setdefault(word, len(self.known) % 4000) for word in words]}

    def decode(self, tokens: list[int], clean_up_tokenization_spaces: bool) -> str:
        names = {number: word for word, number in self.known.items()}
        return "".join(f" {names.get(token, '?')}" for token in tokens)


class Induction:
    """A model that says what followed the last four words where they stood before, or else a full stop."""

    device = torch.device("cpu")
    config = SimpleNamespace(vocab_size=4000, max_position_embeddings=100_000)

    def __init__(self, words: Words) -> None:
        self.words = words

    def __call__(self, *arguments, **named):
        return self.forward(*arguments, **named)

    def forward(self, input_ids, use_cache=False, cache=(), logits_to_keep=0) -> SimpleNamespace:
        ids = [*(cache or ()), *input_ids[0].tolist()]
        keep = logits_to_keep or len(ids)
        logits = torch.zeros(1, keep, 4000)
        for row, place in enumerate(range(len(ids) - keep, len(ids))):
            tail = ids[max(0, place - 3) : place + 1]
            before = [i for i in range(3, place) if ids[i - 3 : i + 1] == tail]
            logits[0, row, ids[before[0] + 1] if before else self.words.known.get(".", 1)] = 9.0
        return SimpleNamespace(logits=logits, cache=tuple(ids))


@pytest.fixture
def lm() -> LanguageModel:
    words = Words()
    return LanguageModel("induction", Induction(words), words, "0" * 64)


def test_semantic_compression(tmp_path: Path, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    import pandas as pd

    module = script("semantic_compression")
    monkeypatch.setattr(module, "load", lambda name, dtype: lm)
    monkeypatch.setattr(module, "load_embedder", lambda name: Counting())
    monkeypatch.setattr(module, "read_books", books)
    monkeypatch.setattr(module, "LENGTHS", (1000, 8000))
    monkeypatch.setattr(module, "RATIO_LENGTHS", (2000, 4000))
    module.main(["--items", "2", "--out", str(tmp_path)])
    found = pd.read_csv(tmp_path / "needles.csv")
    assert len(found) == 2 * 2 * len(module.METHODS)
    assert found["ordered"].all()
    assert set(found["kept"]) <= {0, 1}
    ratios = pd.read_csv(tmp_path / "ratios.csv")
    assert (abs(ratios["ratio"] / ratios["asked"] - 1) < 0.1).all()
    assert ratios["parallel_equal"].all()
    topics = pd.read_csv(tmp_path / "topics.csv")
    assert topics[topics["number_known"] == 1]["ari"].mean() > 0.7
    before = (tmp_path / "table.md").read_text()
    module.main(["--items", "2", "--out", str(tmp_path)])
    assert (tmp_path / "table.md").read_text() == before
    assert "<svg" in (tmp_path / "semantic_compression.svg").read_text()


def test_in_context_editing(tmp_path: Path, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that copies perfectly: iteration answers what one reading cannot, and the factors multiply."""
    pytest.importorskip("rank_bm25")
    module = script("in_context_editing")
    monkeypatch.setattr(module, "load", lambda name, device, dtype: lm)
    monkeypatch.setattr(module, "read_books", books)
    records = tmp_path / "records"
    records.mkdir()
    record = {
        **{"_id": "b", "question": "Which one is it?", "answer": "Z", "supporting_facts": [["U", 0]]},
        "context": [["T", ["One.", " Two."]], ["U", ["Z."]]],
    }
    for name in ("hotpot", "musique", "wikihop"):
        (records / f"{name}.jsonl").write_text(json.dumps(record))
    out = tmp_path / "out"
    arguments = ["--out", str(out), "--records", str(records), "--decode"]
    module.main([*arguments, "--items", "2"])
    module.main([*arguments, "--items", "3"])
    rows = {
        path.stem: [json.loads(line) for line in path.read_text().splitlines()]
        for path in out.glob("*.jsonl")
    }
    assert {name: len(found) for name, found in rows.items()} == {
        **{"chains": 3, "edits": 3, "variables": 3, "cost": 40, "records": 9, "decoded": 3}
    }
    assert all(row["iterative"] == 1 and row["direct"] == 0 for row in rows["chains"])
    assert all(row["constrained follows the edit"] == 1 for row in rows["edits"])
    iterative = [row["iterative"] for row in rows["cost"]]
    assert max(iterative) < 2 * min(iterative)
    assert "product of all factors | 1.00" in (out / "table.md").read_text()
    assert "<svg" in (out / "in_context_editing.svg").read_text()


def test_prompt_compression_goes_on(
    tmp_path: Path, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every prompt is measured once, whatever the number of calls."""
    module = script("prompt_compression")
    asked: list[str] = []

    def row(lm: LanguageModel, task: SimpleNamespace, plan: object) -> dict[str, object]:
        asked.append(task.id)
        return {"tokens": 9, "full": {"exact": 1, "nll": 0.5}}

    replaced = {
        "load": lambda name: lm,
        "read_book": lambda path: ". ".join(f"The river {i} is long here" for i in range(99)),
        "measured_masses": lambda *_: SimpleNamespace(
            heads=lambda rule: SimpleNamespace(layer=1, heads=(0,))
        ),
        "planned": lambda masses: dict.fromkeys(module.TURNS),
        "hotpot_plan": lambda masses, tail: None,
        "task_of": lambda lm, cell, number, books: SimpleNamespace(tail="", id=f"{cell} {number}"),
        "measured": row,
        "table": lambda rows: str(len(rows)),
        "costs": lambda *_: {"layers": 17},
    }
    for name, own in replaced.items():
        monkeypatch.setattr(module, name, own)
    for number in ("1", "2"):
        monkeypatch.setattr("sys.argv", ["x", "--number", number, "--peers", "1", "--out", str(tmp_path)])
        module.main()
    assert len(asked) == len(set(asked)) == 9
    assert (tmp_path / "table.md").read_text().strip() == "9"
    monkeypatch.setattr("sys.argv", ["x", "--cost", "--out", str(tmp_path)])
    module.main()
    assert json.loads((tmp_path / "cost.json").read_text()) == {"layers": 17}


def test_texts_over_noise_and_their_protection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed and called again they measure what is missing; all schemes have the same channel uses."""
    pytest.importorskip("transformers")
    pytest.importorskip("zstandard")
    monkeypatch.syspath_prepend(str(SCRIPTS))
    over, protection = script("text_over_noise"), script("text_protection")
    monkeypatch.setattr(over, "cosines", lambda: lambda received, x: float(received == x))
    out = tmp_path / "over"
    given = ["--channels", "awgn", "--snr", "0", "20", "--schemes", "zlib+ldpc", "deepsc", "--out", str(out)]
    over.main(["--messages", "2", *given])
    over.main(["--messages", "3", *given])
    rows = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    found = over.cells(rows)
    assert found["zlib+ldpc:csit-average", "awgn", 20.0]["exact"] == [1, 1, 1]
    assert found["zlib+ldpc:csit-average", "awgn", 0.0]["needle"] == [0, 0, 0]
    assert {len(values["message"]) for values in found.values()} == {3}
    assert (out / "tables.md").read_text().count("| deepsc | 3 |") == len(over.MEASURES)

    options = ["--texts", str(out / "messages.jsonl"), "--model", "tiny", "--messages", "2"]
    options += ["--snr", "0", "8"]
    options += ["--parts", "prior", "runs", "packets", "--out", str(tmp_path / "parts")]
    protection.main(options)
    before = (tmp_path / "parts" / "records.jsonl").read_text()
    protection.main(options)
    assert (tmp_path / "parts" / "records.jsonl").read_text() == before
    table = (tmp_path / "parts" / "tables.md").read_text()
    assert all(f"## {part}" in table for part in ("Language model", "Lengths of runs", "Lengths of packets"))


def test_texts_come_back_from_other_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model that ships, its parallel encoder, and decoders with AVX2 alone and with two threads."""
    pytest.importorskip("transformers")
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = script("text_round_trip")
    settings = ["AVX2, 1 thread", "as it is, 2 threads"]
    out = tmp_path / "rows.json"
    with pytest.raises(SystemExit) as ended:
        module.main(
            ["--model", "tiny", "--texts", "12", "--long", "300", "--settings", *settings, "--out", str(out)]
        )
    assert ended.value.code == 0
    assert [row["right"] for row in json.loads(out.read_text())] == [13, 13]
