"""Scripts of users of LLMLingua and kvpress run with one import changed."""

from typing import Any

import pytest

pytest.importorskip("transformers")

import semcom.text.compression as compression
from semcom.errors import InvalidOption
from semcom.text import PromptCompressor
from semcom.text.heads import EvaluatorHeads
from tests.tiny_models import byte_model, random_model, tokens

HEADS = EvaluatorHeads(1, (0, 1), 1.0, 9.0, 2)
LLMLINGUA = """
from llmlingua import PromptCompressor

llm_lingua = PromptCompressor(model_name, device_map="cpu")
passages = ["The gate was opened by Ada in 1817. It rained.", "The wall is old. Nobody knows its age." * 3]
short = llm_lingua.compress_prompt(passages, instruction="Read.", question="Who opened it?", target_token=60)
long = llm_lingua.compress_prompt(
    passages,
    question="Who opened the gate?",
    rate=0.55,
    condition_in_question="after_condition",
    reorder_context="sort",
    dynamic_context_compression_ratio=0.3,
    condition_compare=True,
    context_budget="+100",
    rank_method="longllmlingua",
)
second = llm_lingua.compress_prompt(
    passages, rate=0.5, force_tokens=["\\n", "?"], force_reserve_digit=True, chunk_end_tokens=[".", "\\n"]
)
positional = llm_lingua.compress_prompt(passages, "Read.", "Who?", 0.5)
"""
KVPRESS = """
import torch
from transformers import DynamicCache
from kvpress import SnapKVPress

press = SnapKVPress(compression_ratio=0.5, window_size=8, kernel_size=5)
cache = DynamicCache()
with torch.no_grad(), press(model):
    model(input_ids=ids, past_key_values=cache)
length = cache.get_seq_length()
press.compression_ratio = 0.75
with press(model):
    answer = model.generate(ids, max_new_tokens=4, min_new_tokens=4, do_sample=False)
"""


def run(script: str, line: str, ours: str, **given: Any) -> dict[str, Any]:
    """Names of a script after it ran, with one line changed."""
    assert script.count(line) == 1
    names = dict(given)
    exec(compile(script.replace(line, ours), "script", "exec"), names)
    return names


def test_a_script_for_llmlingua(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "load", lambda name, device, dtype: byte_model())
    masses = type("Masses", (), {"heads": lambda self, rule: HEADS})()
    monkeypatch.setattr(compression, "measured_masses", lambda lm, told: masses)
    line = "from llmlingua import PromptCompressor"
    found = run(LLMLINGUA, line, "from semcom.text import PromptCompressor", model_name="random")
    for name, least in (("short", 60), ("long", 0), ("second", 0), ("positional", 0)):
        done = found[name]
        assert {"compressed_prompt", "origin_tokens", "compressed_tokens", "ratio", "rate"} <= set(done), name
        assert done["compressed_tokens"] < done["origin_tokens"]
        assert float(done["rate"].rstrip("%")) == pytest.approx(
            100 * done["compressed_tokens"] / done["origin_tokens"], abs=0.06
        )
        assert done["context_tokens"] == least or not least
    assert found["short"]["compressed_prompt"].startswith("Read.")
    assert found["short"]["compressed_prompt"].endswith("Who opened it?")
    assert "1817" in found["second"]["compressed_prompt"]


def test_what_is_not_offered_is_refused() -> None:
    made = PromptCompressor.around(byte_model(), HEADS)
    with pytest.raises(InvalidOption, match="kept_indices"):
        made.compress_prompt("One. Two.", return_word_label=True)
    with pytest.raises(InvalidOption, match="list of contexts"):
        made.compress_prompt("One. Two.", context_segs=["One."])


def test_a_script_for_kvpress() -> None:
    line = "from kvpress import SnapKVPress"
    ours = "from semcom.text.press import EvaluatorPress as SnapKVPress"
    ids = tokens(1, 40)
    found = run(KVPRESS, line, ours, model=random_model("llama").model, ids=ids)
    assert found["length"] == 20
    assert found["answer"].shape == (1, 44)
