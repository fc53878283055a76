"""Codec of clips by key frames and interpolation: what lies between two key frames is made from both.

The first frame, the last one and every few frames between them are coded as still pictures. An interpolator
that both sides have fills the gaps; the transmitter, which has the originals, judges every gap, and where a
frame is further from its original than a threshold, the frame in the middle becomes a key frame and both
halves are judged again. At the price of waiting for the next key frame, errors do not grow as those of
predictions do.

Reference:
    Li, Liu, Niu, Bai, Deng and Gunduz, "Extreme video compression with pre-trained diffusion models",
    arXiv 2402.08934 (key frames, the gate; there, frames are predicted from the past alone).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from semcom.codecs.clip import to_image
from semcom.codecs.codec import Fitted, Quality, SourceCodec, fit
from semcom.codecs.varint import varint
from semcom.errors import BudgetTooSmall, CorruptPayload, InvalidOption
from semcom.modalities.video import VIDEO, Clip, ClipShape
from semcom.surroundings import library_defaults
from semcom.video.gate import Gate
from semcom.video.interpolators import Fade, Interpolator
from semcom.video.key_frames import (
    CHECK_BYTES,
    FACTORS,
    Decoding,
    Encoding,
    Reader,
    Step,
    check_rho,
    check_task,
    coded_key,
    crc_bytes,
    decoded_key,
    frames_check,
    least_distance,
    threshold,
    with_crcs,
)

VERSION = 1
GAP = 8
"""Distance of key frames in frames, unless another is given."""
LONGEST = 64
"""Largest distance of key frames."""
GAPS = (1, 2, 4, 8, 16, 32)
"""Distances that `fit` tries, unless one is given."""
SPLITS = (1, 2, 4)
"""Multiples of the number of key frames at equal distances among which `fit` shares the bits."""
HEADER = 7


@dataclass(frozen=True)
class TwoSidedCodec:
    """Codec of clips by key frames and interpolation between them.

    Payload, everything counted: a header of 7 bytes (version, number of the quality, gap, number of frames; 4
    bytes more that name the network, if there is one) with a CRC of 16 bits; one bit per gap that tells if a
    key frame in its middle halves it, then those of the halves, padded to whole bytes, the length of every
    key frame, and a check of 16 bits of the frames of every gap, together with a CRC of 16 bits; then the key
    frames, each with a CRC of 16 bits that starts from its number.

    States have 8 bits, and interpolators compute exactly, so that the receiver shows the frames that the
    transmitter has judged; the check of a gap tells if it does not. `decode` then refuses; `examine` shows
    what there is, and names the damaged frames. Damage reaches no further than the next key frames.

    Args:
        codec: Still codec of the key frames.
        interpolator: Interpolator of the others.
        gate: Distance by which the transmitter judges interpolated frames.
        rho: Threshold of the gate, 0 to 0.3 in steps of 0.01, or infinite: key frames at equal distances.
            With 0 all frames are key frames. None (automatic): at least 1.2 times the median distance of the
            first two decoded key frames.
        gap: Distance of key frames before any gap is halved, 1 to 64 frames; None: 8, and `fit` tries 1, 2,
            4, ..., 32.

    Raises:
        InvalidOption: An argument is out of range.

    Example:
        >>> from fractions import Fraction
        >>> from semcom.codecs import Jpeg, StreamCodec
        >>> from semcom.video.gate import FeatureGate
        >>> codec = TwoSidedCodec(StreamCodec(Jpeg()), Fade(), FeatureGate(), rho=math.inf)
        >>> clip = Clip(torch.zeros(17, 3, 16, 16, dtype=torch.uint8), Fraction(25))
        >>> codec.encoding(clip, codec.qualities[0]).key_frames
        3
    """

    codec: SourceCodec[Tensor]
    interpolator: Interpolator
    gate: Gate
    rho: float | None = None
    gap: int | None = None
    _numbers: dict[Quality, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_rho(self.rho)
        if self.gap is not None and not 1 <= self.gap <= LONGEST:
            raise InvalidOption(f"key frames every {self.gap} frames: choose 1 to {LONGEST}")
        numbers = {quality: number for number, quality in enumerate(self.codec.qualities)}
        object.__setattr__(self, "_numbers", numbers)

    @property
    def name(self) -> str:
        """Canonical name: "two-sided", still codec, interpolator, threshold and, if it is given, gap."""
        rho = "auto" if self.rho is None else f"{self.rho:g}"
        parts = ["two-sided", self.codec.name, self.interpolator.name, rho]
        return ":".join(parts if self.gap is None else [*parts, str(self.gap)])

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """Operating points of the still codec."""
        return self.codec.qualities

    def encode(self, x: Clip, quality: Quality) -> bytes:
        """Encode a clip with all key frames at one quality.

        Args:
            x: The clip.
            quality: One of `qualities`.

        Returns:
            The payload.

        Raises:
            InvalidOption: The quality does not exist, or the clip has more than 2^21 - 1 frames.
            MissingWeights: The weights of the gate are absent.
        """
        return self.encoding(x, quality).payload

    def decode(self, payload: bytes, shape: ClipShape) -> Clip:
        """Decode a payload to the very frames that the transmitter has judged.

        Args:
            payload: Any bytes.
            shape: Number of frames, height, width and frame rate of the clip.

        Returns:
            A clip of this shape.

        Raises:
            CorruptPayload: Something is damaged, was made with another network, or a gap's frames are not
                those of the transmitter; the message names the first place. See `examine`.
        """
        found = self.examine(payload, shape)
        if found.notes:
            raise CorruptPayload(f"{self.name} payload of {len(payload)} bytes: {found.notes[0]}")
        return found.clip

    def fit(self, x: Clip, max_bits: int) -> Fitted[Clip]:
        """Find the payload of least mean distance, by the gate, within a number of bits.

        Trials combine the gaps 1, 2, 4, ..., 32 (or the gap of the codec) with the multiples 1, 2 and
        infinity of the automatic threshold (or the threshold of the codec). The bits are divided among the
        key frames at equal distances, or twice or four times as many; the quality of the key frames is the
        best that the still codec finds for the first frame within its share.

        Args:
            x: The clip.
            max_bits: Largest length of the payload in bits.

        Returns:
            The payload, its quality and the clip that it decodes to.

        Raises:
            BudgetTooSmall: No payload is found within `max_bits`.
        """

        def smallest() -> tuple[Quality, Encoding]:
            made = self._encoding(x, self.qualities[0], self._gaps[-1], self._factors[-1], None)
            assert made is not None  # without a limit there is an encoding
            return self.qualities[0], made

        return least_distance(self.name, x, max_bits, self._trials(x, max_bits), smallest)

    @property
    def _factors(self) -> tuple[float, ...]:
        return FACTORS if self.rho is None else (1.0,)

    @property
    def _gaps(self) -> tuple[int, ...]:
        return GAPS if self.gap is None else (self.gap,)

    def _trials(self, x: Clip, max_bits: int) -> Iterator[tuple[Quality, Encoding | None]]:
        count = len(x.frames)
        for gap in (gap for gap in self._gaps if gap < max(count, 2) or gap == self._gaps[0]):
            keys = len(_places(count, gap))
            tried: set[tuple[Quality, float]] = set()
            for splits in SPLITS if gap > 1 else (1,):
                try:
                    bits = self._bits_per_key(count, gap, min(splits * keys, count), max_bits)
                    quality = fit(self.codec, to_image(x.frames[0]), bits).quality
                except BudgetTooSmall:
                    break  # more key frames would have less bits each
                for factor in self._factors:
                    # without any threshold no gap is halved, and the bits that are left would be lost
                    is_free = math.isinf(factor) or self.rho == math.inf
                    if (splits == 1 or not is_free) and (quality, factor) not in tried:
                        tried.add((quality, factor))
                        yield quality, self._encoding(x, quality, gap, factor, max_bits)

    def _bits_per_key(self, count: int, gap: int, keys: int, max_bits: int) -> int:
        flags = math.ceil(2 * keys / 8) if gap > 1 else 0
        checks = CHECK_BYTES * min(keys - 1, count - keys)
        overhead = HEADER + len(self.interpolator.digest) + 2 * CHECK_BYTES + flags + checks
        return max(0, (max_bits - 8 * overhead) // keys - 8 * (CHECK_BYTES + 2))

    def encoding(self, x: Clip, quality: Quality) -> Encoding:
        """Encode a clip, and tell the schedule, the frames shown and their distances.

        Args:
            x: The clip.
            quality: One of `qualities`.

        Returns:
            Payload, frames, schedule (key frames have no sample, interpolated ones the number 0), distances.

        Raises:
            InvalidOption: The quality does not exist, or the clip has more than 2^21 - 1 frames.
            MissingWeights: The weights of the gate are absent.
        """
        made = self._encoding(x, quality, GAP if self.gap is None else self.gap, 1.0, None)
        assert made is not None  # without a limit there is an encoding
        return made

    @library_defaults()
    @torch.no_grad()
    def _encoding(
        self, x: Clip, quality: Quality, gap: int, factor: float, max_bits: int | None
    ) -> Encoding | None:
        """Encode with a gap and a multiple of the threshold; None once key frames exceed `max_bits`."""
        originals, count = x.frames, len(x.frames)
        check_task(self.name, self.codec, quality, count)
        keys: dict[int, bytes] = {}
        shown: dict[int, Tensor] = {}
        distances: dict[int, float] = {}
        flags: list[bool] = []
        checks: list[int] = []

        def code(place: int) -> None:
            keys[place], shown[place] = coded_key(self.codec, originals[place], quality)
            distances[place] = self.gate.distances(shown[place][None], originals[place][None])[0]

        def is_over() -> bool:
            return max_bits is not None and 8 * sum(map(len, keys.values())) > max_bits

        def is_halved(first: int, last: int) -> bool:
            if is_over():
                return False
            inner = range(first + 1, last)
            flags.append(True)
            if rho > 0:
                frames = self.interpolator.between(shown[first], shown[last], len(inner))
                apart = self.gate.distances(frames, originals[first + 1 : last])
                if all(distance <= rho for distance in apart):
                    flags[-1] = False
                    shown.update(zip(inner, frames, strict=True))
                    distances.update(zip(inner, apart, strict=True))
                    checks.append(frames_check(frames))
            if flags[-1]:
                code(_middle(first, last))
            return flags[-1]

        for place in _places(count, gap):
            code(place)
            if is_over():
                return None
        rho = threshold(self.rho, [distances[place] for place in _places(count, gap)[:2]], factor)
        places, gaps = _schedule(count, gap, is_halved)
        if is_over():
            return None
        payload = self._written(quality, gap, count, flags, [keys[place] for place in places], checks)
        order = range(count)
        return Encoding(
            payload,
            torch.stack([shown[t] for t in order]),
            _steps(places, gaps),
            tuple(distances[t] for t in order),
            rho,
        )

    # The bitstream

    def _written(
        self, quality: Quality, gap: int, count: int, flags: list[bool], keys: list[bytes], checks: list[int]
    ) -> bytes:
        header = bytes([VERSION]) + self._numbers[quality].to_bytes(2, "big") + bytes([gap])
        header += count.to_bytes(3, "big") + self.interpolator.digest
        side = np.packbits(flags).tobytes() if flags else b""
        side += b"".join(varint(len(key)) for key in keys)
        side += b"".join(check.to_bytes(CHECK_BYTES, "big") for check in checks)
        return b"".join((header, self._checked(header), side, crc_bytes(side), with_crcs(keys)))

    def _checked(self, header: bytes) -> bytes:
        """CRC of the header and of the names of still codec and interpolator, which are not sent."""
        return crc_bytes(header + f"two-sided {self.codec.name} {self.interpolator.name}".encode())

    def examine(self, payload: bytes, shape: ClipShape) -> Decoding:
        """Decode what can be decoded, conceal the rest, and say which frames are damaged.

        In place of a key frame that is lost, or does not decode, the frame is interpolated between the key
        frames before and after it; at the ends of the clip the nearest one is held. Between other key frames
        all is right. Without the network that the payload was made with, frames are faded.

        Args:
            payload: Any bytes.
            shape: Number of frames, height, width and frame rate of the clip.

        Returns:
            Clip of this shape, flags of damaged frames, and one line per damage.

        Raises:
            CorruptPayload: Header or schedule are damaged, or of another codec or number of frames.
        """
        parsed = _Parsed.of(self, payload, shape)
        notes = list(parsed.notes)
        with library_defaults(), torch.no_grad():
            keys = {place: decoded_key(self.codec, key, shape) for place, key in parsed.keys.items()}
            sound = {place: frame for place, frame in keys.items() if frame is not None}
            frames = _filled(self.interpolator if parsed.same_network else Fade(), sound, shape)
        damaged = [True] * shape.frames
        for step in _steps(list(keys), list(parsed.checks)):
            end = step.first + step.count
            if step.is_key:
                lost = [place for place in range(step.first, end) if keys[place] is None]
                notes += [f"key frame {place} is damaged" for place in lost]
                for place in range(step.first, end):
                    damaged[place] = place in lost
            elif parsed.same_network:
                right = frames_check(frames[step.first : end]) == parsed.checks[step.first - 1, end]
                damaged[step.first : end] = [not right] * step.count
                if not right:
                    notes.append(f"gap of frames {step.first} to {end - 1} is not the transmitter's")
        return Decoding(Clip(torch.stack(frames), shape.frame_rate), tuple(damaged), tuple(notes))


@dataclass(frozen=True, eq=False, slots=True)
class _Parsed:
    """A payload taken apart: key frames by place, checks by the key frames around a gap, and notes."""

    keys: dict[int, bytes | None]
    checks: dict[tuple[int, int], int]
    same_network: bool
    notes: tuple[str, ...]

    @classmethod
    def of(cls, codec: TwoSidedCodec, payload: bytes, shape: ClipShape) -> "_Parsed":
        what = f"{codec.name} payload of {len(payload)} bytes"
        end = HEADER + len(codec.interpolator.digest)
        header = payload[:end]
        if len(header) < end or payload[end : end + CHECK_BYTES] != codec._checked(header):
            raise CorruptPayload(f"{what} has no valid header, or is of another still codec or interpolator")
        if header[0] != VERSION:
            raise CorruptPayload(f"{what} has version {header[0]}; this program reads {VERSION}")
        gap, count = header[3], int.from_bytes(header[4:7], "big")
        if count != shape.frames or not 1 <= gap <= LONGEST:
            raise CorruptPayload(f"{what} is of {count} frames, expected {shape.frames}")
        reader = Reader(payload, end + CHECK_BYTES, what)
        flags = _flags(reader)
        places, gaps = _schedule(count, gap, lambda first, last: next(flags))
        lengths = {place: reader.varint() for place in places}
        checks = {pair: reader.check() for pair in gaps}
        reader.close_schedule(end + CHECK_BYTES)
        keys, notes = reader.keys(lengths)
        theirs, ours = header[HEADER:], codec.interpolator.digest
        if theirs != ours:
            notes.append(f"made with network {theirs.hex()}, this one is {ours.hex()}; frames are faded")
        return cls(keys, checks, theirs == ours, tuple(notes))


def _places(count: int, gap: int) -> list[int]:
    """Key frames at equal distances, and the last frame."""
    return [*range(0, count - 1, gap), count - 1]


def _middle(first: int, last: int) -> int:
    return (first + last) // 2


def _schedule(
    count: int, gap: int, is_halved: Callable[[int, int], bool]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Places of all key frames, and the pairs of neighbouring ones between which frames are interpolated.

    Starting from key frames at equal distances, `is_halved(first, last)` decides for every gap, in order of
    time, whether the frame in its middle becomes a key frame, and then for both halves.
    """
    places = _places(count, gap)
    left = list(pairwise(places))[::-1]
    gaps: list[tuple[int, int]] = []
    while left:
        first, last = left.pop()
        if last - first < 2:
            continue
        if is_halved(first, last):
            middle = _middle(first, last)
            places.append(middle)
            left += [(middle, last), (first, middle)]
        else:
            gaps.append((first, last))
    return sorted(places), gaps


def _steps(places: list[int], gaps: list[tuple[int, int]]) -> tuple[Step, ...]:
    """Schedule as steps in order of time: every key frame is a step, and every gap."""
    keys = [Step(place, 1, None) for place in places]
    others = [Step(first + 1, last - first - 1, 0) for first, last in gaps]
    return tuple(sorted(keys + others, key=lambda step: step.first))


def _flags(reader: Reader) -> Iterator[bool]:
    """Bits of the schedule, of as many bytes as are asked for."""
    while True:
        yield from (bool(bit) for bit in np.unpackbits(np.frombuffer(reader.take(1), np.uint8)))


def _filled(interpolator: Interpolator, keys: dict[int, Tensor], shape: ClipShape) -> list[Tensor]:
    """All frames of a clip from the key frames that are there, in order of time; without any, its cover."""
    if not keys:
        return list(VIDEO.cover(shape).frames)
    places = list(keys)
    frames = [keys[places[0]]] * (places[0] + 1)
    for first, last in pairwise(places):
        if last - first > 1:
            # where many key frames in a row are lost, motion would be looked for too far away
            used = interpolator if last - first <= LONGEST else Fade()
            frames += used.between(keys[first], keys[last], last - first - 1)
        frames.append(keys[last])
    return frames + [keys[places[-1]]] * (shape.frames - len(frames))
