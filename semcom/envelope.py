"""Digital envelope: the best codec, modulation and code rate per operating point, by table or genie."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any

from torch import Tensor

from channels import Channel, Received
from channels.link import FRAME_BITS, SIZES, DigitalLink
from channels.mcs import MCS_TABLE, BlerTable, Mcs, predicted_failure, shipped_bler_table
from semcom.budget import Budget, parse_rho
from semcom.codecs.codec import SourceCodec, fit
from semcom.data import Item
from semcom.errors import BudgetTooSmall, InvalidOption
from semcom.modalities import IMAGE
from semcom.modalities.image import Image
from semcom.observation import Decoded, Observation
from semcom.separate import message_bits, receive_coded, send_coded
from semcom.transmission import ChannelKnowledge, Csit, Sent, Whispered, nothing_sent

SAFE = 0.01
"""Predicted failure that is always accepted: 1 % lost costs less PSNR than the next lower code rate."""

PLAUSIBLE = 0.7
"""Predicted failure above which nothing is sent."""


_ROUNDING = 5e-6  # of the outages of a table


@dataclass(frozen=True, slots=True)
class Choice:
    """One row of an envelope: codec, MCS and message size for an operating point, and the expected quality.

    Args:
        channel: Canonical name of the channel.
        rho: Bandwidth ratio as text, for instance "1/48".
        snr_db: Average SNR in dB.
        codec: Name of the source codec.
        mcs: Row of `channels.mcs.MCS_TABLE`.
        size: Index into `DigitalLink.sizes`, the message lengths from longest to shortest. Larger indices are
            code rates between this MCS and the next lower one.
        psnr_db: Mean PSNR in dB over the images that the choice was made on, lost ones included.
        outage: Predicted fraction of lost images, 0 to 1.
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
    """Load the table of the package, which was made on validation photographs.

    Returns:
        Rows of the table.
    """
    text = (files("semcom") / "tables" / "envelope.json").read_text()
    return tuple(Choice(**row) for row in json.loads(text)["choices"])


@dataclass(frozen=True)
class Envelope:
    """Digital transmission whose codec, MCS and message size follow a fixed table over channel, SNR and rho.

    The transmitter knows the average SNR. Between the points of the table it uses the nearest rho (by ratio)
    and the nearest lower SNR. The table was made on pictures of one size, and fewer channel uses fail more
    often at the same code rate. So the transmitter predicts the failure at the channel uses it has, and steps
    down to the next lower code rate until that is accepted (`choose`).

    The receiver reads MCS and message size from the control header, and the codec from the last byte of the
    frame (see `channels.link.frame`).

    Args:
        codecs: Source codecs of the table; the frame holds an index into them.
        choices: Rows of the table.
        table: Block error rates on AWGN, from which failures are predicted.
    """

    codecs: tuple[SourceCodec, ...]
    choices: tuple[Choice, ...]
    table: BlerTable = field(default_factory=shipped_bler_table, repr=False)

    @property
    def name(self) -> str:
        """Canonical name, always "envelope:csit-average"."""
        return "envelope:csit-average"

    @property
    def csit(self) -> Csit:
        """Always "average": the table is indexed by the channel and its average SNR."""
        return "average"

    def choose(self, channel: Channel, csit_snr_db: float, rho: float, uses: int) -> tuple[Choice, ...]:
        """Choose codec, MCS and message size for an operating point.

        The first choice is the highest code rate, not above that of the table, whose predicted failure at
        these channel uses is at most the outage that the table accepts there, or `SAFE` if that is more. If
        no code rate is that good, it is the highest within `SAFE` of the most reliable one. The higher code
        rates that were passed over follow, lowest first, for pictures that do not fit the message of the
        first choice.

        On a channel that the table does not contain, the codec is that of AWGN at the same SNR, and every
        code rate is a candidate.

        Args:
            channel: The channel.
            csit_snr_db: Average SNR in dB.
            rho: Channel uses allowed per source value.
            uses: Number of data symbols allowed.

        Returns:
            Choices in order of preference, each with its predicted failure as `outage`, and with the
            `psnr_db` of the row of the table; none below the lowest SNR of the table, or if every code rate
            fails more often than `PLAUSIBLE`.

        Raises:
            InvalidOption: The table contains neither the channel nor AWGN.
        """
        known = {row.channel for row in self.choices}
        if channel.name not in known and "awgn" not in known:
            raise InvalidOption(
                f"the frozen envelope knows {', '.join(sorted(known))}, not {channel.name}; "
                "use a scheme that ends in csit-average, or freeze an envelope"
            )
        frozen = channel.name in known
        row = self._nearest(channel.name if frozen else "awgn", csit_snr_db, rho)
        if row is None:
            return ()
        accepted = max(row.outage + _ROUNDING, SAFE) if frozen else SAFE
        start = (MCS_TABLE[row.mcs], row.size) if frozen else None
        rates: list[Candidate] = []
        for rate in _candidates(channel, csit_snr_db, uses, self.table, start):
            rates.append(rate)
            if rate.failure <= accepted:
                break
        least = min((rate.failure for rate in rates), default=1.0)
        if least > PLAUSIBLE:
            return ()
        limit = accepted if least <= accepted else least + SAFE
        first = next(i for i, rate in enumerate(rates) if rate.failure <= limit)
        ordered = [rate for rate in rates[first::-1] if rate.failure <= PLAUSIBLE]
        return tuple(
            replace(row, channel=channel.name, mcs=rate.mcs.index, size=rate.size, outage=rate.failure)
            for rate in ordered
        )

    def _nearest(self, channel: str, csit_snr_db: float, rho: float) -> Choice | None:
        """Row of the nearest rho (by ratio) and the nearest lower SNR; None below the lowest SNR."""

        def distance(row: Choice) -> float:
            return abs(math.log(float(parse_rho(row.rho)) / rho))

        rows = [row for row in self.choices if row.channel == channel]
        nearest = min(distance(row) for row in rows)
        below = [row for row in rows if distance(row) == nearest and row.snr_db <= csit_snr_db + 1e-6]
        return max(below, key=lambda row: row.snr_db, default=None)

    def send(self, x: Image, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Choose codec, MCS and message size, fit the codec, encode, and map to symbols.

        If the picture does not fit the message, the other codecs are tried, then the next choices.
        """
        if known is None:
            raise InvalidOption("the envelope needs the average SNR at the transmitter")
        rho = (uses + known.law.overhead(uses)) / x.numel()
        choices = self.choose(known.law, known.snr_db, rho, uses) if uses else ()
        if not choices:
            return nothing_sent(
                f"{known.snr_db:g} dB and {uses} data symbols have no safe choice; raise them"
            )
        own = next(i for i, codec in enumerate(self.codecs) if codec.name == choices[0].codec)
        tags = sorted(range(len(self.codecs)), key=lambda tag: tag != own)
        causes: list[str] = []
        for choice in choices:
            link = DigitalLink(MCS_TABLE[choice.mcs], adapted=True)
            for tag in tags:
                coded = send_coded(self.codecs[tag], link, x, uses, choice.size, tag)
                if coded.fitted:
                    return coded.sent
                causes.append(coded.sent.cause)
        return nothing_sent(causes[0])

    def receive(self, received: Received, shape: tuple[int, ...], uses: int) -> list[Observation[Image]]:
        """Demap and decode every reception; the payload is decoded by the codec that its frame names."""
        return receive_coded(self.codecs, DigitalLink(MCS_TABLE[0], adapted=True), received, shape)


@dataclass(frozen=True)
class GenieEnvelope:
    """Genie-aided upper bound of all envelopes: the best codec and code rate per image and noise realisation.

    The genie sends all plausible code rates over the same channel realisation, and keeps the received picture
    that is nearest to the original.

    Args:
        codecs: Source codecs to choose from.
        table: Block error rates on AWGN, from which failures are predicted.
    """

    codecs: tuple[SourceCodec, ...]
    table: BlerTable = field(default_factory=shipped_bler_table, repr=False)

    @property
    def name(self) -> str:
        """Canonical name, always "genie-envelope"."""
        return "genie-envelope"

    @property
    def csit(self) -> Csit:
        """Always "average": candidate code rates follow from the channel's law and its average SNR."""
        return "average"

    def send_all(self, x: Image, uses: int, known: ChannelKnowledge | None) -> tuple[Whispered, ...]:
        """Encode the image at every plausible code rate, each with the codec of least distortion."""
        if known is None:
            raise InvalidOption("the genie envelope needs the average SNR")
        rates = plausible(known.law, known.snr_db, uses, table=self.table)
        if not rates and plausible(known.law, known.snr_db, uses, worst=1.0, table=self.table):
            cause = f"no code rate is plausible at {known.snr_db:g} dB; raise the SNR"
            return (Whispered(nothing_sent(cause), None),)
        candidates: list[Whispered] = []
        for rate in rates:
            link = DigitalLink(rate.mcs, adapted=True)
            tries = [(codec, send_coded(codec, link, x, uses, rate.size)) for codec in self.codecs]
            fitting = [
                (_error(coded.fitted.decoded, x), i) for i, (_, coded) in enumerate(tries) if coded.fitted
            ]
            if fitting:
                codec, coded = tries[min(fitting)[1]]
                candidates.append(Whispered(replace(coded.sent, info={}), (x, codec, link)))
        if not candidates:
            return (Whispered(nothing_sent(f"no codec fits {uses} channel uses; raise rho"), None),)
        return tuple(candidates)

    def receive_knowing(
        self,
        whispered: Sequence[Whispered],
        received: Sequence[Received],
        shape: tuple[int, ...],
        uses: int,
    ) -> list[Observation[Image]]:
        """Decode all candidates, and keep the picture nearest to the original for every reception."""
        tries: list[list[Observation[Image]]] = []
        for candidate, receptions in zip(whispered, received, strict=True):
            _, codec, link = candidate.told
            tries.append(receive_coded((codec,), link, receptions, shape))
        x: Image = whispered[0].told[0]
        return [_nearest([t[i] for t in tries], x) for i in range(received[0].y.shape[0])]


def _nearest(candidates: Sequence[Observation[Image]], x: Image) -> Observation[Image]:
    """The received picture of least squared error; lost if none was received."""
    arrived = [y for seen in candidates if (y := seen.shown) is not None]
    if not arrived:
        return Observation(None)
    best = min(arrived, key=lambda y: _error(y, x))
    return Observation(best, (Decoded(best),))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A code rate that may be useful at an operating point.

    Args:
        mcs: Row of `channels.mcs.MCS_TABLE`.
        size: Index into `DigitalLink.sizes`, the message lengths from longest to shortest.
        bits: Length of the message in bits.
        failure: Predicted probability that the message is lost, 0 to 1.
    """

    mcs: Mcs
    size: int
    bits: int
    failure: float


def plausible(
    channel: Channel,
    snr_db: float,
    uses: int,
    worst: float = PLAUSIBLE,
    best: float = 1e-3,
    table: BlerTable | None = None,
) -> list[Candidate]:
    """List the code rates that may be useful at an operating point, from high to low.

    The list starts at the highest code rate whose predicted failure is at most `worst`, and ends at the
    second one whose predicted failure is below `best`.

    Args:
        channel: The channel.
        snr_db: Average SNR in dB.
        uses: Number of data symbols.
        worst: Largest predicted failure of a candidate, 0 to 1.
        best: Predicted failure below which lower code rates have no further benefit, 0 to 1.
        table: Block error rates on AWGN; None takes the shipped table.

    Returns:
        Candidates by falling number of bits per channel use; empty if none is plausible.
    """
    candidates: list[Candidate] = []
    safe = 0
    for candidate in _candidates(channel, snr_db, uses, table):
        if candidate.failure > worst:
            continue
        candidates.append(candidate)
        safe += candidate.failure < best
        if safe == 2:
            break
    return candidates


def _candidates(
    channel: Channel, snr_db: float, uses: int, table: BlerTable | None, start: tuple[Mcs, int] | None = None
) -> Iterator[Candidate]:
    """Code rates with room for a payload by falling bits per use, from `start` on (by default all)."""
    rates = _code_rates()
    if start is not None:
        top = _bits_per_use(*start)
        rates = (start, *(rate for rate in rates if _bits_per_use(*rate) < top))
    for mcs, size in rates:
        bits = message_bits(DigitalLink(mcs, adapted=True), uses, size)
        if bits > FRAME_BITS:
            failure = predicted_failure(mcs, channel, snr_db, bits, uses, True, table)
            yield Candidate(mcs, size, bits, failure)


def _bits_per_use(mcs: Mcs, size: int) -> float:
    return mcs.bits_per_use * (SIZES - size) / SIZES


@cache
def _code_rates() -> tuple[tuple[Mcs, int], ...]:
    """MCS and message size of all code rates by falling bits per use, about 8 % apart.

    Rows of the MCS table at low rates are up to 2.3 dB apart, which is too coarse: at equal channel uses,
    twice the bits improve the PSNR by about 4 dB.
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
    """Choose codec and code rate of highest mean PSNR at every operating point, lost images included.

        mean over items of (1 - f) PSNR(decoded) + f PSNR(cover)

    with f the predicted payload failure, `decoded` the best picture that fits, and `cover` the picture shown
    in an outage. An image that does not fit counts as lost.

    Args:
        codecs: Source codecs to choose from; wrap them in `Memo` to avoid encoding every image at every
            point.
        channels: Channels.
        snr_db: Average SNRs in dB.
        rho: Bandwidth ratios as text.
        items: Images to choose on; they must not be those of a test.
        progress: Called with the completed fraction of the work, 0 to 1.

    Returns:
        One row per operating point that has a plausible code rate.
    """
    points = [(channel, ratio, snr) for channel in channels for ratio in rho for snr in snr_db]
    totals: dict[tuple[str, str, float], dict[tuple[str, int, int], list[tuple[float, float]]]] = {}
    for number, item in enumerate(items):  # items in the outer loop: caches of codecs hold few images
        floor = _psnr(IMAGE.cover(tuple(item.x.shape)), item.x)

        @cache
        def arrived(codec: SourceCodec, bits: int, x: Tensor = item.x, floor: float = floor) -> float | None:
            try:
                return _psnr(fit(codec, x, bits - FRAME_BITS).decoded, x)
            except BudgetTooSmall:
                return None

        for done, (channel, ratio, snr) in enumerate(points):
            budget = Budget.from_rho(ratio, item.x.numel())
            table = totals.setdefault((channel.name, ratio, snr), {})
            for candidate in plausible(channel, snr, channel.data_uses(budget.channel_uses)):
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
    """The candidate of highest mean PSNR among those that are plausible for every item."""
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
