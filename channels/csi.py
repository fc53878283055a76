"""Channel state information at the receiver: estimated from pilots, known exactly, or absent."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Complex
from torch import Tensor

from channels.channel import Channel, Received, SnrDb
from channels.errors import ChannelError
from channels.estimation import estimation_error, linear_weights, wiener_weights
from channels.fading import FlatChannel
from channels.impairments import Distortion, Impaired, undistorted
from channels.streams import Streams

# Number of pilots used by the Wiener filter, half of them on each side; more would hardly lower the error.
WINDOW = 8


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
        return self.channel.draw(uses + self._pilots(uses), snr_db, rng)

    def apply(self, x: Complex[Tensor, "batch uses"], state: Any) -> Received:
        """Insert pilots, send all symbols through the wrapped channel, and estimate the gains."""
        received, told, data, pilot = self._send(x, state)
        if not x.shape[1]:
            return received[0:0]
        seen = received.y[:, pilot] / told.pilot_gain
        h, error = self._interpolate(seen, data, pilot, received.noise_var[:, :1] / told.pilot_gain.square())
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
        total = uses + self._pilots(uses)
        return total - uses + self.channel.overhead(total)

    def data_uses(self, total: int) -> int:
        """Data symbols that fit `total` channel uses beside pilots and the wrapped channel's overhead."""
        whole, rest = divmod(max(self.channel.data_uses(total) - 1, 0), self.spacing + 1)
        return whole * self.spacing + max(rest - 1, 0)

    def _pilots(self, uses: int) -> int:
        return math.ceil(uses / self.spacing) + 1 if uses else 0

    def _send(self, x: Tensor, state: Any) -> tuple[Received, Distortion, Tensor, Tensor]:
        """What arrives, the amplifier's effect, and which symbols are data and pilots."""
        uses = x.shape[1]
        index = torch.arange(uses, device=x.device)
        data = index + index // self.spacing + 1
        total = uses + self._pilots(uses)
        pilot = torch.arange(0, total, self.spacing + 1, device=x.device)
        if uses and uses % self.spacing:
            pilot = torch.cat((pilot, pilot.new_tensor([total - 1])))
        symbols = torch.ones(x.shape[0], total, dtype=x.dtype, device=x.device).index_copy(1, data, x)
        if isinstance(self.channel, Impaired):
            received, told = self.channel.apply_distorting(symbols, state, data)
        else:
            received = self.channel.apply(symbols, state)
            told = undistorted(received.noise_var)
        return received, told, data, pilot

    def _interpolate(
        self, seen: Tensor, data: Tensor, pilot: Tensor, noise_var: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gain and mean square error at the data, from the gains seen at the pilots [batch, pilots]."""
        uses, segments = len(data), len(pilot) - 1
        data, pilot, per_item = data.cpu(), pilot.cpu(), noise_var.flatten().cpu().double()
        window = min(WINDOW if self.interpolation == "wiener" else 2, len(pilot))
        first = (torch.arange(segments) - window // 2 + 1).clamp(0, len(pilot) - window)
        chosen = first[:, None] + torch.arange(window)  # [segments, window]
        places = torch.nn.functional.pad(data, (0, segments * self.spacing - uses), value=int(data[-1]))
        places = places.reshape(segments, self.spacing)
        near = pilot[chosen]
        cross = self.channel.correlation(places[:, :, None], near[:, None, :])
        covariance = self.channel.correlation(near[:, :, None], near[:, None, :])
        power = float(self.channel.correlation(data[:1], data[:1]).real)
        h = torch.empty(seen.shape[0], uses, dtype=seen.dtype, device=seen.device)
        error = torch.empty_like(h.real)
        for variance in sorted(set(map(float, per_item))):
            if self.interpolation == "wiener":
                weights = wiener_weights(cross, covariance, variance)
            else:
                weights = linear_weights(places.double(), near.double()).to(cross)
            items = (per_item == variance).nonzero().flatten().to(seen.device)
            around = seen[items][:, chosen.to(seen.device)]  # [items, segments, window]
            h[items] = torch.einsum("bsw,sdw->bsd", around, weights.to(seen)).flatten(1)[:, :uses]
            missed = estimation_error(weights, cross, covariance, variance, power)
            error[items] = missed.flatten()[:uses].to(error)
        return h, error


@dataclass(frozen=True)
class GenieCSI:
    """A channel with pilots whose receiver is told the true gain, to measure the cost of estimation.

    Pilots are sent and counted as before. Flat channels without pilots already report their true gain and
    need no wrapper.

    Args:
        channel: A channel that estimates its gain: `PilotAided` or `OFDM`.
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
