"""Sweeps over schemes, channels, items, SNRs, bandwidth ratios and seeds, on paired noise; resumable."""

import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, product
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from channels import Channel, NamedStreams
from channels.errors import ChannelError
from semcom.budget import Budget, parse_rho
from semcom.data import Item
from semcom.engine import Engine, InProcess, Things
from semcom.errors import (
    FaultyMetric,
    FaultyTransmission,
    InsufficientMemory,
    InvalidOption,
    SemcomError,
    StoreError,
    SweepError,
)
from semcom.forecast import Forecast
from semcom.kinds import Kind, kind_of
from semcom.metrics.metric import Metric, column_of, measure
from semcom.modalities import Modality
from semcom.process_memory import is_out_of_memory, peak_bytes
from semcom.provenance import canonical, environment, fingerprint, package_version
from semcom.results import Key, Record, ResultStore
from semcom.scheme import CallsNetwork, Outcome, Preparations, Scheme
from semcom.surroundings import library_defaults, one_thread

MAX_SEED = 2**63 - 1  # what a column of integers holds
MAX_NAME_BYTES = 250  # file systems hold 255

Rho = float | str
"""Bandwidth ratio in channel uses per source dimension: a number, or a string such as "1/48"."""

_Named = Scheme[Any] | Channel | Metric


@runtime_checkable
class Progress(Protocol):
    """Callback that is told how far a sweep has got, first with 0 finished records."""

    def __call__(self, done: int, total: int, seconds_left: float | None = None, /) -> None:
        """Show how many of the planned records are finished, and the time left.

        Args:
            done: Number of finished records.
            total: Number of planned records.
            seconds_left: Forecast of the remaining time in seconds; None while it is unknown.
        """
        ...


@dataclass(frozen=True, eq=False)
class Sweep:
    """Full factorial design of an experiment: every item is sent by every scheme at every operating point.

    Args:
        schemes: Schemes with distinct names.
        channels: Channels with distinct names.
        items: Items with distinct ids, all of the modality that the schemes send.
        snr_db: Average received Es/N0 in dB, finite.
        rho: Allowed bandwidth ratios in channel uses per source dimension.
        metrics: Metrics with distinct names; a metric is skipped for items whose shape it cannot measure.
        seeds: Seeds of noise and fading; every item is sent once per seed.

    Raises:
        InvalidOption: A list is empty or has duplicates, a seed is out of range, an item is too small for a
            rho, two rho give an item the same number of channel uses, or a scheme sends another modality.
    """

    schemes: tuple[Scheme[Any], ...]
    channels: tuple[Channel, ...]
    items: tuple[Item[Any], ...]
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
        check_point(self.snr_db, self.seeds)
        for item, scheme in product(self.items, self.schemes):
            if scheme.modality.name != item.modality.name:
                raise InvalidOption(
                    f"{scheme.name} sends {scheme.modality.name} items, and {item.id} is a "
                    f"{item.modality.name}; sweep items of one modality with schemes for it"
                )
        for item in self.items:
            first: dict[Budget, Rho] = {}
            for rho in self.rho:
                _, budget = budget_of(item, rho)
                if budget in first:
                    raise InvalidOption(
                        f"rho {first[budget]} and {rho} both give {item.id} {budget.channel_uses} channel "
                        "uses; leave one of them out"
                    )
                first[budget] = rho


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """One item at all SNRs that remain to be simulated; transmitted as one batch.

    Args:
        scheme: Name of the scheme.
        fingerprint: Fingerprint of the scheme.
        channel: The channel.
        item: Id of the item.
        modality: Modality of the item.
        rho: Allowed bandwidth ratio in channel uses per source dimension.
        budget: Allowed channel uses and source dimensions, which follow from `rho`.
        seed: Seed of noise and fading.
        snr_db: Average received Es/N0 in dB, at least one value.
        metrics: Metrics that can measure the item.
    """

    scheme: str
    fingerprint: str
    channel: Channel
    item: str
    modality: Modality[Any]
    rho: float
    budget: Budget
    seed: int
    snr_db: tuple[float, ...]
    metrics: tuple[Metric, ...]

    @property
    def label(self) -> str:
        """Description of the batch in one line, for messages."""
        uses = self.budget.channel_uses
        where = f"{self.channel.name}, rho {self.rho:.5g} ({uses} channel uses), seed {self.seed}"
        return f"{self.scheme} on {self.item}, {where}"

    def key(self, snr_db: float) -> Key:
        """Key of the record at one SNR.

        Args:
            snr_db: One of the batch's SNRs, in dB.

        Returns:
            The key.
        """
        uses = self.budget.channel_uses
        return (self.fingerprint, self.channel.name, self.item, uses, snr_db, self.seed)


@dataclass(frozen=True, eq=False, slots=True)
class Job:
    """Batches of one item, ordered such that encodings can be shared.

    Args:
        batches: At least one batch, all of the same item.
    """

    batches: tuple[Batch, ...]

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the schemes and of the item that the job sends."""
        return (*dict.fromkeys(_scheme_key(b.fingerprint) for b in self.batches), *self.passing)

    @property
    def passing(self) -> tuple[str, ...]:
        """Key of the item, which a worker discards when its next job sends another one."""
        return (_item_key(self.batches[0].item),)

    def label(self, results: int) -> str:
        """Describe the batch in progress.

        Args:
            results: Number of batches that are finished.

        Returns:
            One line.
        """
        return self.batches[min(results, len(self.batches) - 1)].label


def _scheme_key(fingerprint: str) -> str:
    return f"scheme {fingerprint}"


def _item_key(item: str) -> str:
    return f"item {item}"


def noise_streams(item_id: str, seed: int, batch: int = 1) -> NamedStreams:
    """Random streams of noise and fading for an item and a seed.

    They do not depend on scheme, channel, rho or SNR, so schemes are compared on the same noise.

    Args:
        item_id: Id of the item.
        seed: Seed of noise and fading.
        batch: Number of identical streams, one per SNR of a batch.

    Returns:
        The streams.
    """
    return NamedStreams(0, (f"{item_id}/seed={seed}",) * batch)


def kept_path(folder: Path, scheme: str, key: Key, suffix: str = ".png") -> Path:
    """Path at which `run(..., keep=folder)` writes the received item of a record.

    Args:
        folder: Folder of the kept items.
        scheme: Name of the scheme.
        key: Key of the record.
        suffix: Extension of kept files, `Modality.saved_suffix`.

    Returns:
        The path.
    """
    fingerprint, channel, item, uses, snr_db, seed = key
    name = file_name(item, f"_{channel}_k={uses}_snr={snr_db:.10g}dB_seed={seed}{suffix}")
    return folder / f"{scheme}-{fingerprint}".replace("/", "-") / name


def file_name(item: str, ending: str) -> str:
    """Compose a file name from an item id and an ending, shortened by a digest of the id if it is too long.

    Args:
        item: Id of the item.
        ending: End of the name, with the extension; it is kept.

    Returns:
        File name without slashes.
    """
    name = f"{item}{ending}"
    if len(name.encode()) > MAX_NAME_BYTES:
        ending = f"-{hashlib.blake2b(item.encode(), digest_size=8).hexdigest()}{ending}"
        room = max(MAX_NAME_BYTES - len(ending.encode()), 0)
        name = item.encode()[:room].decode(errors="ignore") + ending
    return name.replace("/", "-")


def plan(sweep: Sweep, store: ResultStore, keep: Path | None = None) -> tuple[Batch, ...]:
    """Determine which records of a sweep the store does not hold yet.

    A record that lacks one of the metrics is simulated again, and so is a record whose received item is to be
    kept but is not there.

    Args:
        sweep: The sweep.
        store: Store with earlier records.
        keep: Folder for received items, or None.

    Returns:
        Batches to be simulated, sorted by item, scheme, channel, rho and seed.

    Raises:
        InvalidOption: The store holds a record with as many channel uses but another rho, or a channel or
            metric of the same name has another definition in the store.
    """
    made_with = (store.runs() or [{}])[-1].get("semcom", "an earlier version")
    _check_unchanged("channel", sweep.channels, store.channels(), made_with)
    _check_unchanged("metric", sweep.metrics, store.metrics(), made_with)
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
        suffix = batch.modality.saved_suffix
        return keep is not None and not kept_path(keep, batch.scheme, key, suffix).is_file()

    batches: list[Batch] = []
    for item in sweep.items:
        shape = item.modality.shape(item.x)
        metrics = tuple(metric for metric in sweep.metrics if metric.fits(shape))
        for scheme, channel, rho, seed in product(sweep.schemes, sweep.channels, sweep.rho, sweep.seeds):
            ratio, budget = budget_of(item, rho)
            point = (scheme.name, prints[scheme.name], channel, item.id, item.modality, ratio, budget, seed)
            batch = Batch(*point, snr_db=(), metrics=metrics)
            todo = tuple(snr for snr in map(float, sweep.snr_db) if missing(batch, snr))
            if todo:
                batches.append(replace(batch, snr_db=todo))
    return tuple(batches)


def run(
    sweep: Sweep,
    store: ResultStore,
    engine: Engine | None = None,
    progress: Progress | None = None,
    keep: Path | None = None,
) -> Iterator[Record]:
    """Run a sweep: simulate what the store does not hold yet, and yield every record after it is stored.

    Each item is encoded once per scheme, channel and rho, and transmitted at all SNRs as one batch. Records
    do not depend on the number of workers or of threads, on the order, on earlier records, or on settings of
    torch and numpy (see `semcom.surroundings`): every job computes by one thread. After an interruption, even
    by `kill -9`, at most the batches in progress are lost, and the same call resumes. A call that has nothing
    to simulate is not logged as a run, unless it restores an earlier definition of a scheme.

    Args:
        sweep: The sweep.
        store: Store opened for writing.
        engine: Engine that runs the jobs; None for this process.
        progress: Callback after every batch.
        keep: Folder for received items, see `kept_path`; None to discard them.

    Yields:
        New records as they are finished.

    Raises:
        FaultyMetric: A metric returned NaN, infinity or something other than one number.
        FaultyTransmission: A scheme reports a number that is not finite.
        SweepError: A scheme raised an untyped exception, or a worker died.
        SemcomError: A scheme raised this typed error; the message starts with the batch.
        StoreError: The store cannot be written.
    """
    engine = engine or InProcess()
    batches = plan(sweep, store, keep)
    schemes, channels, metrics = map(_definitions, (sweep.schemes, sweep.channels, sweep.metrics))
    held = store.schemes()
    changed = any(name not in held or held[name]["fingerprint"] != schemes[name][0] for name in schemes)
    if batches or changed:
        store.begin(environment(), schemes, channels, metrics, map(column_of, sweep.metrics))
    done, total = 0, sum(len(batch.snr_db) for batch in batches)
    if progress is not None:
        progress(done, total)
    things = {_scheme_key(schemes[scheme.name][0]): scheme for scheme in sweep.schemes}
    things |= {_item_key(item.id): item for item in sweep.items}
    forecast = Forecast(map(_amount, batches), engine.workers)
    for batch, records, seconds in engine.map(
        _jobs(batches, engine.workers), partial(_work, keep=keep), things
    ):
        store.write(records)
        done += len(records)
        forecast.finished(*batch, seconds, now=time.monotonic())
        if progress is not None:
            progress(done, total, forecast.seconds_left(time.monotonic()))
        yield from records


def _jobs(batches: Sequence[Batch], workers: int) -> tuple[Job, ...]:
    """Group batches by item, so that codecs encode it once; by item and scheme if workers would be idle."""
    by_item = [Job(tuple(group)) for _, group in groupby(batches, lambda b: b.item)]
    if workers == 1 or len(by_item) >= 2 * workers:
        return tuple(by_item)
    return tuple(Job(tuple(group)) for _, group in groupby(batches, lambda b: (b.item, b.scheme)))


Measured = dict[str, dict[str, float]]
"""Metrics of one item by digest of what is shown; digital schemes show few different reconstructions."""


Workload = tuple[str, str, float]
"""What determines the cost of a batch beside its size: scheme, channel and rho."""


def _amount(batch: Batch) -> tuple[Workload, float]:
    """Workload of a batch, and its size: source values times SNRs."""
    workload = (batch.fingerprint, batch.channel.name, batch.rho)
    return workload, float(batch.budget.source_dims * len(batch.snr_db))


def _work(
    job: Job, things: Things, keep: Path | None
) -> Iterator[tuple[tuple[Workload, float], tuple[Record, ...], float]]:
    """Workload and size, records and seconds of every batch."""
    known: Measured = {}
    item: Item[Any] = things[job.passing[0]]
    for _, group in groupby(job.batches, lambda b: (b.scheme, b.channel.name, b.budget)):
        batches = tuple(group)
        scheme: Scheme[Any] = things[_scheme_key(batches[0].fingerprint)]
        preparations = Preparations()
        for batch in batches:
            start = time.perf_counter()
            with named_batch(batch):
                with library_defaults(), one_thread():  # not while the caller has the records
                    sent = send_batch(batch, scheme, item, preparations, known)
                if keep is not None:
                    for outcome, record in sent:
                        path = kept_path(keep, record.scheme, record.key, item.modality.saved_suffix)
                        _keep(item.modality, outcome.x_hat, path)
                records = tuple(record for _, record in sent)
                yield _amount(batch), records, time.perf_counter() - start


def send_batch(
    batch: Batch,
    scheme: Scheme[Any],
    item: Item[Any],
    preparations: Preparations,
    known: Measured,
) -> list[tuple[Outcome[Any], Record]]:
    """Send an item at all SNRs of a batch, and measure the received items.

    Args:
        batch: The batch.
        scheme: The batch's scheme.
        item: The batch's item.
        preparations: Encodings of this item for this channel and budget; new ones are added.
        known: Metrics of reconstructions of this item; new ones are added.

    Returns:
        Outcome and record for each SNR.

    Raises:
        FaultyMetric: A metric returned NaN, infinity or something other than one number.
        FaultyTransmission: A scheme reports a number that is not finite.
        SemcomError: Any error raised by the scheme.
    """
    before, start = preparations.total_seconds(), time.perf_counter()
    outcomes = scheme.transmit(
        item.x,
        batch.budget,
        batch.channel,
        torch.tensor(batch.snr_db, dtype=torch.float32),
        noise_streams(batch.item, batch.seed, len(batch.snr_db)),
        preparations,
    )
    delivering = time.perf_counter() - start - (preparations.total_seconds() - before)
    sent: list[tuple[Outcome[Any], Record]] = []
    for snr_db, outcome in zip(batch.snr_db, outcomes, strict=True):
        seconds = preparations.seconds(snr_db), delivering / len(outcomes)
        numbers = _numbers(batch, scheme, item, snr_db, outcome, known)
        sent.append((outcome, _record(batch, kind_of(scheme), snr_db, outcome, seconds, numbers)))
    return sent


def _record(
    batch: Batch,
    kind: Kind,
    snr_db: float,
    outcome: Outcome[Any],
    seconds: tuple[float, float],
    numbers: dict[str, float],
) -> Record:
    return Record(
        scheme=batch.scheme,
        fingerprint=batch.fingerprint,
        channel=batch.channel.name,
        item=batch.item,
        seed=batch.seed,
        snr_db=snr_db,
        rho=batch.rho,
        budget_uses=batch.budget.channel_uses,
        channel_uses=outcome.channel_uses,
        rho_used=outcome.channel_uses / batch.budget.source_dims,
        source_dims=batch.budget.source_dims,
        outage=int(outcome.outage),
        energy=outcome.energy,
        seconds_prepare=seconds[0],
        seconds_deliver=seconds[1],
        cause=outcome.cause,
        modality=batch.modality.name,
        family=kind.family,
        csit=kind.csit,
        numbers=numbers,
    )


@torch.no_grad()
def _numbers(
    batch: Batch, scheme: Scheme[Any], item: Item[Any], snr_db: float, outcome: Outcome[Any], known: Measured
) -> dict[str, float]:
    """Metrics of what is shown without marked guesses, and additional values reported by the scheme."""
    x_hat = outcome.x_hat if outcome.arrived is None else outcome.arrived
    digest = _digest(x_hat)
    metrics = known.get(digest)
    if metrics is None:
        try:
            metrics = {m.name: measure(m, x_hat, item.x) for m in batch.metrics}
        except FaultyMetric as error:
            raise FaultyMetric(f"at {snr_db:g} dB, {error}") from None
        if digest:
            known[digest] = metrics
    info = dict(outcome.info)
    if isinstance(scheme.receiver, CallsNetwork):
        info["peak_memory_mb"] = peak_memory_mb()
    if unbounded := [key for key, value in info.items() if not math.isfinite(value)]:
        key = unbounded[0]
        raise FaultyTransmission(
            f"scheme {scheme.name} reports {key} = {info[key]} at {snr_db:g} dB; make it a finite number, or "
            "leave it out of info"
        )
    if clash := metrics.keys() & info.keys():
        raise InvalidOption(f"metric and info are both called {min(clash)}; rename one")
    return metrics | info


def _digest(x: object) -> str:
    """Text that is equal for equal contents; empty for contents without a canonical form."""
    try:
        return canonical(x)
    except InvalidOption:
        return ""


def peak_memory_mb() -> float:
    """Peak memory of this process so far: GPU memory if a GPU is in use, else resident memory.

    Returns:
        Memory in MB of 2^20 bytes.
    """
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    return peak_bytes() / 2**20


def _keep(modality: Modality[Any], x: Any, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        modality.write(x, path)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}); free space or keep elsewhere"
        ) from None


@contextmanager
def named_batch(batch: Batch) -> Iterator[None]:
    """Context manager that prepends the label of a batch to the messages of errors.

    Args:
        batch: Batch that is processed inside the `with` block.

    Yields:
        None.

    Raises:
        SemcomError: The same error as inside the block, prefixed by the label.
        ChannelError: The same error as inside the block, prefixed by the label.
        InsufficientMemory: Memory was refused inside the block.
        SweepError: Any other exception inside the block, prefixed by the label.
    """
    try:
        yield
    except (SemcomError, ChannelError) as error:
        raise type(error)(f"{batch.label}: {error}") from error
    except Exception as error:
        if is_out_of_memory(error):
            raise InsufficientMemory(
                f"{batch.label}: out of memory; crop or scale the item, lower rho, or use fewer workers"
            ) from error
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise SweepError(f"{batch.label}: {reason}") from error


def budget_of(item: Item[Any], rho: Rho) -> tuple[float, Budget]:
    """Budget of channel uses that a bandwidth ratio allows for an item.

    Args:
        item: The item.
        rho: Bandwidth ratio in channel uses per source dimension.

    Returns:
        The ratio as a number, and the budget.

    Raises:
        InvalidOption: The ratio is not a number, out of range, or allows less than one channel use.
    """
    try:
        return float(parse_rho(rho)), Budget.from_rho(rho, item.modality.dims(item.x))
    except InvalidOption as error:
        raise InvalidOption(f"{item.id} at rho {rho}: {error}") from None


def _definitions(things: Sequence[_Named]) -> dict[str, tuple[str, str]]:
    """Fingerprint and canonical text by name; objects without a canonical form are left out."""
    definitions: dict[str, tuple[str, str]] = {}
    for thing in things:
        with suppress(InvalidOption):
            definitions[thing.name] = fingerprint(thing), canonical(thing)
    return definitions


def _check_unchanged(
    what: str, things: Sequence[_Named], held: Mapping[str, Mapping[str, str]], made_with: str
) -> None:
    """Records refer to channels and metrics by name, so a name must keep its definition, code and version."""
    version = package_version()
    for name, (print_, definition) in _definitions(things).items():
        if name not in held or held[name]["fingerprint"] == print_:
            continue
        if held[name]["definition"] == definition:
            raise InvalidOption(
                f"the records were made with semcom {made_with}, and this is {version}, whose {what} {name} "
                "may differ; use another folder, or the earlier version"
            )
        raise InvalidOption(
            f"{what} {name} is not the one of that name that the records were made with, or its code was "
            "edited; give it another name, or use another folder"
        )


def _check_distinct(what: str, values: Sequence[object]) -> None:
    if not values:
        raise InvalidOption(f"a sweep without a {what}; give at least one")
    check_once(what, values)


def check_once(what: str, values: Sequence[object]) -> None:
    """Check that a list has no duplicates.

    Args:
        what: Kind of object, for the message.
        values: Names or numbers.

    Raises:
        InvalidOption: Two values are equal.
    """
    for value in values:
        if values.count(value) > 1:
            raise InvalidOption(f"{what} {value!s} is twice among them; name it once")


def check_point(snr_db: Sequence[float], seeds: Sequence[int]) -> None:
    """Check that SNRs and seeds are within the range of transmissions and records.

    Args:
        snr_db: Average received Es/N0 in dB.
        seeds: Seeds of noise and fading.

    Raises:
        InvalidOption: An SNR is not finite, or a seed is not in 0..2^63 - 1.
    """
    for snr in snr_db:
        if not math.isfinite(snr):
            raise InvalidOption(f"SNR of {snr} dB; give finite ones")
    for seed in seeds:
        if not 0 <= seed <= MAX_SEED:
            raise InvalidOption(f"seed of {seed}; choose 0..{MAX_SEED}")
