"""Network layers that several networks share."""

import math

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Residual block x + conv(relu((1 + a) conv(x) + b)), where a and b depend on a condition."""

    def __init__(self, features: int, condition: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(features, features, 3, padding=1)
        self.second = nn.Conv2d(features, features, 3, padding=1)
        self.modulation = zeroed(nn.Linear(condition, 2 * features))
        nn.init.normal_(self.second.weight, std=0.1 / math.sqrt(9 * features))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Apply the block to features [batch, features, rows, columns] given a condition [batch, numbers]."""
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, 1)
        return x + self.second(nn.functional.relu((1 + scale) * self.first(x) + shift))


class Stage(nn.ModuleList):
    """Sequence of residual blocks.

    Args:
        features: Features of input and output.
        blocks: Number of blocks.
        condition: Features of the condition.
    """

    def __init__(self, features: int, blocks: int, condition: int) -> None:
        super().__init__(ResidualBlock(features, condition) for _ in range(blocks))

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Apply all blocks to features [batch, features, rows, columns] given a condition [batch, n]."""
        for block in self:
            features = block(features, condition)
        return features


def condition_network(inputs: int, outputs: int) -> nn.Sequential:
    """Create the network that maps numbers, such as an SNR, to the condition of residual blocks.

    Args:
        inputs: How many numbers.
        outputs: Features of the condition.

    Returns:
        Two linear layers with a nonlinearity.
    """
    return nn.Sequential(nn.Linear(inputs, outputs), nn.SiLU(), nn.Linear(outputs, outputs), nn.SiLU())


def padded_to_multiples(x: Tensor, side: int) -> Tensor:
    """Extend pictures to the right and below, so that both sides are multiples of a number.

    Args:
        x: Pictures, [batch, channels, height, width].
        side: Number of pixels of which both sides become multiples, at least 1.

    Returns:
        Pictures extended by reflection or, where they are too small for that, by repetition of their edge.
    """
    height, width = x.shape[2:]
    padding = (0, -width % side, 0, -height % side)
    small = padding[1] >= width or padding[3] >= height
    return nn.functional.pad(x, padding, mode="replicate" if small else "reflect")


def zeroed(layer: nn.Module) -> nn.Module:
    """Set all parameters of a layer to zero, so that a residual branch starts without effect.

    Args:
        layer: Any layer.

    Returns:
        The same layer.
    """
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
