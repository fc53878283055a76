"""Channel state information at the receiver: estimated from pilots, known exactly, or absent."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from jaxtyping import Complex
from torch import Tensor

from channels.channel import Channel, Received, SnrDb
from channels.errors import ChannelError
from channels.estimation import PilotLayout, insert_pilots, interpolate_gains
from channels.fading import FlatChannel
from channels.impairments import Distortion, Impaired, undistorted
from channels.streams import Streams


class EstimatedChannel(Channel, Protocol):
    """A channel whose receiver estimates the gain from pilots, and which can also report the true gain."""

    def apply_genie(self, x: Complex[Tensor, "batch uses"], state: Any) -> Received:
        """Send data symbols as `apply` does, but report true gains and N0 without estimation error.

        Args:
            x: Data symbols, complex [batch, uses], average power 1 per item.
            state: State from `draw` for as many items and data symbols.

        Returns:
            The received symbols that `apply` returns for the same state, with true gains [batch, uses] and N0
            [batch, 1] or [batch, uses].

        Raises:
            ChannelError: The state was drawn for another number of items or uses.
        """
        ...


@dataclass(frozen=True)
class PilotAided:
    """A flat-fading channel whose receiver estimates the gain from pilots between the data symbols.

    A pilot of power 1 precedes every `spacing` data symbols, and one follows the last data symbol. The
    least-squares estimate at a pilot is h_p + n_p, n_p ~ CN(0, N0). Between pilots, the gain is interpolated
    by the Wiener filter over the 8 nearest pilots ("wiener", linear minimum mean square error) or linearly
    between two pilots ("linear", which fails across independent fading blocks). `noise_var` is N0 plus the
    mean square error of the estimate, in closed form from the autocorrelation of the fading. The receiver
    knows this autocorrelation and N0. Behind an amplifier that clips (`Impaired`), pilots and data have
    different gains; their ratio and the distortion of the data are known as well:

        y = h (c x + d) + n,  y_p = h c_p + n_p,  h_hat = c interpolation(y_p / c_p)
        noise_var = N0 + c^2 error + (|interpolation|^2 + error) E|d|^2

    with an average of 1 in place of the last bracket for linear interpolation.

    Phase noise and carrier offsets of `Impaired` are part of the gain that is estimated; it then sends no
    tracking pilots of its own.

    The estimate of a symbol also uses later pilots, so the estimates of the last symbols depend on the length
    of the transmission; gains and noise of the channel do not.

    Args:
        channel: A flat-fading channel.
        spacing: Data symbols between two pilots, at least 1.
        interpolation: "wiener" or "linear".

    Raises:
        ChannelError: `spacing` is smaller than 1, or the interpolation is unknown.

    Reference:
        Cavers, An Analysis of Pilot Symbol Assisted Modulation for Rayleigh Fading Channels, 1991.
    """

    channel: FlatChannel
    spacing: int
    interpolation: str = "wiener"

    def __post_init__(self) -> None:
        if self.spacing < 1:
            raise ChannelError(f"pilot spacing of {self.spacing} data symbols is too small; give at least 1")
        if self.interpolation not in ("linear", "wiener"):
            raise ChannelError(f"interpolation {self.interpolation!r} is unknown; choose linear or wiener")

    @property
    def name(self) -> str:
        """Canonical name, for instance "pilots:15/jakes:0.01", or "pilots:15:linear/jakes:0.01"."""
        suffix = "" if self.interpolation == "wiener" else f":{self.interpolation}"
        return f"pilots:{self.spacing}{suffix}/{self.channel.name}"

    def draw(self, uses: int, snr_db: SnrDb, rng: Streams) -> Any:
        """Draw the wrapped channel's fades and noise for data symbols and pilots together."""
        return self._medium.draw(uses + self._layout.pilots(uses), snr_db, rng)

    def apply(self, x: Complex[Tensor, "batch uses"], state: Any) -> Received:
        """Insert pilots, send all symbols through the wrapped channel, and estimate the gains."""
        received, told, data, pilot = self._send(x, state)
        if not x.shape[1]:
            return received[0:0]
        seen = received.y[:, pilot] / told.pilot_gain
        noise = (received.noise_var[:, :1] / told.pilot_gain.square()).expand(-1, len(pilot))
        h, error = interpolate_gains(seen, noise, data, pilot, self.channel.correlation, self.interpolation)
        noise_var = received.noise_var if received.noise_var.shape[1] == 1 else received.noise_var[:, data]
        fade = torch.view_as_real(h).square().sum(-1) + error if self.interpolation == "wiener" else 1.0
        noise_var = noise_var + told.gain.square() * error + told.power * fade
        return Received(received.y[:, data], told.gain * h, noise_var)

    def apply_genie(self, x: Complex[Tensor, "batch uses"], state: Any) -> Received:
        """Send data and pilots as `apply` does, but report the wrapped channel's own gain and N0."""
        received, told, data, _ = self._send(x, state)
        noise_var = received.noise_var if received.noise_var.shape[1] == 1 else received.noise_var[:, data]
        h = received.h[:, data]
        fade = torch.view_as_real(h).square().sum(-1)
        return Received(received.y[:, data], told.gain * h, noise_var + told.power * fade)

    def overhead(self, uses: int) -> int:
        """Channel uses added to `uses` data symbols: pilots, and overhead of the wrapped channel."""
        pilots = self._layout.pilots(uses)
        return pilots + self._medium.overhead(uses + pilots)

    def data_uses(self, total: int) -> int:
        """Data symbols that fit `total` channel uses beside pilots and the wrapped channel's overhead."""
        return self._layout.data_uses(self._medium.data_uses(total))

    @property
    def _layout(self) -> PilotLayout:
        return PilotLayout(self.spacing)

    @property
    def _medium(self) -> FlatChannel:
        """The wrapped channel without tracking pilots of its own."""
        return replace(self.channel, tracking=0) if isinstance(self.channel, Impaired) else self.channel

    def _send(self, x: Tensor, state: Any) -> tuple[Received, Distortion, Tensor, Tensor]:
        """What arrives, the amplifier's effect, and which symbols are data and pilots."""
        data, pilot = self._layout.places(x.shape[1], x.device)
        symbols = insert_pilots(x, data, len(pilot))
        medium = self._medium
        if isinstance(medium, Impaired):
            received, told = medium.apply_distorting(symbols, state, data)
        else:
            received = medium.apply(symbols, state)
            told = undistorted(received.noise_var)
        return received, told, data, pilot


@dataclass(frozen=True)
class GenieCSI:
    """A channel with pilots whose receiver is told the true gain, to measure the cost of estimation.

    Pilots are sent and counted as before. Flat channels without pilots already report their true gain and
    need no wrapper.

    Args:
        channel: A channel that estimates its gain or its phase: `PilotAided`, `OFDM` or `Impaired`.
    """

    channel: EstimatedChannel

    @property
    def name(self) -> str:
        """Canonical name, for instance "genie/ofdm:tdl-a:100:10"."""
        return f"genie/{self.channel.name}"

    def draw(self, uses: int, snr_db: SnrDb, rng: Streams) -> Any:
        """Draw the fades and noise of the wrapped channel, pilots included."""
        return self.channel.draw(uses, snr_db, rng)

    def apply(self, x: Complex[Tensor, "batch uses"], state: Any) -> Received:
        """Send x through the wrapped channel and report true gains and noise variance (`apply_genie`)."""
        return self.channel.apply_genie(x, state)

    def overhead(self, uses: int) -> int:
        """Channel uses added to `uses` data symbols by the wrapped channel, pilots included."""
        return self.channel.overhead(uses)

    def data_uses(self, total: int) -> int:
        """Data symbols that fit `total` channel uses of the wrapped channel, pilots included."""
        return self.channel.data_uses(total)


@dataclass(frozen=True)
class NoCSI:
    """A channel whose receiver does not know the gain: it assumes h = 1 and the average noise variance.

    The assumption is wrong on purpose: y still contains amplitude and phase of the true gain.

    Args:
        channel: Any channel.
    """

    channel: Channel

    @property
    def name(self) -> str:
        """Canonical name, for instance "no-csi/rayleigh:64"."""
        return f"no-csi/{self.channel.name}"

    def draw(self, uses: int, snr_db: SnrDb, rng: Streams) -> Any:
        """Draw the fades and noise of the wrapped channel."""
        return self.channel.draw(uses, snr_db, rng)

    def apply(self, x: Complex[Tensor, "batch uses"], state: Any) -> Received:
        """Send x through the wrapped channel; report h = 1 and the average noise variance."""
        received = self.channel.apply(x, state)
        return Received(received.y, torch.ones_like(received.h), received.noise_var.mean(1, keepdim=True))

    def overhead(self, uses: int) -> int:
        """Channel uses added to `uses` data symbols by the wrapped channel."""
        return self.channel.overhead(uses)

    def data_uses(self, total: int) -> int:
        """Data symbols that fit `total` channel uses of the wrapped channel."""
        return self.channel.data_uses(total)
