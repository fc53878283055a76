"""VMAF and VMAF-NEG of pictures and clips, by the package vmaf-torch (extra `video`)."""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from semcom.metrics.clip import frame_pair
from semcom.metrics.metric import Picture, Reference, check_device, check_one, check_pair, fits_picture
from semcom.metrics.packages import require_package
from semcom.modalities.image import Image
from semcom.modalities.video import Clip, ClipShape
from semcom.surroundings import ignored_warnings, library_defaults

VMAF_SIDE = 17  # pixels; the widest window of VIF has 17 and is reflected at the border
PIXELS_AT_ONCE = 2**20  # of the frames that are measured together
LUMA = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709-6, 3.2
BLACK, SPAN = 16, 219  # limited range in 8 bits, ibid. 4.6


def luma(x: Image) -> Float[Tensor, "batch 1 height width"]:
    """Luma of pictures in 8 bits, limited range, by the matrix of BT.709, as the video codecs code it.

    Y = floor(16 + 219 (0.2126 R + 0.7152 G + 0.0722 B) + 1/2)

    Args:
        x: Pictures [batch, 3, height, width] in [0, 1].

    Returns:
        Integers from 16 to 235 as 32-bit floats, [batch, 1, height, width].

    Reference:
        ITU-R BT.709-6, 3.2 and 4.6.

    Example:
        >>> luma(torch.tensor([0.0, 0.2, 1.0]).view(3, 1, 1, 1).expand(3, 3, 1, 1)).flatten()
        tensor([ 16.,  60., 235.])
    """
    weights = x.new_tensor(LUMA, dtype=torch.float64).view(1, 3, 1, 1)
    y = (x.double() * weights).sum(dim=1, keepdim=True)
    return (BLACK + SPAN * y + 0.5).floor().float()


@dataclass(frozen=True)
class VMAF:
    """VMAF of one picture, measured as a clip of one frame: version 0.6.1 of the model, 0 to 100.

    VMAF is a support vector regression of viewers' scores on six features of the luma: detail loss (ADM),
    visual information fidelity at four scales (VIF), and motion, which of one frame is 0. A picture equal to
    its original therefore has 97.43, not 100. Red, green and blue become luma by `luma`.

    Contrast enhancement raises VMAF. VMAF-NEG ("no enhancement gain") limits the gain of ADM and VIF to 1,
    and is the one to judge networks that sharpen.

    Args:
        neg: Whether to measure VMAF-NEG.
        device: PyTorch device on which the features are computed, such as "cpu" or "cuda". Two metrics that
            differ only in it are equal.

    Raises:
        InvalidOption: The device does not exist on this machine.
        MissingPackage: At the first call: the package vmaf-torch is not installed.

    Reference:
        Li, Aaron, Katsavounidis, Moorthy and Manohara, Toward a practical perceptual video quality metric,
        Netflix technology blog, 2016. Aistov and Koroteev, VMAF re-implementation on PyTorch, 2023.
    """

    neg: bool = False
    device: str = field(default="cpu", compare=False)

    def __post_init__(self) -> None:
        check_device(self.device, self.name)

    @property
    def name(self) -> str:
        """Name of the column in the records: "vmaf" or "vmaf_neg"."""
        return _name(self.neg)

    @property
    def unit(self) -> str:
        """Empty string: scores from 0 to 100 have no unit."""
        return ""

    @property
    def higher_is_better(self) -> bool:
        """True: VMAF predicts the opinion of viewers."""
        return True

    def require(self) -> None:
        """Check that vmaf-torch is installed.

        Raises:
            MissingPackage: It is not.
        """
        _require(self.neg)

    def fits(self, shape: object) -> bool:
        """Whether the shape is that of an image with sides of at least 17 pixels.

        Args:
            shape: Shape of an item of any modality.

        Returns:
            False for smaller images and for other modalities.
        """
        return fits_picture(shape, VMAF_SIDE)

    @library_defaults()
    @torch.no_grad()
    def batch(self, x_hat: Image, x: Reference) -> Float[Tensor, " batch"]:
        """Compute the VMAF of several pictures, each a clip of one frame.

        Args:
            x_hat: Received images [batch, 3, height, width] in [0, 1], sides of at least 17 pixels.
            x: Originals of the same shape, or one original for all.

        Returns:
            Scores from 0 to 100, [batch].

        Raises:
            InvalidSource: An argument is not a batch of images in [0, 1], the shapes differ, or they are too
                small.
            MissingPackage: The package vmaf-torch is not installed.
        """
        x_hat, x = check_pair(x_hat, x, VMAF_SIDE, self.name)
        model = _model(self.neg, self.device)
        received, original = luma(x_hat.to(self.device)), luma(x.to(self.device))
        scores = [
            _scores(model, a, original if len(original) == 1 else original[i : i + 1])
            for i, a in enumerate(received.split(1))
        ]
        return torch.cat(scores)

    @library_defaults()
    def __call__(self, x_hat: Picture, x: Picture) -> float:
        """Compute the VMAF of one picture, a clip of one frame.

        Args:
            x_hat: Received image [1, 3, height, width] in [0, 1], sides of at least 17 pixels.
            x: Original of the same shape.

        Returns:
            Score from 0 to 100.

        Raises:
            InvalidSource: An argument is not one image in [0, 1], the shapes differ, or they are too small.
            MissingPackage: The package vmaf-torch is not installed.
        """
        check_one(x_hat, x, self.name)
        return self.batch(x_hat, x).item()


@dataclass(frozen=True)
class ClipVMAF:
    """VMAF of one clip: mean over its frames of the scores of version 0.6.1 of the model, 0 to 100.

    The features and the colour conversion are those of `VMAF`. Of the six, only motion looks at other frames:
    it is the mean absolute difference of blurred frames of the original, to the frame before or after,
    whichever is less. So VMAF weighs errors by the motion around them, but does not see flicker of the
    received frames; `WarpErrorGap` does.

    Args:
        neg: Whether to measure VMAF-NEG, which gives nothing for enhanced contrast.
        device: PyTorch device on which the features are computed, such as "cpu" or "cuda". Two metrics that
            differ only in it are equal.

    Raises:
        InvalidOption: The device does not exist on this machine.
        MissingPackage: At the first call: the package vmaf-torch is not installed.

    Reference:
        Li, Aaron, Katsavounidis, Moorthy and Manohara, Toward a practical perceptual video quality metric,
        Netflix technology blog, 2016. Aistov and Koroteev, VMAF re-implementation on PyTorch, 2023.
    """

    neg: bool = False
    device: str = field(default="cpu", compare=False)

    def __post_init__(self) -> None:
        check_device(self.device, self.name)

    @property
    def name(self) -> str:
        """Name of the column in the records: "vmaf" or "vmaf_neg"."""
        return _name(self.neg)

    @property
    def unit(self) -> str:
        """Empty string: scores from 0 to 100 have no unit."""
        return ""

    @property
    def higher_is_better(self) -> bool:
        """True: VMAF predicts the opinion of viewers."""
        return True

    def require(self) -> None:
        """Check that vmaf-torch is installed.

        Raises:
            MissingPackage: It is not.
        """
        _require(self.neg)

    def fits(self, shape: object) -> bool:
        """Whether the shape is that of a clip with sides of at least 17 pixels.

        Args:
            shape: Shape of an item of any modality.

        Returns:
            False for smaller clips, clips without frames, and other modalities.
        """
        if not isinstance(shape, ClipShape):
            return False
        return shape.frames > 0 and min(shape.height, shape.width) >= VMAF_SIDE

    @library_defaults()
    @torch.no_grad()
    def __call__(self, x_hat: Clip, x: Clip) -> float:
        """Compute the VMAF of a clip: the mean of the scores of its frames.

        Args:
            x_hat: Received clip, sides of at least 17 pixels.
            x: Original with the same number and size of frames.

        Returns:
            Score from 0 to 100.

        Raises:
            InvalidSource: An argument is not a clip or has no frames, the clips differ in number or size of
                frames, or the frames are too small.
            MissingPackage: The package vmaf-torch is not installed.
        """
        scores = self.per_frame(x_hat, x)
        return math.fsum(scores) / len(scores)

    @library_defaults()
    @torch.no_grad()
    def per_frame(self, x_hat: Clip, x: Clip) -> list[float]:
        """Compute the score of every frame; long clips are measured in parts, with the same result.

        Args:
            x_hat: Received clip, sides of at least 17 pixels.
            x: Original with the same number and size of frames.

        Returns:
            Scores from 0 to 100, one per frame.

        Raises:
            InvalidSource: An argument is not a clip or has no frames, the clips differ in number or size of
                frames, or the frames are too small.
            MissingPackage: The package vmaf-torch is not installed.
        """
        received, originals = frame_pair(x_hat, x, self.name, VMAF_SIDE)
        model = _model(self.neg, self.device)
        count, pixels = len(originals), originals.shape[2] * originals.shape[3]
        scores: list[float] = []
        for start, end in _parts(count, max(1, PIXELS_AT_ONCE // pixels)):
            # one frame more on both sides, whose motion is not used
            before, after = max(0, start - 1), min(count, end + 1)
            a = luma(received[start:end].to(self.device).float() / 255)
            b = luma(originals[before:after].to(self.device).float() / 255)
            motion = model.compute_motion2(b)[start - before : end - before]
            scores += _scores(model, a, b[start - before : end - before], motion).tolist()
        return scores


def _name(neg: bool) -> str:
    return "vmaf_neg" if neg else "vmaf"


def _require(neg: bool) -> None:
    require_package("vmaf_torch", "vmaf-torch", _name(neg))


def _parts(count: int, at_once: int) -> Iterator[tuple[int, int]]:
    return ((start, min(count, start + at_once)) for start in range(0, count, at_once))


def _scores(model: Any, x_hat: Tensor, x: Tensor, motion: Tensor | None = None) -> Tensor:
    """Scores [frames] of luma [frames, 1, height, width]; without motion, of frames that stand alone."""
    still = x.new_zeros(len(x), 1) if motion is None else motion
    return model.predict(model.compute_adm_score(x, x_hat), still, model.compute_vif_features(x, x_hat))[:, 0]


@functools.cache
@library_defaults()
def _model(neg: bool, device: str) -> Any:
    """The model of vmaf-torch, whose weights are part of its code."""
    _require(neg)
    with ignored_warnings():
        import vmaf_torch  # pyright: ignore[reportMissingImports]

        return vmaf_torch.VMAF(NEG=neg, clip_score=True).eval().requires_grad_(False).to(device)
