"""Latents of clips as analog symbols, filtered and predicted at the receiver.

    frame t -> latents z_t -> two values per symbol, gain g -> channel -> y = h g z + n
    measurement of z with noise variance N0 / (2 g^2 sum |h|^2) -> Kalman filter over time -> decoder

Frame after frame is sent, and not spread over the transmission as other analog schemes do: a fade or a lost
packet then hits few frames, whose latents are predicted from those before.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from channels import Constellation, Received
from channels.fec import TransportBlock
from channels.symbols import pack
from semcom.analog import papr_db
from semcom.errors import InvalidOption
from semcom.modalities.video import Clip, ClipShape
from semcom.observation import Decoded, Gaps, Observation
from semcom.representation.kalman import Motion, kalman, measured_motion
from semcom.representation.latents import clip_of, latents_of, tiles_of
from semcom.representation.link import LARGEST, check_predictor, spelled
from semcom.representation.straightening import StraightAutoencoder
from semcom.transmission import ChannelKnowledge, Csit, Sent, nothing_sent

QPSK = Constellation(4)
CODE_RATE = 0.1
"""Code rate of the metadata, which can be decoded down to about -5 dB."""
NUMBER_BITS = 8
NUMBERS = 4  # gain, variances of acceleration and velocity, damping
GAIN_STEPS, VARIANCE_STEPS = 16, 4  # per octave
MIDDLE = 1 << (NUMBER_BITS - 1)
FULL = (1 << NUMBER_BITS) - 1


@dataclass(frozen=True)
class AnalogLatents:
    """Analog transmission of a clip by latents, with prediction over time at the receiver.

    Metadata of 32 bits (gain, and the measured motion of the latents), with a gate also one bit per frame and
    tile, are sent as QPSK with an LDPC code of rate 0.1 and a CRC, spread evenly over the transmission, and
    counted; without them the clip is lost. All other symbols are shared evenly by the tiles that are sent. If
    a tile has fewer symbols than half of its values, values take turns from frame to frame; if it has more,
    values are repeated, again taking turns.

    How the receiver estimates a value from its measurements:

    - "intra": the estimate of least mean squared error from the measurement of this frame; 0 if there is none
    - "repeat": the same; the last estimate if there is no measurement
    - "linear": the same; extrapolated from the last two estimates if there is no measurement
    - "kalman": from all measurements so far, by the damped constant-velocity Kalman filter

    Args:
        network: Encoder and decoder of frames of three colours.
        predictor: "intra", "repeat", "linear" or "kalman".
        gate: Largest root of the mean squared error, in units of latents, with which a tile may be predicted
            from the tiles sent before, without noise, in place of being sent; 0 sends all.

    Raises:
        InvalidOption: There is no such predictor, the gate is negative or not finite, or the network codes
            grey frames.
    """

    network: StraightAutoencoder
    predictor: str = "kalman"
    gate: float = 0.0
    _exact: StraightAutoencoder = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_predictor(self.predictor, self.gate)
        if self.network.colors != 3:
            raise InvalidOption(f"network of {self.network.colors} colour: the latents of clips need 3")
        object.__setattr__(self, "_exact", self.network.in_fixed_point())

    @property
    def name(self) -> str:
        """Canonical name, such as "latent:kalman" or "latent:kalman:0.25"."""
        return spelled(self.predictor, self.gate)

    @property
    def csit(self) -> Csit:
        """Channel knowledge at the transmitter: always "none"."""
        return "none"

    def send(self, x: Clip, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Encode the frames, choose those that are sent, and map their latents to symbols."""
        z = np.clip(latents_of(self.network, x), -LARGEST, LARGEST)
        layout = self._layout(z.shape[0], z.shape[1], uses)
        if layout.analog_uses < z.shape[0] * z.shape[1]:
            return nothing_sent(
                f"{self.name} needs {layout.metadata_uses + z.shape[0] * z.shape[1]} data symbols for "
                f"{z.shape[0]} frames of {z.shape[1]} tiles, {uses} fit; raise rho"
            )
        motion = measured_motion(z.reshape(len(z), -1))
        sent = self._chosen(z, motion)
        values = z[layout.places(sent)]
        power = 2 * float(np.square(values).mean())  # of a symbol
        metadata = Metadata.of(power, motion)
        of_metadata, of_latents = layout.division()
        symbols = torch.zeros(1, uses, dtype=torch.complex64)
        bits = torch.from_numpy(metadata.bits(sent if self.gate else None))
        symbols[:, of_metadata] = QPSK.modulate(layout.block.encode(bits[None]))
        symbols[:, of_latents] = pack(torch.from_numpy(metadata.gain * values).float()[None])
        info = {
            "payload_bits": float(len(bits)),
            "sent_share": float(sent.mean()),
            "papr_db": papr_db(symbols),
        }
        return Sent(symbols, info=info)

    def receive(self, received: Received, shape: ClipShape, uses: int) -> list[Observation[Clip]]:
        """Decode the metadata, measure the latents, and filter them; without metadata the clip is lost."""
        tiles = math.prod(tiles_of(shape.height, shape.width))
        layout = self._layout(shape.frames, tiles, uses)
        of_metadata, of_latents = layout.division()
        decoded = layout.block.decode(QPSK.exact_llr(_part(received, of_metadata)).cpu())
        heard = _part(received, of_latents)
        found: list[Observation[Clip]] = []
        for item, ok in enumerate(decoded.ok.tolist()):
            if not ok:
                found.append(Observation(None))
                continue
            bits = decoded.bits[item].cpu().numpy()
            metadata = Metadata.read(bits)
            sent = np.ones((shape.frames, tiles), bool)
            if self.gate:
                sent = bits[NUMBERS * NUMBER_BITS :].reshape(sent.shape).astype(bool)
            if not sent.any():  # no transmitter writes that
                found.append(Observation(None))
                continue
            y, noise_var = measured(heard.item(item), layout.places(sent), layout.shape, metadata.gain)
            lost = sent.any(1) & ~np.isfinite(noise_var).any((1, 2))
            latents = estimated(y, noise_var, metadata.motion, self.predictor)
            clip = clip_of(self._exact, latents, shape)
            evidence = Gaps(clip, tuple(lost.tolist())) if lost.any() else Decoded(clip)
            found.append(Observation(clip, (evidence,), {"frame_loss": float(lost.mean())}))
        return found

    def _layout(self, frames: int, tiles: int, uses: int) -> "Layout":
        return Layout(uses, (frames, tiles, self.network.dims), bool(self.gate))

    def _chosen(self, z: Float[np.ndarray, "frames tiles dims"], motion: Motion) -> Bool[np.ndarray, "..."]:
        """Which tiles are sent: those that are not predicted from the ones before, and the first ones."""
        sent = np.ones(z.shape[:2], bool)
        if not self.gate:
            return sent
        damping = {"linear": 1.0, "kalman": motion.damping}.get(self.predictor, 0.0)
        position, velocity = z[0], np.zeros_like(z[0])
        for t in range(1, len(z)):
            velocity = damping * velocity
            predicted = np.zeros_like(z[0]) if self.predictor == "intra" else position + velocity
            sent[t] = np.square(z[t] - predicted).mean(1) > self.gate**2
            now = np.where(sent[t][:, None], z[t], predicted)
            velocity = np.where(sent[t][:, None], now - position, velocity)
            position = now
        return sent


@dataclass(frozen=True, slots=True)
class Layout:
    """Division of the data symbols into metadata and latents, known to both ends.

    Args:
        uses: Number of data symbols.
        shape: Frames, tiles and dimensions of a latent.
        gated: Whether the metadata say which tiles are sent.
    """

    uses: int
    shape: tuple[int, int, int]
    gated: bool

    @property
    def metadata_bits(self) -> int:
        """Length of the metadata in bits, without CRC."""
        return NUMBERS * NUMBER_BITS + self.gated * self.shape[0] * self.shape[1]

    @property
    def metadata_uses(self) -> int:
        """Number of QPSK symbols of the metadata's code word."""
        return math.ceil((self.metadata_bits + 16) / (2 * CODE_RATE))

    @property
    def analog_uses(self) -> int:
        """Number of symbols of latents; below the number of tiles nothing is sent."""
        return self.uses - self.metadata_uses

    @property
    def block(self) -> TransportBlock:
        """Transport block of the metadata."""
        return TransportBlock(self.metadata_bits, 2 * self.metadata_uses, 2)

    def division(self) -> tuple[Int[Tensor, " metadata_uses"], Int[Tensor, " analog_uses"]]:
        """Positions of metadata, evenly spread, and of latents among the data symbols."""
        metadata = torch.arange(self.metadata_uses) * self.uses // self.metadata_uses
        free = torch.ones(self.uses, dtype=torch.bool)
        free[metadata] = False
        return metadata, free.nonzero()[:, 0]

    def places(self, sent: Bool[np.ndarray, "frames tiles"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Frame, tile and dimension of every real value that is sent, in order, two per symbol.

        Args:
            sent: Which tiles are sent, at least one.

        Returns:
            Three index arrays, [2 analog_uses].
        """
        frames, tiles = np.nonzero(sent)
        share, more = divmod(self.analog_uses, len(frames))
        counts = 2 * (share + (np.arange(len(frames)) < more))
        # a tile goes on with the value after the last one that it sent in an earlier frame
        starts = np.zeros(len(frames), np.int64)
        for tile in range(self.shape[1]):
            own = tiles == tile
            starts[own] = np.cumsum(counts[own]) - counts[own]
        number = np.arange(counts.sum()) - (np.cumsum(counts) - counts).repeat(counts)
        return (
            frames.repeat(counts),
            tiles.repeat(counts),
            (starts.repeat(counts) + number) % self.shape[2],
        )


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata of an analog transmission: four numbers of 8 bits each.

    Args:
        numbers: Gain, variance of acceleration, variance of velocity, damping, as whole numbers.
    """

    numbers: tuple[int, int, int, int]

    @classmethod
    def of(cls, power: float, motion: Motion) -> "Metadata":
        """Numbers for symbols of a power before the gain, and for a motion.

        Args:
            power: Mean square of the symbols before the gain.
            motion: Measured motion of the latents.

        Returns:
            Numbers whose gain brings the power to 1 at most.
        """
        gain = math.floor(-GAIN_STEPS / 2 * math.log2(max(power, 1e-12))) + MIDDLE
        variances = (
            round(VARIANCE_STEPS * math.log2(max(value, 1e-12))) + MIDDLE
            for value in (motion.acceleration_var, motion.velocity_var)
        )
        numbers = (gain, *variances, round(FULL * motion.damping))
        a, b, c, d = (min(max(number, 0), FULL) for number in numbers)
        return cls((a, b, c, d))

    @classmethod
    def read(cls, bits: np.ndarray) -> "Metadata":
        """Numbers of decoded metadata.

        Args:
            bits: Bits of the metadata; those after the numbers are left out.

        Returns:
            The numbers.
        """
        packed = np.packbits(bits[: NUMBERS * NUMBER_BITS].astype(np.uint8))
        a, b, c, d = packed.tolist()
        return cls((a, b, c, d))

    def bits(self, sent: Bool[np.ndarray, "frames tiles"] | None) -> np.ndarray:
        """Bits of the metadata: the numbers, and one bit per tile if there is a gate.

        Args:
            sent: Which tiles are sent; None without a gate.

        Returns:
            Bits, uint8.
        """
        numbers = np.unpackbits(np.array(self.numbers, np.uint8))
        return numbers if sent is None else np.concatenate([numbers, sent.ravel().astype(np.uint8)])

    @property
    def gain(self) -> float:
        """Factor between latents and the real parts of symbols."""
        return 2.0 ** ((self.numbers[0] - MIDDLE) / GAIN_STEPS)

    @property
    def motion(self) -> Motion:
        """Motion of the latents, whose variance follows from the gain, since the power sent is 1."""
        acceleration, velocity = (2.0 ** ((n - MIDDLE) / VARIANCE_STEPS) for n in self.numbers[1:3])
        return Motion(acceleration, self.numbers[3] / FULL, velocity, 0.5 / self.gain**2)


def measured(
    heard: Received,
    places: tuple[np.ndarray, np.ndarray, np.ndarray],
    shape: tuple[int, int, int],
    gain: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Measurements of latents from all symbols that carry them, by maximum ratio combining.

    Args:
        heard: One reception of the symbols of latents, y [1, uses].
        places: Frame, tile and dimension of every real value, [2 uses].
        shape: Frames, tiles and dimensions of a latent.
        gain: Factor between latents and the real parts of symbols, above 0.

    Returns:
        Measurements and their noise variances, both [frames, tiles, dims]; infinite where nothing arrived.
    """
    y, h = (value[0].cpu().numpy().astype(np.complex128) for value in (heard.y, heard.h))
    noise_var = np.maximum(heard.noise_var[0].cpu().numpy().astype(np.float64), 1e-12)
    matched = np.conj(h) * y * (gain * 2 / noise_var)
    weight = np.broadcast_to(np.abs(h) ** 2 * (gain**2 * 2 / noise_var), y.shape)
    total, precision = np.zeros(shape), np.zeros(shape)
    np.add.at(total, places, np.stack([matched.real, matched.imag], 1).ravel())
    np.add.at(precision, places, weight.repeat(2))
    there = precision > 0
    safe = np.where(there, precision, 1.0)
    return np.where(there, total / safe, 0.0), np.where(there, 1 / safe, np.inf)


def estimated(y: np.ndarray, noise_var: np.ndarray, motion: Motion, predictor: str) -> np.ndarray:
    """Estimate latents from their measurements, see `AnalogLatents`.

    Args:
        y: Measurements, [frames, tiles, dims].
        noise_var: Variances of their noise, infinite where nothing arrived.
        motion: Motion of the latents.
        predictor: "intra", "repeat", "linear" or "kalman".

    Returns:
        Estimates, [frames, tiles, dims].
    """
    flat, noise = y.reshape(len(y), -1), noise_var.reshape(len(y), -1)
    if predictor == "kalman":
        return kalman(flat, noise, motion).estimated.reshape(y.shape)
    prior = max(motion.position_var, 1e-12)
    shown = flat * prior / (prior + np.where(np.isfinite(noise), noise, 0))
    there = np.isfinite(noise)
    found = np.where(there, shown, 0.0)
    if predictor != "intra":
        slope = np.zeros(found.shape[1])
        for t in range(1, len(found)):
            before = found[t - 1]
            found[t] = np.where(there[t], found[t], before + (slope if predictor == "linear" else 0))
            slope = found[t] - before
    return found.reshape(y.shape)


def _part(received: Received, places: Int[Tensor, " some"]) -> Received:
    noise_var = received.noise_var
    noise_var = noise_var if noise_var.shape[1] == 1 else noise_var[:, places]
    return Received(received.y[:, places], received.h[:, places], noise_var)
