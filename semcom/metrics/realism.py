"""Realism of a set: distances between the Inception features of received images and of originals."""

import warnings
from io import BytesIO
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from semcom.checkpoints import DAMAGE, checkpoint_folder, load_checkpoint
from semcom.errors import InvalidOption, MissingWeights
from semcom.metrics.metric import check_pair
from semcom.modalities.image import Image, to_uint8

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"  # the name torch-fidelity looks for
DIMS = 2048  # of its last layer before the classes
ROWS_AT_ONCE = 256  # of the kernel's matrix: 50 000 items take 0.3 GB


class FID:
    """Frechet Inception distance: that of two Gaussians with the moments of the two feature sets.

    FID = |m_hat - m|^2 + tr(S_hat + S - 2 (S_hat S)^(1/2)) over 2048 Inception-v3 features.

    Its bias falls with 1/N and depends on the scheme, so values from different N do not compare, and small
    sets are refused. Crops of large images, cut before `update`, are the usual way to a large set; say so
    beside the number.

    Args:
        min_items: Smallest set that `compute` accepts; EDM and others use 50 000.
        features: Network from uint8 RGB [batch, 3, height, width] to features [batch, dims]; None for
            Inception v3.

    Raises:
        MissingWeights: Inception's file is damaged or not in the torch cache; nothing is downloaded.

    Reference:
        Heusel, Ramsauer, Unterthiner, Nessler and Hochreiter, GANs trained by a two time-scale update rule
        converge to a local Nash equilibrium, NeurIPS 2017.
    """

    def __init__(self, min_items: int = 10_000, features: nn.Module | None = None) -> None:
        self._min_items, self._items = max(min_items, 2), 0
        network = inception(self.name) if features is None else features
        from torchmetrics.image.fid import FrechetInceptionDistance

        self._distance = FrechetInceptionDistance(network)

    @property
    def name(self) -> str:
        """Column of the records."""
        return "fid_inception"

    @property
    def higher_is_better(self) -> bool:
        """A distance."""
        return False

    def update(self, x_hat: Image, x: Image) -> None:
        """Add received images and their originals."""
        check_pair(x_hat, x, name=self.name)
        self._distance.to(x.device)
        self._distance.update(to_uint8(x_hat), real=False)
        self._distance.update(to_uint8(x.expand_as(x_hat)), real=True)
        self._items += x_hat.shape[0]

    def compute(self) -> float:
        """The distance; refused for small sets."""
        _require_items(self.name, self._items, self._min_items)
        return self._distance.compute().item()


class KID:
    """Kernel Inception distance: squared maximum mean discrepancy of the features, unbiased at any size.

    KID = mean over i != j of k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(x_j, y_i)
    with the kernel k(a, b) = (a . b / dims + 1)^3

    A received image and its original are a pair and never compared with each other, unlike in the paper,
    whose sets are independent: copies would be rewarded. So identical sets give 0 at any size. Negative
    values happen and mean "no difference found". The pairs are taken as independent of each other, which
    crops of one picture are not.

    Args:
        min_items: Smallest set that `compute` accepts.
        features: Network from uint8 RGB [batch, 3, height, width] to features [batch, dims]; None for
            Inception v3.

    Raises:
        MissingWeights: Inception's file is damaged or not in the torch cache; nothing is downloaded.

    Reference:
        Binkowski, Sutherland, Arbel and Gretton, Demystifying MMD GANs, ICLR 2018; Gretton, Borgwardt, Rasch,
        Schoelkopf and Smola, A kernel two-sample test, JMLR 13, 2012, eq. (4).
    """

    def __init__(self, min_items: int = 50, features: nn.Module | None = None) -> None:
        self._min_items, self._items = max(min_items, 2), 0
        network = inception(self.name) if features is None else features
        from torchmetrics.image.kid import KernelInceptionDistance

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it announces that it keeps all features
            self._distance = KernelInceptionDistance(network)

    @property
    def name(self) -> str:
        """Column of the records."""
        return "kid_inception"

    @property
    def higher_is_better(self) -> bool:
        """A distance."""
        return False

    def update(self, x_hat: Image, x: Image) -> None:
        """Add received images and their originals."""
        check_pair(x_hat, x, name=self.name)
        self._distance.to(x.device)
        self._distance.update(to_uint8(x_hat), real=False)
        self._distance.update(to_uint8(x.expand_as(x_hat)), real=True)
        self._items += x_hat.shape[0]

    def compute(self) -> float:
        """The distance; refused for small sets."""
        _require_items(self.name, self._items, self._min_items)
        received, originals = self._distance.fake_features, self._distance.real_features
        return _paired_discrepancy(torch.cat(received).double(), torch.cat(originals).double())


def inception(needed_by: str) -> nn.Module:
    """Inception v3 as FID is defined with it, from uint8 RGB [batch, 3, height, width] to [batch, 2048].

    Args:
        needed_by: First word of the error.

    Returns:
        The network in evaluation mode, without gradients for its weights.

    Raises:
        MissingWeights: The file is not in the torch cache, is damaged or is another one.
    """
    # torch-fidelity would run code in the file that it opens, so it is given one that was written here
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
    network.num_features = DIMS  # or torchmetrics would find it by a random picture
    return network


def _paired_discrepancy(x: Float[Tensor, "n dims"], y: Float[Tensor, "n dims"]) -> float:
    """Squared maximum mean discrepancy, unbiased where x_i and y_i depend on each other."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    total = 0.0
    for first in range(0, len(x), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        # over all i and j the two mixed terms have one sum
        h = kernel(x[rows], x) + kernel(y[rows], y) - 2 * kernel(x[rows], y)
        h.diagonal(first).zero_()
        total += h.sum().item()
    return total / (len(x) * (len(x) - 1))


def _require_items(name: str, items: int, least: int) -> None:
    if items < least:
        raise InvalidOption(f"{name} of {items} images: needs at least {least}; add images or use swd_set")
