"""The envelope: code rates between the rows of the MCS table, chosen on images, frozen and looked up."""

import itertools
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from toys import picture

from channels import AWGN, Channel, RayleighBlockFading, Received, transmit
from channels.link import SIZES, DigitalLink
from channels.mcs import MCS_TABLE, predicted_failure
from semcom import names
from semcom.budget import Budget, parse_rho
from semcom.codecs import Jpeg, Memo, StreamCodec, WebP
from semcom.codecs.codec import Quality
from semcom.envelope import (
    PLAUSIBLE,
    SAFE,
    Choice,
    Envelope,
    GenieEnvelope,
    freeze,
    plausible,
    shipped_choices,
)
from semcom.receivers import Direct
from semcom.scheme import Scheme
from semcom.separate import message_bits
from semcom.sweep import noise_streams
from semcom.transmission import ChannelKnowledge

JPEG = Memo(StreamCodec(Jpeg()))
PICTURE = picture("p", 96, 96)
BUDGET = Budget.from_rho("1/6", PICTURE.x.numel())
USES = 3 * 512 * 768 // 12


@pytest.mark.parametrize("snr_db", [0.0, 2.0, 5.0, 10.0, 20.0])
def test_candidates_leave_no_gap(snr_db: float) -> None:
    """From one that may fail down to one that does not, in steps of at most a tenth."""
    candidates = plausible(AWGN(), snr_db, USES)
    assert candidates[-1].failure < 1e-3
    lengths = [candidate.bits for candidate in candidates]
    assert lengths == sorted(lengths, reverse=True)
    assert all(shorter > 0.9 * longer for longer, shorter in pairwise(lengths))


def test_a_shorter_message_has_a_lower_failure_rate() -> None:
    """Below 1.9 dB QPSK of rate 0.59 begins to fail; 9/64 less of a message has rate 0.50."""
    by_size = {c.size: c for c in plausible(AWGN(), 1.8, USES, worst=1.0)}
    full, shorter = by_size[0], by_size[9]
    assert full.mcs == shorter.mcs
    assert full.failure > 0.5
    assert shorter.failure < 1e-3


@pytest.mark.parametrize("size", [0, 13, SIZES // 2])
def test_the_message_is_filled_up_to_the_size_chosen(size: int) -> None:
    mcs = MCS_TABLE[7]
    choices = (Choice("awgn", "1/6", 0.0, "jpeg", mcs.index, size, 30.0, 0.0),)
    scheme = Scheme("envelope", Envelope((JPEG,), choices), Direct())
    (outcome,) = scheme.transmit(PICTURE.x, BUDGET, AWGN(), 10.0, noise_streams("p", 0))
    allowed = DigitalLink(mcs, adapted=True).sizes(BUDGET.channel_uses)[size]
    assert 0.8 * allowed < outcome.info["payload_bits"] < allowed
    assert outcome.channel_uses == BUDGET.channel_uses  # what is left over lowers the code rate
    assert not outcome.outage


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_the_frame_tells_the_receiver_which_codec_decodes(name: str) -> None:
    """The same channel uses, MCS and size: only the tag of the frame tells who made the bytes."""
    codecs = (JPEG, Memo(StreamCodec(WebP())))
    choices = (Choice("awgn", "1/6", 0.0, name, 7, 0, 30.0, 0.0),)
    envelope, known = Envelope(codecs, choices), ChannelKnowledge(AWGN(), 10.0)
    sent = envelope.send(PICTURE.x, BUDGET.channel_uses, known)
    rng = noise_streams("p", 0)
    received = transmit(AWGN(), sent.symbols, 10.0, rng.fork("channel"))
    ((payload, tag),) = DigitalLink(MCS_TABLE[0], adapted=True).receive(received).frames()
    assert codecs[tag].name == name
    (observation,) = envelope.receive(received, tuple(PICTURE.x.shape), BUDGET.channel_uses)
    assert observation.shown is not None
    assert torch.equal(observation.shown, codecs[tag].decode(payload, tuple(PICTURE.x.shape)))
    (other,) = Envelope(codecs[:tag], choices).receive(received, tuple(PICTURE.x.shape), BUDGET.channel_uses)
    assert other.shown is None  # a number that stands for no codec here


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
        frozen, best = ([float((o.x_hat - PICTURE.x).square().mean()) for o in outcomes] for outcomes in sent)
        assert all(lower <= error for error, lower in zip(frozen, best, strict=True))


@pytest.mark.parametrize(
    ("snr_db", "uses", "cause"),
    [
        (-25.0, 2304, "no code rate is plausible at -25 dB; raise the SNR"),
        (10.0, 4, "no codec fits 4 channel uses; raise rho"),
        (10.0, 40, "no codec fits 40 channel uses; raise rho"),
    ],
)
def test_genie_tells_what_was_too_low(snr_db: float, uses: int, cause: str) -> None:
    known = ChannelKnowledge(AWGN(), snr_db)
    (whispered,) = GenieEnvelope((JPEG,)).send_all(PICTURE.x, uses, known)
    assert whispered.sent.cause == cause
    assert whispered.sent.symbols.shape == (1, 0)


def test_shipped_table_covers_the_experiments() -> None:
    table = {(choice.channel, choice.rho, choice.snr_db): choice for choice in shipped_choices()}
    for channel in ("awgn", "rayleigh:64"):
        for rho in ("1/6", "1/12", "1/24", "1/48", "1/96", "1/192"):
            for snr_db in (0.0, 2.0, 5.0, 10.0, 15.0, 20.0):
                choice = table[channel, rho, snr_db]
                assert choice.outage < 0.1
                names.codec(choice.codec)


def test_every_choice_is_accepted_at_the_budget_it_is_made_for() -> None:
    """At most the outage that the row states, 1 %, or 1 % more than the best code rate has."""
    envelope = Envelope((), shipped_choices())
    for channel, snr_db, pixels in itertools.product(
        (AWGN(), RayleighBlockFading(64)), (0.0, 5.0, 20.0), (128 * 160, 224 * 336)
    ):
        for rho in ("1/48", "1/192"):
            budget = Budget.from_rho(rho, 3 * pixels)
            uses = budget.channel_uses
            row = envelope._nearest(channel.name, snr_db, budget.rho)
            assert row is not None
            first, *others = envelope.choose(channel, snr_db, budget.rho, uses)
            link = DigitalLink(MCS_TABLE[first.mcs], adapted=True)
            bits = link.sizes(uses)[first.size]
            assert first.outage == predicted_failure(link.mcs, channel, snr_db, bits, uses, adapted=True)
            frozen = DigitalLink(MCS_TABLE[row.mcs], adapted=True).sizes(uses)[row.size]
            assert bits <= frozen
            assert first.codec == row.codec
            accepted = max(row.outage + 5e-6, SAFE)  # the table rounds to 1e-5
            if first.outage > accepted:  # then the header is what is lost
                slowest = link.sizes(uses)[-1]
                least = predicted_failure(MCS_TABLE[0], channel, snr_db, min(slowest, 16), uses, True)
                assert first.outage <= least + SAFE + 1e-9
            for faster in others:  # for pictures that do not fit, the least bad first
                assert accepted < faster.outage <= PLAUSIBLE
            if bits < frozen:
                higher = predicted_failure(MCS_TABLE[row.mcs], channel, snr_db, frozen, uses, adapted=True)
                assert higher > accepted


def test_the_envelope_keeps_its_choice_where_it_was_made() -> None:
    envelope = Envelope((), shipped_choices())
    kept = 0
    for row in shipped_choices():
        if row.snr_db in (0.0, 5.0, 10.0, 20.0) and row.rho in ("1/48", "1/192"):
            channel = names.channel(row.channel)
            uses = Budget.from_rho(row.rho, 3 * 512 * 768).channel_uses
            first = envelope.choose(channel, row.snr_db, float(parse_rho(row.rho)), uses)[0]
            kept += (first.mcs, first.size) == (row.mcs, row.size)
    assert kept == 16


@dataclass(frozen=True)
class Sized:
    """A codec whose only payload has a given size."""

    size: int

    @property
    def name(self) -> str:
        return f"sized-{self.size}"

    @property
    def qualities(self) -> tuple[Quality, ...]:
        return (Quality(1, 0),)

    def encode(self, x: torch.Tensor, quality: Quality) -> bytes:
        return bytes(self.size)

    def decode(self, payload: bytes, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.full(shape, 0.5)


def told(envelope: Envelope, channel: Channel, snr_db: float, uses: int) -> tuple[str, int]:
    """Codec and MCS that the receiver finds in what the envelope sends."""
    sent = envelope.send(PICTURE.x, uses, ChannelKnowledge(channel, snr_db))
    assert sent.symbols.shape[1] == uses, sent.cause
    received = transmit(AWGN(), sent.symbols, 60.0, noise_streams("p", 0))
    header = DigitalLink(MCS_TABLE[0], adapted=True).header(uses)
    positions = header.positions()
    value = header.decode(
        Received(received.y[:, positions], received.h[:, positions], received.noise_var)
    ).item()
    ((_, tag),) = DigitalLink(MCS_TABLE[0], adapted=True).receive(received).frames()
    return envelope.codecs[tag].name, value // SIZES


def test_another_codec_and_then_a_higher_rate_help_out_where_the_message_is_too_short() -> None:
    channel, uses = RayleighBlockFading(64), 320
    rows = (Choice(channel.name, "1/6", 5.0, "sized-30", 7, 0, 30.0, 0.0),)
    frozen = message_bits(DigitalLink(MCS_TABLE[7], adapted=True), uses, 0)
    choices = Envelope((), rows).choose(channel, 5.0, 1 / 6, uses)
    bits = [message_bits(DigitalLink(MCS_TABLE[c.mcs], adapted=True), uses, c.size) for c in choices]
    assert bits == sorted(set(bits))
    assert bits[0] // 8 - 1 < 30 < bits[-1] // 8 - 1 == frozen // 8 - 1  # FRAME_BITS are 8

    def answer(*sizes: int) -> tuple[str, int]:
        codecs = tuple(map(Sized, sizes))
        return told(Envelope(codecs, (replace(rows[0], codec=codecs[0].name),)), channel, 5.0, uses)

    assert answer(8, 4) == ("sized-8", choices[0].mcs)
    assert answer(30, 8) == ("sized-8", choices[0].mcs)  # the codec of the row does not fit
    larger = next(c for c, b in zip(choices, bits, strict=True) if b // 8 - 1 >= 30)
    assert larger.mcs > choices[0].mcs
    assert answer(30) == ("sized-30", larger.mcs)
    silent = Envelope((Sized(3000),), (replace(rows[0], codec="sized-3000"),))
    cause = silent.send(PICTURE.x, uses, ChannelKnowledge(channel, 5.0)).cause
    assert f"({uses} channel uses of " in cause


def test_nothing_is_sent_where_every_code_rate_fails() -> None:
    rows = (Choice("rayleigh:64", "1/6", -30.0, "jpeg", 7, 0, 30.0, 0.0),)
    envelope = Envelope((JPEG,), rows)
    assert envelope.choose(RayleighBlockFading(64), -25.0, 1 / 6, 320) == ()
    sent = envelope.send(PICTURE.x, 320, ChannelKnowledge(RayleighBlockFading(64), -25.0))
    assert sent.cause == "-25 dB and 320 data symbols have no safe choice; raise them"
