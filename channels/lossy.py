"""Packet loss as block fading: a lost packet is a block whose gain is 0, and the receiver knows it."""

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Complex
from torch import Tensor

from channels.channel import Channel, Received, SnrDb, check_state, spell
from channels.errors import ChannelError
from channels.streams import Streams


@runtime_checkable
class LossProcess(Protocol):
    """A stochastic process that decides which packets of an item are lost; an immutable value."""

    @property
    def name(self) -> str:
        """Canonical spelling of the parameters, such as "0.1", which the name of the channel contains.

        Returns:
            Numbers separated by colons.
        """
        ...

    @property
    def mean_loss(self) -> float:
        """Marginal probability that a packet is lost, equal for all packets.

        Returns:
            Probability in 0..1.
        """
        ...

    def draw(self, packets: int, rng: Streams) -> Bool[Tensor, "batch packets"]:
        """Draw which packets of each item are lost.

        Args:
            packets: Number of packets per item, at least 0.
            rng: Random streams, one per item.

        Returns:
            True for each lost packet, bool [batch, packets]. The first columns do not depend on `packets`.
        """
        ...


@dataclass(frozen=True)
class IndependentLoss:
    """Every packet is lost with the same probability, independently of all others.

    With the same random numbers, the packets lost at a lower probability are a subset of those lost at a
    higher one.

    Args:
        probability: Loss probability, 0..1.

    Raises:
        ChannelError: `probability` is outside 0..1.
    """

    probability: float

    def __post_init__(self) -> None:
        _check_probability(self.probability, "loss probability")

    @property
    def name(self) -> str:
        """Canonical spelling of the loss probability, such as "0.1"."""
        return spell(self.probability)

    @property
    def mean_loss(self) -> float:
        """Probability that a packet is lost."""
        return self.probability

    def draw(self, packets: int, rng: Streams) -> Bool[Tensor, "batch packets"]:
        """Draw which packets of each item are lost.

        Args:
            packets: Number of packets per item, at least 0.
            rng: Random streams, one per item.

        Returns:
            True for each lost packet, bool [batch, packets].
        """
        return rng.uniform("loss", (packets,)) < self.probability


@dataclass(frozen=True)
class GilbertElliott:
    """Packets are lost in bursts: a two-state Markov chain, with a loss probability in each state.

    The chain starts in its stationary distribution, P(bad) = p_good_to_bad / (p_good_to_bad + p_bad_to_good),
    and steps once per packet. Sojourns in the bad state are geometrically distributed with a mean of
    1 / p_bad_to_good packets; with the default loss probabilities (Gilbert's model) these are the runs of
    lost packets.

    Args:
        p_good_to_bad: Transition probability from the good to the bad state, 0..1.
        p_bad_to_good: Transition probability from the bad to the good state, 0..1; not both may be 0.
        loss_good: Loss probability in the good state, 0..1.
        loss_bad: Loss probability in the bad state, 0..1.

    Raises:
        ChannelError: A probability is outside 0..1, or both transition probabilities are 0.

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
        """Canonical spelling: "0.05:0.4", or "0.05:0.4:0.01:0.9" with losses other than 0 and 1."""
        losses = (self.loss_good, self.loss_bad)
        numbers = (self.p_good_to_bad, self.p_bad_to_good, *(() if losses == (0, 1) else losses))
        return ":".join(map(spell, numbers))

    @property
    def bad_share(self) -> float:
        """Stationary probability of the bad state, 0..1."""
        return self.p_good_to_bad / (self.p_good_to_bad + self.p_bad_to_good)

    @property
    def mean_loss(self) -> float:
        """Marginal probability that a packet is lost, 0..1."""
        return self.loss_good + (self.loss_bad - self.loss_good) * self.bad_share

    def draw(self, packets: int, rng: Streams) -> Bool[Tensor, "batch packets"]:
        """Draw which packets of each item are lost.

        Args:
            packets: Number of packets per item, at least 0.
            rng: Random streams, one per item.

        Returns:
            True for each lost packet, bool [batch, packets].
        """
        loss = torch.where(self._bad(packets, rng), self.loss_bad, self.loss_good)
        return rng.uniform("loss", (packets,)) < loss

    def _bad(self, packets: int, rng: Streams) -> Bool[Tensor, "batch packets"]:
        """Whether each packet is sent in the bad state: uniform < P(bad | previous state) at every step.

        A number below both probabilities leads to the bad state, one above both to the good state, whatever
        the previous one was. A number between them keeps the state if a bad state is the more likely to be
        followed by a bad one, and changes it otherwise. So a state follows from the last step that did not
        ask for the previous one, and from the number of steps since.
        """
        steps = rng.uniform("state", (packets,))
        place = torch.arange(packets, device=steps.device)
        after_good, after_bad = self.p_good_to_bad, 1 - self.p_bad_to_good
        low = torch.where(place > 0, min(after_good, after_bad), self.bad_share)
        high = torch.where(place > 0, max(after_good, after_bad), self.bad_share)
        decided = (steps < low) | (steps >= high)
        last = torch.where(decided, place, 0).cummax(1).values
        changed = (place - last) % 2 == 1 if after_good > after_bad else torch.zeros_like(decided)
        return (steps < low).gather(1, last) ^ changed


@dataclass(frozen=True, eq=False, slots=True)
class LossyState:
    """State of a `Lossy` channel for one batch.

    Args:
        inner: State of the inner channel.
        lost: True for each channel use of a lost packet, bool [batch, uses].
        noise: Complex Gaussian noise of variance 1 that the receiver gets in lost packets, [batch, uses].
    """

    inner: Any
    lost: Bool[Tensor, "batch uses"]
    noise: Complex[Tensor, "batch uses"]


@dataclass(frozen=True)
class Lossy:
    """A channel that loses whole packets: block fading with a gain of 0 or 1.

    y = m (h x + n) + (1 - m) n',  n' ~ CN(0, noise_var);  the receiver is given m h and noise_var.

    h, n and noise_var are those of the inner channel; m is 0 for every use of a lost packet and 1 elsewhere.
    Packet i holds the data symbols i packet_uses .. (i + 1) packet_uses - 1; the last may be shorter. The
    receiver knows which packets are lost, as in a packet network: their h is 0. Since n' is independent of x
    and n, a lost packet carries no information.

    Fading and noise of packets that arrive are exactly those of the inner channel alone, so results with and
    without loss can be compared in pairs. `snr_db` is the average over packets that arrive: E|m h|^2 is
    1 - loss. A channel with pilots belongs inside ("lossy:256:0.1/pilots:15/rayleigh:64"). Pilots around a
    `Lossy` channel are refused, since the receiver would interpolate over lost packets.

    Args:
        channel: The inner channel; any but another `Lossy`, which would lose the same packets.
        packet_uses: Data symbols per packet, at least 1.
        loss: Law of the losses.

    Raises:
        ChannelError: `packet_uses` is smaller than 1, or the inner channel loses packets, too.

    Example:
        >>> import torch
        >>> from channels import AWGN, NamedStreams, transmit
        >>> channel = Lossy(AWGN(), 2, IndependentLoss(0.3))
        >>> x = torch.ones(1, 6, dtype=torch.complex64)
        >>> transmit(channel, x, 10.0, NamedStreams(0, ("item",))).h.real
        tensor([[1., 1., 0., 0., 1., 1.]])
    """

    channel: Channel
    packet_uses: int
    loss: LossProcess

    def __post_init__(self) -> None:
        if self.packet_uses < 1:
            raise ChannelError(f"packets of {self.packet_uses} channel uses are too short; give at least 1")
        if isinstance(self.channel, Lossy):
            raise ChannelError(
                f"{self.channel.name} loses packets already, and the same ones; give one lossy with the "
                "probability of both"
            )

    @property
    def name(self) -> str:
        """Canonical spelling: "lossy:256:0.1/awgn", or in bursts "lossy:256:0.05:0.4/awgn"."""
        return f"lossy:{self.packet_uses}:{self.loss.name}/{self.channel.name}"

    def draw(self, uses: int, snr_db: SnrDb, rng: Streams) -> LossyState:
        """Draw the state of the inner channel, and independently which packets are lost.

        The inner channel draws from the same random streams as it would without losses.

        Args:
            uses: Data symbols per item, at least 0.
            snr_db: Average received Es/N0 in dB of packets that arrive, one for all or one per item.
            rng: Random streams, one per item.

        Returns:
            State for `apply`.
        """
        inner, own = self.channel.draw(uses, snr_db, rng), rng.fork("packet loss")
        lost = self.loss.draw(math.ceil(uses / self.packet_uses), own)
        per_use = lost.repeat_interleave(min(self.packet_uses, max(uses, 1)), dim=1)[:, :uses]
        return LossyState(inner, per_use, own.complex_normal("noise", (uses,)))

    def apply(self, x: Complex[Tensor, "batch uses"], state: LossyState) -> Received:
        """Send symbols through the inner channel, and replace what lost packets receive by noise.

        Args:
            x: Symbols [batch, uses].
            state: State drawn by `draw` for as many uses.

        Returns:
            Received symbols, gains (0 in lost packets) and noise variance.
        """
        check_state(x, state.noise)
        received = self.channel.apply(x, state.inner)
        lost, noise = state.lost.to(x.device), state.noise.to(x) * received.noise_var.sqrt()
        return Received(
            torch.where(lost, noise, received.y), received.h.masked_fill(lost, 0), received.noise_var
        )

    def overhead(self, uses: int) -> int:
        """Channel uses that the inner channel adds to a number of data symbols; losses add none.

        Args:
            uses: Data symbols, at least 0.

        Returns:
            Additional channel uses, at least 0.
        """
        return self.channel.overhead(uses)

    def data_uses(self, total: int) -> int:
        """Largest number of data symbols that the inner channel fits into a number of channel uses.

        Args:
            total: Channel uses, overhead included, at least 0.

        Returns:
            Data symbols, at least 0.
        """
        return self.channel.data_uses(total)


def _check_probability(value: float, what: str) -> None:
    if not 0 <= value <= 1:
        raise ChannelError(f"{what} of {value:g} is outside 0..1; give a share, not per cent")
