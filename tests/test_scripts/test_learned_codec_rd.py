import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from semcom.statistics import bd_rate

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "scripts" / "learned_codec_rd.py"


@pytest.fixture
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("learned_codec_rd", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rates_of_curves_that_are_known(module: ModuleType) -> None:
    """20 percent fewer bits at every quality, and files that cost the anchor 25 percent more."""
    import pandas as pd

    rows = [
        {"codec": codec, "item": item, "setting": s, "psnr_db": 24 + s, "bpp": share * 0.05 * 1.25**s}
        for codec, share in (("jpeg", 1.0), ("learned", 0.8))
        for item in "ab"
        for s in range(16)
    ]
    records = pd.DataFrame(rows)
    records["bpp_file"] = records["bpp"] * records["codec"].map({"jpeg": 1.25, "learned": 1.0})
    records["encode_ms"] = records["decode_ms"] = 1.0
    assert module.rate_against(records, "learned", "jpeg", "bpp") == pytest.approx(-20, abs=0.1)
    assert module.rate_against(records, "learned", "jpeg", "bpp_file") == pytest.approx(-36, abs=0.1)
    assert "| jpeg | -20.0 % | -36.0 % |" in module.table(records)
    inside = records[records["bpp"].between(0.1, 1)].groupby(["codec", "setting"])[["bpp", "psnr_db"]].mean()
    jpeg, learned = inside.loc["jpeg"], inside.loc["learned"]
    assert bd_rate(jpeg.bpp, jpeg.psnr_db, learned.bpp, learned.psnr_db) == pytest.approx(-20, abs=0.1)


def test_measured_once(module: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pandas as pd
    from PIL import Image
    from skimage import data

    assert all(word in (module.__doc__ or "") for word in ("Run: ", "Cost: ", "Expect: ", SCRIPT.name))
    for left in (100, 228):
        Image.fromarray(data.astronaut()[:96, left : left + 128]).save(tmp_path / f"{left}.png")
    arguments = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--codecs", "jpeg,learned"]
    module.main(arguments)
    first = capsys.readouterr()
    records = pd.read_csv(tmp_path / "out" / "learned.csv")
    assert len(records) == 2 * len(module.LADDERS["learned"])
    assert (records["bpp"] == records["bpp_file"]).all()
    jpeg = pd.read_csv(tmp_path / "out" / "jpeg.csv")
    assert (jpeg["bpp_file"] > jpeg["bpp"]).all()
    assert (tmp_path / "out" / "table.md").read_text() in first.out
    assert (tmp_path / "out" / "rate_distortion.svg").stat().st_size > 1000
    module.main(arguments)
    second = capsys.readouterr()
    assert second.out == first.out
    assert "csv" in first.err
    assert "csv" not in second.err
