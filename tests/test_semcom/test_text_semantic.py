"""Semantic compression: sentences, blocks, topics, summarisers, assembly, and what bad input gives."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from semcom.errors import InvalidOption, InvalidSource, MissingWeights
from semcom.text.blocks import joined, packed, sentence_spans, sentences_of, shortened, word_count
from semcom.text.documents import block_sources, interleaved, read_books, with_needle
from semcom.text.semantic import SemanticCompressor
from semcom.text.summarisers import (
    Abstractive,
    Centroid,
    Outliers,
    Random,
    Scored,
    Summariser,
    Topic,
    Truncation,
    nearest_similarity,
    seq2seq,
)
from semcom.text.topics import (
    Consecutive,
    Spectral,
    TfidfSvd,
    Whole,
    eigengap,
    laplacian_basis,
    spectral_labels,
    topic_graph,
)

THEMES = (
    ("ship", "sailor", "harbor", "anchor", "storm", "mast", "captain", "wave", "deck", "coast"),
    ("bread", "oven", "flour", "baker", "yeast", "crust", "butter", "kitchen", "loaf", "sugar"),
    ("court", "judge", "verdict", "lawyer", "witness", "trial", "jury", "oath", "appeal", "crime"),
)
NEEDLE = "Quixotic zebras number 48213 in the far hills beyond Zanzibar."  # of usual length


def prose(sentences: int, seed: int = 0, themes: int = 3) -> str:
    """Sentences of one theme each, in runs of eight."""
    rng = np.random.default_rng(seed)
    parts = []
    for number in range(sentences):
        words = rng.choice(THEMES[number // 8 % themes], 9)
        parts.append("The " + " ".join(map(str, words)) + ".")
    return " ".join(parts)


def hashed(texts: Sequence[str]) -> torch.Tensor:
    """Embedding without any package: counts of words, of unit length."""
    places = {word: i for i, word in enumerate(word for theme in THEMES for word in theme)}
    found = torch.full((len(texts), len(places) + 1), 0.01)
    for row, text in zip(found, texts, strict=True):
        for word in text.lower().replace(".", "").split():
            row[places.get(word, len(places))] += word != "the"
    return torch.nn.functional.normalize(found, dim=1)


def compressor(**fields) -> SemanticCompressor:
    """A compressor that needs no package beyond the required ones."""
    return SemanticCompressor(**{"embed": hashed, "grouping": Consecutive(200)} | fields)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Mr. Bell left. Did it rain? No.", ["Mr. Bell left.", "Did it rain?", "No."]),
        ("J. S. Bach wrote it. At 3.5 degrees.", ["J. S. Bach wrote it.", "At 3.5 degrees."]),
        ("He said: \u201cGo.\u201d Then he went.", ["He said: \u201cGo.\u201d", "Then he went."]),
        ("A heading\n\nand a line\nthat goes on", ["A heading", "and a line\nthat goes on"]),
        ("\u4eca\u65e5\u306f\u3002\u660e\u65e5\uff01", ["\u4eca\u65e5\u306f\u3002", "\u660e\u65e5\uff01"]),
        ("no end", ["no end"]),
        ("  \n ", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, sentences: list[str]) -> None:
    assert [text[a:b] for a, b in sentence_spans(text)] == sentences


def test_joined_sentences_are_the_text_and_sizes_add_up() -> None:
    text = "One two. Three four!\n\nA new paragraph, longer. " + prose(30)
    sentences = sentences_of(text)
    assert joined(sentences) == text
    assert sum(part.tokens for part in sentences) == word_count(text)
    blocks = packed(sentences, 50)
    assert [i for block in blocks for i in block] == list(range(len(sentences)))
    sizes = [sum(sentences[i].tokens for i in block) for block in blocks]
    assert max(sizes) <= 50
    assert all(a + sentences[block[0]].tokens > 50 for a, block in zip(sizes, blocks[1:], strict=False))


def test_a_sentence_that_is_too_long_is_cut_between_words() -> None:
    text = " ".join(f"word{i}" for i in range(500))
    pieces = sentences_of(text, most_tokens=20)
    assert joined(pieces) == text
    assert max(piece.tokens for piece in pieces) <= 20


def test_one_word_of_100_kb_is_cut_if_its_tokens_are_characters() -> None:
    word = "x" * 100_000
    found = compressor(size=len, section_tokens=10_000)(word, 7.0)
    assert set(found.text) <= {"x"}
    assert 6.3 <= found.ratio <= 8.8
    assert compressor()(word, 7.0, target_tokens=1).text == word  # as one word it is one token


def test_shortened_text_fits_and_ends_between_words() -> None:
    assert shortened("one two three four", 3) == "one two three"
    assert shortened("one two three four", 9) == "one two three four"
    assert shortened("abcdef", 3, len) == "abc"


def test_graph_and_laplacian_of_two_separate_groups() -> None:
    """Blocks that share nothing across groups: as many eigenvalues 0 as groups, and labels that tell them."""
    e = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    weights = topic_graph(e)
    assert weights.tolist() == [
        [0, 1, 0, 0, 1],
        [1, 0, 0, 0, 1],
        [0, 0, 0, 1, 0],
        [0, 0, 1, 0, 0],
        [1, 1, 0, 0, 0],
    ]
    values, _ = laplacian_basis(weights, 5)
    assert values == pytest.approx([0, 0, 1.5, 1.5, 2], abs=1e-12)
    assert eigengap(values, 1, 4) == 2
    assert eigengap(values, 3, 4) in (3, 4)
    local = topic_graph(e, locality=2.0)
    assert local[0, 4] == pytest.approx(np.exp(-2.0))
    pytest.importorskip("sklearn")
    assert spectral_labels(weights, 2).tolist() == [0, 0, 1, 1, 0]
    with pytest.raises(InvalidOption, match="6 clusters of 5"):
        spectral_labels(weights, 6)


def test_neighbours_keep_edges_of_either_side() -> None:
    e = torch.nn.functional.normalize(torch.rand(12, 5), dim=1)
    weights, full = topic_graph(e, 3), topic_graph(e)
    assert (weights == weights.T).all()
    near = np.argsort(-full, axis=1)[:, :3]
    for i in range(12):
        for j in range(12):
            assert (weights[i, j] > 0) == (i != j and (j in near[i] or i in near[j]))


def test_labels_are_those_of_scikit_learn() -> None:
    """A foreign implementation of the same algorithm finds the same partition of noisy groups."""
    cluster = pytest.importorskip("sklearn.cluster")
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), 20)
    weights = np.where(truth[:, None] == truth, 0.5, 0.1) + 0.1 * rng.random((60, 60))
    weights = (weights + weights.T) / 2
    np.fill_diagonal(weights, 0)
    theirs = cluster.SpectralClustering(3, affinity="precomputed", random_state=0).fit_predict(weights)
    ours = spectral_labels(weights, 3)
    assert metrics.adjusted_rand_score(theirs, ours) == metrics.adjusted_rand_score(truth, ours) == 1


@pytest.mark.parametrize("seed", range(6))
def test_clusters_fit_the_window_and_none_is_tiny_where_it_has_room(seed: int) -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(seed)
    vectors = torch.nn.functional.normalize(torch.from_numpy(rng.random((70, 8))).float() ** 4, dim=1)
    tokens = [int(size) for size in rng.integers(5, 96, 70)]
    labels = Spectral(window=600, least_tokens=200)(vectors, tokens)
    sizes = [int(np.asarray(tokens)[labels == label].sum()) for label in range(labels.max() + 1)]
    assert max(sizes) <= 600
    small = [size for size in sizes if size < 200]
    assert all(size + other > 600 for size in small for other in sizes if other is not size)
    first = [labels.tolist().index(label) for label in range(labels.max() + 1)]
    assert first == sorted(first)


def test_themes_become_topics() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    text = prose(96)
    found = SemanticCompressor(TfidfSvd(), block_tokens=44, grouping=Spectral(window=10_000, least_tokens=1))(
        text
    )
    truth = [text[a:b].split()[1] for a, b in found.blocks]
    themes = [next(i for i, theme in enumerate(THEMES) if word in theme) for word in truth]
    assert metrics.adjusted_rand_score(themes, found.topics) > 0.9
    assert max(found.topics) == 2


def test_the_outlier_is_kept_where_the_centroid_drops_it() -> None:
    text = prose(60)
    places = [place for place in range(0, len(text), 97)]
    for place in places[:12]:
        at = text.find(". ", place) + 2
        with_it = text[:at] + NEEDLE + " " + text[at:]
        assert NEEDLE in compressor()(with_it, 7.0).text
        assert NEEDLE not in compressor(summarise=Centroid())(with_it, 7.0).text


def test_mean_similarity_to_the_nearest() -> None:
    e = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    assert nearest_similarity(e, 2) == pytest.approx([0.8, 0.8, 0.4, 0.7], abs=1e-7)
    assert nearest_similarity(e[:1]).tolist() == [0.0]


@pytest.mark.parametrize("ratio", [6.0, 7.0, 8.0])
@pytest.mark.parametrize("summarise", [Outliers(), Centroid(), Random()])
def test_the_ratio_is_reached_within_ten_percent(ratio: float, summarise: Summariser) -> None:
    for sentences in (200, 800):
        found = compressor(summarise=summarise)(prose(sentences), ratio)
        assert found.tokens == word_count(found.text)
        assert ratio <= found.ratio <= 1.1 * ratio


def test_a_target_is_never_exceeded_and_texts_below_it_come_back() -> None:
    text = prose(100)
    for target in (15, 64, 333):
        found = compressor()(text, target_tokens=target)
        assert 0 < found.tokens <= target
    assert compressor()(text, target_tokens=word_count(text)).text == text
    assert compressor()("Short.", target_tokens=100).ratio == 1


def test_sentences_keep_their_words_and_their_order() -> None:
    pytest.importorskip("sklearn")
    text = prose(300)
    found = SemanticCompressor(hashed, grouping=Spectral(window=400, least_tokens=100))(text)
    assert len(set(found.topics)) > 3
    places = [piece.at for piece in found.pieces]
    assert places == sorted(places)
    assert all(text.startswith(piece.text.strip(), piece.at) for piece in found.pieces)


@pytest.mark.parametrize("unit", ["topic", "run"])
def test_threads_do_not_change_the_result(unit) -> None:
    pytest.importorskip("sklearn")
    fields = {"embed": hashed, "unit": unit, "grouping": Spectral(window=400), "section_tokens": 2000}
    text = prose(400)
    assert SemanticCompressor(**fields)(text) == SemanticCompressor(**fields, workers=4)(text)


def test_sections_share_no_topic_and_cover_the_text() -> None:
    text = prose(400)
    found = compressor(section_tokens=1000, grouping=Whole())(text)
    assert set(found.topics) == set(range(-(-word_count(text) // 1000)))
    assert found.blocks[0][0] == 0
    assert found.blocks[-1][1] == len(text)
    assert list(found.topics) == sorted(found.topics)


def test_written_summaries_stand_where_their_runs_begin_and_are_cut_to_the_budget() -> None:
    summarise = Abstractive(lambda text, budget: f"<{text.split()[1]}> " + "too long " * 100)
    text = prose(96)
    fields = {"summarise": summarise, "block_tokens": 88, "unit": "run"}
    found = compressor(**fields, grouping=ByTheme())(text, 5.0)
    runs = [text[piece.at :].split()[1] for piece in found.pieces]
    assert len(runs) == 12
    assert [piece.text.split()[0] for piece in found.pieces] == [f"<{word}>" for word in runs]
    assert not any(piece.verbatim for piece in found.pieces)
    assert found.tokens <= word_count(text) / 5 + 1


class ByTheme:
    """Labels by the theme that a vector of `hashed` points to."""

    def __call__(self, vectors: torch.Tensor, tokens: Sequence[int]) -> np.ndarray:
        return vectors[:, :30].reshape(len(vectors), 3, 10).sum(-1).argmax(-1).numpy()


def test_scores_from_elsewhere_choose_sentences() -> None:
    text = prose(40)
    wanted = [part.text for part in sentences_of(text)][17]
    found = compressor(summarise=Scored(lambda parts: [part == wanted for part in parts]), grouping=Whole())(
        text, target_tokens=12
    )
    assert found.text == wanted
    with pytest.raises(InvalidOption, match="one finite number each"):
        compressor(summarise=Scored(lambda parts: [1.0]), grouping=Whole())(text)


def test_a_known_question_is_looked_for() -> None:
    rest = prose(60, themes=1)
    text = (
        rest[:300].rsplit(". ", 1)[0]
        + ". The judge heard the witness and the jury gave no verdict on the trial. "
        + rest
    )
    plain = compressor(grouping=Whole(), summarise=Outliers(0.0))
    assert "judge" not in plain(text, target_tokens=30).text
    assert "judge" in plain(text, target_tokens=30, question="judge witness").text


def test_truncation_keeps_ends() -> None:
    text = prose(50)
    found = compressor(summarise=Truncation(), grouping=Whole())(text, 5.0).text
    assert text.startswith(found[:60])
    assert text.endswith(found[-60:])
    assert text.startswith(compressor(summarise=Truncation("head"), grouping=Whole())(text, 5.0).text)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("",), InvalidSource, "nothing to compress"),
        ((" \n\t ",), InvalidSource, "nothing to compress"),
        (("A text. Of two.", 1.0), InvalidOption, "ratio of 1"),
        (("A text. Of two.", float("inf")), InvalidOption, "ratio of inf"),
        (("A text. Of two.", float("nan")), InvalidOption, "ratio of nan"),
        (("One sentence that is the only one.",), InvalidOption, "no sentence fits; the shortest has 8"),
    ],
)
def test_bad_input_is_a_typed_error(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        compressor()(*arguments)


def test_bad_options_are_typed_errors() -> None:
    with pytest.raises(InvalidOption, match="target of 0"):
        compressor()("A text.", target_tokens=0)
    with pytest.raises(InvalidOption, match="at most 4 tokens"):
        compressor(block_tokens=4)("A text.")
    with pytest.raises(InvalidOption, match="share of 2"):
        compressor(summarise=Outliers(2.0))(prose(40))


@pytest.mark.parametrize("text", ["? ! . ,", "a. a. a. a.", "\u00e9\u00e8 \U0001f600 " * 40])
def test_texts_without_words_are_embedded(text: str) -> None:
    pytest.importorskip("sklearn")
    found = SemanticCompressor(TfidfSvd(), grouping=Whole(), block_tokens=8)(text, target_tokens=8)
    assert 0 < found.tokens <= 8


def test_missing_encoder_decoder_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(MissingWeights, match="cannot be loaded as an encoder-decoder"):
        seq2seq(str(tmp_path))


def test_encoder_decoder_of_hugging_face_writes(tmp_path: Path) -> None:
    """A randomly initialised T5 with a tokenizer of words is loaded and writes what fits."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = ["<pad>", "</s>", "<unk>", *dict.fromkeys(word for theme in THEMES for word in theme)]
    model = tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=64
    ).save_pretrained(tmp_path)
    config = transformers.T5Config(
        vocab_size=len(words),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
    )
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    summarise = seq2seq(str(tmp_path), beams=2)
    sentences = sentences_of(prose(20))
    pieces = summarise(Topic(sentences, hashed([part.text for part in sentences]), word_count), 12)
    assert sum(word_count(piece.text) for piece in pieces) <= 12
    assert pieces == summarise(Topic(sentences, hashed([part.text for part in sentences]), word_count), 12)


def test_documents_know_their_sources_and_needles() -> None:
    books = {str(i): sentences_of(prose(120, seed=i, themes=1)) for i in range(3)}
    document = interleaved(books, np.random.default_rng(0), 3, blocks=8)
    assert len(document.sources) == 24
    spans = [(a, b) for a, b, _ in document.sources]
    assert block_sources(document, spans) == [name for _, _, name in document.sources]
    hidden = with_needle(books["0"], np.random.default_rng(1), 200, key="Oslo")
    assert hidden.needle in hidden.text
    assert hidden.needle == f"{hidden.cue} {hidden.value}."
    assert 180 < word_count(hidden.text.replace(hidden.needle, "")) <= 200
    with pytest.raises(InvalidOption, match="9 sources of 3"):
        interleaved(books, np.random.default_rng(0), 9)
    with pytest.raises(InvalidOption, match="0 tokens"):
        with_needle(books["0"], np.random.default_rng(0), 0)


def test_missing_books_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidSource, match="cannot be read"):
        read_books(tmp_path)


@pytest.mark.shared
def test_prose_of_all_sources_and_needles_by_tfidf(shared_data: Path) -> None:
    """Topics of eight books without any network model, and the ratio on real prose."""
    metrics = pytest.importorskip("sklearn.metrics")
    books = read_books(shared_data / "text" / "books", tokens=4000)
    assert len(books) == 8
    found = []
    for item in range(4):
        document = interleaved(books, np.random.default_rng(item), 4)
        topics = SemanticCompressor(TfidfSvd(), grouping=Spectral(10**6, 1, clusters=4))(document.text)
        assert 6.3 <= topics.ratio <= 7.7
        found.append(metrics.adjusted_rand_score(block_sources(document, topics.blocks), topics.topics))
    assert np.mean(found) > 0.5


@pytest.mark.lm
@pytest.mark.shared
def test_needles_and_topics_by_minilm(shared_data: Path) -> None:
    """With MiniLM the number is kept and the books are told apart; a plain centroid loses the number."""
    metrics = pytest.importorskip("sklearn.metrics")
    from semcom.text.lm import load_embedder

    embed = load_embedder("minilm")
    books = read_books(shared_data / "text" / "books", tokens=2000)
    whole = [sentence for sentences in books.values() for sentence in sentences]
    kept, lost = 0, 0
    for item in range(3):
        document = with_needle(whole, np.random.default_rng(item), 2000)
        kept += document.needle in SemanticCompressor(embed)(document.text).text
        lost += document.needle not in SemanticCompressor(embed, Centroid())(document.text).text
    assert kept >= 2
    assert lost >= 2
    document = interleaved(books, np.random.default_rng(0), 4, blocks=10)
    topics = SemanticCompressor(embed, grouping=Spectral(10**6, 1, clusters=4))(document.text)
    assert metrics.adjusted_rand_score(block_sources(document, topics.blocks), topics.topics) > 0.7
