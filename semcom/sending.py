"""One item sent once, as a library call: what the command line, a web page or a notebook does."""

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
from semcom.sweep import Batch, Rho, budget_of, check_once, check_point, named_batch, send_batch

X = TypeVar("X")

DEFAULT_RHO = {"image": "1/12", "video": "1/12", "text": "20"}
"""Channel uses per source value (per word of a text) if none are given, by modality."""


@dataclass(frozen=True, eq=False)
class Sending(Generic[X]):
    """One item sent once.

    Args:
        item: What was sent.
        outcome: What is shown, and what crossed the channel.
        metrics: Figures of merit by column name.
        record: Everything as one flat row.
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
        source: A file (picture, clip, text), or an item.
        scheme: Name of a scheme, or a scheme; a digital one of the item's modality unless given.
        channel: Name of a channel, or a channel.
        snr_db: Average received Es/N0 in dB.
        rho: Channel uses per source value, per word of a text; 1/12 or 20 unless given.
        seed: Seed of noise and fading.
        metrics: Names of metrics, or metrics; those of `semcom.names.default_metrics` unless given.
        modalities: Those to choose from by the ending and content of a file.
        device: Where networks run, "cpu" or "cuda"; schemes and metrics that are given as objects run where
            they are.

    Returns:
        The item, what is shown of it, figures of merit, and the record. A lost item is no error: its outcome
        says outage, and the modality's cover is shown.

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
    with named_batch(batch):
        ((outcome, record),) = send_batch(batch, chosen, item, Preparations(), {})
    measured = {metric.name: record.numbers[metric.name] for metric in batch.metrics}
    return Sending(item, outcome, measured, record)
