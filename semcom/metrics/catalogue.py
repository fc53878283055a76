"""Which metrics work here, and why the others do not."""

from dataclasses import dataclass

from semcom.checkpoints import require_checkpoint
from semcom.errors import MissingWeights, UnknownName
from semcom.metrics.distortion import MSSSIM, PSNR, SSIM
from semcom.metrics.metric import Metric
from semcom.metrics.perceptual import BACKBONE_FILES, LPIPS, SlicedWasserstein
from semcom.metrics.realism import INCEPTION_FILE

ALL_METRICS: tuple[Metric, ...] = (
    PSNR(),
    SSIM(),
    MSSSIM(),
    SlicedWasserstein(),
    LPIPS("squeeze"),
    LPIPS("alex"),
    LPIPS("vgg"),
)


@dataclass(frozen=True)
class Availability:
    """What can be measured here.

    Args:
        metrics: Metrics that work.
        left_out: One line for each of the others: its name, a colon, and why.
    """

    metrics: tuple[Metric, ...]
    left_out: tuple[str, ...]


def available_metrics(side: int | None = None) -> Availability:
    """Every metric of this package that works here, and one line for every one that does not.

    A metric that does not work has no column in the records: absent, not zero.

    Args:
        side: Shorter side of the smallest image to be measured, in pixels; None if it is large enough for
            all.
    """
    metrics, left_out = [], []
    for metric in ALL_METRICS:
        reason = _obstacle(metric, side)
        if reason is None:
            metrics.append(metric)
        else:
            left_out.append(reason)
    return Availability(tuple(metrics), tuple(left_out))


def unavailable_set_metrics() -> tuple[str, ...]:
    """One line for each of FID and KID if Inception's weights are absent, damaged or another file."""
    try:
        require_checkpoint(INCEPTION_FILE, "fid_inception, kid_inception")
    except MissingWeights as error:
        return (str(error),)
    return ()


def metric_named(name: str) -> Metric:
    """The metric of this column name.

    Raises:
        UnknownName: There is none.
        MissingWeights: It cannot work here.
    """
    for metric in ALL_METRICS:
        if metric.name == name:
            reason = _obstacle(metric, None)
            if reason is not None:
                raise MissingWeights(reason)
            return metric
    raise UnknownName(f"no metric {name!r}; choose from {', '.join(m.name for m in ALL_METRICS)}")


def _obstacle(metric: Metric, side: int | None) -> str | None:
    if side is not None and side < metric.min_side:
        return f"{metric.name}: images of side {side} are below its {metric.min_side}"
    if isinstance(metric, LPIPS):
        try:
            require_checkpoint(BACKBONE_FILES[metric.backbone], metric.name)
        except MissingWeights as error:
            return str(error)
    return None
