"""Summarisers of one topic behind one protocol: sentences that are picked, or a text that is written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from semcom.errors import InvalidOption, MissingWeights, reason_of
from semcom.text.blocks import Sentence, Size, joined, shortened


@dataclass(frozen=True, eq=False)
class Topic:
    """Sentences of one topic in the order of the text: what a summariser is given.

    Args:
        sentences: The sentences.
        vectors: Embeddings of unit length, one per sentence.
        size: Number of tokens of a text.
        question: Embedding of the question that will be asked, if it is known.
    """

    sentences: Sequence[Sentence]
    vectors: Float[Tensor, "sentences features"]
    size: Size
    question: Float[Tensor, " features"] | None = None


@dataclass(frozen=True)
class Piece:
    """A part of a summary.

    Args:
        at: Place in the text: first character of the sentence, or of the topic that was rewritten.
        text: Words of the piece, after the white space that separates it from the piece before.
        verbatim: Whether the text has these words at that place.
    """

    at: int
    text: str
    verbatim: bool = True


@runtime_checkable
class Summariser(Protocol):
    """Shorten the sentences of one topic to a budget of tokens."""

    def __call__(self, topic: Topic, budget: int) -> list[Piece]:
        """Shorten the sentences of one topic to a budget.

        Args:
            topic: Sentences and their embeddings.
            budget: Largest size of the summary in tokens.

        Returns:
            Pieces in the order of the text; none if nothing fits.
        """
        ...


@dataclass(frozen=True)
class Outliers:
    """Pick sentences that stand for the topic, and sentences that nothing else resembles.

    A centroid alone drops what is said once: a number, a name, a needle. A share of the budget therefore
    goes to sentences with the lowest mean similarity to their nearest neighbours, and the rest to the
    sentences nearest to the centroid, or to the question if it is known.

    Args:
        share: Share of the budget for outliers, in [0, 1].
        neighbours: Number of most similar sentences that the mean is over.
    """

    share: float = 0.5
    neighbours: int = 5

    def __call__(self, topic: Topic, budget: int) -> list[Piece]:
        """Pick outliers, then typical sentences.

        Args:
            topic: Sentences and their embeddings.
            budget: Largest size of the summary in tokens.

        Returns:
            Sentences in the order of the text.

        Raises:
            InvalidOption: The share is outside [0, 1].
        """
        if not 0 <= self.share <= 1:
            raise InvalidOption(f"a share of {self.share:g} for outliers: choose 0..1")
        odd = np.argsort(nearest_similarity(topic.vectors, self.neighbours), kind="stable")
        chosen = _filled(topic.sentences, odd, [], round(budget * self.share))
        typical = np.argsort(-_closeness(topic), kind="stable")
        return _pieces(topic.sentences, _filled(topic.sentences, typical, chosen, budget))


@dataclass(frozen=True)
class Centroid:
    """Pick the sentences nearest to the mean of the topic, the usual extractive summary."""

    def __call__(self, topic: Topic, budget: int) -> list[Piece]:
        """Pick typical sentences.

        Args:
            topic: Sentences and their embeddings.
            budget: Largest size of the summary in tokens.

        Returns:
            Sentences in the order of the text.
        """
        return Outliers(share=0.0)(topic, budget)


@dataclass(frozen=True)
class Truncation:
    """Keep the beginning of a topic, or its beginning and its end.

    Args:
        keep: "head", or "ends" for half of the budget from each end.
    """

    keep: Literal["head", "ends"] = "ends"

    def __call__(self, topic: Topic, budget: int) -> list[Piece]:
        """Pick sentences by their place.

        Args:
            topic: Sentences and their embeddings, which are not looked at.
            budget: Largest size of the summary in tokens.

        Returns:
            Sentences in the order of the text.
        """
        number = len(topic.sentences)
        head = np.arange(number)
        if self.keep == "head":
            return _pieces(topic.sentences, _filled(topic.sentences, head, [], budget, skip=False))
        chosen = _filled(topic.sentences, head, [], budget // 2, skip=False)
        return _pieces(topic.sentences, _filled(topic.sentences, head[::-1], chosen, budget, skip=False))


@dataclass(frozen=True)
class Random:
    """Pick sentences at random.

    Args:
        seed: Seed of the choice.
    """

    seed: int = 0

    def __call__(self, topic: Topic, budget: int) -> list[Piece]:
        """Pick sentences at random; the same topic gives the same choice.

        Args:
            topic: Sentences and their embeddings, which are not looked at.
            budget: Largest size of the summary in tokens.

        Returns:
            Sentences in the order of the text.
        """
        rng = np.random.default_rng([self.seed, topic.sentences[0].start])
        return _pieces(
            topic.sentences, _filled(topic.sentences, rng.permutation(len(topic.sentences)), [], budget)
        )


@dataclass(frozen=True)
class Scored:
    """Pick sentences by scores from elsewhere, such as the attention of evaluator heads.

    Args:
        score: Function of the topic's sentences that gives one number each; larger ones are kept.
    """

    score: Callable[[Sequence[str]], Sequence[float]]

    def __call__(self, topic: Topic, budget: int) -> list[Piece]:
        """Pick the sentences of the highest scores.

        Args:
            topic: Sentences and their embeddings, which are not looked at.
            budget: Largest size of the summary in tokens.

        Returns:
            Sentences in the order of the text.

        Raises:
            InvalidOption: There is not one finite score per sentence.
        """
        scores = np.asarray(self.score([part.text for part in topic.sentences]), dtype=float)
        if scores.shape != (len(topic.sentences),) or not np.isfinite(scores).all():
            raise InvalidOption(
                f"scores of shape {scores.shape} for {len(topic.sentences)} sentences: one finite number each"
            )
        order = np.argsort(-scores, kind="stable")
        return _pieces(topic.sentences, _filled(topic.sentences, order, [], budget))


@dataclass(frozen=True)
class Abstractive:
    """Write a summary by a function of the topic's text and the budget.

    Args:
        write: Function of the text and the largest number of tokens; what is too long is cut.
    """

    write: Callable[[str, int], str]

    def __call__(self, topic: Topic, budget: int) -> list[Piece]:
        """Write a summary.

        Args:
            topic: Sentences; embeddings are not looked at.
            budget: Largest size of the summary in tokens.

        Returns:
            One piece at the place of the first sentence, marked as not verbatim; none if nothing was written.
        """
        text = shortened(f" {self.write(joined(topic.sentences), budget).strip()}", budget, topic.size)
        return [Piece(topic.sentences[0].start, text, verbatim=False)] if text.strip() else []


def seq2seq(name: str, device: str = "cpu", beams: int = 4) -> Abstractive:
    """Summariser by a pretrained encoder-decoder of Hugging Face, such as facebook/bart-large-cnn.

    Args:
        name: Folder, or name of the hub; files in a cache need no network.
        device: Device of the weights.
        beams: Width of the beam search.

    Returns:
        The summariser; it cuts the input to what the model reads.

    Raises:
        MissingPackage: `transformers` is not installed.
        MissingWeights: There is no such model.
    """
    from semcom.text.lm import _transformers

    transformers = _transformers()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        kind = transformers.AutoModelForSeq2SeqLM
        model = kind.from_pretrained(name, use_safetensors=True).eval().to(device)
    except Exception as error:  # missing and damaged files fail in many ways
        raise MissingWeights(
            f"{name}: cannot be loaded as an encoder-decoder ({reason_of(error)}); check the name, or "
            "download it first where there is a network"
        ) from error
    return Abstractive(_Writer(model, tokenizer, beams))


@dataclass(frozen=True, eq=False)
class _Writer:
    """Beam search with an encoder-decoder."""

    model: Any
    tokenizer: Any
    beams: int

    @torch.no_grad()
    def __call__(self, text: str, most_tokens: int) -> str:
        most = min(int(self.tokenizer.model_max_length), 1024)
        read = self.tokenizer(text, truncation=True, max_length=most, return_tensors="pt").to(
            self.model.device
        )
        found = self.model.generate(
            input_ids=read["input_ids"],
            attention_mask=read["attention_mask"],
            max_new_tokens=max(1, most_tokens),
            num_beams=self.beams,
            do_sample=False,
        )
        return self.tokenizer.decode(found[0], skip_special_tokens=True)


def nearest_similarity(
    vectors: Float[Tensor, "sentences features"], neighbours: int = 5
) -> Float[np.ndarray, " sentences"]:
    """Mean similarity of each sentence to the others nearest to it; low for an outlier.

    Args:
        vectors: Embeddings of unit length.
        neighbours: Number of most similar other sentences, at least 1.

    Returns:
        Means, float64.
    """
    e = vectors.double().numpy()
    if len(e) == 1:
        return np.zeros(1)
    similar = e @ e.T
    np.fill_diagonal(similar, -np.inf)
    count = min(neighbours, len(e) - 1)
    return np.partition(similar, -count, axis=1)[:, -count:].mean(1)


def _closeness(topic: Topic) -> np.ndarray:
    """Cosine with the centroid, or with the question."""
    e = topic.vectors.double().numpy()
    aim = e.mean(0) if topic.question is None else topic.question.double().numpy()
    return e @ aim


def _filled(
    sentences: Sequence[Sentence], order: Any, chosen: Sequence[int], budget: int, skip: bool = True
) -> list[int]:
    """Add sentences in an order of preference while they fit; without `skip`, to the first that does not."""
    found, left = list(chosen), budget - sum(sentences[i].tokens for i in chosen)
    have = set(found)
    for number in map(int, order):
        if number in have:
            continue
        if sentences[number].tokens > left:
            if not skip:
                break
            continue
        found.append(number)
        left -= sentences[number].tokens
    return found


def _pieces(sentences: Sequence[Sentence], chosen: Sequence[int]) -> list[Piece]:
    return [Piece(sentences[i].start, sentences[i].lead + sentences[i].text) for i in sorted(chosen)]
