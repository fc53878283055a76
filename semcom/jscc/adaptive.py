"""Adaptive DeepJSCC: one network for all SNRs, rates and image sizes, initialised as linear coding."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn

from channels.channel import Received, SnrDb
from channels.symbols import normalize_power, pack, unpack
from semcom.errors import BudgetTooSmall
from semcom.jscc.cosine import (
    BANDS,
    PLANES,
    centred_picture,
    coefficients_of_centred,
    cosine_transform,
    exact_products,
    inverse_cosine_transform,
    join_bands,
    mean_color,
    split_bands,
)
from semcom.jscc.refinement import DecoderRefinement, EncoderRefinement
from semcom.surroundings import library_defaults

MAPS = 256
"""Number of maps, the strongest of 768, that the networks correct; rho up to 1/6 carries as many values."""

TYPICAL_SIDE = 256
"""Height and width of the picture for which the strength of the maps is computed."""

OCTAVES = 8
"""Number of octaves of spatial frequency over which the average spectrum is given."""

LEAST_USES = 3
DESIGN_SNR_DB, SNR_SPAN_DB = 10.0, 15.0  # power is shared out for -5..25 dB
GAIN_STD = 1.0  # of the common gain over photographs, in units of its nominal value
STEADY = 4.0  # weight of the contrast of the octave below, in equivalent noiseless values
LEAST_CONTRAST = 1e-3
LEAST_ERROR = 1e-4  # root mean square, a fortieth of an 8-bit step
FLOOR = 0.05  # least share of its high-SNR power that a coefficient keeps at low SNR


class AdaptiveDeepJSCC(nn.Module):
    """Joint source-channel code: linear coding (cosine transform, LMMSE) corrected by residual networks.

    Encoder and decoder are both a linear code and a convolutional network that corrects it:

        c = T x + T_bands E(x)          cosine transform of the whole picture in three colour planes
        s = g (pilots, a c)             in the order of falling variance, two to a symbol; g: power 1
        c_hat = LMMSE of c from y       0 where nothing was received
        x_hat = T' c_hat + sigma D(T' c_hat)

    T_bands maps 256 feature maps, each a band of frequencies of one plane at 1/16 of the size, to
    coefficients, so that a convolutional network can produce them. sigma is the error expected of linear
    decoding. E is conditioned on the SNR for which the power a was allocated, D also on how reliable each
    band is. Both are zero before training, which thus starts at the performance of linear coding; the
    variances are those of the average photograph.

    Any prefix of the symbols is a transmission of its own (nested): encode(x, k1) is proportional to the
    first k1 symbols of encode(x, k2). Symbol j is a pilot if j is a square: ceil(sqrt(k)) of k in all, which
    tell the receiver g and the SNR for which the transmitter allocated power, csit or 10 dB. The receiver
    therefore needs nothing that was not sent.

    Args:
        widths: Features at 1/4, 1/8 and 1/16 of the size.
        encoder_blocks: Residual blocks at 1/8 and 1/16.
        decoder_blocks: Residual blocks at 1/4 and 1/8, on the way down and again on the way up, and at 1/16.

    Reference:
        Burth Kurka and Gündüz, Bandwidth-agile image transmission with deep joint source-channel coding, IEEE
        Trans. Wireless Commun. 20(12), 2021 (nested transmission); Lee and Petersen, Optimal linear coding
        for vector channels, IEEE Trans. Commun. 24(12), 1976 (the linear code).

    Example:
        >>> network = AdaptiveDeepJSCC(widths=(8, 16, 32))
        >>> network.encode(torch.rand(1, 3, 40, 70), 777).shape
        torch.Size([1, 777])
    """

    log_spectrum: Float[Tensor, "planes nodes nodes"]
    """log2 of the variance of cosine coefficients, at every octave of either spatial frequency."""
    maps: Int[Tensor, " maps"]
    """Indices of the strongest maps, in falling order of variance."""
    map_std: Float[Tensor, " maps"]
    """Standard deviation of the values of each of these maps."""

    @library_defaults()  # weights in single precision, whatever the caller's default
    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 192),
        encoder_blocks: Sequence[int] = (1, 1),
        decoder_blocks: Sequence[int] = (1, 1, 2),
    ) -> None:
        super().__init__()
        self.config = {
            "widths": list(widths),
            "encoder_blocks": list(encoder_blocks),
            "decoder_blocks": list(decoder_blocks),
        }
        nodes = OCTAVES + 1
        self.register_buffer("log_spectrum", torch.zeros(len(PLANES), nodes, nodes))
        self.register_buffer("maps", torch.arange(MAPS))
        self.register_buffer("map_std", torch.ones(MAPS))
        self.log_gain = nn.Parameter(torch.zeros(MAPS))
        self.encoder = EncoderRefinement(MAPS, widths[1:], encoder_blocks, condition=64)
        self.decoder = DecoderRefinement(MAPS, widths, decoder_blocks, condition=128)

    @torch.no_grad()
    def believe(self, log_spectrum: Float[Tensor, "planes nodes nodes"]) -> None:
        """Set the spectrum of the average photograph, and select the strongest maps by it.

        Args:
            log_spectrum: log2 of the variance of cosine coefficients at every octave of either spatial
                frequency, [planes, nodes, nodes].
        """
        log_spectrum = (64 * log_spectrum).round() / 64  # as weights in fp16 keep it
        variances = 2 ** spectrum(log_spectrum, TYPICAL_SIDE, TYPICAL_SIDE)
        strength = split_bands(variances[None])[0].mean((1, 2))
        self.log_spectrum.copy_(log_spectrum)
        self.maps.copy_(strength.argsort(descending=True)[:MAPS])
        self.map_std.copy_(strength[self.maps].sqrt())

    @property
    def name(self) -> str:
        """Canonical name, which contains the aim of the decoder: "deepjscc" or "deepjscc-perceptual"."""
        return self.decoder.name

    def least_uses(self, shape: tuple[int, ...]) -> int:
        """Smallest number of channel uses: 3, for two pilots and one symbol of the picture.

        Args:
            shape: Shape of the image, (batch, 3, height, width); not used.

        Returns:
            Channel uses.
        """
        return LEAST_USES

    def encode(
        self, x: Float[Tensor, "batch 3 height width"], channel_uses: int, csit_snr_db: SnrDb | None = None
    ) -> Complex[Tensor, "batch uses"]:
        """Encode images to at most k symbols; fewer if there are fewer coefficients and pilots.

        Args:
            x: Images in [0, 1], [batch, 3, height, width].
            channel_uses: k, at least `least_uses`.
            csit_snr_db: SNR in dB for which power is allocated, one number or [batch]; None for 10 dB.

        Returns:
            Symbols of average power 1 per item, complex [batch, uses].

        Raises:
            BudgetTooSmall: There are fewer channel uses than `least_uses`.
        """
        if channel_uses < LEAST_USES:
            raise BudgetTooSmall(
                f"{self.name} needs {LEAST_USES} channel uses, budget is {channel_uses}; raise rho"
            )
        layout = self.layout(x.shape[2], x.shape[3])
        design = _design(csit_snr_db, x)
        coefficients = self._coefficients(x, design, layout).flatten(1)
        uses = min(channel_uses, layout.uses)
        of_pilots, of_data = layout.places(uses)
        sent = 2 * len(of_data)
        amplitude = (self._power(layout, design, sent) / layout.variance[:sent]).sqrt()
        data = pack(coefficients[:, layout.order[:sent]] * amplitude)
        pilots = torch.polar(layout.pilots[: len(of_pilots)].expand(len(x), -1), design.atan())
        symbols = torch.zeros(len(x), uses, dtype=data.dtype, device=x.device)
        symbols = symbols.index_copy(1, of_pilots, pilots).index_copy(1, of_data, data)
        return normalize_power(symbols)

    def decode(self, received: Received, shape: tuple[int, ...]) -> Float[Tensor, "batch 3 height width"]:
        """Decode received symbols to images in [0, 1].

        Args:
            received: Received symbols [batch, uses] with gain and noise variance.
            shape: Shape of the images, (batch, 3, height, width).

        Returns:
            Images, [batch, 3, height, width].
        """
        return self.reconstruct(received, shape).clamp(0, 1)

    def reconstruct(
        self, received: Received, shape: tuple[int, ...]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Decode received symbols to images before clipping, for training losses.

        Args:
            received: Received symbols [batch, uses] with gain and noise variance.
            shape: Shape of the images, (batch, 3, height, width).

        Returns:
            Images, [batch, 3, height, width].
        """
        layout = self.layout(shape[2], shape[3])
        belief = self._estimate(received, layout)
        linear = centred_picture(belief.coefficients)
        refined = linear + self._correction(belief, linear)
        return (refined + mean_color(linear))[:, :, : shape[2], : shape[3]]

    @torch.no_grad()
    def expected_error(
        self, shape: tuple[int, ...], channel_uses: int, snr_db: SnrDb
    ) -> Float[Tensor, " batch"]:
        """Mean squared error per value that linear coding of an average photograph has on AWGN.

        Args:
            shape: Shape of the images, (batch, 3, height, width).
            channel_uses: k, complex channel uses.
            snr_db: Es/N0 in dB, one number or [batch].

        Returns:
            Squared error, [batch].
        """
        layout = self.layout(shape[2], shape[3])
        snr_db = torch.as_tensor(snr_db, dtype=torch.float32, device=layout.order.device).reshape(-1, 1)
        uses = min(channel_uses, layout.uses)
        sent = 2 * len(layout.places(uses)[1])
        design = snr_db.new_zeros(1, 1)
        power = self._power(layout, design, sent) * self._nominal_gain(layout, design, uses) ** 2
        lost = layout.variance[:sent] / (1 + power / (0.5 * 10 ** (-snr_db / 10)))
        return (lost.sum(1) + layout.variance[sent:].sum()) / layout.order.numel()

    def _coefficients(
        self, x: Tensor, design: Tensor, layout: "Layout"
    ) -> Float[Tensor, "batch 3 height width"]:
        """Coefficients of the centred picture, padded to whole bands, plus the network's correction."""
        padding = (0, -x.shape[3] % BANDS, 0, -x.shape[2] % BANDS)
        centred = nn.functional.pad(x, padding, mode="replicate") - mean_color(x)
        gate, added = self.encoder(centred, design)
        coefficients = coefficients_of_centred(centred)
        maps = self._maps(coefficients) * gate + added * self.map_std[:, None, None]
        return coefficients + self._place(maps)

    def _maps(
        self, coefficients: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch maps rows columns"]:
        """The strongest maps of a picture."""
        return inverse_cosine_transform(split_bands(coefficients)[:, self.maps])

    def _place(self, maps: Float[Tensor, "batch maps rows columns"]) -> Float[Tensor, "batch 3 height width"]:
        """Coefficients whose strongest maps have the given values."""
        bands = maps.new_zeros(len(maps), 3 * BANDS**2, *maps.shape[2:])
        return join_bands(cosine_transform(bands.index_copy(1, self.maps, maps)))

    def _correction(self, belief: "Belief", linear: Tensor) -> Tensor:
        """Correction by the decoder network: maps scaled by a gain, pixels in units of the expected error."""
        known = torch.cat((belief.reliability, belief.error.log2() + 5, belief.design), 1)
        maps = self._maps(belief.coefficients)
        gate, added = self.decoder(linear, maps / self.map_std[:, None, None], known)
        return centred_picture(self._place(maps * gate)) + belief.error[:, :, None, None] * added

    def _estimate(self, received: Received, layout: "Layout") -> "Belief":
        """Gain and design SNR from the pilots, contrast from the energy, then LMMSE of every coefficient.

        Contrast is the variance of this photograph's coefficients over that of the average one, in each
        octave of each plane. Nothing here depends on the length of the transmission, so that a prefix of a
        longer one is decoded as well.
        """
        uses = received.y.shape[1]
        of_pilots, of_data = layout.places(uses)
        matched = received.h.conj() * received.y
        fade = torch.view_as_real(received.h).square().sum(-1)
        noise_var = (received.noise_var.expand(-1, uses) / 2).clamp_min(1e-12)  # per real value
        # Pilots: y = h g pilot exp(j atan(design)) + n
        weight = layout.pilots[: len(of_pilots)] / noise_var[:, of_pilots]
        confidence = (fade[:, of_pilots] * layout.pilots[: len(of_pilots)] * weight).sum(1, keepdim=True)
        seen = (matched[:, of_pilots] * weight).sum(1, keepdim=True)
        nominal = self._nominal_gain(layout, torch.zeros_like(confidence), uses)
        prior = 1 / (GAIN_STD * nominal) ** 2
        design = (seen.imag / (seen.real.clamp_min(0) + 3 / nominal)).clamp(-1, 1)
        projected = (seen.real + design * seen.imag) / (1 + design**2).sqrt()
        gain = (projected + prior * nominal) / (confidence + prior)
        gain = gain.clamp(0.1 * nominal, 10 * nominal)
        # Data: matched = |h|^2 g a c + n, of variance |h|^2 (|h|^2 g^2 contrast power + N0)
        sent = 2 * len(of_data)
        group = layout.group[:sent]
        power = gain**2 * self._power(layout, design, sent)
        fade, noise_var = (part[:, of_data].repeat_interleave(2, 1) for part in (fade, noise_var))
        contrast = _contrast(unpack(matched[:, of_data]), fade, power, noise_var, group)
        signal = fade * contrast[:, group] * power
        reliability = signal / (signal + noise_var)
        amplitude = (power / layout.variance[:sent]).sqrt()
        values = reliability * unpack(matched[:, of_data]) / (amplitude * fade.clamp_min(1e-20))
        lost = layout.variance * contrast[:, layout.group]
        lost = lost * (1 - nn.functional.pad(reliability, (0, layout.order.numel() - sent)))
        error = lost.mean(1, keepdim=True).sqrt().clamp_min(LEAST_ERROR)
        coefficients, per_coefficient = (
            part.new_zeros(len(part), layout.order.numel())
            .index_copy(1, layout.order[:sent], part)
            .reshape(-1, *layout.shape)
            for part in (values, reliability)
        )
        per_map = split_bands(per_coefficient)[:, self.maps].mean((2, 3))
        return Belief(coefficients, per_map, error, contrast, design)

    def _power(
        self, layout: "Layout", design: Float[Tensor, "batch 1"], sent: int
    ) -> Float[Tensor, "batch sent"]:
        """Power of the first coefficients in the order of sending, before the common gain."""
        noise_var = 0.5 * 10 ** (-_snr_db(design) / 10)
        shared = self._water_level(layout, noise_var) * layout.variance[:sent].sqrt()
        power = torch.maximum(shared - noise_var, FLOOR * shared)
        gains = nn.functional.pad((2 * self.log_gain).exp(), (0, 1), value=1.0)
        return power * gains[layout.map[:sent]]

    def layout(self, height: int, width: int) -> "Layout":
        """Order and nominal variances of the coefficients of a picture.

        Args:
            height: Height in pixels.
            width: Width in pixels.

        Returns:
            The layout, known to both ends from the size.
        """
        rows, columns = -(-height // BANDS), -(-width // BANDS)
        log_variance = spectrum(self.log_spectrum.double(), BANDS * rows, BANDS * columns)
        steps = (16 * log_variance).round().float().flatten()  # in double, alike on every machine
        order = steps.argsort(descending=True, stable=True)
        octaves = octave_groups(BANDS * rows, BANDS * columns, order.device)
        numbers = torch.full((3 * BANDS**2,), MAPS, device=order.device)
        numbers = numbers.index_copy(0, self.maps, torch.arange(MAPS, device=order.device))
        maps = join_bands(numbers[None, :, None, None].expand(-1, -1, rows, columns)).flatten()
        shape = (3, BANDS * rows, BANDS * columns)
        return Layout(shape, order, 2 ** (steps[order] / 16), octaves[order], maps[order])

    def _water_level(self, layout: "Layout", noise_var: Tensor) -> Tensor:
        """Water level 1/mu at which the power is 1/2 per value if all values were sent."""
        root = layout.variance.sqrt()
        sharing = torch.arange(1, len(root) + 1, device=root.device)
        level = (len(root) / 2 + sharing * noise_var) / root.cumsum(0)
        shares = (level * root > noise_var).sum(1, keepdim=True).clamp_min(1)
        return level.gather(1, shares - 1)

    def _nominal_gain(self, layout: "Layout", design: Tensor, uses: int) -> Float[Tensor, "batch 1"]:
        """Gain that gives the average photograph's symbols average power 1."""
        of_pilots, of_data = layout.places(uses)
        data = self._power(layout, design, 2 * len(of_data)).sum(1, keepdim=True)
        pilots = layout.pilots[: len(of_pilots)].square().sum()
        return ((data + pilots) / uses).rsqrt()


def spectrum(
    log_spectrum: Float[Tensor, "planes nodes nodes"], height: int, width: int
) -> Float[Tensor, "planes height width"]:
    """Interpolate the spectrum of the average photograph bilinearly to the coefficients of a picture.

    Args:
        log_spectrum: log2 of variance at the nodes, [planes, nodes, nodes].
        height: Number of vertical frequencies.
        width: Number of horizontal frequencies.

    Returns:
        log2 of variance, [planes, height, width].
    """
    down, across = (hats(n, log_spectrum.device).to(log_spectrum) for n in (height, width))
    with exact_products(log_spectrum):
        return down @ log_spectrum @ across.T


def hats(size: int, device: torch.device) -> Float[Tensor, "size nodes"]:
    """Interpolation weights of the spectrum's nodes at each frequency.

    Node n lies at (2^n - 1) / 2^OCTAVES of the highest frequency.

    Args:
        size: Number of frequencies.
        device: Device of the result.

    Returns:
        Weights, [size, nodes].
    """
    distance = _places(size, device)[:, None] - torch.arange(OCTAVES + 1, device=device)
    return (1 - distance.abs()).clamp_min(0)


def _places(size: int, device: torch.device) -> Float[Tensor, " size"]:
    """Position of each frequency in octaves, from 0 to 8."""
    frequency = (torch.arange(size, device=device, dtype=torch.float64) + 0.25) / size
    return (1 + frequency * 2**OCTAVES).log2()


@dataclass(frozen=True, eq=False, slots=True)
class Layout:
    """Order in which a picture's coefficients are sent; both ends know it from the size of the picture.

    Args:
        shape: [planes, height, width] of the coefficients, whole bands.
        order: Flat index into them, largest variance first.
        variance: Variance of the average photograph's coefficients, in that order.
        group: Octave of each coefficient, in that order; the octaves of a plane follow each other.
        map: Number of the map of each coefficient, in that order; `MAPS` if none.
    """

    shape: tuple[int, int, int]
    order: Int[Tensor, " values"]
    variance: Float[Tensor, " values"]
    group: Int[Tensor, " values"]
    map: Int[Tensor, " values"]

    @property
    def uses(self) -> int:
        """Channel uses with which every coefficient is sent."""
        data = self.order.numel() // 2
        uses = data + math.isqrt(data)
        while uses - pilot_count(uses) < data:
            uses += 1
        return uses

    @property
    def pilots(self) -> Float[Tensor, " pilots"]:
        """Amplitude of each pilot: a quarter of the power of the average data symbol so far."""
        root = self.variance.sqrt()  # power of a coefficient at high SNR, but for a factor
        root = root * len(root) / 2 / root.sum()
        power = (root[0::2] + root[1::2]).cumsum(0) / torch.arange(1, len(root) // 2 + 1, device=root.device)
        index = torch.arange(pilot_count(self.uses), device=root.device)
        return (power[(index**2 - index).clamp(0, len(power) - 1)] / 4).sqrt()

    def places(self, uses: int) -> tuple[Int[Tensor, " pilots"], Int[Tensor, " data"]]:
        """Channel uses of pilots and of data symbols.

        Args:
            uses: Channel uses of the transmission.

        Returns:
            Indices of pilots, and indices of data symbols.
        """
        index = torch.arange(uses, device=self.order.device)
        root = index.double().sqrt().floor().long()
        is_pilot = root * root == index
        return index[is_pilot], index[~is_pilot]


def pilot_count(uses: int) -> int:
    """Number of pilots among some channel uses, ceil(sqrt(uses)).

    Symbol j is a pilot if j is a square.

    Args:
        uses: Channel uses, at least 0.

    Returns:
        Number of pilots.
    """
    return math.isqrt(uses - 1) + 1


@dataclass(frozen=True, eq=False, slots=True)
class Belief:
    """Result of linear decoding, as the decoder network receives it.

    Args:
        coefficients: Estimated coefficients, [batch, planes, height, width].
        reliability: Share of each map's variance that was received, 0..1, [batch, maps].
        error: Expected root mean square error of the linear image, [batch, 1].
        contrast: Variance of the photograph over that of the average one, in each octave of each plane,
            [batch, groups].
        design: Design SNR of the power allocation as the receiver estimates it, -1..1, [batch, 1].
    """

    coefficients: Float[Tensor, "batch planes height width"]
    reliability: Float[Tensor, "batch maps"]
    error: Float[Tensor, "batch 1"]
    contrast: Float[Tensor, "batch groups"]
    design: Float[Tensor, "batch 1"]


def octave_groups(height: int, width: int, device: torch.device) -> Int[Tensor, " coefficients"]:
    """Group of each coefficient: its plane and the octave of its higher frequency, as one number.

    Args:
        height: Number of vertical frequencies.
        width: Number of horizontal frequencies.
        device: Device of the result.

    Returns:
        Group of each coefficient, [coefficients].
    """
    down, across = (_places(n, device).floor().long().clamp(max=OCTAVES - 1) for n in (height, width))
    octave = torch.maximum(down[:, None], across)
    return (octave + OCTAVES * torch.arange(len(PLANES), device=device)[:, None, None]).flatten()


def _contrast(
    matched: Float[Tensor, "batch values"],
    fade: Float[Tensor, "batch values"],
    power: Float[Tensor, "batch values"],
    noise_var: Float[Tensor, "batch values"],
    group: Int[Tensor, " values"],
) -> Float[Tensor, "batch groups"]:
    """Received over nominal energy by octaves, noise subtracted; an unheard octave follows the one below.

    The weights have the least variance for Gaussian values of contrast 1; evidence is counted in equivalent
    noiseless values.
    """
    signal = fade * power
    weight = 1 / (signal + noise_var) ** 2
    energy = matched.square() / fade.clamp_min(1e-20) - noise_var
    count = len(PLANES) * OCTAVES
    heard, information = (
        part.new_zeros(len(part), count).index_add(1, group, part).reshape(-1, len(PLANES), OCTAVES)
        for part in (weight * signal * energy, weight * signal**2)
    )
    below = torch.ones_like(heard[:, :, 0])
    contrasts: list[Tensor] = []
    for octave in range(OCTAVES):
        below = (heard[:, :, octave] + STEADY * below) / (information[:, :, octave] + STEADY)
        below = below.clamp(LEAST_CONTRAST, 1 / LEAST_CONTRAST)
        contrasts.append(below)
    return torch.stack(contrasts, 2).flatten(1)


def _design(csit_snr_db: SnrDb | None, x: Tensor) -> Float[Tensor, "batch 1"]:
    """Design SNR mapped from -5..25 dB to -1..1; 0 (10 dB) if the transmitter does not know the SNR."""
    snr_db = torch.as_tensor(
        DESIGN_SNR_DB if csit_snr_db is None else csit_snr_db, dtype=torch.float32, device=x.device
    )
    snr_db = snr_db.reshape(-1, 1).expand(len(x), 1)
    return ((snr_db - DESIGN_SNR_DB) / SNR_SPAN_DB).clamp(-1, 1)


def _snr_db(design: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch 1"]:
    return DESIGN_SNR_DB + SNR_SPAN_DB * design
