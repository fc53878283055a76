"""Figures of merit: distortion and perception of one item, realism of a set."""

from semcom.metrics.catalogue import Availability, available_metrics, metric_named, unavailable_set_metrics
from semcom.metrics.distortion import MSSSIM, PSNR, SSIM
from semcom.metrics.metric import Metric, SetMetric
from semcom.metrics.perceptual import LPIPS, SetSlicedWasserstein, SlicedWasserstein
from semcom.metrics.realism import FID, KID

__all__ = [
    "FID",
    "KID",
    "LPIPS",
    "MSSSIM",
    "PSNR",
    "SSIM",
    "Availability",
    "Metric",
    "SetMetric",
    "SetSlicedWasserstein",
    "SlicedWasserstein",
    "available_metrics",
    "metric_named",
    "unavailable_set_metrics",
]
