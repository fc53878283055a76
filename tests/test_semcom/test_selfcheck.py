"""What is predicted to be lost is what is lost: the rows of the self-check above the channels."""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest

import semcom.selfcheck
from channels import AWGN, RayleighBlockFading
from channels.selfcheck import Check
from semcom.envelope import Choice, Envelope
from semcom.selfcheck import (
    CELLS,
    SIZES,
    Effort,
    adapted_row,
    envelope_row,
    ideal_row,
    outage_rows,
    selfcheck,
)


def failed(rows: list[Check]) -> list[Check]:
    return [row for row in rows if not row.ok]


@pytest.mark.parametrize(
    ("channel", "snr_db", "rho", "size"),
    [
        (RayleighBlockFading(64), 0.0, "1/48", (128, 160)),  # the frozen choice is lost in 18 to 23 % here
        (RayleighBlockFading(64), 5.0, "1/192", (128, 160)),
        (AWGN(), 0.0, "1/192", (128, 160)),  # and in 10 % here
        (RayleighBlockFading(64), 0.0, "1/48", (224, 336)),
    ],
    ids=str,
)
def test_the_envelope_loses_what_it_predicts(channel, snr_db, rho, size) -> None:
    (row,) = envelope_row(channel, snr_db, rho, size, Effort(600, 1_000_000), 1)
    assert row.ok, row
    assert row.expected < 0.02


def test_a_choice_that_is_not_checked_at_its_budget_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row of the table as it is, with the outage that it states for pictures of 768x512."""

    def unchecked(self: Envelope, channel, snr_db: float, rho: float, uses: int) -> tuple[Choice, ...]:
        row = self._nearest(channel.name, snr_db, rho)
        assert row is not None
        return (row,)

    monkeypatch.setattr(Envelope, "choose", unchecked)
    (row,) = envelope_row(RayleighBlockFading(64), 0.0, "1/48", (128, 160), Effort(600, 1_000_000), 1)
    assert row.z > 4


def test_the_ideal_link_has_the_outage_it_is_planned_for() -> None:
    """In 64 fading blocks of half the budget of a picture of 128x160 at rho 1/12; 0.6 to 2.2 % from 200."""
    (row,) = ideal_row(RayleighBlockFading(40), 5.0, 2560, Effort(4000, 2**24), 1)
    assert row.ok, row
    assert row.standard_error < 0.002
    (row,) = ideal_row(AWGN(), 5.0, 640, Effort(40, 1), 1)
    assert row.measured == row.expected == 0


def test_an_adapted_link_loses_what_is_predicted_at_low_rates() -> None:
    (row,) = adapted_row(AWGN(), 5.0, 640, 1e-2, Effort(1500, 2**20), 1)
    assert row.ok, row
    assert row.expected < 1e-2


def test_short_and_full_check_run_different_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short one takes seconds, so every one of its rows is run; of the full one its length is known."""
    short = list(outage_rows(2))
    assert failed(short) == []
    assert len({row.name for row in short}) == len(short) >= 6
    counted: list[tuple[int, int]] = []

    def counting(*arguments) -> Iterator[Check]:
        effort = arguments[-2]
        counted.append((effort.most, effort.messages(5120)))
        yield replace(short[0], name=str(len(counted)))

    for name in ("envelope_row", "adapted_row", "ideal_row"):
        monkeypatch.setattr(semcom.selfcheck, name, counting)
    assert len(list(outage_rows(0, full=True))) == len(counted) > len(CELLS) == 2 * 3 * 3 * len(SIZES)
    assert min(counted) == (4000, 781)
    monkeypatch.setattr(semcom.selfcheck.channel_rows, "selfcheck", lambda seed: iter(short[:1]))
    assert next(selfcheck()) == short[0]


@pytest.mark.slow
def test_every_row_of_the_full_check_is_within_its_error() -> None:
    """Predicted against real outage at 54 operating points of the envelope, and the others."""
    rows = list(outage_rows(1, full=True))
    assert failed(rows) == []
    assert len(rows) > 55
    expected = [row for row in rows if 0 < row.expected < 1]
    spread = math.sqrt(sum(row.z**2 for row in expected) / len(expected))
    assert spread < 1.5
