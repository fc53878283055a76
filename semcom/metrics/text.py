"""Metrics of texts: word and character error rate, BLEU."""

from dataclasses import dataclass

from semcom.errors import InvalidSource
from semcom.modalities.text import TextShape


def wer(x_hat: str, x: str) -> float:
    """Word error rate: edits that turn the original's words into those received, per word of the original.

    WER = (S + D + I) / N with the least number of substituted, deleted and inserted words (Levenshtein
    distance), N words of the original. Words are what white space separates; case and punctuation count.
    It exceeds 1 where more is inserted than was there. If the original has no words, N counts as 1: 0 if
    nothing was received either, else the number of words received.

    Args:
        x_hat: Received text.
        x: Original.

    Returns:
        Word error rate, at least 0; 0 for the same words.

    Raises:
        InvalidSource: Something that is no text.

    Reference:
        Morris, Maier and Green, From WER and RIL to MER and WIL, Interspeech 2004.

    Example:
        >>> wer("the cat sat on a mat", "the cat sat on the mat")
        0.16666666666666666
    """
    received, original = (_text(each, "wer").split() for each in (x_hat, x))
    if not received or not original:
        return len(received) + float(len(original) > 0)
    import jiwer

    return float(jiwer.wer(" ".join(original), " ".join(received)))


def cer(x_hat: str, x: str) -> float:
    """Character error rate: edits that turn the original into the text received, per original character.

    CER = (S + D + I) / N with the least number of substituted, deleted and inserted characters (Levenshtein
    distance), N characters of the original. Characters are Unicode code points; white space inside the text
    counts, around it does not. It exceeds 1 where more is inserted than was there. If the original is empty
    or white space, N counts as 1: 0 if the same was received, else the number of characters received.

    Args:
        x_hat: Received text.
        x: Original.

    Returns:
        Character error rate, at least 0; 0 for the same text.

    Raises:
        InvalidSource: Something that is no text.

    Example:
        >>> cer("the cat sat", "the hat sat")
        0.09090909090909091
    """
    received, original = (_text(each, "cer").strip() for each in (x_hat, x))
    if not received or not original:
        return len(received) + float(len(original) > 0)
    import jiwer

    return float(jiwer.cer(original, received))


def bleu(x_hat: str, x: str) -> float:
    """BLEU of one text against one original, from 0 to 100, as sacrebleu's sentence score.

    BLEU = 100 min(1, exp(1 - r / c)) (prod_n p_n)^(1/N) with the precisions p_n of n-grams of n = 1 to 4
    tokens, r and c tokens in the original and in the text received. N is the longest n-gram that the text
    received has room for (effective order); the k-th precision of 0 counts as 1 / 2^k matches (exponential
    smoothing). Tokens are those of the tokenizer 13a, which suits languages with spaces between words. The
    score is 0 if no token is common to both, or one of the two is empty or white space; 100 if both are.

    Args:
        x_hat: Received text.
        x: Original.

    Returns:
        BLEU in [0, 100]; 100 for the same tokens.

    Raises:
        InvalidSource: Something that is no text.

    Reference:
        Papineni, Roukos, Ward and Zhu, BLEU, ACL 2002; Post, A call for clarity in reporting BLEU scores,
        WMT 2018.

    Example:
        >>> round(bleu("the cat sat on a mat", "the cat sat on the mat"), 2)
        53.73
    """
    received, original = (_text(each, "bleu").strip() for each in (x_hat, x))
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
        """No unit."""
        return ""

    @property
    def higher_is_better(self) -> bool:
        """False: a rate of errors, 0 for the same words."""
        return False

    def fits(self, shape: object) -> bool:
        """Whether a shape is that of a text."""
        return isinstance(shape, TextShape)

    def __call__(self, x_hat: str, x: str) -> float:
        """Word error rate; see `wer`."""
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
        """No unit."""
        return ""

    @property
    def higher_is_better(self) -> bool:
        """False: a rate of errors, 0 for the same text."""
        return False

    def fits(self, shape: object) -> bool:
        """Whether a shape is that of a text."""
        return isinstance(shape, TextShape)

    def __call__(self, x_hat: str, x: str) -> float:
        """Character error rate; see `cer`."""
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
        """No unit; values lie in 0..100."""
        return ""

    @property
    def higher_is_better(self) -> bool:
        """True: a similarity, 100 for the same tokens."""
        return True

    def fits(self, shape: object) -> bool:
        """Whether a shape is that of a text."""
        return isinstance(shape, TextShape)

    def __call__(self, x_hat: str, x: str) -> float:
        """BLEU; see `bleu`."""
        return bleu(x_hat, x)


def _text(x: object, name: str) -> str:
    if not isinstance(x, str):
        raise InvalidSource(f"{name} of {type(x).__name__}: expected a text; decode bytes first")
    return x
