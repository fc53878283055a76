"""Hybrid transmission: a coarse picture as bits, and what refines it as analog symbols beside them."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from channels import Channel, NamedStreams, SnrDb, Streams
from channels.channel import Received
from semcom.analog import Analog
from semcom.budget import Budget
from semcom.calibration import CosineGain, error_model, shipped_tables
from semcom.errors import InvalidOption
from semcom.jscc.cosine import mean_color
from semcom.jscc.softcast import SoftCast
from semcom.separate import Separate, decoded_by_transmitter
from semcom.transmission import (
    Concealment,
    Csit,
    Linear,
    Observation,
    Origin,
    Sent,
    Transmission,
    lost,
    nothing_sent,
)

Target = Literal["picture", "residual"]
"""What the analog symbols carry: the picture itself, or what the digital part leaves of it."""

TRANSMIT_NOISE = ("transmit-noise",)  # name of the stream


@dataclass(frozen=True)
class Hybrid:
    """Bits for a coarse picture and analog symbols for the rest, one after the other.

    Of k channel uses the digital part has k_d = floor(share k), and what it leaves goes to the analog part.
    With power p_d and p_a per symbol, k_d p_d + k_a p_a = k and p_d / p_a = 10^(power_db / 10); where the two
    differ, uses that neither part fills count as spent. The uses of a coarse picture that fits no payload
    stay silent, since nothing would tell the receiver of another division. Both parts meet one realisation
    of the channel, each in its own place.

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

    digital: Separate
    analog: Transmission
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
    def concealment(self) -> Concealment:
        """Of an item of which nothing is left."""
        return self.digital.concealment

    @property
    def csit(self) -> Csit:
        """The average SNR if one part knows it."""
        return "average" if "average" in (self.digital.csit, self.analog.csit) else "none"

    def prepare(
        self,
        x: Float[Tensor, "1 3 height width"],
        budget: Budget,
        channel: Channel,
        csit_snr_db: float | None,
    ) -> Sent:
        """The digital part, then the analog one with all uses that are left."""
        shape = tuple(x.shape)
        uses = math.floor(self.share * budget.channel_uses)
        if uses < 1 or uses == budget.channel_uses:
            return nothing_sent(shape, f"{budget.channel_uses} channel uses cannot be shared; raise rho")
        power = self._digital_power(uses / budget.channel_uses)
        digital = self._part(self.digital, x, uses, budget, channel, csit_snr_db, power)
        noised = x + self.noise * NamedStreams(0, TRANSMIT_NOISE).normal("e", shape[1:])
        if self.target == "residual":
            if digital.cause:
                return nothing_sent(shape, digital.cause)
            noised = noised - decoded_by_transmitter(digital) + mean_color(x)
        data = channel.data_uses(uses)
        taken = data + channel.overhead(data)
        rest = budget.channel_uses - taken
        rest_power = (budget.channel_uses - power * taken) / rest
        analog = self._part(self.analog, noised, rest, budget, channel, csit_snr_db, rest_power)
        if digital.cause and analog.cause:
            return nothing_sent(shape, f"{digital.cause}; {analog.cause}")
        bits = analog.symbols.new_zeros(1, data) if digital.cause else digital.symbols
        symbols = torch.cat((math.sqrt(power) * bits, math.sqrt(rest_power) * analog.symbols), 1)
        parts = _Parts(digital, analog, (power, rest_power), data)
        info = {
            **analog.info,
            **digital.info,
            "digital_uses": float(taken),
            "digital_silent": float(bool(digital.cause)),
            "analog_silent": float(bool(analog.cause)),
        }
        spent = taken + analog.channel_uses if self.power_db == 0 else budget.channel_uses
        return Sent(symbols, spent, shape, parts, info)

    def deliver(self, sent: Sent, channel: Channel, snr_db: SnrDb, rng: Streams) -> Observation:
        """Both parts, each over its own uses of one realisation of the channel."""
        if sent.cause:
            return lost(sent, self.concealment, rng.batch)
        parts: _Parts = sent.content
        digital, analog = (
            transmission.deliver(
                part, _Place(channel, sent.symbols / math.sqrt(power), first), snr_db + _db(power), rng
            )
            for transmission, part, power, first in (
                (self.digital, parts.digital, parts.powers[0], 0),
                (self.analog, parts.analog, parts.powers[1], parts.division),
            )
        )
        return self._together(sent, digital, analog)

    def _together(self, sent: Sent, digital: Observation, analog: Observation) -> Observation:
        parts: _Parts = sent.content
        (coarse,), (fine,) = digital.evidence, analog.evidence
        fine = self._of_picture(fine, coarse)
        gone = [evidence.noise_std.isinf() for evidence in (coarse, fine)]
        info = {**analog.info, **digital.info}
        info |= {name: torch.full_like(digital.energy, value) for name, value in sent.info.items()}
        info["digital_outage"] = gone[0].float()
        info["outage"] = (gone[0] & gone[1]).float()
        energy = parts.powers[0] * digital.energy + parts.powers[1] * analog.energy
        uses = torch.full_like(digital.channel_uses, sent.channel_uses)
        return Observation((coarse, fine), digital.shape, uses, energy, info)

    def _of_picture(self, fine: Linear, coarse: Linear) -> Linear:
        """The analog part as evidence of x: the coarse picture added, transmit noise counted."""
        if self.target == "residual":
            arrived = coarse.noise_std.isnan() | coarse.noise_std.isfinite()
            added = coarse.y - mean_color(coarse.y)
            symbols = tuple(
                _shifted(symbol, added[i : i + 1]) if symbol is not None and arrived[i] else None
                for i, symbol in enumerate(fine.symbols)
            )
            noise_std = torch.where(arrived, fine.noise_std, torch.inf)
            fine = replace(fine, y=fine.y + added, noise_std=noise_std, symbols=symbols)
        if self.noise == 0:
            return fine
        if fine.symbols:
            symbols = tuple(noisier(symbol, self.noise) for symbol in fine.symbols)
            total = (fine.noise_std**2 + self.noise**2).sqrt()
            return replace(fine, symbols=symbols, noise_std=total)
        if fine.origin is None:
            return fine
        noise = torch.full((len(fine.y), 1), self.noise)
        point = torch.cat((fine.origin.point, noise), 1)
        noised = replace(fine, origin=Origin(_noised(fine.origin.code), point))
        return self._beyond_the_table(fine.origin, noised)

    def _beyond_the_table(self, alone: Origin, noised: Linear) -> Linear:
        """Where nobody has measured pictures with noise: as decoded from one without, and all of the noise.

        Networks take out a part of the noise, the less the more channel uses they have, so that this claims
        less than it could, never more.
        """
        assert noised.origin is not None
        tables = shipped_tables()
        table, noise_std = tables[noised.origin.code], noised.noise_std.clone()
        symbols: list[Linear | None] = [None] * len(noise_std)
        for i, point in enumerate(noised.origin.point.tolist()):
            if noise_std[i].isnan() and not table.covers(point):
                y, model = noised.y[i : i + 1], error_model(alone.code, alone.point[i].tolist(), tables)
                symbols[i] = noisier(model.evidence(y)[0], self.noise)
                noise_std[i] = math.hypot(model.error_std(y), self.noise)
        return replace(noised, symbols=tuple(symbols), noise_std=noise_std)

    def _digital_power(self, share: float) -> float:
        """Of its symbols, where they are this part of all."""
        ratio = 10 ** (self.power_db / 10)
        return ratio / (share * ratio + 1 - share)

    def _part(
        self,
        transmission: Transmission,
        x: Tensor,
        uses: int,
        budget: Budget,
        channel: Channel,
        csit_snr_db: float | None,
        power: float,
    ) -> Sent:
        known = None
        if transmission.csit == "average" and csit_snr_db is not None:
            known = csit_snr_db + _db(power)
        return transmission.prepare(x, Budget(uses, budget.source_dims), channel, known)


@dataclass(frozen=True, eq=False, slots=True)
class _Parts:
    """The two preparations, the power of each one's symbols, and where those of the second begin."""

    digital: Sent
    analog: Sent
    powers: tuple[float, float]
    division: int


@dataclass(frozen=True, eq=False, slots=True)
class _Place:
    """A channel as one part meets it, whose symbols have power 1, while the other part is sent as well.

    Args:
        channel: The channel.
        symbols: Of both parts, over the amplitude of this one [1, uses].
        first: Where this part begins in them.
    """

    channel: Channel
    symbols: Complex[Tensor, "1 uses"]
    first: int

    @property
    def name(self) -> str:
        """That of the channel."""
        return self.channel.name

    def draw(self, uses: int, snr_db: SnrDb, rng: Streams) -> Any:
        """What the channel draws for both parts; equal streams give both the same."""
        return self.channel.draw(self.symbols.shape[1], snr_db, rng)

    def apply(self, x: Complex[Tensor, "batch uses"], state: Any) -> Received:
        """Send x in its place between the symbols of the other part."""
        last = self.first + x.shape[1]
        others = self.symbols.to(x).expand(x.shape[0], -1)
        whole = torch.cat((others[:, : self.first], x, others[:, last:]), 1)
        return self.channel.apply(whole, state)[self.first : last]

    def overhead(self, uses: int) -> int:
        """That of the channel."""
        return self.channel.overhead(uses)

    def data_uses(self, total: int) -> int:
        """That of the channel."""
        return self.channel.data_uses(total)


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


def _db(power: float) -> float:
    return 10 * math.log10(power)


def _shifted(evidence: Linear, added: Tensor) -> Linear:
    """Of x - added, as evidence of x."""
    return replace(evidence, y=evidence.y + evidence.operator.A(added))


def noisier(evidence: Linear | None, noise: float) -> Linear | None:
    """Of x + noise e, as evidence of x: per coefficient the noise is 1 + (g noise)^2, divided out."""
    if evidence is None:
        return None
    operator = evidence.operator
    assert isinstance(operator, CosineGain)
    std = (1 + (operator.gains * noise).square()).sqrt()
    return replace(evidence, y=evidence.y / std, operator=CosineGain(operator.gains / std))
