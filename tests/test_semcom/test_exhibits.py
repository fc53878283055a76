"""What a report shows of pictures, clips and texts: all that was given, marked where it differs."""

import io
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from semcom.differences import SHOWN, text_difference
from semcom.errors import InvalidOption, InvalidSource
from semcom.exhibits import LOOPS, MAX_LOOP_BYTES, Loop, Strip, exhibits_of
from semcom.modalities import IMAGE, TEXT, VIDEO, Clip, Item, TextModality
from semcom.report import write_report
from semcom.strips import clip_frames, clip_strip, write_strip

ATTACK = '<script>alert("x")</script>'


def grey_clip(levels: list[int], height: int = 48, width: int = 64, rate: Fraction = Fraction(25)) -> Clip:
    """Frames of one grey level each."""
    column = torch.tensor(levels, dtype=torch.uint8)[:, None, None, None]
    return Clip(column.expand(-1, 3, height, width).contiguous(), rate)


def noisy_clip(frames: int, height: int, width: int) -> Clip:
    """Noise, which no codec makes small."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (frames, 3, height, width), generator=generator, dtype=torch.uint8)
    return Clip(noise, Fraction(25))


def words_under(mark: str, page: str) -> list[str]:
    """Content of all elements of one name."""
    return re.findall(rf"<{mark}>(.*?)</{mark}>", page, re.DOTALL)


def cards(page: str) -> dict[str, str]:
    """Content of each card by its name."""
    pairs = re.findall(r'<article class="text"><h4>(.*?)</h4>(.*?)</article>', page, re.DOTALL)
    return {re.sub(" <small>.*", "", name): body for name, body in pairs}


def read(page: str) -> str:
    """What is received, as a reader of a card sees it."""
    (words,) = re.findall(r'<div class="words" dir="auto">(.*)</div>', page, re.DOTALL)
    return re.sub(r"<[^>]*>", "", re.sub(r"<del>.*?</del>", "", words, flags=re.DOTALL))


# Clips


def test_clip_strip_has_frames_in_columns_and_clips_in_rows() -> None:
    levels = [10 * i for i in range(21)]
    original, shown = grey_clip(levels), grey_clip([level + 7 for level in levels])
    strip = clip_strip(original, {"shown": shown}, {"shown": "31.2 dB"}, columns=5, tile=64)
    assert strip.mode == "RGB"
    assert strip.size == (2 * 12 + 5 * 64 + 4 * 8, 2 * 12 + 20 + 2 * (20 + 48) + 8)
    pixels = np.asarray(strip)
    for i, level in enumerate((0, 50, 100, 150, 200)):  # frames 0, 5, 10, 15, 20 of 21
        left = 12 + i * (64 + 8)
        first, second = 12 + 20 + 20, 12 + 20 + 20 + 48 + 8 + 20
        assert (pixels[first : first + 48, left : left + 64] == level).all()
        assert (pixels[second : second + 48, left : left + 64] == level + 7).all()


def test_names_and_captions_of_clips_are_written() -> None:
    clip = grey_clip([0, 100])
    plain, named, told = (
        np.asarray(clip_strip(clip, {name: clip}, captions, tile=128))
        for name, captions in (("a", {}), ("avif+ldpc", {}), ("avif+ldpc", {"avif+ldpc": "31.2 dB"}))
    )
    row = slice(12 + 20 + 20 + 96 + 8, 12 + 20 + 20 + 96 + 8 + 20)  # between both clips
    assert (plain[row] != named[row]).any()
    assert (named[row, 120:] != told[row, 120:]).any()
    assert (np.delete(named, np.r_[row], axis=0) == np.delete(told, np.r_[row], axis=0)).all()


@pytest.mark.parametrize(("frames", "shown"), [(1, 1), (2, 2), (4, 4), (5, 5), (9, 5)])
def test_clip_shorter_than_the_strip_is_shown_whole(frames: int, shown: int) -> None:
    strip = clip_strip(grey_clip([0] * frames), {}, tile=64)
    assert strip.width == 2 * 12 + shown * 64 + (shown - 1) * 8


@pytest.mark.parametrize("size", [(1, 1), (2, 500), (500, 2)])
def test_clips_of_odd_sizes_are_drawn(size: tuple[int, int]) -> None:
    clip = grey_clip([0, 255], *size)
    name = "a name that is far too long " * 9
    assert clip_strip(clip, {name: clip}, {name: name}, tile=64).width == 2 * 12 + 2 * 64 + 8
    assert {frame.width for frame in clip_frames(clip, {name: clip}, tile=64)} == {2 * (64 + 8) + 8}


def test_loop_plays_all_clips_side_by_side_at_their_rate() -> None:
    levels = [8 * i for i in range(30)]  # WebP makes one of frames that differ by 5 and less
    original, shown = grey_clip(levels), grey_clip([240 - level for level in levels])
    item = Item("clip", original, VIDEO)
    strip, loop = exhibits_of(item, {"shown": shown}, {"shown": "5.0 dB"})
    assert isinstance(strip, Strip)
    assert isinstance(loop, Loop)
    with PillowImage.open(io.BytesIO(loop.webp)) as animation:
        assert animation.format == "WEBP"
        assert animation.n_frames == loop.frames == 30  # pyright: ignore[reportAttributeAccessIssue]
        assert animation.info["loop"] == 0
        assert animation.size == (loop.width, loop.height) == (2 * (320 + 8) + 8, 8 + 2 * 20 + 240 + 8)
        for number in (0, 13, 29):
            animation.seek(number)
            animation.load()
            assert animation.info["duration"] == 40  # ms, of 25 frames a second
            pixels = np.asarray(animation.convert("RGB")).astype(int)
            left, right = pixels[100:200, 20:300], pixels[100:200, 350:630]
            assert abs(left - levels[number]).max() <= 4  # neighbouring frames are 8 apart
            assert abs(right - (240 - levels[number])).max() <= 4


@pytest.mark.parametrize(
    ("rate", "durations"),
    [
        (Fraction(30), [33, 34, 33]),  # of 33.3 ms
        (Fraction(24000, 1001), [42, 41, 42]),  # of 41.7 ms
        (Fraction(1000), [11, 11, 11]),  # browsers take 10 ms and less for 100 ms
        (Fraction(1, 100000), [2**24 - 1] * 3),  # all that WebP can say
    ],
)
def test_frames_of_a_loop_begin_at_the_nearest_millisecond(rate: Fraction, durations: list[int]) -> None:
    item = Item("clip", grey_clip([0, 100, 200], rate=rate), VIDEO)
    _, loop = exhibits_of(item, {})
    assert isinstance(loop, Loop)
    found: list[int] = []
    with PillowImage.open(io.BytesIO(loop.webp)) as animation:
        for number in range(3):
            animation.seek(number)
            animation.load()
            found.append(animation.info["duration"])
    assert found == durations


def test_long_clips_are_cut_and_loops_stay_small() -> None:
    item = Item("noise", noisy_clip(50, 240, 320), VIDEO)
    _, loop = exhibits_of(item, {"same": item.x})
    assert isinstance(loop, Loop)
    assert loop.frames == 48
    assert loop.note.startswith("Frames 1 to 48 of 50")
    tile = next(tile for tile, _ in LOOPS if f" {tile} pixels wide" in loop.note)
    assert loop.width == 2 * (tile + 8) + 8
    assert len(loop.webp) <= MAX_LOOP_BYTES or tile == LOOPS[-1][0]
    assert tile < LOOPS[0][0]  # noise of 320 pixels does not fit


def test_one_frame_is_a_strip_without_a_loop() -> None:
    (strip,) = exhibits_of(Item("still", grey_clip([0]), VIDEO), {"shown": grey_clip([9])})
    assert isinstance(strip, Strip)


def test_more_clips_than_a_row_holds_go_on_below() -> None:
    clip = grey_clip([0, 255])
    (first, _) = clip_frames(clip, {name: clip for name in "abcde"}, tile=64)
    assert first.size == (4 * (64 + 8) + 8, 2 * (20 + 48 + 8) + 8)


def test_clips_of_other_shapes_are_refused() -> None:
    clip = grey_clip([0, 1])
    for draw in (clip_strip, clip_frames):
        with pytest.raises(InvalidSource, match="short"):
            draw(clip, {"short": grey_clip([0])})
        with pytest.raises(InvalidOption, match="pixels"):
            draw(clip, {}, tile=10)


# Texts

ORIGINAL = "The quick brown fox jumps over the lazy dog and sleeps."


@pytest.mark.parametrize(
    ("received", "deleted", "inserted"),
    [
        ("The quick red fox jumps over the lazy dog and sleeps.", ["brown "], ["red "]),
        ("The quick fox jumps over the lazy dog and sleeps.", ["brown "], []),
        ("The quick brown fox also jumps over the lazy dog and sleeps.", [], ["also "]),
        ("quick brown fox jumps over the lazy dog and sleeps!", ["The ", "sleeps."], ["sleeps!"]),
    ],
)
def test_marks_are_at_the_words_that_differ(received: str, deleted: list[str], inserted: list[str]) -> None:
    card = cards(text_difference(ORIGINAL, {"zlib": received}))["zlib"]
    assert words_under("del", card) == deleted
    assert words_under("ins", card) == inserted
    assert read(card) == received


def test_gap_of_a_lost_packet_is_seen_with_what_it_covers() -> None:
    card = cards(text_difference(ORIGINAL, {"zlib": "The quick bro…over the lazy dog and sleeps."}))["zlib"]
    assert words_under("del", card) == ["brown fox jumps "]
    assert words_under("ins", card) == ["bro"]
    assert '<span class="gap">…</span>over' in card
    own = cards(text_difference("wait … please", {"zlib": "wait … now"}))["zlib"]
    assert "gap" not in own  # the mark of an original is no gap


def test_guesses_are_marked_even_if_their_words_are_right() -> None:
    received = "The quick …⟦brown fox jumps⟧ over the …⟦cat <b>⟧ and sleeps."
    page = text_difference(ORIGINAL, {"restore": received})
    card = cards(page)["restore"]
    assert card.count('class="guess"') == 2
    assert '<span class="guess">⟦brown fox jumps⟧</span> ' in card
    assert '<span class="guess">⟦cat &lt;b&gt;⟧</span> ' in card
    assert words_under("del", card) == ["brown fox jumps ", "lazy dog "]
    assert words_under("ins", card) == []
    assert "They were not received" in page
    assert "They were not received" not in text_difference(ORIGINAL, {"zlib": "The slow …"})
    own = text_difference("⟦A b⟧ c", {"restore": "⟦A b⟧ d"})  # brackets of the original
    assert "guess" not in own


def test_texts_names_and_captions_are_escaped() -> None:
    page = text_difference(
        f"a {ATTACK} b", {ATTACK: f"a {ATTACK} c {ATTACK}"}, {ATTACK: ATTACK, "original": ATTACK}
    )
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 6  # name, two captions, one in the original and two received
    assert "onload" not in text_difference("a", {"x": '" onload="y'}).replace("&quot; onload=&quot;", "")


def test_every_text_and_caption_is_there_and_the_original_once() -> None:
    page = text_difference(ORIGINAL, {"a": ORIGINAL + " a", "b": ORIGINAL + " b"}, {"b": "WER 0.091"})
    assert list(cards(page)) == ["original", "a", "b"]
    assert read(cards(page)["original"]) == ORIGINAL
    assert "<small>WER 0.091</small>" in page
    assert page.count("<small>") == 1


@pytest.mark.parametrize(
    ("received", "said"),
    [
        (ORIGINAL, "Received without a difference"),
        ("", "Nothing is shown"),
        (" \n", "Nothing is shown"),
        (ORIGINAL.replace(" ", "\n"), "white space differs"),
    ],
)
def test_what_has_no_marks_is_said(received: str, said: str) -> None:
    page = text_difference(ORIGINAL, {"zlib": received})
    assert said in cards(page)["zlib"]
    assert "<del>" not in page
    assert "<ins>" not in page


def test_empty_original_is_shown() -> None:
    page = text_difference("", {"zlib": "made up"})
    assert words_under("ins", cards(page)["zlib"]) == ["made up"]
    assert cards(text_difference("", {"zlib": ""}))["zlib"]


def test_long_texts_are_cut_around_the_first_difference() -> None:
    words = [f"word{i:05d}" for i in range(3000)]  # 10 characters each, with the space
    received = [*words[:2000], "odd", *words[2001:]]
    page = text_difference(" ".join(words), {"zlib": " ".join(received), "same": " ".join(words)})
    card = cards(page)["zlib"]
    assert words_under("del", card) == ["word02000 "]
    assert words_under("ins", card) == ["odd "]
    assert read(card).startswith("word01970 ")
    assert len(read(card)) == SHOWN
    assert "Characters 19,701 to 21,200 of 29,993." in card
    assert "Characters 19,701 to 21,200 of 29,999." in cards(page)["original"]
    assert read(cards(page)["original"])[300:309] == "word02000"


def test_long_passages_are_abridged_and_what_follows_is_shown() -> None:
    words = [f"word{i:05d}" for i in range(1000)]
    received = " ".join(words[:20]) + " …" + " ".join(words[600:])
    card = cards(text_difference(" ".join(words), {"zlib": received}))["zlib"]
    (deleted,) = words_under("del", card)
    assert len(deleted) == 240
    assert "[and more]" in card
    assert read(card).replace("[and more]", "").split()[:22] == [*words[:20], "…word00600", words[601]]


def test_word_without_end_is_cut() -> None:
    page = text_difference("a " + "b" * 100_000, {"zlib": "a " + "c" * 100_000})
    assert len(page) < 10_000


def test_texts_that_differ_everywhere_take_no_time() -> None:
    """Quadratic over the texts this would take hours."""
    generator = np.random.default_rng(0)
    original, received = (" ".join(map(str, generator.integers(0, 50, 200_000))) for _ in range(2))
    assert len(text_difference(original, {"zlib": received})) < 100_000


# All


class Foreign(TextModality):
    """A modality of another package."""

    @property
    def name(self) -> str:
        return "point-cloud"


def test_modality_of_another_package_is_shown_as_nothing(tmp_path: Path) -> None:
    item = Item("cloud", "1 2 3", Foreign())
    assert list(exhibits_of(item, {"scheme": "1 2 4"})) == []
    with pytest.raises(InvalidOption, match="point-cloud"):
        write_strip(tmp_path / "strip.png", item, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("schemes", "tile"), [(1, 320), (2, 320), (3, 280), (9, 256)])
def test_picture_is_one_strip_that_fits_a_page(schemes: int, tile: int) -> None:
    x = torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(0))
    shown = dict.fromkeys("abcdefghi"[:schemes], x)
    (strip,) = exhibits_of(Item("picture", x, IMAGE), shown, {"a": "30 dB"})
    assert isinstance(strip, Strip)
    assert strip.picture.width == 2 * 12 + (1 + schemes) * (tile + 8) - 8


def test_report_holds_every_kind_of_exhibit(tmp_path: Path) -> None:
    clip = Item("clip", grey_clip([0, 255]), VIDEO)
    text = Item("text", ORIGINAL, TEXT)
    exhibits = {
        f"clip {ATTACK}": exhibits_of(clip, {"x264": clip.x}),
        "text": exhibits_of(text, {"zlib": "The slow brown fox jumps."}),
    }
    page = write_report(tmp_path / "report.html", "t", exhibits=exhibits).read_text()
    assert page.count("data:image/webp;base64,") == 2
    assert "Frames 1 to 2 of 2" in page
    assert "<ins>slow </ins>" in page
    assert "<script" not in page


@pytest.mark.parametrize("suffix", [".png", ".BMP", ".tif", ".ppm"])
@pytest.mark.parametrize("modality", ["image", "video"])
def test_strips_of_pictures_and_clips_are_written_without_loss(
    tmp_path: Path, modality: str, suffix: str
) -> None:
    x = torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(0))
    item: Item[Any] = Item("i", x, IMAGE) if modality == "image" else Item("i", noisy_clip(3, 40, 60), VIDEO)
    path = tmp_path / f"strip{suffix}"
    write_strip(path, item, {"same": item.x})
    strip = next(exhibits_of(item, {"same": item.x}))
    assert isinstance(strip, Strip)
    with PillowImage.open(path) as written:
        assert (np.asarray(written.convert("RGB")) == np.asarray(strip.picture)).all()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_strip_of_a_text_is_a_whole_page(tmp_path: Path) -> None:
    write_strip(
        tmp_path / "strip.html",
        Item(ATTACK, ORIGINAL, TEXT),
        {"zlib": "The slow brown fox jumps."},
        {"zlib": "WER 0.8"},
    )
    page = (tmp_path / "strip.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "<style>" in page
    assert "<ins>slow </ins>" in page
    assert "WER 0.8" in page
    assert "<script" not in page


@pytest.mark.parametrize(
    ("item", "name"),
    [
        (Item("text", ORIGINAL, TEXT), "strip.png"),
        (Item("clip", grey_clip([0, 1]), VIDEO), "strip.jpg"),
        (Item("picture", torch.zeros(1, 3, 8, 8), IMAGE), "strip.html"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.id,
)
def test_strip_of_another_ending_is_refused(tmp_path: Path, item: Item[Any], name: str) -> None:
    with pytest.raises(InvalidOption, match="name it"):
        write_strip(tmp_path / name, item, {"same": item.x})
    assert list(tmp_path.iterdir()) == []


def test_strip_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "strip.html"
    write_strip(path, Item("text", ORIGINAL, TEXT), {"zlib": "old"})
    before = path.read_bytes()

    def refuse(source: Any, target: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(OSError, match="No space"):
        write_strip(path, Item("text", ORIGINAL, TEXT), {"zlib": "new"})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["strip.html"]


def test_first_exhibit_does_not_wait_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a loop was drawn")

    monkeypatch.setattr("semcom.exhibits.clip_frames", refuse)
    assert isinstance(next(exhibits_of(Item("clip", grey_clip([0, 1]), VIDEO), {})), Strip)
