"""Network of LPIPS: features of a trunk trained on ImageNet, compared layer by layer with learned weights.

The trunks are written out here, since the packages that have them take seconds to import.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Backbone = Literal["squeeze", "alex", "vgg"]

# index of the last module of each compared layer in the features of the trunk; Zhang et al. 2018, appendix B
LAYERS: dict[Backbone, tuple[int, ...]] = {
    "squeeze": (1, 4, 7, 9, 10, 11, 12),
    "alex": (1, 4, 7, 9, 11),
    "vgg": (3, 8, 15, 22, 29),
}
WIDTHS: dict[Backbone, tuple[int, ...]] = {
    "squeeze": (64, 128, 256, 384, 384, 512, 512),
    "alex": (64, 192, 384, 256, 256),
    "vgg": (64, 128, 256, 512, 512),
}
# mean and standard deviation of ImageNet for images in [-1, 1], rounded as the authors of LPIPS do
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
EPS = 1e-10  # added to norms of features


class LpipsNetwork(nn.Module):
    """Learned perceptual distance of two batches of images in [-1, 1], version 0.1.

    d = sum over layers of the mean over places of w_l . (f_l(x_hat) - f_l(x))^2, f_l features of norm 1.

    Args:
        backbone: "squeeze" (SqueezeNet 1.1), "alex" (AlexNet) or "vgg" (VGG-16).

    Reference:
        Zhang, Isola, Efros, Shechtman and Wang, The unreasonable effectiveness of deep features as a
        perceptual metric, CVPR 2018.
    """

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.layers = LAYERS[backbone]
        whole = {"squeeze": _squeezenet, "alex": _alexnet, "vgg": _vgg}[backbone]()
        self.features = nn.Sequential(*whole[: self.layers[-1] + 1])
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for width in WIDTHS[backbone])

    def forward(
        self, x_hat: Float[Tensor, "batch 3 height width"], x: Float[Tensor, "#batch 3 height width"]
    ) -> Float[Tensor, "batch 1 1 1"]:
        """Distance of each image; images in [-1, 1], sides of at least 32 pixels."""
        distances = [
            head((a - b) ** 2).mean((2, 3), keepdim=True)
            for head, a, b in zip(self.heads, self.units(x_hat), self.units(x), strict=True)
        ]
        return sum(distances, start=x.new_zeros(()))  # one after the other, as the authors do

    def units(self, x: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        """Features of every compared layer, divided by their norm at each place.

        Args:
            x: Images in [-1, 1], sides of at least 32 pixels.

        Returns:
            One tensor [batch, channels, height, width] per layer, first layer first.
        """
        features = (x - x.new_tensor(SHIFT)[:, None, None]) / x.new_tensor(SCALE)[:, None, None]
        units = []
        for index, module in enumerate(self.features):
            features = module(features)
            if index in self.layers:
                norm = (features**2).sum(1, keepdim=True).sqrt()
                units.append(features / (norm + EPS))
        return units


class Fire(nn.Module):
    """Fire module of SqueezeNet: few 1x1 filters, then 1x1 and 3x3 filters side by side.

    Args:
        inputs: Number of input features.
        squeezed: Number of features between.
        expanded: Number of features of each kind of filter.

    Reference:
        Iandola et al., SqueezeNet: AlexNet-level accuracy with 50x fewer parameters, 2016, section 3.2.
    """

    def __init__(self, inputs: int, squeezed: int, expanded: int):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Features [batch, 2 expanded, height, width] of x [batch, inputs, height, width]."""
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


def _squeezenet() -> list[nn.Module]:
    """SqueezeNet 1.1, which pools earlier than version 1.0."""

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return [
        *(nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), Fire(64, 16, 64), Fire(128, 16, 64)),
        *(pool(), Fire(128, 32, 128), Fire(256, 32, 128)),
        *(pool(), Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)),
    ]


def _alexnet() -> list[nn.Module]:
    """AlexNet in one column (Krizhevsky 2014)."""
    return [
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    ]


def _vgg() -> list[nn.Module]:
    """VGG with 16 layers of weights, configuration D of Simonyan and Zisserman 2015."""
    modules: list[nn.Module] = []
    inputs = 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            modules += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            inputs = width
        modules.append(nn.MaxPool2d(2))
    return modules
