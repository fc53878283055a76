"""Catalogue of this package's metrics, by modality and name, with reasons why a metric is unavailable."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from semcom.columns import Column, Columns
from semcom.errors import MissingPackage, MissingWeights, UnknownName, closest
from semcom.metrics.clip import PerFrame
from semcom.metrics.clip_features import ClipFeatureDistance
from semcom.metrics.colour_video_vdp import ColorVideoVDP
from semcom.metrics.distortion import MSSSIM, PSNR, SSIM
from semcom.metrics.flat import GridPeriodicity
from semcom.metrics.metric import Metric, column_of
from semcom.metrics.packages import Demanding
from semcom.metrics.perceptual import LPIPS, SlicedWasserstein
from semcom.metrics.similarity import ChrF, MiniLMCosine
from semcom.metrics.text import BLEU, CharacterErrorRate, WordErrorRate
from semcom.metrics.vmaf import VMAF, ClipVMAF
from semcom.metrics.warp import WarpError, WarpErrorGap

FRAME_METRICS: tuple[Metric[Any], ...] = (
    PSNR(),
    SSIM(),
    MSSSIM(),
    SlicedWasserstein(),
    LPIPS("squeeze"),
    LPIPS("alex"),
    LPIPS("vgg"),
    GridPeriodicity(),
)
CLIP_METRICS: tuple[Metric[Any], ...] = (
    ClipVMAF(),
    ClipVMAF(neg=True),
    ColorVideoVDP(),
    WarpError(),
    WarpErrorGap(),
    ClipFeatureDistance(),
)
METRICS: Mapping[str, tuple[Metric[Any], ...]] = MappingProxyType(
    {
        "image": (*FRAME_METRICS, VMAF(), VMAF(neg=True)),
        "video": (*map(PerFrame, FRAME_METRICS), *CLIP_METRICS),
        "text": (WordErrorRate(), CharacterErrorRate(), BLEU(), ChrF(), MiniLMCosine()),
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
"""Name, unit and direction of every metric in this package, by column name."""


@dataclass(frozen=True)
class Availability:
    """Metrics that can be computed on this machine, and the reasons why the others cannot.

    Args:
        metrics: Metrics that can be computed.
        left_out: One line "name: reason" for each metric that cannot.
    """

    metrics: tuple[Metric[Any], ...]
    left_out: tuple[str, ...]


def metrics_of(modality_name: str) -> tuple[Metric[Any], ...]:
    """List all metrics of this package for one modality, including those whose network weights are missing.

    Args:
        modality_name: "image", "video" or "text".

    Returns:
        Metrics with distinct names.

    Raises:
        UnknownName: There is no such modality.

    Example:
        >>> [metric.name for metric in metrics_of("text")]
        ['wer', 'cer', 'bleu', 'chrf', 'minilm_cosine']
    """
    if modality_name not in METRICS:
        raise UnknownName(
            f"no modality called {modality_name!r}{closest(modality_name, METRICS)}; "
            f"there are {', '.join(METRICS)}"
        )
    return METRICS[modality_name]


def metric_named(name: str, modality_name: str = "image") -> Metric[Any]:
    """Look up a metric by its column name.

    Args:
        name: Column name, such as "psnr_db".
        modality_name: "image", "video" or "text"; metrics of two modalities may share a name.

    Returns:
        The metric.

    Raises:
        UnknownName: There is no such modality, or it has no metric of that name.
        MissingWeights: The weights of the metric's network are not on this machine.
        MissingPackage: The metric needs a package that is not installed.
    """
    known = {metric.name: metric for metric in metrics_of(modality_name)}
    if name not in known:
        others = [other for other in METRICS if name in (metric.name for metric in METRICS[other])]
        if others:
            why = f"metric {name!r} is for {' and '.join(others)}, not for {modality_name}"
        else:
            why = f"no metric called {name!r}{closest(name, known)}"
        raise UnknownName(f"{why}; for {modality_name} there are {', '.join(known)}")
    obstacle = _obstacle(known[name])
    if obstacle is not None:
        raise obstacle
    return known[name]


def available_metrics(modality_name: str = "image", shape: object = None) -> Availability:
    """List the metrics of this package that can be computed for a modality, and why the others cannot.

    A metric that cannot be computed has no column in the records; its value is absent, not zero.

    Args:
        modality_name: "image", "video" or "text".
        shape: Shape of the smallest item to be measured, see `Metric.fits`. With None, the items are
            taken to be large enough for every metric.

    Returns:
        The available metrics, and one line for each of the others.

    Raises:
        UnknownName: There is no such modality.
    """
    return _sorted_out(metrics_of(modality_name), shape)


def default_metrics(modality_name: str = "image") -> Availability:
    """List the metrics that a command computes when the user names none.

    Args:
        modality_name: "image", "video" or "text".

    Returns:
        The default metrics that can be computed, and one line for each whose weights or package are missing.

    Raises:
        UnknownName: There is no such modality.
    """
    chosen = [metric for metric in metrics_of(modality_name) if metric.name in DEFAULTS[modality_name]]
    return _sorted_out(chosen, None)


def on_device(metric: Metric[Any], device: str) -> Metric[Any]:
    """Copy a metric with its network on another device; a metric without a network is returned unchanged.

    Args:
        metric: Any metric.
        device: PyTorch device, such as "cpu" or "cuda".

    Returns:
        A metric with the same definition.

    Raises:
        InvalidOption: The device does not exist on this machine.
    """
    if isinstance(metric, PerFrame):
        return PerFrame(on_device(metric.metric, device))
    movable = isinstance(metric, LPIPS | VMAF | ClipVMAF | ColorVideoVDP | ClipFeatureDistance | MiniLMCosine)
    return replace(metric, device=device) if movable else metric


def column_named(name: str, columns: Columns = SHIPPED_COLUMNS) -> Column:
    """Look up the unit and direction of a column.

    Args:
        name: Column name.
        columns: Known columns by name, for instance `ResultStore.columns()`.

    Returns:
        The column; without unit and direction if the name is unknown.
    """
    return columns.get(name, Column(name))


def _sorted_out(metrics: "list[Metric[Any]] | tuple[Metric[Any], ...]", shape: object) -> Availability:
    working, left_out = [], []
    for metric in metrics:
        obstacle = _obstacle(metric)
        if obstacle is not None:
            left_out.append(str(obstacle))
        elif shape is not None and not metric.fits(shape):
            left_out.append(f"{metric.name}: not for items of shape {shape}; larger ones may be measured")
        else:
            working.append(metric)
    return Availability(tuple(working), tuple(left_out))


def _obstacle(metric: Metric[Any]) -> MissingWeights | MissingPackage | None:
    """Why the metric cannot work here."""
    inner = metric.metric if isinstance(metric, PerFrame) else metric
    if isinstance(inner, Demanding):
        try:
            inner.require()
        except (MissingWeights, MissingPackage) as error:
            return error
    return None
