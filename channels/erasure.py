"""Packet loss, independent and in bursts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from channels.channel import spell
from channels.errors import ChannelError
from channels.streams import Streams


class PacketChannel(Protocol):
    """A medium for packets that arrive whole or not at all."""

    @property
    def name(self) -> str:
        """Canonical spelling ("erasure:0.1")."""
        ...

    def __call__(self, packets: Sequence[bytes], rng: Streams) -> tuple[bytes | None, ...]:
        """The packets of one item in order, None for each that is lost."""
        ...


@dataclass(frozen=True)
class IndependentErasure:
    """Every packet is lost with the same probability, whatever happens to the others.

    Losses at a lower probability are a subset of those at a higher one.

    Args:
        loss_probability: 0..1.

    Raises:
        ChannelError: `loss_probability` outside 0..1.
    """

    loss_probability: float

    def __post_init__(self) -> None:
        _check_probability(self.loss_probability, "loss probability")

    @property
    def name(self) -> str:
        """Canonical spelling: "erasure:0.1"."""
        return f"erasure:{spell(self.loss_probability)}"

    @property
    def mean_loss(self) -> float:
        """Share of packets lost."""
        return self.loss_probability

    def __call__(self, packets: Sequence[bytes], rng: Streams) -> tuple[bytes | None, ...]:
        """Drop packets."""
        luck = _luck(rng, "loss", len(packets))
        return tuple(
            None if u < self.loss_probability else packet for u, packet in zip(luck, packets, strict=True)
        )


@dataclass(frozen=True)
class GilbertElliott:
    """Packets are lost in bursts: a Markov chain of a good and a bad state, each with a loss probability.

    The chain starts in its stationary distribution, P(bad) = p_good_to_bad / (p_good_to_bad + p_bad_to_good),
    and steps once per packet. Stays in the bad state last 1 / p_bad_to_good packets on average, geometrically
    distributed; with the default losses (Gilbert's model) these are the runs of lost packets.

    Args:
        p_good_to_bad: Probability of leaving the good state, 0..1.
        p_bad_to_good: Probability of leaving the bad state, 0..1; not both 0.
        loss_good: Loss probability in the good state, 0..1.
        loss_bad: Loss probability in the bad state, 0..1.

    Raises:
        ChannelError: A probability outside 0..1, or no way between the states.

    Reference:
        Gilbert, Capacity of a Burst-Noise Channel, 1960; Elliott, Estimates of Error Rates for Codes on
        Burst-Noise Channels, 1963.
    """

    p_good_to_bad: float
    p_bad_to_good: float
    loss_good: float = 0.0
    loss_bad: float = 1.0

    def __post_init__(self) -> None:
        _check_probability(self.p_good_to_bad, "transition probability")
        _check_probability(self.p_bad_to_good, "transition probability")
        _check_probability(self.loss_good, "loss probability")
        _check_probability(self.loss_bad, "loss probability")
        if self.p_good_to_bad + self.p_bad_to_good == 0:
            raise ChannelError(
                "both transition probabilities are 0, so no share of time is spent in either state; raise one"
            )

    @property
    def name(self) -> str:
        """Canonical spelling: "gilbert-elliott:0.05:0.4:0:1"."""
        numbers = (self.p_good_to_bad, self.p_bad_to_good, self.loss_good, self.loss_bad)
        return "gilbert-elliott:" + ":".join(map(spell, numbers))

    @property
    def bad_share(self) -> float:
        """Share of packets sent in the bad state."""
        return self.p_good_to_bad / (self.p_good_to_bad + self.p_bad_to_good)

    @property
    def mean_loss(self) -> float:
        """Share of packets lost."""
        return self.loss_good + (self.loss_bad - self.loss_good) * self.bad_share

    def __call__(self, packets: Sequence[bytes], rng: Streams) -> tuple[bytes | None, ...]:
        """Walk through the states and drop packets."""
        steps, luck = _luck(rng, "state", len(packets)), _luck(rng, "loss", len(packets))
        arrived: list[bytes | None] = []
        bad = False
        for index, packet in enumerate(packets):
            to_bad = 1 - self.p_bad_to_good if bad else self.p_good_to_bad
            bad = steps[index] < (to_bad if index else self.bad_share)
            arrived.append(None if luck[index] < (self.loss_bad if bad else self.loss_good) else packet)
        return tuple(arrived)


def _check_probability(value: float, what: str) -> None:
    if not 0 <= value <= 1:
        raise ChannelError(f"{what} of {value:g} is outside 0..1; give a share, not per cent")


def _luck(rng: Streams, purpose: str, count: int) -> list[float]:
    if rng.batch != 1:
        raise ChannelError(f"packets are those of one item, but the streams are of {rng.batch}; select one")
    return list(map(float, rng.uniform(purpose, (count,))[0]))
