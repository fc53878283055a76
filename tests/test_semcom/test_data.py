"""Pictures from files: every kind becomes RGB in [0, 1], and nothing else passes."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from semcom.data import load_folder, load_image, picture_files, sample_photos
from semcom.errors import InvalidSource
from semcom.modalities.image import check_image, picture_item


def _ramp(height: int = 6, width: int = 9) -> np.ndarray:
    return (np.arange(height * width * 3).reshape(height, width, 3) * 7 % 256).astype(np.uint8)


def test_png_is_lossless_and_named_by_its_pixels(tmp_path: Path) -> None:
    Image.fromarray(_ramp()).save(tmp_path / "ramp.png")
    item = load_image(tmp_path / "ramp.png")
    assert item.x.shape == (1, 3, 6, 9)
    assert torch.equal((item.x[0] * 255).round().permute(1, 2, 0).byte(), torch.from_numpy(_ramp()))
    stem, digest = item.id.rsplit("-", 1)
    assert stem == "ramp"
    assert len(digest) == 8
    assert item.id == picture_item("ramp", _ramp()).id
    assert item.id != picture_item("ramp", _ramp() ^ 1).id
    assert item.id != picture_item("ramp", _ramp().reshape(9, 6, 3)).id


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "LA", "RGBA", "YCbCr"])
def test_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    suffix = "tif" if mode in ("CMYK", "YCbCr") else "png"
    Image.fromarray(_ramp()).convert(mode).save(tmp_path / f"x.{suffix}")
    assert load_image(tmp_path / f"x.{suffix}").x.shape == (1, 3, 6, 9)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16)).save(tmp_path / "deep.png")
    assert (load_image(tmp_path / "deep.png").x[0, 0, 0] * 255).round().tolist() == [0, 128, 255]


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 2, 4), np.uint8), "RGBA").save(tmp_path / "clear.png")
    assert load_image(tmp_path / "clear.png").x.min() == 1


def test_a_transparent_grey_of_sixteen_bits_is_laid_on_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 32768]], dtype=np.uint16)).save(tmp_path / "deep.png", transparency=0)
    assert (load_image(tmp_path / "deep.png").x[0, 0, 0] * 255).round().tolist() == [255, 128]


def test_too_wide_a_picture_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (16385, 1)).save(tmp_path / "wide.png")
    with pytest.raises(InvalidSource, match=r"wide.png: image of 16385x1: sides must lie in 1..16384"):
        load_image(tmp_path / "wide.png")


def test_rotation_tag_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # TIFF 6.0 orientation: rotate 90 degrees clockwise to view
    Image.fromarray(_ramp()).save(tmp_path / "turned.png", exif=exif)
    shown = (load_image(tmp_path / "turned.png").x[0] * 255).round().permute(1, 2, 0).byte()
    assert np.array_equal(shown.numpy(), np.rot90(_ramp(), -1))


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").touch()
    Image.fromarray(_ramp(60, 60)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:200])
    for name in ("text.png", "empty.png", "cut.png", "absent.png", "."):
        with pytest.raises(InvalidSource) as caught:
            load_image(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["x.avif", "x.webp"])
def test_damage_at_any_byte_is_read_or_told(tmp_path: Path, name: str) -> None:
    """The decoders of these formats raise errors of their own kinds."""
    Image.fromarray(_ramp(24, 20)).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 255
        (tmp_path / name).write_bytes(damaged)
        with suppress(InvalidSource):
            load_image(tmp_path / name)


@pytest.mark.parametrize("error", [RuntimeError("Failed to decode image"), TypeError("fill"), EOFError()])
def test_whatever_a_decoder_raises_is_one_line(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(_ramp()).save(tmp_path / "x.png")

    def fail(self: Image.Image) -> None:
        raise error

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    reason = str(error) or "EOFError"
    with pytest.raises(InvalidSource, match=rf"x.png: not a readable picture \({reason}\)$"):
        load_image(tmp_path / "x.png")


def test_folder_is_sorted_and_skips_other_files(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "c.PNG"):
        Image.fromarray(_ramp()).save(tmp_path / name, format="PNG")
    (tmp_path / "notes.txt").write_text("hello")
    assert [item.id[0] for item in load_folder(tmp_path)] == ["a", "b", "c"]
    assert [item.id[0] for item in load_folder(tmp_path / "b.png")] == ["b"]
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(InvalidSource):
            load_folder(path)


def test_what_is_left_out_of_a_folder_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(_ramp()).save(tmp_path / "a.png")
    assert len(load_folder(tmp_path)) == 1
    assert not caplog.messages
    for name in ("a.xcf", "b.XCF", "c.raw", "none", "notes.txt", "list.md"):
        (tmp_path / name).write_text("hello")
    (tmp_path / "more.png").mkdir()
    assert [item.id[0] for item in load_folder(tmp_path)] == ["a"]
    assert picture_files(tmp_path) == (tmp_path / "a.png",)
    (line,) = caplog.messages
    assert line == (
        f"{tmp_path}: left out: 2 taken for notes (texts beside other files); 4 with other endings (.xcf 2, "
        ".raw 1, none 1); 1 as folders of their own"
    )


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.rand(1, 1, 4, 4), "shape"),
        (torch.rand(3, 4, 4), "shape"),
        (torch.rand(1, 3, 0, 4), "sides"),
        (torch.full((1, 3, 2, 2), torch.nan), "not finite"),
        (torch.full((1, 3, 2, 2), 1.5), "1.5"),
        (torch.full((1, 3, 2, 2), -0.1), "-0.1"),
        (torch.zeros(1, 3, 2, 2, dtype=torch.uint8), "divide by 255"),
    ],
)
def test_check_image(x: torch.Tensor, message: str) -> None:
    with pytest.raises(InvalidSource, match=message):
        check_image(x)


def test_samples_are_colour_photographs() -> None:
    photos = sample_photos()
    assert len(photos) >= 3
    for photo in photos:
        assert (photo.x[:, 0] - photo.x[:, 2]).abs().mean() > 0.01  # colour, not grey
