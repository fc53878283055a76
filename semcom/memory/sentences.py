"""Texts with a memory of sentences: an index for a sentence that both ends have, the others as they are."""

import hashlib
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor

from semcom.codecs.codec import Fitted, Quality, SourceCodec, too_small
from semcom.codecs.varint import read_varint, varint
from semcom.data import load_folder
from semcom.errors import CorruptPayload, InvalidOption, InvalidSource
from semcom.memory.codebooks import DIGITS
from semcom.memory.codec import CHECK_BYTES
from semcom.modalities import TEXT
from semcom.modalities.text import MAX_BYTES, TextShape
from semcom.spelling import digits
from semcom.text.blocks import sentence_spans

EmbeddingName = Literal["tfidf", "minilm"]
"""Embeddings in which the nearest stored sentence is found."""

EMBEDDINGS: tuple[EmbeddingName, ...] = get_args(EmbeddingName)
"""Names of embeddings; "minilm" needs the package with its weights."""

MOST = 4.0
"""Largest squared distance of two vectors of unit length, that of opposite ones."""

WORD = re.compile(r"\w+")


@dataclass(frozen=True, eq=False)
class SentenceMemory:
    """Sentences that transmitter and receiver both have, before anything is sent.

    Args:
        sentences: Sentences, at least one.
        label: Name of the collection, without digest.

    Raises:
        InvalidSource: There is no sentence.
    """

    sentences: tuple[str, ...]
    label: str = "memory"
    digest: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if not self.sentences:
            raise InvalidSource(f"memory {self.label}: no sentences; store at least one")
        content = hashlib.sha256()
        for sentence in self.sentences:
            content.update(f"{len(sentence)}:{sentence}".encode())
        object.__setattr__(self, "digest", content.hexdigest()[:DIGITS])

    @property
    def name(self) -> str:
        """Label and digest of the sentences, for instance "letters#1a2b3c4d"."""
        return f"{self.label}#{self.digest}"


def texts_of(folder: Path | str) -> SentenceMemory:
    """Read a folder of texts as a memory of their sentences.

    Args:
        folder: Folder of texts, or one text.

    Returns:
        The memory, labelled by the name of the folder; sentences in order of file names and places, each
        once.

    Raises:
        InvalidSource: The folder is missing or holds no text, or a text cannot be read.
    """
    folder = Path(folder)
    texts = [item.x for item in load_folder(folder, (TEXT,))]
    found = dict.fromkeys(text[a:b] for text in texts for a, b in sentence_spans(text))
    return SentenceMemory(tuple(found), folder.resolve().name)


@dataclass(frozen=True)
class SentenceCodec:
    """Source codec of texts with a memory of sentences at both ends.

        payload = (index + 1, gap), (index + 1, gap), ..., 0, check, stream

    The stream is the text without the sentences that are in the memory, by the inner codec; nothing if
    nothing is left. Each index says which stored sentence comes after how many further characters of it; all
    numbers take 7 bits per byte. The check, of 16 bits and absent without an index, is that of all sentences
    meant: a receiver that has others loses the text, but for one in 65536. These bytes are sent and counted;
    the memory is shared before.

    A sentence is replaced by its index if it is stored as it is, or if the energy of the nearest stored one,

        |e(x) - e(rho)|^2 = 2 (1 - cos),  from 0 to 4,

    in an embedding e of unit length is at most a tolerance. Then another sentence of about the same words or
    meaning is shown: with a tolerance above 0 the codec has losses, and energy is the only evidence that the
    meaning is kept. Of the ways to code a text (no index, stored sentences alone, all within the tolerance)
    the shortest is chosen, of equally short ones the most faithful.

    Args:
        codec: Inner codec of texts.
        memory: Sentences that both ends have; the digest is part of the name.
        tolerance: Largest energy of a replaced sentence, from 0 to below 4; 0 replaces equal sentences only.
        embedding: "tfidf", from the words that sentences share, or "minilm", a network of sentence
            embeddings. The transmitter alone needs it.

    Raises:
        InvalidOption: The tolerance is out of range, there is no such embedding, or "minilm" is named without
            a tolerance.
    """

    codec: SourceCodec[str]
    memory: SentenceMemory
    tolerance: float = 0.0
    embedding: EmbeddingName = "tfidf"

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < MOST:
            raise InvalidOption(f"tolerance {self.tolerance:g} of sentences: from 0 to below {MOST:g}")
        if self.embedding not in EMBEDDINGS:
            raise InvalidOption(f"embedding {self.embedding!r}: choose one of {', '.join(EMBEDDINGS)}")
        if self.embedding != EMBEDDINGS[0] and not self.tolerance:
            raise InvalidOption(
                f"embedding {self.embedding} with tolerance 0 is never asked; give a tolerance, like 0.3"
            )

    @property
    def name(self) -> str:
        """Canonical name, for instance "memory:zlib@letters#1a2b3c4d" or "memory:zlib:0.3:minilm@..."."""
        tolerance = f":{digits(self.tolerance)}" if self.tolerance else ""
        embedding = "" if self.embedding == EMBEDDINGS[0] else f":{self.embedding}"
        return f"memory:{self.codec.name}{tolerance}{embedding}@{self.memory.name}"

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """The only operating point, that of the inner codec."""
        return self.codec.qualities

    def encode(self, x: str, quality: Quality) -> bytes:
        """Encode a text; equal texts give equal bytes.

        Args:
            x: The text.
            quality: The only one of `qualities`.

        Returns:
            The payload.

        Raises:
            InvalidOption: The inner codec does not have this quality.
            MissingWeights: The network of the embedding is not installed.
        """
        spans = sentence_spans(x)
        places = _places(self.memory)
        equal = [places.get(x[a:b]) for a, b in spans]
        ways = [(None,) * len(spans), tuple(equal)]
        if self.tolerance and None in equal:
            ways.append(self._near(x, spans, equal))
        return min((self._payload(x, spans, way, quality) for way in dict.fromkeys(ways)), key=len)

    def decode(self, payload: bytes, shape: TextShape) -> str:
        """Decode a payload with the help of the memory.

        Args:
            payload: Any bytes.
            shape: Shape of a text, which is empty.

        Returns:
            The text.

        Raises:
            CorruptPayload: A number or the check is cut off, an index names no stored sentence, the check is
                that of other sentences, a gap is longer than what is left, the text would exceed 64 MiB, or
                the inner codec cannot decode the stream.
        """
        indices, gaps, check, stream = self._read(payload)
        if check != self._check(indices):
            raise CorruptPayload(
                f"{self.name} payload of {len(payload)} bytes means other sentences: the memories of both "
                "ends differ, or it is damaged"
            )
        rest = self.codec.decode(stream, shape) if stream else ""
        if sum(gaps) > len(rest):
            raise CorruptPayload(
                f"{self.name} payload of {len(payload)} bytes places sentences behind {sum(gaps)} "
                f"characters, {len(rest)} are there"
            )
        stored = [self.memory.sentences[index] for index in indices]
        if sum(map(len, stored)) + len(rest) > MAX_BYTES:
            raise CorruptPayload(f"{self.name} payload of {len(payload)} bytes is a text of more than 64 MiB")
        parts, place = [], 0
        for gap, sentence in zip(gaps, stored, strict=True):
            parts += [rest[place : place + gap], sentence]
            place += gap
        return "".join([*parts, rest[place:]])

    def fit(self, x: str, max_bits: int) -> Fitted[str]:
        """Return the payload of a text if it is within a number of bits.

        Args:
            x: The text.
            max_bits: Largest length of the payload in bits.

        Returns:
            The payload, and the text that it decodes to.

        Raises:
            BudgetTooSmall: The payload exceeds `max_bits`.
        """
        (quality,) = self.qualities
        payload = self.encode(x, quality)
        if 8 * len(payload) > max_bits:
            raise too_small(self.name, 8 * len(payload), f"a text of {len(x.split())} words", max_bits)
        return Fitted(payload, quality, self.decode(payload, TextShape()))

    def form(self, payload: bytes) -> dict[str, float]:
        """Form of a payload for the record: "index_sent" is the share of sentences sent as an index.

        Args:
            payload: Payload of this codec.

        Returns:
            The share, from 0 to 1; 0 for a text without sentences.

        Raises:
            CorruptPayload: The payload cannot be decoded.
        """
        indices, _, _, stream = self._read(payload)
        others = sentence_spans(self.codec.decode(stream, TextShape())) if stream else []
        return {"index_sent": len(indices) / max(len(indices) + len(others), 1)}

    def _near(
        self, x: str, spans: Sequence[tuple[int, int]], equal: Sequence[int | None]
    ) -> tuple[int | None, ...]:
        """Indices of stored sentences that are equal or within the tolerance."""
        nearest = _nearest_by(self.memory, self.embedding)
        new = [i for i, index in enumerate(equal) if index is None]
        found = list(equal)
        for i, (index, energy) in zip(new, nearest([x[slice(*spans[i])] for i in new]), strict=True):
            if energy <= self.tolerance:
                found[i] = index
        return tuple(found)

    def _payload(
        self, x: str, spans: Sequence[tuple[int, int]], way: Sequence[int | None], quality: Quality
    ) -> bytes:
        head, rest, place = bytearray(), [], 0
        for (start, end), index in zip(spans, way, strict=True):
            if index is None:
                continue
            rest.append(x[place:start])
            head += varint(index + 1) + varint(start - place)
            place = end
        text = "".join([*rest, x[place:]])
        check = self._check([index for index in way if index is not None])
        return bytes(head) + varint(0) + check + (self.codec.encode(text, quality) if text else b"")

    def _check(self, indices: Sequence[int]) -> bytes:
        """Check of stored sentences, two bytes of the CRC-32; nothing for none."""
        found = 0
        for index in indices:
            found = zlib.crc32(f"{self.memory.sentences[index]}\0".encode(), found)
        return (found & 0xFFFF).to_bytes(CHECK_BYTES, "big") if indices else b""

    def _read(self, payload: bytes) -> tuple[list[int], list[int], bytes, bytes]:
        """Indices and gaps of a payload, the check, and the stream behind them."""
        indices, gaps, place = [], [], 0
        while True:
            number, place = read_varint(payload, place)
            if number == 0:
                end = place + CHECK_BYTES * bool(indices)
                return indices, gaps, payload[place:end], payload[end:]
            if number > len(self.memory.sentences):
                raise CorruptPayload(
                    f"index {number - 1} into a memory of {len(self.memory.sentences)} sentences"
                )
            gap, place = read_varint(payload, place)
            indices.append(number - 1)
            gaps.append(gap)


@dataclass(frozen=True, eq=False)
class TfIdf:
    """Nearest of some sentences by the words they share, weighted by how rare these are.

        e = v / |v|,  v_w = (1 + log n_w) (1 + log((1 + N) / (1 + N_w)))

    n_w counts a word in the sentence, N_w the stored sentences with it, of N. Words that no stored sentence
    has count too: they make a sentence differ from all.

    Args:
        sentences: Stored sentences, at least one.

    Reference:
        Salton and Buckley, "Term-weighting approaches in automatic text retrieval", Information Processing
        and Management 24(5), 1988, in the form of scikit-learn's `TfidfVectorizer(sublinear_tf=True)`.
    """

    sentences: tuple[str, ...]
    _having: Counter[str] = field(init=False, repr=False)
    _index: dict[str, list[tuple[int, float]]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        counts = [_counted(sentence) for sentence in self.sentences]
        object.__setattr__(self, "_having", Counter(word for count in counts for word in count))
        index: dict[str, list[tuple[int, float]]] = {}
        for number, sentence in enumerate(self.sentences):
            for word, weight in self.vector(sentence).items():
                index.setdefault(word, []).append((number, weight))
        object.__setattr__(self, "_index", index)

    def vector(self, sentence: str) -> dict[str, float]:
        """Weigh the words of a sentence as a vector of unit length.

        Args:
            sentence: Any text.

        Returns:
            Values of unit norm by word, in lower case; none for a text without words.
        """
        total = 1 + len(self.sentences)
        values = {
            word: (1 + math.log(count)) * (1 + math.log(total / (1 + self._having[word])))
            for word, count in _counted(sentence).items()
        }
        norm = math.sqrt(math.fsum(value**2 for value in values.values()))
        return {word: value / norm for word, value in values.items()}

    def __call__(self, sentences: Sequence[str]) -> list[tuple[int, float]]:
        """Find the nearest stored sentence of each of some sentences.

        Args:
            sentences: Sentences.

        Returns:
            Its number and the energy 2 (1 - cos); of equally near ones the first. Sentences without words
            are far from all.
        """
        return [self._nearest(sentence) for sentence in sentences]

    def _nearest(self, sentence: str) -> tuple[int, float]:
        cosines: dict[int, float] = {}
        for word, weight in self.vector(sentence).items():
            for number, value in self._index.get(word, ()):
                cosines[number] = cosines.get(number, 0.0) + weight * value
        if not cosines:
            return 0, MOST
        number = min(cosines, key=lambda i: (-cosines[i], i))
        return number, max(2 * (1 - cosines[number]), 0.0)


def nearest_vectors(
    queries: Float[Tensor, "queries dims"], patterns: Float[Tensor, "patterns dims"]
) -> list[tuple[int, float]]:
    """Find the nearest pattern of each query.

    Args:
        queries: Vectors of unit length, [queries, dims].
        patterns: Vectors of unit length, at least one, [patterns, dims].

    Returns:
        Number of the pattern and energy |query - pattern|^2 = 2 (1 - cos), per query.
    """
    cosines, numbers = (queries @ patterns.T).max(1)
    return [(int(i), max(2 * (1 - float(c)), 0.0)) for i, c in zip(numbers, cosines, strict=True)]


@lru_cache(maxsize=4)
def _nearest_by(
    memory: SentenceMemory, embedding: EmbeddingName
) -> Callable[[Sequence[str]], list[tuple[int, float]]]:
    """Function that finds the nearest stored sentences in an embedding, which is computed once."""
    if embedding == "tfidf":
        return TfIdf(memory.sentences)
    from semcom.text.lm import load_embedder

    embed = load_embedder(embedding)
    patterns = embed(memory.sentences)
    return lambda texts: nearest_vectors(embed(texts), patterns)


@lru_cache(maxsize=4)
def _places(memory: SentenceMemory) -> dict[str, int]:
    """Index of every stored sentence; of equal ones the first."""
    return {sentence: i for i, sentence in reversed(list(enumerate(memory.sentences)))}


def _counted(sentence: str) -> Counter[str]:
    return Counter(WORD.findall(sentence.lower()))
