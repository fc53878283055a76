"""Strips show pictures where they should be, and their errors in the colours that the legend names."""

import numpy as np
import pytest
import torch

from semcom.errors import InvalidOption, InvalidSource
from semcom.modalities import IMAGE, TEXT, Item
from semcom.strips import LINE, _detail_window, image_strip, snr_strip, write_strip


def picture(height=120, width=500):
    x = torch.linspace(0.2, 0.6, width).expand(1, 3, height, width).contiguous()
    x[:, :, 20:60, 300:360:2] += 0.3  # the detail
    return x


def test_strip_shows_pictures_detail_and_error():
    x = picture()
    strip = image_strip(x, {"dark": x - 0.1, "same": x}, {"dark": "20 dB"}, gain=4.0, tile=250)
    assert strip.mode == "RGB"
    pixels = np.asarray(strip).astype(int)
    left, column = 12, 250 + 8
    top = 12 + 2 * 20 + 8
    # The picture is halved: its own columns next to each other
    assert abs(pixels[top + 50, left + 10] - 255 * x[0, :, 100, 20].numpy()).max() <= 2
    dark = pixels[top + 50, left + column + 10]
    assert abs(dark - 255 * (x - 0.1)[0, :, 100, 20].numpy()).max() <= 2
    # The error row: 0.1 times 4 in "inferno", and 0 for the perfect one
    import matplotlib

    bottom = strip.height - 12 - 10
    inferno = matplotlib.colormaps["inferno"]
    assert abs(pixels[bottom, left + column + 100] - 255 * np.array(inferno(0.4)[:3])).max() <= 2
    assert abs(pixels[bottom, left + 2 * column + 100] - 255 * np.array(inferno(0.0)[:3])).max() <= 1


def test_detail_is_where_the_texture_is():
    top, left, height, width = _detail_window(picture(), 100)
    assert top <= 20
    assert top + height >= 60
    assert left <= 300
    assert left + width >= 360


@pytest.mark.parametrize("size", [(1, 1), (3, 5000), (5000, 3), (64, 64)])
def test_strips_of_odd_pictures(size):
    x = torch.full((1, 3, *size), 0.5)
    strip = image_strip(x, {"a name that is far too long for its column " * 3: x}, tile=64)
    assert strip.width == 2 * 12 + 2 * 64 + 8


def test_strip_refuses_what_does_not_fit():
    x = picture()
    with pytest.raises(InvalidSource, match="same"):
        image_strip(x, {"same": x[:, :, :50]})
    with pytest.raises(InvalidSource):
        image_strip(x, {"bright": x + 1})
    with pytest.raises(InvalidOption, match="gain"):
        image_strip(x, {}, gain=0.0)


@pytest.mark.parametrize("ending", ["png", "bmp", "tiff"])
def test_strip_is_written_as_it_is_drawn(tmp_path, ending):
    from PIL import Image

    item = Item("photo-00000000", picture(40, 60), IMAGE)
    received = {"half": item.x / 2}
    write_strip(tmp_path / f"strip.{ending}", item, received)
    with Image.open(tmp_path / f"strip.{ending}") as written:
        assert written.convert("RGB").tobytes() == image_strip(item.x, received).tobytes()
    assert [path.name for path in tmp_path.iterdir()] == [f"strip.{ending}"]


def test_strip_is_written_without_loss_or_not_at_all(tmp_path):
    item = Item("photo-00000000", picture(40, 60), IMAGE)
    with pytest.raises(InvalidOption, match=r"strip\.jpg: strips are written without loss"):
        write_strip(tmp_path / "strip.jpg", item, {"half": item.x / 2})
    text = Item("text-00000000", "Twelve words.", TEXT)
    with pytest.raises(InvalidOption, match=r"strip\.png: differences of texts are shown as a page"):
        write_strip(tmp_path / "strip.png", text, {"half": "Twelve"})
    assert list(tmp_path.iterdir()) == []


def test_heading_and_colors_of_names():
    x = picture()
    plain = np.asarray(image_strip(x, {"a": x}, tile=100))
    marked = np.asarray(image_strip(x, {"a": x}, tile=100, heading="awgn, 5 dB", colors={"a": "#009E73"}))
    assert marked.shape[0] == plain.shape[0] + LINE + 8
    np.testing.assert_array_equal(marked[LINE + 8 + 40 :], plain[40:])  # below the names nothing changes
    assert (marked == (0, 0x9E, 0x73)).all(axis=2).sum() == 12 * 12
    assert (marked[12 : 12 + LINE] < 128).any()


def test_pictures_at_every_snr_stand_where_they_belong():
    from PIL import Image

    grey = {level: Image.new("RGB", (60, 40), (level,) * 3) for level in (0, 50, 100, 150)}
    shown = {"a": {0.0: grey[50], 5.0: grey[100]}, "b": {5.0: grey[150]}}
    strip = np.asarray(snr_strip(grey[0], shown, {"a": {0.0: "20 dB"}}, tile=64))
    size, below = (64, 43), LINE
    top = 12 + LINE + size[1] + 8 + LINE
    assert (strip[12 + LINE + 5, 12 + 5] == 0).all()
    row = LINE + size[1] + below + 8
    assert (strip[top + LINE + 5, 12 + 5] == 50).all()
    assert (strip[top + LINE + 5, 12 + 72 + 5] == 100).all()
    assert (strip[top + row + LINE + 5, 12 + 5] == 255).all()
    assert (strip[top + row + LINE + 5, 12 + 72 + 5] == 150).all()
    with pytest.raises(InvalidOption, match="0 SNRs"):
        snr_strip(grey[0], {})
