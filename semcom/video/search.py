"""Choice of base layer, frame step, size and strength of the layered codec by perceptual quality."""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from semcom.codecs.av import InterCodec
from semcom.codecs.clip import squared_error
from semcom.codecs.codec import Quality, too_small
from semcom.errors import MissingWeights
from semcom.metrics.perceptual import LPIPS, SlicedWasserstein, lpips_network
from semcom.modalities.video import Clip
from semcom.video.interpolation import flow_is_there
from semcom.video.layered import BASES, HEAD, Coded, LayeredCodec, coded_frames

CANDIDATES = ((0, 1, 1), (1, 1, 1), (0, 2, 1), (0, 4, 1), (0, 1, 2), (0, 2, 2))
"""Base layer, frame step and scale of the candidates, in the order in which they are tried."""
STARTS = {(1, 1, 1): 0.13, (0, 2, 1): 0.06, (0, 4, 1): 0.08, (0, 1, 2): 0.28, (0, 2, 2): 0.32}
"""Start of the search for each candidate: by how much its setting, as a share of all its settings from coarse
to fine, usually exceeds that of the first candidate at equal payload."""
COARSE = 45.0
"""Rate factor (CRF) of AV1 at full size and full frame rate; if a finer one fits, no candidate with fewer or
smaller frames is tried."""
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
"""Strengths of the refiner that are tried."""
MOST_LOSS_DB = 0.4
"""Largest loss of PSNR against AV1 with every frame at full size and no refiner, if that fits the budget."""
MOST_GAIN_DB = 1.0
"""Largest gain of PSNR that the refiner is expected to give; a candidate whose PSNR before refinement lies
below the bound by more than this is dropped without running the refiner."""
LADDER_OCTAVES = 12.0
"""Initial estimate of log2(largest / smallest payload) over all settings of a video codec at one scale."""
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
    if codec.refiner is None or measure is None:
        return next(fitting(codec, x, max_bits))
    return min(_judged(codec, x, max_bits, measure), key=lambda judged: judged[0])[1]


def _judged(
    codec: LayeredCodec, x: Clip, max_bits: int, measure: LPIPS | SlicedWasserstein
) -> Iterator[tuple[float, Coded]]:
    """Candidates within the bound on the squared error, each at its best strength, with their distances."""
    bound = math.inf
    hopeless: list[tuple[int, int]] = []  # frame step and scale

    def worth(step: int, scale: int) -> bool:
        return not any(step >= other and scale >= reduced for other, reduced in hopeless)

    for coded in fitting(codec, x, max_bits, worth):
        candidate = coded.head.base, coded.head.step, coded.quality.scale
        error = squared_error(coded.shown, x)
        if candidate == CANDIDATES[0]:
            bound = error * 10 ** (MOST_LOSS_DB / 10)
        if error > bound * 10 ** (MOST_GAIN_DB / 10):
            hopeless += [candidate[1:]] if candidate[0] == CANDIDATES[0][0] else []
            continue
        distances = _of_strengths(codec, coded, x, measure, bound / max(error, 1e-9))
        if distances:
            strength = min(distances, key=lambda strength: distances[strength])
            yield distances[strength], codec.with_strength(coded, strength)


def _of_strengths(
    codec: LayeredCodec, coded: Coded, x: Clip, measure: LPIPS | SlicedWasserstein, most: float
) -> dict[float, float]:
    """Mean distance of some frames, by strength of the refiner.

    Strengths are left out that multiply the squared error of these frames by more than `most`.
    """
    count = min(LOOKED_AT, len(x.frames))
    looked_at = ((torch.arange(count) + 0.5) * len(x.frames) / count).long()
    original, layer = (clip.frames[looked_at].float() for clip in (x, coded.shown))
    refined = codec.refined(codec.with_strength(coded, 1.0), coded.shown.frames[looked_at])
    changed = torch.stack(list(refined)).float() - layer

    def shown(strength: float, frame: int) -> Tensor:
        return (layer[frame] + strength * changed[frame]).round().clamp(0, 255)

    def error(strength: float) -> float:
        return sum(float((shown(strength, n) - original[n]).square().mean()) for n in range(count))

    before = max(error(0.0), 1e-9)
    within = [strength for strength in STRENGTHS if error(strength) <= most * before]
    total = torch.zeros(len(within), dtype=torch.float64)
    for frame in range(count) if within else ():
        frames = torch.stack([shown(strength, frame) for strength in within]) / 255
        # the pooling of LPIPS takes a third of the time if channels come last
        frames = frames.contiguous(memory_format=torch.channels_last)
        total += measure.batch(frames, original[None, frame] / 255).double()
    return dict(zip(within, (total / count).tolist(), strict=True))


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


def fitting(
    codec: LayeredCodec, x: Clip, max_bits: int, worth: Callable[[int, int], bool] = lambda step, scale: True
) -> Iterator[Coded]:
    """Encode all candidates that fit, each at the finest rate factor that does.

    Candidates with interpolated frames are left out where OpenCV is not installed.

    Args:
        codec: The codec.
        x: The clip.
        max_bits: Largest length of the payload in bits.
        worth: Whether candidates with a frame step and a scale are tried; asked just before.

    Yields:
        The candidates in the order in which they are tried, at least one.

    Raises:
        BudgetTooSmall: No candidate fits.
    """
    floor, found = math.inf, False  # smallest payload of all candidates in bits
    share, fine = 0.2, False  # where the first candidate ended, as a share of its ladder of settings
    for base, step, scale in CANDIDATES:
        further = STARTS.get((base, step, scale), 0.0)
        reduced = step > 1 or scale > 1
        if reduced and fine:
            break
        if reduced and not worth(step, scale):
            continue
        if step > 1 and not (flow_is_there() and len(x.frames) > 2):
            continue
        kept = coded_frames(len(x.frames), step)
        clip = x if step == 1 else Clip(x.frames[kept], x.frame_rate)  # indexing copies
        layer = BaseLayer(BASES[base], clip, scale)
        index = finest(
            layer.size, layer.settings, max_bits // 8 - HEAD, round((share + further) * layer.settings)
        )
        if index < 0:
            floor = min(floor, 8 * (layer.size(0) + HEAD))
            continue
        found, share = True, index / layer.settings - further
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
    low, high = -1, count  # everything up to low fits, high does not
    levels: dict[int, float] = {}  # logarithm of the size by setting, about linear
    aim, slope, stride, looks = math.log(max(most, 1)), LADDER_OCTAVES * math.log(2) / count, 1, 0
    place = last = min(max(start, 0), count - 1)
    while high - low > 1:
        found = size(place)
        levels[place] = math.log(max(found, 1))
        low, high = (place, high) if found <= most else (low, place)
        if low >= 0 and high < count:
            looks += 1
            slope = max((levels[high] - levels[low]) / (high - low), 1e-9)
            guess = (low + high) // 2 if looks % 3 == 0 else low + math.floor((aim - levels[low]) / slope)
            last, place = place, min(max(guess, low + 1), high - 1)
            continue
        if place != last and (levels[place] - levels[last]) / (place - last) > 0:
            slope = (levels[place] - levels[last]) / (place - last)
        step = min(max(math.ceil(abs(aim - levels[place]) / slope), stride), max(count // 4, 1))
        stride *= 2
        last, place = place, min(low + step, count - 1) if high == count else max(high - step, 0)
    return low


def _measure(x: Clip) -> LPIPS | SlicedWasserstein | None:
    """Distance by which candidates are compared; None for frames that are too small."""
    shape = (1, *x.frames.shape[1:])
    lpips, swd = LPIPS("squeeze"), SlicedWasserstein()
    if lpips.fits(shape):
        try:
            lpips_network("squeeze", torch.device("cpu"))
            return lpips
        except MissingWeights as error:
            _log.info(f"choices are compared by the sliced Wasserstein distance: {error}")
    return swd if swd.fits(shape) else None
