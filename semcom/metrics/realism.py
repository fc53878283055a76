"""Realism of a set of images: FID and KID, distances between Inception features."""

from io import BytesIO
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from semcom.checkpoints import DAMAGE, checkpoint_folder, load_checkpoint
from semcom.errors import InvalidOption, MissingWeights
from semcom.metrics.metric import check_pair
from semcom.modalities.image import Image, to_uint8
from semcom.surroundings import ignored_warnings, library_defaults

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"  # file name in torch-fidelity
DIMS = 2048  # features of the last layer before the classifier
ROWS_AT_ONCE = 256  # rows of the kernel matrix; 50 000 items take 0.3 GB


class FID:
    """Frechet Inception distance: distance between Gaussians with the moments of the two feature sets.

    FID = |m_hat - m|^2 + tr(S_hat + S - 2 (S_hat S)^(1/2)) over 2048 Inception-v3 features.

    The bias of FID falls with 1/N and depends on the scheme: values from sets of different size N are not
    comparable, and small sets are refused. A large set is usually made of crops of large images, cut before
    `update`; report this beside the number.

    Args:
        min_items: Smallest set that `compute` accepts; papers commonly use 50 000 images.
        features: Network from uint8 RGB [batch, 3, height, width] to features [batch, dims]; None for
            Inception v3.

    Raises:
        MissingWeights: The Inception weights are damaged or not in the torch cache; nothing is downloaded.

    Reference:
        Heusel, Ramsauer, Unterthiner, Nessler and Hochreiter, GANs trained by a two time-scale update rule
        converge to a local Nash equilibrium, NeurIPS 2017.
    """

    @library_defaults()
    def __init__(self, min_items: int = 10_000, features: nn.Module | None = None) -> None:
        self._min_items, self._items = max(min_items, 2), 0
        network = inception(self.name) if features is None else features
        from torchmetrics.image.fid import FrechetInceptionDistance

        self._distance = FrechetInceptionDistance(network)

    @property
    def name(self) -> str:
        """Name of the metric: "fid_inception"."""
        return "fid_inception"

    @property
    def higher_is_better(self) -> bool:
        """False: the Frechet distance is 0 for identical sets."""
        return False

    @library_defaults()
    def update(self, x_hat: Image, x: Image) -> None:
        """Add received images and their originals to the two sets.

        Args:
            x_hat: Received images [batch, 3, height, width] in [0, 1].
            x: Originals of the same shape, or one original for all.

        Raises:
            InvalidSource: An argument is not a batch of images in [0, 1], or the shapes differ.
        """
        check_pair(x_hat, x, name=self.name)
        self._distance.to(x.device)
        self._distance.update(to_uint8(x_hat), real=False)
        self._distance.update(to_uint8(x.expand_as(x_hat)), real=True)
        self._items += x_hat.shape[0]

    @library_defaults()
    def compute(self) -> float:
        """Frechet Inception distance between the two sets.

        Returns:
            FID, at least 0 up to rounding.

        Raises:
            InvalidOption: Fewer than `min_items` images were added.
        """
        _require_items(self.name, self._items, self._min_items)
        return self._distance.compute().item()


class KID:
    """Kernel Inception distance: unbiased squared maximum mean discrepancy of Inception features.

    KID = mean over i != j of k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(x_j, y_i)
    with the kernel k(a, b) = (a . b / dims + 1)^3

    A received image x_i and its original y_i are never compared with each other. The paper, whose two sets
    are independent, compares all pairs; here that would reward mere copies. Identical sets give 0 at any
    size. Negative values occur and mean that no difference was found. Different pairs are assumed
    independent, which crops of one image are not.

    Args:
        min_items: Smallest set that `compute` accepts.
        features: Network from uint8 RGB [batch, 3, height, width] to features [batch, dims]; None for
            Inception v3.

    Raises:
        MissingWeights: The Inception weights are damaged or not in the torch cache; nothing is downloaded.

    Reference:
        Binkowski, Sutherland, Arbel and Gretton, Demystifying MMD GANs, ICLR 2018; Gretton, Borgwardt, Rasch,
        Schoelkopf and Smola, A kernel two-sample test, JMLR 13, 2012, eq. (4).
    """

    @library_defaults()
    def __init__(self, min_items: int = 50, features: nn.Module | None = None) -> None:
        self._min_items, self._items = max(min_items, 2), 0
        network = inception(self.name) if features is None else features
        from torchmetrics.image.kid import KernelInceptionDistance

        with ignored_warnings():  # torchmetrics warns that it keeps all features
            self._distance = KernelInceptionDistance(network)

    @property
    def name(self) -> str:
        """Name of the metric: "kid_inception"."""
        return "kid_inception"

    @property
    def higher_is_better(self) -> bool:
        """False: the kernel distance is 0 for identical sets."""
        return False

    @library_defaults()
    def update(self, x_hat: Image, x: Image) -> None:
        """Add received images and their originals to the two sets.

        Args:
            x_hat: Received images [batch, 3, height, width] in [0, 1].
            x: Originals of the same shape, or one original for all.

        Raises:
            InvalidSource: An argument is not a batch of images in [0, 1], or the shapes differ.
        """
        check_pair(x_hat, x, name=self.name)
        self._distance.to(x.device)
        self._distance.update(to_uint8(x_hat), real=False)
        self._distance.update(to_uint8(x.expand_as(x_hat)), real=True)
        self._items += x_hat.shape[0]

    @library_defaults()
    def compute(self) -> float:
        """Kernel Inception distance between the two sets.

        Returns:
            KID; an unbiased estimate, which may be negative.

        Raises:
            InvalidOption: Fewer than `min_items` images were added.
        """
        _require_items(self.name, self._items, self._min_items)
        received, originals = self._distance.fake_features, self._distance.real_features
        return _paired_discrepancy(torch.cat(received).double(), torch.cat(originals).double())


def inception(needed_by: str) -> nn.Module:
    """Load Inception v3 as FID is defined with it: from uint8 RGB [batch, 3, height, width] to [batch, 2048].

    Args:
        needed_by: Name of the metric, the first word of an error message.

    Returns:
        The network in evaluation mode, without gradients for its weights.

    Raises:
        MissingWeights: The file is not in the torch cache, is damaged or is another file.
    """
    # torch-fidelity unpickles its file, which could run code; so it gets one that was written here
    checked = BytesIO()
    torch.save(load_checkpoint(INCEPTION_FILE, needed_by), checked)
    checked.seek(0)
    from torchmetrics.image.fid import NoTrainInceptionV3

    try:
        network: Any = NoTrainInceptionV3("inception-v3-compat", [str(DIMS)], cast(Any, checked))
    except DAMAGE:
        raise MissingWeights(
            f"{needed_by}: {INCEPTION_FILE} in {checkpoint_folder()} is of another network; replace it"
        ) from None
    network.num_features = DIMS  # otherwise torchmetrics would determine it with a random picture
    return network


def _paired_discrepancy(x: Float[Tensor, "n dims"], y: Float[Tensor, "n dims"]) -> float:
    """Squared maximum mean discrepancy, unbiased where x_i and y_i depend on each other."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    total = 0.0
    for first in range(0, len(x), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        # summed over all i and j, the two mixed terms are equal
        h = kernel(x[rows], x) + kernel(y[rows], y) - 2 * kernel(x[rows], y)
        h.diagonal(first).zero_()
        total += h.sum().item()
    return total / (len(x) * (len(x) - 1))


def _require_items(name: str, items: int, least: int) -> None:
    if items < least:
        raise InvalidOption(f"{name} of {items} images: needs at least {least}; add images or use swd_set")
