"""Hybrid transmission: a coarse picture as bits, and what refines it as analog symbols beside them."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch

from channels import NamedStreams, Received
from semcom.analog import Analog
from semcom.calibration import CosineGain, error_model, shipped_tables
from semcom.errors import InvalidOption
from semcom.fusion import fused
from semcom.jscc.cosine import mean_color
from semcom.jscc.softcast import SoftCast
from semcom.modalities.image import Image
from semcom.observation import Decoded, Evidence, Linear, Observation, Origin, Symbols
from semcom.separate import Separate
from semcom.transmission import ChannelKnowledge, Csit, Sent, Transmission, nothing_sent

Target = Literal["picture", "residual"]
"""What the analog symbols carry: the picture itself, or what the digital part leaves of it."""

TRANSMIT_NOISE = ("transmit-noise",)  # name of the stream


@dataclass(frozen=True)
class Hybrid:
    """Bits for a coarse picture and analog symbols for the rest, one after the other.

    Of k data symbols the digital part has k_d = floor(share k), and the k_a that are left go to the analog
    part. With power p_d and p_a per symbol, k_d p_d + k_a p_a = k_d + k_a and p_d / p_a = 10^(power_db / 10).
    The uses of a coarse picture that fits no payload stay silent, since nothing would tell the receiver of
    another division. Both parts cross the channel together, as one transmission.

    The analog part carries, with e ~ N(0, I) drawn by the transmitter and unknown to the receiver,

        picture     x + noise e, in pictures in [0, 1]: the x_t of diffusion, noise = sigma_t / 2
        residual    x + noise e - x_c, x_c the coarse picture, which the transmitter decodes as well

    The receiver gets both as pieces of evidence, each with its own noise (see `semcom.fusion`). Above the SNR
    that the link was made for, the digital part stands still and the analog part goes on rising; below it
    the coarse picture is lost, and a picture is left of the analog part, of a residual nothing: an outage.

    Args:
        digital: Of the coarse picture.
        analog: Of the rest; a residual needs `SoftCast`, whose symbols are linear in it.
        share: Part of the channel uses for bits, between 0 and 1.
        power_db: Power of a digital symbol over an analog one.
        noise: Standard deviation of what the transmitter adds to x, at least 0.
        target: Of the analog part.

    Raises:
        InvalidOption: A number out of range, a residual through a network, or noise through a network whose
            errors with as much of it nobody has measured.

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
            _check_measured(self.analog.network.name, self.noise)
        if self.target == "residual" and not isinstance(self.analog, SoftCast):
            raise InvalidOption(f"{self.analog.name} knows pictures, not residuals; send those by softcast")

    @property
    def name(self) -> str:
        """Canonical spelling: parts, and numbers up to the last that is not at its default."""
        analog = self.analog.name.partition(":")[0] + ("-residual" if self.target == "residual" else "")
        numbers = (self.share, self.power_db, self.noise)
        last = max((i + 1 for i in range(3) if numbers[i] != (0.5, 0.0, 0.0)[i]), default=0)
        parts = ["hybrid", self.digital.codec.name, self.digital.policy.name, analog]
        return ":".join(parts + [f"{number:g}" for number in numbers[:last]])

    @property
    def csit(self) -> Csit:
        """The average SNR if one part knows it."""
        return "average" if "average" in (self.digital.csit, self.analog.csit) else "none"

    def send(self, x: Image, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Encode the digital part, then the analog one with all symbols that are left."""
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
        """Decode each part in its own symbols, and fuse what arrived."""
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
        """One observation of both parts; each that arrived is a piece of evidence of the picture."""
        pieces = (*coarse.evidence, *self._of_picture(fine, coarse))
        info = {**fine.info, **coarse.info, "digital_outage": float(coarse.shown is None)}
        if not pieces:
            return Observation(None, info=info)
        first, *others = pieces
        shown = fused(pieces, shipped_tables()).estimate if others else _picture(first)
        return Observation(shown.clamp(0, 1), pieces, info)

    def _of_picture(self, fine: Observation[Image], coarse: Observation[Image]) -> tuple[Evidence, ...]:
        """The analog part as evidence of x: the coarse picture added, transmit noise counted."""
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
        """Evidence of x + noise e as evidence of x.

        Where nobody has measured decoded pictures with as much noise, they count as decoded from a picture
        without, with all of the noise on top. Networks take out a part of the noise, the less the more
        channel uses they have, so that this claims less than it could, never more.
        """
        if isinstance(evidence, Symbols):
            error_std = math.hypot(evidence.error_std, self.noise)
            return replace(evidence, error_std=error_std, linear=noisier(evidence.linear, self.noise))
        assert isinstance(evidence, Decoded)
        assert evidence.origin is not None
        tables, alone = shipped_tables(), evidence.origin
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
        """What a part knows of the channel, whose symbols are sent with this power."""
        return None if known is None or part.csit == "none" else known.at_power(10 * math.log10(power))


def _at_power(received: Received, power: float) -> Received:
    """What a part receives, whose symbols had power 1 before they were scaled to this power."""
    return Received(received.y / math.sqrt(power), received.h, received.noise_var / power)


def _picture(evidence: Evidence) -> Image:
    """The picture that a piece of evidence of a hybrid shows by itself."""
    assert isinstance(evidence, Decoded | Symbols)
    return evidence.y if isinstance(evidence, Decoded) else evidence.estimate


def _noised(code: str) -> str:
    """Name of the table of a network's pictures with noise."""
    return f"{code}-noised"


def _check_measured(code: str, noise: float) -> None:
    table = shipped_tables().get(_noised(code))
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
    """Evidence of x + noise e as evidence of x: per coefficient of gain g the variance is 1 + (g noise)^2.

    Args:
        evidence: A weighed cosine transform of x + noise e with white noise of variance 1.
        noise: Standard deviation of what the transmitter added, per pixel value.

    Returns:
        A weighed cosine transform of x with white noise of variance 1.
    """
    operator = evidence.operator
    assert isinstance(operator, CosineGain)
    std = (1 + (operator.gains * noise).square()).sqrt()
    return Linear(evidence.y / std, CosineGain(operator.gains / std))
