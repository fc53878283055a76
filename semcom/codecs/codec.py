"""The codec protocol, and fitting a codec to a number of bits."""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor

from semcom.cells import Cells
from semcom.errors import BudgetTooSmall, FaultyCodec

T = TypeVar("T")
X = TypeVar("X")


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
class SourceCodec(Protocol[X]):
    """Content of one modality to bytes and back; every header that the decoder needs is inside the bytes.

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

    def encode(self, x: X, quality: Quality) -> bytes:
        """Encode one content; equal contents give equal bytes.

        Args:
            x: An image [1, 3, height, width] in [0, 1], a clip or a text.
            quality: One of `qualities`.

        Returns:
            The payload; its length is all that is sent.

        Raises:
            InvalidOption: The codec has no such quality.
            InvalidSource: The codec cannot hold this content.
        """
        ...

    def decode(self, payload: bytes, shape: Any) -> X:
        """Decode one payload.

        Args:
            payload: Any bytes.
            shape: Of the content, as its modality tells every receiver.

        Returns:
            A content of that shape.

        Raises:
            CorruptPayload: The bytes are not a content of this shape.
        """
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
class Fitted(Generic[X]):
    """The best payload that fits a budget.

    Args:
        payload: Its bytes.
        quality: At which it was made.
        decoded: The content that it decodes to.
    """

    payload: bytes
    quality: Quality
    decoded: X


@runtime_checkable
class FitsItself(Protocol[X]):
    """A codec that has its own way to meet a number of bits."""

    def fit(self, x: X, max_bits: int) -> Fitted[X]:
        """Find the best payload within a budget.

        Args:
            x: Content of the codec's modality.
            max_bits: Limit on the length of the payload in bits.

        Returns:
            The payload and what it decodes to.

        Raises:
            BudgetTooSmall: The smallest payload of the codec is larger.
        """
        ...


def fit(codec: SourceCodec[X], x: X, max_bits: int) -> Fitted[X]:
    """Find the payload of at most `max_bits` bits that decodes to the best PSNR, or the codec's own choice.

    Args:
        codec: A codec that is `FitsItself` (also inside `Memo`) chooses; of any other, which must be one of
            images, the settings are searched as `fit_ladders` does. Wrap it in `Memo` when one image is
            fitted to many budgets.
        x: One image in [0, 1], or what else the codec takes.
        max_bits: Whole bytes are sent, so that up to 7 of them stay unused.

    Returns:
        The payload, its quality and what it decodes to.

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
    inner = codec.codec if isinstance(codec, Memo) else codec
    if isinstance(inner, FitsItself):
        return inner.fit(x, max_bits)
    image: Any = x
    about = f"an image of {image.shape[3]}x{image.shape[2]}"

    def decode(payload: bytes) -> Any:
        return _decoded(codec, payload, image)

    def error(decoded: Any) -> float:
        return squared_error(decoded, image)

    return fit_ladders(codec, x, max_bits, about, decode, error)


def fit_ladders(
    codec: SourceCodec[X],
    x: X,
    max_bits: int,
    about: str,
    decode: Callable[[bytes], X],
    error: Callable[[X], float],
) -> Fitted[X]:
    """Search the settings of a codec for the payload of least error within a budget.

    Each scale is bisected for its finest setting that fits; where sizes are not quite monotone, the next two
    settings are tried as well. Scales go from 1 to the coarsest; one whose finest setting would be worse than
    what has been found is left out.

    Args:
        codec: Whose `qualities` are searched.
        x: The content.
        max_bits: Limit on the length of the payload in bits.
        about: What x is, for the message ("an image of 64x48").
        decode: Payload to content.
        error: Distance of a decoded content from x, smaller is better.

    Returns:
        The payload, its quality and what it decodes to.

    Raises:
        BudgetTooSmall: The smallest payload of the codec is larger.
    """

    @cache
    def payload_at(quality: Quality) -> bytes:
        return codec.encode(x, quality)

    best: Fitted[X] | None = None
    best_error = math.inf
    scales = sorted({quality.scale for quality in codec.qualities})
    ladders = [[quality for quality in codec.qualities if quality.scale == scale] for scale in scales]
    for ladder in ladders:
        if best is not None and error(decode(payload_at(ladder[-1]))) >= best_error:
            continue
        for quality in _finest_that_fit(payload_at, ladder, max_bits):
            decoded = decode(payload_at(quality))
            distance = error(decoded)
            if distance < best_error:
                best, best_error = Fitted(payload_at(quality), quality, decoded), distance
    if best is None:
        smallest = min(8 * len(payload_at(ladder[0])) for ladder in ladders)
        raise too_small(codec.name, smallest, about, max_bits)
    return best


def too_small(name: str, needed_bits: int, about: str, max_bits: int) -> BudgetTooSmall:
    """The error of a codec that nothing smaller can be had from.

    Args:
        name: Of the codec.
        needed_bits: Length of its smallest payload.
        about: What is sent ("an image of 64x48").
        max_bits: Length allowed.
    """
    return BudgetTooSmall(
        f"{name} needs at least {needed_bits} bits for {about}, {max_bits} are allowed; raise rho or the SNR"
    )


def _decoded(codec: SourceCodec[Any], payload: bytes, x: Tensor) -> Tensor:
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


def _finest_that_fit(
    payload_at: Callable[[Quality], bytes], ladder: list[Quality], max_bits: int
) -> list[Quality]:
    """By bisection the last that fits, and those of the next two that fit as well."""

    def fits(index: int) -> bool:
        return 8 * len(payload_at(ladder[index])) <= max_bits

    low, high = -1, len(ladder)  # everything up to low fits, high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    beyond = [index for index in range(high + 1, min(high + 3, len(ladder))) if fits(index)]
    return [ladder[index] for index in ([low] if low >= 0 else []) + beyond]


def squared_error(x_hat: Tensor, x: Tensor) -> float:
    """Mean squared error of two tensors of one shape."""
    return float((x_hat - x).square().mean(dtype=torch.float64))


@dataclass(frozen=True)
class Memo(Generic[X]):
    """A codec that remembers what it has encoded and decoded, and is otherwise the codec it wraps.

    In a sweep over budgets each (image, quality) is encoded once. What was used least recently is forgotten
    first. A copy sent to another process starts empty; threads may share one. Only tensors are remembered:
    clips and texts go through to the codec inside every time.

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

    codec: SourceCodec[X]
    max_bytes: int = 1 << 28
    _payloads: "_Recent[bytes]" = field(init=False, repr=False, compare=False)
    _images: "_Recent[Tensor]" = field(init=False, repr=False, compare=False)
    _latest: "_Latest" = field(init=False, repr=False, compare=False)
    _lock: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_payloads", _Recent[bytes](self.max_bytes // 4, len))
        object.__setattr__(
            self, "_images", _Recent[Tensor](self.max_bytes * 3 // 4, lambda image: image.nbytes)
        )
        object.__setattr__(self, "_latest", _Latest())
        object.__setattr__(self, "_lock", Lock())

    @property
    def name(self) -> str:
        """Canonical spelling of the codec inside."""
        return self.codec.name

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """Operating points of the codec inside."""
        return self.codec.qualities

    def encode(self, x: X, quality: Quality) -> bytes:
        """The payload of the codec inside, made once per image and quality."""
        if not isinstance(x, Tensor):
            return self.codec.encode(x, quality)
        with self._lock:
            key = (self._latest.digest(x), quality)
            payload = self._payloads.get(key)
        if payload is None:  # the lock is free while the codec works; two threads may do the same work once
            payload = self.codec.encode(x, quality)
            with self._lock:
                self._payloads.put(key, payload)
        return payload

    def decode(self, payload: bytes, shape: Any) -> X:
        """What the codec inside decodes, an image once per payload; damaged payloads are not remembered."""
        key = (_digest(payload), shape)
        with self._lock:
            image: Any = self._images.get(key)
        if image is None:
            image = self.codec.decode(payload, shape)
            if not isinstance(image, Tensor):
                return image
            with self._lock:
                self._images.put(key, image)
        return cast(X, image.clone())

    def cells(self, payload: bytes, shape: tuple[int, ...]) -> Cells | None:
        """Those of the codec inside, if it has any; they are not remembered."""
        return self.codec.cells(payload, shape) if isinstance(self.codec, HasCells) else None

    def __reduce__(self) -> tuple[type["Memo[Any]"], tuple[SourceCodec[X], int]]:
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
        if key in self._values:  # by another thread in the meantime
            return
        self._values[key] = value
        self._bytes += self._size(value)
        while self._bytes > self._max_bytes:
            self._bytes -= self._size(self._values.popitem(last=False)[1])


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).digest()
