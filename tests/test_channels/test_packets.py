"""A packet link: what fits comes back, what is lost is None, and stronger codes are lost less often."""

import math
import random

import pytest
import torch

from channels import (
    AWGN,
    IndependentLoss,
    Lossy,
    NamedStreams,
    PacketLink,
    RayleighBlockFading,
    Received,
    transmit,
)
from channels.channel import Channel
from channels.errors import ChannelError
from channels.link import FRAME_BITS, DigitalLink
from channels.mcs import MCS_TABLE, Mcs, predicted_failure

STRONG, WEAK, DENSE = MCS_TABLE[5], MCS_TABLE[9], MCS_TABLE[20]
LINKS = (
    PacketLink(100, (WEAK,)),
    PacketLink(150, (STRONG, STRONG, WEAK)),
    PacketLink(256, (STRONG, DENSE), adapted=True),
)
every_link = pytest.mark.parametrize("link", LINKS, ids=lambda link: link.name)


def streams(items: int) -> NamedStreams:
    return NamedStreams(8, tuple(f"item {i}" for i in range(items)))


def noiseless(x: torch.Tensor) -> Received:
    return Received(x, torch.ones_like(x), torch.full((x.shape[0], 1), 1e-6))


def contents(room: tuple[int, ...], seed: int = 0) -> list[bytes]:
    """Full packets."""
    rng = random.Random(seed)
    return [rng.randbytes(size) for size in room]


@every_link
@pytest.mark.parametrize("data_uses", [150, 600, 1000, 1090])
def test_packets_of_every_length_come_back(link: PacketLink, data_uses: int) -> None:
    room = link.room(data_uses)
    assert len(room) == math.ceil(data_uses / link.packet_uses)
    rng = random.Random(data_uses)
    for packets in (
        contents(room),
        [b""] * len(room),
        [b"\x80" * min(1, size) for size in room],
        [rng.randbytes(rng.randint(0, size)) for size in room],
        [rng.randbytes(rng.randint(0, size)) for size in room],
    ):
        x = link.send(packets, data_uses)
        assert x.shape == (1, data_uses)
        (arrived,) = link.receive(noiseless(x))
        assert list(arrived) == packets


def test_a_packet_of_every_single_length() -> None:
    link = PacketLink(120, (WEAK,))
    (longest,) = link.room(120)
    assert longest > 10
    for size in range(longest + 1):
        packet = random.Random(size).randbytes(size)
        assert link.receive(noiseless(link.send([packet], 120))) == ((packet,),)


@every_link
def test_each_packet_is_a_message_of_the_digital_link_in_its_own_place(link: PacketLink) -> None:
    """So that header and CRC are counted, and what `Lossy` loses is whole packets."""
    packets = contents(link.room(700))
    x = link.send(packets, 700)
    for i, packet in enumerate(packets):
        part = x[:, i * link.packet_uses : (i + 1) * link.packet_uses]
        own = DigitalLink(link.mcs[min(i, len(link.mcs) - 1)], adapted=link.adapted)
        longest = own.payload_bits(part.shape[1])
        assert 8 * len(packet) + FRAME_BITS == longest
        delivery = own.receive(noiseless(part))
        assert delivery.ok.all()
        assert delivery.bits[0].numel() == longest


@pytest.mark.parametrize("mcs", [WEAK, MCS_TABLE[13], DENSE, MCS_TABLE[30]], ids=lambda mcs: mcs.name)
def test_average_power_is_one_for_packets_of_equal_content(mcs: Mcs) -> None:
    """As for independent symbols: an empty packet in every place is not the same symbols over and over."""
    x = PacketLink(200, (mcs,)).send([b""] * 200, 40_000)
    kurtosis = mcs.constellation.points.abs().pow(4).mean().item()
    assert abs(x.abs().square().mean().item() - 1) < 5 * math.sqrt((kurtosis - 1) / 40_000)


def test_an_adapting_receiver_is_told_the_scheme_of_every_packet() -> None:
    sender = PacketLink(300, (STRONG, DENSE, WEAK), adapted=True)
    packets = contents(sender.room(2000))
    received = noiseless(sender.send(packets, 2000))
    for mcs in ((MCS_TABLE[0],), (DENSE, STRONG)):
        assert list(PacketLink(300, mcs, adapted=True).receive(received)[0]) == packets
    fixed = PacketLink(300, (STRONG, DENSE, WEAK))
    x = fixed.send([b""] * 7, 2000)
    assert PacketLink(300, (DENSE,)).receive(noiseless(x))[0][0] is None


def test_exactly_the_packets_of_lost_places_are_missing() -> None:
    """At an SNR where noise loses none; the places are those of `Lossy`."""
    link, batch, data_uses = PacketLink(90, (STRONG, WEAK)), 40, 1035
    packets = contents(link.room(data_uses))
    channel = Lossy(AWGN(), 90, IndependentLoss(0.3))
    received = transmit(channel, link.send(packets, data_uses).expand(batch, -1), 25.0, streams(batch))
    lost = received.h[:, ::90] == 0
    assert 0 < int(lost.sum()) < lost.numel()
    for row, arrived in zip(lost.tolist(), link.receive(received), strict=True):
        assert arrived == tuple(None if gone else packet for gone, packet in zip(row, packets, strict=True))


@every_link
def test_a_reception_does_not_depend_on_its_batch(link: PacketLink) -> None:
    packets = contents(link.room(1000))
    snr_db = torch.linspace(4.0, 20.0, 5)
    channel = Lossy(RayleighBlockFading(50), link.packet_uses, IndependentLoss(0.2))
    received = transmit(channel, link.send(packets, 1000).expand(5, -1), snr_db, streams(5))
    together = link.receive(received)
    assert [link.receive(received.item(i))[0] for i in range(5)] == list(together)
    assert len({arrived.count(None) for arrived in together}) > 1
    assert link.receive(Received(received.y[:0], received.h[:0], received.noise_var[:0])) == ()


@pytest.mark.parametrize(
    ("channel", "snr_db", "adapted"),
    [
        (AWGN(), 4.5, False),
        (AWGN(), 4.5, True),
        (Lossy(AWGN(), 200, IndependentLoss(0.1)), 4.5, False),
        (RayleighBlockFading(50), 7.0, False),
        (Lossy(RayleighBlockFading(50), 200, IndependentLoss(0.1)), 7.0, True),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_two_classes_are_lost_as_often_as_is_predicted(
    channel: Channel, snr_db: float, adapted: bool
) -> None:
    """Four standard errors, and a quarter of a dB for the prediction; the strong class is lost less often."""
    link, batch, strong, weak = PacketLink(200, (STRONG, STRONG, WEAK), adapted), 200, 2, 4
    data_uses = (strong + weak) * 200
    packets = contents(link.room(data_uses))
    x = link.send(packets, data_uses).expand(batch, -1)
    arrived = link.receive(transmit(channel, x, snr_db, streams(batch)))
    missing = torch.tensor([[packet is None for packet in row] for row in arrived]).double()
    shares = []
    for mcs, places in ((STRONG, slice(0, strong)), (WEAK, slice(strong, None))):
        per_item = missing[:, places].mean(1)
        bits = 8 * len(packets[places][0]) + FRAME_BITS
        high, low = (
            predicted_failure(mcs, channel, snr_db + shift, bits, 200, adapted) for shift in (-0.25, 0.25)
        )
        middle = (high + low) / 2
        # packets of an item are independent; fading and losses are predicted from 200 realisations
        fades = 0.0 if isinstance(channel, AWGN) else middle * (1 - middle) / 200
        error = math.sqrt(middle * (1 - middle) / (batch * missing[:, places].shape[1]) + fades)
        assert low - 4 * error <= per_item.mean() <= high + 4 * error
        shares.append(per_item.mean().item())
    assert shares[0] < shares[1]
    assert 0 < shares[1] < 1


def test_what_arrives_was_sent() -> None:
    """From hopeless to the waterfall, no packet is ever wrong."""
    link, batch, data_uses = PacketLink(120, (STRONG, WEAK), adapted=True), 100, 600
    packets = contents(link.room(data_uses))
    snr_db = torch.linspace(-10.0, 6.0, batch)
    received = transmit(AWGN(), link.send(packets, data_uses).expand(batch, -1), snr_db, streams(batch))
    rows = link.receive(received)
    assert all(a is None or a == b for row in rows for a, b in zip(row, packets, strict=True))
    assert 0 < sum(row.count(None) for row in rows) < 5 * batch


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("rest", [1, 2, 3, 16, 20])
def test_a_place_too_short_for_any_packet_stays_empty(rest: int, adapted: bool) -> None:
    link = PacketLink(200, (WEAK,), adapted)
    room = link.room(400 + rest)
    assert len(room) == 3
    assert room[-1] == 0
    x = link.send([*contents(room[:2]), b""], 400 + rest)
    assert not x[:, 400:].any()
    assert link.receive(noiseless(x))[0] == (*contents(room[:2]), None)
    with pytest.raises(ChannelError, match=r"^packet 2 is of 1 bytes, but"):
        link.send([b"", b"", b"x"], 400 + rest)


def test_names_tell_packet_links_apart() -> None:
    names = ["packets:100:mcs9", "packets:150:mcs5-mcs5-mcs9", "packets:256:adapted-mcs5-mcs20"]
    assert [link.name for link in LINKS] == names


MISTAKES = {
    "too long": (
        lambda: LINKS[0].send([b"x" * 1000], 100),
        "packet 0 is of 1000 bytes, but 100 channel uses of",
    ),
    "too long at the end": (lambda: LINKS[0].send([b"", b"x" * 10], 150), "packet 1 is of 10 bytes, but 50"),
    "too few": (lambda: LINKS[0].send([b"x"], 200), "1 packets for 2 places in 200 channel uses"),
    "too many": (lambda: LINKS[0].send([b"x"] * 3, 200), "3 packets for 2 places in 200 channel uses"),
    "no room": (
        lambda: PacketLink(20, (WEAK,)).send([b""] * 10, 200),
        "200 channel uses in packets of 20 have no",
    ),
    "nothing": (lambda: LINKS[0].send([], 0), "0 channel uses in packets of 100 have no room"),
    "no uses": (lambda: PacketLink(0, (WEAK,)), "packets of 0 channel uses are too short"),
    "no MCS": (lambda: PacketLink(100, ()), "no MCS for the packets"),
    "no iterations": (lambda: PacketLink(100, (WEAK,), max_iterations=0), "0 decoder iterations"),
}


@pytest.mark.parametrize(("make", "says"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake(make, says) -> None:
    with pytest.raises(ChannelError) as caught:
        make()
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 160
