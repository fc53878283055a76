"""Digital envelope: the best codec, modulation and code rate per operating point, by table or genie."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from torch import Tensor

from channels import Channel, Received
from channels.link import FRAME_BITS, SIZES, DigitalLink
from channels.mcs import MCS_TABLE, Mcs, predicted_failure
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
"""Largest predicted payload failure that is accepted on channels that the table does not contain."""


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
    and the nearest lower SNR. The receiver reads MCS and message size from the control header, and the codec
    from the last byte of the frame (see `channels.link.frame`).

    Args:
        codecs: Source codecs of the table; the frame holds an index into them.
        choices: Rows of the table.
    """

    codecs: tuple[SourceCodec, ...]
    choices: tuple[Choice, ...]

    @property
    def name(self) -> str:
        """Canonical name, always "envelope:csit-average"."""
        return "envelope:csit-average"

    @property
    def csit(self) -> Csit:
        """Always "average": the table is indexed by the channel and its average SNR."""
        return "average"

    def choose(self, channel: Channel, csit_snr_db: float, rho: float, uses: int) -> Choice | None:
        """Choose codec, MCS and message size for an operating point.

        On a channel that the table does not contain, the codec is that of AWGN at the same SNR, and the
        message is the longest whose predicted failure is at most `SAFE`.

        Args:
            channel: The channel.
            csit_snr_db: Average SNR in dB.
            rho: Channel uses allowed per source value.
            uses: Number of data symbols allowed.

        Returns:
            The choice; None if there is none, for instance below the lowest SNR of the table.

        Raises:
            InvalidOption: The table contains neither the channel nor AWGN.
        """
        known = {row.channel for row in self.choices}
        if channel.name in known:
            return self._nearest(channel.name, csit_snr_db, rho)
        if "awgn" not in known:
            raise InvalidOption(
                f"the frozen envelope knows {', '.join(sorted(known))}, not {channel.name}; "
                "use a scheme that ends in csit-average, or freeze an envelope"
            )
        row = self._nearest("awgn", csit_snr_db, rho)
        rates = plausible(channel, csit_snr_db, uses, worst=SAFE)
        if row is None or not rates:
            return None
        fastest = rates[0]
        choice = replace(row, channel=channel.name, mcs=fastest.mcs.index, size=fastest.size)
        return replace(choice, outage=fastest.failure)

    def _nearest(self, channel: str, csit_snr_db: float, rho: float) -> Choice | None:
        """Row of the nearest rho (by ratio) and the nearest lower SNR; None below the lowest SNR."""

        def distance(row: Choice) -> float:
            return abs(math.log(float(parse_rho(row.rho)) / rho))

        rows = [row for row in self.choices if row.channel == channel]
        nearest = min(distance(row) for row in rows)
        below = [row for row in rows if distance(row) == nearest and row.snr_db <= csit_snr_db + 1e-6]
        return max(below, key=lambda row: row.snr_db, default=None)

    def send(self, x: Image, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Choose codec, MCS and message size from the table, fit the codec, encode, and map to symbols."""
        if known is None:
            raise InvalidOption("the envelope needs the average SNR at the transmitter")
        rho = (uses + known.law.overhead(uses)) / x.numel()
        choice = self.choose(known.law, known.snr_db, rho, uses) if uses else None
        if choice is None:
            return nothing_sent(
                f"{known.snr_db:g} dB and {uses} data symbols have no safe choice; raise them"
            )
        number = next(i for i, codec in enumerate(self.codecs) if codec.name == choice.codec)
        link = DigitalLink(MCS_TABLE[choice.mcs], adapted=True)
        return send_coded(self.codecs[number], link, x, uses, choice.size, tag=number).sent

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
    """

    codecs: tuple[SourceCodec, ...]

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
        rates = plausible(known.law, known.snr_db, uses)
        if not rates and plausible(known.law, known.snr_db, uses, worst=1.0):
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
    channel: Channel, snr_db: float, uses: int, worst: float = 0.7, best: float = 1e-3
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

    Returns:
        Candidates by falling number of bits per channel use; empty if none is plausible.
    """
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
