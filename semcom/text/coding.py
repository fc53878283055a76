"""Lossless coding of texts by the predictions of a language model: a range coder with a CRC per packet."""

import hashlib
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from semcom.codecs.codec import Fitted, Quality, too_small
from semcom.codecs.varint import read_varint, varint
from semcom.errors import CorruptPayload, InvalidOption, InvalidSource
from semcom.modalities.text import MAX_BYTES, TEXT, TextShape
from semcom.text.exact import ExactModel, exact
from semcom.text.lm import located
from semcom.text.rangecoder import RangeDecoder, RangeEncoder

CHARACTERS = 1000
"""Most characters of a packet: the context starts anew with every packet."""
MOST_SYMBOLS = 511
"""Most symbols of a packet."""
BATCH = 16
"""Packets decoded at a time; their keys and values take about 30 MB each with SmolLM2."""
MOST_CHARACTERS = 1 << 20
"""Most characters of a text: more take hours."""
OVERHEAD_BITS = 48
"""Bits of a packet that is coded by the model besides its code: head, CRC-16 and fingerprint, 16 each."""

_ONLY = Quality(1, 0)
_SHAPE = TextShape()
_PLAIN, _DEFLATE, _MODEL = 0, 1, 2  # kinds of packets
_CRC = [0] * 256  # CRC-16/CCITT-FALSE
for _i in range(256):
    _value = _i << 8
    for _ in range(8):
        _value = (_value << 1 ^ 0x1021 if _value & 0x8000 else _value << 1) & 0xFFFF
    _CRC[_i] = _value


@dataclass(frozen=True)
class LanguageModelCodec:
    """Lossless codec of texts: range coding with the next-token probabilities of a language model.

    A text is cut at blanks into packets of at most `characters` characters, each coded on its own: a head of
    16 bits (kind, grid, whether more packets follow, number of symbols), a CRC-16 of the packet's UTF-8
    bytes, a fingerprint of model and arithmetic of 16 bits, and the code. Where DEFLATE or UTF-8 is shorter,
    or no grid of logits is safe (see `semcom.text.exact`), the packet is sent in that form instead. Encoding
    is one pass of the model per packet, decoding one pass per token for up to 16 packets at once.

    Args:
        model: Name of the language model, see `semcom.text.lm.load`.
        characters: Most characters per packet, at least 1.
        weights: Digest of the weights, part of the definition of the codec.
        verify: Whether the encoder decodes what it has coded, and falls back if that fails; as slow as
            decoding.
        device: Device of the model.

    Raises:
        InvalidOption: `characters` is smaller than 1.

    Reference:
        Delétang et al., "Language modeling is compression", ICLR 2024.
    """

    model: str
    characters: int = CHARACTERS
    weights: str = ""
    verify: bool = False
    device: str = field(default="cpu", compare=False)

    def __post_init__(self) -> None:
        if self.characters < 1:
            raise InvalidOption(f"packets of {self.characters} characters: give at least 1")

    @property
    def name(self) -> str:
        """Canonical name: the short name of the model ("smollm2"), else "lm:" and its name."""
        return self.model if self.model in SHORT else f"lm:{self.model}"

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """The only operating point, which is lossless."""
        return (_ONLY,)

    def encode(self, x: str, quality: Quality = _ONLY) -> bytes:
        """Encode a text into packets by one pass of the model per packet.

        Args:
            x: The text; it may be empty.
            quality: The only quality.

        Returns:
            The packets, one behind the other.

        Raises:
            InvalidOption: The codec does not have this quality.
            InvalidSource: The text has more than a million characters, or a lone surrogate.
            MissingWeights: The model is absent or damaged.
        """
        if quality != _ONLY:
            raise InvalidOption(f"{quality} of {self.name}: its only quality is {_ONLY}")
        if not x:
            return b""
        check_length(x)
        model = self._model()
        packets = [self._packet(model, run, symbols) for run, symbols in self._cut(model, x)]
        return b"".join(_framed(packet, more=i + 1 < len(packets)) for i, packet in enumerate(packets))

    def decode(self, payload: bytes, shape: TextShape = _SHAPE) -> str:
        """Decode a payload to a text.

        Args:
            payload: Any bytes.
            shape: Shape of a text, which is empty.

        Returns:
            The text.

        Raises:
            CorruptPayload: A packet is damaged, or was coded by another model or with other rounding.
        """
        (found,) = self.decode_all([payload])
        if isinstance(found, CorruptPayload):
            raise found
        return found

    def decode_all(self, payloads: Sequence[bytes]) -> list[str | CorruptPayload]:
        """Decode several payloads, their packets together in batches.

        Args:
            payloads: Any bytes each.

        Returns:
            The text of each payload, or the error that `decode` would raise.
        """
        parsed = [_parsed(payload) for payload in payloads]
        packets = [packet for found in parsed if not isinstance(found, CorruptPayload) for packet in found]
        texts = iter(self._decoded(packets))
        joined: list[str | CorruptPayload] = []
        for found in parsed:
            if isinstance(found, CorruptPayload):
                joined.append(found)
                continue
            parts = [next(texts) for _ in found]
            wrong = [part for part in parts if isinstance(part, CorruptPayload)]
            joined.append(wrong[0] if wrong else "".join(part for part in parts if isinstance(part, str)))
        return joined

    def fit(self, x: str, max_bits: int) -> Fitted[str]:
        """Return the payload of a text if it is within the number of bits, else raise `BudgetTooSmall`."""
        payload = self.encode(x)
        if 8 * len(payload) > max_bits:
            raise too_small(self.name, 8 * len(payload), f"a text of {len(x.split())} words", max_bits)
        return Fitted(payload, _ONLY, x)

    def ideal_bits(self, x: str) -> float:
        """Code length of a text under the model in double precision, with the packets of this codec.

        Args:
            x: The text.

        Returns:
            Sum of -log2 p over all symbols, without any overhead; a symbol that is a byte counts
            `ExactModel.scale_bits`.
        """
        model = self._model()
        total = 0.0
        for _, symbols in self._cut(model, x):
            tokens = [(i, s) for i, s in enumerate(symbols) if s < model.lm.vocabulary]
            total += model.scale_bits * (len(symbols) - len(tokens))
            log_p = model.prefill(symbols).log_softmax(-1)
            total -= sum(float(log_p[i, s]) for i, s in tokens) / math.log(2)
        return total

    def _model(self) -> ExactModel:
        return exact(self.model, self.device)

    def _cut(self, model: ExactModel, x: str) -> Iterator[tuple[str, list[int]]]:
        """Runs of characters that fit into a packet, and their symbols."""
        place = 0
        while place < len(x):
            run = _head(x[place : place + self.characters + 1], self.characters)
            symbols = model.split(run)
            while len(symbols) > min(MOST_SYMBOLS, model.most):
                run = _head(run, max(len(run) // 2, 1)) if len(run) > 1 else run
                symbols = model.split(run)
                if len(run) == 1:
                    break
            yield run, symbols
            place += len(run)

    def _packet(self, model: ExactModel, run: str, symbols: list[int]) -> tuple[int, bytes]:
        """Head without the mark of more packets, and body."""
        data = run.encode("utf-8")
        crc = _crc16(data).to_bytes(2, "big")
        deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
        found = [
            (_PLAIN << 14, crc + data),
            (_DEFLATE << 14, crc + deflate.compress(data) + deflate.flush()),
        ]
        coded = _coded(model, symbols) if len(symbols) <= min(MOST_SYMBOLS, model.most) else None
        if coded is not None:
            offset, code = coded
            head = _MODEL << 14 | offset << 11 | len(symbols)
            packet = head, crc + model.fingerprint + code
            if not self.verify or self._decoded([packet]) == [run]:
                found.append(packet)
        return min(found, key=lambda packet: len(packet[1]))

    def _decoded(self, packets: Sequence[tuple[int, bytes]]) -> list[str | CorruptPayload]:
        """Text of each packet."""
        found: list[str | CorruptPayload] = [CorruptPayload(f"{self.name} packet of an unknown kind")] * len(
            packets
        )
        ours: list[int] = []
        for i, (head, body) in enumerate(packets):
            kind, crc, rest = head >> 14, body[:2], body[2:]
            if kind == _PLAIN:
                found[i] = self._checked(rest, crc)
            elif kind == _DEFLATE:
                found[i] = self._inflated(rest, crc)
            elif kind == _MODEL:
                if rest[:2] == self._model().fingerprint:
                    ours.append(i)
                else:
                    found[i] = CorruptPayload(
                        f"{self.name} packet of another model or other arithmetic (fingerprint "
                        f"{rest[:2].hex()}, here {self._model().fingerprint.hex()}); use the same model and "
                        "versions"
                    )
        ours.sort(key=lambda i: packets[i][0] & MOST_SYMBOLS)  # packets of alike length go together
        for first in range(0, len(ours), BATCH):
            some = ours[first : first + BATCH]
            for i, symbols in zip(some, _symbols(self._model(), [packets[i] for i in some]), strict=True):
                text = self._model().join(symbols)
                found[i] = self._checked(text.encode("utf-8", "replace"), packets[i][1][:2])
        return found

    def _checked(self, data: bytes, crc: bytes) -> str | CorruptPayload:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            return CorruptPayload(f"{self.name} packet is not UTF-8 at byte {error.start} of {len(data)}")
        if _crc16(data).to_bytes(2, "big") != crc:
            return CorruptPayload(
                f"{self.name} packet of {len(data)} bytes fails its CRC: damaged, or other rounding"
            )
        return text

    def _inflated(self, data: bytes, crc: bytes) -> str | CorruptPayload:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            found = inflate.decompress(data, MAX_BYTES)
        except zlib.error as error:
            return CorruptPayload(f"{self.name} packet of {len(data)} bytes is no DEFLATE ({error})")
        if not inflate.eof or inflate.unused_data:
            return CorruptPayload(
                f"{self.name} packet of {len(data)} bytes is cut off, or goes on behind its end"
            )
        return self._checked(found, crc)


def check_length(x: str) -> None:
    """Check, before a model is loaded, that a text can be coded in minutes, not days.

    Args:
        x: The text.

    Raises:
        InvalidSource: It has more than a million characters, or a lone surrogate, which is no character.
    """
    TEXT.check(x)
    if len(x) > MOST_CHARACTERS:
        raise InvalidSource(
            f"a text of {len(x)} characters: at most {MOST_CHARACTERS} are coded by a language model; split "
            "it, or take a codec like zstd"
        )


SHORT = ("smollm2", "tiny")
"""Models whose name alone is that of a codec."""


def language_model_codec(name: str, device: str = "cpu") -> LanguageModelCodec:
    """Make a codec from the name of a language model; the model is read at the first use.

    Args:
        name: Name, folder or GGUF file, see `semcom.text.lm.load`.
        device: Device of the model.

    Returns:
        The codec.

    Raises:
        MissingWeights: The model is not installed.
        UnknownName: There is no such model.
    """
    return LanguageModelCodec(name, weights=weights_digest(name), device=device)


def weights_digest(name: str) -> str:
    """Digest of the weights of a language model, found without reading it as a network.

    Args:
        name: Name, folder or GGUF file, see `semcom.text.lm.load`.

    Returns:
        16 hexadecimal digits of the SHA-256 of its files; the name itself for a model of the hub.

    Raises:
        MissingWeights: The model is not installed.
        UnknownName: There is no such model.
    """
    return _digest_of(located(name))


@cache
def _digest_of(path: Path | str) -> str:
    if isinstance(path, str):
        return path
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    found = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            found.update(hashlib.file_digest(opened, "sha256").digest())
    return found.hexdigest()[:16]


def _coded(model: ExactModel, symbols: list[int]) -> tuple[int, bytes] | None:
    """Grid and code of symbols by one pass of the model; None if no grid is safe."""
    logits = model.prefill(symbols).numpy()
    offset = model.safe_offset(logits)
    if offset is None:
        return None
    encoder = RangeEncoder()
    for row, symbol in zip(logits, symbols, strict=True):
        frequencies = model.frequencies(row, offset)
        below = int(frequencies[:symbol].sum())
        encoder.encode(below, int(frequencies[symbol]), int(frequencies.sum()))
    return offset, encoder.finish()


def _symbols(model: ExactModel, packets: Sequence[tuple[int, bytes]]) -> list[list[int]]:
    """Symbols of packets, step by step, all packets in one batch."""
    counts = [head & MOST_SYMBOLS for head, _ in packets]
    offsets = [head >> 11 & 3 for head, _ in packets]
    decoders = [RangeDecoder(body[4:]) for _, body in packets]
    found: list[list[int]] = [[] for _ in packets]
    most = min(max(counts, default=0), model.most)
    steps = model.steps(len(packets)) if most else None
    for step in range(most):
        assert steps is not None
        for row, decoder in enumerate(decoders):
            if step < counts[row]:
                above = np.cumsum(model.frequencies(steps.logits[row], offsets[row]))
                place = decoder.place(int(above[-1]))
                symbol = int(np.searchsorted(above, place, side="right"))
                below = int(above[symbol - 1]) if symbol else 0
                decoder.take(below, int(above[symbol]) - below)
                found[row].append(symbol)
        if step + 1 < most:
            steps.feed([symbols[-1] if symbols else model.start for symbols in found])
    return found


def _framed(packet: tuple[int, bytes], more: bool) -> bytes:
    """Head and body of a packet; if more follow, with its length, 7 bits per byte."""
    head, body = packet
    if not more:
        return head.to_bytes(2, "big") + body
    return (head | 1 << 13).to_bytes(2, "big") + varint(len(body)) + body


def _parsed(payload: bytes) -> list[tuple[int, bytes]] | CorruptPayload:
    """Packets of a payload."""
    packets: list[tuple[int, bytes]] = []
    place, more = 0, bool(payload)
    while more:
        if len(payload) - place < 4:
            return CorruptPayload(f"payload of {len(payload)} bytes is cut off in the head of a packet")
        head = int.from_bytes(payload[place : place + 2], "big")
        more = bool(head >> 13 & 1)
        place += 2
        size = len(payload) - place
        if more:
            try:
                size, place = read_varint(payload, place)
            except CorruptPayload as error:
                return error
            if size > len(payload) - place:
                return CorruptPayload(f"payload of {len(payload)} bytes is cut off inside a packet")
        packets.append((head & ~(1 << 13), payload[place : place + size]))
        place += size
    return packets


def _head(x: str, most: int) -> str:
    """At most so many leading characters, up to the last blank among them if there is one."""
    if len(x) <= most:
        return x
    cut = max(x.rfind(mark, most // 2, most) for mark in (" ", "\n"))
    return x[: cut if cut > 0 else most]


def _crc16(data: bytes) -> int:
    value = 0xFFFF
    for byte in data:
        value = (value << 8 ^ _CRC[value >> 8 ^ byte]) & 0xFFFF
    return value
