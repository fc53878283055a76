"""Gates: distances of predicted frames from the originals, by which the transmitter accepts predictions."""

import logging
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from semcom import zoo
from semcom.errors import MissingWeights
from semcom.metrics.perceptual import LPIPS, LPIPS_SIDE
from semcom.prior import NaturalImagePrior
from semcom.surroundings import library_defaults
from semcom.video.predictors import Frames

FEATURE_NOISE = 0.05
"""Noise level, in [-1, 1], at which the prior that gives the features is asked."""
FEATURE_SCALE = 0.5
"""Factor that gives the feature distance the size of LPIPS (SqueezeNet) on pictures coded by HEVC."""
EPS = 1e-10
logger = logging.getLogger(__name__)


@runtime_checkable
class Gate(Protocol):
    """A distance of frames, which only the transmitter computes: its value is never needed for decoding."""

    @property
    def name(self) -> str:
        """Name of the distance, as of a metric; the network is part of it ("lpips_squeeze")."""
        ...

    def distances(self, x_hat: Frames, x: Frames) -> list[float]:
        """Distance of every frame from its original.

        Args:
            x_hat: Predicted or decoded frames, uint8 [count, 3, height, width].
            x: Originals of the same shape.

        Returns:
            One number per frame, at least 0; 0 for equal frames.

        Raises:
            MissingWeights: The network's weights are absent or damaged.
        """
        ...


@dataclass(frozen=True)
class LpipsGate:
    """LPIPS with the SqueezeNet backbone; frames below 32 pixels are extended by repeating their edge.

    The paper's gate is LPIPS with the AlexNet backbone, whose thresholds do not carry over.
    """

    @property
    def name(self) -> str:
        """Name of the distance: "lpips_squeeze"."""
        return "lpips_squeeze"

    def distances(self, x_hat: Frames, x: Frames) -> list[float]:
        """LPIPS (SqueezeNet) of every frame."""
        return LPIPS("squeeze").batch(_floats(x_hat, LPIPS_SIDE), _floats(x, LPIPS_SIDE)).tolist()


@dataclass(frozen=True)
class FeatureGate:
    """Distance of features of our own denoiser, for machines without the weights of LPIPS; it is not LPIPS.

        d = c mean over 3 layers of the mean over places of |f(x_hat) - f(x)|^2

    f are features of the shipped prior of photographs on its three finest grids, of norm 1 at every place.
    The constant c = 1/2 gives d about the size of LPIPS (SqueezeNet) on pictures coded coarsely; ratios of
    the two differ by a factor of 2 from picture to picture, and thresholds carry over no better than that.

    Args:
        prior: A denoiser; the shipped one unless another is given.
    """

    prior: NaturalImagePrior = field(default_factory=lambda: zoo.load_as("prior", NaturalImagePrior))

    @property
    def name(self) -> str:
        """Name of the distance: "prior_features"."""
        return "prior_features"

    @library_defaults()
    @torch.no_grad()
    def distances(self, x_hat: Frames, x: Frames) -> list[float]:
        """Feature distance of every frame."""
        side = self.prior.coarsest_patch
        pairs = zip(self._units(_floats(x_hat, side)), self._units(_floats(x, side)), strict=True)
        terms = [(a - b).square().sum(1).mean((1, 2)) for a, b in pairs]
        return (FEATURE_SCALE * torch.stack(terms).mean(0)).tolist()

    def _units(self, x: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        prior = self.prior
        sigma = torch.full((len(x),), FEATURE_NOISE)
        condition = prior.condition((sigma.log() / 4)[:, None])
        height, width = (side - side % prior.coarsest_patch for side in x.shape[2:])
        features = prior.into(nn.functional.pixel_unshuffle(2 * x[:, :, :height, :width] - 1, prior.patch))
        found: list[Tensor] = []
        for stage, down in zip(prior.fall, prior.down, strict=True):
            features = stage(features, condition)
            found.append(features / (features.square().sum(1, keepdim=True).sqrt() + EPS))
            features = down(features)
        return found


def gate_here() -> Gate:
    """The gate of this machine: LPIPS where its weights are, else the feature distance, and a line says so.

    Returns:
        The gate.
    """
    blank = torch.zeros(1, 3, LPIPS_SIDE, LPIPS_SIDE, dtype=torch.uint8)
    try:
        LpipsGate().distances(blank, blank)
    except MissingWeights as error:
        logger.warning(f"predictions are judged by prior_features, which is not LPIPS: {error}")
        return FeatureGate()
    return LpipsGate()


def _floats(frames: Frames, least: int) -> Float[Tensor, "count 3 rows columns"]:
    """Frames in [0, 1], their sides extended to at least a number of pixels by repeating the edge."""
    height, width = frames.shape[2:]
    padding = (0, max(0, least - width), 0, max(0, least - height))
    return nn.functional.pad(frames.float() / 255, padding, mode="replicate")
