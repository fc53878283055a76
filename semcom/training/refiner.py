"""Training recipe of the refiner: the diffusion prior conditioned on what a decoder made of the picture."""

import logging
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from channels.awgn import AWGN
from channels.channel import transmit
from channels.streams import NamedStreams, SharedStreams
from semcom import zoo
from semcom.files import replacing
from semcom.jscc.adaptive import AdaptiveDeepJSCC
from semcom.modalities.image import from_pixels, to_pixels
from semcom.prior import NaturalImagePrior
from semcom.provenance import fingerprint
from semcom.surroundings import library_defaults, own_random_numbers
from semcom.training import prior
from semcom.training.common import PHOTOS, VALIDATION, train_and_save, training_shard, validation_shard
from semcom.training.crops import Crops
from semcom.training.loop import Settings
from semcom.training.processes import own_device

CODES = "deepjscc,deepjscc,deepjscc,avif,learned,jpeg"
"""Codes whose decoded pictures are refined; a code that is listed three times makes three times as many."""
INVERSE_RHO = (24.0, 1024.0)
SNR_DB = (-7.0, 15.0)
UNTOLD = 0.4  # share of items without a guess, so that the network remains a prior
MISJUDGED = 0.2  # standard deviation of ln spread: receivers know the error of a picture to some 2 dB
SCORED = (0.5, 2.0)
"""Noise levels of the validation score, as multiples of the guess's error."""
LEAST_SPREAD = 0.01
logger = logging.getLogger(__name__)


@library_defaults()
@own_random_numbers()
def train(
    seconds: float,
    out: Path,
    photos: Path = PHOTOS,
    validation: Path = VALIDATION,
    batch: int = 16,
    crop: int = 64,
    learning_rate: float = 5e-4,
    device: str = "cpu",
    start: Path | None = None,
    codes: str = CODES,
) -> float:
    """Train the refiner, or continue training, and write `weights.safetensors` into `out`.

    Args:
        seconds: Duration in wall-clock seconds.
        out: Folder of `checkpoint.pt`, `curve.csv` and the weights.
        photos: Folder of training pictures, or a shard made by `crops.pack`.
        validation: Folder of validation pictures, or a shard.
        batch: Crops per step.
        crop: Side of the crops in pixels, a multiple of 16.
        learning_rate: Peak learning rate of Adam.
        device: Device of the training.
        start: Weights of a refiner or a prior to start from, instead of the shipped prior.
        codes: "deepjscc" and names of codecs, separated by commas; without codecs, torch suffices.

    Returns:
        Validation score: PSNR of D(x, sigma, guess) in dB, mean over `SCORED` and one 192x192 crop of 24
            pictures.
    """
    device = own_device(device)
    names = codes.split(",")
    pairs = Pairs.load(training_shard(photos), names, crop, device)
    held_out = Pairs.load(validation_shard(validation), names, 192, device)
    torch.manual_seed(0)
    network = zoo.read_as(start or zoo.find("prior"), NaturalImagePrior)
    network = network if network.conditional else NaturalImagePrior.conditional_from(network)
    settings = Settings(seconds, batch, learning_rate, validate_seconds=min(300.0, seconds / 4))
    its_score = partial(score, pairs=held_out)
    return train_and_save(network, loss, pairs.sample, its_score, settings, out, device)


@dataclass(frozen=True, eq=False, slots=True)
class Pairs:
    """Pictures, paired with what decoders made of them.

    Args:
        crops: Crops with 6 channels, the picture and the decoded picture.
        spread: Root mean square error of each decoded piece, in units of [-1, 1], [count].
    """

    crops: Crops
    spread: Float[Tensor, " count"]

    @classmethod
    def load(cls, shard: Path, codes: list[str], size: int, device: str) -> "Pairs":
        """Load the pairs of a shard; decoded pictures are cached beside it by pieces and weights.

        Args:
            shard: Shard of pictures.
            codes: Names of the codes whose decoded pictures are wanted.
            size: Side of the windows in pixels.
            device: Device of the pixels.

        Returns:
            The pairs.
        """
        pieces = Crops.load(shard, size).pixels
        weights = tuple(zoo.sha256(code) for code in codes if code in zoo.names())
        made_of = fingerprint((pieces, codes, weights, INVERSE_RHO, SNR_DB))
        kept = shard.with_name(f"{shard.stem}-decoded-{made_of}.npy")
        if not kept.is_file():
            with replacing(kept) as part, part.open("wb") as file:
                np.save(file, decoded(pieces, codes))
        crops = Crops.load(kept, size, device)
        errors = [
            (piece[..., 3:].float() - piece[..., :3].float()).square().mean().sqrt() for piece in crops.pixels
        ]
        return cls(crops, (torch.stack(errors) * 2 / 255).clamp_min(LEAST_SPREAD))

    def sample(self, batch: int, generator: torch.Generator) -> Float[Tensor, "batch 7 size size"]:
        """Draw pictures in [0, 1], decoded pictures, and their spread as a constant channel.

        Args:
            batch: Number of windows.
            generator: Source of randomness.

        Returns:
            [batch, 7, size, size]: picture, decoded picture, spread.
        """
        windows, piece = self.crops.sample_of(batch, generator)
        spread = self.spread[piece][:, None, None, None].expand(-1, 1, *windows.shape[2:])
        return torch.cat((windows, spread), 1)


@torch.no_grad()
def decoded(pieces: UInt8[Tensor, "count side side 3"], codes: list[str]) -> np.ndarray:
    """Put each piece beside what one of the codes makes of it, at a random operating point.

    Args:
        pieces: Pictures, uint8 [count, side, side, 3].
        codes: Names of the codes, which take turns.

    Returns:
        Pictures and decoded pictures, uint8 [count, side, side, 6].
    """
    senders = [Sender(code) for code in codes]
    pairs = np.empty((*pieces.shape[:3], 6), np.uint8)
    rng = np.random.default_rng(0)
    for i, piece in enumerate(pieces):
        x = from_pixels(piece.numpy())
        y = senders[i % len(senders)](x, rng.uniform(size=2), i)
        pairs[i, ..., :3] = piece.numpy()
        pairs[i, ..., 3:] = to_pixels(y)
        if i % 100 == 99:
            logger.info(f"decoded {i + 1} of {len(pieces)} pieces")
    return pairs


class Sender:
    """A code at any operating point: DeepJSCC over AWGN, or a codec without a channel.

    Args:
        code: "deepjscc", or name of the codec.
    """

    def __init__(self, code: str) -> None:
        if code == "deepjscc":
            network = zoo.load(code)
            assert isinstance(network, AdaptiveDeepJSCC)
            self.network, self.codec = network, None
        else:  # needs more than training machines may have
            from semcom import names

            self.network, self.codec = None, names.codec(code)

    def __call__(
        self, x: Float[Tensor, "1 3 side side"], place: np.ndarray, seed: int
    ) -> Float[Tensor, "1 3 side side"]:
        """Decoded picture at a place in the range of operating points, two numbers from 0 to 1.

        For DeepJSCC these are rho and SNR; for a codec, scale and setting.
        """
        if self.network is not None:
            inverse_rho = INVERSE_RHO[0] * (INVERSE_RHO[1] / INVERSE_RHO[0]) ** place[0]
            snr_db = SNR_DB[0] + (SNR_DB[1] - SNR_DB[0]) * place[1]
            symbols = self.network.encode(x, max(3, int(x.numel() / inverse_rho)), None)
            received = transmit(AWGN(), symbols, float(snr_db), NamedStreams(0, (f"refiner-{seed}",)))
            return self.network.decode(received, tuple(x.shape))
        assert self.codec is not None
        quality = self.codec.qualities[int(place[0] * len(self.codec.qualities))]
        return self.codec.decode(self.codec.encode(x, quality), tuple(x.shape))


def loss(network: NaturalImagePrior, batch: Float[Tensor, "batch 7 size size"], rng: SharedStreams) -> Tensor:
    """Training loss: squared error of D times P, that is of F against its target.

    Noise levels sigma are drawn near the error of the guess.

    Args:
        network: The refiner.
        batch: Picture, decoded picture and spread, [batch, 7, size, size].
        rng: Random streams.

    Returns:
        Scalar loss.
    """
    clean, guess, spread = 2 * batch[:, :3] - 1, 2 * batch[:, 3:6] - 1, batch[:, 6, 0, 0]
    draws = rng.normal("levels", (3,))
    told = rng.uniform("told", (1,))[:, 0] >= UNTOLD
    mean, std = prior.LOG_SIGMA
    alone = mean + std * draws[:, 0]
    about = spread.log() - 0.5 + draws[:, 0]
    sigma = torch.where(told, about, alone).exp().clamp(0.01, 80)
    believed = torch.where(told, spread * (MISJUDGED * draws[:, 1]).exp(), torch.inf)
    noisy = clean + sigma[:, None, None, None] * rng.normal("noise", tuple(clean.shape[1:]))
    with torch.autocast(clean.device.type, torch.bfloat16):
        estimate = network(noisy, sigma, torch.where(told[:, None, None, None], guess, 0.0), believed)
    precision = 1 / sigma**2 + 1 / prior.DATA_STD**2 + torch.where(told, 1 / spread**2, 0.0)
    return (precision * (estimate.float() - clean).square().mean((1, 2, 3))).mean()


def score(network: NaturalImagePrior, pairs: Pairs) -> float:
    """Validation score: mean PSNR of D(x, sigma, guess) in dB.

    Args:
        network: The refiner.
        pairs: Validation pictures with decoded pictures.

    Returns:
        PSNR in dB.
    """
    values: list[float] = []
    windows = pairs.crops.pixels.permute(0, 3, 1, 2)[:, :, : pairs.crops.size, : pairs.crops.size]
    with torch.no_grad():
        for i, (window, spread) in enumerate(zip(windows.split(1), pairs.spread.split(1), strict=True)):
            clean, guess = (2 * part.float() / 255 - 1 for part in (window[:, :3], window[:, 3:]))
            noise = NamedStreams(0, (f"validation-{i}",)).normal("noise", tuple(clean.shape[1:]))
            for ratio in SCORED:
                noisy = clean + ratio * spread * noise.to(clean.device)
                estimate = network(noisy, ratio * spread, guess, spread).clamp(-1, 1)
                values.append(-10 * math.log10(float((estimate - clean).square().mean()) / 4))
    return sum(values) / len(values)
