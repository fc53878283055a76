"""A codec of sounds, by somebody else."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semcom.codecs import Fitted, Quality
from semcom.errors import BudgetTooSmall, CorruptPayload

Sound = NDArray[np.int16]


@dataclass(frozen=True)
class Coarse:
    """Samples without their low bits, as many as fit, deflated."""

    name: str = "coarse"
    qualities: tuple[Quality, ...] = tuple(Quality(1, kept) for kept in range(2, 17))

    def encode(self, x: Sound, quality: Quality) -> bytes:
        kept = (x >> (16 - quality.setting)).astype(np.int16)
        return bytes([quality.setting]) + zlib.compress(kept.tobytes(), 9)

    def decode(self, payload: bytes, shape: Any) -> Sound:
        try:
            kept = np.frombuffer(zlib.decompress(payload[1:]), np.int16)
        except (zlib.error, ValueError) as error:
            raise CorruptPayload(f"coarse: {error}") from None
        if len(kept) != shape[1] or not 2 <= payload[0] <= 16:
            raise CorruptPayload("coarse: sound of another length or depth")
        return (kept.astype(np.int32) << (16 - payload[0])).astype(np.int16)

    def fit(self, x: Sound, max_bits: int) -> Fitted[Sound]:
        for quality in reversed(self.qualities):
            payload = self.encode(x, quality)
            if 8 * len(payload) <= max_bits:
                return Fitted(payload, quality, self.decode(payload, ("samples", len(x))))
        raise BudgetTooSmall(f"coarse needs more than {max_bits} bits; raise rho")


COARSE = Coarse()
