"""Linear operators A of observations y = A x + noise, with adjoint and pseudo-inverse."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from semcom.errors import InvalidOption, InvalidSource
from semcom.surroundings import ignored_warnings

ALIASED = 1e-12  # share of the largest gain below which a frequency counts as lost
LUMA = (0.299, 0.587, 0.114)  # BT.601, 2.5.1
_FORWARD = Lock()  # torch's forward differentiation serves one thread at a time


@runtime_checkable
class Operator(Protocol):
    """A linear map with adjoint and Moore-Penrose pseudo-inverse, applied to batches.

    The four Penrose conditions hold: A A+ A = A, A+ A A+ = A+, and A A+ and A+ A are symmetric. A+ A x is the
    part of x that the observation determines; the rest is left to a prior.
    """

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """Apply the linear map.

        Args:
            x: Items, [batch, ...].

        Returns:
            A x, [batch, ...].
        """
        ...

    def adjoint(self, y: Tensor) -> Tensor:
        """Apply the adjoint A*, defined by <A x, y> = <x, A* y>.

        Args:
            y: Observations, of the shape of A x.

        Returns:
            A* y, of the shape of x.
        """
        ...

    def pinv(self, y: Tensor) -> Tensor:
        """Apply the Moore-Penrose pseudo-inverse A+.

        Args:
            y: Observations, of the shape of A x.

        Returns:
            A+ y, of the shape of x: of all least-squares solutions of A x = y, the one of least norm.
        """
        ...


@runtime_checkable
class Tight(Operator, Protocol):
    """An operator whose nonzero singular values are all equal: A A* A = gain^2 A."""

    @property
    def gain(self) -> float:
        """Common value of the nonzero singular values, above 0."""
        ...


@runtime_checkable
class Diagonal(Operator, Protocol):
    """An operator whose singular vectors are available: A x = g V* x, the columns of V orthonormal.

    The part x - V V* x is lost, and so are coordinates with g = 0.
    """

    @property
    def gains(self) -> float | Tensor:
        """Singular values g, not negative, a number or a tensor that broadcasts with the coordinates."""
        ...

    def coordinates(self, x: Tensor) -> Tensor:
        """Coordinates V* x of items in the basis of right singular vectors.

        Args:
            x: Items, [batch, ...].

        Returns:
            V* x, [batch, ...].
        """
        ...

    def from_coordinates(self, c: Tensor) -> Tensor:
        """Items V c with given coordinates in the basis of right singular vectors.

        Args:
            c: Coordinates, of the shape of V* x.

        Returns:
            V c, of the shape of x.
        """
        ...


@dataclass(frozen=True)
class Identity:
    """Identity operator, A x = x."""

    @property
    def gain(self) -> float:
        """Singular value of the identity: 1."""
        return 1.0

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """Return x unchanged, since A is the identity."""
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """Return y unchanged, since A is the identity."""
        return y

    def pinv(self, y: Tensor) -> Tensor:
        """Return y unchanged, since A is the identity."""
        return y


@dataclass(frozen=True)
class BlockMean:
    """Mean of every block of `size` x `size` pixels, per colour.

    A+ repeats each value over its block. Blocks at the right and lower edge may be smaller.

    Args:
        size: Side of the blocks in pixels, at least 1.
        height: Height of the picture in pixels, at least 1.
        width: Width of the picture in pixels, at least 1.

    Raises:
        InvalidOption: Size, height or width is below 1.
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
        """Singular values, 1 / sqrt(pixels in the block), [rows, columns]: 1 / size, or more at the edge."""
        return self._counts(torch.zeros((), dtype=torch.float64)).rsqrt()

    def coordinates(
        self, x: Float[Tensor, "batch colors height width"]
    ) -> Float[Tensor, "batch colors rows columns"]:
        """Sum of each block over the square root of its number of pixels."""
        return self.A(x) * self._counts(x).sqrt()

    def from_coordinates(
        self, c: Float[Tensor, "batch colors rows columns"]
    ) -> Float[Tensor, "batch colors height width"]:
        """Spread each coordinate evenly over its block, the adjoint of `coordinates`."""
        return self.pinv(c * self._counts(c).rsqrt())

    def A(self, x: Float[Tensor, "batch colors height width"]) -> Float[Tensor, "batch colors rows columns"]:  # noqa: N802
        """Mean of each block, [batch, colors, height, width] to [batch, colors, rows, columns]."""
        _check_size(x, self.height, self.width)
        padding = (0, -self.width % self.size, 0, -self.height % self.size)
        sums = functional.avg_pool2d(functional.pad(x, padding), self.size) * self.size**2
        return sums / self._counts(x)

    def adjoint(
        self, y: Float[Tensor, "batch colors rows columns"]
    ) -> Float[Tensor, "batch colors height width"]:
        """Divide each value by the number of pixels of its block and repeat it over the block."""
        return self.pinv(y / self._counts(y))

    def pinv(
        self, y: Float[Tensor, "batch colors rows columns"]
    ) -> Float[Tensor, "batch colors height width"]:
        """Repeat each value over its block."""
        repeated = y.repeat_interleave(self.size, 2).repeat_interleave(self.size, 3)
        return repeated[:, :, : self.height, : self.width]

    def _counts(self, like: Tensor) -> Float[Tensor, "rows columns"]:
        """Number of pixels in each block."""
        down, across = (
            torch.full((-(-side // self.size),), self.size, dtype=like.dtype, device=like.device)
            for side in (self.height, self.width)
        )
        down[-1] -= -self.height % self.size
        across[-1] -= -self.width % self.size
        return down[:, None] * across


@dataclass(frozen=True, eq=False)
class DecimatedBlur:
    """Circular convolution with a kernel, followed by decimation to every `factor`-th row and column.

    A A* is diagonal in frequency: the mean of |H|^2 over the frequencies that decimation aliases onto each
    other. A+ = A* (A A*)^-1 where that is not 0.

    Args:
        kernel: Kernel with odd sides, [down, across]; its centre is the origin.
        factor: Decimation factor, at least 1, which divides height and width.
        height: Height of the picture in pixels, at least that of the kernel.
        width: Width of the picture in pixels, at least that of the kernel.

    Raises:
        InvalidOption: The kernel has even sides or exceeds the picture, or the factor does not divide it.
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
        """Blur and decimate, [batch, colors, height, width] to [batch, colors, rows, columns]."""
        _check_size(x, self.height, self.width)
        blurred = torch.fft.irfft2(torch.fft.rfft2(x) * self._gain(x, half=True), s=x.shape[2:])
        return blurred[:, :, :: self.factor, :: self.factor]

    def adjoint(
        self, y: Float[Tensor, "batch colors rows columns"]
    ) -> Float[Tensor, "batch colors height width"]:
        """Insert zeros between the values, then correlate with the kernel."""
        spread = y.new_zeros(*y.shape[:2], self.height, self.width)
        spread[:, :, :: self.factor, :: self.factor] = y
        return torch.fft.irfft2(torch.fft.rfft2(spread) * self._gain(y, half=True).conj(), s=spread.shape[2:])

    def pinv(
        self, y: Float[Tensor, "batch colors rows columns"]
    ) -> Float[Tensor, "batch colors height width"]:
        """Pseudo-inverse A* (A A*)^+ y, computed in the frequency domain."""
        energy = self._gain(y, half=False).abs().square()
        rows, columns = self.height // self.factor, self.width // self.factor
        folded = energy.reshape(self.factor, rows, self.factor, columns).mean((0, 2))
        heard = folded > ALIASED * energy.max()
        inverse = torch.where(heard, 1 / torch.where(heard, folded, 1.0), 0.0)
        return self.adjoint(torch.fft.ifft2(torch.fft.fft2(y) * inverse).real)

    def _gain(self, like: Tensor, half: bool) -> Tensor:
        """Transfer function of the kernel."""
        down, across = self.kernel.shape
        padded = like.new_zeros(self.height, self.width)
        padded[:down, :across] = self.kernel.to(like)
        centred = padded.roll((-(down // 2), -(across // 2)), (0, 1))
        return torch.fft.rfft2(centred) if half else torch.fft.fft2(centred)


@dataclass(frozen=True, eq=False)
class Mask:
    """Erasure operator A x = m x with a mask of zeros and ones: what was received of a picture.

    Args:
        kept: True where received, of a shape that broadcasts with the picture's.
    """

    kept: Bool[Tensor, "..."]

    @property
    def gain(self) -> float:
        """Common nonzero singular value of a mask: 1."""
        return 1.0

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """Set erased values to zero."""
        return x * self.kept

    def adjoint(self, y: Tensor) -> Tensor:
        """Set erased values to zero, since a mask is self-adjoint."""
        return y * self.kept

    def pinv(self, y: Tensor) -> Tensor:
        """Set erased values to zero, since a mask is a projection."""
        return y * self.kept


@dataclass(frozen=True)
class Grey:
    """Luminance operator A x = w . x over colours, with the weights of BT.601."""

    @property
    def gain(self) -> float:
        """Singular value |w| of the luminance weights."""
        return math.hypot(*LUMA)

    def A(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 1 height width"]:  # noqa: N802
        """Luminance of a picture, [batch, 3, height, width] to [batch, 1, height, width]."""
        return (x * self._weights(x)).sum(1, keepdim=True)

    def adjoint(self, y: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Luminance weights times y, for every colour."""
        return y * self._weights(y)

    def pinv(self, y: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Picture of least energy with luminance y, w y / |w|^2."""
        return self.adjoint(y) / self._weights(y).square().sum()

    def _weights(self, like: Tensor) -> Float[Tensor, "3 1 1"]:
        return torch.tensor(LUMA, dtype=like.dtype, device=like.device)[:, None, None]


@dataclass(frozen=True, eq=False)
class Fade:
    """Fading operator A x = h x on symbols, with one gain per channel use.

    Args:
        h: Gains, complex [batch, uses], as in `channels.Received`.
    """

    h: Tensor

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """Multiply each symbol by its gain."""
        return self.h * x

    def adjoint(self, y: Tensor) -> Tensor:
        """Matched filter: multiply each symbol by the conjugate of its gain."""
        return self.h.conj() * y

    def pinv(self, y: Tensor) -> Tensor:
        """Zero forcing: divide each symbol by its gain; zero where the gain is zero."""
        heard = self.h != 0
        return torch.where(heard, y / torch.where(heard, self.h, 1.0), 0.0)


@dataclass(frozen=True)
class Composed:
    """Composition of two operators, A = outer inner.

    The pseudo-inverse is taken to be inner+ outer+, which is exact if inner inner* or outer* outer is a
    multiple of the identity, as with `BlockMean` of whole blocks or `Grey` for inner. Otherwise wrap the
    composition in `IterativePinv`.

    Args:
        outer: Operator that is applied second.
        inner: Operator that is applied first.
    """

    outer: Operator
    inner: Operator

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """Apply the inner operator, then the outer one."""
        return self.outer.A(self.inner.A(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """Apply the outer adjoint, then the inner one."""
        return self.inner.adjoint(self.outer.adjoint(y))

    def pinv(self, y: Tensor) -> Tensor:
        """Apply the outer pseudo-inverse, then the inner one."""
        return self.inner.pinv(self.outer.pinv(y))


@dataclass(frozen=True)
class IterativePinv:
    """An operator whose pseudo-inverse is computed by conjugate gradients on A* A x = A* y, from x = 0.

    The start keeps x in the range of A*, so that the solution has the least norm.

    Args:
        operator: Operator of which only `A` and `adjoint` are used.
        tolerance: Stop at |A* (y - A x)| <= tolerance |A* y|.
        max_iterations: Iteration limit.

    Reference:
        Hestenes and Stiefel, Methods of conjugate gradients for solving linear systems, J. Res. NBS 49, 1952,
        section 10.
    """

    operator: Operator
    tolerance: float = 1e-6
    max_iterations: int = 500

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """Apply the wrapped operator."""
        return self.operator.A(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Apply the adjoint of the wrapped operator."""
        return self.operator.adjoint(y)

    def pinv(self, y: Tensor) -> Tensor:
        """Least-squares solution of least norm, by conjugate gradients."""
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
    """Derivative J of a measurement at a picture, A v = J v and A* u = J* u, by automatic differentiation.

    Args:
        measurement: Differentiable map of real tensors.
        at: Picture at which the derivative is taken.
        tolerance: Stopping criterion of the pseudo-inverse, relative to |A* y|.
        max_iterations: Iteration limit of the pseudo-inverse.
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
        """Value of the measurement at the picture."""
        return self._graph[1].detach()

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """Jacobian-vector product J v, by forward differentiation."""
        with torch.no_grad(), ignored_warnings(), _FORWARD:  # torch warns of its first forward derivative
            return torch.func.jvp(self.measurement, (self.at,), (x,))[1]

    def adjoint(self, y: Tensor) -> Tensor:
        """Vector-Jacobian product J* u, by backward differentiation."""
        at, value = self._graph
        return torch.autograd.grad(value, at, y, retain_graph=True)[0]

    def pinv(self, y: Tensor) -> Tensor:
        """Least-squares solution of least norm of J v = y, by conjugate gradients."""
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
    """Write an operator with its singular vectors, if that needs no computation.

    Args:
        operator: Any operator.

    Returns:
        The operator itself if diagonal, a diagonal view of a tight one, or None for any other.
    """
    if isinstance(operator, Diagonal):
        return operator
    return _DiagonalTight(operator) if isinstance(operator, Tight) else None


def _check_size(x: Tensor, height: int, width: int) -> None:
    if x.shape[2:] != (height, width):
        raise InvalidSource(f"picture of {x.shape[2]}x{x.shape[3]} for an operator of {height}x{width}")
