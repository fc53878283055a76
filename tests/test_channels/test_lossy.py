"""Packet loss as fading, against the theory of its Markov chain and against the channel without loss."""

import math

import pytest
import torch
from instances import LOSS_PROCESSES

from channels import (
    AWGN,
    OFDM,
    GilbertElliott,
    IndependentLoss,
    Interleaved,
    Lossy,
    NamedStreams,
    NoCSI,
    PilotAided,
    RayleighBlockFading,
    transmit,
)
from channels.channel import Channel
from channels.link import DigitalLink, IdealLink
from channels.lossy import LossProcess
from channels.mcs import MCS_TABLE, choose_mcs, predicted_failure
from channels.realisations import COUNT, count, realisations
from semcom import names
from semcom.errors import InvalidOption

INNER = (AWGN(), PilotAided(RayleighBlockFading(10), 9), OFDM())


def streams(items: int) -> NamedStreams:
    return NamedStreams(4, tuple(f"item {i}" for i in range(items)))


def losses(law: LossProcess, items: int = 200, packets: int = 400) -> torch.Tensor:
    """One row of flags for each item."""
    return law.draw(packets, streams(items))


def runs(row: torch.Tensor) -> list[int]:
    """Lengths of the runs of lost packets that begin and end within the item."""
    text = "".join("x" if lost else "." for lost in row.tolist())
    return [len(run) for run in text[text.find(".") : text.rfind(".")].split(".") if run]


def assert_mean(values: list[float] | torch.Tensor, expected: float) -> None:
    """Within four standard errors of independent values."""
    values = torch.as_tensor(values).double()
    assert abs(values.mean() - expected) < 4 * values.std() / math.sqrt(len(values))


def assert_share(count: int, trials: int, p: float) -> None:
    """Within four standard deviations of the binomial distribution."""
    assert abs(count / trials - p) <= 4 * math.sqrt(p * (1 - p) / trials)


def random_symbols(items: int, uses: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(items, uses, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


every_law = pytest.mark.parametrize("law", LOSS_PROCESSES, ids=lambda law: law.name)
every_inner = pytest.mark.parametrize("inner", INNER, ids=lambda channel: channel.name)


@every_law
def test_mean_loss(law: LossProcess) -> None:
    """80 000 packets, in 200 independent items."""
    assert_mean(losses(law).double().mean(1), law.mean_loss)


def test_mean_loss_of_the_markov_chain_is_that_of_its_states() -> None:
    """pi = p / (p + q), and the loss is (1 - pi) k + pi h (Elliott, 1963)."""
    law = GilbertElliott(0.1, 0.3, 0.02, 0.7)
    assert law.bad_share == pytest.approx(0.25)
    assert law.mean_loss == pytest.approx(0.75 * 0.02 + 0.25 * 0.7)


@pytest.mark.parametrize(("p", "q"), [(0.05, 0.4), (0.3, 0.2), (0.7, 0.6), (0.9, 0.3), (1.0, 0.5)])
def test_states_change_as_often_as_they_should(p: float, q: float) -> None:
    """Steps out of both states, on both sides of p + q = 1, counted over 39 900 steps."""
    bad = losses(GilbertElliott(p, q), 100)
    before, after = bad[:, :-1], bad[:, 1:]
    assert_share(int((~before & after).sum()), int((~before).sum()), p)
    assert_share(int((before & ~after).sum()), int(before.sum()), q)


@pytest.mark.parametrize(("p", "q"), [(0.05, 0.4), (0.9, 0.7)])
def test_the_chain_is_the_one_that_is_walked_step_by_step(p: float, q: float) -> None:
    law, steps = GilbertElliott(p, q), streams(20).uniform("state", (300,))
    for row, uniform in zip(losses(law, 20, 300).tolist(), steps.tolist(), strict=True):
        bad = uniform[0] < law.bad_share
        walked = [bad]
        for u in uniform[1:]:
            bad = u < (1 - q if bad else p)
            walked.append(bad)
        assert row == walked


def test_bursts_are_geometric() -> None:
    """Mean 1 / p_bad_to_good, and P(run > n) = (1 - p_bad_to_good)^n."""
    lengths = [n for row in losses(GilbertElliott(0.05, 0.25), 300) for n in runs(row)]
    assert len(lengths) > 4000
    assert_mean(lengths, 4.0)
    for n in (1, 3, 6):
        assert_share(sum(length > n for length in lengths), len(lengths), 0.75**n)


def test_gaps_are_geometric() -> None:
    assert_mean([n for row in ~losses(GilbertElliott(0.1, 0.4), 300) for n in runs(row)], 10.0)


def test_independent_losses_have_runs_of_one_over_one_minus_p() -> None:
    assert_mean([n for row in losses(IndependentLoss(0.3)) for n in runs(row)], 1 / 0.7)


def test_the_chain_starts_in_its_stationary_state() -> None:
    law = GilbertElliott(0.02, 0.06)
    assert law.bad_share == 0.25
    first = losses(law, items=4000, packets=1)
    assert_share(int(first.sum()), 4000, 0.25)
    later = losses(law, items=4000, packets=30)[:, -1]
    assert_share(int(later.sum()), 4000, 0.25)


def test_losses_grow_with_their_probability() -> None:
    """The same luck: what is lost at 10 % is lost at 30 %, of packets and of what is received."""
    few, many = losses(IndependentLoss(0.1), 20), losses(IndependentLoss(0.3), 20)
    assert bool((many | ~few).all())
    assert bool((many & ~few).any())
    x = random_symbols(3, 4000)
    some, more = (
        transmit(Lossy(RayleighBlockFading(64), 16, IndependentLoss(p)), x, 10.0, streams(3))
        for p in (0.1, 0.3)
    )
    assert torch.equal(more.h, some.h.masked_fill(more.h == 0, 0))
    assert torch.equal(more.y[more.h != 0], some.y[more.h != 0])
    assert torch.equal(more.y[some.h == 0], some.y[some.h == 0])


@every_law
def test_first_packets_do_not_depend_on_how_many_follow(law: LossProcess) -> None:
    assert torch.equal(losses(law, 5, 100), losses(law, 5)[:, :100])
    assert not torch.equal(losses(law, 2)[0], losses(law, 2)[1])
    assert losses(law, 3, 0).shape == (3, 0)


def test_certain_cases() -> None:
    assert not losses(IndependentLoss(0.0), 3).any()
    assert losses(IndependentLoss(1.0), 3).all()
    assert losses(GilbertElliott(1.0, 0.0), 3).all()
    assert not losses(GilbertElliott(0.0, 1.0), 3).any()
    alternating = losses(GilbertElliott(1.0, 1.0), 3)
    assert bool((alternating[:, 1:] ^ alternating[:, :-1]).all())


@pytest.mark.parametrize("packet_uses", [1, 7, 64, 250, 10**15])
def test_a_packet_is_lost_as_a_whole(packet_uses: int) -> None:
    """Uses i P to (i + 1) P - 1, of which the last may be fewer: as the law says of packet i."""
    law = IndependentLoss(0.3)
    channel = Lossy(AWGN(), packet_uses, law)
    h = transmit(channel, random_symbols(20, 250), 10.0, streams(20)).h
    lost = law.draw(math.ceil(250 / packet_uses), streams(20).fork("packet loss"))
    for use in range(250):
        assert torch.equal(h[:, use] == 0, lost[:, use // packet_uses])


@every_inner
def test_what_arrives_is_what_arrives_without_loss(inner: Channel) -> None:
    x = random_symbols(5, 700)
    without = transmit(inner, x, 10.0, streams(5))
    received = transmit(Lossy(inner, 50, IndependentLoss(0.3)), x, 10.0, streams(5))
    lost = received.h == 0
    assert 0.1 < lost.float().mean() < 0.6
    assert torch.equal(received.y[~lost], without.y[~lost])
    assert torch.equal(received.h[~lost], without.h[~lost])
    assert torch.equal(received.noise_var, without.noise_var)


@every_inner
def test_nothing_of_a_lost_symbol_is_received(inner: Channel) -> None:
    channel = Lossy(inner, 50, IndependentLoss(0.3))
    state = channel.draw(700, 10.0, streams(5))
    received = channel.apply(random_symbols(5, 700), state)
    lost = received.h == 0
    other = channel.apply(torch.where(lost, random_symbols(5, 700, seed=1), random_symbols(5, 700)), state)
    assert torch.equal(received.y[lost], other.y[lost])
    assert torch.allclose(received.y, other.y, atol=1e-5)  # rounding in the Fourier transform of OFDM


def test_noise_alone_is_heard_in_a_lost_packet() -> None:
    """CN(0, N0), independent of the noise that the packet would have had, at an SNR per item."""
    snr_db = torch.tensor([0.0, 20.0])
    x = random_symbols(2, 100_000)
    received = transmit(Lossy(AWGN(), 10, IndependentLoss(0.5)), x, snr_db, streams(2))
    noise = transmit(AWGN(), x, snr_db, streams(2)).y - x
    for item, variance in enumerate((1.0, 0.01)):
        lost = received.h[item] == 0
        y = received.y[item, lost]
        assert len(y) > 40_000
        assert_mean(y.abs().square(), variance)
        assert_mean(y.real.square(), variance / 2)
        assert_mean((y * y).real, 0.0)
        assert_mean((y * noise[item, lost].conj()).real, 0.0)
        assert_mean((y * x[item, lost].conj()).real, 0.0)


@pytest.mark.parametrize(
    "mcs", [MCS_TABLE[6], MCS_TABLE[9], MCS_TABLE[15], MCS_TABLE[25]], ids=lambda m: m.name
)
def test_lost_symbols_say_nothing_of_their_bits(mcs) -> None:
    received = transmit(Lossy(AWGN(), 8, IndependentLoss(0.5)), random_symbols(3, 400), 10.0, streams(3))
    lost = (received.h == 0).repeat_interleave(mcs.bits_per_symbol, 1)
    llr = mcs.constellation.exact_llr(received)
    assert not llr[lost].any()
    assert bool((llr[~lost] != 0).all())


def test_ideal_link_carries_what_arrives() -> None:
    """A budget of 16 packets of which j arrive has j / 16 of the capacity: P(outage) is binomial."""
    channel, data_uses, batch = Lossy(AWGN(), 10, IndependentLoss(0.2)), 160, 4000
    x = torch.ones(batch, data_uses, dtype=torch.complex64)
    received = transmit(channel, x, 10.0, streams(batch))
    link, per_packet = IdealLink(), 10 * math.log2(1 + 10.0)
    for needed in (10, 13, 15):
        outage = sum(math.comb(16, j) * 0.8**j * 0.2 ** (16 - j) for j in range(needed))
        lost = int((~link.succeeds(received, math.floor(needed * per_packet))).sum())
        assert_share(lost, batch, outage)


def test_ideal_link_at_finite_length_ignores_lost_uses() -> None:
    """Their dispersion is 0; what is taken off for the error is that of the uses that arrive."""
    x = torch.ones(50, 400, dtype=torch.complex64)
    received = transmit(Lossy(AWGN(), 40, IndependentLoss(0.5)), x, 10.0, streams(50))
    carried, arrived = IdealLink(1e-3).carried_bits(received), (received.h != 0).sum(1).double()
    assert bool(torch.isfinite(carried).all())
    snr, q = 10.0, 3.090232306167813  # Qinv(1e-3)
    dispersion = snr * (snr + 2) / (snr + 1) ** 2 / math.log(2) ** 2
    expected = arrived * math.log2(1 + snr) - (arrived * dispersion).sqrt() * q + math.log2(800) / 2
    assert torch.allclose(carried[arrived > 0], expected[arrived > 0], rtol=1e-5)


def test_rare_losses_are_in_the_predictions() -> None:
    """No packet of the first realisations is lost here, but the channel is not one without losses."""
    channel, data_uses = Lossy(AWGN(), 8192, IndependentLoss(0.05)), 8192
    parts = list(realisations(channel, 10.0, data_uses))
    assert not (parts[0].h == 0).any()
    assert sum(len(part.h) for part in parts) == COUNT
    link = DigitalLink(MCS_TABLE[6])
    failure = predicted_failure(link.mcs, channel, 10.0, link.payload_bits(data_uses), data_uses)
    number = count(channel, data_uses)
    assert_share(round(failure * number), number, 0.05)


def test_one_packet_per_message_is_lost_as_often_as_the_packet() -> None:
    link, channel = DigitalLink(MCS_TABLE[6]), Lossy(AWGN(), 300, GilbertElliott(0.1, 0.3))
    bits = link.payload_bits(300)
    failure = predicted_failure(link.mcs, channel, 20.0, bits, 300)
    number = count(channel, 300)
    assert_share(round(failure * number), number, 0.25)
    x = link.send(torch.ones(bits, dtype=torch.uint8), 300).expand(400, -1)
    assert_share(int((~link.receive(transmit(channel, x, 20.0, streams(400))).ok).sum()), 400, 0.25)


@pytest.mark.parametrize(
    ("index", "channel", "snr_db"),
    [
        (6, Lossy(AWGN(), 64, IndependentLoss(0.1)), 1.0),
        (9, Lossy(AWGN(), 64, GilbertElliott(0.05, 0.2)), 8.0),
        (12, Interleaved(Lossy(AWGN(), 64, IndependentLoss(0.3))), 20.0),
        (6, Lossy(RayleighBlockFading(64), 128, IndependentLoss(0.1)), 4.0),
        (6, Lossy(PilotAided(RayleighBlockFading(64), 15), 60, IndependentLoss(0.1)), 5.0),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_predicted_failure_over_packets_is_measured(index: int, channel: Channel, snr_db: float) -> None:
    """Four standard errors of the realisations that predict, and of 300 others that are sent."""
    link, data_uses, batch = DigitalLink(MCS_TABLE[index]), 2048, 300
    longest = link.payload_bits(data_uses)
    bits = torch.randint(0, 2, (25, longest), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    x = torch.cat([link.send(message, data_uses) for message in bits]).repeat(batch // 25, 1)
    received = transmit(channel, x, snr_db, streams(batch))
    measured = 1 - link.receive(received).ok.double().mean().item()
    predicted = predicted_failure(link.mcs, channel, snr_db, longest, data_uses)
    assert 0.05 < measured < 0.95
    error = math.sqrt(predicted * (1 - predicted) * (1 / count(channel, data_uses) + 1 / batch))
    assert abs(measured - predicted) < 4 * error


def test_the_choice_of_mcs_reckons_with_losses() -> None:
    data_uses = 4096
    chosen = [choose_mcs(Lossy(AWGN(), 64, IndependentLoss(p)), 15.0, data_uses) for p in (0.0, 0.1, 0.4)]
    rates = [mcs.bits_per_use for mcs in chosen if mcs is not None]
    assert len(rates) == 3
    assert rates == sorted(set(rates), reverse=True)
    without = choose_mcs(AWGN(), 15.0, data_uses)
    assert chosen[0] == without
    assert choose_mcs(Lossy(AWGN(), data_uses, IndependentLoss(0.1)), 15.0, data_uses) is None


def test_interleaving_spreads_a_burst() -> None:
    received = transmit(
        Interleaved(Lossy(AWGN(), 100, IndependentLoss(0.5))), random_symbols(20, 1000), 10.0, streams(20)
    )
    lost = received.h == 0
    assert bool((lost.sum(1) % 100 == 0).all())
    assert max(n for row in lost for n in runs(row)) < 60


@pytest.mark.parametrize(
    ("name", "channel"),
    [
        ("lossy:256:0.1/awgn", Lossy(AWGN(), 256, IndependentLoss(0.1))),
        ("lossy:256:0.05:0.4/awgn", Lossy(AWGN(), 256, GilbertElliott(0.05, 0.4))),
        ("lossy:64:0.1:0.3:0.02:0.7/awgn", Lossy(AWGN(), 64, GilbertElliott(0.1, 0.3, 0.02, 0.7))),
        (
            "lossy:64:1e-06/pilots:15/rayleigh:64",
            Lossy(PilotAided(RayleighBlockFading(64), 15), 64, IndependentLoss(1e-6)),
        ),
        ("no-csi/lossy:1:0/awgn", NoCSI(Lossy(AWGN(), 1, IndependentLoss(0.0)))),
    ],
)
def test_names(name: str, channel: Channel) -> None:
    assert channel.name == name
    assert names.channel(name) == channel
    assert names.channel("lossy:256:0.05:0.4:0:1/awgn").name == "lossy:256:0.05:0.4/awgn"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lossy/awgn", "it is spelled lossy:<packet uses>:<loss>/<channel> or"),
        ("lossy:256/awgn", "it is spelled lossy:<packet uses>:<loss>/<channel> or"),
        ("lossy:256:0.1:0.2:0.3/awgn", "it is spelled lossy:<packet uses>:<loss>/<channel> or"),
        ("lossy:256:0.1:0.2:0.3:0.4:0.5/awgn", "it is spelled lossy:<packet uses>:<loss>/<channel> or"),
        ("lossy:2.5:0.1/awgn", "it is spelled lossy:<packet uses>:<loss>/<channel> or"),
        ("lossy:256:10/awgn", "loss probability of 10 is outside 0..1"),
        ("lossy:0:0.1/awgn", "packets of 0 channel uses are too short"),
        ("lossy:8:0.1/lossy:8:0.1/awgn", "loses packets already"),
        ("pilots:15/lossy:256:0.1/awgn", "works on flat channels, not on lossy:256:0.1/awgn"),
        ("genie/lossy:256:0.1/pilots:15/awgn", "works on channels with pilots"),
    ],
)
def test_names_that_are_none(name: str, says: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        names.channel(name)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
