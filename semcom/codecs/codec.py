"""Protocols of source codecs, and the search for the best payload within a number of bits."""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
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
    """Operating point of a codec: pictures are downscaled by `scale` in both directions, then coded.

    Args:
        scale: Downscaling factor, 1, 2, 4 or 8.
        setting: Quality setting of the codec's own; larger is finer.
    """

    scale: int
    setting: int


@runtime_checkable
class SourceCodec(Protocol[X]):
    """A codec that maps items of one modality to bytes and back.

    The bytes contain everything that the decoder needs except for the item's shape, which every receiver
    knows. Items are pictures [1, 3, height, width] in [0, 1], clips (`semcom.modalities.video.Clip`) or texts
    (str).
    """

    @property
    def name(self) -> str:
        """Canonical name of the codec, for instance "avif"."""
        ...

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """All operating points, by descending scale (8, 4, 2, 1), and from coarse to fine within a scale."""
        ...

    def encode(self, x: X, quality: Quality) -> bytes:
        """Encode one item; equal items give equal bytes.

        Args:
            x: The item, for instance a picture [1, 3, height, width] in [0, 1].
            quality: One of `qualities`.

        Returns:
            The encoded bytes; all of them are sent and counted.

        Raises:
            InvalidOption: The codec does not have this quality.
            InvalidSource: The codec cannot represent this item.
        """
        ...

    def decode(self, payload: bytes, shape: Any) -> X:
        """Decode one payload to an item of a given shape.

        Args:
            payload: Any bytes, also those that no encoder has made.
            shape: Shape of the item, as its modality makes it known to every receiver: (1, 3, height, width)
                of a picture, `ClipShape` of a clip, `TextShape` of a text.

        Returns:
            An item of this shape.

        Raises:
            CorruptPayload: The bytes cannot be decoded to an item of this shape.
        """
        ...


@runtime_checkable
class HasCells(Protocol):
    """A codec of pictures that can tell the set of originals that a payload is consistent with."""

    def cells(self, payload: bytes, shape: tuple[int, ...]) -> Cells | None:
        """Quantisation cells: intervals that contain certain linear functions of the original picture.

        Args:
            payload: Any bytes.
            shape: Shape of the picture, (1, 3, height, width).

        Returns:
            Intervals for a picture in [0, 1]; None if the format of the codec does not give any.

        Raises:
            CorruptPayload: The bytes cannot be decoded to a picture of this shape.
        """
        ...


@runtime_checkable
class HasScale(Protocol):
    """A codec of pictures that can tell by which factor a picture was reduced before it was coded."""

    def scale(self, payload: bytes, shape: tuple[int, ...]) -> int:
        """Downscaling factor of a payload, which the decoder reads from the same bytes.

        Args:
            payload: Bytes that the codec decodes to a picture of this shape.
            shape: Shape of the picture, (1, 3, height, width).

        Returns:
            1, 2, 4 or 8.

        Raises:
            CorruptPayload: The bytes cannot be decoded to a picture of this shape.
        """
        ...


@runtime_checkable
class HasForms(Protocol):
    """A codec with several forms of payload, which tells for the record which one was sent."""

    def form(self, payload: bytes) -> Mapping[str, float]:
        """Form of a payload.

        Args:
            payload: Bytes that the codec has encoded.

        Returns:
            Finite numbers for the record by column name, such as 1 for the form that it is and 0 for others.
        """
        ...


def mean_form(forms: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of the forms of several payloads of one codec.

    Args:
        forms: Results of `HasForms.form`, with the same columns.

    Returns:
        Means by column name; nothing if there are no forms.

    Example:
        >>> mean_form([{"index_sent": 1.0}, {"index_sent": 0.0}])
        {'index_sent': 0.5}
    """
    return {name: sum(form[name] for form in forms) / len(forms) for name in forms[0]} if forms else {}


@dataclass(frozen=True, eq=False, slots=True)
class Fitted(Generic[X]):
    """The best payload within a number of bits.

    Args:
        payload: Encoded bytes.
        quality: Operating point at which the payload was made.
        decoded: Item that the payload decodes to.
    """

    payload: bytes
    quality: Quality
    decoded: X


@runtime_checkable
class FitsItself(Protocol[X]):
    """A codec with its own method of meeting a number of bits."""

    def fit(self, x: X, max_bits: int) -> Fitted[X]:
        """Find the payload of least distortion within a number of bits.

        Args:
            x: An item of the codec's modality.
            max_bits: Largest length of the payload in bits.

        Returns:
            The payload and the item that it decodes to.

        Raises:
            BudgetTooSmall: The smallest payload of the codec exceeds `max_bits`.
        """
        ...


def fit(codec: SourceCodec[X], x: X, max_bits: int) -> Fitted[X]:
    """Find the payload of least distortion of at most `max_bits` bits.

    A codec that is `FitsItself`, also inside `Memo`, chooses by its own method. For any other one, which must
    be a codec of pictures, `fit_ladders` searches the qualities for the highest PSNR.

    Args:
        codec: Source codec; wrap it in `Memo` if one picture is fitted to many numbers of bits.
        x: A picture [1, 3, height, width] in [0, 1], or another item that the codec accepts.
        max_bits: Largest length of the payload in bits. Payloads are whole bytes, so that up to 7 bits remain
            unused.

    Returns:
        The payload, its quality and the item that it decodes to.

    Raises:
        BudgetTooSmall: The smallest payload of the codec exceeds `max_bits`.
        FaultyCodec: The codec decodes its own payload to a picture of another shape, or to values that are
            not finite.

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
    """Search the qualities of a codec for the payload of least error within a number of bits.

    For every scale, bisection finds the finest setting that fits. The next two settings are also tried, since
    sizes are not always monotone. Scales are tried in ascending order; a scale is skipped if its finest
    setting has a larger error than the best payload so far.

    Args:
        codec: Source codec whose `qualities` are searched.
        x: The item.
        max_bits: Largest length of the payload in bits.
        about: Description of x for the error message ("an image of 64x48").
        decode: Function from payload to item.
        error: Distance of a decoded item from x; smaller is better.

    Returns:
        The payload, its quality and the item that it decodes to.

    Raises:
        BudgetTooSmall: The smallest payload of the codec exceeds `max_bits`.
    """

    @cache
    def payload_at(quality: Quality) -> bytes:
        return codec.encode(x, quality)

    best: Fitted[X] | None = None
    best_error = math.inf
    qualities = codec.qualities
    scales = sorted({quality.scale for quality in qualities})
    ladders = [[quality for quality in qualities if quality.scale == scale] for scale in scales]
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
    """Make the error for a number of bits that is too small even for the smallest payload.

    Args:
        name: Name of the codec.
        needed_bits: Length of the smallest payload in bits.
        about: Description of the item ("an image of 64x48").
        max_bits: Largest length allowed, in bits.

    Returns:
        The error, to be raised by the caller.
    """
    return BudgetTooSmall(
        f"{name} needs at least {needed_bits} bits for {about}, {max_bits} are allowed; "
        "raise rho, the SNR or --bpp",
        needed_bits,
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
    """The last setting that fits, found by bisection, and those of the next two that fit as well."""

    def fits(index: int) -> bool:
        return 8 * len(payload_at(ladder[index])) <= max_bits

    low, high = -1, len(ladder)  # everything up to low fits, high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    beyond = [index for index in range(high + 1, min(high + 3, len(ladder))) if fits(index)]
    return [ladder[index] for index in ([low] if low >= 0 else []) + beyond]


def squared_error(x_hat: Tensor, x: Tensor) -> float:
    """Mean squared error of two tensors of the same shape.

    Args:
        x_hat: Estimate.
        x: Original.

    Returns:
        Mean of (x_hat - x)^2 over all values, at least 0.
    """
    return float((x_hat - x).square().mean(dtype=torch.float64))


@dataclass(frozen=True)
class Memo(Generic[X]):
    """Wrapper of a codec that caches encoded payloads and decoded pictures.

    In a sweep over budgets every pair of picture and quality is encoded once. The least recently used entries
    are dropped first. The cache is safe for use by several threads; a copy sent to another process starts
    empty. Clips and texts are not cached.

    Args:
        codec: Any source codec.
        max_bytes: Largest total size of the cached payloads and pictures in bytes.

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
        """Canonical name of the wrapped codec."""
        return self.codec.name

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """Operating points of the wrapped codec."""
        return self.codec.qualities

    def encode(self, x: X, quality: Quality) -> bytes:
        """Encode an item by the wrapped codec; pictures are encoded once per quality."""
        if not isinstance(x, Tensor):
            return self.codec.encode(x, quality)
        with self._lock:
            key = (self._latest.digest(x), quality)
            payload = self._payloads.get(key)
        if payload is None:  # encode without the lock: two threads may encode the same picture
            payload = self.codec.encode(x, quality)
            with self._lock:
                self._payloads.put(key, payload)
        return payload

    def decode(self, payload: bytes, shape: Any) -> X:
        """Decode a payload by the wrapped codec; pictures are decoded once per payload."""
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
        """Quantisation cells of the wrapped codec, not cached; None if that codec does not give any."""
        return self.codec.cells(payload, shape) if isinstance(self.codec, HasCells) else None

    def scale(self, payload: bytes, shape: tuple[int, ...]) -> int:
        """Downscaling factor of a payload of the wrapped codec; 1 if that codec does not tell it."""
        return self.codec.scale(payload, shape) if isinstance(self.codec, HasScale) else 1

    def __reduce__(self) -> tuple[type["Memo[Any]"], tuple[SourceCodec[X], int]]:
        """Pickle the wrapped codec and the size limit, without the cached entries."""
        return Memo, (self.codec, self.max_bytes)


class _Latest:
    """Digest of the picture seen last: comparing with that picture is much faster than hashing again."""

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
    """Cache of values by key, limited by total size; the least recently used values are dropped first."""

    def __init__(self, max_bytes: int, size: Callable[[T], int]) -> None:
        self._max_bytes, self._size, self._bytes = max_bytes, size, 0
        self._values: OrderedDict[tuple[object, ...], T] = OrderedDict()

    def get(self, key: tuple[object, ...]) -> T | None:
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def put(self, key: tuple[object, ...], value: T) -> None:
        if key in self._values:  # another thread was faster
            return
        self._values[key] = value
        self._bytes += self._size(value)
        while self._bytes > self._max_bytes:
            self._bytes -= self._size(self._values.popitem(last=False)[1])


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).digest()
