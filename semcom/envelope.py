"""The digital envelope: the best codec, modulation and code rate per operating point, frozen or by genie."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jaxtyping import Float
from torch import Tensor

from channels import Channel, SnrDb, Streams
from channels.link import FRAME_BITS, SIZES, DigitalLink
from channels.mcs import MCS_TABLE, Mcs, predicted_failure
from semcom.budget import Budget, parse_rho
from semcom.codecs.codec import SourceCodec, fit
from semcom.data import Item
from semcom.errors import BudgetTooSmall, InvalidOption
from semcom.separate import message_bits, receive_coded, send_coded
from semcom.transmission import (
    Concealment,
    Csit,
    Observation,
    Sent,
    concealed,
    lost,
    nothing_sent,
    observe_images,
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What the envelope does at one operating point, and what it expects.

    Args:
        channel: Canonical name.
        rho: Bandwidth ratio, as text like "1/48".
        snr_db: Average SNR.
        codec: Name of the codec.
        mcs: Row of the MCS table.
        size: Which of the message sizes of `DigitalLink.sizes` is filled: 0 is the longest, more are code
            rates between this row and the next lower one.
        psnr_db: Mean over the images it was chosen on, lost ones included.
        outage: Predicted share of lost images.
    """

    channel: str
    rho: str
    snr_db: float
    codec: str
    mcs: int
    size: int
    psnr_db: float
    outage: float


@cache
def shipped_choices() -> tuple[Choice, ...]:
    """The table that ships with the package, frozen on validation photographs."""
    text = (files("semcom") / "tables" / "envelope.json").read_text()
    return tuple(Choice(**row) for row in json.loads(text)["choices"])


@dataclass(frozen=True)
class Envelope:
    """Digital transmission by a frozen table of codec, MCS and message size per channel, SNR and rho.

    The transmitter knows the average SNR. Between table points it takes the nearest rho (in ratio) and the
    nearest SNR below.

    Args:
        codecs: Those the table names.
        choices: The table.
        concealment: What is shown for a lost item.
    """

    codecs: tuple[SourceCodec, ...]
    choices: tuple[Choice, ...]
    concealment: Concealment = "mean-color"

    @property
    def name(self) -> str:
        """Canonical spelling."""
        return "envelope:csit-average"

    @property
    def csit(self) -> Csit:
        """The average SNR."""
        return "average"

    def choose(self, channel: Channel, csit_snr_db: float, rho: float) -> Choice | None:
        """The table's entry for this point, None below its lowest SNR.

        Raises:
            InvalidOption: The table does not know the channel.
        """
        rows = [row for row in self.choices if row.channel == channel.name]
        if not rows:
            known = ", ".join(sorted({row.channel for row in self.choices}))
            raise InvalidOption(
                f"the frozen envelope knows {known}, not {channel.name}; "
                "use a scheme that ends in csit-average, or freeze an envelope"
            )

        def distance(row: Choice) -> float:
            return abs(math.log(float(parse_rho(row.rho)) / rho))

        nearest = min(distance(row) for row in rows)
        below = [row for row in rows if distance(row) == nearest and row.snr_db <= csit_snr_db + 1e-6]
        return max(below, key=lambda row: row.snr_db, default=None)

    def prepare(
        self,
        x: Float[Tensor, "1 3 height width"],
        budget: Budget,
        channel: Channel,
        csit_snr_db: float | None,
    ) -> Sent:
        """Look the point up, then do as `Separate` does."""
        if csit_snr_db is None:
            raise InvalidOption("the envelope needs the average SNR at the transmitter")
        choice = self.choose(channel, csit_snr_db, budget.rho)
        if choice is None:
            return nothing_sent(
                tuple(x.shape), f"{csit_snr_db:g} dB is below the envelope's table; raise the SNR"
            )
        codec = next(codec for codec in self.codecs if codec.name == choice.codec)
        link = DigitalLink(MCS_TABLE[choice.mcs], adapted=True)
        return send_coded(codec, link, x, budget, channel, choice.size)

    def deliver(self, sent: Sent, channel: Channel, snr_db: SnrDb, rng: Streams) -> Observation:
        """As `Separate` does."""
        return receive_coded(sent, channel, snr_db, rng, self.concealment)


@dataclass(frozen=True)
class GenieEnvelope:
    """Upper bound of all envelopes: the best codec and code rate per image and noise, chosen after the fact.

    A genie: it looks at the original, and at what the noise did, before it decides.

    Args:
        codecs: To choose from.
        concealment: What is shown if all choices are lost.
    """

    codecs: tuple[SourceCodec, ...]
    concealment: Concealment = "mean-color"

    @property
    def name(self) -> str:
        """Canonical spelling."""
        return "genie-envelope"

    @property
    def csit(self) -> Csit:
        """The average SNR, and more than that."""
        return "average"

    def prepare(
        self,
        x: Float[Tensor, "1 3 height width"],
        budget: Budget,
        channel: Channel,
        csit_snr_db: float | None,
    ) -> Sent:
        """Every plausible code rate, each with its best codec."""
        if csit_snr_db is None:
            raise InvalidOption("the genie envelope needs the average SNR")
        rates = plausible(channel, csit_snr_db, budget)
        if not rates and plausible(channel, csit_snr_db, budget, worst=1.0):
            return nothing_sent(
                tuple(x.shape), f"no code rate is plausible at {csit_snr_db:g} dB; raise the SNR"
            )
        candidates: list[Sent] = []
        for candidate in rates:
            link = DigitalLink(candidate.mcs, adapted=True)
            sents = [send_coded(codec, link, x, budget, channel, candidate.size) for codec in self.codecs]
            sents = [sent for sent in sents if not sent.cause]
            if sents:
                candidates.append(min(sents, key=lambda sent: _error(sent.content.fitted.decoded, x)))
        if not candidates:
            return nothing_sent(
                tuple(x.shape), f"no codec fits {budget.channel_uses} channel uses; raise rho"
            )
        first = candidates[0]
        return Sent(first.symbols, first.channel_uses, first.shape, (x, tuple(candidates)))

    def deliver(self, sent: Sent, channel: Channel, snr_db: SnrDb, rng: Streams) -> Observation:
        """Deliver all, keep the best of each batch element."""
        if sent.cause:
            return lost(sent, self.concealment, rng.batch)
        x, candidates = sent.content
        tries = [receive_coded(candidate, channel, snr_db, rng, self.concealment) for candidate in candidates]
        images: list[Tensor | None] = []
        for i in range(rng.batch):
            arrived = [t.evidence[0].y[i : i + 1] for t in tries if not t.info["outage"][i]]
            images.append(min(arrived, key=lambda y: _error(y, x)) if arrived else None)
        return observe_images(sent, images, tries[0].energy, self.concealment)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A code rate that could be worth it at some operating point.

    Args:
        mcs: Row of the MCS table.
        size: Which of the message sizes of the link.
        bits: Its length.
        failure: Predicted probability that it is lost.
    """

    mcs: Mcs
    size: int
    bits: int
    failure: float


def plausible(
    channel: Channel, snr_db: float, budget: Budget, worst: float = 0.7, best: float = 1e-3
) -> list[Candidate]:
    """From the longest message that does not surely fail down to the second that surely arrives."""
    uses = channel.data_uses(budget.channel_uses)
    candidates: list[Candidate] = []
    safe = 0
    for mcs, size in _code_rates():
        bits = message_bits(DigitalLink(mcs, adapted=True), uses, size)
        if bits <= FRAME_BITS:
            continue
        failure = predicted_failure(mcs, channel, snr_db, bits, uses, adapted=True)
        if failure > worst:
            continue
        candidates.append(Candidate(mcs, size, bits, failure))
        safe += failure < best
        if safe == 2:
            break
    return candidates


@cache
def _code_rates() -> tuple[tuple[Mcs, int], ...]:
    """Rows of the MCS table and sizes of their messages, by falling bits per use, some 8 percent apart.

    Rows of low rate lie up to 2.3 dB apart; at equal uses, quality changes by some 4 dB where bits double.
    """
    rates: list[tuple[Mcs, int]] = []
    for mcs in reversed(MCS_TABLE):
        ratio = MCS_TABLE[mcs.index - 1].bits_per_use / mcs.bits_per_use if mcs.index else 1.0
        steps = max(1, round(math.log(ratio) / math.log(0.92)))
        rates += [(mcs, round(SIZES * (1 - ratio ** (step / steps)))) for step in range(steps)]
    return tuple(rates)


def freeze(
    codecs: Sequence[SourceCodec],
    channels: Sequence[Channel],
    snr_db: Sequence[float],
    rho: Sequence[str],
    items: Sequence[Item],
    progress: Callable[[float], Any] = lambda share: None,
) -> tuple[Choice, ...]:
    """The (codec, code rate) of highest mean PSNR at every point, lost images included.

    mean over items of (1 - f) PSNR(decoded) + f PSNR(concealed), f = predicted payload failure, where
    decoded is the best that fits; an image that nothing fits is lost.

    Args:
        codecs: To choose from; wrapped in `Memo`, or every image is encoded again at every point.
        channels: Media.
        snr_db: Average SNRs.
        rho: Bandwidth ratios as text.
        items: Images to choose on; never those of a test.
        progress: Called with the share done.
    """
    points = [(channel, ratio, snr) for channel in channels for ratio in rho for snr in snr_db]
    totals: dict[tuple[str, str, float], dict[tuple[str, int, int], list[tuple[float, float]]]] = {}
    for number, item in enumerate(items):  # items outermost: the codecs remember one image at a time
        floor = _psnr(concealed("mean-color", tuple(item.x.shape)), item.x)

        @cache
        def arrived(codec: SourceCodec, bits: int, x: Tensor = item.x, floor: float = floor) -> float | None:
            try:
                return _psnr(fit(codec, x, bits - FRAME_BITS).decoded, x)
            except BudgetTooSmall:
                return None

        for done, (channel, ratio, snr) in enumerate(points):
            budget = Budget.from_rho(ratio, item.x.numel())
            table = totals.setdefault((channel.name, ratio, snr), {})
            for candidate in plausible(channel, snr, budget):
                failure = candidate.failure
                for codec in codecs:
                    psnr_db = arrived(codec, candidate.bits)
                    lost = psnr_db is None
                    outcome = (floor, 1.0) if lost else ((1 - failure) * psnr_db + failure * floor, failure)
                    name = (codec.name, candidate.mcs.index, candidate.size)
                    table.setdefault(name, []).append(outcome)
            progress((number + (done + 1) / len(points)) / len(items))
    return tuple(choice for point, table in totals.items() if (choice := _best(point, table, len(items))))


def _best(
    point: tuple[str, str, float],
    table: Mapping[tuple[str, int, int], Sequence[tuple[float, float]]],
    items: int,
) -> Choice | None:
    """The candidate of highest mean PSNR among those that were plausible for every item."""
    means = {
        candidate: [sum(column) / items for column in zip(*outcomes, strict=True)]
        for candidate, outcomes in table.items()
        if len(outcomes) == items
    }
    if not means:
        return None
    name = max(means, key=lambda candidate: means[candidate][0])
    psnr_db, outage = means[name]
    return Choice(*point, *name, round(psnr_db, 3), round(outage, 5))


def _error(y: Tensor, x: Tensor) -> float:
    return (y - x).square().mean().item()


def _psnr(y: Tensor, x: Tensor) -> float:
    return -10 * math.log10(max(_error(y, x), 1e-10))
