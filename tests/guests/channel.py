"""A channel by somebody else."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from channels import AWGN, Received, Streams


@dataclass(frozen=True)
class Hum:
    """White noise, under a name of its own."""

    name: str = "hum"

    def draw(self, uses: int, snr_db: Any, rng: Streams) -> Any:
        return AWGN().draw(uses, snr_db, rng)

    def apply(self, x: Tensor, state: Any) -> Received:
        return AWGN().apply(x, state)

    def overhead(self, uses: int) -> int:
        return 0

    def data_uses(self, total: int) -> int:
        return total


HUM = Hum()
