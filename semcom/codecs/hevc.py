"""HEVC intra (H.265): encoded by x265, decoded by FFmpeg, both through PyAV."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from semcom.codecs import isobmff
from semcom.codecs.annexb import nal_units
from semcom.codecs.still import Pixels, Size

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

_MIN_SIDE = 32  # below, x265 takes coding tree units of 16, which the standard forbids in long pictures
# Quantiser, and offset for the colour differences, coarse to fine. Offsets fill the steps between quantisers,
# which are 12 percent in size at the coarse end and 6 at the fine end.
_SETTINGS = tuple(
    (quantiser, offset)
    for quantiser in range(51, 0, -1)
    for offset in ((2, 0, -2) if quantiser > 30 else (1, 0, -1) if quantiser > 21 else (1, 0))
)
_VPS, _SPS, _PPS = 32, 33, 34  # ITU-T H.265, table 7-1
_IDR_W_RADL, _IDR_N_LP = 19, 20


@dataclass(frozen=True)
class HevcIntra:
    """HEVC intra still picture: one key frame, 4:4:4, 8 bits, full range, BT.601 matrix, in a HEIF container.

    Constant quantiser without adaptive quantisation or psychovisual terms, which cost more than a tenth of
    the rate at equal PSNR. Between two quantisers lie settings whose colour differences are quantised more
    coarsely or finely, so that sizes step by about 4 percent. The stream is the number of the setting and the
    slice NAL unit; the parameter sets depend on size and setting alone and are rebuilt. Sides below 32 are
    padded.

    This is not BPG, which is another container around HEVC; the coding tools are the same.

    Args:
        preset: Preset of x265, which trades time for rate.

    Reference:
        ITU-T H.265 (2021), 7.3.1 and 7.4.2; ISO/IEC 14496-15:2022, 8.3.3 for the configuration record.
    """

    preset: str = "slow"

    @property
    def name(self) -> str:
        """Canonical name of the format: "hevc-intra"."""
        return "hevc-intra"

    @property
    def settings(self) -> int:
        """Number of settings: quantisers 51 to 1, two or three settings each."""
        return len(_SETTINGS)

    def file(self, pixels: Pixels, setting: int) -> bytes:
        """Encode a picture as a HEIF file."""
        size = (pixels.shape[1], pixels.shape[0])
        record = _configuration_record(self._parameter_sets(size, setting))
        slice_nal = self._encode(pixels, setting)
        data = struct.pack(">I", len(slice_nal)) + slice_nal
        return isobmff.write(isobmff.StillItem(b"hvc1", record, size, _coded(size), data))

    def stream(self, pixels: Pixels, setting: int) -> bytes:
        """Encode a picture as number of the setting and slice NAL unit."""
        return bytes([setting]) + self._encode(pixels, setting)

    def file_size(self, file: bytes) -> Size:
        """Width and height in pixels from the container; the parameter sets are compared with it later."""
        return isobmff.read(file).size

    def file_pixels(self, file: bytes, size: Size) -> Pixels:
        """Decode a HEIF file by FFmpeg, if its parameter sets are among those that this format writes."""
        item = isobmff.read(file)
        offsets = {offset: setting for setting, (_, offset) in enumerate(_SETTINGS)}
        for setting in offsets.values():  # the quantiser is in the slice, the offset in the parameter sets
            record = _configuration_record(self._parameter_sets(size, setting))
            if record == item.config:
                return _decode(record, item.data[4:], size)
        raise ValueError("HEVC picture of another encoder, or damaged")

    def stream_pixels(self, stream: bytes, size: Size) -> Pixels:
        """Decode a stream, prefixed with the parameter sets of this size and setting."""
        setting = stream[0]
        if setting >= self.settings:
            raise ValueError(f"setting of {setting}, expected 0..{self.settings - 1}")
        return _decode(_configuration_record(self._parameter_sets(size, setting)), stream[1:], size)

    def _parameter_sets(self, size: Size, setting: int) -> tuple[bytes, ...]:
        return _parameter_sets(self.preset, _coded(size), _SETTINGS[setting][1])

    def _encode(self, pixels: Pixels, setting: int) -> bytes:
        import av

        height, width, _ = pixels.shape
        coded_width, coded_height = _coded((width, height))
        padding = ((0, coded_height - height), (0, coded_width - width), (0, 0))
        picture = av.VideoFrame.from_ndarray(np.pad(pixels, padding, mode="edge"), "rgb24").reformat(
            format="yuv444p", dst_colorspace="ITU601", dst_color_range="JPEG"
        )
        picture.pts = 0
        encoder = _encoder(self.preset, (coded_width, coded_height), *_SETTINGS[setting])
        packets = encoder.encode(picture) + encoder.encode(None)
        (slice_nal,) = (nal for nal in nal_units(b"".join(map(bytes, packets))) if _nal_type(nal) < _VPS)
        return slice_nal


def _coded(size: Size) -> Size:
    return max(size[0], _MIN_SIDE), max(size[1], _MIN_SIDE)


def _encoder(preset: str, size: Size, quantiser: int, offset: int) -> "VideoCodecContext":
    from av.codec.context import Flags
    from av.video.codeccontext import VideoCodecContext

    encoder = VideoCodecContext.create("libx265", "w")
    encoder.width, encoder.height = size
    encoder.pix_fmt = "yuv444p"
    encoder.framerate, encoder.time_base = Fraction(1), Fraction(1)
    encoder.options = {
        "preset": preset,
        "x265-params": f"qp={quantiser}:cbqpoffs={offset}:crqpoffs={offset}:aq-mode=0:psy-rd=0:psy-rdoq=0:"
        "keyint=1:range=full:info=0:pools=none:frame-threads=1:log-level=none",
    }
    encoder.flags |= Flags.global_header
    encoder.open()
    return encoder


@lru_cache(maxsize=64)
def _parameter_sets(preset: str, size: Size, offset: int) -> tuple[bytes, ...]:
    """VPS, SPS and PPS of a size, which the encoder provides before it has seen a picture."""
    return nal_units(_encoder(preset, size, 51, offset).extradata or b"")


def _decode(record: bytes, slice_nal: bytes, size: Size) -> Pixels:
    import av
    from av.video.codeccontext import VideoCodecContext

    if _nal_type(slice_nal) not in (_IDR_W_RADL, _IDR_N_LP):
        raise ValueError("no slice of a key frame")
    decoder = VideoCodecContext.create("hevc", "r")
    decoder.extradata = record
    decoder.thread_count = 1
    packet = av.Packet(struct.pack(">I", len(slice_nal)) + slice_nal)
    (picture,) = decoder.decode(packet) + decoder.decode(None)
    pixels = picture.reformat(format="rgb24", src_colorspace="ITU601", src_color_range="JPEG").to_ndarray()
    return np.ascontiguousarray(pixels[: size[1], : size[0]])


def _nal_type(nal: bytes) -> int:
    return nal[0] >> 1 & 0x3F


def _configuration_record(parameter_sets: tuple[bytes, ...]) -> bytes:
    """Body of the hvcC box."""
    sps = next(unit for unit in parameter_sets if _nal_type(unit) == _SPS)
    general = sps.replace(b"\0\0\3", b"\0\0")[
        3:15
    ]  # profile, tier, level: behind the NAL header and one byte
    arrays = b"".join(
        struct.pack(">BHH", 0x80 | _nal_type(unit), 1, len(unit)) + unit for unit in parameter_sets
    )
    # no spatial segmentation, parallelism unknown, 4:4:4, 8 bits, one layer, NAL lengths of 4 bytes
    fixed = struct.pack(">HBBBBHB", 0xF000, 0xFC, 0xFC | 3, 0xF8, 0xF8, 0, 0x0F)
    return b"\1" + general + fixed + bytes([len(parameter_sets)]) + arrays
