"""Perceptual distances: LPIPS, which needs a backbone's weights, and sliced Wasserstein, which needs none."""

import functools
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from semcom.checkpoints import (
    DAMAGE,
    checkpoint_folder,
    load_checkpoint,
    load_tensors,
    require_checkpoint,
    require_digest,
)
from semcom.errors import InvalidOption, InvalidSource, MissingWeights
from semcom.metrics.lpips_network import Backbone, LpipsNetwork
from semcom.metrics.metric import Picture, Reference, check_device, check_one, check_pair, fits_picture
from semcom.modalities.image import Image
from semcom.surroundings import library_defaults

BACKBONE_FILES = {  # file names in torchvision
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
}
HEAD_DIGESTS = {  # SHA-256 of the linear heads, version 0.1, in the package lpips
    "squeeze": "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76",
    "alex": "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    "vgg": "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
}
# Per pixel value: measured on 3 million values with SqueezeNet; of the others counted from the sizes of what
# their first layers put out, not measured.
LPIPS_BYTES = {"squeeze": 270.0, "alex": 60.0, "vgg": 700.0}
LPIPS_SIDE = 32  # pixels; below it the backbones' pooling layers have nothing left to pool


def lpips(x_hat: Image, x: Reference, backbone: Backbone) -> Float[Tensor, " batch"]:
    """Learned perceptual image patch similarity of each image, version 0.1, linear heads included.

    d = sum over layers of the mean over places of w_l . (f_l(x_hat) - f_l(x))^2, f_l unit-normalised
    features. Images go in as [0, 1] and are scaled to [-1, 1] here. The network runs where `x_hat` is, and
    gradients reach `x_hat`. Nothing is downloaded: the backbone must lie in the torch cache,
    `$TORCH_HOME/hub/checkpoints`; it is loaded once per process.

    Args:
        x_hat: Received images [batch, 3, height, width] in [0, 1], sides of at least 32 pixels.
        x: Originals of the same shape, or one original for all.
        backbone: "squeeze" (SqueezeNet 1.1, fastest), "alex" (AlexNet, the authors' choice for evaluation) or
            "vgg" (VGG-16, slow on a CPU).

    Returns:
        LPIPS, at least 0, one value per image; 0 for identical images.

    Raises:
        MissingWeights: The backbone's file is absent or damaged.
        InvalidSource: Not images in [0, 1], not of one shape, or too small.

    Reference:
        Zhang, Isola, Efros, Shechtman and Wang, The unreasonable effectiveness of deep features as a
        perceptual metric, CVPR 2018.
    """
    x_hat, x = check_pair(x_hat, x, LPIPS_SIDE, f"lpips_{backbone}")
    network = lpips_network(backbone, x_hat.device)
    return network(x_hat.float() * 2 - 1, x.float() * 2 - 1).flatten()


@dataclass(frozen=True)
class LPIPS:
    """Learned perceptual image patch similarity of one image; see `lpips` for the equation.

    Args:
        backbone: "squeeze" (SqueezeNet 1.1, fastest), "alex" (AlexNet, the authors' choice for evaluation) or
            "vgg" (VGG-16, slow on a CPU).
        device: PyTorch device on which the network runs, such as "cpu" or "cuda"; images are moved there. Two
            metrics that differ only in it are equal.

    Raises:
        InvalidOption: The backbone is unknown, or the device does not exist on this machine.
        MissingWeights: At the first call: the backbone's file is absent, damaged or another file.

    Reference:
        Zhang, Isola, Efros, Shechtman and Wang, The unreasonable effectiveness of deep features as a
        perceptual metric, CVPR 2018.
    """

    backbone: Backbone
    device: str = field(default="cpu", compare=False)

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONE_FILES:
            raise InvalidOption(
                f"LPIPS backbone {self.backbone!r}: choose one of {', '.join(BACKBONE_FILES)}"
            )
        check_device(self.device, self.name)

    @property
    def name(self) -> str:
        """Name of the column in the records."""
        return f"lpips_{self.backbone}"

    @property
    def unit(self) -> str:
        """Empty string: LPIPS is dimensionless."""
        return ""

    @property
    def higher_is_better(self) -> bool:
        """False: LPIPS is a distance, 0 for identical images."""
        return False

    @property
    def bytes_per_value(self) -> float:
        """Peak memory per pixel value: activations of the first layers, of both images.

        On a GPU they are not in the memory that is asked for.
        """
        return LPIPS_BYTES[self.backbone] if torch.device(self.device).type == "cpu" else 12.0

    def require(self) -> None:
        """Check that the backbone's file lies in the torch cache.

        Raises:
            MissingWeights: The file is absent, damaged or another file.
        """
        require_checkpoint(BACKBONE_FILES[self.backbone], self.name)

    def fits(self, shape: object) -> bool:
        """Whether the shape is that of an image with sides of at least 32 pixels.

        Args:
            shape: Shape of an item of any modality.

        Returns:
            False for smaller images and for other modalities.
        """
        return fits_picture(shape, LPIPS_SIDE)

    @library_defaults()
    @torch.no_grad()
    def batch(self, x_hat: Image, x: Reference) -> Float[Tensor, " batch"]:
        """Compute the LPIPS of several images on `device`; see `lpips` for the equation.

        Args:
            x_hat: Received images [batch, 3, height, width] in [0, 1], sides of at least 32 pixels.
            x: Originals of the same shape, or one original for all.

        Returns:
            LPIPS, at least 0, [batch].

        Raises:
            InvalidSource: An argument is not a batch of images in [0, 1], the shapes differ, or they are too
                small.
            MissingWeights: The backbone's file is absent, damaged or another file.
        """
        # checked before anything is moved to the device
        x_hat, x = check_pair(x_hat, x, LPIPS_SIDE, self.name)
        return lpips(x_hat.to(self.device), x.to(self.device), self.backbone)

    @library_defaults()
    def __call__(self, x_hat: Picture, x: Picture) -> float:
        """Compute the LPIPS of one image; see `lpips` for the equation.

        Args:
            x_hat: Received image [1, 3, height, width] in [0, 1], sides of at least 32 pixels.
            x: Original of the same shape.

        Returns:
            LPIPS, at least 0.

        Raises:
            InvalidSource: An argument is not one image in [0, 1], the shapes differ, or they are too small.
            MissingWeights: The backbone's file is absent, damaged or another file.
        """
        check_one(x_hat, x, self.name)
        return self.batch(x_hat, x).item()


def lpips_network(backbone: Backbone, device: torch.device) -> nn.Module:
    """Load the LPIPS network with the weights of its authors; it compares two batches of images in [-1, 1].

    The network is loaded once per process and device; its weights have no gradients.

    Args:
        backbone: "squeeze", "alex" or "vgg".
        device: Device on which the network runs.

    Returns:
        The network in evaluation mode.

    Raises:
        MissingWeights: The backbone's file is absent, damaged or another file.
    """
    return _cached_network(backbone, device, str(checkpoint_folder()))


@functools.cache
@library_defaults()
def _cached_network(backbone: Backbone, device: torch.device, folder: str) -> nn.Module:
    """Load a network; `folder` only distinguishes entries of the cache."""
    name = f"lpips_{backbone}"
    trunk = load_checkpoint(BACKBONE_FILES[backbone], name)
    heads = load_tensors(_heads_file(backbone, name), name)
    with torch.device("meta"):  # avoids initialising random weights
        network = LpipsNetwork(backbone)
    try:
        weights = {key: trunk[f"features.{key}"].float() for key in network.features.state_dict()}
        network.features.load_state_dict(weights, assign=True)
        linear = {f"{i}.weight": heads[f"lin{i}.model.1.weight"].float() for i in range(len(network.heads))}
        network.heads.load_state_dict(linear, assign=True)
    except DAMAGE:
        raise MissingWeights(
            f"{name}: {BACKBONE_FILES[backbone]} in {folder} is of another network; replace it"
        ) from None
    return network.eval().requires_grad_(False).to(device)


def _heads_file(backbone: Backbone, name: str) -> Path:
    """File of the learned weights of layers, in the package lpips, which is not imported."""
    package = find_spec("lpips")
    if package is None or package.origin is None:
        raise MissingWeights(f"{name}: the package lpips, which has its heads, is not installed")
    path = Path(package.origin).parent / "weights" / "v0.1" / f"{backbone}.pth"
    require_digest(path, (HEAD_DIGESTS[backbone],), name)
    return path


PATCH = 7  # pixels; Karras et al. 2018, section 5
MIN_LEVEL_SIDE = 16  # pixels; Karras et al. 2018, section 5
BAND_STD, REST_STD = (
    0.05,
    0.2,
)  # RMS of bands (0.057, 0.045, 0.046, 0.052) and rest (0.19) over 100 BSDS photos
SEED = 2018  # seed of positions and directions: part of the definition, so independent of experiments


PATCHES, DIRECTIONS = 512, 128


def sliced_wasserstein(
    x_hat: Image, x: Reference, patches: int = PATCHES, directions: int = DIRECTIONS
) -> Float[Tensor, " batch"]:
    """Sliced Wasserstein distance between the multi-scale patches of each image and of its original.

    swd = 1000 mean over levels and directions u of W1({u . p_hat}, {u . p}), where p runs over 7x7x3 patches
    of one level of the Laplacian pyramid (5-tap binomial filter, halved down to sides of 16, low-pass rest
    last) and u over random unit vectors. Band-pass levels are divided by 0.05 and the low-pass rest by 0.2,
    their typical standard deviations in photographs.

    The distance compares the distribution of textures and colours, not their positions: it is a measure of
    perceptual quality, to be read beside a distortion measure. Another random choice of patch positions
    changes a value by about 3 %.

    The paper compares whole sets of images. Here patches of one image are compared with those of its
    original at the same positions; positions and directions are fixed (seed 2018); and levels are divided
    by constants instead of the mean and deviation of each set, which would hide a uniform loss of detail.

    Args:
        x_hat: Received images [batch, 3, height, width] in [0, 1], sides of at least 7 pixels.
        x: Originals of the same shape, or one original for all.
        patches: Patches per level, drawn with replacement, at least 1.
        directions: Number of random directions, at least 1.

    Returns:
        Distance times 1000, at least 0, one value per image; 0 for identical images.

    Raises:
        InvalidSource: Not images in [0, 1], not of one shape, or too small.

    Reference:
        Karras, Aila, Laine and Lehtinen, Progressive growing of GANs, ICLR 2018, section 5. Rabin, Peyre,
        Delon and Bernot, Wasserstein barycenter and its application to texture mixing, SSVM 2011.

    Example:
        >>> x = torch.linspace(0, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)
        >>> sliced_wasserstein(0.5 * x, x).round()
        tensor([1098.])
    """
    x_hat, x = check_pair(x_hat, x, PATCH, "swd")
    levels = zip(
        project_patches(x_hat, patches, directions), project_patches(x, patches, directions), strict=True
    )
    return 1000 * torch.stack([wasserstein_1d(a, b).mean(dim=-1) for a, b in levels]).mean(dim=0)


@dataclass(frozen=True)
class SlicedWasserstein:
    """Sliced Wasserstein distance of one image; see `sliced_wasserstein` for the equation.

    Args:
        patches: Patches per level, drawn with replacement, at least 1.
        directions: Number of random directions, at least 1.

    Raises:
        InvalidOption: `patches` or `directions` is below 1.

    Reference:
        Karras, Aila, Laine and Lehtinen, Progressive growing of GANs, ICLR 2018, section 5. Rabin, Peyre,
        Delon and Bernot, Wasserstein barycenter and its application to texture mixing, SSVM 2011.
    """

    patches: int = PATCHES
    directions: int = DIRECTIONS

    def __post_init__(self) -> None:
        if min(self.patches, self.directions) < 1:
            raise InvalidOption(
                f"{self.patches} patches and {self.directions} directions: at least 1 of each"
            )

    @property
    def name(self) -> str:
        """Name of the column in the records."""
        return "swd"

    @property
    def unit(self) -> str:
        """Empty string: the distance, multiplied by 1000, is dimensionless."""
        return ""

    @property
    def higher_is_better(self) -> bool:
        """False: the sliced Wasserstein distance is 0 for identical images."""
        return False

    def fits(self, shape: object) -> bool:
        """Whether the shape is that of an image that holds at least one patch of 7x7 pixels.

        Args:
            shape: Shape of an item of any modality.

        Returns:
            False for smaller images and for other modalities.
        """
        return fits_picture(shape, PATCH)

    @library_defaults()
    def batch(self, x_hat: Image, x: Reference) -> Float[Tensor, " batch"]:
        """Compute the distances of several images; see `sliced_wasserstein` for the equation.

        Args:
            x_hat: Received images [batch, 3, height, width] in [0, 1], sides of at least 7 pixels.
            x: Originals of the same shape, or one original for all.

        Returns:
            Distances times 1000, at least 0, [batch].

        Raises:
            InvalidSource: An argument is not a batch of images in [0, 1], the shapes differ, or they are too
                small.
        """
        return sliced_wasserstein(x_hat, x, self.patches, self.directions)

    @library_defaults()
    def __call__(self, x_hat: Picture, x: Picture) -> float:
        """Compute the distance of one image; see `sliced_wasserstein` for the equation.

        Args:
            x_hat: Received image [1, 3, height, width] in [0, 1], sides of at least 7 pixels.
            x: Original of the same shape.

        Returns:
            Distance times 1000, at least 0.

        Raises:
            InvalidSource: An argument is not one image in [0, 1], the shapes differ, or they are too small.
        """
        check_one(x_hat, x, self.name)
        return self.batch(x_hat, x).item()


class SetSlicedWasserstein:
    """Sliced Wasserstein distance between the patches of all received images and those of all originals.

    Patches are pooled over the set before the distance of `sliced_wasserstein` is taken (128 patches per
    image and level by default, as in the paper), so errors that average out over the set do not count. With
    equal `patches`, the value never exceeds the mean of the distances per image.

    Args:
        patches: Patches per image and level, drawn with replacement, at least 1.
        directions: Number of random directions, at least 1.

    Reference:
        Karras, Aila, Laine and Lehtinen, Progressive growing of GANs, ICLR 2018, section 5.
    """

    def __init__(self, patches: int = 128, directions: int = 128) -> None:
        self._item = SlicedWasserstein(patches, directions)
        self._received: list[list[Tensor]] = []
        self._originals: list[list[Tensor]] = []

    @property
    def name(self) -> str:
        """Name of the metric: "swd_set"."""
        return "swd_set"

    @property
    def higher_is_better(self) -> bool:
        """False: the distance is 0 for identical sets."""
        return False

    @library_defaults()
    def update(self, x_hat: Image, x: Image) -> None:
        """Add received images and their originals to the two sets.

        Args:
            x_hat: Received images [batch, 3, height, width] in [0, 1]; all images of a set must have the same
                number of pyramid levels.
            x: Originals of the same shape.

        Raises:
            InvalidSource: An argument is not a batch of images in [0, 1], the shapes differ, the images are
                too small, or the number of levels differs from that of the images before.
        """
        x_hat, x = check_pair(x_hat, x, PATCH, self.name)
        received, originals = (
            project_patches(each, self._item.patches, self._item.directions)
            for each in (x_hat, x.expand_as(x_hat))
        )
        if self._received and len(received) != len(self._received[0]):
            raise InvalidSource(
                f"{self.name}: image of {x.shape[3]}x{x.shape[2]} has {len(received)} levels, the set has "
                f"{len(self._received[0])}; keep to images of about one size"
            )
        self._received.append([level.flatten(0, 1) for level in received])
        self._originals.append([level.flatten(0, 1) for level in originals])

    @library_defaults()
    def compute(self) -> float:
        """Sliced Wasserstein distance between the two sets, times 1000.

        Returns:
            Distance, at least 0.

        Raises:
            InvalidOption: No images were added.
        """
        if not self._received:
            raise InvalidOption(f"{self.name} of an empty set: add at least one image")
        received = [torch.cat(level) for level in zip(*self._received, strict=True)]
        originals = [torch.cat(level) for level in zip(*self._originals, strict=True)]
        distances = [wasserstein_1d(a, b).mean() for a, b in zip(received, originals, strict=True)]
        return 1000 * torch.stack(distances).mean().item()


def project_patches(x: Image, patches: int, directions: int) -> list[Float[Tensor, "b patches directions"]]:
    """Project the patches of every level of a Laplacian pyramid onto random directions.

    Args:
        x: Images [batch, 3, height, width], sides of at least 7 pixels.
        patches: Patches per level.
        directions: Number of random directions; the same directions serve every image.

    Returns:
        Projections [batch, patches, directions] of every level, finest first, divided by the level's typical
        standard deviation in photographs.
    """
    u = unit_vectors(directions, 3 * PATCH**2, x.dtype, x.device)
    levels = laplacian_pyramid(x)
    scales = [BAND_STD] * (len(levels) - 1) + [REST_STD]
    return [take_patches(level, patches) @ u.T / scale for level, scale in zip(levels, scales, strict=True)]


def wasserstein_1d(a: Float[Tensor, "*b n d"], b: Float[Tensor, "*#b n d"]) -> Float[Tensor, "*b d"]:
    """One-dimensional Wasserstein distance W1 per direction: mean absolute difference of order statistics.

    Args:
        a: Samples [..., n, d]: n values along each of d directions.
        b: Samples of the same shape; leading dimensions may be 1.

    Returns:
        W1 of each direction [..., d], at least 0.
    """
    return (a.sort(dim=-2).values - b.sort(dim=-2).values).abs().mean(dim=-2)


def laplacian_pyramid(x: Image) -> list[Float[Tensor, "batch 3 h w"]]:
    """Laplacian pyramid of images: band-pass levels from fine to coarse, then the low-pass rest.

    Each step halves the sides, rounded up, down to 16 pixels.

    Args:
        x: Images [batch, 3, height, width].

    Returns:
        Levels [batch, 3, h, w], finest first.

    Reference:
        Burt and Adelson, The Laplacian pyramid as a compact image code, IEEE Trans. Communications 31(4),
        1983.
    """
    levels = []
    while min(x.shape[2:]) > 2 * (MIN_LEVEL_SIDE - 1):
        coarse = _binomial(x)[:, :, ::2, ::2]
        spread = torch.zeros_like(x)
        spread[:, :, ::2, ::2] = coarse
        levels.append(x - 4 * _binomial(spread))  # 4: three of four samples of `spread` are zero
        x = coarse
    return [*levels, x]


def take_patches(x: Float[Tensor, "b 3 h w"], count: int) -> Float[Tensor, "b {count} 147"]:
    """Take 7x7x3 patches at random positions, which are fixed for each image size.

    Args:
        x: Images [batch, 3, height, width], sides of at least 7 pixels.
        count: Patches per image, drawn with replacement.

    Returns:
        Patches [batch, count, 147].
    """
    height, width = x.shape[2:]
    rng = np.random.Generator(np.random.Philox(key=[SEED, height * 2**32 + width]))
    top, left = rng.integers(0, [[height - PATCH + 1], [width - PATCH + 1]], (2, count))
    offsets = (np.arange(PATCH)[:, None] * width + np.arange(PATCH)).ravel()
    index = torch.from_numpy((top * width + left)[:, None] + offsets).to(x.device)
    return x.flatten(2)[:, :, index].movedim(1, 2).flatten(2)  # [b, count, 3 * 49]


def unit_vectors(
    count: int, dims: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "{count} {dims}"]:
    """Draw random unit vectors, which are fixed for each number of dimensions.

    Args:
        count: Number of vectors.
        dims: Dimensions of each vector.
        dtype: Floating-point type of the result.
        device: Device of the result.

    Returns:
        Unit vectors [count, dims], uniformly distributed on the sphere.
    """
    rng = np.random.Generator(np.random.Philox(key=[SEED, dims]))
    return functional.normalize(torch.from_numpy(rng.standard_normal((count, dims))), dim=1).to(device, dtype)


def _binomial(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=x.dtype, device=x.device) / 16
    x = functional.pad(x, (2, 2, 2, 2), mode="reflect").contiguous(memory_format=torch.channels_last)
    x = functional.conv2d(x, taps.view(1, 1, -1, 1).repeat(3, 1, 1, 1), groups=3)
    return functional.conv2d(x, taps.view(1, 1, 1, -1).repeat(3, 1, 1, 1), groups=3)
