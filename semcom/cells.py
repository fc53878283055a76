"""Interval constraints on linear functions of a picture, such as the quantisation cells of a codec."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from semcom.errors import InvalidOption
from semcom.operators import Operator

TOLERANCE = 5e-6  # largest distance of a value to its interval, as a share of the range of pictures
MARGIN = 0.01  # share of an interval's half by which targets lie inside it, so that the interval is reached
MAX_STEPS = 100


@dataclass(frozen=True, eq=False, slots=True)
class Cells:
    """Set of pictures x with low <= A x <= high, value by value.

    The set is convex, as is the set of all pictures that code to given bytes.

    Args:
        operator: Linear operator A.
        low: Lower bounds of A x, of a shape that broadcasts with it; -inf where nothing is known.
        high: Upper bounds, at least `low`; inf where nothing is known.

    Raises:
        InvalidOption: A lower bound exceeds its upper bound.
    """

    operator: Operator
    low: Tensor
    high: Tensor

    def __post_init__(self) -> None:
        if not bool((self.low <= self.high).all()):
            raise InvalidOption("cells with a lower bound above the upper one: low <= high, value by value")

    def outside(self, x: Tensor) -> Tensor:
        """Distance of every value of A x to its interval, in units of A x; 0 inside.

        Args:
            x: Pictures, [batch, ...].

        Returns:
            Distances >= 0, of the shape of A x.
        """
        return self._missing(x, 0.0).abs()

    def misfit(self, x: Tensor) -> Float[Tensor, " batch"]:
        """Largest distance of a value of A x to its interval.

        Args:
            x: Pictures, [batch, ...].

        Returns:
            Distance >= 0 in units of A x, [batch].
        """
        return self.outside(x).flatten(1).amax(1)

    def inside(self, x: Tensor) -> Tensor:
        """Project x towards the cells: x + A+ (clamp(A x, low, high) - A x).

        The result lies in the cells if A has full row rank; otherwise it is as near as one step of A+ gets.
        The projection is orthogonal in the norm in which A+ gives the least-norm solution.

        Args:
            x: Pictures, [batch, ...].

        Returns:
            Pictures of the same shape.
        """
        return x + self.operator.pinv(self._missing(x, 0.0))

    def settled(self, x: Tensor, lowest: float, highest: float) -> Tensor:
        """Find a point near x in the cells and in the box [lowest, highest], in double precision.

        Projected gradient steps (`inside`, then clipping) with Nesterov's momentum, restarted where it
        opposes the movement. All iterates are in the box; the iteration ends when no value of A x is more
        than TOLERANCE of the box's width outside. If cells and box have no common interior, the iteration
        ends after MAX_STEPS: the result is in the box, and `misfit` gives its distance to the cells. No proof
        of convergence is known to us if A+ is not the least-norm solution in the norm in which the box is
        clipped.

        Args:
            x: Starting point, [batch, ...].
            lowest: Lower bound of every value of x; may be -inf.
            highest: Upper bound of every value of x; may be inf.

        Returns:
            Pictures of the shape of x, float64.

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
        """Change that takes A x into the intervals, shrunk by this share on both sides."""
        y = self.operator.A(x)
        low, high = self.low.to(y), self.high.to(y)
        inset = (margin / 2 * (high - low)).nan_to_num(posinf=0.0)
        return torch.minimum(torch.maximum(y, low + inset), high - inset) - y


def in_units(cells: Cells, shape: tuple[int, ...], gain: float, offset: float) -> Cells:
    """Cells of x derived from the cells of the picture gain x + offset.

    Args:
        cells: Cells of the picture.
        shape: Shape of x.
        gain: Scale, above 0.
        offset: Constant added to every value.

    Returns:
        Cells of x.
    """
    ones = torch.ones(shape, dtype=cells.low.dtype, device=cells.low.device)
    constant = offset * cells.operator.A(ones)
    return Cells(cells.operator, (cells.low - constant) / gain, (cells.high - constant) / gain)
