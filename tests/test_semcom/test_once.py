"""Codecs of clips that remember what they fitted: the same results, from fewer encodes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
import torch

from semcom.codecs import Jpeg, StreamCodec
from semcom.codecs.av import InterCodec
from semcom.codecs.clip import FrameByFrame, shape_of
from semcom.codecs.codec import Fitted
from semcom.codecs.once import FittedOnce, PackedOnce
from semcom.codecs.packets import FramePackets
from semcom.errors import BudgetTooSmall
from semcom.modalities import Clip
from semcom.provenance import canonical


def clip(seed: int = 0) -> Clip:
    noise = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    frames = torch.nn.functional.interpolate(noise, (32, 32), mode="bicubic").clamp(0, 1)
    return Clip((255 * frames).round().to(torch.uint8), Fraction(25))


@dataclass(frozen=True)
class Counted(FrameByFrame):
    """JPEG frame by frame, which counts how often it is asked."""

    codec: Any = field(default_factory=lambda: StreamCodec(Jpeg()))
    asked: list[int] = field(default_factory=list, compare=False)

    def fit(self, x: Clip, max_bits: int) -> Fitted[Clip]:
        self.asked.append(max_bits)
        return super().fit(x, max_bits)


@dataclass(frozen=True)
class CountedPackets(FramePackets):
    """JPEG in packets, which counts how often it is asked."""

    codec: Any = field(default_factory=lambda: StreamCodec(Jpeg()))
    asked: list[int] = field(default_factory=list, compare=False)

    def encode(self, x: Clip, room: Sequence[int]) -> tuple[bytes, ...]:
        self.asked.append(len(room))
        return super().encode(x, room)


def test_a_clip_is_fitted_once_to_a_number_of_bits() -> None:
    inner = Counted()
    codec, right = FittedOnce(inner), Counted()
    for x, bits in [(clip(), 9000), (clip(), 9000), (clip(), 7000), (clip(1), 9000), (clip(), 7000)]:
        found, expected = codec.fit(x, bits), right.fit(x, bits)
        assert found.payload == expected.payload
        assert found.quality == expected.quality
        assert torch.equal(codec.decode(found.payload, shape_of(x)).frames, expected.decoded.frames)
    assert inner.asked == [9000, 7000, 9000]


def test_a_refusal_is_remembered() -> None:
    inner = Counted()
    codec, lines = FittedOnce(inner), set()
    for _ in range(2):
        with pytest.raises(BudgetTooSmall) as refused:
            codec.fit(clip(), 8)
        lines.add(str(refused.value))
    assert inner.asked == [8]
    assert len(lines) == 1


def test_what_is_remembered_is_no_part_of_the_definition() -> None:
    codec = FittedOnce(FrameByFrame(StreamCodec(Jpeg())))
    before = canonical(codec)
    codec.fit(clip(), 9000)
    assert canonical(codec) == before
    assert codec.name == "jpeg"


def test_the_scale_is_that_of_the_codec() -> None:
    x265 = InterCodec("x265")
    for scale in (1, 2, 4):
        payload = x265.encode(clip(), x265.quality(30, scale))
        assert FittedOnce(x265).scale(payload, (1, 3, 32, 32)) == scale
    assert FittedOnce(FrameByFrame(StreamCodec(Jpeg()))).scale(b"", (1, 3, 32, 32)) == 1


def test_packets_are_made_once() -> None:
    inner = CountedPackets()
    codec, right = PackedOnce(inner), CountedPackets()
    for room in ((800, 800, 800), (800, 800, 800), (600, 600)):
        assert codec.encode(clip(), room) == right.encode(clip(), room)
    assert inner.asked == [3, 2]
    for _ in range(2):
        with pytest.raises(BudgetTooSmall):
            codec.encode(clip(), (1, 1))
    assert inner.asked == [3, 2, 2]
    packets = (None, *codec.encode(clip(), (800, 800, 800))[1:])
    found, expected = codec.decode(packets, shape_of(clip())), right.decode(packets, shape_of(clip()))
    assert found is not None
    assert expected is not None
    assert found.missing == expected.missing == (True, False, False)
    assert torch.equal(found.x.frames, expected.x.frames)
