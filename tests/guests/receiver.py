"""A receiver of sounds, by somebody else."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from channels import Streams
from semcom.observation import Observation

Sound = NDArray[np.int16]


@dataclass(frozen=True)
class Smoothing:
    """A moving mean of three samples."""

    name: str = "smoothing"

    def __call__(self, observation: Observation[Sound], shape: object, rng: Streams) -> Sound | None:
        if observation.shown is None:
            return None
        x = np.pad(observation.shown.astype(np.int32), 1, mode="edge")
        return ((x[:-2] + x[1:-1] + x[2:]) // 3).astype(np.int16)


SMOOTHING = Smoothing()
