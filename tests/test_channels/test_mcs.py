"""The table of modulation and coding schemes, and predictions of what they lose."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from channels import AWGN, NamedStreams, PilotAided, RayleighBlockFading, theory, transmit
from channels.channel import Channel, Received
from channels.errors import ChannelError
from channels.fec.transport import TransportBlock
from channels.header import ControlHeader
from channels.link import DigitalLink
from channels.mcs import (
    HOPELESS,
    MCS_TABLE,
    BlerTable,
    choose_mcs,
    header_of,
    largest_message,
    mcs_by_preference,
    predicted_failure,
    shipped_bler_counts,
    shipped_bler_table,
)
from channels.realisations import count


def measured_failure(
    link: DigitalLink,
    channel: Channel,
    snr_db: float,
    data_uses: int,
    batch: int,
    length: int | None = None,
) -> float:
    """Share of messages lost, 25 different ones in turn: the power of a single one may be off by 0.1 dB."""
    length = link.payload_bits(data_uses) if length is None else length
    bits = torch.randint(0, 2, (25, length), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    x = torch.cat([link.send(message, data_uses) for message in bits]).repeat(batch // 25, 1)
    rng = NamedStreams(5, tuple(f"trial={i}" for i in range(batch)))
    received = transmit(channel, x, snr_db, rng)
    return 1 - link.receive(received).ok.float().mean().item()


def predicted(link: DigitalLink, channel: Channel, snr_db: float, data_uses: int) -> float:
    bits = link.payload_bits(data_uses)
    return predicted_failure(link.mcs, channel, snr_db, bits, data_uses, link.adapted)


def test_table_is_that_of_the_standard() -> None:
    assert [mcs.index for mcs in MCS_TABLE] == list(range(31))
    rows = {3: (2, 120), 7: (2, 602), 8: (4, 378), 13: (4, 658), 14: (6, 466), 22: (6, 873), 23: (8, 682.5)}
    for index, (bits_per_symbol, rate) in rows.items():
        assert MCS_TABLE[index].bits_per_symbol == bits_per_symbol
        assert MCS_TABLE[index].code_rate * 1024 == rate
    # spectral efficiencies printed in TS 38.214: Table 5.1.3.1-2, rows 1, 16, 27; Table 5.1.3.1-3, row 0
    for index, efficiency in {4: 0.3770, 19: 4.2129, 30: 7.4063, 0: 0.0586}.items():
        assert MCS_TABLE[index].bits_per_use == pytest.approx(efficiency, abs=0.5001e-4)
    assert np.all(np.diff([mcs.bits_per_use for mcs in MCS_TABLE]) > 0)


def counts_of(bler: Callable[[np.ndarray], np.ndarray], blocks: int, offset_db: float = 1.0) -> np.ndarray:
    """Drawn counts of all MCSs at two block lengths, the longer one `offset_db` better."""
    rng, rows = np.random.default_rng(0), []
    for mcs in MCS_TABLE:
        for length, shift in ((128, offset_db), (2048, 0.0)):
            snr_db = np.linspace(-1.5, 3.5, 11)
            errors = rng.binomial(blocks, bler(snr_db))
            rows += [(mcs.index, length, s + shift, blocks, e) for s, e in zip(snr_db, errors, strict=True)]
    return np.array(rows)


def waterfall(snr_db: np.ndarray) -> np.ndarray:
    return np.asarray(theory.q_function(snr_db / 0.9))


def flattening(snr_db: np.ndarray) -> np.ndarray:
    """A waterfall with a tail that a probit of the waterfall misses by factors."""
    return waterfall(snr_db) + 2e-3 * 10 ** (-snr_db / 2)


@pytest.mark.parametrize("bler", [waterfall, flattening])
def test_fit_recovers_the_curve_that_counts_were_drawn_from(bler: Callable[[np.ndarray], np.ndarray]) -> None:
    table, blocks = BlerTable(counts_of(bler, 100_000)), 100_000
    snr_db = np.linspace(-1.5, 2.5, 9)
    for length, shift in ((128, 1.0), (512, 0.5), (2048, 0.0)):  # halfway in the logarithm of the length
        expected = bler(snr_db)
        error = np.sqrt(expected * (1 - expected) / blocks)
        # of one point alone; linear interpolation between half steps of the SNR adds 3 % at most
        fitted = table.bler(MCS_TABLE[5], length, snr_db + shift)
        assert np.all(np.abs(fitted - expected) < 4 * error + 0.03 * expected * (1 - expected))


def test_curves_fall_exponentially_where_nothing_was_counted() -> None:
    """Each further decibel divides BLER by no more than it does where the last errors were counted."""
    table = BlerTable(counts_of(waterfall, 1000, 0.0))
    for mcs in MCS_TABLE:
        snr_db = np.arange(-1.0, 8.0, 0.25)
        log_bler = np.log(table.bler(mcs, 2048, snr_db))
        steps = -np.diff(log_bler)
        assert np.all(steps > 0)
        counted = snr_db[:-1] < 2.0  # 1000 Q(2.2) = 13 errors
        assert steps[~counted].max() < 1.2 * steps[counted].max()
        assert np.ptp(steps[snr_db[:-1] > 4.0]) < 1e-3


def test_shipped_curves_keep_to_their_counts() -> None:
    """Every point within four standard errors, and no more spread than chance has."""
    table, counts = shipped_bler_table(), shipped_bler_counts()
    squares = 0.0
    for index, length, snr_db, blocks, errors in counts:
        expected = float(table.bler(MCS_TABLE[int(index)], int(length), np.array([snr_db]))[0])
        # one error is added to the variance: few errors are far from normal
        z = (errors - blocks * expected) / math.sqrt(blocks * expected * (1 - expected) + 1)
        assert abs(z) < 4, (index, length, snr_db, blocks, errors, blocks * expected)
        squares += z * z
    assert squares < len(counts)
    assert np.array_equal(BlerTable(counts).counts, table.counts)
    assert BlerTable(counts) == table != BlerTable(counts[:-1])


def test_shipped_curves_are_near_the_finite_length_limit() -> None:
    table, snr_db = shipped_bler_table(), np.arange(-20.0, 40.0, 0.05)
    coarse = np.arange(-20.0, 40.1, 0.5)
    bitwise = {m: np.interp(snr_db, coarse, theory.bicm_capacity(2**m, coarse)) for m in (2, 4, 6, 8)}
    for mcs in MCS_TABLE:
        for length, worst_db in ((512, 2.0), (3840, 1.5)):
            uses = length / mcs.bits_per_use
            reached = snr_db[np.argmax(table.bler(mcs, length, snr_db) < 1e-2)]
            # Gaussian signalling at that length, plus what the constellation costs without noise to spare
            limit = snr_db[np.argmax(theory.normal_approximation_error(float(length), uses, snr_db) < 1e-2)]
            shaping = snr_db[np.argmax(bitwise[mcs.bits_per_symbol] > mcs.bits_per_use)]
            shaping -= 10 * math.log10(2**mcs.bits_per_use - 1)
            assert 0 < reached - limit - shaping < worst_db, (mcs, length)


@pytest.mark.parametrize(("index", "data_uses"), [(3, 4000), (6, 300), (12, 3000), (20, 2500)])
def test_prediction_on_awgn(index: int, data_uses: int) -> None:
    """Where half the messages are lost, a quarter of a dB either way covers the error of the prediction."""
    link, batch = DigitalLink(MCS_TABLE[index]), 150
    grid = np.arange(-20.0, 30.0, 0.25)
    middle = next(s for s in grid if predicted(link, AWGN(), float(s), data_uses) < 0.5)
    measured = measured_failure(link, AWGN(), float(middle), data_uses, batch)
    tolerance = 5 * math.sqrt(0.25 / batch)
    assert predicted(link, AWGN(), float(middle) + 0.25, data_uses) - tolerance < measured
    assert measured < predicted(link, AWGN(), float(middle) - 0.25, data_uses) + tolerance


@pytest.mark.parametrize(
    ("index", "channel", "snr_db"),
    [
        (6, RayleighBlockFading(64), 5.0),
        (8, RayleighBlockFading(400), 10.0),
        (14, RayleighBlockFading(1), 14.0),
        (6, PilotAided(RayleighBlockFading(64), 15), 6.0),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_prediction_over_fading(index: int, channel: Channel, snr_db: float) -> None:
    link, data_uses, batch = DigitalLink(MCS_TABLE[index], adapted=True), 1600, 200
    measured = measured_failure(link, channel, snr_db, data_uses, batch)
    bounds = [predicted(link, channel, snr_db + shift, data_uses) for shift in (0.1, -0.1)]
    # the mapping itself is good to a tenth of a dB
    seen = 1 / batch + 1 / count(channel, data_uses)
    tolerance = 4 * math.sqrt(max(measured * (1 - measured), 0.005) * seen)
    assert bounds[0] - tolerance < measured < bounds[1] + tolerance


def test_slow_fading_is_lost_as_often_as_the_outage_formula_says() -> None:
    """One fading block per message: what is good on AWGN fails when the gain is below its threshold."""
    link, data_uses, snr_db = DigitalLink(MCS_TABLE[6]), 3000, 10.0
    grid = np.arange(-5.0, 10.0, 0.05)
    threshold_db = next(s for s in grid if predicted(link, AWGN(), float(s), data_uses) < 0.5)
    expected = 1 - math.exp(-(10 ** ((threshold_db - snr_db) / 10)))
    failure = predicted(link, RayleighBlockFading(data_uses), snr_db, data_uses)
    number = count(RayleighBlockFading(data_uses), data_uses)
    assert number == 8192
    assert abs(failure - expected) < 4 * math.sqrt(expected * (1 - expected) / number)


def test_failure_falls_with_snr_and_with_a_shorter_message() -> None:
    mcs, data_uses = MCS_TABLE[8], 2000
    longest = DigitalLink(mcs).payload_bits(data_uses)
    failures = [
        predicted_failure(mcs, AWGN(), snr_db, longest, data_uses) for snr_db in (2.0, 3.5, 3.75, 4.0, 6.0)
    ]
    assert failures == sorted(failures, reverse=True)
    assert failures[0] > 0.99
    assert failures[-1] < 1e-4
    assert predicted_failure(mcs, AWGN(), 2.0, longest // 2, data_uses) < 0.01
    assert predicted_failure(mcs, AWGN(), 60.0, longest + 8, data_uses) == 1.0


@pytest.mark.parametrize(("index", "share"), [(4, 0.3), (7, 0.3), (8, 0.5), (18, 0.6), (23, 0.6)])
def test_prediction_for_shorter_messages(index: int, share: float) -> None:
    """A lower code rate of one row is farther from capacity, and its prediction good to 0.1 dB."""
    link, data_uses, batch = DigitalLink(MCS_TABLE[index]), 1500, 400
    bits = min(link.sizes(data_uses), key=lambda size: abs(size - share * link.payload_bits(data_uses)))

    def predicted_at(snr_db: float) -> float:
        return predicted_failure(link.mcs, AWGN(), snr_db, bits, data_uses)

    middle = next(s for s in np.arange(-20.0, 30.0, 0.05) if predicted_at(float(s)) < 0.5)
    measured = measured_failure(link, AWGN(), float(middle), data_uses, batch, bits)
    tolerance = 5 * math.sqrt(0.25 / batch)
    assert predicted_at(float(middle) + 0.1) - tolerance < measured
    assert measured < predicted_at(float(middle) - 0.1) + tolerance


def test_efficiency_is_measured_at_the_rows_and_goes_on_below_them() -> None:
    table = shipped_bler_table()
    for mcs in MCS_TABLE:
        for length in (32, 512, 2048):
            half_db = table.snr_db(mcs, length, 0.5)
            assert table.bler(mcs, length, np.array([half_db]))[0] == pytest.approx(0.5, abs=1e-6)
            carried = float(theory.bicm_capacity(2**mcs.bits_per_symbol, half_db))
            efficiency = table.efficiency(mcs.bits_per_symbol, length, mcs.code_rate)
            assert efficiency == pytest.approx(mcs.bits_per_use / carried, rel=1e-3)
    rates = np.arange(0.05, 0.9, 0.01)
    for bits_per_symbol in (2, 4, 6, 8):
        values = np.array([table.efficiency(bits_per_symbol, 2048, rate) for rate in rates])
        assert np.all((values > 0.5) & (values < 1))
        assert np.abs(np.diff(values)).max() < 0.03


@pytest.mark.parametrize(("bits", "uses"), [(11, 34), (6, 16)])
@pytest.mark.parametrize("blocks", [1, 5])
def test_header_errors_are_near_their_bound(bits: int, uses: int, blocks: int) -> None:
    """On AWGN and over a few Rayleigh blocks, where the bits of a word share the energy unequally."""
    header, trials = ControlHeader(bits, uses, uses), 20_000
    generator = torch.Generator().manual_seed(1)
    h = torch.ones(trials, uses, dtype=torch.complex64)
    if blocks > 1:
        gains = torch.randn(trials, blocks, dtype=torch.complex64, generator=generator)
        h = gains.repeat_interleave(math.ceil(uses / blocks), 1)[:, :uses]
    for energy in (12.0, 18.0):
        noise_var = torch.full((trials, 1), uses / energy)
        noise = torch.randn(trials, uses, dtype=torch.complex64, generator=generator)
        y = h * header.encode(37) + noise * noise_var.sqrt()
        wrong = (header.decode(Received(y, h, noise_var)) != 37).double().mean().item()
        bound = header.error_bound((h.abs().square() / noise_var).sum(1).double().numpy()).mean()
        error = math.sqrt(bound * (1 - bound) / trials)
        assert 0.6 * bound - 4 * error < wrong < (1.0 if blocks == 1 else 1.2) * bound + 4 * error


def test_longest_message_is_the_longest_that_keeps_to_the_code_rate() -> None:
    """By trying one byte less after the other, from what there would be room for without any CRC."""
    rng = np.random.default_rng(0)
    uses = [16557, *(10 ** rng.uniform(1.5, 5, 600)).astype(int).tolist()]
    for data_uses, index in zip(uses, [3, *rng.integers(0, 31, 600).tolist()], strict=True):
        mcs = MCS_TABLE[index]
        header = header_of(mcs, True, data_uses)
        coded_bits = (data_uses - header.uses) * mcs.bits_per_symbol
        room = math.floor(mcs.code_rate * coded_bits)

        def taken(bits: int, plan_of: tuple[int, int] = (coded_bits, mcs.bits_per_symbol)) -> int:
            plan = TransportBlock(bits, *plan_of)
            return plan.blocks * plan.block.info_bits

        longest = largest_message(mcs, header, data_uses)
        assert longest == 0 or taken(longest) <= room
        assert all(taken(bits) > room for bits in range(longest + 8, room - 15, 8))


@pytest.mark.parametrize("adapted", [False, True])
def test_padding_to_the_next_size_is_predicted(adapted: bool) -> None:
    """One bit more than a size that can be announced is sent, and lost, as the next size is."""
    mcs, data_uses = MCS_TABLE[6], 2000
    sizes = DigitalLink(mcs, adapted=adapted).sizes(data_uses)

    def failure(bits: int) -> float:
        return predicted_failure(mcs, AWGN(), -1.2, bits, data_uses, adapted)

    assert failure(sizes[9]) < failure(sizes[9] + 1) == failure(sizes[8] - 8) == failure(sizes[8])
    assert failure(1) == failure(sizes[-1])


def test_choice_keeps_its_promise() -> None:
    data_uses, batch = 2000, 200
    for channel, snr_db in ((AWGN(), 8.0), (RayleighBlockFading(8), 12.0)):
        mcs = choose_mcs(channel, snr_db, data_uses, target_failure=0.05)
        assert mcs is not None
        link = DigitalLink(mcs, adapted=True)
        assert measured_failure(link, channel, snr_db, data_uses, batch) < 0.05 + 5 * math.sqrt(0.05 / batch)
        assert mcs.bits_per_use < float(theory.capacity(snr_db))
        faster = DigitalLink(MCS_TABLE[mcs.index + 1], adapted=True)
        assert predicted(faster, channel, snr_db, data_uses) > 0.05


@pytest.mark.parametrize(("data_uses", "lowest_db"), [(4096, -7.5), (24_576, -11.4)])
def test_an_adapting_link_ends_where_its_header_does(data_uses: int, lowest_db: float) -> None:
    assert choose_mcs(AWGN(), lowest_db + 0.05, data_uses) is not None
    assert choose_mcs(AWGN(), lowest_db - 0.15, data_uses) is None


def test_preference_meets_the_target_or_comes_near_the_most_reliable_and_then_gets_faster() -> None:
    slow = RayleighBlockFading(2000)  # one fade
    for channel, snr_db in ((AWGN(), 8.0), (RayleighBlockFading(8), 12.0), (slow, 0.0), (slow, 10.0)):
        failure = {
            mcs: predicted(DigitalLink(mcs, adapted=True), channel, snr_db, 2000)
            for mcs in MCS_TABLE
            if DigitalLink(mcs, adapted=True).payload_bits(2000)
        }
        least, chosen = min(failure.values()), mcs_by_preference(channel, snr_db, 2000)
        accepted = 0.01 if least <= 0.01 else least + 0.01
        assert chosen[0] == max(
            (mcs for mcs in failure if failure[mcs] <= accepted), key=lambda mcs: mcs.bits_per_use
        )
        faster = [mcs for mcs in MCS_TABLE if mcs.bits_per_use > chosen[0].bits_per_use]
        assert set(chosen[1:]) == {mcs for mcs in faster if failure[mcs] < HOPELESS}
        assert [mcs.bits_per_use for mcs in chosen] == sorted(mcs.bits_per_use for mcs in chosen)
        best = choose_mcs(channel, snr_db, 2000)
        assert best == (chosen[0] if least <= 0.01 else None)
    assert choose_mcs(slow, 0.0, 2000) is None  # one fade in 2000 symbols: every rate is often lost
    assert mcs_by_preference(AWGN(), -30.0, 2000) == ()


def test_choice_rises_with_snr_and_ends_in_none() -> None:
    chosen = [choose_mcs(AWGN(), snr_db, 5000) for snr_db in (-30.0, -5.0, 0.0, 10.0, 20.0, 40.0)]
    assert chosen[0] is None
    indices = [mcs.index for mcs in chosen[1:] if mcs is not None]
    assert len(indices) == 5
    assert indices == sorted(set(indices))
    assert indices[-1] == 30
    with pytest.raises(ChannelError, match="outside"):
        choose_mcs(AWGN(), 10.0, 5000, target_failure=0.0)
