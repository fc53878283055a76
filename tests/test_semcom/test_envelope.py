"""The envelope: code rates between the rows of the MCS table, chosen on images, frozen and looked up."""

from itertools import pairwise

import pytest
import torch
from toys import picture

from channels import AWGN
from channels.link import SIZES, DigitalLink
from channels.mcs import MCS_TABLE
from semcom import presets
from semcom.budget import Budget
from semcom.codecs import Jpeg, Memo, StreamCodec
from semcom.envelope import Choice, Envelope, GenieEnvelope, freeze, plausible, shipped_choices
from semcom.receivers import Direct
from semcom.scheme import Scheme
from semcom.sweep import noise_streams

JPEG = Memo(StreamCodec(Jpeg()))
PICTURE = picture("p", 96, 96)
BUDGET = Budget.from_rho("1/6", PICTURE.x.numel())


@pytest.mark.parametrize("snr_db", [0.0, 2.0, 5.0, 10.0, 20.0])
def test_candidates_leave_no_gap(snr_db: float) -> None:
    """From one that may fail down to one that does not, in steps of at most a tenth."""
    candidates = plausible(AWGN(), snr_db, Budget.from_rho("1/12", 3 * 512 * 768))
    assert candidates[-1].failure < 1e-3
    lengths = [candidate.bits for candidate in candidates]
    assert lengths == sorted(lengths, reverse=True)
    assert all(shorter > 0.9 * longer for longer, shorter in pairwise(lengths))


def test_a_shorter_message_has_a_lower_failure_rate() -> None:
    """Below 2.05 dB QPSK of rate 0.59 begins to fail; 9/64 less of a message has rate 0.50."""
    by_size = {c.size: c for c in plausible(AWGN(), 1.9, Budget.from_rho("1/12", 3 * 512 * 768), worst=1.0)}
    full, shorter = by_size[0], by_size[9]
    assert full.mcs == shorter.mcs
    assert full.failure > 0.5
    assert shorter.failure < 1e-3


@pytest.mark.parametrize("size", [0, 13, SIZES // 2])
def test_the_message_is_filled_up_to_the_size_chosen(size: int) -> None:
    mcs = MCS_TABLE[7]
    choices = (Choice("awgn", "1/6", 0.0, "jpeg", mcs.index, size, 30.0, 0.0),)
    scheme = Scheme("envelope", Envelope((JPEG,), choices), Direct())
    outcome = scheme.transmit(PICTURE.x, BUDGET, AWGN(), 10.0, noise_streams("p", 0))
    allowed = DigitalLink(mcs, adapted=True).sizes(BUDGET.channel_uses)[size]
    assert 0.8 * allowed < outcome.info["payload_bits"].item() < allowed
    assert outcome.channel_uses.item() == BUDGET.channel_uses  # what is left over lowers the code rate
    assert outcome.info["outage"].item() == 0


def test_frozen_choices_are_the_best_expected() -> None:
    """More SNR is never worse, and no choice is better than the best after the fact."""
    snrs = (0.0, 2.0, 5.0)
    choices = freeze((JPEG,), (AWGN(),), snrs, ("1/6",), (PICTURE,))
    assert [choice.snr_db for choice in choices] == list(snrs)
    assert [choice.psnr_db for choice in choices] == sorted(choice.psnr_db for choice in choices)
    envelope = Scheme("envelope", Envelope((JPEG,), choices), Direct())
    genie = Scheme("genie", GenieEnvelope((JPEG,)), Direct())
    for choice in choices:
        assert choice.outage < 0.05
        sent = [
            scheme.transmit(
                PICTURE.x, BUDGET, AWGN(), torch.tensor([choice.snr_db] * 4), noise_streams("p", 0, 4)
            )
            for scheme in (envelope, genie)
        ]
        errors = [(outcome.x_hat - PICTURE.x).square().mean((1, 2, 3)) for outcome in sent]
        assert (errors[1] <= errors[0]).all()


@pytest.mark.parametrize(
    ("snr_db", "uses", "cause"),
    [
        (-25.0, 2304, "no code rate is plausible at -25 dB; raise the SNR"),
        (10.0, 4, "no codec fits 4 channel uses; raise rho"),
        (10.0, 40, "no codec fits 40 channel uses; raise rho"),
    ],
)
def test_genie_tells_what_was_too_low(snr_db: float, uses: int, cause: str) -> None:
    budget = Budget(uses, PICTURE.x.numel())
    sent = GenieEnvelope((JPEG,)).prepare(PICTURE.x, budget, AWGN(), snr_db)
    assert sent.cause == cause
    assert sent.channel_uses == 0


def test_shipped_table_covers_the_experiments() -> None:
    table = {(choice.channel, choice.rho, choice.snr_db): choice for choice in shipped_choices()}
    for channel in ("awgn", "rayleigh:64"):
        for rho in ("1/6", "1/12", "1/24", "1/48", "1/96", "1/192"):
            for snr_db in (0.0, 2.0, 5.0, 10.0, 15.0, 20.0):
                choice = table[channel, rho, snr_db]
                assert choice.outage < 0.1
                presets.codec(choice.codec)
