"""The time left of a sweep: what a schedule of known costs takes, told before it is over."""

from itertools import product

import pytest

from semcom.forecast import Forecast

COST = {"fast": 1e-6, "slow": 1e-3, "middle": 3e-5}  # seconds per source value
SIZES = (1000.0, 8000.0, 2000.0, 4000.0)


def test_the_time_left_is_exact_once_every_scheme_is_measured() -> None:
    work = [((scheme, "awgn", 0.1), size) for size in SIZES for scheme in COST]
    forecast, now = Forecast(work, 1), 100.0
    assert forecast.seconds_left(now) is None
    for number, (kind, units) in enumerate(work):
        seconds = COST[kind[0]] * units
        now += seconds
        forecast.finished(kind, units, seconds, now)
        left = sum(COST[kind[0]] * units for kind, units in work[number + 1 :])
        if number + 1 >= len(COST):
            assert forecast.seconds_left(now) == pytest.approx(left, rel=1e-9, abs=1e-12)


def test_another_channel_costs_as_the_scheme_does() -> None:
    work = [((scheme, channel, 0.1), 1000.0) for scheme, channel in product(COST, ("awgn", "rayleigh"))]
    forecast, now = Forecast(work, 1), 0.0
    for scheme, cost in COST.items():
        now += 1000 * cost
        forecast.finished((scheme, "awgn", 0.1), 1000.0, 1000 * cost, now)
    assert forecast.seconds_left(now) == pytest.approx(1000 * sum(COST.values()))


def test_workers_share_the_time_left_and_a_slow_start_is_not_carried_on() -> None:
    work = [(("slow", "awgn", 0.1), 1000.0)] * 9
    forecast = Forecast(work, 2)
    for now in (31.0, 31.0, 32.0, 32.0):  # after half a minute of imports, two at a time of a second each
        forecast.finished(*work[0], 1.0, now)
    assert forecast.seconds_left(32.0) == pytest.approx(5 / 2)
