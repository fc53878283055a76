"""One file that needs nothing else, says what it was given, and is written whole or not at all."""

import base64
import hashlib
import io
import re
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser

import pytest
import torch

from semcom import names
from semcom.columns import Column
from semcom.exhibits import Loop, Strip
from semcom.exhibits import Page as TextPage
from semcom.metrics.catalogue import SHIPPED_COLUMNS
from semcom.modalities import IMAGE, TEXT, VIDEO, Clip, Item, named
from semcom.plots import metric_vs_snr, scheme_styles
from semcom.report import SCRIPT, write_report
from semcom.results import Record, ResultStore
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
        if tag not in ("meta", "img", "wbr"):
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name == "src"]
        self.links += [value for name, value in attrs if name == "href"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
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
    assert page.tags.count("script") == 1  # our own, the only one that its policy allows
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert f"<script>{SCRIPT}</script>" in text
    assert (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text
    )
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
    assert all(re.search(r' alt="[^"]+"', picture) for picture in re.findall(r"<img[^>]*>", text))


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
    assert re.findall(r"<th scope=\"col\"( class=\"number\")?>", header) == ["", *[' class="number"'] * 4]


def test_empty_report_has_no_empty_sections(tmp_path):
    page = Page(write_report(tmp_path / "report.html", "Nothing yet").read_text())
    assert "h2" not in page.tags
    assert "script" not in page.tags


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
    assert strip.picture.height == clip_strip(clip, {"a": clip}, heading="where").height


def kept_at(folder, modality, contents, originals, points):
    """Records and files of `kept` at several points."""
    import pandas as pd

    frames = [kept(folder, modality, contents, originals, **points[0])]
    for i, point in enumerate(points[1:]):
        frames.append(kept(folder / f"other{i}", modality, contents, originals, **point))
        for path in (folder / f"other{i}" / PICTURES).glob("*-f/*"):
            path.rename(folder / PICTURES / path.parent.name / path.name)
    return pd.concat(frames)


def test_one_item_is_shown_at_every_snr_and_another_at_the_next_rho(tmp_path):
    points = [
        {"snr_db": snr, "rho": rho, "budget_uses": int(10 * rho)} for rho in (1.0, 0.5) for snr in (3.0, 9.0)
    ]
    records = kept_at(tmp_path, TEXT, {"a": "one"}, {"x": "one", "y": "two"}, points)
    drawn = exhibits(records, tmp_path)
    assert list(drawn) == ["awgn, ρ = 1: x", "awgn, ρ = 1/2: y"]
    folds = drawn["awgn, ρ = 1: x"]
    assert [(fold.line, fold.opened) for fold in folds] == [("At 3 dB", True), ("At 9 dB", False)]
    assert all(isinstance(fold.exhibits[0], TextPage) for fold in folds)
    (few,) = exhibits(records, tmp_path, at_most=1).values()
    assert len(few) == 1


@pytest.mark.parametrize("modality", [IMAGE, VIDEO], ids=lambda modality: modality.name)
def test_pictures_and_clips_at_every_snr_are_one_strip(tmp_path, modality):
    frames = torch.arange(0, 240, 20, dtype=torch.uint8)[:, None, None, None].expand(12, 3, 16, 24)
    x = torch.rand(1, 3, 16, 24) if modality is IMAGE else Clip(frames, Fraction(25))
    points = [{"snr_db": float(snr)} for snr in range(9)]
    records = kept_at(tmp_path, modality, {"a": x, "b": x}, {"x": x}, points)
    (shown,) = exhibits(records.assign(psnr_db=30.0), tmp_path, at_most=2).values()
    strip, *folds = shown
    assert isinstance(strip, Strip)
    assert strip.picture.width == 2 * 12 + 6 * (186 + 8) - 8  # six of nine SNRs
    assert [fold.line for fold in folds] == ["At 0 dB, in detail", "At 8 dB, in detail"]


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
        color = scheme_styles(records)["a"].color
        where = "awgn, ρ = 1, SNR 3 dB: x"
        expected = image_strip(x, {"a": x}, {"a": caption}, heading=where, colors={"a": color})
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


def stored(
    folder, schemes, snrs=(0.0, 5.0), rhos=(1 / 12, 1 / 48), items=3, channels=("awgn",), value=None, **more
):
    """A store with records made up: scheme by scheme 1 dB better, or as `value` has it."""
    rows = [
        Record(
            **{"scheme": scheme, "fingerprint": f"f{i}", "channel": channel, "item": f"i{n}", "seed": 0},
            **{"snr_db": snr, "rho": rho, "budget_uses": round(1e6 * rho), "channel_uses": round(1e6 * rho)},
            **{"rho_used": rho, "source_dims": 10**6, "energy": 1.0, "seconds_prepare": 0.0},
            **{"seconds_deliver": 0.0, "outage": 0, "numbers": {"psnr_db": 20.0 + i + n + snr / 5}, **more},
        )
        for i, scheme in enumerate(schemes)
        for channel in channels
        for rho in rhos
        for snr in snrs
        for n in range(items)
    ]
    with ResultStore(folder / RECORDS) as store:
        store.write([row if value is None else value(row) for row in rows])
    return folder


def told(folder, **options):
    """The page, and its words."""
    text = report(folder, folder / "report.html", "Made up", **options).read_text(encoding="utf-8")
    return text, "".join(Page(text).words)


def test_the_page_opens_with_sentences_and_says_what_schemes_are(tmp_path):
    schemes = ("softcast", "deepjscc", "avif+ldpc:csit-average")
    text, words = told(stored(tmp_path, schemes))
    headings = re.findall("<h2>(.*?)</h2>", text)
    assert headings == ["Findings", "The schemes", "Who wins where", "Curves", "Table", "Notes"]
    assert "Digital schemes have the highest PSNR at all 4 operating points." in words
    sentence = (
        "At 5 dB, avif+ldpc:csit-average has the highest PSNR (24.00 dB), 1.00 dB [1.00, 1.00] above deepjscc"
    )
    assert sentence in words
    assert "SoftCast: scaled DCT coefficients as symbols" in words
    colors = {name: style.color for name, style in scheme_styles(frame_of(tmp_path)).items()}
    for name, color in colors.items():
        assert f'<span class="dot" style="background: {color}"></span>' in text, name
        assert f'stroke="{color}"' in text, name


def frame_of(folder):
    with ResultStore(folder / RECORDS, read_only=True) as store:
        return store.frame()


def test_tables_have_paired_differences_where_bands_overlap(tmp_path):
    def value(record):  # items are 10 dB apart: intervals overlap, differences are 1 dB for each item
        return replace(
            record, numbers={"psnr_db": 20.0 + 10 * int(record.item[1]) + (record.scheme == "deepjscc")}
        )

    text, _ = told(stored(tmp_path, ("softcast", "deepjscc"), value=value))
    assert text.count("<small>Δ \N{MINUS SIGN}1.00 [\N{MINUS SIGN}1.00, \N{MINUS SIGN}1.00]</small>") == 4
    (tmp_path / "far").mkdir()
    far = stored(
        tmp_path / "far",
        ("softcast", "deepjscc"),
        value=lambda record: replace(
            record, numbers={"psnr_db": 20.0 + int(record.item[1]) / 100 + (record.scheme == "deepjscc")}
        ),
    )
    assert "<small>Δ" not in told(far)[0]
    assert text.count('scope="row"') == 8
    assert "<caption><span>All rows: awgn. " in text


def test_the_best_of_a_table_is_that_of_the_items_which_schemes_share(tmp_path, monkeypatch):
    """The worse scheme lacks the worst item, so that its mean is the higher one."""
    monkeypatch.setattr("semcom.summary.FIGURES", 0)  # drawing is not what is tested

    def value(record):
        numbers = {"psnr_db": 20.0 + 10 * int(record.item[1]) + (record.scheme == "deepjscc")}
        return replace(record, numbers={} if (record.scheme, record.item) == ("softcast", "i0") else numbers)

    text, words = told(stored(tmp_path, ("softcast", "deepjscc"), (5.0,), (1 / 12,), value=value))
    table = re.findall(r"<tr.*?</tr>", text.split("<tbody>")[1])
    cells = {scheme: [row for row in table if scheme in row] for scheme in ("softcast", "deepjscc")}
    assert len(cells["softcast"]) == len(cells["deepjscc"]) == 1
    assert all("35.00" in row and "(2 of 3 items)" in row and "<b>" not in row for row in cells["softcast"])
    assert all("<b>31.00</b>" in row and " of 3 items" not in row for row in cells["deepjscc"])
    assert all("Δ \N{MINUS SIGN}1.00 [" in row for row in cells["softcast"])
    assert "bold: best of a point, on the items that the schemes compared there share" in words
    # what is missing for three of four items of a scheme leaves it out of the comparison
    (tmp_path / "few").mkdir()

    def few(record):
        return replace(
            record, numbers={} if record.scheme == "theirs" and record.item != "i3" else record.numbers
        )

    text, words = told(
        stored(tmp_path / "few", ("softcast", "deepjscc", "theirs"), (5.0,), (1 / 12,), 4, value=few)
    )
    table = re.findall(r"<tr.*?</tr>", text.split("<tbody>")[1])
    assert all(("<b>" in row) == ("deepjscc" in row) for row in table)
    assert sum("(1 of 4 items)" in row for row in table if "theirs" in row) == 1
    assert "deepjscc has the highest PSNR" in words


@pytest.mark.parametrize(
    "case",
    [
        *("one scheme", "one SNR", "one point", "one item", "all lost", "no metric", "missing"),
        *("infinite", "infinite for an item"),
    ],
)
def test_reports_of_odd_sweeps_are_whole(tmp_path, case):
    schemes = ("softcast",) if case == "one scheme" else ("softcast", "theirs")
    options = {
        "one SNR": {"snrs": (5.0,)},
        "one point": {"snrs": (5.0,), "rhos": (1 / 12,)},
        "one item": {"items": 1},
        "all lost": {"outage": 1, "numbers": {"psnr_db": 9.0}},
        "no metric": {"numbers": {}},
        "infinite": {"rhos": (1 / 12,)},
        "infinite for an item": {"snrs": (5.0,), "rhos": (1 / 12,)},
    }.get(case, {})

    def value(record):
        theirs, first = record.scheme == "theirs", record.item == "i0"
        if case == "missing" and theirs:
            return replace(record, numbers={})
        if (
            theirs
            and first
            and (case == "infinite for an item" or (case == "infinite" and record.snr_db == 5))
        ):
            return replace(record, numbers={"psnr_db": float("inf")})  # as stores of earlier versions have it
        return record

    text, words = told(stored(tmp_path, schemes, value=value, **options))
    assert not re.search(r"\b(nan|inf|infinity)\b", words, re.IGNORECASE)
    assert "a scheme of another package" in words or case == "one scheme"
    assert "Findings" in words
    # curves over SNR at two rho and over rho at one SNR, and a map where there are families to compare
    few = {"no metric": 0, "one point": 1, "one SNR": 1, "one scheme": 3}
    figures = {**few, "infinite": 1, "infinite for an item": 1}.get(case, 3 + 1)
    assert text.count("data:image/svg+xml") == figures
    expected = {
        "one scheme": "no other scheme was measured there",
        "one SNR": "At 5 dB, theirs has the highest PSNR",
        "one point": "At 5 dB, theirs has the highest PSNR (23.00 dB), 1.00 dB [1.00, 1.00] above softcast",
        "one item": "(one picture: no interval)",
        "all lost": "every scheme lost every picture; nothing is compared",
        "no metric": "no metric was measured whose better direction is known",
        "missing": "softcast has a PSNR of",
        "infinite": "psnr_db of theirs on awgn was measured for a part of the records",
        "infinite for an item": "1.00 dB [1.00, 1.00] above softcast",
    }
    assert expected[case] in words


def test_hostile_names_are_words(tmp_path):
    value = lambda record: replace(record, item=f"{ATTACK}{record.item}")  # noqa: E731
    folder = stored(tmp_path, ("softcast", ATTACK), channels=(ATTACK,), value=value)
    page = Page(report(folder, folder / "report.html", ATTACK).read_text(encoding="utf-8"))
    assert page.tags.count("script") == 1
    assert f"On {ATTACK}" in "".join(page.words)


@pytest.mark.slow
def test_hundreds_of_operating_points_are_folded(tmp_path, monkeypatch):
    from semcom import summary

    monkeypatch.setattr(summary, "FIGURES", 2)  # drawing is not what is tested
    snrs, rhos = tuple(map(float, range(20))), tuple(1 / (10 + i) for i in range(12))
    text, words = told(stored(tmp_path, ("softcast", "jpeg+ldpc:mcs4"), snrs, rhos, items=2))
    assert "480 rows" in words
    assert "4 more ratios" in words
    assert "more figures: semcom plot" in words
    headline = words.index("Digital schemes have the highest PSNR at all 240 operating points.")
    assert headline < words.index("Point by point")
    assert " open>" not in text.split('id="maps"')[0].split('id="findings"')[1]
