"""Distortion, and structural similarity: PSNR, SSIM, MS-SSIM."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from semcom.metrics.metric import Reference, check_pair
from semcom.sources import Image

WINDOW, WINDOW_STD = 11, 1.5  # Wang et al. 2004, III.B
C1, C2 = 0.01**2, 0.03**2  # (K L)^2 with L = 1, ibid. III.C
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, 3.2


@dataclass(frozen=True)
class PSNR:
    """Peak signal-to-noise ratio per item, at a peak of 1.

    PSNR = -10 log10(mean (x_hat - x)^2) dB over all pixels and colours, at most `cap_db`.

    The PSNR of a set is the mean of these, not the PSNR of the mean squared error. Values are compared as
    they are given, without rounding to 8 bits.

    Args:
        cap_db: Value for identical images; 100 dB lies above one wrong level in one pixel value of 150 000.

    Example:
        >>> PSNR()(torch.full((1, 3, 8, 8), 0.6), torch.full((1, 3, 8, 8), 0.5)).round(decimals=2)
        tensor([20.])
    """

    cap_db: float = 100.0

    @property
    def name(self) -> str:
        """Column of the records."""
        return "psnr_db"

    @property
    def higher_is_better(self) -> bool:
        """A similarity."""
        return True

    @property
    def needs(self) -> str:
        """Nothing."""
        return ""

    @property
    def min_side(self) -> int:
        """Any size."""
        return 1

    def __call__(self, x_hat: Image, x: Reference) -> Float[Tensor, " batch"]:
        """PSNR in dB."""
        check_pair(x_hat, x, self.min_side, self.name)
        mse = (x_hat - x).square().mean(dim=(1, 2, 3))
        return -10 * mse.clamp(min=10 ** (-self.cap_db / 10)).log10()


@dataclass(frozen=True)
class SSIM:
    """Structural similarity: mean over colours and over all places where the window lies inside the image.

    SSIM = (2 m_x m_y + C1)(2 s_xy + C2) / ((m_x^2 + m_y^2 + C1)(s_x^2 + s_y^2 + C2)), from local moments in
    an 11x11 Gaussian window of standard deviation 1.5, C1 = 0.01^2, C2 = 0.03^2. Where a side is below 11 the
    window shrinks to the largest odd length that fits.

    Reference:
        Wang, Bovik, Sheikh and Simoncelli, Image quality assessment, IEEE Trans. Image Processing 13(4),
        2004.
    """

    @property
    def name(self) -> str:
        """Column of the records."""
        return "ssim"

    @property
    def higher_is_better(self) -> bool:
        """A similarity; 1 for identical images."""
        return True

    @property
    def needs(self) -> str:
        """Nothing."""
        return ""

    @property
    def min_side(self) -> int:
        """Any size."""
        return 1

    def __call__(self, x_hat: Image, x: Reference) -> Float[Tensor, " batch"]:
        """SSIM in [-1, 1]."""
        check_pair(x_hat, x, self.min_side, self.name)
        similarity, _ = _similarity_per_color(x_hat, x)
        return similarity.mean(dim=1)


@dataclass(frozen=True)
class MSSSIM:
    """Multi-scale structural similarity: contrast and structure at several scales, luminance at the coarsest.

    MS-SSIM = l_M^w_M prod_j (cs_j)^w_j per colour, then the mean over colours; negative factors count as 0.
    From scale to scale the image is halved by 2x2 means; an odd last row or column is dropped. Five scales
    with the weights of the paper need sides of 176. A smaller image gets as many scales as keep its shorter
    side at 11 or more (88: four, 44: three, 22: two, else one), their weights scaled to the sum 1; such
    values compare with each other only.

    Reference:
        Wang, Simoncelli and Bovik, Multi-scale structural similarity for image quality assessment, Asilomar
        2003.
    """

    @property
    def name(self) -> str:
        """Column of the records."""
        return "ms_ssim"

    @property
    def higher_is_better(self) -> bool:
        """A similarity; 1 for identical images."""
        return True

    @property
    def needs(self) -> str:
        """Nothing."""
        return ""

    @property
    def min_side(self) -> int:
        """Any size."""
        return 1

    def __call__(self, x_hat: Image, x: Reference) -> Float[Tensor, " batch"]:
        """MS-SSIM in [0, 1]."""
        check_pair(x_hat, x, self.min_side, self.name)
        weights = scale_weights(min(x.shape[2:]))
        product = torch.ones((), dtype=x_hat.dtype, device=x_hat.device)
        for weight in weights[:-1]:
            _, contrast_structure = _similarity_per_color(x_hat, x)
            product = product * contrast_structure.relu() ** weight
            x_hat, x = functional.avg_pool2d(x_hat, 2), functional.avg_pool2d(x, 2)
        similarity, _ = _similarity_per_color(x_hat, x)
        return (product * similarity.relu() ** weights[-1]).mean(dim=1)


def scale_weights(side: int) -> tuple[float, ...]:
    """Exponents of MS-SSIM for an image whose shorter side is this long; they sum to 1."""
    scales = max(m for m in range(1, 6) if m == 1 or side // 2 ** (m - 1) >= WINDOW)
    kept = SCALE_WEIGHTS[:scales]
    return tuple(w / sum(kept) for w in kept)


def _similarity_per_color(
    x_hat: Image, x: Reference
) -> tuple[Float[Tensor, "batch 3"], Float[Tensor, "batch 3"]]:
    """SSIM, and its contrast-structure factor, averaged over the image."""
    x = x.expand_as(x_hat).contiguous(memory_format=torch.channels_last)
    x_hat = x_hat.contiguous(memory_format=torch.channels_last)
    products = torch.cat((x_hat, x, x_hat.square() + x.square(), x_hat * x), dim=1)
    mean_hat, mean, power, correlation = _local_mean(products).split(3, dim=1)
    mean_product, mean_power = mean_hat * mean, mean_hat.square() + mean.square()
    contrast_structure = (2 * (correlation - mean_product) + C2) / (power - mean_power + C2)
    luminance = (2 * mean_product + C1) / (mean_power + C1)
    return (luminance * contrast_structure).mean(dim=(2, 3)), contrast_structure.mean(dim=(2, 3))


def _local_mean(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
    """Windowed means wherever the window lies inside; depthwise convolution is fast with channels last."""
    colors = x.shape[1]
    rows, columns = _window(x.shape[2], x), _window(x.shape[3], x)
    x = functional.conv2d(x, rows.view(1, 1, -1, 1).repeat(colors, 1, 1, 1), groups=colors)
    x = functional.conv2d(x, columns.view(1, 1, 1, -1).repeat(colors, 1, 1, 1), groups=colors)
    return x.contiguous()


def _window(side: int, like: Tensor) -> Float[Tensor, " taps"]:
    taps = min(WINDOW, side - 1 + side % 2)
    offsets = torch.arange(taps, dtype=like.dtype, device=like.device) - taps // 2
    return torch.softmax(-offsets.square() / (2 * WINDOW_STD**2), dim=0)
