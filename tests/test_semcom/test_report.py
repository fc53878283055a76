"""One file that needs nothing else, says what it was given, and is written whole or not at all."""

import base64
import io
import re
from html.parser import HTMLParser

import pytest
import torch

from semcom import names
from semcom.modalities import IMAGE, Item
from semcom.plots import metric_vs_snr
from semcom.report import write_report
from semcom.results import ResultStore
from semcom.strips import image_strip
from semcom.summary import PICTURES, RECORDS, keep_originals, report
from semcom.sweep import Sweep, run

ATTACK = '<script>alert("x")</script> & more'


class Page(HTMLParser):
    """Tags must close in order; what is seen is collected."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words, self.sources, self.links = [], [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name == "src"]
        self.links += [value for name, value in attrs if name == "href"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)


@pytest.fixture
def parts():
    import pandas as pd

    x = torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(0))
    records = pd.DataFrame(
        {
            "scheme": "softcast",
            "channel": "awgn",
            "item": f"i{i}",
            "snr_db": s,
            "rho": 1 / 12,
            "psnr_db": 30.0 + i + s,
        }
        for i in range(3)
        for s in (0.0, 10.0)
    )
    table = pd.DataFrame(
        {
            "scheme": ["softcast", ATTACK],
            "psnr_db": [27.123456, 3.1],
            "uses": [98304, 12],
            "interval": ["27.1 [26.0, 28.2]", "3.1 [2, 4]"],
            "gap": [1.5, float("nan")],
        }
    )
    return {
        "tables": {f"Means {ATTACK}": table},
        "figures": {"PSNR against SNR": metric_vs_snr(records, "psnr_db", "1/12", "awgn")},
        "strips": {f"i0 {ATTACK}": image_strip(x, {"softcast": (x * 0.9)})},
        "notes": [f"lpips_alex: {ATTACK}"],
        "summary": "Two schemes.",
    }


def test_report_is_self_contained_and_complete(tmp_path, parts):
    path = write_report(tmp_path / "new" / "report.html", f"Title {ATTACK}", **parts)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert len(page.sources) == 2
    assert all(source.startswith("data:image/") for source in page.sources)
    assert "url(" not in text.replace("data:", "")[: text.index("</style>")]
    assert "@import" not in text
    words = "".join(page.words)
    for expected in (f"Title {ATTACK}", "Two schemes.", "Means", "27.12", "3.10", "98304", "lpips_alex"):
        assert expected in words
    assert "nan" not in words
    assert {link[1:] for link in page.links} == set(re.findall(r' id="(\w+)"', text))


def test_pictures_are_embedded_without_loss(tmp_path, parts):
    from PIL import Image, ImageChops

    text = write_report(tmp_path / "report.html", "t", strips=parts["strips"]).read_text()
    (source,) = Page(text).sources
    shown = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGB")
    (given,) = parts["strips"].values()
    assert ImageChops.difference(shown, given).getbbox() is None


def test_numbers_stand_right_and_words_left(tmp_path, parts):
    text = write_report(tmp_path / "report.html", "t", parts["tables"]).read_text()
    header = re.search(r"<thead>.*</thead>", text).group()
    assert re.findall(r"<th( class=\"number\")?>", header) == ["", *[' class="number"'] * 4]


def test_empty_report_has_no_empty_sections(tmp_path):
    page = Page(write_report(tmp_path / "report.html", "Nothing yet").read_text())
    assert "h2" not in page.tags


def test_a_failed_write_leaves_the_old_report(tmp_path, parts, monkeypatch):
    path = write_report(tmp_path / "report.html", "old")
    before = path.read_bytes()

    def refuse(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(OSError, match="No space"):
        write_report(path, "new", **parts)
    assert path.read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("name", ["ramp", "ü" * 130])
def test_pictures_are_shown_whatever_their_name_and_whether_or_not_their_psnr_was_measured(tmp_path, name):
    item = Item(name, torch.linspace(0, 1, 3 * 32 * 32).reshape(1, 3, 32, 32), IMAGE)
    scheme, channel, metric = names.scheme("softcast"), names.channel("awgn"), names.metric("swd")
    sweep = Sweep((scheme,), (channel,), (item,), (10.0,), ("1/6",), (metric,), (0,))
    keep_originals((item,), tmp_path)
    with ResultStore(tmp_path / RECORDS) as store:
        assert len(list(run(sweep, store, keep=tmp_path / PICTURES))) == 1
    page = report(tmp_path, tmp_path / "report.html", "One picture").read_text()
    assert "data:image/webp" in page
