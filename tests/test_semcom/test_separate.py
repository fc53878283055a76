"""A source codec over an adapted link: what is sent where no code rate is reliable, or has room."""

import math
from typing import Any

from channels import AWGN, NamedStreams, RayleighBlockFading
from channels.link import DigitalLink
from channels.mcs import MCS_TABLE, choose_mcs, mcs_by_preference, predicted_failure
from semcom import names
from semcom.budget import Budget
from semcom.modalities import TEXT
from semcom.scheme import Outcome, Scheme

USES = 600
LETTER = "In slow fading no code rate is safe, and a text that may be lost is better than none."
NEEDED_BITS = 8 * len(LETTER)


def sent(snr_db: float, channel: Any, uses: int = USES, runs: int = 1) -> list[Outcome[Any]]:
    scheme: Scheme[Any] = names.scheme("utf8+ldpc:csit-average", TEXT)
    rng = NamedStreams(0, tuple(f"run={i}" for i in range(runs)))
    return scheme.transmit(LETTER, Budget(uses, TEXT.dims(LETTER)), channel, snr_db, rng)


def test_where_no_rate_is_safe_the_most_reliable_one_is_sent() -> None:
    channel, runs = RayleighBlockFading(USES), 200  # one fade
    assert choose_mcs(channel, 12.0, USES) is None
    outcomes = sent(12.0, channel, runs=runs)
    (index,) = {int(outcome.info["mcs"]) for outcome in outcomes}
    assert {outcome.channel_uses for outcome in outcomes} == {USES}
    bits = DigitalLink(MCS_TABLE[index], adapted=True).payload_bits(USES)
    lost = predicted_failure(MCS_TABLE[index], channel, 12.0, bits, USES, adapted=True)
    measured = sum(outcome.outage for outcome in outcomes) / runs
    assert 0.01 < lost < 0.5
    assert measured < lost + 4 * math.sqrt(lost / runs)  # a shorter message fails less often
    assert {outcome.x_hat for outcome in outcomes if not outcome.outage} == {LETTER}


def test_a_faster_rate_is_sent_where_the_preferred_one_has_no_room() -> None:
    channel, uses = RayleighBlockFading(USES), NEEDED_BITS // 2
    preferred, *faster = mcs_by_preference(channel, 12.0, uses)
    assert DigitalLink(preferred, adapted=True).payload_bits(uses) < NEEDED_BITS
    (outcome,) = sent(12.0, channel, uses=uses)
    fitting = [mcs for mcs in faster if DigitalLink(mcs, adapted=True).payload_bits(uses) >= NEEDED_BITS]
    assert outcome.info["mcs"] == fitting[0].index
    assert outcome.channel_uses == uses


def test_what_is_hopeless_is_not_sent() -> None:
    (outcome,) = sent(-30.0, AWGN())
    assert outcome.outage
    assert outcome.channel_uses == 0
    assert "raise the SNR" in outcome.cause
