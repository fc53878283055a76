"""Texts and clips in packets: what arrives is shown, what is lost is marked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
import torch

from channels import AWGN, MCS_TABLE, Channel, NamedStreams, RayleighBlockFading
from channels.lossy import IndependentLoss, Lossy
from channels.packets import PacketLink
from semcom import names
from semcom.budget import Budget
from semcom.codecs import Jpeg, StreamCodec
from semcom.codecs.packets import GAP, FramePackets, TextPackets
from semcom.codecs.text import Utf8, Zlib
from semcom.errors import BudgetTooSmall, InvalidOption, UnknownName
from semcom.modalities import TEXT, VIDEO, Clip, ClipShape, TextShape
from semcom.observation import Gaps, Observation
from semcom.packetised import Packetised
from semcom.scheme import Outcome, Scheme
from semcom.transmission import ChannelKnowledge

WORDS = "A packet that is lost takes its words along, and those of its neighbours stay. "
LETTER = (20 * WORDS + "Ünïcödé, 音 and 👩‍👩‍👧 last.").strip()


def sent(
    scheme: Scheme[Any], x: Any, channel: Channel, snr_db: float, uses: int, runs: int = 1
) -> list[Outcome[Any]]:
    rng = NamedStreams(0, tuple(f"run={i}" for i in range(runs)))
    return scheme.transmit(x, Budget(uses, scheme.modality.dims(x)), channel, snr_db, rng)


def clip(frames: int, height: int = 24, width: int = 32) -> Clip:
    """Every frame of a brightness of its own."""
    levels = torch.arange(frames) * (200 // max(frames, 1)) + 30
    return Clip(levels[:, None, None, None].expand(frames, 3, height, width).byte().clone(), Fraction(25))


@pytest.mark.parametrize("codec", [Zlib(), Utf8()], ids=lambda codec: codec.name)
@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_text_in_packets_comes_back(codec: Any, count: int) -> None:
    packets = TextPackets(codec).encode(LETTER, [4000 // count] * count)
    assert len(packets) == count
    assert all(len(packet) <= 4000 // count for packet in packets)
    decoded = TextPackets(codec).decode(packets, TextShape())
    assert decoded is not None
    assert decoded.x == LETTER
    assert not any(decoded.missing)


def test_a_text_is_spread_over_its_packets() -> None:
    sizes = list(map(len, TextPackets(Utf8()).encode(LETTER, [1000] * 8)))
    assert max(sizes) <= 2 * len(LETTER.encode()) / 8 + 8


def test_lost_packets_are_marked_and_the_rest_stays() -> None:
    codec = TextPackets(Utf8())
    packets = codec.encode(LETTER, [300] * 8)
    texts = [packet.decode() for packet in packets]
    decoded = codec.decode([None if i in (1, 4) else packet for i, packet in enumerate(packets)], TextShape())
    assert decoded is not None
    assert decoded.x == "".join(GAP if i in (1, 4) else text for i, text in enumerate(texts))
    marked = [i for i, missing in enumerate(decoded.missing) if missing]
    assert [decoded.x[i] for i in marked] == [GAP, GAP]
    assert codec.decode([None] * 8, TextShape()) is None
    damaged = codec.decode([b"\xff", *packets[1:]], TextShape())  # no UTF-8
    assert damaged is not None
    assert damaged.missing[0]


def test_a_text_without_room_is_refused() -> None:
    with pytest.raises(BudgetTooSmall, match="3 packets of 30 bytes in all has no room for a text of"):
        TextPackets(Utf8()).encode(LETTER, [10] * 3)


@pytest.mark.parametrize(("frames", "packets"), [(1, 1), (5, 2), (7, 7), (3, 8), (12, 5)])
def test_frames_of_lost_packets_repeat_the_one_before(frames: int, packets: int) -> None:
    codec, x = FramePackets(StreamCodec(Jpeg())), clip(frames)
    shape = ClipShape(frames, 24, 32, Fraction(25))
    coded = codec.encode(x, [2000] * packets)
    whole = codec.decode(coded, shape)
    assert whole is not None
    assert not any(whole.missing)
    assert (whole.x.frames.int() - x.frames.int()).abs().max() <= 3
    place = [math.floor(t * packets / frames) for t in range(frames)]  # as its docstring says
    for lost in set(place):
        part = codec.decode([None if i == lost else packet for i, packet in enumerate(coded)], shape)
        expected = tuple(number == lost for number in place)
        if all(expected):
            assert part is None
            continue
        assert part is not None
        assert part.missing == expected
        first = expected.index(False)
        for t in range(frames):
            if expected[t]:  # the one before, or the first that arrived
                assert torch.equal(part.x.frames[t], part.x.frames[t - 1 if t > first else first])


@pytest.mark.parametrize(
    ("name", "modality", "x"),
    [
        ("zlib+packets:256", TEXT, LETTER),
        ("utf8+packets:300:mcs10", TEXT, LETTER),
        ("jpeg+packets:512", VIDEO, clip(5)),
        ("jpeg+packets:700:mcs3-mcs10", VIDEO, clip(5)),
        ("av1-live+packets:2000:mcs10", VIDEO, clip(20)),
    ],
)
def test_schemes_in_packets(name: str, modality: Any, x: Any) -> None:
    """Names, measured uses, nothing lost without noise, gaps under loss, outage if all is lost."""
    scheme = names.scheme(name, modality)
    assert names.scheme(scheme.name, modality).name == scheme.name
    assert isinstance(scheme.transmission, Packetised)
    uses = 16_000
    (clear,) = sent(scheme, x, AWGN(), 30.0, uses)
    assert not clear.outage
    assert clear.info["packet_loss"] == 0
    assert clear.channel_uses <= uses
    if modality is TEXT:
        assert clear.x_hat == x
    lossy = Lossy(AWGN(), scheme.transmission.packet_uses, IndependentLoss(0.3))
    outcomes = sent(scheme, x, lossy, 30.0, uses, runs=20)
    losses = [outcome.info["packet_loss"] for outcome in outcomes]
    packets = len(losses) * clear.info["packets"]
    assert abs(sum(losses) / len(losses) - 0.3) < 4 * math.sqrt(0.3 * 0.7 / packets) + 0.01
    (gone,) = sent(scheme, x, AWGN(), -40.0, uses)
    assert gone.outage


@dataclass(frozen=True)
class Solid:
    """Packet codec of items that take so many bytes in all, however many packets there are."""

    size: int
    name: str = "solid"

    def encode(self, x: str, room: Sequence[int]) -> tuple[bytes, ...]:
        if sum(room) < self.size:
            raise BudgetTooSmall(f"{sum(room)} bytes for {self.size}")
        return tuple(bytes(most) for most in room)

    def decode(self, packets: Sequence[bytes | None], shape: Any) -> Gaps[str] | None:
        return None


@pytest.mark.parametrize(
    "channel", [RayleighBlockFading(64), Lossy(AWGN(), 64, IndependentLoss(0.1))], ids=str
)
def test_the_rate_is_the_most_reliable_one_that_holds_the_item(channel: Channel) -> None:
    """Against all fixed rates: the reliable one where the item fits, else the lowest that has room for it."""
    known, uses = ChannelKnowledge(channel, 14.0), 20 * 128

    def room(row: int) -> int:
        return sum(PacketLink(128, (MCS_TABLE[row],), adapted=True).room(uses))

    def chosen(size: int) -> int:
        return int(Packetised(Solid(size), 128).send("x", uses, known).info["mcs"])

    usual = chosen(1)
    rows = sorted(range(len(MCS_TABLE)), key=lambda row: MCS_TABLE[row].bits_per_use)
    for size in (room(usual), room(usual) + 1, 700, 900):
        fitting = [row for row in rows if room(row) >= size]
        assert chosen(size) == (usual if room(usual) >= size else fitting[0])
    refused = Packetised(Solid(10**6), 128).send("x", uses, known)
    assert not refused.symbols.numel()
    assert "bytes for 1000000" in refused.cause


def test_packets_longer_than_the_transmission_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No block error rate is looked up for packets of which not one is whole."""

    def never(*_: object, **__: object) -> tuple[()]:
        raise AssertionError("MCSs are examined")

    monkeypatch.setattr("semcom.packetised.mcs_by_preference", never)
    known = ChannelKnowledge(AWGN(), 10.0)
    refused = Packetised(TextPackets(Utf8()), 10**9).send("x", 1000, known)
    assert "no room for a payload" in refused.cause


def test_a_text_too_long_for_the_reliable_rate_arrives_with_gaps() -> None:
    """Both halves of a packet must arrive at these rates: 1 - 0.9^2 of the packets are lost."""
    scheme, uses, runs = names.scheme("zlib+packets:128", TEXT), 20 * 128, 20
    channel = Lossy(AWGN(), 64, IndependentLoss(0.1))
    outcomes = sent(scheme, LETTER[:500], channel, 14.0, uses, runs)
    assert not any(outcome.outage for outcome in outcomes)
    losses = [outcome.info["packet_loss"] for outcome in outcomes]
    lost = 1 - 0.9**2
    assert abs(sum(losses) / runs - lost) < 4 * math.sqrt(lost * (1 - lost) / (20 * runs))
    for outcome in outcomes:
        places = [LETTER.find(run) for run in outcome.x_hat.split(GAP)]
        assert -1 not in places
        assert outcome.x_hat.count(GAP) == round(20 * outcome.info["packet_loss"])


def test_the_halves_know_what_they_are_told() -> None:
    transmission = names.scheme("zlib+packets:256", TEXT).transmission
    assert isinstance(transmission, Packetised)
    assert not transmission.send(LETTER, 100, ChannelKnowledge(AWGN(), 10.0)).symbols.numel()
    with pytest.raises(InvalidOption, match="average SNR"):
        transmission.send(LETTER, 10_000, None)


def test_observations_carry_the_gaps() -> None:
    scheme = names.scheme("utf8+packets:300:mcs10", TEXT)
    seen: list[Observation[str]] = []

    class Noting:
        name = "noting"

        def __call__(self, observation: Observation[str], shape: Any, rng: Any) -> str | None:
            seen.append(observation)
            return observation.shown

    noting: Scheme[str] = Scheme("noting", scheme.transmission, Noting(), TEXT)
    sent(noting, LETTER, Lossy(AWGN(), 300, IndependentLoss(0.4)), 30.0, 16_000)
    (gaps,) = seen[0].evidence
    assert isinstance(gaps, Gaps)
    assert len(gaps.missing) == len(gaps.x)
    assert any(gaps.missing)
    assert all(gaps.x[i] == GAP for i, missing in enumerate(gaps.missing) if missing)


def test_names_that_are_none() -> None:
    with pytest.raises(UnknownName, match="packets:<uses>"):
        names.scheme("zlib+packets:x", TEXT)
    with pytest.raises(UnknownName, match="only clips and texts"):
        names.scheme("avif+packets:512")
    with pytest.raises(InvalidOption, match="MCS 99"):
        names.scheme("zlib+packets:512:mcs99", TEXT)
    with pytest.raises(InvalidOption, match="at least 1"):
        names.scheme("zlib+packets:0", TEXT)
