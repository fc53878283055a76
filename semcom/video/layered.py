"""Layered video codec: a standard base layer, interpolated frames, and a refiner at the receiver."""

import binascii
import logging
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from jaxtyping import UInt8
from torch import Tensor

from semcom.codecs.av import InterCodec
from semcom.codecs.clip import shape_of
from semcom.codecs.codec import Fitted, Quality
from semcom.errors import CorruptPayload, InvalidOption
from semcom.modalities.video import Clip, ClipShape
from semcom.video.interpolation import between
from semcom.video.refinement import FrameRefiner, spread_code, spread_of

BASES = (InterCodec("av1", "slow"), InterCodec("x265", "slow"))
"""Codecs of the base layer, by their number in the header."""
STEPS = (1, 2, 4)
"""Every how many frames one is coded, by its number in the header."""
STRENGTH = 0.85
"""Strength of the refiner where nothing is searched."""
HEAD = 13  # bytes: modes, spread, strength, network 4, checksum of these 2, checksum of the base layer 4
_STRENGTH_STEP = 1 / 64
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """What the encoder chose for a clip, all of which is in the payload.

    Args:
        base: Codec of the base layer, an index of `BASES`.
        step: Every how many frames one is coded, of `STEPS`; the last frame is always coded.
        quality: Operating point of the base layer.
        strength: Strength of the refiner from 0 to 3.98; 0 shows the base layer as it is.
    """

    base: int
    step: int
    quality: Quality
    strength: float = STRENGTH


@dataclass(frozen=True, eq=False)
class LayeredCodec:
    """Video codec for very low rates: AV1 or H.265 below, a one-step refiner on top.

    The base layer codes every N-th frame, N in {1, 2, 4}, at full or half size. The receiver interpolates the
    other frames along optical flow between decoded ones, and a network refines each frame by itself. What a
    network computes never returns to the decoder of the base layer, so that rounding errors cannot grow from
    frame to frame; the base layer is the same on every machine by its standard, which a checksum verifies.

    Payload: modes (1 byte: base 2 bits, N 2 bits, refined 1 bit), error s of the decoded clip in steps of
    1/24 of an octave (1), strength in steps of 1/64 (1), first bytes of the SHA-256 of the network (4),
    CRC-16 of these (2), CRC-32 of the decoded base layer (4), and the payload of the base layer.

    Args:
        refiner: The network; None codes and decodes without it.
        search: Function that chooses among base layers for `fit`: of the codec, the clip and the largest
            length of the payload in bits.
    """

    refiner: FrameRefiner | None
    search: "Callable[[LayeredCodec, Clip, int], Coded]"

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
        return self.coded(x, Choice(0, 1, quality)).payload

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
            InvalidOption: Frames are to be interpolated, and OpenCV is not installed.
        """
        choice, spread, network = read_head(payload)
        base = decoded_base(payload, shape)
        frames = interpolated(base.frames, coded_frames(shape.frames, choice.step))
        if network is not None and (self.refiner is None or self.refiner.digest != network):
            _log.warning(
                f"the clip was made for network {network.hex()}, which is not here; shown without it"
            )
            network = None
        if network is not None and self.refiner is not None:
            scale = BASES[choice.base].scale(payload[HEAD:], shape)
            frames = self.refiner(frames, spread, scale, choice.strength)
        return Clip(torch.stack(list(frames)), shape.frame_rate)

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
        return Fitted(coded.payload, coded.choice.quality, self.decode(coded.payload, shape_of(x)))

    def coded(self, x: Clip, choice: Choice, base: bytes | None = None) -> "Coded":
        """Encode a clip with given choices.

        Args:
            x: The clip.
            choice: The choices; without a network the strength is taken as 0.
            base: Payload of the base layer, if it has been encoded before.

        Returns:
            The payload, and the clip that it decodes to without the network.

        Raises:
            InvalidOption: A choice is out of range, or OpenCV is needed and not installed.
        """
        if choice.step not in STEPS or not 0 <= choice.base < len(BASES) or not 0 <= choice.strength < 4:
            raise InvalidOption(
                f"{choice}: base must be 0..{len(BASES) - 1}, step one of {STEPS}, strength from 0 to 3.98"
            )
        codec, shape = BASES[choice.base], shape_of(x)
        kept = coded_frames(shape.frames, choice.step)
        if base is None:
            base = codec.encode(Clip(x.frames[kept], x.frame_rate), choice.quality)
        decoded = codec.decode(base, replace(shape, frames=len(kept)))
        shown = torch.stack(list(interpolated(decoded.frames, kept)))
        spread = spread_code(_error(shown, x.frames))
        used = self.refiner is not None and choice.strength > 0
        strength = round(choice.strength / _STRENGTH_STEP) if used else 0
        modes = choice.base | STEPS.index(choice.step) << 2 | used << 4
        digest = self.refiner.digest if self.refiner is not None and used else bytes(4)
        head = bytes([modes, spread, strength]) + digest
        head += binascii.crc_hqx(head, 0xFFFF).to_bytes(2, "big") + _checksum(decoded.frames)
        return Coded(
            head + base, replace(choice, strength=strength * _STRENGTH_STEP), Clip(shown, x.frame_rate)
        )


@dataclass(frozen=True, eq=False, slots=True)
class Coded:
    """A payload of `LayeredCodec` and how it was made.

    Args:
        payload: The bytes.
        choice: What the encoder chose.
        shown: The clip that it decodes to without the network.
    """

    payload: bytes
    choice: Choice
    shown: Clip


def read_head(payload: bytes) -> tuple[Choice, float, bytes | None]:
    """Read the header of a payload of `LayeredCodec`.

    Args:
        payload: Any bytes.

    Returns:
        The choices, whose quality is that of the first operating point and not read; the error s of the clip
        in units of [-1, 1]; and the first bytes of the SHA-256 of the network, None if none was used.

    Raises:
        CorruptPayload: The header is damaged.
    """
    head, checksum = payload[: HEAD - 6], payload[HEAD - 6 : HEAD - 4]
    if len(payload) <= HEAD or binascii.crc_hqx(head, 0xFFFF).to_bytes(2, "big") != checksum:
        raise CorruptPayload(f"layered payload of {len(payload)} bytes: its header is damaged")
    base, step, refined = head[0] & 3, head[0] >> 2 & 3, head[0] >> 4
    if base >= len(BASES) or step >= len(STEPS) or refined > 1:
        raise CorruptPayload(f"layered payload of {len(payload)} bytes: unknown modes {head[0]}")
    choice = Choice(base, STEPS[step], BASES[base].qualities[0], head[2] * _STRENGTH_STEP)
    return choice, spread_of(head[1]), head[3:] if refined else None


def decoded_base(payload: bytes, shape: ClipShape) -> Clip:
    """Decode the base layer of a payload of `LayeredCodec` and verify its checksum.

    Args:
        payload: Any bytes.
        shape: Shape of the whole clip.

    Returns:
        The coded frames.

    Raises:
        CorruptPayload: The header or the base layer is damaged.
    """
    choice, _, _ = read_head(payload)
    kept = coded_frames(shape.frames, choice.step)
    base = BASES[choice.base].decode(payload[HEAD:], replace(shape, frames=len(kept)))
    if _checksum(base.frames) != payload[HEAD - 4 : HEAD]:
        raise CorruptPayload(
            f"layered payload of {len(payload)} bytes: the base layer decodes to other frames than were coded"
        )
    return base


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
        kept: Their numbers, ascending from 0.

    Yields:
        The frames in order.
    """
    yield frames[0]
    for place, (first, last) in enumerate(pairwise(kept)):
        if last > first + 1:
            yield from between(frames[place], frames[place + 1], last - first - 1)
        yield frames[place + 1]


def _error(shown: Tensor, frames: Tensor) -> float:
    """Root mean square error in units of [-1, 1]."""
    squares = [float((a.float() - b.float()).square().mean()) for a, b in zip(shown, frames, strict=True)]
    return (sum(squares) / len(squares)) ** 0.5 * 2 / 255


def _checksum(frames: Tensor) -> bytes:
    """CRC-32 of frames, 4 bytes."""
    value = 0
    for frame in frames:
        value = zlib.crc32(frame.contiguous().numpy().data, value)
    return value.to_bytes(4, "big")
