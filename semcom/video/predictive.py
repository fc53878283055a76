"""Codec of clips by key frames and prediction: the transmitter sends only what the receiver cannot predict.

The first two frames are coded as still pictures. A predictor that both sides have proposes the next frames;
the transmitter, which has the originals, accepts the longest run of them whose perceptual distance is at most
a threshold, and sends how many. If it accepts none, the next two frames are coded, and so on. Predictions are
made from decoded and from predicted frames alike.

Reference:
    Li, Liu, Niu, Bai, Deng and Gunduz, "Extreme video compression with pre-trained diffusion models",
    arXiv 2402.08934.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from semcom.codecs.clip import to_image
from semcom.codecs.codec import Fitted, Quality, SourceCodec, fit
from semcom.codecs.varint import varint
from semcom.colors import MEAN_COLOR
from semcom.errors import BudgetTooSmall, CorruptPayload, InvalidOption
from semcom.modalities.image import to_uint8
from semcom.modalities.video import Clip, ClipShape
from semcom.surroundings import library_defaults
from semcom.video.gate import Gate
from semcom.video.key_frames import (
    CHECK_BYTES,
    FACTORS,
    RHOS,
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
from semcom.video.predictors import HoldLast, Predictor

KEYS = 2
"""Number of frames that are coded at the start, and whenever no prediction is accepted."""
VERSION = 2
SHARES = (2, 4, 8, 16)
"""Numbers of key frames among which `fit` shares the bits."""


@dataclass(frozen=True)
class PredictiveCodec:
    """Codec of clips by key frames and prediction.

    Payload, everything counted: a header of 12 bytes (version, number of the quality, rho index and logarithm
    of the number of samples, block length, number of frames, seed of 32 bits; 4 bytes more that name the
    network, if there is one) with a CRC of 16 bits; the schedule as one number in mixed radix (how
    many frames of each block are accepted, and which sample), the length of every key frame, and a check of
    16 bits of every block's frames, together with a CRC of 16 bits; then the key frames, each with a CRC of
    16 bits that starts from its number.

    States have 8 bits, and predictors compute exactly, so that the receiver shows the frames that the
    transmitter has judged. The check of a block tells if it does not, for instance since a still codec of
    another version decodes its key frames to other pixels. `decode` then refuses; `examine` shows what there
    is, names the damaged frames, and is right again from the next key frames on.

    Args:
        codec: Still codec of the key frames.
        predictor: Predictor of the others.
        gate: Distance by which the transmitter accepts frames.
        rho: Threshold of the gate, 0 to 0.3 in steps of 0.01, or infinite; None: at least 1.2 times the
            median distance of the first two decoded key frames. With a threshold below that distance nearly
            all frames become key frames.
        samples: Number of samples per block among which the transmitter chooses, 1, 2, 4, ..., 128, if the
            predictor is random; each doubling costs one bit per block.
        block: Number of frames predicted per call, 1 to 15.
        interval: Largest number of predicted frames between key frames; None for no limit.
        seed: Seed of the clip, 0 to 2^32 - 1.

    Raises:
        InvalidOption: An argument is out of range.

    Example:
        >>> from fractions import Fraction
        >>> from semcom.codecs import Jpeg, StreamCodec
        >>> from semcom.video.gate import FeatureGate
        >>> codec = PredictiveCodec(StreamCodec(Jpeg()), HoldLast(), FeatureGate(), rho=math.inf)
        >>> clip = Clip(torch.zeros(9, 3, 16, 16, dtype=torch.uint8), Fraction(25))
        >>> codec.encoding(clip, codec.qualities[0]).key_frames
        2
    """

    codec: SourceCodec[Tensor]
    predictor: Predictor
    gate: Gate
    rho: float | None = None
    samples: int = 1
    block: int = 5
    interval: int | None = None
    seed: int = 0
    _numbers: dict[Quality, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_rho(self.rho)
        if self.samples not in [2**k for k in range(8)]:
            raise InvalidOption(f"{self.samples} samples per block: choose 1, 2, 4, ..., 128")
        if self.samples > 1 and not self.predictor.is_random:
            raise InvalidOption(
                f"{self.samples} samples of {self.predictor.name}, which has only one; leave the number out"
            )
        if not 1 <= self.block <= 15:
            raise InvalidOption(f"blocks of {self.block} frames: choose 1 to 15")
        if self.interval is not None and self.interval < 1:
            raise InvalidOption(f"{self.interval} frames between key frames: choose at least 1")
        if not 0 <= self.seed < 2**32:
            raise InvalidOption(f"seed {self.seed}: choose 0 to 2^32 - 1")
        numbers = {quality: number for number, quality in enumerate(self.codec.qualities)}
        object.__setattr__(self, "_numbers", numbers)

    @property
    def name(self) -> str:
        """Canonical name: "predictive", still codec, predictor, threshold and, if several, samples."""
        rho = "auto" if self.rho is None else f"{self.rho:g}"
        parts = ["predictive", self.codec.name, self.predictor.name, rho]
        return ":".join(parts + [str(self.samples)] * (self.samples > 1))

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
            CorruptPayload: Something is damaged, was made with another network, or a block's frames are not
                those of the transmitter; the message names the first place. See `examine`.
        """
        found = self.examine(payload, shape)
        if found.notes:
            raise CorruptPayload(f"{self.name} payload of {len(payload)} bytes: {found.notes[0]}")
        return found.clip

    def fit(self, x: Clip, max_bits: int) -> Fitted[Clip]:
        """Find the payload of least mean distance, by the gate, within a number of bits.

        Trials divide the bits among 2, 4, 8, 16 key frames, or code all frames as key frames. The quality of
        the key frames is the best that the still codec finds for the first frame within its share. With an
        automatic threshold (`rho` = None), each trial is repeated with the multiples `FACTORS` of it.

        Args:
            x: The clip.
            max_bits: Largest length of the payload in bits.

        Returns:
            The payload, its quality and the clip that it decodes to.

        Raises:
            BudgetTooSmall: No payload is found within `max_bits`.
        """

        def smallest() -> tuple[Quality, Encoding]:
            made = self._encoding(x, self.qualities[0], self._factors[-1], None)
            assert made is not None  # without a limit there is an encoding
            return self.qualities[0], made

        return least_distance(self.name, x, max_bits, self._trials(x, max_bits), smallest)

    @property
    def _factors(self) -> tuple[float, ...]:
        return FACTORS if self.rho is None else (1.0,)

    def _trials(self, x: Clip, max_bits: int) -> Iterator[tuple[Quality, Encoding | None]]:
        count = len(x.frames)
        tried: set[Quality] = set()
        for keys in (*(share for share in SHARES if share < count), count):
            try:
                fitted = fit(self.codec, to_image(x.frames[0]), self._bits_per_key(count, keys, max_bits))
            except BudgetTooSmall:
                return
            if fitted.quality not in tried:
                tried.add(fitted.quality)
                for factor in self._factors:
                    yield fitted.quality, self._encoding(x, fitted.quality, factor, max_bits)

    def _bits_per_key(self, count: int, keys: int, max_bits: int) -> int:
        overhead = self._header_bytes() + 8 + math.ceil(count / self.block) * (CHECK_BYTES + 1)
        return max(0, (max_bits - 8 * overhead) // min(keys, count) - 8 * (CHECK_BYTES + 2))

    def encoding(self, x: Clip, quality: Quality) -> Encoding:
        """Encode a clip, and tell the schedule, the frames shown and their distances.

        Args:
            x: The clip.
            quality: One of `qualities`.

        Returns:
            Payload, frames, schedule and distances.

        Raises:
            InvalidOption: The quality does not exist, or the clip has more than 2^21 - 1 frames.
            MissingWeights: The weights of the gate are absent.
        """
        made = self._encoding(x, quality, 1.0, None)
        assert made is not None  # without a limit there is an encoding
        return made

    @library_defaults()
    @torch.no_grad()
    def _encoding(self, x: Clip, quality: Quality, factor: float, max_bits: int | None) -> Encoding | None:
        """Encode with a multiple of the threshold; abort with None once key frames exceed `max_bits`."""
        originals, count = x.frames, len(x.frames)
        check_task(self.name, self.codec, quality, count)
        shown: list[Tensor] = []
        distances: list[float] = []
        steps: list[Step] = []
        keys: list[bytes] = []
        checks: list[int] = []
        rho = math.nan
        since_key = 0
        while len(shown) < count:
            first = len(shown)
            step = Step(first, min(KEYS, count - first), None)
            if first >= KEYS:
                proposed = self._proposed(shown, originals, rho, since_key)
                if proposed is not None:
                    accepted, distance, sample = proposed
                    step = Step(first, len(accepted), sample)
                    shown += accepted
                    distances += distance
                    checks.append(frames_check(accepted))
                    since_key += len(accepted)
            if step.is_key:
                for frame in originals[first : first + step.count]:
                    key, decoded = coded_key(self.codec, frame, quality)
                    keys.append(key)
                    shown.append(decoded)
                    distances += self.gate.distances(decoded[None], frame[None])
                since_key = 0
                if max_bits is not None and 8 * sum(map(len, keys)) > max_bits:
                    return None
            if not steps:
                rho = threshold(self.rho, distances, factor)
            steps.append(step)
        payload = self._written(quality, rho, count, steps, keys, checks)
        return Encoding(payload, torch.stack(shown), tuple(steps), tuple(distances), rho)

    def _proposed(
        self, shown: list[Tensor], originals: Tensor, rho: float, since_key: int
    ) -> tuple[list[Tensor], list[float], int] | None:
        """Longest accepted run over all samples, its distances and the number of the sample."""
        first = len(shown)
        most = min(self.block, len(originals) - first)
        if self.interval is not None:
            most = min(most, self.interval - since_key)
        if rho <= 0 or most == 0:
            return None
        past = torch.stack(shown[-self.predictor.frames_needed :])
        best: tuple[list[Tensor], list[float], int] | None = None
        for sample in range(self.samples):
            frames = self.predictor.predict(past, most, (self.seed, first, sample))
            distances = self.gate.distances(frames, originals[first : first + most])
            run = next((place for place, d in enumerate(distances) if not d <= rho), most)
            found = list(frames[:run]), distances[:run], sample
            if run and (best is None or (run, -sum(found[1])) > (len(best[0]), -sum(best[1]))):
                best = found
        return best

    # The bitstream

    def _header_bytes(self) -> int:
        return 12 + len(self.predictor.digest) + CHECK_BYTES

    def _written(
        self,
        quality: Quality,
        rho: float,
        count: int,
        steps: list[Step],
        keys: list[bytes],
        checks: list[int],
    ) -> bytes:
        header = bytes([VERSION]) + self._numbers[quality].to_bytes(2, "big")
        header += bytes([RHOS.index(rho) << 3 | self.samples.bit_length() - 1, self.block])
        header += count.to_bytes(3, "big") + self.seed.to_bytes(4, "big") + self.predictor.digest
        number = _schedule_number(steps, count, self.block, self.samples)
        schedule = number.to_bytes((number.bit_length() + 7) // 8, "little")
        side = b"".join((varint(len(schedule)), schedule, *(varint(len(key)) for key in keys)))
        side += b"".join(check.to_bytes(CHECK_BYTES, "big") for check in checks)
        return b"".join((header, self._checked(header), side, crc_bytes(side), with_crcs(keys)))

    def _checked(self, header: bytes) -> bytes:
        """CRC of the header and of the names of still codec and predictor, which are not sent."""
        return crc_bytes(header + f"{self.codec.name} {self.predictor.name}".encode())

    def examine(self, payload: bytes, shape: ClipShape) -> Decoding:
        """Decode what can be decoded, conceal the rest, and say which frames are damaged.

        A key frame that is lost, or does not decode, is predicted from frames before it. After a frame that
        is damaged, predictions start from the frames that are not, and their checks tell whether they are
        right. Without the network that the payload was made with, predicted frames are held. From the next
        pair of key frames on all is right again.

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
        predictor = self.predictor if parsed.same_network else HoldLast()
        rebuilt = _Rebuilt(shape)
        with library_defaults(), torch.no_grad():
            for number, step in enumerate(parsed.steps):
                if step.is_key:
                    for place in range(step.first, step.first + step.count):
                        frame = decoded_key(self.codec, parsed.keys[place], shape)
                        if frame is None:
                            notes.append(f"key frame {place} is damaged")
                            frame = rebuilt.concealed(predictor, (parsed.seed, place, 0))
                            rebuilt.add([frame], False)
                        else:
                            rebuilt.add([frame], True)
                    continue
                seed = (parsed.seed, step.first, step.sample or 0)
                frames = rebuilt.predicted(predictor, step.count, seed)
                right = parsed.same_network and frames_check(frames) == parsed.checks[step.first]
                if not right and parsed.same_network:
                    last = step.first + step.count - 1
                    notes.append(f"block {number}, frames {step.first} to {last}, is not the transmitter's")
                rebuilt.add(frames, right)
        frames, damaged = rebuilt.whole()
        return Decoding(Clip(frames, shape.frame_rate), damaged, tuple(notes))


class _Rebuilt:
    """Frames rebuilt so far, and which of them are right."""

    def __init__(self, shape: ClipShape) -> None:
        color = to_uint8(torch.tensor(MEAN_COLOR, dtype=torch.float32))[:, None, None]
        self._cover = color.expand(3, shape.height, shape.width).clone()
        self._frames: list[Tensor] = []
        self._right: list[bool] = []

    def add(self, frames: list[Tensor], right: bool) -> None:
        self._frames += frames
        self._right += [right] * len(frames)

    def predicted(self, predictor: Predictor, count: int, seed: tuple[int, ...]) -> list[Tensor]:
        """Predict from the latest frames that are right, or from damaged ones if the last one is damaged."""
        latest = range(max(0, len(self._frames) - predictor.frames_needed), len(self._frames))
        sound = [place for place in latest if self._right[place]]
        used = sound if self._right[-1] else latest
        return list(predictor.predict(torch.stack([self._frames[place] for place in used]), count, seed))

    def concealed(self, predictor: Predictor, seed: tuple[int, ...]) -> Tensor:
        """A frame in place of a lost key frame."""
        return self.predicted(predictor, 1, seed)[0] if self._frames else self._cover

    def whole(self) -> tuple[Tensor, tuple[bool, ...]]:
        return torch.stack(self._frames), tuple(not right for right in self._right)


@dataclass(frozen=True, eq=False, slots=True)
class _Parsed:
    """A payload taken apart: schedule, seed, key frames and checks by index of the first frame, and notes."""

    steps: tuple[Step, ...]
    seed: int
    keys: dict[int, bytes | None]
    checks: dict[int, int]
    same_network: bool
    notes: tuple[str, ...]

    @classmethod
    def of(cls, codec: PredictiveCodec, payload: bytes, shape: ClipShape) -> "_Parsed":
        what = f"{codec.name} payload of {len(payload)} bytes"
        end = codec._header_bytes() - CHECK_BYTES
        header = payload[:end]
        if len(header) < end or payload[end : end + CHECK_BYTES] != codec._checked(header):
            raise CorruptPayload(f"{what} has no valid header, or is of another still codec or predictor")
        if header[0] != VERSION:
            raise CorruptPayload(f"{what} has version {header[0]}; this program reads {VERSION}")
        samples, block, count = 2 ** (header[3] & 7), header[4], int.from_bytes(header[5:8], "big")
        if count != shape.frames or not 1 <= block <= 15:
            raise CorruptPayload(f"{what} is of {count} frames, expected {shape.frames}")
        reader = Reader(payload, end + CHECK_BYTES, what)
        number = int.from_bytes(reader.take(reader.varint()), "little")
        steps = tuple(_schedule(number, count, block, samples))
        places = [p for step in steps if step.is_key for p in range(step.first, step.first + step.count)]
        lengths = {place: reader.varint() for place in places}
        checks = {step.first: reader.check() for step in steps if not step.is_key}
        reader.close_schedule(end + CHECK_BYTES)
        keys, notes = reader.keys(lengths)
        theirs, ours = header[12:end], codec.predictor.digest
        if theirs != ours:
            notes.append(
                f"made with network {theirs.hex()}, this one is {ours.hex()}; predicted frames are held"
            )
        seed = int.from_bytes(header[8:12], "big")
        return cls(steps, seed, keys, checks, theirs == ours, tuple(notes))


def _schedule_number(steps: list[Step], count: int, block: int, samples: int) -> int:
    """Number in mixed radix that tells the schedule: accepted frames and sample of each block in turn."""
    number, weight = 0, 1
    for before, step in zip([None, *steps[:-1]], steps, strict=True):
        if before is None:
            continue  # the first frames are always coded
        number += weight * (0 if step.is_key else step.count)
        weight *= min(block, count - step.first) + 1
        if step.sample is not None:
            number += weight * step.sample
            weight *= samples
    return number


def _schedule(number: int, count: int, block: int, samples: int) -> Iterator[Step]:
    """Schedule of a number; see `_schedule_number`."""
    place = min(KEYS, count)
    yield Step(0, place, None)
    while place < count:
        number, accepted = divmod(number, min(block, count - place) + 1)
        sample = None
        if accepted:
            number, sample = divmod(number, samples)
        step = Step(place, accepted or min(KEYS, count - place), sample)
        yield step
        place += step.count
