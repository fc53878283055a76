"""Flat areas of a picture, where networks give themselves away: periodic texture, and colours that drift."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from semcom.metrics.metric import Picture, Reference, check_one, check_pair, fits_picture
from semcom.modalities.image import Image
from semcom.surroundings import library_defaults

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
PERIOD = 16  # pixels: the coarsest grid of the U-Nets and of DeepJSCC
LAGS = ((0, PERIOD), (PERIOD, 0), (PERIOD, PERIOD))
MEAN_SIDE = 5  # pixels; what is smoother than this is no texture
WINDOW = 64  # pixels
STRIDE = 32  # pixels
BLOCK = 8  # pixels, a divisor of STRIDE
FLAT_STD = 3 / 255
ROUNDING_VAR = 1 / (12 * 255**2)  # of the rounding to 8 bits
GRID_SIDE = 2 * PERIOD  # pixels; half of the rows of a smaller window have no partner at the lag


def grid_periodicity(x_hat: Image, x: Reference) -> Float[Tensor, " batch"]:
    """Periodicity of a picture's texture at the 16-pixel grid of networks, where the original is flat.

    grid = mean over flat windows W and lags l in {(0, 16), (16, 0), (16, 16)} of
    sum_W h(p) h(p + l) / max(sqrt(sum_W h(p)^2 sum_W h(p + l)^2), n q),
    where h is the luma of x_hat less its mean over 5x5 pixels (at edges over the pixels that there are), the
    sums run over the n pairs of pixels p, p + l in the window, and q = 1 / (12 255^2) is the variance of
    rounding to 8 bits, below which there is no texture to speak of.

    Windows have 64x64 pixels (fewer in a smaller picture) and begin at multiples of 32. A window is as rough
    as the roughest of its 8x8 blocks, by the standard deviation of the original's luma; windows rougher than
    3/255 are left out. If that leaves none, the one that is least rough is taken, and whatever is regular in
    the original itself counts as well.

    A network that is fed with a smooth picture has only its own sampling grid to make texture of, and paints
    a pattern of the grid's period: values of 0.4 to 0.95. The original itself has about 0.01. Negative values
    are as good as 0.

    Args:
        x_hat: Received images [batch, 3, height, width] in [0, 1], sides of at least 32 pixels.
        x: Originals of the same shape, or one original for all; they only tell where to look.

    Returns:
        Mean autocorrelation in [-1, 1], [batch]; 1 for texture of period 16, 0 without periodic texture.

    Raises:
        InvalidSource: Not images in [0, 1], not of one shape, or too small.

    Reference:
        Odena, Dumoulin and Olah, Deconvolution and checkerboard artifacts, Distill, 2016 (the effect).

    Example:
        >>> stripes = (torch.arange(64) % 16 < 8).float().expand(1, 3, 64, 64)
        >>> grid_periodicity(0.4 + 0.1 * stripes, torch.full((1, 3, 64, 64), 0.5)) > 0.9
        tensor([True])
    """
    x_hat, x = check_pair(x_hat, x, GRID_SIDE, "grid")
    texture = _luma(x_hat)
    texture = texture - functional.avg_pool2d(texture, MEAN_SIDE, 1, MEAN_SIDE // 2, count_include_pad=False)
    correlations = torch.stack([_correlation(texture, *lag) for lag in LAGS]).mean(0)
    looked_at = _least_rough(roughness(x)).expand_as(correlations)
    return (correlations * looked_at).sum((1, 2)) / looked_at.sum((1, 2))


def roughness(x: Image) -> Float[Tensor, "batch rows columns"]:
    """Roughness of every window of 64x64 pixels: the largest deviation within a block of 8x8.

    Windows begin at multiples of 32 pixels, and are smaller if the image is.

    Args:
        x: Images [batch, 3, height, width] in [0, 1], sides of at least 8 pixels.

    Returns:
        Standard deviation of the luma within the roughest block of each window, [batch, rows, columns].
    """
    blocks = _luma(x)[:, 0].unfold(1, BLOCK, BLOCK).unfold(2, BLOCK, BLOCK)
    deviation = blocks.flatten(3).std(3, correction=0)
    height, width = (min(WINDOW // BLOCK, side) for side in deviation.shape[1:])
    return functional.max_pool2d(deviation[:, None], (height, width), STRIDE // BLOCK)[:, 0]


def colour_drift(refined: Image, decoded: Image, x: Image) -> Float[Tensor, " batch"]:
    """Largest drift of a flat area's mean colour, beyond the error of the decoder.

    drift = 255 max over flat windows and colours of |mean refined - mean x| - |mean decoded - mean x|, with
    windows of 64x64 pixels at multiples of 32 (smaller in a smaller picture) in which no 8x8 block of the
    original's luma has a standard deviation above 3/255.

    Args:
        refined: Images [batch, 3, height, width] in [0, 1], sides of at least 8 pixels.
        decoded: What they were made of, of the same shape.
        x: Originals of the same shape.

    Returns:
        Drift in levels of 8 bits, [batch]; negative where every colour came closer to the original's, NaN for
        an original without a flat window.

    Raises:
        InvalidSource: Not images in [0, 1], not of one shape, or too small.
    """
    refined, x = check_pair(refined, x, BLOCK, "drift")
    decoded, x = check_pair(decoded, x, BLOCK, "drift")
    means = [_window_mean(each) for each in (refined, decoded, x)]
    drift = 255 * ((means[0] - means[2]).abs() - (means[1] - means[2]).abs()).amax(1)
    flat = roughness(x) <= FLAT_STD
    worst = drift.masked_fill(~flat, -torch.inf).amax((1, 2))
    return worst.masked_fill(~flat.any(2).any(1), torch.nan)


@dataclass(frozen=True)
class GridPeriodicity:
    """Periodicity of texture at the grid of networks; see `grid_periodicity` for the equation.

    Reference:
        Odena, Dumoulin and Olah, Deconvolution and checkerboard artifacts, Distill, 2016 (the effect).
    """

    @property
    def name(self) -> str:
        """Name of the column in the records."""
        return "grid"

    @property
    def unit(self) -> str:
        """Empty string: an autocorrelation is dimensionless."""
        return ""

    @property
    def higher_is_better(self) -> bool:
        """False: a picture without periodic texture has 0."""
        return False

    def fits(self, shape: object) -> bool:
        """Whether the shape is that of an image with sides of at least 32 pixels.

        Args:
            shape: Shape of an item of any modality.

        Returns:
            False for smaller images and for other modalities.
        """
        return fits_picture(shape, GRID_SIDE)

    @library_defaults()
    def batch(self, x_hat: Image, x: Reference) -> Float[Tensor, " batch"]:
        """Compute the periodicity of several images; see `grid_periodicity` for the equation.

        Args:
            x_hat: Received images [batch, 3, height, width] in [0, 1], sides of at least 32 pixels.
            x: Originals of the same shape, or one original for all.

        Returns:
            Mean autocorrelation in [-1, 1], [batch].

        Raises:
            InvalidSource: An argument is not a batch of images in [0, 1], the shapes differ, or they are too
                small.
        """
        return grid_periodicity(x_hat, x)

    @library_defaults()
    def __call__(self, x_hat: Picture, x: Picture) -> float:
        """Compute the periodicity of one image; see `grid_periodicity` for the equation.

        Args:
            x_hat: Received image [1, 3, height, width] in [0, 1], sides of at least 32 pixels.
            x: Original of the same shape.

        Returns:
            Mean autocorrelation in [-1, 1].

        Raises:
            InvalidSource: An argument is not one image in [0, 1], the shapes differ, or they are too small.
        """
        check_one(x_hat, x, self.name)
        return self.batch(x_hat, x).item()


def _luma(x: Image) -> Float[Tensor, "batch 1 height width"]:
    weights = torch.tensor(LUMA, dtype=x.dtype, device=x.device)
    return (x * weights[:, None, None]).sum(1, keepdim=True)


def _window_mean(x: Tensor) -> Tensor:
    height, width = (min(WINDOW, side) for side in x.shape[2:])
    return functional.avg_pool2d(x, (height, width), STRIDE)


def _correlation(
    texture: Float[Tensor, "batch 1 height width"], down: int, right: int
) -> Float[Tensor, "batch rows columns"]:
    """Normalised autocorrelation of every window at one lag."""
    height, width = texture.shape[2:]
    window = min(WINDOW, height) - down, min(WINDOW, width) - right
    first, second = texture[:, :, : height - down, : width - right], texture[:, :, down:, right:]
    product, power, other = (
        functional.avg_pool2d(each, window, STRIDE)
        for each in (first * second, first.square(), second.square())
    )
    return (product / (power * other).clamp_min(ROUNDING_VAR**2).sqrt())[:, 0]


def _least_rough(roughness: Float[Tensor, "batch rows columns"]) -> Bool[Tensor, "batch rows columns"]:
    """Flat windows, or the least rough one."""
    return roughness <= roughness.amin((1, 2), keepdim=True).clamp_min(FLAT_STD)
