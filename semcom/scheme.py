"""The thing that is compared: a transmission and a receiver, with the channel between them."""

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
from semcom.transmission import ChannelKnowledge, Genie, Sent, Transmission, Whispered

X = TypeVar("X")


@runtime_checkable
class Receiver(Protocol[X]):
    """From what is known of an item to the item that is shown."""

    @property
    def name(self) -> str:
        """Canonical spelling ("direct", "ddnm:100")."""
        ...

    def __call__(self, observation: Observation[X], shape: Any, rng: Streams) -> X | None:
        """Show one item.

        Args:
            observation: All that is known of the item; nothing is shown and there is no evidence if it was
                lost.
            shape: Shape of the item, as its modality tells every receiver.
            rng: Random numbers of the receiver, of one item.

        Returns:
            The item, or None if there is nothing to show, for which the modality's cover is shown.
        """
        ...


@runtime_checkable
class CallsNetwork(Protocol):
    """A receiver whose network calls are recorded."""

    @property
    def nfe(self) -> int:
        """Network calls per item, vector-Jacobian products counted as calls."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Outcome(Generic[X]):
    """What became of one item, sent once.

    Args:
        x_hat: The item shown.
        channel_uses: Complex channel uses that crossed, pilots and prefixes included.
        energy: Energy that crossed, about `channel_uses` at most.
        outage: Whether the item was lost.
        info: Finite numbers for the record, by column name.
        cause: Why nothing was sent; empty if something was.
    """

    x_hat: X
    channel_uses: int
    energy: float
    outage: bool
    info: Mapping[str, float]
    cause: str = ""


@dataclass(eq=False)
class Preparations:
    """What the transmitter has made of one item for one channel and budget, so that it is made once.

    Args:
        made: Per SNR that the transmitter knows (None: it knows none) what is sent, and the seconds it took.
    """

    made: dict[float | None, tuple[tuple[Whispered, ...], float]] = field(default_factory=dict)

    def get(self, snr_db: float | None, make: Callable[[], tuple[Whispered, ...]]) -> tuple[Whispered, ...]:
        """What is sent at this SNR, made now if it was not before.

        Args:
            snr_db: SNR that the transmitter knows, None if it knows none.
            make: Makes it.

        Returns:
            One transmission, or those of a genie.
        """
        if snr_db not in self.made:
            start = time.perf_counter()
            made = make()
            self.made[snr_db] = made, time.perf_counter() - start
        return self.made[snr_db][0]

    def seconds(self, snr_db: float) -> float:
        """Time that the transmitter took for what was sent at this SNR.

        Args:
            snr_db: SNR of the channel in dB.

        Returns:
            Seconds.
        """
        known = None if None in self.made else float(torch.tensor(snr_db, dtype=torch.float32))
        return self.made[known][1]

    def total_seconds(self) -> float:
        """Time that the transmitter took for everything.

        Returns:
            Seconds.
        """
        return math.fsum(seconds for _, seconds in self.made.values())


@dataclass(frozen=True)
class Scheme(Generic[X]):
    """Transmission and receiver under the name that they have in tables and figures. It never owns a channel.

    Args:
        name: Name as on the command line.
        transmission: Item to symbols, and received symbols to what is known of the item.
        receiver: What is known of the item to the item shown.
        modality: What kind of item is sent.
    """

    name: str
    transmission: Transmission[X] | Genie[X]
    receiver: Receiver[X]
    modality: Modality[Any] = IMAGE

    def transmit(
        self,
        x: X,
        budget: Budget,
        channel: Channel,
        snr_db: SnrDb,
        rng: Streams,
        preparations: Preparations | None = None,
    ) -> list[Outcome[X]]:
        """Send one item to every element of `rng`, each at its SNR, and measure what crosses the channel.

        The transmitter works on a copy of the item and knows neither `rng` nor, without CSIT, the channel.
        The symbols cross the channel once; channel uses and energy are measured on them. The receiver side
        sees the received symbols, the item's shape and the channel uses allowed, and nothing else.

        Args:
            x: One item of the scheme's modality.
            budget: Channel uses allowed.
            channel: The medium.
            snr_db: Average received Es/N0 in dB: one for all, or one per element of `rng`.
            rng: Noise and fading, by item id.
            preparations: What the transmitter has made of this item for this channel and budget before.

        Returns:
            One outcome per element of `rng`.

        Raises:
            BudgetExceeded: More channel uses or energy crossed than allowed.
            FaultyTransmission: What is sent or observed is not what it must be.
            FaultyReceiver: What the receiver shows is no item of this shape.
            InvalidSource: Not one item of this modality.
            InvalidOption: An SNR is NaN, or the number of SNRs is not that of the elements of `rng`.
        """
        x = self.modality.check(x)
        snrs = torch.as_tensor(snr_db, dtype=torch.float32).reshape(-1)
        if snrs.numel() == 1:
            snrs = snrs.expand(rng.batch)
        if snrs.numel() != rng.batch:
            raise InvalidOption(f"{snrs.numel()} SNRs for {rng.batch} items; give one, or one per item")
        if snrs.isnan().any():
            raise InvalidOption("SNR of nan dB; give a number")
        made = Preparations() if preparations is None else preparations
        outcomes: dict[int, Outcome[X]] = {}
        informed = self.transmission.csit == "average"
        for snr in snrs.unique().tolist() if informed else [None]:
            index = list(range(rng.batch)) if snr is None else (snrs == snr).nonzero().flatten().tolist()
            crossing = _Crossing(self.name, budget, channel, snrs[index], rng.select(index))
            known = None if snr is None else ChannelKnowledge(channel, snr)
            outcomes |= zip(index, self._send(x, crossing, known, made), strict=True)
        return [outcomes[i] for i in range(rng.batch)]

    def _send(
        self, x: X, crossing: "_Crossing", known: ChannelKnowledge | None, made: Preparations
    ) -> list[Outcome[X]]:
        shape, uses = self.modality.shape(x), crossing.channel.data_uses(crossing.budget.channel_uses)
        transmission = self.transmission
        own = copy.deepcopy(x)  # whatever the transmitter does to its copy, the original stays
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
        x_hat = self.receiver(observation, shape, rng)
        x_hat = self.modality.cover(shape) if x_hat is None else self._shown(x_hat, shape)
        info = {**sent.info, **observation.info}
        if isinstance(self.receiver, CallsNetwork):
            info["nfe"] = float(self.receiver.nfe)
        lost = observation.shown is None
        return Outcome(x_hat, spent.channel_uses, spent.energy, lost, info, sent.cause)

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
    """One realisation of the channel for a batch: the only place where symbols cross it."""

    scheme: str
    budget: Budget
    channel: Channel
    snr_db: Tensor
    rng: Streams

    def all(self, whispered: Sequence[Whispered]) -> tuple[Metered, list[Received]]:
        """Measure and send; several transmissions of a genie meet the same realisation, one by one."""
        spent = [metered(part.sent, self.budget, self.channel, self.scheme) for part in whispered]
        symbols = [part.sent.symbols.detach().expand(self.rng.batch, -1) for part in whispered]
        received = [transmit(self.channel, x, self.snr_db, self.rng.fork("channel")) for x in symbols]
        return max(spent, key=lambda metered: metered.channel_uses), received


def _checked(observations: object, batch: int, name: str) -> list[Observation]:
    """Observations of a batch, if that is what they are."""
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
