"""Training recipe of the refiner: decoded pictures of all codecs, absolute error plus LPIPS."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from channels.streams import NamedStreams, SharedStreams
from semcom import zoo
from semcom.errors import InvalidOption
from semcom.files import replacing
from semcom.metrics.perceptual import lpips_network
from semcom.modalities.image import from_pixels, to_pixels
from semcom.prior import NaturalImagePrior
from semcom.provenance import fingerprint
from semcom.refiner import PictureRefiner
from semcom.surroundings import library_defaults, own_random_numbers
from semcom.training.common import PHOTOS, VALIDATION, train_and_save, training_shard, validation_shard
from semcom.training.crops import Crops
from semcom.training.loop import Settings
from semcom.training.processes import own_device

CODECS = {"hevc-intra": 0.5, "avif": 0.2, "jpeg2000": 0.075, "jpeg": 0.075, "webp": 0.075, "learned": 0.075}
"""Share of the decoded pictures that each codec makes; the digital envelope mostly chooses HEVC."""
SCALES = {1: 0.66, 2: 0.24, 4: 0.09, 8: 0.01}
"""Share of the decoded pictures that were reduced by each scale before coding."""
RESIZED = (0.7, 1.7)
"""Least and largest factor by which pieces are resized before coding, for detail of all sizes."""
COUNT = 5000
STAGES = ((0.25, 2.0), (0.75, 4.0))
"""Share of the duration and weight of LPIPS of each stage of the training."""
LEAST_SPREAD = 0.004
HELD_OUT = (("hevc-intra", 4, 0.3), ("hevc-intra", 2, 0.25), ("hevc-intra", 1, 0.25), ("avif", 1, 0.35))
"""Codec, scale and share of its settings of the pictures of the validation score."""
LPIPS_DB = 13.0  # that an LPIPS of 1 is worth in the validation score
logger = logging.getLogger(__name__)


@library_defaults()
@own_random_numbers()
def train(
    seconds: float,
    out: Path,
    photos: Path = PHOTOS,
    validation: Path = VALIDATION,
    batch: int = 4,
    crop: int = 128,
    learning_rate: float = 4e-4,
    device: str = "cpu",
    start: Path | None = None,
) -> float:
    """Train the refiner, or continue training, and write `weights.safetensors` into `out`.

    Args:
        seconds: Duration in wall-clock seconds, without the coding of the pairs.
        out: Folder of `weights.safetensors`, and of a folder for each stage with its checkpoint and curve.
        photos: Folder of training pictures, or a shard made by `crops.pack`.
        validation: Folder of validation pictures, or a shard.
        batch: Crops per step.
        crop: Side of the crops in pixels, a multiple of 16.
        learning_rate: Peak learning rate of Adam in the first stage; half of it in the others.
        device: Device of the training.
        start: Weights of a refiner or a prior to start from, instead of the shipped prior.

    Returns:
        Validation score in dB: PSNR less 13 dB times LPIPS, mean over `HELD_OUT` and 12 pictures.

    Raises:
        MissingWeights: The SqueezeNet weights of LPIPS are not available, or `start` cannot be read.
        InvalidOption: `start` holds another network.
    """
    device = own_device(device)
    lpips = lpips_network("squeeze", torch.device(device))
    pairs = Pairs.load(training_shard(photos), COUNT, crop, device)
    held_out = held_out_pairs(Crops.load(validation_shard(validation), 256).pixels[::2], device)
    its_score = partial(score, pairs=held_out, lpips=lpips)
    value = math.nan
    for number, (share, weight) in enumerate(STAGES):
        torch.manual_seed(0)
        network = started(start or zoo.find("prior"))
        network.requires_grad_(True)
        peak = learning_rate / (1 if number == 0 else 2)
        settings = Settings(share * seconds, batch, peak, ema_steps=200, validate_seconds=300.0)
        its_loss = partial(loss, lpips=lpips, weight=weight)
        folder = Path(out) / f"stage{number + 1}"
        value = train_and_save(network, its_loss, pairs.sample, its_score, settings, folder, device)
        start = folder / "weights.safetensors"
    zoo.save(zoo.read(start or zoo.find("prior")), Path(out) / "weights.safetensors")
    return value


def started(weights: Path) -> PictureRefiner:
    """Network with which a stage of the training starts.

    Args:
        weights: Weights of a refiner or a prior.

    Returns:
        The refiner, or one that is made from the prior.

    Raises:
        MissingWeights: The file cannot be read.
        InvalidOption: The file holds another network.
    """
    network = zoo.read(weights)
    if isinstance(network, NaturalImagePrior):
        return PictureRefiner.from_prior(network)
    if not isinstance(network, PictureRefiner):
        raise InvalidOption(
            f"{weights} holds a {type(network).__name__}; start from a PictureRefiner or a NaturalImagePrior"
        )
    return network


@dataclass(frozen=True, eq=False, slots=True)
class Pairs:
    """Pictures, what codecs made of them, and what a receiver knows about that.

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


def loss(
    network: PictureRefiner,
    batch: Float[Tensor, "batch 8 size size"],
    rng: SharedStreams,
    lpips: nn.Module,
    weight: float,
) -> Tensor:
    """Training loss: mean absolute error plus `weight` times LPIPS.

    LPIPS sees both pictures mirrored, transposed and resized by a common random factor, so that the network
    cannot paint patterns that only the sampling grid of LPIPS does not see.

    Args:
        network: The refiner.
        batch: Picture, decoded picture, spread and scale, [batch, 8, size, size].
        rng: Random streams.
        lpips: LPIPS metric for images in [-1, 1].
        weight: Weight of LPIPS.

    Returns:
        Scalar loss.
    """
    clean, y = 2 * batch[:, :3] - 1, 2 * batch[:, 3:6] - 1
    spread, scale = batch[:, 6, 0, 0], batch[:, 7, 0, 0]
    noise = rng.normal("noise", tuple(clean.shape[1:]))
    with torch.autocast(clean.device.type, torch.bfloat16, enabled=clean.is_cuda):
        refined = network(y, spread, scale, noise)
        size, flip, transpose = rng.uniform("view", (3,))[0].tolist()
        both = torch.cat([refined, clean])
        both = both.flip(2) if flip < 0.5 else both
        both = both.transpose(2, 3) if transpose < 0.5 else both
        factor = 0.7 * (1.5 / 0.7) ** size
        both = nn.functional.interpolate(
            both, scale_factor=factor, mode="bicubic", antialias=True, align_corners=False
        )
        distance = lpips(*both.chunk(2)).float().mean()
    return (refined.float() - clean).abs().mean() + weight * distance


def score(network: PictureRefiner, pairs: Sequence[Pairs], lpips: nn.Module) -> float:
    """Validation score in dB: PSNR less 13 dB times LPIPS.

    Args:
        network: The refiner.
        pairs: Validation pictures with decoded pictures at several qualities.
        lpips: LPIPS metric for images in [-1, 1].

    Returns:
        Score in dB, larger is better.
    """
    total, count = 0.0, 0
    for held in pairs:
        values: list[tuple[float, float]] = []
        for i, piece in enumerate(held.crops.whole().split(1)):
            clean, y = 2 * piece[:, :3] - 1, 2 * piece[:, 3:] - 1
            noise = NamedStreams(0, (f"validation-{i}",)).normal("noise", tuple(y.shape[1:])).to(y)
            with torch.no_grad():
                shown = network(y, held.spread[i : i + 1], held.scale[i : i + 1], noise).clamp(-1, 1)
                distance = float(lpips(shown, clean))
            values.append((-10 * math.log10(float((shown - clean).square().mean()) / 4), distance))
        psnr_db, distance = (sum(column) / len(values) for column in zip(*values, strict=True))
        logger.info(f"scale {float(held.scale[0]):g}: {psnr_db:.2f} dB, LPIPS {distance:.4f}")
        total, count = total + psnr_db - LPIPS_DB * distance, count + 1
    return total / count
