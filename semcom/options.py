"""What the options of the `semcom` command say, and whether it can be done, before any work."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semcom.errors import InvalidOption, UnknownName
from semcom.terminal import note

if TYPE_CHECKING:
    from semcom.metrics import Metric
    from semcom.modalities import Item, Modality

LOSSLESS = {".png": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM"}
MAX_GRID = 1000  # values of one option; more is a typing error


def names_of(option: str, text: str) -> list[str]:
    """Separated by commas."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise InvalidOption(f"{option} {text!r}: an empty name; separate names by single commas")
    return names


def snr_grid(text: str) -> tuple[float, ...]:
    """SNRs in dB from "10", "0,5,10" or "0:20:5" (every 5 dB from 0 to 20)."""
    from channels.channel import noise_var_column

    try:
        if ":" in text:
            first, last, step = map(float, text.split(":"))
            count = math.floor((last - first) / step + 1e-9) + 1
            if not 1 <= count <= MAX_GRID:
                raise InvalidOption(
                    f"--snr {text}: {max(count, 0)} values; give 1..{MAX_GRID}, "
                    "and a step that leads from the first to the last"
                )
            snrs_db = tuple(round(first + i * step, 9) for i in range(count))
        else:
            snrs_db = tuple(float(part) for part in text.split(","))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        if isinstance(error, InvalidOption):
            raise
        raise InvalidOption(
            f"--snr {text!r} is not a number; write 10, or 0,5,10, or 0:20:5, in dB"
        ) from None
    for snr_db in snrs_db:
        noise_var_column(snr_db, 1)  # raises outside the range of channels
    return snrs_db


def one_snr(text: str) -> float:
    """Where a grid makes no sense."""
    snrs_db = snr_grid(text)
    if len(snrs_db) != 1:
        raise InvalidOption(f"--snr {text}: give one SNR; `semcom sweep` takes several")
    return snrs_db[0]


def modalities_of(name: str) -> "tuple[Modality[Any], ...]":
    """Those that a file may be of: all of this package, or the one that an option names."""
    from semcom.modalities import MODALITIES
    from semcom.names.parser import IMPORTED, imported

    if not name:
        return MODALITIES
    if IMPORTED.fullmatch(name):
        members = ("name", "suffixes", "read", "write", "check", "dims", "shape", "cover", "digest")
        return (imported(name, "modality", members),)
    chosen = tuple(modality for modality in MODALITIES if modality.name == name)
    if not chosen:
        known = ", ".join(modality.name for modality in MODALITIES)
        raise UnknownName(f"no modality called {name!r}; there are {known}, and package.module:NAME")
    return chosen


def check_device(device: str) -> None:
    """Before any network is loaded."""
    if device == "cpu":
        return
    import torch

    here = torch.cuda.is_available()
    if not (device.partition(":")[0] == "cuda" and here):
        raise InvalidOption(f"--device {device}: not here; choose cpu{', cuda' * here}")


def chosen_metrics(
    names: str, items: "Sequence[Item[Any]]", device: str = "cpu"
) -> "tuple[Metric[Any], ...]":
    """Those named, or those of the default that work here; what is left out is said on stderr."""
    from semcom import names as grammar

    kind = items[0].modality
    if names:
        metrics = tuple(grammar.metric(n, kind.name, device) for n in names_of("--metrics", names))
    else:
        available = grammar.default_metrics(kind.name, device)
        metrics = available.metrics
        for line in available.left_out:
            note(f"without {line}")
    for metric in metrics:
        unfit = [item.id for item in items if not metric.fits(kind.shape(item.x))]
        if unfit:
            example = unfit[0] if len(unfit) == 1 else f"{unfit[0]} and others"
            note(f"without {metric.name} for {example}: not defined for that shape")
    return metrics


def check_strip_name(path: Path | None, modality: "Modality[Any]") -> None:
    """A page for texts, a picture for everything else."""
    if path is None:
        return
    if modality.name == "text":
        if path.suffix.lower() not in (".html", ".htm"):
            raise InvalidOption(f"{path}: differences of texts are shown as a page; name it .html")
    else:
        check_picture_name(path)


def check_picture_name(path: Path | None) -> None:
    """Only formats that keep every pixel."""
    if path is not None and path.suffix.lower() not in LOSSLESS:
        raise InvalidOption(f"{path}: pictures are written without loss; name it {' or '.join(LOSSLESS)}")


def check_outputs(*paths: Path, inputs: Sequence[Path]) -> None:
    """Before anything is computed or written."""
    for path in paths:
        if path.is_dir():
            raise InvalidOption(f"{path}: a folder; name a file in it")
        if not path.parent.is_dir():
            raise InvalidOption(f"{path}: its folder is not there; make it first")
        if not os.access(path.parent, os.W_OK):
            raise InvalidOption(f"{path}: its folder is not writable; name another")
        if os.path.realpath(path) in map(os.path.realpath, inputs):  # unlike `resolve`, goes round in no loop
            raise InvalidOption(f"{path}: is read from; write another file")
    if len(set(map(os.path.realpath, paths))) < len(paths):
        raise InvalidOption(f"{paths[0]}: two files of one name; give each its own")


def make_folder(path: Path) -> None:
    """Before anything is computed, so that nothing is lost for want of a place."""
    if path.exists() and not path.is_dir():
        raise InvalidOption(f"{path}: a file; name a folder")
    path.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.W_OK):
        raise InvalidOption(f"{path}: a folder that is not writable; name another")
