"""Similarity of texts: chrF of character n-grams, and the cosine of sentence embeddings."""

import math
from dataclasses import dataclass, field
from functools import lru_cache

from semcom.metrics.packages import require_package
from semcom.metrics.text import text_of
from semcom.modalities.text import TextShape
from semcom.text.lm import Embedder, load_embedder, located


def chrf(x_hat: str, x: str) -> float:
    """chrF2 of a received text against one original, from 0 to 100, as computed by sacrebleu.

    chrF = 100 (1 + 4) P R / (4 P + R) with the mean precision P and recall R of character n-grams, n = 1
    to 6; white space does not count. The score is 0 if exactly one text is empty or white space, and 100 if
    both are.

    Args:
        x_hat: Received text.
        x: Original.

    Returns:
        chrF in [0, 100]; 100 for equal characters.

    Raises:
        InvalidSource: An argument is not a string.

    Reference:
        Popović, chrF: character n-gram F-score for automatic MT evaluation, WMT 2015.

    Example:
        >>> round(chrf("the cat sat on a mat", "the cat sat on the mat"), 1)
        66.0
    """
    received, original = (text_of(each, "chrf").strip() for each in (x_hat, x))
    if not received or not original:
        return 100.0 if received == original else 0.0
    import sacrebleu

    return min(100.0, float(sacrebleu.sentence_chrf(received, [original]).score))


def embedding_cosine(x_hat: str, x: str, embedder: Embedder) -> float:
    """Cosine of the sentence embeddings of two texts.

    Args:
        x_hat: Received text.
        x: Original.
        embedder: Sentence encoder.

    Returns:
        Cosine in [-1, 1]; 1 for equal texts.

    Raises:
        InvalidSource: An argument is not a string.

    Reference:
        Reimers and Gurevych, Sentence-BERT, EMNLP 2019.
    """
    received, original = (text_of(each, "minilm_cosine") for each in (x_hat, x))
    if received == original:
        return 1.0
    first, second = embedder([received, original]).double()
    cosine = float(first @ second)
    return max(-1.0, min(1.0, cosine)) if math.isfinite(cosine) else 0.0


@dataclass(frozen=True)
class ChrF:
    """chrF2 of one text against one original; see `chrf` for the equation."""

    @property
    def name(self) -> str:
        """Name of the column in the records."""
        return "chrf"

    @property
    def unit(self) -> str:
        """Empty string: chrF is a number from 0 to 100 without unit."""
        return ""

    @property
    def higher_is_better(self) -> bool:
        """True: chrF is a similarity, 100 for equal characters."""
        return True

    def fits(self, shape: object) -> bool:
        """Whether the shape is that of a text.

        Args:
            shape: Shape of an item of any modality.

        Returns:
            True for `TextShape`.
        """
        return isinstance(shape, TextShape)

    def __call__(self, x_hat: str, x: str) -> float:
        """Compute chrF2 of one text; see `chrf` for the equation.

        Args:
            x_hat: Received text.
            x: Original.

        Returns:
            chrF in [0, 100].

        Raises:
            InvalidSource: An argument is not a string.
        """
        return chrf(x_hat, x)


@dataclass(frozen=True)
class MiniLMCosine:
    """Cosine of the embeddings by all-MiniLM-L6-v2 of received text and original; of each 256 tokens count.

    Args:
        device: Device of the encoder.
    """

    device: str = field(default="cpu", compare=False)

    @property
    def name(self) -> str:
        """Name of the column in the records."""
        return "minilm_cosine"

    @property
    def unit(self) -> str:
        """Empty string: a cosine is dimensionless."""
        return ""

    @property
    def higher_is_better(self) -> bool:
        """True: the cosine of equal texts is 1."""
        return True

    def require(self) -> None:
        """Check that the encoder is installed.

        Raises:
            MissingPackage: `transformers` is not installed.
            MissingWeights: The weights of MiniLM are not installed.
        """
        require_package("transformers", "transformers", self.name, "text")
        located("minilm")

    def fits(self, shape: object) -> bool:
        """Whether the shape is that of a text.

        Args:
            shape: Shape of an item of any modality.

        Returns:
            True for `TextShape`.
        """
        return isinstance(shape, TextShape)

    def __call__(self, x_hat: str, x: str) -> float:
        """Compute the cosine of the embeddings of two texts.

        Args:
            x_hat: Received text.
            x: Original.

        Returns:
            Cosine in [-1, 1].

        Raises:
            InvalidSource: An argument is not a string.
            MissingWeights: The weights of MiniLM are not installed.
        """
        return embedding_cosine(x_hat, x, _embedder(self.device))


@lru_cache(maxsize=1)
def _embedder(device: str) -> Embedder:
    return load_embedder("minilm", device)
