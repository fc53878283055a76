"""The self-check passes on this code, and fails on miscalibrated code."""

import itertools
import math
from dataclasses import replace

import pytest

from channels import selfcheck
from channels.channel import Received, transmit
from channels.selfcheck import LARGEST_Z, Check


def test_first_rows_are_within_their_error() -> None:
    rows = list(itertools.islice(selfcheck.selfcheck(), 20))
    assert [row for row in rows if not row.ok] == []


@pytest.mark.slow
def test_every_row_is_within_its_error() -> None:
    rows = list(selfcheck.selfcheck())
    assert len(rows) > 60
    assert len({row.name for row in rows}) == len(rows)
    assert [row for row in rows if not row.ok] == []
    # Rows are no better than chance allows either: their z-scores spread like normal ones.
    z = [row.z for row in rows if row.standard_error > 0]
    spread = math.sqrt(sum(value * value for value in z) / len(z))
    assert 0.6 < spread < 1.4


def test_half_a_decibel_of_missing_noise_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def quieter(channel, x, snr_db, rng):
        received = transmit(channel, x, snr_db + 0.5, rng)
        honest = transmit(channel, x, snr_db, rng).noise_var
        return Received(received.y, received.h, honest)

    monkeypatch.setattr(selfcheck, "transmit", quieter)
    names = [row.name for row in itertools.islice(selfcheck.selfcheck(), 30) if not row.ok]
    assert any("noise power" in name for name in names)
    assert any("bit error rate" in name for name in names)


def test_deviations_are_counted_in_standard_errors() -> None:
    row = Check("x", 1.3, 1.0, 0.1)
    assert row.z == pytest.approx(3.0)
    assert row.ok
    assert not replace(row, measured=1.0 - 1.01 * LARGEST_Z * 0.1).ok
    assert replace(row, measured=1.0, standard_error=0.0).ok
    assert not replace(row, standard_error=0.0).ok
