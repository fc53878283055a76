"""Channel uses and bandwidth ratios."""

from fractions import Fraction

import pytest

from semcom.budget import Budget, parse_rho, shown_rho
from semcom.errors import InvalidOption


@pytest.mark.parametrize(
    ("rho", "source_dims", "channel_uses"),
    [
        ("1/12", 3 * 512 * 768, 98304),  # Kodak
        (1 / 12, 3 * 512 * 768, 98304),  # the float nearest to 1/12 is smaller; the count must not be 98303
        ("1/192", 3 * 512 * 512, 4096),  # complex symbols, three colours counted: arXiv 2309.15889
        ("1/768", 3 * 512 * 512, 1024),
        (1 / 768, 3 * 512 * 512, 1024),
        (0.02, 3 * 100, 6),
        ("1/7", 10, 1),  # floor
        (1, 5, 5),
    ],
)
def test_channel_uses(rho: float | str, source_dims: int, channel_uses: int) -> None:
    budget = Budget.from_rho(rho, source_dims)
    assert budget.channel_uses == channel_uses
    assert budget.rho == channel_uses / source_dims


@pytest.mark.parametrize("rho", [0, -1, "0", "abc", "", "1/0", float("nan"), float("inf"), 10**6 + 1])
def test_impossible_rho(rho: float | str) -> None:
    with pytest.raises(InvalidOption, match="write it like 1/48"):
        parse_rho(rho)


def test_parse_is_exact() -> None:
    assert parse_rho("1/48") == parse_rho(1 / 48) == Fraction(1, 48)
    assert parse_rho("1/1500000") == parse_rho(Fraction(1, 1_500_000)) == Fraction(1, 1_500_000)
    assert Budget.from_rho("1/1500000", 3_000_000).channel_uses == 2
    assert parse_rho(0.02) == parse_rho("0.02") == Fraction(1, 50)
    assert parse_rho(0.0833333) == Fraction(1, 12)
    assert float(parse_rho(1 / 1_500_000)) == 1 / 1_500_000  # as a record holds it


def test_less_than_one_use() -> None:
    with pytest.raises(InvalidOption, match="raise rho"):
        Budget.from_rho("1/768", 3)


def test_ratios_that_differ_are_told_apart() -> None:
    ratios = (1 / 12, "2/3", 0.3, 10, 1 / 1536, "0.08333", "1/1001")
    shown = ["1/12", "2/3", "3/10", "10", "1/1536", "0.08333", "1/1001"]
    assert [shown_rho(rho) for rho in ratios] == shown


def test_more_uses_than_memory_holds_are_refused() -> None:
    with pytest.raises(InvalidOption, match=r"300,000,000 channel uses .* at most 268,435,456"):
        Budget.from_rho(100, 3_000_000)
