import json
from importlib import import_module
from pathlib import Path

import pytest
from script_modules import SCRIPTS, script
from toys import pictures

from semcom.data import to_picture
from semcom.results import TIMING, ResultStore

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        (
            "sweep_snr",
            "psnr_db_rayleigh-64_rho-1-12.svg",
        ),
        ("sweep_bandwidth", "psnr_db_awgn_10dB.svg"),
        ("sweep_perception", "plane_swd_rho-1-12_10dB.svg"),
        ("sweep_perception", "strip_10dB.jpg"),
        ("sweep_receivers", "plane_swd_rho-1-12_10dB.svg"),
    ],
)
def test_experiment_on_toys(name: str, figure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    module = script(name)
    monkeypatch.setattr(module, "RHO", ("1/12",))
    monkeypatch.setattr(module, "SNR_DB", (10.0,))
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for item in pictures(2, side=64):
        to_picture(item.x).save(data / f"{item.id}.png")
    arguments = ["--data", data, "--out", out, "--schemes", "softcast,jpeg+ldpc:mcs8", "--seeds", 2]
    arguments += ["--metrics", "psnr_db,swd"]
    module.main([str(argument) for argument in arguments])

    with ResultStore(out / "records.sqlite", read_only=True) as store:
        records = store.frame()
    assert len(records.query("channel == 'awgn'")) == 2 * 2 * 2  # schemes, items, seeds
    pd.testing.assert_frame_equal(pd.read_parquet(out / "records.parquet"), records)
    items = pd.read_csv(out / "items.csv")
    assert len(items.query("channel == 'awgn'")) == 2 * 2
    about = json.loads((out / "run.json").read_text())
    assert set(about["schemes"]) == {"softcast", "jpeg+ldpc:mcs8"}
    assert {"command", "commit", "torch", "device"} <= set(about["runs"][0])
    table = (out / "table.md").read_text()
    assert "## psnr_db, awgn, " in table
    mean = items.query("channel == 'awgn' and scheme == 'softcast'").psnr_db.mean()
    assert f"{mean:.4g} (" in table
    assert (out / figure).stat().st_size > 1000


def test_both_kodak_experiments_in_one_pass_are_the_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    monkeypatch.syspath_prepend(SCRIPTS)
    both, by_snr, by_rho = (import_module(f"sweep_{name}") for name in ("kodak", "snr", "bandwidth"))
    for module, rho, snr_db in ((by_snr, ("1/12", "1/48"), (3.0, 10.0)), (by_rho, ("1/6", "1/12"), (10.0,))):
        monkeypatch.setattr(module, "RHO", rho)
        monkeypatch.setattr(module, "SNR_DB", snr_db)
    data = tmp_path / "data"
    data.mkdir()
    for item in pictures(2, side=64):
        to_picture(item.x).save(data / f"{item.id}.png")
    arguments = ["--data", str(data), "--schemes", "softcast,jpeg+ldpc:mcs8", "--metrics", "psnr_db"]
    both.main([*arguments, "--out", str(tmp_path / "both")])
    for module, name in ((by_snr, "sweep_snr"), (by_rho, "sweep_bandwidth")):
        module.main([*arguments, "--out", str(tmp_path / name)])
        found = []
        for folder in (tmp_path / "both" / name, tmp_path / name):
            with ResultStore(folder / "records.sqlite", read_only=True) as store:
                found.append(store.frame().drop(columns=list(TIMING)))
        assert len(found[0]) == 2 * 2 * len(module.CHANNELS) * len(module.RHO) * len(module.SNR_DB)
        pd.testing.assert_frame_equal(*found)


@pytest.mark.parametrize(
    "name",
    [
        "sweep_snr",
        "sweep_bandwidth",
        "sweep_kodak",
        "sweep_fading",
        "sweep_perception",
        "compare_swinjscc",
        "bench_sweep",
        "bench_ldpc",
        "bench_link",
        "compare_ldpc_sionna",
        "make_bler_curves",
    ],
)
def test_header_says_what_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)  # scripts import each other
    doc = script(name).__doc__
    assert doc is not None
    assert all(word in doc for word in ("Run: ", "Cost: ", "Expect: ", f"scripts/{name}.py"))


def test_bench_ends_with_its_figures_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    script("bench_sweep").main(["--schemes", "softcast", "--photos", "1", "--side", "64"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(figures) == {"images_per_s", "overhead_share"}
    assert figures["images_per_s"] > 0
    assert 0 < figures["overhead_share"] < 1


@pytest.mark.parametrize(
    ("name", "cases"),
    [("bench_link", ((200, 10, 12.0, 20), (200, 6, -20.0, 5))), ("bench_ldpc", ((100, 200, 8.0, 20),))],
)
def test_benches_measure_other_checkouts_in_turns(
    name: str, cases: tuple[object, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each round asks every checkout once, one after the other, and medians of the rounds are shown."""
    monkeypatch.syspath_prepend(SCRIPTS)
    module = script(name)
    monkeypatch.setattr(module, "CASES", cases)
    measured = module.measure()
    assert len(measured) == len(cases)
    assert all(value >= 0 for row in measured for value in row.values())
    if name == "bench_link":
        assert [row["lost"] for row in measured] == [0.0, 1.0]
    asked: list[Path] = []

    def in_checkout(folder: Path, measuring: Path = Path(str(module.__file__))) -> list[dict[str, float]]:
        assert measuring == Path(str(module.__file__))
        asked.append(folder)
        return [{key: len(asked) if "lost" not in key else 0.0 for key in row} for row in measured]

    monkeypatch.setattr(module, "in_checkout", in_checkout)
    module.main(["--against", "elsewhere", "--rounds", "3"])
    here = Path(str(module.__file__)).parents[1]
    assert asked == [Path("elsewhere").resolve(), here] * 3
    figures = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(figures)
    for median in (3, 4):  # of 1, 3, 5 and 2, 4, 6
        assert f"{median}" in figures


def test_hybrids_beside_their_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tables are there; a hybrid's gain is that of the records."""
    import pandas as pd

    module = script("sweep_hybrid")
    for name, value in {"RHO": ("1/6", "1/3"), "WHOLE": "1/3", "HALF": "1/6", "SNR_DB": (5.0, 10.0)}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "DIGITAL", "jpeg+ldpc:mcs6")
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for item in pictures(2, side=64):
        to_picture(item.x).save(data / f"{item.id}.png")
    hybrid = "hybrid:jpeg:mcs6:softcast-residual"
    names = f"jpeg+ldpc:mcs6,softcast,deepjscc,{hybrid}"
    module.main(["--data", str(data), "--out", str(out), "--schemes", names, "--metrics", "psnr_db"])
    table = (out / "table.md").read_text()
    items = pd.read_csv(out / "items.csv").query("snr_db == 10")
    mean = items.groupby(["scheme", items.rho.round(3)]).psnr_db.mean()
    gain = mean[hybrid, 0.333] - max(mean["jpeg+ldpc:mcs6", 0.167], mean["softcast", 0.167])
    assert f"{gain:+.2f} (" in table
    assert (out / "psnr_db.svg").stat().st_size > 1000
    monkeypatch.setattr(module, "SAVED_AT_DB", (10.0,))
    records = pd.read_parquet(out / "records.parquet")
    savings = module.savings(records.assign(loss=-records.psnr_db), "softcast", "loss")
    assert "| softcast | 1.00 (1.00 to 1.00) |" in savings


def test_a_search_of_hybrids_names_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for item in pictures(2, side=64):
        to_picture(item.x).save(data / f"{item.id}.png")
    arguments = ["--data", data, "--out", out, "--side", 64, "--codecs", "jpeg", "--links", "mcs3"]
    arguments += ["--analogs", "softcast-residual", "--shares", "0.3,0.6", "--rho", "1/4", "--snr", "10"]
    monkeypatch.setattr("sys.argv", ["search_hybrid.py", *map(str, arguments)])
    script("search_hybrid").main()
    table = (out / "table.md").read_text().splitlines()
    assert table[0].endswith("| jpeg+ldpc:mcs3 | softcast |")
    assert table[2].startswith("| 1/4 | 10 | hybrid:jpeg:mcs3:softcast-residual:0.")


def test_winners_are_measured_drawn_and_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = script("winners")
    monkeypatch.setattr(module, "SNR_DB", (0.0, 10.0))
    monkeypatch.setattr(module, "METRICS", ("psnr_db", "swd"))
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for item in pictures(3, side=64):
        to_picture(item.x).save(data / f"{item.id}.png")
    common = ["--data", str(data), "--out", str(out), "--rho", "1/12,1/6"]
    common += ["--schemes", "softcast,jpeg+ldpc:mcs8,softcast:csit-average"]
    module.main([*common, "--photos", "2"])
    assert "48 records" in capsys.readouterr().out  # schemes, channels, items, SNRs, rho
    maps = {
        f"winners-{metric}-{channel}.svg"
        for metric in ("psnr_db", "swd")
        for channel in ("awgn", "rayleigh_64")
    }
    assert maps <= {path.name for path in out.iterdir()}
    table = (out / "table.md").read_text()
    assert table.count("## psnr_db, awgn, transmitter ") == 2
    assert " on softcast |" in table or " on jpeg+ldpc:mcs8 |" in table
    module.main([*common, "--estimate"])
    said = capsys.readouterr().out
    assert "softcast: 8 records of" in said
    assert "together:" in said


def test_records_before_and_after_are_paired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two items gain 1 and 3 dB, over two seeds each; a third one is only in the second file."""
    head = "scheme,channel,rho,snr_db,item,psnr_db"
    before = [f"x,awgn,0.0833333,5,{item},{psnr_db}" for item in "ab" for psnr_db in (20, 22)]
    after = [
        f"x,awgn,0.08333333333,5,{item},{psnr_db}" for item, psnr_db in zip("abc", (22, 24, 9), strict=True)
    ]
    for name, rows in (("before", before), ("after", after)):
        (tmp_path / f"{name}.csv").write_text("\n".join([head, *rows]) + "\n")
    script("compare_records").main([str(tmp_path / "before.csv"), str(tmp_path / "after.csv")])
    shown = capsys.readouterr().out
    assert "2 rows are in both files, 0 only before, 1 only after." in shown
    assert "| x | awgn | 2 | psnr_db | 21 | 23 | +2.0000 (" in shown
    assert "| +3.0000 |" in shown
