"""SoftCast: linear analog transmission of an image's cosine transform, with nothing learned."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy.fft import dctn, idctn
from torch import Tensor

from channels import Received
from channels.constellation import Constellation
from channels.fec.transport import TransportBlock
from channels.symbols import average_power
from channels.symbols import pack as pack_symbols
from semcom.calibration import CosineGain
from semcom.errors import BudgetTooSmall, CorruptPayload, InvalidOption
from semcom.jscc.spectrum import LEVELS, Histogram, Spectrum, Symbol, Unpacker, fits, pack
from semcom.modalities.image import MEAN_COLOR, Image
from semcom.observation import Linear, Observation, Symbols
from semcom.transmission import ChannelKnowledge, Csit, Sent, nothing_sent

QPSK = Constellation(4)

PLANES = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
"""Orthonormal: brightness and two colour differences, near the Karhunen-Loeve transform of photographs."""

SCALE_STEPS = 64  # per octave of amplitude; rounding costs 0.05 dB of power on average
SCALE_VALUES = 512
LOWEST_SNR_DB, HIGHEST_SNR_DB = -20, 60
LEVEL_TABLE = (1,) * len(LEVELS)
SCALE_TABLE = (1,) * SCALE_VALUES
SNR_TABLE = (1,) * (HIGHEST_SNR_DB - LOWEST_SNR_DB + 1)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the data symbols are shared out; both ends know it from the budget and the size of the image.

    The metadata stands at uses spread evenly over the whole, so that it sees as many fading blocks.

    Args:
        data_uses: Data symbols that fit the budget.
        source_dims: Real values of the image.
        code_rate: Of the metadata.
    """

    data_uses: int
    source_dims: int
    code_rate: float

    @property
    def metadata_bits(self) -> int:
        """5 times the cube root of data_uses: at least 56: near the least distortion on photos/val."""
        return max(8 * round(5 / 8 * self.data_uses ** (1 / 3)), 56)

    @property
    def metadata_uses(self) -> int:
        """QPSK symbols of the code word; its CRC has 16 bits."""
        return math.ceil((self.metadata_bits + 16) / (2 * self.code_rate))

    @property
    def coefficients(self) -> int:
        """Coefficients sent, two to a symbol; not positive if the budget is too small."""
        return min(2 * (self.data_uses - self.metadata_uses), self.source_dims)

    @property
    def uses(self) -> int:
        """Symbols sent; fewer than allowed if there are no more coefficients."""
        return self.metadata_uses + -(-self.coefficients // 2)

    @property
    def block(self) -> TransportBlock:
        """The channel code of the metadata."""
        return TransportBlock(self.metadata_bits, 2 * self.metadata_uses, 2)

    def places(self) -> tuple[Int[Tensor, " metadata_uses"], Int[Tensor, " analog_uses"]]:
        """Channel uses of the metadata and of the coefficients."""
        metadata = torch.arange(self.metadata_uses) * self.uses // self.metadata_uses
        free = torch.ones(self.uses, dtype=torch.bool)
        free[metadata] = False
        return metadata, free.nonzero()[:, 0]


@dataclass(frozen=True, eq=False, slots=True)
class Description:
    """All that the receiver is told.

    Args:
        spectrum: Variances of the coefficients.
        snr_db: Which the power was shared out for, whole decibels.
        scale: log2 of the common amplitude, in steps, 0 in the middle.
    """

    spectrum: Spectrum
    snr_db: int
    scale: int = 0

    def symbols(self, csit: Csit) -> list[Symbol]:
        """What is sent; equally long for any scale."""
        header = [(self.spectrum.level, LEVEL_TABLE), (self.scale + SCALE_VALUES // 2, SCALE_TABLE)]
        if csit == "average":
            header.append((self.snr_db - LOWEST_SNR_DB, SNR_TABLE))
        return header + self.spectrum.symbols()

    @classmethod
    def unpack(
        cls, number: int, bits: int, shape: tuple[int, int], csit: Csit, design_snr_db: int
    ) -> "Description":
        """Inverse of `pack(description.symbols(csit), bits)`.

        Raises:
            CorruptPayload: Nobody packed this number.
        """
        message = Unpacker(number, bits)
        level = message.take(LEVEL_TABLE)
        scale = message.take(SCALE_TABLE) - SCALE_VALUES // 2
        snr_db = message.take(SNR_TABLE) + LOWEST_SNR_DB if csit == "average" else design_snr_db
        description = cls(Spectrum.read(message, shape, level), snr_db, scale)
        if pack(description.symbols(csit), bits) != number:
            raise CorruptPayload("the metadata of an analog transmission is not what any transmitter writes")
        return description

    def allocation(self, count: int) -> "Allocation":
        """Which coefficients are sent, and how loud, before the common amplitude."""
        index = self.spectrum.largest(count)
        variance = self.spectrum.variances(index)
        noise_var = 0.5 * 10 ** (-self.snr_db / 10)  # per real value
        power = share_power(variance, count / 2, noise_var)
        unsent = max(self.spectrum.total() - float(variance.sum()), 0.0)
        return Allocation(index, variance, np.sqrt(power / variance), unsent)

    @property
    def amplitude(self) -> float:
        """Common to all coefficients."""
        return 2.0 ** (self.scale / SCALE_STEPS)


@dataclass(frozen=True, eq=False, slots=True)
class Allocation:
    """The coefficients that are sent, largest variance first.

    Args:
        index: Flat, into [3, height, width].
        variance: As the receiver believes.
        amplitude: What each is multiplied by.
        unsent: Sum of the variances of all others.
    """

    index: Int[np.ndarray, " count"]
    variance: Float[np.ndarray, " count"]
    amplitude: Float[np.ndarray, " count"]
    unsent: float


@dataclass(frozen=True)
class SoftCast:
    """Uncoded linear transmission: quality follows the channel without a cliff, and nothing is trained.

        c = cosine transform of the whole image in three decorrelated planes, with variances lambda
        z = a c for the coefficients of largest lambda, two to a symbol
        c_hat = lambda a Re(conj(h) y) / (|h|^2 a^2 lambda + N0/2), 0 for coefficients that were not sent

    The amplitudes minimise the mean squared error at one SNR, a^2 lambda = max(sqrt(lambda)/mu - N0/2, 0);
    at high SNR this is the paper's a = lambda^(-1/4). One common amplitude then brings the symbols to at most
    unit power; where it has to be below 1, the energies are above what is described, and the receiver takes
    lambda over its square. The SNR is `design_snr_db`, or with csit "average" the channel's, which is then
    sent along.

    The receiver needs lambda. The paper sends variances of rectangular chunks; here they are a function of
    log frequency given by few nodes (`Spectrum`), whose 5 cbrt(k) bits travel over the same channel in QPSK
    under an NR LDPC code of low rate, counted like all else. The finest description that fits is sent. If its
    CRC fails the item is an outage. The spectrum also tells the receiver what error to expect: the evidence
    has a `noise_std`, on Kodak within some 15 % of the truth. The paper's Hadamard whitening is left out: it
    spreads packet loss and peak power and changes nothing on a memoryless channel.

    Args:
        csit: "average" gives the power allocation the average SNR.
        design_snr_db: SNR of the power allocation without it, whole decibels in -20..60.
        code_rate: Of the metadata, 0.01..0.9; 0.1 decodes down to about -5 dB.

    Raises:
        InvalidOption: A number out of range.

    Reference:
        Jakubczak and Katabi, A cross-layer design for scalable mobile video, MobiCom 2011, 4.1 to 4.4.
        Lee and Petersen, Optimal linear coding for vector channels, IEEE Trans. Commun. 24(12), 1976.
    """

    csit: Csit = "none"
    design_snr_db: int = 10
    code_rate: float = 0.1

    def __post_init__(self) -> None:
        if not LOWEST_SNR_DB <= self.design_snr_db <= HIGHEST_SNR_DB:
            raise InvalidOption(
                f"design SNR of {self.design_snr_db} dB is outside {LOWEST_SNR_DB}..{HIGHEST_SNR_DB} dB"
            )
        if not 0.01 <= self.code_rate <= 0.9:
            raise InvalidOption(f"metadata code rate of {self.code_rate:g} is outside 0.01..0.9")

    @property
    def name(self) -> str:
        """Canonical spelling."""
        return "softcast" + (":csit-average" if self.csit == "average" else "")

    def send(self, x: Image, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Transform, describe the spectrum, scale the largest coefficients, code the description."""
        layout = Layout(uses, x.numel(), self.code_rate)
        coefficients = transform(x)
        try:
            description = self._describe(coefficients, layout, self._allocation_snr_db(known))
        except BudgetTooSmall as error:
            return nothing_sent(str(error))
        allocation = description.allocation(layout.coefficients)
        values = allocation.amplitude * coefficients.reshape(-1)[allocation.index]
        description = _scaled_to_unit_power(description, values)
        of_metadata, of_coefficients = layout.places()
        symbols = torch.zeros(1, layout.uses, dtype=torch.complex64)
        number = pack(description.symbols(self.csit), layout.metadata_bits)
        metadata = _bits(number, layout.metadata_bits)
        symbols[:, of_metadata] = QPSK.modulate(layout.block.encode(metadata))
        analog = pack_symbols(torch.from_numpy(description.amplitude * values).float()[None])
        # Only pictures that no spectrum of the finest level describes are above unit power here.
        symbols[:, of_coefficients] = analog / average_power(analog).sqrt().clamp_min(1.0)
        peak = symbols.abs().square().max() / average_power(symbols)
        info = {
            "payload_bits": float(layout.metadata_bits),
            "level": float(description.spectrum.level),
            "papr_db": 10 * math.log10(peak),
        }
        return Sent(symbols, info=info)

    def receive(self, received: Received, shape: tuple[int, ...], uses: int) -> list[Observation[Image]]:
        """Decode the metadata, then make the best linear estimate of every coefficient."""
        layout = Layout(uses, math.prod(shape), self.code_rate)
        of_metadata, of_coefficients = layout.places()
        decoded = layout.block.decode(QPSK.exact_llr(_part(received, of_metadata)).cpu())
        analog = _part(received, of_coefficients)
        known: dict[int, Allocation | None] = {}
        observations: list[Observation[Image]] = []
        for i, ok in enumerate(decoded.ok.tolist()):
            number = _number(decoded.bits[i])
            if ok and number not in known:
                known[number] = self._allocation(number, (shape[2], shape[3]), layout)
            allocation = known[number] if ok else None
            if allocation is None:
                observations.append(Observation(None))
                continue
            estimated, error_std = estimate(analog.item(i), allocation, shape)
            symbols = Symbols(estimated, error_std, evidence_of(analog.item(i), allocation, shape))
            observations.append(Observation(estimated, (symbols,)))
        return observations

    def _allocation_snr_db(self, known: ChannelKnowledge | None) -> int:
        if self.csit == "none":
            return self.design_snr_db
        if known is None:
            raise InvalidOption("softcast:csit-average needs the average SNR at the transmitter")
        return round(min(max(known.snr_db, LOWEST_SNR_DB), HIGHEST_SNR_DB))

    def _describe(
        self, coefficients: Float[np.ndarray, "3 height width"], layout: Layout, snr_db: int
    ) -> Description:
        """The finest description that fits."""
        if layout.coefficients < 1:
            raise BudgetTooSmall(
                f"softcast needs {layout.metadata_uses + 1} data symbols, {layout.data_uses} fit; raise rho"
            )
        histograms = tuple(Histogram.of(plane) for plane in coefficients)
        for level in range(len(LEVELS)):
            if Spectrum.least_bits(histograms[0].shape, level) > layout.metadata_bits:
                continue
            description = Description(Spectrum.fit(histograms, level), snr_db)
            if fits(description.symbols(self.csit), layout.metadata_bits):
                return description
        raise BudgetTooSmall(
            f"softcast has {layout.metadata_bits} bits to describe the spectrum, too few for it; raise rho"
        )

    def _allocation(self, number: int, shape: tuple[int, int], layout: Layout) -> "Allocation | None":
        try:
            description = Description.unpack(
                number, layout.metadata_bits, shape, self.csit, self.design_snr_db
            )
        except CorruptPayload:
            return None
        allocation = description.allocation(layout.coefficients)
        amplitude = description.amplitude
        louder = max(amplitude**-2, 1.0)  # the common amplitude tells of energies above what is described
        return Allocation(
            allocation.index,
            louder * allocation.variance,
            amplitude * allocation.amplitude,
            louder * allocation.unsent,
        )


def transform(x: Float[Tensor, "1 3 height width"]) -> Float[np.ndarray, "3 height width"]:
    """Orthonormal cosine transform of the three planes, a constant colour subtracted."""
    centred = x[0].double().cpu().numpy() - np.array(MEAN_COLOR)[:, None, None]
    planes = np.einsum("pc,chw->phw", PLANES, centred)
    return np.asarray(dctn(planes, axes=(1, 2), norm="ortho"))


def inverse_transform(coefficients: Float[np.ndarray, "3 height width"]) -> Float[Tensor, "1 3 height width"]:
    """Inverse of `transform`, clipped to [0, 1]."""
    planes = np.asarray(idctn(coefficients, axes=(1, 2), norm="ortho"))
    x = np.einsum("pc,phw->chw", PLANES, planes) + np.array(MEAN_COLOR)[:, None, None]
    return torch.from_numpy(x.clip(0, 1)).float()[None]


def share_power(
    variance: Float[np.ndarray, " count"], power: float, noise_var: float
) -> Float[np.ndarray, " count"]:
    """Power per coefficient that minimises sum of lambda N / (p + N) with sum of p given.

    p = max(sqrt(lambda) / mu - N, 0).

    Args:
        variance: lambda, falling, above 0.
        power: Sum of p.
        noise_var: N per real value.
    """
    root = np.sqrt(variance)
    sharing = np.arange(1, len(root) + 1)
    slope = (power + sharing * noise_var) / np.cumsum(root)  # 1/mu if so many share
    last = np.flatnonzero(slope * root > noise_var)[-1]
    return np.maximum(slope[last] * root - noise_var, 0)


def estimate(
    analog: Received, allocation: Allocation, shape: tuple[int, ...]
) -> tuple[Float[Tensor, "1 3 height width"], float]:
    """The image of least expected squared error from one reception, and the root of that error per value.

    sum of lambda N / (|h|^2 a^2 lambda + N) over what was sent, and of lambda over what was not, N = N0/2.
    """
    index, variance, amplitude = allocation.index, allocation.variance, allocation.amplitude
    gains, noise_vars, values = _matched(analog, len(index))
    coefficients = np.zeros(math.prod(shape[1:]))
    total = gains * amplitude**2 * variance + noise_vars
    coefficients[index] = variance * amplitude * values / total
    error = float(np.sum(variance * noise_vars / total)) + allocation.unsent
    return inverse_transform(coefficients.reshape(shape[1:])), math.sqrt(error / len(coefficients))


def evidence_of(analog: Received, allocation: Allocation, shape: tuple[int, ...]) -> Linear:
    """One reception as a linear observation of the image with white noise of standard deviation 1.

    Per coefficient c that was sent, h* y / (|h| std) = (|h| a / std) c + n with std^2 = N0/2: noise and
    fading that vary over the symbols reach the receiver as they are.
    """
    index = allocation.index
    gains, noise_vars, values = _matched(analog, len(index))
    heard = gains > 0
    weights, whitened = np.zeros((2, math.prod(shape[1:])))
    weights[index] = allocation.amplitude * np.sqrt(gains / noise_vars)
    whitened[index] = np.where(heard, values / np.sqrt(np.where(heard, gains, 1.0) * noise_vars), 0.0)
    operator = CosineGain(torch.from_numpy(weights).float().reshape(1, *shape[1:]))
    color = torch.tensor(MEAN_COLOR)[:, None, None].expand(1, *shape[1:])
    y = torch.from_numpy(whitened).float().reshape(1, *shape[1:]) + operator.A(color)
    return Linear(y, operator)


def _matched(analog: Received, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per real value: |h|^2, N0/2, and the matched filter's output h* y."""
    gain = (analog.h.real.double().square() + analog.h.imag.double().square())[0]
    noise_var = analog.noise_var[0].double().expand_as(gain) / 2
    matched = torch.view_as_real((analog.h.conj() * analog.y)[0]).reshape(-1).double()
    per_value = [part.repeat_interleave(2).cpu().numpy() for part in (gain, noise_var)]
    gains, noise_vars, values = (part[:count] for part in (*per_value, matched.cpu().numpy()))
    return gains, noise_vars, values


def _scaled_to_unit_power(description: Description, values: Float[np.ndarray, " count"]) -> Description:
    """The largest common amplitude with which the symbols have at most unit power."""
    uses = -(-len(values) // 2)
    room = math.log2(math.sqrt(uses / max(float(np.sum(values**2)), 1e-30)))
    scale = math.floor(room * SCALE_STEPS)
    return replace(description, scale=min(max(scale, -SCALE_VALUES // 2), SCALE_VALUES // 2 - 1))


def _part(received: Received, places: Int[Tensor, " some"]) -> Received:
    noise_var = received.noise_var
    noise_var = noise_var if noise_var.shape[1] == 1 else noise_var[:, places]
    return Received(received.y[:, places], received.h[:, places], noise_var)


def _bits(number: int, count: int) -> UInt8[Tensor, "1 {count}"]:
    return torch.tensor([[int(digit) for digit in f"{number:0{count}b}"]], dtype=torch.uint8)


def _number(bits: UInt8[Tensor, " count"]) -> int:
    return int("".join(map(str, bits.tolist())), 2)
