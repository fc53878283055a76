"""What every scheme of texts keeps."""

import copy
import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from instances import TEXT_SCHEMES
from toys import Counting

from channels import AWGN, Channel, NamedStreams, RayleighBlockFading, transmit
from channels.lossy import IndependentLoss, Lossy
from semcom import names
from semcom.budget import Budget
from semcom.cli import main
from semcom.errors import InvalidOption, InvalidSource
from semcom.modalities import TEXT, TextShape
from semcom.provenance import fingerprint
from semcom.results import ResultStore
from semcom.scheme import Outcome, Scheme
from semcom.summary import RECORDS
from semcom.transmission import ChannelKnowledge, Genie

NOTE = "Meet me at the old gate at nine, and bring 48213."
OTHER = "Nobody minds, 音 and all; the dog sleeps on."
ROOMY = 1700
"""Channel uses that hold both texts."""
PLAIN = AWGN()


@pytest.fixture(params=TEXT_SCHEMES, scope="module")
def scheme(request: pytest.FixtureRequest) -> Scheme[str]:
    if request.param.startswith(("tiny", "deepsc", "lm-prior")) and find_spec("transformers") is None:
        pytest.skip("no transformers")
    return names.scheme(request.param, TEXT)


def send(
    scheme: Scheme[str],
    x: str,
    snr_db: Sequence[float],
    seeds: Sequence[int] | None = None,
    uses: int = ROOMY,
    channel: Channel = PLAIN,
) -> list[Outcome[str]]:
    rng = NamedStreams(0, tuple(f"seed={seed}" for seed in seeds or [0] * len(snr_db)))
    return scheme.transmit(x, Budget(uses, TEXT.dims(x)), channel, torch.tensor(snr_db), rng)


@pytest.mark.parametrize("x", [NOTE, OTHER])
def test_a_text_arrives(scheme: Scheme[str], x: str) -> None:
    """At 60 dB letter by letter, but for the network that reads tokens off symbols."""
    (outcome,) = send(scheme, x, [60.0])
    assert not outcome.outage
    if scheme.name != "deepsc":
        assert outcome.x_hat == x
    assert all(isinstance(value, float) and value == value for value in outcome.info.values())


def test_what_crosses_is_measured(scheme: Scheme[str]) -> None:
    """Once, in one piece, within what is allowed, at a mean power of 1; what does not fit is not sent."""
    channels: tuple[Channel, ...] = (PLAIN, RayleighBlockFading(64), Lossy(PLAIN, 64, IndependentLoss(0.3)))
    if scheme.transmission.csit == "average":  # predictions of further channels take seconds
        channels = (PLAIN,)
    for channel, uses in (*((channel, ROOMY + 1) for channel in channels), (PLAIN, 1), (PLAIN, 50)):
        counting = Counting(channel)
        outcomes = send(scheme, NOTE, [20.0, 20.0], [0, 1], uses, counting)
        crossings = [symbols for symbols in counting.crossings if symbols]
        assert len(crossings) <= 1
        spent = sum(crossings) + channel.overhead(sum(crossings)) if crossings else 0
        for outcome in outcomes:
            assert outcome.channel_uses == spent <= uses
            assert outcome.energy <= 1.1 * spent
            if not spent:
                assert outcome.outage
                assert outcome.cause
                assert "\n" not in outcome.cause
        assert spent > 0 or uses < ROOMY


def test_equal_noise_gives_equal_texts_in_any_batch(scheme: Scheme[str]) -> None:
    snr_db, seeds = [4.0, 12.0, 4.0], [0, 1, 2]
    whole = send(scheme, NOTE, snr_db, seeds)
    for i in (2, 0, 1):
        (alone,) = send(scheme, NOTE, [snr_db[i]], [seeds[i]])
        assert (alone.x_hat, alone.outage, alone.channel_uses) == (
            whole[i].x_hat,
            whole[i].outage,
            whole[i].channel_uses,
        )
        assert alone.info == whole[i].info


def test_an_outage_shows_nothing_and_nothing_else_does(scheme: Scheme[str]) -> None:
    for outcome in (*send(scheme, NOTE, [-40.0, -5.0]), *send(scheme, NOTE, [60.0], uses=1)):
        assert (outcome.x_hat == "") == outcome.outage


def test_the_halves_never_meet(scheme: Scheme[str]) -> None:
    """A receiver that has never seen the sender, or has seen it send another text, observes the same."""
    transmission = scheme.transmission
    assert not isinstance(transmission, Genie)
    stranger = copy.deepcopy(transmission)
    known = ChannelKnowledge(PLAIN, 20.0) if transmission.csit == "average" else None
    sent, other = (transmission.send(x, ROOMY, known) for x in (NOTE, OTHER))
    assert sent.symbols.shape == other.symbols.shape
    received = transmit(PLAIN, sent.symbols, 20.0, NamedStreams(0, ("x",)).fork("channel"))
    (first,), (second,) = (t.receive(received, TextShape(), ROOMY) for t in (transmission, stranger))
    assert first.shown == second.shown
    assert first.info == second.info


def test_refusals(scheme: Scheme[str]) -> None:
    budget, rng = Budget(ROOMY, 10), NamedStreams(0, ("x",))
    with pytest.raises(InvalidSource, match="lone surrogate"):
        scheme.transmit("a\ud800", budget, PLAIN, 10.0, rng)
    with pytest.raises(InvalidOption, match="SNR of nan dB"):
        scheme.transmit(NOTE, budget, PLAIN, torch.nan, rng)


def test_names_and_fingerprints(scheme: Scheme[str]) -> None:
    assert scheme.name in TEXT_SCHEMES
    assert len(fingerprint(scheme)) == 16


def test_the_prior_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`semcom send` and `semcom sweep` count the same channel uses and measure the same on equal noise."""
    pytest.importorskip("transformers")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "note.txt").write_text(NOTE)
    point = ["--snr", "6", "--rho", "60", "--metrics", "wer,cer"]
    note = str(tmp_path / "texts" / "note.txt")
    for scheme in ("lm-prior:tiny", "lm-prior:tiny:0:1"):
        assert main(["send", note, "--scheme", scheme, *point, "--json"]) == 0
        row = json.loads(capsys.readouterr().out)
        folder = str(tmp_path / f"out{len(scheme)}")
        data = ["--data", str(tmp_path / "texts"), "--out", folder]
        assert main(["sweep", "--schemes", scheme, *point, *data]) == 0
        capsys.readouterr()
        with ResultStore(Path(folder) / RECORDS, read_only=True) as store:
            (record,) = store.records()
        assert record.scheme == row["scheme"] == scheme
        assert record.channel_uses == row["channel_uses"] == 60 * len(NOTE.split())
        assert record.outage == row["outage"] == 0
        assert record.numbers["cer"] == pytest.approx(row["cer"])


def test_fingerprints_differ() -> None:
    some = [name for name in TEXT_SCHEMES if name != "deepsc"]  # that one needs transformers to be made
    assert len({fingerprint(names.scheme(name, TEXT)) for name in some}) == len(some)
