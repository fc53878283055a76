"""Choice of base layer, frame step, size and strength of the layered codec, by what the receiver would show."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from semcom.codecs.av import InterCodec
from semcom.codecs.clip import shape_of, squared_error
from semcom.codecs.codec import Quality, too_small
from semcom.errors import MissingWeights
from semcom.metrics.clip import PerFrame
from semcom.metrics.metric import Metric
from semcom.metrics.perceptual import LPIPS, SlicedWasserstein, lpips_network
from semcom.modalities.video import Clip
from semcom.video.layered import BASES, HEAD, Coded, LayeredCodec, coded_frames

CANDIDATES = ((0, 1, 1), (1, 1, 1), (0, 2, 1), (0, 4, 1), (0, 1, 2), (0, 2, 2))
"""Base layer, frame step and scale of the candidates, in the order in which they are tried."""
COARSE = 45
"""Rate factor of AV1 below which no candidates with fewer or smaller frames are tried."""
STRENGTHS = (0.5, 0.85, 1.2)
"""Strengths of the refiner that are tried."""
MOST_LOSS_DB = 0.4
"""Largest loss of PSNR against AV1 with every frame at full size and no refiner, if that fits the budget."""
LOOKED_AT = 8
"""Number of frames on which candidates are compared."""
_log = logging.getLogger(__name__)


def perceptual(codec: LayeredCodec, x: Clip, max_bits: int) -> Coded:
    """Find the payload that looks most like the clip within a number of bits.

    For every candidate (base layer, frame step, scale) the finest rate factor that fits is found, and what
    the receiver would show of some frames is compared with the original by LPIPS (SqueezeNet), or by the
    sliced Wasserstein distance where the weights of LPIPS are missing. The strength of the refiner is chosen
    for the best candidate. What loses more than `MOST_LOSS_DB` of PSNR against AV1 with every frame coded is
    left out. Without a refiner, and for frames too small to be compared, the first candidate that fits is
    taken.

    Args:
        codec: The codec.
        x: The clip.
        max_bits: Largest length of the payload in bits.

    Returns:
        The payload and how it was made.

    Raises:
        BudgetTooSmall: The smallest payload of all candidates exceeds `max_bits`.
    """
    found = fitting(codec, x, max_bits)
    measure = _measure(x)
    if codec.refiner is None or measure is None:
        return found[0]
    plain, bound = found[0], math.inf
    if (plain.head.base, plain.head.step, plain.quality.scale) == CANDIDATES[0]:
        bound = squared_error(plain.shown, x) * 10 ** (MOST_LOSS_DB / 10)
    looked_at = torch.linspace(0, len(x.frames) - 1, min(LOOKED_AT, len(x.frames))).round().long().unique()
    original = Clip(x.frames[looked_at], x.frame_rate)

    def judged(coded: Coded) -> tuple[bool, float]:
        """Whether too much PSNR is lost, and the distance."""
        layer = coded.shown.frames[looked_at]
        shown = Clip(torch.stack(list(codec.refined(coded, layer))), x.frame_rate)
        before, after = (squared_error(clip, original) for clip in (Clip(layer, x.frame_rate), shown))
        error = squared_error(coded.shown, x) * after / max(before, 1e-9)  # of all frames, estimated
        return error > bound, measure(shown, original)

    best = min(found, key=judged)
    return min((codec.with_strength(best, strength) for strength in STRENGTHS), key=judged)


@dataclass(frozen=True, eq=False)
class BaseLayer:
    """Payloads of one codec for one clip at one scale, each encoded once.

    Args:
        codec: The codec.
        clip: Frames to be coded.
        scale: Downscaling factor.
    """

    codec: InterCodec
    clip: Clip
    scale: int
    known: dict[int, bytes] = field(default_factory=dict, repr=False)

    @property
    def settings(self) -> int:
        """Number of settings, from coarse to fine."""
        return self.codec.settings

    def quality(self, setting: int) -> Quality:
        """Operating point of a setting."""
        return Quality(self.scale, setting)

    def payload(self, setting: int) -> bytes:
        """Payload at a setting, from 0 (coarse)."""
        if setting not in self.known:
            self.known[setting] = self.codec.encode(self.clip, self.quality(setting))
        return self.known[setting]

    def size(self, setting: int) -> int:
        """Bytes of the payload at a setting."""
        return len(self.payload(setting))


def fitting(codec: LayeredCodec, x: Clip, max_bits: int) -> Sequence[Coded]:
    """Encode all candidates that fit, each at the finest rate factor that does.

    Args:
        codec: The codec.
        x: The clip.
        max_bits: Largest length of the payload in bits.

    Returns:
        The candidates in the order in which they are tried, at least one.

    Raises:
        BudgetTooSmall: No candidate fits.
    """
    found: list[Coded] = []
    floor = math.inf  # smallest payload of all candidates, in bits
    rate_factor: int | None = None  # of the first candidate
    for base, step, scale in CANDIDATES:
        if base == 0 and found and rate_factor is not None and rate_factor < COARSE:
            break
        frames = x.frames[coded_frames(len(x.frames), step)]
        layer = BaseLayer(BASES[base], Clip(frames, x.frame_rate), scale)
        coarsest = layer.settings - 1
        index = finest(
            layer.size, layer.settings, max_bits // 8 - HEAD, coarsest - (rate_factor or 2 * coarsest // 3)
        )
        floor = min(floor, 8 * (layer.size(0) + HEAD)) if index < 0 else floor
        if rate_factor is None:
            rate_factor = coarsest - max(index, 0)
        if index >= 0:
            found.append(codec.coded(x, base, step, layer.quality(index), layer.payload(index)))
    if not found:
        frames, _, height, width = x.frames.shape
        raise too_small(codec.name, int(floor), f"a clip of {frames} frames of {width}x{height}", max_bits)
    return found


def finest(size: Callable[[int], int], count: int, most: int, start: int) -> int:
    """Find the finest of some settings whose size is within a limit, with few looks if the start is near.

    Args:
        size: Size at a setting, about ascending.
        count: Number of settings.
        most: Largest size.
        start: Setting at which the search starts.

    Returns:
        The setting; -1 if none fits.

    Example:
        >>> finest(lambda setting: setting**2, 100, 50, 4)
        7
    """
    low, high, stride = -1, count, 2  # everything up to low fits, high does not
    place = min(max(start, 0), count - 1)
    while high - low > 1:
        if size(place) <= most:
            low = place
        else:
            high = place
        if low >= 0 and high < count:
            place = (low + high) // 2
        else:  # no bound on one side yet
            place = min(low + stride, count - 1) if high == count else max(high - stride, 0)
            stride *= 2
            if high < count and high == 0:
                break
    return low


def _measure(x: Clip) -> Metric[Clip] | None:
    """Distance by which candidates are compared; None for frames that are too small."""
    lpips, swd = PerFrame(LPIPS("squeeze")), PerFrame(SlicedWasserstein())
    if lpips.fits(shape_of(x)):
        try:
            lpips_network("squeeze", torch.device("cpu"))
            return lpips
        except MissingWeights as error:
            _log.info(f"choices are compared by the sliced Wasserstein distance: {error}")
    return swd if swd.fits(shape_of(x)) else None
