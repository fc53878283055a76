"""Shared parts of the key-frame codecs `predictive` and `two_sided`: schedule, gate threshold, bitstream."""

import math
import statistics
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from semcom.codecs.clip import from_image, to_image
from semcom.codecs.codec import Fitted, Quality, SourceCodec, too_small
from semcom.codecs.varint import read_varint
from semcom.errors import CorruptPayload, InvalidOption
from semcom.modalities.video import Clip, ClipShape

RHOS = (*(index / 100 for index in range(31)), math.inf)
"""Thresholds of a gate that the bitstream can signal, by their index of 5 bits."""
MARGIN = 1.2
"""Ratio of the automatic threshold to the median distance of the first decoded key frames."""
FACTORS = (1.0, 2.0, math.inf)
"""Multiples of the automatic threshold among which `fit` chooses."""
MOST_FRAMES = 2**21 - 1
CHECK_BYTES = 2


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the schedule of a clip: frames that are coded, or frames that are predicted.

    Args:
        first: Index of its first frame.
        count: Number of frames.
        sample: Number of the accepted sample; None for key frames.
    """

    first: int
    count: int
    sample: int | None

    @property
    def is_key(self) -> bool:
        """Whether the frames are coded as still pictures."""
        return self.sample is None


@dataclass(frozen=True, eq=False, slots=True)
class Encoding:
    """Result of encoding a clip: payload, the frames that the receiver will show, and how they were chosen.

    Args:
        payload: Bytes, all of them sent.
        frames: Frames that the receiver will show, uint8 [frames, 3, height, width].
        steps: The schedule.
        distances: Distance of each shown frame from its original, by the gate; for key frames too.
        rho: Threshold of the gate.
    """

    payload: bytes
    frames: Tensor
    steps: tuple[Step, ...]
    distances: tuple[float, ...]
    rho: float

    @property
    def key_frames(self) -> int:
        """Number of frames coded as still pictures."""
        return sum(step.count for step in self.steps if step.is_key)


@dataclass(frozen=True, eq=False, slots=True)
class Decoding:
    """Result of decoding a payload that may be damaged.

    Args:
        clip: The clip, damaged frames concealed.
        damaged: For each frame whether it may differ from the one that the transmitter predicted.
        notes: One line per kind of damage and place; empty if there is none.
    """

    clip: Clip
    damaged: tuple[bool, ...]
    notes: tuple[str, ...]


def check_rho(rho: float | None) -> None:
    """Check that a threshold of a gate is one that codecs of clips by key frames take.

    Args:
        rho: Threshold; None for the automatic one.

    Raises:
        InvalidOption: The threshold is not 0, 0.01, ..., 0.3 or infinite.
    """
    if rho is not None and rho not in RHOS:
        raise InvalidOption(f"rho = {rho:g} of a gate: choose 0, 0.01, ..., 0.3, or inf")


def check_task(name: str, codec: SourceCodec[Tensor], quality: Quality, count: int) -> None:
    """Check that a clip can be coded at a quality.

    Args:
        name: Name of the codec of clips.
        codec: Still codec of its key frames.
        quality: Quality of the key frames.
        count: Number of frames of the clip.

    Raises:
        InvalidOption: The quality does not exist, or the clip has more than 2^21 - 1 frames.
    """
    if quality not in codec.qualities:
        raise InvalidOption(f"{quality} of {name}: not one of the qualities of {codec.name}")
    if count > MOST_FRAMES:
        raise InvalidOption(f"{name} of {count} frames: at most {MOST_FRAMES}; cut the clip")


def threshold(rho: float | None, distances: Sequence[float], factor: float) -> float:
    """Threshold of the gate for a clip.

    Args:
        rho: Threshold of the codec; None: at least 1.2 times the median of the distances.
        distances: Distances of the first key frames, as they are decoded, from their originals.
        factor: Multiple of the threshold that is wanted; infinite for no threshold.

    Returns:
        The smallest of `RHOS` that is not below.
    """
    wanted = max(MARGIN * statistics.median(distances), RHOS[1]) if rho is None else rho
    wanted = math.inf if math.isinf(factor) else wanted * factor
    return next(rho for rho in RHOS if rho >= wanted)


def least_distance(
    name: str,
    x: Clip,
    max_bits: int,
    trials: Iterable[tuple[Quality, Encoding | None]],
    smallest: Callable[[], tuple[Quality, Encoding]],
) -> Fitted[Clip]:
    """Choose the encoding of least mean distance, by the gate, within a number of bits.

    Args:
        name: Name of the codec, for the message.
        x: The clip.
        max_bits: Largest length of the payload in bits.
        trials: Qualities and encodings; None for an encoding that was aborted since it exceeded the bits.
        smallest: Function that makes the smallest encoding, called if no trial fits.

    Returns:
        The payload, its quality and the clip that it decodes to.

    Raises:
        BudgetTooSmall: The smallest encoding exceeds `max_bits`, too.
    """
    count, _, height, width = x.frames.shape
    best: tuple[float, Quality, Encoding] | None = None
    for quality, made in trials:
        if made is None or 8 * len(made.payload) > max_bits:
            continue
        distance = math.fsum(made.distances) / count
        if best is None or distance < best[0]:
            best = distance, quality, made
    quality, made = best[1:] if best else smallest()
    needed = 8 * len(made.payload)
    if needed > max_bits:
        raise too_small(name, needed, f"a clip of {count} frames of {width}x{height}", max_bits)
    return Fitted(made.payload, quality, Clip(made.frames, x.frame_rate))


def coded_key(codec: SourceCodec[Tensor], frame: Tensor, quality: Quality) -> tuple[bytes, Tensor]:
    """Code a frame as a still picture.

    Args:
        codec: Still codec.
        frame: Frame of 8 bits, [3, height, width].
        quality: One of the qualities of the still codec.

    Returns:
        Its bytes, and the frame that they decode to.
    """
    key = codec.encode(to_image(frame), quality)
    return key, from_image(codec.decode(key, (1, *frame.shape)))


def decoded_key(codec: SourceCodec[Tensor], key: bytes | None, shape: ClipShape) -> Tensor | None:
    """Decode a key frame as far as it can be decoded.

    Args:
        codec: Still codec.
        key: Bytes of the key frame; None if they are damaged.
        shape: Shape of the clip.

    Returns:
        Frame of 8 bits, [3, height, width]; None if the bytes are damaged.
    """
    if key is None:
        return None
    try:
        return from_image(codec.decode(key, (1, 3, shape.height, shape.width)))
    except CorruptPayload:
        return None


def frames_check(frames: Iterable[Tensor]) -> int:
    """Check of 16 bits of frames.

    Args:
        frames: Frames of 8 bits.

    Returns:
        Low half of the CRC-32 of their levels.
    """
    crc = 0
    for frame in frames:
        crc = zlib.crc32(frame.contiguous().numpy().tobytes(), crc)
    return crc & 0xFFFF


def crc_bytes(data: bytes, start: int = 0) -> bytes:
    """Check of 16 bits of some bytes.

    Args:
        data: The bytes.
        start: Number that the CRC starts from; key frames start from their number, so that one in another's
            place is found.

    Returns:
        Low half of their CRC-32, 2 bytes.
    """
    return (zlib.crc32(data, start) & 0xFFFF).to_bytes(CHECK_BYTES, "big")


def with_crcs(keys: Sequence[bytes]) -> bytes:
    """Join key frames in one stretch of bytes, each followed by its CRC.

    Args:
        keys: Bytes of the key frames in order.

    Returns:
        The bytes; see `Reader.keys`.
    """
    return b"".join(key + crc_bytes(key, number) for number, key in enumerate(keys))


class Reader:
    """Reader of a payload from the front to the back.

    Args:
        payload: The bytes.
        place: Index of the first byte to read.
        what: Description of the payload for messages.
    """

    def __init__(self, payload: bytes, place: int, what: str) -> None:
        self._payload, self.place, self._what = payload, place, what

    def take(self, count: int) -> bytes:
        """Take the next bytes.

        Args:
            count: Number of bytes.

        Returns:
            The bytes.

        Raises:
            CorruptPayload: Fewer bytes are left.
        """
        taken = self._payload[self.place : self.place + count]
        if len(taken) < count:
            raise CorruptPayload(f"{self._what} ends in its schedule")
        self.place += count
        return taken

    def varint(self) -> int:
        """Take an integer of variable length.

        Returns:
            The integer.

        Raises:
            CorruptPayload: The integer is cut off, or longer than 5 bytes.
        """
        try:
            number, self.place = read_varint(self._payload, self.place)
        except CorruptPayload:
            raise CorruptPayload(f"{self._what} has a damaged schedule") from None
        return number

    def check(self) -> int:
        """Take a check of 16 bits.

        Returns:
            The check.

        Raises:
            CorruptPayload: Fewer than 2 bytes are left.
        """
        return int.from_bytes(self.take(CHECK_BYTES), "big")

    def close_schedule(self, start: int) -> None:
        """Take the CRC of the schedule.

        Args:
            start: Index of the first byte of the schedule, which ends here.

        Raises:
            CorruptPayload: The CRC does not match.
        """
        schedule = self._payload[start : self.place]
        if self.take(CHECK_BYTES) != crc_bytes(schedule):
            raise CorruptPayload(f"{self._what} has a damaged schedule")

    def keys(self, lengths: Mapping[int, int]) -> tuple[dict[int, bytes | None], list[str]]:
        """Take the key frames, the last part of a payload.

        Args:
            lengths: Length in bytes of every key frame by index of the frame, in order.

        Returns:
            Bytes by index of the frame, None where they are damaged; and a line if more bytes follow.
        """
        found: dict[int, bytes | None] = {}
        for number, (place, length) in enumerate(lengths.items()):
            key = self._payload[self.place : self.place + length]
            end = self.place + length + CHECK_BYTES
            right = self._payload[end - CHECK_BYTES : end] == crc_bytes(key, number)
            found[place] = key if right and len(key) == length else None
            self.place = end
        over = len(self._payload) - self.place
        return found, [f"{over} bytes follow the last key frame"] * (over > 0)
