"""The digital link and the ideal link: what goes in comes out, what is lost is said to be lost."""

import math
import random
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from channels import (
    AWGN,
    OFDM,
    ClippedAmplifier,
    NamedStreams,
    NoCSI,
    RayleighBlockFading,
    Received,
    Streams,
    theory,
    transmit,
)
from channels.channel import Channel, SnrDb
from channels.errors import ChannelError
from channels.link import FRAME_BITS, TAGS, DigitalLink, IdealLink, frame, unframe
from channels.lossy import IndependentLoss, Lossy
from channels.mcs import MCS_TABLE, Mcs, choose_mcs, predicted_failure

QPSK_HALF = MCS_TABLE[6]


def streams(batch: int) -> NamedStreams:
    return NamedStreams(3, tuple(f"item{i}" for i in range(batch)))


def random_bits(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 2, (count,), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def noiseless(x: torch.Tensor) -> Received:
    return Received(x, torch.ones_like(x), torch.full((x.shape[0], 1), 1e-6))


@pytest.mark.parametrize("tag", range(TAGS))
@pytest.mark.parametrize("payload", [b"", b"\x00", b"\x80\x00", b"semantic", bytes(range(256))])
def test_frames(payload: bytes, tag: int) -> None:
    bits = frame(payload, tag)
    assert bits.numel() == 8 * len(payload) + FRAME_BITS
    assert unframe(bits) == (payload, tag)
    assert unframe(torch.nn.functional.pad(bits, (0, 1003))) == (payload, tag)


@pytest.mark.parametrize("tag", [0, 1, 64, 127])
def test_frames_of_every_length(tag: int) -> None:
    """Of zeros, which padding looks like, of bytes that look like the mark, and of any."""
    chosen = random.Random(tag)
    for length in range(301):
        for payload in (bytes(length), b"\x80" * length, chosen.randbytes(length)):
            bits = frame(payload, tag)
            assert bits.numel() == 8 * length + FRAME_BITS
            for padding in (0, 7, 8, chosen.randrange(3000)):
                assert unframe(torch.nn.functional.pad(bits, (0, padding))) == (payload, tag)


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\x80\x00", b"semantic", bytes(range(256))])
def test_a_frame_ends_in_the_mark_of_iso_7816_with_the_tag_in_its_low_bits(payload: bytes) -> None:
    """0x80, as the standard has it, behind the payload where nothing is tagged; written out by hand."""
    for tag in range(TAGS):
        octets = [*payload, 0x80 | tag]
        expected = [int(digit) for octet in octets for digit in f"{octet:08b}"]
        assert frame(payload, tag).tolist() == expected
    assert torch.equal(frame(payload), frame(payload, 0))
    assert frame(payload)[-8:].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("tag", [-1, 128, 1000])
def test_a_tag_outside_its_seven_bits_is_refused(tag: int) -> None:
    with pytest.raises(ChannelError, match=rf"^tag {tag} of a frame: .* holds 0\.\.127$"):
        frame(b"semantic", tag)


def test_bits_without_an_end_mark_are_no_frame() -> None:
    assert unframe(torch.zeros(64, dtype=torch.uint8)) is None
    assert unframe(torch.zeros(0, dtype=torch.uint8)) is None
    for last in range(1, 0x80):  # of bytes that are not zero only those of the upper half end a frame
        bits = torch.tensor([int(digit) for digit in f"{0xFF:08b}{last:08b}{0:08b}"], dtype=torch.uint8)
        assert unframe(bits) is None


@pytest.mark.parametrize("tag", range(0, TAGS, 9))
def test_tags_arrive_with_their_payloads(tag: int) -> None:
    link, payload = DigitalLink(QPSK_HALF), bytes(range(tag))
    delivery = link.receive(noiseless(link.send(frame(payload, tag), 2000).expand(2, -1)))
    assert delivery.frames() == ((payload, tag),) * 2
    assert delivery.payloads() == (payload,) * 2


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("data_uses", [40, 333, 2049, 20000])
def test_any_length_arrives_in_exactly_the_budget(data_uses: int, adapted: bool) -> None:
    chosen = random.Random(data_uses)
    for mcs in MCS_TABLE[:: 3 if data_uses < 3000 else 10]:
        link = DigitalLink(mcs, adapted=adapted)
        longest = link.payload_bits(data_uses)
        assert longest <= mcs.bits_per_use * data_uses
        for count in {longest, longest // 2, 1, chosen.randint(1, max(longest, 1))} if longest else ():
            bits = random_bits(count)
            x = link.send(bits, data_uses)
            assert x.shape == (1, data_uses)
            delivery = link.receive(noiseless(x))
            assert delivery.ok.all()
            assert delivery.block_ok[0].all()
            assert torch.equal(delivery.bits[0][:count], bits)
            assert not delivery.bits[0][count:].any()


@pytest.mark.parametrize("mcs", MCS_TABLE[::5], ids=lambda mcs: mcs.name)
def test_average_power_is_one_whatever_the_payload(mcs: Mcs) -> None:
    """As for independent symbols, over lengths at which repeated bits fall on one symbol, too."""
    kurtosis = mcs.constellation.points.abs().pow(4).mean().item()
    for data_uses in (200, 288, 2628, 20_000):
        link = DigitalLink(mcs)
        for count in {8, 64, 8000} if link.payload_bits(data_uses) else ():
            if count <= link.payload_bits(data_uses):
                power = (
                    link.send(torch.zeros(count, dtype=torch.uint8), data_uses).abs().square().mean().item()
                )
                assert abs(power - 1) < 5 * math.sqrt((kurtosis - 1) / data_uses) + 1e-6


def test_a_shorter_message_survives_more_noise() -> None:
    link, data_uses = DigitalLink(QPSK_HALF), 2000
    longest = link.payload_bits(data_uses)
    for count, arrives in ((longest, False), (longest // 2, True)):
        x = link.send(random_bits(count), data_uses)
        received = transmit(AWGN(), x.expand(20, -1), -2.0, streams(20))
        assert link.receive(received).ok.all() == arrives


def test_lost_messages_are_never_called_good() -> None:
    link, data_uses, batch = DigitalLink(MCS_TABLE[8], adapted=True), 400, 300
    bits = frame(bytes(range(link.payload_bits(data_uses) // 8 - 1)))
    # from hopeless to the waterfall: most verdicts are bad, all must be true
    snr_db = torch.linspace(-15.0, 5.0, batch)
    delivery = link.receive(
        transmit(AWGN(), link.send(bits, data_uses).expand(batch, -1), snr_db, streams(batch))
    )
    right = torch.tensor([b.shape == bits.shape and torch.equal(b, bits) for b in delivery.bits])
    assert torch.equal(right, delivery.ok)
    assert 0 < right.sum() < batch / 2
    assert all(p is None for p, ok in zip(delivery.payloads(), delivery.ok, strict=True) if not ok)
    assert all((f is not None) == ok for f, ok in zip(delivery.frames(), delivery.ok.tolist(), strict=True))
    assert torch.equal(delivery.bler == 0, delivery.ok)


def test_an_erased_transmission_is_lost() -> None:
    link = DigitalLink(MCS_TABLE[9])
    nothing = torch.zeros(2, 500, dtype=torch.complex64)
    for h in (nothing, torch.ones_like(nothing)):
        assert not link.receive(Received(nothing, h, torch.ones(2, 1))).ok.any()


@pytest.mark.parametrize("mcs", [MCS_TABLE[6], MCS_TABLE[9]], ids=lambda mcs: mcs.name)
def test_of_no_receptions_nothing_is_delivered(mcs: Mcs) -> None:
    nobody = torch.zeros(0, 500, dtype=torch.complex64)
    delivery = DigitalLink(mcs).receive(Received(nobody, nobody, torch.ones(0, 1)))
    assert delivery.bits == delivery.payloads() == delivery.frames() == ()
    assert delivery.ok.shape == delivery.bler.shape == (0,)


def test_a_reception_does_not_depend_on_its_batch() -> None:
    link, data_uses, batch = DigitalLink(MCS_TABLE[10], adapted=True), 1500, 6
    x = link.send(random_bits(link.payload_bits(data_uses)), data_uses)
    snr_db = torch.linspace(5.0, 8.0, batch)
    received = transmit(RayleighBlockFading(50), x.expand(batch, -1), snr_db, streams(batch))
    together = link.receive(received)
    for i in range(batch):
        alone = link.receive(
            Received(received.y[i : i + 1], received.h[i : i + 1], received.noise_var[i : i + 1])
        )
        assert torch.equal(alone.bits[0], together.bits[i])
        assert alone.ok[0] == together.ok[i]


def test_an_adapting_receiver_reads_the_scheme_from_the_header() -> None:
    data_uses, receiver = 3000, DigitalLink(MCS_TABLE[0], adapted=True)
    for mcs in MCS_TABLE[::2]:
        sender = DigitalLink(mcs, adapted=True)
        bits = random_bits(sender.payload_bits(data_uses) * 3 // 4)
        delivery = receiver.receive(noiseless(sender.send(bits, data_uses)))
        assert delivery.ok.all()
        assert torch.equal(delivery.bits[0][: bits.numel()], bits)


def test_the_header_is_paid_for() -> None:
    data_uses = 1000
    for mcs in MCS_TABLE[4:]:
        fixed, adapted = DigitalLink(mcs), DigitalLink(mcs, adapted=True)
        for link in (fixed, adapted):
            free = mcs.bits_per_use * (data_uses - link.header(data_uses).uses)
            assert link.payload_bits(data_uses) + 16 <= free
        assert adapted.header(data_uses).uses == 62


def test_the_header_outlives_the_payload() -> None:
    data_uses, batch = 1000, 400
    for index in (2, 6):
        link = DigitalLink(MCS_TABLE[index])
        snr_db = 10 * math.log10(2**link.mcs.bits_per_use - 1)  # the Shannon limit of the payload
        x = link.send(random_bits(link.payload_bits(data_uses)), data_uses)
        delivery = link.receive(transmit(AWGN(), x.expand(batch, -1), snr_db, streams(batch)))
        announced = torch.tensor([b.numel() for b in delivery.bits])
        assert delivery.ok.float().mean() < 0.5  # the normal approximation at capacity
        assert (announced == link.payload_bits(data_uses)).float().mean() > 0.98


def test_too_long_a_message_is_refused() -> None:
    link = DigitalLink(QPSK_HALF)
    with pytest.raises(ChannelError, match="1000 channel uses"):
        link.send(random_bits(link.payload_bits(1000) + 1), 1000)
    assert link.payload_bits(20) == 0
    with pytest.raises(ChannelError):
        link.send(random_bits(8), 20)


def test_ideal_link_carries_the_capacity() -> None:
    link, data_uses = IdealLink(), 500
    bits = link.payload_bits(AWGN(), 7.0, data_uses)
    assert bits == math.floor(500 * math.log2(1 + 10**0.7))
    received = transmit(AWGN(), torch.ones(2, data_uses, dtype=torch.complex64), 7.0, streams(2))
    assert link.succeeds(received, bits).all()
    assert not link.succeeds(received, bits + 2).any()


def test_ideal_link_over_fading_is_in_outage_as_theory_says() -> None:
    batch, data_uses = 20000, 8
    x = torch.ones(batch, data_uses, dtype=torch.complex64)
    received = transmit(RayleighBlockFading(4), x, 10.0, streams(batch))
    measured = 1 - IdealLink().succeeds(received, 16).float().mean().item()
    expected = float(theory.outage_rayleigh(2.0, 10.0, 2))
    assert abs(measured - expected) < 5 * math.sqrt(expected * (1 - expected) / batch)


def test_ideal_link_fills_the_outage_capacity_of_a_fading_channel() -> None:
    batch, data_uses = 2000, 64
    channel = RayleighBlockFading(8)
    bits = IdealLink().payload_bits(channel, 10.0, data_uses, outage=0.1)
    x = torch.ones(batch, data_uses, dtype=torch.complex64)
    lost = 1 - IdealLink().succeeds(transmit(channel, x, 10.0, streams(batch)), bits).float().mean().item()
    deviation = math.sqrt(0.1 * 0.9 * (1 / 200 + 1 / batch))  # of both quantile and measurement
    assert abs(lost - 0.1) < 5 * deviation


@pytest.mark.parametrize("link", [IdealLink(), IdealLink(1e-3)])
def test_ideal_link_without_channel_uses_carries_nothing(link: IdealLink) -> None:
    assert link.payload_bits(AWGN(), 10.0, 0) == 0


def test_ideal_link_behind_a_clipping_amplifier_stays_below_capacity() -> None:
    """Equal symbols would be impulses in time, after which pilots of a far larger power are left."""
    channel = OFDM((ClippedAmplifier(6.0),))
    uses = channel.data_uses(4000)
    bits = IdealLink().payload_bits(channel, 15.0, uses)
    assert 0.9 * theory.capacity(15.0) < bits / uses < theory.capacity(15.0)


@pytest.mark.parametrize("data_uses", [64, 5000])
def test_no_link_is_planned_on_a_wrong_belief(data_uses: int) -> None:
    """h = 1 would carry 3.459 bits per use, more than fading does whose gain is known."""
    channel = NoCSI(RayleighBlockFading(64))
    with pytest.raises(ChannelError, match="no-csi/rayleigh:64 at 10 dB"):
        IdealLink().payload_bits(channel, 10.0, data_uses)
    bits = DigitalLink(QPSK_HALF, adapted=True).payload_bits(data_uses)
    with pytest.raises(ChannelError, match="no-csi/rayleigh:64 at 10 dB"):
        predicted_failure(QPSK_HALF, channel, 10.0, bits, data_uses, True)
    known = IdealLink().payload_bits(NoCSI(AWGN()), 10.0, data_uses)  # there the belief is the truth
    assert known == IdealLink().payload_bits(AWGN(), 10.0, data_uses)


@dataclass
class Growing:
    """A channel of a user that is not hashable, as dataclasses are that are not frozen."""

    losses_db: list[float]

    name = "growing"

    def draw(self, uses: int, snr_db: SnrDb, rng: Streams) -> Any:
        return AWGN().draw(uses, snr_db, rng)

    def apply(self, x: torch.Tensor, state: Any) -> Received:
        return AWGN().apply(x, state)

    def overhead(self, uses: int) -> int:
        return 0

    def data_uses(self, total: int) -> int:
        return total


@pytest.mark.parametrize("channel", [Growing([1.0]), Lossy(Growing([]), 64, IndependentLoss(0.1))])
def test_what_is_not_hashable_is_told(channel: Channel) -> None:
    """One line that names the channel and the cure, before anything is simulated."""
    for plan in (
        lambda: predicted_failure(QPSK_HALF, channel, 10.0, 800, 2000),
        lambda: choose_mcs(channel, 10.0, 2000),
        lambda: IdealLink().payload_bits(channel, 10.0, 64),
    ):
        with pytest.raises(ChannelError, match=r"^channel .*growing.* is not hashable.*frozen dataclass"):
            plan()


def test_long_budgets_are_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The outage capacity is the same where one realisation alone fills the memory allowed."""
    whole = IdealLink().payload_bits(RayleighBlockFading(64), 10.0, 64)
    monkeypatch.setattr("channels.realisations._TO_JUDGE", 64)
    monkeypatch.setattr("channels.realisations._AT_ONCE", 64)
    assert IdealLink().payload_bits(RayleighBlockFading(64), 10.0, 64) == whole


def test_ideal_link_at_finite_length_follows_the_normal_approximation() -> None:
    link, data_uses = IdealLink(1e-3), 300
    bits = link.payload_bits(AWGN(), 3.0, data_uses)
    assert bits < IdealLink().payload_bits(AWGN(), 3.0, data_uses)
    received = transmit(AWGN(), torch.ones(1, data_uses, dtype=torch.complex64), 3.0, streams(1))
    assert link.succeeds(received, bits).all()
    assert not link.succeeds(received, bits + 2).any()
    with pytest.raises(ChannelError, match="outside"):
        IdealLink(0.7)


def test_names_tell_ideal_links_apart() -> None:
    assert [IdealLink(error).name for error in (None, 0.01, 1e-5)] == ["ideal", "ideal:0.01", "ideal:1e-05"]
    assert IdealLink(0.12345678).name != IdealLink(0.12345679).name


def test_nothing_crosses_a_dead_channel() -> None:
    """The logarithm of the normal approximation alone would be 7.8 bits of 25 000 uses."""
    dead = torch.zeros(1, 25_000, dtype=torch.complex64)
    received = Received(dead, dead, torch.ones(1, 1))
    for link in (IdealLink(), IdealLink(1e-3)):
        assert link.carried_bits(received).item() == 0
        assert not link.succeeds(received, 1).any()
    faint = transmit(AWGN(), torch.ones(2, 1000, dtype=torch.complex64), -40.0, streams(2))
    assert (IdealLink(0.4).carried_bits(faint) <= IdealLink().carried_bits(faint)).all()


@pytest.mark.parametrize("outage", [-0.1, 1.0, 1.5, math.nan])
def test_a_share_of_outages_outside_its_range_is_refused(outage: float) -> None:
    with pytest.raises(ChannelError, match=r"^outage of .* is outside \[0, 1\)"):
        IdealLink().payload_bits(RayleighBlockFading(8), 10.0, 64, outage)
