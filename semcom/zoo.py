"""Trained networks by name: safetensors files whose checksums are verified before use."""

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import nn

from semcom.codecs.hyperprior import MeanScaleHyperprior
from semcom.errors import InvalidOption, MissingWeights, TrainingDiverged, UnknownName, reason_of
from semcom.files import write_whole
from semcom.jscc.adaptive import AdaptiveDeepJSCC
from semcom.jscc.bourtsoulatze2019 import Bourtsoulatze2019
from semcom.jscc.refinement import DecoderRefinement
from semcom.prior import NaturalImagePrior
from semcom.refiner import PictureRefiner
from semcom.representation.straightening import StraightAutoencoder
from semcom.surroundings import library_defaults, own_random_numbers
from semcom.text.token_jscc import TokenJSCC
from semcom.video.network import FramePredictor

FORMAT = "1"
Network = TypeVar("Network", bound=nn.Module)
CLASSES: dict[str, type[nn.Module]] = {
    "AdaptiveDeepJSCC": AdaptiveDeepJSCC,
    "Bourtsoulatze2019": Bourtsoulatze2019,
    "DecoderRefinement": DecoderRefinement,
    "FramePredictor": FramePredictor,
    "MeanScaleHyperprior": MeanScaleHyperprior,
    "NaturalImagePrior": NaturalImagePrior,
    "PictureRefiner": PictureRefiner,
    "StraightAutoencoder": StraightAutoencoder,
    "TokenJSCC": TokenJSCC,
}
WEIGHTS = Path(str(resources.files("semcom"))) / "weights"


def names(folder: Path = WEIGHTS) -> tuple[str, ...]:
    """Names of all networks in a manifest, sorted.

    Args:
        folder: Folder of the manifest.

    Returns:
        The names.
    """
    return tuple(sorted(_manifest(folder)))


def load(name: str, device: str | torch.device = "cpu", folder: Path = WEIGHTS) -> nn.Module:
    """Load a trained network in evaluation mode, float32, without gradients for its weights.

    Args:
        name: Name of the network, one of `names()`.
        device: Device of the weights.
        folder: Folder with `manifest.json` (name to SHA-256) and `<name>.safetensors`.

    Returns:
        The network.

    Raises:
        UnknownName: The name is not in the manifest.
        MissingWeights: The file is absent, does not match the manifest, or cannot be read.
    """
    manifest = _manifest(folder)
    if name not in manifest:
        raise UnknownName(f"no network called {name!r}; there are {', '.join(sorted(manifest))}")
    return read(_checked(folder / f"{name}.safetensors", manifest[name])).to(device)


def load_as(name: str, kind: type[Network], device: str | torch.device = "cpu") -> Network:
    """Load a trained network of this package and check its class; see `load`.

    Args:
        name: Name of the network, one of `names()`.
        kind: Class of the network.
        device: Device of the weights.

    Returns:
        The network, in evaluation mode.

    Raises:
        UnknownName: The name is not in the manifest.
        MissingWeights: The file is absent, does not match the manifest, cannot be read, or holds a network of
            another class.
    """
    network = load(name, device)
    if not isinstance(network, kind):
        raise MissingWeights(
            f"the weights called {name} are those of a {type(network).__name__}, not of a {kind.__name__}: "
            "the file is another one; reinstall the package"
        )
    return network


def sha256(name: str, folder: Path = WEIGHTS) -> str:
    """SHA-256 of a network's weights as recorded in the manifest, for fingerprints of schemes.

    Args:
        name: Name of the network.
        folder: Folder of the manifest.

    Returns:
        Hexadecimal digest.
    """
    return _manifest(folder)[name]


@library_defaults()
def read(path: Path) -> nn.Module:
    """Read a network from a weights file of this package, without a manifest, for instance after training.

    Args:
        path: Safetensors file.

    Returns:
        The network.

    Raises:
        MissingWeights: The file cannot be read, or has another format, class or shape.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        if metadata.get("format") != FORMAT:
            raise MissingWeights(
                f"{path} has weight format {metadata.get('format')}, this version reads format {FORMAT}"
            )
        with own_random_numbers():  # initial weights are drawn, and replaced
            network = CLASSES[metadata["class"]](**json.loads(metadata["config"]))
        network.load_state_dict(tensors)
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise MissingWeights(f"{path} is not a readable network ({reason_of(error)})") from None
    return network.eval().requires_grad_(False)


def read_as(path: Path, kind: type[Network]) -> Network:
    """Read a network of a given class from a file, to continue its training.

    Args:
        path: Safetensors file.
        kind: Class of the network.

    Returns:
        The network.

    Raises:
        MissingWeights: The file cannot be read, or has another format, class or shape.
        InvalidOption: The file holds a network of another class.
    """
    network = read(path)
    if not isinstance(network, kind):
        raise InvalidOption(f"{path} holds a {type(network).__name__}; start from a {kind.__name__}")
    return network.train().requires_grad_(True)


def find(weights: Path | str, folder: Path = WEIGHTS) -> Path:
    """Find a weights file by path, or by the name of a network in the manifest.

    Args:
        weights: Path of a file, or name of a network.
        folder: Folder of the manifest.

    Returns:
        Path of the file.

    Raises:
        UnknownName: There is neither such a file nor such a network.
        MissingWeights: The file of the network is absent, or does not match the manifest.
    """
    if Path(weights).is_file():
        return Path(weights)
    manifest = _manifest(folder)
    if str(weights) not in manifest:
        raise UnknownName(f"{weights}: neither a file nor a network; there are {', '.join(sorted(manifest))}")
    return _checked(folder / f"{weights}.safetensors", manifest[str(weights)])


def save(network: nn.Module, path: Path) -> str:
    """Write a network of a known class to a file, weights rounded to fp16.

    Args:
        network: The network.
        path: File to write.

    Returns:
        SHA-256 of the file.

    Raises:
        TrainingDiverged: A weight is not finite in fp16.
    """
    tensors = {key: value.detach().cpu().half().contiguous() for key, value in network.state_dict().items()}
    for key, value in tensors.items():
        if not value.isfinite().all():
            raise TrainingDiverged(
                f"{path} is not written: {key} holds weights that are no numbers or beyond "
                f"{torch.finfo(torch.half).max:g}, the most of fp16; lower the learning rate"
            )
    metadata = {"format": FORMAT, "class": type(network).__name__, "config": json.dumps(network.config)}
    path.parent.mkdir(parents=True, exist_ok=True)
    content = to_bytes(tensors, metadata)
    write_whole(path, content)  # every process of a training writes the same
    return hashlib.sha256(content).hexdigest()


def ship(path: Path, name: str, folder: Path = WEIGHTS) -> None:
    """Add a trained network to the weights of the package and to their manifest.

    Args:
        path: Safetensors file.
        name: Name of the network.
        folder: Folder of the manifest.
    """
    network = read(path)
    manifest = _manifest(folder) | {name: save(network, folder / f"{name}.safetensors")}
    write_whole(folder / "manifest.json", json.dumps(manifest, indent=2, sort_keys=True) + "\n")


def _checked(path: Path, expected: str) -> Path:
    """Path of a file after its SHA-256 has been verified."""
    if not path.is_file():
        raise MissingWeights(f"{path} is missing; reinstall the package or train it again")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != expected:
        raise MissingWeights(
            f"{path} has SHA-256 {digest[:12]}..., its manifest says {expected[:12]}...: "
            "the file is damaged or another one; reinstall the package"
        )
    return path


def _manifest(folder: Path) -> dict[str, str]:
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
        return {str(name): bytes.fromhex(digest).hex() for name, digest in manifest.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        raise MissingWeights(f"{path} is missing or damaged; reinstall the package") from None
