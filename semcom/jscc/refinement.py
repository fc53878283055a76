"""Networks of the adaptive DeepJSCC, which correct the linear code at either end."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from semcom.layers import Stage, condition_network, zeroed
from semcom.surroundings import library_defaults


class EncoderRefinement(nn.Module):
    """Encoder network of the adaptive DeepJSCC, which corrects the maps that are sent, from the picture.

    Args:
        maps: Number of maps; each is a band of frequencies at 1/16 of the size.
        features: Features at 1/8 and 1/16 of the size.
        blocks: Residual blocks at those sizes.
        condition: Features of the SNR.
    """

    @library_defaults()  # weights in single precision, whatever the caller's default
    def __init__(self, maps: int, features: Sequence[int], blocks: Sequence[int], condition: int) -> None:
        super().__init__()
        half, width = features
        self.condition = condition_network(1, condition)
        self.into = nn.Conv2d(3 * 64, half, 1)
        self.at_8 = Stage(half, blocks[0], condition)
        self.down = nn.Conv2d(half, width, 2, 2)
        self.at_16 = Stage(width, blocks[1], condition)
        self.gate = zeroed(nn.Conv2d(width, maps, 1))
        self.out = zeroed(nn.Conv2d(width, maps, 1))

    def forward(
        self, centred: Float[Tensor, "batch 3 height width"], design: Float[Tensor, "batch 1"]
    ) -> tuple[Float[Tensor, "batch maps rows columns"], Float[Tensor, "batch maps rows columns"]]:
        """Corrections of the maps: a factor less 1, and a term in units of the map's standard deviation.

        Args:
            centred: Pictures less the mean colour, sides whole bands, [batch, 3, height, width].
            design: Design SNR of the power allocation, -1..1, [batch, 1].

        Returns:
            Factor less 1 and additive term, [batch, maps, rows, columns] each.
        """
        condition = self.condition(design)
        features = self.into(nn.functional.pixel_unshuffle(4 * centred, 8))
        features = self.at_8(features, condition)
        features = self.at_16(self.down(features), condition)
        return self.gate(features).float(), self.out(features).float()


class DecoderRefinement(nn.Module):
    """Decoder network of the adaptive DeepJSCC, which corrects the linearly decoded maps and picture.

    Args:
        maps: Number of maps; each is a band of frequencies at 1/16 of the size.
        features: Features at 1/4, 1/8 and 1/16 of the size.
        blocks: Residual blocks at 1/4 and 1/8, on the way down and again on the way up, and at 1/16.
        condition: Features of what is known of the reception.
        aim: "distortion" or "perceptual": the loss on which it was trained.
    """

    @library_defaults()  # weights in single precision, whatever the caller's default
    def __init__(
        self,
        maps: int,
        features: Sequence[int],
        blocks: Sequence[int],
        condition: int,
        aim: str = "distortion",
    ) -> None:
        super().__init__()
        self.config = {
            "maps": maps,
            "features": list(features),
            "blocks": list(blocks),
            "condition": condition,
            "aim": aim,
        }
        self.aim = aim
        quarter, half, width = features
        self.condition = condition_network(maps + 2, condition)
        self.into = nn.Conv2d(3 * 16, quarter, 3, padding=1)
        self.fall = nn.ModuleList(
            Stage(f, n, condition) for f, n in zip((quarter, half), blocks[:2], strict=True)
        )
        self.down = nn.ModuleList((nn.Conv2d(quarter, half, 2, 2), nn.Conv2d(half, width, 2, 2)))
        self.maps = nn.Conv2d(2 * maps, width, 1)
        self.gate = zeroed(nn.Conv2d(width, maps, 1))
        self.at_16 = Stage(width, blocks[2], condition)
        self.up = nn.ModuleList((nn.Conv2d(width, 4 * half, 1), nn.Conv2d(half, 4 * quarter, 1)))
        self.rise = nn.ModuleList(
            Stage(f, n, condition) for f, n in zip((half, quarter), blocks[1::-1], strict=True)
        )
        self.out = zeroed(nn.Conv2d(quarter, 3 * 16, 3, padding=1))

    @property
    def name(self) -> str:
        """Name of the DeepJSCC that decodes with this network: "deepjscc" or "deepjscc-perceptual"."""
        return "deepjscc" if self.aim == "distortion" else f"deepjscc-{self.aim}"

    def forward(
        self,
        linear: Float[Tensor, "batch 3 height width"],
        levels: Float[Tensor, "batch maps rows columns"],
        known: Float[Tensor, "batch known"],
    ) -> tuple[Float[Tensor, "batch maps rows columns"], Float[Tensor, "batch 3 height width"]]:
        """Corrections after linear decoding: a factor less 1 for each map, and pixels to add.

        Args:
            linear: Linearly decoded pictures less the mean colour, [batch, 3, height, width].
            levels: Maps of these pictures in units of their standard deviations, [batch, maps, rows,
                columns].
            known: Reliability of each map, expected error, design SNR, [batch, known].

        Returns:
            Factor less 1, [batch, maps, rows, columns], and pixels in units of the expected error, [batch, 3,
            height, width].
        """
        condition = self.condition(known)
        features = self.into(nn.functional.pixel_unshuffle(4 * linear, 4))
        passed = []
        for blocks, down in zip(self.fall, self.down, strict=True):
            features = blocks(features, condition)
            passed.append(features)
            features = down(features)
        features = features + self.maps(torch.cat((levels, levels.abs()), 1))
        features = self.at_16(features, condition)
        gate = self.gate(features).float()
        for up, blocks in zip(self.up, self.rise, strict=True):
            features = nn.functional.pixel_shuffle(up(features), 2) + passed.pop()
            features = blocks(features, condition)
        return gate, nn.functional.pixel_shuffle(self.out(features), 4).float()
