"""The metrics of this package by modality and name: which work here, and why the others do not."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from semcom.checkpoints import require_checkpoint
from semcom.columns import Column, Columns
from semcom.errors import MissingWeights, UnknownName
from semcom.metrics.clip import PerFrame
from semcom.metrics.distortion import MSSSIM, PSNR, SSIM
from semcom.metrics.metric import Metric, column_of
from semcom.metrics.perceptual import BACKBONE_FILES, LPIPS, SlicedWasserstein
from semcom.metrics.realism import INCEPTION_FILE
from semcom.metrics.text import BLEU, CharacterErrorRate, WordErrorRate

IMAGE_METRICS: tuple[Metric[Any], ...] = (
    PSNR(),
    SSIM(),
    MSSSIM(),
    SlicedWasserstein(),
    LPIPS("squeeze"),
    LPIPS("alex"),
    LPIPS("vgg"),
)
METRICS: Mapping[str, tuple[Metric[Any], ...]] = MappingProxyType(
    {
        "image": IMAGE_METRICS,
        "video": tuple(map(PerFrame, IMAGE_METRICS)),
        "text": (WordErrorRate(), CharacterErrorRate(), BLEU()),
    }
)
DEFAULTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "image": ("psnr_db", "ms_ssim", "swd", "lpips_squeeze"),
        "video": ("psnr_db", "ssim", "swd", "lpips_squeeze"),
        "text": ("wer", "cer", "bleu"),
    }
)
SHIPPED_COLUMNS: Columns = MappingProxyType(
    {metric.name: column_of(metric) for metrics in METRICS.values() for metric in metrics}
)
"""Columns of all metrics of this package, by name."""


@dataclass(frozen=True)
class Availability:
    """What can be measured here.

    Args:
        metrics: Metrics that work.
        left_out: One line for each of the others: its name, a colon, and why.
    """

    metrics: tuple[Metric[Any], ...]
    left_out: tuple[str, ...]


def metrics_of(modality_name: str) -> tuple[Metric[Any], ...]:
    """All metrics of this package for one modality, those whose weights are missing included.

    Args:
        modality_name: "image", "video" or "text".

    Returns:
        Metrics of different names.

    Raises:
        UnknownName: No such modality.

    Example:
        >>> [metric.name for metric in metrics_of("text")]
        ['wer', 'cer', 'bleu']
    """
    if modality_name not in METRICS:
        raise UnknownName(
            f"no modality called {modality_name!r}{_closest(modality_name, METRICS)}; "
            f"there are {', '.join(METRICS)}"
        )
    return METRICS[modality_name]


def metric_named(name: str, modality_name: str = "image") -> Metric[Any]:
    """The metric of a column name.

    Args:
        name: Name of a column, such as "psnr_db".
        modality_name: "image", "video" or "text"; two modalities may have metrics of one name.

    Returns:
        The metric.

    Raises:
        UnknownName: No such modality, or no metric of that name for it.
        MissingWeights: The metric's network is not here.
    """
    known = {metric.name: metric for metric in metrics_of(modality_name)}
    if name not in known:
        others = [other for other in METRICS if name in (metric.name for metric in METRICS[other])]
        if others:
            why = f"metric {name!r} is for {' and '.join(others)}, not for {modality_name}"
        else:
            why = f"no metric called {name!r}{_closest(name, known)}"
        raise UnknownName(f"{why}; for {modality_name} there are {', '.join(known)}")
    reason = _obstacle(known[name])
    if reason is not None:
        raise MissingWeights(reason)
    return known[name]


def available_metrics(modality_name: str = "image", shape: object = None) -> Availability:
    """Every metric of this package for a modality that works here, and one line for every one that does not.

    A metric that does not work has no column in the records: absent, not zero.

    Args:
        modality_name: "image", "video" or "text".
        shape: Shape of the smallest item to be measured, see `Metric.fits`; None if it is large enough for
            all metrics.

    Returns:
        The metrics, and why the others are left out.

    Raises:
        UnknownName: No such modality.
    """
    return _sorted_out(metrics_of(modality_name), shape)


def default_metrics(modality_name: str = "image") -> Availability:
    """The metrics that are measured if none are named.

    Args:
        modality_name: "image", "video" or "text".

    Returns:
        Those that work here, and one line for every one whose weights are missing.

    Raises:
        UnknownName: No such modality.
    """
    chosen = [metric for metric in metrics_of(modality_name) if metric.name in DEFAULTS[modality_name]]
    return _sorted_out(chosen, None)


def on_device(metric: Metric[Any], device: str) -> Metric[Any]:
    """The same metric with its network on a device; metrics without a network stay as they are.

    Args:
        metric: Any metric.
        device: Such as "cpu" or "cuda".

    Returns:
        A metric of the same definition.

    Raises:
        InvalidOption: No such device here.
    """
    if isinstance(metric, PerFrame):
        return PerFrame(on_device(metric.metric, device))
    return replace(metric, device=device) if isinstance(metric, LPIPS) else metric


def unavailable_set_metrics() -> tuple[str, ...]:
    """Why the metrics of sets that need Inception's weights do not work: absent, damaged or another file.

    Returns:
        One line for both FID and KID if the file is not in the torch cache; nothing if it is.
    """
    try:
        require_checkpoint(INCEPTION_FILE, "fid_inception, kid_inception")
    except MissingWeights as error:
        return (str(error),)
    return ()


def column_named(name: str, columns: Columns = SHIPPED_COLUMNS) -> Column:
    """What is known of a column.

    Args:
        name: Name of the column.
        columns: Known columns by name, as from `ResultStore.columns`.

    Returns:
        That column; one without unit and direction if it is not known.
    """
    return columns.get(name, Column(name))


def _sorted_out(metrics: "list[Metric[Any]] | tuple[Metric[Any], ...]", shape: object) -> Availability:
    working, left_out = [], []
    for metric in metrics:
        reason = _obstacle(metric)
        if reason is None and shape is not None and not metric.fits(shape):
            reason = f"{metric.name}: not for items of shape {shape}; larger ones may be measured"
        if reason is None:
            working.append(metric)
        else:
            left_out.append(reason)
    return Availability(tuple(working), tuple(left_out))


def _obstacle(metric: Metric[Any]) -> str | None:
    """Why the metric cannot work here, on one line."""
    inner = metric.metric if isinstance(metric, PerFrame) else metric
    if isinstance(inner, LPIPS):
        try:
            require_checkpoint(BACKBONE_FILES[inner.backbone], inner.name)
        except MissingWeights as error:
            return str(error)
    return None


def _closest(name: str, known: "Mapping[str, object]") -> str:
    near = get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {', '.join(near)}?" if near else ""
