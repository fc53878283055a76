"""Training recipe of the adaptive DeepJSCC: relative squared error over all SNRs, rates and two channels."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from channels.awgn import AWGN
from channels.channel import Channel, Received, transmit
from channels.fading import RayleighBlockFading
from channels.streams import NamedStreams, SharedStreams
from semcom import zoo
from semcom.budget import parse_rho
from semcom.errors import InvalidOption
from semcom.jscc.adaptive import DESIGN_SNR_DB, LEAST_USES, AdaptiveDeepJSCC, hats
from semcom.jscc.cosine import coefficients_of
from semcom.surroundings import library_defaults, own_random_numbers
from semcom.training.common import (
    PHOTOS,
    VALIDATION,
    train_and_save,
    training_crops,
    validation_pictures,
)
from semcom.training.loop import Settings
from semcom.training.processes import own_device

SNR_DB = (-5.0, 25.0)
RHO = (1 / 768, 1 / 6)
SCORED = ((0.0, 48), (5.0, 192), (10.0, 12), (10.0, 48), (20.0, 12), (20.0, 192))
"""Operating points of the validation score: SNR in dB and 1/rho."""


@library_defaults()
@own_random_numbers()
def train(
    seconds: float,
    out: Path,
    photos: Path = PHOTOS,
    validation: Path = VALIDATION,
    batch: int = 16,
    crop: int = 128,
    learning_rate: float = 1e-3,
    device: str = "cpu",
    start: Path | None = None,
    rho: str | None = None,
    snr_db: float | None = None,
    patience: int | None = None,
) -> float:
    """Train the adaptive DeepJSCC, or continue training, and write `weights.safetensors` into `out`.

    With `rho` and `snr_db`, a specialist is trained and scored on AWGN at that point alone. Its gain over the
    network it starts from is the price of one network for all points.

    Args:
        seconds: Duration in wall-clock seconds.
        out: Folder of `checkpoint.pt`, `curve.csv` and the weights.
        photos: Folder of training pictures, or a shard made by `crops.pack`.
        validation: Folder of validation pictures, or a shard.
        batch: Crops per step.
        crop: Side of the crops in pixels, a multiple of 16.
        learning_rate: Peak learning rate.
        device: Device of the training.
        start: Weights to start from instead of the linear code.
        rho: Bandwidth ratio of a specialist, for instance "1/12".
        snr_db: SNR of a specialist in dB.
        patience: Validations without a better score after which to stop; see `Settings`.

    Returns:
        Validation PSNR in dB, the best one with `patience`: mean over `SCORED`, or at the specialist's point,
        over one crop each of 12 pictures.

    Raises:
        InvalidOption: `rho` was given without `snr_db`, or the reverse.
    """
    if (rho is None) != (snr_db is None):
        raise InvalidOption("a specialist has both rho and SNR")
    device = own_device(device)
    crops = training_crops(photos, crop, device)
    pictures = validation_pictures(validation, device, side=320)[::2]
    torch.manual_seed(0)
    if start is None:
        network = AdaptiveDeepJSCC()
        start_linear(network, crops.pixels[:: max(1, len(crops.pixels) // 1000)])
    else:
        network = zoo.read_as(start, AdaptiveDeepJSCC)
    points = 4 if patience is None else 20
    settings = Settings(
        seconds,
        batch,
        learning_rate,
        validate_seconds=min(300.0, seconds / points),
        patience=patience,
        optimizer="muon",
    )
    its_loss, its_score = loss, partial(score, pictures=pictures)
    if rho is not None and snr_db is not None:
        share = parse_rho(rho)
        its_loss = partial(specialist_loss, snr_db=snr_db, rho=float(share))
        its_score = partial(psnr_db, pictures=pictures, snr_db=snr_db, inverse_rho=1 / share)
    return train_and_save(network, its_loss, crops.sample, its_score, settings, out, device)


@dataclass(frozen=True, eq=False, slots=True)
class Point:
    """Operating point of a training batch.

    Args:
        channel: Channel of the batch.
        uses: Channel uses per item.
        snr_db: SNR of each item in dB, [batch].
        design_db: SNR for which the transmitter allocates power, in dB, [batch].
    """

    channel: Channel
    uses: int
    snr_db: Float[Tensor, " batch"]
    design_db: Float[Tensor, " batch"]

    @classmethod
    def random(cls, x: Float[Tensor, "batch 3 height width"], rng: SharedStreams) -> "Point":
        """Draw one rho, log-uniform, for the whole batch, and an SNR, uniform in dB, for each item.

        Half of the items are coded for their SNR, half for 10 dB. A quarter of the batches uses Rayleigh
        fading.

        Args:
            x: Images of the batch, [batch, 3, height, width].
            rng: Random streams.

        Returns:
            The operating point.
        """
        u = rng.uniform("operating points", (4,))
        snr_db = SNR_DB[0] + (SNR_DB[1] - SNR_DB[0]) * u[:, 0]
        design_db = torch.where(u[:, 1] < 0.5, snr_db, DESIGN_SNR_DB)
        rho = RHO[0] * (RHO[1] / RHO[0]) ** float(u[0, 2])
        channel: Channel = RayleighBlockFading(64) if float(u[0, 3]) < 0.25 else AWGN()
        return cls(channel, max(LEAST_USES, round(rho * x[0].numel())), snr_db, design_db)

    def send(self, network: AdaptiveDeepJSCC, x: Tensor, rng: SharedStreams) -> Received:
        """Encode a batch and send it through the channel.

        Args:
            network: The DeepJSCC.
            x: Images in [0, 1], [batch, 3, height, width].
            rng: Random streams.

        Returns:
            Received symbols.
        """
        return transmit(self.channel, network.encode(x, self.uses, self.design_db), self.snr_db, rng)

    def log_error(self, network: AdaptiveDeepJSCC, shown: Tensor, x: Tensor) -> Tensor:
        """Logarithm of the squared error relative to the error expected of linear coding, mean over items.

        With this loss no operating point outweighs another.

        Args:
            network: The DeepJSCC.
            shown: Decoded images, [batch, 3, height, width].
            x: Original images, same shape.

        Returns:
            Scalar loss.
        """
        error = (shown - x).square().mean((1, 2, 3))
        return (error / network.expected_error(tuple(x.shape), self.uses, self.snr_db) + 0.02).log().mean()


def loss(network: AdaptiveDeepJSCC, x: Float[Tensor, "batch 3 height width"], rng: SharedStreams) -> Tensor:
    """Training loss: logarithm of the relative squared error at random operating points.

    Args:
        network: The DeepJSCC.
        x: Images in [0, 1], [batch, 3, height, width].
        rng: Random streams.

    Returns:
        Scalar loss.
    """
    with torch.autocast(x.device.type, torch.bfloat16):
        return _loss_at(Point.random(x, rng), network, x, rng)


def specialist_loss(
    network: AdaptiveDeepJSCC, x: Tensor, rng: SharedStreams, snr_db: float, rho: float
) -> Tensor:
    """Training loss of a specialist: logarithm of the relative squared error on AWGN at one SNR and rho.

    Args:
        network: The DeepJSCC.
        x: Images in [0, 1], [batch, 3, height, width].
        rng: Random streams.
        snr_db: SNR in dB, known to both ends.
        rho: Bandwidth ratio.

    Returns:
        Scalar loss.
    """
    snrs_db = torch.full((len(x),), snr_db, device=x.device)
    with torch.autocast(x.device.type, torch.bfloat16):
        return _loss_at(Point(AWGN(), round(rho * x[0].numel()), snrs_db, snrs_db), network, x, rng)


def _loss_at(point: Point, network: AdaptiveDeepJSCC, x: Tensor, rng: SharedStreams) -> Tensor:
    shown = network.reconstruct(point.send(network, x, rng), tuple(x.shape))
    return point.log_error(network, shown, x)


def score(network: AdaptiveDeepJSCC, pictures: Float[Tensor, "count 3 side side"]) -> float:
    """Validation score: mean PSNR in dB over AWGN at `SCORED`, the transmitter knowing the SNR.

    Args:
        network: The DeepJSCC.
        pictures: Images in [0, 1], [count, 3, side, side].

    Returns:
        PSNR in dB.
    """
    return sum(map(lambda point: psnr_db(network, pictures, *point), SCORED)) / len(SCORED)


def psnr_db(
    network: AdaptiveDeepJSCC,
    pictures: Float[Tensor, "count 3 side side"],
    snr_db: float,
    inverse_rho: int | Fraction,
) -> float:
    """Mean PSNR over pictures on AWGN at one SNR and rho, the transmitter knowing the SNR.

    Args:
        network: The DeepJSCC.
        pictures: Images in [0, 1], [count, 3, side, side].
        snr_db: Es/N0 in dB.
        inverse_rho: 1 / rho.

    Returns:
        PSNR in dB.
    """
    pairs = zip(pictures.split(1), shown_at(network, pictures, snr_db, inverse_rho), strict=True)
    values = [-10 * math.log10(float((shown - picture).square().mean())) for picture, shown in pairs]
    return sum(values) / len(values)


def shown_at(
    network: AdaptiveDeepJSCC, pictures: Tensor, snr_db: float, inverse_rho: int | Fraction
) -> Iterator[Float[Tensor, "1 3 side side"]]:
    """Send each picture over AWGN, the transmitter knowing the SNR.

    Args:
        network: The DeepJSCC.
        pictures: Images in [0, 1], [count, 3, side, side].
        snr_db: Es/N0 in dB.
        inverse_rho: 1 / rho.

    Yields:
        Decoded images, [1, 3, side, side].
    """
    for i, picture in enumerate(pictures.split(1)):
        with torch.no_grad():
            symbols = network.encode(picture, picture.numel() // inverse_rho, snr_db)
            rng = NamedStreams(0, (f"validation-{i}",))
            yield network.decode(transmit(AWGN(), symbols, snr_db, rng), tuple(picture.shape))


def start_linear(network: AdaptiveDeepJSCC, pixels: Tensor) -> None:
    """Fit the network's spectrum of the average photograph: least squares on log2 of variances over squares.

    Args:
        network: Network whose linear part is set.
        pixels: Photographs, uint8 [count, side, side, 3].
    """
    side = pixels.shape[1]
    energy = torch.zeros(3, side, side, device=pixels.device)
    for piece in pixels.split(50):
        energy += coefficients_of(piece.permute(0, 3, 1, 2).float() / 255).square().sum(0)
    across = hats(side, pixels.device).to(energy)
    inverse = torch.linalg.pinv(across)
    network.believe(inverse @ (energy / len(pixels)).log2() @ inverse.T)
