"""Grammar of metrics: names of columns ("psnr_db", "lpips_squeeze"), and imported ones."""

from typing import Any

from semcom.metrics import Availability, Metric, catalogue, metric_named
from semcom.names.parser import IMPORTED, imported

MEMBERS = ("name", "unit", "higher_is_better", "fits", "__call__")


def metric(name: str, modality: str = "image", device: str = "cpu") -> Metric[Any]:
    """The metric of a column name, or an imported object.

    Args:
        name: Name of the column, or `package.module:NAME`.
        modality: What is measured: "image", "video" or "text".
        device: Where the metric's network runs, if it has one.

    Returns:
        The metric.

    Raises:
        UnknownName: No such metric of that modality.
        MissingWeights: The metric's network is not here.
        InvalidOption: The imported object is not a metric.
    """
    if IMPORTED.fullmatch(name):
        return imported(name, "metric", MEMBERS)
    return catalogue.on_device(metric_named(name, modality), device)


def default_metrics(modality: str = "image", device: str = "cpu") -> Availability:
    """Metrics that are measured if none are named.

    Args:
        modality: What is measured; one that is not of this package has none.
        device: Where networks of metrics run.

    Returns:
        Those that work here, and a line for each that does not.
    """
    if modality not in catalogue.METRICS:
        return Availability((), ())
    found = catalogue.default_metrics(modality)
    metrics = tuple(catalogue.on_device(metric, device) for metric in found.metrics)
    return Availability(metrics, found.left_out)
