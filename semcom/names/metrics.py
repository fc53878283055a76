"""Grammar of metrics: column names ("psnr_db", "lpips_squeeze"), and imported metrics."""

from typing import Any

from semcom.metrics import Availability, Metric, catalogue, metric_named
from semcom.names.parser import IMPORTED, imported

MEMBERS = ("name", "unit", "higher_is_better", "fits", "__call__")


def metric(name: str, modality: str = "image", device: str = "cpu") -> Metric[Any]:
    """Look up a metric by its column name, or import one.

    Args:
        name: Column name, or `package.module:NAME`.
        modality: Modality of the items: "image", "video" or "text".
        device: PyTorch device for the metric's network, if it has one.

    Returns:
        The metric.

    Raises:
        UnknownName: The modality has no such metric.
        MissingWeights: The weights of the metric's network are not on this machine.
        MissingPackage: The metric needs a package that is not installed.
        InvalidOption: The imported object is not a metric, or the device does not exist.
    """
    if IMPORTED.fullmatch(name):
        return imported(name, "metric", MEMBERS)
    return catalogue.on_device(metric_named(name, modality), device)


def default_metrics(modality: str = "image", device: str = "cpu") -> Availability:
    """List the metrics that are computed if the user names none.

    Args:
        modality: Modality of the items; a modality of another package has no default metrics.
        device: PyTorch device for the networks of metrics.

    Returns:
        The default metrics that can be computed, and one line for each that cannot.
    """
    if modality not in catalogue.METRICS:
        return Availability((), ())
    found = catalogue.default_metrics(modality)
    metrics = tuple(catalogue.on_device(metric, device) for metric in found.metrics)
    return Availability(metrics, found.left_out)
