"""A metric of sounds, by somebody else."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Sound = NDArray[np.int16]


@dataclass(frozen=True)
class Roughness:
    """Mean absolute difference in levels."""

    name: str = "roughness"
    unit: str = "levels"
    higher_is_better: bool = False

    def fits(self, shape: Any) -> bool:
        return isinstance(shape, tuple) and shape[:1] == ("samples",) and shape[1] > 0

    def __call__(self, x_hat: Sound, x: Sound) -> float:
        return float(np.abs(x_hat.astype(np.int32) - x).mean())


ROUGHNESS = Roughness()
