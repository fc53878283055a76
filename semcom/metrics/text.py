"""Text metrics: word error rate, character error rate and BLEU."""

from dataclasses import dataclass

from semcom.errors import InvalidSource
from semcom.modalities.text import TextShape


def wer(x_hat: str, x: str) -> float:
    """Word error rate: word edits from original to received text, per original word.

    WER = (S + D + I) / N with the least number of substituted, deleted and inserted words (Levenshtein
    distance) and N words in the original. Words are separated by white space; case and punctuation count.
    WER exceeds 1 if many words are inserted. For an original without words N is taken as 1: the WER is then
    the number of words received.

    Args:
        x_hat: Received text.
        x: Original.

    Returns:
        Word error rate, at least 0; 0 for equal words.

    Raises:
        InvalidSource: An argument is not a string.

    Reference:
        Morris, Maier and Green, From WER and RIL to MER and WIL, Interspeech 2004.

    Example:
        >>> wer("the cat sat on a mat", "the cat sat on the mat")
        0.16666666666666666
    """
    received, original = (text_of(each, "wer").split() for each in (x_hat, x))
    if not received or not original:
        return len(received) + float(len(original) > 0)
    import jiwer

    return float(jiwer.wer(" ".join(original), " ".join(received)))


def cer(x_hat: str, x: str) -> float:
    """Character error rate: character edits from original to received text, per original character.

    CER = (S + D + I) / N with the least number of substituted, deleted and inserted characters (Levenshtein
    distance) and N characters in the original. Characters are Unicode code points. White space inside the
    text counts, leading and trailing white space does not. CER exceeds 1 if many characters are inserted. For
    an original that is empty or white space N is taken as 1: the CER is then the number of characters
    received.

    Args:
        x_hat: Received text.
        x: Original.

    Returns:
        Character error rate, at least 0; 0 for equal texts.

    Raises:
        InvalidSource: An argument is not a string.

    Example:
        >>> cer("the cat sat", "the hat sat")
        0.09090909090909091
    """
    received, original = (text_of(each, "cer").strip() for each in (x_hat, x))
    if not received or not original:
        return len(received) + float(len(original) > 0)
    import jiwer

    return float(jiwer.cer(original, received))


def bleu(x_hat: str, x: str) -> float:
    """Sentence BLEU of a received text against one original, from 0 to 100, as computed by sacrebleu.

    BLEU = 100 min(1, exp(1 - r / c)) (prod_n p_n)^(1/N) with the n-gram precisions p_n, n = 1 to 4, and r and
    c tokens in the original and in the received text. N is the longest n-gram that the received text can hold
    (effective order); the k-th precision of 0 is replaced by 1 / 2^k matches (exponential smoothing). The
    tokenizer is 13a, for languages with spaces between words. The score is 0 if the texts share no token or
    exactly one of them is empty or white space, and 100 if both are.

    Args:
        x_hat: Received text.
        x: Original.

    Returns:
        BLEU in [0, 100]; 100 for equal tokens.

    Raises:
        InvalidSource: An argument is not a string.

    Reference:
        Papineni, Roukos, Ward and Zhu, BLEU, ACL 2002; Post, A call for clarity in reporting BLEU scores,
        WMT 2018.

    Example:
        >>> round(bleu("the cat sat on a mat", "the cat sat on the mat"), 2)
        53.73
    """
    received, original = (text_of(each, "bleu").strip() for each in (x_hat, x))
    if not received or not original:
        return 100.0 if received == original else 0.0
    import sacrebleu

    score = sacrebleu.sentence_bleu(received, [original], use_effective_order=True).score
    return min(100.0, float(score))  # rounding may exceed 100


@dataclass(frozen=True)
class WordErrorRate:
    """Word error rate of one text; see `wer` for the equation."""

    @property
    def name(self) -> str:
        """Name of the column in the records."""
        return "wer"

    @property
    def unit(self) -> str:
        """Empty string: the word error rate is dimensionless."""
        return ""

    @property
    def higher_is_better(self) -> bool:
        """False: the word error rate is 0 for equal words."""
        return False

    def fits(self, shape: object) -> bool:
        """Whether the shape is that of a text.

        Args:
            shape: Shape of an item of any modality.

        Returns:
            True for `TextShape`.
        """
        return isinstance(shape, TextShape)

    def __call__(self, x_hat: str, x: str) -> float:
        """Compute the word error rate of one text; see `wer` for the equation.

        Args:
            x_hat: Received text.
            x: Original.

        Returns:
            Word error rate, at least 0.

        Raises:
            InvalidSource: An argument is not a string.
        """
        return wer(x_hat, x)


@dataclass(frozen=True)
class CharacterErrorRate:
    """Character error rate of one text; see `cer` for the equation."""

    @property
    def name(self) -> str:
        """Name of the column in the records."""
        return "cer"

    @property
    def unit(self) -> str:
        """Empty string: the character error rate is dimensionless."""
        return ""

    @property
    def higher_is_better(self) -> bool:
        """False: the character error rate is 0 for equal texts."""
        return False

    def fits(self, shape: object) -> bool:
        """Whether the shape is that of a text.

        Args:
            shape: Shape of an item of any modality.

        Returns:
            True for `TextShape`.
        """
        return isinstance(shape, TextShape)

    def __call__(self, x_hat: str, x: str) -> float:
        """Compute the character error rate of one text; see `cer` for the equation.

        Args:
            x_hat: Received text.
            x: Original.

        Returns:
            Character error rate, at least 0.

        Raises:
            InvalidSource: An argument is not a string.
        """
        return cer(x_hat, x)


@dataclass(frozen=True)
class BLEU:
    """BLEU of one text against one original, from 0 to 100; see `bleu` for the equation."""

    @property
    def name(self) -> str:
        """Name of the column in the records."""
        return "bleu"

    @property
    def unit(self) -> str:
        """Empty string: BLEU is a number from 0 to 100 without unit."""
        return ""

    @property
    def higher_is_better(self) -> bool:
        """True: BLEU is a similarity, 100 for equal tokens."""
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
        """Compute the sentence BLEU of one text; see `bleu` for the equation.

        Args:
            x_hat: Received text.
            x: Original.

        Returns:
            BLEU in [0, 100].

        Raises:
            InvalidSource: An argument is not a string.
        """
        return bleu(x_hat, x)


def text_of(x: object, name: str) -> str:
    """Check that an argument of a metric is a text.

    Args:
        x: Any object.
        name: Name of the metric, for the message.

    Returns:
        x unchanged.

    Raises:
        InvalidSource: x is not a string.
    """
    if not isinstance(x, str):
        raise InvalidSource(f"{name} of {type(x).__name__}: expected a text; decode bytes first")
    return x
