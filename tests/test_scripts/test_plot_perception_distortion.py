"""Planes from records, and the toy beside theory."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from semcom.errors import StoreError
from semcom.theory.perception_distortion import GaussianTradeoff

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "scripts" / "plot_perception_distortion.py"
SCHEMES = {  # name: PSNR, LPIPS
    "jscc": (30.0, 0.50),
    "jscc+ddrm:8:0.5": (29.8, 0.40),
    "jscc+ddrm:8": (29.0, 0.30),
    "codec": (28.0, 0.60),
}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, SCRIPT.stem, loaded)  # dataclasses look their module up
    spec.loader.exec_module(loaded)
    return loaded


def records(folder: Path) -> None:
    import pandas as pd

    rows = [
        {
            "scheme": name,
            "channel": "awgn",
            "rho": 1 / 48,
            "snr_db": 5.0,
            "item": f"item{i}",
            "outage": 0,
            "psnr_db": psnr_db + i,
            "lpips_squeeze": lpips,
        }
        for name, (psnr_db, lpips) in SCHEMES.items()
        for i in (-1, 1)
    ]
    folder.mkdir()
    pd.DataFrame(rows).to_csv(folder / "items.csv", index=False)


def test_planes_and_frontiers_from_the_records_of_a_sweep(tmp_path: Path, module: ModuleType) -> None:
    records(tmp_path / "sweep")
    out = tmp_path / "out"
    module.main(["--records", str(tmp_path / "sweep"), "--out", str(out)])
    assert (out / "plane_lpips_squeeze_awgn_rho-1-48_5dB.svg").stat().st_size > 1000
    table = (out / "table.md").read_text()
    frontier = "jscc (30.00, 0.5), jscc+ddrm:8:0.5 (29.80, 0.4), jscc+ddrm:8 (29.00, 0.3)"
    assert f"| awgn | 1/48 | 5 dB | {frontier} |" in table
    with pytest.raises(StoreError, match="run a sweep"):
        module.main(["--records", str(tmp_path / "nothing")])


def test_toy_is_as_theory_says(tmp_path: Path, module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Means and optimal transport to five standard errors; samples as well as 15 levels allow."""
    import pandas as pd

    small = {"PICTURES": 5, "SIDE": 48, "LEVELS": 15, "DDRM_SAMPLES": (1, 2), "DDRM_LEVELS": 10}
    for name, value in small.items():
        monkeypatch.setattr(module, name, value)
    module.main(["--toy", "--out", str(tmp_path)])
    frame = pd.read_csv(tmp_path / "toy.csv")
    assert "optimal transport, knob 1" in (tmp_path / "toy.md").read_text()
    assert (tmp_path / "toy.svg").stat().st_size > 1000
    theory = GaussianTradeoff.observed(module.toy_covariance(), np.eye(12), 1.0)

    def check(scheme: str, mse: float, w2: float, bias: float) -> None:
        rows = frame[frame.scheme == scheme]
        for column, expected in (("mse", mse / 12), ("w2_squared", w2**2 / 12)):
            values = rows[column].to_numpy()
            error = values.std(ddof=1) / len(values) ** 0.5
            assert abs(values.mean() - expected) < 5 * error + bias

    check("toy+posterior:15:0", theory.least_mse, theory.largest_w2, 1e-4)
    for knob in (0.25, 0.5, 1.0):
        w2 = (1 - knob) * theory.largest_w2
        check(f"optimal transport, knob {knob:g}", float(theory.frontier_mse(w2)), w2, 1e-4)
        name = f"toy+posterior:15:{knob:g}".removesuffix(":1")
        check(name, theory.sample_mse(knob), theory.sample_w2(knob), 0.12 * knob)


def test_jackknife_takes_the_bias_of_few_samples(module: ModuleType) -> None:
    """W2 of two sets of one distribution: half of it is left, and of W2^2 nothing but chance."""
    rng = np.random.default_rng(0)

    def picture() -> object:
        r, x = rng.standard_normal((2, 64, 12))
        return module.Sums(64, ((r - x) ** 2).sum(), r.sum(0), r.T @ r, x.sum(0), x.T @ x)

    pictures = [picture() for _ in range(20)]
    total = pictures[0]
    for one in pictures[1:]:
        total = total.plus(one)
    squared = module.pseudo_values(pictures, module.Sums.squared_w2)
    assert total.squared_w2() > 5 * abs(squared.mean())
    assert module.pseudo_values(pictures, module.Sums.mse).mean() == pytest.approx(total.mse())
