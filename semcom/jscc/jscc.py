"""The protocol of learned joint source-channel coding."""

from typing import Protocol, runtime_checkable

from jaxtyping import Complex, Float
from torch import Tensor

from channels.channel import Received, SnrDb


@runtime_checkable
class DeepJSCC(Protocol):
    """A pair of networks, image to channel symbols and back; an `nn.Module` in practice.

    What the decoder may know for free: the received symbols with the receiver's belief about them, and the
    shape of the item. From the shape it knows how the symbols are laid out.
    """

    @property
    def name(self) -> str:
        """Canonical spelling."""
        ...

    def least_uses(self, shape: tuple[int, ...]) -> int:
        """The fewest channel uses with which an item of this shape can be sent."""
        ...

    def encode(
        self, x: Float[Tensor, "batch 3 height width"], channel_uses: int, csit_snr_db: SnrDb | None
    ) -> Complex[Tensor, "batch uses"]:
        """At most `channel_uses` symbols of average power 1 per item; differentiable in x.

        Args:
            x: RGB in [0, 1].
            channel_uses: k allowed, per item.
            csit_snr_db: Average SNR as the transmitter knows it, None if it does not.

        Raises:
            BudgetTooSmall: Fewer channel uses than `least_uses`.
        """
        ...

    def decode(self, received: Received, shape: tuple[int, ...]) -> Float[Tensor, "batch 3 height width"]:
        """RGB in [0, 1] of the given shape [batch, 3, height, width]."""
        ...
