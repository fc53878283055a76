"""A press of key-value caches in the shape of kvpress, on tiny random models."""

from typing import Any

import pytest
import torch

from semcom.errors import InvalidOption
from semcom.text.ehpc import EHPC, kept
from semcom.text.press import EvaluatorPress
from semcom.text.reading import Reading
from tests.tiny_models import random_model, tokens

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("kind", ["llama", "phi3", "qwen3", "gpt2"])
def test_every_layer_keeps_the_entries_of_the_selected_tokens(kind: str) -> None:
    lm, ids = random_model(kind), tokens(1, 40)
    whole, pressed = transformers.DynamicCache(), transformers.DynamicCache()
    lm.model(input_ids=ids, past_key_values=whole)
    press = EvaluatorPress(0.6, layer=2, heads=(1, 3), window_size=4, kernel_size=3)
    with press(lm.model):
        lm.model(input_ids=ids, past_key_values=pressed)
    places = kept(Reading(lm, ids[0].tolist()), EHPC(2, (1, 3), 4, 3), 16)
    assert len(places) == 16
    for layer, other in zip(pressed.layers, whole.layers, strict=True):
        torch.testing.assert_close(layer.keys, other.keys[:, :, places])
        torch.testing.assert_close(layer.values, other.values[:, :, places])


def test_decoding_goes_on_and_hooks_are_gone() -> None:
    lm, ids = random_model("llama"), tokens(1, 40)
    with EvaluatorPress(0.5, layer=1, window_size=4)(lm.model):
        out = lm.model.generate(ids, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert out.shape == (1, 43)
    assert not lm.model.model.layers[1].self_attn._forward_pre_hooks
    assert not lm.model.model._forward_hooks


def test_nothing_is_dropped_at_ratio_zero() -> None:
    lm, ids = random_model("llama"), tokens(1, 30)
    cache = transformers.DynamicCache()
    with EvaluatorPress(0.0, layer=1, window_size=4)(lm.model):
        lm.model(input_ids=ids, past_key_values=cache)
    assert cache.get_seq_length() == 30


def test_bounds() -> None:
    with pytest.raises(InvalidOption, match=r"\[0, 1\)"):
        EvaluatorPress(1.0)
    lm = random_model("llama")
    with pytest.raises(InvalidOption, match=r"0\.\.3"), EvaluatorPress(0.5, layer=4)(lm.model):
        pass
    with pytest.raises(InvalidOption, match=r"1\.\.8"), EvaluatorPress(0.5, window_size=9)(lm.model):
        lm.model(input_ids=tokens(1, 8), use_cache=True)


@pytest.mark.parametrize("kind", ["mistral", "qwen2-by-layer"])
def test_scores_are_those_of_sliding_window_attention(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt is longer than the window: entries that no query sees score 0, as in eager attention."""
    lm, eager, ids = random_model(kind), random_model(kind, "eager"), tokens(1, 40)
    rows = eager.model(input_ids=ids, output_attentions=True, use_cache=False).attentions[2][0, [1, 3], -4:]
    found: list[torch.Tensor] = []
    whole = EvaluatorPress.score

    def scored(*arguments: Any) -> torch.Tensor:
        found.append(whole(*arguments)[0, 0, :36])
        return whole(*arguments)

    monkeypatch.setattr(EvaluatorPress, "score", scored)
    press = EvaluatorPress(0.5, layer=2, heads=(1, 3), window_size=4, kernel_size=1)
    with press(lm.model):
        lm.model(input_ids=ids, past_key_values=transformers.DynamicCache())
    torch.testing.assert_close(found[0], rows.mean(1).sum(0)[:36], atol=1e-5, rtol=0)
    assert not found[0][: 40 - 16 - 4].any()  # beyond the windows of the last 4 queries


def test_layers_that_hold_the_last_tokens_alone_stay() -> None:
    lm, ids = random_model("qwen2-by-layer"), tokens(1, 40)
    cache = transformers.DynamicCache(config=lm.model.config)
    with EvaluatorPress(0.5, layer=0, heads=(1, 3), window_size=4)(lm.model):
        lm.model(input_ids=ids, past_key_values=cache)
        assert [layer.keys.shape[2] for layer in cache.layers] == [20, 20, 15, 15]
        out = lm.model.generate(ids, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert out.shape == (1, 43)
    short = transformers.DynamicCache(config=lm.model.config)  # within the window: all layers are pressed
    with EvaluatorPress(0.5, layer=0, heads=(1, 3), window_size=4)(lm.model):
        lm.model(input_ids=ids[:, :12], past_key_values=short)
    assert [layer.get_seq_length() for layer in short.layers] == [6] * 4
    assert [layer.keys.shape[2] for layer in short.layers] == [6] * 4


def test_a_cache_of_last_tokens_alone_is_refused() -> None:
    lm = random_model("mistral")
    cache = transformers.DynamicCache(config=lm.model.config)
    press = EvaluatorPress(0.5, layer=0, window_size=4)
    with pytest.raises(InvalidOption, match="every layer keeps the last 15 alone"), press(lm.model):
        lm.model(input_ids=tokens(1, 40), past_key_values=cache)
