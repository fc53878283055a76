"""SoftCast of clips: linear analog transmission of the cosine transform over time and space."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy.fft import dct, idct
from torch import Tensor

from channels import Received
from semcom.analog import papr_db
from semcom.codecs.clip import from_image, to_image
from semcom.codecs.packets import groups, held_last
from semcom.jscc.softcast import SoftCast, estimated_coefficients, inverse_transform, transform
from semcom.jscc.spectrum import Histogram, Spectrum, Symbol, Unpacker
from semcom.modalities.video import Clip, ClipShape
from semcom.observation import Decoded, Observation
from semcom.process_memory import require_memory
from semcom.transmission import ChannelKnowledge, Csit, Sent, nothing_sent

GROUP = 16
"""Largest number of frames of a group; 16 are 0 to 0.8 dB above 8 on three clips of video/train."""
BYTES_PER_VALUE = 120.0  # peak memory of a group, as measured on pictures
UNITS = 128  # of the logarithms per octave of variance
# log2 variance of a temporal octave around frequency f, 0.5 for the fastest change, above that of a picture:
# MOTION - MOTION_SLOPE * log2(2 f), and of the mean STILL * log2(frames): medians over video/train.
MOTION, MOTION_SLOPE, STILL = -4.5, 1.5, 0.5


@dataclass(frozen=True, eq=False)
class GroupSpectrum:
    """Variances of the cosine coefficients of a group of frames, [frames, 3, height, width].

        log2 variance[t, plane, u, v] = typical(octave of t) + log2 variance of its spectrum[plane, u, v]

    All temporal frequencies t of an octave (0; 1; 2 and 3; 4 to 7; ...) have one `Spectrum`.

    Args:
        frames: Number of frames.
        spectra: One spectrum per octave, all of one level.
    """

    frames: int
    spectra: tuple[Spectrum, ...]

    @property
    def level(self) -> int:
        """Index into `LEVELS`, common to all octaves."""
        return self.spectra[0].level

    def largest(self, count: int) -> Int[np.ndarray, " count"]:
        """Flat indices of the coefficients of largest variance, in falling order; ties in raster order."""
        return np.argsort(-self._logarithms, kind="stable")[:count]

    def variances(self, index: Int[np.ndarray, " some"]) -> Float[np.ndarray, " some"]:
        """Variances of the coefficients at given flat indices, [some]."""
        return np.exp2(self._logarithms[index] / UNITS)

    def total(self) -> float:
        """Sum of the variances of all coefficients."""
        return float(np.exp2(self._logarithms / UNITS).sum())

    def symbols(self) -> list[Symbol]:
        """Values for `pack`, octave by octave, with their frequency tables."""
        return [symbol for spectrum in self.spectra for symbol in spectrum.symbols()]

    @cached_property
    def _logarithms(self) -> Int[np.ndarray, " values"]:
        """Rounded to integers, so that transmitter and receiver agree on which coefficients are largest."""
        parts: list[np.ndarray] = []
        for octave, spectrum in zip(octaves(self.frames), self.spectra, strict=True):
            every = np.arange(3 * math.prod(spectrum.shape))
            exact = np.log2(spectrum.variances(every)) + typical(octave, self.frames)
            parts += [np.rint(UNITS * exact).clip(-(2**15) + 1, 2**15 - 1).astype(np.int16)] * len(octave)
        return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class GroupModel:
    """Description of the coefficients of a group of frames by a `GroupSpectrum`.

    Args:
        frames: Number of frames, at least 1.
        shape: Height and width.
    """

    frames: int
    shape: tuple[int, int]

    @property
    def spectra(self) -> int:
        """Number of temporal octaves, each with a spectrum."""
        return len(octaves(self.frames))

    @property
    def values(self) -> int:
        """Number of coefficients, 3 frames height width."""
        return 3 * self.frames * math.prod(self.shape)

    def least_bits(self, level: int) -> int:
        """Length in bits of the shortest description at a level."""
        return self.spectra * Spectrum.least_bits(self.shape, level)

    def fits(
        self, coefficients: Float[np.ndarray, "frames 3 height width"]
    ) -> Callable[[int], GroupSpectrum]:
        """Prepare the description of coefficients at any level."""
        histograms = [
            [
                Histogram.of(
                    np.sqrt(
                        np.mean(coefficients[octave.start : octave.stop, plane] ** 2, axis=0)
                        * 2.0 ** -typical(octave, self.frames)
                    )
                )
                for plane in range(3)
            ]
            for octave in octaves(self.frames)
        ]
        return lambda level: GroupSpectrum(
            self.frames, tuple(Spectrum.fit(of_octave, level) for of_octave in histograms)
        )

    def read(self, message: Unpacker, level: int) -> GroupSpectrum:
        """Read the spectra of all octaves; raises CorruptPayload if a node is out of range."""
        spectra = tuple(Spectrum.read(message, self.shape, level) for _ in range(self.spectra))
        return GroupSpectrum(self.frames, spectra)


@dataclass(frozen=True)
class ClipSoftCast:
    """SoftCast of clips: uncoded linear transmission of groups of frames, without motion compensation.

        c = orthonormal cosine transform of a group of frames over time, height and width

    and then as `SoftCast` sends a picture: the coefficients of largest variance, with the amplitudes of
    least mean squared error, whitened over the symbols of the group, after metadata that tell their
    variances (`GroupSpectrum`). What does not move is sent once per group. A clip is divided into the fewest
    groups of at most `group` frames, of nearly equal length; each has its share of the symbols by its number
    of frames, and a power of at most 1. The metadata have about 5 s cbrt(k / s) bits for k symbols and s
    temporal octaves. A group whose metadata are lost is shown as the last frame before it that arrived, or
    else as the first one after it.

    Args:
        coder: Allocation of power, code rate of the metadata, and channel knowledge.
        group: Largest number of frames of a group, at least 1.

    Reference:
        Jakubczak and Katabi, A cross-layer design for scalable mobile video, MobiCom 2011: three-dimensional
        transform of groups of pictures, there with variances of rectangular chunks and a Hadamard transform.
    """

    coder: SoftCast = field(default_factory=SoftCast)
    group: int = GROUP

    @property
    def name(self) -> str:
        """Canonical name: "softcast" or "softcast:csit-average"."""
        return self.coder.name

    @property
    def csit(self) -> Csit:
        """Channel knowledge at the transmitter: "average" or "none"."""
        return self.coder.csit

    def send(self, x: Clip, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Transform every group, scale its coefficients of largest variance, and encode its metadata."""
        size, parts = (x.frames.shape[2], x.frames.shape[3]), []
        for frames, share in self._groups(len(x.frames), uses):
            model = _model(len(frames), size)
            coefficients = transformed(x.frames[frames.start : frames.stop])
            parts.append(self.coder.send_coefficients(coefficients, model, share, known))
            if parts[-1].cause:
                return nothing_sent(f"{parts[-1].cause} ({len(frames)} of {len(x.frames)} frames)")
        symbols = torch.cat([part.symbols for part in parts], 1)
        info = {
            "payload_bits": sum(part.info["payload_bits"] for part in parts),
            "level": sum(part.info["level"] for part in parts) / len(parts),
            "papr_db": papr_db(symbols),
        }
        return Sent(symbols, info=info)

    def receive(self, received: Received, shape: ClipShape, uses: int) -> list[Observation[Clip]]:
        """Estimate the coefficients of every group linearly with least mean squared error."""
        size, batch = (shape.height, shape.width), received.y.shape[0]
        found: list[dict[int, Tensor]] = [{} for _ in range(batch)]
        start = 0
        for frames, share in self._groups(shape.frames, uses):
            model = _model(len(frames), size)
            stop = start + self.coder.layout(model, share).uses
            heard = self.coder.receive_coefficients(received[start:stop], model, share)
            for clip, of_group in zip(found, heard, strict=True):
                if of_group is not None:
                    estimated, _ = estimated_coefficients(*of_group, model.values)
                    shown = restored(estimated.reshape(len(frames), 3, *size))
                    clip |= dict(zip(frames, shown, strict=True))
            start = stop
        return [_observed(clip, shape) for clip in found]

    def _groups(self, frames: int, uses: int) -> list[tuple[range, int]]:
        """Frames of every group, and its number of symbols."""
        divided = groups(frames, -(-frames // self.group)).values()
        ends = [uses * end // frames for end in accumulate((len(part) for part in divided), initial=0)]
        return [(part, b - a) for part, (a, b) in zip(divided, pairwise(ends), strict=True)]


def octaves(frames: int) -> list[range]:
    """Temporal frequencies of a group of frames: 0, 1, 2 to 3, 4 to 7, and so on.

    Args:
        frames: Number of frames, at least 1.

    Returns:
        The octaves.

    Example:
        >>> octaves(6)
        [range(0, 1), range(1, 2), range(2, 4), range(4, 6)]
    """
    found = [range(1)]
    while found[-1].stop < frames:
        found.append(range(found[-1].stop, min(2 * found[-1].stop, frames)))
    return found


def typical(octave: range, frames: int) -> float:
    """Typical log2 variance of the coefficients of a temporal octave, above that of a single picture.

    Args:
        octave: Temporal frequencies, of `octaves(frames)`.
        frames: Number of frames of the group.

    Returns:
        Octaves of variance; 0 for a single frame.
    """
    if octave.start == 0:
        return STILL * math.log2(frames)
    return MOTION - MOTION_SLOPE * math.log2(1.5 * octave.start / frames)


def transformed(
    frames: UInt8[Tensor, "frames 3 height width"],
) -> Float[np.ndarray, "frames 3 height width"]:
    """Orthonormal cosine transform of a group of frames over time, height and width, in decorrelated planes.

    Args:
        frames: Frames of 8 bits, [frames, 3, height, width].

    Returns:
        Coefficients, [frames, 3, height, width], temporal frequency first.
    """
    planes = np.stack([transform(to_image(frame)) for frame in frames])
    return np.asarray(dct(planes, axis=0, norm="ortho"))


def restored(
    coefficients: Float[np.ndarray, "frames 3 height width"],
) -> list[UInt8[Tensor, "3 height width"]]:
    """Frames of given cosine coefficients, the inverse of `transformed`, rounded to 8 bits.

    Args:
        coefficients: Coefficients, [frames, 3, height, width].

    Returns:
        One frame per time.
    """
    planes = np.asarray(idct(coefficients, axis=0, norm="ortho"))
    return [from_image(inverse_transform(of_frame)) for of_frame in planes]


def _model(frames: int, size: tuple[int, int]) -> GroupModel:
    """Model of a group, if there is memory for its coefficients."""
    model = GroupModel(frames, size)
    require_memory(
        BYTES_PER_VALUE * model.values,
        f"softcast of {frames} frames of {size[1]}x{size[0]}",
        "scale the clip, or take softcast-2d",
    )
    return model


def _observed(found: dict[int, Tensor], shape: ClipShape) -> Observation[Clip]:
    gaps = held_last(found, shape)
    if gaps is None:
        return Observation(None)
    return Observation(gaps.x, (gaps if any(gaps.missing) else Decoded(gaps.x),))
