"""Hybrid digital-analog transmission: a coarse picture as bits, and analog symbols that refine it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from channels import NamedStreams, Received
from semcom.analog import Analog
from semcom.calibration import CosineGain, ErrorTable, error_model, shipped_tables
from semcom.errors import InvalidOption
from semcom.fusion import fused
from semcom.jscc.cosine import mean_color
from semcom.jscc.softcast import SoftCast
from semcom.modalities.image import Image
from semcom.observation import Decoded, Evidence, Linear, Observation, Origin, Symbols
from semcom.separate import Separate
from semcom.transmission import ChannelKnowledge, Csit, Sent, Transmission, nothing_sent

Target = Literal["picture", "residual"]
"""Content of the analog symbols: the picture itself, or the residual (picture minus coarse picture)."""

TRANSMIT_NOISE = ("transmit-noise",)  # name of the stream


@dataclass(frozen=True)
class Hybrid:
    """Hybrid digital-analog transmission: bits of a coarse picture, followed by analog symbols.

    Of k data symbols, k_d = floor(share k) are digital and the other k_a are analog. Their powers p_d and p_a
    satisfy k_d p_d + k_a p_a = k_d + k_a and p_d / p_a = 10^(power_db / 10). If no payload fits the digital
    part, its symbols are 0, since the receiver knows only this division. Both parts cross the channel as one
    transmission.

    The analog part carries, with transmit noise e ~ N(0, I) that the receiver does not know,

        picture     x + noise e, which is x_t of a diffusion process with sigma_t = 2 noise
        residual    x + noise e - x_c, where the transmitter decodes the coarse picture x_c as well

    The receiver gets one piece of evidence per part, each with its own noise, and fuses them
    (`semcom.fusion`). Above the SNR for which the digital link is designed, the digital part stays constant
    and the analog part improves further. Below it the coarse picture is lost: an analog picture is then shown
    alone, but a residual is useless and the item is lost.

    Args:
        digital: Transmission of the coarse picture.
        analog: Transmission of the picture or residual; a residual needs `SoftCast`, which is linear in it.
        share: Fraction of data symbols that are digital, above 0 and below 1.
        power_db: Power of a digital symbol relative to an analog one in dB, -20 to 20.
        noise: Standard deviation of the transmit noise, in units of pictures in [0, 1], 0 to 10.
        target: Content of the analog symbols, "picture" or "residual".
        tables: Errors of decoders by code, which weigh the parts when they are fused.

    Raises:
        InvalidOption: A number out of range, a residual through a network, or transmit noise through a
            network whose errors have not been measured at this noise.

    Reference:
        Niu, Wang, Gündüz, Bai, Chen and Zhou, A hybrid wireless image transmission scheme with diffusion,
        SPAWC 2023 (known to us by its abstract; the concrete design is ours). Theis, Salimans, Hoffman and
        Mentzer, Lossy compression with Gaussian diffusion, 2022. Mittal and Phamdo, Hybrid digital-analog
        (HDA) joint source-channel codes, IEEE Trans. Inf. Theory 48(5), 2002 (residual).
    """

    digital: Separate[Image]
    analog: Transmission[Image]
    share: float = 0.5
    power_db: float = 0.0
    noise: float = 0.0
    target: Target = "picture"
    tables: Mapping[str, ErrorTable] = field(default_factory=shipped_tables, repr=False, hash=False)

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InvalidOption(
                f"hybrid share of {self.share:g}: between 0 and 1; without one part choose the other scheme"
            )
        if not abs(self.power_db) <= 20:
            raise InvalidOption(f"power of {self.power_db:g} dB over the other part: from -20 to 20")
        if not 0 <= self.noise <= 10:
            raise InvalidOption(f"transmit noise of {self.noise:g}: from 0 to 10")
        if self.noise > 0 and isinstance(self.analog, Analog):
            _check_measured(self.tables, self.analog.network.name, self.noise)
        if self.target == "residual" and not isinstance(self.analog, SoftCast):
            raise InvalidOption(f"{self.analog.name} knows pictures, not residuals; send those by softcast")

    @property
    def name(self) -> str:
        """Canonical name, e.g. "hybrid:avif:csit-average:softcast"; non-default numbers are appended."""
        analog = self.analog.name.partition(":")[0] + ("-residual" if self.target == "residual" else "")
        numbers = (self.share, self.power_db, self.noise)
        last = max((i + 1 for i in range(3) if numbers[i] != (0.5, 0.0, 0.0)[i]), default=0)
        parts = ["hybrid", self.digital.codec.name, self.digital.policy.name, analog]
        return ":".join(parts + [f"{number:g}" for number in numbers[:last]])

    @property
    def csit(self) -> Csit:
        """Channel knowledge at the transmitter: "average" if at least one part needs it."""
        return "average" if "average" in (self.digital.csit, self.analog.csit) else "none"

    def send(self, x: Image, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Encode the digital part, then the analog part with all remaining symbols, and concatenate both."""
        first, rest = self._division(uses)
        if first < 1 or rest < 1:
            return nothing_sent(f"{uses} data symbols cannot be shared; raise rho")
        power, rest_power = self._powers(first, rest)
        digital = self.digital.encode(x, first, self._known(self.digital, known, power))
        noised = x + self.noise * NamedStreams(0, TRANSMIT_NOISE).normal("e", tuple(x.shape[1:]))
        if self.target == "residual":
            if digital.fitted is None:
                return nothing_sent(digital.sent.cause)
            noised = noised - digital.fitted.decoded + mean_color(x)
        analog = self.analog.send(noised, rest, self._known(self.analog, known, rest_power))
        if digital.sent.cause and analog.cause:
            return nothing_sent(f"{digital.sent.cause}; {analog.cause}")
        bits = digital.sent.symbols if digital.fitted else torch.zeros(1, first, dtype=torch.complex64)
        power, rest_power = self._powers(first, analog.symbols.shape[1])
        modulated = tuple(replace(part, power=power) for part in digital.sent.modulated)
        info = {
            **analog.info,
            **digital.sent.info,
            "digital_uses": float(first),
            "digital_silent": float(bool(digital.sent.cause)),
            "analog_silent": float(bool(analog.cause)),
        }
        symbols = torch.cat((math.sqrt(power) * bits, math.sqrt(rest_power) * analog.symbols), 1)
        return Sent(symbols, modulated, info)

    def receive(self, received: Received, shape: tuple[int, ...], uses: int) -> list[Observation[Image]]:
        """Split every reception, decode both parts, and fuse those that arrived."""
        first, rest = self._division(uses)
        analog_uses = received.y.shape[1] - first
        power, rest_power = self._powers(first, analog_uses)
        coarse = self.digital.receive(_at_power(received[:first], power), shape, first)
        fine = (
            self.analog.receive(_at_power(received[first:], rest_power), shape, rest)
            if analog_uses
            else [Observation(None)] * len(coarse)
        )
        return [self._together(*parts) for parts in zip(coarse, fine, strict=True)]

    def _together(self, coarse: Observation[Image], fine: Observation[Image]) -> Observation[Image]:
        """Combine the observations of both parts; each part that arrived is one piece of evidence."""
        pieces = (*coarse.evidence, *self._of_picture(fine, coarse))
        info = {**fine.info, **coarse.info, "digital_outage": float(coarse.shown is None)}
        if not pieces:
            return Observation(None, info=info)
        first, *others = pieces
        shown = fused(pieces, self.tables).estimate if others else _picture(first)
        return Observation(shown.clamp(0, 1), pieces, info)

    def _of_picture(self, fine: Observation[Image], coarse: Observation[Image]) -> tuple[Evidence, ...]:
        """Evidence of x from the analog part: adds the coarse picture, and counts transmit noise as noise."""
        if fine.shown is None or (self.target == "residual" and coarse.shown is None):
            return ()
        (evidence,) = fine.evidence
        if self.target == "residual" and coarse.shown is not None:
            assert isinstance(evidence, Symbols)
            added = coarse.shown - mean_color(coarse.shown)
            moved = evidence.linear.operator.A(added)
            linear = replace(evidence.linear, y=evidence.linear.y + moved)
            evidence = replace(evidence, estimate=evidence.estimate + added, linear=linear)
        return (evidence if self.noise == 0 else self._noised(evidence),)

    def _noised(self, evidence: Evidence) -> Evidence:
        """Turn evidence of x + noise e into evidence of x.

        If the error of the network has been measured at this operating point and noise, its table is used. If
        not, the error without transmit noise is used, and the full variance of the transmit noise is added.
        This is a conservative bound, since networks remove a part of the noise.
        """
        if isinstance(evidence, Symbols):
            error_std = math.hypot(evidence.error_std, self.noise)
            return replace(evidence, error_std=error_std, linear=noisier(evidence.linear, self.noise))
        assert isinstance(evidence, Decoded)
        assert evidence.origin is not None
        tables, alone = self.tables, evidence.origin
        origin = Origin(_noised(alone.code), (*alone.point, self.noise))
        if tables[origin.code].covers(origin.point):
            return Decoded(evidence.y, origin=origin)
        model = error_model(evidence, tables)
        linear = noisier(model.evidence(evidence.y)[0], self.noise)
        return Symbols(evidence.y, math.hypot(model.error_std(evidence.y), self.noise), linear)

    def _division(self, uses: int) -> tuple[int, int]:
        """Data symbols of the digital and of the analog part."""
        first = math.floor(self.share * uses)
        return first, uses - first

    def _powers(self, first: int, rest: int) -> tuple[float, float]:
        """Power per symbol of the digital and of the analog part, for a mean power of 1."""
        ratio = 10 ** (self.power_db / 10)
        rest_power = (first + rest) / (first * ratio + rest)
        return ratio * rest_power, rest_power

    def _known(
        self, part: Transmission[Image], known: ChannelKnowledge | None, power: float
    ) -> ChannelKnowledge | None:
        """Channel knowledge of one part, at the power at which its symbols are sent."""
        return None if known is None or part.csit == "none" else known.at_power(10 * math.log10(power))


def _at_power(received: Received, power: float) -> Received:
    """Reception of symbols of power 1 from the reception of the same symbols scaled to `power`."""
    return Received(received.y / math.sqrt(power), received.h, received.noise_var / power)


def _picture(evidence: Evidence) -> Image:
    """Picture in a piece of evidence of one part of a hybrid."""
    assert isinstance(evidence, Decoded | Symbols)
    return evidence.y if isinstance(evidence, Decoded) else evidence.estimate


def _noised(code: str) -> str:
    """Name of the error table of a network for pictures with transmit noise."""
    return f"{code}-noised"


def _check_measured(tables: Mapping[str, ErrorTable], code: str, noise: float) -> None:
    table = tables.get(_noised(code))
    if table is None:
        raise InvalidOption(
            f"transmit noise of {noise:g} through {code}, whose errors with it nobody has measured; "
            "choose noise 0, deepjscc or softcast"
        )
    largest = table.grid[-1][-1]
    if noise > largest:
        raise InvalidOption(
            f"transmit noise of {noise:g} through {code}, measured up to {largest:g}; take less, or softcast"
        )


def noisier(evidence: Linear, noise: float) -> Linear:
    """Turn evidence of x + noise e into evidence of x.

    The effective noise of a coefficient of gain g has the variance 1 + (g noise)^2; gain and value are
    divided by its root.

    Args:
        evidence: Weighted cosine transform of x + noise e (`CosineGain`), with white noise of variance 1.
        noise: Standard deviation of the transmit noise per pixel value, in units of pictures in [0, 1].

    Returns:
        Weighted cosine transform of x with white noise of variance 1.
    """
    operator = evidence.operator
    assert isinstance(operator, CosineGain)
    std = (1 + (operator.gains * noise).square()).sqrt()
    return Linear(evidence.y / std, CosineGain(operator.gains / std))
