"""Conversion of guided-diffusion checkpoints (Dhariwal and Nichol 2021) to the UNet2DModel of diffusers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from semcom.errors import MissingWeights

HEAD_DIM = 64
"""Features per attention head: not visible in the weights, equal in all released pixel models."""
RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Network of guided-diffusion, identified from the names and shapes of its weights.

    Levels l = 0 (all pixels) to L - 1 have an equal number n of blocks on the way down and n + 1 on the way
    up; between levels there is a block or a convolution that changes the size.

    Args:
        weights: Tensors by name.

    Raises:
        MissingWeights: The weights are not such a network, or of one that is conditional on classes, works on
            features other than RGB pixels, or has a first level whose width differs from its time embedding.

    Reference:
        Dhariwal and Nichol, Diffusion models beat GANs on image synthesis, NeurIPS 2021, and its code.
    """

    weights: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        needed = (*(f"{name}.weight" for name in ("time_embed.0", "input_blocks.0.0", "out.2")),)
        absent = [name for name in needed if name not in self.weights]
        if absent or not self._blocks("output_blocks"):
            raise MissingWeights(f"no network of guided-diffusion: without {', '.join(absent) or 'blocks'}")
        if "label_emb.weight" in self.weights:
            raise MissingWeights("a network for classes; take an unconditional one")
        first = self.weights["input_blocks.0.0.weight"]
        if first.shape[1] != 3:
            raise MissingWeights(f"{first.shape[1]} features in; take an unconditional model of RGB pixels")
        if first.shape[0] != self.weights["time_embed.0.weight"].shape[1]:
            raise MissingWeights(f"a first level of {first.shape[0]} features, which diffusers cannot hold")

    @property
    def config(self) -> dict[str, object]:
        """Constructor arguments of the equivalent UNet2DModel."""
        levels = range(self._levels)
        attentive = [self._has_attention("input_blocks", self._down(level)) for level in levels]
        resized = "resnet" if self._resizes_by_blocks else "conv"
        plain_down, plain_up = (
            ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D")
            if self._resizes_by_blocks
            else ("DownBlock2D", "UpBlock2D")
        )
        block = f"input_blocks.{self._down(0)}.0"
        doubled = self.weights[f"{block}.emb_layers.1.weight"].shape[0] > len(
            self.weights[f"{block}.out_layers.0.weight"]
        )
        return {
            "in_channels": 3,
            "out_channels": self.weights["out.2.weight"].shape[0],
            "block_out_channels": tuple(
                len(self.weights[f"input_blocks.{self._down(level)}.0.out_layers.0.weight"])
                for level in levels
            ),
            "layers_per_block": self._per_level - 1,
            "down_block_types": tuple("AttnDownBlock2D" if a else plain_down for a in attentive),
            "up_block_types": tuple("AttnUpBlock2D" if a else plain_up for a in reversed(attentive)),
            "downsample_type": resized,
            "upsample_type": resized,
            "attention_head_dim": HEAD_DIM,
            "attn_norm_num_groups": 32,
            "resnet_time_scale_shift": "scale_shift" if doubled else "default",
        }

    def renamed(self) -> dict[str, Tensor]:
        """Weights under the parameter names of UNet2DModel."""
        return dict(self._renamed())

    def _renamed(self) -> Iterator[tuple[str, Tensor]]:
        places = dict(ENDS) | dict(self._places())
        for name, value in self.weights.items():
            stem, _, kind = name.rpartition(".")
            place = next((p for p in _prefixes(stem) if p in places), None)
            if place is None:
                raise MissingWeights(f"no network of guided-diffusion: {name} has no place")
            target, rest = places[place], stem[len(place) + 1 :]
            if rest == "qkv":
                for letter, part in zip("qkv", _by_letter(value), strict=True):
                    yield f"{target}.to_{letter}.{kind}", part
            elif rest == "proj_out":
                yield f"{target}.to_out.0.{kind}", value.reshape(value.shape[:2])
            elif rest == "norm":
                yield f"{target}.group_norm.{kind}", value
            else:
                yield ".".join(filter(None, (target, RESNET.get(rest, rest), kind))), value

    def _places(self) -> Iterator[tuple[str, str]]:
        n = self._per_level - 1
        for level in range(self._levels):
            for j in range(n):
                place = f"input_blocks.{self._down(level) + j}"
                yield f"{place}.0", f"down_blocks.{level}.resnets.{j}"
                yield f"{place}.1", f"down_blocks.{level}.attentions.{j}"
            place, resized = f"input_blocks.{self._down(level) + n}.0", f"down_blocks.{level}.downsamplers.0"
            yield place, resized
            yield f"{place}.op", f"{resized}.conv"
        for up in range(self._levels):
            for j in range(n + 1):
                place = f"output_blocks.{up * (n + 1) + j}"
                attentive = self._has_attention("output_blocks", up * (n + 1) + j)
                resized = f"up_blocks.{up}.upsamplers.0"
                yield f"{place}.0", f"up_blocks.{up}.resnets.{j}"
                yield f"{place}.1", f"up_blocks.{up}.attentions.{j}" if attentive else resized
                yield f"{place}.2", resized

    @property
    def _levels(self) -> int:
        return len(self._blocks("output_blocks")) // self._per_level

    @property
    def _per_level(self) -> int:
        """Number of blocks of a level on the way up, counted to the first that changes the size."""
        blocks = self._blocks("output_blocks")
        ends = [k for k in blocks if self._resizer(k) is not None]
        return (min(ends) if ends else max(blocks)) + 1

    @property
    def _resizes_by_blocks(self) -> bool:
        kinds = [self._resizer(k) for k in self._blocks("output_blocks")]
        return "block" in kinds

    def _down(self, level: int) -> int:
        """Index of the first block of a level on the way down."""
        return 1 + level * self._per_level

    def _resizer(self, k: int) -> str | None:
        for j in (1, 2):
            if f"output_blocks.{k}.{j}.in_layers.0.weight" in self.weights:
                return "block"
            if f"output_blocks.{k}.{j}.conv.weight" in self.weights:
                return "conv"
        return None

    def _has_attention(self, side: str, k: int) -> bool:
        return f"{side}.{k}.1.qkv.weight" in self.weights

    def _blocks(self, side: str) -> list[int]:
        return sorted({int(name.split(".")[1]) for name in self.weights if name.startswith(f"{side}.")})


def _prefixes(stem: str) -> Iterator[str]:
    """Dotted prefixes of a parameter name, the longest first."""
    parts = stem.split(".")
    return (".".join(parts[:i]) for i in range(len(parts), 0, -1))


def _by_letter(value: Tensor) -> Iterator[Tensor]:
    """Split a tensor into queries, keys and values, which are interleaved by attention head."""
    heads = value.shape[0] // (3 * HEAD_DIM)
    parted = value.reshape(heads, 3, HEAD_DIM, *value.shape[1:2])
    return (parted[:, i].flatten(0, 1) for i in range(3))
