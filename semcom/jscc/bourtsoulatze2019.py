"""DeepJSCC of Bourtsoulatze et al. 2019, the reference for joint source-channel coding of images."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn

from channels.channel import Received, SnrDb
from channels.equalize import mmse
from channels.symbols import normalize_power, pack, unpack
from semcom.errors import BudgetTooSmall
from semcom.surroundings import library_defaults

KERNEL = 5  # all layers of the paper


class Bourtsoulatze2019(nn.Module):
    """DeepJSCC of Bourtsoulatze, Burth Kurka and Gündüz: five convolutions to symbols, five back to an image.

        x -> [conv 5x5, PReLU] x 5 -> c features at 1/s size -> c/2 complex symbols per position -> power 1
        y -> MMSE equaliser -> [transposed conv 5x5, PReLU] x 4, transposed conv, sigmoid -> x_hat

    k = c/2 * ceil(height/s) * ceil(width/s) symbols, where s is the product of the strides, so that rho = c /
    (6 s^2). Sizes that s does not divide are padded by repetition. If k then slightly exceeds the budget,
    symbols of the padded border are left out and the decoder reads zeros there.

    One network serves one rho and was trained at one SNR; it does not use the transmitter's knowledge of the
    SNR. Its knowledge of the channel is limited to the equaliser, which the paper does not have.

    Args:
        features: c, real values per position, even.
        strides: Strides of the five encoder layers.
        widths: Features after the first four encoder layers.

    Reference:
        Bourtsoulatze, Burth Kurka and Gündüz, Deep joint source-channel coding for wireless image
        transmission, IEEE Trans. Cogn. Commun. Netw. 5(3), 2019, fig. 2.

    Example:
        >>> network = Bourtsoulatze2019(features=8)
        >>> network.encode(torch.rand(1, 3, 32, 48), 384, None).shape
        torch.Size([1, 384])
    """

    @library_defaults()  # weights in single precision, whatever the caller's default
    def __init__(
        self,
        features: int,
        strides: Sequence[int] = (2, 2, 1, 1, 1),
        widths: Sequence[int] = (16, 32, 32, 32),
    ) -> None:
        super().__init__()
        self.config = {"features": features, "strides": list(strides), "widths": list(widths)}
        self.features = features
        self.stride = math.prod(strides)
        sizes = (3, *widths, features)
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for i, stride in enumerate(strides):
            inner, outer = sizes[i + 1], sizes[i]
            down += [nn.Conv2d(outer, inner, KERNEL, stride, KERNEL // 2), nn.PReLU(inner)]
            back = nn.ConvTranspose2d(inner, outer, KERNEL, stride, KERNEL // 2, output_padding=stride - 1)
            up = [back, nn.Sigmoid() if i == 0 else nn.PReLU(outer), *up]
        self.encoder = nn.Sequential(*down)
        self.decoder = nn.Sequential(*up)

    @property
    def name(self) -> str:
        """Canonical name with the denominator of rho, for instance "deepjscc-2019-12"."""
        return f"deepjscc-2019-{6 * self.stride**2 // self.features}"

    def least_uses(self, shape: tuple[int, ...]) -> int:
        """Smallest number of channel uses: c/2 symbols for each whole s x s block of the image.

        Args:
            shape: Shape of the image, (batch, 3, height, width); a side shorter than s counts as one block.

        Returns:
            Channel uses.
        """
        rows, columns = self._whole(shape)
        return self.features // 2 * rows * columns

    def encode(
        self, x: Float[Tensor, "batch 3 height width"], channel_uses: int, csit_snr_db: SnrDb | None = None
    ) -> Complex[Tensor, "batch uses"]:
        """Encode images to min(k, channel_uses) symbols.

        Args:
            x: Images in [0, 1], [batch, 3, height, width].
            channel_uses: Complex channel uses available, at least `least_uses`.
            csit_snr_db: SNR that the transmitter knows; not used.

        Returns:
            Symbols of average power 1 per item, complex [batch, uses].

        Raises:
            BudgetTooSmall: There are fewer channel uses than `least_uses`.
        """
        shape = tuple(x.shape)
        if channel_uses < self.least_uses(shape):
            raise BudgetTooSmall(
                f"{self.name} needs {self.least_uses(shape)} channel uses for an image of "
                f"{shape[3]}x{shape[2]}, budget is {channel_uses}; raise rho or take a network of smaller rho"
            )
        rows, columns = self._positions(shape)
        padding = (0, columns * self.stride - shape[3], 0, rows * self.stride - shape[2])
        features = self.encoder(nn.functional.pad(x, padding, mode="replicate")).float()
        # Two features of one position share a symbol.
        values = features.reshape(shape[0], self.features // 2, 2, rows * columns).transpose(2, 3)
        symbols = pack(values.flatten(1))  # [batch, c/2 * positions]
        return normalize_power(symbols[:, self._order(shape)[:channel_uses].to(x.device)])

    def decode(self, received: Received, shape: tuple[int, ...]) -> Float[Tensor, "batch 3 height width"]:
        """Decode received symbols to images in [0, 1].

        Args:
            received: Received symbols [batch, uses] with gain and noise variance.
            shape: Shape of the images, (batch, 3, height, width).

        Returns:
            Images, [batch, 3, height, width].
        """
        equalised, _ = mmse(received)
        rows, columns = self._positions(shape)
        order = self._order(shape)[: received.y.shape[1]].to(received.y.device)
        symbols = received.y.new_zeros(shape[0], self.features // 2 * rows * columns)
        symbols = symbols.index_copy(1, order, equalised)
        values = unpack(symbols).reshape(shape[0], self.features // 2, rows * columns, 2).transpose(2, 3)
        features = values.reshape(shape[0], self.features, rows, columns)
        return self.decoder(features).float()[:, :, : shape[2], : shape[3]]

    def _positions(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return -(-shape[2] // self.stride), -(-shape[3] // self.stride)

    def _whole(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return max(shape[2] // self.stride, 1), max(shape[3] // self.stride, 1)

    def _order(self, shape: tuple[int, ...]) -> Int[Tensor, " uses"]:
        """Order of the symbols: whole blocks first, then the padded border, which may not fit."""
        rows, columns = self._positions(shape)
        padded = torch.ones(rows, columns, dtype=torch.uint8)
        whole_rows, whole_columns = self._whole(shape)
        padded[:whole_rows, :whole_columns] = 0
        return padded.flatten().repeat(self.features // 2).argsort(stable=True)
