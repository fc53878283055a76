"""Metrics of received items against their originals (images, clips, texts), and of sets of items.

Each metric is a class with name, unit and direction, which evaluates a function of the same module.
"""

from semcom.metrics.catalogue import (
    Availability,
    available_metrics,
    default_metrics,
    metric_named,
    metrics_of,
    on_device,
)
from semcom.metrics.clip import PerFrame
from semcom.metrics.clip_features import ClipFeatureDistance
from semcom.metrics.colour_video_vdp import ColorVideoVDP
from semcom.metrics.distortion import MSSSIM, PSNR, SSIM, ms_ssim, psnr_db, ssim
from semcom.metrics.flat import GridPeriodicity, colour_drift, grid_periodicity
from semcom.metrics.frechet_video import FVD
from semcom.metrics.metric import BatchMetric, Metric, SetMetric, column_of, measure
from semcom.metrics.perceptual import (
    LPIPS,
    SetSlicedWasserstein,
    SlicedWasserstein,
    lpips,
    sliced_wasserstein,
)
from semcom.metrics.realism import FID, KID
from semcom.metrics.similarity import ChrF, MiniLMCosine, chrf, embedding_cosine
from semcom.metrics.text import BLEU, CharacterErrorRate, WordErrorRate, bleu, cer, wer
from semcom.metrics.vmaf import VMAF, ClipVMAF
from semcom.metrics.warp import WarpError, WarpErrorGap, warp_errors

__all__ = [
    "BLEU",
    "FID",
    "FVD",
    "KID",
    "LPIPS",
    "MSSSIM",
    "PSNR",
    "SSIM",
    "VMAF",
    "Availability",
    "BatchMetric",
    "CharacterErrorRate",
    "ChrF",
    "ClipFeatureDistance",
    "ClipVMAF",
    "ColorVideoVDP",
    "GridPeriodicity",
    "Metric",
    "MiniLMCosine",
    "PerFrame",
    "SetMetric",
    "SetSlicedWasserstein",
    "SlicedWasserstein",
    "WarpError",
    "WarpErrorGap",
    "WordErrorRate",
    "available_metrics",
    "bleu",
    "cer",
    "chrf",
    "colour_drift",
    "column_of",
    "default_metrics",
    "embedding_cosine",
    "grid_periodicity",
    "lpips",
    "measure",
    "metric_named",
    "metrics_of",
    "ms_ssim",
    "on_device",
    "psnr_db",
    "sliced_wasserstein",
    "ssim",
    "warp_errors",
    "wer",
]
