"""SoftCast: linear analog transmission of the cosine transform of a picture, without training."""

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
from channels.spreading import despread, spread
from channels.symbols import average_power
from channels.symbols import pack as pack_symbols
from semcom.calibration import CosineGain
from semcom.colors import MEAN_COLOR
from semcom.errors import BudgetTooSmall, CorruptPayload, InvalidOption
from semcom.jscc.spectrum import LEVELS, Described, Model, PictureModel, Symbol, Unpacker, fits, pack
from semcom.modalities.image import Image
from semcom.observation import Linear, Observation, Symbols
from semcom.transmission import ChannelKnowledge, Csit, Sent, nothing_sent

QPSK = Constellation(4)

PLANES = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
"""Orthonormal rows for brightness and two colour differences, close to the KLT of photographs."""

SCALE_STEPS = 64  # steps per octave of amplitude; rounding costs 0.05 dB of power on average
SCALE_VALUES = 512
LOWEST_SNR_DB, HIGHEST_SNR_DB = -20, 60
LEVEL_TABLE = (1,) * len(LEVELS)
SCALE_TABLE = (1,) * SCALE_VALUES
SNR_TABLE = (1,) * (HIGHEST_SNR_DB - LOWEST_SNR_DB + 1)


@dataclass(frozen=True, slots=True)
class Layout:
    """Division of the data symbols into metadata and coefficients, known to both ends.

    The metadata symbols are spread evenly over the whole transmission for diversity against block fading.

    Args:
        data_uses: Number of data symbols allowed.
        source_dims: Number of real values of the item, for a picture 3 x height x width.
        code_rate: Code rate of the metadata, 0.01 to 0.9.
        spectra: Number of plane spectra in the metadata, 1 for a picture.
    """

    data_uses: int
    source_dims: int
    code_rate: float
    spectra: int = 1

    @property
    def metadata_bits(self) -> int:
        """Length of the metadata in bits: a multiple of 8, at least 56 for a picture.

        It is about 5 s cbrt(data_uses / s) for s spectra, which for pictures is close to the length of least
        distortion on validation photographs.
        """
        bits = 5 / 8 * self.spectra * (self.data_uses / self.spectra) ** (1 / 3)
        return max(8 * round(bits), 8 + 48 * self.spectra)  # flat items need some 45 per spectrum

    @property
    def metadata_uses(self) -> int:
        """Number of QPSK symbols of the metadata's code word, including a CRC of 16 bits."""
        return math.ceil((self.metadata_bits + 16) / (2 * self.code_rate))

    @property
    def coefficients(self) -> int:
        """Number of coefficients sent, two per symbol; 0 or negative if the data symbols are too few."""
        return min(2 * (self.data_uses - self.metadata_uses), self.source_dims)

    @property
    def uses(self) -> int:
        """Number of data symbols sent; fewer than allowed if all coefficients are sent."""
        return self.metadata_uses + -(-self.coefficients // 2)

    @property
    def block(self) -> TransportBlock:
        """Transport block of the metadata: LDPC code with CRC, two coded bits per symbol."""
        return TransportBlock(self.metadata_bits, 2 * self.metadata_uses, 2)

    def places(self) -> tuple[Int[Tensor, " metadata_uses"], Int[Tensor, " analog_uses"]]:
        """Positions of metadata and coefficients among the data symbols.

        Returns:
            Positions of the metadata symbols, [metadata_uses], and of all others, [uses - metadata_uses].
        """
        metadata = torch.arange(self.metadata_uses) * self.uses // self.metadata_uses
        free = torch.ones(self.uses, dtype=torch.bool)
        free[metadata] = False
        return metadata, free.nonzero()[:, 0]


@dataclass(frozen=True, eq=False, slots=True)
class Description:
    """Metadata of a transmission: everything that the receiver has to know to decode the coefficients.

    Args:
        spectrum: Variances of the coefficients, such as a `Spectrum`.
        snr_db: SNR in dB for which the power is allocated, a whole number.
        scale: Common amplitude in steps of 1 / SCALE_STEPS octaves, -256 to 255; 0 stands for amplitude 1.
    """

    spectrum: Described
    snr_db: int
    scale: int = 0

    def symbols(self, csit: Csit) -> list[Symbol]:
        """Metadata as values for entropy coding; the code length does not depend on `scale`.

        Args:
            csit: "average" includes the SNR, "none" does not.

        Returns:
            Values with their frequency tables.
        """
        header = [(self.spectrum.level, LEVEL_TABLE), (self.scale + SCALE_VALUES // 2, SCALE_TABLE)]
        if csit == "average":
            header.append((self.snr_db - LOWEST_SNR_DB, SNR_TABLE))
        return header + self.spectrum.symbols()

    @classmethod
    def unpack(cls, number: int, bits: int, model: Model, csit: Csit, design_snr_db: int) -> "Description":
        """Decode metadata, the inverse of `pack(description.symbols(csit), bits)`.

        Args:
            number: Received metadata as a number, 0 to 2^bits - 1.
            bits: Length of the metadata in bits.
            model: Rule of the description, for the shape of the item.
            csit: "average" if the metadata includes the SNR.
            design_snr_db: SNR of the power allocation in dB if it does not.

        Returns:
            The metadata.

        Raises:
            CorruptPayload: No metadata is coded as this number.
        """
        message = Unpacker(number, bits)
        level = message.take(LEVEL_TABLE)
        scale = message.take(SCALE_TABLE) - SCALE_VALUES // 2
        snr_db = message.take(SNR_TABLE) + LOWEST_SNR_DB if csit == "average" else design_snr_db
        description = cls(model.read(message, level), snr_db, scale)
        if pack(description.symbols(csit), bits) != number:
            raise CorruptPayload("the metadata of an analog transmission is not what any transmitter writes")
        return description

    def allocation(self, count: int) -> "Allocation":
        """Choose the coefficients to send, and their amplitudes without the common amplitude.

        Args:
            count: Number of coefficients to send, at least 1.

        Returns:
            The coefficients of largest variance, with the amplitudes of least mean squared error at `snr_db`.
        """
        index = self.spectrum.largest(count)
        variance = self.spectrum.variances(index)
        noise_var = 0.5 * 10 ** (-self.snr_db / 10)  # per real value
        power = share_power(variance, count / 2, noise_var)
        unsent = max(self.spectrum.total() - float(variance.sum()), 0.0)
        return Allocation(index, variance, np.sqrt(power / variance), unsent)

    @property
    def amplitude(self) -> float:
        """Amplitude common to all coefficients, 2^(scale / SCALE_STEPS)."""
        return 2.0 ** (self.scale / SCALE_STEPS)


@dataclass(frozen=True, eq=False, slots=True)
class Allocation:
    """Coefficients that are sent, largest variance first, and their amplitudes.

    Args:
        index: Flat indices into the coefficients of the item, for a picture [3, height, width]; [count].
        variance: Variance lambda of every coefficient according to the metadata, above 0, [count].
        amplitude: Factor a by which every coefficient is multiplied, at least 0, [count].
        unsent: Sum of the variances of all coefficients that are not sent.
    """

    index: Int[np.ndarray, " count"]
    variance: Float[np.ndarray, " count"]
    amplitude: Float[np.ndarray, " count"]
    unsent: float


@dataclass(frozen=True)
class SoftCast:
    """Uncoded linear transmission without training: quality follows the channel SNR without a cliff.

        c = cosine transform of the whole picture in three decorrelated planes, with variances lambda
        z = a c for the coefficients of largest lambda, two per symbol;  U z is sent
        y = g z + n, after `despread`
        c_hat = lambda a g y / (g^2 a^2 lambda + N0/2), 0 for coefficients that were not sent

    The amplitudes minimise the mean squared error at one SNR, a^2 lambda = max(sqrt(lambda)/mu - N0/2, 0); at
    high SNR this is a = lambda^(-1/4) as in the paper. The SNR is `design_snr_db`, or with csit "average"
    that of the channel, which is then part of the metadata. A common amplitude brings the symbols to a power
    of at most 1. If it is below 1, the picture has more energy than lambda describes, and the receiver
    divides lambda by its square.

    The receiver needs lambda. The paper sends the variances of rectangular chunks; here they are a function
    of log frequency with few nodes (`Spectrum`). Its description of about 5 cbrt(k) bits is sent over the
    same channel as QPSK symbols with an NR LDPC code of low rate, and is counted. The finest description that
    fits is sent. If its CRC fails, the picture is lost. The spectrum also predicts the error, whose standard
    deviation is part of the evidence; on Kodak it is within about 15 % of the true one.

    The analog symbols are whitened by a unitary transform U over all of them (`channels.spreading`), where
    the paper applies a Hadamard transform to groups of packets: the symbols of the lowest frequencies, up to
    1000 times stronger than the average, would be clipped by any amplifier, and a lost packet would lose
    them. On a channel of constant gain this changes nothing. The metadata symbols are not whitened.

    Args:
        csit: "average" allocates power for the average SNR, "none" for `design_snr_db`.
        design_snr_db: SNR of the power allocation without CSIT in dB, a whole number from -20 to 60.
        code_rate: Code rate of the metadata, 0.01 to 0.9; 0.1 can be decoded down to about -5 dB.

    Raises:
        InvalidOption: A number is out of range.

    Reference:
        Jakubczak and Katabi, A cross-layer design for scalable mobile video, MobiCom 2011, 4.1 to 4.4. Lee
        and Petersen, Optimal linear coding for vector channels, IEEE Trans. Commun. 24(12), 1976.
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
        """Canonical name: "softcast" or "softcast:csit-average"."""
        return "softcast" + (":csit-average" if self.csit == "average" else "")

    def send(self, x: Image, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Transform the picture, scale the coefficients of largest variance, and encode the metadata."""
        return self.send_coefficients(transform(x), PictureModel((x.shape[2], x.shape[3])), uses, known)

    def receive(self, received: Received, shape: tuple[int, ...], uses: int) -> list[Observation[Image]]:
        """Decode the metadata, then estimate every coefficient linearly with least mean squared error."""
        observations: list[Observation[Image]] = []
        for found in self.receive_coefficients(received, PictureModel((shape[2], shape[3])), uses):
            if found is None:
                observations.append(Observation(None))
                continue
            heard, allocation = found
            estimated, error_std = estimate(heard, allocation, shape)
            symbols = Symbols(estimated, error_std, evidence_of(heard, allocation, shape))
            observations.append(Observation(estimated, (symbols,)))
        return observations

    def send_coefficients(
        self, coefficients: np.ndarray, model: Model, uses: int, known: ChannelKnowledge | None
    ) -> Sent:
        """Scale the coefficients of largest variance, and encode the metadata.

        Args:
            coefficients: Orthonormal cosine coefficients of an item, of any shape.
            model: Rule by which their variances are described.
            uses: Number of data symbols allowed, at least 0.
            known: The channel's law and average SNR; None if `csit` is "none".

        Returns:
            The symbols, whose number is `layout(model, uses).uses`; no symbols and a cause if the metadata do
            not fit.

        Raises:
            InvalidOption: `known` is None, but `csit` is "average".
        """
        layout = self.layout(model, uses)
        try:
            description = self._describe(coefficients, model, layout, self._allocation_snr_db(known))
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
        # The power exceeds 1 here only if the item needs a common amplitude below the smallest one coded.
        symbols[:, of_coefficients] = spread(analog / average_power(analog).sqrt().clamp_min(1.0))
        peak = symbols.abs().square().max() / average_power(symbols)
        info = {
            "payload_bits": float(layout.metadata_bits),
            "level": float(description.spectrum.level),
            "papr_db": 10 * math.log10(peak),
        }
        return Sent(symbols, info=info)

    def receive_coefficients(
        self, received: Received, model: Model, uses: int
    ) -> list[tuple[Received, Allocation] | None]:
        """Decode the metadata, and undo the whitening of the coefficients' symbols.

        Args:
            received: Batch of receptions of the symbols of `send_coefficients`.
            model: Rule by which the variances are described.
            uses: Number of data symbols that `send_coefficients` was allowed.

        Returns:
            Per reception the symbols of the coefficients, y [1, uses], and which coefficients they carry;
            None if the metadata were lost.
        """
        layout = self.layout(model, uses)
        of_metadata, of_coefficients = layout.places()
        decoded = layout.block.decode(QPSK.exact_llr(_part(received, of_metadata)).cpu())
        analog = _part(received, of_coefficients)
        known: dict[int, Allocation | None] = {}
        found: list[tuple[Received, Allocation] | None] = []
        for i, ok in enumerate(decoded.ok.tolist()):
            number = _number(decoded.bits[i])
            if ok and number not in known:
                known[number] = self._allocation(number, model, layout)
            allocation = known[number] if ok else None
            found.append(None if allocation is None else (despread(analog.item(i)), allocation))
        return found

    def layout(self, model: Model, uses: int) -> Layout:
        """Division of the data symbols into metadata and coefficients.

        Args:
            model: Rule by which the variances are described.
            uses: Number of data symbols allowed, at least 0.

        Returns:
            The division.
        """
        return Layout(uses, model.values, self.code_rate, model.spectra)

    def _allocation_snr_db(self, known: ChannelKnowledge | None) -> int:
        if self.csit == "none":
            return self.design_snr_db
        if known is None:
            raise InvalidOption("softcast:csit-average needs the average SNR at the transmitter")
        return round(min(max(known.snr_db, LOWEST_SNR_DB), HIGHEST_SNR_DB))

    def _describe(self, coefficients: np.ndarray, model: Model, layout: Layout, snr_db: int) -> Description:
        """The finest spectrum whose description fits the metadata."""
        if layout.coefficients < 1:
            raise BudgetTooSmall(
                f"softcast needs {layout.metadata_uses + 1} data symbols, {layout.data_uses} fit; raise rho"
            )
        spectrum = model.fits(coefficients)
        for level in range(len(LEVELS)):
            if model.least_bits(level) > layout.metadata_bits:
                continue
            description = Description(spectrum(level), snr_db)
            if fits(description.symbols(self.csit), layout.metadata_bits):
                return description
        raise BudgetTooSmall(
            f"softcast has {layout.metadata_bits} bits to describe the spectrum, too few for it; raise rho"
        )

    def _allocation(self, number: int, model: Model, layout: Layout) -> Allocation | None:
        try:
            description = Description.unpack(
                number, layout.metadata_bits, model, self.csit, self.design_snr_db
            )
        except CorruptPayload:
            return None
        allocation = description.allocation(layout.coefficients)
        amplitude = description.amplitude
        louder = max(amplitude**-2, 1.0)  # an amplitude below 1 means more energy than the spectrum describes
        return Allocation(
            allocation.index,
            louder * allocation.variance,
            amplitude * allocation.amplitude,
            louder * allocation.unsent,
        )


def transform(x: Float[Tensor, "1 3 height width"]) -> Float[np.ndarray, "3 height width"]:
    """Orthonormal cosine transform of the three decorrelated planes, after subtraction of the mean colour.

    Args:
        x: A picture, [1, 3, height, width] in [0, 1].

    Returns:
        Coefficients in double precision, [3, height, width].
    """
    centred = x[0].double().cpu().numpy() - np.array(MEAN_COLOR)[:, None, None]
    planes = np.einsum("pc,chw->phw", PLANES, centred)
    return np.asarray(dctn(planes, axes=(1, 2), norm="ortho"))


def inverse_transform(coefficients: Float[np.ndarray, "3 height width"]) -> Float[Tensor, "1 3 height width"]:
    """Picture of given cosine coefficients, the inverse of `transform`, clipped to [0, 1].

    Args:
        coefficients: Coefficients of the three planes, [3, height, width].

    Returns:
        The picture, [1, 3, height, width].
    """
    planes = np.asarray(idctn(coefficients, axes=(1, 2), norm="ortho"))
    x = np.einsum("pc,phw->chw", PLANES, planes) + np.array(MEAN_COLOR)[:, None, None]
    return torch.from_numpy(x.clip(0, 1)).float()[None]


def share_power(
    variance: Float[np.ndarray, " count"], power: float, noise_var: float
) -> Float[np.ndarray, " count"]:
    """Allocate power to coefficients for the least sum of lambda N / (p + N) at a given sum of p.

    The solution is p = max(sqrt(lambda) / mu - N, 0), where mu is set by the sum of p.

    Args:
        variance: lambda, descending, above 0, [count].
        power: Sum of p over all coefficients, above 0.
        noise_var: N, noise variance per real value, at least 0.

    Returns:
        p per coefficient, at least 0, [count].

    Reference:
        Lee and Petersen, Optimal linear coding for vector channels, IEEE Trans. Commun. 24(12), 1976.
    """
    root = np.sqrt(variance)
    sharing = np.arange(1, len(root) + 1)
    slope = (power + sharing * noise_var) / np.cumsum(root)  # 1/mu if so many share
    last = np.flatnonzero(slope * root > noise_var)[-1]
    return np.maximum(slope[last] * root - noise_var, 0)


def estimate(
    analog: Received, allocation: Allocation, shape: tuple[int, ...]
) -> tuple[Float[Tensor, "1 3 height width"], float]:
    """Linear minimum mean square error estimate of a picture from one reception, and its expected error.

    The expected squared error is the sum of lambda N / (|h|^2 a^2 lambda + N) over all coefficients sent,
    with N = N0/2, plus the sum of lambda over all others.

    Args:
        analog: One reception of the coefficients, y [1, uses], with h and N0.
        allocation: Coefficients sent, with their variances and amplitudes.
        shape: Shape of the picture, (1, 3, height, width).

    Returns:
        The picture, [1, 3, height, width] in [0, 1], and the root of the expected squared error per value.
    """
    coefficients, error_std = estimated_coefficients(analog, allocation, math.prod(shape[1:]))
    return inverse_transform(coefficients.reshape(shape[1:])), error_std


def estimated_coefficients(
    analog: Received, allocation: Allocation, count: int
) -> tuple[Float[np.ndarray, " count"], float]:
    """Linear minimum mean square error estimate of all coefficients, and its expected error (see `estimate`).

    Args:
        analog: One reception of the coefficients, y [1, uses], with h and N0.
        allocation: Coefficients sent, with their variances and amplitudes.
        count: Number of coefficients of the item.

    Returns:
        The coefficients in flat order, [count], and the root of the expected squared error per value.
    """
    index, variance, amplitude = allocation.index, allocation.variance, allocation.amplitude
    gains, noise_vars, values = _matched(analog, len(index))
    coefficients = np.zeros(count)
    total = gains * amplitude**2 * variance + noise_vars
    coefficients[index] = variance * amplitude * values / total
    error = float(np.sum(variance * noise_vars / total)) + allocation.unsent
    return coefficients, math.sqrt(error / count)


def evidence_of(analog: Received, allocation: Allocation, shape: tuple[int, ...]) -> Linear:
    """Express one reception as a linear observation of the picture with white noise of standard deviation 1.

    For every coefficient c sent, with std^2 = N0/2,

        Re(conj(h) y) / (|h| std) = (|h| a / std) c + n,

    so that fading and noise that vary over the symbols are represented exactly.

    Args:
        analog: One reception of the coefficients, y [1, uses], with h and N0.
        allocation: Coefficients sent, with their amplitudes.
        shape: Shape of the picture, (1, 3, height, width).

    Returns:
        The observation through a `CosineGain`, with gain 0 for coefficients that were not sent.
    """
    index = allocation.index
    gains, noise_vars, values = _matched(analog, len(index))
    heard = gains > 0
    weights, whitened = np.zeros((2, math.prod(shape[1:])))
    weights[index] = allocation.amplitude * np.sqrt(gains / noise_vars)
    whitened[index] = np.where(heard, values / np.sqrt(np.where(heard, gains, 1.0) * noise_vars), 0.0)
    operator = CosineGain(torch.from_numpy(weights).float().reshape(1, *shape[1:]))
    color = torch.tensor(MEAN_COLOR, dtype=torch.float32)[:, None, None].expand(1, *shape[1:])
    y = torch.from_numpy(whitened).float().reshape(1, *shape[1:]) + operator.A(color)
    return Linear(y, operator)


def _matched(analog: Received, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """|h|^2, N0/2 and the matched filter's output conj(h) y, per real value."""
    gain = (analog.h.real.double().square() + analog.h.imag.double().square())[0]
    noise_var = analog.noise_var[0].double().expand_as(gain) / 2
    matched = torch.view_as_real((analog.h.conj() * analog.y)[0]).reshape(-1).double()
    per_value = [part.repeat_interleave(2).cpu().numpy() for part in (gain, noise_var)]
    gains, noise_vars, values = (part[:count] for part in (*per_value, matched.cpu().numpy()))
    return gains, noise_vars, values


def _scaled_to_unit_power(description: Description, values: Float[np.ndarray, " count"]) -> Description:
    """The description with the largest common amplitude for which the symbols have a power of at most 1."""
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
