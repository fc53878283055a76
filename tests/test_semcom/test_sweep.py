import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from toys import UNCODED, Deadly, MeanSquaredError, Uncoded, picture, pictures

from channels import AWGN, Received, SnrDb, Streams
from channels.awgn import AWGNState
from semcom.columns import Column
from semcom.engine import local_engine
from semcom.errors import (
    BudgetExceeded,
    BudgetTooSmall,
    FaultyMetric,
    FaultyTransmission,
    InvalidOption,
    SemcomError,
    SweepError,
)
from semcom.modalities import VIDEO
from semcom.observation import Observation
from semcom.results import TIMING, Record, ResultStore
from semcom.scheme import Scheme
from semcom.sweep import Sweep, file_name, kept_path, noise_streams, plan, run
from semcom.transmission import ChannelKnowledge, Csit, Sent, nothing_sent

SWEEP = Sweep(
    schemes=(UNCODED, replace(UNCODED, name="again")),
    channels=(AWGN(),),
    items=pictures(3),
    snr_db=(0.0, 10.0, 40.0, 50.0),
    rho=("1/2", 0.6),
    metrics=(MeanSquaredError(),),
    seeds=(0, 1),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.sqlite"


def outcome(record: Record) -> Record:
    return replace(record, **dict.fromkeys(TIMING, 0.0))


def everything(sweep: Sweep, path: Path, workers: int = 1) -> list[Record]:
    with ResultStore(path) as store:
        for _ in run(sweep, store, local_engine(workers)):
            pass
        return [outcome(record) for record in store.records()]


@dataclass(frozen=True)
class Spy:
    """Uncoded transmission that remembers what it was asked."""

    csit: Csit = "none"
    calls: list[float | None] = field(default_factory=list, compare=False)
    extra_uses: int = 0
    gain: float = 1.0
    fault: BaseException | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        return "spy"

    def send(self, x: Tensor, uses: int, known: ChannelKnowledge | None) -> Sent:
        self.calls.append(known and known.snr_db)
        if self.fault is not None and len(self.calls) == 3:
            raise self.fault
        sent = Uncoded().send(x, uses, known)
        extra = torch.zeros(1, self.extra_uses)
        return replace(sent, symbols=torch.cat([sent.symbols * self.gain**0.5, extra], 1))

    def receive(self, received: Received, shape: tuple[int, ...], uses: int) -> list[Observation[Tensor]]:
        return Uncoded().receive(received, shape, uses)


@dataclass(frozen=True)
class Timid:
    """Sends nothing below 5 dB, and what it sends below 20 dB is lost."""

    csit: Csit = "average"
    name: str = "timid"

    def send(self, x: Tensor, uses: int, known: ChannelKnowledge | None) -> Sent:
        assert known is not None
        if known.snr_db < 5:
            return nothing_sent(f"nothing is safe at {known.snr_db:g} dB")
        return Uncoded().send(x, uses, known)

    def receive(self, received: Received, shape: tuple[int, ...], uses: int) -> list[Observation[Tensor]]:
        observations = Uncoded().receive(received, shape, uses)
        lost = (received.noise_var.amax(1) > 0.011).tolist()
        return [Observation(None) if low else seen for low, seen in zip(lost, observations, strict=True)]


@dataclass(frozen=True)
class Mine:
    """White noise, stronger than said."""

    excess_db: float = 1.0
    name: str = "mine"

    def draw(self, uses: int, snr_db: SnrDb, rng: Streams) -> object:
        return AWGN().draw(uses, snr_db - self.excess_db, rng)

    def apply(self, x: Tensor, state: AWGNState) -> Received:
        return AWGN().apply(x, state)

    def overhead(self, uses: int) -> int:
        return 0

    def data_uses(self, total: int) -> int:
        return total


def scheme(transmission: object) -> Scheme:
    return replace(UNCODED, name="spy", transmission=transmission)


# What is recorded


def test_every_point_is_recorded_once(path: Path) -> None:
    records = everything(SWEEP, path)
    assert len(records) == len({record.key for record in records}) == 2 * 3 * 4 * 2 * 2
    one = next(r for r in records if r.rho == 0.6)
    assert (one.budget_uses, one.channel_uses, one.source_dims) == (115, 96, 192)
    assert one.rho_used == 0.5
    assert one.energy <= 96
    assert one.modality == "image"
    assert set(one.numbers) == {"mse", "values"}


def test_rows_that_share_an_encoding_tell_its_time(path: Path) -> None:
    with ResultStore(path) as store:
        records = list(run(SWEEP, store))
    seconds: dict[tuple[str, str, float], set[float]] = {}
    for r in records:
        seconds.setdefault((r.scheme, r.item, r.rho), set()).add(r.seconds_prepare)
    assert len(seconds) == 2 * 3 * 2
    assert {len(times) for times in seconds.values()} == {1}
    assert all(r.seconds_prepare > 0 and r.seconds_deliver > 0 for r in records)


def test_error_is_that_of_the_noise(path: Path) -> None:
    """E mse = N0/4: no pixel is near the range's ends, so nothing is clipped at 40 dB."""
    items = pictures(4, side=32)
    records = everything(replace(SWEEP, items=items, rho=(0.5,), snr_db=(40.0,)), path)
    values = np.array([r.numbers["mse"] for r in records if r.scheme == "uncoded"])
    n0 = 1e-4
    standard_error = n0 / 4 * math.sqrt(2 / (len(values) * 3 * 32 * 32))
    assert abs(values.mean() - n0 / 4) < 5 * standard_error


def test_noise_is_common_to_schemes_rho_and_snr(path: Path) -> None:
    mse = {(r.scheme, r.item, r.rho, r.snr_db, r.seed): r.numbers["mse"] for r in everything(SWEEP, path)}
    for (name, item, rho, snr_db, seed), value in mse.items():
        assert value == mse["uncoded", item, 0.5, snr_db, seed]
        if snr_db == 40:
            assert value == pytest.approx(10 * mse[name, item, rho, 50.0, seed], rel=1e-3)
    one = [
        value for (name, _, rho, snr_db, _), value in mse.items() if (name, rho, snr_db) == ("again", 0.5, 0)
    ]
    assert len(set(one)) == len(one) == 6, "different items and seeds meet different noise"


def test_records_do_not_depend_on_order_or_batch(path: Path, tmp_path: Path) -> None:
    backward = Sweep(
        SWEEP.schemes[::-1],
        SWEEP.channels,
        SWEEP.items[::-1],
        SWEEP.snr_db[::-1],
        SWEEP.rho[::-1],
        SWEEP.metrics,
        SWEEP.seeds[::-1],
    )
    whole = everything(SWEEP, path)
    assert everything(backward, tmp_path / "backward.sqlite") == whole
    for snr_db in SWEEP.snr_db:
        alone = everything(replace(SWEEP, snr_db=(snr_db,)), tmp_path / "alone.sqlite")
    assert alone == whole


def test_records_do_not_depend_on_workers(path: Path, tmp_path: Path) -> None:
    assert everything(SWEEP, path, workers=2) == everything(SWEEP, tmp_path / "one.sqlite")


def test_noise_streams_are_those_of_the_sweep() -> None:
    a = noise_streams("x", 3).normal("noise", (2,))
    assert torch.equal(a, noise_streams("x", 3, 2).normal("noise", (2,))[1:])
    assert not torch.equal(a, noise_streams("x", 4).normal("noise", (2,)))


# What is done, and what is not


def test_item_is_prepared_once_for_all_snrs_and_seeds(path: Path) -> None:
    blind, adaptive = Spy(), Spy(csit="average")
    everything(replace(SWEEP, schemes=(scheme(blind),), items=SWEEP.items[:1]), path)
    assert blind.calls == [None] * 2
    everything(replace(SWEEP, schemes=(scheme(adaptive),), items=SWEEP.items[:1]), path)
    assert adaptive.calls == [0.0, 10.0, 40.0, 50.0] * 2


def test_what_is_held_is_not_done_again(path: Path) -> None:
    everything(replace(SWEEP, snr_db=(0.0, 40.0), seeds=(1,)), path)
    with ResultStore(path) as store:
        batches = plan(SWEEP, store)
        assert len(batches) == 2 * 3 * 2 * 2
        assert {b.snr_db for b in batches if b.seed == 1} == {(10.0, 50.0)}
        assert {b.snr_db for b in batches if b.seed == 0} == {SWEEP.snr_db}
        assert len(list(run(SWEEP, store))) == 24 * 4 - 2 * 3 * 2 * 2
        assert plan(SWEEP, store) == ()
        assert list(run(SWEEP, store)) == []


def test_records_of_another_rho_with_as_many_uses_are_not_taken_for_its_own(path: Path) -> None:
    sweep = replace(SWEEP, schemes=(UNCODED,), rho=("1/3",))
    everything(sweep, path)
    with ResultStore(path) as store:
        assert plan(replace(sweep, rho=(1 / 3,)), store) == ()
        assert plan(replace(sweep, rho=(0.33333333333,)), store) == ()
        message = r"rho 0.334 \(64 channel uses\), seed 0: records of rho 1/3 are held .*; use another folder"
        for metrics in (sweep.metrics, (MeanSquaredError("late"),)):
            with pytest.raises(InvalidOption, match=message):
                list(run(replace(sweep, rho=(0.334,), metrics=metrics), store))
        assert {record.rho for record in store.records()} == {1 / 3}


def test_changed_scheme_is_done_again(path: Path) -> None:
    everything(SWEEP, path)
    changed = replace(SWEEP, schemes=(replace(UNCODED, transmission=Uncoded(seconds=1e-6)),))
    with ResultStore(path) as store:
        assert len(list(run(changed, store))) == 48
        assert len(store.records()) == 96, "of 'uncoded' only the new, 'again' as it was"


def test_run_log_has_what_made_records_or_made_them_valid(path: Path) -> None:
    changed = replace(SWEEP, schemes=(replace(UNCODED, transmission=Uncoded(seconds=1e-6)),))
    with ResultStore(path) as store:
        for sweep, runs in ((SWEEP, 1), (SWEEP, 1), (changed, 2), (changed, 2), (SWEEP, 3), (SWEEP, 3)):
            list(run(sweep, store))
            assert len(store.runs()) == runs
        assert len(store.records(superseded=True)) == 96 + 48
        assert len(store.records()) == 96


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"channels": (Mine(2.0),)}, "channel mine is not the one"),
        ({"metrics": (MeanSquaredError(min_side=2),)}, "metric mse is not the one"),
    ],
)
def test_changed_channel_or_metric_of_an_old_name_is_refused(
    path: Path, changed: dict[str, object], message: str
) -> None:
    sweep = replace(SWEEP, schemes=(UNCODED,), channels=(Mine(),))
    before = everything(sweep, path)
    with ResultStore(path) as store:
        for other in (replace(sweep, **changed), replace(sweep, snr_db=(3.0,), **changed)):
            with pytest.raises(
                InvalidOption, match=rf"{message}.*; give it another name, or use another folder"
            ):
                list(run(other, store))
        assert [outcome(record) for record in store.records()] == before
        assert plan(sweep, store) == ()


class Plain:
    """A metric that is no dataclass."""

    name, unit, higher_is_better = "plain", "levels", False

    def fits(self, shape: object) -> bool:
        return True

    def __call__(self, x_hat: Tensor, x: Tensor) -> float:
        return 255 * (x_hat - x).abs().mean().item()


def test_a_metric_without_a_canonical_form_is_known_by_its_name(path: Path) -> None:
    sweep = replace(SWEEP, metrics=(Plain(),))
    assert all("plain" in record.numbers for record in everything(sweep, path))
    with ResultStore(path) as store:
        assert plan(sweep, store) == ()
        assert store.metrics() == {}
        assert store.columns() == {"plain": Column("plain", "levels", False)}


def test_late_metric_is_added_to_what_is_there(path: Path) -> None:
    before = everything(SWEEP, path)
    after = everything(replace(SWEEP, metrics=(MeanSquaredError("mse_again"),)), path)
    assert [
        replace(r, numbers={k: v for k, v in r.numbers.items() if k != "mse_again"}) for r in after
    ] == before
    assert all(r.numbers["mse_again"] == r.numbers["mse"] for r in after)


def test_metric_is_left_out_for_items_it_is_not_defined_for(path: Path) -> None:
    metrics = (MeanSquaredError(), MeanSquaredError("mse_large", min_side=9))
    sweep = replace(SWEEP, items=(picture("small", 8, 64), picture("large", 9, 9)), metrics=metrics)
    for record in everything(sweep, path):
        assert ("mse_large" in record.numbers) == record.item.startswith("large")
    with ResultStore(path) as store:
        assert plan(sweep, store) == ()


def test_outage_is_recorded_with_its_cause(path: Path) -> None:
    records = everything(replace(SWEEP, rho=(0.25,)), path)
    assert {(r.outage, r.channel_uses, r.energy, r.cause) for r in records} == {
        (1, 0, 0.0, "96 uses needed, 48 allowed")
    }
    assert all(r.numbers["mse"] > 0 for r in records)


def test_cause_is_that_of_its_own_row(path: Path, tmp_path: Path) -> None:
    """Whatever the SNRs beside it; what the noise took has none."""
    sweep = replace(SWEEP, schemes=(scheme(Timid()),), snr_db=(40.0, 4.0, 10.0, 0.0))
    records = everything(sweep, path)
    causes = {0.0: "nothing is safe at 0 dB", 4.0: "nothing is safe at 4 dB", 10.0: "", 40.0: ""}
    assert {(r.snr_db, r.outage, r.cause) for r in records} == {
        (snr_db, int(snr_db < 20), cause) for snr_db, cause in causes.items()
    }
    for snr_db in sweep.snr_db:
        alone = everything(replace(sweep, snr_db=(snr_db,)), tmp_path / "alone.sqlite")
    assert alone == records


def test_kept_pictures_are_what_was_received(path: Path, tmp_path: Path) -> None:
    sweep = replace(SWEEP, schemes=(UNCODED,), rho=(0.5,), seeds=(0,), snr_db=(10.0, 200.0))
    with ResultStore(path) as store:
        records = list(run(sweep, store, keep=tmp_path / "kept"))
        files = [kept_path(tmp_path / "kept", record.scheme, record.key) for record in records]
        assert set((tmp_path / "kept").rglob("*.*")) == set(files)
        for record, file in zip(records, files, strict=True):
            item = next(item for item in sweep.items if item.id == record.item)
            pixels = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255
            assert torch.equal(pixels, item.x[0]) == (record.snr_db == 200)
        files[0].unlink()
        assert [b.snr_db for b in plan(sweep, store, tmp_path / "kept")] == [(records[0].snr_db,)]
        assert plan(sweep, store) == ()


@pytest.mark.parametrize("letter", ["a", "ü", "写"])
def test_pictures_of_long_names_are_kept(letter: str, path: Path, tmp_path: Path) -> None:
    """A file system takes 255 bytes; two names that differ in their last letter stay two files."""
    long = letter * (245 // len(letter.encode()))
    items = tuple(replace(item, id=long + end) for item, end in zip(SWEEP.items, "xyz", strict=True))
    sweep = replace(SWEEP, items=items, rho=(0.5,), seeds=(0,), snr_db=(10.0,))
    with ResultStore(path) as store:
        records = list(run(sweep, store, keep=tmp_path / "kept"))
        files = {kept_path(tmp_path / "kept", record.scheme, record.key) for record in records}
        assert len(files) == len(records) == 6
        assert set((tmp_path / "kept").rglob("*.*")) == files
        assert plan(sweep, store, tmp_path / "kept") == ()
    assert all(file.name.startswith(letter * 50) for file in files)


def test_names_of_files_change_only_where_they_are_too_long() -> None:
    for letters in (1, 242, 243, 244, 245, 246):
        plain = "ü" + "a" * letters + ".png"
        assert (file_name(plain[:-4], ".png") == plain) == (len(plain.encode()) <= 250)
    assert file_name("a/b", "_c/d.png") == "a-b_c-d.png"
    names = [file_name("ü" * 200 + end, ".png") for end in "xy"]
    assert all(name.startswith("ü" * 100) and name.endswith(".png") for name in names)
    assert all(len(name.encode()) <= 250 for name in names)
    assert len(set(names)) == 2


def test_progress_counts_to_the_end(path: Path) -> None:
    calls: list[tuple[int, int, float | None]] = []
    with ResultStore(path) as store:
        progress = lambda done, total, left=None: calls.append((done, total, left))  # noqa: E731
        assert len(list(run(SWEEP, store, progress=progress))) == 96
    assert [call[:2] for call in calls] == [(4 * i, 96) for i in range(25)]
    assert calls[0][2] is None
    assert calls[-1][2] == 0
    assert all(left is not None and left > 0 for _, _, left in calls[1:-1])


# What goes wrong


@pytest.mark.parametrize(
    ("transmission", "kind", "message"),
    [
        (Spy(extra_uses=1), BudgetExceeded, "spy sent 97 channel uses, allowed are 96"),
        (Spy(gain=9.0), BudgetExceeded, r"spy sent energy \d\.\d+ per channel use, allowed is 1"),
        (Spy(gain=math.nan), FaultyTransmission, "spy sends symbols that are not finite"),
        (Spy(fault=BudgetTooSmall("no room")), BudgetTooSmall, "no room"),
        (Spy(fault=ZeroDivisionError("division\nby zero")), SweepError, "ZeroDivisionError: division$"),
    ],
)
def test_fault_of_a_scheme_names_its_batch(path: Path, transmission: Spy, kind: type, message: str) -> None:
    sweep = replace(SWEEP, schemes=(UNCODED, scheme(transmission)), rho=(0.5,), seeds=(0,))
    with ResultStore(path) as store:
        with pytest.raises(
            kind, match=rf"^spy on toy0\d-.*, awgn, rho 0.5 \(96 channel uses\), seed 0: {message}"
        ):
            list(run(sweep, store))
        assert len(store) % 4 == 0
        assert len(store) >= 4


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_an_error_not_a_record(path: Path, value: float) -> None:
    @dataclass(frozen=True)
    class Broken(MeanSquaredError):
        def __call__(self, x_hat: Tensor, x: Tensor) -> float:
            mse = super().__call__(x_hat, x)
            return mse if mse > 0.05 else value  # N0/4 is 0.025 at 10 dB

    message = rf"^uncoded on toy00-\w+, .*: at 10 dB, metric mse is {value}; give it a finite .*$"
    with ResultStore(path) as store:
        with pytest.raises(FaultyMetric, match=message):
            list(run(replace(SWEEP, metrics=(Broken(),)), store))
        assert len(store) == 0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_of_a_transmitter_that_is_not_finite_is_an_error_too(path: Path, value: float) -> None:
    @dataclass(frozen=True)
    class Unbounded(Uncoded):
        def send(self, x: Tensor, uses: int, known: ChannelKnowledge | None) -> Sent:
            return replace(super().send(x, uses, known), info={"papr_db": value})

    message = rf"^spy on toy00-\w+, .*: scheme spy reports papr_db = {value} at -?\d+ dB; make it a finite"
    with ResultStore(path) as store:
        with pytest.raises(FaultyTransmission, match=message):
            list(run(replace(SWEEP, schemes=(scheme(Unbounded()),)), store))
        assert len(store) == 0


def test_interrupt_stops_cleanly_and_resumes(path: Path, tmp_path: Path) -> None:
    spy = Spy(fault=KeyboardInterrupt())
    sweep = replace(SWEEP, schemes=(scheme(spy),))
    with ResultStore(path) as store:
        with pytest.raises(KeyboardInterrupt):
            list(run(sweep, store))
        assert len(store) == 2 * 2 * 4
    assert everything(sweep, path) == everything(sweep, tmp_path / "uninterrupted.sqlite")


def test_death_of_a_worker_names_its_batch(path: Path) -> None:
    sweep = replace(SWEEP, schemes=(scheme(Deadly(SWEEP.items[1].x)),))
    with ResultStore(path) as store:
        with pytest.raises(SweepError, match=r"^spy on toy01-.*: the worker was killed by SIGKILL"):
            list(run(sweep, store, local_engine(2)))
        assert {record.item[:5] for record in store.records()} <= {"toy00", "toy02"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schemes": ()}, "without a scheme"),
        (
            {"schemes": (UNCODED, replace(UNCODED, name="clips", modality=VIDEO))},
            r"clips sends video items, and toy00-\w+ is a image; sweep items of one modality",
        ),
        ({"schemes": (UNCODED, UNCODED)}, "scheme uncoded is twice"),
        ({"items": ()}, "without a item"),
        ({"items": (SWEEP.items[0], SWEEP.items[0])}, "item toy00-.* is twice"),
        ({"snr_db": (1.0, 1.0)}, "SNR 1.0 is twice"),
        ({"snr_db": (math.nan,)}, "SNR of nan dB"),
        ({"rho": ("1/2", "1/2")}, "rho 1/2 is twice"),
        ({"rho": (0.0,)}, r"toy00-.*: rho of 0.0 is outside"),
        ({"rho": ("1/2", "1/3", 0.501)}, r"rho 1/2 and 0.501 both give toy00-\w+ 96 channel uses; leave one"),
        ({"rho": ("1/3", 1 / 3)}, r"rho 1/3 and 0.33+ both give toy00-\w+ 64 channel uses; leave one"),
        ({"rho": ("1/500",)}, r"toy00-.* at rho 1/500: 0 channel uses"),
        ({"seeds": ()}, "without a seed"),
    ],
)
def test_sweep_that_cannot_be(change: dict[str, object], message: str) -> None:
    with pytest.raises(SemcomError, match=message):
        replace(SWEEP, **change)
