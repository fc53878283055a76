"""Linear operators of observations: y = A x + noise."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Operator(Protocol):
    """A linear map with adjoint and pseudo-inverse, on batches."""

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """Apply the map."""
        ...

    def adjoint(self, y: Tensor) -> Tensor:
        """The map A* of <A x, y> = <x, A* y>."""
        ...

    def pinv(self, y: Tensor) -> Tensor:
        """Moore-Penrose pseudo-inverse."""
        ...


@dataclass(frozen=True)
class Identity:
    """A x = x."""

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """Return x."""
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """Return y."""
        return y

    def pinv(self, y: Tensor) -> Tensor:
        """Return y."""
        return y
