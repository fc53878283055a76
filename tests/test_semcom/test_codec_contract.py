"""Every source codec: bytes that decode, headers inside, damage that is reported."""

import io
import math
import pickle
import random
import struct
import subprocess
import sys
import time
import types
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from instances import CODECS
from PIL import Image as PillowImage
from torch import Tensor

from semcom.codecs import (
    FORMATS,
    FileCodec,
    Memo,
    Quality,
    SourceCodec,
    StillFormat,
    StreamCodec,
    fit,
    isobmff,
)
from semcom.codecs.still import SCALES, reduced_size
from semcom.errors import BudgetTooSmall, CorruptPayload, FaultyCodec, InvalidOption, InvalidSource

ROOT = Path(__file__).parents[2]
LIMIT_S = 2.0  # for one decoding of a small picture, on a loaded machine; the median is 2 ms

every_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
every_format = pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """An eye and half a smile, [1, 3, 64, 96]."""
    from skimage import data

    return torch.from_numpy(data.astronaut()[90:154, 190:286]).permute(2, 0, 1)[None].float() / 255


def psnr_db(x_hat: Tensor, x: Tensor) -> float:
    return -10 * torch.log10((x_hat - x).double().square().mean()).item()


def at(codec: SourceCodec, scale: int, share: float) -> Quality:
    """The quality that lies at this share of the settings of a scale."""
    ladder = [quality for quality in codec.qualities if quality.scale == scale]
    return ladder[round(share * (len(ladder) - 1))]


def decode_in_time(codec: SourceCodec, payload: bytes, shape: tuple[int, ...]) -> Tensor | None:
    """The image, or None for a payload that is reported as corrupt."""
    start = time.process_time()
    try:
        x_hat = codec.decode(payload, shape)
    except CorruptPayload:
        return None
    finally:
        assert time.process_time() - start < LIMIT_S
    assert x_hat.shape == shape
    torch.testing.assert_close(x_hat, x_hat.clamp(0, 1), atol=0, rtol=0)
    return x_hat


@every_codec
def test_round_trip(codec: SourceCodec, photo: Tensor) -> None:
    assert isinstance(codec, SourceCodec)
    quality_db = []
    for scale in SCALES:
        x_hat = codec.decode(codec.encode(photo, at(codec, scale, 1.0)), tuple(photo.shape))
        assert x_hat.shape == photo.shape
        assert x_hat.dtype == torch.float32
        torch.testing.assert_close(x_hat * 255, (x_hat * 255).round(), atol=1e-4, rtol=0)
        quality_db.append(psnr_db(x_hat, photo))
    assert quality_db == sorted(quality_db)
    # 8-bit colour conversion and halved colour resolution alone cost this much, as does a part of a transform
    floors_db = {"jpeg": 33, "jpeg-file": 33, "webp": 33, "webp-file": 33, "learned": 39}
    assert quality_db[-1] > floors_db.get(codec.name, 42)


@every_codec
def test_size_does_not_shrink_as_quality_grows(codec: SourceCodec, photo: Tensor) -> None:
    for scale in (1, 4):
        sizes = [len(codec.encode(photo, at(codec, scale, step / 10))) for step in range(11)]
        assert sizes == sorted(sizes)
        assert sizes[-1] > sizes[0]


@every_codec
def test_equal_images_give_equal_bytes(codec: SourceCodec, photo: Tensor) -> None:
    quality = at(codec, 2, 0.5)
    assert codec.encode(photo, quality) == codec.encode(photo.clone(), quality)


@every_codec
def test_qualities_are_sorted(codec: SourceCodec) -> None:
    expected = sorted(codec.qualities, key=lambda quality: (-quality.scale, quality.setting))
    assert list(codec.qualities) == expected
    assert len(set(expected)) == len(expected)
    assert {quality.scale for quality in expected} == {1, 2, 4, 8}


@every_format
def test_stream_is_smaller_than_file_and_decodes_to_the_same(format: StillFormat, photo: Tensor) -> None:
    stream, file = StreamCodec(format), FileCodec(format)
    for height, width in ((64, 96), (37, 19), (5, 3)):
        x = photo[..., :height, :width].contiguous()
        for scale, share in ((1, 0.0), (1, 0.3), (1, 0.8), (2, 0.5), (8, 0.2)):
            short, whole = (codec.encode(x, at(codec, scale, share)) for codec in (stream, file))
            assert len(short) < len(whole)
            assert torch.equal(stream.decode(short, tuple(x.shape)), file.decode(whole, tuple(x.shape)))


@every_format
@pytest.mark.parametrize("size", [(96, 64), (19, 37), (3, 5)], ids=str)
def test_files_are_what_other_programs_read(
    format: StillFormat, size: tuple[int, int], photo: Tensor
) -> None:
    x = photo[..., : size[1], : size[0]].contiguous()
    codec = FileCodec(format)
    file = codec.encode(x, at(codec, 1, 0.7))
    tolerance = 0
    if format.name == "hevc-intra":
        import pillow_heif

        assert pillow_heif.is_supported(file)
        picture = pillow_heif.open_heif(file).to_pillow()
        tolerance = 1  # libheif and FFmpeg round the colour conversion differently
    else:
        picture = PillowImage.open(io.BytesIO(file))
        assert picture.format == format.name.upper()
    assert picture.size == size
    mine = codec.decode(file, tuple(x.shape))[0].permute(1, 2, 0).mul(255).round().numpy()
    assert np.abs(np.asarray(picture.convert("RGB")).astype(float) - mine).max() <= tolerance


def test_headers_are_inside(photo: Tensor, tmp_path: Path) -> None:
    """A new process decodes from bytes and shape alone, and has loaded no library that it did not need."""
    for number, codec in enumerate(CODECS):
        payload = codec.encode(photo, at(codec, 2, 0.6))
        (tmp_path / f"{number}.payload").write_bytes(payload)
        np.save(tmp_path / f"{number}.npy", codec.decode(payload, tuple(photo.shape)).numpy())
    program = (
        "import sys, numpy as np; from pathlib import Path; from semcom.codecs import CODECS\n"
        "assert not {'av', 'pillow_heif'} & set(sys.modules), 'loaded too early'\n"
        "for number, codec in enumerate(CODECS):\n"
        "    stem = Path(sys.argv[1], str(number)); expected = np.load(f'{stem}.npy')\n"
        "    x = codec.decode(Path(f'{stem}.payload').read_bytes(), expected.shape)\n"
        "    assert np.array_equal(x.numpy(), expected), codec.name\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr


@every_codec
def test_truncated_payload_is_reported_or_decoded(codec: SourceCodec, photo: Tensor) -> None:
    for share in (0.3, 0.6):
        payload = codec.encode(photo, at(codec, 1, share))
        decoded = [
            decode_in_time(codec, payload[:end], tuple(photo.shape)) for end in range(0, len(payload), 10)
        ]
        assert decoded[0] is None
        if isinstance(codec, FileCodec):  # a container or marker says how long it should be
            assert all(x_hat is None for x_hat in decoded)


@every_codec
def test_damaged_payload_is_reported_or_decoded(codec: SourceCodec, photo: Tensor) -> None:
    rng = random.Random(0)
    payload = codec.encode(photo, at(codec, 1, 0.4))
    verdicts: Counter[bool] = Counter()
    for trial in range(120):
        damaged = bytearray(payload)
        for _ in range(1 + trial % 4):  # half of the flips in the headers
            damaged[rng.randrange(len(damaged) if trial % 2 else min(50, len(damaged)))] ^= (
                1 << rng.randrange(8)
            )
        verdicts[decode_in_time(codec, bytes(damaged), tuple(photo.shape)) is None] += 1
    assert verdicts[True] > 0  # the reporting side of this test has been seen
    for length in (1, 2, 10, 100, 1000):
        for _ in range(10):
            decode_in_time(codec, rng.randbytes(length), tuple(photo.shape))


@every_codec
def test_payload_of_another_size(codec: SourceCodec, photo: Tensor) -> None:
    payload = codec.encode(photo, at(codec, 1, 0.5))
    other = decode_in_time(codec, payload, (1, 3, 40, 24))
    if isinstance(codec, FileCodec):
        assert other is None


def jpeg_bomb(file: bytes) -> bytes:
    frame = file.index(b"\xff\xc0")
    return file[: frame + 5] + struct.pack(">HH", 65500, 65500) + file[frame + 9 :]


def jpeg_of_many_scans(file: bytes) -> bytes:
    """Each takes libjpeg a pass over the whole picture."""
    scan = b"\xff\xda" + struct.pack(">H", 8) + bytes([1, 1, 0, 0, 63, 0]) + b"\0"  # of brightness alone
    return file[: file.index(b"\xff\xda")] + 10_000 * scan + b"\xff\xd9"


def test_a_jpeg_has_one_scan() -> None:
    x = torch.full((1, 3, 2048, 2048), 0.5)
    codec = FileCodec(FORMATS[0])
    bomb = jpeg_of_many_scans(codec.encode(x, Quality(1, 0)))
    start = time.process_time()
    with pytest.raises(CorruptPayload, match="scan without some of the components"):
        codec.decode(bomb, tuple(x.shape))
    assert time.process_time() - start < LIMIT_S


def jpeg2000_bomb(file: bytes) -> bytes:
    siz = file.index(b"\xff\x51")
    return file[: siz + 6] + struct.pack(">II", 60000, 60000) + file[siz + 14 :]


def webp_bomb(file: bytes) -> bytes:
    return file[:26] + struct.pack("<HH", 16383, 16383) + file[30:]


def bomb_of_container(file: bytes) -> bytes:
    ispe = file.index(b"ispe")
    return file[: ispe + 8] + struct.pack(">II", 30000, 30000) + file[ispe + 16 :]


def bomb_in_container(format: StillFormat, codec: bytes) -> bytes:
    """A container of 96x64 around a picture of 1024x512."""
    large = isobmff.read(format.file(np.zeros((512, 1024, 3), np.uint8), 0))
    return isobmff.write(isobmff.StillItem(codec, large.config, (96, 64), (96, 64), large.data))


def test_declared_dimensions_are_checked_before_decoding(photo: Tensor) -> None:
    jpeg, jpeg2000, webp, avif, hevc = FORMATS
    plain = {format.name: FileCodec(format).encode(photo, Quality(1, 20)) for format in FORMATS}
    bombs = (
        (jpeg, jpeg_bomb(plain["jpeg"])),
        (jpeg2000, jpeg2000_bomb(plain["jpeg2000"])),
        (webp, webp_bomb(plain["webp"])),
        (avif, bomb_of_container(plain["avif"])),
        (avif, bomb_in_container(avif, b"av01")),
        (hevc, bomb_of_container(plain["hevc-intra"])),
        (hevc, bomb_in_container(hevc, b"hvc1")),
    )
    for format, bomb in bombs:
        start = time.process_time()
        with pytest.raises(CorruptPayload):
            FileCodec(format).decode(bomb, tuple(photo.shape))
        assert time.process_time() - start < LIMIT_S


@every_codec
@pytest.mark.parametrize("size", [(1, 1), (5000, 3), (3, 5000), (33, 17)], ids=str)
def test_odd_sizes(codec: SourceCodec, size: tuple[int, int]) -> None:
    across = torch.linspace(0, 0.2, size[0])[:, None] + torch.linspace(0, 0.2, size[1])
    x = torch.stack([0.3 + across, 0.7 - across, torch.full_like(across, 0.5)])[None]
    for scale, floor_db in ((1, 27), (4, 22), (8, 22)):  # a side of 3 is a side of 1 at the coarser scales
        payload = codec.encode(x, at(codec, scale, 0.8))
        x_hat = codec.decode(payload, tuple(x.shape))
        assert x_hat.shape == x.shape
        assert psnr_db(x_hat, x) > floor_db
    coarsest = codec.qualities[0]
    assert codec.decode(codec.encode(x, coarsest), tuple(x.shape)).shape == x.shape


def test_reduced_sizes_are_never_0() -> None:
    assert [reduced_size((3, 5000), scale) for scale in SCALES] == [(1, 625), (1, 1250), (2, 2500), (3, 5000)]
    assert reduced_size((1, 1), 8) == (1, 1)


def test_what_cannot_be_encoded_is_said(photo: Tensor) -> None:
    webp = next(codec for codec in CODECS if codec.name == "webp")
    with pytest.raises(InvalidSource, match="16384x1 pixels"):
        webp.encode(torch.zeros(1, 3, 1, 16384), Quality(1, 0))
    with pytest.raises(InvalidSource, match="not finite"):
        webp.encode(photo * float("nan"), Quality(1, 0))
    with pytest.raises(InvalidOption, match="scale=3"):
        webp.encode(photo, Quality(3, 0))
    with pytest.raises(InvalidOption, match="setting=999"):
        webp.encode(photo, Quality(1, 999))


# fit and Memo


@dataclass(frozen=True)
class Staircase:
    """Known sizes and errors: setting i sends sizes[scale][i] bytes, PSNR grows with setting and scale."""

    sizes: types.MappingProxyType[int, tuple[int, ...]]
    calls: "Counter[object]"
    name: str = "staircase"

    @property
    def qualities(self) -> tuple[Quality, ...]:
        return tuple(Quality(scale, i) for scale, sizes in self.sizes.items() for i in range(len(sizes)))

    def encode(self, x: Tensor, quality: Quality) -> bytes:
        self.calls["encode", float(x.sum()), quality] += 1
        return bytes([quality.scale, quality.setting]).ljust(
            self.sizes[quality.scale][quality.setting], b"\0"
        )

    def decode(self, payload: bytes, shape: tuple[int, ...]) -> Tensor:
        self.calls["decode", payload] += 1
        scale, setting = payload[:2]
        return torch.full(shape, {8: 0.4, 4: 0.3, 2: 0.2, 1: 0.1}[scale] / (1 + setting))


def staircase(**sizes: tuple[int, ...]) -> Staircase:
    return Staircase(
        types.MappingProxyType({int(name[1:]): value for name, value in sizes.items()}), Counter()
    )


BLACK = torch.zeros(1, 3, 4, 4)


@pytest.mark.parametrize(
    ("max_bytes", "expected"),
    [
        (9, Quality(8, 0)),
        (11, Quality(8, 1)),
        (30, Quality(8, 4)),  # a tie of three sizes: the finest
        (31, Quality(8, 4)),
        (39, Quality(8, 4)),  # 0.4 / 5 beats 0.1 / 1
        (50, Quality(1, 2)),  # behind a setting that does not fit
        (10**6, Quality(1, 4)),
    ],
)
def test_fit_on_known_sizes(max_bytes: int, expected: Quality) -> None:
    codec = staircase(s8=(9, 11, 30, 30, 30), s1=(39, 51, 50, 60, 70))
    fitted = fit(codec, BLACK, 8 * max_bytes + 7)
    assert fitted.quality == expected
    assert fitted.payload == codec.encode(BLACK, expected)
    assert torch.equal(fitted.decoded, codec.decode(fitted.payload, tuple(BLACK.shape)))


def test_fit_leaves_out_scales_that_cannot_win() -> None:
    codec = staircase(s8=(2, 3), s4=(3, 4), s2=(4, 5), s1=(5, 6, 7, 8, 9, 10))
    assert fit(codec, BLACK, 80).quality == Quality(1, 5)
    tried = {call[2] for call in codec.calls if call[0] == "encode" and call[2].scale > 1}
    assert tried == {Quality(8, 1), Quality(4, 1), Quality(2, 1)}  # the finest of each, and no other


@dataclass(frozen=True)
class Faulty:
    """Decodes to something that is no image of the shape asked for."""

    value: float
    rows: int = 4
    name: str = "faulty"
    qualities: tuple[Quality, ...] = (Quality(1, 0), Quality(2, 0))

    def encode(self, x: Tensor, quality: Quality) -> bytes:
        return bytes([quality.scale])

    def decode(self, payload: bytes, shape: tuple[int, ...]) -> Tensor:
        return torch.full((1, 3, self.rows, 4), self.value)


@pytest.mark.parametrize(
    ("codec", "reason"),
    [
        (Faulty(math.nan), "codec faulty decodes its own bytes to values that are not finite"),
        (Faulty(math.inf), "codec faulty decodes its own bytes to values that are not finite"),
        (Faulty(0.5, rows=3), r"codec faulty decodes shape \(1, 3, 4, 4\) to \(1, 3, 3, 4\)"),
    ],
)
def test_fit_says_that_a_codec_is_faulty(codec: Faulty, reason: str) -> None:
    with pytest.raises(FaultyCodec, match=reason):
        fit(codec, BLACK, 800)


def test_fit_says_what_would_be_needed() -> None:
    codec = staircase(s8=(9, 11), s1=(39, 51))
    with pytest.raises(BudgetTooSmall, match=r"at least 72 bits for an image of 4x4, 71 are allowed"):
        fit(codec, BLACK, 71)
    assert fit(codec, BLACK, 72).quality == Quality(8, 0)


@dataclass(frozen=True)
class Thinned:
    """A codec with every n-th of its settings."""

    codec: SourceCodec
    every: int

    @property
    def name(self) -> str:
        return self.codec.name

    @property
    def qualities(self) -> tuple[Quality, ...]:
        return tuple(quality for quality in self.codec.qualities if quality.setting % self.every == 0)

    def encode(self, x: Tensor, quality: Quality) -> bytes:
        return self.codec.encode(x, quality)

    def decode(self, payload: bytes, shape: tuple[int, ...]) -> Tensor:
        return self.codec.decode(payload, shape)


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
def test_fit_against_exhaustive_search(format: StillFormat, photo: Tensor) -> None:
    codec = Memo(Thinned(StreamCodec(format), 7))
    x = photo[..., 20:52, 20:68].contiguous()
    shape = tuple(x.shape)
    payloads = {quality: codec.encode(x, quality) for quality in codec.qualities}
    quality_db = {quality: psnr_db(codec.decode(payload, shape), x) for quality, payload in payloads.items()}
    for max_bits in (500, 1000, 3000, 10000):
        fitted = fit(codec, x, max_bits)
        assert 8 * len(fitted.payload) <= max_bits
        best = max(
            quality_db[quality] for quality, payload in payloads.items() if 8 * len(payload) <= max_bits
        )
        assert psnr_db(fitted.decoded, x) >= best - 0.01
    smallest = 8 * min(map(len, payloads.values()))
    with pytest.raises(BudgetTooSmall, match=f"{format.name} needs at least {smallest} bits"):
        fit(codec, x, smallest - 1)


def test_memo_encodes_and_decodes_once_over_many_budgets() -> None:
    inner = staircase(s8=(2, 4, 6, 8), s1=(5, 7, 9, 11))
    codec = Memo(inner)
    grey = torch.full((1, 3, 4, 4), 0.25)
    for max_bytes in range(2, 20):
        for x in (BLACK, grey):
            direct = fit(staircase(s8=(2, 4, 6, 8), s1=(5, 7, 9, 11)), x, 8 * max_bytes)
            through = fit(codec, x, 8 * max_bytes)
            assert (through.quality, through.payload) == (direct.quality, direct.payload)
            assert torch.equal(through.decoded, direct.decoded)
    assert set(inner.calls.values()) == {1}


def test_memo_is_the_codec_it_wraps(photo: Tensor) -> None:
    inner = CODECS[0]
    codec = Memo(inner)
    quality = at(codec, 2, 0.5)
    payload = codec.encode(photo, quality)
    assert (codec.name, codec.qualities, payload) == (
        inner.name,
        inner.qualities,
        inner.encode(photo, quality),
    )
    first = codec.decode(payload, tuple(photo.shape))
    first.zero_()  # what a caller does to its image stays with the caller
    assert torch.equal(codec.decode(payload, tuple(photo.shape)), inner.decode(payload, tuple(photo.shape)))
    changed = photo.clone()
    changed[0, 0, 0, 0] = 1 - changed[0, 0, 0, 0]
    assert codec.encode(changed, quality) == inner.encode(changed, quality)
    changed[0, 0, 8:] = 0  # also where the same tensor has changed since
    assert codec.encode(changed, quality) == inner.encode(changed, quality)
    # one pixel as a view of interleaved colours: contiguous, and yet its stride is 3
    pixel = photo[0].permute(1, 2, 0).contiguous()[:1, :1].permute(2, 0, 1)[None]
    for other in (photo.bfloat16(), photo.clone().requires_grad_(), pixel):
        assert codec.encode(other, quality) == inner.encode(other, quality)
    turned = photo.reshape(1, 3, photo.shape[3], photo.shape[2])
    assert codec.encode(turned, quality) == inner.encode(turned, quality)
    with pytest.raises(CorruptPayload):
        codec.decode(b"", tuple(photo.shape))


def test_memo_forgets_what_was_used_least_recently_and_travels_empty() -> None:
    inner = staircase(s1=(100, 100, 100))
    codec = Memo(inner, max_bytes=4 * 250)  # a quarter for payloads: two of them
    for setting in (0, 1, 0, 2, 0, 1):
        codec.encode(BLACK, Quality(1, setting))
    assert [inner.calls["encode", 0.0, Quality(1, setting)] for setting in range(3)] == [1, 2, 1]
    copy = pickle.loads(pickle.dumps(Memo(CODECS[0], max_bytes=5)))
    assert copy == Memo(CODECS[0], max_bytes=5)
