"""Layered video codec: a standard base layer, interpolated frames, and a refiner at the receiver."""

import binascii
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from jaxtyping import UInt8
from torch import Tensor

from semcom.codecs.av import InterCodec
from semcom.codecs.clip import joined, shape_of
from semcom.codecs.codec import Fitted, Quality, SourceCodec, fit
from semcom.errors import CorruptPayload, InvalidOption
from semcom.modalities.video import Clip, ClipShape
from semcom.video.interpolation import between
from semcom.video.predictive import Decoding
from semcom.video.refinement import FrameRefiner, spread_code, spread_of

BASES = (InterCodec("av1", "slow"), InterCodec("x265", "slow"))
"""Codecs of the base layer, by their number in the header."""
STEPS = (1, 2, 4)
"""Every how many frames one is coded, by its number in the header."""
STRENGTH = 0.85
"""Strength of the refiner where nothing is searched."""
STRENGTH_STEP = 1 / 64
NO_NETWORK = bytes(4)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Head:
    """Header of a payload of `LayeredCodec`, 13 bytes.

    In order: modes (1 byte: base layer 2 bits, frame step 2 bits), error s of the decoded clip in steps of
    1/24 of an octave (1), strength in steps of 1/64 (1), network (4), CRC-16 of these (2), CRC-32 of the
    decoded base layer (4).

    Args:
        base: Codec of the base layer, an index of `BASES`.
        step: Every how many frames one is coded, of `STEPS`; the last frame is always coded.
        spread: Code of the error s, see `semcom.video.refinement.spread_code`.
        strength: Strength of the refiner in steps of 1/64, from 0 to 255.
        network: First bytes of the SHA-256 of the refiner's weights; zeros if none is used.
        checksum: CRC-32 of the decoded frames of the base layer, 4 bytes.
    """

    base: int
    step: int
    spread: int
    strength: int
    network: bytes
    checksum: bytes

    def to_bytes(self) -> bytes:
        """Write the header of a payload.

        Returns:
            `HEAD` bytes.
        """
        told = bytes([self.base | STEPS.index(self.step) << 2, self.spread, self.strength]) + self.network
        return told + binascii.crc_hqx(told, 0xFFFF).to_bytes(2, "big") + self.checksum

    @classmethod
    def from_bytes(cls, payload: bytes) -> "Head":
        """Read the header of a payload.

        Args:
            payload: Any bytes.

        Returns:
            The header.

        Raises:
            CorruptPayload: The header is damaged.
        """
        told, crc, checksum = payload[:7], payload[7:9], payload[9:HEAD]
        if len(payload) <= HEAD or binascii.crc_hqx(told, 0xFFFF).to_bytes(2, "big") != crc:
            raise CorruptPayload(f"layered payload of {len(payload)} bytes: its header is damaged")
        base, step = told[0] & 3, told[0] >> 2
        if base >= len(BASES) or step >= len(STEPS):
            raise CorruptPayload(f"layered payload of {len(payload)} bytes: unknown modes {told[0]}")
        return cls(base, STEPS[step], told[1], told[2], told[3:], checksum)


HEAD = 13
"""Bytes of the header of a payload."""


@dataclass(frozen=True, eq=False, slots=True)
class Coded:
    """A payload of `LayeredCodec`, and what the encoder knows about it.

    Args:
        head: Header of the payload.
        layer: Payload of the base layer.
        quality: Operating point of the base layer.
        shown: The clip that it decodes to without the refiner.
    """

    head: Head
    layer: bytes
    quality: Quality
    shown: Clip

    @property
    def payload(self) -> bytes:
        """Header and base layer."""
        return self.head.to_bytes() + self.layer


Search = Callable[["LayeredCodec", Clip, int], Coded]
"""Choice of a payload for a clip and a largest length in bits; raises BudgetTooSmall."""


@dataclass(frozen=True, eq=False)
class LayeredCodec:
    """Video codec for very low rates: AV1 or H.265 below, a one-step refiner on top.

    The base layer codes every N-th frame, N in {1, 2, 4}, at full size or reduced. The receiver interpolates
    the other frames along the optical flow between decoded ones, and a network refines each frame by itself.
    What a network computes never returns to the decoder of the base layer, so that rounding errors cannot
    grow from frame to frame; the base layer is the same on every machine by its standard, which a checksum
    verifies. The payload is a header (`Head`) and the payload of the base layer.

    Args:
        refiner: The network; None codes and decodes without it.
        search: Choice of the payload for `fit`.
    """

    refiner: FrameRefiner | None
    search: Search

    @property
    def name(self) -> str:
        """Canonical name, always "layered"."""
        return "layered"

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """Operating points of the first base layer, AV1, with every frame coded."""
        return BASES[0].qualities

    def encode(self, x: Clip, quality: Quality) -> bytes:
        """Encode a clip with AV1 as base layer, all frames coded, and the default strength."""
        return self.coded(x, 0, 1, quality).payload

    def coded(self, x: Clip, base: int, step: int, quality: Quality, layer: bytes | None = None) -> Coded:
        """Encode a clip with given choices and the default strength.

        Args:
            x: The clip.
            base: Codec of the base layer, an index of `BASES`.
            step: Every how many frames one is coded, of `STEPS`.
            quality: Operating point of the base layer.
            layer: Payload of the base layer, if it has been encoded before.

        Returns:
            The payload and what it decodes to.

        Raises:
            InvalidOption: A choice is out of range.
            MissingPackage: Frames are interpolated, and OpenCV is not installed.
        """
        if step not in STEPS or not 0 <= base < len(BASES):
            raise InvalidOption(
                f"base layer {base}, step {step}: choose 0..{len(BASES) - 1} and one of {STEPS}"
            )
        shape = shape_of(x)
        kept = coded_frames(shape.frames, step)
        if layer is None:
            layer = BASES[base].encode(Clip(x.frames[kept], x.frame_rate), quality)
        decoded = BASES[base].decode(layer, replace(shape, frames=len(kept)))
        shown = decoded if step == 1 else joined(interpolated(decoded.frames, kept), shape)
        head = Head(base, step, spread_code(_error(shown, x)), 0, NO_NETWORK, _checksum(decoded))
        return self.with_strength(Coded(head, layer, quality, shown), STRENGTH)

    def with_strength(self, coded: Coded, strength: float) -> Coded:
        """Change the strength of the refiner in a payload.

        Args:
            coded: A payload.
            strength: From 0, the base layer as it is, to 3.98; taken as 0 without a network.

        Returns:
            The payload, whose header alone differs.

        Raises:
            InvalidOption: The strength is out of range.
        """
        steps = round(strength / STRENGTH_STEP)
        if not 0 <= steps <= 255:
            raise InvalidOption(f"strength {strength:g} of the refiner: choose 0 to 3.98")
        if self.refiner is None or not steps:
            return replace(coded, head=replace(coded.head, strength=0, network=NO_NETWORK))
        return replace(coded, head=replace(coded.head, strength=steps, network=self.refiner.digest))

    def refined(
        self, coded: Coded, frames: Iterable[UInt8[Tensor, "3 height width"]]
    ) -> Iterator[UInt8[Tensor, "3 height width"]]:
        """What the receiver shows of some frames of the base layer.

        If the header names a network that is not there, they are shown as they are, and a warning is logged.

        Args:
            coded: The payload.
            frames: Decoded or interpolated frames.

        Yields:
            The frames, refined.
        """
        for note in self._missing(coded.head):
            _log.warning(note)
        return self._refined(coded.head, coded.layer[0], frames)

    def _missing(self, head: Head) -> tuple[str, ...]:
        """One line if the network of a payload is not there."""
        if head.network == NO_NETWORK or (self.refiner is not None and self.refiner.digest == head.network):
            return ()
        return (f"made for network {head.network.hex()}, which is not here: the base layer is shown",)

    def decode(self, payload: bytes, shape: ClipShape) -> Clip:
        """Decode a payload to a clip.

        If the payload names a network that is not there, the base layer is shown and a warning logged.

        Args:
            payload: Any bytes.
            shape: Number of frames, height, width and frame rate of the clip.

        Returns:
            A clip of this shape.

        Raises:
            CorruptPayload: The header or the base layer is damaged.
            MissingPackage: Frames are interpolated, and OpenCV is not installed.
        """
        found = self.examine(payload, shape)
        for note in found.notes:
            _log.warning(note)
        return found.clip

    def examine(self, payload: bytes, shape: ClipShape) -> Decoding:
        """Decode a payload to a clip, and say whether its network is not there.

        Args:
            payload: Any bytes.
            shape: Number of frames, height, width and frame rate of the clip.

        Returns:
            A clip of this shape, none of whose frames is damaged; the note says that the base layer is shown.

        Raises:
            CorruptPayload: The header or the base layer is damaged.
            MissingPackage: Frames are interpolated, and OpenCV is not installed.
        """
        head = Head.from_bytes(payload)
        kept = coded_frames(shape.frames, head.step)
        layer = BASES[head.base].decode(payload[HEAD:], replace(shape, frames=len(kept)))
        if _checksum(layer) != head.checksum:
            raise CorruptPayload(
                f"layered payload of {len(payload)} bytes: its base layer has another checksum"
            )
        frames = self._refined(head, payload[HEAD], interpolated(layer.frames, kept))
        return Decoding(joined(frames, shape), (False,) * shape.frames, self._missing(head))

    def fit(self, x: Clip, max_bits: int) -> Fitted[Clip]:
        """Find the payload that looks most like the clip within a number of bits.

        Args:
            x: The clip.
            max_bits: Largest length of the payload in bits.

        Returns:
            The payload, the quality of its base layer and the clip that it decodes to.

        Raises:
            BudgetTooSmall: The smallest payload exceeds `max_bits`.
        """
        coded = self.search(self, x, max_bits)
        frames = self.refined(coded, coded.shown.frames)
        return Fitted(coded.payload, coded.quality, joined(frames, shape_of(x)))

    def _refined(
        self, head: Head, scale: int, frames: Iterable[UInt8[Tensor, "3 height width"]]
    ) -> Iterator[UInt8[Tensor, "3 height width"]]:
        if self.refiner is None or self.refiner.digest != head.network:
            return iter(frames)
        return self.refiner(frames, spread_of(head.spread), scale, head.strength * STRENGTH_STEP)


def payload_within(codec: SourceCodec[Clip], x: Clip, max_bits: int) -> bytes:
    """Find the payload that `fit` finds, without the frames that the receiver shows.

    An encoder of files needs no more: showing a clip takes the refiner's time for every frame of it.

    Args:
        codec: Any codec of clips.
        x: The clip.
        max_bits: Largest length of the payload in bits.

    Returns:
        The payload.

    Raises:
        BudgetTooSmall: The smallest payload exceeds `max_bits`.
    """
    if isinstance(codec, LayeredCodec):
        return codec.search(codec, x, max_bits).payload
    return fit(codec, x, max_bits).payload


def coded_frames(frames: int, step: int) -> list[int]:
    """Numbers of the frames that are coded: every `step`-th one, and the last one.

    Args:
        frames: Number of frames of the clip.
        step: Every how many frames one is coded.

    Returns:
        The numbers, ascending.

    Example:
        >>> coded_frames(6, 4)
        [0, 4, 5]
    """
    return [*range(0, frames - 1, step), frames - 1]


def interpolated(
    frames: UInt8[Tensor, "coded 3 height width"], kept: Sequence[int]
) -> Iterator[UInt8[Tensor, "3 height width"]]:
    """All frames of a clip of which some were coded; the others are interpolated.

    Args:
        frames: Decoded frames.
        kept: Number of each decoded frame in the clip, ascending from 0.

    Yields:
        The frames in order.
    """
    yield frames[0]
    for place, (first, last) in enumerate(pairwise(kept)):
        if last > first + 1:
            yield from between(frames[place], frames[place + 1], last - first - 1)
        yield frames[place + 1]


def _error(shown: Clip, x: Clip) -> float:
    """Root mean square error in units of [-1, 1]."""
    pairs = zip(shown.frames, x.frames, strict=True)
    squares = [float((a.float() - b.float()).square().mean()) for a, b in pairs]
    return (sum(squares) / len(squares)) ** 0.5 * 2 / 255


def _checksum(clip: Clip) -> bytes:
    """CRC-32 of the frames, 4 bytes."""
    value = 0
    for frame in clip.frames:
        value = zlib.crc32(frame.contiguous().numpy().data, value)
    return value.to_bytes(4, "big")
