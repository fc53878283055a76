"""Texts over noise: unequal protection, marked guesses, a language model as prior, and DeepSC."""

import math
from dataclasses import replace

import pytest
import torch

pytest.importorskip("transformers")

from language import WORDS, a_language_model, a_tokenizer

from channels import AWGN, Channel, NamedStreams, RayleighBlockFading, Streams
from channels.lossy import IndependentLoss, Lossy
from channels.streams import SharedStreams
from semcom import names
from semcom.budget import Budget
from semcom.codecs.codec import Quality
from semcom.codecs.text import Zlib
from semcom.data import Item
from semcom.errors import InvalidOption, UnknownName
from semcom.metrics import chrf, wer
from semcom.modalities import TEXT, TextShape
from semcom.observation import Gaps, Observation
from semcom.receivers import Direct
from semcom.scheme import Outcome, Scheme
from semcom.sending import send
from semcom.text import coding, deepsc, importance, prior, restoration
from semcom.text.deepsc import DeepSC
from semcom.text.exact import ExactModel, prepared
from semcom.text.heads import EvaluatorHeads
from semcom.text.importance import (
    Asked,
    Digits,
    Equal,
    Importance,
    Rules,
    Scored,
    importance_named,
    sentences,
)
from semcom.text.prior import LanguagePrior, beam_search, symbol_labels, symbol_log_likelihoods
from semcom.text.protection import Unequal, _divisions
from semcom.text.restoration import CLOSING, OPENING, Restoration, as_received, as_restored, guesses
from semcom.text.token_jscc import TokenJSCC
from semcom.training import deepsc as recipe
from semcom.transmission import Transmission

NEEDLE = "The special magic number for Lisbon is 48213. "
LETTER = (
    "The meeting was long and rather dull for everybody. "
    + NEEDLE
    + "Nobody was in a hurry to leave the room, "
    "though it had grown late and cold. Some were asleep. Others read newspapers, and a few argued about the "
    "weather in low voices. Then the lamps went out one by one."
)


def sent(
    transmission: Transmission[str], x: str, channel: Channel, snr_db: float, uses: int, runs: int = 1
) -> list[Outcome[str]]:
    rng = NamedStreams(0, tuple(f"run={i}" for i in range(runs)))
    scheme = Scheme(transmission.name, transmission, Direct(), TEXT)
    return scheme.transmit(x, Budget(uses, TEXT.dims(x)), channel, snr_db, rng)


# Importance


@pytest.mark.parametrize("most", [7, 20, 160])
@pytest.mark.parametrize("text", [LETTER, "", "x" * 500, "One.\n\nTwo!\nThree", " \n ", "a. b? c… d"])
def test_sentences_are_the_text(text: str, most: int) -> None:
    units = sentences(text, most)
    assert "".join(text[unit.start : unit.stop] for unit in units) == text
    assert all(0 < len(unit) <= most for unit in units)


@pytest.mark.parametrize("rule", [Rules(), Digits()], ids=lambda rule: rule.name)
def test_numbers_matter_most(rule: Importance) -> None:
    units = sentences(LETTER)
    weights = rule(LETTER, units)
    best = max(range(len(units)), key=lambda i: weights[i] / len(units[i]))
    assert LETTER[units[best].start : units[best].stop] == NEEDLE


def test_importance_of_words_everywhere_is_nothing() -> None:
    """Closed form: log(units + 1 / units with the word), summed."""
    text = "same one. same two. same."
    found = Rules()(text, sentences(text))
    assert found == pytest.approx([math.log(4 / 3) + math.log(4)] * 2 + [math.log(4 / 3)])


def test_own_importance() -> None:
    rule = Scored("upper", lambda text: [float(c.isupper()) for c in text])
    assert rule("aB. CD.", [range(0, 4), range(4, 7)]) == [1.0, 2.0]
    with pytest.raises(InvalidOption, match="3 scores for 7 characters"):
        Scored("short", lambda text: [1.0] * 3)("aB. CD.", [range(0, 7)])
    assert [importance_named(name).name for name in ("rules", "digits", "equal")] == [
        "rules",
        "digits",
        "equal",
    ]
    with pytest.raises(UnknownName, match="no importance called 'best'"):
        importance_named("best")


def test_importance_by_a_question_is_the_attention_of_its_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against attention that the library gives by itself, from the tokens of the question to each unit."""
    from semcom.text.tasks import BETWEEN, HEAD

    lm = a_language_model()
    monkeypatch.setattr(
        importance, "_model", lambda name, device: (lm, EvaluatorHeads(1, (2, 0), 1.0, 9.0, 2))
    )
    text = WORDS[:100]
    units = sentences(text, 20)
    found = Asked("who sleeps?")(text, units)
    lm.model.set_attn_implementation("eager")
    ids = lm.encode(HEAD + text + f"{BETWEEN}who sleeps?\n")
    rows = lm.model(torch.tensor([ids]), output_attentions=True).attentions[1][0, [2, 0]]
    ends = [len(lm.decode(ids[: i + 1])) - len(HEAD) for i in range(len(ids))]
    starts = [-len(HEAD), *ends]
    first = next(i for i, end in enumerate(ends) if end > len(text))
    mass = rows[:, first:, :].mean(1).sum(0)
    shares = [float(mass[i]) / (ends[i] - starts[i]) for i in range(first)]
    for unit, weight in zip(units, found, strict=True):
        inside = [max(0, min(ends[i], unit.stop) - max(starts[i], unit.start)) for i in range(first)]
        expected = sum(shares[i] * inside[i] for i in range(1, first))
        assert weight == pytest.approx(expected, rel=1e-6)
    assert sum(found) > 0


def test_importance_by_a_question_is_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coding, "weights_digest", lambda name: "0" * 16)
    scheme = names.scheme("zlib+uep:256:ehpc:who sleeps?", TEXT)
    assert scheme.name == "zlib+uep:256:ehpc:who sleeps?"
    assert importance_named("ehpc:who") == Asked("who", weights="0" * 16)
    with pytest.raises(InvalidOption, match="an empty question"):
        names.scheme("zlib+uep:256:ehpc", TEXT)


@pytest.mark.lm
@pytest.mark.slow
def test_the_sentence_that_is_asked_for_matters_most() -> None:
    """A name that no rule knows to matter; with another question, another sentence."""
    for question, answer in (
        ("what is the special magic number for Lisbon?", "48213"),
        ("what was argued about?", "newspapers"),
    ):
        units = sentences(LETTER)
        weights = Asked(question)(LETTER, units)
        best = units[max(range(len(units)), key=lambda i: weights[i] / len(units[i]))]
        assert answer in LETTER[best.start : best.stop]


# Unequal error protection


def unequal(rule: Importance, classes: int = 3) -> Unequal:
    return Unequal(Zlib(), 256, rule, classes)


def test_divisions_cover_the_list() -> None:
    for division in _divisions(30, 3):
        edges = [a for a, _ in division] + [30]
        assert edges[0] == 0
        assert edges == sorted(set(edges))
    assert len(list(_divisions(30, 1))) == 1
    assert len(list(_divisions(30, 3))) == 1 + 8 + 28


@pytest.mark.parametrize("rule", [Rules(), Equal(), Digits()], ids=lambda rule: rule.name)
def test_all_arrives_without_noise(rule: Importance) -> None:
    (outcome,) = sent(unequal(rule), LETTER, AWGN(), 30.0, 3072)
    assert outcome.x_hat == LETTER
    assert outcome.info["packet_loss"] == 0


def test_the_number_is_answered_more_often_than_with_equal_protection() -> None:
    """Where equal protection loses packets, what matters most gets through."""
    channel, uses, runs = RayleighBlockFading(64), 2048, 40
    equal = sent(unequal(Equal(), 1), LETTER, channel, 9.0, uses, runs)
    better = sent(unequal(Rules()), LETTER, channel, 9.0, uses, runs)
    lost = sum(outcome.info.get("packet_loss", 1.0) for outcome in equal) / runs
    assert 0.2 < lost < 0.5
    answered = [sum("48213" in outcome.x_hat for outcome in some) / runs for some in (equal, better)]
    assert answered[1] >= 0.95
    assert answered[1] >= answered[0] + 0.15
    assert {outcome.channel_uses for outcome in equal} == {outcome.channel_uses for outcome in better}


def test_texts_that_repeat_themselves_find_room() -> None:
    """As a whole the text has a sixth of the bytes of its pieces; each piece fits easily."""
    text = " ".join(
        f"Room {37 * i % 101} was empty when the keeper came to the old harbour." for i in range(40)
    )
    pieces = sum(len(Zlib().encode(text[i : i + 65], Quality(1, 0))) for i in range(0, len(text), 65))
    assert pieces > 5 * len(Zlib().encode(text, Quality(1, 0)))
    transmission = Unequal(Zlib(), 256, Rules())
    (outcome,) = sent(transmission, text, AWGN(), 15.0, 256 * 60)
    assert not outcome.outage, outcome.cause
    assert outcome.x_hat == text


def test_lost_sentences_are_marked_at_their_place() -> None:
    outcomes = sent(unequal(Rules()), LETTER, Lossy(AWGN(), 256, IndependentLoss(0.3)), 20.0, 2560, 20)
    damaged = [outcome for outcome in outcomes if not outcome.outage and outcome.x_hat != LETTER]
    assert damaged
    for outcome in damaged:
        assert "…" in outcome.x_hat
        runs = [run.strip() for run in outcome.x_hat.split("…") if run.strip()]
        places = [LETTER.find(run) for run in runs]
        assert -1 not in places
        assert places == sorted(places)


def test_damaged_packets_are_lost_not_shown() -> None:
    """Packets of another sender that pass the link's CRC."""
    tool = unequal(Rules())
    for packet in (b"", b"\x01", b"\x02\x03\x00", b"\x01\x01\x00rubbish", b"\xff" * 9):
        assert tool._observed([packet]).shown is None
    fine = tool._packet("One. Two.", [range(0, 5), range(5, 9)], [1])
    shown = tool._observed([fine, b"\x02\x01\x00rubbish"])
    assert shown.shown == "… Two."
    assert shown.info["corrupt_packets"] == 1
    for head in (
        b"\x02\x03\x00",
        b"\xff" * 9,
        bytes([2, 2, 0, 0, 9]) + fine[3:],
    ):  # no head; 9 characters of 4
        counted = tool._observed([fine, head, None, b""])
        assert counted.shown == "… Two."
        assert counted.info == {"packet_loss": 0.25, "corrupt_packets": 1.0}


def test_what_has_no_room_is_an_outage_that_says_so() -> None:
    (outcome,) = sent(unequal(Equal(), 1), LETTER * 9, AWGN(), 0.0, 512)
    assert outcome.outage
    assert "raise rho" in outcome.cause
    (outcome,) = sent(unequal(Rules()), LETTER, AWGN(), 0.0, 100)
    assert outcome.outage


def test_a_text_of_too_many_sentences_says_so() -> None:
    text = "A short one. " * 4097
    (outcome,) = sent(unequal(Rules()), text, AWGN(), 20.0, 51_200)
    assert outcome.outage
    assert "4097 sentences: at most 4096; split it" in outcome.cause


def test_names_of_text_schemes() -> None:
    for name, canonical in (
        ("zlib+uep:256", "zlib+uep:256:rules"),
        ("utf8+uep:64:equal", "utf8+uep:64:equal"),
        ("huffman+uep:512:digits", "huffman+uep:512:digits"),
        ("huffman+ldpc", "huffman+ldpc:csit-average"),
    ):
        assert names.scheme(name, TEXT).name == canonical
    for bad in ("zlib+uep", "zlib+uep:0", "zlib+uep:256:best", "zlib+ldpc+refine", "lm-prior:smollm2:x"):
        with pytest.raises((UnknownName, InvalidOption)):
            names.scheme(bad, TEXT)
    with pytest.raises(UnknownName):
        names.scheme("avif+uep:256")


# Restoration


@pytest.fixture
def guessing(monkeypatch: pytest.MonkeyPatch) -> Restoration:
    lm = a_language_model(torch.float32)
    monkeypatch.setattr(restoration, "_loaded", lambda model, device: lm)
    return Restoration("random")


def a_rng() -> Streams:
    return NamedStreams(0, ("x",))


def with_gaps(*runs: str) -> Observation[str]:
    """Runs of a text, "…" for what is missing."""
    x = "".join(runs)
    missing = tuple(run.strip() == "…" for run in runs for _ in run)
    return Observation(x, (Gaps(x, missing),))


def test_guesses_are_marked_and_never_pass_for_received(guessing: Restoration) -> None:
    observation = with_gaps("The quick brown ", "… ", "over the lazy dog. ", "…")
    found = guessing(observation, TextShape(), a_rng())
    assert found is not None
    assert as_received(found) == observation.shown
    assert guesses(found)
    for guess in guesses(found):
        assert 0 < len(guess.split()) <= guessing.words
        assert f"…{OPENING}{guess}{CLOSING}" in found
    outside = found
    for guess in guesses(found):
        outside = outside.replace(f"{OPENING}{guess}{CLOSING}", "")
    assert outside == observation.shown
    assert OPENING not in as_restored(found)


def test_what_is_whole_stays(guessing: Restoration) -> None:
    whole = Observation(WORDS, (Gaps(WORDS, (False,) * len(WORDS)),))
    assert guessing(whole, TextShape(), a_rng()) == WORDS
    assert guessing(Observation(None), TextShape(), a_rng()) is None
    brackets = with_gaps(f"a {OPENING}note{CLOSING} ", "…")
    assert guessing(brackets, TextShape(), a_rng()) == brackets.shown


def test_the_guess_is_the_one_under_which_the_rest_is_most_probable() -> None:
    """Against the definition, every text read anew as a whole."""
    lm, words = a_language_model(), 5

    def last(ids: list[int]) -> torch.Tensor:
        return lm.logits(torch.tensor([ids]))[0, -1]

    def bits(context: list[int], right: list[int]) -> float:
        log_p = lm.logits(torch.tensor([[*context, *right]]))[0].log_softmax(-1)
        return -sum(float(log_p[len(context) + i - 1, token]) for i, token in enumerate(right))

    found = []
    for before, behind in ((WORDS[:40], WORDS[60:120]), (WORDS[:90], "zzz qqq."), ("", WORDS[5:50])):
        left, right = [lm.start, *lm.encode(before.rstrip())], lm.encode(" " + behind.lstrip())[:24]
        options = {"": bits(left, right)}
        for first in last(left).topk(4).indices.tolist():
            tokens = [first]
            while len(tokens) < 3 * words and len(lm.decode(tokens).split()) <= words:
                tokens.append(int(last([*left, *tokens]).argmax()))
                if lm.decode(tokens).endswith((".", "!", "?", "\n")):
                    break
            text = restoration._cleaned(lm.decode(tokens), words)
            options[text] = bits([*left, *lm.encode(" " + text if text else "")], right)
        found.append(restoration.guessed(lm, before, behind, words))
        assert found[-1] == min(options, key=lambda text: options[text])
    assert any(found)


def test_restored_numbers_are_not_answers() -> None:
    """A score of what was received takes guesses away first, even if a guess happens to be right."""
    shown = f"The number is …{OPENING}48213{CLOSING} today."
    assert "48213" not in as_received(shown)
    assert as_restored(shown) == "The number is 48213 today."
    with pytest.raises(InvalidOption, match="at least 1"):
        Restoration(words=0)


def test_records_measure_what_was_received_and_not_the_guesses(guessing: Restoration) -> None:
    """Equal to those without guesses on the same noise; the text with guesses is scored apart."""
    plain = names.scheme("utf8+packets:64:mcs9", TEXT)
    restoring = replace(plain, name=f"{plain.name}+{guessing.name}", receiver=guessing)
    channel = Lossy(AWGN(), 64, IndependentLoss(0.3))
    item = Item("letter", LETTER, TEXT)
    sent_ = [send(item, s, channel, 20.0, 100.0, metrics=("wer", "chrf")) for s in (plain, restoring)]
    received, restored = (each.outcome.x_hat for each in sent_)
    assert guesses(restored)
    assert as_received(restored) == received
    assert sent_[1].metrics == sent_[0].metrics
    assert sent_[1].metrics["wer"] == pytest.approx(wer(received, LETTER))
    assert wer(restored, LETTER) != pytest.approx(wer(received, LETTER))
    for version in (restored, as_restored(restored)):
        assert chrf(version, LETTER) != pytest.approx(sent_[1].metrics["chrf"])


# Language model as prior


@pytest.fixture(scope="module")
def model() -> ExactModel:
    return prepared(a_language_model())


def noisy_llr(symbols: list[int], model: ExactModel, snr_db: float, seed: int = 0) -> torch.Tensor:
    """Log-likelihood ratios of labels by BPSK over AWGN."""
    bits = symbol_labels(model.symbols)[symbols].double()
    noise_var = 10 ** (-snr_db / 10) / 2
    noise = torch.randn(bits.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 2 * (1 - 2 * bits + noise * noise_var**0.5) / noise_var


@pytest.mark.parametrize(
    ("width", "distances"),
    [  # of the first 2, 4, 8, ... numbers; [8, 4, 4], [16, 5, 8] and [16, 11, 4] are Reed-Muller codes
        (3, [3, 1, 1]),
        (8, [8, 4, 4, 4, 2, 2, 2, 1]),
        (16, [16, 8, 8, 8, 8, 6, 6, 4, 4, 4, 4, 2]),
    ],
)
def test_frequent_symbols_have_labels_far_apart(width: int, distances: list[int]) -> None:
    """By all pairs of the first 2^j labels, as far as they are compared here."""
    labels = symbol_labels(1 << width).double()
    assert len(labels.unique(dim=0)) == 1 << width
    for j, distance in enumerate(distances, 1):
        code = 1 - 2 * labels[: 1 << j]
        apart = (width - code @ code.T) / 2
        assert apart.fill_diagonal_(width).min() == distance
    assert torch.equal(symbol_labels((1 << width) - 1).double(), labels[:-1])


def test_likelihoods_of_symbols(model: ExactModel) -> None:
    """Against the product over bits."""
    llr = torch.tensor([[1.5, -0.5, 4.0], [-3.0, 0.2, 0.0]], dtype=torch.float64)
    found = symbol_log_likelihoods(llr, 8)
    for row, values in enumerate(llr.tolist()):
        for symbol in range(8):
            bits = symbol_labels(8)[symbol].tolist()
            p = [
                1 / (1 + math.exp(value if bit else -value)) for bit, value in zip(bits, values, strict=True)
            ]
            assert found[row, symbol].item() == pytest.approx(math.log(math.prod(p)), abs=1e-9)


@pytest.mark.parametrize("snr_db", [-2.0, 2.0, 8.0])
def test_without_the_model_it_makes_hard_decisions(model: ExactModel, snr_db: float) -> None:
    symbols = model.split(WORDS)
    llr = noisy_llr(symbols, model, snr_db)
    found = beam_search(model, llr, alpha=0.0)
    labels = symbol_labels(model.symbols)
    hard = [(row < 0).equal(labels[symbol].bool()) for row, symbol in zip(llr, found, strict=True)]
    taken = [((row < 0) == labels.bool()).all(1).any() for row in llr]  # hard decisions that are some label
    assert hard == [bool(one) for one in taken]
    assert all(symbol < model.symbols for symbol in found)


def test_the_prior_helps_where_it_is_right(model: ExactModel) -> None:
    """Symbols drawn from the model itself: a beam makes at most half as many errors as hard decisions."""
    generator, steps = torch.Generator().manual_seed(0), model.steps(1)
    symbols: list[int] = []
    for _ in range(80):
        p = (3 * torch.from_numpy(steps.logits[0])).softmax(0)
        symbols.append(int(torch.multinomial(p, 1, generator=generator)))
        steps.feed(symbols[-1:])
    wrong = [0, 0]
    for seed in range(3):
        llr = noisy_llr(symbols, model, 1.0, seed)
        for i, alpha in enumerate((0.0, 3.0)):
            found = beam_search(model, llr, alpha)
            wrong[i] += sum(a != b for a, b in zip(found, symbols, strict=True))
    assert wrong[0] > 60
    assert wrong[1] <= wrong[0] / 2


def test_a_wider_beam_is_no_less_likely(model: ExactModel) -> None:
    """Score of the path that is returned, by teacher forcing."""
    symbols = model.split(WORDS)[:40]
    llr = noisy_llr(symbols, model, 0.0)
    channel = symbol_log_likelihoods(llr, model.symbols)

    def score(path: list[int]) -> float:
        log_p = model.prefill(path).log_softmax(-1)
        tokens = [(i, s) for i, s in enumerate(path) if s < model.lm.vocabulary]
        rest = (len(path) - len(tokens)) * prior.BYTE_LOG_PROBABILITY
        return (
            sum(float(log_p[i, s]) for i, s in tokens)
            + rest
            + sum(float(channel[i, s]) for i, s in enumerate(path))
        )

    narrow, wide = (score(beam_search(model, llr, 1.0, beam)) for beam in (1, 16))
    assert wide >= narrow - 1e-9


@pytest.mark.parametrize("channel", [AWGN(), RayleighBlockFading(64)], ids=lambda channel: channel.name)
def test_uncoded_tokens_on_the_road(
    model: ExactModel, monkeypatch: pytest.MonkeyPatch, channel: Channel
) -> None:
    monkeypatch.setattr(prior, "_loaded", lambda name, device: model)
    (outcome,) = sent(LanguagePrior("random"), LETTER, channel, 35.0, 2400)
    assert outcome.x_hat == LETTER
    assert outcome.channel_uses == 2400
    (outcome,) = sent(LanguagePrior("random"), LETTER, channel, 35.0, 400)
    assert outcome.outage
    assert "raise rho" in outcome.cause
    for bad in ({"alpha": -1.0}, {"beam": 0}, {"alpha": math.nan}):
        with pytest.raises(InvalidOption):
            LanguagePrior("random", **bad)


# DeepSC


@pytest.fixture(scope="module")
def trained() -> TokenJSCC:
    """A small network after 60 steps on random tokens."""
    torch.manual_seed(0)
    network = TokenJSCC(len(a_tokenizer()), 32, 1, 4, 16)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(60):
        tokens = torch.randint(len(a_tokenizer()), (12, 64), generator=generator)
        loss = recipe.loss(network, tokens, SharedStreams(generator, 12))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval().requires_grad_(False)


def test_symbols_have_power_1(trained: TokenJSCC) -> None:
    tokens = torch.randint(200, (3, 20))
    sent_ = (torch.arange(16) < 6).float()[None, None].expand(3, 1, 16)
    values = trained.encode(tokens, sent_)
    assert values[..., 6:].abs().max() == 0
    assert values[..., :6].square().mean((1, 2)) == pytest.approx([1.0] * 3, abs=1e-4)


def test_deepsc_on_the_road(trained: TokenJSCC, monkeypatch: pytest.MonkeyPatch) -> None:
    """More noise is worse, and the receiver's scale is right: without noise it equals the network alone."""
    monkeypatch.setattr(deepsc, "_tokenizer", a_tokenizer)
    scheme = DeepSC(trained)
    tokens = a_tokenizer().encode(LETTER, add_special_tokens=False)
    uses = 9 * len(tokens)
    (outcome,) = sent(scheme, LETTER, AWGN(), 60.0, uses)
    per_token = int(outcome.info["uses_per_token"])
    assert per_token == 8
    assert outcome.energy == pytest.approx(uses, rel=2e-2)
    every = torch.ones(1, 1, 16)
    alone: list[int] = []
    for block in torch.tensor(tokens).split(64):
        values = trained.encode(block[None], every)
        alone += trained.decode(values, every, torch.tensor([1e-6]))[0].argmax(-1).tolist()
    assert outcome.x_hat == a_tokenizer().decode(alone, clean_up_tokenization_spaces=False)
    (tiny,) = sent(scheme, LETTER, AWGN(), 60.0, 60)
    assert tiny.outage
