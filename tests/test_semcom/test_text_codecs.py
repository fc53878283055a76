"""Classical codecs of texts: Huffman against its bound, Brotli and Zstandard."""

import json
import math
import random
import time
from importlib.util import find_spec

import pytest

from semcom.codecs import text as codecs
from semcom.codecs.codec import Quality
from semcom.codecs.text import COUNTS, TABLES, Brotli, Huffman, Zlib, Zstd, code_lengths
from semcom.errors import CorruptPayload, InvalidOption, MissingPackage
from semcom.modalities import TextShape

ONLY = Quality(1, 0)
PROSE = (
    "She had been there before, he said, in the winter of the year in which the river froze, and had found "
    "nothing but snow. It was not likely that anything would be found now. "
)
HARD = ("", "a", "\x00", "🦊 é é 写\r\n", PROSE, PROSE * 20, "".join(map(chr, range(1, 400))))
NEEDED = {"brotli": "brotli", "zstd": "zstandard"}
KINDS = [
    Huffman,
    *(
        pytest.param(kind, marks=pytest.mark.skipif(find_spec(package) is None, reason=f"no {package}"))
        for kind, package in ((Brotli, "brotli"), (Zstd, "zstandard"))
    ),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", HARD, ids=range(len(HARD)))
def test_texts_come_back(kind, text):
    codec = kind()
    assert codec.decode(codec.encode(text, ONLY), TextShape()) == text


@pytest.mark.parametrize("kind", KINDS)
def test_other_bytes_are_refused_in_one_line(kind):
    codec, rng = kind(), random.Random(0)
    payload = codec.encode(PROSE, ONLY)
    for bad in (b"", payload[:-1], payload + b"\x01\x02", *(rng.randbytes(9) for _ in range(60))):
        try:
            assert isinstance(codec.decode(bad, TextShape()), str)
        except CorruptPayload as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017
    for bad in (b"", payload[:-1], payload + b"\x01\x02"):
        with pytest.raises(CorruptPayload):
            codec.decode(bad, TextShape())
    with pytest.raises(InvalidOption):
        codec.encode(PROSE, Quality(2, 0))


def test_huffman_is_optimal():
    """Kraft's sum is 1, and the mean length is at least the entropy and less than 1 bit above."""
    counts = json.loads((TABLES / COUNTS).read_text())["counts"]
    lengths = code_lengths(counts)
    assert sum(2.0**-length for length in lengths) == 1
    p = [count / sum(counts) for count in counts]
    entropy = -sum(x * math.log2(x) for x in p)
    mean = sum(x * length for x, length in zip(p, lengths, strict=True))
    assert entropy <= mean < entropy + 0.1  # for bytes of English the gap is a few hundredths
    assert 4 < mean < 5


def test_huffman_of_known_counts():
    assert code_lengths([1, 1]) == (1, 1)
    assert sorted(code_lengths([1, 1, 2, 4, 8])) == [1, 2, 3, 4, 4]


@pytest.mark.skipif(find_spec("zstandard") is None, reason="no zstandard")
def test_the_dictionary_helps_on_short_texts():
    size = {codec.name: len(codec.encode(PROSE, ONLY)) for codec in (Zstd(), Zlib())}
    assert size["zstd"] < 0.9 * size["zlib"]


@pytest.mark.parametrize(("kind", "package"), [(Brotli, "brotli"), (Zstd, "zstandard")])
def test_a_missing_package_is_one_line(kind, package, monkeypatch):
    monkeypatch.setattr(codecs, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=rf"{package}: the package is not installed; pip install"):
        kind()


def test_the_dictionary_is_digested_once():
    """The bytes are those of a compressor that reads the dictionary anew, and packets take no minutes."""
    zstandard = pytest.importorskip("zstandard")
    from semcom.codecs import text as module

    plain = zstandard.ZstdCompressionDict((module.TABLES / module.DICTIONARY).read_bytes())
    for x in ("It was late.", "no", "The meeting was long and rather dull for everybody. " * 9):
        parameters = module._zstd_parameters()
        known = zstandard.ZstdCompressor(dict_data=plain, compression_params=parameters).compress(x.encode())
        assert Zstd().encode(x, Quality(1, 0)) == known
    Zstd().encode("warm", Quality(1, 0))
    begun = time.process_time()
    for i in range(200):
        Zstd().encode(f"It was late, {i}.", Quality(1, 0))
    assert time.process_time() - begun < 0.8  # 0.02 s; 1.6 s if the dictionary is read for every text
