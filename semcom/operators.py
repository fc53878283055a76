"""Operators of observations, y = A x + noise: linear ones with adjoint and pseudo-inverse."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from semcom.errors import InvalidOption, InvalidSource

ALIASED = 1e-12  # of the largest gain: what a blur lets through below it counts as lost
LUMA = (0.299, 0.587, 0.114)  # BT.601, 2.5.1


@runtime_checkable
class Operator(Protocol):
    """A linear map with adjoint and pseudo-inverse, on batches.

    The four Penrose conditions hold: A A+ A = A, A+ A A+ = A+, and A A+ and A+ A are symmetric. A+ A x is the
    part of x that the observation determines; the rest is up to a prior.
    """

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """Apply the map."""
        ...

    def adjoint(self, y: Tensor) -> Tensor:
        """The map A* of <A x, y> = <x, A* y>."""
        ...

    def pinv(self, y: Tensor) -> Tensor:
        """Moore-Penrose pseudo-inverse."""
        ...


@runtime_checkable
class Tight(Operator, Protocol):
    """An operator whose singular values are all equal or 0: A A* A = gain^2 A."""

    @property
    def gain(self) -> float:
        """That singular value."""
        ...


@runtime_checkable
class Diagonal(Operator, Protocol):
    """An operator whose singular vectors are at hand: A x = g V* x, the columns of V orthonormal.

    x - V V* x is lost, and so is what g is 0 for.
    """

    @property
    def gains(self) -> float | Tensor:
        """g, not negative."""
        ...

    def coordinates(self, x: Tensor) -> Tensor:
        """V* x."""
        ...

    def from_coordinates(self, c: Tensor) -> Tensor:
        """V c."""
        ...


@dataclass(frozen=True)
class Identity:
    """A x = x."""

    @property
    def gain(self) -> float:
        """1."""
        return 1.0

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """Return x."""
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """Return y."""
        return y

    def pinv(self, y: Tensor) -> Tensor:
        """Return y."""
        return y


@dataclass(frozen=True)
class BlockMean:
    """Mean of every block of `size` x `size` pixels, per colour.

    A+ repeats each value over its block. Blocks at the right and lower edge may be smaller.

    Args:
        size: Side of the blocks in pixels, at least 1.
        height: Of the picture.
        width: Of the picture.

    Raises:
        InvalidOption: Size, height or width below 1.
    """

    size: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if min(self.size, self.height, self.width) < 1:
            raise InvalidOption(
                f"blocks of {self.size} in {self.height}x{self.width}: all must be at least 1"
            )

    @property
    def gains(self) -> Float[Tensor, "rows columns"]:
        """1 / size, more for smaller blocks at the edge."""
        return self._counts(torch.zeros((), dtype=torch.float64)).rsqrt()

    def coordinates(
        self, x: Float[Tensor, "batch colors height width"]
    ) -> Float[Tensor, "batch colors rows columns"]:
        """Sums over the root of the number of pixels."""
        return self.A(x) * self._counts(x).sqrt()

    def from_coordinates(
        self, c: Float[Tensor, "batch colors rows columns"]
    ) -> Float[Tensor, "batch colors height width"]:
        """The adjoint of `coordinates`."""
        return self.pinv(c * self._counts(c).rsqrt())

    def A(self, x: Float[Tensor, "batch colors height width"]) -> Float[Tensor, "batch colors rows columns"]:  # noqa: N802
        """Means."""
        _check_size(x, self.height, self.width)
        padding = (0, -self.width % self.size, 0, -self.height % self.size)
        sums = functional.avg_pool2d(functional.pad(x, padding), self.size) * self.size**2
        return sums / self._counts(x)

    def adjoint(
        self, y: Float[Tensor, "batch colors rows columns"]
    ) -> Float[Tensor, "batch colors height width"]:
        """Each value over the size of its block, repeated."""
        return self.pinv(y / self._counts(y))

    def pinv(
        self, y: Float[Tensor, "batch colors rows columns"]
    ) -> Float[Tensor, "batch colors height width"]:
        """Each value repeated."""
        repeated = y.repeat_interleave(self.size, 2).repeat_interleave(self.size, 3)
        return repeated[:, :, : self.height, : self.width]

    def _counts(self, like: Tensor) -> Float[Tensor, "rows columns"]:
        """Pixels in each block."""
        down, across = (
            torch.full((-(-side // self.size),), self.size, dtype=like.dtype, device=like.device)
            for side in (self.height, self.width)
        )
        down[-1] -= -self.height % self.size
        across[-1] -= -self.width % self.size
        return down[:, None] * across


@dataclass(frozen=True, eq=False)
class DecimatedBlur:
    """Circular convolution with a kernel, then every `factor`-th pixel of every `factor`-th row.

    A A* is diagonal in frequency: the mean of |H|^2 over the frequencies that decimation folds onto each
    other. A+ = A* (A A*)^-1 where that is not 0.

    Args:
        kernel: Odd sides; its centre is the origin.
        factor: At least 1, divides height and width.
        height: Of the picture, at least that of the kernel.
        width: Of the picture, at least that of the kernel.

    Raises:
        InvalidOption: A kernel of even sides or larger than the picture, or a factor that does not divide it.
    """

    kernel: Float[Tensor, "down across"]
    factor: int
    height: int
    width: int

    def __post_init__(self) -> None:
        down, across = self.kernel.shape
        if down % 2 == 0 or across % 2 == 0 or down > self.height or across > self.width:
            raise InvalidOption(
                f"kernel of {down}x{across} for {self.height}x{self.width}: "
                "its sides must be odd and not above the picture's"
            )
        if self.factor < 1 or self.height % self.factor or self.width % self.factor:
            raise InvalidOption(
                f"every {self.factor}-th pixel of {self.height}x{self.width}: the factor must divide both"
            )

    def A(self, x: Float[Tensor, "batch colors height width"]) -> Float[Tensor, "batch colors rows columns"]:  # noqa: N802
        """Blur and decimate."""
        _check_size(x, self.height, self.width)
        blurred = torch.fft.irfft2(torch.fft.rfft2(x) * self._gain(x, half=True), s=x.shape[2:])
        return blurred[:, :, :: self.factor, :: self.factor]

    def adjoint(
        self, y: Float[Tensor, "batch colors rows columns"]
    ) -> Float[Tensor, "batch colors height width"]:
        """Zeros between the values, then correlation with the kernel."""
        spread = y.new_zeros(*y.shape[:2], self.height, self.width)
        spread[:, :, :: self.factor, :: self.factor] = y
        return torch.fft.irfft2(torch.fft.rfft2(spread) * self._gain(y, half=True).conj(), s=spread.shape[2:])

    def pinv(
        self, y: Float[Tensor, "batch colors rows columns"]
    ) -> Float[Tensor, "batch colors height width"]:
        """A* (A A*)^+ y."""
        energy = self._gain(y, half=False).abs().square()
        rows, columns = self.height // self.factor, self.width // self.factor
        folded = energy.reshape(self.factor, rows, self.factor, columns).mean((0, 2))
        heard = folded > ALIASED * energy.max()
        inverse = torch.where(heard, 1 / torch.where(heard, folded, 1.0), 0.0)
        return self.adjoint(torch.fft.ifft2(torch.fft.fft2(y) * inverse).real)

    def _gain(self, like: Tensor, half: bool) -> Tensor:
        """Transfer function."""
        down, across = self.kernel.shape
        padded = like.new_zeros(self.height, self.width)
        padded[:down, :across] = self.kernel.to(like)
        centred = padded.roll((-(down // 2), -(across // 2)), (0, 1))
        return torch.fft.rfft2(centred) if half else torch.fft.fft2(centred)


@dataclass(frozen=True, eq=False)
class Mask:
    """A x = m x with a mask of zeros and ones: what was received of a picture, an erasure elsewhere.

    Args:
        kept: True where received, of a shape that fits the picture's.
    """

    kept: Bool[Tensor, "..."]

    @property
    def gain(self) -> float:
        """1."""
        return 1.0

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """Zero where nothing was received."""
        return x * self.kept

    def adjoint(self, y: Tensor) -> Tensor:
        """The same."""
        return y * self.kept

    def pinv(self, y: Tensor) -> Tensor:
        """The same: a projection."""
        return y * self.kept


@dataclass(frozen=True)
class Grey:
    """A x = w . x over colours: luma of BT.601."""

    @property
    def gain(self) -> float:
        """|w|."""
        return math.hypot(*LUMA)

    def A(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 1 height width"]:  # noqa: N802
        """Luma."""
        return (x * self._weights(x)).sum(1, keepdim=True)

    def adjoint(self, y: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """The luma weights times y."""
        return y * self._weights(y)

    def pinv(self, y: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """The picture of least energy, w y / |w|^2."""
        return self.adjoint(y) / self._weights(y).square().sum()

    def _weights(self, like: Tensor) -> Float[Tensor, "3 1 1"]:
        return torch.tensor(LUMA, dtype=like.dtype, device=like.device)[:, None, None]


@dataclass(frozen=True, eq=False)
class Fade:
    """A x = h x on symbols, one gain per channel use: the linear channel itself.

    Args:
        h: Effective gains, as in `channels.Received`.
    """

    h: Tensor

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """Fade."""
        return self.h * x

    def adjoint(self, y: Tensor) -> Tensor:
        """Matched filter."""
        return self.h.conj() * y

    def pinv(self, y: Tensor) -> Tensor:
        """Zero forcing; zero where there is no gain."""
        heard = self.h != 0
        return torch.where(heard, y / torch.where(heard, self.h, 1.0), 0.0)


@dataclass(frozen=True)
class Composed:
    """A = outer inner.

    The pseudo-inverse is taken to be inner+ outer+, which holds where inner inner* or outer* outer is a
    multiple of the identity, as with `BlockMean` of whole blocks or `Grey` for inner. Otherwise wrap in
    `IterativePinv`.

    Args:
        outer: Applied second.
        inner: Applied first.
    """

    outer: Operator
    inner: Operator

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """Inner, then outer."""
        return self.outer.A(self.inner.A(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """Outer's adjoint, then inner's."""
        return self.inner.adjoint(self.outer.adjoint(y))

    def pinv(self, y: Tensor) -> Tensor:
        """Outer's pseudo-inverse, then inner's."""
        return self.inner.pinv(self.outer.pinv(y))


@dataclass(frozen=True)
class IterativePinv:
    """An operator whose pseudo-inverse is found by conjugate gradients on A* A x = A* y, from x = 0.

    The start keeps x in the range of A*, so that of all solutions it is the shortest.

    Args:
        operator: Of which only `A` and `adjoint` are used.
        tolerance: |A* (y - A x)| relative to |A* y| at which to stop.
        max_iterations: Limit.

    Reference:
        Hestenes and Stiefel, Methods of conjugate gradients for solving linear systems, J. Res. NBS 49, 1952,
        section 10.
    """

    operator: Operator
    tolerance: float = 1e-6
    max_iterations: int = 500

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """Of the operator."""
        return self.operator.A(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Of the operator."""
        return self.operator.adjoint(y)

    def pinv(self, y: Tensor) -> Tensor:
        """Least squares of least norm."""
        residual = self.adjoint(y)
        x = torch.zeros_like(residual)
        direction, energy = residual, residual.abs().square().sum()
        stop = self.tolerance**2 * energy
        for _ in range(self.max_iterations):
            if energy <= stop or energy == 0:
                break
            through = self.A(direction)
            step = energy / through.abs().square().sum()
            x = x + step * direction
            residual = residual - step * self.adjoint(through)
            following = residual.abs().square().sum()
            direction, energy = residual + following / energy * direction, following
        return x


@dataclass(frozen=True, eq=False)
class Linearised:
    """The derivative of a measurement at a picture: A v = J v and A* u = J* u, by automatic differentiation.

    Args:
        measurement: Differentiable map of real tensors.
        at: Where.
        tolerance: Of the pseudo-inverse, as in `IterativePinv`.
        max_iterations: Of the pseudo-inverse.
    """

    measurement: Callable[[Tensor], Tensor]
    at: Tensor
    tolerance: float = 1e-4
    max_iterations: int = 100

    @cached_property
    def _graph(self) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            at = self.at.detach().requires_grad_(True)
            return at, self.measurement(at)

    @property
    def value(self) -> Tensor:
        """The measurement there."""
        return self._graph[1].detach()

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """J v, forward."""
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own, of its first forward derivative
            return torch.func.jvp(self.measurement, (self.at,), (x,))[1]

    def adjoint(self, y: Tensor) -> Tensor:
        """J* u, backward."""
        at, value = self._graph
        return torch.autograd.grad(value, at, y, retain_graph=True)[0]

    def pinv(self, y: Tensor) -> Tensor:
        """By conjugate gradients."""
        return IterativePinv(self, self.tolerance, self.max_iterations).pinv(y)


@dataclass(frozen=True)
class _DiagonalTight:
    """A tight operator as a diagonal one: V* = A / gain."""

    operator: Tight

    @property
    def gains(self) -> float:
        return self.operator.gain

    def coordinates(self, x: Tensor) -> Tensor:
        return self.operator.A(x) / self.operator.gain

    def from_coordinates(self, c: Tensor) -> Tensor:
        return self.operator.adjoint(c) / self.operator.gain

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        return self.operator.A(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.operator.adjoint(y)

    def pinv(self, y: Tensor) -> Tensor:
        return self.operator.pinv(y)


def diagonal_form(operator: Operator) -> Diagonal | None:
    """The operator with its singular vectors, where that costs nothing; None for any other."""
    if isinstance(operator, Diagonal):
        return operator
    return _DiagonalTight(operator) if isinstance(operator, Tight) else None


def _check_size(x: Tensor, height: int, width: int) -> None:
    if x.shape[2:] != (height, width):
        raise InvalidSource(f"picture of {x.shape[2]}x{x.shape[3]} for an operator of {height}x{width}")
