"""Channel uses and energy, measured on the symbols that cross the channel."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Complex
from torch import Tensor

from channels import Channel, Constellation
from semcom.budget import Budget
from semcom.errors import BudgetExceeded, FaultyTransmission
from semcom.transmission import Modulated, Sent

ENERGY_TOLERANCE = 1e-4
"""Relative; float32 sums over 10^5 symbols."""

STANDARD_ERRORS = 5.0
"""Of the energy of coded QAM symbols, that are allowed on top."""

POINT_TOLERANCE = 1e-3
"""Distance of a modulated symbol from a point of its constellation, over the distance of two points."""


@dataclass(frozen=True, slots=True)
class Metered:
    """What crossed the channel.

    Args:
        channel_uses: Complex channel uses: data symbols, and the channel's pilots, prefixes and guards.
        energy: Sum of |x|^2 over them; pilots, prefixes and guards count with energy 1 per use.
    """

    channel_uses: int
    energy: float


def metered(sent: Sent, budget: Budget, channel: Channel, name: str) -> Metered:
    """Measure symbols, and refuse what is beyond the budget.

    The mean energy per channel use may exceed 1 by `ENERGY_TOLERANCE`, and by 5 standard errors of the energy
    of the symbols that are declared, and found, to be points of a QAM constellation.

    Args:
        sent: Symbols about to cross.
        budget: Channel uses allowed.
        channel: The medium, for its overhead.
        name: Name of the scheme, for messages.

    Returns:
        Channel uses and energy.

    Raises:
        BudgetExceeded: More channel uses or energy than allowed.
        FaultyTransmission: Symbols that are not one finite complex row, or that are not the points of the
            constellation they are declared to be.
    """
    x = sent.symbols
    if not (isinstance(x, Tensor) and x.is_complex() and x.ndim == 2 and x.shape[0] == 1):
        what = f"{list(x.shape)} of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise FaultyTransmission(f"{name} sends {what}, expected complex symbols [1, uses]; mend it")
    if not torch.view_as_real(x.resolve_conj()).isfinite().all():
        raise FaultyTransmission(f"{name} sends symbols that are not finite (NaN or infinity); mend it")
    if not x.shape[1]:
        return Metered(0, 0.0)
    overhead = channel.overhead(x.shape[1])
    uses = x.shape[1] + overhead
    if uses > budget.channel_uses:
        raise BudgetExceeded(f"{name} sent {uses} channel uses, allowed are {budget.channel_uses}")
    energy = overhead + float(torch.view_as_real(x.resolve_conj()).double().square().sum())
    allowed = uses * (1 + ENERGY_TOLERANCE)
    variance = sum(map(_energy_variance, sent.modulated))
    if energy > allowed + STANDARD_ERRORS * math.sqrt(variance):
        raise BudgetExceeded(f"{name} sent energy {energy / uses:.5f} per channel use, allowed is 1")
    if energy > allowed:  # by chance, if the symbols are what they are declared to be
        for part in sent.modulated:
            _check_declared(part, x, name)
    return Metered(uses, energy)


def _energy_variance(part: Modulated) -> float:
    """Variance of the sum of |x|^2 over independent points of the constellation."""
    fourth = float(part.constellation.points.abs().double().pow(4).mean())
    return max(part.symbols, 0) * part.power**2 * (fourth - 1)


def _check_declared(part: Modulated, x: Complex[Tensor, "1 uses"], name: str) -> None:
    found = _points(x, part.constellation, part.power)
    if part.symbols > found:
        raise FaultyTransmission(
            f"{name} declares {part.symbols} symbols of {part.constellation.name} at power {part.power:g}, "
            f"of which {found} are; declare what is sent"
        )


def _points(x: Complex[Tensor, "1 uses"], constellation: Constellation, power: float) -> int:
    """How many symbols are points of the constellation at that power."""
    levels = constellation.levels.sort().values.double() * math.sqrt(power)
    if constellation.size == 2:
        levels = levels * 0.5**0.5
    step = float(levels[1] - levels[0])
    parts = torch.view_as_real(x.resolve_conj()).double()
    nearest = ((parts - levels[0]) / step).round().clamp(0, len(levels) - 1) * step + levels[0]
    near = (parts - nearest).abs() <= POINT_TOLERANCE * step
    return int(near.all(-1).sum())
