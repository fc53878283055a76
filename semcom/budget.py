"""Budget of channel uses, and the bandwidth ratio rho = k / n."""

import math
from dataclasses import dataclass
from fractions import Fraction

from semcom.errors import InvalidOption

MAX_USES = 2**28  # 2 GiB of symbols
MAX_RHO = 10**6  # pictures have less than 1, texts some 20 per word; more is a typing error


@dataclass(frozen=True, slots=True)
class Budget:
    """Number k of complex channel uses, everything included, for n real source values.

    Args:
        channel_uses: k, at least 1.
        source_dims: n, at least 1: height * width * 3 for an image.

    Raises:
        InvalidOption: A count is smaller than 1, or there are more than 2^28 channel uses.

    Example:
        >>> Budget.from_rho("1/12", 3 * 512 * 768)
        Budget(channel_uses=98304, source_dims=1179648)
    """

    channel_uses: int
    source_dims: int

    def __post_init__(self) -> None:
        if self.channel_uses < 1 or self.source_dims < 1:
            raise InvalidOption(
                f"{self.channel_uses} channel uses for {self.source_dims} source values: "
                "both must be at least 1; raise rho"
            )
        if self.channel_uses > MAX_USES:
            raise InvalidOption(
                f"{self.channel_uses:,} channel uses for {self.source_dims:,} source values: at most "
                f"{MAX_USES:,} fit into memory; lower rho"
            )

    @classmethod
    def from_rho(cls, rho: float | int | str | Fraction, source_dims: int) -> "Budget":
        """Budget of floor(rho * n) channel uses.

        Args:
            rho: Bandwidth ratio in (0, 10^6], a number or a text like "1/48".
            source_dims: n, at least 1.

        Returns:
            The budget.

        Raises:
            InvalidOption: `rho` is invalid, or the budget has no channel use.
        """
        return cls(math.floor(parse_rho(rho) * source_dims), source_dims)

    @property
    def rho(self) -> float:
        """Bandwidth ratio k / n, complex channel uses per real source value."""
        return self.channel_uses / self.source_dims


def parse_rho(rho: float | int | str | Fraction) -> Fraction:
    """Parse a bandwidth ratio exactly: "1/48" as it is, a number as the nearest simple fraction.

    A number becomes the nearest fraction with denominator up to 10^6, unless it differs from it by more than
    a millionth part.

    Args:
        rho: Ratio as number, fraction or text.

    Returns:
        The ratio.

    Raises:
        InvalidOption: Not a finite number above 0 and at most 10^6.
    """
    try:
        # by way of float: the exact value of 1e99999999 has as many digits
        given = Fraction(rho) if "/" in str(rho) else Fraction(float(rho))
    except (ValueError, OverflowError, ZeroDivisionError):
        raise InvalidOption(f"rho of {rho!r} is not a number; write it like 1/48 or 0.02") from None
    simple = given.limit_denominator(10**6)
    value = simple if "/" not in str(rho) and abs(simple - given) < given / 10**6 else given
    if not 0 < value <= MAX_RHO:
        raise InvalidOption(f"rho of {rho} is outside (0, {MAX_RHO:,}]; write it like 1/48 or 0.02")
    return value


def shown_rho(rho: float | int | str | Fraction) -> str:
    """Format a bandwidth ratio for readers: "1/48" or "1/1536", but "0.08333" if no simple fraction is meant.

    Args:
        rho: Ratio as number, fraction or text.

    Returns:
        The text.
    """
    exact = parse_rho(rho)
    return str(exact) if exact.numerator == 1 or exact.denominator <= 1000 else f"{float(exact):.6g}"
