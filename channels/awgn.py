"""Additive white Gaussian noise."""

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from channels.channel import Received, SnrDb, check_state, noise_var_column
from channels.streams import Streams


@dataclass(frozen=True, eq=False, slots=True)
class AWGNState:
    """Noise of one transmission over AWGN.

    Args:
        noise: Noise samples, complex [batch, uses], of variance N0.
        noise_var: N0 per complex channel use, [batch, 1].
    """

    noise: Complex[Tensor, "batch uses"]
    noise_var: Float[Tensor, "batch 1"]


@dataclass(frozen=True)
class AWGN:
    """Additive white Gaussian noise channel, circularly symmetric.

    y = x + n,  n ~ CN(0, N0),  N0 = 10^(-snr_db/10), half of it in each real part.

    Reference:
        Proakis and Salehi, Digital Communications, 5th ed., 2.9.

    Example:
        >>> import torch
        >>> from channels.streams import NamedStreams
        >>> channel = AWGN()
        >>> state = channel.draw(4, 10.0, NamedStreams(0, ("item",)))
        >>> channel.apply(torch.ones(1, 4, dtype=torch.complex64), state).y.shape
        torch.Size([1, 4])
    """

    @property
    def name(self) -> str:
        """Canonical name of the AWGN channel: "awgn"."""
        return "awgn"

    def draw(self, uses: int, snr_db: SnrDb, rng: Streams) -> AWGNState:
        """Draw noise of variance N0 = 10^(-snr_db/10) for `uses` symbols of each item."""
        noise = rng.complex_normal("noise", (uses,))
        noise_var = noise_var_column(snr_db, rng.batch).to(noise.device)
        return AWGNState(noise * noise_var.sqrt(), noise_var)

    def apply(self, x: Complex[Tensor, "batch uses"], state: AWGNState) -> Received:
        """Add the drawn noise; the receiver is told h = 1 and N0."""
        check_state(x, state.noise)
        return Received(x + state.noise.to(x), torch.ones_like(x), state.noise_var.to(x.device))

    def correlation(self, first: Int[Tensor, "..."], second: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Autocorrelation E[h(first) conj(h(second))] of the gain: 1 everywhere, because h = 1."""
        return torch.ones_like(first - second, dtype=torch.float64)

    def overhead(self, uses: int) -> int:
        """Channel uses added to `uses` data symbols: 0, since AWGN needs no pilots."""
        return 0

    def data_uses(self, total: int) -> int:
        """Data symbols that fit `total` channel uses: all `total`, since AWGN needs no pilots."""
        return total
