"""Self-check of the simulator: the channels' rows, then what links lose against what is predicted."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from channels import AWGN, OFDM, TDL, Channel, NamedStreams, RayleighBlockFading, transmit
from channels import selfcheck as channel_rows
from channels.link import DigitalLink, IdealLink
from channels.mcs import MCS_TABLE, choose_mcs, predicted_failure
from channels.realisations import count
from channels.selfcheck import Check
from semcom.budget import Budget
from semcom.envelope import Envelope, shipped_choices
from semcom.selfcheck_analog import analog_rows
from semcom.separate import message_bits

RAYLEIGH = RayleighBlockFading(64)
TDL_C = OFDM((TDL("C", 300.0, 10.0),))

SIZES = ((128, 160), (224, 336), (512, 768))
"""Height and width of the pictures whose budgets the envelope is checked at."""

CELLS = tuple(itertools.product((AWGN(), RAYLEIGH), (0.0, 5.0, 20.0), ("1/12", "1/48", "1/192"), SIZES))
"""Operating points of the envelope: channel, SNR in dB, rho, and size of the picture."""

FEW_CELLS = (
    (AWGN(), 0.0, "1/192", SIZES[0]),
    (RAYLEIGH, 0.0, "1/48", SIZES[0]),
    (RAYLEIGH, 5.0, "1/192", SIZES[1]),
    (RAYLEIGH, 20.0, "1/48", SIZES[0]),
)

ADAPTED: tuple[tuple[Channel, float, int, float], ...] = (  # SNR in dB, data symbols, largest failure
    (AWGN(), 5.0, 1500, 0.01),
    (RAYLEIGH, 10.0, 1280, 0.01),
    (AWGN(), 20.0, 4096, 0.01),
    (AWGN(), 0.0, 640, 1e-3),
    (RAYLEIGH, 5.0, 3072, 1e-3),
    (TDL_C, 12.0, 1280, 0.02),
)

IDEAL: tuple[tuple[Channel, float, int], ...] = (
    (RAYLEIGH, 5.0, 640),
    (TDL_C, 10.0, 1280),
    (AWGN(), 5.0, 640),
)


@dataclass(frozen=True)
class Effort:
    """How much is simulated for one row.

    Args:
        most: Largest number of messages.
        uses: Channel uses of all messages together, while 40 of them do not need more.
    """

    most: int
    uses: int

    def messages(self, uses: int) -> int:
        """Number of messages of a length.

        Args:
            uses: Channel uses of a message, at least 1.

        Returns:
            Number of messages, at least 40.
        """
        return max(40, min(self.most, self.uses // uses))


def selfcheck(seed: int = 0, full: bool = False) -> Iterator[Check]:
    """Measure channels, constellations and codes against theory, and links against what is predicted of them.

    Equal seeds give equal numbers.

    Args:
        seed: Seed of all random numbers.
        full: Whether to check every operating point, with high counts (some minutes on one core) instead of a
            few (some 20 s).

    Yields:
        Checks, each as soon as it is measured.
    """
    yield from channel_rows.selfcheck(seed)
    yield from analog_rows(seed)
    yield from outage_rows(seed, full)


def outage_rows(seed: int = 0, full: bool = False) -> Iterator[Check]:
    """Check the predicted outage of digital links against messages that are sent.

    Envelope: at operating points of three sizes of pictures. Link adaptation: at low error rates. Ideal link:
    its 1 % of outages.

    Args:
        seed: Seed of all random numbers.
        full: Whether to check every operating point, with high counts.

    Yields:
        Checks, each as soon as it is measured.
    """
    effort = Effort(4000, 4_000_000) if full else Effort(500, 400_000)
    for channel, snr_db, rho, size in CELLS if full else FEW_CELLS:
        yield from envelope_row(channel, snr_db, rho, size, effort, seed)
    for case in ADAPTED if full else ADAPTED[:2]:
        yield from adapted_row(*case, effort, seed)
    for case in IDEAL if full else IDEAL[:1]:
        yield from ideal_row(*case, effort, seed)


def envelope_row(
    channel: Channel, snr_db: float, rho: str, size: tuple[int, int], effort: Effort, seed: int
) -> Iterator[Check]:
    """Check the outage that the frozen envelope predicts for its choice at one operating point.

    Args:
        channel: The channel.
        snr_db: Average SNR in dB.
        rho: Bandwidth ratio as text.
        size: Height and width of the picture.
        effort: How much is simulated.
        seed: Seed of all random numbers.

    Yields:
        One check; none if the envelope sends nothing there.
    """
    budget = Budget.from_rho(rho, 3 * size[0] * size[1])
    uses = channel.data_uses(budget.channel_uses)
    choices = Envelope((), shipped_choices()).choose(channel, snr_db, budget.rho, uses)
    if choices:
        link = DigitalLink(MCS_TABLE[choices[0].mcs], adapted=True)
        bits = message_bits(link, uses, choices[0].size)
        name = f"envelope on {channel.name} at {snr_db:g} dB, rho {rho}, {size[1]}x{size[0]}: outage"
        yield _outage(name, link, channel, snr_db, bits, uses, choices[0].outage, effort, seed)


def adapted_row(
    channel: Channel, snr_db: float, uses: int, target_failure: float, effort: Effort, seed: int
) -> Iterator[Check]:
    """Check the outage predicted for the longest message of the MCS that link adaptation chooses.

    Args:
        channel: The channel.
        snr_db: Average SNR in dB.
        uses: Number of data symbols.
        target_failure: Largest predicted failure that adaptation accepts.
        effort: How much is simulated.
        seed: Seed of all random numbers.

    Yields:
        One check; none if no MCS meets the target.
    """
    mcs = choose_mcs(channel, snr_db, uses, target_failure)
    if mcs is not None:
        link = DigitalLink(mcs, adapted=True)
        bits = link.payload_bits(uses)
        predicted = predicted_failure(mcs, channel, snr_db, bits, uses, adapted=True)
        name = f"MCS {mcs.index} adapted to {channel.name} at {snr_db:g} dB, {uses} uses: outage"
        yield _outage(name, link, channel, snr_db, bits, uses, predicted, effort, seed)


def ideal_row(channel: Channel, snr_db: float, uses: int, effort: Effort, seed: int) -> Iterator[Check]:
    """Check the outage of the ideal link at its 1 % outage capacity.

    Args:
        channel: The channel.
        snr_db: Average SNR in dB.
        uses: Number of data symbols.
        effort: How much is simulated.
        seed: Seed of all random numbers.

    Yields:
        One check.
    """
    link, messages = IdealLink(), effort.messages(uses)
    bits = link.payload_bits(channel, snr_db, uses)
    x = torch.ones(1, uses, dtype=torch.complex64)
    lost = 0
    for ids in _batches(messages, uses):
        received = transmit(channel, x.expand(len(ids), -1), snr_db, NamedStreams(seed, ids))
        lost += int((~link.succeeds(received, bits)).sum())
    predicted = 0.0 if isinstance(channel, AWGN) else 0.01
    name = f"ideal link on {channel.name} at {snr_db:g} dB, {uses} uses: outage"
    yield Check(name, lost / messages, predicted, _standard_error(predicted, messages, channel, uses))


def _outage(
    name: str,
    link: DigitalLink,
    channel: Channel,
    snr_db: float,
    bits: int,
    uses: int,
    predicted: float,
    effort: Effort,
    seed: int,
) -> Check:
    """Check on the share of random messages that are lost."""
    messages = effort.messages(uses)
    texts = NamedStreams(seed, tuple(f"text={i}" for i in range(min(50, messages)))).bits("bits", (bits,))
    sent = torch.cat([link.send(text, uses) for text in texts])
    lost = first = 0
    for ids in _batches(messages, uses):
        x = sent[(first + torch.arange(len(ids))) % len(sent)]
        lost += int((~link.receive(transmit(channel, x, snr_db, NamedStreams(seed, ids))).ok).sum())
        first += len(ids)
    return Check(name, lost / messages, predicted, _standard_error(predicted, messages, channel, uses))


def _batches(messages: int, uses: int) -> Iterator[tuple[str, ...]]:
    """Ids of messages, in batches of bounded memory."""
    at_once = max(1, 2**19 // uses)
    for first in range(0, messages, at_once):
        yield tuple(f"message={i}" for i in range(first, min(first + at_once, messages)))


def _standard_error(predicted: float, messages: int, channel: Channel, uses: int) -> float:
    """Standard error of the difference between a measured and a predicted outage probability.

    One message is added to the variance of the number lost, since rare losses are far from normal: of 0.2
    expected, 2 are lost in one run of 60.
    """
    spread = predicted * (1 - predicted)
    realisations = math.inf if isinstance(channel, AWGN) else count(channel, uses)
    return math.sqrt((messages * spread + 1) / messages**2 + spread / realisations)
