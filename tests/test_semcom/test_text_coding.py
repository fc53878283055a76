"""Entropy coding of texts by a language model: exact, within the ideal code length, and never garbage."""

import math
import random

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from language import WORDS, a_language_model

from semcom.codecs.codec import Fitted, Quality
from semcom.codecs.varint import read_varint, varint
from semcom.errors import BudgetTooSmall, CorruptPayload, InvalidOption, MissingWeights
from semcom.modalities import TextShape
from semcom.text import coding, exact
from semcom.text.coding import OVERHEAD_BITS, LanguageModelCodec, language_model_codec
from semcom.text.exact import BYTES, MARGIN, ExactModel, prepared
from semcom.text.packets import RunPackets
from semcom.text.rangecoder import RangeDecoder, RangeEncoder

HARD = (
    "",
    "a",
    " ",
    "\n",
    "🦊👩‍👩‍👧 é é ß 写 \u202e \ufeff",
    "<|im_start|>user<|endoftext|> goes on<|im_end|>",
    "spaces before ? marks , and don 't 're",
    "CR\r\nLF\nCR\rand none",
    "\x00\x01\x04\x06\x13\x7f",
    "𐍈 \U000e0041 \U0010ffff",
    "a" * 3000,
    WORDS * 6,
)


@pytest.fixture(scope="module")
def model() -> ExactModel:
    return prepared(a_language_model())


@pytest.fixture
def codec(model: ExactModel, monkeypatch: pytest.MonkeyPatch) -> LanguageModelCodec:
    monkeypatch.setattr(coding, "exact", lambda name, device: model)
    return LanguageModelCodec("random")


def a_text(seed: int) -> str:
    """Random words, letters of many scripts, control characters and pictures."""
    rng = random.Random(seed)
    alphabet = ("abcdefgh ,.", "äöüßéñ ", "写真音楽", "\x00\x04\x06\t\r\n", "🦊👩‍👧🏽", "0123456789")
    runs = (
        "".join(rng.choices(rng.choice(alphabet), k=rng.randint(1, 12))) for _ in range(rng.randint(0, 12))
    )
    return "".join((*runs, *rng.sample(WORDS.split(), rng.randint(0, 8))))


def test_range_coder_is_near_the_entropy() -> None:
    """10 000 symbols of known frequencies: code length within 1 % of -log2 p."""
    rng = random.Random(0)
    frequencies = [1, 5, 1 << 20, 1 << 24, 12_345, 3]
    total = sum(frequencies)
    below = np.cumsum([0, *frequencies]).tolist()
    symbols = [*rng.choices(range(6), weights=frequencies, k=10_000), 0, 5, 1]
    encoder = RangeEncoder()
    for s in symbols:
        encoder.encode(below[s], frequencies[s], total)
    data = encoder.finish()
    ideal = -sum(math.log2(frequencies[s] / total) for s in symbols)
    assert ideal <= 8 * len(data) <= 1.01 * ideal + 8
    decoder = RangeDecoder(data)
    for s in symbols:
        place = decoder.place(total)
        assert below[s] <= place < below[s + 1]
        decoder.take(below[s], frequencies[s])


def test_range_coder_with_the_largest_total() -> None:
    rng = random.Random(1)
    total = 1 << 40
    symbols = [rng.randrange(total) for _ in range(300)]
    encoder = RangeEncoder()
    for s in symbols:
        encoder.encode(s, 1, total)
    decoder = RangeDecoder(encoder.finish())
    for s in symbols:
        assert decoder.place(total) == s
        decoder.take(s, 1)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**20, 2**35 - 1])
def test_varint(value: int) -> None:
    assert read_varint(b"x" + varint(value), 1) == (value, 1 + len(varint(value)))
    with pytest.raises(CorruptPayload):
        read_varint(varint(value)[:-1], 0)


def test_prefill_and_steps_and_batches_give_equal_integers(model: ExactModel) -> None:
    symbols = model.split(WORDS)
    whole = model.prefill(symbols).numpy()
    offset = model.safe_offset(whole)
    assert offset is not None
    steps = model.steps(3)
    for i, symbol in enumerate(symbols):
        for row in steps.logits:
            assert np.abs(row - whole[i]).max() < MARGIN / 10
            assert np.array_equal(model.frequencies(row, offset), model.frequencies(whole[i], offset))
        steps.feed([symbol] * 3)


def test_single_precision_differs(model: ExactModel) -> None:
    """What the double precision is for: in single precision prefill and steps differ."""
    lm = a_language_model(torch.float32)
    with pytest.raises(InvalidOption, match="float64"):
        prepared(lm)
    single = ExactModel(lm)
    symbols = single.split(WORDS)
    whole = single.prefill(symbols).numpy()
    steps, most = single.steps(1), 0.0
    for i, symbol in enumerate(symbols):
        most = max(most, float(np.abs(steps.logits[0] - whole[i]).max()))
        steps.feed([symbol])
    assert most > 100 * MARGIN


def test_frequencies_are_the_softmax(model: ExactModel) -> None:
    logits = model.prefill(model.split(WORDS)).numpy()
    p = torch.from_numpy(logits).softmax(-1).numpy()
    found = model.frequencies(logits, 0)
    assert found.shape[-1] == model.lm.vocabulary + BYTES
    assert found.min() >= 1
    share = found[..., : model.lm.vocabulary] / found.sum(-1, keepdims=True)
    assert np.abs(np.log(share / p)).max() < 2 / 256 + 1e-3  # one step of the grid, and bytes beside it


def test_an_unsafe_grid_is_not_chosen(model: ExactModel) -> None:
    logits = np.full((1, 8), -0.3)
    assert model.safe_offset(logits) == 0
    logits[0, 3] = 5 / 256  # on a step of grid 0
    assert model.safe_offset(logits) == 1
    logits[0, 4:7] = np.array([0.25, 0.5, 0.75]) / 256
    assert model.safe_offset(logits) is None
    logits[0] = [-90.0, -90 + 5 / 256, *[-0.3] * 6]  # their frequency is 1 on every grid
    assert model.safe_offset(logits) == 0


@pytest.mark.parametrize("text", HARD, ids=range(len(HARD)))
def test_hard_texts_come_back(codec: LanguageModelCodec, text: str) -> None:
    assert codec.decode(codec.encode(text)) == text


def test_200_texts_come_back_in_one_batch(codec: LanguageModelCodec) -> None:
    texts = [a_text(seed) for seed in range(200)]
    assert codec.decode_all([codec.encode(text) for text in texts]) == texts


def test_each_symbol_of_the_tokenizer_is_one_of_the_model(model: ExactModel) -> None:
    symbols = model.split("ab\x04c")
    assert [s - model.lm.vocabulary for s in symbols if s >= model.lm.vocabulary] == [4]
    assert model.join(symbols) == "ab\x04c"


@pytest.mark.parametrize("characters", [1, 7, 120, 1000])
def test_overhead(codec: LanguageModelCodec, model: ExactModel, characters: int) -> None:
    """Code within 1 % and 2 bytes of the ideal code length, per packet, besides head, CRC and fingerprint.

    The model knows nothing, so that packets in another form are shorter; they are coded by it none the less.
    """
    for _, symbols in LanguageModelCodec("random", characters)._cut(model, WORDS):
        coded = coding._coded(model, symbols)
        assert coded is not None
        log_p = model.prefill(symbols).log_softmax(-1)
        ideal = -sum(float(log_p[i, s]) for i, s in enumerate(symbols)) / math.log(2)
        extra = math.log2(1 + BYTES / 2**20)  # bytes beside the vocabulary; no symbol has all of 2^24
        assert 8 * len(coded[1]) <= 1.01 * ideal + 16 + len(symbols) * extra
    assert OVERHEAD_BITS == 48


def test_a_text_that_the_model_expects_is_short(model: ExactModel, codec: LanguageModelCodec) -> None:
    """The greedy continuation of the model costs less than any other coding of it."""
    steps, symbols = model.steps(1), []
    for _ in range(120):
        symbols.append(int(steps.logits[0].argmax()))
        steps.feed(symbols[-1:])
    text = model.join(symbols)
    if model.split(text) == symbols:
        assert 8 * len(codec.encode(text)) < OVERHEAD_BITS + 8 * len(symbols)
    assert codec.decode(codec.encode(text)) == text


def coded_by_the_model(codec: LanguageModelCodec, text: str) -> bytes:
    """Payload of a text in the form of the model, even where another one is shorter."""
    model = coding.exact("random", "cpu")
    symbols = model.split(text)
    offset, code = coding._coded(model, symbols)
    head = 2 << 14 | offset << 11 | len(symbols)
    return (
        head.to_bytes(2, "big") + coding._crc16(text.encode()).to_bytes(2, "big") + model.fingerprint + code
    )


def test_every_flipped_bit_is_noticed(codec: LanguageModelCodec) -> None:
    """Some flips beyond the last symbol do not matter; a CRC of 16 bits lets 1 in 65 536 others pass."""
    text = "jumps over the lazy dog; 😀"
    payload = coded_by_the_model(codec, text)
    assert codec.decode(payload) == text
    damaged = []
    for bit in range(8 * len(payload)):
        changed = bytearray(payload)
        changed[bit // 8] ^= 128 >> bit % 8
        damaged.append(bytes(changed))
    found = codec.decode_all(damaged)
    assert all(isinstance(text_, CorruptPayload) or text_ == text for text_ in found)
    assert sum(isinstance(text_, CorruptPayload) for text_ in found) > 0.8 * len(found)


def test_random_bytes_are_no_text(codec: LanguageModelCodec) -> None:
    rng = random.Random(0)
    for size in (1, 2, 3, 4, 5, 6, 7, 40):
        for _ in range(40):
            (found,) = codec.decode_all([rng.randbytes(size)])
            assert isinstance(found, str) or "\n" not in str(found)


def test_another_model_is_noticed(
    model: ExactModel, codec: LanguageModelCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = coded_by_the_model(codec, WORDS)
    other = prepared(a_language_model(seed=1))
    assert other.fingerprint != model.fingerprint
    monkeypatch.setattr(coding, "exact", lambda name, device: other)
    with pytest.raises(CorruptPayload, match="another model or other arithmetic"):
        codec.decode(payload)
    forged = payload[:4] + other.fingerprint + payload[6:]
    with pytest.raises(CorruptPayload, match="CRC"):  # the checksum of the text, were fingerprints equal
        codec.decode(forged)


def test_other_rounding_is_noticed(
    model: ExactModel, codec: LanguageModelCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A processor whose logits differ by 1e-5, as in single precision, and the same fingerprint."""
    payload = coded_by_the_model(codec, WORDS)
    fingerprint = model.fingerprint

    class Rough(ExactModel):
        fingerprint = property(lambda self: fingerprint)

        def frequencies(self, logits, offset):
            noise = 1e-5 * np.random.default_rng(0).standard_normal(logits.shape)
            return super().frequencies(logits + noise, offset)

    monkeypatch.setattr(coding, "exact", lambda name, device: Rough(model.lm))
    (found,) = codec.decode_all([payload])
    assert isinstance(found, CorruptPayload)


def test_verification_falls_back(
    model: ExactModel, codec: LanguageModelCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder that cannot decode its own packet sends another form."""
    monkeypatch.setattr(coding, "_symbols", lambda model, packets: [[0] for _ in packets])
    careful = LanguageModelCodec("random", verify=True)
    text = "brown fox"
    assert careful.decode(careful.encode(text)) == text


def test_without_a_safe_grid_it_falls_back(
    codec: LanguageModelCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ExactModel, "safe_offset", lambda self, logits: None)
    payload = codec.encode("brown fox")
    assert payload[0] >> 6 != 2
    assert codec.decode(payload) == "brown fox"


def test_fit(codec: LanguageModelCodec) -> None:
    size = 8 * len(codec.encode(WORDS))
    assert codec.fit(WORDS, size).decoded == WORDS
    with pytest.raises(BudgetTooSmall, match=f"needs at least {size} bits"):
        codec.fit(WORDS, size - 1)
    with pytest.raises(InvalidOption, match="only quality"):
        codec.encode(WORDS, Quality(2, 0))
    with pytest.raises(InvalidOption, match="at least 1"):
        LanguageModelCodec("random", 0)


def test_names() -> None:
    assert LanguageModelCodec("smollm2").name == "smollm2"
    assert LanguageModelCodec("owner/model").name == "lm:owner/model"
    with pytest.raises(MissingWeights, match=r"no such file"):
        language_model_codec("/nowhere/x.gguf")


@pytest.mark.parametrize("count", [1, 3, 8])
def test_runs_in_packets(codec: LanguageModelCodec, count: int) -> None:
    packets = RunPackets(codec).encode(WORDS, [1200 // count] * count)
    assert len(packets) == count
    found = RunPackets(codec).decode(packets, TextShape())
    assert found is not None
    assert found.x == WORDS
    assert not any(found.missing)
    lossy = (None, *packets[1:])
    shown = RunPackets(codec).decode(lossy, TextShape())
    assert (shown is None) == (count == 1)
    if shown is not None:
        assert shown.x[0] == "…"
        assert shown.missing[0]
        assert WORDS.endswith(shown.x[1:])
        assert not any(shown.missing[1:])


def test_packets_without_room(codec: LanguageModelCodec) -> None:
    with pytest.raises(BudgetTooSmall, match="has no room"):
        RunPackets(codec).encode(WORDS, [10] * 3)
    uneven = RunPackets(codec).encode(WORDS, [5, 300, 5, 300])
    found = RunPackets(codec).decode(uneven, TextShape())
    assert found is not None
    assert found.x == WORDS


def test_the_window_limits_packets(model: ExactModel) -> None:
    """A context of 256 tokens: longer runs are divided, each packet has at most 255 symbols."""
    runs = list(LanguageModelCodec("random", 100_000)._cut(model, "\x04ab" * 400))
    assert "".join(run for run, _ in runs) == "\x04ab" * 400
    assert max(len(symbols) for _, symbols in runs) <= model.most


def test_layers_of_other_form_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = a_language_model()
    norm = type(lm.model.model.norm)
    monkeypatch.setattr(norm, "forward", lambda self, x: (1 + self.weight) * x)
    with pytest.raises(InvalidOption, match="has another form"):
        prepared(lm)
    assert exact.GRID == 256


@pytest.mark.lm
@pytest.mark.slow
def test_smollm2_codes_prose() -> None:
    """Prose of this project, which no model was trained on: at most 2.5 bits per character at 500."""
    codec = language_model_codec("smollm2")
    text = (LanguageModelCodec.__doc__ or "").replace("\n    ", " ")[:500]
    payload = codec.encode(text)
    assert 8 * len(payload) <= 2.5 * len(text)
    assert codec.decode(payload) == text


def test_the_small_model_ships() -> None:
    """It codes a book better than classical codecs, and comes back on the whole road."""
    from semcom import names
    from semcom.codecs.text import Zlib
    from semcom.modalities import TEXT
    from semcom.text.lm import load

    text = (
        "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be "
        "in want of a wife. However little known the feelings or views of such a man may be on his first "
        "entering a neighbourhood, this truth is so well fixed in the minds of the surrounding families."
    )
    assert load("tiny").vocabulary == 1024
    codec = language_model_codec("tiny")
    payload = codec.encode(text)
    assert codec.decode(payload) == text
    assert 8 * len(payload) <= 2.9 * len(text)
    assert len(payload) < 0.7 * len(Zlib().encode(text, Quality(1, 0)))
    assert names.scheme("tiny+ldpc", TEXT).name == "tiny+ldpc:csit-average"
    assert names.codecs.codec("tiny", "text") == codec


def test_a_receiver_with_another_model_shows_nothing_and_counts_it(
    codec: LanguageModelCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every bit arrives, but the receiver's model is another one."""
    from channels import Received
    from semcom.separate import FixedMcs, Separate

    monkeypatch.setattr(LanguageModelCodec, "fit", lambda self, x, most: Fitted(payload, Quality(1, 0), x))
    payload = coded_by_the_model(codec, WORDS)
    scheme = Separate(codec, FixedMcs(9))
    symbols = scheme.send(WORDS, 2000, None).symbols
    received = Received(symbols, torch.ones_like(symbols), torch.full((1, 1), 0.01))
    (right,) = scheme.receive(received, TextShape(), 2000)
    assert right.shown == WORDS
    assert "corrupt_payload" not in right.info
    other = prepared(a_language_model(seed=1))
    monkeypatch.setattr(coding, "exact", lambda name, device: other)
    (wrong,) = scheme.receive(received, TextShape(), 2000)
    assert wrong.shown is None
    assert wrong.info["corrupt_payload"] == 1


def test_packets_of_another_model_are_gaps_and_counted(
    codec: LanguageModelCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every packet arrives; those that the receiver's model cannot decode are marked and counted."""
    from channels import MCS_TABLE, PacketLink, Received
    from semcom.codecs.packets import TextPackets
    from semcom.codecs.text import Zlib
    from semcom.packetised import Packetised

    coded = coded_by_the_model(codec, WORDS)
    plain = codec.encode("?")  # UTF-8, which needs no model
    scheme = Packetised(RunPackets(codec), 600, rows=(9,))
    symbols = PacketLink(600, (MCS_TABLE[9],) * 3).send([plain, coded, plain], 1800)
    received = Received(symbols, torch.ones_like(symbols), torch.full((1, 1), 0.01))
    (right,) = scheme.receive(received, TextShape(), 1800)
    assert right.shown == f"?{WORDS}?"
    assert right.info == {"packet_loss": 0}
    other = prepared(a_language_model(seed=1))
    monkeypatch.setattr(coding, "exact", lambda name, device: other)
    (wrong,) = scheme.receive(received, TextShape(), 1800)
    assert wrong.shown == "?…?"
    assert wrong.info == {"packet_loss": 0, "corrupt_packets": 1}
    (nothing,) = Packetised(TextPackets(Zlib()), 600, rows=(9,)).receive(received, TextShape(), 1800)
    assert nothing.shown is None
    assert nothing.info == {"packet_loss": 0, "corrupt_packets": 3}
