"""Scripts of associative memory and of loss plateaus, on a few small pictures and for seconds."""

import csv
import json
from pathlib import Path
from types import ModuleType

import pytest
import script_modules

pytestmark = pytest.mark.slow


def script(name: str) -> ModuleType:
    module = script_modules.script(name)
    assert all(word in (module.__doc__ or "") for word in ("Run: ", "Cost: ", "Expect: ", f"{name}.py"))
    return module


def test_vectors_are_retrieved(tmp_path: Path) -> None:
    module = script("associative_memory")
    module.main(["--parts", "vectors", "--trials", "20", "--out", str(tmp_path)])
    rows = list(csv.DictReader((tmp_path / "retrieval.csv").open()))
    assert len(rows) == len(module.CELLS) * len(module.VECTOR_SNRS_DB) * len(module.BETAS) * 2
    best = max(int(r["retrieved"]) for r in rows if (r["dims"], r["snr_db"]) == ("128", "0"))
    assert best == 20
    assert "deviations" in (tmp_path / "retrieval.md").read_text()


def test_layers_retrieve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = script("associative_memory")
    monkeypatch.setattr(module, "LAYERED", (32, 64, (4, 16)))
    module.main(["--parts", "layered", "--trials", "20", "--out", str(tmp_path)])
    rows = list(csv.DictReader((tmp_path / "layered.csv").open()))
    assert len(rows) == len(module.CLUSTERED) * len(module.LAYERED_SNRS_DB) * len(module.RADII)
    assert {row["rises"] for row in rows} == {"0"}  # no step goes uphill
    assert {row["comparisons"] for row in rows} == {str(3 * 64), str(4 + 16 + 64)}
    assert (tmp_path / "layered.md").read_text().count("\n") == len(rows) + 2


def test_the_bench_has_a_row_per_program(tmp_path: Path) -> None:
    module = script("bench_memory")
    module.main(["--scale", "100", "--out", str(tmp_path / "rows.jsonl")])
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    programs = {row["program"] for row in rows}
    assert {"memory", "attention", "attention, masked"} <= programs
    assert all(row["gap"] < 1e-4 for row in rows if row["program"].startswith("attention"))


def test_a_plateau_and_a_capacity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = script("loss_plateau")
    monkeypatch.setattr(module, "ENTROPIES", (0.4,))
    monkeypatch.setattr(module, "WIDTHS", (8, 16))
    monkeypatch.setattr(module, "LOADS", (1.0,))
    parts = "plateau,capacity,radius,figures"
    text = tmp_path / "text.txt"
    text.write_text("The rain fell on the old stone bridge, and nobody came to the market. " * 60)
    arguments = ["--seconds", "5", "--capacity-seconds", "2", "--tokens", "20000", "--vectors", "600"]
    module.main(["--parts", parts, *arguments, "--text", str(text), "--out", str(tmp_path)])
    assert "| 0.4 nats |" in (tmp_path / "plateau.md").read_text()
    assert "bits ~ N^" in (tmp_path / "capacity.md").read_text()
    assert "Gaussian" in (tmp_path / "radius.md").read_text()
    assert (tmp_path / "plateau.svg").is_file()
