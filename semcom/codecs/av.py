"""H.264, H.265, AV1 and VP9 video coding by x264, x265, SVT-AV1 and libvpx; decoding by libavcodec and dav1d.

All libraries are reached through PyAV.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, cast

import torch

from semcom.codecs.chroma import interleaved, padded, planar, to_rgb, to_yuv
from semcom.codecs.clip import fit_clip, joined
from semcom.codecs.codec import Fitted, Quality
from semcom.codecs.elementary import LengthSyntax, NalSyntax, ObuSyntax, Syntax
from semcom.codecs.still import Pixels, Size, enlarge, reduced_size, shrink
from semcom.errors import CorruptPayload, InvalidOption, reason_of
from semcom.modalities.video import Clip, ClipShape

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.codeccontext import VideoCodecContext

SCALES = (4, 2, 1)

_RATE = 25  # frame rate passed to the encoders; the clip's own is known from its shape
_BLOCK = 128  # largest block to whose multiples a decoder may round up the sides of its frames

Library = Literal["x264", "x265", "av1", "vp9"]
Speed = Literal["medium", "slow", "live"]
LIBRARIES: tuple[Library, ...] = ("x264", "x265", "av1", "vp9")
SPEEDS: tuple[Speed, ...] = ("medium", "slow", "live")


@dataclass(frozen=True)
class _Library:
    """Parameters in which the encoders differ.

    Args:
        encoder: Name of the encoder in libavcodec.
        decoder: Name of the decoder in libavcodec.
        syntax: Syntax of the elementary stream.
        coarsest: Largest constant rate factor; the smallest is 0.
        steps: Settings per unit of the rate factor.
        min_side: Smallest side of a coded frame in pixels; smaller frames are padded.
        speeds: Options of the encoder by speed; "{crf}" stands for the rate factor.
    """

    encoder: str
    decoder: str
    syntax: Syntax
    coarsest: int
    steps: int
    min_side: int
    speeds: Mapping[str, Mapping[str, str]]

    def options(self, speed: str, setting: int) -> dict[str, str]:
        """Options of the encoder for a speed and a setting, 0 for the coarsest rate factor."""
        factor = f"{self.coarsest - setting / self.steps:g}"
        return {name: value.format(crf=factor) for name, value in self.speeds[speed].items()}


def _speeds(
    common: Mapping[str, str], medium: Mapping[str, str], slow: Mapping[str, str], live: Mapping[str, str]
) -> Mapping[str, Mapping[str, str]]:
    return MappingProxyType(
        {"medium": {**common, **medium}, "slow": {**common, **slow}, "live": {**common, **live}}
    )


_X264 = {
    "crf": "{crf}",
    # the first option avoids an AVX routine that reads uninitialised memory
    "x264-params": "cpu-independent=1:threads=1:lookahead-threads=1:sliced-threads=0:keyint=infinite:"
    "log-level=-1",
}
_X265 = {
    "crf": "{crf}",
    "x265-params": "pools=none:frame-threads=1:wpp=0:keyint=-1:info=0:log-level=none",
}
_SVT = "lp=1:keyint=-1:crf={crf}"
_VP9 = {"crf": "{crf}", "g": "999999", "row-mt": "0", "tile-columns": "0"}

_LIBRARIES: Mapping[str, _Library] = MappingProxyType(
    {
        "x264": _Library(
            "libx264",
            "h264",
            NalSyntax(frozenset({1, 5}), frozenset({7, 8}), 1),
            51,
            1,
            32,
            _speeds(
                _X264,
                {"preset": "medium"},
                {"preset": "slow"},
                {"preset": "veryfast", "tune": "zerolatency"},
            ),
        ),
        "x265": _Library(
            "libx265",
            "hevc",
            NalSyntax(frozenset(range(22)), frozenset({32, 33, 34}), 2),
            51,
            1,
            # x265 4.2 writes out of bounds at widths below 56, and reads uninitialised memory for a single
            # row of coding tree units of 64x64
            72,
            _speeds(
                _X265,
                {"preset": "medium"},
                {"preset": "slow"},
                {"preset": "veryfast", "tune": "zerolatency"},
            ),
        ),
        "av1": _Library(
            "libsvtav1",
            "libdav1d",
            ObuSyntax(),
            70,  # 63 is a floor of 0.011 to 0.018 bit per pixel, 70 one of 0.006 to 0.012 (SVT-AV1 4.1)
            2,
            64,
            _speeds(
                {},
                {"preset": "6", "svtav1-params": _SVT},
                {"preset": "4", "svtav1-params": _SVT},
                {"preset": "9", "svtav1-params": f"{_SVT}:pred-struct=1"},
            ),
        ),
        "vp9": _Library(
            "libvpx-vp9",
            "vp9",
            LengthSyntax(),
            63,
            1,
            16,
            _speeds(
                _VP9,
                {"deadline": "good", "cpu-used": "3", "lag-in-frames": "25", "auto-alt-ref": "1"},
                {"deadline": "good", "cpu-used": "1", "lag-in-frames": "25", "auto-alt-ref": "1"},
                {"deadline": "realtime", "cpu-used": "5", "lag-in-frames": "0"},
            ),
        ),
    }
)


@dataclass(frozen=True)
class InterCodec:
    """Video codec with motion compensation: a clip becomes one elementary stream.

    The payload is one byte, the downscaling factor (4, 2 or 1), followed by the elementary stream:

    - H.264 and H.265: parameter sets and slices as NAL units after start codes of 3 bytes (annex B), without
      SEI messages and access unit delimiters;
    - AV1: sequence header and frames as OBUs with a size field, without temporal delimiters and metadata;
    - VP9: every frame or superframe after its length as a variable-length integer.

    Parameter sets are sent once. The decoder needs nothing but the payload and the shape of the clip. RGB is
    converted to 4:2:0 and back by `semcom.codecs.chroma`. Sides that are odd or below 64 (x264: 32, x265: 72,
    VP9: 16) are padded by repetition of the last pixels. Key frames are the first frame and, if the encoder
    so decides, scene cuts.

    | codec | medium | slow | live |
    | --- | --- | --- | --- |
    | x264, x265 | preset medium | preset slow | preset veryfast, tune zerolatency |
    | av1 (SVT-AV1) | preset 6 | preset 4 | preset 9, low delay (`pred-struct=1`) |
    | vp9 (libvpx) | good, cpu-used 3 | good, cpu-used 1 | realtime, cpu-used 5, no lag |

    Encoders run in one thread, so that equal clips give equal bytes.

    Args:
        library: Encoder, "x264", "x265", "av1" or "vp9".
        speed: "medium", "slow" (offline), or "live" (zero latency: no frame waits for a later one).

    Raises:
        InvalidOption: There is no such encoder or speed.

    Reference:
        ITU-T H.264; ITU-T H.265; AV1 Bitstream & Decoding Process Specification; VP9 Bitstream & Decoding
        Process Specification.
    """

    library: Library
    speed: Speed = "medium"

    def __post_init__(self) -> None:
        if self.library not in LIBRARIES or self.speed not in SPEEDS:
            raise InvalidOption(
                f"no video codec {self.library!r} at speed {self.speed!r}; there are "
                f"{', '.join(LIBRARIES)} at {', '.join(SPEEDS)}"
            )

    @property
    def name(self) -> str:
        """Canonical name, for instance "x265", or "x265-slow" for a speed other than "medium"."""
        return self.library if self.speed == "medium" else f"{self.library}-{self.speed}"

    @property
    def syntax(self) -> Syntax:
        """Syntax of the elementary stream."""
        return _LIBRARIES[self.library].syntax

    @property
    def reorders(self) -> bool:
        """Whether access units may come in another order than the frames that they show."""
        return self.library in ("x264", "x265") and self.speed != "live"

    @property
    def settings(self) -> int:
        """Number of settings of a scale: 52 (x264, x265), 141 (av1, in halves) or 64 (vp9)."""
        library = _LIBRARIES[self.library]
        return library.steps * library.coarsest + 1

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """All operating points: scales 4, 2 and 1, within a scale constant rate factors from coarse to 0."""
        return tuple(Quality(scale, setting) for scale in SCALES for setting in range(self.settings))

    def scale(self, payload: bytes, shape: tuple[int, ...]) -> int:
        """Factor by which a clip was reduced before coding, as the payload tells it.

        Args:
            payload: Bytes that `encode` made.
            shape: Shape of a frame, (1, 3, height, width), which is not needed.

        Returns:
            1, 2 or 4.

        Raises:
            CorruptPayload: The payload begins with another byte, or is empty.
        """
        if payload[:1] not in (b"\1", b"\2", b"\4"):
            raise CorruptPayload(f"{self.name} payload of {len(payload)} bytes: no scale in its first byte")
        return payload[0]

    def quality(self, rate_factor: int | float, scale: int = 1) -> Quality:
        """Operating point of a constant rate factor.

        Args:
            rate_factor: Constant rate factor (CRF) of the encoder: 0..51 (x264, x265), 0..70 in steps of 0.5
                (av1), or 0..63 (vp9); smaller is finer. Other values are rounded to these steps.
            scale: Downscaling factor, 1, 2 or 4.

        Returns:
            One of `qualities`.

        Raises:
            InvalidOption: The codec does not have this operating point.
        """
        steps = _LIBRARIES[self.library].steps
        return self._checked(Quality(scale, self.settings - 1 - round(steps * rate_factor)))

    def rate_factor(self, quality: Quality) -> float:
        """Constant rate factor of an operating point, the inverse of `quality`.

        Args:
            quality: One of `qualities`.

        Returns:
            The rate factor that is passed to the encoder.
        """
        return (self.settings - 1 - quality.setting) / _LIBRARIES[self.library].steps

    def encode(self, x: Clip, quality: Quality) -> bytes:
        """Encode a clip as one byte for the scale and an elementary stream."""
        packets = [data for _, data in self.packets(x, quality)]
        return bytes([quality.scale]) + self.syntax.stream(packets)

    def packets(self, x: Clip, quality: Quality) -> list[tuple[int, bytes]]:
        """Encode a clip, and return its access units as the encoder emits them.

        Args:
            x: The clip.
            quality: One of `qualities`.

        Returns:
            Index of the frame that an access unit shows, and its bytes, in decoding order.

        Raises:
            InvalidOption: The codec does not have this quality.
        """
        self._checked(quality)
        _, _, height, width = x.frames.shape
        size = self._coded((width, height), quality.scale)
        encoder = _encoder(self, size, quality.setting)
        packets = []
        for number, frame in enumerate(x.frames):
            picture = to_yuv(padded(shrink(interleaved(frame), quality.scale), size))
            picture.pts, picture.time_base = number, Fraction(1, _RATE)
            packets += encoder.encode(picture)
        packets += encoder.encode(None)
        return [(packet.pts, bytes(packet)) for packet in packets]

    def decode(self, payload: bytes, shape: ClipShape) -> Clip:
        """Decode a payload to a clip.

        Args:
            payload: Any bytes.
            shape: Number of frames, height, width and frame rate of the clip.

        Returns:
            A clip of this shape.

        Raises:
            CorruptPayload: The bytes are no elementary stream, contain other units than parameter sets and
                frames, announce frames of another size, cannot be decoded, or decode to another number of
                frames.
        """
        try:
            units = self.syntax.access_units(payload[1:])
            decoded = self.frames(payload[:1], units, range(len(units)), shape)
            return joined((frame for _, frame in decoded), shape)
        except Exception as error:  # whatever a foreign decoder throws at damaged bytes
            raise CorruptPayload(
                f"{self.name} payload of {len(payload)} bytes cannot be decoded: {reason_of(error)}"
            ) from None

    def frames(
        self, head: bytes, units: Sequence[bytes], numbers: Sequence[int], shape: ClipShape
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Decode access units to the frames that they show.

        Args:
            head: The downscaling factor in one byte.
            units: Access units in decoding order.
            numbers: A number for each unit.
            shape: Height and width of the clip; its number of frames is not looked at.

        Yields:
            Number of an access unit and the frame that it shows, uint8 [3, height, width], in display order.

        Raises:
            ValueError: The head is none, or a frame is damaged or of another size.
            Exception: Any exception of the decoder.
        """
        scale = head[0]
        if scale not in SCALES:
            raise ValueError(f"downscaling by {scale}")
        full = (shape.width, shape.height)
        size = self._coded(full, scale)
        width, height = reduced_size(full, scale)
        for number, picture in _decoded(_LIBRARIES[self.library].decoder, size, units, numbers):
            yield number, planar(enlarge(picture[:height, :width], full))

    def fit(self, x: Clip, max_bits: int) -> Fitted[Clip]:
        """Find the scale and rate factor of least mean squared error within a number of bits.

        Args:
            x: The clip.
            max_bits: Largest length of the payload in bits.

        Returns:
            The payload, its quality and the clip that it decodes to.

        Raises:
            BudgetTooSmall: `max_bits` is below the floor of the codec: its payload at the coarsest rate
                factor and any scale, which the message names.
        """
        return fit_clip(self, x, max_bits)

    def _checked(self, quality: Quality) -> Quality:
        if quality.scale not in SCALES or not 0 <= quality.setting < self.settings:
            raise InvalidOption(
                f"{quality} of {self.name}: scale must be one of {SCALES}, setting in 0..{self.settings - 1}"
            )
        return quality

    def _coded(self, size: Size, scale: int) -> Size:
        """Size of the coded frames: downscaled, rounded up to even sides, at least the encoder's minimum."""
        least = _LIBRARIES[self.library].min_side
        width, height = (max(side + side % 2, least) for side in reduced_size(size, scale))
        return width, height


def _decoded(
    name: str, size: Size, units: Sequence[bytes], numbers: Sequence[int]
) -> Iterator[tuple[int, Pixels]]:
    """Decode access units, each with a number, to RGB frames of one size with these numbers."""
    import av
    from av.codec.context import CodecContext

    decoder = cast("VideoCodecContext", CodecContext.create(name, "r"))
    decoder.thread_count = 1
    width, height = (-(-side // _BLOCK) * _BLOCK for side in size)
    # parameter sets may announce a frame of any size: it is refused before memory is reserved for it;
    # damage is reported, not concealed
    decoder.options = {"max_pixels": str(width * height), "err_detect": "explode"}
    for number, unit in zip(numbers, units, strict=True):
        packet = av.Packet(unit)
        packet.pts = packet.dts = number
        yield from ((frame.pts or 0, _checked_rgb(frame, size)) for frame in decoder.decode(packet))
    yield from ((frame.pts or 0, _checked_rgb(frame, size)) for frame in decoder.decode(None))


def _checked_rgb(frame: "VideoFrame", size: Size) -> Pixels:
    if frame.is_corrupt or (frame.width, frame.height) != size or frame.format.name not in _420:
        raise ValueError("damaged frame, or one of another size or format")
    return to_rgb(frame)


_420 = ("yuv420p", "yuvj420p")


def _encoder(codec: InterCodec, size: Size, setting: int) -> "VideoCodecContext":
    from av.codec.context import CodecContext

    library = _LIBRARIES[codec.library]
    encoder = cast("VideoCodecContext", CodecContext.create(library.encoder, "w"))
    encoder.width, encoder.height = size
    encoder.pix_fmt = "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(_RATE), Fraction(1, _RATE)
    encoder.thread_count = 1
    encoder.bit_rate = 0  # the rate factor alone decides
    encoder.options = library.options(codec.speed, setting)
    with _silent_svt(), _usual_scheduling():
        encoder.open()
    return encoder


@contextmanager
def _usual_scheduling() -> Iterator[None]:
    """Keep SVT-AV1 from real-time priority, which it takes for its threads and the caller's where it may.

    As root it may, and would then starve all other processes of the machine.
    """
    if sys.platform != "linux":
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    before = set(_tasks_in_real_time())
    try:
        yield
    finally:
        for task in set(_tasks_in_real_time()) - before:
            with suppress(OSError):  # it has ended
                os.sched_setscheduler(task, policy, parameters)


def _tasks_in_real_time() -> Iterator[int]:
    """Threads of this process with a real-time policy (sched(7))."""
    for task in os.listdir("/proc/self/task"):
        with suppress(OSError):
            if os.sched_getscheduler(int(task)) in (os.SCHED_FIFO, os.SCHED_RR):
                yield int(task)


_environment = Lock()


@contextmanager
def _silent_svt() -> Iterator[None]:
    """Keep SVT-AV1 from writing to the standard error stream; it asks an environment variable once."""
    with _environment:
        before = os.environ.get("SVT_LOG")
        os.environ["SVT_LOG"] = "0" if before is None else before
        try:
            yield
        finally:
            if before is None:
                del os.environ["SVT_LOG"]
