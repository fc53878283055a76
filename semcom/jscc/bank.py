"""Several networks of fixed bandwidth, the largest that fits being used."""

from dataclasses import dataclass

from jaxtyping import Complex, Float
from torch import Tensor

from channels.channel import Received, SnrDb
from semcom.errors import BudgetTooSmall
from semcom.jscc.jscc import DeepJSCC


@dataclass(frozen=True)
class Bank:
    """DeepJSCC whose networks serve one bandwidth ratio each.

    The encoder takes the first network whose `least_uses` fit the budget. The decoder finds the same one from
    the shape and the number of symbols received: a network before it needs more than were sent.

    Args:
        name: Canonical spelling.
        networks: From large rho to small.
    """

    name: str
    networks: tuple[DeepJSCC, ...]

    def least_uses(self, shape: tuple[int, ...]) -> int:
        """Those of the most frugal network."""
        return min(network.least_uses(shape) for network in self.networks)

    def encode(
        self, x: Float[Tensor, "batch 3 height width"], channel_uses: int, csit_snr_db: SnrDb | None = None
    ) -> Complex[Tensor, "batch uses"]:
        """Symbols of the largest network that fits.

        Raises:
            BudgetTooSmall: None does.
        """
        return self._fitting(tuple(x.shape), channel_uses).encode(x, channel_uses, csit_snr_db)

    def decode(self, received: Received, shape: tuple[int, ...]) -> Float[Tensor, "batch 3 height width"]:
        """RGB in [0, 1]."""
        return self._fitting(shape, received.y.shape[1]).decode(received, shape)

    def _fitting(self, shape: tuple[int, ...], channel_uses: int) -> DeepJSCC:
        for network in self.networks:
            if network.least_uses(shape) <= channel_uses:
                return network
        raise BudgetTooSmall(
            f"{self.name} needs {self.least_uses(shape)} channel uses for an image of {shape[3]}x{shape[2]}, "
            f"budget is {channel_uses}; raise rho"
        )
