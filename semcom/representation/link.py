"""Predictive latent link: both ends predict decoded latents, and only what is not predicted is sent.

    r_t = z_t - prediction(z~_1 .. z~_{t-1});   z~_t = prediction + step round(r_t / step)

where the gate fires, that is where |r_t|^2 / d exceeds the square of a threshold; else z~_t is the
prediction. The state of the loop is in integers, so that both ends predict the very same latents on every
machine. The decoder is exact too.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int

from semcom.codecs.codec import Fitted, Quality, too_small
from semcom.codecs.packets import fitted_packets, groups
from semcom.errors import CorruptPayload, InvalidOption
from semcom.modalities.video import VIDEO, Clip, ClipShape
from semcom.observation import Gaps
from semcom.representation.coding import (
    LOG2_SCALES,
    Decoder,
    Encoder,
    best_scale,
    chosen_integers,
    scale_reach,
)
from semcom.representation.kalman import AlphaBeta, kalman, measured_motion
from semcom.representation.latents import clip_of, digest, latents_of, tiles_of
from semcom.representation.straightening import StraightAutoencoder
from semcom.spelling import digits

HEAD = "latent"
"""First part of the names of codecs and transmissions of latents."""
PREDICTORS = ("intra", "repeat", "linear", "kalman")
"""Names of predictors: none, the last latents, linear extrapolation, constant-velocity Kalman filter."""
FIXED = {"intra": AlphaBeta(0, 0, 0), "repeat": AlphaBeta(128, 0, 0), "linear": AlphaBeta(128, 128, 128)}
UNIT = 256
"""Units of the state per unit of a latent."""
SETTINGS = 32
STEPS = tuple(round(UNIT * 2.0 ** (2 - setting / 4)) for setting in range(SETTINGS))
"""Quantiser steps in units, by setting."""
GATES = (0.0, 0.75)
"""Thresholds that `fit` tries, as shares of the quantiser step."""
HEADER_BYTES, CHECK_BYTES = 1, 2
LARGEST = 120.0  # of a latent
NO_GATE, GATED = 0, 1

State = Int[np.ndarray, "frames tiles dims"]


@dataclass(frozen=True)
class LatentCodec:
    """Codec of clips by quantised innovations of latents.

    Frames are cut into tiles of 64x64 pixels, those at the right and lower edge extended by reflection; every
    tile is a latent of its own. Payload, everything counted: a byte of setting and gate, three bytes of
    gains with the Kalman filter, a checksum of 16 bits over network, predictor, gains and all integers, and a
    stream of the range coder: for every frame one bit per tile if there is a gate, then scale and integers
    of each innovation. A clip that stands still costs about 7 bits per frame and tile, or 1 bit with a gate.

    Args:
        network: Encoder and decoder of frames of three colours.
        predictor: One of `PREDICTORS`.
        gate: Largest root of the mean squared prediction error of a tile, in units of latents, that is not
            sent, at least 0; 0 sends every innovation. None: `fit` chooses it in proportion to the step, and
            `encode` takes half of the step.

    Raises:
        InvalidOption: There is no such predictor, the gate is negative or not finite, or the network codes
            grey frames.
    """

    network: StraightAutoencoder
    predictor: str = "kalman"
    gate: float | None = 0.0
    _exact: StraightAutoencoder = field(init=False, repr=False, compare=False)
    _digest: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_predictor(self.predictor, self.gate)
        if self.network.colors != 3:
            raise InvalidOption(f"network of {self.network.colors} colour: the latents of clips need 3")
        object.__setattr__(self, "_exact", self.network.in_fixed_point())
        object.__setattr__(self, "_digest", digest(self.network))

    @property
    def name(self) -> str:
        """Canonical name, such as "latent:linear", "latent:kalman:0.25" or "latent:kalman:auto"."""
        return spelled(self.predictor, self.gate)

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """Settings of the quantiser step, coarse to fine: 4 to 4 / 2^7.75 in units of latents."""
        return tuple(Quality(1, setting) for setting in range(SETTINGS))

    def encode(self, x: Clip, quality: Quality) -> bytes:
        """Encode a clip; equal clips give equal bytes.

        Args:
            x: The clip.
            quality: One of `qualities`.

        Returns:
            The payload.

        Raises:
            InvalidOption: The quality does not exist.
        """
        if quality not in self.qualities:
            raise InvalidOption(f"{quality} of {self.name}: scale must be 1, setting in 0..{SETTINGS - 1}")
        z = self.latents(x)
        return self.coded(z, quality.setting, self._gate(quality.setting)).payload

    def decode(self, payload: bytes, shape: ClipShape) -> Clip:
        """Decode a payload to the clip that the transmitter has coded.

        Args:
            payload: Any bytes.
            shape: Number of frames, height, width and frame rate of the clip.

        Returns:
            A clip of this shape.

        Raises:
            CorruptPayload: The payload is damaged, or of another network, predictor or size.
        """
        return self.shown(self.decoded(payload, shape), shape)

    def fit(self, x: Clip, max_bits: int) -> Fitted[Clip]:
        """Find the payload of least squared error of the frames within a number of bits.

        Args:
            x: The clip.
            max_bits: Largest length of the payload in bits.

        Returns:
            The payload, its quality and the clip that it decodes to.

        Raises:
            BudgetTooSmall: The smallest payload exceeds `max_bits`.
        """
        z, shape = self.latents(x), VIDEO.shape(x)
        best, least = None, math.inf
        for share in GATES if self.gate is None else (0.0,):
            found = self._finest(z, max_bits, share)
            if found is None:
                continue
            setting, coded = found
            shown = self.shown(coded.latents, shape)
            error = float((shown.frames.float() - x.frames.float()).square().mean())
            if error < least:
                best, least = Fitted(coded.payload, Quality(1, setting), shown), error
        if best is None:
            smallest = 8 * len(self.coded(z, 0, self._gate(0)).payload)
            about = f"a clip of {shape.frames} frames of {shape.width}x{shape.height}"
            raise too_small(self.name, smallest, about, max_bits)
        return best

    def latents(self, x: Clip) -> State:
        """Latents of a clip in units, [frames, tiles, dims].

        Args:
            x: The clip.

        Returns:
            Whole numbers.
        """
        z = latents_of(self.network, x)
        return np.rint(UNIT * np.clip(z, -LARGEST, LARGEST)).astype(np.int64)

    def shown(self, latents: State, shape: ClipShape) -> Clip:
        """Clip of decoded latents.

        Args:
            latents: Latents in units, [frames, tiles, dims].
            shape: Number of frames, height, width and frame rate of the clip.

        Returns:
            The clip.
        """
        return clip_of(self._exact, latents / UNIT, shape)

    def coded(self, z: State, setting: int, gate: float) -> "CodedLatents":
        """Code latents into a payload.

        Args:
            z: Latents in units, [frames, tiles, dims].
            setting: Index into `STEPS`.
            gate: Threshold in units of latents; 0 for no gate.

        Returns:
            The payload, and what the receiver decodes.
        """
        step = STEPS[setting]
        gains = self._gains(z, step, gate)
        head = bytes([setting << 2 | (GATED if gate else NO_GATE)]) + self._gain_bytes(gains)
        coder, loop = Encoder(), _Loop(gains, z.shape[1], z.shape[2], step)
        fired = np.ones(z.shape[:2], bool)
        decoded = np.empty_like(z)
        for t, frame in enumerate(z):
            predicted = loop.predicted()
            missed = frame - predicted
            if gate:
                fired[t] = np.square(missed / UNIT).mean(1) > gate**2
                coder.flags(fired[t])
            scales, integers = _quantised(missed[fired[t]], step, loop.scales[fired[t]])
            coder.scales(scales - loop.scales[fired[t]])
            coder.integers(integers, scales)
            decoded[t] = loop.update(predicted, fired[t], scales, integers)
        check = coder.checksum(self._start(head)).to_bytes(CHECK_BYTES, "big")
        return CodedLatents(head + check + coder.stream(), decoded, fired)

    def decoded(self, payload: bytes, shape: ClipShape) -> State:
        """Latents of a payload, see `decode`.

        Args:
            payload: Any bytes.
            shape: Shape of the clip.

        Returns:
            Latents in units, [frames, tiles, dims].

        Raises:
            CorruptPayload: The payload is damaged, or of another network, predictor or size.
        """
        tiles, dims = math.prod(tiles_of(shape.height, shape.width)), self.network.dims
        length = HEADER_BYTES + 3 * (self.predictor == "kalman")
        if len(payload) < length + CHECK_BYTES or payload[0] >> 2 >= SETTINGS or payload[0] & 2:
            raise CorruptPayload(f"{self.name} payload of {len(payload)} bytes has no valid header")
        head, gated = payload[:length], bool(payload[0] & 1)
        try:
            gains = AlphaBeta(*head[1:]) if self.predictor == "kalman" else FIXED[self.predictor]
        except InvalidOption as error:
            raise CorruptPayload(f"{self.name} payload of {len(payload)} bytes: {error}") from None
        coder = Decoder(payload[length + CHECK_BYTES :], shape.frames * tiles * (dims + 2))
        loop = _Loop(gains, tiles, dims, STEPS[payload[0] >> 2])
        decoded = np.empty((shape.frames, tiles, dims), np.int64)
        for t in range(shape.frames):
            predicted = loop.predicted()
            fired = coder.flags(tiles) if gated else np.ones(tiles, bool)
            scales = coder.scales(loop.scales[fired])
            decoded[t] = loop.update(predicted, fired, scales, coder.integers(scales, dims))
        if coder.checksum(self._start(head)) != int.from_bytes(payload[length:][:CHECK_BYTES], "big"):
            raise CorruptPayload(
                f"{self.name} payload of {len(payload)} bytes fails its checksum: it is damaged, or was made "
                "with another network or predictor"
            )
        return decoded

    def _gate(self, setting: int) -> float:
        return 0.5 * STEPS[setting] / UNIT if self.gate is None else self.gate

    def _finest(self, z: State, max_bits: int, share: float) -> tuple[int, "CodedLatents"] | None:
        """Largest setting that fits, by bisection, with a gate in proportion to the step if none is given."""

        def code(setting: int) -> CodedLatents:
            gate = share * STEPS[setting] / UNIT if self.gate is None else self.gate
            return self.coded(z, setting, gate)

        low, high, best = -1, SETTINGS, None
        while high - low > 1:
            middle = (low + high) // 2
            made = code(middle)
            if 8 * len(made.payload) <= max_bits:
                low, best = middle, made
            else:
                high = middle
        return None if best is None else (low, best)

    def _gains(self, z: State, step: int, gate: float) -> AlphaBeta:
        """Gains of the predictor; those of the Kalman filter follow from the motion of the latents."""
        if self.predictor != "kalman":
            return FIXED[self.predictor]
        noise_var = (step / UNIT) ** 2 / 12 + gate**2 / 3
        motion = measured_motion(z.reshape(len(z), -1) / UNIT)
        # a gain near 0 would send what was corrected once again with every frame of a still clip
        restless = replace(motion, acceleration_var=max(motion.acceleration_var, noise_var / 8))
        return AlphaBeta.steady(restless, noise_var)

    def _gain_bytes(self, gains: AlphaBeta) -> bytes:
        return bytes([gains.alpha, gains.beta, gains.damping]) if self.predictor == "kalman" else b""

    def _start(self, head: bytes) -> bytes:
        """What the checksum starts from: network, predictor and header."""
        return self._digest + self.predictor.encode() + head


@dataclass(frozen=True, eq=False, slots=True)
class CodedLatents:
    """A payload of latents, with what the transmitter knows of it.

    Args:
        payload: The payload.
        latents: Latents in units that it decodes to, [frames, tiles, dims].
        fired: Whether the gate fired, [frames, tiles].
    """

    payload: bytes
    latents: State
    fired: np.ndarray


class _Loop:
    """State of the closed loop, equal at both ends: decoded latents, and the last scale of every tile."""

    def __init__(self, gains: AlphaBeta, tiles: int, dims: int, step: int) -> None:
        self._gains, self._step, self._shape = gains, step, (tiles, dims)
        self._state = gains.start(tiles * dims)
        self._is_first = True
        usual = math.log2(UNIT / step * math.sqrt(3) / math.pi)  # latents of variance 1
        nearest = int(np.abs(np.array(LOG2_SCALES) - usual).argmin())
        self.scales = np.full(tiles, nearest, np.int64)

    def predicted(self) -> Int[np.ndarray, "tiles dims"]:
        """Prediction of the next frame."""
        return self._gains.predicted(self._state).reshape(self._shape)

    def update(
        self,
        predicted: Int[np.ndarray, "tiles dims"],
        fired: np.ndarray,
        scales: Int[np.ndarray, " some"],
        integers: Int[np.ndarray, "some dims"],
    ) -> Int[np.ndarray, "tiles dims"]:
        """Decoded latents of a frame, from which the next one is predicted."""
        decoded = predicted.copy()
        decoded[fired] += self._step * integers
        self.scales[fired] = scales
        self._state = self._gains.updated(self._state, decoded.ravel(), self._is_first)
        self._is_first = False
        return decoded


def _quantised(
    missed: Int[np.ndarray, "tiles dims"], step: int, last: Int[np.ndarray, " tiles"]
) -> tuple[Int[np.ndarray, " tiles"], Int[np.ndarray, "tiles dims"]]:
    """Scale and integers of the innovation of every tile, by rate and distortion."""
    scales = np.empty(len(missed), np.int64)
    integers = np.empty(missed.shape, np.int64)
    for tile, (values, before) in enumerate(zip(missed / step, last, strict=True)):
        first = best_scale(np.rint(values).astype(np.int64), int(before))
        chosen = chosen_integers(values, first)
        scales[tile] = best_scale(chosen, int(before))
        reach = scale_reach(int(scales[tile]))
        integers[tile] = np.clip(chosen, -reach, reach)
    return scales, integers


@dataclass(frozen=True)
class LatentPackets:
    """Packet codec of clips by latents: every packet holds some frames, predicted from each other alone.

    Frames of lost packets are predicted by a damped constant-velocity Kalman filter from the decoded latents
    of all frames before them; those before the first frame that arrived are shown as that one. They are
    marked as missing.

    Args:
        codec: Codec of the frames of a packet.
    """

    codec: LatentCodec

    @property
    def name(self) -> str:
        """Canonical name of the codec."""
        return self.codec.name

    def encode(self, x: Clip, room: Sequence[int]) -> tuple[bytes, ...]:
        """Encode a clip, with equally many frames in every packet.

        Args:
            x: The clip.
            room: Largest size in bytes of every packet.

        Returns:
            One packet per entry of `room`, of at most that many bytes; empty where nothing fits.

        Raises:
            BudgetTooSmall: No packet has room for its frames.
        """
        return fitted_packets(self.codec, x, room)

    def decode(self, packets: Sequence[bytes | None], shape: ClipShape) -> Gaps[Clip] | None:
        """Decode the frames that arrived, and predict the others.

        Args:
            packets: Packets in the order of `encode`; None for every packet that was lost.
            shape: Number of frames, height, width and frame rate of the clip.

        Returns:
            The clip with one flag per frame, True for a predicted one; None if no frame arrived.
        """
        found: dict[int, np.ndarray] = {}
        for number, frames in groups(shape.frames, len(packets)).items():
            part = replace(shape, frames=len(frames))
            try:
                latents = self.codec.decoded(packets[number] or b"", part)
            except CorruptPayload:
                continue
            found |= dict(zip(frames, latents, strict=True))
        if not found:
            return None
        missing = np.array([t not in found for t in range(shape.frames)])
        like = next(iter(found.values()))
        known = np.stack([found.get(t, np.zeros_like(like)) for t in range(shape.frames)])
        predicted = np.rint(filled(known / UNIT, missing) * UNIT).astype(np.int64)
        return Gaps(self.codec.shown(predicted, shape), tuple(missing.tolist()))


def filled(
    latents: Float[np.ndarray, "frames tiles dims"], missing: np.ndarray
) -> Float[np.ndarray, "frames tiles dims"]:
    """Predict missing latents from those before them by a damped constant-velocity Kalman filter.

    The model of the motion is measured on each run of frames that arrived, so that it is known before what it
    predicts.

    Args:
        latents: Latents, [frames, tiles, dims], anything where missing.
        missing: Whether each frame is missing, [frames]; not all of them.

    Returns:
        Latents, equal to those given where none is missing; frames before the first one that arrived are
        equal to that one.
    """
    found = latents.copy()
    first = int(np.argmin(missing))
    found[:first] = latents[first]
    for start, stop in _runs(missing, first):
        past = latents[:start].reshape(start, -1)
        kept = ~missing[:start]
        noise_var = np.where(kept, 1e-6, np.inf)[:, None] + np.zeros(past.shape[1])
        noise_var = np.concatenate([noise_var, np.full((stop - start, past.shape[1]), np.inf)])
        padded = np.concatenate([past, np.zeros((stop - start, past.shape[1]))])
        motion = measured_motion(found[first:start].reshape(start - first, -1))
        found[start:stop] = (
            kalman(padded, noise_var, motion).estimated[start:].reshape(-1, *latents.shape[1:])
        )
    return found


def _runs(missing: np.ndarray, first: int) -> Iterator[tuple[int, int]]:
    """Start and end of every run of missing frames after the first one that arrived."""
    t = first
    while t < len(missing):
        if not missing[t]:
            t += 1
            continue
        start = t
        while t < len(missing) and missing[t]:
            t += 1
        yield start, t


def check_predictor(predictor: str, gate: float | None) -> None:
    """Check predictor and gate of a name.

    Args:
        predictor: Name of the predictor.
        gate: Threshold in units of latents; None for a threshold in proportion to the step.

    Raises:
        InvalidOption: There is no such predictor, or the gate is negative or not finite.
    """
    if predictor not in PREDICTORS:
        raise InvalidOption(f"predictor {predictor!r} of latents: choose one of {', '.join(PREDICTORS)}")
    if gate is not None and not 0 <= gate < math.inf:
        raise InvalidOption(f"gate of {gate}: choose auto, or a finite number, at least 0")


def spelled(predictor: str, gate: float | None) -> str:
    """Canonical name of predictor and gate.

    Args:
        predictor: Name of the predictor.
        gate: Threshold in units of latents, 0 for none; None for a threshold in proportion to the step.

    Returns:
        The name, such as "latent:kalman:auto"; without a gate it has two parts.
    """
    threshold = "auto" if gate is None else digits(gate)
    return ":".join((HEAD, predictor) + ((threshold,) if threshold != "0" else ()))
