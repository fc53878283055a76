"""What a receiver knows for certain: linear functions of the picture, each within an interval."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from semcom.errors import InvalidOption
from semcom.operators import Operator

TOLERANCE = 5e-6  # of the range of pictures: how far outside of its interval a value may stay
MARGIN = 0.01  # of an interval's half: aimed at instead of its end, so that it is entered and not approached
MAX_STEPS = 100


@dataclass(frozen=True, eq=False, slots=True)
class Cells:
    """low <= A x <= high, value by value: a convex set, like all pictures that code to the same bytes.

    Args:
        operator: A.
        low: Bounds of A x, of its shape or one that fits it; infinite where nothing is known.
        high: Above them or equal.

    Raises:
        InvalidOption: An interval whose ends are in the wrong order.
    """

    operator: Operator
    low: Tensor
    high: Tensor

    def __post_init__(self) -> None:
        if not bool((self.low <= self.high).all()):
            raise InvalidOption("cells with a lower bound above the upper one: low <= high, value by value")

    def outside(self, x: Tensor) -> Tensor:
        """How far outside of its interval every value of A x is, in its units; 0 inside."""
        return self._missing(x, 0.0).abs()

    def misfit(self, x: Tensor) -> Float[Tensor, " batch"]:
        """The same of the worst value."""
        return self.outside(x).flatten(1).amax(1)

    def inside(self, x: Tensor) -> Tensor:
        """Nearest to x: x + A+ (clamp(A x, low, high) - A x).

        Inside wherever A has full row rank; elsewhere as near as A+ gets in one step. Near
        is meant by the distance in which A+ is the shortest answer.
        """
        return x + self.operator.pinv(self._missing(x, 0.0))

    def settled(self, x: Tensor, lowest: float, highest: float) -> Tensor:
        """A point near x of these cells and of the box [lowest, highest], in double precision.

        Steps of `inside`, each followed by clipping, with Nesterov's momentum, restarted where it turns
        against the movement; in the box from the first step on, and finished when no value of A x is more
        than TOLERANCE of the box's width outside. Cells and box that meet only in their ends or not at all
        are given up after MAX_STEPS: what comes back is in the box, and `misfit` says how far from the cells.
        No proof of convergence is known to us where A+ is not the shortest answer by the distance in which
        the box is clipped.

        Args:
            x: Where to begin.
            lowest: Of every value of x; may be infinite.
            highest: Likewise.

        Reference:
            Byrne, Iterative oblique projection onto convex sets and the split feasibility problem, Inverse
            Problems 18, 2002; Beck and Teboulle, FISTA, SIAM J. Imaging Sciences 2, 2009; O'Donoghue and
            Candes, Adaptive restart for accelerated gradient schemes, 2015 (the gradient scheme).
        """
        bounded = abs(highest - lowest) < float("inf")
        enough = TOLERANCE * (highest - lowest if bounded else 1.0)
        x = ahead = x.double().clamp(lowest, highest)
        momentum = 1.0
        for _ in range(MAX_STEPS):
            if float(self.misfit(x).max()) <= enough:
                break
            following = (ahead + self.operator.pinv(self._missing(ahead, MARGIN))).clamp(lowest, highest)
            if float(((ahead - following) * (following - x)).sum()) > 0:
                momentum, ahead = 1.0, following
            else:
                grown = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
                ahead = following + (momentum - 1) / grown * (following - x)
                momentum = grown
            x = following
        return x

    def _missing(self, x: Tensor, margin: float) -> Tensor:
        """What takes A x into the intervals, made smaller by this share on both sides."""
        y = self.operator.A(x)
        low, high = self.low.to(y), self.high.to(y)
        inset = (margin / 2 * (high - low)).nan_to_num(posinf=0.0)
        return torch.minimum(torch.maximum(y, low + inset), high - inset) - y


def in_units(cells: Cells, shape: tuple[int, ...], gain: float, offset: float) -> Cells:
    """Cells of x for cells of the picture gain x + offset.

    Args:
        cells: Of the picture.
        shape: Of x.
        gain: Above 0.
        offset: Of every value.
    """
    ones = torch.ones(shape, dtype=cells.low.dtype, device=cells.low.device)
    constant = offset * cells.operator.A(ones)
    return Cells(cells.operator, (cells.low - constant) / gain, (cells.high - constant) / gain)
