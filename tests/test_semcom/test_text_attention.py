"""Queries and keys read by hooks against the eager attention of `transformers`, on tiny random models."""

import pytest
import torch
from torch import Tensor

from semcom.errors import InvalidOption
from semcom.text.attention import UnknownArchitecture, read_all, skim
from semcom.text.editing.readers import continued, teacher_forced
from semcom.text.lm import LanguageModel
from semcom.text.reading import answered
from tests.tiny_models import KINDS, byte_model, random_model, tokens

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("kind", KINDS)
def test_rows_equal_eager_attention(kind: str) -> None:
    ids = tokens(2, 40)
    lm = random_model(kind)
    eager = random_model(kind, "eager")
    expected = eager.model(input_ids=ids, output_attentions=True, use_cache=False).attentions
    assert max(float(rows.amax()) for rows in expected) > 0.3  # far from the uniform 1 / 40
    for layer in range(4):
        rows = skim(lm, ids, layer, 7).probabilities()
        torch.testing.assert_close(rows, expected[layer][:, :, -7:], atol=1e-5, rtol=0)
    chosen = skim(lm, ids, 2, 7).probabilities([4 if kind != "smollm2" else 1, 0])
    torch.testing.assert_close(
        chosen, expected[2][:, [4 if kind != "smollm2" else 1, 0], -7:], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("kind", KINDS)
def test_all_layers_in_one_pass(kind: str) -> None:
    ids = tokens(1, 30)
    lm = random_model(kind)
    found: dict[int, Tensor] = {}
    hidden = read_all(lm, ids, 5, lambda layer, read: found.update({layer: read.probabilities()}))
    assert sorted(found) == [0, 1, 2, 3]
    for layer, rows in found.items():
        torch.testing.assert_close(rows, skim(lm, ids, layer, 5).probabilities(), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        lm.model.get_output_embeddings()(hidden), lm.model(input_ids=ids, use_cache=False).logits
    )


def test_what_follows_the_prompt_changes_nothing() -> None:
    ids = tokens(1, 34)
    lm = random_model("llama")
    found: dict[int, Tensor] = {}
    read_all(lm, ids, 5, lambda layer, read: found.update({layer: read.probabilities()}), 4, [1, 3])
    assert sorted(found) == [1, 3]
    torch.testing.assert_close(found[3], skim(lm, ids[:, :30], 3, 5).probabilities(), atol=1e-6, rtol=0)


def test_layers_after_the_wanted_one_do_not_run() -> None:
    lm = random_model("llama")
    ran = []
    for number, layer in enumerate(lm.model.model.layers):
        layer.mlp.register_forward_hook(lambda *_, number=number: ran.append(number))
    skim(lm, tokens(1, 20), 2, 4)
    assert ran == [0, 1]
    assert not any(layer.self_attn._forward_pre_hooks for layer in lm.model.model.layers)


@pytest.mark.parametrize("kind", ["llama", "phi3", "gpt2"])
def test_left_padding_equals_single_runs(kind: str) -> None:
    lm = random_model(kind)
    long, short = tokens(1, 30), tokens(1, 18) + 1
    batch = torch.cat([long, torch.nn.functional.pad(short, (12, 0))])
    mask = torch.ones_like(batch)
    mask[1, :12] = 0
    rows = skim(lm, batch, 2, 6, mask).probabilities()
    torch.testing.assert_close(rows[:1], skim(lm, long, 2, 6).probabilities(), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows[1:, :, :, 12:], skim(lm, short, 2, 6).probabilities(), atol=1e-5, rtol=0)
    assert not rows[1, :, :, :12].any()


@pytest.mark.parametrize(
    ("layer", "window", "length", "message"),
    [(4, 2, 9, r"0\.\.3"), (1, 10, 9, r"1\.\.9"), (1, 0, 9, r"1\.\.9"), (1, 2, 300, "at most 256")],
)
def test_bounds(layer: int, window: int, length: int, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        skim(random_model("llama"), tokens(1, length), layer, window)


def test_other_architectures_are_named() -> None:
    config = transformers.GPTNeoXConfig(
        vocab_size=97, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    lm = LanguageModel("neox", transformers.GPTNeoXForCausalLM(config), None, "0" * 64)
    with pytest.raises(UnknownArchitecture, match=r"gpt_neox.*llama"):
        skim(lm, tokens(1, 8), 0, 2)


@pytest.mark.parametrize("reader", ["logits", "code lengths", "answer", "greedy decoding", "continuation"])
def test_no_reader_goes_beyond_the_window(reader: str) -> None:
    """Rotary positions would be extrapolated in silence, tables of positions end in an index error."""
    lm = byte_model(window=64)
    read = {
        "logits": lambda n: lm.logits(torch.ones(1, n, dtype=torch.int64)),
        "code lengths": lambda n: lm.nll_bits([1] * n),
        "answer": lambda n: answered(lm, [1] * (n - 1), [2]),
        "greedy decoding": lambda n: teacher_forced(lm, "x" * (n - 1), "y"),
        "continuation": lambda n: continued(lm, "x" * (n - 3), 3),
    }[reader]
    read(64)
    with pytest.raises(InvalidOption, match="65 tokens: bytes reads at most 64"):
        read(65)
