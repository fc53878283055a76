"""Layers that the networks share."""

import math

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """x + conv(relu((1 + a) conv(x) + b)), where a and b come from the condition."""

    def __init__(self, features: int, condition: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(features, features, 3, padding=1)
        self.second = nn.Conv2d(features, features, 3, padding=1)
        self.modulation = zeroed(nn.Linear(condition, 2 * features))
        nn.init.normal_(self.second.weight, std=0.1 / math.sqrt(9 * features))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Features of the same shape."""
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, 1)
        return x + self.second(nn.functional.relu((1 + scale) * self.first(x) + shift))


class Stage(nn.ModuleList):
    """Residual blocks one after the other.

    Args:
        features: Of their input and output.
        blocks: Their number.
        condition: Features of the condition.
    """

    def __init__(self, features: int, blocks: int, condition: int) -> None:
        super().__init__(ResidualBlock(features, condition) for _ in range(blocks))

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Features of the same shape."""
        for block in self:
            features = block(features, condition)
        return features


def condition_network(inputs: int, outputs: int) -> nn.Sequential:
    """From numbers to the condition of residual blocks."""
    return nn.Sequential(nn.Linear(inputs, outputs), nn.SiLU(), nn.Linear(outputs, outputs), nn.SiLU())


def zeroed(layer: nn.Module) -> nn.Module:
    """A layer that starts as zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
