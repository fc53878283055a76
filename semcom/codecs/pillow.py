"""JPEG, JPEG 2000, WebP and AVIF codecs based on Pillow."""

import io
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from PIL import Image as PillowImage

from semcom.cells import Cells
from semcom.codecs import isobmff
from semcom.codecs.jpeg_cells import jpeg_cells
from semcom.codecs.jpeg_coefficients import read_jpeg
from semcom.codecs.still import Pixels, Size

Subsampling = Literal["4:4:4", "4:2:0"]

# ITU-T T.81, tables K.1 and K.2, row by row: what quality 50 means in every JPEG library
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *(((99,) * 8,) * 4),
)
_SOI, _SOF0, _DHT, _SOS, _EOI = b"\xff\xd8", b"\xff\xc0", b"\xff\xc4", b"\xff\xda", b"\xff\xd9"
_TILE_PART_BYTES = 16  # SOT segment, SOD, EOC
_SOC, _SIZ, _SOT, _EOC = b"\xff\x4f", b"\xff\x51", b"\xff\x90", b"\xff\xd9"


@dataclass(frozen=True)
class Jpeg:
    """Baseline JPEG: sequential, 8 bits, by libjpeg-turbo.

    The quantisation tables are those of annex K times a factor from 25.5 (all entries 255) to 0.1, in 96
    equal ratios, which is finer than the 100 integer qualities where images are coarse. The file has
    optimised Huffman tables. The stream is the number of the setting and the entropy-coded scan, without
    marker segments; optimised Huffman tables precede the scan where they pay off, otherwise those of annex K
    apply.

    Args:
        subsampling: Subsampling of the colour differences: "4:4:4", "4:2:2" or "4:2:0".

    Reference:
        ITU-T T.81 (1992), annexes B, F and K.
    """

    subsampling: Subsampling = "4:2:0"

    @property
    def name(self) -> str:
        """Canonical name of the format: "jpeg", or for instance "jpeg-444" for other subsamplings."""
        return "jpeg" if self.subsampling == "4:2:0" else f"jpeg-{self.subsampling.replace(':', '')}"

    @property
    def settings(self) -> int:
        """Number of settings, that is, of factors for the quantisation tables."""
        return 96

    def file(self, pixels: Pixels, setting: int) -> bytes:
        """Encode a picture as a JFIF file."""
        return self._save(pixels, setting, optimize=True)

    def stream(self, pixels: Pixels, setting: int) -> bytes:
        """Encode a picture as number of the setting, Huffman tables if they pay off, and scan."""
        standard = _jpeg_parts(self._save(pixels, setting, optimize=False))
        optimised = _jpeg_parts(self._save(pixels, setting, optimize=True))
        return bytes([setting]) + min(standard.scan, optimised.tables + optimised.scan, key=len)

    def file_size(self, file: bytes) -> Size:
        """Width and height in pixels from the frame header; the file must be baseline with a single scan."""
        segments = list(_jpeg_segments(file))
        frame = next(segment for segment in segments if segment[:2] == _SOF0)
        if segments[-1][4] != frame[9]:  # components of the scan and of the frame
            raise ValueError("scan without some of the components")
        height, width = struct.unpack(">HH", frame[5:9])
        return width, height

    def file_pixels(self, file: bytes, size: Size) -> Pixels:
        """Decode a JFIF file by libjpeg-turbo."""
        return _open(file, "JPEG", size)

    def stream_pixels(self, stream: bytes, size: Size) -> Pixels:
        """Decode a stream by libjpeg-turbo."""
        return _open(self.stream_file(stream, size), "JPEG", size)

    def file_cells(self, file: bytes, size: Size, whole: Size) -> Cells:
        """Interval of every DCT coefficient that a file pins down."""
        return jpeg_cells(read_jpeg(file, size), whole)

    def stream_cells(self, stream: bytes, size: Size, whole: Size) -> Cells:
        """Interval of every DCT coefficient that a stream pins down."""
        return self.file_cells(self.stream_file(stream, size), size, whole)

    def stream_file(self, stream: bytes, size: Size) -> bytes:
        """Complete a stream to a file with the marker segments of a grey picture of this size and setting.

        Args:
            stream: Elementary stream.
            size: Width and height in pixels.

        Returns:
            A JFIF file.

        Raises:
            ValueError: The stream names a setting that does not exist.
        """
        setting, scan = stream[0], stream[1:]
        if setting >= self.settings:
            raise ValueError(f"setting of {setting}, expected 0..{self.settings - 1}")
        parts = _jpeg_parts(self._save(_grey(size), setting, optimize=False))
        tables = b""
        while scan[:2] == _DHT:  # no scan begins with this marker: inside a scan, 0 follows 0xff
            length = 2 + int.from_bytes(scan[2:4], "big")
            tables, scan = tables + scan[:length], scan[length:]
        return parts.head + parts.tables + tables + parts.scan_header + scan + _EOI

    def _save(self, pixels: Pixels, setting: int, optimize: bool) -> bytes:
        factor = 25.5 * (0.1 / 25.5) ** (setting / (self.settings - 1))
        tables = [
            np.clip(np.round(np.array(table) * factor), 1, 255).astype(int).flatten().tolist()
            for table in (_LUMA, _CHROMA)
        ]
        return _save(pixels, "JPEG", qtables=tables, subsampling=self.subsampling, optimize=optimize)


@dataclass(frozen=True, slots=True)
class _JpegParts:
    """Parts of a JPEG file: head without Huffman tables, Huffman tables, scan header, scan without EOI."""

    head: bytes
    tables: bytes
    scan_header: bytes
    scan: bytes


def _jpeg_parts(file: bytes) -> _JpegParts:
    segments = list(_jpeg_segments(file))
    tables = b"".join(segment for segment in segments if segment[:2] == _DHT)
    head = b"".join(segment for segment in segments[:-1] if segment[:2] != _DHT)
    scan = file[2 + sum(map(len, segments)) :].removesuffix(_EOI)
    return _JpegParts(_SOI + head, tables, segments[-1], scan)


def _jpeg_segments(file: bytes) -> Iterator[bytes]:
    """Marker segments between SOI and the first scan header."""
    segment, at = b"", 2
    while segment[:2] != _SOS:
        marker, length = struct.unpack(">2sH", file[at : at + 4])
        if marker[0] != 0xFF:
            raise ValueError("marker expected")
        segment, at = file[at : at + 2 + length], at + 2 + length
        yield segment


@dataclass(frozen=True)
class Jpeg2000:
    """JPEG 2000 by OpenJPEG: irreversible wavelet 9/7, one tile, one layer.

    Settings are 0.01 to 6 bits per pixel without headers. The stream is the packets of the codestream; the
    main header depends on the size alone and is rebuilt.

    Reference:
        ITU-T T.800 (2019), annex A; ISO/IEC 15444-1, annex I for the JP2 file.
    """

    @property
    def name(self) -> str:
        """Canonical name of the format: "jpeg2000"."""
        return "jpeg2000"

    @property
    def settings(self) -> int:
        """Number of settings, that is, of rates in steps of 1.05."""
        return 132

    def file(self, pixels: Pixels, setting: int) -> bytes:
        """Encode a picture as a JP2 file."""
        header = _main_header((pixels.shape[1], pixels.shape[0]))
        return _save_jpeg2000(pixels, 0.01 * 1.05**setting, header_bytes=len(header) + _TILE_PART_BYTES)

    def stream(self, pixels: Pixels, setting: int) -> bytes:
        """Encode a picture as the packets of its codestream."""
        return self._packets(self.file(pixels, setting), (pixels.shape[1], pixels.shape[0]))

    def file_size(self, file: bytes) -> Size:
        """Width and height in pixels from the SIZ marker segment, which is what the decoder uses."""
        codestream = _codestream(file)
        if codestream[:2] != _SOC or codestream[2:4] != _SIZ:
            raise ValueError("no codestream")
        return struct.unpack(">II", codestream[8:16])

    def file_pixels(self, file: bytes, size: Size) -> Pixels:
        """Decode a JP2 file by OpenJPEG, if its main header is the one that this format writes."""
        return self.stream_pixels(self._packets(file, size), size)

    def stream_pixels(self, stream: bytes, size: Size) -> Pixels:
        """Decode packets, placed between the main header of a grey picture and an end marker."""
        tile_part = struct.pack(">2sHHIBB", _SOT, 10, 0, 14 + len(stream), 0, 1) + b"\xff\x93"
        return _open(_main_header(size) + tile_part + stream + _EOC, "JPEG2000", size)

    def _packets(self, file: bytes, size: Size) -> bytes:
        header = _main_header(size)
        codestream = _codestream(file)
        if not codestream.startswith(header) or not codestream.endswith(_EOC):
            raise ValueError("codestream of another encoder, or damaged")
        return codestream[len(header) + _TILE_PART_BYTES - len(_EOC) : -len(_EOC)]


def _codestream(file: bytes) -> bytes:
    return isobmff.children(file)[b"jp2c"]  # JP2 has the boxes of ISO base media files


@lru_cache(maxsize=64)
def _main_header(size: Size) -> bytes:
    codestream = _codestream(_save_jpeg2000(_grey(size), 1.0, header_bytes=0))
    return codestream[: codestream.index(_SOT)]


def _save_jpeg2000(pixels: Pixels, bits_per_pixel: float, header_bytes: int) -> bytes:
    budget_bytes = header_bytes + bits_per_pixel * pixels.size / 24
    rate = pixels.size / budget_bytes  # OpenJPEG counts the headers in, the setting does not
    return _save(pixels, "JPEG2000", quality_mode="rates", quality_layers=[rate], irreversible=True, mct=1)


@dataclass(frozen=True)
class WebP:
    """Lossy WebP (VP8 key frame) by libwebp.

    The stream is the VP8 frame without its start code and size.

    Args:
        effort: Compression method of libwebp, 0 (fast) to 6.

    Reference:
        RFC 9649 (WebP container); RFC 6386, 9.1 (VP8 frame header).
    """

    effort: int = 4

    @property
    def name(self) -> str:
        """Canonical name of the format: "webp"."""
        return "webp"

    @property
    def settings(self) -> int:
        """Number of settings: qualities 0 to 98, since the encoder has at most one step for each."""
        return 99

    def file(self, pixels: Pixels, setting: int) -> bytes:
        """Encode a picture as a RIFF file with one VP8 chunk."""
        return _save(pixels, "WEBP", quality=setting, method=self.effort)

    def stream(self, pixels: Pixels, setting: int) -> bytes:
        """Encode a picture as frame tag, first partition and the rest of the VP8 frame."""
        frame = _vp8_frame(self.file(pixels, setting))
        return frame[:3] + frame[10:]

    def file_size(self, file: bytes) -> Size:
        """Width and height in pixels from the frame header, whose display-hint bits are never set."""
        frame = _vp8_frame(file)
        if frame[3:6] != b"\x9d\x01\x2a":
            raise ValueError("no VP8 key frame")
        return struct.unpack("<HH", frame[6:10])

    def file_pixels(self, file: bytes, size: Size) -> Pixels:
        """Decode a WebP file by libwebp."""
        return _open(file, "WEBP", size)

    def stream_pixels(self, stream: bytes, size: Size) -> Pixels:
        """Decode a stream after restoring start code, size and chunk around it."""
        frame = stream[:3] + b"\x9d\x01\x2a" + struct.pack("<HH", *size) + stream[3:]
        padded = frame + bytes(len(frame) % 2)
        riff = struct.pack("<4sI4s4sI", b"RIFF", 12 + len(padded), b"WEBP", b"VP8 ", len(frame))
        return _open(riff + padded, "WEBP", size)


def _vp8_frame(file: bytes) -> bytes:
    """VP8 frame of a RIFF file that has one simple chunk."""
    riff, riff_length, kind, chunk, length = struct.unpack("<4sI4s4sI", file[:20])
    if (riff, kind, chunk) != (b"RIFF", b"WEBP", b"VP8 ") or riff_length + 8 != len(file):
        raise ValueError("not a WebP file with one lossy picture")
    if length + length % 2 + 20 != len(file):
        raise ValueError("VP8 chunk does not fill the file")
    return file[20 : 20 + length]


@dataclass(frozen=True)
class Avif:
    """AVIF (AV1 key frame, 8 bits, full range, BT.601 matrix): encoded by libaom, decoded by dav1d.

    The stream is the frame OBU alone. Sequence header and container depend on the size alone and are rebuilt.
    The encoder is tuned for SSIM, which reaches the same PSNR as tuning for PSNR and smaller sizes; libavif's
    default ("iq") costs 7 percent of rate at equal PSNR.

    Args:
        subsampling: Subsampling of the colour differences; 4:4:4 has the better RGB PSNR at equal rate on
            photographs.
        speed: Speed of libaom, 0 (slow) to 10, for pictures from 2^17 pixels on; for each factor of 4 below,
            it is one step slower, down to 2, which takes about the same time or less.

    Reference:
        AV1 Bitstream and Decoding Process Specification, 5.3 and 5.5; AV1 Image File Format, 2.
    """

    subsampling: Subsampling = "4:4:4"
    speed: int = 6

    @property
    def name(self) -> str:
        """Canonical name of the format: "avif", or for instance "avif-420" for other subsamplings."""
        return "avif" if self.subsampling == "4:4:4" else f"avif-{self.subsampling.replace(':', '')}"

    @property
    def settings(self) -> int:
        """Number of settings: quantisers 63 (coarse) to 1; 0 is lossless coding, another mode."""
        return 63

    def file(self, pixels: Pixels, setting: int) -> bytes:
        """Encode a picture as an AVIF file."""
        quarters = max(0, math.ceil(math.log(2**17 / (pixels.shape[0] * pixels.shape[1]), 4)))
        return _save(
            pixels,
            "AVIF",
            quality=_AVIF_QUALITY[setting],
            subsampling=self.subsampling,
            speed=max(self.speed - quarters, min(self.speed, 2)),
            codec="aom",
            max_threads=1,
            autotiling=False,
            advanced={"tune": "ssim"},
        )

    def stream(self, pixels: Pixels, setting: int) -> bytes:
        """Encode a picture as its frame OBU."""
        file = self.file(pixels, setting)
        return self._frame(file, (pixels.shape[1], pixels.shape[0]))

    def file_size(self, file: bytes) -> Size:
        """Width and height in pixels from the container; the sequence header is compared with it later."""
        return isobmff.read(file).size

    def file_pixels(self, file: bytes, size: Size) -> Pixels:
        """Decode an AVIF file by dav1d, if its sequence header is the one that this format writes."""
        return self.stream_pixels(self._frame(file, size), size)

    def stream_pixels(self, stream: bytes, size: Size) -> Pixels:
        """Decode a frame OBU in a new container, after the sequence header of a grey picture."""
        if stream[:1] != b"\x32":  # OBU_FRAME with a length field, and nothing else
            raise ValueError("no frame OBU")
        config, head = _sequence(self, size)
        file = isobmff.write(isobmff.StillItem(b"av01", config, size, size, head + stream))
        return _open(file, "AVIF", size)

    def _frame(self, file: bytes, size: Size) -> bytes:
        item, (config, head) = isobmff.read(file), _sequence(self, size)
        if item.config != config or not item.data.startswith(head):
            raise ValueError("AV1 picture of another encoder, or damaged")
        return item.data[len(head) :]


# libavif maps quality to AV1's quantisers 0..63 as ((100 - quality) * 63 + 50) // 100
_AVIF_QUALITY = tuple(
    next(q for q in range(101) if ((100 - q) * 63 + 50) // 100 == 63 - i) for i in range(63)
)


@lru_cache(maxsize=64)
def _sequence(format: Avif, size: Size) -> tuple[bytes, bytes]:
    """Body of the av1C box; temporal delimiter and sequence header."""
    item = isobmff.read(format.file(_grey(size), 0))
    # temporal delimiter (2 bytes), then a sequence header OBU with a one-byte length
    return item.config, item.data[: 4 + item.data[3]]


def _grey(size: Size) -> Pixels:
    return np.full((size[1], size[0], 3), 128, dtype=np.uint8)


def _save(pixels: Pixels, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def _open(file: bytes, format: str, size: Size) -> Pixels:
    with PillowImage.open(io.BytesIO(file), formats=(format,)) as picture:
        if picture.size != size:
            raise ValueError(f"picture of {picture.size[0]}x{picture.size[1]} instead of {size[0]}x{size[1]}")
        picture.load()
        return np.asarray(picture.convert("RGB"))
