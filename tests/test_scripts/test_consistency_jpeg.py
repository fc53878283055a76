import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from toys import pictures

from semcom.data import to_picture

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "scripts" / "consistency_jpeg.py"


@pytest.fixture
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("consistency_jpeg", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_experiment_on_toys(module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    monkeypatch.setattr(module, "RHO", ("1/48", "1/6"))
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for item in pictures(2, side=72):
        to_picture(item.x).save(data / f"{item.id}.png")
    names = [module.SOURCE + receiver for receiver in ("", "+ddrm:1", "+consistency:1")]
    arguments = ["--data", data, "--out", out, "--schemes", ",".join(names), "--metrics", "psnr_db"]
    module.main([str(argument) for argument in arguments])

    rows = pd.read_csv(out / "items.csv")
    assert len(rows) == 2 * 2 * 3
    assert not rows["outage"].any()
    assert (rows.query("rho < 0.1")["scale"] > 1).all()  # reduced pictures, and whole ones
    assert (rows.query("rho > 0.1")["scale"] == 1).all()
    refined = rows.groupby("scheme")["outside_ppm"].max()
    assert refined[names[2]] == 0
    assert refined[names[1]] > 0
    assert f"| {names[2]} | 0 (0 to 0) | 0 (0 to 0) |" in (out / "table.md").read_text()
    assert {"command", "commit", "pillow jpg"} <= set(json.loads((out / "run.json").read_text()))
