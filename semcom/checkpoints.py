"""Load third-party weights safely: files are identified by SHA-256, and no code in them is executed."""

import functools
import hashlib
import re
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from semcom.errors import MissingWeights, reason_of
from semcom.surroundings import ignored_warnings

DAMAGE = (RuntimeError, OSError, EOFError, LookupError, TypeError, ValueError, UnpicklingError)
"""Exceptions raised when a file is not a checkpoint, or holds the weights of another network."""

DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.pth$")  # convention of torchvision and torch-fidelity
ROUNDED_TO_FP16 = {
    "squeezenet1_1-b8a52dc0.pth": "d9638681eb86d742861fd91c20b8be1d36fabd87108bf20d03f29ae36f3261d4",
}
"""SHA-256 of torchvision files whose convolutions were rounded to fp16, accepted under the same names."""


def checkpoint_folder() -> Path:
    """Folder in which PyTorch keeps downloaded weights, `$TORCH_HOME/hub/checkpoints`.

    Returns:
        Path of the folder; it need not exist.
    """
    return Path(torch.hub.get_dir()) / "checkpoints"


def require_checkpoint(name: str, needed_by: str) -> Path:
    """Find a published weights file in the torch cache and verify its SHA-256, without loading it.

    Args:
        name: File name that ends in the first digits of the file's SHA-256, such as "vgg16-397923af.pth".
        needed_by: What needs the file, the first words of an error message.

    Returns:
        Path of the file.

    Raises:
        MissingWeights: The file is absent, cannot be read, or has another SHA-256.
    """
    path = checkpoint_folder() / name
    if not path.is_file():
        raise MissingWeights(f"{needed_by}: {name} is not in {path.parent}; put it there or set TORCH_HOME")
    published = DIGEST_IN_NAME.search(name)
    if published is None:
        raise ValueError(f"{name} does not end in the first 8 digits of its SHA-256")
    rounded = (ROUNDED_TO_FP16[name],) if name in ROUNDED_TO_FP16 else ()
    require_digest(path, (published[1], *rounded), needed_by)
    return path


def require_digest(path: Path, accepted: tuple[str, ...], needed_by: str) -> None:
    """Verify the SHA-256 of a file; it is computed once per process, and again if the file changes.

    Args:
        path: The file.
        accepted: Accepted SHA-256 digests in hexadecimal, each complete or its first digits.
        needed_by: What needs the file, the first words of an error message.

    Raises:
        MissingWeights: The file cannot be read, or has another SHA-256.
    """
    try:
        status = path.stat()
        found = _sha256(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise MissingWeights(f"{needed_by}: {path} cannot be read ({error.strerror}); replace it") from None
    if not found.startswith(accepted):
        raise MissingWeights(
            f"{needed_by}: {path} is damaged or another file, its SHA-256 begins with {found[:8]}, expected "
            f"{accepted[0][:8]}; replace it by the published file of this name"
        )


def load_checkpoint(name: str, needed_by: str) -> dict[str, Tensor]:
    """Load the tensors of a published weights file in the torch cache, after verifying its SHA-256.

    Args:
        name: File name that ends in the first digits of the file's SHA-256.
        needed_by: What needs the file, the first words of an error message.

    Returns:
        Tensors on the CPU, by name.

    Raises:
        MissingWeights: The file is absent, has another SHA-256, or contains anything other than tensors.
    """
    return load_tensors(require_checkpoint(name, needed_by), needed_by)


def load_tensors(path: Path, needed_by: str) -> dict[str, Tensor]:
    """Load tensors written by `torch.save`, such as a state dict, without executing code in the file.

    Args:
        path: The file.
        needed_by: What needs the file, the first words of an error message.

    Returns:
        Tensors on the CPU, by name.

    Raises:
        MissingWeights: The file is absent or damaged, or contains anything other than tensors by name.
    """
    try:
        content = load(path)
    except (OSError, ValueError) as error:
        raise MissingWeights(f"{needed_by}: {path}: {reason_of(error)}; replace it") from None
    tensors = isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values())
    if not tensors or not all(isinstance(key, str) for key in content):
        raise MissingWeights(f"{needed_by}: {path} holds more than tensors by name; replace it")
    return dict(content)


def load(path: Path, device: torch.device | str = "cpu") -> Any:
    """Load tensors, numbers, strings and containers of them from a file written by `torch.save`.

    Args:
        path: The file.
        device: Device for the tensors.

    Returns:
        Content of the file.

    Raises:
        OSError: The file is absent or cannot be opened.
        ValueError: The file is damaged, or contains other objects, whose loading could execute arbitrary
            code.
    """
    try:
        with ignored_warnings():  # about pickles that torch would not write
            return torch.load(path, map_location=device, weights_only=True)
    except OSError:
        raise
    except UnpicklingError:  # torch's message would advise running the code in the file
        raise ValueError("damaged, or more than weights") from None
    except Exception as error:  # a damaged file may raise any exception
        raise ValueError(reason_of(error)) from None


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, mtime_ns: int, size: int) -> str:
    """SHA-256 of a file; modification time and size only serve as keys of the cache."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
