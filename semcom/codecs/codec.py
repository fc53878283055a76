"""The codec protocol, and fitting a codec to a number of bits."""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from semcom.cells import Cells
from semcom.errors import BudgetTooSmall, FaultyCodec

T = TypeVar("T")


@dataclass(frozen=True, slots=True, order=True)
class Quality:
    """One operating point of a codec: the image is reduced by `scale` in each direction, then coded.

    Args:
        scale: 1, 2, 4 or 8.
        setting: The codec's own number, larger is finer.
    """

    scale: int
    setting: int


@runtime_checkable
class SourceCodec(Protocol):
    """Image to bytes and back; every header that the decoder needs is inside the bytes.

    The decoder is given the shape of the item for free, as every scheme is.
    """

    @property
    def name(self) -> str:
        """Canonical spelling ("avif")."""
        ...

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """All operating points, by scale (8, 4, 2, 1), and coarse to fine within one scale."""
        ...

    def encode(self, x: Float[Tensor, "1 3 height width"], quality: Quality) -> bytes:
        """Deterministic: equal images give equal bytes."""
        ...

    def decode(self, payload: bytes, shape: tuple[int, ...]) -> Float[Tensor, "1 3 height width"]:
        """Raise `CorruptPayload` on bytes that are not an image of this shape."""
        ...


@runtime_checkable
class HasCells(Protocol):
    """A codec that can say what its bytes pin down of the image."""

    def cells(self, payload: bytes, shape: tuple[int, ...]) -> Cells | None:
        """Intervals that the image was in, in [0, 1]; None if this format does not say.

        Raise `CorruptPayload` on bytes that are not an image of this shape.
        """
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Fitted:
    """The best payload that fits, what it decodes to, and at what quality."""

    payload: bytes
    quality: Quality
    decoded: Float[Tensor, "1 3 height width"]


def fit(codec: SourceCodec, x: Float[Tensor, "1 3 height width"], max_bits: int) -> Fitted:
    """The payload of at most `max_bits` bits that decodes to the best PSNR.

    Each scale is bisected for its finest setting that fits; where sizes are not quite monotone, the next two
    settings are tried as well. Scales go from 1 to 1/8; one whose finest setting would be worse than what has
    been found is left out.

    Args:
        codec: Wrap it in `Memo` when one image is fitted to many budgets.
        x: One image in [0, 1].
        max_bits: Whole bytes are sent, so that up to 7 of them stay unused.

    Raises:
        BudgetTooSmall: The smallest payload of the codec is larger.
        FaultyCodec: What the codec decodes its own bytes to is not finite, or of another shape.

    Example:
        >>> import torch
        >>> from semcom.codecs import Jpeg, StreamCodec
        >>> fitted = fit(StreamCodec(Jpeg()), torch.rand(1, 3, 32, 32), max_bits=2000)
        >>> 8 * len(fitted.payload) <= 2000
        True
    """
    best: Fitted | None = None
    best_error = math.inf
    scales = sorted({quality.scale for quality in codec.qualities})
    ladders = [[quality for quality in codec.qualities if quality.scale == scale] for scale in scales]
    for ladder in ladders:
        if best is not None:
            finest = _decoded(codec, codec.encode(x, ladder[-1]), x)
            if _squared_error(finest, x) >= best_error:
                continue
        for quality in _finest_that_fit(codec, x, ladder, max_bits):
            payload = codec.encode(x, quality)
            decoded = _decoded(codec, payload, x)
            error = _squared_error(decoded, x)
            if error < best_error:
                best, best_error = Fitted(payload, quality, decoded), error
    if best is None:
        smallest = min(8 * len(codec.encode(x, ladder[0])) for ladder in ladders)
        raise BudgetTooSmall(
            f"{codec.name} needs at least {smallest} bits for an image of {x.shape[3]}x{x.shape[2]}, "
            f"{max_bits} are allowed; raise rho or the SNR"
        )
    return best


def _decoded(codec: SourceCodec, payload: bytes, x: Tensor) -> Tensor:
    decoded = codec.decode(payload, tuple(x.shape))
    if decoded.shape != x.shape:
        raise FaultyCodec(
            f"codec {codec.name} decodes shape {tuple(x.shape)} to {tuple(decoded.shape)}; mend the codec"
        )
    if not decoded.sum().isfinite():
        raise FaultyCodec(
            f"codec {codec.name} decodes its own bytes to values that are not finite; mend the codec"
        )
    return decoded


def _finest_that_fit(codec: SourceCodec, x: Tensor, ladder: list[Quality], max_bits: int) -> list[Quality]:
    """By bisection the last that fits, and those of the next two that fit as well."""

    def fits(index: int) -> bool:
        return 8 * len(codec.encode(x, ladder[index])) <= max_bits

    low, high = -1, len(ladder)  # everything up to low fits, high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    beyond = [index for index in range(high + 1, min(high + 3, len(ladder))) if fits(index)]
    return [ladder[index] for index in ([low] if low >= 0 else []) + beyond]


def _squared_error(x_hat: Tensor, x: Tensor) -> float:
    return float((x_hat - x).square().mean(dtype=torch.float64))


@dataclass(frozen=True)
class Memo:
    """A codec that remembers what it has encoded and decoded, and is otherwise the codec it wraps.

    In a sweep over budgets each (image, quality) is encoded at most once. What was used least recently is
    forgotten first. A copy sent to another process starts empty.

    Args:
        codec: Any source codec.
        max_bytes: Limit on the payloads and decoded images that are held.

    Example:
        >>> import torch
        >>> from semcom.codecs import Jpeg, StreamCodec
        >>> codec = Memo(StreamCodec(Jpeg()))
        >>> codec.name
        'jpeg'
    """

    codec: SourceCodec
    max_bytes: int = 1 << 28
    _payloads: "_Recent[bytes]" = field(init=False, repr=False, compare=False)
    _images: "_Recent[Tensor]" = field(init=False, repr=False, compare=False)
    _latest: "_Latest" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_payloads", _Recent[bytes](self.max_bytes // 4, len))
        object.__setattr__(
            self, "_images", _Recent[Tensor](self.max_bytes * 3 // 4, lambda image: image.nbytes)
        )
        object.__setattr__(self, "_latest", _Latest())

    @property
    def name(self) -> str:
        """Canonical spelling of the codec inside."""
        return self.codec.name

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """Operating points of the codec inside."""
        return self.codec.qualities

    def encode(self, x: Float[Tensor, "1 3 height width"], quality: Quality) -> bytes:
        """The payload, made once per image and quality."""
        key = (self._latest.digest(x), quality)
        payload = self._payloads.get(key)
        if payload is None:
            payload = self.codec.encode(x, quality)
            self._payloads.put(key, payload)
        return payload

    def decode(self, payload: bytes, shape: tuple[int, ...]) -> Float[Tensor, "1 3 height width"]:
        """The image, decoded once per payload; damaged payloads are not remembered."""
        key = (_digest(payload), tuple(shape))
        image = self._images.get(key)
        if image is None:
            image = self.codec.decode(payload, shape)
            self._images.put(key, image)
        return image.clone()

    def cells(self, payload: bytes, shape: tuple[int, ...]) -> Cells | None:
        """Those of the codec inside, if it has any; they are not remembered."""
        return self.codec.cells(payload, shape) if isinstance(self.codec, HasCells) else None

    def __reduce__(self) -> tuple[type["Memo"], tuple[SourceCodec, int]]:
        """Without what is held."""
        return Memo, (self.codec, self.max_bytes)


class _Latest:
    """The digest of the image that was seen last: comparing with it is much faster than hashing again."""

    def __init__(self) -> None:
        self._image, self._key = torch.empty(0), b""

    def digest(self, x: Tensor) -> bytes:
        alike = (x.dtype, x.device) == (self._image.dtype, self._image.device)
        if not (alike and torch.equal(x, self._image)):
            about = f"{tuple(x.shape)} {x.dtype}".encode()
            content = x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
            self._image, self._key = x.detach().clone(), _digest(content + about)
        return self._key


class _Recent(Generic[T]):
    """Values by key up to a total size; what was used least recently goes first."""

    def __init__(self, max_bytes: int, size: Callable[[T], int]) -> None:
        self._max_bytes, self._size, self._bytes = max_bytes, size, 0
        self._values: OrderedDict[tuple[object, ...], T] = OrderedDict()

    def get(self, key: tuple[object, ...]) -> T | None:
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def put(self, key: tuple[object, ...], value: T) -> None:
        self._values[key] = value
        self._bytes += self._size(value)
        while self._bytes > self._max_bytes:
            self._bytes -= self._size(self._values.popitem(last=False)[1])


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).digest()
