"""Schemes x channels x items x SNR x rho x seeds: every point once, on paired noise, resumable."""

import hashlib
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby, product
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor

from channels import Channel, NamedStreams, SnrDb, Streams
from channels.errors import ChannelError
from semcom.budget import Budget, parse_rho
from semcom.data import Item
from semcom.engine import check_workers, process
from semcom.errors import FaultyMetric, InvalidOption, SemcomError, StoreError, SweepError
from semcom.metrics.metric import Metric, column_of, measure
from semcom.provenance import canonical, environment, fingerprint
from semcom.results import Key, Record, ResultStore
from semcom.scheme import CallsNetwork, Scheme
from semcom.transmission import Csit, Observation, Sent, Transmission

MAX_SEED = 2**63 - 1  # what a column of integers holds
MAX_NAME_BYTES = 254  # file systems hold 255, and a picture being written is called .part

Rho = float | str
"""Bandwidth ratio, as a number or a text like "1/48"."""

_Named = Scheme | Channel | Metric

Progress = Callable[[int, int], None]
"""Called with the records done and the records planned, first with none done."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """What is compared, where and how.

    Args:
        schemes: Of different names.
        channels: Of different names.
        items: Of different ids.
        snr_db: Average received Es/N0, each finite.
        rho: Bandwidth ratios allowed.
        metrics: Of different names; one is left out for an item smaller than it is defined for.
        seeds: Of noise and fading; every item is sent once per seed.

    Raises:
        InvalidOption: Something is empty or twice in it, a seed is out of range, an item is too small for a
            rho, or two rho give it the same number of channel uses.
    """

    schemes: tuple[Scheme, ...]
    channels: tuple[Channel, ...]
    items: tuple[Item, ...]
    snr_db: tuple[float, ...]
    rho: tuple[Rho, ...]
    metrics: tuple[Metric, ...]
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        _check_distinct("scheme", [scheme.name for scheme in self.schemes])
        _check_distinct("channel", [channel.name for channel in self.channels])
        _check_distinct("item", [item.id for item in self.items])
        _check_distinct("SNR", self.snr_db)
        _check_distinct("rho", self.rho)
        _check_distinct("metric", [metric.name for metric in self.metrics])
        _check_distinct("seed", self.seeds)
        for snr_db in self.snr_db:
            if not math.isfinite(snr_db):
                raise InvalidOption(f"SNR of {snr_db} dB; give finite ones")
        for seed in self.seeds:
            if not 0 <= seed <= MAX_SEED:
                raise InvalidOption(f"seed of {seed}; choose 0..{MAX_SEED}")
        for item in self.items:
            first: dict[Budget, Rho] = {}
            for rho in self.rho:
                budget = _budget(item, rho)
                if budget in first:
                    raise InvalidOption(
                        f"rho {first[budget]} and {rho} both give {item.id} {budget.channel_uses} channel "
                        "uses; leave one of them out"
                    )
                first[budget] = rho


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """One item over all SNRs that are still to do: what is transmitted, and recorded, at once.

    Args:
        scheme: What sends.
        fingerprint: Of the scheme.
        channel: The medium.
        item: What is sent.
        rho: As in the sweep.
        budget: Channel uses that stands for.
        seed: Of noise and fading.
        snr_db: One or more.
        metrics: Those defined for an item of this size.
    """

    scheme: Scheme
    fingerprint: str
    channel: Channel
    item: Item
    rho: float
    budget: Budget
    seed: int
    snr_db: tuple[float, ...]
    metrics: tuple[Metric, ...]

    @property
    def label(self) -> str:
        """For messages."""
        uses = self.budget.channel_uses
        where = f"{self.channel.name}, rho {self.rho:.5g} ({uses} channel uses), seed {self.seed}"
        return f"{self.scheme.name} on {self.item.id}, {where}"

    def key(self, snr_db: float) -> Key:
        """That of the record at this SNR."""
        uses = self.budget.channel_uses
        return (self.fingerprint, self.channel.name, self.item.id, uses, snr_db, self.seed)


@dataclass(frozen=True, eq=False, slots=True)
class Job:
    """Batches of one item, in an order in which encodings are shared."""

    batches: tuple[Batch, ...]

    def label(self, results: int) -> str:
        """The batch that is being worked on when so many are done."""
        return self.batches[min(results, len(self.batches) - 1)].label


def noise_streams(item_id: str, seed: int, batch: int = 1) -> NamedStreams:
    """The noise that an item meets: common to all schemes, channels, rho and SNRs, `batch` times the same."""
    return NamedStreams(0, (f"{item_id}/seed={seed}",) * batch)


def kept_path(folder: Path, scheme: str, key: Key) -> Path:
    """Where `run(..., keep=folder)` puts the picture of a record of this scheme and key."""
    fingerprint, channel, item, uses, snr_db, seed = key
    name = file_name(item, f"_{channel}_k={uses}_snr={snr_db:.10g}dB_seed={seed}.png")
    return folder / f"{scheme}-{fingerprint}".replace("/", "-") / name


def file_name(item: str, ending: str) -> str:
    """Both as the name of a file; where that is too long, the end of the item gives way to its digest."""
    name = f"{item}{ending}"
    if len(name.encode()) > MAX_NAME_BYTES:
        ending = f"-{hashlib.blake2b(item.encode(), digest_size=8).hexdigest()}{ending}"
        room = max(MAX_NAME_BYTES - len(ending.encode()), 0)
        name = item.encode()[:room].decode(errors="ignore") + ending
    return name.replace("/", "-")


def plan(sweep: Sweep, store: ResultStore, keep: Path | None = None) -> tuple[Batch, ...]:
    """What the store does not hold yet: items outermost, then scheme, channel, rho, seed.

    A record that lacks one of the metrics, or whose picture is to be kept and is not there, is done again.

    Raises:
        InvalidOption: A record of as many channel uses is held of another rho, or a channel or a metric is
            not that of its name in the store.
    """
    _check_unchanged("channel", sweep.channels, store.channels())
    _check_unchanged("metric", sweep.metrics, store.metrics())
    prints = {scheme.name: fingerprint(scheme) for scheme in sweep.schemes}
    held = store.held(prints.values())

    def missing(batch: Batch, snr_db: float) -> bool:
        key = batch.key(snr_db)
        if key not in held:
            return True
        if not math.isclose(held[key].rho, batch.rho):
            other = parse_rho(held[key].rho)
            raise InvalidOption(
                f"{batch.label}: records of rho {other} are held with as many channel uses; "
                f"use another folder, or rho {other}"
            )
        if not held[key].numbers.keys() >= {metric.name for metric in batch.metrics}:
            return True
        return keep is not None and not kept_path(keep, batch.scheme.name, key).is_file()

    batches: list[Batch] = []
    for item in sweep.items:
        metrics = tuple(metric for metric in sweep.metrics if metric.fits(tuple(item.x.shape)))
        for scheme, channel, rho, seed in product(sweep.schemes, sweep.channels, sweep.rho, sweep.seeds):
            ratio, budget = float(parse_rho(rho)), _budget(item, rho)
            key = (scheme, prints[scheme.name], channel, item, ratio, budget, seed)
            batch = Batch(*key, snr_db=(), metrics=metrics)
            todo = tuple(snr for snr in map(float, sweep.snr_db) if missing(batch, snr))
            if todo:
                batches.append(replace(batch, snr_db=todo))
    return tuple(batches)


def run(
    sweep: Sweep,
    store: ResultStore,
    workers: int = 1,
    progress: Progress | None = None,
    keep: Path | None = None,
) -> Iterator[Record]:
    """Do what the store does not hold yet, and yield every record once it is stored.

    Each item is encoded once per scheme, channel and rho, and delivered over all SNRs as one batch. Records
    do not depend on the number of workers, the order, or what was there before. A call that has nothing to do
    is not in the run log, unless it brings an earlier definition of a scheme back. Stopping in any way, an
    interrupt or `kill -9` included, loses at most the batches under way: the same call resumes.

    Args:
        sweep: What to do.
        store: Open for writing.
        workers: Local processes.
        progress: Told after every batch.
        keep: Folder for the received pictures as PNG; see `kept_path`.

    Raises:
        FaultyMetric: A metric returned NaN, infinity or no number.
        SweepError: A scheme raised something untyped, or a worker died.
        InvalidOption: Fewer than one worker, or far too many.
        SemcomError: Whatever else a scheme raised, with the batch named in front.
        StoreError: The store cannot be written.
    """
    check_workers(workers)  # before the run log says that there was a run
    batches = plan(sweep, store, keep)
    schemes, channels, metrics = map(_definitions, (sweep.schemes, sweep.channels, sweep.metrics))
    held = store.schemes()
    changed = any(name not in held or held[name]["fingerprint"] != schemes[name][0] for name in schemes)
    if batches or changed:
        store.begin(environment(), schemes, channels, metrics, map(column_of, sweep.metrics))
    done, total = 0, sum(len(batch.snr_db) for batch in batches)
    if progress is not None:
        progress(done, total)
    for records in process(_jobs(batches, workers), partial(_work, keep=keep), workers):
        store.write(records)
        done += len(records)
        if progress is not None:
            progress(done, total)
        yield from records


@contextmanager
def progress_bar(label: str = "sweep") -> Iterator[Progress]:
    """A bar on standard error with the time left, as the `progress` of `run`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@dataclass(frozen=True)
class _PreparedOnce:
    """Prepares once per SNR that the transmitter knows; for one item, channel and budget."""

    transmission: Transmission
    done: dict[float | None, tuple[Sent, float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.transmission.name

    @property
    def csit(self) -> Csit:
        return self.transmission.csit

    def prepare(self, x: Tensor, budget: Budget, channel: Channel, csit_snr_db: float | None) -> Sent:
        if csit_snr_db not in self.done:
            start = time.perf_counter()
            sent = self.transmission.prepare(x, budget, channel, csit_snr_db)
            self.done[csit_snr_db] = sent, time.perf_counter() - start
        return self.done[csit_snr_db][0]

    def deliver(self, sent: Sent, channel: Channel, snr_db: SnrDb, rng: Streams) -> Observation:
        return self.transmission.deliver(sent, channel, snr_db, rng)

    def seconds(self, snr_db: float) -> float:
        """What the preparation for this SNR took."""
        return self.done[None if None in self.done else float(np.float32(snr_db))][1]

    def total_seconds(self) -> float:
        return math.fsum(seconds for _, seconds in self.done.values())


def _jobs(batches: Sequence[Batch], workers: int) -> tuple[Job, ...]:
    """By item, so that codecs meet an image once; by item and scheme where that leaves workers idle."""
    by_item = [Job(tuple(group)) for _, group in groupby(batches, lambda b: b.item.id)]
    if workers == 1 or len(by_item) >= 2 * workers:
        return tuple(by_item)
    return tuple(Job(tuple(group)) for _, group in groupby(batches, lambda b: (b.item.id, b.scheme.name)))


_Measured = dict[bytes, dict[str, float]]
"""Metrics of one item by the digest of what was received: digital schemes deliver few different pictures."""


def _work(job: Job, keep: Path | None) -> Iterator[tuple[Record, ...]]:
    known: _Measured = {}
    for _, group in groupby(job.batches, lambda b: (b.scheme.name, b.channel.name, b.budget)):
        batches = tuple(group)
        prepared = _PreparedOnce(batches[0].scheme.transmission)
        for batch in batches:
            with _named(batch):
                yield _transmit(batch, prepared, known, keep)


def _transmit(
    batch: Batch, prepared: _PreparedOnce, known: _Measured, keep: Path | None
) -> tuple[Record, ...]:
    size = len(batch.snr_db)
    before = prepared.total_seconds()
    start = time.perf_counter()
    outcome = replace(batch.scheme, transmission=prepared).transmit(
        batch.item.x,
        batch.budget,
        batch.channel,
        torch.tensor(batch.snr_db),
        noise_streams(batch.item.id, batch.seed, size),
    )
    delivering = time.perf_counter() - start - (prepared.total_seconds() - before)
    metrics = _measure(batch, outcome.x_hat.detach(), known)
    info = {name: values.tolist() for name, values in outcome.info.items()}
    if isinstance(batch.scheme.receiver, CallsNetwork):
        info["peak_memory_mb"] = [peak_memory_mb()] * size
    outage = info.pop("outage")
    if clash := metrics[0].keys() & info.keys():
        raise InvalidOption(f"metric and info are both called {min(clash)}; rename one")
    records = tuple(
        Record(
            scheme=batch.scheme.name,
            fingerprint=batch.fingerprint,
            channel=batch.channel.name,
            item=batch.item.id,
            seed=batch.seed,
            snr_db=snr_db,
            rho=batch.rho,
            budget_uses=batch.budget.channel_uses,
            channel_uses=int(outcome.channel_uses[i]),
            rho_used=int(outcome.channel_uses[i]) / batch.budget.source_dims,
            source_dims=batch.budget.source_dims,
            outage=int(outage[i]),
            energy=float(outcome.energy[i]),
            seconds_prepare=prepared.seconds(snr_db),
            seconds_deliver=delivering / size,
            cause=outcome.causes[i],
            numbers=metrics[i] | {k: v[i] for k, v in info.items() if not math.isnan(v[i])},
        )
        for i, snr_db in enumerate(batch.snr_db)
    )
    if keep is not None:
        for record, image in zip(records, outcome.x_hat, strict=True):
            _keep(image, kept_path(keep, record.scheme, record.key))
    return records


def peak_memory_mb() -> float:
    """Of this process so far: on the GPU if it is in use, else resident, in MB of 2^20 bytes."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes, on macOS bytes
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


@torch.no_grad()
def _measure(batch: Batch, x_hat: Tensor, known: _Measured) -> list[dict[str, float]]:
    """All metrics of every picture, each picture by itself."""
    values: list[dict[str, float]] = []
    for snr_db, image in zip(batch.snr_db, x_hat[:, None], strict=True):
        digest = hashlib.blake2b(image.contiguous().cpu().numpy().data, digest_size=16).digest()
        if digest not in known:
            try:
                known[digest] = {m.name: measure(m, image, batch.item.x) for m in batch.metrics}
            except FaultyMetric as error:
                raise FaultyMetric(f"at {snr_db:g} dB, {error}") from None
        values.append(known[digest])
    return values


def _keep(image: Tensor, path: Path) -> None:
    pixels = (image.detach() * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        PillowImage.fromarray(pixels).save(part, format="PNG")
        os.replace(part, path)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}); free space or keep elsewhere"
        ) from None


@contextmanager
def _named(batch: Batch) -> Iterator[None]:
    """Put the batch in front of what goes wrong in it."""
    try:
        yield
    except (SemcomError, ChannelError) as error:
        raise type(error)(f"{batch.label}: {error}") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise SweepError(f"{batch.label}: {reason}") from error


def _budget(item: Item, rho: Rho) -> Budget:
    try:
        return Budget.from_rho(rho, item.x[0].numel())
    except InvalidOption as error:
        raise InvalidOption(f"{item.id} at rho {rho}: {error}") from None


def _definitions(things: Sequence[_Named]) -> dict[str, tuple[str, str]]:
    """Fingerprint and canonical text by name; without a canonical form the name stands for itself."""
    definitions: dict[str, tuple[str, str]] = {}
    for thing in things:
        with suppress(InvalidOption):
            definitions[thing.name] = fingerprint(thing), canonical(thing)
    return definitions


def _check_unchanged(what: str, things: Sequence[_Named], held: Mapping[str, Mapping[str, str]]) -> None:
    """Records name channels and metrics, so a name must go on standing for the same."""
    for name, (print_, _) in _definitions(things).items():
        if name in held and held[name]["fingerprint"] != print_:
            raise InvalidOption(
                f"{what} {name} is not the one of that name that the records were made with; "
                "give it another name, or use another folder"
            )


def _check_distinct(what: str, values: Sequence[object]) -> None:
    if not values:
        raise InvalidOption(f"a sweep without a {what}; give at least one")
    for value in values:
        if values.count(value) > 1:
            raise InvalidOption(f"{what} {value!s} is twice in the sweep; name it once")
