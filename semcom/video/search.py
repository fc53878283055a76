"""Choice of base layer, frame step, size and strength of the layered codec by perceptual quality."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator
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
from semcom.video.interpolation import flow_is_there
from semcom.video.layered import BASES, HEAD, Coded, LayeredCodec, coded_frames

CANDIDATES = ((0, 1, 1), (1, 1, 1), (0, 2, 1), (0, 4, 1), (0, 1, 2), (0, 2, 2))
"""Base layer, frame step and scale of the candidates, in the order in which they are tried."""
COARSE = 45.0
"""Rate factor of AV1, at full size with every frame, below which fewer or smaller frames are not tried."""
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
"""Strengths of the refiner that are tried."""
MOST_LOSS_DB = 0.4
"""Largest loss of PSNR against AV1 with every frame at full size and no refiner, if that fits the budget."""
LOOKED_AT = 8
"""Number of frames on which candidates are compared."""
_log = logging.getLogger(__name__)


def perceptual(codec: LayeredCodec, x: Clip, max_bits: int) -> Coded:
    """Find the payload that looks most like the clip within a number of bits.

    For every candidate (base layer, frame step, scale) the finest rate factor that fits is found, and what
    the receiver would show of some frames at several strengths of the refiner is compared with the original
    by LPIPS (SqueezeNet), or by the sliced Wasserstein distance where the weights of LPIPS are missing. What
    loses more than `MOST_LOSS_DB` of PSNR against AV1 with every frame coded is left out. Without a refiner,
    and for frames too small to be compared, the first candidate that fits is taken.

    Args:
        codec: The codec.
        x: The clip.
        max_bits: Largest length of the payload in bits.

    Returns:
        The payload and how it was made.

    Raises:
        BudgetTooSmall: The smallest payload of all candidates exceeds `max_bits`.
    """
    measure = _measure(x)
    found = fitting(codec, x, max_bits)
    if codec.refiner is None or measure is None:
        return next(found)
    return min(_judged(codec, x, found, measure), key=lambda judged: judged[0])[1]


def _judged(
    codec: LayeredCodec, x: Clip, found: Iterable[Coded], measure: Metric[Clip]
) -> Iterator[tuple[tuple[bool, float], Coded]]:
    """Each candidate at its best strength: whether its squared error exceeds the bound, and its distance."""
    bound = math.inf
    for coded in found:
        if (coded.head.base, coded.head.step, coded.quality.scale) == CANDIDATES[0]:
            bound = squared_error(coded.shown, x) * 10 ** (MOST_LOSS_DB / 10)
        errors_and_distances = _of_strengths(codec, coded, x, measure)
        yield min(
            (
                ((error > bound, distance), codec.with_strength(coded, strength))
                for strength, (error, distance) in errors_and_distances.items()
            ),
            key=lambda judged: judged[0],
        )


def _of_strengths(
    codec: LayeredCodec, coded: Coded, x: Clip, measure: Metric[Clip]
) -> dict[float, tuple[float, float]]:
    """Squared error, estimated for all frames, and distance on some frames, by strength of the refiner."""
    count = min(LOOKED_AT, len(x.frames))
    looked_at = ((torch.arange(count) + 0.5) * len(x.frames) / count).long()
    original, layer = (clip.frames[looked_at] for clip in (x, coded.shown))
    whole = squared_error(coded.shown, x)
    before = max(squared_error(Clip(layer, x.frame_rate), Clip(original, x.frame_rate)), 1e-9)
    changed = torch.stack(list(codec.refined(codec.with_strength(coded, 1.0), layer))).float() - layer
    found: dict[float, tuple[float, float]] = {}
    for strength in STRENGTHS:
        frames = (layer + strength * changed).round().clamp(0, 255).to(torch.uint8)
        shown, reference = Clip(frames, x.frame_rate), Clip(original, x.frame_rate)
        found[strength] = whole * squared_error(shown, reference) / before, measure(shown, reference)
    return found


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


def fitting(codec: LayeredCodec, x: Clip, max_bits: int) -> Iterator[Coded]:
    """Encode all candidates that fit, each at the finest rate factor that does.

    Candidates with interpolated frames are left out where OpenCV is not installed.

    Args:
        codec: The codec.
        x: The clip.
        max_bits: Largest length of the payload in bits.

    Yields:
        The candidates in the order in which they are tried, at least one.

    Raises:
        BudgetTooSmall: No candidate fits.
    """
    floor, found = math.inf, False  # smallest payload of all candidates in bits
    share = 0.3  # of the ladder of settings, where the search starts: where it ended last
    fine = False
    for base, step, scale in CANDIDATES:
        reduced = step > 1 or scale > 1
        if reduced and fine:
            break
        if step > 1 and not (flow_is_there() and len(x.frames) > 2):
            continue
        kept = coded_frames(len(x.frames), step)
        clip = x if step == 1 else Clip(x.frames[kept], x.frame_rate)  # indexing copies
        layer = BaseLayer(BASES[base], clip, scale)
        index = finest(layer.size, layer.settings, max_bits // 8 - HEAD, round(share * layer.settings))
        if index < 0:
            floor = min(floor, 8 * (layer.size(0) + HEAD))
            continue
        found, share = True, index / layer.settings
        yield codec.coded(x, base, step, layer.quality(index), layer.payload(index))
        fine = fine or (base == 0 and not reduced and BASES[0].rate_factor(layer.quality(index)) < COARSE)
    if not found:
        frames, _, height, width = x.frames.shape
        about = f"a clip of {frames} frames of {width}x{height}"
        raise too_small(codec.name, int(floor), about, max_bits)


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
    low, high, stride = -1, count, max(1, count // 32)  # everything up to low fits, high does not
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
