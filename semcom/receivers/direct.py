"""The receiver that shows what arrived."""

from dataclasses import dataclass

import torch
from torch import Tensor

from channels import Streams
from semcom.calibration import shipped_tables
from semcom.fusion import fused
from semcom.transmission import Observation


@dataclass(frozen=True)
class Direct:
    """x_hat = clip(A^+ y, 0, 1), several pieces of evidence fused into one; nothing is invented."""

    @property
    def name(self) -> str:
        """Canonical spelling."""
        return "direct"

    def __call__(self, observation: Observation, rng: Streams) -> Tensor:
        """Image [batch, 3, height, width]."""
        evidence, *others = observation.evidence
        if others:
            items = map(observation.item, range(observation.shape[0]))
            return torch.cat([fused(item, shipped_tables()).y for item in items]).clamp(0, 1)
        return evidence.operator.pinv(evidence.y).clamp(0, 1)
