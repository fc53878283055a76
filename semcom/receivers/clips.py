"""Receivers of clips: the one-step refiner on every frame, and interpolation of lost frames."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

import torch

from channels import Streams
from semcom.codecs.codec import HasScale
from semcom.errors import InvalidOption, UnsuitableEvidence
from semcom.modalities.video import Clip, ClipShape
from semcom.observation import Decoded, Gaps, Observation, Origin
from semcom.receivers.refiner import KNOB, MOST
from semcom.video.errors import ErrorLaw, expected_error, shipped_laws
from semcom.video.interpolation import between
from semcom.video.refinement import LEAST_SPREAD, FrameRefiner


@dataclass(frozen=True, eq=False)
class ClipRefiner:
    """One-step refiner of the frames of decoded clips, with a trade-off between distortion and realism.

        x_hat = y + knob (R(y, s, scale, z) - y)  for every frame y

    as `semcom.receivers.refiner.Refiner` does with pictures. Nothing is sent for it: the root mean square
    error s of the decoded clip follows from the payload's length and from detail and change of the decoded
    frames, by laws that were measured per codec (`semcom.video.errors`), and the scale stands in the payload.
    All frames get the same noise z. Frames that are shown in place of lost ones are refined like others, so
    that they do not differ from the frame that they repeat. A clip that was lost stays lost.

    Args:
        refiner: The network, frame by frame.
        knob: From 0, as decoded, to 1.5.
        laws: Measured laws of errors, by name of the codec; by default those of the package.

    Raises:
        InvalidOption: `knob` is out of range.
    """

    refiner: FrameRefiner
    knob: float = KNOB
    laws: Mapping[str, ErrorLaw] = field(default_factory=shipped_laws, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.knob <= MOST:
            raise InvalidOption(f"knob {self.knob:g} of refine: from 0 (as decoded) to {MOST:g}")

    @property
    def name(self) -> str:
        """Canonical name: "refine", or "refine:0.5" with another knob than the default."""
        return "refine" if self.knob == KNOB else f"refine:{self.knob:g}"

    @property
    def nfe(self) -> int:
        """Network calls per frame, always 1."""
        return 1

    def __call__(self, observation: Observation[Clip], shape: ClipShape, rng: Streams) -> Clip | None:
        """Refine every frame of the decoded clip of an observation.

        Args:
            observation: Observation of the clip.
            shape: Number of frames, height, width and frame rate of the clip.
            rng: Random numbers of the receiver, which are not used: the noise is the same for all clips.

        Returns:
            The clip; None for a lost one.

        Raises:
            UnsuitableEvidence: The error of the decoder has not been measured, or nothing was decoded.
        """
        decoded = observation.shown
        if decoded is None:
            return None
        origin = origin_of(observation)
        if origin is None:
            raise UnsuitableEvidence(
                f"{self.name} takes clips that a video codec decoded; this scheme hands over none"
            )
        spread = max(expected_error(decoded, origin, self.laws), LEAST_SPREAD)
        refined = self.refiner(decoded.frames, spread, round(2 ** origin.point[1]), self.knob)
        return Clip(torch.stack(list(refined)), decoded.frame_rate)


@dataclass(frozen=True)
class Interpolation:
    """Receiver of clips in packets that interpolates lost frames between the frames that arrived.

    Lost frames with an arrived frame before and after them are computed from these two by optical flow
    (`semcom.video.interpolation.between`), all others are shown as the nearest one that arrived. Clips of
    which no frame was lost are shown as they are.
    """

    @property
    def name(self) -> str:
        """Canonical name, always "interpolate"."""
        return "interpolate"

    def __call__(self, observation: Observation[Clip], shape: ClipShape, rng: Streams) -> Clip | None:
        """Interpolate the missing frames of an observation.

        Args:
            observation: Observation of the clip.
            shape: Number of frames, height, width and frame rate of the clip.
            rng: Random numbers of the receiver, which are not used.

        Returns:
            The clip; None for a lost one.

        Raises:
            InvalidOption: Frames are to be interpolated, and OpenCV is not installed.
        """
        if observation.shown is None:
            return None
        frames = observation.shown.frames.clone()
        for evidence in observation.evidence:
            if isinstance(evidence, Gaps):
                for lost in inner_gaps(evidence.missing):
                    found = between(frames[lost.start - 1], frames[lost.stop], len(lost))
                    frames[lost.start : lost.stop] = torch.stack(found)
        return Clip(frames, observation.shown.frame_rate)


def inner_gaps(missing: tuple[bool, ...]) -> Iterator[range]:
    """Runs of missing frames that have a frame that arrived before and after them.

    Args:
        missing: Whether each frame is missing.

    Yields:
        The runs in order.

    Example:
        >>> list(inner_gaps((True, False, True, True, False, True)))
        [range(2, 4)]
    """
    for lost, run in groupby(range(len(missing)), lambda t: missing[t]):
        places = list(run)
        if lost and places[0] > 0 and places[-1] < len(missing) - 1:
            yield range(places[0], places[-1] + 1)


def origin_of(observation: Observation[Clip]) -> Origin | None:
    """Codec and operating point of a decoded clip, as its receiver knows them.

    Args:
        observation: Observation of a clip.

    Returns:
        Name of the codec, and the point (log2 of bits per source value, log2 of the scale); None if no
        codec decoded the clip.

    Raises:
        CorruptPayload: The codec cannot read the scale in the payload.
    """
    for evidence in observation.evidence:
        if isinstance(evidence, Gaps) and evidence.origin is not None:
            return evidence.origin
        if isinstance(evidence, Decoded) and evidence.payload is not None:
            payload, values = evidence.payload, evidence.y.frames.numel()
            size = (1, *evidence.y.frames.shape[1:])
            scale = payload.codec.scale(payload.data, size) if isinstance(payload.codec, HasScale) else 1
            bits = max(8 * len(payload.data), 1)
            return Origin(payload.code, (math.log2(bits / values), math.log2(scale)))
    return None
