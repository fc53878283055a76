"""Distortion and structural similarity of images: PSNR, SSIM, MS-SSIM."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from semcom.metrics.metric import Picture, Reference, check_one, check_pair, fits_picture
from semcom.modalities.image import Image
from semcom.surroundings import library_defaults

WINDOW, WINDOW_STD = 11, 1.5  # Wang et al. 2004, III.B
C1, C2 = 0.01**2, 0.03**2  # (K L)^2 with L = 1, ibid. III.C
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, 3.2
CAP_DB = 100.0  # PSNR of identical pictures; above that of one wrong level in one of 150 000 pixel values


def psnr_db(x_hat: Image, x: Reference, cap_db: float = CAP_DB) -> Float[Tensor, " batch"]:
    """Peak signal-to-noise ratio of each image, at a peak of 1.

    PSNR = -10 log10(mean (x_hat - x)^2) dB over all pixels and colours, at most `cap_db`. Values are compared
    as they are given, without rounding to 8 bits.

    Args:
        x_hat: Received images [batch, 3, height, width] in [0, 1].
        x: Originals of the same shape, or one original for all.
        cap_db: Value for identical images, in dB.

    Returns:
        PSNR in dB, one value per image.

    Raises:
        InvalidSource: Not images in [0, 1], or not of one shape.

    Example:
        >>> psnr_db(torch.full((1, 3, 8, 8), 0.6), torch.full((1, 3, 8, 8), 0.5)).round(decimals=2)
        tensor([20.])
    """
    x_hat, x = check_pair(x_hat, x, name="psnr_db")
    mse = (x_hat - x).square().mean(dim=(1, 2, 3))
    return -10 * mse.clamp(min=10 ** (-cap_db / 10)).log10()


def ssim(x_hat: Image, x: Reference) -> Float[Tensor, " batch"]:
    """Structural similarity of each image: mean over colours and all places of the window.

    SSIM = (2 m_x m_y + C1)(2 s_xy + C2) / ((m_x^2 + m_y^2 + C1)(s_x^2 + s_y^2 + C2)), from local moments in
    an 11x11 Gaussian window of standard deviation 1.5 that lies inside the image, C1 = 0.01^2,
    C2 = 0.03^2. Where a side is below 11 the window shrinks to the largest odd length that fits.

    Args:
        x_hat: Received images [batch, 3, height, width] in [0, 1].
        x: Originals of the same shape, or one original for all.

    Returns:
        SSIM in [-1, 1], one value per image; 1 for identical images.

    Raises:
        InvalidSource: Not images in [0, 1], or not of one shape.

    Reference:
        Wang, Bovik, Sheikh and Simoncelli, Image quality assessment, IEEE Trans. Image Processing 13(4),
        2004.

    Example:
        >>> x = torch.linspace(0, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)
        >>> ssim(0.5 * x, x).round(decimals=4)
        tensor([0.7080])
    """
    x_hat, x = check_pair(x_hat, x, name="ssim")
    similarity, _ = _similarity_per_color(x_hat, x)
    return similarity.mean(dim=1)


def ms_ssim(x_hat: Image, x: Reference) -> Float[Tensor, " batch"]:
    """Multi-scale structural similarity of each image.

    MS-SSIM = l_M^w_M prod_j (cs_j)^w_j per colour, then the mean over colours; contrast and structure cs_j at
    scale j, luminance l_M at the coarsest scale M, negative factors count as 0. From scale to scale the
    image is halved by 2x2 means. Where a side is odd the convention is that of the package pytorch-msssim, by
    which learned codecs are compared: a line of zeros is put at both ends of it, so that 2n + 1 pixels become
    n + 1, the first and last of them darkened. Five scales with the weights of the paper need sides of 161. A
    smaller image gets as many scales as leave the window at least one place (81: four, 41: three, 21: two,
    else one), their weights scaled to the sum 1; such values compare with each other only.

    Args:
        x_hat: Received images [batch, 3, height, width] in [0, 1].
        x: Originals of the same shape, or one original for all.

    Returns:
        MS-SSIM in [0, 1], one value per image; 1 for identical images.

    Raises:
        InvalidSource: Not images in [0, 1], or not of one shape.

    Reference:
        Wang, Simoncelli and Bovik, Multi-scale structural similarity for image quality assessment, Asilomar
        2003; odd sides as in pytorch-msssim 1.0.0.

    Example:
        >>> x = torch.linspace(0, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)
        >>> ms_ssim(0.5 * x, x).round(decimals=4)
        tensor([0.7369])
    """
    x_hat, x = check_pair(x_hat, x, name="ms_ssim")
    weights = scale_weights(min(x.shape[2:]))
    product = torch.ones((), dtype=x_hat.dtype, device=x_hat.device)
    for weight in weights[:-1]:
        _, contrast_structure = _similarity_per_color(x_hat, x)
        product = product * contrast_structure.relu() ** weight
        odd = [side % 2 for side in x.shape[2:]]
        x_hat, x = (functional.avg_pool2d(image, 2, padding=odd) for image in (x_hat, x))
    similarity, _ = _similarity_per_color(x_hat, x)
    return (product * similarity.relu() ** weights[-1]).mean(dim=1)


@dataclass(frozen=True)
class PSNR:
    """Peak signal-to-noise ratio of one image, at a peak of 1; see `psnr_db` for the equation.

    The PSNR of a set is the mean of its images' PSNRs, not the PSNR of the mean squared error.

    Args:
        cap_db: Value for identical images, in dB.

    Example:
        >>> PSNR()(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
        100.0
    """

    cap_db: float = CAP_DB

    @property
    def name(self) -> str:
        """Name of the column in the records."""
        return "psnr_db"

    @property
    def unit(self) -> str:
        """Unit of the values: decibel."""
        return "dB"

    @property
    def higher_is_better(self) -> bool:
        """True: PSNR is a similarity, `cap_db` for identical images."""
        return True

    def fits(self, shape: object) -> bool:
        """Whether the shape is that of an image; any size can be measured.

        Args:
            shape: Shape of an item of any modality.

        Returns:
            True for (1, 3, height, width).
        """
        return fits_picture(shape)

    @library_defaults()
    def batch(self, x_hat: Image, x: Reference) -> Float[Tensor, " batch"]:
        """Compute the PSNR of several images; see `psnr_db` for the equation.

        Args:
            x_hat: Received images [batch, 3, height, width] in [0, 1].
            x: Originals of the same shape, or one original for all.

        Returns:
            PSNR in dB [batch], at most `cap_db`.

        Raises:
            InvalidSource: An argument is not a batch of images in [0, 1], or the shapes differ.
        """
        return psnr_db(x_hat, x, self.cap_db)

    @library_defaults()
    def __call__(self, x_hat: Picture, x: Picture) -> float:
        """Compute the PSNR of one image; see `psnr_db` for the equation.

        Args:
            x_hat: Received image [1, 3, height, width] in [0, 1].
            x: Original of the same shape.

        Returns:
            PSNR in dB, at most `cap_db`.

        Raises:
            InvalidSource: An argument is not one image in [0, 1], or the shapes differ.
        """
        check_one(x_hat, x, self.name)
        return self.batch(x_hat, x).item()


@dataclass(frozen=True)
class SSIM:
    """Structural similarity of one image; see `ssim` for the equation.

    Reference:
        Wang, Bovik, Sheikh and Simoncelli, Image quality assessment, IEEE Trans. Image Processing 13(4),
        2004.
    """

    @property
    def name(self) -> str:
        """Name of the column in the records."""
        return "ssim"

    @property
    def unit(self) -> str:
        """Empty string: SSIM is dimensionless."""
        return ""

    @property
    def higher_is_better(self) -> bool:
        """True: SSIM is a similarity, 1 for identical images."""
        return True

    def fits(self, shape: object) -> bool:
        """Whether the shape is that of an image; any size can be measured.

        Args:
            shape: Shape of an item of any modality.

        Returns:
            True for (1, 3, height, width).
        """
        return fits_picture(shape)

    @library_defaults()
    def batch(self, x_hat: Image, x: Reference) -> Float[Tensor, " batch"]:
        """Compute the SSIM of several images; see `ssim` for the equation.

        Args:
            x_hat: Received images [batch, 3, height, width] in [0, 1].
            x: Originals of the same shape, or one original for all.

        Returns:
            SSIM in [-1, 1], [batch].

        Raises:
            InvalidSource: An argument is not a batch of images in [0, 1], or the shapes differ.
        """
        return ssim(x_hat, x)

    @library_defaults()
    def __call__(self, x_hat: Picture, x: Picture) -> float:
        """Compute the SSIM of one image; see `ssim` for the equation.

        Args:
            x_hat: Received image [1, 3, height, width] in [0, 1].
            x: Original of the same shape.

        Returns:
            SSIM in [-1, 1].

        Raises:
            InvalidSource: An argument is not one image in [0, 1], or the shapes differ.
        """
        check_one(x_hat, x, self.name)
        return self.batch(x_hat, x).item()


@dataclass(frozen=True)
class MSSSIM:
    """Multi-scale structural similarity of one image; see `ms_ssim` for the equation.

    Reference:
        Wang, Simoncelli and Bovik, Multi-scale structural similarity for image quality assessment, Asilomar
        2003.
    """

    @property
    def name(self) -> str:
        """Name of the column in the records."""
        return "ms_ssim"

    @property
    def unit(self) -> str:
        """Empty string: MS-SSIM is dimensionless."""
        return ""

    @property
    def higher_is_better(self) -> bool:
        """True: MS-SSIM is a similarity, 1 for identical images."""
        return True

    def fits(self, shape: object) -> bool:
        """Whether the shape is that of an image; any size can be measured.

        Args:
            shape: Shape of an item of any modality.

        Returns:
            True for (1, 3, height, width).
        """
        return fits_picture(shape)

    @library_defaults()
    def batch(self, x_hat: Image, x: Reference) -> Float[Tensor, " batch"]:
        """Compute the MS-SSIM of several images; see `ms_ssim` for the equation.

        Args:
            x_hat: Received images [batch, 3, height, width] in [0, 1].
            x: Originals of the same shape, or one original for all.

        Returns:
            MS-SSIM in [0, 1], [batch].

        Raises:
            InvalidSource: An argument is not a batch of images in [0, 1], or the shapes differ.
        """
        return ms_ssim(x_hat, x)

    @library_defaults()
    def __call__(self, x_hat: Picture, x: Picture) -> float:
        """Compute the MS-SSIM of one image; see `ms_ssim` for the equation.

        Args:
            x_hat: Received image [1, 3, height, width] in [0, 1].
            x: Original of the same shape.

        Returns:
            MS-SSIM in [0, 1].

        Raises:
            InvalidSource: An argument is not one image in [0, 1], or the shapes differ.
        """
        check_one(x_hat, x, self.name)
        return self.batch(x_hat, x).item()


def scale_weights(side: int) -> tuple[float, ...]:
    """Exponents of MS-SSIM, finest scale first.

    Args:
        side: Shorter side of the image in pixels.

    Returns:
        One exponent per scale; they sum to 1.
    """
    scales = max(m for m in range(1, 6) if m == 1 or side > (WINDOW - 1) * 2 ** (m - 1))
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
