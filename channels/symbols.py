"""Real values to complex symbols and back, and power per item."""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from channels.errors import ChannelError

Symbols = Complex[Tensor, "batch uses"]


def widen(values: Tensor) -> Tensor:
    """Convert values of half precision to single precision and leave all others as they are.

    Most complex arithmetic exists in single and double precision only, and a noise variance below 6e-8 is 0
    in half precision.

    Args:
        values: Real or complex values, any shape.

    Returns:
        The values; float16 and bfloat16 become float32, complex32 becomes complex64.
    """
    if values.dtype in (torch.float16, torch.bfloat16):
        return values.float()
    return values.to(torch.complex64) if values.dtype == torch.complex32 else values


def as_symbols(x: object) -> Complex[Tensor, "batch uses"]:
    """Check that an object is a batch of complex symbols; half precision becomes complex64.

    PyTorch has no arithmetic for complex numbers of half precision on a CPU, and their range ends at 65504.

    Args:
        x: Symbols, complex [batch, uses].

    Returns:
        x, in complex64 or complex128.

    Raises:
        ChannelError: x is not a tensor, not complex, or of another rank.
    """
    if not isinstance(x, Tensor):
        raise ChannelError(f"symbols of {type(x).__name__}: expected a complex torch tensor [batch, uses]")
    if not x.is_complex():
        raise ChannelError(
            f"symbols of {x.dtype}: expected complex numbers; pack pairs of real values by channels.symbols"
        )
    if x.ndim != 2:
        raise ChannelError(f"symbols of shape {list(x.shape)}: expected [batch, uses]; reshape them")
    return widen(x)


def pack(values: Float[Tensor, "batch reals"]) -> Complex[Tensor, "batch uses"]:
    """Pack pairs of neighbouring real values (2i, 2i+1) into complex symbols.

    An odd number of values is padded with one zero.

    Args:
        values: Real values [batch, reals], floating point; those of 16 bits become float32.

    Returns:
        Symbols, complex [batch, ceil(reals / 2)]; complex64 for values of half or single precision.

    Raises:
        ChannelError: The values are not floating-point numbers, or of another rank.
    """
    if not values.is_floating_point():
        raise ChannelError(
            f"values of {values.dtype}: expected floating point; convert them, for instance .float()"
        )
    if values.ndim != 2:
        raise ChannelError(f"values of shape {list(values.shape)}: expected [batch, reals]; reshape them")
    values = widen(values)
    if values.shape[1] % 2:
        values = torch.nn.functional.pad(values, (0, 1))
    return torch.view_as_complex(values.reshape(values.shape[0], values.shape[1] // 2, 2).contiguous())


def unpack(x: Complex[Tensor, "batch uses"]) -> Float[Tensor, "batch reals"]:
    """Unpack complex symbols into pairs of real values, the inverse of `pack` for even counts.

    Args:
        x: Symbols, complex [batch, uses].

    Returns:
        Real values [batch, 2 uses]; symbol i becomes values 2i and 2i+1.
    """
    return torch.view_as_real(widen(x).resolve_conj()).flatten(1)


def average_power(x: Complex[Tensor, "batch uses"]) -> Float[Tensor, " batch"]:
    """Average power of each item, the mean of |x|^2 over its channel uses.

    Args:
        x: Symbols, complex [batch, uses].

    Returns:
        Power, linear, [batch].
    """
    return torch.view_as_real(widen(x).resolve_conj()).square().sum(-1).mean(-1)


def normalize_power(x: Complex[Tensor, "batch uses"]) -> Complex[Tensor, "batch uses"]:
    """Scale each item to average power 1; an all-zero item stays zero.

    Args:
        x: Symbols, complex [batch, uses].

    Returns:
        Scaled symbols, complex [batch, uses].
    """
    x = widen(x)
    x = x * _power_of_two(x.detach())[:, None]  # exact, so that squares stay within floating point
    power = average_power(x)
    return x * torch.where(power > 0, power.clamp_min(1e-30).rsqrt(), 0.0)[:, None]


def _power_of_two(x: Complex[Tensor, "batch uses"]) -> Float[Tensor, " batch"]:
    """Power of two that brings the largest real or imaginary part of each item near 1."""
    parts = torch.view_as_real(x.resolve_conj()).flatten(1).abs()
    largest = torch.nn.functional.pad(parts, (0, 1)).amax(1)  # also where there are no uses
    return torch.ldexp(torch.ones_like(largest), -torch.frexp(largest).exponent.clamp(-100, 100))
