"""The receiver that shows what arrived."""

from dataclasses import dataclass

from torch import Tensor

from channels import Streams
from semcom.transmission import Observation


@dataclass(frozen=True)
class Direct:
    """x_hat = clip(A^+ y, 0, 1) of the first piece of evidence; nothing is invented."""

    @property
    def name(self) -> str:
        """Canonical spelling."""
        return "direct"

    def __call__(self, observation: Observation, rng: Streams) -> Tensor:
        """Image [batch, 3, height, width]."""
        evidence = observation.evidence[0]
        return evidence.operator.pinv(evidence.y).clamp(0, 1)
