import importlib.util
import json
from pathlib import Path

import pytest
from toys import pictures

from semcom.data import to_picture

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "scripts" / "data_hiding.py"


def test_records_of_all_methods_and_what_is_made_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    spec = importlib.util.spec_from_file_location("data_hiding_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert all(word in (module.__doc__ or "") for word in ("Run: ", "Cost: ", "Expect: ", SCRIPT.name))
    for item in pictures(2, side=48):
        to_picture(item.x).save(tmp_path / f"{item.id}.png")
    monkeypatch.setattr(module, "BPP", (0.1, 8.0))
    out = tmp_path / "out"
    arguments = ["--data", str(tmp_path), "--out", str(out)]
    module.main([*arguments, "--items", "1", "--modes", "grey"])
    module.main(arguments)

    records = pd.read_csv(out / "records.csv")
    assert len(records) == 2 * 2 * 2 * len(module.methods())
    assert not records.duplicated(["item", "mode", "bpp", "method"]).any()
    assert not records[records["bpp"] == 8]["fits"].any()
    fitting = records[records["fits"]]
    assert set(fitting["method"]) >= {"recursive", "recursive, KL"}
    assert (fitting["bit_exact"].astype(str) == "True").all()
    assert fitting["net_bpp"].to_numpy() == pytest.approx(0.1, rel=0.02)
    table = (out / "table.md").read_text()
    assert "colour" in table
    assert "0 of 2" in table
    assert "| colour | 0.1 | " in table
    assert json.loads((out / "run.json").read_text())
    assert (out / "data_hiding.svg").stat().st_size > 1000
    assert "32 records" in capsys.readouterr().out
