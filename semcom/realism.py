"""Realism of sets: crops of the pictures or clips a sweep kept, compared with crops of their originals."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from semcom.errors import InvalidOption, InvalidSource, StoreError
from semcom.metrics import FID, FVD, KID, SetMetric, SetSlicedWasserstein
from semcom.modalities import IMAGE, VIDEO
from semcom.modalities.image import Image
from semcom.results import ResultStore
from semcom.summary import PICTURES, RECORDS, original_path
from semcom.sweep import kept_path

if TYPE_CHECKING:
    import pandas as pd

SET_METRICS: Mapping[str, Callable[[], SetMetric]] = {
    "swd_set": SetSlicedWasserstein,
    "kid_inception": KID,
    "fid_inception": FID,
    "fvd_i3d": FVD,
}
"""Metrics of sets by name; those of pictures compare clips frame by frame, without their order."""

OF_CLIPS = frozenset({"fvd_i3d"})
"""Names of the metrics that pictures do not have."""

POINT = ["scheme", "channel", "rho", "snr_db"]
LEAST_SIDE = 16


def realism(
    folder: Path,
    metrics: Mapping[str, Callable[[], SetMetric]],
    side: int = 128,
    progress: Callable[[int, int], None] | None = None,
) -> "pd.DataFrame":
    """Distances between crops of all received pictures or clips and of their originals, at every point.

    Crops are squares on a grid, and on the same grid shifted by half a side; those of a clip have all of its
    frames. Lost items count with what was shown for them.

    Args:
        folder: Folder with the results of `semcom sweep --keep`.
        metrics: Factories of set metrics by the name of their column; a new metric is made for every point.
        side: Side of the crops in pixels, at least 16.
        progress: Called with the number of finished points and of all points.

    Returns:
        One row per scheme, channel, rho and SNR: number of crops, lost items, and a column per metric; NaN
            where the set is too small for it.

    Raises:
        StoreError: The folder has no results, or none yet.
        InvalidOption: Crops exceed an item, or are smaller than 16 pixels; the results are of texts, of
            several modalities, or of pictures and a metric is one of clips.
        InvalidSource: Items were not kept, or are missing or damaged.

    Reference:
        Mentzer, Toderici, Tschannen and Agustsson, High-fidelity generative image compression, NeurIPS 2020,
        for the crops, there of 256 pixels.
    """
    import pandas as pd

    if side < LEAST_SIDE:
        raise InvalidOption(f"crops of {side} pixels: choose {LEAST_SIDE} or more")
    with ResultStore(folder / RECORDS, read_only=True) as store:
        records = store.frame()
    if records.empty:
        raise StoreError(f"{folder}: no records yet; run the sweep again, it goes on where it was stopped")
    kind = _kind(folder, records)
    for name in metrics if kind == IMAGE.name else ():
        if name in OF_CLIPS:
            raise InvalidOption(f"{name} compares clips, and {folder} holds pictures; leave it out")
    in_order = records.sort_values(["channel", "rho", "snr_db"], kind="stable")
    points: list[Any] = list(in_order.groupby(POINT, sort=False))
    rows = []
    for number, (point, group) in enumerate(points):
        sets = {name: make() for name, make in metrics.items()}
        crops = 0
        for x_hat, x in _pairs(folder, group, side, kind):
            crops += len(x) if kind == IMAGE.name else 1
            for metric in sets.values():
                metric.update(x_hat, x)
        row = dict(zip(POINT, point, strict=True)) | {"crops": crops, "lost": int(group["outage"].sum())}
        rows.append(row | {name: _computed(metric) for name, metric in sets.items()})
        if progress is not None:
            progress(number + 1, len(points))
    return pd.DataFrame(rows, columns=[*POINT, "crops", "lost", *metrics])


def set_metrics_of(folder: Path) -> tuple[str, ...]:
    """Names of the metrics of sets that can compare what a sweep kept.

    Args:
        folder: Folder with the results of `semcom sweep --keep`.

    Returns:
        Keys of `SET_METRICS`, whether their networks are there or not.

    Raises:
        StoreError: The folder has no results.
        InvalidOption: The results are of texts or of several modalities.
    """
    with ResultStore(folder / RECORDS, read_only=True) as store:
        records = store.frame()
    kind = _kind(folder, records)
    return tuple(name for name in SET_METRICS if kind == VIDEO.name or name not in OF_CLIPS)


def crops_of(x: Float[Tensor, "1 channels height width"], side: int) -> Float[Tensor, "crops channels s s"]:
    """Cut a picture into squares on a grid, and on the grid shifted by half a side.

    Args:
        x: Picture, [1, 3, height, width], or the frames of a clip as channels, [1, 3 frames, height, width].
        side: Side of the squares in pixels.

    Returns:
        Crops, [crops, channels, side, side].

    Raises:
        InvalidOption: The squares exceed the picture.
    """
    height, width = x.shape[2:]
    if min(height, width) < side:
        raise InvalidOption(f"crops of {side} pixels from a picture of {width}x{height}; choose smaller ones")
    parts = [
        x[:, :, first:, first:].unfold(2, side, side).unfold(3, side, side)
        for first in (0, side // 2)
        if min(height, width) - first >= side
    ]
    return torch.cat([part.permute(0, 2, 3, 1, 4, 5).flatten(0, 2) for part in parts])


def _kind(folder: Path, records: "pd.DataFrame") -> str:
    """Name of the modality of all records."""
    kinds = sorted(set(records["modality"])) or [IMAGE.name]
    if len(kinds) > 1 or kinds[0] not in (IMAGE.name, VIDEO.name):
        raise InvalidOption(
            f"{folder} holds results of {' and '.join(kinds)}; sets of pictures or of clips are compared"
        )
    return kinds[0]


def _pairs(folder: Path, group: "pd.DataFrame", side: int, kind: str) -> Iterator[tuple[Image, Image]]:
    """Crops of every received picture and of its original, together; of a clip one by one, in frames."""
    modality: Any = IMAGE if kind == IMAGE.name else VIDEO
    suffix = modality.saved_suffix
    for row in group.to_dict("records"):
        key = tuple(row[name] for name in ("fingerprint", "channel", "item", "budget_uses", "snr_db", "seed"))
        received = kept_path(folder / PICTURES, row["scheme"], key, suffix)
        files = received, original_path(folder, row["item"], suffix)
        gone = [file for file in files if not file.is_file()]
        if gone:
            raise InvalidSource(
                f"{gone[0]}: no such file; sweep again with --keep, which fills in what is missing"
            )
        x_hat, x = (modality.read(file).x for file in files)
        if kind == IMAGE.name:
            yield crops_of(x_hat, side), crops_of(x, side)
        else:
            both = (crops_of(clip.frames.flatten(0, 1)[None] / 255, side) for clip in (x_hat, x))
            for crop_hat, crop in zip(*both, strict=True):
                yield crop_hat.unflatten(0, (-1, 3)), crop.unflatten(0, (-1, 3))


def _computed(metric: SetMetric) -> float:
    try:
        return metric.compute()
    except InvalidOption:  # too small a set
        return float("nan")
