"""Front ends of the familiarity circuit, judges of familiarity, and the semantic cache over the link."""

from pathlib import Path

import numpy as np
import pytest
import torch

from channels import NamedStreams, Received, transmit
from semcom import names
from semcom.budget import Budget
from semcom.circuit import cache
from semcom.circuit.cache import FamiliarityCache, index_formats, same_picture
from semcom.circuit.circuit import untrained
from semcom.circuit.familiarity import (
    DECOYS,
    FALSE_HITS,
    Verdict,
    decoys,
    judge_of,
    judged,
    thumbnail,
)
from semcom.circuit.front_end import NoisyCode, Wiener, code_symbols, recall, received_code, settled
from semcom.data import sample_photos
from semcom.errors import InvalidOption, InvalidSource, UnknownName
from semcom.kinds import kind_named, kind_of
from semcom.memory.codebooks import PictureMemory
from semcom.modalities import IMAGE, TEXT
from semcom.names.descriptions import described
from semcom.names.schemes import with_codec
from semcom.provenance import fingerprint
from semcom.receivers import Direct
from semcom.scheme import Scheme
from semcom.separate import FixedMcs, Separate
from semcom.sweep import noise_streams
from semcom.transmission import ChannelKnowledge

SIZE = (96, 64)
PHOTOS = [item.x for item in sample_photos(SIZE)]
JPEG = names.codec("jpeg")


def the_cache(pictures=PHOTOS[:2], judge="nearest", mcs: int = 6) -> FamiliarityCache:
    return FamiliarityCache(Separate(JPEG, FixedMcs(mcs)), PictureMemory(tuple(pictures), "album"), judge)


def outcome(transmission, x, snr_db=10.0, uses=4096, seed=0):
    scheme = Scheme(transmission.name, transmission, Direct(), IMAGE)
    awgn = names.channel("awgn")
    return scheme.transmit(x, Budget(uses, x.numel()), awgn, snr_db, noise_streams("photo", seed))[0]


def test_codes_cross_a_silent_channel_unchanged() -> None:
    """Order, scaling and fading are undone; energy is 1 per symbol; the receiver assumes the usual power."""
    code = np.random.default_rng(0).gamma(0.5, 1.0, 128)
    x = code_symbols(code)
    assert float(x.abs().square().mean()) == pytest.approx(1, rel=1e-6)
    rms = float(np.sqrt((code**2).mean()))
    quiet = Received(x, torch.ones_like(x), torch.full((1, 1), 1e-12))
    found = received_code(quiet, 2 * rms)
    assert found.y[0] == pytest.approx(2 * code, abs=1e-5 * code.max())
    half = 0.5j * torch.ones_like(x)
    faded = received_code(Received(x * half, half, torch.full((1, 1), 0.1)), rms)
    assert faded.y[0] == pytest.approx(code, abs=1e-5 * code.max())
    assert faded.noise_var[0] == pytest.approx(np.full(128, 0.1 / 0.25 * rms**2), rel=1e-6)


def test_noise_of_received_codes_has_the_stated_variance() -> None:
    """Over 100 receptions of 512 numbers, within five standard errors; lost numbers are known to be lost."""
    code = np.random.default_rng(1).gamma(0.5, 1.0, 512)
    rng = NamedStreams(0, tuple(map(str, range(100))))
    received = transmit(names.channel("lossy:32:0.25/awgn"), code_symbols(code).expand(100, -1), 3.0, rng)
    found = received_code(received, float(np.sqrt((code**2).mean())))
    heard = found.heard
    assert 0.6 < heard.mean() < 0.9
    assert (found.y[~heard] == 0).all()
    error = ((found.y - code) / np.sqrt(found.noise_var))[heard]
    assert error.var() == pytest.approx(1, abs=5 * np.sqrt(2 / error.size))
    assert error.mean() == pytest.approx(0, abs=5 / np.sqrt(error.size))


def test_wiener_equals_the_dense_linear_estimate() -> None:
    """Against C_xo (C_oo + N)^-1 (y - mean) on the numbers that arrived."""
    rng = np.random.default_rng(2)
    samples = rng.normal(size=(60, 5)) @ rng.normal(size=(5, 24)) + 0.3 * rng.normal(size=(60, 24)) + 1
    wiener = Wiener.fitted(samples, 5)
    covariance = (wiener.axes * wiener.power) @ wiener.axes.T + wiener.rest * np.eye(24)
    noise_var = rng.uniform(0.1, 2, (3, 24))
    noise_var[1, ::3] = np.inf
    y = np.where(np.isfinite(noise_var), rng.normal(size=(3, 24)), 0.0)
    found = wiener(NoisyCode(y, noise_var))
    for i in range(3):
        o = np.isfinite(noise_var[i])
        inner = covariance[np.ix_(o, o)] + np.diag(noise_var[i, o])
        expected = wiener.mean + covariance[:, o] @ np.linalg.solve(inner, y[i, o] - wiener.mean[o])
        assert found[i] == pytest.approx(expected, abs=1e-9)
    # its trace is that of the sample covariance: nothing of the variance is lost in the fit
    assert np.trace(covariance) == pytest.approx(samples.var(axis=0).sum(), rel=1e-9)
    with pytest.raises(InvalidOption, match="rank 59"):
        Wiener.fitted(samples, 59)


def test_recall_is_the_posterior_mean() -> None:
    """Against normal densities multiplied out; the nearest pattern in little noise, their mean in much."""
    rng = np.random.default_rng(3)
    patterns, y = rng.gamma(0.5, 1.0, (6, 10)), rng.normal(size=(2, 10))
    noise_var = rng.uniform(0.5, 2, (2, 10))
    noise_var[1, :4] = np.inf
    found = recall(NoisyCode(y, noise_var), patterns)
    for i in range(2):
        o = np.isfinite(noise_var[i])
        density = np.exp(-((y[i, o] - patterns[:, o]) ** 2) / (2 * noise_var[i, o])).prod(axis=1)
        assert found[i] == pytest.approx(density @ patterns / density.sum(), rel=1e-10)
    exact = recall(NoisyCode(patterns[4:5] + 1e-3, np.full((1, 10), 1e-9)), patterns)
    assert exact[0] == pytest.approx(patterns[4], abs=1e-12)
    lost = recall(NoisyCode(np.zeros((1, 10)), np.full((1, 10), np.inf)), patterns)
    assert lost[0] == pytest.approx(patterns.mean(axis=0), rel=1e-12)
    with pytest.raises(InvalidOption, match="at least one"):
        recall(NoisyCode(y, noise_var), patterns[:0])


def test_front_end_of_the_circuit_cuts_off_negative_numbers() -> None:
    """What noise made negative drives nothing; a code of zeros or of odd length cannot be sent."""
    y = np.random.default_rng(4).normal(size=(2, 32))
    quiet = np.ones((2, 32))
    cut = settled(NoisyCode(np.maximum(y, 0), quiet), untrained(4, 4, 2))
    assert (settled(NoisyCode(y, quiet), untrained(4, 4, 2)) == cut).all()
    for code in (np.zeros(4), np.ones(5)):
        with pytest.raises(InvalidSource, match="even number"):
            code_symbols(code)


def test_thumbnails_know_no_size_brightness_or_contrast() -> None:
    """Mean 0 and a fixed contrast; pictures without contrast have none."""
    x = PHOTOS[0]
    small = thumbnail(x)
    assert small is not None
    assert small.shape == (32, 32)
    assert small.mean() == pytest.approx(0, abs=1e-12)
    assert small.std() == pytest.approx(0.25, rel=1e-12)
    again = thumbnail(0.2 + 0.5 * torch.nn.functional.interpolate(x, scale_factor=4, mode="nearest"))
    assert again == pytest.approx(small, abs=1e-5)
    assert thumbnail(torch.full((1, 3, 40, 50), 0.7)) is None
    assert thumbnail(torch.zeros(1, 3, 1, 1)) is None


def test_decoys_are_the_seven_other_views_of_a_square() -> None:
    """All differ if the picture has no symmetry; their number is bounded."""
    small = np.random.default_rng(5).normal(size=(1, 32, 32))
    views = decoys(small)
    assert views.shape == (7, 32, 32)
    assert len({v.tobytes() for v in (small[0], *views)}) == 8
    assert sorted(views.sum(axis=(1, 2))) == pytest.approx([small.sum()] * 7)
    assert decoys(np.random.default_rng(6).normal(size=(30, 32, 32))).shape == (DECOYS, 32, 32)


@pytest.mark.parametrize("name", [pytest.param("circuit", marks=pytest.mark.slow), "nearest"])
def test_judges_find_their_pictures(name) -> None:
    """The index is right, what is familiar scores below what is not, and few decoys pass."""
    known = np.array([thumbnail(x) for x in PHOTOS[:2]])
    judge = judge_of(name, known)
    assert judge_of(name, known.copy()) is judge  # shared
    scores, index = judge.scores(known)
    assert index.tolist() == [0, 1]
    novel = np.array([thumbnail(x) for x in PHOTOS[2:]])
    assert scores.max() < judge.scores(novel)[0].min()
    assert (judge.scores(decoys(known))[0] < judge.threshold).mean() <= FALSE_HITS
    verdict = judged(judge, PHOTOS[1])
    assert verdict is not None
    assert verdict.score == pytest.approx(scores[1], abs=1e-12)
    assert (verdict.familiar, verdict.index) == (bool(scores[1] < judge.threshold), 1)
    assert judged(judge, torch.full((1, 3, 32, 32), 0.5)) is None


def test_a_familiar_picture_costs_an_index() -> None:
    """It arrives exactly, in the shortest format that is safe."""
    sender = the_cache()
    (short,) = [f for f in index_formats() if f.link.mcs.index == 6]
    for place in (0, 1):
        got = outcome(sender, PHOTOS[place])
        assert torch.equal(got.x_hat, PHOTOS[place])
        assert got.channel_uses == short.uses < 100
        assert got.info["payload_bits"] == 16
        assert (got.info["familiar"], got.info["false_hit"], got.outage) == (1, 0, False)
    informed = FamiliarityCache(names.scheme("jpeg+ldpc").transmission, sender.album, "nearest")
    uses = [outcome(informed, PHOTOS[0], snr_db).channel_uses for snr_db in (-10.0, -5.0, -2.0, 3.0, 12.0)]
    assert uses == sorted(uses, reverse=True)
    assert len(set(uses)) > 3
    assert set(uses) <= {f.uses for f in index_formats()}


def test_a_novel_picture_costs_what_it_costs_alone() -> None:
    """The same symbols and the same picture as without a cache, to the bit."""
    sender = the_cache()
    x = PHOTOS[2]
    assert torch.equal(sender.send(x, 4096, None).symbols, sender.separate.send(x, 4096, None).symbols)
    with_cache, alone = outcome(sender, x), outcome(sender.separate, x)
    assert torch.equal(with_cache.x_hat, alone.x_hat)
    assert with_cache.channel_uses == alone.channel_uses == 4096
    assert {k: with_cache.info[k] for k in alone.info} == dict(alone.info)
    assert with_cache.info["familiar"] == 0
    assert with_cache.info["familiarity"] > 0


def test_a_false_hit_shows_the_wrong_picture_and_is_recorded(monkeypatch) -> None:
    """A judge that takes everything for the first picture."""
    monkeypatch.setattr(cache, "judged", lambda judge, x: Verdict(0.0, True, 0))
    got = outcome(the_cache(), PHOTOS[3])
    assert torch.equal(got.x_hat, PHOTOS[0])
    assert (got.info["familiar"], got.info["false_hit"]) == (1, 1)


def test_how_many_symbols_there_are_tells_the_receiver_nothing() -> None:
    """Noise behind an index changes no observation, whether the index arrives or not."""
    sender, (channel, shape, uses) = the_cache(), (names.channel("awgn"), (1, 3, 64, 96), 4096)
    symbols = sender.send(PHOTOS[1], uses, None).symbols
    rng = NamedStreams(0, tuple(map(str, range(40))))
    padded = torch.cat([symbols, torch.zeros(1, uses - symbols.shape[1])], dim=1)
    lost = []
    for snr_db in (-6.0, 0.0, 10.0):
        received = transmit(channel, padded.expand(40, -1), snr_db, rng)
        ends, goes_on = (
            sender.receive(part, shape, uses) for part in (received[: symbols.shape[1]], received)
        )
        for one, other in zip(ends, goes_on, strict=True):
            assert (one.shown is None) == (other.shown is None)
            assert one.shown is None or torch.equal(one.shown, PHOTOS[1])
            assert other.shown is None or torch.equal(other.shown, PHOTOS[1])
        lost.append(sum(one.shown is None for one in ends))
    assert lost[0] == 40
    assert lost[2] == 0


def test_pictures_that_cannot_be_familiar_are_sent_whole() -> None:
    """Of another shape, without contrast, in too few channel uses, with the link's cause."""
    sender = the_cache()
    large = torch.nn.functional.interpolate(PHOTOS[0], scale_factor=2, mode="nearest")
    assert outcome(sender, large).info["familiar"] == 0
    blank = outcome(sender, torch.full((1, 3, 64, 96), 0.5))
    assert blank.info["familiar"] == 0
    assert "familiarity" not in blank.info
    tight = outcome(sender, PHOTOS[0], uses=20)
    assert tight.outage
    assert tight.cause


def test_albums_at_their_limits() -> None:
    """One picture, duplicates, blanks among others, blanks alone, none at all."""
    assert torch.equal(outcome(the_cache(PHOTOS[:1]), PHOTOS[0]).x_hat, PHOTOS[0])
    assert outcome(the_cache(PHOTOS[:1]), PHOTOS[1]).info["familiar"] == 0
    twice = the_cache([PHOTOS[1], PHOTOS[0], PHOTOS[0]])
    assert torch.equal(outcome(twice, PHOTOS[0]).x_hat, PHOTOS[0])
    blank = torch.full((1, 3, 64, 96), 0.2)
    assert torch.equal(outcome(the_cache([blank, blank, PHOTOS[2]]), PHOTOS[2]).x_hat, PHOTOS[2])
    with pytest.raises(InvalidSource, match="contrast"):
        outcome(the_cache([blank]), PHOTOS[0])
    with pytest.raises(InvalidSource, match="no pictures"):
        the_cache([])


def test_an_index_of_another_album_is_no_picture() -> None:
    """Ends that hold different albums lose the picture: fewer, more, in another order, edited, of a shape."""
    received = transmit(
        names.channel("awgn"), the_cache().send(PHOTOS[1], 4096, None).symbols, 20.0, noise_streams("x", 0)
    )
    (short,) = the_cache(PHOTOS[:1]).receive(received, (1, 3, 64, 96), 4096)
    assert short.shown is None
    edited = PHOTOS[1].clone()
    edited[0, 0, 0, 0] = 1 - edited[0, 0, 0, 0].round()
    for album in ([*PHOTOS[:2][::-1]], [PHOTOS[2], *PHOTOS[:2]], [PHOTOS[0], edited], PHOTOS[2:4]):
        (found,) = the_cache(album).receive(received, (1, 3, 64, 96), 4096)
        assert found.shown is None
    (other,) = the_cache().receive(received, (1, 3, 32, 96), 4096)
    assert other.shown is None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    there = tmp_path / "my album"
    there.mkdir()
    for i, x in enumerate(PHOTOS[:2]):
        IMAGE.write(x, there / f"{i}.png")
    return there


def test_names(folder: Path) -> None:
    """Canonical names have the digest of the pictures; another digest is refused; descriptions and kinds."""
    made = names.scheme(f"cache:avif+ldpc@{folder}")
    label = PictureMemory(tuple(PHOTOS[:2]), "my album").name
    assert made.name == f"cache:circuit:avif+ldpc:csit-average@{label}"
    assert names.scheme(f"cache:circuit:avif+ldpc:csit-average@{folder}#{label[-8:]}").name == made.name
    assert names.with_receiver("cache:circuit:avif+ldpc", None, memory=str(folder)) == (
        f"cache:circuit:avif+ldpc@{folder}"
    )
    nearest = names.scheme(f"cache:nearest:jpeg+ldpc:mcs9@{folder}")
    assert nearest.transmission.judge == "nearest"
    assert nearest.transmission.csit == "none"
    assert kind_of(made).family == kind_named(made.name).family == "digital"
    assert "familiar" in described(made.name)
    assert described(nearest.name).startswith("JPEG, ")
    assert with_codec(f"cache:nearest:avif+ldpc@{folder}", "jpeg") == f"cache:nearest:jpeg+ldpc@{folder}"
    assert fingerprint(made) == fingerprint(names.scheme(f"cache:avif+ldpc@{folder}"))
    IMAGE.write(PHOTOS[2], folder / "9.png")
    assert fingerprint(made) != fingerprint(names.scheme(f"cache:avif+ldpc@{folder}"))
    with pytest.raises(InvalidOption, match="digest"):
        names.scheme(f"cache:avif+ldpc@{folder}#{label[-8:]}")


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("cache:avif+ldpc", InvalidOption, "spelled"),
        ("cache:avif@FOLDER", InvalidOption, "spelled"),
        ("cache:softcast@FOLDER", InvalidOption, "spelled"),
        ("cache:avif+ideal@FOLDER", InvalidOption, "spelled"),
        ("cache:avif+ldpc@FOLDER/nowhere", InvalidSource, "no such file or folder"),
        ("cache:avif+ldpc:mcs99@FOLDER", InvalidOption, "MCS 99"),
        ("cache:gif+ldpc@FOLDER", UnknownName, "gif"),
    ],
)
def test_misspelt_names_are_typed_errors(folder: Path, name: str, error: type, told: str) -> None:
    with pytest.raises(error, match=told):
        names.scheme(name.replace("FOLDER", str(folder)))


def test_a_cache_sends_pictures_only(folder: Path) -> None:
    """Not texts; an informed link needs its knowledge."""
    with pytest.raises(InvalidOption, match="not text"):
        names.scheme(f"cache:avif+ldpc@{folder}", TEXT)
    with pytest.raises(InvalidOption, match="average SNR"):
        names.scheme(f"cache:nearest:avif+ldpc@{folder}").transmission.send(PHOTOS[0], 4096, None)
    known = ChannelKnowledge(names.channel("awgn"), -30.0)
    sent = names.scheme(f"cache:nearest:avif+ldpc@{folder}").transmission.send(PHOTOS[0], 4096, known)
    assert sent.symbols.numel() == 0
    assert sent.cause


def test_noise_leaves_a_picture_the_same() -> None:
    """The correlation with a copy in noise is (1 + 1 / snr)^-1/2: 0.8 is 2.5 dB in the thumbnail."""
    x = PHOTOS[0][:, :, :32, :32].mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    noise = torch.randn((1, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    flat = 0.5 + 0.25 * (x - x.mean())  # far from black and white, where noise would be cut off
    power = float(flat.var()) / float(noise.var())
    for snr_db, same in ((4.0, True), (1.0, False)):
        assert same_picture(flat, (flat + noise * (power * 10 ** (-snr_db / 10)) ** 0.5).clamp(0, 1)) is same
    assert not same_picture(PHOTOS[0], PHOTOS[1])
    assert not same_picture(x, torch.zeros_like(x))
