"""Records of measurements: rows that are added, replaced by key, and read again after a kill."""

from pathlib import Path

import pytest

from semcom.errors import StoreError
from semcom.records import Records, same_settings

ROWS = [
    {"cell": cell, "item": item, "exact": [item, 0.5]} for cell in ("needle", "hotpot") for item in (0, 1)
]


def test_records_are_added_and_a_cut_line_is_left_out(tmp_path: Path) -> None:
    records = Records(tmp_path / "records.jsonl", ("cell", "item"))
    assert records.rows() == []
    for row in ROWS:
        records.add(row)
    assert records.rows() == ROWS
    records.path.write_text(records.path.read_text() + '{"cell": "n')
    assert records.rows() == ROWS
    records.path.write_text('{"cell": "n\n{"cell": "n", "item": 0}\n')
    with pytest.raises(StoreError, match="line 1 is damaged"):
        records.rows()


def test_a_row_replaces_that_of_its_key(tmp_path: Path) -> None:
    records = Records(tmp_path / "records.jsonl", ("cell", "item"))
    for row in (*ROWS, {**ROWS[1], "exact": [7]}):
        records.add(row)
    assert records.rows() == [ROWS[0], {**ROWS[1], "exact": [7]}, *ROWS[2:]]
    with pytest.raises(KeyError, match="item"):
        records.add({"cell": "n"})


def test_other_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    settings = {"model": "tiny", "rho": 18.0, "decode": True}
    same_settings(path, settings)
    same_settings(path, settings)
    for other in (settings | {"rho": 36.0}, {"model": "tiny", "rho": 18.0}, settings | {"heads": 3}):
        with pytest.raises(StoreError, match="choose another folder"):
            same_settings(path, other)
    with pytest.raises(StoreError, match=r"measured with rho = 18.0, now 36.0"):
        same_settings(path, settings | {"rho": 36.0})
    path.write_text('{"model"')
    with pytest.raises(StoreError, match="damaged"):
        same_settings(path, settings)
