"""Tables, maps and times of rate-distortion-perception functions at tiny settings."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow
SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    def loaded(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)  # dataclasses look their module up
        spec.loader.exec_module(module)
        assert all(word in (module.__doc__ or "") for word in ("Run: ", "Expect: ", f"{name}.py"))
        return module

    return loaded


def test_curves_are_beside_closed_forms(
    load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = load("rdp_curves")
    for name, value in (("LETTERS", 24), ("COARSE", 16), ("MAP_POINTS", 6)):
        monkeypatch.setattr(module, name, value)
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    pictures.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (32, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(pictures / "noise.png")
    module.main(["--out", str(out), "--data", str(pictures)])
    figures = json.loads((out / "table.json").read_text())
    off = figures["furthest_off_nats"]
    assert max(off[f"binary {p:g}"] for p in (0.1, 0.3, 0.5)) < 1e-7
    assert off["gaussian 24, P + h^2/12"] < 0.01 < off["gaussian 16"]
    assert figures["largest_kkt_residual"] < 1e-8
    assert figures["link_limit"]["pictures"] == 1
    table = (out / "table.md").read_text()
    assert "16 points" in table
    assert "24 points" in table
    drawn = {path.name: path.stat().st_size for path in out.glob("*.svg")}
    assert set(drawn) == {
        "binary.svg",
        "gaussian.svg",
        "link_limit.svg",
        "regions_binary.svg",
        "regions_gaussian.svg",
    }
    assert max(drawn.values()) < 200_000


def test_times_are_of_the_same_problem(load: Callable[[str], ModuleType], tmp_path: Path) -> None:
    load("bench_rdp").main(["--out", str(tmp_path), "--tiny"])
    figures = json.loads((tmp_path / "bench.json").read_text())
    assert figures["speedup"] == min(row["speedup"] for row in figures["compared"])
    for row in figures["compared"]:
        assert max(row["ours_residual"], row["scalings_residual"]) < 1e-8
        assert row["ours_nats"] < row["scalings_nats"] + 1e-6  # eps only adds
    assert [row["letters"] for row in figures["sizes"]] == [16]
    assert "| speedup |" in (tmp_path / "bench.md").read_text()
