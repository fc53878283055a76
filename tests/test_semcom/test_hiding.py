"""Payload and host come back bit for bit, at the rate of theory; what was changed is noticed."""

import os
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageCms
from scipy.ndimage import gaussian_filter

from semcom.cli import main
from semcom.errors import CorruptStego, InvalidSource, PayloadTooLarge
from semcom.hiding.expansion import ErrorExpansion
from semcom.hiding.hosts import read_host, write_host
from semcom.hiding.laws import Bits, frequencies, packed, packed_bits, quantised, to_bytes, unpacked
from semcom.hiding.measure import histogram_distances
from semcom.hiding.method import Hidden, Method
from semcom.hiding.picture import capacity_bytes, embed, embedding, extract
from semcom.hiding.recursive import Recursive
from semcom.hiding.shifting import HistogramShifting
from tests.pictures import png, shorts, tiff

PLAIN = (Recursive(), ErrorExpansion(), HistogramShifting())
METHODS = (*PLAIN, Recursive(5.0))


def png_of_sixteen_bits() -> bytes:
    """One RGB pixel, which readers cut to 8 bits without a word."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head, pixel = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0), zlib.compress(bytes(7))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")


def damaged_avif() -> bytes:
    """A picture whose coded pixels, which follow the name of their box, are all inverted."""
    file = BytesIO()
    PillowImage.fromarray(natural(20, 24, 3)).save(file, "AVIF")
    head, name, content = file.getvalue().partition(b"mdat")
    return head + name + bytes(255 - byte for byte in content)


def natural(height: int, width: int, colors: int = 0, seed: int = 0) -> np.ndarray:
    """Smooth regions, edges and a little noise, of values 20..235."""
    rng = np.random.default_rng(seed)
    shape = (height, width) if not colors else (height, width, colors)
    blur = (4, 4) if not colors else (4, 4, 0)
    smooth = gaussian_filter(rng.standard_normal(shape), blur)
    coarse = np.sign(gaussian_filter(rng.standard_normal(shape), tuple(6 * b for b in blur)))
    x = 128 + 200 * smooth + 30 * coarse + rng.standard_normal(shape) * (1 + (coarse > 0))
    return x.clip(20, 235).round().astype(np.uint8)


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(a.astype(float) - b).mean()))


def check(host: np.ndarray, payload: bytes, method: Method) -> np.ndarray:
    stego = embed(host, payload, method)
    assert stego.shape == host.shape
    assert stego.dtype == np.uint8
    found, again = extract(stego)
    assert found == payload
    assert np.array_equal(again, host)
    return stego


@pytest.mark.slow
@pytest.mark.parametrize("method", PLAIN, ids=lambda m: m.name)
@pytest.mark.parametrize("shape", [(65, 47), (40, 33, 3), (1, 2501)])
def test_round_trip_over_sizes(shape: tuple[int, ...], method: Method) -> None:
    host = natural(*shape)
    for payload in (b"", np.random.default_rng(1).bytes(20)):
        try:
            check(host, payload, method)
        except PayloadTooLarge:
            assert capacity_bytes(host, method) <= len(payload)


def test_tables_come_back_and_are_as_long_as_said() -> None:
    rng = np.random.default_rng(0)
    for symbols in (1, 3, 17, 121):
        for n in (50.0, 10_000.0):
            law = rng.dirichlet(np.full(symbols, 0.3)) + 1e-12
            levels = quantised(law / law.sum(), n)
            bits = packed(levels)
            assert len(bits) == packed_bits(levels)
            assert np.array_equal(unpacked(Bits(to_bytes(bits)), symbols), levels)
            assert frequencies(levels).sum() == 1 << 16
            assert frequencies(levels).min() >= 1


@pytest.mark.parametrize("value", [0, 1, 77, 255])
def test_constant_pictures_have_room(value: int) -> None:
    host = np.full((96, 96), value, np.uint8)
    check(host, np.random.default_rng(0).bytes(150), Recursive())


@pytest.mark.slow
@pytest.mark.parametrize("method", PLAIN, ids=lambda m: m.name)
def test_small_pictures_hold_what_they_are_said_to(method: Method) -> None:
    for side in (1, 2, 20, 28, 32, 36):
        for host in (np.zeros((side, side), np.uint8), natural(side, side)):
            room = capacity_bytes(host, method)
            if room > 0:
                check(host, np.random.default_rng(0).bytes(room), method)
    assert capacity_bytes(np.zeros((36, 36), np.uint8), method) > 0 or isinstance(method, ErrorExpansion)


def test_saturated_pictures() -> None:
    host = natural(128, 128)
    host[:50] = 255
    host[70:90] = 0
    for method in METHODS:
        check(host, np.random.default_rng(0).bytes(100), method)


def test_payload_without_randomness_costs_no_more() -> None:
    host = natural(128, 128)
    zeros, random = (embed(host, p, Recursive()) for p in (bytes(200), np.random.default_rng(0).bytes(200)))
    assert extract(zeros)[0] == bytes(200)
    assert psnr_db(zeros, host) == pytest.approx(psnr_db(random, host), abs=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("method", PLAIN, ids=lambda m: m.name)
def test_payload_at_capacity_and_beyond(method: Method) -> None:
    host = natural(160, 160)
    room = capacity_bytes(host, method)
    assert room > 1000
    check(host, np.random.default_rng(0).bytes(room), method)
    with pytest.raises(
        PayloadTooLarge, match=rf"payload of {2 * room + 999} bytes.*room for about \d+; hide less"
    ):
        embed(host, bytes(2 * room + 999), method)


def test_whatever_fits_is_hidden() -> None:
    """Headers of shifting grow by a round at a time, and displace bits that may need another round."""
    for seed in range(2):
        host = natural(160, 160, seed=seed)
        room = capacity_bytes(host, HistogramShifting())
        for length in range(room // 2, room + 1, 40):
            check(host, np.random.default_rng(0).bytes(length), HistogramShifting())


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_colours_that_hold_unequal_parts(share: float) -> None:
    rng = np.random.default_rng(0)
    black = np.zeros((128, 128), np.uint8)
    noise = rng.integers(0, 256, (128, 128, 2), dtype=np.uint8)
    for host in (np.dstack([natural(128, 128), black, black]), np.dstack([noise, natural(128, 128)])):
        room = capacity_bytes(host, ErrorExpansion())
        assert room > 40
        check(host, rng.bytes(int(share * room)), ErrorExpansion())


@pytest.mark.slow
def test_a_location_map_longer_than_can_be_told() -> None:
    host = np.random.default_rng(0).integers(0, 16, (1800, 1800)).astype(np.uint8)
    assert capacity_bytes(host, ErrorExpansion()) < 100_000  # one of two layers of 92 000 bytes carries none
    check(host, b"a little", ErrorExpansion())


def test_a_header_longer_than_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ErrorExpansion, "hide", lambda self, planes, *rest: Hidden(planes, bytes(70_000), planes.size)
    )
    with pytest.raises(PayloadTooLarge):
        embed(np.zeros((1000, 1000), np.uint8), b"", ErrorExpansion())


def test_noise_has_no_room() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    with pytest.raises(PayloadTooLarge):
        embed(noise, b"too much for this", Recursive())


def test_rate_is_that_of_theory_and_distortion_below_expansion() -> None:
    """2 % of n (H(r) - H(p)) with 1e5 symbols, and half a decibel at a tenth of a bit per pixel."""
    host = natural(512, 512)
    payload = np.random.default_rng(0).bytes(512 * 512 // 80)
    ours, other = (embedding(host, payload, m) for m in (Recursive(), ErrorExpansion()))
    assert ours.symbols > 100_000
    assert ours.embedded_bits == pytest.approx(ours.theory_bits, rel=0.02)
    assert ours.payload_bits == 8 * len(payload)
    assert psnr_db(ours.stego, host) > psnr_db(other.stego, host) + 0.5


@pytest.mark.slow
def test_perception_keeps_the_histogram() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((256, 256)) * np.geomspace(0.3, 12, 256)  # classes of every kind
    host = (128 + noise).round().astype(np.uint8)
    payload = rng.bytes(256 * 256 // 40)
    free, bounded = (embed(host, payload, Recursive(w)) for w in (0.0, 30.0))
    distances = [histogram_distances(host, s)["error_kl"] for s in (free, bounded)]
    assert distances[1] < 0.9 * distances[0]
    assert psnr_db(bounded, host) < psnr_db(free, host)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_changes_are_noticed(method: Method) -> None:
    host = natural(96, 96)
    stego = embed(host, b"a payload of some bytes", method)
    rng, noticed = np.random.default_rng(0), 0
    for trial in range(60):
        broken = stego.copy()
        place = rng.integers(0, 1000 if trial % 2 else broken.size)
        broken.reshape(-1)[place] ^= 1 << rng.integers(0, 8)
        try:
            found, again = extract(broken)
        except CorruptStego:
            noticed += 1
        else:  # a bit of the header's padding, or a change that a lossless method undoes: nothing is wrong
            assert (found, again.tobytes()) == (b"a payload of some bytes", host.tobytes())
    assert noticed > 40
    for other in (host, host[:3, :3], stego[1:], stego[:, :-1]):
        with pytest.raises(CorruptStego):
            extract(other)


def test_what_is_no_picture_of_eight_bits() -> None:
    for wrong in (np.zeros(9, np.uint8), np.zeros((2, 2, 7), np.uint8)):
        with pytest.raises(InvalidSource):
            embed(wrong, b"")


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_command_line(mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host, secret = tmp_path / "host.png", tmp_path / "secret"
    PillowImage.fromarray(natural(80, 100, 0 if mode == "L" else 3)).save(host)
    secret.write_bytes(os.urandom(60))
    stego, found, again = tmp_path / "stego.png", tmp_path / "found", tmp_path / "again.png"
    assert main(["hide", str(host), "--payload", str(secret), "--out", str(stego)]) == 0
    assert "psnr_db" in capsys.readouterr().out
    assert main(["reveal", str(stego), "--payload", str(found), "--host", str(again)]) == 0
    assert found.read_bytes() == secret.read_bytes()
    assert np.array_equal(np.asarray(PillowImage.open(again)), np.asarray(PillowImage.open(host)))


def test_command_line_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host, secret = tmp_path / "host.png", tmp_path / "secret"
    PillowImage.fromarray(natural(80, 100)).save(host)
    PillowImage.fromarray(natural(80, 100)).convert("P").save(tmp_path / "palette.png")
    secret.write_bytes(os.urandom(100_000))
    (tmp_path / "nothing").touch()
    (tmp_path / "deep.png").write_bytes(png_of_sixteen_bits())
    hide = ["hide", str(host), "--payload", str(secret), "--out"]
    (tmp_path / "cut.avif").write_bytes(damaged_avif())
    before = sorted(tmp_path.iterdir())
    for arguments, words in (
        (["hide", str(tmp_path / "cut.avif"), *hide[2:], "x.png"], "not a readable picture"),
        ([*hide, str(tmp_path / "no" / "stego.png")], "make it first"),
        (["hide", str(host), "--payload", str(tmp_path / "nothing"), *hide[4:], "x.png"], "nothing to hide"),
        (["hide", str(host), "--payload", str(tmp_path / "none"), *hide[4:], "x.png"], "No such file"),
        (["hide", str(tmp_path / "deep.png"), *hide[2:], "x.png"], "pixels of 16 bits"),
        (["reveal", str(host), "--payload", str(tmp_path)], "a folder"),
        (["reveal", str(host), "--payload", "x.png", "--host", "x.png"], "give each its own"),
        ([*hide, str(tmp_path / "stego.jpg")], "without loss"),
        ([*hide, str(tmp_path / "stego.png")], "payload of 100000 bytes"),
        ([*hide, str(tmp_path / "stego.png"), "--method", "magic"], "choose recursive"),
        (["hide", str(tmp_path / "palette.png"), *hide[2:], str(tmp_path / "x.png")], "convert it first"),
        (["reveal", str(host), "--payload", str(tmp_path / "x")], "nothing is hidden"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_hosts_that_would_lose_something_are_refused(tmp_path: Path) -> None:
    grey = natural(8, 6)
    deep = grey.astype(int)[..., None] * 257
    page = PillowImage.fromarray(grey)
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page, page])
    page.save(tmp_path / "pages.gif", save_all=True, append_images=[PillowImage.new("L", (6, 8))])
    head = b"P%d 6 8 %d\n"
    files = {
        "grey.pgm": head % (5, 65535) + deep.astype(">u2").tobytes(),
        "colours.ppm": head % (6, 65535) + np.repeat(deep, 3, 2).astype(">u2").tobytes(),
        "plain.ppm": head % (3, 65535) + b" ".join(b"%d" % v for v in np.repeat(deep, 3, 2).ravel()),
        "hundred.pgm": head % (5, 100) + (grey // 3).tobytes(),
        "deep.tif": tiff(np.repeat(deep, 3, 2).astype(np.uint16), "<", 2),
        "deep.png": png(np.repeat(deep, 3, 2), 16, 2),
        "clear.png": png(grey[..., None].astype(int), 8, 0, (b"tRNS", shorts(7))),
    }
    for name, file in files.items():
        (tmp_path / name).write_bytes(file)
    for name, words in {
        "pages.tif": "3 pictures in this file; bits are hidden in one, save it alone",
        "pages.gif": "2 pictures in this file",
        "hundred.pgm": "pixels of values up to 100; bits are hidden in 8-bit grey or RGB",
        "clear.png": "pixels of a transparent colour",
        **dict.fromkeys(("deep.tif", "deep.png"), "pixels of 16 bits; bits are hidden in 8-bit grey or RGB"),
        **dict.fromkeys(("grey.pgm", "colours.ppm", "plain.ppm"), "pixels of (16 bits|values up to 65535);"),
    }.items():
        with pytest.raises(InvalidSource, match=f"{name}: {words}"):
            read_host(tmp_path / name)


def test_hosts_are_upright_and_keep_their_colours(tmp_path: Path) -> None:
    pixels = natural(8, 6, 3)
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    PillowImage.fromarray(pixels).save(tmp_path / "x.png", exif=exif, icc_profile=profile)
    host = read_host(tmp_path / "x.png")
    assert np.array_equal(host.pixels, np.rot90(pixels, -1))
    for name, format, kept in (("a.png", "PNG", True), ("a.tif", "TIFF", True), ("a.ppm", "PPM", False)):
        assert write_host(tmp_path / name, host, format) is kept
        again = read_host(tmp_path / name)
        assert np.array_equal(again.pixels, host.pixels)
        assert again.profile == (profile if kept else b"")


@pytest.mark.slow
@pytest.mark.shared
def test_kodak(shared_data: Path) -> None:
    host = np.asarray(PillowImage.open(shared_data / "kodak" / "kodim20.png"))
    payload = np.random.default_rng(0).bytes(host.shape[0] * host.shape[1] // 80)
    ours, other = (check(host, payload, m) for m in (Recursive(), ErrorExpansion()))
    assert psnr_db(ours, host) > psnr_db(other, host) + 0.5
