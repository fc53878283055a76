"""Records of transmissions, and their store: one SQLite file with one writer at a time."""

import csv
import json
import logging
import math
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from semcom.columns import Column
from semcom.errors import StoreError
from semcom.files import replacing, write_whole

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

APPLICATION_ID = 0x73656D63  # "semc", in the header of the file
FORMAT = 1
LOCKED_MS = 10_000  # how long a transaction waits for a foreign program that holds the file
COLUMN_NAME = re.compile(r"[a-z][a-z0-9_]*")

Value = str | int | float
Key = tuple[str, str, str, int, float, int]
"""Identity of a record: fingerprint, channel, item, budget_uses, snr_db, seed."""

Definitions = Mapping[str, tuple[str, str]]
"""Fingerprint and canonical text of schemes, channels or metrics, by name."""


@dataclass(frozen=True, slots=True)
class Record:
    """Result of sending one item once.

    Args:
        scheme: Name of the scheme.
        fingerprint: Fingerprint of the scheme's definition, including weights and codec versions.
        channel: Canonical name of the channel.
        item: Id of the item.
        seed: Seed of noise and fading.
        snr_db: Average received Es/N0 in dB.
        rho: Allowed bandwidth ratio in channel uses per source dimension.
        budget_uses: Allowed channel uses.
        channel_uses: Channel uses spent.
        rho_used: Channel uses spent per source dimension.
        source_dims: Source dimensions n of the item.
        outage: 1 if the item was lost and a cover is shown in its place, else 0.
        energy: Transmitted energy, sum of |x|^2 over the channel uses; on average 1 per channel use.
        seconds_prepare: Encoding time in seconds, counted once for all records that share the encoding; time
            saved by a codec's cache is not counted.
        seconds_deliver: Time in seconds from channel to received item, this record's share of its batch.
        cause: Reason why nothing was sent; empty if something was sent.
        modality: Modality of the item, such as "image", "video" or "text".
        family: Family of the scheme, one of `semcom.kinds.FAMILIES`; empty in records of earlier versions.
        csit: Channel knowledge of the transmitter, "none" or "average"; empty in records of earlier versions.
        numbers: Metrics and additional values reported by the scheme, by column name.
    """

    scheme: str
    fingerprint: str
    channel: str
    item: str
    seed: int
    snr_db: float
    rho: float
    budget_uses: int
    channel_uses: int
    rho_used: float
    source_dims: int
    outage: int
    energy: float
    seconds_prepare: float
    seconds_deliver: float
    cause: str = ""
    modality: str = "image"
    family: str = ""
    csit: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Identity of the record; a store holds at most one record per key."""
        return (self.fingerprint, self.channel, self.item, self.budget_uses, self.snr_db, self.seed)

    def row(self) -> dict[str, Value]:
        """Flatten the record to one row of a table.

        Returns:
            Values by column name: the fixed fields, then `numbers` sorted by name.
        """
        fixed: dict[str, Value] = {name: getattr(self, name) for name in FIXED}
        return fixed | {name: self.numbers[name] for name in sorted(self.numbers)}


FIXED = tuple(f.name for f in fields(Record) if f.name != "numbers")
KEY = ("fingerprint", "channel", "item", "budget_uses", "snr_db", "seed")
TIMING = ("seconds_prepare", "seconds_deliver")
LATER = {"modality": "image", "family": "", "csit": ""}  # columns that old stores lack, and what they mean
ORDER = "scheme, channel, rho, item, seed, snr_db, fingerprint"
DEFINED = ("schemes", "channels", "metrics")  # tables of definitions by name; old stores have only the first
DEFINING = "CREATE TABLE IF NOT EXISTS {} (name TEXT PRIMARY KEY, fingerprint TEXT, definition TEXT)"
COLUMNS = "CREATE TABLE IF NOT EXISTS columns (name TEXT PRIMARY KEY, unit TEXT, higher_is_better INTEGER)"
SQL_TYPES = {str: "TEXT", int: "INTEGER", float: "REAL"}
VALID = (
    "WHERE fingerprint = coalesce("
    "(SELECT s.fingerprint FROM schemes s WHERE s.name = records.scheme), records.fingerprint)"
)


class ResultStore:
    """Result records in one SQLite file.

    The table `records` has one column per metric or other number; a column is added when it first occurs, and
    is NULL in records without it. A store opened for writing is locked until it is closed or its process
    ends. Others can read it meanwhile. The file must be on a local disk, because the write-ahead log needs
    shared memory.

    Args:
        path: The file; it and its folder are created when needed.
        read_only: Whether to open an existing file for reading only.

    Raises:
        StoreError: The store is in use by another run, is not a result store, is damaged, or is not writable.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, ResultStore(Path(folder) / "records.sqlite") as store:
        ...     len(store)
        0
    """

    def __init__(self, path: Path | str, read_only: bool = False) -> None:
        self.path = Path(path)
        self.read_only = read_only
        self._lock: sqlite3.Connection | None = None
        self._mine = False  # a file is not modified before it is known to be a result store
        if self.path.is_dir():
            raise StoreError(f"{self.path} is a folder; name a file such as {self.path / 'records.sqlite'}")
        if read_only and not self.path.is_file():
            raise StoreError(f"{self.path}: no such result store; run a sweep first")
        if not read_only:
            self._lock = _lock(self.path)
        self._db = _connect(self.path, read_only)
        try:
            with self._typed():
                self._open()
            self._mine = True
        except StoreError:
            self.close()
            raise

    def __enter__(self) -> "ResultStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Number of records, including superseded ones."""
        with self._typed():
            return self._db.execute("SELECT count(*) FROM records").fetchone()[0]

    def close(self) -> None:
        """Merge the write-ahead log into the file and release the lock; may be called repeatedly."""
        try:
            if self._mine and not self.read_only:
                # without a write-ahead log the file can be read from read-only media; fails while others read
                self._db.execute("PRAGMA busy_timeout = 0")
                self._db.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.Error:
            pass
        self._db.close()
        if self._lock is not None:
            self._lock.close()

    def write(self, records: Sequence[Record]) -> None:
        """Add records in one transaction: all of them, or none.

        A record replaces an earlier one with the same key. Numbers that only the earlier one has are kept.

        Args:
            records: Records to add.

        Raises:
            StoreError: The disk is full or not writable, a column name is invalid, or the store was opened
                read-only. Earlier records are preserved.
        """
        if self.read_only:
            raise StoreError(f"{self.path} is open for reading only")
        with self._typed(), self._transaction():
            self._add_columns(name for record in records for name in record.numbers)
            for record in records:
                row = record.row()
                names = [f'"{name}"' for name in row]
                update = ", ".join(f"{name} = excluded.{name}" for name in names)
                self._db.execute(
                    f"INSERT INTO records ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "
                    f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {update}",
                    tuple(row.values()),
                )

    def held(self, fingerprints: Iterable[str]) -> dict[Key, Record]:
        """Find the records of some schemes.

        Args:
            fingerprints: Fingerprints of the schemes.

        Returns:
            Records by key.

        Raises:
            StoreError: The store is damaged.
        """
        wanted = set(fingerprints)
        return {record.key: record for record in self._select() if record.fingerprint in wanted}

    def begin(
        self,
        environment: Mapping[str, str],
        schemes: Definitions,
        channels: Definitions,
        metrics: Definitions,
        columns: Iterable[Column] = (),
    ) -> None:
        """Log the start of a run and store the definitions of its schemes, channels and metrics.

        Records of a scheme with the same name but another fingerprint are superseded from now on: they stay
        in the store, apart from the others, and a warning is logged. If the environment (library versions,
        commit, device) differs from that of the previous run, a warning is logged, too.

        Args:
            environment: Command, commit, versions and device, by name.
            schemes: Definitions of the schemes.
            channels: Definitions of the channels.
            metrics: Definitions of the metrics.
            columns: Unit and direction of every metric, for figures and tables.

        Raises:
            StoreError: The store cannot be written.
        """
        last = self.runs()[-1:]
        for previous in last:
            for name, value in environment.items():
                before = previous.get(name, "")
                if name != "command" and before != value:
                    logger.warning(
                        "%s: %s is %s, was %s in the run before",
                        self.path,
                        name,
                        value or "unknown",
                        before or "unknown",
                    )
        self._tell_superseded(schemes)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._typed(), self._transaction():
            self._db.execute(
                "INSERT INTO runs (started, environment) VALUES (?, ?)", (now, json.dumps(dict(environment)))
            )
            for table, definitions in zip(DEFINED, (schemes, channels, metrics), strict=True):
                self._db.execute(DEFINING.format(table))
                self._db.executemany(
                    f"INSERT INTO {table} (name, fingerprint, definition) VALUES (?, ?, ?) "
                    "ON CONFLICT (name) DO UPDATE "
                    "SET fingerprint = excluded.fingerprint, definition = excluded.definition",
                    [(name, *definition) for name, definition in definitions.items()],
                )
            self._db.execute(COLUMNS)
            self._db.executemany(
                "INSERT INTO columns VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE "
                "SET unit = excluded.unit, higher_is_better = excluded.higher_is_better",
                [(column.name, column.unit, column.higher_is_better) for column in columns],
            )

    def _tell_superseded(self, schemes: Definitions) -> None:
        for name, held in self.schemes().items():
            if name in schemes and schemes[name][0] != held["fingerprint"]:
                count = "SELECT count(*) FROM records WHERE fingerprint = ?"
                with self._typed():
                    (records,) = self._db.execute(count, (held["fingerprint"],)).fetchone()
                if records:
                    logger.warning(
                        "%s: %s has another definition, code or version than before; it is measured again, "
                        "and its %d earlier records are kept apart",
                        self.path,
                        name,
                        records,
                    )

    def runs(self) -> list[dict[str, str]]:
        """Log of all runs, oldest first.

        Returns:
            For each run its start time (UTC, ISO 8601) and environment, by name.

        Raises:
            StoreError: The store is damaged.
        """
        with self._typed():
            rows = self._db.execute("SELECT started, environment FROM runs ORDER BY run").fetchall()
        try:
            return [{"started": started, **json.loads(environment)} for started, environment in rows]
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"{self.path}: damaged; restore it, or delete it and run again (run log: {error})"
            ) from None

    def schemes(self) -> dict[str, dict[str, str]]:
        """Definition of every scheme.

        Returns:
            By name of the scheme, "fingerprint" and "definition" (canonical text), as last stored.

        Raises:
            StoreError: The store is damaged.
        """
        return self._defined("schemes")

    def channels(self) -> dict[str, dict[str, str]]:
        """Definition of every channel.

        Returns:
            By name of the channel, "fingerprint" and "definition" (canonical text), as last stored; empty in
            stores of earlier versions.

        Raises:
            StoreError: The store is damaged.
        """
        return self._defined("channels")

    def metrics(self) -> dict[str, dict[str, str]]:
        """Definition of every metric.

        Returns:
            By name of the metric, "fingerprint" and "definition" (canonical text), as last stored; empty in
            stores of earlier versions.

        Raises:
            StoreError: The store is damaged.
        """
        return self._defined("metrics")

    def columns(self) -> dict[str, Column]:
        """Unit and direction of every metric in the records, including metrics of other packages.

        Returns:
            Columns by name, as stored by the run that measured them. If a store of an earlier version does
            not have them, those of the metric of that name in this package, or else columns without unit and
            direction.

        Raises:
            StoreError: The store is damaged.
        """
        from semcom.metrics.catalogue import SHIPPED_COLUMNS

        with self._typed():
            there = self._db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'columns'").fetchone()
            query = "SELECT name, unit, higher_is_better FROM columns ORDER BY name"
            rows = self._db.execute(query).fetchall() if there else []
        told = {name: Column(name, unit, None if up is None else bool(up)) for name, unit, up in rows}
        unknown = {name: Column(name) for name in self.metrics() if name not in SHIPPED_COLUMNS}
        columns = {**SHIPPED_COLUMNS, **unknown, **told}
        numbers = self._numbers()
        return {name: column for name, column in columns.items() if name in numbers}

    def records(self, superseded: bool = False) -> list[Record]:
        """All records, sorted by scheme, channel, rho, item, seed and SNR.

        Args:
            superseded: Whether to include records of earlier definitions of a scheme.

        Returns:
            The records.

        Raises:
            StoreError: The store is damaged.
        """
        where = "" if superseded else VALID
        return list(self._select(where))

    def frame(self, superseded: bool = False) -> "pd.DataFrame":
        """All records as a pandas data frame, sorted by scheme, channel, rho, item, seed and SNR.

        Infinite numbers, which stores of earlier versions may hold, are taken as missing; a warning in the
        log names metric and item.

        Args:
            superseded: Whether to include records of earlier definitions of a scheme.

        Returns:
            One row per record; a number that a record does not have is NaN.

        Raises:
            StoreError: The store is damaged.
        """
        import pandas as pd

        names = [*FIXED, *self._numbers()]
        with self._typed():
            rows = self._db.execute(self._query(names, "" if superseded else VALID)).fetchall()
        frame = pd.DataFrame(rows, columns=names)
        return self._without_infinities(frame.astype(dict.fromkeys(self._numbers(), float)))

    def _without_infinities(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """Infinite numbers replaced by NaN, with one warning that names the first of them."""
        numbers = frame[self._numbers()]
        infinite = numbers.abs() == math.inf
        count = int(infinite.to_numpy().sum())
        if count == 0:
            return frame
        row, column = np.argwhere(infinite.to_numpy())[0]
        name, first = numbers.columns[column], frame.iloc[row]
        logger.warning(
            "%s: %s of %s (%s, %g dB) is %g%s: taken as missing; give the metric a finite value there, such "
            "as a cap, and measure into a new folder",
            self.path,
            name,
            first["item"],
            first["scheme"],
            first["snr_db"],
            first[name],
            f", and {count - 1} other numbers are infinite" if count > 1 else "",
        )
        return frame.assign(**numbers.mask(infinite))

    def export(self, path: Path | str) -> Path:
        """Write all valid records as .csv, .parquet or .json, depending on the extension.

        In JSON, numbers that are not finite become null. Unit and direction of every metric are written to a
        second file: `records.metrics.json` beside `records.csv`.

        Args:
            path: The file; its folder is created if necessary.

        Returns:
            The path.

        Raises:
            StoreError: The extension is another one, or a file cannot be written.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                if path.suffix == ".csv":
                    with part.open("w", newline="", encoding="utf-8") as file:
                        names = [*FIXED, *self._numbers()]
                        writer = csv.DictWriter(file, names, lineterminator="\n")
                        writer.writeheader()
                        writer.writerows(record.row() for record in self.records())
                elif path.suffix == ".json":
                    rows = [_finite(record.row()) for record in self.records()]
                    part.write_text(json.dumps(rows, indent=1) + "\n")
                elif path.suffix == ".parquet":
                    self.frame().to_parquet(part, index=False)
                else:
                    raise StoreError(
                        f"{path}: records are exported as .csv, .parquet or .json; choose one of them"
                    )
            about = {
                column.name: {"unit": column.unit, "higher_is_better": column.higher_is_better}
                for column in self.columns().values()
            }
            text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
            write_whole(path.with_suffix(".metrics.json"), text)
        except OSError as error:
            raise StoreError(
                f"{path}: cannot be written ({error.strerror}); free space or name another"
            ) from None
        return path

    def _open(self) -> None:
        application, format_ = (
            self._db.execute(f"PRAGMA {p}").fetchone()[0] for p in ("application_id", "user_version")
        )
        tables = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if tables and application != APPLICATION_ID:
            raise StoreError(f"{self.path} is the database of another program; name another file")
        if tables and format_ != FORMAT:
            raise StoreError(
                f"{self.path} has format {format_}, this version reads {FORMAT}; update the package"
            )
        if not tables and self.read_only:
            raise StoreError(f"{self.path} is empty; run a sweep first")
        fault = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if fault == "ok" and tables:
            fault = self._text_for_a_number()
        if fault != "ok":
            raise StoreError(
                f"{self.path} is damaged ({fault.splitlines()[-1]}); restore it, or delete it and run again"
            )
        if self.read_only:
            return
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(
            "PRAGMA synchronous = NORMAL"
        )  # safe against kill -9; after a power failure the last rows may be lost
        if not tables:
            with self._transaction():
                self._create()
        else:
            for name in sorted(set(LATER) - self._columns()):
                self._db.execute(
                    f"ALTER TABLE records ADD COLUMN {name} TEXT NOT NULL DEFAULT '{LATER[name]}'"
                )

    def _text_for_a_number(self) -> str:
        """First column of numbers that contains text, which SQLite allows; "ok" if there is none."""
        for _, name, kind, *_ in self._db.execute("PRAGMA table_info(records)").fetchall():
            if kind != "TEXT":
                other = f"SELECT 1 FROM records WHERE typeof(\"{name}\") IN ('text', 'blob') LIMIT 1"
                if self._db.execute(other).fetchone():
                    return f"{name} is not a number in every record"
        return "ok"

    def _create(self) -> None:
        types = {f.name: SQL_TYPES[f.type] for f in fields(Record) if f.name != "numbers"}  # pyright: ignore
        columns = ", ".join(f"{name} {kind} NOT NULL" for name, kind in types.items())
        self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._db.execute(f"PRAGMA user_version = {FORMAT}")
        self._db.execute(f"CREATE TABLE records ({columns}, PRIMARY KEY ({', '.join(KEY)})) WITHOUT ROWID")
        for table in DEFINED:
            self._db.execute(DEFINING.format(table))
        self._db.execute(COLUMNS)
        self._db.execute("CREATE TABLE runs (run INTEGER PRIMARY KEY, started TEXT, environment TEXT)")

    def _defined(self, table: str) -> dict[str, dict[str, str]]:
        with self._typed():
            there = self._db.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
            rows = self._db.execute(f"SELECT * FROM {table} ORDER BY name").fetchall() if there else []
        return {name: {"fingerprint": print_, "definition": text} for name, print_, text in rows}

    def _columns(self) -> set[str]:
        return {row[1] for row in self._db.execute("PRAGMA table_info(records)")}

    def _numbers(self) -> list[str]:
        with self._typed():
            return sorted(self._columns() - set(FIXED))

    def _add_columns(self, names: Iterable[str]) -> None:
        for name in sorted(set(names) - set(self._numbers())):
            if not COLUMN_NAME.fullmatch(name) or name in FIXED:
                raise StoreError(
                    f"{name!r} cannot be a column of numbers; use small letters, digits and underscores"
                )
            self._db.execute(f'ALTER TABLE records ADD COLUMN "{name}" REAL')

    def _query(self, names: Iterable[str], where: str) -> str:
        there = self._columns()
        columns = ", ".join(
            f"'{LATER[name]}'" if name in LATER and name not in there else f'records."{name}"'
            for name in names
        )
        return f"SELECT {columns} FROM records {where} ORDER BY {ORDER}"

    def _select(self, where: str = "") -> Iterator[Record]:
        numbers = self._numbers()
        with self._typed():
            for row in self._db.execute(self._query([*FIXED, *numbers], where)):
                values = zip(numbers, row[len(FIXED) :], strict=True)
                yield Record(*row[: len(FIXED)], numbers={name: v for name, v in values if v is not None})

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _typed(self) -> Iterator[None]:
        """Turn errors of SQLite into one line that names the file and the remedy."""
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {_cure(str(error))}") from None
        except UnicodeDecodeError:  # damaged text, in a record or quoted by SQLite
            raise StoreError(f"{self.path}: {_cure('malformed')}") from None


def _finite(row: dict[str, Value]) -> dict[str, Value | None]:
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}


def _connect(path: Path, read_only: bool) -> sqlite3.Connection:
    mode = "ro" if read_only else "rwc"
    try:
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=LOCKED_MS / 1000, isolation_level=None)
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {_cure(str(error))}") from None


def _lock(path: Path) -> sqlite3.Connection:
    """Hold an exclusive SQLite lock on an empty file beside the store until the process ends.

    Unlike `flock` this works on every platform, and forked children do not inherit it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = sqlite3.connect(path.with_name(path.name + ".lock"), timeout=0, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{path}: the folder is not writable ({error}); name another") from None
    try:
        lock.execute("PRAGMA journal_mode = MEMORY")  # creates no second file
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        lock.close()
        if "locked" in str(error):
            message = f"{path} is in use by another run; wait until it ends, or name another store"
        else:
            message = f"{path}: the folder is not writable ({error}); name another"
        raise StoreError(message) from None
    return lock


def _cure(fault: str) -> str:
    cures = {
        "not a database": "not a result store; name another file",
        "no such": "damaged; restore it, or delete it and run again",
        "malformed": "damaged; restore it, or delete it and run again",
        "readonly": "read-only; make it writable or name another store",
        "unable to open": "cannot be opened; check that the folder is there and writable",
        "full": "disk full; free space and run the same command again, the records so far are safe",
        "disk I/O": "disk full or broken; free space and run the same command again, the records are safe",
        "locked": "another program keeps it busy; close it and run the same command again",
    }
    cure = next((cure for symptom, cure in cures.items() if symptom in fault), "")
    return f"{cure} ({fault})" if cure not in ("", fault) else fault
