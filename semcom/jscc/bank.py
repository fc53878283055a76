"""Bank of DeepJSCC networks of fixed bandwidth, of which the largest that fits is used."""

from dataclasses import dataclass

from jaxtyping import Complex, Float
from torch import Tensor

from channels.channel import Received, SnrDb
from semcom.errors import BudgetTooSmall
from semcom.jscc.jscc import DeepJSCC


@dataclass(frozen=True)
class Bank:
    """DeepJSCC from several networks that serve one bandwidth ratio each.

    The encoder takes the first network whose `least_uses` fit the budget. The decoder finds the same one from
    the shape and the number of received symbols, because the networks before it need more than were sent.

    Args:
        name: Canonical name of the bank.
        networks: Networks from large rho to small.
    """

    name: str
    networks: tuple[DeepJSCC, ...]

    def least_uses(self, shape: tuple[int, ...]) -> int:
        """Smallest number of channel uses, that of the network with the smallest rho."""
        return min(network.least_uses(shape) for network in self.networks)

    def encode(
        self, x: Float[Tensor, "batch 3 height width"], channel_uses: int, csit_snr_db: SnrDb | None = None
    ) -> Complex[Tensor, "batch uses"]:
        """Encode images by the largest network that fits; `BudgetTooSmall` if none does.

        Args:
            x: Images in [0, 1], [batch, 3, height, width].
            channel_uses: Complex channel uses available.
            csit_snr_db: SNR in dB that the transmitter knows, or None.

        Returns:
            Symbols of average power 1 per item, complex [batch, uses].

        Raises:
            BudgetTooSmall: No network fits.
        """
        return self._fitting(tuple(x.shape), channel_uses).encode(x, channel_uses, csit_snr_db)

    def decode(self, received: Received, shape: tuple[int, ...]) -> Float[Tensor, "batch 3 height width"]:
        """Decode received symbols to images in [0, 1] by the network that fits their number.

        Args:
            received: Received symbols [batch, uses] with gain and noise variance.
            shape: Shape of the images, (batch, 3, height, width).

        Returns:
            Images, [batch, 3, height, width].
        """
        return self._fitting(shape, received.y.shape[1]).decode(received, shape)

    def _fitting(self, shape: tuple[int, ...], channel_uses: int) -> DeepJSCC:
        for network in self.networks:
            if network.least_uses(shape) <= channel_uses:
                return network
        raise BudgetTooSmall(
            f"{self.name} needs {self.least_uses(shape)} channel uses for an image of {shape[3]}x{shape[2]}, "
            f"budget is {channel_uses}; raise rho"
        )
