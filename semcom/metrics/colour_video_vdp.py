"""ColorVideoVDP of clips, by the package cvvdp (extra `video`)."""

import functools
import logging
from dataclasses import dataclass, field
from typing import Any

import torch

from semcom.metrics.clip import frame_pair
from semcom.metrics.metric import check_device
from semcom.metrics.packages import require_package
from semcom.modalities.video import Clip, ClipShape
from semcom.surroundings import ignored_warnings, library_defaults

VDP_SIDE = 2  # pixels; cvvdp builds no pyramid of less
DISPLAY = "standard_4k"


@dataclass(frozen=True)
class ColorVideoVDP:
    """ColorVideoVDP of a clip in just-objectionable differences (JOD): 10 for a clip equal to its original.

    A model of the visibility of differences in brightness, colour and time; a loss of 1 JOD means that 75 %
    of viewers see the lower quality. Frames are shown at the clip's frame rate, pixel by pixel, on the
    display model "standard_4k" of the package: 30 inches at 0.75 m, 75.4 pixels per degree, sRGB, 200 cd/m^2
    peak, contrast 1000:1, a room of 250 lux. The plain model without networks is used.

    Args:
        device: PyTorch device on which the model runs, such as "cpu" or "cuda". Two metrics that differ only
            in it are equal.

    Raises:
        InvalidOption: The device does not exist on this machine.
        MissingPackage: At the first call: the package cvvdp is not installed.

    Reference:
        Mantiuk, Hanji, Ashraf, Asano and Chapiro, ColorVideoVDP: a visual difference predictor for image,
        video and display distortions, ACM Trans. Graphics 43(4), 2024.
    """

    device: str = field(default="cpu", compare=False)

    def __post_init__(self) -> None:
        check_device(self.device, self.name)

    @property
    def name(self) -> str:
        """Name of the column in the records."""
        return "cvvdp"

    @property
    def unit(self) -> str:
        """Unit of the values: just-objectionable differences."""
        return "JOD"

    @property
    def higher_is_better(self) -> bool:
        """True: the score is 10 for a clip equal to its original."""
        return True

    def require(self) -> None:
        """Check that cvvdp is installed.

        Raises:
            MissingPackage: It is not.
        """
        require_package("pycvvdp", "cvvdp", self.name)

    def fits(self, shape: object) -> bool:
        """Whether the shape is that of a clip with sides of at least 2 pixels.

        Args:
            shape: Shape of an item of any modality.

        Returns:
            False for smaller clips, clips without frames, and other modalities.
        """
        if not isinstance(shape, ClipShape):
            return False
        return shape.frames > 0 and min(shape.height, shape.width) >= VDP_SIDE

    @library_defaults()
    @torch.no_grad()
    def __call__(self, x_hat: Clip, x: Clip) -> float:
        """Compute the quality of a received clip.

        Args:
            x_hat: Received clip.
            x: Original with the same number and size of frames; its frame rate is used for both.

        Returns:
            Quality in JOD, at most 10; below 3 for clips that have little in common.

        Raises:
            InvalidSource: An argument is not a clip or has no frames, the clips differ in number or size of
                frames, or the frames are too small.
            MissingPackage: The package cvvdp is not installed.
        """
        received, originals = frame_pair(x_hat, x, self.name, VDP_SIDE)
        self.require()
        with ignored_warnings():
            # made anew, which takes 3 ms, since the model keeps frames while it works
            model = _package().cvvdp(display_name=DISPLAY, quiet=True, device=torch.device(self.device))
            quality, _ = model.predict(
                received, originals, dim_order="FCHW", frames_per_second=float(x.frame_rate)
            )
        return float(quality)


@functools.cache
def _package() -> Any:
    """The package, imported without torch's remark on the log that there is no GPU."""
    log = logging.getLogger("torch.utils.cpp_extension")
    before, log.disabled = log.disabled, True
    try:
        import pycvvdp  # pyright: ignore[reportMissingImports]
    finally:
        log.disabled = before
    return pycvvdp
