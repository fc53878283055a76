"""Unit and direction of any metric, of another package too, reach report, figures, tables and exports."""

import json
import re
import sqlite3
from pathlib import Path

import pytest
from toys import pictures

from semcom import names
from semcom.cli import main
from semcom.columns import Column
from semcom.data import to_picture
from semcom.errors import InvalidOption
from semcom.experiment import difference_table
from semcom.metrics.catalogue import SHIPPED_COLUMNS, metrics_of
from semcom.plots import column_label, frontier_schemes, metric_vs_rho, metric_vs_snr, perception_distortion
from semcom.results import ResultStore
from semcom.statistics import best_points, summarise
from semcom.summary import RECORDS, figures, measured, report, table

MODULE = """
from dataclasses import dataclass


@dataclass(frozen=True)
class LostSharpness:
    name: str = "lost_sharpness"
    unit: str = "lines"
    higher_is_better: bool = False

    def fits(self, shape):
        return True

    def __call__(self, x_hat, x):
        return 5000 * (x_hat.diff(dim=3) - x.diff(dim=3)).abs().mean().item()


SHARPNESS = LostSharpness()
WITHOUT_UNIT = 3
"""
NAME = "lost_sharpness"
COLUMN = Column(NAME, "lines", False)
LABEL = "lost_sharpness (lines)"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep with a metric of another package, from the command line."""
    folder = tmp_path_factory.mktemp("columns")
    (folder / "mypackage").mkdir()
    (folder / "mypackage" / "module.py").write_text(MODULE)
    (folder / "photos").mkdir()
    for item in pictures(2, 32):
        to_picture(item.x).save(folder / "photos" / f"{item.id}.png")
    command = (
        f"sweep --data {folder / 'photos'} --schemes softcast,jpeg+ldpc:mcs5 --snr 5,15 --rho 1/4,1/2 "
        f"--metrics psnr_db,mypackage.module:SHARPNESS --out {folder / 'results'}"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        assert main(command.split()) == 0
        with pytest.raises(InvalidOption, match="without name, unit, higher_is_better, fits"):
            names.metric("mypackage.module:WITHOUT_UNIT")
    return folder / "results"


@pytest.fixture
def records(results: Path):
    with ResultStore(results / RECORDS, read_only=True) as store:
        return store.frame()


@pytest.fixture
def columns(results: Path) -> dict[str, Column]:
    with ResultStore(results / RECORDS, read_only=True) as store:
        return store.columns()


def test_the_store_keeps_unit_and_direction(records, columns):
    assert columns == {"psnr_db": Column("psnr_db", "dB", True), NAME: COLUMN}
    assert measured(records, columns=columns) == ("psnr_db", NAME)
    assert measured(records) == ("psnr_db",)


def test_figures_have_its_label_and_direction(records, columns):
    drawn = figures(records, columns=columns)
    of_sharpness = [figure for name, figure in drawn.items() if name.startswith(NAME)]
    assert len(of_sharpness) == 2 + 1  # over SNR at two rho, over rho at one SNR
    for figure in of_sharpness:
        assert figure.axes[0].get_ylabel() == f"{LABEL}, lower is better"
    assert drawn["psnr_db-awgn-1_4"].axes[0].get_ylabel() == "PSNR (dB), higher is better"


def test_figures_without_a_known_direction_claim_none(records):
    for figure in (metric_vs_snr(records, NAME, "1/2", "awgn"), metric_vs_rho(records, NAME, 5.0, "awgn")):
        assert figure.axes[0].get_ylabel() == NAME
    plane = perception_distortion(records, "1/2", 5.0, "awgn", perception=NAME)
    assert not [text for text in plane.axes[0].texts if "better" in text.get_text()]


@pytest.mark.parametrize(("higher", "arrow"), [(True, "↗"), (False, "↘")])
def test_planes_point_to_the_better_corner(records, columns, higher, arrow):
    turned = {**columns, NAME: Column(NAME, "lines", higher)}
    plane = perception_distortion(records, "1/2", 5.0, "awgn", perception=NAME, frontier=True, columns=turned)
    assert f"better {arrow}" in [text.get_text() for text in plane.axes[0].texts]
    means = {
        m: summarise(records, m).query("rho == 0.5 and snr_db == 5").set_index("scheme")["mean"]
        for m in turned
    }
    first = means["psnr_db"].idxmax()
    best = means[NAME].idxmax() if higher else means[NAME].idxmin()
    frontier = frontier_schemes(records, "1/2", 5.0, "awgn", perception=NAME, columns=turned)
    assert frontier == list(dict.fromkeys([first, best]))
    with pytest.raises(InvalidOption, match=f"a frontier of {NAME}"):
        frontier_schemes(records, "1/2", 5.0, "awgn", perception=NAME)


def bold_schemes(page: str, column: int) -> list[str]:
    """Schemes whose cell in a column is bold, row by row."""
    rows = re.findall(r"<tr[^>]*>(<th scope=\"row\">.*?)</tr>", page)
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows]
    return [re.sub("<[^>]*>", "", row[0]) for row in cells if row[column].startswith("<b>")]


def test_the_report_has_it_and_marks_the_lower_as_better(results, records, tmp_path):
    page = report(results, tmp_path / "report.html", "Sharpness").read_text()
    heads = re.findall(r"<th scope=\"col\"[^>]*>(.*?)</th>", page)
    assert heads[:5] == ["scheme", "rho", "SNR dB", "PSNR (dB) ↑", f"{LABEL} ↓"]  # the channel is one
    assert page.count("data:image/svg+xml") == 6 + 2  # with maps of winners
    assert f"lowest {NAME}" in re.sub("<[^>]*>", "", page)
    for index, (metric, better) in enumerate({"psnr_db": "idxmax", NAME: "idxmin"}.items()):
        points = summarise(records, metric).set_index("scheme").groupby(["rho", "snr_db"])["mean"]
        assert bold_schemes(page, 3 + index) == points.agg(better).tolist()


def test_the_command_line_draws_reports_and_exports_it(results, tmp_path, capsys):
    import pandas as pd

    commands = (
        f"plot {results} --out {tmp_path / 'figures'}",
        f"plot {results} --winners --metrics {NAME} --out {tmp_path / 'maps'}",
        f"report {results} --out {tmp_path / 'report.html'}",
        *(
            f"export {results} --format {form} --out {tmp_path / form}.{form}"
            for form in ("csv", "parquet", "json")
        ),
    )
    for command in commands:
        assert main(command.split()) == 0
    assert (tmp_path / "figures" / f"{NAME}-awgn-1_2.svg").is_file()
    assert [path.name for path in sorted((tmp_path / "maps").iterdir())] == [
        f"winners-{NAME}-awgn.png",
        f"winners-{NAME}-awgn.svg",
    ]
    assert main(f"plot {results} --winners --snr 5 --out {tmp_path / 'maps'}".split()) == 2
    assert LABEL in (tmp_path / "report.html").read_text()
    assert NAME in pd.read_csv(tmp_path / "csv.csv").columns
    for form in ("csv", "parquet", "json"):
        about = json.loads((tmp_path / f"{form}.metrics.json").read_text())
        assert about == {
            "psnr_db": {"unit": "dB", "higher_is_better": True},
            NAME: {"unit": "lines", "higher_is_better": False},
        }


def test_stores_of_earlier_versions_know_the_metrics_of_this_package(results, tmp_path):
    path = tmp_path / RECORDS
    path.write_bytes((results / RECORDS).read_bytes())
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE columns")
    db.close()
    with ResultStore(path, read_only=True) as store:
        columns, records = store.columns(), store.frame()
    assert columns == {"psnr_db": SHIPPED_COLUMNS["psnr_db"], NAME: Column(NAME)}
    shown = table(records, columns=columns)
    assert [head for head in shown.columns if head.startswith((NAME, "PSNR"))] == ["PSNR (dB) ↑", NAME]
    page = report(tmp_path, tmp_path / "report.html", "Old").read_text()
    assert bold_schemes(page, 3)
    assert not bold_schemes(page, 4)
    with ResultStore(path) as store:
        store.begin({}, {}, {}, {}, [COLUMN])
        assert store.columns()[NAME] == COLUMN


def test_the_best_of_a_point():
    import pandas as pd

    points = pd.DataFrame(
        {
            "channel": "awgn",
            "rho": 0.5,
            "snr_db": [0.0, 0.0, 0.0, 5.0, 10.0, 10.0, 15.0, 15.0, 15.0],
            "scheme": list("abcaababc"),
            "mean": [1.0, 3.0, 2.0, 1.0, 4.0, 4.0, 6.0, 6.0, 5.0],
        }
    )
    none = [False] * 3  # one scheme alone, and two that are equal
    assert best_points(points, True).tolist() == [False, True, False, *none, True, True, False]
    assert best_points(points, False).tolist() == [True, False, False, *none, False, False, True]
    assert not best_points(points, None).any()


def test_differences_are_in_the_unit_of_the_metric(records):
    """In dB where the metric is in dB, whatever its name; else in percent."""
    in_db = {NAME: Column(NAME, "dB", False)}
    assert " dB" in difference_table(records, "softcast", [NAME], in_db)
    assert " %" in difference_table(records, "softcast", [NAME])


def test_columns_of_this_package():
    for modality in ("image", "video", "text"):
        for metric in metrics_of(modality):
            assert SHIPPED_COLUMNS[metric.name].higher_is_better == metric.higher_is_better
    labels = [column_label(column) for column in SHIPPED_COLUMNS.values()]
    assert labels[0] == "PSNR (dB)"
    assert len(set(labels)) == len(labels)
