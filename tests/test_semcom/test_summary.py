"""Folders that are no full grid are tabulated, drawn and reported as far as they go."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from toys import UNCODED, MeanSquaredError, pictures

from channels import AWGN
from semcom.errors import InvalidOption
from semcom.results import ResultStore
from semcom.summary import RECORDS, figures, gaps, report, table
from semcom.sweep import Sweep, run

PSNR, SWD = MeanSquaredError("psnr_db"), MeanSquaredError("swd")  # under the names that figures know
SWEEP = Sweep((UNCODED,), (AWGN(),), pictures(2), (0.0, 10.0), ("1/2",), (PSNR, SWD))
OTHER = replace(UNCODED, name="other")

RAGGED = {
    "other SNRs at another rho": (
        replace(SWEEP, snr_db=(0.0, 5.0, 10.0)),
        replace(SWEEP, snr_db=(1.0, 4.0, 7.0), rho=("1",)),
    ),
    "a scheme without a metric": (SWEEP, replace(SWEEP, schemes=(OTHER,), metrics=(PSNR,))),
    "a metric that came later": (
        replace(SWEEP, snr_db=(0.0, 5.0), metrics=(PSNR,)),
        replace(SWEEP, snr_db=(10.0,)),
    ),
}
DRAWN = {
    "other SNRs at another rho": {
        *("psnr_db-awgn-1_2", "psnr_db-awgn-1", "swd-awgn-1_2", "swd-awgn-1"),
        *("psnr_db-swd-awgn-1_2-5dB", "psnr_db-swd-awgn-1-4dB"),
    },
    "a scheme without a metric": {"psnr_db-awgn-1_2", "swd-awgn-1_2", "psnr_db-swd-awgn-1_2-10dB"},
    "a metric that came later": {"psnr_db-awgn-1_2"},
}


def conducted(sweeps: Sequence[Sweep], folder: Path):
    """All records of sweeps into one folder."""
    with ResultStore(folder / RECORDS) as store:
        for sweep in sweeps:
            for _ in run(sweep, store):
                pass
        return store.frame()


@pytest.mark.parametrize("case", RAGGED)
def test_what_is_no_full_grid_is_drawn_and_reported(case: str, tmp_path: Path) -> None:
    records = conducted(RAGGED[case], tmp_path)
    assert set(figures(records)) == DRAWN[case]
    assert len(table(records)) == len(records) / 2
    page = report(tmp_path, tmp_path / "report.html", case).read_text()
    assert page.count("data:image/svg+xml") == len(DRAWN[case])


def test_only_schemes_with_the_metric_are_drawn(tmp_path: Path) -> None:
    drawn = figures(conducted(RAGGED["a scheme without a metric"], tmp_path))
    for name in DRAWN["a scheme without a metric"]:
        named = [text.get_text() for text in drawn[name].legends[0].get_texts()]
        assert len(named) == (2 if name == "psnr_db-awgn-1_2" else 1)


def test_metric_that_came_later_is_left_out_with_a_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = conducted(RAGGED["a metric that came later"], tmp_path)
    (gap,) = gaps(records)
    assert (gap.metric, gap.scheme, gap.channel) == ("swd", "uncoded", "awgn")
    assert "swd of uncoded on awgn" in gap.sentence
    assert "run the sweep again with it" in gap.sentence
    assert list(table(records).filter(like="Wasserstein")) == []
    assert gap.sentence in report(tmp_path, tmp_path / "report.html", "Later").read_text()
    assert caplog.messages == [gap.sentence]


def test_gap_of_one_scheme_leaves_the_others(tmp_path: Path) -> None:
    sweeps = (*RAGGED["a metric that came later"], replace(SWEEP, schemes=(OTHER,)))
    records = conducted(sweeps, tmp_path)
    assert "swd-awgn-1_2" in figures(records)
    rows = table(records, brief=True)
    assert set(rows.loc[rows["SWD"] != "", "scheme"]) == {"other"}


def test_snr_that_no_record_has_is_refused(tmp_path: Path) -> None:
    records = conducted(RAGGED["other SNRs at another rho"], tmp_path)
    assert "psnr_db-swd-awgn-1-4dB" in figures(records, snr_db=(4.0,))
    with pytest.raises(InvalidOption, match=r"no records with snr_db = 3; there are 0, 1, 4, 5, 7, 10"):
        figures(records, snr_db=(4.0, 3.0))


def test_one_picture_has_a_mean_and_no_interval(tmp_path: Path) -> None:
    records = conducted((replace(SWEEP, items=pictures(1)),), tmp_path)
    shown = table(records)
    assert all(float(mean) >= 0 for mean in shown["PSNR (dB) ↑"])
    assert (
        "nan"
        not in report(tmp_path, tmp_path / "report.html", "One picture").read_text().split("data:image")[0]
    )


def test_every_version_that_made_records_is_named_once(tmp_path: Path) -> None:
    conducted((SWEEP,), tmp_path)
    with ResultStore(tmp_path / RECORDS) as store:
        for commit in ("0ld", "0ld", "n3w"):
            store.begin({"command": "semcom sweep", "commit": commit}, {}, {}, {})
    page = report(tmp_path, tmp_path / "report.html", "Two versions").read_text()
    assert page.count("Run: command semcom sweep, commit 0ld") == 1
    assert page.count("Run: command semcom sweep, commit n3w") == 1


def test_a_point_without_a_curve_has_a_figure_of_its_schemes(tmp_path: Path) -> None:
    records = conducted((replace(SWEEP, schemes=(UNCODED, OTHER), snr_db=(5.0,)),), tmp_path)
    assert set(figures(records)) == {
        "psnr_db-awgn-1_2-5dB",
        "swd-awgn-1_2-5dB",
        "psnr_db-swd-awgn-1_2-5dB",
    }
    two = conducted((replace(SWEEP, snr_db=(5.0,), rho=("1/4", "1/2")),), tmp_path / "rho")
    assert "psnr_db-vs-rho-awgn-5dB" in figures(two)
    assert "psnr_db-awgn-1_2-5dB" not in figures(two)
