"""Scheme: a transmission and a receiver under one name, the unit of comparison in experiments."""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from channels import Channel, Received, SnrDb, Streams, transmit
from semcom.budget import Budget
from semcom.errors import FaultyReceiver, FaultyTransmission, InvalidOption, InvalidSource
from semcom.meter import Metered, metered
from semcom.modalities import IMAGE, Modality
from semcom.observation import Observation
from semcom.process_memory import require_memory, sending_bytes
from semcom.surroundings import library_defaults
from semcom.transmission import ChannelKnowledge, Genie, Sent, Transmission, Whispered

X = TypeVar("X")


@runtime_checkable
class Receiver(Protocol[X]):
    """Last stage of a scheme: reconstructs the item shown from the observation of it."""

    @property
    def name(self) -> str:
        """Canonical name, for instance "direct" or "ddnm:100"."""
        ...

    def __call__(self, observation: Observation[X], shape: Any, rng: Streams) -> X | None:
        """Reconstruct one item from the observation of it.

        Args:
            observation: All that is known of the item; a lost item has `shown=None` and no evidence.
            shape: Shape of the item, as its modality makes it known to every receiver: (1, 3, height, width)
                of a picture, `ClipShape` of a clip, `TextShape` of a text.
            rng: Random numbers of the receiver, for one item.

        Returns:
            An item of this shape, for a picture [1, 3, height, width] in [0, 1]; None for a lost item, in
            place of which its modality shows a placeholder (for a picture the mean colour).

        Raises:
            UnsuitableEvidence: The receiver cannot use evidence of this kind.
        """
        ...


@runtime_checkable
class CallsNetwork(Protocol):
    """A receiver that reports the number of its network calls, for the record."""

    @property
    def nfe(self) -> int:
        """Network calls per item, at least 0; a vector-Jacobian product counts as one call."""
        ...


@runtime_checkable
class MarksGuesses(Protocol):
    """A receiver that shows guesses beside what arrived, each between marks, and changes nothing else."""

    @property
    def guess_marks(self) -> tuple[str, str]:
        """Marks in front of a guess and behind it."""
        ...


@runtime_checkable
class Decides(Protocol[X]):
    """A receiver that decides between several things to show, and reports its decision for the record."""

    def decided(
        self, observation: Observation[X], shape: Any, rng: Streams
    ) -> tuple[X | None, Mapping[str, float]]:
        """Reconstruct one item as the receiver does when it is called, and say what was decided.

        Args:
            observation: All that is known of the item.
            shape: Shape of the item.
            rng: Random numbers of the receiver, for one item.

        Returns:
            The item, or None for a lost one, and finite numbers for the record by column name.

        Raises:
            UnsuitableEvidence: The receiver cannot use evidence of this kind.
        """
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Outcome(Generic[X]):
    """Result of sending one item once.

    Args:
        x_hat: The item shown; for a lost item the receiver's guess or the placeholder of its modality.
        channel_uses: Complex channel uses, pilots and prefixes included; 0 if nothing was sent.
        energy: Sum of |x|^2 over all channel uses; at most `channel_uses`, up to the tolerances of
            `semcom.meter`.
        outage: Whether the item was lost.
        info: Finite numbers for the record, by column name.
        cause: Why nothing was sent, in one line; empty if symbols were sent.
        arrived: What arrived, if the receiver shows marked guesses beside it: metrics measure this in place
            of `x_hat`. None for all other receivers, and for a lost item.
    """

    x_hat: X
    channel_uses: int
    energy: float
    outage: bool
    info: Mapping[str, float]
    cause: str = ""
    arrived: X | None = None


@dataclass(eq=False)
class Preparations:
    """Cache of transmitter outputs for one item, one channel and one budget, by known SNR.

    Args:
        made: Transmitter output and the seconds that it took, by the SNR in dB that the transmitter knows;
            the key is None for a transmitter without channel knowledge.
    """

    made: dict[float | None, tuple[tuple[Whispered, ...], float]] = field(default_factory=dict)

    def get(self, snr_db: float | None, make: Callable[[], tuple[Whispered, ...]]) -> tuple[Whispered, ...]:
        """Look up the transmitter output at an SNR, and compute it at the first call.

        Args:
            snr_db: SNR in dB that the transmitter knows; None without channel knowledge.
            make: Function that computes the transmitter output.

        Returns:
            One transmission, or all alternatives of a genie.
        """
        if snr_db not in self.made:
            start = time.perf_counter()
            made = make()
            self.made[snr_db] = made, time.perf_counter() - start
        return self.made[snr_db][0]

    def seconds(self, snr_db: float) -> float:
        """Time that the transmitter took for its output at one SNR.

        Args:
            snr_db: SNR of the channel in dB.

        Returns:
            Seconds.
        """
        known = None if None in self.made else float(torch.tensor(snr_db, dtype=torch.float32))
        return self.made[known][1]

    def total_seconds(self) -> float:
        """Time that the transmitter took for its outputs at all SNRs.

        Returns:
            Seconds.
        """
        return math.fsum(seconds for _, seconds in self.made.values())


@dataclass(frozen=True)
class Scheme(Generic[X]):
    """A transmission and a receiver for items of one modality, compared with others under one name.

    A scheme does not contain a channel; the channel is an argument of `transmit`.

    Args:
        name: Name in tables, figures and on the command line.
        transmission: Transmitter and receiver of the channel symbols, or a genie.
        receiver: Reconstructs the item shown from an observation.
        modality: Kind of item that is sent: image, video or text.
    """

    name: str
    transmission: Transmission[X] | Genie[X]
    receiver: Receiver[X]
    modality: Modality[Any] = IMAGE

    @library_defaults()
    def transmit(
        self,
        x: X,
        budget: Budget,
        channel: Channel,
        snr_db: SnrDb,
        rng: Streams,
        preparations: Preparations | None = None,
    ) -> list[Outcome[X]]:
        """Send one item over a batch of channel realisations, and measure channel uses and energy.

        The transmitter works on a copy of the item and has no access to `rng`; without CSIT it does not know
        the channel either. Channel uses and energy are measured on the symbols that enter the channel. The
        receiver gets the received symbols, the item's shape and the number of data symbols allowed, and
        nothing else.

        Args:
            x: One item of the scheme's modality.
            budget: Channel uses allowed, pilots and prefixes included.
            channel: The channel.
            snr_db: Average received Es/N0 in dB: one for all elements, or one per element of `rng`.
            rng: Random numbers of noise, fading and receiver; its batch size is the number of realisations.
            preparations: Cache of transmitter outputs for this item, channel and budget; None for no cache.

        Returns:
            One outcome per element of `rng`, in order.

        Raises:
            BudgetExceeded: More channel uses or energy were sent than allowed.
            FaultyTransmission: The symbols or the observations violate the protocol `Transmission` or
                `Genie`.
            FaultyReceiver: The receiver returned something other than an item of this shape.
            InvalidSource: `x` is not one item of this modality.
            InsufficientMemory: Item, budget and number of realisations need more memory than there is.
            InvalidOption: An SNR is NaN, or the number of SNRs is neither 1 nor the number of elements of
                `rng`.
        """
        x = self.modality.check(x)
        snrs = torch.as_tensor(snr_db, dtype=torch.float32).reshape(-1)
        if snrs.numel() == 1:
            snrs = snrs.expand(rng.batch)
        if snrs.numel() != rng.batch:
            raise InvalidOption(f"{snrs.numel()} SNRs for {rng.batch} items; give one, or one per item")
        if snrs.isnan().any():
            raise InvalidOption("SNR of nan dB; give a number")
        self._require_memory(x, budget, rng.batch)
        made = Preparations() if preparations is None else preparations
        outcomes: dict[int, Outcome[X]] = {}
        informed = self.transmission.csit == "average"
        for snr in snrs.unique().tolist() if informed else [None]:
            index = list(range(rng.batch)) if snr is None else (snrs == snr).nonzero().flatten().tolist()
            crossing = _Crossing(self.name, budget, channel, snrs[index], rng.select(index))
            known = None if snr is None else ChannelKnowledge(channel, snr)
            outcomes |= zip(index, self._send(x, crossing, known, made), strict=True)
        return [outcomes[i] for i in range(rng.batch)]

    def _require_memory(self, x: X, budget: Budget, realisations: int) -> None:
        users, kind = (self.transmission, self.receiver), self.modality.name
        values, uses = budget.source_dims, budget.channel_uses
        require_memory(
            sending_bytes(users, kind, values, uses, realisations),
            f"{self.name}: an item of {values:,} values in {uses:,} channel uses, {realisations} at once,",
            "crop or scale the item, lower rho, or take fewer SNRs at once",
        )

    def _send(
        self, x: X, crossing: "_Crossing", known: ChannelKnowledge | None, made: Preparations
    ) -> list[Outcome[X]]:
        shape, uses = self.modality.shape(x), crossing.channel.data_uses(crossing.budget.channel_uses)
        transmission = self.transmission
        own = copy.deepcopy(x)  # the transmitter may change its copy; metrics need the original
        if isinstance(transmission, Genie):
            genie = transmission
            whispered = made.get(known and known.snr_db, lambda: tuple(genie.send_all(own, uses, known)))
            spent, received = crossing.all(whispered)
            lost = spent.channel_uses == 0
            seen = [] if lost else genie.receive_knowing(whispered, received, shape, uses)
        else:
            plain = transmission
            whispered = made.get(
                known and known.snr_db, lambda: (Whispered(plain.send(own, uses, known), None),)
            )
            spent, (received,) = crossing.all(whispered)
            lost = spent.channel_uses == 0
            seen = [] if lost else plain.receive(received, shape, uses)
        sent, batch = whispered[0].sent, crossing.rng.batch
        observations = [Observation(None)] * batch if lost else _checked(seen, batch, self.name)
        rng = crossing.rng.fork("receiver")
        return [
            self._outcome(observation, shape, sent, spent, rng.select([i]))
            for i, observation in enumerate(observations)
        ]

    def _outcome(
        self, observation: Observation[X], shape: Any, sent: Sent, spent: Metered, rng: Streams
    ) -> Outcome[X]:
        decision: Mapping[str, float] = {}
        if isinstance(self.receiver, Decides):
            x_hat, decision = self.receiver.decided(observation, shape, rng)
        else:
            x_hat = self.receiver(observation, shape, rng)
        x_hat = self.modality.cover(shape) if x_hat is None else self._shown(x_hat, shape)
        info = {**sent.info, **observation.info, **decision}
        if isinstance(self.receiver, CallsNetwork):
            info["nfe"] = float(self.receiver.nfe)
        lost = observation.shown is None
        arrived = observation.shown if isinstance(self.receiver, MarksGuesses) else None
        return Outcome(x_hat, spent.channel_uses, spent.energy, lost, info, sent.cause, arrived)

    def _shown(self, x_hat: X, shape: Any) -> X:
        try:
            x_hat = self.modality.check(x_hat)
        except InvalidSource as error:
            raise FaultyReceiver(
                f"{self.name}: its receiver shows no {self.modality.name} ({error})"
            ) from None
        if self.modality.shape(x_hat) != shape:
            raise FaultyReceiver(
                f"{self.name}: its receiver shows {self.modality.shape(x_hat)}, expected {shape}; mend it"
            )
        return x_hat


@dataclass(frozen=True, eq=False, slots=True)
class _Crossing:
    """The only place where symbols cross the channel, for one batch of realisations."""

    scheme: str
    budget: Budget
    channel: Channel
    snr_db: Tensor
    rng: Streams

    def all(self, whispered: Sequence[Whispered]) -> tuple[Metered, list[Received]]:
        """Measure symbols and send them; all alternatives of a genie cross the same channel realisation."""
        spent = [metered(part.sent, self.budget, self.channel, self.scheme) for part in whispered]
        symbols = [part.sent.symbols.detach().expand(self.rng.batch, -1) for part in whispered]
        received = [transmit(self.channel, x, self.snr_db, self.rng.fork("channel")) for x in symbols]
        return max(spent, key=lambda metered: metered.channel_uses), received


def _checked(observations: object, batch: int, name: str) -> list[Observation]:
    """The observations of a batch, checked for number, type and finite record entries."""
    if not isinstance(observations, Sequence) or len(observations) != batch:
        raise FaultyTransmission(f"{name} does not observe {batch} receptions one by one; mend its receive")
    for observation in observations:
        if not isinstance(observation, Observation):
            raise FaultyTransmission(f"{name} observes a {type(observation).__name__}; mend its receive")
        if observation.shown is None and observation.evidence:
            raise FaultyTransmission(f"{name} has evidence of an item that it calls lost; mend its receive")
        for column, value in observation.info.items():
            if not math.isfinite(value):
                raise FaultyTransmission(f"{name} records {column} = {value}; leave it out where unknown")
    return list(observations)
