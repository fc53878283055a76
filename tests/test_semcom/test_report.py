"""One file that needs nothing else, says what it was given, and is written whole or not at all."""

import base64
import io
import re
from fractions import Fraction
from html.parser import HTMLParser

import pytest
import torch

from semcom import names
from semcom.columns import Column
from semcom.exhibits import Loop, Strip
from semcom.metrics.catalogue import SHIPPED_COLUMNS
from semcom.modalities import IMAGE, TEXT, VIDEO, Clip, Item, named
from semcom.plots import metric_vs_snr
from semcom.report import write_report
from semcom.results import ResultStore
from semcom.strips import clip_strip, image_strip
from semcom.summary import ORIGINALS, PICTURES, RECORDS, exhibits, keep_originals, original_path, report
from semcom.sweep import Sweep, kept_path, run

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
        "exhibits": {f"i0 {ATTACK}": (Strip(image_strip(x, {"softcast": x * 0.9})),)},
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

    text = write_report(tmp_path / "report.html", "t", exhibits=parts["exhibits"]).read_text()
    (source,) = Page(text).sources
    shown = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGB")
    ((given,),) = parts["exhibits"].values()
    assert ImageChops.difference(shown, given.picture).getbbox() is None


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


def kept(folder, modality, contents, originals, **columns):
    """Records, and the files that a sweep would have kept: scheme to what it shows of each original."""
    import pandas as pd

    (folder / PICTURES / ORIGINALS).mkdir(parents=True)
    rows = []
    for item, x in originals.items():
        modality.write(x, original_path(folder, item, modality.saved_suffix))
        for scheme, x_hat in contents.items():
            row = {"scheme": scheme, "fingerprint": "f", "channel": "awgn", "item": item}
            row |= {"modality": modality.name, "rho": 1.0, "budget_uses": 10, "snr_db": 3.0, "seed": 0}
            row |= {"outage": 0, **columns}
            key = tuple(row[n] for n in ("fingerprint", "channel", "item", "budget_uses", "snr_db", "seed"))
            path = kept_path(folder / PICTURES, scheme, key, modality.saved_suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            modality.write(x_hat, path)
            rows.append(row)
    return pd.DataFrame(rows)


def test_kept_texts_are_shown_with_their_word_error_rate_and_those_that_were_lost(tmp_path):
    shown = {"a": "one two", "b": f"one {ATTACK}", "c": ""}
    records = kept(tmp_path, TEXT, shown, {"note": "one two"}, wer=0.25, cer=0.5)
    records.loc[records["scheme"] == "c", "outage"] = 1
    ((caption, (page,)),) = exhibits(records, tmp_path).items()
    assert caption == "awgn, ρ = 1, SNR 3 dB: note"
    cards = re.findall(r"<h4>(\w+)(?: <small>(.*?)</small>)?</h4>", page.html)
    assert cards == [("original", ""), ("a", "WER 0.250"), ("b", "WER 0.250"), ("c", "lost")]
    assert "Nothing is shown" in page.html
    assert "script" not in Page(page.html).tags


def test_kept_clips_are_shown_as_strip_and_loop(tmp_path):
    clip = Clip(
        torch.arange(0, 240, 20, dtype=torch.uint8)[:, None, None, None].expand(12, 3, 16, 24), Fraction(25)
    )
    records = kept(tmp_path, VIDEO, {"a": clip}, {"clip": clip}, psnr_db=float("inf"))
    (((strip, loop)),) = exhibits(records, tmp_path).values()
    assert isinstance(strip, Strip)
    assert isinstance(loop, Loop)
    assert loop.frames == 12
    assert strip.picture.height == clip_strip(clip, {"a": clip}).height


def test_another_item_is_shown_at_each_point(tmp_path):
    records = kept(tmp_path, TEXT, {"a": "one"}, {"x": "one", "y": "two"})
    others = kept(tmp_path / "other", TEXT, {"a": "one"}, {"x": "one", "y": "two"}, snr_db=9.0)
    for path in (tmp_path / "other" / PICTURES).glob("a-f/*"):
        path.rename(tmp_path / PICTURES / "a-f" / path.name)
    import pandas as pd

    captions = exhibits(pd.concat([records, others]), tmp_path)
    assert [caption.rpartition(" ")[2] for caption in captions] == ["x", "y"]
    assert len(exhibits(pd.concat([records, others]), tmp_path, at_most=1)) == 1


def test_what_was_not_kept_is_not_shown(tmp_path, caplog):
    records = kept(tmp_path, TEXT, {"a": "one", "b": "two", "c": "three"}, {"x": "one"})
    received = sorted((tmp_path / PICTURES).glob("?-f/*"))
    received[0].unlink()
    received[1].write_bytes(b"\xff\xfe")
    ((page,),) = exhibits(records, tmp_path).values()
    assert re.findall(r"<h4>(\w+)", page.html) == ["original", "c"]
    assert [message.partition(":")[0] for message in caplog.messages] == ["not shown"]
    received[1].unlink()
    received[2].unlink()
    assert exhibits(records, tmp_path) == {}
    original_path(tmp_path, "x", ".txt").unlink()
    assert exhibits(records, tmp_path) == {}
    assert exhibits(records.assign(modality="point-cloud"), tmp_path) == {}


@pytest.mark.parametrize(
    ("modality", "measured", "caption"),
    [
        ("image", {"ssim": 0.9, "psnr_db": 30.0}, "30.0 dB"),
        ("image", {"psnr_db": float("nan"), "ssim": 0.9}, "SSIM 0.900"),
        ("image", {"psnr_db": float("inf")}, "inf dB"),
        ("text", {"bleu": 50.0, "wer": 0.125}, "WER 0.125"),
        ("text", {"bleu": 50.0}, "BLEU 50.0"),
        ("text", {"own": 12.0}, "own 12.00"),
        ("text", {}, ""),
    ],
)
def test_caption_is_of_the_metric_that_there_is(tmp_path, modality, measured, caption):
    if modality == "text":
        records = kept(tmp_path, TEXT, {"a": "one"}, {"x": "one"}, **measured)
        columns = {**SHIPPED_COLUMNS, "own": Column("own")}
        ((page,),) = exhibits(records, tmp_path, columns=columns).values()
        assert re.findall("<small>(.*?)</small>", page.html) == ([caption] if caption else [])
    else:
        x = torch.zeros(1, 3, 8, 8)
        records = kept(tmp_path, IMAGE, {"a": x}, {"x": x}, **measured)
        ((strip,),) = exhibits(records, tmp_path).values()
        expected = image_strip(x, {"a": x}, {"a": caption})
        assert strip.picture.tobytes() == expected.tobytes()


def test_report_of_a_sweep_of_texts_shows_them(tmp_path):
    item = named("note", "one two three four five six seven eight", TEXT)
    scheme, channel = names.scheme("utf8+ldpc", TEXT), names.channel("awgn")
    sweep = Sweep(
        (scheme,), (channel,), (item,), (-20.0, 20.0), ("40",), (names.metric("wer", "text"),), (0,)
    )
    keep_originals((item,), tmp_path)
    with ResultStore(tmp_path / RECORDS) as store:
        assert len(list(run(sweep, store, keep=tmp_path / PICTURES))) == 2
    page = report(tmp_path, tmp_path / "report.html", "One text").read_text()
    Page(page)
    assert "Received without a difference." in page
    assert "Nothing is shown" in page
    assert page.count("<small>lost</small>") == 1
    for path in (tmp_path / PICTURES / ORIGINALS).iterdir():
        path.unlink()
    assert 'id="exhibits"' not in report(tmp_path, tmp_path / "report.html", "Old").read_text()
