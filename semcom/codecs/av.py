"""H.264 and H.265 video coding by x264 and x265 through PyAV; decoding by libavcodec."""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import torch
from torch import Tensor

from semcom.codecs.annexb import byte_stream, nal_units
from semcom.codecs.clip import fit_clip
from semcom.codecs.codec import Fitted, Quality
from semcom.codecs.still import Pixels, Resized, Size, enlarge, reduced_size, shrink
from semcom.errors import CorruptPayload, InvalidOption, reason_of
from semcom.modalities.video import Clip, ClipShape

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.codeccontext import VideoCodecContext

SCALES = (4, 2, 1)
SETTINGS = 52
"""Number of settings: constant rate factors from 51 (coarse) to 0."""

_RATE = 25  # frame rate passed to the encoders; the clip's own is known from its shape
_BT709, _LIMITED, _FULL = 1, 1, 2
# bicubic, full interpolation of colour differences, exact rounding: within half a level of the formula
_EXACTLY = 4 | 0x2000 | 0x4000 | 0x40000 | 0x80000


@dataclass(frozen=True)
class _Library:
    """Parameters in which x264 and x265 differ.

    Args:
        encoder: Name of the encoder in libavcodec.
        decoder: Name of the decoder in libavcodec.
        options: Options of the encoder; one thread, so that equal clips give equal bytes.
        kinds: NAL unit types of slices.
        min_side: Smallest side of a coded frame in pixels; smaller frames are padded.
    """

    encoder: str
    decoder: str
    options: str
    kinds: frozenset[int]
    min_side: int

    def kind(self, unit: bytes) -> int:
        """Type of a NAL unit, from its header."""
        return unit[0] & 0x1F if self.decoder == "h264" else unit[0] >> 1 & 0x3F


_LIBRARIES = {
    "x264": _Library(
        "libx264",
        "h264",
        # the first option avoids an AVX routine that reads uninitialised memory
        "cpu-independent=1:threads=1:lookahead-threads=1:sliced-threads=0:keyint=infinite:log-level=-1",
        frozenset({1, 5}),  # ITU-T H.264, table 7-1
        32,
    ),
    "x265": _Library(
        "libx265",
        "hevc",
        "pools=none:frame-threads=1:wpp=0:keyint=-1:info=0:log-level=none",
        frozenset(range(22)),  # ITU-T H.265, table 7-1
        # x265 4.2 writes out of bounds at widths below 56, and reads uninitialised memory for a single row of
        # coding tree units of 64x64
        72,
    ),
}


@dataclass(frozen=True)
class InterCodec:
    """Video codec with motion compensation: a clip becomes one elementary stream of H.264 or H.265.

    The payload is one byte for scale and constant rate factor, followed by the slices as NAL units with start
    codes. The receiver rebuilds the parameter sets, which depend only on shape, scale and rate factor; SEI
    messages are left out. RGB is converted to 4:2:0 in limited range by the matrix of BT.709 and back. Sides
    that are odd or below 32 (x265: 72) are padded by repetition of the last pixels. Key frames are the first
    frame and scene cuts.

    Args:
        library: Encoder, "x264" or "x265".
        preset: Preset of the encoder, a trade-off between speed and rate ("medium", "slow").

    Reference:
        ITU-T H.264 and ITU-T H.265, annex B.
    """

    library: Literal["x264", "x265"]
    preset: str = "medium"

    @property
    def name(self) -> str:
        """Canonical name, for instance "x265", or "x265-slow" for a preset other than "medium"."""
        return self.library if self.preset == "medium" else f"{self.library}-{self.preset}"

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """All operating points: scales 4, 2 and 1, and within a scale constant rate factors from 51 to 0."""
        return tuple(Quality(scale, setting) for scale in SCALES for setting in range(SETTINGS))

    def encode(self, x: Clip, quality: Quality) -> bytes:
        """Encode a clip as one byte for scale and rate factor and an elementary stream of slices."""
        if quality.scale not in SCALES or not 0 <= quality.setting < SETTINGS:
            raise InvalidOption(
                f"{quality} of {self.name}: scale must be one of {SCALES}, setting in 0..{SETTINGS - 1}"
            )
        _, _, height, width = x.frames.shape
        library = _LIBRARIES[self.library]
        size = self._coded((width, height), quality.scale)
        encoder = _encoder(self, size, quality.setting)
        packets = []
        for number, frame in enumerate(x.frames):
            picture = _to_yuv(_padded(shrink(_interleaved(frame), quality.scale), size))
            picture.pts, picture.time_base = number, Fraction(1, _RATE)
            packets += encoder.encode(picture)
        packets += encoder.encode(None)
        units = nal_units(b"".join(map(bytes, packets)))
        slices = tuple(unit for unit in units if library.kind(unit) in library.kinds)
        return bytes([SCALES.index(quality.scale) * SETTINGS + quality.setting]) + byte_stream(slices)

    def decode(self, payload: bytes, shape: ClipShape) -> Clip:
        """Decode a payload to a clip.

        Args:
            payload: Any bytes.
            shape: Number of frames, height, width and frame rate of the clip.

        Returns:
            A clip of this shape.

        Raises:
            CorruptPayload: The bytes contain NAL units other than slices, cannot be decoded, or decode to
                another number of frames.
        """
        try:
            scale, setting = SCALES[payload[0] // SETTINGS], payload[0] % SETTINGS
            pictures = self._decode(payload[1:], shape, scale, setting)
        except Exception as error:  # whatever a foreign decoder throws at damaged bytes
            raise CorruptPayload(
                f"{self.name} payload of {len(payload)} bytes cannot be decoded: {reason_of(error)}"
            ) from None
        size = (shape.width, shape.height)
        width, height = reduced_size(size, scale)
        frames = [enlarge(picture[:height, :width], size) for picture in pictures]
        return Clip(torch.stack([_planar(frame) for frame in frames]), shape.frame_rate)

    def fit(self, x: Clip, max_bits: int) -> Fitted[Clip]:
        """Find the scale and rate factor of least mean squared error within a number of bits."""
        return fit_clip(self, x, max_bits)

    def _coded(self, size: Size, scale: int) -> Size:
        """Size of the coded frames: downscaled, rounded up to even sides, at least the encoder's minimum."""
        least = _LIBRARIES[self.library].min_side
        width, height = (max(side + side % 2, least) for side in reduced_size(size, scale))
        return width, height

    def _decode(self, stream: bytes, shape: ClipShape, scale: int, setting: int) -> list[Pixels]:
        from av.codec.context import CodecContext

        library = _LIBRARIES[self.library]
        units = nal_units(stream)
        strange = [library.kind(unit) if unit else 0 for unit in units]
        if not units or not library.kinds.issuperset(strange):
            raise ValueError("other units than slices")  # e.g. parameter sets that announce a huge frame
        size = self._coded((shape.width, shape.height), scale)
        decoder = cast("VideoCodecContext", CodecContext.create(library.decoder, "r"))
        decoder.thread_count = 1
        decoder.options = {"err_detect": "explode"}  # report damage instead of concealing it
        pictures: list[Pixels] = []
        packets = decoder.parse(_parameter_sets(self, size, setting) + byte_stream(units))
        for packet in (*packets, *decoder.parse(), None):
            for frame in decoder.decode(packet):
                if frame.is_corrupt or (frame.width, frame.height) != size:
                    raise ValueError("damaged frame")
                if len(pictures) == shape.frames:
                    raise ValueError(f"more than {shape.frames} frames")
                pictures.append(_to_rgb(frame))
        if len(pictures) != shape.frames:
            raise ValueError(f"{len(pictures)} of {shape.frames} frames")
        return pictures


def _padded(pixels: Pixels, size: Size) -> Resized:
    height, width, _ = pixels.shape
    return np.pad(pixels, ((0, size[1] - height), (0, size[0] - width), (0, 0)), mode="edge")


def _interleaved(frame: Tensor) -> Pixels:
    return frame.detach().cpu().permute(1, 2, 0).contiguous().numpy()


def _planar(pixels: Pixels) -> Tensor:
    return torch.from_numpy(np.array(pixels.transpose(2, 0, 1), order="C"))


def _to_yuv(pixels: Pixels) -> "VideoFrame":
    import av

    return av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(
        format="yuv420p",
        dst_colorspace=_BT709,
        src_color_range=_FULL,
        dst_color_range=_LIMITED,
        interpolation=_EXACTLY,
        threads=1,
    )


def _to_rgb(frame: "VideoFrame") -> Pixels:
    return frame.reformat(
        format="rgb24",
        src_colorspace=_BT709,
        src_color_range=_LIMITED,
        dst_color_range=_FULL,
        interpolation=_EXACTLY,
        threads=1,
    ).to_ndarray()


def _encoder(codec: InterCodec, size: Size, setting: int) -> "VideoCodecContext":
    from av.codec.context import CodecContext, Flags

    library = _LIBRARIES[codec.library]
    encoder = cast("VideoCodecContext", CodecContext.create(library.encoder, "w"))
    encoder.width, encoder.height = size
    encoder.pix_fmt = "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(_RATE), Fraction(1, _RATE)
    encoder.thread_count = 1
    encoder.options = {
        "preset": codec.preset,
        "crf": str(SETTINGS - 1 - setting),
        f"{codec.library}-params": library.options,
    }
    encoder.flags |= Flags.global_header
    encoder.open()
    return encoder


@lru_cache(maxsize=64)
def _parameter_sets(codec: InterCodec, size: Size, setting: int) -> bytes:
    """Parameter sets of the stream, which an encoder emits before the first frame, without SEI messages."""
    library = _LIBRARIES[codec.library]
    messages = {6} if codec.library == "x264" else {39, 40}
    units = nal_units(_encoder(codec, size, setting).extradata or b"")
    return byte_stream(tuple(unit for unit in units if library.kind(unit) not in messages))
