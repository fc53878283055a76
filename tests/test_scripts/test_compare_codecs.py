import importlib.util
from pathlib import Path

import pytest
from toys import pictures

from semcom.codecs import FORMATS
from semcom.data import to_picture

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "scripts" / "compare_codecs.py"


def test_rates_and_distortions_of_all_codecs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pandas as pd

    spec = importlib.util.spec_from_file_location("compare_codecs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert all(word in (module.__doc__ or "") for word in ("Run: ", "Cost: ", "Expect: ", SCRIPT.name))
    for item in pictures(2, side=64):
        to_picture(item.x).save(tmp_path / f"{item.id}.png")
    out = tmp_path / "out"
    module.main(["--data", str(tmp_path), "--out", str(out), "--bpp", "0.005,1,3"])

    records = pd.read_csv(out / "records.csv")
    assert set(records["codec"]) == {format.name for format in FORMATS}
    assert (records["bpp"] <= records["bpp_allowed"]).all()
    assert (records["container_bytes"] > 0).all()
    assert not (records["bpp_allowed"] == 0.005).any()  # 20 bits: too few for anything
    mean = records.query("codec == 'avif' and bpp_allowed == 3").psnr_db.mean()
    table = (out / "table.md").read_text()
    assert f"{mean:.2f}" in table
    assert table in capsys.readouterr().out
    assert (out / "rate_distortion.png").stat().st_size > 1000
