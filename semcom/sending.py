"""Library call that sends one item once, for the command line, web pages and notebooks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from channels import Channel
from semcom import names
from semcom.data import load
from semcom.metrics import Metric
from semcom.modalities import MODALITIES, Item, Modality
from semcom.provenance import fingerprint
from semcom.results import Record
from semcom.scheme import Outcome, Preparations, Scheme
from semcom.surroundings import library_defaults, one_thread
from semcom.sweep import Batch, Rho, budget_of, check_once, check_point, named_batch, send_batch

X = TypeVar("X")

DEFAULT_RHO = {"image": "1/12", "video": "1/12", "text": "20"}
"""Default channel uses per source value by modality (per word for a text)."""


@dataclass(frozen=True, eq=False)
class Sending(Generic[X]):
    """Result of sending one item once.

    Args:
        item: The item that was sent.
        outcome: The item shown, and the channel uses and energy spent.
        metrics: Values of the metrics, by column name.
        record: All results as one flat row.
    """

    item: Item[X]
    outcome: Outcome[X]
    metrics: Mapping[str, float]
    record: Record


def send(
    source: Path | str | Item[X],
    scheme: str | Scheme[X] | None = None,
    channel: str | Channel = "awgn",
    snr_db: float = 10.0,
    rho: Rho | None = None,
    seed: int = 0,
    metrics: Sequence[str | Metric[X]] | None = None,
    modalities: Sequence[Modality[Any]] = MODALITIES,
    device: str = "cpu",
) -> Sending[X]:
    """Send one item over a noisy channel once, and measure what arrives.

    Args:
        source: A file (picture, clip or text), or an item.
        scheme: Name of a scheme, or a scheme; by default a digital one of the item's modality.
        channel: Name of a channel, or a channel.
        snr_db: Average received Es/N0 in dB.
        rho: Channel uses per source value (per word of a text), above 0; by default 1/12 for pictures and
            clips, 20 for texts.
        seed: Seed of noise and fading.
        metrics: Names of metrics, or metrics; by default those of `semcom.names.default_metrics`.
        modalities: Modalities to choose from by the ending and content of a file.
        device: Device of networks, "cpu" or "cuda"; schemes and metrics given as objects stay on their
            device.

    Returns:
        The item, its reconstruction, the metrics and the record. A lost item raises no error: its outcome has
        `outage=True` and shows the placeholder of its modality, for a picture the mean colour.

    Raises:
        SemcomError: An unreadable file, an unknown name, a number out of range, or a defect of a scheme; one
            line that names value, limit and cure.

    Example:
        >>> from semcom import sample_photos, send
        >>> sending = send(sample_photos((96, 64))[0], "softcast", "rayleigh:64", snr_db=10.0, rho="1/4")
        >>> sending.outcome.outage, sending.record.channel_uses
        (False, 4608)
    """
    item: Item[Any] = source if isinstance(source, Item) else load(source, modalities)
    kind = item.modality.name
    if scheme is None:
        scheme = names.DEFAULT_SCHEMES.get(kind, "")
    chosen = names.scheme(scheme, item.modality, device) if isinstance(scheme, str) else scheme
    medium = names.channel(channel) if isinstance(channel, str) else channel
    if metrics is None:
        metrics = names.default_metrics(kind, device).metrics
    measures = [names.metric(m, kind, device) if isinstance(m, str) else m for m in metrics]
    check_once("metric", [metric.name for metric in measures])
    check_point((snr_db,), (seed,))
    shape = item.modality.shape(item.x)
    ratio, budget = budget_of(item, DEFAULT_RHO.get(kind, "1/12") if rho is None else rho)
    batch = Batch(
        chosen.name,
        fingerprint(chosen),
        medium,
        item.id,
        item.modality,
        ratio,
        budget,
        seed,
        (float(snr_db),),
        tuple(metric for metric in measures if metric.fits(shape)),
    )
    with named_batch(batch), library_defaults(), one_thread():
        ((outcome, record),) = send_batch(batch, chosen, item, Preparations(), {})
    measured = {metric.name: record.numbers[metric.name] for metric in batch.metrics}
    return Sending(item, outcome, measured, record)
