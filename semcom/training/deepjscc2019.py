"""Training recipe of the reference DeepJSCC: mean squared error over AWGN at one SNR."""

from pathlib import Path

import torch
from torch import Tensor, nn

from channels.awgn import AWGN
from channels.channel import transmit
from channels.streams import NamedStreams, SharedStreams
from semcom import zoo
from semcom.errors import InvalidOption
from semcom.jscc.bourtsoulatze2019 import Bourtsoulatze2019
from semcom.jscc.jscc import DeepJSCC
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

TRAINED_SNR_DB = 10.0
NETWORKS = {
    "1/12": {"features": 8, "strides": (2, 2, 1, 1, 1)},
    "1/48": {"features": 2, "strides": (2, 2, 1, 1, 1)},
    "1/192": {"features": 2, "strides": (2, 2, 2, 1, 1)},
}


def reconstruct(network: DeepJSCC, x: Tensor, snr_db: float, rng: NamedStreams | SharedStreams) -> Tensor:
    """Pass images through encoder, AWGN and decoder, with as many channel uses as the network makes.

    Args:
        network: The DeepJSCC.
        x: Images in [0, 1], [batch, 3, height, width].
        snr_db: Es/N0 in dB.
        rng: Random streams.

    Returns:
        Decoded images, same shape.
    """
    symbols = network.encode(x, x[0].numel(), None)
    return network.decode(transmit(AWGN(), symbols, snr_db, rng), tuple(x.shape))


@library_defaults()
@own_random_numbers()
def train(
    seconds: float,
    out: Path,
    rho: str = "1/12",
    photos: Path = PHOTOS,
    validation: Path = VALIDATION,
    snr_db: float = TRAINED_SNR_DB,
    batch: int = 2,
    crop: int = 192,
    learning_rate: float = 2e-3,
    device: str = "cpu",
    start: Path | None = None,
    patience: int | None = None,
) -> float:
    """Train a reference network for one rho, or continue training, and write its weights into `out`.

    Args:
        seconds: Duration in wall-clock seconds.
        out: Folder of `checkpoint.pt`, `curve.csv` and the weights.
        rho: "1/12", "1/48" or "1/192".
        photos: Folder of training pictures, or a shard made by `crops.pack`.
        validation: Folder of validation pictures, or a shard.
        snr_db: SNR of the channel in dB, known to both ends.
        batch: Crops per step.
        crop: Side of the crops in pixels. Small crops mislead: power is normalised per item, so a network
            trained on 64x64 relies on the energy of its crop and is 2 dB worse on large pictures at rho =
            1/48.
        learning_rate: Peak learning rate of Adam.
        device: Device of the training.
        start: Weights for another rho; layers of equal shape are copied.
        patience: Validations without a better score after which to stop; see `Settings`.

    Returns:
        Validation PSNR in dB, mean over one crop of 256x256 from each of 24 pictures.

    Raises:
        InvalidOption: There is no reference network for this rho.
    """
    if rho not in NETWORKS:
        raise InvalidOption(f"no reference network for rho = {rho}; there are {', '.join(NETWORKS)}")
    device = own_device(device)
    crops = training_crops(photos, crop, device)
    pictures = validation_pictures(validation, device)

    def loss(network: DeepJSCC, x: Tensor, rng: SharedStreams) -> Tensor:
        return (reconstruct(network, x, snr_db, rng) - x).square().mean()

    def psnr_db(network: DeepJSCC) -> float:
        rng = NamedStreams(0, tuple(f"validation-{i}" for i in range(len(pictures))))
        with torch.no_grad():
            error = (reconstruct(network, pictures, snr_db, rng) - pictures).square().mean((1, 2, 3))
        return float(-10 * torch.log10(error).mean())

    torch.manual_seed(0)
    network = Bourtsoulatze2019(**NETWORKS[rho])
    if start is not None:
        _take_over(network, zoo.read_as(start, Bourtsoulatze2019))
    settings = Settings(seconds, batch, learning_rate, patience=patience)
    return train_and_save(network, loss, crops.sample, psnr_db, settings, out, device)


def _take_over(network: nn.Module, other: nn.Module) -> None:
    own = network.state_dict()
    for key, value in other.state_dict().items():
        if own[key].shape == value.shape:
            own[key].copy_(value)
