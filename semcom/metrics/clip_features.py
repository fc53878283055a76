"""Distance between the features of clips: what SqueezeNet sees on average, and how it changes in time."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from semcom.checkpoints import require_checkpoint
from semcom.metrics.clip import frame_batches, frame_pair
from semcom.metrics.lpips_network import LpipsNetwork
from semcom.metrics.metric import check_device
from semcom.metrics.perceptual import BACKBONE_FILES, LPIPS_SIDE, lpips_network
from semcom.modalities.video import Clip, ClipShape
from semcom.surroundings import library_defaults

CHANGE_WEIGHT = 3.0  # part of the definition


@dataclass(frozen=True)
class ClipFeatureDistance:
    """Distance of SqueezeNet's channel statistics of a received clip from those of its original.

    d = 1000 mean over layers of |v_hat - v|^2, v = (m, s, 3 c, 3 e)

    where m and s are mean and standard deviation of each channel over all places of all frames, and c and e
    the mean absolute differences of the channel means and deviations of one frame from those of the frame
    before; a clip of one frame has c = e = 0. Layers and features are LPIPS's: the seven of SqueezeNet 1.1,
    features divided by their norm at each place.

    It compares the amount of texture and of change, wherever they are: a clip played backwards has the
    distance 0. It is no FVD, which takes features of a network trained on motion and compares sets of clips.
    It shares its backbone with `lpips_squeeze`, and is no independent witness of networks trained on that.

    Args:
        device: PyTorch device on which the network runs, such as "cpu" or "cuda". Two metrics that differ
            only in it are equal.

    Raises:
        InvalidOption: The device does not exist on this machine.
        MissingWeights: At the first call: the backbone's file is absent, damaged or another file.

    Reference:
        Iandola et al., SqueezeNet, 2016, for the network; the statistics are those of style losses (Gatys,
        Ecker and Bethge, Image style transfer using convolutional neural networks, CVPR 2016), with time.
    """

    device: str = field(default="cpu", compare=False)

    def __post_init__(self) -> None:
        check_device(self.device, self.name)

    @property
    def name(self) -> str:
        """Name of the column in the records."""
        return "clip_feature_distance"

    @property
    def unit(self) -> str:
        """Empty string: the distance, multiplied by 1000, is dimensionless."""
        return ""

    @property
    def higher_is_better(self) -> bool:
        """False: the distance is 0 for a clip equal to its original."""
        return False

    def require(self) -> None:
        """Check that the weights of SqueezeNet lie in the torch cache.

        Raises:
            MissingWeights: The file is absent, damaged or another file.
        """
        require_checkpoint(BACKBONE_FILES["squeeze"], self.name)

    def fits(self, shape: object) -> bool:
        """Whether the shape is that of a clip with sides of at least 32 pixels.

        Args:
            shape: Shape of an item of any modality.

        Returns:
            False for smaller clips, clips without frames, and other modalities.
        """
        if not isinstance(shape, ClipShape):
            return False
        return shape.frames > 0 and min(shape.height, shape.width) >= LPIPS_SIDE

    @library_defaults()
    @torch.no_grad()
    def __call__(self, x_hat: Clip, x: Clip) -> float:
        """Compute the distance of a received clip from its original.

        Args:
            x_hat: Received clip, sides of at least 32 pixels.
            x: Original with the same number and size of frames.

        Returns:
            Distance times 1000, at least 0.

        Raises:
            InvalidSource: An argument is not a clip or has no frames, the clips differ in number or size of
                frames, or the frames are too small.
            MissingWeights: The weights are absent, damaged or another file.
        """
        received, originals = frame_pair(x_hat, x, self.name, LPIPS_SIDE)
        network = lpips_network("squeeze", torch.device(self.device))
        assert isinstance(network, LpipsNetwork)
        ours, theirs = (_statistics(network, frames, self.device) for frames in (received, originals))
        gaps = [(a - b).square().sum() for a, b in zip(ours, theirs, strict=True)]
        return 1000 * torch.stack(gaps).mean().item()


def _statistics(network: LpipsNetwork, frames: Tensor, device: str) -> list[Float[Tensor, " statistics"]]:
    """Vector v of each layer: channel means and deviations of the clip, and their changes times 3."""
    moments: list[list[Tensor]] = []  # per batch and layer, [2, frames, channels]
    for batch in frame_batches(frames):
        units = network.units(batch.to(device) * 2 - 1)
        moments.append([torch.stack([f.mean((2, 3)), f.square().mean((2, 3))]).double() for f in units])
    found: list[Tensor] = []
    for of_layer in zip(*moments, strict=True):
        mean, square = torch.cat(of_layer, dim=1)
        deviation = _deviation(mean, square)
        whole = mean.mean(0)
        changes = [
            each.diff(dim=0).abs().mean(0) if len(each) > 1 else torch.zeros_like(whole)
            for each in (mean, deviation)
        ]
        pooled = _deviation(whole, square.mean(0))
        found.append(torch.cat([whole, pooled, *(CHANGE_WEIGHT * change for change in changes)]))
    return found


def _deviation(mean: Tensor, square: Tensor) -> Tensor:
    return (square - mean.square()).clamp(min=0).sqrt()
