"""Codecs of clips and texts: bytes that decode, budgets that are kept, damage that is reported."""

import pickle
import random
import time
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from semcom.codecs import (
    CLIP_CODECS,
    TEXT_CODECS,
    FitsItself,
    Fitted,
    FrameByFrame,
    InterCodec,
    Jpeg,
    Memo,
    Quality,
    SourceCodec,
    StreamCodec,
    Utf8,
    Zlib,
    fit,
)
from semcom.codecs.clip import squared_error
from semcom.errors import BudgetTooSmall, CorruptPayload, InvalidOption
from semcom.modalities import VIDEO, Clip, TextShape

LIMIT_S = 2.0  # for one decoding of a small clip, on a loaded machine
RATE = Fraction(24000, 1001)
INTER = tuple(codec for codec in CLIP_CODECS if isinstance(codec, InterCodec))

every_clip_codec = pytest.mark.parametrize("codec", CLIP_CODECS, ids=lambda codec: codec.name)
# the search over settings is the same for all codecs of stills, and slow for some
FEW_CODECS = tuple(codec for codec in CLIP_CODECS if codec.name in ("x264", "x265", "av1", "vp9", "jpeg"))

few_clip_codecs = pytest.mark.parametrize("codec", FEW_CODECS, ids=lambda codec: codec.name)
every_inter_codec = pytest.mark.parametrize("codec", INTER, ids=lambda codec: codec.name)
every_text_codec = pytest.mark.parametrize("codec", TEXT_CODECS, ids=lambda codec: codec.name)


@pytest.fixture(scope="module")
def clip() -> Clip:
    """A window that moves over a photograph, 6 frames of 80x64."""
    from skimage import data

    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1)
    return Clip(torch.stack([photo[:, 60 + i : 124 + i, 180 + 2 * i : 260 + 2 * i] for i in range(6)]), RATE)


def psnr_db(x_hat: Clip, x: Clip) -> float:
    return float(10 * np.log10(255**2 / max(squared_error(x_hat, x), 1e-9)))


def at(codec: SourceCodec[Any], scale: int, share: float) -> Quality:
    """The quality that lies at this share of the settings of a scale."""
    ladder = [quality for quality in codec.qualities if quality.scale == scale]
    return ladder[round(share * (len(ladder) - 1))]


@every_clip_codec
def test_round_trip(codec: SourceCodec[Clip], clip: Clip) -> None:
    assert isinstance(codec, SourceCodec)
    assert isinstance(codec, FitsItself)
    quality_db, sizes = [], []
    for scale, share in ((4, 0.5), (1, 0.2), (1, 0.6), (1, 0.9)):
        payload = codec.encode(clip, at(codec, scale, share))
        assert codec.encode(Clip(clip.frames.clone(), RATE), at(codec, scale, share)) == payload
        decoded = codec.decode(payload, VIDEO.shape(clip))
        assert VIDEO.shape(VIDEO.check(decoded)) == VIDEO.shape(clip)
        quality_db.append(psnr_db(decoded, clip))
        sizes.append(len(payload))
    assert quality_db[1:] == sorted(quality_db[1:])
    assert sizes[1:] == sorted(sizes[1:])
    assert quality_db[-1] > 33  # 4:2:0 alone costs this much
    expected = sorted(codec.qualities, key=lambda quality: (-quality.scale, quality.setting))
    assert list(codec.qualities) == expected


@few_clip_codecs
def test_a_budget_is_kept_and_used(codec: SourceCodec[Clip], clip: Clip) -> None:
    quality_db = []
    for max_bits in (6000, 24000):
        fitted = fit(codec, clip, max_bits)
        assert 8 * len(fitted.payload) <= max_bits
        assert fitted.payload == codec.encode(clip, fitted.quality)
        assert torch.equal(fitted.decoded.frames, codec.decode(fitted.payload, VIDEO.shape(clip)).frames)
        finer = Quality(fitted.quality.scale, fitted.quality.setting + 1)
        if finer in codec.qualities:  # bisection stops where the next one does not fit
            assert 8 * len(codec.encode(clip, finer)) > max_bits
        quality_db.append(psnr_db(fitted.decoded, clip))
    assert quality_db[1] > quality_db[0] + 1
    with pytest.raises(
        BudgetTooSmall, match=rf"{codec.name} needs at least \d+ bits for a clip of 6 frames of 80x64"
    ):
        fit(codec, clip, 64)


@few_clip_codecs
def test_damaged_clips_are_reported_or_decoded(codec: SourceCodec[Clip], clip: Clip) -> None:
    rng = random.Random(0)
    shape = VIDEO.shape(clip)
    payload = codec.encode(clip, at(codec, 1, 0.4))
    damaged = [payload[:end] for end in range(0, len(payload), max(1, len(payload) // 25))]
    for trial in range(50):
        changed = bytearray(payload)
        for _ in range(1 + trial % 4):
            changed[rng.randrange(len(changed) if trial % 2 else 40)] ^= 1 << rng.randrange(8)
        damaged.append(bytes(changed))
    damaged += [rng.randbytes(length) for length in (1, 2, 10, 100, 1000)]
    damaged += [payload + payload[1:], payload[:1] + payload[1:] * 20]
    verdicts: Counter[bool] = Counter()
    for data in damaged:
        start = time.process_time()
        try:
            assert VIDEO.shape(codec.decode(data, shape)) == shape
            verdicts[True] += 1
        except CorruptPayload as error:
            verdicts[False] += str(error).count("\n") == 0
        assert time.process_time() - start < LIMIT_S
    assert verdicts[False] >= 25  # every cut at least


@every_clip_codec
def test_another_number_of_frames_is_corrupt(codec: SourceCodec[Clip], clip: Clip) -> None:
    payload = codec.encode(clip, at(codec, 1, 0.3))
    for frames in (clip.frames[:5], torch.cat([clip.frames, clip.frames[:1]])):
        with pytest.raises(CorruptPayload):
            codec.decode(payload, VIDEO.shape(Clip(frames, RATE)))


@every_clip_codec
@pytest.mark.parametrize("size", [(1, 1, 1), (3, 5, 3), (2, 33, 71), (2, 3, 300)], ids=str)
def test_odd_and_small_clips(codec: SourceCodec[Clip], size: tuple[int, int, int]) -> None:
    count, height, width = size
    across = torch.linspace(60, 120, height)[:, None] + torch.linspace(0, 60, width)
    frames = torch.stack([across, 255 - across, torch.full_like(across, 128)]).round().byte()
    x = Clip(frames.expand(count, 3, height, width).contiguous(), RATE)
    for scale, floor_db in ((1, 22), (4, 15)):  # frames of a few pixels are hardly more than their colour
        decoded = codec.decode(codec.encode(x, at(codec, scale, 0.8)), VIDEO.shape(x))
        assert VIDEO.shape(decoded) == VIDEO.shape(x)
        assert psnr_db(decoded, x) > floor_db


def test_frames_are_preceded_by_their_lengths(clip: Clip) -> None:
    still = StreamCodec(Jpeg())
    quality = at(still, 1, 0.9)
    payload = FrameByFrame(still).encode(clip, quality)
    parts = [still.encode(frame[None].float() / 255, quality) for frame in clip.frames]
    assert all(128 <= len(part) < 128**2 for part in parts)  # lengths of two bytes
    assert payload == b"".join(bytes([len(p) & 127 | 128, len(p) >> 7]) + p for p in parts)


@every_inter_codec
def test_motion_is_cheaper_than_stills(codec: InterCodec, clip: Clip) -> None:
    still = Clip(clip.frames[:1], RATE)
    one, all_ = (len(codec.encode(x, at(codec, 1, 0.5))) for x in (still, clip))
    assert all_ < 0.75 * len(clip.frames) * one


@every_inter_codec
def test_colours_survive(codec: InterCodec) -> None:
    """Flat colours come back, whatever matrix and range are used, if both directions use the same."""
    colours = torch.tensor([[190, 50, 60], [60, 170, 70], [0, 0, 0], [255, 255, 255]], dtype=torch.uint8)
    for colour in colours:
        x = Clip(colour[None, :, None, None].expand(2, 3, 48, 64).contiguous(), RATE)
        decoded = codec.decode(codec.encode(x, at(codec, 1, 0.8)), VIDEO.shape(x))
        assert (
            decoded.frames.int() - x.frames.int()
        ).abs().max() <= 4  # 8 bits of Y, Cb, Cr, and the quantiser


@every_inter_codec
def test_equal_clips_give_equal_bytes_after_other_work(codec: InterCodec) -> None:
    """Encoders that read memory which nobody wrote depend on what was there before."""
    rng = np.random.default_rng(0)
    x = Clip(torch.from_numpy(rng.integers(0, 256, (8, 3, 12, 16), np.uint8)), RATE)
    x = Clip(x.frames.repeat_interleave(4, 2).repeat_interleave(4, 3), RATE)
    payloads = set()
    for value in range(12):
        used = [np.full(int(2 ** rng.uniform(4, 20)), value * 21, np.uint8) for _ in range(100)]
        del used
        payloads.add(codec.encode(x, at(codec, 1, 0.45)))
    assert len(payloads) == 1


# Texts

TEXTS = (
    "",
    "a",
    "Grüße aus dem Süden\r\n" * 20,
    "a" * 20_000,
    "\ufeffmark \0 and e\u0301 \U0001f469\u200d\U0001f680",
)


@every_text_codec
@pytest.mark.parametrize("text", TEXTS, ids=lambda text: f"{len(text)}")
def test_texts_come_back(codec: SourceCodec[str], text: str) -> None:
    assert isinstance(codec, SourceCodec)
    (quality,) = codec.qualities
    payload = codec.encode(text, quality)
    assert codec.decode(payload, TextShape()) == text
    fitted = fit(codec, text, 8 * len(payload))
    assert (fitted.payload, fitted.quality, fitted.decoded) == (payload, quality, text)
    with pytest.raises(BudgetTooSmall, match=f"at least {8 * len(payload)} bits for a text of"):
        fit(codec, text, 8 * len(payload) - 1)
    with pytest.raises(InvalidOption, match="only quality"):
        codec.encode(text, Quality(2, 0))


def test_zlib_is_never_longer_than_the_text_and_a_byte() -> None:
    rng = random.Random(0)
    (quality,) = Zlib().qualities
    for length in range(200):
        text = "".join(chr(rng.randrange(32, 0x3000)) for _ in range(length))
        assert len(Zlib().encode(text, quality)) <= len(text.encode()) + 1
    prose = "the channel is crossed once, and what crossed the channel is measured there " * 4
    assert len(Zlib().encode(prose, quality)) < 0.4 * len(prose)
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    assert (
        Zlib().decode(raw.compress(prose.encode()) + raw.flush(), TextShape()) == prose
    )  # any encoder's stream


@every_text_codec
def test_damaged_texts_are_reported_or_decoded(codec: SourceCodec[str]) -> None:
    rng = random.Random(0)
    payload = codec.encode("Ein Satz mit Umlauten: ä, ö, ü. " * 9, codec.qualities[0])
    verdicts: Counter[bool] = Counter()
    for _ in range(300):
        changed = bytearray(payload)
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        for data in (bytes(changed), payload[: rng.randrange(len(payload))], rng.randbytes(30)):
            try:
                assert isinstance(codec.decode(data, TextShape()), str)
                verdicts[True] += 1
            except CorruptPayload as error:
                verdicts[False] += str(error).count("\n") == 0
    assert verdicts[False] > 100


def test_payloads_of_texts_end_where_they_end() -> None:
    (quality,) = Zlib().qualities
    payload = Zlib().encode("again and again and again", quality)
    with pytest.raises(CorruptPayload, match="goes on behind its end"):
        Zlib().decode(payload + b"\0", TextShape())
    with pytest.raises(CorruptPayload, match="cut off"):
        Zlib().decode(payload[:-1], TextShape())
    with pytest.raises(CorruptPayload, match="not UTF-8 at byte 1 of 2"):
        Utf8().decode(b"a\xff", TextShape())


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semcom.codecs.text.MAX_BYTES", 1000)
    payload = Zlib().encode("a" * 1001, Quality(1, 0))
    assert len(payload) < 20
    with pytest.raises(CorruptPayload, match="more than 64 MiB"):
        Zlib().decode(payload, TextShape())
    assert Zlib().decode(Zlib().encode("a" * 1000, Quality(1, 0)), TextShape()) == "a" * 1000


# fit and Memo


def test_memo_hands_clips_and_texts_through(clip: Clip) -> None:
    for codec, x, shape in ((INTER[0], clip, VIDEO.shape(clip)), (Zlib(), "words", TextShape())):
        memo = Memo(codec)
        quality = codec.qualities[-20:][0]
        payload = codec.encode(x, quality)
        assert memo.encode(x, quality) == payload
        assert type(memo.decode(payload, shape)) is type(x)
        assert fit(memo, x, 10**6).payload == fit(codec, x, 10**6).payload
        assert pickle.loads(pickle.dumps(memo)) == memo


@dataclass(frozen=True)
class Counting:
    """An image codec that counts its calls."""

    calls: "Counter[object]" = field(default_factory=Counter)
    name: str = "counting"
    qualities: tuple[Quality, ...] = (Quality(1, 0),)

    def encode(self, x: Tensor, quality: Quality) -> bytes:
        self.calls["encode"] += 1
        return x.byte().numpy().tobytes()

    def decode(self, payload: bytes, shape: tuple[int, ...]) -> Tensor:
        return torch.frombuffer(bytearray(payload), dtype=torch.uint8).float().reshape(shape)


def test_threads_share_a_memo() -> None:
    """Each gets its own image back, however their calls interleave, and the accounts of bytes stay right."""
    memo = Memo(Counting(), max_bytes=4096)
    images = [torch.full((1, 3, 4, 4), float(value)) for value in range(24)]

    def work(start: int) -> bool:
        order = [images[(start + 7 * step) % len(images)] for step in range(300)]
        payloads = [memo.encode(x, Quality(1, 0)) for x in order]
        return all(torch.equal(memo.decode(p, (1, 3, 4, 4)), x) for p, x in zip(payloads, order, strict=True))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    held = memo._payloads._values.values()
    assert memo._payloads._bytes == sum(map(len, held)) <= 1024


def test_fitted_holds_any_content() -> None:
    assert Fitted(b"", Quality(1, 0), "text").decoded == "text"
