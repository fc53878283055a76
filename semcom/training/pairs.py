"""Pairs of pictures and of what codecs made of them, for the training of the refiner."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from semcom import zoo
from semcom.files import replacing
from semcom.modalities.image import from_pixels, to_pixels
from semcom.provenance import fingerprint
from semcom.training.crops import Crops

CODECS = {"hevc-intra": 0.5, "avif": 0.2, "jpeg2000": 0.075, "jpeg": 0.075, "webp": 0.075, "learned": 0.075}
"""Share of the decoded pictures that each codec makes; the digital envelope mostly chooses HEVC."""
SCALES = {1: 0.66, 2: 0.24, 4: 0.09, 8: 0.01}
"""Share of the decoded pictures that were reduced by each scale before coding."""
RESIZED = (0.7, 1.7)
"""Least and largest factor by which pieces are resized before coding, for detail of all sizes."""
COUNT = 5000
LEAST_SPREAD = 0.004
HELD_OUT = (("hevc-intra", 4, 0.3), ("hevc-intra", 2, 0.25), ("hevc-intra", 1, 0.25), ("avif", 1, 0.35))
"""Codec, scale and share of its settings of the pictures of the validation score."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class Pairs:
    """Pictures or frames, what codecs made of them, and what a receiver knows about that.

    Args:
        crops: Crops with 6 channels, the picture and the decoded picture.
        spread: Root mean square error of each decoded piece, in units of [-1, 1], [count].
        scale: Factor by which each piece was reduced before coding, [count].
    """

    crops: Crops
    spread: Float[Tensor, " count"]
    scale: Float[Tensor, " count"]

    @classmethod
    def load(cls, shard: Path, count: int, size: int, device: str) -> "Pairs":
        """Load the pairs made of a shard of pictures; they are kept beside it.

        Args:
            shard: Shard of pictures.
            count: Number of pairs.
            size: Side of the windows in pixels.
            device: Device of the pixels.

        Returns:
            The pairs.
        """
        pieces = Crops.load(shard, size).pixels
        made_of = fingerprint((pieces, count, CODECS, SCALES, RESIZED, zoo.sha256("learned")))
        kept = shard.with_name(f"{shard.stem}-coded-{made_of}.npy")
        scales = kept.with_suffix(".scales.npy")
        if not (kept.is_file() and scales.is_file()):
            pixels, scale = coded(pieces.numpy(), count)
            for path, values in ((kept, pixels), (scales, scale)):
                with replacing(path) as part, part.open("wb") as file:
                    np.save(file, values)
        return cls.of(
            Crops.load(kept, size, device),
            torch.from_numpy(np.array(np.lib.format.open_memmap(scales, mode="r"))),
        )

    @classmethod
    def of(cls, crops: Crops, scale: Float[Tensor, " count"]) -> "Pairs":
        """Pairs of given crops; the spread is measured.

        Args:
            crops: Crops with 6 channels.
            scale: Scale of each piece, [count].

        Returns:
            The pairs.
        """
        errors = [(p[..., 3:].float() - p[..., :3].float()).square().mean().sqrt() for p in crops.pixels]
        spread = (torch.stack(errors) * 2 / 255).clamp_min(LEAST_SPREAD)
        return cls(crops, spread, scale.to(spread))

    def sample(self, batch: int, generator: torch.Generator) -> Float[Tensor, "batch 8 size size"]:
        """Draw pictures in [0, 1], decoded pictures, and spread and scale as constant channels.

        Args:
            batch: Number of windows.
            generator: Source of randomness.

        Returns:
            [batch, 8, size, size]: picture, decoded picture, spread, scale.
        """
        windows, piece = self.crops.sample_of(batch, generator)
        told = torch.stack([self.spread[piece], self.scale[piece]], 1)[:, :, None, None]
        return torch.cat((windows, told.expand(-1, -1, *windows.shape[2:])), 1)


def coded(
    pieces: UInt8[np.ndarray, "pieces side side 3"], count: int
) -> tuple[UInt8[np.ndarray, "count side side 6"], Float[np.ndarray, " count"]]:
    """Put pieces, resized at random, beside what a codec makes of them at a random quality.

    Args:
        pieces: Pictures, uint8 [pieces, side, side, 3], which take turns.
        count: Number of pairs.

    Returns:
        Pictures and decoded pictures, uint8 [count, side, side, 6], and the scale of each, [count].
    """
    from PIL import Image

    from semcom import names  # needs more than training machines may have

    codecs = [names.codec(name) for name in CODECS]
    side = pieces.shape[1]
    pairs = np.empty((count, side, side, 6), np.uint8)
    scales = np.empty(count)
    rng = np.random.default_rng(0)
    for i in range(count):
        codec = codecs[rng.choice(len(codecs), p=list(CODECS.values()))]
        scale = int(rng.choice(list(SCALES), p=list(SCALES.values())))
        extent = round(side * math.exp(rng.uniform(*np.log(RESIZED))))
        picture = Image.fromarray(pieces[i % len(pieces)]).resize((extent, extent), Image.Resampling.LANCZOS)
        picture = np.asarray(picture)
        missing = max(0, side - extent)  # what a reduced piece lacks is its mirror image
        picture = np.pad(picture, ((0, missing), (0, missing), (0, 0)), "symmetric")
        top, left = rng.integers(0, max(extent, side) - side + 1, 2)
        picture = picture[top : top + side, left : left + side]
        qualities = [quality for quality in codec.qualities if quality.scale == scale]
        x = from_pixels(np.ascontiguousarray(picture))
        y = codec.decode(codec.encode(x, qualities[rng.integers(len(qualities))]), tuple(x.shape))
        pairs[i, ..., :3], pairs[i, ..., 3:], scales[i] = picture, to_pixels(y), scale
        if i % 500 == 499:
            logger.info(f"coded {i + 1} of {count} pieces")
    return pairs, scales


def held_out_pairs(pieces: UInt8[Tensor, "count side side 3"], device: str) -> tuple[Pairs, ...]:
    """Code validation pictures at fixed qualities.

    Args:
        pieces: Pictures, uint8 [count, side, side, 3].
        device: Device of the pixels.

    Returns:
        Pairs for each of `HELD_OUT`.
    """
    from semcom import names  # needs more than training machines may have

    found: list[Pairs] = []
    for name, scale, share in HELD_OUT:
        codec = names.codec(name)
        ladder = [quality for quality in codec.qualities if quality.scale == scale]
        quality = ladder[round(share * (len(ladder) - 1))]
        both: list[Tensor] = []
        for piece in pieces:
            x = from_pixels(piece.numpy())
            y = to_pixels(codec.decode(codec.encode(x, quality), tuple(x.shape)))
            both.append(torch.cat((piece, torch.as_tensor(y)), -1))
        crops = Crops(torch.stack(both).to(device), pieces.shape[1])
        found.append(Pairs.of(crops, torch.full((len(pieces),), float(scale))))
    return tuple(found)
