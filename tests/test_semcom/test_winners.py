"""Winners of hand-made records are those that were put in, and nothing is called better that is not."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

from semcom.columns import Column
from semcom.winners import facets, standings

if TYPE_CHECKING:
    import pandas as pd

PSNR, LPIPS = Column("psnr_db", "dB", True), Column("lpips", "", False)
DIGITAL, TWIN, KNOWING = "avif+ldpc:mcs6", "jpeg+ldpc:mcs6", "avif+ldpc:csit-average"
ANALOG, HYBRID, REFINED, BOUND = "softcast", "hybrid:avif:mcs6:softcast", "softcast+ddrm:8", "avif+ideal"


def frame(
    values: Mapping[str, Sequence[float]],
    metric: str = "psnr_db",
    lost: Sequence[str] = (),
    snr_db: float = 0.0,
    rho: float = 1 / 48,
) -> "pd.DataFrame":
    """Records at one point: name of a scheme to its metric, item by item."""
    import pandas as pd

    return pd.DataFrame(
        {
            **{"scheme": scheme, "channel": "awgn", "rho": rho, "snr_db": snr_db, "item": f"i{i}", "seed": 0},
            **{"outage": int(scheme in lost), metric: value},
        }
        for scheme, numbers in values.items()
        for i, value in enumerate(numbers)
    )


def concat(frames) -> "pd.DataFrame":
    import pandas as pd

    return pd.concat(frames)


def only(records: "pd.DataFrame", column: Column = PSNR, csit: str | None = None):
    (standing,) = standings(records, column, csit)
    return standing


def test_best_and_its_lead_over_another_family() -> None:
    values = {DIGITAL: [30, 32, 28, 31.0], TWIN: [29.9, 31.9, 27.9, 30.9], ANALOG: [28, 30.2, 26.1, 28.7]}
    standing = only(frame(values))
    assert standing.best == (DIGITAL,)
    assert standing.mean == pytest.approx(30.25)
    assert (standing.items, standing.schemes) == (4, 3)
    assert standing.rival is not None
    assert standing.rival.over == ANALOG
    assert standing.rival.interval.mean == pytest.approx(2.0)
    assert standing.rival.significant
    assert standing.second is not None
    assert standing.second.over == TWIN
    assert standing.second.interval.mean == pytest.approx(0.1)


def test_lead_is_positive_where_lower_is_better() -> None:
    standing = only(frame({DIGITAL: [0.5, 0.6, 0.55], ANALOG: [0.3, 0.41, 0.35]}, "lpips"), LPIPS)
    assert standing.best == (ANALOG,)
    assert standing.rival is not None
    assert standing.rival.interval.mean == pytest.approx(0.59 / 3)
    assert standing.rival.significant


def test_lead_is_not_significant_where_the_paired_interval_holds_zero() -> None:
    standing = only(frame({DIGITAL: [30, 32, 28, 31.0], ANALOG: [31, 30, 29, 30.0]}))
    assert standing.best == (DIGITAL,)
    assert standing.rival is not None
    assert not standing.rival.significant
    assert standing.rival.interval.low < 0 < standing.rival.interval.high


def test_pairing_finds_what_separate_intervals_hide() -> None:
    """Items differ by 20 dB, schemes by about half a decibel for each item."""
    standing = only(frame({DIGITAL: [20.5, 30.6, 40.4], ANALOG: [20, 30, 40.0]}))
    assert standing.rival is not None
    assert standing.rival.significant


def test_one_item_shows_nothing_to_be_significant() -> None:
    standing = only(frame({DIGITAL: [30.0], ANALOG: [20.0]}))
    assert standing.rival is not None
    assert standing.rival.interval.mean == 10
    assert not standing.rival.significant


def test_equal_means_are_ties_and_within_a_family_the_lead_stands() -> None:
    standing = only(frame({TWIN: [30, 31.0], DIGITAL: [31, 30.0], ANALOG: [20, 21.0]}))
    assert standing.best == (DIGITAL, TWIN)
    assert standing.rival is not None
    assert standing.rival.interval.mean == pytest.approx(10)
    across = only(frame({ANALOG: [30, 31.0], DIGITAL: [30, 31.0]}))
    assert across.best == (DIGITAL, ANALOG)
    assert across.rival is not None
    assert across.rival.interval.mean == 0
    assert not across.rival.significant


def test_bounds_do_not_win() -> None:
    standing = only(frame({BOUND: [40.0, 41.0], ANALOG: [20.0, 21.0]}))
    assert standing.best == (ANALOG,)
    assert standing.rival is None
    assert standing.second is None
    assert standings(frame({BOUND: [40.0]}), PSNR) == []


def test_facets_keep_apart_what_transmitters_know() -> None:
    records = frame({KNOWING: [40, 41.0], DIGITAL: [30, 31.0], ANALOG: [29, 29.5], "theirs": [50, 51.0]})
    assert facets(records) == ["none", "average", ""]
    assert facets(frame({ANALOG: [1.0], BOUND: [2.0]})) == ["none"]
    found = {csit: only(records, csit=csit).best for csit in facets(records)}
    assert found == {"none": (DIGITAL,), "average": (KNOWING,), "": ("theirs",)}
    assert only(records, csit="average").rival is None


def test_everything_lost_is_told() -> None:
    both = frame({DIGITAL: [8, 9.0], ANALOG: [8, 9.0]}, lost=(DIGITAL, ANALOG))
    assert only(both).all_lost
    assert not only(frame({DIGITAL: [8, 9.0], ANALOG: [8, 9.5]}, lost=(DIGITAL,))).all_lost


def test_schemes_are_compared_on_the_same_items() -> None:
    """An interrupted scheme has measured the easiest item only."""
    whole = {DIGITAL: [30, 20, 21.0], ANALOG: [29, 19.5, 19.8]}
    standing = only(concat([frame(whole), frame({HYBRID: [29.5]})]))
    assert standing.best == (DIGITAL,)
    assert (standing.items, standing.schemes) == (3, 2)
    more = frame({ANALOG: [50, 50, 50.0]}).assign(seed=1)  # seeds that others lack
    standing = only(concat([frame({**whole, HYBRID: [28, 19, 20.0]}), more]))
    assert standing.best == (DIGITAL,)
    assert standing.schemes == 3


def test_values_that_are_missing_or_infinite_are_no_values() -> None:
    records = frame({DIGITAL: [30, float("inf"), 31.0], ANALOG: [29, 28, float("nan")]})
    standing = only(records)
    assert (standing.best, standing.items, standing.schemes) == ((DIGITAL,), 1, 2)
    assert standings(records.assign(psnr_db=float("nan")), PSNR) == []


def test_one_standing_per_point_and_none_without_direction() -> None:
    records = concat(
        frame({DIGITAL: [30, 31.0], ANALOG: [29, 30.5]}, snr_db=snr, rho=rho)
        for snr in (0.0, 5.0)
        for rho in (1 / 12, 1 / 48)
    )
    points = [(found.rho, found.snr_db) for found in standings(records, PSNR)]
    assert points == [(1 / 48, 0.0), (1 / 48, 5.0), (1 / 12, 0.0), (1 / 12, 5.0)]
    assert standings(records, Column("psnr_db")) == []


def test_generative_receivers_are_a_family() -> None:
    standing = only(frame({REFINED: [30, 31.0], ANALOG: [29, 29.9]}))
    assert standing.rival is not None
    assert standing.rival.over == ANALOG
