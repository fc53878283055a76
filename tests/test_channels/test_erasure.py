"""Packet loss against the theory of its Markov chain."""

import math

import pytest
from instances import PACKET_CHANNELS

from channels import GilbertElliott, IndependentErasure, NamedStreams
from channels.errors import ChannelError

PACKETS = [bytes([i % 256]) for i in range(400)]


def losses(channel, items=200, packets=PACKETS):
    """One row of flags for each item."""
    return [[p is None for p in channel(packets, NamedStreams(4, (f"item {i}",)))] for i in range(items)]


def runs(flags):
    """Lengths of the runs of lost packets that begin and end within the item."""
    text = "".join("x" if lost else "." for lost in flags)
    return [len(run) for run in text[text.find(".") : text.rfind(".")].split(".") if run]


def assert_mean(values, expected):
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    assert abs(mean - expected) < 5 * spread / math.sqrt(len(values))


every_packet_channel = pytest.mark.parametrize("channel", PACKET_CHANNELS, ids=lambda c: c.name)


@every_packet_channel
def test_mean_loss(channel):
    assert_mean([sum(row) / len(row) for row in losses(channel)], channel.mean_loss)


@every_packet_channel
def test_what_arrives_is_what_was_sent_in_order(channel):
    arrived = channel(PACKETS, NamedStreams(4, ("a",)))
    assert len(arrived) == len(PACKETS)
    assert all(p is None or p == q for p, q in zip(arrived, PACKETS, strict=True))
    assert channel([], NamedStreams(4, ("a",))) == ()


@every_packet_channel
def test_first_packets_do_not_depend_on_how_many_follow(channel):
    assert losses(channel, 5, PACKETS[:100]) == [row[:100] for row in losses(channel, 5)]
    assert losses(channel, 2)[0] != losses(channel, 2)[1]


@every_packet_channel
def test_a_batch_is_refused(channel):
    with pytest.raises(ChannelError, match="one item"):
        channel(PACKETS, NamedStreams(4, ("a", "b")))


def test_bursts_are_geometric():
    """Mean 1 / p_bad_to_good, and P(run > n) = (1 - p_bad_to_good)^n."""
    lengths = [n for row in losses(GilbertElliott(0.05, 0.25), items=300) for n in runs(row)]
    assert_mean(lengths, 4.0)
    for n in (1, 3, 6):
        p = 0.75**n
        share = sum(length > n for length in lengths) / len(lengths)
        assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / len(lengths))


def test_gaps_are_geometric():
    flags = [[not lost for lost in row] for row in losses(GilbertElliott(0.1, 0.4), items=300)]
    assert_mean([n for row in flags for n in runs(row)], 10.0)


def test_independent_losses_have_runs_of_one_over_one_minus_p():
    assert_mean([n for row in losses(IndependentErasure(0.3)) for n in runs(row)], 1 / 0.7)


def test_the_chain_starts_in_its_stationary_state():
    channel = GilbertElliott(0.02, 0.06)
    first = [row[0] for row in losses(channel, items=2000, packets=PACKETS[:1])]
    p = channel.bad_share
    assert p == 0.25
    assert abs(sum(first) / 2000 - p) < 5 * math.sqrt(p * (1 - p) / 2000)


def test_losses_grow_with_their_probability():
    """The same luck: what is lost at 10 % is lost at 30 %."""
    few, many = losses(IndependentErasure(0.1), 20), losses(IndependentErasure(0.3), 20)
    assert all(b or not a for x, y in zip(few, many, strict=True) for a, b in zip(x, y, strict=True))


def test_certain_cases():
    assert not any(losses(IndependentErasure(0.0), 1)[0])
    assert all(losses(IndependentErasure(1.0), 1)[0])
    assert all(losses(GilbertElliott(1.0, 0.0), 1)[0])
    assert not any(losses(GilbertElliott(0.0, 1.0), 1)[0])
