"""Protocol of learned joint source-channel coding."""

from typing import Protocol, runtime_checkable

from jaxtyping import Complex, Float
from torch import Tensor

from channels.channel import Received, SnrDb


@runtime_checkable
class DeepJSCC(Protocol):
    """A pair of networks that map pictures to channel symbols and back; usually an `nn.Module`.

    The decoder gets the received symbols, h and N0 as estimated by the receiver, and the shape of the
    picture. The shape and the number of symbols determine the layout of the symbols.
    """

    @property
    def name(self) -> str:
        """Canonical name, which is also the name of the network's error table ("deepjscc")."""
        ...

    def least_uses(self, shape: tuple[int, ...]) -> int:
        """Smallest number of channel uses with which a picture of a given shape can be sent.

        Args:
            shape: Shape of the picture, (1, 3, height, width).

        Returns:
            Complex channel uses per picture, at least 1.
        """
        ...

    def encode(
        self, x: Float[Tensor, "batch 3 height width"], channel_uses: int, csit_snr_db: SnrDb | None
    ) -> Complex[Tensor, "batch uses"]:
        """Encode pictures into channel symbols; differentiable in x.

        Args:
            x: RGB pictures in [0, 1], [batch, 3, height, width].
            channel_uses: Complex data symbols allowed per picture.
            csit_snr_db: Average received Es/N0 in dB as known to the transmitter; None without CSIT.

        Returns:
            Complex symbols of average power 1 per picture, [batch, uses], with uses <= channel_uses.

        Raises:
            BudgetTooSmall: `channel_uses` is smaller than `least_uses`.
        """
        ...

    def decode(self, received: Received, shape: tuple[int, ...]) -> Float[Tensor, "batch 3 height width"]:
        """Decode received symbols into pictures.

        Args:
            received: Receptions, y [batch, uses], with h and N0 as estimated by the receiver.
            shape: Shape of the pictures, (batch, 3, height, width).

        Returns:
            RGB pictures, [batch, 3, height, width] in [0, 1].
        """
        ...
