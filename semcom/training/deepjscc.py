"""Recipe of the adaptive DeepJSCC: relative squared error over all SNRs, bandwidths and two channels."""

import math
from fractions import Fraction
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from channels.awgn import AWGN
from channels.channel import Channel, transmit
from channels.fading import RayleighBlockFading
from channels.streams import NamedStreams, SharedStreams
from semcom import zoo
from semcom.budget import parse_rho
from semcom.errors import InvalidOption
from semcom.jscc.adaptive import (
    DESIGN_SNR_DB,
    AdaptiveDeepJSCC,
    coefficients_of,
    hats,
)
from semcom.training.crops import Crops, shard_of
from semcom.training.loop import Settings, Training
from semcom.training.processes import own_device

PHOTOS = Path("../shared/data/photos/train")
VALIDATION = Path("../shared/data/photos/val")
CACHE = Path(".cache/crops")
SNR_DB = (-5.0, 25.0)
RHO = (1 / 768, 1 / 6)
SCORED = ((0.0, 48), (5.0, 192), (10.0, 12), (10.0, 48), (20.0, 12), (20.0, 192))
"""SNR in dB and 1/rho of the validation score."""


def train(
    seconds: float,
    out: Path,
    photos: Path = PHOTOS,
    validation: Path = VALIDATION,
    batch: int = 8,
    crop: int = 128,
    learning_rate: float = 1e-3,
    device: str = "cpu",
    start: Path | None = None,
    rho: str | None = None,
    snr_db: float | None = None,
    patience: int | None = None,
) -> float:
    """Train, or go on, and write `weights.safetensors` into `out`.

    With `rho` and `snr_db`, a specialist: over AWGN at that point alone, by which it is also scored. What it
    gains on the network it starts from is what one network for all points costs there.

    Args:
        seconds: Wall-clock length.
        out: Folder of `checkpoint.pt`, `curve.csv` and the weights.
        photos: Training pictures, or a shard made by `crops.pack` from them.
        validation: Pictures for the score, or a shard.
        batch: Crops per step.
        crop: Their side in pixels, a multiple of 16.
        learning_rate: Peak of Adam's.
        device: Where to train.
        start: Weights to start from instead of the linear code.
        rho: Of a specialist, like "1/12".
        snr_db: Of a specialist.
        patience: Validations without a better score after which to stop, as in `Settings`.

    Returns:
        Validation PSNR in dB, the best one with `patience`, mean over `SCORED` or at the specialist's point,
        and over one crop each of 12 pictures.

    Raises:
        InvalidOption: `rho` without `snr_db`, or the reverse.
    """
    if (rho is None) != (snr_db is None):
        raise InvalidOption("a specialist has both rho and SNR")
    device = own_device(device)
    crops = Crops.load(shard_of(photos, CACHE, count=2000, side=224), crop, device)
    pictures = Crops.load(shard_of(validation, CACHE, count=24, side=320), 320, device).whole()[::2]
    torch.manual_seed(0)
    network = AdaptiveDeepJSCC()
    if start is None:
        start_linear(network, crops.pixels[:: max(1, len(crops.pixels) // 1000)])
    else:
        network.load_state_dict(zoo.read(start).state_dict())
    network = network.to(device).to(memory_format=torch.channels_last).train()
    points = 4 if patience is None else 20
    settings = Settings(
        seconds, batch, learning_rate, validate_seconds=min(300.0, seconds / points), patience=patience
    )
    training = Training(network, loss, crops.sample, lambda n: score(n, pictures), settings, out)
    if rho is not None and snr_db is not None:
        share = parse_rho(rho)
        training.loss = partial(loss_at, snr_db=snr_db, rho=float(share))
        training.score = partial(psnr_db, pictures=pictures, snr_db=snr_db, inverse_rho=1 / share)
    zoo.save(training.run(), out / "weights.safetensors")
    return training.result.score


def loss(network: AdaptiveDeepJSCC, x: Float[Tensor, "batch 3 height width"], rng: SharedStreams) -> Tensor:
    """Squared error over that which linear coding expects, so that no operating point outweighs another.

    One rho, log-uniform, for the whole batch and an SNR, uniform in dB, for each item. Half of the items are
    coded for their SNR, half for 10 dB. A quarter of the batches goes over Rayleigh fading.
    """
    with torch.autocast(x.device.type, torch.bfloat16):
        u = rng.uniform("operating points", (4,))
        snr_db = SNR_DB[0] + (SNR_DB[1] - SNR_DB[0]) * u[:, 0]
        design_db = torch.where(u[:, 1] < 0.5, snr_db, DESIGN_SNR_DB)
        exponent = float(u[0, 2])
        rho = RHO[0] * (RHO[1] / RHO[0]) ** exponent
        uses = max(2, round(rho * x[0].numel()))
        channel: Channel = RayleighBlockFading(64) if float(u[0, 3]) < 0.25 else AWGN()
        return _loss_over(channel, network, x, rng, uses, snr_db, design_db)


def loss_at(network: AdaptiveDeepJSCC, x: Tensor, rng: SharedStreams, snr_db: float, rho: float) -> Tensor:
    """The loss of a specialist: over AWGN at one SNR, known to both ends, and one rho."""
    snrs_db = torch.full((len(x),), snr_db, device=x.device)
    with torch.autocast(x.device.type, torch.bfloat16):
        return _loss_over(AWGN(), network, x, rng, round(rho * x[0].numel()), snrs_db, snrs_db)


def _loss_over(
    channel: Channel,
    network: AdaptiveDeepJSCC,
    x: Tensor,
    rng: SharedStreams,
    uses: int,
    snr_db: Tensor,
    design_db: Tensor,
) -> Tensor:
    symbols = network.encode(x, uses, design_db)
    received = transmit(channel, symbols, snr_db, rng)
    error = (network.reconstruct(received, tuple(x.shape)) - x).square().mean((1, 2, 3))
    return (error / network.expected_error(tuple(x.shape), uses, snr_db) + 0.02).log().mean()


def score(network: AdaptiveDeepJSCC, pictures: Float[Tensor, "count 3 side side"]) -> float:
    """Mean PSNR in dB over AWGN, the transmitter knowing the SNR."""
    return sum(map(lambda point: psnr_db(network, pictures, *point), SCORED)) / len(SCORED)


def psnr_db(
    network: AdaptiveDeepJSCC,
    pictures: Float[Tensor, "count 3 side side"],
    snr_db: float,
    inverse_rho: int | Fraction,
) -> float:
    """Mean PSNR over pictures at one SNR and rho."""
    values = []
    with torch.no_grad():
        for i, picture in enumerate(pictures.split(1)):
            symbols = network.encode(picture, picture.numel() // inverse_rho, snr_db)
            rng = NamedStreams(0, (f"validation-{i}",))
            shown = network.decode(transmit(AWGN(), symbols, snr_db, rng), tuple(picture.shape))
            values.append(-10 * math.log10(float((shown - picture).square().mean())))
    return sum(values) / len(values)


def start_linear(network: AdaptiveDeepJSCC, pixels: Tensor) -> None:
    """The spectrum of the average photograph: least squares on log2 of variances over square pieces.

    Args:
        network: Its linear part is set.
        pixels: 8-bit [count, side, side, 3].
    """
    side = pixels.shape[1]
    energy = torch.zeros(3, side, side, device=pixels.device)
    for piece in pixels.split(50):
        energy += coefficients_of(piece.permute(0, 3, 1, 2).float() / 255).square().sum(0)
    across = hats(side, pixels.device)
    inverse = torch.linalg.pinv(across)
    network.believe(inverse @ (energy / len(pixels)).log2() @ inverse.T)
