"""Maps of winners: cells have the colour, the lead and the hatch that the records ask for."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from semcom.columns import Column
from semcom.errors import InvalidOption, UnknownName
from semcom.maps import HATCH, LOST, winner_map
from semcom.plots import figure_bytes, scheme_styles
from semcom.summary import winner_maps

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FIXED, ADAPTED, KNOWING = "avif+ldpc:mcs6", "avif+ldpc:csit-average", "softcast:csit-average"
ANALOG, REFINED = "softcast", "softcast+ddrm:8"
SNRS, RHOS = (0.0, 10.0), (1 / 12, 1 / 48)


def records(
    value: Callable[[str, float, float, int], float | None],
    schemes=(FIXED, ANALOG),
    lost: Callable[[str, float, float], bool] = lambda scheme, snr, rho: False,
    items: int = 4,
) -> "pd.DataFrame":
    """Records of a plane; `value(scheme, snr, rho, item)` is the PSNR, None where there is no record."""
    import pandas as pd

    rows = [
        {
            **{"scheme": scheme, "channel": "awgn", "rho": rho, "snr_db": snr, "item": f"i{i}", "seed": 0},
            **{"outage": int(lost(scheme, snr, rho)), "psnr_db": number, "modality": "image"},
        }
        for scheme in schemes
        for snr in SNRS
        for rho in RHOS
        for i in range(items)
        if (number := value(scheme, snr, rho, i)) is not None
    ]
    return pd.DataFrame(rows)


def cells(figure: "Figure", panel: int = 0) -> dict[tuple[int, int], tuple[str, str, bool]]:
    """Column and row of a cell to its colour without white, its words, and whether it is hatched."""
    from matplotlib.colors import to_hex

    axes = figure.axes[panel]
    words = {tuple(map(round, text.get_position())): text.get_text() for text in axes.texts}
    found: dict[tuple[int, int], tuple[str, str, bool]] = {}
    hatched = {place(patch) for patch in axes.patches if patch.get_hatch()}
    for patch in axes.patches:
        if not patch.get_hatch():
            here = place(patch)
            found[here] = (to_hex(patch.get_facecolor()), words.get(here, ""), here in hatched)
    return found


def place(patch: Any) -> tuple[int, int]:
    return round(patch.get_x() + 0.5), round(patch.get_y() + 0.5)


def test_cells_show_winner_lead_and_doubt() -> None:
    def value(scheme, snr, rho, item):
        if snr == 0:
            return 20 + item + (2.5 if scheme == ANALOG else 0.1 * item)  # analog ahead, surely
        return 30 + item + (0.5 * (-1) ** item + 0.2 if scheme == FIXED else 0)  # digital ahead, perhaps

    frame = records(value)
    figure = winner_map(frame, "psnr_db", "awgn")
    styles = scheme_styles(frame)
    expected = {
        (0, 0): (styles[ANALOG].color.lower(), "analog\n+2.3", False),
        (1, 0): (styles[FIXED].color.lower(), "digital\n+0.2", True),
    }
    found = cells(figure)
    assert {key: found[key] for key in expected} == expected
    assert {key: found[key[0], 1] for key in expected} == expected  # the other rho is alike
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["1/12", "1/48"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0", "10"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [FIXED, ANALOG, "not significant"]
    assert "lead over the best scheme of another family in dB" in figure.legends[0].get_title().get_text()


def test_leads_of_distances_are_positive() -> None:
    frame = records(lambda scheme, snr, rho, item: 0.2 + 0.01 * item + 0.1 * (scheme == FIXED))
    columns = {"psnr_db": Column("psnr_db", "", False)}
    assert {words for _, words, _ in cells(winner_map(frame, "psnr_db", "awgn", columns)).values()} == {
        "analog\n+0.10"
    }


def test_what_transmitters_know_is_a_facet() -> None:
    ranks = {FIXED: 1, ANALOG: 2, ADAPTED: 4, KNOWING: 3, REFINED: 0}
    frame = records(lambda scheme, snr, rho, item: 20.0 + item + ranks[scheme], tuple(ranks))
    figure = winner_map(frame, "psnr_db", "awgn")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Transmitter not told the SNR", "Transmitter told the average SNR"]
    assert cells(figure)[0, 0][1] == "analog\n+1.0"
    assert cells(figure, 1)[0, 0][1] == "digital\n+1.0"
    alone = winner_map(frame.loc[frame["scheme"].isin([ANALOG, ADAPTED])], "psnr_db", "awgn")
    assert [axes.get_title(loc="left").endswith(": one family only, no lead") for axes in alone.axes] == [
        True,
        True,
    ]
    assert cells(alone)[0, 0][1] == "analog"


def test_ties_losses_and_gaps_are_told() -> None:
    def value(scheme, snr, rho, item):
        if (snr, rho) == (10.0, 1 / 48):
            return None  # not measured
        return 9.0 if (snr, rho) == (0.0, 1 / 48) else 30.0 + item

    frame = records(value, lost=lambda scheme, snr, rho: (snr, rho) == (0.0, 1 / 48))
    found = cells(winner_map(frame, "psnr_db", "awgn"))
    assert found[0, 0][1:] == ("a tie", True)
    assert found[0, 1] == (LOST.lower(), "all lost", False)
    assert found[1, 1] == ("#ffffff", "", False)


def test_one_item_is_hatched() -> None:
    frame = records(lambda scheme, snr, rho, item: 20.0 + (scheme == FIXED), items=1)
    assert {hatched for *_, hatched in cells(winner_map(frame, "psnr_db", "awgn")).values()} == {True}


def test_there_are_maps_of_metrics_with_a_direction_only() -> None:
    frame = records(lambda scheme, snr, rho, item: 20.0 + item).assign(odd=1.0)
    columns = {"psnr_db": Column("psnr_db", "dB", True), "odd": Column("odd")}
    assert list(winner_maps(frame, columns=columns)) == ["winners-psnr_db-awgn"]
    with pytest.raises(InvalidOption, match="known"):
        winner_maps(frame, ["odd"], columns)
    with pytest.raises(InvalidOption, match="neither more nor less"):
        winner_map(frame, "odd", "awgn", columns)
    with pytest.raises(InvalidOption, match="rician"):
        winner_map(frame, "psnr_db", "rician")
    with pytest.raises(UnknownName, match="swd"):
        winner_maps(frame, ["swd"])


@pytest.mark.slow
def test_large_planes_and_one_cell_are_drawn() -> None:
    import pandas as pd

    many = pd.concat(
        records(lambda scheme, snr, rho, item: 20.0 + item + (scheme == FIXED), items=2).assign(
            snr_db=float(snr), rho=1 / (12 + rho)
        )
        for snr in range(25)
        for rho in range(10)
    ).drop_duplicates(["scheme", "snr_db", "rho", "item"])
    figure = winner_map(many, "psnr_db", "awgn")
    assert figure.get_size_inches()[0] <= 12.01
    assert len(cells(figure)) == 250
    one = records(lambda scheme, snr, rho, item: 20.0 + item if snr == 0 and rho == 1 / 12 else None)
    assert len(cells(winner_map(one, "psnr_db", "awgn"))) == 1
    assert len(figure_bytes(winner_map(one, "psnr_db", "awgn"), "png")) > 5000


def test_equal_records_give_equal_maps() -> None:
    frame = records(lambda scheme, snr, rho, item: 20.0 + item + (scheme == FIXED))
    first, second = (
        figure_bytes(winner_map(rows, "psnr_db", "awgn"), "svg") for rows in (frame, frame.iloc[::-1])
    )
    assert first == second
    assert HATCH
