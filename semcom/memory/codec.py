"""Residual coding with a memory: an index, an index and an innovation, or the picture as it is."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from semcom.codecs.codec import Fitted, HasScale, Quality, SourceCodec, fit, squared_error
from semcom.codecs.varint import read_varint, varint
from semcom.errors import BudgetTooSmall, CorruptPayload
from semcom.memory.codebooks import PictureMemory
from semcom.modalities import IMAGE

CHECK_BYTES = 2
"""Bytes by which a receiver finds that it has another picture than was meant."""

Picture = Float[Tensor, "1 3 height width"]


@dataclass(frozen=True)
class MemoryCodec:
    """Source codec of pictures with a memory at both ends.

        number 0, stream: the picture by the inner codec
        number 2 i + 1, check: the picture is rho_i
        number 2 i + 2, check, stream: the innovation clip(1/2 + x - rho_i) by the inner codec

    rho_i is the stored picture of this size with the least squared error, and i its place among them. A
    number takes one byte up to 127, two up to 16383. The check is a digest of rho_i of 16 bits: a receiver
    that has another picture at this place loses the item, but for one in 65536, and never shows the wrong
    one. The memory is shared before; numbers, checks and streams are sent and counted. Without a stored
    picture of this size the payload is that of the inner codec and one byte. Clips are coded frame by frame,
    with key frames as stored pictures
    (`semcom.memory.codebooks.clips_of`).

    Args:
        codec: Inner codec of pictures.
        memory: Pictures that both ends have; the digest is part of the name.
    """

    codec: SourceCodec[Picture]
    memory: PictureMemory

    @property
    def name(self) -> str:
        """Canonical name, for instance "memory:avif@faces#1a2b3c4d"."""
        return f"memory:{self.codec.name}@{self.memory.name}"

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """Operating points of the inner codec."""
        return self.codec.qualities

    def encode(self, x: Picture, quality: Quality) -> bytes:
        """Encode a picture at a quality of the inner codec.

        The index alone is chosen if the stored picture has no larger error than the coded one, the innovation
        if it has neither a larger error nor a longer payload than the coded picture.

        Args:
            x: Picture in [0, 1], [1, 3, height, width].
            quality: One of `qualities`.

        Returns:
            The payload.

        Raises:
            InvalidOption: The inner codec does not have this quality.
        """
        shape = tuple(x.shape)
        plain = varint(0) + self.codec.encode(x, quality)
        nearest = self._nearest(x)
        if nearest is None:
            return plain
        index, stored = nearest
        error = squared_error(self.codec.decode(plain[1:], shape), x)
        if squared_error(stored, x) <= error:
            return varint(2 * index + 1) + check_of(stored)
        head = varint(2 * index + 2) + check_of(stored)
        innovation = head + self.codec.encode(innovation_of(x, stored), quality)
        shorter = len(innovation) <= len(plain)
        return innovation if shorter and squared_error(self.decode(innovation, shape), x) <= error else plain

    def decode(self, payload: bytes, shape: tuple[int, ...]) -> Picture:
        """Decode a payload with the help of the memory.

        Args:
            payload: Any bytes.
            shape: Shape of the picture, (1, 3, height, width).

        Returns:
            The picture in [0, 1].

        Raises:
            CorruptPayload: Number or check is cut off, the number names no stored picture of this shape, the
                check is that of another picture, bytes follow an index alone, or the inner codec cannot
                decode the stream.
        """
        number, check, stream = _read(payload)
        if number == 0:
            return self.codec.decode(stream, shape)
        index, innovation = divmod(number - 1, 2)
        stored = self.memory.of_shape(shape)
        if index >= len(stored):
            raise CorruptPayload(f"index {index} into a memory of {len(stored)} pictures of shape {shape}")
        if check != check_of(stored[index]):
            raise CorruptPayload(
                f"picture {index} of memory {self.memory.name} is not the one that was meant: the "
                "memories of both ends differ, or the payload is damaged"
            )
        if not innovation:
            if stream:
                raise CorruptPayload(f"{len(stream)} bytes after the index of a stored picture")
            return stored[index].clone()
        return (stored[index] + self.codec.decode(stream, shape) - 0.5).clamp(0, 1)

    def fit(self, x: Picture, max_bits: int) -> Fitted[Picture]:
        """Find the payload of least distortion: index alone, innovation or picture.

        Args:
            x: Picture in [0, 1], [1, 3, height, width].
            max_bits: Largest length of the payload in bits.

        Returns:
            The payload and the picture that it decodes to; at equal distortion the shortest.

        Raises:
            BudgetTooSmall: Neither an index nor the smallest payload of the inner codec fits.
        """
        found: list[Fitted[Picture]] = []
        nearest = self._nearest(x)
        starts = [(varint(0), x)]
        if nearest is not None:
            index, stored = nearest
            check = check_of(stored)
            alone = varint(2 * index + 1) + check
            if 8 * len(alone) <= max_bits:
                found.append(Fitted(alone, self.qualities[0], stored.clone()))
                if torch.equal(stored, x):
                    return found[0]  # nothing is better, and no other form is shorter
            starts.append((varint(2 * index + 2) + check, innovation_of(x, stored)))
        refusal: BudgetTooSmall | None = None
        for head, target in starts:
            try:
                best = fit(self.codec, target, max_bits - 8 * len(head))
            except BudgetTooSmall as error:
                refusal = refusal or error
                continue
            payload = head + best.payload
            found.append(Fitted(payload, best.quality, self.decode(payload, tuple(x.shape))))
        if not found:
            assert refusal is not None
            raise refusal
        return min(found, key=lambda fitted: (squared_error(fitted.decoded, x), len(fitted.payload)))

    def scale(self, payload: bytes, shape: tuple[int, ...]) -> int:
        """Downscaling factor of the stream of a payload; 1 for an index alone.

        Args:
            payload: Bytes that decode to a picture of this shape.
            shape: Shape of the picture, (1, 3, height, width).

        Returns:
            1, 2, 4 or 8.

        Raises:
            CorruptPayload: Number or check is cut off, or the inner codec cannot read the stream.
        """
        number, _, stream = _read(payload)
        alone = number % 2 == 1
        return self.codec.scale(stream, shape) if isinstance(self.codec, HasScale) and not alone else 1

    def form(self, payload: bytes) -> dict[str, float]:
        """Form of a payload for the record: "index_sent" and "innovation_sent", both 0 for a whole picture.

        Args:
            payload: Payload of this codec.

        Returns:
            1 for the form that the payload has, 0 for the other.

        Raises:
            CorruptPayload: Number or check is cut off.
        """
        kind = kind_of_payload(payload)
        return {f"{form}_sent": float(kind == form) for form in ("index", "innovation")}

    def _nearest(self, x: Picture) -> tuple[int, Picture] | None:
        """Place and picture of the stored picture of this shape with the least squared error."""
        stored = self.memory.of_shape(tuple(x.shape))
        if not stored:
            return None
        index = min(range(len(stored)), key=lambda i: squared_error(stored[i], x))
        return index, stored[index]


def innovation_of(x: Picture, stored: Picture) -> Picture:
    """Innovation as a picture: clip(1/2 + x - rho) to [0, 1].

    Args:
        x: Picture, [1, 3, height, width].
        stored: Stored picture rho of the same shape.

    Returns:
        Innovation, grey where the pictures agree.
    """
    return (0.5 + x - stored).clamp(0, 1)


def kind_of_payload(payload: bytes) -> str:
    """Tell what a payload of `MemoryCodec` carries.

    Args:
        payload: Payload of `MemoryCodec`.

    Returns:
        "picture", "index" or "innovation".

    Raises:
        CorruptPayload: The number at the beginning is cut off.
    """
    number, _, _ = _read(payload)
    return "picture" if number == 0 else "index" if number % 2 else "innovation"


def check_of(picture: Picture) -> bytes:
    """Check of a stored picture: the first 16 bits of the digest of its pixels.

    Args:
        picture: Picture in [0, 1], [1, 3, height, width].

    Returns:
        Two bytes.
    """
    return bytes.fromhex(IMAGE.digest(picture))[:CHECK_BYTES]


def _read(payload: bytes) -> tuple[int, bytes, bytes]:
    """Number, check (empty for a whole picture) and stream of a payload."""
    value, place = read_varint(payload, 0)
    if place > 1 and not payload[place - 1]:  # a longer form of a shorter number, which is never written
        raise CorruptPayload(f"a payload of {len(payload)} bytes does not begin with a number")
    if not value:
        return value, b"", payload[place:]
    if len(payload) < place + CHECK_BYTES:
        raise CorruptPayload(f"a payload of {len(payload)} bytes ends before the check of a stored picture")
    return value, payload[place : place + CHECK_BYTES], payload[place + CHECK_BYTES :]
