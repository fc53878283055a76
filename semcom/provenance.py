"""Provenance of records: fingerprints of schemes, and the software and machine that ran them."""

import dataclasses
import hashlib
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from fractions import Fraction
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semcom.denoisers import OnDevice
from semcom.errors import InvalidOption
from semcom.sourcecode import source_digest

LIBRARIES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "numba",
    "pillow",
    "pillow-heif",
    "av",
    "compressai",
    "lpips",
    "vmaf-torch",
    "cvvdp",
    "opencv-python-headless",
)
PILLOW_CODECS = ("jpg", "libjpeg_turbo", "jpg_2000", "webp", "avif")


def fingerprint(thing: object) -> str:
    """Fingerprint of a scheme (or any object): SHA-256 over version and definition, first 16 digits.

    The definition is `canonical(thing)`, the version that of this package. The fingerprint changes with
    either of them, and is equal in every process and on every machine with the same versions of the codecs,
    wherever packages are installed.

    Args:
        thing: A scheme, channel, metric or other object with a canonical form.

    Returns:
        16 hexadecimal digits.

    Raises:
        InvalidOption: The object contains another object without a canonical form.
    """
    return hashlib.sha256(f"semcom {package_version()}\n{canonical(thing)}".encode()).hexdigest()[:16]


def canonical(thing: object) -> str:
    """Canonical text of an object, including SHA-256 of network weights and versions of codec libraries.

    Names of classes and functions that do not belong to this package are followed by a digest of their source
    code, as in "mine.Codec@0123456789abcdef" (see `semcom.sourcecode`), since a record is worth nothing when
    the code that made it has changed.

    Fields that are excluded from comparison (`field(compare=False)`), such as caches, are left out.

    Args:
        thing: A frozen dataclass, network, tensor, array, number, string, path, module-level function, class,
            or collection of these.

    Returns:
        The text.

    Raises:
        InvalidOption: The object is or contains something else.

    Example:
        >>> from semcom.receivers import Direct
        >>> canonical((Direct(), 0.5))
        '(semcom.receivers.direct.Direct(),0.5)'
    """
    return "".join(_canonical(thing))


def environment() -> dict[str, str]:
    """Describe the environment of a run: command, commit, library versions and device.

    Returns:
        Values by name, for the run log of a store and for run.json.
    """
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(),
        "semcom": package_version(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": _device(),
        **{name: _version(name) for name in LIBRARIES},
        **codec_versions(),
    }


@cache
def package_version() -> str:
    """Version of this package as installed; it covers `channels` too.

    Returns:
        The version; empty if the package is used without being installed.
    """
    return _version("semcom")


@cache
def codec_versions() -> dict[str, str]:
    """Versions of the compiled image codecs, which determine the coded bytes.

    Returns:
        Versions by name of the library.
    """
    from PIL import features

    pillow = {f"pillow {name}": str(features.version(name)) for name in PILLOW_CODECS}
    return {**pillow, "pillow-heif": _version("pillow-heif"), "av": _version("av")}


def _canonical(thing: object) -> Iterator[str]:
    if isinstance(thing, OnDevice):  # the same thing wherever it runs
        thing = thing.denoiser
    if isinstance(thing, Enum):
        yield f"{_name(type(thing))}.{thing.name}"
    elif isinstance(thing, np.generic):
        yield repr(thing.item())
    elif thing is None or isinstance(thing, bool | int | float | str | bytes | Fraction):
        yield repr(thing)
    elif isinstance(thing, Path):
        yield repr(str(thing))
    elif isinstance(thing, Tensor):
        yield _array("tensor", thing.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy(), thing)
    elif isinstance(thing, np.ndarray):
        yield _array("array", np.ascontiguousarray(thing), thing)
    elif isinstance(thing, torch.nn.Module):
        # repr and plain attributes contain what the weights do not: strides, activations, mode
        yield f"{_name(type(thing))}[{thing!r}]"
        yield from _canonical({name: _plain(part) for name, part in thing.named_modules()})
        yield from _canonical({**thing.state_dict(), **dict(thing.named_buffers())})
    elif dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        yield from _dataclass(thing)
    elif isinstance(thing, tuple | list):
        yield from _joined("(", thing, ")")
    elif isinstance(thing, Mapping):
        yield from _joined("{", sorted(thing.items(), key=lambda pair: canonical(pair[0])), "}")
    elif isinstance(thing, frozenset | set):
        yield "{" + ",".join(sorted(map(canonical, thing))) + "}"
    elif isinstance(thing, type) or (isinstance(thing, FunctionType) and "<" not in thing.__qualname__):
        yield _name(thing)
    else:
        kind = type(thing)
        raise InvalidOption(
            f"{kind.__module__}.{kind.__qualname__} object has no canonical form; "
            "make it a frozen dataclass, an nn.Module or a function of a module"
        )


def _plain(module: torch.nn.Module) -> dict[str, Any]:
    """Public attributes of a module that are numbers, text, or collections of them."""
    return {k: v for k, v in vars(module).items() if not k.startswith("_") and _is_plain(v)}


def _is_plain(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_plain, (*value.keys(), *value.values())))
    if isinstance(value, tuple | list | set | frozenset):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | bytes | Fraction)


def _dataclass(thing: Any) -> Iterator[str]:
    name = _name(type(thing))
    yield name + "("
    for field in dataclasses.fields(thing):
        if field.compare:
            yield f"{field.name}="
            yield from _canonical(getattr(thing, field.name))
            yield ","
    if name.startswith("semcom.codecs."):  # the coded bytes depend on compiled libraries
        yield repr(codec_versions())
    yield ")"


def _joined(opening: str, things: Any, closing: str) -> Iterator[str]:
    yield opening
    for i, thing in enumerate(things):
        yield "," if i else ""
        yield from _canonical(thing)
    yield closing


def _array(kind: str, raw: np.ndarray, thing: Tensor | np.ndarray) -> str:
    digest = hashlib.sha256(raw.tobytes()).hexdigest()
    return f"{kind}[{thing.dtype},{tuple(thing.shape)},{digest}]"


def _name(thing: type | FunctionType) -> str:
    digest = source_digest(thing)
    return f"{thing.__module__}.{thing.__qualname__}" + (f"@{digest}" if digest else "")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    """Commit of the working tree from which this package is imported; empty for an installed package."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return ""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "channels", "semcom", "scripts")
        return git("rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpu = Path("/proc/cpuinfo")
    if cpu.is_file():
        for line in cpu.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "cpu"
