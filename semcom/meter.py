"""Channel uses and energy, measured on the symbols that enter the channel."""

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
"""Relative excess of the mean energy that counts as rounding, for float32 sums over 10^5 symbols."""

STANDARD_ERRORS = 5.0
"""Allowance for the random energy of coded QAM symbols, in standard errors of its mean."""

POINT_TOLERANCE = 1e-3
"""Largest deviation of a symbol from a constellation point, relative to the distance between points."""


@dataclass(frozen=True, slots=True)
class Metered:
    """Channel uses and energy of one transmission as measured.

    Args:
        channel_uses: Complex channel uses: data symbols, and pilots, prefixes and guards of the channel.
        energy: Sum of |x|^2 over all uses; pilots, prefixes and guards count with energy 1 each.
    """

    channel_uses: int
    energy: float


def metered(sent: Sent, budget: Budget, channel: Channel, name: str) -> Metered:
    """Measure the channel uses and energy of symbols, and refuse symbols that exceed the budget.

    The limit is a mean energy of 1 per channel use, with a relative tolerance of `ENERGY_TOLERANCE`. If some
    symbols are declared as constellation points, five standard errors of their mean energy are allowed on
    top, provided that the declaration is found to be true.

    Args:
        sent: Symbols about to enter the channel, [1, uses].
        budget: Channel uses allowed, pilots and prefixes included.
        channel: Channel whose pilots, prefixes and guards are added.
        name: Name of the scheme, for error messages.

    Returns:
        Channel uses and energy; both 0 if there are no symbols.

    Raises:
        BudgetExceeded: More channel uses or energy than allowed.
        FaultyTransmission: The symbols are not one row of finite complex numbers, or are not the
            constellation points that they are declared to be.
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
    if energy > allowed:  # within the random energy of QAM symbols: verify that they are QAM symbols
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
