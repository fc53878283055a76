import hashlib
import json
import logging
import math
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from toys import UNCODED, Uncoded

from semcom import provenance
from semcom.calibration import shipped_tables
from semcom.errors import InvalidOption, StoreError
from semcom.prior import NaturalImagePrior
from semcom.provenance import canonical, environment, fingerprint
from semcom.receivers.ddrm import DDRM
from semcom.receivers.generative import Generative
from semcom.results import FIXED, Record, ResultStore
from semcom.samplers import Matched
from semcom.sourcecode import source_digest
from semcom.summary import figures, table

ROOT = Path(__file__).parents[2]

RECORD = Record(
    scheme="uncoded",
    fingerprint="0123456789abcdef",
    channel="awgn",
    item="toy-00000000",
    seed=0,
    snr_db=10.0,
    rho=1 / 12,
    budget_uses=98304,
    channel_uses=98000,
    rho_used=98000 / 1179648,
    source_dims=1179648,
    outage=0,
    energy=97999.5,
    seconds_prepare=0.1,
    seconds_deliver=0.2,
    numbers={"psnr_db": 31.4159, "payload_bits": 1200.0},
)


def grid(count: int) -> list[Record]:
    return [replace(RECORD, snr_db=float(i), numbers={"psnr_db": i / 3}) for i in range(count)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.sqlite"


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, text=True, stdout=subprocess.PIPE
    )


def test_records_come_back_as_they_went_in(path: Path) -> None:
    outage = replace(RECORD, snr_db=-5.0, outage=1, cause="nothing fits", numbers={"psnr_db": math.inf})
    with ResultStore(path) as store:
        store.write([RECORD, outage])
        assert store.records() == [outage, RECORD]
    with ResultStore(path, read_only=True) as store:
        assert store.records() == [outage, RECORD]


def test_store_closes_to_a_single_file(path: Path) -> None:
    with ResultStore(path) as store:
        store.write([RECORD])
    assert [p.name for p in path.parent.iterdir() if p.suffix not in (".lock", ".sqlite")] == []


def test_frame_is_flat(path: Path) -> None:
    with ResultStore(path) as store:
        store.write([RECORD, replace(RECORD, seed=1, numbers={"lpips_squeeze": 0.25})])
        frame = store.frame()
    assert list(frame.columns) == [*FIXED, "lpips_squeeze", "payload_bits", "psnr_db"]
    assert frame.psnr_db[0] == 31.4159
    assert math.isnan(frame.psnr_db[1])
    assert frame.snr_db.dtype == "float64"
    assert frame.outage.dtype == "int64"


def test_infinite_numbers_are_missing_and_told_in_one_line(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Stores of earlier versions may hold them; figures would die of them far from the cause."""
    records = [
        replace(RECORD, seed=seed, numbers={"psnr_db": value}) for seed, value in enumerate((30.0, math.inf))
    ]
    records.append(replace(RECORD, snr_db=20.0, numbers={"psnr_db": math.inf}))
    whole = replace(RECORD, scheme="whole", fingerprint="f" * 16, numbers={"psnr_db": 15.0})
    records += [replace(whole, snr_db=snr_db) for snr_db in (10.0, 20.0)]
    with ResultStore(path) as store:
        store.write([*records, replace(RECORD, seed=2, numbers={"psnr_db": 20.0, "swd": -math.inf})])
        frame = store.frame()
    assert frame.psnr_db.isna().sum() == 2
    assert frame.swd.isna().all()
    (line,) = caplog.messages
    assert f"{path}: psnr_db of {RECORD.item} ({RECORD.scheme}, 20 dB) is inf, and 2 other" in line
    assert "taken as missing" in line
    assert "inf" not in table(frame).to_csv()
    assert figures(frame)


def test_empty_store_has_an_empty_frame(path: Path) -> None:
    with ResultStore(path) as store:
        assert store.frame().empty
        assert list(store.frame().columns) == list(FIXED)


def test_nothing_is_held_twice_and_no_number_is_lost(path: Path) -> None:
    again = replace(RECORD, seconds_prepare=9.0, numbers={"psnr_db": 30.0, "ms_ssim": 0.9})
    with ResultStore(path) as store:
        store.write([RECORD])
        store.write([again])
        assert store.records() == [replace(again, numbers={**RECORD.numbers, **again.numbers})]


@pytest.mark.parametrize("name", ["snr_db", "Psnr", "psnr db", 'x"; DROP TABLE records; --', ""])
def test_bad_column_is_refused_with_its_whole_batch(path: Path, name: str) -> None:
    with ResultStore(path) as store:
        store.write([RECORD])
        with pytest.raises(StoreError, match="column"):
            store.write([replace(RECORD, seed=1), replace(RECORD, seed=2, numbers={name: 1.0})])
        assert store.records() == [RECORD]
        store.write([replace(RECORD, seed=1)])
        assert len(store) == 2


def test_not_a_number_in_a_fixed_column_is_refused(path: Path) -> None:
    with ResultStore(path) as store, pytest.raises(StoreError, match="energy"):
        store.write([replace(RECORD, energy=math.nan)])


def test_changed_scheme_supersedes_its_old_records(path: Path) -> None:
    new = replace(RECORD, fingerprint="f" * 16)
    other = replace(RECORD, scheme="other", fingerprint="e" * 16)
    with ResultStore(path) as store:
        store.begin({}, {"uncoded": (RECORD.fingerprint, "Uncoded()")}, {}, {})
        store.write([RECORD, other])
        assert store.records() == [other, RECORD]
        store.begin({}, {"uncoded": (new.fingerprint, "Uncoded(2)")}, {}, {})
        store.write([new])
        assert store.records() == [other, new]
        assert len(store.frame()) == 2
        assert len(store.records(superseded=True)) == 3
        assert set(store.held([RECORD.fingerprint])) == {RECORD.key}


def test_store_of_an_earlier_version_learns_of_channels_and_metrics(path: Path) -> None:
    known = {"awgn": ("a" * 16, "AWGN()")}
    with ResultStore(path) as store:
        store.begin({}, {"uncoded": (RECORD.fingerprint, "Uncoded()")}, {}, {})
        store.write([RECORD])
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE channels")
        db.execute("DROP TABLE metrics")
    db.close()
    with ResultStore(path, read_only=True) as store:
        assert (list(store.schemes()), store.channels(), store.metrics()) == (["uncoded"], {}, {})
    with ResultStore(path) as store:
        store.begin({}, {}, known, {})
        assert store.channels() == {"awgn": {"fingerprint": "a" * 16, "definition": "AWGN()"}}
        assert (store.metrics(), store.records()) == ({}, [RECORD])


def test_store_made_before_there_were_other_modalities_holds_pictures(path: Path) -> None:
    with ResultStore(path) as store:
        store.begin({}, {"uncoded": (RECORD.fingerprint, "Uncoded()")}, {}, {})
        store.write([RECORD])
    with closing(sqlite3.connect(path)) as db:
        for name in ("modality", "family", "csit"):
            db.execute(f"ALTER TABLE records DROP COLUMN {name}")
    before = path.read_bytes()
    with ResultStore(path, read_only=True) as store:
        assert store.records() == [RECORD]
        assert list(store.held([RECORD.fingerprint])) == [RECORD.key]
        assert list(store.frame().modality) == ["image"]
        assert list(store.frame().columns) == [*FIXED, *sorted(RECORD.numbers)]
        assert store.export(path.with_suffix(".csv")).read_text().count(",image,") == 1
    assert path.read_bytes() == before
    clip = replace(RECORD, item="clip-00000000", modality="video")
    with ResultStore(path) as store:
        assert store.records() == [RECORD]
        store.write([replace(RECORD, seed=1), clip])
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT item, seed, modality FROM records ORDER BY item, seed").fetchall()
    assert rows == [(clip.item, 0, "video"), (RECORD.item, 0, "image"), (RECORD.item, 1, "image")]
    with ResultStore(path, read_only=True) as store:
        assert store.records() == [clip, RECORD, replace(RECORD, seed=1)]


def test_any_other_column_that_is_missing_is_damage(path: Path) -> None:
    with ResultStore(path) as store:
        store.write([RECORD])
    with closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE records DROP COLUMN cause")
    with ResultStore(path, read_only=True) as store, pytest.raises(StoreError, match="damaged"):
        store.records()


def test_other_versions_are_warned_about_and_never_refused(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ResultStore(path) as store, caplog.at_level(logging.WARNING):
        store.begin({"torch": "2.0", "command": "a"}, {}, {}, {})
        store.begin({"torch": "2.0", "command": "b"}, {}, {}, {})
        assert caplog.messages == []
        store.begin({"torch": "2.1", "command": "b"}, {}, {}, {})
        assert caplog.messages == [f"{path}: torch is 2.1, was 2.0 in the run before"]
        assert [run["command"] for run in store.runs()] == ["a", "b", "b"]
        caplog.clear()
        store.begin({"torch": "2.1", "commit": ""}, {}, {}, {})  # installed: there is no commit to tell
        assert caplog.messages == []
        store.begin({"torch": "2.1", "commit": "d899846"}, {}, {}, {})
        store.begin({"torch": "2.1", "commit": ""}, {}, {}, {})
        assert [message.removeprefix(f"{path}: ") for message in caplog.messages] == [
            "commit is d899846, was unknown in the run before",
            "commit is unknown, was d899846 in the run before",
        ]


def test_environment_names_what_results_depend_on() -> None:
    assert {"command", "commit", "python", "device", "torch", "numpy", "pillow", "pillow avif"} <= set(
        environment()
    )


# One writer


def test_second_writer_is_turned_away_and_readers_are_not(path: Path) -> None:
    with ResultStore(path) as store:
        store.write([RECORD])
        with pytest.raises(StoreError, match=r"in use by another run; wait until it ends"):
            ResultStore(path)
        with ResultStore(path, read_only=True) as reader:
            store.write([replace(RECORD, seed=1)])
            assert len(reader) == 2
            with pytest.raises(StoreError, match="reading only"):
                reader.write([RECORD])
    with ResultStore(path) as store:
        assert len(store) == 2


def test_lock_vanishes_with_a_killed_process(path: Path) -> None:
    holder = child(
        "import sys, time; from semcom.results import ResultStore\n"
        "store = ResultStore(sys.argv[1]); print('held', flush=True); time.sleep(60)",
        path,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(StoreError, match="in use by another run"):
        ResultStore(path)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with ResultStore(path) as store:
        store.write([RECORD])


# Trouble with the file


def test_foreign_files_are_refused_and_untouched(path: Path, tmp_path: Path) -> None:
    path.write_text("not a database, but long enough to look like one\n" * 200)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a result store; name another file"):
        ResultStore(path)
    assert path.read_bytes() == before
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE photos (id)")
    db.close()
    before = foreign.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        ResultStore(foreign)
    assert foreign.read_bytes() == before


def test_newer_format_is_refused(path: Path) -> None:
    ResultStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="format 99, this version reads 1; update the package"):
        ResultStore(path)


def test_places_that_cannot_hold_a_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for bad in (tmp_path, tmp_path / "file" / "records.sqlite", Path("/proc/records.sqlite")):
        with pytest.raises(StoreError) as error:
            ResultStore(bad)
        assert "\n" not in str(error.value)
    with pytest.raises(StoreError, match="no such result store; run a sweep first"):
        ResultStore(tmp_path / "none.sqlite", read_only=True)


def test_damage_anywhere_is_one_line_or_harmless(path: Path) -> None:
    with ResultStore(path) as store:
        store.write(grid(200))
    good = path.read_bytes()
    refused = 0  # any other exception fails the test
    for position in range(0, len(good), len(good) // 24):
        for bad in (good[:position], good[:position] + b"\xa5" * 64 + good[position + 64 :]):
            path.write_bytes(bad)
            try:
                with ResultStore(path) as store:
                    store.records()
                    store.write([RECORD])
            except StoreError as error:
                refused += "\n" not in str(error)
    assert refused > 12


def test_disk_full_keeps_what_was_written(path: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    code = (
        "import sys; from dataclasses import replace; sys.path.insert(0, 'tests/test_semcom')\n"
        "import json; from semcom.results import Record, ResultStore; from semcom.errors import StoreError\n"
        "record = Record(**json.loads(sys.argv[2])); store = ResultStore(sys.argv[1]); n = 0\n"
        "try:\n"
        "    while True:\n"
        "        store.write([replace(record, seed=n, snr_db=float(i)) for i in range(10)]); n += 1\n"
        "except StoreError as error:\n"
        "    print(n); print(error)\n"
    )
    fields = {**RECORD.row(), "numbers": dict(RECORD.numbers)}
    for name in RECORD.numbers:
        del fields[name]
    result = subprocess.run(
        [sys.executable, "-c", code, path, json.dumps(fields)],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
        preexec_fn=small_files,
    )
    batches, message = result.stdout.splitlines()
    assert "free space and run the same command again" in message
    assert int(batches) > 10
    with ResultStore(path) as store:
        assert len(store) == 10 * int(batches)
        store.write([RECORD])


# Export


def test_exports_agree_with_the_frame(path: Path, tmp_path: Path) -> None:
    import pandas as pd

    with ResultStore(path) as store:
        store.write([*grid(5), replace(RECORD, seed=1, numbers={"ms_ssim": 0.5})])
        frame = store.frame()
        csv = pd.read_csv(store.export(tmp_path / "deep" / "records.csv"), float_precision="round_trip")
        json_ = pd.DataFrame(json.loads(store.export(tmp_path / "records.json").read_text()))
        parquet = pd.read_parquet(store.export(tmp_path / "records.parquet"))
        assert not list(tmp_path.rglob("*.part"))
    pd.testing.assert_frame_equal(parquet, frame)
    for loose in (csv.assign(cause="", family="", csit=""), json_):
        pd.testing.assert_frame_equal(loose[list(frame.columns)], frame, check_dtype=False, check_exact=True)


def test_json_has_no_infinity(path: Path, tmp_path: Path) -> None:
    with ResultStore(path) as store:
        store.write([replace(RECORD, numbers={"psnr_db": math.inf})])
        assert json.loads(store.export(tmp_path / "x.json").read_text())[0]["psnr_db"] is None


def test_text_in_a_column_of_numbers_is_damage(path: Path) -> None:
    with ResultStore(path) as store:
        store.write([RECORD])
    for name in ("psnr_db", "snr_db", "outage"):
        damaged = sqlite3.connect(path)
        before = damaged.execute(f"SELECT {name} FROM records").fetchone()
        damaged.execute(f"UPDATE records SET {name} = 'abc'")
        damaged.commit()
        with pytest.raises(StoreError, match=f"damaged \\({name} is not a number in every record\\)"):
            ResultStore(path, read_only=True)
        damaged.execute(f"UPDATE records SET {name} = ?", before)
        damaged.commit()
        damaged.close()


def test_export_says_what_it_cannot(path: Path, tmp_path: Path) -> None:
    with ResultStore(path) as store:
        with pytest.raises(StoreError, match=r"\.csv, \.parquet or \.json"):
            store.export(tmp_path / "records.xlsx")
        with pytest.raises(StoreError, match="cannot be written"):
            store.export("/proc/records.csv")


def test_export_takes_any_letter_whatever_the_locale(path: Path, tmp_path: Path) -> None:
    with ResultStore(path) as store:
        store.write([replace(RECORD, item="\u0161koda-\u65e5\u672c-00000000")])
    code = (
        "import sys; from semcom.results import ResultStore\n"
        "with ResultStore(sys.argv[1], read_only=True) as store: store.export(sys.argv[2])"
    )
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "records.csv")]
    subprocess.run(command, cwd=ROOT, env=ascii_only, check=True)
    assert "\u0161koda-\u65e5\u672c" in (tmp_path / "records.csv").read_text(encoding="utf-8")


# Fingerprints


def test_fingerprint_is_that_of_every_process_and_machine() -> None:
    assert canonical(UNCODED) == (
        "semcom.scheme.Scheme(name='uncoded',"
        f"transmission=toys.Uncoded@{source_digest(Uncoded)}(csit='none',seconds=0.0,name='uncoded',),"
        "receiver=semcom.receivers.direct.Direct(),modality=semcom.modalities.image.ImageModality(),)"
    )
    text = f"semcom {version('semcom')}\n{canonical(UNCODED)}"
    assert fingerprint(UNCODED) == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert fingerprint({"b": 1, "a": frozenset("xyz")}) == fingerprint({"a": frozenset("zyx"), "b": 1})


def test_fingerprint_changes_with_every_field() -> None:
    others = [replace(UNCODED, name="x"), replace(UNCODED, transmission=Uncoded(seconds=1e-9)), (UNCODED,)]
    assert len({fingerprint(thing) for thing in [UNCODED, *others]}) == 4


def test_fingerprint_changes_with_one_weight() -> None:
    network = torch.nn.Conv2d(3, 8, 3)
    before = fingerprint(network)
    assert fingerprint(network) == before
    with torch.no_grad():
        network.weight[0, 0, 0, 0] = torch.nextafter(network.weight[0, 0, 0, 0], torch.tensor(9.0))
    assert fingerprint(network) != before


def test_fingerprint_sees_strides_that_are_not_weights() -> None:
    one, two = torch.nn.Conv2d(3, 8, 3, stride=1), torch.nn.Conv2d(3, 8, 3, stride=2)
    two.load_state_dict(one.state_dict())
    assert fingerprint(one) != fingerprint(two)


def test_fingerprint_sees_what_a_network_holds_beside_weights() -> None:
    def network(levels: tuple[float, ...], scale: float) -> torch.nn.Module:
        inner = torch.nn.Identity()
        inner.levels = levels  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
        inner.register_buffer("scale", torch.tensor(scale), persistent=False)
        return torch.nn.Sequential(inner).eval()

    made = [network((0.5, 1.0), 1.0), network((0.5, 2.0), 1.0), network((0.5, 1.0), 2.0)]
    assert len({fingerprint(each) for each in [*made, network((0.5, 1.0), 1.0)]}) == 3
    assert fingerprint(made[0]) != fingerprint(made[0].train())


def test_fingerprint_of_a_receiver_changes_with_the_errors_it_expects() -> None:
    method, tables = DDRM(NaturalImagePrior((8, 8), (1, 1), 4), Matched(8)), shipped_tables()
    code = next(iter(tables))
    others = {**tables, code: replace(tables[code], rows=tables[code].rows + 1)}
    assert fingerprint(Generative(method)) == fingerprint(Generative(method, tables=dict(tables)))
    assert fingerprint(Generative(method)) != fingerprint(Generative(method, tables=others))


def test_fingerprint_leaves_caches_out() -> None:
    @dataclass(frozen=True)
    class Cached:
        size: int
        cache: dict[str, object] = field(default_factory=dict, compare=False)

    assert fingerprint(Cached(1)) == fingerprint(Cached(1, {"x": object()}))


@pytest.mark.parametrize("thing", [object(), lambda: 0, (1, [object()])])
def test_fingerprint_refuses_what_has_no_canonical_form(thing: object) -> None:
    with pytest.raises(InvalidOption, match="no canonical form; make it a frozen dataclass"):
        fingerprint(thing)


def test_fingerprint_of_a_codec_changes_with_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    from semcom.codecs import Jpeg

    before = fingerprint(Jpeg()), fingerprint(UNCODED)
    monkeypatch.setattr(provenance, "codec_versions", lambda: {"pillow jpg": "0"})
    assert fingerprint(Jpeg()) != before[0]
    assert fingerprint(UNCODED) == before[1]
