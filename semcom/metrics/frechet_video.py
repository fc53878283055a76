"""Realism of a set of clips: FVD, a distance between features of a network trained on motion."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from semcom.checkpoints import checkpoint_folder
from semcom.errors import InvalidOption, MissingWeights, reason_of
from semcom.metrics.metric import check_pair
from semcom.modalities.image import Image, to_uint8
from semcom.surroundings import library_defaults
from semcom.theory.perception_distortion import gaussian_w2

I3D_FILE = "i3d_torchscript.pt"
PIECE = 16  # frames

Features = Callable[[Float[Tensor, "batch 3 frames height width"]], Float[Tensor, "batch dims"]]
"""Network from RGB clips with values from 0 to 255 to one vector of features each."""


class FVD:
    """Frechet video distance: distance between Gaussians with the moments of two sets of clip features.

    FVD = |m_hat - m|^2 + tr(S_hat + S - 2 (S_hat S)^(1/2)) over the features of I3D, trained on Kinetics-400

    Clips are cut into pieces of 16 frames without overlap; frames that are left over are ignored. I3D scales
    each piece to 224x224 pixels. The bias of FVD falls with the number of pieces: values from sets of
    different size are not comparable, and small sets are refused.

    The network is a TorchScript file that other projects publish under the name `i3d_torchscript.pt`, put by
    the user into the torch cache, `$TORCH_HOME/hub/checkpoints`. Nothing is downloaded. A TorchScript file is
    a program: take it from a source that you trust.

    Args:
        min_items: Smallest number of pieces that `compute` accepts; papers commonly use 2048.
        features: Network from RGB clips [batch, 3, frames, height, width] with values from 0 to 255 to
            features [batch, dims]; None for I3D.

    Raises:
        MissingWeights: The file of I3D is not in the torch cache, or is damaged.

    Reference:
        Unterthiner, van Steenkiste, Kurach, Marinier, Michalski and Gelly, Towards accurate generative models
        of video: a new metric and challenges, 2018; Carreira and Zisserman, Quo vadis, action recognition?,
        CVPR 2017, for I3D.
    """

    @library_defaults()
    def __init__(self, min_items: int = 256, features: Features | None = None) -> None:
        self._min_items = max(min_items, 2)
        self._features = i3d(self.name) if features is None else features
        self._received: list[Float[Tensor, "pieces dims"]] = []
        self._originals: list[Float[Tensor, "pieces dims"]] = []

    @property
    def name(self) -> str:
        """Name of the metric: "fvd_i3d"."""
        return "fvd_i3d"

    @property
    def higher_is_better(self) -> bool:
        """False: the Frechet distance is 0 for identical sets."""
        return False

    @library_defaults()
    @torch.no_grad()
    def update(self, x_hat: Image, x: Image) -> None:
        """Add a received clip and its original to the two sets.

        Args:
            x_hat: Frames of one received clip in their order, [frames, 3, height, width] in [0, 1].
            x: Frames of the original, of the same shape.

        Raises:
            InvalidSource: An argument is not a batch of frames in [0, 1], or the shapes differ.
        """
        check_pair(x_hat, x, name=self.name)
        for frames, found in ((x_hat, self._received), (x, self._originals)):
            for first in range(0, len(frames) - PIECE + 1, PIECE):
                piece = to_uint8(frames[first : first + PIECE]).float().transpose(0, 1)[None]
                found.append(self._features(piece).double().cpu())

    @library_defaults()
    def compute(self) -> float:
        """Frechet video distance between the two sets.

        Returns:
            FVD, at least 0.

        Raises:
            InvalidOption: There are fewer than `min_items` pieces of 16 frames.
        """
        if len(self._received) < self._min_items:
            raise InvalidOption(
                f"{self.name} of {len(self._received)} pieces of {PIECE} frames: needs at least "
                f"{self._min_items}; add clips"
            )
        received, originals = (torch.cat(each).numpy() for each in (self._received, self._originals))
        moments = [(each.mean(0), np.cov(each, rowvar=False)) for each in (received, originals)]
        return gaussian_w2(*moments[0], *moments[1]) ** 2


def i3d(needed_by: str) -> Features:
    """Load I3D as FVD is defined with it.

    Args:
        needed_by: Name of the metric, the first word of an error message.

    Returns:
        Function from RGB clips [batch, 3, frames, height, width] with values from 0 to 255 to features
        [batch, 400].

    Raises:
        MissingWeights: The file is not in the torch cache, or is damaged.
    """
    folder = checkpoint_folder()
    path = folder / I3D_FILE
    if not path.is_file():
        raise MissingWeights(f"{needed_by}: {I3D_FILE} is not in {folder}; put it there or set TORCH_HOME")
    try:
        network = torch.jit.load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise MissingWeights(f"{needed_by}: {path} is damaged ({reason_of(error)}); replace it") from None

    def features(
        clips: Float[Tensor, "batch 3 frames height width"],
    ) -> Float[Tensor, "batch dims"]:
        return network(clips, rescale=True, resize=True, return_features=True)

    return features
