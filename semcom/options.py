"""Parse and check the options of the `semcom` command before any computation starts."""

import math
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semcom.errors import InvalidOption, InvalidSource, StoreError, UnknownName, closest
from semcom.terminal import note

if TYPE_CHECKING:
    from semcom.metrics import Metric
    from semcom.modalities import Item, Modality

LOSSLESS = {".png": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM"}
MAX_GRID = 1000  # values of one option; catches typing errors


def names_of(option: str, text: str) -> list[str]:
    """Split a list of names separated by commas.

    Args:
        option: Name of the option, for the message.
        text: Value of the option.

    Returns:
        The names, without surrounding spaces.

    Raises:
        InvalidOption: A name is empty.
    """
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise InvalidOption(f"{option} {text!r}: an empty name; separate names by single commas")
    return names


def check_none_empty(arguments: Sequence[str]) -> None:
    """Check that no argument of the command line is empty, such as an unset variable of a shell.

    An empty path would be the current folder, and an empty name the default. A title may be empty.

    Args:
        arguments: Arguments after the name of the program.

    Raises:
        InvalidOption: An argument or the value of an option is empty.
    """
    for before, argument in pairwise(("", *arguments)):
        option = argument.removesuffix("=") if argument.startswith("--") else before
        if argument == "" or (argument.startswith("--") and argument.endswith("=")):
            where = option if option.startswith("--") else "an argument"
            if where != "--title":
                raise InvalidOption(f"{where} '': an empty name; leave it out, or give one")


def check_folder_name(path: Path) -> None:
    """Check, before any computation, that a folder for results can be one.

    Args:
        path: The folder; it need not exist.

    Raises:
        InvalidOption: The path, or a part of it, is a file.
    """
    for part in (path, *path.parents):
        if part.exists() and not part.is_dir():
            raise InvalidOption(f"{part}: a file; name a folder")


def check_input(path: Path) -> None:
    """Check that a file or folder exists, before anything is imported to read it.

    Args:
        path: The file or folder.

    Raises:
        InvalidSource: There is nothing of this name.
    """
    if not os.path.lexists(path):
        raise InvalidSource(f"{path}: no such file or folder")


def check_results(folder: Path) -> None:
    """Check that a folder of results exists, before anything is imported to read it.

    Args:
        folder: The folder.

    Raises:
        StoreError: There is no such folder.
    """
    if not os.path.lexists(folder):
        raise StoreError(f"{folder}: no such folder of results; run a sweep first")


def snr_grid(text: str) -> tuple[float, ...]:
    """Parse SNRs in dB from "10", "0,5,10" or "0:20:5" (every 5 dB from 0 to 20).

    Args:
        text: Value of `--snr`.

    Returns:
        SNRs in dB, at most 1000 in a grid.

    Raises:
        InvalidOption: The text has another form, or the grid has no or too many values.
        ChannelError: An SNR is outside the range of channels.
    """
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
    from channels.channel import noise_var_column

    for snr_db in snrs_db:
        noise_var_column(snr_db, 1)  # raises if the SNR is outside the range of channels
    return snrs_db


def one_snr(text: str) -> float:
    """Parse a single SNR in dB.

    Args:
        text: Value of `--snr`.

    Returns:
        SNR in dB.

    Raises:
        InvalidOption: The text is not a number, or gives several SNRs.
        ChannelError: The SNR is outside the range of channels.
    """
    snrs_db = snr_grid(text)
    if len(snrs_db) != 1:
        raise InvalidOption(f"--snr {text}: give one SNR; `semcom sweep` takes several")
    return snrs_db[0]


def modalities_of(name: str | None) -> "tuple[Modality[Any], ...]":
    """Candidate modalities of a file: all of this package, or the one that `--modality` names.

    Args:
        name: Value of `--modality`: a name, `package.module:NAME`, or None for all.

    Returns:
        The candidates.

    Raises:
        UnknownName: There is no such modality.
        InvalidOption: The imported object is not a modality.
    """
    from semcom.modalities import MODALITIES
    from semcom.names.parser import IMPORTED, imported

    if name is None:
        return MODALITIES
    if IMPORTED.fullmatch(name):
        members = ("name", "suffixes", "read", "write", "check", "dims", "shape", "cover", "digest")
        return (imported(name, "modality", members),)
    chosen = tuple(modality for modality in MODALITIES if modality.name == name)
    if not chosen:
        known = ", ".join(modality.name for modality in MODALITIES)
        near = closest(name, [modality.name for modality in MODALITIES])
        raise UnknownName(f"no modality called {name!r}{near}; there are {known}, and package.module:NAME")
    return chosen


def check_device(device: str) -> None:
    """Check, before any network is loaded, that a device exists on this machine.

    Args:
        device: Value of `--device`: "cpu", "cuda" or "cuda:N".

    Raises:
        InvalidOption: The device does not exist.
    """
    if device == "cpu":
        return
    import torch

    here = torch.cuda.is_available()
    if not (device.partition(":")[0] == "cuda" and here):
        raise InvalidOption(f"--device {device}: not here; choose cpu{', cuda' * here}")


def chosen_metrics(
    names: str | None, items: "Sequence[Item[Any]]", device: str = "cpu"
) -> "tuple[Metric[Any], ...]":
    """Metrics named by `--metrics`, or the available default ones; omissions are noted on stderr.

    Args:
        names: Value of `--metrics`; None for the defaults.
        items: Items to be measured, all of one modality.
        device: PyTorch device for the networks of metrics.

    Returns:
        The metrics.

    Raises:
        UnknownName: The modality has no metric of that name.
        MissingWeights: The weights of a named metric are missing.
        MissingPackage: A named metric needs a package that is not installed.
    """
    from semcom import names as grammar

    kind = items[0].modality
    if names is not None:
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
    """Check the format of the file for a visual comparison: HTML for texts, else a lossless image.

    Args:
        path: Value of `--strip`; None is accepted.
        modality: Modality of the item.

    Raises:
        InvalidOption: The extension is wrong.
    """
    if path is None:
        return
    if modality.name == "text":
        if path.suffix.lower() not in (".html", ".htm"):
            raise InvalidOption(f"{path}: differences of texts are shown as a page; name it .html")
    else:
        check_picture_name(path)


def check_picture_name(path: Path | None) -> None:
    """Check that an image file has the extension of a lossless format.

    Args:
        path: The file; None is accepted.

    Raises:
        InvalidOption: The format is not lossless.
    """
    if path is not None and path.suffix.lower() not in LOSSLESS:
        raise InvalidOption(f"{path}: pictures are written without loss; name it {' or '.join(LOSSLESS)}")


def check_outputs(*paths: Path, inputs: Sequence[Path]) -> None:
    """Check, before any computation, that output files can be written and overwrite no input.

    Args:
        paths: Output files.
        inputs: Input files.

    Raises:
        InvalidOption: An output is a folder or an input, its folder is missing or not writable, or two
            outputs are the same file.
    """
    for path in paths:
        if path.is_dir():
            raise InvalidOption(f"{path}: a folder; name a file in it")
        if not path.parent.is_dir():
            raise InvalidOption(f"{path}: its folder is not there; make it first")
        if not os.access(path.parent, os.W_OK):
            raise InvalidOption(f"{path}: its folder is not writable; name another")
        # unlike `resolve`, accepts loops of links
        if os.path.realpath(path) in map(os.path.realpath, inputs):
            raise InvalidOption(f"{path}: is read from; write another file")
    if len(set(map(os.path.realpath, paths))) < len(paths):
        raise InvalidOption(f"{paths[0]}: two files of one name; give each its own")


def make_folder(path: Path) -> None:
    """Create a folder for results before any computation, and check that it is writable.

    Args:
        path: The folder.

    Raises:
        InvalidOption: The path is a file, or the folder is not writable.
        OSError: The folder cannot be created.
    """
    if path.exists() and not path.is_dir():
        raise InvalidOption(f"{path}: a file; name a folder")
    path.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.W_OK):
        raise InvalidOption(f"{path}: a folder that is not writable; name another")
